//! The `goby` command as its users meet it: the built binary against servers on loopback.
//!
//! One binary with a module for each subject; `support` has the harness, `server` the scripted HTTP
//! server. No test sleeps to let something happen: servers say what has arrived, and children are
//! read until they have said what is awaited.

mod server;
mod support;

mod interrupt;
mod limits;
mod nginx;
mod open_files;
mod race;
mod results;
mod resume;
mod retries;
mod save;
mod streams;
mod terminal;
mod usage;
