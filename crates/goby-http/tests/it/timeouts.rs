//! The client's time-outs, each for one phase: the error names the phase, and the connection is
//! closed. That of the headers is in `cancellation.rs`.

use std::io::{Read, Write};
use std::time::Duration;

use goby::chan;
use goby::net::TcpStream;
use goby_http::{Body, Client, Error};

use crate::support::{PATIENCE, Script, background, pause, read_head, read_to_close, with_workers, words};

/// Short for a test that waits for it, and long enough for a busy machine to move a byte.
const LIMIT: Duration = Duration::from_millis(250);

#[track_caller]
fn assert_timeout(error: &Error, text: &str) {
    assert_eq!(words(error), text);
    assert!(error.is_timeout() && error.context_error().is_none(), "{error:?}");
}

fn stalling_after(limit: Duration) -> Client {
    Client::builder().stall_timeout(limit).build().unwrap()
}

/// Sends the head of a response with a body of 9 bytes, and the first 4.
fn begin(mut stream: &TcpStream) {
    assert_ne!(read_head(stream), "");
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").unwrap();
}

#[test]
fn a_response_that_stalls_ends_in_time() {
    with_workers(|| {
        let (closed, closes) = chan::unbounded();
        let script = Script::start(move |_, stream| {
            begin(&stream);
            read_to_close(&stream);
            closed.send(()).unwrap();
        });
        let mut body = stalling_after(LIMIT).get(&background(), script.url("/")).unwrap().into_body();
        assert_eq!(body.chunk().unwrap().unwrap(), "half");
        let error = body.chunk().unwrap_err();
        assert_timeout(&error, "timeout reading the response body");
        assert!(error.is_body());
        closes.recv().unwrap();
    });
}

#[test]
fn a_reader_may_take_its_time() {
    with_workers(|| {
        let (read, reads) = chan::bounded::<()>(0);
        let script = Script::start(move |_, stream| {
            begin(&stream);
            reads.recv().unwrap();
            (&stream).write_all(b" body").unwrap();
            read_to_close(&stream);
        });
        let mut body = stalling_after(LIMIT).get(&background(), script.url("/")).unwrap().into_body();
        assert_eq!(body.chunk().unwrap().unwrap(), "half");
        // The deadline of the next wait has not begun.
        pause(LIMIT * 2);
        read.send(()).unwrap();
        assert_eq!(body.text().unwrap(), " body");
    });
}

#[test]
fn the_wait_for_the_headers_is_no_stall() {
    with_workers(|| {
        let script = Script::start(move |_, stream| {
            assert_ne!(read_head(&stream), "");
            pause(LIMIT * 2);
            (&stream).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate").unwrap();
            read_to_close(&stream);
        });
        let client = stalling_after(LIMIT);
        for _ in 0..2 {
            assert_eq!(client.post(&background(), script.url("/"), "body").unwrap().text().unwrap(), "late");
            client.close_idle();
        }
    });
}

#[test]
fn a_server_that_takes_nothing_of_a_request_loses_it_in_time() {
    with_workers(|| {
        let (closed, closes) = chan::bounded::<()>(0);
        let script = Script::start(move |_, stream| {
            // Nothing reads the body: the client is stuck in the middle of it.
            assert!(read_head(&stream).starts_with("POST"));
            closes.recv().unwrap();
            read_to_close(&stream);
        });
        let client = stalling_after(LIMIT);
        for body in [Body::from(vec![0; 64 << 20]), Body::from_reader(std::io::repeat(0))] {
            let error = client.post(&background(), script.url("/"), body).unwrap_err();
            assert_timeout(&error, "timeout sending the request");
            assert!(error.is_request());
            closed.send(()).unwrap();
        }
    });
}

#[test]
fn a_source_may_take_its_time() {
    with_workers(|| {
        let script = Script::start(|_, mut stream| {
            let mut rest = [0; 10];
            assert!(read_head(&stream).contains("content-length: 10"));
            stream.read_exact(&mut rest).unwrap();
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
            read_to_close(&stream);
        });
        let pieces = ["first", "other"].into_iter().inspect(|_| pause(LIMIT * 2));
        let request = http::Request::post(script.url("/")).header("content-length", 10);
        let request = request.body(Body::from_chunks(pieces)).unwrap();
        let client = Client::builder().stall_timeout(LIMIT).header_timeout(LIMIT).build().unwrap();
        assert_eq!(client.request(&background(), request).unwrap().status(), 204);
        drop(client);
    });
}

#[test]
fn the_time_for_the_headers_begins_when_the_request_is_sent() {
    with_workers(|| {
        let script = Script::start(|_, mut stream| {
            assert!(read_head(&stream).starts_with("POST"));
            // The system takes much, but not all of the body, before it is read.
            pause(LIMIT * 2);
            std::io::copy(&mut (&stream).take(64 << 20), &mut std::io::sink()).unwrap();
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
            read_to_close(&stream);
        });
        let client = Client::builder().header_timeout(LIMIT).stall_timeout(PATIENCE).build().unwrap();
        let response = client.post(&background(), script.url("/"), vec![0; 64 << 20]).unwrap();
        assert_eq!(response.status(), 204);
        drop(client);
    });
}

#[cfg(feature = "tls")]
#[test]
fn a_server_that_does_not_answer_in_tls_loses_its_client_in_time() {
    with_workers(|| {
        let (closed, closes) = chan::unbounded();
        let script = Script::start(move |_, stream| {
            read_to_close(&stream);
            closed.send(()).unwrap();
        });
        let client = Client::builder().tls_handshake_timeout(LIMIT).build().unwrap();
        let error = client.get(&background(), format!("https://{}/", script.addr())).unwrap_err();
        assert_timeout(&error, "timeout negotiating TLS with 127.0.0.1");
        assert!(error.is_tls());
        closes.recv().unwrap();
    });
}
