//! The socket beneath a connection: TCP or Unix.

use std::io::{self, IoSlice, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use futures_io::{AsyncRead, AsyncWrite};
use goby::net::{TcpStream, UnixStream};

/// Stands for the address of a Unix socket, which has none of this kind.
pub(crate) const NO_ADDR: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// A connected socket of either kind.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Calls a method of the socket inside, of whichever kind it is.
macro_rules! inside {
    ($socket:expr, $inner:ident => $call:expr) => {
        match $socket {
            Socket::Tcp($inner) => $call,
            Socket::Unix($inner) => $call,
        }
    };
}

impl Socket {
    pub(crate) fn set_read_deadline(&self, deadline: Option<Instant>) {
        inside!(self, socket => socket.set_read_deadline(deadline));
    }

    pub(crate) fn set_write_deadline(&self, deadline: Option<Instant>) {
        inside!(self, socket => socket.set_write_deadline(deadline));
    }

    pub(crate) fn set_context(&self, ctx: Option<&goby::Context>) {
        inside!(self, socket => socket.set_context(ctx));
    }

    /// Gives the other side's address, or a stand-in for one that has none of this kind.
    pub(crate) fn peer_addr(&self) -> SocketAddr {
        match self {
            Socket::Tcp(socket) => socket.peer_addr().unwrap_or(NO_ADDR),
            Socket::Unix(_) => NO_ADDR,
        }
    }

    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        inside!(self, socket => socket.shutdown(how))
    }

    pub(crate) fn poll_peek(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        inside!(self, socket => socket.poll_peek(cx, buf))
    }

    pub(crate) fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        inside!(self, socket => Pin::new(&mut &*socket).poll_read(cx, buf))
    }

    pub(crate) fn poll_write(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        inside!(self, socket => Pin::new(&mut &*socket).poll_write(cx, buf))
    }

    pub(crate) fn poll_write_vectored(&self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        inside!(self, socket => Pin::new(&mut &*socket).poll_write_vectored(cx, bufs))
    }
}

impl Read for &Socket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        inside!(*self, socket => (&mut &*socket).read(buf))
    }
}

impl Write for &Socket {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        inside!(*self, socket => (&mut &*socket).write(buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
