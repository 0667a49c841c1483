//! `--resume`: a run goes on from a half-written output file.

use std::fs;
use std::time::Instant;

use rustix::process::Signal;

use crate::server::{Reply, Server};
use crate::support::{HANG, Running, Scratch, by_url, check, fetch, goby, lines};

#[test]
fn a_run_that_was_killed_is_gone_on_with() {
    let server = Server::start(|request| {
        if request.path.starts_with("/late/") {
            request.await_gate();
        }
        Reply::ok("fine")
    });
    let scratch = Scratch::new();
    let early = (0..40).map(|number| server.url(&format!("/early/{number}")) + "\n");
    let late = (0..40).map(|number| server.url(&format!("/late/{number}")) + "\n");
    let urls = scratch.write("urls", early.chain(late).collect::<String>());
    let out = scratch.path("out");

    let child = Running::start(goby().args(["fetch", "--input", &urls, "-o", &out, "--workers", "4", "-t", "1h"]));
    // Four late requests are in flight, so all early ones have ended.
    server.await_hits(44);
    await_lines(&scratch, 40);
    child.signal(Signal::KILL);
    check(child.end().code, None);
    // The crash of a whole machine may tear the last line; the crash of a process does not.
    let before = scratch.read("out");
    check(lines(&before).len(), 40);
    fs::write(&out, format!("{before}{{\"url\":\"http://torn")).unwrap();
    server.open_gate();

    let ended = fetch(["--input", &urls, "-o", &out, "--resume"]);
    check(ended.code, Some(0));
    assert!(ended.stderr.contains("\n  skipped   40, fetched by an earlier run\n"), "{}", ended.stderr);
    let after = scratch.read("out");
    assert!(after.starts_with(&before));
    let results = by_url(&after);
    check(results.len(), 80);
    assert!(results.values().all(|line| line.outcome() == ("", 1)));

    let hits = server.all_hits();
    let ended = fetch(["--input", &urls, "-o", &out, "--resume"]);
    check((ended.code, server.all_hits()), (Some(0), hits));
    check(scratch.read("out"), after);
}

/// Waits until the output file has so many lines. It never has anything but whole lines.
fn await_lines(scratch: &Scratch, number: usize) {
    let started = Instant::now();
    while lines(&scratch.read("out")).len() < number {
        assert!(started.elapsed() < HANG, "{}", scratch.read("out"));
        std::thread::yield_now();
    }
}

#[test]
fn what_failed_is_fetched_again_and_its_last_line_counts() {
    let server = Server::start(|request| match (request.path, request.hit) {
        ("/late", 1) => Reply::status(404),
        _ => Reply::ok("fine"),
    });
    let scratch = Scratch::new();
    let out = scratch.path("out");
    let args = ["-o", &out, "--resume", &server.url("/late"), &server.url("/fine"), "nonsense"];
    // There is nothing to go on from yet. That is not an error.
    check(fetch(args).code, Some(1));
    check(fetch(args).code, Some(1));
    check(fetch(args).code, Some(1));
    let outcomes = |url: &str| -> Vec<String> {
        let of_url = lines(&scratch.read("out")).into_iter().filter(|line| line.text("url") == url);
        of_url.map(|line| line.outcome().0.to_string()).collect()
    };
    check(outcomes(&server.url("/late")), vec!["http_status".to_string(), String::new()]);
    check(outcomes(&server.url("/fine")), vec![String::new()]);
    check(outcomes("nonsense"), vec!["invalid_url".to_string(); 3]);
    check((server.hits("/late"), server.hits("/fine")), (2, 1));
}

#[test]
fn with_save_a_url_is_done_when_its_body_is_saved() {
    let server = Server::start(|_| Reply::ok("fine"));
    let scratch = Scratch::new();
    let (out, dir, url) = (scratch.path("out"), scratch.path("dir"), server.url("/a.txt"));
    fetch(["-o", &out, &url]);
    fetch(["-o", &out, "--resume", "--output-dir", &dir, &url]);
    check((server.all_hits(), scratch.files("dir").len()), (2, 1));
    fetch(["-o", &out, "--resume", "--output-dir", &dir, &url]);
    check(server.all_hits(), 2);
}

#[test]
fn only_a_results_file_is_gone_on_with() {
    let scratch = Scratch::new();
    let out = scratch.write("out", "dear diary\n");
    let ended = fetch(["-o", &out, "--resume", "http://127.0.0.1:9/"]);
    check(ended.code, Some(2));
    check(
        ended.stderr,
        format!("goby: cannot resume {out}: line 1 is no result of goby fetch; name the right file with -o\n"),
    );
    check(scratch.read("out"), "dear diary\n".to_string());
    let ended = fetch(["-o", "-", "--resume", "http://127.0.0.1:9/"]);
    check(ended.code, Some(2));
    check(ended.stderr, "goby: cannot resume standard output; name the output file with -o FILE\n".to_string());
}

#[test]
fn a_saved_file_that_is_gone_is_fetched_again() {
    let server = Server::start(|_| Reply::ok("fine"));
    let scratch = Scratch::new();
    let (out, dir, url) = (scratch.path("out"), scratch.path("dir"), server.url("/a.txt"));
    let args = ["-o", &out, "--resume", "--output-dir", &dir, &url];
    fetch(args);
    fs::remove_file(scratch.path(&format!("dir/http/{}/a.txt", server.host()))).unwrap();
    check(fetch(args).code, Some(0));
    check((server.all_hits(), scratch.files("dir").len()), (2, 1));
}

#[test]
fn two_runs_do_not_write_one_file() {
    let server = Server::start(|request| {
        request.await_gate();
        Reply::ok("fine")
    });
    let scratch = Scratch::new();
    let out = scratch.path("out");
    let first = Running::start(goby().args(["fetch", "-t", "1h", "-o", &out, &server.url("/first")]));
    server.await_hits(1);
    for resume in [&[][..], &["--resume"]] {
        let second = fetch([&["-o", &out, &server.url("/second")], resume].concat());
        check(second.code, Some(2));
        let says =
            format!("goby: cannot write {out}: another goby fetch is writing it; name another file with -o FILE");
        assert!(second.stderr.starts_with(&says), "{}", second.stderr);
    }
    server.open_gate();
    check(first.end().code, Some(0));
    check(by_url(&scratch.read("out")).len(), 1);
    check(server.hits("/second"), 0);
}
