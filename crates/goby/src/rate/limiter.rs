//! The limiter: a bucket behind a lock, the clock, and the wait.
//!
//! The lock is held for a few instructions, never across a switch.

use std::error::Error;
use std::fmt;
use std::time::{Duration, Instant};

use goby_runtime::{checkpoint, polled, refused};
use parking_lot::Mutex;

use super::bucket::{Bucket, FOREVER, Grant, Limit};
use crate::context::{Context, ContextError};
use crate::time;

/// Limits how often something happens: a token bucket. Go: `rate.Limiter`.
///
/// It starts full. Share it by reference or in an `Arc`. Goroutines that wait are served in the
/// order in which they came.
///
/// ```
/// use goby::rate::Limiter;
///
/// let limiter = Limiter::per_second(1.0, 2);
/// assert!(limiter.allow());
/// assert!(limiter.allow()); // The burst.
/// assert!(!limiter.allow());
/// ```
#[doc(alias("rate.Limiter", "NewLimiter", "rate.NewLimiter"))]
pub struct Limiter {
    bucket: Mutex<Bucket>,
}

impl Limiter {
    /// Makes a limiter that allows `limit` events per second and `burst` of them at once. Go:
    /// `rate.NewLimiter`.
    ///
    /// With a burst of 0 it allows nothing, unless the limit is [`Limit::INF`].
    ///
    /// ```
    /// use goby::rate::{Limit, Limiter};
    /// use std::time::Duration;
    ///
    /// let limiter = Limiter::new(Limit::every(Duration::from_secs(60)), 1);
    /// assert!(limiter.allow());
    /// ```
    pub fn new(limit: Limit, burst: usize) -> Limiter {
        Limiter { bucket: Mutex::new(Bucket::new(limit, burst)) }
    }

    /// Makes a limiter that allows `rate` events per second and `burst` of them at once.
    ///
    /// # Panics
    ///
    /// If `rate` is negative or not a number.
    ///
    /// ```
    /// assert_eq!(goby::rate::Limiter::per_second(5.0, 10).burst(), 10);
    /// ```
    pub fn per_second(rate: f64, burst: usize) -> Limiter {
        Limiter::new(Limit::per_second(rate), burst)
    }

    /// Takes a token if there is one; returns whether the event may happen now. Go: `Allow`.
    ///
    /// ```
    /// assert!(goby::rate::Limiter::per_second(1.0, 1).allow());
    /// ```
    pub fn allow(&self) -> bool {
        self.allow_n(goby_runtime::now(), 1)
    }

    /// Takes `n` tokens if they are there at `at`; a refusal takes none. Go: `AllowN`.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// let limiter = goby::rate::Limiter::per_second(10.0, 3);
    /// let start = Instant::now();
    /// assert!(limiter.allow_n(start, 3));
    /// assert!(!limiter.allow_n(start, 1));
    /// assert!(limiter.allow_n(start + Duration::from_millis(200), 2));
    /// ```
    pub fn allow_n(&self, at: Instant, n: usize) -> bool {
        checkpoint();
        let allowed = self.bucket.lock().take(at, n, Duration::ZERO).is_some();
        if !allowed {
            refused();
        }
        allowed
    }

    /// Takes a token in advance. Go: `Reserve`.
    ///
    /// ```
    /// let limiter = goby::rate::Limiter::per_second(1.0, 1);
    /// assert!(limiter.reserve().delay().is_zero());
    /// assert!(!limiter.reserve().delay().is_zero());
    /// ```
    pub fn reserve(&self) -> Reservation<'_> {
        self.reserve_n(goby_runtime::now(), 1)
    }

    /// Takes `n` tokens at `at`, in advance if need be. Go: `ReserveN`.
    ///
    /// The reservation is refused ([`ok`](Reservation::ok)) if `n` exceeds the burst. Dropping a
    /// reservation does not give it back: [`cancel`](Reservation::cancel) does.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// let limiter = goby::rate::Limiter::per_second(10.0, 2);
    /// let start = Instant::now();
    /// assert_eq!(limiter.reserve_n(start, 2).delay_from(start), Duration::ZERO);
    /// assert_eq!(limiter.reserve_n(start, 2).delay_from(start), Duration::from_millis(200));
    /// assert!(!limiter.reserve_n(start, 3).ok());
    /// ```
    pub fn reserve_n(&self, at: Instant, n: usize) -> Reservation<'_> {
        self.reserve_within(at, n, FOREVER)
    }

    /// Takes `n` tokens at `at`, in advance by at most `max_wait`. A refusal takes none.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// let limiter = goby::rate::Limiter::per_second(10.0, 1);
    /// let start = Instant::now();
    /// assert!(limiter.reserve_within(start, 1, Duration::ZERO).ok());
    /// assert!(!limiter.reserve_within(start, 1, Duration::from_millis(99)).ok());
    /// assert!(limiter.reserve_within(start, 1, Duration::from_millis(100)).ok());
    /// ```
    pub fn reserve_within(&self, at: Instant, n: usize, max_wait: Duration) -> Reservation<'_> {
        checkpoint();
        Reservation { limiter: self, grant: self.bucket.lock().take(at, n, max_wait) }
    }

    /// Waits until the event may happen. Go: `Wait`.
    ///
    /// # Blocking
    ///
    /// Parks the goroutine (an OS thread sleeps) until there is a token for it.
    ///
    /// # Errors
    ///
    /// See [`wait_n`](Limiter::wait_n).
    ///
    /// ```
    /// let limiter = goby::rate::Limiter::per_second(1000.0, 1);
    /// limiter.wait(&goby::Context::background())?;
    /// # Ok::<(), goby::rate::WaitError>(())
    /// ```
    pub fn wait(&self, ctx: &Context) -> Result<(), WaitError> {
        self.wait_n(ctx, 1)
    }

    /// Waits until `n` events may happen. Go: `WaitN`.
    ///
    /// # Blocking
    ///
    /// Parks the goroutine (an OS thread sleeps) until there are that many tokens.
    ///
    /// # Errors
    ///
    /// Without waiting: if `n` exceeds the burst, if `ctx` is done already, or if the wait would
    /// last beyond the deadline of `ctx`. After waiting: if `ctx` gets done. No error takes a
    /// token.
    ///
    /// # Cancellation
    ///
    /// The tokens that were reserved for the call are given back, so that later events may happen
    /// sooner.
    ///
    /// ```
    /// use goby::{Context, rate::{Limiter, WaitError}};
    ///
    /// let limiter = Limiter::per_second(1000.0, 2);
    /// limiter.wait_n(&Context::background(), 2)?;
    /// let error = limiter.wait_n(&Context::background(), 3).unwrap_err();
    /// assert_eq!(error, WaitError::ExceedsBurst { n: 3, burst: 2 });
    /// # Ok::<(), WaitError>(())
    /// ```
    pub fn wait_n(&self, ctx: &Context, n: usize) -> Result<(), WaitError> {
        self.wait_n_with(ctx, goby_runtime::now(), n, |delay| time::sleep_ctx(ctx, delay))
    }

    /// Does what [`wait_n`](Limiter::wait_n) does, at `at`, with a `sleep` of the caller's.
    fn wait_n_with(
        &self,
        ctx: &Context,
        at: Instant,
        n: usize,
        sleep: impl FnOnce(Duration) -> Result<(), ContextError>,
    ) -> Result<(), WaitError> {
        checkpoint();
        let (limit, burst) = (self.limit(), self.burst());
        if n > burst && limit != Limit::INF {
            return Err(WaitError::ExceedsBurst { n, burst });
        }
        if let Some(error) = ctx.err() {
            return Err(WaitError::Context(error));
        }
        let max_wait = ctx.deadline().map_or(FOREVER, |deadline| deadline.saturating_duration_since(at));
        let reservation = self.reserve_within(at, n, max_wait);
        if !reservation.ok() {
            return Err(WaitError::ExceedsDeadline { n });
        }
        let delay = reservation.delay_from(at);
        if delay.is_zero() {
            return Ok(());
        }
        sleep(delay).map_err(|error| {
            reservation.cancel();
            WaitError::Context(error)
        })
    }

    /// Returns the limit.
    ///
    /// ```
    /// use goby::rate::{Limit, Limiter};
    ///
    /// assert_eq!(Limiter::per_second(2.0, 1).limit(), Limit::per_second(2.0));
    /// ```
    pub fn limit(&self) -> Limit {
        self.bucket.lock().limit
    }

    /// Returns the burst: the most events that may happen at once.
    ///
    /// ```
    /// assert_eq!(goby::rate::Limiter::per_second(2.0, 7).burst(), 7);
    /// ```
    pub fn burst(&self) -> usize {
        self.bucket.lock().burst
    }

    /// Returns the number of tokens that there are now. Go: `Tokens`.
    ///
    /// ```
    /// assert_eq!(goby::rate::Limiter::per_second(1.0, 3).tokens(), 3.0);
    /// ```
    pub fn tokens(&self) -> f64 {
        polled();
        self.tokens_then(goby_runtime::now())
    }

    /// Returns the number of tokens that there are at `at`: negative if tokens were reserved in
    /// advance. Go: `TokensAt`.
    ///
    /// ```
    /// use std::time::Instant;
    ///
    /// let limiter = goby::rate::Limiter::per_second(1.0, 3);
    /// let start = Instant::now();
    /// limiter.reserve_n(start, 3);
    /// limiter.reserve_n(start, 2);
    /// assert_eq!(limiter.tokens_at(start), -2.0);
    /// ```
    pub fn tokens_at(&self, at: Instant) -> f64 {
        polled();
        self.tokens_then(at)
    }

    pub(super) fn tokens_then(&self, at: Instant) -> f64 {
        self.bucket.lock().tokens_at(at)
    }

    /// Whether there are as many tokens at `at` as there can be.
    pub(super) fn is_full_at(&self, at: Instant) -> bool {
        let bucket = self.bucket.lock();
        bucket.tokens_at(at) >= bucket.burst as f64
    }

    /// Changes the limit. Go: `SetLimit`.
    ///
    /// Earlier reservations keep their time. The tokens that they owe are gained at the new rate.
    ///
    /// ```
    /// use goby::rate::{Limit, Limiter};
    ///
    /// let limiter = Limiter::per_second(1.0, 1);
    /// limiter.set_limit(Limit::INF);
    /// assert!(limiter.allow() && limiter.allow());
    /// ```
    pub fn set_limit(&self, limit: Limit) {
        self.set_limit_at(goby_runtime::now(), limit);
    }

    /// Changes the limit at `at`. Go: `SetLimitAt`.
    ///
    /// ```
    /// use goby::rate::{Limit, Limiter};
    /// use std::time::{Duration, Instant};
    ///
    /// let limiter = Limiter::per_second(1.0, 1);
    /// let start = Instant::now();
    /// assert!(limiter.allow_n(start, 1));
    /// limiter.set_limit_at(start, Limit::per_second(10.0));
    /// assert!(limiter.allow_n(start + Duration::from_millis(100), 1));
    /// ```
    pub fn set_limit_at(&self, at: Instant, limit: Limit) {
        self.bucket.lock().set_limit(at, limit);
    }

    /// Changes the burst. Go: `SetBurst`.
    ///
    /// ```
    /// let limiter = goby::rate::Limiter::per_second(1.0, 5);
    /// limiter.set_burst(1);
    /// assert!(limiter.allow() && !limiter.allow());
    /// ```
    pub fn set_burst(&self, burst: usize) {
        self.set_burst_at(goby_runtime::now(), burst);
    }

    /// Changes the burst at `at`. Go: `SetBurstAt`.
    ///
    /// ```
    /// use std::time::Instant;
    ///
    /// let limiter = goby::rate::Limiter::per_second(1.0, 5);
    /// limiter.set_burst_at(Instant::now(), 2);
    /// assert_eq!(limiter.burst(), 2);
    /// ```
    pub fn set_burst_at(&self, at: Instant, burst: usize) {
        self.bucket.lock().set_burst(at, burst);
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bucket = self.bucket.lock();
        f.debug_struct("Limiter").field("limit", &bucket.limit).field("burst", &bucket.burst).finish_non_exhaustive()
    }
}

/// Tokens taken from a [`Limiter`] in advance, or the refusal of that. Go: `rate.Reservation`.
///
/// Wait for [`delay`](Reservation::delay), then act; or [`cancel`](Reservation::cancel) the
/// reservation.
///
/// ```
/// use goby::{Context, rate::Limiter, time};
///
/// let limiter = Limiter::per_second(1000.0, 1);
/// let reservation = limiter.reserve();
/// assert!(reservation.ok());
/// time::sleep(reservation.delay());
/// // Act.
/// ```
#[must_use = "the tokens are gone: wait for the delay and act, or cancel"]
#[derive(Debug)]
pub struct Reservation<'a> {
    limiter: &'a Limiter,
    grant: Option<Grant>,
}

impl Reservation<'_> {
    /// Returns whether the tokens will ever be there. Go: `OK`.
    ///
    /// ```
    /// let limiter = goby::rate::Limiter::per_second(1.0, 1);
    /// assert!(!limiter.reserve_n(std::time::Instant::now(), 2).ok());
    /// ```
    pub fn ok(&self) -> bool {
        self.grant.is_some()
    }

    /// Returns the time from now until the event may happen: zero if it may happen now,
    /// `Duration::MAX` if it never may. Go: `Delay`.
    ///
    /// ```
    /// assert!(goby::rate::Limiter::per_second(1.0, 1).reserve().delay().is_zero());
    /// ```
    pub fn delay(&self) -> Duration {
        self.delay_from(goby_runtime::now())
    }

    /// Returns the time from `at` until the event may happen. Go: `DelayFrom`.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// let (limiter, start) = (goby::rate::Limiter::per_second(2.0, 1), Instant::now());
    /// let _now = limiter.reserve_n(start, 1);
    /// assert_eq!(limiter.reserve_n(start, 1).delay_from(start), Duration::from_millis(500));
    /// ```
    pub fn delay_from(&self, at: Instant) -> Duration {
        self.grant.as_ref().map_or(Duration::MAX, |grant| grant.time_to_act.saturating_duration_since(at))
    }

    /// Gives back the tokens that can be given back; none if the event's time has come. Go:
    /// `Cancel`.
    ///
    /// ```
    /// let limiter = goby::rate::Limiter::per_second(0.001, 1);
    /// let _first = limiter.reserve();
    /// limiter.reserve().cancel();
    /// assert!(limiter.tokens() > -0.5);
    /// ```
    pub fn cancel(self) {
        self.cancel_at(goby_runtime::now());
    }

    /// Gives back at `at` the tokens that can be given back: tokens that others have reserved since
    /// then stay taken. Go: `CancelAt`.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// let (limiter, start) = (goby::rate::Limiter::per_second(10.0, 2), Instant::now());
    /// let _now = limiter.reserve_n(start, 2);
    /// limiter.reserve_n(start, 2).cancel_at(start);
    /// assert_eq!(limiter.tokens_at(start), 0.0);
    /// ```
    pub fn cancel_at(self, at: Instant) {
        if let Some(grant) = &self.grant {
            self.limiter.bucket.lock().give_back(at, grant);
        }
    }
}

/// Why [`Limiter::wait`] failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitError {
    /// More events at once than the burst allows.
    ExceedsBurst {
        /// How many events were asked for.
        n: usize,
        /// How many events may happen at once.
        burst: usize,
    },
    /// The wait would last beyond the context's deadline.
    ExceedsDeadline {
        /// How many events were asked for.
        n: usize,
    },
    /// The context is done.
    Context(ContextError),
}

impl fmt::Display for WaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WaitError::ExceedsBurst { n, burst } => write!(f, "rate: wait(n={n}) exceeds limiter's burst {burst}"),
            WaitError::ExceedsDeadline { n } => write!(f, "rate: wait(n={n}) would exceed context deadline"),
            WaitError::Context(error) => error.fmt(f),
        }
    }
}

impl Error for WaitError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            // The text of this error is that of the context's error, so the chain goes on behind
            // that.
            WaitError::Context(error) => error.source(),
            WaitError::ExceedsBurst { .. } | WaitError::ExceedsDeadline { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests;
