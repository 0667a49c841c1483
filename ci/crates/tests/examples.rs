//! Runs every example as its user would, and asks it by curl.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

/// A server in a process of its own, on a port that the system chooses.
struct Server {
    process: Child,
    stdout: BufReader<ChildStdout>,
    url: String,
}

impl Server {
    fn start(program: &str) -> Server {
        Server::start_with(program, &[])
    }

    fn start_with(program: &str, args: &[&Path]) -> Server {
        let mut command = Command::new(program);
        let mut process =
            command.arg("127.0.0.1:0").args(args).stdout(Stdio::piped()).spawn().expect("cargo has built it");
        let mut stdout = BufReader::new(process.stdout.take().expect("it is piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("it prints where it listens");
        let url = line.trim().rsplit(' ').next().expect("split gives something").to_owned();
        assert!(url.starts_with("http://127.0.0.1:"), "{line:?} ends with an address");
        Server { process, stdout, url }
    }

    /// Begins a request, whose answer `finish` gives.
    fn begin(&self, path: &str, options: &[&str]) -> Child {
        let mut curl = Command::new("curl");
        // So that a missing answer fails the test instead of hanging it.
        curl.args(["--silent", "--show-error", "--max-time", "60", "--noproxy", "*"]);
        curl.args(options).arg(format!("{}{path}", self.url));
        curl.stdout(Stdio::piped()).spawn().expect("ci/setup.sh has installed it")
    }

    fn ask(&self, path: &str, options: &[&str]) -> String {
        finish(self.begin(path, options))
    }

    /// Interrupts the server, waits until it has ended, and returns what it has printed meanwhile.
    fn stop(mut self) -> String {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().expect("there is a kill").success());
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).expect("it ends");
        assert!(self.process.wait().expect("it is ours").success());
        rest
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended if the test has passed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn finish(curl: Child) -> String {
    let Output { status, stdout, .. } = curl.wait_with_output().expect("it is ours");
    assert!(status.success(), "curl: {status}");
    String::from_utf8(stdout).expect("it answers in UTF-8")
}

#[test]
fn axum() {
    let mut server = Server::start(env!("CARGO_BIN_EXE_axum"));
    let version = ["--write-out", "%{http_version}"];
    assert_eq!(server.ask("/hello/gopher", &version), "Hello, gopher!\n1.1");
    assert_eq!(
        server.ask("/hello/gopher", &[&version[..], &["--http2-prior-knowledge"]].concat()),
        "Hello, gopher!\n2"
    );
    assert_eq!(server.ask("/sum", &["--json", "[1, 2.5, -0.5]"]), "3.0");
    assert_eq!(server.ask("/nothing", &["--write-out", "%{http_code}"]), "404");
    let slow = server.begin("/slow", &[]);
    let mut line = String::new();
    server.stdout.read_line(&mut line).expect("it says what it does");
    assert_eq!(line, "slow begins\n");
    // The request that has begun gets its answer.
    assert_eq!(server.stop(), "bye\n");
    assert_eq!(finish(slow), "done\n");
}

#[test]
fn store() {
    let folder = std::env::temp_dir().join(format!("goby-store-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("there is room");
    let file = folder.join("notes.db");
    let status = ["--write-out", "%{http_code}"];

    let server = Server::start_with(env!("CARGO_BIN_EXE_store"), &[&file]);
    let add = |note: &str| server.ask("/notes", &["--json", note]);
    assert_eq!(add(r#"{"text": "so long, and thanks"}"#), "{\"id\":1}\n");
    assert_eq!(add(r#"{"text": 7}"#), "{\"error\":\"a note has a text\"}\n");
    assert_eq!(server.ask("/notes/2", &status), "{\"error\":\"no such note\"}\n404");
    // No more than twenty at once: these three, and some of the next.
    let codes: Vec<_> = (0..40).map(|_| server.ask("/", &["--output", "/dev/null", status[0], status[1]])).collect();
    assert!(codes[..17].iter().all(|code| code == "404"), "{codes:?}");
    assert!(codes.iter().any(|code| code == "429"), "{codes:?}");
    assert_eq!(server.stop(), "bye\n");

    // The job of the note was finished before the end.
    let server = Server::start_with(env!("CARGO_BIN_EXE_store"), &[&file]);
    assert_eq!(server.ask("/notes/1", &[]), "{\"id\":1,\"text\":\"so long, and thanks\",\"words\":4}\n");
    assert_eq!(server.stop(), "bye\n");
    std::fs::remove_dir_all(&folder).expect("it is ours");
}
