//! Where the URLs come from: arguments, then the lines of a file or of standard input.
//!
//! [`LineSource::open`] finds out before any request whether the input can be read. [`Splitter`]
//! turns the chunks that are read into [`Job`]s. It keeps at most one incomplete line, and at most
//! [`LONGEST_LINE`] bytes of that, so memory is bounded whatever the input is. A line that is not a
//! URL becomes a job, too: its result is a failure that names the line. A line that begins with `{`
//! is a request of its own (see `json_line.rs`).

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use url::Url;

use super::json_line;
use super::record::{Failure, Kind};
use super::request::Custom;
use crate::exit::Usage;
use crate::text;

/// Longer lines are not URLs: servers and clients stop far below this.
const LONGEST_LINE: usize = 64 * 1024;
/// The longest line of JSON, with its body.
const LONGEST_REQUEST: usize = 1024 * 1024;
/// How much of a line that is too long is shown in its result.
const SHOWN_OF_A_LONG_LINE: usize = 200;
/// How much is read at a time.
const CHUNK: usize = 64 * 1024;

/// One URL to fetch, or the text that stood in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    /// The text as it was given, without surrounding white space.
    pub(crate) text: String,
    /// Where it was given.
    place: Place,
    /// Why the text cannot be a URL, if that is known already.
    fault: Option<Fault>,
    /// What the line says besides the URL.
    pub(crate) custom: Option<Box<Custom>>,
}

/// Where a URL was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The command line's n-th URL, from 1.
    Argument(u64),
    /// Line n of the input, from 1.
    Line(u64),
}

/// What is wrong with a line before it is parsed as a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fault {
    /// It has more bytes than this.
    TooLong(usize),
    NotUtf8,
    /// It is JSON, but no request.
    NoRequest(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Argument(number) => write!(f, "argument {number}"),
            Place::Line(number) => write!(f, "line {number}"),
        }
    }
}

impl Job {
    /// The command line's URL `number`, counted from 1.
    pub(crate) fn argument(number: u64, text: &str) -> Job {
        Job { text: text.trim().to_string(), place: Place::Argument(number), fault: None, custom: None }
    }

    /// The text without the fragment, which is not requested.
    pub(crate) fn bare(&self) -> &str {
        self.text.split('#').next().unwrap_or_default()
    }

    /// The URL to request, without its fragment.
    ///
    /// # Errors
    /// A failure of kind `invalid_url`, whose message names the place.
    pub(crate) fn url(&self) -> Result<Url, Failure> {
        self.parse().map_err(|reason| Failure::new(Kind::InvalidUrl, format!("{}: {reason}", self.place)))
    }

    fn parse(&self) -> Result<Url, String> {
        match &self.fault {
            Some(Fault::TooLong(limit)) => return Err(format!("longer than {limit} bytes")),
            Some(Fault::NotUtf8) => return Err("not UTF-8 text".to_string()),
            Some(Fault::NoRequest(reason)) => return Err(reason.clone()),
            None => {}
        }
        // The parser would drop these. What was meant by a URL that has them, nobody can know.
        if self.text.chars().any(|c| c.is_control() || c == ' ') {
            return Err("a space or control character in the URL; write it as %20, %09, …".to_string());
        }
        let mut url = match Url::parse(&self.text) {
            Ok(url) => url,
            Err(_) if self.text == "-" => {
                return Err("no URL; to read URLs from standard input, write --input -".to_string());
            }
            Err(url::ParseError::RelativeUrlWithoutBase) => {
                return Err("no scheme; a URL begins with http:// or https://".to_string());
            }
            Err(error) => return Err(error.to_string()),
        };
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("scheme {:?} is not supported, only http and https are", url.scheme()));
        }
        url.set_fragment(None);
        Ok(url)
    }
}

/// All URLs of a run.
#[derive(Debug)]
pub(crate) struct Input {
    /// URLs of the command line.
    pub(crate) given: Given,
    /// A file or standard input, if there is one to read.
    pub(crate) lines: Option<LineSource>,
}

/// URLs that need no reading.
#[derive(Debug)]
pub(crate) enum Given {
    /// Those of the command line.
    Arguments(Vec<String>),
    /// Those of the demo site.
    Demo(super::demo::Pages),
}

impl Given {
    /// How many there are.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Given::Arguments(urls) => urls.len() as u64,
            Given::Demo(pages) => pages.len(),
        }
    }

    /// Makes the jobs one by one.
    pub(crate) fn jobs(&self) -> Box<dyn Iterator<Item = Job> + '_> {
        match self {
            Given::Arguments(urls) => Box::new((1..).zip(urls).map(|(number, url)| Job::argument(number, url))),
            Given::Demo(pages) => Box::new((1..).zip(pages.urls()).map(|(number, url)| Job::argument(number, &url))),
        }
    }
}

/// A file of URLs, open for reading.
#[derive(Debug)]
pub(crate) struct LineSource {
    file: File,
    /// For messages.
    name: String,
    /// How many bytes are left, if the file has an end that is known.
    size: Option<u64>,
    /// Device and inode, if it is a regular file.
    id: Option<FileId>,
}

/// Device and inode, which identify a file whatever its name is.
pub(crate) type FileId = (u64, u64);

impl LineSource {
    /// Opens the file of `--input`; `-` is standard input.
    ///
    /// # Errors
    /// If it cannot be read, in words that say what to do.
    pub(crate) fn open(path: &Path) -> Result<LineSource, Usage> {
        let standard = path == Path::new("-");
        let name = if standard { "standard input".to_string() } else { path.display().to_string() };
        let opened = if standard { io::stdin().as_fd().try_clone_to_owned().map(File::from) } else { File::open(path) };
        opened.and_then(|file| LineSource::new(file, name.clone())).map_err(|error| {
            let reason = text::reason(&error);
            Usage::new(format!(
                "cannot read {name}: {reason}; name a file of URLs with --input FILE (- is standard input)"
            ))
        })
    }

    fn new(mut file: File, name: String) -> io::Result<LineSource> {
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let regular = metadata.is_file();
        let size = if regular { Some(metadata.len().saturating_sub(file.stream_position()?)) } else { None };
        let id = regular.then(|| (metadata.dev(), metadata.ino()));
        Ok(LineSource { file, name, size, id })
    }

    /// What the input is called in messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// How many bytes will be read, if that is known. Then reading does not wait for another
    /// process.
    pub(crate) fn size(&self) -> Option<u64> {
        self.size
    }

    /// Gives the file's identity, if it is a regular file.
    pub(crate) fn id(&self) -> Option<FileId> {
        self.id
    }

    /// Reads the next chunk; an empty one is the end. Blocks the thread.
    pub(crate) fn read_chunk(&mut self) -> io::Result<Vec<u8>> {
        let mut chunk = vec![0; CHUNK];
        loop {
            match self.file.read(&mut chunk) {
                Ok(length) => {
                    chunk.truncate(length);
                    return Ok(chunk);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Cuts chunks into lines and lines into jobs.
#[derive(Debug, Default)]
pub(crate) struct Splitter {
    /// The beginning of a line whose end has not been read.
    carry: Vec<u8>,
    /// The carried line is longer than the limit; the rest is skipped.
    too_long: bool,
    /// How many lines have ended.
    ended: u64,
}

impl Splitter {
    /// Appends the jobs of all lines that end in `chunk`.
    pub(crate) fn split(&mut self, chunk: &[u8], jobs: &mut Vec<Job>) {
        let mut rest = chunk;
        while !rest.is_empty() {
            rest.read_until(b'\n', &mut self.carry).expect("reading from memory does not fail");
            let ended = self.carry.pop_if(|byte| *byte == b'\n').is_some();
            let limit = longest(&self.carry);
            self.too_long |= self.carry.len() > limit;
            self.carry.truncate(limit);
            if ended {
                self.end_line(jobs);
            }
        }
    }

    /// Appends the job of a last line without a line feed.
    pub(crate) fn finish(&mut self, jobs: &mut Vec<Job>) {
        if !self.carry.is_empty() {
            self.end_line(jobs);
        }
    }

    fn end_line(&mut self, jobs: &mut Vec<Job>) {
        self.ended += 1;
        let place = Place::Line(self.ended);
        let mut line = self.carry.as_slice();
        if self.ended == 1 {
            // Some editors begin a file with a byte order mark.
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        let line = line.trim_ascii();
        if self.too_long && line.first() == Some(&b'{') {
            // There may be secrets in it.
            jobs.push(Job {
                text: "{…}".to_string(),
                place,
                fault: Some(Fault::TooLong(LONGEST_REQUEST)),
                custom: None,
            });
        } else if self.too_long {
            let mut shown = String::from_utf8_lossy(&line[..line.len().min(SHOWN_OF_A_LONG_LINE)]).into_owned();
            shown.push('…');
            jobs.push(Job { text: shown, place, fault: Some(Fault::TooLong(LONGEST_LINE)), custom: None });
        } else if !line.is_empty() && line[0] != b'#' {
            jobs.push(job(self.ended, line));
        }
        self.carry.clear();
        self.too_long = false;
    }
}

/// How long the line may be that begins like this.
fn longest(line: &[u8]) -> usize {
    if line.trim_ascii_start().first() == Some(&b'{') { LONGEST_REQUEST } else { LONGEST_LINE }
}

/// Makes the job of a line that is not too long.
fn job(number: u64, line: &[u8]) -> Job {
    let place = Place::Line(number);
    match std::str::from_utf8(line) {
        Ok(text) if text.starts_with('{') => match json_line::read(number, text) {
            Ok((text, custom)) => Job { text, place, fault: None, custom: Some(Box::new(custom)) },
            Err((text, reason)) => Job { text, place, fault: Some(Fault::NoRequest(reason)), custom: None },
        },
        Ok(text) => Job { text: text.trim().to_string(), place, fault: None, custom: None },
        Err(_) if line[0] == b'{' => {
            Job { text: "{…}".to_string(), place, fault: Some(Fault::NotUtf8), custom: None }
        }
        Err(_) => {
            Job { text: String::from_utf8_lossy(line).into_owned(), place, fault: Some(Fault::NotUtf8), custom: None }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Splits `input` in chunks of `size` bytes; what matters must not depend on where a chunk
    /// ends.
    fn split(input: &[u8], size: usize) -> Vec<Job> {
        let mut splitter = Splitter::default();
        let mut jobs = Vec::new();
        for chunk in input.chunks(size) {
            splitter.split(chunk, &mut jobs);
        }
        splitter.finish(&mut jobs);
        jobs
    }

    fn line(number: u64, text: &str) -> Job {
        Job { text: text.to_string(), place: Place::Line(number), fault: None, custom: None }
    }

    #[test]
    fn lines_become_jobs_wherever_chunks_end() {
        let input = b"http://a/\n\n  # comment\n\thttp://b/ \r\n#\nhttp://c/#fragment";
        let expected = [line(1, "http://a/"), line(4, "http://b/"), line(6, "http://c/#fragment")];
        for size in [1, 2, 3, 7, 1000] {
            assert_eq!(split(input, size), expected, "chunks of {size}");
        }
        assert_eq!(split(b"", 10), []);
        assert_eq!(split(b"\n", 10), []);
        assert_eq!(split(b"\xef\xbb\xbfhttp://a/\n", 10), [line(1, "http://a/")]);
    }

    #[test]
    fn a_line_without_end_takes_bounded_memory_and_fails_alone() {
        let mut input = vec![b'x'; 3 * LONGEST_LINE];
        input.extend_from_slice(b"\nhttp://a/\n");
        let jobs = split(&input, 1000);
        assert_eq!(jobs.len(), 2);
        assert_eq!(jobs[0].text.len(), SHOWN_OF_A_LONG_LINE + '…'.len_utf8());
        assert_eq!(jobs[0].url().unwrap_err().message, "line 1: longer than 65536 bytes");
        assert_eq!(jobs[1], line(2, "http://a/"));

        let mut splitter = Splitter::default();
        for _ in 0..100 {
            splitter.split(&[b'x'; LONGEST_LINE], &mut Vec::new());
        }
        assert!(splitter.carry.capacity() <= 4 * LONGEST_LINE);
    }

    #[test]
    fn a_line_of_json_is_a_request() {
        let jobs = split(b"http://a/\n {\"url\":\"http://b/\",\"method\":\"PUT\"}\n{\"method\":1}\n", 7);
        assert_eq!(jobs[1].url().unwrap().as_str(), "http://b/");
        assert_eq!(jobs[1].custom.as_ref().map(|custom| custom.line), Some(2));
        assert_eq!(jobs[2].url().unwrap_err().message, "line 3: no \"url\" in the object");
        let mut long = b"{\"url\":\"http://b/\",\"body\":\"".to_vec();
        long.resize(LONGEST_LINE + 100, b'x');
        assert!(split(&[&long[..], b"\"}\n"].concat(), 1000)[0].custom.is_some());
        long.resize(LONGEST_REQUEST + 100, b'x');
        let jobs = split(&[&long[..], b"\"}\n"].concat(), 1000);
        assert_eq!((jobs[0].text.as_str(), jobs.len()), ("{…}", 1));
    }

    #[test]
    fn what_is_no_url_says_why_and_where() {
        let message = |text: &[u8]| split(text, 100)[0].url().unwrap_err().message;
        assert_eq!(message(b"\n\nexample.com/a"), "line 3: no scheme; a URL begins with http:// or https://");
        assert_eq!(message(b"ftp://h/a"), "line 1: scheme \"ftp\" is not supported, only http and https are");
        assert_eq!(message(b"http://"), "line 1: empty host");
        assert_eq!(message(b"http://h:99999/"), "line 1: invalid port number");
        let odd = "line 1: a space or control character in the URL; write it as %20, %09, …";
        assert_eq!(message(b"http://h/a b"), odd);
        assert_eq!(message(b"http://h/\0"), odd);
        assert_eq!(message(b"http://h/\xff"), "line 1: not UTF-8 text");
        let dash = Job::argument(1, "-").url().unwrap_err();
        assert_eq!(dash.message, "argument 1: no URL; to read URLs from standard input, write --input -");
        let argument = Job::argument(2, "nonsense").url().unwrap_err();
        assert_eq!(argument.message, "argument 2: no scheme; a URL begins with http:// or https://");
        assert_eq!(argument.kind, Kind::InvalidUrl);
    }

    #[test]
    fn a_url_is_requested_without_its_fragment() {
        let url = Job::argument(1, " http://H/a#b ").url().unwrap();
        assert_eq!(url.as_str(), "http://h/a");
    }
}
