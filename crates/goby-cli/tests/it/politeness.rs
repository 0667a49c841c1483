//! How much is asked of a server that has little to give.

use std::time::Duration;

use crate::server::{Reply, Server};
use crate::support::{by_url, check, fetch, lines};

fn urls(server: &Server, n: usize) -> Vec<String> {
    (0..n).map(|number| server.url(&format!("/{number}"))).collect()
}

#[test]
fn a_host_gets_no_more_requests_at_a_time_than_it_may() {
    let server = Server::start(|request| {
        request.await_in_flight(3);
        Reply::ok("fine")
    });
    let urls = urls(&server, 30);
    let ended = fetch(["--per-host-connections", "3"].into_iter().chain(urls.iter().map(String::as_str)));
    check((ended.code, server.most_in_flight()), (Some(0), 3));
}

#[test]
fn a_busy_host_gets_fewer_at_a_time_and_is_asked_again() {
    // The first request that comes says 503 without Retry-After; each URL is fine the next time.
    let server = Server::start(|request| if request.hit == 1 { Reply::status(503) } else { Reply::ok("fine") });
    let urls = urls(&server, 20);
    let ended = fetch(["--workers", "8"].into_iter().chain(urls.iter().map(String::as_str)));
    check(ended.code, Some(0));
    check(server.all_hits(), 40);
}

#[test]
fn a_host_that_is_down_is_not_asked_for_ever() {
    let down = Server::start(|_| Reply::Close);
    let up = Server::start(|_| Reply::ok("fine"));
    let list: Vec<String> = urls(&down, 50).into_iter().chain(urls(&up, 50)).collect();
    let args = ["--max-host-failures", "5", "--retry", "0", "--workers", "2"];
    let ended = fetch(args.into_iter().chain(list.iter().map(String::as_str)));
    check(ended.code, Some(1));
    let results = by_url(&ended.stdout);
    let count = |kind: &str| results.values().filter(|line| line.outcome().0 == kind).count();
    // Two workers: one request more may have been in flight.
    check((count(""), count("connect") + count("host_down")), (50, 50));
    assert!((5..=6).contains(&down.all_hits()), "{}", down.all_hits());
    let refused = results.values().find(|line| line.outcome() == ("host_down", 0)).unwrap();
    check(
        refused.text("message").to_string(),
        format!("not requested: {} failed too often in a row (--max-host-failures)", down.host()),
    );
    let never = [&args[2..], &["--max-host-failures", "0"]].concat();
    let ended = fetch(never.into_iter().chain(list[..8].iter().map(String::as_str)));
    check(lines(&ended.stdout).iter().filter(|line| line.outcome() == ("connect", 1)).count(), 8);
}

#[test]
fn redirects_are_followed_as_often_as_wanted() {
    let server = Server::start(|request| match request.path.trim_start_matches('/').parse::<u32>() {
        Ok(0) => Reply::ok("there"),
        Ok(n) => Reply::header(302, &format!("location: /{}", n - 1)),
        Err(_) => Reply::status(404),
    });
    let url = server.url("/12");
    let outcome = |args: &[&str]| {
        let ended = fetch(args.iter().copied().chain([&*url]));
        let line = lines(&ended.stdout).remove(0);
        (line.outcome().0.to_string(), line.0["status"].as_u64())
    };
    check(outcome(&["-L"]), ("too_many_redirects".to_string(), None));
    check(outcome(&["--max-redirs", "12"]), (String::new(), Some(200)));
    check(outcome(&["--max-redirs", "0"]), (String::new(), Some(302)));
}

#[test]
fn what_is_tried_again_is_a_list() {
    let server = Server::start(|request| match (request.path, request.hit) {
        ("/404", 1) => Reply::status(404),
        ("/503", _) => Reply::status(503),
        _ => Reply::ok("fine"),
    });
    let ended = fetch(["--retry-on", "404", &server.url("/404"), &server.url("/503")]);
    let results = by_url(&ended.stdout);
    check(results[&server.url("/404")].outcome(), ("", 2));
    check(results[&server.url("/503")].outcome(), ("http_status", 1));
}

#[test]
fn a_delay_is_kept_before_each_retry() {
    let server = Server::start(|request| if request.hit == 3 { Reply::ok("fine") } else { Reply::status(500) });
    let ended = fetch(["--retry-delay", "700ms", &server.url("/")]);
    check(ended.code, Some(0));
    let times = server.times("/");
    for pair in times.windows(2) {
        assert!(pair[1] - pair[0] >= Duration::from_millis(700), "{:?}", pair[1] - pair[0]);
    }
}

#[test]
fn robots_txt_is_asked_for_once_and_kept() {
    let server = Server::start(|request| match request.path {
        "/robots.txt" => Reply::ok("User-agent: other\nDisallow: /\n\nUser-agent: goby\nDisallow: /private/\n"),
        _ => Reply::ok("fine"),
    });
    let mut list = urls(&server, 20);
    list.push(server.url("/private/page"));
    let ended = fetch(["--robots"].into_iter().chain(list.iter().map(String::as_str)));
    let results = by_url(&ended.stdout);
    check(results[&server.url("/private/page")].outcome(), ("robots", 0));
    check(results.values().filter(|line| line.outcome() == ("", 1)).count(), 20);
    check((server.hits("/robots.txt"), server.hits("/private/page")), (1, 0));
}

#[test]
fn a_site_without_robots_txt_allows_all_and_one_that_fails_to_give_it_nothing() {
    for (status, kind) in [(404, ""), (500, "robots")] {
        let server = Server::start(move |request| match request.path {
            "/robots.txt" => Reply::status(status),
            _ => Reply::ok("fine"),
        });
        let ended = fetch(["--robots", &server.url("/")]);
        check((status, lines(&ended.stdout)[0].outcome().0), (status, kind));
    }
}
