//! A worker: an OS thread that runs goroutines, and is home to those it has started.
//!
//! ```text
//! a round:  run_next, local queue, inbox, own unstarted goroutines, timers, poller, steal, sleep
//! ```
//!
//! Cheapest first: the goroutine in `run_next` was woken last, so its data is in cache. Then come
//! those that have waited here, then those that other threads woke, then the unstarted ones.
//! The clock and the system are asked when none of these is left, or in a pause. Other workers are
//! troubled last (`worker/search.rs`). A pause breaks the order, so that every wait is bounded.
//! There is one every so many rounds, and whenever the monitor asks for one (`worker/fairness.rs`).
//!
//! A worker has two parts: [`Worker`], which only its own thread touches, and [`Remote`], which any
//! thread may touch.

mod remote;
mod births;
mod fairness;
mod search;
mod theft;
mod hold;
mod kept;
pub(super) mod capture;
pub(crate) mod checked;

use std::cell::{Cell, UnsafeCell};
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering;
use std::task::RawWakerVTable;
use std::time::Duration;

use goby_switch::Fiber;

use self::births::OwnBirths;
pub use self::births::spread_next;
use self::checked::Check;
use self::fairness::Fairness;
pub(in crate::engine) use self::kept::Kept;
pub(crate) use self::remote::Remote;
use self::search::Search;
use crate::base::biased::NOBODY;
use crate::base::inbox::Linked;
use crate::base::primitive::bump;
use crate::base::stack::{Pool, Slot};
use crate::base::stack_trace::StackTrace;
use crate::base::{biased, fence, order, tsan};
use crate::engine::frames::Function;
use crate::engine::goroutine::{Goroutine, GoroutineId};
use crate::engine::io::future;
use crate::engine::registry::Registry;
use crate::engine::run_queue::{LocalQueue, Unstarted};
use crate::engine::shared::Shared;
use crate::engine::switch;
use crate::engine::tuning::{STACK_CACHE, TIMER_SLACK};
use crate::engine::wait_reason::WaitReason;
use crate::engine::watch::NextLook;
use crate::engine::{carried, frames, goroutine};

thread_local! {
    static CURRENT: Cell<Option<&'static Worker>> = const { Cell::new(None) };
}

/// The part of a worker that only its own thread touches, by the part of its work that uses it.
pub(crate) struct Worker {
    pub(crate) remote: &'static Remote,
    pub(crate) shared: &'static Shared,
    pub(super) running: Running,
    /// The goroutine to run before the queue: the one that the last goroutine woke. It inherits the
    /// time slice.
    run_next: Cell<Option<NonNull<Goroutine>>>,
    local: LocalQueue,
    stacks: UnsafeCell<Vec<Slot>>,
    fair: Fairness,
    search: Search,
    births: OwnBirths,
    registry: Registry,
    /// When to look for mistakes again.
    pub(crate) next_look: NextLook,
    /// The execution of a check that runs now; seldom any.
    check: Check,
}

/// What runs on the thread now. Written at each switch.
pub(super) struct Running {
    /// The goroutine that runs now; none while the scheduler runs.
    pub(super) current: Cell<Option<NonNull<Goroutine>>>,
    /// The goroutine that waits in a panic hook, on this thread. Meanwhile there is no current one;
    /// see `hold`.
    held: Cell<Option<NonNull<Goroutine>>>,
    /// The kind of waker of the future that is polled now; null while none is.
    polled: Cell<*const RawWakerVTable>,
    /// A goroutine of ours is parked during its unwinding.
    pub(super) neighbor_unwinds: Cell<bool>,
    /// The running goroutine has shut down its runtime, so it is the last that runs here. It must
    /// not yield: nothing would resume it.
    runs_last: Cell<bool>,
    /// Where a goroutine that is resumed for its stack leaves it.
    captured: Cell<Option<StackTrace>>,
}

impl Running {
    fn nothing() -> Running {
        Running {
            current: Cell::new(None),
            held: Cell::new(None),
            polled: Cell::new(ptr::null()),
            neighbor_unwinds: Cell::new(false),
            runs_last: Cell::new(false),
            captured: Cell::new(None),
        }
    }
}

/// Returns the running goroutine, if the caller is one.
#[cfg_attr(not(debug_assertions), inline(always))]
pub(crate) fn current_goroutine() -> Option<NonNull<Goroutine>> {
    Worker::current().and_then(|worker| worker.running.current.get())
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

/// Returns whether the caller may spin until another thread has done something: its worker has
/// nothing else to run or to begin.
#[cfg(not(loom))]
pub(crate) fn may_spin() -> bool {
    let _ignore = tsan::ignore();
    Worker::current().is_none_or(|worker| worker.shared.n_workers() > 1 && !worker.has_runnable() && worker.is_free())
}

/// Panics if a future in a check is about to wait inside its poll: no other of the check could run
/// meanwhile.
#[cold]
pub(crate) fn assert_may_sleep() {
    if let Some(worker) = Worker::current()
        && worker.is_checked()
        && worker.polls().is_some()
    {
        worker.leave_check(
            "a future waits inside its poll, which keeps the only worker of the check: await there, or run the future by \
             block_on in a goroutine",
        );
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
        self.running.current.get().is_some()
    }

    /// Returns whether the scheduler calls: neither a goroutine, nor the poll of a future. The
    /// scheduler also does the work of the worker while a goroutine waits in a panic hook (`hold`):
    /// user code there would be a part of the hook.
    pub(crate) fn is_scheduling(&self) -> bool {
        !self.in_goroutine() && self.running.polled.get().is_null()
    }

    /// Records that a future with this kind of waker is polled from here on; null: none is.
    pub(crate) fn set_polled(&self, waker: *const RawWakerVTable) {
        self.running.polled.set(waker);
    }

    /// Returns a number that stands for the kind of the future that is polled now; none if none is,
    /// or if a goroutine calls.
    pub(crate) fn polls(&self) -> Option<usize> {
        let kind = self.running.polled.get();
        (!kind.is_null() && !self.in_goroutine()).then(|| kind.addr())
    }

    /// Returns whether a waker of this kind belongs to the future that is polled now. It does not
    /// if a goroutine calls.
    pub(crate) fn polls_with(&self, waker: *const RawWakerVTable) -> bool {
        !self.in_goroutine() && ptr::eq(self.running.polled.get(), waker)
    }

    /// Returns the running goroutine's record, for the overflow handler.
    pub(crate) fn running(&self) -> Option<&Goroutine> {
        // SAFETY: the running goroutine's record is alive.
        self.running.current.get().map(|g| unsafe { &*g.as_ptr() })
    }

    /// Returns the record of the goroutine that runs, or waits in a panic hook.
    pub(crate) fn running_or_held(&self) -> Option<&Goroutine> {
        // SAFETY: as in `running`; one that is held is running.
        self.running().or_else(|| self.running.held.get().map(|g| unsafe { &*g.as_ptr() }))
    }

    /// Returns whether one of its goroutines waits to be run.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(super) fn has_runnable(&self) -> bool {
        self.run_next.get().is_some() || !self.local.is_empty()
    }

    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(crate) fn slice_is_over(&self) -> bool {
        self.remote.orders.slice_over.load(Ordering::Relaxed)
    }

    /// Runs the scheduler on this thread until the runtime is shut down.
    pub(crate) fn run(remote: &'static Remote) {
        // std sets up this thread's locals before its goroutines do anything with them.
        order::precede(&raw const remote.index);
        let ignore = tsan::ignore();
        // Where the kernel refuses that, timers are as late as everywhere else.
        let _ = rustix::thread::set_current_timer_slack(Some(TIMER_SLACK));
        remote.thread.thread_id.store(rustix::thread::gettid().as_raw_nonzero().get(), Ordering::Relaxed);
        // Relaxed: left by a thread that stopped before this one was started.
        let place = NonNull::new(remote.thread.place.swap(ptr::null_mut(), Ordering::Relaxed))
            .unwrap_or_else(|| NonNull::from(Box::leak(Box::<Worker>::new_uninit())).cast());
        let worker = Worker {
            remote,
            shared: remote.shared,
            running: Running::nothing(),
            run_next: Cell::new(None),
            local: LocalQueue::new(),
            stacks: UnsafeCell::new(Vec::with_capacity(2 * STACK_CACHE)),
            fair: Fairness::new(),
            search: Search::new(),
            births: OwnBirths::new(remote),
            registry: Registry::new(),
            next_look: NextLook::new((0, None)),
            check: Check::none(),
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
        match worker.shared.take_check() {
            None => while worker.round() {},
            Some(check) => check(worker),
        }
        worker.give_stacks_back();
        CURRENT.set(None);
        biased::set_current_address(NOBODY);
        worker.births.slab.clear();
        // Before `note_exit`: after it the remote may be another worker's.
        let leaves_some = remote.n_started() != 0;
        if !leaves_some {
            // SAFETY: see where it was written.
            unsafe { place.drop_in_place() };
            remote.thread.place.store(place.as_ptr(), Ordering::Relaxed);
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
        order::follow(&raw const remote.shared);
    }

    // Running.

    /// Notes that the running goroutine, if there is one, has shut down its runtime.
    pub(crate) fn note_shut_down(&self) {
        self.running.runs_last.set(self.in_goroutine());
    }

    /// Makes one of our own goroutines runnable.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(super) fn ready(&self, g: NonNull<Goroutine>) {
        if !self.in_goroutine() {
            // Woken by a timer, a socket or another thread: no goroutine has handed it the time
            // slice.
            return self.local.push_back(g);
        }
        if let Some(displaced) = self.run_next.replace(Some(g)) {
            self.local.push_back(displaced);
        }
    }

    /// Sends the running goroutine, whose slice is over, to the back of the queue. In a check, asks
    /// who goes on, before an operation on `object`.
    #[cold]
    pub(crate) fn end_slice_of_current(&self, object: usize) {
        if self.is_checked() {
            return self.come_to_point(false, object);
        }
        if self.in_goroutine() && !self.running.runs_last.get() && !self.initializes_local() {
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
        let g = self.running.current.get().expect("only a goroutine yields");
        // SAFETY: it is running, so its record is alive.
        let header = unsafe { g.as_ref() };
        if header.notes.flags.carries() {
            return self.yield_carrier(header);
        }
        let _ignore = tsan::ignore();
        header.notes.reason.store(WaitReason::Yield as u8, Ordering::Relaxed);
        self.local.push_back(g);
        // SAFETY: `g` is the running goroutine. It may be queued already, since only this thread
        // resumes it.
        unsafe { switch::suspend(g) };
    }

    /// Does the same for a goroutine that carries something, which it has taken off meanwhile.
    #[cold]
    fn yield_carrier(&self, g: &Goroutine) {
        carried::away(g, |keeper| {
            if keeper.is_none() {
                self.yield_current();
            }
        });
    }

    /// Inlined by force, and `start` with it: a check calls both, too, and without that the rounds
    /// would call them (15 instructions each).
    #[inline(always)]
    fn resume(&self, g: NonNull<Goroutine>) {
        // SAFETY: runnable, so alive; started, so its fiber is there; and only this thread touches
        // it.
        let ended = unsafe {
            let header = g.as_ref();
            self.running.current.set(Some(g));
            let alive = (*header.stack.fiber.get()).assume_init_mut().resume();
            self.running.current.set(None);
            !alive
        };
        if ended {
            self.retire(g);
        }
    }

    /// Gives a goroutine a stack and runs it for the first time. From here on it is pinned.
    #[inline(always)]
    fn start(&self, g: NonNull<Goroutine>) {
        // SAFETY: unstarted, so alive.
        let header = unsafe { g.as_ref() };
        let stack = if header.notes.flags.has_own_stack() {
            // SAFETY: made for this goroutine, and unmapped only when it has ended.
            unsafe { header.own_stack().expect("it has one").raw() }
        } else {
            // SAFETY: only this thread touches the cache.
            let stacks = unsafe { &mut *self.stacks.get() };
            if stacks.is_empty()
                && let Err(why) = self.shared.stacks.pool.take(stacks)
            {
                return self.shared.stacks.starved.add(g, why);
            }
            let slot = stacks.pop().expect("a pool gives at least one stack");
            header.stack.slot.set(Some(slot));
            // SAFETY: the slot is from this pool, and given to no other goroutine.
            unsafe { self.shared.stacks.pool.stack(slot) }
        };
        bump(&self.remote.tally.started);
        self.count_spread(g, 1);
        header.pin(self.remote);
        header.notes.place.set(self.registry.enter(g));
        // SAFETY: unstarted, so only this thread knows it. No other code uses the stack. `entry`
        // does not unwind, and is given the goroutine that it is for.
        unsafe {
            let fiber = Fiber::new(stack, goroutine::entry, g.as_ptr().cast(), header.origin.tag);
            (*header.stack.fiber.get()).write(fiber);
        }
        self.resume(g);
    }

    /// Counts it, if it was to be spread.
    #[inline]
    fn count_spread(&self, g: NonNull<Goroutine>, change: isize) {
        // SAFETY: about to begin, or ended and not yet forgotten, here. So its record is alive, and
        // no other thread touches its flags.
        if unsafe { g.as_ref() }.notes.flags.is_spread() {
            // Relaxed, and no read-modify-write: one writer, and a hint for others.
            self.remote.tally.spread.store(self.remote.n_spread().wrapping_add_signed(change), Ordering::Relaxed);
        }
    }

    /// Takes a goroutine that has ended off its stack. Inlined by force, as `Registry::enter` is:
    /// both together save 42 of the 535 instructions of a goroutine's life (spawn_1000).
    #[inline(always)]
    fn retire(&self, g: NonNull<Goroutine>) {
        // SAFETY: the record is alive until `end`.
        let header = unsafe { g.as_ref() };
        if header.notes.flags.has_own_stack() {
            return self.retire_with_stack(g);
        }
        let slot = header.stack.slot.take().expect("it ran on a stack");
        self.bury(g);
        if Pool::REUSES {
            // SAFETY: only this thread touches the cache.
            let stacks = unsafe { &mut *self.stacks.get() };
            stacks.push(slot);
            if stacks.len() >= 2 * STACK_CACHE {
                // The cold end of the cache: the stacks pushed last are the warmest.
                self.shared.stacks.pool.give(stacks.drain(..STACK_CACHE));
            }
        } else {
            self.shared.stacks.pool.give_afresh(slot);
        }
        self.feed_one_starved();
    }

    /// Queues a goroutine that got no stack, if there is one: one has just become free.
    #[inline]
    fn feed_one_starved(&self) {
        if self.shared.stacks.starved.any() {
            self.shared.stacks.starved.feed_one(&self.remote.stealable.unstarted);
        }
    }

    /// The same for a goroutine with a stack of its own.
    #[cold]
    fn retire_with_stack(&self, g: NonNull<Goroutine>) {
        // SAFETY: the record is alive until `end`.
        let own = unsafe { g.as_ref() }.own_stack().expect("it has one");
        self.bury(g);
        // SAFETY: its goroutine has ended.
        unsafe { self.shared.stacks.pool.give_own(own) };
        // Its address space may be what the others want.
        self.feed_one_starved();
    }

    /// Forgets a goroutine that has ended.
    #[inline]
    fn bury(&self, g: NonNull<Goroutine>) {
        // SAFETY: the record is alive until `end`.
        self.registry.leave(unsafe { g.as_ref() }.notes.place.get());
        bump(&self.remote.tally.ended);
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
        let unstarted = 'next: {
            let rounds_left = self.fair.rounds_left.get() - 1;
            self.fair.rounds_left.set(rounds_left);
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
            if let Some(newest) = self.remote.stealable.unstarted.pop_newest() {
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
        match unstarted {
            Unstarted::Goroutine(g) => self.start(g),
            Unstarted::Future(runnable) => {
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
        bump(&self.remote.tally.slices);
        self.local.pop_front().or_else(|| if self.open_inbox() { self.local.pop_front() } else { None })
    }

    /// Returns whether the slice is over, and clears the flag: nothing asks for the same end twice.
    fn take_slice_over(&self) -> bool {
        // SeqCst: in one order with a thread that sets the flag after something else: it has posted
        // a request (`inspect::ask`), or has said that the runtime is shut down. We see that after
        // this, or the flag is set after this.
        self.slice_is_over() && self.remote.orders.slice_over.swap(false, Ordering::SeqCst)
    }

    /// Looks at everything that can make goroutines runnable.
    fn maintain(&self) {
        self.fair.maintained.set(self.shared.monitor.tick());
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
        let is_empty = self.remote.mail.inbox.is_empty();
        if !is_empty {
            self.take_inbox();
        }
        !is_empty
    }

    #[inline(never)]
    fn take_inbox(&self) {
        let mut chain = self.remote.mail.inbox.take();
        while let Some(g) = NonNull::new(chain) {
            // SAFETY: a goroutine in the inbox is parked, or unstarted, so alive, and ours.
            let header = unsafe { g.as_ref() };
            chain = header.link().load(Ordering::Relaxed);
            if header.is_pinned() {
                self.local.push_back(g);
            } else {
                self.remote.stealable.unstarted.push(Unstarted::Goroutine(g));
            }
        }
    }

    fn poll(&self, timeout: Option<Duration>) {
        if let Err(error) = self.remote.poller.wait(timeout) {
            panic!("waiting for events failed: {error}");
        }
    }
}
