//! Joins duplicate calls: while a call for a key runs, others for that key wait for it and share
//! its value.
//!
//! Go's `golang.org/x/sync/singleflight`. It keeps no value: when the call has ended, the next call
//! for its key runs again.
//!
//! | Go | goby |
//! |---|---|
//! | `Do` | [`Group::run`], in the first caller's goroutine, so that the function may borrow |
//! | `Do`, with a `select` around `DoChan` | [`Group::run_ctx`]: a caller that stops waiting does not stop the call |
//! | `DoChan` | [`Group::run_chan`] |
//! | `Forget` | [`Group::forget`] |

// A call is in the map from its first caller on until its function has ended or it is forgotten.
// The map's lock guards this. Joining counts under that lock, so when the call leaves the map it
// is decided which callers share it. Then, without the lock, the outcome is set and put into the
// channels, and `ended` is closed, which unparks the waiting callers. If they find neither an
// outcome nor a panic, the function never returned: they join anew.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::hash::Hash;
use std::panic::{self, AssertUnwindSafe, RefUnwindSafe, UnwindSafe};
use std::sync::{Arc, OnceLock};

use goby_runtime::{WaitReason, Withdrawal, blocking_unless};

use crate::chan::{self, Keeper, Receiver, Sender};
use crate::context::{Context, ContextError};
use crate::select;
use crate::sync::{FirstPanic, Mutex};

/// Calls by key: for each key one runs at a time. Go: `singleflight.Group`.
///
/// It is a handle: clones are the same group. Every caller gets a clone of the value. If calls may
/// fail, `V` is a `Result` with an error that can be cloned, `Result<_, Arc<io::Error>>` for
/// example.
///
/// A panic of the function reaches every caller that waits for it; if none waits, the panic is
/// printed. A function that ends its goroutine by [`goexit`](crate::goexit) has given nothing to
/// share: of the callers that wait for it, one calls its own function for all.
///
/// ```
/// use goby::{singleflight::Group, sync::Barrier};
/// use std::sync::atomic::{AtomicU32, Ordering};
///
/// # fn look_up(name: &str) -> usize { goby::time::sleep(std::time::Duration::from_millis(20)); name.len() }
/// let (lookups, calls) = (Group::new(), AtomicU32::new(0));
/// goby::scope(|s| {
///     for _ in 0..10 {
///         s.go(|| {
///             let outcome = lookups.run("example.org", || {
///                 calls.fetch_add(1, Ordering::Relaxed);
///                 look_up("example.org")
///             });
///             assert_eq!(outcome.value, 11);
///         });
///     }
/// });
/// assert!(calls.load(Ordering::Relaxed) < 10);
/// ```
#[doc(alias = "singleflight.Group")]
pub struct Group<K, V> {
    calls: Arc<Mutex<HashMap<K, Arc<Call<V>>>>>,
}

/// What a call has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome<V> {
    /// The function's value, or a clone of it.
    pub value: V,
    /// Whether others got it too.
    pub shared: bool,
}

/// What all callers of one call share.
struct Call<V> {
    /// Changes under the map's lock only, and never again once the call has left the map.
    joined: parking_lot::Mutex<Joiners<V>>,
    /// Set before `ended` is closed, unless the function panicked.
    outcome: OnceLock<Outcome<V>>,
    panic: FirstPanic,
    ended: Receiver<Infallible>,
    /// Of `run_blocking`.
    withdrawal: OnceLock<Withdrawal>,
}

/// The callers that have joined a call.
struct Joiners<V> {
    /// How many there are, with the first caller.
    callers: usize,
    /// How many of these do not wait any more: of `run_blocking`.
    left: usize,
    /// The channels of the callers that do not wait.
    channels: Vec<Sender<Outcome<V>>>,
}

/// A caller's part in its call.
enum Joined<K: Eq + Hash, V> {
    /// To run the function.
    First(First<K, V>),
    /// To wait for another caller's function. The key comes back, to join anew.
    Other(Arc<Call<V>>, K),
}

/// The duty to run the function of a call. Dropping it ends the call, also if its goroutine never
/// ran.
struct First<K: Eq + Hash, V> {
    group: Group<K, V>,
    key: K,
    call: Arc<Call<V>>,
    has_left: bool,
    _ended: Sender<Infallible>,
}

/// The panic of a caller whose own function did not return.
const NEVER_RETURNED: &str =
    "singleflight: the function did not return: it ended its goroutine by goexit, or its runtime was dropped";

impl<K, V> Group<K, V>
where
    K: Eq + Hash + Clone,
    V: Clone + Send + Sync,
{
    /// Makes a group without calls.
    pub fn new() -> Group<K, V> {
        Group::default()
    }

    /// Calls `f`, here, and returns its value; or waits for a call for `key` that runs already. Go:
    /// `Do`.
    ///
    /// ```
    /// let group = goby::singleflight::Group::new();
    /// let name = String::from("key");
    /// let outcome = group.run("key", || name.len());
    /// assert_eq!((outcome.value, outcome.shared), (3, false));
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine, or puts the OS thread to sleep, while another caller's function runs.
    /// If `f` runs the same key, it deadlocks.
    ///
    /// # Panics
    ///
    /// If the function panics, the caller's own or the one that it waits for: one caller raises
    /// that panic again, the others repeat its message.
    #[doc(alias("singleflight.Do", "Do"))]
    pub fn run(&self, mut key: K, f: impl FnOnce() -> V) -> Outcome<V> {
        loop {
            match self.join(key, |_| ()).0 {
                Joined::First(first) => return first.run(f).wait().expect(NEVER_RETURNED),
                Joined::Other(call, same) => match call.wait() {
                    Some(outcome) => return outcome,
                    None => key = same,
                },
            }
        }
    }

    /// Calls `f` in a goroutine of its own, or joins a call for `key` that runs already, and waits
    /// for the value until `ctx` is done.
    ///
    /// ```
    /// use goby::{Context, context::ContextError, singleflight::Group};
    ///
    /// let (group, (tx, answer)) = (Group::new(), goby::chan::bounded(0));
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// let impatient = group.run_ctx(&ctx, "key", move || {
    ///     // The caller gives up, but the call goes on.
    ///     cancel.cancel();
    ///     answer.recv()
    /// });
    /// assert_eq!(impatient, Err(ContextError::Canceled));
    ///
    /// let patient = group.run_chan("key", || unreachable!("the first call still runs"));
    /// tx.send("done").unwrap();
    /// assert_eq!(patient.recv().unwrap().value, Ok("done"));
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine, or puts the OS thread to sleep.
    ///
    /// # Cancellation
    ///
    /// The caller stops waiting. The call goes on, for the callers that have joined it or will join
    /// it. Give `f` a context to stop it.
    ///
    /// # Errors
    ///
    /// The context's error, if it is done already (then nothing is called), or gets done before the
    /// call has ended.
    ///
    /// # Panics
    ///
    /// As [`run`](Group::run). Also if `f` ends its goroutine by [`goexit`](crate::goexit), because
    /// then there is no value.
    #[track_caller]
    pub fn run_ctx<F>(&self, ctx: &Context, mut key: K, f: F) -> Result<Outcome<V>, ContextError>
    where
        F: FnOnce() -> V + Send + 'static,
        K: Send + 'static,
        V: 'static,
    {
        if let Some(error) = ctx.err() {
            return Err(error);
        }
        loop {
            match self.join(key, |_| ()).0 {
                Joined::First(first) => {
                    let call = first.call.clone();
                    goby_runtime::go(move || _ = first.run(f));
                    return call.wait_ctx(ctx).map(|outcome| outcome.unwrap_or_else(|| panic!("{NEVER_RETURNED}")));
                }
                Joined::Other(call, same) => match call.wait_ctx(ctx)? {
                    Some(outcome) => return Ok(outcome),
                    None => key = same,
                },
            }
        }
    }

    /// Calls `f` in a goroutine of its own, or joins a call for `key` that runs already. Returns
    /// the channel through which the outcome will come. Go: `DoChan`.
    ///
    /// After the outcome the channel is closed. If the function ended its goroutine by
    /// [`goexit`](crate::goexit), it is closed without an outcome. Dropping the receiver does not
    /// stop the call.
    ///
    /// ```
    /// use goby::select;
    /// use std::time::Duration;
    ///
    /// let group = goby::singleflight::Group::new();
    /// let outcome = group.run_chan("key", || 6 * 7);
    /// select! {
    ///     recv(outcome) -> outcome => assert_eq!(outcome.unwrap().value, 42),
    ///     default(Duration::from_secs(60)) => panic!("too slow"),
    /// }
    /// ```
    ///
    /// # Panics
    ///
    /// Not by itself. If the function panics, the panic goes on in the receive that would find the
    /// channel closed.
    #[doc(alias("singleflight.DoChan", "DoChan"))]
    #[track_caller]
    pub fn run_chan<F>(&self, key: K, f: F) -> Receiver<Outcome<V>>
    where
        F: FnOnce() -> V + Send + 'static,
        K: Send + 'static,
        V: 'static,
    {
        let (joined, receiver) = self.join(key, |call| {
            let (tx, rx) = chan::bounded_kept(1, call.clone());
            call.joined.lock().channels.push(tx);
            rx
        });
        if let Joined::First(first) = joined {
            goby_runtime::go(move || _ = first.run(f));
        }
        receiver
    }

    /// Lets the next call for `key` run its own function, even if one runs now. Go: `Forget`.
    ///
    /// ```
    /// let (group, (tx, rx)) = (goby::singleflight::Group::new(), goby::chan::bounded(0));
    /// let first = group.run_chan("key", move || rx.recv().unwrap());
    /// group.forget(&"key");
    /// assert_eq!(group.run("key", || 2).value, 2);
    /// tx.send(1).unwrap();
    /// assert_eq!(first.recv().unwrap().value, 1);
    /// ```
    pub fn forget(&self, key: &K) {
        let forgotten = self.calls.lock().remove(key);
        drop(forgotten);
    }

    /// Calls `f`, which looks up a name and blocks its thread, on a helper thread, or joins a call
    /// for `key` that runs already; waits for the value until `ctx` is done.
    ///
    /// The helper thread ends the call, not the goroutine that began it. So the call ends even if
    /// that goroutine's runtime is dropped meanwhile, and callers of other runtimes get its value.
    /// If all callers have left before the call has begun, it is taken back.
    pub(crate) fn run_blocking<F>(&self, ctx: &Context, mut key: K, f: F) -> Result<Outcome<V>, ContextError>
    where
        F: FnOnce() -> V + Send + 'static,
        K: Send + 'static,
        V: 'static,
    {
        loop {
            match self.join(key, |_| ()).0 {
                Joined::First(first) => {
                    let call = first.call.clone();
                    let withdrawal = call.withdrawal.get_or_init(Withdrawal::new).clone();
                    // Dropped without a run, it lets those that have joined since join anew.
                    let run = move || _ = blocking_unless(&withdrawal, WaitReason::LookUp, move || drop(first.run(f)));
                    // A caller that may have to leave early cannot run it itself.
                    if ctx.can_end() {
                        goby_runtime::go(run);
                    } else {
                        run();
                    }
                    let outcome = call.wait_ctx(ctx).inspect_err(|_| call.note_left())?;
                    return Ok(outcome.unwrap_or_else(|| panic!("{NEVER_RETURNED}")));
                }
                Joined::Other(call, same) => match call.wait_ctx(ctx).inspect_err(|_| call.note_left())? {
                    Some(outcome) => return Ok(outcome),
                    None => key = same,
                },
            }
        }
    }

    /// Joins the call for `key`, or makes it. `enter` runs under the lock.
    fn join<R>(&self, key: K, enter: impl FnOnce(&Arc<Call<V>>) -> R) -> (Joined<K, V>, R) {
        let mut calls = self.calls.lock();
        if let Some(call) = calls.get(&key) {
            call.joined.lock().callers += 1;
            let entered = enter(call);
            return (Joined::Other(call.clone(), key), entered);
        }
        let (sender, ended) = chan::bounded(0);
        let joined = parking_lot::Mutex::new(Joiners { callers: 1, left: 0, channels: Vec::new() });
        let (outcome, panic, withdrawal) = (OnceLock::new(), FirstPanic::default(), OnceLock::new());
        let call = Arc::new(Call { joined, outcome, panic, ended, withdrawal });
        calls.insert(key.clone(), call.clone());
        let entered = enter(&call);
        (Joined::First(First { group: self.clone(), key, call, has_left: false, _ended: sender }), entered)
    }
}

impl<K: Eq + Hash, V: Clone> First<K, V> {
    /// Runs the function and passes its value to all callers. Does not return if `f` ends this
    /// goroutine.
    fn run(mut self, f: impl FnOnce() -> V) -> Arc<Call<V>> {
        // Unwind safe: the panic goes on in the callers that wait.
        let result = panic::catch_unwind(AssertUnwindSafe(f));
        let Joiners { callers, channels, .. } = self.leave();
        let call = self.call.clone();
        match result {
            Err(payload) if goby_runtime::is_goexit(&*payload) => {
                drop((self, call, channels));
                panic::resume_unwind(payload)
            }
            Err(payload) => call.panic.keep(payload),
            Ok(value) => {
                let outcome = call.outcome.get_or_init(|| Outcome { value, shared: callers > 1 });
                for channel in &channels {
                    // There is room. The receiver may have gone.
                    let _ = channel.try_send(outcome.clone());
                }
            }
        }
        call
    }
}

impl<K: Eq + Hash, V> First<K, V> {
    /// Takes the call out of the map, unless it was forgotten. From then on nobody joins it.
    fn leave(&mut self) -> Joiners<V> {
        self.has_left = true;
        let mut calls = self.group.calls.lock();
        let is_there = calls.get(&self.key).is_some_and(|call| Arc::ptr_eq(call, &self.call));
        let removed = is_there.then(|| calls.remove_entry(&self.key));
        let mut joined = self.call.joined.lock();
        let channels = std::mem::take(&mut joined.channels);
        let joiners = Joiners { callers: joined.callers, left: joined.left, channels };
        drop(joined);
        drop(calls);
        // The key is the user's, so it is dropped after the locks are released.
        drop(removed);
        joiners
    }
}

impl<K: Eq + Hash, V> Drop for First<K, V> {
    fn drop(&mut self) {
        if !self.has_left {
            drop(self.leave());
        }
    }
}

impl<V: Clone> Call<V> {
    /// Waits for the end and returns the outcome, or raises the panic again. `None` if the function
    /// did not return.
    fn wait(&self) -> Option<Outcome<V>> {
        let _ = self.ended.recv();
        let outcome = self.outcome.get();
        if outcome.is_none() && self.panic.is_kept() {
            self.panic.raise();
            // This goroutine panics already, and has to be told all the same.
            panic!("singleflight: the call panicked");
        }
        outcome.cloned()
    }

    /// Notes that a caller does not wait any more. The last one takes the call back, if it has not
    /// begun.
    fn note_left(&self) {
        let is_last = {
            let mut joined = self.joined.lock();
            joined.left += 1;
            joined.left == joined.callers
        };
        if let Some(withdrawal) = self.withdrawal.get().filter(|_| is_last) {
            withdrawal.withdraw();
        }
    }

    /// Waits as [`wait`](Call::wait) does, until `ctx` is done.
    fn wait_ctx(&self, ctx: &Context) -> Result<Option<Outcome<V>>, ContextError> {
        select! {
            recv(self.ended) -> _ => {},
            recv(ctx.done()) -> _ => {
                if let Some(error) = ctx.err().filter(|_| !self.ended.is_closed()) {
                    return Err(error);
                }
            },
        }
        Ok(self.wait())
    }
}

impl<V: Send + Sync> Keeper for Call<V> {
    fn drained(&self) {
        self.panic.raise();
    }
}

impl<V> Drop for Call<V> {
    fn drop(&mut self) {
        // Nobody has seen the panic, and nobody will.
        if let Some(payload) = self.panic.take() {
            goby_runtime::go(|| panic::resume_unwind(payload));
        }
    }
}

impl<K, V> Clone for Group<K, V> {
    fn clone(&self) -> Group<K, V> {
        Group { calls: self.calls.clone() }
    }
}

impl<K, V> Default for Group<K, V> {
    fn default() -> Group<K, V> {
        Group { calls: Arc::new(Mutex::new(HashMap::new())) }
    }
}

// The function runs outside the lock, and the group passes its panics on.
impl<K, V> UnwindSafe for Group<K, V> {}
impl<K, V> RefUnwindSafe for Group<K, V> {}

impl<K, V> fmt::Debug for Group<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let calls = self.calls.lock();
        let callers: usize = calls.values().map(|call| call.joined.lock().callers).sum();
        f.debug_struct("Group").field("calls", &calls.len()).field("callers", &callers).finish()
    }
}

#[cfg(test)]
mod tests;
