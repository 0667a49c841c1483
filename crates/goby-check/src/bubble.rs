//! Virtual time for a test that wants one order of things, not all of them: Go's
//! `testing/synctest`.

use std::fmt;
use std::panic::{self, AssertUnwindSafe, Location, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use goby_runtime::checked::{self, Chooser, End, Plan, Point};

use crate::failure::{Left, write_left};
use crate::random::{Random, mix};

/// 2000-01-01 00:00:00 UTC, in seconds.
const EPOCH: Duration = Duration::from_secs(946_684_800);

thread_local! {
    /// When the bubble of this thread began, by its own clock.
    static BEGAN: std::cell::Cell<Option<Instant>> = const { std::cell::Cell::new(None) };
}

/// Lets a goroutine go on until it waits or yields, and then any other.
struct Calm(Random);

impl Chooser for Calm {
    fn choose(&mut self, point: &Point<'_>) -> Option<usize> {
        let Some(current) = point.current else {
            return Some(self.0.below(point.candidates.len() as u64) as usize);
        };
        if !point.yields {
            return point.candidates.iter().position(|&number| number == current);
        }
        // In turn: each that looks again and again lets all others run.
        let next = |number: u64| (number <= current, number);
        (0..point.candidates.len()).min_by_key(|&place| next(point.candidates[place]))
    }
}

/// The goroutines of a bubble wait for each other, and no timer is left.
pub struct Blocked {
    main_has_ended: bool,
    left: Vec<Left>,
}

impl fmt::Debug for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blocked").field("main_has_ended", &self.main_has_ended).finish_non_exhaustive()
    }
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.main_has_ended {
            "deadlock: main bubble goroutine has exited but blocked goroutines remain"
        } else {
            "deadlock: all goroutines in bubble are blocked"
        })?;
        if !self.left.is_empty() {
            writeln!(f)?;
            write_left(&self.left, f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Blocked {}

/// Runs `f` as the first goroutine of a bubble, and returns its result: in a bubble time is
/// virtual. It moves only when all goroutines of the bubble wait, and then at once to the first
/// timer. So a test of time-outs takes no time, and what it measures is exact.
///
/// The goroutines that `f` starts belong to the bubble, and `bubble` returns when they have all
/// ended. Bubbles may run beside each other in one process. For `GOBY_CHECK_SEED` the order of
/// goroutines that are woken at one instant is the same each time. Source: Go's `synctest.Test`.
///
/// ```
/// use std::time::Duration;
///
/// goby_check::bubble(|| {
///     let start = goby::now();
///     goby::time::sleep(Duration::from_secs(3600));
///     assert_eq!(goby::now() - start, Duration::from_secs(3600));
/// });
/// ```
///
/// # Blocking
///
/// The goroutine, or the OS thread, until the bubble has ended.
///
/// # Panics
///
/// As `f` does; if its goroutines wait for each other and no timer is left, as the text of
/// [`Blocked`] says; if a goroutine panics that nobody joins; and if the program leaves the bubble,
/// by a thread, a blocking call or a socket.
#[track_caller]
pub fn bubble<R: Send + 'static>(f: impl FnOnce() -> R + Send + 'static) -> R {
    try_bubble(f).unwrap_or_else(|blocked| panic!("{blocked}"))
}

/// Runs `f` as [`bubble`] does, and returns as an error that its goroutines wait for each other.
///
/// ```
/// let blocked = goby_check::try_bubble(|| {
///     let (_sender, receiver) = goby::chan::bounded::<()>(0);
///     receiver.recv()
/// });
/// assert!(blocked.unwrap_err().to_string().starts_with("deadlock: all goroutines in bubble are blocked"));
/// ```
///
/// # Errors
///
/// [`Blocked`].
///
/// # Panics
///
/// As [`bubble`] does otherwise.
#[track_caller]
pub fn try_bubble<R: Send + 'static>(f: impl FnOnce() -> R + Send + 'static) -> Result<R, Blocked> {
    assert!(!checked::is_checked(), "a bubble inside a check, or inside a bubble");
    let at = Location::caller();
    let seed = crate::config::seed();
    let place: Arc<Mutex<Option<thread::Result<R>>>> = Arc::default();
    let gives = place.clone();
    let main = move || {
        let result = catch_unwind(AssertUnwindSafe(f));
        let has_panicked = result.is_err();
        *gives.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        if has_panicked {
            // Ends the bubble; the payload is kept.
            panic::resume_unwind(Box::new("the bubble's first goroutine has panicked"));
        }
    };
    let end = checked::host(None, move |host| {
        BEGAN.set(Some(host.now()));
        let plan = Plan { seed: mix(seed, 1), max_steps: u64::MAX, time_outlives_main: false };
        let outcome = host.execute(plan, &mut Calm(Random::new(seed)), at, main);
        let left: Vec<Left> = outcome.left.iter().map(|(number, info)| Left::of(*number, info)).collect();
        (outcome.end, left)
    });
    let (end, left) = end.unwrap_or_else(|error| panic!("no thread for a bubble: {error}"));
    let result = place.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (end, result) {
        (End::Finished, Some(Ok(value))) => Ok(value),
        (End::Panicked { number: 1, .. }, Some(Err(payload))) => panic::resume_unwind(payload),
        (End::Deadlock, _) => Err(Blocked { main_has_ended: false, left }),
        (End::Leaked, _) => Err(Blocked { main_has_ended: true, left }),
        (End::Panicked { number, message }, _) => {
            panic!("goroutine {number} of the bubble has panicked, and nobody joined it: {message}")
        }
        (End::Left(text), _) => panic!("{text}"),
        (end, _) => panic!("the bubble has ended without a result: {end:?}"),
    }
}

/// Waits until all other goroutines of the bubble (or check) wait for something, and none goes on
/// before time moves. What they have done until then has happened. Source: Go's `synctest.Wait`.
///
/// ```
/// goby_check::bubble(|| {
///     let (ctx, cancel) = goby::Context::background().with_cancel();
///     let called = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
///     let sees = called.clone();
///     let _stop = ctx.after_func(move || sees.store(true, std::sync::atomic::Ordering::Relaxed));
///     goby_check::wait();
///     assert!(!called.load(std::sync::atomic::Ordering::Relaxed));
///     cancel.cancel();
///     goby_check::wait();
///     assert!(called.load(std::sync::atomic::Ordering::Relaxed));
/// });
/// ```
///
/// # Blocking
///
/// The goroutine.
///
/// # Panics
///
/// Outside of a bubble and of a check; and if another goroutine is in it.
#[track_caller]
pub fn wait() {
    assert!(checked::wait_until_quiet(), "goby_check::wait is called outside of a bubble");
}

/// Returns what a bubble's clock shows: it begins at 2000-01-01 00:00:00 UTC.
///
/// ```
/// use std::time::{Duration, SystemTime};
///
/// goby_check::bubble(|| {
///     let start = goby_check::unix_time();
///     assert_eq!(start, SystemTime::UNIX_EPOCH + Duration::from_secs(946_684_800));
///     goby::time::sleep(Duration::from_secs(1));
///     assert_eq!(goby_check::unix_time(), start + Duration::from_secs(1));
/// });
/// ```
///
/// # Panics
///
/// Outside of a bubble.
#[track_caller]
pub fn unix_time() -> SystemTime {
    let began = BEGAN.get().expect("goby_check::unix_time is called outside of a bubble");
    SystemTime::UNIX_EPOCH + EPOCH + (goby_runtime::now() - began)
}
