//! Options of results: what they say, and where bodies are saved.

use clap::{ArgAction, Args, ValueEnum};
use http::HeaderName;

use super::super::template::Template;
use crate::text::parse_bytes;

#[derive(Debug, Args)]
#[command(next_help_heading = "Results")]
pub(crate) struct ResultArgs {
    /// Write results in this format.
    ///
    /// FORMAT is ndjson (an object on each line) or csv (with the names of the columns on the first
    /// line). A run with csv cannot be resumed.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Ndjson, hide_possible_values = true,
          help = "Write results in this format: ndjson or csv")]
    pub(crate) format: Format,

    /// Have the header NAME of responses in results.
    ///
    /// Can be given several times.
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    pub(crate) show_header: Vec<HeaderName>,

    /// Have the SHA-256 of each body in results.
    #[arg(long)]
    pub(crate) sha256: bool,

    /// Have the time to the first byte of each response in results.
    #[arg(long)]
    pub(crate) timings: bool,

    /// Save bodies under names by TEMPLATE.
    ///
    /// In it, {scheme}, {host}, {port}, {path} (with its directories), {name} (its last part),
    /// {stem} and {ext} (of that), {query} and {hash} (32 digits, of the whole URL) stand for parts
    /// of the URL, with odd characters replaced. A name that another URL of the run has had is an
    /// error of kind save.
    #[arg(long, value_name = "TEMPLATE", requires = "output_dir", value_parser = Template::parse)]
    pub(crate) output_name: Option<Template>,

    /// Fail where a body is longer than N bytes [default: unlimited]
    ///
    /// N may end with k, M or G.
    #[arg(long, visible_alias = "max-bytes", value_name = "N", value_parser = parse_bytes)]
    pub(crate) max_filesize: Option<u64>,

    /// Fetch each URL once: skip one that the list has had.
    ///
    /// At least the last two million URLs are remembered.
    #[arg(long)]
    pub(crate) unique: bool,

    /// Stop the run at the first URL that fails.
    #[arg(long, visible_alias = "fail-fast")]
    pub(crate) fail_early: bool,

    /// Show neither progress nor summary.
    #[arg(short = 'q', long, short_alias = 's', visible_alias = "silent", action = ArgAction::SetTrue)]
    pub(crate) quiet: bool,

    /// Write the summary as text or json, on standard error.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Summary::Text, hide_possible_values = true)]
    pub(crate) summary: Summary,

    /// Draw the latencies in the summary.
    #[arg(long)]
    pub(crate) histogram: bool,
}

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// One JSON object a line.
    Ndjson,
    /// Values with commas between them.
    Csv,
}

/// How the summary is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Summary {
    /// In words, on several lines.
    Text,
    /// One JSON object on a line.
    Json,
}

fn parse_name(text: &str) -> Result<HeaderName, String> {
    HeaderName::from_bytes(text.as_bytes()).map_err(|_| "it is no header's name".to_string())
}
