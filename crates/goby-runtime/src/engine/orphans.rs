//! Timers that outlive their runtime: a thread fires them.
//!
//! A timer belongs to the heap of a worker. Once the runtime is shut down nobody looks at that heap
//! any more, yet timers in it may be what others wait for: a channel's, a context's, a socket's. So
//! whoever shuts a runtime down, and whoever starts a timer in such a heap afterwards, has the heap
//! *adopted*, by a thread that is there for as long as there are such timers.
//!
//! Proof that none is forgotten. Who starts a timer stores when it is due and then looks whether
//! the runtime is shut down; who shuts it down says so, and looks at the heaps at the end. Both are
//! SeqCst, so one of them sees the other. A heap that is given up because it is empty is given up
//! under the lock of `ADOPTED`, which whoever starts the next timer there takes after that.
//!
//! In a deadlock verdict they count as all timers do: if they are awaited (`are_awaited`). Whoever
//! fires some says so, to who looks meanwhile.

use std::ptr;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::base::{policy, tsan};
use crate::engine::io::timer::NEVER;
use crate::engine::threads::spawn_own_thread;
use crate::engine::worker::Remote;
use crate::engine::{errand, threads};

static ADOPTED: Mutex<Adopted> = Mutex::new(Adopted { remotes: Vec::new(), is_served: false, is_firing: false });
static CHANGED: Condvar = Condvar::new();

struct Adopted {
    /// Whose heaps they are.
    remotes: Vec<&'static Remote>,
    /// There is a thread.
    is_served: bool,
    /// It fires some, which have left their heap.
    is_firing: bool,
}

/// Has the timers of a worker whose runtime is shut down fired, if it has any.
#[cold]
pub(crate) fn adopt(remote: &'static Remote) {
    let _ignore = tsan::ignore();
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
        // The next timer that is started tries again.
        warning!("goby: timers of a runtime that was dropped do not fire, for want of a thread: {error}");
    }
}

/// Whether any of them would let somebody go on.
pub(crate) fn are_awaited() -> bool {
    let remotes = {
        let adopted = ADOPTED.lock();
        if adopted.is_firing {
            return true;
        }
        adopted.remotes.clone()
    };
    // Without the lock: they look at channels and contexts.
    remotes.iter().any(|remote| remote.timers.are_awaited())
}

/// The thread's life.
fn serve() {
    let _ignore = tsan::ignore();
    errand::act_as_scheduler();
    let mut adopted = ADOPTED.lock();
    loop {
        // One that a further runtime works with has a worker that does it.
        adopted.remotes.retain(|remote| remote.timers.next_due() != NEVER && !remote.is_served());
        let Some(due) = adopted.remotes.iter().map(|remote| remote.timers.next_due()).min() else { break };
        let now = policy::nanos(policy::now());
        if due > now {
            CHANGED.wait_for(&mut adopted, Duration::from_nanos(due - now));
            continue;
        }
        let remotes = adopted.remotes.clone();
        adopted.is_firing = true;
        drop(adopted);
        remotes.iter().for_each(|remote| _ = remote.timers.run_due());
        threads::note_change();
        adopted = ADOPTED.lock();
        adopted.is_firing = false;
    }
    adopted.is_served = false;
}
