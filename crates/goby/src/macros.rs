//! What `#[goby::main]` and `#[goby::test]` call.

use std::process::{ExitCode, Termination};
use std::thread;
use std::time::{Duration, Instant};

use goby_runtime::{DeadlockPolicy, IsolatedHost, Runtime, Stopped};

use crate::diag::LeakGuard;

/// How long a test may take that does not say it.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The options of a test, as its attribute gives them.
#[derive(Debug)]
pub struct TestOptions {
    /// Default: 60 s.
    pub timeout: Option<Duration>,
    /// Default: as for a [`Builder`](crate::Builder).
    pub workers: Option<usize>,
}

/// Runs a program's main function as the first goroutine, and reports its result where it was made:
/// it need not be `Send`.
#[track_caller]
pub fn main<R: Termination + 'static>(main: fn() -> R) -> ExitCode {
    goby_runtime::run(|| main().report())
}

/// Runs a test in a runtime of its own.
///
/// # Panics
///
/// As the test does, and for what its page lists.
#[track_caller]
pub fn test<R: Termination + 'static>(test: fn() -> R, options: TestOptions) -> ExitCode {
    let _host = IsolatedHost::new();
    // Its own leak guard looks: `GOBY_LEAKS` would report the same once more. A deadlock is told by
    // `try_run_until`; what is left when the test has ended is a leak.
    let mut builder = Runtime::builder().isolated().report_leaks(false).on_deadlock(DeadlockPolicy::Ignore);
    if let Some(n) = options.workers {
        builder = builder.workers(n);
    }
    let runtime = match builder.build() {
        Ok(runtime) => runtime,
        Err(error) => panic!("no runtime for this test: {error}"),
    };
    let timeout = options.timeout.unwrap_or(TIMEOUT);
    let leaks = LeakGuard::new();
    let code = match runtime.try_run_until(Some(Instant::now() + timeout), move || test().report()) {
        Ok(code) => code,
        Err(Stopped::Deadlock(deadlock)) => panic!("{deadlock}\n\n{}", deadlock.dump()),
        Err(Stopped::TimedOut) => {
            let dump = runtime.dump();
            // Not waited for: what keeps a worker may never give it back.
            thread::spawn(move || drop(runtime));
            panic!("the test has not ended after {timeout:?}: raise `timeout`, or see what it waits for\n\n{dump}");
        }
    };
    // In this order: goroutines that are on their way out have ended, and so have reported their
    // panics, after the check.
    let leaked = leaks.check();
    let panics = runtime.unjoined_panics();
    assert!(panics.is_empty(), "{}", panics.join("\n"));
    if let Err(leaks) = leaked {
        panic!("{leaks}");
    }
    code
}
