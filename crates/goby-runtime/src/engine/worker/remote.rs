//! The part of a worker that other threads may touch.

use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU8, AtomicU64, AtomicUsize, Ordering};

use super::Worker;
use super::theft::Patience;
use crate::base::inbox::Inbox;
use crate::engine::goroutine::Goroutine;
use crate::engine::io::poller::Poller;
use crate::engine::io::timer::{NEVER, Timers};
use crate::engine::requests::Requests;
use crate::engine::run_queue::UnstartedQueue;
use crate::engine::shared::Shared;
use crate::engine::wait_reason::WaitReason;

/// The part of a worker that other threads may touch, by who writes and who reads it. It is never
/// freed, but used again: see `retired.rs`.
pub(crate) struct Remote {
    pub(crate) index: usize,
    pub(crate) shared: &'static Shared,
    pub(crate) mail: Mail,
    pub(crate) orders: Orders,
    pub(crate) stealable: Stealable,
    pub(crate) timers: Timers,
    pub(crate) poller: Poller,
    pub(crate) tally: Tally,
    pub(crate) thread: Thread,
}

/// What other threads leave for the worker, which takes it out.
pub(crate) struct Mail {
    /// Goroutines that they unparked.
    pub(crate) inbox: Inbox<Goroutine>,
    /// Requests about this worker's goroutines.
    pub(crate) requests: Requests,
}

/// What other threads want of the worker. They set these flags, seldom; the worker reads them in
/// each round, and clears them.
pub(crate) struct Orders {
    /// Let others run. Set by the monitor, and by a thread that wants something else of the
    /// scheduler (`inspect`, `shut_down`).
    pub(crate) slice_over: AtomicBool,
    /// The monitor has set `slice_over` because there has been no pause for long, although slices
    /// have ended by themselves. Set by the monitor before `slice_over`.
    pub(crate) pause_due: AtomicBool,
    /// To a worker that sleeps: give back the memory that a crowd has needed. Set by the monitor.
    pub(super) tidy: AtomicBool,
}

/// What a thief takes, and by what it decides. The worker writes all but `patience`; thieves read
/// it, write `patience`, and take from `unstarted`.
pub(crate) struct Stealable {
    pub(crate) unstarted: UnstartedQueue,
    /// How many of its own goroutines were runnable when it last looked.
    pub(super) load: AtomicUsize,
    /// Counts its pauses, in which it looks at unstarted goroutines (`worker/fairness.rs`).
    pub(crate) turns: AtomicU64,
    /// See `theft`.
    pub(super) patience: Patience,
}

/// What has happened here. Written by the worker only, without an atomic update; read by the
/// monitor, and by the watchers of the runtime.
pub(crate) struct Tally {
    /// Counts time slices begun. Unchanged means that the worker has not come back.
    pub(crate) slices: AtomicU64,
    /// Goroutines spawned here, begun here, and ended here.
    pub(crate) spawned: AtomicU64,
    pub(super) started: AtomicU64,
    pub(crate) ended: AtomicU64,
    /// Futures started here, less those that have ended here.
    pub(crate) tasks: AtomicUsize,
    /// Goroutines that were to be spread, and live here.
    pub(super) spread: AtomicUsize,
    /// See `slab`.
    pub(crate) grown: AtomicU64,
}

/// The worker's thread, and where its other part lies. Written by the worker; read by those that
/// ask what the thread does.
pub(crate) struct Thread {
    /// Its id in the kernel.
    pub(crate) thread_id: AtomicI32,
    /// A panic hook waits on it. It sleeps without being free for others; see `hold`.
    pub(crate) is_held: AtomicBool,
    /// Why the future that it polls waits in goby: a number of [`WaitReason`], whose `None` says
    /// that it does not. See `kept`.
    pub(super) waits: AtomicU8,
    /// Where the worker of a former life was, if it is gone: the place of the next one. `biased`
    /// knows a worker by its address.
    pub(super) place: AtomicPtr<Worker>,
}

impl Remote {
    pub(crate) fn new(index: usize, shared: &'static Shared) -> std::io::Result<Remote> {
        Ok(Remote {
            index,
            shared,
            mail: Mail { inbox: Inbox::new(), requests: Requests::new() },
            orders: Orders {
                slice_over: AtomicBool::new(false),
                pause_due: AtomicBool::new(false),
                tidy: AtomicBool::new(false),
            },
            stealable: Stealable {
                unstarted: UnstartedQueue::new(),
                load: AtomicUsize::new(0),
                turns: AtomicU64::new(0),
                patience: Patience::new(),
            },
            timers: Timers::new(),
            poller: Poller::new()?,
            tally: Tally {
                slices: AtomicU64::new(0),
                spawned: AtomicU64::new(0),
                started: AtomicU64::new(0),
                ended: AtomicU64::new(0),
                tasks: AtomicUsize::new(0),
                spread: AtomicUsize::new(0),
                grown: AtomicU64::new(0),
            },
            thread: Thread {
                thread_id: AtomicI32::new(0),
                is_held: AtomicBool::new(false),
                waits: AtomicU8::new(WaitReason::None as u8),
                place: AtomicPtr::new(ptr::null_mut()),
            },
        })
    }

    /// Returns whether nothing is left of a worker that has stopped: see `retired.rs`.
    pub(crate) fn is_left_by_all(&self) -> bool {
        self.n_started() == 0
            && self.mail.inbox.is_empty()
            && self.stealable.unstarted.len() == 0
            && self.timers.next_due() == NEVER
            && !self.poller.has_sources()
    }

    /// Prepares it for another worker. Only counters that tell of changes count on.
    pub(crate) fn reset(&self) {
        // Relaxed, all: the thread is started after it.
        for counter in [&self.tally.spawned, &self.tally.started, &self.tally.ended] {
            counter.store(0, Ordering::Relaxed);
        }
        self.tally.tasks.store(0, Ordering::Relaxed);
        self.tally.spread.store(0, Ordering::Relaxed);
        for flag in [&self.thread.is_held, &self.orders.pause_due] {
            flag.store(false, Ordering::Relaxed);
        }
        // SeqCst, both: a request that came too late for the last worker is the next one's, which
        // looks for it when its slice is over. `inspect::ask` posts first and then sets the flag.
        // So the request is pending here, or the flag is set after this.
        self.orders.slice_over.store(false, Ordering::SeqCst);
        if self.mail.requests.are_pending() {
            self.orders.slice_over.store(true, Ordering::SeqCst);
        }
        self.orders.tidy.store(false, Ordering::Relaxed);
        self.stealable.load.store(0, Ordering::Relaxed);
        self.mail.inbox.finish_sleep();
    }

    /// Returns whether it has a worker: its runtime is not shut down, and has as many workers. A
    /// spare worker's place may be empty in the next life.
    pub(crate) fn is_served(&self) -> bool {
        // In this order: a thread that sees a new life sees its count, which begins at none.
        !self.shared.is_shut_down() && self.index < self.shared.n_workers()
    }

    /// Returns why the future that its worker polls waits in goby, if it does.
    pub(crate) fn future_waits(&self) -> Option<WaitReason> {
        // Relaxed: for reports, a hint. For a verdict the wait of its thread orders it:
        // `Kept::begin` comes before that, and its end after.
        let reason = WaitReason::from_number(self.thread.waits.load(Ordering::Relaxed));
        (reason != WaitReason::None).then_some(reason)
    }

    /// Returns how many goroutines have begun to run here and have not ended.
    pub(crate) fn n_started(&self) -> usize {
        // Relaxed: exact for the worker; for others, a number to show.
        self.tally.started.load(Ordering::Relaxed).saturating_sub(self.tally.ended.load(Ordering::Relaxed)) as usize
    }

    /// Counts the goroutines that have begun to run here.
    pub(crate) fn n_begun(&self) -> u64 {
        self.tally.started.load(Ordering::Relaxed)
    }

    /// Returns how many of its own goroutines were runnable when it last looked; out of date at
    /// once.
    pub(crate) fn load(&self) -> usize {
        self.stealable.load.load(Ordering::Relaxed)
    }

    /// Returns how many of them were to be spread.
    pub(crate) fn n_spread(&self) -> usize {
        self.tally.spread.load(Ordering::Relaxed)
    }

    /// Returns whether it has unstarted goroutines or futures for which another worker should stay
    /// awake. A lone one is not enough. Nor are those that thieves leave alone for long (`theft`):
    /// the monitor makes a worker look at each tick.
    pub(crate) fn has_for_others(&self) -> bool {
        self.stealable.unstarted.len() > 1 && !self.stealable.patience.is_long()
    }

    /// Makes a worker that sleeps give back what it does not need.
    pub(crate) fn ask_to_tidy(&self) {
        // Release pairs with the Acquire in `sleep`. A worker that is awake does it before it
        // sleeps the next time.
        self.orders.tidy.store(true, Ordering::Release);
        self.notify();
    }

    /// Returns whether it has yet to do so.
    pub(crate) fn is_to_tidy(&self) -> bool {
        // Relaxed: the memory itself is handed over by the allocator.
        self.orders.tidy.load(Ordering::Relaxed)
    }

    /// Wakes the worker's thread if it sleeps.
    pub(crate) fn notify(&self) {
        if self.mail.inbox.notify() {
            self.poller.wake();
        }
    }
}
