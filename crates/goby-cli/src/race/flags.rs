//! What cargo and the programs are told, besides what was typed.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::Command;

use super::args::CargoLine;
use super::hooks::Hooks;
use super::project::Project;
use super::reports::Reports;
use super::toolchain::{Std, Toolchain};

/// Keeps a crate's code uninstrumented. Instrumented code enters and leaves functions in pairs; a
/// switch of stacks does not. TSan's shadow call stack would drift with every switch.
const UNINSTRUMENTED: &str = "-Cllvm-args=-tsan-instrument-func-entry-exit=0 -tsan-instrument-memory-accesses=0 \
                              -tsan-instrument-atomics=0 -tsan-instrument-memintrinsics=0";

/// Adds cargo's options. An option that the user typed is not replaced.
pub(crate) fn add_options(cargo: &mut Command, toolchain: &Toolchain, project: &Project, line: &CargoLine) {
    cargo.arg("-Zprofile-rustflags");
    for profile in ["dev", "release"] {
        for setting in [
            &format!("package.goby-switch.rustflags=[{UNINSTRUMENTED:?}]"),
            // Link-time optimization instruments late, when nothing tells any more which code was
            // goby-switch's.
            "lto=\"off\"",
            // Suppressions need the names of inlined functions, with their modules.
            "debug=\"full\"",
            "strip=\"none\"",
        ] {
            cargo.arg("--config").arg(format!("profile.{profile}.{setting}"));
        }
    }
    if toolchain.std() == Std::Instrumented {
        cargo.arg("-Zbuild-std");
    }
    // Without a target, build scripts and proc macros would be instrumented too, and would not
    // load.
    if line.option("--target").is_none() {
        cargo.arg("--target").arg(toolchain.host());
    }
    if line.option("--target-dir").is_none() {
        cargo.arg("--target-dir").arg(project.race_dir());
    }
}

/// Sets the environment of cargo, and so of the tests or the program.
pub(crate) fn set_environment(cargo: &mut Command, toolchain: &Toolchain, hooks: &Hooks, reports: &Reports) {
    let mut flags = vec![OsString::from("-Zsanitizer=thread")];
    if toolchain.std() == Std::Prebuilt {
        flags.push("-Cunsafe-allow-abi-mismatch=sanitizer".into());
        // std's code for backtraces is not instrumented either.
        cargo.env("RUST_BACKTRACE", "0");
    }
    flags.extend(hooks.link_args());
    // rustdoc compiles doc tests, and links them with what these flags made.
    for (name, encoded) in [("RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"), ("RUSTDOCFLAGS", "CARGO_ENCODED_RUSTDOCFLAGS")] {
        let mut all = given_flags(env::var_os(encoded), env::var_os(name));
        all.extend(flags.iter().cloned());
        cargo.env(encoded, all.join(OsStr::new(SEPARATOR)));
    }
    // libtest's own threads meet in std's locks; the output that it captures goes through one, too.
    for (name, value) in [("RUST_TEST_THREADS", "1"), ("RUST_TEST_NOCAPTURE", "1")] {
        if env::var_os(name).is_none() {
            cargo.env(name, value);
        }
    }
    cargo.env("TSAN_OPTIONS", reports.options(env::var_os("TSAN_OPTIONS")));
}

/// Stands between the flags in `CARGO_ENCODED_RUSTFLAGS`.
const SEPARATOR: &str = "\x1f";

/// The user's own flags. The encoded form has priority, as in cargo.
fn given_flags(encoded: Option<OsString>, plain: Option<OsString>) -> Vec<OsString> {
    let (given, is_separator): (_, fn(&u8) -> bool) = match (encoded, plain) {
        (Some(encoded), _) => (encoded, |byte| SEPARATOR.as_bytes().contains(byte)),
        (None, plain) => (plain.unwrap_or_default(), u8::is_ascii_whitespace),
    };
    let flags = given.as_bytes().split(is_separator).filter(|flag| !flag.is_empty());
    flags.map(|flag| OsString::from_vec(flag.to_vec())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_flags_are_split_as_cargo_splits_them() {
        let given = |encoded: Option<&str>, plain: Option<&str>| {
            given_flags(encoded.map(OsString::from), plain.map(OsString::from))
        };
        assert_eq!(given(None, None), Vec::<OsString>::new());
        assert_eq!(given(None, Some(" -Ca=b  --cfg x ")), ["-Ca=b", "--cfg", "x"]);
        assert_eq!(given(Some("--cfg\x1fa b"), Some("-Cx")), ["--cfg", "a b"]);
        assert_eq!(given(Some(""), Some("-Cx")), Vec::<OsString>::new());
    }
}
