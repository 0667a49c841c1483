//! Server-sent events: a response that goes on, in pieces of text that a browser's `EventSource`
//! understands.
//!
//! A function in a goroutine of its own sends the events, each at once. When the client goes away,
//! its context is done, and sending is an error. Source: the HTML standard, section "Server-sent
//! events"; axum's `Sse` and `Event`.
//!
//! ```
//! use goby::Context;
//! use goby_http::sse::{self, Event};
//! use goby_http::{Request, Response, Server, get};
//!
//! fn countdown(request: Request) -> Response {
//!     sse::stream(&request, |events| {
//!         for i in [3, 2, 1] {
//!             events.send(&Event::new().data(i.to_string()))?;
//!         }
//!         events.send(&Event::new().event("start").data("go!"))
//!     })
//! }
//!
//! let server = Server::bind("127.0.0.1:0")?;
//! let url = format!("http://{}/", server.local_addr());
//! let (serving, _stop) = Context::background().with_cancel();
//! goby::go(move || server.serve_ctx(&serving, countdown));
//! let response = get(&Context::background(), url)?;
//! assert_eq!(response.headers()["content-type"], "text/event-stream");
//! assert_eq!(response.text()?, "data: 3\n\ndata: 2\n\ndata: 1\n\nevent: start\ndata: go!\n\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A browser connects again when a stream ends, and sends the `id` of the last event in the header
//! `last-event-id`. It is told to stop by status 204. A proxy may buffer the stream: nginx does not
//! if the response has the header `x-accel-buffering: no`.

use std::fmt;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use goby::Context;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

use crate::body::Body;
use crate::response::Response;
use crate::server::Request;
use crate::writer::BodyWriter;

/// How long a stream is silent at most: less than what proxies let pass. axum's figure.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Makes a response of the events that a function sends: [`Sse`] with its defaults.
///
/// ```
/// use goby_http::{Request, Router};
/// use goby_http::sse::{self, Event};
/// let router = Router::new()
///     .get("/events", |request: Request| sse::stream(&request, |events| events.send(&Event::new().data("hello"))));
/// ```
pub fn stream<F>(request: &Request, send: F) -> Response
where
    F: FnOnce(&mut Events<'_>) -> io::Result<()> + Send + 'static,
{
    Sse::new().stream(request, send)
}

/// The settings of a stream of events.
///
/// ```
/// use goby_http::{Request, Router};
/// use goby_http::sse::{Event, Sse};
/// use std::time::Duration;
///
/// let sse = Sse::new().keep_alive(Duration::from_secs(60));
/// let router = Router::new()
///     .get("/events", move |request: Request| sse.stream(&request, |events| events.send(&Event::new().data("hello"))));
/// ```
#[derive(Clone, Debug)]
pub struct Sse {
    keep_alive: Option<Duration>,
}

impl Default for Sse {
    fn default() -> Sse {
        Sse { keep_alive: Some(KEEP_ALIVE) }
    }
}

impl Sse {
    /// Makes the default settings.
    ///
    /// ```
    /// let sse = goby_http::sse::Sse::new();
    /// ```
    pub fn new() -> Sse {
        Sse::default()
    }

    /// Sets after what time without an event an empty comment is sent, or that none is (`None`).
    /// It keeps proxies from closing the connection, and shows when the client has gone away
    /// without a word. Default: 15 seconds.
    ///
    /// ```
    /// let sse = goby_http::sse::Sse::new().keep_alive(None);
    /// ```
    #[must_use]
    pub fn keep_alive(mut self, pause: impl Into<Option<Duration>>) -> Sse {
        self.keep_alive = pause.into();
        self
    }

    /// Makes a response of the events that a function sends, in a goroutine of its own; see
    /// [`Body::from_writer`]. The stream ends when the function returns.
    ///
    /// ```
    /// use goby_http::{Request, Router};
    /// use goby_http::sse::{Event, Sse};
    /// let router = Router::new()
    ///     .get("/", |request: Request| Sse::new().stream(&request, |events| events.send(&Event::new().data("hello"))));
    /// ```
    pub fn stream<F>(&self, request: &Request, send: F) -> Response
    where
        F: FnOnce(&mut Events<'_>) -> io::Result<()> + Send + 'static,
    {
        let filler = self.keep_alive.map(|pause| (pause, Bytes::from_static(b":\n\n")));
        let body = Body::written(request.context(), filler, |out| send(&mut Events { out }));
        Response::new(body).with_header(CONTENT_TYPE, "text/event-stream").with_header(CACHE_CONTROL, "no-cache")
    }
}

/// Where the function of a stream sends its events.
#[derive(Debug)]
pub struct Events<'a> {
    out: &'a mut BodyWriter,
}

impl Events<'_> {
    /// Sends an event at once.
    ///
    /// ```
    /// use goby_http::Request;
    /// use goby_http::sse::{self, Event};
    /// let handler = |request: Request| sse::stream(&request, |events| events.send(&Event::new().data("hello")));
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine until the connection takes the event, after it has sent those before.
    ///
    /// # Errors
    ///
    /// When the client has gone away, with [`io::ErrorKind::BrokenPipe`].
    pub fn send(&mut self, event: &Event) -> io::Result<()> {
        self.out.send(format!("{event}\n"))
    }

    /// Gives a context that is done when the client has gone away: for the function's waits between
    /// two events.
    ///
    /// ```
    /// use goby::time;
    /// use goby_http::Request;
    /// use goby_http::sse::{self, Event};
    /// use std::time::Duration;
    ///
    /// let clock = |request: Request| {
    ///     sse::stream(&request, |events| {
    ///         while time::sleep_ctx(events.context(), Duration::from_secs(1)).is_ok() {
    ///             events.send(&Event::new().data("tick"))?;
    ///         }
    ///         Ok(())
    ///     })
    /// };
    /// ```
    pub fn context(&self) -> &Context {
        self.out.context()
    }
}

/// An event. A client that gets one without [`data`](Event::data) tells nobody.
///
/// ```
/// use goby_http::sse::Event;
/// use std::time::Duration;
///
/// let event = Event::new().event("price").id("17").retry(Duration::from_secs(3)).data("GOBY\n12.5");
/// assert_eq!(event.to_string(), "event: price\nid: 17\nretry: 3000\ndata: GOBY\ndata: 12.5\n");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Its lines.
    text: String,
}

impl Event {
    /// Makes an empty event.
    ///
    /// ```
    /// assert_eq!(goby_http::sse::Event::new().to_string(), "");
    /// ```
    pub fn new() -> Event {
        Event::default()
    }

    /// Adds text, of any number of lines. All line ends arrive as `\n`.
    ///
    /// ```
    /// use goby_http::sse::Event;
    /// assert_eq!(Event::new().data("one\r\ntwo").to_string(), "data: one\ndata: two\n");
    /// ```
    #[must_use]
    pub fn data(self, text: impl AsRef<str>) -> Event {
        self.lines("data: ", text.as_ref())
    }

    /// Names its kind: that of the listener which gets it. Without, it is `message`.
    ///
    /// ```
    /// use goby_http::sse::Event;
    /// assert_eq!(Event::new().event("joined").to_string(), "event: joined\n");
    /// ```
    ///
    /// # Panics
    ///
    /// When `name` has a line end.
    #[must_use]
    pub fn event(self, name: impl AsRef<str>) -> Event {
        let name = name.as_ref();
        assert!(!name.contains(['\r', '\n']), "the name of an event is one line: {name:?}");
        self.lines("event: ", name)
    }

    /// Sets what the client sends as `last-event-id` if it has to connect again.
    ///
    /// ```
    /// use goby_http::sse::Event;
    /// assert_eq!(Event::new().id("17").to_string(), "id: 17\n");
    /// ```
    ///
    /// # Panics
    ///
    /// When `id` has a line end or a NUL.
    #[must_use]
    pub fn id(self, id: impl AsRef<str>) -> Event {
        let id = id.as_ref();
        assert!(!id.contains(['\r', '\n', '\0']), "the id of an event is one line without NUL: {id:?}");
        self.lines("id: ", id)
    }

    /// Sets how long the client waits before it connects again, in whole milliseconds.
    ///
    /// ```
    /// use goby_http::sse::Event;
    /// use std::time::Duration;
    /// assert_eq!(Event::new().retry(Duration::from_secs(1)).to_string(), "retry: 1000\n");
    /// ```
    #[must_use]
    pub fn retry(self, pause: Duration) -> Event {
        self.lines("retry: ", &pause.as_millis().to_string())
    }

    /// Adds a comment, which clients skip.
    ///
    /// ```
    /// use goby_http::sse::Event;
    /// assert_eq!(Event::new().comment("still here").to_string(), ": still here\n");
    /// ```
    #[must_use]
    pub fn comment(self, text: impl AsRef<str>) -> Event {
        self.lines(": ", text.as_ref())
    }

    /// Adds a field for each line of `text`. A client takes `\r`, `\n` and `\r\n` for the end of
    /// one.
    fn lines(mut self, field: &str, text: &str) -> Event {
        for line in text.replace("\r\n", "\n").split(['\r', '\n']) {
            self.text.extend([field, line, "\n"]);
        }
        self
    }
}

/// Its lines, without the empty one that ends it.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
