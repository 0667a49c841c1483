//! Sockets for datagrams, whatever carries them.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use goby_runtime::Direction;
use rustix::net::{RecvFlags, SendFlags};

use super::error::of_connected_send;
use super::kind::Datagrams;
use super::socket::Socket;
use crate::Context;
use crate::chan::Receiver;

/// A socket for datagrams: a [`UdpSocket`](super::UdpSocket) or a
/// [`UnixDatagram`](super::UnixDatagram).
///
/// What it has no setting for, such as the sizes of its buffers, is set by the crate `socket2`,
/// with `SockRef::from(&socket)`; and before it is bound, such as the reuse of a port, on a socket
/// of that crate which [`from_std`](DatagramSocket::from_std) takes.
pub struct DatagramSocket<T: Datagrams> {
    pub(super) socket: Socket<T>,
}

impl<T: Datagrams> DatagramSocket<T> {
    /// Takes a socket of std.
    ///
    /// ```
    /// use goby::net::UdpSocket;
    /// let socket = UdpSocket::from_std(std::net::UdpSocket::bind("127.0.0.1:0")?)?;
    /// assert_eq!(socket.send_to(b"x", socket.local_addr()?)?, 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's error, if the socket cannot be put into non-blocking mode.
    pub fn from_std(socket: T) -> io::Result<DatagramSocket<T>> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(DatagramSocket { socket: Socket::new(socket) })
    }

    /// Gives the socket away as one of std's, in blocking mode. Its deadlines and its context hold
    /// no longer.
    ///
    /// The mode is the socket's, not the descriptor's: drop its [clones](DatagramSocket::try_clone)
    /// first, which would from now on block their OS threads.
    ///
    /// ```
    /// use goby::net::UdpSocket;
    /// let socket: std::net::UdpSocket = UdpSocket::bind("127.0.0.1:0")?.into_std()?;
    /// assert_eq!(socket.send_to(b"x", socket.local_addr()?)?, 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`Stream::into_std`](super::Stream::into_std).
    #[doc(alias("into_fd", "into_raw_fd"))]
    pub fn into_std(self) -> io::Result<T> {
        self.socket.to_blocking()
    }

    /// Sends a datagram to the address that the socket is connected to; returns its length.
    ///
    /// ```
    /// use goby::net::UnixDatagram;
    /// let (a, b) = UnixDatagram::pair()?;
    /// assert_eq!(a.send(b"hello")?, 5);
    /// assert_eq!(b.recv(&mut [0; 16])?, 5);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine until the system has room for the datagram.
    ///
    /// # Errors
    ///
    /// The system's: the socket is not connected, the datagram is too large, or an earlier one was
    /// `ConnectionRefused`.
    ///
    /// # Cancellation
    ///
    /// Ended by the deadline for writing and by the context of the socket.
    pub fn send(&self, datagram: &[u8]) -> io::Result<usize> {
        let send = |socket: &T| Ok(rustix::net::send(socket, datagram, SendFlags::NOSIGNAL)?);
        self.socket.perform(Direction::Write, send).map_err(of_connected_send)
    }

    /// Receives a datagram; returns its length. A connected socket receives only from the address
    /// that it is connected to.
    ///
    /// What does not fit into `buf` is lost.
    ///
    /// ```
    /// use goby::net::UnixDatagram;
    /// let (a, b) = UnixDatagram::pair()?;
    /// a.send(b"hello")?;
    /// a.send(b"")?;
    /// let mut buf = [0; 2];
    /// assert_eq!((b.recv(&mut buf)?, &buf), (2, b"he"));
    /// assert_eq!(b.recv(&mut buf)?, 0, "an empty datagram, not the end");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine until a datagram comes.
    ///
    /// # Errors
    ///
    /// The system's. On a connected UDP socket `ConnectionRefused` says that nobody received an
    /// earlier datagram.
    ///
    /// # Cancellation
    ///
    /// Ended by the deadline for reading and by the context of the socket.
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.recv_with(buf, RecvFlags::empty())
    }

    /// Receives as [`recv`](DatagramSocket::recv) does, and leaves the datagram in the socket.
    ///
    /// ```
    /// use goby::net::UnixDatagram;
    /// let (a, b) = UnixDatagram::pair()?;
    /// a.send(b"hello")?;
    /// assert_eq!(b.peek(&mut [0; 16])?, 5);
    /// assert_eq!(b.recv(&mut [0; 16])?, 5);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// As `recv` does.
    ///
    /// # Errors
    ///
    /// As for `recv`.
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.recv_with(buf, RecvFlags::PEEK)
    }

    fn recv_with(&self, buf: &mut [u8], flags: RecvFlags) -> io::Result<usize> {
        self.socket.perform(Direction::Read, |socket| Ok(rustix::net::recv(socket, &mut *buf, flags)?.0))
    }

    /// Ends operations when `ctx` is done, those in progress and those to come; `None` lifts that.
    ///
    /// ```
    /// use goby::{Context, net::UdpSocket};
    /// let socket = UdpSocket::bind("127.0.0.1:0")?;
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// socket.set_context(Some(&ctx));
    /// cancel.cancel();
    /// assert_eq!(socket.recv(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::ConnectionAborted);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_context(&self, ctx: Option<&Context>) {
        self.socket.set_context(ctx);
    }

    /// Lets receives wait until `deadline` and no longer, those in progress and those to come;
    /// `None` lifts the deadline.
    ///
    /// ```
    /// use goby::net::UdpSocket;
    /// let socket = UdpSocket::bind("127.0.0.1:0")?;
    /// socket.set_read_deadline(Some(std::time::Instant::now()));
    /// assert_eq!(socket.recv(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[doc(alias("set_read_timeout"))]
    pub fn set_read_deadline(&self, deadline: Option<Instant>) {
        self.socket.set_deadline(Direction::Read, deadline);
    }

    /// Lets sends wait until `deadline` and no longer, those in progress and those to come; `None`
    /// lifts the deadline.
    ///
    /// ```
    /// use goby::net::UdpSocket;
    /// let socket = UdpSocket::bind("127.0.0.1:0")?;
    /// socket.set_write_deadline(Some(std::time::Instant::now()));
    /// let error = socket.send_to(b"x", socket.local_addr()?).unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[doc(alias("set_write_timeout"))]
    pub fn set_write_deadline(&self, deadline: Option<Instant>) {
        self.socket.set_deadline(Direction::Write, deadline);
    }

    /// Sets the deadline of both [receives](DatagramSocket::set_read_deadline) and
    /// [sends](DatagramSocket::set_write_deadline).
    ///
    /// ```
    /// use goby::net::UdpSocket;
    /// let socket = UdpSocket::bind("127.0.0.1:0")?;
    /// socket.set_deadline(Some(std::time::Instant::now()));
    /// assert_eq!(socket.recv(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_deadline(&self, deadline: Option<Instant>) {
        self.set_read_deadline(deadline);
        self.set_write_deadline(deadline);
    }

    /// Closes the socket, although other goroutines may hold it: what
    /// [`Stream::close`](super::Stream::close) does for a stream. A second call does nothing.
    ///
    /// ```
    /// use goby::net::UdpSocket;
    /// let socket = UdpSocket::bind("127.0.0.1:0")?;
    /// let addr = socket.local_addr()?;
    /// socket.close();
    /// assert_eq!(socket.recv(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::NotConnected);
    /// assert!(UdpSocket::bind(addr).is_ok(), "the port is free");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn close(&self) {
        self.socket.close();
    }

    /// Returns a channel that is closed once a receive would not wait: a case of a
    /// [`select!`](crate::select!). It tells the same as
    /// [`Stream::readable`](super::Stream::readable): call it anew for each `select!`.
    ///
    /// ```
    /// use goby::{chan, net::UnixDatagram, select};
    /// let (a, b) = UnixDatagram::pair()?;
    /// let (_stop, stopped) = chan::bounded::<()>(0);
    /// a.send(b"hello")?;
    /// let n = select! {
    ///     recv(b.readable()) -> _ => b.recv(&mut [0; 16])?,
    ///     recv(stopped) -> _ => 0,
    /// };
    /// assert_eq!(n, 5);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn readable(&self) -> Receiver<Infallible> {
        self.socket.ready(Direction::Read)
    }

    /// Returns a channel that is closed once a send would not wait; for a
    /// [`select!`](crate::select!). Call it anew for each.
    ///
    /// ```
    /// let socket = goby::net::UdpSocket::bind("127.0.0.1:0")?;
    /// assert!(socket.writable().recv().is_err(), "closed");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn writable(&self) -> Receiver<Infallible> {
        self.socket.ready(Direction::Write)
    }

    /// Returns the address of this side.
    ///
    /// ```
    /// let socket = goby::net::UdpSocket::bind("127.0.0.1:0")?;
    /// assert_ne!(socket.local_addr()?.port(), 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn local_addr(&self) -> io::Result<T::Addr> {
        self.socket.ask(T::local)
    }

    /// Returns the address that the socket is connected to.
    ///
    /// ```
    /// use goby::net::UdpSocket;
    /// let (a, b) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    /// assert!(a.peer_addr().is_err());
    /// a.connect(b.local_addr()?)?;
    /// assert_eq!(a.peer_addr()?, b.local_addr()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's, such as `NotConnected`.
    pub fn peer_addr(&self) -> io::Result<T::Addr> {
        self.socket.ask(T::peer)
    }

    /// Makes another handle of the same socket, with a descriptor, deadlines and a context of its
    /// own. A socket in an [`Arc`](std::sync::Arc) costs no descriptor, and shares the rest.
    ///
    /// ```
    /// use goby::net::UdpSocket;
    /// let socket = UdpSocket::bind("127.0.0.1:0")?;
    /// let other = socket.try_clone()?;
    /// assert_eq!(socket.local_addr()?, other.local_addr()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's, such as that of too many open files.
    pub fn try_clone(&self) -> io::Result<DatagramSocket<T>> {
        Ok(DatagramSocket { socket: Socket::new(self.socket.duplicate()?) })
    }
}

impl<T: Datagrams> AsFd for DatagramSocket<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.get_ref().as_fd()
    }
}

impl<T: Datagrams> fmt::Debug for DatagramSocket<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket.fmt(f)
    }
}
