//! The client: it makes requests, with their redirects and second attempts, over connections that
//! it keeps.

mod builder;
mod connect;
mod exchange;
mod pool;
mod proxy;
pub(crate) mod redirect;
mod stall;
mod tunnel;

use std::fmt;
use std::io::Read;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use goby::Context;
use goby::context::CancelGuard;
use http::header::{AUTHORIZATION, HOST, HeaderValue, PROXY_AUTHORIZATION, USER_AGENT};
use http::{HeaderMap, Method, Uri};
use http_body::Body as _;
use once_cell::sync::OnceCell;
use url::{Position, Url};

pub use builder::ClientBuilder;
use connect::Connector;
use exchange::{Conn, Exchange, Failed, Incoming, Retry};
use pool::{Acquired, Permit, Place, Pool};
use proxy::Proxies;
pub use proxy::Proxy;
use redirect::Redirect;
use stall::Stall;

use crate::body::{Body, Feeder, Outgoing};
use crate::error::{ClientTimeout, Error, Phase, redacted};
use crate::framing::{frame_request, unframe_request};
use crate::response::Response;

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
/// through the [proxies](ClientBuilder::proxy) that the environment names. It does not support
/// cookies. It does not ask for compressed bodies, and leaves those that come compressed.
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
    user_agent: Option<HeaderValue>,
    timeout: Option<Duration>,
    header_timeout: Option<Duration>,
    stall_timeout: Option<Duration>,
    redirects: usize,
    max_body: u64,
}

/// The parts of a request that are kept for redirects and second attempts.
struct Outline {
    method: Method,
    headers: HeaderMap,
    url: Url,
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
        self.execute(ctx, Method::GET, url.as_ref(), HeaderMap::new(), Body::empty())
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
        self.execute(ctx, Method::POST, url.as_ref(), HeaderMap::new(), body.into())
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
    /// cases: nothing of it was sent; or no byte of a response came, its method is `GET`, `HEAD`,
    /// `OPTIONS` or `TRACE`, and its body is not streamed.
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
        let (mut head, mut body) = request.into_parts();
        let claimed = unframe_request(&mut head.headers).map_err(|error| Error::new(Phase::Produce, error))?;
        if let Some(len) = claimed.filter(|_| body.len().is_none()) {
            body = body.cut(len);
        }
        self.execute(ctx, head.method, &head.uri.to_string(), head.headers, body)
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

    fn execute(
        &self,
        ctx: &Context,
        method: Method,
        url: &str,
        headers: HeaderMap,
        body: Body,
    ) -> Result<Response, Error> {
        let mut outline = Outline { method, headers, url: parse_url(url)? };
        self.follow(ctx, &mut outline, body).map_err(|error| error.of_request(&outline.method, &outline.url))
    }

    /// Makes the request, and those that its redirects ask for. At its end the outline is that of
    /// the last of them.
    fn follow(&self, ctx: &Context, outline: &mut Outline, body: Body) -> Result<Response, Error> {
        let mut content = match body.whole() {
            Some(bytes) => Content::Whole(bytes.clone()),
            None => Content::Streamed(body),
        };
        let limited = self.inner.timeout.map(|timeout| ctx.with_timeout_cause(timeout, Arc::new(ClientTimeout)));
        let (ctx, mut timeout) = match limited {
            Some((ctx, guard)) => (ctx, Some(guard)),
            None => (ctx.clone(), None),
        };
        let mut hops = 0;
        loop {
            let (exchange, response) = self.attempt(&ctx, outline, &mut content, &mut timeout)?;
            let (head, body) = response.into_parts();
            let redirect = match self.inner.redirects {
                0 => None,
                _ => Redirect::of(head.status, &head.headers, &outline.url)?,
            };
            match redirect {
                Some(redirect) if !redirect.keep_body || !matches!(content, Content::Spent) => {
                    if hops == self.inner.redirects {
                        return Err(Error::bare(Phase::TooManyRedirects(hops)));
                    }
                    hops += 1;
                    timeout = self.discard(exchange, body)?;
                    redirect.rewrite(&outline.url, &mut outline.method, &mut outline.headers);
                    if !redirect.keep_body {
                        content = Content::Whole(bytes::Bytes::new());
                    }
                    outline.url = redirect.url;
                }
                _ => {
                    let url: Arc<str> = outline.url.as_str().into();
                    let body = match Incoming::new(exchange, body, &self.inner.pool, self.inner.max_body) {
                        Some(incoming) => Body::from_source(incoming.named(outline.method.clone(), url.clone())),
                        None => Body::empty(),
                    };
                    return Ok(Response::received(head, url, body));
                }
            }
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
        // A request that hyper gave back unsent, with the feeder of its body.
        let mut unsent: Option<(Box<http::Request<Outgoing>>, Option<Feeder>)> = None;
        loop {
            let conn = match inner.pool.acquire(place.clone(), reuse, ctx)? {
                Acquired::Conn(conn) => conn,
                Acquired::Place(place, permit) => inner.connect(place, permit, ctx)?,
            };
            let reused = conn.reused;
            let (request, feeder) = match unsent.take() {
                Some((request, feeder)) => (*request, feeder),
                None => {
                    let (body, feeder) = content.send();
                    (outline.request(body, &place, inner.user_agent.as_ref())?, feeder)
                }
            };
            let header_timeout = inner.header_timeout;
            let stall = Stall::new(inner.stall_timeout);
            let (ctx, guard) = (ctx.clone(), timeout.take());
            let exchange = Exchange { conn, feeder, ctx, timeout: guard, header_timeout, stall };
            let failed = match exchange.send(request) {
                Ok(done) => return Ok(done),
                Err(failed) => failed,
            };
            let Failed { error, retry, feeder, timeout: guard } = failed;
            *timeout = guard;
            match retry {
                // Try one kept connection after the other, until one is new.
                Retry::Unsent(request) if reused => unsent = Some((request, feeder)),
                Retry::Stale if outline.method.is_safe() && matches!(content, Content::Whole(_)) => reuse = false,
                _ => return Err(error),
            }
        }
    }
}

impl Inner {
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
    fn send(&mut self) -> (Outgoing, Option<Feeder>) {
        match self {
            Content::Whole(bytes) => (Outgoing::Whole(bytes.clone()), None),
            Content::Streamed(_) => match mem::replace(self, Content::Spent) {
                Content::Streamed(body) => body.into_outgoing(),
                _ => unreachable!("it is streamed"),
            },
            Content::Spent => unreachable!("a streamed body is sent once"),
        }
    }
}

impl Outline {
    /// The request as it goes over the connection.
    fn request(
        &self,
        body: Outgoing,
        place: &Place,
        user_agent: Option<&HeaderValue>,
    ) -> Result<http::Request<Outgoing>, Error> {
        let invalid = || Phase::Url(redacted(self.url.as_str()).into());
        let path = &self.url[Position::BeforePath..Position::AfterQuery];
        let target = match place.is_forwarded() {
            // A proxy has to know the host (RFC 9112, section 3.2.2).
            true => format!("http://{}{path}", &self.url[Position::BeforeHost..Position::AfterPort]).parse::<Uri>(),
            false => path.parse(),
        };
        let target = target.map_err(|error| Error::new(invalid(), error))?;
        let mut request = http::Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = target;
        let mut headers = HeaderMap::with_capacity(self.headers.len() + 3);
        if !self.headers.contains_key(HOST) {
            let host = &self.url[Position::BeforeHost..Position::AfterPort];
            headers.insert(HOST, HeaderValue::from_str(host).map_err(|error| Error::new(invalid(), error))?);
        }
        if let Some(user_agent) = user_agent.filter(|_| !self.headers.contains_key(USER_AGENT)) {
            headers.insert(USER_AGENT, user_agent.clone());
        }
        if !self.url.username().is_empty() || self.url.password().is_some() {
            headers.entry(AUTHORIZATION).or_insert(basic_auth(&self.url));
        }
        let authorization = place.via.as_ref().filter(|_| place.is_forwarded()).and_then(|proxy| proxy.authorization.clone());
        if let Some(authorization) = authorization.filter(|_| !self.headers.contains_key(PROXY_AUTHORIZATION)) {
            headers.insert(PROXY_AUTHORIZATION, authorization);
        }
        headers.extend(self.headers.clone());
        frame_request(&self.method, &mut headers, request.body().size_hint().exact());
        *request.headers_mut() = headers;
        Ok(request)
    }
}

fn parse_url(text: &str) -> Result<Url, Error> {
    let invalid = || Phase::Url(redacted(text).into());
    let url = Url::parse(text).map_err(|error| Error::new(invalid(), error))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Error::new(invalid(), "the scheme is neither http nor https"));
    }
    Ok(url)
}

/// The credentials of a URL as a header, encoded in base 64.
fn basic_auth(url: &Url) -> HeaderValue {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut plain: Vec<u8> = percent_decode(url.username());
    plain.push(b':');
    plain.extend(percent_decode(url.password().unwrap_or("")));
    let mut text = b"Basic ".to_vec();
    for group in plain.chunks(3) {
        let bits = group.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i) & 63) as usize];
            text.push(if i <= group.len() { digit } else { b'=' });
        }
    }
    let mut value = HeaderValue::from_bytes(&text).expect("base 64 is valid in a header");
    value.set_sensitive(true);
    value
}

fn percent_decode(text: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.as_bytes();
    while let Some((&byte, rest)) = bytes.split_first() {
        let hex = rest.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| byte == b'%') {
            Some(decoded_byte) => {
                decoded.push(decoded_byte);
                bytes = &rest[2..];
            }
            None => {
                decoded.push(byte);
                bytes = rest;
            }
        }
    }
    decoded
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_of_a_url_become_a_header() {
        let check = |url, header| assert_eq!(basic_auth(&Url::parse(url).unwrap()), header);
        check("http://Aladdin:open%20sesame@a.example/", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        check("http://user@a.example/", "Basic dXNlcjo=");
        check("http://a:b@a.example/", "Basic YTpi");
    }

    #[test]
    fn the_request_names_path_and_host() {
        let check = |url, target, host| {
            let outline = Outline { method: Method::GET, headers: HeaderMap::new(), url: parse_url(url).unwrap() };
            let place = Proxies::Own(Vec::new()).place(&outline.url).unwrap();
            let request = outline.request(Outgoing::Whole(bytes::Bytes::new()), &place, None).unwrap();
            assert_eq!(request.uri(), target);
            assert_eq!(request.headers()[HOST], host);
        };
        check("http://a.example", "/", "a.example");
        check("http://a.example:80/x?y=z#fragment", "/x?y=z", "a.example");
        check("https://a.example:8443/%20", "/%20", "a.example:8443");
        check("http://[::1]:8080/x", "/x", "[::1]:8080");
        check("http://user:secret@a.example/", "/", "a.example");
    }
}
