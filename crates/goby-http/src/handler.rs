//! Handlers: what the server calls with each request.

use std::sync::Arc;

use crate::response::Response;
use crate::server::Request;

/// Answers requests.
///
/// Every function from [`Request`] to whatever makes a [`Response`] is a handler: to a response,
/// text, bytes, a status, a status with one of these, or a [`Result`] of any of them. So is a
/// boxed or shared handler. A handler is straight-line code that may park its goroutine, and many
/// calls run at a time. Source: Go's `http.Handler`.
///
/// # Errors
///
/// `?` works in a handler that returns a [`Result`]. An error that is a
/// [`Rejection`](crate::Rejection), or was caused by one, is answered with its status and message.
/// If the body of the request cannot be read, the answer is 400 (408 if time ran out). Every other
/// error is answered with 500 and no details. The server reports an error that it answers with a
/// status of 500 or above on standard error, with what caused it, the method, the target and the
/// client's address. [`Response::error`] gives a middleware the error.
///
/// ```
/// use goby::Context;
/// use goby_http::{Handler, Rejection, Request, Server, StatusCode, get};
/// use std::error::Error;
///
/// fn double(request: Request) -> Result<String, Box<dyn Error + Send + Sync>> {
///     let Some(n) = request.query() else { return Err(Rejection::new(StatusCode::BAD_REQUEST, "double what?").into()) };
///     let n: u32 = n.parse()?;
///     Ok(format!("{}", 2 * n))
/// }
///
/// fn served(handler: impl Handler) -> Result<(), Box<dyn Error>> {
///     let server = Server::bind("127.0.0.1:0")?;
///     let url = format!("http://{}/", server.local_addr());
///     let (serving, _stop) = Context::background().with_cancel();
///     goby::go(move || server.serve_ctx(&serving, handler));
///
///     let ctx = Context::background();
///     assert_eq!(get(&ctx, format!("{url}?21"))?.text()?, "42");
///     let refused = get(&ctx, &url)?;
///     assert_eq!((refused.status(), refused.text()?), (StatusCode::BAD_REQUEST, "double what?".to_owned()));
///     assert_eq!(get(&ctx, format!("{url}?much"))?.status(), 500);
///     Ok(())
/// }
/// served(double)?;
/// served(Box::new(double) as Box<dyn Handler>)?;
/// # Ok::<(), Box<dyn Error>>(())
/// ```
///
/// # Panics
///
/// A handler may panic: the panic is reported on standard error and answered with 500, and the
/// connection goes on. Only a panic after a part of the response was sent, in the source of a
/// streamed body, closes the connection.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request.
    fn handle(&self, request: Request) -> Response;
}

impl<F, R> Handler for F
where
    F: Fn(Request) -> R + Send + Sync + 'static,
    R: Into<Response>,
{
    #[inline]
    fn handle(&self, request: Request) -> Response {
        self(request).into()
    }
}

impl Handler for Box<dyn Handler> {
    fn handle(&self, request: Request) -> Response {
        (**self).handle(request)
    }
}

impl Handler for Arc<dyn Handler> {
    fn handle(&self, request: Request) -> Response {
        (**self).handle(request)
    }
}
