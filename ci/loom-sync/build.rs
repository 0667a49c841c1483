//! Copies the sources under test out of goby and its runtime, with loom's atomics and `Arc` in
//! place of std's. Two more things differ: loom's types are not made by `const fn`s, and an
//! included file has no inner comments.

use std::path::Path;
use std::{env, fs};

const FILES: [&str; 9] = [
    "goby/src/fs/leaving.rs",
    "goby/src/sync/places.rs",
    "goby/src/sync/queue.rs",
    "goby/src/sync/first_panic.rs",
    "goby/src/sync/raw_mutex.rs",
    "goby/src/sync/raw_rwlock.rs",
    "goby/src/sync/wait_group.rs",
    "goby/src/sync/semaphore.rs",
    "goby-runtime/src/base/streak.rs",
];

fn main() {
    let from = Path::new("../../crates");
    let to = env::var("OUT_DIR").expect("cargo sets it");
    for file in FILES {
        let source = from.join(file);
        println!("cargo::rerun-if-changed={}", source.display());
        let text = fs::read_to_string(&source).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
        let text: String =
            text.lines().filter(|line| !line.starts_with("//!")).map(|line| format!("{line}\n")).collect();
        let text = text
            .replace("std::sync::atomic", "loom::sync::atomic")
            .replace("const fn new", "fn new")
            // The value is made once and then read. Loom has nothing to check there, and the model
            // needs one crate less.
            .replace("use once_cell::sync::OnceCell;", "use std::sync::OnceLock as OnceCell;")
            // A read-modify-write directly follows the value that it changes. So the store of a
            // lock's holder comes after the changes that others made to the holder's value. Loom
            // keeps that order only if the store is itself a read-modify-write.
            .replace("self.word.store(", "self.word.swap(");
        // `first_panic` has an `Arc<str>`, which loom's `Arc` cannot be. It is behind parking_lot's
        // lock, so loom has nothing to check there.
        let name = source.file_name().expect("it is a file");
        let text =
            if name == "first_panic.rs" { text } else { text.replace("use std::sync::Arc;", "use loom::sync::Arc;") };
        fs::write(Path::new(&to).join(name), text).expect("the output directory is writable");
    }
}
