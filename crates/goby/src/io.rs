//! Pipes, standard input, and moving bytes between descriptors: the names of [`std::io`] and of
//! tokio's `io`.
//!
//! [`copy`] moves all of one stream to another, [`copy_bidirectional`] joins two, as a proxy does
//! (`examples/tcp_proxy.rs`). What waits parks the goroutine and never its worker. Waits are
//! bounded as those of [`net`](crate::net) are, by a deadline or a context, and fail with the [same
//! errors](crate::net#errors).
//!
//! ```
//! use std::io::{Read, Write};
//!
//! let (mut reader, mut writer) = goby::io::pipe()?;
//! let echo = goby::go(move || {
//!     let mut text = String::new();
//!     reader.read_to_string(&mut text).map(|_| text)
//! });
//! writer.write_all(b"through the pipe")?;
//! drop(writer);
//! assert_eq!(echo.join().unwrap()?, "through the pipe");
//! # Ok::<(), std::io::Error>(())
//! ```

#![forbid(unsafe_code)]

mod copy;
mod ends;
pub(crate) mod pipe;
mod stdin;

pub(crate) use copy::Descriptor;
pub use copy::{CopyEnd, copy, copy_bidirectional};
pub use pipe::{PipeReader, PipeWriter, pipe};
pub use stdin::{Lines, Stdin, stdin};
