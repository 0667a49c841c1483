//! The programs of the stress list that need channels, select and goroutines only, named by their numbers. A plain run uses
//! sizes for a debug build on two busy cores, `RUN_SLOW_TESTS=1` the full ones.

pub(crate) mod select;

mod chan;
mod leaks;
mod many;
mod ordered;
mod pipeline;
mod power_series;
mod races;
