//! What all tests share: runtimes of several sizes with a leak check, bounded polling, and a
//! watchdog.

use std::io::Read;
use std::os::fd::AsRawFd;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

pub(crate) use goby_test_support::{PATIENCE, in_child, in_child_with, pause, stderr, wait_until};

use goby_runtime::{Decision, Gate, Runtime, WaitReason, Waited, num_goroutines};

/// Runs `test` as the main goroutine of runtimes with 1, 2 and 4 workers, and checks that it leaves
/// no goroutine behind.
pub(crate) fn with_workers(test: impl Fn() + Send + Sync) {
    for workers in [1, 2, 4] {
        on_workers(workers, &test);
    }
}

/// Runs `test` on one runtime with `workers` workers.
pub(crate) fn on_workers(workers: usize, test: impl Fn() + Send + Sync) {
    let _watchdog = Watchdog::start(workers);
    runtime(workers).run(|| {
        assert_eq!(num_goroutines(), 1);
        test();
        wait_until("the goroutines of the test to end", || num_goroutines() == 1);
    });
}

/// A runtime that may end with goroutines parked forever.
pub(crate) fn leaky_runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).report_leaks(false).build().expect("a runtime")
}

pub(crate) fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().expect("a runtime")
}

/// Runs `body` in a child, and waits until any thread has printed `part` to the standard error.
pub(crate) fn printed_until(part: &str, body: impl FnOnce()) {
    let (mut reader, writer) = std::io::pipe().unwrap();
    // SAFETY: the descriptors belong to this function; nobody prints meanwhile.
    let before = unsafe { (libc::dup(libc::STDERR_FILENO), libc::dup2(writer.as_raw_fd(), libc::STDERR_FILENO)).0 };
    body();
    let mut text = Vec::new();
    while !String::from_utf8_lossy(&text).contains(part) {
        let mut piece = [0; 4096];
        let n = reader.read(&mut piece).unwrap();
        text.extend_from_slice(&piece[..n]);
    }
    // SAFETY: as above.
    unsafe { libc::dup2(before, libc::STDERR_FILENO) };
    eprint!("{}", String::from_utf8(text).unwrap());
}

/// A door that is shut until it is opened forever: the simplest object to park on.
pub(crate) struct Door(Gate<bool>);

impl Door {
    pub(crate) const fn new() -> Self {
        Door(Gate::new(false))
    }

    pub(crate) fn open(&self) {
        self.0.with(|open, waiters| {
            *open = true;
            waiters.unpark_all(0);
        });
    }

    /// Parks until the door is open.
    pub(crate) fn pass(&self) {
        let waited = self.0.wait(WaitReason::CondWait, None, |open, _| Decision::ready_if(*open));
        assert_ne!(waited, Waited::TimedOut);
    }

    pub(crate) fn has_waiters(&self) -> bool {
        self.0.with(|_, waiters| !waiters.is_empty())
    }
}

/// Aborts the test process and names the test if a test does not end: a hang must be a failure with
/// a name. The time can be set in seconds by `GOBY_TEST_LIMIT`, for a debugger.
struct Watchdog {
    /// Dropped when the test ends, which ends the watching thread.
    _alive: mpsc::Sender<()>,
}

impl Watchdog {
    fn start(workers: usize) -> Self {
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
