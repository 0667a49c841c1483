//! Work that need not be done every time.

use std::time::{Duration, Instant};

use crate::sync::Mutex;

/// Does something only sometimes: the first time, and then as configured. Go: `rate.Sometimes`.
///
/// Several conditions add up: the work is done if any of them holds. Without any condition it is
/// done once.
///
/// ```
/// use goby::rate::Sometimes;
/// use std::time::Duration;
///
/// static WARN: Sometimes = Sometimes::new().first(3).interval(Duration::from_secs(10));
/// let mut warnings = 0;
/// for _ in 0..100 {
///     WARN.run(|| warnings += 1);
/// }
/// assert_eq!(warnings, 3); // And one more after ten seconds.
/// ```
#[doc(alias = "rate.Sometimes")]
#[derive(Debug)]
pub struct Sometimes {
    first: u64,
    every: u64,
    interval: Duration,
    calls: Mutex<Calls>,
}

#[derive(Debug)]
struct Calls {
    n: u64,
    last_run: Option<Instant>,
}

impl Sometimes {
    /// Makes one that does its work the first time only.
    ///
    /// ```
    /// let once = goby::rate::Sometimes::new();
    /// let mut runs = 0;
    /// (0..3).for_each(|_| once.run(|| runs += 1));
    /// assert_eq!(runs, 1);
    /// ```
    pub const fn new() -> Sometimes {
        Sometimes { first: 0, every: 0, interval: Duration::ZERO, calls: Mutex::new(Calls { n: 0, last_run: None }) }
    }

    /// Does the work in the first `n` calls. Default: 0, which is the same as 1.
    ///
    /// ```
    /// let twice = goby::rate::Sometimes::new().first(2);
    /// let mut runs = 0;
    /// (0..3).for_each(|_| twice.run(|| runs += 1));
    /// assert_eq!(runs, 2);
    /// ```
    pub const fn first(mut self, n: u64) -> Sometimes {
        self.first = n;
        self
    }

    /// Does the work in every `n`th call, from the first on. Default: 0, which means never.
    ///
    /// ```
    /// let second = goby::rate::Sometimes::new().every(2);
    /// let mut runs = 0;
    /// (0..5).for_each(|_| second.run(|| runs += 1));
    /// assert_eq!(runs, 3);
    /// ```
    pub const fn every(mut self, n: u64) -> Sometimes {
        self.every = n;
        self
    }

    /// Does the work if `interval` has passed since the last time. Default: zero, which means
    /// never.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let hourly = goby::rate::Sometimes::new().interval(Duration::from_secs(3600));
    /// let mut runs = 0;
    /// (0..3).for_each(|_| hourly.run(|| runs += 1));
    /// assert_eq!(runs, 1);
    /// ```
    pub const fn interval(mut self, interval: Duration) -> Sometimes {
        self.interval = interval;
        self
    }

    /// Runs `f` if it is time for it. Go: `Do`.
    ///
    /// # Blocking
    ///
    /// One call runs at a time, and others wait for it. If `f` calls `run` of the same value, it
    /// deadlocks.
    ///
    /// ```
    /// let mut ran = false;
    /// goby::rate::Sometimes::new().run(|| ran = true);
    /// assert!(ran);
    /// ```
    pub fn run(&self, f: impl FnOnce()) {
        let mut calls = self.calls.lock();
        let n = calls.n;
        calls.n += 1;
        let by_count = n == 0 || n < self.first || (self.every > 0 && n.is_multiple_of(self.every));
        if by_count || self.is_overdue(&calls) {
            f();
            if !self.interval.is_zero() {
                calls.last_run = Some(goby_runtime::now());
            }
        }
    }

    fn is_overdue(&self, calls: &Calls) -> bool {
        let overdue = |last| goby_runtime::now().saturating_duration_since(last) >= self.interval;
        !self.interval.is_zero() && calls.last_run.is_none_or(overdue)
    }
}

impl Default for Sometimes {
    fn default() -> Sometimes {
        Sometimes::new()
    }
}
