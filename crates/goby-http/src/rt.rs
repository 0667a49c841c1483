//! What hyper wants of a runtime, so that services made for hyper run on goby: an axum `Router`, a
//! tonic service, any [`hyper::service::Service`].
//!
//! [`Io`] makes a socket of goby one of hyper's, [`Timer`] gives hyper goby's timers, and
//! [`Executor`] runs what hyper starts, in goroutines. Nothing of tokio's runtime is needed.
//!
//! A connection of hyper is a future. Run each in a goroutine of its own, by [`block_on`], or here
//! by [`block_on_ctx`](goby::block_on_ctx), so that it ends with a context:
//!
//! ```
//! use goby::{Context, block_on_ctx, go, net::TcpListener, time};
//! use goby_http::{get, rt::{Io, Timer}};
//! use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
//! use std::panic::{AssertUnwindSafe, catch_unwind};
//! use std::{convert::Infallible, time::Duration};
//!
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let url = format!("http://{}/", listener.local_addr()?);
//! let (ctx, cancel) = Context::background().with_cancel();
//! listener.set_context(Some(&ctx));
//! let server = go(move || {
//!     goby::scope(|connections| {
//!         while ctx.err().is_none() {
//!             let Ok((stream, _)) = listener.accept() else {
//!                 // The context is done; or no descriptor is free, and soon one may be.
//!                 let _ = time::sleep_ctx(&ctx, Duration::from_millis(100));
//!                 continue;
//!             };
//!             connections.go(|| {
//!                 let service = service_fn(|request: Request<Incoming>| async move {
//!                     Ok::<_, Infallible>(Response::new(format!("you asked for {}", request.uri().path())))
//!                 });
//!                 let connection = http1::Builder::new().timer(Timer).serve_connection(Io::new(stream), service);
//!                 // A panic of the handler ends its connection, and no more.
//!                 let _ = catch_unwind(AssertUnwindSafe(|| block_on_ctx(&ctx, connection)));
//!             });
//!         }
//!     })
//! });
//! assert_eq!(get(&Context::background(), &url)?.text()?, "you asked for /");
//! cancel.cancel();
//! server.join()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Handlers may park
//!
//! A handler of such a service is `async`, but it runs in a goroutine. So it may call what parks:
//! receive from a channel, lock, call [`blocking`](goby::blocking), ask another server. With
//! HTTP/1.1, it parks the goroutine of its connection. With HTTP/2 and [`Executor`], each request
//! has a goroutine of its own.
//!
//! # Handlers may panic
//!
//! A panic of a handler comes out of the [`block_on`] of its connection. With HTTP/2 and
//! [`Executor`], it ends the goroutine of its request alone. The scope of a server, or its
//! [`WaitGroup`](goby::sync::WaitGroup), would raise the panic again after the last connection, so
//! that a clean shutdown ends the process with status 101. Therefore catch it in each connection,
//! as the example does.
//!
//! # Shutting down
//!
//! [`block_on_ctx`](goby::block_on_ctx) ends when a context is done, and a `&mut` of the connection
//! survives that. Then hyper can finish what has begun:
//!
//! ```
//! use goby::{Context, block_on, block_on_ctx};
//! use goby_http::rt::{Io, Timer};
//! use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
//! use std::{convert::Infallible, pin::pin};
//!
//! fn serve(ctx: &Context, stream: goby::net::TcpStream) -> hyper::Result<()> {
//!     let service = service_fn(|_: Request<Incoming>| async { Ok::<_, Infallible>(Response::new("hello".to_owned())) });
//!     let mut connection = pin!(http1::Builder::new().timer(Timer).serve_connection(Io::new(stream), service));
//!     block_on_ctx(ctx, connection.as_mut()).unwrap_or_else(|_done| {
//!         connection.as_mut().graceful_shutdown();
//!         block_on(connection)
//!     })
//! }
//! # let listener = goby::net::TcpListener::bind("127.0.0.1:0")?;
//! # let _client = goby::net::TcpStream::connect(listener.local_addr()?)?;
//! # let (ctx, cancel) = Context::background().with_cancel();
//! # cancel.cancel();
//! # serve(&ctx, listener.accept()?.0)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What needs tokio all the same
//!
//! Some parts of these crates call tokio's runtime by name, and panic without it. Of axum, that is
//! `axum::serve` (the loops above are in its place), `KeepAlive` of `Sse`, and `ws`. Of tonic, that
//! is `transport::Server` and `transport::Channel`. Of tower and tower-http, that is what needs
//! time, such as `TimeoutLayer`: bound the wait in the handler, by a context.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_io::{AsyncRead, AsyncWrite};
use goby::{block_on, go, time};
use hyper::rt::ReadBufCursor;
use parking_lot::Mutex;

use crate::stream::{OPERATION, TURN, with_buffer};

/// Makes of what is read and written as [`futures_io`] says one that hyper reads and writes.
///
/// It is for the sockets of [`goby::net`], and for whatever else has those traits.
///
/// Now and then it tells hyper to poll again though the socket is ready. In a goroutine, this is
/// where others get their turn. So a peer that always sends, or always takes some, does not keep
/// the worker.
///
/// Writes of several buffers go to `poll_write_vectored` of what is inside.
///
/// ```
/// use goby::{Context, block_on, go, net::TcpStream};
/// use goby_http::rt::Io;
/// use hyper::{Request, client::conn::http1};
///
/// let server = goby_http::Server::bind("127.0.0.1:0")?;
/// let addr = server.local_addr();
/// let (serving, _stop) = Context::background().with_cancel();
/// go(move || server.serve_ctx(&serving, |_: goby_http::Request| "hello"));
///
/// let stream = Io::new(TcpStream::connect(addr)?);
/// let (mut requests, connection) = block_on(http1::handshake(stream))?;
/// let connection = go(move || block_on(connection));
/// let request = Request::get("/").header("host", addr.to_string()).body(String::new())?;
/// assert_eq!(block_on(requests.send_request(request))?.status(), 200);
/// // The connection ends with its last user.
/// drop(requests);
/// connection.join()??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Io<T> {
    inner: T,
    /// Bytes moved since hyper was told to poll again.
    moved: u64,
}

impl<T> Io<T> {
    /// Wraps `inner`.
    ///
    /// ```
    /// use goby::net::{TcpListener, TcpStream};
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let io = goby_http::rt::Io::new(TcpStream::connect(listener.local_addr()?)?);
    /// assert_eq!(io.get_ref().peer_addr()?, listener.local_addr()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn new(inner: T) -> Io<T> {
        Io { inner, moved: 0 }
    }

    /// Returns what is inside.
    ///
    /// ```
    /// assert_eq!(*goby_http::rt::Io::new("inside").get_ref(), "inside");
    /// ```
    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    /// Returns what is inside, to be changed.
    ///
    /// ```
    /// let mut io = goby_http::rt::Io::new(vec![1]);
    /// io.get_mut().push(2);
    /// assert_eq!(io.into_inner(), [1, 2]);
    /// ```
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.inner
    }

    /// Unwraps what is inside.
    ///
    /// ```
    /// assert_eq!(goby_http::rt::Io::new(7).into_inner(), 7);
    /// ```
    pub fn into_inner(self) -> T {
        self.inner
    }

    /// Returns `Pending` after each [`TURN`] bytes, with the waker woken already.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.moved < TURN {
            return Poll::Ready(());
        }
        self.moved = 0;
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn note_moved(&mut self, n: usize) {
        self.moved += (n as u64).max(OPERATION);
    }
}

impl<T: AsyncRead + Unpin> hyper::rt::Read for Io<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_turn(cx));
        let n = ready!(with_buffer(cursor.remaining(), |buffer| {
            let polled = Pin::new(&mut self.inner).poll_read(cx, buffer);
            if let Poll::Ready(Ok(n)) = polled {
                cursor.put_slice(&buffer[..n]);
            }
            polled
        }))?;
        self.note_moved(n);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> hyper::rt::Write for Io<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_turn(cx));
        let n = ready!(Pin::new(&mut self.inner).poll_write(cx, buf))?;
        self.note_moved(n);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.inner).poll_close(cx)) {
            // The other side may have closed already.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            result => Poll::Ready(result),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_turn(cx));
        let n = ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, bufs))?;
        self.note_moved(n);
        Poll::Ready(Ok(n))
    }
}

/// Gives hyper the timers of goby, for its time-outs and keep-alive.
///
/// ```
/// use goby_http::rt::Timer;
/// use std::time::Duration;
/// let mut server = hyper::server::conn::http1::Builder::new();
/// server.timer(Timer).header_read_timeout(Duration::from_secs(5));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Timer;

impl hyper::rt::Timer for Timer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        // What is too far off to be an instant is far enough for the timer, which then goes on.
        let now = goby::now();
        self.sleep_until(now.checked_add(duration).unwrap_or_else(|| now + FAR_OFF))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Sleep { deadline, armed: Mutex::new(None) })
    }

    fn now(&self) -> Instant {
        goby::now()
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn hyper::rt::Sleep>>, new_deadline: Instant) {
        match sleep.as_mut().downcast_mut_pin::<Sleep>() {
            Some(sleep) => sleep.get_mut().deadline = new_deadline,
            None => *sleep = self.sleep_until(new_deadline),
        }
    }
}

/// A hundred years.
const FAR_OFF: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Ends at its deadline.
///
/// A timer is started by the first poll that comes before the deadline. It is not moved when the
/// deadline moves to later, as hyper's do with each request: it goes off early, and another is
/// started.
struct Sleep {
    deadline: Instant,
    /// A mutex only because hyper wants the type to be `Sync`: it is never locked.
    armed: Mutex<Option<Armed>>,
}

struct Armed {
    due: Instant,
    goes_off: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Armed {
    fn new(due: Instant) -> Armed {
        let receiver = time::at(due);
        let goes_off = Box::pin(async move {
            let _due = receiver.recv_async().await;
        });
        Armed { due, goes_off }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = self.deadline;
        let armed = self.armed.get_mut();
        while goby::now() < deadline {
            let timer = match armed {
                Some(timer) if timer.due <= deadline => timer,
                _ => armed.insert(Armed::new(deadline)),
            };
            ready!(timer.goes_off.as_mut().poll(cx));
            *armed = None;
        }
        *armed = None;
        Poll::Ready(())
    }
}

impl hyper::rt::Sleep for Sleep {}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

/// Runs what hyper starts, each in a goroutine of its own, where it may park.
///
/// HTTP/2 needs one: a server starts a future per request, a client one per connection.
///
/// ```
/// use goby::chan;
/// use goby_http::rt::Executor;
/// use hyper::rt::Executor as _;
/// let (tx, rx) = chan::bounded(0);
/// Executor.execute(async move { tx.send("from a goroutine").unwrap() });
/// assert_eq!(rx.recv(), Ok("from a goroutine"));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Executor;

impl<F: Future + Send + 'static> hyper::rt::Executor<F> for Executor {
    /// Starts a goroutine.
    ///
    /// # Panics
    ///
    /// If no goroutine can be started, as [`go`] does.
    fn execute(&self, future: F) {
        go(move || drop(block_on(future)));
    }
}
