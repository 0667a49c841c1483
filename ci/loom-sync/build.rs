//! Copies the sources under test out of goby, with loom's atomics and `Arc` in place of std's. What
//! else differs: loom's types are not made by `const fn`s, and a file that is included has no inner
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
            // Made once and then read: nothing for loom to look at, and one crate less.
            .replace("use once_cell::sync::OnceCell;", "use std::sync::OnceLock as OnceCell;")
            // A read-modify-write follows right after the value that it changed, so what the holder
            // of a lock stores comes after what others have put upon his value. Loom keeps no such
            // order, but for what is one itself.
            .replace("self.word.store(", "self.word.swap(");
        // `first_panic` has an `Arc<str>`, which loom's is not, behind parking_lot's lock: nothing
        // for loom to look at.
        let text =
            if file == "first_panic.rs" { text } else { text.replace("use std::sync::Arc;", "use loom::sync::Arc;") };
        fs::write(Path::new(&to).join(file), text).expect("the output directory is writable");
    }
}
