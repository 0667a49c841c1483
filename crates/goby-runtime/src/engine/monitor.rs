//! The monitor: a thread that notices workers that do not come back
//! (`docs/decisions/03-blocking-and-the-monitor.md`).
//!
//! It ticks while any worker is awake, and less often where it has found nothing to do for a while.
//! It sleeps when no worker is awake: an idle program has no wake-ups, except for the one that
//! gives memory back. Each tick it looks at every worker's count of time slices. A worker that has
//! not begun a new slice for [`SLICE`] is asked to: its goroutine yields at its next goby call. So
//! is a worker whose slices are short, but which has not paused between them for as long
//! (`worker/fairness.rs`). If a worker's thread is asleep in the kernel, a spare worker is started
//! for whatever is not pinned. Unstarted goroutines get a searcher.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::base::unseen::UnseenMutex;
use crate::base::{heap, policy};
use crate::engine::run_queue::Sight;
use crate::engine::shared::Shared;
use crate::engine::suspect::Suspect;
use crate::engine::tuning::{CALM, CALM_TICK, LINGER, SETTLED, SLICE, TICK, TRIM, WORTH_TIDYING};
use crate::engine::watch::Prospect;
use crate::engine::worker::{Remote, Worker};

pub(crate) struct Monitor {
    ticks: AtomicUsize,
    /// The time, as of the last tick or the last worker's waking. A park notes it for a load and a
    /// store, where reading the clock costs 20 to 40 ns. Whenever a goroutine runs, this time is at
    /// most one tick old, be it a calm tick (more on a machine that is busy with others).
    clock: AtomicU64,
    asleep: AtomicBool,
    /// The monitor is in a long tick, which should be cut short if there is something to do.
    is_calm: AtomicBool,
    thread: UnseenMutex<Option<Thread>>,
}

/// What the monitor remembers of a worker.
#[derive(Clone, Copy)]
struct Seen {
    slices: u64,
    since: Instant,
    /// The worker's pauses, and since when their number has been the same.
    turns: u64,
    paused: Instant,
    /// None if the slice is not looked at, or is reported already.
    stall: Option<Suspect>,
    /// The state of its queue of unstarted goroutines.
    unstarted: Sight,
    /// How long its thread had run or waited for a processor, and when that was read; `None` until
    /// its slice is over.
    busy: Option<(Duration, Instant)>,
}

impl Monitor {
    pub(crate) fn new() -> Monitor {
        Monitor {
            ticks: AtomicUsize::new(0),
            clock: AtomicU64::new(policy::nanos(policy::now())),
            asleep: AtomicBool::new(false),
            is_calm: AtomicBool::new(false),
            thread: UnseenMutex::new(None),
        }
    }

    /// Prepares it for another thread. Its ticks go on.
    pub(crate) fn reset(&self) {
        // Relaxed: the thread is started after it.
        self.asleep.store(false, Ordering::Relaxed);
        self.is_calm.store(false, Ordering::Relaxed);
        self.set_clock(policy::now());
        *self.thread.lock() = None;
    }

    /// Returns how many ticks there have been.
    #[inline]
    pub(crate) fn tick(&self) -> usize {
        self.ticks.load(Ordering::Relaxed)
    }

    /// Returns the time of the last tick, as [`policy::nanos`].
    #[inline]
    pub(crate) fn clock(&self) -> u64 {
        self.clock.load(Ordering::Relaxed)
    }

    /// Sets the clock. A worker does so when it wakes, because the monitor may still sleep then.
    pub(crate) fn set_clock(&self, now: Instant) {
        // Relaxed: a time, and nothing else. Two threads that write at once write nearly the same.
        self.clock.store(policy::nanos(now), Ordering::Relaxed);
    }

    /// Makes the monitor tick again. A worker calls this when it wakes.
    #[inline]
    pub(crate) fn ensure_awake(&self) {
        // SeqCst: the worker has taken itself off the list of sleepers before; see `rest`.
        if self.asleep.load(Ordering::SeqCst) && self.asleep.swap(false, Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Makes the monitor look soon, because something has been started. A hint: what is started
    /// just before the long tick waits for its end.
    #[inline]
    pub(crate) fn hurry(&self) {
        // Relaxed, here and where it is set: a caller that misses it loses a few milliseconds.
        if self.is_calm.load(Ordering::Relaxed) {
            self.end_calm();
        }
    }

    #[cold]
    fn end_calm(&self) {
        if self.is_calm.swap(false, Ordering::Relaxed) {
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
        if let Some(thread) = &*self.thread.lock() {
            thread.unpark();
        }
    }

    /// Runs the monitor until the runtime is shut down.
    pub(crate) fn run(&self, shared: &'static Shared) {
        *self.thread.lock() = Some(thread::current());
        let mut seen: Vec<Seen> = Vec::new();
        let mut idle_since: Option<Instant> = None;
        let mut trimmed = policy::now();
        let mut calm = 0;
        let mut order = Order { grown: 0, since: trimmed, tidied: 0, is_asked: false };
        while !shared.is_shut_down() {
            let now = policy::now();
            self.set_clock(now);
            if shared.idle.n_sleeping() == shared.n_workers() {
                if now.duration_since(*idle_since.get_or_insert(now)) >= LINGER {
                    // Twice: stacks that were given back only now count as unwanted the second
                    // time.
                    let _ = shared.stacks.pool.trim() || shared.stacks.pool.trim();
                    let asks_in = order.keep(shared, now);
                    if asks_in != Some(Duration::ZERO) {
                        self.rest(shared, asks_in.map(|time| now + time));
                    }
                    idle_since = None;
                    calm = 0;
                    continue;
                }
            } else {
                idle_since = None;
                calm = if self.watch(shared, &mut seen, now) { 0 } else { calm + 1 };
            }
            if now.duration_since(trimmed) >= TRIM {
                trimmed = now;
                shared.stacks.pool.trim();
            }
            self.wait_for_tick(calm);
            self.ticks.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sleeps until a worker wakes, or until `end`. Before that, looks whether any worker ever can
    /// wake.
    fn rest(&self, shared: &'static Shared, end: Option<Instant>) {
        self.asleep.store(true, Ordering::SeqCst);
        // For a deadlock that only another thread can break. Each nap is twice as long as the last.
        let mut nap = 2 * LINGER;
        // SeqCst: either this sees the worker that has woken since, or that worker sees `asleep`.
        while shared.idle.n_sleeping() == shared.n_workers()
            && self.asleep.load(Ordering::SeqCst)
            && !shared.is_shut_down()
        {
            let left = end.map_or(Duration::MAX, |end| end.saturating_duration_since(policy::now()));
            if left.is_zero() {
                break;
            }
            match shared.watch.all_asleep(shared) {
                // The goroutines that wait go on waiting.
                Prospect::Never => thread::park(),
                // A few further looks, ever more rarely: an idle program has no wake-ups to speak
                // of.
                Prospect::Unclear => {
                    thread::park_timeout(nap.min(left));
                    // A test's runtime does not live long, and the test waits for the verdict.
                    if !shared.settings.isolated {
                        nap = nap.saturating_mul(2);
                    }
                }
                Prospect::Wake => thread::park_timeout(left),
            }
        }
        self.asleep.store(false, Ordering::SeqCst);
    }

    fn wait_for_tick(&self, calm: u32) {
        if calm < CALM {
            return thread::park_timeout(TICK);
        }
        self.is_calm.store(true, Ordering::Relaxed);
        thread::park_timeout(CALM_TICK);
        self.is_calm.store(false, Ordering::Relaxed);
    }

    /// Looks at every worker. Returns whether there was anything to see.
    fn watch(&self, shared: &'static Shared, seen: &mut Vec<Seen>, now: Instant) -> bool {
        // A goroutine that was refused a stack while others were just being trimmed may be on a
        // worker that is busy now.
        if shared.stacks.can_feed() {
            shared.stacks.starved.feed_one(&shared.inject);
        }
        let mut is_eventful = shared.inject.len() > 0;
        if is_eventful {
            shared.idle.wake_searcher();
        }
        let has_work =
            || shared.inject.len() > 0 || shared.remotes().any(|remote| remote.stealable.unstarted.len() > 0);
        let mut stuck = 0;
        for (i, remote) in shared.remotes().enumerate() {
            let slices = remote.tally.slices.load(Ordering::Relaxed);
            let unstarted = remote.stealable.unstarted.sight();
            let turns = remote.stealable.turns.load(Ordering::Relaxed);
            let stall = shared.settings.stall_limit.map(Suspect::new);
            let mut anew = Seen { slices, since: now, turns, paused: now, stall, unstarted, busy: None };
            if i == seen.len() {
                seen.push(anew);
            }
            // A worker whose goroutine waits in a panic hook sleeps, too, and is not free.
            let sleeps = remote.mail.inbox.sleeps() && !remote.thread.is_held.load(Ordering::Relaxed);
            if seen[i].turns == turns && !sleeps {
                anew.paused = seen[i].paused;
            } else {
                (seen[i].turns, seen[i].paused) = (turns, now);
            }
            // Perhaps no worker has been woken for these: one lone goroutine per tick wakes a
            // worker, and where thieves are patient none does. A worker that is woken finds out
            // whether they are left alone.
            if remote.stealable.unstarted.len() > 0 {
                shared.idle.wake_searcher();
            }
            is_eventful |= remote.stealable.unstarted.len() > 0 || seen[i].unstarted != unstarted;
            seen[i].unstarted = unstarted;
            if seen[i].slices != slices || sleeps {
                if now.duration_since(anew.paused) >= SLICE {
                    // Relaxed: a hint, see `Worker::pause`.
                    remote.orders.pause_due.store(true, Ordering::Relaxed);
                    remote.orders.slice_over.store(true, Ordering::Relaxed);
                }
                seen[i] = anew;
                continue;
            }
            let lasts = now.duration_since(seen[i].since);
            if let Some(stall) = &mut seen[i].stall
                && stall.is_stall(remote.thread.thread_id.load(Ordering::Relaxed), lasts)
            {
                if shared.watch.stalled(remote, lasts) {
                    seen[i].stall = None;
                } else {
                    stall.again(lasts);
                }
            }
            if lasts >= SLICE {
                remote.orders.pause_due.store(false, Ordering::Relaxed);
                remote.orders.slice_over.store(true, Ordering::Relaxed);
                // Looking at a thread takes some 50 µs: only if there is work, and no other worker
                // to begin it.
                if shared.idle.n_sleeping() == 0 && has_work() {
                    stuck += usize::from(seen[i].is_blocked(remote.thread.thread_id.load(Ordering::Relaxed), now));
                } else {
                    seen[i].busy = None;
                }
            }
        }
        let wants_spare = stuck > 0 && shared.n_workers() < shared.settings.workers + stuck;
        if wants_spare && let Err(error) = shared.add_worker() {
            warning!("goby: {stuck} workers are blocked in the kernel, and no spare one: {error}");
        }
        is_eventful
    }
}

/// Returns whether `deadline` has passed. A goroutine learns that up to a tick of the monitor late
/// (5 ms), and in return does not read the clock.
///
/// ```
/// assert!(goby_runtime::has_passed(goby_runtime::now()));
/// ```
pub fn has_passed(deadline: Instant) -> bool {
    match Worker::current() {
        // The monitor, and so its clock, ends with the runtime.
        Some(worker) if !worker.shared.is_shut_down() => worker.shared.monitor.clock() >= policy::nanos(deadline),
        _ => policy::now() >= deadline,
    }
}

/// Gives back what a crowd of goroutines or futures has needed, in an idle program.
struct Order {
    /// How often the workers' heaps had grown (see `slab`) when that was last looked at, since
    /// when, and how often when they were last tidied up.
    grown: u64,
    since: Instant,
    tidied: u64,
    /// The workers have been asked to give back what they keep.
    is_asked: bool,
}

impl Order {
    /// Tidies up if it is time to. All workers sleep, as far as is known. Returns in how long to
    /// call again; zero means as soon as the workers have given back.
    fn keep(&mut self, shared: &Shared, now: Instant) -> Option<Duration> {
        if self.is_asked {
            // A worker that has yet to do it has had no processor for so long. A worker that has
            // done it sleeps again, or is awake.
            if shared.remotes().any(Remote::is_to_tidy) {
                return Some(LINGER);
            }
            self.is_asked = false;
            shared.stacks.pool.shrink();
            heap::trim();
        }
        // Relaxed: it decides when memory goes back, and nothing else.
        let grown = shared.remotes().map(|remote| remote.tally.grown.load(Ordering::Relaxed)).sum();
        if grown != self.grown {
            (self.grown, self.since) = (grown, now);
        }
        if grown - self.tidied < WORTH_TIDYING {
            return None;
        }
        let left = SETTLED.saturating_sub(now.duration_since(self.since));
        if left.is_zero() {
            self.tidied = grown;
            self.is_asked = true;
            shared.remotes().for_each(Remote::ask_to_tidy);
        }
        Some(left)
    }
}

impl Seen {
    /// Returns whether the worker's thread sleeps in the kernel, and not just for a moment: it has
    /// slept for half of the time since the last look. A loop that spawns a million futures sleeps
    /// there, too, now and then, for page faults and `mprotect`. A spare worker is then one thread
    /// more than there are processors (`sleep_1m_async` took 1.8 s instead of 1.7).
    fn is_blocked(&mut self, thread_id: i32, now: Instant) -> bool {
        let thread = format!("/proc/self/task/{thread_id}");
        // Asked before its time is read, which is exact only for a thread that sleeps.
        let sleeps = sleeps(&thread);
        // Some kernels do not count this time.
        let Some(busy) = busy_time(&thread) else { return sleeps };
        let Some((before, then)) = self.busy else {
            self.busy = Some((busy, now));
            return false;
        };
        let time = now.duration_since(then);
        if time < TICK / 2 {
            return false;
        }
        self.busy = Some((busy, now));
        sleeps && time.saturating_sub(busy.saturating_sub(before)) >= time / 2
    }
}

/// Returns how long a thread has run, or waited for a processor.
fn busy_time(thread: &str) -> Option<Duration> {
    run_times(thread).map(|(ran, waited)| ran + waited)
}

/// Returns how long a thread has run, and how long it has waited for a processor.
pub(crate) fn run_times(thread: &str) -> Option<(Duration, Duration)> {
    let stat = std::fs::read_to_string(format!("{thread}/schedstat")).ok()?;
    let mut nanos = stat.split_whitespace().map(str::parse);
    Some((Duration::from_nanos(nanos.next()?.ok()?), Duration::from_nanos(nanos.next()?.ok()?)))
}

/// Returns whether a thread is asleep in the kernel at this moment, as far as `/proc` says.
pub(crate) fn sleeps(thread: &str) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("{thread}/stat")) else { return false };
    // The state follows the name, which is in parentheses and may contain some itself.
    stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next()).is_some_and(|c| c == 'S' || c == 'D')
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn busy_of(id: i32) -> Duration {
        busy_time(&format!("/proc/self/task/{id}")).expect("Linux counts it")
    }

    #[test]
    fn a_thread_is_blocked_that_sleeps_and_has_slept_for_long_enough() {
        static COMPUTES: AtomicBool = AtomicBool::new(true);
        let (tell, told) = mpsc::channel();
        let (go_on, may_go_on) = mpsc::channel::<()>();
        let worker = thread::spawn(move || {
            let id = rustix::thread::gettid().as_raw_nonzero().get();
            tell.send(id).unwrap();
            may_go_on.recv().unwrap();
            while COMPUTES.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
            // Until the end.
            let _ = may_go_on.recv();
        });
        let id = told.recv().unwrap();
        let wait_until_it = |is_asleep| {
            while sleeps(&format!("/proc/self/task/{id}")) != is_asleep {
                thread::yield_now();
            }
        };
        let start = policy::now();
        let sight = Sight { changes: 0, emptied: 0 };
        let mut seen =
            Seen { slices: 0, since: start, turns: 0, paused: start, stall: None, unstarted: sight, busy: None };
        wait_until_it(true);
        assert!(!seen.is_blocked(id, start), "a moment's sleep says nothing");
        assert!(!seen.is_blocked(id, start + TICK / 4), "nor does one between two looks that are close to each other");
        let before = busy_of(id);
        go_on.send(()).unwrap();
        wait_until_it(false);
        assert!(!seen.is_blocked(id, start + 1000 * TICK), "it runs");
        seen.busy = Some((before, start));
        while busy_of(id) < before + 10 * TICK {}
        COMPUTES.store(false, Ordering::Relaxed);
        wait_until_it(true);
        assert!(!seen.is_blocked(id, start + 10 * TICK), "it sleeps, but has run all the time");
        assert!(seen.is_blocked(id, start + 1000 * TICK));
        drop(go_on);
        worker.join().unwrap();
    }
}
