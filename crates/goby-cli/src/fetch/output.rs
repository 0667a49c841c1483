//! Where result lines go: a file, standard output, or nowhere.
//!
//! Lines are written whole, many in one system call, never through a buffer that outlives the call.
//! So whatever ends the process, everything handed to [`Output::write_lines`] is in the file. If a
//! crash or a full disk cuts a file short, a run can go on from it (`--resume`), because only its
//! last line can be torn.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::input::FileId;
use super::resume::Done;
use crate::exit::Usage;
use crate::text;

/// The destination of result lines.
#[derive(Debug)]
pub(crate) struct Output {
    file: Option<File>,
    /// For messages.
    name: String,
    /// For a regular file: its length up to the last whole line that was written.
    whole: Option<u64>,
}

impl Output {
    /// Makes an output that goes nowhere: standard output is a terminal, and nobody asked for
    /// lines.
    fn nowhere() -> Output {
        Output { file: None, name: "nowhere".to_string(), whole: None }
    }

    fn standard_output() -> io::Result<Output> {
        let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        // Never cut back on errors: the file behind standard output may have been there before.
        Ok(Output { file: Some(file), name: "standard output".to_string(), whole: None })
    }

    /// Opens the destination of `-o`. A regular file is replaced.
    ///
    /// # Errors
    /// If it cannot be written or is the input itself, in words that say what to do.
    pub(crate) fn open(path: Option<&Path>, input: Option<FileId>) -> Result<Output, Usage> {
        let standard = path.is_none_or(|path| path == Path::new("-"));
        let opened = match path {
            None if io::stdout().is_terminal() => Ok(Output::nowhere()),
            Some(path) if !standard => {
                refuse_input(path, input)?;
                Output::replace(path)
            }
            _ => Output::standard_output(),
        };
        opened.map_err(|error| match path {
            Some(path) if !standard => cannot_write(path, &error),
            _ => Usage::new(format!(
                "cannot write standard output: {}; write to a file with -o FILE",
                text::reason(&error)
            )),
        })
    }

    fn replace(path: &Path) -> io::Result<Output> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        let is_regular = file.metadata()?.is_file();
        if is_regular {
            lock(&file)?;
            file.set_len(0)?;
        }
        Ok(Output { file: Some(file), name: path.display().to_string(), whole: is_regular.then_some(0) })
    }

    /// Opens the file of `-o` to go on from its content. A torn last line is cut off.
    ///
    /// # Errors
    /// If that cannot be done, or if the file has other content than results. Then the file is left
    /// alone.
    pub(crate) fn resume(path: &Path, saved: Option<&Path>, input: Option<FileId>) -> Result<(Output, Done), Usage> {
        refuse_input(path, input)?;
        let name = path.display().to_string();
        let opened = OpenOptions::new().read(true).append(true).create(true).open(path);
        let mut file = opened.map_err(|error| cannot_write(path, &error))?;
        let regular = file.metadata().is_ok_and(|metadata| metadata.is_file());
        if !regular {
            return Err(Usage::new(format!("cannot resume {name}: not a regular file; leave --resume out")));
        }
        lock(&file).map_err(|error| cannot_write(path, &error))?;
        let (done, whole) =
            Done::read(&file, saved).map_err(|error| Usage::new(format!("cannot resume {name}: {error}")))?;
        let cut = file.set_len(whole).and_then(|()| file.seek(SeekFrom::End(0)));
        cut.map_err(|error| cannot_write(path, &error))?;
        Ok((Output { file: Some(file), name, whole: Some(whole) }, done))
    }

    /// Whether lines go anywhere.
    pub(crate) fn is_somewhere(&self) -> bool {
        self.file.is_some()
    }

    /// Whether lines appear on a terminal, where a progress line would get between them.
    pub(crate) fn is_terminal(&self) -> bool {
        self.file.as_ref().is_some_and(|file| file.is_terminal())
    }

    /// What the destination is called in messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Writes whole lines. Blocks the thread.
    ///
    /// # Errors
    /// Those of the system. A regular file has then been cut back to its last whole line.
    pub(crate) fn write_lines(&mut self, lines: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let written = file.write_all(lines);
        if let Some(whole) = &mut self.whole {
            match written {
                Ok(()) => *whole += lines.len() as u64,
                Err(_) => {
                    let _ = file.set_len(*whole);
                }
            }
        }
        written
    }
}

/// Locks the file for this process alone, until the process ends, however it ends: two runs would
/// write over each other's lines. On a file system without locks it does nothing.
fn lock(file: &File) -> io::Result<()> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Err(io::Error::other(Locked)),
        _ => Ok(()),
    }
}

/// The error when another process has the output file.
#[derive(Debug)]
struct Locked;

impl fmt::Display for Locked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("another goby fetch is writing it")
    }
}

impl std::error::Error for Locked {}

/// Refuses the input as output: opening it for writing would empty it.
fn refuse_input(path: &Path, input: Option<FileId>) -> Result<(), Usage> {
    let same = fs::metadata(path).is_ok_and(|output| input == Some((output.dev(), output.ino())));
    if same {
        return Err(Usage::new(format!("{} is the input and the output; name another file with -o", path.display())));
    }
    Ok(())
}

fn cannot_write(path: &Path, error: &io::Error) -> Usage {
    let (path, reason) = (path.display(), text::reason(error));
    Usage::new(format!("cannot write {path}: {reason}; name another file with -o FILE, or - for standard output"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::scratch::Scratch;

    #[test]
    fn a_file_is_replaced_and_gets_whole_lines() {
        let scratch = Scratch::new();
        let path = scratch.path("out");
        fs::write(&path, "old").unwrap();
        let mut output = Output::open(Some(&path), None).unwrap();
        output.write_lines(b"a\nb\n").unwrap();
        output.write_lines(b"c\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "a\nb\nc\n");
        assert_eq!(output.whole, Some(6));
    }

    #[test]
    fn a_full_disk_is_an_error() {
        let mut output = Output::open(Some(Path::new("/dev/full")), None).unwrap();
        assert_eq!(output.write_lines(b"a\n").unwrap_err().kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn the_input_is_not_overwritten() {
        let scratch = Scratch::new();
        let path = scratch.path("urls");
        fs::write(&path, "http://h/\n").unwrap();
        let metadata = fs::metadata(&path).unwrap();
        let id = Some((metadata.dev(), metadata.ino()));
        let expected = format!("{} is the input and the output; name another file with -o", path.display());
        assert_eq!(Output::open(Some(&path), id).unwrap_err().to_string(), expected);
        assert_eq!(Output::resume(&path, None, id).unwrap_err().to_string(), expected);
        assert_eq!(fs::read_to_string(&path).unwrap(), "http://h/\n");
    }

    #[test]
    fn what_cannot_be_written_is_told_at_once() {
        let scratch = Scratch::new();
        let path = scratch.path("no/such/dir");
        let expected = format!(
            "cannot write {}: No such file or directory; name another file with -o FILE, or - for standard output",
            path.display()
        );
        assert_eq!(Output::open(Some(&path), None).unwrap_err().to_string(), expected);
        assert_eq!(Output::resume(&path, None, None).unwrap_err().to_string(), expected);
    }

    #[test]
    fn resuming_cuts_off_a_torn_line_and_appends() {
        let scratch = Scratch::new();
        let path = scratch.path("out");
        let first = "{\"url\":\"http://a/\",\"status\":200,\"bytes\":1,\"ms\":1,\"attempts\":1}\n";
        fs::write(&path, format!("{first}{{\"url\":\"http://b/\",\"sta")).unwrap();
        let (mut output, done) = Output::resume(&path, None, None).unwrap();
        assert!(done.contains("http://a/", None) && !done.contains("http://b/", None));
        output.write_lines(b"next\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{first}next\n"));
    }

    #[test]
    fn a_file_with_other_content_is_left_alone() {
        let scratch = Scratch::new();
        let path = scratch.path("notes");
        fs::write(&path, "dear diary\ntorn").unwrap();
        let message = Output::resume(&path, None, None).unwrap_err().to_string();
        let expected =
            format!("cannot resume {}: line 1 is no result of goby fetch; name the right file with -o", path.display());
        assert_eq!(message, expected);
        assert_eq!(fs::read_to_string(&path).unwrap(), "dear diary\ntorn");
        let message = Output::resume(Path::new("/dev/null"), None, None).unwrap_err().to_string();
        assert_eq!(message, "cannot resume /dev/null: not a regular file; leave --resume out");
    }
}
