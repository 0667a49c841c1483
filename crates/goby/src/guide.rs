//! The guide: pages to read from top to bottom.
//!
//! Every program in it is compiled and run as a test.
//!
//! | page | for |
//! |---|---|
//! | [`from_go_in_an_hour`] | learning goby at the keyboard, with the programs of the Tour of Go and its exercises |
//! | [`from_tokio`] | what becomes of tokio's tasks, macros and types, and what goby does not have |
//! | [`channels_and_select`] | which channel to take, how channels end, and the usual loops over `select!` |
//! | [`contexts_and_shutdown`] | calling work off, waiting for what was called off, and a server that shuts down in order |
//! | [`files_and_processes`] | reading and writing files, standard input and pipes; children that end when they should |
//! | [`other_crates`] | which crates work in a goroutine as they are, and what to write where one does not |
//! | [`pitfalls`] | the mistakes that goby cannot keep you from, what a program does then, and what is printed |
//! | [`testing`] | tests that fail instead of hanging, find what is left behind, and need no sleep |
//! | [`when_it_hangs`] | how to find out why a program hangs, leaks or is slow, while it runs |
//! | [`production`] | what to know before a program runs for long where nobody watches |
//!
//! Pages for looking things up: [`from_go`](crate::from_go) is a table of Go's names,
//! [`checkpoints`](crate::checkpoints) says which calls let others run, and
//! [`thread_locals`](crate::thread_locals) says which code must not wait. The crate `goby-http` has
//! a page on HTTP services in a guide of its own, `goby_http::guide`.

// To add a page: a row above, and a module with its text below.

#[doc = include_str!("docs/guide/from_go_in_an_hour.md")]
pub mod from_go_in_an_hour {}

#[doc = include_str!("docs/guide/from_tokio.md")]
pub mod from_tokio {}

#[doc = include_str!("docs/guide/channels_and_select.md")]
pub mod channels_and_select {}

#[doc = include_str!("docs/guide/contexts_and_shutdown.md")]
pub mod contexts_and_shutdown {}

#[doc = include_str!("docs/guide/files_and_processes.md")]
pub mod files_and_processes {}

#[doc = include_str!("docs/guide/other_crates.md")]
pub mod other_crates {}

#[doc = include_str!("docs/guide/pitfalls.md")]
pub mod pitfalls {}

#[doc = include_str!("docs/guide/testing.md")]
pub mod testing {}

#[doc = include_str!("docs/guide/when_it_hangs.md")]
pub mod when_it_hangs {}

#[doc = include_str!("docs/guide/production.md")]
pub mod production {}
