//! Requests that are put together step by step.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use goby::Context;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::Client;
use super::outline::{Outline, credentials};
use crate::body::Body;
use crate::error::{Error, Phase, Source, redacted};
use crate::response::Response;

/// A request that is being put together: see [`Client::prepare`].
///
/// A mistake, such as an invalid header, is told by [`send`](RequestBuilder::send). Of several, it
/// is the first one.
#[must_use = "a request is made when `send` is called"]
pub struct RequestBuilder {
    client: Client,
    draft: Result<Draft, Error>,
}

/// The request so far.
pub(super) struct Draft {
    pub(super) outline: Outline,
    pub(super) body: Body,
    timeout: Option<Duration>,
}

impl Client {
    /// Begins a request, which further methods complete and [`send`](RequestBuilder::send) makes.
    /// Source: Go's `http.NewRequest`.
    ///
    /// ```
    /// # use goby::Context;
    /// # use goby_http::{Client, Method, Request, Server};
    /// # let server = Server::bind("127.0.0.1:0")?;
    /// # let url = format!("http://{}/", server.local_addr());
    /// # let (serving, _stop) = Context::background().with_cancel();
    /// # goby::go(move || server.serve_ctx(&serving, |request: Request| format!("{} {:?}", request.method(), request.headers()["x-color"])));
    /// let client = Client::new();
    /// let response = client.prepare(Method::DELETE, url).header("x-color", "blue").send(&Context::background())?;
    /// assert_eq!(response.text()?, "DELETE \"blue\"");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn prepare(&self, method: Method, url: impl AsRef<str>) -> RequestBuilder {
        let draft = Outline::new(method, url.as_ref());
        let draft = draft.map(|outline| Draft { outline, body: Body::empty(), timeout: None });
        RequestBuilder { client: self.clone(), draft }
    }
}

impl RequestBuilder {
    /// Adds a header, beside others of that name.
    ///
    /// ```
    /// use goby_http::{Client, Method};
    /// let request = Client::new().prepare(Method::GET, "http://example.org/").header("accept", "text/html");
    /// ```
    pub fn header<N, V>(self, name: N, value: V) -> RequestBuilder
    where
        N: TryInto<HeaderName, Error: Into<Box<dyn StdError + Send + Sync>>>,
        V: TryInto<HeaderValue, Error: Into<Box<dyn StdError + Send + Sync>>>,
    {
        self.step(|draft| {
            let name = name.try_into().map_err(Into::into)?;
            draft.outline.headers.append(name, value.try_into().map_err(Into::into)?);
            Ok(())
        })
    }

    /// Sets headers, in place of all headers of their names.
    ///
    /// ```
    /// use goby_http::{Client, HeaderMap, Method};
    /// let request = Client::new().prepare(Method::GET, "http://example.org/").headers(HeaderMap::new());
    /// ```
    pub fn headers(self, headers: HeaderMap) -> RequestBuilder {
        self.step(|draft| {
            for name in headers.keys() {
                draft.outline.headers.remove(name);
            }
            draft.outline.add_defaults(&headers);
            Ok(())
        })
    }

    /// Sets the header `authorization` to a name and a password (RFC 7617). They are not encrypted:
    /// use it with `https`.
    ///
    /// ```
    /// # use goby::Context;
    /// # use goby_http::{Client, Method, Request, Server};
    /// # let server = Server::bind("127.0.0.1:0")?;
    /// # let url = format!("http://{}/", server.local_addr());
    /// # let (serving, _stop) = Context::background().with_cancel();
    /// # goby::go(move || server.serve_ctx(&serving, |request: Request| format!("{:?}", request.headers()["authorization"])));
    /// let request = Client::new().prepare(Method::GET, url).basic_auth("Aladdin", Some("open sesame"));
    /// assert_eq!(request.send(&Context::background())?.text()?, "\"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\"");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn basic_auth(self, name: impl fmt::Display, password: Option<impl fmt::Display>) -> RequestBuilder {
        self.step(|draft| {
            let name = name.to_string();
            if name.contains(':') {
                return Err("a colon cannot be part of the name".into());
            }
            let password = password.map_or_else(String::new, |password| password.to_string());
            let value = credentials(name.as_bytes(), password.as_bytes());
            draft.outline.headers.insert(AUTHORIZATION, value);
            Ok(())
        })
    }

    /// Sets the header `authorization` to a token (RFC 6750).
    ///
    /// ```
    /// # use goby::Context;
    /// # use goby_http::{Client, Method, Request, Server};
    /// # let server = Server::bind("127.0.0.1:0")?;
    /// # let url = format!("http://{}/", server.local_addr());
    /// # let (serving, _stop) = Context::background().with_cancel();
    /// # goby::go(move || server.serve_ctx(&serving, |request: Request| format!("{:?}", request.headers()["authorization"])));
    /// let request = Client::new().prepare(Method::GET, url).bearer_auth("sesame");
    /// assert_eq!(request.send(&Context::background())?.text()?, "\"Bearer sesame\"");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn bearer_auth(self, token: impl fmt::Display) -> RequestBuilder {
        self.step(|draft| {
            let mut value = HeaderValue::try_from(format!("Bearer {token}"))?;
            value.set_sensitive(true);
            draft.outline.headers.insert(AUTHORIZATION, value);
            Ok(())
        })
    }

    /// Sets the body. It has no type unless a header says one.
    ///
    /// ```
    /// # use goby::Context;
    /// # use goby_http::{Body, Client, Method, Request, Response, Server};
    /// # let server = Server::bind("127.0.0.1:0")?;
    /// # let url = format!("http://{}/", server.local_addr());
    /// # let (serving, _stop) = Context::background().with_cancel();
    /// # goby::go(move || server.serve_ctx(&serving, |request: Request| Response::new(request.into_body())));
    /// let body = Body::from_reader(&b"some text"[..]);
    /// let echo = Client::new().prepare(Method::PUT, url).body(body).send(&Context::background())?;
    /// assert_eq!(echo.text()?, "some text");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn body(self, body: impl Into<Body>) -> RequestBuilder {
        self.step(|draft| {
            draft.body = body.into();
            Ok(())
        })
    }

    /// Limits the time of the whole request, in place of the
    /// [client's](crate::ClientBuilder::timeout) limit. The context holds all the same.
    ///
    /// ```
    /// use goby::Context;
    /// use goby_http::{Client, Method};
    /// use std::time::Duration;
    /// let request = Client::new().prepare(Method::GET, "http://127.0.0.1:9/").timeout(Duration::ZERO);
    /// assert!(request.send(&Context::background()).unwrap_err().is_timeout());
    /// ```
    pub fn timeout(self, timeout: Duration) -> RequestBuilder {
        self.step(|draft| {
            draft.timeout = Some(timeout);
            Ok(())
        })
    }

    /// Makes the request, as [`Client::request`] does. See there for redirects and second attempts.
    ///
    /// # Blocking
    ///
    /// Parks the goroutine until the response's headers have come. A streamed body is read by the
    /// same goroutine.
    ///
    /// # Errors
    ///
    /// When the request is invalid ([`is_build`](Error::is_build), [`is_url`](Error::is_url)), and
    /// when no response came, see [`Error`].
    ///
    /// # Cancellation
    ///
    /// As for [`Client::request`].
    pub fn send(self, ctx: &Context) -> Result<Response, Error> {
        let Draft { outline, body, timeout } = self.draft?;
        self.client.execute(ctx, outline, body, timeout)
    }

    /// Changes the request, if there was no mistake so far.
    pub(super) fn step(mut self, change: impl FnOnce(&mut Draft) -> Result<(), Source>) -> RequestBuilder {
        if let Ok(draft) = &mut self.draft
            && let Err(error) = change(draft)
        {
            let outline = &draft.outline;
            self.draft = Err(Error::new(Phase::Prepare, error).of_request(&outline.method, &outline.url));
        }
        self
    }
}

impl fmt::Debug for RequestBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut request = f.debug_struct("RequestBuilder");
        match &self.draft {
            Ok(Draft { outline, body, timeout }) => {
                request.field("method", &outline.method).field("url", &redacted(outline.url.as_str()));
                request.field("headers", &outline.headers).field("body", body).field("timeout", timeout).finish()
            }
            Err(error) => request.field("error", error).finish(),
        }
    }
}
