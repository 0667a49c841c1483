//! Timers: each worker has a heap of them, under a short lock, and runs the due ones between
//! goroutines.
//!
//! A timer belongs to the heap of the worker that made it; if an OS thread made it, to the heap of
//! some worker. Its entry knows its place in the heap, so a stop takes it out at once: a million
//! timers that never fire leave nothing behind. Any worker may run another worker's due timers; the
//! lock decides which one fires a timer. If the runtime is shut down, a thread fires its timers:
//! see `orphans`.
//!
//! Two kinds share the heap: a [`Timer`] with a callback, and the [`SleepTimer`] of a parked
//! goroutine, which lies on its stack. The wait of a sleep timer is claimed under the heap's lock.
//! So once the goroutine has taken its timer out under that lock, nobody touches the timer.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomPinned;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::biased::BiasedLock;
use crate::base::primitive::Ordering;
use crate::base::{order, policy, tsan};
use crate::engine::current;
use crate::engine::orphans;
use crate::engine::park::{TIMED_OUT, Wait};
use crate::engine::unparker::Unparker;
use crate::engine::worker::{Remote, Worker};

/// Children per heap node: a wide heap is shallow, and the children share a cache line or two.
const ARITY: usize = 4;
/// `place`: not in the heap.
const NOWHERE: usize = usize::MAX;
/// The due time of an empty heap.
pub(crate) const NEVER: u64 = u64::MAX;
/// Timers taken out of the heap under one lock.
const FIRE_BATCH: usize = 32;

/// The action of a timer that may be of no use to anybody when it fires: the channel that it fills
/// may have no reader. The deadlock detector does not wait for such a timer.
///
/// Both methods are called with no lock held, [`fire`](TimerAction::fire) on a worker between
/// goroutines. Any thread of goby may drop the value, so it must own nothing that has a destructor
/// of the user.
pub trait TimerAction: Send + Sync + 'static {
    /// Fires. It is called once the timer is due; `due` is the time at which it was due.
    fn fire(&self, due: Instant);

    /// Returns whether a firing would unpark a waiter, or run the program's code.
    fn is_awaited(&self) -> bool;
}

/// A function of which nothing is known: somebody may always wait for its effect.
struct Always<F>(F);

impl<F: Fn(Instant) + Send + Sync + 'static> TimerAction for Always<F> {
    fn fire(&self, due: Instant) {
        (self.0)(due);
    }

    fn is_awaited(&self) -> bool {
        true
    }
}

/// A timer that calls a function when it is due.
///
/// The function runs on a worker between goroutines, with no lock held. It must not park and must
/// not panic; it may start goroutines, unpark, close a channel, send without blocking. The function
/// itself may be dropped there, too. If it owns or finds a value with a destructor of the user, it
/// must give that value to [`let_go`](crate::let_go). Dropping the timer stops it.
///
/// `goby::time` is built from this; programs use `goby::time`.
///
/// ```
/// use std::sync::mpsc;
/// let (tx, rx) = mpsc::channel();
/// let timer = goby_runtime::Timer::new(move |due| tx.send(due).unwrap());
/// let due = goby_runtime::now();
/// timer.start(due);
/// assert_eq!(rx.recv().unwrap(), due);
/// assert!(!timer.stop(), "it has fired");
/// ```
pub struct Timer {
    inner: Arc<Inner<dyn TimerAction>>,
}

struct Inner<A: ?Sized> {
    home: &'static Remote,
    /// Whether to ask `action` if it is awaited; otherwise it counts as awaited.
    is_asked: bool,
    /// Its place in `home`'s heap; with `period`, guarded by that heap's lock.
    place: Cell<usize>,
    /// Nanoseconds between firings; zero fires once.
    period: Cell<u64>,
    action: A,
}

// SAFETY: the cells are used under the heap's lock only; the action is Send and Sync.
unsafe impl<A: ?Sized + Send + Sync> Send for Inner<A> {}
// SAFETY: as above.
unsafe impl<A: ?Sized + Send + Sync> Sync for Inner<A> {}

impl Timer {
    /// Makes a timer that is not started.
    pub fn new(callback: impl Fn(Instant) + Send + Sync + 'static) -> Timer {
        Timer::make(Always(callback), false)
    }

    /// Makes a timer whose action says whether anybody waits for it.
    pub fn of(action: impl TimerAction) -> Timer {
        Timer::make(action, true)
    }

    fn make(action: impl TimerAction, is_asked: bool) -> Timer {
        let _ignore = tsan::ignore();
        let home = match Worker::current() {
            Some(worker) => worker.remote,
            None => current::default_shared().any_remote(),
        };
        Timer { inner: Arc::new(Inner { home, is_asked, place: Cell::new(NOWHERE), period: Cell::new(0), action }) }
    }

    /// Starts it, or changes when it is due; returns true if it was running.
    pub fn start(&self, due: Instant) -> bool {
        self.start_at(due, 0)
    }

    /// Starts it to fire at `due` and every `period` from then on; returns true if it was running.
    ///
    /// If several periods have passed, it fires once.
    ///
    /// # Panics
    ///
    /// When `period` is zero.
    pub fn start_periodic(&self, due: Instant, period: Duration) -> bool {
        assert!(!period.is_zero(), "a periodic timer needs a period above zero");
        self.start_at(due, u64::try_from(period.as_nanos()).unwrap_or(u64::MAX))
    }

    fn target(&self) -> NonNull<Inner<dyn TimerAction>> {
        // Made from the `Arc` itself, not from a reference: the heap makes an `Arc` of it again.
        NonNull::new(Arc::as_ptr(&self.inner).cast_mut()).expect("an Arc is not null")
    }

    fn start_at(&self, due: Instant, period: u64) -> bool {
        order::precede(Arc::as_ptr(&self.inner));
        let entry = Entry { due: policy::nanos(due), target: Target::Callback(self.target()) };
        self.inner.home.timers.change(self.inner.home, |heap| {
            let was_running = heap.remove(self.inner.place.get());
            self.inner.period.set(period);
            heap.insert(entry);
            was_running
        })
    }

    /// Stops it; returns true if it was running. A callback that has begun goes on.
    pub fn stop(&self) -> bool {
        self.inner.home.timers.change(self.inner.home, |heap| heap.remove(self.inner.place.get()))
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer").finish_non_exhaustive()
    }
}

/// The timer of one parked goroutine, on its stack.
pub(crate) struct SleepTimer {
    wait: *const Wait,
    home: &'static Remote,
    place: Cell<usize>,
    _pinned: PhantomPinned,
}

impl SleepTimer {
    /// Makes a timer for a wait of the calling goroutine.
    pub(crate) fn new(wait: &Wait) -> SleepTimer {
        let home = Worker::current().expect("only a goroutine has a sleep timer").remote;
        SleepTimer { wait, home, place: Cell::new(NOWHERE), _pinned: PhantomPinned }
    }

    /// Claims the wait at `due`, with [`TIMED_OUT`].
    ///
    /// # Safety
    ///
    /// The timer and its wait neither move nor die until the timer has claimed the wait, or `stop`
    /// has returned.
    pub(crate) unsafe fn start(&self, due: Instant) {
        let entry = Entry { due: policy::nanos(due), target: Target::Sleep(NonNull::from(self)) };
        self.home.timers.change(self.home, |heap| heap.insert(entry));
    }

    /// Takes the timer out: afterwards nobody touches it.
    pub(crate) fn stop(&self) {
        self.home.timers.change(self.home, |heap| heap.remove(self.place.get()));
    }
}

/// What fires.
#[derive(Clone, Copy)]
enum Target {
    Callback(NonNull<Inner<dyn TimerAction>>),
    Sleep(NonNull<SleepTimer>),
}

#[derive(Clone, Copy)]
struct Entry {
    due: u64,
    target: Target,
}

impl Entry {
    /// Claims the wait of a sleeper. The caller holds the lock of the heap, and has just taken the
    /// timer out of it.
    ///
    /// # Safety
    ///
    /// The target, if it is a sleep timer, and its wait are alive until the wait is unparked.
    unsafe fn end_sleep(&self) -> Option<Unparker> {
        let Target::Sleep(timer) = self.target else { return None };
        // SAFETY: alive by contract.
        unsafe { &*timer.as_ref().wait }.claim(TIMED_OUT)
    }

    #[inline]
    fn set_place(&self, place: usize) {
        match self.target {
            // SAFETY: targets of entries in the heap are alive: a `Timer` takes itself out before
            // it is dropped.
            Target::Callback(inner) => unsafe { inner.as_ref() }.place.set(place),
            // SAFETY: as above: a goroutine takes its sleep timer out before it leaves its wait.
            Target::Sleep(timer) => unsafe { timer.as_ref() }.place.set(place),
        }
    }
}

/// A worker's timers.
pub(crate) struct Timers {
    heap: BiasedLock<Heap>,
    /// When the first timer is due; read without the lock.
    next: std::sync::atomic::AtomicU64,
}

// SAFETY: entries point to timers, and any thread may touch those under the lock.
unsafe impl Send for Heap {}

enum Fired {
    Callback(Arc<Inner<dyn TimerAction>>, u64),
    Sleeper(Unparker),
}

impl Timers {
    pub(crate) fn new() -> Timers {
        Timers { heap: BiasedLock::of_a_worker(Heap { entries: Vec::new() }), next: NEVER.into() }
    }

    /// Returns when the first timer is due, in [`policy::nanos`].
    #[inline]
    pub(crate) fn next_due(&self) -> u64 {
        // SeqCst: a worker that is about to sleep reads it after it has announced its sleep; see
        // `change`.
        self.next.load(Ordering::SeqCst)
    }

    /// Counts them. Called by their worker: another thread's look would take the bias of the lock.
    pub(crate) fn n(&self) -> usize {
        self.heap.lock().entries.len()
    }

    /// Changes the heap, and wakes its worker if that sleeps and the first timer is now due
    /// earlier.
    fn change<R>(&self, home: &'static Remote, f: impl FnOnce(&mut Heap) -> R) -> R {
        let _ignore = tsan::ignore();
        let (result, earlier) = {
            let mut heap = self.heap.lock();
            let before = heap.first_due();
            let result = f(&mut heap);
            let after = heap.first_due();
            if after != before {
                // SeqCst: either the worker that is about to sleep sees this, or we see that it
                // sleeps.
                self.next.store(after, Ordering::SeqCst);
            }
            (result, after < before)
        };
        if earlier {
            home.notify();
            // After the store to `next`: see `orphans`.
            if !home.is_served() {
                orphans::adopt(home);
            }
        }
        result
    }

    /// Returns whether any of the timers would unpark a waiter, or run the program's code. Slow if
    /// there are many timers and none of them does.
    pub(crate) fn are_awaited(&self) -> bool {
        if self.next_due() == NEVER {
            return false;
        }
        let asked: Vec<Arc<Inner<dyn TimerAction>>> = {
            let heap = self.heap.lock();
            let asked = heap.entries.iter().map(|entry| match entry.target {
                // SAFETY: targets of entries in the heap are alive, see `set_place`.
                Target::Callback(inner) if unsafe { inner.as_ref() }.is_asked => Some(inner),
                Target::Callback(_) | Target::Sleep(_) => None,
            });
            let Some(asked) = asked.collect::<Option<Vec<_>>>() else { return true };
            // SAFETY: as in `fire_first`.
            asked.into_iter().map(|inner| unsafe { share(inner) }).collect()
        };
        // Without the lock: the actions look at channels and contexts.
        asked.iter().any(|timer| timer.action.is_awaited())
    }

    /// Ends the waits of all sleepers. Their worker has stopped, so their goroutines will never
    /// run. A sleeper may also be in the queue of a primitive: with its wait ended, it takes
    /// nothing there from waiters that live.
    pub(crate) fn end_sleeps(&self) {
        // The goroutines are parked, and the lock orders the accesses to their waits, but
        // ThreadSanitizer knows nothing of that lock.
        let _ignore = tsan::ignore();
        let claimed: Vec<Unparker> = {
            let mut heap = self.heap.lock();
            let (sleepers, timers) = std::mem::take(&mut heap.entries)
                .into_iter()
                .partition(|entry| matches!(entry.target, Target::Sleep(_)));
            let sleepers: Vec<Entry> = sleepers;
            for entry in timers {
                heap.insert(entry);
            }
            sleepers.iter().for_each(|entry| entry.set_place(NOWHERE));
            self.next.store(heap.first_due(), Ordering::SeqCst);
            // SAFETY: as in `fire_first`; and a goroutine that has not ended keeps its stack
            // forever.
            sleepers.iter().filter_map(|entry| unsafe { entry.end_sleep() }).collect()
        };
        claimed.into_iter().for_each(Unparker::unpark);
    }

    /// Forgets all timers. Nothing that waits for one goes on, and their goroutines have ended, or
    /// never run again.
    #[cold]
    #[inline(never)]
    pub(crate) fn forget(&self) {
        if self.next_due() == NEVER {
            return;
        }
        let mut heap = self.heap.lock();
        std::mem::take(&mut heap.entries).iter().for_each(|entry| entry.set_place(NOWHERE));
        self.next.store(NEVER, Ordering::SeqCst);
    }

    /// Fires the due timers; returns true if there were any.
    pub(crate) fn run_due(&self) -> bool {
        if self.next_due() == NEVER {
            return false;
        }
        let now = policy::nanos(policy::now());
        let mut any = false;
        while self.next_due() <= now {
            let mut fired = Vec::with_capacity(FIRE_BATCH);
            {
                let mut heap = self.heap.lock();
                while fired.len() < FIRE_BATCH && heap.first_due() <= now {
                    fired.extend(heap.fire_first(now));
                }
                self.next.store(heap.first_due(), Ordering::SeqCst);
            }
            any |= !fired.is_empty();
            if fired.len() > 1 && policy::virtual_nanos() != 0 {
                shuffle(&mut fired);
            }
            for fired in fired {
                match fired {
                    Fired::Sleeper(unparker) => unparker.unpark(),
                    Fired::Callback(timer, due) => {
                        let _heed = tsan::heed();
                        order::follow(Arc::as_ptr(&timer));
                        timer.action.fire(policy::instant(due));
                        drop(timer);
                    }
                }
            }
        }
        any
    }
}

/// Draws the order of timers that are due at once: in a check nothing else makes it vary.
#[cold]
fn shuffle(fired: &mut [Fired]) {
    for last in (1..fired.len()).rev() {
        fired.swap(last, policy::random() as usize % (last + 1));
    }
}

/// Makes another reference to a timer's `Inner` from the heap's pointer.
///
/// # Safety
///
/// `inner` came from an `Arc` that is alive.
unsafe fn share(inner: NonNull<Inner<dyn TimerAction>>) -> Arc<Inner<dyn TimerAction>> {
    // SAFETY: by contract.
    unsafe {
        Arc::increment_strong_count(inner.as_ptr());
        Arc::from_raw(inner.as_ptr().cast_const())
    }
}

/// A heap of entries, the first due on top.
struct Heap {
    entries: Vec<Entry>,
}

impl Heap {
    #[inline]
    fn first_due(&self) -> u64 {
        self.entries.first().map_or(NEVER, |entry| entry.due)
    }

    fn insert(&mut self, entry: Entry) {
        self.entries.push(entry);
        self.sift_up(self.entries.len() - 1);
    }

    /// Takes out the entry at `place`; returns false if that is [`NOWHERE`].
    fn remove(&mut self, place: usize) -> bool {
        if place == NOWHERE {
            return false;
        }
        let removed = self.entries.swap_remove(place);
        removed.set_place(NOWHERE);
        if place < self.entries.len() {
            self.sift_down(place);
            self.sift_up(place);
        }
        true
    }

    /// Takes out the first entry, and returns what to fire; puts the entry back for its next period
    /// if it has one.
    fn fire_first(&mut self, now: u64) -> Option<Fired> {
        let entry = self.entries[0];
        match entry.target {
            Target::Sleep(_) => {
                self.remove(0);
                // SAFETY: the timer was in the heap until now, and its goroutine cannot go on
                // before it has our lock or our unpark.
                unsafe { entry.end_sleep() }.map(Fired::Sleeper)
            }
            Target::Callback(inner) => {
                // SAFETY: a `Timer` owns each `Inner` in the heap, and its drop needs our lock to
                // take the entry out. So the count is at least one, and raising it makes an `Arc`
                // of our own.
                let timer = unsafe { share(inner) };
                let period = timer.period.get();
                // A period of zero has no quotient: the timer fires once.
                match (now - entry.due).checked_div(period) {
                    None => {
                        self.remove(0);
                    }
                    Some(missed) => {
                        let next = entry.due.saturating_add(period.saturating_mul(missed + 1));
                        self.entries[0].due = next.min(NEVER - 1);
                        self.sift_down(0);
                    }
                }
                Some(Fired::Callback(timer, entry.due))
            }
        }
    }

    fn sift_up(&mut self, mut place: usize) {
        let entry = self.entries[place];
        while place > 0 {
            let parent = (place - 1) / ARITY;
            if self.entries[parent].due <= entry.due {
                break;
            }
            self.put(place, self.entries[parent]);
            place = parent;
        }
        self.put(place, entry);
    }

    fn sift_down(&mut self, mut place: usize) {
        let entry = self.entries[place];
        loop {
            let children = place * ARITY + 1..(place * ARITY + 1 + ARITY).min(self.entries.len());
            let Some(child) = children.min_by_key(|&child| self.entries[child].due) else { break };
            if self.entries[child].due >= entry.due {
                break;
            }
            self.put(place, self.entries[child]);
            place = child;
        }
        self.put(place, entry);
    }

    #[inline]
    fn put(&mut self, place: usize, entry: Entry) {
        self.entries[place] = entry;
        entry.set_place(place);
    }
}
