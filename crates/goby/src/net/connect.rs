//! Connecting: one address after the other, each within its share of the time.

use std::io;
use std::net::{self, SocketAddr};
use std::time::Duration;

use goby_runtime::{Direction, now};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with, sockopt};

use super::address::Limit;
use super::socket::timed_out;
use super::{Address, TcpStream};
use crate::Context;

/// The least that one of several addresses gets of the time to connect, if there is as much (Go's
/// figure).
const FAIR_SHARE: Duration = Duration::from_secs(2);

/// Connects to the first of the addresses that answers.
pub(super) fn connect(addr: Address, limit: Limit<'_>) -> io::Result<TcpStream> {
    goby_runtime::checkpoint();
    let addrs = addr.resolve(limit)?;
    let mut last = None;
    for (i, addr) in addrs.iter().enumerate() {
        match connect_one(addr, share(limit, addrs.len() - i)) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(error),
        }
        if let Some(error) = limit.context.and_then(Context::err) {
            return Err(error.into());
        }
        if limit.deadline.is_some_and(|deadline| deadline <= now()) {
            return Err(timed_out());
        }
    }
    Err(last.expect("an address to try"))
}

fn connect_one(addr: &SocketAddr, limit: Limit<'_>) -> io::Result<TcpStream> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let fd = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    sockopt::set_tcp_nodelay(&fd, true)?;
    let connecting = match rustix::net::connect(&fd, addr) {
        Ok(()) => false,
        Err(Errno::INPROGRESS | Errno::INTR) => true,
        Err(error) => return Err(error.into()),
    };
    let stream = TcpStream::from_nonblocking(net::TcpStream::from(fd));
    if connecting {
        stream.socket.set_context(limit.context);
        stream.socket.set_deadline(Direction::Write, limit.deadline);
        wait_connected(&stream)?;
        stream.socket.set_context(None);
        stream.socket.set_deadline(Direction::Write, None);
    }
    // TCP allows two sockets to connect to each other at the same time. If nobody listens at a
    // port, and a socket that connects to it is given that same port, the socket connects to
    // itself.
    if addr.ip().is_loopback() && stream.local_addr()? == *addr {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(stream)
}

fn wait_connected(stream: &TcpStream) -> io::Result<()> {
    let mut edges = stream.socket.edges(Direction::Write);
    loop {
        stream.socket.wait(Direction::Write, edges)?;
        edges = stream.socket.edges(Direction::Write);
        if let Some(error) = stream.socket.get_ref().take_error()? {
            return Err(error);
        }
        match stream.socket.get_ref().peer_addr() {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {}
            result => return result.map(drop),
        }
    }
}

/// Returns the limit for the next of `left` addresses: its share of the time.
fn share(limit: Limit<'_>, left: usize) -> Limit<'_> {
    let Some(deadline) = limit.deadline else { return limit };
    let now = now();
    let rest = deadline.saturating_duration_since(now);
    let share = (rest / u32::try_from(left).unwrap_or(u32::MAX)).max(FAIR_SHARE).min(rest);
    Limit { deadline: Some(now + share), ..limit }
}
