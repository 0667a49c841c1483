//! How a host is treated that has trouble: asked less often and less at a time, and, when it is
//! down, not at all.
//!
//! - After 429, 503, time-outs and failed connections it is left alone for a moment, twice as long
//!   each time, and gets half as many requests at a time. Each answer lets it have one more. What
//!   fails while it is left alone was asked before, and says nothing new.
//! - When it was left alone so often in a row, it counts as down: its tasks are answered without a
//!   request. Since the moments double, a short outage of a server does not come to that. When a
//!   while has passed, one request finds out whether it is back.

use std::time::{Duration, Instant};

use super::record::{Failure, Kind};

/// The first time that a host is left alone: shorter than the wait of a single retry, since one
/// slow page among a thousand should not be felt.
const FIRST_REST: Duration = Duration::from_millis(50);
/// Where doubling ends, if the host says that it has too much to do: ten times come to 51 s, since
/// many servers count requests by the minute.
const LONGEST_REST: Duration = Duration::from_secs(30);
/// Where it ends if the host does not answer: ten times come to 11 s.
const LONGEST_SILENCE: Duration = Duration::from_secs(2);
/// How long a host that is down is not asked, and how long trouble is remembered.
const MEMORY: Duration = Duration::from_secs(60);

/// What the options say of each host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Requests at a time.
    pub(crate) at_a_time: u32,
    /// After how many rests in a row it is down; 0 is never.
    pub(crate) failures: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { at_a_time: u32::MAX, failures: 0 }
    }
}

/// What a request has told of its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// It answers.
    Fine,
    /// It has too much to do: it says so.
    Busy,
    /// It was too slow.
    Slow,
    /// It is not there.
    Down,
    /// Nothing.
    Unknown,
}

impl Health {
    /// What a failure tells.
    pub(crate) fn of(failure: &Failure) -> Health {
        match (failure.status, failure.kind) {
            (Some(429 | 503), _) => Health::Busy,
            (_, Kind::Timeout) => Health::Slow,
            (_, Kind::Dns | Kind::Connect | Kind::Tls) => Health::Down,
            (_, Kind::Canceled | Kind::InvalidUrl | Kind::Save | Kind::HostDown | Kind::Robots) => Health::Unknown,
            (_, Kind::Protocol | Kind::HttpStatus | Kind::Body | Kind::TooManyRedirects | Kind::TooLarge) => {
                Health::Fine
            }
        }
    }
}

/// The trouble of one host.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Trouble {
    /// How many requests it may get at a time, if that is fewer than the limit.
    at_a_time: Option<u32>,
    /// How often in a row it was left alone.
    rests: u32,
    rests_until: Option<Instant>,
    down_until: Option<Instant>,
    /// When all of this is out of date.
    until: Option<Instant>,
}

impl Trouble {
    /// Notes what a request has told, of which there were `in_flight` at a time.
    pub(crate) fn note(&mut self, health: Health, in_flight: u32, limits: Limits, now: Instant) {
        let longest = match health {
            Health::Unknown => return,
            Health::Fine => return self.note_answer(in_flight, limits),
            Health::Busy => LONGEST_REST,
            Health::Slow | Health::Down => LONGEST_SILENCE,
        };
        if self.rests_until.is_some_and(|until| now < until) {
            return;
        }
        let rest = FIRST_REST.saturating_mul(1 << self.rests.min(20)).min(longest);
        self.rests += 1;
        self.rests_until = Some(now + rest);
        self.at_a_time = Some((in_flight.min(self.limit(limits)) / 2).max(1));
        self.until = Some(now + MEMORY);
        if limits.failures > 0 && self.rests >= limits.failures {
            self.down_until = Some(now + MEMORY);
            // One request at a time finds out whether it is back.
            self.at_a_time = Some(1);
            self.until = Some(now + 2 * MEMORY);
        }
    }

    fn note_answer(&mut self, in_flight: u32, limits: Limits) {
        (self.rests, self.down_until) = (0, None);
        // With twice as many as it has, the limit is none any more.
        let most = limits.at_a_time.min(in_flight * 2 + 2);
        self.at_a_time = self.at_a_time.map(|n| n + 1).filter(|n| *n < most);
        if self.at_a_time.is_none() {
            self.until = None;
        }
    }

    /// How many requests at a time it may get.
    pub(crate) fn limit(&self, limits: Limits) -> u32 {
        self.at_a_time.unwrap_or(u32::MAX).min(limits.at_a_time)
    }

    /// Whether it is not to be asked.
    pub(crate) fn is_down(&self, now: Instant) -> bool {
        self.down_until.is_some_and(|until| now < until)
    }

    /// Until when it is left alone.
    pub(crate) fn rests_until(&self) -> Option<Instant> {
        self.rests_until
    }

    /// Until when it is remembered.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { at_a_time: 8, failures: 3 };
    const NEVER: Limits = Limits { at_a_time: 8, failures: 0 };

    #[test]
    fn a_busy_host_is_left_alone_twice_as_long_each_time() {
        let mut now = Instant::now();
        let mut trouble = Trouble::default();
        for millis in [50, 100, 200, 400] {
            trouble.note(Health::Busy, 8, NEVER, now);
            // Those that were in flight say nothing new.
            trouble.note(Health::Busy, 7, NEVER, now);
            assert_eq!(trouble.rests_until(), Some(now + Duration::from_millis(millis)));
            now += Duration::from_millis(millis);
        }
        trouble.note(Health::Fine, 1, NEVER, now);
        trouble.note(Health::Busy, 1, NEVER, now);
        assert_eq!(trouble.rests_until(), Some(now + FIRST_REST));
    }

    #[test]
    fn it_gets_half_as_many_at_a_time_and_one_more_with_each_answer() {
        let now = Instant::now();
        let mut trouble = Trouble::default();
        assert_eq!(trouble.limit(LIMITS), 8);
        trouble.note(Health::Slow, 8, LIMITS, now);
        assert_eq!(trouble.limit(LIMITS), 4);
        for limit in [5, 6, 7, 8] {
            trouble.note(Health::Fine, 8, LIMITS, now);
            assert_eq!(trouble.limit(LIMITS), limit);
        }
        assert_eq!(trouble.until(), None);
    }

    #[test]
    fn after_rests_in_a_row_it_is_down_for_a_while() {
        let mut now = Instant::now();
        let mut trouble = Trouble::default();
        trouble.note(Health::Down, 1, LIMITS, now);
        trouble.note(Health::Fine, 1, LIMITS, now);
        for is_down in [false, false, true] {
            now = trouble.rests_until().unwrap();
            trouble.note(Health::Down, 1, LIMITS, now);
            assert_eq!(trouble.is_down(now), is_down);
        }
        let later = now + MEMORY;
        assert!(!trouble.is_down(later));
        assert_eq!(trouble.limit(LIMITS), 1);
        trouble.note(Health::Down, 1, LIMITS, later);
        assert!(trouble.is_down(later), "the first failure after that is enough");
    }

    #[test]
    fn many_that_fail_together_are_one_failure() {
        let now = Instant::now();
        let mut trouble = Trouble::default();
        (0..100).for_each(|_| trouble.note(Health::Down, 100, LIMITS, now));
        assert!(!trouble.is_down(now));
        assert_eq!(trouble.rests_until(), Some(now + FIRST_REST));
        let mut never = Trouble::default();
        (0..100).for_each(|n| never.note(Health::Slow, 1, Limits::default(), now + n * LONGEST_SILENCE));
        assert!(!never.is_down(now + 100 * LONGEST_SILENCE));
    }
}
