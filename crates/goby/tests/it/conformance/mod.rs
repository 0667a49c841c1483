//! How goby behaves where Go does: one test for each line of the conformance list, named by its number.

pub(crate) mod chan;
mod select;

mod context;
pub(crate) mod leak;
mod rate;
mod sync;
mod time;
