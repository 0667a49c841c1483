#![no_main]
//! Gives goby-http's server the bytes that libFuzzer makes.

#[path = "../../../crates/goby-http/tests/fuzz/lib.rs"]
#[allow(dead_code)]
mod harness;

use std::sync::OnceLock;

use harness::server::Servers;
use libfuzzer_sys::fuzz_target;

static PEER: OnceLock<Servers> = OnceLock::new();

fuzz_target!(|input: &[u8]| PEER.get_or_init(|| Servers::start(1)).exercise(input));
