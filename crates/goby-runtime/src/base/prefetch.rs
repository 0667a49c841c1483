//! A hint to the processor that memory will soon be used.
//!
//! A goroutine that has waited long is cold: its record, its entry in a queue and its stack lie on
//! three pages. Each costs a miss in the cache and, in a virtual machine, a long walk through page
//! tables. Code that goes through many goroutines asks for the next ones while it is busy with one.

/// Asks for the cache line at `at`, which need not be valid.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn prefetch<T>(at: *const T) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a prefetch of any address is allowed: it reads nothing that the program sees, and
    // never faults.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
}

/// Asks for nothing, where std knows no such hint.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub(crate) fn prefetch<T>(_: *const T) {}
