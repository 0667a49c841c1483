//! Errors that name the file.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{fmt, io};

use rustix::io::Errno;

/// Says what was tried with which file. The source is the system's error.
#[derive(Debug)]
struct PathError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// Names the action and the file in a system's error.
pub(super) fn of_path<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> io::Error + use<'a> {
    move |source| {
        let kind = source.kind();
        io::Error::new(kind, PathError { action, path: path.to_owned(), source })
    }
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {:?}: {}", self.action, self.path, self.source)?;
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
