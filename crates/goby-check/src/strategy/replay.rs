//! The choices of a schedule, in their order.

use goby_runtime::checked::Point;

use super::Strategy;

#[derive(Debug)]
pub(crate) struct Replay {
    choices: Vec<u32>,
    next: usize,
    begun: bool,
}

impl Replay {
    pub(crate) fn new(choices: Vec<u32>) -> Replay {
        Replay { choices, next: 0, begun: false }
    }
}

impl Strategy for Replay {
    fn begin(&mut self, _seed: u64) -> bool {
        !std::mem::replace(&mut self.begun, true)
    }

    fn choose(&mut self, point: &Point<'_>) -> Option<usize> {
        let choice = *self.choices.get(self.next)? as usize;
        self.next += 1;
        (choice < point.candidates.len()).then_some(choice)
    }
}
