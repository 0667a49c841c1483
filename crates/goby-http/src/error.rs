//! The error of a request: one opaque type, which knows *where* it went wrong and *why*.

mod phase;
mod redacted;

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::iter;

use goby::Context;
use goby::context::ContextError;
use http::{Method, StatusCode};
use rustix::io::Errno;
use url::Url;

pub(crate) use phase::Phase;
pub use redacted::redacted;

use crate::tls;

pub(crate) type Source = Box<dyn StdError + Send + Sync>;

/// Why a request failed.
///
/// It is opaque, with a predicate for each case that a caller may want to tell apart. Two questions
/// are independent: how far the request had come ([`is_resolve`](Error::is_resolve),
/// [`is_connect`](Error::is_connect), [`is_tls`](Error::is_tls), [`is_request`](Error::is_request),
/// [`is_body`](Error::is_body), …), and whether it was given up ([`is_timeout`](Error::is_timeout),
/// [`is_canceled`](Error::is_canceled)) or failed by itself.
///
/// `Display` names the request and says one level; the cause is the
/// [`source`](std::error::Error::source). Reading a [`Body`](crate::Body) through [`std::io::Read`]
/// gives an [`io::Error`] that holds this error ([`io::Error::get_ref`]).
///
/// ```
/// use goby::Context;
/// let error = goby_http::get(&Context::background(), "gopher://example.org").unwrap_err();
/// assert!(error.is_url());
/// assert_eq!(error.to_string(), "invalid URL \"gopher://example.org\"");
/// assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "the scheme is neither http nor https");
/// ```
pub struct Error {
    inner: Box<Inner>,
}

#[derive(Debug)]
struct Inner {
    phase: Phase,
    why: Why,
    source: Option<Source>,
    request: Option<Named>,
}

/// The request that failed.
#[derive(Debug)]
struct Named {
    method: Method,
    /// Without a password.
    url: String,
}

/// Why the request came no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Failed,
    /// What the other side sent is not valid HTTP.
    Protocol,
    /// A time-out of this phase alone.
    Timeout,
    /// The client's time-out for the whole request.
    ClientTimeout,
    /// The context's deadline.
    Deadline,
    /// The context was canceled.
    Canceled,
}

/// The cause of contexts that a client's time-out has ended.
#[derive(Debug)]
pub(crate) struct ClientTimeout;

impl Error {
    pub(crate) fn new(phase: Phase, source: impl Into<Source>) -> Error {
        Error::with(phase, Why::Failed, Some(source.into()))
    }

    pub(crate) fn bare(phase: Phase) -> Error {
        Error::with(phase, Why::Failed, None)
    }

    /// A time-out that is not the context's.
    pub(crate) fn timeout(phase: Phase, source: impl Into<Source>) -> Error {
        Error::with(phase, Why::Timeout, Some(source.into()))
    }

    /// What ended `ctx`, if it is done.
    pub(crate) fn of_context(phase: &Phase, ctx: &Context) -> Option<Error> {
        let error = ctx.err()?;
        let why = match error {
            ContextError::Canceled => Why::Canceled,
            ContextError::DeadlineExceeded if ctx.cause().is_some_and(|cause| cause.is::<ClientTimeout>()) => {
                Why::ClientTimeout
            }
            ContextError::DeadlineExceeded => Why::Deadline,
        };
        Some(Error::with(phase.clone(), why, Some(error.into())))
    }

    /// The error of an operation during a request. If the context is done, that is the reason,
    /// whatever the operation's own error is.
    pub(crate) fn during(phase: Phase, ctx: &Context, source: impl Into<Source>) -> Error {
        Error::of_context(&phase, ctx).unwrap_or_else(|| Error::of_io(phase, source))
    }

    /// The error of a request when what came is not HTTP.
    pub(crate) fn protocol(phase: Phase, ctx: &Context, source: impl Into<Source>) -> Error {
        Error::of_context(&phase, ctx).unwrap_or_else(|| Error::with(phase, Why::Protocol, Some(source.into())))
    }

    /// The error of an operation on a socket that may have reached its deadline.
    pub(crate) fn of_io(phase: Phase, source: impl Into<Source>) -> Error {
        let source = source.into();
        let source = match source.downcast::<Error>() {
            Ok(error) => return *error,
            Err(source) => source,
        };
        let why = match phase {
            _ if io_timed_out(&*source) => Why::Timeout,
            Phase::Tunnel { .. } | Phase::Headers | Phase::Body | Phase::RequestBody if is_no_http(&*source) => {
                Why::Protocol
            }
            _ => Why::Failed,
        };
        Error::with(phase, why, Some(source))
    }

    /// The error that an `io::Error` holds, or one that holds it.
    pub(crate) fn from_io(phase: Phase, error: io::Error) -> Error {
        match error.downcast::<Error>() {
            Ok(error) => error,
            Err(error) => Error::of_io(phase, error),
        }
    }

    fn with(phase: Phase, why: Why, source: Option<Source>) -> Error {
        Error { inner: Box::new(Inner { phase, why, source, request: None }) }
    }

    /// Tells how a server refuses the request whose body this is the error of.
    pub(crate) fn refusal(&self) -> Option<StatusCode> {
        match (&self.inner.phase, self.inner.why) {
            (Phase::RequestBody, Why::Timeout) => Some(StatusCode::REQUEST_TIMEOUT),
            (Phase::RequestTooLarge(_), _) => Some(StatusCode::PAYLOAD_TOO_LARGE),
            (Phase::RequestBody | Phase::RequestNotText, _) => Some(StatusCode::BAD_REQUEST),
            _ => None,
        }
    }

    /// Says that the request was not sent yet when time ran out or it was given up.
    pub(crate) fn while_sending(mut self) -> Error {
        if self.inner.phase == Phase::Headers && (self.is_timeout() || self.is_canceled()) {
            self.inner.phase = Phase::Send;
        }
        self
    }

    /// Names the request, unless an inner one is named already: that of a body which was passed on,
    /// for example.
    pub(crate) fn of_request(mut self, method: &Method, url: &Url) -> Error {
        if self.inner.request.is_none() {
            self.inner.request = Some(Named { method: method.clone(), url: redacted(url.as_str()).into() });
        }
        self
    }

    /// Tells the URL of the request, after redirects; or the text that was given instead of a URL.
    /// A password in it is shown as `***`. `None` if the error belongs to no request: that of
    /// building a client, for example, or of reading a request's body in a handler.
    ///
    /// ```
    /// use goby::Context;
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// cancel.cancel();
    /// let error = goby_http::get(&ctx, "http://me:secret@127.0.0.1:9/").unwrap_err();
    /// assert_eq!(error.url(), Some("http://me:***@127.0.0.1:9/"));
    /// assert!(error.to_string().starts_with("GET http://me:***@127.0.0.1:9/: canceled while "));
    /// ```
    pub fn url(&self) -> Option<&str> {
        match (&self.inner.request, &self.inner.phase) {
            (Some(request), _) => Some(&request.url),
            (None, Phase::Url(text)) => Some(text),
            (None, _) => None,
        }
    }

    /// Drops the name of the request, for a program that prints the URL itself.
    ///
    /// ```
    /// use goby::Context;
    /// use std::time::Duration;
    /// let (ctx, _cancel) = Context::background().with_timeout(Duration::ZERO);
    /// let error = goby_http::get(&ctx, "http://127.0.0.1:9/").unwrap_err().without_url();
    /// assert_eq!(error.url(), None);
    /// assert!(error.to_string().starts_with("deadline exceeded while "));
    /// ```
    #[must_use]
    pub fn without_url(mut self) -> Error {
        self.inner.request = None;
        self
    }

    /// Tells whether time ran out: the context's, the client's, or that of one phase.
    ///
    /// ```
    /// use goby::Context;
    /// use std::time::Duration;
    /// let (ctx, _cancel) = Context::background().with_timeout(Duration::ZERO);
    /// assert!(goby_http::get(&ctx, "http://127.0.0.1:9/").unwrap_err().is_timeout());
    /// ```
    pub fn is_timeout(&self) -> bool {
        matches!(self.inner.why, Why::Timeout | Why::ClientTimeout | Why::Deadline)
    }

    /// Tells whether the context was canceled.
    ///
    /// ```
    /// use goby::Context;
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// cancel.cancel();
    /// assert!(goby_http::get(&ctx, "http://127.0.0.1:9/").unwrap_err().is_canceled());
    /// ```
    pub fn is_canceled(&self) -> bool {
        self.inner.why == Why::Canceled
    }

    /// Gives the context's error, if the context ended the request.
    ///
    /// ```
    /// use goby::{Context, context::ContextError};
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// cancel.cancel();
    /// let error = goby_http::get(&ctx, "http://127.0.0.1:9/").unwrap_err();
    /// assert_eq!(error.context_error(), Some(ContextError::Canceled));
    /// ```
    pub fn context_error(&self) -> Option<ContextError> {
        match self.inner.why {
            Why::Canceled => Some(ContextError::Canceled),
            Why::Deadline | Why::ClientTimeout => Some(ContextError::DeadlineExceeded),
            Why::Timeout | Why::Protocol | Why::Failed => None,
        }
    }

    /// Tells whether the URL that was given cannot be used.
    ///
    /// ```
    /// let error = goby_http::get(&goby::Context::background(), "no URL").unwrap_err();
    /// assert!(error.is_url());
    /// ```
    pub fn is_url(&self) -> bool {
        matches!(self.inner.phase, Phase::Url(_))
    }

    /// Tells whether a client could not be built, or a request: a header of it is invalid, for
    /// example.
    ///
    /// ```
    /// use goby_http::{Client, Method};
    /// let error = Client::builder().max_connections_per_host(0).build().unwrap_err();
    /// assert!(error.is_build());
    ///
    /// let request = Client::new().prepare(Method::GET, "http://example.org/").header("no name", "");
    /// assert!(request.send(&goby::Context::background()).unwrap_err().is_build());
    /// ```
    pub fn is_build(&self) -> bool {
        matches!(self.inner.phase, Phase::Build | Phase::Prepare)
    }

    /// Tells whether the host's name was being looked up.
    ///
    /// ```
    /// use std::io;
    /// let client = goby_http::Client::builder().resolver(|_| Err(io::Error::other("no such host"))).build()?;
    /// assert!(client.get(&goby::Context::background(), "http://example.org/").unwrap_err().is_resolve());
    /// # Ok::<(), goby_http::Error>(())
    /// ```
    pub fn is_resolve(&self) -> bool {
        matches!(self.inner.phase, Phase::Resolve(_))
    }

    /// Tells whether the connection was being made, or a tunnel through a proxy.
    ///
    /// ```
    /// let addr = goby::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    /// // Nobody listens there any more.
    /// let error = goby_http::get(&goby::Context::background(), format!("http://{addr}/")).unwrap_err();
    /// assert!(error.is_connect());
    /// ```
    pub fn is_connect(&self) -> bool {
        matches!(self.inner.phase, Phase::Connect(_) | Phase::Queue(_) | Phase::Proxy | Phase::Tunnel { .. })
    }

    /// Tells whether the process, or the whole system, had no descriptor left for a connection
    /// (`EMFILE`, `ENFILE`).
    ///
    /// That says nothing about the host. The client has given up its idle connections by then.
    ///
    /// ```
    /// let error = goby_http::get(&goby::Context::background(), "http://127.0.0.1:9/").unwrap_err();
    /// assert!(!error.is_out_of_descriptors());
    /// ```
    pub fn is_out_of_descriptors(&self) -> bool {
        let mut causes = causes(self).filter_map(|cause| cause.downcast_ref::<io::Error>());
        causes.any(is_out_of_descriptors)
    }

    /// Tells whether what came is not valid HTTP: it cannot be understood, or its head has no end.
    /// Trying again is of no use.
    ///
    /// ```
    /// use std::io::Write;
    /// let listener = goby::net::TcpListener::bind("127.0.0.1:0").unwrap();
    /// let url = format!("http://{}/", listener.local_addr().unwrap());
    /// goby::go(move || listener.accept().unwrap().0.write_all(b"220 this is a mail server\r\n").unwrap());
    /// let error = goby_http::get(&goby::Context::background(), url).unwrap_err();
    /// assert!(error.is_request() && error.is_protocol());
    /// assert_eq!(error.without_url().to_string(), "no proper HTTP while awaiting response headers");
    /// ```
    pub fn is_protocol(&self) -> bool {
        self.inner.why == Why::Protocol
    }

    /// Tells whether TLS was being negotiated. The certificate may be invalid, for example.
    ///
    /// ```
    /// use goby::net::TcpListener;
    /// let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    /// let url = format!("https://{}/", listener.local_addr().unwrap());
    /// goby::go(move || drop(listener.accept()));
    /// assert!(goby_http::get(&goby::Context::background(), url).unwrap_err().is_tls());
    /// ```
    pub fn is_tls(&self) -> bool {
        matches!(self.inner.phase, Phase::Tls(_))
    }

    /// Tells whether the connection was made, but no response came: the request was being sent or
    /// its response awaited.
    ///
    /// ```
    /// use goby::net::TcpListener;
    /// let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    /// let url = format!("http://{}/", listener.local_addr().unwrap());
    /// goby::go(move || drop(listener.accept()));
    /// assert!(goby_http::get(&goby::Context::background(), url).unwrap_err().is_request());
    /// ```
    pub fn is_request(&self) -> bool {
        matches!(self.inner.phase, Phase::Send | Phase::Headers | Phase::Produce)
    }

    /// Tells whether a body was being read: it broke off, is longer than the client's limit, or is
    /// not the text or JSON that was expected.
    ///
    /// ```
    /// use goby_http::Response;
    /// let error = Response::new(b"\xff".to_vec()).text().unwrap_err();
    /// assert!(error.is_body());
    /// ```
    pub fn is_body(&self) -> bool {
        matches!(
            self.inner.phase,
            Phase::Body
                | Phase::RequestBody
                | Phase::TooLarge(_)
                | Phase::RequestTooLarge(_)
                | Phase::NotText
                | Phase::NotJson
                | Phase::RequestNotText
        )
    }

    /// Gives the status of the response, if that is the error: see
    /// [`Response::error_for_status`](crate::Response::error_for_status).
    ///
    /// ```
    /// use goby_http::{Response, StatusCode};
    /// let error = Response::from(StatusCode::NOT_FOUND).error_for_status().unwrap_err();
    /// assert_eq!(error.status(), Some(StatusCode::NOT_FOUND));
    /// assert_eq!(error.to_string(), "status 404 Not Found");
    /// ```
    pub fn status(&self) -> Option<StatusCode> {
        match self.inner.phase {
            Phase::Status(status) => Some(status),
            _ => None,
        }
    }

    /// Tells whether redirects failed: there were too many of them, one led to something that is
    /// not a URL, or the client's [policy](crate::redirect::Policy) refused one.
    ///
    /// ```
    /// use goby::Context;
    /// use goby_http::{Request, Response, Server};
    /// let server = Server::bind("127.0.0.1:0").unwrap();
    /// let url = format!("http://{}/", server.local_addr());
    /// let (serving, _stop) = Context::background().with_cancel();
    /// goby::go(move || server.serve_ctx(&serving, |_: Request| Response::redirect("/")));
    /// let error = goby_http::get(&Context::background(), url).unwrap_err();
    /// assert!(error.is_redirect());
    /// assert_eq!(error.without_url().to_string(), "stopped after 10 redirects");
    /// ```
    pub fn is_redirect(&self) -> bool {
        matches!(self.inner.phase, Phase::RedirectTarget(_) | Phase::TooManyRedirects(_) | Phase::RedirectRefused)
    }

    /// Tells whether there were more redirects than the client follows.
    ///
    /// ```
    /// use goby::Context;
    /// use goby_http::{Client, Request, Response, Server};
    /// let server = Server::bind("127.0.0.1:0").unwrap();
    /// let url = format!("http://{}/", server.local_addr());
    /// let (serving, _stop) = Context::background().with_cancel();
    /// goby::go(move || server.serve_ctx(&serving, |_: Request| Response::redirect("/")));
    /// let client = Client::builder().redirects(1).build()?;
    /// assert!(client.get(&Context::background(), url).unwrap_err().is_too_many_redirects());
    /// # Ok::<(), goby_http::Error>(())
    /// ```
    pub fn is_too_many_redirects(&self) -> bool {
        matches!(self.inner.phase, Phase::TooManyRedirects(_))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = &self.inner.phase;
        if let Some(Named { method, url }) = &self.inner.request {
            write!(f, "{method} {url}: ")?;
        }
        match self.inner.why {
            Why::Timeout => write!(f, "timeout {phase}"),
            Why::ClientTimeout => write!(f, "Client.Timeout exceeded while {phase}"),
            Why::Deadline => write!(f, "deadline exceeded while {phase}"),
            Why::Canceled => write!(f, "canceled while {phase}"),
            #[cfg(feature = "websocket")]
            Why::Protocol if matches!(phase, Phase::WebSocket) => f.write_str("no proper WebSocket"),
            Why::Protocol => write!(f, "no proper HTTP while {phase}"),
            Why::Failed => match phase {
                Phase::Url(url) => write!(f, "invalid URL {url:?}"),
                Phase::Headers => f.write_str("no response"),
                Phase::RedirectTarget(target) => write!(f, "invalid redirect target {target:?}"),
                Phase::TooManyRedirects(n) => write!(f, "stopped after {n} redirects"),
                Phase::RedirectRefused => f.write_str("redirect refused"),
                Phase::Status(status) => write!(f, "status {status}"),
                Phase::TooLarge(limit) | Phase::RequestTooLarge(limit) => write!(f, "body longer than {limit} bytes"),
                Phase::NotUpgraded(status) => write!(f, "the server has not upgraded the connection: it says {status}"),
                Phase::NotText | Phase::RequestNotText => f.write_str("body is not UTF-8 text"),
                Phase::NotJson => f.write_str("body is not the expected JSON"),
                phase => write!(f, "{phase} failed"),
            },
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { phase, why, source, request } = &*self.inner;
        let mut text = f.debug_struct("Error");
        text.field("phase", phase).field("why", why).field("source", source).field("request", request).finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner.source.as_deref().map(|source| source as _)
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        let kind = match error.inner.why {
            Why::Timeout | Why::ClientTimeout | Why::Deadline => io::ErrorKind::TimedOut,
            Why::Canceled => io::ErrorKind::ConnectionAborted,
            Why::Protocol => io::ErrorKind::InvalidData,
            Why::Failed => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

impl fmt::Display for ClientTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client.Timeout exceeded")
    }
}

impl StdError for ClientTimeout {}

/// Whether a socket's deadline is among the causes.
fn io_timed_out(error: &(dyn StdError + 'static)) -> bool {
    let mut causes = causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|error| error.kind() == io::ErrorKind::TimedOut)
}

/// Whether what came could not be understood. hyper says so for a head; its decoders say so for a
/// body, by the kind of an `io::Error`.
fn is_no_http(error: &(dyn StdError + 'static)) -> bool {
    if causes(error).any(|cause| cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_user)) {
        // This is the error of a body that was to be sent.
        return false;
    }
    causes(error).any(|cause| {
        let of_decoder = |error: &io::Error| {
            let kind = matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData);
            kind && !error.get_ref().is_some_and(tls::is_failure)
        };
        cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse)
            || cause.downcast_ref::<io::Error>().is_some_and(of_decoder)
    })
}

/// Whether the process or the system has too many files open.
pub(crate) fn is_out_of_descriptors(error: &io::Error) -> bool {
    Errno::from_io_error(error).is_some_and(|errno| matches!(errno, Errno::MFILE | Errno::NFILE))
}

/// The error, what caused it, and so on.
pub(crate) fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    iter::successors(Some(error), |&error| {
        // The source of an `io::Error` is that of the error in it: do not skip that one.
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn StdError + 'static)),
            None => error.source(),
        }
    })
}
