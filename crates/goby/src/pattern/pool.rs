//! Worker pools.

use std::sync::Arc;

use super::output::Group;
use crate::chan::Receiver;
use crate::context::Context;

/// Starts `n` goroutines that take jobs, and gives the receiver of their results, in the order in which they are done.
///
/// The results close when the jobs have closed and all is done. The pool stops sooner when `ctx` is done, or when the
/// last receiver of the results is dropped; a job that was begun is then finished and its result dropped. Each worker
/// has room for one result that nobody has received yet.
///
/// # Panics
///
/// If `n` is 0. A panic of `f` stops the pool: no further job is begun, the results there are can be received, and where
/// they would end the receive goes on with the panic. So a loop over the results never ends as if all were done.
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
#[track_caller]
pub fn worker_pool<J, R, F>(ctx: &Context, jobs: Receiver<J>, n: usize, f: F) -> Receiver<R>
where
    J: Send + 'static,
    R: Send + 'static,
    F: Fn(J) -> R + Send + Sync + 'static,
{
    assert!(n > 0, "pattern: a pool without workers never gives a result");
    let (producer, results) = Group::new(ctx).output(n);
    let f = Arc::new(f);
    for _ in 0..n {
        let (producer, jobs, f) = (producer.clone(), jobs.clone(), f.clone());
        goby_runtime::go(move || producer.run(&jobs, |job| f(job)));
    }
    results
}
