//! The arithmetic of the token bucket: no lock, no clock. Every function takes the instant at which
//! it happens.
//!
//! Time may seem to go back: two goroutines may read the clock in one order and take the lock in
//! the other. Then no time has passed, and the bucket goes on counting from the earlier instant.

use std::cmp::Ordering;
use std::fmt;
use std::time::{Duration, Instant};

/// How many events may happen per second. Go: `rate.Limit`.
///
/// Zero allows none, once the burst is used up; [`INF`](Limit::INF) allows all.
///
/// ```
/// use goby::rate::Limit;
/// use std::time::Duration;
///
/// assert_eq!(Limit::every(Duration::from_millis(10)), Limit::per_second(100.0));
/// ```
#[derive(Clone, Copy, PartialEq, PartialOrd)]
pub struct Limit(f64);

/// The longest wait that is computed, 292 years: Go's `InfDuration`. It can be added to any instant
/// of the clock.
pub(super) const FOREVER: Duration = Duration::from_nanos(i64::MAX as u64);

impl Limit {
    /// No limit: every event is allowed, whatever the burst. Go: `rate.Inf`.
    ///
    /// ```
    /// let limiter = goby::rate::Limiter::new(goby::rate::Limit::INF, 0);
    /// assert!(limiter.allow());
    /// ```
    pub const INF: Limit = Limit(f64::MAX);

    /// Makes a limit of `events` events per second.
    ///
    /// # Panics
    ///
    /// If `events` is negative or not a number.
    ///
    /// ```
    /// assert_eq!(goby::rate::Limit::per_second(0.5).events_per_second(), 0.5);
    /// ```
    pub fn per_second(events: f64) -> Limit {
        assert!(events >= 0.0, "rate: a limit is not negative, this is {events}");
        Limit(events.min(f64::MAX))
    }

    /// Makes the limit of one event every `interval`; no limit if that is zero. Go: `rate.Every`.
    ///
    /// ```
    /// use goby::rate::Limit;
    /// use std::time::Duration;
    ///
    /// assert_eq!(Limit::every(Duration::from_secs(4)).events_per_second(), 0.25);
    /// assert_eq!(Limit::every(Duration::ZERO), Limit::INF);
    /// ```
    pub fn every(interval: Duration) -> Limit {
        if interval.is_zero() { Limit::INF } else { Limit(1.0 / interval.as_secs_f64()) }
    }

    /// Returns the number of events per second; `f64::MAX` if there is no limit.
    ///
    /// ```
    /// assert_eq!(goby::rate::Limit::per_second(3.0).events_per_second(), 3.0);
    /// ```
    pub fn events_per_second(self) -> f64 {
        self.0
    }

    /// Returns how long it takes to gain so many tokens.
    fn duration_of(self, tokens: f64) -> Duration {
        if self.0 <= 0.0 {
            return FOREVER;
        }
        let nanos = tokens / self.0 * 1e9;
        // Rounded down, as Go does; the cast saturates.
        if nanos >= FOREVER.as_nanos() as f64 { FOREVER } else { Duration::from_nanos(nanos as u64) }
    }

    /// Returns how many tokens are gained from `from` to `to`; negative if `to` is earlier.
    fn tokens_between(self, from: Instant, to: Instant) -> f64 {
        if self.0 <= 0.0 {
            return 0.0;
        }
        let seconds = match to.cmp(&from) {
            Ordering::Less => -(from - to).as_secs_f64(),
            _ => (to - from).as_secs_f64(),
        };
        seconds * self.0
    }
}

impl fmt::Debug for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Limit::INF { f.write_str("Limit::INF") } else { write!(f, "Limit({}/s)", self.0) }
    }
}

/// A token bucket.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    pub(super) limit: Limit,
    pub(super) burst: usize,
    /// How many tokens there were at `last`: negative if tokens were reserved in advance, never
    /// more than `burst`.
    tokens: f64,
    /// When `tokens` was computed; none if nothing has happened yet.
    last: Option<Instant>,
    /// When the last of the reserved events may happen.
    last_event: Option<Instant>,
}

/// Tokens that were taken, perhaps in advance.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    pub(super) n: usize,
    pub(super) time_to_act: Instant,
    /// The limit at that time; it may have changed since.
    limit: Limit,
}

impl Bucket {
    pub(super) fn new(limit: Limit, burst: usize) -> Bucket {
        Bucket { limit, burst, tokens: burst as f64, last: None, last_event: None }
    }

    /// Returns how many tokens there are at `at`.
    pub(super) fn tokens_at(&self, at: Instant) -> f64 {
        // Before the first event the bucket is full, however long ago it was made.
        let gained = self.last.filter(|last| *last <= at).map_or(0.0, |last| self.limit.tokens_between(last, at));
        (self.tokens + gained).min(self.burst as f64)
    }

    /// Takes `n` tokens at `at`, in advance if need be, unless `n` exceeds the burst or the wait
    /// `max_wait`. A refusal changes nothing.
    pub(super) fn take(&mut self, at: Instant, n: usize, max_wait: Duration) -> Option<Grant> {
        if self.limit == Limit::INF {
            return Some(Grant { n, time_to_act: at, limit: self.limit });
        }
        let tokens = self.tokens_at(at) - n as f64;
        let wait = if tokens < 0.0 { self.limit.duration_of(-tokens) } else { Duration::ZERO };
        if n > self.burst || wait > max_wait {
            return None;
        }
        let time_to_act = add(at, wait);
        self.tokens = tokens;
        self.last = Some(at);
        self.last_event = Some(time_to_act);
        Some(Grant { n, time_to_act, limit: self.limit })
    }

    /// Gives back at `at` the part of `grant` that was not used and has not been promised to later
    /// events.
    pub(super) fn give_back(&mut self, at: Instant, grant: &Grant) {
        if self.limit == Limit::INF || grant.n == 0 || grant.time_to_act < at {
            return;
        }
        let last_event = self.last_event.unwrap_or(grant.time_to_act);
        // Between the two instants, tokens were reserved after this grant: those cannot be given
        // back.
        let restored = grant.n as f64 - grant.limit.tokens_between(grant.time_to_act, last_event);
        if restored <= 0.0 {
            return;
        }
        self.tokens = (self.tokens_at(at) + restored).min(self.burst as f64);
        self.last = Some(at);
        if grant.time_to_act == last_event {
            let taken = grant.limit.duration_of(grant.n as f64);
            if let Some(event_before) = grant.time_to_act.checked_sub(taken).filter(|event| *event >= at) {
                self.last_event = Some(event_before);
            }
        }
    }

    /// Changes the limit at `at`. Tokens taken in advance stay taken, and are gained at the new
    /// rate.
    pub(super) fn set_limit(&mut self, at: Instant, limit: Limit) {
        self.tokens = self.tokens_at(at);
        self.last = Some(at);
        self.limit = limit;
    }

    /// Changes the burst at `at`.
    pub(super) fn set_burst(&mut self, at: Instant, burst: usize) {
        self.tokens = self.tokens_at(at);
        self.last = Some(at);
        self.burst = burst;
    }
}

/// Returns `at + wait`, or an instant far away if the clock ends before that.
fn add(at: Instant, wait: Duration) -> Instant {
    at.checked_add(wait).unwrap_or(at)
}
