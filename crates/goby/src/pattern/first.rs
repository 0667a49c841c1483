//! The first of several.

use std::error::Error;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};

use crate::chan::{self, Receiver, RecvError, SendError};
use crate::context::{Context, ContextError};
use crate::select;

/// Runs all tasks at the same time and returns the result of the one that ends first.
///
/// The context of the others is then canceled. `first` does not wait for them: each ends when it
/// looks at its context, and its result is dropped. So the same request can be sent to several
/// servers.
///
/// # Blocking
///
/// Parks the goroutine, or puts the OS thread to sleep, until one task has ended or `ctx` is done.
///
/// # Errors
///
/// If `ctx` is done before. If it is done already, no task is begun.
///
/// # Panics
///
/// If there are no tasks, or all ended by `goexit`: then none is the first. If the first task that
/// ends does so by a panic, with that panic. A later panic is reported as that of a goroutine that
/// nobody joins.
///
/// ```
/// use goby::{Context, pattern, time};
/// use std::time::Duration;
///
/// let ask = |ms: u64| move |ctx: &Context| time::sleep_ctx(ctx, Duration::from_millis(ms)).map(|()| ms);
/// let fastest = pattern::first(&Context::background(), [ask(60_000), ask(1), ask(90_000)]);
/// assert_eq!(fastest, Ok(Ok(1)));
/// ```
///
/// In Go:
///
/// ```go
/// ctx, cancel := context.WithCancel(ctx)
/// defer cancel()
/// results := make(chan int, len(tasks)) // with room for all, or the losers would never end
/// for _, task := range tasks {
///     go func() { results <- task(ctx) }()
/// }
/// select {
/// case result := <-results:
///     return result, nil
/// case <-ctx.Done():
///     return 0, ctx.Err()
/// }
/// ```
#[track_caller]
pub fn first<R, F>(ctx: &Context, tasks: impl IntoIterator<Item = F>) -> Result<R, ContextError>
where
    R: Send + 'static,
    F: FnOnce(&Context) -> R + Send + 'static,
{
    let (ctx, _cancel) = ctx.with_cancel();
    let (results, n_tasks) = start(&ctx, tasks)?;
    let result = next(&ctx, &results)?;
    Ok(result.unwrap_or_else(|| match n_tasks {
        0 => panic!("pattern: the first of no tasks never comes"),
        _ => panic!("pattern: no task returned, so none was the first with a result: all ended by goexit, or their runtime was dropped"),
    }))
}

/// Runs all tasks at the same time and returns the result of the first that succeeds, or the errors
/// of all.
///
/// As [`first`] does, it cancels the others and does not wait for them.
///
/// # Blocking
///
/// Parks the goroutine, or puts the OS thread to sleep, until one task has succeeded, all have
/// failed, or `ctx` is done.
///
/// # Errors
///
/// [`FirstError::Failed`] with the errors in the order in which they came; [`FirstError::Exited`]
/// if errors are missing because a task ended by `goexit`; or [`FirstError::Context`].
///
/// # Panics
///
/// If a task ends by a panic before one has succeeded, with that panic.
///
/// ```
/// use goby::{Context, pattern};
///
/// let parse = |word: &'static str| move |_: &Context| word.parse::<u32>();
/// let number = pattern::first_ok(&Context::background(), [parse("one"), parse("2")]);
/// assert_eq!(number.unwrap(), 2);
/// ```
///
/// In Go, with tasks that give a value and an error:
///
/// ```go
/// var errs []error
/// for range tasks {
///     select {
///     case result := <-results:
///         if result.err == nil {
///             return result.value, nil
///         }
///         errs = append(errs, result.err)
///     case <-ctx.Done():
///         return 0, ctx.Err()
///     }
/// }
/// return 0, errors.Join(errs...)
/// ```
#[doc(alias = "select_ok")]
#[track_caller]
pub fn first_ok<R, E, F>(ctx: &Context, tasks: impl IntoIterator<Item = F>) -> Result<R, FirstError<E>>
where
    R: Send + 'static,
    E: Send + 'static,
    F: FnOnce(&Context) -> Result<R, E> + Send + 'static,
{
    let (ctx, _cancel) = ctx.with_cancel();
    let (results, n_tasks) = start(&ctx, tasks).map_err(FirstError::Context)?;
    let mut errors = vec![];
    loop {
        match next(&ctx, &results).map_err(FirstError::Context)? {
            Some(Ok(result)) => return Ok(result),
            Some(Err(error)) => errors.push(error),
            None if errors.len() < n_tasks => return Err(FirstError::Exited(errors)),
            None => return Err(FirstError::Failed(errors)),
        }
    }
}

/// How a task ends.
type Ending<R> = std::thread::Result<R>;

/// Starts the tasks, unless `ctx` is done, and counts them. Their endings come through a
/// rendezvous, so that none is lost: an ending that nobody takes comes back. A task that ended by
/// `goexit` has no ending.
#[track_caller]
fn start<R, F>(ctx: &Context, tasks: impl IntoIterator<Item = F>) -> Result<(Receiver<Ending<R>>, usize), ContextError>
where
    R: Send + 'static,
    F: FnOnce(&Context) -> R + Send + 'static,
{
    if let Some(error) = ctx.err() {
        return Err(error);
    }
    let (tx, endings) = chan::bounded(0);
    let mut n_tasks = 0;
    for task in tasks {
        n_tasks += 1;
        let (ctx, tx) = (ctx.clone(), tx.clone());
        goby_runtime::go(move || {
            // Unwind safe: the task is used up.
            let ending = panic::catch_unwind(AssertUnwindSafe(|| task(&ctx)));
            if matches!(&ending, Err(payload) if goby_runtime::is_goexit(&**payload)) {
                return;
            }
            if let Err(SendError(Err(payload))) = tx.send(ending) {
                panic::resume_unwind(payload);
            }
        });
    }
    Ok((endings, n_tasks))
}

/// Waits for the next ending; returns `None` when all have ended.
fn next<R>(ctx: &Context, endings: &Receiver<Ending<R>>) -> Result<Option<R>, ContextError>
where
    R: Send,
{
    let ending = select! {
        recv(endings) -> ending => ending,
        recv(ctx.done()) -> _ => return Err(ctx.err().expect("it is done")),
    };
    match ending {
        Ok(Ok(result)) => Ok(Some(result)),
        Ok(Err(payload)) => panic::resume_unwind(payload),
        Err(RecvError) => Ok(None),
    }
}

/// Why [`first_ok`] has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirstError<E> {
    /// All tasks have failed, with these errors.
    Failed(Vec<E>),
    /// No task has succeeded: some have failed, with these errors, and the others ended by
    /// `goexit`.
    Exited(Vec<E>),
    /// The context is done.
    Context(ContextError),
}

impl<E: fmt::Display> fmt::Display for FirstError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errors = match self {
            FirstError::Failed(errors) => {
                write!(f, "all {} tasks failed", errors.len())?;
                errors
            }
            FirstError::Exited(errors) => {
                write!(f, "{} tasks failed, the others did not return", errors.len())?;
                errors
            }
            FirstError::Context(error) => return error.fmt(f),
        };
        for (i, error) in errors.iter().enumerate() {
            write!(f, "{} {error}", if i == 0 { ":" } else { ";" })?;
        }
        Ok(())
    }
}

impl<E: fmt::Debug + fmt::Display> Error for FirstError<E> {}
