//! Accepting connections, whatever carries them; and listening for those of TCP.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Instant;

use goby_runtime::{Direction, spread_next};
use parking_lot::Mutex;
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};

use super::kind::{AddrOf, Listening};
use super::socket::Socket;
use super::unix::SocketFile;
use super::{Address, ListenConfig, Stream};
use crate::Context;
use crate::chan::Receiver;

/// A socket that accepts TCP connections.
///
/// ```
/// use goby::net::{TcpListener, TcpStream};
/// use goby::{Context, go, time};
/// use std::io::{Read, Write};
/// use std::time::Duration;
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let addr = listener.local_addr()?;
/// let (ctx, _stop) = Context::background().with_cancel();
/// listener.set_context(Some(&ctx));
/// go(move || {
///     while ctx.err().is_none() {
///         let Ok((mut stream, _)) = listener.accept() else {
///             // The context is done; or no descriptor is free, and soon one may be.
///             let _ = time::sleep_ctx(&ctx, Duration::from_millis(100));
///             continue;
///         };
///         go(move || stream.write_all(b"hello"));
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
/// [`accept`](Listener::accept) parks the goroutine. On a plain OS thread it blocks the thread.
///
/// # Cancellation
///
/// A [deadline](Listener::set_deadline) ends a wait, and so does a [context](Listener::set_context)
/// when it is done.
#[doc(alias("net.Listener", "TCPListener"))]
pub type TcpListener = Listener<net::TcpListener>;

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

    /// Listens at `addr` as [`bind`](TcpListener::bind) does, unless `ctx` is done first.
    ///
    /// ```
    /// use goby::{Context, net::TcpListener};
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// assert!(TcpListener::bind_ctx(&ctx, "localhost:0").is_ok());
    /// cancel.cancel();
    /// let error = TcpListener::bind_ctx(&ctx, "localhost:0").unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::ConnectionAborted);
    /// ```
    ///
    /// # Blocking
    ///
    /// As for `bind`.
    ///
    /// # Errors
    ///
    /// Those of `bind`, and those of the [module](super#errors) when the context is done.
    ///
    /// # Cancellation
    ///
    /// Returns at once when `ctx` is done, also while the name is looked up. The listener is
    /// independent of it.
    pub fn bind_ctx(ctx: &Context, addr: impl Into<Address>) -> io::Result<TcpListener> {
        ListenConfig::new().bind_ctx(ctx, addr)
    }
}

/// A socket that accepts connections: a [`TcpListener`] or a [`UnixListener`](super::UnixListener).
pub struct Listener<T: Listening> {
    /// Removed before the socket is closed, with the last of the clones.
    pub(super) file: Mutex<Option<Arc<SocketFile>>>,
    pub(super) socket: Socket<T>,
}

impl<T: Listening> Listener<T> {
    /// Takes a listening socket in non-blocking mode.
    pub(super) fn from_nonblocking(socket: T) -> Listener<T> {
        Listener { file: Mutex::new(None), socket: Socket::new(socket) }
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
    pub fn from_std(socket: T) -> io::Result<Listener<T>> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Listener::from_nonblocking(socket))
    }

    /// Gives the socket away as one of std's, in blocking mode. Its deadline and its context hold
    /// no longer, and the file of a Unix listener stays, whoever closes the socket.
    ///
    /// The mode is the socket's, not the descriptor's: drop its [clones](Listener::try_clone)
    /// first, which would from now on block their OS threads.
    ///
    /// ```
    /// use goby::net::{TcpListener, TcpStream};
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let client = TcpStream::connect(listener.local_addr()?)?;
    /// let listener: std::net::TcpListener = listener.into_std()?;
    /// assert_eq!(listener.accept()?.1, client.local_addr()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`Stream::into_std`](super::Stream::into_std).
    #[doc(alias("into_fd", "into_raw_fd", "Listener.File"))]
    pub fn into_std(self) -> io::Result<T> {
        let socket = self.socket.to_blocking()?;
        if let Some(file) = &*self.file.lock() {
            file.set_unlink(false);
        }
        Ok(socket)
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
    /// The system's errors. Those that mean too many open files leave the connection waiting: the
    /// next accept fails at once, until a descriptor is free. So a server goes on after a pause, as
    /// the [example of `TcpListener`](TcpListener) does; one that ends at the first error ends when
    /// it has the most clients. A connection that was closed before it could be accepted is no
    /// error.
    ///
    /// # Cancellation
    ///
    /// Ended by the deadline and by the context of the listener.
    pub fn accept(&self) -> io::Result<(Stream<T::Connection>, AddrOf<T>)> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (fd, from) = self.socket.perform(Direction::Read, |socket| {
            loop {
                match acceptfrom_with(socket, flags) {
                    Err(Errno::CONNABORTED) => {}
                    result => return Ok(result?),
                }
            }
        })?;
        let connection = T::Connection::from(fd);
        let from = T::origin(from, &connection)?;
        // The goroutine that is started now is mostly the connection's.
        spread_next();
        Ok((Stream::from_nonblocking(connection), from))
    }

    /// Iterates over connections as they come. It never ends by itself, and an error is not the
    /// end: [go on after a pause](Listener::accept).
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
    /// Each step is an [`accept`](Listener::accept).
    pub fn incoming(&self) -> Incoming<'_, T> {
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
    pub fn local_addr(&self) -> io::Result<AddrOf<T>> {
        self.socket.ask(T::local)
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

    /// Stops listening, although other goroutines may hold the listener. Their accepts end at once
    /// with a [`ClosedError`](super::ClosedError), those in progress and those to come. A second
    /// call does nothing.
    ///
    /// Connections that were not accepted yet are reset. Dropping the listener closes it as well.
    ///
    /// ```
    /// use goby::net::TcpListener;
    /// use std::sync::Arc;
    /// let listener = Arc::new(TcpListener::bind("127.0.0.1:0")?);
    /// let shared = listener.clone();
    /// let acceptor = goby::go(move || shared.accept());
    /// listener.close();
    /// let error = acceptor.join().unwrap().unwrap_err();
    /// assert_eq!(error.to_string(), "use of closed network connection");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// Source: Go's `Listener.Close`.
    pub fn close(&self) {
        let file = self.file.lock().take();
        drop(file);
        self.socket.close();
    }

    /// Returns a channel that is closed once an accept would not wait: a case of a
    /// [`select!`](crate::select!).
    ///
    /// It tells the same as [`Stream::readable`], of a listener: call it anew for each `select!`.
    /// An accept does not wait if a connection is there, or if it fails. If several goroutines
    /// accept, one that is told may come too late, and its accept waits.
    ///
    /// ```
    /// use goby::net::{TcpListener, TcpStream};
    /// use goby::{chan, select};
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let (_stop, stopped) = chan::bounded::<()>(0);
    /// let client = TcpStream::connect(listener.local_addr()?)?;
    /// let from = select! {
    ///     recv(listener.acceptable()) -> _ => Some(listener.accept()?.1),
    ///     recv(stopped) -> _ => None,
    /// };
    /// assert_eq!(from, Some(client.local_addr()?));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn acceptable(&self) -> Receiver<Infallible> {
        self.socket.ready(Direction::Read)
    }

    /// Makes another listener of the same queue of connections, with a descriptor, a deadline and a
    /// context of its own. The system listens until both are closed or dropped.
    ///
    /// ```
    /// use goby::net::{TcpListener, TcpStream};
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let other = listener.try_clone()?;
    /// drop(listener);
    /// let client = TcpStream::connect(other.local_addr()?)?;
    /// assert_eq!(other.accept()?.1, client.local_addr()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's, such as that of too many open files.
    pub fn try_clone(&self) -> io::Result<Listener<T>> {
        // Taken first: it keeps the file if this one is closed meanwhile.
        let file = self.file.lock().clone();
        Ok(Listener { file: Mutex::new(file), socket: Socket::new(self.socket.duplicate()?) })
    }
}

/// The connections of a listener, as they come; from [`Listener::incoming`].
pub struct Incoming<'a, T: Listening = net::TcpListener> {
    listener: &'a Listener<T>,
}

impl<T: Listening> Iterator for Incoming<'_, T> {
    type Item = io::Result<Stream<T::Connection>>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.listener.accept().map(|(stream, _)| stream))
    }
}

impl<T: Listening> AsFd for Listener<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.get_ref().as_fd()
    }
}

impl<T: Listening> fmt::Debug for Listener<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket.fmt(f)
    }
}

impl<T: Listening> fmt::Debug for Incoming<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.listener.fmt(f)
    }
}
