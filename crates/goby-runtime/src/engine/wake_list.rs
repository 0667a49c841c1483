//! The waiters that are claimed under a lock and unparked after it.

use std::fmt;

use crate::engine::unparker::Unparker;

/// Waiters to unpark once the lock is released: none, one or many. The first costs no allocation.
#[derive(Default)]
#[must_use = "claimed waiters must be unparked"]
pub struct WakeList {
    first: Option<Unparker>,
    rest: Vec<Unparker>,
}

impl WakeList {
    /// Makes an empty list.
    #[inline]
    pub const fn new() -> WakeList {
        WakeList { first: None, rest: Vec::new() }
    }

    /// Adds a waiter.
    #[inline]
    pub fn push(&mut self, unparker: Unparker) {
        if self.first.is_none() {
            self.first = Some(unparker);
        } else {
            self.rest.push(unparker);
        }
    }

    /// Unparks all, in the order in which they were added. Afterwards the list is empty, and keeps
    /// its memory.
    #[inline]
    pub fn unpark_all(&mut self) {
        if let Some(first) = self.first.take() {
            first.unpark();
            let mut rest = self.rest.drain(..);
            while let Some(unparker) = rest.next() {
                if let Some(later) = rest.as_slice().get(4) {
                    later.prefetch();
                }
                unparker.unpark();
            }
        }
    }
}

/// A claimer that panics must still unpark the waiters that it has claimed.
impl Drop for WakeList {
    #[inline]
    fn drop(&mut self) {
        self.unpark_all();
    }
}

impl fmt::Debug for WakeList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WakeList").field("len", &(usize::from(self.first.is_some()) + self.rest.len())).finish()
    }
}
