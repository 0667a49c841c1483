//! Which redirects a client follows.
//!
//! A redirect that is followed changes the request: after 301, 302 and 303 the method becomes
//! `GET` (a `HEAD` stays one) and the body is left out; after 307 and 308 both are kept. These
//! headers do not go to another origin, which is another scheme, host or port: `Authorization`,
//! `Cookie`, `Cookie2`, `Proxy-Authorization`, `WWW-Authenticate`. A `Host` that the caller chose
//! stays if the location is relative and the origin the same.
//!
//! | | goby | Go | curl |
//! |---|---|---|---|
//! | secrets go to | the same scheme, host and port | the same host and its subdomains | the same scheme, host and port |
//! | a body that cannot be sent again | the redirect is the response | the same | an error |
//! | the header `Referer` | not sent | sent, unless it leads from `https` to `http` | by an option |

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use http::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_TYPE, COOKIE, HOST,
    LOCATION, PROXY_AUTHORIZATION, TRANSFER_ENCODING, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, Method, StatusCode};
use url::Url;

use crate::error::{Error, Phase, redacted};

/// Decides which redirects a client follows; see
/// [`ClientBuilder::redirect`](crate::ClientBuilder::redirect). Source: reqwest's
/// `redirect::Policy`, Go's `Client.CheckRedirect`.
///
/// The default is [`limited(10)`](Policy::limited).
#[derive(Clone)]
pub struct Policy {
    rule: Rule,
}

#[derive(Clone)]
enum Rule {
    None,
    Limited(usize),
    Custom(Arc<dyn Fn(Attempt<'_>) -> Action + Send + Sync>),
}

/// A redirect that a [custom](Policy::custom) policy decides about.
#[derive(Debug)]
pub struct Attempt<'a> {
    status: StatusCode,
    url: &'a str,
    previous: &'a [String],
}

/// What is done about a redirect: an answer of an [`Attempt`].
#[derive(Debug)]
pub struct Action {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Follow,
    Stop,
    TooMany(usize),
    Refuse(Box<dyn StdError + Send + Sync>),
}

impl Policy {
    /// Follows no redirect: each is a plain response.
    ///
    /// ```
    /// # use goby::Context;
    /// # use goby_http::{Client, Request, Response, Server};
    /// # let server = Server::bind("127.0.0.1:0")?;
    /// # let url = format!("http://{}/", server.local_addr());
    /// # let (serving, _stop) = Context::background().with_cancel();
    /// # goby::go(move || server.serve_ctx(&serving, |_: Request| Response::redirect("/there")));
    /// use goby_http::redirect::Policy;
    /// let client = Client::builder().redirect(Policy::none()).build()?;
    /// assert_eq!(client.get(&Context::background(), url)?.status(), 302);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn none() -> Policy {
        Policy { rule: Rule::None }
    }

    /// Follows `n` redirects of a request. A further one is an
    /// [error](crate::Error::is_too_many_redirects).
    ///
    /// ```
    /// # use goby::Context;
    /// # use goby_http::{Client, Request, Response, Server};
    /// # let server = Server::bind("127.0.0.1:0")?;
    /// # let url = format!("http://{}/", server.local_addr());
    /// # let (serving, _stop) = Context::background().with_cancel();
    /// # goby::go(move || server.serve_ctx(&serving, |_: Request| Response::redirect("/there")));
    /// use goby_http::redirect::Policy;
    /// let client = Client::builder().redirect(Policy::limited(2)).build()?;
    /// assert!(client.get(&Context::background(), url).unwrap_err().is_too_many_redirects());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn limited(n: usize) -> Policy {
        Policy { rule: Rule::Limited(n) }
    }

    /// Lets `decide` say what is done about each redirect. It is to end loops, too: the number of
    /// [previous](Attempt::previous) URLs tells how long it has gone on.
    ///
    /// ```
    /// # use goby::Context;
    /// # use goby_http::{Client, Request, Response, Server};
    /// # let server = Server::bind("127.0.0.1:0")?;
    /// # let url = format!("http://{}/", server.local_addr());
    /// # let (serving, _stop) = Context::background().with_cancel();
    /// # goby::go(move || server.serve_ctx(&serving, |request: Request| match request.path() {
    /// #     "/" => Response::redirect("/there"),
    /// #     _ => Response::redirect("/login"),
    /// # }));
    /// use goby_http::redirect::Policy;
    /// let policy = Policy::custom(|attempt| match attempt.url() {
    ///     url if url.ends_with("/login") => attempt.stop(),
    ///     _ => Policy::default().redirect(attempt),
    /// });
    /// let client = Client::builder().redirect(policy).build()?;
    /// let response = client.get(&Context::background(), &url)?;
    /// assert_eq!(response.url(), url + "there");
    /// assert_eq!(response.headers()["location"], "/login");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn custom(decide: impl Fn(Attempt<'_>) -> Action + Send + Sync + 'static) -> Policy {
        Policy { rule: Rule::Custom(Arc::new(decide)) }
    }

    /// Says what this policy does about a redirect, for a custom one that goes on from it.
    ///
    /// See [`custom`](Policy::custom) for an example.
    pub fn redirect(&self, attempt: Attempt<'_>) -> Action {
        match &self.rule {
            Rule::None => attempt.stop(),
            Rule::Limited(n) if attempt.previous.len() > *n => Action { kind: Kind::TooMany(*n) },
            Rule::Limited(_) => attempt.follow(),
            Rule::Custom(decide) => decide(attempt),
        }
    }

    /// Whether it follows none, so that nobody need look at the location.
    pub(super) fn is_none(&self) -> bool {
        matches!(self.rule, Rule::None)
    }

    /// Returns whether to follow a redirect to `url`, after requests for `previous`.
    pub(super) fn decide(&self, status: StatusCode, url: &str, previous: &[String]) -> Result<bool, Error> {
        match self.redirect(Attempt { status, url, previous }).kind {
            Kind::Follow => Ok(true),
            Kind::Stop => Ok(false),
            Kind::TooMany(n) => Err(Error::bare(Phase::TooManyRedirects(n))),
            Kind::Refuse(error) => Err(Error::new(Phase::RedirectRefused, error)),
        }
    }
}

impl<'a> Attempt<'a> {
    /// Tells the status of the redirect.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Tells where the redirect leads.
    pub fn url(&self) -> &'a str {
        self.url
    }

    /// Gives the URLs of the requests so far, the first of which is the caller's. Never empty.
    pub fn previous(&self) -> impl ExactSizeIterator<Item = &'a str> {
        self.previous.iter().map(String::as_str)
    }

    /// Follows the redirect.
    pub fn follow(self) -> Action {
        Action { kind: Kind::Follow }
    }

    /// Makes the redirect the response.
    pub fn stop(self) -> Action {
        Action { kind: Kind::Stop }
    }

    /// Lets the request fail, with an error whose source is this one.
    pub fn error(self, error: impl Into<Box<dyn StdError + Send + Sync>>) -> Action {
        Action { kind: Kind::Refuse(error.into()) }
    }
}

impl Default for Policy {
    fn default() -> Policy {
        Policy::limited(10)
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rule {
            Rule::None => f.write_str("Policy::none()"),
            Rule::Limited(n) => write!(f, "Policy::limited({n})"),
            Rule::Custom(_) => f.write_str("Policy::custom(..)"),
        }
    }
}

const COOKIE2: HeaderName = HeaderName::from_static("cookie2");

/// What a redirect wants.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Redirect {
    pub(crate) url: Url,
    /// Whether the body is sent again. Otherwise the method becomes `GET`, as in all clients,
    /// unless it is `HEAD`.
    pub(crate) keep_body: bool,
    /// Whether its location has no scheme.
    relative: bool,
}

impl Redirect {
    /// Gives the redirect that a response asks for, if it does. A response without a location, or
    /// with an empty one, is a plain response.
    pub(crate) fn of(status: StatusCode, headers: &HeaderMap, from: &Url) -> Result<Option<Redirect>, Error> {
        let keep_body = match status.as_u16() {
            301..=303 => false,
            307 | 308 => true,
            _ => return Ok(None),
        };
        // An empty location would lead to the same URL again. It does not count, as in Go.
        let Some(location) = headers.get(LOCATION).filter(|location| !location.is_empty()) else { return Ok(None) };
        let invalid = || Phase::RedirectTarget(redacted(&String::from_utf8_lossy(location.as_bytes())).into());
        let location_text = as_text(location.as_bytes());
        let url = from.join(&location_text).map_err(|error| Error::new(invalid(), error))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Error::new(invalid(), "the scheme is neither http nor https"));
        }
        let relative = Url::parse(&location_text) == Err(url::ParseError::RelativeUrlWithoutBase);
        Ok(Some(Redirect { url, keep_body, relative }))
    }

    /// Changes the head of the request into that of the next one.
    pub(crate) fn rewrite(&self, from: &Url, method: &mut Method, headers: &mut HeaderMap) {
        let same_origin = from.origin() == self.url.origin();
        // A host that the caller chose was for this origin. Another name of it, which the location
        // says, counts instead.
        if !self.relative || !same_origin {
            headers.remove(HOST);
        }
        if !self.keep_body {
            if *method != Method::HEAD {
                *method = Method::GET;
            }
            for name in
                [CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_TYPE, TRANSFER_ENCODING]
            {
                headers.remove(name);
            }
        }
        // Secrets are only for the origin that they were given for.
        if !same_origin {
            for name in [AUTHORIZATION, COOKIE, COOKIE2, PROXY_AUTHORIZATION, WWW_AUTHENTICATE] {
                headers.remove(name);
            }
        }
    }
}

/// A location as text. If its bytes are not UTF-8, their coding is unknown, and they are
/// percent-encoded as they are.
fn as_text(location: &[u8]) -> Cow<'_, str> {
    let Err(_) = std::str::from_utf8(location) else { return String::from_utf8_lossy(location) };
    let encode = |&byte: &u8| if byte.is_ascii() { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    location.iter().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn of(status: u16, location: &'static str) -> Option<Redirect> {
        let headers = HeaderMap::from_iter([(LOCATION, HeaderValue::from_static(location))]);
        Redirect::of(StatusCode::from_u16(status).unwrap(), &headers, &url("http://a.example/dir/page?q")).unwrap()
    }

    #[test]
    fn a_location_is_relative_to_the_url_that_gave_it() {
        assert_eq!(of(302, "other").unwrap().url, url("http://a.example/dir/other"));
        assert_eq!(of(302, "/top").unwrap().url, url("http://a.example/top"));
        assert_eq!(of(302, "//b.example/x").unwrap().url, url("http://b.example/x"));
        assert_eq!(of(302, "https://b.example").unwrap().url, url("https://b.example/"));
    }

    #[test]
    fn the_status_decides_whether_the_body_is_kept() {
        for (status, keep_body) in [(301, false), (302, false), (303, false), (307, true), (308, true)] {
            assert_eq!(of(status, "/").unwrap().keep_body, keep_body, "{status}");
        }
        for status in [200, 300, 304, 305, 306, 404] {
            assert_eq!(of(status, "/"), None, "{status}");
        }
    }

    #[test]
    fn a_redirect_without_a_location_is_a_plain_response() {
        assert_eq!(Redirect::of(StatusCode::FOUND, &HeaderMap::new(), &url("http://a.example")).unwrap(), None);
        assert_eq!(of(302, ""), None);
    }

    #[test]
    fn a_location_that_is_no_utf_8_is_encoded_byte_by_byte() {
        let check = |location: &[u8], target| {
            let headers = HeaderMap::from_iter([(LOCATION, HeaderValue::from_bytes(location).unwrap())]);
            let redirect = Redirect::of(StatusCode::FOUND, &headers, &url("http://a.example/")).unwrap().unwrap();
            assert_eq!(redirect.url.as_str(), target);
        };
        check(b"/caf\xe9?q=%20\xff", "http://a.example/caf%E9?q=%20%FF");
        check("/café".as_bytes(), "http://a.example/caf%C3%A9");
    }

    #[test]
    fn only_http_is_followed() {
        for location in ["file:///etc/passwd", "gopher://a.example/", "http://", "http://a b/"] {
            let headers = HeaderMap::from_iter([(LOCATION, HeaderValue::from_static(location))]);
            let error = Redirect::of(StatusCode::FOUND, &headers, &url("http://a.example")).unwrap_err();
            assert!(error.is_redirect(), "{location}");
            assert_eq!(error.to_string(), format!("invalid redirect target {location:?}"));
        }
    }

    #[test]
    fn the_method_becomes_get_unless_it_is_kept() {
        let check = |status, before: Method, after: Method| {
            let mut method = before;
            of(status, "/").unwrap().rewrite(&url("http://a.example"), &mut method, &mut HeaderMap::new());
            assert_eq!(method, after);
        };
        check(302, Method::POST, Method::GET);
        check(303, Method::PUT, Method::GET);
        check(301, Method::HEAD, Method::HEAD);
        check(307, Method::POST, Method::POST);
        check(308, Method::DELETE, Method::DELETE);
    }

    #[test]
    fn secrets_stay_with_their_origin() {
        let check = |location, kept: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_static("secret"));
            headers.insert(COOKIE, HeaderValue::from_static("secret"));
            headers.insert("x-harmless", HeaderValue::from_static("value"));
            let mut method = Method::GET;
            of(302, location).unwrap().rewrite(&url("http://a.example"), &mut method, &mut headers);
            assert_eq!(headers.contains_key(AUTHORIZATION), kept, "{location}");
            assert_eq!(headers.contains_key(COOKIE), kept, "{location}");
            assert!(headers.contains_key("x-harmless"), "{location}");
        };
        check("/other", true);
        check("http://a.example:80/", true);
        check("http://a.example:81/", false);
        check("https://a.example/", false);
        check("http://b.example/", false);
    }
}
