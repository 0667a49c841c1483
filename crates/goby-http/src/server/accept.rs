//! What a server listens at, and how a connection begins: with a handshake of TLS, or with the
//! first bytes, if these tell what the client speaks.

use std::future::poll_fn;
use std::io::{self, Write as _};
use std::mem;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::{Duration, Instant};

use goby::net::{TcpListener, UnixListener};
use goby::{Context, block_on};
use parking_lot::Mutex;

use super::connection;
use super::http2::{self, PREFACE};
use super::limits::Settings;
use super::linger::linger;
use super::rest::Kept;
use super::{Job, Stopping};
use crate::handler::Handler;
use crate::socket::{NO_ADDR, Socket};
use crate::stall::after;
use crate::stream::{Link, Stream, with_buffer};
use crate::tls::{self, Acceptor, Tls};

/// A listener of either kind.
pub(super) enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

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

/// Serves a new connection until it ends, or rests: finds out what the client speaks, then speaks
/// it.
pub(super) fn serve<H: Handler>(kept: Kept, job: &Arc<Job<H>>) -> Option<Kept> {
    let (settings, link) = (&job.settings, &kept.link);
    // For the handshake, and the first head.
    link.socket.set_read_deadline(after(settings.header_timeout));
    link.socket.set_write_deadline(after(settings.header_timeout));
    let (stream, is_http2) = begin(link, kept.addr, settings, &kept.stopping)?;
    link.socket.set_write_deadline(None);
    let base = job.requests.clone();
    if is_http2 {
        http2::serve(stream, link, kept.addr, job.clone(), base, settings, &kept.stopping);
        None
    } else {
        connection::serve(stream, kept, &job.handler, base, settings)
    }
}

/// Gives the stream of a connection, and whether the client speaks HTTP/2; none if it is over.
fn begin(link: &Arc<Link>, addr: SocketAddr, settings: &Settings, stopping: &Stopping) -> Option<(Stream, bool)> {
    if let Some(acceptor) = &settings.tls {
        let tls = match shake_hands(acceptor, link, stopping) {
            Ok(tls) => tls?,
            Err(error) => {
                stopping.shared.handshakes.note_failure(link, addr, &error, stopping);
                return None;
            }
        };
        let is_http2 = tls.protocol() == Some(b"h2");
        let stream = Stream::new(link.clone(), Some(tls));
        return Some((if is_http2 { stream.unfollowed(Vec::new()) } else { stream }, is_http2));
    }
    let stream = Stream::new(link.clone(), None);
    if !settings.http2.takes_h2c() {
        return Some((stream, false));
    }
    let (is_http2, first) = unless_stopped(stopping, poll_first(link)).ok()??;
    Some(if is_http2 { (stream.unfollowed(first), true) } else { (stream.behind(first), false) })
}

/// Drives the handshake; none if the server stops.
fn shake_hands(acceptor: &Acceptor, link: &Arc<Link>, stopping: &Stopping) -> io::Result<Option<Arc<Tls>>> {
    let tls = Arc::new(Tls::accept(acceptor, link.clone())?);
    let done = unless_stopped(stopping, |cx| tls.poll_handshake(cx))?;
    Ok(done.map(|()| tls))
}

/// Reads until it is clear whether the client begins as HTTP/2 does. Returns that, and what was
/// read.
fn poll_first(link: &Link) -> impl FnMut(&mut TaskContext<'_>) -> Poll<io::Result<(bool, Vec<u8>)>> {
    /// More than a head has mostly, so that this is the one read for it.
    const AT_ONCE: usize = 4096;
    let mut first = Vec::new();
    move |cx| {
        loop {
            let n = ready!(with_buffer(AT_ONCE, |buffer| {
                let polled = link.poll_read(cx, buffer);
                if let Poll::Ready(Ok(n)) = polled {
                    first.extend_from_slice(&buffer[..n]);
                }
                polled
            }))?;
            let is_http2 = first.starts_with(PREFACE);
            if n == 0 || is_http2 || !PREFACE.starts_with(&first) {
                return Poll::Ready(Ok((is_http2, mem::take(&mut first))));
            }
        }
    }
}

/// Waits for `poll`; none if the server stops. Nothing has been asked by then, so nothing is lost.
fn unless_stopped<T>(
    stopping: &Stopping,
    mut poll: impl FnMut(&mut TaskContext<'_>) -> Poll<io::Result<T>>,
) -> io::Result<Option<T>> {
    let mut registered = None;
    block_on(poll_fn(|cx| {
        stopping.register_once(&mut registered, cx.waker());
        if stopping.is_stopping() {
            return Poll::Ready(Ok(None));
        }
        poll(cx).map(|result| result.map(Some))
    }))
}

/// The handshakes that failed. The first is reported, and then at most one every [`EVERY`].
#[derive(Default)]
pub(super) struct Handshakes {
    state: Mutex<Failures>,
}

#[derive(Default)]
struct Failures {
    reported_at: Option<Instant>,
    unreported: u64,
}

/// Scanners, and clients that do not trust the certificate, come in crowds.
const EVERY: Duration = Duration::from_secs(10);

impl Handshakes {
    /// Notes a failure, reports it, and tells a client that speaks plain HTTP what is wrong.
    #[cold]
    fn note_failure(&self, link: &Link, addr: SocketAddr, error: &io::Error, stopping: &Stopping) {
        if link.received() == 0 && error.kind() != io::ErrorKind::TimedOut {
            // A client that left without a word: such ones only look whether the port is open.
            return;
        }
        if tls::is_plain_http(error) {
            // Source: Go's `net/http`.
            const ANSWER: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
            // The client may have gone.
            let _ = (&link.socket).write_all(ANSWER);
            let _ = link.socket.shutdown(Shutdown::Write);
            linger(link, stopping);
        }
        let others = {
            let (mut state, now) = (self.state.lock(), goby::now());
            if state.reported_at.is_some_and(|at| now < at + EVERY) {
                state.unreported += 1;
                return;
            }
            state.reported_at = Some(now);
            mem::take(&mut state.unreported)
        };
        let others = if others > 0 { format!(" ({others} more failed since the last report)") } else { String::new() };
        eprintln!("goby-http: TLS handshake from {addr} failed: {error}{others}");
    }
}
