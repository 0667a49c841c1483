//! The middleware that compresses responses.

use std::mem;

use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap,
    HeaderValue, VARY,
};
use http::{Method, StatusCode};

use super::Coding;
use super::accept::choose;
use super::encode::{Encoder, encode};
use crate::body::Body;
use crate::handler::Handler;
use crate::response::Response;
use crate::server::Request;

/// The length from which on a body is compressed. A shorter one saves nothing: it fits into one
/// packet with its head.
const SHORTEST: u64 = 256;

/// Types and groups of types that are compressed already.
const COMPRESSED: &[&str] = &[
    "image/",
    "audio/",
    "video/",
    "font/woff",
    "application/zip",
    "application/gzip",
    "application/zstd",
    "application/x-brotli",
    "application/x-bzip2",
    "application/x-xz",
    "application/x-7z-compressed",
    "application/x-rar-compressed",
    "application/vnd.rar",
    "application/java-archive",
    "application/font-woff",
    "application/epub+zip",
    "application/vnd.openxmlformats-",
    "application/vnd.oasis.opendocument.",
    "application/grpc",
];

/// Exceptions from those.
const PLAIN: &[&str] = &["image/svg+xml", "image/bmp", "image/vnd.microsoft.icon", "image/x-icon"];

/// A middleware that compresses the bodies of responses, as far as the client wants that
/// (`accept-encoding`, with its weights).
///
/// A body at hand is compressed at once and has a length again. A streamed one is compressed as it
/// is sent. If its length is unknown, each piece is flushed through: events arrive when they are
/// sent.
///
/// It leaves a response alone that
///
/// - has less than 256 bytes, or does not become shorter,
/// - has a `content-encoding` already, or a type that is compressed by itself (images, videos,
///   archives),
/// - is a part of something (206, `content-range`), or says `cache-control: no-transform`.
///
/// A compressed response has other bytes than the plain one: its `etag` becomes a weak one, and it
/// offers no ranges. `vary: accept-encoding` tells caches that there are two.
///
/// Whoever can have a text of their choice in a response beside a secret, and sees how long the
/// compressed response is, can guess the secret (BREACH): such pages are not to be compressed over
/// TLS.
///
/// ```
/// use goby_http::{Request, Router, encoding};
/// let router = Router::new().get("/", |_: Request| "text ".repeat(1000)).with(encoding::compress);
/// ```
pub fn compress(request: Request, next: &dyn Handler) -> Response {
    let coding = choose(request.headers());
    let is_head = request.method() == Method::HEAD;
    let mut response = next.handle(request);
    if response.status() == StatusCode::NOT_MODIFIED {
        vary(response.headers_mut());
        return response;
    }
    if !is_compressible(&mut response) {
        return response;
    }
    vary(response.headers_mut());
    let Some(coding) = coding else { return response };
    let body = mem::take(response.reader());
    let kind = body.kind();
    if is_head {
        if let Some(kind) = kind {
            response.headers_mut().entry(CONTENT_TYPE).or_insert_with(|| kind.clone());
        }
        mark(response.headers_mut(), coding);
        return response;
    }
    let plain = match body.whole() {
        Some(bytes) => match encode(coding, bytes) {
            Ok(coded) if coded.len() < bytes.len() => {
                *response.reader() = Body::from(coded).of_kind(kind);
                mark(response.headers_mut(), coding);
                return response;
            }
            _ => body,
        },
        None => match Encoder::new(coding, claimed(response.headers(), body)) {
            Ok(encoder) => {
                *response.reader() = Body::from_source(encoder).of_kind(kind);
                mark(response.headers_mut(), coding);
                return response;
            }
            // There is no memory for the coder.
            Err(_) => return Response::from(StatusCode::SERVICE_UNAVAILABLE),
        },
    };
    *response.reader() = plain;
    response
}

/// A header's value as text, or nothing.
fn in_words(value: Option<&HeaderValue>) -> &str {
    value.and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn is_compressible(response: &mut Response) -> bool {
    let (status, len, kind) = (response.status(), response.content_length(), response.reader().kind());
    let headers = response.headers();
    let partial = status == StatusCode::PARTIAL_CONTENT || headers.contains_key(CONTENT_RANGE);
    if partial || status.is_informational() || headers.contains_key(CONTENT_ENCODING) {
        return false;
    }
    if len.is_some_and(|len| len < SHORTEST)
        || in_words(headers.get(CACHE_CONTROL)).to_ascii_lowercase().contains("no-transform")
    {
        return false;
    }
    let kind = in_words(headers.get(CONTENT_TYPE).or(kind)).to_ascii_lowercase();
    let is_in = |kinds: &[&str]| kinds.iter().any(|known| kind.starts_with(known));
    is_in(PLAIN) || !is_in(COMPRESSED)
}

/// Cuts a streamed body to the length that its head claims, which goes out of the head.
fn claimed(headers: &HeaderMap, body: Body) -> Body {
    let claim = headers.get(CONTENT_LENGTH).and_then(|len| len.to_str().ok()).and_then(|len| len.parse().ok());
    match claim {
        Some(len) if body.len().is_none() => body.cut(len),
        _ => body,
    }
}

/// Says how the body is coded, and takes back what holds for the plain one.
fn mark(headers: &mut HeaderMap, coding: Coding) {
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    headers.remove(CONTENT_LENGTH);
    headers.remove(ACCEPT_RANGES);
    if let Some(tag) = headers.get(ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/"))
        && let Ok(weak) = HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat())
    {
        headers.insert(ETAG, weak);
    }
}

/// Says that the response depends on what the client accepts.
fn vary(headers: &mut HeaderMap) {
    let mut names = headers.get_all(VARY).iter().filter_map(|names| names.to_str().ok()).flat_map(|n| n.split(','));
    if !names.any(|name| matches!(&*name.trim().to_ascii_lowercase(), "*" | "accept-encoding")) {
        headers.append(VARY, HeaderValue::from_static("accept-encoding"));
    }
}
