//! The functions that `#[goby::main]` and `#[goby::test]` call.

use std::process::{ExitCode, Termination};
use std::thread;
use std::time::{Duration, Instant};

use goby_runtime::{DeadlockPolicy, IsolatedHost, Runtime, Stopped};

use crate::diag::LeakGuard;

/// How long a test may take if it does not say so itself.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The options of a test, as its attribute gives them.
#[derive(Debug)]
pub struct TestOptions {
    /// Default: 60 s.
    pub timeout: Option<Duration>,
    /// Default: as for a [`Builder`](crate::Builder).
    pub workers: Option<usize>,
}

/// Runs a program's main function as the first goroutine. It reports the result on the thread where
/// that was made, so the result need not be `Send`.
#[track_caller]
pub fn main<R: Termination + 'static>(main: fn() -> R) -> ExitCode {
    goby_runtime::run(|| main().report())
}

/// Runs a test in a runtime of its own.
///
/// # Panics
///
/// If the test panics, and in the cases that the page of the attribute lists.
#[track_caller]
pub fn test<R: Termination + 'static>(test: fn() -> R, options: TestOptions) -> ExitCode {
    let _host = IsolatedHost::new();
    // The test's own leak guard looks: `GOBY_LEAKS` would report the same once more.
    // `try_run_until` reports a deadlock. A goroutine that is left when the test has ended is a
    // leak.
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
            // Do not wait for it: a goroutine that keeps a worker may never give it back.
            thread::spawn(move || drop(runtime));
            panic!("the test has not ended after {timeout:?}: raise `timeout`, or see what it waits for\n\n{dump}");
        }
    };
    // In this order: after the check, goroutines that were on their way out have ended, and so have
    // reported their panics.
    let leaked = leaks.check();
    let panics = runtime.unjoined_panics();
    assert!(panics.is_empty(), "{}", panics.join("\n"));
    if let Err(leaks) = leaked {
        panic!("{leaks}");
    }
    code
}
