//! Errors that say which program failed, and what to do.

use std::error::Error;
use std::path::Path;
use std::process::Output;
use std::{fmt, io};

use rustix::io::Errno;

use crate::context::ContextError;

/// Says which program could not be started, and what to do. The source is the system's error.
struct CannotStart {
    program: String,
    advice: String,
    source: io::Error,
}

/// Turns an error of std's `spawn` into one that says what to do. It has the same kind, and the
/// system's error as its source.
pub(super) fn cannot_start(command: &std::process::Command, source: io::Error) -> io::Error {
    let program = command.get_program();
    let advice = advice(Path::new(program), command.get_current_dir(), &source);
    let error = CannotStart { program: program.to_string_lossy().into_owned(), advice, source };
    io::Error::new(error.source.kind(), error)
}

fn advice(program: &Path, dir: Option<&Path>, error: &io::Error) -> String {
    if let Some(dir) = dir.filter(|dir| !dir.is_dir()) {
        return format!("its working directory {} is no directory", dir.display());
    }
    let has_path = program.parent().is_some_and(|parent| parent != Path::new(""));
    let text = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT) if !has_path => "it is in no directory of PATH: install it, or give its path",
        Some(Errno::NOENT) if program.exists() => {
            "the file is there, but not the interpreter that its first line names, or its dynamic linker"
        }
        Some(Errno::NOENT) => "there is no such file",
        Some(Errno::ACCESS) if program.is_dir() => "it is a directory",
        Some(Errno::ACCESS) => "it may not be executed: see its mode (chmod +x), and those of its directories",
        Some(Errno::NOEXEC) => "it is no program for this machine, nor a script whose first line names one with #!",
        Some(Errno::TOOBIG) => "arguments and environment are too long together: pass them by a file or standard input",
        Some(Errno::AGAIN) => "too many processes: see ulimit -u, and the limit of the cgroup",
        Some(Errno::MFILE | Errno::NFILE) => "too many open files: see ulimit -n, or run fewer children at a time",
        Some(Errno::NOMEM) => "no memory is left for it",
        Some(Errno::TXTBSY) => "the file is being written: close it first",
        _ => return String::new(),
    };
    text.to_owned()
}

/// As it is displayed: `main` prints an error that it returns by this.
impl fmt::Debug for CannotStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for CannotStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot start {:?}: {}", self.program, self.source)?;
        if self.advice.is_empty() { Ok(()) } else { write!(f, "; {}", self.advice) }
    }
}

impl Error for CannotStart {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

/// The child has exited, but its pipes were still open after the
/// [`wait_delay`](super::Command::wait_delay): a process that it has started holds them.
///
/// An [`io::Error`] of kind `TimedOut` holds it, with all that was read until then.
///
/// ```
/// use goby::process::{Command, PipesHeld};
/// use std::time::Duration;
///
/// // The shell exits at once; its child inherits its standard output.
/// let mut shell = Command::new("sh");
/// shell.args(["-c", "echo started; sleep 2 &"]).wait_delay(Duration::from_millis(100));
/// let error = shell.output().unwrap_err();
/// let held = error.get_ref().unwrap().downcast_ref::<PipesHeld>().unwrap();
/// assert_eq!(held.output().stdout, b"started\n");
/// assert!(held.output().status.success());
/// ```
///
/// Source: Go's `exec.ErrWaitDelay`.
#[doc(alias("exec.ErrWaitDelay", "ErrWaitDelay"))]
#[derive(Debug)]
pub struct PipesHeld {
    output: Output,
}

impl PipesHeld {
    pub(super) fn error(output: Output) -> io::Error {
        io::Error::new(io::ErrorKind::TimedOut, PipesHeld { output })
    }

    /// Returns the child's status, and what was read.
    pub fn output(&self) -> &Output {
        &self.output
    }
}

impl fmt::Display for PipesHeld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the child has exited, but after the wait delay another process still holds its pipes open")
    }
}

impl Error for PipesHeld {}

/// The context was done before the child had exited and its pipes were closed; so the child was
/// canceled, or the wait for its pipes was ended.
///
/// An [`io::Error`] holds it, of the kind and with the words of the context's error, which is its
/// [`source`](Error::source). It has all that was read until then.
///
/// ```
/// use goby::process::{Command, CutShort};
/// use goby::{Context, context::ContextError};
/// use std::error::Error;
/// use std::time::Duration;
///
/// let (ctx, _cancel) = Context::background().with_timeout(Duration::from_secs(1));
/// let error = Command::new("sh").args(["-c", "echo started; exec sleep 1000"]).output_ctx(&ctx).unwrap_err();
/// assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
/// assert_eq!(error.source().unwrap().downcast_ref(), Some(&ContextError::DeadlineExceeded));
/// let cut = error.get_ref().unwrap().downcast_ref::<CutShort>().unwrap();
/// assert_eq!(cut.output().stdout, b"started\n");
/// assert_eq!(cut.output().status.to_string(), "signal: 9 (SIGKILL)");
/// ```
///
/// Source: Go's `Cmd.Output`, which returns the output beside the error.
#[derive(Debug)]
pub struct CutShort {
    error: ContextError,
    output: Output,
}

impl CutShort {
    pub(super) fn error(error: ContextError, output: Output) -> io::Error {
        io::Error::new(io::Error::from(error).kind(), CutShort { error, output })
    }

    /// Returns the child's status, and what was read.
    pub fn output(&self) -> &Output {
        &self.output
    }
}

impl fmt::Display for CutShort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for CutShort {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}
