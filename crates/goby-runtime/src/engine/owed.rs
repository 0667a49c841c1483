//! Goroutines that owe something to others, whether they run or not.
//!
//! An unstarted goroutine never runs if its runtime is dropped: its closure is dropped. A waiter
//! for its work (a count, a place among results, a scope) would wait forever, or take the silence
//! for success. So the starter of such a goroutine says what is done in its place.

use std::fmt;
use std::panic::Location;

use crate::engine::go::go_detached_at;

/// Why a goroutine has not done what it was started for: its runtime was dropped before it ran.
///
/// It is the error of such a goroutine of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeverRan;

impl NeverRan {
    /// The text of the error.
    pub const MESSAGE: &str = "the runtime was shut down before the goroutine ran";
}

impl fmt::Display for NeverRan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NeverRan::MESSAGE)
    }
}

impl std::error::Error for NeverRan {}

/// Starts a goroutine that nobody joins, and that calls `run` with `owed`. If the goroutine never
/// runs, `run` is dropped, and then `never` is called with `owed`, by the code that ends the
/// goroutine.
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

/// A value that a goroutine owes, what it will do with the value, and what is done instead if it
/// never runs.
#[doc(hidden)]
pub struct Debt<S, R, N: FnOnce(S)> {
    run: Option<R>,
    rest: Rest<S, N>,
}

impl<S, R: FnOnce(S) -> T, N: FnOnce(S), T> Debt<S, R, N> {
    /// Makes a debt: `run` will be called, or `never` in its place.
    pub fn new(owed: S, run: R, never: N) -> Debt<S, R, N> {
        Debt { run: Some(run), rest: Rest(Some((owed, never))) }
    }

    /// Calls `run`.
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

/// Dropped after `run`, even if the destructors of `run` panic, which are the user's.
struct Rest<S, N: FnOnce(S)>(Option<(S, N)>);

impl<S, N: FnOnce(S)> Drop for Rest<S, N> {
    fn drop(&mut self) {
        if let Some((owed, never)) = self.0.take() {
            never(owed);
        }
    }
}
