//! The three floors of this crate stay apart: `base` knows neither of the others, `engine` knows
//! `base`, `look` knows both.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The modules of the crate that a file of a floor may name.
const MAY_NAME: [(&str, &[&str]); 3] =
    [("base", &["base"]), ("engine", &["base", "engine"]), ("look", &["base", "engine", "look"])];
/// The exceptions, which name a higher floor: the file, and the name.
const UP: [(&str, &str); 3] = [
    // For a thread that waits where there is no runtime, and so no monitor.
    ("engine/parker.rs", "above"),
    // The default runtime is built like any other.
    ("engine/current.rs", "above"),
    // `Runtime::try_run`.
    ("look/try_run.rs", "runtime"),
];

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            found.push(path);
        }
    }
}

/// The crate's modules and items that a source names by `crate::…`, outside comments and unit
/// tests.
fn named(source: &str) -> Vec<String> {
    let code = source.split("#[cfg(all(test").next().unwrap();
    let lines = code.lines().map(|line| line.split("//").next().unwrap());
    let mut names = Vec::new();
    for line in lines {
        for (at, _) in line.match_indices("crate::") {
            let rest = &line[at + "crate::".len()..];
            let group = rest.strip_prefix('{').and_then(|rest| rest.split('}').next());
            let name = |text: &str| text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            match group {
                Some(group) => names.extend(group.split(',').map(name)),
                None => names.push(name(rest)),
            }
        }
    }
    names
}

/// The names of higher floors in these sources, by file.
fn arrows_up(sources: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let mut up = Vec::new();
    for (file, source) in sources {
        let floor = file.split(['/', '.']).next().unwrap();
        let Some((_, may_name)) = MAY_NAME.iter().find(|(name, _)| *name == floor) else { continue };
        let mut names = named(source);
        names.sort();
        names.dedup();
        up.extend(names.into_iter().filter(|name| !may_name.contains(&name.as_str())).map(|name| (file.clone(), name)));
    }
    up
}

#[test]
fn no_floor_knows_the_one_above() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    files(&src, &mut paths);
    let sources: BTreeMap<String, String> = paths
        .iter()
        .map(|path| (path.strip_prefix(&src).unwrap().to_str().unwrap().to_owned(), fs::read_to_string(path).unwrap()))
        .collect();
    for (floor, least) in [("base/", 15), ("engine/", 30), ("look/", 8)] {
        assert!(sources.keys().filter(|file| file.starts_with(floor)).count() >= least, "files of {floor}");
    }
    let mut expected = UP.map(|(file, name)| (file.to_owned(), name.to_owned()));
    expected.sort();
    assert_eq!(arrows_up(&sources), expected, "move what both need down, or tell by `engine::watch`");
}

#[test]
fn an_arrow_up_is_seen() {
    let source = |text: &str| BTreeMap::from([("base/lock.rs".to_owned(), text.to_owned())]);
    let seen = |text| arrows_up(&source(text)).into_iter().map(|(_, name)| name).collect::<Vec<_>>();
    assert_eq!(seen("use crate::base::tsan;\n// See crate::engine.\n"), [""; 0]);
    assert_eq!(seen("use crate::engine::worker;\n"), ["engine"]);
    assert_eq!(seen("use crate::{base, look};\n"), ["look"]);
    assert_eq!(seen("fn f() { crate::go(|| ()); }\n"), ["go"]);
    assert_eq!(seen("#[cfg(all(test, not(loom)))]\nmod tests { use crate::go; }\n"), [""; 0]);
}
