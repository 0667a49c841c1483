//! Fan-out and fan-in.

use std::panic::Location;
use std::sync::Arc;

use super::output::{Ended, Group, Producer, READY};
use crate::chan::Receiver;
use crate::context::Context;

/// Starts `n` goroutines that take values from one input, each with an output of its own.
///
/// An output closes when the input has closed and its worker is done. Everything stops sooner when
/// `ctx` is done. One worker stops when the last receiver of its output is dropped, and leaves the
/// input to the others. A worker may be up to 16 results ahead of its consumer.
///
/// # Panics
///
/// If `n` is 0. A panic of `f` stops all the workers. No further value is begun, and the panic goes
/// on in each receive that would otherwise see the end of an output.
///
/// ```
/// use goby::{Context, chan, go, pattern};
///
/// let (ctx, _cancel) = Context::background().with_cancel();
/// let (tx, input) = chan::bounded(0);
/// go(move || (1..=10).try_for_each(|v| tx.send(v)));
/// let outs = pattern::fan_out(&ctx, input, 4, |v| v * v);
/// assert_eq!(outs.len(), 4);
/// let merged = pattern::fan_in(&ctx, outs);
/// assert_eq!(merged.iter().sum::<u32>(), 385);
/// ```
///
/// In Go, and without the part about panics:
///
/// ```go
/// outs := make([]chan int, n)
/// for i := range outs {
///     outs[i] = make(chan int, 16)
///     go func() {
///         defer close(outs[i])
///         for v := range in {
///             select {
///             case outs[i] <- v * v:
///             case <-ctx.Done():
///                 return
///             }
///         }
///     }()
/// }
/// ```
#[track_caller]
pub fn fan_out<T, R, F>(ctx: &Context, input: Receiver<T>, n: usize, f: F) -> Vec<Receiver<R>>
where
    T: Send + 'static,
    R: Send + 'static,
    F: Fn(T) -> R + Send + Sync + 'static,
{
    assert!(n > 0, "pattern: a fan-out to no worker never gives a result");
    let (f, group) = (Arc::new(f), Group::new(ctx));
    let mut outs = Vec::with_capacity(n);
    for _ in 0..n {
        let (producer, out) = group.output(READY);
        start_worker(producer, input.clone(), f.clone(), Location::caller());
        outs.push(out);
    }
    outs
}

/// Starts one worker, and another in its place when a value has ended its goroutine.
fn start_worker<T, R, F>(producer: Producer<R>, input: Receiver<T>, f: Arc<F>, started_at: &'static Location<'static>)
where
    T: Send + 'static,
    R: Send + 'static,
    F: Fn(T) -> R + Send + Sync + 'static,
{
    producer.start(started_at, move |producer| {
        if producer.run(&input, |value| f(value)) == Ended::Exited {
            start_worker(producer, input, f, started_at);
        }
    });
}

/// Merges several receivers into one: it gives everything from each, in the order in which it
/// comes.
///
/// The output closes when all the inputs have closed and everything has come out. It stops sooner
/// when `ctx` is done, or when the last receiver of the output is dropped; the inputs are then
/// dropped too.
///
/// # Panics
///
/// Not by itself. A panic that one of the inputs ends with (see [`fan_out`]) stops the others, and
/// the output ends with it.
///
/// ```
/// use goby::{Context, chan, pattern};
///
/// let (a, from_a) = chan::bounded(1);
/// let (b, from_b) = chan::bounded(1);
/// let merged = pattern::fan_in(&Context::background(), vec![from_a, from_b]);
/// a.send(1)?;
/// b.send(2)?;
/// drop((a, b));
/// assert_eq!(merged.iter().sum::<i32>(), 3);
/// # Ok::<(), chan::SendError<i32>>(())
/// ```
///
/// In Go:
///
/// ```go
/// merged := make(chan int, 16)
/// var wg sync.WaitGroup
/// for _, in := range ins {
///     wg.Go(func() {
///         for v := range in {
///             select {
///             case merged <- v:
///             case <-ctx.Done():
///                 return
///             }
///         }
///     })
/// }
/// go func() { wg.Wait(); close(merged) }()
/// ```
#[track_caller]
pub fn fan_in<T: Send + 'static>(ctx: &Context, inputs: Vec<Receiver<T>>) -> Receiver<T> {
    let (producer, merged) = Group::new(ctx).output(READY);
    for input in inputs {
        producer.clone().start(Location::caller(), move |producer| _ = producer.run(&input, |value| value));
    }
    merged
}
