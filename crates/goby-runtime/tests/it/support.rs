//! What all tests share: runtimes of several sizes with a leak check, bounded polling, a watchdog, and child processes for
//! tests of what ends a process.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Output};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use goby_runtime::{Gate, Runtime, WaitReason, Waited, num_goroutines, sleep_until, yield_now};

/// How long a test may wait for what must happen. Generous: it only decides when a hang is called a hang.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Runs `test` as the main goroutine of runtimes with 1, 2 and 4 workers, and checks that it leaves no goroutine behind.
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

pub(crate) fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().expect("a runtime")
}

/// Polls until `condition` holds, giving way to others in between. For what nothing tells, such as a count.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    for round in 0u32.. {
        if condition() {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        if round < 100 {
            yield_now();
        } else {
            pause(Duration::from_millis(1));
        }
    }
}

/// Parks the calling goroutine or thread for at least `time`: the minimum of a negative check.
pub(crate) fn pause(time: Duration) {
    sleep_until(goby_runtime::now() + time);
}

/// A door that is shut until somebody opens it for good: the simplest thing to park on.
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
        let waited = self.0.wait(WaitReason::CondWait, None, |open, _| if *open { Err(()) } else { Ok(0) });
        assert_ne!(waited, Waited::TimedOut);
    }

    pub(crate) fn has_waiters(&self) -> bool {
        self.0.with(|_, waiters| !waiters.is_empty())
    }
}

/// Aborts the test process, naming the test, when a test does not end: a hang must be a failure with a name. The time can be
/// set in seconds by `GOBY_TEST_LIMIT`, for a debugger.
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

/// Which test a child process runs the body of.
const CHILD: &str = "GOBY_TEST_CHILD";

/// Runs `body` in a child process and gives what became of it. `test` is the full name of the calling test, which the child
/// runs again, to come here and into `body`. A child whose body returns ends with exit code 0.
pub(crate) fn in_child(test: &str, body: impl FnOnce()) -> Output {
    in_child_with(test, &[], body)
}

/// The same with further variables in the child's environment.
pub(crate) fn in_child_with(test: &str, variables: &[(&str, &str)], body: impl FnOnce()) -> Output {
    if std::env::var(CHILD).is_ok_and(|child| child == test) {
        alone(body);
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, test)
        .env("RUST_BACKTRACE", "0")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.contains("running 1 test"), "the child did not run {test}: {stdout}");
    output
}

/// Runs `body` in a process with no thread but the calling one: libtest's own would keep deadlocks from being seen.
fn alone(body: impl FnOnce()) -> ! {
    // SAFETY: the other thread of this process is libtest's, which waits for this one and holds no lock meanwhile.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: these only set the process's timer, which ends a hang, and that it ends with its parent.
        unsafe {
            libc::alarm(120);
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        }
        let ended = catch_unwind(AssertUnwindSafe(body));
        std::process::exit(if ended.is_ok() { 0 } else { 101 });
    }
    let mut status = 0;
    // SAFETY: `status` is a place to write to, and `child` our child.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    if libc::WIFSIGNALED(status) {
        let signal = libc::WTERMSIG(status);
        // SAFETY: this ends the process, as the signal ended the child.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
        }
    }
    std::process::exit(libc::WEXITSTATUS(status));
}

/// The standard error of a child.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
