//! How long requests may take, and files that go on where they broke off.

use std::net::TcpListener;
use std::time::Duration;

use rustix::process::Signal;

use crate::server::{Reply, Server};
use crate::support::{Running, Scratch, check, fetch, goby, lines};

#[test]
fn a_slow_download_goes_on_as_long_as_bytes_come() {
    // Eight bytes, half a second between them: three times as long as nothing may come.
    let server = Server::start(|_| Reply::Slow(Duration::from_millis(500), 8));
    let ended = fetch(["--speed-time", "2s", "--retry", "0", &server.url("/")]);
    check(lines(&ended.stdout)[0].number("bytes"), 8);
    let ended = fetch(["--speed-time", "1s", "--speed-limit", "100", "--retry", "0", &server.url("/")]);
    let line = &lines(&ended.stdout)[0];
    check((line.outcome(), line.text("message")), (("timeout", 1), "slower than 100 B a second for 1.00 s"));
    let ended = fetch(["-m", "1s", "--retry", "0", &server.url("/")]);
    check(lines(&ended.stdout)[0].outcome(), ("timeout", 1));
}

#[test]
fn what_stalls_is_given_up() {
    let server = Server::start(|request| match request.path {
        "/head" => Reply::Hang,
        _ => Reply::Stall(Vec::new(), 100, b"half".to_vec()),
    });
    let ended = fetch(["-y", "1s", "--retry", "0", &server.url("/head"), &server.url("/body")]);
    for line in lines(&ended.stdout) {
        check(line.outcome(), ("timeout", 1));
        assert!(line.text("message").starts_with("nothing came for 1.00 s: "), "{line:?}");
    }
    server.await_abandoned(2);
}

#[test]
fn connecting_has_a_time_of_its_own() {
    // A listener whose queue is full: further connections are not answered.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let _full: Vec<_> =
        (0..8).map(|_| std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200))).collect();
    let ended = fetch(["--connect-timeout", "1s", "--retry", "0", &format!("http://{address}/")]);
    let line = &lines(&ended.stdout)[0];
    check(line.outcome(), ("timeout", 1));
    assert!(line.text("message").starts_with("no connection within 1.00 s: "), "{line:?}");
}

/// A file whose first attempts break off in the middle, with ranges if `version` is the same.
fn breaking(version: impl Fn(usize) -> &'static str + Send + Sync + 'static, breaks: usize) -> Server {
    Server::start(move |request| {
        let content: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        let etag = version(request.hit);
        let start = request.header("range").strip_prefix("bytes=").and_then(|range| range.strip_suffix('-'));
        let start = start.and_then(|start| start.parse::<usize>().ok()).filter(|_| request.header("if-range") == etag);
        let headers = vec![format!("etag: {etag}")];
        match start {
            Some(start) => {
                let range = format!("content-range: bytes {start}-{}/{}", content.len() - 1, content.len());
                Reply::Response(206, [headers, vec![range]].concat(), content[start..].to_vec())
            }
            None if request.hit <= breaks => {
                Reply::Stall(headers, content.len(), content[..content.len() / 2].to_vec())
            }
            None => Reply::Response(200, headers, content),
        }
    })
}

fn content() -> Vec<u8> {
    (0..100_000_u32).flat_map(u32::to_le_bytes).collect()
}

#[test]
fn a_retry_goes_on_where_the_file_broke_off() {
    let server = breaking(|_| "\"one\"", 1);
    let scratch = Scratch::new();
    let dir = scratch.path("dir");
    let ended = fetch(["-C", "-", "--sha256", "--output-dir", &dir, "-y", "1s", &server.url("/a.bin")]);
    let line = &lines(&ended.stdout)[0];
    check((line.outcome(), line.number("status"), line.number("bytes")), (("", 2), 206, 400_000));
    check(server.last_header("range").starts_with("bytes="), true);
    let saved = std::fs::read(scratch.path(&format!("dir/{}", line.text("file")))).unwrap();
    check(saved == content(), true);
    check(line.text("sha256"), &*crate::support::sha256(&saved));
    check(scratch.files("dir").len(), 1);
}

#[test]
fn another_version_comes_as_a_whole() {
    let server = breaking(|hit| if hit == 1 { "\"one\"" } else { "\"two\"" }, 1);
    let scratch = Scratch::new();
    let dir = scratch.path("dir");
    let ended = fetch(["-C", "-", "--output-dir", &dir, "-y", "1s", &server.url("/a.bin")]);
    let line = &lines(&ended.stdout)[0];
    check((line.outcome(), line.number("status")), (("", 2), 200));
    check(server.last_header("if-range"), "\"one\"".to_string());
    check(std::fs::read(scratch.path(&format!("dir/{}", line.text("file")))).unwrap() == content(), true);
    check(scratch.files("dir").len(), 1);
}

#[test]
fn a_run_goes_on_where_an_interrupted_one_broke_off() {
    let server = breaking(|_| "\"one\"", 1);
    let scratch = Scratch::new();
    let dir = scratch.path("dir");
    let child = Running::start(goby().args(["fetch", "-C", "-", "--output-dir", &dir, &server.url("/a.bin")]));
    server.await_hanging(1);
    // Half of the file is on its way, or there. What has come is kept.
    child.signal(Signal::INT);
    check(child.end().code, Some(130));
    let ended = fetch(["-C", "-", "--output-dir", &dir, &server.url("/a.bin")]);
    let line = &lines(&ended.stdout)[0];
    check((line.outcome(), line.number("bytes")), (("", 1), 400_000));
    check(std::fs::read(scratch.path(&format!("dir/{}", line.text("file")))).unwrap() == content(), true);
    check(scratch.files("dir").len(), 1);
}

#[test]
fn without_the_option_a_retry_begins_anew() {
    let server = breaking(|_| "\"one\"", 1);
    let scratch = Scratch::new();
    let ended = fetch(["--output-dir", &scratch.path("dir"), "-y", "1s", &server.url("/a.bin")]);
    check(lines(&ended.stdout)[0].number("status"), 200);
    check(server.last_header("range"), String::new());
}
