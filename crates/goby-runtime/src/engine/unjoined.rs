//! Panics of goroutines that nobody joins: printed, kept as data, and fatal if that was asked for.

use std::any::Any;
use std::collections::VecDeque;
use std::io;
use std::ptr;

use crate::base::report::{payload_text, report};
use crate::base::unseen::UnseenMutex;
use crate::engine::goroutine::{Goroutine, GoroutineId};
use crate::engine::settings::PanicPolicy;
use crate::engine::worker::Worker;

/// The number of reports that are kept: the latest ones.
const KEPT: usize = 64;

/// The variable that asks for [`PanicPolicy::Abort`] if a builder says nothing; its only value is
/// [`FATAL`].
const VARIABLE: &str = "GOBY_PANICS";
const FATAL: &str = "fatal";

/// A possible cause of a `RefCell` that is already borrowed.
const SHARED_LOCALS: &str =
    " (if it is a thread-local's: the goroutines of a worker share those, see goby::thread_locals)";

/// The unjoined panics of one runtime, each as the line that was printed.
#[derive(Default)]
pub(crate) struct Unjoined {
    kept: UnseenMutex<Kept>,
}

#[derive(Default)]
struct Kept {
    latest: VecDeque<String>,
    /// The next goroutine number when this life of the runtime began: a goroutine with a lower
    /// number is of a former life.
    first: u64,
}

impl Unjoined {
    pub(crate) fn latest(&self) -> Vec<String> {
        self.kept.lock().latest.iter().cloned().collect()
    }

    /// Begins a new life, in which no goroutine has been started.
    pub(crate) fn reset(&self) {
        *self.kept.lock() = Kept { latest: VecDeque::new(), first: GoroutineId::reserve(0) };
    }

    /// Keeps a goroutine's line, unless it is of a former life: its handle may be dropped late.
    fn keep(&self, id: GoroutineId, line: String) {
        let mut kept = self.kept.lock();
        if id.as_u64() < kept.first {
            return;
        }
        let latest = &mut kept.latest;
        if latest.len() == KEPT {
            latest.pop_front();
        }
        latest.push_back(line);
    }
}

/// Reports a panic that nobody will see, and ends the process if the runtime's policy says so.
pub(crate) fn report_panic(g: &Goroutine, payload: &(dyn Any + Send)) {
    if g.runtime.settings.checked
        && let Some(worker) = Worker::current().filter(|worker| ptr::eq(worker.shared, g.runtime))
    {
        return worker.note_unjoined(g, payload);
    }
    let message = payload_text(payload);
    let hint = if is_of_borrow(payload) { SHARED_LOCALS } else { "" };
    let line = format!(
        "goroutine {}, started at {}, panicked and nobody joined it: {message}{hint}",
        g.id, g.origin.spawned_at
    );
    report(format_args!("{line}"));
    if g.runtime.settings.panic_policy == PanicPolicy::Abort {
        std::process::abort();
    }
    g.runtime.unjoined.keep(g.id, line);
}

/// Returns the policy of a runtime whose builder names none.
///
/// # Errors
///
/// `InvalidInput` for a value of the variable that is not valid.
pub(crate) fn default_policy() -> io::Result<PanicPolicy> {
    match std::env::var_os(VARIABLE) {
        None => Ok(PanicPolicy::Print),
        Some(value) if value.is_empty() => Ok(PanicPolicy::Print),
        Some(value) if value == FATAL => Ok(PanicPolicy::Abort),
        Some(value) => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{VARIABLE}={value:?} is not {FATAL:?}: change or unset it"),
        )),
    }
}

/// Returns whether a panic says that a `RefCell` is already borrowed.
pub(crate) fn is_of_borrow(payload: &(dyn Any + Send)) -> bool {
    let text = payload_text(payload);
    text.contains("already borrowed") || text.contains("already mutably borrowed")
}
