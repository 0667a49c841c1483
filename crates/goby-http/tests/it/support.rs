//! What all tests share: runtimes of several sizes with a leak check, a watchdog, servers that stop
//! when a test ends, and servers that follow a script.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use goby::context::CancelGuard;
use goby::net::{TcpListener, TcpStream};
use goby::{Context, JoinHandle, Runtime, go, num_goroutines};
use goby_http::{Error, Handler, Request, Server};
pub(crate) use goby_test_support::{PATIENCE, pause, wait_until};

/// The minimum for "still blocked".
pub(crate) const MOMENT: Duration = Duration::from_millis(2);

/// Runs `test` as the main goroutine of runtimes with 1, 2 and 4 workers, and checks that it leaves
/// no goroutine behind.
pub(crate) fn with_workers(test: impl Fn() + Send + Sync) {
    with_each(&[1, 2, 4], test);
}

/// [`with_workers`] for tests of the goroutines of one worker.
pub(crate) fn with_one_worker(test: impl Fn() + Send + Sync) {
    with_each(&[1], test);
}

fn with_each(numbers: &[usize], test: impl Fn() + Send + Sync) {
    for &workers in numbers {
        let _watchdog = Watchdog::start(workers);
        let runtime = Runtime::builder().workers(workers).build().expect("a runtime");
        runtime.run(|| {
            let start = num_goroutines();
            test();
            wait_until("the goroutines of the test to end", || num_goroutines() <= start);
        });
    }
}

/// A context that is never done.
/// What an error says after the name of the request. Checks that the name is there, if there is
/// one.
pub(crate) fn words(error: &Error) -> String {
    let text = error.to_string();
    let Some(url) = error.url() else { return text };
    let (method, words) = text.split_once(&format!(" {url}: ")).expect("the text names the request");
    assert!(method.bytes().all(|byte| byte.is_ascii_uppercase()), "{text}");
    words.to_owned()
}

pub(crate) fn background() -> Context {
    Context::background()
}

/// A server in a goroutine of its own, shut down when dropped.
pub(crate) struct Site {
    server: Arc<Server>,
    addr: SocketAddr,
    connections: Arc<AtomicUsize>,
    cancel: Option<CancelGuard>,
    serving: Option<JoinHandle<std::io::Result<()>>>,
}

impl Site {
    pub(crate) fn start(handler: impl Handler) -> Site {
        Site::start_with(|server| server, handler)
    }

    pub(crate) fn start_with(set_up: impl FnOnce(Server) -> Server, handler: impl Handler) -> Site {
        let server = Arc::new(set_up(Server::bind("127.0.0.1:0").unwrap()));
        let serving_server = server.clone();
        let addr = server.local_addr();
        let (ctx, cancel) = Context::background().with_cancel();
        let connections = Arc::new(AtomicUsize::new(0));
        let peers = goby::sync::Mutex::new(std::collections::HashSet::new());
        let counter = connections.clone();
        let serving = go(move || {
            serving_server.serve_ctx(&ctx, move |request: Request| {
                if peers.lock().insert(request.remote_addr()) {
                    counter.fetch_add(1, Ordering::SeqCst);
                }
                handler.handle(request)
            })
        });
        Site { server, addr, connections, cancel: Some(cancel), serving: Some(serving) }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// The number of connections over which requests have come.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The number of connections that are open, as far as the server knows.
    pub(crate) fn open(&self) -> usize {
        let server = format!("{:?}", self.server);
        let (_, rest) = server.split_once("connections: ").unwrap();
        rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
    }

    /// Tells the server to stop.
    pub(crate) fn stop(&mut self) {
        self.cancel = None;
    }

    /// Closes all connections.
    pub(crate) fn close(&self) {
        self.server.close();
    }

    /// Waits until the server has stopped.
    pub(crate) fn join(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.join().expect("the server does not panic").expect("the server does not fail");
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.stop();
            self.join();
        }
    }
}

/// A server that does what `script` does with each connection, one after the other.
pub(crate) struct Script {
    addr: SocketAddr,
    cancel: Option<CancelGuard>,
    running: Option<JoinHandle<()>>,
}

impl Script {
    pub(crate) fn start(mut script: impl FnMut(usize, TcpStream) + Send + 'static) -> Script {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (ctx, cancel) = Context::background().with_cancel();
        let running = go(move || {
            listener.set_context(Some(&ctx));
            for n in 0.. {
                match listener.accept() {
                    Ok((stream, _)) => script(n, stream),
                    Err(_) => break,
                }
            }
        });
        Script { addr, cancel: Some(cancel), running: Some(running) }
    }

    #[cfg(feature = "tls")]
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.cancel = None;
            self.running.take().expect("dropped once").join().expect("the script does not panic");
        }
    }
}

/// Reads one head, up to the empty line. Empty if the other side has closed.
pub(crate) fn read_head(mut stream: impl Read) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => break,
        }
    }
    String::from_utf8(head).unwrap()
}

/// Answers one request with `body`, and keeps the connection.
pub(crate) fn answer(mut stream: impl Read + Write, body: &str) {
    assert_ne!(read_head(&mut stream), "");
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    stream.flush().unwrap();
}

/// Waits until the other side has closed the connection.
pub(crate) fn read_to_close(mut stream: impl Read) {
    let mut rest = Vec::new();
    // A reset is a close, too.
    let _ = stream.read_to_end(&mut rest);
}

/// Runs the test named `test` again, alone in a child process, and checks that it passes there.
/// Returns what the child wrote to its standard error, or `None` in the child, which then does the
/// work.
pub(crate) fn rerun_alone(test: &str) -> Option<String> {
    const CHILD: &str = "GOBY_HTTP_TEST_CHILD";
    if std::env::var(CHILD).is_ok_and(|child| child == test) {
        return None;
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, test)
        .output()
        .unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{stdout}{stderr}", output.status);
    assert!(stdout.contains("1 passed"), "the child did not run {test}");
    Some(stderr.into_owned())
}

/// Aborts the test process and names the test if a test does not end: a hang must be a failure with
/// a name.
struct Watchdog {
    /// Dropped when the test ends, which ends the watching thread.
    _alive: mpsc::Sender<()>,
}

impl Watchdog {
    fn start(workers: usize) -> Watchdog {
        let (alive, ended) = mpsc::channel::<()>();
        let test = thread::current().name().unwrap_or("unnamed").to_owned();
        let limit = std::env::var("GOBY_TEST_LIMIT").ok().and_then(|seconds| seconds.parse().ok());
        let limit = Duration::from_secs(limit.unwrap_or(150));
        thread::spawn(move || {
            if ended.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
                eprintln!("watchdog: {test} with {workers} workers has not ended after {limit:?}");
                std::process::abort();
            }
        });
        Watchdog { _alive: alive }
    }
}

/// Runs curl, and returns what it prints. It fails if curl does.
pub(crate) fn curl(args: &[&str]) -> String {
    let (success, output) = ask_curl(args);
    assert!(success, "curl {args:?}: {output}");
    output
}

/// Runs curl, which has to fail, and returns what it prints.
#[cfg(any(feature = "http2", feature = "tls"))]
pub(crate) fn curl_fails(args: &[&str]) -> String {
    let (success, output) = ask_curl(args);
    assert!(!success, "curl {args:?}: {output}");
    output
}

fn ask_curl(args: &[&str]) -> (bool, String) {
    output("curl", &[&["-sS", "--max-time", "60"], args].concat())
}

/// Runs a program, which has to succeed, and returns what it prints.
#[cfg(any(feature = "http2", feature = "tls"))]
pub(crate) fn run(program: &str, args: &[&str]) -> String {
    let (success, output) = output(program, args);
    assert!(success, "{program} {args:?}: {output}");
    output
}

/// Returns whether a program succeeded, and what it printed; its errors only if it did not.
fn output(program: &str, args: &[&str]) -> (bool, String) {
    let output = goby::process::Command::new(program).args(args).output().unwrap();
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        text.push_str(&String::from_utf8_lossy(&output.stderr));
    }
    (output.status.success(), text)
}
