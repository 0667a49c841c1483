//! A timer that calls a function in a goroutine of its own.
//!
//! Nobody need keep the handle. A timer that is to fire keeps itself alive, by a reference to
//! itself in `armed`; the firing or a stop takes it out. `armed` also says from which due time on a
//! firing counts. So a firing that is under way while the timer is stopped or moved is ignored; see
//! `alarm`, which does the same with a channel.
//!
//! The lock of `armed` is held while the runtime's timer is started or stopped, so that the two are
//! one step for other callers. The firing takes the lock too, but only to take the reference out.

use std::fmt;
use std::panic::Location;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use goby_runtime::{Foreign, Heritage, Lock, let_go_shared};

use super::deadline_in;

/// Calls `f` in a goroutine of its own, `duration` from now.
///
/// Dropping the handle changes nothing. [`AfterFunc::reset`] makes it call `f` again. The goroutine
/// inherits labels and locals from the caller of this function, and belongs to its family in a
/// report of leaks.
///
/// ```
/// use goby::{chan, time};
/// use std::time::Duration;
/// let (tx, rx) = chan::bounded(0);
/// time::after_func(Duration::from_millis(1), move || tx.send("now").unwrap());
/// assert_eq!(rx.recv(), Ok("now"));
/// ```
///
/// Source: Go's `time.AfterFunc`.
#[doc(alias("time.AfterFunc", "AfterFunc"))]
#[track_caller]
pub fn after_func(duration: Duration, f: impl Fn() + Send + Sync + 'static) -> AfterFunc {
    let caller = Location::caller();
    let shared = Arc::new_cyclic(|weak: &Weak<Shared<_>>| {
        let weak = weak.clone();
        let timer = goby_runtime::Timer::new(move |due| {
            if let Some(shared) = weak.upgrade() {
                shared.fire(due);
                let_go_shared(shared);
            }
        });
        Shared { timer, armed: Lock::new(None), caller, heritage: Heritage::of_caller(), _foreign: Foreign, f }
    });
    let handle = AfterFunc { shared };
    handle.reset(duration);
    handle
}

/// Calls `f` in a goroutine of its own, `duration` from now: the usual case, in which it is called
/// once.
///
/// As [`after_func`], but `f` may use up its captured values. Once the call of `f` has begun, a
/// [`reset`](AfterFunc::reset) of the handle calls nothing.
///
/// ```
/// use goby::{chan, time};
/// use std::time::Duration;
/// let (tx, rx) = chan::bounded(0);
/// let text = String::from("moved");
/// time::after_func_once(Duration::from_millis(1), move || tx.send(text).unwrap());
/// assert_eq!(rx.recv().unwrap(), "moved");
/// assert!(rx.recv().is_err(), "the sender has gone with the function");
/// ```
///
/// Source: Go's `time.AfterFunc`.
#[track_caller]
pub fn after_func_once(duration: Duration, f: impl FnOnce() + Send + 'static) -> AfterFunc {
    let f = Lock::new(Some(f));
    after_func(duration, move || {
        // A statement of its own, so that the function runs without the lock.
        let f = f.lock().take();
        if let Some(f) = f {
            f();
        }
    })
}

/// The handle of a function that is called later, from [`after_func`] or [`after_func_once`]. Its
/// clones are one timer.
#[derive(Clone)]
pub struct AfterFunc {
    shared: Arc<Shared<dyn Fn() + Send + Sync>>,
}

struct Shared<F: ?Sized> {
    timer: goby_runtime::Timer,
    /// While the timer is to fire: the time before which a firing does not count, and the reference
    /// that keeps the timer alive.
    armed: Lock<Option<(Instant, AfterFunc)>>,
    /// The place where its goroutines are said to be started.
    caller: &'static Location<'static>,
    /// The family of its goroutines.
    heritage: Heritage,
    _foreign: Foreign,
    f: F,
}

impl<F: ?Sized> Shared<F> {
    /// Starts the goroutine, unless the timer was stopped or moved meanwhile. Runs on a worker's
    /// scheduler.
    fn fire(&self, due: Instant) {
        let armed = {
            let mut armed = self.armed.lock();
            if armed.as_ref().is_some_and(|(from, _)| due >= *from) { armed.take() } else { None }
        };
        if let Some((_, handle)) = armed {
            self.heritage.clone().go_detached_at(self.caller, move || (handle.shared.f)());
        }
    }
}

impl AfterFunc {
    /// Makes sure that the function is not called; returns true if it would have been.
    ///
    /// False means that the function was called, in its own goroutine, or that the timer was
    /// stopped before. The call does not wait for the function.
    ///
    /// ```
    /// use goby::time;
    /// use std::time::Duration;
    /// let later = time::after_func(Duration::from_secs(3600), || unreachable!());
    /// assert!(later.stop());
    /// assert!(!later.stop());
    /// ```
    ///
    /// Source: Go's `Timer.Stop`.
    pub fn stop(&self) -> bool {
        goby_runtime::checkpoint();
        let mut armed = self.shared.armed.lock();
        let taken = armed.take();
        self.shared.timer.stop();
        drop(armed);
        taken.is_some()
    }

    /// Makes the timer call the function `duration` from now, instead or again; returns true if a
    /// call was still to come.
    ///
    /// It does not wait for a call of the function that is under way: two may run at once.
    ///
    /// ```
    /// use goby::{chan, time};
    /// use std::time::Duration;
    /// let (tx, rx) = chan::bounded(0);
    /// let later = time::after_func(Duration::from_secs(3600), move || tx.send(()).unwrap());
    /// assert!(later.reset(Duration::ZERO));
    /// assert_eq!(rx.recv(), Ok(()));
    /// assert!(!later.reset(Duration::ZERO));
    /// assert_eq!(rx.recv(), Ok(()));
    /// ```
    ///
    /// Source: Go's `Timer.Reset`.
    pub fn reset(&self, duration: Duration) -> bool {
        goby_runtime::checkpoint();
        let due = deadline_in(duration);
        let mut armed = self.shared.armed.lock();
        let replaced = armed.replace((due, self.clone()));
        self.shared.timer.start(due);
        drop(armed);
        replaced.is_some()
    }
}

impl fmt::Debug for AfterFunc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AfterFunc").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_firing_under_way_is_ignored_once_the_timer_is_moved_or_stopped() {
        const HOUR: Duration = Duration::from_secs(3600);
        let calls = Arc::new(AtomicUsize::new(0));
        let timer = after_func(HOUR, {
            let calls = calls.clone();
            move || _ = calls.fetch_add(1, Ordering::Relaxed)
        });
        let due = timer.shared.armed.lock().as_ref().unwrap().0;
        timer.reset(2 * HOUR);
        timer.shared.fire(due);
        assert!(timer.stop(), "still to come");
        timer.shared.fire(due + 2 * HOUR);
        assert!(timer.shared.armed.lock().is_none());
        drop(timer);
        // A goroutine that was started would hold it, too.
        assert_eq!(Arc::strong_count(&calls), 1);
        assert_eq!(calls.load(Ordering::Relaxed), 0);
    }
}
