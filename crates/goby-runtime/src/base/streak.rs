//! Uses of a lock in a row that nothing disturbed. When there have been enough of them the lock
//! takes a cheaper way. A disturbance makes it dear again, and costs more than many uses save: so
//! each time more are asked for.
//!
//! The thread that is inside the lock owns the streak. Another thread may write it too, where the
//! lock says so; one of the two writes may then be lost. So the count may be wrong: it decides
//! only when the cheaper way begins.

use std::sync::atomic::{AtomicU32, Ordering};

/// How many more uses it takes, and how many it takes from the start.
///
/// Relaxed throughout, and no read-modify-write: nothing is published by it.
#[derive(Debug)]
pub struct Streak {
    left: AtomicU32,
    needed: AtomicU32,
}

impl Streak {
    /// Begins a streak of `needed` uses.
    pub const fn new(needed: u32) -> Streak {
        Streak { left: AtomicU32::new(needed), needed: AtomicU32::new(needed) }
    }

    /// Counts one use; returns whether the streak is full.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub fn count(&self) -> bool {
        let left = self.left.load(Ordering::Relaxed).saturating_sub(1);
        self.left.store(left, Ordering::Relaxed);
        left == 0
    }

    /// Returns whether the streak is full.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub fn is_full(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }

    /// Begins again.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub fn restart(&self) {
        self.left.store(self.needed.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Returns how many uses it takes from the start.
    #[inline]
    pub fn needed(&self) -> u32 {
        self.needed.load(Ordering::Relaxed)
    }

    /// Begins again, and asks for twice as many uses, up to `longest`. For one caller at a time.
    pub fn lengthen(&self, longest: u32) {
        self.needed.store((self.needed() * 2).min(longest), Ordering::Relaxed);
        self.restart();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn it_is_full_after_so_many_uses_and_each_disturbance_doubles_them() {
        let streak = Streak::new(4);
        for needed in [4, 8, 10, 10] {
            assert!(!streak.is_full());
            assert_eq!((1..).find(|_| streak.count()), Some(needed));
            assert!(streak.is_full() && streak.count(), "it stays full");
            streak.restart();
            assert_eq!((1..).find(|_| streak.count()), Some(needed), "as long as before");
            streak.lengthen(10);
        }
    }
}
