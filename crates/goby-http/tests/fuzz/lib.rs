//! What is done with the bytes that a peer sends: goby-http's own server and client get them over
//! sockets, on goby's runtime, and what comes of it is compared with a second reading
//! ([`reference`]) that knows nothing of goby-http. A finding is a panic.
//!
//! Two users: the fuzz targets in `ci/fuzz`, and the test that goes through their corpus
//! (`tests/it/fuzz.rs`).
//!
//! A byte 0xFF of the input is not sent: the sender lets the other side read what came before. As
//! the last byte it means that the sender leaves without reading the answer.

pub(crate) mod client;
mod reference;
pub(crate) mod server;

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use goby::net::UnixStream;
use goby::{now, num_goroutines, yield_now};

/// More is not sent: so a sender never has to wait until its peer reads.
const MOST: usize = 16 << 10;

/// How long anything may take, on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

/// How many turns the other side has to read a piece.
const TURNS: usize = 8;

/// Sends the pieces of `input`. Returns whether the answer is to be read.
fn send(mut stream: &UnixStream, input: &[u8]) -> bool {
    for piece in input.split(|byte| *byte == 0xFF) {
        // The other side may have closed.
        if stream.write_all(piece).is_err() {
            break;
        }
        (0..TURNS).for_each(|_| yield_now());
    }
    input.last() != Some(&0xFF)
}

/// Reads to the end; a reset is one, too.
fn read_all(mut stream: &UnixStream) -> Vec<u8> {
    let mut all = Vec::new();
    if let Err(error) = stream.read_to_end(&mut all) {
        assert_ne!(error.kind(), std::io::ErrorKind::TimedOut, "the peer neither answers nor closes");
    }
    all
}

/// Waits until there are no more goroutines than `before`.
fn settle(before: usize) {
    let start = now();
    while num_goroutines() > before {
        assert!(start.elapsed() < LIMIT, "{} goroutines are left, {before} were there", num_goroutines());
        yield_now();
    }
}

fn limit() -> Option<Instant> {
    Some(now() + LIMIT)
}

/// What is sent of an input.
fn sent(input: &[u8]) -> Vec<u8> {
    input.iter().copied().filter(|byte| *byte != 0xFF).collect()
}

/// A path for a socket that no other process uses.
fn socket_path(what: &str) -> std::path::PathBuf {
    let path = std::env::temp_dir().join(format!("goby-http-{what}-{}", std::process::id()));
    // One that an earlier process of this number left.
    let _ = std::fs::remove_file(&path);
    path
}
