//! The policy seam: what time it is and every random choice come from here, and from nowhere else
//! (`docs/decisions/05-one-policy-seam.md`).
//!
//! In production these are the system's monotonic clock and one fast generator per thread. A
//! checker that replaces both has one file to look at.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::base::tsan;
use crate::base::unseen::UnseenOnce;

/// Reads the clock that all of goby's deadlines, timers and tickers go by.
///
/// ```
/// let before = goby::now();
/// assert!(goby::now() >= before);
/// ```
#[inline]
pub fn now() -> Instant {
    // Never but on the thread of a check.
    if VIRTUAL.get() != 0 { virtual_now() } else { Instant::now() }
}

#[cold]
#[inline(never)]
fn virtual_now() -> Instant {
    instant(VIRTUAL.get())
}

thread_local! {
    /// What time it is on this thread, as [`nanos`]; zero means the system's.
    static VIRTUAL: Cell<u64> = const { Cell::new(0) };
    static STATE: Cell<u64> = const { Cell::new(0) };
}

/// Sets the time of this thread, from here on a virtual one.
pub(crate) fn set_virtual(nanos: u64) {
    VIRTUAL.set(nanos);
}

/// Returns the time of a thread whose time is virtual.
#[inline]
pub(crate) fn virtual_nanos() -> u64 {
    VIRTUAL.get()
}

/// Sets what the thread's random numbers follow from.
pub(crate) fn seed(seed: u64) {
    // Zero would draw another one.
    STATE.set(seed.max(1));
}

/// Returns the instant from which [`nanos`] counts.
fn epoch() -> Instant {
    static EPOCH: UnseenOnce<Instant> = UnseenOnce::new();
    // An hour back, so that instants a little before the first use are still told apart.
    *EPOCH.get_or_init(|| now().checked_sub(Duration::from_secs(3600)).unwrap_or_else(now))
}

/// Returns an instant as nanoseconds since [`epoch`]: one word, for the timer heap. It saturates at
/// both ends (584 years).
#[inline]
pub(crate) fn nanos(instant: Instant) -> u64 {
    u64::try_from(instant.saturating_duration_since(epoch()).as_nanos()).unwrap_or(u64::MAX - 1)
}

/// Returns the instant of a number from [`nanos`]: its inverse.
pub(crate) fn instant(nanos: u64) -> Instant {
    epoch() + Duration::from_nanos(nanos)
}

/// Returns a random number, from a generator of this thread (wyrand, as Go's `cheaprand`). Not for
/// secrets.
///
/// ```
/// assert_ne!(goby::random(), goby::random());
/// ```
#[inline]
pub fn random() -> u64 {
    // The worker's goroutines share it in turn.
    let _ignore = tsan::ignore();
    STATE.with(|state| {
        let mut seed = state.get();
        if seed == 0 {
            seed = first_seed();
        }
        let next = seed.wrapping_add(0xa076_1d64_78bd_642f);
        state.set(next);
        let product = u128::from(next) * u128::from(next ^ 0xe703_7ed1_a0b4_28db);
        (product >> 64) as u64 ^ product as u64
    })
}

/// Returns a seed that differs between threads and runs, and is never zero.
#[cold]
fn first_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::thread::current().id()) | 1
}
