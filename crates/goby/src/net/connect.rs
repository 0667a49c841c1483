//! Connecting to one address, and to the first of several that answers: "happy eyeballs" (RFC
//! 8305).
//!
//! The race needs no goroutine: each attempt is a socket that connects in non-blocking mode, and
//! the calling goroutine awaits them together.

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::{self, SocketAddr};
use std::task::{self, Poll};

use goby_runtime::Direction;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with, sockopt};

use super::address::Limit;
use super::{Dialer, KeepAlive, TcpStream};
use crate::block_on_ctx;

/// A socket that connects, or is connected.
pub(super) struct Attempt {
    addr: SocketAddr,
    stream: TcpStream,
    is_connecting: bool,
}

impl Attempt {
    pub(super) fn start(dialer: &Dialer, addr: SocketAddr) -> io::Result<Attempt> {
        let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let fd = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
        sockopt::set_tcp_nodelay(&fd, dialer.nodelay)?;
        KeepAlive::apply(dialer.keep_alive, &fd)?;
        if let Some(local) = &dialer.local_addr {
            rustix::net::bind(&fd, local)?;
        }
        let is_connecting = match rustix::net::connect(&fd, &addr) {
            Ok(()) => false,
            Err(Errno::INPROGRESS | Errno::INTR) => true,
            Err(error) => return Err(error.into()),
        };
        Ok(Attempt { addr, stream: TcpStream::from_nonblocking(net::TcpStream::from(fd)), is_connecting })
    }

    /// Parks until the connection is made.
    pub(super) fn wait(self, limit: Limit<'_>) -> io::Result<TcpStream> {
        let socket = &self.stream.socket;
        if self.is_connecting {
            socket.set_context(limit.context);
            socket.set_deadline(Direction::Write, limit.deadline);
            // It cannot be connected yet, so asking the system comes after the wait.
            socket.wait(Direction::Write, socket.edges(Direction::Write))?;
            socket.perform(Direction::Write, outcome)?;
            socket.set_context(None);
            socket.set_deadline(Direction::Write, None);
        }
        self.finish()
    }

    /// Returns whether the connection is made, or registers the waker.
    fn poll(&self, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        if self.is_connecting {
            self.stream.socket.poll_perform(Direction::Write, cx, outcome)
        } else {
            Poll::Ready(Ok(()))
        }
    }

    fn finish(self) -> io::Result<TcpStream> {
        // TCP allows two sockets to connect to each other at the same time. If nobody listens at a
        // port, and a socket that connects to it is given that same port, the socket connects to
        // itself.
        if self.addr.ip().is_loopback() && self.stream.local_addr()? == self.addr {
            return Err(Errno::CONNREFUSED.into());
        }
        Ok(self.stream)
    }
}

/// Returns what became of a connection, or `WouldBlock` while it is being made.
fn outcome(socket: &net::TcpStream) -> io::Result<()> {
    if let Some(error) = socket.take_error()? {
        return Err(error);
    }
    match socket.peer_addr() {
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Err(io::ErrorKind::WouldBlock.into()),
        result => result.map(drop),
    }
}

/// Connects to the first of `addrs` that answers.
pub(super) fn race(dialer: &Dialer, addrs: Vec<SocketAddr>, limit: Limit<'_>) -> io::Result<TcpStream> {
    let (context, _cancel) = limit.to_context();
    let mut race = Race::default();
    let mut waiting = interleave(addrs).into_iter();
    loop {
        if let Some(addr) = waiting.next() {
            match Attempt::start(dialer, addr) {
                Ok(attempt) => race.running.push(attempt),
                Err(error) => {
                    race.failed.push((addr, error));
                    continue;
                }
            }
        }
        if race.running.is_empty() {
            return Err(race.into_error());
        }
        let turn = (waiting.len() > 0).then(|| context.with_timeout(dialer.fallback_delay));
        let turn = turn.as_ref().map_or(&context, |(turn, _)| turn);
        match block_on_ctx(turn, poll_fn(|cx| race.poll(cx))) {
            Ok(Some(stream)) => return Ok(stream),
            // One has failed: the next one begins at once.
            Ok(None) => {}
            Err(_) if context.is_done() => return Err(race.into_error_of(limit.error())),
            // The turn is over: the next one begins.
            Err(_) => {}
        }
    }
}

/// The attempts at several addresses. Dropping it closes their sockets.
#[derive(Default)]
struct Race {
    running: Vec<Attempt>,
    failed: Vec<(SocketAddr, io::Error)>,
}

impl Race {
    /// Returns the connection that is made, or `None` when an attempt has failed.
    fn poll(&mut self, cx: &mut task::Context<'_>) -> Poll<Option<TcpStream>> {
        for i in 0..self.running.len() {
            if let Poll::Ready(result) = self.running[i].poll(cx) {
                let attempt = self.running.remove(i);
                let addr = attempt.addr;
                let result = result.and_then(|()| attempt.finish());
                return Poll::Ready(result.map_err(|error| self.failed.push((addr, error))).ok());
            }
        }
        Poll::Pending
    }

    /// Returns the error of the limit that has ended it, with those of the addresses.
    fn into_error_of(self, limit: io::Error) -> io::Error {
        if self.failed.is_empty() {
            return limit;
        }
        io::Error::new(limit.kind(), CutOff { limit, failed: AllFailed(self.failed) })
    }

    fn into_error(self) -> io::Error {
        let kind = self.failed.last().map_or(io::ErrorKind::Other, |(_, error)| error.kind());
        io::Error::new(kind, AllFailed(self.failed))
    }
}

/// The error of a limit that has ended the race after some addresses had failed.
#[derive(Debug)]
struct CutOff {
    limit: io::Error,
    failed: AllFailed,
}

impl fmt::Display for CutOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; before that, {}", self.limit, self.failed)
    }
}

impl Error for CutOff {
    /// As of the limit's error alone: a context's, if that was the limit.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.limit.source()
    }
}

/// The error of each address, in the order in which they failed.
#[derive(Debug)]
struct AllFailed(Vec<(SocketAddr, io::Error)>);

impl fmt::Display for AllFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (addr, error)) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { "; " };
            write!(f, "{separator}{addr}: {error}")?;
        }
        Ok(())
    }
}

impl Error for AllFailed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.last().map(|(_, error)| error as _)
    }
}

/// Returns the addresses in turns of IPv4 and IPv6, beginning with the family of the first one.
fn interleave(addrs: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let family = addrs.first().map(SocketAddr::is_ipv4);
    let (ours, others): (Vec<_>, Vec<_>) = addrs.into_iter().partition(|addr| Some(addr.is_ipv4()) == family);
    let mut others = others.into_iter();
    let mut all: Vec<_> = ours.into_iter().flat_map(|addr| [Some(addr), others.next()]).flatten().collect();
    all.extend(others);
    all
}
