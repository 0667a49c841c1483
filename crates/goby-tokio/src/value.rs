//! Values that need tokio where they are dropped.

use std::fmt;
use std::ops::{Deref, DerefMut};

use crate::bridge::{self, Bridge};

/// A value that is dropped with tokio entered, also by a `?` or while a panic unwinds.
///
/// It is for what leaves a future and needs tokio in its destructor: a connection out of sqlx's
/// pool, or a transaction. Wrap it in the same expression, so that nothing comes in between:
///
/// ```text
/// let mut transaction = Entered::new(block_on(pool.begin())?);
/// block_on(sqlx::query("…").execute(&mut **transaction))?;
/// block_on(Entered::into_inner(transaction).commit())?;
/// ```
///
/// Tokio is entered for the drop only. What the value's methods return is for [`block_on`], as
/// ever.
///
/// ```
/// use goby_tokio::Entered;
///
/// /// It starts a task of tokio's where it is dropped.
/// struct Connection;
///
/// impl Drop for Connection {
///     fn drop(&mut self) {
///         tokio::spawn(async {});
///     }
/// }
///
/// let outcome = goby::go(|| {
///     let _connection = Entered::new(Connection);
///     panic!("in the middle of something");
/// });
/// // Without `Entered` this would have aborted the process.
/// assert!(outcome.join().unwrap_err().to_string().contains("in the middle of something"));
/// ```
///
/// [`block_on`]: crate::block_on
pub struct Entered<T> {
    bridge: Bridge,
    /// None only in `into_inner` and `drop`.
    value: Option<T>,
}

impl<T> Entered<T> {
    /// Wraps `value`, to be dropped with the default bridge's runtime entered.
    ///
    /// # Panics
    ///
    /// If the reactor's thread cannot be started.
    #[track_caller]
    pub fn new(value: T) -> Entered<T> {
        bridge::default_bridge().entered(value)
    }

    pub(crate) fn with_bridge(bridge: Bridge, value: T) -> Entered<T> {
        Entered { bridge, value: Some(value) }
    }

    /// Returns the value, whose drop is the caller's then.
    ///
    /// It is no method, since the value may have one of this name.
    ///
    /// ```
    /// let text = goby_tokio::Entered::new("text".to_owned());
    /// assert_eq!(goby_tokio::Entered::into_inner(text), "text");
    /// ```
    pub fn into_inner(mut this: Entered<T>) -> T {
        this.value.take().expect("it is taken once")
    }
}

impl<T> Deref for Entered<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("it is taken by value")
    }
}

impl<T> DerefMut for Entered<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("it is taken by value")
    }
}

impl<T> Drop for Entered<T> {
    fn drop(&mut self) {
        if let Some(value) = self.value.take() {
            self.bridge.enter(|| drop(value));
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Entered<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
