//! What the workers of a runtime share: starting them, spawning, goroutines that get no stack,
//! shutting down.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::Location;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;

use goby_switch::FiberTag;
use parking_lot::{Condvar, Mutex};

use crate::base::lock::Lock;
use crate::base::stack::{Exhausted, OwnStack, Pool};
use crate::base::{fence, stack, tsan};
use crate::engine::attributes::Inherited;
use crate::engine::go::JoinHandle;
use crate::engine::goroutine::{Birth, Goroutine, GoroutineId};
use crate::engine::idle::Idle;
use crate::engine::io::blocking::Helpers;
use crate::engine::monitor::Monitor;
use crate::engine::run_queue::{Fresh, FreshQueue};
use crate::engine::settings::Settings;
use crate::engine::threads::spawn_own;
use crate::engine::unjoined::Unjoined;
use crate::engine::watch::Watch;
use crate::engine::worker::{Remote, Worker};
use crate::engine::{attributes, errand, goroutine, orphans, overflow, threads};
use crate::engine::{retired, runtimes};

/// Workers added for threads that are stuck in the kernel, at the most.
const MAX_SPARES: usize = 64;
/// The stack of a `run`'s own goroutine, which is often a whole program: as large as Linux makes
/// that of a process's main thread. It is one, and address space only; `go` has what the builder
/// says.
const MAIN_STACK: usize = 8 << 20;

/// What the workers of a runtime share. It is never freed, since parked goroutines, timers and
/// sockets point to it, but used again: see `retired`.
pub(crate) struct Shared {
    /// What it was made of, with all that was left open filled in.
    pub(crate) settings: Settings,
    /// Who watches it.
    pub(crate) watch: Box<dyn Watch>,
    remotes: Box<[OnceLock<&'static Remote>]>,
    n_workers: AtomicUsize,
    pub(crate) idle: Idle,
    /// Goroutines and futures from outside the workers.
    pub(crate) inject: FreshQueue,
    pub(crate) pool: Pool,
    starved: Lock<Starved>,
    n_starved: AtomicUsize,
    pub(crate) helpers: Helpers,
    pub(crate) monitor: Monitor,
    spawned_outside: AtomicU64,
    /// Futures that threads which are no workers have started, less those that have ended there.
    pub(crate) tasks_outside: AtomicUsize,
    /// Counts what workers have stolen from each other, or were about to.
    thefts: AtomicU64,
    /// A main goroutine has ended by `goexit`.
    main_exited: AtomicBool,
    /// Goroutines in existence; counted only where there is a limit.
    limited: AtomicUsize,
    shut_down: AtomicBool,
    /// Held where a new life begins, and where what came too late for the old one is taken out of
    /// the queues.
    life: Lock<()>,
    /// Unstarted goroutines that were cancelled.
    never_ran: AtomicU64,
    /// The workers have stopped, and what never ran is gone.
    is_over: AtomicBool,
    next_remote: AtomicUsize,
    monitor_thread: Mutex<Option<thread::JoinHandle<()>>>,
    /// Workers that have stopped.
    exited: Mutex<usize>,
    exit: Condvar,
    pub(crate) unjoined: Unjoined,
}

/// Goroutines that wait for a stack, and why there is none.
#[derive(Default)]
struct Starved {
    queue: VecDeque<Fresh>,
    why: Option<Exhausted>,
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
        // Before there are workers: in a process of several threads the kernel takes some 10 ms to
        // say so, once.
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
            *shared.monitor_thread.lock() = Some(monitor);
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
            remotes: (0..settings.workers + MAX_SPARES).map(|_| OnceLock::new()).collect(),
            n_workers: AtomicUsize::new(0),
            idle: Idle::new(),
            inject: FreshQueue::new(),
            pool: Pool::new(settings.stack_size, settings.max_stacks),
            starved: Lock::new(Starved::default()),
            n_starved: AtomicUsize::new(0),
            helpers: Helpers::new(),
            monitor: Monitor::new(),
            spawned_outside: AtomicU64::new(0),
            tasks_outside: AtomicUsize::new(0),
            thefts: AtomicU64::new(0),
            main_exited: AtomicBool::new(false),
            limited: AtomicUsize::new(0),
            shut_down: AtomicBool::new(false),
            life: Lock::new(()),
            never_ran: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            next_remote: AtomicUsize::new(0),
            monitor_thread: Mutex::new(None),
            exited: Mutex::new(0),
            exit: Condvar::new(),
            unjoined: Unjoined::default(),
            settings,
            watch,
        }
    }

    /// Whether nothing is left of a runtime that was dropped: see `retired`.
    pub(crate) fn is_left_by_all(&self) -> bool {
        self.n_spawned() == self.n_ended()
            && self.n_tasks() == 0
            && self.helpers.n_threads() == 0
            && self.inject.len() == 0
            && !self.has_starved()
            && self.remotes().all(Remote::is_left_by_all)
    }

    /// Makes one of which nothing is left as it was when it was new, but for what only grows. No
    /// thread of its own is there.
    fn begin_anew(&self) {
        let _life = self.life.lock();
        self.idle.reset();
        self.monitor.reset();
        self.helpers.reset();
        self.watch.begin_anew();
        self.unjoined.reset();
        self.remotes().for_each(Remote::reset);
        self.starved.lock().why = None;
        // Relaxed, all: whoever is started from here on comes after it. Counts that add up to
        // nothing begin anew, since the next life may be without the spare workers that have some
        // of them.
        for counter in [&self.spawned_outside, &self.never_ran] {
            counter.store(0, Ordering::Relaxed);
        }
        self.tasks_outside.store(0, Ordering::Relaxed);
        self.n_workers.store(0, Ordering::Relaxed);
        self.limited.store(0, Ordering::Relaxed);
        self.main_exited.store(false, Ordering::Relaxed);
        *self.exited.lock() = 0;
        self.is_over.store(false, Ordering::SeqCst);
        self.shut_down.store(false, Ordering::SeqCst);
    }

    /// Starts one more worker.
    pub(crate) fn add_worker(&'static self) -> io::Result<()> {
        let index = self.n_workers.load(Ordering::Acquire);
        let Some(place) = self.remotes.get(index) else {
            return Err(io::Error::other("no room for a further spare worker"));
        };
        // One thread at a time adds workers. A place that is filled already is left from a thread
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
        self.n_workers.store(index + 1, Ordering::Release);
        Ok(())
    }

    /// Starts a thread of the runtime's own. A panic in it is a bug of goby's.
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
        self.n_workers.load(Ordering::Acquire)
    }

    #[inline]
    pub(crate) fn remote(&self, index: usize) -> &'static Remote {
        self.remotes[index].get().expect("workers below the count are there")
    }

    pub(crate) fn remotes(&self) -> impl Iterator<Item = &'static Remote> + '_ {
        (0..self.n_workers()).map(|i| self.remote(i))
    }

    /// Some worker, each in turn, for what belongs to none.
    pub(crate) fn any_remote(&self) -> &'static Remote {
        self.remote(self.next_remote.fetch_add(1, Ordering::Relaxed) % self.n_workers())
    }

    // Spawning.

    /// Starts a goroutine.
    ///
    /// # Safety
    ///
    /// What `f` and its result borrow lives until the goroutine has ended and its result is gone.
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
        let is_larger = self.pool.stack_size() < MAIN_STACK;
        // Where address space is short, one of the usual size has to do.
        let own = if is_larger { self.pool.take_own(MAIN_STACK).ok() } else { None };
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

    /// The same, saying what it inherits.
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

    /// Starts a goroutine, saying what it inherits from the goroutine that starts it, its name, and
    /// its stack, if that is to be of its own size.
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

    /// Starts a goroutine; gives its record to make a handle of, unless it is not joined: then it
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
            self.limited.fetch_add(1, Ordering::Relaxed);
        }
        let worker = Worker::current();
        let parent = worker.and_then(Worker::running).map_or(0, |g| g.id.as_u64());
        let inherited = inherit(worker);
        let own = worker.filter(|worker| ptr::eq(worker.shared, self));
        let (id, slab) = match own {
            Some(worker) => (worker.next_id(), Some(&worker.slab)),
            None => (GoroutineId::reserve(1), None),
        };
        let birth = Birth { id, runtime: self, spawned_at: at, tag, is_joined, parent, inherited, name, own_stack };
        // SAFETY: by contract.
        let g = unsafe { goroutine::create(f, birth, slab) };
        {
            // For a cancellation, by any thread: the tag's edge is only for its own run. Edges are
            // ignored, too, without this.
            let _heed = tsan::heed();
            // SAFETY: in no queue yet, so it is alive.
            tsan::release(unsafe { g.as_ref() }.edge());
        }
        match own {
            Some(worker) => worker.spawn(g),
            None => {
                self.spawned_outside.fetch_add(1, Ordering::SeqCst);
                self.inject(Fresh::Goroutine(g));
            }
        }
        g
    }

    /// Whether `try_go` may start a goroutine. It may be wrong by as many as ask at the same time.
    pub(crate) fn has_room(&self) -> bool {
        self.settings.max_goroutines.is_none_or(|max| self.limited.load(Ordering::Relaxed) < max)
    }

    pub(crate) fn max_goroutines(&self) -> Option<usize> {
        self.settings.max_goroutines
    }

    #[inline]
    pub(crate) fn note_end(&self) {
        if self.settings.max_goroutines.is_some() {
            self.limited.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Queues something that any worker may begin, from outside the workers.
    pub(crate) fn inject(&'static self, item: Fresh) {
        if self.is_shut_down() {
            return self.never_run(item);
        }
        self.inject.push(item);
        self.idle.post();
        if self.is_shut_down() {
            // Nobody may be left to take it; whoever drains last finds the queue empty.
            self.drain();
        }
    }

    pub(crate) fn num_goroutines(&self) -> usize {
        // Ends first: a goroutine that is counted as ended has been counted as started.
        let ended = self.n_ended();
        usize::try_from(self.n_spawned().saturating_sub(ended)).unwrap_or(0)
    }

    pub(crate) fn n_spawned(&self) -> u64 {
        let inside: u64 = self.remotes().map(|r| r.spawned.load(Ordering::Acquire)).sum();
        inside + self.spawned_outside.load(Ordering::SeqCst)
    }

    /// Notes that a worker is about to steal from another.
    pub(crate) fn note_theft(&self) {
        // Relaxed: before the lock of the victim's queue, by which whoever looks into that queue
        // later gets to know.
        self.thefts.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the thefts until now.
    pub(crate) fn n_thefts(&self) -> u64 {
        // Relaxed: see `note_theft`.
        self.thefts.load(Ordering::Relaxed)
    }

    /// Futures that have not ended. Exact while no worker is awake.
    pub(crate) fn n_tasks(&self) -> usize {
        // Acquire pairs with the Release in `count_task`: a worker that has woken and changes it
        // meanwhile is not missed by who asks for `idle.changes` afterwards.
        let inside = self.remotes().map(|r| r.tasks.load(Ordering::Acquire));
        inside.fold(self.tasks_outside.load(Ordering::SeqCst), usize::wrapping_add)
    }

    pub(crate) fn n_ended(&self) -> u64 {
        let inside: u64 = self.remotes().map(|r| r.ended.load(Ordering::Acquire)).sum();
        inside + self.never_ran.load(Ordering::SeqCst)
    }

    // Stacks that cannot be had.

    /// Keeps a goroutine that got no stack until one is free.
    #[cold]
    pub(crate) fn starve(&self, g: NonNull<Goroutine>, why: Exhausted) {
        let mut starved = self.starved.lock();
        starved.queue.push_back(Fresh::Goroutine(g));
        starved.why = Some(why);
        self.n_starved.store(starved.queue.len(), Ordering::SeqCst);
    }

    #[inline]
    pub(crate) fn has_starved(&self) -> bool {
        self.n_starved.load(Ordering::Relaxed) != 0
    }

    /// Whether there is a stack for one of them.
    pub(crate) fn can_feed_starved(&self) -> bool {
        self.has_starved() && self.pool.has_free()
    }

    /// Queues one starved goroutine again: a stack has just become free.
    #[cold]
    pub(crate) fn feed_starved(&self, queue: &FreshQueue) {
        let item = {
            let mut starved = self.starved.lock();
            let item = starved.queue.pop_front();
            self.n_starved.store(starved.queue.len(), Ordering::SeqCst);
            item
        };
        if let Some(item) = item {
            queue.push(item);
        }
    }

    /// Calls `f` with every unstarted goroutine that is in no worker's queue.
    pub(crate) fn for_each_homeless(&self, mut f: impl FnMut(&Fresh)) {
        // In this order, which is the one they go in: see `feed_starved`.
        self.starved.lock().queue.iter().for_each(&mut f);
        self.inject.for_each(f);
    }

    /// How many goroutines wait for a stack, and why they get none.
    pub(crate) fn starvation(&self) -> Option<(usize, String)> {
        let starved = self.starved.lock();
        let n = starved.queue.len();
        if n == 0 {
            return None;
        }
        let why = match &starved.why {
            Some(Exhausted::Limit(limit)) => {
                format!("the limit of {limit} stacks is reached: raise max_stacks of the builder")
            }
            Some(Exhausted::System(error)) if stack::guards_cost_mappings() => format!(
                "no further stack can be mapped ({error}): each costs two mappings on this kernel, so raise the limit \
                 with 'sysctl vm.max_map_count=N' (twice the number of goroutines and some), or that on address space \
                 ('ulimit -v')"
            ),
            Some(Exhausted::System(error)) => format!(
                "no further stack can be mapped ({error}): raise the limit on address space ('ulimit -v') or memory, \
                 or use a smaller stack_size of the builder (now {} KiB)",
                self.pool.stack_size() / 1024
            ),
            None => "unknown".into(),
        };
        Some((n, why))
    }

    // Sleeping and ending.

    /// The recheck before a worker sleeps: is there anything that it could take?
    pub(crate) fn has_shareable_work(&self, own: &Remote) -> bool {
        self.is_shut_down()
            || self.inject.len() > 0
            || own.fresh.len() > 0
            || own.requests.are_pending()
            || self.remotes().any(|r| r.has_for_others(self.monitor.tick()))
            || self.can_feed_starved()
    }

    #[inline]
    pub(crate) fn is_shut_down(&self) -> bool {
        // SeqCst: see `Worker::take_slice_over`.
        self.shut_down.load(Ordering::SeqCst)
    }

    pub(crate) fn shut_down(&'static self) {
        // SeqCst: `inject` and the workers' rechecks are ordered against it.
        self.shut_down.store(true, Ordering::SeqCst);
        threads::note_change();
        let own = Worker::current().filter(|worker| ptr::eq(worker.shared, self));
        if let Some(worker) = own {
            worker.note_shut_down();
        }
        let n_told = self.n_workers();
        self.remotes().take(n_told).for_each(Self::tell_to_stop);
        self.monitor.wake();
        self.helpers.shut_down();
        if own.is_some() {
            // Dropped by one of its own goroutines: the rest has to wait until that has ended.
            let name = format!("{}-shutdown", self.settings.thread_name);
            if let Err(error) = self.spawn_thread(name, move || self.finish_shut_down(n_told)) {
                warning!("goby: a runtime that was dropped by its own goroutine is not cleaned up: {error}");
            }
        } else {
            self.finish_shut_down(n_told);
        }
    }

    /// Has a worker look whether the runtime is shut down: it sleeps, or looks at this flag only,
    /// between two goroutines and where the running one could yield.
    fn tell_to_stop(remote: &Remote) {
        // SeqCst: after `shut_down` in one order, see `Worker::take_slice_over`.
        remote.slice_over.store(true, Ordering::SeqCst);
        remote.notify();
    }

    /// Waits until the workers have stopped, and cleans up behind them. The first `n_told` know
    /// that they are to stop.
    fn finish_shut_down(&'static self, n_told: usize) {
        // The monitor first: it may be adding a worker, which may have begun to run something
        // before it could know.
        let monitor = self.monitor_thread.lock().take();
        if let Some(monitor) = monitor {
            let _ = monitor.join();
        }
        self.remotes().skip(n_told).for_each(Self::tell_to_stop);
        {
            let n = self.n_workers();
            let mut exited = self.exited.lock();
            while *exited < n {
                self.exit.wait(&mut exited);
            }
        }
        for remote in self.remotes() {
            // SAFETY: its worker has stopped, so nobody waits.
            unsafe { remote.poller.close() };
            remote.timers.end_sleeps();
            orphans::adopt(remote);
        }
        self.drain();
        self.pool.unmap_free();
        let is_empty = self.remotes().all(|remote| remote.n_started() == 0);
        // SeqCst: see `forget_if_over`.
        self.is_over.store(true, Ordering::SeqCst);
        self.forget_if_over();
        // Last: from here on it may be another's. The stacks of those who have not ended are its
        // for good.
        if is_empty {
            retired::keep(self);
        }
    }

    /// Has the deadlock detector forget a runtime that was shut down, once nothing of it runs:
    /// neither a worker, nor a destructor of what never ran, nor a blocking call.
    pub(crate) fn forget_if_over(&'static self) {
        // SeqCst, both: whoever comes second, the end of the last worker or of the last call, sees
        // the other.
        if self.is_over.load(Ordering::SeqCst) && self.helpers.in_progress() == 0 {
            runtimes::forget(self);
        }
    }

    /// Says that a worker has stopped. Its thread may stay, see `Worker::run`.
    pub(crate) fn note_exit(&self) {
        *self.exited.lock() += 1;
        self.exit.notify_all();
    }

    /// Ends what never ran, unless a new life has begun: then it is that one's.
    fn drain(&'static self) {
        let items = {
            let _life = self.life.lock();
            if !self.is_shut_down() {
                return;
            }
            let starved = {
                let mut starved = self.starved.lock();
                self.n_starved.store(0, Ordering::SeqCst);
                std::mem::take(&mut starved.queue)
            };
            let queues = self.remotes().map(|r| r.fresh.drain()).chain([self.inject.drain(), starved]);
            queues.flatten().collect::<Vec<_>>()
        };
        for item in items {
            self.never_run(item);
        }
    }

    /// Ends one that never ran; not on a scheduler's stack, for closures and futures are the
    /// user's.
    fn never_run(&'static self, item: Fresh) {
        errand::let_go(NeverRun { shared: self, item: Some(item) });
    }

    fn cancel(&self, item: Fresh) {
        match item {
            Fresh::Goroutine(g) => {
                // SAFETY: it came out of a queue, so it is unstarted and in none.
                unsafe { goroutine::never_run(g) };
                // SeqCst: with this the last of it may be gone, see `is_left_by_all`.
                self.never_ran.fetch_add(1, Ordering::SeqCst);
            }
            // That cancels the future, which reports a panic of its destructor: the others are
            // ended whatever that does.
            Fresh::Future(runnable) => drop(runnable),
        }
    }

    pub(crate) fn note_main_exit(&self) {
        self.main_exited.store(true, Ordering::SeqCst);
    }

    pub(crate) fn main_exited(&self) -> bool {
        self.main_exited.load(Ordering::SeqCst)
    }
}

/// Ends what never ran when it is dropped, so that it does also if it is given to a goroutine that
/// never runs.
struct NeverRun {
    shared: &'static Shared,
    item: Option<Fresh>,
}

impl Drop for NeverRun {
    fn drop(&mut self) {
        self.item.take().into_iter().for_each(|item| self.shared.cancel(item));
    }
}
