//! A walk for which, as far as its estimates go, all interleavings are equally likely: a goroutine
//! goes on with a probability in proportion to the steps that it and those that it will start have
//! left. A plain random walk lets a goroutine of few steps end early nearly always.
//!
//! The estimates are those of the first execution in which a goroutine was seen. A goroutine is
//! known again by who started it, as which of its children.
//!
//! Source: URW of Zhao, Wolff, Mathur, Roychoudhury, "Selectively uniform concurrency testing"
//! (ASPLOS 2025).

use std::collections::HashMap;

use goby_runtime::checked::{Event, Point};

use super::Strategy;
use crate::random::{Random, mix};

/// A goroutine in this execution.
#[derive(Clone, Debug)]
struct Member {
    number: u64,
    /// Its place among `members`; its own if nobody started it.
    parent: usize,
    name: u64,
    children: u64,
    /// Steps that it, and those that it has yet to start, have left, as far as is known.
    left: u64,
    steps: u64,
}

#[derive(Debug)]
pub(crate) struct Uniform {
    random: Random,
    members: Vec<Member>,
    /// Steps of a goroutine and all that come from it, by its name.
    known: HashMap<u64, u64>,
}

impl Uniform {
    pub(crate) fn new() -> Uniform {
        Uniform { random: Random::new(0), members: Vec::new(), known: HashMap::new() }
    }

    fn place(&self, number: u64) -> Option<usize> {
        // They are born in the order of their numbers, nearly always.
        let guess = usize::try_from(number).ok()?.wrapping_sub(1);
        if self.members.get(guess).is_some_and(|member| member.number == number) {
            return Some(guess);
        }
        self.members.iter().position(|member| member.number == number)
    }

    fn weight(&self, number: u64) -> u64 {
        self.place(number).map_or(1, |place| self.members[place].left.max(1))
    }
}

impl Strategy for Uniform {
    fn begin(&mut self, seed: u64) -> bool {
        self.random = Random::new(seed);
        self.members.clear();
        true
    }

    fn choose(&mut self, point: &Point<'_>) -> Option<usize> {
        let total: u64 = point.candidates.iter().map(|&number| self.weight(number)).sum();
        let mut drawn = self.random.below(total);
        point.candidates.iter().position(|&number| {
            let weight = self.weight(number);
            let is_it = drawn < weight;
            drawn = drawn.wrapping_sub(weight);
            is_it
        })
    }

    fn born(&mut self, number: u64, parent: u64) {
        let place = self.members.len();
        let parent = self.place(parent);
        let name = match parent {
            Some(parent) => {
                let parent = &mut self.members[parent];
                parent.children += 1;
                mix(parent.name, parent.children)
            }
            None => mix(0, number),
        };
        let left = self.known.get(&name).copied().unwrap_or(1);
        if let Some(parent) = parent {
            let parent = &mut self.members[parent];
            parent.left = parent.left.saturating_sub(left);
        }
        let parent = parent.unwrap_or(place);
        self.members.push(Member { number, parent, name, children: 0, left, steps: 0 });
    }

    fn wants_events(&self) -> bool {
        true
    }

    fn happens(&mut self, event: Event) {
        if let Event::Passes(number) = event
            && let Some(place) = self.place(number)
        {
            let member = &mut self.members[place];
            member.steps += 1;
            member.left = member.left.saturating_sub(1);
        }
    }

    fn end(&mut self, _steps: u64) {
        // Children come after their parents.
        for place in (0..self.members.len()).rev() {
            let Member { parent, steps, name, .. } = self.members[place];
            self.known.entry(name).or_insert(steps);
            if parent < place {
                self.members[parent].steps += steps;
            }
        }
    }
}
