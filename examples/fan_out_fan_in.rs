//! Fan-out, fan-in: four workers read one channel, each writes to its own channel, and those are
//! merged again.
//!
//! In Go:
//!
//! ```go
//! func fanOut(ctx context.Context, in <-chan int, n int, work func(int) int) []<-chan int {
//!     outs := make([]<-chan int, n)
//!     for i := range outs {
//!         out := make(chan int)
//!         outs[i] = out
//!         go func() {
//!             defer close(out)
//!             for v := range in {
//!                 select {
//!                 case out <- work(v):
//!                 case <-ctx.Done():
//!                     return
//!                 }
//!             }
//!         }()
//!     }
//!     return outs
//! }
//!
//! func fanIn(ctx context.Context, ins []<-chan int) <-chan int {
//!     merged := make(chan int)
//!     var wg sync.WaitGroup
//!     for _, in := range ins {
//!         wg.Go(func() {
//!             for v := range in {
//!                 select {
//!                 case merged <- v:
//!                 case <-ctx.Done():
//!                     return
//!                 }
//!             }
//!         })
//!     }
//!     go func() { wg.Wait(); close(merged) }()
//!     return merged
//! }
//! ```

use goby::{Context, chan, go, pattern};

/// How many steps the Collatz rule takes from `n` to 1.
fn steps(n: u64) -> (u64, u32) {
    let (mut v, mut steps) = (n, 0);
    while v != 1 {
        v = if v % 2 == 0 { v / 2 } else { 3 * v + 1 };
        steps += 1;
    }
    (n, steps)
}

fn main() {
    let (ctx, _cancel) = Context::background().with_cancel();
    let (tx, input) = chan::bounded(16);
    go(move || {
        for n in 1..10_000 {
            if tx.send(n).is_err() {
                return;
            }
        }
    });

    let outs = pattern::fan_out(&ctx, input, 4, steps);
    let merged = pattern::fan_in(&ctx, outs);

    let (n, steps) = merged.iter().max_by_key(|&(n, steps)| (steps, n)).expect("there is input");
    println!("below 10000, {n} takes the most steps: {steps}");
}
