//! Ctrl-C: the first stops the run in order, the second ends it at once.

use rustix::process::Signal;

use crate::server::{Reply, Server};
use crate::support::{Running, Scratch, by_url, check, goby, lines};

/// Answers paths under /quick/, and lets all others hang.
fn half_hanging() -> Server {
    Server::start(|request| if request.path.starts_with("/quick/") { Reply::ok("fine") } else { Reply::Hang })
}

/// A file of `quick` URLs that are answered, then `hanging` ones.
fn list(server: &Server, quick: usize, hanging: usize) -> String {
    let quick = (0..quick).map(|number| server.url(&format!("/quick/{number}")));
    let hanging = (0..hanging).map(|number| server.url(&format!("/hang/{number}")));
    quick.chain(hanging).map(|url| url + "\n").collect()
}

fn check_stops_in_good_order(signal: Signal) {
    let server = half_hanging();
    let scratch = Scratch::new();
    let urls = scratch.write("urls", list(&server, 50, 5000));
    let out = scratch.path("out");
    let args = ["fetch", "--workers", "8", "--input", &urls, "-o", &out, "-t", "1h"];
    let child = Running::start(goby().args(args));
    server.await_hanging(8);
    child.signal(signal);
    let ended = child.end();
    check(ended.code, Some(130));
    server.await_abandoned(8);

    let results = by_url(&scratch.read("out"));
    let of = |outcome: (&str, u64)| results.values().filter(|line| line.outcome() == outcome).count();
    check((of(("", 1)), of(("canceled", 1)), results.len()), (50, 8, 58));
    check(server.all_hits(), 58);
    let notice = "goby: interrupted: writing what is finished; Ctrl-C again ends at once\n";
    assert!(ended.stderr.contains(notice), "{}", ended.stderr);
    let row = "  stopped   interrupted: 8 abandoned in flight, 4,992 not started\n";
    assert!(ended.stderr.contains(row), "{}", ended.stderr);
}

#[test]
fn the_first_ctrl_c_keeps_what_is_finished_and_abandons_the_rest() {
    check_stops_in_good_order(Signal::INT);
}

#[test]
fn sigterm_does_the_same() {
    check_stops_in_good_order(Signal::TERM);
}

#[test]
fn ctrl_c_does_not_wait_for_a_standard_input_that_goes_on() {
    let server = half_hanging();
    let mut child = Running::start(
        goby().args(["fetch", "--workers", "1", "--input", "-", "-t", "1h"]).stdin(std::process::Stdio::piped()),
    );
    let mut stdin = child.child.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, list(&server, 1, 1).as_bytes()).unwrap();
    server.await_hanging(1);
    child.signal(Signal::INT);
    let ended = child.end();
    drop(stdin);
    check(ended.code, Some(130));
    check(lines(&ended.stdout).len(), 2);
    let row = "  stopped   interrupted: 1 abandoned in flight, the rest of the input not read\n";
    assert!(ended.stderr.contains(row), "{}", ended.stderr);
}

#[test]
fn ctrl_c_ends_waiting_for_a_retry_and_for_a_limit() {
    let server = Server::start(|_| Reply::header(503, "retry-after: 50"));
    let urls: String = (0..20).map(|number| server.url(&format!("/{number}")) + "\n").collect();
    let scratch = Scratch::new();
    let file = scratch.write("urls", urls);
    let child = Running::start(goby().args(["fetch", "--input", &file, "--rate", "0.001"]));
    server.await_hits(1);
    child.signal(Signal::INT);
    let ended = child.end();
    check(ended.code, Some(130));
    // The signal may come before the response does; then that request was in flight.
    let results = lines(&ended.stdout);
    check(results.len(), 1);
    let abandoned = usize::from(results[0].outcome() == ("canceled", 1));
    assert!(abandoned == 1 || results[0].outcome() == ("http_status", 1), "{results:?}");
    let row = format!("  stopped   interrupted: {abandoned} abandoned in flight, 19 not started\n");
    assert!(ended.stderr.contains(&row), "{}", ended.stderr);
}

#[test]
fn the_second_ctrl_c_ends_at_once() {
    let server = Server::start(|_| Reply::ok("fine"));
    // Each result is larger than 16 kB, and a pipe that nobody reads takes four. So the writer is
    // stuck forever.
    let urls: String = (0..100).map(|number| server.url(&format!("/{number}?{}", "x".repeat(16_384))) + "\n").collect();
    let scratch = Scratch::new();
    let file = scratch.write("urls", urls);
    let mut child = Running::start(goby().args(["fetch", "--input", &file, "--workers", "2"]));
    server.await_hits(8);
    child.signal(Signal::INT);
    child.await_stderr("interrupted");
    child.signal(Signal::INT);
    check(child.end_unread().code(), Some(130));
    let ended = child.end();
    check(ended.stderr, String::new());
}
