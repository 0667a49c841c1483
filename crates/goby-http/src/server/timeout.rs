//! A limit to the time of a handler.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use goby::context::ContextError;
use goby::{chan, go, select};
use http::StatusCode;

use super::request::Request;
use crate::handler::Handler;
use crate::response::Response;

/// Makes a handler that answers `503 Service Unavailable` if `handler` takes longer than `timeout`.
///
/// The time counts from the call of the handler to its return; a streamed body is sent without
/// limit. The request's [context](Request::context) is done when the time is over. A handler that
/// checks it ends then; a handler that does not goes on in vain. If the client goes away, the
/// answer is empty.
///
/// ```
/// use goby::{Context, time};
/// use goby_http::{Request, Server, get, with_timeout};
/// use std::time::Duration;
///
/// let server = Server::bind("127.0.0.1:0")?;
/// let url = format!("http://{}/", server.local_addr());
/// let slow = with_timeout(Duration::from_millis(5), |request: Request| {
///     match time::sleep_ctx(request.context(), Duration::from_secs(60)) {
///         Ok(()) => "slept well",
///         Err(_) => "too late",
///     }
/// });
/// let (serving, _stop) = Context::background().with_cancel();
/// goby::go(move || server.serve_ctx(&serving, slow));
/// assert_eq!(get(&Context::background(), url)?.status(), 503);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn with_timeout(timeout: Duration, handler: impl Handler) -> impl Fn(Request) -> Response + Send + Sync + 'static {
    let handler = Arc::new(handler);
    move |request| {
        let (ctx, _cancel) = request.context().with_timeout(timeout);
        let request = request.with_context(ctx.clone());
        let (answer, answers) = chan::bounded(1);
        let handler = handler.clone();
        go(move || {
            // An error means that the time is over.
            let _ = answer.send(catch_unwind(AssertUnwindSafe(|| handler.handle(request))));
        });
        select! {
            recv(answers) -> answer => match answer {
                Ok(Ok(response)) => response,
                Ok(Err(payload)) => resume_unwind(payload),
                Err(_) => Response::from(StatusCode::INTERNAL_SERVER_ERROR),
            },
            recv(ctx.done()) -> _ => match ctx.err() {
                Some(ContextError::DeadlineExceeded) => Response::new(TIMED_OUT)
                    .with_status(StatusCode::SERVICE_UNAVAILABLE)
                    .with_header("content-type", "text/html; charset=utf-8"),
                _ => Response::new(()).with_status(StatusCode::SERVICE_UNAVAILABLE),
            },
        }
    }
}

/// The page that is sent with the 503.
const TIMED_OUT: &str = "<html><head><title>Timeout</title></head><body><h1>Timeout</h1></body></html>";
