//! The settings of a pool.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::shared::{Limits, Shared};
use super::{Check, Make, Pool};

/// Settings of a [`Pool`], begun by [`Pool::builder`].
///
/// ```
/// use goby::pool::Pool;
/// use std::time::Duration;
/// let pool = Pool::builder(|| Ok::<_, std::io::Error>("a connection"))
///     .max_size(20)
///     .idle_timeout(Duration::from_secs(600))
///     .max_lifetime(Duration::from_secs(1800))
///     .build();
/// assert_eq!(*pool.get()?, "a connection");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a builder makes no pool until `build` is called"]
pub struct Builder<T, E> {
    limits: Limits<T>,
    make: Make<T, E>,
    check: Option<Check<T>>,
}

impl<T: Send + 'static, E> Builder<T, E> {
    pub(super) fn new(make: Make<T, E>) -> Builder<T, E> {
        let limits = Limits {
            max_size: 10,
            max_idle: usize::MAX,
            idle_timeout: None,
            max_lifetime: None,
            close: Box::new(drop),
        };
        Builder { limits, make, check: None }
    }

    /// Sets how many there may be, counting those that are being made or closed. Default is
    /// 10.
    ///
    /// ```
    /// let pool = goby::pool::Pool::builder(|| Ok::<_, ()>(())).max_size(1).build();
    /// let _taken = pool.get().unwrap();
    /// assert!(pool.try_get().unwrap().is_none());
    /// ```
    ///
    /// # Panics
    ///
    /// If `max_size` is zero: nothing could ever be lent.
    ///
    /// Source: Go's `DB.SetMaxOpenConns`.
    #[doc(alias("SetMaxOpenConns", "max_open"))]
    #[track_caller]
    pub fn max_size(mut self, max_size: usize) -> Builder<T, E> {
        assert!(max_size > 0, "pool: a pool of nothing never lends anything");
        self.limits.max_size = max_size;
        self
    }

    /// Sets how many may lie idle. What is given back beyond that is closed. Default is no limit
    /// but the pool's size.
    ///
    /// ```
    /// let pool = goby::pool::Pool::builder(|| Ok::<_, ()>(())).max_idle(1).build();
    /// let taken = [pool.get(), pool.get()];
    /// drop(taken);
    /// assert_eq!((pool.stats().idle, pool.stats().max_idle_closed), (1, 1));
    /// ```
    ///
    /// Source: Go's `DB.SetMaxIdleConns`.
    #[doc(alias = "SetMaxIdleConns")]
    pub fn max_idle(mut self, max_idle: usize) -> Builder<T, E> {
        self.limits.max_idle = max_idle;
        self
    }

    /// Sets how long one may lie idle before it is closed. Default is forever.
    ///
    /// ```
    /// use std::time::Duration;
    /// let pool = goby::pool::Pool::builder(|| Ok::<_, ()>(())).idle_timeout(Duration::from_millis(1)).build();
    /// drop(pool.get());
    /// while pool.stats().idle > 0 {
    ///     goby::yield_now();
    /// }
    /// assert_eq!(pool.stats().idle_timeout_closed, 1);
    /// ```
    ///
    /// Source: Go's `DB.SetConnMaxIdleTime`.
    #[doc(alias = "SetConnMaxIdleTime")]
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Builder<T, E> {
        self.limits.idle_timeout = timeout.into();
        self
    }

    /// Sets how long one may live from its making. It is closed when it is idle after that, not
    /// while it is in use. Default is forever.
    ///
    /// ```
    /// use std::time::Duration;
    /// let pool = goby::pool::Pool::builder(|| Ok::<_, ()>(())).max_lifetime(Duration::ZERO).build();
    /// drop(pool.get());
    /// assert_eq!((pool.stats().idle, pool.stats().max_lifetime_closed), (0, 1));
    /// ```
    ///
    /// Source: Go's `DB.SetConnMaxLifetime`.
    #[doc(alias = "SetConnMaxLifetime")]
    pub fn max_lifetime(mut self, lifetime: impl Into<Option<Duration>>) -> Builder<T, E> {
        self.limits.max_lifetime = lifetime.into();
        self
    }

    /// Sets a check of each that was idle, before it is lent again: false if it is of no use any
    /// more. Then it is closed, and the request gets another. Default is no check.
    ///
    /// The check may park, and may put the connection in order.
    ///
    /// ```
    /// let pool = goby::pool::Pool::builder(|| Ok::<_, ()>(1)).check(|n| *n < 3).build();
    /// let use_it = || {
    ///     let mut n = pool.get().unwrap();
    ///     *n += 1;
    ///     *n
    /// };
    /// assert_eq!([use_it(), use_it(), use_it()], [2, 3, 2]);
    /// ```
    ///
    /// Source: Go's `driver.Validator` and `driver.SessionResetter`.
    #[doc(alias("test_on_check_out", "is_valid", "recycle", "ping"))]
    pub fn check(mut self, check: impl Fn(&mut T) -> bool + Send + Sync + 'static) -> Builder<T, E> {
        self.check = Some(Arc::new(check));
        self
    }

    /// Sets how the pool closes one. Default is to drop it.
    ///
    /// It is for what takes long to drop, such as a connection that says goodbye and blocks its
    /// thread:
    ///
    /// ```
    /// use goby::{blocking, chan, pool::Pool};
    /// let (tx, closed) = chan::bounded(1);
    /// let pool = Pool::builder(|| Ok::<_, ()>("a connection"))
    ///     .on_close(move |connection| blocking(|| tx.send(connection).unwrap()))
    ///     .build();
    /// drop(pool.get());
    /// pool.close();
    /// assert_eq!(closed.recv(), Ok("a connection"));
    /// ```
    pub fn on_close(mut self, close: impl Fn(T) + Send + Sync + 'static) -> Builder<T, E> {
        self.limits.close = Box::new(close);
        self
    }

    /// Makes the pool.
    ///
    /// ```
    /// assert_eq!(goby::pool::Pool::builder(|| Ok::<_, ()>(())).build().stats().size, 0);
    /// ```
    pub fn build(self) -> Pool<T, E> {
        Pool { shared: Shared::new(self.limits), make: self.make, check: self.check }
    }
}

impl<T, E> fmt::Debug for Builder<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("limits", &self.limits).finish_non_exhaustive()
    }
}
