//! Connections that have left HTTP: after `101 Switching Protocols`, and tunnels of `CONNECT`.
//!
//! hyper's connection comes to its end with the head of such a response, and is taken apart. What
//! it has read behind that head is given first.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Instant;

use bytes::{Buf, Bytes};
use goby::{Context, block_on};
use parking_lot::Mutex;

use crate::stream::{Link, Stream};
use crate::tls::Tls;

/// A connection that has left HTTP: a stream of bytes, over TLS if it is `https`.
///
/// A server's comes from [`Request::upgrade`](crate::Request::upgrade), a client's from
/// [`Response::upgrade`](crate::Response::upgrade). It can be read and written through `&Upgraded`
/// as well, by two goroutines at a time. Dropping it closes the connection.
///
/// # Blocking
///
/// Reading and writing park the goroutine until the other side has sent, or has room.
///
/// # Cancellation
///
/// Operations end when [`context`](Upgraded::context) is done.
/// [`set_context`](Upgraded::set_context) lifts that, for a last word.
pub struct Upgraded {
    link: Arc<Link>,
    tls: Option<Arc<Tls>>,
    /// What came with the head. A short lock.
    first: Mutex<Bytes>,
    ctx: Context,
    remote_addr: SocketAddr,
    /// A client's share of the connections that it may have.
    _share: Option<Box<dyn Send + Sync>>,
}

impl Upgraded {
    /// Makes one of what is left of hyper's connection.
    pub(crate) fn new(stream: Stream, unread: &[u8], ctx: Context, remote_addr: SocketAddr) -> Upgraded {
        let (link, tls, first) = stream.leave(unread);
        link.hand_over();
        link.socket.set_read_deadline(None);
        link.socket.set_write_deadline(None);
        link.socket.set_context(Some(&ctx));
        Upgraded { link, tls, first: Mutex::new(first.into()), ctx, remote_addr, _share: None }
    }

    /// Keeps `share` for as long as the connection is open.
    pub(crate) fn sharing(self, share: Option<Box<dyn Send + Sync>>) -> Upgraded {
        // Not by `..self`: it has a destructor.
        let mut this = self;
        this._share = share;
        this
    }

    /// Gives the context that ends the connection's operations.
    ///
    /// A server's connection has one that is done when the server stops; it has the values of the
    /// context that the server serves with. A client's has that of the request.
    ///
    /// ```
    /// # goby_http::doc_test(|request| {
    /// let response = request.upgrade("echo", |stream| assert!(stream.context().err().is_none()));
    /// # drop(response);
    /// # });
    /// ```
    pub fn context(&self) -> &Context {
        &self.ctx
    }

    /// Ends operations when `ctx` is done, in the place of the context that was set before; `None`
    /// lifts that.
    ///
    /// ```
    /// # use std::io::Write;
    /// # goby_http::doc_test(|request| {
    /// let response = request.upgrade("echo", |mut stream| {
    ///     let _ = stream.context().done().recv();
    ///     stream.set_context(None);
    ///     let _ = stream.write_all(b"the server stops");
    /// });
    /// # drop(response);
    /// # });
    /// ```
    pub fn set_context(&self, ctx: Option<&Context>) {
        self.link.socket.set_context(ctx);
    }

    /// Ends reading at `deadline`; `None` lifts that.
    ///
    /// ```
    /// # use std::time::{Duration, Instant};
    /// # goby_http::doc_test(|request| {
    /// let response = request.upgrade("echo", |stream| {
    ///     stream.set_read_deadline(Some(Instant::now() + Duration::from_secs(60)));
    /// });
    /// # drop(response);
    /// # });
    /// ```
    pub fn set_read_deadline(&self, deadline: Option<Instant>) {
        self.link.socket.set_read_deadline(deadline);
    }

    /// Ends writing at `deadline`; `None` lifts that.
    ///
    /// ```
    /// # use std::time::{Duration, Instant};
    /// # goby_http::doc_test(|request| {
    /// let response = request.upgrade("echo", |stream| {
    ///     stream.set_write_deadline(Some(Instant::now() + Duration::from_secs(60)));
    /// });
    /// # drop(response);
    /// # });
    /// ```
    pub fn set_write_deadline(&self, deadline: Option<Instant>) {
        self.link.socket.set_write_deadline(deadline);
    }

    /// Tells where the other side is; `0.0.0.0:0` if that is a Unix socket.
    ///
    /// ```
    /// # goby_http::doc_test(|request| {
    /// let response = request.upgrade("echo", |stream| assert!(stream.remote_addr().ip().is_loopback()));
    /// # drop(response);
    /// # });
    /// ```
    pub fn remote_addr(&self) -> SocketAddr {
        self.remote_addr
    }

    /// Tells the other side that nothing more is sent. Reading goes on.
    ///
    /// ```
    /// # goby_http::doc_test(|request| {
    /// let response = request.upgrade("echo", |stream| drop(stream.shutdown_write()));
    /// # drop(response);
    /// # });
    /// ```
    ///
    /// # Blocking
    ///
    /// With TLS, parks the goroutine until the socket has room for the message that says so.
    ///
    /// # Errors
    ///
    /// The system's, if the connection is broken.
    pub fn shutdown_write(&self) -> io::Result<()> {
        match &self.tls {
            None => self.link.socket.shutdown(Shutdown::Write),
            Some(tls) => block_on(poll_fn(|cx| tls.poll_close(cx))),
        }
    }

    /// Reads what is there, or registers the waker.
    pub(crate) fn poll_read(&self, cx: &mut TaskContext<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if let Some(n) = self.take_first(buf) {
            return Poll::Ready(Ok(n));
        }
        match &self.tls {
            None => self.link.socket.poll_read(cx, buf),
            Some(tls) => {
                let mut n = 0;
                tls.poll_read(cx, |plain| {
                    n = plain.len().min(buf.len());
                    buf[..n].copy_from_slice(&plain[..n]);
                    n
                })
                .map_ok(|()| n)
            }
        }
    }

    /// Writes what there is room for, or registers the waker.
    pub(crate) fn poll_write(&self, cx: &mut TaskContext<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &self.tls {
            None => self.link.socket.poll_write(cx, buf),
            Some(tls) => tls.poll_write(cx, buf),
        }
    }

    /// Sends what the TLS session holds.
    pub(crate) fn poll_flush(&self, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        self.tls.as_ref().map_or(Poll::Ready(Ok(())), |tls| tls.poll_flush(cx))
    }

    /// Reads what came with the head, if some is left.
    fn take_first(&self, buf: &mut [u8]) -> Option<usize> {
        let mut first = self.first.lock();
        if first.is_empty() && !buf.is_empty() {
            return None;
        }
        let n = first.len().min(buf.len());
        first.copy_to_slice(&mut buf[..n]);
        Some(n)
    }
}

impl Read for &Upgraded {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.take_first(buf) {
            Some(n) => Ok(n),
            None if self.tls.is_none() => (&self.link.socket).read(buf),
            None => block_on(poll_fn(|cx| self.poll_read(cx, buf))),
        }
    }
}

impl Write for &Upgraded {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match &self.tls {
            None => (&self.link.socket).write(buf),
            Some(_) => block_on(poll_fn(|cx| self.poll_write(cx, buf))),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        block_on(poll_fn(|cx| self.poll_flush(cx)))
    }
}

impl Read for Upgraded {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }
}

impl Write for Upgraded {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self).write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&*self).flush()
    }
}

impl Drop for Upgraded {
    fn drop(&mut self) {
        if let Some(tls) = &self.tls {
            // Says that the session ends, if there is room for that at once.
            let _ = tls.poll_close(&mut TaskContext::from_waker(Waker::noop()));
        }
    }
}

impl fmt::Debug for Upgraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut stream = f.debug_struct("Upgraded");
        stream.field("remote_addr", &self.remote_addr).field("tls", &self.tls.is_some()).finish_non_exhaustive()
    }
}

/// What is to run when the head of a response has been sent.
type Run = Box<dyn FnOnce(Upgraded) + Send>;

/// What takes a connection over, as part of the response that says so. A response's extensions may
/// be cloned; it is taken once.
#[derive(Clone)]
pub(crate) struct Takeover(Arc<Mutex<Option<Run>>>);

impl Takeover {
    pub(crate) fn new(run: impl FnOnce(Upgraded) + Send + 'static) -> Takeover {
        Takeover(Arc::new(Mutex::new(Some(Box::new(run)))))
    }

    pub(crate) fn take(&self) -> Option<Run> {
        self.0.lock().take()
    }
}

/// A client's connection, as part of the response after which it is no longer HTTP's.
#[derive(Clone)]
pub(crate) struct Left(Arc<Mutex<Option<Upgraded>>>);

impl Left {
    pub(crate) fn new(stream: Upgraded) -> Left {
        Left(Arc::new(Mutex::new(Some(stream))))
    }

    pub(crate) fn take(&self) -> Option<Upgraded> {
        self.0.lock().take()
    }
}
