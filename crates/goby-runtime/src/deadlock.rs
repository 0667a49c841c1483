//! Whether any goroutine can ever run again.
//!
//! Asked by the monitor when every worker has slept for a while. A verdict needs proof: no timer is pending, no socket
//! registered, no `blocking` call or future in progress, and no OS thread outside goby is running that could unpark a
//! goroutine. The last is known by counting: every thread of the process is goby's own, or is itself parked in goby
//! without a deadline.

use std::cell::Cell;
use std::fmt::Write as _;
use std::io::Write as _;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::runtime::Shared;
use crate::timer::NEVER;
use crate::try_run::Deadlock;
use crate::{dump, tsan};

/// OS threads that are parked in goby without a deadline, and that nobody has unparked.
static PARKED_THREADS: AtomicUsize = AtomicUsize::new(0);
/// Counts changes of `PARKED_THREADS`.
static THREAD_CHANGES: AtomicUsize = AtomicUsize::new(0);
/// Threads of goby's runtimes.
static OWN_THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The thread is a runtime's own, and counted as such.
    static IS_OWN: Cell<bool> = const { Cell::new(false) };
}

/// Counts an OS thread that parks without a deadline, unless it is goby's own, and so counted already; says whether it did.
/// It may be the last one that could have done something.
pub(crate) fn thread_parks() -> bool {
    if IS_OWN.get() {
        return false;
    }
    PARKED_THREADS.fetch_add(1, Ordering::SeqCst);
    THREAD_CHANGES.fetch_add(1, Ordering::SeqCst);
    let _ignore = tsan::ignore();
    for runtime in RUNTIMES.lock().iter() {
        runtime.monitor.look_again();
    }
    true
}

/// Whether the calling thread is one of a runtime's.
pub(crate) fn is_own_thread() -> bool {
    IS_OWN.get()
}

/// Undoes [`thread_parks`].
pub(crate) fn thread_is_unparked() {
    THREAD_CHANGES.fetch_add(1, Ordering::SeqCst);
    PARKED_THREADS.fetch_sub(1, Ordering::SeqCst);
}

/// Counts a thread of a runtime.
pub(crate) struct OwnThread;

impl OwnThread {
    pub(crate) fn enter() -> OwnThread {
        OWN_THREADS.fetch_add(1, Ordering::SeqCst);
        IS_OWN.set(true);
        OwnThread
    }
}

impl Drop for OwnThread {
    fn drop(&mut self) {
        IS_OWN.set(false);
        OWN_THREADS.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A proof that no goroutine of a runtime can run again.
pub(crate) struct Stuck {
    goroutines: usize,
    /// How many of them wait for a stack, and why they get none.
    starved: Option<(usize, String)>,
}

/// The runtimes of the process in which anything may run: one may unpark the other's goroutines. One that was shut down stays until
/// its workers have stopped, what never ran is gone, and its blocking calls have returned. Always locked under `tsan::ignore`: a lock
/// that only some ignore is handed over from those to the others without an edge.
static RUNTIMES: Mutex<Vec<&'static Shared>> = Mutex::new(Vec::new());

/// Makes a runtime known.
pub(crate) fn register(shared: &'static Shared) {
    let _ignore = tsan::ignore();
    RUNTIMES.lock().push(shared);
}

/// Forgets a runtime that was shut down, and in which nothing will run any more.
pub(crate) fn forget(shared: &'static Shared) {
    let _ignore = tsan::ignore();
    RUNTIMES.lock().retain(|other| !ptr::eq(*other, shared));
}

/// The runtimes that have not been shut down.
pub(crate) fn runtimes() -> Vec<&'static Shared> {
    let _ignore = tsan::ignore();
    RUNTIMES.lock().iter().copied().filter(|runtime| !runtime.is_shut_down()).collect()
}

/// What a look for a deadlock has found.
pub(crate) enum Verdict {
    /// Something will make a goroutine runnable, or there is none.
    Alive,
    /// Something moved while we looked.
    Changing,
    /// Only a thread outside goby can, or one of a runtime that was shut down. It does not tell when it ends.
    OtherThreads,
    Stuck(Stuck),
}

/// Looks for a deadlock. Every worker of `shared` sleeps.
pub(crate) fn check(shared: &Shared) -> Verdict {
    let _ignore = tsan::ignore();
    let goroutines = shared.num_goroutines();
    let runtimes = RUNTIMES.lock();
    let (ending, running): (Vec<&Shared>, Vec<&Shared>) =
        runtimes.iter().copied().partition(|runtime| runtime.is_shut_down());
    let all_quiet = || running.iter().all(|runtime| is_quiet(runtime));
    // The parts are looked at one after the other. They are true at once if nothing has changed in between.
    let changes = || {
        let idle: usize = running.iter().map(|runtime| runtime.idle.changes()).fold(0, usize::wrapping_add);
        idle.wrapping_add(THREAD_CHANGES.load(Ordering::SeqCst))
    };
    let before = changes();
    if (goroutines == 0 && !shared.main_exited()) || !all_quiet() {
        return Verdict::Alive;
    }
    let alone = ending.is_empty() && no_other_thread_runs();
    if !all_quiet() || changes() != before {
        return Verdict::Changing;
    }
    if alone { Verdict::Stuck(Stuck { goroutines, starved: shared.starvation() }) } else { Verdict::OtherThreads }
}

/// Whether nothing in a runtime runs, or will by itself.
fn is_quiet(runtime: &Shared) -> bool {
    runtime.idle.n_sleeping() == runtime.n_workers()
        && runtime.inject.len() == 0
        && runtime.helpers.in_progress() == 0
        && runtime.n_tasks() == 0
        && !runtime.can_feed_starved()
        && runtime.remotes().all(|r| {
            r.timers.next_due() == NEVER && !r.poller.has_sources() && r.inbox.is_empty() && r.fresh.len() == 0
        })
}

/// Whether every thread of the process is goby's own, or parked in goby.
fn no_other_thread_runs() -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return false };
    let threads = status.lines().find_map(|line| line.strip_prefix("Threads:")?.trim().parse::<usize>().ok());
    threads.is_some_and(|n| n <= OWN_THREADS.load(Ordering::SeqCst) + PARKED_THREADS.load(Ordering::SeqCst))
}

impl Stuck {
    /// Whether no policy may ignore it.
    pub(crate) fn is_fatal(&self) -> bool {
        self.starved.is_some()
    }

    /// The report's first line.
    fn message(&self) -> String {
        match &self.starved {
            Some((n, why)) => format!(
                "{n} goroutines cannot start, and the {} that have started all wait: {why}",
                self.goroutines.saturating_sub(*n)
            ),
            None if self.goroutines == 0 => "no goroutines (main called runtime.Goexit) - deadlock!".into(),
            None => "all goroutines are asleep - deadlock!".into(),
        }
    }

    /// Tells those who have asked to be told, in any runtime; false if nobody has.
    pub(crate) fn tell_watchers(&self) -> bool {
        let _ignore = tsan::ignore();
        let runtimes = runtimes();
        if runtimes.iter().all(|runtime| runtime.watchers.is_empty()) {
            return false;
        }
        let deadlock = Deadlock::new(self.message(), dump::dump());
        runtimes.iter().for_each(|runtime| runtime.watchers.tell(&deadlock));
        true
    }

    /// Reports it, with all goroutines, and ends the process.
    pub(crate) fn exit(self) -> ! {
        let mut text = format!("fatal error: {}\n", self.message());
        if self.goroutines > 0 {
            let who = if self.goroutines == 1 { "goroutine is" } else { "goroutines are" };
            let _ = write!(text, "\n{} {who} parked for ever\n\n{}", self.goroutines, dump::dump());
        }
        // In one piece, whatever else is printed. There is nobody to tell that it cannot be.
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
        std::process::exit(2);
    }
}
