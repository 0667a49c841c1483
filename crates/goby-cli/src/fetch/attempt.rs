//! One request, from connecting to the last byte saved, and what has become of it.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use goby::Context;
use goby::rate::Limiter;
use goby_http::{Client, HeaderMap, Response, StatusCode};
use http::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderName, IF_RANGE, RANGE, RETRY_AFTER};
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use url::Url;

use super::kept::{Kept, validator};
use super::record::{Details, Failure, Fetched, Kind};
use super::request::{Custom, Requests};
use super::retry::{Retry, retry_after};
use super::robots::Robots;
use super::save::{Body, Saver};
use super::speed::{Gauge, Speed};
use super::task::Moved;
use crate::text;

/// The body of a failed response is read up to this length, because a connection can be used again
/// only when nothing is left on it. For a longer body a new connection is cheaper.
const DRAINED: u64 = 64 * 1024;

/// What the options say of all requests.
#[derive(Debug)]
pub(crate) struct Terms {
    pub(crate) client: Client,
    pub(crate) requests: Requests,
    /// `--max-time`.
    pub(crate) max_time: Option<Duration>,
    /// `--connect-timeout`, for messages: the client keeps it.
    pub(crate) connect_timeout: Duration,
    pub(crate) speed: Speed,
    /// `--max-redirs`.
    pub(crate) max_redirs: u32,
    pub(crate) retry: Retry,
    /// `--rate`.
    pub(crate) limiter: Option<Limiter>,
    pub(crate) saver: Option<Arc<Saver>>,
    /// `-C`: files go on where they broke off.
    pub(crate) continues: bool,
    /// `--max-filesize`.
    pub(crate) max_size: u64,
    pub(crate) robots: Option<Robots>,
    pub(crate) wants: Arc<Wants>,
}

/// What results have beyond what all have.
#[derive(Debug)]
pub(crate) struct Wants {
    pub(crate) headers: Vec<HeaderName>,
    pub(crate) sha256: bool,
    pub(crate) timings: bool,
}

impl Wants {
    /// The names of what some results have, in their order.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &str> {
        let own = [("sha256", self.sha256), ("first_byte_ms", self.timings)];
        let own = own.into_iter().filter(|(_, is_wanted)| *is_wanted).map(|(name, _)| name);
        own.chain(self.headers.iter().map(HeaderName::as_str))
    }
}

/// What a request that did not fail has come to.
pub(super) enum Step {
    Fetched(Fetched),
    Moved(Moved),
}

/// An attempt that failed.
pub(super) struct Failed {
    pub(super) failure: Failure,
    /// What the server said about trying again.
    pub(super) retry_after: Option<Duration>,
    /// This process had no descriptor for it.
    pub(super) is_ours: bool,
    /// The server may have had the request, and done what it asks.
    pub(super) had: bool,
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Failed {
        Failed { failure, retry_after: None, is_ours: false, had: true }
    }
}

/// A request that is about to be made.
pub(super) struct Attempt<'a> {
    /// The run's context.
    pub(super) run: &'a Context,
    pub(super) terms: &'a Terms,
    /// The URL that was given. The body is saved under its name, wherever it was redirected to.
    pub(super) url: &'a Url,
    pub(super) custom: Option<&'a Custom>,
    pub(super) moved: Option<&'a Moved>,
}

impl Attempt<'_> {
    /// Makes the request.
    pub(super) fn make(&self) -> Result<Step, Failed> {
        let spent = self.moved.map_or(Duration::ZERO, |moved| moved.spent);
        let (ctx, _cancel) = match self.terms.max_time {
            Some(max_time) => self.run.with_timeout(max_time.saturating_sub(spent)),
            None => self.run.with_cancel(),
        };
        let started = goby::now();
        let mut kept = self.kept();
        let mut response = self.send(&ctx, kept.as_ref())?;
        if response.status() == StatusCode::RANGE_NOT_SATISFIABLE
            && let Some(kept) = kept.take()
        {
            // The file is no longer what it was, or was complete: it comes again as a whole.
            goby::blocking(|| kept.discard());
            drain(&mut response);
            response = self.send(&ctx, None)?;
        }
        let first_byte = started.elapsed();
        if let Some(location) = response.location().map_err(|error| self.failed(error))? {
            return self.follow(&mut response, &location, spent + started.elapsed());
        }
        let status = response.status();
        if !status.is_success() && !status.is_redirection() {
            return Err(refused(&mut response));
        }
        let mut sink = Sink::new(self.terms.saver.as_deref().map(|saver| saver.body(self.url)), self.terms);
        if let Some(kept) = kept {
            let goes_on = status == StatusCode::PARTIAL_CONTENT && begins_at(response.headers(), kept.len);
            if goes_on {
                goby::blocking(|| sink.go_on(kept)).map_err(|error| cannot_save(&error))?;
            } else {
                goby::blocking(|| kept.discard());
                if status == StatusCode::PARTIAL_CONTENT {
                    return Err(Failure::new(Kind::Body, "a range came that was not asked for").into());
                }
            }
        }
        if let Err(failed) = self.read_body(&mut response, &mut sink) {
            if let Some(validator) = validator(response.headers()).filter(|_| self.continues()) {
                goby::blocking(|| sink.keep(&validator));
            }
            return Err(failed);
        }
        let elapsed = spent + started.elapsed();
        let details = self.details(&response, first_byte);
        let (bytes, sha256, file) = sink.finish().map_err(|error| cannot_save(&error))?;
        let details = Details { sha256, ..details };
        Ok(Step::Fetched(Fetched { status: status.as_u16(), bytes, elapsed, file, details: Box::new(details) }))
    }

    /// Where the request goes: where redirects have led.
    fn at(&self) -> &Url {
        self.moved.map_or(self.url, |moved| &moved.to)
    }

    fn send(&self, ctx: &Context, kept: Option<&Kept>) -> Result<Response, Failed> {
        let Terms { client, requests, .. } = self.terms;
        let mut more = HeaderMap::new();
        if let Some(kept) = kept {
            let range = format!("bytes={}-", kept.len);
            more.insert(RANGE, range.parse().expect("digits are valid in a header"));
            more.insert(IF_RANGE, kept.validator.clone());
        }
        let response = match self.custom {
            None if more.is_empty() && requests.is_plain() => client.get(ctx, self.at().as_str()),
            _ => requests.send(client, ctx, self.at(), self.custom, self.moved, more),
        };
        response.map_err(|error| self.failed(error))
    }

    /// Whether what comes of a body is kept for another attempt.
    fn continues(&self) -> bool {
        self.terms.continues && self.terms.requests.is_get(self.custom)
    }

    /// What an earlier attempt has left of the body.
    fn kept(&self) -> Option<Kept> {
        let saver = self.terms.saver.as_deref().filter(|_| self.continues())?;
        goby::blocking(|| Kept::find(saver, self.url))
    }

    /// Goes where a redirect leads.
    fn follow(&self, response: &mut Response, location: &str, spent: Duration) -> Result<Step, Failed> {
        let hops = self.moved.map_or(0, |moved| moved.hops);
        if self.terms.max_redirs == 0 {
            // A redirect that is not followed is a result.
            let mut sink = Sink::new(None, self.terms);
            self.read_body(response, &mut sink)?;
            let details = Box::new(self.details(response, spent));
            let status = response.status().as_u16();
            return Ok(Step::Fetched(Fetched { status, bytes: sink.bytes, elapsed: spent, file: None, details }));
        }
        if hops == self.terms.max_redirs {
            return Err(Failure::new(Kind::TooManyRedirects, format!("stopped after {hops} redirects")).into());
        }
        drain(response);
        let to = Url::parse(location).expect("it was a URL before it was text");
        let keeps = matches!(response.status(), StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
        let is_get = !keeps || self.moved.is_some_and(|moved| moved.is_get);
        let is_foreign = to.origin() != self.at().origin() || self.moved.is_some_and(|moved| moved.is_foreign);
        Ok(Step::Moved(Moved { to, hops: hops + 1, spent, is_get, is_foreign }))
    }

    /// What the result says beyond status and length.
    fn details(&self, response: &Response, first_byte: Duration) -> Details {
        let wants = &self.terms.wants;
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let all = |name: &HeaderName| {
            let values: Vec<String> = response.headers().get_all(name).iter().map(text).collect();
            (!values.is_empty()).then(|| (name.as_str().to_string(), values.join(", ")))
        };
        Details {
            final_url: self.moved.map(|moved| moved.to.to_string()),
            content_type: response.headers().get(CONTENT_TYPE).map(text),
            headers: wants.headers.iter().filter_map(all).collect(),
            first_byte: wants.timings.then_some(first_byte),
            sha256: None,
        }
    }

    /// Reads the body to its end.
    fn read_body(&self, response: &mut Response, sink: &mut Sink<'_>) -> Result<(), Failed> {
        let Terms { max_size, speed, .. } = *self.terms;
        let mut gauge = Gauge::new(goby::now());
        let too_large = || Failure::new(Kind::TooLarge, format!("more than {}", text::bytes(max_size)));
        if response.content_length().is_some_and(|length| length.saturating_add(sink.bytes) > max_size) {
            return Err(too_large().into());
        }
        while let Some(chunk) = response.reader().chunk().map_err(|error| self.failed(error))? {
            if sink.bytes + chunk.len() as u64 > max_size {
                return Err(too_large().into());
            }
            sink.push(&chunk).map_err(|error| cannot_save(&error))?;
            if speed.limit > 1 && speed.is_too_slow(&mut gauge, chunk.len(), goby::now()) {
                let (limit, time) = (text::bytes(speed.limit), text::duration(speed.time));
                return Err(Failure::new(Kind::Timeout, format!("slower than {limit} a second for {time}")).into());
            }
        }
        Ok(())
    }

    fn failed(&self, error: goby_http::Error) -> Failed {
        let (is_ours, had) = (error.is_out_of_descriptors(), !error.is_connect() && !error.is_resolve());
        Failed { is_ours, had, ..self.failure(error).into() }
    }

    /// The kind and words of a request's error. The result names the URL, so the words do not.
    fn failure(&self, error: goby_http::Error) -> Failure {
        if self.run.err().is_some() {
            return stopped_in_flight();
        }
        let error = error.without_url();
        if error.is_timeout() {
            let what = match self.terms.max_time {
                Some(time) if error.context_error().is_some() => {
                    format!("no complete response within {}", text::duration(time))
                }
                _ if error.is_resolve() || error.is_connect() || error.is_tls() => {
                    format!("no connection within {}", text::duration(self.terms.connect_timeout))
                }
                _ => format!("nothing came for {}", text::duration(self.terms.speed.time)),
            };
            return Failure::new(Kind::Timeout, format!("{what}: {error}"));
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

/// Where a body goes: it is counted, hashed and saved, as is wanted.
struct Sink<'a> {
    body: Option<Body<'a>>,
    hash: Option<Sha256>,
    bytes: u64,
}

impl<'a> Sink<'a> {
    fn new(body: Option<Body<'a>>, terms: &Terms) -> Sink<'a> {
        Sink { body, hash: terms.wants.sha256.then(Sha256::new), bytes: 0 }
    }

    /// Begins with what is there already. Blocks the thread.
    fn go_on(&mut self, kept: Kept) -> io::Result<()> {
        if let Some(hash) = &mut self.hash {
            kept.read_into(hash)?;
        }
        self.bytes = kept.len;
        self.body.as_mut().map_or(Ok(()), |body| body.go_on(&kept))
    }

    fn push(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.bytes += chunk.len() as u64;
        if let Some(hash) = &mut self.hash {
            hash.update(chunk);
        }
        let Some(body) = &mut self.body else { return Ok(()) };
        body.push(chunk);
        if body.is_full() { goby::blocking(|| body.spill()) } else { Ok(()) }
    }

    /// Leaves what has come for another attempt. Blocks the thread.
    fn keep(self, validator: &http::HeaderValue) {
        // If that fails, the other attempt begins anew.
        if let Some(body) = self.body.filter(|_| self.bytes > 0) {
            let _ = body.keep(validator);
        }
    }

    /// Gives the length, the hash, and the name of the file.
    fn finish(self) -> io::Result<(u64, Option<String>, Option<String>)> {
        let hash = self.hash.map(|hash| hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect());
        let file = self.body.map(|body| goby::blocking(|| body.finish())).transpose()?;
        Ok((self.bytes, hash, file))
    }
}

/// Whether a partial response begins at this byte.
fn begins_at(headers: &HeaderMap, start: u64) -> bool {
    let range = headers.get(CONTENT_RANGE).and_then(|range| range.to_str().ok()?.strip_prefix("bytes "));
    range.and_then(|range| range.split_once('-')).is_some_and(|(first, _)| first.trim().parse() == Ok(start))
}

/// The failure of a response that is neither 2xx nor 3xx.
fn refused(response: &mut Response) -> Failed {
    let status = response.status();
    let failure = Failure::status(status.as_u16(), status.canonical_reason());
    let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = asked.and_then(|value| retry_after(value, SystemTime::now()));
    drain(response);
    let had = !matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    Failed { failure, retry_after, is_ours: false, had }
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

pub(super) fn stopped_in_flight() -> Failure {
    Failure::new(Kind::Canceled, "in flight when the run was stopped")
}

fn cannot_save(error: &io::Error) -> Failed {
    let is_ours = matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE));
    Failed { is_ours, ..Failure::new(Kind::Save, text::reason(error)).into() }
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
