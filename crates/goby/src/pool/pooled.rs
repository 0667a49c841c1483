//! What a request gets.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::thread;

use super::shared::{Connection, Reason, Shared};

/// One of a [`Pool`](super::Pool), until it is dropped: then it goes back.
///
/// If a panic drops it, it is closed instead, and so it is after [`discard`](Pooled::discard).
///
/// ```
/// let pool = goby::pool::Pool::builder(|| Ok::<_, ()>(String::new())).build();
/// let mut pooled = pool.get().unwrap();
/// pooled.push_str("it is a String");
/// assert_eq!(pooled.len(), 14);
/// ```
#[doc(alias("sql.Conn", "PooledConnection", "Object"))]
#[must_use = "it goes back to the pool at once if it is not kept"]
pub struct Pooled<T> {
    shared: Arc<Shared<T>>,
    /// None only within the pool: while a request looks for one, and at the end.
    connection: Option<Connection<T>>,
    /// The goroutine was panicking already when this was made. False while a neighbor waits in its
    /// own panic: then no later panic can be told from the neighbor's, so it counts as one.
    in_panic: bool,
}

impl<T> Pooled<T> {
    /// For a request that was admitted. Its drop gives back the place that it has.
    pub(super) fn new(shared: Arc<Shared<T>>, connection: Option<Connection<T>>) -> Pooled<T> {
        Pooled { shared, connection, in_panic: goby_runtime::panicking() }
    }

    /// Closes it, since it is of no use any more. The pool makes another when it needs one.
    ///
    /// An associated function: `Pooled::discard(pooled)`.
    ///
    /// ```
    /// use goby::pool::{Pool, Pooled};
    /// let pool = Pool::builder(|| Ok::<_, ()>(())).max_size(1).build();
    /// Pooled::discard(pool.get().unwrap());
    /// assert_eq!((pool.stats().size, pool.stats().broken_closed), (0, 1));
    /// assert!(pool.get().is_ok());
    /// ```
    ///
    /// Source: `driver.ErrBadConn` in Go.
    #[doc(alias = "ErrBadConn")]
    pub fn discard(mut pooled: Pooled<T>) {
        pooled.close();
    }

    /// Takes it out of the pool for good. The pool may make another in its place.
    ///
    /// An associated function: `Pooled::take(pooled)`.
    ///
    /// ```
    /// use goby::pool::{Pool, Pooled};
    /// let pool = Pool::builder(|| Ok::<_, ()>(7)).build();
    /// assert_eq!(Pooled::take(pool.get().unwrap()), 7);
    /// assert_eq!(pool.stats().size, 0);
    /// ```
    pub fn take(mut pooled: Pooled<T>) -> T {
        pooled.connection.take().expect("it is here until the end").value
    }

    /// Uses it in [`blocking`](crate::blocking): for a connection whose calls block the thread.
    ///
    /// It takes `&mut` even where the calls take `&`, because most such connections are not `Sync`.
    ///
    /// ```
    /// let pool = goby::pool::Pool::builder(|| std::fs::File::open("/proc/self/status")).build();
    /// let mut file = pool.get()?;
    /// let text = file.blocking(|file| std::io::read_to_string(file))?;
    /// assert!(text.starts_with("Name:"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine until `f` has returned.
    ///
    /// # Panics
    ///
    /// If `f` does, with its panic.
    ///
    /// # Cancellation
    ///
    /// None: `f` is not interrupted.
    pub fn blocking<R: Send>(&mut self, f: impl FnOnce(&mut T) -> R + Send) -> R
    where
        T: Send,
    {
        let connection = &mut **self;
        goby_runtime::blocking(move || f(connection))
    }

    pub(super) fn has_value(&self) -> bool {
        self.connection.is_some()
    }

    pub(super) fn put(&mut self, value: T) {
        self.connection = Some(Connection::new(value));
    }

    pub(super) fn check(&mut self, check: &dyn Fn(&mut T) -> bool) -> bool {
        check(self)
    }

    /// Closes what is here, and keeps the place.
    pub(super) fn close(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.shared.close_one(connection, Reason::Broken);
        }
    }

    /// Closes what is here if its time is over; returns whether it was.
    pub(super) fn close_if_expired(&mut self) -> bool {
        let connection = self.connection.take().expect("the caller has looked");
        match self.shared.expired(&connection, goby_runtime::now()) {
            Some(reason) => self.shared.close_one(connection, reason),
            None => self.connection = Some(connection),
        }
        self.connection.is_none()
    }

    /// Takes one that is idle, if there is one.
    pub(super) fn take_idle(&mut self) {
        self.connection = self.shared.take_idle();
    }
}

impl<T> Deref for Pooled<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.connection.as_ref().expect("it is here until the end").value
    }
}

impl<T> DerefMut for Pooled<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.connection.as_mut().expect("it is here until the end").value
    }
}

impl<T> Drop for Pooled<T> {
    fn drop(&mut self) {
        // The thread's answer is true also while only a neighbor panics. Then a sound connection is
        // closed, which is better than to lend a broken one.
        let is_broken = thread::panicking() && !self.in_panic;
        self.shared.give_back(self.connection.take(), is_broken);
    }
}

/// Without what it holds: many a connection, such as a `postgres::Client`, has no `Debug`.
impl<T> fmt::Debug for Pooled<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pooled").finish_non_exhaustive()
    }
}
