//! UDP: what [`DatagramSocket`](super::DatagramSocket) has not.

use std::io;
use std::net::{self, Ipv4Addr, Ipv6Addr, SocketAddr};

use goby_runtime::Direction;
use rustix::io::Errno;

use super::address::Limit;
use super::error::{Action, of_send};
use super::{Address, DatagramSocket};
use crate::Context;

/// A UDP socket.
///
/// Several goroutines may send and receive at the same time through one `&UdpSocket`; each datagram
/// goes to one of them.
///
/// ```
/// use goby::net::UdpSocket;
///
/// let server = UdpSocket::bind("127.0.0.1:0")?;
/// let addr = server.local_addr()?;
/// let echo = goby::go(move || -> std::io::Result<()> {
///     let mut buf = [0; 1500];
///     let (n, from) = server.recv_from(&mut buf)?;
///     server.send_to(&buf[..n], from)?;
///     Ok(())
/// });
///
/// let client = UdpSocket::bind("127.0.0.1:0")?;
/// client.connect(addr)?;
/// client.send(b"ping")?;
/// let mut answer = [0; 16];
/// let n = client.recv(&mut answer)?;
/// assert_eq!(&answer[..n], b"ping");
/// echo.join().unwrap()?;
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
#[doc(alias("net.UDPConn", "net.PacketConn", "net.ListenUDP"))]
pub type UdpSocket = DatagramSocket<net::UdpSocket>;

impl UdpSocket {
    /// Binds a socket to `addr`, to the first of its addresses that is free. Port 0 lets the system
    /// choose.
    ///
    /// ```
    /// let socket = goby::net::UdpSocket::bind("127.0.0.1:0")?;
    /// assert_ne!(socket.local_addr()?.port(), 0);
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
    #[doc(alias("net.ListenPacket", "ListenPacket"))]
    pub fn bind(addr: impl Into<Address>) -> io::Result<UdpSocket> {
        UdpSocket::bind_within(addr.into(), Limit::default())
    }

    /// Binds a socket to `addr` as [`bind`](UdpSocket::bind) does, unless `ctx` is done first.
    ///
    /// ```
    /// use goby::{Context, net::UdpSocket};
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// assert!(UdpSocket::bind_ctx(&ctx, "localhost:0").is_ok());
    /// cancel.cancel();
    /// let error = UdpSocket::bind_ctx(&ctx, "localhost:0").unwrap_err();
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
    /// Returns at once when `ctx` is done, also while the name is looked up. The socket is
    /// independent of it.
    pub fn bind_ctx(ctx: &Context, addr: impl Into<Address>) -> io::Result<UdpSocket> {
        UdpSocket::bind_within(addr.into(), Limit { context: Some(ctx), deadline: None })
    }

    fn bind_within(addr: Address, limit: Limit<'_>) -> io::Result<UdpSocket> {
        goby_runtime::checkpoint();
        let socket = addr.resolve(limit)?.try_each(Action::Bind, net::UdpSocket::bind)?;
        UdpSocket::from_std(socket)
    }

    /// Connects the socket to `addr`: it then sends there and receives from there only. It may be
    /// connected again.
    ///
    /// Of several addresses it takes the first that the system has a way to.
    ///
    /// ```
    /// use goby::net::UdpSocket;
    /// let (a, b) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    /// a.connect(b.local_addr()?)?;
    /// a.send(b"x")?;
    /// assert_eq!(b.recv_from(&mut [0])?, (1, a.local_addr()?));
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
    ///
    /// # Cancellation
    ///
    /// Ended by the deadline for writing and by the context of the socket, while a name is looked
    /// up.
    pub fn connect(&self, addr: impl Into<Address>) -> io::Result<()> {
        goby_runtime::checkpoint();
        let addrs = addr.into().resolve_for(&self.socket)?;
        addrs.try_each(Action::Connect, |addr| self.socket.ask(|socket| socket.connect(addr)))
    }

    /// Sends a datagram to `addr`; returns its length.
    ///
    /// Of several addresses it takes the first one of the socket's family.
    ///
    /// ```
    /// use goby::net::UdpSocket;
    /// let (a, b) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    /// a.send_to(b"hello", ("localhost", b.local_addr()?.port()))?;
    /// assert_eq!(b.recv(&mut [0; 16])?, 5);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine while a name is looked up, and until the system has room.
    ///
    /// # Errors
    ///
    /// The error of the lookup, and the system's: a datagram may be too large.
    ///
    /// # Cancellation
    ///
    /// Ended by the deadline for writing and by the context of the socket, also while a name is
    /// looked up.
    #[doc(alias("WriteTo", "WriteToUDP"))]
    pub fn send_to(&self, datagram: &[u8], addr: impl Into<Address>) -> io::Result<usize> {
        let mut last = None;
        for &addr in addr.into().resolve_for(&self.socket)?.as_slice() {
            match self.socket.perform(Direction::Write, |socket| socket.send_to(datagram, addr)) {
                Err(error) if is_of_another_family(&error) => last = Some(of_send(addr)(error)),
                result => return result.map_err(of_send(addr)),
            }
        }
        Err(last.expect("an address to try"))
    }

    /// Receives a datagram; returns its length and where it comes from. What does not fit into
    /// `buf` is lost.
    ///
    /// ```
    /// use goby::net::UdpSocket;
    /// let (a, b) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    /// a.send_to(b"hello", b.local_addr()?)?;
    /// assert_eq!(b.recv_from(&mut [0; 2])?, (2, a.local_addr()?));
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
    #[doc(alias("ReadFrom", "ReadFromUDP"))]
    pub fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.socket.perform(Direction::Read, |socket| socket.recv_from(buf))
    }

    /// Receives as [`recv_from`](UdpSocket::recv_from) does, and leaves the datagram in the socket.
    ///
    /// ```
    /// use goby::net::UdpSocket;
    /// let socket = UdpSocket::bind("127.0.0.1:0")?;
    /// let addr = socket.local_addr()?;
    /// socket.send_to(b"hello", addr)?;
    /// assert_eq!(socket.peek_from(&mut [0; 16])?, (5, addr));
    /// assert_eq!(socket.recv_from(&mut [0; 16])?, (5, addr));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// As `recv_from` does.
    ///
    /// # Errors
    ///
    /// As for [`recv`](DatagramSocket::recv).
    pub fn peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.socket.perform(Direction::Read, |socket| socket.peek_from(buf))
    }

    /// Sets whether the socket may send to broadcast addresses (`SO_BROADCAST`). Default: false.
    ///
    /// ```
    /// let socket = goby::net::UdpSocket::bind("127.0.0.1:0")?;
    /// socket.set_broadcast(true)?;
    /// assert!(socket.broadcast()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn set_broadcast(&self, broadcast: bool) -> io::Result<()> {
        self.socket.ask(|socket| socket.set_broadcast(broadcast))
    }

    /// Returns whether the socket may send to broadcast addresses.
    ///
    /// ```
    /// assert!(!goby::net::UdpSocket::bind("127.0.0.1:0")?.broadcast()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn broadcast(&self) -> io::Result<bool> {
        self.socket.ask(net::UdpSocket::broadcast)
    }

    /// Sets how many routers a datagram may pass (`IP_TTL`).
    ///
    /// ```
    /// let socket = goby::net::UdpSocket::bind("127.0.0.1:0")?;
    /// socket.set_ttl(3)?;
    /// assert_eq!(socket.ttl()?, 3);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.socket.ask(|socket| socket.set_ttl(ttl))
    }

    /// Returns how many routers a datagram may pass.
    ///
    /// ```
    /// assert_ne!(goby::net::UdpSocket::bind("127.0.0.1:0")?.ttl()?, 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn ttl(&self) -> io::Result<u32> {
        self.socket.ask(net::UdpSocket::ttl)
    }

    /// Joins a group of IPv4 hosts, on the interface with the address `interface`; on one that the
    /// system chooses if that is unspecified.
    ///
    /// ```
    /// use goby::net::UdpSocket;
    /// use std::net::Ipv4Addr;
    /// let socket = UdpSocket::bind("0.0.0.0:0")?;
    /// let group = Ipv4Addr::new(224, 0, 0, 251);
    /// socket.join_multicast_v4(&group, &Ipv4Addr::LOCALHOST)?;
    /// socket.leave_multicast_v4(&group, &Ipv4Addr::LOCALHOST)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's.
    #[doc(alias("net.ListenMulticastUDP", "ListenMulticastUDP"))]
    pub fn join_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.socket.ask(|socket| socket.join_multicast_v4(group, interface))
    }

    /// Leaves a group that was [joined](UdpSocket::join_multicast_v4).
    ///
    /// ```
    /// use goby::net::UdpSocket;
    /// use std::net::Ipv4Addr;
    /// let socket = UdpSocket::bind("0.0.0.0:0")?;
    /// let group = Ipv4Addr::new(224, 0, 0, 251);
    /// assert!(socket.leave_multicast_v4(&group, &Ipv4Addr::LOCALHOST).is_err(), "not joined");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's: it may not have been joined.
    pub fn leave_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.socket.ask(|socket| socket.leave_multicast_v4(group, interface))
    }

    /// Joins a group of IPv6 hosts, on the interface with the number `interface`; on one that the
    /// system chooses if that is 0.
    ///
    /// ```
    /// let socket = goby::net::UdpSocket::bind("127.0.0.1:0")?;
    /// let group = "ff02::fb".parse().unwrap();
    /// assert!(socket.join_multicast_v6(&group, 0).is_err(), "a socket of IPv4");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn join_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.socket.ask(|socket| socket.join_multicast_v6(group, interface))
    }

    /// Leaves a group that was [joined](UdpSocket::join_multicast_v6).
    ///
    /// ```
    /// let socket = goby::net::UdpSocket::bind("127.0.0.1:0")?;
    /// let group = "ff02::fb".parse().unwrap();
    /// assert!(socket.leave_multicast_v6(&group, 0).is_err(), "a socket of IPv4");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's: it may not have been joined.
    pub fn leave_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.socket.ask(|socket| socket.leave_multicast_v6(group, interface))
    }

    /// Sets whether this host receives what the socket sends to groups (`IP_MULTICAST_LOOP`).
    /// Default: true.
    ///
    /// ```
    /// let socket = goby::net::UdpSocket::bind("127.0.0.1:0")?;
    /// socket.set_multicast_loop_v4(false)?;
    /// assert!(!socket.multicast_loop_v4()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn set_multicast_loop_v4(&self, loops: bool) -> io::Result<()> {
        self.socket.ask(|socket| socket.set_multicast_loop_v4(loops))
    }

    /// Returns whether this host receives what the socket sends to groups.
    ///
    /// ```
    /// assert!(goby::net::UdpSocket::bind("127.0.0.1:0")?.multicast_loop_v4()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn multicast_loop_v4(&self) -> io::Result<bool> {
        self.socket.ask(net::UdpSocket::multicast_loop_v4)
    }

    /// Sets how many routers a datagram to a group may pass (`IP_MULTICAST_TTL`). Default: 1, which
    /// is none.
    ///
    /// ```
    /// let socket = goby::net::UdpSocket::bind("127.0.0.1:0")?;
    /// socket.set_multicast_ttl_v4(2)?;
    /// assert_eq!(socket.multicast_ttl_v4()?, 2);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn set_multicast_ttl_v4(&self, ttl: u32) -> io::Result<()> {
        self.socket.ask(|socket| socket.set_multicast_ttl_v4(ttl))
    }

    /// Returns how many routers a datagram to a group may pass.
    ///
    /// ```
    /// assert_eq!(goby::net::UdpSocket::bind("127.0.0.1:0")?.multicast_ttl_v4()?, 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn multicast_ttl_v4(&self) -> io::Result<u32> {
        self.socket.ask(net::UdpSocket::multicast_ttl_v4)
    }
}

fn is_of_another_family(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error())
}
