//! Goroutines and futures that keep their worker: reported by the monitor, with their stack.
//!
//! The monitor tells a stall from a thread that merely got no processor (`suspect`). Here the stack
//! of the goroutine that runs, or of the future that is polled, is taken (`sample`). A future that
//! waits in goby inside its poll may wait forever (`worker/kept.rs`): that is reported at once,
//! when the wait begins, and by its worker. A thread of its own makes the report: in a large
//! program it takes seconds to look names up. The report goes to a subscriber of `tracing`, if
//! there is one, otherwise to the standard error: a line at once, and the stack once its names are
//! known.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::ptr;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::base::report::report;
use crate::base::stack_trace::{Names, StackTrace};
use crate::base::{policy, stack_trace};
use crate::engine::current::current_shared;
use crate::engine::frames;
use crate::engine::frames::Function;
use crate::engine::io::timer::NEVER;
use crate::engine::threads::spawn_own_thread;
use crate::engine::wait_reason::WaitReason;
use crate::engine::worker::{Remote, Worker};
use crate::look::Look;
use crate::look::inspect::GoroutineInfo;
use crate::look::sample;
use crate::look::sample::{Running, RunningFuture};

/// A goroutine that keeps its worker for this long is reported: it is long enough to be felt, and
/// ten time slices.
pub(crate) const LIMIT: Duration = Duration::from_millis(100);
/// The number of stalls that are kept.
const KEPT: usize = 64;
/// What the report says to do about a stall.
const COMPUTES_OR_BLOCKS: &str =
    "run what blocks or computes in `blocking`, use goby's locks and channels, or call `yield_now` now and then";
const WAITS_IN_PLACE: &str = "it waits in the panic hook, or in a subscriber of tracing, where nothing else of the \
                              worker can run: let that only hand over";
const COMPUTES_IN_POLL: &str =
    "run what blocks or computes in a goroutine, by `go` and there `blocking`, or await now and then";
const WAITS_IN_POLL: &str = "inside its poll, so that no goroutine of the worker can run, not even one that would \
                             end the wait: await instead (`recv_async`), only try (`try_lock`), or run the future by \
                             `block_on` in a goroutine";
/// How long goroutines that were started at the same place are not printed again: if every job of a
/// pool takes too long, that is printed once, not a thousand times.
const QUIET: Duration = Duration::from_secs(10);

/// The variable that turns the printing off; its only value is [`OFF`].
const VARIABLE: &str = "GOBY_STALLS";
const OFF: &str = "off";

/// Returns whether stalls are printed if the builder does not say.
///
/// # Errors
///
/// `InvalidInput` for a value of the variable that is not valid.
pub(crate) fn are_printed() -> io::Result<bool> {
    match std::env::var_os(VARIABLE) {
        None => Ok(true),
        Some(value) if value.is_empty() => Ok(true),
        Some(value) if value == OFF => Ok(false),
        Some(value) => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{VARIABLE}={value:?} is not {OFF:?}: change or unset it"),
        )),
    }
}

/// A worker that did not come back to its other goroutines for longer than the limit. Its `Display`
/// is the report.
#[derive(Clone, Debug)]
pub struct Stall {
    worker: usize,
    lasted: Duration,
    goroutine: Option<GoroutineInfo>,
    future: Option<RunningFuture>,
    /// Why the future waits in goby.
    future_waits: Option<WaitReason>,
    /// The goroutine waits in a panic hook.
    is_held: bool,
}

impl Stall {
    /// Returns the worker's number in its runtime.
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// Returns how long it had lasted when it was reported.
    pub fn lasted(&self) -> Duration {
        self.lasted
    }

    /// Returns the goroutine that ran, with its stack at that moment; none if a future ran, or the
    /// thread could not tell. If it is none, another report follows when the stall has lasted twice
    /// as long.
    pub fn goroutine(&self) -> Option<&GoroutineInfo> {
        self.goroutine.as_ref()
    }

    /// Returns whether a future ran.
    pub fn is_of_future(&self) -> bool {
        self.future.is_some() || self.future_waits.is_some()
    }

    /// Returns why the future that ran waited in goby, inside its poll; none if it did not, or if
    /// no future ran.
    pub fn future_waits(&self) -> Option<WaitReason> {
        self.future_waits
    }

    /// Returns where the goroutine or the future was, if the thread could tell.
    pub fn stack(&self) -> Option<&StackTrace> {
        let of_goroutine = self.goroutine.as_ref().and_then(|g| g.stack.as_ref());
        of_goroutine.or(self.future.as_ref().map(|future| &future.stack))
    }
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.headline())?;
        let Some(stack) = self.stack() else { return Ok(()) };
        writeln!(f)?;
        Names::default().write(stack, f)
    }
}

impl Stall {
    /// Returns the first line of the report. It looks no names up.
    fn headline(&self) -> String {
        let (worker, ms) = (self.worker, self.lasted.as_millis());
        match &self.goroutine {
            None if self.is_of_future() => {
                format!("a future has kept worker {worker} for {ms} ms: {}", self.future_does())
            }
            None => format!("worker {worker} has not come back for {ms} ms"),
            Some(g) => format!(
                "goroutine {}, started at {}, has kept worker {worker} for {ms} ms: {}",
                g.id,
                g.started_at,
                if self.is_held { WAITS_IN_PLACE } else { COMPUTES_OR_BLOCKS }
            ),
        }
    }

    fn future_does(&self) -> String {
        match self.future_waits {
            Some(reason) => format!("it waits [{reason}] {WAITS_IN_POLL}"),
            None => COMPUTES_IN_POLL.into(),
        }
    }

    /// Prints it: the line first, the stack once its names are known.
    fn print(&self) {
        report(format_args!("{}", self.headline()));
        match (&self.goroutine, self.stack()) {
            (Some(g), Some(stack)) => stack_trace::print(format_args!("goroutine {}", g.id), stack),
            (None, Some(stack)) => stack_trace::print("the future", stack),
            (_, None) => {}
        }
    }

    /// Returns a number that stands for where the goroutine was started, or for the kind of the
    /// future: stalls of one cause have the same.
    fn place(&self) -> usize {
        let of_goroutine = self.goroutine.as_ref().map(|g| ptr::from_ref(g.started_at).addr());
        of_goroutine.or(self.future.as_ref().map(|future| future.kind)).unwrap_or(0)
    }

    fn is_in_panic_hook(&self) -> bool {
        self.stack().is_some_and(|stack| frames::contains(stack.addresses(), Function::PanicHook))
    }
}

/// A future that is about to wait in goby, inside its poll.
struct WaitInPoll {
    worker: usize,
    reason: WaitReason,
    stack: StackTrace,
}

impl WaitInPoll {
    fn headline(&self) -> String {
        format!("a future of worker {} waits [{}] {WAITS_IN_POLL}", self.worker, self.reason)
    }
}

impl fmt::Display for WaitInPoll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.headline())?;
        Names::default().write(&self.stack, f)
    }
}

/// The latest stalls of one runtime.
pub(crate) struct Stalls {
    is_printed: bool,
    latest: Mutex<VecDeque<Stall>>,
    /// The places whose goroutines were printed, by [`Stall::place`], and when.
    printed: Mutex<Vec<(usize, Instant)>>,
    /// The kinds of futures that have waited inside their polls, and why. Each is reported once.
    waited: Mutex<Vec<(usize, WaitReason)>>,
}

impl Stalls {
    pub(crate) fn new(is_printed: bool) -> Stalls {
        Stalls { is_printed, latest: Mutex::default(), printed: Mutex::default(), waited: Mutex::default() }
    }

    /// Looks at what the worker runs, keeps it and reports it; returns whether the goroutine is
    /// known. Called by the monitor.
    pub(crate) fn report(&self, remote: &Remote, lasted: Duration) -> bool {
        // Relaxed: a hint.
        let is_held = remote.thread.is_held.load(Ordering::Relaxed);
        let (goroutine, future) = match sample::running(remote) {
            Some(Running::Goroutine(info)) => (Some(info), None),
            Some(Running::Future(future)) => (None, Some(future)),
            None => (None, None),
        };
        let future_waits = remote.future_waits();
        let stall = Stall { worker: remote.index, lasted, goroutine, future, future_waits, is_held };
        let is_known = stall.goroutine.is_some();
        // Asked before the stall can be seen: a program that sees it may end it.
        let is_felt = has_others(remote, usize::from(!stall.is_of_future()));
        {
            let mut latest = self.latest.lock();
            if latest.len() == KEPT {
                latest.pop_front();
            }
            latest.push_back(stall.clone());
        }
        // The report is made on another thread: looking names up takes long, a standard error that
        // nobody reads blocks, and the monitor has other workers to look after. If no thread can be
        // started, there is no report.
        if warnings_are_heard!() {
            // A subscriber is the program's code, and may unpark a waiter. So for the deadlock
            // detector this is no thread of goby's own.
            let name = thread::Builder::new().name("goby-report".into());
            let _ = name.spawn(move || warning!("goby: {stall}"));
        } else if self.is_printed && is_felt && self.is_news(stall.place(), policy::now()) {
            let _ = spawn_own_thread("goby-report", move || {
                // A goroutine that is in the panic hook is not printed: it looks names up for the
                // report of its panic, and that report is the one that the user needs.
                if stall.is_held || !stall.is_in_panic_hook() {
                    stall.print();
                }
            });
        }
        is_known
    }

    /// Reports that the future that the worker polls is about to wait in goby, once for each kind
    /// of future and wait. Called in that poll.
    #[inline(never)]
    pub(crate) fn report_wait(&self, worker: &Worker, reason: WaitReason) {
        let Some(kind) = worker.polls() else { return };
        {
            let mut waited = self.waited.lock();
            if waited.contains(&(kind, reason)) {
                return;
            }
            waited.push((kind, reason));
        }
        // The stall that this becomes is not printed as well, unless it lasts.
        self.is_news(kind, policy::now());
        let begin = 0u8;
        let stack = StackTrace::of_thread((&raw const begin).addr());
        let (wait, is_printed) = (WaitInPoll { worker: worker.remote.index, reason, stack }, self.is_printed);
        // On another thread, for the reasons of `report`; and the subscriber may be what waits
        // here.
        let thread = thread::Builder::new().name("goby-report".into());
        let _ = thread.spawn(move || {
            if warnings_are_heard!() {
                warning!("goby: {wait}");
            } else if is_printed {
                report(format_args!("{}", wait.headline()));
                stack_trace::print("the future", &wait.stack);
            }
        });
    }

    /// Returns whether no stall of a goroutine that was started at this place was printed recently.
    /// If so, the caller prints this one.
    fn is_news(&self, place: usize, now: Instant) -> bool {
        let mut printed = self.printed.lock();
        printed.retain(|(_, when)| now.duration_since(*when) < QUIET);
        let is_news = printed.iter().all(|(other, _)| *other != place);
        if is_news {
            printed.push((place, now));
        }
        is_news
    }

    /// Forgets the stalls of a former life.
    pub(crate) fn reset(&self) {
        self.latest.lock().clear();
        self.printed.lock().clear();
        self.waited.lock().clear();
    }

    pub(crate) fn latest(&self) -> Vec<Stall> {
        self.latest.lock().iter().cloned().collect()
    }
}

/// Returns whether anything may wait for the worker, beside `n_running` goroutines that run there:
/// another goroutine that is pinned there, an unstarted one, a timer or a socket. A goroutine that
/// is alone may compute for as long as it likes.
fn has_others(remote: &Remote, n_running: usize) -> bool {
    remote.n_started() > n_running
        || remote.stealable.unstarted.len() > 0
        || !remote.mail.inbox.is_empty()
        || remote.timers.next_due() != NEVER
        || remote.poller.has_sources()
}

/// Returns the latest stalls of the caller's runtime: see
/// [`Runtime::stalls`](crate::Runtime::stalls).
pub fn stalls() -> Vec<Stall> {
    Look::of(current_shared()).stalls.latest()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_place_is_news_once_in_a_while() {
        let stalls = Stalls::new(true);
        let start = policy::now();
        assert!(stalls.is_news(1, start) && stalls.is_news(2, start));
        assert!(!stalls.is_news(1, start + QUIET / 2));
        assert!(stalls.is_news(1, start + QUIET));
        assert!(!stalls.is_news(1, start + QUIET + MS));
    }
}
