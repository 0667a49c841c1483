//! The command line of `goby race`: its own options, then a cargo command with anything that cargo
//! takes.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use clap::Parser;

use crate::exit::Usage;

/// Run a cargo project's tests or program under ThreadSanitizer, which reports data races.
///
/// As go test -race: goroutines, channels and locks of goby are understood, so two goroutines that
/// touch the same memory without an order between them are reported, also when they share a worker.
/// Safe code has no data races; this is for unsafe code, one's own or a dependency's. Linux only.
#[derive(Debug, Parser)]
#[command(override_usage = "goby race [OPTIONS] <test|run|build> [CARGO OPTIONS] [-- ARGS]",
          after_help = SHORT_NOTES, after_long_help = LONG_NOTES)]
pub(crate) struct RaceArgs {
    /// Build with this toolchain of rustup's, a nightly one.
    #[arg(long, value_name = "NAME", default_value = "nightly")]
    pub(crate) toolchain: String,

    /// test, run or build, and what cargo is to be given after it.
    ///
    /// All of cargo's own options can be used: -p, --release, --features and so on. What stands
    /// behind -- goes to the program or to the tests.
    #[arg(value_name = "CARGO COMMAND", required = true, num_args = 1.., trailing_var_arg = true,
          allow_hyphen_values = true)]
    pub(crate) cargo: Vec<OsString>,
}

/// One of cargo's commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Test,
    Run,
    Build,
}

impl Verb {
    /// Gives cargo's name for it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Verb::Test => "test",
            Verb::Run => "run",
            Verb::Build => "build",
        }
    }
}

/// The cargo command that was typed.
#[derive(Debug)]
pub(crate) struct CargoLine {
    verb: Verb,
    args: Vec<OsString>,
}

impl CargoLine {
    /// Reads the command. What follows it is left to cargo.
    ///
    /// # Errors
    /// If the command makes no sense under ThreadSanitizer.
    pub(crate) fn new(typed: Vec<OsString>) -> Result<CargoLine, Usage> {
        let mut args = typed.into_iter();
        let first = args.next().unwrap_or_default();
        let verb = match first.as_bytes() {
            b"test" => Verb::Test,
            b"run" => Verb::Run,
            b"build" => Verb::Build,
            _ => {
                let first = first.display();
                return Err(Usage::new(format!("no such command: {first}; use test, run or build (see goby race -h)")));
            }
        };
        Ok(CargoLine { verb, args: args.collect() })
    }

    pub(crate) fn verb(&self) -> Verb {
        self.verb
    }

    pub(crate) fn args(&self) -> &[OsString] {
        &self.args
    }

    /// The value of one of cargo's options, given as `--name value` or `--name=value`.
    pub(crate) fn option(&self, name: &str) -> Option<&OsStr> {
        let mut args = self.args.iter().take_while(|arg| *arg != "--");
        while let Some(arg) = args.next() {
            if arg == name {
                return args.next().map(OsString::as_os_str);
            }
            let value = arg.as_bytes().strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"="));
            if let Some(value) = value {
                return Some(OsStr::from_bytes(value));
            }
        }
        None
    }
}

const SHORT_NOTES: &str = "\
Exit status: 66 a race was reported, 2 usage or no nightly toolchain, else cargo's own.
What is needed, what is seen and what is not, and examples are explained by --help.";

const LONG_NOTES: &str = "\
What it needs:
  A nightly toolchain, with the source of std if it can be had:
      rustup toolchain install nightly --component rust-src
  a C compiler (cc), and llvm-symbolizer for the names in reports, or addr2line, which is slow.

  With the source, std is built under ThreadSanitizer too. Without it, what std's own primitives
  order is not seen, and may be reported as a race: Once, OnceLock and LazyLock always; Mutex,
  RwLock, Condvar, Barrier and thread::scope when a thread has waited in them. Those of goby,
  parking_lot and once_cell are followed.

What it does:
  Builds into target/race, apart from plain builds, for this machine only. Tests run one at a time
  and uncaptured (RUST_TEST_THREADS, RUST_TEST_NOCAPTURE), so a report stands below its test's name.
  Reports are gathered from every process that the command starts, and go to standard error.
  A program of goby race build needs nothing around it: it reports by itself and exits with 66.

What it does not see:
  Only what runs is seen: a race on a path that no test takes is not found. Futures count as part of
  the worker that polls them: two that race on one worker are not reported. Memory touched by C code
  is not seen.

Environment:
  RUSTFLAGS and RUSTDOCFLAGS are kept, and ours added; rustflags that stand in cargo's configuration
  are not used. TSAN_OPTIONS is kept too: suppressions=FILE hides what cannot be mended.

  Thread-locals are shared by the goroutines of a worker, in turn, which looks like a race. With
  GOBY_TSAN=threads goroutines of one worker count as ordered: only races between workers are
  reported then.

Exit status:
  66   at least one race was reported
  2    usage: no such command, no toolchain, no project; nothing was built
  else cargo's, which is the program's own for run

Examples:
  All tests of the project; those of one package whose names have queue in them:
      goby race test
      goby race test -p store -- queue

  The program, optimized, with arguments of its own:
      goby race run --release -- --port 8080";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn line(text: &str) -> Result<CargoLine, String> {
        let args = ["race"].into_iter().chain(text.split(' '));
        let args = RaceArgs::try_parse_from(args).map_err(|error| error.to_string())?;
        CargoLine::new(args.cargo).map_err(|error| error.to_string())
    }

    #[test]
    fn cargo_gets_everything_behind_the_command_as_it_was_typed() {
        for (text, verb, args) in [
            ("test", "test", ""),
            ("run -- -v --toolchain 3", "run", "-- -v --toolchain 3"),
            ("run --release -- a -- b", "run", "--release -- a -- b"),
            ("test -p x -- filter --exact", "test", "-p x -- filter --exact"),
            ("--toolchain dev build --help", "build", "--help"),
        ] {
            let line = line(text).unwrap();
            assert_eq!(line.verb().name(), verb, "{text}");
            assert_eq!(line.args().join(OsStr::new(" ")), args, "{text}");
        }
    }

    #[test]
    fn options_are_found_in_both_forms_and_before_the_two_dashes_only() {
        let line = line("run --target=a --manifest-path b/Cargo.toml -- --target-dir c").unwrap();
        assert_eq!(line.option("--target"), Some(OsStr::new("a")));
        assert_eq!(line.option("--manifest-path"), Some(OsStr::new("b/Cargo.toml")));
        assert_eq!(line.option("--target-dir"), None);
    }

    #[test]
    fn the_usage_line_is_complete() {
        // `override_usage` is written by hand, so one more option would need a look at it.
        let options = RaceArgs::command().get_opts().map(|option| option.get_id().to_string()).collect::<Vec<_>>();
        assert_eq!(options, ["toolchain"]);
    }
}
