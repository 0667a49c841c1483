//! Real input: 10,000 URLs on nginx, with some missing, some slow, some redirecting; every byte is
//! checked.
//!
//! The test starts nginx itself, with its own configuration, prefix and port. If nginx is not
//! installed, the test says so and passes; in CI (`CI` is set) it fails.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use goby_test_support::has_if;
use sha2::{Digest, Sha256};

use crate::support::{Scratch, by_url, check, fetch};

const URLS: usize = 10_000;
/// Slow files are sent at so many bytes per second.
const SLOW_RATE: usize = 16 * 1024;
/// Enough tries, since other processes seldom take a port between choosing and binding.
const PORT_TRIES: usize = 10;

/// The result that a URL must have.
enum Expected {
    /// This file, by its number.
    File(usize),
    /// This file, but slowly.
    SlowFile(usize),
    /// This status.
    Status(u64),
    /// Endless redirects.
    Loop,
}

#[test]
fn ten_thousand_files_of_nginx_arrive_with_every_byte() {
    let found = find_nginx();
    has_if(found.is_some(), "nginx", "ci/setup.sh installs it");
    let Some(program) = found else { return };
    let scratch = Scratch::new();
    let mut hashes = Vec::new();
    fs::create_dir_all(scratch.path("root/files")).unwrap();
    for number in 0..URLS {
        let content = content(number);
        hashes.push(hash(&content));
        scratch.write(&format!("root/files/{number}.bin"), content);
    }
    let nginx = Nginx::start(program, &scratch);

    let mut list = String::from("# one URL a line\n");
    let mut expected = HashMap::new();
    for number in 0..URLS {
        let (path, what) = url(number);
        let url = format!("http://127.0.0.1:{}{path}", nginx.port);
        writeln!(list, "{url}").unwrap();
        expected.insert(url, what);
    }
    check(expected.len(), URLS);
    let urls = scratch.write("urls", list);
    let (out, dir) = (scratch.path("out"), scratch.path("dir"));
    let ended = fetch(["--input", &urls, "-o", &out, "--output-dir", &dir]);
    check((ended.code, ended.stdout.as_str()), (Some(1), ""));

    let results = by_url(&scratch.read("out"));
    check(results.len(), URLS);
    let (mut files, mut failed) = (Vec::new(), 0);
    for (url, expected) in &expected {
        let line = &results[url];
        match *expected {
            Expected::File(number) | Expected::SlowFile(number) => {
                check((url, line.outcome(), line.number("status")), (url, ("", 1), 200));
                let file = line.text("file");
                let saved = fs::read(scratch.path(&format!("dir/{file}"))).unwrap();
                check((url, line.number("bytes")), (url, saved.len() as u64));
                check((url, hash(&saved)), (url, hashes[number]));
                files.push(file.to_string());
                let ms = line.0["ms"].as_f64().unwrap();
                assert!(ms > 300.0 || matches!(expected, Expected::File(_)), "slow {url} took {ms} ms");
                continue;
            }
            Expected::Status(status) => {
                let attempts = if status == 503 { 3 } else { 1 };
                check((url, line.outcome(), line.number("status")), (url, ("http_status", attempts), status));
            }
            Expected::Loop => check((url, line.outcome()), (url, ("too_many_redirects", 1))),
        }
        failed += 1;
    }
    check(files.len() + failed, URLS);
    files.sort();
    check(scratch.files("dir") == files, true);
    assert!(ended.stderr.starts_with("goby: 10,000 URLs in "), "{}", ended.stderr);
    let failures = "  failed    301: http_status 291 (404: 281, 503: 10), too_many_redirects 10\n";
    assert!(ended.stderr.contains(failures), "{}", ended.stderr);
    eprintln!("{}", ended.stderr);
}

/// URL `number`, as a path, and the result that it must have.
fn url(number: usize) -> (String, Expected) {
    let file = Expected::File(number);
    match number % 1000 {
        0 => (format!("/loop/{number}.bin"), Expected::Loop),
        1 => (format!("/busy/{number}.bin"), Expected::Status(503)),
        2..30 => (format!("/missing/{number}.bin"), Expected::Status(404)),
        30..50 => (format!("/moved/{number}.bin"), file),
        50..60 => (format!("/moved-twice/{number}.bin"), file),
        60..65 => (format!("/slow/{number}.bin"), Expected::SlowFile(number)),
        65..85 => (format!("/files/{number}.bin?query={number}"), file),
        // The last URL is one more that is missing: without it all numbers would be round.
        999 if number == URLS - 1 => (format!("/missing/{number}.bin"), Expected::Status(404)),
        _ => (format!("/files/{number}.bin"), file),
    }
}

/// The content of file `number`: from nothing to 300 kB, most of them small, all different.
fn content(number: usize) -> Vec<u8> {
    let size = match number % 1000 {
        // One second's worth is sent at once, the rest one second later.
        60..65 => SLOW_RATE + number,
        100 => number * 7919 % 300_000,
        rest if rest % 10 == 7 => number * 7919 % 20_000,
        _ => number * 7919 % 2_000,
    };
    let mut state = number as u64 + 1;
    let mut content = Vec::with_capacity(size + 8);
    while content.len() < size {
        // Marsaglia's xorshift.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        content.extend_from_slice(&state.to_le_bytes());
    }
    content.truncate(size);
    content
}

fn hash(content: &[u8]) -> [u8; 32] {
    Sha256::digest(content).into()
}

fn find_nginx() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian installs it in a directory that only root searches.
    let directories = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    directories.map(|directory| directory.join("nginx")).find(|program| program.is_file())
}

/// An nginx that runs until this is dropped, as one process.
#[derive(Debug)]
struct Nginx {
    child: Child,
    port: u16,
}

impl Nginx {
    fn start(program: PathBuf, scratch: &Scratch) -> Nginx {
        for _ in 0..PORT_TRIES {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            if let Some(child) = try_start(&program, scratch, port) {
                return Nginx { child, port };
            }
        }
        panic!("nginx does not start; its errors are above");
    }
}

/// Starts nginx on this port; `None` if it ends instead, because the port is taken.
fn try_start(program: &PathBuf, scratch: &Scratch, port: u16) -> Option<Child> {
    scratch.write("nginx.conf", configuration(port));
    let prefix = scratch.path("");
    let mut child = Command::new(program)
        .args(["-p", &prefix, "-c", "nginx.conf", "-e", "stderr"])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("nginx can be run");
    let mut errors = BufReader::new(child.stderr.take().expect("it is piped"));
    let mut line = String::new();
    // It reports its event method when its sockets listen.
    while !line.contains("event method") {
        line.clear();
        if errors.read_line(&mut line).unwrap() == 0 {
            let _ = child.wait();
            return None;
        }
        if line.contains("[emerg]") {
            eprint!("{line}");
        }
    }
    // Its further messages must not fill the pipe.
    std::thread::spawn(move || std::io::copy(&mut errors, &mut std::io::sink()));
    Some(child)
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn configuration(port: u16) -> String {
    format!(
        r#"
daemon off;
master_process off;
pid nginx.pid;
error_log stderr notice;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path temp-body;
    proxy_temp_path temp-proxy;
    fastcgi_temp_path temp-fastcgi;
    uwsgi_temp_path temp-uwsgi;
    scgi_temp_path temp-scgi;
    default_type application/octet-stream;
    sendfile on;
    server {{
        listen 127.0.0.1:{port} backlog=511;
        server_name localhost;
        root root;
        location /slow/ {{ alias root/files/; limit_rate {SLOW_RATE}; }}
        location /moved-twice/ {{ rewrite ^/moved-twice/(.*)$ /moved/$1 redirect; }}
        location /moved/ {{ rewrite ^/moved/(.*)$ /files/$1 permanent; }}
        location /loop/ {{ return 302 $request_uri; }}
        location /busy/ {{ return 503; }}
    }}
}}
"#
    )
}
