//! Time: sleeping, and channels and functions that fire later.
//!
//! A timer's channel holds at most one instant that nobody has received yet, and shows none: its
//! `len` and `capacity` are 0. The instant is the time when the timer was due, not the time when it
//! was read.
//!
//! From Go: `time/sleep.go`, `time/tick.go`, with the semantics of Go 1.23 and later: stopping or
//! resetting withdraws an instant that was not yet received, and a timer that nobody refers to any
//! more is freed even if it was not stopped.

// Files: this one has sleeping, and the receivers that need no handle; `alarm` joins a timer to
// its channel so that a stop leaves nothing behind; `timer` and `ticker` are its two users;
// `after_func` calls a function instead.

#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use goby_runtime::WaitReason;

use crate::chan::{self, Receiver, RecvTimeoutError};
use crate::context::{Context, ContextError};

mod after_func;
mod alarm;
mod ticker;
mod timer;

pub use after_func::{AfterFunc, after_func, after_func_once};
pub use ticker::Ticker;
pub use timer::Timer;

use alarm::Alarm;

/// The latest deadline: a hundred years off. Later ones do not fit in all places where an instant
/// is counted in nanoseconds, and nobody will see the difference.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Parks the calling goroutine for `duration`.
///
/// ```
/// use goby::time;
/// use std::time::{Duration, Instant};
/// let start = Instant::now();
/// time::sleep(Duration::from_millis(5));
/// assert!(start.elapsed() >= Duration::from_millis(5));
/// ```
///
/// # Blocking
///
/// Parks the goroutine; an OS thread without one sleeps. Zero lets other goroutines run once.
///
/// # Cancellation
///
/// None: see [`sleep_ctx`].
///
/// Source: Go's `time.Sleep`.
#[doc(alias = "time.Sleep")]
pub fn sleep(duration: Duration) {
    goby_runtime::sleep_until(deadline_in(duration));
}

/// Parks the calling goroutine until `deadline`; does what `sleep` of zero does if that has passed.
///
/// ```
/// use goby::time;
/// use std::time::{Duration, Instant};
/// let deadline = Instant::now() + Duration::from_millis(5);
/// time::sleep_until(deadline);
/// assert!(Instant::now() >= deadline);
/// ```
///
/// # Blocking
///
/// Parks the goroutine; an OS thread without one sleeps.
///
/// # Cancellation
///
/// None: see [`sleep_ctx`].
pub fn sleep_until(deadline: Instant) {
    goby_runtime::sleep_until(deadline);
}

/// Parks the calling goroutine for `duration`, or until `ctx` is done.
///
/// ```
/// use goby::{Context, context::ContextError, time};
/// use std::time::Duration;
/// let (ctx, cancel) = Context::background().with_cancel();
/// assert_eq!(time::sleep_ctx(&ctx, Duration::from_millis(1)), Ok(()));
/// cancel.cancel();
/// assert_eq!(time::sleep_ctx(&ctx, Duration::from_secs(60)), Err(ContextError::Canceled));
/// ```
///
/// # Blocking
///
/// Parks the goroutine; an OS thread without one sleeps.
///
/// # Errors
///
/// The context's error, if `ctx` was done before the time was over.
///
/// # Cancellation
///
/// Returns as soon as `ctx` is done; at once if it is done already.
pub fn sleep_ctx(ctx: &Context, duration: Duration) -> Result<(), ContextError> {
    if let Some(error) = ctx.err() {
        return Err(error);
    }
    if !ctx.can_end() {
        sleep(duration);
        return Ok(());
    }
    match ctx.done().recv_deadline_as(WaitReason::Sleep, deadline_in(duration)) {
        Err(RecvTimeoutError::Timeout) => Ok(()),
        Err(RecvTimeoutError::Closed) => Err(ctx.err().expect("a context whose done channel is closed has an error")),
        Ok(never) => match never {},
    }
}

/// Returns a channel that receives one instant, `duration` from now.
///
/// Dropping the receiver stops the timer.
///
/// ```
/// use goby::{chan, select, time};
/// use std::time::Duration;
/// let (_tx, answers) = chan::bounded::<u32>(0);
/// let outcome = select! {
///     recv(answers) -> answer => answer.ok(),
///     recv(time::after(Duration::from_millis(1))) -> _ => None,
/// };
/// assert_eq!(outcome, None, "timed out");
/// ```
///
/// Source: Go's `time.After`.
#[doc(alias = "time.After")]
pub fn after(duration: Duration) -> Receiver<Instant> {
    goby_runtime::checkpoint();
    let alarm = Alarm::new(alarm::Rings::Once);
    let now = goby_runtime::now();
    alarm.start(now, deadline_after(now, duration));
    alarm.into_receiver()
}

/// Returns a channel that receives one instant: `deadline`, when it has come.
///
/// Dropping the receiver stops the timer.
///
/// ```
/// use goby::{chan, select, time};
/// use std::time::{Duration, Instant};
/// let (_tx, answers) = chan::bounded::<u32>(0);
/// let deadline = Instant::now() + Duration::from_millis(1);
/// // One deadline for all rounds of a loop.
/// let late = time::at(deadline);
/// let outcome = select! {
///     recv(answers) -> answer => Err(answer),
///     recv(late) -> due => Ok(due),
/// };
/// assert_eq!(outcome, Ok(Ok(deadline)));
/// ```
///
/// Source: crossbeam-channel's `at`.
pub fn at(deadline: Instant) -> Receiver<Instant> {
    goby_runtime::checkpoint();
    let alarm = Alarm::new(alarm::Rings::Once);
    let now = goby_runtime::now();
    alarm.start(now, deadline.min(deadline_after(now, FOREVER)));
    alarm.into_receiver()
}

/// Returns a channel that receives an instant every `period`, until the receiver is dropped.
///
/// A receiver that is late misses ticks. With a period of zero the channel never receives anything.
///
/// ```
/// use goby::time;
/// use std::time::Duration;
/// let ticks = time::tick(Duration::from_millis(1));
/// let first = ticks.recv().unwrap();
/// assert!(ticks.recv().unwrap() > first);
/// ```
///
/// Source: Go's `time.Tick`.
#[doc(alias("time.Tick", "interval"))]
pub fn tick(period: Duration) -> Receiver<Instant> {
    goby_runtime::checkpoint();
    if period.is_zero() {
        return chan::never();
    }
    let alarm = Alarm::new(alarm::Rings::Every);
    alarm.start_periodic(deadline_in(period), period);
    alarm.into_receiver()
}

/// Returns the instant `duration` from now, as [`deadline_after`] does.
pub(crate) fn deadline_in(duration: Duration) -> Instant {
    deadline_after(goby_runtime::now(), duration)
}

/// Returns the instant `duration` after `now`, at most [`FOREVER`] off.
fn deadline_after(now: Instant, duration: Duration) -> Instant {
    now + duration.min(FOREVER)
}
