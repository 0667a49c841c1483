//! Worker pools.
//!
//! A started goroutine never changes its OS thread. Those that wait for jobs are pinned where the
//! pool was started, more often than not all on one OS thread. So a pool's worker that had a long
//! job goes on in a new goroutine, which can be stolen while it is unstarted. With jobs of 100 µs
//! two OS threads then do twice as many as one; without this they did no more than one in 11 runs
//! of 12. Workers with short jobs stay where they are, because handing a job over costs least
//! there.

use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use super::output::{Ended, Group, Producer};
use crate::chan::Receiver;
use crate::context::Context;

/// Starts `n` workers that take jobs, and returns the receiver of their results, in the order in
/// which they are done.
///
/// The results close when the jobs have closed and all is done. The pool stops sooner when `ctx` is
/// done, or when the last receiver of the results is dropped; a job that was begun is then finished
/// and its result dropped. A loop over the results ends either way: ask [`ctx.err()`](Context::err)
/// afterwards whether all is done. There is room for one result per worker that nobody has received
/// yet.
///
/// After a long job a worker goes on in a new goroutine, which may go to another OS thread if there
/// is room. So do not keep anything in a goroutine from job to job;
/// [`elastic_pool`](super::elastic_pool) is for that.
///
/// # Panics
///
/// If `n` is 0. A panic of `f` stops the pool: no further job is begun, the results that are there
/// can be received, and then the panic goes on in the receive. So a loop over the results never
/// ends as if all were done. (A job that ends by `goexit` is [left
/// out](super#a-job-that-ends-by-goexit).)
///
/// ```
/// use goby::{Context, chan, go, pattern};
///
/// let (ctx, _cancel) = Context::background().with_cancel();
/// let (tx, jobs) = chan::bounded(0);
/// go(move || (1..=100).try_for_each(|job| tx.send(job)));
/// let results = pattern::worker_pool(&ctx, jobs, 8, |job| job * 2);
/// assert_eq!(results.iter().sum::<u32>(), 10_100);
/// ```
///
/// In Go, and without the part about panics:
///
/// ```go
/// results := make(chan int, n)
/// var wg sync.WaitGroup
/// for range n {
///     wg.Go(func() {
///         for {
///             select {
///             case job, ok := <-jobs:
///                 if !ok {
///                     return
///                 }
///                 select {
///                 case results <- job * 2:
///                 case <-ctx.Done():
///                     return
///                 }
///             case <-ctx.Done():
///                 return
///             }
///         }
///     })
/// }
/// go func() { wg.Wait(); close(results) }()
/// ```
#[doc(alias = "buffer_unordered")]
#[track_caller]
pub fn worker_pool<J, R, F>(ctx: &Context, jobs: Receiver<J>, n: usize, f: F) -> Receiver<R>
where
    J: Send + 'static,
    R: Send + 'static,
    F: Fn(J) -> R + Send + Sync + 'static,
{
    start(ctx, jobs, n, f, |results, result| results.put(result))
}

/// Starts a pool. `f` does a job. `put` puts the result out, and returns whether the worker has a
/// reason to go on.
#[track_caller]
pub(super) fn start<J, V, R, F, P>(ctx: &Context, jobs: Receiver<J>, n: usize, f: F, put: P) -> Receiver<R>
where
    J: Send + 'static,
    R: Send + 'static,
    F: Fn(J) -> V + Send + Sync + 'static,
    P: Fn(&Producer<R>, V) -> bool + Send + Sync + 'static,
{
    assert!(n > 0, "pattern: a pool without workers never gives a result");
    let (results, receiver) = Group::new(ctx).output(n);
    let pool = Arc::new(Pool { jobs, results, f, put, started_at: Location::caller() });
    for _ in 0..n {
        pool.clone().start_worker();
    }
    receiver
}

/// What the workers of a pool share. The last worker drops it, and so closes the results.
struct Pool<J, R, F, P> {
    jobs: Receiver<J>,
    results: Producer<R>,
    f: F,
    put: P,
    started_at: &'static Location<'static>,
}

impl<J, V, R, F, P> Pool<J, R, F, P>
where
    J: Send + 'static,
    R: Send + 'static,
    F: Fn(J) -> V + Send + Sync + 'static,
    P: Fn(&Producer<R>, V) -> bool + Send + Sync + 'static,
{
    fn start_worker(self: Arc<Self>) {
        let run = |pool: Arc<Self>| match pool.results.guard(|| pool.work()) {
            Ended::Returned(Then::End) | Ended::Panicked => {}
            // A job that ended its goroutine ended no other. A new goroutine takes this worker's
            // place.
            Ended::Returned(Then::GoOnFresh) | Ended::Exited => pool.start_worker(),
        };
        goby_runtime::go_owing(self.started_at, self, run, |pool| pool.results.never_ran());
    }

    /// Runs a worker until all is over, or until it had a long job.
    fn work(&self) -> Then {
        let mut samples = Samples::default();
        while let Some(job) = self.results.next(&self.jobs) {
            let (value, long) = samples.time(|| (self.f)(job));
            if !(self.put)(&self.results, value) {
                return Then::End; // As all workers will: the context is done, or nobody receives.
            }
            if long {
                return Then::GoOnFresh;
            }
        }
        Then::End
    }
}

/// How a worker's goroutine ends.
enum Then {
    End,
    GoOnFresh,
}

/// A job that takes this time is long. A new goroutine costs a hundredth of it.
const LONG: Duration = Duration::from_micros(10);
/// At most so many jobs go untimed between two that are timed. Timing costs two looks at the clock,
/// 50 ns.
const MOST_UNTIMED: u32 = 64;

/// Finds long jobs. At first it times each job; the more short jobs follow each other, the fewer it
/// times.
#[derive(Default)]
struct Samples {
    distance: u32,
    until_next: u32,
}

impl Samples {
    /// Runs `f`; returns whether it is known to have taken long.
    #[inline]
    fn time<V>(&mut self, f: impl FnOnce() -> V) -> (V, bool) {
        if self.until_next > 0 {
            self.until_next -= 1;
            return (f(), false);
        }
        let start = goby_runtime::now();
        let value = f();
        let long = goby_runtime::now().saturating_duration_since(start) >= LONG;
        self.distance = (2 * self.distance + 1).min(MOST_UNTIMED);
        self.until_next = self.distance;
        (value, long)
    }
}
