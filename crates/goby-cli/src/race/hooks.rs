//! The C object that is linked into every program, made of `hooks.c` and the default options and
//! suppressions.
//!
//! So a program that was built by `goby race build` needs no environment variables.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

use super::project::Project;
use super::toolchain::Std;
use crate::exit::Usage;
use crate::text;

/// The calls that `hooks.c` wraps.
const WRAPPED: [&str; 4] =
    ["atomic64_fetch_sub", "atomic64_load", "atomic64_compare_exchange_val", "atomic_thread_fence"];

/// TSan's options unless `TSAN_OPTIONS` says otherwise. It keeps the longest history: otherwise the
/// first access's stack is often lost. Workers and helpers outlive `main`, which is not a leak.
/// Nothing is gained by waiting at the end, or by dying when a program with threads forks.
const OPTIONS: &str = "exitcode=66 history_size=7 report_thread_leaks=0 atexit_sleep_ms=0 die_after_fork=0";

const SUPPRESSIONS: &str = include_str!("suppressions.txt");
/// Used only if std is not instrumented.
const SUPPRESSIONS_STD: &str = include_str!("suppressions-std.txt");

/// The compiled object.
#[derive(Debug)]
pub(crate) struct Hooks {
    object: PathBuf,
}

impl Hooks {
    /// Compiles the object, unless an earlier run has compiled it.
    ///
    /// # Errors
    /// If there is no C compiler, or it fails.
    pub(crate) fn compile(project: &Project, std: Std) -> Result<Hooks, Usage> {
        let source = source(std);
        // The name is a hash of the content: two versions of goby may work in one directory, and
        // cargo builds again for a new name.
        let mut name = String::from("hooks-");
        for byte in &Sha256::digest(&source)[..8] {
            let _ = write!(name, "{byte:02x}");
        }
        let object = project.race_dir().join(name + ".o");
        if !object.exists() {
            // Rename it when it is whole: two runs may compile it at the same time.
            let part = object.with_extension(format!("{}.part", std::process::id()));
            compile(&source, &part)?;
            std::fs::rename(&part, &object).map_err(|error| cannot_write(&object, &error))?;
        }
        Ok(Hooks { object })
    }

    /// The arguments for rustc that link it in.
    pub(crate) fn link_args(&self) -> [OsString; 2] {
        let mut object = OsString::from("-Clink-arg=");
        object.push(&self.object);
        let wrap = WRAPPED.iter().fold(String::from("-Clink-arg=-Wl"), |wrap, name| wrap + ",--wrap=__tsan_" + name);
        [object, wrap.into()]
    }
}

fn source(std: Std) -> String {
    let suppressions = match std {
        Std::Prebuilt => format!("{SUPPRESSIONS}\n{SUPPRESSIONS_STD}"),
        Std::Instrumented => SUPPRESSIONS.to_string(),
    };
    // Rust's escapes of printable ASCII are C's.
    format!(
        "{}\nconst char *__tsan_default_options(void) {{ return {OPTIONS:?}; }}\n\
         const char *__tsan_default_suppressions(void) {{ return {suppressions:?}; }}\n",
        include_str!("hooks.c")
    )
}

fn compile(source: &str, object: &Path) -> Result<(), Usage> {
    let mut cc = Command::new("cc")
        .args(["-O1", "-fPIC", "-c", "-x", "c", "-", "-o"])
        .arg(object)
        .stdin(Stdio::piped())
        .spawn()
        .map_err(|error| {
            Usage::new(format!("cannot run cc: {}; install a C compiler, such as gcc", text::reason(&error)))
        })?;
    let written = cc.stdin.take().expect("it is piped").write_all(source.as_bytes());
    match cc.wait() {
        Ok(status) if status.success() && written.is_ok() => Ok(()),
        _ => Err(Usage::new("the C compiler (cc) cannot compile what goby race links into programs")),
    }
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Usage {
    Usage::new(format!("cannot write {}: {}", path.display(), text::reason(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suppressions_say_race_and_each_has_its_reason() {
        let mut said_why = false;
        for line in SUPPRESSIONS.lines().chain(SUPPRESSIONS_STD.lines()) {
            match line.strip_prefix("race:") {
                Some(name) => {
                    assert!(said_why, "no reason above {line}");
                    assert!(name.len() > 8, "{line} would hide too much");
                }
                None => assert!(line.is_empty() || line.starts_with('#'), "{line}"),
            }
            // One reason may stand for several lines.
            said_why = !line.is_empty();
        }
        assert!(SUPPRESSIONS.is_ascii() && SUPPRESSIONS_STD.is_ascii());
    }
}
