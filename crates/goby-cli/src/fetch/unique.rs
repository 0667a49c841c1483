//! `--unique`: whether the list has had a URL, in bounded memory.
//!
//! Only 64 bits of hash are kept per URL, in two sets. When the newer one is full, the older one is
//! forgotten and the newer one takes its place. So at least the last [`FULL`] different URLs are
//! remembered. Among a million URLs, the chance that any is wrongly taken for an earlier one is
//! some 3 in 100 million.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

/// How many URLs a set takes: some 36 MB.
const FULL: usize = 2_000_000;

/// The URLs that the list has had.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    newer: HashSet<u64>,
    older: HashSet<u64>,
    hash: RandomState,
}

impl Seen {
    /// Notes a URL, and returns whether it is new.
    pub(crate) fn is_new(&mut self, url: &str) -> bool {
        self.note(self.hash.hash_one(url), FULL)
    }

    fn note(&mut self, hash: u64, full: usize) -> bool {
        if self.older.contains(&hash) || !self.newer.insert(hash) {
            return false;
        }
        if self.newer.len() >= full {
            self.older = std::mem::take(&mut self.newer);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_new_once() {
        let mut seen = Seen::default();
        assert_eq!(["a", "b", "a", "b", "c"].map(|url| seen.is_new(url)), [true, true, false, false, true]);
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut seen = Seen::default();
        assert!((0..10).all(|hash| seen.note(hash, 4)));
        assert_eq!((seen.older.len(), seen.newer.len()), (4, 2));
        assert!((4..10).all(|hash| !seen.note(hash, 4)));
        assert!(seen.note(0, 4));
    }
}
