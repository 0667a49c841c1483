//! `--save`: bodies become files, whole and where they belong.

use std::fs;

use rustix::process::Signal;

use crate::server::{Reply, Server};
use crate::support::{Running, Scratch, by_url, check, fetch, goby};

#[test]
fn bodies_are_saved_under_names_that_the_results_give() {
    let server = Server::start(|request| match request.path {
        "/moved.txt" => Reply::header(301, "location: /a/b.txt"),
        "/missing.txt" => Reply::status(404),
        path => Reply::ok(path.as_bytes().repeat(30_000)),
    });
    let scratch = Scratch::new();
    let dir = scratch.path("dir");
    let paths =
        ["/a/b.txt", "/a", "/a/", "/", "/a/b.txt?c=d", "/a/b.txt?c=e", "/%2e%2e%2f%2e%2e%2fetc.txt", "/moved.txt"];
    let urls = paths.map(|path| server.url(path));
    let missing = server.url("/missing.txt");
    let ended = fetch(["--output-dir", &dir, &missing].into_iter().chain(urls.iter().map(String::as_str)));
    check(ended.code, Some(1));
    let results = by_url(&ended.stdout);
    let mut files = Vec::new();
    for (path, url) in paths.iter().zip(&urls) {
        let file = results[url].text("file");
        let body = fs::read(scratch.path(&format!("dir/{file}"))).unwrap();
        let path = if *path == "/moved.txt" { "/a/b.txt" } else { path };
        assert!(body == path.as_bytes().repeat(30_000), "{url} in {file}");
        check(results[url].number("bytes"), body.len() as u64);
        files.push(file.to_string());
    }
    check(files[0].clone(), format!("http/{}/a/b.txt", server.host()));
    check(files[7].clone(), format!("http/{}/moved.txt", server.host()));
    assert!(files[1].starts_with(&format!("http/{}/a~", server.host())), "{}", files[1]);
    // These files and no others; in particular nothing half-written.
    files.sort();
    check(scratch.files("dir"), files);
    assert!(results[&missing].0.get("file").is_none());
}

#[test]
fn a_body_that_breaks_off_is_not_saved() {
    let server = Server::start(|_| Reply::Truncated(2_000_000, vec![b'x'; 1_000_000]));
    let scratch = Scratch::new();
    let ended = fetch(["--retries", "1", "--output-dir", &scratch.path("dir"), &server.url("/a.txt")]);
    check(by_url(&ended.stdout)[&server.url("/a.txt")].outcome(), ("body", 2));
    check(scratch.files("dir"), Vec::<String>::new());
}

#[test]
fn a_body_that_is_abandoned_is_not_saved() {
    let server = Server::start(|_| Reply::Drip);
    let scratch = Scratch::new();
    let dir = scratch.path("dir");
    let child = Running::start(goby().args(["fetch", "--output-dir", &dir, &server.url("/a.txt")]));
    server.await_hits(1);
    child.signal(Signal::INT);
    check(child.end().code, Some(130));
    check(scratch.files("dir"), Vec::<String>::new());
}

#[test]
fn a_body_that_cannot_be_saved_fails_alone() {
    let server = Server::start(|_| Reply::ok("fine"));
    let scratch = Scratch::new();
    let dir = scratch.path("dir");
    // A directory of the user is where a file should be.
    fs::create_dir_all(scratch.path(&format!("dir/http/{}/a.txt", server.host()))).unwrap();
    let ended = fetch(["--output-dir", &dir, &server.url("/a.txt"), &server.url("/b.txt")]);
    check(ended.code, Some(1));
    let results = by_url(&ended.stdout);
    check(results[&server.url("/a.txt")].outcome(), ("save", 1));
    check(results[&server.url("/a.txt")].text("message"), "Is a directory");
    check(results[&server.url("/b.txt")].outcome(), ("", 1));
}

#[test]
fn what_a_killed_run_has_left_is_swept_by_the_next_one() {
    let server = Server::start(|_| Reply::ok("fine"));
    // A body that is never complete, on a connection that stays open.
    let hangs = Server::start(|_| Reply::Drip);
    let scratch = Scratch::new();
    let dir = scratch.path("dir");
    let child = Running::start(goby().args(["fetch", "-t", "1h", "--output-dir", &dir, &hangs.url("/a.txt")]));
    hangs.await_hits(1);
    child.signal(Signal::KILL);
    check(child.end().code, None);
    check(fs::read_dir(scratch.path("dir/.goby-partial")).unwrap().count(), 1);
    check(fetch(["--output-dir", &dir, &server.url("/b.txt")]).code, Some(0));
    check(scratch.files("dir"), vec![format!("http/{}/b.txt", server.host())]);
    assert!(!std::path::Path::new(&scratch.path("dir/.goby-partial")).exists());
}
