//! TCP connections: reading and writing.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{self, Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{self, Poll};
use std::time::{Duration, Instant};

use futures_io::{AsyncRead, AsyncWrite};
use goby_runtime::Direction;
use rustix::net::{RecvFlags, SendFlags};

use super::socket::Socket;
use super::{Address, Dialer, KeepAlive};
use crate::Context;

/// A TCP connection.
///
/// Reads and writes park the goroutine until the system has data or room. `&TcpStream` also
/// implements [`Read`] and [`Write`], so that one goroutine may read while another writes. Dropping
/// the stream closes it.
///
/// There is no `try_clone`: put the stream into an [`Arc`](std::sync::Arc). Through `BufReader` the
/// stream can be written by [`get_ref`](std::io::BufReader::get_ref):
///
/// ```
/// use goby::net::{TcpListener, TcpStream};
/// use std::io::{BufRead, BufReader, Write};
/// use std::sync::Arc;
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let client = Arc::new(TcpStream::connect(listener.local_addr()?)?);
/// let (server, _) = listener.accept()?;
/// let echo = goby::go(move || -> std::io::Result<()> {
///     let (mut reader, mut line) = (BufReader::new(server), String::new());
///     reader.read_line(&mut line)?;
///     reader.get_ref().write_all(line.as_bytes())
/// });
///
/// let writer = client.clone();
/// goby::go(move || (&*writer).write_all(b"ping\n")).join().unwrap()?;
/// let mut answer = String::new();
/// BufReader::new(&*client).read_line(&mut answer)?;
/// assert_eq!(answer, "ping\n");
/// echo.join().unwrap()?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// Connections begin as in Go, whether they are made or accepted: small writes are sent at once
/// ([`set_nodelay`](TcpStream::set_nodelay)), and the peer of an idle connection is probed every 15
/// seconds ([`set_keep_alive`](TcpStream::set_keep_alive)). std and tokio leave both off. A
/// [`Dialer`] and a [`ListenConfig`](super::ListenConfig) have other options. What
/// [`from_std`](TcpStream::from_std) takes stays as it is.
///
/// ```
/// use goby::net::{TcpListener, TcpStream};
/// use std::io::{Read, Write};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let mut client = TcpStream::connect(listener.local_addr()?)?;
/// let (mut server, from) = listener.accept()?;
/// assert_eq!(from, client.local_addr()?);
///
/// client.write_all(b"ping")?;
/// let mut message = [0; 4];
/// server.read_exact(&mut message)?;
/// assert_eq!(&message, b"ping");
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Blocking
///
/// Reads, writes and connecting park the goroutine. On a plain OS thread they block the thread.
///
/// # Cancellation
///
/// A deadline ends a wait, and so does a [context](TcpStream::set_context) when it is done.
#[doc(alias("net.Conn", "TCPConn"))]
pub struct TcpStream {
    pub(super) socket: Socket<net::TcpStream>,
}

impl TcpStream {
    /// Connects to `addr`: to the one of its addresses that [answers first](Dialer).
    ///
    /// ```
    /// use goby::net::{TcpListener, TcpStream};
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let stream = TcpStream::connect(("127.0.0.1", listener.local_addr()?.port()))?;
    /// assert_eq!(stream.peer_addr()?, listener.local_addr()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine until the name is looked up and the connection made.
    ///
    /// # Errors
    ///
    /// The error of the lookup, or of the address. If there are several and all fail, the error
    /// names each with its own error.
    #[doc(alias("net.Dial", "Dial"))]
    pub fn connect(addr: impl Into<Address>) -> io::Result<TcpStream> {
        Dialer::new().dial(addr)
    }

    /// Connects to `addr` within `timeout`, which includes the time to look up its name.
    ///
    /// ```
    /// use goby::net::{TcpListener, TcpStream};
    /// use std::time::Duration;
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let addr = listener.local_addr()?;
    /// assert!(TcpStream::connect_timeout(addr, Duration::from_secs(10)).is_ok());
    /// let error = TcpStream::connect_timeout(addr, Duration::ZERO).unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// As for [`connect`](TcpStream::connect), for at most `timeout`.
    ///
    /// # Errors
    ///
    /// Those of `connect`, and `TimedOut`.
    #[doc(alias("net.DialTimeout", "DialTimeout"))]
    pub fn connect_timeout(addr: impl Into<Address>, timeout: Duration) -> io::Result<TcpStream> {
        Dialer::new().timeout(timeout).dial(addr)
    }

    /// Connects to `addr` unless `ctx` is done first.
    ///
    /// Once it is made, the connection is independent of `ctx`;
    /// [`set_context`](TcpStream::set_context) ties them.
    ///
    /// ```
    /// use goby::{Context, net::TcpStream};
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// cancel.cancel();
    /// let error = TcpStream::connect_ctx(&ctx, "127.0.0.1:9").unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::ConnectionAborted);
    /// ```
    ///
    /// # Blocking
    ///
    /// As for [`connect`](TcpStream::connect).
    ///
    /// # Errors
    ///
    /// Those of `connect`, and those of the [module](super#errors) when the context is done.
    ///
    /// # Cancellation
    ///
    /// Returns at once when `ctx` is done, also while the name is looked up. A half-made connection
    /// is closed.
    #[doc(alias("net.DialContext", "DialContext"))]
    pub fn connect_ctx(ctx: &Context, addr: impl Into<Address>) -> io::Result<TcpStream> {
        Dialer::new().dial_ctx(ctx, addr)
    }

    /// Takes a socket of std that is connected.
    ///
    /// ```
    /// use goby::net::TcpStream;
    /// use std::{io::Read, net};
    /// let listener = net::TcpListener::bind("127.0.0.1:0")?;
    /// let mut stream = TcpStream::from_std(net::TcpStream::connect(listener.local_addr()?)?)?;
    /// drop(listener.accept()?);
    /// assert_eq!(stream.read(&mut [0])?, 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's error, if the socket cannot be put into non-blocking mode.
    pub fn from_std(socket: net::TcpStream) -> io::Result<TcpStream> {
        socket.set_nonblocking(true)?;
        Ok(TcpStream::from_nonblocking(socket))
    }

    /// Takes a socket that is connected and in non-blocking mode.
    pub(super) fn from_nonblocking(socket: net::TcpStream) -> TcpStream {
        TcpStream { socket: Socket::new(socket) }
    }

    /// Ends operations when `ctx` is done, those in progress and those to come; `None` lifts that.
    ///
    /// The context replaces the one that was set before. It does not close the connection: dropping
    /// the stream does.
    ///
    /// ```
    /// use goby::{Context, net::{TcpListener, TcpStream}};
    /// use std::io::Read;
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let mut stream = TcpStream::connect(listener.local_addr()?)?;
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// stream.set_context(Some(&ctx));
    /// let reader = goby::go(move || stream.read(&mut [0]));
    /// cancel.cancel();
    /// let error = reader.join().unwrap().unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::ConnectionAborted);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_context(&self, ctx: Option<&Context>) {
        self.socket.set_context(ctx);
    }

    /// Lets reads wait until `deadline` and no longer, those in progress and those to come; `None`
    /// lifts the deadline.
    ///
    /// ```
    /// use goby::net::{TcpListener, TcpStream};
    /// use std::{io::Read, time::Instant};
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let mut stream = TcpStream::connect(listener.local_addr()?)?;
    /// stream.set_read_deadline(Some(Instant::now()));
    /// assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_read_deadline(&self, deadline: Option<Instant>) {
        self.socket.set_deadline(Direction::Read, deadline);
    }

    /// Lets writes wait until `deadline` and no longer, those in progress and those to come; `None`
    /// lifts the deadline.
    ///
    /// ```
    /// use goby::net::{TcpListener, TcpStream};
    /// use std::{io::Write, time::Instant};
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let mut stream = TcpStream::connect(listener.local_addr()?)?;
    /// stream.set_write_deadline(Some(Instant::now()));
    /// assert_eq!(stream.write(&[0]).unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_write_deadline(&self, deadline: Option<Instant>) {
        self.socket.set_deadline(Direction::Write, deadline);
    }

    /// Sets the deadline of both [reads](TcpStream::set_read_deadline) and
    /// [writes](TcpStream::set_write_deadline).
    ///
    /// ```
    /// use goby::net::{TcpListener, TcpStream};
    /// use std::{io::Read, time::Instant};
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let mut stream = TcpStream::connect(listener.local_addr()?)?;
    /// stream.set_deadline(Some(Instant::now()));
    /// assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_deadline(&self, deadline: Option<Instant>) {
        self.set_read_deadline(deadline);
        self.set_write_deadline(deadline);
    }

    /// Reads, and leaves the bytes in the stream.
    ///
    /// ```
    /// # use goby::net::{TcpListener, TcpStream};
    /// # use std::io::{Read, Write};
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// # let mut client = TcpStream::connect(listener.local_addr()?)?;
    /// let (mut server, _) = listener.accept()?;
    /// client.write_all(b"x")?;
    /// let mut byte = [0];
    /// assert_eq!(server.peek(&mut byte)?, 1);
    /// assert_eq!(server.read(&mut byte)?, 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// As a read does.
    ///
    /// # Errors
    ///
    /// As for a read.
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.socket.perform(Direction::Read, |socket| socket.peek(buf))
    }

    /// Reads, and leaves the bytes in the stream, or registers the waker for the time when there is
    /// something.
    ///
    /// Peeking and reading share a waker: the last one given is told.
    ///
    /// ```
    /// use goby::net::{TcpListener, TcpStream};
    /// use std::task::{Context, Poll, Waker};
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let stream = TcpStream::connect(listener.local_addr()?)?;
    /// let mut cx = Context::from_waker(Waker::noop());
    /// assert!(stream.poll_peek(&mut cx, &mut [0]).is_pending());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for a read.
    pub fn poll_peek(&self, cx: &mut task::Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.socket.poll_perform(Direction::Read, cx, |socket| socket.peek(buf))
    }

    /// Closes one direction of the connection, or both.
    ///
    /// ```
    /// use goby::net::{TcpListener, TcpStream};
    /// use std::{io::Read, net::Shutdown};
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let client = TcpStream::connect(listener.local_addr()?)?;
    /// let (mut server, _) = listener.accept()?;
    /// client.shutdown(Shutdown::Write)?;
    /// assert_eq!(server.read(&mut [0])?, 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's error, such as `NotConnected`.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.socket.get_ref().shutdown(how)
    }

    /// Returns the address of the other side.
    ///
    /// ```
    /// # use goby::net::{TcpListener, TcpStream};
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let stream = TcpStream::connect(listener.local_addr()?)?;
    /// assert_eq!(stream.peer_addr()?, listener.local_addr()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's error: the other side may be gone.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket.get_ref().peer_addr()
    }

    /// Returns the address of this side.
    ///
    /// ```
    /// # use goby::net::{TcpListener, TcpStream};
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let stream = TcpStream::connect(listener.local_addr()?)?;
    /// assert!(stream.local_addr()?.ip().is_loopback());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.get_ref().local_addr()
    }

    /// Sets whether small writes are sent at once (`TCP_NODELAY`). Default: true.
    ///
    /// ```
    /// # use goby::net::{TcpListener, TcpStream};
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let stream = TcpStream::connect(listener.local_addr()?)?;
    /// assert!(stream.nodelay()?);
    /// stream.set_nodelay(false)?;
    /// assert!(!stream.nodelay()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.socket.get_ref().set_nodelay(nodelay)
    }

    /// Returns whether small writes are sent at once.
    ///
    /// ```
    /// # use goby::net::{TcpListener, TcpStream};
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let stream = TcpStream::connect(listener.local_addr()?)?;
    /// assert!(stream.nodelay()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.socket.get_ref().nodelay()
    }

    /// Sets when the system asks an idle peer whether it is still there (`SO_KEEPALIVE`); `None`:
    /// never. Default: [`KeepAlive::new`].
    ///
    /// ```
    /// # use goby::net::{KeepAlive, TcpListener, TcpStream};
    /// # use std::time::Duration;
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let stream = TcpStream::connect(listener.local_addr()?)?;
    /// stream.set_keep_alive(KeepAlive::new().idle(Duration::from_secs(60)))?;
    /// stream.set_keep_alive(None)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's, such as `InvalidInput` for a time of zero or of more than nine hours.
    pub fn set_keep_alive(&self, keep_alive: impl Into<Option<KeepAlive>>) -> io::Result<()> {
        KeepAlive::apply(keep_alive.into(), self.socket.get_ref())
    }
}

/// The most that a vectored write joins into one piece.
const JOINED: usize = 1024;

fn receive(socket: &net::TcpStream, buf: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::net::recv(socket, buf, RecvFlags::empty())?.0)
}

fn transmit(socket: &net::TcpStream, buf: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(socket, buf, SendFlags::NOSIGNAL)?)
}

/// Joins small pieces, because the system takes a list of them much more slowly than one piece.
fn transmit_vectored(mut socket: &net::TcpStream, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
    let mut joined = [0; JOINED];
    let mut len = 0;
    for buf in bufs {
        let Some(room) = joined.get_mut(len..len + buf.len()) else { return socket.write_vectored(bufs) };
        room.copy_from_slice(buf);
        len += buf.len();
    }
    transmit(socket, &joined[..len])
}

impl Read for &TcpStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.socket.read(buf.len(), |socket| receive(socket, buf))
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let room = bufs.iter().map(|buf| buf.len()).sum();
        self.socket.read(room, |mut socket| socket.read_vectored(bufs))
    }
}

impl Write for &TcpStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.socket.perform(Direction::Write, |socket| transmit(socket, buf))
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.socket.perform(Direction::Write, |socket| transmit_vectored(socket, bufs))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for TcpStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(bufs)
    }
}

impl Write for TcpStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self).write(buf)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for &TcpStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut task::Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.socket.poll_read(buf.len(), cx, |socket| receive(socket, buf))
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        let room = bufs.iter().map(|buf| buf.len()).sum();
        self.socket.poll_read(room, cx, |mut socket| socket.read_vectored(bufs))
    }
}

impl AsyncWrite for &TcpStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut task::Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.socket.poll_perform(Direction::Write, cx, |socket| transmit(socket, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.socket.poll_perform(Direction::Write, cx, |socket| transmit_vectored(socket, bufs))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shutdown(Shutdown::Write))
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut task::Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self).poll_read(cx, buf)
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self).poll_read_vectored(cx, bufs)
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut task::Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shutdown(Shutdown::Write))
    }
}

impl AsFd for TcpStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.get_ref().as_fd()
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket.fmt(f)
    }
}
