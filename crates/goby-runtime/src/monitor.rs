//! The monitor: a thread that notices workers that do not come back (DESIGN D2).
//!
//! It ticks while any worker is awake, and sleeps when none is: an idle program has no wake-ups. Each tick it looks at
//! every worker's count of time slices. One that has not begun a new slice for [`SLICE`] is asked to: its goroutine
//! yields at its next goby call. If its thread is asleep in the kernel, a spare worker is started for whatever is not
//! pinned. Goroutines that nobody has begun to run get a searcher.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::deadlock::Verdict;
use crate::policy;
use crate::runtime::{DeadlockPolicy, Shared};
use crate::tsan;
use crate::worker::Remote;

/// How often it looks. A lone goroutine whose spawner computes waits that long for a thief.
const TICK: Duration = Duration::from_millis(1);
/// A goroutine's time slice. Go's.
const SLICE: Duration = Duration::from_millis(10);
/// How long all workers must have slept before the monitor does, so that it is not woken for every short pause.
const LINGER: Duration = Duration::from_millis(50);
/// When to look again for a deadlock that only another thread can break; then twice as long, and so on.
const FIRST_NAP: Duration = Duration::from_millis(100);
/// How often stacks that nobody wants are trimmed.
const TRIM: Duration = Duration::from_secs(1);

pub(crate) struct Monitor {
    ticks: AtomicUsize,
    /// The time, as of the last tick or the last worker's waking: a park notes it for a load and a store, where reading
    /// the clock costs 20 to 40 ns. It is at most a tick old (more on a machine that is busy with others) whenever a
    /// goroutine runs.
    clock: AtomicU64,
    asleep: AtomicBool,
    thread: OnceLock<Thread>,
}

/// What the monitor remembers of a worker.
#[derive(Clone, Copy)]
struct Seen {
    slices: u64,
    since: Instant,
    /// When it is reported as stalled: `None` if never again.
    report_at: Option<Duration>,
    /// How often its fresh goroutines had come to their end.
    emptied: usize,
}

impl Monitor {
    pub(crate) fn new() -> Monitor {
        Monitor {
            ticks: AtomicUsize::new(0),
            clock: AtomicU64::new(policy::nanos(policy::now())),
            asleep: AtomicBool::new(false),
            thread: OnceLock::new(),
        }
    }

    /// Counts its ticks.
    #[inline]
    pub(crate) fn tick(&self) -> usize {
        self.ticks.load(Ordering::Relaxed)
    }

    /// The time of the last tick, as [`policy::nanos`].
    #[inline]
    pub(crate) fn clock(&self) -> u64 {
        self.clock.load(Ordering::Relaxed)
    }

    /// Sets the clock; a worker does when it wakes, because the monitor may still sleep then.
    pub(crate) fn set_clock(&self, now: Instant) {
        // Relaxed: a time, and nothing else. Two that write at once write nearly the same.
        self.clock.store(policy::nanos(now), Ordering::Relaxed);
    }

    /// Makes it tick again; a worker calls it when it wakes.
    #[inline]
    pub(crate) fn ensure_awake(&self) {
        // SeqCst: the worker has taken itself off the list of sleepers before; see `rest`.
        if self.asleep.load(Ordering::SeqCst) && self.asleep.swap(false, Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Makes a monitor that sleeps ask once more whether its runtime is stuck.
    pub(crate) fn look_again(&self) {
        if self.asleep.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    pub(crate) fn wake(&self) {
        let _ignore = tsan::ignore();
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// The monitor's life.
    pub(crate) fn run(&self, shared: &'static Shared) {
        {
            let _ignore = tsan::ignore();
            let _ = self.thread.set(thread::current());
        }
        let mut seen: Vec<Seen> = Vec::new();
        let mut idle_since: Option<Instant> = None;
        let mut trimmed = policy::now();
        while !shared.is_shut_down() {
            let now = policy::now();
            self.set_clock(now);
            if shared.idle.n_sleeping() == shared.n_workers() {
                if now.duration_since(*idle_since.get_or_insert(now)) >= LINGER {
                    // Twice: what was given back only now counts as unwanted the second time.
                    let _ = shared.pool.trim() || shared.pool.trim();
                    self.rest(shared);
                    idle_since = None;
                    continue;
                }
            } else {
                idle_since = None;
                self.watch(shared, &mut seen, now);
            }
            if now.duration_since(trimmed) >= TRIM {
                trimmed = now;
                shared.pool.trim();
            }
            thread::park_timeout(TICK);
            self.ticks.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sleeps until a worker wakes; before that, looks whether any ever can.
    fn rest(&self, shared: &'static Shared) {
        self.asleep.store(true, Ordering::SeqCst);
        let mut nap = FIRST_NAP;
        // SeqCst: either this sees the worker that has woken since, or that worker sees `asleep`.
        while shared.idle.n_sleeping() == shared.n_workers()
            && self.asleep.load(Ordering::SeqCst)
            && !shared.is_shut_down()
        {
            match shared.is_stuck() {
                Verdict::Stuck(stuck) => {
                    if !stuck.tell_watchers() && (stuck.is_fatal() || shared.deadlock_policy == DeadlockPolicy::Exit) {
                        stuck.exit();
                    }
                    // Whoever waits goes on waiting.
                    thread::park();
                }
                // A few further looks, ever more rarely: an idle program has no wake-ups to speak of.
                Verdict::OtherThreads | Verdict::Changing => {
                    thread::park_timeout(nap);
                    nap = nap.saturating_mul(2);
                }
                Verdict::Alive => thread::park(),
            }
        }
        self.asleep.store(false, Ordering::SeqCst);
    }

    fn watch(&self, shared: &'static Shared, seen: &mut Vec<Seen>, now: Instant) {
        if shared.inject.len() > 0 {
            shared.idle.wake_searcher();
        }
        let mut stuck = 0;
        for (i, remote) in shared.remotes().enumerate() {
            let slices = remote.slices.load(Ordering::Relaxed);
            let emptied = remote.fresh.sight().emptied;
            let anew = Seen { slices, since: now, report_at: shared.stall_limit, emptied };
            if i == seen.len() {
                seen.push(anew);
            }
            // For a tick it has had some that it has not begun: a wake-up may have been missed.
            if remote.fresh.len() > 0 && seen[i].emptied == emptied {
                shared.idle.wake_searcher();
            }
            seen[i].emptied = emptied;
            if seen[i].slices != slices || remote.inbox.sleeps() {
                seen[i] = anew;
                continue;
            }
            let lasts = now.duration_since(seen[i].since);
            if seen[i].report_at.is_some_and(|limit| lasts >= limit) {
                // A thread that has lost its processor cannot tell what it runs: it is asked again, ever more rarely.
                seen[i].report_at = (!shared.stalls.report(remote, lasts)).then(|| lasts.saturating_mul(2));
            }
            if lasts >= SLICE {
                remote.slice_over.store(true, Ordering::Relaxed);
                stuck += usize::from(is_in_kernel(remote));
            }
        }
        let has_work = shared.inject.len() > 0 || shared.remotes().any(|r| r.fresh.len() > 0);
        let wants_spare =
            stuck > 0 && has_work && shared.idle.n_sleeping() == 0 && shared.n_workers() < shared.n_wanted + stuck;
        if wants_spare && let Err(error) = shared.add_worker() {
            tracing::warn!("goby: {stuck} workers are blocked in the kernel, and no spare one: {error}");
        }
    }
}

/// Whether the worker's thread is asleep in the kernel, as far as `/proc` says.
fn is_in_kernel(remote: &Remote) -> bool {
    let id = remote.thread_id.load(Ordering::Relaxed);
    let Ok(stat) = std::fs::read_to_string(format!("/proc/self/task/{id}/stat")) else { return false };
    // The state follows the name, which is in parentheses and may contain some itself.
    stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next()).is_some_and(|c| c == 'S' || c == 'D')
}
