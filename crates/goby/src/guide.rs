//! The guide: pages to read from top to bottom. The other pages of the crate are for looking things up.
//!
//! Every program in it is compiled and run as a test.
//!
//! | page | for |
//! |---|---|
//! | [`from_go_in_an_hour`] | learning goby at the keyboard, with the programs of the Tour of Go and its exercises |
//!
//! Pages for looking things up: [`from_go`](crate::from_go) is a table of Go's names,
//! [`checkpoints`](crate::checkpoints) says which calls let others run, and
//! [`thread_locals`](crate::thread_locals) says which code must not wait.

// To add a page: a row above, and a module with its text below.

#[doc = include_str!("docs/guide/from_go_in_an_hour.md")]
pub mod from_go_in_an_hour {}
