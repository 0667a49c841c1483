//! Standard input.
//!
//! Its open file description may be shared: with the shell and with other children of that, say.
//! Non-blocking mode is a property of the description, so the mode is left alone. What is done
//! instead depends on what it is:
//!
//! - a pipe or a terminal is opened once more, through `/proc/self/fd/0`. That gives a description
//!   of this process's own, in non-blocking mode, of the same pipe;
//! - a socket cannot be opened, but each call can say that it is not to block;
//! - a regular file keeps its description, since the description has the position. It is read as
//!   [`File`](crate::fs::File)s are;
//! - anything else, and what cannot be opened (a terminal of another user), is read on a helper
//!   thread. Nothing but input ends such a read.
//!
//! A line is taken out of the buffer once it is whole. So a read that a context ends loses nothing.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use goby_runtime::{Direction, WaitReason, blocking_as};
use once_cell::sync::Lazy;
use parking_lot::Mutex as ShortMutex;
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::pipe::Channel;
use crate::Context;
use crate::fs::cached_read;
use crate::net::socket::{Socket, timed_out};
use crate::sync::{Mutex, MutexGuard};

/// How much is read at a time.
const BUFFER: usize = 64 * 1024;

/// Returns a handle to the process's standard input.
///
/// All handles share one buffer, which is not that of [`std::io::stdin`]: use one or the other. The
/// first use decides how it is read, so it is to be redirected before.
///
/// ```no_run
/// for line in goby::io::stdin().lines() {
///     println!("{}", line?.len());
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// Source: `std::io::stdin`, Go's `os.Stdin`.
#[doc(alias("os.Stdin", "bufio.Scanner"))]
pub fn stdin() -> Stdin {
    Stdin { _private: () }
}

/// A handle to the process's standard input, from [`stdin`].
///
/// # Blocking
///
/// Reads park the goroutine until there is input. On a plain OS thread they block the thread. Only
/// one caller reads at a time; the others wait for it.
///
/// # Cancellation
///
/// A [deadline](Stdin::set_read_deadline) ends a wait, and so does a [context](Stdin::set_context)
/// when it is done, if the input is a pipe, a terminal or a socket. Of other inputs they are looked
/// at before each read. What had come of a line by then is kept for the next read.
#[derive(Clone, Debug)]
pub struct Stdin {
    _private: (),
}

static INPUT: Lazy<Input> = Lazy::new(Input::new);

struct Input {
    source: Source,
    buffer: Mutex<Buffer>,
    limits: ShortMutex<Limits>,
}

/// What ends reads that cannot be interrupted, before they begin.
#[derive(Default)]
struct Limits {
    context: Option<Context>,
    deadline: Option<Instant>,
}

/// How it is read.
enum Source {
    /// A description of our own.
    Own(Channel),
    Socket(Socket<OwnedFd>),
    /// A regular file.
    File,
    Other,
}

/// What was read and not yet taken.
struct Buffer {
    bytes: Vec<u8>,
    taken: usize,
    /// No newline is in the bytes before this place.
    searched: usize,
}

impl Stdin {
    /// Reads the rest of the line, with its newline, and appends it to `line`. Returns how many
    /// bytes that was, 0 at the end of the input.
    ///
    /// ```no_run
    /// let mut name = String::new();
    /// goby::io::stdin().read_line(&mut name)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// As described at [`Stdin`].
    ///
    /// # Errors
    ///
    /// The system's; those of [`net`](crate::net#errors) if a deadline or a context ended it;
    /// `InvalidData` if the line is not UTF-8 (it is skipped).
    pub fn read_line(&self, line: &mut String) -> io::Result<usize> {
        let mut buffer = INPUT.buffer.lock();
        let end = loop {
            if let Some(end) = buffer.find_newline() {
                break end;
            }
            if INPUT.fill(&mut buffer)? == 0 {
                break buffer.bytes.len();
            }
        };
        let bytes = buffer.take(end);
        let text = std::str::from_utf8(bytes)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a line of standard input is not UTF-8"))?;
        line.push_str(text);
        Ok(text.len())
    }

    /// Iterates over the lines, without their newlines.
    ///
    /// ```no_run
    /// for line in goby::io::stdin().lines() {
    ///     println!("{}", line?.to_uppercase());
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn lines(&self) -> Lines {
        Lines { _private: () }
    }

    /// Ends reads when `ctx` is done, those in progress and those to come; `None` lifts that. It
    /// holds for all handles.
    ///
    /// ```
    /// use goby::{Context, io::stdin};
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// cancel.cancel();
    /// stdin().set_context(Some(&ctx));
    /// assert!(stdin().read_line(&mut String::new()).is_err());
    /// ```
    pub fn set_context(&self, ctx: Option<&Context>) {
        match &INPUT.source {
            Source::Own(channel) => channel.set_context(ctx),
            Source::Socket(socket) => socket.set_context(ctx),
            Source::File | Source::Other => {
                let old = std::mem::replace(&mut INPUT.limits.lock().context, ctx.cloned());
                drop(old);
            }
        }
    }

    /// Lets reads wait until `deadline` and no longer, those in progress and those to come; `None`
    /// lifts the deadline. It holds for all handles.
    ///
    /// ```
    /// use goby::io::stdin;
    /// stdin().set_read_deadline(Some(std::time::Instant::now()));
    /// let error = stdin().read_line(&mut String::new()).unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    /// ```
    pub fn set_read_deadline(&self, deadline: Option<Instant>) {
        match &INPUT.source {
            Source::Own(channel) => channel.set_deadline(Direction::Read, deadline),
            Source::Socket(socket) => socket.set_deadline(Direction::Read, deadline),
            Source::File | Source::Other => INPUT.limits.lock().deadline = deadline,
        }
    }
}

/// The lines of standard input, from [`Stdin::lines`].
#[derive(Debug)]
pub struct Lines {
    _private: (),
}

impl Iterator for Lines {
    type Item = io::Result<String>;

    fn next(&mut self) -> Option<io::Result<String>> {
        let mut line = String::new();
        match stdin().read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => {
                let len =
                    line.strip_suffix('\n').map_or(line.len(), |rest| rest.strip_suffix('\r').unwrap_or(rest).len());
                line.truncate(len);
                Some(Ok(line))
            }
            Err(error) => Some(Err(error)),
        }
    }
}

impl Read for &Stdin {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut buffer = INPUT.buffer.lock();
        if buffer.left() == 0 && !buf.is_empty() {
            INPUT.fill(&mut buffer)?;
        }
        let n = buffer.left().min(buf.len());
        let end = buffer.taken + n;
        buf[..n].copy_from_slice(buffer.take(end));
        Ok(n)
    }
}

impl Read for Stdin {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }
}

impl AsFd for Stdin {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // std's handle is a number only.
        rustix::stdio::stdin()
    }
}

impl Buffer {
    fn left(&self) -> usize {
        self.bytes.len() - self.taken
    }

    /// Returns where the first line ends.
    fn find_newline(&mut self) -> Option<usize> {
        let from = self.searched.max(self.taken);
        let found = self.bytes[from..].iter().position(|&byte| byte == b'\n');
        self.searched = found.map_or(self.bytes.len(), |place| from + place);
        found.map(|place| from + place + 1)
    }

    /// Takes the bytes before `end`.
    fn take(&mut self, end: usize) -> &[u8] {
        let start = std::mem::replace(&mut self.taken, end);
        &self.bytes[start..end]
    }

    /// Makes room for another read, and returns where it begins.
    fn make_room(&mut self) -> usize {
        self.bytes.drain(..self.taken);
        self.searched = self.searched.saturating_sub(self.taken);
        self.taken = 0;
        let len = self.bytes.len();
        self.bytes.resize(len + BUFFER, 0);
        len
    }
}

impl Input {
    /// Never parks: other goroutines of this thread may need it meanwhile. None of its calls waits
    /// for anything.
    fn new() -> Input {
        let source = Source::new();
        let buffer = Mutex::new(Buffer { bytes: Vec::new(), taken: 0, searched: 0 });
        Input { source, buffer, limits: ShortMutex::default() }
    }

    /// Reads some more into the buffer; returns how much, 0 at the end.
    fn fill(&self, buffer: &mut MutexGuard<'_, Buffer>) -> io::Result<usize> {
        let len = buffer.make_room();
        let read = self.read(&mut buffer.bytes[len..]);
        buffer.bytes.truncate(len + *read.as_ref().unwrap_or(&0));
        read
    }

    fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        match &self.source {
            Source::Own(channel) => channel.read(buf),
            Source::Socket(socket) => {
                socket.perform(Direction::Read, |fd| Ok(rustix::net::recv(fd, &mut *buf, RecvFlags::DONTWAIT)?.0))
            }
            Source::File | Source::Other => {
                goby_runtime::checkpoint();
                self.look()?;
                let fd = rustix::stdio::stdin();
                if matches!(self.source, Source::File)
                    && let Some(n) = cached_read(fd, buf, None)
                {
                    return Ok(n);
                }
                let read = blocking_as(WaitReason::StdinRead, || {
                    rustix::io::retry_on_intr(|| rustix::io::read(fd, &mut *buf))
                });
                match read {
                    // Closed: as if it were at its end, as in std.
                    Err(Errno::BADF) => Ok(0),
                    read => Ok(read?),
                }
            }
        }
    }

    fn look(&self) -> io::Result<()> {
        let limits = self.limits.lock();
        if let Some(error) = limits.context.as_ref().and_then(Context::error) {
            return Err(error.into());
        }
        if limits.deadline.is_some_and(|deadline| deadline <= goby_runtime::now()) { Err(timed_out()) } else { Ok(()) }
    }
}

impl Source {
    fn new() -> Source {
        let fd = rustix::stdio::stdin();
        let Ok(stat) = fstat(fd) else { return Source::Other };
        const REASONS: [WaitReason; 2] = [WaitReason::StdinRead; 2];
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Source::File,
            FileType::Socket => match fd.try_clone_to_owned() {
                Ok(fd) => Source::Socket(Socket::with_reasons(fd, REASONS)),
                Err(_) => Source::Other,
            },
            kind @ (FileType::Fifo | FileType::CharacterDevice) => {
                // Other devices than terminals cannot be waited for: /dev/null.
                if kind == FileType::CharacterDevice && !rustix::termios::isatty(fd) {
                    return Source::Other;
                }
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
                match open("/proc/self/fd/0", flags, Mode::empty()) {
                    Ok(own) => Source::Own(Channel::with_reasons(own, false, REASONS)),
                    Err(_) => Source::Other,
                }
            }
            _ => Source::Other,
        }
    }
}
