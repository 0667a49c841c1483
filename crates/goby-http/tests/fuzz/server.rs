//! The server and the bytes of a client.

use std::io::Write;
use std::net::Shutdown;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use goby::net::{UnixListener, UnixStream};
use goby::sync::Mutex;
use goby::{Runtime, go, num_goroutines};
use goby_http::{Body, Request, Response, Server};

use super::reference::{self, End, Message, Question, Requests};
use super::{MOST, limit, read_all, send, sent, settle, socket_path};

/// Two servers: for HTTP/1.1, and for both versions without TLS.
pub(crate) struct Servers {
    runtime: Runtime,
    paths: [PathBuf; 2],
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// A request that a handler was given.
#[derive(Debug)]
struct Seen {
    method: String,
    target: String,
    /// `None` if the handler did not read it; the inner one if it failed.
    body: Option<Option<Vec<u8>>>,
}

impl Servers {
    pub(crate) fn start(workers: usize) -> Servers {
        let runtime = Runtime::builder().workers(workers).report_leaks(false).build().expect("a runtime");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let paths = [("server", false), ("server-h2c", true)].map(|(name, h2c)| {
            let path = socket_path(&format!("{name}-{workers}"));
            let (at, seen) = (path.clone(), seen.clone());
            runtime.run(move || {
                let server = Server::from_unix(UnixListener::bind(at).expect("a socket")).expect("a server");
                let server = if h2c { with_h2c(server) } else { server };
                drop(go(move || server.serve(move |request: Request| handle(request, &seen))));
            });
            path
        });
        Servers { runtime, paths, seen }
    }

    /// Sends the server `input`, and judges what comes of it.
    pub(crate) fn exercise(&self, input: &[u8]) {
        if input.len() > MOST {
            return;
        }
        let sent = sent(input);
        let path = &self.paths[usize::from(sent.starts_with(b"P"))];
        let answer = self.runtime.run(|| {
            let before = num_goroutines();
            let stream = UnixStream::connect(path).expect("the server listens");
            stream.set_deadline(limit());
            let is_read = send(&stream, input);
            let answer = is_read.then(|| {
                // An error means that the server has closed.
                let _ = stream.shutdown(Shutdown::Write);
                read_all(&stream)
            });
            drop(stream);
            if !is_read {
                await_acceptance(path);
            }
            settle(before);
            answer
        });
        let seen = std::mem::take(&mut *self.seen.lock());
        let Some(answer) = answer else { return };
        if sent.starts_with(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") {
            check_frames(&answer);
        } else {
            check(&sent, &seen, &answer);
        }
    }
}

/// Waits until the server has accepted all connections so far: it takes them in order.
fn await_acceptance(path: &Path) {
    let mut stream = UnixStream::connect(path).expect("the server listens");
    stream.set_deadline(limit());
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("the server is there");
    assert!(!read_all(&stream).is_empty(), "the server does not answer");
}

#[cfg(feature = "http2")]
fn with_h2c(server: Server) -> Server {
    server.h2c(true)
}

#[cfg(not(feature = "http2"))]
fn with_h2c(server: Server) -> Server {
    server
}

/// Answers with the body, in several ways, which the path says.
fn handle(request: Request, seen: &Mutex<Vec<Seen>>) -> Response {
    let (method, target) = (request.method().to_string(), request.uri().to_string());
    let path = request.path().to_owned();
    let body = if path == "/unread" { None } else { Some(request.bytes()) };
    let kept = body.as_ref().map(|body| body.as_ref().ok().map(|body| body.to_vec()));
    seen.lock().push(Seen { method, target, body: kept });
    let body = match body {
        None => Body::empty(),
        Some(Ok(body)) => body.into(),
        Some(Err(error)) => return Response::from(Err::<(), _>(error)),
    };
    match path.as_str() {
        "/chunks" => Response::new(Body::from_chunks(body.bytes())),
        "/204" => Response::new(body).with_status(goby_http::StatusCode::NO_CONTENT),
        "/close" => Response::new(body).with_header("connection", "close"),
        _ => Response::new(body),
    }
}

/// Compares what the handlers saw, and what was answered, with what the bytes say.
fn check(sent: &[u8], seen: &[Seen], answer: &[u8]) {
    let Requests { all: expected, end, refused: bad } = reference::requests(sent);
    let story = || {
        let text = String::from_utf8_lossy(sent);
        format!(
            "sent {text:?}\nread as {expected:#?} {end:?}\nseen {seen:#?}\nanswer {:?}",
            String::from_utf8_lossy(answer)
        )
    };
    assert!(seen.len() <= expected.len(), "a request was seen that is none\n{}", story());
    for (seen, expected) in seen.iter().zip(&expected) {
        let words = expected.words();
        assert_eq!(seen.method.as_bytes(), words[0], "{}", story());
        let is_same = is_same_target(&seen.target, words[1]);
        assert!(is_same, "another target was seen\n{}", story());
        match (&seen.body, expected.end) {
            (None, _) => {}
            (Some(Some(body)), End::Complete | End::Taken) => assert_eq!(body, &expected.body, "{}", story()),
            (Some(None), End::Complete) => panic!("a body was not seen\n{}", story()),
            (Some(Some(_)), _) => panic!("a body was seen that is not complete\n{}", story()),
            (Some(None), _) => {}
        }
    }
    let heads: Vec<bool> = expected.iter().chain(&bad).map(|request| request.line.starts_with(b"HEAD ")).collect();
    let answers = answers(answer, &heads).unwrap_or_else(|wrong| panic!("{wrong}\n{}", story()));
    let refused = answers.last().is_some_and(|last| reference::status(last).is_some_and(|status| status >= 400));
    assert!(answers.iter().all(|answer| reference::status(answer) != Some(500)), "an answer is 500\n{}", story());
    let is_last =
        answers.last().is_some_and(|last| last.names("connection", "close") || last.line.starts_with(b"HTTP/1.0"));
    let fits = answers.len() == seen.len() || (refused && answers.len() == seen.len() + 1);
    assert!(fits, "{} answers to {} requests\n{}", answers.len(), seen.len(), story());
    assert!(seen.len() == expected.len() || refused || is_last, "a request was not seen\n{}", story());
    assert!(end != End::Refused || refused || is_last, "what is to be refused was not\n{}", story());
}

/// Whether a target is what was written. `http` knows an authority without a path, and gives it
/// one.
fn is_same_target(seen: &str, written: &[u8]) -> bool {
    let without_fragment = written.split(|byte| *byte == b'#').next().unwrap_or_default();
    let lower = |bytes: &[u8]| bytes.to_ascii_lowercase();
    let (seen, written) = (lower(seen.as_bytes()), lower(without_fragment));
    seen == written || [&seen[..], b"/"].concat() == written || [&written[..], b"/"].concat() == seen || {
        // `http://a?b` is `http://a/?b`.
        let without = |text: &[u8]| text.iter().copied().filter(|byte| *byte != b'/').collect::<Vec<_>>();
        without(&seen) == without(&written)
    }
}

/// Reads the answers, each of which has to be valid. `heads` says which requests were `HEAD`.
fn answers(mut bytes: &[u8], heads: &[bool]) -> Result<Vec<Message>, String> {
    let mut all: Vec<Message> = Vec::new();
    while !bytes.is_empty() {
        let is_head = heads.get(all.len()) == Some(&true);
        check_head(bytes)?;
        let read = reference::response(bytes, Question { is_head });
        let (message, rest) = read.map_err(|end| format!("answer {} is not valid: {end:?}", all.len()))?;
        if message.end != End::Complete {
            return Err(format!("answer {} is not complete", all.len()));
        }
        all.push(message);
        bytes = rest;
    }
    Ok(all)
}

/// Has a head read by `httparse`, too.
fn check_head(bytes: &[u8]) -> Result<(), String> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    match httparse::Response::new(&mut headers).parse(bytes) {
        Ok(httparse::Status::Complete(_)) => Ok(()),
        other => Err(format!("httparse says of an answer: {other:?}")),
    }
}

/// An answer of HTTP/2 consists of whole frames.
fn check_frames(mut answer: &[u8]) {
    while let [a, b, c, _, _, _, _, _, _, rest @ ..] = answer {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        assert!(length <= 16 << 10 && rest.len() >= length, "a frame of {length} bytes, {} are there", rest.len());
        answer = &rest[length..];
    }
    assert!(answer.is_empty(), "half a frame: {answer:?}");
}
