//! Unix sockets for datagrams: what [`DatagramSocket`](super::DatagramSocket) has not.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;

use goby_runtime::Direction;

use super::DatagramSocket;
use super::error::{Action, of_addr, of_send};
use super::unix::address;

/// A Unix socket for datagrams. None is lost: a send waits while the receiver's queue is full.
///
/// Binding to a path makes a file there, which stays: remove it when the socket is done.
///
/// ```
/// use goby::net::UnixDatagram;
///
/// let path = std::env::temp_dir().join(format!("goby-datagrams-{}.sock", std::process::id()));
/// let server = UnixDatagram::bind(&path)?;
/// let client = UnixDatagram::unbound()?;
/// client.send_to(b"hello", &path)?;
/// let mut buf = [0; 16];
/// let (n, from) = server.recv_from(&mut buf)?;
/// assert_eq!(&buf[..n], b"hello");
/// assert!(from.is_unnamed());
/// std::fs::remove_file(path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Blocking
///
/// Receives and sends park the goroutine. On a plain OS thread they block the thread.
///
/// # Cancellation
///
/// A deadline ends a wait, and so does a [context](DatagramSocket::set_context) when it is done.
#[doc(alias("unixgram", "net.ListenUnixgram"))]
pub type UnixDatagram = DatagramSocket<net::UnixDatagram>;

impl UnixDatagram {
    /// Binds a socket to `path`, where it makes a file. Unlike a listener's, the file stays: remove
    /// it when the socket is done, or before the next bind.
    ///
    /// Only a socket that is bound can be answered: of another one, [`recv_from`]'s address
    /// [is unnamed](SocketAddr::is_unnamed). So a client that wants an answer binds, too.
    ///
    /// [`recv_from`]: UnixDatagram::recv_from
    ///
    /// ```
    /// use goby::net::UnixDatagram;
    /// let path = std::env::temp_dir().join(format!("goby-bound-{}.sock", std::process::id()));
    /// let socket = UnixDatagram::bind(&path)?;
    /// assert_eq!(socket.local_addr()?.as_pathname(), Some(&*path));
    /// std::fs::remove_file(path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's: `AddrInUse` if anything is there.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<UnixDatagram> {
        UnixDatagram::bind_addr(&address(Action::Bind, path.as_ref())?)
    }

    /// Binds a socket to `addr`, which may be an abstract one.
    ///
    /// ```
    /// use goby::net::UnixDatagram;
    /// use std::os::{linux::net::SocketAddrExt, unix::net::SocketAddr};
    /// let addr = SocketAddr::from_abstract_name(format!("goby-datagram-{}", std::process::id()))?;
    /// let server = UnixDatagram::bind_addr(&addr)?;
    /// UnixDatagram::unbound()?.send_to_addr(b"x", &addr)?;
    /// assert_eq!(server.recv(&mut [0])?, 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`bind`](UnixDatagram::bind).
    pub fn bind_addr(addr: &SocketAddr) -> io::Result<UnixDatagram> {
        goby_runtime::checkpoint();
        let socket = net::UnixDatagram::bind_addr(addr).map_err(of_addr(Action::Bind, addr))?;
        UnixDatagram::from_std(socket)
    }

    /// Makes a socket without an address: it can send, and nobody can send to it.
    ///
    /// ```
    /// let socket = goby::net::UnixDatagram::unbound()?;
    /// assert!(socket.local_addr()?.is_unnamed());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's, such as that of too many open files.
    pub fn unbound() -> io::Result<UnixDatagram> {
        UnixDatagram::from_std(net::UnixDatagram::unbound()?)
    }

    /// Makes two sockets that are connected to each other.
    ///
    /// ```
    /// use goby::net::UnixDatagram;
    /// let (a, b) = UnixDatagram::pair()?;
    /// a.send(b"x")?;
    /// assert_eq!(b.recv(&mut [0])?, 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`unbound`](UnixDatagram::unbound).
    pub fn pair() -> io::Result<(UnixDatagram, UnixDatagram)> {
        let (a, b) = net::UnixDatagram::pair()?;
        Ok((UnixDatagram::from_std(a)?, UnixDatagram::from_std(b)?))
    }

    /// Connects the socket to the one at `path`: it then sends there, and receives from there only.
    ///
    /// ```
    /// use goby::net::UnixDatagram;
    /// let path = std::env::temp_dir().join(format!("goby-connected-{}.sock", std::process::id()));
    /// let (server, client) = (UnixDatagram::bind(&path)?, UnixDatagram::unbound()?);
    /// client.connect(&path)?;
    /// client.send(b"x")?;
    /// assert_eq!(server.recv(&mut [0])?, 1);
    /// std::fs::remove_file(path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's: `NotFound` if nothing is there, `ConnectionRefused` if nobody is bound to it.
    pub fn connect(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.connect_addr(&address(Action::Connect, path.as_ref())?)
    }

    /// Connects the socket to the one at `addr`, which may be an abstract one.
    ///
    /// ```
    /// use goby::net::UnixDatagram;
    /// use std::os::{linux::net::SocketAddrExt, unix::net::SocketAddr};
    /// let addr = SocketAddr::from_abstract_name(format!("goby-peer-{}", std::process::id()))?;
    /// let (server, client) = (UnixDatagram::bind_addr(&addr)?, UnixDatagram::unbound()?);
    /// client.connect_addr(&addr)?;
    /// client.send(b"x")?;
    /// assert_eq!(server.recv(&mut [0])?, 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`connect`](UnixDatagram::connect).
    pub fn connect_addr(&self, addr: &SocketAddr) -> io::Result<()> {
        self.socket.ask(|socket| socket.connect_addr(addr)).map_err(of_addr(Action::Connect, addr))
    }

    /// Sends a datagram to the socket at `path`; returns its length.
    ///
    /// ```
    /// use goby::net::UnixDatagram;
    /// let socket = UnixDatagram::unbound()?;
    /// let error = socket.send_to(b"x", "/nowhere").unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine while the receiver's queue is full. The system does not tell a socket
    /// that is not connected when that has room, so sending is tried again every few milliseconds;
    /// a connected socket is told.
    ///
    /// # Errors
    ///
    /// The system's, as for [`connect`](UnixDatagram::connect), or because the datagram is too
    /// large.
    ///
    /// # Cancellation
    ///
    /// Ended by the deadline for writing and by the context of the socket.
    pub fn send_to(&self, datagram: &[u8], path: impl AsRef<Path>) -> io::Result<usize> {
        self.socket
            .perform_again(Direction::Write, |socket| socket.send_to(datagram, path.as_ref()))
            .map_err(of_send(path.as_ref()))
    }

    /// Sends a datagram to the socket at `addr`, which may be an abstract one.
    ///
    /// ```
    /// use goby::net::UnixDatagram;
    /// use std::os::{linux::net::SocketAddrExt, unix::net::SocketAddr};
    /// let addr = SocketAddr::from_abstract_name(format!("goby-to-{}", std::process::id()))?;
    /// let server = UnixDatagram::bind_addr(&addr)?;
    /// assert_eq!(UnixDatagram::unbound()?.send_to_addr(b"x", &addr)?, 1);
    /// assert_eq!(server.recv(&mut [0])?, 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// As [`send_to`](UnixDatagram::send_to) does.
    ///
    /// # Errors
    ///
    /// As for `send_to`.
    pub fn send_to_addr(&self, datagram: &[u8], addr: &SocketAddr) -> io::Result<usize> {
        self.socket.perform_again(Direction::Write, |socket| socket.send_to_addr(datagram, addr)).map_err(of_send(addr))
    }

    /// Receives a datagram; returns its length and where it comes from. What does not fit into
    /// `buf` is lost.
    ///
    /// ```
    /// use goby::net::UnixDatagram;
    /// let (a, b) = UnixDatagram::pair()?;
    /// a.send(b"hello")?;
    /// let (n, from) = b.recv_from(&mut [0; 2])?;
    /// assert!(n == 2 && from.is_unnamed());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine until a datagram comes.
    ///
    /// # Errors
    ///
    /// As for [`recv`](DatagramSocket::recv).
    pub fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.socket.perform(Direction::Read, |socket| socket.recv_from(buf))
    }

    /// Closes one direction of the socket, or both: a peer that is connected to it can then send no
    /// more.
    ///
    /// ```
    /// use goby::net::UnixDatagram;
    /// use std::{io::ErrorKind, net::Shutdown};
    /// let (a, b) = UnixDatagram::pair()?;
    /// b.shutdown(Shutdown::Read)?;
    /// assert_eq!(a.send(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's error, such as `NotConnected`.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.socket.ask(|socket| socket.shutdown(how))
    }
}
