//! A line for each request, when its response is over.

use std::mem;
use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use http::header::{HeaderValue, USER_AGENT};
use http::{Method, StatusCode, Uri};

use crate::body::{Body, Source};
use crate::error::Error;
use crate::handler::Handler;
use crate::response::Response;
use crate::server::Request;

/// How much of a body at hand goes on its way at a time. The line is written when the last piece
/// does.
const PIECE: usize = 64 << 10;

/// A middleware that tells `tracing` of each request, when its response is over.
///
/// The event has the target `goby_http::access`, the level `INFO`, and these fields:
///
/// | field | |
/// |---|---|
/// | `method`, `path` | what was asked for; without the query, which may have secrets in it |
/// | `status` | as a number; 500 after a panic |
/// | `bytes` | of the body, as far as it went on its way |
/// | `complete` | whether that was all of it: false if the client left, or the source failed |
/// | `duration_us` | from the call of the handler to the last piece of the body, in microseconds |
/// | `peer` | the client's address |
/// | `user_agent` | as the client says; empty if it says nothing |
///
/// What a client writes is a field and never part of the message; a subscriber escapes it.
///
/// A [`Router`](crate::Router) runs its middlewares after it has found a route. To have what it
/// refuses by itself in the log, too, call it by hand:
///
/// ```
/// use goby::Context;
/// use goby_http::{Request, Router, Server, access_log, get};
///
/// let router = Router::new().get("/", |_: Request| "hello");
/// let server = Server::bind("127.0.0.1:0")?;
/// let url = format!("http://{}/", server.local_addr());
/// let (serving, _stop) = Context::background().with_cancel();
/// goby::go(move || server.serve_ctx(&serving, move |request: Request| access_log(request, &router)));
/// // INFO goby_http::access: request method=GET path="/" status=200 bytes=5 complete=true duration_us=12 …
/// assert_eq!(get(&Context::background(), url)?.text()?, "hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn access_log(request: Request, next: &dyn Handler) -> Response {
    let mut record = Record {
        start: goby::now(),
        method: request.method().clone(),
        uri: request.uri().clone(),
        peer: request.remote_addr(),
        user_agent: request.headers().get(USER_AGENT).cloned(),
        // Unless the handler returns.
        status: StatusCode::INTERNAL_SERVER_ERROR,
        bytes: 0,
        complete: false,
    };
    let mut response = next.handle(request);
    record.status = response.status();
    let is_bare = matches!(record.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if is_bare || record.method == Method::HEAD || response.reader().is_empty() {
        record.complete = true;
        return response;
    }
    let body = mem::take(response.reader());
    let kind = body.kind();
    *response.reader() = Body::from_source(Logged { body, rest: Bytes::new(), record }).of_kind(kind);
    response
}

/// What is known of a request. Its drop writes the line.
struct Record {
    start: Instant,
    method: Method,
    uri: Uri,
    peer: SocketAddr,
    user_agent: Option<HeaderValue>,
    status: StatusCode,
    bytes: u64,
    complete: bool,
}

impl Drop for Record {
    fn drop(&mut self) {
        let user_agent = self.user_agent.as_ref().map(|name| String::from_utf8_lossy(name.as_bytes()));
        tracing::info!(
            target: "goby_http::access",
            method = self.method.as_str(),
            path = self.uri.path(),
            status = self.status.as_u16(),
            bytes = self.bytes,
            complete = self.complete,
            duration_us = u64::try_from(goby::now().saturating_duration_since(self.start).as_micros()).unwrap_or(u64::MAX),
            peer = %self.peer,
            user_agent = user_agent.as_deref().unwrap_or_default(),
            "request"
        );
    }
}

/// A body that counts what goes on its way.
struct Logged {
    body: Body,
    rest: Bytes,
    record: Record,
}

impl Source for Logged {
    fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        if self.rest.is_empty() {
            match self.body.chunk()? {
                Some(chunk) => self.rest = chunk,
                None => {
                    self.record.complete = true;
                    return Ok(None);
                }
            }
        }
        let chunk = self.rest.split_to(self.rest.len().min(PIECE));
        self.record.bytes += chunk.len() as u64;
        // A body of known length is not asked again.
        self.record.complete = self.remaining() == Some(0);
        Ok(Some(chunk))
    }

    fn remaining(&self) -> Option<u64> {
        Some(self.body.len()? + self.rest.len() as u64)
    }
}
