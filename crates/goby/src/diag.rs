//! Seeing what goroutines do: dumps, as data and as text.
//!
//! ```
//! use goby::{Runtime, diag};
//!
//! let runtime = Runtime::builder().workers(1).build()?;
//! runtime.run(|| {
//!     let (tx, rx) = goby::chan::bounded::<u32>(0);
//!     goby::go(move || rx.recv());
//!     goby::yield_now();
//!     // Prints what Go's tracebacks print, the stacks included.
//!     eprintln!("{}", diag::dump());
//!     let waiting = diag::goroutines().iter().filter(|info| info.waited().is_some()).count();
//!     assert_eq!(waiting, 1);
//!     drop(tx);
//! });
//! # Ok::<(), std::io::Error>(())
//! ```

#![forbid(unsafe_code)]

pub use goby_runtime::{Dump, Frame, GoroutineInfo, Silent, StackTrace, Status, dump, goroutines};
