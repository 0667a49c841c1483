//! What the programs share: memory without protection, and an order in time that does not order
//! memory.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, Ordering};

/// A number that claims to be `Sync` and does nothing for it: a user's wrong `unsafe impl`.
pub struct Unprotected(UnsafeCell<u64>);

// SAFETY: none in the racy programs, that is their point. The clean programs order all their
// accesses.
unsafe impl Sync for Unprotected {}

impl Unprotected {
    pub const fn new() -> Unprotected {
        Unprotected(UnsafeCell::new(0))
    }

    #[inline(never)]
    pub fn read(&self) -> u64 {
        // SAFETY: see `Sync` above.
        unsafe { self.0.get().read() }
    }

    #[inline(never)]
    pub fn add(&self) {
        // SAFETY: see `Sync` above.
        unsafe { *self.0.get() += 1 }
    }
}

/// Makes one side go first without making its memory visible. So the race is in every run, and no
/// run shows it by itself.
pub struct Turn(AtomicBool);

impl Turn {
    pub const fn new() -> Turn {
        Turn(AtomicBool::new(false))
    }

    pub fn give(&self) {
        // Relaxed: on purpose, pairs with nothing.
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn is_given(&self) -> bool {
        // Relaxed: on purpose, see `give`.
        self.0.load(Ordering::Relaxed)
    }

    pub fn wait(&self) {
        while !self.is_given() {
            goby::yield_now();
        }
    }
}
