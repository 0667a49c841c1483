//! Go's concurrency model for Rust: goroutines, channels, `select!`, contexts, `sync`, timers and
//! sockets, written as straight-line code.
//!
//! ```
//! use goby::{Context, chan, go, pattern, select};
//! use std::time::Duration;
//!
//! // A goroutine costs a page and a small record; any function may block it.
//! let (tx, rx) = chan::bounded(0);
//! go(move || {
//!     for n in 1..=3 {
//!         tx.send(n).unwrap();
//!     }
//! });
//!
//! // Exactly one case happens; the channel is closed when its last sender is gone.
//! let (ctx, _cancel) = Context::background().with_timeout(Duration::from_secs(5));
//! let mut sum = 0;
//! loop {
//!     select! {
//!         recv(rx) -> n => match n { Ok(n) => sum += n, Err(_) => break },
//!         recv(ctx.done()) -> _ => break,
//!     }
//! }
//! assert_eq!(sum, 6);
//!
//! // The usual shapes have names.
//! let (tx, jobs) = chan::bounded(8);
//! go(move || (0..10).try_for_each(|n| tx.send(n)));
//! let results = pattern::worker_pool(&ctx, jobs, 4, |n| n * n);
//! assert_eq!(results.iter().sum::<i32>(), 285);
//! ```
//!
//! # Where things are
//!
//! | Go | goby |
//! |---|---|
//! | `go f()` | [`go`]`(f)`, which gives a [`JoinHandle`]; [`scope`] for goroutines that borrow |
//! | `make(chan T, n)`, `ch <- v`, `<-ch`, `close(ch)` | [`chan::bounded`], `send`, `recv`, dropping the last sender |
//! | `select { … }` | [`select!`], [`chan::Select`] |
//! | `context` | [`context`] ([`Context`]) |
//! | `sync`, `x/sync/semaphore` | [`sync`] |
//! | `x/sync/errgroup`, `x/sync/singleflight` | [`group`], [`singleflight`] |
//! | `time` | [`time`] |
//! | `x/time/rate` | [`rate`] |
//! | `net` | [`net`] |
//! | `crypto/tls` | `tls`, with the [feature](#features) of that name |
//! | `database/sql`'s pool of connections | [`pool`] |
//! | `io.Copy` | [`io`] |
//! | `net/http` | the `goby-http` crate |
//! | `os`'s files and pipes, `bufio.Scanner` | [`fs`], [`io`] |
//! | `os/exec` | [`process`] |
//! | `os/signal` | [`signal`] |
//! | `runtime` | [`Runtime`], [`yield_now`], [`num_goroutines`] |
//! | `runtime/debug`, `runtime/pprof`'s goroutine profile and labels | [`diag`], [`goroutine`] |
//! | `func main`, `testing` and `goleak` | [`#[goby::main]`](macro@main), [`#[goby::test]`](macro@test) |
//! | worker pools, pipelines, fan-out and fan-in by hand | [`pattern`] |
//!
//! To learn goby, read the [`guide`]: [`from_go_in_an_hour`](guide::from_go_in_an_hour) has the
//! programs of the Tour of Go, and [`from_tokio`](guide::from_tokio) says what tokio's names
//! become. [`from_go`] says what differs from Go, package by package, and why.
//!
//! Rust adds [`block_on`] to await a future from a goroutine, [`spawn`] to run a future beside the
//! goroutines, and [`blocking`] for calls that would block the OS thread. The first two run any
//! future that needs no other runtime. Those of tokio's timers and sockets, as in reqwest and sqlx,
//! run by `goby_tokio::block_on`: see
//! [`other_crates`](guide::other_crates#futures-that-need-tokio).
//!
//! No set-up is needed: the first call that needs it starts the default runtime, with a worker for
//! each processor, or with `GOBY_MAXPROCS` workers. A goroutine's stack has 192 KiB, or
//! `GOBY_STACK` (see [`Builder::stack_size`]); that of [`run`]'s goroutine has 8 MiB. When `main`
//! returns the process ends, as in Go, and with it the goroutines that still run. Join the
//! goroutines that have to finish, or wait for them with [`scope`] or a
//! [`WaitGroup`](sync::WaitGroup).
//!
//! Everything works on plain threads too, `main` included. [`run`] makes the work of `main` a
//! goroutine, which then waits without putting a thread to sleep. Linux only, so far.
//!
//! # Features
//!
//! `tracing`, on by default: warnings, such as that about a goroutine that keeps its worker, go to
//! the program's subscriber of `tracing`, and the module `tracing` makes spans right. With it a
//! build has 37 crates, four of them goby's own. With `default-features = false` it has 34, which
//! take 30 s of one processor's time from clean, in debug.
//!
//! `tls`, off by default: the module `tls`, clients and servers over rustls and ring.
//!
//! # What blocks what
//!
//! Everything in this crate parks the goroutine; if an OS thread calls it, the thread sleeps. A
//! lock or a channel of *std* blocks the worker with all goroutines that are pinned to it, and so
//! does a long computation. Run such things through [`blocking`], or call [`yield_now`] now and
//! then. A blocked worker is slow, and may be a deadlock, but nothing worse. Calls that need not
//! wait also let others run when their time slice is over: [`checkpoints`] has the rule, and a
//! table of these calls.
//!
//! # What is promised of threads
//!
//! Safe code has no data race, and a started goroutine never changes its OS thread. So it may hold
//! an `Rc`, a guard or a reference to a thread-local's value across anything that blocks. It shares
//! the thread, and so its *thread-locals*, with the other goroutines of its worker. **Code that
//! keeps something set on its thread for the length of a call must not wait inside that call**: not
//! an initializer of a `thread_local!`, nor a closure that a crate such as `scoped-tls` calls. std
//! and such crates assume that the calls of a thread nest. If goroutines break that, memory may be
//! used after it was freed, although the program has no `unsafe`. [`thread_locals`] has the rules,
//! says what is fine, and what to use instead.

#![warn(missing_docs)]

#[doc(hidden)]
#[path = "macros.rs"]
pub mod __macros;
pub mod chan;
pub mod context;
pub mod diag;
pub mod fs;
pub mod goroutine;
pub mod group;
pub mod guide;
pub mod io;
pub mod net;
pub mod pattern;
pub mod pool;
pub mod process;
pub mod rate;
mod selection;
pub mod signal;
pub mod singleflight;
pub mod sync;
pub mod time;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(feature = "tracing")]
pub mod tracing;

#[doc = include_str!("docs/checkpoints.md")]
pub mod checkpoints {}
#[doc = include_str!("docs/from_go.md")]
pub mod from_go {}

#[doc = include_str!("docs/thread_locals.md")]
pub mod thread_locals {}

/// What `select!` expands to.
#[doc(hidden)]
pub mod __private {
    pub use crate::selection::{
        Case, Cases, Choice, Look, RecvCase, SendCase, Until, forever, look, no_receiver, no_sender, run, until, wait,
    };
}

/// What `goby-tokio` waits by: [`block_on`] and [`block_on_ctx`], under its own name in dumps.
#[doc(hidden)]
pub mod __tokio {
    use std::future::Future;

    use goby_runtime::WaitReason;

    use crate::context::{Context, ContextError};

    pub fn block_on<F: Future>(future: F) -> F::Output {
        goby_runtime::block_on_for(WaitReason::Tokio, || false, None, future)
    }

    pub fn block_on_ctx<F: Future>(ctx: &Context, future: F) -> Result<F::Output, ContextError> {
        crate::context::block_on_ctx_for(WaitReason::Tokio, ctx, None, future)
    }
}

/// What `goby-http` runs a user's resolver by.
#[doc(hidden)]
pub mod __http {
    use goby_runtime::WaitReason;

    /// Does as [`blocking`](crate::blocking), within the number of helper threads that look up
    /// names.
    pub fn look_up<R: Send>(f: impl FnOnce() -> R + Send) -> R {
        goby_runtime::blocking_as(WaitReason::LookUp, f)
    }
}

pub use context::{Context, block_on_ctx};
#[doc = include_str!("docs/main.md")]
pub use goby_macros::main;
#[doc = include_str!("docs/test.md")]
pub use goby_macros::test;
// A name to search by stands here: goby's docs do not index the aliases of another crate's items.
#[doc(alias("GOMAXPROCS", "worker_threads"))]
pub use goby_runtime::Builder;
#[doc(alias("spawn_blocking", "block_in_place"))]
pub use goby_runtime::blocking;
#[doc(alias = "consume_budget")]
pub use goby_runtime::checkpoint;
#[doc(alias("runtime.Goexit", "Goexit"))]
pub use goby_runtime::goexit;
#[doc(alias("runtime.NumGoroutine", "NumGoroutine"))]
pub use goby_runtime::num_goroutines;
#[doc(alias("runtime.Gosched", "Gosched"))]
pub use goby_runtime::yield_now;
pub use goby_runtime::{
    Deadlock, DeadlockPolicy, Goexit, GoroutineId, JoinError, JoinHandle, NeverRan, PanicPolicy, Runtime, Scope,
    ScopedJoinHandle, Task, TryGoError, block_on, go, now, random, run, scope, spawn, try_go,
};
