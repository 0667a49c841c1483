//! The result of a run: counts, latencies, and the summary that is printed at its end.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use goby_http::redacted;
use hdrhistogram::Histogram;

use super::feed::Fed;
use super::fetcher::Outcome;
use super::record::{Failure, Fetched, Kind, Record};
use crate::exit::Exit;
use crate::text::{bytes, count, counted, duration, figure};

/// The summary names at most this many different statuses of failures.
const SHOWN_STATUSES: usize = 5;

/// If the results are written nowhere, the summary shows this many failures.
const SHOWN_FAILURES: usize = 5;

/// Ten years in microseconds, which a histogram can hold on any machine.
const LONGEST_LATENCY: u64 = 10 * 365 * 24 * 3600 * 1_000_000;

/// Counts and latencies of the results so far. One goroutine, the writer, keeps it.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Requests made, retries and redirects included.
    pub(super) requests: u64,
    pub(super) fetched: u64,
    pub(super) bytes: u64,
    /// Latencies of what was fetched, in microseconds.
    pub(super) latency: Histogram<u64>,
    /// Failures by kind, without the abandoned ones.
    pub(super) failures: BTreeMap<Kind, u64>,
    /// Failures by status code.
    pub(super) statuses: BTreeMap<u16, u64>,
    /// URLs in flight when the run was stopped.
    pub(super) abandoned: u64,
    /// URLs taken from the queue after the run was stopped.
    pub(super) not_started: u64,
    /// The first failures in words, if they are wanted.
    examples: Option<Vec<String>>,
}

/// What the end of a run adds to the tally.
#[derive(Debug, Default)]
pub(crate) struct End {
    /// From the first request to the last result.
    pub(crate) elapsed: Duration,
    /// Why the run was stopped, if it was.
    pub(crate) stopped: Option<Stopped>,
    /// What became of the input.
    pub(crate) fed: Fed,
    /// Reading the input or writing the output failed on the way.
    pub(crate) broken: bool,
}

/// Why a run was stopped before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// By Ctrl-C or SIGTERM.
    Interrupted,
    /// `--total` was up, or left no time for the next request.
    TotalUp(Duration),
    /// The output takes no more.
    OutputGone,
    /// A URL has failed, and `--fail-early` was given.
    Failed,
}

impl Tally {
    /// Makes an empty tally.
    pub(crate) fn new() -> Tally {
        Tally {
            requests: 0,
            fetched: 0,
            bytes: 0,
            // Three digits. It grows with the longest latency, whatever --max-time is.
            latency: Histogram::new(3).expect("three digits are allowed"),
            failures: BTreeMap::new(),
            statuses: BTreeMap::new(),
            abandoned: 0,
            not_started: 0,
            examples: None,
        }
    }

    /// Makes an empty tally that keeps the first failures, because the results are written nowhere.
    pub(crate) fn with_examples() -> Tally {
        Tally { examples: Some(Vec::new()), ..Tally::new() }
    }

    /// Counts an outcome that came out of the pool.
    pub(crate) fn count_outcome(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Ended(record) => self.count(record),
            Outcome::Again => {}
            Outcome::Moved => self.requests += 1,
            Outcome::NotStarted => self.not_started += 1,
        }
    }

    fn count(&mut self, record: &Record) {
        self.requests += u64::from(record.attempts);
        if let (Some(examples), Err(failure)) = (&mut self.examples, &record.result)
            && failure.kind != Kind::Canceled
            && examples.len() < SHOWN_FAILURES
        {
            examples.push(format!("{}: {}", redacted(&record.url), failure.message));
        }
        match &record.result {
            Ok(fetched) => self.count_fetched(fetched),
            Err(failure) => self.count_failure(failure),
        }
    }

    fn count_fetched(&mut self, fetched: &Fetched) {
        self.fetched += 1;
        self.bytes += fetched.bytes;
        let micros = u64::try_from(fetched.elapsed.as_micros()).unwrap_or(u64::MAX);
        self.latency.record(micros.min(LONGEST_LATENCY)).expect("a histogram without bounds grows");
    }

    fn count_failure(&mut self, failure: &Failure) {
        if failure.kind == Kind::Canceled {
            self.abandoned += 1;
            return;
        }
        *self.failures.entry(failure.kind).or_default() += 1;
        if let Some(status) = failure.status {
            *self.statuses.entry(status).or_default() += 1;
        }
    }

    /// Whether URLs were left over: in flight, in the queue, or in the input.
    pub(crate) fn is_left_over(&self, fed: &Fed) -> bool {
        self.abandoned + self.not_started + fed.not_fed > 0 || fed.rest_unread
    }

    /// How many URLs have a result.
    pub(super) fn ended(&self) -> u64 {
        self.fetched + self.failed() + self.abandoned
    }

    pub(super) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// The exit status of such a run.
    pub(crate) fn exit(&self, end: &End) -> Exit {
        match end.stopped {
            Some(Stopped::Interrupted) => Exit::Interrupted,
            _ if self.failed() > 0 || self.is_left_over(&end.fed) || end.broken => Exit::SomeFailed,
            _ => Exit::Success,
        }
    }

    /// The summary, of several lines.
    pub(crate) fn summary(&self, end: &End) -> String {
        let mut text = format!("goby: {} in {}\n", counted(self.ended(), "URL"), duration(end.elapsed));
        let mut row = |name: &str, value: String| {
            let _ = writeln!(text, "  {name:<9} {value}");
        };
        row("fetched", format!("{}, {}", count(self.fetched), bytes(self.bytes)));
        row("failed", self.failed_row());
        for example in self.examples.iter().flatten() {
            row("", example.clone());
        }
        let shown = self.examples.as_ref().map_or(0, |examples| examples.len() as u64);
        if shown > 0 && self.failed() > shown {
            row("", format!("and {} more: -o FILE, or -o -, has them all", count(self.failed() - shown)));
        }
        if end.fed.skipped > 0 {
            row("skipped", format!("{}, fetched by an earlier run", count(end.fed.skipped)));
        }
        if end.fed.repeated > 0 {
            row("repeated", format!("{}, which the list has had before", count(end.fed.repeated)));
        }
        if let Some(stopped) = end.stopped {
            row("stopped", self.stopped_row(stopped, end));
        }
        let rate = self.requests as f64 / end.elapsed.as_secs_f64().max(1e-6);
        row("requests", format!("{}, {} a second", count(self.requests), figure(rate)));
        if !self.latency.is_empty() {
            let at = |quantile| duration(Duration::from_micros(self.latency.value_at_quantile(quantile)));
            let (p50, p90, p99, max) = (at(0.5), at(0.9), at(0.99), at(1.0));
            row("latency", format!("p50 {p50}, p90 {p90}, p99 {p99}, max {max}"));
        }
        text
    }

    /// `150: timeout 50, http_status 100 (404: 90, 503: 10)`.
    fn failed_row(&self) -> String {
        let mut text = count(self.failed());
        let mut separator = ": ";
        for (&kind, &number) in &self.failures {
            let _ = write!(text, "{separator}{} {}", kind.as_str(), count(number));
            if kind == Kind::HttpStatus {
                text.push_str(&self.statuses_in_brackets());
            }
            separator = ", ";
        }
        text
    }

    fn statuses_in_brackets(&self) -> String {
        let mut statuses: Vec<(u16, u64)> = self.statuses.iter().map(|(&status, &number)| (status, number)).collect();
        // The most frequent status first; the map has sorted equal counts by status.
        statuses.sort_by_key(|&(_, number)| std::cmp::Reverse(number));
        let mut shown: Vec<String> = statuses
            .iter()
            .take(SHOWN_STATUSES)
            .map(|&(status, number)| format!("{status}: {}", count(number)))
            .collect();
        if statuses.len() > SHOWN_STATUSES {
            shown.push("…".to_string());
        }
        format!(" ({})", shown.join(", "))
    }

    /// `interrupted: 12 abandoned in flight, at least 3,400 not started`.
    fn stopped_row(&self, stopped: Stopped, end: &End) -> String {
        let why = match stopped {
            Stopped::Interrupted => "interrupted".to_string(),
            Stopped::TotalUp(total) => format!("no time left of --total {}", duration(total)),
            Stopped::Failed => "a URL failed, and --fail-early".to_string(),
            Stopped::OutputGone => "the output takes no more, and lacks the last of these".to_string(),
        };
        let left = match (self.not_started + end.fed.not_fed, end.fed.rest_unread) {
            (0, true) => "the rest of the input not read".to_string(),
            (number, true) => format!("at least {} not started", count(number)),
            (number, false) => format!("{} not started", count(number)),
        };
        format!("{why}: {} abandoned in flight, {left}", count(self.abandoned))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(result: Result<Fetched, Failure>, attempts: u32) -> Record {
        Record { url: "http://h/".to_string(), line: None, result, attempts }
    }

    fn fetched(ms: u64) -> Record {
        let elapsed = Duration::from_millis(ms);
        record(Ok(Fetched { status: 200, bytes: 1000, elapsed, file: None, details: Box::default() }), 1)
    }

    fn failed(kind: Kind, attempts: u32) -> Record {
        record(Err(Failure::new(kind, "")), attempts)
    }

    fn end(seconds: u64) -> End {
        End { elapsed: Duration::from_secs(seconds), ..End::default() }
    }

    #[test]
    fn a_run_without_failures() {
        let mut tally = Tally::new();
        for ms in 1..=1000 {
            tally.count(&fetched(ms));
        }
        let expected = "\
goby: 1,000 URLs in 2.00 s
  fetched   1,000, 1.00 MB
  failed    0
  requests  1,000, 500 a second
  latency   p50 500 ms, p90 900 ms, p99 990 ms, max 1.00 s
";
        assert_eq!(tally.summary(&end(2)), expected);
        assert_eq!(tally.exit(&end(2)), Exit::Success);
    }

    #[test]
    fn failures_are_counted_by_kind_and_status() {
        let mut tally = Tally::new();
        tally.count(&fetched(12));
        tally.count(&failed(Kind::Timeout, 3));
        tally.count(&failed(Kind::InvalidUrl, 0));
        for status in [404, 404, 503, 403, 410, 418, 500] {
            tally.count(&record(Err(Failure::status(status, None)), 1));
        }
        let expected = "\
goby: 10 URLs in 1.00 s
  fetched   1, 1.00 kB
  failed    9: timeout 1, http_status 7 (404: 2, 403: 1, 410: 1, 418: 1, 500: 1, …), invalid_url 1
  requests  11, 11.0 a second
  latency   p50 12.0 ms, p90 12.0 ms, p99 12.0 ms, max 12.0 ms
";
        assert_eq!(tally.summary(&end(1)), expected);
        assert_eq!(tally.exit(&end(1)), Exit::SomeFailed);
    }

    #[test]
    fn where_results_go_nowhere_the_first_failures_are_shown() {
        let mut tally = Tally::with_examples();
        for status in 500..507 {
            tally.count(&record(Err(Failure::status(status, None)), 1));
        }
        let text = tally.summary(&end(1));
        assert_eq!(text.matches("\n            http://h/: ").count(), 5, "{text}");
        assert!(text.contains("\n            and 2 more: -o FILE, or -o -, has them all\n"), "{text}");
    }

    #[test]
    fn a_stopped_run_says_what_it_left() {
        let mut tally = Tally::new();
        tally.count(&failed(Kind::Canceled, 1));
        tally.count_outcome(&Outcome::NotStarted);
        let fed = Fed { not_fed: 3399, skipped: 7, ..Fed::default() };
        let mut end = End { stopped: Some(Stopped::Interrupted), fed, ..end(1) };
        let expected = "\
goby: 1 URL in 1.00 s
  fetched   0, 0 B
  failed    0
  skipped   7, fetched by an earlier run
  stopped   interrupted: 1 abandoned in flight, 3,400 not started
  requests  1, 1.00 a second
";
        assert_eq!(tally.summary(&end), expected);
        assert_eq!(tally.exit(&end), Exit::Interrupted);

        end.stopped = Some(Stopped::TotalUp(Duration::from_secs(5)));
        end.fed.rest_unread = true;
        let row = "\n  stopped   no time left of --total 5.00 s: 1 abandoned in flight, at least 3,400 not started\n";
        assert!(tally.summary(&end).contains(row), "{}", tally.summary(&end));
        assert_eq!(tally.exit(&end), Exit::SomeFailed);
    }

    #[test]
    fn a_run_that_broke_is_no_success() {
        let tally = Tally::new();
        assert_eq!(tally.exit(&end(1)), Exit::Success);
        assert_eq!(tally.exit(&End { broken: true, ..end(1) }), Exit::SomeFailed);
        let fed = Fed { not_fed: 1, ..Fed::default() };
        assert_eq!(tally.exit(&End { fed, ..end(1) }), Exit::SomeFailed);
        let fed = Fed { rest_unread: true, ..Fed::default() };
        assert_eq!(tally.exit(&End { fed, ..end(1) }), Exit::SomeFailed);
    }

    #[test]
    fn a_latency_of_an_hour_is_told() {
        let mut tally = Tally::new();
        tally.count(&fetched(3_600_000));
        assert!(tally.summary(&end(3600)).contains("max 1h00m"));
    }
}
