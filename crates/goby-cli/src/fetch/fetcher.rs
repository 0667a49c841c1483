//! What a worker does with a job: wait for its turn, request, save, and try again as long as that makes sense.
//!
//! Each attempt has a context of its own, with the time-out, under the run's context. What is seen of the run's
//! context decides between two ends: a job whose first request was never made is "not started", one whose
//! request was in flight is a result of kind `canceled`.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use goby::Context;
use goby::time::sleep_ctx;
use goby_http::{Client, Response};
use http::header::RETRY_AFTER;
use url::Url;

use super::input::Job;
use super::limits::Limits;
use super::record::{Failure, Fetched, Kind, Record};
use super::retry::{Retry, retry_after};
use super::save::{Body, Saver};
use crate::text;

/// The body of a failed response is read up to here, because a connection can only be used again when nothing is
/// left on it. Past this a new connection is cheaper.
const DRAINED: u64 = 64 * 1024;

/// What all workers share.
#[derive(Debug)]
pub(crate) struct Fetcher {
    /// The run's context.
    ctx: Context,
    client: Client,
    timeout: Duration,
    retry: Retry,
    limits: Limits,
    saver: Option<Arc<Saver>>,
}

/// The answer to a job.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// There is a result.
    Ended(Record),
    /// The run was stopped before the first request.
    NotStarted,
}

/// An attempt that failed, with what the server said about trying again.
struct Failed {
    failure: Failure,
    retry_after: Option<Duration>,
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Failed {
        Failed { failure, retry_after: None }
    }
}

impl Fetcher {
    /// A fetcher under the run's context `ctx`.
    pub(crate) fn new(
        ctx: Context,
        client: Client,
        timeout: Duration,
        retry: Retry,
        limits: Limits,
        saver: Option<Arc<Saver>>,
    ) -> Fetcher {
        Fetcher { ctx, client, timeout, retry, limits, saver }
    }

    /// Makes of a job what can be made of it.
    pub(crate) fn fetch(&self, job: Job) -> Outcome {
        if self.ctx.err().is_some() {
            return Outcome::NotStarted;
        }
        let url = match job.url() {
            Ok(url) => url,
            Err(failure) => return Outcome::Ended(Record { url: job.text, result: Err(failure), attempts: 0 }),
        };
        let mut attempts = 0;
        let mut last_failure = None;
        let result = loop {
            if self.limits.wait(&self.ctx, &url).is_err() {
                match last_failure {
                    // Stopped between two attempts: the last one is what there is to tell.
                    Some(failure) => break Err(failure),
                    None => return Outcome::NotStarted,
                }
            }
            attempts += 1;
            let Failed { failure, retry_after } = match self.attempt(&url) {
                Ok(fetched) => break Ok(fetched),
                Err(failed) => failed,
            };
            let Some(wait) = self.retry.wait(attempts, &failure, retry_after, goby::random()) else {
                break Err(failure);
            };
            if sleep_ctx(&self.ctx, wait).is_err() {
                break Err(failure);
            }
            last_failure = Some(failure);
        };
        Outcome::Ended(Record { url: job.text, result, attempts })
    }

    /// One request, from connecting to the last byte saved.
    fn attempt(&self, url: &Url) -> Result<Fetched, Failed> {
        let (ctx, _cancel) = self.ctx.with_timeout(self.timeout);
        let started = goby::now();
        let mut response = self.client.get(&ctx, url.as_str()).map_err(|error| self.failure(&error))?;
        let status = response.status();
        if !status.is_success() && !status.is_redirection() {
            let failure = Failure::status(status.as_u16(), status.canonical_reason());
            let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            let retry_after = asked.and_then(|value| retry_after(value, SystemTime::now()));
            drain(&mut response);
            return Err(Failed { failure, retry_after });
        }
        let mut body = self.saver.as_deref().map(|saver| saver.body(url));
        let bytes = self.read_body(&mut response, body.as_mut())?;
        let elapsed = started.elapsed();
        let file =
            body.map(|body| goby::blocking(|| body.finish())).transpose().map_err(|error| cannot_save(&error))?;
        Ok(Fetched { status: status.as_u16(), bytes, elapsed, file })
    }

    /// Reads the body to its end, into the file if there is one, and returns its length.
    fn read_body(&self, response: &mut Response, mut body: Option<&mut Body<'_>>) -> Result<u64, Failure> {
        let mut bytes = 0;
        while let Some(chunk) = response.reader().chunk().map_err(|error| self.failure(&error))? {
            bytes += chunk.len() as u64;
            let Some(body) = &mut body else { continue };
            body.push(&chunk);
            if body.is_full() {
                goby::blocking(|| body.spill()).map_err(|error| cannot_save(&error))?;
            }
        }
        Ok(bytes)
    }

    /// The kind and words of a request's error.
    fn failure(&self, error: &goby_http::Error) -> Failure {
        if self.ctx.err().is_some() {
            return Failure::new(Kind::Canceled, "in flight when the run was stopped");
        }
        if error.is_timeout() {
            let timeout = text::duration(self.timeout);
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
        } else if error.is_too_many_redirects() {
            Kind::TooManyRedirects
        } else if error.is_url() || error.is_redirect() {
            Kind::InvalidUrl
        } else {
            Kind::Connect
        };
        Failure::new(kind, in_full(error))
    }
}

/// Reads what is left of a small body. An error ends it: the result is known already.
fn drain(response: &mut Response) {
    let mut bytes = 0;
    while bytes < DRAINED
        && let Ok(Some(chunk)) = response.reader().chunk()
    {
        bytes += chunk.len() as u64;
    }
}

fn cannot_save(error: &io::Error) -> Failure {
    Failure::new(Kind::Save, text::reason(error))
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
