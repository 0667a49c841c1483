//! Pipes and memory: long inputs take little memory, and a reader that goes away ends the run.

use std::io::{BufRead, Write};
use std::process::Stdio;
use std::thread;

use crate::server::{Reply, Server};
use crate::support::{Running, check, fetch, goby, lines};

#[test]
fn a_reader_that_has_seen_enough_ends_the_run_quietly() {
    let server = Server::start(|request| {
        if request.path != "/first" {
            request.await_gate();
        }
        Reply::ok("fine")
    });
    let mut urls = vec![server.url("/first")];
    urls.extend((0..500).map(|number| server.url(&format!("/{number}"))));
    let mut child = Running::start(goby().args(["fetch", "--workers", "4", "-t", "1h"]).args(&urls));
    let mut first = String::new();
    child.stdout().read_line(&mut first).unwrap();
    check(lines(&first).len(), 1);
    child.close_stdout();
    server.open_gate();
    let ended = child.end();
    check((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert!(server.all_hits() < 400, "{} requests for one line", server.all_hits());
}

#[test]
fn a_long_input_takes_bounded_memory() {
    // Lines of 16 kB that are not URLs: 32 MB in, and more out.
    const LINES: usize = 2_000;
    let mut child = Running::start(goby().args(["fetch", "--workers", "8", "--input", "-"]).stdin(Stdio::piped()));
    let mut stdin = child.child.stdin.take().unwrap();
    let writer = thread::spawn(move || {
        let mut line = vec![b'x'; 16_384];
        line.push(b'\n');
        (0..LINES).try_for_each(|_| stdin.write_all(&line))
    });
    let status = format!("/proc/{}/status", child.child.id());
    let mut line = Vec::new();
    let mut peak = None;
    for number in 0..LINES {
        line.clear();
        child.stdout().read_until(b'\n', &mut line).unwrap();
        assert!(line.ends_with(b"\"attempts\":0}\n"), "line {number}");
        if number == LINES - 500 {
            // Far more output is to come than a pipe takes, so the child still runs.
            let status = std::fs::read_to_string(&status).unwrap();
            let field = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
            peak = Some(field.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap());
        }
    }
    writer.join().unwrap().unwrap();
    check(child.end().code, Some(1));
    let peak = peak.unwrap();
    // Measured: 26 MB, of which 21 MB are the program itself, not optimized.
    assert!(peak < 40 * 1024, "{peak} kB resident at the most");
}

#[test]
fn progress_that_is_always_wanted_is_lines_in_a_log() {
    let server = Server::start(|_| Reply::ok("fine"));
    let urls = ["/1", "/2", "/3"].map(|path| server.url(path));
    let ended = fetch(["--progress", "always"].into_iter().chain(urls.iter().map(String::as_str)));
    let line = ended.stderr.lines().find(|line| line.contains(" 3/3 ")).unwrap_or_else(|| panic!("{}", ended.stderr));
    assert!(line.starts_with("goby: [") || line.starts_with("goby: ="), "{line}");
    assert!(line.contains("/s  0 failed  ") && line.ends_with(" left"), "{line}");
    for when in ["auto", "never"] {
        let ended = fetch(["--progress", when, &urls[0]]);
        assert!(ended.stderr.starts_with("goby: 1 URL in "), "{}", ended.stderr);
    }
}
