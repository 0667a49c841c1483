//! Goroutines that owe something to others, whether they run or not.
//!
//! A goroutine that has not begun when its runtime is dropped never runs: its closure is dropped.
//! Whoever waits for what it was to do (a count, a place among results, a scope) would wait for
//! ever, or take the silence for success. So who starts such a goroutine says what is done in its
//! place.

use std::fmt;
use std::panic::Location;

use crate::engine::go::go_detached_at;

/// Why a goroutine has not done what it was started for: its runtime was dropped before it ran.
///
/// It is the error of such a goroutine of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeverRan;

impl NeverRan {
    /// What it says.
    pub const MESSAGE: &str = "the runtime was shut down before the goroutine ran";
}

impl fmt::Display for NeverRan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NeverRan::MESSAGE)
    }
}

impl std::error::Error for NeverRan {}

/// Starts a goroutine that nobody joins, and that runs `run` with what it owes; if it never runs,
/// `never` is called with that, by whoever ends its runtime, when `run` has been dropped.
#[doc(hidden)]
pub fn go_owing<S, R, N>(started_at: &'static Location<'static>, owed: S, run: R, never: N)
where
    S: Send + 'static,
    R: FnOnce(S) + Send + 'static,
    N: FnOnce(S) + Send + 'static,
{
    let debt = Debt::new(owed, run, never);
    go_detached_at(started_at, move || debt.pay());
}

/// What a goroutine is to do with what it owes, and what is done instead.
#[doc(hidden)]
pub struct Debt<S, R, N: FnOnce(S)> {
    run: Option<R>,
    rest: Rest<S, N>,
}

impl<S, R: FnOnce(S) -> T, N: FnOnce(S), T> Debt<S, R, N> {
    /// Says what is to be done, and what instead.
    pub fn new(owed: S, run: R, never: N) -> Debt<S, R, N> {
        Debt { run: Some(run), rest: Rest(Some((owed, never))) }
    }

    /// Runs it.
    pub fn pay(mut self) -> T {
        let run = self.run.take().expect("paid once");
        let (owed, _) = self.rest.0.take().expect("paid once");
        run(owed)
    }
}

impl<S, R, N: FnOnce(S)> fmt::Debug for Debt<S, R, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Debt").finish_non_exhaustive()
    }
}

/// Dropped after `run`, whose destructors are the user's, and also if they panic.
struct Rest<S, N: FnOnce(S)>(Option<(S, N)>);

impl<S, N: FnOnce(S)> Drop for Rest<S, N> {
    fn drop(&mut self) {
        if let Some((owed, never)) = self.0.take() {
            never(owed);
        }
    }
}
