//! What a program uses in place of std's, to be seen by a check.

pub mod atomic;
