//! Pauses: what a worker does once in a while between two rounds, so that the order of its rounds
//! starves no goroutine.
//!
//! ```text
//! a pause:  the slice ends (run_next goes to the back), inbox, timers, poller,
//!           then the oldest unstarted goroutine runs
//! ```
//!
//! # How long anyone waits
//!
//! A *turn* is what `slices` counts: one goroutine, or several that hand the time slice on by
//! waking each other, with what a pause begins amid them. Let S be the longest turn. The monitor
//! ends a slice after 10 ms, at its next tick, and the goroutine gives way at its next checkpoint.
//! So S is some 16 ms, plus the longest time that a goroutine computes without a call of goby.
//!
//! 1. *A pause comes at least once per S.* The monitor asks for one if there has been none for 10
//!    ms, even if every slice was short.
//! 2. *What other threads, timers or sockets made runnable is in the local queue after at most
//!    [`MAINTENANCE`] pauses*, and at the first pause after a tick of the monitor.
//! 3. *With `k` before it in the local queue, a goroutine runs after at most `2k + 2` turns.* The
//!    queue is first in, first out. A turn ends with the front of the queue, unless a pause begins
//!    a turn with an unstarted goroutine. A pause does so at most once between two fronts
//!    (`began_unstarted_at`). `run_next` bypasses the queue, but only within a turn.
//! 4. *With `k` before it in its queue, an unstarted goroutine begins after at most `4k + 4`
//!    pauses.* A pause begins the oldest one, except after a turn that was begun in this way: that
//!    pause leaves the next turn to the front of the local queue. The worker's own goroutines and
//!    the injected ones alternate. While another worker is stuck, the bound doubles, since every
//!    other time a pause begins one of the stuck worker's. Besides, the worker may leave the oldest
//!    to another worker for [`SLICE`] before it begins it.
//!
//! The tests below count turns and pauses, not time.
//!
//! # Giving way
//!
//! A goroutine that is refused [`REFUSALS`] times in a row gives way before its slice is over, if
//! others are runnable here: it waits for something, perhaps for one of them. Before that rule, a
//! round trip between a loop of `try_send` and its partner took 61 ms, four slices.
//!
//! What a worker cannot bound: a goroutine that computes and never calls goby, or waits in a panic
//! hook (`hold`), keeps the goroutines that are pinned beside it. Other workers, busy or not, take
//! the unstarted ones: one in every other pause in which they look at it. If there is no other
//! worker, or all are blocked, a spare worker takes them.

use std::cell::Cell;
use std::ptr;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::theft::Verdict;
use super::{Remote, Worker};
use crate::base::primitive::bump;
use crate::base::{policy, tsan};
use crate::engine::run_queue::Unstarted;
use crate::engine::tuning::{FAIRNESS, LONG_ROUNDS, MAINTENANCE, REFUSAL, REFUSALS, SLICE};

/// No tick of the monitor has this number.
const NEVER_MAINTAINED: usize = usize::MAX;

/// What the worker counts so that nobody waits for long.
pub(super) struct Fairness {
    /// Rounds until a pause: see [`FAIRNESS`].
    pub(super) rounds_left: Cell<u32>,
    /// The monitor's tick when it last looked at inbox, timers and poller.
    pub(super) maintained: Cell<usize>,
    /// The turn, as counted by `slices`, that a pause has begun last. The turn after it belongs to
    /// the local queue.
    began_unstarted_at: Cell<u64>,
    /// How many more operations are refused until the worker asks whether they come in a row, and
    /// when it last asked.
    refusals_left: Cell<u32>,
    refused_at: Cell<Instant>,
    /// The next pause prefers injected goroutines to the worker's own unstarted ones.
    prefers_injected: Cell<bool>,
    /// Since when, and how often, we have left our unstarted goroutines to others.
    left: Cell<Option<(Instant, u32)>>,
}

impl Fairness {
    pub(super) fn new() -> Fairness {
        Fairness {
            rounds_left: Cell::new(FAIRNESS),
            maintained: Cell::new(0),
            began_unstarted_at: Cell::new(u64::MAX),
            refusals_left: Cell::new(REFUSALS),
            refused_at: Cell::new(policy::now()),
            prefers_injected: Cell::new(false),
            left: Cell::new(None),
        }
    }
}

impl Fairness {
    /// Lets the next refusal count, in a check.
    pub(super) fn refuse_at_once(&self) {
        self.refusals_left.set(1);
    }
}

impl Worker {
    /// Looks at what other threads, timers and sockets have made runnable, and returns the
    /// unstarted goroutine to run now, if any.
    #[cold]
    pub(super) fn pause(&self, slice_is_over: bool) -> Option<Unstarted> {
        let is_due = self.fair.rounds_left.get() == 0;
        if is_due {
            self.fair.rounds_left.set(FAIRNESS);
        }
        // Relaxed: a hint; it is set before `slice_over`.
        let is_overdue = slice_is_over && self.remote.orders.pause_due.swap(false, Ordering::Relaxed);
        let turns = self.remote.stealable.turns.load(Ordering::Relaxed);
        if slice_is_over {
            self.end_slice();
        } else if turns.is_multiple_of(MAINTENANCE) || self.fair.maintained.get() != self.shared.monitor.tick() {
            self.maintain();
        }
        bump(&self.remote.stealable.turns);
        let slices = &self.remote.tally.slices;
        // `run_next` is empty now, so the front of the local queue is next.
        let owes_local = self.fair.began_unstarted_at.get() == slices.load(Ordering::Relaxed) && !self.local.is_empty();
        if slice_is_over && owes_local {
            return None;
        }
        let oldest = self.fair_share(slice_is_over && !is_overdue)?;
        // Between two goroutines that share a slice, the oldest is part of that slice. Otherwise
        // two that hand the slice to and fro would have a new one each time, and the monitor would
        // never have a reason to end it.
        if slice_is_over {
            bump(slices);
            self.fair.began_unstarted_at.set(slices.load(Ordering::Relaxed));
        }
        Some(oldest)
    }

    /// Counts a refused operation of the running goroutine, see [`REFUSALS`].
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(crate) fn note_refusal(&self) {
        let left = {
            // ThreadSanitizer knows of no order between the goroutines of a worker, which share its
            // counters.
            let _ignore = tsan::ignore();
            let left = self.fair.refusals_left.get() - 1;
            self.fair.refusals_left.set(left);
            left
        };
        if left == 0 {
            self.end_refusals();
        }
    }

    /// Gives way to others that are runnable here, if the refusals have come in a row.
    #[cold]
    fn end_refusals(&self) {
        if self.is_checked() {
            {
                let _ignore = tsan::ignore();
                self.fair.refuse_at_once();
            }
            return self.come_to_point(true, super::checked::NO_OBJECT);
        }
        let now = policy::now();
        let time = {
            let _ignore = tsan::ignore();
            self.fair.refusals_left.set(REFUSALS);
            now.saturating_duration_since(self.fair.refused_at.replace(now))
        };
        if time < REFUSAL * REFUSALS && self.in_goroutine() && !self.running.runs_last.get() && self.has_others(now) {
            self.yield_current();
            let _ignore = tsan::ignore();
            self.fair.refused_at.set(policy::now());
        }
    }

    /// Returns whether another goroutine of this worker is runnable, could be begun, or has a timer
    /// that is due; the next round takes it.
    fn has_others(&self, now: Instant) -> bool {
        let _ignore = tsan::ignore();
        if self.open_inbox() || self.has_runnable() {
            return true;
        }
        let is_due = self.remote.timers.next_due() <= policy::nanos(now);
        if is_due {
            self.fair.maintained.set(NEVER_MAINTAINED);
        }
        let has_others = is_due || self.remote.stealable.unstarted.len() > 0 || self.shared.inject.len() > 0;
        if has_others {
            // The caller will be in the local queue, so only a pause would reach these.
            self.fair.rounds_left.set(1);
        }
        has_others
    }

    /// Does what the monitor asked for: sends the goroutine that shares the slice by being woken to
    /// the back of the queue, and looks at what has become runnable.
    #[cold]
    fn end_slice(&self) {
        if self.remote.mail.requests.are_pending() {
            self.answer_requests();
        }
        if let Some(g) = self.run_next.take() {
            self.local.push_back(g);
        }
        self.maintain();
    }

    /// Returns what a worker that has goroutines of its own to run begins all the same, once in a
    /// while: the oldest of its unstarted ones, or one of another worker's. From then on that one
    /// is pinned. So where goroutines run long, they go to the worker that has less to run. With
    /// `now`, they are not left to others.
    fn fair_share(&self, now: bool) -> Option<Unstarted> {
        if self.shared.stacks.starved.any() {
            self.feed_starved();
        }
        let load = self.local.len() + usize::from(self.run_next.get().is_some());
        // Relaxed, here and below: a hint.
        self.remote.stealable.load.store(load, Ordering::Relaxed);
        // One other worker per call, each in its turn.
        let n = self.shared.n_workers().max(1);
        let turn = self.remote.stealable.turns.load(Ordering::Relaxed) as usize;
        let other = self.shared.remote((self.remote.index + 1 + turn % (n - 1).max(1)) % n);
        let others_load = other.stealable.load.load(Ordering::Relaxed);
        let waiting = other.stealable.unstarted.len();
        // The monitor has asked it to give way, and it has not come yet. Perhaps it computes, and
        // no other worker begins what it has. Every other time it comes before our own, of which
        // there may always be some.
        let is_stuck = waiting > 0 && other.orders.slice_over.load(Ordering::Relaxed);
        let comes_first = is_stuck && (turn / (n - 1).max(1)).is_multiple_of(2);
        if comes_first && let Some(oldest) = self.rob_one(other) {
            return Some(oldest);
        }
        if self.remote.stealable.unstarted.len() > 0 || self.shared.inject.len() > 0 {
            if !now && others_load < load && self.leave_to_others() {
                return None;
            }
            self.fair.left.set(None);
            return self.pop_oldest();
        }
        self.fair.left.set(None);
        if is_stuck || waiting > 0 && load < others_load + waiting { self.rob_one(other) } else { None }
    }

    /// Takes the oldest unstarted goroutine of another worker, if that worker has left it alone for
    /// long enough.
    fn rob_one(&self, other: &Remote) -> Option<Unstarted> {
        if ptr::eq(other, self.remote) || matches!(self.look_at(other, policy::now()), Verdict::Leave) {
            return None;
        }
        other.stealable.unstarted.pop_oldest()
    }

    /// Takes the oldest of the worker's own unstarted goroutines, or of the injected ones. They
    /// alternate, because either queue may never be empty.
    fn pop_oldest(&self) -> Option<Unstarted> {
        let (own, injected) = (&self.remote.stealable.unstarted, &self.shared.inject);
        let prefers_injected = self.fair.prefers_injected.replace(!self.fair.prefers_injected.get());
        let (first, second) = if prefers_injected { (injected, own) } else { (own, injected) };
        first.pop_oldest().or_else(|| second.pop_oldest())
    }

    /// Returns whether the unstarted goroutines are left to other workers this time. They are not
    /// if the rounds have been short, since they may talk to those that run here. Nor are they if
    /// they have been left for too long already.
    fn leave_to_others(&self) -> bool {
        let now = policy::now();
        let Some((since, times)) = self.fair.left.get() else {
            self.fair.left.set(Some((now, 1)));
            return true;
        };
        let time = now.duration_since(since);
        if time < LONG_ROUNDS * times || time > SLICE {
            return false;
        }
        self.fair.left.set(Some((since, times + 1)));
        self.shared.idle.wake_searcher();
        true
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
