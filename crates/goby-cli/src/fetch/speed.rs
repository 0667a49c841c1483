//! `--speed-limit` and `--speed-time`: a body that comes too slowly is given up.

use std::time::{Duration, Instant};

/// How fast a body has to come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Speed {
    /// Bytes a second; 0 is no limit.
    pub(crate) limit: u64,
    /// For how long it may be slower.
    pub(crate) time: Duration,
}

/// What has come of one body since a look at the clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gauge {
    since: Instant,
    bytes: u64,
}

impl Speed {
    /// The time without a single byte that ends a request, if one does: the client watches that.
    pub(crate) fn stall(self) -> Option<Duration> {
        (self.limit > 0).then_some(self.time)
    }

    /// Notes that `bytes` have come, and returns whether that is too slow. Each look is at a time
    /// of its own, so a body may be slow for up to twice the time before it is given up.
    pub(crate) fn is_too_slow(self, gauge: &mut Gauge, bytes: usize, now: Instant) -> bool {
        gauge.bytes += bytes as u64;
        let time = now.saturating_duration_since(gauge.since);
        if time < self.time {
            return false;
        }
        let is_slow = (gauge.bytes as f64) < self.limit as f64 * time.as_secs_f64();
        // One byte a second is the default, which only means that something comes.
        *gauge = Gauge::new(now);
        is_slow && self.limit > 1
    }
}

impl Gauge {
    /// Begins at `now`.
    pub(crate) fn new(now: Instant) -> Gauge {
        Gauge { since: now, bytes: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_too_slow_for_a_while_before_it_is_given_up() {
        let speed = Speed { limit: 1000, time: Duration::from_secs(2) };
        let start = Instant::now();
        let mut gauge = Gauge::new(start);
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!speed.is_too_slow(&mut gauge, 0, at(1)));
        assert!(!speed.is_too_slow(&mut gauge, 2000, at(2)), "it was fast enough");
        assert!(!speed.is_too_slow(&mut gauge, 100, at(3)));
        assert!(speed.is_too_slow(&mut gauge, 100, at(4)));
    }

    #[test]
    fn by_default_anything_that_comes_is_enough() {
        let speed = Speed { limit: 1, time: Duration::from_secs(2) };
        let start = Instant::now();
        assert!(!speed.is_too_slow(&mut Gauge::new(start), 1, start + Duration::from_secs(100)));
        assert_eq!(speed.stall(), Some(Duration::from_secs(2)));
        assert_eq!(Speed { limit: 0, ..speed }.stall(), None);
    }
}
