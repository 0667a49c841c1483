//! What a handler gets: the head of a request, its body as it comes, and a context for this
//! request.
//! How the body comes is in `incoming.rs`.
//!
//! A context is made only for a handler that asks for it. Only then is the socket watched, to see
//! whether the client goes away.

use std::cell::OnceCell;
use std::fmt;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context as TaskContext, Poll, Wake, Waker};

use bytes::Bytes;
use goby::Context;
use goby::context::CancelGuard;
use http::{Extensions, HeaderMap, Method, Uri, Version};
use parking_lot::Mutex;

use super::http2::Exchange;
use super::incoming::{Incoming, Loan};
use crate::body::Body;
use crate::error::{Error, Phase};
use crate::extract::BUFFER_LIMIT;
use crate::router::Route;
use crate::stream::Link;
use crate::tls::Tls;

/// A request, as its handler gets it.
///
/// The body is streamed: it comes as it is read ([`Read`], [`reader`](Request::reader)), or all at
/// once ([`bytes`](Request::bytes), [`text`](Request::text)).
///
/// ```
/// use goby::Context;
/// use goby_http::{Client, Method, Request, Response, Server, StatusCode};
///
/// let server = Server::bind("127.0.0.1:0")?;
/// let url = format!("http://{}/sum", server.local_addr());
/// let (serving, _stop) = Context::background().with_cancel();
/// goby::go(move || {
///     server.serve_ctx(&serving, |request: Request| match (request.method(), request.path()) {
///         (&Method::POST, "/sum") => {
///             let sum: u64 = request.text().unwrap().split('+').map(|n| n.parse::<u64>().unwrap()).sum();
///             Response::from(sum.to_string())
///         }
///         _ => Response::from(StatusCode::NOT_FOUND),
///     })
/// });
/// let response = Client::new().post(&Context::background(), url, "1+2+3")?;
/// assert_eq!(response.text()?, "6");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Blocking
///
/// Reading the body parks the goroutine until more has come.
pub struct Request {
    head: http::request::Parts,
    body: Body,
    remote_addr: SocketAddr,
    ticket: Ticket,
    /// Set by a router.
    route: Option<Route>,
    /// How many bytes of the body the extracting methods hold at most.
    buffer_limit: u64,
}

impl Request {
    pub(super) fn new(
        request: http::Request<hyper::body::Incoming>,
        loan: Option<Arc<Loan>>,
        peer: &Arc<Peer>,
        number: u64,
    ) -> Request {
        let (head, incoming) = request.into_parts();
        let body = match loan {
            None => Body::empty(),
            Some(loan) => Body::from_source(Incoming::new(incoming, loan, peer.clone())),
        };
        Request::assemble(head, body, peer.addr, Origin::Peer(peer.clone(), number))
    }

    pub(super) fn assemble(head: http::request::Parts, body: Body, remote_addr: SocketAddr, origin: Origin) -> Request {
        let ticket = Ticket { origin, ctx: OnceCell::new() };
        Request { head, body, remote_addr, ticket, route: None, buffer_limit: BUFFER_LIMIT }
    }

    /// Tells the method.
    ///
    /// ```
    /// # goby_http::doc_test(|request| {
    /// assert_eq!(request.method(), "GET");
    /// # });
    /// ```
    pub fn method(&self) -> &Method {
        &self.head.method
    }

    /// Gives the target of the request, as the client wrote it: path and query.
    ///
    /// ```
    /// # goby_http::doc_test(|request| {
    /// assert_eq!(request.uri(), "/path?a=b");
    /// # });
    /// ```
    pub fn uri(&self) -> &Uri {
        &self.head.uri
    }

    /// Gives the path that is asked for.
    ///
    /// ```
    /// # goby_http::doc_test(|request| {
    /// assert_eq!(request.path(), "/path");
    /// # });
    /// ```
    pub fn path(&self) -> &str {
        self.head.uri.path()
    }

    /// Gives what follows the `?`, if there is one.
    ///
    /// ```
    /// # goby_http::doc_test(|request| {
    /// assert_eq!(request.query(), Some("a=b"));
    /// # });
    /// ```
    pub fn query(&self) -> Option<&str> {
        self.head.uri.query()
    }

    /// Gives the headers.
    ///
    /// ```
    /// # goby_http::doc_test(|request| {
    /// assert!(request.headers().contains_key("host"));
    /// # });
    /// ```
    pub fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// Tells the version of the protocol.
    ///
    /// ```
    /// # goby_http::doc_test(|request| {
    /// assert_eq!(request.version(), http::Version::HTTP_11);
    /// # });
    /// ```
    pub fn version(&self) -> Version {
        self.head.version
    }

    /// Gives what a middleware has attached for the handlers behind it.
    ///
    /// ```
    /// # goby_http::doc_test(|request| {
    /// assert!(request.extensions().is_empty());
    /// # });
    /// ```
    pub fn extensions(&self) -> &Extensions {
        &self.head.extensions
    }

    /// Gives what is attached, to change it.
    ///
    /// ```
    /// #[derive(Clone)]
    /// struct User(String);
    ///
    /// # goby_http::doc_test(|mut request| {
    /// request.extensions_mut().insert(User("ann".into()));
    /// assert_eq!(request.extensions().get::<User>().unwrap().0, "ann");
    /// # });
    /// ```
    pub fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.head.extensions
    }

    /// Tells where the request comes from; `0.0.0.0:0` if it came through a Unix socket.
    ///
    /// ```
    /// # goby_http::doc_test(|request| {
    /// assert!(request.remote_addr().ip().is_loopback());
    /// # });
    /// ```
    pub fn remote_addr(&self) -> SocketAddr {
        self.remote_addr
    }

    /// Gives a context that is done when the handler's response has been sent, or when the client
    /// has gone away.
    ///
    /// goby cannot see that the client has gone away while bytes that the client sent before are
    /// unread: those of the body, or of its next request.
    ///
    /// ```
    /// # goby_http::doc_test(|request| {
    /// let ctx = request.context();
    /// assert!(ctx.err().is_none());
    /// # });
    /// ```
    pub fn context(&self) -> &Context {
        self.ticket.ctx.get_or_init(|| match &self.ticket.origin {
            Origin::Peer(peer, number) => peer.context(*number),
            Origin::Stream(exchange) => exchange.context(),
        })
    }

    /// Replaces the context: by one that descends from it, with a deadline or a value. Source: Go's
    /// `Request.WithContext`.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # goby_http::doc_test(|request| {
    /// let (ctx, _cancel) = request.context().with_timeout(Duration::from_secs(1));
    /// let request = request.with_context(ctx);
    /// assert!(request.context().deadline().is_some());
    /// # });
    /// ```
    #[must_use]
    pub fn with_context(mut self, ctx: Context) -> Request {
        self.ticket.ctx = OnceCell::from(ctx);
        self
    }

    #[cfg(any(feature = "brotli", feature = "gzip", feature = "zstd"))]
    pub(crate) fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.head.headers
    }

    /// Whether no body comes with it.
    pub(super) fn is_without_body(&self) -> bool {
        self.body.len() == Some(0)
    }

    pub(crate) fn route(&self) -> Option<&Route> {
        self.route.as_ref()
    }

    pub(crate) fn set_route(&mut self, route: Route) {
        self.route = Some(route);
    }

    pub(crate) fn buffer_limit(&self) -> u64 {
        self.buffer_limit
    }

    pub(crate) fn set_buffer_limit(&mut self, limit: u64) {
        self.buffer_limit = limit;
    }

    /// Gives the body, to read from.
    ///
    /// ```
    /// # goby_http::doc_test(|mut request| {
    /// assert!(request.reader().is_empty());
    /// # });
    /// ```
    pub fn reader(&mut self) -> &mut Body {
        &mut self.body
    }

    /// Takes the body.
    ///
    /// ```
    /// # goby_http::doc_test(|request| {
    /// assert_eq!(request.into_body().len(), Some(0));
    /// # });
    /// ```
    pub fn into_body(self) -> Body {
        self.body
    }

    /// Reads the body to its end.
    ///
    /// It may be of any size: [`reader`](Request::reader) and [`Read::take`] set a limit.
    ///
    /// ```
    /// # goby_http::doc_test(|request| {
    /// assert_eq!(request.bytes().unwrap(), "");
    /// # });
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine until the body is complete.
    ///
    /// # Errors
    ///
    /// Those of the connection, such as a body that is shorter than announced.
    pub fn bytes(self) -> Result<Bytes, Error> {
        self.body.bytes()
    }

    /// Reads the body to its end, as UTF-8 text.
    ///
    /// ```
    /// # goby_http::doc_test(|request| {
    /// assert_eq!(request.text().unwrap(), "");
    /// # });
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine until the body is complete.
    ///
    /// # Errors
    ///
    /// Those of [`bytes`](Request::bytes), and when it is not UTF-8.
    pub fn text(self) -> Result<String, Error> {
        self.body.text_or(Phase::RequestNotText)
    }
}

impl Read for Request {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.body.read(buf)
    }
}

impl From<Request> for http::Request<Body> {
    fn from(request: Request) -> http::Request<Body> {
        http::Request::from_parts(request.head, request.body)
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut request = f.debug_struct("Request");
        request.field("method", &self.head.method).field("uri", &self.head.uri).field("headers", &self.head.headers);
        request.field("remote_addr", &self.remote_addr).field("body", &self.body).finish()
    }
}

/// The client of a connection, as its requests share it.
pub(super) struct Peer {
    pub(super) link: Arc<Link>,
    tls: Option<Arc<Tls>>,
    pub(super) addr: SocketAddr,
    /// What the contexts of requests descend from.
    pub(super) base: Context,
    /// The body of the last request was left unread. Relaxed: it is read when the request or the
    /// connection is over, and hyper has told everybody of that.
    unread: AtomicBool,
    /// The body of a request had trailers. Relaxed, as `unread`.
    trailers: AtomicBool,
    /// The number of the request that is being handled, or 0, and the bit `ASKED`. The goroutine
    /// that drives the connection writes all but that bit. So a request costs one swap if nobody
    /// asks for its context.
    current: AtomicU64,
    /// The guard of its context, if `ASKED`.
    guard: Mutex<Option<CancelGuard>>,
}

/// A bit of `current`, set under the lock of `guard`: the request's context has been asked for. The
/// number is above it.
const ASKED: u64 = 1;

/// The right of a request to a context.
struct Ticket {
    origin: Origin,
    ctx: OnceCell<Context>,
}

/// What makes the context of a request.
pub(super) enum Origin {
    /// The client of a connection, by the number of the request.
    Peer(Arc<Peer>, u64),
    /// A stream of HTTP/2.
    #[cfg_attr(not(feature = "http2"), expect(dead_code))]
    Stream(Arc<Exchange>),
}

impl Peer {
    pub(super) fn new(link: Arc<Link>, tls: Option<Arc<Tls>>, addr: SocketAddr, base: Context) -> Arc<Peer> {
        let (unread, trailers, current, guard) = (false.into(), false.into(), 0.into(), Mutex::default());
        Arc::new(Peer { link, tls, addr, base, unread, trailers, current, guard })
    }

    /// Looks whether there is something to read, or the end (0).
    fn poll_peek(&self, cx: &mut TaskContext<'_>) -> Poll<io::Result<usize>> {
        let Some(tls) = &self.tls else { return self.link.socket.poll_peek(cx, &mut [0]) };
        // The end of a session is a message, too.
        let mut seen = 0;
        tls.poll_read(cx, |plain| {
            seen = plain.len();
            0
        })
        .map_ok(|()| seen)
    }

    /// Notes that the client may still be sending bytes that nobody will read.
    pub(super) fn note_unread(&self) {
        self.unread.store(true, Ordering::Relaxed);
    }

    /// Notes that the body has trailers. hyper takes some that are none, and drops what they hide:
    /// a proxy in between may have read another request there. So the connection is closed.
    pub(super) fn note_trailers(&self) {
        self.trailers.store(true, Ordering::Relaxed);
    }

    /// Whether the body of a request had trailers.
    pub(super) fn has_trailers(&self) -> bool {
        self.trailers.load(Ordering::Relaxed)
    }

    /// Whether a client may still be sending bytes that nobody will read.
    pub(super) fn has_unread(&self) -> bool {
        self.unread.load(Ordering::Relaxed)
    }

    /// Notes which request is being handled, before its handler is called.
    pub(super) fn begin(&self, number: u64) {
        // Release pairs with the exchange in `context`. It was 0: `end` came before.
        self.current.store(number << 1, Ordering::Release);
        // hyper has received the whole body of the request before.
        self.unread.store(false, Ordering::Relaxed);
    }

    /// Cancels the context of the request that was being handled, if it has one.
    pub(super) fn end(&self) {
        // AcqRel: this swap and the exchange in `context` come in one order. If the exchange was
        // first, the lock below waits until it has stored the guard.
        if self.current.swap(0, Ordering::AcqRel) & ASKED != 0 {
            let guard = self.guard.lock().take();
            drop(guard);
        }
    }

    fn number(&self) -> u64 {
        self.current.load(Ordering::Acquire) >> 1
    }

    fn context(self: &Arc<Peer>, number: u64) -> Context {
        let (ctx, guard) = self.base.with_cancel();
        let refused = {
            let mut kept = self.guard.lock();
            let (asked, order) = (number << 1 | ASKED, Ordering::AcqRel);
            match self.current.compare_exchange(number << 1, asked, order, Ordering::Acquire) {
                Ok(_) => kept.replace(guard),
                Err(_) => Some(guard),
            }
        };
        // The request is over: so is its context.
        if refused.is_none() {
            // The deadline that is set now is for the next request's head.
            self.link.socket.set_read_deadline(None);
            self.watch(number);
        }
        drop(refused);
        ctx
    }

    /// Watches whether the client goes away.
    fn watch(self: &Arc<Peer>, number: u64) {
        Arc::new(Watch { peer: Arc::downgrade(self), number }).look();
    }

    /// Watches again, after a read has replaced the watch's waker.
    pub(super) fn watch_again(self: &Arc<Peer>) {
        let number = {
            let guard = self.guard.lock();
            guard.as_ref().map(|_| self.number())
        };
        if let Some(number) = number {
            self.watch(number);
        }
    }

    /// Watches on, while the source of a response takes its time, if the request's context was
    /// asked for.
    pub(super) fn keep_watching(self: &Arc<Peer>) {
        if self.current.load(Ordering::Relaxed) & ASKED != 0 {
            self.watch_again();
        }
    }

    fn gone(&self, number: u64) {
        let guard = {
            let mut guard = self.guard.lock();
            if self.number() == number { guard.take() } else { None }
        };
        drop(guard);
    }
}

/// When it is woken because there is something to read, it looks whether that is the end. The
/// socket holds the watch, so the watch does not hold the socket.
struct Watch {
    peer: Weak<Peer>,
    number: u64,
}

impl Watch {
    fn look(self: Arc<Watch>) {
        let Some(peer) = self.peer.upgrade() else { return };
        let number = self.number;
        let waker = Waker::from(self);
        match peer.poll_peek(&mut TaskContext::from_waker(&waker)) {
            // A deadline is for whoever reads.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::TimedOut => {}
            Poll::Ready(Ok(0) | Err(_)) => peer.gone(number),
            Poll::Ready(Ok(_)) | Poll::Pending => {}
        }
    }
}

impl Wake for Watch {
    fn wake(self: Arc<Watch>) {
        self.look();
    }
}
