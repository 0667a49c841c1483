//! "No cliff": what happens where a runtime is tempted to fall. Each prints its figures; README.md
//! says what is wanted.

pub mod apart;
pub mod balance;
pub mod burst;
pub mod machine;
pub mod memory;
pub mod scale;
