//! The READMEs' Rust code, compiled and run as doc tests of this crate.

#[doc = include_str!("../README.md")]
#[cfg(doctest)]
pub struct Readme;

#[doc = include_str!("../crates/goby-http/README.md")]
#[cfg(doctest)]
pub struct Http;
