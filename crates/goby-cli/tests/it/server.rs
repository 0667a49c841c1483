//! A small HTTP/1.1 server over std's sockets and threads, scripted by each test.
//!
//! It shares no code with what is tested. It counts requests by path, and lets a test wait for a
//! count. So tests know how far a run has come.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::support::HANG;

/// What the server does with a request.
pub(crate) enum Reply {
    /// A response with this status, these header lines and this body.
    Response(u16, Vec<String>, Vec<u8>),
    /// A response with a body that breaks off: the declared length, and the part that is sent.
    Truncated(usize, Vec<u8>),
    /// Nothing, until the client closes the connection.
    Hang,
    /// A response with these header lines, and the first part of its body; the rest never comes.
    Stall(Vec<String>, usize, Vec<u8>),
    /// A response with so many bytes, each after this time.
    Slow(std::time::Duration, usize),
    /// A response with a body that goes on, one byte at a time, until the client closes the
    /// connection.
    Drip,
    /// The connection is closed without a response.
    Close,
    /// These bytes, and the connection is closed.
    Raw(&'static [u8]),
}

impl Reply {
    /// Status 200 with this body.
    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Reply {
        Reply::Response(200, Vec::new(), body.into())
    }

    /// This status with an empty body.
    pub(crate) fn status(status: u16) -> Reply {
        Reply::Response(status, Vec::new(), Vec::new())
    }

    /// This status with one header line and an empty body.
    pub(crate) fn header(status: u16, line: &str) -> Reply {
        Reply::Response(status, vec![line.to_string()], Vec::new())
    }
}

/// A server that runs until this is dropped. Connections that are open then go on to their ends.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// When requests arrived, by path.
    hits: HashMap<String, Vec<Instant>>,
    /// The last request's header lines, and its body.
    last_head: Vec<String>,
    last_body: Vec<u8>,
    /// Requests that hang now.
    hanging: usize,
    /// Requests that hung until the client closed the connection.
    abandoned: usize,
    /// Requests between their arrival and their response, and their largest number at a time.
    in_flight: usize,
    most_in_flight: usize,
    /// The gate that handlers can wait for.
    open: bool,
}

/// What a handler may ask of its server.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    /// The path, with its query.
    pub(crate) path: &'a str,
    /// The header lines, the request line first.
    head: &'a [String],
    /// How often this path has been asked for, this time included.
    pub(crate) hit: usize,
    shared: &'a Shared,
}

impl Request<'_> {
    /// The value of a header; "" if it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        header(self.head, name)
    }

    /// Waits until the test opens the gate.
    pub(crate) fn await_gate(&self) {
        drop(self.shared.wait(|state| state.open));
    }

    /// Waits until this many requests are in flight.
    pub(crate) fn await_in_flight(&self, number: usize) {
        drop(self.shared.wait(|state| state.most_in_flight >= number));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    fn change<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        let result = f(&mut self.lock());
        self.changed.notify_all();
        result
    }

    fn wait(&self, mut condition: impl FnMut(&State) -> bool) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        let timeout = self.changed.wait_while_for(&mut state, |state| !condition(state), HANG);
        assert!(!timeout.timed_out(), "the server waited in vain: {state:?}");
        state
    }
}

impl Server {
    /// Starts a server on a port of its own.
    pub(crate) fn start(handler: impl Fn(&Request<'_>) -> Reply + Send + Sync + 'static) -> Server {
        Server::start_on("127.0.0.1", handler)
    }

    /// The same, on an address that the test gives.
    pub(crate) fn start_on(address: &str, handler: impl Fn(&Request<'_>) -> Reply + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind((address, 0)).expect("there are ports");
        let address = listener.local_addr().expect("a listener has an address");
        let shared = Arc::new(Shared::default());
        let handler = Arc::new(handler);
        thread::spawn({
            let shared = shared.clone();
            move || {
                for stream in listener.incoming().flatten() {
                    let (shared, handler) = (shared.clone(), handler.clone());
                    thread::spawn(move || serve(&stream, &shared, &*handler));
                }
            }
        });
        Server { address, shared }
    }

    /// The URL of a path on it.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Host and port, as in `file` names.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    /// How often a path has been asked for.
    pub(crate) fn hits(&self, path: &str) -> usize {
        self.times(path).len()
    }

    /// When a path was asked for.
    pub(crate) fn times(&self, path: &str) -> Vec<Instant> {
        self.shared.lock().hits.get(path).cloned().unwrap_or_default()
    }

    /// How many requests there were.
    pub(crate) fn all_hits(&self) -> usize {
        self.shared.lock().hits.values().map(Vec::len).sum()
    }

    /// When requests came, in order.
    pub(crate) fn all_times(&self) -> Vec<Instant> {
        let mut times: Vec<Instant> = self.shared.lock().hits.values().flatten().copied().collect();
        times.sort();
        times
    }

    /// The most requests that were in flight at a time.
    pub(crate) fn most_in_flight(&self) -> usize {
        self.shared.lock().most_in_flight
    }

    /// The header lines of the last request.
    pub(crate) fn last_head(&self) -> Vec<String> {
        self.shared.lock().last_head.clone()
    }

    /// The value of a header of the last request; "" if it is not there.
    pub(crate) fn last_header(&self, name: &str) -> String {
        header(&self.last_head(), name).to_string()
    }

    /// The body of the last request.
    pub(crate) fn last_body(&self) -> String {
        String::from_utf8(self.shared.lock().last_body.clone()).expect("the tests send text")
    }

    /// Waits until there were this many requests.
    pub(crate) fn await_hits(&self, number: usize) {
        drop(self.shared.wait(|state| state.hits.values().map(Vec::len).sum::<usize>() >= number));
    }

    /// Waits until this many requests hang.
    pub(crate) fn await_hanging(&self, number: usize) {
        drop(self.shared.wait(|state| state.hanging >= number));
    }

    /// Waits until the client has closed the connections of this many requests that hung.
    pub(crate) fn await_abandoned(&self, number: usize) {
        drop(self.shared.wait(|state| state.abandoned >= number));
    }

    /// Opens the gate, so that handlers that wait for it go on.
    pub(crate) fn open_gate(&self) {
        self.shared.change(|state| state.open = true);
    }
}

/// Serves one connection to its end.
fn serve(stream: &TcpStream, shared: &Shared, handler: &(dyn Fn(&Request<'_>) -> Reply + Send + Sync)) {
    let mut reader = BufReader::new(stream);
    while let Some(head) = read_head(&mut reader) {
        let path = head[0].split(' ').nth(1).unwrap_or_default().to_string();
        let Some(body) = read_body(&mut reader, &head) else { return };
        let hit = shared.change(|state| {
            state.in_flight += 1;
            state.most_in_flight = state.most_in_flight.max(state.in_flight);
            (state.last_head, state.last_body) = (head.clone(), body);
            let times = state.hits.entry(path.clone()).or_default();
            times.push(Instant::now());
            times.len()
        });
        let reply = handler(&Request { path: &path, head: &head, hit, shared });
        // Before the response, so that the client cannot send the next request while this one still
        // counts.
        shared.change(|state| state.in_flight -= 1);
        let reply = if head[0].starts_with("HEAD ") { without_body(reply) } else { reply };
        if !send(stream, &mut reader, shared, reply) {
            return;
        }
    }
}

/// The value of a header; "" if it is not there.
fn header<'a>(head: &'a [String], name: &str) -> &'a str {
    let mut pairs = head[1..].iter().filter_map(|line| line.split_once(':'));
    pairs.find(|(own, _)| own.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value.trim())
}

/// Reads the body of a request, whose length is in its head.
fn read_body(reader: &mut impl Read, head: &[String]) -> Option<Vec<u8>> {
    let mut body = vec![0; header(head, "content-length").parse().unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some(body)
}

fn read_head(reader: &mut impl BufRead) -> Option<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_string();
        match (line.is_empty(), lines.is_empty()) {
            (true, true) => {}
            (true, false) => return Some(lines),
            (false, _) => lines.push(line),
        }
    }
}

/// What a HEAD is answered with.
fn without_body(reply: Reply) -> Reply {
    match reply {
        Reply::Response(status, headers, _) => Reply::Response(status, headers, Vec::new()),
        other => other,
    }
}

/// Sends a reply, and returns whether the connection can be used again.
fn send(mut stream: &TcpStream, reader: &mut impl Read, shared: &Shared, reply: Reply) -> bool {
    match reply {
        Reply::Response(status, headers, body) => {
            let mut response = format!("HTTP/1.1 {status} Whatever\r\ncontent-length: {}\r\n", body.len());
            for line in headers {
                response.push_str(&line);
                response.push_str("\r\n");
            }
            response.push_str("\r\n");
            let mut response = response.into_bytes();
            response.extend_from_slice(&body);
            stream.write_all(&response).is_ok()
        }
        Reply::Truncated(length, body) => {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
            false
        }
        Reply::Hang => {
            shared.change(|state| state.hanging += 1);
            let _ = reader.read(&mut [0]);
            shared.change(|state| state.abandoned += 1);
            false
        }
        Reply::Stall(headers, length, part) => {
            let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n{headers}\r\n");
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&part));
            shared.change(|state| state.hanging += 1);
            let _ = reader.read(&mut [0]);
            shared.change(|state| state.abandoned += 1);
            false
        }
        Reply::Slow(pause, length) => {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
            let _ = stream.write_all(head.as_bytes());
            (0..length).all(|_| {
                // A slow server sends like that: this synchronizes nothing.
                thread::sleep(pause);
                stream.write_all(b"x").is_ok()
            })
        }
        Reply::Drip => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
            // This sleep does not synchronize anything: a slow server sends like that.
            while stream.write_all(b"1\r\nx\r\n").is_ok() {
                thread::sleep(std::time::Duration::from_millis(5));
            }
            false
        }
        Reply::Close => false,
        Reply::Raw(bytes) => {
            let _ = stream.write_all(bytes);
            false
        }
    }
}
