//! One connection of a server, and the goroutine that serves it.
//!
//! hyper's connection is a future; its goroutine polls it in one `block_on` for as long as the
//! connection lives. hyper never calls a handler. The service that hyper calls puts the request on
//! a [`Desk`] and waits for a response there. Between two polls, the loop below takes the request,
//! calls the handler, which may park, and puts its response on the desk. In the same way it fetches
//! the pieces of a streamed response between two polls.
//!
//! ```text
//!          poll ───────────────> request on the desk ──> handler ──> response on the desk ──> poll
//!           │                                                                                  │
//!           └─ nothing to do: park until the socket is ready, or the server is shut down <─────┘
//! ```
//!
//! Deadlines for reading: `header_timeout` for the rest of a head once some of it has come (and for
//! the first head), [`PATIENCE`] between requests, none of its own while a body is read, where the
//! reader sets one (`request.rs`). The deadline for the next request is set before the response is
//! sent. So it only ever moves later, and moving it costs no wake-up. hyper never learns of a
//! deadline (`stall.rs`); [`Connection::look`] decides what it means. A connection that is idle
//! rests (`rest.rs`).

use std::cell::RefCell;
use std::error::Error as _;
use std::future::{Future, poll_fn};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use goby::{Context, Goexit, block_on};
use http::header::{CONNECTION, HeaderValue};
use http::{StatusCode, Version};
use http_body::Body as _;
use hyper::server::conn::http1;
use hyper::service::Service;

use super::Stopping;
use super::check::{adopt_host, is_last, refuse, refuse_length};
use super::incoming::Loan;
use super::limits::Settings;
use super::linger::linger;
use super::report::{Name, complain, deplore, message};
use super::request::{Peer, Request};
use super::rest::Kept;
use super::upgrade;
use crate::body::{Body, Feeder, Outgoing};
use crate::error::Error;
use crate::framing::{Framed, frame_response};
use crate::handler::Handler;
use crate::head::MAX_HEAD;
use crate::rejection::{Failure, in_words};
use crate::response::Response;
use crate::stall::{after, earlier};
use crate::stream::{Link, Stream};
use crate::upgrade::Takeover;

/// How long a connection is idle before it rests: so long that a client in the middle of a
/// conversation has sent its next request, and short beside the time that a client keeps a
/// connection for later.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// How long a head that has begun is awaited when the server stops. Source: Go's `Server.Shutdown`.
const LAST_HEAD: Duration = Duration::from_secs(5);

/// hyper's side of a connection.
pub(super) type Driver = http1::Connection<Stream, Clerk>;

/// Where a request lies until it is handled, and a response until it is sent. There is one desk per
/// thread, and it is used only during a poll, which does not park. So it needs no lock, and stays
/// in cache when a thousand connections take turns.
struct Desk {
    request: Tray<http::Request<hyper::body::Incoming>>,
    response: Tray<http::Response<Outgoing>>,
}

thread_local! {
    static DESK: Desk = const { Desk { request: Tray::new(), response: Tray::new() } };
}

/// A place on a desk for one message. Messages are large, so one is moved only if it is there.
pub(super) struct Tray<T>(RefCell<Option<T>>);

impl<T> Tray<T> {
    pub(super) const fn new() -> Tray<T> {
        Tray(RefCell::new(None))
    }

    pub(super) fn put(&self, message: T) {
        *self.0.borrow_mut() = Some(message);
    }

    /// Moves a message here, if there is one.
    pub(super) fn put_from(&self, message: &mut Option<T>) {
        if message.is_some() {
            *self.0.borrow_mut() = message.take();
        }
    }

    /// Moves the message back, if it is still here.
    pub(super) fn return_to(&self, place: &mut Option<T>) {
        if let Some(message) = self.take() {
            *place = Some(message);
        }
    }

    pub(super) fn take(&self) -> Option<T> {
        let message = &mut *self.0.borrow_mut();
        if message.is_some() { message.take() } else { None }
    }
}

/// The service that hyper calls: it carries messages between hyper and the desk.
pub(super) struct Clerk;

impl Service<http::Request<hyper::body::Incoming>> for Clerk {
    type Response = http::Response<Outgoing>;
    type Error = Error;
    type Future = Awaited;

    fn call(&self, request: http::Request<hyper::body::Incoming>) -> Awaited {
        DESK.with(|desk| desk.request.put(request));
        Awaited
    }
}

/// A response that is not there yet. It needs no waker: the loop that puts the response on the desk
/// polls afterwards.
pub(super) struct Awaited;

impl Future for Awaited {
    type Output = Result<http::Response<Outgoing>, Error>;

    fn poll(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<Self::Output> {
        match DESK.with(|desk| desk.response.take()) {
            Some(response) => Poll::Ready(Ok(response)),
            None => Poll::Pending,
        }
    }
}

/// How hyper is set up; the same for all connections of a server.
pub(super) fn protocol(settings: &Settings) -> http1::Builder {
    let mut protocol = http1::Builder::new();
    protocol.keep_alive(settings.keep_alive);
    // The time-outs are ours. A client that has closed its sending side may still receive.
    protocol.header_read_timeout(None).half_close(true);
    if let Some(most) = settings.max_head {
        protocol.max_header_size(most);
        if most > MAX_HEAD {
            protocol.max_buf_size(most);
        }
    }
    protocol
}

/// Serves a connection until it ends, or rests.
pub(super) fn serve(
    stream: Stream,
    mut kept: Kept,
    handler: &impl Handler,
    base: Context,
    settings: &Settings,
) -> Option<Kept> {
    let link = kept.link.clone();
    link.keep_deadlines();
    kept.tls = stream.tls().cloned();
    let driver = Box::new(settings.protocol.serve_connection(stream, Clerk));
    // The first head is awaited from the beginning of the connection.
    let is_new = !kept.has_rested;
    let mut connection = Connection {
        response: None,
        driver: Some(driver),
        peer: Peer::new(link.clone(), kept.tls.clone(), kept.addr, base),
        received: if is_new { 0 } else { link.received() },
        link,
        settings,
        feeder: None,
        loan: None,
        takeover: None,
        requests: kept.requests,
        is_last: false,
        is_chunked: false,
        name: Name::default(),
        in_head: is_new,
        since: goby::now(),
        stop_by: None,
        told_to_stop: false,
        waker: None,
    };
    if is_new {
        connection.await_head();
    }
    // Panics of handlers have been caught by then. A panic of hyper, too, costs its connection and
    // nothing else.
    let poll = AssertUnwindSafe(|| block_on(poll_fn(|cx| connection.poll(cx, handler, &kept.stopping))));
    let ended = catch_unwind(poll).unwrap_or_else(|payload| {
        deplore("panic", kept.addr, &connection.name, message(&*payload), "connection closed");
        Err(Ended)
    });
    match ended {
        Ok(Served::Idle) => {
            let (requests, due) = (connection.requests, connection.due());
            drop(connection);
            kept.link.socket.set_read_deadline(due);
            return Some(Kept { requests, has_rested: true, ..kept });
        }
        Ok(Served::Upgraded(run)) => {
            let (driver, name) = (connection.driver.take(), mem::take(&mut connection.name));
            drop(connection);
            upgrade::serve(driver.expect("it has come to its end"), run, &kept, &name);
        }
        Ok(Served::Over) if connection.peer.has_unread() || connection.peer.has_trailers() => {
            linger(&connection.link, &kept.stopping)
        }
        Ok(Served::Over) | Err(Ended) => {}
    }
    None
}

/// What a connection has come to.
enum Served {
    Over,
    /// There is nothing to do until the next request.
    Idle,
    /// The connection is no longer HTTP's.
    Upgraded(Takeover),
}

struct Connection<'a> {
    /// The response that hyper has not asked for yet.
    response: Option<http::Response<Outgoing>>,
    /// `None` while it is on loan.
    driver: Option<Box<Driver>>,
    peer: Arc<Peer>,
    link: Arc<Link>,
    settings: &'a Settings,
    /// The rest of the response that is being sent.
    feeder: Option<Feeder>,
    /// The loan of the request that the response answers, if it had a body.
    loan: Option<Arc<Loan>>,
    /// What runs when the head of the response has been sent.
    takeover: Option<Takeover>,
    requests: u64,
    /// No request follows the one that is handled.
    is_last: bool,
    /// Its body is of unknown length.
    is_chunked: bool,
    /// What the last request asks for: for the report if its handler panics.
    name: Name,
    /// Bytes received when the last request was complete.
    received: u64,
    /// Part of a head has come, or it is the first one.
    in_head: bool,
    /// When that head began, or the connection became idle.
    since: Instant,
    /// When a head has to be here that has begun before the server stopped.
    stop_by: Option<Instant>,
    told_to_stop: bool,
    /// The waker that `stopping` wakes.
    waker: Option<Waker>,
}

impl Connection<'_> {
    fn poll(
        &mut self,
        cx: &mut TaskContext<'_>,
        handler: &impl Handler,
        stopping: &Stopping,
    ) -> Poll<Result<Served, Ended>> {
        stopping.register_once(&mut self.waker, cx.waker());
        loop {
            if stopping.is_stopping() && !self.told_to_stop {
                self.stop();
            }
            let driver = self.driver.as_mut().expect("it is on loan only during calls");
            let (polled, request) = DESK.with(|desk| {
                desk.response.put_from(&mut self.response);
                let polled = Pin::new(&mut **driver).poll(cx);
                // hyper may not have asked for it in this poll.
                desk.response.return_to(&mut self.response);
                (polled, desk.request.take())
            });
            if let Poll::Ready(ended) = polled {
                if self.takeover.is_some() && self.link.stall.is_full() {
                    // hyper forgets what it has not written of the head.
                    return Poll::Ready(Err(Ended));
                }
                let served = self.takeover.take().map_or(Served::Over, Served::Upgraded);
                return Poll::Ready(ended.map(|()| served).or_else(|error| self.explain(&error)));
            }
            if let Some(request) = request {
                self.handle(request, handler)?;
                // Without this, a client that sends one request after the other would never let
                // other goroutines run.
                goby::checkpoint();
            } else if self.is_body_wanted() {
                self.feed()?;
                // Nor would a client that takes all that there is.
                goby::checkpoint();
            } else if !self.in_head && self.link.received() != self.received {
                // A head has begun to come, and must be complete in time: poll again, with that
                // deadline.
                (self.in_head, self.since) = (true, goby::now());
                self.link.socket.set_read_deadline(self.due());
            } else if self.link.take_late() {
                if self.look()? {
                    return Poll::Ready(Ok(Served::Idle));
                }
            } else {
                return Poll::Pending;
            }
        }
    }

    fn handle(
        &mut self,
        mut request: http::Request<hyper::body::Incoming>,
        handler: &impl Handler,
    ) -> Result<(), Ended> {
        if self.is_spent() {
            return Err(Ended);
        }
        self.requests += 1;
        self.peer.begin(self.requests);
        self.loan = None;
        let mut refused =
            self.link.add_surplus(request.headers_mut()).then_some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        if self.settings.is_timed {
            self.set_ends();
        }
        let length = if request.body().is_end_stream() { Some(0) } else { request.body().size_hint().exact() };
        self.is_chunked = length.is_none();
        self.link.expect_body(length);
        if !request.body().is_end_stream() {
            if request.body().size_hint().lower() > self.settings.max_body {
                refused = Some(StatusCode::PAYLOAD_TOO_LARGE);
            }
            self.loan = Some(Arc::new(Loan::new(self.settings.max_body)));
            self.link.socket.set_read_deadline(None);
        }
        self.name = Name(request.method().clone(), request.uri().clone());
        let refused = refused.or_else(|| refuse(&request)).or_else(|| refuse_length(&self.link, &request));
        self.is_last = is_last(&self.link, &request);
        if request.uri().scheme().is_some() {
            adopt_host(&mut request);
        }
        let request = Request::new(request, self.loan.clone(), &self.peer, self.requests);
        let method = request.method().clone();
        // Inside `call`, so that the destructors of all that the handler gave and is not sent run
        // there, too.
        let mut answer = None;
        let called = self.call(|| {
            let response = if let Some(status) = refused {
                // The drop notes whether the client is still sending.
                drop(request);
                Response::from(status).with_header(CONNECTION, "close")
            } else {
                handler.handle(request)
            };
            // Not returned: it is large, and each result around it would move it.
            answer = Some(Answer::new(&method, response));
        })?;
        if let Err(panic) = called {
            answer = Some(Answer::new(&method, self.apologize(&panic)));
        }
        let Some(Answer { head, framed, failure }) = answer else { return Err(Ended) };
        if let Some(failure) = failure {
            self.deplore("error", &failure, &format!("answered with {}", head.status.as_u16()));
        }
        let Framed { body, mended } = framed.map_err(|wrong| {
            self.complain(&wrong, "connection closed");
            Ended
        })?;
        if let Some(mended) = mended {
            self.complain(&mended, "mended");
        }
        self.send(head, body);
        Ok(())
    }

    /// Hands a response over, to be sent.
    fn send(&mut self, mut head: http::response::Parts, body: Body) {
        let leaves = match head.status {
            StatusCode::SWITCHING_PROTOCOLS => true,
            status => status.is_success() && self.name.0 == http::Method::CONNECT,
        };
        if leaves {
            self.takeover = head.extensions.remove();
            self.link.begin_turn();
        } else if self.is_last || self.requests >= self.settings.max_requests {
            head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
            // The client may have sent another request.
            self.peer.note_unread();
        }
        let (outgoing, feeder) = body.into_outgoing();
        self.feeder = feeder;
        if self.feeder.is_none() {
            self.finish();
        }
        self.response = Some(http::Response::from_parts(head, outgoing));
    }

    /// Reports that the handler panicked, and gives the answer.
    #[cold]
    fn apologize(&self, panic: &str) -> Response {
        self.deplore("panic", panic, "answered with 500");
        let response = Response::from(StatusCode::INTERNAL_SERVER_ERROR);
        // What is left of the request's body may never come.
        if self.peer.has_unread() { response.with_header(CONNECTION, "close") } else { response }
    }

    /// Returns whether hyper waits for a piece of the response's body, and all that came before is
    /// on its way: only then may the source take its time.
    fn is_body_wanted(&self) -> bool {
        self.feeder.as_ref().is_some_and(Feeder::is_wanted) && !self.link.is_write_pending()
    }

    /// Gets the next piece of the response's body.
    fn feed(&mut self) -> Result<(), Ended> {
        let mut feeder = self.feeder.take().expect("called only if there is one");
        // hyper has looked for the next request meanwhile.
        self.peer.keep_watching();
        let (more, feeder) = self.call(move || (feeder.supply(), feeder))?.map_err(|panic| {
            self.deplore("panic", &panic, "connection closed");
            Ended
        })?;
        if more {
            self.feeder = Some(feeder);
        } else {
            self.finish();
        }
        Ok(())
    }

    /// Calls user code, which may park, panic, and read the request's body. Returns the message of
    /// its panic as the inner error.
    fn call<T>(&mut self, f: impl FnOnce() -> T) -> Result<Result<T, String>, Ended> {
        if let Some(loan) = &self.loan {
            loan.lend(self.driver.take().expect("it is lent once"));
        }
        let result = catch_unwind(AssertUnwindSafe(f));
        if let Some(loan) = &self.loan {
            self.driver = loan.take_back();
        }
        judge(result, self.driver.is_none(), |panic| self.deplore("panic", panic, "connection closed"))
    }

    /// Reports an error if a handler's response caused it. Most errors are the client's: it has
    /// gone away, or does not speak HTTP, which hyper has answered.
    fn explain(&self, error: &hyper::Error) -> Result<Served, Ended> {
        if error.is_parse() {
            self.peer.note_unread();
            return Ok(Served::Over);
        }
        let ours = error.source().and_then(|source| source.downcast_ref::<Error>());
        // A body that was canceled breaks off because the client has gone away, or is to.
        if error.is_user() && !ours.is_some_and(Error::is_canceled) {
            self.complain(&in_words(error), "connection closed");
        }
        Err(Ended)
    }

    /// Reports what is wrong with a handler's response, and what the server does with it.
    #[cold]
    fn complain(&self, wrong: &str, done: &str) {
        complain(self.peer.addr, &self.name, wrong, done);
    }

    /// Reports what went wrong in a handler, and what the server does.
    #[cold]
    fn deplore(&self, what: &str, wrong: &str, done: &str) {
        deplore(what, self.peer.addr, &self.name, wrong, done);
    }

    /// Notes that the handler is done: what remains is to send, and to wait for the next request.
    fn finish(&mut self) {
        self.peer.end();
        if self.is_spent() {
            let driver = self.driver.as_mut().expect("it is on loan only during calls");
            Pin::new(&mut **driver).graceful_shutdown();
        }
        self.received = self.link.received();
        (self.in_head, self.since) = (false, goby::now());
        self.link.socket.set_read_deadline(self.since.checked_add(self.settings.patience));
    }

    /// Whether no request may follow: the last one had trailers, or may have had some.
    fn is_spent(&self) -> bool {
        self.peer.has_trailers() || self.is_chunked && self.peer.has_unread()
    }

    /// Sets when the request has to be complete, and the response sent.
    #[cold]
    fn set_ends(&mut self) {
        let now = goby::now();
        let start = if self.in_head { self.since } else { now };
        self.link.end_request_at(self.settings.read_timeout.and_then(|limit| start.checked_add(limit)));
        self.link.end_response_at(self.settings.write_timeout.and_then(|limit| now.checked_add(limit)));
    }

    /// Gives when the head that is awaited has to be complete.
    fn due(&self) -> Option<Instant> {
        let limit = if self.in_head { self.settings.head_timeout() } else { self.settings.idle_timeout };
        earlier(limit.and_then(|limit| self.since.checked_add(limit)), self.stop_by)
    }

    /// Sets the deadline for a head of which nothing has come.
    fn await_head(&self) {
        self.link.socket.set_read_deadline(earlier(self.due(), after(Some(PATIENCE))));
    }

    /// Does what is to be done when the server stops: a connection without a request ends, and one
    /// with half a head has some time left.
    #[cold]
    fn stop(&mut self) {
        self.told_to_stop = true;
        let driver = self.driver.as_mut().expect("it is on loan only during calls");
        Pin::new(&mut **driver).graceful_shutdown();
        if self.is_quiet() {
            self.stop_by = after(Some(LAST_HEAD));
            self.link.socket.set_read_deadline(self.due());
        }
    }

    /// Whether nothing is left to do or to send of the requests so far.
    fn is_quiet(&self) -> bool {
        self.response.is_none() && self.feeder.is_none() && !self.link.stall.is_full()
    }

    /// Decides how to go on when a read has come to its deadline: with another one, unless the time
    /// is over. If the connection is idle, takes it apart, and returns true.
    #[cold]
    fn look(&mut self) -> Result<bool, Ended> {
        let is_quiet = self.is_quiet();
        if !is_quiet {
            // Only when the response is sent, the connection is idle.
            self.since = goby::now();
        }
        if self.due().is_some_and(|due| due <= goby::now()) {
            return Err(Ended);
        }
        if self.link.received() != self.received {
            self.link.socket.set_read_deadline(self.due());
            return Ok(false);
        }
        let is_between = is_quiet && self.loan.as_ref().is_none_or(|loan| loan.is_over());
        if is_between && !self.told_to_stop && !self.peer.has_unread() {
            if self.settings.is_timed {
                self.link.end_response_at(None);
            }
            if self.take_apart() {
                return Ok(true);
            }
            self.link.socket.set_read_deadline(self.due());
        } else {
            self.await_head();
        }
        Ok(false)
    }

    /// Takes hyper's connection apart. Returns false if the next head has begun, with the bytes of
    /// the last request: then hyper gets these again.
    fn take_apart(&mut self) -> bool {
        let driver = self.driver.take().expect("it is on loan only during calls");
        let http1::Parts { io: mut stream, read_buf, .. } = driver.into_parts();
        if !stream.give_back(&read_buf) {
            return true;
        }
        // Not equal to what has been received: part of that belongs to the head.
        self.received = self.received.wrapping_sub(1);
        (self.in_head, self.since) = (true, goby::now());
        self.driver = Some(Box::new(self.settings.protocol.serve_connection(stream, Clerk)));
        false
    }
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        self.peer.end();
    }
}

/// The connection, or the stream of one, has ended without agreement of both sides.
pub(super) struct Ended;

/// A response as hyper is to have it, if it makes sense, and what is to be reported.
pub(super) struct Answer {
    pub(super) head: http::response::Parts,
    pub(super) framed: Result<Framed, String>,
    pub(super) failure: Option<String>,
}

impl Answer {
    #[inline]
    pub(super) fn new(method: &http::Method, response: Response) -> Answer {
        let (mut head, body) = http::Response::<Body>::from(response).into_parts();
        // hyper knows no other version.
        head.version = Version::HTTP_11;
        let failure = head.extensions.remove::<Failure>().filter(|_| head.status.is_server_error());
        let framed = frame_response(method, head.status, &mut head.headers, body);
        Answer { head, framed, failure: failure.map(|failure| failure.text()) }
    }
}

/// Judges a call of user code. The inner error is the message of a panic that can be answered; one
/// that cannot goes to `deplore`: the connection or the stream is over, or the goroutine is.
pub(super) fn judge<T>(
    result: thread::Result<T>,
    is_over: bool,
    deplore: impl FnOnce(&str),
) -> Result<Result<T, String>, Ended> {
    match result {
        Ok(result) if !is_over => Ok(Ok(result)),
        Ok(_) => Err(Ended),
        Err(payload) if is_over || payload.is::<Goexit>() => {
            deplore(message(&*payload));
            Err(Ended)
        }
        Err(payload) => Ok(Err(message(&*payload).to_owned())),
    }
}
