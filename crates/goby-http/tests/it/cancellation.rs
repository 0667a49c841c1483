//! Early ends of a request, at each of its stages: rows 329 to 349 of `docs/conformance.md`.

use std::error::Error as _;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use goby::chan::{self, Receiver, Sender};
use goby::context::ContextError;
use goby::net::{TcpListener, TcpStream};
use goby::{Context, JoinHandle, blocking, go, select};
use goby_http::{Body, Client, Error, Request, Response};

use crate::support::{MOMENT, Script, Site, answer, background, pause, read_head, read_to_close, with_workers, words};

#[track_caller]
fn assert_canceled<T: std::fmt::Debug>(result: Result<T, Error>) -> Error {
    let error = result.unwrap_err();
    assert!(error.is_canceled() && !error.is_timeout(), "{error:?}");
    assert_eq!(error.context_error(), Some(ContextError::Canceled));
    assert_eq!(error.source().unwrap().downcast_ref(), Some(&ContextError::Canceled));
    error
}

/// A handler that says that it was called and then waits until `release` is closed.
fn blocked() -> (impl Fn(Request) -> &'static str + Send + Sync, Receiver<()>, Sender<()>) {
    let (called, calls) = chan::unbounded();
    let (release, released) = chan::bounded(0);
    let handler = move |_: Request| {
        called.send(()).unwrap();
        let _ = released.recv();
        "released"
    };
    (handler, calls, release)
}

fn request_in_goroutine(
    client: &Client,
    ctx: &Context,
    request: http::Request<Body>,
) -> JoinHandle<Result<Response, Error>> {
    let (client, ctx) = (client.clone(), ctx.clone());
    go(move || client.request(&ctx, request))
}

fn requests(url: &str) -> [http::Request<Body>; 3] {
    [
        http::Request::get(url).body(Body::empty()).unwrap(),
        http::Request::post(url).body(Body::from("body")).unwrap(),
        http::Request::post(url).body(Body::from_reader(&b"streamed"[..])).unwrap(),
    ]
}

#[test]
fn c329_the_clients_timeout_ends_a_request_without_an_answer() {
    with_workers(|| {
        let (handler, _calls, release) = blocked();
        let site = Site::start(handler);
        let client = Client::builder().timeout(Duration::from_millis(5)).build().unwrap();
        let error = client.get(&background(), site.url("/")).unwrap_err();
        assert!(error.is_timeout() && !error.is_canceled(), "{error:?}");
        assert_eq!(error.context_error(), Some(ContextError::DeadlineExceeded));
        assert!(error.to_string().contains("Client.Timeout exceeded"), "{error}");
        release.close();
    });
}

#[test]
fn c331_a_timeout_that_does_not_pass_changes_nothing() {
    with_workers(|| {
        let site = Site::start(|_: Request| "body");
        let client = Client::builder().timeout(Duration::from_secs(3600)).build().unwrap();
        for _ in 0..3 {
            assert_eq!(client.get(&background(), site.url("/")).unwrap().bytes().unwrap(), "body");
        }
        assert_eq!(site.connections(), 1);
    });
}

#[test]
fn c333_a_context_that_is_done_before_the_request() {
    with_workers(|| {
        let site = Site::start(|_: Request| "never asked");
        let (ctx, _cancel) = background().with_deadline(goby::now() - Duration::from_nanos(1));
        let error = Client::new().get(&ctx, site.url("/")).unwrap_err();
        assert!(error.is_timeout() && !error.is_canceled());
        assert_eq!(error.context_error(), Some(ContextError::DeadlineExceeded));

        let (ctx, cancel) = background().with_cancel();
        cancel.cancel();
        assert_canceled(Client::new().get(&ctx, site.url("/")));
        assert_eq!(site.connections(), 0);
    });
}

#[test]
fn c335_canceling_reaches_a_request_that_was_redirected() {
    with_workers(|| {
        let (called, calls) = chan::bounded(1);
        let (ended, ends) = chan::bounded(1);
        let slow = Site::start(move |request: Request| {
            let ctx = request.context();
            called.send(()).unwrap();
            let _ = ctx.done().recv();
            ended.send(ctx.err()).unwrap();
        });
        let target = slow.url("/slow");
        let site = Site::start(move |_: Request| Response::redirect(&target));
        let (ctx, cancel) = background().with_cancel();
        let client = Client::new();
        let request =
            request_in_goroutine(&client, &ctx, http::Request::get(site.url("/")).body(Body::empty()).unwrap());
        calls.recv().unwrap();
        cancel.cancel();
        assert_canceled(request.join().unwrap());
        assert_eq!(ends.recv().unwrap(), Some(ContextError::Canceled));
        drop(client);
    });
}

#[test]
fn c337_canceling_while_the_body_is_read() {
    with_workers(|| {
        let (closed, closes) = chan::unbounded();
        let script = Script::start(move |_, mut stream| {
            let head = read_head(&stream);
            if head.starts_with("POST") {
                let mut body = [0; 4];
                stream.read_exact(&mut body).unwrap();
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nHello\r\n").unwrap();
            read_to_close(&stream);
            closed.send(()).unwrap();
        });
        let url = script.url("/");
        for request in [
            http::Request::get(&url).body(Body::empty()).unwrap(),
            http::Request::post(&url).body(Body::from("body")).unwrap(),
        ] {
            let (ctx, cancel) = background().with_cancel();
            let mut response = Client::new().request(&ctx, request).unwrap();
            let mut hello = [0; 5];
            response.read_exact(&mut hello).unwrap();
            assert_eq!(&hello, b"Hello");
            let reader = go(move || {
                let mut rest = Vec::new();
                let result = response.read_to_end(&mut rest);
                (result, rest)
            });
            pause(MOMENT);
            cancel.cancel();
            let (result, rest) = reader.join().unwrap();
            assert_eq!(rest, b"");
            let error = result.unwrap_err().downcast::<Error>().unwrap();
            assert!(error.is_body());
            assert_canceled(Err::<(), _>(error));
            closes.recv().unwrap();
        }
    });
}

#[test]
fn c337_canceling_before_the_body_is_read() {
    with_workers(|| {
        let site = Site::start(|_: Request| vec![b'x'; 1 << 20]);
        let (ctx, cancel) = background().with_cancel();
        let response = Client::new().get(&ctx, site.url("/")).unwrap();
        cancel.cancel();
        assert_canceled(response.bytes());
    });
}

#[test]
fn c339_canceling_while_the_name_is_looked_up() {
    with_workers(|| {
        let events = Arc::new(Mutex::new(Vec::new()));
        let (called, calls) = chan::bounded(1);
        let (release, released) = mpsc::channel::<()>();
        let released = Mutex::new(released);
        let resolver = {
            let events = events.clone();
            move |host: &str| {
                assert_eq!(host, "nowhere.example");
                events.lock().unwrap().push("dial");
                called.send(()).unwrap();
                let _ = released.lock().unwrap().recv();
                Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)])
            }
        };
        let client = Client::builder().resolver(resolver).build().unwrap();
        let (ctx, cancel) = background().with_cancel();
        let request = http::Request::get("http://nowhere.example/").body(Body::empty()).unwrap();
        let request = request_in_goroutine(&client, &ctx, request);
        calls.recv().unwrap();
        events.lock().unwrap().push("cancel");
        cancel.cancel();
        cancel.cancel();
        // The resolver is still blocked.
        let error = assert_canceled(request.join().unwrap());
        events.lock().unwrap().push("error");
        assert!(error.is_resolve());
        assert_eq!(words(&error), "canceled while looking up nowhere.example");
        assert_eq!(*events.lock().unwrap(), ["dial", "cancel", "error"]);
        drop(release);
    });
}

/// An address where connecting neither succeeds nor fails: its listener's queue is full and nobody
/// accepts.
fn unresponsive() -> (std::net::SocketAddr, impl Sized) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let addr = socket.local_addr().unwrap().as_socket().unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(addr, Duration::from_millis(50)) {
        queued.push(stream);
    }
    (addr, (socket, queued))
}

#[test]
fn c339_canceling_while_the_connection_is_made() {
    with_workers(|| {
        let (addr, _full) = unresponsive();
        let (ctx, cancel) = background().with_cancel();
        let request = http::Request::get(format!("http://{addr}/")).body(Body::empty()).unwrap();
        let request = request_in_goroutine(&Client::new(), &ctx, request);
        pause(MOMENT);
        cancel.cancel();
        let error = assert_canceled(request.join().unwrap());
        assert!(error.is_connect());
        assert_eq!(words(&error), format!("canceled while connecting to {addr}"));

        let client = Client::builder().connect_timeout(Duration::from_millis(5)).build().unwrap();
        let error = client.get(&background(), format!("http://{addr}/")).unwrap_err();
        assert!(error.is_connect() && error.is_timeout() && error.context_error().is_none());
        assert_eq!(words(&error), format!("timeout connecting to {addr}"));
    });
}

#[cfg(feature = "tls")]
#[test]
fn c339_canceling_while_tls_is_negotiated() {
    with_workers(|| {
        let (greeted, greetings) = chan::bounded(1);
        let script = Script::start(move |_, mut stream| {
            // The client's hello is not answered.
            stream.read_exact(&mut [0; 5]).unwrap();
            greeted.send(()).unwrap();
            read_to_close(&stream);
        });
        let (ctx, cancel) = background().with_cancel();
        let request = http::Request::get(format!("https://{}/", script.addr())).body(Body::empty()).unwrap();
        let request = request_in_goroutine(&Client::new(), &ctx, request);
        greetings.recv().unwrap();
        cancel.cancel();
        let error = assert_canceled(request.join().unwrap());
        assert!(error.is_tls());
        assert_eq!(words(&error), "canceled while negotiating TLS with 127.0.0.1");
    });
}

#[test]
fn c341_canceling_again_and_again_while_the_handler_is_blocked() {
    with_workers(|| {
        let (handler, calls, release) = blocked();
        let site = Site::start(handler);
        for request in requests(&site.url("/")) {
            let (ctx, cancel) = background().with_cancel();
            let request = request_in_goroutine(&Client::new(), &ctx, request);
            calls.recv().unwrap();
            for _ in 0..10 {
                cancel.cancel();
                goby::yield_now();
            }
            let error = assert_canceled(request.join().unwrap());
            assert!(error.is_request());
            // The handler runs as soon as the head has come: the client may be sending the body, or
            // be about to find that all of the request is sent.
            let words = words(&error);
            let stages = ["canceled while sending the request", "canceled while awaiting response headers"];
            assert!(stages.contains(&&*words), "{words}");
        }
        release.close();
    });
}

#[test]
fn canceling_while_the_body_is_sent() {
    with_workers(|| {
        let (started, starts) = chan::bounded(1);
        let (canceled, cancels) = chan::bounded::<()>(0);
        let script = Script::start(move |_, stream| {
            // Meanwhile nothing reads the body: the client is stuck in the middle of it.
            assert!(read_head(&stream).starts_with("POST"));
            started.send(()).unwrap();
            cancels.recv().unwrap();
            read_to_close(&stream);
        });
        for body in [Body::from(vec![0; 64 << 20]), Body::from_reader(std::io::repeat(0))] {
            let (ctx, cancel) = background().with_cancel();
            let request = http::Request::post(script.url("/")).body(body).unwrap();
            let request = request_in_goroutine(&Client::new(), &ctx, request);
            starts.recv().unwrap();
            pause(Duration::from_millis(20));
            cancel.cancel();
            assert_canceled(request.join().unwrap());
            canceled.send(()).unwrap();
        }
    });
}

#[test]
fn c343_a_timeout_before_the_headers_closes_the_connection() {
    with_workers(|| {
        let (closed, closes) = chan::unbounded();
        let script = Script::start(move |n, stream| {
            if n == 0 {
                assert_ne!(read_head(&stream), "");
                read_to_close(&stream);
                closed.send(()).unwrap();
            } else {
                answer(&stream, "second connection");
            }
        });
        let client = Client::builder().header_timeout(Duration::from_millis(250)).build().unwrap();
        let error = client.get(&background(), script.url("/")).unwrap_err();
        assert!(error.is_timeout());
        closes.recv().unwrap();
        assert_eq!(client.get(&background(), script.url("/")).unwrap().text().unwrap(), "second connection");
    });
}

#[test]
fn c345_a_timeout_for_the_headers_alone() {
    with_workers(|| {
        let (ended, ends) = chan::bounded(1);
        let site = Site::start(move |request: Request| {
            if request.path() == "/slow" {
                let _ = request.context().done().recv();
                ended.send(()).unwrap();
            }
            "body"
        });
        // Long enough for a busy machine to answer in time.
        let client = Client::builder().header_timeout(Duration::from_millis(250)).build().unwrap();
        assert_eq!(client.get(&background(), site.url("/fast")).unwrap().text().unwrap(), "body");
        let error = client.get(&background(), site.url("/slow")).unwrap_err();
        assert_eq!(words(&error), "timeout awaiting response headers");
        assert!(error.is_timeout() && error.is_request() && error.context_error().is_none());
        ends.recv().unwrap();
        assert_eq!(client.get(&background(), site.url("/fast")).unwrap().text().unwrap(), "body");
    });
}

#[test]
fn the_time_for_the_headers_does_not_count_for_the_body() {
    with_workers(|| {
        let (release, released) = chan::bounded::<&str>(0);
        let released = Mutex::new(Some(released));
        let site =
            Site::start(move |_: Request| Response::new(Body::from_chunks(released.lock().unwrap().take().unwrap())));
        let timeout = Duration::from_millis(250);
        let client = Client::builder().header_timeout(timeout).build().unwrap();
        let response = client.get(&background(), site.url("/")).unwrap();
        pause(timeout * 2);
        release.send("late").unwrap();
        drop(release);
        assert_eq!(response.text().unwrap(), "late");
    });
}

#[test]
fn c349_a_request_that_is_given_up_while_it_connects_leaves_the_other_its_connection() {
    with_workers(|| {
        let site = Site::start(|_: Request| "body");
        let (called, calls) = chan::bounded(1);
        let (release, released) = mpsc::channel::<()>();
        let released = Mutex::new(Some(released));
        let client = Client::builder()
            .resolver(move |_| {
                // The first lookup blocks.
                let first = released.lock().unwrap().take();
                if let Some(first) = first {
                    called.send(()).unwrap();
                    let _ = first.recv();
                }
                Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)])
            })
            .build()
            .unwrap();
        let url = format!("http://site.example:{}/", site.addr().port());
        let (ctx, cancel) = background().with_cancel();
        let first = request_in_goroutine(&client, &ctx, http::Request::get(&url).body(Body::empty()).unwrap());
        calls.recv().unwrap();
        cancel.cancel();
        assert_canceled(first.join().unwrap());
        assert_eq!(client.get(&background(), &url).unwrap().text().unwrap(), "body");
        drop(release);
        assert_eq!(client.get(&background(), &url).unwrap().text().unwrap(), "body");
        assert_eq!(site.connections(), 1);
    });
}

#[test]
fn waiting_for_a_free_connection_ends_with_the_context() {
    with_workers(|| {
        let (handler, calls, release) = blocked();
        let site = Site::start(handler);
        let client = Client::builder().max_connections_per_host(1).build().unwrap();
        let first = request_in_goroutine(
            &client,
            &background(),
            http::Request::get(site.url("/")).body(Body::empty()).unwrap(),
        );
        calls.recv().unwrap();
        let (ctx, cancel) = background().with_cancel();
        let second =
            request_in_goroutine(&client, &ctx, http::Request::get(site.url("/")).body(Body::empty()).unwrap());
        pause(MOMENT);
        cancel.cancel();
        let error = assert_canceled(second.join().unwrap());
        assert_eq!(words(&error), format!("canceled while awaiting a free connection to {}", site.addr()));
        release.close();
        assert_eq!(first.join().unwrap().unwrap().text().unwrap(), "released");
    });
}

/// A request that is canceled at any moment ends with its context's error, and the client stays
/// usable.
#[test]
fn canceling_at_any_moment_leaves_a_usable_client() {
    with_workers(|| {
        let site = Site::start(|_: Request| vec![b'x'; 100_000]);
        let client = Client::new();
        for round in 0..200u64 {
            let (ctx, cancel) = background().with_cancel();
            let canceler = go(move || {
                for _ in 0..round / 4 {
                    goby::yield_now();
                }
                cancel.cancel();
            });
            match client.get(&ctx, site.url("/")).and_then(Response::bytes) {
                Ok(bytes) => assert_eq!(bytes.len(), 100_000),
                Err(error) => drop(assert_canceled(Err::<(), _>(error))),
            }
            canceler.join().unwrap();
        }
        assert_eq!(client.get(&background(), site.url("/")).unwrap().bytes().unwrap().len(), 100_000);
    });
}

#[test]
fn a_select_gives_a_request_up() {
    with_workers(|| {
        let (handler, calls, release) = blocked();
        let site = Site::start(handler);
        let (ctx, cancel) = background().with_cancel();
        let (done, dones) = chan::bounded(1);
        let url = site.url("/");
        go(move || done.send(Client::new().get(&ctx, url).map(drop)).unwrap());
        calls.recv().unwrap();
        select! {
            recv(dones) -> _ => panic!("the handler is blocked"),
            default(MOMENT) => cancel.cancel(),
        }
        assert_canceled(dones.recv().unwrap());
        release.close();
    });
}

#[test]
fn plain_threads_make_requests_too() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = go(move || answer(&listener.accept().unwrap().0, "hello"));
    assert_eq!(goby_http::get(&background(), url).unwrap().text().unwrap(), "hello");
    blocking(|| server.join()).unwrap();
}
