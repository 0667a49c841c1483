//! What requests ask: options as for curl, and lines of JSON.

use std::process::Command;

use crate::server::{Reply, Server};
use crate::support::{Running, Scratch, by_url, check, fetch, fetch_with_input, goby, lines};

fn echo() -> Server {
    Server::start(|_| Reply::ok("fine"))
}

/// Runs `goby fetch` and curl with the same options, and compares what the server got.
#[track_caller]
fn check_as_curl(server: &Server, args: &[&str], headers: &[&str]) {
    let seen = || {
        let head = server.last_head();
        let values: Vec<String> = headers.iter().map(|name| server.last_header(name)).collect();
        (head[0].clone(), values, server.last_body())
    };
    let url = server.url("/page");
    let ended = fetch(["-o", "-"].iter().chain(args).chain([&&*url]));
    check((ended.code, ended.stderr.contains("warning")), (Some(0), false));
    let by_goby = seen();
    let curl = Command::new("curl").args(["-s", "-o", "/dev/null"]).args(args).arg(&url).output().expect("curl");
    assert!(curl.status.success(), "{curl:?}");
    check((args, by_goby), (args, seen()));
}

#[test]
fn options_of_requests_do_what_curls_do() {
    let server = echo();
    let scratch = Scratch::new();
    let file = scratch.write("data", "a=1\r\nb=2\n");
    let headers = scratch.write("headers", "x-one: 1\nx-two: 2\n");
    let (at_file, at_headers) = (format!("@{file}"), format!("@{headers}"));
    for (args, headers) in [
        (&["-H", "x-a: b:c", "-H", "X-Empty;"][..], &["x-a", "x-empty"][..]),
        (&["-H", &at_headers], &["x-one", "x-two"]),
        (&["-A", "tester/1"], &["user-agent"]),
        (&["-H", "User-Agent:"], &["user-agent"]),
        (&["-H", "user-agent: other"], &["user-agent"]),
        (&["-e", "http://from.example/"], &["referer"]),
        (&["-X", "DELETE"], &[]),
        (&["-d", "a=1", "--data", "b=2"], &["content-type", "content-length"]),
        (&["-d", &at_file], &["content-type"]),
        (&["--data-binary", &at_file, "-H", "content-type: text/plain"], &["content-type"]),
        (&["--data-raw", "@as it is"], &["content-type"]),
        (&["-X", "PUT", "-d", "x"], &["content-type"]),
        (&["--json", "{\"a\":1}"], &["content-type", "accept"]),
        (&["-u", "Aladdin:open sesame"], &["authorization"]),
        (&["-b", "a=1; b=2"], &["cookie"]),
    ] {
        check_as_curl(&server, args, headers);
    }
}

#[test]
fn a_head_has_no_body() {
    let server = echo();
    let ended = fetch(["--head", &server.url("/")]);
    let line = &lines(&ended.stdout)[0];
    check((line.number("status"), line.number("bytes")), (200, 0));
    check(server.last_head()[0].as_str(), "HEAD / HTTP/1.1");
}

#[test]
fn a_directory_is_no_data() {
    let server = echo();
    let scratch = Scratch::new();
    let dir = scratch.path("");
    let ended = fetch(["-d", &dir, &server.url("/")]);
    let hint = format!("goby: -d sends data, as curl's; to save bodies in {dir}, write --output-dir {dir} (to send");
    assert!(ended.stderr.starts_with(&hint), "{}", ended.stderr);
    check((ended.code, server.all_hits()), (Some(2), 0));
    let ended = fetch(["--data-raw", &dir, &server.url("/")]);
    check((ended.code, server.last_body()), (Some(0), dir));
}

#[test]
fn lines_of_json_are_requests_of_their_own() {
    let server = echo();
    let url = |path| server.url(path);
    let input = format!(
        "{}\n{{\"url\":{:?},\"method\":\"PUT\",\"headers\":{{\"x-a\":\"1\"}},\"body\":{{\"b\":2}}}}\n{{\"url\":{:?},\"bdoy\":1}}\n",
        url("/plain"),
        url("/put"),
        url("/wrong"),
    );
    let ended = fetch_with_input(["--input", "-", "--workers", "1", "-H", "x-a: all", "-H", "x-c: 3"], &input);
    check(ended.code, Some(1));
    let results = by_url(&ended.stdout);
    check(results[&url("/put")].number("line"), 2);
    check(results[&url("/plain")].0.get("line").is_none(), true);
    let wrong = &results[&url("/wrong")];
    check(wrong.outcome(), ("invalid_url", 0));
    check(wrong.text("message"), "line 3: a field \"bdoy\"; those of a request are url, method, headers and body");
    check(server.last_head()[0].as_str(), "PUT /put HTTP/1.1");
    check(
        ["x-a", "x-c", "content-type"].map(|name| server.last_header(name)),
        ["1", "3", "application/json"].map(str::to_string),
    );
    check(server.last_body(), "{\"b\":2}".to_string());
}

#[test]
fn requests_of_one_url_are_resumed_by_their_lines() {
    let server = Server::start(|request| if request.hit == 2 { Reply::status(404) } else { Reply::ok("fine") });
    let scratch = Scratch::new();
    let line = |n: u8| format!("{{\"url\":{:?},\"body\":\"{n}\"}}\n", server.url("/"));
    let urls = scratch.write("urls", (1..=3).map(line).collect::<String>());
    let out = scratch.path("out");
    let args = ["--input", &*urls, "-o", &out, "--workers", "1", "--resume"];
    check(fetch(args).code, Some(1));
    check((fetch(args).code, server.all_hits()), (Some(0), 4));
    check(server.last_body(), "2".to_string());
}

#[test]
fn secrets_stay_with_their_origin_and_out_of_results() {
    let other = echo();
    let target = other.url("/there");
    let server = Server::start(move |request| match request.path {
        "/away" => Reply::header(302, &format!("location: {target}")),
        "/near" => Reply::header(302, "location: /here"),
        _ => Reply::ok("fine"),
    });
    let scratch = Scratch::new();
    let out = scratch.path("out");
    let args = ["-o", &*out, "-u", "me:topsecret", "-b", "session=topsecret", "-H", "x-kept: yes"];
    let ended = fetch(args.iter().copied().chain([&*server.url("/near")]));
    check(server.last_header("cookie"), "session=topsecret".to_string());
    check(server.last_header("authorization").is_empty(), false);
    assert!(!format!("{}{}", ended.stderr, scratch.read("out")).contains("topsecret"));
    fetch(args.iter().copied().chain([&*server.url("/away")]));
    check(
        ["cookie", "authorization", "x-kept"].map(|name| other.last_header(name)),
        ["", "", "yes"].map(str::to_string),
    );
}

#[test]
fn a_post_becomes_a_get_unless_its_redirect_keeps_it() {
    let server = Server::start(|request| match request.path {
        "/303" => Reply::header(303, "location: /there"),
        "/307" => Reply::header(307, "location: /there"),
        _ => Reply::ok("fine"),
    });
    fetch(["-d", "a=1", &server.url("/303")]);
    check((server.last_head()[0].as_str(), server.last_body().as_str()), ("GET /there HTTP/1.1", ""));
    fetch(["-d", "a=1", &server.url("/307")]);
    check((server.last_head()[0].as_str(), server.last_body().as_str()), ("POST /there HTTP/1.1", "a=1"));
}

#[test]
fn a_post_that_the_server_may_have_had_is_not_repeated() {
    let server = Server::start(|request| match request.path {
        "/busy" if request.hit < 3 => Reply::status(503),
        "/broken" => Reply::Close,
        "/failed" => Reply::status(500),
        _ => Reply::ok("fine"),
    });
    let urls = ["/busy", "/broken", "/failed"].map(|path| server.url(path));
    fetch(["-d", "a=1"].into_iter().chain(urls.iter().map(String::as_str)));
    check(["/busy", "/broken", "/failed"].map(|path| server.hits(path)), [3, 1, 1]);
    fetch(["-d", "a=1", "-H", "idempotency-key: 7", &server.url("/broken")]);
    check(server.hits("/broken"), 4);
}

#[test]
fn names_and_passwords_come_from_a_netrc_file() {
    let server = echo();
    let scratch = Scratch::new();
    let file = scratch.write("netrc", "machine 127.0.0.1 login me password secret\n");
    check_as_curl(&server, &["--netrc-file", &file], &["authorization"]);
    check_as_curl(&server, &["--netrc-file", &file, "-u", "other:word"], &["authorization"]);
    let ended = Running::start(goby().env("NETRC", &file).args(["fetch", "-n", &server.url("/")])).end();
    check((ended.code, server.last_header("authorization")), (Some(0), "Basic bWU6c2VjcmV0".to_string()));
    let missing = scratch.path("missing");
    let ended = fetch(["--netrc-file", &missing, &server.url("/")]);
    check(ended.stderr, format!("goby: cannot read {missing}: No such file or directory\n"));
}

#[test]
fn cookies_are_kept_and_written_as_curls() {
    let server = Server::start(|request| match request.path {
        "/login" => Reply::header(302, "set-cookie: user=me; Max-Age=3600; Path=/\r\nlocation: /home"),
        _ => Reply::ok("fine"),
    });
    let scratch = Scratch::new();
    let jar = scratch.path("jar");
    check(fetch(["-c", &jar, &server.url("/login")]).code, Some(0));
    check(server.last_header("cookie"), "user=me".to_string());
    // curl reads what goby has written, and the other way round.
    Command::new("curl").args(["-s", "-b", &jar, &server.url("/")]).output().expect("curl");
    check(server.last_header("cookie"), "user=me".to_string());
    let curls = scratch.path("curls");
    Command::new("curl").args(["-s", "-c", &curls, &server.url("/login")]).output().expect("curl");
    check(fetch(["-b", &curls, &server.url("/again")]).code, Some(0));
    check(server.last_header("cookie"), "user=me".to_string());
    let wrong = scratch.write("wrong", "no cookies\n");
    let ended = fetch(["-b", &wrong, &server.url("/")]);
    check(ended.stderr, format!("goby: cannot read cookies from {wrong}: line 1 is no cookie of a cookies.txt\n"));
}

#[test]
fn compressed_bodies_are_asked_for_and_taken_apart() {
    // "in parts", by gzip.
    const GZIP: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xcb\xcc\x53\x28\x48\x2c\x2a\x29\x06\x00\x94\x06\xc1\xd9\x08\x00\x00\x00";
    let server = Server::start(|request| match request.header("accept-encoding").contains("gzip") {
        true => Reply::Response(200, vec!["content-encoding: gzip".to_string()], GZIP.to_vec()),
        false => Reply::ok("in parts"),
    });
    let scratch = Scratch::new();
    let dir = scratch.path("dir");
    for option in [&["--compressed"][..], &[]] {
        let ended = fetch(option.iter().copied().chain(["--output-dir", &dir, &server.url("/a.txt")]));
        let line = &lines(&ended.stdout)[0];
        check(line.number("bytes"), 8);
        check(scratch.read(&format!("dir/{}", line.text("file"))), "in parts".to_string());
        check(server.last_header("accept-encoding").is_empty(), option.is_empty());
    }
}
