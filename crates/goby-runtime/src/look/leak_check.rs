//! A process whose runtimes are all looked at for leaks when they end: `GOBY_LEAKS=fatal` in the
//! environment.
//!
//! A [`Runtime`](crate::Runtime) ends when it is dropped, every other one, the default one above
//! all, with the process. What counts as leaked is what [`leaked`](crate::leaked) says of all
//! goroutines that are left. Source: goleak's `VerifyTestMain`.

use std::io::{self, Write as _};
use std::sync::Once;
use std::thread;

use crate::base::report::report;
use crate::base::tsan;
use crate::engine::runtimes;
use crate::engine::shared::Shared;
use crate::engine::threads;
use crate::look::inspect::{Status, Want};
use crate::look::leak::{LEAK_RETRIES, Leaks, find_leaks};
use crate::look::{deadlock, inspect};

/// Asks for it, by the one value [`FATAL`].
const VARIABLE: &str = "GOBY_LEAKS";
const FATAL: &str = "fatal";
/// The exit status of a process that has leaked goroutines. LeakSanitizer's number.
const EXIT_STATUS: i32 = 23;

/// Whether the environment asks for it. From then on the end of the process is watched.
///
/// # Errors
///
/// `InvalidInput` for a value that is none.
pub(crate) fn is_asked_for() -> io::Result<bool> {
    match std::env::var_os(VARIABLE) {
        None => Ok(false),
        Some(value) if value.is_empty() => Ok(false),
        Some(value) if value == FATAL => {
            static WATCH: Once = Once::new();
            // ThreadSanitizer cannot see the edge inside std's.
            let _ignore = tsan::ignore();
            // SAFETY: a function that may be called when the process exits. Should there be no room
            // for it, only less is checked.
            WATCH.call_once(|| _ = unsafe { libc::atexit(at_exit) });
            Ok(true)
        }
        Some(value) => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{VARIABLE}={value:?} is not {FATAL:?}: change or unset it"),
        )),
    }
}

/// Looks at the goroutines of runtimes that are about to end.
///
/// # Blocking
///
/// The OS thread, as [`find_leaks`] does, unless no goroutine is left.
///
/// # Errors
///
/// [`Leaks`], with those that are leaked.
pub(crate) fn check(runtimes: &[&'static Shared]) -> Result<(), Leaks> {
    if runtimes.iter().all(|shared| shared.num_goroutines() == 0) {
        return Ok(());
    }
    let left = |stacks| inspect::collect(runtimes, Want { stacks, ..Want::ALL }).goroutines;
    find_leaks(left, LEAK_RETRIES, false)?;
    // It was waited for, and may free all others.
    let left = left(false);
    if let Some(running) = left.iter().find(|info| !matches!(info.status(), Status::Waiting(_))) {
        report(format_args!(
            "goroutine {}, started at {}, still runs, so whether the {} that are left are leaked was not judged",
            running.id(),
            running.started_at(),
            left.len(),
        ));
    }
    Ok(())
}

/// Runs when `main` has returned, or something has called `exit`.
extern "C" fn at_exit() {
    // By a goroutine: the worker that runs it could not answer.
    if threads::is_own() || deadlock::is_reported() {
        return;
    }
    let watched: Vec<_> = runtimes::alive().into_iter().filter(|shared| shared.settings.leaks_are_fatal).collect();
    // On a thread of its own: this one's thread-locals are gone.
    let looked = thread::Builder::new().name("goby-leaks".into()).spawn(move || check(&watched));
    if let Ok(Ok(Err(leaks))) = looked.map(thread::JoinHandle::join) {
        // There is nobody to tell that it cannot be printed.
        let _ = write!(io::stderr(), "goby: when the process ended, {leaks}");
        // SAFETY: it only ends the process; what std buffers was written before.
        unsafe { libc::_exit(EXIT_STATUS) }
    }
}
