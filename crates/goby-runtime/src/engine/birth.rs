//! How a goroutine is started: a [`Birth`] says what it is given, and [`Birth::start`] makes it and
//! queues it.

use std::marker::PhantomData;
use std::panic::Location;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use goby_switch::FiberTag;

use crate::base::stack::OwnStack;
use crate::base::tsan;
use crate::engine::attributes;
use crate::engine::go::{Heritage, JoinHandle};
use crate::engine::goroutine::{self, Goroutine, GoroutineId, Start};
use crate::engine::run_queue::Unstarted;
use crate::engine::shared::Shared;
use crate::engine::worker::Worker;

/// The stack size of the goroutine of a `run`, which often runs a whole program: as large as Linux
/// makes that of a process's main thread. There is one such stack per `run`, and it costs address
/// space only. Stacks of `go` are as large as the builder says.
const MAIN_STACK: usize = 8 << 20;

/// Whether a goroutine is joined.
pub(crate) trait Kind {
    const IS_JOINED: bool;
    /// What its starter gets.
    type Handle<T>;

    /// Makes the handle of a goroutine that was started as one of this kind, with results of type
    /// `T`. Called once per goroutine.
    fn handle<T>(g: NonNull<Goroutine>) -> Self::Handle<T>;
}

/// There is a handle, so the record lives as long as that.
pub(crate) enum Joined {}

impl Kind for Joined {
    const IS_JOINED: bool = true;
    type Handle<T> = JoinHandle<T>;

    #[inline]
    fn handle<T>(g: NonNull<Goroutine>) -> JoinHandle<T> {
        JoinHandle::new(g)
    }
}

/// Nobody joins it. Its record may be gone as soon as it is queued.
pub(crate) enum Detached {}

impl Kind for Detached {
    const IS_JOINED: bool = false;
    type Handle<T> = ();

    #[inline]
    fn handle<T>(_: NonNull<Goroutine>) {}
}

/// A request for a goroutine.
pub(crate) struct Birth<K> {
    /// The place that reports name.
    spawned_at: &'static Location<'static>,
    /// What it inherits, if that is not what its starter has now.
    heritage: Option<Heritage>,
    name: Option<Arc<str>>,
    /// A stack that no other goroutine is given.
    own_stack: Option<OwnStack>,
    kind: PhantomData<K>,
}

impl<K: Kind> Birth<K> {
    /// A plain goroutine: no name, a stack of the pool's.
    #[inline]
    pub(crate) fn at(spawned_at: &'static Location<'static>) -> Birth<K> {
        Birth { spawned_at, heritage: None, name: None, own_stack: None, kind: PhantomData }
    }

    #[inline]
    pub(crate) fn inheriting(self, heritage: Heritage) -> Birth<K> {
        Birth { heritage: Some(heritage), ..self }
    }

    #[inline]
    pub(crate) fn named(self, name: Option<Arc<str>>) -> Birth<K> {
        Birth { name, ..self }
    }

    /// On this stack, if there is one; it is from the pool of the runtime that it starts in.
    #[inline]
    pub(crate) fn on(self, own_stack: Option<OwnStack>) -> Birth<K> {
        Birth { own_stack, ..self }
    }

    /// On a large stack, for the goroutine of a `run`, if the system has one: see [`MAIN_STACK`].
    pub(crate) fn on_main_stack(self, runtime: &'static Shared) -> Birth<K> {
        let pool = &runtime.stacks.pool;
        let is_larger = pool.stack_size() < MAIN_STACK;
        // If address space is short, use a stack of the usual size.
        self.on(if is_larger { pool.take_own(MAIN_STACK).ok() } else { None })
    }

    /// Starts the goroutine, which runs `f`.
    ///
    /// # Safety
    ///
    /// Everything that `f` and its result borrow lives until the goroutine has ended and its result
    /// is gone.
    #[inline]
    pub(crate) unsafe fn start<F, T>(self, runtime: &'static Shared, f: F) -> K::Handle<T>
    where
        F: FnOnce() -> T + Send,
        T: Send,
    {
        // The spawn edge is made with the spawner's accesses counted.
        let tag = FiberTag::create();
        let _ignore = tsan::ignore();
        runtime.note_birth();
        let worker = Worker::current();
        let parent = worker.and_then(Worker::running).map_or(0, |g| g.id.as_u64());
        let inherited = match self.heritage {
            Some(Heritage(inherited)) => inherited,
            None => attributes::to_inherit(worker),
        };
        let own = worker.filter(|worker| ptr::eq(worker.shared, runtime));
        let (id, slab) = match own {
            Some(worker) => (worker.next_id(), Some(worker.slab())),
            None => (GoroutineId::reserve(1), None),
        };
        let Birth { spawned_at, name, own_stack, .. } = self;
        let is_joined = K::IS_JOINED;
        let start = Start { id, runtime, spawned_at, tag, is_joined, parent, inherited, name, own_stack };
        // SAFETY: by contract, and both types are `Send`.
        let g = unsafe { goroutine::create(f, start, slab) };
        {
            // This edge is for a cancellation, which any thread may do: the tag's edge counts only
            // for the goroutine's own run. Without `_heed` this edge would be ignored.
            let _heed = tsan::heed();
            // SAFETY: in no queue yet, so it is alive.
            unsafe { g.as_ref() }.precede();
        }
        match own {
            Some(worker) => worker.spawn(g),
            None => {
                runtime.births.spawned.fetch_add(1, Ordering::SeqCst);
                runtime.inject(Unstarted::Goroutine(g));
            }
        }
        K::handle(g)
    }
}

/// What is counted for all workers together. Written by threads that are no workers, by thieves,
/// and, where there is a limit, by everyone who starts a goroutine or ends one. Read by the
/// watchers of the runtime.
pub(crate) struct Births {
    /// Goroutines that other threads than workers have started.
    pub(super) spawned: AtomicU64,
    /// Unstarted goroutines that were canceled.
    pub(super) never_ran: AtomicU64,
    /// Futures that other threads than workers have started, less those that have ended there.
    pub(super) tasks: AtomicUsize,
    /// Goroutines in existence; counted only where there is a limit.
    limited: AtomicUsize,
    /// Counts the thefts between workers, those about to happen included.
    thefts: AtomicU64,
}

impl Births {
    pub(super) fn new() -> Births {
        Births {
            spawned: AtomicU64::new(0),
            never_ran: AtomicU64::new(0),
            tasks: AtomicUsize::new(0),
            limited: AtomicUsize::new(0),
            thefts: AtomicU64::new(0),
        }
    }

    /// Counts from zero again, for another life of the runtime. The counts of the old life add up
    /// to zero, but over all its workers, and the next life may lack the spare ones. Thefts count
    /// on: they only tell of changes.
    pub(super) fn reset(&self) {
        // Relaxed, all: every thread started from here on comes after these stores.
        self.spawned.store(0, Ordering::Relaxed);
        self.never_ran.store(0, Ordering::Relaxed);
        self.tasks.store(0, Ordering::Relaxed);
        self.limited.store(0, Ordering::Relaxed);
    }
}

impl Shared {
    #[inline]
    fn note_birth(&self) {
        if self.settings.max_goroutines.is_some() {
            self.births.limited.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(crate) fn note_end(&self) {
        if self.settings.max_goroutines.is_some() {
            self.births.limited.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Returns whether `try_go` may start a goroutine. If several threads ask at the same time, the
    /// limit may be exceeded by as many.
    pub(crate) fn has_room(&self) -> bool {
        self.settings.max_goroutines.is_none_or(|max| self.births.limited.load(Ordering::Relaxed) < max)
    }

    pub(crate) fn max_goroutines(&self) -> Option<usize> {
        self.settings.max_goroutines
    }

    /// Counts the goroutines that have been started and have not ended.
    pub(crate) fn num_goroutines(&self) -> usize {
        // Reads the ends first: a goroutine that is counted as ended has been counted as started.
        let ended = self.n_ended();
        usize::try_from(self.n_spawned().saturating_sub(ended)).unwrap_or(0)
    }

    pub(crate) fn n_spawned(&self) -> u64 {
        let inside: u64 = self.remotes().map(|r| r.tally.spawned.load(Ordering::Acquire)).sum();
        inside + self.births.spawned.load(Ordering::SeqCst)
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
        inside.fold(self.births.tasks.load(Ordering::SeqCst), usize::wrapping_add)
    }

    pub(crate) fn n_ended(&self) -> u64 {
        let inside: u64 = self.remotes().map(|r| r.tally.ended.load(Ordering::Acquire)).sum();
        inside + self.births.never_ran.load(Ordering::SeqCst)
    }
}
