//! The harness: running the binary, reading its results, comparing its texts with golden files.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt::Debug;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// No child of these tests takes this long, unless it hangs, also on a machine that is busy with
/// other tests.
pub(crate) const HANG: Duration = Duration::from_secs(180);

/// The binary, not yet started, without the environment variables of this process that change what
/// it prints.
pub(crate) fn goby() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_goby"));
    command.env_remove("COLUMNS").env_remove("CLICOLOR_FORCE").env_remove("RUST_BACKTRACE").stdin(Stdio::null());
    command
}

/// The result of a child that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// A moment before it started.
    pub(crate) started: Instant,
    /// Its exit status.
    pub(crate) code: Option<i32>,
    /// All of its standard output.
    pub(crate) stdout: String,
    /// All of its standard error.
    pub(crate) stderr: String,
}

/// Runs `goby fetch` with these arguments to its end.
pub(crate) fn fetch<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Ended {
    Running::start(goby().arg("fetch").args(args)).end()
}

/// Runs `goby fetch` with this standard input to its end.
pub(crate) fn fetch_with_input<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>, input: &str) -> Ended {
    let mut child = Running::start(goby().arg("fetch").args(args).stdin(Stdio::piped()));
    let mut stdin = child.child.stdin.take().expect("it is a pipe");
    let input = input.to_string();
    let writer = thread::spawn(move || stdin.write_all(input.as_bytes()));
    let ended = child.end();
    writer.join().expect("the writer does not panic").expect("the child reads all of its input");
    ended
}

/// A running child. It is killed when this is dropped, so a failing test leaves none behind.
#[derive(Debug)]
pub(crate) struct Running {
    /// A moment before it started.
    started: Instant,
    /// The child, with a standard input if the command had one.
    pub(crate) child: Child,
    stdout: Option<BufReader<ChildStdout>>,
    stderr: Option<BufReader<ChildStderr>>,
}

impl Running {
    /// Starts the command with its output and errors piped.
    pub(crate) fn start(command: &mut Command) -> Running {
        let started = Instant::now();
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
        let stdout = child.stdout.take().map(BufReader::new);
        let stderr = child.stderr.take().map(BufReader::new);
        Running { started, child, stdout, stderr }
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("the child is there");
    }

    /// Its standard output. What a test reads here is missing from `end`.
    pub(crate) fn stdout(&mut self) -> &mut BufReader<ChildStdout> {
        self.stdout.as_mut().expect("it has not been closed")
    }

    /// Closes the reading end of its standard output.
    pub(crate) fn close_stdout(&mut self) {
        self.stdout = None;
    }

    /// Reads its standard error up to a line that contains `text`.
    pub(crate) fn await_stderr(&mut self, text: &str) {
        let stderr = self.stderr.as_mut().expect("it has not been closed");
        let mut seen = String::new();
        loop {
            let from = seen.len();
            let length = stderr.read_line(&mut seen).expect("standard error is text");
            assert!(length > 0, "standard error ended before {text:?}:\n{seen}");
            if seen[from..].contains(text) {
                return;
            }
        }
    }

    /// Waits for its end without reading its standard output.
    pub(crate) fn end_unread(&mut self) -> ExitStatus {
        self.wait(HANG)
    }

    fn wait(&mut self, hang: Duration) -> ExitStatus {
        let id = self.child.id();
        let (ended, waiting) = mpsc::channel::<()>();
        let guard = thread::spawn(move || {
            if waiting.recv_timeout(hang) == Err(mpsc::RecvTimeoutError::Timeout) {
                let pid = i32::try_from(id).ok().and_then(Pid::from_raw).expect("a child's id is one");
                // SIGABRT makes goby print its own reports, if it has any, and ends it.
                let _ = rustix::process::kill_process(pid, Signal::ABORT);
            }
        });
        let status = self.child.wait().expect("a child can be waited for");
        drop(ended);
        guard.join().expect("the guard does not panic");
        status
    }

    /// Reads everything and waits for its end.
    pub(crate) fn end(self) -> Ended {
        self.end_within(HANG)
    }

    /// The same, for a child that may take longer.
    pub(crate) fn end_within(mut self, hang: Duration) -> Ended {
        let stdout = self.stdout.take().map(read_all);
        let stderr = self.stderr.take().map(read_all);
        let status = self.wait(hang);
        let text = |reader: Option<thread::JoinHandle<String>>| {
            reader.map(|reader| reader.join().expect("output is text")).unwrap_or_default()
        };
        Ended { started: self.started, code: status.code(), stdout: text(stdout), stderr: text(stderr) }
    }
}

fn read_all(mut reader: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("output is text");
        text
    })
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One result line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line(pub(crate) Value);

impl Line {
    /// A field that is text.
    pub(crate) fn text(&self, field: &str) -> &str {
        self.0[field].as_str().unwrap_or_else(|| panic!("no text {field:?} in {}", self.0))
    }

    /// A field that is a whole number.
    pub(crate) fn number(&self, field: &str) -> u64 {
        self.0[field].as_u64().unwrap_or_else(|| panic!("no number {field:?} in {}", self.0))
    }

    /// Its error and how many attempts there were; "" means no error.
    pub(crate) fn outcome(&self) -> (&str, u64) {
        (self.0["error"].as_str().unwrap_or_default(), self.number("attempts"))
    }
}

/// Reads result lines; each must be whole and have the fields of its kind, and
/// perhaps those that only some have.
pub(crate) fn lines(output: &str) -> Vec<Line> {
    assert!(output.is_empty() || output.ends_with('\n'), "the last line is torn: {output:?}");
    output.lines().map(line).collect()
}

fn line(text: &str) -> Line {
    let value: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text:?}"));
    let extra = ["content_type", "final_url", "first_byte_ms", "headers", "line", "sha256"];
    let fields = value.as_object().expect("an object").keys().map(String::as_str);
    let fields: Vec<&str> = fields.filter(|field| !extra.contains(field)).collect();
    // In the order of serde_json's map, which is alphabetical.
    let allowed: [&[&str]; 4] = [
        &["attempts", "bytes", "ms", "status", "url"],
        &["attempts", "bytes", "file", "ms", "status", "url"],
        &["attempts", "error", "message", "url"],
        &["attempts", "error", "message", "status", "url"],
    ];
    assert!(allowed.contains(&fields.as_slice()), "fields of {text}");
    assert!(text.starts_with("{\"url\":\""), "{text}");
    Line(value)
}

/// Result lines by their URLs. Each URL must be there once.
pub(crate) fn by_url(output: &str) -> HashMap<String, Line> {
    let mut map = HashMap::new();
    for line in lines(output) {
        let url = line.text("url").to_string();
        assert!(map.insert(url.clone(), line).is_none(), "two results for {url}");
    }
    map
}

/// The SHA-256 of these bytes, in hexadecimal digits.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Fails with both texts in full if they differ.
#[track_caller]
pub(crate) fn check<T: PartialEq + Debug>(got: T, expected: T) {
    assert!(got == expected, "\n--- got ---\n{got:#?}\n--- expected ---\n{expected:#?}\n");
}

/// Compares `got` with a file of `tests/it/golden`; `UPDATE_GOLDEN=1` writes the file instead.
#[track_caller]
pub(crate) fn check_golden(name: &str, got: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, got).expect("golden files can be written");
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(got == expected, "{name} differs\n--- got ---\n{got}\n--- expected ---\n{expected}\n---");
}

/// `text` with every figure that differs from run to run replaced: numbers with a unit of time,
/// rates and ports.
pub(crate) fn masked(text: &str) -> String {
    let mut masked = String::new();
    for line in text.lines() {
        let line = if let Some((before, _)) = line.split_once(" in ").filter(|_| line.starts_with("goby: ")) {
            format!("{before} in TIME")
        } else if line.starts_with("  latency") {
            "  latency   p50 TIME, p90 TIME, p99 TIME, max TIME".to_string()
        } else if let Some((before, _)) = line.split_once(", ").filter(|_| line.starts_with("  requests")) {
            format!("{before}, RATE a second")
        } else {
            line.to_string()
        };
        masked.push_str(&line);
        masked.push('\n');
    }
    masked
}

/// A directory for one test, removed at its end.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// Makes an empty directory.
    pub(crate) fn new() -> Scratch {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("goby-cli-it-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("the temporary directory takes files");
        Scratch(dir)
    }

    /// The path of a name in it, as an argument.
    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("the temporary directory's name is text").to_string()
    }

    /// Writes a file, and returns its path.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::write(&path, content).expect("the file can be written");
        path
    }

    /// Reads a file.
    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// All files below it, as relative paths, in order.
    pub(crate) fn files(&self, below: &str) -> Vec<String> {
        let mut files = Vec::new();
        collect_files(Path::new(&self.path(below)), "", &mut files);
        files.sort();
        files
    }
}

fn collect_files(dir: &Path, prefix: &str, files: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).expect("the directory can be read") {
        let entry = entry.expect("the directory can be read");
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            collect_files(&entry.path(), &format!("{name}/"), files);
        } else {
            files.push(name);
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
