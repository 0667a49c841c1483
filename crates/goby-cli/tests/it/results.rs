//! The result of each URL, in the output, the summary and the exit status.

use std::net::TcpListener;

use crate::server::{Reply, Server};
use crate::support::{Scratch, by_url, check, check_golden, fetch, fetch_with_input, lines, masked};

#[test]
fn urls_that_are_fetched_are_lines_and_a_summary() {
    let server = Server::start(|request| Reply::ok(request.path.as_bytes().repeat(10)));
    let urls: Vec<String> = (0..5).map(|number| server.url(&format!("/{number}"))).collect();
    let ended = fetch(&urls);
    check_golden("summary-fetched.txt", &masked(&ended.stderr));
    check(ended.code, Some(0));
    let results = by_url(&ended.stdout);
    check(results.len(), 5);
    for url in &urls {
        let line = &results[url];
        check((line.number("status"), line.number("bytes"), line.number("attempts")), (200, 20, 1));
        assert!(line.0["ms"].as_f64().unwrap() > 0.0, "{line:?}");
    }
}

#[test]
fn a_line_has_exactly_the_fields_that_are_promised_in_their_order() {
    let server = Server::start(|request| if request.path == "/a" { Reply::ok("1234") } else { Reply::status(404) });
    let ended = fetch([server.url("/a")]);
    let line = ended.stdout.trim_end();
    let ms = line.split("\"ms\":").nth(1).unwrap().split(',').next().unwrap();
    check(
        line.to_string(),
        format!("{{\"url\":\"{}\",\"status\":200,\"bytes\":4,\"ms\":{ms},\"attempts\":1}}", server.url("/a")),
    );
    let ended = fetch([server.url("/b")]);
    let expected = format!(
        "{{\"url\":\"{}\",\"error\":\"http_status\",\"status\":404,\"message\":\"404 Not Found\",\"attempts\":1}}\n",
        server.url("/b")
    );
    check(ended.stdout, expected);
}

#[test]
fn some_that_fail_make_the_exit_status_1() {
    let server = Server::start(|request| match request.path {
        "/fine" => Reply::ok("fine"),
        "/teapot" => Reply::status(418),
        _ => Reply::status(404),
    });
    let ended = fetch(["/fine", "/a", "/b", "/teapot"].map(|path| server.url(path)));
    check(ended.code, Some(1));
    check_golden("summary-failed.txt", &masked(&ended.stderr));
    let results = by_url(&ended.stdout);
    check(results[&server.url("/teapot")].number("status"), 418);
    check(results[&server.url("/a")].outcome(), ("http_status", 1));
}

#[test]
fn redirects_are_followed_and_those_that_lead_nowhere_are_fetched() {
    let server = Server::start(|request| match request.path {
        "/from" => Reply::header(301, "location: /via"),
        "/via" => Reply::header(302, "location: to"),
        "/to" => Reply::ok("arrived"),
        "/loop" => Reply::header(302, "location: /loop"),
        "/nowhere" => Reply::header(302, "location: ftp://h/"),
        _ => Reply::status(304),
    });
    let ended = fetch(["/from", "/loop", "/nowhere", "/unchanged"].map(|path| server.url(path)));
    let results = by_url(&ended.stdout);
    let line = &results[&server.url("/from")];
    check((line.number("status"), line.number("bytes")), (200, 7));
    check(results[&server.url("/unchanged")].number("status"), 304);
    let line = &results[&server.url("/loop")];
    check(line.outcome(), ("too_many_redirects", 1));
    check(line.text("message"), "stopped after 10 redirects");
    check(server.hits("/loop"), 11);
    check(results[&server.url("/nowhere")].outcome(), ("invalid_url", 1));
    check(ended.code, Some(1));
}

#[test]
fn time_outs_hold_for_the_response_and_for_the_last_byte() {
    let server = Server::start(|request| if request.path == "/drip" { Reply::Drip } else { Reply::Hang });
    // Enough time for the headers of the second response to come, also on a busy machine.
    let ended = fetch(["-t", "3s", "--retries", "0", &server.url("/hang"), &server.url("/drip")]);
    check(ended.code, Some(1));
    let results = by_url(&ended.stdout);
    let hang = &results[&server.url("/hang")];
    check(hang.outcome(), ("timeout", 1));
    check(
        hang.text("message"),
        "no complete response within 3.00 s: deadline exceeded while awaiting response headers",
    );
    let drip = &results[&server.url("/drip")];
    check(drip.outcome(), ("timeout", 1));
    check(
        drip.text("message"),
        "no complete response within 3.00 s: deadline exceeded while reading the response body",
    );
    // Their sockets are closed.
    server.await_abandoned(1);
}

#[test]
fn connections_that_fail_or_break_are_told_apart() {
    let server = Server::start(|request| match request.path {
        "/close" => Reply::Close,
        _ => Reply::Truncated(1000, b"half".to_vec()),
    });
    let closed_port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    // Longer than a name can be, so that it is refused without asking any server.
    let no_name = format!("http://{}.invalid/", "x".repeat(64));
    let urls = [
        ("connect", format!("http://{closed_port}/")),
        ("connect", server.url("/close")),
        ("body", server.url("/half")),
        ("dns", no_name),
        ("tls", format!("https://{}/", server.host())),
    ];
    let ended = fetch(["--retries", "0"].into_iter().chain(urls.iter().map(|(_, url)| url.as_str())));
    check(ended.code, Some(1));
    let results = by_url(&ended.stdout);
    for (kind, url) in &urls {
        check(results[url].outcome(), (*kind, 1));
        assert!(!results[url].text("message").is_empty());
    }
    let refused = results[&urls[0].1].text("message");
    assert!(refused.starts_with("connecting to 127.0.0.1") && refused.contains("refused"), "{refused}");
    check_golden("summary-kinds.txt", &masked(&ended.stderr));
}

#[test]
fn lines_of_a_file_are_urls_and_what_is_none_fails_alone() {
    let server = Server::start(|_| Reply::ok("fine"));
    let scratch = Scratch::new();
    let content = format!(
        "# a list\n\n{}\r\n  nonsense\nftp://h/\nhttp://h/a b\n{}#fragment\n{}",
        server.url("/1"),
        server.url("/2"),
        server.url("/last")
    );
    let urls = scratch.write("urls", content);
    let ended = fetch(["--input", &urls]);
    check(ended.code, Some(1));
    let results = by_url(&ended.stdout);
    check(results.len(), 6);
    let fragment = format!("{}#fragment", server.url("/2"));
    for url in [server.url("/1"), fragment, server.url("/last")] {
        check(results[&url].outcome(), ("", 1));
    }
    check(server.hits("/2"), 1);
    for (url, message) in [
        ("nonsense", "line 4: no scheme; a URL begins with http:// or https://"),
        ("ftp://h/", "line 5: scheme \"ftp\" is not supported, only http and https are"),
        ("http://h/a b", "line 6: a space or control character in the URL; write it as %20, %09, …"),
    ] {
        check(results[url].outcome(), ("invalid_url", 0));
        check(results[url].text("message"), message);
    }
}

#[test]
fn standard_input_is_read_after_the_arguments() {
    let server = Server::start(|_| Reply::ok("fine"));
    let input = format!("{}\n{}", server.url("/2"), server.url("/3"));
    let ended = fetch_with_input(["--workers", "1", "--input", "-", &server.url("/1"), "nonsense"], &input);
    let urls: Vec<String> = lines(&ended.stdout).iter().map(|line| line.text("url").to_string()).collect();
    let expected = [&server.url("/1"), "nonsense", &server.url("/2"), &server.url("/3")].map(str::to_string);
    check(urls, expected.to_vec());
    let nonsense = "\"argument 2: no scheme; a URL begins with http:// or https://\"";
    assert!(ended.stdout.contains(nonsense), "{}", ended.stdout);
}

#[test]
fn an_empty_input_is_a_run_without_failures() {
    let ended = fetch_with_input(["--input", "-"], "# nothing\n");
    check((ended.code, ended.stdout.as_str()), (Some(0), ""));
    check_golden("summary-empty.txt", &masked(&ended.stderr));
}

#[test]
fn results_go_to_the_file_that_is_named() {
    let server = Server::start(|_| Reply::ok("fine"));
    let scratch = Scratch::new();
    let out = scratch.write("out", "what was there before");
    let ended = fetch(["-o", &out, &server.url("/")]);
    check((ended.code, ended.stdout.as_str()), (Some(0), ""));
    check(by_url(&scratch.read("out")).len(), 1);
    let ended = fetch(["-o", "-", &server.url("/")]);
    check(by_url(&ended.stdout).len(), 1);
}

#[test]
fn an_output_that_fills_up_ends_the_run() {
    let server = Server::start(|_| Reply::ok("fine"));
    let urls: Vec<String> = (0..300).map(|i| server.url(&format!("/{i}"))).collect();
    let ended = fetch(["-o", "/dev/full"].into_iter().chain(urls.iter().map(String::as_str)));
    check(ended.code, Some(1));
    let first = ended.stderr.lines().next().unwrap().to_string();
    check(first, "goby: cannot write /dev/full: No space left on device".to_string());
    // Every URL is in one of the counts. They are the only numbers before "abandoned" and "not
    // started", and at "URLs".
    let number = |after: &str, before: &str| -> u64 {
        let (_, rest) = ended.stderr.split_once(after).unwrap_or_else(|| panic!("{}", ended.stderr));
        rest.split_once(before)
            .and_then(|(number, _)| number.parse().ok())
            .unwrap_or_else(|| panic!("{}", ended.stderr))
    };
    let stopped = "  stopped   the output takes no more, and lacks the last of these: ";
    let not_started = number("abandoned in flight, ", " not started");
    assert!(ended.stderr.contains(stopped), "{}", ended.stderr);
    assert_eq!(number("\ngoby: ", " URL") + not_started, 300, "{}", ended.stderr);
}

#[test]
fn an_input_that_breaks_off_ends_the_run_with_what_there_is() {
    let server = Server::start(|_| Reply::ok("fine"));
    // It can be opened, but there is nothing at address 0 to read.
    let ended = fetch(["--input", "/proc/self/mem", &server.url("/")]);
    check(ended.code, Some(1));
    check(by_url(&ended.stdout).len(), 1);
    let message = "goby: cannot read /proc/self/mem to its end: Input/output error\n";
    assert!(ended.stderr.starts_with(message), "{}", ended.stderr);
}

#[test]
fn requests_name_the_program_and_the_host() {
    let server = Server::start(|_| Reply::ok("fine"));
    fetch([server.url("/a?b=c")]);
    let head = server.last_head();
    check(head[0].as_str(), "GET /a?b=c HTTP/1.1");
    let has = |line: &str| head.iter().any(|header| header.eq_ignore_ascii_case(line));
    assert!(has(&format!("user-agent: goby/{}", env!("CARGO_PKG_VERSION"))), "{head:?}");
    assert!(has(&format!("host: {}", server.host())), "{head:?}");
}

#[test]
fn the_demo_fetches_its_own_pages() {
    let ended = fetch(["--demo", "300"]);
    check(ended.code, Some(0));
    let results = by_url(&ended.stdout);
    check(results.len(), 300);
    let bytes: u64 = results.values().map(|line| line.number("bytes")).sum();
    assert!(results.values().all(|line| line.number("status") == 200) && bytes > 1_000_000, "{bytes}");
    assert!(ended.stderr.starts_with("goby: 300 URLs in "), "{}", ended.stderr);
}

#[test]
fn a_password_in_a_url_is_in_no_result_and_no_message() {
    let server = Server::start(|request| if request.path == "/fine" { Reply::ok("fine") } else { Reply::status(404) });
    let url = |path| server.url(path).replace("http://", "http://me:topsecret@");
    let scratch = Scratch::new();
    let out = scratch.path("out");
    let urls = [
        url("/fine"),
        url("/missing"),
        "ftp://me:topsecret@h/".to_string(),
        "http://me:topsecret@h:99999/".to_string(),
    ];
    let ended = fetch(["-o", &out].into_iter().chain(urls.iter().map(String::as_str)));
    check(ended.code, Some(1));
    let shown = server.url("/fine").replace("http://", "http://me:***@");
    check(by_url(&scratch.read("out"))[&shown].outcome(), ("", 1));
    let ended = fetch(urls.iter().map(String::as_str));
    for text in [scratch.read("out"), ended.stdout, ended.stderr] {
        assert!(!text.contains("topsecret"), "{text}");
    }
}
