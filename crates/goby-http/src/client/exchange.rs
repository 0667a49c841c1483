//! One request and its response on one connection.
//!
//! hyper's connection is a future that reads and writes when it is polled. Here the goroutine that
//! makes the request polls it, together with the response that it waits for, and later with the
//! body that it reads. No other goroutine runs on its behalf. Between requests nobody polls the
//! connection. If the server closed it meanwhile, that shows when it is next used.
//!
//! The halves of hyper talk through wakers. But one goroutine polls all of them, one after the
//! other, until none can go on. So only the connection, which waits for the socket, is given the
//! goroutine's waker.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use goby::context::CancelGuard;
use goby::{Context, block_on};
use http::{Method, Version};
use http_body::Body as _;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Connection, Parts, SendRequest};
use url::Url;

use super::pool::{Permit, Place, Pool};
use super::stall::Stall;
use super::upload::Upload;
use crate::body::{Outgoing, Source};
use crate::error::{Error, Phase};
use crate::stream::{Link, Stream};
use crate::upgrade::Upgraded;

/// How long the head of a response may be, including the interim responses before it: hyper has
/// room for no more anyway (curl takes 300 KB, Go 10 MB).
const MAX_HEAD: u64 = 400 << 10;

/// A connection to a server.
pub(crate) struct Conn {
    pub(super) link: Arc<Link>,
    sender: SendRequest<Outgoing>,
    /// `None` when it has come to its end: dropping it tells the other halves.
    driver: Option<Connection<Stream, Outgoing>>,
    /// The same, after the response with which it came to its end.
    ended: Option<Connection<Stream, Outgoing>>,
    /// It has carried a request before.
    pub(super) reused: bool,
    /// It cannot carry another: its server speaks HTTP/1.0, and a body of unknown length could not
    /// be sent to it.
    spent: bool,
    pub(super) place: Arc<Place>,
    /// Its share of the connections allowed to this place.
    permit: Option<Permit>,
}

impl Conn {
    /// Starts HTTP on a new connection.
    pub(super) fn new(
        link: Arc<Link>,
        stream: Stream,
        place: Arc<Place>,
        permit: Option<Permit>,
    ) -> hyper::Result<Box<Conn>> {
        // The handshake only makes the two ends: there is nothing to wait for.
        let mut protocol = hyper::client::conn::http1::Builder::new();
        // A header over several lines counts as one (RFC 9112, section 5.2).
        protocol.allow_obsolete_multiline_headers_in_responses(true);
        let (sender, driver) = block_on(protocol.handshake(stream))?;
        Ok(Box::new(Conn {
            link,
            sender,
            driver: Some(driver),
            ended: None,
            reused: false,
            spent: false,
            place,
            permit,
        }))
    }

    /// Whether it can carry another request now.
    pub(super) fn is_idle(&mut self) -> bool {
        if !self.sender.is_ready() {
            self.drive(&mut TaskContext::from_waker(Waker::noop()));
        }
        self.driver.is_some() && self.sender.is_ready() && !self.spent && !self.link.is_write_broken()
    }

    /// Whether an idle connection is still open, with nothing to read. This asks the system, since
    /// the news may not have come through the poller yet.
    pub(super) fn is_quiet(&self) -> bool {
        let mut cx = TaskContext::from_waker(Waker::noop());
        self.link.socket.poll_peek(&mut cx, &mut [0]).is_pending()
    }

    fn drive(&mut self, cx: &mut TaskContext<'_>) {
        let ended = self.advance(cx);
        drop(ended);
    }

    /// Drives the connection, and takes it out if it has come to its end. The other halves learn
    /// that when it is dropped.
    fn advance(&mut self, cx: &mut TaskContext<'_>) -> Option<Connection<Stream, Outgoing>> {
        // The response or the body gives its error as well.
        let ended = self.driver.as_mut().is_some_and(|driver| Pin::new(driver).poll(cx).is_ready());
        if ended { self.driver.take() } else { None }
    }
}

/// A request under way.
pub(super) struct Exchange {
    pub(super) conn: Box<Conn>,
    pub(super) upload: Option<Box<Upload>>,
    pub(super) ctx: Context,
    /// Ends the context made for the client's time-out.
    pub(super) timeout: Option<CancelGuard>,
    /// How long to wait for the response, once the request is sent.
    pub(super) header_timeout: Option<Duration>,
    pub(super) stall: Stall,
}

/// A request that failed, and what may be tried next.
pub(super) struct Failed {
    pub(super) error: Error,
    pub(super) retry: Retry,
    /// What would have gone on sending the body.
    pub(super) upload: Option<Box<Upload>>,
    pub(super) timeout: Option<CancelGuard>,
}

pub(super) enum Retry {
    /// Nothing of it was sent: the request comes back.
    Unsent(Box<http::Request<Outgoing>>),
    /// It was sent on a connection that the server may have closed before.
    Stale,
    No,
}

type Head = Result<http::Response<hyper::body::Incoming>, Unanswered>;
/// The error of a request, perhaps with the request itself. It is large.
type Unanswered = Box<TrySendError<http::Request<Outgoing>>>;

enum Step<T> {
    Done(T),
    Supply,
}

impl Exchange {
    /// Sends `request` and waits for the head of its response.
    pub(super) fn send(
        mut self,
        request: http::Request<Outgoing>,
    ) -> Result<(Exchange, http::Response<hyper::body::Incoming>), Failed> {
        let link = self.conn.link.clone();
        link.socket.set_context(Some(&self.ctx));
        link.limit_head(Some(MAX_HEAD));
        let before = link.received();
        let mut sent = false;
        let result = self.await_head(&link, request, &mut sent);
        link.limit_head(None);
        let mut response = match result {
            Ok(response) => response,
            Err(error) => return Err(self.failed(error, before, sent)),
        };
        link.add_surplus(response.headers_mut());
        self.conn.spent = response.version() == Version::HTTP_10;
        if let Some(upload) = self.upload.as_mut().filter(|upload| upload.is_held_back()) {
            if response.status().as_u16() >= 400 {
                // The server does not want the body that its connection still expects.
                self.upload = None;
                self.conn.spent = true;
            } else {
                upload.go_ahead();
            }
        }
        if self.header_timeout.is_some() {
            link.socket.set_read_deadline(None);
        }
        Ok((self, response))
    }

    /// Drives the connection until the head has come, and notes when all of the request is sent.
    fn await_head(&mut self, link: &Link, request: http::Request<Outgoing>, sent: &mut bool) -> Head {
        let mut response = pin!(self.conn.sender.try_send_request(request));
        loop {
            let Exchange { conn, upload, stall, header_timeout, .. } = &mut *self;
            let step = block_on(poll_fn(|cx| {
                let mut next = || response.as_mut().poll(&mut TaskContext::from_waker(Waker::noop()));
                let ended = conn.advance(cx);
                let mut polled = next();
                if polled.is_pending() && ended.is_some() {
                    drop(ended);
                    polled = next();
                } else {
                    conn.ended = ended;
                }
                match polled {
                    Poll::Ready(result) => return Poll::Ready(Step::Done(result)),
                    Poll::Pending if upload.as_mut().is_some_and(|upload| upload.poll_wanted(cx)) => {
                        return Poll::Ready(Step::Supply);
                    }
                    Poll::Pending => {}
                }
                if link.take_write_blocked() {
                    stall.watch(link);
                } else if upload.is_none() && !*sent {
                    *sent = true;
                    stall.lift(link);
                    if let Some(timeout) = *header_timeout {
                        link.socket.set_read_deadline(goby::now().checked_add(timeout));
                    }
                }
                Poll::Pending
            }));
            stall.lift(link);
            match step {
                Step::Done(result) => return result.map_err(Box::new),
                Step::Supply => self.supply(),
            }
            if link.is_write_broken() {
                // The rest of the body would go nowhere.
                self.upload = None;
            }
            // Without this, a server that takes all that there is would never let other goroutines
            // run.
            goby::checkpoint();
        }
    }

    /// Says why there is no response. `before` is what had come before the request, and `sent`
    /// whether all of it was sent.
    fn failed(self, mut error: Unanswered, before: u64, sent: bool) -> Failed {
        let received = self.conn.link.received();
        // The server may have closed a kept connection before it saw the request.
        let stale = self.conn.reused && received == before;
        let retry = match error.take_message() {
            _ if self.ctx.err().is_some() => Retry::No,
            Some(request) => Retry::Unsent(Box::new(request)),
            None if stale => Retry::Stale,
            None => Retry::No,
        };
        // A server that speaks before it is asked does not speak HTTP. (Under TLS it may be the
        // session that speaks.)
        let spoke_first = received > before && !self.conn.reused && !self.conn.place.https;
        let error = match error.into_error() {
            error if spoke_first && error.is_canceled() => Error::protocol(Phase::Headers, &self.ctx, error),
            error => Error::during(Phase::Headers, &self.ctx, error),
        };
        let error = if sent { error } else { error.while_sending() };
        Failed { error, retry, upload: self.upload, timeout: self.timeout }
    }

    /// Gets the next piece of the request's body.
    fn supply(&mut self) {
        if !self.upload.as_mut().is_some_and(|upload| upload.supply()) {
            self.upload = None;
        }
    }

    /// Takes the connection out of HTTP, after a response that says so. `ctx` goes on to hold.
    pub(super) fn leave(self, ctx: &Context) -> Option<Upgraded> {
        let mut conn = *self.conn;
        let noop = &mut TaskContext::from_waker(Waker::noop());
        let Parts { io: stream, read_buf, .. } = conn.ended.take().or_else(|| conn.advance(noop))?.into_parts();
        let addr = conn.link.socket.peer_addr();
        let permit = conn.permit.map(|permit| Box::new(permit) as Box<_>);
        Some(Upgraded::new(stream, &read_buf, ctx.clone(), addr).sharing(permit))
    }

    /// Ends the request, and keeps the connection for the next one if it can carry it.
    pub(super) fn finish(self, pool: &Pool) {
        let Exchange { conn, upload, timeout, .. } = self;
        drop(timeout);
        if upload.is_some() {
            // The server answered before it had all of the request. The rest of it would have to be
            // sent before the next request.
            return;
        }
        conn.link.socket.set_context(None);
        pool.put_back(conn);
    }
}

/// The body of a response, as it comes.
pub(super) struct Incoming {
    body: hyper::body::Incoming,
    /// `None` after the end, successful or not.
    exchange: Option<Exchange>,
    pool: Arc<Pool>,
    /// How long the body may be.
    limit: u64,
    received: u64,
    /// The request, for errors.
    request: Option<(Method, Arc<str>)>,
}

impl Incoming {
    /// The body of the response to `exchange`, or `None` if it has none.
    pub(super) fn new(
        exchange: Exchange,
        body: hyper::body::Incoming,
        pool: &Arc<Pool>,
        limit: u64,
    ) -> Option<Incoming> {
        if body.is_end_stream() {
            exchange.finish(pool);
            return None;
        }
        Some(Incoming { body, exchange: Some(exchange), pool: pool.clone(), limit, received: 0, request: None })
    }

    /// Sets the request that its errors name.
    pub(super) fn named(self, method: Method, url: Arc<str>) -> Incoming {
        Incoming { request: Some((method, url)), ..self }
    }

    fn finish(&mut self) {
        if let Some(exchange) = self.exchange.take() {
            exchange.finish(&self.pool);
        }
    }

    /// Ends the request badly: the connection is closed.
    fn fail<T>(&mut self, error: impl FnOnce(&Context) -> Error) -> Result<T, Error> {
        let exchange = self.exchange.take().expect("a failing body has its exchange");
        let error = error(&exchange.ctx);
        let request = self.request.as_ref().and_then(|(method, url)| Some((method, Url::parse(url).ok()?)));
        Err(match request {
            Some((method, url)) => error.of_request(method, &url),
            None => error,
        })
    }
}

impl Source for Incoming {
    fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        while let Some(exchange) = &mut self.exchange {
            if exchange.ctx.err().is_some() {
                return self
                    .fail(|ctx| Error::of_context(&Phase::Body, ctx).unwrap_or_else(|| Error::bare(Phase::Body)));
            }
            let body = &mut self.body;
            let step = block_on(poll_fn(|cx| {
                let mut next = || Pin::new(&mut *body).poll_frame(&mut TaskContext::from_waker(Waker::noop()));
                let mut polled = next();
                if polled.is_pending() {
                    exchange.conn.drive(cx);
                    polled = next();
                }
                match polled {
                    Poll::Ready(frame) => Poll::Ready(Step::Done(frame)),
                    Poll::Pending if exchange.upload.as_mut().is_some_and(|upload| upload.poll_wanted(cx)) => {
                        Poll::Ready(Step::Supply)
                    }
                    Poll::Pending => {
                        exchange.stall.watch(&exchange.conn.link);
                        Poll::Pending
                    }
                }
            }));
            exchange.stall.lift(&exchange.conn.link);
            // Without this, a server that is faster than its reader, or takes all that there is,
            // would never let other goroutines run.
            goby::checkpoint();
            match step {
                Step::Supply => exchange.supply(),
                Step::Done(None) => self.finish(),
                Step::Done(Some(Err(error))) => {
                    return self.fail(|ctx| Error::during(Phase::Body, ctx, error));
                }
                Step::Done(Some(Ok(frame))) => {
                    // Trailers are not kept.
                    let Ok(data) = frame.into_data() else { continue };
                    self.received += data.len() as u64;
                    if self.received > self.limit {
                        let limit = self.limit;
                        return self.fail(|_| Error::bare(Phase::TooLarge(limit)));
                    }
                    if self.body.is_end_stream() {
                        self.finish();
                    }
                    if !data.is_empty() {
                        return Ok(Some(data));
                    }
                }
            }
        }
        Ok(None)
    }

    fn remaining(&self) -> Option<u64> {
        self.body.size_hint().exact()
    }
}

impl fmt::Debug for Conn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conn").field("place", &self.place).field("socket", &self.link.socket).finish_non_exhaustive()
    }
}
