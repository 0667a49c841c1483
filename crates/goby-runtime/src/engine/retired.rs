//! Runtimes that were dropped, and wait for the next one of the same configuration.
//!
//! What the workers of a runtime share ([`Shared`], `Remote`) is never freed, because somebody may
//! still be about to touch it, and a count of all who may would cost every unpark an atomic update.
//! So this memory keeps its type forever, and is used again instead: by a runtime of the same
//! configuration, since that is read without a lock. A program that starts and drops runtimes has
//! as many of them as it had at once, and of different configurations.
//!
//! A dropped runtime is used again when nothing of it is left: all of its goroutines have ended or
//! were cancelled, and so have its futures; no helper thread is in a blocking call, no timer runs,
//! no socket is registered. What may still refer to it then does no harm to its next life:
//!
//! | who refers to it | what becomes of that |
//! |---|---|
//! | the handle of a goroutine that has ended | it reads the panic policy, which is the same; a panic that it reports is not kept among those of the next life |
//! | a timer that does not run | it starts in the next life; if it was made on a spare worker that this one does not have, `orphans` fires it |
//! | a socket that was registered | the poller has another life, so it registers anew |
//! | a thread that owes a wake-up | it wakes a worker for nothing, or finds the poller closed |
//! | a thread that has queued something, and finds that it came too late | [`Shared::drain`] asks again, under the lock that a new life begins under |
//! | a look at all goroutines, or for a deadlock | it sees the next life, whose workers answer what the former ones were asked too late |

use std::collections::VecDeque;

use parking_lot::Mutex;

use crate::base::tsan;
use crate::engine::settings::Settings;
use crate::engine::shared::Shared;

/// How many are looked at for one that fits: those that have other configurations, or are not over
/// yet, go to the end.
const LOOKED_AT: usize = 16;

static RETIRED: Mutex<VecDeque<&'static Shared>> = Mutex::new(VecDeque::new());

/// Keeps a runtime of which all threads but helpers have ended, and no goroutine was left behind.
pub(crate) fn keep(shared: &'static Shared) {
    // ThreadSanitizer would compare one life with the next.
    if tsan::POOL_MEMORY {
        RETIRED.lock().push_back(shared);
    }
}

/// Takes one that was made of the same settings, and of which nothing is left.
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
