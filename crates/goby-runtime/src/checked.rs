//! The way into a check, for `goby_check` alone: a runtime whose one worker runs executions of a
//! program, in an order that a [`Chooser`] chooses (`engine/worker/checked.rs`).

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use crate::base::policy;
use crate::base::report::payload_text;
use crate::builder;
use crate::engine::birth::{Birth, Detached};
use crate::engine::gate::{Decision, Gate};
use crate::engine::goexit::is_goexit;
use crate::engine::goroutine::GoroutineId;
use crate::engine::shared::Shared;
use crate::engine::threads;
use crate::engine::wait_reason::WaitReason;
use crate::engine::worker::Worker;
pub use crate::engine::worker::checked::{Chooser, End, Event, NO_OBJECT, Plan, Point};
use crate::look::inspect::{self, GoroutineInfo};

/// The thread of a check, between its executions.
pub struct Host {
    worker: &'static Worker,
}

/// What an execution has come to.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// After how many steps.
    pub steps: u64,
    /// The goroutines that have not ended, each with its number; empty if it has finished.
    pub left: Vec<(u64, GoroutineInfo)>,
}

impl Host {
    /// Runs `main` as the first goroutine of an execution, started at `at`, and all that it starts.
    ///
    /// An execution that has not [finished](End::Finished) is the last of its host.
    pub fn execute<F>(&self, plan: Plan, chooser: &mut dyn Chooser, at: &'static Location<'static>, main: F) -> Outcome
    where
        F: FnOnce() + Send + 'static,
    {
        let worker = self.worker;
        let shared: &'static Shared = worker.shared;
        let main = move || {
            // Unwind safe: the execution ends with the panic.
            let end = catch_unwind(AssertUnwindSafe(main));
            let message = end.err().filter(|payload| !is_goexit(&**payload)).map(|payload| {
                let message = payload_text(&*payload).to_owned();
                std::mem::forget(payload);
                message
            });
            Worker::current().expect("a goroutine has a worker").note_end_of_main(message);
        };
        // SAFETY: `main` borrows nothing.
        let (end, steps) = worker.execute(plan, chooser, || unsafe { Birth::<Detached>::at(at).start(shared, main) });
        let left = if end == End::Finished { Vec::new() } else { inspect::of_worker(worker) };
        let number = |id: GoroutineId| worker.number_of(id);
        Outcome { end, steps, left: left.into_iter().map(|info| (number(info.id()), info)).collect() }
    }

    /// Returns what time it is in executions that begin now.
    pub fn now(&self) -> Instant {
        policy::now()
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").finish_non_exhaustive()
    }
}

/// Runs `f` on the thread of a check, whose goroutines have stacks of this size, and returns its
/// result.
///
/// # Errors
///
/// The system's, if it gives no thread or poller.
///
/// # Panics
///
/// As `f` does.
pub fn host<R, F>(stack_size: Option<usize>, f: F) -> io::Result<R>
where
    R: Send + 'static,
    F: FnOnce(&Host) -> R + Send + 'static,
{
    type Place<R> = Gate<Option<thread::Result<R>>>;
    let place: Arc<Place<R>> = Arc::new(Gate::new(None));
    let settles = place.clone();
    let check = Box::new(move |worker: &'static Worker| {
        worker.set_virtual_time(policy::nanos(policy::now()));
        let result = catch_unwind(AssertUnwindSafe(|| f(&Host { worker })));
        policy::set_virtual(0);
        settles.with(|place, waiters| {
            *place = Some(result);
            waiters.unpark_all(0);
        });
    });
    let shared = builder::start_check(stack_size, check)?;
    threads::as_host(|| place.wait(WaitReason::Join, None, |end, _| Decision::ready_if(end.is_some())));
    // Its worker stops by itself.
    shared.shut_down();
    let result = place.with(|place, _| place.take()).expect("settled");
    result.map_or_else(|payload| resume_unwind(payload), Ok)
}

/// Returns the worker of the calling goroutine, or future, if that is one of a check.
fn current() -> Option<&'static Worker> {
    Worker::current().filter(|worker| worker.is_checked())
}

/// Returns whether the caller is a goroutine or future of a check.
pub fn is_checked() -> bool {
    current().is_some()
}

/// A point of a check that is about `object`; otherwise nothing.
#[inline]
pub fn point(object: usize) {
    if let Some(worker) = current() {
        worker.come_to_point(false, object);
    }
}

/// As [`point`], where the caller has looked in vain and lets others run.
#[inline]
pub fn point_in_vain(object: usize) {
    if let Some(worker) = current() {
        worker.come_to_point(true, object);
    }
}

/// Calls `f`, in which no point lets others go on: a short lock is held.
pub fn without_points<R>(f: impl FnOnce() -> R) -> R {
    let Some(worker) = current() else { return f() };
    let before = worker.set_mute(true);
    let result = f();
    worker.set_mute(before);
    result
}

/// Returns the number of the calling goroutine in its execution, if it is one of a check.
pub fn current_number() -> Option<u64> {
    current().and_then(Worker::number_in_check)
}

/// Waits until all other goroutines of the check wait, and time would have to move for one to go
/// on. Returns false if the caller is no goroutine of a check.
pub fn wait_until_quiet() -> bool {
    let worker = current().filter(|worker| worker.in_goroutine());
    worker.inspect(|worker| worker.wait_until_quiet()).is_some()
}

/// Ends the execution because the program is about to leave the check; the text says how, and what
/// to do instead. Nothing, if the caller is no goroutine of a check.
pub fn leave(text: &str) {
    if let Some(worker) = current() {
        worker.leave_check(text);
    }
}
