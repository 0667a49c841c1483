//! How long a message is, from one source: its body.
//!
//! hyper trusts a `content-length` that was set by hand. A wrong one puts the connection out of
//! step: the other side takes the rest of one message for the beginning of the next, or waits for
//! bytes that never come. So these functions take such headers out, on both sides, and hyper writes
//! them from the body:
//!
//! | the body            | a `content-length` set by hand                                      |
//! |---------------------|---------------------------------------------------------------------|
//! | has a known length  | gives way to it                                                     |
//! | is of unknown length| is its length: more is not sent, and less breaks the message off    |
//! | is not sent (`HEAD`)| stays, unless the body that would be sent has another length        |
//!
//! A `transfer-encoding` set by hand is taken out: goby speaks only `chunked`, where the length is
//! unknown.

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::{Method, StatusCode};

use crate::body::Body;

/// The headers and body of a response, as hyper is to have them.
pub(crate) struct Framed {
    pub(crate) body: Body,
    /// What was wrong with the headers, and has been mended.
    pub(crate) mended: Option<String>,
}

/// Prepares a response to a request with `method`. A body that is not to be sent is dropped, so it
/// keeps no file open.
///
/// # Errors
///
/// When the headers make no sense.
pub(crate) fn frame_response(
    method: &Method,
    status: StatusCode,
    headers: &mut HeaderMap,
    body: Body,
) -> Result<Framed, String> {
    let claimed = unframe(headers);
    if status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED || status.is_informational() {
        return Ok(Framed { body: Body::empty(), mended: None });
    }
    let claimed = claimed?;
    if let Some(kind) = body.kind().filter(|_| !body.is_empty()) {
        headers.entry(CONTENT_TYPE).or_insert_with(|| kind.clone());
    }
    let mended = match (claimed, body.len()) {
        // A handler may leave out a body that is not sent.
        (Some(_), Some(0)) if *method == Method::HEAD => None,
        (Some(claimed), Some(len)) if claimed != len => {
            Some(format!("content-length says {claimed}, but the body has {len} bytes"))
        }
        _ => None,
    };
    if *method == Method::HEAD {
        if let Some(len) = body.len().filter(|len| *len > 0).or(claimed) {
            headers.insert(CONTENT_LENGTH, len.into());
        }
        return Ok(Framed { body: Body::empty(), mended });
    }
    if *method == Method::CONNECT && status.is_success() {
        return Ok(Framed { body: Body::empty(), mended });
    }
    let body = match claimed {
        Some(claimed) if body.len().is_none() => body.cut(claimed),
        _ => body,
    };
    Ok(Framed { body, mended })
}

/// Takes out what headers say of the body's framing, and returns the length that they claim.
///
/// # Errors
///
/// When that is not a length.
pub(crate) fn unframe(headers: &mut HeaderMap) -> Result<Option<u64>, String> {
    // One look at the names costs less than looking each up.
    if !headers.keys().any(|name| *name == CONTENT_LENGTH || *name == TRANSFER_ENCODING) {
        return Ok(None);
    }
    headers.remove(TRANSFER_ENCODING);
    take_content_length(headers)
}

/// Adds the headers of a request that hyper does not add, for a body of length `len`, if that is
/// known.
pub(crate) fn frame_request(method: &Method, headers: &mut HeaderMap, len: Option<u64>) {
    match len {
        // A server expects a body with these methods: it may wait for it, or refuse the request, if
        // nothing says that it is empty.
        Some(0) if matches!(*method, Method::POST | Method::PUT | Method::PATCH) => {
            headers.insert(CONTENT_LENGTH, 0.into());
        }
        Some(_) => {}
        // Without this, hyper would leave out the body of a GET.
        None => {
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }
}

fn take_content_length(headers: &mut HeaderMap) -> Result<Option<u64>, String> {
    let mut len = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        let digits = value.to_str().ok().filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        match digits.and_then(|digits| digits.parse::<u64>().ok()) {
            Some(this) if len.is_none_or(|len| len == this) => len = Some(this),
            _ => return Err(format!("content-length says {value:?}")),
        }
    }
    headers.remove(CONTENT_LENGTH);
    Ok(len)
}
