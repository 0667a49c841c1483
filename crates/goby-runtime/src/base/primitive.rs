//! Atomics: std's, or loom's when a model test checks the lock-free files (`RUSTFLAGS="--cfg
//! loom"`).

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicUsize, Ordering, fence};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicUsize, Ordering, fence};

/// Adds one to a counter that only this thread writes.
#[inline]
pub(crate) fn bump(counter: &std::sync::atomic::AtomicU64) {
    // Relaxed, and no read-modify-write: one writer.
    counter.store(counter.load(std::sync::atomic::Ordering::Relaxed) + 1, std::sync::atomic::Ordering::Relaxed);
}
