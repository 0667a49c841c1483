//! The two halves of a stream, each with an owner.

use std::error::Error;
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{self, Shutdown};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};

use futures_io::{AsyncRead, AsyncWrite};

use super::Stream;
use super::kind::StreamSocket;

/// The half of a stream that reads; from [`Stream::into_split`].
///
/// [`as_ref`](AsRef::as_ref) gives the stream, with its addresses, deadlines and context, which the
/// halves share. The connection is closed when both halves are dropped.
///
/// ```
/// use goby::net::UnixStream;
/// use std::{io::Read, time::Instant};
/// let (reader, _writer) = UnixStream::pair()?.0.into_split();
/// let stream: &UnixStream = reader.as_ref();
/// stream.set_read_deadline(Some(Instant::now()));
/// assert!({ stream }.read(&mut [0]).is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct OwnedReadHalf<T: StreamSocket = net::TcpStream> {
    stream: Arc<Stream<T>>,
}

/// The half of a stream that writes; from [`Stream::into_split`]. Dropping it shuts down writing,
/// so that the peer reads the end.
///
/// ```
/// use goby::net::UnixStream;
/// use std::io::Read;
/// let (stream, mut peer) = UnixStream::pair()?;
/// let (_reader, writer) = stream.into_split();
/// drop(writer);
/// assert_eq!(peer.read(&mut [0])?, 0);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct OwnedWriteHalf<T: StreamSocket = net::TcpStream> {
    /// None: it has been forgotten, or put together.
    stream: Option<Arc<Stream<T>>>,
}

/// The halves are not of the same stream; they come back.
pub struct ReuniteError<T: StreamSocket = net::TcpStream>(
    /// The half that reads.
    pub OwnedReadHalf<T>,
    /// The half that writes.
    pub OwnedWriteHalf<T>,
);

pub(super) fn split<T: StreamSocket>(stream: Stream<T>) -> (OwnedReadHalf<T>, OwnedWriteHalf<T>) {
    let stream = Arc::new(stream);
    (OwnedReadHalf { stream: stream.clone() }, OwnedWriteHalf { stream: Some(stream) })
}

impl<T: StreamSocket> OwnedReadHalf<T> {
    /// Puts the halves of a stream together.
    ///
    /// ```
    /// use goby::net::UnixStream;
    /// use std::io::{Read, Write};
    /// let (stream, mut peer) = UnixStream::pair()?;
    /// let (reader, writer) = stream.into_split();
    /// let mut stream = reader.reunite(writer).unwrap();
    /// stream.write_all(b"x")?;
    /// assert_eq!(peer.read(&mut [0])?, 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ReuniteError`] with both, if they are of different streams.
    pub fn reunite(self, mut writer: OwnedWriteHalf<T>) -> Result<Stream<T>, ReuniteError<T>> {
        if !writer.stream.as_ref().is_some_and(|stream| Arc::ptr_eq(stream, &self.stream)) {
            return Err(ReuniteError(self, writer));
        }
        writer.stream = None;
        Ok(Arc::into_inner(self.stream).expect("there were two halves"))
    }
}

impl<T: StreamSocket> OwnedWriteHalf<T> {
    /// Drops the half without shutting down writing.
    ///
    /// ```
    /// use goby::net::UnixStream;
    /// use std::io::{Read, Write};
    /// let (stream, mut peer) = UnixStream::pair()?;
    /// let (reader, writer) = stream.into_split();
    /// writer.forget();
    /// let stream: &UnixStream = reader.as_ref();
    /// { stream }.write_all(b"x")?;
    /// assert_eq!(peer.read(&mut [0])?, 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn forget(mut self) {
        self.stream = None;
    }

    fn stream(&self) -> &Stream<T> {
        self.stream.as_ref().expect("only the last call takes it")
    }
}

impl<T: StreamSocket> Drop for OwnedWriteHalf<T> {
    fn drop(&mut self) {
        if let Some(stream) = &self.stream {
            // It may be shut down already, or closed, or broken.
            let _ = stream.shutdown(Shutdown::Write);
        }
    }
}

impl<T: StreamSocket> AsRef<Stream<T>> for OwnedReadHalf<T> {
    fn as_ref(&self) -> &Stream<T> {
        &self.stream
    }
}

impl<T: StreamSocket> AsRef<Stream<T>> for OwnedWriteHalf<T> {
    fn as_ref(&self) -> &Stream<T> {
        self.stream()
    }
}

impl<T: StreamSocket> Read for OwnedReadHalf<T> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self.stream).read(buf)
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self.stream).read_vectored(bufs)
    }
}

impl<T: StreamSocket> Write for OwnedWriteHalf<T> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.stream().write(buf)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.stream().write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<T: StreamSocket> AsyncRead for OwnedReadHalf<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut task::Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self.stream).poll_read(cx, buf)
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self.stream).poll_read_vectored(cx, bufs)
    }
}

impl<T: StreamSocket> AsyncWrite for OwnedWriteHalf<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut task::Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream()).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream()).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream()).poll_close(cx)
    }
}

impl<T: StreamSocket> fmt::Debug for OwnedReadHalf<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OwnedReadHalf").field(&self.stream).finish()
    }
}

impl<T: StreamSocket> fmt::Debug for OwnedWriteHalf<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OwnedWriteHalf").field(self.stream()).finish()
    }
}

impl<T: StreamSocket> fmt::Debug for ReuniteError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReuniteError").field(&self.0).field(&self.1).finish()
    }
}

impl<T: StreamSocket> fmt::Display for ReuniteError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the halves are not of the same stream")
    }
}

impl<T: StreamSocket> Error for ReuniteError<T> {}
