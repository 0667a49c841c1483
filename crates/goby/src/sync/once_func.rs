//! Functions that run once: a [`OnceCell`] with the function that makes its value.
//!
//! The function is taken out by the first call and used up by it, so what it has captured is
//! dropped at its end, however it ends. After a panic the cell holds that there is no value; the
//! message is kept for the calls that follow.

use std::panic::{self, AssertUnwindSafe, RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

use parking_lot::Mutex;

use super::first_panic::{FirstPanic, message_of};
use super::once::OnceCell;

/// Makes a function that runs `f` the first time it is called. Go: `sync.OnceFunc`.
///
/// Clones are the same function: `f` runs once for all of them, and what it captured is dropped
/// then.
///
/// # Panics
///
/// The function panics in every call if `f` did in the first: that one with the panic of `f`, the
/// others with its message. If `f` ended its goroutine by [`goexit`](crate::goexit), all others
/// panic, and say so.
///
/// ```
/// use std::sync::atomic::{AtomicU32, Ordering};
///
/// static OPENED: AtomicU32 = AtomicU32::new(0);
/// let open = goby::sync::once_func(|| {
///     OPENED.fetch_add(1, Ordering::Relaxed);
/// });
/// let same = open.clone();
/// open();
/// same();
/// assert_eq!(OPENED.load(Ordering::Relaxed), 1);
/// ```
#[doc(alias("sync.OnceFunc", "OnceFunc"))]
pub fn once_func<F: FnOnce()>(f: F) -> impl Fn() + Clone {
    let shared = Deferred::new(f);
    move || _ = shared.call()
}

/// Makes a function that gives the value which `f` made the first time. Go: `sync.OnceValue`, and,
/// as a value may be a tuple, `sync.OnceValues`.
///
/// Clones are the same function, and what `f` captured is dropped when it has run, as with
/// [`once_func`]. Where cloning the value is not wanted use [`OnceCell`].
///
/// # Panics
///
/// As [`once_func`]. To try again after a panic use [`OnceCell::get_or_init`].
///
/// ```
/// let pair = goby::sync::once_value(|| ("one", 2));
/// assert_eq!((pair(), pair()), (("one", 2), ("one", 2)));
/// ```
#[doc(alias("sync.OnceValue", "OnceValue", "OnceValues"))]
pub fn once_value<T: Clone, F: FnOnce() -> T>(f: F) -> impl Fn() -> T + Clone {
    let shared = Deferred::new(f);
    move || match shared.call() {
        Some(value) => value.clone(),
        // In a goroutine that panics already, which has to be told all the same.
        None => panic!("sync: the function that was to make the value panicked"),
    }
}

/// A function, and what it made.
struct Deferred<F, T> {
    /// Until the first call. Locked to take it out, never while it runs.
    f: Mutex<Option<F>>,
    /// `None` if it panicked.
    made: OnceCell<Option<T>>,
    panic: FirstPanic,
}

impl<T, F: FnOnce() -> T> Deferred<F, T> {
    fn new(f: F) -> Arc<Deferred<F, T>> {
        Arc::new(Deferred { f: Mutex::new(Some(f)), made: OnceCell::new(), panic: FirstPanic::default() })
    }

    /// Gives the value, or goes on with the panic; `None` if it panicked and this goroutine panics
    /// already.
    fn call(&self) -> Option<&T> {
        let mut panicked = None;
        let made = self.made.get_or_init(|| {
            let f = self.f.lock().take().expect("a once cell that has a value calls no function");
            // Unwind safe: the function is used up, and its panic goes on below.
            match panic::catch_unwind(AssertUnwindSafe(f)) {
                Ok(value) => Some(value),
                // No end of the function: the cell is abandoned.
                Err(payload) if goby_runtime::is_goexit(&*payload) => panic::resume_unwind(payload),
                Err(payload) => {
                    self.panic.keep_message(message_of(&*payload).into(), None);
                    panicked = Some(payload);
                    None
                }
            }
        });
        if let Some(payload) = panicked {
            panic::resume_unwind(payload);
        }
        if made.is_none() {
            self.panic.raise();
        }
        made.as_ref()
    }
}

// A panic leaves it as whole as an end: that is what it keeps.
impl<F, T> UnwindSafe for Deferred<F, T> {}
impl<F, T> RefUnwindSafe for Deferred<F, T> {}
