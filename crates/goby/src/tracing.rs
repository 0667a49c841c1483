//! Spans of the crate `tracing` that belong to goroutines, with the feature `tracing`.
//!
//! Wrap the subscriber in a [`PerGoroutine`], and a goroutine's spans are its own, whatever it
//! waits for. Without it they stay on the worker's thread while the goroutine waits, and its
//! neighbors' events are in them: three goroutines that each enter a span and sleep log
//! `job{0}:job{1}:job{2}`. The guide says more, in [`production`](crate::guide::production#spans).

pub use goby_runtime::{PerGoroutine, with_default};
