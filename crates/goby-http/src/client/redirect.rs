//! Where a redirect leads, and what the next request keeps of the one before.

use std::borrow::Cow;

use http::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_TYPE, COOKIE, HOST,
    LOCATION, PROXY_AUTHORIZATION, TRANSFER_ENCODING,
};
use http::{HeaderMap, Method, StatusCode};
use url::Url;

use crate::error::{Error, Phase, redacted};

/// What a redirect wants.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Redirect {
    pub(crate) url: Url,
    /// Whether the body is sent again. Otherwise the method becomes `GET`, as in all clients,
    /// unless it is `HEAD`.
    pub(crate) keep_body: bool,
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
        let url = from.join(&as_text(location.as_bytes())).map_err(|error| Error::new(invalid(), error))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Error::new(invalid(), "the scheme is neither http nor https"));
        }
        Ok(Some(Redirect { url, keep_body }))
    }

    /// Changes the head of the request into that of the next one.
    pub(crate) fn rewrite(&self, from: &Url, method: &mut Method, headers: &mut HeaderMap) {
        // A host that the caller chose was for the first request.
        headers.remove(HOST);
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
        if from.origin() != self.url.origin() {
            for name in [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION] {
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
