//! Tests of programs that use [goby](https://docs.rs/goby): the same channels, locks, selects,
//! contexts and timers that run in production, under a scheduler that a seed chooses.
//!
//! A test that runs a program once sees one order of its goroutines, nearly always the same.
//! [`check_random`] and its kin run the program many times, each time in another order, and find
//!
//! - deadlocks, of all goroutines or of some that are left when the first has ended;
//! - panics, also those that nobody joins, so a failed assertion is found in whatever order it
//!   fails;
//! - data races of [`RaceCell`]s, and a program that goes on forever.
//!
//! The program need not be changed, nor built in another way. Time is virtual: a sleep of an hour
//! takes no time, and moves the clock only when nothing else can go on.
//!
//! ```should_panic
//! use goby::{go, sync::Mutex};
//! use std::sync::Arc;
//!
//! // Both read the balance before either has written it.
//! goby_check::check_random(100, || {
//!     let balance = Arc::new(Mutex::new(100));
//!     let theirs = balance.clone();
//!     let withdraw = |balance: &Mutex<i32>, amount| {
//!         let before = *balance.lock();
//!         *balance.lock() = before - amount;
//!     };
//!     let other = go(move || withdraw(&theirs, 10));
//!     withdraw(&balance, 20);
//!     other.join().unwrap();
//!     assert_eq!(*balance.lock(), 70);
//! });
//! ```
//!
//! What it prints then ends with a line such as
//!
//! ```text
//! goby_check::replay("g1-4f1d93c2a07be655-0110z8", program)
//! ```
//!
//! by which the failure comes back, step by step, in another process too: see [`replay`].
//!
//! # Which way to choose
//!
//! | function | finds |
//! |---|---|
//! | [`check_random`] | most mistakes, in few executions: begin with it |
//! | [`check_pct`] | those that need one goroutine to be slow for a long time |
//! | [`check_uniform`] | those that need an order which a random walk seldom takes, since some goroutines do more than others |
//! | [`check_pos`] | those among many goroutines that have little to do with each other |
//! | [`replay`] | the one whose schedule was printed |
//!
//! [`Config`] sets more, and [`Config::run`] returns the failure as a value.
//!
//! `GOBY_CHECK_SEED` in the environment sets the seed of all checks (a number that a failure has
//! printed), and `GOBY_CHECK_ITERATIONS` how many executions each has.
//!
//! # Limits
//!
//! - A check sees the interleavings of goby's operations, and of the atomics in
//!   [`sync::atomic`], one after the other: no reordering by weak memory. A std lock or atomic is no
//!   point at which others go on. A std lock that is held across a call of goby blocks the check's
//!   only thread.
//! - Apart from the order of its goroutines, the program must do the same in each execution: no
//!   `std::time::Instant::now` (use `goby::now`), no random numbers but `goby::random`, no order that
//!   hangs on addresses or on `HashMap`'s seed, no statics that one execution leaves changed. If a
//!   failure does not come back, the report says so.
//! - Threads, `goby::blocking`, files, sockets and tokio are outside: a check that meets them fails
//!   with a text that says what to do.
//! - A goroutine may lose its turn inside the initializer of a `thread_local!`, if that calls goby.
//! - The goroutines of an execution that has failed stay where they are, with their stacks.

#![forbid(unsafe_code)]

mod bubble;
mod clocks;
mod config;
mod explore;
mod failure;
mod panics;
mod race_cell;
mod random;
mod schedule;
mod strategy;
pub mod sync;

pub use bubble::{Blocked, bubble, try_bubble, unix_time, wait};
pub use config::{Config, check, check_pct, check_pos, check_random, check_uniform, replay};
pub use explore::Stats;
pub use failure::{Failure, FailureKind};
pub use race_cell::RaceCell;
pub use schedule::{ParseScheduleError, Schedule};
