//! The time-out for bytes that do not move: it begins again with each one that does.
//!
//! It is a deadline of the socket, for reading and for writing: only bytes that move in either
//! direction postpone it. It is set when a goroutine is about to wait for the other side, and
//! lifted when the wait ends. So the time that a caller takes for what it has read, or for what it
//! sends, does not count.

use std::time::Duration;

use crate::stream::Link;

/// The time-out of one request.
pub(super) struct Stall {
    limit: Option<Duration>,
    /// What had moved when the deadline was set; `None` while there is no deadline.
    seen: Option<(u64, u64)>,
}

impl Stall {
    pub(super) fn new(limit: Option<Duration>) -> Stall {
        Stall { limit, seen: None }
    }

    /// Called before each wait: sets the deadline if there is none, or if bytes have moved since.
    pub(super) fn watch(&mut self, link: &Link) {
        let Some(limit) = self.limit else { return };
        let moved = Some(link.progress());
        if self.seen != moved {
            self.seen = moved;
            let deadline = goby::now().checked_add(limit);
            link.socket.set_read_deadline(deadline);
            link.socket.set_write_deadline(deadline);
        }
    }

    /// Lifts the deadline.
    pub(super) fn lift(&mut self, link: &Link) {
        if self.seen.take().is_some() {
            link.socket.set_read_deadline(None);
            link.socket.set_write_deadline(None);
        }
    }
}
