//! `--resume`: reads from an output file what an earlier run has done already.
//!
//! Only 128 bits of hash are kept per URL. So resuming from a file of a million lines takes about
//! 40 MB, and the chance that any URL is wrongly taken for done is below 2^-80.

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use goby_http::redacted;

use super::record::Earlier;
use crate::text;

/// No result line is longer than this: the longest line of input, with every byte escaped, fits
/// several times.
const LONGEST_RESULT: u64 = 4 * 1024 * 1024;

/// The URLs for which nothing is left to do.
#[derive(Debug, Default)]
pub(crate) struct Done {
    urls: HashSet<u128>,
    /// Where bodies are saved, if they are. Then a line counts only if it names a file that is
    /// there.
    saved: Option<PathBuf>,
}

/// Why a run cannot go on from an output file.
#[derive(Debug)]
pub(crate) enum ResumeError {
    /// It cannot be read.
    Read(io::Error),
    /// A whole line that `goby fetch` did not write, by its number.
    Foreign(u64),
}

impl fmt::Display for ResumeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ResumeError::Read(error) => write!(f, "{}; name another file with -o", text::reason(error)),
            ResumeError::Foreign(line) => {
                write!(f, "line {line} is no result of goby fetch; name the right file with -o")
            }
        }
    }
}

impl Done {
    /// Reads an output file from its beginning; also returns the length of its whole lines.
    pub(crate) fn read(file: &File, saved: Option<&Path>) -> Result<(Done, u64), ResumeError> {
        let mut done = Done { urls: HashSet::new(), saved: saved.map(Path::to_path_buf) };
        let mut file = file;
        file.rewind().map_err(ResumeError::Read)?;
        let mut reader = BufReader::with_capacity(256 * 1024, file);
        let mut whole = 0;
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let length =
                reader.by_ref().take(LONGEST_RESULT).read_until(b'\n', &mut line).map_err(ResumeError::Read)?;
            if length as u64 == LONGEST_RESULT {
                return Err(ResumeError::Foreign(number));
            }
            if line.pop() != Some(b'\n') {
                break;
            }
            let earlier = Earlier::read(&line).ok_or(ResumeError::Foreign(number))?;
            done.note(&earlier);
            whole += length as u64;
        }
        Ok((done, whole))
    }

    /// Notes a line. The last line about a URL counts.
    fn note(&mut self, earlier: &Earlier) {
        let hash = hash(&earlier.url, earlier.line);
        let is_saved = |dir: &PathBuf| earlier.file.as_ref().is_some_and(|file| dir.join(file).is_file());
        if earlier.fetched && self.saved.as_ref().is_none_or(is_saved) {
            self.urls.insert(hash);
        } else {
            self.urls.remove(&hash);
        }
    }

    /// Whether there is nothing left to do for `url`, as it was given, and the line that says more
    /// of its request. Two URLs that differ only in their password count as one here.
    pub(crate) fn contains(&self, url: &str, line: Option<u64>) -> bool {
        !self.urls.is_empty() && self.urls.contains(&hash(&redacted(url), line))
    }
}

fn hash(url: &str, line: Option<u64>) -> u128 {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, url, line).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(1) << 64 | half(2)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::fetch::scratch::Scratch;

    fn read(content: &str) -> Result<(Done, u64), ResumeError> {
        let scratch = Scratch::new();
        read_in(&scratch, content, None)
    }

    fn read_in(scratch: &Scratch, content: &str, saved: Option<&Path>) -> Result<(Done, u64), ResumeError> {
        let path = scratch.path("out");
        fs::write(&path, content).unwrap();
        Done::read(&File::open(&path).unwrap(), saved)
    }

    #[test]
    fn what_was_fetched_is_done_and_what_failed_is_not() {
        let content = "{\"url\":\"a\",\"status\":200,\"bytes\":1,\"ms\":1,\"attempts\":1}\n\
                       {\"url\":\"b\",\"error\":\"timeout\",\"message\":\"\",\"attempts\":3}\n\
                       {\"url\":\"c\",\"error\":\"timeout\",\"message\":\"\",\"attempts\":3}\n\
                       {\"url\":\"c\",\"status\":301,\"bytes\":1,\"ms\":1,\"attempts\":1}\n\
                       {\"url\":\"d\",\"error\":\"http_status\",\"status\":404,\"message\":\"\",\"attempts\":1}\n";
        let (done, whole) = read(content).unwrap();
        let shown = ["a", "b", "c", "d", "e"].map(|url| done.contains(url, None));
        assert_eq!(shown, [true, false, true, false, false]);
        assert_eq!(whole, content.len() as u64);
    }

    #[test]
    fn with_save_only_bodies_that_are_there_are_done() {
        let content = "{\"url\":\"a\",\"status\":200,\"bytes\":1,\"ms\":1,\"attempts\":1}\n\
                       {\"url\":\"b\",\"status\":200,\"bytes\":1,\"ms\":1,\"file\":\"there\",\"attempts\":1}\n\
                       {\"url\":\"c\",\"status\":200,\"bytes\":1,\"ms\":1,\"file\":\"gone\",\"attempts\":1}\n";
        let scratch = Scratch::new();
        fs::create_dir(scratch.path("dir")).unwrap();
        fs::write(scratch.path("dir/there"), "b").unwrap();
        let (done, _) = read_in(&scratch, content, Some(&scratch.path("dir"))).unwrap();
        assert_eq!(["a", "b", "c"].map(|url| done.contains(url, None)), [false, true, false]);
    }

    #[test]
    fn a_url_with_a_password_is_found_by_the_result_without_it() {
        let content = "{\"url\":\"http://me:***@h/\",\"status\":200,\"bytes\":1,\"ms\":1,\"attempts\":1}\n";
        let (done, _) = read(content).unwrap();
        assert!(done.contains("http://me:secret@h/", None) && !done.contains("http://you:secret@h/", None));
    }

    #[test]
    fn requests_of_one_url_are_told_apart_by_their_lines() {
        let content = "{\"url\":\"a\",\"line\":2,\"status\":200,\"bytes\":1,\"ms\":1,\"attempts\":1}\n";
        let (done, _) = read(content).unwrap();
        assert_eq!([Some(1), Some(2), None].map(|line| done.contains("a", line)), [false, true, false]);
    }

    #[test]
    fn a_torn_last_line_is_not_part_of_the_whole() {
        let line = "{\"url\":\"a\",\"status\":200}\n";
        for torn in ["", "{", "{\"url\":\"b\",\"status\":200}"] {
            let (done, whole) = read(&format!("{line}{torn}")).unwrap();
            assert_eq!(whole, line.len() as u64);
            assert!(!done.contains("b", None));
        }
        assert_eq!(read("").unwrap().1, 0);
    }

    #[test]
    fn a_foreign_line_is_named() {
        let error = read("{\"url\":\"a\",\"status\":200}\n\nx\n").unwrap_err();
        assert_eq!(error.to_string(), "line 2 is no result of goby fetch; name the right file with -o");
        let endless = "x".repeat(LONGEST_RESULT as usize + 1);
        assert!(matches!(read(&endless), Err(ResumeError::Foreign(1))));
    }
}
