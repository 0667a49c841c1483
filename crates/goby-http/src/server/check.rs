//! What the server refuses before a handler sees it, beyond what hyper does: RFC 9112, sections 3.2
//! and 6.1.
//!
//! A limit of hyper's: it answers a raw `"` in the target's query with 400 itself. Browsers send it
//! encoded, and Go takes it.

use http::header::{HOST, HeaderValue, TRANSFER_ENCODING};
use http::{Method, Request, StatusCode, Uri, Version};

use crate::stream::Link;

/// The status that a request is refused with, if it is.
pub(super) fn refuse<B>(request: &Request<B>) -> Option<StatusCode> {
    // One walk over the headers costs less than looking both up.
    let (mut hosts, mut codings, mut is_plain) = (0, 0, true);
    for (name, value) in request.headers() {
        if *name == HOST {
            hosts += 1;
            if !value.as_bytes().iter().all(|byte| IN_HOSTS[usize::from(*byte)]) {
                return Some(StatusCode::BAD_REQUEST);
            }
        } else if *name == TRANSFER_ENCODING {
            codings += 1;
            is_plain = value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
        }
    }
    // One host, which may be empty; old clients need none.
    let is_host_fine = hosts == 1 || hosts == 0 && request.version() == Version::HTTP_10;
    if !is_host_fine || !is_target_fine(request.method(), request.uri()) {
        return Some(StatusCode::BAD_REQUEST);
    }
    // hyper has checked that `chunked` comes last. A coding before it is still on the body.
    if is_plain && codings <= 1 { None } else { Some(StatusCode::NOT_IMPLEMENTED) }
}

/// Which bytes a host name, an address or a port may contain.
const IN_HOSTS: [bool; 256] = {
    let mut known = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        known[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let others = b"!$%&'()*+,-.:;=[]_~";
    let mut n = 0;
    while n < others.len() {
        known[others[n] as usize] = true;
        n += 1;
    }
    known
};

/// A path; a whole URL; `*`, of `OPTIONS` alone; or a host and port, of `CONNECT` alone.
fn is_target_fine(method: &Method, target: &Uri) -> bool {
    match (target.scheme().is_some(), target.authority()) {
        (false, Some(_)) => *method == Method::CONNECT,
        // A name and a password have no place there: RFC 9110, section 4.2.4.
        (true, Some(authority)) if authority.as_str().contains('@') => false,
        _ => target.path() != "*" || *method == Method::OPTIONS,
    }
}

/// Refuses a request that has both a length and a transfer coding. A proxy in between may have gone
/// by the length: what follows would be another request to it than to this server. Source: RFC
/// 9112, section 6.1.
pub(super) fn refuse_length<B>(link: &Link, request: &Request<B>) -> Option<StatusCode> {
    let is_refused = link.has_length() && request.headers().contains_key(TRANSFER_ENCODING);
    is_refused.then_some(StatusCode::BAD_REQUEST)
}

/// Whether a request is its connection's last one, since it may have a length that was not seen
/// beside its transfer coding.
pub(super) fn is_last<B>(link: &Link, request: &Request<B>) -> bool {
    link.is_unfollowed() && request.headers().contains_key(TRANSFER_ENCODING)
}

/// Makes the host of a target that is a whole URL the request's host, whatever its header says: RFC
/// 9112, section 3.2.2.
pub(super) fn adopt_host<B>(request: &mut Request<B>) {
    let host = request.uri().authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok());
    if let Some(host) = host {
        request.headers_mut().insert(HOST, host);
    }
}
