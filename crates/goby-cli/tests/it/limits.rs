//! `--workers`, `--rate`, `--per-host` and `--total`: how much, how fast, how long.

use std::time::{Duration, Instant};

use crate::server::{Reply, Server};
use crate::support::{by_url, check, fetch, lines};

/// Checks that the requests of a run that was `started` then came no faster than `rate` per second.
/// On a busy machine the first one may be late, and the others are not: so what counts is the start
/// of the run, before which there was no turn.
#[track_caller]
fn check_rate(started: Instant, times: &[Instant], rate: f64) {
    let expected = Duration::from_secs_f64((times.len() - 1) as f64 / rate);
    let span = *times.last().unwrap() - started;
    assert!(span >= expected, "{} requests in {span:?}, expected {expected:?}", times.len());
}

#[test]
fn as_many_requests_as_workers_are_in_flight_and_no_more() {
    let server = Server::start(|request| {
        // The first three wait for each other; more than three would be counted.
        request.await_in_flight(3);
        Reply::ok("fine")
    });
    let urls: Vec<String> = (0..30).map(|number| server.url(&format!("/{number}"))).collect();
    let ended = fetch(["--workers", "3"].into_iter().chain(urls.iter().map(String::as_str)));
    check(ended.code, Some(0));
    check(server.most_in_flight(), 3);
}

#[test]
fn the_rate_holds_over_all_hosts_and_for_retries() {
    let servers = [(); 2]
        .map(|()| Server::start(|request| if request.hit == 1 { Reply::status(500) } else { Reply::ok("fine") }));
    let urls: Vec<String> =
        servers.iter().flat_map(|server| (0..4).map(|number| server.url(&format!("/{number}")))).collect();
    let ended = fetch(["--rate", "25"].into_iter().chain(urls.iter().map(String::as_str)));
    check(ended.code, Some(0));
    let mut times: Vec<Instant> = servers.iter().flat_map(Server::all_times).collect();
    times.sort();
    check(times.len(), 16);
    check_rate(ended.started, &times, 25.0);
}

#[test]
fn the_rates_hold_for_redirects() {
    for option in ["--rate", "--per-host"] {
        let server = Server::start(|_| Reply::header(302, "location: /loop"));
        let ended = fetch([option, "20", &server.url("/loop")]);
        check(ended.code, Some(1));
        check(by_url(&ended.stdout)[&server.url("/loop")].outcome(), ("too_many_redirects", 1));
        assert!(ended.stderr.contains("  requests  11, "), "{}", ended.stderr);
        check(server.all_hits(), 11);
        check_rate(ended.started, &server.all_times(), 20.0);
    }
}

#[test]
fn a_redirect_waits_for_the_turn_of_the_host_that_it_leads_to() {
    let to = Server::start(|_| Reply::ok("fine"));
    let location: &'static str = format!("location: {}", to.url("/")).leak();
    let from = Server::start(move |_| Reply::header(302, location));
    let urls: Vec<String> = (0..6).map(|number| from.url(&format!("/{number}"))).collect();
    // The wait for a turn is not a time-out.
    let options = ["--per-host", "1", "-t", "4s", "--retries", "0"];
    let ended = fetch(options.into_iter().chain(urls.iter().map(String::as_str)));
    check(ended.code, Some(0));
    for server in [&from, &to] {
        check(server.all_hits(), 6);
        check_rate(ended.started, &server.all_times(), 1.0);
    }
}

#[test]
fn redirects_that_the_total_time_has_no_room_for_end_the_run() {
    let server = Server::start(|_| Reply::header(302, "location: /loop"));
    let ended = fetch(["--total", "1m", "--rate", "0.01", &server.url("/loop")]);
    check(ended.code, Some(1));
    check(by_url(&ended.stdout)[&server.url("/loop")].outcome(), ("canceled", 1));
    let row = "  stopped   no time left of --total 1m00s: 1 abandoned in flight, 0 not started\n";
    assert!(ended.stderr.contains(row), "{}", ended.stderr);
}

#[test]
fn the_rate_per_host_holds_for_each_host_by_itself() {
    let servers = [(); 3].map(|()| Server::start(|_| Reply::ok("fine")));
    let urls: Vec<String> =
        (0..6).flat_map(|number| servers.each_ref().map(|server| server.url(&format!("/{number}")))).collect();
    let ended = fetch(["--per-host", "10"].into_iter().chain(urls.iter().map(String::as_str)));
    check(ended.code, Some(0));
    for server in &servers {
        check(server.all_hits(), 6);
        check_rate(ended.started, &server.all_times(), 10.0);
    }
    // Not one after the other: no host is done before all have begun.
    let last_begun = servers.iter().map(|server| server.all_times()[0]).max();
    let first_done = servers.iter().map(|server| server.all_times()[5]).min();
    assert!(last_begun < first_done);
}

#[test]
fn a_run_whose_total_time_is_up_abandons_what_is_in_flight() {
    let server = Server::start(|request| if request.path == "/fine" { Reply::ok("fine") } else { Reply::Hang });
    let mut urls = vec![server.url("/fine")];
    urls.extend((0..20).map(|number| server.url(&format!("/{number}"))));
    let ended = fetch(["--total", "2s", "--workers", "4"].into_iter().chain(urls.iter().map(String::as_str)));
    check(ended.code, Some(1));
    server.await_abandoned(4);
    let results = by_url(&ended.stdout);
    check(results[&server.url("/fine")].outcome(), ("", 1));
    let canceled: Vec<_> = results.values().filter(|line| line.outcome() == ("canceled", 1)).collect();
    check((canceled.len(), results.len()), (4, 5));
    check(canceled[0].text("message"), "in flight when the run was stopped");
    let row = "  stopped   no time left of --total 2.00 s: 4 abandoned in flight, 16 not started\n";
    assert!(ended.stderr.contains(row), "{}", ended.stderr);
}

#[test]
fn a_rate_that_the_total_time_has_no_room_for_ends_the_run() {
    let server = Server::start(|_| Reply::ok("fine"));
    let urls: Vec<String> = (0..10).map(|number| server.url(&format!("/{number}"))).collect();
    let ended = fetch(["--total", "1m", "--rate", "0.01"].into_iter().chain(urls.iter().map(String::as_str)));
    check(ended.code, Some(1));
    check(lines(&ended.stdout).len(), 1);
    let row = "  stopped   no time left of --total 1m00s: 0 abandoned in flight, 9 not started\n";
    assert!(ended.stderr.contains(row), "{}", ended.stderr);
}

#[test]
fn a_total_time_that_is_enough_changes_nothing() {
    let server = Server::start(|_| Reply::ok("fine"));
    let ended = fetch(["--total", "1m", &server.url("/")]);
    check(ended.code, Some(0));
    assert!(!ended.stderr.contains("stopped"), "{}", ended.stderr);
}

#[test]
fn a_host_that_waits_for_its_turn_does_not_hold_up_the_others() {
    let [slow, fast] = [(); 2].map(|()| Server::start(|_| Reply::ok("fine")));
    // In the order of the list, the fast host's requests would come after 4 s.
    let urls: Vec<String> = (0..9)
        .map(|number| slow.url(&format!("/{number}")))
        .chain((0..50).map(|number| fast.url(&format!("/{number}"))))
        .collect();
    let ended = fetch(["--per-host", "25", "--workers", "2"].into_iter().chain(urls.iter().map(String::as_str)));
    check(ended.code, Some(0));
    check_rate(ended.started, &slow.all_times(), 25.0);
    check_rate(ended.started, &fast.all_times(), 25.0);
    // The two hosts were asked side by side.
    assert!(fast.all_times()[0] < slow.all_times()[2], "{:?}", fast.all_times()[0] - slow.all_times()[0]);
}

#[test]
fn a_rate_per_host_that_the_total_time_has_no_room_for_ends_the_run() {
    let server = Server::start(|_| Reply::ok("fine"));
    let urls: Vec<String> = (0..10).map(|number| server.url(&format!("/{number}"))).collect();
    let ended = fetch(["--total", "1m", "--per-host", "0.01"].into_iter().chain(urls.iter().map(String::as_str)));
    check(ended.code, Some(1));
    let row = "  stopped   no time left of --total 1m00s: 0 abandoned in flight, 9 not started\n";
    assert!(ended.stderr.contains(row), "{}", ended.stderr);
}
