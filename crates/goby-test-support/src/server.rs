//! Example programs that serve, each in a process of its own.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use crate::PATIENCE;

/// A server in a process of its own, on a port that the system chooses. It ends with this.
#[derive(Debug)]
pub struct Server {
    process: Child,
    /// What it prints after the line that says where it listens.
    pub stdout: BufReader<ChildStdout>,
    /// Where it listens, as it says at the end of that line: an address, or a URL.
    pub place: String,
}

impl Server {
    /// Starts a program with the address to listen at, and further arguments.
    pub fn start(program: &str, args: &[&str]) -> Server {
        let mut command = Command::new(program);
        let mut process =
            command.arg("127.0.0.1:0").args(args).stdout(Stdio::piped()).spawn().expect("cargo has built it");
        let mut stdout = BufReader::new(process.stdout.take().expect("it is piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("it prints where it listens");
        let place = line.trim().rsplit(' ').next().expect("split gives something").to_owned();
        let server = Server { process, stdout, place };
        assert!(server.addr().starts_with("127.0.0.1:"), "{line:?} ends with an address");
        server
    }

    /// The address of `place`.
    pub fn addr(&self) -> &str {
        self.place.strip_prefix("http://").unwrap_or(&self.place)
    }

    /// Connects to it.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr()).expect("it listens");
        // So that a missing answer fails the test instead of hanging it.
        stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
        stream
    }

    /// Begins a request by curl, whose answer `finish` gives.
    pub fn begin(&self, path: &str, options: &[&str]) -> Child {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--noproxy", "*", "--max-time", &PATIENCE.as_secs().to_string()]);
        curl.args(options).arg(format!("{}{path}", self.place));
        curl.stdout(Stdio::piped()).spawn().expect("ci/setup.sh has installed it")
    }

    /// The answer to a request by curl.
    pub fn ask(&self, path: &str, options: &[&str]) -> String {
        finish(self.begin(path, options))
    }

    /// Sends it SIGINT.
    pub fn interrupt(&self) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().expect("there is a kill").success());
    }

    /// Waits until it has ended well, and returns what it has printed meanwhile.
    pub fn wait(mut self) -> String {
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

/// The answer that curl has got.
pub fn finish(curl: Child) -> String {
    let Output { status, stdout, .. } = curl.wait_with_output().expect("it is ours");
    assert!(status.success(), "curl: {status}");
    String::from_utf8(stdout).expect("it answers in UTF-8")
}
