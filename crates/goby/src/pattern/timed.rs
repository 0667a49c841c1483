//! Patterns that depend on when values come: batches and debounced input.

use std::panic::Location;
use std::time::{Duration, Instant};

use super::output::{Group, Producer};
use crate::chan::Receiver;
use crate::context::Context;
use crate::select;

/// Collects values into batches of `size`. A batch has fewer values if `wait` has passed since its
/// first value came.
///
/// The output closes when the input has closed and the last batch, which may be smaller, was
/// received. It stops sooner when `ctx` is done, or when its last receiver is dropped; values of an
/// unfinished batch are dropped then. No batch is empty. While one batch waits to be received,
/// another is filled; when that is full too, no further value is taken.
///
/// # Panics
///
/// If `size` is 0. A panic that ends the input goes on in the receive that would otherwise see the
/// end of the output.
///
/// ```
/// use goby::{Context, pattern};
/// use std::time::Duration;
///
/// let (ctx, _cancel) = Context::background().with_cancel();
/// let batches = pattern::batch(&ctx, pattern::source(&ctx, 1..=7), 3, Duration::from_secs(10));
/// assert_eq!(batches.iter().collect::<Vec<_>>(), [vec![1, 2, 3], vec![4, 5, 6], vec![7]]);
/// ```
///
/// In Go, for the part that collects:
///
/// ```go
/// for {
///     batch := make([]int, 0, size)
///     var due <-chan time.Time // nil: an empty batch is never due
///     for len(batch) < size {
///         select {
///         case v, ok := <-in:
///             if !ok {
///                 break collect
///             }
///             if batch = append(batch, v); len(batch) == 1 {
///                 due = time.After(wait)
///             }
///         case <-due:
///             break collect
///         case <-ctx.Done():
///             return
///         }
///     }
///     // Send it.
/// }
/// ```
#[track_caller]
pub fn batch<T: Send + 'static>(ctx: &Context, input: Receiver<T>, size: usize, wait: Duration) -> Receiver<Vec<T>> {
    assert!(size > 0, "pattern: a batch of nothing never comes");
    let (producer, batches) = Group::new(ctx).output(1);
    producer.start(Location::caller(), move |producer| {
        _ = producer.guard(|| while collect(&producer, &input, size, wait).is_some_and(|batch| producer.put(batch)) {});
    });
    batches
}

/// Collects the next batch; returns `None` if there is none, or no reason to go on.
fn collect<T>(producer: &Producer<Vec<T>>, input: &Receiver<T>, size: usize, wait: Duration) -> Option<Vec<T>> {
    let mut batch = vec![producer.next(input)?];
    let due = goby_runtime::now().checked_add(wait);
    while batch.len() < size {
        if let Some(value) = producer.try_next(input) {
            batch.push(value);
            continue;
        }
        select! {
            recv(input) -> value => match value {
                Ok(value) => batch.push(value),
                Err(_) => break,
            },
            recv(producer.ctx().done()) -> _ => return None,
            default(until(due)) => break,
        }
    }
    Some(batch)
}

/// Lets a value pass if none has followed it for `quiet`. Of a burst this is the last value.
///
/// The output closes when the input has closed and the last value was received; that value then
/// need not wait for the quiet. It stops sooner when `ctx` is done, or when its last receiver is
/// dropped. A value that nobody has received yet is replaced by one that comes later, so a slow
/// consumer sees the newest value.
///
/// # Panics
///
/// Not by itself. A panic that ends the input goes on in the receive that would otherwise see the
/// end of the output.
///
/// ```
/// use goby::{Context, pattern};
/// use std::time::Duration;
///
/// let (ctx, _cancel) = Context::background().with_cancel();
/// let keys = pattern::source(&ctx, "gopher".chars().collect::<Vec<_>>());
/// let settled = pattern::debounce(&ctx, keys, Duration::from_secs(10));
/// assert_eq!(settled.iter().collect::<String>(), "r");
/// ```
///
/// In Go, for integers:
///
/// ```go
/// var last int
/// var due <-chan time.Time // nil: nothing to send
/// var send chan<- int      // nil: not yet quiet
/// for {
///     select {
///     case v, ok := <-in:
///         if !ok {
///             // Send the last one, and end.
///         }
///         last, send, due = v, nil, time.After(quiet)
///     case <-due:
///         send, due = out, nil
///     case send <- last:
///         send = nil
///     case <-ctx.Done():
///         return
///     }
/// }
/// ```
#[track_caller]
pub fn debounce<T: Send + 'static>(ctx: &Context, input: Receiver<T>, quiet: Duration) -> Receiver<T> {
    // Without room, so that a value that was not received can be replaced.
    let (producer, settled) = Group::new(ctx).output(0);
    producer.start(Location::caller(), move |producer| {
        _ = producer.guard(|| {
            while let Some(value) = producer.next(&input) {
                if !settle(&producer, &input, value, quiet) {
                    return;
                }
            }
        });
    });
    settled
}

/// Sends `value` or the last one that follows it. Returns whether there is a reason to go on.
fn settle<T: Send>(producer: &Producer<T>, input: &Receiver<T>, mut value: T, quiet: Duration) -> bool {
    let done = producer.ctx().done();
    loop {
        select! {
            recv(input) -> next => match next {
                Ok(next) => { value = next; continue }
                Err(_) => { producer.put(value); return false }
            },
            recv(done) -> _ => return false,
            default(quiet) => {}
        }
        let mut settled = Some(value);
        select! {
            send(producer.sender(), ref settled) -> sent => return sent.is_ok(),
            recv(input) -> next => match (next, settled) {
                (Ok(next), _) => value = next,
                (Err(_), Some(last)) => { producer.put(last); return false }
                (Err(_), None) => return false,
            },
            recv(done) -> _ => return false,
        }
    }
}

/// Returns the time left until `due`; forever if that is beyond the clock.
fn until(due: Option<Instant>) -> Duration {
    due.map_or(Duration::MAX, |due| due.saturating_duration_since(goby_runtime::now()))
}
