//! Probabilistic concurrency testing: goroutines have random priorities, the highest goes on, and
//! at `depth - 1` random steps the one that runs falls to the lowest. A bug that needs an order
//! among `depth` steps is found with probability at least 1 / (n · k^(depth - 1)), for `n`
//! goroutines and `k` steps.
//!
//! Source: Burckhardt, Kothari, Musuvathi, Nagarakatte, "A randomized scheduler with probabilistic
//! guarantees of finding bugs" (ASPLOS 2010).

use goby_runtime::checked::Point;

use super::Strategy;
use crate::random::{Random, mix};

/// Priorities that chance has drawn are above this, those after a fall below.
const FIRST: u64 = 1 << 63;

#[derive(Debug)]
pub(crate) struct Pct {
    depth: u32,
    seed: u64,
    /// The most steps that an execution has had: change points lie among as many.
    steps: u64,
    /// The steps at which the running one falls, the last first, and how high it still is then.
    changes: Vec<(u64, u64)>,
    /// Those that have fallen, and how far.
    fallen: Vec<(u64, u64)>,
    /// The priority of the next one that falls because it yields.
    next_yield: u64,
    last: u64,
}

impl Pct {
    pub(crate) fn new(depth: u32) -> Pct {
        Pct { depth, seed: 0, steps: 16, changes: Vec::new(), fallen: Vec::new(), next_yield: 0, last: 0 }
    }

    fn priority(&self, number: u64) -> u64 {
        let fallen = self.fallen.iter().find(|(other, _)| *other == number);
        fallen.map_or_else(|| FIRST | mix(self.seed, number), |(_, priority)| *priority)
    }

    fn fall(&mut self, number: u64, priority: u64) {
        match self.fallen.iter_mut().find(|(other, _)| *other == number) {
            Some(fallen) => fallen.1 = priority,
            None => self.fallen.push((number, priority)),
        }
    }
}

impl Strategy for Pct {
    fn begin(&mut self, seed: u64) -> bool {
        let mut random = Random::new(seed);
        self.seed = random.next();
        self.changes.clear();
        let steps = self.steps;
        let changes = (1..self.depth).map(|i| (1 + random.below(steps), (FIRST >> 1) + u64::from(i)));
        self.changes.extend(changes);
        self.changes.sort_unstable_by(|a, b| b.cmp(a));
        self.fallen.clear();
        self.next_yield = FIRST >> 1;
        self.last = 0;
        true
    }

    fn choose(&mut self, point: &Point<'_>) -> Option<usize> {
        while let Some((_, priority)) = self.changes.pop_if(|(step, _)| *step <= point.step) {
            self.fall(point.current.unwrap_or(self.last), priority);
        }
        // One that looks again and again would keep the one that it waits for from running.
        if point.yields
            && let Some(current) = point.current
        {
            self.next_yield -= 1;
            self.fall(current, self.next_yield);
        }
        let place = (0..point.candidates.len()).max_by_key(|&place| self.priority(point.candidates[place]))?;
        self.last = point.candidates[place];
        Some(place)
    }

    fn end(&mut self, steps: u64) {
        self.steps = self.steps.max(steps);
    }
}
