//! The two halves of a stream, each with an owner.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{self, Shutdown};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Instant;

use futures_io::{AsyncRead, AsyncWrite};

use super::Stream;
use super::kind::StreamSocket;
use crate::chan::Receiver;

/// The half of a stream that reads; from [`Stream::into_split`].
///
/// [`as_ref`](AsRef::as_ref) gives the stream, with all its settings and its context, which the
/// halves share. The connection is closed when both halves are dropped.
///
/// ```
/// use goby::net::UnixStream;
/// use std::{io::Read, time::Instant};
/// let (mut reader, _writer) = UnixStream::pair()?.0.into_split();
/// reader.set_read_deadline(Some(Instant::now()));
/// assert!(reader.read(&mut [0]).is_err());
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

/// What both halves tell of their stream.
macro_rules! addresses {
    ($Half:ident) => {
        impl<T: StreamSocket> $Half<T> {
            /// Returns the address of the other side, as [`Stream::peer_addr`] does.
            ///
            /// ```
            /// use goby::net::{TcpListener, TcpStream};
            /// let listener = TcpListener::bind("127.0.0.1:0")?;
            /// let (reader, writer) = TcpStream::connect(listener.local_addr()?)?.into_split();
            /// assert_eq!(reader.peer_addr()?, writer.peer_addr()?);
            /// # Ok::<(), std::io::Error>(())
            /// ```
            ///
            /// # Errors
            ///
            /// The system's error: the other side may be gone.
            pub fn peer_addr(&self) -> io::Result<T::Addr> {
                self.stream().peer_addr()
            }

            /// Returns the address of this side, as [`Stream::local_addr`] does.
            ///
            /// ```
            /// use goby::net::{TcpListener, TcpStream};
            /// let listener = TcpListener::bind("127.0.0.1:0")?;
            /// let (reader, writer) = TcpStream::connect(listener.local_addr()?)?.into_split();
            /// assert_eq!(listener.accept()?.1, reader.local_addr()?);
            /// assert_eq!(reader.local_addr()?, writer.local_addr()?);
            /// # Ok::<(), std::io::Error>(())
            /// ```
            ///
            /// # Errors
            ///
            /// The system's error.
            pub fn local_addr(&self) -> io::Result<T::Addr> {
                self.stream().local_addr()
            }
        }
    };
}

addresses!(OwnedReadHalf);
addresses!(OwnedWriteHalf);

impl<T: StreamSocket> OwnedReadHalf<T> {
    /// Sets the moment at which reads end, as [`Stream::set_read_deadline`] does: see the example
    /// of the [half](OwnedReadHalf).
    pub fn set_read_deadline(&self, deadline: Option<Instant>) {
        self.stream.set_read_deadline(deadline);
    }

    /// Returns a channel that is closed once a read would not wait: a case of a
    /// [`select!`](crate::select!), as [`Stream::readable`] says.
    ///
    /// ```
    /// let (stream, peer) = goby::net::UnixStream::pair()?;
    /// let (reader, _writer) = stream.into_split();
    /// drop(peer);
    /// goby::select! {
    ///     recv(reader.readable()) -> _ => {}
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn readable(&self) -> Receiver<Infallible> {
        self.stream.readable()
    }

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

    fn stream(&self) -> &Stream<T> {
        &self.stream
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

    /// Sets the moment at which writes end, as [`Stream::set_write_deadline`] does.
    ///
    /// ```
    /// use std::{io::Write, time::Instant};
    /// let (stream, _peer) = goby::net::UnixStream::pair()?;
    /// let (_reader, mut writer) = stream.into_split();
    /// writer.set_write_deadline(Some(Instant::now()));
    /// assert_eq!(writer.write(b"x").unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_write_deadline(&self, deadline: Option<Instant>) {
        self.stream().set_write_deadline(deadline);
    }

    /// Returns a channel that is closed once a write would not wait: a case of a
    /// [`select!`](crate::select!), as [`Stream::writable`] says.
    ///
    /// ```
    /// let (stream, _peer) = goby::net::UnixStream::pair()?;
    /// let (_reader, writer) = stream.into_split();
    /// goby::select! {
    ///     recv(writer.writable()) -> _ => {}
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn writable(&self) -> Receiver<Infallible> {
        self.stream().writable()
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
        self.stream()
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
