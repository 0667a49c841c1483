//! The nightly toolchain: whether it is there, for which machine, and whether it can build std.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::exit::Usage;
use crate::text;

/// How the standard library comes into the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Std {
    /// Built with the program, under ThreadSanitizer.
    Instrumented,
    /// As it comes with the toolchain, built without ThreadSanitizer.
    Prebuilt,
}

/// A toolchain that takes `-Z` options.
#[derive(Debug)]
pub(crate) struct Toolchain {
    /// rustup's name for it.
    name: String,
    host: String,
    std: Std,
}

impl Toolchain {
    /// Asks rustup's `rustc` for the toolchain.
    ///
    /// # Errors
    /// If it is not there, or is not a nightly one, or if a tool that it needs is not there.
    pub(crate) fn find(name: &str) -> Result<Toolchain, Usage> {
        let plus = format!("+{name}");
        let install = format!("rustup toolchain install {name} --component rust-src");
        let ask = |args: &[&str]| -> Result<String, Usage> {
            match Command::new("rustc").arg(&plus).args(args).stdin(Stdio::null()).output() {
                Ok(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
                // rustc's message is then rustup's own, or says that this rustc is not rustup's and
                // takes no +name.
                Ok(_) => Err(Usage::new(format!(
                    "the toolchain {name} is not here; install it with: {install} (rustup itself: https://rustup.rs)"
                ))),
                Err(error) => Err(Usage::new(format!(
                    "cannot run rustc: {}; install rustup (https://rustup.rs), then: {install}",
                    text::reason(&error)
                ))),
            }
        };
        let version = ask(&["-vV"])?;
        let field = |key: &str| version.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().trim();
        let (host, release) = (field("host:").to_string(), field("release:"));
        if !(release.contains("nightly") || release.contains("dev")) {
            return Err(Usage::new(format!(
                "ThreadSanitizer needs a nightly toolchain, and {name} is {release}; \
                 install one with: rustup toolchain install nightly --component rust-src"
            )));
        }
        let sysroot = ask(&["--print", "sysroot"])?;
        let source = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/std/Cargo.toml");
        let std = if source.exists() { Std::Instrumented } else { Std::Prebuilt };
        require_symbolizer()?;
        Ok(Toolchain { name: name.to_string(), host, std })
    }

    /// rustup's name for it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The machine that it builds for.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// How std comes into the program.
    pub(crate) fn std(&self) -> Std {
        self.std
    }

    /// Its cargo.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new("cargo");
        command.arg(format!("+{}", self.name));
        command
    }
}

/// Checks that there is a symbolizer. Suppressions need names: without them, std's insides would be
/// reported. addr2line reads all of a program's debug information for the first name.
fn require_symbolizer() -> Result<(), Usage> {
    let is_there = |name: &str| Command::new(name).arg("--version").output().is_ok();
    if is_there("llvm-symbolizer") || is_there("addr2line") {
        return Ok(());
    }
    Err(Usage::new(
        "neither llvm-symbolizer nor addr2line is here, which reports get their names from; \
         install llvm, or binutils, which is slow with large programs",
    ))
}
