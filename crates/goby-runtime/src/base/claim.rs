//! The word that decides what ends a wait.
//!
//! ```text
//! word: WAITING     nobody has claimed the wait
//!       token + 1   claimed, with this token; it never changes again
//! ```

use crate::base::primitive::{AtomicUsize, Ordering};

/// Nobody has claimed the wait.
const WAITING: usize = 0;

/// Part of a wait, see above.
pub(crate) struct ClaimWord(AtomicUsize);

impl ClaimWord {
    /// Makes a word that nobody has claimed.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(crate) fn new() -> ClaimWord {
        ClaimWord(AtomicUsize::new(WAITING))
    }

    /// Claims it with `token`; returns whether this is the claim that counts.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(crate) fn claim(&self, token: usize) -> bool {
        // AcqRel: the release publishes what the claimer did before. The acquire pairs with the
        // waiter's set-up, which happens before the claim anyway, by the lock of the queue.
        self.0.compare_exchange(WAITING, token + 1, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Claims it with `token`, without a read-modify-write. No other claimer can come: the caller
    /// holds the one lock under which the word is claimed, or is the only claimer.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(crate) fn claim_alone(&self, token: usize) {
        debug_assert!(!self.is_claimed(), "claimed out of a queue that it was not in");
        // Release: as in `claim`.
        self.0.store(token + 1, Ordering::Release);
    }

    /// Returns whether somebody has claimed it already.
    #[inline]
    pub(crate) fn is_claimed(&self) -> bool {
        // Relaxed: a hint, for a caller that holds the lock of one queue of several.
        self.0.load(Ordering::Relaxed) != WAITING
    }

    /// Returns the token of the claim, if there was one.
    #[inline]
    pub(crate) fn token(&self) -> Option<usize> {
        // Acquire pairs with the release half of the claim.
        self.0.load(Ordering::Acquire).checked_sub(1)
    }
}
