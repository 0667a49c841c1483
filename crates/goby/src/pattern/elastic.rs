//! Pools that grow and shrink.
//!
//! One of a pool's goroutines *leads*: it waits for the next job. When the leader gets a job it
//! first appoints another goroutine to lead. Then it works, and goes on with the jobs that are
//! there. When there are none it leads again if nobody else leads; otherwise it rests.
//!
//! The last to rest is the first to be appointed, so the goroutines that are not needed rest to the
//! end and stop. If jobs are there without waiting nobody is appointed, and the path from job to
//! job takes no lock of the pool.

use std::mem;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::output::{Ended, Group, Producer};
use crate::chan::{self, Receiver, Sender};
use crate::context::Context;
use crate::select;

/// Starts a pool as [`worker_pool`](super::worker_pool) does. Its workers keep something from job
/// to job: a connection, a buffer.
///
/// Each worker does its jobs with a function of its own. `new_worker` makes this function when the
/// worker gets its first job, and it is dropped with the worker. The function stays on its
/// goroutine, so it need not be `Send`. The pool begins with one goroutine. It grows while jobs
/// come for which no worker is free, to at most `max`. A worker without a job rests for `idle`,
/// then it ends. Of the resting workers the one that worked last is taken first, so those that are
/// not needed rest to the end. One always stays.
///
/// If workers keep nothing, [`worker_pool`](super::worker_pool) is faster (130 against 315 ns for
/// one job at a time), and better for jobs that compute: its workers go where there is room, while
/// these stay on their OS thread.
///
/// # Panics
///
/// As [`worker_pool`](super::worker_pool). A panic of `new_worker` is treated as one of a job. A
/// job that ends its goroutine by `goexit` takes its worker along: the worker drops what it kept,
/// and the pool makes another.
///
/// ```
/// use goby::{Context, pattern};
/// use std::time::Duration;
///
/// let (ctx, _cancel) = Context::background().with_cancel();
/// let jobs = pattern::source(&ctx, 1..=100);
/// let results = pattern::elastic_pool(&ctx, jobs, 10, Duration::from_secs(1), || {
///     let mut buffer = String::with_capacity(1024);
///     move |job: u32| {
///         buffer.clear();
///         buffer.extend((0..job).map(|_| '*'));
///         buffer.len()
///     }
/// });
/// assert_eq!(results.iter().sum::<usize>(), 5050);
/// ```
///
/// In Go, but for the closing of the results:
///
/// ```go
/// work := func(job Job) {
///     defer func() { <-slots }()
///     do := newWorker()
///     for timer := time.NewTimer(idle); ; timer.Reset(idle) {
///         results <- do(job)
///         select {
///         case job = <-handed: // unbuffered
///         case <-timer.C:
///             return
///         case <-ctx.Done():
///             return
///         }
///     }
/// }
/// for job := range jobs {
///     select {
///     case handed <- job: // one was free
///     case slots <- struct{}{}: // room for max
///         go work(job)
///     case <-ctx.Done():
///         return
///     }
/// }
/// ```
#[track_caller]
pub fn elastic_pool<J, R, N, F>(
    ctx: &Context,
    jobs: Receiver<J>,
    max: usize,
    idle: Duration,
    new_worker: N,
) -> Receiver<R>
where
    J: Send + 'static,
    R: Send + 'static,
    N: Fn() -> F + Send + Sync + 'static,
    F: FnMut(J) -> R,
{
    assert!(max > 0, "pattern: a pool without workers never gives a result");
    let (results, receiver) = Group::new(ctx).output(max);
    let crew = Crew { n: 1, led: true, resting: vec![], rests: 0 };
    let pool = Pool { jobs, results, new_worker, max, idle, started_at: Location::caller(), crew: Mutex::new(crew) };
    Arc::new(pool).start(Begins::ToLead);
    receiver
}

/// What the goroutines of a pool share. The last goroutine drops it, and so closes the results.
struct Pool<J, R, N> {
    jobs: Receiver<J>,
    results: Producer<R>,
    new_worker: N,
    max: usize,
    /// How long an idle goroutine rests.
    idle: Duration,
    started_at: &'static Location<'static>,
    /// Locked for a few instructions, never across a switch.
    crew: Mutex<Crew>,
}

/// The goroutines of a pool.
struct Crew {
    n: usize,
    /// Whether one leads, or is appointed to lead.
    led: bool,
    /// The resting goroutines, each by the number of its rest and the sender that appoints it. The
    /// one that has rested longest is first.
    resting: Vec<(u64, Sender<Appointed>)>,
    /// How many rests there have been.
    rests: u64,
}

/// What a goroutine of the pool begins with.
enum Begins {
    ToLead,
    /// In the place of a goroutine that a job has ended.
    AfterAJob,
}

/// Sent to a resting goroutine that is to lead.
#[derive(Debug)]
struct Appointed;

impl<J, R, N, F> Pool<J, R, N>
where
    J: Send + 'static,
    R: Send + 'static,
    N: Fn() -> F + Send + Sync + 'static,
    F: FnMut(J) -> R,
{
    fn start(self: Arc<Self>, begins: Begins) {
        let run = move |pool: Arc<Self>| {
            let mut worker = None;
            let ended = pool.results.guard(|| pool.run(&mut worker, begins));
            // On its own: the end of the worker's destructor is not the end of a job.
            _ = pool.results.guard(|| drop(worker));
            if ended == Ended::Exited {
                pool.start(Begins::AfterAJob);
            }
        };
        goby_runtime::go_owing(self.started_at, self, run, |pool| pool.results.never_ran());
    }

    /// Runs a goroutine of the pool. Only a job, or `new_worker` for it, ends the goroutine from
    /// inside, so it does not lead at that moment.
    fn run(self: &Arc<Self>, worker: &mut Option<F>, begins: Begins) {
        let mut leads = matches!(begins, Begins::ToLead);
        loop {
            let mut job = if leads {
                let Some(job) = self.results.next(&self.jobs) else { break };
                self.appoint();
                Some(job)
            } else {
                self.results.try_next(&self.jobs)
            };
            while let Some(begun) = job {
                let worker = worker.get_or_insert_with(&self.new_worker);
                if !self.results.put(worker(begun)) {
                    return; // As all workers will: the context is done, or nobody receives.
                }
                job = self.results.try_next(&self.jobs);
            }
            if !self.is_to_lead() {
                return;
            }
            leads = true;
        }
        // The jobs are over. A goroutine that works now will lead next and see this too. Those that
        // rest are sent home.
        let resting = {
            let mut crew = self.crew.lock();
            crew.led = false;
            mem::take(&mut crew.resting)
        };
        drop(resting);
    }

    /// Makes another goroutine wait for the next job, if one is left: the leader has got a job.
    fn appoint(self: &Arc<Self>) {
        let mut crew = self.crew.lock();
        if let Some((_, next)) = crew.resting.pop() {
            // The last one that went to rest leads.
            drop(crew);
            next.try_send(Appointed).expect("who was in the list receives");
        } else if crew.n < self.max {
            // Nobody rests: a new goroutine leads.
            crew.n += 1;
            drop(crew);
            self.clone().start(Begins::ToLead);
        } else {
            // All work: the first that has no job any more leads.
            crew.led = false;
        }
    }

    /// Decides for a goroutine without a job. Returns true if it is to lead, at once or after a
    /// rest, and false if it is to end.
    fn is_to_lead(&self) -> bool {
        let mut crew = self.crew.lock();
        if !crew.led {
            crew.led = true;
            return true;
        }
        if self.idle.is_zero() {
            crew.n -= 1;
            return false;
        }
        let (appoint, appointed) = chan::bounded(1);
        crew.rests += 1;
        let rest = crew.rests;
        crew.resting.push((rest, appoint));
        drop(crew);
        select! {
            recv(appointed) -> leads => return leads.is_ok(),
            recv(self.results.ctx().done()) -> _ => {}
            default(self.idle) => {}
        }
        let mut crew = self.crew.lock();
        // Still in the list: nobody has appointed it, so the rest is over.
        if let Some(index) = crew.resting.iter().position(|(other, _)| *other == rest) {
            crew.resting.remove(index);
            crew.n -= 1;
            return false;
        }
        drop(crew);
        // It was taken out of the list at this moment: to be appointed, or sent home.
        appointed.recv().is_ok()
    }
}
