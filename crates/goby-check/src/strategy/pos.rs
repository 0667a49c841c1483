//! Partial order sampling: each pending step has a random priority, the highest is done, and the
//! pending steps that race with it draw anew. So orders of steps that do not race are not told
//! apart.
//!
//! Source: Yuan, Yang, Gu, "Partial order aware concurrency sampling" (CAV 2018).

use goby_runtime::checked::{Event, NO_OBJECT, Point};

use super::Strategy;
use crate::random::Random;

/// A step that its goroutine is about to do.
#[derive(Clone, Copy, Debug)]
struct Pending {
    number: u64,
    object: usize,
    priority: u64,
}

#[derive(Debug)]
pub(crate) struct Pos {
    random: Random,
    pending: Vec<Pending>,
}

impl Pos {
    pub(crate) fn new() -> Pos {
        Pos { random: Random::new(0), pending: Vec::new() }
    }

    /// Draws a priority for the next step of `number`.
    fn draw(&mut self, number: u64, object: usize) {
        let pending = Pending { number, object, priority: self.random.next() };
        match self.pending.iter_mut().find(|other| other.number == number) {
            Some(place) => *place = pending,
            None => self.pending.push(pending),
        }
    }

    fn priority(&self, number: u64) -> u64 {
        self.pending.iter().find(|pending| pending.number == number).map_or(0, |pending| pending.priority)
    }
}

impl Strategy for Pos {
    fn begin(&mut self, seed: u64) -> bool {
        self.random = Random::new(seed);
        self.pending.clear();
        true
    }

    fn choose(&mut self, point: &Point<'_>) -> Option<usize> {
        // One that has looked in vain is not to come first again.
        if point.yields
            && let Some(current) = point.current
            && let Some(pending) = self.pending.iter_mut().find(|pending| pending.number == current)
        {
            pending.priority >>= 16;
        }
        (0..point.candidates.len()).max_by_key(|&place| self.priority(point.candidates[place]))
    }

    fn wants_events(&self) -> bool {
        true
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Arrives(number, object) => self.draw(number, object),
            Event::Wakes(_, number) => self.draw(number, NO_OBJECT),
            Event::Passes(number) => {
                let Some(place) = self.pending.iter().position(|pending| pending.number == number) else { return };
                let done = self.pending.swap_remove(place);
                if done.object != NO_OBJECT {
                    for other in self.pending.iter_mut().filter(|other| other.object == done.object) {
                        other.priority = self.random.next();
                    }
                }
            }
            Event::Ends(_) => {}
        }
    }
}
