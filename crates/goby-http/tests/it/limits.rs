//! The server's limits: of time, of size, of number.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use goby::diag::{GoroutineInfo, goroutines};
use goby::net::TcpStream;
use goby::{chan, go, now, scope};
use goby_http::{Body, Client, Request, Response, Server, StatusCode};

use crate::support::{
    PATIENCE, Site, background, pause, read_head, rerun_alone, wait_until, with_one_worker, with_workers,
};

/// A limit that is to be reached, and one that a busy machine does not reach.
const SHORT: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_millis(1500);

fn connect(site: &Site, said: &str) -> TcpStream {
    let mut stream = TcpStream::connect(site.addr()).unwrap();
    stream.write_all(said.as_bytes()).unwrap();
    stream
}

fn read_all(mut stream: &TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Answers with the body, or with 408 if it does not come in time.
fn echo(request: Request) -> Response {
    match request.text() {
        Ok(text) => text.into(),
        Err(error) => {
            assert!(error.is_timeout() && error.is_body(), "{error:?}");
            assert_eq!(error.to_string(), "timeout reading the request body");
            StatusCode::REQUEST_TIMEOUT.into()
        }
    }
}

const UPLOAD: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n";

#[test]
fn a_stalled_upload_ends_and_is_answered() {
    with_workers(|| {
        let site = Site::start_with(|server| server.stall_timeout(SHORT), echo);
        let start = now();
        for said in [UPLOAD, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"] {
            let answer = read_all(&connect(&site, &format!("{said}3\r\n")));
            assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
            assert!(answer.contains("connection: close\r\n"), "{answer}");
        }
        assert!(start.elapsed() >= SHORT.mul_f64(1.6), "{:?}", start.elapsed());
    });
}

#[test]
fn a_slow_upload_is_no_stalled_one() {
    with_one_worker(|| {
        let site = Site::start_with(|server| server.stall_timeout(LONG), echo);
        let mut stream = connect(&site, UPLOAD);
        for digit in 0..10 {
            pause(LONG / 8);
            write!(stream, "{digit}").unwrap();
        }
        assert!(read_head(&stream).starts_with("HTTP/1.1 200 "));
        let mut body = [0; 10];
        stream.read_exact(&mut body).unwrap();
        assert_eq!(&body, b"0123456789");
    });
}

/// The time that a handler takes between two reads is not the client's.
#[test]
fn a_slow_handler_is_no_stalled_upload() {
    with_workers(|| {
        let site = Site::start_with(
            |server| server.stall_timeout(SHORT),
            |mut request: Request| {
                request.reader().chunk().unwrap();
                pause(SHORT.mul_f64(1.5));
                request.text().unwrap()
            },
        );
        let mut stream = connect(&site, UPLOAD);
        // One read that waits before the handler's pause.
        pause(SHORT / 4);
        stream.write_all(b"0").unwrap();
        pause(SHORT / 4);
        stream.write_all(b"123456789").unwrap();
        assert!(read_head(&stream).starts_with("HTTP/1.1 200 "));
    });
}

#[test]
fn a_request_that_drips_ends_by_the_limit_of_the_whole() {
    with_workers(|| {
        let site = Site::start_with(|server| server.read_timeout(SHORT), echo);
        // Its body drips, its head drips.
        for (said, answered) in [(UPLOAD.replace("10", "100000"), "HTTP/1.1 408 "), ("GET /".to_owned(), "")] {
            let stream = connect(&site, &said);
            scope(|s| {
                s.go(|| {
                    while (&stream).write_all(b"x").is_ok() {
                        pause(SHORT / 20);
                    }
                });
                let mut answer = Vec::new();
                // A reset is an end, too.
                let _ = (&stream).read_to_end(&mut answer);
                assert!(answer.starts_with(answered.as_bytes()) && answer.is_empty() == answered.is_empty());
                // The writer's end.
                let _ = stream.shutdown(Shutdown::Both);
            });
        }
    });
}

/// Tells when it is dropped.
struct Last(chan::Sender<()>);

impl Drop for Last {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// A handler of an endless response, and what is closed when its body is dropped.
fn endless() -> (impl Fn(Request) -> Body + Send + Sync + 'static, chan::Receiver<()>) {
    let (ended, ends) = chan::bounded(0);
    let handler = move |_: Request| {
        let last = Last(ended.clone());
        Body::from_chunks(std::iter::repeat_with(move || {
            let _ = &last;
            vec![b'x'; 64 << 10]
        }))
    };
    (handler, ends)
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn a_client_that_does_not_read_is_given_up() {
    with_workers(|| {
        let (handler, ends) = endless();
        let site = Site::start_with(|server| server.stall_timeout(SHORT), handler);
        let start = now();
        let stream = connect(&site, GET);
        assert!(ends.recv_timeout(PATIENCE).is_err_and(|error| !error.is_timeout()));
        assert!(start.elapsed() >= SHORT.mul_f64(0.8), "{:?}", start.elapsed());
        drop(stream);
    });
}

/// What it sends meanwhile does not count.
#[test]
fn a_client_that_only_sends_is_given_up() {
    with_workers(|| {
        let (handler, ends) = endless();
        let site = Site::start_with(|server| server.stall_timeout(SHORT), handler);
        let stream = connect(&site, GET);
        scope(|s| {
            s.go(|| {
                while (&stream).write_all(b"\r\n").is_ok() {
                    pause(SHORT / 20);
                }
            });
            assert!(ends.recv_timeout(PATIENCE).is_err_and(|error| !error.is_timeout()));
            let _ = stream.shutdown(Shutdown::Both);
        });
    });
}

/// With a limit for the whole response, it does not help to read slowly.
#[test]
fn a_client_that_reads_slowly_is_given_up_by_the_limit_of_the_whole_alone() {
    with_one_worker(|| {
        let read_slowly = |site: &Site, ends: &chan::Receiver<()>, most| {
            let mut stream = connect(site, GET);
            let (start, mut buffer) = (now(), vec![0; 1 << 20]);
            while start.elapsed() < most && ends.recv_timeout(SHORT / 10).is_err_and(|error| error.is_timeout()) {
                if stream.read(&mut buffer).is_err() {
                    break;
                }
            }
            start.elapsed()
        };
        let (handler, ends) = endless();
        let site = Site::start_with(|server| server.stall_timeout(LONG), handler);
        assert!(read_slowly(&site, &ends, LONG * 3 / 2) >= LONG * 3 / 2);
        let (handler, ends) = endless();
        let site = Site::start_with(|server| server.write_timeout(SHORT), handler);
        assert!(read_slowly(&site, &ends, PATIENCE) < PATIENCE);
    });
}

#[test]
fn a_long_head_is_refused() {
    with_workers(|| {
        let site = Site::start_with(|server| server.max_head_bytes(5_000), |_: Request| "hello");
        let ask = |fields: String| {
            let start = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n";
            let mut stream = connect(&site, &format!("{start}{fields}\r\n"));
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            String::from_utf8(answer).unwrap()[..12].to_owned()
        };
        let long = |len| format!("X-Long: {}\r\n", "x".repeat(len));
        let many = |n| "X-Many: x\r\n".repeat(n);
        assert_eq!(ask(long(4_900)), "HTTP/1.1 200");
        assert_eq!(ask(long(5_000)), "HTTP/1.1 431");
        assert_eq!(ask(long(100_000)), "HTTP/1.1 431");
        assert_eq!(ask(many(440)), "HTTP/1.1 200");
        assert_eq!(ask(many(460)), "HTTP/1.1 431");
        assert_eq!(ask(many(9_000)), "HTTP/1.1 431");
    });
}

#[test]
fn a_long_body_is_refused() {
    with_workers(|| {
        let (called, calls) = chan::unbounded();
        let site = Site::start_with(
            |server| server.max_body_bytes(10),
            move |request: Request| {
                called.send(()).unwrap();
                request.text().inspect_err(|error| assert!(error.is_body() && !error.is_timeout()))
            },
        );
        let client = Client::new();
        let post = |body: Body| client.post(&background(), site.url("/"), body).unwrap();
        assert_eq!(post("0123456789".into()).text().unwrap(), "0123456789");
        assert_eq!(post(Body::from_chunks(["01234", "56789"])).text().unwrap(), "0123456789");
        assert_eq!(calls.len(), 2);
        assert_eq!(post("0123456789+".into()).status(), 413);
        assert_eq!(calls.len(), 2, "no handler is called");
        // Here a handler is, and its error says what the answer is.
        assert_eq!(post(Body::from_chunks(["01234", "56789", "+"])).status(), 413);
        assert_eq!(calls.len(), 3);
    });
}

#[test]
fn more_connections_than_allowed_wait() {
    let Some(stderr) = rerun_alone("limits::more_connections_than_allowed_wait") else {
        return with_one_worker(|| {
            let site = Site::start_with(|server| server.max_connections(2), |_: Request| "hello");
            let mut first = connect(&site, GET);
            let second = connect(&site, GET);
            for stream in [&first, &second] {
                assert!(read_head(stream).starts_with("HTTP/1.1 200 "));
            }
            for _ in 0..2 {
                let third = connect(&site, GET);
                third.set_read_deadline(Some(now() + SHORT / 2));
                assert_eq!(read_head(&third), "");
                third.set_read_deadline(None);
                drop(std::mem::replace(&mut first, third));
                assert!(read_head(&first).starts_with("HTTP/1.1 200 "));
            }
        });
    };
    let said = "goby-http: there are 2 connections, as many as may be: others wait (said once)";
    assert_eq!(stderr.matches(said).count(), 1, "{stderr}");
}

#[test]
fn a_server_that_waits_for_room_stops() {
    with_workers(|| {
        let mut site = Site::start_with(|server| server.max_connections(1), |_: Request| "hello");
        let first = connect(&site, GET);
        read_head(&first);
        let second = connect(&site, GET);
        site.stop();
        site.join();
        drop((first, second));
    });
}

#[test]
fn a_connection_ends_after_as_many_requests_as_it_may_carry() {
    with_workers(|| {
        let site = Site::start_with(|server| server.max_requests_per_connection(3), |_: Request| "hello");
        let client = Client::new();
        for n in 1..=9 {
            let response = client.get(&background(), site.url("/")).unwrap();
            let closes = response.headers().get("connection").is_some_and(|value| value == "close");
            assert_eq!(closes, n % 3 == 0);
            assert_eq!(response.text().unwrap(), "hello");
        }
        assert_eq!(site.connections(), 3);
        // The requests behind the last one do not cost its response.
        let answers = read_all(&connect(&site, &GET.repeat(1000)));
        assert_eq!(answers.matches("HTTP/1.1 200 ").count(), 3);
        assert!(answers.ends_with("hello"));
    });
}

/// A head that has begun before the server stops may be completed, but not at leisure.
#[test]
fn half_a_head_delays_the_end_by_five_seconds_at_most() {
    with_one_worker(|| {
        let server = Server::bind("127.0.0.1:0").unwrap().header_timeout(PATIENCE);
        let addr = server.local_addr();
        let halves = [(); 2].map(|()| {
            let mut stream = TcpStream::connect(addr).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost").unwrap();
            stream
        });
        let (ctx, cancel) = background().with_cancel();
        let serving = go(move || server.serve_ctx(&ctx, |_: Request| "hello"));
        // What is there is read when the goroutine of a connection first runs.
        let parked = |g: &GoroutineInfo| g.status().to_string() == "block_on";
        wait_until("both to be read", || goroutines().iter().filter(|g| parked(g)).count() == 2);
        let start = now();
        cancel.cancel();
        let [mut finished, left] = halves;
        finished.write_all(b": a\r\n\r\n").unwrap();
        let answer = read_all(&finished);
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("hello"), "{answer}");
        serving.join().unwrap().unwrap();
        let waited = start.elapsed();
        assert!((Duration::from_secs(4)..PATIENCE / 2).contains(&waited), "{waited:?}");
        drop(left);
    });
}

#[test]
fn a_hundred_slow_heads_end_while_others_are_served() {
    with_workers(|| {
        let site = Site::start_with(|server| server.header_timeout(SHORT * 2), |_: Request| "hello");
        scope(|s| {
            for _ in 0..100 {
                s.go(|| {
                    let mut stream = connect(&site, "GET / HTTP/1.1\r\n");
                    while stream.write_all(b"X-Slow: x\r\n").is_ok() {
                        pause(SHORT / 20);
                    }
                });
            }
            let client = Client::new();
            for _ in 0..100 {
                assert_eq!(client.get(&background(), site.url("/")).unwrap().text().unwrap(), "hello");
            }
        });
    });
}
