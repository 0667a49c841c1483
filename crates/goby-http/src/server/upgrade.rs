//! Requests after which a connection leaves HTTP.

use std::panic::{AssertUnwindSafe, catch_unwind};

use http::header::{CONNECTION, HeaderName, HeaderValue, UPGRADE};
use http::{HeaderMap, Method, StatusCode, Version};
use hyper::server::conn::http1::Parts;

use super::connection::Driver;
use super::report::{Name, deplore, message};
use super::request::Request;
use super::rest::Kept;
use crate::response::Response;
use crate::upgrade::{Takeover, Upgraded};

impl Request {
    /// Makes the response that switches the connection to another protocol (`101 Switching
    /// Protocols`); then `run` has it.
    ///
    /// `run` is called when the response has been sent, on the goroutine that served the connection,
    /// and may park it for as long as it likes. A server that stops says so by the
    /// [context](Upgraded::context) of the stream, and waits for `run`. If the client does not ask
    /// for this protocol, the response is `426 Upgrade Required`, and `run` is dropped. HTTP/2 has
    /// no upgrades.
    ///
    /// A middleware may add headers to the response. One that answers with another one keeps the
    /// connection.
    ///
    /// ```
    /// use goby::{Context, net::TcpStream};
    /// use goby_http::{Request, Server};
    /// use std::io::{Read, Write, copy};
    ///
    /// let server = Server::bind("127.0.0.1:0")?;
    /// let addr = server.local_addr();
    /// let (serving, _stop) = Context::background().with_cancel();
    /// goby::go(move || {
    ///     server.serve_ctx(&serving, |request: Request| {
    ///         request.upgrade("echo", |stream| {
    ///             // Ends when the client sends no more, or the server stops.
    ///             let _ = copy(&mut &stream, &mut &stream);
    ///         })
    ///     })
    /// });
    ///
    /// let mut stream = TcpStream::connect(addr)?;
    /// stream.write_all(b"GET / HTTP/1.1\r\nHost: any\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nhello")?;
    /// stream.shutdown(std::net::Shutdown::Write)?;
    /// let mut answer = String::new();
    /// stream.read_to_string(&mut answer)?;
    /// assert!(answer.starts_with("HTTP/1.1 101 ") && answer.ends_with("\r\n\r\nhello"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Panics
    ///
    /// When `protocol` has characters that no header may have. A panic of `run` is reported on
    /// standard error, and closes the connection.
    ///
    /// Source: Go's `http.Hijacker`, `hyper::upgrade`, RFC 9110, section 7.8.
    pub fn upgrade(&self, protocol: &str, run: impl FnOnce(Upgraded) + Send + 'static) -> Response {
        let value = HeaderValue::from_str(protocol).expect("the name of a protocol");
        let is_possible = self.version() == Version::HTTP_11 && self.is_without_body();
        if is_possible
            && has_token(self.headers(), &CONNECTION, "upgrade")
            && has_token(self.headers(), &UPGRADE, protocol)
        {
            return switch(StatusCode::SWITCHING_PROTOCOLS, run)
                .with_header(CONNECTION, "upgrade")
                .with_header(UPGRADE, value);
        }
        let response = Response::from(StatusCode::UPGRADE_REQUIRED);
        // Not a field of HTTP/2.
        if self.version() == Version::HTTP_2 {
            response
        } else {
            response.with_header(UPGRADE, value).with_header(CONNECTION, "upgrade")
        }
    }

    /// Makes the response that opens a tunnel for a request with the method `CONNECT` (status 200);
    /// then `run` has the connection, as with [`upgrade`](Request::upgrade).
    ///
    /// [`uri`](Request::uri) has the host and port that the client wants. To another method the
    /// response is `405 Method Not Allowed`, and over HTTP/2 `501 Not Implemented`; `run` is
    /// dropped then.
    ///
    /// ```
    /// use goby::{Context, net::TcpStream};
    /// use goby_http::{Request, Server};
    /// use std::io::{Read, Write};
    ///
    /// let server = Server::bind("127.0.0.1:0")?;
    /// let addr = server.local_addr();
    /// let (serving, _stop) = Context::background().with_cancel();
    /// goby::go(move || {
    ///     server.serve_ctx(&serving, |request: Request| {
    ///         let wanted = request.uri().to_string();
    ///         request.tunnel(move |mut stream| {
    ///             // A proxy would connect to that, and copy in both directions.
    ///             let _ = write!(stream, "a tunnel to {wanted}");
    ///         })
    ///     })
    /// });
    ///
    /// let mut stream = TcpStream::connect(addr)?;
    /// stream.write_all(b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n")?;
    /// let mut answer = String::new();
    /// stream.read_to_string(&mut answer)?;
    /// assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\na tunnel to example.com:443"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Panics
    ///
    /// A panic of `run` is reported on standard error, and closes the connection.
    ///
    /// Source: Go's `http.Hijacker`, RFC 9110, section 9.3.6.
    pub fn tunnel(&self, run: impl FnOnce(Upgraded) + Send + 'static) -> Response {
        if *self.method() != Method::CONNECT {
            return StatusCode::METHOD_NOT_ALLOWED.into();
        }
        if self.version() == Version::HTTP_2 || !self.is_without_body() {
            return StatusCode::NOT_IMPLEMENTED.into();
        }
        switch(StatusCode::OK, run)
    }
}

fn switch(status: StatusCode, run: impl FnOnce(Upgraded) + Send + 'static) -> Response {
    let mut response = Response::from(()).with_status(status);
    response.extensions_mut().insert(Takeover::new(run));
    response
}

/// Whether a header that is a list has this element.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|element| element.trim().eq_ignore_ascii_case(token))
}

/// Serves what is no longer HTTP's until it ends. hyper's connection has.
pub(super) fn serve(driver: Box<Driver>, takeover: Takeover, kept: &Kept, name: &Name) {
    let Some(run) = takeover.take() else { return };
    let Parts { io: stream, read_buf, .. } = driver.into_parts();
    let ctx = kept.stopping.shared.upgraded();
    let stream = Upgraded::new(stream, &read_buf, ctx, kept.addr);
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| run(stream))) {
        deplore("panic", kept.addr, name, message(&*payload), "connection closed");
    }
}
