//! From an iterator to a channel.

use std::panic::Location;

use super::output::{Group, READY};
use crate::chan::Receiver;
use crate::context::Context;

/// Starts a goroutine that sends the values of an iterator: the other patterns begin with this.
///
/// The output closes when there are no more values. It stops sooner when `ctx` is done, or when its
/// last receiver is dropped. So the iterator may be endless, and it may block. Up to 16 values are
/// made ahead.
///
/// # Panics
///
/// Not by itself. A panic of the iterator goes on in the receive that would otherwise see the end
/// of the output. (An iterator that ends its goroutine by `goexit` gives no more values.)
///
/// ```
/// use goby::{Context, pattern};
///
/// let (ctx, _cancel) = Context::background().with_cancel();
/// let numbers = pattern::source(&ctx, 1..);
/// assert_eq!(numbers.iter().take(3).sum::<u64>(), 6);
/// ```
///
/// In Go:
///
/// ```go
/// out := make(chan int, 16)
/// go func() {
///     defer close(out)
///     for v := range values {
///         select {
///         case out <- v:
///         case <-ctx.Done():
///             return
///         }
///     }
/// }()
/// ```
#[track_caller]
pub fn source<I>(ctx: &Context, values: I) -> Receiver<I::Item>
where
    I: IntoIterator + Send + 'static,
    I::Item: Send + 'static,
{
    let (producer, out) = Group::new(ctx).output(READY);
    producer.start(Location::caller(), move |producer| {
        _ = producer.guard(|| {
            let mut values = values.into_iter();
            while !producer.ctx().is_done() && values.next().is_some_and(|value| producer.put(value)) {}
        });
    });
    out
}
