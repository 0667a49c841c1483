//! TCP connections: making them, and what only TCP has.

use std::io;
use std::net;
use std::time::Duration;

use super::{Address, Dialer, KeepAlive, Stream};
use crate::Context;

/// A TCP connection.
///
/// Reads and writes park the goroutine until the system has data or room. `&TcpStream` also
/// implements [`Read`](io::Read) and [`Write`](io::Write), so that one goroutine may read while
/// another writes. Dropping the stream closes it.
///
/// To share it, put it into an [`Arc`](std::sync::Arc): that is cheaper than
/// [`try_clone`](Stream::try_clone). Through `BufReader` the stream can be written by
/// [`get_ref`](std::io::BufReader::get_ref):
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
/// [`from_std`](Stream::from_std) takes stays as it is.
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
pub type TcpStream = Stream<net::TcpStream>;

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
        self.socket.ask(|socket| socket.set_nodelay(nodelay))
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
        self.socket.ask(net::TcpStream::nodelay)
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
        self.socket.ask(|socket| KeepAlive::apply(keep_alive.into(), socket))
    }
}
