//! Locks, conditions, one-time work, wait groups, semaphores and barriers that park the goroutine
//! and not its worker: Go's package `sync`, with `golang.org/x/sync/semaphore`.
//!
//! Every type here works between goroutines, between OS threads, and between the two. A goroutine
//! that has to wait is parked, and its worker runs others; an OS thread sleeps.
//!
//! | Go | goby |
//! |---|---|
//! | `sync.Mutex`, `sync.RWMutex` | [`Mutex<T>`](Mutex), [`RwLock<T>`](RwLock): the lock owns what it guards, a guard unlocks when dropped |
//! | `sync.Cond` | [`Cond`], with a mutex or a readers-writer lock |
//! | `sync.Once`, `sync.OnceFunc`, `sync.OnceValue` | [`Once`], [`once_func`], [`once_value`], and [`OnceCell`] |
//! | `sync.WaitGroup` | [`WaitGroup`] |
//! | `semaphore.Weighted` | [`Semaphore`] |
//! | (no counterpart) | [`Barrier`]; [`Latch`], which opens once |
//!
//! # Contexts
//!
//! Every call that may wait has a form that takes a [`Context`](crate::Context) and gives up when
//! that is done. Calls that take something (a lock, permits) look at the context first: if it is
//! already done they fail, even if they would not have to wait. Calls that only wait for an event
//! report the event when both have happened. A cancellation that races with a grant never loses
//! what was granted: the call then succeeds, or (a [`Semaphore`]'s) gives it back.
//!
//! # No poisoning
//!
//! A panic while a lock is held unlocks it, as a deferred `Unlock` does in Go. The next holder sees
//! the value as the panic left it. The panic itself is not lost: it comes out of `join`,
//! [`scope`](crate::scope) or [`WaitGroup::wait`]. A [`Once`] counts as not done if its function
//! panicked.
//!
//! # Pools and maps
//!
//! Go's `sync.Pool` and `sync.Map` are not here, because other crates have good ones. (A pool of
//! *connections*, which waits until one is free, is [`pool`](crate::pool).) None of these
//! parks a goroutine: hold what they give for a few instructions, and not across anything that
//! waits. Otherwise the worker waits too.
//!
//! - *A pool*: often none is needed, because Rust frees at once and allocators keep small blocks
//!   per thread. Otherwise a `thread_local!` list is one pool per worker, without any lock: a
//!   goroutine stays on its thread. A goroutine may put a block that was sent to it into its own
//!   worker's list. Bounded and shared by all: `crossbeam_queue::ArrayQueue`.
//! - *A map* that many read and few write: `papaya` (lock-free reads, no guard on entries to
//!   deadlock with). A map that all write: `dashmap` (sharded locks; a `Ref` of it is a lock's
//!   guard, so drop it before anything that parks). For most programs a [`RwLock`] around std's map
//!   is enough.
//!
//! ```
//! use std::cell::RefCell;
//!
//! thread_local! {
//!     static BUFFERS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
//! }
//!
//! let sums = [1, 2].map(|n| {
//!     goby::go(move || {
//!         let mut buffer = BUFFERS.with_borrow_mut(Vec::pop).unwrap_or_default();
//!         buffer.resize(n, n as u8);
//!         goby::yield_now(); // The worker's other goroutines have buffers of their own.
//!         let sum: usize = buffer.iter().map(|byte| *byte as usize).sum();
//!         buffer.clear();
//!         BUFFERS.with_borrow_mut(|free| free.push(buffer));
//!         sum
//!     })
//! });
//! assert_eq!(sums.map(|goroutine| goroutine.join().unwrap()), [1, 4]);
//! ```

// Read in this order: `queue` over `places` (where waiters wait); `raw_mutex` and `raw_rwlock`
// (the lock words, safe code); `mutex` and `rwlock` (the guards), with `rwlock_upgradable`,
// `owned` (guards that keep the lock alive) and `mapped` (guards of a part), which have the only
// unsafe code; then the rest, each of which is a few lines over `queue`.

#![doc(alias("sync.Pool", "sync.Map"))]

mod places;
pub(crate) mod queue;

mod mutex;
mod raw_mutex;

mod raw_rwlock;
mod rwlock;
mod rwlock_upgradable;

mod mapped;
mod owned;

mod barrier;
mod cond;
mod first_panic;
mod guard;
mod latch;
mod once;
mod once_func;
mod semaphore;
mod wait_group;

pub use barrier::{Barrier, BarrierWaitResult};
pub use cond::{Cond, WaitTimeoutResult};
pub(crate) use first_panic::FirstPanic;
pub use guard::CondGuard;
pub use latch::Latch;
pub use mapped::{MappedMutexGuard, MappedRwLockReadGuard, MappedRwLockWriteGuard};
pub use mutex::{Mutex, MutexGuard};
pub use once::{Once, OnceCell};
pub use once_func::{once_func, once_value};
pub use owned::{ArcMutexGuard, ArcRwLockReadGuard, ArcRwLockWriteGuard};
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use rwlock_upgradable::RwLockUpgradableReadGuard;
pub use semaphore::{Permit, Semaphore};
pub use wait_group::WaitGroup;
