//! Where messages end: bodies that are not sent, lengths that do not fit, and requests that the
//! server refuses for their form.

use std::io::{self, Read, Write};

use goby::chan::{self, Sender};
use goby::context::ContextError;
use goby::net::TcpStream;
use goby::{Context, go};
use goby_http::{Body, Client, Request, Response, StatusCode};

use crate::support::{Script, Site, background, read_head, read_to_close, rerun_alone, with_workers};

/// A reader of zeros that says when it is dropped, like a file that is closed.
struct File {
    left: usize,
    closed: Sender<()>,
}

impl Read for File {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = buf.len().min(self.left);
        buf[..n].fill(b'x');
        self.left -= n;
        Ok(n)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        self.closed.send(()).unwrap();
    }
}

/// Sends requests on one connection, and reads the answers to their ends by their lengths.
struct Raw(TcpStream);

impl Raw {
    fn connect(site: &Site) -> Raw {
        Raw(TcpStream::connect(site.addr()).unwrap())
    }

    /// The head of the answer.
    fn ask(&mut self, request: &str) -> String {
        self.0.write_all(request.as_bytes()).unwrap();
        read_head(&self.0)
    }

    fn body(&mut self, len: usize) -> String {
        let mut body = vec![0; len];
        self.0.read_exact(&mut body).unwrap();
        String::from_utf8(body).unwrap()
    }
}

/// The status, and all that came until the server closed.
#[track_caller]
fn check_refused(site: &Site, request: &str, status: &str) {
    let mut stream = TcpStream::connect(site.addr()).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?} got {answer:?}");
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer:?}");
}

#[test]
fn a_body_that_is_not_sent_is_dropped_and_its_request_ends() {
    with_workers(|| {
        let (handed, contexts) = chan::bounded::<Context>(1);
        let (closed, closes) = chan::bounded(1);
        let site = Site::start(move |request: Request| {
            handed.send(request.context().clone()).unwrap();
            let body = Body::from_reader(File { left: 100_000, closed: closed.clone() });
            let response = Response::new(body);
            match request.path() {
                "/204" => response.with_status(StatusCode::NO_CONTENT),
                "/304" => response.with_status(StatusCode::NOT_MODIFIED),
                "/short" => response.with_header("content-length", "10"),
                "/none" => response.with_header("content-length", "0"),
                _ => response,
            }
        });
        let mut raw = Raw::connect(&site);
        let cases = [("HEAD /", "200", 0), ("GET /204", "204", 0), ("GET /304", "304", 0), ("GET /short", "200", 10)];
        for (line, status, len) in cases.into_iter().chain([("GET /none", "200", 0), ("HEAD /short", "200", 0)]) {
            let head = raw.ask(&format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {head}");
            assert_eq!(raw.body(len), "x".repeat(len));
            // On the same connection, which stays open.
            let ctx = contexts.recv().unwrap();
            let _ = ctx.done().recv();
            assert_eq!(ctx.err(), Some(ContextError::Canceled), "{line}");
            closes.recv().unwrap();
        }
    });
}

#[test]
fn a_length_set_by_hand_that_does_not_fit_leaves_the_connection_in_step() {
    with_workers(|| {
        let site = Site::start(|request: Request| {
            let length = request.query().unwrap().to_owned();
            let body = match request.path() {
                "/known" => Body::from("hello"),
                "/sized" => Body::from_sized_reader(&b"hello"[..], 5),
                _ => Body::from_chunks(["hel", "lo"]),
            };
            let response = Response::new(body).with_header("content-length", length);
            if request.path() == "/coded" { response.with_header("transfer-encoding", "chunked") } else { response }
        });
        let mut raw = Raw::connect(&site);
        let mut check = |target: &str, body: &str| {
            let head = raw.ask(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{target}: {head}");
            assert!(!head.contains("transfer-encoding"), "{target}: {head}");
            assert_eq!(raw.body(body.len()), body);
        };
        check("/known?3", "hello");
        check("/known?5", "hello");
        check("/known?10", "hello");
        check("/sized?3", "hello");
        check("/sized?10", "hello");
        check("/streamed?5", "hello");
        check("/streamed?4", "hell");
        check("/coded?5", "hello");
        // The body is shorter than the header says: the server can only stop.
        for target in ["/streamed?10", "/known?many"] {
            let mut raw = Raw::connect(&site);
            raw.ask(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
            read_to_close(&raw.0);
        }
    });
}

/// The server reports a handler's mistake on standard error, and does not panic.
#[test]
fn a_length_that_does_not_fit_is_told() {
    if let Some(stderr) = rerun_alone("framing::a_length_that_does_not_fit_is_told") {
        assert!(stderr.contains("content-length says 3, but the body has 5 bytes; mended"), "{stderr}");
        assert!(stderr.contains("content-length says \"many\"; connection closed"), "{stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
        return;
    }
    with_workers(|| {
        let site = Site::start(|request: Request| {
            Response::new("hello").with_header("content-length", request.query().unwrap().to_owned())
        });
        let fetch = |target| Client::new().get(&background(), site.url(target)).and_then(Response::text);
        assert_eq!(fetch("/?3").unwrap(), "hello");
        assert!(fetch("/?many").unwrap_err().is_request());
    });
}

#[test]
fn a_response_of_any_version_is_sent_as_1_1() {
    with_workers(|| {
        let site = Site::start(|_: Request| {
            http::Response::builder().version(http::Version::HTTP_3).body(Body::from("hello")).unwrap()
        });
        assert_eq!(Client::new().get(&background(), site.url("/")).unwrap().text().unwrap(), "hello");
    });
}

/// Answers with what came: the method, what the headers say of the body, and the body.
fn mirror(request: Request) -> String {
    let header = |name: &str| request.headers().get(name).map_or("-", |value| value.to_str().unwrap()).to_owned();
    let (length, coding) = (header("content-length"), header("transfer-encoding"));
    format!("{} {length} {coding} {}", request.method().clone(), request.text().unwrap())
}

#[test]
fn a_request_is_framed_by_its_body() {
    with_workers(|| {
        let site = Site::start(mirror);
        let client = Client::new();
        let check = |method: &str, header: Option<(&str, &str)>, body: Body, seen: &str| {
            let mut request = http::Request::builder().method(method).uri(site.url("/"));
            if let Some((name, value)) = header {
                request = request.header(name, value);
            }
            let response = client.request(&background(), request.body(body).unwrap()).unwrap();
            assert_eq!(response.text().unwrap(), seen, "{method} {header:?}");
        };
        let streamed = || Body::from_chunks(["hel", "lo"]);
        for method in ["POST", "PUT", "PATCH"] {
            check(method, None, Body::empty(), &format!("{method} 0 - "));
        }
        check("GET", None, Body::empty(), "GET - - ");
        check("DELETE", None, Body::empty(), "DELETE - - ");
        check("POST", None, "hello".into(), "POST 5 - hello");
        check("GET", None, streamed(), "GET - chunked hello");
        check("POST", None, streamed(), "POST - chunked hello");
        for length in ["3", "5", "10"] {
            check("POST", Some(("content-length", length)), "hello".into(), "POST 5 - hello");
            let sized = Body::from_sized_reader(&b"hello"[..], 5);
            check("POST", Some(("content-length", length)), sized, "POST 5 - hello");
        }
        check("POST", Some(("content-length", "5")), Body::empty(), "POST 0 - ");
        check("POST", Some(("content-length", "5")), streamed(), "POST 5 - hello");
        check("POST", Some(("content-length", "4")), streamed(), "POST 4 - hell");
        check("POST", Some(("transfer-encoding", "chunked")), "hello".into(), "POST 5 - hello");
        assert_eq!(site.connections(), 1);
        for length in ["10", "many"] {
            let request = http::Request::post(site.url("/")).header("content-length", length);
            let error = client.request(&background(), request.body(streamed()).unwrap()).unwrap_err();
            assert!(error.is_request() && !error.is_protocol(), "{error:?}");
        }
    });
}

/// An old server cannot receive a body of unknown length. So the client never sends it one on a
/// kept connection.
#[test]
fn a_connection_to_an_old_server_is_not_used_again() {
    with_workers(|| {
        let script = Script::start(|n, mut stream| {
            let head = read_head(&stream);
            assert_eq!(head.starts_with("POST"), n == 1, "{head}");
            if n == 1 {
                assert!(head.contains("transfer-encoding: chunked"), "{head}");
                stream.read_exact(&mut [0; 5 + 3 + 5]).unwrap();
            }
            stream.write_all(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok").unwrap();
            go(move || read_to_close(&stream));
        });
        let client = Client::new();
        assert_eq!(client.get(&background(), script.url("/")).unwrap().text().unwrap(), "ok");
        let response = client.post(&background(), script.url("/"), Body::from_chunks(["hel"])).unwrap();
        assert_eq!(response.text().unwrap(), "ok");
    });
}

#[test]
fn a_request_without_a_proper_host_is_refused() {
    with_workers(|| {
        let site = Site::start(|_: Request| "hello");
        check_refused(&site, "GET / HTTP/1.1\r\n\r\n", "400");
        check_refused(&site, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400");
        check_refused(&site, "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "400");
        let answer_to_old = Raw::connect(&site).ask("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n");
        assert!(answer_to_old.starts_with("HTTP/1.0 400 "), "{answer_to_old}");
        for host in ["a b", "a/b", "user@a", "a?b", "a#b", "a\\b", "caf\u{e9}"] {
            check_refused(&site, &format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), "400");
        }
        let mut raw = Raw::connect(&site);
        for host in ["", "a", "a.example:80", "[::1]:8080", "127.0.0.1"] {
            let head = raw.ask(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
            assert!(head.starts_with("HTTP/1.1 200 "), "{host}: {head}");
            assert_eq!(raw.body(5), "hello");
        }
    });
}

#[test]
fn a_target_that_is_none_is_refused() {
    with_workers(|| {
        let site = Site::start(|request: Request| request.path().to_owned());
        for target in ["a", "a.example:80", "*"] {
            check_refused(&site, &format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"), "400");
        }
        let mut raw = Raw::connect(&site);
        for line in ["GET /", "GET http://a/", "OPTIONS *"] {
            let head = raw.ask(&format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert!(head.starts_with("HTTP/1.1 200 "), "{line}: {head}");
            raw.body(1);
        }
    });
}

#[test]
fn a_transfer_coding_that_is_not_known_is_refused() {
    with_workers(|| {
        let site = Site::start(|request: Request| request.text().unwrap());
        let check = |coding: &str| {
            let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{coding}\r\n\r\n");
            check_refused(&site, &format!("{head}2\r\nhi\r\n0\r\n\r\n"), "501");
        };
        check("Transfer-Encoding: gzip, chunked");
        check("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked");
        check("Transfer-Encoding: chunked, chunked");
        let mut raw = Raw::connect(&site);
        let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
        assert!(raw.ask(head).starts_with("HTTP/1.1 200 "));
        assert_eq!(raw.body(2), "hi");
    });
}

/// A stated limit: hyper refuses it, and closes the connection.
#[test]
fn a_quotation_mark_in_a_query_is_refused() {
    with_workers(|| {
        let site = Site::start(|_: Request| "hello");
        check_refused(&site, "GET /?a=\"b\" HTTP/1.1\r\nHost: a\r\n\r\n", "400");
    });
}

#[test]
fn text_and_bytes_say_what_they_are() {
    with_workers(|| {
        let site = Site::start(|request: Request| -> Response {
            match request.path() {
                "/str" => "text".into(),
                "/string" => Response::new(String::from("text")),
                "/body" => Body::from("text").into(),
                "/status" => StatusCode::NOT_FOUND.into(),
                "/bytes" => vec![1, 2, 3].into(),
                "/own" => Response::new("{}").with_header("content-type", "application/json"),
                "/streamed" => Body::from_chunks(["text"]).into(),
                _ => "".into(),
            }
        });
        let client = Client::new();
        let kind = |path| {
            let response = client.get(&background(), site.url(path)).unwrap();
            let kind = response.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
            response.bytes().unwrap();
            kind
        };
        for path in ["/str", "/string", "/body", "/status"] {
            assert_eq!(kind(path).unwrap(), "text/plain; charset=utf-8", "{path}");
        }
        assert_eq!(kind("/bytes").unwrap(), "application/octet-stream");
        assert_eq!(kind("/own").unwrap(), "application/json");
        assert_eq!(kind("/streamed"), None);
        assert_eq!(kind("/"), None);
    });
}

/// The server refuses the body while most of it is still to be sent, and closes. The client learns
/// why.
#[test]
fn an_early_refusal_is_heard_however_large_the_body() {
    with_workers(|| {
        let site = Site::start(|_: Request| StatusCode::PAYLOAD_TOO_LARGE);
        for _ in 0..5 {
            for body in [Body::from(vec![0; 20 << 20]), Body::from_reader(io::repeat(0))] {
                let response = Client::new().post(&background(), site.url("/"), body).unwrap();
                assert_eq!(response.status(), 413);
                assert_eq!(response.text().unwrap(), "Payload Too Large");
            }
        }
    });
}

/// As many clients do: they read only when they have sent all.
#[test]
fn a_refusal_is_heard_by_a_client_that_reads_late() {
    with_workers(|| {
        let site = Site::start_with(|server| server.max_body_bytes(1000), |_: Request| "hello");
        for n in [1001, 300_000, 20_000_000] {
            let mut stream = TcpStream::connect(site.addr()).unwrap();
            write!(stream, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {n}\r\n\r\n").unwrap();
            for _ in 0..n / 1000 {
                stream.write_all(&[b'x'; 1000]).unwrap();
                goby::yield_now();
            }
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 413 "), "{n}: {answer:?}");
        }
    });
}

/// A client that never stops sending does not keep the server: its connection is closed.
#[test]
fn a_refused_client_that_goes_on_and_on_is_closed() {
    with_workers(|| {
        let site = Site::start_with(|server| server.max_body_bytes(1000), |_: Request| "hello");
        let mut stream = TcpStream::connect(site.addr()).unwrap();
        write!(stream, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000000\r\n\r\n").unwrap();
        let start = goby::now();
        while stream.write_all(&[b'x'; 64 << 10]).is_ok() {
            assert!(start.elapsed() < crate::support::PATIENCE, "the server reads on and on");
        }
    });
}

#[test]
fn a_header_over_several_lines_is_one() {
    with_workers(|| {
        let script = Script::start(|_, mut stream| {
            read_head(&stream);
            let head = "HTTP/1.1 200 OK\r\nX-Long: one\r\n two\r\n\tthree\r\nContent-Length: 2\r\n\r\nok";
            stream.write_all(head.as_bytes()).unwrap();
        });
        let response = Client::new().get(&background(), script.url("/")).unwrap();
        assert_eq!(response.headers()["x-long"], "one two three");
        assert_eq!(response.text().unwrap(), "ok");
    });
}

/// The limit of a head is its length in bytes. Heads come on one connection, behind bodies of all
/// kinds, in one piece and in many.
#[test]
fn a_head_may_have_any_number_of_fields() {
    with_workers(|| {
        let site = Site::start(|request: Request| {
            let n = request.headers().get_all("x-many").iter().count();
            let last = request.headers().get_all("x-many").iter().next_back().cloned();
            let mut response = Response::new(request.into_body());
            for i in 0..n {
                response.headers_mut().append("x-many", i.into());
            }
            response.with_header("x-last", last.unwrap())
        });
        let client = Client::new();
        for n in [1, 79, 80, 81, 99, 100, 101, 150, 1000] {
            for body in [Body::empty(), Body::from("hello"), Body::from_chunks(["hel", "lo"])] {
                let expected = if body.is_empty() { "" } else { "hello" };
                let mut request = http::Request::post(site.url("/")).body(body).unwrap();
                for i in 0..n {
                    request.headers_mut().append("x-many", i.into());
                }
                let response = client.request(&background(), request).unwrap();
                let values = response.headers().get_all("x-many").iter();
                let values: Vec<&str> = values.map(|value| value.to_str().unwrap()).collect();
                assert_eq!(values, (0..n).map(|i| i.to_string()).collect::<Vec<_>>(), "{n}");
                assert_eq!(response.headers()["x-last"], (n - 1).to_string());
                assert_eq!(response.text().unwrap(), expected, "{n}");
            }
        }
        assert_eq!(site.connections(), 1);
        // Requests in one go, with and without bodies.
        let mut raw = Raw::connect(&site);
        let many = |n: usize| (0..n).map(|i| format!("X-Many: {i}\r\n")).collect::<String>();
        let mut requests = String::new();
        for n in [1, 300, 2, 200] {
            requests += &format!("GET / HTTP/1.1\r\n{}Host: a\r\n\r\n", many(n));
            requests += &format!("POST / HTTP/1.1\r\n{}Host: a\r\nContent-Length: 5\r\n\r\nhello", many(n));
        }
        for (i, n) in [1, 1, 300, 300, 2, 2, 200, 200].into_iter().enumerate() {
            let head = raw.ask(if i == 0 { &requests } else { "" });
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
            assert_eq!(head.matches("x-many: ").count(), n);
            assert_eq!(raw.body(i % 2 * 5), if i % 2 == 0 { "" } else { "hello" });
        }
        // Byte by byte.
        let request = format!("POST / HTTP/1.1\r\n{}Host: a\r\nContent-Length: 5\r\n\r\nhello", many(120));
        for byte in request.chars() {
            raw.0.write_all(byte.to_string().as_bytes()).unwrap();
            goby::yield_now();
        }
        assert_eq!(read_head(&raw.0).matches("x-many: ").count(), 120);
        assert_eq!(raw.body(5), "hello");
    });
}

/// A `Location` that is not quite valid is followed as browsers, Go and curl do.
#[test]
fn an_odd_location_is_followed_sensibly() {
    with_workers(|| {
        let script = Script::start(|_, mut stream| {
            let head = read_head(&stream);
            let answer: &[u8] = match head.split(' ').nth(1).unwrap() {
                "/empty" => b"HTTP/1.1 302 Found\r\nLocation: \r\n",
                "/latin" => b"HTTP/1.1 302 Found\r\nLocation: /caf\xe9\r\n",
                "/caf%E9" => b"HTTP/1.1 200 OK\r\n",
                _ => b"HTTP/1.1 404 Not Found\r\n",
            };
            stream.write_all(answer).unwrap();
            stream.write_all(b"Content-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
        });
        let client = Client::new();
        assert_eq!(client.get(&background(), script.url("/empty")).unwrap().status(), 302);
        assert_eq!(client.get(&background(), script.url("/latin")).unwrap().status(), 200);
    });
}
