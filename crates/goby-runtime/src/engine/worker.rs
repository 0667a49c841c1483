//! A worker: an OS thread that runs goroutines, and is home to those it has started.
//!
//! ```text
//! a round:  run_next, local queue, inbox, own unstarted goroutines, timers, poller, steal, sleep
//! ```
//!
//! Cheapest first: the goroutine in `run_next` was woken last, so its data is in cache. Then come
//! those that have waited here, then those that other threads woke, then those that have not begun.
//! The clock and the system are asked when none of these is left, or in a pause. Other workers are
//! troubled last (`worker/search.rs`). A pause breaks the order, so that every wait is bounded.
//! There is one every so many rounds, and whenever the monitor asks for one (`worker/fairness.rs`).
//!
//! A worker has two parts: [`Worker`], which only its own thread touches, and [`Remote`], which any
//! thread may touch.

mod capture;
mod fairness;
mod hold;
mod search;
mod theft;

use std::cell::{Cell, UnsafeCell};
use std::num::NonZeroU64;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::task::RawWakerVTable;
use std::time::{Duration, Instant};

use goby_switch::Fiber;

use self::fairness::{FAIRNESS, REFUSALS};
use self::search::EAGER;
use self::theft::{Truce, Watched};
use crate::base::answer::Answer;
use crate::base::biased::NOBODY;
use crate::base::inbox::{Inbox, Linked};
use crate::base::primitive::bump;
use crate::base::slab::Slab;
use crate::base::stack::Slot;
use crate::base::stack_trace::StackTrace;
use crate::base::{biased, fence, policy, tsan};
use crate::engine::frames::Function;
use crate::engine::goroutine::{Goroutine, GoroutineId};
use crate::engine::io::future;
use crate::engine::io::poller::Poller;
use crate::engine::io::timer::{NEVER, Timers};
use crate::engine::park::{SPREAD, SPREADS};
use crate::engine::registry::Registry;
use crate::engine::requests::Requests;
use crate::engine::run_queue::{Fresh, FreshQueue, LocalQueue};
use crate::engine::shared::Shared;
use crate::engine::wait_reason::WaitReason;
use crate::engine::watch::{self, NextLook};
use crate::engine::{frames, goroutine};

/// How often per tick of the monitor (1 ms) a worker's unstarted goroutines make it wake another: a
/// wake-up costs it 2 µs.
const WAKES_PER_TICK: usize = 8;
/// Free stacks that a worker keeps: at twice as many it gives this many back.
const STACK_CACHE: usize = 64;
/// Goroutine ids taken from the process's counter at a time.
const ID_BATCH: u64 = 256;

thread_local! {
    static CURRENT: Cell<Option<&'static Worker>> = const { Cell::new(None) };
}

/// How many more of the goroutines that are to be spread live on a worker before it gives one away:
/// one that lives only for a moment is better off where it is started.
const SPREAD_SLACK: usize = 4;
/// How late the kernel may end a worker's sleep, to end several at once. Its default, 50 µs, is
/// longer than many timers run.
const TIMER_SLACK: NonZeroU64 = NonZeroU64::new(1000).unwrap();

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
    load: AtomicUsize,
    /// Counts its pauses, in which it looks at unstarted goroutines (`worker/fairness.rs`). Written
    /// by the worker only.
    pub(crate) turns: AtomicU64,
    /// See `theft`.
    truce: Truce,
    /// Counts time slices begun. Written by the worker only. Unchanged means that the worker has
    /// not come back.
    pub(crate) slices: AtomicU64,
    /// Goroutines that were to be spread, and live here. Written by the worker only.
    spread: AtomicUsize,
    /// Goroutines spawned here, begun here, and ended here. Written by the worker only.
    pub(crate) spawned: AtomicU64,
    started: AtomicU64,
    pub(crate) ended: AtomicU64,
    /// Futures started here, less those that have ended here. Written by the worker only.
    pub(crate) tasks: AtomicUsize,
    /// The thread's id in the kernel.
    pub(crate) thread_id: AtomicI32,
    /// The monitor's other wish, to a worker that sleeps: give back the memory that a crowd has
    /// needed. Set by the monitor, cleared by the worker.
    tidy: AtomicBool,
    /// See `slab`.
    pub(crate) grown: AtomicU64,
    /// Requests about this worker's goroutines.
    pub(crate) requests: Requests,
    /// Where the worker of a former life was, if it is gone: the place of the next one. `biased`
    /// knows a worker by its address.
    place: AtomicPtr<Worker>,
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

/// The part of a worker that only its own thread touches.
pub(crate) struct Worker {
    pub(crate) remote: &'static Remote,
    pub(crate) shared: &'static Shared,
    /// The goroutine that runs now; none while the scheduler runs.
    current: Cell<Option<NonNull<Goroutine>>>,
    /// The goroutine that waits in a panic hook, on this thread. Meanwhile there is no current one;
    /// see `hold`.
    held: Cell<Option<NonNull<Goroutine>>>,
    /// The kind of waker of the future that is polled now; null while none is.
    polled: Cell<*const RawWakerVTable>,
    /// The goroutine to run before the queue: the one that the last goroutine woke. It inherits the
    /// time slice.
    run_next: Cell<Option<NonNull<Goroutine>>>,
    local: LocalQueue,
    stacks: UnsafeCell<Vec<Slot>>,
    /// Rounds until a pause: see [`FAIRNESS`].
    rounds_left: Cell<u32>,
    /// The monitor's tick when it last looked at inbox, timers and poller.
    maintained: Cell<usize>,
    /// The turn, as counted by `slices`, that a pause has begun last. The turn after it belongs to
    /// the local queue.
    began_fresh_at: Cell<u64>,
    /// How many more operations are refused until the worker asks whether they come in a row, and
    /// when it last asked.
    refusals_left: Cell<u32>,
    refused_at: Cell<Instant>,
    /// The next pause prefers injected goroutines to the worker's own unstarted ones.
    prefers_injected: Cell<bool>,
    /// A goroutine of ours is parked during its unwinding.
    neighbor_unwinds: Cell<bool>,
    /// The running goroutine has shut down its runtime, so it is the last that runs here. It must
    /// not yield: nothing would resume it.
    runs_last: Cell<bool>,
    ids: Cell<(u64, u64)>,
    /// The monitor's tick, and how often our unstarted goroutines have made us wake another worker
    /// in it.
    wakes: Cell<(usize, usize)>,
    watched: Cell<Option<Watched>>,
    /// Since when, and how often, we have left our unstarted goroutines to others.
    left: Cell<Option<(Instant, u32)>>,
    /// How well spins have paid: see [`EAGER`].
    spin_pays: Cell<i32>,
    registry: Registry,
    /// When to look for mistakes again.
    pub(crate) next_look: NextLook,
    pub(crate) slab: Slab,
    /// Where a goroutine that is resumed for its stack leaves it.
    captured: Cell<Option<StackTrace>>,
}

/// Returns the running goroutine, if the caller is one.
#[cfg_attr(not(debug_assertions), inline(always))]
pub(crate) fn current_goroutine() -> Option<NonNull<Goroutine>> {
    Worker::current().and_then(|worker| worker.current.get())
}

/// Returns the calling goroutine's id, or `None` where the caller is a thread or a future.
///
/// ```
/// let handle = goby::go(goby::goroutine::id);
/// let id = handle.id();
/// assert_eq!(handle.join().unwrap(), Some(id));
/// ```
pub fn current_id() -> Option<GoroutineId> {
    // SAFETY: it is running, here, so its record is alive.
    current_goroutine().map(|g| unsafe { g.as_ref() }.id)
}

/// Parks the running goroutine until it is unparked. It does not switch if the unpark comes within
/// the moment that a worker with nothing else to run can wait for it.
///
/// # Safety
///
/// `g` is the running goroutine, and waits on the wait with this answer.
#[cfg_attr(not(debug_assertions), inline(always))]
pub(crate) unsafe fn park(g: NonNull<Goroutine>, reason: WaitReason, answer: &Answer) {
    let _ignore = tsan::ignore();
    let worker = Worker::current().expect("only a goroutine parks");
    debug_assert_eq!(worker.current.get(), Some(g), "a wait is parked on by who has made it");
    // Mostly the goroutine has woken another here, which is to run next, or has started one. Only a
    // worker with nothing to run waits for the answer.
    if !worker.has_runnable() && worker.remote.fresh.len() == 0 && worker.await_answer(answer) {
        return;
    }
    // SAFETY: it is running, by contract, so its record is alive.
    unsafe {
        let header = g.as_ref();
        if watch::SEES_PARKS {
            worker.shared.watch.parks(worker, header, reason);
        }
        header.since.set(worker.shared.monitor.clock());
        header.reason.store(reason as u8, Ordering::Relaxed);
        suspend(g);
    }
}

/// Switches from the running goroutine to the scheduler.
///
/// # Safety
///
/// `g` is the running goroutine.
#[cfg_attr(not(debug_assertions), inline(always))]
unsafe fn suspend(g: NonNull<Goroutine>) {
    // SAFETY: it is running, so its record is alive and its suspender set.
    unsafe {
        if std::thread::panicking() {
            return suspend_panicking(g);
        }
        switch(g.as_ref());
    }
}

/// Switches from a goroutine that parks in a destructor during its unwinding, or whose neighbor
/// does. std counts panics per thread, so until the goroutine is back, all goroutines of the thread
/// seem to panic: see [`panicking`]. From within a panic hook it does not switch: see `hold`.
///
/// # Safety
///
/// As for [`suspend`].
#[cold]
unsafe fn suspend_panicking(g: NonNull<Goroutine>) {
    let worker = Worker::current().expect("only a goroutine parks");
    if worker.hold(g) {
        return;
    }
    let is_first = !worker.neighbor_unwinds.replace(true);
    // SAFETY: by contract; it is running, so its record is alive.
    unsafe { switch(g.as_ref()) };
    if is_first {
        worker.neighbor_unwinds.set(false);
    }
}

/// # Safety
///
/// As for [`suspend`], with the goroutine's record.
#[cfg_attr(not(debug_assertions), inline(always))]
unsafe fn switch(header: &Goroutine) {
    tsan::leave_thread(|| &header.home().index);
    loop {
        // SAFETY: by contract.
        unsafe { header.suspender.get().assume_init().suspend() };
        if header.reason.load(Ordering::Relaxed) != capture::CAPTURE {
            break;
        }
        capture::capture_self(header);
    }
    header.reason.store(WaitReason::None as u8, Ordering::Relaxed);
    tsan::enter_thread(|| &header.home().index);
}

/// Returns whether this goroutine unwinds because of a panic. On an OS thread it is
/// `std::thread::panicking`.
///
/// std counts panics per thread. So while a goroutine is parked inside a destructor that runs
/// during its panic, `std::thread::panicking()` is true for its neighbors on that worker too. This
/// function returns false for them, unless several goroutines do so at once.
///
/// ```
/// assert!(!goby_runtime::panicking());
/// ```
pub fn panicking() -> bool {
    std::thread::panicking() && Worker::current().is_none_or(|worker| !worker.neighbor_unwinds.get())
}

/// Says that the next goroutine that the calling one starts will live for a while, and has little
/// to do with its neighbors. So it may begin on a worker that sleeps, if fewer such goroutines live
/// there.
///
/// ```
/// goby_runtime::spread_next();
/// assert_eq!(goby_runtime::go(|| 7).join().unwrap(), 7);
/// ```
pub fn spread_next() {
    let _ignore = tsan::ignore();
    if let Some(g) = current_goroutine() {
        // SAFETY: it is running, here, so its record is alive.
        let flags = unsafe { &g.as_ref().flags };
        flags.set(flags.get() | SPREADS);
    }
}

/// Returns whether the caller may spin until another thread has done something: its worker has
/// nothing else to run or to begin.
#[cfg(not(loom))]
pub(crate) fn may_spin() -> bool {
    let _ignore = tsan::ignore();
    Worker::current().is_none_or(|worker| worker.shared.n_workers() > 1 && !worker.has_runnable() && worker.is_free())
}

/// Makes a parked goroutine runnable, from any thread.
///
/// # Safety
///
/// It parks, or has parked, on the wait with this answer. The caller has claimed that wait, and has
/// not unparked it before.
#[cfg_attr(not(debug_assertions), inline(always))]
pub(crate) unsafe fn unpark(g: NonNull<Goroutine>, answer: NonNull<Answer>) {
    let _ignore = tsan::ignore();
    // SAFETY: parked and claimed by the caller, so its record is alive.
    let home = unsafe { g.as_ref() }.home();
    match Worker::current() {
        Some(worker) if ptr::eq(worker.remote, home) => worker.ready(g),
        // SAFETY: the wait is alive until the unpark, which is this.
        _ if unsafe { answer.as_ref() }.give() => {}
        _ => {
            // SAFETY: a parked goroutine is in no queue, and from here on it belongs to its home.
            if unsafe { home.inbox.push(g.as_ptr()) } {
                home.poller.wake();
            }
        }
    }
}

impl Worker {
    /// Returns the calling thread's worker, if it has one.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(crate) fn current() -> Option<&'static Worker> {
        CURRENT.try_with(Cell::get).ok().flatten()
    }

    /// Returns whether a goroutine calls, not the scheduler.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(crate) fn in_goroutine(&self) -> bool {
        self.current.get().is_some()
    }

    /// Returns whether the scheduler calls: neither a goroutine, nor the poll of a future. The
    /// scheduler also does the work of the worker while a goroutine waits in a panic hook (`hold`):
    /// user code there would be a part of the hook.
    pub(crate) fn is_scheduling(&self) -> bool {
        !self.in_goroutine() && self.polled.get().is_null()
    }

    /// Records that a future with this kind of waker is polled from here on; null: none is.
    pub(crate) fn set_polled(&self, waker: *const RawWakerVTable) {
        self.polled.set(waker);
    }

    /// Returns whether a waker of this kind belongs to the future that is polled now. It does not
    /// if a goroutine calls.
    pub(crate) fn polls_with(&self, waker: *const RawWakerVTable) -> bool {
        !self.in_goroutine() && ptr::eq(self.polled.get(), waker)
    }

    /// Returns the running goroutine's record, for the overflow handler.
    pub(crate) fn running(&self) -> Option<&Goroutine> {
        // SAFETY: the running goroutine's record is alive.
        self.current.get().map(|g| unsafe { &*g.as_ptr() })
    }

    /// Returns the record of the goroutine that runs, or waits in a panic hook.
    pub(crate) fn running_or_held(&self) -> Option<&Goroutine> {
        // SAFETY: as in `running`; one that is held is running.
        self.running().or_else(|| self.held.get().map(|g| unsafe { &*g.as_ptr() }))
    }

    /// Returns whether one of its goroutines waits to be run.
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn has_runnable(&self) -> bool {
        self.run_next.get().is_some() || !self.local.is_empty()
    }

    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(crate) fn slice_is_over(&self) -> bool {
        self.remote.slice_over.load(Ordering::Relaxed)
    }

    /// Runs the scheduler on this thread until the runtime is shut down.
    pub(crate) fn run(remote: &'static Remote) {
        // std sets up this thread's locals before its goroutines do anything with them.
        tsan::release(&raw const remote.index);
        let ignore = tsan::ignore();
        // Where the kernel refuses that, timers are as late as everywhere else.
        let _ = rustix::thread::set_current_timer_slack(Some(TIMER_SLACK));
        remote.thread_id.store(rustix::thread::gettid().as_raw_nonzero().get(), Ordering::Relaxed);
        // Relaxed: left by a thread that stopped before this one was started.
        let place = NonNull::new(remote.place.swap(ptr::null_mut(), Ordering::Relaxed))
            .unwrap_or_else(|| NonNull::from(Box::leak(Box::<Worker>::new_uninit())).cast());
        let worker = Worker {
            remote,
            shared: remote.shared,
            current: Cell::new(None),
            held: Cell::new(None),
            polled: Cell::new(ptr::null()),
            run_next: Cell::new(None),
            local: LocalQueue::new(),
            stacks: UnsafeCell::new(Vec::with_capacity(2 * STACK_CACHE)),
            rounds_left: Cell::new(FAIRNESS),
            maintained: Cell::new(0),
            began_fresh_at: Cell::new(u64::MAX),
            refusals_left: Cell::new(REFUSALS),
            refused_at: Cell::new(policy::now()),
            prefers_injected: Cell::new(false),
            neighbor_unwinds: Cell::new(false),
            runs_last: Cell::new(false),
            ids: Cell::new((0, 0)),
            wakes: Cell::new((0, 0)),
            watched: Cell::new(None),
            left: Cell::new(None),
            spin_pays: Cell::new(EAGER),
            registry: Registry::new(),
            next_look: NextLook::new((0, None)),
            slab: Slab::new(&remote.grown),
            captured: Cell::new(None),
        };
        // SAFETY: memory for a worker, with none in it. It stays until the loop below is over.
        // After that nothing has the reference: no goroutine, if all have ended, and not this
        // thread.
        let worker: &'static Worker = unsafe {
            place.write(worker);
            place.as_ref()
        };
        CURRENT.set(Some(worker));
        if fence::fences_work() {
            biased::set_current_address(ptr::from_ref(worker).addr());
        }
        while worker.round() {}
        worker.give_stacks_back();
        CURRENT.set(None);
        biased::set_current_address(NOBODY);
        worker.slab.clear();
        // Before `note_exit`: after it the remote may be another worker's.
        let leaves_some = remote.n_started() != 0;
        if !leaves_some {
            // SAFETY: see where it was written.
            unsafe { place.drop_in_place() };
            remote.place.store(place.as_ptr(), Ordering::Relaxed);
        }
        remote.shared.note_exit();
        // The thread's locals must outlive what its goroutines have lent out of them, and
        // goroutines that have not ended are never unwound. So if there are any, the thread does
        // not end either.
        if leaves_some {
            loop {
                std::thread::park();
            }
        }
        drop(ignore);
        // What the goroutines did to the thread's locals comes before the locals' destructors.
        tsan::acquire(&raw const remote.shared);
    }

    // Spawning.

    /// Returns the next goroutine id, from this worker's share.
    #[inline]
    pub(crate) fn next_id(&self) -> u64 {
        let (next, end) = self.ids.get();
        if next < end {
            self.ids.set((next + 1, end));
            return next;
        }
        let first = GoroutineId::reserve(ID_BATCH);
        self.ids.set((first + 1, first + ID_BATCH));
        first
    }

    /// Counts a future that has been started, or has ended.
    #[inline]
    pub(crate) fn count_task(&self, change: isize) {
        let tasks = &self.remote.tasks;
        // No read-modify-write: one writer. Release pairs with the Acquire in `n_tasks`: a thread
        // that sees the change sees that we were awake.
        tasks.store(tasks.load(Ordering::Relaxed).wrapping_add_signed(change), Ordering::Release);
    }

    /// Queues a goroutine that the running one spawned.
    #[inline]
    pub(crate) fn spawn(&self, g: NonNull<Goroutine>) {
        bump(&self.remote.spawned);
        // SAFETY: it is running, so its record is alive.
        if let Some(flags) = self.current.get().map(|parent| unsafe { &(*parent.as_ptr()).flags })
            && flags.get() & SPREADS != 0
        {
            flags.set(flags.get() & !SPREADS);
            return self.spread(g);
        }
        self.push_fresh(Fresh::Goroutine(g));
    }

    /// Gives it to a worker that sleeps, if fewer such goroutines live there: a worker that sleeps
    /// comes to it at once.
    #[cold]
    fn spread(&self, g: NonNull<Goroutine>) {
        // SAFETY: unstarted, and in no queue, so no other thread knows it.
        let flags = unsafe { &g.as_ref().flags };
        flags.set(flags.get() | SPREAD);
        let sleeper = self.shared.idle.sleeper_by(Remote::n_spread);
        if let Some(sleeper) = sleeper.filter(|sleeper| sleeper.n_spread() + SPREAD_SLACK < self.remote.n_spread())
            // SAFETY: as above.
            && unsafe { sleeper.inbox.push_to_sleeper(g.as_ptr()) }
        {
            sleeper.poller.wake();
            return self.shared.monitor.hurry();
        }
        self.push_fresh(Fresh::Goroutine(g));
    }

    /// Queues an item that any worker may begin, and wakes a worker if one should come.
    #[inline]
    pub(crate) fn push_fresh(&self, item: Fresh) {
        let len = self.remote.fresh.push(item);
        if self.shared.idle.wants_searcher() {
            self.offer_fresh(len);
        }
        self.shared.monitor.hurry();
    }

    /// Wakes a worker to look at our unstarted goroutines, though not for every one. A lone one
    /// will most likely run as soon as the running goroutine parks; but if that computes instead,
    /// another worker should take it. In a truce (`theft`) that is left to the monitor. No fence:
    /// should the sleeper be missed, we are awake, and the monitor looks too.
    #[cold]
    fn offer_fresh(&self, len: usize) {
        let tick = self.shared.monitor.tick();
        if self.remote.truce.holds(tick) {
            return;
        }
        let used = match self.wakes.get() {
            (t, used) if t == tick => used,
            _ => 0,
        };
        if used < if len > 1 { WAKES_PER_TICK } else { 1 } {
            self.wakes.set((tick, used + 1));
            self.shared.idle.wake_searcher();
        }
    }

    // Running.

    /// Notes that the running goroutine, if there is one, has shut down its runtime.
    pub(crate) fn note_shut_down(&self) {
        self.runs_last.set(self.in_goroutine());
    }

    /// Makes one of our own goroutines runnable.
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn ready(&self, g: NonNull<Goroutine>) {
        if !self.in_goroutine() {
            // Woken by a timer, a socket or another thread: no goroutine has handed it the time
            // slice.
            return self.local.push_back(g);
        }
        if let Some(displaced) = self.run_next.replace(Some(g)) {
            self.local.push_back(displaced);
        }
    }

    /// Sends the running goroutine, whose slice is over, to the back of the queue.
    #[cold]
    pub(crate) fn end_slice_of_current(&self) {
        if self.in_goroutine() && !self.runs_last.get() && !self.initializes_local() {
            self.yield_current();
        }
    }

    /// Returns whether the running goroutine is inside the initializer of a thread-local, which its
    /// neighbors share. There it gives way only where it waits. As long as it is not inside one,
    /// this is asked once per slice.
    fn initializes_local(&self) -> bool {
        let _ignore = tsan::ignore();
        self.running().is_some_and(|g| frames::is_inside(g, Function::LocalInitializer))
    }

    /// Sends the running goroutine to the back of the queue.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(crate) fn yield_current(&self) {
        let _ignore = tsan::ignore();
        let g = self.current.get().expect("only a goroutine yields");
        // SAFETY: it is running, so its record is alive.
        unsafe { g.as_ref() }.reason.store(WaitReason::Yield as u8, Ordering::Relaxed);
        self.local.push_back(g);
        // SAFETY: `g` is the running goroutine. It may be queued already, since only this thread
        // resumes it.
        unsafe { suspend(g) };
    }

    #[inline]
    fn resume(&self, g: NonNull<Goroutine>) {
        // SAFETY: runnable, so alive; started, so its fiber is there; and only this thread touches
        // it.
        let ended = unsafe {
            let header = g.as_ref();
            self.current.set(Some(g));
            let alive = (*header.fiber.get()).assume_init_mut().resume();
            self.current.set(None);
            !alive
        };
        if ended {
            self.retire(g);
        }
    }

    /// Gives a goroutine a stack and runs it for the first time. From here on it is pinned.
    fn start(&self, g: NonNull<Goroutine>) {
        // SAFETY: unstarted, so alive.
        let header = unsafe { g.as_ref() };
        let stack = if header.has_own_stack() {
            // SAFETY: made for this goroutine, and unmapped only when it has ended.
            unsafe { header.own_stack().expect("it has one").raw() }
        } else {
            // SAFETY: only this thread touches the cache.
            let stacks = unsafe { &mut *self.stacks.get() };
            if stacks.is_empty()
                && let Err(why) = self.shared.pool.take(stacks)
            {
                return self.shared.starve(g, why);
            }
            let slot = stacks.pop().expect("a pool gives at least one stack");
            header.slot.set(Some(slot));
            // SAFETY: the slot is from this pool, and given to no other goroutine.
            unsafe { self.shared.pool.stack(slot) }
        };
        bump(&self.remote.started);
        self.count_spread(g, 1);
        header.pin(self.remote);
        header.place.set(self.registry.enter(g));
        // SAFETY: unstarted, so only this thread knows it. No other code uses the stack. `entry`
        // does not unwind, and is given the goroutine that it is for.
        unsafe {
            let fiber = Fiber::new(stack, goroutine::entry, g.as_ptr().cast(), header.tag);
            (*header.fiber.get()).write(fiber);
        }
        self.resume(g);
    }

    /// Counts it, if it was to be spread.
    #[inline]
    fn count_spread(&self, g: NonNull<Goroutine>, change: isize) {
        // SAFETY: about to begin, or ended and not yet forgotten, here. So its record is alive, and
        // no other thread touches its flags.
        if unsafe { g.as_ref() }.flags.get() & SPREAD != 0 {
            // Relaxed, and no read-modify-write: one writer, and a hint for others.
            self.remote.spread.store(self.remote.n_spread().wrapping_add_signed(change), Ordering::Relaxed);
        }
    }

    /// Takes a goroutine that has ended off its stack. Inlined by force, as `Registry::enter` is:
    /// both together save 42 of the 535 instructions of a goroutine's life (spawn_1000).
    #[inline(always)]
    fn retire(&self, g: NonNull<Goroutine>) {
        // SAFETY: the record is alive until `end`.
        let header = unsafe { g.as_ref() };
        if header.has_own_stack() {
            return self.retire_with_stack(g);
        }
        let slot = header.slot.take().expect("it ran on a stack");
        self.bury(g);
        if tsan::POOL_MEMORY {
            // SAFETY: only this thread touches the cache.
            let stacks = unsafe { &mut *self.stacks.get() };
            stacks.push(slot);
            if stacks.len() >= 2 * STACK_CACHE {
                // The cold end of the cache: the stacks pushed last are the warmest.
                self.shared.pool.give(stacks.drain(..STACK_CACHE));
            }
        } else {
            self.shared.pool.give_afresh(slot);
        }
        self.feed_one_starved();
    }

    /// Queues a goroutine that got no stack, if there is one: one has just become free.
    #[inline]
    fn feed_one_starved(&self) {
        if self.shared.has_starved() {
            self.shared.feed_starved(&self.remote.fresh);
        }
    }

    /// The same for a goroutine with a stack of its own.
    #[cold]
    fn retire_with_stack(&self, g: NonNull<Goroutine>) {
        // SAFETY: the record is alive until `end`.
        let own = unsafe { g.as_ref() }.own_stack().expect("it has one");
        self.bury(g);
        // SAFETY: its goroutine has ended.
        unsafe { self.shared.pool.give_own(own) };
        // Its address space may be what the others want.
        self.feed_one_starved();
    }

    /// Forgets a goroutine that has ended.
    #[inline]
    fn bury(&self, g: NonNull<Goroutine>) {
        // SAFETY: the record is alive until `end`.
        self.registry.leave(unsafe { g.as_ref() }.place.get());
        bump(&self.remote.ended);
        self.count_spread(g, -1);
        self.shared.note_end();
        // SAFETY: its fiber has finished, and we forget it here.
        unsafe { goroutine::end(g) };
    }

    // Finding work.

    /// Does one round: runs the next goroutine or future, of this worker if possible. Returns false
    /// if the runtime is shut down.
    #[inline]
    fn round(&self) -> bool {
        let fresh = 'next: {
            let rounds_left = self.rounds_left.get() - 1;
            self.rounds_left.set(rounds_left);
            if rounds_left == 0 || self.slice_is_over() {
                // In this order: the thread that shuts down sets the flag last, and may have set it
                // instead of the monitor.
                let slice_is_over = self.take_slice_over();
                if self.shared.is_shut_down() {
                    return false;
                }
                if let Some(oldest) = self.pause(slice_is_over) {
                    break 'next oldest;
                }
            }
            if let Some(g) = self.next_pinned() {
                self.resume(g);
                return true;
            }
            if let Some(newest) = self.remote.fresh.pop_newest() {
                break 'next newest;
            }
            if self.shared.is_shut_down() {
                return false;
            }
            match self.find_elsewhere() {
                Some(other) => other,
                None => return true,
            }
        };
        match fresh {
            Fresh::Goroutine(g) => self.start(g),
            Fresh::Future(runnable) => {
                let _heed = tsan::heed();
                future::run(self, runnable);
            }
        }
        true
    }

    /// Returns the next of its own goroutines that can go on.
    #[inline]
    fn next_pinned(&self) -> Option<NonNull<Goroutine>> {
        if let Some(g) = self.run_next.get() {
            self.run_next.set(None);
            return Some(g);
        }
        bump(&self.remote.slices);
        self.local.pop_front().or_else(|| if self.open_inbox() { self.local.pop_front() } else { None })
    }

    /// Returns whether the slice is over, and clears the flag: nothing asks for the same end twice.
    fn take_slice_over(&self) -> bool {
        // SeqCst: in one order with a thread that sets the flag after something else: it has posted
        // a request (`inspect::ask`), or has said that the runtime is shut down. We see that after
        // this, or the flag is set after this.
        self.slice_is_over() && self.remote.slice_over.swap(false, Ordering::SeqCst)
    }

    /// Looks at everything that can make goroutines runnable.
    fn maintain(&self) {
        self.maintained.set(self.shared.monitor.tick());
        self.open_inbox();
        self.remote.timers.run_due();
        if self.remote.poller.has_sources() {
            self.poll(Some(Duration::ZERO));
        }
    }

    /// Moves the goroutines that other threads unparked into the local queue, and those that they
    /// gave to a sleeper into the unstarted ones. Returns whether there were any.
    #[inline]
    fn open_inbox(&self) -> bool {
        let is_empty = self.remote.inbox.is_empty();
        if !is_empty {
            self.take_inbox();
        }
        !is_empty
    }

    #[inline(never)]
    fn take_inbox(&self) {
        let mut chain = self.remote.inbox.take();
        while let Some(g) = NonNull::new(chain) {
            // SAFETY: a goroutine in the inbox is parked, or unstarted, so alive, and ours.
            let header = unsafe { g.as_ref() };
            chain = header.link().load(Ordering::Relaxed);
            if header.is_pinned() {
                self.local.push_back(g);
            } else {
                self.remote.fresh.push(Fresh::Goroutine(g));
            }
        }
    }

    fn poll(&self, timeout: Option<Duration>) {
        if let Err(error) = self.remote.poller.wait(timeout) {
            panic!("waiting for events failed: {error}");
        }
    }
}
