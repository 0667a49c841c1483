//! Errors that name the file.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{fmt, io};

use rustix::io::Errno;

/// Says what was tried with which file. The source is the system's error.
struct PathError {
    action: &'static str,
    path: PathBuf,
    to: Option<PathBuf>,
    source: io::Error,
}

/// Names the action and the file in a system's error.
pub(super) fn of_path<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> io::Error + use<'a> {
    move |source| named(action, path, None, source)
}

/// Names the action and both files in a system's error.
pub(super) fn of_paths<'a>(
    action: &'static str,
    from: &'a Path,
    to: &'a Path,
) -> impl Fn(io::Error) -> io::Error + use<'a> {
    move |source| named(action, from, Some(to), source)
}

fn named(action: &'static str, path: &Path, to: Option<&Path>, source: io::Error) -> io::Error {
    io::Error::new(source.kind(), PathError { action, path: path.to_owned(), to: to.map(Path::to_owned), source })
}

/// As it is displayed: `main` prints an error that it returns by this.
impl fmt::Debug for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {:?}", self.action, self.path)?;
        if let Some(to) = &self.to {
            write!(f, " to {to:?}")?;
        }
        write!(f, ": {}", self.source)?;
        let advice = match self.source.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::MFILE | Errno::NFILE) => "see ulimit -n, or keep fewer files open",
            Some(Errno::NOSPC | Errno::DQUOT) => "make room: see df, df -i and quota",
            Some(Errno::ACCESS) => "see its mode, and those of its directories",
            Some(Errno::ROFS) => "the file system is mounted read-only",
            _ => return Ok(()),
        };
        write!(f, "; {advice}")
    }
}

impl Error for PathError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}
