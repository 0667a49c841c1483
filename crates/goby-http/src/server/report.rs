//! What the server says of handlers on standard error.

use std::any::Any;
use std::net::SocketAddr;

use goby::Goexit;

/// Method and target of a request.
#[derive(Default)]
pub(super) struct Name(pub(super) http::Method, pub(super) http::Uri);

/// Gives the message of a panic. The panic hook has said where.
pub(super) fn message(payload: &(dyn Any + Send)) -> &str {
    match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        _ if payload.is::<Goexit>() => "the goroutine ended by goexit",
        (Some(message), _) => message,
        (_, Some(message)) => message.as_str(),
        _ => "no message",
    }
}

/// Reports what went wrong while a request was handled, and what the server does.
#[cold]
pub(super) fn deplore(what: &str, addr: SocketAddr, Name(method, uri): &Name, wrong: &str, done: &str) {
    eprintln!("goby-http: {what} while handling {method} {uri} from {addr}: {wrong}; {done}");
}

/// Reports what is wrong with a handler's response, and what the server does with it.
#[cold]
pub(super) fn complain(addr: SocketAddr, Name(method, uri): &Name, wrong: &str, done: &str) {
    eprintln!("goby-http: no proper response to {method} {uri} from {addr}: {wrong}; {done}");
}
