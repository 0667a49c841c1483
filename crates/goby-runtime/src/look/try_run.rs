//! A `run` that returns a deadlock as an error.
//!
//! Why this is another method, and asks for `'static`: the goroutine of a plain `run` borrows from
//! its caller. So the caller may not go on while the goroutine exists; and after a deadlock it
//! exists forever. Here the goroutine owns everything, so the caller can go on. The goroutine stays
//! parked. If the caller unparks it later (by a channel that both have), it goes on.

use std::fmt;
use std::panic::{self, AssertUnwindSafe, Location};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Instant;

use crate::base::order;
use crate::base::unseen::UnseenMutex;
use crate::engine::birth::{Birth, Detached};
use crate::engine::gate::{Decision, Gate, Waited};
use crate::engine::goexit::is_goexit;
use crate::engine::wait_reason::WaitReason;
use crate::engine::{goexit, threads};
use crate::look::Look;
use crate::look::dump::Dump;
use crate::runtime::Runtime;

/// The error of [`Runtime::try_run`]: all goroutines were asleep, and nothing was left that could
/// wake one.
#[derive(Clone)]
pub struct Deadlock {
    message: Arc<str>,
    dump: Arc<Dump>,
}

impl Deadlock {
    pub(crate) fn new(message: String, dump: Dump) -> Deadlock {
        Deadlock { message: message.into(), dump: Arc::new(dump) }
    }

    /// Returns where all goroutines were.
    pub fn dump(&self) -> &Dump {
        &self.dump
    }
}

impl fmt::Debug for Deadlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deadlock").field("message", &self.message).finish_non_exhaustive()
    }
}

impl fmt::Display for Deadlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Deadlock {}

/// The watchers: they are told of a deadlock, and then the process does not end.
#[derive(Default)]
pub(crate) struct Watchers {
    list: UnseenMutex<Vec<Weak<dyn Watcher>>>,
}

trait Watcher: Send + Sync {
    fn is_deadlocked(&self, deadlock: &Deadlock);
}

impl Watchers {
    fn add(&self, watcher: Weak<dyn Watcher>) {
        self.list.lock().push(watcher);
    }

    fn remove(&self, watcher: &Weak<dyn Watcher>) {
        self.list.lock().retain(|other| !other.ptr_eq(watcher));
    }

    /// Forgets the watchers of a former life.
    pub(crate) fn reset(&self) {
        self.list.lock().clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.lock().is_empty()
    }

    /// Tells all watchers, and forgets them.
    pub(crate) fn tell(&self, deadlock: &Deadlock) {
        let watchers = std::mem::take(&mut *self.list.lock());
        watchers.iter().filter_map(Weak::upgrade).for_each(|watcher| watcher.is_deadlocked(deadlock));
    }
}

/// How the main goroutine of a `try_run` has ended.
struct Outcome<T> {
    end: Gate<Option<Result<thread::Result<T>, Deadlock>>>,
}

impl<T> Outcome<T> {
    /// Stores how it ended. Only the first call counts.
    fn settle(&self, end: Result<thread::Result<T>, Deadlock>) {
        let late = self.end.with(|slot, waiters| {
            if slot.is_some() {
                return Some(end);
            }
            *slot = Some(end);
            waiters.unpark_all(0);
            None
        });
        // It is the user's value: dropped outside the lock.
        drop(late);
    }
}

/// Why a `try_run` no longer waits for its main goroutine.
#[derive(Debug)]
pub enum Stopped {
    /// Nothing is left that could make it go on.
    Deadlock(Deadlock),
    /// The deadline has passed. The goroutine goes on.
    TimedOut,
}

impl<T: Send> Watcher for Outcome<T> {
    fn is_deadlocked(&self, deadlock: &Deadlock) {
        self.settle(Err(deadlock.clone()));
    }
}

impl Runtime {
    /// Runs `main` as [`run`](Runtime::run) does, but returns a deadlock instead of ending the
    /// process.
    ///
    /// The deadlocked goroutines stay parked. `main` owns all that it uses, because after a
    /// deadlock it never ends, while the caller goes on.
    ///
    /// ```standalone_crate
    /// use goby::{Runtime, chan};
    ///
    /// // The goroutine that is stuck stays, and is no leak to report.
    /// let runtime = Runtime::builder().workers(1).report_leaks(false).build()?;
    /// assert_eq!(runtime.try_run(|| 7).unwrap(), 7);
    /// let deadlock = runtime.try_run(|| {
    ///     let (_tx, rx) = chan::bounded::<()>(0);
    ///     rx.recv()
    /// });
    /// assert_eq!(deadlock.unwrap_err().to_string(), "all goroutines are asleep - deadlock!");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// Until `main` has returned, or nothing is left that could make it return. The verdict needs
    /// the same as the report of a deadlock: no timer, socket, blocking call or future, and no
    /// thread outside goby that runs.
    ///
    /// # Errors
    ///
    /// [`Deadlock`], with a dump of all goroutines.
    ///
    /// # Panics
    ///
    /// As `main` does.
    #[track_caller]
    pub fn try_run<F, T>(&self, main: F) -> Result<T, Deadlock>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        match self.try_run_until(None, main) {
            Ok(value) => Ok(value),
            Err(Stopped::Deadlock(deadlock)) => Err(deadlock),
            Err(Stopped::TimedOut) => unreachable!("there is no deadline"),
        }
    }

    /// Runs `main` as [`try_run`](Runtime::try_run) does, and waits for it at most until
    /// `deadline`.
    #[doc(hidden)]
    #[track_caller]
    pub fn try_run_until<F, T>(&self, deadline: Option<Instant>, main: F) -> Result<T, Stopped>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let outcome = Arc::new(Outcome { end: Gate::new(None) });
        let weak: Weak<Outcome<T>> = Arc::downgrade(&outcome);
        let watcher: Weak<dyn Watcher> = weak;
        Look::of(self.shared()).watchers.add(watcher.clone());
        let settles = outcome.clone();
        let settled = move || {
            // Unwind safe: everything that `main` owned is gone, and the caller goes on with the
            // panic.
            let end = panic::catch_unwind(AssertUnwindSafe(main));
            order::precede(Arc::as_ptr(&settles));
            settles.settle(Ok(end));
        };
        let birth = Birth::<Detached>::at(Location::caller()).on_main_stack(self.shared());
        // SAFETY: `F` and `T` borrow nothing.
        unsafe { birth.start(self.shared(), settled) };
        let waited = threads::as_host(|| {
            outcome.end.wait(WaitReason::Join, deadline, |end, _| Decision::ready_if(end.is_some()))
        });
        Look::of(self.shared()).watchers.remove(&watcher);
        if waited == Waited::TimedOut {
            return Err(Stopped::TimedOut);
        }
        order::follow(Arc::as_ptr(&outcome));
        match outcome.end.with(|end, _| end.take()).expect("settled") {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(payload)) if is_goexit(&*payload) => {
                self.shared().note_main_exit();
                goexit::wait_for_ever()
            }
            Ok(Err(payload)) => panic::resume_unwind(payload),
            Err(deadlock) => Err(Stopped::Deadlock(deadlock)),
        }
    }
}
