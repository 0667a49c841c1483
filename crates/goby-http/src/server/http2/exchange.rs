//! One request of HTTP/2 and its response, and the goroutine that serves them.
//!
//! hyper's future of a stream never calls a handler. Its service puts the request on a [`Desk`] and
//! waits for a response there. Between two polls of the future, the loop below takes the request,
//! calls the handler, which may park, and puts its response on the desk. In the same way it fetches
//! the pieces of a streamed response. That is how `connection.rs` serves HTTP/1.1, too.
//!
//! The future also sees that the client resets the stream, or is gone: it ends. While user code
//! runs, it is on loan to the [`Exchange`]. A request that is asked for its context starts a task
//! that polls the future there, and cancels the context when it ends.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use goby::context::CancelGuard;
use goby::{Context, block_on, spawn};
use http::header::{COOKIE, HOST};
use http::{HeaderValue, Method, StatusCode, Uri};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::rt::{Sleep, Timer as _};
use hyper::service::Service;
use parking_lot::Mutex;

use crate::body::{Body, Feeder, Outgoing, Source};
use crate::error::{Error, Phase};
use crate::framing::Framed;
use crate::handler::Handler;
use crate::response::Response;
use crate::rt::Timer;
use crate::server::check::refuse;
use crate::server::connection::{Answer, Ended, Tray, judge};
use crate::server::incoming::{count, late};
use crate::server::limits::Settings;
use crate::server::report::{Name, complain, deplore, message};
use crate::server::request::{Origin, Request};
use crate::stall::{after, earlier};

/// hyper's side of a stream.
pub(super) type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What the streams of a connection share.
pub(super) struct Client {
    pub(super) addr: SocketAddr,
    /// What the contexts of requests descend from.
    pub(super) base: Context,
    pub(super) handler: Arc<dyn Handler>,
    pub(super) limits: Limits,
}

/// The limits of a request and of its response.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// How long a body may make no progress.
    stall: Option<Duration>,
    read: Option<Duration>,
    write: Option<Duration>,
    max_body: u64,
}

impl Limits {
    pub(super) fn new(settings: &Settings) -> Limits {
        let Settings { stall_timeout: stall, read_timeout: read, write_timeout: write, max_body, .. } = *settings;
        Limits { stall, read, write, max_body }
    }
}

/// A flag of a [`Desk`], by this name in the reports that `goby race` suppresses.
struct Moved(Cell<bool>);

impl Moved {
    fn set(&self, moved: bool) {
        self.0.set(moved);
    }

    fn get(&self) -> bool {
        self.0.get()
    }
}

/// Where a request lies until it is handled, and a response until it is sent. There is one desk per
/// thread, and it is used only during a poll, which does not park.
struct Desk {
    request: Tray<http::Request<Incoming>>,
    response: Tray<http::Response<Paced>>,
    /// A piece of a body was taken.
    moved: Moved,
}

thread_local! {
    static DESK: Desk = const {
        Desk { request: Tray::new(), response: Tray::new(), moved: Moved(Cell::new(false)) }
    };
}

/// The service that hyper calls: it carries messages between hyper and the desk.
pub(super) struct Clerk;

impl Service<http::Request<Incoming>> for Clerk {
    type Response = http::Response<Paced>;
    type Error = Error;
    type Future = Awaited;

    fn call(&self, request: http::Request<Incoming>) -> Awaited {
        Awaited { request: Some(request) }
    }
}

/// A response that is not there yet. It needs no waker: the loop that puts the response on the desk
/// polls afterwards.
pub(super) struct Awaited {
    request: Option<http::Request<Incoming>>,
}

impl Future for Awaited {
    type Output = Result<http::Response<Paced>, Error>;

    fn poll(mut self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<Self::Output> {
        DESK.with(|desk| match self.request.take() {
            Some(request) => {
                desk.request.put(request);
                Poll::Pending
            }
            None => desk.response.take().map_or(Poll::Pending, |response| Poll::Ready(Ok(response))),
        })
    }
}

/// A body in pieces of a frame each. hyper puts a whole piece into the buffer of the stream as soon
/// as the client takes one byte.
pub(super) struct Paced {
    body: Outgoing,
    rest: Bytes,
}

/// The size of a frame that every client takes.
const PIECE: usize = 16 << 10;

impl http_body::Body for Paced {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        if this.rest.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.rest = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                end => return Poll::Ready(end),
            }
        }
        DESK.with(|desk| desk.moved.set(true));
        let piece = this.rest.split_to(this.rest.len().min(PIECE));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // hyper asks before the first piece.
        self.body.size_hint()
    }
}

/// Serves a stream until it ends.
pub(super) fn serve(client: &Client, driver: Driver) {
    let mut turn = Turn {
        client,
        driver: Some(driver),
        exchange: None,
        response: None,
        feeder: None,
        name: Name::default(),
        end: None,
        sleep: None,
    };
    // Panics of handlers have been caught by then. A panic of hyper costs its stream.
    let ended = catch_unwind(AssertUnwindSafe(|| block_on(poll_fn(|cx| turn.poll(cx)))));
    if let Err(payload) = ended {
        turn.deplore("panic", message(&*payload), "stream reset");
    }
    // The source of a body is the user's, and so is its destructor.
    let feeder = turn.feeder.take();
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(feeder))) {
        turn.deplore("panic", message(&*payload), "stream closed");
    }
}

/// What the goroutine of a stream knows.
struct Turn<'a> {
    client: &'a Client,
    /// `None` while it is on loan, and at the end.
    driver: Option<Driver>,
    exchange: Option<Arc<Exchange>>,
    /// The response that hyper has not asked for yet.
    response: Option<http::Response<Paced>>,
    /// The rest of the response that is being sent.
    feeder: Option<Feeder>,
    name: Name,
    /// When the response has to be sent.
    end: Option<Instant>,
    /// Ends the wait for a client that takes nothing.
    sleep: Option<Pin<Box<dyn Sleep>>>,
}

impl Turn<'_> {
    /// Serves the stream; dropping its driver before it has ended resets it.
    fn poll(&mut self, cx: &mut TaskContext<'_>) -> Poll<()> {
        loop {
            let Some(driver) = &mut self.driver else { return Poll::Ready(()) };
            let (polled, request, moved) = DESK.with(|desk| {
                desk.response.put_from(&mut self.response);
                desk.moved.set(false);
                let polled = driver.as_mut().poll(cx);
                desk.response.return_to(&mut self.response);
                (polled, desk.request.take(), desk.moved.get())
            });
            if polled.is_ready() || self.end.is_some_and(|end| end <= goby::now()) {
                // If there is a request, the client has reset its stream already.
                self.driver = None;
            } else if let Some(request) = request {
                self.handle(request);
                goby::checkpoint();
            } else if self.feeder.as_ref().is_some_and(Feeder::is_wanted) {
                self.feed();
                // Without this, a client that takes all that there is would never let other
                // goroutines run.
                goby::checkpoint();
            } else {
                ready!(self.poll_stall(cx, moved));
                self.driver = None;
            }
        }
    }

    /// Waits until the client has not taken a piece of the response for too long.
    fn poll_stall(&mut self, cx: &mut TaskContext<'_>, moved: bool) -> Poll<()> {
        if self.exchange.is_none() {
            // A tunnel, which may be idle.
            return Poll::Pending;
        }
        match &mut self.sleep {
            Some(sleep) if !moved => sleep.as_mut().poll(cx),
            sleep => {
                let Some(deadline) = earlier(after(self.client.limits.stall), self.end) else { return Poll::Pending };
                match sleep {
                    Some(sleep) => Timer.reset(sleep, deadline),
                    None => *sleep = Some(Timer.sleep_until(deadline)),
                }
                sleep.as_mut().expect("it was set").as_mut().poll(cx)
            }
        }
    }

    fn handle(&mut self, mut request: http::Request<Incoming>) {
        let exchange = Arc::new(Exchange::new(self.client.base.clone()));
        self.exchange = Some(exchange.clone());
        tidy(&mut request);
        self.name = Name(request.method().clone(), request.uri().clone());
        let limits = self.client.limits;
        self.end = after(limits.write);
        let is_long = request.body().size_hint().lower() > limits.max_body;
        let refused = if is_long { Some(StatusCode::PAYLOAD_TOO_LARGE) } else { refuse(&request) };
        let method = request.method().clone();
        let (head, incoming) = request.into_parts();
        let body = match incoming.is_end_stream() {
            true => Body::empty(),
            false => Body::from_source(Upload { incoming, limits, end: after(limits.read), left: limits.max_body }),
        };
        let request = Request::assemble(head, body, self.client.addr, Origin::Stream(exchange));
        let client = self.client;
        // Inside `call`, so that the destructors of all that the handler gave and is not sent run
        // there, too.
        let answered = self.call(|| {
            let response = match refused {
                Some(status) => Response::from(status),
                None => client.handler.handle(request),
            };
            Answer::new(&method, response)
        });
        let Ok(answered) = answered else { return };
        let Answer { head, framed, failure } = answered.unwrap_or_else(|panic| {
            self.deplore("panic", &panic, "answered with 500");
            Answer::new(&method, Response::from(StatusCode::INTERNAL_SERVER_ERROR))
        });
        if let Some(failure) = failure {
            self.deplore("error", &failure, &format!("answered with {}", head.status.as_u16()));
        }
        match framed {
            Err(wrong) => {
                self.complain(&wrong, "stream reset");
                self.driver = None;
            }
            Ok(Framed { body, mended }) => {
                if let Some(mended) = mended {
                    self.complain(&mended, "mended");
                }
                let (body, feeder) = body.into_outgoing();
                self.feeder = feeder;
                self.response = Some(http::Response::from_parts(head, Paced { body, rest: Bytes::new() }));
            }
        }
    }

    /// Gets the next piece of the response's body.
    fn feed(&mut self) {
        let mut feeder = self.feeder.take().expect("called only if there is one");
        // hyper asks when it has passed on all that came before: the client took that.
        self.sleep = None;
        if let Ok(Err(panic)) = self.call(|| feeder.supply()) {
            self.deplore("panic", &panic, "stream reset");
            // hyper resets the stream with INTERNAL_ERROR.
            feeder.fail(Error::bare(Phase::Produce));
        } else if let Some(wrong) = feeder.failure() {
            self.complain(&wrong, "stream reset");
        }
        self.feeder = Some(feeder);
    }

    /// Calls user code, which may park and panic. Meanwhile the stream's future is on loan. Returns
    /// the message of its panic as the inner error.
    fn call<T>(&mut self, f: impl FnOnce() -> T) -> Result<Result<T, String>, Ended> {
        let exchange = self.exchange.as_ref().expect("there is a request");
        exchange.lend(self.driver.take().expect("it is lent once"));
        let result = catch_unwind(AssertUnwindSafe(f));
        self.driver = exchange.take_back();
        let judged = judge(result, self.driver.is_none(), |panic| self.deplore("panic", panic, "stream reset"));
        if judged.is_err() {
            self.driver = None;
        }
        judged
    }

    /// Reports what went wrong in a handler, and what the server does.
    #[cold]
    fn deplore(&self, what: &str, wrong: &str, done: &str) {
        deplore(what, self.client.addr, &self.name, wrong, done);
    }

    /// Reports what is wrong with a handler's response, and what the server does with it.
    #[cold]
    fn complain(&self, wrong: &str, done: &str) {
        complain(self.client.addr, &self.name, wrong, done);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(exchange) = &self.exchange {
            exchange.end();
        }
    }
}

/// Makes of a request what a handler gets with HTTP/1.1: a path as the target, a `host`, and one
/// `cookie`. Source: RFC 9113, sections 8.2.3 and 8.3.1; Go's `newWriterAndRequest`.
fn tidy(request: &mut http::Request<Incoming>) {
    if let Some(authority) = request.uri().authority() {
        // An authority consists of characters that a value may have.
        let host = HeaderValue::from_str(authority.as_str()).ok();
        if *request.method() != Method::CONNECT {
            let target = request.uri().path_and_query().cloned().map(Uri::from);
            *request.uri_mut() = target.unwrap_or_else(|| Uri::from_static("/"));
        }
        request.headers_mut().remove(HOST);
        request.headers_mut().extend(host.map(|host| (HOST, host)));
    }
    let mut cookies = request.headers().get_all(COOKIE).iter();
    if let (Some(_), Some(_)) = (cookies.next(), cookies.next()) {
        let crumbs: Vec<&[u8]> = request.headers().get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
        if let Ok(cookie) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
            request.headers_mut().insert(COOKIE, cookie);
        }
    }
}

/// The body of a request, as it comes.
struct Upload {
    incoming: Incoming,
    limits: Limits,
    /// When all of it has to be here.
    end: Option<Instant>,
    /// How many bytes there may still be.
    left: u64,
}

impl Source for Upload {
    fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if self.end.is_some_and(|end| end <= goby::now()) {
                return Err(late());
            }
            let mut sleep = None;
            let frame = block_on(poll_fn(|cx| {
                if let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) {
                    return Poll::Ready(Ok(frame));
                }
                if sleep.is_none() {
                    let Some(due) = earlier(after(self.limits.stall), self.end) else { return Poll::Pending };
                    sleep = Some(Timer.sleep_until(due));
                }
                sleep.as_mut().expect("it was set").as_mut().poll(cx).map(|()| Err(late()))
            }))?;
            // Without this, a client that is faster than the handler would never let other
            // goroutines run.
            goby::checkpoint();
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|error| Error::of_io(Phase::RequestBody, error))?;
            if let Some(data) = count(frame, &mut self.left, self.limits.max_body)? {
                return Ok(Some(data));
            }
        }
    }

    fn remaining(&self) -> Option<u64> {
        self.incoming.size_hint().exact()
    }
}

/// What the goroutine of a stream shares with its request: the future of the stream, while user
/// code runs, and the request's context, if it is asked for.
pub(in crate::server) struct Exchange {
    /// What the context descends from.
    base: Context,
    /// A short lock: it is held for one poll, which does not park.
    state: Mutex<Lending>,
}

#[derive(Default)]
struct Lending {
    lent: Option<Driver>,
    guard: Option<CancelGuard>,
    /// Wakes the task that polls what is lent.
    watcher: Option<Waker>,
    is_over: bool,
}

impl Exchange {
    fn new(base: Context) -> Exchange {
        Exchange { base, state: Mutex::default() }
    }

    /// Makes the request's context, and starts the task that looks after it. It is called once.
    pub(in crate::server) fn context(self: &Arc<Exchange>) -> Context {
        let (ctx, guard) = self.base.with_cancel();
        let refused = {
            let mut state = self.state.lock();
            if state.is_over { Some(guard) } else { state.guard.replace(guard) }
        };
        // The request is over: so is its context.
        if refused.is_none() {
            let this = self.clone();
            spawn(poll_fn(move |cx| this.watch(cx))).detach();
        }
        drop(refused);
        ctx
    }

    /// Polls what is lent, until the stream has ended.
    fn watch(&self, cx: &mut TaskContext<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if state.is_over {
            return Poll::Ready(());
        }
        let old = match &state.watcher {
            Some(watcher) if watcher.will_wake(cx.waker()) => None,
            _ => state.watcher.replace(cx.waker().clone()),
        };
        let gone = state.drive(cx);
        drop(state);
        drop((old, gone));
        Poll::Pending
    }

    fn lend(&self, driver: Driver) {
        let mut state = self.state.lock();
        state.lent = Some(driver);
        if let Some(watcher) = state.watcher.clone() {
            let gone = state.drive(&mut TaskContext::from_waker(&watcher));
            drop(state);
            drop(gone);
        }
    }

    /// Gives the future back, unless it has ended.
    fn take_back(&self) -> Option<Driver> {
        self.state.lock().lent.take()
    }

    /// Notes that the response has been sent, or never will be.
    fn end(&self) {
        let (guard, watcher) = {
            let mut state = self.state.lock();
            state.is_over = true;
            (state.guard.take(), state.watcher.take())
        };
        drop(guard);
        if let Some(watcher) = watcher {
            watcher.wake();
        }
    }
}

impl Lending {
    /// Polls what is lent. When it has ended, returns it, and the guard of the context, for the
    /// caller to drop without the lock.
    fn drive(&mut self, cx: &mut TaskContext<'_>) -> Option<(Driver, Option<CancelGuard>)> {
        ready_now(self.lent.as_mut()?.as_mut().poll(cx))?;
        Some((self.lent.take()?, self.guard.take()))
    }
}

fn ready_now(polled: Poll<()>) -> Option<()> {
    if polled.is_ready() { Some(()) } else { None }
}
