//! Runs with few descriptors: a lack of them in this process is not a failure of a URL.

use std::process::Command;

use crate::server::{Reply, Server};
use crate::support::{Ended, Running, Scratch, check, goby, lines};

/// Runs `goby fetch` with a limit of open files.
fn fetch_with_limit(limit: u32, args: &[&str]) -> Ended {
    let program = goby();
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("ulimit -n {limit}; exec \"$@\"")).arg("sh").arg(program.get_program()).arg("fetch");
    command.args(args).stdin(std::process::Stdio::null()).env_remove("RUST_BACKTRACE");
    Running::start(&mut command).end()
}

#[test]
fn more_hosts_than_descriptors_are_fetched() {
    // On loopback every 127.x address is a different host.
    let server = Server::start_on("0.0.0.0", |_| Reply::ok("fine"));
    let port = server.port();
    let urls: Vec<String> = (0..400).map(|n| format!("http://127.0.{}.{}:{port}/", n / 200 + 1, n % 200 + 1)).collect();
    let scratch = Scratch::new();
    let input = scratch.write("urls", urls.join("\n"));
    let ended = fetch_with_limit(80, &["--input", &input]);
    check((ended.code, ended.stderr.contains("failed    0\n")), (Some(0), true));
    check(lines(&ended.stdout).len(), 400);
}

#[test]
fn saving_takes_no_more_than_there_are() {
    let server = Server::start(|_| Reply::ok(vec![b'x'; 300 * 1024]));
    let urls: Vec<String> = (0..100).map(|n| server.url(&format!("/{n}.bin"))).collect();
    let scratch = Scratch::new();
    let input = scratch.write("urls", urls.join("\n"));
    let ended = fetch_with_limit(48, &["--input", &input, "--output-dir", &scratch.path("pages")]);
    check(ended.code, Some(0));
    check(scratch.files("pages").len(), 100);
    assert!(ended.stderr.contains("warning: 64 workers do not fit the limit of 48 open files"), "{}", ended.stderr);
}

#[test]
fn too_few_for_anything_is_a_usage_error() {
    let ended = fetch_with_limit(8, &["http://127.0.0.1:9/"]);
    check(ended.code, Some(2));
    assert!(ended.stderr.contains("the limit of open files is 8, and "), "{}", ended.stderr);
    assert!(ended.stderr.contains("raise it with ulimit -n"), "{}", ended.stderr);
}
