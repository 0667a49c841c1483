//! Taking a blocking call back while it still waits for a helper thread.
//!
//! ```text
//! state       set by                                   means
//! NEW                                                  the call is not submitted
//! QUEUED      its goroutine, before it submits it      `wait` is there, and the goroutine parks on it
//! BEGUN       the helper thread that takes it          the helper unparks the goroutine
//! WITHDRAWN   `withdraw`                               of a call that was queued: who set it unparks
//!                                                      the goroutine, and the job in the queue is void
//! ```
//!
//! All changes are by `compare_exchange`, so that a queued call is begun or withdrawn, never both.
//!
//! A void job stays in the queue, with its ticket, until a helper comes to it: some hundred bytes
//! per call that was withdrawn while no helper was free. To look for it there would cost each
//! withdrawal a walk of the queue under its lock.

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU8, Ordering};

use crate::engine::park::Wait;

const NEW: u8 = 0;
const QUEUED: u8 = 1;
const BEGUN: u8 = 2;
const WITHDRAWN: u8 = 3;

/// With what one blocking call may be taken back while it has not begun. Clones are the same.
#[derive(Clone, Debug)]
pub struct Withdrawal {
    ticket: Arc<Ticket>,
}

/// What the goroutine, the helpers and who withdraws share.
#[derive(Debug)]
pub(super) struct Ticket {
    state: AtomicU8,
    /// The goroutine's wait. Valid from QUEUED on, until the goroutine is unparked.
    wait: AtomicPtr<Wait>,
}

impl Withdrawal {
    /// Makes one for the call that it will be given to.
    #[allow(clippy::new_without_default)] // For one call each.
    pub fn new() -> Withdrawal {
        Withdrawal { ticket: Arc::new(Ticket { state: AtomicU8::new(NEW), wait: AtomicPtr::new(ptr::null_mut()) }) }
    }

    /// Takes the call back, unless it has begun. It neither parks nor runs anything of the user's.
    pub fn withdraw(&self) {
        let ticket = &*self.ticket;
        if ticket.change(NEW, WITHDRAWN) || !ticket.change(QUEUED, WITHDRAWN) {
            return;
        }
        // Relaxed: the change above has acquired it.
        let wait = ticket.wait.load(Ordering::Relaxed);
        // SAFETY: the call was queued, so its goroutine parks on the wait until it is unparked, and
        // since no helper can begin the call any more, that happens here only.
        let unparker = unsafe { (*wait).claim(0) };
        if let Some(unparker) = unparker {
            unparker.unpark();
        }
    }

    pub(super) fn ticket(&self) -> &Arc<Ticket> {
        &self.ticket
    }
}

impl Ticket {
    /// Notes that the call will be queued; false if it was withdrawn. After true its goroutine
    /// parks on `wait` unless it begins the call itself.
    pub(super) fn queue(&self, wait: &Wait) -> bool {
        // Relaxed: the change publishes it.
        self.wait.store(ptr::from_ref(wait).cast_mut(), Ordering::Relaxed);
        self.change(NEW, QUEUED)
    }

    /// Notes that the call begins; false if it was withdrawn.
    pub(super) fn begin(&self) -> bool {
        self.change(QUEUED, BEGUN)
    }

    pub(super) fn is_withdrawn(&self) -> bool {
        // Acquire pairs with the change to WITHDRAWN.
        self.state.load(Ordering::Acquire) == WITHDRAWN
    }

    fn change(&self, from: u8, to: u8) -> bool {
        // Release: the change to QUEUED publishes `wait`. Acquire: the changes from QUEUED see it.
        self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}
