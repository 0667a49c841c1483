//! HTTP for goby: a client (HTTP/1.1) and a server (HTTP/1.1 and HTTP/2), as straight-line code
//! over hyper.
//!
//! A request parks the goroutine that makes it, a handler may park the goroutine that serves its
//! connection, and bodies are [`Read`](std::io::Read). A [`Context`](goby::Context) ends every
//! wait: when it is done, the request stops and its socket is closed, whatever the request was
//! doing.
//!
//! ```
//! use goby::Context;
//! use goby_http::{Request, Server, get};
//! use std::time::Duration;
//!
//! let server = Server::bind("127.0.0.1:0")?;
//! let url = format!("http://{}/", server.local_addr());
//! let (serving, _stop) = Context::background().with_cancel();
//! goby::go(move || server.serve_ctx(&serving, |request: Request| format!("you asked for {}", request.path())));
//!
//! let (ctx, _cancel) = Context::background().with_timeout(Duration::from_secs(5));
//! let body = get(&ctx, &url)?.bytes()?;
//! assert_eq!(body, "you asked for /");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The client
//!
//! [`get`] makes one request. A [`Client`] has settings: time-outs, [redirects](redirect),
//! certificates, default headers, limits. It keeps connections for later requests.
//! [`Client::prepare`] puts a request together: headers, credentials, a query, JSON, a form. The
//! guide has pages on [HTTP requests](guide::http_requests) and on
//! [connections](guide::client_connections): limits of time, proxies, trust.
//!
//! An [`Error`] tells by predicates how far a request came, and whether time ran out or the context
//! was canceled.
//!
//! # The server
//!
//! [`serve`] serves a handler on a listener. A [`Server`] has settings and can be shut down. Each
//! connection has one goroutine; with HTTP/2, each request has one, too. After a second without a
//! request, a connection of HTTP/1.1 has none, until the next one comes. A [`Handler`] is a
//! function that may park, return an error and panic. A [`Router`] chooses one by path and method.
//! The guide has a page on [HTTP services](guide::http_services).
//!
//! A server speaks TLS if it is given certificates ([`Server::tls`]); it listens at TCP or at Unix
//! sockets ([`Server::from_unix`]).
//!
//! The server refuses an invalid request: one without exactly one valid `Host`, with a target that
//! is neither a path nor a URL, or with both a `Content-Length` and a `Transfer-Encoding` (400),
//! and one with a body that has a coding besides `chunked` (501). If the target is a URL, the
//! header `host` is that URL's host. A client that is refused while it sends has 15 seconds to go
//! on, so that it hears of it. Only the body of a response decides how it is sent; see
//! [`Response::new`] for headers that claim something else.
//!
//! # Other protocols
//!
//! A handler may switch its connection to another protocol ([`Request::upgrade`]), or make a tunnel
//! of it ([`Request::tunnel`]); a client gets one from [`Response::upgrade`]. The feature
//! `websocket` has WebSockets.
//!
//! # HTTP/2
//!
//! Over TLS, the client chooses the version (ALPN). Without TLS, a server takes HTTP/2 from a
//! client that begins with it, if that is [allowed](Server::h2c). The handler sees no difference
//! but the [version](Request::version): the target is a path, the authority is the header `host`,
//! and cookies are one header.
//!
//! A request's context is done when the client resets its stream, too. A panic, or the error of a
//! body, costs its stream and not its connection. Requests of one connection that may run at a time
//! are [limited](Server::max_concurrent_streams), and those whose streams the client has reset
//! count until their handlers return. A client that takes nothing of a response for too long loses
//! its stream, see [below](#limits). Interim responses, trailers and push are not sent.
//!
//! # Services of hyper, axum and tonic
//!
//! [`rt`] has what hyper wants of a runtime. With it, hyper serves an axum `Router`, a tonic
//! service, or any other, over goby's sockets and without tokio's runtime. That includes HTTP/2.
//!
//! # Limits
//!
//! | a server's limit | default | what it is against |
//! |---|---|---|
//! | [`header_timeout`](Server::header_timeout) | 30 s | heads that drip (slowloris) |
//! | [`idle_timeout`](Server::idle_timeout) | 2 minutes | connections kept for nothing |
//! | [`stall_timeout`](Server::stall_timeout) | 60 s | uploads that stop, clients that do not read |
//! | [`read_timeout`](Server::read_timeout), [`write_timeout`](Server::write_timeout) | none | whole requests and responses that take too long |
//! | [`max_head_bytes`](Server::max_head_bytes) | 400 KiB | long heads (431) |
//! | [`max_body_bytes`](Server::max_body_bytes) | none | long bodies (413) |
//! | [`max_connections`](Server::max_connections) | none | too many clients at a time |
//! | [`max_requests_per_connection`](Server::max_requests_per_connection) | none | clients that never reconnect |
//! | [`with_timeout`] | – | handlers that take too long (503) |
//!
//! They hold in HTTP/1.1 and in HTTP/2, where the head may have 64 KiB by default, and which has
//! limits of its own ([`max_concurrent_streams`](Server::max_concurrent_streams)).
//!
//! A server that stops finishes the requests under way. For a head that has begun it waits 5 s at
//! most.
//!
//! With HTTP/1.1, the head of a message may have some 400 KB and 20,000 fields. For a response,
//! that includes the heads of all interim responses before it. If a request with a chunked body and
//! the next one come in one piece, later heads on the same connection may have 100 fields. A
//! connection ends with a request that has trailers, or a chunked body that was not read to its
//! end. A raw `"` in the query of a request is refused (400), though some clients send it.
//!
//! # Features
//!
//! All but `brotli`, `cookie_jar`, `gzip`, `multipart`, `websocket` and `zstd` are on by default;
//! `default-features = false` leaves them out.
//!
//! - `brotli`, `gzip`, `zstd`: content codings both ways, in the module `encoding`, by the crates
//!   `brotli`, `flate2` and `zstd`; the last one needs a C compiler.
//! - `cookie_jar`: `CookieJar`, cookies that a client keeps, by the crates `cookie_store` and
//!   `psl`.
//! - `cookies`: [`Request::cookies`] and [`Response::with_cookie`], by the crate [`cookie`].
//! - `http2`: HTTP/2 for the server, over hyper's h2.
//! - `json`: [`Request::json`], [`Request::form`], [`Request::query_as`] and [`Response::json`] for
//!   handlers; `RequestBuilder::json`, `form` and `query`, and [`Response::json_as`] for clients;
//!   by serde. And `debug`, the page that shows what goroutines do.
//! - `multipart`: forms with files: `Request::multipart` for handlers, by the crate `multer`, and
//!   `RequestBuilder::multipart` for clients.
//! - `tls`: `https` URLs, and TLS for the server, by goby's feature of that name: rustls, ring, and
//!   the system's roots. Without it a request for such a URL fails with an error whose
//!   [`is_tls`](Error::is_tls) is true, before anything is sent.
//! - `tracing`: goby's own feature of that name, and `access_log`.
//! - `websocket`: `Request::websocket` and `Client::websocket`, by the crate `tungstenite`.
//!
//! The types of the [`http`] crate are used where they fit: methods, headers, status codes.

#![forbid(unsafe_code)]

#[cfg(feature = "tracing")]
mod access_log;
mod body;
mod client;
#[cfg(feature = "cookies")]
mod cookies;
#[cfg(feature = "json")]
pub mod debug;
#[cfg(any(feature = "brotli", feature = "gzip", feature = "zstd"))]
pub mod encoding;
mod error;
mod extract;
pub mod files;
#[cfg(feature = "multipart")]
mod form;
mod framing;
pub mod guide;
mod handler;
mod head;
mod intake;
#[cfg(feature = "json")]
mod json;
#[cfg(feature = "multipart")]
mod multipart;
mod rejection;
mod response;
mod router;
pub mod rt;
mod server;
mod socket;
pub mod sse;
mod stall;
mod stream;
mod upgrade;
#[cfg(feature = "websocket")]
pub mod websocket;
// The one place that depends on the feature: both files have the same functions.
#[cfg_attr(not(feature = "tls"), path = "no_tls.rs")]
mod tls;
mod writer;

#[cfg(feature = "cookies")]
pub use cookie;
pub use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version, header};

#[cfg(feature = "tracing")]
pub use access_log::access_log;
pub use body::Body;
#[cfg(feature = "cookie_jar")]
pub use client::CookieJar;
pub use client::{Client, ClientBuilder, Proxy, RequestBuilder, get, redirect};
pub use error::{Error, redacted};
#[cfg(feature = "multipart")]
pub use form::{Form, Part};
pub use handler::Handler;
#[cfg(feature = "multipart")]
pub use multipart::{Field, Multipart};
pub use rejection::Rejection;
pub use response::Response;
pub use router::Router;
pub use server::{Request, Server, serve, with_timeout};
pub use upgrade::Upgraded;
pub use writer::BodyWriter;

/// Calls `check` with a request for `/path?a=b`, for the examples of [`Request`].
#[doc(hidden)]
pub fn doc_test(check: impl Fn(Request) + Send + Sync + 'static) {
    let server = Server::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/path?a=b", server.local_addr());
    goby::scope(|scope| {
        scope.go(|| server.serve(move |request: Request| check(request)));
        let client = Client::new();
        let response = client.get(&goby::Context::background(), url);
        assert!(response.is_ok(), "the example failed: {response:?}");
        drop((response, client));
        server.shutdown(&goby::Context::background()).expect("the background is never done");
    });
}
