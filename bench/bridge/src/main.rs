//! reqwest's GETs from 64 at once, through goby-tokio and inside tokio.
//!
//! - `serve`: a server of threads, which prints its address.
//! - `bridge ADDR N`: 64 goroutines, each in `goby_tokio::block_on`.
//! - `reactor ADDR N`: 64 goroutines, whose futures run on the reactor's thread: what goby-tokio
//!   does not do.
//! - `tokio ADDR N`: 64 tasks of a tokio runtime with its default number of threads.
//!
//! The last three print "reqwest_64 value ns", the time for each of N requests.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Instant;

const AT_ONCE: usize = 64;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["serve"] => serve(),
        [how, addr, n] => {
            let (url, n): (String, usize) = (format!("http://{addr}/"), n.parse()?);
            let measured: fn(&str, usize) -> f64 = match how {
                "bridge" => |url, n| goby::run(|| goroutines(url, n, bridge)),
                "reactor" => |url, n| goby::run(|| goroutines(url, n, reactor)),
                "tokio" => tasks,
                _ => return Err("no such way".into()),
            };
            println!("reqwest_64 {} ns", measured(&url, n));
            Ok(())
        }
        _ => Err("usage: serve | (bridge | reactor | tokio) ADDR N".into()),
    }
}

/// Answers each request, whose head ends with an empty line, on connections that are kept.
fn serve() -> Result<(), Failure> {
    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 12\r\n\r\nhello, world";
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    loop {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        thread::spawn(move || {
            let (mut head, mut len) = ([0; 4096], 0);
            while let Ok(n @ 1..) = stream.read(&mut head[len..]) {
                len += n;
                if head[..len].ends_with(b"\r\n\r\n") {
                    len = 0;
                    if stream.write_all(ANSWER).is_err() {
                        return;
                    }
                }
            }
        });
    }
}

async fn get(client: reqwest::Client, url: String) {
    let body = client.get(url).send().await.unwrap().bytes().await.unwrap();
    assert_eq!(body.len(), 12);
}

fn bridge(client: &reqwest::Client, url: &str) {
    goby_tokio::block_on(get(client.clone(), url.into()));
}

fn reactor(client: &reqwest::Client, url: &str) {
    goby::block_on(goby_tokio::handle().spawn(get(client.clone(), url.into()))).unwrap();
}

/// Makes `n` requests, after a tenth as many that warm up; returns the ns for each.
fn goroutines(url: &str, n: usize, get: fn(&reqwest::Client, &str)) -> f64 {
    let client = reqwest::Client::new();
    let round = |n: usize| {
        goby::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.go(|| (0..n / AT_ONCE).for_each(|_| get(&client, url)));
            }
        });
    };
    round(n / 10);
    let start = Instant::now();
    round(n);
    start.elapsed().as_nanos() as f64 / n as f64
}

/// The same in tokio.
fn tasks(url: &str, n: usize) -> f64 {
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let client = reqwest::Client::new();
    let round = async |n: usize| {
        let tasks: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                let (client, url) = (client.clone(), url.to_owned());
                tokio::spawn(async move {
                    for _ in 0..n / AT_ONCE {
                        get(client.clone(), url.clone()).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    };
    tokio.block_on(async {
        round(n / 10).await;
        let start = Instant::now();
        round(n).await;
        start.elapsed().as_nanos() as f64 / n as f64
    })
}
