//! The inputs of the fuzz targets, once more: those that were written by hand, and those that were
//! findings.

#[path = "../fuzz/lib.rs"]
mod harness;

use std::fs;

use harness::client::Answers;
use harness::server::Servers;

/// Calls `exercise` with all inputs of a target.
fn replay(target: &str, mut exercise: impl FnMut(&[u8])) {
    let dir = format!("{}/tests/fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let mut paths: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 30, "only {} inputs in {dir}", paths.len());
    for path in paths {
        println!("{}", path.display());
        exercise(&fs::read(&path).unwrap());
    }
}

#[test]
fn the_server_withstands_its_corpus() {
    for workers in [1, 2] {
        let servers = Servers::start(workers);
        replay("server", |input| servers.exercise(input));
    }
}

#[test]
fn the_client_withstands_its_corpus() {
    for workers in [1, 2] {
        let answers = Answers::start(workers);
        replay("client", |input| answers.exercise(input));
    }
}
