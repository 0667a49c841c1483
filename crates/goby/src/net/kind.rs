//! What differs between TCP, UDP and Unix sockets of one shape: streams, listeners and sockets for
//! datagrams. The sockets themselves are std's.

use std::fmt::Debug;
use std::io;
use std::net::{self, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net as unix;

use goby_runtime::OwnsFd;
use rustix::net::SocketAddrAny;

/// A socket of std. Nobody else can implement it, nor the traits above it.
pub trait Kind: OwnsFd + AsFd + From<OwnedFd> + Into<OwnedFd> + Debug + Send + Sync + 'static {}

/// What carries a [`Stream`](super::Stream): TCP, or a Unix socket.
///
/// A function that takes a `Stream<T>` with this bound takes both. The trait is sealed.
///
/// ```
/// use goby::net::{Stream, StreamSocket, UnixStream};
/// use std::io::{self, Read, Write};
///
/// fn ask<T: StreamSocket>(mut stream: &Stream<T>) -> io::Result<u8> {
///     stream.write_all(b"?")?;
///     let mut answer = [0];
///     stream.read_exact(&mut answer)?;
///     Ok(answer[0])
/// }
///
/// let (client, server) = UnixStream::pair()?;
/// (&server).write_all(b"!")?;
/// assert_eq!(ask(&client)?, b'!');
/// # Ok::<(), std::io::Error>(())
/// ```
pub trait StreamSocket: Kind {
    /// An address of it.
    type Addr: Debug;

    /// Whether a read that took less than there was room for has emptied the socket.
    #[doc(hidden)]
    const EMPTIED_BY_SHORT_READ: bool;

    #[doc(hidden)]
    fn local(&self) -> io::Result<Self::Addr>;

    #[doc(hidden)]
    fn peer(&self) -> io::Result<Self::Addr>;
}

/// What a [`Listener`](super::Listener) listens on. The trait is sealed.
pub trait Listening: Kind {
    /// What its connections are.
    type Connection: StreamSocket;

    #[doc(hidden)]
    fn local(&self) -> io::Result<AddrOf<Self>>;

    /// Returns where a connection comes from, which accepting may have told.
    #[doc(hidden)]
    fn origin(told: Option<SocketAddrAny>, connection: &Self::Connection) -> io::Result<AddrOf<Self>>;
}

/// The addresses of a listener, and of its connections.
pub type AddrOf<T> = <<T as Listening>::Connection as StreamSocket>::Addr;

/// What a [`DatagramSocket`](super::DatagramSocket) sends by: UDP, or Unix sockets. The trait is
/// sealed.
pub trait Datagrams: Kind {
    /// An address of it.
    type Addr: Debug;

    #[doc(hidden)]
    fn local(&self) -> io::Result<Self::Addr>;

    #[doc(hidden)]
    fn peer(&self) -> io::Result<Self::Addr>;
}

impl Kind for net::TcpStream {}
impl Kind for net::TcpListener {}
impl Kind for net::UdpSocket {}
impl Kind for unix::UnixStream {}
impl Kind for unix::UnixListener {}
impl Kind for unix::UnixDatagram {}

impl StreamSocket for net::TcpStream {
    type Addr = SocketAddr;

    const EMPTIED_BY_SHORT_READ: bool = true;

    fn local(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }

    fn peer(&self) -> io::Result<SocketAddr> {
        self.peer_addr()
    }
}

impl StreamSocket for unix::UnixStream {
    type Addr = unix::SocketAddr;

    /// A read stops at bytes that came with descriptors or other credentials.
    const EMPTIED_BY_SHORT_READ: bool = false;

    fn local(&self) -> io::Result<unix::SocketAddr> {
        self.local_addr()
    }

    fn peer(&self) -> io::Result<unix::SocketAddr> {
        self.peer_addr()
    }
}

impl Listening for net::TcpListener {
    type Connection = net::TcpStream;

    fn local(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }

    fn origin(told: Option<SocketAddrAny>, connection: &net::TcpStream) -> io::Result<SocketAddr> {
        match told.and_then(|addr| SocketAddr::try_from(addr).ok()) {
            Some(addr) => Ok(addr),
            None => connection.peer_addr(),
        }
    }
}

impl Listening for unix::UnixListener {
    type Connection = unix::UnixStream;

    fn local(&self) -> io::Result<unix::SocketAddr> {
        self.local_addr()
    }

    fn origin(_: Option<SocketAddrAny>, connection: &unix::UnixStream) -> io::Result<unix::SocketAddr> {
        connection.peer_addr()
    }
}

impl Datagrams for net::UdpSocket {
    type Addr = SocketAddr;

    fn local(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }

    fn peer(&self) -> io::Result<SocketAddr> {
        self.peer_addr()
    }
}

impl Datagrams for unix::UnixDatagram {
    type Addr = unix::SocketAddr;

    fn local(&self) -> io::Result<unix::SocketAddr> {
        self.local_addr()
    }

    fn peer(&self) -> io::Result<unix::SocketAddr> {
        self.peer_addr()
    }
}
