//! Letters that have had a meaning of their own here, and mean something else to curl. Each says
//! what to write now.

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct RenamedArgs {
    #[arg(short = 'i', hide = true, value_name = "FILE", allow_hyphen_values = true,
          value_parser = |_: &str| now("the list of URLs is named by --input"))]
    old_input: Option<String>,

    #[arg(short = 'r', hide = true, value_name = "N", allow_hyphen_values = true,
          value_parser = |_: &str| now("requests a second are limited by --rate"))]
    old_rate: Option<String>,

    #[arg(short = 'w', hide = true, value_name = "N", allow_hyphen_values = true,
          value_parser = |_: &str| now("requests at a time are limited by --workers"))]
    old_workers: Option<String>,
}

fn now(hint: &str) -> Result<String, String> {
    Err(format!("the letter means something else to curl; {hint}"))
}
