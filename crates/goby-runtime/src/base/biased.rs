//! The short lock that a worker can keep. An atomic update is most of the cost of an uncontended
//! channel operation (4.7 ns of 9 here). A started goroutine never changes its thread
//! (`docs/decisions/01-pinned-goroutines.md`), so most channels, and all of a worker's own queues,
//! are used by one thread only. After a streak of sections by one worker the lock is *biased* to
//! it: that worker enters with a store and a load. Any other thread *revokes* the bias first, which
//! takes some microseconds (`membarrier`). From then on the lock is an ordinary one until another,
//! longer streak.
//!
//! ```text
//! word:   FREE ◄──────► LOCKED                 an ordinary short lock, see lock.rs
//!           a worker's ◄── unlock after a streak of it
//!           a worker's ──► LOCKED              revoked; the revoker waits until not `inside`
//! inside: true while the worker is inside by its bias, or about to find out that it has lost it
//! ```
//!
//! Proof sketch. The owner: *Enter* (`inside` := true), light fence, *Check* (`word` is still
//! mine?). The revoker: *Revoke* (`word` := LOCKED), heavy fence, *Look* (`inside`?). The heavy
//! fence is a full fence on every running thread of the process, and a thread that does not run had
//! a full fence when it stopped. So the heavy fence falls before or after the owner's light fence.
//! Before: Check comes after Revoke, and the owner stays out. After: Look comes after Enter, and
//! the revoker waits. Where the fences do not work, every worker is [`NOBODY`]
//! ([`current_address`]).
//!
//! Only one thread ever writes `inside`, since a lock is biased to only one worker in all its life:
//! the first that had a streak. (With several, one that is about to find out that it has lost the
//! lock would clear the flag of its successor.) And only the owner gives the bias back to itself,
//! at an unlock of its own, so Check cannot be fooled by a bias that came back. `loom_revoke` below
//! checks this, with both fences as sequentially consistent ones.
//!
//! Source: Dice, Moir, Scherer, "Quickly reacquirable locks" (2003); the asymmetric fences of folly
//! and of Linux.

use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use crate::base::fence::{heavy_fence, light_fence};
use crate::base::lock::Backoff;
use crate::base::primitive::{AtomicBool, AtomicUsize, Ordering};
use crate::base::streak::Streak;

/// `word`: no thread is inside, and the lock is biased to no worker.
const FREE: usize = 0;
/// `word`: a thread is inside, or a revoker will be as soon as the owner has left.
const LOCKED: usize = 1;
/// The address of a thread to which no lock is ever biased: it is never in `word`.
pub(crate) const NOBODY: usize = usize::MAX;
/// Sections in a row after which a worker that has used a lock alone may keep it. Giving it up
/// costs 0.4 to 11 µs, depending on whether the owner's thread runs. A lock that is shared after
/// all loses less than that, once in so many sections.
const STREAK: u32 = 256;
/// The same for a worker's own lock: the worker is known to come back.
const OWNERS_STREAK: u32 = 4;
/// A revoked lock asks for twice the streak, up to this.
const LONGEST_STREAK: u32 = 1 << 20;
/// The same for a worker's own lock: the atomic updates of such a streak cost what a revocation
/// costs.
const OWNERS_LONGEST_STREAK: u32 = STREAK - 1;

thread_local! {
    static ADDRESS: Cell<usize> = const { Cell::new(NOBODY) };
}

/// Returns the name by which a lock knows the calling thread: the address of its worker, or
/// [`NOBODY`] if it is none.
#[cfg_attr(not(debug_assertions), inline(always))]
fn current_address() -> usize {
    ADDRESS.get()
}

/// Sets the address by which locks know the calling thread.
pub(crate) fn set_current_address(address: usize) {
    ADDRESS.set(address);
}

/// A value behind a short lock that is nearly free for the one worker that uses it.
pub struct BiasedLock<T: ?Sized> {
    word: AtomicUsize,
    inside: AtomicBool,
    /// Whether the thread that is inside entered by its bias. This field and the following belong
    /// to the thread that is inside.
    by_bias: Cell<bool>,
    /// The only worker that the lock is ever biased to; [`FREE`] until that is known.
    owner: Cell<usize>,
    /// Sections in a row of `last`. A full streak biases the lock to it.
    streak: Streak,
    /// The worker that was inside last; [`NOBODY`] for a thread that is none.
    last: Cell<usize>,
    value: UnsafeCell<T>,
}

// SAFETY: the lock lets one thread inside at a time (the proof above), so sharing it at most moves
// the value between threads. Its cells are used only by the thread that is inside.
unsafe impl<T: ?Sized + Send> Sync for BiasedLock<T> {}
// SAFETY: the lock owns its value.
unsafe impl<T: ?Sized + Send> Send for BiasedLock<T> {}

impl<T> BiasedLock<T> {
    /// Puts `value` behind a lock.
    #[cfg(not(loom))]
    pub const fn new(value: T) -> BiasedLock<T> {
        BiasedLock::with_streak(value, STREAK)
    }

    /// Puts a value behind a lock that belongs to one worker, although others take from it now and
    /// then.
    #[cfg(not(loom))]
    pub(crate) const fn of_a_worker(value: T) -> BiasedLock<T> {
        BiasedLock::with_streak(value, OWNERS_STREAK)
    }

    #[cfg(not(loom))]
    const fn with_streak(value: T, needed: u32) -> BiasedLock<T> {
        BiasedLock {
            word: AtomicUsize::new(FREE),
            inside: AtomicBool::new(false),
            by_bias: Cell::new(false),
            owner: Cell::new(FREE),
            streak: Streak::new(needed),
            last: Cell::new(FREE),
            value: UnsafeCell::new(value),
        }
    }

    /// Puts `value` behind a lock (loom's atomics are not `const`).
    #[cfg(loom)]
    pub fn new(value: T) -> BiasedLock<T> {
        BiasedLock::of_a_worker(value)
    }

    /// The same (loom's atomics are not `const`).
    #[cfg(loom)]
    pub(crate) fn of_a_worker(value: T) -> BiasedLock<T> {
        BiasedLock {
            word: AtomicUsize::new(FREE),
            inside: AtomicBool::new(false),
            by_bias: Cell::new(false),
            owner: Cell::new(FREE),
            streak: Streak::new(OWNERS_STREAK),
            last: Cell::new(FREE),
            value: UnsafeCell::new(value),
        }
    }
}

impl<T: ?Sized> BiasedLock<T> {
    /// Waits until no other thread is inside, and enters.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub fn lock(&self) -> BiasedGuard<'_, T> {
        self.lock_raw();
        BiasedGuard { lock: self, value: PhantomData }
    }

    /// Enters without a guard; [`unlock`](BiasedLock::unlock) leaves. For code that holds several
    /// locks at once.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub fn lock_raw(&self) {
        self.lock_as(current_address());
    }

    /// Enters if that is possible at once. It is not if a thread is inside, even this one, nor if
    /// entering would revoke a bias.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub fn try_lock_raw(&self) -> bool {
        self.try_lock_as(current_address())
    }

    #[cfg_attr(not(debug_assertions), inline(always))]
    fn try_lock_as(&self, me: usize) -> bool {
        // Relaxed: as in `lock_as`, and `enter_by_bias`.
        if self.word.load(Ordering::Relaxed) == me {
            return !self.inside.load(Ordering::Relaxed) && self.enter_by_bias(me);
        }
        // Acquire pairs with the Release store in `unlock`.
        if self.word.compare_exchange(FREE, LOCKED, Ordering::Acquire, Ordering::Relaxed).is_err() {
            return false;
        }
        self.note_entry(me);
        true
    }

    #[cfg_attr(not(debug_assertions), inline(always))]
    fn lock_as(&self, me: usize) {
        // Relaxed: that the lock is ours is all that we need to know, since we made it so.
        if self.word.load(Ordering::Relaxed) == me {
            // Relaxed: only this thread writes it, so it is exact. Without this look the owner
            // would get in a second time, to a second `&mut`. (A thread that is inside an ordinary
            // short lock, and takes it again, waits for itself.)
            if self.inside.load(Ordering::Relaxed) {
                entered_twice();
            }
            if self.enter_by_bias(me) {
                return;
            }
        }
        self.lock_slow(me);
    }

    /// Enters by the bias, for the owner that is outside. Returns false if the bias has been
    /// revoked.
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn enter_by_bias(&self, me: usize) -> bool {
        // Enter, light fence, Check. Relaxed: ordered against a revoker by its heavy fence.
        self.inside.store(true, Ordering::Relaxed);
        light_fence();
        if self.word.load(Ordering::Relaxed) == me {
            self.by_bias.set(true);
            return true;
        }
        // Relaxed: nothing was done inside.
        self.inside.store(false, Ordering::Relaxed);
        false
    }

    /// Returns the value, for the thread that is inside by [`lock_raw`](BiasedLock::lock_raw).
    #[inline]
    pub fn get(&self) -> *mut T {
        self.value.get()
    }

    /// Leaves.
    ///
    /// # Safety
    ///
    /// This thread is inside, by [`lock_raw`](BiasedLock::lock_raw), and no longer uses what
    /// [`get`](BiasedLock::get) gave.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub unsafe fn unlock(&self) {
        if self.by_bias.get() {
            // Release pairs with the Acquire of a revoker's Look.
            self.inside.store(false, Ordering::Release);
        } else {
            let next = if self.streak.is_full() { self.next_owner() } else { FREE };
            // Release pairs with the Acquire of the next holder, or is this worker's own.
            self.word.store(next, Ordering::Release);
        }
    }

    /// Returns the worker that has had a streak, if it may be given the lock; otherwise [`FREE`].
    #[cold]
    fn next_owner(&self) -> usize {
        let last = self.last.get();
        if self.owner.get() == FREE {
            self.owner.set(last);
        }
        if self.owner.get() == last {
            return last;
        }
        // So that the question does not come again at once.
        self.streak.restart();
        FREE
    }

    /// Enters by an atomic update, the ordinary way.
    #[inline]
    fn lock_slow(&self, me: usize) {
        // Acquire pairs with the Release store in `unlock`.
        if self.word.compare_exchange(FREE, LOCKED, Ordering::Acquire, Ordering::Relaxed).is_err() {
            self.wait_or_revoke();
        }
        self.note_entry(me);
    }

    /// Records an entry by an atomic update.
    #[inline]
    fn note_entry(&self, me: usize) {
        self.by_bias.set(false);
        if self.last.replace(me) != me || me == NOBODY {
            self.streak.restart();
        } else {
            self.streak.count();
        }
    }

    #[cold]
    fn wait_or_revoke(&self) {
        let mut backoff = Backoff::new();
        loop {
            match self.word.load(Ordering::Relaxed) {
                LOCKED => backoff.step(),
                // Acquire: as in `lock_slow`. When it revokes, this pairs with the Release by which
                // the owner took the lock.
                found if self.word.compare_exchange(found, LOCKED, Ordering::Acquire, Ordering::Relaxed).is_err() => {
                    backoff.step();
                }
                FREE => return,
                _ => return self.finish_revoke(),
            }
        }
    }

    /// Waits until the owner whose bias was revoked is outside.
    fn finish_revoke(&self) {
        heavy_fence();
        let mut backoff = Backoff::new();
        // Look. Acquire pairs with the Release in `unlock`: we see what the owner did inside.
        while self.inside.load(Ordering::Acquire) {
            backoff.step();
        }
        let is_owners = self.streak.needed() <= OWNERS_LONGEST_STREAK;
        self.streak.lengthen(if is_owners { OWNERS_LONGEST_STREAK } else { LONGEST_STREAK });
    }
}

/// Aborts: the thread that is inside enters again, by the same code or, after that has parked
/// inside, by other code on the same thread.
#[cold]
#[inline(never)]
fn entered_twice() -> ! {
    crate::base::report::report(format_args!(
        "a short lock is taken by the thread that holds it: user code, or a park, under a lock"
    ));
    std::process::abort();
}

impl<T: ?Sized> fmt::Debug for BiasedLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BiasedLock").finish_non_exhaustive()
    }
}

/// The right to use the value; dropping it leaves.
pub struct BiasedGuard<'a, T: ?Sized> {
    lock: &'a BiasedLock<T>,
    /// Not `Send`: a bias is a thread's.
    value: PhantomData<(&'a mut T, *const ())>,
}

// SAFETY: `&BiasedGuard<T>` gives `&T` and nothing else.
unsafe impl<T: ?Sized + Sync> Sync for BiasedGuard<'_, T> {}

impl<T: ?Sized> Deref for BiasedGuard<'_, T> {
    type Target = T;

    #[cfg_attr(not(debug_assertions), inline(always))]
    fn deref(&self) -> &T {
        // SAFETY: the guard's thread is the only one inside.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for BiasedGuard<'_, T> {
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard's thread is the only one inside, and the guard is borrowed exclusively.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for BiasedGuard<'_, T> {
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn drop(&mut self) {
        // SAFETY: the guard says that this thread is inside, and it is the last use.
        unsafe { self.lock.unlock() };
    }
}

impl<T: ?Sized> fmt::Debug for BiasedGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BiasedGuard").finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::base::fence::fences_work;

    /// Each thread poses as a worker of its own, and uses the lock in bursts that are longer than
    /// the streak that the lock asks for.
    #[test]
    fn excludes_through_biases_and_revocations() {
        assert!(fences_work());
        let counter = BiasedLock::new(0u64);
        std::thread::scope(|s| {
            for me in 1..=4 {
                let counter = &counter;
                s.spawn(move || {
                    for round in 0..20_000u64 {
                        for _ in 0..if round.is_multiple_of(100) { 500 } else { 1 } {
                            counter.lock_as(me * 16);
                            // SAFETY: inside, until the unlock.
                            unsafe {
                                *counter.get() += 1;
                                counter.unlock();
                            }
                        }
                    }
                });
            }
        });
        assert_eq!(*counter.lock(), 4 * (19_800 + 200 * 500));
    }

    #[test]
    fn a_streak_makes_it_biased_and_a_stranger_ends_that() {
        assert!(fences_work());
        let lock = BiasedLock::new(());
        let section = |me| {
            lock.lock_as(me);
            let by_bias = lock.by_bias.get();
            // SAFETY: inside.
            unsafe { lock.unlock() };
            by_bias
        };
        let streak = (0..).take_while(|_| !section(16)).count();
        assert_eq!(streak, STREAK as usize + 1);
        assert!(section(16) && !section(32) && !section(16), "a stranger has ended it");
        let streak = (0..).take_while(|_| !section(16)).count();
        assert_eq!(streak, 2 * STREAK as usize, "it asks for twice as much");
        assert!((0..10 * STREAK).all(|_| !section(32)), "it is never another's");
    }

    #[test]
    fn a_thread_that_is_no_worker_never_keeps_it() {
        let lock = BiasedLock::new(0);
        for _ in 0..10 * STREAK {
            *lock.lock() += 1;
            assert!(!lock.by_bias.get());
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::cell::UnsafeCell as Tracked;
    use loom::sync::Arc;

    /// The owner enters by its bias, and then tries to enter, while another thread revokes the
    /// bias. loom's cell reports any two accesses that are not ordered. Only the first steps are
    /// modeled, as in the model of `lock.rs`: the slow paths repeat them.
    #[test]
    fn loom_revoke() {
        const OWNER: usize = 16;
        loom::model(|| {
            let lock = Arc::new(BiasedLock::new(Tracked::new(0)));
            lock.word.store(OWNER, Ordering::Relaxed);
            let theirs = lock.clone();
            let revoker = loom::thread::spawn(move || {
                let found = theirs.word.compare_exchange(OWNER, LOCKED, Ordering::Acquire, Ordering::Relaxed);
                assert!(found.is_ok());
                theirs.finish_revoke();
                theirs.by_bias.set(false);
                // SAFETY: inside.
                unsafe {
                    (*theirs.get()).with_mut(|n| *n += 1);
                    theirs.unlock();
                }
            });
            let mut entered = 0;
            for again in [false, true] {
                if if again { lock.try_lock_as(OWNER) } else { lock.enter_by_bias(OWNER) } {
                    entered += 1;
                    // SAFETY: inside.
                    unsafe {
                        (*lock.get()).with_mut(|n| *n += 1);
                        lock.unlock();
                    }
                }
            }
            revoker.join().unwrap();
            // SAFETY: no other thread is left.
            assert_eq!(unsafe { (*lock.get()).with(|n| *n) }, entered + 1);
        });
    }
}
