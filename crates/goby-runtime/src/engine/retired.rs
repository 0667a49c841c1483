//! Runtimes that were dropped, and wait for the next one of the same configuration.
//!
//! The memory that the workers of a runtime share ([`Shared`], `Remote`) is never freed, because
//! some thread may still be about to touch it. A count of all such threads would cost every unpark
//! an atomic update. So this memory keeps its type forever, and a later runtime uses it again. That
//! runtime has the same configuration, since the configuration is read without a lock. A program
//! that starts and drops runtimes has as many `Shared` as it had runtimes at once, per
//! configuration.
//!
//! A dropped runtime is used again when nothing of it is left: all of its goroutines and futures
//! have ended or were canceled, it has no helper thread, no timer runs, no socket is registered.
//! Some things may still refer to it then, but do no harm to its next life:
//!
//! - The handle of a goroutine that has ended reads the panic policy, which is the same. A panic
//!   that it reports is not kept among those of the next life.
//! - A timer that does not run starts in the next life. If it was made on a spare worker that the
//!   next life does not have, `orphans` fires it.
//! - A socket that was registered registers again, since the poller has another life.
//! - A thread that owes a wake-up wakes a worker for nothing, or finds the poller closed.
//! - A thread that has queued something, and finds that it came too late: [`Shared::drain`] asks
//!   again, under the lock that a new life begins under.
//! - A look at all goroutines, or for a deadlock, sees the next life. Its workers answer questions
//!   that came too late for the former ones.

use std::collections::VecDeque;

use parking_lot::Mutex;

use crate::base::stack::Pool;
use crate::engine::settings::Settings;
use crate::engine::shared::Shared;

/// How many are looked at for one that fits. Those that have other configurations, or are not over
/// yet, go to the end.
const LOOKED_AT: usize = 16;

static RETIRED: Mutex<VecDeque<&'static Shared>> = Mutex::new(VecDeque::new());

/// Keeps a runtime whose threads, except helpers, have all ended, and which left no goroutine
/// behind.
pub(crate) fn keep(shared: &'static Shared) {
    // ThreadSanitizer would compare one life with the next.
    if Pool::REUSES {
        RETIRED.lock().push_back(shared);
    }
}

/// Takes a runtime that was made with the same settings, and of which nothing is left.
pub(crate) fn take(settings: &Settings) -> Option<&'static Shared> {
    let mut retired = RETIRED.lock();
    for _ in 0..retired.len().min(LOOKED_AT) {
        let shared = retired.pop_front()?;
        if shared.settings == *settings && shared.is_left_by_all() {
            return Some(shared);
        }
        retired.push_back(shared);
    }
    None
}
