//! A worker pool: three goroutines square the numbers 1 to 9.
//!
//! The pool stops when the jobs end or the context is done; the results close by themselves.
//! In Go, where the pool is written out each time (as in `worker_pool_by_hand.rs`):
//!
//! ```go
//! func main() {
//!     ctx, cancel := context.WithCancel(context.Background())
//!     defer cancel()
//!     jobs := make(chan int)
//!     go func() {
//!         defer close(jobs)
//!         for n := 1; n <= 9; n++ {
//!             jobs <- n
//!         }
//!     }()
//!     sum := 0
//!     for square := range workerPool(ctx, jobs, 3, func(n int) int { return n * n }) {
//!         sum += square
//!     }
//!     fmt.Println("sum of squares:", sum)
//! }
//! ```

use goby::{Context, chan, go, pattern};

fn main() {
    let (ctx, _cancel) = Context::background().with_cancel();
    let (tx, jobs) = chan::bounded(0);
    go(move || {
        for n in 1..=9 {
            if tx.send(n).is_err() {
                return; // the pool has stopped
            }
        }
    });

    let results = pattern::worker_pool(&ctx, jobs, 3, |n: u64| n * n);
    println!("sum of squares: {}", results.iter().sum::<u64>());
}
