//! Standard input.
//!
//! Its open file description may be shared: with the shell and with other children of that, say.
//! Non-blocking mode is a property of the description, so the mode is left alone. What is done
//! instead depends on what it is:
//!
//! - a pipe or a terminal is opened once more, through `/proc/self/fd/0`. That gives a description
//!   of this process's own, in non-blocking mode, of the same pipe;
//! - a socket cannot be opened, but each call can say that it is not to block;
//! - a regular file keeps its description, since the description has the position. It is read on a
//!   helper thread, also what the system has in memory: whoever shares the description may hold
//!   its position;
//! - anything else, and what cannot be opened (a terminal of another user), is read on a helper
//!   thread, too. Nothing but input ends such a read. However many goroutines wait for input, one
//!   helper thread reads for all of them.
//!
//! A line is taken out of the buffer once it is whole. So a read that a context ends loses nothing.
//!
//! A goroutine that waits holds nothing, since that of a dropped runtime waits for ever. All that
//! wait try again when something has come. The one that is first reads it into the buffer, under
//! the lock, and *tells* the others if it leaves some of it: the system tells only those of what is
//! still to be read. None of the others misses that. If it looked into the buffer before, it had
//! counted the edges before, and so the one that it is told of ends its wait.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use goby_runtime::{Decision, Direction, Gate, WaitReason, Waited, blocking_as, checkpoint};
use once_cell::sync::Lazy;
use parking_lot::Mutex;
use rustix::buffer::spare_capacity;
use rustix::fs::{FileType, Mode, OFlags, fstat, makedev, open};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, recv};

use super::pipe::Channel;
use crate::Context;
use crate::net::socket::{Socket, timed_out};

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
/// Reads park the goroutine until there is input. On a plain OS thread they block the thread.
/// Several may read: what comes goes to one of them.
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
    /// Locked for a short time only.
    buffer: Mutex<Buffer>,
    /// Whether a helper thread reads, or is asked to. The helper clears it, which takes nothing out
    /// of the buffer: its goroutine may be gone.
    is_reading: Gate<bool>,
    limits: Mutex<Limits>,
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
    /// On helper threads.
    Other,
}

/// What was read and not yet taken.
struct Buffer {
    bytes: Vec<u8>,
    taken: usize,
    /// No newline is in the bytes before this place.
    searched: usize,
    /// How many reads there have been.
    reads: u64,
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
        let bytes = INPUT.take(|buffer, at_end| {
            let end = buffer.find_newline().or(at_end.then_some(buffer.bytes.len()))?;
            Some(buffer.take(end).to_vec())
        })?;
        let text = std::str::from_utf8(&bytes)
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
            Source::Other => {
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
            Source::Other => INPUT.limits.lock().deadline = deadline,
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
        INPUT.take(|buffer, at_end| {
            let n = buffer.left().min(buf.len());
            if n == 0 && !buf.is_empty() && !at_end {
                return None;
            }
            let end = buffer.taken + n;
            buf[..n].copy_from_slice(buffer.take(end));
            Some(n)
        })
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

    /// Appends what one read gives, and returns how much that is.
    fn fill(&mut self, read: impl FnOnce(&mut Vec<u8>) -> Result<usize, Errno>) -> Result<usize, Errno> {
        self.bytes.drain(..self.taken);
        self.searched = self.searched.saturating_sub(self.taken);
        self.taken = 0;
        self.bytes.reserve(BUFFER);
        let n = read(&mut self.bytes)?;
        self.reads += 1;
        Ok(n)
    }
}

impl Input {
    /// Never parks: other goroutines of this thread may need it meanwhile. None of its calls waits
    /// for anything.
    fn new() -> Input {
        let source = Source::new();
        let buffer = Mutex::new(Buffer { bytes: Vec::new(), taken: 0, searched: 0, reads: 0 });
        Input { source, buffer, is_reading: Gate::new(false), limits: Mutex::default() }
    }

    /// Returns what `take` takes out of the buffer. Reads on while it takes nothing, and tells it
    /// when there is no more.
    fn take<R>(&self, mut take: impl FnMut(&mut Buffer, bool) -> Option<R>) -> io::Result<R> {
        match &self.source {
            Source::Own(channel) => {
                let socket = &**channel.socket();
                socket.perform(Direction::Read, |fd| {
                    self.attempt(socket, &mut take, |bytes| rustix::io::read(fd, spare_capacity(bytes)))
                })
            }
            Source::Socket(socket) => socket.perform(Direction::Read, |fd| {
                let read = |bytes: &mut _| Ok(recv(fd, spare_capacity(bytes), RecvFlags::DONTWAIT)?.0);
                self.attempt(socket, &mut take, read)
            }),
            Source::Other => self.take_by_helpers(take),
        }
    }

    /// Takes something, or reads once, by a call that does not wait.
    fn attempt<R, T: AsFd + Send + Sync + 'static>(
        &self,
        socket: &Socket<T>,
        mut take: impl FnMut(&mut Buffer, bool) -> Option<R>,
        read: impl FnOnce(&mut Vec<u8>) -> Result<usize, Errno>,
    ) -> io::Result<R> {
        let (taken, is_for_others) = {
            let mut buffer = self.buffer.lock();
            if let Some(taken) = take(&mut buffer, false) {
                return Ok(taken);
            }
            let n = buffer.fill(read)?;
            (take(&mut buffer, n == 0), n != 0 && buffer.left() != 0)
        };
        if is_for_others {
            socket.tell(Direction::Read);
        }
        // Once more, after a look at the limits.
        taken.ok_or_else(|| io::ErrorKind::Interrupted.into())
    }

    fn take_by_helpers<R>(&self, mut take: impl FnMut(&mut Buffer, bool) -> Option<R>) -> io::Result<R> {
        let mut at_end = false;
        loop {
            checkpoint();
            self.look()?;
            let reads = {
                let mut buffer = self.buffer.lock();
                if let Some(taken) = take(&mut buffer, at_end) {
                    return Ok(taken);
                }
                buffer.reads
            };
            // The others wait for that read to end, and then look again.
            let turn = self.is_reading.wait(WaitReason::StdinRead, None, |is_reading, _| {
                if std::mem::replace(is_reading, true) { Decision::Wait(0) } else { Decision::Ready(Turn(self)) }
            });
            at_end = match turn {
                Waited::Ready(turn) => blocking_as(WaitReason::StdinRead, || self.read_in_turn(turn, reads))?,
                Waited::Unparked(_) | Waited::TimedOut => false,
            };
        }
    }

    /// Reads once, on this thread, unless there has been a read after the first `reads`. Returns
    /// whether it met the end.
    fn read_in_turn(&self, _turn: Turn<'_>, reads: u64) -> io::Result<bool> {
        if self.buffer.lock().reads != reads {
            return Ok(false);
        }
        let mut piece = Vec::with_capacity(BUFFER);
        let fd = rustix::stdio::stdin();
        let n = match retry_on_intr(|| rustix::io::read(fd, spare_capacity(&mut piece))) {
            // Closed: as if it were at its end, as in std.
            Err(Errno::BADF) => 0,
            read => read?,
        };
        self.buffer.lock().fill(|bytes| {
            bytes.append(&mut piece);
            Ok(n)
        })?;
        Ok(n == 0)
    }

    fn look(&self) -> io::Result<()> {
        let limits = self.limits.lock();
        if let Some(error) = limits.context.as_ref().and_then(Context::error) {
            return Err(error.into());
        }
        if limits.deadline.is_some_and(|deadline| deadline <= goby_runtime::now()) { Err(timed_out()) } else { Ok(()) }
    }
}

/// The right to read on a helper thread, which one goroutine has at a time. It goes with the call
/// to the helper.
struct Turn<'a>(&'a Input);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.is_reading.with(|is_reading, waiters| {
            *is_reading = false;
            waiters.unpark_all(0);
        });
    }
}

impl Source {
    fn new() -> Source {
        let fd = rustix::stdio::stdin();
        let Ok(stat) = fstat(fd) else { return Source::Other };
        const REASONS: [WaitReason; 2] = [WaitReason::StdinRead; 2];
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Socket => match fd.try_clone_to_owned() {
                Ok(fd) => Source::Socket(Socket::with_reasons(fd, REASONS)),
                Err(_) => Source::Other,
            },
            kind @ (FileType::Fifo | FileType::CharacterDevice) => {
                // Other devices than terminals cannot be waited for: /dev/null. To open a
                // terminal's controlling side once more makes another terminal.
                let is_terminal = || stat.st_rdev != makedev(5, 2) && rustix::termios::isatty(fd);
                if kind == FileType::CharacterDevice && !is_terminal() {
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
