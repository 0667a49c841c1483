//! Copies the sources under test out of goby, with loom's atomics and `Arc` in place of std's. Two
//! more things differ: loom's types are not made by `const fn`s, and an included file has no inner
//! comments.

use std::path::Path;
use std::{env, fs};

const FILES: [&str; 7] =
    ["places.rs", "queue.rs", "first_panic.rs", "raw_mutex.rs", "raw_rwlock.rs", "wait_group.rs", "semaphore.rs"];

fn main() {
    let from = Path::new("../../crates/goby/src/sync");
    let to = env::var("OUT_DIR").expect("cargo sets it");
    for file in FILES {
        let source = from.join(file);
        println!("cargo::rerun-if-changed={}", source.display());
        let text = fs::read_to_string(&source).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
        let text: String =
            text.lines().filter(|line| !line.starts_with("//!")).map(|line| format!("{line}\n")).collect();
        let text = text
            .replace("std::sync::atomic", "loom::sync::atomic")
            .replace("pub(super) const fn new", "pub(super) fn new")
            // The value is made once and then read. Loom has nothing to check there, and the model
            // needs one crate less.
            .replace("use once_cell::sync::OnceCell;", "use std::sync::OnceLock as OnceCell;")
            // A read-modify-write directly follows the value that it changes. So the store of a
            // lock's holder comes after the changes that others made to the holder's value. Loom
            // keeps that order only if the store is itself a read-modify-write.
            .replace("self.word.store(", "self.word.swap(");
        // `first_panic` has an `Arc<str>`, which loom's `Arc` cannot be. It is behind parking_lot's
        // lock, so loom has nothing to check there.
        let text =
            if file == "first_panic.rs" { text } else { text.replace("use std::sync::Arc;", "use loom::sync::Arc;") };
        fs::write(Path::new(&to).join(file), text).expect("the output directory is writable");
    }
}
