#![no_main]
//! Gives goby-http's client the bytes that libFuzzer makes.

#[path = "../../../crates/goby-http/tests/fuzz/lib.rs"]
#[allow(dead_code)]
mod harness;

use std::sync::OnceLock;

use harness::client::Answers;
use libfuzzer_sys::fuzz_target;

static PEER: OnceLock<Answers> = OnceLock::new();

fuzz_target!(|input: &[u8]| PEER.get_or_init(|| Answers::start(1)).exercise(input));
