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

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use goby::Context;
use goby::chan::Sender;
use goby::rate::Limiter;
use goby_http::{Client, Response};
use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};
use rustix::io::Errno;
use url::Url;

use super::dispatch::Report;
use super::record::{Failure, Fetched, Kind, Record};
use super::request::{Custom, Requests};
use super::retry::{Retry, host_wait, retry_after};
use super::save::{Body, Saver};
use super::task::{Moved, Task, host};
use crate::text;

/// The body of a failed response is read up to this length, because a connection can be used again
/// only when nothing is left on it. For a longer body a new connection is cheaper.
const DRAINED: u64 = 64 * 1024;
/// How many redirects are followed, as in most clients.
const REDIRECTS: u32 = 10;
/// The wait without a descriptor, until other requests have given theirs back.
const DESCRIPTOR_WAIT: Duration = Duration::from_millis(50);

/// What the options say of all requests.
#[derive(Debug)]
pub(crate) struct Terms {
    pub(crate) client: Client,
    pub(crate) requests: Requests,
    /// `--max-time`.
    pub(crate) timeout: Duration,
    pub(crate) retry: Retry,
    /// `--rate`.
    pub(crate) limiter: Option<Limiter>,
    pub(crate) saver: Option<Arc<Saver>>,
}

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

/// What a request that did not fail has come to.
enum Step {
    Fetched(Fetched),
    Moved(Moved),
}

/// An attempt that failed.
struct Failed {
    failure: Failure,
    /// What the server said about trying again.
    retry_after: Option<Duration>,
    /// This process had no descriptor for it.
    is_ours: bool,
    /// The server may have had the request, and done what it asks.
    had: bool,
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Failed {
        Failed { failure, retry_after: None, is_ours: false, had: true }
    }
}

impl Fetcher {
    /// Makes a fetcher under the run's context `ctx`.
    pub(crate) fn new(ctx: Context, terms: Terms, reports: Sender<Report>) -> Fetcher {
        Fetcher { ctx, terms, reports, complained: AtomicBool::new(false) }
    }

    /// Does what can be done with a task now, and reports it to the dispatcher.
    pub(crate) fn fetch(&self, mut task: Task) -> Outcome {
        let mut report = Report { host: task.host.clone(), rests_until: None, again: None };
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
        let failed = match self.attempt(&url, task.custom.as_deref(), moved.as_deref()) {
            Ok(Step::Fetched(fetched)) => {
                task.attempts += 1;
                return ended(task, Ok(fetched));
            }
            Ok(Step::Moved(moved)) => {
                task.url = Ok(url);
                task.host = host(&moved.to);
                task.moved = Some(Box::new(moved));
                report.again = Some((task, goby::now()));
                return Outcome::Moved;
            }
            Err(failed) => failed,
        };
        let Failed { failure, retry_after, is_ours, had } = failed;
        let is_repeatable = !had || self.terms.requests.is_repeatable(task.custom.as_deref());
        let wait = if is_ours {
            self.complain(&failure);
            Some(DESCRIPTOR_WAIT)
        } else {
            task.attempts += 1;
            self.terms.retry.wait(task.attempts, &failure, retry_after, goby::random()).filter(|_| is_repeatable)
        };
        let now = goby::now();
        report.rests_until = host_wait(&failure, retry_after, wait).map(|time| now + time);
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

    /// Makes one request, from connecting to the last byte saved. The body is saved under the name
    /// of `url`, wherever that was redirected to.
    fn attempt(&self, url: &Url, custom: Option<&Custom>, moved: Option<&Moved>) -> Result<Step, Failed> {
        let (at, hops, spent) = moved.map_or((url, 0, Duration::ZERO), |moved| (&moved.to, moved.hops, moved.spent));
        let (ctx, _cancel) = self.ctx.with_timeout(self.terms.timeout.saturating_sub(spent));
        let started = goby::now();
        let response = match custom {
            None if self.terms.requests.is_plain() => self.terms.client.get(&ctx, at.as_str()),
            _ => self.terms.requests.send(&self.terms.client, &ctx, at, custom, moved, HeaderMap::new()),
        };
        let mut response = response.map_err(|error| self.failed(error))?;
        if let Some(location) = response.location().map_err(|error| self.failed(error))? {
            if hops == REDIRECTS {
                return Err(Failure::new(Kind::TooManyRedirects, format!("stopped after {hops} redirects")).into());
            }
            drain(&mut response);
            let to = Url::parse(&location).expect("it was a URL before it was text");
            let keeps = matches!(response.status(), StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
            let is_get = !keeps || moved.is_some_and(|moved| moved.is_get);
            let is_foreign = to.origin() != at.origin() || moved.is_some_and(|moved| moved.is_foreign);
            return Ok(Step::Moved(Moved { to, hops: hops + 1, spent: spent + started.elapsed(), is_get, is_foreign }));
        }
        let status = response.status();
        if !status.is_success() && !status.is_redirection() {
            let failure = Failure::status(status.as_u16(), status.canonical_reason());
            let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            let retry_after = asked.and_then(|value| retry_after(value, SystemTime::now()));
            drain(&mut response);
            let had = !matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
            return Err(Failed { failure, retry_after, is_ours: false, had });
        }
        let mut body = self.terms.saver.as_deref().map(|saver| saver.body(url));
        let bytes = self.read_body(&mut response, body.as_mut())?;
        let elapsed = spent + started.elapsed();
        let file =
            body.map(|body| goby::blocking(|| body.finish())).transpose().map_err(|error| cannot_save(&error))?;
        Ok(Step::Fetched(Fetched { status: status.as_u16(), bytes, elapsed, file }))
    }

    /// Reads the body to its end, into the file if there is one, and returns its length.
    fn read_body(&self, response: &mut Response, mut body: Option<&mut Body<'_>>) -> Result<u64, Failed> {
        let mut bytes = 0;
        while let Some(chunk) = response.reader().chunk().map_err(|error| self.failed(error))? {
            bytes += chunk.len() as u64;
            let Some(body) = &mut body else { continue };
            body.push(&chunk);
            if body.is_full() {
                goby::blocking(|| body.spill()).map_err(|error| cannot_save(&error))?;
            }
        }
        Ok(bytes)
    }

    fn failed(&self, error: goby_http::Error) -> Failed {
        let (is_ours, had) = (error.is_out_of_descriptors(), !error.is_connect() && !error.is_resolve());
        Failed { is_ours, had, ..self.failure(error).into() }
    }

    /// The kind and words of a request's error. The result names the URL, so the words do not.
    fn failure(&self, error: goby_http::Error) -> Failure {
        if self.ctx.err().is_some() {
            return stopped_in_flight();
        }
        let error = error.without_url();
        if error.is_timeout() {
            let timeout = text::duration(self.terms.timeout);
            return Failure::new(Kind::Timeout, format!("no complete response within {timeout}: {error}"));
        }
        let kind = if error.is_resolve() {
            Kind::Dns
        } else if error.is_tls() {
            Kind::Tls
        } else if error.is_protocol() {
            Kind::Protocol
        } else if error.is_body() {
            Kind::Body
        } else if error.is_url() || error.is_redirect() {
            Kind::InvalidUrl
        } else {
            Kind::Connect
        };
        Failure::new(kind, in_full(&error))
    }
}

/// Reads the rest of a small body. An error ends that without a report: the result is known
/// already.
fn drain(response: &mut Response) {
    let mut bytes = 0;
    while bytes < DRAINED
        && let Ok(Some(chunk)) = response.reader().chunk()
    {
        bytes += chunk.len() as u64;
    }
}

fn stopped_in_flight() -> Failure {
    Failure::new(Kind::Canceled, "in flight when the run was stopped")
}

fn cannot_save(error: &io::Error) -> Failed {
    let is_ours = matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE));
    Failed { is_ours, ..Failure::new(Kind::Save, text::reason(error)).into() }
}

fn ended(task: Task, result: Result<Fetched, Failure>) -> Outcome {
    let line = task.custom.map(|custom| custom.line);
    Outcome::Ended(Record { url: task.text, line, result, attempts: task.attempts })
}

/// An error with all its causes, each said once.
fn in_full(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    #[derive(Debug)]
    struct Layer(&'static str, Option<Box<Layer>>);

    impl fmt::Display for Layer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl StdError for Layer {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            self.1.as_deref().map(|layer| layer as _)
        }
    }

    #[test]
    fn an_error_is_told_with_its_causes_each_once() {
        let refused = Layer("connection refused", None);
        let nested = Layer("connecting: connection refused", Some(Box::new(refused)));
        let error = Layer("request failed", Some(Box::new(nested)));
        assert_eq!(in_full(&error), "request failed: connecting: connection refused");
    }
}
