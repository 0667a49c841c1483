//! The bridge: a handle of tokio's, and the calls that use it.

use std::fmt;
use std::future::{self, Future};
use std::io;
use std::sync::OnceLock;

use goby::Context;
use goby::context::ContextError;
use tokio::runtime::{Builder, Handle};

use crate::entered::{self, EnteredFuture};
use crate::task::{self, JoinHandle};
use crate::value::Entered;

static DEFAULT: OnceLock<Bridge> = OnceLock::new();

/// The threads of the default bridge. What they do per request is to ask the poller and to run the
/// tasks that crates start; the program's futures run on goby's workers.
const THREADS: usize = 1;

/// Returns the default bridge, which is started if there is none.
///
/// The initializer waits for no goroutine, so it may run under a lock of std's.
#[track_caller]
pub(crate) fn default_bridge() -> Bridge {
    *DEFAULT.get_or_init(|| Bridge::start(THREADS).unwrap_or_else(|error| panic!("tokio cannot be started: {error}")))
}

/// A runtime of tokio's that goroutines use.
///
/// The functions of this crate use the default one. Another one is made from a handle, so that the
/// program has the runtime as it likes it, or has two. A bridge is a reference, and `Copy`.
///
/// ```
/// use goby_tokio::Bridge;
/// use std::time::Duration;
///
/// let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
/// let bridge = Bridge::new(tokio.handle().clone());
/// assert_eq!(bridge.block_on(async { tokio::spawn(async { 6 * 7 }).await.unwrap() }), 42);
/// tokio.shutdown_timeout(Duration::from_secs(1));
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Two runtimes
///
/// Which runtime is entered is the worker's, so while a future is parked inside a poll its runtime
/// is entered for the neighbors too, also in their plain code. Let a future of one bridge be parked
/// inside a poll, by a channel's `recv` say, while a neighbor's poll by another bridge begins, and
/// parks too. If the first goes on before the second, then until its poll ends:
///
/// - `Handle::current()` is the second runtime's. A socket, a timer or a task that the first future
///   makes there belongs to the second runtime, for as long as it lives, and fails when that
///   runtime is shut down.
/// - What it made before the wait stays with the first runtime, and so does all from its next poll
///   on.
///
/// A future that awaits, by `recv_async` say, is never on another runtime than its bridge's. So in
/// a program with two bridges, await in their futures, or give each runtime's work to
/// `bridge.handle().spawn(future)`.
#[derive(Clone, Copy)]
pub struct Bridge {
    handle: &'static Handle,
}

impl Bridge {
    /// Makes a bridge to a runtime that exists.
    ///
    /// The runtime must be driven by a thread of its own: one of `new_multi_thread` is, one of
    /// `new_current_thread` only while a thread is in its `block_on`. It must have its drivers, by
    /// `enable_all`. The handle is kept to the end of the process, so do not make bridges without
    /// end.
    pub fn new(handle: Handle) -> Bridge {
        Bridge { handle: Box::leak(Box::new(handle)) }
    }

    /// Starts a runtime with this many threads, which run to the end of the process.
    ///
    /// # Errors
    ///
    /// If a thread or the poller cannot be made.
    ///
    /// # Panics
    ///
    /// If `threads` is 0.
    pub fn start(threads: usize) -> io::Result<Bridge> {
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(threads).thread_name("goby-tokio").enable_all().build()?;
        let bridge = Bridge::new(runtime.handle().clone());
        // Its destructor would end the threads.
        std::mem::forget(runtime);
        Ok(bridge)
    }

    /// Does as [`block_on`](crate::block_on), on this runtime.
    #[track_caller]
    pub fn block_on<F: Future>(self, future: F) -> F::Output {
        refuse_in_a_task();
        goby::__tokio::block_on(EnteredFuture::new(self.handle, future))
    }

    /// Does as [`block_on_ctx`](crate::block_on_ctx), on this runtime.
    ///
    /// # Errors
    ///
    /// The context's error, if `ctx` was done before the future.
    #[track_caller]
    pub fn block_on_ctx<F: Future>(self, ctx: &Context, future: F) -> Result<F::Output, ContextError> {
        refuse_in_a_task();
        goby::__tokio::block_on_ctx(ctx, EnteredFuture::new(self.handle, future))
    }

    /// Does as [`spawn`](crate::spawn), on this runtime.
    pub fn spawn<F>(self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        task::spawn(EnteredFuture::new(self.handle, future))
    }

    /// Does as [`enter`](crate::enter), on this runtime.
    pub fn enter<R>(self, f: impl FnOnce() -> R) -> R {
        entered::enter(self.handle, f)
    }

    /// Wraps `value` as [`Entered::new`] does, to be dropped with this runtime entered.
    pub fn entered<T>(self, value: T) -> Entered<T> {
        Entered::with_bridge(self, value)
    }

    /// Returns tokio's handle.
    pub fn handle(self) -> &'static Handle {
        self.handle
    }
}

impl fmt::Debug for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bridge").field("runtime", &self.handle.id()).finish()
    }
}

/// Panics where the calling thread drives a runtime of tokio's: its sockets and timers would wait
/// for this call, and this call for them. Tokio knows where that is, and says it.
#[track_caller]
pub(crate) fn refuse_in_a_task() {
    // Where nothing is entered no runtime is driven. Any handle asks the thread.
    if let Ok(handle) = Handle::try_current() {
        handle.block_on(future::ready(()));
    }
}

/// Makes `bridge` the default one, which the functions of this crate use.
///
/// To be called at the beginning of `main`, before anything has used the default bridge.
///
/// ```
/// use goby_tokio::Bridge;
///
/// goby_tokio::set_default(Bridge::start(2)?)?;
/// goby_tokio::block_on(async {});
/// // It is in use.
/// assert!(goby_tokio::set_default(Bridge::start(1)?).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`SetDefaultError`], with the bridge, if there is a default one already.
pub fn set_default(bridge: Bridge) -> Result<(), SetDefaultError> {
    DEFAULT.set(bridge).map_err(SetDefaultError)
}

/// The default bridge was in use, or set, already. It has the bridge that was refused.
#[derive(Clone, Copy, Debug)]
pub struct SetDefaultError(pub Bridge);

impl fmt::Display for SetDefaultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("goby-tokio's default bridge is in use already: set it at the beginning of main")
    }
}

impl std::error::Error for SetDefaultError {}
