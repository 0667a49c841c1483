//! A pool of connections, or of anything else that is costly to make and used by one goroutine at a
//! time.
//!
//! ```
//! use goby::pool::Pool;
//! use goby::sync::WaitGroup;
//!
//! let pool = Pool::builder(|| std::io::Result::Ok(String::from("a connection"))).max_size(2).build();
//! let wg = WaitGroup::new();
//! for _ in 0..100 {
//!     let pool = pool.clone();
//!     // Parks until one of the two is free.
//!     wg.go(move || assert_eq!(*pool.get().unwrap(), "a connection"));
//! }
//! wg.wait();
//! assert!(pool.stats().size <= 2);
//! ```
//!
//! The pool is for any crate whose connections block, too: make one in
//! [`blocking`](crate::blocking), and use it by [`Pooled::blocking`].
//!
//! ```
//! use goby::{blocking, pool::Pool};
//! # mod rusqlite {
//! #     pub type Error = std::io::Error;
//! #     pub struct Connection;
//! #     impl Connection {
//! #         pub fn open(_: &str) -> Result<Connection, Error> { Ok(Connection) }
//! #         pub fn execute(&mut self, _: &str, _: ()) -> Result<usize, Error> { Ok(1) }
//! #     }
//! # }
//! let pool = Pool::builder(|| blocking(|| rusqlite::Connection::open("store.db"))).max_size(4).build();
//! let mut connection = pool.get()?;
//! let deleted = connection.blocking(|connection| connection.execute("DELETE FROM jobs", ()))?;
//! assert_eq!(deleted, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it promises
//!
//! - There are never more than [`max_size`](Builder::max_size) of them, counting those that are
//!   being made or closed.
//! - Requests are served strictly in turn, and a request that gives up loses nothing for others.
//! - No lock is held while one is made, checked or closed. So these may take as long as they like,
//!   and may park. The request that finds none free makes one, in its own goroutine.
//! - A [`Pooled`] goes back when it is dropped. If a panic drops it, it is closed instead, since it
//!   may have been left in the middle of something. So is one that is dropped on a worker where
//!   another goroutine waits in a destructor during a panic: the two cannot be told apart. If
//!   making panics, its place is free again.
//! - Nothing is made for a pool that is closed. If [`on_close`](Builder::on_close) panics for one,
//!   it is still called for the others, and the first panic comes out.
//!
//! A pool may be used from several runtimes. But if a [`Runtime`](crate::Runtime) is dropped while
//! a goroutine of its own waits for a connection, the place that this one is given is lost: nobody
//! comes for it. Close the pool, or let the requests end by a context, before the runtime is
//! dropped.
//!
//! What a pool of this kind is called elsewhere: Go's `database/sql.DB`, and the crates `r2d2`,
//! `deadpool` and `bb8`. Go's `sync.Pool` is something else: a cache that nobody waits for, see
//! [`sync`](crate::sync#pools-and-maps).

// Files: this one is the API; `shared` says who gets what when, and is the only one with a lock;
// `pooled` is what a request gets; `builder` has the settings.

#![forbid(unsafe_code)]

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::context::{Context, ContextError};
use crate::sync::queue::done_error;

mod builder;
mod pooled;
mod shared;

pub use builder::Builder;
pub use pooled::Pooled;

use shared::{Admission, Shared};

/// Makes one; [`Builder`] boxes it.
type Make<T, E> = Arc<dyn Fn() -> Result<T, E> + Send + Sync>;
/// Says whether one can still be used.
type Check<T> = Arc<dyn Fn(&mut T) -> bool + Send + Sync>;

/// Lends out a bounded number of connections, and makes them as they are needed.
///
/// It is a handle: clones lend out the same connections. `T` is the connection, and `E` is the
/// error of making one.
///
/// ```
/// use goby::pool::Pool;
/// let pool = Pool::builder(|| Ok::<_, std::io::Error>(7)).build();
/// let seven = pool.get()?;
/// assert_eq!((*seven, pool.stats().in_use, pool.stats().idle), (7, 1, 0));
/// drop(seven);
/// assert_eq!((pool.stats().in_use, pool.stats().idle), (0, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Source: Go's `database/sql.DB`.
#[doc(alias("sql.DB", "r2d2", "bb8", "deadpool", "connection pool", "ResourcePool"))]
pub struct Pool<T, E> {
    shared: Arc<Shared<T>>,
    make: Make<T, E>,
    check: Option<Check<T>>,
}

impl<T: Send + 'static, E> Pool<T, E> {
    /// Begins a pool of what `make` makes. No call of `make` comes before the first request.
    ///
    /// ```
    /// use goby::{net::{TcpListener, TcpStream}, pool::Pool};
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let addr = listener.local_addr()?;
    /// let pool = Pool::builder(move || TcpStream::connect(addr)).max_size(8).build();
    /// assert_eq!(pool.get()?.peer_addr()?, addr);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "sql.Open")]
    pub fn builder(make: impl Fn() -> Result<T, E> + Send + Sync + 'static) -> Builder<T, E> {
        Builder::new(Arc::new(make))
    }

    /// Waits until one is free or may be made, and takes it until the [`Pooled`] is dropped.
    ///
    /// The one that was used last comes first.
    ///
    /// ```
    /// let pool = goby::pool::Pool::builder(|| Ok::<_, ()>(vec![0])).build();
    /// pool.get().unwrap().push(1);
    /// assert_eq!(*pool.get().unwrap(), [0, 1], "the same");
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine (an OS thread sleeps) until it is this request's turn. Then the check
    /// and the making of one take their time.
    ///
    /// # Panics
    ///
    /// Panics of the functions that make and check. The pool has lost nothing then.
    ///
    /// # Errors
    ///
    /// [`GetError::Closed`], and [`GetError::Make`] with the error of making one.
    ///
    /// Source: Go's `DB.Conn`.
    #[doc(alias("DB.Conn", "acquire"))]
    pub fn get(&self) -> Result<Pooled<T>, GetError<E>> {
        self.get_ctx(&Context::background())
    }

    /// Waits as [`get`](Pool::get) does, until `ctx` is done.
    ///
    /// ```
    /// use goby::{Context, context::ContextError, pool::{GetError, Pool}};
    /// use std::time::Duration;
    ///
    /// let pool = Pool::builder(|| Ok::<_, ()>(())).max_size(1).build();
    /// let _taken = pool.get().unwrap();
    /// let (ctx, _cancel) = Context::background().with_timeout(Duration::from_millis(1));
    /// assert_eq!(pool.get_ctx(&ctx).unwrap_err(), GetError::Done(ContextError::DeadlineExceeded));
    /// ```
    ///
    /// # Blocking
    ///
    /// As for `get`.
    ///
    /// # Panics
    ///
    /// As for `get`.
    ///
    /// # Errors
    ///
    /// Those of `get`, and [`GetError::Done`] if `ctx` is done first, even if one is free.
    ///
    /// # Cancellation
    ///
    /// By `ctx`, while the request waits for its turn. What it was granted at that moment goes to
    /// the next request. The function that makes one is not interrupted.
    pub fn get_ctx(&self, ctx: &Context) -> Result<Pooled<T>, GetError<E>> {
        goby_runtime::checkpoint();
        if let Some(error) = ctx.err() {
            return Err(GetError::Done(error));
        }
        let pooled = match self.shared.admit(ctx) {
            Admission::Granted(pooled) => pooled,
            Admission::Closed => return Err(GetError::Closed),
            Admission::GaveUp => return Err(GetError::Done(done_error(ctx))),
        };
        // The holder of what was granted may have heard of the end sooner than this request, and
        // given it back because of that. Then the grant came too late.
        match ctx.error() {
            Some(error) => Err(GetError::Done(error)),
            None => self.equip(pooled),
        }
    }

    /// Takes one if that needs no wait for another request. It may have to be made first.
    ///
    /// Returns none if all are in use.
    ///
    /// ```
    /// let pool = goby::pool::Pool::builder(|| Ok::<_, ()>(())).max_size(1).build();
    /// let taken = pool.try_get().unwrap();
    /// assert!(taken.is_some());
    /// assert!(pool.try_get().unwrap().is_none());
    /// ```
    ///
    /// # Panics
    ///
    /// As for [`get`](Pool::get).
    ///
    /// # Errors
    ///
    /// Those of `get`.
    pub fn try_get(&self) -> Result<Option<Pooled<T>>, GetError<E>> {
        goby_runtime::checkpoint();
        match self.shared.try_admit() {
            Admission::Granted(pooled) => self.equip(pooled).map(Some),
            Admission::Closed => Err(GetError::Closed),
            Admission::GaveUp => {
                goby_runtime::refused();
                Ok(None)
            }
        }
    }

    /// Gives a request that was admitted what it asked for: one that is idle and can be used, or a
    /// new one.
    fn equip(&self, mut pooled: Pooled<T>) -> Result<Pooled<T>, GetError<E>> {
        // A panic or an error on the way drops `pooled`, which makes its place free.
        while pooled.has_value() {
            if pooled.close_if_expired() {
                // Next.
            } else if self.check.as_ref().is_none_or(|check| pooled.check(&**check)) {
                return Ok(pooled);
            } else {
                pooled.close();
            }
            pooled.take_idle();
        }
        // A check takes its time, in which the pool may have been closed.
        if self.shared.is_closed() {
            return Err(GetError::Closed);
        }
        pooled.put((self.make)().map_err(GetError::Make)?);
        Ok(pooled)
    }

    /// Closes the pool: those that are idle now, the others when they are given back. Requests that
    /// wait, and later ones, fail, and so does one that would have to make one.
    ///
    /// ```
    /// use goby::pool::{GetError, Pool};
    /// let pool = Pool::builder(|| Ok::<_, ()>(())).max_size(1).build();
    /// let taken = pool.get().unwrap();
    /// let waiter = goby::go({
    ///     let pool = pool.clone();
    ///     move || pool.get().map(drop)
    /// });
    /// while pool.stats().waiting == 0 {
    ///     goby::yield_now();
    /// }
    /// pool.close();
    /// assert_eq!(waiter.join().unwrap(), Err(GetError::Closed));
    /// drop(taken);
    /// assert_eq!(pool.stats().size, 0);
    /// ```
    ///
    /// # Panics
    ///
    /// If [`on_close`](Builder::on_close) does for one of them, when it has been called for all.
    ///
    /// Source: Go's `DB.Close`.
    #[doc(alias = "DB.Close")]
    pub fn close(&self) {
        self.shared.close();
    }

    /// Returns whether the pool is closed.
    ///
    /// ```
    /// let pool = goby::pool::Pool::builder(|| Ok::<_, ()>(())).build();
    /// assert!(!pool.is_closed());
    /// pool.close();
    /// assert!(pool.is_closed());
    /// ```
    pub fn is_closed(&self) -> bool {
        goby_runtime::polled();
        self.shared.is_closed()
    }

    /// Returns what the pool has now, and what it has done so far.
    ///
    /// ```
    /// let pool = goby::pool::Pool::builder(|| Ok::<_, ()>(())).max_size(3).build();
    /// let _one = pool.get().unwrap();
    /// let stats = pool.stats();
    /// assert_eq!((stats.max_size, stats.size, stats.waits), (3, 1, 0));
    /// ```
    ///
    /// Source: Go's `DB.Stats`.
    #[doc(alias("DBStats", "DB.Stats"))]
    pub fn stats(&self) -> Stats {
        goby_runtime::polled();
        self.shared.stats()
    }
}

impl<T, E> Clone for Pool<T, E> {
    fn clone(&self) -> Pool<T, E> {
        Pool { shared: self.shared.clone(), make: self.make.clone(), check: self.check.clone() }
    }
}

impl<T, E> fmt::Debug for Pool<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("stats", &self.shared.stats()).finish_non_exhaustive()
    }
}

/// What a [`Pool`] has at one moment, and what it has done until then.
///
/// Source: Go's `sql.DBStats`.
#[doc(alias = "sql.DBStats")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The most that there may be.
    pub max_size: usize,
    /// How many there are: idle, in use, being made or being closed.
    pub size: usize,
    /// How many are in use, being made or being closed.
    pub in_use: usize,
    /// How many lie in the pool.
    pub idle: usize,
    /// How many requests wait.
    pub waiting: usize,
    /// How many requests have had to wait.
    pub waits: u64,
    /// How long these have waited together, without those that wait still.
    pub wait_time: Duration,
    /// How many were closed because of [`max_idle`](Builder::max_idle).
    pub max_idle_closed: u64,
    /// How many were closed because of [`idle_timeout`](Builder::idle_timeout).
    pub idle_timeout_closed: u64,
    /// How many were closed because of [`max_lifetime`](Builder::max_lifetime).
    pub max_lifetime_closed: u64,
    /// How many were closed because they were of no use: the [check](Builder::check) said so, or a
    /// panic dropped them, or [`discard`](Pooled::discard) was called.
    pub broken_closed: u64,
}

/// Why a request of a [`Pool`] has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GetError<E> {
    /// The pool is closed.
    Closed,
    /// The request's context was done first.
    Done(ContextError),
    /// One had to be made, which failed with this error.
    Make(E),
}

impl<E> fmt::Display for GetError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            GetError::Closed => "the pool is closed",
            GetError::Done(_) => "nothing was free in the pool in time",
            GetError::Make(_) => "nothing was free in the pool, and none could be made",
        })
    }
}

impl<E: Error + 'static> Error for GetError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            GetError::Closed => None,
            GetError::Done(error) => Some(error),
            GetError::Make(error) => Some(error),
        }
    }
}
