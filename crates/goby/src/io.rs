//! Moving bytes between descriptors: the names of [`std::io`] and of tokio's `io`.
//!
//! [`copy`] moves all of one stream to another, [`copy_bidirectional`] joins two, as a proxy does.
//! What waits parks the goroutine and never its worker.

#![forbid(unsafe_code)]

mod copy;

pub(crate) use copy::Descriptor;
pub use copy::{CopyEnd, copy, copy_bidirectional};
