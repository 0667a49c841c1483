//! The runtime of goby: goroutines on a few OS threads.
//!
//! Programs use the `goby` crate. It re-exports the items that are meant for programs, and adds
//! channels, `select!`, contexts, `sync` and sockets. This crate knows nothing of channels. It
//! offers what primitives are made of: goroutines, one way to wait, wait queues, timers, and
//! sockets that report when they are ready.
//!
//! # The way of a goroutine, in reading order
//!
//! [`go`] makes a record (`goroutine`) and queues it (`run_queue`), where it may be stolen. A
//! `worker` finds it, gives it a `stack` and switches to it; from then on it is pinned. It runs
//! until it `park`s. Another goroutine, thread or timer makes its condition true: it claims the
//! wait under the primitive's `lock`, out of a `wait_queue` or `gate`, and unparks the goroutine,
//! into its worker's queue or `inbox`. Workers without work search and sleep by the protocol of
//! `idle`, in the `poller`, until a `source` is ready or a `timer` is due. The `monitor` notices
//! workers that do not come back. A look at goroutines asks the workers (`inspect`).

#[cfg(not(target_os = "linux"))]
compile_error!("goby runs on Linux only, for now");

// In reading order: the base of the others, the way of a goroutine, its watcher, and what stands on
// top. `base` has macros, and only modules after it can use them.
#[macro_use]
mod base;
mod engine;
mod look;

mod builder;
mod runtime;
#[doc(hidden)]
pub mod checked;
#[cfg(feature = "tracing")]
mod per_goroutine;

/// What the engine takes from above it.
mod above {
    pub(crate) use crate::look::deadlock::look_without_monitors;
    pub(crate) use crate::runtime::start_default;
}

pub use base::biased::{BiasedGuard, BiasedLock};
pub use base::discard::{discard, discard_quietly};
pub use base::fence::{fences_work, heavy_fence, light_fence};
pub use base::lock::{Backoff, Lock, LockGuard};
pub use base::policy::{now, random};
#[doc(hidden)]
pub use base::stack::force_mprotect_guards;
#[doc(hidden)]
pub use base::stack_trace::Names;
pub use base::stack_trace::{Frame, StackTrace};
#[doc(hidden)]
pub use base::streak::Streak;
pub use builder::Builder;
pub use engine::attributes::{InheritedLocal, Local, labels, name, with_labels};
pub use engine::carried::{Carried, carry};
pub use engine::checkpoint::{checkpoint, polled, refused, yield_now};
#[doc(hidden)]
pub use engine::checkpoint::{checkpoint_on, gives_back};
pub use engine::errand::{Foreign, let_go, let_go_shared};
pub use engine::gate::{Decision, Gate, Waited, Waiters};
pub use engine::go::{GoBuilder, JoinHandle, TryGoError, go, try_go};
#[doc(hidden)]
pub use engine::go::{Heritage, go_detached_at};
pub use engine::goexit::{Goexit, goexit, is_goexit};
pub use engine::goroutine::GoroutineId;
pub use engine::io::blocking::blocking;
#[doc(hidden)]
pub use engine::io::blocking::{Withdrawal, blocking_as, blocking_unless};
#[doc(hidden)]
pub use engine::io::future::block_on_for;
pub use engine::io::future::{Task, block_on, spawn};
pub use engine::io::source::{Direction, OwnsFd, Source, Watcher};
pub use engine::io::timer::{Timer, TimerAction};
pub use engine::join_error::JoinError;
pub use engine::monitor::has_passed;
pub use engine::owed::NeverRan;
#[doc(hidden)]
pub use engine::owed::{Debt, go_owing};
pub use engine::park::{TIMED_OUT, Wait, sleep_until};
pub use engine::reach::{IsArmed, with_reach};
pub use engine::scope::{Scope, ScopedJoinHandle, scope};
pub use engine::settings::{DeadlockPolicy, PanicPolicy};
pub use engine::switch::panicking;
pub use engine::task_wait::TaskWait;
pub use engine::threads::WaitingThread;
pub use engine::threads::spawn_own_thread;
#[doc(hidden)]
pub use engine::threads::{IsolatedHost, set_handler_idle};
pub use engine::unparker::Unparker;
pub use engine::wait_queue::{AnyWait, WaitQueue, Waiter};
pub use engine::wait_reason::WaitReason;
pub use engine::wake_list::WakeList;
pub use engine::worker::{current_id, spread_next};
pub use look::census::{Census, CensusFilter, CensusGroup, census};
pub use look::dump::{Dump, dump};
pub use look::family::Family;
pub use look::inspect::{GoroutineInfo, Silent, Status, goroutines};
pub use look::leak::{LEAK_RETRIES, Leaks, deadlocked, find_leaks, leaked};
pub use look::load::{RuntimeLoad, WorkerLoad, loads};
pub use look::stall::{Stall, stalls};
pub use look::try_run::Deadlock;
#[doc(hidden)]
pub use look::try_run::Stopped;
#[cfg(feature = "tracing")]
pub use per_goroutine::{PerGoroutine, with_default};
#[doc(hidden)]
pub use runtime::sample_all;
pub use runtime::{Runtime, num_goroutines, run};
