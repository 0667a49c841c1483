//! How to open a file.

use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use goby_runtime::{WaitReason, blocking_as};

use super::File;
use super::error::of_path;

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
        OpenOptions { std: std::fs::OpenOptions::new() }
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
        /// Sets further flags of `open`, such as `O_NOFOLLOW`.
        fn custom_flags(flags: i32);
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
    /// Parks the goroutine; a FIFO is open once its other end is.
    ///
    /// # Errors
    ///
    /// The system's, with the path.
    pub fn open(&self, path: impl AsRef<Path>) -> io::Result<File> {
        let path = path.as_ref();
        goby_runtime::checkpoint();
        blocking_as(WaitReason::FileSystem, || self.open_here(path)).map_err(of_path("open", path))
    }

    /// Opens it on this thread.
    pub(super) fn open_here(&self, path: &Path) -> io::Result<File> {
        File::of_opened(self.std.open(path)?)
    }
}
