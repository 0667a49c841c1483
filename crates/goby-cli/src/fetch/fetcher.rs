//! What a worker does with a task: it makes one request, saves the body, and says whether and when
//! to try again.
//!
//! A redirect ends the request and not the attempt. The task goes back to the dispatcher, and comes
//! again when the host that it leads to, and `--rate`, have a turn for it.
//!
//! Each attempt has a context of its own, with the time-out, under the run's context. When the
//! run's context is done, a task has one of two ends: if its first request was never made, it is
//! "not started"; if its request was in flight, it is a result of kind `canceled`.
//!
//! If a request fails because this process has no descriptor left, that is not a failure of the
//! URL. The request is made again, and does not count.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use goby::Context;
use goby::chan::Sender;
use url::Url;

use super::attempt::{Attempt, Failed, Step, Terms, stopped_in_flight};
use super::dispatch::Report;
use super::record::{Failure, Fetched, Kind, Record};
use super::retry::host_wait;
use super::robots::Verdict;
use super::task::{Task, host};
use super::trouble::Health;
use crate::text;

/// The wait without a descriptor, until other requests have given theirs back.
const DESCRIPTOR_WAIT: Duration = Duration::from_millis(50);

/// What all workers share.
#[derive(Debug)]
pub(crate) struct Fetcher {
    /// The run's context.
    ctx: Context,
    terms: Terms,
    /// What has become of each task.
    reports: Sender<Report>,
    /// The warning that descriptors are short was given.
    complained: AtomicBool,
}

/// The answer to a task.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// There is a result.
    Ended(Record),
    /// It is tried again later.
    Again,
    /// It goes on where a redirect leads.
    Moved,
    /// The run was stopped before the first request.
    NotStarted,
}

impl Fetcher {
    /// Makes a fetcher under the run's context `ctx`.
    pub(crate) fn new(ctx: Context, terms: Terms, reports: Sender<Report>) -> Fetcher {
        Fetcher { ctx, terms, reports, complained: AtomicBool::new(false) }
    }

    /// Does what can be done with a task now, and reports it to the dispatcher.
    pub(crate) fn fetch(&self, mut task: Task) -> Outcome {
        let mut report = Report { host: task.host.clone(), rests_until: None, health: Health::Unknown, again: None };
        let outcome = match std::mem::replace(&mut task.url, Err(Failure::new(Kind::InvalidUrl, ""))) {
            Err(failure) => ended(task, Err(failure)),
            Ok(url) => self.fetch_url(task, url, &mut report),
        };
        // The dispatcher outlives the tasks. Without it nobody needs to know.
        let _ = self.reports.send(report);
        outcome
    }

    fn fetch_url(&self, mut task: Task, url: Url, report: &mut Report) -> Outcome {
        let is_stopped = self.ctx.err().is_some()
            || self.terms.limiter.as_ref().is_some_and(|limiter| limiter.wait(&self.ctx).is_err());
        let moved = task.moved.take();
        if is_stopped {
            if moved.is_some() {
                task.attempts += 1;
                return ended(task, Err(stopped_in_flight()));
            }
            return match task.last_failure.take() {
                // Stopped between two attempts: the result is the last failure.
                Some(failure) => ended(task, Err(failure)),
                None => Outcome::NotStarted,
            };
        }
        if task.is_refused {
            return refused(task, moved.is_some());
        }
        let at = moved.as_ref().map_or(&url, |moved| &moved.to);
        if let Err(denied) = self.ask_robots(at, report) {
            task.attempts += u32::from(moved.is_some());
            return ended(task, Err(denied));
        }
        let (custom, moved) = (task.custom.as_deref(), moved.as_deref());
        let attempt = Attempt { run: &self.ctx, terms: &self.terms, url: &url, custom, moved };
        let failed = match attempt.make() {
            Ok(Step::Fetched(fetched)) => {
                report.health = Health::Fine;
                task.attempts += 1;
                return ended(task, Ok(fetched));
            }
            Ok(Step::Moved(moved)) => {
                report.health = Health::Fine;
                task.url = Ok(url);
                task.host = host(&moved.to);
                task.moved = Some(Box::new(moved));
                report.again = Some((task, goby::now()));
                return Outcome::Moved;
            }
            Err(failed) => failed,
        };
        self.after(failed, task, url, report)
    }

    /// Asks the site's `robots.txt`, if that is wanted.
    fn ask_robots(&self, at: &Url, report: &mut Report) -> Result<(), Failure> {
        let Some(robots) = &self.terms.robots else { return Ok(()) };
        match robots.ask(&self.ctx, &self.terms.client, at) {
            Verdict::Allowed(delay) => {
                report.rests_until = delay.map(|delay| goby::now() + delay);
                Ok(())
            }
            Verdict::Denied(message) => Err(Failure::new(Kind::Robots, message)),
        }
    }

    /// Decides what follows an attempt that failed.
    fn after(&self, failed: Failed, mut task: Task, url: Url, report: &mut Report) -> Outcome {
        let Failed { failure, retry_after, is_ours, had } = failed;
        let is_repeatable = !had || self.terms.requests.is_repeatable(task.custom.as_deref());
        let wait = if is_ours {
            self.complain(&failure);
            Some(DESCRIPTOR_WAIT)
        } else {
            report.health = Health::of(&failure);
            task.attempts += 1;
            self.terms.retry.wait(task.attempts, &failure, retry_after, goby::random()).filter(|_| is_repeatable)
        };
        let now = goby::now();
        report.rests_until = report.rests_until.max(host_wait(&failure, retry_after, wait).map(|time| now + time));
        let Some(wait) = wait else { return ended(task, Err(failure)) };
        if !is_ours {
            task.last_failure = Some(failure);
        }
        // The next attempt begins at the URL that was given, wherever this one has come to.
        task.host = host(&url);
        task.url = Ok(url);
        report.again = Some((task, now + wait));
        Outcome::Again
    }

    /// Warns once that descriptors are short.
    fn complain(&self, failure: &Failure) {
        // Relaxed: a flag by itself.
        if !self.complained.swap(true, Ordering::Relaxed) {
            text::complain(&format_args!(
                "warning: out of open files ({}); waiting for others to be closed: raise the limit with ulimit -n, or take \
                 fewer with --workers",
                failure.message
            ));
        }
    }
}

/// The answer to a task whose host is down.
fn refused(mut task: Task, is_moved: bool) -> Outcome {
    if let Some(failure) = task.last_failure.take() {
        return ended(task, Err(failure));
    }
    task.attempts += u32::from(is_moved);
    let message = format!("not requested: {} failed too often in a row (--max-host-failures)", task.host);
    ended(task, Err(Failure::new(Kind::HostDown, message)))
}

fn ended(task: Task, result: Result<Fetched, Failure>) -> Outcome {
    let line = task.custom.map(|custom| custom.line);
    Outcome::Ended(Record { url: task.text, line, result, attempts: task.attempts })
}
