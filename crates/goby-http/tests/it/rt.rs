//! hyper's own connections over `goby_http::rt`: services, time-outs, executors, and peers without
//! an end.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io::{self, Read, Write};
use std::net;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use futures_io::{AsyncRead, AsyncWrite};
use goby::net::{TcpListener, TcpStream};
use goby::sync::WaitGroup;
use goby::{Context, block_on, block_on_ctx, chan, go};
use goby_http::rt::{Executor, Io, Timer};
use goby_http::{Client, get};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::rt::{Executor as _, Read as _, ReadBuf, Timer as _, Write as _};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};

use crate::support::{background, pause, with_one_worker, with_workers};

/// Serves each connection in a goroutine of its own, until `ctx` is done and all have ended.
fn serve<F>(ctx: &Context, listener: TcpListener, handle: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static)
where
    F: Future<Output = String> + Send + 'static,
{
    let connections = WaitGroup::new();
    listener.set_context(Some(ctx));
    while let Ok((stream, _)) = listener.accept() {
        let (ctx, handle) = (ctx.clone(), handle.clone());
        connections.go(move || {
            let service = service_fn(move |request| {
                let answer = handle(request);
                async move { Ok::<_, Infallible>(Response::new(answer.await)) }
            });
            let mut connection = pin!(http1::Builder::new().timer(Timer).serve_connection(Io::new(stream), service));
            let ended = block_on_ctx(&ctx, connection.as_mut()).unwrap_or_else(|_done| {
                connection.as_mut().graceful_shutdown();
                block_on(connection)
            });
            assert!(ended.is_ok(), "{ended:?}");
        });
    }
    connections.wait();
}

fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    (listener, url)
}

#[test]
fn a_service_of_hyper_is_served_until_the_context_is_done() {
    with_workers(|| {
        let (listener, url) = listen();
        let (ctx, cancel) = background().with_cancel();
        let (begun, begins) = chan::bounded(0);
        let (go_on, goes_on) = chan::bounded(0);
        let serving = go(move || {
            serve(&ctx, listener, move |request| {
                let (begun, goes_on) = (begun.clone(), goes_on.clone());
                async move {
                    if request.uri().path() == "/slow" {
                        // Parks the goroutine, inside a poll.
                        begun.send(()).unwrap();
                        goes_on.recv().unwrap();
                    }
                    format!("{} {}", request.method(), request.uri().path())
                }
            });
        });
        let client = Arc::new(Client::new());
        assert_eq!(client.get(&background(), &url).unwrap().text().unwrap(), "GET /");
        let slow = go({
            let (client, url) = (client.clone(), format!("{url}slow"));
            move || client.get(&background(), url).unwrap().text().unwrap()
        });
        begins.recv().unwrap();
        cancel.cancel();
        // The request under way gets its answer.
        go_on.send(()).unwrap();
        assert_eq!(slow.join().unwrap(), "GET /slow");
        // The idle connection is closed without help of its client.
        serving.join().unwrap();
        assert!(get(&background(), &url).unwrap_err().is_connect());
    });
}

/// A connection whose client says nothing more is closed by hyper's timer, not before its time.
#[test]
fn half_a_head_times_out() {
    const TIMEOUT: Duration = Duration::from_millis(20);
    with_one_worker(|| {
        let (listener, _) = listen();
        let addr = listener.local_addr().unwrap();
        let serving = go(move || {
            let (stream, _) = listener.accept().unwrap();
            let service = service_fn(|_| async { Ok::<_, Infallible>(Response::new(String::new())) });
            let mut protocol = http1::Builder::new();
            let protocol = protocol.timer(Timer).header_read_timeout(TIMEOUT);
            block_on(protocol.serve_connection(Io::new(stream), service))
        });
        let mut client = TcpStream::connect(addr).unwrap();
        // The first request moves the timer on.
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        assert_ne!(client.read(&mut [0; 1024]).unwrap(), 0);
        let start = Instant::now();
        client.write_all(b"GET / HT").unwrap();
        client.read_to_end(&mut Vec::new()).unwrap();
        let error = serving.join().unwrap().unwrap_err();
        assert!(error.is_timeout(), "{error:?}");
        // hyper starts to count when it begins to read the head, which is before the client does.
        assert!(start.elapsed() < crate::support::PATIENCE);
    });
}

#[test]
fn sleeps_end_at_their_deadlines() {
    const SHORT: Duration = Duration::from_millis(5);
    const LONG: Duration = Duration::from_secs(3600);
    let check = |begin: &dyn Fn() -> Pin<Box<dyn hyper::rt::Sleep>>| {
        let start = Instant::now();
        block_on(begin());
        assert!(start.elapsed() >= SHORT);
    };
    let poll_once = |sleep: &mut Pin<Box<dyn hyper::rt::Sleep>>| {
        block_on(poll_fn(|cx| Poll::Ready(sleep.as_mut().poll(cx).is_ready())))
    };
    with_workers(|| {
        check(&|| Timer.sleep(SHORT));
        check(&|| Timer.sleep_until(Timer.now() + SHORT));
        // Moved to earlier and to later, before and after the timer was started.
        for starts in [false, true] {
            check(&|| {
                let mut sleep = Timer.sleep(LONG);
                assert!(!starts || !poll_once(&mut sleep));
                Timer.reset(&mut sleep, Timer.now() + SHORT);
                sleep
            });
            check(&|| {
                let mut sleep = Timer.sleep(SHORT / 5);
                assert!(!starts || !poll_once(&mut sleep) || Instant::now() > Timer.now() - SHORT);
                Timer.reset(&mut sleep, Timer.now() + SHORT);
                sleep
            });
        }
        let mut never = Timer.sleep(Duration::MAX);
        assert!(!poll_once(&mut never));
        // An instant that is past ends it at once; so does moving it there.
        let now = Timer.now();
        Timer.reset(&mut never, now);
        assert!(poll_once(&mut never));
        assert!(poll_once(&mut Timer.sleep_until(now)));
    });
}

#[test]
fn an_executor_starts_goroutines_that_may_park() {
    with_workers(|| {
        let (tx, rx) = chan::bounded(0);
        for n in 0..1000 {
            let tx = tx.clone();
            Executor.execute(async move { tx.send(n).unwrap() });
        }
        drop(tx);
        assert_eq!(rx.iter().sum::<i32>(), 499_500);
    });
}

/// Always ready to be read and written.
struct Endless;

impl AsyncRead for Endless {
    fn poll_read(self: Pin<&mut Self>, _: &mut TaskContext<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        buf.fill(b'x');
        Poll::Ready(Ok(buf.len()))
    }
}

impl AsyncWrite for Endless {
    fn poll_write(self: Pin<&mut Self>, _: &mut TaskContext<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
    }
}

struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// What is always ready is pending now and then, and says that it is ready again.
#[test]
fn what_is_always_ready_gives_way() {
    const BYTES: usize = 32 << 20;
    let wakes = Arc::new(Wakes(AtomicUsize::new(0)));
    let waker = Waker::from(wakes.clone());
    let mut cx = TaskContext::from_waker(&waker);
    let mut io = Io::new(Endless);
    let mut check = |piece: usize, poll: &mut dyn FnMut(&mut Io<Endless>, &mut TaskContext<'_>) -> Poll<usize>| {
        let (mut moved, mut since, mut pending) = (0, 0, 0);
        while moved < BYTES {
            match poll(&mut io, &mut cx) {
                Poll::Ready(n) => (moved, since) = (moved + n, since + 1),
                Poll::Pending => (since, pending) = (0, pending + 1),
            }
            assert!(since <= 256, "no turn in {since} operations of {piece} bytes");
        }
        assert_eq!(wakes.0.swap(0, Ordering::Relaxed), pending, "each woke once");
        assert!(pending <= 2 * BYTES / piece.min(64 << 10), "turns are rare: {pending}");
    };
    check(64 << 10, &mut |io, cx| {
        let mut bytes = vec![0; 64 << 10];
        let mut buf = ReadBuf::new(&mut bytes);
        let polled = Pin::new(io).poll_read(cx, buf.unfilled());
        polled.map(|result| result.map(|()| buf.filled().len()).unwrap())
    });
    check(64 << 10, &mut |io, cx| Pin::new(io).poll_write(cx, &[0; 64 << 10]).map(Result::unwrap));
    let half = [0; 32 << 10];
    let halves = [io::IoSlice::new(&half), io::IoSlice::new(&half)];
    check(64 << 10, &mut |io, cx| Pin::new(io).poll_write_vectored(cx, &halves).map(Result::unwrap));
    // The other side has closed already.
    assert!(matches!(Pin::new(&mut io).poll_shutdown(&mut cx), Poll::Ready(Ok(()))));
}

/// A body without an end.
struct Flood;

impl Body for Flood {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'x'; 64 << 10])))))
    }
}

/// Peers that always send, or always take: with one worker, its other goroutines and timers go on.
#[test]
fn peers_without_end_leave_the_worker_to_others() {
    with_one_worker(|| {
        let (listener, _) = listen();
        let addr = listener.local_addr().unwrap();
        let (ctx, cancel) = background().with_cancel();
        let peer = thread::spawn(move || {
            let mut stream = net::TcpStream::connect(addr).unwrap();
            let mut flood = stream.try_clone().unwrap();
            let reader = thread::spawn(move || {
                let mut pieces = 0;
                // Until the server has closed the connection, which may be by a reset.
                while flood.read(&mut [0; 64 << 10]).is_ok_and(|n| n > 0) {
                    pieces += 1;
                }
                pieces
            });
            stream.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000000000\r\n\r\n").unwrap();
            // An error means that the server has closed the connection.
            let _ = io::copy(&mut io::repeat(b'x'), &mut stream);
            reader.join().unwrap()
        });
        let serving = go(move || {
            let (stream, _) = listener.accept().unwrap();
            // Takes the body without end, and answers with another at the same time.
            let service = service_fn(|request: Request<Incoming>| {
                Executor.execute(async move {
                    let mut body = request.into_body();
                    while poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await.is_some_and(|frame| frame.is_ok()) {}
                });
                async { Ok::<_, Infallible>(Response::new(Flood)) }
            });
            block_on_ctx(&ctx, http1::Builder::new().serve_connection(Io::new(stream), service)).map(drop)
        });
        let mut neighbors = 0;
        for _ in 0..5 {
            pause(Duration::from_millis(5));
            neighbors += go(|| 1).join().unwrap();
        }
        assert_eq!(neighbors, 5);
        cancel.cancel();
        assert!(serving.join().unwrap().is_err(), "it has no end");
        assert_ne!(goby::blocking(|| peer.join().unwrap()), 0);
    });
}
