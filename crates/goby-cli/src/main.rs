//! The `goby` command.
//!
//! This file is the table of contents: `main` turns the end of a run into an exit status, `run` is
//! one `match` over the subcommands. Each subcommand is a directory of its own. Its `mod.rs` reads
//! from top to bottom in the order of the run.

#![forbid(unsafe_code)]

mod args;
mod exit;
mod fetch;
mod race;
mod text;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Command};
use crate::exit::{Exit, Usage};

fn main() -> ExitCode {
    // A mistake in the options themselves ends here: clap prints it and exits with 2, as
    // `Exit::Usage` would.
    let args = Args::parse();
    let exit = run(args).unwrap_or_else(|usage| {
        text::complain(&usage);
        Exit::Usage
    });
    exit.into()
}

fn run(args: Args) -> Result<Exit, Usage> {
    match args.command {
        Command::Fetch(args) => fetch::run(*args),
        Command::Race(args) => race::run(args),
    }
}
