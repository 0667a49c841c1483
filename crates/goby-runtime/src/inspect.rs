//! Looking at goroutines, as data.
//!
//! Only its home worker may touch what a goroutine is doing, so who wants to know *asks* each worker ([`Requests`]), and
//! each answers at its next scheduling point: a worker that sleeps is woken, a goroutine that runs yields at its next
//! goby call. No lock guards any of this on the way of a goroutine; the order to answer travels with the monitor's wish
//! for a new time slice (`slice_over`), which is looked at anyway. A worker that does not answer in time is interrupted
//! by a signal for what it runs, see `sample`; what else it is home to is counted, not shown.
//!
//! What comes of it is no snapshot: workers answer one after the other, and goroutines go on. What is parked for good
//! is shown exactly.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::panic::Location;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::attributes::Inherited;
use crate::gate::Gate;
use crate::goroutine::{Goroutine, GoroutineId};
use crate::park::{HAS_CONTEXT, HAS_DEADLINE, WaitReason};
use crate::run_queue::Fresh;
use crate::runtime::{Shared, current_shared};
use crate::stack_trace::{self, StackTrace};
use crate::worker::{Remote, Worker};
use crate::{policy, sample, tsan};

/// `reason` of a goroutine that is resumed to take its own stack.
pub(crate) const CAPTURE: u8 = u8::MAX;
/// What collecting a stack needs of it: the unwinder takes up to 3 KiB. A goroutine with less left shows none, rather
/// than overflow.
const CAPTURE_ROOM: usize = 8 * 1024;
/// Each worker's goroutines whose stacks are taken whatever they look like: taking one costs microseconds, and a page
/// that the goroutine may not have touched.
const STACKS_OF_ALL: usize = 4096;
/// Beyond that, so many of those that were started at one place and wait for one reason.
const STACKS_OF_ALIKE: usize = 8;
/// How long a worker may take to answer.
const PATIENCE: Duration = Duration::from_millis(100);

/// What a goroutine was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    /// It has not run yet.
    Unstarted,
    /// It waits for its turn.
    Runnable,
    /// It runs, or is the one that asked.
    Running,
    /// It is parked.
    Waiting(WaitReason),
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Status::Unstarted => "unstarted",
            Status::Runnable => "runnable",
            Status::Running => "running",
            Status::Waiting(reason) => reason.as_str(),
        })
    }
}

/// What is known of one goroutine.
#[derive(Clone)]
pub struct GoroutineInfo {
    pub(crate) id: GoroutineId,
    pub(crate) status: Status,
    pub(crate) flags: u8,
    pub(crate) parent: u64,
    /// How long ago it last parked.
    pub(crate) age: Duration,
    pub(crate) started_at: &'static Location<'static>,
    pub(crate) name: Option<Arc<str>>,
    pub(crate) inherited: Option<Arc<Inherited>>,
    pub(crate) stack: Option<StackTrace>,
    /// Where its record is, and its stack: for proofs about who can reach what.
    pub(crate) record: usize,
}

impl GoroutineInfo {
    /// Names it.
    pub fn id(&self) -> GoroutineId {
        self.id
    }

    /// The name that it was given.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Its labels, the oldest first.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.inherited.iter().flat_map(|inherited| &inherited.labels).map(|(key, value)| (&**key, &**value))
    }

    /// What it was doing.
    pub fn status(&self) -> Status {
        self.status
    }

    /// How long it has been parked, if it is: to a millisecond, or as much more as the machine keeps the monitor from
    /// running.
    pub fn waited(&self) -> Option<Duration> {
        matches!(self.status, Status::Waiting(_)).then_some(self.age)
    }

    /// Where it was started.
    pub fn started_at(&self) -> &'static Location<'static> {
        self.started_at
    }

    /// The number of the goroutine that started it; none if a thread, timer or future did.
    pub fn started_by(&self) -> Option<u64> {
        (self.parent != 0).then_some(self.parent)
    }

    /// Its stack. None where it has not started, where too little of it is left to collect it there, or where very
    /// many wait alike and others' were taken.
    pub fn stack(&self) -> Option<&StackTrace> {
        self.stack.as_ref()
    }

    /// Whether a timer ends its wait: it has a deadline, or receives from a timer's channel or the done channel of a
    /// context with a deadline.
    pub fn has_deadline(&self) -> bool {
        self.flags & HAS_DEADLINE != 0
    }

    /// Whether its wait ends when a context is done: it receives from a context's done channel, waits in a select with
    /// such a case, or in the form of an operation that takes a context. It says nothing of who holds the context.
    pub fn is_reached_by_context(&self) -> bool {
        self.flags & HAS_CONTEXT != 0
    }

    /// Whether it was started in a scope, by a goroutine in it, and so on.
    pub(crate) fn is_in(&self, scope: u64) -> bool {
        self.inherited.as_ref().is_some_and(|inherited| inherited.scopes.contains(&scope))
    }

    /// # Safety
    ///
    /// The goroutine is alive, and the caller its home's scheduler, or whoever keeps it in a queue of unstarted ones.
    unsafe fn of(g: NonNull<Goroutine>, status: Status, now: u64) -> GoroutineInfo {
        // SAFETY: alive by contract.
        let header = unsafe { g.as_ref() };
        GoroutineInfo {
            id: header.id,
            status,
            flags: header.flags.get(),
            parent: header.parent,
            age: Duration::from_nanos(now.saturating_sub(header.since.get())),
            started_at: header.spawned_at,
            name: header.attributes.name(),
            inherited: header.attributes.inherited(),
            stack: None,
            record: g.as_ptr().addr(),
        }
    }
}

impl fmt::Debug for GoroutineInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GoroutineInfo")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("status", &self.status)
            .field("waited", &self.waited())
            .field("started_at", &self.started_at)
            .finish_non_exhaustive()
    }
}

/// A worker that did not answer.
#[derive(Clone, Debug)]
pub struct Silent {
    /// Its number in its runtime.
    pub worker: usize,
    /// Goroutines that have started there and have not ended, at most: others than the running one are not shown.
    pub n_started: usize,
}

/// What a look at goroutines has come to.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// By their ids.
    pub(crate) goroutines: Vec<GoroutineInfo>,
    pub(crate) silent: Vec<Silent>,
}

/// Looks at the goroutines of the caller's runtime (the default one, from a plain thread), one entry each, by their ids.
///
/// It is no snapshot: goroutines go on while it is made. A worker that does not come to a goby call within 100 ms shows
/// the goroutine that it runs, and none of the others.
///
/// ```
/// use goby_runtime::{Runtime, Status};
/// let runtime = Runtime::builder().workers(1).build()?;
/// let seen = runtime.run(goby_runtime::goroutines);
/// assert_eq!(seen.len(), 1);
/// assert_eq!(seen[0].status(), Status::Running);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Blocking
///
/// The goroutine, or the OS thread, until all workers have answered.
pub fn goroutines() -> Vec<GoroutineInfo> {
    collect(&[current_shared()]).goroutines
}

/// Asks the workers of all these runtimes at once.
pub(crate) fn collect(runtimes: &[&'static Shared]) -> Found {
    let _ignore = tsan::ignore();
    let remotes: Vec<&'static Remote> = runtimes.iter().flat_map(|shared| shared.remotes()).collect();
    let request = Arc::new(Request {
        asker: crate::worker::current_goroutine().map_or(0, |g| g.as_ptr().addr()),
        answers: Mutex::new(Vec::new()),
        missing: Gate::new(remotes.len()),
    });
    for remote in &remotes {
        remote.requests.post(request.clone());
        remote.slice_over.store(true, Ordering::SeqCst);
        remote.notify();
    }
    request.missing.wait(WaitReason::Inspect, Some(policy::now() + PATIENCE), |missing, _| {
        if *missing == 0 { Err(()) } else { Ok(0) }
    });
    // What comes later is dropped with the request.
    let answers = std::mem::take(&mut *request.answers.lock());
    let mut found = Found::default();
    for remote in remotes {
        if !answers.iter().any(|(other, _)| ptr::eq(*other, remote)) {
            found.goroutines.extend(sample::running(remote));
            found.silent.push(Silent { worker: remote.index, n_started: remote.n_started() });
        }
    }
    found.goroutines.extend(answers.into_iter().flat_map(|(_, infos)| infos));
    let now = policy::nanos(policy::now());
    for shared in runtimes {
        shared.for_each_homeless(|item| found.goroutines.extend(unstarted(item, now)));
    }
    // One that was stolen meanwhile is there twice: by whom it was asked last is as good.
    found.goroutines.sort_by_key(|info| info.id);
    found.goroutines.dedup_by_key(|info| info.id);
    found
}

/// One look at goroutines.
pub(crate) struct Request {
    /// The goroutine that asks, as its record's address: it shows as running.
    asker: usize,
    answers: Mutex<Vec<(&'static Remote, Vec<GoroutineInfo>)>>,
    /// Workers that have not answered.
    missing: Gate<usize>,
}

impl Request {
    fn answer(&self, remote: &'static Remote, infos: Vec<GoroutineInfo>) {
        self.answers.lock().push((remote, infos));
        self.missing.with(|missing, waiters| {
            *missing -= 1;
            if *missing == 0 {
                waiters.unpark_all(0);
            }
        });
    }
}

/// What a worker is asked.
pub(crate) struct Requests {
    posted: Mutex<Vec<Arc<Request>>>,
    /// Length of `posted`.
    n: AtomicUsize,
}

impl Requests {
    pub(crate) fn new() -> Requests {
        Requests { posted: Mutex::new(Vec::new()), n: AtomicUsize::new(0) }
    }

    fn post(&self, request: Arc<Request>) {
        let mut posted = self.posted.lock();
        posted.push(request);
        // SeqCst: in one order with `slice_over` and the worker's announcement of its sleep. Post, set `slice_over`, wake:
        // either the worker finds the request before it sleeps, or it is woken and finds `slice_over`.
        self.n.store(posted.len(), Ordering::SeqCst);
    }

    pub(crate) fn are_pending(&self) -> bool {
        self.n.load(Ordering::SeqCst) != 0
    }

    fn take(&self) -> Vec<Arc<Request>> {
        let mut posted = self.posted.lock();
        self.n.store(0, Ordering::SeqCst);
        std::mem::take(&mut *posted)
    }
}

impl Worker {
    /// Answers who has asked. Called by the scheduler.
    #[cold]
    pub(crate) fn answer_requests(&self) {
        for request in self.remote.requests.take() {
            request.answer(self.remote, self.look(request.asker));
        }
    }

    /// Looks at all goroutines that are here.
    fn look(&self, asker: usize) -> Vec<GoroutineInfo> {
        let now = policy::nanos(policy::now());
        let runnable: HashSet<_> = self.runnable().into_iter().collect();
        let started = self.started();
        let mut alike: HashMap<(usize, Status), usize> = HashMap::new();
        let mut infos = Vec::with_capacity(started.len());
        for (i, g) in started.into_iter().enumerate() {
            // SAFETY: in the registry, so alive; here is its home.
            let header = unsafe { g.as_ref() };
            let reason = WaitReason::from_number(header.reason.load(Ordering::Relaxed));
            let status = if g.as_ptr().addr() == asker || reason == WaitReason::Inspect {
                Status::Running
            } else if reason == WaitReason::Yield || runnable.contains(&g) {
                Status::Runnable
            } else {
                Status::Waiting(reason)
            };
            // SAFETY: as above.
            let mut info = unsafe { GoroutineInfo::of(g, status, now) };
            let n_alike = alike.entry((ptr::from_ref(header.spawned_at).addr(), status)).or_default();
            *n_alike += 1;
            if i < STACKS_OF_ALL || *n_alike <= STACKS_OF_ALIKE {
                // SAFETY: started, not ended, and the scheduler runs.
                info.stack = unsafe { self.capture(g) };
            }
            infos.push(info);
        }
        self.remote.fresh.for_each(|item| infos.extend(unstarted(item, now)));
        infos
    }
}

/// An item of a queue whose lock is held.
fn unstarted(item: &Fresh, now: u64) -> Option<GoroutineInfo> {
    match item {
        // SAFETY: what is in a queue is alive, and nobody else knows it.
        Fresh::Goroutine(g) => Some(unsafe { GoroutineInfo::of(*g, Status::Unstarted, now) }),
        Fresh::Future(_) => None,
    }
}

/// Collects the stack of the goroutine that calls, having been resumed for that.
#[cold]
#[inline(never)]
pub(crate) fn capture_self(header: &Goroutine) {
    let worker = Worker::current().expect("a goroutine is resumed by its worker");
    let slot = header.slot.get().expect("it runs on a stack");
    let usable = worker.shared.pool.usable(slot);
    // On the heap: this stack may have little room, and none of its pages should be touched without need.
    let mut addresses = Vec::with_capacity(32);
    if usable.start + CAPTURE_ROOM > (&raw const addresses).addr() {
        return worker.leave_captured(None);
    }
    stack_trace::walk(&usable, |address| {
        addresses.push(address);
        addresses.len() < stack_trace::MAX_FRAMES
    });
    worker.leave_captured(Some(StackTrace::new(&addresses)));
}
