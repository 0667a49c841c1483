//! The integration tests of goby-tokio, one binary. Unless they say otherwise they have one worker,
//! so what blocks the thread blocks all goroutines, and a runtime of their own, so that a wait
//! without an end is a deadlock or a leak that fails the test.

mod bridge;
mod entered;
mod task;
mod value;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::Handle;

/// Returns whether tokio is entered on the calling thread.
fn is_entered() -> bool {
    Handle::try_current().is_ok()
}

/// Notes whether tokio is entered where it is dropped, as a socket or a timer of tokio's would ask.
struct NeedsTokio(Arc<AtomicBool>);

impl NeedsTokio {
    fn new() -> (NeedsTokio, Arc<AtomicBool>) {
        let was_entered = Arc::new(AtomicBool::new(false));
        (NeedsTokio(was_entered.clone()), was_entered)
    }
}

impl Drop for NeedsTokio {
    fn drop(&mut self) {
        self.0.store(is_entered(), Ordering::Release);
    }
}
