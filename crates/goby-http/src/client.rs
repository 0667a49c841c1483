//! The client: it makes requests, with their redirects and second attempts, over connections that
//! it keeps.

mod builder;
mod connect;
// Both files have the same functions.
#[cfg_attr(not(any(feature = "brotli", feature = "gzip", feature = "zstd")), path = "client/no_decode.rs")]
mod decode;
mod exchange;
// The one place that depends on the feature: both files have the same methods.
#[cfg_attr(not(feature = "cookie_jar"), path = "client/no_jar.rs")]
mod jar;
mod outline;
mod pool;
mod proxy;
pub mod redirect;
mod request;
mod stall;
mod tunnel;
mod upload;
#[cfg(feature = "json")]
mod values;

use std::fmt;
use std::io::Read;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use goby::Context;
use goby::context::CancelGuard;
use http::{HeaderMap, Method, StatusCode};
use once_cell::sync::OnceCell;

pub use builder::ClientBuilder;
use connect::Connector;
use exchange::{Conn, Exchange, Failed, Incoming, Retry};
#[cfg(feature = "cookie_jar")]
pub use jar::CookieJar;
#[cfg(not(feature = "cookie_jar"))]
use jar::CookieJar;
use outline::Outline;
use pool::{Acquired, Permit, Place, Pool};
use proxy::Proxies;
pub use proxy::Proxy;
use redirect::{Policy, Redirect};
pub use request::RequestBuilder;
use stall::Stall;
use upload::{Upload, expects_go_ahead};

use crate::body::{Body, Outgoing};
use crate::error::{ClientTimeout, Error, Phase};
use crate::framing::unframe;
use crate::response::{Origin, Response};
use crate::upgrade::Left;

/// A redirect's own body is read to its end if it has at most this many bytes, so that the
/// connection can be kept (as Go does).
const SMALL_BODY: u64 = 2 << 10;

/// Fetches `url` with a client that all callers share.
///
/// Any status is a response: `404` is not an error.
///
/// ```
/// use goby::Context;
/// use goby_http::{Request, Server, get};
///
/// let server = Server::bind("127.0.0.1:0")?;
/// let url = format!("http://{}/greeting", server.local_addr());
/// let (serving, _stop) = Context::background().with_cancel();
/// goby::go(move || server.serve_ctx(&serving, |request: Request| format!("hello from {}", request.path())));
///
/// let body = get(&Context::background(), url)?.text()?;
/// assert_eq!(body, "hello from /greeting");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Blocking
///
/// Parks the goroutine until the response's headers have come. The body is read from the response.
///
/// # Errors
///
/// When no response came, see [`Error`].
///
/// # Cancellation
///
/// When `ctx` is done the call returns at once, whatever it was waiting for, and the connection is
/// closed. The context holds for the response's body, too.
pub fn get(ctx: &Context, url: impl AsRef<str>) -> Result<Response, Error> {
    static SHARED: OnceCell<Client> = OnceCell::new();
    SHARED.get_or_init(Client::new).get(ctx, url)
}

/// Makes requests over connections that it keeps.
///
/// It is a handle: clones share connections and limits, and any number of goroutines may use it at
/// once. The connections are closed with the last clone. A client has no goroutine of its own: the
/// goroutine that makes a request drives its connection.
///
/// It follows redirects, speaks HTTP/1.1 with and without TLS, and verifies certificates. It goes
/// through the [proxies](ClientBuilder::proxy) that the environment names. With the features
/// `brotli`, `gzip` and `zstd`, it [asks](ClientBuilder::decompress) for compressed bodies and
/// decodes them. With the feature `cookie_jar`, it keeps cookies if it is told to.
///
/// ```
/// use goby::Context;
/// use goby_http::{Client, Request, Server};
/// use std::time::Duration;
///
/// let server = Server::bind("127.0.0.1:0")?;
/// let url = format!("http://{}/", server.local_addr());
/// let (serving, _stop) = Context::background().with_cancel();
/// goby::go(move || server.serve_ctx(&serving, |request: Request| format!("{:?}", request.headers()["user-agent"])));
///
/// let client = Client::builder().user_agent("tester/1").timeout(Duration::from_secs(10)).build()?;
/// assert_eq!(client.get(&Context::background(), url)?.text()?, "\"tester/1\"");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    connector: Connector,
    proxies: Proxies,
    pool: Arc<Pool>,
    /// The headers that each request has.
    headers: HeaderMap,
    timeout: Option<Duration>,
    header_timeout: Option<Duration>,
    stall_timeout: Option<Duration>,
    expect_timeout: Duration,
    redirect: Policy,
    jar: Option<CookieJar>,
    decompress: bool,
    max_body: u64,
}

/// The body that is to be sent.
enum Content {
    /// May be sent any number of times.
    Whole(bytes::Bytes),
    /// May be sent once.
    Streamed(Body),
    /// A streamed one that has been sent.
    Spent,
}

impl Client {
    /// Makes a client with the default settings of [`ClientBuilder`].
    ///
    /// ```
    /// let client = goby_http::Client::new();
    /// assert!(client.get(&goby::Context::background(), "nonsense").is_err());
    /// ```
    pub fn new() -> Client {
        Client::builder().build().expect("the default settings are valid")
    }

    /// Starts making a client with other settings.
    ///
    /// ```
    /// let client = goby_http::Client::builder().redirects(0).build()?;
    /// # Ok::<(), goby_http::Error>(())
    /// ```
    pub fn builder() -> ClientBuilder {
        ClientBuilder::new()
    }

    /// Fetches `url`.
    ///
    /// ```
    /// # use goby::Context;
    /// # use goby_http::{Client, Request, Server};
    /// # let server = Server::bind("127.0.0.1:0")?;
    /// # let url = format!("http://{}/", server.local_addr());
    /// # let (serving, _stop) = Context::background().with_cancel();
    /// # goby::go(move || server.serve_ctx(&serving, |_: Request| "hello"));
    /// let response = Client::new().get(&Context::background(), &url)?;
    /// assert_eq!(response.status(), 200);
    /// assert_eq!(response.url(), url);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine until the response's headers have come.
    ///
    /// # Errors
    ///
    /// When no response came, see [`Error`].
    ///
    /// # Cancellation
    ///
    /// As for [`request`](Client::request).
    pub fn get(&self, ctx: &Context, url: impl AsRef<str>) -> Result<Response, Error> {
        self.execute(ctx, Outline::new(Method::GET, url.as_ref())?, Body::empty(), None)
    }

    /// Sends `body` to `url` with the method `POST`.
    ///
    /// ```
    /// # use goby::Context;
    /// # use goby_http::{Client, Request, Response, Server};
    /// # let server = Server::bind("127.0.0.1:0")?;
    /// # let url = format!("http://{}/", server.local_addr());
    /// # let (serving, _stop) = Context::background().with_cancel();
    /// # goby::go(move || server.serve_ctx(&serving, |request: Request| Response::new(request.into_body())));
    /// let echo = Client::new().post(&Context::background(), url, "some text")?;
    /// assert_eq!(echo.text()?, "some text");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine until the response's headers have come.
    ///
    /// # Errors
    ///
    /// When no response came, see [`Error`].
    ///
    /// # Cancellation
    ///
    /// As for [`request`](Client::request).
    pub fn post(&self, ctx: &Context, url: impl AsRef<str>, body: impl Into<Body>) -> Result<Response, Error> {
        self.execute(ctx, Outline::new(Method::POST, url.as_ref())?, body.into(), None)
    }

    /// Makes any request. Its URI must be absolute.
    ///
    /// Redirects are followed: after 301, 302 and 303 with a `GET` (a `HEAD` stays one), after 307
    /// and 308 with the same method and body. A streamed body cannot be sent again; then the
    /// redirect itself is the response. `Authorization` and `Cookie` do not go to another origin.
    ///
    /// The body decides how long it is. A `content-length` among the headers is taken for the
    /// length of a streamed body of unknown length; otherwise it is ignored, as is a
    /// `transfer-encoding`.
    ///
    /// If the server has closed the kept connection, the request is made again on a new one in two
    /// cases: nothing of it was sent; or no byte of a response came, its body is not streamed, and
    /// its method is `GET`, `HEAD`, `OPTIONS` or `TRACE`, or it has a header `idempotency-key`.
    ///
    /// With the header `expect: 100-continue`, the body is sent when the server asks for it, or
    /// when it has said nothing for [a while](ClientBuilder::expect_continue_timeout). If it
    /// refuses the request first (with 400 or above), the body is not sent.
    ///
    /// ```
    /// # use goby::Context;
    /// # use goby_http::{Body, Client, Request, Server};
    /// # let server = Server::bind("127.0.0.1:0")?;
    /// # let url = format!("http://{}/", server.local_addr());
    /// # let (serving, _stop) = Context::background().with_cancel();
    /// # goby::go(move || server.serve_ctx(&serving, |request: Request| format!("{} {:?}", request.method(), request.headers()["x-color"])));
    /// let request = http::Request::delete(url).header("x-color", "blue").body(Body::empty())?;
    /// let response = Client::new().request(&Context::background(), request)?;
    /// assert_eq!(response.text()?, "DELETE \"blue\"");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine until the response's headers have come. A streamed body is read by the
    /// same goroutine.
    ///
    /// # Errors
    ///
    /// When no response came, see [`Error`].
    ///
    /// # Cancellation
    ///
    /// When `ctx` is done the call returns at once, whether it was waiting for a name, a
    /// connection, TLS or the response, and the connection is closed. The context holds for the
    /// response's body, too.
    pub fn request(&self, ctx: &Context, request: http::Request<Body>) -> Result<Response, Error> {
        let (head, body) = request.into_parts();
        let outline = Outline { headers: head.headers, ..Outline::new(head.method, &head.uri.to_string())? };
        self.execute(ctx, outline, body, None)
    }

    /// Closes the connections that wait for a request.
    ///
    /// ```
    /// # use goby::Context;
    /// # use goby_http::{Client, Request, Server};
    /// # let server = Server::bind("127.0.0.1:0")?;
    /// # let url = format!("http://{}/", server.local_addr());
    /// # let (serving, _stop) = Context::background().with_cancel();
    /// # goby::go(move || server.serve_ctx(&serving, |request: Request| request.remote_addr().to_string()));
    /// let (client, ctx) = (Client::new(), Context::background());
    /// let port = client.get(&ctx, &url)?.text()?;
    /// client.close_idle();
    /// assert_ne!(client.get(&ctx, &url)?.text()?, port, "another connection");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn close_idle(&self) {
        self.inner.pool.close_idle();
    }

    /// Makes a request, in `timeout` in place of the client's time.
    fn execute(
        &self,
        ctx: &Context,
        mut outline: Outline,
        mut body: Body,
        timeout: Option<Duration>,
    ) -> Result<Response, Error> {
        outline.add_defaults(&self.inner.headers);
        outline.decode = self.inner.decompress && decode::ask(&outline.method, &mut outline.headers);
        let claimed = unframe(&mut outline.headers).map_err(|error| Error::new(Phase::Produce, error))?;
        if let Some(len) = claimed.filter(|_| body.len().is_none()) {
            body = body.cut(len);
        }
        let limit = timeout.or(self.inner.timeout);
        let caller = ctx;
        let limited = limit.map(|timeout| ctx.with_timeout_cause(timeout, Arc::new(ClientTimeout)));
        let (ctx, timeout) = match limited {
            Some((ctx, guard)) => (ctx, Some(guard)),
            None => (ctx.clone(), None),
        };
        let content = match body.whole() {
            Some(bytes) => Content::Whole(bytes.clone()),
            None => Content::Streamed(body),
        };
        self.follow(&ctx, caller, &mut outline, content, timeout)
            .map_err(|error| error.of_request(&outline.method, &outline.url))
    }

    /// Makes the request, and those that its redirects ask for. At its end the outline is that of
    /// the last of them. A connection that leaves HTTP goes on with the caller's context.
    fn follow(
        &self,
        ctx: &Context,
        caller: &Context,
        outline: &mut Outline,
        mut content: Content,
        mut timeout: Option<CancelGuard>,
    ) -> Result<Response, Error> {
        let mut previous = Vec::new();
        loop {
            let jar = self.inner.jar.as_ref();
            let callers = jar.and_then(|jar| jar.add_to(&mut outline.headers, &outline.url));
            let (exchange, response) = self.attempt(ctx, outline, &mut content, &mut timeout)?;
            let (mut head, body) = response.into_parts();
            if let Some(jar) = jar {
                jar.keep(&head.headers, &outline.url);
                outline.set_cookies(callers);
            }
            if head.status == StatusCode::SWITCHING_PROTOCOLS {
                if let Some(stream) = exchange.leave(caller) {
                    head.extensions.insert(Left::new(stream));
                }
                let origin = Origin { method: outline.method.clone(), url: outline.url.as_str().into() };
                return Ok(Response::received(head, origin, Body::empty()));
            }
            let redirect = match self.inner.redirect.is_none() {
                true => None,
                false => Redirect::of(head.status, &head.headers, &outline.url)?,
            };
            let redirect = match redirect {
                Some(redirect) if redirect.keep_body && matches!(content, Content::Spent) => None,
                Some(redirect) => {
                    previous.push(outline.url.to_string());
                    let followed = self.inner.redirect.decide(head.status, redirect.url.as_str(), &previous)?;
                    Some(redirect).filter(|_| followed)
                }
                None => None,
            };
            let Some(redirect) = redirect else {
                let url: Arc<str> = outline.url.as_str().into();
                let body = match Incoming::new(exchange, body, &self.inner.pool, self.inner.max_body) {
                    Some(incoming) => Body::from_source(incoming.named(outline.method.clone(), url.clone())),
                    None => Body::empty(),
                };
                let origin = Origin { method: outline.method.clone(), url };
                let body = match outline.decode {
                    true => decode::decoded(&mut head.headers, body, self.inner.max_body, &origin),
                    false => body,
                };
                return Ok(Response::received(head, origin, body));
            };
            timeout = self.discard(exchange, body)?;
            redirect.rewrite(&outline.url, &mut outline.method, &mut outline.headers);
            if !redirect.keep_body {
                content = Content::Whole(bytes::Bytes::new());
            }
            outline.url = redirect.url;
        }
    }

    /// Discards the body of a redirect, and returns the client's time-out, which goes on.
    fn discard(&self, mut exchange: Exchange, body: hyper::body::Incoming) -> Result<Option<CancelGuard>, Error> {
        let timeout = exchange.timeout.take();
        let ctx = exchange.ctx.clone();
        if let Some(incoming) = Incoming::new(exchange, body, &self.inner.pool, u64::MAX) {
            let mut body = Body::from_source(incoming);
            if body.len().is_none_or(|len| len <= SMALL_BODY) {
                // A body that breaks off, or is too long, costs the connection and nothing else.
                let _ = std::io::copy(&mut body.by_ref().take(SMALL_BODY), &mut std::io::sink());
            }
        }
        match Error::of_context(&Phase::Headers, &ctx) {
            Some(error) => Err(error),
            None => Ok(timeout),
        }
    }

    /// Makes one request, on a second connection if the first one turns out to be closed.
    fn attempt(
        &self,
        ctx: &Context,
        outline: &Outline,
        content: &mut Content,
        timeout: &mut Option<CancelGuard>,
    ) -> Result<(Exchange, http::Response<hyper::body::Incoming>), Error> {
        let inner = &*self.inner;
        let place = inner.proxies.place(&outline.url)?;
        let mut reuse = true;
        // A request that hyper gave back unsent, with what sends its body.
        let mut unsent: Option<(Box<http::Request<Outgoing>>, _)> = None;
        loop {
            let conn = match inner.pool.acquire(place.clone(), reuse, ctx)? {
                Acquired::Conn(conn) => conn,
                Acquired::Place(place, permit) => inner.connect(place, permit, ctx)?,
            };
            let reused = conn.reused;
            let (request, upload) = match unsent.take() {
                Some((request, upload)) => (*request, upload),
                None => inner.start(outline, content, &place)?,
            };
            let header_timeout = inner.header_timeout;
            let stall = Stall::new(inner.stall_timeout);
            let (ctx, guard) = (ctx.clone(), timeout.take());
            let exchange = Exchange { conn, upload, ctx, timeout: guard, header_timeout, stall };
            let failed = match exchange.send(request) {
                Ok(done) => return Ok(done),
                Err(failed) => failed,
            };
            let Failed { error, retry, upload, timeout: guard } = failed;
            *timeout = guard;
            match retry {
                // Try one kept connection after the other, until one is new.
                Retry::Unsent(request) if reused => unsent = Some((request, upload)),
                Retry::Stale if outline.is_repeatable() && matches!(content, Content::Whole(_)) => reuse = false,
                _ => return Err(error),
            }
        }
    }
}

impl Inner {
    /// Makes the request for a connection to `place`, and what sends its body.
    fn start(
        &self,
        outline: &Outline,
        content: &mut Content,
        place: &Place,
    ) -> Result<(http::Request<Outgoing>, Option<Box<Upload>>), Error> {
        let holds_back = expects_go_ahead(&outline.headers);
        let (body, mut upload) = content.send(holds_back);
        let mut request = outline.request(body, place)?;
        if let Some(upload) = upload.as_mut().filter(|_| holds_back) {
            upload.await_go_ahead(&mut request, self.expect_timeout);
        }
        Ok((request, upload))
    }

    /// Makes a connection. When there is no descriptor for it, idle connections are closed, the
    /// oldest first.
    fn connect(&self, place: Arc<Place>, mut permit: Option<Permit>, ctx: &Context) -> Result<Box<Conn>, Error> {
        loop {
            match self.connector.connect(place.clone(), &mut permit, ctx) {
                Err(error) if error.is_out_of_descriptors() && self.pool.close_oldest() => {}
                result => return result,
            }
        }
    }
}

impl Content {
    /// Gives what is to be sent. With `piecewise`, bytes at hand are not given to hyper yet.
    fn send(&mut self, piecewise: bool) -> (Outgoing, Option<Box<Upload>>) {
        let (body, feeder) = match self {
            Content::Whole(bytes) if piecewise && !bytes.is_empty() => Body::from(bytes.clone()).into_fed(),
            Content::Whole(bytes) => return (Outgoing::Whole(bytes.clone()), None),
            Content::Streamed(_) => match mem::replace(self, Content::Spent) {
                Content::Streamed(body) => body.into_fed(),
                _ => unreachable!("it is streamed"),
            },
            Content::Spent => unreachable!("a streamed body is sent once"),
        };
        (body, Some(Box::new(Upload::new(feeder))))
    }
}

impl Default for Client {
    fn default() -> Client {
        Client::new()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("pool", &self.inner.pool).finish_non_exhaustive()
    }
}
