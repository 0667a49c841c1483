//! The passes of a `select!`, which knows the types of its cases: a nested tuple of them, unrolled
//! into static calls where the `select!` stands.
//!
//! One walk down the tuple locks the channels and sees which cases are ready; the way back carries
//! out the chosen one, or queues all, and unlocks. Each lock is tried once. Nobody waits for a lock
//! here, so no order of them is needed, and nothing is sorted. If a lock is taken, or if two cases
//! are of one channel, the outcome is [unclear](Look::Unclear), and the slower way does the select
//! (`ordered.rs`).
//!
//! The slower way alone would do for every select, at two to four times the cost. A `select!` of
//! two receives takes 116 instructions here if it ends with its `default` (481 there), 240 if one
//! case is ready (618), and 547 with the peer's part if it parks (1135).

use std::cell::OnceCell;

use goby_runtime::{Unparker, Wait};

use super::case::{Case, How};
use super::steps::{Choice, Until, park, take_out_one};
use crate::chan::Reach;
use crate::chan::core::unpark;

/// The outcome of the first look at a select's cases.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// One of them happened.
    Happened,
    /// None is ready.
    NoneReady,
    /// It cannot be said without waiting for a lock, or a peer is claimed elsewhere.
    /// [`run`](super::ordered::run) finds out.
    Unclear,
}

/// Pass 1 for `select!` with a default. The types of its cases are known where it stands. It makes
/// no dynamic call and sorts nothing. If the answer is clear, as it nearly always is, this was all.
#[doc(hidden)]
#[inline]
pub fn look<const BIASED: bool>(mut choice: Choice<BIASED>, cases: &mut impl Cases) -> Look {
    goby_runtime::checkpoint();
    let mut wake = None;
    // SAFETY: it does not queue.
    let look = unsafe { cases.look::<false, BIASED>(0, &mut choice, &mut wake, &OnceCell::new()) };
    unpark(wake);
    if look == Look::NoneReady {
        goby_runtime::refused();
    }
    look
}

/// All three passes for a `select!` that waits, the second in the same walk as the first. Returns
/// false if the answer is not clear: then [`run`](super::ordered::run) has to find out.
#[doc(hidden)]
#[cfg_attr(not(debug_assertions), inline(always))]
pub fn wait<const BIASED: bool>(
    mut choice: Choice<BIASED>,
    cases: &mut impl Cases,
    until: impl FnOnce() -> Until,
) -> bool {
    goby_runtime::checkpoint();
    let (mut wake, wait) = (None, OnceCell::new());
    // SAFETY: if they are queued, the cases and the wait stay where they are until `take_out`, or
    // until this goroutine is leaked.
    let look = unsafe { cases.look::<true, BIASED>(0, &mut choice, &mut wake, &wait) };
    unpark(wake);
    // By reference, since the wait is queued and must not move.
    if let Some(wait) = wait.get() {
        let deadline = if let Until::Deadline(deadline) = until() { Some(deadline) } else { None };
        let token = park(wait, cases.is_empty(), cases.reach(), &|| cases.is_armed(), deadline);
        // SAFETY: queued above; claimed by a peer, or by the deadline's timer.
        unsafe { cases.take_out(0, token) };
    }
    look != Look::Unclear
}

/// A nested tuple of cases, the first of which has the number `index`.
#[doc(hidden)]
pub trait Cases {
    /// Locks the channels of these cases, in addition to those that are locked already. When all
    /// are locked, it carries out the choice. If there is none, and `QUEUE` is true, it makes a
    /// wait and queues it in every channel. Then it unlocks them.
    ///
    /// # Safety
    ///
    /// If a wait was made, neither it nor the cases move or die before
    /// [`take_out`](Cases::take_out), and the caller parks on it.
    unsafe fn look<const QUEUE: bool, const BIASED: bool>(
        &mut self,
        index: usize,
        choice: &mut Choice<BIASED>,
        wake: &mut Option<Unparker>,
        wait: &OnceCell<Wait>,
    ) -> Look;

    /// Whether there are no cases.
    fn is_empty(&self) -> bool;

    /// [`Case::reach`] of any.
    fn reach(&self) -> Reach;

    /// [`Case::is_armed`] of any.
    fn is_armed(&self) -> bool;

    /// Pass 3.
    ///
    /// # Safety
    ///
    /// The cases were queued by `look`, and the wait was claimed with this token.
    unsafe fn take_out(&mut self, index: usize, token: usize);
}

impl Cases for () {
    #[cfg_attr(not(debug_assertions), inline(always))]
    unsafe fn look<const QUEUE: bool, const BIASED: bool>(
        &mut self,
        _: usize,
        choice: &mut Choice<BIASED>,
        _: &mut Option<Unparker>,
        wait: &OnceCell<Wait>,
    ) -> Look {
        // All are locked: this is the one instant.
        if choice.chosen().is_some() {
            return Look::Happened;
        }
        if QUEUE {
            // A thread's wait allocates, which must not happen here: `run` makes it.
            // SAFETY: parked on by the caller; shown to the cases' channels, whose operations
            // unpark.
            let Some(made) = (unsafe { Wait::of_goroutine() }) else { return Look::Unclear };
            wait.get_or_init(|| made);
        }
        Look::NoneReady
    }

    fn is_empty(&self) -> bool {
        true
    }

    fn reach(&self) -> Reach {
        Reach::default()
    }

    fn is_armed(&self) -> bool {
        false
    }

    unsafe fn take_out(&mut self, _: usize, _: usize) {}
}

impl<C: Case, R: Cases> Cases for (&mut C, R) {
    #[cfg_attr(not(debug_assertions), inline(always))]
    unsafe fn look<const QUEUE: bool, const BIASED: bool>(
        &mut self,
        index: usize,
        choice: &mut Choice<BIASED>,
        wake: &mut Option<Unparker>,
        wait: &OnceCell<Wait>,
    ) -> Look {
        let (case, rest) = self;
        let Some(chan) = case.chan() else {
            // SAFETY: by contract.
            return unsafe { rest.look::<QUEUE, BIASED>(index + 1, choice, wake, wait) };
        };
        // SAFETY: its own channel, locked here; the rest by contract.
        unsafe {
            // Nobody waits for a lock here, so the order of locks does not matter. Two cases of one
            // channel are unclear, too.
            if !case.try_lock(chan) {
                return Look::Unclear;
            }
            if case.is_ready(chan) {
                choice.add(index);
            }
            let mut look = rest.look::<QUEUE, BIASED>(index + 1, choice, wake, wait);
            // On the way back each case unlocks its channel. Before that the chosen one carries out
            // its operation, or each one queues.
            if look == Look::Happened && choice.is(index) && !case.attempt(chan, wake) {
                look = Look::Unclear;
            }
            if QUEUE && let Some(wait) = wait.get() {
                case.enqueue(chan, wait.into(), index, How::HandOver);
            }
            case.unlock(chan);
            look
        }
    }

    fn is_empty(&self) -> bool {
        false
    }

    #[inline]
    fn reach(&self) -> Reach {
        self.0.reach().or(self.1.reach())
    }

    fn is_armed(&self) -> bool {
        self.0.is_armed() || self.1.is_armed()
    }

    #[inline]
    unsafe fn take_out(&mut self, index: usize, token: usize) {
        let (case, rest) = self;
        // SAFETY: by contract.
        unsafe {
            take_out_one(*case, index == token);
            rest.take_out(index + 1, token);
        }
    }
}
