//! The end of a runtime: its workers are told to stop, then what never ran is ended, and its memory
//! is kept for another life (`retired.rs`).

use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use parking_lot::{Condvar, Mutex};

use crate::base::lock::Lock;
use crate::engine::run_queue::Unstarted;
use crate::engine::shared::Shared;
use crate::engine::worker::{Remote, Worker};
use crate::engine::{errand, goroutine, orphans, retired, runtimes, threads};

/// How far a runtime's end has come. The thread that shuts it down writes all of it but `exited`,
/// which each worker counts up. Everyone who queues something reads `shut_down`.
pub(super) struct Closing {
    shut_down: AtomicBool,
    /// Held while a new life begins, and while items that came too late for the old life are taken
    /// out of the queues.
    pub(super) life: Lock<()>,
    /// The workers have stopped, and the items that never ran are gone.
    is_over: AtomicBool,
    /// Written by the thread that starts the runtime.
    pub(super) monitor_thread: Mutex<Option<thread::JoinHandle<()>>>,
    /// Workers that have stopped.
    exited: Mutex<usize>,
    exit: Condvar,
    /// A main goroutine has ended by `goexit`. Written by the thread in `run`.
    main_exited: AtomicBool,
}

impl Closing {
    pub(super) fn new() -> Closing {
        Closing {
            shut_down: AtomicBool::new(false),
            life: Lock::new(()),
            is_over: AtomicBool::new(false),
            monitor_thread: Mutex::new(None),
            exited: Mutex::new(0),
            exit: Condvar::new(),
            main_exited: AtomicBool::new(false),
        }
    }

    /// Begins another life, under `life`: from here on items may be queued again.
    pub(super) fn reset(&self) {
        // Relaxed: every thread of that life is started after this.
        self.main_exited.store(false, Ordering::Relaxed);
        *self.exited.lock() = 0;
        self.is_over.store(false, Ordering::SeqCst);
        self.shut_down.store(false, Ordering::SeqCst);
    }
}

impl Shared {
    /// Returns whether the runtime is being shut down, or has been.
    #[inline]
    pub(crate) fn is_shut_down(&self) -> bool {
        // SeqCst: see `Worker::take_slice_over`.
        self.closing.shut_down.load(Ordering::SeqCst)
    }

    /// Shuts the runtime down, and waits until its workers have stopped, unless one of them calls.
    pub(crate) fn shut_down(&'static self) {
        // SeqCst: `inject` and the workers' rechecks are ordered against it.
        self.closing.shut_down.store(true, Ordering::SeqCst);
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
            // One of the runtime's own goroutines drops it: the rest has to wait until that
            // goroutine has ended.
            let name = format!("{}-shutdown", self.settings.thread_name);
            if let Err(error) = self.spawn_thread(name, move || self.finish_shut_down(n_told)) {
                warning!("goby: a runtime that was dropped by its own goroutine is not cleaned up: {error}");
            }
        } else {
            self.finish_shut_down(n_told);
        }
    }

    /// Makes a worker look whether the runtime is shut down. The worker sleeps, or it runs and
    /// looks only at this flag: between two goroutines, and where the running goroutine could
    /// yield.
    fn tell_to_stop(remote: &Remote) {
        // SeqCst: after `shut_down` in one order, see `Worker::take_slice_over`.
        remote.orders.slice_over.store(true, Ordering::SeqCst);
        remote.notify();
    }

    /// Waits until the workers have stopped, and cleans up after them. The first `n_told` have been
    /// told to stop.
    fn finish_shut_down(&'static self, n_told: usize) {
        // The monitor first: it may be adding a worker, and that worker may have begun to run
        // something before it could learn of the shutdown.
        let monitor = self.closing.monitor_thread.lock().take();
        if let Some(monitor) = monitor {
            let _ = monitor.join();
        }
        self.remotes().skip(n_told).for_each(Self::tell_to_stop);
        {
            let n = self.n_workers();
            let mut exited = self.closing.exited.lock();
            while *exited < n {
                self.closing.exit.wait(&mut exited);
            }
        }
        for remote in self.remotes() {
            // SAFETY: the worker has stopped, so nobody waits in its poller.
            unsafe { remote.poller.close() };
            remote.timers.end_sleeps();
            orphans::adopt(remote);
        }
        self.drain();
        self.stacks.pool.unmap_free();
        let is_empty = self.remotes().all(|remote| remote.n_started() == 0);
        // SeqCst: see `forget_if_over`.
        self.closing.is_over.store(true, Ordering::SeqCst);
        self.forget_if_over();
        // Last: from here on another runtime may use this memory. A runtime with goroutines that
        // have not ended keeps their stacks, and is not used again.
        if is_empty {
            retired::keep(self);
        }
    }

    /// Makes the deadlock detector forget a runtime that was shut down, once nothing of it runs: no
    /// worker, no destructor of an item that never ran, no blocking call.
    pub(crate) fn forget_if_over(&'static self) {
        // SeqCst, both: two ends race here, that of the last worker and that of the last call. The
        // later one sees the earlier one.
        if self.closing.is_over.load(Ordering::SeqCst) && self.helpers.in_progress() == 0 {
            runtimes::forget(self);
        }
    }

    /// Says that a worker has stopped. Its thread may stay, see `Worker::run`.
    pub(crate) fn note_exit(&self) {
        *self.closing.exited.lock() += 1;
        self.closing.exit.notify_all();
    }

    /// Ends the items that never ran, unless a new life has begun: then they belong to that one.
    pub(super) fn drain(&'static self) {
        let items = {
            let _life = self.closing.life.lock();
            if !self.is_shut_down() {
                return;
            }
            let starved = self.stacks.starved.take_all();
            let queues = self.remotes().map(|r| r.stealable.unstarted.drain()).chain([self.inject.drain(), starved]);
            queues.flatten().collect::<Vec<_>>()
        };
        for item in items {
            self.never_run(item);
        }
    }

    /// Ends an item that never ran; not on a scheduler's stack, since closures and futures are user
    /// code.
    pub(super) fn never_run(&'static self, item: Unstarted) {
        errand::let_go(NeverRun { shared: self, item: Some(item) });
    }

    fn cancel(&self, item: Unstarted) {
        match item {
            Unstarted::Goroutine(g) => {
                // SAFETY: it came out of a queue, so it is unstarted and in none.
                unsafe { goroutine::never_run(g) };
                // SeqCst: this may be the last end of all, see `is_left_by_all`.
                self.births.never_ran.fetch_add(1, Ordering::SeqCst);
            }
            // The drop cancels the future, and reports a panic of its destructor. Whatever that
            // destructor does, the other items are ended.
            Unstarted::Future(runnable) => drop(runnable),
        }
    }

    /// Notes that a main goroutine has ended by `goexit`.
    pub(crate) fn note_main_exit(&self) {
        self.closing.main_exited.store(true, Ordering::SeqCst);
    }

    pub(crate) fn main_exited(&self) -> bool {
        self.closing.main_exited.load(Ordering::SeqCst)
    }
}

/// Ends its item when it is dropped. So the item is ended even if this value is given to a
/// goroutine that never runs.
struct NeverRun {
    shared: &'static Shared,
    item: Option<Unstarted>,
}

impl Drop for NeverRun {
    fn drop(&mut self) {
        self.item.take().into_iter().for_each(|item| self.shared.cancel(item));
    }
}
