//! Checks that the table of the page and the tests agree.

use std::collections::BTreeSet;
use std::env;
use std::process::Command;

const PAGE: &str = include_str!("../../../crates/goby/src/docs/guide/other_crates.md");

/// What the table says of a row, and the module of its test.
const VERDICTS: [(&str, &str); 4] = [
    ("as it is", "as_it_is"),
    ("by `blocking`", "through_blocking"),
    ("by `goby_tokio`", "through_tokio"),
    ("**no**", "does_not"),
];

/// The tests that the table names: the last cell of each row, in the module of its verdict, which
/// is the previous cell.
fn named() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for row in PAGE.lines().filter(|line| line.starts_with("| ")) {
        // A bar within a cell, as of a closure, is written with a backslash.
        let row = row.replace("\\|", "/");
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [.., verdict, _, test] = cells[..] else { panic!("a row with other columns: {row}") };
        if test == "test" {
            continue;
        }
        let module = VERDICTS.iter().find(|(text, _)| *text == verdict);
        let (_, module) = module.unwrap_or_else(|| panic!("no verdict: {row}"));
        assert!(names.insert(format!("{module}::{}", test.trim_matches('`'))), "twice: {row}");
    }
    names
}

/// The tests that exist, without this module's. Modules within that of a verdict are left out.
fn existing() -> BTreeSet<String> {
    let listed = Command::new(env::current_exe().unwrap()).arg("--list").output().unwrap();
    let text = String::from_utf8(listed.stdout).unwrap();
    let names = text.lines().filter_map(|line| line.strip_suffix(": test"));
    let of_rows = names.filter(|name| !name.starts_with("page::"));
    of_rows
        .map(|name| match (name.split_once("::"), name.rsplit_once("::")) {
            (Some((module, _)), Some((_, test))) => format!("{module}::{test}"),
            _ => name.to_owned(),
        })
        .collect()
}

#[test]
fn each_row_is_a_test_and_each_test_a_row() {
    let (named, existing) = (named(), existing());
    let without_test: Vec<_> = named.difference(&existing).collect();
    let without_row: Vec<_> = existing.difference(&named).collect();
    assert!(
        without_test.is_empty() && without_row.is_empty(),
        "rows without a test: {without_test:?}; tests without a row: {without_row:?}"
    );
    assert!(!named.is_empty());
}
