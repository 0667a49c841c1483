//! The error of a join that has no result.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::ops::{Deref, DerefMut};

use crate::base::report::payload_text;
use crate::engine::goexit::Goexit;

/// Why a joined goroutine or task gave no result: it panicked, or ended by
/// [`goexit`](crate::goexit).
///
/// It holds the payload, and dereferences to it: `is` and `downcast_ref` look at the payload,
/// [`into_payload`](JoinError::into_payload) returns it, for example for
/// `std::panic::resume_unwind`. Unlike the payload, the error has a text.
///
/// It is `Send` but not `Sync`, since a payload need not be `Sync`. An error type that asks for
/// both (such as anyhow's) takes the text: `map_err(|failed| anyhow!("{failed}"))`.
///
/// ```
/// use goby::{Goexit, go, goexit};
///
/// let failed = go(|| panic!("no luck")).join().unwrap_err();
/// assert_eq!(failed.to_string(), "panicked: no luck");
/// assert_eq!(format!("{failed:?}"), "JoinError(\"no luck\")"); // What `unwrap` would show.
/// assert_eq!(failed.downcast_ref(), Some(&"no luck"));
///
/// let ended = go(|| goexit()).join().unwrap_err();
/// assert!(ended.is::<Goexit>());
/// assert_eq!(ended.to_string(), "the goroutine ended by goexit");
/// ```
pub struct JoinError {
    payload: Box<dyn Any + Send>,
}

impl JoinError {
    pub(crate) fn new(payload: Box<dyn Any + Send>) -> JoinError {
        JoinError { payload }
    }

    /// Returns the payload of the panic, or [`Goexit`].
    ///
    /// ```
    /// use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
    ///
    /// let failed = goby::go(|| panic!("no luck")).join().unwrap_err();
    /// let again = catch_unwind(AssertUnwindSafe(|| resume_unwind(failed.into_payload()))).unwrap_err();
    /// assert_eq!(again.downcast_ref(), Some(&"no luck"));
    /// ```
    pub fn into_payload(self) -> Box<dyn Any + Send> {
        self.payload
    }

    /// Returns the payload as a `T`, if it is one.
    ///
    /// ```
    /// let failed = goby::go(|| std::panic::panic_any(7)).join().unwrap_err();
    /// assert_eq!(*failed.downcast::<i32>().unwrap(), 7);
    /// ```
    ///
    /// # Errors
    ///
    /// The error itself, if the payload is something else.
    pub fn downcast<T: Any>(self) -> Result<Box<T>, JoinError> {
        self.payload.downcast().map_err(JoinError::new)
    }

    /// Returns the text of the panic, if it has one.
    ///
    /// ```
    /// let failed = goby::go(|| panic!("{} of {}", 1, 2)).join().unwrap_err();
    /// assert_eq!(failed.message(), Some("1 of 2"));
    /// ```
    pub fn message(&self) -> Option<&str> {
        let text = self.payload.downcast_ref::<&str>().copied();
        text.or_else(|| self.payload.downcast_ref::<String>().map(String::as_str))
    }
}

impl Deref for JoinError {
    type Target = dyn Any + Send;

    fn deref(&self) -> &(dyn Any + Send + 'static) {
        &*self.payload
    }
}

impl DerefMut for JoinError {
    fn deref_mut(&mut self) -> &mut (dyn Any + Send + 'static) {
        &mut *self.payload
    }
}

impl From<JoinError> for Box<dyn Any + Send> {
    fn from(error: JoinError) -> Box<dyn Any + Send> {
        error.payload
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.payload.downcast_ref::<Goexit>() {
            Some(exit) => exit.fmt(f),
            None => write!(f, "panicked: {}", payload_text(&*self.payload)),
        }
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.message(), self.payload.downcast_ref::<Goexit>()) {
            (Some(message), _) => f.debug_tuple("JoinError").field(&message).finish(),
            (None, Some(exit)) => f.debug_tuple("JoinError").field(exit).finish(),
            (None, None) => f.debug_tuple("JoinError").finish_non_exhaustive(),
        }
    }
}

impl Error for JoinError {}
