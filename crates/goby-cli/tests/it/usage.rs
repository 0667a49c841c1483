//! Help, and everything that stops a run before its first request: exit status 2, and a message
//! that says what to do.

use std::os::unix::fs::symlink;
use std::process::Command;

use crate::server::{Reply, Server};
use crate::support::{Running, Scratch, check, check_golden, fetch, goby};

#[track_caller]
fn check_refused<const N: usize>(args: [&str; N], message: &str) {
    let ended = fetch(args);
    check(ended.stderr, format!("goby: {message}\n"));
    check(ended.stdout, String::new());
    check(ended.code, Some(2));
}

#[test]
fn help_is_short_and_long() {
    for (arg, name) in [("-h", "help-short.txt"), ("--help", "help-long.txt")] {
        let ended = fetch([arg]);
        check(ended.code, Some(0));
        check(ended.stderr, String::new());
        check_golden(name, &ended.stdout);
    }
}

#[test]
fn the_command_alone_shows_its_subcommands() {
    let output = goby().output().unwrap();
    check(output.status.code(), Some(2));
    check_golden("help-goby.txt", std::str::from_utf8(&output.stderr).unwrap());
    let output = goby().arg("--version").output().unwrap();
    check(output.status.code(), Some(0));
    check(String::from_utf8(output.stdout).unwrap(), format!("goby {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn mistakes_in_options_are_told_by_name() {
    let mut told = String::new();
    for args in [
        &["--workers", "0", "http://h/"][..],
        &["--workers", "abc", "http://h/"],
        &["--rate", "-1", "http://h/"],
        &["--rate", "inf", "http://h/"],
        &["--per-host", "many", "http://h/"],
        &["--timeout", "soon", "http://h/"],
        &["-t", "-1s", "http://h/"],
        &["--total", "0s", "http://h/"],
        &["--total", "-1s", "http://h/"],
        &["--retries", "101", "http://h/"],
        &["--retries", "x", "http://h/"],
        &["--retries", "-1", "http://h/"],
        &["--progress", "often", "http://h/"],
        &["--demo", "0"],
        &["--demo", "5", "http://h/"],
        &["--demo", "5", "--input", "-"],
        &["--demo", "5", "-o", "out", "--resume"],
        &["--resume", "http://h/"],
        &["--no-such-option"],
        &["-i", "urls.txt"],
        &["-r", "5", "http://h/"],
        &["-w", "10", "http://h/"],
        &["-4", "-6", "http://h/"],
        &["--resolve", "h:80", "http://h/"],
        &["--rate", "5/x", "http://h/"],
        &["--retry-on", "404,tmeout", "http://h/"],
        &["--speed-limit", "fast", "http://h/"],
        &["-C", "500", "--output-dir", "d", "http://h/"],
        &["-C", "-", "http://h/"],
        &["--output-dir", "d", "--output-name", "{file}", "http://h/"],
        &["-H", "nonsense", "http://h/"],
        &["-u", "me", "http://h/"],
        &["--header-name", "x", "http://h/"],
    ] {
        let ended = fetch(args);
        check(ended.code, Some(2));
        check(ended.stdout, String::new());
        told.push_str(&format!("$ goby fetch {}\n{}\n", args.join(" "), ended.stderr));
    }
    check_golden("mistakes.txt", &told);
}

#[test]
fn a_run_needs_urls() {
    check_refused(
        [],
        "no URLs to fetch; name some, or a file of them with --input FILE (- is standard input) (see goby fetch -h)",
    );
}

#[test]
fn an_unreadable_input_is_told_before_any_request() {
    let scratch = Scratch::new();
    let server = Server::start(|_| Reply::ok("fine"));
    let (missing, url, out) = (scratch.path("missing.txt"), server.url("/"), scratch.path("out"));
    let advice = "name a file of URLs with --input FILE (- is standard input)";
    let message = format!("cannot read {missing}: No such file or directory; {advice}");
    check_refused(["--input", &missing, "-o", &out, &url], &message);
    // And the mistake does not empty an old output.
    check(scratch.files("."), Vec::<String>::new());
    let directory = scratch.path("");
    check_refused(["--input", &directory, &url], &format!("cannot read {directory}: is a directory; {advice}"));
    check(server.all_hits(), 0);
}

#[test]
fn an_unwritable_output_is_told_before_any_request() {
    let scratch = Scratch::new();
    let server = Server::start(|_| Reply::ok("fine"));
    let (out, url) = (scratch.path("no/such/out"), server.url("/"));
    let advice = "name another file with -o FILE, or - for standard output";
    check_refused(["-o", &out, &url], &format!("cannot write {out}: No such file or directory; {advice}"));
    let directory = scratch.path("");
    check_refused(["-o", &directory, &url], &format!("cannot write {directory}: Is a directory; {advice}"));
    check(server.all_hits(), 0);
}

#[test]
fn a_runtime_that_cannot_start_leaves_the_output_alone() {
    let scratch = Scratch::new();
    let out = scratch.write("out", "results of yesterday\n");
    for (name, value, is_no) in [
        ("GOBY_MAXPROCS", "many", "number between 1 and 1024"),
        ("GOBY_STACK", "1", "number of bytes between"),
        ("GOBY_PANICS", "yes", ""),
        ("GOBY_LEAKS", "yes", ""),
        ("GOBY_STALLS", "yes", ""),
    ] {
        let ended = Running::start(goby().env(name, value).args(["fetch", "-o", &out, "http://127.0.0.1:9/"])).end();
        let message = format!("goby: cannot start: {name}={value:?} is no");
        assert!(ended.stderr.starts_with(&message) && ended.stderr.contains(is_no), "{}", ended.stderr);
        check(ended.stderr.lines().count(), 1);
        check(ended.code, Some(2));
    }
    check(scratch.read("out"), "results of yesterday\n".to_string());
}

#[test]
fn a_directory_that_cannot_take_files_is_told_before_any_request() {
    let scratch = Scratch::new();
    let server = Server::start(|_| Reply::ok("fine"));
    let dir = format!("{}/dir", scratch.write("file", ""));
    let message =
        format!("cannot save files under {dir}: Not a directory; name another directory with --output-dir DIR");
    check_refused(["--output-dir", &dir, &server.url("/")], &message);
    check(server.all_hits(), 0);
}

#[test]
fn the_input_is_never_the_output() {
    let scratch = Scratch::new();
    let urls = scratch.write("urls", "http://127.0.0.1:9/\n");
    let link = scratch.path("link");
    symlink(&urls, &link).unwrap();
    for out in [&urls, &link] {
        let message = format!("{out} is the input and the output; name another file with -o");
        check_refused(["--input", &urls, "-o", out], &message);
        check_refused(["--input", &urls, "-o", out, "--resume"], &message);
    }
    check(scratch.read("urls"), "http://127.0.0.1:9/\n".to_string());
}

#[test]
fn more_workers_than_open_files_are_a_warning() {
    let server = Server::start(|_| Reply::ok("fine"));
    let script = "ulimit -n 100 && exec \"$0\" fetch --workers 500 -o /dev/null \"$1\"";
    let args = ["-c", script, env!("CARGO_BIN_EXE_goby"), &server.url("/")];
    let ended = Running::start(Command::new("sh").args(args)).end();
    // The number depends on how many threads there are.
    assert!(
        ended.stderr.starts_with("goby: warning: 500 workers do not fit the limit of 100 open files, so "),
        "{}",
        ended.stderr
    );
    check(ended.code, Some(0));
}
