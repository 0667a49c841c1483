//! "No cliff": programs for the places where a runtime is likely to fall off. Each prints its
//! figures; README.md says what is wanted.

pub mod apart;
pub mod balance;
pub mod burst;
pub mod machine;
pub mod memory;
pub mod scale;
