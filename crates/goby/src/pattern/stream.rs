//! Tasks that run at the same time, with callbacks that run one after the other.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

use super::order::{Order, Ticket};
use crate::context::{Context, ContextError};
use crate::sync::{FirstPanic, WaitGroup};

/// Runs tasks at the same time, up to a limit, and their callbacks one at a time, in the order in
/// which the tasks were given.
///
/// A task computes and returns a callback. The callback may then write to a file, say, without a
/// lock. For a channel of results see [`par_map`](super::par_map).
///
/// A task that was begun is finished, also when the context gets done. Callbacks that have not
/// begun by then are dropped. Dropping the stream stops nothing: tasks and callbacks go on to their
/// end.
///
/// ```
/// use goby::sync::Mutex;
/// use goby::{Context, pattern, time};
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// let lines = Arc::new(Mutex::new(vec![]));
/// let stream = pattern::Stream::new(&Context::background(), 10);
/// for ms in [5, 1, 3] {
///     let lines = lines.clone();
///     stream.go(move || {
///         time::sleep(Duration::from_millis(ms));
///         move || lines.lock().push(ms)
///     })?;
/// }
/// stream.wait();
/// assert_eq!(*lines.lock(), [5, 1, 3]);
/// # Ok::<(), goby::context::ContextError>(())
/// ```
///
/// In Go (and, ready-made, `conc`'s `stream.Stream`):
///
/// ```go
/// pending := make(chan chan func(), limit)
/// go func() {
///     for callback := range pending {
///         (<-callback)()
///     }
/// }()
/// submit := func(task func() func()) {
///     callback := make(chan func(), 1)
///     pending <- callback // waits while limit are there
///     go func() { callback <- task() }()
/// }
/// ```
#[derive(Debug)]
pub struct Stream {
    shared: Arc<Shared>,
    tasks: WaitGroup,
}

#[derive(Debug)]
struct Shared {
    ctx: Context,
    order: Order,
    panic: FirstPanic,
}

impl Stream {
    /// Makes a stream that runs `limit` tasks at a time, until `ctx` is done.
    ///
    /// # Panics
    ///
    /// If `limit` is 0.
    ///
    /// ```
    /// goby::pattern::Stream::new(&goby::Context::background(), 4).wait(); // Nothing to wait for.
    /// ```
    pub fn new(ctx: &Context, limit: usize) -> Stream {
        assert!(limit > 0, "pattern: a stream that runs nothing at a time never ends");
        let shared = Shared { ctx: ctx.clone(), order: Order::new(limit), panic: FirstPanic::default() };
        Stream { shared: Arc::new(shared), tasks: WaitGroup::new() }
    }

    /// Starts a task. Waits until fewer tasks than the limit run, and no more than the limit wait
    /// for their callbacks' turn.
    ///
    /// A panic of a task or a callback is raised by [`wait`](Stream::wait). Until then other tasks
    /// go on, but no later callback runs.
    ///
    /// ```
    /// let stream = goby::pattern::Stream::new(&goby::Context::background(), 1);
    /// stream.go(|| || println!("once"))?;
    /// stream.wait();
    /// # Ok::<(), goby::context::ContextError>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine, or puts the OS thread to sleep. If a callback of the same stream calls
    /// it, it may wait for itself.
    ///
    /// # Errors
    ///
    /// If the context is done: the task has not begun, and is dropped.
    #[track_caller]
    pub fn go<F, C>(&self, task: F) -> Result<(), ContextError>
    where
        F: FnOnce() -> C + Send + 'static,
        C: FnOnce() + Send + 'static,
    {
        let ticket = self.shared.order.enter(&self.shared.ctx)?;
        let shared = self.shared.clone();
        self.tasks.go(move || shared.run(task, ticket));
        Ok(())
    }

    /// Waits until all tasks and callbacks have ended. The stream can be used again.
    ///
    /// # Panics
    ///
    /// If a task or callback panicked since the last `wait`: with the first panic in the order of
    /// the tasks.
    ///
    /// # Blocking
    ///
    /// Parks the goroutine, or puts the OS thread to sleep.
    ///
    /// ```
    /// use std::panic::{AssertUnwindSafe, catch_unwind};
    ///
    /// let stream = goby::pattern::Stream::new(&goby::Context::background(), 1);
    /// stream.go(|| || panic!("no luck"))?;
    /// assert!(catch_unwind(AssertUnwindSafe(|| stream.wait())).is_err());
    /// stream.wait(); // All is well again.
    /// # Ok::<(), goby::context::ContextError>(())
    /// ```
    pub fn wait(&self) {
        self.tasks.wait();
        self.shared.panic.raise_once();
    }
}

impl Shared {
    fn run<C: FnOnce()>(&self, task: impl FnOnce() -> C, mut ticket: Ticket) {
        // Unwind safe: what tasks and callbacks share is behind their own locks.
        let callback = panic::catch_unwind(AssertUnwindSafe(task));
        ticket.wait();
        let result = match callback {
            Ok(_) if self.ctx.is_done() || self.panic.is_kept() => Ok(()),
            Ok(callback) => panic::catch_unwind(AssertUnwindSafe(callback)),
            Err(payload) => Err(payload),
        };
        if let Err(payload) = result {
            self.panic.keep(payload);
        }
    }
}

/// A panic that no `wait` has raised is reported as that of a goroutine that nobody joins.
impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(payload) = self.panic.take() {
            goby_runtime::go(|| panic::resume_unwind(payload));
        }
    }
}
