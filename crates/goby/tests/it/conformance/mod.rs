//! Go's behavior in goby: one test for each row of `docs/conformance.md`, named by its number.

pub(crate) mod chan;
mod select;

mod context;
mod group;
pub(crate) mod leak;
mod rate;
mod singleflight;
mod sync;
pub(crate) mod time;
