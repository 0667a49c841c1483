//! Peers that always have bytes ready, or always take some. With one worker, its other goroutines
//! and timers still go on, and the request's own context ends the request.
//!
//! The peers are OS threads, and never stop by themselves. So a test that starves its worker does
//! not end.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use goby::{Context, go};
use goby_http::{Body, Client, Error, Request, Response, get};

use crate::support::{Site, background, read_head, with_one_worker};

/// A server that calls `serve` for each connection, on a thread that is left to itself.
fn server(serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let serve = serve.clone();
            // An error means that the client has left.
            thread::spawn(move || drop(serve(stream.unwrap())));
        }
    });
    url
}

/// A server that answers a request with `start` and then with `piece` without end.
fn flood(start: &'static str, piece: &'static str) -> String {
    let pieces = piece.repeat(1 + (64 << 10) / piece.len());
    server(move |mut stream| {
        read_head(&stream);
        stream.write_all(start.as_bytes())?;
        loop {
            stream.write_all(pieces.as_bytes())?;
        }
    })
}

/// Calls `request` with a context that a neighbor cancels after a sleep of 5 ms, and with a
/// context that ends after 20 ms.
fn check_given_up<T>(request: impl Fn(&Context) -> Result<T, Error>) {
    let (ctx, cancel) = background().with_cancel();
    let neighbor = go(move || {
        goby::time::sleep(Duration::from_millis(5));
        cancel.cancel();
    });
    let error = request(&ctx).err().expect("it has no end");
    assert!(error.is_canceled(), "{error:?}");
    neighbor.join().unwrap();
    let (ctx, _cancel) = background().with_timeout(Duration::from_millis(20));
    let error = request(&ctx).err().expect("it has no end");
    assert!(error.is_timeout(), "{error:?}");
}

/// Reads a body to its end without keeping it.
fn read(mut response: Response) -> Result<(), Error> {
    while response.reader().chunk()?.is_some() {}
    Ok(())
}

#[test]
fn a_head_without_end_is_refused() {
    let check = |start, piece| {
        let url = flood(start, piece);
        with_one_worker(move || {
            let (ctx, _cancel) = background().with_timeout(Duration::from_secs(60));
            let error = get(&ctx, &url).unwrap_err();
            assert!(error.is_request() && error.is_protocol(), "{error:?}");
        });
    };
    check("", "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n");
    check("", "HTTP/1.1 100 Continue\r\n\r\n");
    check("", "\r\n");
    check("", "x");
    check("HTTP/1.1 200 OK\r\n", "a: b\r\n");
    check("HTTP/1.1 200 OK\r\na: ", "b");
}

#[test]
fn a_response_without_end_leaves_the_worker_to_others() {
    let check = |start, piece| {
        let url = flood(start, piece);
        with_one_worker(|| check_given_up(|ctx| get(ctx, &url).and_then(read)));
    };
    check("HTTP/1.1 200 OK\r\n\r\n", "some bytes");
    check("HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n", "some bytes");
    check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n");
    // The size of a chunk.
    check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "0");
}

#[test]
fn framing_without_end_is_refused() {
    let check = |start, piece| {
        let url = flood(start, piece);
        with_one_worker(move || {
            let (ctx, _cancel) = background().with_timeout(Duration::from_secs(60));
            let error = get(&ctx, &url).and_then(read).unwrap_err();
            assert!(error.is_body() && error.is_protocol(), "{error:?}");
        });
    };
    check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", "x");
    check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "a: b\r\n");
}

/// The server takes whatever comes, and does not answer.
#[test]
fn a_request_without_end_leaves_the_worker_to_others() {
    let url = server(|stream| io::copy(&mut &stream, &mut io::sink()).map(drop));
    with_one_worker(|| {
        check_given_up(|ctx| Client::new().post(ctx, &url, Body::from_reader(io::repeat(b'x'))));
        let chunks = || std::iter::repeat("a piece");
        check_given_up(|ctx| Client::new().post(ctx, &url, Body::from_chunks(chunks())));
    });
}

/// The server takes the request and gives its answer at the same time.
#[test]
fn an_exchange_without_end_leaves_the_worker_to_others() {
    let url = server(|stream| {
        read_head(&stream);
        let mut sink = stream.try_clone()?;
        thread::spawn(move || io::copy(&mut sink, &mut io::sink()).map(drop));
        (&stream).write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        io::copy(&mut io::repeat(b'x'), &mut &stream).map(drop)
    });
    with_one_worker(|| {
        check_given_up(|ctx| Client::new().post(ctx, &url, Body::from_reader(io::repeat(b'x'))).and_then(read));
    });
}

/// Starts a client on a thread that sends `start` and then `piece` without end, and takes whatever
/// comes.
fn flooding_client(addr: SocketAddr, start: &'static str, piece: &'static str) {
    let mut stream = TcpStream::connect(addr).unwrap();
    let sink = stream.try_clone().unwrap();
    thread::spawn(move || io::copy(&mut { sink }, &mut io::sink()).map(drop));
    let pieces = piece.repeat(1 + (64 << 10) / piece.len());
    thread::spawn(move || {
        stream.write_all(start.as_bytes())?;
        loop {
            stream.write_all(pieces.as_bytes())?;
        }
        #[allow(unreachable_code)]
        io::Result::Ok(())
    });
}

/// A flag that is set by a neighbor after a sleep of 5 ms.
fn flag_after_a_sleep() -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    let set = flag.clone();
    go(move || {
        goby::time::sleep(Duration::from_millis(5));
        set.store(true, Ordering::SeqCst);
    });
    flag
}

#[test]
fn a_request_body_without_end_leaves_the_worker_to_others() {
    let check = |start, piece| {
        with_one_worker(move || {
            let (ended, ends) = goby::chan::bounded(2);
            let site = Site::start(move |mut request: Request| {
                let flag = flag_after_a_sleep();
                let (ctx, _cancel) = request.context().with_timeout(Duration::from_millis(20));
                while !flag.load(Ordering::SeqCst) || ctx.err().is_none() {
                    request.reader().chunk().unwrap().unwrap();
                }
                ended.send(()).unwrap();
                "enough"
            });
            flooding_client(site.addr(), start, piece);
            ends.recv().unwrap();
        });
    };
    check("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000000\r\n\r\n", "some bytes");
    check("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n");
}

#[test]
fn requests_without_end_leave_the_worker_to_others() {
    with_one_worker(|| {
        let site = Site::start(|_: Request| "hello");
        flooding_client(site.addr(), "", "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        goby::time::sleep(Duration::from_millis(5));
        site.close();
    });
}

#[test]
fn a_streamed_response_without_end_leaves_the_worker_to_others() {
    with_one_worker(|| {
        let (ended, ends) = goby::chan::bounded(2);
        let site = Site::start(move |request: Request| {
            let (flag, ended) = (flag_after_a_sleep(), ended.clone());
            let (ctx, cancel) = request.context().with_timeout(Duration::from_millis(20));
            Body::from_chunks(std::iter::from_fn(move || {
                let _until_dropped = &cancel;
                if !flag.load(Ordering::SeqCst) || ctx.err().is_none() {
                    return Some("a piece");
                }
                ended.send(()).unwrap();
                None
            }))
        });
        flooding_client(site.addr(), "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "\r\n");
        ends.recv().unwrap();
        site.close();
    });
}

/// The server refuses a head that has no end, and uses no more memory than for one head.
#[test]
fn a_request_head_without_end_is_refused() {
    let check = |start: &'static str, piece: &'static str| {
        with_one_worker(move || {
            let site = Site::start(|_: Request| -> Response { panic!("no handler for this") });
            let addr = site.addr();
            let answer = goby::blocking(move || {
                let mut stream = TcpStream::connect(addr).unwrap();
                let mut sender = stream.try_clone().unwrap();
                let pieces = piece.repeat(1 + (64 << 10) / piece.len());
                let sending = thread::spawn(move || {
                    let _ = sender.write_all(start.as_bytes());
                    while sender.write_all(pieces.as_bytes()).is_ok() {}
                });
                let mut answer = Vec::new();
                let _ = stream.read_to_end(&mut answer);
                drop(stream);
                sending.join().unwrap();
                String::from_utf8(answer).unwrap()
            });
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer:?}");
        });
    };
    check("GET / HTTP/1.1\r\n", "a: b\r\n");
    check("GET / HTTP/1.1\r\na: ", "b");
    check("GET /", "a");
    check("", "\r\n");
}
