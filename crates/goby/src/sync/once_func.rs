//! Functions that run once: a [`OnceCell`] with the function that makes its value.
//!
//! The first call takes the function out and uses it up, so the captured values are dropped when
//! the function ends, however it ends. After a panic the cell records that there is no value. The
//! message is kept for the calls that follow.

use std::panic::{self, AssertUnwindSafe, RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

use parking_lot::Mutex;

use super::first_panic::{FirstPanic, message_of};
use super::once::OnceCell;

/// Makes a function that runs `f` the first time it is called. Go: `sync.OnceFunc`.
///
/// Clones are the same function: `f` runs once for all of them, and its captured values are dropped
/// then.
///
/// # Panics
///
/// If `f` panics in the first call, every call panics: the first with the panic of `f`, the others
/// with its message. If `f` ended its goroutine by [`goexit`](crate::goexit), all other calls
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

/// Makes a function that returns the value which `f` made the first time. Go: `sync.OnceValue` and,
/// since a value may be a tuple, `sync.OnceValues`.
///
/// Clones are the same function, and the captured values of `f` are dropped when it has run, as
/// with [`once_func`]. To avoid cloning the value use [`OnceCell`].
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
        // This goroutine panics already, and has to be told all the same.
        None => panic!("sync: the function that was to make the value panicked"),
    }
}

/// A function, and the value that it made.
struct Deferred<F, T> {
    /// The function, until the first call. Locked to take it out, never while it runs.
    f: Mutex<Option<F>>,
    /// `None` if it panicked.
    made: OnceCell<Option<T>>,
    panic: FirstPanic,
}

impl<T, F: FnOnce() -> T> Deferred<F, T> {
    fn new(f: F) -> Arc<Deferred<F, T>> {
        Arc::new(Deferred { f: Mutex::new(Some(f)), made: OnceCell::new(), panic: FirstPanic::default() })
    }

    /// Returns the value, or raises the panic. Returns `None` if the function panicked and this
    /// goroutine panics already.
    fn call(&self) -> Option<&T> {
        let mut panicked = None;
        let made = self.made.get_or_init(|| {
            let f = self.f.lock().take().expect("a once cell that has a value calls no function");
            // Unwind safe: the function is used up, and its panic goes on below.
            match panic::catch_unwind(AssertUnwindSafe(f)) {
                Ok(value) => Some(value),
                // This is no end of the function: the cell is abandoned.
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

// A panic leaves it as whole as a return does: keeping the panic is its purpose.
impl<F, T> UnwindSafe for Deferred<F, T> {}
impl<F, T> RefUnwindSafe for Deferred<F, T> {}
