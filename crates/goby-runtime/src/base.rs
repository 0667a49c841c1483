//! What the engine is made of. Nothing here knows of goroutines.

// Seams: the system, the clock, the checkers.
#[macro_use]
pub(crate) mod warning;
pub(crate) mod fence;
pub(crate) mod policy;
pub(crate) mod prefetch;
pub(crate) mod primitive;
pub(crate) mod report;
pub(crate) mod tsan;
pub(crate) mod order;
pub(crate) mod unseen;

// Locks and lock-free words.
pub(crate) mod answer;
pub(crate) mod biased;
pub(crate) mod claim;
pub(crate) mod edges;
pub(crate) mod ending;
pub(crate) mod inbox;
pub(crate) mod lock;
pub(crate) mod ring;
pub(crate) mod streak;

// Memory.
pub(crate) mod discard;
pub(crate) mod heap;
pub(crate) mod slab;
pub(crate) mod stack;
pub(crate) mod stack_trace;
