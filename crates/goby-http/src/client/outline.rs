//! The head of a request, from what the caller gave.

use http::header::{AUTHORIZATION, COOKIE, HOST, HeaderValue, PROXY_AUTHORIZATION};
use http::{HeaderMap, Method, Uri};
use http_body::Body as _;
use url::{Position, Url};

use super::pool::Place;
use crate::body::Outgoing;
use crate::error::{Error, Phase, redacted};
use crate::framing::frame_request;

/// The parts of a request that are kept for redirects and second attempts.
pub(super) struct Outline {
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) url: Url,
    /// Whether the client has asked for a content coding by itself, and so takes it off.
    pub(super) decode: bool,
}

impl Outline {
    pub(super) fn new(method: Method, url: &str) -> Result<Outline, Error> {
        let url = parse_url(url)?;
        Ok(Outline { method, headers: HeaderMap::new(), url, decode: false })
    }

    /// Sets the header `cookie` to what the caller has set.
    pub(super) fn set_cookies(&mut self, callers: Option<HeaderValue>) {
        match callers {
            Some(cookies) => drop(self.headers.insert(COOKIE, cookies)),
            None => drop(self.headers.remove(COOKIE)),
        }
    }

    /// Adds those headers that it has not yet.
    pub(super) fn add_defaults(&mut self, headers: &HeaderMap) {
        for name in headers.keys() {
            if !self.headers.contains_key(name) {
                for value in headers.get_all(name) {
                    self.headers.append(name, value.clone());
                }
            }
        }
    }

    /// Whether the server may get it twice. Source: Go's `Request.isReplayable`.
    pub(super) fn is_repeatable(&self) -> bool {
        let has_key = ["idempotency-key", "x-idempotency-key"].iter().any(|name| self.headers.contains_key(*name));
        self.method.is_safe() || has_key
    }

    /// The request as it goes over the connection.
    pub(super) fn request(&self, body: Outgoing, place: &Place) -> Result<http::Request<Outgoing>, Error> {
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
        let mut headers = HeaderMap::with_capacity(self.headers.len() + 2);
        if !self.headers.contains_key(HOST) {
            let host = &self.url[Position::BeforeHost..Position::AfterPort];
            headers.insert(HOST, HeaderValue::from_str(host).map_err(|error| Error::new(invalid(), error))?);
        }
        if !self.url.username().is_empty() || self.url.password().is_some() {
            headers.entry(AUTHORIZATION).or_insert(basic_auth(&self.url));
        }
        let authorization =
            place.via.as_ref().filter(|_| place.is_forwarded()).and_then(|proxy| proxy.authorization.clone());
        if let Some(authorization) = authorization.filter(|_| !self.headers.contains_key(PROXY_AUTHORIZATION)) {
            headers.insert(PROXY_AUTHORIZATION, authorization);
        }
        headers.extend(self.headers.clone());
        frame_request(&self.method, &mut headers, request.body().size_hint().exact());
        *request.headers_mut() = headers;
        Ok(request)
    }
}

pub(super) fn parse_url(text: &str) -> Result<Url, Error> {
    let invalid = || Phase::Url(redacted(text).into());
    let url = Url::parse(text).map_err(|error| Error::new(invalid(), error))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Error::new(invalid(), "the scheme is neither http nor https"));
    }
    Ok(url)
}

/// The credentials of a URL as a header.
pub(super) fn basic_auth(url: &Url) -> HeaderValue {
    credentials(&percent_decode(url.username()), &percent_decode(url.password().unwrap_or("")))
}

/// A name and a password as a header, encoded in base 64.
pub(super) fn credentials(name: &[u8], password: &[u8]) -> HeaderValue {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = b"Basic ".to_vec();
    for group in [name, b":", password].concat().chunks(3) {
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

pub(super) fn percent_decode(text: &str) -> Vec<u8> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::proxy::Proxies;

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
            let outline = Outline::new(Method::GET, url).unwrap();
            let place = Proxies::Own(Vec::new()).place(&outline.url).unwrap();
            let request = outline.request(Outgoing::Whole(bytes::Bytes::new()), &place).unwrap();
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
