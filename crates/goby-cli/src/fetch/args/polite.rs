//! Options of politeness: how much is asked of a server, and when it is asked again.

use std::time::Duration;

use clap::{ArgAction, Args};

use super::super::retry::RetryOn;
use super::{parse_rate, parse_whole};
use crate::text::parse_duration;

#[derive(Debug, Args)]
#[command(next_help_heading = "Politeness")]
pub(crate) struct PoliteArgs {
    /// Start at most N requests a second to each host [default: unlimited]
    ///
    /// A host is a name with its port. A redirect counts for the host that it leads to. While one
    /// host waits for its turn, the others are fetched, as far as they stand among the next 10 MB
    /// of the list, some 30,000 URLs.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = parse_rate)]
    pub(crate) per_host: Option<f64>,

    /// Make at most N requests at a time to each host [default: unlimited]
    #[arg(long, visible_alias = "parallel-max-host", value_name = "N", allow_negative_numbers = true,
          value_parser = |text: &str| parse_whole::<u32>(text, 1..=100_000))]
    pub(crate) per_host_connections: Option<u32>,

    /// Make no more requests to a host that has failed N times in a row [0: make them all]
    ///
    /// Its other URLs are results of kind host_down, without a request; after a minute it gets one
    /// more chance. After 429, 503, time-outs and failed connections a host is left alone for a
    /// moment, twice as long each time, up to 30 s, or 2 s if it did not answer at all; and it gets
    /// half as many requests at a time, until it answers again. Requests that fail together count
    /// as one. So the default comes to 51 s, or to 11 s and the time-outs.
    #[arg(long, value_name = "N", default_value_t = 10, allow_negative_numbers = true,
          value_parser = |text: &str| parse_whole::<u32>(text, 0..=1_000_000))]
    pub(crate) max_host_failures: u32,

    /// Follow redirects: this is so by default, see --max-redirs.
    #[arg(short = 'L', long = "location", action = ArgAction::SetTrue)]
    _location: bool,

    /// Follow at most N redirects; with 0, a redirect is a result.
    #[arg(long, value_name = "N", default_value_t = 10, allow_negative_numbers = true,
          value_parser = |text: &str| parse_whole::<u32>(text, 0..=1000))]
    pub(crate) max_redirs: u32,

    /// Ask only for what the robots.txt of each site allows, and as slowly as it says.
    #[arg(long)]
    pub(crate) robots: bool,

    /// Try again up to N times after failures that may pass.
    ///
    /// See --retry-on for these. Before retry 1, 2, 3, … it waits a random part of 0.25 s, 0.5 s,
    /// 1 s, … up to 30 s, and at least as long as the server's Retry-After asks: so do the host's
    /// other URLs. If it asks for more than 60 s, that URL is not tried again, and the host's other
    /// URLs do not wait. No goroutine is held up by a wait.
    #[arg(long, visible_alias = "retries", value_name = "N", default_value_t = 2, allow_negative_numbers = true,
          value_parser = |text: &str| parse_whole::<u32>(text, 0..=100))]
    pub(crate) retry: u32,

    /// Wait DUR before each retry, in place of a random time that doubles.
    #[arg(long, value_name = "DUR", allow_hyphen_values = true, value_parser = parse_duration)]
    pub(crate) retry_delay: Option<Duration>,

    /// Try again after these: kinds of errors, and statuses.
    ///
    /// Commas stand between them. A status is a number, or such as 5xx.
    #[arg(long, value_name = "LIST", default_value = "timeout,dns,connect,body,429,5xx", value_parser = RetryOn::parse)]
    pub(crate) retry_on: RetryOn,
}
