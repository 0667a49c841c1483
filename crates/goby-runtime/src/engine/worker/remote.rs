//! The part of a worker that other threads may touch.

use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use super::Worker;
use super::theft::Truce;
use crate::base::inbox::Inbox;
use crate::engine::goroutine::Goroutine;
use crate::engine::io::poller::Poller;
use crate::engine::io::timer::{NEVER, Timers};
use crate::engine::requests::Requests;
use crate::engine::run_queue::FreshQueue;
use crate::engine::shared::Shared;

/// The part of a worker that other threads may touch. It is never freed, but used again: see
/// `retired.rs`.
pub(crate) struct Remote {
    pub(crate) index: usize,
    pub(crate) shared: &'static Shared,
    pub(crate) inbox: Inbox<Goroutine>,
    pub(crate) fresh: FreshQueue,
    pub(crate) timers: Timers,
    pub(crate) poller: Poller,
    /// The monitor's wish: let others run. Set by the monitor, and by a thread that wants something
    /// else of the scheduler (`inspect`, `shut_down`); cleared by the worker.
    pub(crate) slice_over: AtomicBool,
    /// The monitor has set `slice_over` because there has been no pause for long, although slices
    /// have ended by themselves. Set by the monitor before `slice_over`; cleared by the worker.
    pub(crate) pause_due: AtomicBool,
    /// A panic hook waits on its thread, which sleeps without being free for others. Written by the
    /// worker only; see `hold`.
    pub(crate) is_held: AtomicBool,
    /// How many of its own goroutines were runnable when it last looked.
    pub(super) load: AtomicUsize,
    /// Counts its pauses, in which it looks at unstarted goroutines (`worker/fairness.rs`). Written
    /// by the worker only.
    pub(crate) turns: AtomicU64,
    /// See `theft`.
    pub(super) truce: Truce,
    /// Counts time slices begun. Written by the worker only. Unchanged means that the worker has
    /// not come back.
    pub(crate) slices: AtomicU64,
    /// Goroutines that were to be spread, and live here. Written by the worker only.
    pub(super) spread: AtomicUsize,
    /// Goroutines spawned here, begun here, and ended here. Written by the worker only.
    pub(crate) spawned: AtomicU64,
    pub(super) started: AtomicU64,
    pub(crate) ended: AtomicU64,
    /// Futures started here, less those that have ended here. Written by the worker only.
    pub(crate) tasks: AtomicUsize,
    /// The thread's id in the kernel.
    pub(crate) thread_id: AtomicI32,
    /// The monitor's other wish, to a worker that sleeps: give back the memory that a crowd has
    /// needed. Set by the monitor, cleared by the worker.
    pub(super) tidy: AtomicBool,
    /// See `slab`.
    pub(crate) grown: AtomicU64,
    /// Requests about this worker's goroutines.
    pub(crate) requests: Requests,
    /// Where the worker of a former life was, if it is gone: the place of the next one. `biased`
    /// knows a worker by its address.
    pub(super) place: AtomicPtr<Worker>,
}

impl Remote {
    pub(crate) fn new(index: usize, shared: &'static Shared) -> std::io::Result<Remote> {
        Ok(Remote {
            index,
            shared,
            inbox: Inbox::new(),
            fresh: FreshQueue::new(),
            timers: Timers::new(),
            poller: Poller::new()?,
            slice_over: AtomicBool::new(false),
            pause_due: AtomicBool::new(false),
            is_held: AtomicBool::new(false),
            load: AtomicUsize::new(0),
            turns: AtomicU64::new(0),
            truce: Truce::new(),
            slices: AtomicU64::new(0),
            spread: AtomicUsize::new(0),
            spawned: AtomicU64::new(0),
            started: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            tasks: AtomicUsize::new(0),
            thread_id: AtomicI32::new(0),
            tidy: AtomicBool::new(false),
            grown: AtomicU64::new(0),
            requests: Requests::new(),
            place: AtomicPtr::new(ptr::null_mut()),
        })
    }

    /// Returns whether nothing is left of a worker that has stopped: see `retired.rs`.
    pub(crate) fn is_left_by_all(&self) -> bool {
        self.n_started() == 0
            && self.inbox.is_empty()
            && self.fresh.len() == 0
            && self.timers.next_due() == NEVER
            && !self.poller.has_sources()
    }

    /// Prepares it for another worker. Only counters that tell of changes count on.
    pub(crate) fn reset(&self) {
        // Relaxed, all: the thread is started after it.
        for counter in [&self.spawned, &self.started, &self.ended] {
            counter.store(0, Ordering::Relaxed);
        }
        self.tasks.store(0, Ordering::Relaxed);
        self.spread.store(0, Ordering::Relaxed);
        for flag in [&self.is_held, &self.pause_due] {
            flag.store(false, Ordering::Relaxed);
        }
        // SeqCst, both: a request that came too late for the last worker is the next one's, which
        // looks for it when its slice is over. `inspect::ask` posts first and then sets the flag.
        // So the request is pending here, or the flag is set after this.
        self.slice_over.store(false, Ordering::SeqCst);
        if self.requests.are_pending() {
            self.slice_over.store(true, Ordering::SeqCst);
        }
        self.tidy.store(false, Ordering::Relaxed);
        self.load.store(0, Ordering::Relaxed);
        self.inbox.finish_sleep();
    }

    /// Returns whether it has a worker: its runtime is not shut down, and has as many workers. A
    /// spare worker's place may be empty in the next life.
    pub(crate) fn is_served(&self) -> bool {
        // In this order: a thread that sees a new life sees its count, which begins at none.
        !self.shared.is_shut_down() && self.index < self.shared.n_workers()
    }

    /// Returns how many goroutines have begun to run here and have not ended.
    pub(crate) fn n_started(&self) -> usize {
        // Relaxed: exact for the worker; for others, a number to show.
        self.started.load(Ordering::Relaxed).saturating_sub(self.ended.load(Ordering::Relaxed)) as usize
    }

    /// Returns how many of them were to be spread.
    pub(crate) fn n_spread(&self) -> usize {
        self.spread.load(Ordering::Relaxed)
    }

    /// Returns whether it has unstarted goroutines or futures for which another worker should stay
    /// awake. A lone one is not enough. Nor are those in a truce (`theft`), in which the monitor
    /// makes a worker look at each tick.
    pub(crate) fn has_for_others(&self, tick: usize) -> bool {
        self.fresh.len() > 1 && !self.is_in_truce(tick)
    }

    /// See `theft`.
    pub(crate) fn is_in_truce(&self, tick: usize) -> bool {
        self.truce.holds(tick)
    }

    /// Makes a worker that sleeps give back what it does not need.
    pub(crate) fn ask_to_tidy(&self) {
        // Release pairs with the Acquire in `sleep`. A worker that is awake does it before it
        // sleeps the next time.
        self.tidy.store(true, Ordering::Release);
        self.notify();
    }

    /// Returns whether it has yet to do so.
    pub(crate) fn is_to_tidy(&self) -> bool {
        // Relaxed: the memory itself is handed over by the allocator.
        self.tidy.load(Ordering::Relaxed)
    }

    /// Wakes the worker's thread if it sleeps.
    pub(crate) fn notify(&self) {
        if self.inbox.notify() {
            self.poller.wake();
        }
    }
}
