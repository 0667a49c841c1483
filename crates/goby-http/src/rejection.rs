//! Errors of handlers: how one is answered, and what is said of it on standard error.
//!
//! An error leaves its handler as part of the response ([`Failure`], in the response's extensions).
//! So a middleware may look at it, and the server, which knows the request's name, reports it.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use http::StatusCode;

use crate::error::{Error, Source, causes};
use crate::response::Response;

/// The refusal of a request: a status and a message for the client.
///
/// A handler that returns it as its error (`?`, also from a function that it calls, or as the cause
/// of another error) answers with it. The extracting methods of [`Request`](crate::Request) return
/// it.
///
/// ```
/// use goby_http::{Rejection, Response, StatusCode};
/// let rejection = Rejection::new(StatusCode::NOT_FOUND, "no such user");
/// assert_eq!(rejection.to_string(), "no such user");
///
/// let response = Response::from(rejection);
/// assert_eq!(response.status(), 404);
/// assert_eq!(response.text()?, "no such user");
/// # Ok::<(), goby_http::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    status: StatusCode,
    message: Cow<'static, str>,
}

impl Rejection {
    /// Makes one with this status and message.
    ///
    /// ```
    /// use goby_http::{Rejection, StatusCode};
    /// fn ask(name: &str) -> Result<String, Rejection> {
    ///     match name {
    ///         "" => Err(Rejection::new(StatusCode::BAD_REQUEST, "a name is missing")),
    ///         name => Ok(format!("hello, {name}")),
    ///     }
    /// }
    /// assert_eq!(ask("").unwrap_err().status(), 400);
    /// ```
    pub fn new(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Rejection {
        Rejection { status, message: message.into() }
    }

    /// Tells the status.
    ///
    /// ```
    /// use goby_http::{Rejection, StatusCode};
    /// assert_eq!(Rejection::from(StatusCode::FORBIDDEN).status(), 403);
    /// ```
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Gives the message, which becomes the body.
    ///
    /// ```
    /// use goby_http::{Rejection, StatusCode};
    /// assert_eq!(Rejection::from(StatusCode::FORBIDDEN).message(), "Forbidden");
    /// ```
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Rejection {}

/// A rejection with this status, and with the status's name as its message.
impl From<StatusCode> for Rejection {
    fn from(status: StatusCode) -> Rejection {
        Rejection::new(status, status.canonical_reason().unwrap_or(""))
    }
}

impl From<Rejection> for Response {
    fn from(rejection: Rejection) -> Response {
        Response::from(Err::<(), _>(rejection))
    }
}

/// What the handler returned, or the answer to its error; see [`Handler`](crate::Handler#errors).
impl<R, E> From<Result<R, E>> for Response
where
    R: Into<Response>,
    E: Into<Box<dyn StdError + Send + Sync>>,
{
    fn from(result: Result<R, E>) -> Response {
        match result {
            Ok(response) => response.into(),
            Err(error) => failed(error.into()),
        }
    }
}

/// Answers an error.
#[cold]
fn failed(error: Source) -> Response {
    let Rejection { status, message } = Rejection::of(&*error);
    let mut response = Response::new(message.into_owned()).with_status(status);
    response.extensions_mut().insert(Failure(error.into()));
    response
}

impl Rejection {
    /// Finds the rejection among what caused `error`. If there is none, the body of the request may
    /// have been at fault, and else the handler.
    pub(crate) fn of(error: &(dyn StdError + 'static)) -> Rejection {
        if let Some(rejection) = causes(error).find_map(|cause| cause.downcast_ref::<Rejection>()) {
            return rejection.clone();
        }
        let of_request = causes(error).find_map(|cause| cause.downcast_ref::<Error>()?.refusal());
        of_request.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR).into()
    }
}

/// The error that a response answers.
#[derive(Clone)]
pub(crate) struct Failure(Arc<dyn StdError + Send + Sync>);

impl Failure {
    pub(crate) fn error(&self) -> &(dyn StdError + Send + Sync + 'static) {
        &*self.0
    }

    /// Says what went wrong and why, in one line.
    pub(crate) fn text(&self) -> String {
        in_words(&*self.0)
    }
}

/// Says what went wrong and why, in one line.
pub(crate) fn in_words(error: &(dyn StdError + 'static)) -> String {
    let mut text = String::new();
    for cause in causes(error) {
        let cause = cause.to_string();
        // Some errors say what caused them.
        if text.ends_with(&cause) {
            continue;
        }
        text += if text.is_empty() { "" } else { ": " };
        text += &cause;
    }
    text.replace(['\r', '\n'], " ")
}
