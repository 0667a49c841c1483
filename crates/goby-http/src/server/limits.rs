//! The server's limits: how long, how large, how many.

use std::time::Duration;

use goby::Context;
use goby::sync::{Permit, Semaphore};
use hyper::server::conn::http1;

use super::Server;
use super::connection::{self, PATIENCE};
use super::http2;
use crate::head::MAX_HEAD;
use crate::tls::Acceptor;

#[derive(Clone)]
pub(super) struct Settings {
    pub(super) protocol: http1::Builder,
    pub(super) keep_alive: bool,
    pub(super) tls: Option<Acceptor>,
    pub(super) http2: http2::Options,
    pub(super) header_timeout: Option<Duration>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) read_timeout: Option<Duration>,
    pub(super) write_timeout: Option<Duration>,
    pub(super) stall_timeout: Option<Duration>,
    /// `None`: hyper's own.
    pub(super) max_head: Option<usize>,
    pub(super) max_body: u64,
    pub(super) max_connections: Option<usize>,
    pub(super) max_requests: u64,
    /// The first look at an idle connection. Set when the server starts, as is the other.
    pub(super) patience: Duration,
    /// There is a limit to the whole request or response.
    pub(super) is_timed: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            protocol: http1::Builder::new(),
            keep_alive: true,
            tls: None,
            http2: http2::Options::default(),
            header_timeout: Some(Duration::from_secs(30)),
            idle_timeout: Some(Duration::from_secs(120)),
            read_timeout: None,
            write_timeout: None,
            stall_timeout: Some(Duration::from_secs(60)),
            max_head: None,
            max_body: u64::MAX,
            max_connections: None,
            max_requests: u64::MAX,
            patience: PATIENCE,
            is_timed: false,
        }
    }
}

impl Settings {
    /// Gives the settings as connections use them.
    pub(super) fn prepared(&self) -> Settings {
        Settings {
            protocol: connection::protocol(self),
            patience: self.idle_timeout.map_or(PATIENCE, |timeout| timeout.min(PATIENCE)),
            is_timed: self.read_timeout.is_some() || self.write_timeout.is_some(),
            ..self.clone()
        }
    }

    /// How long a head may take.
    pub(super) fn head_timeout(&self) -> Option<Duration> {
        match (self.header_timeout, self.read_timeout) {
            (Some(header), Some(read)) => Some(header.min(read)),
            (header, read) => header.or(read),
        }
    }

    /// How many requests a connection may carry.
    #[cfg(feature = "http2")]
    pub(super) fn most_requests(&self) -> u64 {
        if self.keep_alive { self.max_requests } else { 1 }
    }

    /// How many bytes a head may have.
    pub(super) fn max_head(&self) -> usize {
        self.max_head.unwrap_or(MAX_HEAD)
    }
}

/// Limits.
impl Server {
    /// Sets how long the head of a request may take to arrive: from its first byte, or from the
    /// beginning of the connection. With TLS, the handshake has this time, too. Default: 30
    /// seconds.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let server = goby_http::Server::bind("127.0.0.1:0")?.header_timeout(Duration::from_secs(5));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn header_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Server {
        self.settings.header_timeout = timeout.into();
        self
    }

    /// Sets how long a connection may be without a request. Default: 2 minutes.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let server = goby_http::Server::bind("127.0.0.1:0")?.idle_timeout(Duration::from_secs(5));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Server {
        self.settings.idle_timeout = timeout.into();
        self
    }

    /// Sets how long a request may take to arrive, its body included: from the first byte of its
    /// head, or from the beginning of the connection; with HTTP/2, from the end of its head.
    /// Default: no limit.
    ///
    /// A handler that reads the body later gets an error that [is a
    /// timeout](crate::Error::is_timeout). It can still answer; then the connection is closed, or
    /// the stream.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let server = goby_http::Server::bind("127.0.0.1:0")?.read_timeout(Duration::from_secs(30));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// Source: `ReadTimeout` of Go's `http.Server`.
    #[must_use]
    pub fn read_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Server {
        self.settings.read_timeout = timeout.into();
        self
    }

    /// Sets how long a response may take until it is sent: from the end of the request's head, so
    /// the time of the handler counts. Then the connection is closed; with HTTP/2, the stream is
    /// reset. Default: no limit.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let server = goby_http::Server::bind("127.0.0.1:0")?.write_timeout(Duration::from_secs(30));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// Source: `WriteTimeout` of Go's `http.Server`.
    #[must_use]
    pub fn write_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Server {
        self.settings.write_timeout = timeout.into();
        self
    }

    /// Sets how long a client may neither send a byte of the body that is being read, nor take a
    /// byte of the response. Default: 60 seconds.
    ///
    /// The handler that reads such a body gets an error that [is a
    /// timeout](crate::Error::is_timeout), and can still answer. A connection whose client takes
    /// nothing is closed; with HTTP/2, the stream is reset. Time that a handler takes does not
    /// count.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let server = goby_http::Server::bind("127.0.0.1:0")?.stall_timeout(Duration::from_secs(10));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// Source: `client_body_timeout` and `send_timeout` of nginx.
    #[must_use]
    pub fn stall_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Server {
        self.settings.stall_timeout = timeout.into();
        self
    }

    /// Sets how many bytes the head of a request may have. A longer one is answered with `431
    /// Request Header Fields Too Large`. Default: 400 KiB with HTTP/1.1, 64 KiB with HTTP/2, which
    /// counts 32 bytes more per field.
    ///
    /// ```
    /// let server = goby_http::Server::bind("127.0.0.1:0")?.max_head_bytes(16 << 10);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// Source: `MaxHeaderBytes` of Go's `http.Server`.
    #[must_use]
    pub fn max_head_bytes(mut self, most: usize) -> Server {
        self.settings.max_head = Some(most);
        self
    }

    /// Sets how many bytes the body of a request may have. Default: no limit.
    ///
    /// A request that announces more is answered with `413 Payload Too Large`, and no handler sees
    /// it. If the length is not announced, reading gives an error after that many bytes, which a
    /// handler may return for the same answer.
    ///
    /// ```
    /// let server = goby_http::Server::bind("127.0.0.1:0")?.max_body_bytes(1 << 20);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// Source: Go's `http.MaxBytesReader`, and `client_max_body_size` of nginx.
    #[must_use]
    pub fn max_body_bytes(mut self, most: u64) -> Server {
        self.settings.max_body = most;
        self
    }

    /// Sets how many connections there may be at a time. Default: no limit.
    ///
    /// With that many, the server accepts no more until one ends, and says so once on standard
    /// error. Clients wait meanwhile, as many as the system's queue takes.
    ///
    /// ```
    /// let server = goby_http::Server::bind("127.0.0.1:0")?.max_connections(10_000);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Panics
    ///
    /// When it is 0.
    ///
    /// Source: Go's `netutil.LimitListener`.
    #[must_use]
    pub fn max_connections(mut self, most: usize) -> Server {
        assert!(most > 0, "a server needs a connection");
        self.settings.max_connections = Some(most);
        self
    }

    /// Sets how many requests a connection may carry; the last response says that it closes.
    /// Default: no limit.
    ///
    /// ```
    /// let server = goby_http::Server::bind("127.0.0.1:0")?.max_requests_per_connection(1000);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Panics
    ///
    /// When it is 0.
    ///
    /// Source: `keepalive_requests` of nginx.
    #[must_use]
    pub fn max_requests_per_connection(mut self, most: u64) -> Server {
        assert!(most > 0, "a connection needs a request");
        self.settings.max_requests = most;
        self
    }

    /// Sets whether a connection may carry more than one request. Default: true.
    ///
    /// ```
    /// let server = goby_http::Server::bind("127.0.0.1:0")?.keep_alive(false);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn keep_alive(mut self, keep_alive: bool) -> Server {
        self.settings.keep_alive = keep_alive;
        self
    }
}

/// The room for connections.
pub(super) struct Room {
    free: Option<Semaphore>,
    most: usize,
    has_told: bool,
}

impl Room {
    pub(super) fn new(most: Option<usize>) -> Room {
        Room { free: most.map(Semaphore::new), most: most.unwrap_or(usize::MAX), has_told: false }
    }

    /// Waits until there is room for one more connection. Returns what takes it until dropped;
    /// `None` inside if there is no limit, `None` outside if `ctx` is done.
    pub(super) fn wait(&mut self, ctx: &Context) -> Option<Option<Permit>> {
        let Some(free) = &self.free else { return Some(None) };
        if let Some(place) = free.try_acquire(1) {
            return Some(Some(place));
        }
        if !self.has_told {
            self.has_told = true;
            eprintln!("goby-http: there are {} connections, as many as may be: others wait (said once)", self.most);
        }
        free.acquire(ctx, 1).ok().map(Some)
    }
}
