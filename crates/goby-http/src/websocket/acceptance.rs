//! A server's side of the handshake.

use http::header::{
    HOST, HeaderValue, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
};
use http::{HeaderMap, Method, StatusCode};
use tungstenite::protocol::Role;

use super::{MAX_MESSAGE, WebSocket, accept_key};
use crate::rejection::Rejection;
use crate::response::Response;
use crate::server::Request;

/// How a server accepts a WebSocket.
///
/// ```
/// # use goby_http::{Request, Response};
/// use goby_http::websocket::Acceptance;
/// fn chat(request: Request) -> Response {
///     let acceptance = Acceptance::new().protocols(["chat.v2", "chat.v1"]).max_message_bytes(4096);
///     acceptance.accept(&request, |socket| println!("{:?}", socket.protocol()))
/// }
/// # goby_http::doc_test(|request| drop(chat(request)));
/// ```
#[derive(Clone, Debug)]
pub struct Acceptance {
    protocols: Vec<String>,
    origins: Vec<String>,
    max_message: usize,
}

impl Default for Acceptance {
    fn default() -> Acceptance {
        Acceptance::new()
    }
}

impl Acceptance {
    /// Makes one with the defaults: no protocols, pages of the same origin alone, messages of 16
    /// MiB at most.
    ///
    /// ```
    /// let acceptance = goby_http::websocket::Acceptance::new();
    /// # drop(acceptance);
    /// ```
    pub fn new() -> Acceptance {
        Acceptance { protocols: Vec::new(), origins: Vec::new(), max_message: MAX_MESSAGE }
    }

    /// Sets the protocols over WebSocket that the server speaks, the best first. The first that the
    /// client offers, too, is agreed on; none if there is none.
    ///
    /// ```
    /// let acceptance = goby_http::websocket::Acceptance::new().protocols(["chat"]);
    /// # drop(acceptance);
    /// ```
    ///
    /// Source: `Upgrader.Subprotocols` of gorilla/websocket.
    #[must_use]
    pub fn protocols<P: Into<String>>(mut self, protocols: impl IntoIterator<Item = P>) -> Acceptance {
        self.protocols = protocols.into_iter().map(Into::into).collect();
        self
    }

    /// Lets pages of another origin connect, such as `https://example.com`; `*` stands for all.
    ///
    /// Browsers let every page open a WebSocket, and send the cookies of its host along. So an
    /// `Origin` that is not the host of the request is refused (403) unless it is among these. Other
    /// clients send no `Origin`.
    ///
    /// ```
    /// let acceptance = goby_http::websocket::Acceptance::new().allow_origin("https://example.com");
    /// # drop(acceptance);
    /// ```
    ///
    /// Source: `Upgrader.CheckOrigin` of gorilla/websocket, RFC 6455, section 10.2.
    #[must_use]
    pub fn allow_origin(mut self, origin: impl Into<String>) -> Acceptance {
        self.origins.push(origin.into());
        self
    }

    /// Sets how many bytes a message may have. A longer one is an error. Default: 16 MiB.
    ///
    /// ```
    /// let acceptance = goby_http::websocket::Acceptance::new().max_message_bytes(64 << 10);
    /// # drop(acceptance);
    /// ```
    #[must_use]
    pub fn max_message_bytes(mut self, most: usize) -> Acceptance {
        self.max_message = most;
        self
    }

    /// Makes the response that accepts a WebSocket; then `run` has it. See [`Request::websocket`].
    ///
    /// ```
    /// # goby_http::doc_test(|request| {
    /// let response = goby_http::websocket::Acceptance::new().accept(&request, |_| {});
    /// assert_eq!(response.status(), 426);
    /// # });
    /// ```
    pub fn accept(&self, request: &Request, run: impl FnOnce(&WebSocket) + Send + 'static) -> Response {
        let headers = request.headers();
        if !self.is_origin_fine(headers) {
            return Rejection::new(StatusCode::FORBIDDEN, "a page of another origin").into();
        }
        let protocol = self.protocols.iter().find(|protocol| offers(headers, protocol));
        let (protocol, max_message) = (protocol.cloned(), self.max_message);
        let agreed = protocol.as_ref().and_then(|protocol| HeaderValue::from_str(protocol).ok());
        let response = request.upgrade("websocket", move |stream| {
            let socket = WebSocket::new(stream, Role::Server, max_message, protocol);
            run(&socket);
            socket.take_leave();
        });
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return response;
        }
        if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
            return Response::from(StatusCode::UPGRADE_REQUIRED).with_header(SEC_WEBSOCKET_VERSION, "13");
        }
        let Some(key) = headers.get(SEC_WEBSOCKET_KEY).filter(|_| *request.method() == Method::GET) else {
            return Rejection::new(StatusCode::BAD_REQUEST, "no proper handshake of a WebSocket").into();
        };
        let response = response.with_header(SEC_WEBSOCKET_ACCEPT, accept_key(key));
        match agreed {
            Some(protocol) => response.with_header(SEC_WEBSOCKET_PROTOCOL, protocol),
            None => response,
        }
    }

    fn is_origin_fine(&self, headers: &HeaderMap) -> bool {
        let Some(origin) = headers.get(ORIGIN).map(HeaderValue::as_bytes) else { return true };
        let host = headers.get(HOST).map_or(&[][..], HeaderValue::as_bytes);
        // An origin is a scheme, `://`, and a host with its port.
        let scheme = origin.windows(3).position(|part| part == b"://");
        scheme.is_some_and(|n| origin[n + 3..].eq_ignore_ascii_case(host))
            || self.origins.iter().any(|known| known == "*" || known.as_bytes().eq_ignore_ascii_case(origin))
    }
}

/// Whether the client offers this protocol over WebSocket.
fn offers(headers: &HeaderMap, protocol: &str) -> bool {
    let offered = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    offered.flat_map(|value| value.split(',')).any(|element| element.trim() == protocol)
}

impl Request {
    /// Makes the response that accepts a WebSocket; then `run` has it.
    ///
    /// `run` is called on the goroutine of the connection. When it returns, the WebSocket is closed
    /// with the code 1000, or 1001 if the server stops. [`Acceptance`] has settings. A request that
    /// asks for no WebSocket is answered with 426, a page of another origin with 403.
    ///
    /// The example is that of [`WebSocket`].
    ///
    /// # Panics
    ///
    /// A panic of `run` is reported on standard error, and closes the connection.
    ///
    /// Source: `Upgrader.Upgrade` of gorilla/websocket, axum's `WebSocketUpgrade`.
    pub fn websocket(&self, run: impl FnOnce(&WebSocket) + Send + 'static) -> Response {
        Acceptance::new().accept(self, run)
    }
}
