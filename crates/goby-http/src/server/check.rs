//! What the server refuses before a handler sees it, beyond what hyper does: RFC 9112, sections 3.2
//! and 6.1.
//!
//! A limit of hyper's: it answers a raw `"` in the target's query with 400 itself. Browsers send it
//! encoded, and Go takes it.

use http::header::{HOST, TRANSFER_ENCODING};
use http::{HeaderMap, Method, Request, StatusCode, Uri, Version};

/// The status that a request is refused with, if it is.
pub(super) fn refuse<B>(request: &Request<B>) -> Option<StatusCode> {
    let headers = request.headers();
    if !is_host_fine(request.version(), headers) || !is_target_fine(request.method(), request.uri()) {
        return Some(StatusCode::BAD_REQUEST);
    }
    // hyper has checked that `chunked` comes last. A coding before it is still on the body.
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let is_plain = match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    };
    if is_plain { None } else { Some(StatusCode::NOT_IMPLEMENTED) }
}

/// One host, which may be empty; old clients need none.
fn is_host_fine(version: Version, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => version == Version::HTTP_10,
        (Some(host), None) => host.as_bytes().iter().copied().all(is_host_byte),
        (Some(_), Some(_)) => false,
    }
}

/// Whether a host name, an address or a port may contain `byte`.
fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!$%&'()*+,-.:;=[]_~".contains(&byte)
}

/// A path; a whole URL; `*`, of `OPTIONS` alone; or a host and port, of `CONNECT` alone.
fn is_target_fine(method: &Method, target: &Uri) -> bool {
    match (target.scheme().is_some(), target.authority().is_some()) {
        (false, true) => *method == Method::CONNECT,
        _ => target.path() != "*" || *method == Method::OPTIONS,
    }
}
