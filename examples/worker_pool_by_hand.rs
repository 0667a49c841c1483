//! The worker pool of `worker_pool.rs`, written out as Go programs do it.
//!
//! ```go
//! func workerPool(ctx context.Context, jobs <-chan int, n int, process func(int) int) <-chan int {
//!     results := make(chan int)
//!     var wg sync.WaitGroup
//!     for range n {
//!         wg.Go(func() {
//!             for {
//!                 select {
//!                 case job, ok := <-jobs:
//!                     if !ok {
//!                         return
//!                     }
//!                     select {
//!                     case results <- process(job):
//!                     case <-ctx.Done():
//!                         return
//!                     }
//!                 case <-ctx.Done():
//!                     return
//!                 }
//!             }
//!         })
//!     }
//!     go func() { wg.Wait(); close(results) }()
//!     return results
//! }
//! ```
//!
//! The last goroutine has no counterpart here: a channel closes when its last sender is dropped, in
//! this case with the last worker.

use goby::chan::{self, Receiver};
use goby::{Context, go, select};

fn worker_pool(ctx: &Context, jobs: Receiver<u64>, n: usize, process: fn(u64) -> u64) -> Receiver<u64> {
    let (tx, results) = chan::bounded(0);
    for _ in 0..n {
        let (ctx, jobs, tx) = (ctx.clone(), jobs.clone(), tx.clone());
        go(move || {
            loop {
                let job = select! {
                    recv(jobs) -> job => match job {
                        Ok(job) => job,
                        Err(_) => return, // closed, and all taken
                    },
                    recv(ctx.done()) -> _ => return,
                };
                select! {
                    send(tx, process(job)) -> sent => if sent.is_err() { return },
                    recv(ctx.done()) -> _ => return,
                }
            }
        });
    }
    results
}

fn main() {
    let (ctx, _cancel) = Context::background().with_cancel();
    let (tx, jobs) = chan::bounded(0);
    go(move || {
        for n in 1..=9 {
            if tx.send(n).is_err() {
                return;
            }
        }
    });

    let results = worker_pool(&ctx, jobs, 3, |n| n * n);
    println!("sum of squares: {}", results.iter().sum::<u64>());
}
