//! The server: handlers, panics, time-outs, and clients that misbehave.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use goby::context::ContextError;
use goby::net::TcpStream;
use goby::{Context, chan, now, scope};
use goby_http::{Body, Client, Error, Request, Response, StatusCode, with_timeout};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::support::{MOMENT, PATIENCE, Site, background, pause, read_head, rerun_alone, wait_until, with_workers};

/// Sends `request` on a connection of its own and reads all that comes back.
fn raw(site: &Site, request: &str) -> String {
    let mut stream = TcpStream::connect(site.addr()).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_handler_sees_the_request() {
    with_workers(|| {
        let site = Site::start(|request: Request| {
            let (method, uri, color) = (request.method(), request.uri(), &request.headers()["x-color"]);
            assert_eq!(request.path(), "/a/b");
            assert_eq!(request.query(), Some("c=d"));
            format!("{method} {uri} {color:?} {:?}", request.remote_addr().ip())
        });
        let request = http::Request::put(site.url("/a/b?c=d")).header("x-color", "blue").body(Body::empty()).unwrap();
        let response = Client::new().request(&background(), request).unwrap();
        assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
        assert!(response.headers().contains_key("date"));
        assert_eq!(response.text().unwrap(), "PUT /a/b?c=d \"blue\" 127.0.0.1");
    });
}

#[test]
fn handlers_answer_with_many_things() {
    with_workers(|| {
        let site = Site::start(|request: Request| -> Response {
            match request.path() {
                "/text" => "text".into(),
                "/string" => String::from("string").into(),
                "/bytes" => vec![1, 2, 3].into(),
                "/status" => StatusCode::NOT_FOUND.into(),
                "/both" => (StatusCode::CREATED, "both").into(),
                "/http" => http::Response::builder().status(202).body(Body::from("http")).unwrap().into(),
                _ => ().into(),
            }
        });
        let client = Client::new();
        let check = |path, status, body: &[u8]| {
            let response = client.get(&background(), site.url(path)).unwrap();
            assert_eq!(response.status(), status);
            assert_eq!(response.bytes().unwrap(), body);
        };
        check("/text", 200, b"text");
        check("/string", 200, b"string");
        check("/bytes", 200, &[1, 2, 3]);
        check("/status", 404, b"Not Found");
        check("/both", 201, b"both");
        check("/http", 202, b"http");
        check("/", 200, b"");
    });
}

#[test]
fn many_handlers_are_parked_at_once() {
    with_workers(|| {
        const N: usize = 100;
        let waiting = Arc::new(AtomicUsize::new(0));
        let (release, released) = chan::bounded::<()>(0);
        let site = Site::start({
            let waiting = waiting.clone();
            move |_: Request| {
                waiting.fetch_add(1, Ordering::SeqCst);
                let _ = released.recv();
                "released"
            }
        });
        let client = Client::new();
        scope(|s| {
            for _ in 0..N {
                s.go(|| assert_eq!(client.get(&background(), site.url("/")).unwrap().text().unwrap(), "released"));
            }
            wait_until("all handlers to wait", || waiting.load(Ordering::SeqCst) == N);
            release.close();
        });
    });
}

#[test]
fn c353_the_context_of_a_request_is_done_when_it_is_over() {
    with_workers(|| {
        let (handed, contexts) = chan::bounded::<Context>(2);
        let site = Site::start(move |request: Request| {
            let ctx = request.context().clone();
            assert_eq!(ctx.err(), None);
            handed.send(ctx).unwrap();
            "hello"
        });
        let client = Client::new();
        for _ in 0..2 {
            assert_eq!(client.get(&background(), site.url("/")).unwrap().text().unwrap(), "hello");
            let ctx = contexts.recv().unwrap();
            let _ = ctx.done().recv();
            assert_eq!(ctx.err(), Some(ContextError::Canceled));
        }
        assert_eq!(site.connections(), 1);
    });
}

#[test]
fn the_context_of_a_request_lasts_until_its_streamed_response_is_sent() {
    with_workers(|| {
        let (handed, contexts) = chan::bounded::<Context>(1);
        let (piece, pieces) = chan::bounded::<&str>(0);
        let pieces = goby::sync::Mutex::new(Some(pieces));
        let site = Site::start(move |request: Request| {
            handed.send(request.context().clone()).unwrap();
            Body::from_chunks(pieces.lock().take().unwrap())
        });
        let mut response = Client::new().get(&background(), site.url("/")).unwrap();
        let ctx = contexts.recv().unwrap();
        piece.send("piece").unwrap();
        response.read_exact(&mut [0; 5]).unwrap();
        assert_eq!(ctx.err(), None);
        drop(piece);
        response.text().unwrap();
        let _ = ctx.done().recv();
    });
}

#[test]
fn the_context_of_a_request_is_done_when_the_client_goes_away() {
    with_workers(|| {
        let (called, calls) = chan::bounded(1);
        let (ended, ends) = chan::bounded(1);
        let site = Site::start(move |mut request: Request| {
            let ctx = request.context().clone();
            // Reading the body replaces the watch, and restores it at the end.
            let mut body = String::new();
            request.read_to_string(&mut body).unwrap();
            called.send(body.len()).unwrap();
            let _ = ctx.done().recv();
            ended.send(ctx.err()).unwrap();
        });
        for body in ["", "body"] {
            let mut stream = TcpStream::connect(site.addr()).unwrap();
            write!(stream, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
            assert_eq!(calls.recv().unwrap(), body.len());
            drop(stream);
            assert_eq!(ends.recv().unwrap(), Some(ContextError::Canceled));
        }
    });
}

#[test]
fn c355_a_silent_client_is_disconnected_in_time() {
    with_workers(|| {
        let count = AtomicUsize::new(0);
        let timeout = Duration::from_millis(250);
        let site = Site::start_with(
            |server| server.header_timeout(timeout),
            move |_: Request| format!("req={}", count.fetch_add(1, Ordering::SeqCst) + 1),
        );
        let client = Client::builder().max_idle_per_host(0).build().unwrap();
        let fetch = || client.get(&background(), site.url("/")).unwrap().text().unwrap();
        assert_eq!(fetch(), "req=1");
        for said in ["", "GET / HT"] {
            let mut stream = TcpStream::connect(site.addr()).unwrap();
            let start = now();
            stream.write_all(said.as_bytes()).unwrap();
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest);
            let waited = start.elapsed();
            assert!(waited >= timeout.mul_f64(0.8), "{waited:?}");
            assert_eq!(rest, b"");
        }
        assert_eq!(fetch(), "req=2");
    });
}

#[test]
fn a_head_that_is_not_finished_in_time_ends_a_connection_that_was_used_before() {
    with_workers(|| {
        let site = Site::start_with(
            |server| server.header_timeout(Duration::from_millis(250)).idle_timeout(PATIENCE),
            |_: Request| "hello",
        );
        let mut stream = TcpStream::connect(site.addr()).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let head = read_head(&stream);
        assert!(head.starts_with("HTTP/1.1 200"));
        stream.read_exact(&mut [0; 5]).unwrap();
        // Between requests there is more time.
        pause(Duration::from_millis(350));
        stream.write_all(b"GET / HTTP/1.1\r\n").unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert_eq!(rest, b"");
    });
}

#[test]
fn an_idle_connection_is_closed_in_time() {
    with_workers(|| {
        let timeout = Duration::from_millis(200);
        let site = Site::start_with(|server| server.idle_timeout(timeout), |_: Request| "hello");
        let mut stream = TcpStream::connect(site.addr()).unwrap();
        for _ in 0..2 {
            stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            read_head(&stream);
            stream.read_exact(&mut [0; 5]).unwrap();
        }
        let start = now();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        assert!(start.elapsed() >= timeout.mul_f64(0.5));
    });
}

/// The time limit of a head does not end a handler or a body that takes longer.
#[test]
fn time_outs_are_not_for_bodies_and_handlers() {
    with_workers(|| {
        let timeout = Duration::from_millis(150);
        let site = Site::start_with(
            |server| server.header_timeout(timeout).idle_timeout(timeout),
            move |request: Request| {
                let body = request.text().unwrap();
                goby::time::sleep(timeout * 2);
                body
            },
        );
        let mut pieces = ["slow ", "body"].into_iter();
        let body = Body::from_chunks(std::iter::from_fn(move || {
            goby::time::sleep(timeout * 2);
            pieces.next()
        }));
        let response = Client::new().post(&background(), site.url("/"), body).unwrap();
        assert_eq!(response.text().unwrap(), "slow body");
    });
}

#[test]
fn c357_a_time_limit_for_a_handler() {
    with_workers(|| {
        let (called, calls) = chan::unbounded();
        let (ended, ends) = chan::unbounded();
        let (release, released) = chan::bounded::<()>(0);
        let limit = Duration::from_millis(300);
        let handler = with_timeout(limit, move |request: Request| match request.path() {
            "/slow" => {
                let ctx = request.context();
                called.send(()).unwrap();
                let _ = ctx.done().recv();
                ended.send(ctx.err()).unwrap();
                // An answer that is there when the context is looked at may be the one that is
                // sent.
                if request.query() == Some("canceled") {
                    let _ = released.recv();
                }
                Response::from("too late")
            }
            // Not by `panic!`: with RUST_BACKTRACE set, its hook takes longer than the limit.
            "/panic" => std::panic::resume_unwind(Box::new("on purpose")),
            "/empty" => Response::from(StatusCode::NO_CONTENT),
            _ => Response::from("hi"),
        });
        // The time counts from the request, not from here.
        pause(limit.mul_f64(1.1));
        let site = Site::start(move |request: Request| {
            let (ctx, cancel) = request.context().with_cancel();
            if request.query() == Some("canceled") {
                cancel.cancel();
            }
            handler(request.with_context(ctx))
        });
        let client = Client::new();
        assert_eq!(client.get(&background(), site.url("/empty")).unwrap().status(), 204);
        assert_eq!(client.get(&background(), site.url("/")).unwrap().text().unwrap(), "hi");

        let start = now();
        let response = client.get(&background(), site.url("/slow")).unwrap();
        assert!(start.elapsed() >= limit);
        assert_eq!(response.status(), 503);
        assert!(response.text().unwrap().contains("<title>Timeout</title>"));
        assert_eq!(ends.recv().unwrap(), Some(ContextError::DeadlineExceeded));

        assert_eq!(client.post(&background(), site.url("/panic"), "").unwrap().status(), 500);

        // A context that is canceled from elsewhere.
        let canceled = client.get(&background(), site.url("/slow?canceled")).unwrap();
        assert_eq!((canceled.status().as_u16(), canceled.text().unwrap()), (503, String::new()));
        release.close();
        assert_eq!(ends.recv().unwrap(), Some(ContextError::Canceled));
        calls.recv().unwrap();

        // If the client goes away, that ends it, too.
        calls.recv().unwrap();
        let mut stream = TcpStream::connect(site.addr()).unwrap();
        stream.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        calls.recv().unwrap();
        drop(stream);
        // On a busy machine its time may have been over before.
        assert!(ends.recv().unwrap().is_some());
    });
}

#[test]
fn requests_in_one_go_are_answered_in_order() {
    with_workers(|| {
        let site = Site::start(|request: Request| request.path().to_owned());
        let mut requests = String::new();
        for i in 0..50 {
            let connection = if i == 49 { "close" } else { "keep-alive" };
            requests += &format!("GET /{i} HTTP/1.1\r\nHost: a\r\nConnection: {connection}\r\n\r\n");
        }
        let answers = raw(&site, &requests);
        let mut rest = answers.as_str();
        for i in 0..50 {
            let at = rest.find(&format!("\r\n\r\n/{i}")).unwrap_or_else(|| panic!("no answer {i} in {rest:?}"));
            rest = &rest[at + 5..];
        }
    });
}

#[test]
fn a_client_that_says_no_more_still_hears() {
    with_workers(|| {
        let site = Site::start(|_: Request| {
            pause(MOMENT);
            "hello"
        });
        let mut stream = TcpStream::connect(site.addr()).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("\r\n\r\nhello"), "{answer:?}");
    });
}

#[test]
fn old_clients_are_served() {
    with_workers(|| {
        let site = Site::start(|_: Request| Body::from_chunks(["hel", "lo"]));
        let answer = raw(&site, "GET / HTTP/1.0\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer:?}");
        assert!(answer.ends_with("\r\n\r\nhello"), "{answer:?}");
    });
}

#[test]
fn what_is_no_request_is_refused() {
    with_workers(|| {
        let site = Site::start(|_: Request| -> Response { panic!("no handler for this") });
        let answer = raw(&site, "this is no request\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer:?}");
    });
}

/// The answer to a request that is still being sent reaches the client, which gets the time to
/// notice.
#[test]
fn an_answer_that_comes_early_is_not_lost() {
    with_workers(|| {
        let site = Site::start(|_: Request| StatusCode::PAYLOAD_TOO_LARGE);
        let mut stream = TcpStream::connect(site.addr()).unwrap();
        let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&[0; 100_000]).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 413 Payload Too Large\r\n"), "{answer:?}");
    });
}

/// Without a free descriptor the server cannot accept. It says so, waits, and goes on.
#[test]
fn running_out_of_descriptors_does_not_end_the_server() {
    if let Some(stderr) = rerun_alone("server::running_out_of_descriptors_does_not_end_the_server") {
        assert!(stderr.contains("goby-http: accepting a connection failed: Too many open files"), "{stderr}");
        return;
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(100), maximum: Some(100) }).unwrap();
    with_workers(|| {
        let site = Site::start(|_: Request| "hello");
        let mut hogs = Vec::new();
        while let Ok(hog) = std::fs::File::open("/dev/null") {
            hogs.push(hog);
        }
        // The descriptor that is given back goes to the client's end. (Or to other code in the
        // process: then the test gives back one more.)
        let mut stream = loop {
            hogs.pop();
            match TcpStream::connect(site.addr()) {
                Ok(stream) => break stream,
                Err(error) => assert_eq!(error.raw_os_error(), Some(Errno::MFILE.raw_os_error())),
            }
        };
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        pause(Duration::from_millis(20));
        drop(hogs);
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("hello"), "{answer:?}");
    });
}

#[test]
fn requests_and_responses_go_to_other_goroutines() {
    fn check<T: Send>() {}
    check::<Request>();
    check::<Response>();
    check::<Error>();
    check::<Body>();
    check::<http::Request<Body>>();
    fn check_shared<T: Send + Sync + Clone>() {}
    check_shared::<Client>();
}
