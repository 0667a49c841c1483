//! On a terminal: progress and summary are shown, result lines only if they are asked for.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::process::Stdio;

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::server::{Reply, Server};
use crate::support::{check, goby};

/// Runs `goby fetch` with standard output and error on a terminal, and returns its exit status and
/// all that was shown. Opens the server's gate as soon as `marker` is shown.
fn fetch_on_terminal(server: &Server, args: &[&str], marker: &str) -> (Option<i32>, String) {
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&controller).unwrap();
    unlockpt(&controller).unwrap();
    let name = ptsname(&controller, Vec::new()).unwrap();
    // As the controlling terminal of a process that leads a session and has none, as in a CI job,
    // it would end that process when it is closed.
    let terminal = open(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
    let stdio = || Stdio::from(terminal.try_clone().unwrap());
    let mut command = goby();
    command.arg("fetch").args(args).env("TERM", "xterm").stdout(stdio()).stderr(stdio());
    let mut child = command.spawn().unwrap();
    drop(command);
    drop(terminal);

    let mut shown = Vec::new();
    let mut reader = File::from(controller.as_fd().try_clone_to_owned().unwrap());
    let mut piece = [0; 4096];
    let mut opened = false;
    // When the last terminal end is closed, reading fails with EIO.
    while let Ok(length @ 1..) = reader.read(&mut piece) {
        shown.extend_from_slice(&piece[..length]);
        if !opened && String::from_utf8_lossy(&shown).contains(marker) {
            server.open_gate();
            opened = true;
        }
    }
    let status = child.wait().unwrap();
    (status.code(), String::from_utf8(shown).unwrap())
}

fn gated() -> Server {
    Server::start(|request| {
        request.await_gate();
        Reply::ok("fine")
    })
}

#[test]
fn a_terminal_shows_progress_and_summary_but_no_lines() {
    let server = gated();
    let urls = ["/1", "/2"].map(|path| server.url(path));
    // Requests are answered only after the line was drawn, so it must have been.
    let (code, shown) = fetch_on_terminal(&server, &[&urls[0], &urls[1]], " 0/2 ");
    check(code, Some(0));
    assert!(shown.contains("goby: 2 URLs in ") && !shown.contains("{\"url\""), "{shown}");
}

#[test]
fn lines_that_are_asked_for_are_not_mixed_with_progress() {
    let server = gated();
    server.open_gate();
    let urls = ["/1", "/2"].map(|path| server.url(path));
    let (code, shown) = fetch_on_terminal(&server, &["-o", "-", &urls[0], &urls[1]], "\0");
    check(code, Some(0));
    let lines = shown.lines().filter(|line| line.starts_with("{\"url\":") && line.ends_with('}')).count();
    check(lines, 2);
    assert!(!shown.contains(" left"), "{shown}");
}

#[test]
fn progress_that_is_never_wanted_is_not_shown() {
    let server = gated();
    server.open_gate();
    let (_, shown) = fetch_on_terminal(&server, &["--progress", "never", &server.url("/")], "\0");
    assert!(shown.starts_with("goby: 1 URL in "), "{shown}");
}
