//! Looking at goroutines, as data.
//!
//! Only its home worker may read what a goroutine is doing. So the asker *asks* each worker
//! (`ask`), and each answers at its next scheduling point. A goroutine takes no lock for any of
//! this: the request to answer comes with the flag that the time slice is over (`slice_over`),
//! which is read anyway. Of a worker that does not answer in time, the goroutine that it runs is
//! shown, and the others are counted.
//!
//! The result is no snapshot: workers answer one after the other, and goroutines go on. A goroutine
//! that is parked forever is shown exactly.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::panic::Location;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::base::stack_trace::StackTrace;
use crate::base::{policy, tsan};
use crate::engine::attributes;
use crate::engine::attributes::Inherited;
use crate::engine::current::current_shared;
use crate::engine::goroutine::{Goroutine, GoroutineId, Reported};
use crate::engine::reach::reported_flags;
use crate::engine::run_queue::Unstarted;
use crate::engine::shared::Shared;
use crate::engine::wait_reason::WaitReason;
use crate::engine::worker::Worker;
use crate::look::ask::ask;

/// So many of each worker's goroutines have their stacks taken, even if they are alike. Taking one
/// costs microseconds, and a page that the goroutine may not have touched.
const STACKS_OF_ALL: usize = 4096;
/// Beyond that, so many stacks are taken of goroutines that were started at one place and wait for
/// one reason.
const STACKS_OF_ALIKE: usize = 8;
/// At most so many looks, when one look may have missed a goroutine.
const TRIES: u32 = 7;
/// So many looks in a row must agree, if goroutines are stolen all the time. For two looks in a row
/// to miss one goroutine takes two thieves, for three looks three.
const AGREEING_LOOKS: u32 = 3;

/// What a goroutine was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    /// It has not run yet.
    Unstarted,
    /// It waits for its turn.
    Runnable,
    /// It runs, or it is the asker.
    Running,
    /// It is parked.
    Waiting(WaitReason),
}

impl Status {
    /// Returns the status of a goroutine that has started on the calling scheduler's worker.
    /// `is_queued` says whether it is queued to run.
    pub(crate) fn of(g: &Goroutine, asker: Option<GoroutineId>, is_queued: impl FnOnce() -> bool) -> Status {
        let reason = WaitReason::from_number(g.notes.reason.load(Ordering::Relaxed));
        if Some(g.id) == asker || reason == WaitReason::Inspect {
            Status::Running
        } else if reason == WaitReason::Yield || is_queued() {
            Status::Runnable
        } else {
            Status::Waiting(reason)
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is known of one goroutine.
#[derive(Clone)]
pub struct GoroutineInfo {
    pub(crate) id: GoroutineId,
    pub(crate) status: Status,
    pub(crate) flags: Reported,
    pub(crate) parent: u64,
    pub(crate) joins: u64,
    /// Stands for the worker that it is pinned to; 0 if it is pinned to none, or this is not known.
    pub(crate) home: usize,
    /// How long ago it last parked.
    pub(crate) age: Duration,
    pub(crate) started_at: &'static Location<'static>,
    pub(crate) name: Option<Arc<str>>,
    pub(crate) inherited: Option<Arc<Inherited>>,
    /// Its runtime had spawned futures that had not ended.
    pub(crate) beside_futures: bool,
    pub(crate) stack: Option<StackTrace>,
}

impl GoroutineInfo {
    /// Returns its id.
    pub fn id(&self) -> GoroutineId {
        self.id
    }

    /// Returns the name that it was given.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Returns its labels, the oldest first.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.inherited.iter().flat_map(|inherited| &inherited.labels).map(|(key, value)| (&**key, &**value))
    }

    /// Returns what it was doing.
    pub fn status(&self) -> Status {
        self.status
    }

    /// Returns how long it has been parked, if it is. It is as exact as the monitor's tick, 1 to 5
    /// ms; coarser if the machine keeps the monitor from running.
    pub fn waited(&self) -> Option<Duration> {
        matches!(self.status, Status::Waiting(_)).then_some(self.age)
    }

    /// Returns where it was started.
    pub fn started_at(&self) -> &'static Location<'static> {
        self.started_at
    }

    /// Returns the number of the goroutine that started it; none if a thread, timer or future did.
    pub fn started_by(&self) -> Option<u64> {
        (self.parent != 0).then_some(self.parent)
    }

    /// Returns the number of the goroutine that it joins, if it does.
    pub fn joins(&self) -> Option<u64> {
        (self.status == Status::Waiting(WaitReason::Join) && self.joins != 0).then_some(self.joins)
    }

    /// Returns its stack; none if it has not started, if too little of the stack is left to collect
    /// it there, or if very many goroutines wait alike and the stacks of others were taken.
    pub fn stack(&self) -> Option<&StackTrace> {
        self.stack.as_ref()
    }

    /// Returns whether a timer ends its wait: it has a deadline, or receives from the channel of a
    /// timer that is armed, neither fired nor stopped, or the done channel of a context with a
    /// deadline.
    pub fn has_deadline(&self) -> bool {
        self.flags.has_deadline()
    }

    /// Returns whether its wait ends when a context is done: it receives from a context's done
    /// channel, waits in a select with such a case, or in the form of an operation that takes a
    /// context. This says nothing about the holders of the context.
    pub fn is_reached_by_context(&self) -> bool {
        self.flags.has_context()
    }

    /// Returns whether it was started in a scope, by a goroutine in it, and so on.
    pub(crate) fn is_in(&self, scope: u64) -> bool {
        self.inherited.as_ref().is_some_and(|inherited| inherited.scopes.contains(&scope))
    }

    /// # Safety
    ///
    /// The goroutine is alive. The caller is its home's scheduler, or holds the lock of the queue
    /// of unstarted goroutines that it is in.
    pub(crate) unsafe fn of(g: NonNull<Goroutine>, status: Status, now: u64) -> GoroutineInfo {
        // SAFETY: alive by contract.
        let header = unsafe { g.as_ref() };
        GoroutineInfo {
            id: header.id,
            status,
            // The flags describe a wait.
            flags: if matches!(status, Status::Waiting(_)) {
                // SAFETY: alive by contract. A goroutine that waits has started here and is
                // suspended.
                unsafe { reported_flags(header) }
            } else {
                Reported::default()
            },
            parent: header.origin.parent,
            joins: header.notes.joins.get(),
            home: header.home_address(),
            age: Duration::from_nanos(now.saturating_sub(header.notes.since.get())),
            started_at: header.origin.spawned_at,
            name: header.attributes.name(),
            inherited: header.attributes.inherited(),
            beside_futures: false,
            stack: None,
        }
    }
}

/// Prints one line: `goroutine 18 "fetcher" [chan receive, 3 minutes], started at
/// src/main.rs:30:5`. The name is there if it has one, and the minutes from the first on, as in a
/// [`dump`](crate::dump()).
impl fmt::Display for GoroutineInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "goroutine {}", self.id)?;
        if let Some(name) = self.name() {
            write!(f, " {name:?}")?;
        }
        let long = LongWait(self.waited().unwrap_or_default());
        write!(f, " [{}{long}], started at {}", self.status, self.started_at)
    }
}

/// Prints how long a wait has lasted, after its reason, if the wait is long.
pub(crate) struct LongWait(pub(crate) Duration);

/// Waits of at least this length are shown, as in Go.
const LONG_WAIT: Duration = Duration::from_secs(60);

impl fmt::Display for LongWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < LONG_WAIT {
            return Ok(());
        }
        let minutes = self.0.as_secs() / 60;
        write!(f, ", {minutes} minute{}", if minutes == 1 { "" } else { "s" })
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
    /// At most so many goroutines have started there and have not ended. Only the running one is
    /// shown.
    pub n_started: usize,
    /// It polls a future, so none of its goroutines is shown.
    pub polls_future: bool,
}

/// What a look at goroutines has found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Sorted by id.
    pub(crate) goroutines: Vec<GoroutineInfo>,
    pub(crate) silent: Vec<Silent>,
}

/// Looks at the goroutines of the caller's runtime (from a plain thread, the default one). Returns
/// one entry per goroutine, sorted by id.
///
/// It is no snapshot: goroutines go on while it is made. A worker that does not come to a goby call
/// within 100 ms shows the goroutine that it runs, and none of the others.
///
/// ```
/// use goby::Runtime;
/// use goby::diag::Status;
/// let runtime = Runtime::builder().workers(1).build()?;
/// let seen = runtime.run(goby::diag::goroutines);
/// assert_eq!(seen.len(), 1);
/// assert_eq!(seen[0].status(), Status::Running);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Blocking
///
/// The goroutine, or the OS thread, until all workers have answered.
pub fn goroutines() -> Vec<GoroutineInfo> {
    collect(&[current_shared()], Want::ALL).goroutines
}

/// What is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Want {
    /// Only the goroutines of this family.
    pub(crate) family: Option<u64>,
    /// Their stacks too.
    pub(crate) stacks: bool,
    /// Wait for a worker rather than miss its goroutines.
    pub(crate) patient: bool,
}

impl Want {
    pub(crate) const ALL: Want = Want { family: None, stacks: true, patient: false };

    fn includes(self, info: &GoroutineInfo) -> bool {
        self.family.is_none_or(|family| info.is_in(family))
    }
}

/// Asks the workers of all these runtimes at once.
pub(crate) fn collect(runtimes: &[&'static Shared], want: Want) -> Found {
    let _ignore = tsan::ignore();
    let (mut tries, mut agreeing, mut seen_last) = (0, 0, None);
    let thefts = || runtimes.iter().map(|shared| shared.n_thefts()).sum::<u64>();
    loop {
        let before = thefts();
        let found = ask_once(runtimes, want);
        tries += 1;
        // A goroutine was missed if a worker that had answered stole it from one not asked yet.
        // Counts of goroutines do not show this: goroutines that begin and end meanwhile hide it.
        let is_complete = thefts() == before || !found.silent.is_empty();
        let seen: Vec<_> = found.goroutines.iter().map(|info| info.id).collect();
        agreeing = if seen_last.as_ref() == Some(&seen) { agreeing + 1 } else { 1 };
        seen_last = Some(seen);
        if is_complete || agreeing >= AGREEING_LOOKS || tries == TRIES {
            let _heed = tsan::heed();
            attributes::can_be_read();
            return found;
        }
    }
}

/// Looks once: asks all workers, and waits for their answers.
fn ask_once(runtimes: &[&'static Shared], want: Want) -> Found {
    // Looked at before the workers and after them. A goroutine may leave these queues for a worker
    // that has answered. Or it gets no stack, and comes here from a worker that has not answered.
    let mut homeless = look_at_homeless(runtimes);
    let asker = crate::engine::worker::current_id();
    let answers = ask(runtimes, want.patient, move |worker| worker.look(want, asker));
    let mut found = Found { goroutines: answers.running, silent: answers.silent };
    found.goroutines.extend(answers.given.into_iter().flatten());
    homeless.extend(look_at_homeless(runtimes));
    found.goroutines.extend(homeless.into_iter().filter(|info| want.includes(info)));
    // A goroutine that has moved meanwhile may be there twice. What a worker says of it comes
    // first, and says more.
    found.goroutines.sort_by_key(|info| info.id);
    found.goroutines.dedup_by_key(|info| info.id);
    found
}

/// Returns the unstarted goroutines that are in no worker's queue.
fn look_at_homeless(runtimes: &[&'static Shared]) -> Vec<GoroutineInfo> {
    let now = policy::nanos(policy::now());
    let mut infos = Vec::new();
    for shared in runtimes {
        shared.for_each_homeless(|item| infos.extend(unstarted(item, now)));
    }
    infos
}

impl Worker {
    /// Looks at all goroutines that are here.
    fn look(&self, want: Want, asker: Option<GoroutineId>) -> Vec<GoroutineInfo> {
        let now = policy::nanos(policy::now());
        // Asked first: what a future did before it ended is seen below.
        let beside_futures = self.shared.n_tasks() > 0;
        let runnable: HashSet<_> = self.runnable().into_iter().collect();
        let started = self.started();
        let mut alike: HashMap<(usize, Status), usize> = HashMap::new();
        let mut infos = Vec::with_capacity(started.len());
        for g in started {
            // SAFETY: in the registry, so alive; this worker is its home.
            let header = unsafe { g.as_ref() };
            let status = Status::of(header, asker, || runnable.contains(&g));
            // SAFETY: as above.
            let mut info = unsafe { GoroutineInfo::of(g, status, now) };
            if !want.includes(&info) {
                continue;
            }
            info.beside_futures = beside_futures;
            let n_alike = alike.entry((ptr::from_ref(header.origin.spawned_at).addr(), status)).or_default();
            *n_alike += 1;
            if want.stacks && (infos.len() < STACKS_OF_ALL || *n_alike <= STACKS_OF_ALIKE) {
                // SAFETY: it has started and not ended, and this is the scheduler.
                info.stack = unsafe { self.capture(g) };
            }
            infos.push(info);
        }
        self.remote
            .stealable
            .unstarted
            .for_each(|item| infos.extend(unstarted(item, now).filter(|info| want.includes(info))));
        infos
    }
}

/// Looks at all goroutines of the calling scheduler's worker.
pub(crate) fn of_worker(worker: &Worker) -> Vec<GoroutineInfo> {
    let mut infos = worker.look(Want::ALL, None);
    infos.sort_by_key(|info| info.id);
    infos
}

/// Returns what is known of an item of a queue; none if it is a future. The caller holds the
/// queue's lock.
fn unstarted(item: &Unstarted, now: u64) -> Option<GoroutineInfo> {
    match item {
        // SAFETY: an item in a queue is alive, and nobody else refers to it.
        Unstarted::Goroutine(g) => Some(unsafe { GoroutineInfo::of(*g, Status::Unstarted, now) }),
        Unstarted::Future(_) => None,
    }
}
