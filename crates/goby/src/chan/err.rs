//! The errors of channel operations: one type per operation, named as in std and crossbeam. A
//! refused value is inside.

use std::error::Error;
use std::fmt;

/// A send on a channel that is closed, or that has no receivers any more; with the value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SendError<T>(pub T);

/// A send that would have had to wait, or that can never succeed; with the value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TrySendError<T> {
    /// The buffer is full, or no receiver waits.
    Full(T),
    /// The channel is closed, or its receivers are gone.
    Closed(T),
}

/// A send that was not carried out in time, or that can never succeed; with the value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SendTimeoutError<T> {
    /// The deadline came first.
    Timeout(T),
    /// The channel is closed, or its receivers are gone.
    Closed(T),
}

/// A receive on a channel that is closed and drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecvError;

/// A receive that would have had to wait, or that can never succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryRecvError {
    /// Nothing is there now.
    Empty,
    /// The channel is closed and drained.
    Closed,
}

/// A receive that got nothing in time, or that can never succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecvTimeoutError {
    /// The deadline came first.
    Timeout,
    /// The channel is closed and drained.
    Closed,
}

/// The text of a send that can never succeed. It does not say which of the two it is: the channel
/// knows one state for both.
pub(super) const CLOSED: &str = "sending on a channel that is closed or has no receivers";

impl<T> SendError<T> {
    /// Gives the value back.
    pub fn into_inner(self) -> T {
        self.0
    }

    /// Drops the value. The error that is left is `Send + Sync + 'static`, so `?` turns it into a
    /// boxed error, whatever the value is.
    ///
    /// ```
    /// use goby::chan::{self, SendError};
    /// use std::cell::Cell;
    ///
    /// fn report(cell: Cell<u8>) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    ///     let (tx, _) = chan::bounded(1);
    ///     tx.send(cell).map_err(SendError::without_value)?; // A `Cell` is not `Sync`.
    ///     Ok(())
    /// }
    /// let error = report(Cell::new(1)).unwrap_err();
    /// assert_eq!(error.to_string(), "sending on a channel that is closed or has no receivers");
    /// ```
    pub fn without_value(self) -> SendError<()> {
        SendError(())
    }
}

impl<T> TrySendError<T> {
    /// Gives the value back.
    pub fn into_inner(self) -> T {
        match self {
            TrySendError::Full(value) | TrySendError::Closed(value) => value,
        }
    }

    /// Drops the value, as [`SendError::without_value`] does.
    ///
    /// ```
    /// let (tx, _rx) = goby::chan::bounded(0);
    /// assert_eq!(tx.try_send(std::rc::Rc::new(1)).unwrap_err().without_value(), goby::chan::TrySendError::Full(()));
    /// ```
    pub fn without_value(self) -> TrySendError<()> {
        match self {
            TrySendError::Full(_) => TrySendError::Full(()),
            TrySendError::Closed(_) => TrySendError::Closed(()),
        }
    }

    /// Whether a later try may succeed.
    pub fn is_full(&self) -> bool {
        matches!(self, TrySendError::Full(_))
    }

    /// Whether every further try fails.
    pub fn is_closed(&self) -> bool {
        matches!(self, TrySendError::Closed(_))
    }
}

impl<T> SendTimeoutError<T> {
    /// Gives the value back.
    pub fn into_inner(self) -> T {
        match self {
            SendTimeoutError::Timeout(value) | SendTimeoutError::Closed(value) => value,
        }
    }

    /// Drops the value, as [`SendError::without_value`] does.
    ///
    /// ```
    /// use goby::chan::{self, SendTimeoutError};
    /// let (tx, _rx) = chan::bounded(0);
    /// let error = tx.send_timeout(1, std::time::Duration::ZERO).unwrap_err();
    /// assert_eq!(error.without_value(), SendTimeoutError::Timeout(()));
    /// ```
    pub fn without_value(self) -> SendTimeoutError<()> {
        match self {
            SendTimeoutError::Timeout(_) => SendTimeoutError::Timeout(()),
            SendTimeoutError::Closed(_) => SendTimeoutError::Closed(()),
        }
    }

    /// Whether a later try may succeed.
    pub fn is_timeout(&self) -> bool {
        matches!(self, SendTimeoutError::Timeout(_))
    }

    /// Whether every further try fails.
    pub fn is_closed(&self) -> bool {
        matches!(self, SendTimeoutError::Closed(_))
    }
}

impl TryRecvError {
    /// Whether a later try may succeed.
    pub fn is_empty(&self) -> bool {
        matches!(self, TryRecvError::Empty)
    }

    /// Whether every further try fails.
    pub fn is_closed(&self) -> bool {
        matches!(self, TryRecvError::Closed)
    }
}

impl RecvTimeoutError {
    /// Whether a later try may succeed.
    pub fn is_timeout(&self) -> bool {
        matches!(self, RecvTimeoutError::Timeout)
    }

    /// Whether every further try fails.
    pub fn is_closed(&self) -> bool {
        matches!(self, RecvTimeoutError::Closed)
    }
}

// `Debug` is what `unwrap` prints. It says what has happened, since the value may have no `Debug`.
impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SendError(\"channel closed\")")
    }
}

impl<T> fmt::Debug for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_full() { "Full(\"channel full\")" } else { "Closed(\"channel closed\")" })
    }
}

impl<T> fmt::Debug for SendTimeoutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_timeout() { "Timeout(\"timed out sending\")" } else { "Closed(\"channel closed\")" })
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(CLOSED)
    }
}

impl<T> fmt::Display for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_full() { "sending on a full channel" } else { CLOSED })
    }
}

impl<T> fmt::Display for SendTimeoutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_timeout() { "timed out sending" } else { CLOSED })
    }
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("receiving on an empty, closed channel")
    }
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TryRecvError::Empty => "receiving on an empty channel",
            TryRecvError::Closed => "receiving on an empty, closed channel",
        })
    }
}

impl fmt::Display for RecvTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RecvTimeoutError::Timeout => "timed out receiving",
            RecvTimeoutError::Closed => "receiving on an empty, closed channel",
        })
    }
}

impl<T> Error for SendError<T> {}
impl<T> Error for TrySendError<T> {}
impl<T> Error for SendTimeoutError<T> {}
impl Error for RecvError {}
impl Error for TryRecvError {}
impl Error for RecvTimeoutError {}

impl<T> From<SendError<T>> for TrySendError<T> {
    fn from(error: SendError<T>) -> TrySendError<T> {
        TrySendError::Closed(error.0)
    }
}

impl From<RecvError> for TryRecvError {
    fn from(_: RecvError) -> TryRecvError {
        TryRecvError::Closed
    }
}
