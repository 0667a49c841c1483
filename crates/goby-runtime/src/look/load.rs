//! What runtimes and their workers have to do, from counters that are kept anyway. Nobody is asked,
//! and nobody waits.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::base::tsan;
use crate::engine::monitor::run_times;
use crate::engine::runtimes;
use crate::engine::shared::Shared;
use crate::engine::worker::Remote;

/// What a runtime has to do: see [`loads`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RuntimeLoad {
    /// The name of its threads: see [`Builder::thread_name`](crate::Builder::thread_name).
    pub name: String,
    /// Its workers, spare ones included.
    pub workers: Vec<WorkerLoad>,
    /// How many of them it was made with.
    pub n_configured: usize,
    /// Goroutines that have been started and have not ended.
    pub goroutines: usize,
    /// Goroutines that were ever started.
    pub created: u64,
    /// Spawned futures that have not ended.
    pub tasks: usize,
    /// Goroutines and futures that other threads have started, and that wait for a worker.
    pub injected: usize,
    /// Calls of [`blocking`](crate::blocking) that run, or wait for a thread.
    pub blocking_calls: usize,
    /// Those of them that wait for a thread.
    pub blocking_queued: usize,
    /// The threads for them.
    pub helper_threads: usize,
    /// How often a worker has taken unstarted goroutines from another.
    pub thefts: u64,
    /// Address space that a goroutine's stack takes.
    pub stack_size: usize,
}

/// What a worker has to do: see [`loads`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WorkerLoad {
    /// Its number in its runtime.
    pub index: usize,
    /// Its thread is blocked until there is something to do.
    pub sleeps: bool,
    /// How many of its started goroutines were runnable when it last looked.
    pub runnable: usize,
    /// Its goroutines and futures that have not begun to run, and that other workers may take.
    pub unstarted: usize,
    /// Goroutines that have begun to run here, and have not ended.
    pub goroutines: usize,
    /// Sockets that are registered here.
    pub sockets: usize,
    /// Goroutines that ever began to run here.
    pub begun: u64,
    /// Goroutines that ever ended here.
    pub ended: u64,
    /// Time slices that ever began here.
    pub slices: u64,
    /// How long its thread has run, as far as the kernel tells.
    pub ran: Option<Duration>,
    /// How long its thread has waited for a processor, as far as the kernel tells.
    pub starved: Option<Duration>,
}

/// Returns what each runtime of the process has to do, in the order in which they were made.
///
/// ```
/// use goby::{Runtime, diag};
///
/// let runtime = Runtime::builder().workers(2).thread_name("two").build()?;
/// runtime.run(|| {
///     let loads = diag::loads();
///     let load = loads.iter().find(|load| load.name == "two").unwrap();
///     assert_eq!((load.workers.len(), load.goroutines), (2, 1));
/// });
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn loads() -> Vec<RuntimeLoad> {
    let _ignore = tsan::ignore();
    runtimes::alive().into_iter().map(RuntimeLoad::of).collect()
}

impl RuntimeLoad {
    fn of(shared: &'static Shared) -> RuntimeLoad {
        RuntimeLoad {
            name: shared.settings.thread_name.clone(),
            workers: shared.remotes().map(WorkerLoad::of).collect(),
            n_configured: shared.settings.workers,
            goroutines: shared.num_goroutines(),
            created: shared.n_spawned(),
            tasks: shared.n_tasks(),
            injected: shared.inject.len(),
            blocking_calls: shared.helpers.in_progress(),
            blocking_queued: shared.helpers.n_queued(),
            helper_threads: shared.helpers.n_threads(),
            thefts: shared.n_thefts(),
            stack_size: shared.stacks.pool.stack_size(),
        }
    }
}

impl WorkerLoad {
    fn of(remote: &Remote) -> WorkerLoad {
        let thread = remote.thread.thread_id.load(Ordering::Relaxed);
        let times = run_times(&format!("/proc/self/task/{thread}"));
        WorkerLoad {
            index: remote.index,
            sleeps: remote.mail.inbox.sleeps(),
            runnable: remote.load(),
            unstarted: remote.stealable.unstarted.len(),
            goroutines: remote.n_started(),
            sockets: remote.poller.n_sources(),
            begun: remote.n_begun(),
            ended: remote.tally.ended.load(Ordering::Relaxed),
            slices: remote.tally.slices.load(Ordering::Relaxed),
            ran: times.map(|(ran, _)| ran),
            starved: times.map(|(_, waited)| waited),
        }
    }
}
