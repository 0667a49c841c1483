//! The lines of a file.

use std::fmt;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use super::File;

/// How much is read at a time: large enough that the calls do not count beside the lines.
const BUFFER: usize = 64 * 1024;

/// Iterates over the lines of a file, without their newlines (`\n` or `\r\n`).
///
/// ```
/// let mut users = goby::fs::lines("/etc/passwd")?;
/// assert!(users.any(|line| line.is_ok_and(|line| line.starts_with("root:"))));
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Blocking
///
/// Parks the goroutine when the bytes are not in the system's memory.
///
/// # Errors
///
/// That of opening the file. Each line may be an error as well: the system's, or `InvalidData` if
/// the line is not UTF-8.
///
/// Source: Go's `bufio.Scanner` over `os.Open`.
#[doc(alias("bufio.Scanner", "Scanner"))]
pub fn lines(path: impl AsRef<Path>) -> io::Result<Lines> {
    Ok(Lines { lines: BufReader::with_capacity(BUFFER, File::open(path)?).lines() })
}

/// The lines of a file, from [`lines`].
pub struct Lines {
    lines: io::Lines<BufReader<File>>,
}

impl Iterator for Lines {
    type Item = io::Result<String>;

    fn next(&mut self) -> Option<io::Result<String>> {
        self.lines.next()
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.fmt(f)
    }
}
