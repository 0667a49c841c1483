//! What a server listens at.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use goby::Context;
use goby::net::{TcpListener, UnixListener};

use crate::socket::Socket;

/// A listener of either kind.
pub(super) enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Stands for the address of a Unix socket, which has none of this kind.
pub(super) const NO_ADDR: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

impl Listening {
    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Listening::Tcp(listener) => listener.local_addr(),
            Listening::Unix(_) => Ok(NO_ADDR),
        }
    }

    pub(super) fn set_context(&self, ctx: Option<&Context>) {
        match self {
            Listening::Tcp(listener) => listener.set_context(ctx),
            Listening::Unix(listener) => listener.set_context(ctx),
        }
    }

    pub(super) fn accept(&self) -> io::Result<(Socket, SocketAddr)> {
        match self {
            Listening::Tcp(listener) => listener.accept().map(|(stream, addr)| (Socket::Tcp(stream), addr)),
            Listening::Unix(listener) => listener.accept().map(|(stream, _)| (Socket::Unix(stream), NO_ADDR)),
        }
    }
}
