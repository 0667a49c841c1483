//! WebSockets (RFC 6455): tungstenite's state machine over a connection that has left HTTP.
//!
//! tungstenite reads and writes a stream that never parks: where that would block, it says so, and
//! the goroutine parks here, outside of the lock. So one goroutine may wait for a message while
//! others send. Each side of the socket has one waker for the poller, which wakes all goroutines
//! that wait for that side (`Waiting`).

mod acceptance;

use std::fmt;
use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::mem;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use goby::block_on;
use http::header::{
    HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
};
use parking_lot::Mutex;
use tungstenite::error::ProtocolError;
use tungstenite::protocol::frame::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Error as Failure, Message as Raw};

pub use acceptance::Acceptance;

use crate::client::Client;
use crate::error::{Error, Phase};
use crate::upgrade::Upgraded;
use crate::{Body, Uri};

/// How many bytes a message may have unless it is set.
const MAX_MESSAGE: usize = 16 << 20;
/// The first buffer for what comes; it grows with the messages.
const READ_BUFFER: usize = 4 << 10;
/// How long the other side may take to answer the last word of a server.
const LAST_WORD: Duration = Duration::from_secs(5);

/// Why a WebSocket is closed. Source: RFC 6455, section 7.4.1.
const NORMAL: u16 = 1000;
const GOING_AWAY: u16 = 1001;
const WRONG_FRAME: u16 = 1002;
const NO_TEXT: u16 = 1007;
const TOO_LONG: u16 = 1009;

/// A message of a WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Bytes),
}

impl From<&str> for Message {
    fn from(text: &str) -> Message {
        Message::Text(text.to_owned())
    }
}

impl From<String> for Message {
    fn from(text: String) -> Message {
        Message::Text(text)
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Message {
        Message::Binary(bytes.into())
    }
}

impl From<Bytes> for Message {
    fn from(bytes: Bytes) -> Message {
        Message::Binary(bytes)
    }
}

impl From<Message> for Raw {
    fn from(message: Message) -> Raw {
        match message {
            Message::Text(text) => Raw::text(text),
            Message::Binary(bytes) => Raw::binary(bytes),
        }
    }
}

/// Either end of a WebSocket.
///
/// A server's comes from [`Request::websocket`](crate::Request::websocket), a client's from
/// [`Client::websocket`]. All methods take `&self`: one goroutine may receive while others send,
/// and messages never mix. Pings are answered while a goroutine receives.
///
/// ```
/// use goby::Context;
/// use goby_http::websocket::Message;
/// use goby_http::{Client, Request, Server};
///
/// let server = Server::bind("127.0.0.1:0")?;
/// let url = format!("ws://{}/", server.local_addr());
/// let (serving, _stop) = Context::background().with_cancel();
/// goby::go(move || {
///     server.serve_ctx(&serving, |request: Request| {
///         request.websocket(|socket| {
///             while let Ok(Some(message)) = socket.receive() {
///                 if socket.send(message).is_err() {
///                     break;
///                 }
///             }
///         })
///     })
/// });
///
/// let socket = Client::new().websocket(&Context::background(), &url)?;
/// socket.send("hello")?;
/// assert_eq!(socket.receive()?, Some(Message::from("hello")));
/// socket.close(1000, "done")?;
/// assert_eq!(socket.receive()?, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Cancellation
///
/// Methods that wait end when the [context](Upgraded::context) of the [stream](WebSocket::stream)
/// is done: a server's when the server stops, a client's with the context that it was opened with.
pub struct WebSocket {
    /// A short lock: it is held for one poll, which does not park.
    socket: Mutex<Socket>,
    stream: Arc<Upgraded>,
    readers: Arc<Waiting>,
    writers: Arc<Waiting>,
    protocol: Option<String>,
}

struct Socket {
    inner: tungstenite::WebSocket<Polled>,
    /// What came was not a WebSocket's, or too long: nothing more is taken from it.
    has_refused: bool,
}

impl WebSocket {
    fn new(stream: Upgraded, role: Role, max_message: usize, protocol: Option<String>) -> WebSocket {
        let (stream, readers, writers) = (Arc::new(stream), Arc::<Waiting>::default(), Arc::<Waiting>::default());
        let polled = Polled {
            stream: stream.clone(),
            read_waker: Waker::from(readers.clone()),
            write_waker: Waker::from(writers.clone()),
        };
        let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER).write_buffer_size(0);
        let config = config.max_message_size(Some(max_message)).max_frame_size(Some(max_message));
        let inner = tungstenite::WebSocket::from_raw_socket(polled, role, Some(config));
        let socket = Mutex::new(Socket { inner, has_refused: false });
        WebSocket { socket, stream, readers, writers, protocol }
    }

    /// Receives a message; none when the WebSocket is closed, by either side.
    ///
    /// The example is that of [`WebSocket`].
    ///
    /// # Blocking
    ///
    /// Parks the goroutine until a message is complete.
    ///
    /// # Errors
    ///
    /// When the connection breaks, what comes is not a WebSocket's (which closes it with the code
    /// 1002, or 1007 if it is text that is not UTF-8), or a message is too long (code 1009).
    ///
    /// # Cancellation
    ///
    /// By the context of the [stream](WebSocket::stream). No message is lost.
    ///
    /// Source: `Conn.ReadMessage` of gorilla/websocket.
    pub fn receive(&self) -> Result<Option<Message>, Error> {
        let received = block_on(poll_fn(|cx| self.poll_receive(cx)));
        // Without this, a client that is faster than its reader would never let other goroutines
        // run.
        goby::checkpoint();
        received
    }

    fn poll_receive(&self, cx: &mut TaskContext<'_>) -> Poll<Result<Option<Message>, Error>> {
        // Reading also writes the answers to pings.
        self.readers.register(cx.waker());
        self.writers.register(cx.waker());
        let mut socket = self.socket.lock();
        if socket.has_refused {
            return Poll::Ready(Ok(None));
        }
        let read = socket.inner.read();
        if let Some(code) = read.as_ref().err().and_then(refusal) {
            socket.has_refused = true;
            // Others that wait for a message: none comes.
            self.readers.clone().wake();
            // `close` sends what there is no room for at once.
            let _ = socket.inner.close(Some(CloseFrame { code: CloseCode::from(code), reason: "".into() }));
        }
        drop(socket);
        Poll::Ready(match read {
            Ok(Raw::Text(text)) => Ok(Some(Message::Text(text.as_str().to_owned()))),
            Ok(Raw::Binary(bytes)) => Ok(Some(Message::Binary(bytes))),
            Ok(Raw::Ping(_) | Raw::Pong(_) | Raw::Close(_) | Raw::Frame(_)) => {
                // There is more to do: the answer is written by the next read.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Err(Failure::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
            Err(Failure::ConnectionClosed | Failure::AlreadyClosed) => Ok(None),
            Err(error) => Err(self.failed(error)),
        })
    }

    /// Sends a message: text or bytes.
    ///
    /// The example is that of [`WebSocket`].
    ///
    /// # Blocking
    ///
    /// Parks the goroutine until the socket has taken the message.
    ///
    /// # Errors
    ///
    /// When the connection breaks, and when the WebSocket is closed.
    ///
    /// # Cancellation
    ///
    /// By the context of the [stream](WebSocket::stream). A part of the message may have been sent.
    ///
    /// Source: `Conn.WriteMessage` of gorilla/websocket.
    pub fn send(&self, message: impl Into<Message>) -> Result<(), Error> {
        self.put(message.into().into())
    }

    /// Asks the other side for a sign of life. [`receive`](WebSocket::receive) takes the answer, so
    /// a [deadline](Upgraded::set_read_deadline) for reading ends a connection that gives none.
    ///
    /// ```
    /// # use goby_http::{Request, websocket::WebSocket};
    /// use std::time::{Duration, Instant};
    /// fn is_alive(socket: &WebSocket) -> bool {
    ///     socket.stream().set_read_deadline(Some(Instant::now() + Duration::from_secs(10)));
    ///     socket.ping().is_ok()
    /// }
    /// # goby_http::doc_test(|request: Request| drop(request.websocket(|socket| assert!(is_alive(socket)))));
    /// ```
    ///
    /// # Blocking
    ///
    /// As [`send`](WebSocket::send) does.
    ///
    /// # Errors
    ///
    /// Those of [`send`](WebSocket::send).
    pub fn ping(&self) -> Result<(), Error> {
        self.put(Raw::Ping(Bytes::new()))
    }

    fn put(&self, message: Raw) -> Result<(), Error> {
        let mut message = Some(message);
        block_on(poll_fn(|cx| {
            self.writers.register(cx.waker());
            let mut socket = self.socket.lock();
            let written = message.take().map_or(Ok(()), |message| socket.inner.write(message));
            // A message that is not written yet is in the buffer.
            let flushed = if is_blocked(&written) { written } else { written.and_then(|()| socket.inner.flush()) };
            drop(socket);
            if is_blocked(&flushed) { Poll::Pending } else { Poll::Ready(flushed) }
        }))
        .map_err(|error| self.failed(error))
    }

    /// Closes the WebSocket: sends why, and waits until the other side has answered. Messages that
    /// come meanwhile are lost. Does nothing if it is closed.
    ///
    /// The example is that of [`WebSocket`].
    ///
    /// # Blocking
    ///
    /// Parks the goroutine until the other side has answered, or the
    /// [deadline](Upgraded::set_read_deadline) for reading has come.
    ///
    /// # Panics
    ///
    /// When `reason` has more than 123 bytes.
    ///
    /// # Errors
    ///
    /// When the connection breaks.
    ///
    /// # Cancellation
    ///
    /// By the context of the [stream](WebSocket::stream).
    pub fn close(&self, code: u16, reason: &str) -> Result<(), Error> {
        assert!(reason.len() <= 123, "the reason is too long: {reason:?}");
        let frame = CloseFrame { code: CloseCode::from(code), reason: reason.into() };
        let mut frame = Some(frame);
        let closed = block_on(poll_fn(|cx| {
            self.writers.register(cx.waker());
            let mut socket = self.socket.lock();
            let closed = match frame.take() {
                Some(frame) => socket.inner.close(Some(frame)),
                None => socket.inner.flush(),
            };
            drop(socket);
            if is_blocked(&closed) { Poll::Pending } else { Poll::Ready(closed) }
        }));
        match closed {
            Ok(()) if self.socket.lock().has_refused => self.linger(),
            Ok(()) => while self.receive()?.is_some() {},
            Err(Failure::ConnectionClosed | Failure::AlreadyClosed) => {}
            Err(error) => return Err(self.failed(error)),
        }
        Ok(())
    }

    /// Waits until the other side has closed the connection. To close one with something left to
    /// read resets it, and takes back the word that is on its way. Source: RFC 6455, section 7.1.1.
    fn linger(&self) {
        // An error ends the connection, too.
        let _ = self.stream.shutdown_write();
        let _ = io::copy(&mut &*self.stream, &mut io::sink());
    }

    /// Tells the protocol over WebSocket that both sides have agreed on, if they have.
    ///
    /// ```
    /// # use goby_http::{Request, websocket::WebSocket};
    /// # goby_http::doc_test(|request: Request| drop(request.websocket(|socket| {
    /// assert_eq!(socket.protocol(), None);
    /// # })));
    /// ```
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// Gives the connection beneath, with its context, deadlines and address.
    ///
    /// ```
    /// # use goby_http::{Request, websocket::WebSocket};
    /// # goby_http::doc_test(|request: Request| drop(request.websocket(|socket| {
    /// assert!(socket.stream().remote_addr().ip().is_loopback());
    /// # })));
    /// ```
    pub fn stream(&self) -> &Upgraded {
        &self.stream
    }

    fn failed(&self, error: Failure) -> Error {
        let ctx = self.stream.context();
        match error {
            Failure::Io(error) => Error::during(Phase::WebSocket, ctx, error),
            Failure::ConnectionClosed | Failure::AlreadyClosed => Error::new(Phase::WebSocket, error),
            Failure::Protocol(ProtocolError::SendAfterClosing) => Error::new(Phase::WebSocket, error),
            error => Error::protocol(Phase::WebSocket, ctx, error),
        }
    }

    /// A server's last word, when the handler has returned.
    fn take_leave(&self) {
        let stops = self.stream.context().err().is_some();
        self.stream.set_context(None);
        let deadline = goby::now().checked_add(LAST_WORD);
        self.stream.set_read_deadline(deadline);
        self.stream.set_write_deadline(deadline);
        // The client may be gone.
        let _ = if stops { self.close(GOING_AWAY, "") } else { self.close(NORMAL, "") };
    }
}

impl fmt::Debug for WebSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut socket = f.debug_struct("WebSocket");
        socket.field("stream", &self.stream).field("protocol", &self.protocol).finish_non_exhaustive()
    }
}

/// The code that tells the other side why nothing more is taken from it.
fn refusal(failure: &Failure) -> Option<u16> {
    match failure {
        // The other side is gone, or has said its last word.
        Failure::Protocol(ProtocolError::ResetWithoutClosingHandshake | ProtocolError::ReceivedAfterClosing) => None,
        Failure::Protocol(_) => Some(WRONG_FRAME),
        Failure::Utf8(_) => Some(NO_TEXT),
        Failure::Capacity(_) => Some(TOO_LONG),
        _ => None,
    }
}

fn is_blocked(result: &Result<(), Failure>) -> bool {
    matches!(result, Err(Failure::Io(error)) if error.kind() == io::ErrorKind::WouldBlock)
}

/// Goroutines that wait for one side of the socket.
#[derive(Default)]
struct Waiting(Mutex<Vec<Waker>>);

impl Waiting {
    /// Adds one. It has to look at the socket afterwards.
    fn register(&self, waker: &Waker) {
        let mut wakers = self.0.lock();
        if !wakers.iter().any(|known| known.will_wake(waker)) {
            wakers.push(waker.clone());
        }
    }
}

impl Wake for Waiting {
    fn wake(self: Arc<Self>) {
        let wakers = mem::take(&mut *self.0.lock());
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// The stream as tungstenite sees it: it says where it would block.
struct Polled {
    stream: Arc<Upgraded>,
    read_waker: Waker,
    write_waker: Waker,
}

fn or_would_block<T>(polled: Poll<io::Result<T>>) -> io::Result<T> {
    match polled {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl Read for Polled {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        or_would_block(self.stream.poll_read(&mut TaskContext::from_waker(&self.read_waker), buf))
    }
}

impl Write for Polled {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        or_would_block(self.stream.poll_write(&mut TaskContext::from_waker(&self.write_waker), buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        or_would_block(self.stream.poll_flush(&mut TaskContext::from_waker(&self.write_waker)))
    }
}

fn accept_key(key: &HeaderValue) -> String {
    tungstenite::handshake::derive_accept_key(key.as_bytes())
}

impl Client {
    /// Opens a WebSocket at a URL that begins with `ws`, `wss`, `http` or `https`.
    ///
    /// The example is that of [`WebSocket`].
    ///
    /// # Blocking
    ///
    /// Parks the goroutine until the server has answered.
    ///
    /// # Errors
    ///
    /// Those of [`request`](Client::request), and when the server does not accept.
    ///
    /// # Cancellation
    ///
    /// By `ctx`, which holds for the WebSocket, too.
    ///
    /// Source: `Dialer.Dial` of gorilla/websocket.
    pub fn websocket(&self, ctx: &goby::Context, url: &str) -> Result<WebSocket, Error> {
        let uri: Uri = url.parse().map_err(|_| Error::bare(Phase::Url(crate::redacted(url).into_owned())))?;
        let mut request = http::Request::new(Body::empty());
        *request.uri_mut() = uri;
        self.websocket_with(ctx, request)
    }

    /// Opens a WebSocket with this request: headers, such as `sec-websocket-protocol`, are its own.
    ///
    /// ```
    /// use goby::Context;
    /// use goby_http::websocket::Acceptance;
    /// use goby_http::{Body, Client, Request, Server};
    ///
    /// # let server = Server::bind("127.0.0.1:0")?;
    /// # let url = format!("ws://{}/", server.local_addr());
    /// # let (serving, _stop) = Context::background().with_cancel();
    /// # goby::go(move || server.serve_ctx(&serving, |request: Request| {
    /// #     Acceptance::new().protocols(["chat"]).accept(&request, |_| {})
    /// # }));
    /// let request = http::Request::get(url).header("sec-websocket-protocol", "chat").body(Body::empty())?;
    /// let socket = Client::new().websocket_with(&Context::background(), request)?;
    /// assert_eq!(socket.protocol(), Some("chat"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine until the server has answered.
    ///
    /// # Errors
    ///
    /// Those of [`websocket`](Client::websocket).
    ///
    /// # Cancellation
    ///
    /// By `ctx`, which holds for the WebSocket, too.
    pub fn websocket_with(&self, ctx: &goby::Context, mut request: http::Request<Body>) -> Result<WebSocket, Error> {
        let url = request.uri().to_string();
        if let Some(rest) = url.strip_prefix("ws") {
            // `ws` and `wss` are `http` and `https` with the same ports.
            *request.uri_mut() = format!("http{rest}")
                .parse()
                .map_err(|_| Error::bare(Phase::Url(crate::redacted(&url).into_owned())))?;
        }
        let key = HeaderValue::try_from(tungstenite::handshake::client::generate_key()).expect("Base64");
        let expected = accept_key(&key);
        let fields: [(HeaderName, HeaderValue); 4] = [
            (http::header::CONNECTION, HeaderValue::from_static("upgrade")),
            (http::header::UPGRADE, HeaderValue::from_static("websocket")),
            (SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")),
            (SEC_WEBSOCKET_KEY, key),
        ];
        request.headers_mut().extend(fields);
        let response = self.request(ctx, request)?;
        let headers = response.headers();
        let is_accepted = headers.get(SEC_WEBSOCKET_ACCEPT).is_some_and(|accept| *accept == *expected);
        let protocol = headers.get(SEC_WEBSOCKET_PROTOCOL).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let stream = response.upgrade()?;
        if !is_accepted {
            return Err(Error::protocol(Phase::WebSocket, ctx, "the server does not answer the key"));
        }
        Ok(WebSocket::new(stream, Role::Client, MAX_MESSAGE, protocol))
    }
}
