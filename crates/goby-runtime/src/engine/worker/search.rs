//! A worker without work of its own: it looks at timers and sockets, spins while that pays, takes
//! from others, and sleeps. Which worker wakes which is in `idle.rs` and `inbox.rs`
//! (`docs/decisions/04-spin-before-sleep.md`).

use std::cell::Cell;
use std::ptr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::theft::{Look, Theft, Verdict};
use super::{Remote, Worker};
use crate::base::answer::Answer;
use crate::base::policy;
use crate::base::primitive::bump;
use crate::engine::io::timer::NEVER;
use crate::engine::run_queue::Unstarted;
use crate::engine::tuning::{
    ANSWER_LOOKS, CROWDED, CROWDED_SHARE, EAGER, QUIET, SPIN, SPINS_PER_LOOK, STEAL_MAX, WEARY,
};

/// What a worker remembers from one search to the next.
pub(super) struct Search {
    /// The last theft, until we know whether it has paid.
    theft: Cell<Option<Theft>>,
    /// How well spins have paid: see [`EAGER`].
    spin_pays: Cell<i32>,
    /// Until when it does not spin, because others want the processor: see [`CROWDED`].
    crowded_until: Cell<Option<Instant>>,
}

impl Search {
    pub(super) fn new() -> Search {
        Search { theft: Cell::new(None), spin_pays: Cell::new(EAGER), crowded_until: Cell::new(None) }
    }
}

impl Worker {
    /// Lets the running goroutine, which is about to park and leaves no other to run, look for its
    /// unpark for a moment. Returns true if it has come. Does not look where anything may be begun,
    /// or is to be looked at.
    #[cold]
    pub(in crate::engine) fn await_answer(&self, answer: &Answer) -> bool {
        let rounds_left = self.fair.rounds_left.get() - 1;
        if rounds_left == 0 || self.remote.poller.has_sources() || !self.is_free() {
            return false;
        }
        answer.look();
        let mut looks = ANSWER_LOOKS;
        while !answer.is_given() {
            if looks == 0 || self.is_interrupted() {
                if answer.give_up() {
                    break;
                }
                return false;
            }
            looks -= 1;
            std::hint::spin_loop();
        }
        // As if it had parked and been resumed.
        self.fair.rounds_left.set(rounds_left);
        bump(&self.remote.tally.slices);
        true
    }

    /// Returns whether there is nothing that this worker could begin, and no other thread wants
    /// anything of its scheduler.
    pub(super) fn is_free(&self) -> bool {
        self.remote.stealable.unstarted.len() == 0 && self.shared.inject.len() == 0 && !self.is_interrupted()
    }

    /// Returns whether another thread wants something of the scheduler.
    fn is_interrupted(&self) -> bool {
        !self.remote.mail.inbox.is_empty() || self.slice_is_over() || self.shared.is_shut_down()
    }

    /// Looks for work, for a worker out of local work: timers, poller, other workers, and finally
    /// sleep. `None` means: look again.
    #[cold]
    pub(super) fn find_elsewhere(&self) -> Option<Unstarted> {
        self.maintain();
        if !self.local.is_empty() {
            return None;
        }
        if self.shared.inject.len() > 0
            && let Some(item) = self.shared.inject.steal_into(&self.remote.stealable.unstarted, STEAL_MAX)
        {
            self.share();
            return Some(item);
        }
        self.remote.stealable.load.store(0, Ordering::Relaxed);
        self.judge_theft();
        let searching = self.shared.idle.start_search();
        let found = self.look_around(searching);
        if !matches!(found, Finding::Nothing) {
            self.note_wait(Duration::ZERO);
        }
        if searching {
            self.shared.idle.finish_search();
            self.share();
        }
        match found {
            Finding::Found(item) => Some(item),
            Finding::Local => None,
            Finding::Nothing => {
                self.sleep();
                None
            }
        }
    }

    /// Wakes a searcher if there is more to take than what we are about to run. A worker that takes
    /// something for which others may have been woken calls this: the worker that was woken first
    /// may be busy with it from now on.
    pub(super) fn share(&self) {
        if self.shared.inject.len() > 0 || self.remote.stealable.unstarted.len() > 0 {
            self.shared.idle.wake_searcher();
        }
    }

    /// Spins for a bounded time, looking at our own inbox and sockets and, as the one searcher, at
    /// the others' queues.
    fn look_around(&self, searching: bool) -> Finding {
        let start = policy::now();
        let mut is_patient = self.wants_to_spin(start);
        let mut spins = if is_patient { SPINS_PER_LOOK } else { 1 };
        let mut watching_since = None;
        loop {
            for _ in 0..std::mem::replace(&mut spins, SPINS_PER_LOOK) {
                if !self.remote.mail.inbox.is_empty() || self.shared.is_shut_down() {
                    return Finding::Local;
                }
                std::hint::spin_loop();
            }
            if self.remote.poller.has_sources() {
                is_patient = is_patient && self.give_way();
                self.poll(Some(Duration::ZERO));
            }
            let now = policy::now();
            let mut watches = false;
            if searching && let Some(item) = self.steal(now, &mut watches) {
                return Finding::Found(item);
            }
            // The others' timers run here, and may have made goroutines of ours runnable, or have
            // started new ones.
            let has_local = !self.local.is_empty() || self.remote.stealable.unstarted.len() > 0;
            if has_local || self.remote.timers.next_due() <= policy::nanos(now) {
                return Finding::Local;
            }
            // A thief that watches a victim goes on until it knows whether the victim is quiet.
            let watching_since = if watches { *watching_since.get_or_insert(now) } else { now };
            let goes_on_watching = watches && now.duration_since(watching_since) < QUIET;
            let goes_on_spinning = is_patient && now.duration_since(start) < SPIN;
            if !goes_on_watching && !goes_on_spinning {
                return Finding::Nothing;
            }
        }
    }

    /// Returns whether a spin pays, as far as the last waits tell.
    fn wants_to_spin(&self, now: Instant) -> bool {
        self.search.spin_pays.get() > 0 && self.search.crowded_until.get().is_none_or(|until| now >= until)
    }

    /// Lets other threads have the processor: those that write to our sockets, perhaps. Returns
    /// false if one of them has kept it for long: a thread that then sleeps gets it back as soon as
    /// something has come, and a thread that spins does not.
    fn give_way(&self) -> bool {
        let start = policy::now();
        std::thread::yield_now();
        let gone = policy::now().duration_since(start);
        if gone > CROWDED {
            self.search.crowded_until.set(Some(start + gone * CROWDED_SHARE));
        }
        gone <= CROWDED
    }

    /// Takes from the injected goroutines, or half of another worker's. Sets `watches` if another
    /// worker has some that are left to it for now.
    fn steal(&self, now: Instant, watches: &mut bool) -> Option<Unstarted> {
        if self.shared.inject.len() > 0
            && let Some(item) = self.shared.inject.steal_into(&self.remote.stealable.unstarted, STEAL_MAX)
        {
            return Some(item);
        }
        // At least one: while the runtime starts, we may run before we are counted.
        let n = self.shared.n_workers().max(1);
        let first = policy::random() as usize % n;
        for i in 0..n {
            let victim = self.shared.remote((first + i) % n);
            if ptr::eq(victim, self.remote) {
                continue;
            }
            if victim.stealable.unstarted.len() > 0 {
                let verdict = self.look_at(victim, now);
                *watches = true;
                if !matches!(verdict, Verdict::Leave)
                    && let Some(item) =
                        victim.stealable.unstarted.steal_into(&self.remote.stealable.unstarted, STEAL_MAX)
                {
                    self.search.theft.set(if let Verdict::Try(theft) = verdict { Some(theft) } else { None });
                    return Some(item);
                }
            }
            // A worker that does not come back cannot run its timers and sockets. A goroutine that
            // its timer wakes goes to its inbox; a callback runs at once.
            if victim.timers.next_due() <= policy::nanos(now) {
                victim.timers.run_due();
            }
        }
        None
    }

    /// Looks at a victim, which has unstarted goroutines, and returns whether to take some.
    pub(super) fn look_at(&self, victim: &Remote, now: Instant) -> Verdict {
        let verdict = victim.stealable.patience.look(
            victim.index,
            &Look::at(victim, now),
            self.remote.stealable.unstarted.sight().changes,
        );
        if !matches!(verdict, Verdict::Leave) {
            self.shared.note_theft();
        }
        verdict
    }

    /// Learns from the last theft: what it took has been begun.
    fn judge_theft(&self) {
        if let Some(theft) = self.search.theft.take() {
            let victim = self.shared.remote(theft.victim);
            victim.stealable.patience.judge(
                &theft,
                &Look::at(victim, policy::now()),
                self.remote.stealable.unstarted.sight().changes,
            );
        }
    }

    /// Sleeps in the poller until woken, an event, or the first timer. The protocol is in `idle.rs`
    /// and `inbox.rs`.
    fn sleep(&self) {
        debug_assert!(self.local.is_empty() && self.run_next.get().is_none());
        self.give_stacks_back();
        // Acquire pairs with the Release in `ask_to_tidy`, which wakes us. Not earlier: now there
        // is nothing else to do.
        if self.remote.orders.tidy.swap(false, Ordering::Acquire) {
            self.tidy();
        }
        if !self.remote.mail.inbox.start_sleep() {
            return;
        }
        self.shared.idle.announce(self.remote);
        let start = policy::now();
        let timeout = if self.shared.has_shareable_work(self.remote) {
            Some(Duration::ZERO)
        } else {
            match self.remote.timers.next_due() {
                NEVER => None,
                due => Some(Duration::from_nanos(due.saturating_sub(policy::nanos(start)))),
            }
        };
        self.poll(timeout);
        self.remote.mail.inbox.finish_sleep();
        self.shared.idle.retract(self.remote);
        // At once: no other worker can take what was given to us (`spread`) out of the inbox, and
        // it is given to sleepers only. A goroutine that was woken together with it may run for
        // long; then others may have it.
        if self.open_inbox() && self.remote.stealable.unstarted.len() > 0 && !self.local.is_empty() {
            self.shared.idle.wake_searcher();
        }
        let now = policy::now();
        self.note_wait(now.duration_since(start));
        self.shared.monitor.set_clock(now);
        self.shared.monitor.ensure_awake();
    }

    /// Counts a wait in favor of spinning, or against it.
    fn note_wait(&self, wait: Duration) {
        let change = if wait < SPIN { 1 } else { -2 };
        self.search.spin_pays.set((self.search.spin_pays.get() + change).clamp(WEARY, EAGER));
    }

    /// Gives back the memory that a crowd of goroutines has needed. The stacks are with the pool
    /// already.
    #[cold]
    fn tidy(&self) {
        self.births.slab.clear();
        self.registry.shrink();
        self.local.shrink();
        self.remote.stealable.unstarted.shrink();
    }

    /// Gives all free stacks back. A worker that sleeps keeps none: others may need them, and the
    /// pool gives unused memory back.
    pub(super) fn give_stacks_back(&self) {
        // SAFETY: only this thread touches the cache.
        let stacks = unsafe { &mut *self.stacks.get() };
        if !stacks.is_empty() {
            self.shared.stacks.pool.give(stacks.drain(..));
        }
        if self.shared.stacks.starved.any() {
            self.feed_starved();
        }
    }

    /// Lets a goroutine that was refused a stack try again, if there is one by now.
    #[cold]
    pub(super) fn feed_starved(&self) {
        // SAFETY: only this thread touches the cache.
        let has_own = unsafe { !(*self.stacks.get()).is_empty() };
        if has_own || self.shared.stacks.pool.has_free() {
            self.shared.stacks.starved.feed_one(&self.remote.stealable.unstarted);
        }
    }
}

/// What looking around has found.
enum Finding {
    Found(Unstarted),
    Local,
    Nothing,
}
