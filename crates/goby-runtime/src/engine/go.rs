//! Starting goroutines and joining them.

use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::panic::Location;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::base::tsan;
use crate::engine::attributes::Inherited;
use crate::engine::birth::{Birth, Detached, Joined};
use crate::engine::checkpoint::{checkpoint, polled, refused};
use crate::engine::current::current_shared;
use crate::engine::goroutine::{Goroutine, GoroutineId};
use crate::engine::join_error::JoinError;
use crate::engine::settings::{MAX_STACK, MIN_STACK};
use crate::engine::worker::Worker;
use crate::engine::{attributes, goroutine};

/// Starts a goroutine that runs `f`, and returns a handle to join it. Dropping the handle detaches
/// the goroutine.
///
/// It may be called from anywhere: a goroutine, `main`, any OS thread. The goroutine runs on the
/// caller's runtime, or on the default one, which is started by its first use. Once the goroutine
/// has begun to run it stays on its OS thread, so it may hold values that are not `Send` across any
/// blocking call. Source: Go's `go` statement.
///
/// ```
/// let handle = goby::go(|| 6 * 7);
/// assert_eq!(handle.join().unwrap(), 42);
/// ```
///
/// # Panics
///
/// A panic of `f` stays in its goroutine and comes out of [`JoinHandle::join`]; when nobody joins,
/// it is printed.
#[track_caller]
pub fn go<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    checkpoint();
    // SAFETY: `F` and `T` borrow nothing.
    unsafe { Birth::<Joined>::at(Location::caller()).start(current_shared(), f) }
}

/// Starts a goroutine that nobody joins; reports name `started_at` as its start place.
#[doc(hidden)]
pub fn go_detached_at<F>(started_at: &'static Location<'static>, f: F)
where
    F: FnOnce() + Send + 'static,
{
    // SAFETY: `F` borrows nothing.
    unsafe { Birth::<Detached>::at(started_at).start(current_shared(), f) }
}

/// What a goroutine inherits from its starter, kept for a goroutine that is started later: by a
/// timer, or where a context is canceled.
#[doc(hidden)]
#[derive(Clone)]
pub struct Heritage(pub(super) Option<Arc<Inherited>>);

impl Heritage {
    /// Returns the heritage of a goroutine that the caller would start now.
    #[inline]
    pub fn of_caller() -> Heritage {
        Heritage(attributes::to_inherit(Worker::current()))
    }

    /// Returns the same with labels, which replace those with the same keys.
    fn labeled(self, labels: Vec<(Arc<str>, Arc<str>)>) -> Heritage {
        if labels.is_empty() {
            return self;
        }
        let mut changed = self.0.as_deref().cloned().unwrap_or_default();
        labels.into_iter().for_each(|(key, value)| changed.set_label(key, value));
        Heritage(Some(Arc::new(changed)))
    }

    /// Starts a goroutine as [`go_detached_at`] does, with this heritage.
    pub fn go_detached_at<F>(self, started_at: &'static Location<'static>, f: F)
    where
        F: FnOnce() + Send + 'static,
    {
        // SAFETY: `F` borrows nothing.
        unsafe { Birth::<Detached>::at(started_at).inheriting(self).start(current_shared(), f) }
    }
}

impl fmt::Debug for Heritage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Heritage(..)")
    }
}

/// Starts a goroutine as [`go`] does, unless the runtime has as many goroutines as its builder
/// allows.
///
/// ```
/// let runtime = goby::Runtime::builder().workers(1).max_goroutines(1).build()?;
/// runtime.run(|| {
///     let refused = goby::try_go(|| "work").unwrap_err();
///     assert_eq!(refused.into_inner()(), "work");
/// });
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// [`TryGoError`] with the closure, when the limit is reached.
#[track_caller]
pub fn try_go<F, T>(f: F) -> Result<JoinHandle<T>, TryGoError<F>>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    checkpoint();
    let shared = current_shared();
    if !shared.has_room() {
        refused();
        return Err(TryGoError { closure: f, limit: shared.max_goroutines().unwrap_or(usize::MAX) });
    }
    // SAFETY: `F` and `T` borrow nothing.
    Ok(unsafe { Birth::<Joined>::at(Location::caller()).start(shared, f) })
}

/// A goroutine that was refused, with its closure.
pub struct TryGoError<F> {
    closure: F,
    limit: usize,
}

impl<F> TryGoError<F> {
    /// Returns the closure.
    pub fn into_inner(self) -> F {
        self.closure
    }
}

impl<F> fmt::Debug for TryGoError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TryGoError").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl<F> fmt::Display for TryGoError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the runtime's limit of {} goroutines is reached", self.limit)
    }
}

impl<F> std::error::Error for TryGoError<F> {}

/// Starts goroutines with a name and labels, for dumps and reports, or with a stack of another
/// size. These cost nothing for plain [`go`].
///
/// Source: `std::thread::Builder`; labels are those of Go's `pprof`.
///
/// ```
/// use goby::goroutine::{Builder, labels, name};
///
/// let handle = Builder::new().name("fetcher").label("host", "example.org").go(|| (name(), labels()));
/// let (name, labels) = handle.join().unwrap();
/// assert_eq!(name.as_deref(), Some("fetcher"));
/// assert_eq!(labels, [("host".to_string(), "example.org".to_string())]);
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until it starts a goroutine"]
pub struct GoBuilder {
    name: Option<Arc<str>>,
    labels: Vec<(Arc<str>, Arc<str>)>,
    stack_size: Option<usize>,
}

impl GoBuilder {
    /// Starts with neither name nor labels, and with the runtime's size of stacks.
    pub fn new() -> GoBuilder {
        GoBuilder::default()
    }

    /// Names the goroutine. Its children do not inherit the name.
    pub fn name(mut self, name: impl Into<String>) -> GoBuilder {
        self.name = Some(name.into().into());
        self
    }

    /// Adds a label, or replaces the inherited label with this key. The goroutine's children
    /// inherit it.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> GoBuilder {
        self.labels.push((key.into().into(), value.into().into()));
        self
    }

    /// Sets the size of the goroutine's stack: the bytes that it may use, rounded up to whole
    /// pages. A guard of 64 KiB comes on top. Its children do not inherit it. Default: the
    /// runtime's, see [`Builder::stack_size`](crate::Builder::stack_size).
    ///
    /// Such a stack is mapped and unmapped for its goroutine (about 10 µs), whereas other stacks
    /// are used again and again. It is for the few goroutines that need it, for a deep recursion or
    /// a large value.
    ///
    /// ```
    /// use goby::goroutine::Builder;
    ///
    /// fn depth(n: u64) -> u64 {
    ///     let frame = std::hint::black_box([n; 100]);
    ///     if n == 0 { 0 } else { depth(n - 1) + frame[99] / n }
    /// }
    ///
    /// // Some 20 MB of frames.
    /// let handle = Builder::new().stack_size(64 << 20).go(|| depth(20_000));
    /// assert_eq!(handle.join().unwrap(), 20_000);
    /// ```
    pub fn stack_size(mut self, bytes: usize) -> GoBuilder {
        self.stack_size = Some(bytes);
        self
    }

    /// Starts a goroutine as [`go`] does.
    ///
    /// # Panics
    ///
    /// If [`stack_size`](GoBuilder::stack_size) is not between 16 KiB and 1 GiB, or the system has
    /// no such stack. As with [`go`], a panic of `f` stays in its goroutine.
    #[track_caller]
    pub fn go<F, T>(self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        checkpoint();
        let GoBuilder { name, labels, stack_size } = self;
        let shared = current_shared();
        let own_stack = stack_size.map(|bytes| {
            let is_valid = (MIN_STACK..=MAX_STACK).contains(&bytes);
            assert!(is_valid, "stack_size: {bytes} is not between {MIN_STACK} and {MAX_STACK} bytes");
            match shared.stacks.pool.take_own(bytes) {
                Ok(own) => own,
                Err(error) => panic!("no stack of {bytes} bytes for a goroutine: {error}"),
            }
        });
        attributes::can_be_shown();
        let heritage = {
            let _ignore = tsan::ignore();
            Heritage::of_caller().labeled(labels)
        };
        let birth = Birth::<Joined>::at(Location::caller()).inheriting(heritage).named(name).on(own_stack);
        // SAFETY: `F` and `T` borrow nothing.
        unsafe { birth.start(shared, f) }
    }
}

/// Owns the right to join a goroutine. Dropping it detaches the goroutine.
pub struct JoinHandle<T> {
    g: NonNull<Goroutine>,
    _result: PhantomData<T>,
}

// SAFETY: the handle gives access only to the result, which is Send, and to atomic words.
unsafe impl<T: Send> Send for JoinHandle<T> {}
// SAFETY: a reference to the handle gives no access to the result.
unsafe impl<T> Sync for JoinHandle<T> {}

impl<T> JoinHandle<T> {
    pub(crate) fn new(g: NonNull<Goroutine>) -> JoinHandle<T> {
        JoinHandle { g, _result: PhantomData }
    }

    /// Waits until the goroutine has ended, and returns its result.
    ///
    /// ```
    /// let failed = goby::go(|| -> u8 { panic!("no luck") }).join().unwrap_err();
    /// assert_eq!(*failed.downcast_ref::<&str>().unwrap(), "no luck");
    /// ```
    ///
    /// # Blocking
    ///
    /// The goroutine, or the OS thread.
    ///
    /// # Errors
    ///
    /// [`JoinError`] with the payload of its panic, if it panicked, or with
    /// [`Goexit`](crate::Goexit).
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub fn join(self) -> Result<T, JoinError> {
        checkpoint();
        let g = mem::ManuallyDrop::new(self).g;
        // SAFETY: this is the handle of a goroutine with this result type, and it is used up.
        unsafe { goroutine::join(g) }.map_err(JoinError::new)
    }

    /// Returns whether the goroutine has ended: [`join`](JoinHandle::join) would not wait.
    pub fn is_finished(&self) -> bool {
        polled();
        // SAFETY: the handle holds the record.
        goroutine::has_ended(unsafe { self.g.as_ref() })
    }

    /// Returns the goroutine's id.
    pub fn id(&self) -> GoroutineId {
        // SAFETY: the handle holds the record.
        unsafe { self.g.as_ref() }.id
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        // SAFETY: this is the handle, and it is used up.
        unsafe { goroutine::detach(self.g) };
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("id", &self.id()).finish_non_exhaustive()
    }
}
