//! The runtime of goby: goroutines on a few OS threads.
//!
//! Programs use the `goby` crate, which re-exports what is meant for them and adds channels, `select!`, contexts, `sync`
//! and sockets. This crate knows nothing of channels; it offers what primitives are made of: goroutines, one way to
//! wait, wait queues, timers, and sockets that say when they are ready.
//!
//! # The way of a goroutine, in reading order
//!
//! [`go`] makes a record (`goroutine`) and queues it (`run_queue`), where it may be stolen. A `worker` finds it, gives it
//! a `stack` and switches to it; from then on it is pinned. It runs until it `park`s. Whoever makes its condition true
//! claims its wait under the primitive's `lock`, out of a `wait_queue` or `gate`, and unparks it: into its worker's
//! queue, or `inbox`. Workers without work search and sleep by the protocol of `idle`, in the `poller`, until a `source`
//! is ready or a `timer` is due. The `monitor` notices workers that do not come back. Who wants to look at goroutines
//! asks the workers (`inspect`).

#[cfg(not(target_os = "linux"))]
compile_error!("goby runs on Linux (5.11 or newer) only, for now");

mod answer;
mod attributes;
mod biased;
mod blocking;
mod deadlock;
mod discard;
mod dump;
mod ending;
mod errand;
mod family;
mod fence;
mod frames;
mod future;
mod gate;
mod go;
mod goexit;
mod goroutine;
mod heap;
mod idle;
mod inbox;
mod inspect;
mod join_error;
mod leak;
mod leak_check;
mod lock;
mod mistakes;
mod monitor;
mod orphans;
mod overflow;
mod owed;
mod park;
mod parker;
mod policy;
mod poller;
mod prefetch;
mod primitive;
mod registry;
mod ring;
mod run_queue;
mod runtime;
mod sample;
mod scope;
mod slab;
mod source;
mod stack;
mod stack_trace;
mod stall;
mod threads;
mod timer;
mod try_run;
mod tsan;
mod unjoined;
mod wait_queue;
mod worker;

pub use attributes::{InheritedLocal, Local, labels, name, with_labels};
pub use biased::{BiasedGuard, BiasedLock};
pub use blocking::blocking;
pub use discard::{discard, discard_quietly};
pub use dump::{Dump, dump};
pub use errand::{Foreign, let_go, let_go_shared};
pub use family::Family;
pub use fence::{fences_work, heavy_fence, light_fence};
#[doc(hidden)]
pub use future::block_on_with_reach;
pub use future::{Task, block_on, spawn};
pub use gate::{Gate, Waited, Waiters};
pub use go::{GoBuilder, JoinHandle, TryGoError, go, try_go};
#[doc(hidden)]
pub use go::{Heritage, go_detached_at};
pub use goexit::{Goexit, goexit, is_goexit};
pub use goroutine::GoroutineId;
pub use inspect::{GoroutineInfo, Silent, Status, goroutines};
pub use join_error::JoinError;
pub use leak::{LEAK_RETRIES, Leaks, deadlocked, find_leaks, leaked};
pub use lock::{Backoff, Lock, LockGuard};
pub use owed::NeverRan;
#[doc(hidden)]
pub use owed::{Debt, go_owing};
pub use park::{
    IsArmed, TIMED_OUT, Unparker, Wait, WaitReason, WakeList, checkpoint, polled, refused, sleep_until, with_reach,
    yield_now,
};
pub use policy::{has_passed, now, random};
pub use runtime::{Builder, DeadlockPolicy, PanicPolicy, Runtime, num_goroutines, run, spawn_own_thread};
#[doc(hidden)]
pub use sample::sample_all;
pub use scope::{Scope, ScopedJoinHandle, scope};
pub use source::{Direction, Source};
#[doc(hidden)]
pub use stack::force_mprotect_guards;
pub use stack_trace::{Frame, StackTrace};
pub use stall::{Stall, stalls};
pub use threads::WaitingThread;
#[doc(hidden)]
pub use threads::{IsolatedHost, set_handler_idle};
pub use timer::{Timer, TimerAction};
pub use try_run::Deadlock;
#[doc(hidden)]
pub use try_run::Stopped;
pub use wait_queue::{WaitQueue, Waiter};
pub use worker::{current_id, panicking, spread_next};
