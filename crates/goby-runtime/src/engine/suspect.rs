//! Slices that may become stalls: the monitor tells a goroutine that keeps its worker from a thread
//! that merely got no processor.

use std::time::Duration;

use crate::engine::monitor;

/// A slice that may become a stall. The monitor has one per worker.
///
/// Time in which the thread only waited for a processor does not count: then the machine is busy,
/// not the goroutine.
#[derive(Clone, Copy)]
pub(crate) struct Suspect {
    limit: Duration,
    /// How long the slice must last until it is worth a look. A look takes some 50 µs.
    look_at: Duration,
    /// What the first look has found, and how long the slice had lasted then.
    first: Option<(Option<Times>, Duration)>,
}

/// What a thread has done so far.
#[derive(Clone, Copy)]
struct Times {
    /// How long it has run.
    ran: Duration,
    /// How long it has been runnable without a processor. A wait that has not ended is not in it.
    waited: Duration,
}

impl Suspect {
    pub(crate) fn new(limit: Duration) -> Suspect {
        Suspect { limit, look_at: limit / 2, first: None }
    }

    /// Looks at a slice that has lasted for `lasts`. Returns true if it is a stall now.
    #[inline]
    pub(crate) fn is_stall(&mut self, thread_id: i32, lasts: Duration) -> bool {
        lasts >= self.look_at && self.look(thread_id, lasts)
    }

    #[cold]
    fn look(&mut self, thread_id: i32, lasts: Duration) -> bool {
        let thread = format!("/proc/self/task/{thread_id}");
        // Asked before its times are read, which are exact only for a thread that sleeps.
        let sleeps = monitor::sleeps(&thread);
        // Some kernels do not count them.
        let times = monitor::run_times(&thread).map(|(ran, waited)| Times { ran, waited });
        let Some((first, since)) = self.first else {
            self.first = Some((times, lasts));
            self.look_at = lasts + self.needed(lasts);
            return false;
        };
        let kept = match (first, times) {
            (Some(first), Some(times)) => times.kept_since(first, sleeps, lasts - since),
            _ => lasts - since,
        };
        let missing = self.needed(since).saturating_sub(kept);
        self.look_at = lasts + missing;
        missing.is_zero()
    }

    /// Returns how long the worker must have been kept since the first look, which came when the
    /// slice had lasted for `since`. The time before that look counts, but for at most half of the
    /// limit, since the monitor itself may have come late.
    fn needed(&self, since: Duration) -> Duration {
        self.limit.saturating_sub(since).max(self.limit / 2)
    }

    /// Postpones the report of a stall whose goroutine could not be named: it is reported again
    /// when it has lasted twice as long.
    pub(crate) fn again(&mut self, lasts: Duration) {
        self.look_at = lasts.saturating_mul(2);
    }
}

impl Times {
    /// Returns how much of `time`, which has passed since `first`, the thread has run or slept.
    /// `sleeps` says whether it sleeps now.
    fn kept_since(self, first: Times, sleeps: bool, time: Duration) -> Duration {
        if sleeps {
            // All its waits for a processor have ended.
            time.saturating_sub(self.waited.saturating_sub(first.waited))
        } else {
            // It runs, or has waited for a processor for an unknown time. What it slept before that
            // is missed.
            self.ran.saturating_sub(first.ran)
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn what_a_thread_waits_for_a_processor_does_not_count() {
        let first = Times { ran: 10 * MS, waited: 5 * MS };
        let now = |ran: u32, waited: u32| Times { ran: first.ran + ran * MS, waited: first.waited + waited * MS };
        // It computes.
        assert_eq!(now(50, 0).kept_since(first, false, 50 * MS), 50 * MS);
        // It has the processor for a part of the time.
        assert_eq!(now(20, 30).kept_since(first, false, 50 * MS), 20 * MS);
        // It waits for one: how long is not counted before it gets it.
        assert_eq!(now(0, 0).kept_since(first, false, 50 * MS), Duration::ZERO);
        // It sleeps, after a wait for a processor.
        assert_eq!(now(0, 10).kept_since(first, true, 50 * MS), 40 * MS);
    }

    #[test]
    fn half_of_the_limit_must_have_been_seen() {
        let suspect = Suspect::new(100 * MS);
        assert_eq!(suspect.needed(50 * MS), 50 * MS);
        assert_eq!(suspect.needed(20 * MS), 80 * MS);
        assert_eq!(suspect.needed(5000 * MS), 50 * MS, "the monitor came late");
    }
}
