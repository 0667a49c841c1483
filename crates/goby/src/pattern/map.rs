//! Maps that keep the order of their input.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::order::{Order, Ticket};
use super::output::{Group, Producer};
use crate::chan::Receiver;
use crate::context::Context;

/// Applies `f` to each value of the input, up to `n` at a time, and gives the results in the order
/// of the input.
///
/// The output closes when the input has closed and all is done. It stops sooner when `ctx` is done,
/// or when its last receiver is dropped; a value that was begun is then finished and its result
/// dropped. A slow value holds up the results of the values behind it. It does not hold up their
/// work until `n` results wait for it. For values of an iterator, begin with
/// [`source`](super::source).
///
/// Each value gets a goroutine of its own. It goes to a worker that has room.
///
/// # Panics
///
/// If `n` is 0. After a panic of `f` no further value is begun. The results of the values before
/// come out, then the panic goes on in the receive. (A value for which `f` ends by `goexit` is
/// [left out](super#a-job-that-ends-by-goexit): those behind it move up.)
///
/// ```
/// use goby::{Context, pattern, time};
/// use std::time::Duration;
///
/// let (ctx, _cancel) = Context::background().with_cancel();
/// let input = pattern::source(&ctx, 0..10);
/// let squares = pattern::par_map(&ctx, input, 4, |v| {
///     time::sleep(Duration::from_millis(10 - v));
///     v * v
/// });
/// assert_eq!(squares.iter().collect::<Vec<_>>(), [0, 1, 4, 9, 16, 25, 36, 49, 64, 81]);
/// ```
///
/// In Go, and without the part about panics:
///
/// ```go
/// pending, out := make(chan chan int, n), make(chan int)
/// go func() {
///     defer close(pending)
///     for v := range in {
///         result := make(chan int, 1)
///         select {
///         case pending <- result: // in order; waits while n are there
///             go func() { result <- f(v) }()
///         case <-ctx.Done():
///             return
///         }
///     }
/// }()
/// go func() {
///     defer close(out)
///     for result := range pending {
///         select {
///         case out <- <-result:
///         case <-ctx.Done():
///             return
///         }
///     }
/// }()
/// ```
#[doc(alias = "buffered")]
#[track_caller]
pub fn par_map<T, R, F>(ctx: &Context, input: Receiver<T>, n: usize, f: F) -> Receiver<R>
where
    T: Send + 'static,
    R: Send + 'static,
    F: Fn(T) -> R + Send + Sync + 'static,
{
    map(ctx, input, n, OnExit::LeaveOut, move |_, value| (f(value), Then::GoOn))
}

/// Applies `f` as [`par_map`] does, until it fails. The first error, in the order of the input, is
/// the last result.
///
/// After an error no further value is begun. The results of the values before come out, then the
/// error, then the output closes. So a `collect` into a `Result` gives what a loop would give. The
/// context that `f` gets is done when the result is of no use any more: behind an error that has
/// come out, when `ctx` is done, or when nobody receives.
///
/// # Panics
///
/// As [`par_map`]. If `f` ended its goroutine by `goexit` for a value, and no error has come out,
/// the receive that would find the end panics and says so. A `collect` never gives `Ok` with a
/// value missing.
///
/// ```
/// use goby::{Context, pattern};
///
/// let (ctx, _cancel) = Context::background().with_cancel();
/// let parse = |words: Vec<&'static str>| {
///     let input = pattern::source(&ctx, words);
///     let numbers = pattern::try_par_map(&ctx, input, 4, |_ctx, word| word.parse::<u32>());
///     numbers.iter().collect::<Result<Vec<_>, _>>()
/// };
/// assert_eq!(parse(vec!["1", "2", "3"]), Ok(vec![1, 2, 3]));
/// assert!(parse(vec!["1", "two", "3"]).is_err());
/// ```
///
/// In Go, where the results are complete before they can be used:
///
/// ```go
/// g, ctx := errgroup.WithContext(ctx)
/// g.SetLimit(n)
/// results := make([]int, len(values))
/// for i, v := range values {
///     g.Go(func() (err error) {
///         results[i], err = f(ctx, v)
///         return err
///     })
/// }
/// return results, g.Wait()
/// ```
#[doc(alias = "try_buffered")]
#[track_caller]
pub fn try_par_map<T, R, E, F>(ctx: &Context, input: Receiver<T>, n: usize, f: F) -> Receiver<Result<R, E>>
where
    T: Send + 'static,
    R: Send + 'static,
    E: Send + 'static,
    F: Fn(&Context, T) -> Result<R, E> + Send + Sync + 'static,
{
    map(ctx, input, n, OnExit::Report, move |ctx, value| {
        let result = f(ctx, value);
        let then = if result.is_ok() { Then::GoOn } else { Then::End };
        (result, then)
    })
}

/// What follows a result.
#[derive(PartialEq, Eq)]
enum Then {
    GoOn,
    End,
}

/// What happens to a value for which the function has ended its goroutine.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnExit {
    /// It has no result.
    LeaveOut,
    /// It has no result, and the receive that would see the end of the output reports that.
    Report,
}

/// What the goroutines of a map share. The last goroutine drops it, and so closes the output.
struct Map<R, F> {
    f: F,
    output: Producer<R>,
    order: Order,
    /// Whether a value is known behind which nothing is wanted. Relaxed: it orders nothing, and a
    /// goroutine that sees it late has begun one value more.
    ending: AtomicBool,
    on_exit: OnExit,
}

#[track_caller]
fn map<T, R, F>(ctx: &Context, input: Receiver<T>, n: usize, on_exit: OnExit, f: F) -> Receiver<R>
where
    T: Send + 'static,
    R: Send + 'static,
    F: Fn(&Context, T) -> (R, Then) + Send + Sync + 'static,
{
    assert!(n > 0, "pattern: a map that does nothing at a time never gives a result");
    let (output, receiver) = Group::new(ctx).output(n);
    let map = Arc::new(Map { f, output, order: Order::new(n), ending: AtomicBool::new(false), on_exit });
    let started_at = std::panic::Location::caller();
    let lead = move |map: Arc<Map<R, F>>| {
        _ = map.output.guard(|| {
            while let Ok(ticket) = map.order.enter(map.output.ctx()) {
                let Some(value) = map.output.next(&input) else { return };
                if map.ending.load(Ordering::Relaxed) {
                    return;
                }
                let apply = move |map: Arc<Map<R, F>>| map.apply(value, ticket);
                goby_runtime::go_owing(started_at, map.clone(), apply, |map| map.output.never_ran());
            }
        });
    };
    goby_runtime::go_owing(started_at, map, lead, |map| map.output.never_ran());
    receiver
}

impl<R, F> Map<R, F> {
    fn apply<T>(&self, value: T, mut ticket: Ticket)
    where
        F: Fn(&Context, T) -> (R, Then),
    {
        let ctx = self.output.ctx();
        // Unwind safe: as in `Producer::guard`.
        let result = panic::catch_unwind(AssertUnwindSafe(|| (self.f)(ctx, value)));
        let ends = match &result {
            Ok((_, then)) => *then == Then::End,
            Err(payload) => !goby_runtime::is_goexit(&**payload),
        };
        if ends {
            self.ending.store(true, Ordering::Relaxed);
        }
        ticket.wait();
        match result {
            Err(payload) if !goby_runtime::is_goexit(&*payload) => self.output.fail(payload),
            // Once a result was left out no later one may come.
            _ if ctx.is_done() => {}
            Err(_) if self.on_exit == OnExit::Report => self.output.miss(true),
            Err(_) => {}
            Ok((result, then)) => {
                let is_error = then == Then::End;
                if is_error {
                    // The receiver of the error does not take the results for complete.
                    self.output.miss(false);
                }
                if !self.output.put(result) || is_error {
                    self.output.finish();
                }
            }
        }
    }
}
