//! Files and directories, as straight-line code.
//!
//! The names are those of [`std::fs`]. The system has no way to wait for a disk without blocking a
//! thread. So calls run on helper threads, as those of [`blocking`](crate::blocking) do, while
//! their goroutine is parked. There is one short cut: a read is served at once, on the worker, if
//! the system has the bytes in memory (`preadv2` with `RWF_NOWAIT`).
//!
//! ```
//! use goby::fs;
//! use std::io::Write;
//!
//! # let path = std::env::temp_dir().join(format!("goby-fs-{}", std::process::id()));
//! let mut file = fs::File::create(&path)?;
//! file.write_all(b"one\ntwo\n")?;
//! assert_eq!(fs::read_to_string(&path)?, "one\ntwo\n");
//! for line in fs::lines(&path)? {
//!     assert_eq!(line?.len(), 3);
//! }
//! fs::remove_file(&path)?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Small pieces
//!
//! A call costs a trip to a helper thread and back, some 20 µs. So write small pieces through a
//! [`BufWriter`](std::io::BufWriter), and read them through a [`BufReader`](std::io::BufReader) or
//! [`lines`]. A [`File`] keeps no bytes back: a write has reached the system when it returns, and
//! an error is that of the write that caused it. Dropping a file loses nothing, and needs no flush.
//! What a `BufWriter` still holds when it is dropped is written, but an error is lost then, in std
//! as here: call [`flush`](std::io::Write::flush) or
//! [`into_inner`](std::io::BufWriter::into_inner). That the bytes have reached the disk is only
//! known after [`sync_all`](File::sync_all).
//!
//! # Contexts
//!
//! Nothing can stop a call of the file system in the middle, and it ends by itself. So a
//! [context](File::set_context) is looked at before each call, and no write is given up half done
//! with nobody to see its result. Reads and writes of a FIFO may take any time: they wait in the
//! poller, as sockets do, and a context ends them; so do those of a terminal. Opening a FIFO waits
//! for its other end, unless the context of [`File::open_ctx`] is done.
//!
//! # Errors
//!
//! The functions that take a path name it in their errors, with what was tried. Such an error has
//! the kind of the system's error, and that as its [`source`](std::error::Error::source).

#![forbid(unsafe_code)]

mod dir;
mod error;
mod fifo;
mod file;
mod leaving;
mod lines;
mod open_options;
mod paths;
mod position;

pub use std::fs::{FileTimes, FileType, Metadata, Permissions};

pub use dir::{DirEntry, ReadDir, read_dir};
pub use file::File;
pub use lines::{Lines, lines};
pub use open_options::OpenOptions;
pub use paths::{
    canonicalize, copy, create_dir, create_dir_all, hard_link, metadata, read, read_link, read_to_string, remove_dir,
    remove_dir_all, remove_file, rename, set_permissions, symlink, symlink_metadata, try_exists, write,
};
