//! Bodies of any size, in both directions, read as they come.

use std::io::{self, BufRead, Read, Write};
use std::time::Duration;

use goby::chan;
use goby_http::{Body, Client, Error, Request, Response};

use crate::support::{Script, Site, answer, background, read_head, with_workers, words};

/// A reader of bytes that tell their position.
struct Pattern {
    at: u64,
    end: u64,
}

impl Pattern {
    fn new(end: u64) -> Pattern {
        Pattern { at: 0, end }
    }

    fn byte(at: u64) -> u8 {
        (at % 251) as u8
    }

    /// Reads all of `reader` and checks that it is a pattern of this length.
    #[track_caller]
    fn check(end: u64, mut reader: impl Read) {
        let (mut buffer, mut at) = (vec![0; 10_000], 0);
        loop {
            let n = reader.read(&mut buffer).unwrap();
            if n == 0 {
                break;
            }
            assert!(buffer[..n].iter().zip(at..).all(|(byte, at)| *byte == Pattern::byte(at)), "near {at}");
            at += n as u64;
        }
        assert_eq!(at, end);
    }
}

impl Read for Pattern {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = buf.len().min((self.end - self.at) as usize);
        for (byte, at) in buf[..n].iter_mut().zip(self.at..) {
            *byte = Pattern::byte(at);
        }
        self.at += n as u64;
        Ok(n)
    }
}

const LARGE: u64 = 5_000_001;

#[test]
fn a_large_response_is_streamed() {
    with_workers(|| {
        let site = Site::start(|request: Request| match request.path() {
            "/sized" => Body::from_sized_reader(Pattern::new(LARGE), LARGE),
            _ => Body::from_reader(Pattern::new(LARGE)),
        });
        let client = Client::new();
        let sized = client.get(&background(), site.url("/sized")).unwrap();
        assert_eq!(sized.headers()["content-length"], LARGE.to_string());
        assert_eq!(sized.content_length(), Some(LARGE));
        Pattern::check(LARGE, sized);
        let chunked = client.get(&background(), site.url("/")).unwrap();
        assert_eq!(chunked.headers()["transfer-encoding"], "chunked");
        assert_eq!(chunked.content_length(), None);
        Pattern::check(LARGE, chunked);
        assert_eq!(site.connections(), 1);
    });
}

#[test]
fn a_large_request_is_streamed() {
    with_workers(|| {
        let site = Site::start(|mut request: Request| {
            Pattern::check(LARGE, request.reader());
            "all there"
        });
        let client = Client::new();
        for body in [Body::from_sized_reader(Pattern::new(LARGE), LARGE), Body::from_reader(Pattern::new(LARGE))] {
            assert_eq!(client.post(&background(), site.url("/"), body).unwrap().text().unwrap(), "all there");
        }
        let mut whole = Vec::new();
        Pattern::new(LARGE).read_to_end(&mut whole).unwrap();
        assert_eq!(client.post(&background(), site.url("/"), whole).unwrap().text().unwrap(), "all there");
        assert_eq!(site.connections(), 1);
    });
}

/// The handler's response is the request's body. Both are under way at the same time, on one
/// connection.
#[test]
fn a_large_body_is_echoed_while_it_is_sent() {
    with_workers(|| {
        let site = Site::start(|request: Request| request.into_body());
        let client = Client::new();
        for _ in 0..2 {
            let body = Body::from_reader(Pattern::new(LARGE));
            Pattern::check(LARGE, client.post(&background(), site.url("/"), body).unwrap());
        }
        assert_eq!(site.connections(), 1);
    });
}

#[test]
fn a_response_is_passed_on_as_it_comes() {
    with_workers(|| {
        let origin = Site::start(|_: Request| Body::from_reader(Pattern::new(LARGE)));
        let url = origin.url("/");
        let client = Client::new();
        let proxy = Site::start({
            let client = client.clone();
            move |request: Request| client.get(request.context(), &url).unwrap().into_body()
        });
        Pattern::check(LARGE, client.get(&background(), proxy.url("/")).unwrap());
        client.close_idle();
    });
}

#[test]
fn each_piece_of_a_streamed_response_is_sent_before_the_next_is_made() {
    with_workers(|| {
        let (piece, pieces) = chan::bounded::<String>(0);
        let pieces = goby::sync::Mutex::new(Some(pieces));
        let site = Site::start(move |_: Request| Body::from_chunks(pieces.lock().take().unwrap()));
        let mut response = Client::new().get(&background(), site.url("/")).unwrap();
        for n in 0..10 {
            piece.send(format!("piece {n}\n")).unwrap();
            let mut line = String::new();
            response.reader().read_line(&mut line).unwrap();
            assert_eq!(line, format!("piece {n}\n"));
        }
        drop(piece);
        assert_eq!(response.text().unwrap(), "");
    });
}

#[test]
fn each_piece_of_a_streamed_request_is_sent_before_the_next_is_made() {
    with_workers(|| {
        let (seen, sees) = chan::bounded::<String>(0);
        let site = Site::start(move |mut request: Request| {
            let mut line = String::new();
            while request.reader().read_line(&mut line).unwrap() > 0 {
                seen.send(std::mem::take(&mut line)).unwrap();
            }
        });
        let mut n = 0;
        let body = Body::from_chunks(std::iter::from_fn(move || {
            if n > 0 {
                assert_eq!(sees.recv().unwrap(), format!("piece {n}\n"));
            }
            n += 1;
            if n < 10 { Some(format!("piece {n}\n")) } else { None }
        }));
        assert_eq!(Client::new().post(&background(), site.url("/"), body).unwrap().status(), 200);
    });
}

#[test]
fn a_body_shorter_than_announced_is_an_error() {
    with_workers(|| {
        let script = Script::start(|n, mut stream| {
            read_head(&stream);
            let head = if n == 0 { "Content-Length: 10" } else { "Transfer-Encoding: chunked" };
            let body = if n == 0 { "hello" } else { "5\r\nhello\r\n" };
            write!(stream, "HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}").unwrap();
        });
        for _ in 0..2 {
            let mut response = Client::new().get(&background(), script.url("/")).unwrap();
            let mut hello = [0; 5];
            response.read_exact(&mut hello).unwrap();
            assert_eq!(&hello, b"hello");
            let error = response.read(&mut hello).unwrap_err();
            let error = error.get_ref().unwrap().downcast_ref::<Error>().unwrap();
            assert!(error.is_body() && !error.is_timeout(), "{error:?}");
            assert_eq!(words(error), "reading the response body failed");
            assert_eq!(response.read(&mut hello).unwrap(), 0, "the error is told once");
        }
    });
}

#[test]
fn a_body_that_ends_with_the_connection_is_complete() {
    with_workers(|| {
        let script = Script::start(|_, mut stream| {
            read_head(&stream);
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhello").unwrap();
        });
        assert_eq!(Client::new().get(&background(), script.url("/")).unwrap().text().unwrap(), "hello");
    });
}

#[test]
fn a_body_longer_than_the_limit_is_an_error() {
    with_workers(|| {
        let site = Site::start(|_: Request| "hello");
        let fetch = |limit| {
            let client = Client::builder().max_body(limit).build().unwrap();
            client.get(&background(), site.url("/")).unwrap().text()
        };
        assert_eq!(fetch(5).unwrap(), "hello");
        let error = fetch(4).unwrap_err();
        assert!(error.is_body());
        assert_eq!(words(&error), "body longer than 4 bytes");
    });
}

/// The handler does not look at the body, which the client has sent with the request: the
/// connection carries on.
#[test]
fn a_small_body_that_is_not_read_costs_nothing() {
    with_workers(|| {
        let site = Site::start(|_: Request| "hello");
        let client = Client::new();
        for _ in 0..10 {
            assert_eq!(client.post(&background(), site.url("/"), "body").unwrap().text().unwrap(), "hello");
        }
    });
}

/// The server answers although most of the body has not come; the client does not send the rest.
#[test]
fn an_answer_in_the_middle_of_the_request_is_received() {
    with_workers(|| {
        let site = Site::start(|mut request: Request| {
            request.read_exact(&mut [0; 1000]).unwrap();
            "enough"
        });
        let (body, limit) = (Body::from_reader(Pattern::new(u64::MAX)), Duration::from_secs(50));
        let (ctx, _cancel) = background().with_timeout(limit);
        match Client::new().post(&ctx, site.url("/"), body).and_then(Response::text) {
            Ok(text) => assert_eq!(text, "enough"),
            // The server closes after its answer, and the close may arrive first.
            Err(error) => assert!((error.is_request() || error.is_body()) && !error.is_timeout(), "{error:?}"),
        }
    });
}

#[test]
fn a_reader_that_fails_breaks_the_request_off() {
    with_workers(|| {
        struct Failing;
        impl Read for Failing {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("out of bytes"))
            }
        }
        let site = Site::start(|request: Request| match request.bytes() {
            Ok(_) => panic!("the body must not look complete"),
            Err(error) => assert!(error.is_body()),
        });
        let bodies = [
            Body::from_reader(Failing),
            Body::from_reader((&b"some"[..]).chain(Failing)),
            Body::from_sized_reader(&b"some"[..], 5),
        ];
        for body in bodies {
            let error = Client::new().post(&background(), site.url("/"), body).unwrap_err();
            assert!(error.is_request(), "{error:?}");
        }
    });
}

#[test]
fn the_body_waits_for_the_word_to_continue() {
    with_workers(|| {
        let site = Site::start(|request: Request| match request.path() {
            "/read" => request.text().unwrap(),
            _ => String::from("not read"),
        });
        let exchange = |path: &str| {
            let mut stream = goby::net::TcpStream::connect(site.addr()).unwrap();
            let head = "Host: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n";
            write!(stream, "POST {path} HTTP/1.1\r\n{head}").unwrap();
            let first = read_head(&stream);
            if first.starts_with("HTTP/1.1 100") {
                stream.write_all(b"body").unwrap();
                read_head(&stream);
            }
            let mut body = String::new();
            stream.read_to_string(&mut body).unwrap();
            (first.lines().next().unwrap().to_owned(), body)
        };
        assert_eq!(exchange("/read"), ("HTTP/1.1 100 Continue".into(), "body".into()));
        assert_eq!(exchange("/"), ("HTTP/1.1 200 OK".into(), "not read".into()));
    });
}

#[test]
fn a_body_is_read_from_another_goroutine() {
    with_workers(|| {
        let site = Site::start(|request: Request| {
            let reader = goby::go(move || Pattern::check(LARGE, request.into_body()));
            reader.join().unwrap();
            "read elsewhere"
        });
        let client = Client::new();
        let body = Body::from_reader(Pattern::new(LARGE));
        assert_eq!(client.post(&background(), site.url("/"), body).unwrap().text().unwrap(), "read elsewhere");
        let response = client.get(&background(), site.url("/"));
        drop(response);
    });
}

#[test]
fn a_response_is_read_from_another_goroutine() {
    with_workers(|| {
        let site = Site::start(|_: Request| Body::from_reader(Pattern::new(LARGE)));
        let client = Client::new();
        for _ in 0..3 {
            let response = client.get(&background(), site.url("/")).unwrap();
            goby::go(move || Pattern::check(LARGE, response)).join().unwrap();
        }
        assert_eq!(site.connections(), 1);
    });
}

#[test]
fn bytes_that_are_no_http_are_an_error() {
    with_workers(|| {
        let script = Script::start(|n, mut stream| {
            read_head(&stream);
            match n {
                0 => stream.write_all(b"SSH-2.0-OpenSSH\r\n").unwrap(),
                _ => answer(&stream, "never"),
            }
        });
        let error = Client::new().get(&background(), script.url("/")).unwrap_err();
        assert!(error.is_request() && error.is_protocol() && !error.is_connect(), "{error:?}");
    });
}

/// A server of another protocol, which greets its clients.
#[test]
fn a_server_that_speaks_first_speaks_no_http() {
    with_workers(|| {
        let script = Script::start(|_, mut stream| {
            stream.write_all(b"220 this is a mail server\r\n").unwrap();
            crate::support::read_to_close(&stream);
        });
        for _ in 0..20 {
            let error = Client::new().get(&background(), script.url("/")).unwrap_err();
            assert!(error.is_request() && error.is_protocol(), "{error:?}");
        }
    });
}

/// An error of the body's own reader says nothing about the server.
#[test]
fn a_reader_that_finds_its_data_invalid_is_no_fault_of_the_protocol() {
    with_workers(|| {
        struct Invalid;
        impl Read for Invalid {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::InvalidData.into())
            }
        }
        let site = Site::start(|request: Request| drop(request.bytes()));
        let error = Client::new().post(&background(), site.url("/"), Body::from_reader(Invalid)).unwrap_err();
        assert!(error.is_request() && !error.is_protocol(), "{error:?}");
    });
}
