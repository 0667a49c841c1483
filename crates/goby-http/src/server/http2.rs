//! One connection of HTTP/2, and the goroutines that serve its streams.
//!
//! The goroutine of the connection polls hyper's connection, which reads and writes all frames.
//! hyper makes a future per request, and each of these futures runs in a goroutine of its own,
//! where the handler may park ([`exchange`]).
//!
//! ```text
//!   connection:  poll ──> hyper has a request ──┬──> a goroutine for it
//!                                               └──> the queue, if as many run as may be open
//! ```
//!
//! # What ends an abuse
//!
//! | a client                               | meets                                               |
//! |----------------------------------------|-----------------------------------------------------|
//! | opens streams and resets them at once  | the queue, which is bounded ([`QUEUE`]): handlers whose stream was reset still count |
//! | resets before a request is taken       | h2's limit: 20 of them cost the connection          |
//! | sends a head without end               | h2's limits, which follow from `max_head_bytes`     |
//! | does not take a response               | `stall_timeout`, `write_timeout`: the stream is reset |
//! | does not send the body of a request    | `stall_timeout`, `read_timeout`: reading it fails   |
//! | sends a body without end               | `max_body_bytes`                                    |
//! | does nothing                           | `header_timeout`, then `idle_timeout`               |
//! | does not end when it is told to        | [`QUIET`] and [`LONGEST`]                           |
//!
//! A connection is told to end by GOAWAY: when it is idle for too long, when the server stops, and
//! with the last request that it may carry.

mod exchange;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::mem;
use std::net::{Shutdown, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker, ready};
use std::time::{Duration, Instant};

use goby::{Context, block_on, try_go};
use hyper::rt::{Executor, Sleep, Timer as _};
use hyper::server::conn::http2;
use parking_lot::Mutex;

pub(super) use exchange::Exchange;

use super::connection::Ended;
use super::limits::Settings;
use super::linger::linger;
use super::{Server, Stopping};
use crate::handler::Handler;
use crate::rt::Timer;
use crate::stream::{Link, Stream};
use exchange::{Clerk, Client, Driver, Limits};

/// The protocols that a server offers if its acceptor names none.
#[cfg_attr(not(feature = "tls"), expect(dead_code))]
pub(super) const OFFERED: [&str; 2] = ["h2", "http/1.1"];

/// The first bytes of a client that speaks HTTP/2. Source: RFC 9113, section 3.4.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How many requests may wait for each that may run; more cost the connection. Source: Go's
/// `serverConn.scheduleHandler`.
const QUEUE: usize = 4;
/// The size of a head unless it is set, as HTTP/2 counts it: 32 bytes more per field.
const MOST_HEAD: u32 = 64 << 10;
/// How long a connection that was told to end, and has no stream, may move no byte, and how long it
/// may last at all.
const QUIET: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(60);
/// How long an answer to a ping may take. Source: Go's `HTTP2Config.PingTimeout`.
const PONG: Duration = Duration::from_secs(15);

/// The settings of HTTP/2.
#[derive(Clone)]
pub(super) struct Options {
    max_streams: u32,
    ping_interval: Option<Duration>,
    h2c: bool,
}

impl Options {
    /// Whether a client may begin with HTTP/2 without TLS.
    pub(super) fn takes_h2c(&self) -> bool {
        self.h2c
    }
}

impl Default for Options {
    fn default() -> Options {
        Options { max_streams: 250, ping_interval: None, h2c: false }
    }
}

impl Server {
    /// Sets whether a client may speak HTTP/2 without TLS, by beginning with it ("prior
    /// knowledge"). Default: false.
    ///
    /// Proxies and gRPC do so; browsers do not. With TLS, [ALPN](Server::tls) chooses.
    ///
    /// ```
    /// let server = goby_http::Server::bind("127.0.0.1:0")?.h2c(true);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// Source: Go's `Protocols.SetUnencryptedHTTP2`, RFC 9113, section 3.3.
    #[must_use]
    pub fn h2c(mut self, h2c: bool) -> Server {
        self.settings.http2.h2c = h2c;
        self
    }

    /// Sets how many requests a connection of HTTP/2 may have at a time. Default: 250.
    ///
    /// No more handlers than that run for one connection, even if the client resets their streams
    /// and opens new ones: those wait.
    ///
    /// ```
    /// let server = goby_http::Server::bind("127.0.0.1:0")?.max_concurrent_streams(100);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If `streams` is 0.
    ///
    /// Source: Go's `HTTP2Config.MaxConcurrentStreams`.
    #[must_use]
    pub fn max_concurrent_streams(mut self, streams: u32) -> Server {
        assert!(streams > 0, "a connection needs at least one stream");
        self.settings.http2.max_streams = streams;
        self
    }

    /// Sets how often the server pings the client of a connection of HTTP/2. A client that does not
    /// answer within 15 seconds is gone. Default: never.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let server = goby_http::Server::bind("127.0.0.1:0")?.ping_interval(Duration::from_secs(30));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// Source: Go's `HTTP2Config.SendPingTimeout` and `PingTimeout`.
    #[must_use]
    pub fn ping_interval(mut self, interval: impl Into<Option<Duration>>) -> Server {
        self.settings.http2.ping_interval = interval.into();
        self
    }
}

/// Serves a connection until it ends and none of its handlers runs.
pub(super) fn serve(
    stream: Stream,
    link: &Arc<Link>,
    addr: SocketAddr,
    handler: Arc<dyn Handler>,
    base: Context,
    settings: &Settings,
    stopping: &Stopping,
) {
    let streams = Streams(Arc::new(Inner {
        most: settings.http2.max_streams as usize,
        client: Client { addr, base, handler, limits: Limits::new(settings) },
        state: Mutex::new(State::new()),
    }));
    // The time-outs are those of `Connection::deadline`.
    link.socket.set_read_deadline(None);
    let now = goby::now();
    let mut connection = Connection {
        driver: Box::pin(protocol(settings, &streams).serve_connection(stream, Clerk)),
        streams: &streams.0,
        link,
        settings,
        start: now,
        told_at: None,
        moved: link.progress(),
        moved_at: now,
        sleep: Timer.sleep_until(now),
        waker: None,
    };
    // A panic of hyper costs its connection and nothing else.
    let ended = catch_unwind(AssertUnwindSafe(|| block_on(poll_fn(|cx| connection.poll(cx, stopping)))));
    if ended.is_err() {
        eprintln!("goby-http: panic on a connection from {addr}; connection closed");
    }
    // This ends the streams that are left.
    drop(connection);
    match ended {
        Ok(Ok(())) => linger(link, stopping),
        // Now, and not when the last handler has returned. An error means that it is closed
        // already.
        _ => _ = link.socket.shutdown(Shutdown::Both),
    }
    streams.0.wait();
}

fn protocol(settings: &Settings, streams: &Streams) -> http2::Builder<Streams> {
    let Options { max_streams, ping_interval, .. } = settings.http2;
    let mut protocol = http2::Builder::new(streams.clone());
    let max_head = settings.max_head.map_or(MOST_HEAD, |most| most.try_into().unwrap_or(u32::MAX));
    protocol.timer(Timer).max_concurrent_streams(max_streams).max_header_list_size(max_head);
    protocol.keep_alive_interval(ping_interval).keep_alive_timeout(PONG);
    protocol
}

struct Connection<'a> {
    driver: Pin<Box<http2::Connection<Stream, Clerk, Streams>>>,
    streams: &'a Inner,
    link: &'a Link,
    settings: &'a Settings,
    start: Instant,
    /// When the client was told that no more requests are taken.
    told_at: Option<Instant>,
    /// What [`Link::progress`] said, and since when.
    moved: (u64, u64),
    moved_at: Instant,
    sleep: Pin<Box<dyn Sleep>>,
    /// The waker that `stopping` wakes.
    waker: Option<Waker>,
}

impl Connection<'_> {
    fn poll(&mut self, cx: &mut TaskContext<'_>, stopping: &Stopping) -> Poll<Result<(), Ended>> {
        stopping.register_once(&mut self.waker, cx.waker());
        loop {
            if stopping.is_stopping() {
                self.tell();
            }
            if let Poll::Ready(ended) = self.driver.as_mut().poll(cx) {
                // An error is the client's: it has gone away, or does not speak HTTP/2.
                return Poll::Ready(ended.map_err(|_| Ended));
            }
            let load = self.streams.load();
            if load.is_flooded {
                return Poll::Ready(Err(Ended));
            }
            if load.begun >= self.settings.most_requests() && self.tell() {
                continue;
            }
            let Some(deadline) = self.deadline(&load) else { return Poll::Pending };
            Timer.reset(&mut self.sleep, deadline);
            ready!(self.sleep.as_mut().poll(cx));
            // With streams, it was only time to look again.
            if load.running == 0 && !self.tell() {
                return Poll::Ready(Err(Ended));
            }
        }
    }

    /// Tells the client that no more requests are taken; false if it has been told.
    fn tell(&mut self) -> bool {
        if self.told_at.is_some() {
            return false;
        }
        self.told_at = Some(goby::now());
        self.driver.as_mut().graceful_shutdown();
        true
    }

    /// When the connection has to be told to end, or ended, unless something happens meanwhile.
    ///
    /// The end of a stream does not wake the connection for this: while there are streams, the
    /// deadline is one for looking again, which comes no later than the one after their end.
    fn deadline(&mut self, load: &Load) -> Option<Instant> {
        let now = goby::now();
        let moved = self.link.progress();
        if self.moved != moved {
            (self.moved, self.moved_at) = (moved, now);
        }
        match self.told_at {
            Some(_) if load.running > 0 => now.checked_add(QUIET),
            Some(told_at) => {
                let since = told_at.max(load.idle_since);
                Some((since.max(self.moved_at) + QUIET).min(since + LONGEST))
            }
            None if load.running > 0 => now.checked_add(self.settings.idle_timeout?),
            None if load.begun == 0 => self.start.checked_add(self.settings.header_timeout?),
            None => load.idle_since.checked_add(self.settings.idle_timeout?),
        }
    }
}

/// Runs the streams of a connection, each in a goroutine.
#[derive(Clone)]
pub(super) struct Streams(Arc<Inner>);

struct Inner {
    /// How many may run at a time.
    most: usize,
    client: Client,
    /// A short lock.
    state: Mutex<State>,
}

struct State {
    running: usize,
    begun: u64,
    /// Since when nothing runs.
    idle_since: Instant,
    is_flooded: bool,
    queue: VecDeque<Driver>,
    /// The goroutine of the connection, when it waits for the end of all.
    waker: Option<Waker>,
}

/// How a connection is used.
struct Load {
    running: usize,
    begun: u64,
    idle_since: Instant,
    is_flooded: bool,
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        self.0.begin(Box::pin(stream));
    }
}

impl State {
    fn new() -> State {
        let (is_flooded, queue) = (false, VecDeque::new());
        State { running: 0, begun: 0, idle_since: goby::now(), is_flooded, queue, waker: None }
    }
}

impl Inner {
    /// Starts a stream, or queues it.
    fn begin(self: &Arc<Inner>, stream: Driver) {
        {
            let mut state = self.state.lock();
            state.begun += 1;
            if state.running == self.most {
                state.is_flooded |= state.queue.len() >= QUEUE * self.most;
                if !state.is_flooded {
                    state.queue.push_back(stream);
                }
                return;
            }
            state.running += 1;
        }
        let this = self.clone();
        if try_go(move || this.run(stream)).is_err() {
            // There is no room for a goroutine. Dropping a stream resets it.
            while self.leave().is_some() {}
        }
    }

    /// Serves a stream, then those that wait.
    fn run(&self, stream: Driver) {
        let mut next = Some(stream);
        while let Some(stream) = next {
            exchange::serve(&self.client, stream);
            next = self.leave();
        }
    }

    /// Takes the next stream in the place of one that has ended.
    fn leave(&self) -> Option<Driver> {
        let waker = {
            let mut state = self.state.lock();
            if let Some(stream) = state.queue.pop_front() {
                return Some(stream);
            }
            state.running -= 1;
            if state.running > 0 {
                return None;
            }
            state.idle_since = goby::now();
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        None
    }

    fn load(&self) -> Load {
        let State { running, begun, idle_since, is_flooded, .. } = *self.state.lock();
        Load { running, begun, idle_since, is_flooded }
    }

    /// Waits until no handler runs. The connection has ended, and so have the streams in the queue.
    fn wait(&self) {
        let queue = mem::take(&mut self.state.lock().queue);
        drop(queue);
        block_on(poll_fn(|cx| {
            let mut state = self.state.lock();
            if state.running == 0 {
                return Poll::Ready(());
            }
            let old = state.waker.replace(cx.waker().clone());
            drop(state);
            drop(old);
            Poll::Pending
        }));
    }
}
