//! Seeing what goroutines do: dumps (as data and as text), leaks and stalls, counts, profiles and
//! metrics.
//!
//! | what | for | as text |
//! |---|---|---|
//! | [`goroutines`], [`dump`] | each goroutine, with its stack | as Go's tracebacks |
//! | [`census`] | a million goroutines, counted by start and wait, with the stacks of some | `goby_http::debug` |
//! | [`loads`] | what workers have to do | `goby_http::debug` |
//! | [`metrics`] | figures of the process, for Prometheus | its text format |
//! | [`Profile`] | where goroutines are, where they wait, for `go tool pprof` | its format |
//!
//! The crate `goby-http` serves all of it as a page: `goby_http::debug`.
//!
//! ```
//! use goby::{Runtime, diag};
//!
//! let runtime = Runtime::builder().workers(1).build()?;
//! runtime.run(|| {
//!     let (tx, rx) = goby::chan::bounded::<u32>(0);
//!     goby::go(move || rx.recv());
//!     let is_waiting = || diag::goroutines().iter().any(|info| info.waited().is_some());
//!     while !is_waiting() {
//!         goby::yield_now();
//!     }
//!     // What Go's tracebacks print, the stacks included.
//!     let text = diag::dump().to_string();
//!     assert!(text.contains("[chan receive]:"), "{text}");
//!     drop(tx);
//! });
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # What is a leak
//!
//! A leak is a goroutine that is parked when it should have ended, with nothing left that could
//! free it. A test says when that is, with a [`LeakGuard`]:
//!
//! ```should_panic
//! # // Both ends are kept, so that dropping one does not end the wait.
//! let _guard = goby::diag::LeakGuard::new();
//! let (tx, rx) = goby::chan::bounded::<u32>(0);
//! goby::go(move || {
//!     let _ = rx.recv();
//!     drop(tx);
//! });
//! // Here the guard is dropped, and panics: "1 goroutine leaked …".
//! ```
//!
//! A whole test suite can be checked without a change to it:
//!
//! ```text
//! GOBY_LEAKS=fatal cargo test
//! ```
//!
//! Then every [`Runtime`](crate::Runtime) is checked when it is dropped: the drop panics if
//! goroutines are leaked. Every other runtime, the default one above all, is checked when the
//! process ends: the leaked goroutines are printed and the exit status is 23. A server that nobody
//! has stopped is such a leak, too.
//!
//! The check waits 10 s for a goroutine that still runs, and then names it. While it runs, or
//! sleeps, it may free the goroutines beside it, so these are not counted. A goroutine that wakes
//! by itself, in a sleep or in a loop over a ticker, is no leak: give it a context that stops it,
//! and join it, if it has to end. A program that leaks on purpose says so, by
//! [`Builder::report_leaks`](crate::Builder::report_leaks). A process that a goroutine ends (by
//! [`exit`](std::process::exit)) is not checked.
//!
//! In the same way `GOBY_PANICS=fatal` makes a panic that nobody joins end the process, as in Go.
//! It holds for a runtime unless its builder says otherwise
//! ([`Builder::on_panic`](crate::Builder::on_panic)). A test with the attribute
//! [`goby::test`](macro@crate::test) has both by itself: it fails for goroutines that it leaves
//! behind, and for a panic that nobody joined.
//!
//! # What is a stall
//!
//! A stall is a goroutine or a future that does not give its worker back: it computes, or blocks
//! the thread (by a lock of std, say), and the goroutines that are pinned beside it wait. After 100
//! ms ([`Builder::stall_limit`](crate::Builder::stall_limit)) it is an entry in [`stalls`], and is
//! printed to the standard error:
//!
//! ```text
//! goby: goroutine 7, started at src/main.rs:12:9, has kept worker 0 for 101 ms: run what blocks or computes in `blocking`, use goby's locks and channels, or call `yield_now` now and then
//! goby: goroutine 7 was here:
//! my_crate::compute
//!         src/main.rs:30
//! ```
//!
//! The stack comes when its names have been looked up. A goroutine is printed only if others may
//! wait for its worker, and the goroutines of one start place are printed at most once per 10 s. A
//! subscriber of `tracing` gets a warning instead. `GOBY_STALLS=off` in the environment or
//! [`Builder::report_stalls`](crate::Builder::report_stalls) turns the printing off. Time in which
//! the thread only waited for a processor does not count.
//!
//! A [spawned](crate::spawn) future that waits in goby *inside its poll*, by
//! [`Mutex::lock`](crate::sync::Mutex::lock) say, keeps its worker as well: it has no stack to
//! park. The goroutine that would unlock may be at home on that worker, and then neither goes on.
//! So this is reported at once, not after a limit, and once for each kind of future and wait:
//!
//! ```text
//! goby: a future of worker 0 waits [sync.Mutex.Lock] inside its poll, so that no goroutine of the worker can run, not even one that would end the wait: await instead (`recv_async`), only try (`try_lock`), or run the future by `block_on` in a goroutine
//! goby: the future was here:
//! my_crate::serve::{{closure}}
//!         src/main.rs:41
//! ```
//!
//! If it lasts, it is a stall too ([`Stall::future_waits`]). If nothing else in the process can go
//! on, it is reported as a deadlock.
//!
//! A deadlock of all goroutines and of the threads that wait in goby, a plain `main` above all,
//! needs no guard: goby reports it. See [`DeadlockPolicy`](crate::DeadlockPolicy) and
//! [`Runtime::try_run`](crate::Runtime::try_run).

#![doc(alias = "pprof")]
#![forbid(unsafe_code)]

mod find;
mod guard;
mod metrics;
mod profile;
mod quit;

pub use find::{LeakFinder, deadlocked, leaks};
#[doc(hidden)]
pub use goby_runtime::Names;
#[doc(alias("runtime.Stack", "debug.Stack"))]
pub use goby_runtime::dump;
#[doc(alias = "pprof.Lookup")]
pub use goby_runtime::goroutines;
pub use goby_runtime::{Census, CensusFilter, CensusGroup, census};
pub use goby_runtime::{Dump, Frame, GoroutineInfo, Leaks, Silent, StackTrace, Stall, Status, WaitingThread, stalls};
pub use goby_runtime::{RuntimeLoad, WorkerLoad, loads};
pub use guard::LeakGuard;
#[doc(alias = "runtime/metrics")]
pub use metrics::metrics;
pub use metrics::{Metric, MetricKind, Metrics};
#[doc(alias("pprof.Profile", "pprof.Lookup"))]
pub use profile::Profile;
pub use profile::{ProfileKind, ProfileSample};
pub use quit::dump_on_sigquit;
