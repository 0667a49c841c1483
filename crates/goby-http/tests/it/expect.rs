//! `Expect: 100-continue`: the body waits for the server.

use std::io::{Read, Write};
use std::time::Duration;

use goby::net::TcpStream;
use goby_http::{Body, Client, Response, StatusCode};

use crate::support::{PATIENCE, Script, Site, background, read_head, read_to_close, with_workers};

fn waiting_for(limit: Duration) -> Client {
    Client::builder().expect_continue_timeout(limit).build().unwrap()
}

fn request(url: String, body: Body) -> http::Request<Body> {
    http::Request::put(url).header("expect", "100-continue").body(body).unwrap()
}

/// The same body of 4 bytes at hand, and from a reader.
fn bodies() -> [Body; 2] {
    [Body::from("body"), Body::from_sized_reader(&b"body"[..], 4)]
}

/// Reads the head, and checks that nothing follows it.
fn read_head_alone(stream: &TcpStream) {
    let head = read_head(stream);
    assert!(head.contains("\r\nexpect: 100-continue\r\n") && head.contains("\r\ncontent-length: 4\r\n"), "{head}");
    stream.set_read_deadline(Some(goby::now() + Duration::from_millis(20)));
    let kind = (&mut &*stream).read(&mut [0]).unwrap_err().kind();
    assert_eq!(kind, std::io::ErrorKind::TimedOut);
    stream.set_read_deadline(None);
}

fn read_body(mut stream: &TcpStream) {
    let mut body = [0; 4];
    stream.read_exact(&mut body).unwrap();
    assert_eq!(&body, b"body");
}

#[test]
fn the_body_is_sent_when_the_server_asks_for_it() {
    with_workers(|| {
        let script = Script::start(|_, stream| {
            for _ in 0..2 {
                read_head_alone(&stream);
                (&stream).write_all(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n").unwrap();
                read_body(&stream);
                (&stream).write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n").unwrap();
            }
            read_to_close(&stream);
        });
        let client = waiting_for(PATIENCE);
        for body in bodies() {
            let response = client.request(&background(), request(script.url("/"), body)).unwrap();
            assert_eq!(response.status(), StatusCode::CREATED);
        }
        drop(client);
    });
}

#[test]
fn the_body_is_sent_when_the_server_has_said_nothing_for_a_while() {
    with_workers(|| {
        let script = Script::start(|_, stream| {
            for _ in 0..2 {
                read_head(&stream);
                read_body(&stream);
                (&stream).write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n").unwrap();
            }
            read_to_close(&stream);
        });
        let client = waiting_for(Duration::from_millis(10));
        for body in bodies() {
            let response = client.request(&background(), request(script.url("/"), body)).unwrap();
            assert_eq!(response.status(), StatusCode::CREATED);
        }
        drop(client);
    });
}

#[test]
fn the_body_is_not_sent_when_the_server_refuses_it() {
    with_workers(|| {
        let script = Script::start(|_, stream| {
            read_head_alone(&stream);
            (&stream).write_all(b"HTTP/1.1 417 No\r\nContent-Length: 9\r\n\r\nno bodies").unwrap();
            // The connection cannot be used again, as its next bytes would be the body.
            let mut rest = Vec::new();
            (&stream).read_to_end(&mut rest).unwrap();
            assert_eq!(rest, b"");
        });
        let client = waiting_for(PATIENCE);
        for body in bodies() {
            let response = client.request(&background(), request(script.url("/"), body)).unwrap();
            assert_eq!(response.status(), StatusCode::EXPECTATION_FAILED);
            assert_eq!(response.text().unwrap(), "no bodies");
        }
        drop(client);
    });
}

#[test]
fn a_server_of_ours_asks_for_the_body_when_it_reads_it() {
    with_workers(|| {
        let site = Site::start(|request: goby_http::Request| match request.path() {
            "/refuse" => Response::new(""),
            _ => Response::new(request.into_body()),
        });
        let client = waiting_for(PATIENCE);
        for (path, answer) in [("/read", "body"), ("/refuse", ""), ("/read", "body")] {
            for body in bodies() {
                let response = client.request(&background(), request(site.url(path), body)).unwrap();
                assert_eq!(response.text().unwrap(), answer);
            }
        }
        drop(client);
    });
}

#[test]
fn a_body_that_is_empty_waits_for_nothing() {
    with_workers(|| {
        let site = Site::start(|_: goby_http::Request| "answer");
        let response = waiting_for(PATIENCE).request(&background(), request(site.url("/"), Body::empty())).unwrap();
        assert_eq!(response.text().unwrap(), "answer");
    });
}
