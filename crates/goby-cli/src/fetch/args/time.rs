//! Options of time: how long to wait, and for what.

use std::time::Duration;

use clap::Args;

use crate::text::{parse_bytes, parse_duration};

#[derive(Debug, Args)]
#[command(next_help_heading = "Time")]
pub(crate) struct TimeArgs {
    /// Give up a request after DUR, from connecting to the last byte [default: unlimited]
    ///
    /// A duration is a number with ms, s, m or h behind it, or several of these (1m30s); a number
    /// alone is seconds. Each retry has this long again; redirects are followed in this time, and
    /// waits for a turn by --rate or --per-host do not count. Without it, a long download goes on
    /// as long as bytes come: see --speed-time.
    #[arg(short = 'm', long, short_alias = 't', visible_alias = "timeout", value_name = "DUR",
          allow_hyphen_values = true, value_parser = parse_duration)]
    pub(crate) max_time: Option<Duration>,

    /// Give up connecting after DUR, from looking up the name to the end of TLS.
    #[arg(long, value_name = "DUR", default_value = "10s", allow_hyphen_values = true,
          value_parser = parse_duration)]
    pub(crate) connect_timeout: Duration,

    /// Give up a body of which fewer than N bytes a second come for --speed-time.
    ///
    /// As curl's option; N may end with k, M or G. By default, one byte in that time is enough; 0
    /// lets it take any time.
    #[arg(short = 'Y', long, value_name = "N", default_value = "1", hide_default_value = true,
          value_parser = parse_bytes)]
    pub(crate) speed_limit: u64,

    /// Give up when nothing has come for DUR: no response, or no more of it.
    #[arg(short = 'y', long, value_name = "DUR", default_value = "30s", allow_hyphen_values = true,
          value_parser = parse_duration)]
    pub(crate) speed_time: Duration,

    /// Stop the whole run after DUR [default: unlimited]
    ///
    /// Requests in flight are abandoned then, as at Ctrl-C; the exit status is 1.
    #[arg(long, value_name = "DUR", allow_hyphen_values = true, value_parser = parse_duration)]
    pub(crate) total: Option<Duration>,

    /// Go on with files where their downloads broke off.
    ///
    /// As curl's option, whose value can only be - here. What has come of a body is kept when its
    /// request fails or the run is stopped, and the next attempt, or the next run with this option,
    /// asks for the rest (by Range). The server says by ETag or Last-Modified whether it is still
    /// the same file; if not, or if it says neither, all of it comes again.
    #[arg(short = 'C', long, value_name = "-", requires = "output_dir", allow_hyphen_values = true,
          value_parser = ["-"])]
    pub(crate) continue_at: Option<String>,
}
