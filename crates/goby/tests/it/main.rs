//! The integration tests of goby, one binary. `RUN_SLOW_TESTS=1` runs the stress programs at full
//! size.
//!
//! Each test runs its body on runtimes of 1, 2 and 4 workers through [`support::with_workers`],
//! which also checks that no goroutine is left behind. Tests named `c001_…` and `s047_…` follow the
//! rows of `docs/conformance.md` by number; those named `s1_…` its stress programs.

mod alloc;
mod support;

mod conformance;
mod stress;

mod chan;
mod chan_async;
mod checkpoints;
mod compile_fail;
mod ctx;
mod diag;
mod errands;
mod fs;
mod io;
mod large_values;
mod macros;
mod net;
mod never_ran;
mod outlive;
mod pattern;
mod pool;
mod process;
mod select;
mod signal;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "tracing")]
mod tracing;
