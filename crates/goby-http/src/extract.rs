//! What a handler takes out of a request: parameters of its path, and a body of limited size.
//!
//! Whatever is wrong with them is the client's mistake, so these methods return a [`Rejection`],
//! with the statuses that axum answers with: 400 for what cannot be understood, 413 for a body that
//! is too long, 415 for one of another type, 422 for one that is well-formed but does not fit.

use std::fmt::Display;
use std::str::FromStr;

use bytes::{Bytes, BytesMut};
use http::StatusCode;

use crate::rejection::Rejection;
use crate::server::Request;

/// The default of [`Request::with_body_limit`], which is axum's.
pub(crate) const BUFFER_LIMIT: u64 = 2 << 20;

impl Request {
    /// Gives the part of the path that stands for the parameter `name` of the
    /// [`Router`](crate::Router)'s pattern, decoded. `None` if the pattern has no such parameter.
    /// Source: Go's `Request.PathValue`.
    ///
    /// ```
    /// use goby_http::{Request, Router};
    /// let router = Router::new().get("/hello/{name}", |request: Request| {
    ///     format!("hello, {}", request.param("name").unwrap())
    /// });
    /// ```
    pub fn param(&self, name: &str) -> Option<&str> {
        self.route()?.param(name, self.path())
    }

    /// Parses the part of the path that stands for the parameter `name`.
    ///
    /// ```
    /// use goby_http::{Rejection, Request, Router};
    /// let router = Router::new().get("/double/{n}", |request: Request| {
    ///     let n: u32 = request.param_as("n")?;
    ///     Ok::<_, Rejection>(format!("{}", 2 * n))
    /// });
    /// ```
    ///
    /// # Errors
    ///
    /// 400 when it cannot be parsed, and 500 when the pattern has no such parameter.
    pub fn param_as<T>(&self, name: &str) -> Result<T, Rejection>
    where
        T: FromStr<Err: Display>,
    {
        let Some(text) = self.param(name) else {
            let message = format!("the path has no parameter {name:?}");
            return Err(Rejection::new(StatusCode::INTERNAL_SERVER_ERROR, message));
        };
        text.parse()
            .map_err(|error| Rejection::new(StatusCode::BAD_REQUEST, format!("invalid {name} in the path: {error}")))
    }

    /// Gives the pattern of the [`Router`](crate::Router) that the path matches, for logs and
    /// metrics. `None` if there is none. Source: Go's `Request.Pattern`.
    ///
    /// ```
    /// use goby_http::{Request, Router};
    /// let router = Router::new().get("/users/{id}", |request: Request| {
    ///     assert_eq!(request.pattern(), Some("/users/{id}"));
    /// });
    /// ```
    pub fn pattern(&self) -> Option<&str> {
        self.route().map(|route| route.pattern())
    }

    /// Reads the body to its end, if it is not longer than
    /// [`with_body_limit`](Request::with_body_limit) says.
    ///
    /// ```
    /// # goby_http::doc_test(|request| {
    /// assert_eq!(request.buffered().unwrap(), "");
    /// # });
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine until the body is complete.
    ///
    /// # Errors
    ///
    /// 413 when it is too long, 400 when it cannot be read, and 408 when time ran out.
    pub fn buffered(self) -> Result<Bytes, Rejection> {
        let limit = self.buffer_limit();
        let mut body = self.into_body();
        if body.len().is_some_and(|len| len > limit) {
            return Err(too_long(limit));
        }
        let mut all = BytesMut::new();
        while let Some(chunk) = body.chunk().map_err(|error| Rejection::of(&error))? {
            if (all.len() + chunk.len()) as u64 > limit {
                return Err(too_long(limit));
            }
            // Most bodies come in one piece.
            if all.is_empty() && body.is_empty() {
                return Ok(chunk);
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }

    /// Sets how many bytes of the body [`buffered`](Request::buffered), `json`, `form`, and the
    /// fields of `multipart` hold in memory at most. A longer body is refused with 413. Default:
    /// 2 MiB, as in axum.
    ///
    /// ```
    /// use goby_http::{Handler, Request, Router};
    /// let router = Router::new()
    ///     .post("/upload", |request: Request| request.bytes())
    ///     .with(|request: Request, next: &dyn Handler| next.handle(request.with_body_limit(64 << 20)));
    /// ```
    #[must_use]
    pub fn with_body_limit(mut self, limit: u64) -> Request {
        self.set_buffer_limit(limit);
        self
    }
}

pub(crate) fn too_long(limit: u64) -> Rejection {
    Rejection::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is longer than {limit} bytes"))
}
