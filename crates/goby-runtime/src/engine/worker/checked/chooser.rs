//! The words of a check: what is asked of the one that chooses, and what it hears.

use std::panic::Location;

use crate::base::stack_trace::StackTrace;

/// What a point is about, where it is not known.
pub const NO_OBJECT: usize = 0;

/// Chooses who goes on, and hears what happens. Called on the check's thread, mostly on a
/// goroutine's stack: it calls nothing of goby.
pub trait Chooser {
    /// Returns the place in [`Point::candidates`] of the one that goes on; none ends the execution.
    fn choose(&mut self, point: &Point<'_>) -> Option<usize>;

    /// The goroutine with this number was started; `parent` is zero for the first.
    fn born(&mut self, _number: u64, _parent: u64, _at: &'static Location<'static>) {}

    /// Returns whether [`happens`](Chooser::happens) wants to hear. Asked at each event.
    fn wants_events(&self) -> bool {
        false
    }

    /// Something has happened that makes up the execution.
    fn happens(&mut self, _event: Event) {}

    /// Returns whether [`arrives`](Chooser::arrives) wants stacks.
    fn wants_stacks(&self) -> bool {
        false
    }

    /// A goroutine has come to a point, and this is its stack. Called before the event.
    fn arrives(&mut self, _number: u64, _stack: StackTrace) {}
}

/// A moment at which one of several can go on.
#[derive(Debug)]
pub struct Point<'a> {
    /// The goroutine that is at a point and could go on.
    pub current: Option<u64>,
    /// That one asks for others to run: it yields, or has looked in vain.
    pub yields: bool,
    /// The numbers of those that can go on, at least two. Equal choices lead to an equal order.
    pub candidates: &'a [u64],
    /// How many steps there have been.
    pub step: u64,
}

/// What makes up an execution. The number zero stands for a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A goroutine has come to a point that is about this object, or [`NO_OBJECT`].
    Arrives(u64, usize),
    /// A goroutine or future goes on: from its point, from its wait, or for the first time.
    Passes(u64),
    /// The first has made the second runnable, or has started it.
    Wakes(u64, u64),
    /// A goroutine has ended.
    Ends(u64),
}

/// How an execution is run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The seed of [`random`](crate::random).
    pub seed: u64,
    /// The most steps.
    pub max_steps: u64,
    /// Time goes on when the main goroutine has ended.
    pub time_outlives_main: bool,
}

/// How an execution has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// All goroutines have ended.
    Finished,
    /// Nothing can go on, and the main goroutine has not ended.
    Deadlock,
    /// Nothing can go on; the main goroutine has ended, others have not.
    Leaked,
    /// A goroutine has panicked and nobody joins it, or the main one has.
    Panicked {
        /// Its number.
        number: u64,
        /// The text of its payload.
        message: String,
    },
    /// There were more steps than the plan allows.
    OutOfSteps,
    /// The program has left the check; the text says how, and what to do instead.
    Left(String),
    /// The chooser has ended it.
    GivenUp,
}
