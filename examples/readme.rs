//! The README's Rust code, compiled and run as doc tests of this crate.

#[doc = include_str!("../README.md")]
#[cfg(doctest)]
pub struct Readme;
