//! Whether the helper thread that is to open a FIFO began before the caller left.
//!
//! ```text
//! state     set by                    means
//! NONE                                nothing has been opened yet
//! OPENING   the helper, from NONE     the caller takes the file
//! LEFT      the caller                if it was NONE, the helper opens nothing
//! ```
//!
//! Both changes are read-modify-writes of one word. So one of them comes first, and the other one
//! sees it: either nothing is opened, or the caller takes the file.

use std::sync::atomic::{AtomicU8, Ordering};

const NONE: u8 = 0;
const OPENING: u8 = 1;
const LEFT: u8 = 2;

/// See the [module](self).
pub(super) struct Leaving {
    state: AtomicU8,
}

impl Leaving {
    pub(super) fn new() -> Leaving {
        Leaving { state: AtomicU8::new(NONE) }
    }

    /// Notes that the helper opens it; false if the caller has left.
    pub(super) fn begin(&self) -> bool {
        // Relaxed, as below: the state publishes nothing. The file goes through a channel.
        self.state.compare_exchange(NONE, OPENING, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Notes that the caller leaves; false if the helper has begun.
    pub(super) fn leave(&self) -> bool {
        self.state.swap(LEFT, Ordering::Relaxed) == NONE
    }
}
