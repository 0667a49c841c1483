//! The runtimes of the process, for whoever looks at all of them.

use std::ptr;

use parking_lot::Mutex;

use crate::base::tsan;
use crate::engine::shared::Shared;
use crate::engine::threads;

/// The runtimes of the process in which anything may run: one may unpark the other's goroutines.
/// One that was shut down stays until its workers have stopped, what never ran is gone, and its
/// blocking calls have returned. Always locked under `tsan::ignore`: a lock that only some ignore
/// is handed over from those to the others without an edge.
static RUNTIMES: Mutex<Vec<&'static Shared>> = Mutex::new(Vec::new());

/// Makes a runtime known.
pub(crate) fn register(shared: &'static Shared) {
    let _ignore = tsan::ignore();
    RUNTIMES.lock().push(shared);
    threads::note_change();
}

/// Forgets a runtime that was shut down, and in which nothing will run any more.
pub(crate) fn forget(shared: &'static Shared) {
    let _ignore = tsan::ignore();
    RUNTIMES.lock().retain(|other| !ptr::eq(*other, shared));
    if !has_monitors() {
        // They relied on one.
        threads::waiting().iter().for_each(|parker| parker.look_again());
    }
}

/// Those that have not been shut down.
pub(crate) fn alive() -> Vec<&'static Shared> {
    let _ignore = tsan::ignore();
    RUNTIMES.lock().iter().copied().filter(|runtime| !runtime.is_shut_down()).collect()
}

/// All of them.
pub(crate) fn all() -> Vec<&'static Shared> {
    let _ignore = tsan::ignore();
    RUNTIMES.lock().clone()
}

/// Has monitors that sleep look again: what they have found may have ended, where no worker has
/// woken. Who calls has ended it before: a monitor that lists the runtimes after this sees that,
/// and one that has listed them before is told.
pub(crate) fn look_again() {
    let _ignore = tsan::ignore();
    for runtime in RUNTIMES.lock().iter() {
        runtime.monitor.look_again();
    }
}

/// Whether there are monitors, which look for deadlocks.
pub(crate) fn has_monitors() -> bool {
    RUNTIMES.lock().iter().any(|runtime| !runtime.is_shut_down())
}
