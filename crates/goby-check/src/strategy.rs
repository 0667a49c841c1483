//! Who goes on: the ways to choose, each a [`Strategy`].

mod pct;
mod pos;
mod random_walk;
mod replay;
mod uniform;

use goby_runtime::checked::{Event, Point};

pub(crate) use self::pct::Pct;
pub(crate) use self::pos::Pos;
pub(crate) use self::random_walk::RandomWalk;
pub(crate) use self::replay::Replay;
pub(crate) use self::uniform::Uniform;

/// Chooses, from one execution to the next.
pub(crate) trait Strategy {
    /// Begins an execution, whose chance comes from `seed`. Returns false if there is none left.
    fn begin(&mut self, seed: u64) -> bool;

    /// Returns the place of the candidate that goes on; none ends the execution.
    fn choose(&mut self, point: &Point<'_>) -> Option<usize>;

    /// A goroutine was started by another.
    fn born(&mut self, _number: u64, _parent: u64) {}

    /// Returns whether it wants [events](Strategy::happens).
    fn wants_events(&self) -> bool {
        false
    }

    fn happens(&mut self, _event: Event) {}

    /// The execution has ended after so many steps.
    fn end(&mut self, _steps: u64) {}
}
