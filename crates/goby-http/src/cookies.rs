//! Cookies, by the crate [`cookie`].
//!
//! Values are percent-encoded where a cookie may not have a character, so any text comes back as it
//! was. Names are not: a decoded name could pass for one with the prefix `__Host-`, which a browser
//! guards.

use cookie::Cookie;
use http::HeaderName;
use http::header::{COOKIE, SET_COOKIE};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use crate::response::Response;
use crate::server::Request;

/// What a value may not have (RFC 6265, section 4.1.1), and the `%`.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%').add(b',').add(b';').add(b'\\');

impl Request {
    /// Gives the cookies that the client sent, with their values decoded. What is no cookie is left
    /// out. Source: Go's `Request.Cookies`.
    ///
    /// ```
    /// # goby_http::doc_test(|request| {
    /// assert_eq!(request.cookies().count(), 0);
    /// # });
    /// ```
    pub fn cookies(&self) -> impl Iterator<Item = Cookie<'_>> {
        let headers = self.headers().get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        headers.flat_map(Cookie::split_parse).filter_map(Result::ok).map(|mut cookie| {
            let decoded = percent_decode_str(cookie.value()).decode_utf8().ok().map(|value| value.into_owned());
            if let Some(decoded) = decoded {
                cookie.set_value(decoded);
            }
            cookie
        })
    }

    /// Gives the first cookie of this name. Source: Go's `Request.Cookie`.
    ///
    /// ```
    /// use goby_http::{Request, Response, Router, cookie::Cookie};
    /// let router = Router::new().get("/", |request: Request| {
    ///     let last = request.cookie("visits").and_then(|cookie| cookie.value().parse().ok());
    ///     let visits = last.unwrap_or(0_u32) + 1;
    ///     let cookie = Cookie::new("visits", visits.to_string());
    ///     Response::new(format!("visit {visits}")).with_cookie(cookie)
    /// });
    /// ```
    pub fn cookie(&self, name: &str) -> Option<Cookie<'_>> {
        self.cookies().find(|cookie| cookie.name() == name)
    }
}

impl Response {
    /// Sets a cookie, beside others. Its value may be any text. Source: Go's `SetCookie`.
    ///
    /// ```
    /// use goby_http::Response;
    /// use goby_http::cookie::{Cookie, SameSite};
    ///
    /// let cookie = Cookie::build(("session", "a b")).http_only(true).same_site(SameSite::Lax).path("/");
    /// let response = Response::new("hello").with_cookie(cookie);
    /// assert_eq!(response.headers()["set-cookie"], "session=a%20b; HttpOnly; SameSite=Lax; Path=/");
    ///
    /// // The client forgets it.
    /// let response = Response::new("bye").with_cookie(Cookie::build("session").path("/").removal());
    /// assert!(response.headers()["set-cookie"].to_str().unwrap().contains("Max-Age=0"));
    /// ```
    ///
    /// # Panics
    ///
    /// When its name, path or domain have characters that they may not have.
    #[must_use]
    pub fn with_cookie<'a>(mut self, cookie: impl Into<Cookie<'a>>) -> Response {
        let mut cookie = cookie.into();
        let is_fine = |text: Option<&str>| !text.is_some_and(|text| text.contains(';'));
        assert!(HeaderName::from_bytes(cookie.name().as_bytes()).is_ok(), "no name of a cookie: {:?}", cookie.name());
        assert!(is_fine(cookie.path()) && is_fine(cookie.domain()), "the path or domain of a cookie has a semicolon");
        let encoded = utf8_percent_encode(cookie.value(), ENCODED).to_string();
        cookie.set_value(encoded);
        let header = cookie.to_string().try_into().expect("a cookie without control characters");
        self.headers_mut().append(SET_COOKIE, header);
        self
    }
}
