//! The settings of a runtime, the defaults filled in.

use std::time::Duration;

/// A stack has to hold a signal frame, a panic and `println!`.
pub(crate) const MIN_STACK: usize = 16 * 1024;
pub(crate) const MAX_STACK: usize = 1 << 30;

/// What happens when a goroutine panics and nobody joins it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PanicPolicy {
    /// Its id, its start place and its message are printed; the other goroutines go on.
    #[default]
    Print,
    /// The same, and the process aborts.
    Abort,
}

/// What happens when no goroutine can ever run again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeadlockPolicy {
    /// The process ends with exit code 2 after "fatal error: all goroutines are asleep - deadlock!"
    /// and a list of the goroutines. Go's behavior.
    ///
    /// An OS thread that waits in goby without a deadline, such as `main`, counts like a goroutine
    /// and is listed, with its name and the place where it waits, even if no goroutine was ever
    /// started. There is no verdict while something may still happen: a thread that does anything
    /// but wait in goby, a timer that somebody waits for, a socket, a call on a helper thread, a
    /// future, a handler of a signal.
    #[default]
    Exit,
    /// Nothing; the waiters go on waiting.
    Ignore,
}

/// The settings of one runtime.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    /// The number of workers that was asked for; further ones are spares.
    pub(crate) workers: usize,
    /// How much of its stack a goroutine may use, in bytes.
    pub(crate) stack_size: usize,
    pub(crate) max_stacks: usize,
    pub(crate) max_goroutines: Option<usize>,
    pub(crate) thread_name: String,
    pub(crate) panic_policy: PanicPolicy,
    pub(crate) deadlock_policy: DeadlockPolicy,
    /// Whether a `run` prints what it has leaked.
    pub(crate) report_leaks: bool,
    /// Whether leaks end the process.
    pub(crate) leaks_are_fatal: bool,
    pub(crate) stall_limit: Option<Duration>,
    pub(crate) stalls_are_printed: bool,
    /// The runtime belongs to a test: its deadlocks are looked for in it alone.
    pub(crate) isolated: bool,
    /// The runtime belongs to a check, which says who runs next: see `worker/checked.rs`.
    pub(crate) checked: bool,
}
