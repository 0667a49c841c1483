//! The functions that take a path: one trip to a helper thread each, as a rule. Contents that may
//! not come soon, those of a FIFO say, are read and written as a [`File`]'s.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use goby_runtime::{WaitReason, blocking_as, checkpoint};

use super::error::{of_path, of_paths};
use super::fifo::may_wait;
use super::{File, Metadata, Permissions};

/// Runs a call on a helper thread, and names it and the file in its error.
fn call<R: Send>(action: &'static str, path: &Path, f: impl FnOnce() -> io::Result<R> + Send) -> io::Result<R> {
    checkpoint();
    blocking_as(WaitReason::FileSystem, f).map_err(of_path(action, path))
}

/// Runs a call with two files on a helper thread.
fn call_with_both<R: Send>(
    action: &'static str,
    [from, to]: [&Path; 2],
    f: impl FnOnce() -> io::Result<R> + Send,
) -> io::Result<R> {
    checkpoint();
    blocking_as(WaitReason::FileSystem, f).map_err(of_paths(action, from, to))
}

/// Runs a call on a helper thread as [`call`] does, unless it may wait for long.
fn call_unless_waits<R: Send>(
    action: &'static str,
    path: &Path,
    f: impl FnOnce() -> io::Result<R> + Send,
) -> io::Result<Option<R>> {
    call(action, path, || if may_wait(path) { Ok(None) } else { f().map(Some) })
}

/// Reads a whole file.
///
/// ```
/// # let dir = std::env::temp_dir().join(format!("goby-read-{}", std::process::id()));
/// # goby::fs::create_dir(&dir)?;
/// goby::fs::write(dir.join("a"), "hello")?;
/// assert_eq!(goby::fs::read(dir.join("a"))?, b"hello");
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Blocking
///
/// Parks the goroutine.
///
/// # Errors
///
/// The system's, with the path.
#[doc(alias = "os.ReadFile")]
pub fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let path = path.as_ref();
    if let Some(contents) = call_unless_waits("read", path, || fs::read(path))? {
        return Ok(contents);
    }
    let mut contents = Vec::new();
    File::open(path)?.read_to_end(&mut contents).map_err(of_path("read", path))?;
    Ok(contents)
}

/// Reads a whole file, which must be UTF-8.
///
/// ```
/// # let dir = std::env::temp_dir().join(format!("goby-read-to-string-{}", std::process::id()));
/// # goby::fs::create_dir(&dir)?;
/// goby::fs::write(dir.join("a"), "hello")?;
/// assert_eq!(goby::fs::read_to_string(dir.join("a"))?, "hello");
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Blocking
///
/// Parks the goroutine.
///
/// # Errors
///
/// The system's, with the path.
pub fn read_to_string(path: impl AsRef<Path>) -> io::Result<String> {
    let path = path.as_ref();
    if let Some(contents) = call_unless_waits("read", path, || fs::read_to_string(path))? {
        return Ok(contents);
    }
    let mut contents = String::new();
    File::open(path)?.read_to_string(&mut contents).map_err(of_path("read", path))?;
    Ok(contents)
}

/// Makes a file of these bytes; what it had is dropped.
///
/// ```
/// # let dir = std::env::temp_dir().join(format!("goby-write-{}", std::process::id()));
/// # goby::fs::create_dir(&dir)?;
/// goby::fs::write(dir.join("a"), b"hello")?;
/// assert_eq!(goby::fs::read(dir.join("a"))?, b"hello");
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Blocking
///
/// Parks the goroutine.
///
/// # Errors
///
/// The system's, with the path.
#[doc(alias = "os.WriteFile")]
pub fn write(path: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> io::Result<()> {
    let (path, contents) = (path.as_ref(), contents.as_ref());
    if call_unless_waits("write", path, || fs::write(path, contents))?.is_some() {
        return Ok(());
    }
    File::create(path)?.write_all(contents).map_err(of_path("write", path))
}

/// Returns the metadata of a file; follows symbolic links.
///
/// ```
/// # let dir = std::env::temp_dir().join(format!("goby-metadata-{}", std::process::id()));
/// # goby::fs::create_dir(&dir)?;
/// assert!(goby::fs::metadata(&dir)?.is_dir());
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Blocking
///
/// Parks the goroutine.
///
/// # Errors
///
/// The system's, with the path.
#[doc(alias = "os.Stat")]
pub fn metadata(path: impl AsRef<Path>) -> io::Result<Metadata> {
    let path = path.as_ref();
    call("look at", path, || fs::metadata(path))
}

/// Returns the metadata of a file, or of the symbolic link that it is.
///
/// ```
/// # let dir = std::env::temp_dir().join(format!("goby-symlink-metadata-{}", std::process::id()));
/// # goby::fs::create_dir(&dir)?;
/// goby::fs::symlink("nowhere", dir.join("a"))?;
/// assert!(goby::fs::symlink_metadata(dir.join("a"))?.is_symlink());
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Blocking
///
/// Parks the goroutine.
///
/// # Errors
///
/// The system's, with the path.
#[doc(alias = "os.Lstat")]
pub fn symlink_metadata(path: impl AsRef<Path>) -> io::Result<Metadata> {
    let path = path.as_ref();
    call("look at", path, || fs::symlink_metadata(path))
}

/// Returns whether there is such a file.
///
/// ```
/// # let dir = std::env::temp_dir().join(format!("goby-try-exists-{}", std::process::id()));
/// # goby::fs::create_dir(&dir)?;
/// assert!(goby::fs::try_exists(&dir)?);
/// assert!(!goby::fs::try_exists(dir.join("a"))?);
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Blocking
///
/// Parks the goroutine.
///
/// # Errors
///
/// The system's, with the path.
pub fn try_exists(path: impl AsRef<Path>) -> io::Result<bool> {
    let path = path.as_ref();
    call("look for", path, || path.try_exists())
}

/// Renames a file, and replaces what was there.
///
/// ```
/// # let dir = std::env::temp_dir().join(format!("goby-rename-{}", std::process::id()));
/// # goby::fs::create_dir(&dir)?;
/// goby::fs::write(dir.join("a"), "hello")?;
/// goby::fs::rename(dir.join("a"), dir.join("b"))?;
/// assert_eq!(goby::fs::read(dir.join("b"))?, b"hello");
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Blocking
///
/// Parks the goroutine.
///
/// # Errors
///
/// The system's, with the path.
#[doc(alias = "os.Rename")]
pub fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    let (from, to) = (from.as_ref(), to.as_ref());
    call_with_both("rename", [from, to], || fs::rename(from, to))
}

/// Copies a file with its permissions; returns how many bytes it has.
///
/// ```
/// # let dir = std::env::temp_dir().join(format!("goby-copy-{}", std::process::id()));
/// # goby::fs::create_dir(&dir)?;
/// goby::fs::write(dir.join("a"), "hello")?;
/// assert_eq!(goby::fs::copy(dir.join("a"), dir.join("b"))?, 5);
/// assert_eq!(goby::fs::read(dir.join("b"))?, b"hello");
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Blocking
///
/// Parks the goroutine.
///
/// # Errors
///
/// The system's, with the path; `InvalidInput` unless `from` is a regular file.
pub fn copy(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<u64> {
    let (from, to) = (from.as_ref(), to.as_ref());
    let copied = call_with_both("copy", [from, to], || {
        if may_wait(from) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
        }
        if may_wait(to) { Ok(None) } else { fs::copy(from, to).map(Some) }
    })?;
    if let Some(copied) = copied {
        return Ok(copied);
    }
    let file = File::open(from)?;
    crate::io::copy(&file, &File::create(to)?).map_err(of_paths("copy", from, to))
}

/// Gives a file a second name.
///
/// ```
/// # let dir = std::env::temp_dir().join(format!("goby-hard-link-{}", std::process::id()));
/// # goby::fs::create_dir(&dir)?;
/// goby::fs::write(dir.join("a"), "hello")?;
/// goby::fs::hard_link(dir.join("a"), dir.join("b"))?;
/// assert_eq!(goby::fs::read(dir.join("b"))?, b"hello");
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Blocking
///
/// Parks the goroutine.
///
/// # Errors
///
/// The system's, with the path.
#[doc(alias = "os.Link")]
pub fn hard_link(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    let (from, to) = (from.as_ref(), to.as_ref());
    call_with_both("link", [from, to], || fs::hard_link(from, to))
}

/// Makes a symbolic link at `to` that leads to `from`.
///
/// ```
/// # let dir = std::env::temp_dir().join(format!("goby-symlink-{}", std::process::id()));
/// # goby::fs::create_dir(&dir)?;
/// goby::fs::symlink("target", dir.join("a"))?;
/// assert_eq!(goby::fs::read_link(dir.join("a"))?, std::path::Path::new("target"));
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Blocking
///
/// Parks the goroutine.
///
/// # Errors
///
/// The system's, with the path.
#[doc(alias = "os.Symlink")]
pub fn symlink(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    let (from, to) = (from.as_ref(), to.as_ref());
    call("make the link", to, || std::os::unix::fs::symlink(from, to))
}

/// Returns where a symbolic link leads.
///
/// ```
/// # let dir = std::env::temp_dir().join(format!("goby-read-link-{}", std::process::id()));
/// # goby::fs::create_dir(&dir)?;
/// goby::fs::symlink("target", dir.join("a"))?;
/// assert_eq!(goby::fs::read_link(dir.join("a"))?, std::path::Path::new("target"));
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Blocking
///
/// Parks the goroutine.
///
/// # Errors
///
/// The system's, with the path.
#[doc(alias = "os.Readlink")]
pub fn read_link(path: impl AsRef<Path>) -> io::Result<PathBuf> {
    let path = path.as_ref();
    call("read the link", path, || fs::read_link(path))
}

/// Returns the absolute path of a file, without symbolic links.
///
/// ```
/// # let dir = std::env::temp_dir().join(format!("goby-canonicalize-{}", std::process::id()));
/// # goby::fs::create_dir(&dir)?;
/// assert_eq!(goby::fs::canonicalize("/etc/../etc")?, std::path::Path::new("/etc"));
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Blocking
///
/// Parks the goroutine.
///
/// # Errors
///
/// The system's, with the path.
#[doc(alias = "filepath.EvalSymlinks")]
pub fn canonicalize(path: impl AsRef<Path>) -> io::Result<PathBuf> {
    let path = path.as_ref();
    call("resolve", path, || fs::canonicalize(path))
}

/// Makes a directory.
///
/// ```
/// # let dir = std::env::temp_dir().join(format!("goby-create-dir-{}", std::process::id()));
/// # goby::fs::create_dir(&dir)?;
/// goby::fs::create_dir(dir.join("a"))?;
/// assert!(goby::fs::metadata(dir.join("a"))?.is_dir());
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Blocking
///
/// Parks the goroutine.
///
/// # Errors
///
/// The system's, with the path.
#[doc(alias = "os.Mkdir")]
pub fn create_dir(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref();
    call("make the directory", path, || fs::create_dir(path))
}

/// Makes a directory, and those above it that do not exist.
///
/// ```
/// # let dir = std::env::temp_dir().join(format!("goby-create-dir-all-{}", std::process::id()));
/// # goby::fs::create_dir(&dir)?;
/// goby::fs::create_dir_all(dir.join("a/b/c"))?;
/// assert!(goby::fs::metadata(dir.join("a/b/c"))?.is_dir());
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Blocking
///
/// Parks the goroutine.
///
/// # Errors
///
/// The system's, with the path.
#[doc(alias = "os.MkdirAll")]
pub fn create_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref();
    call("make the directory", path, || fs::create_dir_all(path))
}

/// Removes a file.
///
/// ```
/// # let dir = std::env::temp_dir().join(format!("goby-remove-file-{}", std::process::id()));
/// # goby::fs::create_dir(&dir)?;
/// goby::fs::write(dir.join("a"), "")?;
/// goby::fs::remove_file(dir.join("a"))?;
/// assert!(!goby::fs::try_exists(dir.join("a"))?);
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Blocking
///
/// Parks the goroutine.
///
/// # Errors
///
/// The system's, with the path.
#[doc(alias = "os.Remove")]
pub fn remove_file(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref();
    call("remove", path, || fs::remove_file(path))
}

/// Removes an empty directory.
///
/// ```
/// # let dir = std::env::temp_dir().join(format!("goby-remove-dir-{}", std::process::id()));
/// # goby::fs::create_dir(&dir)?;
/// goby::fs::create_dir(dir.join("a"))?;
/// goby::fs::remove_dir(dir.join("a"))?;
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Blocking
///
/// Parks the goroutine.
///
/// # Errors
///
/// The system's, with the path.
pub fn remove_dir(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref();
    call("remove the directory", path, || fs::remove_dir(path))
}

/// Removes a directory with all that is in it. Symbolic links are not followed.
///
/// ```
/// # let dir = std::env::temp_dir().join(format!("goby-remove-dir-all-{}", std::process::id()));
/// # goby::fs::create_dir(&dir)?;
/// goby::fs::create_dir_all(dir.join("a/b"))?;
/// goby::fs::remove_dir_all(dir.join("a"))?;
/// assert!(!goby::fs::try_exists(dir.join("a"))?);
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Blocking
///
/// Parks the goroutine.
///
/// # Errors
///
/// The system's, with the path.
#[doc(alias = "os.RemoveAll")]
pub fn remove_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref();
    call("remove the directory", path, || fs::remove_dir_all(path))
}

/// Sets the permissions of a file.
///
/// ```
/// # let dir = std::env::temp_dir().join(format!("goby-set-permissions-{}", std::process::id()));
/// # goby::fs::create_dir(&dir)?;
/// use std::os::unix::fs::PermissionsExt;
/// goby::fs::set_permissions(&dir, goby::fs::Permissions::from_mode(0o700))?;
/// assert_eq!(goby::fs::metadata(&dir)?.permissions().mode() & 0o777, 0o700);
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Blocking
///
/// Parks the goroutine.
///
/// # Errors
///
/// The system's, with the path.
#[doc(alias = "os.Chmod")]
pub fn set_permissions(path: impl AsRef<Path>, permissions: Permissions) -> io::Result<()> {
    let path = path.as_ref();
    call("set the permissions of", path, move || fs::set_permissions(path, permissions))
}
