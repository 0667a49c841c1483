//! The runtimes of the process, for code that looks at all of them.

use std::ptr;

use crate::base::unseen::UnseenMutex;
use crate::engine::shared::Shared;
use crate::engine::threads;

/// The runtimes of the process in which anything may run: each may unpark goroutines of another. A
/// runtime that was shut down stays until its workers have stopped, the items that never ran are
/// gone, and its blocking calls have returned.
static RUNTIMES: UnseenMutex<Vec<&'static Shared>> = UnseenMutex::new(Vec::new());

/// Makes a runtime known.
pub(crate) fn register(shared: &'static Shared) {
    let mut runtimes = RUNTIMES.lock();
    runtimes.push(shared);
    threads::note_change();
}

/// Forgets a runtime that was shut down, and in which nothing will run any more.
pub(crate) fn forget(shared: &'static Shared) {
    RUNTIMES.lock().retain(|other| !ptr::eq(*other, shared));
    if !has_monitors() {
        // These threads relied on a monitor.
        threads::waiting().iter().for_each(|parker| parker.look_again());
    }
}

/// Returns the runtimes that have not been shut down.
pub(crate) fn alive() -> Vec<&'static Shared> {
    RUNTIMES.lock().iter().copied().filter(|runtime| !runtime.is_shut_down()).collect()
}

/// Returns all runtimes in the list.
pub(crate) fn all() -> Vec<&'static Shared> {
    RUNTIMES.lock().clone()
}

/// Makes sleeping monitors look again: the thing that kept them from a verdict may have ended,
/// though no worker has woken. The caller has ended it before this call. A monitor that lists the
/// runtimes after this call sees that, and a monitor that has listed them before is told.
pub(crate) fn look_again() {
    for runtime in RUNTIMES.lock().iter() {
        runtime.monitor.look_again();
    }
}

/// Returns whether there are monitors, which look for deadlocks.
pub(crate) fn has_monitors() -> bool {
    RUNTIMES.lock().iter().any(|runtime| !runtime.is_shut_down())
}
