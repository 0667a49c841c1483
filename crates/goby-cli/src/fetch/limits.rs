//! `--rate` and `--per-host`: when the next request may start.
//!
//! Each limit is a token bucket. The per-host buckets are forgotten once they are full again: so there are never many
//! more of them than hosts that were asked in the last seconds, however many a list names.

use goby::Context;
use goby::rate::{Keyed, Limiter, WaitError};
use url::Url;

/// Of a second's requests, as many may start at once: 10 ms worth. Smaller bursts would depend on timers being
/// on time to the millisecond; larger ones are no longer an even rate.
const BURST_SHARE: f64 = 0.01;
/// Only with more hosts than this in use at a time would some be asked too often: 200 MB of buckets.
const MAX_HOSTS: usize = 1 << 20;

/// Both limits.
#[derive(Debug)]
pub(crate) struct Limits {
    overall: Option<Limiter>,
    per_host: Option<Keyed<String>>,
}

impl Limits {
    /// The limits in requests a second.
    pub(crate) fn new(overall: Option<f64>, per_host: Option<f64>) -> Limits {
        let per_host = per_host.map(|rate| Keyed::per_second(rate, burst(rate)).max_keys(MAX_HOSTS));
        Limits { overall: overall.map(|rate| Limiter::per_second(rate, burst(rate))), per_host }
    }

    /// Waits until a request to the URL's host may start.
    ///
    /// # Errors
    /// If the context is done, or will be before it is this request's turn.
    pub(crate) fn wait(&self, ctx: &Context, url: &Url) -> Result<(), WaitError> {
        // The host first: a token of the overall limit is not to grow old behind a slow host.
        if let Some(per_host) = &self.per_host {
            per_host.wait(ctx, host(url).as_str())?;
        }
        if let Some(overall) = &self.overall {
            overall.wait(ctx)?;
        }
        Ok(())
    }
}

fn burst(rate: f64) -> usize {
    (rate * BURST_SHARE).ceil().clamp(1.0, 1e6) as usize
}

/// A host is its name and port.
fn host(url: &Url) -> String {
    let port = url.port_or_known_default().unwrap_or_default();
    format!("{}:{port}", url.host_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_ten_milliseconds_worth_and_at_least_one() {
        assert_eq!([0.1, 1.0, 100.0, 101.0, 5000.0].map(burst), [1, 1, 1, 2, 50]);
    }

    #[test]
    fn a_host_is_its_name_and_port() {
        let host = |url| host(&Url::parse(url).unwrap());
        assert_eq!(host("http://h/a"), host("http://H:80/b?c"));
        assert_ne!(host("http://h/"), host("https://h/"));
        assert_ne!(host("http://h/"), host("http://h:81/"));
    }
}
