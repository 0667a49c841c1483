//! Locks, semaphores and wait groups: rows 141 to 175 and 223 to 231 of the conformance list. The
//! stress program S29 is `stress/locks.rs`.
//!
//! Not here: 143 (there is no unlock without a guard, so it cannot be written), 147 (no hand-off
//! primitive). Every hammer below would show errors in 175, the memory order, under
//! ThreadSanitizer; `s175_…` has data outside the lock.

mod barrier;
mod cond;
mod guards;
mod latch;
mod mutex;
mod once;
mod rwlock;
mod semaphore;
mod wait_group;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind};
use std::sync::MutexGuard as SyncButNotSend;

use goby::Context;
use goby::sync::{
    ArcMutexGuard, ArcRwLockReadGuard, ArcRwLockWriteGuard, Barrier, Cond, Latch, MappedMutexGuard,
    MappedRwLockReadGuard, MappedRwLockWriteGuard, Mutex, MutexGuard, Once, OnceCell, Permit, RwLock, RwLockReadGuard,
    RwLockUpgradableReadGuard, RwLockWriteGuard, Semaphore, WaitGroup,
};

/// Returns the text of a panic.
#[track_caller]
fn panic_text(f: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(f)).expect_err("a panic");
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => (*payload.downcast_ref::<&str>().expect("a panic with a text")).to_owned(),
    }
}

/// How many goroutines wait for this reason.
fn n_waiting(reason: &str) -> usize {
    goby::diag::goroutines()
        .iter()
        .filter(|info| info.waited().is_some() && info.status().to_string() == reason)
        .count()
}

/// A context that is done.
fn canceled() -> Context {
    let (ctx, cancel) = Context::background().with_cancel();
    cancel.cancel();
    ctx
}

/// Which types may be sent and shared: the test passes if it compiles. The `compile_fail` examples
/// of the guards have those that may not.
#[test]
fn auto_traits() {
    fn both<T: Send + Sync>() {}
    fn send<T: Send>() {}
    fn sync<T: Sync>() {}
    fn unwind<T: UnwindSafe + RefUnwindSafe>() {}
    both::<Mutex<Cell<u8>>>();
    both::<RwLock<u8>>();
    both::<OnceCell<u8>>();
    both::<(Barrier, Cond, Latch, Once, Permit, Semaphore, WaitGroup)>();
    // Sent only:
    send::<MutexGuard<'_, Cell<u8>>>();
    send::<RwLockWriteGuard<'_, Cell<u8>>>();
    send::<(ArcMutexGuard<Cell<u8>>, MappedMutexGuard<'_, Cell<u8>>, MappedRwLockWriteGuard<'_, Cell<u8>>)>();
    // Shared only:
    sync::<MutexGuard<'_, SyncButNotSend<'_, u8>>>();
    sync::<RwLockWriteGuard<'_, SyncButNotSend<'_, u8>>>();
    sync::<MappedMutexGuard<'_, SyncButNotSend<'_, u8>>>();
    sync::<RwLockUpgradableReadGuard<'_, SyncButNotSend<'_, u8>>>();
    both::<(ArcMutexGuard<u8>, ArcRwLockReadGuard<u8>, ArcRwLockWriteGuard<u8>, RwLockUpgradableReadGuard<'_, u8>)>();
    // A read guard is like a `&T`: `T: Sync` gives it both.
    both::<RwLockReadGuard<'_, SyncButNotSend<'_, u8>>>();
    both::<MappedRwLockReadGuard<'_, SyncButNotSend<'_, u8>>>();
    unwind::<(Barrier, Cond, Latch, Once, Semaphore, WaitGroup)>();
}
