//! What the workers of a runtime share, and starting the workers.

use std::fmt;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use parking_lot::Mutex;

use crate::base::fence;
use crate::base::stack::Pool;
use crate::engine::birth::Births;
use crate::engine::closing::Closing;
use crate::engine::idle::Idle;
use crate::engine::io::blocking::Helpers;
use crate::engine::monitor::Monitor;
use crate::engine::run_queue::{Unstarted, UnstartedQueue};
use crate::engine::settings::Settings;
use crate::engine::stacks::Stacks;
use crate::engine::threads::spawn_own;
use crate::engine::unjoined::Unjoined;
use crate::engine::watch::Watch;
use crate::engine::worker::{Remote, Worker};
use crate::engine::{overflow, retired, runtimes};

/// At most so many workers are added for threads that are stuck in the kernel.
const MAX_SPARES: usize = 64;
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
    pub(crate) inject: UnstartedQueue,
    pub(crate) stacks: Stacks,
    pub(crate) helpers: Helpers,
    pub(crate) monitor: Monitor,
    pub(crate) births: Births,
    pub(super) closing: Closing,
    pub(crate) unjoined: Unjoined,
    /// What the worker of a check runs, until it has begun.
    check: Mutex<Option<CheckFn>>,
}

/// A check, which runs on its runtime's only worker.
pub(crate) type CheckFn = Box<dyn FnOnce(&'static Worker) + Send>;

/// The workers. Written by the one thread that adds them, at the start the runtime's maker and then
/// the monitor; read by all.
struct Workers {
    remotes: Box<[OnceLock<&'static Remote>]>,
    n: AtomicUsize,
    /// The worker that the next socket or timer without a worker gets. Each asker moves it on.
    next: AtomicUsize,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("thread_name", &self.settings.thread_name).finish_non_exhaustive()
    }
}

impl Shared {
    /// Starts a runtime, with a `check` one whose only worker runs that in place of its rounds.
    pub(crate) fn start(
        settings: Settings,
        watch: Box<dyn Watch>,
        check: Option<CheckFn>,
    ) -> io::Result<&'static Shared> {
        if let Some(worker) = Worker::current().filter(|worker| worker.is_checked()) {
            worker.leave_check(
                "a runtime is started inside a check, which cannot say who runs next there: use the one that runs \
                 already, by goby::go",
            );
        }
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
        let has_monitor = check.is_none();
        *shared.check.lock() = check;
        runtimes::register(shared);
        let started = (0..n).try_for_each(|_| shared.add_worker()).and_then(|()| {
            if !has_monitor {
                return Ok(());
            }
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
            inject: UnstartedQueue::new(),
            stacks: Stacks::new(Pool::new(settings.stack_size, settings.max_stacks)),
            helpers: Helpers::new(),
            monitor: Monitor::new(),
            births: Births::new(),
            closing: Closing::new(),
            unjoined: Unjoined::default(),
            check: Mutex::new(None),
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
        self.births.reset();
        // Relaxed: every thread started from here on comes after this.
        self.workers.n.store(0, Ordering::Relaxed);
        self.closing.reset();
    }

    /// Takes what the calling worker is to run in place of its rounds, if its runtime is a check's.
    pub(crate) fn take_check(&self) -> Option<CheckFn> {
        let check = self.check.lock().take();
        if check.is_some() {
            // What counts workers is to find this one.
            while self.n_workers() == 0 {
                thread::yield_now();
            }
        }
        check
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

    /// Queues something that any worker may begin, from outside the workers.
    pub(crate) fn inject(&'static self, item: Unstarted) {
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

    // What is left to do.

    /// Calls `f` with every unstarted goroutine that is in no worker's queue.
    pub(crate) fn for_each_homeless(&self, mut f: impl FnMut(&Unstarted)) {
        // In this order, since goroutines move in this order: see `Starved::feed_one`.
        self.stacks.starved.for_each(&mut f);
        self.inject.for_each(f);
    }

    /// Returns whether there is anything that a worker could take. A worker asks once more before
    /// it sleeps.
    pub(crate) fn has_shareable_work(&self, own: &Remote) -> bool {
        self.is_shut_down()
            || self.inject.len() > 0
            || own.stealable.unstarted.len() > 0
            || own.mail.requests.are_pending()
            || self.remotes().any(Remote::has_for_others)
            || self.stacks.can_feed()
    }
}
