//! How a run ends: the exit statuses, and the error that stops a run before it has begun.

use std::fmt;
use std::process::ExitCode;

/// The exit statuses of `goby`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything asked for was done.
    Success,
    /// The run came to its end, but something in it failed.
    SomeFailed,
    /// The run did not begin: an option, an input or an output cannot be used.
    Usage,
    /// A data race was reported: 66, as with Go's race detector.
    Raced,
    /// The exit status of the program that was run.
    Program(u8),
    /// Stopped by Ctrl-C (or SIGTERM): 128 + SIGINT, as a shell would report it.
    Interrupted,
}

impl Exit {
    /// The number that the parent process sees.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Exit::Success => 0,
            Exit::SomeFailed => 1,
            Exit::Usage => 2,
            Exit::Raced => 66,
            Exit::Program(code) => code,
            Exit::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// Why a run cannot begin, in words that say what to do about it.
#[derive(Debug)]
pub(crate) struct Usage(String);

impl Usage {
    /// A mistake in words; the caller's message says what is wrong and what to do.
    pub(crate) fn new(message: impl Into<String>) -> Usage {
        Usage(message.into())
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}
