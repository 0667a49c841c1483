//! Opening what a request asks for, and nothing else.
//!
//! A path from outside is resolved by the system, below a folder: `openat2` with `RESOLVE_BENEATH`
//! (Linux 5.6) refuses to leave it by `..`, by links and by renames that happen meanwhile. Where
//! there is no such call, each component is opened by itself, and none may be a link.
//!
//! What the system has in memory is opened on the worker (`RESOLVE_CACHED`, Linux 5.12), and the
//! rest on a helper thread. All is opened with `O_NONBLOCK`, so that a FIFO does not wait for its
//! other end.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use goby::blocking;
use goby::fs::{File, Metadata};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

/// What is there.
#[expect(clippy::large_enum_variant, reason = "it is looked at once and never kept")]
pub(super) enum Found {
    File(File, Metadata),
    Dir,
    /// Neither: nothing to read from.
    Other,
}

const READ: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);
const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const BELOW: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);

/// Opens what is at `path` below the folder `root`.
pub(super) fn open_below(root: &Path, path: &[u8]) -> io::Result<Found> {
    let path = OsStr::from_bytes(path);
    let opened = match open_cached(root, path) {
        Err(Errno::AGAIN | Errno::INVAL | Errno::NOSYS | Errno::PERM) => blocking(|| open_slow(root, path)),
        opened => opened,
    };
    found(opened?)
}

/// Opens what is at `path`, wherever that leads.
pub(super) fn open_at(path: &Path) -> io::Result<Found> {
    let cached = openat2(CWD, path, READ, Mode::empty(), ResolveFlags::CACHED);
    let opened = match cached {
        Err(Errno::AGAIN | Errno::INVAL | Errno::NOSYS | Errno::PERM) => {
            blocking(|| openat(CWD, path, READ, Mode::empty()))
        }
        opened => opened,
    };
    found(opened?)
}

/// Opens it if no disk has to be asked.
fn open_cached(root: &Path, path: &OsStr) -> Result<OwnedFd, Errno> {
    let folder = openat2(CWD, root, FOLDER, Mode::empty(), ResolveFlags::CACHED)?;
    openat2(folder, path, READ, Mode::empty(), BELOW | ResolveFlags::CACHED)
}

fn open_slow(root: &Path, path: &OsStr) -> Result<OwnedFd, Errno> {
    let folder = openat(CWD, root, FOLDER, Mode::empty())?;
    match openat2(&folder, path, READ, Mode::empty(), BELOW) {
        // The call is unknown, or a sandbox refuses what it does not know.
        Err(Errno::NOSYS | Errno::PERM) => open_stepwise(folder.as_fd(), path),
        // Something was renamed meanwhile: then the system cannot tell.
        Err(Errno::AGAIN) => open_stepwise(folder.as_fd(), path),
        opened => opened,
    }
}

/// Opens each component by itself, in the one before; none may be a link. The path has no `..`.
fn open_stepwise(folder: BorrowedFd<'_>, path: &OsStr) -> Result<OwnedFd, Errno> {
    let path = path.as_bytes();
    let (folders, name) = match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&b""[..], path),
    };
    let mut last = None;
    for component in folders.split(|&byte| byte == b'/').filter(|component| !component.is_empty()) {
        let at = last.as_ref().map_or(folder, OwnedFd::as_fd);
        last = Some(openat(at, component, FOLDER | OFlags::NOFOLLOW, Mode::empty())?);
    }
    let at = last.as_ref().map_or(folder, OwnedFd::as_fd);
    openat(at, name, READ | OFlags::NOFOLLOW, Mode::empty())
}

/// Says what was opened. The answer is in memory: the file is open.
fn found(opened: OwnedFd) -> io::Result<Found> {
    let file = fs::File::from(opened);
    let metadata = file.metadata()?;
    Ok(match metadata.file_type() {
        kind if kind.is_file() => Found::File(File::from_std(file), metadata),
        kind if kind.is_dir() => Found::Dir,
        _ => Found::Other,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::*;

    /// A folder with files in and beside it, removed at the end.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str) -> Tree {
            let dir = std::env::temp_dir().join(format!("goby-open-{name}-{}", std::process::id()));
            let inner = dir.join("root/sub");
            fs::create_dir_all(&inner).unwrap();
            fs::write(dir.join("secret"), "secret").unwrap();
            fs::write(dir.join("root/file"), "file").unwrap();
            fs::write(inner.join("file"), "file").unwrap();
            symlink("../../secret", inner.join("out")).unwrap();
            symlink("../file", inner.join("in")).unwrap();
            symlink(dir.join("root/file"), inner.join("absolute")).unwrap();
            symlink("..", dir.join("root/up")).unwrap();
            symlink("sub", dir.join("root/same")).unwrap();
            Tree(dir)
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    type Open = fn(&Path, &OsStr) -> Result<OwnedFd, Errno>;

    fn stepwise(root: &Path, path: &OsStr) -> Result<OwnedFd, Errno> {
        open_stepwise(openat(CWD, root, FOLDER, Mode::empty())?.as_fd(), path)
    }

    #[test]
    fn nothing_outside_is_opened() {
        let tree = Tree::new("outside");
        let root = tree.0.join("root");
        for (way, open) in [("openat2", open_slow as Open), ("stepwise", stepwise)] {
            for path in ["file", "sub/file"] {
                assert!(open(&root, OsStr::new(path)).is_ok(), "{way} {path}");
            }
            for path in ["sub/out", "sub/absolute", "up/secret", "missing", "file/x", "sub/file/"] {
                assert!(open(&root, OsStr::new(path)).is_err(), "{way} {path}");
            }
        }
        assert!(open_slow(&root, OsStr::new("../secret")).is_err());
        // Links within the folder are for those systems only that can tell.
        for path in ["sub/in", "same/file"] {
            assert!(open_slow(&root, OsStr::new(path)).is_ok(), "{path}");
            assert_eq!(stepwise(&root, OsStr::new(path)).map(drop), Err(errno_of(path)), "{path}");
        }
    }

    fn errno_of(path: &str) -> Errno {
        if path.starts_with("same") { Errno::NOTDIR } else { Errno::LOOP }
    }
}
