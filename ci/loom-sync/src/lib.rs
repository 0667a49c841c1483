//! Models of `goby::sync` and of opening a FIFO, explored by loom: the production sources of the
//! lock words, of the queue and of who was first (see `build.rs`), over a stand-in for the
//! runtime's `Gate` and for contexts that loom understands.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release`

#![cfg(all(loom, test))]

extern crate self as goby_runtime;

mod context;
mod gate;

pub(crate) use context::Context;
pub(crate) use gate::{Backoff, fences_work, heavy_fence, light_fence};
pub(crate) use gate::{
    Decision, Gate, IsArmed, NeverRan, WaitReason, Waited, Waiters, checkpoint, checkpoint_on, discard_quietly,
    gives_back, go_owing, is_goexit, now, polled, refused, with_reach,
};
pub(crate) mod checked {
    /// A model is no check.
    pub(crate) fn is_checked() -> bool {
        false
    }
}

/// No model panics while a goroutine is parked, so the answer of std is right.
pub(crate) use std::thread::panicking;
pub(crate) use streak::Streak;

macro_rules! under_test {
    ($($name:ident)*) => {$(
        mod $name {
            include!(concat!(env!("OUT_DIR"), "/", stringify!($name), ".rs"));
        }
    )*};
}

under_test! { streak }

mod fs {
    under_test! { leaving }

    mod models;
}

#[allow(dead_code)] // Each file has more than the models use.
mod sync {
    under_test! { places queue first_panic raw_mutex raw_rwlock wait_group semaphore }

    mod models;
}
