//! Responses: what a client gets and what a handler gives.

use std::error::Error as StdError;
use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;

use bytes::Bytes;
use http::header::LOCATION;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use url::Url;

use crate::body::Body;
use crate::client::redirect::Redirect;
use crate::error::{Error, Phase};
use crate::rejection::Failure;
use crate::upgrade::{Left, Upgraded};

/// A response: received by a [`Client`](crate::Client), or made by a handler.
///
/// It is one type for both, so that a handler may pass on what it fetched. The body is streamed: it
/// is read from the connection as it is read from the response ([`Read`],
/// [`reader`](Response::reader), [`copy_to`](Response::copy_to)), or all at once
/// ([`bytes`](Response::bytes), [`text`](Response::text)).
///
/// ```
/// use goby_http::{Response, StatusCode};
/// let response = Response::new("hello").with_status(StatusCode::CREATED).with_header("x-color", "blue");
/// assert_eq!(response.status(), 201);
/// assert_eq!(response.headers()["x-color"], "blue");
/// assert_eq!(response.text()?, "hello");
/// # Ok::<(), goby_http::Error>(())
/// ```
///
/// # Blocking
///
/// Reading the body of a received response parks the goroutine until more has come.
///
/// # Cancellation
///
/// The context of the request holds for the body too: when it is done, reading fails and the
/// connection is closed. A response that is dropped before its body has been read to the end closes
/// the connection at once.
pub struct Response {
    head: http::response::Parts,
    /// The request, if it was received.
    origin: Option<Box<Origin>>,
    body: Body,
}

/// The request that a response answers: the last one, after redirects.
pub(crate) struct Origin {
    pub(crate) method: Method,
    pub(crate) url: Arc<str>,
}

impl Response {
    /// Makes a response with status 200 and this body.
    ///
    /// Unless a `content-type` is set, the server adds one: `text/plain; charset=utf-8` for text,
    /// `application/octet-stream` for bytes. It adds none for a streamed body.
    ///
    /// The server decides how long the body is, and how it is sent. A `content-length` that is set
    /// by hand is taken for the length of a streamed body of unknown length. Where the length is
    /// known, that counts instead, and the server reports a difference on standard error.
    ///
    /// ```
    /// use goby_http::Response;
    /// assert_eq!(Response::new("hello").status(), 200);
    /// ```
    pub fn new(body: impl Into<Body>) -> Response {
        Response::from(http::Response::new(body.into()))
    }

    /// Makes a response that sends the client to another URL (status 302).
    ///
    /// ```
    /// use goby_http::Response;
    /// let response = Response::redirect("/elsewhere");
    /// assert_eq!(response.status(), 302);
    /// assert_eq!(response.headers()["location"], "/elsewhere");
    /// ```
    ///
    /// # Panics
    ///
    /// When `location` has characters that no header may have.
    pub fn redirect(location: &str) -> Response {
        Response::from(StatusCode::FOUND).with_header(LOCATION, location)
    }

    pub(crate) fn received(head: http::response::Parts, origin: Origin, body: Body) -> Response {
        Response { head, origin: Some(Box::new(origin)), body }
    }

    /// Changes the status.
    ///
    /// ```
    /// use goby_http::{Response, StatusCode};
    /// assert_eq!(Response::new("").with_status(StatusCode::NOT_FOUND).status(), 404);
    /// ```
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Response {
        self.head.status = status;
        self
    }

    /// Sets a header, in place of all headers of that name.
    ///
    /// ```
    /// use goby_http::Response;
    /// let response = Response::new("{}").with_header("content-type", "application/json");
    /// assert_eq!(response.headers()["content-type"], "application/json");
    /// ```
    ///
    /// # Panics
    ///
    /// When name or value have characters that no header may have. For names and values that a
    /// program does not know beforehand there is [`headers_mut`](Response::headers_mut).
    #[must_use]
    pub fn with_header<N, V>(mut self, name: N, value: V) -> Response
    where
        N: TryInto<HeaderName, Error: fmt::Debug>,
        V: TryInto<HeaderValue, Error: fmt::Debug>,
    {
        let name = name.try_into().expect("a header name");
        let value = value.try_into().expect("a header value");
        self.head.headers.insert(name, value);
        self
    }

    /// Tells the status.
    ///
    /// ```
    /// assert!(goby_http::Response::new("").status().is_success());
    /// ```
    pub fn status(&self) -> StatusCode {
        self.head.status
    }

    /// Gives the headers.
    ///
    /// ```
    /// assert!(goby_http::Response::new("").headers().is_empty());
    /// ```
    pub fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// Gives the headers, to change them.
    ///
    /// ```
    /// use http::header::{CACHE_CONTROL, HeaderValue};
    /// let mut response = goby_http::Response::new("");
    /// response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    /// assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
    /// ```
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.head.headers
    }

    /// Gives what a handler or a middleware has attached for those around it. It is not sent.
    ///
    /// ```
    /// assert!(goby_http::Response::new("").extensions().is_empty());
    /// ```
    pub fn extensions(&self) -> &Extensions {
        &self.head.extensions
    }

    /// Gives what is attached, to change it.
    ///
    /// ```
    /// #[derive(Clone)]
    /// struct Cached(bool);
    ///
    /// let mut response = goby_http::Response::new("");
    /// response.extensions_mut().insert(Cached(true));
    /// assert!(response.extensions().get::<Cached>().is_some_and(|cached| cached.0));
    /// ```
    pub fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.head.extensions
    }

    /// Gives the error that the response answers, if a handler returned one.
    ///
    /// The server reports it, if the status is 500 or above, unless another response goes out in
    /// the place of this one.
    ///
    /// ```
    /// use goby_http::{Response, StatusCode};
    /// let response = Response::from("x".parse::<u32>().map(|n| n.to_string()));
    /// assert_eq!(response.status(), 500);
    /// assert_eq!(response.error().unwrap().to_string(), "invalid digit found in string");
    /// ```
    pub fn error(&self) -> Option<&(dyn StdError + Send + Sync + 'static)> {
        self.head.extensions.get::<Failure>().map(Failure::error)
    }

    /// Makes an error of a status from 400 to 599, and returns any other response as it is.
    ///
    /// The body of a response that is an error is not read: its connection is closed.
    ///
    /// ```
    /// use goby_http::{Response, StatusCode};
    /// assert!(Response::new("hello").error_for_status().is_ok());
    /// let error = Response::from(StatusCode::BAD_GATEWAY).error_for_status().unwrap_err();
    /// assert_eq!(error.status(), Some(StatusCode::BAD_GATEWAY));
    /// ```
    ///
    /// # Errors
    ///
    /// When the status is one of those; see [`Error::status`].
    pub fn error_for_status(self) -> Result<Response, Error> {
        match self.status_error() {
            Some(error) => Err(error),
            None => Ok(self),
        }
    }

    /// Makes an error of a status from 400 to 599, and leaves the response, so that its body can be
    /// read.
    ///
    /// ```
    /// use goby_http::{Response, StatusCode};
    /// let response = Response::new("no such page").with_status(StatusCode::NOT_FOUND);
    /// assert!(response.error_for_status_ref().is_err());
    /// assert_eq!(response.text()?, "no such page");
    /// # Ok::<(), goby_http::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When the status is one of those; see [`Error::status`].
    pub fn error_for_status_ref(&self) -> Result<&Response, Error> {
        match self.status_error() {
            Some(error) => Err(error),
            None => Ok(self),
        }
    }

    fn status_error(&self) -> Option<Error> {
        if !self.status().is_client_error() && !self.status().is_server_error() {
            return None;
        }
        let error = Error::bare(Phase::Status(self.status()));
        let request = self.origin.as_ref().and_then(|origin| Some((&origin.method, Url::parse(&origin.url).ok()?)));
        Some(match request {
            Some((method, url)) => error.of_request(method, &url),
            None => error,
        })
    }

    /// Tells the version of the protocol.
    ///
    /// ```
    /// assert_eq!(goby_http::Response::new("").version(), http::Version::HTTP_11);
    /// ```
    pub fn version(&self) -> Version {
        self.head.version
    }

    /// Tells the URL that the response came from, after redirects. Empty for a response that was
    /// made, not received.
    ///
    /// ```
    /// assert_eq!(goby_http::Response::new("").url(), "");
    /// ```
    pub fn url(&self) -> &str {
        self.origin.as_ref().map_or("", |origin| &origin.url)
    }

    /// Tells which URL a redirect leads to: the header `location` of a received response with
    /// status 301, 302, 303, 307 or 308, made absolute. `None` for all other responses, and for
    /// those that were made. Source: Go's `Response.Location`.
    ///
    /// A [`Client`](crate::Client) follows redirects by itself. This is for a program that does so
    /// in its stead, with [`redirects(0)`](crate::ClientBuilder::redirects).
    ///
    /// ```
    /// # use goby::Context;
    /// # use goby_http::{Client, Request, Response, Server};
    /// # let server = Server::bind("127.0.0.1:0")?;
    /// # let base = format!("http://{}", server.local_addr());
    /// # let (serving, _stop) = Context::background().with_cancel();
    /// # goby::go(move || server.serve_ctx(&serving, |_: Request| Response::redirect("new")));
    /// let client = Client::builder().redirects(0).build()?;
    /// let response = client.get(&Context::background(), format!("{base}/dir/old"))?;
    /// assert_eq!(response.location()?, Some(format!("{base}/dir/new")));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When the header is not an `http` or `https` URL, nor relative to one.
    pub fn location(&self) -> Result<Option<String>, Error> {
        let Ok(from) = Url::parse(self.url()) else { return Ok(None) };
        let redirect = Redirect::of(self.head.status, &self.head.headers, &from)?;
        Ok(redirect.map(|redirect| redirect.url.into()))
    }

    /// Tells how long the rest of the body is, if that is known: the header `Content-Length`,
    /// before any of it is read.
    ///
    /// ```
    /// assert_eq!(goby_http::Response::new("four").content_length(), Some(4));
    /// ```
    pub fn content_length(&self) -> Option<u64> {
        self.body.len()
    }

    /// Gives the body, to read from.
    ///
    /// ```
    /// use std::io::BufRead;
    /// let mut response = goby_http::Response::new("one\ntwo\n");
    /// let lines: Vec<String> = response.reader().lines().collect::<Result<_, _>>()?;
    /// assert_eq!(lines, ["one", "two"]);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn reader(&mut self) -> &mut Body {
        &mut self.body
    }

    /// Takes the body.
    ///
    /// ```
    /// assert_eq!(goby_http::Response::new("four").into_body().len(), Some(4));
    /// ```
    pub fn into_body(self) -> Body {
        self.body
    }

    /// Takes the connection that a server has switched to another protocol (`101 Switching
    /// Protocols`).
    ///
    /// The request asks for that with the headers `connection: upgrade` and `upgrade`. The context
    /// of the request goes on to hold. A [time-out](crate::ClientBuilder::timeout) of the client
    /// does not.
    ///
    /// ```
    /// use goby::Context;
    /// use goby_http::{Body, Client, Request, Server};
    /// use std::io::{Read, Write};
    ///
    /// # let server = Server::bind("127.0.0.1:0")?;
    /// # let url = format!("http://{}/", server.local_addr());
    /// # let (serving, _stop) = Context::background().with_cancel();
    /// # goby::go(move || server.serve_ctx(&serving, |request: Request| request.upgrade("echo", |stream| {
    /// #     let _ = std::io::copy(&mut &stream, &mut &stream);
    /// # })));
    /// let ctx = Context::background();
    /// let request = http::Request::get(url).header("connection", "upgrade").header("upgrade", "echo");
    /// let response = Client::new().request(&ctx, request.body(Body::empty())?)?;
    /// assert_eq!(response.status(), 101);
    /// let mut stream = response.upgrade()?;
    /// stream.write_all(b"hello")?;
    /// stream.shutdown_write()?;
    /// let mut answer = String::new();
    /// stream.read_to_string(&mut answer)?;
    /// assert_eq!(answer, "hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When the server did not switch: the status is another one, or the response was not received
    /// but made.
    ///
    /// Source: `reqwest::Response::upgrade`; Go's `Response.Body` of a 101.
    pub fn upgrade(self) -> Result<Upgraded, Error> {
        let left = self.head.extensions.get::<Left>().and_then(Left::take);
        left.ok_or_else(|| Error::bare(Phase::NotUpgraded(self.head.status)))
    }

    /// Reads the body to its end.
    ///
    /// ```
    /// assert_eq!(goby_http::Response::new("four").bytes()?, "four");
    /// # Ok::<(), goby_http::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine until the body is complete.
    ///
    /// # Errors
    ///
    /// Those of the connection, such as a body that is shorter than announced.
    ///
    /// # Cancellation
    ///
    /// By the context of the request.
    pub fn bytes(self) -> Result<Bytes, Error> {
        self.body.bytes()
    }

    /// Reads the body to its end, as UTF-8 text.
    ///
    /// ```
    /// assert_eq!(goby_http::Response::new("four").text()?, "four");
    /// # Ok::<(), goby_http::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine until the body is complete.
    ///
    /// # Errors
    ///
    /// Those of [`bytes`](Response::bytes), and when it is not UTF-8.
    ///
    /// # Cancellation
    ///
    /// By the context of the request.
    pub fn text(self) -> Result<String, Error> {
        self.body.text()
    }

    /// Writes the rest of the body to `writer` as it comes, and returns how many bytes it wrote.
    ///
    /// ```
    /// let mut copy = Vec::new();
    /// assert_eq!(goby_http::Response::new("four").copy_to(&mut copy)?, 4);
    /// assert_eq!(copy, b"four");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine while it waits for more, and as `writer` does.
    ///
    /// # Errors
    ///
    /// The error of the writer, or one that holds the [`Error`] of the connection.
    ///
    /// # Cancellation
    ///
    /// By the context of the request.
    pub fn copy_to<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<u64> {
        let mut n = 0;
        while let Some(chunk) = self.body.chunk()? {
            writer.write_all(&chunk)?;
            n += chunk.len() as u64;
        }
        Ok(n)
    }
}

impl Read for Response {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.body.read(buf)
    }
}

impl From<http::Response<Body>> for Response {
    fn from(response: http::Response<Body>) -> Response {
        let (head, body) = response.into_parts();
        Response { head, origin: None, body }
    }
}

impl From<Response> for http::Response<Body> {
    fn from(response: Response) -> http::Response<Body> {
        http::Response::from_parts(response.head, response.body)
    }
}

impl From<Body> for Response {
    fn from(body: Body) -> Response {
        Response::new(body)
    }
}

/// A response with this status, and with the status's name as its body.
impl From<StatusCode> for Response {
    fn from(status: StatusCode) -> Response {
        Response::new(status.canonical_reason().unwrap_or("")).with_status(status)
    }
}

impl From<&'static str> for Response {
    fn from(text: &'static str) -> Response {
        Response::new(text)
    }
}

impl From<String> for Response {
    fn from(text: String) -> Response {
        Response::new(text)
    }
}

impl From<Vec<u8>> for Response {
    fn from(bytes: Vec<u8>) -> Response {
        Response::new(bytes)
    }
}

impl From<Bytes> for Response {
    fn from(bytes: Bytes) -> Response {
        Response::new(bytes)
    }
}

impl From<()> for Response {
    fn from((): ()) -> Response {
        Response::new(())
    }
}

/// The response, with this status unless it answers an error.
impl<T: Into<Response>> From<(StatusCode, T)> for Response {
    fn from((status, response): (StatusCode, T)) -> Response {
        let response = response.into();
        if response.error().is_some() { response } else { response.with_status(status) }
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut response = f.debug_struct("Response");
        response.field("status", &self.head.status).field("headers", &self.head.headers);
        response.field("url", &self.url()).field("body", &self.body).finish()
    }
}
