//! The server: it accepts connections, serves each in a goroutine of its own, and stops without
//! breaking off the requests under way.
//!
//! Stopping: the context that accepting waits under is canceled, the listener is dropped, every
//! connection is told (its driver is woken, and sees `Stopping`), and the server waits for their
//! goroutines. A connection registers its waker before it looks whether to stop; `Shared::stop`
//! sets the flag before it wakes. So one of the two sees the other.

mod accept;
mod check;
mod connection;
// The one place that depends on the feature: both files have the same functions.
#[cfg_attr(not(feature = "http2"), path = "server/no_http2.rs")]
mod http2;
mod incoming;
mod limits;
mod linger;
mod report;
mod request;
mod rest;
#[cfg(feature = "tls")]
mod secure;
mod timeout;
mod upgrade;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;
use std::time::Duration;

use goby::Context;
use goby::context::{CancelGuard, ContextError};
use goby::net::{Address, TcpListener, UnixListener};
use goby::sync::{Permit, WaitGroup};
use parking_lot::Mutex;
use rustix::io::Errno;

pub use request::Request;
pub use timeout::with_timeout;

use self::limits::{Room, Settings};
use self::rest::Kept;
use crate::handler::Handler;
use crate::response::Response;
use crate::socket::Socket;
use crate::stall::Stall;
use crate::stream::Link;
use accept::{Handshakes, Listening};

/// How long the server waits when the system has no room for another connection: the first wait,
/// and the longest (Go's figures).
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Serves HTTP on `listener`, each connection in a goroutine of its own, until accepting fails.
///
/// A [`Handler`] is a function from [`Request`] to whatever makes a response: text, bytes, a
/// status, a [`Response`](crate::Response), or a [`Result`]. It is straight-line code that may park
/// its goroutine, and many run at a time. For time-outs and shutdown there is [`Server`].
///
/// ```
/// use goby::{Context, net::TcpListener};
/// use goby_http::{Request, StatusCode, get, serve};
///
/// # // It serves to the end of the process.
/// # let runtime = goby::Runtime::builder().report_leaks(false).build()?;
/// # runtime.run(|| -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let addr = listener.local_addr()?;
/// goby::go(move || {
///     serve(listener, |request: Request| match request.path() {
///         "/hello" => (StatusCode::OK, format!("hello, {}", request.query().unwrap_or("world"))),
///         path => (StatusCode::NOT_FOUND, format!("there is no {path}")),
///     })
/// });
/// let ctx = Context::background();
/// assert_eq!(get(&ctx, format!("http://{addr}/hello?you"))?.text()?, "hello, you");
/// assert_eq!(get(&ctx, format!("http://{addr}/other"))?.status(), 404);
/// # Ok(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
///
/// # Blocking
///
/// Parks the goroutine for as long as it serves.
///
/// # Panics
///
/// Never: a panic of the handler is reported on standard error and answered with 500.
///
/// # Errors
///
/// When accepting fails permanently. If the system has no room for more connections at the moment,
/// the server waits and tries again.
pub fn serve(listener: TcpListener, handler: impl Handler) -> io::Result<()> {
    Server::new(listener)?.serve(handler)
}

/// A server with its settings, which can be shut down.
///
/// ```
/// use goby::{Context, sync::WaitGroup};
/// use goby_http::{Request, Server, get};
/// use std::time::Duration;
///
/// let server = Server::bind("127.0.0.1:0")?.idle_timeout(Duration::from_secs(10));
/// let url = format!("http://{}/", server.local_addr());
/// let (ctx, cancel) = Context::background().with_cancel();
/// let serving = goby::go(move || server.serve_ctx(&ctx, |_: Request| "hello"));
///
/// assert_eq!(get(&Context::background(), &url)?.text()?, "hello");
/// cancel.cancel();
/// serving.join().unwrap()?;
/// assert!(get(&Context::background(), &url).unwrap_err().is_connect());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Server {
    listener: Mutex<Option<Listening>>,
    addr: SocketAddr,
    settings: Settings,
    shared: Arc<Shared>,
}

/// What the server and its connections share.
#[derive(Default)]
struct Shared {
    stopping: AtomicBool,
    /// A short lock.
    state: Mutex<State>,
    /// The goroutines of connections.
    goroutines: WaitGroup,
    handshakes: Handshakes,
}

#[derive(Default)]
struct State {
    /// Ends accepting.
    accepting: Option<CancelGuard>,
    /// Ends the contexts of requests.
    requests: Option<CancelGuard>,
    /// The context of connections that leave HTTP, and what ends it.
    upgraded: Option<(Context, CancelGuard)>,
    connections: HashMap<u64, Entry>,
    last: u64,
}

struct Entry {
    link: Arc<Link>,
    /// Wakes its driver.
    waker: Option<Waker>,
}

/// A connection's registration with its server.
struct Stopping {
    shared: Arc<Shared>,
    id: u64,
    /// Its place among the connections that there may be.
    _place: Option<Permit>,
}

impl Server {
    /// Listens at `addr`.
    ///
    /// ```
    /// let server = goby_http::Server::bind("127.0.0.1:0")?;
    /// assert_ne!(server.local_addr().port(), 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine while a name is looked up.
    ///
    /// # Errors
    ///
    /// Those of [`TcpListener::bind`].
    pub fn bind(addr: impl Into<Address>) -> io::Result<Server> {
        Server::new(TcpListener::bind(addr)?)
    }

    /// Makes a server of a listener.
    ///
    /// ```
    /// let listener = goby::net::TcpListener::bind("127.0.0.1:0")?;
    /// let server = goby_http::Server::new(listener)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When the system does not tell the listener's address.
    pub fn new(listener: TcpListener) -> io::Result<Server> {
        Server::at(Listening::Tcp(listener))
    }

    /// Makes a server of a Unix listener, for clients on the same machine.
    ///
    /// [`local_addr`](Server::local_addr) and [`remote_addr`](Request::remote_addr) are
    /// `0.0.0.0:0` then: a Unix socket has no address of that kind.
    ///
    /// ```
    /// use goby::{Context, net::{UnixListener, UnixStream}};
    /// use goby_http::{Request, Server};
    /// use std::io::{Read, Write};
    ///
    /// let path = std::env::temp_dir().join(format!("goby-http-{}.sock", std::process::id()));
    /// let server = Server::from_unix(UnixListener::bind(&path)?)?;
    /// let (serving, _stop) = Context::background().with_cancel();
    /// goby::go(move || server.serve_ctx(&serving, |request: Request| request.remote_addr().to_string()));
    ///
    /// let mut stream = UnixStream::connect(&path)?;
    /// stream.write_all(b"GET / HTTP/1.1\r\nHost: any\r\nConnection: close\r\n\r\n")?;
    /// let mut answer = String::new();
    /// stream.read_to_string(&mut answer)?;
    /// assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("0.0.0.0:0"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// None so far.
    pub fn from_unix(listener: UnixListener) -> io::Result<Server> {
        Server::at(Listening::Unix(listener))
    }

    fn at(listener: Listening) -> io::Result<Server> {
        let addr = listener.local_addr()?;
        Ok(Server { listener: Mutex::new(Some(listener)), addr, settings: Settings::default(), shared: Arc::default() })
    }

    /// Gives the address that the server listens at, with the port that the system chose;
    /// `0.0.0.0:0` for a Unix listener.
    ///
    /// ```
    /// let server = goby_http::Server::bind("127.0.0.1:0")?;
    /// assert!(server.local_addr().ip().is_loopback());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until the server is [shut down](Server::shutdown), or accepting fails.
    ///
    /// ```
    /// use goby::Context;
    /// use goby_http::{Request, Server, get};
    /// let server = Server::bind("127.0.0.1:0")?;
    /// let url = format!("http://{}/", server.local_addr());
    /// goby::scope(|scope| {
    ///     let serving = scope.go(|| server.serve(|_: Request| "hello"));
    ///     assert_eq!(get(&Context::background(), url).unwrap().text().unwrap(), "hello");
    ///     server.shutdown(&Context::background()).unwrap();
    ///     serving.join().unwrap()
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine for as long as it serves.
    ///
    /// # Errors
    ///
    /// When accepting fails permanently, and when the server is serving already. One that has been
    /// stopped serves no more, and says so by ending at once.
    pub fn serve(&self, handler: impl Handler) -> io::Result<()> {
        self.serve_ctx(&Context::background(), handler)
    }

    /// Serves until `ctx` is done, then stops as [`shutdown`](Server::shutdown) does: it finishes
    /// the requests under way.
    ///
    /// ```
    /// use goby::Context;
    /// use goby_http::{Request, Server};
    /// let server = Server::bind("127.0.0.1:0")?;
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// cancel.cancel();
    /// server.serve_ctx(&ctx, |_: Request| "hello")?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine for as long as it serves and until the last connection has ended.
    ///
    /// # Errors
    ///
    /// When accepting fails permanently, and when the server is serving already. One that has been
    /// stopped serves no more, and says so by ending at once.
    ///
    /// # Cancellation
    ///
    /// `ctx` ends accepting. It does not end the contexts of requests, which have only its values.
    pub fn serve_ctx(&self, ctx: &Context, handler: impl Handler) -> io::Result<()> {
        let Some(listener) = self.listener.lock().take() else {
            return match self.shared.stopping.load(Ordering::SeqCst) {
                // It has been shut down.
                true => Ok(()),
                false => Err(io::Error::other("the server is serving already")),
            };
        };
        let (accepting, accepting_guard) = ctx.with_cancel();
        let (requests, requests_guard) = ctx.without_cancel().with_cancel();
        listener.set_context(Some(&accepting));
        {
            let mut state = self.shared.state.lock();
            state.accepting = Some(accepting_guard);
            state.requests = Some(requests_guard);
            state.upgraded = Some(requests.with_cancel());
        }
        let settings = self.settings.prepared();
        let job = Arc::new(Job { handler, settings, shared: self.shared.clone(), requests });
        let mut room = Room::new(self.settings.max_connections);
        let mut pause = FIRST_PAUSE;
        let result = loop {
            // None: accepting is over.
            let Some(place) = room.wait(&accepting) else { break Ok(()) };
            if self.shared.stopping.load(Ordering::SeqCst) {
                break Ok(());
            }
            match listener.accept() {
                Ok((socket, addr)) => match job.start(socket, addr, place) {
                    Ok(()) => pause = FIRST_PAUSE,
                    Err(error) => {
                        eprintln!("goby-http: a connection from {addr} is dropped: {error}; going on in {pause:?}");
                        pause = self.wait_out(&accepting, pause);
                    }
                },
                Err(_) if accepting.err().is_some() => break Ok(()),
                Err(error) if passes(&error) => {
                    eprintln!("goby-http: accepting a connection failed: {error}; trying again in {pause:?}");
                    pause = self.wait_out(&accepting, pause);
                }
                Err(error) => break Err(error),
            }
        };
        drop(listener);
        self.shared.stop();
        self.shared.goroutines.wait();
        result
    }

    /// Sleeps for `pause`, and returns the next pause.
    fn wait_out(&self, accepting: &Context, pause: Duration) -> Duration {
        // An error means that serving is over; the loop sees it.
        let _ = goby::time::sleep_ctx(accepting, pause);
        (pause * 2).min(LONGEST_PAUSE)
    }

    /// Stops accepting and waits until the connections have ended, or `ctx` is done.
    ///
    /// Connections without a request are closed at once, the others after the response that is
    /// under way. Those that are left when `ctx` is done stay open; [`close`](Server::close) ends
    /// them.
    ///
    /// ```
    /// use goby::Context;
    /// use goby_http::{Request, Server};
    /// let server = Server::bind("127.0.0.1:0")?;
    /// server.shutdown(&Context::background()).unwrap();
    /// server.serve(|_: Request| "never")?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine until the last connection has ended.
    ///
    /// # Errors
    ///
    /// The context's error when it is done first.
    ///
    /// # Cancellation
    ///
    /// By `ctx`. The server has stopped accepting even then.
    pub fn shutdown(&self, ctx: &Context) -> Result<(), ContextError> {
        let listener = self.listener.lock().take();
        drop(listener);
        self.shared.stop();
        self.shared.goroutines.wait_ctx(ctx)
    }

    /// Stops accepting and closes all connections, including those that are being served.
    ///
    /// The contexts of their requests are canceled. A handler goes on until it notices.
    ///
    /// ```
    /// use goby_http::{Request, Server};
    /// let server = Server::bind("127.0.0.1:0")?;
    /// server.close();
    /// server.serve(|_: Request| "never")?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn close(&self) {
        let listener = self.listener.lock().take();
        drop(listener);
        self.shared.stop();
        let (requests, links): (_, Vec<_>) = {
            let mut state = self.shared.state.lock();
            (state.requests.take(), state.connections.values().map(|entry| entry.link.clone()).collect())
        };
        for link in links {
            // An error means that it is closed already.
            let _ = link.socket.shutdown(Shutdown::Both);
        }
        // Last: a handler that notices the cancellation can then no longer answer.
        drop(requests);
    }
}

/// What every connection of a server needs.
struct Job<H> {
    handler: H,
    settings: Settings,
    shared: Arc<Shared>,
    requests: Context,
}

impl<H: Handler> Job<H> {
    /// Starts the goroutine of a connection.
    fn start(self: &Arc<Job<H>>, socket: Socket, addr: SocketAddr, place: Option<Permit>) -> Result<(), String> {
        let stall = Stall::new(self.settings.stall_timeout);
        let link = Link::of_server(socket, self.settings.max_head(), stall);
        let stopping = self.shared.register(&link, place);
        self.clone().go_on(Kept { link, tls: None, addr, stopping, requests: 0, has_rested: false })
    }
}

impl<H: Handler> Handler for Job<H> {
    fn handle(&self, request: Request) -> Response {
        self.handler.handle(request)
    }
}

impl Shared {
    fn register(self: &Arc<Shared>, link: &Arc<Link>, place: Option<Permit>) -> Stopping {
        self.goroutines.add(1);
        let mut state = self.state.lock();
        state.last += 1;
        let id = state.last;
        state.connections.insert(id, Entry { link: link.clone(), waker: None });
        drop(state);
        Stopping { shared: self.clone(), id, _place: place }
    }

    /// Gives the context of a connection that leaves HTTP.
    fn upgraded(&self) -> Context {
        if let Some((ctx, _)) = &self.state.lock().upgraded {
            return ctx.clone();
        }
        // The server has stopped.
        let (ctx, guard) = Context::background().with_cancel();
        guard.cancel();
        ctx
    }

    fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        let (contexts, wakers): (_, Vec<_>) = {
            let mut state = self.state.lock();
            (
                (state.accepting.take(), state.upgraded.take()),
                state.connections.values_mut().filter_map(|entry| entry.waker.clone()).collect(),
            )
        };
        drop(contexts);
        for waker in wakers {
            waker.wake();
        }
    }
}

impl Stopping {
    /// Registers `waker`, which is woken when the server stops.
    fn register(&self, waker: Waker) {
        let mut state = self.shared.state.lock();
        let old = state.connections.get_mut(&self.id).and_then(|entry| entry.waker.replace(waker));
        drop(state);
        drop(old);
    }

    /// Registers `waker` unless it is the `registered` one.
    fn register_once(&self, registered: &mut Option<Waker>, waker: &Waker) {
        if !registered.as_ref().is_some_and(|registered| registered.will_wake(waker)) {
            self.register(waker.clone());
            *registered = Some(waker.clone());
        }
    }

    /// Whether the server stops. Relaxed: the lock that `register` takes orders it against `stop`.
    fn is_stopping(&self) -> bool {
        self.shared.stopping.load(Ordering::Relaxed)
    }
}

impl Drop for Stopping {
    fn drop(&mut self) {
        let entry = self.shared.state.lock().connections.remove(&self.id);
        drop(entry);
        self.shared.goroutines.done();
    }
}

/// Whether an error of accepting is temporary: the process or the system has too much open, or the
/// peer left.
fn passes(error: &io::Error) -> bool {
    const MOMENTARY: [Errno; 7] = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
        Errno::CONNRESET,
        Errno::PROTO,
        // A firewall's.
        Errno::PERM,
    ];
    Errno::from_io_error(error).is_some_and(|errno| MOMENTARY.contains(&errno))
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connections = self.shared.state.lock().connections.len();
        f.debug_struct("Server").field("addr", &self.addr).field("connections", &connections).finish_non_exhaustive()
    }
}
