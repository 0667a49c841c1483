//! Stages put one behind the other.

use std::time::Duration;

use super::{batch, par_map, pool, source, worker_pool};
use crate::chan::{self, Receiver};
use crate::context::Context;

/// A chain of stages, each with goroutines of its own, all under one context.
///
/// It is shorthand: each stage is one of this module's functions, and its input is the output of
/// the stage before. So the promises of those functions hold for the whole:
///
/// - It ends, from the source on, when the context is done or the last receiver of its output is
///   dropped.
/// - A panic in any stage comes out at the end.
/// - A slow stage slows down the stages before it.
///
/// ```
/// use goby::{Context, pattern::Pipeline};
///
/// let (ctx, _cancel) = Context::background().with_cancel();
/// let lengths: usize = Pipeline::new(&ctx, vec!["so long", "and thanks", "for all the fish"])
///     .flat_map(2, |line| line.split(' ').map(str::to_owned).collect::<Vec<_>>())
///     .stage(4, |word| word.len())
///     .into_iter()
///     .sum();
/// assert_eq!(lengths, 28);
/// ```
///
/// In Go, with one function per stage (`go.dev/blog/pipelines`):
///
/// ```go
/// lines := source(ctx, input)
/// words := split(ctx, lines, 2)
/// lengths := lengths(ctx, words, 4)
/// for length := range lengths {
///     sum += length
/// }
/// ```
#[derive(Debug)]
#[must_use = "a pipeline that nobody receives from stops"]
pub struct Pipeline<T> {
    ctx: Context,
    output: Receiver<T>,
}

impl<T: Send + 'static> Pipeline<T> {
    /// Begins with the values of an iterator: a [`source`].
    ///
    /// ```
    /// use goby::{Context, pattern::Pipeline};
    ///
    /// assert_eq!(Pipeline::new(&Context::background(), 0..3).into_iter().count(), 3);
    /// ```
    #[track_caller]
    pub fn new<I>(ctx: &Context, values: I) -> Pipeline<T>
    where
        I: IntoIterator<Item = T> + Send + 'static,
    {
        Pipeline { ctx: ctx.clone(), output: source(ctx, values) }
    }

    /// Begins with the values of a channel.
    ///
    /// ```
    /// use goby::{Context, chan, pattern::Pipeline};
    ///
    /// let (tx, rx) = chan::bounded(1);
    /// tx.send(20)?;
    /// drop(tx);
    /// let doubled = Pipeline::from_receiver(&Context::background(), rx).stage(1, |v| 2 * v);
    /// assert_eq!(doubled.into_iter().collect::<Vec<_>>(), [40]);
    /// # Ok::<(), chan::SendError<i32>>(())
    /// ```
    pub fn from_receiver(ctx: &Context, input: Receiver<T>) -> Pipeline<T> {
        Pipeline { ctx: ctx.clone(), output: input }
    }

    /// Applies `f`, up to `n` values at a time. Results come as they are done. This is a
    /// [`worker_pool`].
    ///
    /// ```
    /// use goby::{Context, pattern::Pipeline};
    ///
    /// let squares = Pipeline::new(&Context::background(), 1..=3).stage(8, |v| v * v);
    /// assert_eq!(squares.into_iter().sum::<i32>(), 14);
    /// ```
    ///
    /// # Panics
    ///
    /// If `n` is 0.
    #[track_caller]
    pub fn stage<R, F>(self, n: usize, f: F) -> Pipeline<R>
    where
        R: Send + 'static,
        F: Fn(T) -> R + Send + Sync + 'static,
    {
        Pipeline { output: worker_pool(&self.ctx, self.output, n, f), ctx: self.ctx }
    }

    /// Applies `f`, up to `n` values at a time. Results keep the order. This is a [`par_map`].
    ///
    /// ```
    /// use goby::{Context, pattern::Pipeline};
    ///
    /// let squares = Pipeline::new(&Context::background(), 1..=3).ordered_stage(8, |v| v * v);
    /// assert_eq!(squares.into_iter().collect::<Vec<_>>(), [1, 4, 9]);
    /// ```
    ///
    /// # Panics
    ///
    /// If `n` is 0.
    #[track_caller]
    pub fn ordered_stage<R, F>(self, n: usize, f: F) -> Pipeline<R>
    where
        R: Send + 'static,
        F: Fn(T) -> R + Send + Sync + 'static,
    {
        Pipeline { output: par_map(&self.ctx, self.output, n, f), ctx: self.ctx }
    }

    /// Applies `f`, up to `n` values at a time, and passes on each value of what `f` returns: a
    /// `Vec`, an iterator or, to filter, an `Option`.
    ///
    /// ```
    /// use goby::{Context, pattern::Pipeline};
    ///
    /// let even = Pipeline::new(&Context::background(), 1..=3).flat_map(1, |v| (v % 2 == 0).then_some(v));
    /// assert_eq!(even.into_iter().collect::<Vec<_>>(), [2]);
    /// ```
    ///
    /// # Panics
    ///
    /// If `n` is 0.
    #[track_caller]
    pub fn flat_map<I, F>(self, n: usize, f: F) -> Pipeline<I::Item>
    where
        I: IntoIterator,
        I::Item: Send + 'static,
        F: Fn(T) -> I + Send + Sync + 'static,
    {
        let output = pool::start(&self.ctx, self.output, n, f, |out, items| {
            items.into_iter().all(|item| out.put(item) && !out.ctx().is_done())
        });
        Pipeline { output, ctx: self.ctx }
    }

    /// Collects values into batches: a [`batch`](batch()).
    ///
    /// ```
    /// use goby::{Context, pattern::Pipeline};
    /// use std::time::Duration;
    ///
    /// let pairs = Pipeline::new(&Context::background(), 1..=4).batch(2, Duration::from_secs(10));
    /// assert_eq!(pairs.into_iter().collect::<Vec<_>>(), [[1, 2], [3, 4]]);
    /// ```
    ///
    /// # Panics
    ///
    /// If `size` is 0.
    #[track_caller]
    pub fn batch(self, size: usize, wait: Duration) -> Pipeline<Vec<T>> {
        Pipeline { output: batch(&self.ctx, self.output, size, wait), ctx: self.ctx }
    }

    /// Returns the receiver of the last stage's output, for a `select!` say.
    ///
    /// ```
    /// use goby::{Context, pattern::Pipeline};
    ///
    /// assert_eq!(Pipeline::new(&Context::background(), [7]).into_receiver().recv(), Ok(7));
    /// ```
    pub fn into_receiver(self) -> Receiver<T> {
        self.output
    }
}

impl<T> IntoIterator for Pipeline<T> {
    type Item = T;
    type IntoIter = chan::IntoIter<T>;

    fn into_iter(self) -> chan::IntoIter<T> {
        self.output.into_iter()
    }
}
