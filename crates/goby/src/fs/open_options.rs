//! How to open a file.

use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use goby_runtime::{WaitReason, blocking_as};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::Errno;

use super::File;
use super::error::of_path;
use super::fifo::{Opened, open_within};
use super::leaving::Leaving;
use crate::context::blocking_ctx;
use crate::{Context, chan, go, select};

/// How to open a file: std's [`OpenOptions`](std::fs::OpenOptions) with the same names.
///
/// ```
/// use goby::fs::OpenOptions;
/// use std::io::Write;
/// # let path = std::env::temp_dir().join(format!("goby-options-{}", std::process::id()));
/// OpenOptions::new().append(true).create(true).open(&path)?.write_all(b"one")?;
/// OpenOptions::new().append(true).open(&path)?.write_all(b"two")?;
/// assert_eq!(goby::fs::read(&path)?, b"onetwo");
/// # goby::fs::remove_file(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[doc(alias = "os.OpenFile")]
#[derive(Clone, Debug)]
pub struct OpenOptions {
    std: std::fs::OpenOptions,
    /// Those in `std`, which cannot be asked.
    custom_flags: i32,
}

/// Documents a setter that is std's.
macro_rules! as_std {
    ($($(#[$doc:meta])* fn $name:ident($arg:ident: $Type:ty);)*) => {
        $($(#[$doc])*
        pub fn $name(&mut self, $arg: $Type) -> &mut OpenOptions {
            self.std.$name($arg);
            self
        })*
    };
}

impl OpenOptions {
    /// Makes options that are all false.
    ///
    /// ```
    /// let error = goby::fs::OpenOptions::new().open("/").unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "neither to read nor to write");
    /// ```
    #[allow(clippy::new_without_default)] // As std's.
    pub fn new() -> OpenOptions {
        OpenOptions { std: std::fs::OpenOptions::new(), custom_flags: 0 }
    }

    as_std! {
        /// Sets whether it can be read.
        fn read(read: bool);
        /// Sets whether it can be written to.
        fn write(write: bool);
        /// Sets whether each write goes to the end.
        fn append(append: bool);
        /// Sets whether what it had is dropped.
        fn truncate(truncate: bool);
        /// Sets whether it is made if it does not exist.
        fn create(create: bool);
        /// Sets whether it is made, and must not exist.
        fn create_new(create_new: bool);
        /// Sets the mode of a file that is made.
        fn mode(mode: u32);
    }

    /// Sets further flags of `open`, such as `O_NOFOLLOW`.
    pub fn custom_flags(&mut self, flags: i32) -> &mut OpenOptions {
        self.custom_flags = flags;
        self.std.custom_flags(flags);
        self
    }

    /// Opens a file.
    ///
    /// ```
    /// let file = goby::fs::OpenOptions::new().read(true).open("/etc/passwd")?;
    /// assert!(file.metadata()?.is_file());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine; a FIFO is open once its other end is:
    /// [`open_ctx`](OpenOptions::open_ctx) can be given up.
    ///
    /// # Errors
    ///
    /// The system's, with the path.
    pub fn open(&self, path: impl AsRef<Path>) -> io::Result<File> {
        let path = path.as_ref();
        goby_runtime::checkpoint();
        let attempt = || blocking_as(WaitReason::FileSystem, || self.attempt(path, || true));
        open_within(&Context::background(), attempt).map_err(of_path("open", path))
    }

    /// Opens a file, unless `ctx` is done first: for a FIFO without a reader, say, since opening it
    /// waits for one.
    ///
    /// ```
    /// use goby::{Context, fs::OpenOptions};
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// assert!(OpenOptions::new().write(true).open_ctx(&ctx, "/dev/null").is_ok());
    /// cancel.cancel();
    /// assert!(OpenOptions::new().write(true).open_ctx(&ctx, "/dev/null").is_err());
    /// ```
    ///
    /// # Blocking
    ///
    /// As for [`open`](OpenOptions::open).
    ///
    /// # Errors
    ///
    /// Those of `open`, and the context's.
    ///
    /// # Cancellation
    ///
    /// As for [`File::open_ctx`].
    pub fn open_ctx(&self, ctx: &Context, path: impl AsRef<Path>) -> io::Result<File> {
        let path = path.as_ref();
        goby_runtime::checkpoint();
        if let Some(error) = ctx.err() {
            return Err(error.into());
        }
        open_within(ctx, || self.attempt_ctx(ctx, path)).map_err(|error| match error.raw_os_error() {
            Some(_) => of_path("open", path)(error),
            None => error,
        })
    }

    /// Attempts to open it on a helper thread, until `ctx` is done.
    ///
    /// The caller does not leave a FIFO while the helper opens it. That does not wait, and may be
    /// what the writer has waited for: whoever has the file takes what was written.
    fn attempt_ctx(&self, ctx: &Context, path: &Path) -> io::Result<Opened> {
        let (opened, opens) = chan::bounded(1);
        let leaving = Arc::new(Leaving::new());
        let (options, within, path, looks) = (self.clone(), ctx.clone(), path.to_owned(), leaving.clone());
        go(move || {
            let attempt = || options.attempt(&path, || looks.begin());
            // An error means that the caller has left.
            let _ = opened.send(blocking_ctx(&within, WaitReason::FileSystem, attempt));
        });
        let opened = select! {
            recv(opens) -> opened => opened,
            recv(ctx.done()) -> _ => {
                if leaving.leave() {
                    return Err(ctx.err().expect("it is done").into());
                }
                opens.recv()
            }
        };
        opened.unwrap_or_else(|_| Ok(Err(io::Error::other("opening the file has panicked"))))?
    }

    /// Opens it on this thread, without waiting for the other end of a FIFO. A FIFO is opened only
    /// if `begin` returns true; otherwise nobody looks at what this returns.
    pub(super) fn attempt(&self, path: &Path, begin: impl FnOnce() -> bool) -> io::Result<Opened> {
        let nonblocking = OFlags::NONBLOCK.bits() as i32;
        let is_fifo = std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo());
        if is_fifo && !begin() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if !is_fifo || self.custom_flags & nonblocking != 0 {
            return self.open_here(path).map(Opened::File);
        }
        let mut options = self.std.clone();
        options.custom_flags(self.custom_flags | nonblocking);
        let file = match options.open(path) {
            Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => return Ok(Opened::NoReader),
            opened => opened?,
        };
        let waits = fcntl_getfl(&file)? & OFlags::RWMODE == OFlags::RDONLY;
        Ok(if waits { Opened::Reader(file) } else { Opened::File(File::of_opened(file)?) })
    }

    /// Opens it on this thread.
    pub(super) fn open_here(&self, path: &Path) -> io::Result<File> {
        File::of_opened(self.std.open(path)?)
    }
}
