//! What the workers of a runtime share; starting the workers, and spawning.

use std::fmt;
use std::io;
use std::panic::Location;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;

use goby_switch::FiberTag;

use crate::base::stack::{OwnStack, Pool};
use crate::base::{fence, tsan};
use crate::engine::attributes::Inherited;
use crate::engine::closing::Closing;
use crate::engine::go::JoinHandle;
use crate::engine::goroutine::{Birth, Goroutine, GoroutineId};
use crate::engine::idle::Idle;
use crate::engine::io::blocking::Helpers;
use crate::engine::monitor::Monitor;
use crate::engine::run_queue::{Fresh, FreshQueue};
use crate::engine::settings::Settings;
use crate::engine::stacks::Stacks;
use crate::engine::threads::spawn_own;
use crate::engine::unjoined::Unjoined;
use crate::engine::watch::Watch;
use crate::engine::worker::{Remote, Worker};
use crate::engine::{attributes, goroutine, overflow, retired, runtimes};

/// At most so many workers are added for threads that are stuck in the kernel.
const MAX_SPARES: usize = 64;
/// The stack size of the goroutine of a `run`, which often runs a whole program: as large as Linux
/// makes that of a process's main thread. There is one such stack per `run`, and it costs address
/// space only. Stacks of `go` are as large as the builder says.
const MAIN_STACK: usize = 8 << 20;

/// What the workers of a runtime share. It is never freed, since parked goroutines, timers and
/// sockets point to it. It is used again: see `retired`.
pub(crate) struct Shared {
    /// The settings that it was made with, the defaults filled in.
    pub(crate) settings: Settings,
    /// The part that watches it: see `watch`.
    pub(crate) watch: Box<dyn Watch>,
    workers: Workers,
    /// Which of them sleep, and which one searches.
    pub(crate) idle: Idle,
    /// Goroutines and futures from outside the workers, which any worker may begin.
    pub(crate) inject: FreshQueue,
    pub(crate) stacks: Stacks,
    pub(crate) helpers: Helpers,
    pub(crate) monitor: Monitor,
    pub(crate) births: Births,
    pub(super) closing: Closing,
    pub(crate) unjoined: Unjoined,
}

/// The workers. Written by the one thread that adds them, at the start the runtime's maker and then
/// the monitor; read by all.
struct Workers {
    remotes: Box<[OnceLock<&'static Remote>]>,
    n: AtomicUsize,
    /// The next one for what belongs to none: each time another. Written by everyone who asks.
    next: AtomicUsize,
}

/// What is counted for all workers together. Written by threads that are no workers, by thieves,
/// and, where there is a limit, by everyone who starts a goroutine or ends one. Read by the watchers
/// of the runtime.
pub(crate) struct Births {
    spawned_outside: AtomicU64,
    /// Futures that other threads than workers have started, less those that have ended there.
    pub(super) tasks_outside: AtomicUsize,
    /// Unstarted goroutines that were cancelled.
    pub(super) never_ran: AtomicU64,
    /// Goroutines in existence; counted only where there is a limit.
    limited: AtomicUsize,
    /// Counts the thefts between workers, those about to happen included.
    thefts: AtomicU64,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("thread_name", &self.settings.thread_name).finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn start(settings: Settings, watch: Box<dyn Watch>) -> io::Result<&'static Shared> {
        overflow::install_handler();
        #[cfg(not(loom))]
        crate::base::lock::ask_before_spinning(crate::engine::worker::may_spin);
        // Before there are workers: in a process of several threads the kernel takes about 10 ms to
        // answer, once.
        fence::fences_work();
        let n = settings.workers;
        let shared = match retired::take(&settings) {
            Some(shared) => {
                shared.begin_anew();
                shared
            }
            None => Box::leak(Box::new(Shared::new(settings, watch))),
        };
        runtimes::register(shared);
        let started = (0..n).try_for_each(|_| shared.add_worker()).and_then(|()| {
            let monitor = shared.spawn_thread("goby-monitor".into(), move || shared.monitor.run(shared))?;
            *shared.closing.monitor_thread.lock() = Some(monitor);
            Ok(())
        });
        if let Err(error) = started {
            shared.shut_down();
            return Err(error);
        }
        Ok(shared)
    }

    fn new(settings: Settings, watch: Box<dyn Watch>) -> Shared {
        Shared {
            workers: Workers {
                remotes: (0..settings.workers + MAX_SPARES).map(|_| OnceLock::new()).collect(),
                n: AtomicUsize::new(0),
                next: AtomicUsize::new(0),
            },
            idle: Idle::new(),
            inject: FreshQueue::new(),
            stacks: Stacks::new(Pool::new(settings.stack_size, settings.max_stacks)),
            helpers: Helpers::new(),
            monitor: Monitor::new(),
            births: Births {
                spawned_outside: AtomicU64::new(0),
                tasks_outside: AtomicUsize::new(0),
                never_ran: AtomicU64::new(0),
                limited: AtomicUsize::new(0),
                thefts: AtomicU64::new(0),
            },
            closing: Closing::new(),
            unjoined: Unjoined::default(),
            settings,
            watch,
        }
    }

    /// Returns whether nothing is left of a runtime that was dropped: see `retired`.
    pub(crate) fn is_left_by_all(&self) -> bool {
        self.n_spawned() == self.n_ended()
            && self.n_tasks() == 0
            && self.helpers.n_threads() == 0
            && self.inject.len() == 0
            && !self.stacks.starved.any()
            && self.remotes().all(Remote::is_left_by_all)
    }

    /// Resets a runtime of which nothing is left to the state of a new one, except for counters and
    /// tables that only grow. The runtime has no thread at this time.
    fn begin_anew(&self) {
        let _life = self.closing.life.lock();
        self.idle.reset();
        self.monitor.reset();
        self.helpers.reset();
        self.watch.begin_anew();
        self.unjoined.reset();
        self.remotes().for_each(Remote::reset);
        self.stacks.starved.reset();
        // All Relaxed: every thread started from here on comes after these stores. The counts of
        // the old life add up to zero, but over all its workers. They begin at zero again, since
        // the next life may lack the spare workers that hold a part of them.
        for counter in [&self.births.spawned_outside, &self.births.never_ran] {
            counter.store(0, Ordering::Relaxed);
        }
        self.births.tasks_outside.store(0, Ordering::Relaxed);
        self.workers.n.store(0, Ordering::Relaxed);
        self.births.limited.store(0, Ordering::Relaxed);
        self.closing.reset();
    }

    /// Starts one more worker.
    pub(crate) fn add_worker(&'static self) -> io::Result<()> {
        let index = self.workers.n.load(Ordering::Acquire);
        let Some(place) = self.workers.remotes.get(index) else {
            return Err(io::Error::other("no room for a further spare worker"));
        };
        // One thread at a time adds workers. If the place is filled already, that is from a thread
        // that did not start, or from a former life.
        let remote = match place.get() {
            Some(remote) => {
                remote.poller.open()?;
                *remote
            }
            None => {
                let remote: &'static Remote = Box::leak(Box::new(Remote::new(index, self)?));
                place.get_or_init(|| remote)
            }
        };
        let name = format!("{}-{index}", self.settings.thread_name);
        // Not joined: see `note_exit`.
        drop(self.spawn_thread(name, move || Worker::run(remote))?);
        // Release pairs with the Acquire in `n_workers`: the place is filled.
        self.workers.n.store(index + 1, Ordering::Release);
        Ok(())
    }

    /// Starts a thread of the runtime. A panic in it is a bug in goby.
    pub(crate) fn spawn_thread(
        &self,
        name: String,
        f: impl FnOnce() + Send + 'static,
    ) -> io::Result<thread::JoinHandle<()>> {
        spawn_own(name, f)
    }

    #[inline]
    pub(crate) fn n_workers(&self) -> usize {
        // Acquire pairs with the Release in `add_worker`.
        self.workers.n.load(Ordering::Acquire)
    }

    #[inline]
    pub(crate) fn remote(&self, index: usize) -> &'static Remote {
        self.workers.remotes[index].get().expect("workers below the count are there")
    }

    pub(crate) fn remotes(&self) -> impl Iterator<Item = &'static Remote> + '_ {
        (0..self.n_workers()).map(|i| self.remote(i))
    }

    /// Returns a worker for something that belongs to none: each call returns the next one in turn.
    pub(crate) fn any_remote(&self) -> &'static Remote {
        self.remote(self.workers.next.fetch_add(1, Ordering::Relaxed) % self.n_workers())
    }

    // Spawning.

    /// Starts a goroutine.
    ///
    /// # Safety
    ///
    /// Everything that `f` and its result borrow lives until the goroutine has ended and its result
    /// is gone.
    #[inline]
    pub(crate) unsafe fn spawn<F, T>(&'static self, f: F, at: &'static Location<'static>) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send,
        T: Send,
    {
        // SAFETY: by contract.
        unsafe { self.spawn_with(f, at, attributes::to_inherit, None, None) }
    }

    /// Starts the goroutine of a `run`, on a large stack if the system has one: see [`MAIN_STACK`].
    ///
    /// # Safety
    ///
    /// As for [`spawn`](Shared::spawn).
    pub(crate) unsafe fn spawn_main<F, T>(&'static self, f: F, at: &'static Location<'static>) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send,
        T: Send,
    {
        let is_larger = self.stacks.pool.stack_size() < MAIN_STACK;
        // If address space is short, use a stack of the usual size.
        let own = if is_larger { self.stacks.pool.take_own(MAIN_STACK).ok() } else { None };
        // SAFETY: by contract.
        unsafe { self.spawn_with(f, at, attributes::to_inherit, None, own) }
    }

    /// Starts a goroutine that nobody joins.
    ///
    /// # Safety
    ///
    /// As for [`spawn`](Shared::spawn).
    #[inline]
    pub(crate) unsafe fn spawn_detached<F>(&'static self, f: F, at: &'static Location<'static>)
    where
        F: FnOnce() + Send,
    {
        // SAFETY: by contract.
        unsafe { self.spawn_detached_with(f, at, attributes::to_inherit) }
    }

    /// Starts a goroutine that nobody joins; `inherit` says what it inherits.
    ///
    /// # Safety
    ///
    /// As for [`spawn`](Shared::spawn).
    #[inline]
    pub(crate) unsafe fn spawn_detached_with<F>(
        &'static self,
        f: F,
        at: &'static Location<'static>,
        inherit: impl FnOnce(Option<&Worker>) -> Option<Arc<Inherited>>,
    ) where
        F: FnOnce() + Send,
    {
        // SAFETY: by contract.
        unsafe { self.launch(f, at, false, inherit, None, None) };
    }

    /// Starts a goroutine with a name. `inherit` says what it inherits from the goroutine that
    /// starts it; `own_stack` is its stack, if that has a size of its own.
    ///
    /// # Safety
    ///
    /// As for [`spawn`](Shared::spawn).
    #[inline]
    pub(crate) unsafe fn spawn_with<F, T>(
        &'static self,
        f: F,
        at: &'static Location<'static>,
        inherit: impl FnOnce(Option<&Worker>) -> Option<Arc<Inherited>>,
        name: Option<Arc<str>>,
        own_stack: Option<OwnStack>,
    ) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send,
        T: Send,
    {
        // SAFETY: by contract.
        JoinHandle::new(unsafe { self.launch(f, at, true, inherit, name, own_stack) })
    }

    /// Starts a goroutine; returns its record, to make a handle of. If it is not joined, the record
    /// may be gone already.
    ///
    /// # Safety
    ///
    /// As for [`spawn`](Shared::spawn).
    #[inline]
    unsafe fn launch<F, T>(
        &'static self,
        f: F,
        at: &'static Location<'static>,
        is_joined: bool,
        inherit: impl FnOnce(Option<&Worker>) -> Option<Arc<Inherited>>,
        name: Option<Arc<str>>,
        own_stack: Option<OwnStack>,
    ) -> NonNull<Goroutine>
    where
        F: FnOnce() -> T + Send,
        T: Send,
    {
        // The spawn edge is made with the spawner's accesses counted.
        let tag = FiberTag::create();
        let _ignore = tsan::ignore();
        if self.settings.max_goroutines.is_some() {
            self.births.limited.fetch_add(1, Ordering::Relaxed);
        }
        let worker = Worker::current();
        let parent = worker.and_then(Worker::running).map_or(0, |g| g.id.as_u64());
        let inherited = inherit(worker);
        let own = worker.filter(|worker| ptr::eq(worker.shared, self));
        let (id, slab) = match own {
            Some(worker) => (worker.next_id(), Some(worker.slab())),
            None => (GoroutineId::reserve(1), None),
        };
        let birth = Birth { id, runtime: self, spawned_at: at, tag, is_joined, parent, inherited, name, own_stack };
        // SAFETY: by contract.
        let g = unsafe { goroutine::create(f, birth, slab) };
        {
            // This edge is for a cancellation, which any thread may do: the tag's edge counts only
            // for the goroutine's own run. Without `_heed` this edge would be ignored.
            let _heed = tsan::heed();
            // SAFETY: in no queue yet, so it is alive.
            tsan::release(unsafe { g.as_ref() }.edge());
        }
        match own {
            Some(worker) => worker.spawn(g),
            None => {
                self.births.spawned_outside.fetch_add(1, Ordering::SeqCst);
                self.inject(Fresh::Goroutine(g));
            }
        }
        g
    }

    /// Returns whether `try_go` may start a goroutine. If several threads ask at the same time, the
    /// limit may be exceeded by as many.
    pub(crate) fn has_room(&self) -> bool {
        self.settings.max_goroutines.is_none_or(|max| self.births.limited.load(Ordering::Relaxed) < max)
    }

    pub(crate) fn max_goroutines(&self) -> Option<usize> {
        self.settings.max_goroutines
    }

    #[inline]
    pub(crate) fn note_end(&self) {
        if self.settings.max_goroutines.is_some() {
            self.births.limited.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Queues something that any worker may begin, from outside the workers.
    pub(crate) fn inject(&'static self, item: Fresh) {
        if self.is_shut_down() {
            return self.never_run(item);
        }
        self.inject.push(item);
        self.idle.post();
        // Pushed first, then looked again: a shutdown stores the flag first, then drains. So one
        // of the two sees the other.
        if self.is_shut_down() {
            // There may be no worker left to take the item. Whichever thread drains last leaves the
            // queue empty.
            self.drain();
        }
    }

    pub(crate) fn num_goroutines(&self) -> usize {
        // Reads the ends first: a goroutine that is counted as ended has been counted as started.
        let ended = self.n_ended();
        usize::try_from(self.n_spawned().saturating_sub(ended)).unwrap_or(0)
    }

    pub(crate) fn n_spawned(&self) -> u64 {
        let inside: u64 = self.remotes().map(|r| r.tally.spawned.load(Ordering::Acquire)).sum();
        inside + self.births.spawned_outside.load(Ordering::SeqCst)
    }

    /// Notes that a worker is about to steal from another.
    pub(crate) fn note_theft(&self) {
        // Relaxed: the thief counts before it takes the lock of the victim's queue. A thread that
        // locks that queue later sees the count.
        self.births.thefts.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the thefts until now.
    pub(crate) fn n_thefts(&self) -> u64 {
        // Relaxed: see `note_theft`.
        self.births.thefts.load(Ordering::Relaxed)
    }

    /// Futures that have not ended. Exact while no worker is awake.
    pub(crate) fn n_tasks(&self) -> usize {
        // Acquire pairs with the Release in `count_task`: if a worker has woken and changes the
        // count meanwhile, a caller that reads `idle.changes` afterwards does not miss it.
        let inside = self.remotes().map(|r| r.tally.tasks.load(Ordering::Acquire));
        inside.fold(self.births.tasks_outside.load(Ordering::SeqCst), usize::wrapping_add)
    }

    pub(crate) fn n_ended(&self) -> u64 {
        let inside: u64 = self.remotes().map(|r| r.tally.ended.load(Ordering::Acquire)).sum();
        inside + self.births.never_ran.load(Ordering::SeqCst)
    }

    // What is left to do.

    /// Calls `f` with every unstarted goroutine that is in no worker's queue.
    pub(crate) fn for_each_homeless(&self, mut f: impl FnMut(&Fresh)) {
        // In this order, since goroutines move in this order: see `Starved::feed_one`.
        self.stacks.starved.for_each(&mut f);
        self.inject.for_each(f);
    }

    /// Returns whether there is anything that a worker could take. A worker asks once more before
    /// it sleeps.
    pub(crate) fn has_shareable_work(&self, own: &Remote) -> bool {
        self.is_shut_down()
            || self.inject.len() > 0
            || own.stealable.fresh.len() > 0
            || own.mail.requests.are_pending()
            || self.remotes().any(|r| r.has_for_others(self.monitor.tick()))
            || self.stacks.can_feed()
    }
}
