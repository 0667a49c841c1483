//! The client and the bytes of a server.

use std::collections::VecDeque;
use std::io::Read;
use std::net::Shutdown;
use std::path::PathBuf;
use std::sync::Arc;

use goby::net::{UnixListener, UnixStream};
use goby::sync::Mutex;
use goby::{Context, Runtime, go, num_goroutines};
use goby_http::{Body, Client, Error, Response};

use super::reference::{self, End, Question};
use super::{LIMIT, MOST, limit, read_all, send, sent, settle, socket_path};

/// The answer to the second request.
const SECOND: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond";

/// A server that answers what it is told to.
pub(crate) struct Answers {
    runtime: Runtime,
    path: PathBuf,
    /// What the next requests are answered with, whatever they are.
    next: Arc<Mutex<VecDeque<Answer>>>,
}

#[derive(Clone)]
struct Answer {
    bytes: Vec<u8>,
    /// The connection is kept afterwards.
    is_kept: bool,
}

fn second() -> VecDeque<Answer> {
    VecDeque::from([Answer { bytes: SECOND.to_vec(), is_kept: true }])
}

impl Answers {
    pub(crate) fn start(workers: usize) -> Answers {
        let runtime = Runtime::builder().workers(workers).report_leaks(false).build().expect("a runtime");
        let path = socket_path(&format!("client-{workers}"));
        let next = Arc::new(Mutex::new(VecDeque::new()));
        let (at, answers) = (path.clone(), next.clone());
        runtime.run(move || {
            let listener = UnixListener::bind(at).expect("a socket");
            drop(go(move || {
                while let Ok((stream, _)) = listener.accept() {
                    let answers = answers.clone();
                    go(move || serve(&stream, &answers));
                }
            }));
        });
        Answers { runtime, path, next }
    }

    /// Makes a request that is answered with `input`, whose first byte chooses the request, and
    /// another one with the same client. A small letter keeps the connection, where the answer has
    /// an end without its end.
    pub(crate) fn exercise(&self, input: &[u8]) {
        let Some((kind, input)) = input.split_first() else { return };
        if input.len() > MOST {
            return;
        }
        let answer =
            Answer { bytes: input.to_vec(), is_kept: kind.is_ascii_lowercase() && has_end(*kind, &sent(input)) };
        let kind = &kind.to_ascii_uppercase();
        *self.next.lock() = VecDeque::from([answer]);
        let (first, second) = self.runtime.run(|| {
            let before = num_goroutines();
            let client = Client::builder().unix_socket(&self.path).no_proxy().redirects(0).timeout(LIMIT);
            let client = client.expect_continue_timeout(std::time::Duration::from_millis(1)).build().expect("a client");
            let first = ask(&client, *kind);
            // What is left of the first answer must not be the second one's.
            *self.next.lock() = second();
            let second = client.get(&Context::background(), "http://test/second").and_then(Response::bytes);
            client.close_idle();
            drop(client);
            settle(before);
            (first, second)
        });
        let is_cut = input.last() == Some(&0xFF);
        check(*kind, &sent(input), is_cut, first);
        match second {
            // What comes behind the first answer, and as late as the second request, is the answer
            // to that.
            _ if input.contains(&0xFF) && has_rest(*kind, &sent(input)) => {}
            Ok(body) => assert_eq!(&body[..], b"second"),
            Err(error) => panic!("the second request failed: {error:?}"),
        }
    }
}

/// Answers requests on one connection.
fn serve(mut stream: &UnixStream, answers: &Mutex<VecDeque<Answer>>) {
    stream.set_deadline(limit());
    loop {
        let mut head = Vec::new();
        let mut buffer = [0; 4096];
        while !head.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
            match stream.read(&mut buffer) {
                Ok(n) if n > 0 => head.extend_from_slice(&buffer[..n]),
                _ => return,
            }
        }
        let Some(answer) = answers.lock().pop_front() else { return };
        let is_read = send(stream, &answer.bytes);
        if !is_read {
            return;
        }
        if !answer.is_kept {
            // An error means that the client has closed. It may still have sent another request.
            if stream.shutdown(Shutdown::Write).is_ok() {
                read_all(stream);
            }
            return;
        }
    }
}

/// Whether an answer ends before the connection does.
fn has_end(kind: u8, answer: &[u8]) -> bool {
    match reference::response(answer, Question { is_head: kind == b'h' }) {
        Ok((message, _)) if message.end == End::Complete => {
            !message.values("content-length").is_empty() || !message.values("transfer-encoding").is_empty()
        }
        _ => false,
    }
}

/// Whether there may be something behind an answer.
fn has_rest(kind: u8, answer: &[u8]) -> bool {
    reference::response(answer, Question { is_head: kind == b'H' }).map_or(true, |(_, rest)| !rest.is_empty())
}

/// Makes a request and reads its answer.
fn ask(client: &Client, kind: u8) -> Result<(u16, Result<Vec<u8>, Error>), Error> {
    let (method, body) = match kind {
        b'H' => ("HEAD", Body::empty()),
        b'P' | b'E' => ("POST", Body::from("hello")),
        b'S' => ("POST", Body::from_chunks(["hel", "lo"])),
        _ => ("GET", Body::empty()),
    };
    let mut request = http::Request::builder().method(method).uri("http://test/first");
    if kind == b'E' {
        request = request.header("expect", "100-continue");
    }
    let response = client.request(&Context::background(), request.body(body).expect("a request"))?;
    Ok((response.status().as_u16(), response.bytes().map(|body| body.to_vec())))
}

/// Compares what the client made of the answer with what the bytes say. `is_cut`: the server has
/// closed the connection without reading all.
fn check(kind: u8, answer: &[u8], is_cut: bool, result: Result<(u16, Result<Vec<u8>, Error>), Error>) {
    if let Err(error) = &result {
        assert!(!error.is_timeout(), "{error:?}");
    }
    let read = reference::response(answer, Question { is_head: kind == b'H' });
    let story = || format!("answered {:?}\nread as {read:#?}\nseen {result:#?}", String::from_utf8_lossy(answer));
    let Ok((message, _)) = &read else {
        // One that breaks off in its head must not be taken for one.
        assert!(!matches!(read, Err(End::Truncated)) || result.is_err(), "half a head was taken\n{}", story());
        return;
    };
    let Ok((status, body)) = &result else { return };
    if message.end == End::Taken {
        return;
    }
    assert_eq!(Some(*status), reference::status(message), "{}", story());
    if !message.values("content-encoding").is_empty() {
        return;
    }
    match (body, message.end) {
        (Ok(body), End::Complete) => assert_eq!(body, &message.body, "{}", story()),
        (Ok(_), _) => panic!("a body was taken that is not complete\n{}", story()),
        (Err(_), End::Complete) if !is_cut => panic!("a body was not taken\n{}", story()),
        (Err(_), _) => {}
    }
}
