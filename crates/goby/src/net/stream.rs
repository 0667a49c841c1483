//! Streams, whatever carries them: limits, closing, the halves. `transfer.rs` reads and writes.

mod transfer;

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Stdio;
use std::task::{self, Poll};
use std::time::Instant;

use goby_runtime::Direction;

use super::kind::StreamSocket;
use super::socket::{Socket, shutdown_of};
use super::split::{OwnedReadHalf, OwnedWriteHalf, split};
use crate::Context;
use crate::chan::Receiver;

/// A connection: a [`TcpStream`](super::TcpStream) or a [`UnixStream`](super::UnixStream).
///
/// It implements [`Read`](io::Read) and [`Write`](io::Write), and so does a reference to it, so
/// that one goroutine may read while another writes. It also implements `futures-io`'s traits.
pub struct Stream<T: StreamSocket> {
    pub(super) socket: Socket<T>,
}

impl<T: StreamSocket> Stream<T> {
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
    pub fn from_std(socket: T) -> io::Result<Stream<T>> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Stream::from_nonblocking(socket))
    }

    /// Gives the socket away as one of std's, in blocking mode: to a child, or to a crate that
    /// wants std's. Its deadlines and its context hold no longer.
    ///
    /// The mode is the connection's, not the descriptor's: a [clone](Stream::try_clone) would from
    /// now on block its OS thread, and all goroutines there. So drop the clones first. A stream
    /// also becomes the [`Stdio`] of a child, which panics where this fails.
    ///
    /// ```
    /// use goby::net::UnixStream;
    /// use goby::process::Command;
    /// use std::io::Read;
    /// let (theirs, mut ours) = UnixStream::pair()?;
    /// let status = Command::new("echo").arg("hello").stdout(theirs).status()?;
    /// assert!(status.success());
    /// let mut text = String::new();
    /// ours.read_to_string(&mut text)?;
    /// assert_eq!(text, "hello\n");
    ///
    /// let std: std::os::unix::net::UnixStream = ours.into_std()?;
    /// let _fd = std::os::fd::OwnedFd::from(std);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// That of a stream that was closed. The system's, such as that of too many open files, since
    /// the result has a descriptor of its own. The stream is dropped then, too.
    ///
    /// Source: tokio's `into_std`, which leaves the mode as it is.
    #[doc(alias("into_fd", "into_raw_fd", "Conn.File"))]
    pub fn into_std(self) -> io::Result<T> {
        self.socket.to_blocking()
    }

    /// Takes a socket that is connected and in non-blocking mode.
    pub(super) fn from_nonblocking(socket: T) -> Stream<T> {
        Stream { socket: Socket::new(socket) }
    }

    /// Ends operations when `ctx` is done, those in progress and those to come; `None` lifts that.
    ///
    /// The context replaces the one that was set before. It does not close the connection:
    /// [`close`](Stream::close) does, and dropping the stream.
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
    #[doc(alias("set_read_timeout"))]
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
    #[doc(alias("set_write_timeout"))]
    pub fn set_write_deadline(&self, deadline: Option<Instant>) {
        self.socket.set_deadline(Direction::Write, deadline);
    }

    /// Sets the deadline of both [reads](Stream::set_read_deadline) and
    /// [writes](Stream::set_write_deadline).
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
        self.peek_into(buf)
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
        self.poll_peek_into(cx, buf)
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
        self.socket.ask(|socket| Ok(rustix::net::shutdown(socket, shutdown_of(how))?))
    }

    /// Closes the connection, although other goroutines may hold the stream. Their operations end
    /// at once with a [`ClosedError`](super::ClosedError), those in progress and those to come. A
    /// second call does nothing.
    ///
    /// Dropping the stream closes it as well; this is for streams that are shared. The peer sees
    /// the end of the connection. Only the number of the descriptor stays taken until the stream is
    /// dropped, and names nothing: so nobody who still has it reads from another socket.
    ///
    /// ```
    /// use goby::net::{TcpListener, TcpStream};
    /// use std::{io::{ErrorKind, Read}, sync::Arc};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let client = Arc::new(TcpStream::connect(listener.local_addr()?)?);
    /// let (mut server, _) = listener.accept()?;
    /// let shared = client.clone();
    /// let reader = goby::go(move || (&*shared).read(&mut [0]));
    /// client.close();
    /// let error = reader.join().unwrap().unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::NotConnected);
    /// assert_eq!(error.to_string(), "use of closed network connection");
    /// assert_eq!(server.read(&mut [0])?, 0, "the end");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// Source: Go's `Conn.Close`.
    pub fn close(&self) {
        self.socket.close();
    }

    /// Returns a channel that is closed once a read would not wait: a case of a
    /// [`select!`](crate::select!) that waits for the socket.
    ///
    /// A read does not wait if there are bytes, at the end of the stream, or if it fails: its
    /// deadline is past, its context is done, the stream is closed. Call this anew for each
    /// `select!`: bytes that are left unread make the next channel ready again. If several
    /// goroutines read from the stream, the one that is told may find that another was faster, and
    /// its read waits.
    ///
    /// This tells of the socket only. What a [`BufReader`](io::BufReader) or a TLS session has
    /// taken out of it already does not count: a goroutine may wait here though the rest of its
    /// message is in the buffer. So take what the buffer has first
    /// (`while !reader.buffer().is_empty()`), or let another goroutine read, and send what it reads
    /// into a channel.
    ///
    /// Here a connection is read while commands come over a channel:
    ///
    /// ```
    /// use goby::net::{TcpListener, TcpStream};
    /// use goby::{chan, go, select};
    /// use std::io::{Read, Write};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let mut peer = TcpStream::connect(listener.local_addr()?)?;
    /// let (mut stream, _) = listener.accept()?;
    /// let (commands_tx, commands) = chan::bounded(0);
    /// let session = go(move || -> std::io::Result<Vec<u8>> {
    ///     let (mut received, mut buffer) = (Vec::new(), [0; 1024]);
    ///     loop {
    ///         select! {
    ///             recv(stream.readable()) -> _ => match stream.read(&mut buffer)? {
    ///                 0 => return Ok(received),
    ///                 n => received.extend_from_slice(&buffer[..n]),
    ///             },
    ///             recv(commands) -> command => match command {
    ///                 Ok(text) => stream.write_all(text)?,
    ///                 Err(_) => return Ok(received),
    ///             },
    ///         }
    ///     }
    /// });
    /// commands_tx.send(b"hello").unwrap();
    /// let mut greeting = [0; 5];
    /// peer.read_exact(&mut greeting)?;
    /// assert_eq!(&greeting, b"hello");
    /// peer.write_all(b"hi")?;
    /// drop(peer);
    /// assert_eq!(session.join().unwrap()?, b"hi");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn readable(&self) -> Receiver<Infallible> {
        self.socket.ready(Direction::Read)
    }

    /// Returns a channel that is closed once a write would not wait, or would fail; for a
    /// [`select!`](crate::select!).
    ///
    /// Call this anew for each `select!`. A write of more bytes than there is room for takes some
    /// of them; [`write_all`](std::io::Write::write_all) waits for the others.
    ///
    /// ```
    /// use goby::net::{TcpListener, TcpStream};
    /// use goby::select;
    /// use std::time::Duration;
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let stream = TcpStream::connect(listener.local_addr()?)?;
    /// let has_room = select! {
    ///     recv(stream.writable()) -> _ => true,
    ///     default(Duration::from_secs(60)) => false,
    /// };
    /// assert!(has_room);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn writable(&self) -> Receiver<Infallible> {
        self.socket.ready(Direction::Write)
    }

    /// Splits the stream into a half that reads and one that writes, each of which one goroutine
    /// may own. Dropping the half that writes shuts down writing.
    ///
    /// ```
    /// use goby::net::UnixStream;
    /// use std::io::{Read, Write};
    ///
    /// let (client, server) = UnixStream::pair()?;
    /// let (mut reader, mut writer) = client.into_split();
    /// let echo = goby::go(move || std::io::copy(&mut &server, &mut &server));
    /// goby::go(move || writer.write_all(b"hello"));
    /// let mut answer = String::new();
    /// reader.read_to_string(&mut answer)?;
    /// assert_eq!(answer, "hello");
    /// assert_eq!(echo.join().unwrap()?, 5);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// Source: tokio's `into_split`.
    #[doc(alias("split"))]
    pub fn into_split(self) -> (OwnedReadHalf<T>, OwnedWriteHalf<T>) {
        split(self)
    }

    /// Makes another stream of the same connection, with a descriptor, deadlines and a context of
    /// its own.
    ///
    /// The connection ends when both are closed or dropped; [`shutdown`](Stream::shutdown) of one
    /// is one of both. A stream in an [`Arc`](std::sync::Arc) costs no descriptor, and shares the
    /// rest.
    ///
    /// ```
    /// use goby::net::UnixStream;
    /// use std::io::{Read, Write};
    /// let (mut writer, mut peer) = UnixStream::pair()?;
    /// let mut reader = writer.try_clone()?;
    /// writer.write_all(b"x")?;
    /// drop(writer);
    /// assert_eq!(peer.read(&mut [0])?, 1);
    /// peer.write_all(b"y")?;
    /// assert_eq!(reader.read(&mut [0])?, 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's, such as that of too many open files.
    pub fn try_clone(&self) -> io::Result<Stream<T>> {
        Ok(Stream::from_nonblocking(self.socket.duplicate()?))
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
    pub fn peer_addr(&self) -> io::Result<T::Addr> {
        self.socket.ask(T::peer)
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
    pub fn local_addr(&self) -> io::Result<T::Addr> {
        self.socket.ask(T::local)
    }
}

impl<T: StreamSocket> AsFd for Stream<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.get_ref().as_fd()
    }
}

/// Gives it away in [blocking mode](Stream::into_std).
impl<T: StreamSocket> From<Stream<T>> for Stdio {
    fn from(stream: Stream<T>) -> Stdio {
        let fd: OwnedFd = stream.into_std().expect("a stream can be given away").into();
        Stdio::from(fd)
    }
}

impl<T: StreamSocket> fmt::Debug for Stream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket.fmt(f)
    }
}
