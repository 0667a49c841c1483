//! Wait groups: a count, and the line of those that wait for it to be zero.
//!
//! ```text
//! word:  count × ONE | WAITING        WAITING: somebody may be in the line; set under the queue's lock
//! ```
//!
//! `add` and `done` change the count without a lock, except for the one `done` that takes it from 1
//! to 0 while WAITING is set. That `done` takes the queue's lock first and changes count and bit
//! together. So it unparks exactly the waiters of this zero, and not those of an `add` that follows
//! at once.
//!
//! A panic of a goroutine is kept before its `done`, so a waiter that sees the zero sees the panic.

use std::fmt;
use std::panic::{self, AssertUnwindSafe, Location, RefUnwindSafe, UnwindSafe};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use goby_runtime::{Decision, NeverRan, WaitReason, checkpoint, gives_back};

use super::first_panic::{FirstPanic, panicking};
use super::queue::{Outcome, Queue, Until, done_error};
use crate::context::{Context, ContextError};

const WAITING: u64 = 1;
const ONE: u64 = 2;

/// Waits for a number of goroutines to finish. Go: `sync.WaitGroup`.
///
/// It is a handle: clones are the same group. [`go`](WaitGroup::go) is the usual way to use it;
/// [`add`](WaitGroup::add) and [`done`](WaitGroup::done) count by hand.
///
/// After a panic in a goroutine of the group [`wait`](WaitGroup::wait) never returns as if all were
/// well: the panic is raised again there. From then on every `wait` panics.
///
/// ```
/// use goby::sync::WaitGroup;
/// use std::sync::atomic::{AtomicU32, Ordering};
///
/// static SUM: AtomicU32 = AtomicU32::new(0);
/// let wg = WaitGroup::new();
/// for i in 1..=4 {
///     wg.go(move || { SUM.fetch_add(i, Ordering::Relaxed); });
/// }
/// wg.wait();
/// assert_eq!(SUM.load(Ordering::Relaxed), 10);
/// ```
#[doc(alias("sync.WaitGroup", "TaskTracker"))]
#[derive(Clone, Default)]
pub struct WaitGroup {
    inner: Arc<Inner>,
}

struct Inner {
    word: AtomicU64,
    queue: Queue<()>,
    panic: FirstPanic,
}

impl Default for Inner {
    fn default() -> Inner {
        Inner { word: AtomicU64::new(0), queue: Queue::new(()), panic: FirstPanic::default() }
    }
}

impl WaitGroup {
    /// Makes a group that counts zero.
    ///
    /// ```
    /// goby::sync::WaitGroup::new().wait(); // Nothing to wait for.
    /// ```
    pub fn new() -> WaitGroup {
        WaitGroup::default()
    }

    /// Adds `n` to the count. Go: `Add`; for its negative arguments call [`done`](WaitGroup::done).
    ///
    /// Call it before the goroutine that calls `done` is started, not inside it.
    ///
    /// # Panics
    ///
    /// If the count exceeds 2^62.
    ///
    /// ```
    /// let wg = goby::sync::WaitGroup::new();
    /// wg.add(1);
    /// let handle = wg.clone();
    /// goby::go(move || handle.done());
    /// wg.wait();
    /// ```
    #[track_caller]
    pub fn add(&self, n: usize) {
        checkpoint();
        let added = (n as u64).checked_mul(ONE).filter(|added| *added <= u64::MAX / 4);
        // Relaxed: work that has not been started is ordered with nothing. The caller orders a wait
        // that must see this.
        let before = self.inner.word.fetch_add(added.expect(OVERFLOW), Ordering::Relaxed);
        assert!(before <= u64::MAX / 2, "{OVERFLOW}");
    }

    /// Takes one from the count. Go: `Done`.
    ///
    /// If a destructor calls it while its goroutine panics, [`wait`](WaitGroup::wait) panics too:
    /// the work did not get done. (This also happens while another goroutine of this worker is
    /// parked in the middle of its unwinding, because std does not tell the two apart. Goroutines
    /// started by [`go`](WaitGroup::go) are told apart.)
    ///
    /// # Panics
    ///
    /// If the count is zero: "sync: negative WaitGroup counter".
    ///
    /// # Memory ordering
    ///
    /// What was done before `done` happens before the `wait` that it ends returns.
    ///
    /// ```
    /// let wg = goby::sync::WaitGroup::new();
    /// wg.add(2);
    /// wg.done();
    /// wg.done();
    /// wg.wait();
    /// ```
    #[track_caller]
    pub fn done(&self) {
        if panicking() {
            self.inner.panic.keep_message("a goroutine of the WaitGroup panicked before it was done".into(), None);
        }
        self.finish();
    }

    /// Adds one, runs `f` in a new goroutine, and takes one away when it has ended. Go: `Go`.
    ///
    /// A panic of `f` comes out of [`wait`](WaitGroup::wait). What `f` returns is dropped: for
    /// results see [`group`](crate::group).
    ///
    /// ```
    /// use goby::sync::{Mutex, WaitGroup};
    /// use std::sync::Arc;
    ///
    /// let (wg, lines) = (WaitGroup::new(), Arc::new(Mutex::new(vec![])));
    /// let out = lines.clone();
    /// wg.go(move || out.lock().push("hello"));
    /// wg.wait();
    /// assert_eq!(*lines.lock(), ["hello"]);
    /// ```
    #[doc(alias = "WaitGroup.Go")]
    #[track_caller]
    pub fn go<F, T>(&self, f: F)
    where
        F: FnOnce() -> T + Send + 'static,
    {
        self.add(1);
        let run = move |wg: WaitGroup| {
            // Unwind safe: what f owned is gone after a panic. The others see what it shared at
            // their own risk, as with every panic of a goroutine.
            if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| drop(f()))) {
                wg.inner.panic.keep(payload);
            }
            wg.finish();
        };
        goby_runtime::go_owing(Location::caller(), self.clone(), run, |wg| {
            wg.inner.panic.keep_message(NeverRan::MESSAGE.into(), None);
            wg.finish();
        });
    }

    /// Waits until the count is zero. Go: `Wait`.
    ///
    /// # Blocking
    ///
    /// Parks the goroutine (an OS thread sleeps) while the count is not zero. To give up when a
    /// context is done use [`wait_ctx`](WaitGroup::wait_ctx).
    ///
    /// # Panics
    ///
    /// If a goroutine of the group panicked: the first `wait` raises that panic again, later ones
    /// repeat its message. A goroutine that never ran, because its runtime was dropped, counts as
    /// one that panicked. (`wait` does not panic if this goroutine is itself panicking: a second
    /// panic would abort the process.)
    ///
    /// ```
    /// let wg = goby::sync::WaitGroup::new();
    /// wg.go(|| panic!("no such file"));
    /// let panic = std::panic::catch_unwind(|| wg.wait()).unwrap_err();
    /// assert_eq!(panic.downcast_ref(), Some(&"no such file"));
    /// ```
    pub fn wait(&self) {
        self.wait_until(Until::Forever);
        self.inner.panic.raise();
    }

    /// Waits until the count is zero or `ctx` is done.
    ///
    /// # Errors
    ///
    /// The context's error, if it is done and the count was not zero before. The goroutines of the
    /// group go on.
    ///
    /// # Panics
    ///
    /// As [`wait`](WaitGroup::wait).
    ///
    /// ```
    /// use goby::{Context, context::ContextError, sync::WaitGroup};
    /// use std::time::Duration;
    ///
    /// let wg = WaitGroup::new();
    /// wg.add(1);
    /// let (ctx, _cancel) = Context::background().with_timeout(Duration::from_millis(1));
    /// assert_eq!(wg.wait_ctx(&ctx), Err(ContextError::DeadlineExceeded));
    /// wg.done();
    /// assert_eq!(wg.wait_ctx(&ctx), Ok(()));
    /// ```
    pub fn wait_ctx(&self, ctx: &Context) -> Result<(), ContextError> {
        if !self.wait_until(Until::Done(ctx)) {
            return Err(done_error(ctx));
        }
        self.inner.panic.raise();
        Ok(())
    }

    /// Waits; returns whether the count was zero.
    fn wait_until(&self, until: Until<'_>) -> bool {
        checkpoint();
        let word = &self.inner.word;
        // Acquire pairs with the Release in `finish`: all that the group did is seen.
        if word.load(Ordering::Acquire) < ONE {
            return true;
        }
        let outcome = self.inner.queue.wait_until(WaitReason::WaitGroupWait, until, |(), _| {
            // One change decides: either the count is zero, or the last `done` will see WAITING.
            // Acquire as above.
            let waits =
                word.fetch_update(Ordering::Acquire, Ordering::Acquire, |word| (word >= ONE).then_some(word | WAITING));
            Decision::ready_if(waits.is_err())
        });
        outcome != Outcome::GaveUp
    }

    /// Takes one from the count and, if that makes it zero, unparks the waiters.
    #[track_caller]
    fn finish(&self) {
        gives_back(ptr::from_ref(&*self.inner).addr());
        let word = &self.inner.word;
        let mut current = word.load(Ordering::Relaxed);
        loop {
            assert!(current >= ONE, "sync: negative WaitGroup counter");
            // This one makes the count zero, and somebody may wait for that.
            if current == ONE | WAITING {
                if self.finish_last() {
                    return;
                }
                current = word.load(Ordering::Relaxed);
                continue;
            }
            // Release pairs with the Acquire of the wait that this ends. Every `done` is a
            // read-modify-write of the word, so a wait that sees the last one's change is ordered
            // behind all of them.
            match word.compare_exchange_weak(current, current - ONE, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(changed) => current = changed,
            }
        }
    }

    /// Takes the count from 1 to 0 and unparks the waiters; `false` if it is not 1 any more.
    #[cold]
    fn finish_last(&self) -> bool {
        self.inner.queue.with(|(), line| {
            // AcqRel. Release as in `finish`. Acquire, because the unparked waiters are ordered
            // behind this goroutine only, so it must be ordered behind the other `done`s.
            let last = self.inner.word.compare_exchange(ONE | WAITING, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok();
            if last {
                line.unpark_all(0);
            }
            last
        })
    }
}

const OVERFLOW: &str = "sync: WaitGroup counter overflow";

// A panic cannot leave the group half changed: its count is one word, and keeping panics is its
// purpose.
impl UnwindSafe for WaitGroup {}
impl RefUnwindSafe for WaitGroup {}

impl fmt::Debug for WaitGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitGroup").field("count", &(self.inner.word.load(Ordering::Relaxed) / ONE)).finish()
    }
}
