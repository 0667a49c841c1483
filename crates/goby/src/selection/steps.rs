//! The steps of a select that both ways through its passes share: `ordered.rs` and `unrolled.rs`.

use std::time::Instant;

use goby_runtime::{IsArmed, Wait, WaitReason};

use super::case::Case;
use crate::chan::Reach;

/// Until when a select waits.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// Not at all.
    Now,
    /// Until this instant.
    Deadline(Instant),
    /// For as long as it takes.
    Forever,
}

/// The index of no case.
const NONE: usize = usize::MAX;

/// The choice of one of the ready cases: each with the same probability, or the first if it is
/// `BIASED`.
#[doc(hidden)]
#[derive(Debug)]
pub struct Choice<const BIASED: bool> {
    n_ready: u64,
    index: usize,
}

impl Choice<false> {
    /// Makes one that is fair to the cases.
    #[inline]
    pub fn fair() -> Choice<false> {
        Choice { n_ready: 0, index: NONE }
    }
}

impl Choice<true> {
    /// Makes one that prefers the first.
    #[inline]
    pub fn biased() -> Choice<true> {
        Choice { n_ready: 0, index: NONE }
    }
}

impl<const BIASED: bool> Choice<BIASED> {
    /// Adds a case that is ready.
    #[inline]
    pub(super) fn add(&mut self, index: usize) {
        self.n_ready += 1;
        // The n-th ready one replaces the choice with probability 1/n: uniform in the end.
        if self.n_ready == 1 || (!BIASED && goby_runtime::random().is_multiple_of(self.n_ready)) {
            self.index = index;
        }
    }

    /// The case that was chosen, if one was ready.
    #[inline]
    pub(super) fn chosen(&self) -> Option<usize> {
        (self.n_ready > 0).then_some(self.index)
    }

    /// Whether the case `index` was chosen.
    #[inline]
    pub(super) fn is(&self, index: usize) -> bool {
        self.index == index
    }
}

/// Parks on a wait that is queued; returns the token of the case or the timer that ended it.
#[cfg_attr(not(debug_assertions), inline(always))]
pub(super) fn park(
    wait: &Wait,
    no_cases: bool,
    reach: Reach,
    is_armed: IsArmed<'_>,
    deadline: Option<Instant>,
) -> usize {
    let reason = if no_cases { WaitReason::SelectNoCases } else { WaitReason::Select };
    reach.during(is_armed, || wait.park_until(reason, deadline))
}

/// Takes one case out of its channel's queue.
///
/// # Safety
///
/// The case is queued for a wait that was claimed: through this case if it has `won`.
#[inline]
pub(super) unsafe fn take_out_one(case: &mut (impl Case + ?Sized), won: bool) {
    if let Some(chan) = case.chan() {
        // SAFETY: its own channel, locked here; queued; claimed, so nobody claims it again.
        unsafe {
            case.lock(chan);
            case.dequeue(chan, won);
            case.unlock(chan);
        }
    }
}
