//! `--retries`: what is tried again, how often, and not before the server wants it.

use std::time::Duration;

use crate::server::{Reply, Server};
use crate::support::{by_url, check, fetch};

#[test]
fn failures_that_pass_are_tried_again_until_they_have() {
    let server = Server::start(|request| match (request.path, request.hit) {
        (_, 3) => Reply::ok("at last"),
        ("/busy", _) => Reply::status(503),
        ("/many", _) => Reply::status(429),
        ("/broken", _) => Reply::Truncated(100, Vec::new()),
        _ => Reply::Hang,
    });
    let paths = ["/busy", "/many", "/broken", "/slow"];
    let urls = paths.map(|path| server.url(path));
    let ended = fetch(["-t", "3s"].into_iter().chain(urls.iter().map(String::as_str)));
    check(ended.code, Some(0));
    let results = by_url(&ended.stdout);
    for path in paths {
        let line = &results[&server.url(path)];
        check((path, line.number("status"), line.number("attempts")), (path, 200, 3));
        check((path, server.hits(path)), (path, 3));
    }
}

#[test]
fn a_connection_that_is_closed_without_a_response_is_tried_again() {
    let server = Server::start(|request| if request.hit == 3 { Reply::ok("at last") } else { Reply::Close });
    let ended = fetch([server.url("/")]);
    check(by_url(&ended.stdout)[&server.url("/")].outcome(), ("", 3));
    check(server.hits("/"), 3);
}

#[test]
fn the_last_failure_is_the_result() {
    let server = Server::start(|request| match (request.path, request.hit) {
        ("/changing", 1) => Reply::status(500),
        ("/changing", _) => Reply::status(404),
        _ => Reply::status(502),
    });
    let ended = fetch(["--retries", "1", &server.url("/bad"), &server.url("/changing")]);
    check(ended.code, Some(1));
    let results = by_url(&ended.stdout);
    let bad = &results[&server.url("/bad")];
    check((bad.outcome(), bad.number("status")), (("http_status", 2), 502));
    let changing = &results[&server.url("/changing")];
    check((changing.outcome(), changing.number("status")), (("http_status", 2), 404));
}

#[test]
fn what_does_not_pass_is_not_tried_again() {
    let server = Server::start(|_| Reply::status(404));
    fetch(["--retries", "5", &server.url("/")]);
    check(server.hits("/"), 1);
    let server = Server::start(|request| match request.path {
        "/mail" => Reply::Raw(b"220 this is a mail server\r\n"),
        _ => Reply::Raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n"),
    });
    for path in ["/mail", "/chunks"] {
        let ended = fetch(["--retries", "2", &server.url(path)]);
        check(by_url(&ended.stdout)[&server.url(path)].outcome(), ("protocol", 1));
        check(server.hits(path), 1);
    }
    let server = Server::start(|_| Reply::status(503));
    fetch(["--retries", "0", &server.url("/")]);
    check(server.hits("/"), 1);
}

#[test]
fn retry_after_is_a_floor_in_seconds_or_as_a_date() {
    let server = Server::start(|request| match (request.path, request.hit) {
        (_, 2) => Reply::ok("fine"),
        ("/seconds", _) => Reply::header(429, "retry-after: 1"),
        _ => {
            let later = std::time::SystemTime::now() + Duration::from_secs(2);
            Reply::header(503, &format!("Retry-After: {}", httpdate::fmt_http_date(later)))
        }
    });
    let ended = fetch([server.url("/seconds"), server.url("/date")]);
    check(ended.code, Some(0));
    for path in ["/seconds", "/date"] {
        let times = server.times(path);
        let wait = times[1] - times[0];
        // Dates are whole seconds, so two seconds from now is more than one.
        assert!(wait >= Duration::from_secs(1), "{path}: {wait:?}");
    }
}

#[test]
fn a_server_that_wants_a_long_time_is_not_asked_again() {
    let server = Server::start(|_| Reply::header(503, "retry-after: 3600"));
    let ended = fetch([server.url("/")]);
    check(by_url(&ended.stdout)[&server.url("/")].outcome(), ("http_status", 1));
    check(server.hits("/"), 1);
}

#[test]
fn retries_that_wait_hold_no_worker() {
    // Each server is busy once, and asks for a wait of one second. One after the other, on two
    // workers, that would take 10 s.
    let servers: Vec<Server> = (0..20)
        .map(|_| {
            Server::start(
                |request| {
                    if request.hit == 1 { Reply::header(503, "retry-after: 1") } else { Reply::ok("fine") }
                },
            )
        })
        .collect();
    let urls: Vec<String> = servers.iter().map(|server| server.url("/")).collect();
    let ended = fetch(["--workers", "2"].into_iter().chain(urls.iter().map(String::as_str)));
    check(ended.code, Some(0));
    let firsts: Vec<_> = servers.iter().map(|server| server.times("/")[0]).collect();
    let seconds: Vec<_> = servers.iter().map(|server| server.times("/")[1]).collect();
    // No server is asked again before all have been asked once.
    assert!(firsts.iter().max() < seconds.iter().min());
    for line in by_url(&ended.stdout).values() {
        check(line.outcome(), ("", 2));
    }
}

#[test]
fn retry_after_holds_for_all_urls_of_its_host() {
    let busy = Server::start(|request| {
        if request.path == "/0" && request.hit == 1 { Reply::header(429, "retry-after: 1") } else { Reply::ok("fine") }
    });
    let urls: Vec<String> = (0..10).map(|number| busy.url(&format!("/{number}"))).collect();
    let ended = fetch(["--workers", "1"].into_iter().chain(urls.iter().map(String::as_str)));
    check(ended.code, Some(0));
    let times = busy.all_times();
    check(times.len(), 11);
    assert!(times[1] - times[0] >= Duration::from_secs(1), "{:?}", times[1] - times[0]);
}
