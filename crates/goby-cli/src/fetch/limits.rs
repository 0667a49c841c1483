//! `--rate` and `--per-host`: when the next request may start.
//!
//! Each limit is a token bucket. The per-host buckets are made as hosts appear and forgotten once they are full
//! again, because a full bucket says no more than a new one: so there are never many more of them than hosts
//! that were asked in the last seconds, however many a list names.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use goby::Context;
use goby::rate::{Limiter, WaitError};
use goby::sync::Mutex;
use url::Url;

/// Of a second's requests, as many may start at once: 10 ms worth. Smaller bursts would depend on timers being
/// on time to the millisecond; larger ones are no longer an even rate.
const BURST_SHARE: f64 = 0.01;
/// Below this many hosts none are looked through to be forgotten.
const FEW_HOSTS: usize = 1024;

/// Both limits.
#[derive(Debug)]
pub(crate) struct Limits {
    overall: Option<Limiter>,
    per_host: Option<PerHost>,
}

impl Limits {
    /// The limits in requests a second.
    pub(crate) fn new(overall: Option<f64>, per_host: Option<f64>) -> Limits {
        Limits { overall: overall.map(limiter), per_host: per_host.map(PerHost::new) }
    }

    /// Waits until a request to the URL's host may start.
    ///
    /// # Errors
    /// If the context is done, or will be before it is this request's turn.
    pub(crate) fn wait(&self, ctx: &Context, url: &Url) -> Result<(), WaitError> {
        // The host first: a token of the overall limit is not to grow old behind a slow host.
        if let Some(per_host) = &self.per_host {
            per_host.limiter(url).wait(ctx)?;
        }
        if let Some(overall) = &self.overall {
            overall.wait(ctx)?;
        }
        Ok(())
    }
}

fn limiter(rate: f64) -> Limiter {
    Limiter::per_second(rate, burst(rate))
}

fn burst(rate: f64) -> usize {
    (rate * BURST_SHARE).ceil().clamp(1.0, 1e6) as usize
}

/// A limiter for each host, by its name and port.
#[derive(Debug)]
struct PerHost {
    rate: f64,
    /// After this long without a request a bucket is full.
    refill: Duration,
    hosts: Mutex<Hosts>,
}

#[derive(Debug)]
struct Hosts {
    map: HashMap<String, Host>,
    /// At this many hosts the map is next looked through. It is twice what was left the last time, so
    /// looking through costs each request a constant share.
    look_through_at: usize,
}

#[derive(Debug)]
struct Host {
    limiter: Arc<Limiter>,
    last_used: Instant,
}

impl PerHost {
    fn new(rate: f64) -> PerHost {
        let refill = Duration::try_from_secs_f64(burst(rate) as f64 / rate).unwrap_or(Duration::MAX);
        let hosts = Hosts { map: HashMap::new(), look_through_at: FEW_HOSTS };
        PerHost { rate, refill, hosts: Mutex::new(hosts) }
    }

    fn limiter(&self, url: &Url) -> Arc<Limiter> {
        let port = url.port_or_known_default().unwrap_or_default();
        let host = format!("{}:{port}", url.host_str().unwrap_or_default());
        self.limiter_at(host, goby::now())
    }

    fn limiter_at(&self, host: String, now: Instant) -> Arc<Limiter> {
        let mut hosts = self.hosts.lock();
        if hosts.map.len() >= hosts.look_through_at {
            // One that is waited on has more than one owner, and may be far from full.
            hosts.map.retain(|_, host| {
                Arc::strong_count(&host.limiter) > 1 || now.duration_since(host.last_used) < self.refill
            });
            hosts.look_through_at = FEW_HOSTS.max(2 * hosts.map.len());
        }
        let new = || Host { limiter: Arc::new(limiter(self.rate)), last_used: now };
        let host = hosts.map.entry(host).or_insert_with(new);
        host.last_used = now;
        host.limiter.clone()
    }
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
        let per_host = PerHost::new(1.0);
        let limiter = |url| per_host.limiter(&Url::parse(url).unwrap());
        assert!(Arc::ptr_eq(&limiter("http://h/a"), &limiter("http://H:80/b?c")));
        assert!(!Arc::ptr_eq(&limiter("http://h/"), &limiter("https://h/")));
        assert!(!Arc::ptr_eq(&limiter("http://h/"), &limiter("http://h:81/")));
    }

    #[test]
    fn hosts_are_forgotten_when_their_buckets_are_full_again() {
        let per_host = PerHost::new(2.0);
        let start = Instant::now();
        let held = per_host.limiter_at("held".to_string(), start);
        for index in 0..100_000_u64 {
            // A thousand hosts a second, each full again after half a second.
            per_host.limiter_at(format!("host{index}"), start + Duration::from_millis(index));
        }
        let hosts = per_host.hosts.lock();
        assert!(hosts.map.len() <= 2 * FEW_HOSTS, "{}", hosts.map.len());
        assert!(Arc::ptr_eq(&held, &hosts.map["held"].limiter));
        assert!(hosts.map.contains_key("host99999"));
    }

    #[test]
    fn a_host_that_was_just_asked_is_remembered() {
        let per_host = PerHost::new(0.001);
        let start = Instant::now();
        let first = Arc::downgrade(&per_host.limiter_at("first".to_string(), start));
        for index in 0..3 * FEW_HOSTS {
            per_host.limiter_at(format!("host{index}"), start);
        }
        let again = per_host.limiter_at("first".to_string(), start);
        assert!(std::ptr::eq(first.as_ptr(), Arc::as_ptr(&again)));
    }
}
