//! The points where a running goroutine lets the worker's others run, without waiting for anything.

use crate::engine::worker::Worker;
use crate::engine::worker::checked::NO_OBJECT;

/// Goes to the back of the run queue, so that the worker's other goroutines run first.
///
/// Goroutines that have started come before unstarted ones: while two do nothing but yield to each
/// other, a third may begin only after some sixty rounds. In Go it would begin at once. On an OS
/// thread that is no worker it gives up the processor. Source: Go's `runtime.Gosched`.
///
/// ```
/// let handle = goby::go(|| 1);
/// goby::yield_now();
/// assert_eq!(handle.join().unwrap(), 1);
/// ```
#[cfg_attr(not(debug_assertions), inline(always))]
pub fn yield_now() {
    match Worker::current() {
        Some(worker) if worker.in_goroutine() => worker.yield_current(),
        _ => std::thread::yield_now(),
    }
}

/// Yields if this goroutine's time slice is over.
///
/// Every operation that can be repeated without parking calls it, whether it succeeds, fails or
/// only looks. So a loop of such operations does not starve the worker's other goroutines, timers
/// and sockets.
///
/// ```
/// // A computation that calls nothing else of goby.
/// let sum = (0..1000).fold(0, |sum, n| {
///     goby::checkpoint();
///     sum + n
/// });
/// assert_eq!(sum, 499_500);
/// ```
#[cfg_attr(not(debug_assertions), inline(always))]
pub fn checkpoint() {
    checkpoint_on(NO_OBJECT);
}

/// A [`checkpoint`] of an operation on the object with this address: a check then knows what is
/// ordered with what.
#[doc(hidden)]
#[cfg_attr(not(debug_assertions), inline(always))]
pub fn checkpoint_on(object: usize) {
    if let Some(worker) = Worker::current()
        && worker.slice_is_over()
    {
        worker.end_slice_of_current(object);
    }
}

/// A point of a check, and otherwise nothing. What gives something back calls it before it does,
/// since it is no [`checkpoint`] (it runs in destructors) and still something that others see.
///
/// It names the address of the object that it changes, and must not be called under a short lock.
#[doc(hidden)]
#[cfg_attr(not(debug_assertions), inline(always))]
pub fn gives_back(object: usize) {
    if let Some(worker) = Worker::current()
        && worker.slice_is_over()
    {
        worker.give_back(object);
    }
}

/// Counts an operation that was refused because it would have to wait. After several in a row the
/// goroutine yields, if others are runnable on its worker. One of them may be the one that it waits
/// for, and its time slice may last a long time yet.
///
/// A refused operation calls it besides [`checkpoint`].
#[cfg_attr(not(debug_assertions), inline(always))]
pub fn refused() {
    if let Some(worker) = Worker::current() {
        worker.note_refusal();
    }
}

/// A [`checkpoint`] of an operation that only looks whether something has happened, and counts as
/// [`refused`].
#[cfg_attr(not(debug_assertions), inline(always))]
pub fn polled() {
    checkpoint();
    refused();
}
