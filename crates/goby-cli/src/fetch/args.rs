//! `goby fetch`, stage one: the options as they were typed, each with its help text.
//!
//! The first sentence of a doc comment is what `-h` shows; `--help` shows the whole comment.
//! [`Plan`](super::plan::Plan) decides what the options mean together, and whether they can be used
//! at all. The names are curl's where curl has the option; a file of `args/` has the options of one
//! kind.

mod notes;
mod polite;
mod renamed;
mod request;
mod results;
mod route;
mod time;

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Parser, ValueEnum};

use self::notes::{LONG_NOTES, SHORT_NOTES, USAGE};
pub(crate) use self::polite::PoliteArgs;
use self::renamed::RenamedArgs;
pub(crate) use self::request::RequestArgs;
pub(crate) use self::results::{Format, ResultArgs, Summary};
pub(crate) use self::route::RouteArgs;
pub(crate) use self::time::TimeArgs;
use crate::text::parse_duration;

/// Fetch many URLs at once, and say what became of each.
///
/// Every URL becomes one line of JSON: what was fetched, or why it was not. The URLs come from the
/// command line, a file or standard input, and are fetched by a pool of goroutines while the input
/// is still being read, so a list of any length needs little memory.
#[derive(Debug, Parser)]
#[command(after_help = SHORT_NOTES, after_long_help = LONG_NOTES, override_usage = USAGE)]
pub(crate) struct FetchArgs {
    /// URLs to fetch, http or https.
    #[arg(value_name = "URL", conflicts_with = "demo")]
    pub(crate) urls: Vec<String>,

    /// Read URLs from FILE, one a line (- is standard input).
    ///
    /// Blank lines and lines that start with # are skipped. A line that is no URL is one failed
    /// result which names the line. URLs given as arguments are fetched first. A line may also be a
    /// request of its own, in JSON:
    /// {"url":"http://…","method":"PUT","headers":{"x-a":"b"},"body":…}; only the URL is needed,
    /// and a body that is no text is sent as JSON. The result of such a line has its number as
    /// "line".
    #[arg(long, value_name = "FILE", conflicts_with = "demo")]
    pub(crate) input: Option<PathBuf>,

    /// Write results to FILE, one JSON object a line (- is standard output).
    ///
    /// A file that exists is replaced, unless --resume is given. Without this option results go to
    /// standard output, or nowhere when that is a terminal: there, progress and summary are shown.
    /// Lines are written whole, as soon as their requests end, and in that order.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// Go on from the results in the output file: skip what it says was fetched, append the rest.
    ///
    /// URLs that failed are fetched again; the last line about a URL is the one that counts. A last
    /// line that was torn by a crash is cut off first. With --output-dir, a URL is skipped only if
    /// its line names the saved file and that is there. Two runs cannot write one file at a time.
    #[arg(long, requires = "output", conflicts_with = "demo")]
    pub(crate) resume: bool,

    /// Also save each body under DIR.
    ///
    /// The URL http://host/a/b.html is saved as DIR/http/host/a/b.html (a port that is not the
    /// scheme's own stays with the host: host:8080). That plain form is kept for paths whose
    /// directories consist of letters, digits, - and _, and whose last part has a dot as well. Any
    /// other URL (with a query, a user name, no file ending, odd characters or much length) is
    /// saved under a cleaned-up form of its name, ~, and a hash of the whole URL:
    /// DIR/http/host/find~HASH. So a name depends on its URL alone, two URLs never share one (but
    /// for those that differ in their #fragment only, which are one page), and none leads out of
    /// DIR. The result line gives the name as "file". Bodies appear complete, by
    /// renaming; only those of results without an error are saved. Files of the same names are
    /// replaced.
    #[arg(long, visible_alias = "save", value_name = "DIR")]
    pub(crate) output_dir: Option<PathBuf>,

    /// Fetch with N goroutines, so at most N requests at a time.
    #[arg(long, visible_alias = "parallel-max", value_name = "N", default_value_t = 64, allow_negative_numbers = true,
          value_parser = |text: &str| parse_whole::<u32>(text, 1..=100_000))]
    pub(crate) workers: u32,

    /// Start at most N requests a second over all [default: unlimited]
    ///
    /// A fraction is allowed, and a unit: 0.5, 1/2s and 30/m are one request every two seconds.
    /// Retries and redirects count as requests.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = parse_rate)]
    pub(crate) rate: Option<f64>,

    /// Show progress on standard error.
    ///
    /// WHEN is auto (if that is a terminal), always or never. The line says what is done, how fast,
    /// how much failed and the time left. On standard error that is no terminal, always writes a
    /// new line every few seconds.
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = When::Auto, hide_possible_values = true,
          help = "Show progress on standard error: auto (if it is a terminal), always or never")]
    pub(crate) progress: When,

    /// Fetch N pages of a site that goby serves itself on loopback.
    ///
    /// In place of URLs and --input, and not with --resume.
    #[arg(long, value_name = "N", allow_negative_numbers = true,
          value_parser = |text: &str| parse_whole::<u64>(text, 1..=10_000_000))]
    pub(crate) demo: Option<u64>,

    #[command(flatten)]
    pub(crate) results: ResultArgs,

    #[command(flatten)]
    pub(crate) request: RequestArgs,

    #[command(flatten)]
    pub(crate) time: TimeArgs,

    #[command(flatten)]
    pub(crate) polite: PoliteArgs,

    #[command(flatten)]
    pub(crate) route: RouteArgs,

    #[command(flatten)]
    _renamed: RenamedArgs,
}

/// When to show the progress line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    /// If standard error is a terminal.
    Auto,
    /// Whatever standard error is.
    Always,
    /// Not at all.
    Never,
}

/// Reads a whole number that has to be in `range`.
fn parse_whole<T>(text: &str, range: RangeInclusive<T>) -> Result<T, String>
where
    T: FromStr + PartialOrd + Display,
{
    let number = text.trim().parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| format!("expected a whole number from {} to {}", range.start(), range.end()))
}

/// Reads a rate: a number of requests a second, or of those in another time (`30/m`, `1/2s`).
fn parse_rate(text: &str) -> Result<f64, String> {
    const EXPECTED: &str = "expected a number of requests a second, more than zero, or such as 30/m";
    let (number, time) = text.trim().split_once('/').unwrap_or((text.trim(), "1s"));
    // `/s` is `/1s`.
    let one = if time.starts_with(|c: char| c.is_ascii_digit()) { "" } else { "1" };
    let time = match time {
        "" => return Err(EXPECTED.to_string()),
        "d" => 24.0 * 3600.0,
        _ => parse_duration(&format!("{one}{time}")).map_err(|_| EXPECTED)?.as_secs_f64(),
    };
    match number.parse::<f64>() {
        Ok(number) if (number / time).is_finite() && number > 0.0 => Ok(number / time),
        Ok(f64::INFINITY) => Err("there is no limit unless the option is given: leave it out".to_string()),
        _ => Err(EXPECTED.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::{parse_rate, parse_whole};

    #[test]
    fn a_rate_is_a_positive_number() {
        assert_eq!(parse_rate("0.5"), Ok(0.5));
        assert_eq!(parse_rate("100"), Ok(100.0));
        assert_eq!(["30/m", "5/s", "1/2s", "36/h", "86400/d"].map(parse_rate), [0.5, 5.0, 0.5, 0.01, 1.0].map(Ok));
        assert_eq!(parse_rate("inf").unwrap_err(), "there is no limit unless the option is given: leave it out");
        for text in ["0", "-1", "-inf", "NaN", "many", "", "5/", "5/x", "5/0s", "/s"] {
            let message = parse_rate(text).unwrap_err();
            assert_eq!(message, "expected a number of requests a second, more than zero, or such as 30/m", "{text:?}");
        }
    }

    #[test]
    fn a_whole_number_is_in_its_range() {
        assert_eq!(parse_whole("100", 0..=100), Ok(100));
        for text in ["101", "-1", "1.5", "x", ""] {
            let message = parse_whole::<u32>(text, 0..=100).unwrap_err();
            assert_eq!(message, "expected a whole number from 0 to 100", "{text:?}");
        }
    }
}
