//! What is in a directory.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use goby_runtime::{WaitReason, blocking_as, checkpoint};

use super::error::of_path;
use super::{FileType, Metadata};

/// Entries read with one trip to a helper thread.
const BATCH: usize = 128;

/// Iterates over the entries of a directory, in the system's order.
///
/// ```
/// let names: Vec<_> = goby::fs::read_dir("/etc")?.map(|entry| Ok(entry?.file_name())).collect::<std::io::Result<_>>()?;
/// assert!(names.contains(&"passwd".into()));
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Blocking
///
/// Parks the goroutine, now and for every 128 entries.
///
/// # Errors
///
/// The system's, with the path.
#[doc(alias = "os.ReadDir")]
pub fn read_dir(path: impl AsRef<Path>) -> io::Result<ReadDir> {
    checkpoint();
    let path = path.as_ref();
    let open = || {
        let mut entries = fs::read_dir(path)?;
        let batch = next_batch(&mut entries);
        Ok(ReadDir { entries, batch })
    };
    blocking_as(WaitReason::FileSystem, open).map_err(of_path("read the directory", path))
}

fn next_batch(entries: &mut fs::ReadDir) -> VecDeque<io::Result<DirEntry>> {
    let entry = |entry: io::Result<fs::DirEntry>| {
        let entry = entry?;
        // Known without a further call, on most file systems.
        let file_type = entry.file_type().ok();
        Ok(DirEntry { entry, file_type })
    };
    entries.by_ref().take(BATCH).map(entry).collect()
}

/// The entries of a directory, from [`read_dir`].
pub struct ReadDir {
    entries: fs::ReadDir,
    batch: VecDeque<io::Result<DirEntry>>,
}

impl Iterator for ReadDir {
    type Item = io::Result<DirEntry>;

    fn next(&mut self) -> Option<io::Result<DirEntry>> {
        if self.batch.is_empty() {
            checkpoint();
            let entries = &mut self.entries;
            self.batch = blocking_as(WaitReason::FileSystem, || next_batch(entries));
        }
        self.batch.pop_front()
    }
}

impl fmt::Debug for ReadDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entries.fmt(f)
    }
}

/// An entry of a directory, from [`read_dir`].
///
/// ```
/// let entry = goby::fs::read_dir("/etc")?.find(|entry| entry.as_ref().is_ok_and(|e| e.file_name() == "passwd"));
/// let entry = entry.unwrap()?;
/// assert_eq!(entry.path(), std::path::Path::new("/etc/passwd"));
/// assert!(entry.file_type()?.is_file() && entry.metadata()?.len() > 0);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct DirEntry {
    entry: fs::DirEntry,
    file_type: Option<FileType>,
}

impl DirEntry {
    /// Returns the path: the directory's as it was given, and the name.
    pub fn path(&self) -> PathBuf {
        self.entry.path()
    }

    /// Returns the name.
    pub fn file_name(&self) -> OsString {
        self.entry.file_name()
    }

    /// Returns what it is; a symbolic link is not followed.
    ///
    /// # Blocking
    ///
    /// Parks the goroutine, on file systems that do not say it in the directory.
    ///
    /// # Errors
    ///
    /// The system's, with the path.
    pub fn file_type(&self) -> io::Result<FileType> {
        match self.file_type {
            Some(file_type) => Ok(file_type),
            None => self.metadata().map(|metadata| metadata.file_type()),
        }
    }

    /// Returns its metadata; a symbolic link is not followed.
    ///
    /// # Blocking
    ///
    /// Parks the goroutine.
    ///
    /// # Errors
    ///
    /// The system's, with the path.
    pub fn metadata(&self) -> io::Result<Metadata> {
        checkpoint();
        let metadata = blocking_as(WaitReason::FileSystem, || self.entry.metadata());
        metadata.map_err(|error| of_path("look at", &self.path())(error))
    }
}

impl fmt::Debug for DirEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entry.fmt(f)
    }
}
