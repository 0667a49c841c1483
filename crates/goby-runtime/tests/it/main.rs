//! The integration tests of the runtime, one binary. Tests named `c319_…` follow the rows of
//! `docs/conformance.md`.

mod support;

mod blocking;
mod builder;
mod census;
mod deadlock;
mod dropped;
mod errands;
mod fairness;
mod floors;
mod futures;
mod gate;
mod goexit;
mod goroutines;
mod inspect;
mod outlive;
mod panics;
mod pinning;
mod refused;
mod scope;
mod shut_down;
mod source;
mod stacks;
mod stalls;
mod thread_locals;
mod thread_waits;
mod timer;
mod wakes;
