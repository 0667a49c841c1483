//! Futures that need tokio, in goby's goroutines.
//!
//! What reqwest, sqlx, tonic, redis or async-nats returns is a future that needs tokio's reactor:
//! its sockets, its timers, its tasks. [`block_on`] runs it from any goroutine, as a plain call
//! that parks the goroutine. [`block_on_ctx`] gives up when a context is done. [`spawn`] runs one
//! beside the goroutines.
//!
//! ```
//! use std::time::Duration;
//!
//! // 100 goroutines, which all wait for a timer of tokio's.
//! goby::scope(|scope| {
//!     for _ in 0..100 {
//!         scope.go(|| goby_tokio::block_on(tokio_sleep(Duration::from_millis(5))));
//!     }
//! });
//!
//! async fn tokio_sleep(time: Duration) {
//!     tokio::time::sleep(time).await;
//! }
//! ```
//!
//! # What runs where
//!
//! | what | where |
//! |---|---|
//! | the future of [`block_on`] | polled on the goroutine's own stack, so it need be neither `Send` nor `'static`, and may borrow |
//! | the future of [`spawn`] | on goby's workers, as [`goby::spawn`]'s: a future that computes for long delays no socket of tokio's |
//! | tokio's sockets and timers, and what a crate starts with `tokio::spawn` (the connections of reqwest, the pool of sqlx) | on the reactor's thread, `goby-tokio` |
//! | `tokio::task::spawn_blocking` | on threads of tokio's |
//!
//! There is one reactor thread, started on first use. [`set_default`] gives the program's own
//! runtime instead, or more threads ([`Bridge`]).
//!
//! Tokio is *entered* while a future is polled, and while it is dropped: so sockets, timers and
//! connection pools may be dropped in the middle, by a context or a panic. It is not entered in
//! between.
//!
//! # Values that need tokio where they are dropped
//!
//! A transaction of sqlx's, and a connection out of its pool, start a task of tokio's when they are
//! dropped. Outside of a future they panic there instead. A `?` does that, and hides its error; a
//! panic does it while it unwinds, and so aborts the process. Therefore put the whole transaction
//! into one `block_on(async { … })`:
//!
//! ```text
//! block_on(async {
//!     let mut transaction = pool.begin().await?;
//!     sqlx::query("…").execute(&mut *transaction).await?;
//!     transaction.commit().await
//! })?;
//! ```
//!
//! Where such a value has to live longer than one future, put it into an [`Entered`] at once. That
//! drops it with tokio entered, whatever ends its scope.
//!
//! # What it waits for
//!
//! A goroutine that waits here is `[tokio]` in dumps. It waits for something outside goby, so it is
//! no leak, and no deadlock is reported: while there is a thread of tokio's, that may wake anybody.
//!
//! # Blocking calls in a future
//!
//! A future may call what parks a goroutine, as a channel's `recv`, though `recv_async` is better:
//! it lets the future's other branches go on. Tokio's own `Runtime::block_on` or `Handle::block_on`
//! in a goroutine blocks the worker, with all goroutines that are pinned to it; goby reports it as
//! a stall after 100 ms, with its place. Write [`block_on`] instead, which may be nested.
//!
//! What tokio keeps in thread-locals for the length of a poll is the worker's. While a goroutine is
//! parked inside a poll its neighbors on that worker see it, and it sees theirs when it goes on:
//!
//! | in a poll that parks | what happens | instead |
//! |---|---|---|
//! | a value of `tokio::task_local!` | after the wait the future may have a neighbor's value, and keep it in later polls, as the neighbor does with this one's | `recv_async` and its like, or [`goby::goroutine::Local`] |
//! | two [`Bridge`]s | see [`Bridge`](Bridge#two-runtimes) | the same |
//! | tokio's own `block_on`, whose future parks | the neighbors' [`block_on`] panics with "Cannot start a runtime from within a runtime" until it has returned | [`block_on`], or `goby::blocking` around tokio's |
//!
//! A future that only awaits has none of this.
//!
//! In a *task of tokio's* (`tokio::spawn`) there is no goroutine to park. There [`block_on`] panics
//! as tokio's does, with "Cannot start a runtime from within a runtime": await the future, or call
//! `block_on` in `spawn_blocking`.
//!
//! # The end of the program
//!
//! When `main` returns, the process ends, and with it the reactor's thread. Tasks of tokio's that
//! still run are not waited for, nor dropped, as goroutines are not. Close what has to be closed
//! (`pool.close()`, `client.flush()`) in a [`block_on`] before. A [`Bridge`] to a runtime of the
//! program's own is shut down by that runtime; a future that uses it afterwards panics, with
//! tokio's words.

#![forbid(unsafe_code)]

mod bridge;
mod entered;
mod task;
mod value;

use std::future::Future;

use goby::Context;
use goby::context::ContextError;
use tokio::runtime::Handle;

pub use bridge::{Bridge, SetDefaultError, set_default};
pub use task::{JoinError, JoinHandle};
pub use value::Entered;

/// Runs a future that needs tokio to its end, parking the goroutine whenever it is pending.
///
/// On an OS thread it puts the thread to sleep. It may be nested.
///
/// ```
/// use tokio::net::TcpListener;
///
/// let listener = goby_tokio::block_on(TcpListener::bind("127.0.0.1:0"))?;
/// assert!(listener.local_addr()?.ip().is_loopback());
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Blocking
///
/// The goroutine, or the OS thread.
///
/// # Panics
///
/// As the future does. In a task of tokio's, where the future is to be awaited: with tokio's words
/// "Cannot start a runtime from within a runtime". If the reactor's thread cannot be started.
#[track_caller]
pub fn block_on<F: Future>(future: F) -> F::Output {
    bridge::default_bridge().block_on(future)
}

/// Runs a future as [`block_on`] does, until `ctx` is done: then the future is dropped.
///
/// ```
/// use goby::{Context, context::ContextError};
/// use std::time::Duration;
///
/// let (ctx, _cancel) = Context::background().with_timeout(Duration::from_millis(5));
/// let late = goby_tokio::block_on_ctx(&ctx, async { tokio::time::sleep(Duration::from_secs(60)).await });
/// assert_eq!(late, Err(ContextError::DeadlineExceeded));
/// ```
///
/// # Blocking
///
/// The goroutine, or the OS thread.
///
/// # Panics
///
/// As [`block_on`].
///
/// # Errors
///
/// The context's error, if `ctx` was done before the future; at once if it is done already.
///
/// # Cancellation
///
/// The future is dropped while it is pending, so this is as good as the future's own cancellation:
/// reqwest closes the connection. A pool of sqlx's keeps its own until the server has answered, and
/// then lends it again: meanwhile the query goes on there, and the connection is missing in the
/// pool. So bound a query at the server, too, by PostgreSQL's `statement_timeout` for example. A
/// `&mut` of a future keeps the future.
#[track_caller]
pub fn block_on_ctx<F: Future>(ctx: &Context, future: F) -> Result<F::Output, ContextError> {
    bridge::default_bridge().block_on_ctx(ctx, future)
}

/// Runs a future that needs tokio beside the goroutines, on goby's workers, as [`goby::spawn`]
/// does. It must not block: inside it, await.
///
/// ```
/// use std::time::Duration;
///
/// let task = goby_tokio::spawn(async {
///     tokio::time::sleep(Duration::from_millis(1)).await;
///     42
/// });
/// assert_eq!(task.join().unwrap(), 42);
/// ```
///
/// It does not run on the reactor's thread: there, a future that computes would delay every socket.
/// For a task of tokio's write [`handle`]`().spawn(future)`.
///
/// # Panics
///
/// If the reactor's thread cannot be started. A panic of the future comes out of
/// [`JoinHandle::join`].
#[track_caller]
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    bridge::default_bridge().spawn(future)
}

/// Calls `f` with tokio entered: for what is not async, but needs tokio's reactor.
///
/// It takes a function, since a guard across a wait would be the worker's, and so its neighbors'.
///
/// ```
/// let timer = goby_tokio::enter(|| tokio::time::sleep(std::time::Duration::from_millis(1)));
/// goby_tokio::block_on(timer);
/// ```
///
/// # Panics
///
/// If the reactor's thread cannot be started.
#[track_caller]
pub fn enter<R>(f: impl FnOnce() -> R) -> R {
    bridge::default_bridge().enter(f)
}

/// Returns the handle of tokio's runtime that the functions of this crate use.
///
/// ```
/// let task = goby_tokio::handle().spawn(async { 6 * 7 });
/// assert_eq!(goby_tokio::block_on(task).unwrap(), 42);
/// ```
///
/// # Panics
///
/// If the reactor's thread cannot be started.
#[track_caller]
pub fn handle() -> &'static Handle {
    bridge::default_bridge().handle()
}
