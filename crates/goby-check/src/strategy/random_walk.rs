//! Each candidate is as likely as any other.

use goby_runtime::checked::Point;

use super::Strategy;
use crate::random::Random;

#[derive(Debug)]
pub(crate) struct RandomWalk {
    random: Random,
}

impl RandomWalk {
    pub(crate) fn new() -> RandomWalk {
        RandomWalk { random: Random::new(0) }
    }
}

impl Strategy for RandomWalk {
    fn begin(&mut self, seed: u64) -> bool {
        self.random = Random::new(seed);
        true
    }

    #[inline]
    fn choose(&mut self, point: &Point<'_>) -> Option<usize> {
        Some(self.random.below(point.candidates.len() as u64) as usize)
    }
}
