//! The stacks of a runtime's goroutines. A goroutine that got none, since there is none, waits
//! here, unstarted, until one is free.

use std::collections::VecDeque;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::base::lock::Lock;
use crate::base::stack::{Exhausted, Pool, guards_cost_mappings};
use crate::engine::goroutine::Goroutine;
use crate::engine::run_queue::{Unstarted, UnstartedQueue};

/// The stacks of one runtime. Workers take from them and give back; the monitor unmaps what is not
/// used.
pub(crate) struct Stacks {
    pub(crate) pool: Pool,
    pub(crate) starved: Starved,
}

impl Stacks {
    pub(crate) fn new(pool: Pool) -> Stacks {
        Stacks { pool, starved: Starved::new() }
    }

    /// Returns whether a goroutine waits for a stack, and there is one.
    pub(crate) fn can_feed(&self) -> bool {
        self.starved.any() && self.pool.has_free()
    }

    /// Returns how many goroutines wait for a stack, and why they get none.
    pub(crate) fn starvation(&self) -> Option<(usize, String)> {
        self.starved.explain(self.pool.stack_size())
    }
}

/// The goroutines of one runtime that wait for a stack. Workers add them, and feed one each time
/// that a stack becomes free; the monitor feeds those that were missed.
pub(crate) struct Starved {
    waiting: Lock<Waiting>,
    /// How many wait. Written under the lock.
    n: AtomicUsize,
}

#[derive(Default)]
struct Waiting {
    queue: VecDeque<Unstarted>,
    /// Why the last one got none.
    why: Option<Exhausted>,
}

impl Starved {
    fn new() -> Starved {
        Starved { waiting: Lock::new(Waiting::default()), n: AtomicUsize::new(0) }
    }

    /// Forgets why there was no stack, for another life of the runtime. Nobody waits.
    pub(crate) fn reset(&self) {
        self.waiting.lock().why = None;
    }

    /// Keeps a goroutine that got no stack until one is free.
    #[cold]
    pub(crate) fn add(&self, g: NonNull<Goroutine>, why: Exhausted) {
        let mut waiting = self.waiting.lock();
        waiting.queue.push_back(Unstarted::Goroutine(g));
        waiting.why = Some(why);
        self.n.store(waiting.queue.len(), Ordering::SeqCst);
    }

    /// Returns whether any goroutine waits.
    #[inline]
    pub(crate) fn any(&self) -> bool {
        // Relaxed: a hint; the monitor asks again.
        self.n.load(Ordering::Relaxed) != 0
    }

    /// Queues one of them again: a stack has just become free.
    #[cold]
    pub(crate) fn feed_one(&self, queue: &UnstartedQueue) {
        let item = {
            let mut waiting = self.waiting.lock();
            let item = waiting.queue.pop_front();
            self.n.store(waiting.queue.len(), Ordering::SeqCst);
            item
        };
        if let Some(item) = item {
            queue.push(item);
        }
    }

    /// Takes all of them out.
    pub(crate) fn take_all(&self) -> VecDeque<Unstarted> {
        let mut waiting = self.waiting.lock();
        self.n.store(0, Ordering::SeqCst);
        std::mem::take(&mut waiting.queue)
    }

    /// Calls `f` with each of them.
    pub(crate) fn for_each(&self, f: impl FnMut(&Unstarted)) {
        self.waiting.lock().queue.iter().for_each(f);
    }

    /// Returns how many wait, and why they get no stack of `stack_size` bytes.
    fn explain(&self, stack_size: usize) -> Option<(usize, String)> {
        let waiting = self.waiting.lock();
        let n = waiting.queue.len();
        if n == 0 {
            return None;
        }
        let why = match &waiting.why {
            Some(Exhausted::Limit(limit)) => {
                format!("the limit of {limit} stacks is reached: raise max_stacks of the builder")
            }
            Some(Exhausted::System(error)) if guards_cost_mappings() => format!(
                "no further stack can be mapped ({error}): each costs two mappings on this kernel, so raise the limit \
                 with 'sysctl vm.max_map_count=N' (twice the number of goroutines and some), or that on address space \
                 ('ulimit -v')"
            ),
            Some(Exhausted::System(error)) => format!(
                "no further stack can be mapped ({error}): raise the limit on address space ('ulimit -v') or memory, \
                 or use a smaller stack_size of the builder (now {} KiB)",
                stack_size / 1024
            ),
            None => "unknown".into(),
        };
        Some((n, why))
    }
}
