//! Pools that grow and shrink.
//!
//! Of a pool's goroutines one *leads*: it waits for the next job. When it gets one it first
//! appoints another to lead, then works, and goes on with what jobs there are; when there are none
//! it leads again if nobody does, and else it rests. The last to rest is the first to be appointed,
//! so that those who are too many get their rest and end. Where jobs are there without waiting
//! nobody is appointed, and the path from job to job takes no lock of the pool.

use std::mem;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::output::{Ended, Group, Producer};
use crate::chan::{self, Receiver, Sender};
use crate::context::Context;
use crate::select;

/// Starts a pool as [`worker_pool`](super::worker_pool) does, of workers that keep something from
/// job to job: a connection, a buffer.
///
/// Each worker does its jobs with a function of its own, which `new_worker` makes when the worker
/// gets its first job, and which is dropped with the worker. The function stays on its goroutine,
/// and so need not be `Send`. There is one goroutine to begin with; the pool grows while jobs come
/// that nobody is free for, to `max` at most. A worker without a job rests for `idle`, then it
/// ends. Of those that rest the one that worked last is taken first, so that those who are too many
/// get their rest. One always stays.
///
/// Without anything to keep [`worker_pool`](super::worker_pool) is faster (130 against 315 ns for
/// one job at a time), and better for jobs that compute: its workers go where there is room, these
/// stay on their OS thread.
///
/// # Panics
///
/// As [`worker_pool`](super::worker_pool); a panic of `new_worker` is treated as one of a job. A
/// job that ends its goroutine by `goexit` takes its worker along, which then drops what it kept;
/// the pool makes another.
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

/// What the goroutines of a pool share. The last of them drops it, and so closes the results.
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
    /// Whether one leads, or is appointed to.
    led: bool,
    /// Those who rest, by the number of the rest and what appoints them; who rests longest is
    /// first.
    resting: Vec<(u64, Sender<Appointed>)>,
    /// How many rests there have been.
    rests: u64,
}

/// What a goroutine of the pool begins with.
enum Begins {
    ToLead,
    /// In the place of one whose job ended its goroutine.
    AfterAJob,
}

/// Sent to one who rests and is to lead.
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
            // Apart: what the destructor of what it kept does is no job's doing.
            _ = pool.results.guard(|| drop(worker));
            if ended == Ended::Exited {
                pool.start(Begins::AfterAJob);
            }
        };
        goby_runtime::go_owing(self.started_at, self, run, |pool| pool.results.never_ran());
    }

    /// A goroutine of the pool. Only a job, or `new_worker` for it, ends it from inside, so it does
    /// not lead then.
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
                    return; // As all will: the context is done, or nobody receives.
                }
                job = self.results.try_next(&self.jobs);
            }
            if !self.is_to_lead() {
                return;
            }
            leads = true;
        }
        // The jobs are over. Whoever works now will lead next and see it too; those who rest are
        // sent home.
        let resting = {
            let mut crew = self.crew.lock();
            crew.led = false;
            mem::take(&mut crew.resting)
        };
        drop(resting);
    }

    /// The leader has got a job: another is to wait for the next one, if there is one left.
    fn appoint(self: &Arc<Self>) {
        let mut crew = self.crew.lock();
        if let Some((_, next)) = crew.resting.pop() {
            drop(crew);
            next.try_send(Appointed).expect("who was in the list receives");
        } else if crew.n < self.max {
            crew.n += 1;
            drop(crew);
            self.clone().start(Begins::ToLead);
        } else {
            crew.led = false;
        }
    }

    /// One has no job any more. Tells whether it is to lead, after a rest or at once, or to end.
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
        if let Some(index) = crew.resting.iter().position(|(other, _)| *other == rest) {
            crew.resting.remove(index);
            crew.n -= 1;
            return false;
        }
        drop(crew);
        // Taken out of the list at this moment: to be appointed, or sent home.
        appointed.recv().is_ok()
    }
}
