//! `goby race`: what it refuses, without a toolchain; and its work on a project, with a toolchain.
//!
//! The second part needs a nightly toolchain. Without one it is skipped with a message, except if
//! `CI` is set.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use goby_test_support::has_if;

use crate::support::{Ended, Running, Scratch, check, check_golden, goby};

/// The time for a first build of all that goby depends on, on a busy machine.
const BUILD: Duration = Duration::from_secs(600);

fn race(args: &[&str]) -> Ended {
    Running::start(goby().arg("race").args(args)).end()
}

#[test]
fn help_is_short_and_long() {
    for (arg, name) in [("-h", "race-help-short.txt"), ("--help", "race-help-long.txt")] {
        let ended = race(&[arg]);
        check(ended.code, Some(0));
        check(ended.stderr, String::new());
        check_golden(name, &ended.stdout);
    }
}

/// A directory with these programs in it, for `PATH`.
fn programs(scratch: &Scratch, programs: &[(&str, &str)]) -> String {
    let dir = scratch.path("bin");
    std::fs::create_dir_all(&dir).unwrap();
    for (name, script) in programs {
        let path = scratch.write(&format!("bin/{name}"), format!("#!/bin/sh\n{script}\n"));
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    dir
}

/// `rustc +name …` as a toolchain answers it: a nightly one, with its own directory as its root.
const NIGHTLY: &str = r#"case $2 in
-vV) printf 'rustc 1.97.0-nightly\nhost: a-b-c\nrelease: 1.97.0-nightly\n' ;;
--print) echo "${0%/bin/rustc}" ;;
esac"#;

#[test]
fn what_is_missing_is_told_with_what_to_install() {
    let mut told = String::new();
    for (what, args, has) in [
        ("no rustup", "test", &[][..]),
        ("no nightly toolchain", "test", &[("rustc", "exit 1")]),
        ("a stable toolchain", "--toolchain stable run", &[("rustc", "echo release: 1.95.0")]),
        ("no symbolizer", "test", &[("rustc", NIGHTLY)]),
        ("no cargo", "test", &[("rustc", NIGHTLY), ("addr2line", "")]),
        (
            "no project",
            "build",
            &[
                ("rustc", NIGHTLY),
                ("addr2line", ""),
                ("cargo", "echo 'error: could not find `Cargo.toml`' >&2; exit 101"),
            ],
        ),
        (
            "no C compiler",
            "test",
            &[("rustc", NIGHTLY), ("addr2line", ""), ("cargo", "echo '{\"target_directory\":\"target\"}'")],
        ),
        ("a command that is none", "bench", &[]),
        ("no command", "", &[]),
    ] {
        let scratch = Scratch::new();
        let path = programs(&scratch, has);
        let args = args.split_whitespace();
        let ended =
            Running::start(goby().arg("race").args(args.clone()).env("PATH", path).current_dir(scratch.path(""))).end();
        check(ended.code, Some(2));
        check(ended.stdout, String::new());
        let line = args.collect::<Vec<_>>().join(" ");
        told.push_str(&format!("$ goby race {line}    # {what}\n{}\n", ended.stderr));
    }
    check_golden("race-mistakes.txt", &told);
}

/// Returns what cargo was given, by means of a cargo and a C compiler that only print it.
fn told_to_cargo(has_source: bool, args: &[&str]) -> (String, Ended) {
    let scratch = Scratch::new();
    let cargo = r#"case $2 in
metadata) echo '{"target_directory":"target"}' ;;
*)
    for arg in "$@"; do echo "$arg"; done
    env | grep -E '^(CARGO_ENCODED_RUST|RUST_BACKTRACE|RUST_TEST_|TSAN_OPTIONS)' | tr '\037' ' ' | LC_ALL=C sort
    exit 7
    ;;
esac"#;
    let cc = "while [ $# -gt 1 ]; do shift; done; while read -r line; do :; done; : >\"$1\"";
    let path = programs(&scratch, &[("rustc", NIGHTLY), ("addr2line", ""), ("cargo", cargo), ("cc", cc)]);
    if has_source {
        let source = scratch.path("lib/rustlib/src/rust/library/std");
        std::fs::create_dir_all(&source).unwrap();
        std::fs::write(format!("{source}/Cargo.toml"), "").unwrap();
    }
    let mut command = goby();
    command.arg("race").args(args).current_dir(scratch.path("")).env("PATH", format!("{path}:/usr/bin:/bin"));
    for name in ["CARGO_ENCODED_RUSTFLAGS", "CARGO_ENCODED_RUSTDOCFLAGS", "RUST_TEST_THREADS", "RUST_TEST_NOCAPTURE"] {
        command.env_remove(name);
    }
    command.env("RUSTFLAGS", "--cfg mine").env_remove("RUSTDOCFLAGS").env("TSAN_OPTIONS", "verbosity=0");
    let mut ended = Running::start(&mut command).end();
    let told = mask(&std::mem::take(&mut ended.stdout), &scratch);
    ended.stderr = mask(&ended.stderr, &scratch);
    (told, ended)
}

/// `text` without the parts that differ from run to run: directories, process ids and hashes.
fn mask(text: &str, scratch: &Scratch) -> String {
    let mut text = text.replace(scratch.path("").trim_end_matches('/'), "DIR");
    for (before, mask) in [("reports-", "PID"), ("hooks-", "HASH")] {
        let mut rest = std::mem::take(&mut text);
        while let Some(start) = rest.find(before) {
            let tail = rest.split_off(start + before.len());
            text += &rest;
            text += mask;
            rest = tail.trim_start_matches(|c: char| c.is_ascii_hexdigit()).to_string();
        }
        text += &rest;
    }
    text
}

#[test]
fn what_cargo_is_told_depends_on_whether_std_can_be_built() {
    for (has_source, name) in [(false, "race-cargo-prebuilt.txt"), (true, "race-cargo-build-std.txt")] {
        let (told, ended) = told_to_cargo(has_source, &["test", "-p", "x", "--", "filter"]);
        check(ended.code, Some(7));
        check_golden(name, &format!("{told}\n{}", ended.stderr));
    }
}

#[test]
fn a_target_and_a_directory_of_the_users_own_are_left_to_him() {
    let (told, _) = told_to_cargo(true, &["run", "--target", "mine", "--target-dir=there"]);
    let lines: Vec<&str> = told.lines().collect();
    check(
        lines.iter().filter(|line| line.starts_with("--target")).copied().collect(),
        vec!["--target", "--target-dir=there"],
    );
}

/// Whether there is a nightly toolchain. Where there must be one, the answer is always yes.
fn has_nightly() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| {
        let has = Command::new("rustc").args(["+nightly", "-vV"]).output().is_ok_and(|output| output.status.success());
        has_if(has, "a nightly toolchain", "rustup toolchain install nightly")
    })
}

const PROJECT: &str = r#"//! A number that is shared without a lock.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, Ordering};

pub struct Shared(UnsafeCell<u64>);

// SAFETY: none; that is the mistake to be found.
unsafe impl Sync for Shared {}

impl Shared {
    pub const fn new() -> Shared {
        Shared(UnsafeCell::new(0))
    }

    pub fn add(&self) {
        // SAFETY: none, see above.
        unsafe { *self.0.get() += 1 }
    }
}

/// Both add one. The second goes second, but nothing orders it for memory.
pub fn add_in_a_race(n: &Shared) {
    let first_has_added = AtomicBool::new(false);
    goby::scope(|s| {
        s.go(|| {
            n.add();
            first_has_added.store(true, Ordering::Relaxed);
        });
        s.go(|| {
            while !first_has_added.load(Ordering::Relaxed) {
                goby::yield_now();
            }
            n.add();
        });
    });
}

/// Both add one, the second when the first has said that it is done.
pub fn add_in_turn(n: &Shared) {
    let (done, is_done) = goby::chan::bounded(0);
    goby::scope(|s| {
        s.go(|| {
            n.add();
            done.send(()).unwrap();
        });
        s.go(|| {
            is_done.recv().unwrap();
            n.add();
        });
    });
}

/// ```
/// let n = outside::Shared::new();
/// goby::run(|| outside::add_in_turn(&outside::Shared::new()));
/// n.add();
/// ```
pub fn documented() {}

#[test]
fn racy() {
    goby::run(|| add_in_a_race(&Shared::new()));
}

#[test]
fn clean() {
    goby::run(|| add_in_turn(&Shared::new()));
}
"#;

const PROGRAM: &str = r#"
fn main() {
    let arg = std::env::args().nth(1).expect("an argument");
    goby::run(|| if arg == "racy" { outside::add_in_a_race(&outside::Shared::new()) });
    std::process::exit(arg.parse().unwrap_or(0));
}
"#;

/// A project outside of any workspace, which depends on goby as a user's project does.
fn project() -> Scratch {
    let scratch = Scratch::new();
    let goby = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("goby");
    let manifest = format!(
        "[package]\nname = \"outside\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
         [dependencies]\ngoby = {{ path = {goby:?} }}\n\n[workspace]\n"
    );
    scratch.write("Cargo.toml", manifest);
    // The versions that are on this machine already, so that cargo fetches nothing.
    scratch.write("Cargo.lock", std::fs::read(goby.with_file_name("../Cargo.lock")).unwrap());
    std::fs::create_dir(scratch.path("src")).unwrap();
    scratch.write("src/lib.rs", PROJECT);
    scratch.write("src/main.rs", PROGRAM);
    scratch
}

#[test]
fn exactly_the_racy_test_of_a_project_outside_is_reported() {
    if !has_nightly() {
        return;
    }
    let scratch = project();
    let race = |args: &[&str]| {
        let mut command = goby();
        command.arg("race").args(args).current_dir(scratch.path(""));
        // Without the settings of the `cargo test` that runs this test.
        for name in ["CARGO_TARGET_DIR", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTUP_TOOLCHAIN", "GOBY_TSAN"] {
            command.env_remove(name);
        }
        Running::start(&mut command).end_within(BUILD)
    };
    let reported = |ended: &Ended| ended.stderr.matches("WARNING: ThreadSanitizer: data race").count();

    // All tests, and the doc test. Without `--no-fail-fast`, cargo would not run that after the
    // failure.
    let ended = race(&["test", "--offline", "--no-fail-fast"]);
    check(ended.code, Some(66));
    check(reported(&ended), 1);
    assert!(ended.stderr.ends_with("goby: found 1 data race\n"), "{}", ended.stderr);
    assert!(ended.stderr.contains("outside::add_in_a_race"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("outside::add_in_turn"), "{}", ended.stderr);
    assert!(ended.stdout.contains("documented (line "), "{}", ended.stdout);

    for (test, code, races) in [("racy", 66, 1), ("clean", 0, 0)] {
        let ended = race(&["test", "--offline", "--lib", "--", test, "--exact"]);
        check(ended.code, Some(code));
        check(reported(&ended), races);
    }

    // The program: its own exit status, unless there is a race.
    for (arg, code, races) in [("0", 0, 0), ("3", 3, 0), ("racy", 66, 1)] {
        let ended = race(&["run", "--offline", "--", arg]);
        check(ended.code, Some(code));
        check(reported(&ended), races);
    }

    // The built program needs no help: the suppressions and the exit status are in it.
    check(race(&["build", "--offline"]).code, Some(0));
    let host = std::fs::read_dir(scratch.path("target/race")).unwrap().flatten();
    let program = host.map(|entry| entry.path().join("debug/outside")).find(|path| path.is_file()).unwrap();
    let ended = Running::start(Command::new(program).arg("racy")).end();
    check(ended.code, Some(66));
    check(reported(&ended), 1);
}

#[test]
fn what_does_not_compile_is_no_race() {
    if !has_nightly() {
        return;
    }
    let scratch = Scratch::new();
    scratch
        .write("Cargo.toml", "[package]\nname = \"outside\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n");
    std::fs::create_dir(scratch.path("src")).unwrap();
    scratch.write("src/main.rs", "fn main() { nothing() }");
    let ended = Running::start(goby().args(["race", "run"]).current_dir(scratch.path(""))).end();
    check(ended.code, Some(101));
    assert!(ended.stderr.contains("cannot find function `nothing`"), "{}", ended.stderr);
    assert!(ended.stderr.ends_with("goby: found 0 data races, but it failed\n"), "{}", ended.stderr);
}
