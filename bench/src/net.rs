//! The network sub-commands, with the same command lines as the peers: servers that run until they
//! are killed, and clients that print their figures.

use std::io::{Read, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use goby::context::Context;
use goby::net::{TcpListener, TcpStream};
use goby::sync::WaitGroup;
use goby::tls::{Identity, TlsAcceptor};
use goby::{go, time};
use goby_http::header::CONTENT_TYPE;
use goby_http::{Client, Rejection, Request, Response, Router, Server, StatusCode};
use serde::{Deserialize, Serialize};

use crate::measure::{Clock, percentile_us, report};

pub const USAGE: &str = "echo-server ADDR | copy-server ADDR | http-server ADDR | http-slow ADDR | https-server ADDR CHAIN KEY | json-server ADDR | echo-load ADDR CONNS SECONDS SIZE | fetch ADDR N CONCURRENCY";

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// A network sub-command, with its numbers still as they were typed.
pub enum Command<'a> {
    EchoServer { addr: &'a str },
    CopyServer { addr: &'a str },
    HttpServer { addr: &'a str },
    HttpSlow { addr: &'a str },
    HttpsServer { addr: &'a str, chain: &'a str, key: &'a str },
    JsonServer { addr: &'a str },
    EchoLoad { addr: &'a str, conns: &'a str, seconds: &'a str, size: &'a str },
    Fetch { addr: &'a str, n: &'a str, concurrency: &'a str },
}

impl<'a> Command<'a> {
    pub fn parse(args: &[&'a str]) -> Option<Command<'a>> {
        Some(match *args {
            ["echo-server", addr] => Command::EchoServer { addr },
            ["copy-server", addr] => Command::CopyServer { addr },
            ["http-server", addr] => Command::HttpServer { addr },
            ["http-slow", addr] => Command::HttpSlow { addr },
            ["https-server", addr, chain, key] => Command::HttpsServer { addr, chain, key },
            ["json-server", addr] => Command::JsonServer { addr },
            ["echo-load", addr, conns, seconds, size] => Command::EchoLoad { addr, conns, seconds, size },
            ["fetch", addr, n, concurrency] => Command::Fetch { addr, n, concurrency },
            _ => return None,
        })
    }

    pub fn run(self) -> ExitCode {
        let done = match self {
            Command::EchoServer { addr } => echo_server(addr),
            Command::CopyServer { addr } => copy_server(addr),
            Command::HttpServer { addr } => http_server(addr, hello),
            Command::HttpSlow { addr } => http_server(addr, slow),
            Command::HttpsServer { addr, chain, key } => https_server(addr, chain, key),
            Command::JsonServer { addr } => json_server(addr),
            Command::EchoLoad { addr, conns, seconds, size } => {
                (|| echo_load(addr, conns.parse()?, Duration::from_secs_f64(seconds.parse()?), size.parse()?))()
            }
            Command::Fetch { addr, n, concurrency } => (|| fetch(addr, n.parse()?, concurrency.parse()?))(),
        };
        match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => {
                eprintln!("goby-bench: {e}");
                ExitCode::FAILURE
            }
        }
    }
}

fn echo_server(addr: &str) -> Result<()> {
    let listener = TcpListener::bind(addr)?;
    for stream in listener.incoming() {
        let mut stream = stream?;
        go(move || {
            let mut buf = vec![0; 16 << 10];
            while let Ok(n @ 1..) = stream.read(&mut buf) {
                if stream.write_all(&buf[..n]).is_err() {
                    return;
                }
            }
        });
    }
    Ok(())
}

fn copy_server(addr: &str) -> Result<()> {
    let listener = TcpListener::bind(addr)?;
    for stream in listener.incoming() {
        let stream = stream?;
        go(move || goby::io::copy(&stream, &stream));
    }
    Ok(())
}

fn http_server(addr: &str, handler: fn(Request) -> Response) -> Result<()> {
    goby_http::serve(TcpListener::bind(addr)?, handler)?;
    Ok(())
}

/// TLS, and HTTP/2 if the client wants it.
fn https_server(addr: &str, chain: &str, key: &str) -> Result<()> {
    let acceptor = TlsAcceptor::new(Identity::from_files(chain, key)?)?;
    Server::bind(addr)?.tls(acceptor).serve(hello)?;
    Ok(())
}

#[derive(Deserialize)]
struct Draft {
    name: String,
    tags: Vec<String>,
}

#[derive(Serialize)]
struct User {
    id: u64,
    name: String,
    tags: usize,
}

fn json_server(addr: &str) -> Result<()> {
    let create = |request: Request| {
        let id = request.param_as("id")?;
        let Draft { name, tags } = request.json()?;
        Ok::<_, Rejection>(Response::json(&User { id, name, tags: tags.len() }))
    };
    Server::bind(addr)?.serve(Router::new().post("/users/{id}", create))?;
    Ok(())
}

fn answer(status: StatusCode, body: &'static str) -> Response {
    Response::new(body).with_status(status).with_header(CONTENT_TYPE, "text/plain")
}

fn hello(_: Request) -> Response {
    answer(StatusCode::OK, "Hello, World!")
}

fn slow(request: Request) -> Response {
    let query = request.uri().query().unwrap_or_default();
    match query.split('&').find_map(|pair| pair.strip_prefix("ms=")).and_then(|ms| ms.parse().ok()) {
        Some(ms) => {
            time::sleep(Duration::from_millis(ms));
            answer(StatusCode::OK, "Hello, World!")
        }
        None => answer(StatusCode::BAD_REQUEST, "ms"),
    }
}

/// Send `size` bytes and read them back until `end`; the latencies, in ns.
fn echo_one(mut stream: TcpStream, first: usize, size: usize, end: Instant) -> Result<Vec<u64>> {
    let out: Vec<u8> = (0..size).map(|j| (first + j) as u8).collect();
    let mut back = vec![0; size];
    let mut seen = Vec::new();
    let mut t = Instant::now();
    while t < end {
        stream.write_all(&out)?;
        stream.read_exact(&mut back)?;
        let now = Instant::now();
        seen.push((now - t).as_nanos() as u64);
        t = now;
    }
    assert!(seen.is_empty() || back == out, "echo: other bytes came back");
    Ok(seen)
}

fn echo_load(addr: &str, conns: usize, length: Duration, size: usize) -> Result<()> {
    let open = (0..conns).map(|_| TcpStream::connect(addr)).collect::<std::io::Result<Vec<_>>>()?;
    let clock = Clock::start();
    let end = Instant::now() + length;
    let loads: Vec<_> =
        open.into_iter().enumerate().map(|(i, stream)| go(move || echo_one(stream, i, size, end))).collect();
    let mut all = Vec::new();
    for load in loads {
        all.extend(load.join().expect("echo_one checks what comes back")?);
    }
    let took = clock.elapsed().as_secs_f64();
    all.sort_unstable();
    report("echo_load", all.len() as f64 / took, "req/s");
    report("echo_load_p50", percentile_us(&all, 0.50), "us");
    report("echo_load_p99", percentile_us(&all, 0.99), "us");
    Ok(())
}

fn get(client: &Client, url: &str) -> Result<()> {
    let (ctx, _cancel) = Context::background().with_timeout(Duration::from_secs(5));
    let response = client.get(&ctx, url)?;
    let status = response.status();
    response.bytes()?;
    if status != StatusCode::OK {
        return Err(status.to_string().into());
    }
    Ok(())
}

fn fetch(addr: &str, n: usize, concurrency: usize) -> Result<()> {
    let slash = if addr.contains('/') { "" } else { "/" };
    let url: Arc<str> = format!("http://{addr}{slash}").into();
    let client = Client::builder().max_idle(concurrency).max_idle_per_host(concurrency).build()?;
    let next = Arc::new(AtomicUsize::new(0));
    let clock = Clock::start();
    let wg = WaitGroup::new();
    for _ in 0..concurrency {
        let (client, url, next) = (client.clone(), url.clone(), next.clone());
        wg.go(move || {
            // Relaxed: only the count matters.
            while next.fetch_add(1, Ordering::Relaxed) < n {
                if let Err(e) = get(&client, &url) {
                    eprintln!("fetch: {e}");
                    std::process::exit(1);
                }
            }
        });
    }
    wg.wait();
    report("fetch", n as f64 / clock.elapsed().as_secs_f64(), "req/s");
    Ok(())
}
