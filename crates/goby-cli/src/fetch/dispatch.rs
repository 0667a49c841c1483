//! The goroutine between feeder and pool. It hands each worker the next task, and takes back the
//! tasks that are to be tried again. So a wait, for a retry or for a host's rate, holds no worker.

use std::time::{Duration, Instant};

use goby::chan::{Receiver, Sender, TryRecvError};
use goby::{Context, select};

use super::input::Job;
use super::queue::{Host, Next, Queue};
use super::task::Task;
use super::trouble::Health;

/// The queue takes tasks ahead up to this many bytes, which is some 30,000 usual URLs. If a list
/// has longer runs of one host than this, it is fetched host by host.
pub(crate) const WINDOW: usize = 10 * 1024 * 1024;

/// Longer than any run: the wait where only a channel can bring news.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// What a worker did with a task.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) host: Host,
    /// Until then the host wants to be left alone.
    pub(crate) rests_until: Option<Instant>,
    /// What it has told of its host.
    pub(crate) health: Health,
    /// The task, if it is to be tried again, and when.
    pub(crate) again: Option<(Task, Instant)>,
}

/// Hands tasks to workers until all jobs have an answer. Once `ctx` is done it hands out everything
/// at once, due or not: the workers then only answer. It calls `stop` if the context would end
/// before anything is due.
pub(crate) fn dispatch(
    ctx: &Context,
    stop: impl Fn(),
    workers: usize,
    mut queue: Queue,
    jobs: &Receiver<Job>,
    reports: &Receiver<Report>,
    tasks: Sender<Task>,
) {
    let mut all_fed = false;
    let mut next: Option<Task> = None;
    loop {
        let now = goby::now();
        // Take all jobs that are there before choosing one: the first URLs may all be one host's.
        while !all_fed && queue.size() < WINDOW {
            match jobs.try_recv() {
                Ok(job) => queue.push(Task::new(job), now),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Closed) => all_fed = true,
            }
        }
        if all_fed && next.is_none() && queue.is_over() {
            return;
        }
        let is_stopped = ctx.err().is_some();
        let mut wait = NEVER;
        // Not before a worker is free, or about to be: its report may change which task is next.
        if next.is_none() && queue.in_flight() < workers {
            match if is_stopped { queue.take_any(now) } else { queue.take(now) } {
                Next::Task(task) => next = Some(task),
                Next::At(time) => {
                    if all_fed && queue.in_flight() == 0 && ctx.deadline().is_some_and(|end| end <= time) {
                        stop();
                        continue;
                    }
                    wait = time.saturating_duration_since(now);
                }
                Next::Nothing => {}
            }
        }
        select! {
            send(tasks, ref next) -> sent => if sent.is_err() {
                return;
            },
            recv(jobs) -> job if !all_fed && queue.size() < WINDOW => match job {
                Ok(job) => queue.push(Task::new(job), now),
                Err(_) => all_fed = true,
            },
            recv(reports) -> report => {
                // The pool ends before its tasks do only if a worker has panicked. The results show
                // that.
                let Ok(Report { host, rests_until, health, again }) = report else { return };
                queue.done(&host, rests_until, health, now);
                if let Some((task, due)) = again {
                    queue.put_back(task, due);
                }
            },
            recv(ctx.done()) -> _ if !is_stopped => {},
            default(wait) => {},
        }
    }
}
