//! `GOBY_LEAKS=fatal` in the environment: every runtime of the process is checked for leaks when it
//! ends.
//!
//! A [`Runtime`](crate::Runtime) ends when it is dropped. Every other runtime, above all the
//! default one, ends with the process. Of the goroutines that are left, those count as leaked that
//! [`leaked`](crate::leaked) returns. Source: goleak's `VerifyTestMain`.

use std::io::{self, Write as _};
use std::thread;

use crate::base::report::report;
use crate::base::unseen::UnseenOnce;
use crate::engine::runtimes;
use crate::engine::shared::Shared;
use crate::engine::threads;
use crate::look::inspect::{Status, Want};
use crate::look::leak::{LEAK_RETRIES, Leaks, find_leaks};
use crate::look::{deadlock, inspect};

/// The variable that asks for the check; its only value is [`FATAL`].
const VARIABLE: &str = "GOBY_LEAKS";
const FATAL: &str = "fatal";
/// The exit status of a process that has leaked goroutines. LeakSanitizer's number.
const EXIT_STATUS: i32 = 23;

/// Returns whether the environment asks for the check. If so, the end of the process is watched
/// from now on.
///
/// # Errors
///
/// `InvalidInput` for a value of the variable that is not valid.
pub(crate) fn is_asked_for() -> io::Result<bool> {
    match std::env::var_os(VARIABLE) {
        None => Ok(false),
        Some(value) if value.is_empty() => Ok(false),
        Some(value) if value == FATAL => {
            static WATCH: UnseenOnce<()> = UnseenOnce::new();
            // SAFETY: `at_exit` may be called when the process exits. If there is no room for it,
            // that check is left out.
            WATCH.get_or_init(|| _ = unsafe { libc::atexit(at_exit) });
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
/// [`Leaks`], with the leaked goroutines.
pub(crate) fn check(runtimes: &[&'static Shared]) -> Result<(), Leaks> {
    if runtimes.iter().all(|shared| shared.num_goroutines() == 0) {
        return Ok(());
    }
    let left = |stacks| inspect::collect(runtimes, Want { stacks, ..Want::ALL }).goroutines;
    find_leaks(left, LEAK_RETRIES, false)?;
    // A goroutine that still runs after the wait may free all others, so then there is no verdict.
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

/// Runs when `main` has returned, or `exit` was called.
extern "C" fn at_exit() {
    // If a goroutine calls `exit`, its worker could not answer.
    if threads::is_own() || deadlock::is_reported() {
        return;
    }
    let watched: Vec<_> = runtimes::alive().into_iter().filter(|shared| shared.settings.leaks_are_fatal).collect();
    // On a thread of its own: the thread-locals of this thread are gone.
    let looked = thread::Builder::new().name("goby-leaks".into()).spawn(move || check(&watched));
    if let Ok(Ok(Err(leaks))) = looked.map(thread::JoinHandle::join) {
        // An error of this write cannot be reported anywhere.
        let _ = write!(io::stderr(), "goby: when the process ended, {leaks}");
        // SAFETY: this only ends the process; std's buffers were written before.
        unsafe { libc::_exit(EXIT_STATUS) }
    }
}
