//! Timers that outlive their runtime: a thread fires them.
//!
//! A timer belongs to the heap of a worker. Once the runtime is shut down, no worker looks at that
//! heap any more. Yet others may wait for timers in it: those of a channel, a context, a socket. So
//! two callers have the heap *adopted*: the one that shuts a runtime down, and each one that starts
//! a timer in such a heap afterwards. The adopter is a thread that lives for as long as there are
//! such timers.
//!
//! Proof that none is forgotten. The starter of a timer stores when the timer is due, and then
//! looks whether the runtime is shut down. The thread that shuts it down stores that, and looks at
//! the heaps at the end. Both are SeqCst, so one of them sees the other. The adopter gives an empty
//! heap up under the lock of `ADOPTED`; the starter of the next timer there takes that lock
//! afterwards.
//!
//! In a deadlock verdict these timers count as all timers do: if they are awaited (`are_awaited`).
//! While the thread fires some, `is_firing` tells a detector that looks meanwhile; afterwards the
//! thread counts a change ([`threads::note_change`]).

use std::ptr;
use std::time::Duration;

use parking_lot::Condvar;

use crate::base::policy;
use crate::base::unseen::UnseenMutex;
use crate::engine::io::timer::NEVER;
use crate::engine::threads::spawn_own_thread;
use crate::engine::worker::Remote;
use crate::engine::{errand, threads};

static ADOPTED: UnseenMutex<Adopted> =
    UnseenMutex::new(Adopted { remotes: Vec::new(), is_served: false, is_firing: false });
static CHANGED: Condvar = Condvar::new();

struct Adopted {
    /// The workers whose heaps are adopted.
    remotes: Vec<&'static Remote>,
    /// There is a thread that fires them.
    is_served: bool,
    /// The thread is firing timers, which have left their heap.
    is_firing: bool,
}

/// Has a thread fire the timers of a worker whose runtime is shut down, if there are any.
#[cold]
pub(crate) fn adopt(remote: &'static Remote) {
    // A check's timers go by a time of its own, which has ended with it.
    if remote.shared.settings.checked {
        return;
    }
    let mut adopted = ADOPTED.lock();
    if remote.timers.next_due() == NEVER {
        return;
    }
    if !adopted.remotes.iter().any(|other| ptr::eq(*other, remote)) {
        adopted.remotes.push(remote);
    }
    if adopted.is_served {
        CHANGED.notify_one();
        return;
    }
    let served = spawn_own_thread("goby-orphans", serve);
    adopted.is_served = served.is_ok();
    drop(adopted);
    if let Err(error) = served {
        // The start of the next timer tries again.
        warning!("goby: timers of a runtime that was dropped do not fire, for want of a thread: {error}");
    }
}

/// Returns whether an adopted timer would let somebody go on.
pub(crate) fn are_awaited() -> bool {
    let remotes = {
        let adopted = ADOPTED.lock();
        if adopted.is_firing {
            return true;
        }
        adopted.remotes.clone()
    };
    // Without the lock: these looks are at channels and contexts.
    remotes.iter().any(|remote| remote.timers.are_awaited())
}

/// Fires the timers of adopted heaps until there are none: the thread's main function.
fn serve() {
    errand::act_as_scheduler();
    let mut adopted = ADOPTED.lock();
    loop {
        // If a later runtime uses a `Remote` again, its worker fires the timers.
        adopted.remotes.retain(|remote| remote.timers.next_due() != NEVER && !remote.is_served());
        let Some(due) = adopted.remotes.iter().map(|remote| remote.timers.next_due()).min() else { break };
        let now = policy::nanos(policy::now());
        if due > now {
            adopted.sleep(&CHANGED, Some(Duration::from_nanos(due - now)));
            continue;
        }
        let remotes = adopted.remotes.clone();
        adopted.is_firing = true;
        adopted.unlocked(|| {
            remotes.iter().for_each(|remote| _ = remote.timers.run_due());
            threads::note_change();
        });
        adopted.is_firing = false;
    }
    adopted.is_served = false;
}
