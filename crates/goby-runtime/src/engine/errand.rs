//! User code that a scheduler comes upon: destructors of the user's values, and the wakers of
//! foreign executors.
//!
//! A scheduler cannot park. If user code on its stack waits, the thread sleeps, with all goroutines
//! at home there; if user code panics there, the process ends. So a scheduler runs no user code,
//! except the polls of tasks, which are written for that. A scheduler may hold the last reference
//! to a value: after a timer's firing, an event, an answer to a look at goroutines. It hands such a
//! value to [`let_go`], and a waker to [`Notice::wake`]: both start a goroutine for it. Elsewhere
//! both do the work themselves.
//!
//! A type that owns values of the user has a [`Foreign`] among its fields, and code that is about
//! to run user code calls [`assert_allowed`]. In debug builds either panics on a scheduler's stack.
//! The thread that keeps the timers of dropped runtimes (`orphans.rs`) counts as a scheduler here.

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::ptr;
use std::sync::{Arc, Weak};
use std::task::Waker;

use crate::base::order;
use crate::base::report::{payload_text, report};
use crate::engine::go::go_detached_at;
use crate::engine::io::future;
use crate::engine::worker::Worker;

thread_local! {
    /// The thread counts as a scheduler, though it is no worker.
    static SCHEDULES: Cell<bool> = const { Cell::new(false) };
}

/// Makes the calling thread count as a scheduler from now on.
pub(crate) fn act_as_scheduler() {
    SCHEDULES.set(true);
}

/// Returns whether the caller is a scheduler: not a goroutine, not the poll of a future, not a
/// thread of the user.
fn is_scheduler() -> bool {
    match Worker::current() {
        Some(worker) => worker.is_scheduling(),
        // A thread that ends runs the user's destructors, and is no worker any more.
        None => SCHEDULES.try_with(Cell::get).unwrap_or(false),
    }
}

/// Panics on a scheduler's stack, in debug builds: user code is about to run.
#[inline]
pub(crate) fn assert_allowed() {
    debug_assert!(!is_scheduler(), "user code on a scheduler's stack");
}

/// Marks a type that owns values of the user: it must not be dropped on a scheduler's stack. In
/// debug builds such a drop panics.
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

/// Drops a value whose destructor may be the user's: in a new goroutine if a scheduler calls,
/// otherwise here.
///
/// ```
/// goby_runtime::let_go(String::from("value"));
/// ```
#[track_caller]
pub fn let_go<T: Send + 'static>(value: T) {
    let_go_after(|| (), value);
}

/// As [`let_go`]; a new goroutine calls `first` before it drops the value.
#[track_caller]
fn let_go_after<T: Send + 'static>(first: impl FnOnce() + Send + 'static, value: T) {
    if std::mem::needs_drop::<T>() && is_scheduler() {
        go_detached_at(Location::caller(), move || {
            first();
            drop(value);
        });
    }
}

/// Drops a reference, and with the last reference the value, as [`let_go`] does.
///
/// ```
/// let (one, other) = (std::sync::Arc::new("value"), std::sync::Arc::new("another"));
/// goby_runtime::let_go_shared(one.clone());
/// goby_runtime::let_go_shared(other);
/// assert_eq!(*one, "value");
/// ```
#[track_caller]
pub fn let_go_shared<T: Send + Sync + 'static>(shared: Arc<T>) {
    let count = cfg!(goby_tsan).then(|| Arc::downgrade(&shared));
    // If two threads drop the last two references, `into_inner` gives the value to exactly one.
    if let Some(value) = Arc::into_inner(shared) {
        let_go_after(move || count.iter().for_each(follow_drops), value);
    }
}

/// Says to ThreadSanitizer that the drops of an `Arc` come before what the caller does. The
/// scheduler that dropped the last one cannot hand this on, since its edges are ignored.
fn follow_drops<T>(dropped: &Weak<T>) {
    // Where std keeps the count, which each drop has released: two counts come before the value.
    let counts = size_of::<[usize; 2]>().next_multiple_of(align_of::<T>());
    order::follow(dropped.as_ptr().cast::<u8>().wrapping_sub(counts));
}

/// A future's waker, for later.
pub(crate) struct Notice {
    waker: Waker,
    /// The waker is one of goby's own: waking or dropping it runs no user code.
    is_own: bool,
}

impl Notice {
    /// Clones the waker. That runs the executor's code, so call it under no lock.
    pub(crate) fn new(waker: &Waker) -> Notice {
        let is_polled = || Worker::current().is_some_and(|worker| worker.polls_with(waker.vtable()));
        let is_own = ptr::eq(waker.vtable(), &future::SIGNAL) || is_polled();
        // An edge from the poll to the wake: the scheduler that hands the waker on has none, since
        // its edges are ignored.
        order::precede(waker.data());
        Notice { waker: waker.clone(), is_own }
    }

    /// Wakes the future; through a goroutine, if a scheduler calls and the waker is foreign.
    pub(crate) fn wake(self) {
        let (waker, is_own) = self.into_waker();
        if is_own || !is_scheduler() {
            wake(waker);
        } else {
            go_detached_at(Location::caller(), move || {
                order::follow(waker.data());
                wake(waker);
            });
        }
    }

    /// Returns the waker, and whether it is goby's own.
    pub(crate) fn into_waker(self) -> (Waker, bool) {
        let this = ManuallyDrop::new(self);
        // SAFETY: read once, since `this` is not dropped.
        (unsafe { ptr::read(&raw const this.waker) }, this.is_own)
    }

    /// Puts together what [`into_waker`](Notice::into_waker) has taken apart.
    pub(crate) fn from_waker(waker: Waker, is_own: bool) -> Notice {
        Notice { waker, is_own }
    }
}

impl Drop for Notice {
    fn drop(&mut self) {
        // As in `wake`: it may be the last owner that drops it, to which a scheduler has handed it.
        order::follow(self.waker.data());
    }
}

/// Wakes a waker, which runs the executor's code. If that panics, the wakers after it must still be
/// woken.
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
        // A task that another task polls, with the waker of that other task.
        assert!(spawn(async { spawn(poll_fn(|cx| Poll::Ready(is_own(cx.waker())))).await }).join().unwrap());
    }
}
