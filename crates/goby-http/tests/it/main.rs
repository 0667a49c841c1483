//! The integration tests of goby-http, one binary. All sockets are on this machine's loopback
//! address.
//!
//! Each test runs its body on runtimes of 1, 2 and 4 workers through [`support::with_workers`],
//! which also checks that no goroutine is left behind. Tests named `c329_…` follow the rows of
//! `docs/conformance.md` by number.

#[cfg(feature = "http2")]
mod frames;
mod support;

#[cfg(feature = "tracing")]
mod access_log;
mod bodies;
#[cfg(all(feature = "http2", feature = "tls", feature = "websocket"))]
mod browser;
mod cancellation;
mod connections;
#[cfg(feature = "cookie_jar")]
mod cookie_jar;
#[cfg(feature = "json")]
mod debug;
#[cfg(all(feature = "brotli", feature = "gzip", feature = "zstd"))]
mod decompress;
#[cfg(any(feature = "brotli", feature = "gzip", feature = "zstd"))]
mod encoding;
mod endless;
mod expect;
#[cfg(all(feature = "cookies", feature = "json"))]
mod extract;
mod files;
mod framing;
mod fuzz;
mod handlers;
#[cfg(feature = "http2")]
mod http2;
mod idle;
mod limits;
#[cfg(not(feature = "tls"))]
mod no_tls;
#[cfg(feature = "multipart")]
mod multipart;
mod proxy;
mod redirects;
mod requests;
mod router;
mod rt;
mod server;
mod shutdown;
mod smuggling;
mod streams;
mod timeouts;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "tls")]
mod tls_server;
mod unix;
mod upgrade;
#[cfg(feature = "websocket")]
mod websocket;
