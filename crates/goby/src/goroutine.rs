//! Names, labels and goroutine-locals, which a goroutine carries with it, and a stack of another
//! size for one that needs it. A plain [`go`](crate::go) pays nothing for these.
//!
//! ```
//! use goby::goroutine::{self, Builder};
//!
//! let worker = Builder::new().name("indexer").label("shard", "3").go(|| {
//!     // Its children carry the label too.
//!     goby::go(goroutine::labels).join().unwrap()
//! });
//! assert_eq!(worker.join().unwrap(), [("shard".to_string(), "3".to_string())]);
//! ```

#![doc(alias = "task_local")]
#![forbid(unsafe_code)]

#[doc(alias = "LocalKey")]
pub use goby_runtime::Local;
#[doc(alias("pprof.Do", "SetGoroutineLabels"))]
pub use goby_runtime::with_labels;
pub use goby_runtime::{GoBuilder as Builder, InheritedLocal, current_id as id, labels, name};
