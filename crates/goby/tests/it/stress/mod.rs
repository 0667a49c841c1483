//! The stress programs of `docs/conformance.md`, named by their numbers. A plain run uses sizes for
//! a debug build on two busy cores, `RUN_SLOW_TESTS=1` the full ones.

pub(crate) mod select;

mod chan;
mod contexts;
mod leaks;
mod locks;
mod many;
mod ordered;
mod pipeline;
mod power_series;
mod races;
mod timers;
