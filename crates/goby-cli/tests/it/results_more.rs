//! What results have beyond status and length, and the forms of results and summary.

use std::process::Command;

use crate::server::{Reply, Server};
use crate::support::{Scratch, by_url, check, fetch, fetch_with_input, lines, sha256};

#[test]
fn results_have_what_is_wanted() {
    let server = Server::start(|request| match request.path {
        "/from" => Reply::header(302, "location: /to"),
        _ => Reply::Response(200, vec!["content-type: text/plain".into(), "etag: \"a\"".into()], b"hello".to_vec()),
    });
    let ended =
        fetch(["--sha256", "--timings", "--show-header", "ETag", "--show-header", "x-none", &server.url("/from")]);
    let line = &lines(&ended.stdout)[0];
    check(line.text("final_url").to_string(), server.url("/to"));
    check(line.text("content_type"), "text/plain");
    check(line.text("sha256").to_string(), sha256(b"hello"));
    check(line.0["headers"].to_string(), "{\"etag\":\"\\\"a\\\"\"}".to_string());
    assert!(line.0["first_byte_ms"].as_f64().unwrap() <= line.0["ms"].as_f64().unwrap(), "{line:?}");
}

#[test]
fn names_of_files_are_by_a_template() {
    let server = Server::start(|request| Reply::ok(request.path));
    let scratch = Scratch::new();
    let dir = scratch.path("dir");
    let urls = ["/a/1.html", "/b/1.html", "/../x.html"].map(|path| server.url(path));
    let save = |template: &str| {
        let args = ["--output-dir", &*dir, "--output-name", template, "--workers", "1"];
        fetch(args.into_iter().chain(urls.iter().map(String::as_str)))
    };
    check(save("{host}/{path}").code, Some(0));
    check(
        scratch.files("dir"),
        ["127.0.0.1/a/1.html", "127.0.0.1/b/1.html", "127.0.0.1/x.html"].map(str::to_string).to_vec(),
    );
    // Two of them would be one file.
    let ended = save("{name}");
    check(ended.code, Some(1));
    let results = by_url(&ended.stdout);
    check(results[&urls[1]].outcome(), ("save", 1));
    check(results[&urls[1]].text("message"), "another URL has the name 1.html: --output-name needs more fields");
}

#[test]
fn bodies_may_not_be_longer_than_a_limit() {
    let server = Server::start(|request| match request.path {
        "/drip" => Reply::Drip,
        path => Reply::ok(vec![b'x'; path[1..].parse().unwrap()]),
    });
    let urls = ["/1024", "/1025", "/drip"].map(|path| server.url(path));
    let ended = fetch(["--max-filesize", "1k"].into_iter().chain(urls.iter().map(String::as_str)));
    let results = by_url(&ended.stdout);
    check(urls.each_ref().map(|url| results[url].outcome().0), ["", "too_large", "too_large"]);
    check(results[&urls[1]].text("message"), "more than 1.02 kB");
}

#[test]
fn a_list_with_repetitions_is_fetched_once() {
    let server = Server::start(|_| Reply::ok("fine"));
    let input = format!("{0}\n{1}\n{0}\n{0}#part\n", server.url("/a"), server.url("/b"));
    let ended = fetch_with_input(["--input", "-", "--unique"], &input);
    check((lines(&ended.stdout).len(), server.all_hits()), (2, 2));
    assert!(ended.stderr.contains("\n  repeated  2, which the list has had before\n"), "{}", ended.stderr);
}

#[test]
fn the_first_failure_may_end_the_run() {
    let server = Server::start(|request| if request.path == "/0" { Reply::status(404) } else { Reply::ok("fine") });
    let urls: Vec<String> = (0..1000).map(|number| server.url(&format!("/{number}"))).collect();
    let ended = fetch(["--fail-early", "--workers", "1"].into_iter().chain(urls.iter().map(String::as_str)));
    check(ended.code, Some(1));
    assert!(server.all_hits() < 1000, "{}", server.all_hits());
    assert!(ended.stderr.contains("  stopped   a URL failed, and --fail-early: "), "{}", ended.stderr);
}

#[test]
fn a_quiet_run_says_nothing() {
    let server = Server::start(|_| Reply::ok("fine"));
    let ended = fetch(["-q", "--progress", "always", &server.url("/")]);
    check((ended.code, ended.stderr.as_str()), (Some(0), ""));
}

#[test]
fn the_summary_may_be_json() {
    let server = Server::start(|request| if request.path == "/0" { Reply::status(404) } else { Reply::ok("fine") });
    let ended = fetch(["--summary=json", &server.url("/0"), &server.url("/1")]);
    let summary: serde_json::Value = serde_json::from_str(&ended.stderr).unwrap();
    let number = |field: &str| summary[field].as_u64().unwrap_or_else(|| panic!("{field} in {summary}"));
    check(["urls", "fetched", "failed", "requests", "bytes"].map(number), [2, 1, 1, 2, 4]);
    check(summary["statuses"]["404"].as_u64(), Some(1));
    check(summary["errors"]["http_status"].as_u64(), Some(1));
    assert!(summary["latency_ms"]["p99"].as_f64().unwrap() > 0.0, "{summary}");
}

#[test]
fn latencies_are_drawn() {
    let server = Server::start(|_| Reply::ok("fine"));
    let ended = fetch(["--histogram", &server.url("/"), &server.url("/2")]);
    assert!(ended.stderr.contains('▇'), "{}", ended.stderr);
}

#[test]
fn results_may_be_csv() {
    let server = Server::start(|request| if request.path == "/0" { Reply::status(404) } else { Reply::ok("fine") });
    let (first, second) = (server.url("/0"), server.url("/1?a,b"));
    let ended = fetch(["--format", "csv", "--sha256", "--workers", "1", &first, &second]);
    let rows: Vec<&str> = ended.stdout.lines().collect();
    check(rows[0], "url,line,status,bytes,ms,error,message,attempts,final_url,content_type,file,sha256");
    check(rows[1].to_string(), format!("{first},,404,,,http_status,404 Not Found,1,,,,"));
    assert!(rows[2].starts_with(&format!("\"{second}\",,200,4,")), "{}", rows[2]);
    // Another program reads it, too.
    let script = "import csv,sys; print([row['status'] for row in csv.DictReader(sys.stdin.read().splitlines())])";
    if let Ok(mut child) = Command::new("python3")
        .args(["-c", script])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
    {
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), ended.stdout.as_bytes()).unwrap();
        check(String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap(), "['404', '200']\n".to_string());
    }
    let scratch = Scratch::new();
    let ended = fetch(["--format", "csv", "--resume", "-o", &scratch.path("out"), &first]);
    check(ended.stderr.as_str(), "goby: cannot resume csv; leave --resume or --format out\n");
}
