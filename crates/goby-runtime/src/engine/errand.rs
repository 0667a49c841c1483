//! User code that a scheduler comes upon: destructors of the user's values, and the wakers of
//! foreign executors.
//!
//! A scheduler cannot park: user code on its stack that waits puts the thread to sleep, with all
//! goroutines at home there, and a panic of it ends the process. So no user code runs there, but
//! for the polls of spawned futures, which are written for that. What a scheduler may hold the last
//! reference to (a timer's firing does, an event's, an answer to who looks at goroutines) it hands
//! to [`let_go`], and a waker to [`Notice::wake`]: both start a goroutine for it. Elsewhere they do
//! it themselves.
//!
//! What owns values of the user's has a [`Foreign`] among its fields, and what is about to run user
//! code calls
//! [`assert_allowed`]: in debug builds either panics on a scheduler's stack. The thread that keeps the timers of dropped runtimes
//! (`orphans.rs`) counts as a scheduler here.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::ptr;
use std::sync::Arc;
use std::task::Waker;

use crate::base::report::{payload_text, report};
use crate::base::tsan;
use crate::engine::go::go_detached_at;
use crate::engine::io::future;
use crate::engine::worker::Worker;

thread_local! {
    /// The thread does as a scheduler does, though it is no worker.
    static SCHEDULES: Cell<bool> = const { Cell::new(false) };
}

/// Has the calling thread count as a scheduler from now on.
pub(crate) fn act_as_scheduler() {
    SCHEDULES.set(true);
}

/// Whether the caller is a scheduler: neither a goroutine, nor the poll of a future, nor a thread
/// of the user's.
fn is_scheduler() -> bool {
    match Worker::current() {
        Some(worker) => worker.is_scheduling(),
        // While a thread ends, it runs destructors of the user's, and is no worker any more.
        None => SCHEDULES.try_with(Cell::get).unwrap_or(false),
    }
}

/// Panics on a scheduler's stack, in debug builds: user code is about to run.
#[inline]
pub(crate) fn assert_allowed() {
    debug_assert!(!is_scheduler(), "user code on a scheduler's stack");
}

/// Marks what owns values of the user's: it must not be dropped on a scheduler's stack, and panics
/// if it is, in debug builds.
///
/// ```
/// struct Callback<F> {
///     f: F,
///     _foreign: goby_runtime::Foreign,
/// }
/// drop(Callback { f: || (), _foreign: goby_runtime::Foreign });
/// ```
#[derive(Clone, Debug, Default)]
pub struct Foreign;

impl Drop for Foreign {
    #[inline]
    fn drop(&mut self) {
        assert_allowed();
    }
}

/// Drops a value whose destructor may be the user's: in a goroutine of its own, if a scheduler
/// calls, else here.
///
/// ```
/// goby_runtime::let_go(String::from("value"));
/// ```
#[track_caller]
pub fn let_go<T: Send + 'static>(value: T) {
    if std::mem::needs_drop::<T>() && is_scheduler() {
        go_detached_at(Location::caller(), move || drop(value));
    }
}

/// Drops a reference, and with the last one the value as [`let_go`] does.
///
/// ```
/// let (one, other) = (std::sync::Arc::new("value"), std::sync::Arc::new("another"));
/// goby_runtime::let_go_shared(one.clone());
/// goby_runtime::let_go_shared(other);
/// assert_eq!(*one, "value");
/// ```
#[track_caller]
pub fn let_go_shared<T: Send + Sync + 'static>(shared: Arc<T>) {
    // `into_inner`, of two threads that drop the last two references, gives the value to one.
    if let Some(value) = Arc::into_inner(shared) {
        let_go(value);
    }
}

/// A future's waker, for later.
pub(crate) struct Notice {
    waker: Waker,
    /// To wake it, or to drop it, runs no user code: it is one of goby's own.
    is_own: bool,
}

impl Notice {
    /// Clones the waker, which is the executor's code: not under a lock.
    pub(crate) fn new(waker: &Waker) -> Notice {
        let is_polled = || Worker::current().is_some_and(|worker| worker.polls_with(waker.vtable()));
        let is_own = ptr::eq(waker.vtable(), &future::SIGNAL) || is_polled();
        // What the poll has done is seen by the wake, though a scheduler, whose edges are ignored,
        // hands it on.
        tsan::release(waker.data());
        Notice { waker: waker.clone(), is_own }
    }

    /// Wakes the future; through a goroutine, if a scheduler calls and the waker is foreign.
    pub(crate) fn wake(self) {
        let Notice { waker, is_own } = self;
        if is_own || !is_scheduler() {
            wake(waker);
        } else {
            go_detached_at(Location::caller(), move || {
                tsan::acquire(waker.data());
                wake(waker);
            });
        }
    }

    /// The waker, and whether it is goby's own.
    pub(crate) fn into_waker(self) -> (Waker, bool) {
        (self.waker, self.is_own)
    }

    /// What [`into_waker`](Notice::into_waker) has taken apart.
    pub(crate) fn from_waker(waker: Waker, is_own: bool) -> Notice {
        Notice { waker, is_own }
    }
}

/// A waker is the executor's code: if it panics, those who are woken after it must be woken all the
/// same.
fn wake(waker: Waker) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
        report(format_args!("a waker panicked: {}", payload_text(&*payload)));
        std::mem::forget(payload);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::future::poll_fn;
    use std::task::{Poll, Wake};

    use super::*;
    use crate::{block_on, go, spawn};

    fn is_own(waker: &Waker) -> bool {
        Notice::new(waker).is_own
    }

    struct Foreigner;

    impl Wake for Foreigner {
        fn wake(self: Arc<Self>) {}
    }

    #[test]
    fn wakers_of_goby_are_known_as_such() {
        let of_the_caller = || poll_fn(|cx| Poll::Ready(is_own(cx.waker())));
        let of_another = || poll_fn(|_| Poll::Ready(is_own(&Waker::from(Arc::new(Foreigner)))));
        assert!(block_on(of_the_caller()));
        assert!(!block_on(of_another()));
        assert!(go(move || block_on(of_the_caller())).join().unwrap());
        assert!(!go(move || block_on(of_another())).join().unwrap());
        assert!(spawn(of_the_caller()).join().unwrap());
        assert!(!spawn(of_another()).join().unwrap());
        // One that is polled by a spawned future, with the waker of that.
        assert!(spawn(async { spawn(poll_fn(|cx| Poll::Ready(is_own(cx.waker())))).await }).join().unwrap());
    }
}
