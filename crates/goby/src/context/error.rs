//! How and why a context has ended.

use std::borrow::Cow;
use std::error::Error;
use std::sync::Arc;
use std::{fmt, io};

/// Why a context was canceled, in the words of the canceler.
///
/// [`Context::cause`](crate::Context::cause) returns the same `Arc` that was passed in.
pub type Cause = Arc<dyn Error + Send + Sync>;

/// How a context ended.
///
/// ```
/// use goby::context::ContextError;
/// assert_eq!(ContextError::Canceled.to_string(), "context canceled");
/// assert_eq!(ContextError::DeadlineExceeded.to_string(), "context deadline exceeded");
/// ```
///
/// It becomes an [`io::Error`] by `?`: of kind `TimedOut` or `ConnectionAborted`, with the same
/// text, and with the `ContextError` as its [`source`](Error::source). The sockets' errors are made
/// in the same way.
///
/// ```
/// use goby::context::ContextError;
/// use std::{error::Error, io};
///
/// let error = io::Error::from(ContextError::DeadlineExceeded);
/// assert_eq!((error.kind(), error.to_string().as_str()), (io::ErrorKind::TimedOut, "context deadline exceeded"));
/// assert_eq!(error.source().unwrap().downcast_ref(), Some(&ContextError::DeadlineExceeded));
/// ```
///
/// Source: Go's `context.Canceled`, `context.DeadlineExceeded`.
#[doc(alias("context.Canceled", "context.DeadlineExceeded"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContextError {
    /// The context was canceled, or one of its ancestors was.
    Canceled,
    /// The context's deadline passed, or that of one of its ancestors.
    DeadlineExceeded,
}

impl ContextError {
    /// Returns whether the deadline had passed. Go: the error's `Timeout`.
    ///
    /// ```
    /// use goby::context::ContextError;
    /// assert!(ContextError::DeadlineExceeded.is_timeout() && !ContextError::Canceled.is_timeout());
    /// ```
    pub fn is_timeout(self) -> bool {
        self == ContextError::DeadlineExceeded
    }
}

impl fmt::Display for ContextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ContextError::Canceled => "context canceled",
            ContextError::DeadlineExceeded => "context deadline exceeded",
        })
    }
}

impl Error for ContextError {}

impl From<ContextError> for io::Error {
    fn from(error: ContextError) -> io::Error {
        let kind = match error {
            ContextError::DeadlineExceeded => io::ErrorKind::TimedOut,
            ContextError::Canceled => io::ErrorKind::ConnectionAborted,
        };
        io::Error::new(kind, Stopped(error))
    }
}

/// Makes the context's error the source of an `io::Error`. An `io::Error` names as its source not
/// the error that it holds, but that error's source.
#[derive(Debug)]
struct Stopped(ContextError);

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Stopped {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

/// A deadline of goby's own that has passed, in an `io::Error`: the system's time-outs have the
/// same kind, but mean that a connection is lost.
#[derive(Debug)]
struct Late;

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("i/o timeout")
    }
}

impl Error for Late {}

/// The error of a wait that reached its deadline.
pub(crate) fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, Late)
}

/// Returns whether the error is that of a deadline or a context of goby's. Then what the operation
/// used is as good as before, and fails in the same way as long as the limit holds.
#[cfg(any(feature = "tls", test))]
pub(crate) fn is_limit(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Late>() || inner.is::<Stopped>())
}

/// A value that can be the cause of a cancellation: an error in an `Arc`, a boxed error, or a text.
///
/// ```
/// use goby::Context;
/// use std::sync::Arc;
///
/// let (ctx, cancel) = Context::background().with_cancel_cause();
/// cancel.cancel("the disk is full");
/// assert_eq!(ctx.cause().unwrap().to_string(), "the disk is full");
///
/// let (ctx, cancel) = Context::background().with_cancel_cause();
/// cancel.cancel(Arc::new(std::fmt::Error));
/// assert!(ctx.cause().unwrap().is::<std::fmt::Error>());
/// ```
pub trait IntoCause {
    /// Turns it into a cause.
    fn into_cause(self) -> Cause;
}

impl IntoCause for Cause {
    fn into_cause(self) -> Cause {
        self
    }
}

impl<E: Error + Send + Sync + 'static> IntoCause for Arc<E> {
    fn into_cause(self) -> Cause {
        self
    }
}

impl IntoCause for Box<dyn Error + Send + Sync> {
    fn into_cause(self) -> Cause {
        cause_of(self)
    }
}

impl IntoCause for &str {
    fn into_cause(self) -> Cause {
        cause_of(self.into())
    }
}

impl IntoCause for String {
    fn into_cause(self) -> Cause {
        cause_of(self.into())
    }
}

impl IntoCause for Cow<'_, str> {
    fn into_cause(self) -> Cause {
        cause_of(self.into())
    }
}

/// Turns a boxed error into one that can be shared. An error that was shared already, by a group
/// within this one say, stays the same.
pub(crate) fn cause_of(error: Box<dyn Error + Send + Sync>) -> Cause {
    match error.downcast::<Cause>() {
        Ok(cause) => *cause,
        Err(error) => Cause::from(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_told_from_failures() {
        for limit in [timed_out(), ContextError::Canceled.into(), ContextError::DeadlineExceeded.into()] {
            assert!(is_limit(&limit), "{limit}");
        }
        let of_system: io::Error = rustix::io::Errno::TIMEDOUT.into();
        let plain = [io::ErrorKind::TimedOut.into(), io::ErrorKind::ConnectionAborted.into()];
        for failure in plain.into_iter().chain([of_system, io::Error::other("i/o timeout")]) {
            assert!(!is_limit(&failure), "{failure}");
        }
    }
}
