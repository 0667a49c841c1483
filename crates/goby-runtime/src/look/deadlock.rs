//! Whether any goroutine, or thread that waits in goby, can ever run again.
//!
//! The monitors ask when every worker has slept for a while. If there is no runtime, the threads
//! that wait ask. A verdict needs proof of all of this:
//!
//! - No timer is pending that somebody waits for, or that runs the program's code.
//! - No socket is registered, and no `blocking` call or future is in progress.
//! - No OS thread outside goby is running that could unpark somebody. The threads are known by
//!   number: every thread of the process is goby's own, or itself waits in goby without a deadline
//!   (see `threads`).
//! - No signal has a handler.
//!
//! A future that waits inside its poll keeps its worker (`worker/kept.rs`). Such a worker counts as
//! one that sleeps, whatever waits in its queues, and its thread as one that waits. The monitor
//! asks for it when it reports the stall.
//!
//! A look is at a [`Part`] of the process, usually all of it.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::base::tsan;
use crate::engine::parker::Parker;
use crate::engine::runtimes;
use crate::engine::settings::DeadlockPolicy;
use crate::engine::shared::Shared;
use crate::engine::threads::{Outside, ThreadId, WaitingThread};
use crate::engine::watch::Prospect;
use crate::engine::worker::Remote;
use crate::engine::{orphans, threads};
use crate::look::Look;
use crate::look::dump::Dump;
use crate::look::inspect;
use crate::look::inspect::Want;
use crate::look::try_run::Deadlock;

/// Held from a look to what follows from it. Otherwise two monitors find one deadlock, and the
/// second ends the process when the watchers that the first has told are gone.
static JUDGING: Mutex<()> = Mutex::new(());
/// The process ends with a report: the thread that takes this keeps it forever.
static REPORT: Mutex<()> = Mutex::new(());
static IS_REPORTED: AtomicBool = AtomicBool::new(false);

/// Returns whether the process is ending because of a deadlock.
pub(crate) fn is_reported() -> bool {
    // Relaxed: the thread that has set it asks, when it exits.
    IS_REPORTED.load(Ordering::Relaxed)
}

/// Looks for a deadlock of a runtime whose workers all sleep, and reports it.
pub(crate) fn judge(shared: &'static Shared) -> Prospect {
    let Some(_alone) = JUDGING.try_lock() else { return Prospect::Unclear };
    match Part::of(shared).look() {
        Verdict::Alive => Prospect::Wake,
        Verdict::Outside | Verdict::Changing => Prospect::Unclear,
        Verdict::Stuck(stuck) => {
            if !stuck.tell_watchers() {
                stuck.exit();
            }
            Prospect::Never
        }
    }
}

/// Looks for a deadlock for a thread that waits, if there is no monitor.
pub(crate) fn look_without_monitors() {
    let part = Part::process();
    if !runtimes::has_monitors()
        && let Verdict::Stuck(stuck) = part.look()
    {
        stuck.exit();
    }
}

/// The part of the process that a look for a deadlock is about.
pub(crate) struct Part {
    /// The runtimes whose goroutines count.
    runtimes: Vec<&'static Shared>,
    /// Further runtimes: their goroutines do not count, but may help.
    helpers: Vec<&'static Shared>,
    /// The part belongs to a test: the threads of the harness cannot help.
    is_isolated: bool,
    /// A runtime that could help was shut down, but may still run something.
    has_ending: bool,
    /// [`threads::changes`] from before the runtimes were listed: each runtime that begins or ends
    /// is a change.
    changes: usize,
}

/// A proof that nobody in a part of the process can run again.
pub(crate) struct Stuck {
    runtimes: Vec<&'static Shared>,
    goroutines: usize,
    threads: Vec<Arc<Parker>>,
    /// Futures keep workers.
    has_kept: bool,
    /// How many goroutines wait for a stack, and why they get none.
    starved: Option<(usize, String)>,
}

/// What a look for a deadlock has found.
pub(crate) enum Verdict {
    /// Something will make a goroutine runnable, or nobody waits.
    Alive,
    /// Something moved while we looked.
    Changing,
    /// Only something outside can make a goroutine runnable: a thread outside goby, another
    /// runtime, one that was shut down, a signal. None of these tells when it no longer will.
    Outside,
    Stuck(Stuck),
}

impl Part {
    /// Returns all of the process.
    pub(crate) fn process() -> Part {
        let _ignore = tsan::ignore();
        let changes = threads::changes();
        let (ending, runtimes): (Vec<_>, Vec<_>) =
            runtimes::all().into_iter().partition(|runtime| runtime.is_shut_down());
        Part { runtimes, helpers: Vec::new(), is_isolated: false, has_ending: !ending.is_empty(), changes }
    }

    /// Returns the part that a runtime's monitor looks at: the process, or, for an isolated
    /// runtime, that runtime alone. All other runtimes may help it, since tests share the process's
    /// statics. So they must be quiet, too.
    pub(crate) fn of(shared: &'static Shared) -> Part {
        let all = Part::process();
        if !shared.settings.isolated {
            return all;
        }
        let helpers = all.runtimes.into_iter().filter(|other| !ptr::eq(*other, shared)).collect();
        Part { runtimes: vec![shared], helpers, is_isolated: true, ..all }
    }

    /// Returns whether a thread is outside this part and cannot help.
    fn is_bystander(&self, thread: ThreadId) -> bool {
        self.is_isolated && threads::is_bystander(thread)
    }

    /// Looks for a deadlock.
    pub(crate) fn look(&self) -> Verdict {
        let _ignore = tsan::ignore();
        // The facts are read one after the other. They hold at one instant if nothing has changed
        // in between: a thread that begins to run leaves its worker's list of sleepers, or its
        // wait, or is a stranger.
        let changes = || {
            let idle = self.runtimes.iter().chain(&self.helpers).map(|runtime| runtime.idle.changes());
            idle.fold(0, usize::wrapping_add)
        };
        let before = changes();
        let goroutines = self.runtimes.iter().map(|runtime| runtime.num_goroutines()).sum();
        let threads = self.waiting();
        let waiting: HashSet<ThreadId> = threads.iter().filter_map(|parker| parker.wait().thread()).collect();
        // Nobody waits, or something runs.
        if goroutines == 0 && threads.is_empty() && !self.main_exited() || !self.is_quiet(&waiting) {
            return Verdict::Alive;
        }
        // Timers that nobody waits for change nothing.
        let has_timers = || self.runtimes.iter().any(|runtime| has_awaited_timers(runtime));
        if has_timers() {
            return Verdict::Alive;
        }
        let Some(outside) = Outside::look() else { return Verdict::Changing };
        let is_alone = !self.has_ending
            && !orphans::are_awaited()
            && !outside.has_handlers
            && self.helpers.iter().all(|runtime| is_quiet(runtime, &HashSet::new()) && !has_awaited_timers(runtime))
            && outside.strangers.iter().all(|&thread| self.is_bystander(thread));
        // A stranger may have done something and ended meanwhile. So whatever it can have left
        // behind is looked at once more.
        if !self.is_quiet(&waiting) || has_timers() || changes() != before || threads::changes() != self.changes {
            return Verdict::Changing;
        }
        if !is_alone {
            return Verdict::Outside;
        }
        let starved = self.runtimes.iter().find_map(|runtime| runtime.stacks.starvation());
        let has_kept = self.runtimes.iter().any(|runtime| runtime.remotes().any(|remote| is_kept(remote, &waiting)));
        Verdict::Stuck(Stuck { runtimes: self.runtimes.clone(), goroutines, threads, has_kept, starved })
    }

    /// Returns its threads that wait forever, except those whose goroutine stands for them.
    fn waiting(&self) -> Vec<Arc<Parker>> {
        let mut waiting = threads::waiting();
        waiting.retain(|parker| {
            let wait = parker.wait();
            !wait.is_host() && wait.thread().is_some_and(|thread| !self.is_bystander(thread))
        });
        waiting
    }

    fn main_exited(&self) -> bool {
        self.runtimes.iter().any(|runtime| runtime.main_exited())
    }

    fn is_quiet(&self, waiting: &HashSet<ThreadId>) -> bool {
        self.runtimes.iter().all(|runtime| is_quiet(runtime, waiting))
    }
}

fn has_awaited_timers(runtime: &Shared) -> bool {
    runtime.remotes().any(|remote| remote.timers.are_awaited())
}

/// Returns whether a future keeps the worker, whose thread is among those that wait without a
/// deadline.
fn is_kept(remote: &Remote, waiting: &HashSet<ThreadId>) -> bool {
    // Relaxed: the thread's wait orders it, see `Remote::future_waits`.
    remote.future_waits().is_some() && waiting.contains(&remote.thread.thread_id.load(Ordering::Relaxed))
}

/// Returns whether nothing in a runtime runs, and nothing will run by itself. `waiting` are the
/// threads that wait without a deadline.
fn is_quiet(runtime: &Shared, waiting: &HashSet<ThreadId>) -> bool {
    let n_kept = runtime.remotes().filter(|remote| is_kept(remote, waiting)).count();
    runtime.idle.n_sleeping() + n_kept == runtime.n_workers()
        && runtime.inject.len() == 0
        && runtime.helpers.in_progress() == 0
        // Each kept worker polls one.
        && runtime.n_tasks() == n_kept
        && !runtime.stacks.can_feed()
        && runtime.remotes().all(|remote| {
            !remote.poller.has_sources()
                && (remote.mail.inbox.is_empty() || is_kept(remote, waiting))
                && remote.stealable.unstarted.len() == 0
        })
}

impl Stuck {
    /// Returns whether the process ends, because no policy asks to go on waiting. If goroutines
    /// cannot start at all, the policy does not matter. A thread that waits may wait for goroutines
    /// of any runtime, so for threads the policies of all runtimes count.
    fn is_fatal(&self) -> bool {
        let exits = |runtime: &Shared| runtime.settings.deadlock_policy == DeadlockPolicy::Exit;
        let has_stuck = |runtime: &Shared| runtime.num_goroutines() > 0 || runtime.main_exited();
        self.starved.is_some()
            || self.runtimes.iter().any(|runtime| exits(runtime) && has_stuck(runtime))
            || !self.threads.is_empty() && self.runtimes.iter().all(|runtime| exits(runtime))
    }

    /// Returns the report's first line.
    fn message(&self) -> String {
        match &self.starved {
            Some((n, why)) => format!(
                "{n} goroutines cannot start, and the {} that have started all wait: {why}",
                self.goroutines.saturating_sub(*n)
            ),
            None if self.goroutines == 0 && self.threads.is_empty() => {
                "no goroutines (main called runtime.Goexit) - deadlock!".into()
            }
            None if self.has_kept => "all goroutines are asleep, or cannot run because a future that waits inside its \
                                      poll keeps their worker - deadlock!"
                .into(),
            None => "all goroutines are asleep - deadlock!".into(),
        }
    }

    /// Returns the number of goroutines and threads that wait, as text, if any do.
    fn count(&self) -> Option<String> {
        let some = |n: usize, what| (n > 0).then(|| format!("{n} {what}{}", if n == 1 { "" } else { "s" }));
        let (goroutines, threads) = (some(self.goroutines, "goroutine"), some(self.threads.len(), "thread"));
        let are = if self.goroutines + self.threads.len() == 1 { "is" } else { "are" };
        let who: Vec<String> = goroutines.into_iter().chain(threads).collect();
        (!who.is_empty()).then(|| format!("{} {are} parked forever", who.join(" and ")))
    }

    fn dump(&self) -> Dump {
        let threads = self.threads.iter().filter_map(|parker| WaitingThread::of(parker)).collect();
        Dump::of(inspect::collect(&self.runtimes, Want::ALL)).with_threads(threads)
    }

    /// Tells the watchers of all the runtimes; returns false if there is none.
    pub(crate) fn tell_watchers(&self) -> bool {
        let _ignore = tsan::ignore();
        if self.runtimes.iter().all(|runtime| Look::of(runtime).watchers.is_empty()) {
            return false;
        }
        let deadlock = Deadlock::new(self.message(), self.dump());
        self.runtimes.iter().for_each(|runtime| Look::of(runtime).watchers.tell(&deadlock));
        true
    }

    /// Reports the deadlock, with all that wait, and ends the process, unless the policy does not
    /// want that.
    pub(crate) fn exit(self) {
        if !self.is_fatal() {
            return;
        }
        // Other threads may find the deadlock, too. They go back to their waits, since the report
        // asks for their stacks.
        let Some(_for_good) = REPORT.try_lock() else { return };
        IS_REPORTED.store(true, Ordering::Relaxed);
        let mut text = format!("fatal error: {}\n", self.message());
        if let Some(count) = self.count() {
            let _ = write!(text, "\n{count}\n\n{}", self.dump());
        }
        // Written in one piece, whatever else is printed. An error of this write cannot be reported
        // anywhere.
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
        std::process::exit(2);
    }
}
