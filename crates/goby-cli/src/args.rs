//! The command line as it was typed, before any of it has a meaning.
//!
//! Each subcommand declares its own options beside its code; this file only names the subcommands.

use clap::{Parser, Subcommand};

use crate::fetch::args::FetchArgs;
use crate::race::args::RaceArgs;

/// Go's concurrency model for Rust, put to work.
#[derive(Debug, Parser)]
#[command(name = "goby", version, max_term_width = 100)]
pub(crate) struct Args {
    /// Which subcommand, with its options.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The subcommands of `goby`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    // Documented at `FetchArgs` and `RaceArgs`: their help texts come from there.
    #[allow(missing_docs)]
    Fetch(Box<FetchArgs>),
    #[allow(missing_docs)]
    Race(RaceArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_declared_options_do_not_contradict_each_other() {
        super::Args::command().debug_assert();
    }
}
