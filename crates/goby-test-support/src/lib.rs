//! What the tests of goby's crates share: processes of their own, and waiting for what nothing
//! tells.

mod child;
mod server;

pub use child::{has, has_if, in_child, in_child_with, stderr, this_program};
pub use server::{Server, finish};

use std::time::{Duration, Instant};

/// How long a test waits for what must happen: far longer than that takes on any machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Polls until `condition` holds, giving way to others in between. For what nothing tells, such as
/// a count.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    for round in 0u32.. {
        if condition() {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        if round < 100 {
            goby_runtime::yield_now();
        } else {
            pause(Duration::from_millis(1));
        }
    }
}

/// Parks the calling goroutine or thread for at least `time`: the minimum of a negative check
/// ("after 1 ms still blocked").
pub fn pause(time: Duration) {
    goby_runtime::sleep_until(goby_runtime::now() + time);
}
