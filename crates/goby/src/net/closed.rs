//! The error of a socket that was closed here.

use std::error::Error;
use std::fmt;
use std::io;

/// The error of an operation on a socket that was closed, here and not by the peer.
///
/// In an [`io::Error`] it is of kind `NotConnected`, which has other reasons too: its
/// [`source`](Error::source) tells.
///
/// ```
/// use goby::net::{ClosedError, UnixStream};
/// use std::{error::Error, io::Read};
/// let (stream, _peer) = UnixStream::pair()?;
/// stream.close();
/// let error = (&stream).read(&mut [0]).unwrap_err();
/// assert_eq!(error.kind(), std::io::ErrorKind::NotConnected);
/// assert!(error.source().unwrap().is::<ClosedError>());
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// Source: Go's `net.ErrClosed`, with its words.
#[doc(alias("net.ErrClosed", "ErrClosed"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosedError;

impl fmt::Display for ClosedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("use of closed network connection")
    }
}

impl Error for ClosedError {}

impl From<ClosedError> for io::Error {
    fn from(error: ClosedError) -> io::Error {
        io::Error::new(io::ErrorKind::NotConnected, Refused(error))
    }
}

/// Makes the error the source of an `io::Error`, which names as its source not the error that it
/// holds, but that error's source.
#[derive(Debug)]
struct Refused(ClosedError);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Refused {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}
