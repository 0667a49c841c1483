//! Child processes, as straight-line code.
//!
//! The names are those of [`std::process`], and a command of std's becomes one of goby's by `From`.
//! Starting a child, waiting for it, and its pipes park the goroutine and never its worker. A
//! context can end a child, as Go's `exec.CommandContext` does.
//!
//! ```
//! use goby::{Context, process::Command};
//! use std::time::Duration;
//!
//! let output = Command::new("echo").arg("hello").output()?;
//! assert_eq!(output.stdout, b"hello\n");
//!
//! let (ctx, _cancel) = Context::background().with_timeout(Duration::from_millis(10));
//! let error = Command::new("sleep").arg("1000").status_ctx(&ctx).unwrap_err();
//! assert_eq!(error.to_string(), "context deadline exceeded");
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # How a context ends a child
//!
//! A child that was started by [`spawn_ctx`](Command::spawn_ctx) and its kin is killed (`SIGKILL`)
//! when its context is done. Three settings change that:
//!
//! - [`cancel`](Command::cancel) does something else instead, such as `SIGTERM`, which the child
//!   may handle.
//! - [`wait_delay`](Command::wait_delay) is how long the child may take then. Afterwards it is
//!   killed, and reads of its pipes end, even if a grandchild still holds them.
//! - [`kill_group`](Command::kill_group) starts the child in a process group of its own. What goes
//!   to the child then goes to the group, so to the children that it has started, too. When the
//!   context ends the child, what is left of the group at the child's exit is killed.
//!
//! [`wait`](Child::wait) of a child that its context has ended fails with the context's error, of a
//! kind as in [`net`](crate::net#errors). The status is then in [`try_wait`](Child::try_wait).
//! Without a context nothing ends a child but [`kill`](Child::kill), and, by choice, [dropping
//! it](Command::kill_on_drop).
//!
//! # What becomes of children
//!
//! A [`Child`] that is dropped goes on, as in std. It leaves no zombie: if nobody has waited for
//! it, a thread of goby's (there is one while there are such children) takes its status when it
//! exits.
//!
//! Children are started on helper threads, which end when they have been idle. A child that asks
//! for a signal at its parent's death (`PR_SET_PDEATHSIG`) means that thread, and gets the signal
//! too early.
//!
//! # Pipes
//!
//! The pipes to and from a child are those of [`io`](crate::io). A write to a child that has closed
//! its standard input, or has exited, fails with `BrokenPipe`: Rust's programs ignore `SIGPIPE`.
//! Their children do not; std resets the signal for them. So `yes | head` ends as in a shell.

#![forbid(unsafe_code)]

mod child;
mod command;
mod error;
mod handle;
mod reaper;
mod stop;

pub use std::process::{ExitStatus, Output, Stdio};

pub use child::Child;
pub use command::Command;
pub use error::{CutShort, PipesHeld};
pub use handle::Process;

/// The pipe to a child's standard input.
pub type ChildStdin = crate::io::PipeWriter;
/// The pipe from a child's standard output.
pub type ChildStdout = crate::io::PipeReader;
/// The pipe from a child's standard error.
pub type ChildStderr = crate::io::PipeReader;
