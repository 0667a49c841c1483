//! Whether a failed request is tried again, and how long to wait before that.
//!
//! Exponential back-off with full jitter: before retry k the wait is a random part of
//! `min(LONGEST_BACK_OFF, FIRST_BACK_OFF * 2^(k-1))`, so clients that failed together do not come
//! back together. A server's Retry-After is a floor under that, and the jitter is added to it for
//! the same reason.

use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime};

use super::record::{Failure, Kind};

/// The first wait is a random part of this: about a slow round trip.
const FIRST_BACK_OFF: Duration = Duration::from_millis(250);
/// Where doubling ends.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(30);
/// The longest Retry-After that is waited for. To come earlier than asked would be rude. So if a
/// server asks for a longer wait, the request is not made again.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);

/// Whether and when a request is tried again.
#[derive(Clone, Debug)]
pub(crate) struct Retry {
    /// Retries, so one less than requests.
    pub(crate) retries: u32,
    pub(crate) on: RetryOn,
    /// The wait before each, in place of one that doubles.
    pub(crate) delay: Option<Duration>,
}

/// `--retry-on`: what may pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RetryOn {
    kinds: Vec<Kind>,
    statuses: Vec<RangeInclusive<u16>>,
}

impl RetryOn {
    /// Reads a list such as `timeout,429,5xx`.
    ///
    /// # Errors
    /// In words, for clap to print behind the option's name.
    pub(crate) fn parse(text: &str) -> Result<RetryOn, String> {
        const KINDS: [Kind; 8] = [
            Kind::Timeout,
            Kind::Dns,
            Kind::Connect,
            Kind::Tls,
            Kind::Protocol,
            Kind::Body,
            Kind::TooManyRedirects,
            Kind::Save,
        ];
        let mut on = RetryOn { kinds: Vec::new(), statuses: Vec::new() };
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            if let Some(kind) = KINDS.iter().find(|kind| kind.as_str() == word) {
                on.kinds.push(*kind);
            } else if let Some(statuses) = statuses(word) {
                on.statuses.push(statuses);
            } else {
                let kinds: Vec<&str> = KINDS.iter().map(|kind| kind.as_str()).collect();
                return Err(format!("{word:?} is neither a status (429, 5xx) nor one of {}", kinds.join(", ")));
            }
        }
        Ok(on)
    }

    /// Whether the same request may succeed a little later.
    fn has(&self, failure: &Failure) -> bool {
        match failure.status {
            Some(status) => self.statuses.iter().any(|statuses| statuses.contains(&status)),
            None => self.kinds.contains(&failure.kind),
        }
    }
}

/// Reads `503` or `5xx`.
fn statuses(word: &str) -> Option<RangeInclusive<u16>> {
    if let Some(hundreds) = word.strip_suffix("xx") {
        let hundreds: u16 = hundreds.parse().ok().filter(|hundreds| (1..=9).contains(hundreds))?;
        return Some(hundreds * 100..=hundreds * 100 + 99);
    }
    word.parse().ok().filter(|status| (100..=999).contains(status)).map(|status| status..=status)
}

impl Retry {
    /// How long to wait before the next attempt; `None` if this failure is final.
    ///
    /// `attempts` have been made, the last ended with `failure` and asked for `retry_after`;
    /// `random` is any number.
    pub(crate) fn wait(
        &self,
        attempts: u32,
        failure: &Failure,
        retry_after: Option<Duration>,
        random: u64,
    ) -> Option<Duration> {
        if attempts > self.retries || !self.on.has(failure) {
            return None;
        }
        let asked = retry_after.unwrap_or(Duration::ZERO);
        if asked > LONGEST_RETRY_AFTER {
            return None;
        }
        if let Some(delay) = self.delay {
            return Some(asked.max(delay));
        }
        let doublings = attempts.saturating_sub(1).min(30);
        let whole = FIRST_BACK_OFF.saturating_mul(1 << doublings).min(LONGEST_BACK_OFF);
        let part = random as f64 / u64::MAX as f64;
        Some(asked + whole.mul_f64(part))
    }
}

/// How long all requests to a host are to wait after a failure: as long as its Retry-After asks;
/// or, if it has had too many (429) and does not say, as long as this request waits. If a server
/// asks for too long a wait, its other URLs are still requested: each is worth one request.
pub(crate) fn host_wait(failure: &Failure, retry_after: Option<Duration>, wait: Option<Duration>) -> Option<Duration> {
    match retry_after {
        Some(asked) => Some(asked).filter(|asked| *asked <= LONGEST_RETRY_AFTER),
        None => wait.filter(|_| failure.status == Some(429)),
    }
}

/// Reads the value of a Retry-After header: seconds, or an HTTP date. For a date that has passed
/// there is no wait.
pub(crate) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number with too many digits is too long to wait for.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::from(u32::MAX))));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry(retries: u32) -> Retry {
        Retry { retries, on: RetryOn::parse("timeout,dns,connect,body,429,5xx").unwrap(), delay: None }
    }

    fn timeout() -> Failure {
        Failure::new(Kind::Timeout, "")
    }

    #[test]
    fn waits_double_up_to_a_limit_and_are_a_random_part() {
        let longest = |attempts| retry(100).wait(attempts, &timeout(), None, u64::MAX).unwrap();
        let waits = [1, 2, 3, 7, 8, 50, 100].map(|attempts| longest(attempts).as_millis());
        assert_eq!(waits, [250, 500, 1000, 16_000, 30_000, 30_000, 30_000]);
        assert_eq!(retry(5).wait(1, &timeout(), None, 0), Some(Duration::ZERO));
        let half = retry(5).wait(2, &timeout(), None, u64::MAX / 2).unwrap();
        assert!(half > Duration::from_millis(249) && half < Duration::from_millis(251), "{half:?}");
    }

    #[test]
    fn there_is_an_end_to_it() {
        assert!(retry(5).wait(5, &timeout(), None, 0).is_some());
        assert!(retry(5).wait(6, &timeout(), None, 0).is_none());
        assert!(retry(0).wait(1, &timeout(), None, 0).is_none());
    }

    #[test]
    fn only_failures_that_may_pass_are_retried() {
        let retried = |failure: Failure| retry(5).wait(1, &failure, None, 0).is_some();
        for kind in [Kind::Timeout, Kind::Dns, Kind::Connect, Kind::Body] {
            assert!(retried(Failure::new(kind, "")), "{kind:?}");
        }
        for kind in [Kind::Tls, Kind::Protocol, Kind::TooManyRedirects, Kind::InvalidUrl, Kind::Save, Kind::Canceled] {
            assert!(!retried(Failure::new(kind, "")), "{kind:?}");
        }
        for status in [429, 500, 503, 599] {
            assert!(retried(Failure::status(status, None)), "{status}");
        }
        for status in [400, 404, 418, 600] {
            assert!(!retried(Failure::status(status, None)), "{status}");
        }
    }

    #[test]
    fn what_may_pass_is_a_list() {
        let retry = Retry { on: RetryOn::parse("tls, 404,5xx").unwrap(), ..retry(5) };
        let retried = |failure| retry.wait(1, &failure, None, 0).is_some();
        assert!(retried(Failure::new(Kind::Tls, "")) && !retried(timeout()));
        assert_eq!([404, 429, 503].map(|status| retried(Failure::status(status, None))), [true, false, true]);
        for list in ["tmeout", "1000", "0xx", "5x"] {
            assert!(RetryOn::parse(list).is_err(), "{list}");
        }
        assert_eq!(RetryOn::parse("").unwrap(), RetryOn { kinds: Vec::new(), statuses: Vec::new() });
    }

    #[test]
    fn a_delay_is_that_of_every_retry() {
        let retry = Retry { delay: Some(Duration::from_secs(3)), ..retry(5) };
        assert_eq!([1, 5].map(|n| retry.wait(n, &timeout(), None, 7)), [Some(Duration::from_secs(3)); 2]);
        let asked = retry.wait(1, &Failure::status(503, None), Some(Duration::from_secs(9)), 7);
        assert_eq!(asked, Some(Duration::from_secs(9)));
    }

    #[test]
    fn retry_after_is_a_floor_and_too_long_a_one_is_final() {
        let busy = Failure::status(503, None);
        let wait = |seconds, random| retry(5).wait(1, &busy, Some(Duration::from_secs(seconds)), random);
        assert_eq!(wait(7, 0), Some(Duration::from_secs(7)));
        assert_eq!(wait(7, u64::MAX), Some(Duration::from_millis(7250)));
        assert_eq!(wait(60, 0), Some(Duration::from_secs(60)));
        assert_eq!(wait(61, 0), None);
    }

    #[test]
    fn a_host_is_left_alone_as_long_as_it_asks() {
        let second = Duration::from_secs(1);
        let (busy, many) = (Failure::status(503, None), Failure::status(429, None));
        assert_eq!(host_wait(&busy, Some(2 * second), Some(3 * second)), Some(2 * second));
        assert_eq!(host_wait(&busy, None, Some(second)), None);
        assert_eq!(host_wait(&many, None, Some(second)), Some(second));
        assert_eq!(host_wait(&many, Some(3600 * second), None), None);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(retry_after("120", now), Some(Duration::from_secs(120)));
        assert_eq!(retry_after(" 0 ", now), Some(Duration::ZERO));
        assert_eq!(retry_after("99999999999999999999999", now), Some(Duration::from_secs(u64::from(u32::MAX))));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:50:37 GMT", now), Some(Duration::from_secs(60)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:00:00 GMT", now), Some(Duration::ZERO));
        for value in ["", "soon", "-1", "1.5"] {
            assert_eq!(retry_after(value, now), None, "{value:?}");
        }
    }
}
