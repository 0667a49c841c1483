//! One-time work: a state, and the line of those that wait for its end.
//!
//! ```text
//! NotDone --call_once--> Running --f returned----------------> Done
//!    ^----------f panicked---'  '--f ended its goroutine------> Abandoned
//! ```
//!
//! The functions that run once, `once_func` and `once_value`, are in `once_func`.
//!
//! `done` repeats the state `Done` in an atomic, for the fast path only. The state under the
//! queue's lock decides.

use std::convert::Infallible;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use goby_runtime::{Decision, WaitReason, checkpoint, gives_back, polled};

use super::queue::{Outcome, Queue, Until, done_error};
use crate::context::{Context, ContextError};

/// Runs a function once, however many goroutines call it. Go: `sync.Once`.
///
/// A call that comes while the function runs waits until it has ended. A function that panics
/// counts as not done: the panic goes on in its goroutine, and the next caller (or one that is
/// waiting) runs its own function. (Go's `Once` would call that done; std's would be poisoned.)
/// After a function that ends its goroutine by [`goexit`](crate::goexit) none is run again, as in
/// Go: the function has neither failed nor been done, and all other calls panic.
///
/// ```
/// use goby::sync::{Mutex, Once};
///
/// static START: Once = Once::new();
/// static LOG: Mutex<Vec<&str>> = Mutex::new(Vec::new());
/// goby::scope(|s| {
///     for _ in 0..3 {
///         s.go(|| START.call_once(|| LOG.lock().push("started")));
///     }
/// });
/// assert_eq!(*LOG.lock(), ["started"]);
/// ```
#[doc(alias = "sync.Once")]
pub struct Once {
    done: AtomicBool,
    queue: Queue<State>,
}

/// See the drawing above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    NotDone,
    Running,
    Done,
    Abandoned,
}

/// The panic of a call that comes after the function has ended its goroutine.
const ABANDONED: &str = "sync: the function of this Once ended its goroutine by goexit";

/// The token of an unparked waiter. It says nothing: the waiter looks at the state.
const LOOK_AGAIN: usize = 0;

impl Once {
    /// Makes one that has not run a function.
    ///
    /// ```
    /// assert!(!goby::sync::Once::new().is_completed());
    /// ```
    pub const fn new() -> Once {
        Once { done: AtomicBool::new(false), queue: Queue::new(State::NotDone) }
    }

    /// Runs `f` unless one has run to its end already; returns when one has. Go: `Do`.
    ///
    /// # Blocking
    ///
    /// Parks the goroutine while another caller's function runs. If `f` calls `call_once` of the
    /// same `Once` it deadlocks.
    ///
    /// # Panics
    ///
    /// If `f` does; it then counts as not done. If an earlier function ended its goroutine by
    /// [`goexit`](crate::goexit).
    ///
    /// # Memory ordering
    ///
    /// The end of the function happens before any `call_once` returns.
    ///
    /// ```
    /// let once = goby::sync::Once::new();
    /// let mut calls = 0;
    /// once.call_once(|| calls += 1);
    /// once.call_once(|| calls += 1);
    /// assert_eq!(calls, 1);
    /// ```
    #[doc(alias = "Once.Do")]
    pub fn call_once(&self, f: impl FnOnce()) {
        self.run(Until::Forever, always(f));
    }

    /// As [`call_once`](Once::call_once), but waits for another caller's function only until `ctx`
    /// is done.
    ///
    /// # Errors
    ///
    /// The context's error, if it is done before the function has run. `f` itself, once begun, is
    /// not interrupted.
    ///
    /// ```
    /// use goby::{Context, sync::Once};
    ///
    /// let once = Once::new();
    /// once.call_once_ctx(&Context::background(), || ())?;
    /// assert!(once.is_completed());
    /// # Ok::<(), goby::context::ContextError>(())
    /// ```
    pub fn call_once_ctx(&self, ctx: &Context, f: impl FnOnce()) -> Result<(), ContextError> {
        if self.is_completed() {
            checkpoint();
            return Ok(());
        }
        if let Some(error) = ctx.err() {
            return Err(error);
        }
        match self.run(Until::Done(ctx), always(f)) {
            Run::GaveUp => Err(done_error(ctx)),
            Run::Done => Ok(()),
        }
    }

    /// Waits until a function has run to its end, in any caller.
    ///
    /// # Blocking
    ///
    /// Parks the goroutine (an OS thread sleeps) until then; forever, if nobody calls.
    ///
    /// # Panics
    ///
    /// If a function ended its goroutine by [`goexit`](crate::goexit). (After one that panics
    /// another may run.)
    ///
    /// ```
    /// let once = goby::sync::Once::new();
    /// goby::scope(|s| {
    ///     s.go(|| once.call_once(|| ()));
    ///     once.wait();
    ///     assert!(once.is_completed());
    /// });
    /// ```
    pub fn wait(&self) {
        self.wait_until(Until::Forever);
    }

    /// Waits as [`wait`](Once::wait) does, until `ctx` is done.
    ///
    /// # Errors
    ///
    /// The context's error, if it is done before a function has run to its end.
    ///
    /// ```
    /// use goby::{Context, context::ContextError, sync::Once};
    ///
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// cancel.cancel();
    /// assert_eq!(Once::new().wait_ctx(&ctx), Err(ContextError::Canceled));
    /// ```
    pub fn wait_ctx(&self, ctx: &Context) -> Result<(), ContextError> {
        if self.wait_until(Until::Done(ctx)) { Ok(()) } else { Err(done_error(ctx)) }
    }

    /// Waits; returns whether a function has run to its end.
    fn wait_until(&self, until: Until<'_>) -> bool {
        checkpoint();
        while !self.is_completed() {
            let outcome = self.queue.wait_until(WaitReason::OnceWait, until, |state, _| match *state {
                State::NotDone | State::Running => Decision::Wait(()),
                ended => Decision::Ready(ended),
            });
            match outcome {
                Outcome::Ready(State::Abandoned) => panic!("{ABANDONED}"),
                Outcome::Ready(_) => return true,
                // A function has ended, in one way or another.
                Outcome::Unparked(_) => {}
                Outcome::GaveUp => return false,
            }
        }
        true
    }

    /// Returns whether a function has run to its end.
    ///
    /// ```
    /// let once = goby::sync::Once::new();
    /// once.call_once(|| assert!(!once.is_completed()));
    /// assert!(once.is_completed());
    /// ```
    #[inline]
    pub fn is_completed(&self) -> bool {
        // Acquire pairs with the Release in `Running::end`: the effects of the function are seen.
        let is_completed = self.done.load(Ordering::Acquire);
        if !is_completed {
            polled();
        }
        is_completed
    }

    /// Does the whole work of a call. `f` may also fail: that counts as not done, as a panic does.
    #[inline]
    fn run<E>(&self, until: Until<'_>, f: impl FnOnce() -> Result<(), E>) -> Run<E> {
        checkpoint();
        if self.is_completed() { Run::Done } else { self.run_slow(until, f) }
    }

    #[cold]
    fn run_slow<E>(&self, until: Until<'_>, f: impl FnOnce() -> Result<(), E>) -> Run<E> {
        loop {
            let outcome = self.queue.wait_until(WaitReason::OnceWait, until, |state, _| match *state {
                State::NotDone => {
                    *state = State::Running;
                    Decision::Ready(State::NotDone)
                }
                State::Running => Decision::Wait(()),
                ended => Decision::Ready(ended),
            });
            match outcome {
                Outcome::Ready(State::NotDone) => break,
                Outcome::Ready(State::Abandoned) => panic!("{ABANDONED}"),
                Outcome::Ready(_) => return Run::Done,
                Outcome::Unparked(_) => {}
                Outcome::GaveUp => return Run::GaveUp,
            }
        }
        let running = Running { once: self };
        // Unwind safe: the panic is caught only to look at it.
        match panic::catch_unwind(AssertUnwindSafe(f)) {
            Ok(Ok(())) => {
                running.end(State::Done);
                Run::Done
            }
            Ok(Err(error)) => Run::Failed(error),
            Err(payload) => {
                if goby_runtime::is_goexit(&*payload) {
                    running.end(State::Abandoned);
                } else {
                    drop(running);
                }
                panic::resume_unwind(payload)
            }
        }
    }
}

/// Turns a function that does not fail into one that may.
fn always(f: impl FnOnce()) -> impl FnOnce() -> Result<(), Infallible> {
    || {
        f();
        Ok(())
    }
}

/// How a call ended.
enum Run<E> {
    Done,
    Failed(E),
    GaveUp,
}

/// The duty to leave [`State::Running`]. If a panic or a failure drops it, the state becomes
/// [`State::NotDone`].
struct Running<'a> {
    once: &'a Once,
}

impl Running<'_> {
    /// Records that the function has run to its end, or has ended its goroutine: none is run again.
    fn end(self, ended: State) {
        gives_back(ptr::from_ref(self.once).addr());
        self.once.queue.with(|state, _| {
            *state = ended;
            // Release pairs with the Acquire in `is_completed`.
            self.once.done.store(ended == State::Done, Ordering::Release);
        });
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.once.queue.with(|state, line| {
            if *state == State::Running {
                *state = State::NotDone;
            }
            line.unpark_all(LOOK_AGAIN);
        });
    }
}

impl Default for Once {
    fn default() -> Once {
        Once::new()
    }
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once").field("completed", &self.is_completed()).finish()
    }
}

/// A value that is made once, by the first that asks. Go: `sync.OnceValue`, in the form of a place.
///
/// It is std's `OnceLock`, except that a wait for the value parks the goroutine. A function that
/// panics or fails leaves the cell empty, and the next caller tries.
///
/// ```
/// use goby::sync::OnceCell;
///
/// static CONFIG: OnceCell<String> = OnceCell::new();
/// assert_eq!(CONFIG.get(), None);
/// assert_eq!(CONFIG.get_or_init(|| "first".to_string()), "first");
/// assert_eq!(CONFIG.get_or_init(|| "second".to_string()), "first");
/// ```
#[doc(alias = "OnceLock")]
pub struct OnceCell<T> {
    once: Once,
    /// Set only by the function that `once` runs, so nobody waits for it.
    value: OnceLock<T>,
}

impl<T> OnceCell<T> {
    /// Makes an empty cell.
    ///
    /// ```
    /// assert_eq!(goby::sync::OnceCell::<u8>::new().get(), None);
    /// ```
    pub const fn new() -> OnceCell<T> {
        OnceCell { once: Once::new(), value: OnceLock::new() }
    }

    /// Returns the value, if there is one already.
    ///
    /// ```
    /// let cell = goby::sync::OnceCell::from(3);
    /// assert_eq!(cell.get(), Some(&3));
    /// ```
    #[inline]
    pub fn get(&self) -> Option<&T> {
        // It asks `once`, and not `value` alone: std's own ordering is invisible to
        // ThreadSanitizer.
        if self.once.is_completed() { self.value.get() } else { None }
    }

    /// Waits until some caller has made a value, and returns it.
    ///
    /// # Blocking
    ///
    /// Parks the goroutine (an OS thread sleeps) until then; forever, if nobody makes one.
    ///
    /// # Panics
    ///
    /// If a function that should make it ended its goroutine by [`goexit`](crate::goexit).
    ///
    /// ```
    /// let cell = goby::sync::OnceCell::new();
    /// goby::scope(|s| {
    ///     s.go(|| cell.set(7));
    ///     assert_eq!(*cell.wait(), 7);
    /// });
    /// ```
    pub fn wait(&self) -> &T {
        self.once.wait();
        self.get().expect("the function that was done set the value")
    }

    /// Waits as [`wait`](OnceCell::wait) does, until `ctx` is done.
    ///
    /// # Errors
    ///
    /// The context's error, if it is done before there is a value.
    ///
    /// ```
    /// use goby::{Context, sync::OnceCell};
    ///
    /// assert_eq!(OnceCell::from(7).wait_ctx(&Context::background()), Ok(&7));
    /// ```
    pub fn wait_ctx(&self, ctx: &Context) -> Result<&T, ContextError> {
        self.once.wait_ctx(ctx)?;
        Ok(self.get().expect("the function that was done set the value"))
    }

    /// Returns the value, which `f` makes if there is none yet.
    ///
    /// # Blocking
    ///
    /// Parks the goroutine while another caller's function runs. If `f` asks the same cell, it
    /// deadlocks.
    ///
    /// # Panics
    ///
    /// If `f` does. The cell then stays empty.
    ///
    /// ```
    /// let cell = goby::sync::OnceCell::new();
    /// assert_eq!(*cell.get_or_init(|| 1 + 1), 2);
    /// ```
    pub fn get_or_init(&self, f: impl FnOnce() -> T) -> &T {
        match self.get_or_try_init(|| Ok::<T, Infallible>(f())) {
            Ok(value) => value,
            Err(never) => match never {},
        }
    }

    /// Returns the value, which `f` makes if there is none yet, unless `f` fails.
    ///
    /// # Errors
    ///
    /// That of `f`. The cell then stays empty.
    ///
    /// # Blocking
    ///
    /// As [`get_or_init`](OnceCell::get_or_init).
    ///
    /// ```
    /// let cell = goby::sync::OnceCell::new();
    /// assert!(cell.get_or_try_init(|| "x".parse::<i32>()).is_err());
    /// assert_eq!(cell.get_or_try_init(|| "5".parse::<i32>()), Ok(&5));
    /// ```
    pub fn get_or_try_init<E>(&self, f: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        match self.init(Until::Forever, f) {
            Run::Failed(error) => Err(error),
            Run::Done | Run::GaveUp => Ok(self.get().expect("the function that was done set the value")),
        }
    }

    /// As [`get_or_init`](OnceCell::get_or_init), but waits for another caller's function only
    /// until `ctx` is done.
    ///
    /// # Errors
    ///
    /// The context's error, if it is done before there is a value. `f` itself, once begun, is not
    /// interrupted.
    ///
    /// ```
    /// use goby::{Context, sync::OnceCell};
    ///
    /// let cell = OnceCell::new();
    /// assert_eq!(cell.get_or_init_ctx(&Context::background(), || 1), Ok(&1));
    /// ```
    pub fn get_or_init_ctx(&self, ctx: &Context, f: impl FnOnce() -> T) -> Result<&T, ContextError> {
        if let Some(value) = self.get() {
            checkpoint();
            return Ok(value);
        }
        if let Some(error) = ctx.err() {
            return Err(error);
        }
        match self.init(Until::Done(ctx), || Ok::<T, Infallible>(f())) {
            Run::GaveUp => Err(done_error(ctx)),
            Run::Done => Ok(self.get().expect("the function that was done set the value")),
        }
    }

    /// Makes the value with `f` if there is none.
    #[inline]
    fn init<E>(&self, until: Until<'_>, f: impl FnOnce() -> Result<T, E>) -> Run<E> {
        self.once.run(until, || {
            let value = f()?;
            // `once` lets in one function at a time, and none after one that got here. So the place
            // is empty.
            assert!(self.value.set(value).is_ok(), "once cell set twice");
            Ok(())
        })
    }

    /// Puts a value in, if there is none yet.
    ///
    /// # Errors
    ///
    /// The refused value, if there was one.
    ///
    /// # Blocking
    ///
    /// As [`get_or_init`](OnceCell::get_or_init).
    ///
    /// ```
    /// let cell = goby::sync::OnceCell::new();
    /// assert_eq!(cell.set(1), Ok(()));
    /// assert_eq!(cell.set(2), Err(2));
    /// ```
    pub fn set(&self, value: T) -> Result<(), T> {
        let mut refused = Some(value);
        self.get_or_init(|| refused.take().expect("a once cell calls its function once"));
        refused.map_or(Ok(()), Err)
    }

    /// Returns the value to change, if there is one. Nobody else has the cell.
    ///
    /// ```
    /// let mut cell = goby::sync::OnceCell::from(1);
    /// *cell.get_mut().unwrap() = 2;
    /// assert_eq!(cell.into_inner(), Some(2));
    /// ```
    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.value.get_mut()
    }

    /// Takes the value out, if there is one.
    ///
    /// ```
    /// assert_eq!(goby::sync::OnceCell::from("v").into_inner(), Some("v"));
    /// ```
    pub fn into_inner(self) -> Option<T> {
        self.value.into_inner()
    }
}

impl<T> Default for OnceCell<T> {
    fn default() -> OnceCell<T> {
        OnceCell::new()
    }
}

impl<T> From<T> for OnceCell<T> {
    fn from(value: T) -> OnceCell<T> {
        let cell = OnceCell::new();
        let _ = cell.set(value);
        cell
    }
}

impl<T: fmt::Debug> fmt::Debug for OnceCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OnceCell").field(&self.get()).finish()
    }
}
