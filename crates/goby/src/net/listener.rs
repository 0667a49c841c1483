//! Accepting TCP connections.

use std::fmt;
use std::io;
use std::net::{self, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use goby_runtime::{Direction, spread_next};
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};

use super::socket::Socket;
use super::{Address, ListenConfig, TcpStream};
use crate::Context;

/// A socket that accepts TCP connections.
///
/// ```
/// use goby::net::{TcpListener, TcpStream};
/// use std::io::{Read, Write};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let addr = listener.local_addr()?;
/// let (ctx, _stop) = goby::Context::background().with_cancel();
/// listener.set_context(Some(&ctx));
/// goby::go(move || {
///     // Until that fails: here, when the context is done.
///     for mut stream in listener.incoming().map_while(Result::ok) {
///         goby::go(move || stream.write_all(b"hello"));
///     }
/// });
/// let mut greeting = String::new();
/// TcpStream::connect(addr)?.read_to_string(&mut greeting)?;
/// assert_eq!(greeting, "hello");
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Blocking
///
/// [`accept`](TcpListener::accept) parks the goroutine. On a plain OS thread it blocks the thread.
///
/// # Cancellation
///
/// A [deadline](TcpListener::set_deadline) ends a wait, and so does a
/// [context](TcpListener::set_context) when it is done.
pub struct TcpListener {
    socket: Socket<net::TcpListener>,
}

impl TcpListener {
    /// Listens at `addr`, at the first of its addresses that is free. Port 0 lets the system
    /// choose.
    ///
    /// A [`ListenConfig`] has options, and what holds without.
    ///
    /// ```
    /// use goby::net::TcpListener;
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// assert_ne!(listener.local_addr()?.port(), 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine while a name is looked up.
    ///
    /// # Errors
    ///
    /// The error of the lookup, or of the last address tried.
    #[doc(alias("net.Listen", "Listen"))]
    pub fn bind(addr: impl Into<Address>) -> io::Result<TcpListener> {
        ListenConfig::new().bind(addr)
    }

    /// Takes a listening socket of std.
    ///
    /// ```
    /// use goby::net::{TcpListener, TcpStream};
    /// let listener = TcpListener::from_std(std::net::TcpListener::bind("127.0.0.1:0")?)?;
    /// let client = TcpStream::connect(listener.local_addr()?)?;
    /// assert_eq!(listener.accept()?.1, client.local_addr()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's error, if the socket cannot be put into non-blocking mode.
    pub fn from_std(socket: net::TcpListener) -> io::Result<TcpListener> {
        socket.set_nonblocking(true)?;
        Ok(TcpListener::from_nonblocking(socket))
    }

    /// Takes a listening socket in non-blocking mode.
    pub(super) fn from_nonblocking(socket: net::TcpListener) -> TcpListener {
        TcpListener { socket: Socket::new(socket) }
    }

    /// Waits for the next connection; returns it and the address that it comes from.
    ///
    /// Several goroutines may accept from one listener. goby assumes that the next goroutine which
    /// the accepting one starts is the connection's. That goroutine begins on the OS thread on
    /// which the fewest goroutines live.
    ///
    /// ```
    /// use goby::net::{TcpListener, TcpStream};
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let client = TcpStream::connect(listener.local_addr()?)?;
    /// let (server, from) = listener.accept()?;
    /// assert_eq!(from, client.local_addr()?);
    /// assert_eq!(server.peer_addr()?, from);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine until somebody connects.
    ///
    /// # Errors
    ///
    /// The system's errors. Those that mean too many open files leave the connection waiting, and
    /// the caller may accept again. A connection that was closed before it could be accepted is no
    /// error.
    ///
    /// # Cancellation
    ///
    /// Ended by the deadline and by the context of the listener.
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (fd, from): (OwnedFd, _) = self.socket.perform(Direction::Read, |socket| {
            loop {
                match acceptfrom_with(socket, flags) {
                    Err(Errno::CONNABORTED) => {}
                    result => return Ok(result?),
                }
            }
        })?;
        let stream = net::TcpStream::from(fd);
        let from = match from.and_then(|from| SocketAddr::try_from(from).ok()) {
            Some(from) => from,
            None => stream.peer_addr()?,
        };
        // The goroutine that is started now is mostly the connection's.
        spread_next();
        Ok((TcpStream::from_nonblocking(stream), from))
    }

    /// Iterates over connections as they come. It never ends by itself.
    ///
    /// ```
    /// use goby::net::{TcpListener, TcpStream};
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let client = TcpStream::connect(listener.local_addr()?)?;
    /// let server = listener.incoming().next().unwrap()?;
    /// assert_eq!(server.peer_addr()?, client.local_addr()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// Each step is an [`accept`](TcpListener::accept).
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }

    /// Returns the address at which this listens, with the port that the system chose.
    ///
    /// ```
    /// let listener = goby::net::TcpListener::bind("127.0.0.1:0")?;
    /// assert!(listener.local_addr()?.ip().is_loopback());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.get_ref().local_addr()
    }

    /// Lets accepting wait until `deadline` and no longer, also an accept in progress; `None` lifts
    /// the deadline.
    ///
    /// ```
    /// let listener = goby::net::TcpListener::bind("127.0.0.1:0")?;
    /// listener.set_deadline(Some(std::time::Instant::now()));
    /// assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_deadline(&self, deadline: Option<Instant>) {
        self.socket.set_deadline(Direction::Read, deadline);
    }

    /// Ends accepting when `ctx` is done, also an accept in progress; `None` lifts that.
    ///
    /// ```
    /// use goby::{Context, net::TcpListener};
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// listener.set_context(Some(&ctx));
    /// cancel.cancel();
    /// assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::ConnectionAborted);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_context(&self, ctx: Option<&Context>) {
        self.socket.set_context(ctx);
    }
}

/// The connections of a listener, as they come; from [`TcpListener::incoming`].
pub struct Incoming<'a> {
    listener: &'a TcpListener,
}

impl Iterator for Incoming<'_> {
    type Item = io::Result<TcpStream>;

    fn next(&mut self) -> Option<io::Result<TcpStream>> {
        Some(self.listener.accept().map(|(stream, _)| stream))
    }
}

impl AsFd for TcpListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.get_ref().as_fd()
    }
}

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket.fmt(f)
    }
}

impl fmt::Debug for Incoming<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.listener.fmt(f)
    }
}
