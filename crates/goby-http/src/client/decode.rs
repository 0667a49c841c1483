//! Responses whose content codings are taken off.
//!
//! As in Go, a client asks for compressed bodies by itself, unless the request has a header
//! `accept-encoding` or `range`, or is a `HEAD`. Only what it has asked for by itself is decoded.

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, RANGE};
use http::{HeaderMap, HeaderValue, Method};
use url::Url;

use crate::body::{Body, Source};
use crate::encoding::{Coding, decode_response};
use crate::error::{Error, Phase};
use crate::response::Origin;

/// Asks for compressed bodies, and returns whether it did.
pub(super) fn ask(method: &Method, headers: &mut HeaderMap) -> bool {
    let asks = *method != Method::HEAD && !headers.contains_key(ACCEPT_ENCODING) && !headers.contains_key(RANGE);
    if asks {
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(Coding::ACCEPT));
    }
    asks
}

/// Takes the codings off a response that was asked for. At most `limit` bytes come out of its body.
pub(super) fn decoded(headers: &mut HeaderMap, body: Body, limit: u64, origin: &Origin) -> Body {
    if body.is_empty() || !headers.contains_key(CONTENT_ENCODING) {
        return body;
    }
    let body = decode_response(headers, body);
    if headers.contains_key(CONTENT_ENCODING) {
        // The coding is unknown.
        return body;
    }
    let request = Url::parse(&origin.url).ok().map(|url| (origin.method.clone(), url));
    Body::from_source(Limited { body, left: limit, limit, request })
}

/// A decoded body: a few bytes that came may have become any number.
struct Limited {
    body: Body,
    left: u64,
    limit: u64,
    /// The request, for errors.
    request: Option<(Method, Url)>,
}

impl Limited {
    fn name(&self, error: Error) -> Error {
        match &self.request {
            Some((method, url)) => error.of_request(method, url),
            None => error,
        }
    }
}

impl Source for Limited {
    fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let chunk = self.body.chunk().map_err(|error| self.name(error))?;
        let len = chunk.as_ref().map_or(0, Bytes::len) as u64;
        match self.left.checked_sub(len) {
            Some(left) => self.left = left,
            None => return Err(self.name(Error::bare(Phase::TooLarge(self.limit)))),
        }
        Ok(chunk)
    }

    fn remaining(&self) -> Option<u64> {
        None
    }
}
