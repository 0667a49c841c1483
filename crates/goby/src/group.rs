//! Groups: goroutines that work on parts of one task. The first error cancels the context of a
//! group that has one ([`Group::with_context`]), and so stops the goroutines that look at it.
//!
//! Go's `golang.org/x/sync/errgroup`, with results. A goroutine of a group returns `Result<T, E>`.
//! The kind of wait decides what the group makes of it:
//!
//! | | results | errors | as in |
//! |---|---|---|---|
//! | [`Group::wait`] | all, in the order of submission | the first one, instead of the results | `errgroup.Wait` |
//! | [`Group::wait_all`] | each in its place | each in its place | conc's pools, a parallel map |
//! | [`Group::results`] | as they come | as they come | a results channel |
//!
//! The type of error is the group's own, so that `?` works in its goroutines. It is anything that
//! can become a boxed error, such as `io::Error`, `Box<dyn Error + Send + Sync>` or `&str`. The
//! wait returns a [`Cause`]: the same shared error that the group's context has as its cause. (`let
//! (group, ctx): (Group<u64>, _) = …` is a group with results that uses `?`; `let group: Group = …`
//! is a group without results, in which goroutines may fail with any error, boxed.)

//   go ── permit, count ──▶ goroutine ── first error, cancel ── outcome ──▶ finished ── permit, count ──▶ wait
//
// `finished` is an unbounded channel of outcomes, each with its number. A caller that wants an
// outcome first *claims* it, from the count of those that nobody has claimed. Then the outcome is
// there, or on its way. So no two callers wait for one outcome.

use std::error::Error;
use std::fmt;
use std::marker::PhantomData;
use std::panic::{self, AssertUnwindSafe, Location, RefUnwindSafe, UnwindSafe};
use std::sync::{Arc, OnceLock};

use goby_runtime::{Debt, Decision, Gate, Goexit, NeverRan, Scope, WaitReason};
use parking_lot::Mutex;

use crate::chan::{self, Receiver, Sender};
use crate::context::{CancelCauseGuard, Cause, Context, cause_of};
use crate::sync::{FirstPanic, Permit, Semaphore};

/// A set of goroutines to wait for together. Go: `errgroup.Group`.
///
/// It is a handle: clones are the same group. Dropping it does not stop its goroutines.
///
/// After a panic in a goroutine of the group a wait never returns as if all were well. The panic
/// stops the others as an error does. [`wait`](Group::wait) and [`wait_all`](Group::wait_all) raise
/// it again, and so does [`results`](Group::results) where it would end. If nobody waits any more,
/// the panic is printed, as for a goroutine that nobody joins.
///
/// A goroutine of the group that ends by [`goexit`](crate::goexit) has returned nothing: the error
/// [`Goexit`] stands in its place. It stops nobody, and is not the cause of the group's context.
/// The same holds for a goroutine that never ran, because its runtime was dropped; its error is
/// [`NeverRan`].
///
/// ```
/// use goby::{Context, group::Group};
///
/// # fn search(_: &Context, kind: &str) -> std::io::Result<String> { Ok(format!("{kind} results")) }
/// let (group, ctx) = Group::with_context(&Context::background());
/// for kind in ["web", "image", "video"] {
///     let ctx = ctx.clone();
///     group.go(move || search(&ctx, kind));
/// }
/// assert_eq!(group.wait()?, ["web results", "image results", "video results"]);
/// # Ok::<(), goby::context::Cause>(())
/// ```
#[doc(alias("errgroup", "errgroup.Group", "JoinSet", "TaskTracker"))]
pub struct Group<T = (), E = Box<dyn Error + Send + Sync>> {
    inner: Arc<Inner<T>>,
    /// The error type only goes in, by way of the closures.
    error: PhantomData<fn(E)>,
}

struct Inner<T> {
    count: Gate<Count>,
    /// The limit of how many may run at a time.
    limit: Mutex<Option<Semaphore>>,
    /// An outcome for each goroutine that has ended.
    finished: (Sender<Finished<T>>, Receiver<Finished<T>>),
    first_error: OnceLock<Cause>,
    panic: FirstPanic,
    /// Cancels the group's context. The first error or panic takes it, or the first wait that
    /// returns.
    cancel: Mutex<Option<CancelCauseGuard>>,
}

#[derive(Default)]
struct Count {
    /// How many goroutines were submitted so far: the number of the next one.
    submitted: usize,
    /// How many goroutines have not ended.
    running: usize,
    /// How many outcomes, sent or yet to be sent, nobody has claimed.
    unclaimed: usize,
}

struct Finished<T> {
    number: usize,
    /// `None` if the goroutine panicked; the group keeps the panic.
    result: Option<Result<T, Cause>>,
}

impl<T, E> Group<T, E> {
    /// Makes a group without a context of its own and without a limit. Go: `new(errgroup.Group)`.
    ///
    /// ```
    /// use goby::group::Group;
    /// let group: Group = Group::new();
    /// group.go(|| {
    ///     let n: u32 = "12".parse()?;
    ///     assert_eq!(n, 12);
    ///     Ok(())
    /// });
    /// assert!(group.wait().is_ok());
    /// ```
    pub fn new() -> Group<T, E> {
        Group::canceling(None)
    }

    /// Makes a group and a context below `ctx`. The context is done when a goroutine of the group
    /// fails or panics, otherwise when the first wait for the group returns. Go:
    /// `errgroup.WithContext`.
    ///
    /// The first error is the cause of that context. Pass the context on to what the goroutines
    /// call, so that it stops them.
    ///
    /// Where goroutines use `?`, the type of the results has to be written down:
    ///
    /// ```
    /// use goby::{Context, group::Group};
    /// use std::time::Duration;
    ///
    /// let (group, ctx): (Group, _) = Group::with_context(&Context::background());
    /// group.go(move || Ok(goby::time::sleep_ctx(&ctx, Duration::from_millis(1))?));
    /// group.wait()?;
    /// # Ok::<(), goby::context::Cause>(())
    /// ```
    ///
    /// ```
    /// use goby::{Context, group::Group};
    /// use std::sync::Arc;
    ///
    /// let (group, ctx) = Group::<(), &str>::with_context(&Context::background());
    /// let watched = ctx.clone();
    /// group.go(move || Ok(_ = watched.done().recv())); // Ends only because the other fails.
    /// group.go(|| Err("no such host"));
    /// let error = group.wait().unwrap_err();
    /// assert_eq!(error.to_string(), "no such host");
    /// assert!(Arc::ptr_eq(&error, &ctx.cause().unwrap()));
    /// ```
    #[doc(alias("errgroup.WithContext", "WithContext"))]
    pub fn with_context(ctx: &Context) -> (Group<T, E>, Context) {
        let (ctx, cancel) = ctx.with_cancel_cause();
        (Group::canceling(Some(cancel)), ctx)
    }

    fn canceling(cancel: Option<CancelCauseGuard>) -> Group<T, E> {
        let inner = Inner {
            count: Gate::new(Count::default()),
            limit: Mutex::new(None),
            finished: chan::unbounded(),
            first_error: OnceLock::new(),
            panic: FirstPanic::default(),
            cancel: Mutex::new(cancel),
        };
        Group { inner: Arc::new(inner), error: PhantomData }
    }

    /// Sets how many goroutines of the group may run at a time; `None` means any number. With 0
    /// none may be started. Go: `SetLimit`.
    ///
    /// Default: any number.
    ///
    /// # Panics
    ///
    /// If goroutines of the group are running.
    ///
    /// ```
    /// let group: goby::group::Group = goby::group::Group::new();
    /// group.set_limit(2);
    /// group.set_limit(None);
    /// ```
    #[doc(alias = "SetLimit")]
    pub fn set_limit(&self, limit: impl Into<Option<usize>>) {
        let semaphore = limit.into().map(Semaphore::new);
        let running = self.inner.count.with(|count, _| count.running);
        assert!(running == 0, "group: limit changed while {running} goroutines of the group are running");
        *self.inner.limit.lock() = semaphore;
    }
}

impl<T, E> Group<T, E>
where
    T: Send,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    /// Runs `f` in a new goroutine of the group. Go: `Go`.
    ///
    /// # Blocking
    ///
    /// Waits while as many goroutines run as the limit allows. Waits forever if the limit allows
    /// none.
    ///
    /// ```
    /// use goby::group::Group;
    /// let group = Group::new();
    /// group.set_limit(2);
    /// for n in 0..10 {
    ///     group.go(move || if n < 10 { Ok(n * n) } else { Err("too large") });
    /// }
    /// assert_eq!(group.wait().unwrap().iter().sum::<u32>(), 285);
    /// ```
    #[doc(alias("errgroup.Go", "Group.Go"))]
    #[track_caller]
    pub fn go<F>(&self, f: F)
    where
        F: FnOnce() -> Result<T, E> + Send + 'static,
        T: 'static,
    {
        goby_runtime::checkpoint();
        let member = self.member(self.acquire());
        goby_runtime::go_owing(Location::caller(), member, |member| member.run(f), Member::never_run);
    }

    /// Runs `f` in a new goroutine of the group, unless as many run as the limit allows. Go:
    /// `TryGo`.
    ///
    /// ```
    /// let group: goby::group::Group = goby::group::Group::new();
    /// group.set_limit(0);
    /// let refused = group.try_go(|| Ok(())).unwrap_err();
    /// assert_eq!(refused.to_string(), "the group's limit of goroutines is reached");
    /// assert!(refused.into_inner()().is_ok(), "the closure itself");
    /// ```
    ///
    /// # Errors
    ///
    /// [`TryGoError`] with the closure, when the limit is reached.
    #[doc(alias("errgroup.TryGo", "TryGo"))]
    #[track_caller]
    pub fn try_go<F>(&self, f: F) -> Result<(), TryGoError<F>>
    where
        F: FnOnce() -> Result<T, E> + Send + 'static,
        T: 'static,
    {
        goby_runtime::checkpoint();
        let limit = self.inner.limit.lock().clone();
        let permit = match limit {
            None => None,
            Some(limit) => match limit.try_acquire(1) {
                None => return Err(TryGoError { closure: f }),
                permit => permit,
            },
        };
        let member = self.member(permit);
        goby_runtime::go_owing(Location::caller(), member, |member| member.run(f), Member::never_run);
        Ok(())
    }

    /// Runs `f` in a new goroutine of the group that may borrow from outside the scope `s`.
    ///
    /// The scope waits for it in any case; the group says how it went.
    ///
    /// ```
    /// use goby::group::Group;
    /// let words = [String::from("go"), String::from("by")];
    /// let lengths = goby::scope(|s| {
    ///     let group = Group::<_, std::fmt::Error>::new();
    ///     for word in &words {
    ///         group.go_in(s, || Ok(word.len()));
    ///     }
    ///     group.wait()
    /// });
    /// assert_eq!(lengths?, [2, 2]);
    /// # Ok::<(), goby::context::Cause>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// As [`go`](Group::go).
    #[track_caller]
    pub fn go_in<'scope, F>(&self, s: &'scope Scope<'scope, '_>, f: F)
    where
        F: FnOnce() -> Result<T, E> + Send + 'scope,
        T: 'scope,
    {
        let member = self.member(self.acquire());
        let debt = Debt::new(member, |member: Member<T>| member.run(f), Member::never_run);
        s.go(move || debt.pay());
    }

    /// Waits until all goroutines of the group have ended. Returns their results, in the order in
    /// which they were started, or the first error. Go: `Wait`.
    ///
    /// The group can be used again. Results are returned once; the first error is returned by every
    /// wait from then on.
    ///
    /// # Blocking
    ///
    /// Parks the goroutine, or puts the OS thread to sleep. A goroutine of the group must not wait
    /// for the group.
    ///
    /// # Errors
    ///
    /// The first error that a goroutine of the group returned, otherwise [`Goexit`] or [`NeverRan`]
    /// if one did not return. The results are dropped then. If they matter, call
    /// [`wait_all`](Group::wait_all).
    ///
    /// # Panics
    ///
    /// If a goroutine of the group panicked: the first wait raises that panic again, later ones
    /// repeat its message.
    ///
    /// ```
    /// let group: goby::group::Group = goby::group::Group::new();
    /// group.go(|| panic!("no such file"));
    /// let panic = std::panic::catch_unwind(|| group.wait()).unwrap_err();
    /// assert_eq!(panic.downcast_ref(), Some(&"no such file"));
    /// ```
    #[doc(alias("errgroup.Wait", "try_join_all", "join_all"))]
    pub fn wait(&self) -> Result<Vec<T>, Cause> {
        let results = self.wait_all();
        match self.inner.first_error.get() {
            Some(error) => Err(error.clone()),
            None => results.into_iter().collect(),
        }
    }

    /// Waits until all goroutines of the group have ended. Returns what each has returned, in the
    /// order in which they were started.
    ///
    /// An outcome that was given once, by this or another wait, is not given again.
    ///
    /// # Blocking
    ///
    /// As [`wait`](Group::wait).
    ///
    /// # Panics
    ///
    /// As [`wait`](Group::wait).
    ///
    /// ```
    /// let group = goby::group::Group::new();
    /// for text in ["1", "two", "3"] {
    ///     group.go(|| text.parse::<u8>());
    /// }
    /// let numbers = group.wait_all();
    /// assert_eq!(numbers[0].as_ref().unwrap(), &1);
    /// assert_eq!(numbers[1].as_ref().unwrap_err().to_string(), "invalid digit found in string");
    /// assert_eq!(numbers[2].as_ref().unwrap(), &3);
    /// ```
    pub fn wait_all(&self) -> Vec<Result<T, Cause>> {
        goby_runtime::checkpoint();
        self.inner.count.wait(WaitReason::WaitGroupWait, None, |count, _| Decision::ready_if(count.running == 0));
        let cancel = self.inner.cancel.lock().take();
        drop(cancel);
        let n = self.inner.count.with(|count, _| std::mem::take(&mut count.unclaimed));
        let mut finished: Vec<_> = (0..n).map(|_| self.inner.next_finished()).collect();
        self.inner.panic.raise();
        finished.sort_unstable_by_key(|finished| finished.number);
        finished.into_iter().filter_map(|finished| finished.result).collect()
    }

    /// Iterates over what the goroutines of the group return, in the order in which they end.
    ///
    /// Each outcome is given once: of several iterators, or an iterator and a wait, one gets it.
    /// The iterator ends when all goroutines that were started until then have ended and were
    /// given. So start one before you iterate.
    ///
    /// ```
    /// let group = goby::group::Group::<u32, std::io::Error>::new();
    /// for n in 0..5 {
    ///     group.go(move || Ok(n));
    /// }
    /// let mut sum = 0;
    /// for result in group.results() {
    ///     sum += result?;
    /// }
    /// assert_eq!(sum, 10);
    /// # Ok::<(), goby::context::Cause>(())
    /// ```
    #[doc(alias = "join_next")]
    pub fn results(&self) -> Results<'_, T> {
        Results { inner: &self.inner }
    }

    /// Waits for the right to run one more.
    fn acquire(&self) -> Option<Permit> {
        let limit = self.inner.limit.lock().clone()?;
        Some(limit.acquire(&Context::background(), 1).expect("the background is never done"))
    }

    /// Counts one more goroutine, which is about to be started.
    fn member(&self, permit: Option<Permit>) -> Member<T> {
        let number = self.inner.count.with(|count, _| {
            count.submitted += 1;
            count.running += 1;
            count.unclaimed += 1;
            count.submitted
        });
        Member { inner: self.inner.clone(), number, permit }
    }
}

impl<T> Inner<T> {
    /// Receives an outcome that the caller has claimed.
    fn next_finished(&self) -> Finished<T> {
        self.finished.1.recv().expect("the group itself holds the sender")
    }

    /// Ends the group's context, if it has one that has not ended.
    fn cancel(&self, cause: Option<Cause>) {
        let cancel = self.cancel.lock().take();
        if let (Some(cancel), Some(cause)) = (cancel, cause) {
            cancel.cancel(cause);
        }
    }
}

impl<T> Drop for Inner<T> {
    fn drop(&mut self) {
        // Nobody has seen the panic, and nobody will.
        if let Some(payload) = self.panic.take() {
            goby_runtime::go(|| panic::resume_unwind(payload));
        }
    }
}

/// A goroutine's part in its group.
struct Member<T> {
    inner: Arc<Inner<T>>,
    number: usize,
    permit: Option<Permit>,
}

impl<T> Member<T> {
    fn run<E: Into<Box<dyn Error + Send + Sync>>>(self, f: impl FnOnce() -> Result<T, E>) {
        let inner = &self.inner;
        // Unwind safe: what `f` owned is gone after a panic. The others see what it shared at their
        // own risk, as with every panic of a goroutine.
        let result = panic::catch_unwind(AssertUnwindSafe(|| f().map_err(|error| cause_of(error.into()))));
        let result = match result {
            Ok(Ok(value)) => Some(Ok(value)),
            Ok(Err(error)) => {
                if inner.first_error.set(error.clone()).is_ok() {
                    inner.cancel(Some(error.clone()));
                }
                Some(Err(error))
            }
            Err(payload) => match payload.downcast::<Goexit>() {
                Ok(exit) => Some(Err(cause_of(exit))),
                Err(payload) => {
                    inner.panic.keep(payload);
                    inner.cancel(None);
                    None
                }
            },
        };
        self.end(result);
    }

    /// Ends the membership of a goroutine that never ran.
    fn never_run(self) {
        self.end(Some(Err(cause_of(Box::new(NeverRan)))));
    }

    fn end(self, result: Option<Result<T, Cause>>) {
        let Member { inner, number, permit } = self;
        // The group itself holds the receiver, so the send does not fail.
        let _ = inner.finished.0.send(Finished { number, result });
        // Before the count: a caller that has waited may change the limit.
        drop(permit);
        inner.count.with(|count, waiters| {
            count.running -= 1;
            if count.running == 0 {
                waiters.unpark_all(0);
            }
        });
    }
}

/// Iterates over the outcomes of a group as they come; see [`Group::results`].
pub struct Results<'a, T> {
    inner: &'a Inner<T>,
}

impl<T> Iterator for Results<'_, T> {
    type Item = Result<T, Cause>;

    /// Waits for the next goroutine to end.
    ///
    /// # Panics
    ///
    /// With the panic of a goroutine of the group, when the results would otherwise end.
    fn next(&mut self) -> Option<Result<T, Cause>> {
        let claim = || {
            self.inner.count.with(|count, _| {
                let claims = count.unclaimed > 0;
                count.unclaimed -= usize::from(claims);
                claims
            })
        };
        while claim() {
            if let Some(result) = self.inner.next_finished().result {
                return Some(result);
            }
        }
        self.inner.panic.raise();
        None
    }
}

impl<T> fmt::Debug for Results<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Results").finish_non_exhaustive()
    }
}

impl<T, E> Clone for Group<T, E> {
    fn clone(&self) -> Group<T, E> {
        Group { inner: self.inner.clone(), error: PhantomData }
    }
}

impl<T, E> Default for Group<T, E> {
    fn default() -> Group<T, E> {
        Group::new()
    }
}

// A panic cannot leave the group half changed, and keeping panics is its purpose.
impl<T, E> UnwindSafe for Group<T, E> {}
impl<T, E> RefUnwindSafe for Group<T, E> {}

impl<T, E> fmt::Debug for Group<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let running = self.inner.count.with(|count, _| count.running);
        f.debug_struct("Group").field("running", &running).finish_non_exhaustive()
    }
}

/// A goroutine that a group refused, with its closure; see [`Group::try_go`].
pub struct TryGoError<F> {
    closure: F,
}

impl<F> TryGoError<F> {
    /// Gives the closure back.
    pub fn into_inner(self) -> F {
        self.closure
    }
}

impl<F> fmt::Debug for TryGoError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TryGoError").finish_non_exhaustive()
    }
}

impl<F> fmt::Display for TryGoError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the group's limit of goroutines is reached")
    }
}

impl<F> Error for TryGoError<F> {}
