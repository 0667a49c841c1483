//! Contexts: the goroutine that asked for some work may call it off, say when it is due, and send
//! values along.
//!
//! A [`Context`] is two shared chains, and cloning it counts two references:
//!
//! - the **cancel tree** (`node`): each `with_cancel`, `with_timeout`, `with_deadline` adds a node.
//!   The node knows its parent, and the parent knows it until it is done or dropped. Canceling
//!   walks down from a node, level by level. No lock is held while a waiter is woken, and no extra
//!   goroutine is needed.
//! - the **values** (`value`): each `with_value` adds a link. Values never change, so they need no
//!   lock, and a look-up passes no cancel node.
//!
//! Layers are numbered across both chains, only to print them in the order of nesting. A context
//! without a cancel node (the background, and each context derived from it by values alone) can
//! never be done and costs nothing to ask.
//!
//! A page of the guide shows how contexts are used, up to a server that shuts down in order:
//! [`contexts_and_shutdown`](crate::guide::contexts_and_shutdown).
//!
//! # Which calls a context ends
//!
//! A call of goby that waits has a form that takes a context, or is a case of [`select!`] beside
//! `recv(ctx.done())`. Three have neither: a join, a [`scope`](crate::scope) and
//! [`blocking`](crate::blocking) end with the goroutines or the function that they wait for, so it
//! is those that get the context. A call that takes a context fails at once if that is done
//! already, even if it would not have to wait. (Calls that only wait for an event report the event
//! first: [`WaitGroup`], [`Once`], [`OnceCell`], [`Latch`].) A lock, a value or a permit that a
//! call was granted while the context ended is not lost.
//!
//! | call | how a context ends it |
//! |---|---|
//! | channels: `send`, `recv` | [`select!`], or [`send_ctx`], [`recv_ctx`]. A value is delivered or comes back |
//! | channels from async code, [`block_on`] | [`block_on_ctx`] |
//! | [`select!`], [`Select`] | a case `recv(ctx.done())` |
//! | [`Mutex`] | [`lock_ctx`](crate::sync::Mutex::lock_ctx) |
//! | [`RwLock`] | [`read_ctx`](crate::sync::RwLock::read_ctx), [`write_ctx`](crate::sync::RwLock::write_ctx), [`upgradable_read_ctx`](crate::sync::RwLock::upgradable_read_ctx), [`upgrade_ctx`](crate::sync::RwLockUpgradableReadGuard::upgrade_ctx) |
//! | [`Cond`] | [`wait_ctx`](crate::sync::Cond::wait_ctx), [`wait_while_ctx`](crate::sync::Cond::wait_while_ctx) |
//! | [`Once`], [`OnceCell`] | [`call_once_ctx`](crate::sync::Once::call_once_ctx), [`get_or_init_ctx`](crate::sync::OnceCell::get_or_init_ctx): the wait for another caller's function, not the function; `wait_ctx` of both |
//! | [`WaitGroup`] | [`wait_ctx`](crate::sync::WaitGroup::wait_ctx): the goroutines go on, so give them the context too |
//! | [`Semaphore`] | [`acquire`](crate::sync::Semaphore::acquire) |
//! | [`Barrier`], [`Latch`] | [`wait_ctx`](crate::sync::Barrier::wait_ctx) |
//! | [`time::sleep`](crate::time::sleep) | [`sleep_ctx`](crate::time::sleep_ctx) |
//! | [`time::after`](crate::time::after), [`tick`](crate::time::tick), [`Timer`](crate::time::Timer), [`Ticker`](crate::time::Ticker) | they are channels |
//! | [`rate::Limiter`](crate::rate::Limiter) | [`wait`](crate::rate::Limiter::wait) always takes one; its tokens are given back |
//! | [`net::TcpStream`](crate::net::TcpStream), [`net::Dialer`](crate::net::Dialer): connecting | [`connect_ctx`](crate::net::TcpStream::connect_ctx), [`dial_ctx`](crate::net::Dialer::dial_ctx) |
//! | [`net::TcpListener`](crate::net::TcpListener), [`net::UdpSocket`](crate::net::UdpSocket): binding to a name | [`bind_ctx`](crate::net::TcpListener::bind_ctx) |
//! | … reading, writing | [`set_context`](crate::net::TcpStream::set_context), for all waits of the socket |
//! | [`net::TcpListener`](crate::net::TcpListener): `accept`, `incoming` | [`set_context`](crate::net::TcpListener::set_context) |
//! | [`io::copy`](crate::io::copy()), [`copy_bidirectional`](crate::io::copy_bidirectional) | those of its ends |
//! | [`net::look_up`](crate::net::look_up) | [`look_up_ctx`](crate::net::look_up_ctx); the system's look-up goes on beside it |
//! | [`io`](crate::io), [`process`](crate::process): pipes, standard input | [`set_context`](crate::io::PipeReader::set_context) |
//! | [`process::Command`](crate::process::Command) | [`spawn_ctx`](crate::process::Command::spawn_ctx), [`status_ctx`](crate::process::Command::status_ctx), [`output_ctx`](crate::process::Command::output_ctx): kill the child |
//! | … waiting for a child | [`wait_ctx`](crate::process::Child::wait_ctx); the child goes on |
//! | [`fs::File`](crate::fs::File) | [`set_context`](crate::fs::File::set_context): looked at before each call; ends one of a FIFO. [`open_ctx`](crate::fs::File::open_ctx) |
//! | other calls of [`fs`](crate::fs) | none: they end by themselves |
//! | HTTP (`goby-http`) | each request takes one; a handler has the request's, which ends when the response was sent or the client has gone |
//! | [`pattern`](crate::pattern) | each function takes one |
//! | [`group`](crate::group) | its first error cancels the context that it gives its goroutines; waiting for them ends with them |
//! | [`singleflight`](crate::singleflight) | `run_ctx`; the call goes on for the others |
//! | [`signal`](crate::signal) | `notify` gives a channel, `notify_context` a context |
//! | `join` of a [`JoinHandle`](crate::JoinHandle) | none: let the goroutine send its result through a channel, or count it in a [`WaitGroup`] |
//! | `join` of a [`Task`](crate::Task) | `block_on_ctx(&ctx, &mut task)` |
//! | [`scope`](crate::scope) | none, for its goroutines borrow: give the context to them |
//! | [`blocking`](crate::blocking) | none: nothing can stop a system call in the middle. To leave it behind, call it in a goroutine that sends the result |
//!
//! [`select!`]: crate::select!
//! [`Select`]: crate::chan::Select
//! [`send_ctx`]: crate::chan::Sender::send_ctx
//! [`recv_ctx`]: crate::chan::Receiver::recv_ctx
//! [`block_on`]: crate::block_on
//! [`Mutex`]: crate::sync::Mutex
//! [`RwLock`]: crate::sync::RwLock
//! [`Cond`]: crate::sync::Cond
//! [`Once`]: crate::sync::Once
//! [`OnceCell`]: crate::sync::OnceCell
//! [`WaitGroup`]: crate::sync::WaitGroup
//! [`Semaphore`]: crate::sync::Semaphore
//! [`Barrier`]: crate::sync::Barrier
//! [`Latch`]: crate::sync::Latch

// Files: this one has what users call; `block_on` awaits futures; `error` says how and why a
// context ended; `guard` has what users keep in order to cancel; `node` is the tree; `entries` has
// the children of a node; `value` has the values.
//
// From Go: `context/context.go`. Different here: cancel functions are guards that cancel when they
// are dropped; values are found by their type; nobody else can make a kind of context, so none
// needs a goroutine that watches it.

#![forbid(unsafe_code)]

use std::any::Any;
use std::convert::Infallible;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::chan::{self, Receiver};

mod block_on;
mod blocking;
mod entries;
mod error;
mod guard;
mod node;
mod value;

pub use block_on::block_on_ctx;
pub(crate) use block_on::block_on_ctx_for;
pub(crate) use blocking::blocking_ctx;
pub(crate) use error::cause_of;
#[cfg(feature = "tls")]
pub(crate) use error::is_limit;
pub(crate) use error::timed_out;
pub use error::{Cause, ContextError, IntoCause};
pub use guard::{AfterFunc, CancelCauseGuard, CancelGuard};
// The hook of the sockets and of `sync`, which wait for more than channels.
pub(crate) use guard::OnDone;

use node::{Deadline, Node};
use value::Link;

/// Carries cancellation, a deadline and values to all the goroutines that work for one purpose.
///
/// A context is a place in a tree, and cheap to clone. Deriving (`with_…`) makes a child, which is
/// done when its parent is, and may be done earlier. Pass a context as the first argument, by
/// reference; clone it into goroutines.
///
/// ```
/// use goby::{Context, chan, context::ContextError, select};
///
/// let (ctx, cancel) = Context::background().with_cancel();
/// let (tx, rx) = chan::bounded(0);
/// let worker = goby::go({
///     let ctx = ctx.clone();
///     move || {
///         let mut sent = 0;
///         loop {
///             select! {
///                 send(tx, sent) -> _ => sent += 1,
///                 recv(ctx.done()) -> _ => return ctx.err(),
///             }
///         }
///     }
/// });
/// assert_eq!(rx.recv(), Ok(0));
/// assert_eq!(rx.recv(), Ok(1));
/// cancel.cancel();
/// assert_eq!(worker.join().unwrap(), Some(ContextError::Canceled));
/// ```
///
/// Source: Go's `context.Context`.
#[doc(alias("context.Context", "CancellationToken"))]
#[derive(Clone, Default)]
pub struct Context {
    /// The nearest layer that can be canceled.
    node: Option<Arc<Node>>,
    /// The nearest value.
    values: Option<Arc<Link>>,
}

impl Context {
    /// Makes the context at the root of a tree: never done, without a deadline and without values.
    ///
    /// ```
    /// use goby::Context;
    /// let ctx = Context::background();
    /// assert_eq!(ctx.err(), None);
    /// assert_eq!(ctx.to_string(), "context.Background");
    /// ```
    ///
    /// Source: Go's `context.Background`.
    #[doc(alias("context.Background", "context.TODO", "TODO"))]
    pub const fn background() -> Context {
        Context { node: None, values: None }
    }

    /// Derives a context that is done when the guard cancels it or is dropped, or when this one is
    /// done.
    ///
    /// ```
    /// use goby::{Context, context::ContextError};
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// assert_eq!(ctx.err(), None);
    /// cancel.cancel();
    /// assert_eq!(ctx.err(), Some(ContextError::Canceled));
    ///
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// drop(cancel);
    /// assert_eq!(ctx.err(), Some(ContextError::Canceled));
    /// ```
    ///
    /// Source: Go's `context.WithCancel`.
    #[doc(alias("context.WithCancel", "WithCancel", "child_token"))]
    pub fn with_cancel(&self) -> (Context, CancelGuard) {
        let (ctx, node) = self.derive(None);
        (ctx, CancelGuard::new(node))
    }

    /// Derives a context like [`with_cancel`](Context::with_cancel). The guard can say why it
    /// cancels.
    ///
    /// ```
    /// use goby::{Context, context::{Cause, ContextError}};
    /// use std::{io, sync::Arc};
    /// let (ctx, cancel) = Context::background().with_cancel_cause();
    /// let disk_full: Cause = Arc::new(io::Error::from(io::ErrorKind::StorageFull));
    /// cancel.cancel(disk_full.clone());
    /// assert_eq!(ctx.err(), Some(ContextError::Canceled));
    /// assert!(Arc::ptr_eq(&ctx.cause().unwrap(), &disk_full));
    /// ```
    ///
    /// Source: Go's `context.WithCancelCause`.
    #[doc(alias("context.WithCancelCause", "WithCancelCause"))]
    pub fn with_cancel_cause(&self) -> (Context, CancelCauseGuard) {
        let (ctx, node) = self.derive(None);
        (ctx, CancelCauseGuard::new(node))
    }

    /// Derives a context that is also done `timeout` from now, with
    /// [`ContextError::DeadlineExceeded`].
    ///
    /// ```
    /// use goby::{Context, context::ContextError};
    /// use std::time::Duration;
    /// let (ctx, _cancel) = Context::background().with_timeout(Duration::from_millis(1));
    /// assert!(ctx.done().recv().is_err(), "closed, after a millisecond");
    /// assert_eq!(ctx.err(), Some(ContextError::DeadlineExceeded));
    /// ```
    ///
    /// Source: Go's `context.WithTimeout`.
    #[doc(alias("context.WithTimeout", "WithTimeout", "timeout"))]
    pub fn with_timeout(&self, timeout: Duration) -> (Context, CancelGuard) {
        self.with_deadline(crate::time::deadline_in(timeout))
    }

    /// Derives a context like [`with_timeout`](Context::with_timeout); `cause` is its cause if the
    /// time runs out.
    ///
    /// ```
    /// use goby::{Context, context::Cause};
    /// use std::{sync::Arc, time::Duration};
    /// let too_slow: Cause = Arc::new(std::fmt::Error);
    /// let (ctx, _cancel) = Context::background().with_timeout_cause(Duration::ZERO, too_slow.clone());
    /// assert!(Arc::ptr_eq(&ctx.cause().unwrap(), &too_slow));
    ///
    /// let (ctx, _cancel) = Context::background().with_timeout_cause(Duration::ZERO, "the cache was too slow");
    /// assert_eq!(ctx.cause().unwrap().to_string(), "the cache was too slow");
    /// ```
    ///
    /// Source: Go's `context.WithTimeoutCause`.
    #[doc(alias("context.WithTimeoutCause", "WithTimeoutCause"))]
    pub fn with_timeout_cause(&self, timeout: Duration, cause: impl IntoCause) -> (Context, CancelGuard) {
        self.with_deadline_cause(crate::time::deadline_in(timeout), cause)
    }

    /// Derives a context that is also done at `deadline`, with [`ContextError::DeadlineExceeded`].
    ///
    /// The earliest deadline on the way to the root counts. A deadline in the past makes a context
    /// that is done already.
    ///
    /// ```
    /// use goby::{Context, context::ContextError};
    /// use std::time::{Duration, Instant};
    /// let soon = Instant::now() + Duration::from_secs(60);
    /// let (parent, _cancel) = Context::background().with_deadline(soon);
    /// let (child, _cancel) = parent.with_deadline(soon + Duration::from_secs(3600));
    /// assert_eq!(child.deadline(), Some(soon));
    ///
    /// let (late, _cancel) = parent.with_deadline(Instant::now());
    /// assert_eq!(late.err(), Some(ContextError::DeadlineExceeded));
    /// ```
    ///
    /// Source: Go's `context.WithDeadline`.
    #[doc(alias("context.WithDeadline", "WithDeadline", "timeout_at"))]
    pub fn with_deadline(&self, deadline: Instant) -> (Context, CancelGuard) {
        let (ctx, node) = self.derive(Some(Deadline { due: deadline, cause: None }));
        (ctx, CancelGuard::new(node))
    }

    /// Derives a context like [`with_deadline`](Context::with_deadline); `cause` is its cause if
    /// the deadline passes.
    ///
    /// It is not the cause when the guard cancels first, nor when this context has an earlier
    /// deadline of its own.
    ///
    /// ```
    /// use goby::{Context, context::{Cause, ContextError}};
    /// use std::{sync::Arc, time::{Duration, Instant}};
    /// let too_slow: Cause = Arc::new(std::fmt::Error);
    /// let (ctx, cancel) = Context::background().with_deadline_cause(Instant::now() + Duration::from_secs(60), too_slow);
    /// cancel.cancel();
    /// assert_eq!(ctx.cause().unwrap().downcast_ref(), Some(&ContextError::Canceled));
    /// ```
    ///
    /// Source: Go's `context.WithDeadlineCause`.
    #[doc(alias("context.WithDeadlineCause", "WithDeadlineCause"))]
    pub fn with_deadline_cause(&self, deadline: Instant, cause: impl IntoCause) -> (Context, CancelGuard) {
        let (ctx, node) = self.derive(Some(Deadline { due: deadline, cause: Some(cause.into_cause()) }));
        (ctx, CancelGuard::new(node))
    }

    /// Derives a context that carries `value`, found again by its type.
    ///
    /// Make a type of your own for each meaning: the type is the key. A second value of one type
    /// hides the first from the contexts below. Use it for values that belong to a request and
    /// cross interfaces, not to pass arguments.
    ///
    /// ```
    /// use goby::Context;
    /// struct RequestId(u64);
    /// let ctx = Context::background().with_value(RequestId(7));
    /// assert_eq!(ctx.value::<RequestId>().unwrap().0, 7);
    /// assert!(ctx.value::<u64>().is_none(), "the type is the key");
    /// ```
    ///
    /// Source: Go's `context.WithValue`.
    #[doc(alias("context.WithValue", "WithValue"))]
    pub fn with_value<T: Any + Send + Sync>(&self, value: T) -> Context {
        let link = Link::with_value(self.next_layer(), value, self.values.clone());
        Context { node: self.node.clone(), values: Some(Arc::new(link)) }
    }

    /// Finds the nearest value of type `T` on the way to the root.
    ///
    /// Takes time in proportion to the number of values passed.
    ///
    /// ```
    /// let ctx = goby::Context::background().with_value("outer").with_value("inner");
    /// assert_eq!(ctx.value::<&str>(), Some(&"inner"));
    /// ```
    ///
    /// Source: Go's `Context.Value`.
    pub fn value<T: Any + Send + Sync>(&self) -> Option<&T> {
        let mut link = self.values.as_deref();
        while let Some(current) = link {
            if let Some(value) = current.get::<T>() {
                return Some(value);
            }
            link = current.next();
        }
        None
    }

    /// Derives a context with the same values that is not done when this one is, and has no
    /// deadline.
    ///
    /// For work that must outlive the request that started it: an audit record, a cleanup.
    ///
    /// ```
    /// use goby::Context;
    /// let (request, cancel) = Context::background().with_value("alice").with_cancel();
    /// let audit = request.without_cancel();
    /// cancel.cancel();
    /// assert_eq!(audit.err(), None);
    /// assert_eq!(audit.value(), Some(&"alice"));
    /// ```
    ///
    /// Source: Go's `context.WithoutCancel`.
    #[doc(alias("context.WithoutCancel", "WithoutCancel"))]
    pub fn without_cancel(&self) -> Context {
        let link = Link::without_cancel(self.next_layer(), self.values.clone());
        Context { node: None, values: Some(Arc::new(link)) }
    }

    /// Calls `f` in a goroutine of its own once this context is done; at once if it is done
    /// already.
    ///
    /// Dropping the handle changes nothing. A context that is dropped everywhere without being done
    /// never calls `f`. The goroutine inherits labels and locals from the caller of this function,
    /// not from the canceler, and belongs to the caller's family.
    ///
    /// ```
    /// use goby::{Context, chan};
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// let (tx, rx) = chan::bounded(0);
    /// ctx.after_func(move || tx.send("cleaned up").unwrap());
    /// cancel.cancel();
    /// assert_eq!(rx.recv(), Ok("cleaned up"));
    ///
    /// let (ctx, _cancel) = Context::background().with_cancel();
    /// let cleanup = ctx.after_func(|| unreachable!());
    /// assert!(cleanup.stop(), "it was still to run");
    /// ```
    ///
    /// Source: Go's `context.AfterFunc`.
    #[doc(alias("context.AfterFunc", "AfterFunc"))]
    #[track_caller]
    pub fn after_func(&self, f: impl FnOnce() + Send + 'static) -> AfterFunc {
        goby_runtime::checkpoint();
        let caller = Location::caller();
        let heritage = goby_runtime::Heritage::of_caller();
        AfterFunc::new(self.on_done(move || heritage.go_detached_at(caller, f)))
    }

    /// Returns a channel that carries nothing and is closed when this context is done: the case to
    /// select on.
    ///
    /// ```
    /// use goby::{Context, chan::TryRecvError};
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// assert_eq!(ctx.done().try_recv(), Err(TryRecvError::Empty));
    /// cancel.cancel();
    /// assert_eq!(ctx.done().try_recv(), Err(TryRecvError::Closed));
    /// ```
    ///
    /// Source: Go's `Context.Done`.
    #[doc(alias = "cancelled")]
    #[inline]
    pub fn done(&self) -> &Receiver<Infallible> {
        static NEVER: Receiver<Infallible> = chan::never();
        match &self.node {
            Some(node) => node.done(),
            None => &NEVER,
        }
    }

    /// Returns how this context has ended; `None` while it is not done.
    ///
    /// When it returns an error, [`done`](Context::done) is closed; when `done` is closed, it
    /// returns an error. It looks at the clock: a deadline that has passed ends the context here,
    /// even if its timer comes late. (A goroutine may hear of that a few milliseconds late.) A
    /// goroutine that asks in a long computation lets others run when its time slice is over.
    ///
    /// ```
    /// use goby::{Context, context::ContextError};
    /// use std::time::Duration;
    /// let (ctx, cancel) = Context::background().with_timeout(Duration::from_secs(60));
    /// assert_eq!(ctx.err(), None);
    /// cancel.cancel();
    /// assert_eq!(ctx.err(), Some(ContextError::Canceled));
    /// ```
    ///
    /// Source: Go's `Context.Err`.
    #[doc(alias = "is_cancelled")]
    #[inline]
    pub fn err(&self) -> Option<ContextError> {
        goby_runtime::checkpoint();
        self.node.as_ref()?.err()
    }

    /// Fails if this context is done: [`err`](Context::err) as a `Result`, for `?` in a long
    /// computation.
    ///
    /// ```
    /// use goby::{Context, context::ContextError};
    /// fn sum(ctx: &Context, numbers: &[u64]) -> Result<u64, ContextError> {
    ///     let mut sum = 0;
    ///     for some in numbers.chunks(1000) {
    ///         ctx.check()?;
    ///         sum += some.iter().sum::<u64>();
    ///     }
    ///     Ok(sum)
    /// }
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// assert_eq!(sum(&ctx, &[1, 2, 3]), Ok(6));
    /// cancel.cancel();
    /// assert_eq!(sum(&ctx, &[1, 2, 3]), Err(ContextError::Canceled));
    /// ```
    ///
    /// # Errors
    ///
    /// What `err` returns.
    #[inline]
    pub fn check(&self) -> Result<(), ContextError> {
        self.err().map_or(Ok(()), Err)
    }

    /// Returns why this context is done: the cause given when it was canceled, otherwise its
    /// [`err`](Context::err).
    ///
    /// The first cancellation on the way from the root decides the cause for all contexts below.
    ///
    /// ```
    /// use goby::{Context, context::{Cause, ContextError}};
    /// use std::sync::Arc;
    /// let (parent, cancel) = Context::background().with_cancel_cause();
    /// let (child, cancel_child) = parent.with_cancel();
    /// let why: Cause = Arc::new(std::fmt::Error);
    /// cancel.cancel(why.clone());
    /// cancel_child.cancel();
    /// assert!(Arc::ptr_eq(&child.cause().unwrap(), &why));
    ///
    /// let (plain, cancel) = Context::background().with_cancel();
    /// cancel.cancel();
    /// assert_eq!(plain.cause().unwrap().downcast_ref(), Some(&ContextError::Canceled));
    /// ```
    ///
    /// Source: Go's `context.Cause`.
    #[doc(alias = "context.Cause")]
    pub fn cause(&self) -> Option<Cause> {
        goby_runtime::checkpoint();
        self.node.as_ref()?.cause()
    }

    /// Returns when this context will be done by itself, if it will.
    ///
    /// ```
    /// use goby::Context;
    /// use std::time::{Duration, Instant};
    /// assert_eq!(Context::background().deadline(), None);
    /// let (ctx, _cancel) = Context::background().with_timeout(Duration::from_secs(60));
    /// assert!(ctx.deadline().unwrap() > Instant::now() + Duration::from_secs(50));
    /// ```
    ///
    /// Source: Go's `Context.Deadline`.
    pub fn deadline(&self) -> Option<Instant> {
        self.node.as_ref()?.deadline()
    }

    /// Whether this context can end at all; the background cannot.
    pub(crate) fn can_end(&self) -> bool {
        self.node.is_some()
    }

    /// Returns how this context has ended, or is ending: `done` may not be closed yet. Unlike
    /// [`err`](Context::err) this neither yields nor wakes anybody, so it may be called under a
    /// short lock.
    #[inline]
    pub(crate) fn error(&self) -> Option<ContextError> {
        self.node.as_ref()?.decided()
    }

    /// Whether [`error`](Context::error) returns one.
    #[inline]
    pub(crate) fn is_done(&self) -> bool {
        self.error().is_some()
    }

    /// Calls `f` when this context is canceled, on the canceler's stack; at once if it is done
    /// already.
    ///
    /// `f` must be short and must neither park nor panic: it may run on a worker's scheduler
    /// (deadlines do). No lock of the tree is held. The guard takes `f` back when it is dropped.
    pub(crate) fn on_done(&self, f: impl FnOnce() + Send + 'static) -> OnDone {
        match &self.node {
            Some(node) => OnDone::register(node, f),
            None => OnDone::never(),
        }
    }

    fn derive(&self, deadline: Option<Deadline>) -> (Context, Arc<Node>) {
        goby_runtime::checkpoint();
        let node = Node::child_of(self.node.as_ref(), self.next_layer(), deadline);
        (Context { node: Some(node.clone()), values: self.values.clone() }, node)
    }

    fn next_layer(&self) -> u32 {
        let node = self.node.as_ref().map_or(0, |node| node.layer());
        let value = self.values.as_ref().map_or(0, |link| link.layer());
        node.max(value) + 1
    }
}

/// Prints the layers from the root:
/// `context.Background.WithValue(app::RequestId).WithDeadline(4.99s)`.
///
/// Values show their type; deadlines show how far off they are. Of the layers that
/// [`Context::without_cancel`] cut off only the values are left to show.
impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut layers = Vec::new();
        let mut node = self.node.as_deref();
        while let Some(current) = node {
            layers.push((current.layer(), current as &dyn fmt::Display));
            node = current.parent();
        }
        let mut link = self.values.as_deref();
        while let Some(current) = link {
            layers.push((current.layer(), current as &dyn fmt::Display));
            link = current.next();
        }
        layers.sort_unstable_by_key(|&(layer, _)| layer);
        f.write_str("context.Background")?;
        layers.iter().try_for_each(|(_, layer)| write!(f, ".{layer}"))
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests;
