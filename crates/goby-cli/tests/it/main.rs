//! The `goby` command as its users see it: the built binary against servers on loopback.
//!
//! One binary with a module for each subject; `support` has the harness, `server` the scripted HTTP
//! server. No test sleeps to let something happen: servers say what has arrived, and tests read a
//! child's output until the awaited text has come.

mod server;
mod support;

mod interrupt;
mod limits;
mod nginx;
mod open_files;
mod politeness;
mod proxies;
mod race;
mod requests;
mod results;
mod results_more;
mod resume;
mod retries;
mod save;
mod streams;
mod terminal;
mod time;
mod usage;
