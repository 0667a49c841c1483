//! Copying between descriptors, inside the system.
//!
//! From a socket, `splice` moves what has come into a pipe, and from there to the other end: pages
//! change hands, and the program sees no byte. From a file, `sendfile` needs no pipe. Where the
//! system refuses that (`EINVAL`), a buffer does the work.
//!
//! A pipe is held only while bytes are in it or on their way: a copy that waits for its source has
//! given its pipe back. So ten thousand idle connections of a proxy need a few pipes, not twenty
//! thousand.

use std::fs::File;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use goby_runtime::{Direction, blocking, scope};
use parking_lot::Mutex;
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use rustix::net::AddressFamily;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

use crate::chan::{self, Receiver, RecvTimeoutError, Sender};
use crate::net::socket::shutdown_of;

/// What [`copy`] reads from and writes to: goby's streams and std's files. The trait is sealed.
///
/// ```
/// use goby::io::{CopyEnd, copy};
/// use goby::net::UnixStream;
/// use std::fs::File;
/// use std::io::{self, Write};
///
/// fn swallow(from: &impl CopyEnd) -> io::Result<u64> {
///     copy(from, &File::options().write(true).open("/dev/null")?)
/// }
/// assert_eq!(swallow(&File::open("/dev/null")?)?, 0);
/// let (mut near, far) = UnixStream::pair()?;
/// near.write_all(b"to nobody")?;
/// drop(near);
/// assert_eq!(swallow(&far)?, 9);
/// # Ok::<(), io::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    note = "`goby::io::copy` moves bytes between descriptors; `std::io::copy` takes any `Read` and any `Write`"
)]
pub trait CopyEnd: Descriptor {}

/// A descriptor, and how to wait for it.
pub trait Descriptor: AsFd + Sync {
    /// Whether it is a file: its operations block their thread instead of asking to wait.
    const IS_FILE: bool = false;

    /// Whether it is a socket of goby's, so that it goes both ways, and shutting it down ends its
    /// waits.
    const IS_SOCKET: bool = false;

    /// Ends waits of what shutting down does not end, from now on until `halt(false)`.
    fn halt(&self, _: bool) {}

    /// Carries out `operation`; parks as long as it would block.
    fn carry_out<R: Send>(
        &self,
        direction: Direction,
        operation: impl FnMut(BorrowedFd<'_>) -> io::Result<R> + Send,
    ) -> io::Result<R>;
}

impl CopyEnd for File {}

impl Descriptor for File {
    const IS_FILE: bool = true;

    fn carry_out<R: Send>(
        &self,
        _: Direction,
        mut operation: impl FnMut(BorrowedFd<'_>) -> io::Result<R> + Send,
    ) -> io::Result<R> {
        loop {
            match blocking(|| operation(self.as_fd())) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

/// The most that one call of the system moves: Go's figure, and the size of a pipe that the system
/// allows everyone. It also bounds for how long a copy that never waits keeps its worker.
const MOST: usize = 1 << 20;

/// Copies all of `from` to `to`, until `from` ends, and returns how many bytes that were.
///
/// The bytes do not pass through the program's memory: the system moves them, by `splice` from a
/// socket and by `sendfile` from a file. What has been read into a buffer of the program's before,
/// that of a `BufReader` for example, is not seen.
///
/// For all other readers and writers there is [`std::io::copy`], which works with goby's streams
/// too: for standard input, a `BufReader`, a `TlsStream`. It goes in pieces of 8 KiB. To a
/// [`File`](crate::fs::File) each is a trip to a helper thread, so put a
/// [`BufWriter`](io::BufWriter) of some 256 KiB around that.
///
/// A deadline is for the whole of the copy. For a limit on silence copy by hand, and set the
/// deadline anew before each read.
///
/// ```
/// use goby::net::{TcpListener, TcpStream};
/// use std::io::{Read, Write};
/// use std::net::Shutdown;
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let addr = listener.local_addr()?;
/// goby::go(move || {
///     let (stream, _) = listener.accept()?;
///     goby::io::copy(&stream, &stream) // an echo
/// });
/// let mut client = TcpStream::connect(addr)?;
/// client.write_all(b"hello")?;
/// client.shutdown(Shutdown::Write)?;
/// let mut echo = String::new();
/// client.read_to_string(&mut echo)?;
/// assert_eq!(echo, "hello");
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Blocking
///
/// Parks the goroutine whenever there is nothing to read or no room to write. A file is read and
/// written by a helper thread.
///
/// # Errors
///
/// Those of a read and of a write. Bytes that were read and could not be written are lost, and how
/// many were copied is not told.
///
/// # Cancellation
///
/// Ended by the deadlines and the contexts of both ends.
///
/// Source: Go's `io.Copy`, with `splice` and `sendfile` as its `net` has them.
#[doc(alias("io.Copy", "splice", "sendfile"))]
pub fn copy<R: CopyEnd, W: CopyEnd>(from: &R, to: &W) -> io::Result<u64> {
    let mut copied = 0;
    match copy_counted(from, to, &mut copied) {
        Ok(()) => Ok(copied),
        Err(Failure::Reading(error) | Failure::Writing(error)) => Err(error),
    }
}

/// Which end has failed.
enum Failure {
    Reading(io::Error),
    Writing(io::Error),
}

fn copy_counted<R: CopyEnd, W: CopyEnd>(from: &R, to: &W, copied: &mut u64) -> Result<(), Failure> {
    let is_done = if R::IS_FILE { send_file(from, to, copied)? } else { splice_through(from, to, copied)? };
    if is_done { Ok(()) } else { copy_by_buffer(from, to, copied) }
}

/// Copies in both directions at the same time, until both have ended; returns how many bytes went
/// from `a` to `b` and how many from `b` to `a`.
///
/// When one side has sent its last byte, the other side is told (its writing half is shut down),
/// and may go on sending. A side that cannot be told, a terminal for example, is read no further
/// then.
///
/// If one side takes no more, what the other still sends is thrown away; a Unix socket is told that
/// nobody reads it. What the side itself sends goes through: a server may answer without having
/// read all. If one side cannot be read, both connections are shut down after half a second at
/// most; at once if a deadline or a context ends a wait. A limit on silence is not to be had: see
/// [`copy`].
///
/// ```
/// use goby::io::copy_bidirectional;
/// use goby::net::{TcpListener, TcpStream};
/// use std::io::{Read, Write};
/// use std::net::Shutdown;
///
/// // client <-> front (the proxy) back <-> server
/// let (front, back) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
/// let mut client = TcpStream::connect(front.local_addr()?)?;
/// let upstream = TcpStream::connect(back.local_addr()?)?;
/// let (downstream, mut server) = (front.accept()?.0, back.accept()?.0);
/// let proxy = goby::go(move || copy_bidirectional(&downstream, &upstream));
///
/// client.write_all(b"request")?;
/// client.shutdown(Shutdown::Write)?;
/// let mut request = String::new();
/// server.read_to_string(&mut request)?; // Ends: the half-close was passed on.
/// server.write_all(b"the answer")?;
/// drop(server);
/// let mut answer = String::new();
/// client.read_to_string(&mut answer)?;
/// assert_eq!((request.as_str(), answer.as_str()), ("request", "the answer"));
/// assert_eq!(proxy.join().unwrap()?, (7, 10));
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Blocking
///
/// As for [`copy`]. The second direction has a goroutine of its own, which ends before this
/// returns.
///
/// # Errors
///
/// The error of the direction that failed first. `InvalidInput` for an end that is open for reading
/// or for writing alone, such as a pipe, and for a file whose reads may wait, such as a terminal: a
/// [`PipeReader`](super::PipeReader::from_fd) of it will do.
///
/// # Cancellation
///
/// Ended by the deadlines and the contexts of both ends.
#[doc(alias("splice", "proxy"))]
pub fn copy_bidirectional<A: CopyEnd, B: CopyEnd>(a: &A, b: &B) -> io::Result<(u64, u64)> {
    check_both_ways(a)?;
    check_both_ways(b)?;
    let (this_half, that_half) = (chan::bounded(0), chan::bounded(0));
    let both = Both::default();
    let counts = scope(|s| {
        let (ended, other) = (this_half.0, &that_half.1);
        let back = s.go(|| copy_half(b, a, &both, that_half.0, &this_half.1));
        let there = copy_half(a, b, &both, ended, other);
        (there, back.join().unwrap_or_else(|error| std::panic::resume_unwind(error.into_payload())))
    });
    a.halt(false);
    b.halt(false);
    match both.outcome.into_inner().flatten() {
        Some(error) => Err(error),
        None => Ok(counts),
    }
}

/// Fails if one of the two directions could not be, or could not be ended.
fn check_both_ways<E: CopyEnd>(end: &E) -> io::Result<()> {
    if E::IS_SOCKET {
        return Ok(());
    }
    let mode = rustix::fs::fcntl_getfl(end)? & OFlags::RWMODE;
    if mode != OFlags::RDWR {
        let message = "copy_bidirectional reads and writes both ends, and one of them is open for one only";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let is_regular = || Ok::<_, io::Error>(FileType::from_raw_mode(rustix::fs::fstat(end)?.st_mode).is_file());
    if E::IS_FILE && !is_regular()? {
        let message = "a file whose reads may wait cannot be an end of copy_bidirectional: take PipeReader::from_fd";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok(())
}

/// What the two directions share.
#[derive(Default)]
struct Both {
    /// Only the first one counts: what comes later may be of what that leads to.
    outcome: OnceLock<Option<io::Error>>,
    /// One of them throws away what comes.
    discards: AtomicBool,
}

/// How long a direction that fails lets the other one go on. Its source may be sending, and be told
/// by a reset if it is ended meanwhile, which takes what it has not read yet. The figure is that of
/// Go's server.
const LINGER: Duration = Duration::from_millis(500);

/// Copies one direction of two, and tells the reader of its end, or the other direction of a
/// failure. Drops `ended` at its end; so `other` hears of the end of the other direction.
fn copy_half(from: &impl CopyEnd, to: &impl CopyEnd, both: &Both, ended: Sender<()>, other: &Receiver<()>) -> u64 {
    let mut copied = 0;
    match copy_counted(from, to, &mut copied) {
        Ok(()) => {
            // Another error says that the reader is gone already.
            if shut_down(to, Shutdown::Write) == Err(Errno::NOTSOCK) {
                let _ = both.outcome.set(None);
                to.halt(true);
            }
        }
        // The system's word that nobody takes it: what comes from there is to be read to its end.
        Err(Failure::Writing(error)) if error.raw_os_error().is_some() => {
            let _ = both.outcome.set(Some(error));
            // Relaxed: whoever reads it late only ends this, as it would have a moment before.
            both.discards.store(true, Ordering::Relaxed);
            discard(from);
        }
        Err(Failure::Reading(error) | Failure::Writing(error)) => {
            let is_of_system = error.raw_os_error().is_some();
            let _ = both.outcome.set(Some(error));
            let _ = shut_down(from, Shutdown::Both);
            let is_told = shut_down(to, Shutdown::Write).is_ok();
            let may_linger = is_of_system && is_told;
            let goes_on = may_linger && other.recv_timeout(LINGER) == Err(RecvTimeoutError::Timeout);
            if !(goes_on && both.discards.load(Ordering::Relaxed)) {
                let _ = shut_down(to, Shutdown::Both);
                from.halt(true);
                to.halt(true);
            }
        }
    }
    drop(ended);
    copied
}

/// Throws away what a socket sends, until it ends.
///
/// A Unix socket can tell the other end that nobody reads, and does so first. A TCP socket cannot
/// without harm: one that is shut down for reading answers what still comes by a reset, which takes
/// the answer with it that is on its way to that end.
fn discard(from: &impl CopyEnd) {
    match rustix::net::sockopt::socket_domain(from) {
        Ok(AddressFamily::UNIX) => _ = shut_down(from, Shutdown::Read),
        Ok(_) => {}
        // No socket.
        Err(_) => return,
    }
    let mut buffer = vec![0; BUFFER];
    // An error is that of a limit, or comes because the other direction has failed.
    while from.carry_out(Direction::Read, |fd| Ok(rustix::io::read(fd, &mut *buffer)?)).is_ok_and(|n| n > 0) {}
}

fn shut_down(end: &impl AsFd, how: Shutdown) -> Result<(), Errno> {
    rustix::net::shutdown(end, shutdown_of(how))
}

/// A pipe that is empty while it lies in the pool.
struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
}

/// How many unused pipes are kept, with two descriptors each.
const MAX_POOLED: usize = 16;

static POOL: Mutex<Vec<Pipe>> = Mutex::new(Vec::new());

impl Pipe {
    fn take() -> io::Result<Pipe> {
        let pooled = POOL.lock().pop();
        if let Some(pipe) = pooled {
            return Ok(pipe);
        }
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // A smaller pipe does as well, only more slowly.
        let _ = fcntl_setpipe_size(&writer, MOST);
        Ok(Pipe { reader, writer })
    }

    /// Takes back a pipe that is empty.
    fn give_back(self) {
        let mut pool = POOL.lock();
        if pool.len() < MAX_POOLED {
            pool.push(self);
        }
    }
}

/// Copies through a pipe. Returns whether that came to its end: false if the system refuses it.
fn splice_through(from: &impl CopyEnd, to: &impl CopyEnd, copied: &mut u64) -> Result<bool, Failure> {
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    let mut held: Option<Pipe> = None;
    loop {
        let filled = from.carry_out(Direction::Read, |fd| {
            let pipe = held.take().map_or_else(Pipe::take, Ok)?;
            match splice(fd, None, &pipe.writer, None, MOST, flags) {
                // It is about to wait for its source.
                Err(error) => {
                    pipe.give_back();
                    Err(error.into())
                }
                Ok(n) => {
                    held = Some(pipe);
                    Ok(n)
                }
            }
        });
        let mut left = match filled {
            Err(error) if is_refused(&error) => return Ok(false),
            filled => filled.map_err(Failure::Reading)?,
        };
        let Some(pipe) = held.take() else { return Ok(false) };
        if left == 0 {
            pipe.give_back();
            return Ok(true);
        }
        while left > 0 {
            match to.carry_out(Direction::Write, |fd| Ok(splice(&pipe.reader, None, fd, None, left, flags)?)) {
                Ok(0) => return Err(Failure::Writing(io::ErrorKind::WriteZero.into())),
                Ok(n) => {
                    left -= n;
                    *copied += n as u64;
                }
                Err(error) if is_refused(&error) => {
                    // What lies in the pipe comes first.
                    let mut rest = vec![0; left];
                    let n = rustix::io::read(&pipe.reader, &mut *rest).map_err(|e| Failure::Reading(e.into()))?;
                    write_all(to, &rest[..n], copied)?;
                    left -= n;
                    if left == 0 {
                        return Ok(false);
                    }
                }
                Err(error) => return Err(Failure::Writing(error)),
            }
        }
        held = Some(pipe);
    }
}

/// Copies from a file. Returns whether that came to its end: false if the system refuses it.
fn send_file(from: &impl CopyEnd, to: &impl CopyEnd, copied: &mut u64) -> Result<bool, Failure> {
    loop {
        let sent = to.carry_out(Direction::Write, |to| {
            from.carry_out(Direction::Read, |from| Ok(rustix::fs::sendfile(to, from, None, MOST)?))
        });
        match sent {
            Ok(0) => return Ok(true),
            Ok(n) => *copied += n as u64,
            Err(error) if is_refused(&error) => return Ok(false),
            // The system does not say which end it was: a file fails in other ways.
            Err(error) => {
                let is_gone = matches!(Errno::from_io_error(&error), Some(Errno::PIPE | Errno::CONNRESET));
                return Err(if is_gone { Failure::Writing(error) } else { Failure::Reading(error) });
            }
        }
    }
}

/// Returns whether the system moves nothing between these two, or there is no pipe to be had.
fn is_refused(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::INVAL | Errno::NOSYS | Errno::MFILE | Errno::NFILE))
}

const BUFFER: usize = 64 * 1024;

fn copy_by_buffer(from: &impl CopyEnd, to: &impl CopyEnd, copied: &mut u64) -> Result<(), Failure> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.carry_out(Direction::Read, |fd| Ok(rustix::io::read(fd, &mut *buffer)?));
        let n = read.map_err(Failure::Reading)?;
        if n == 0 {
            return Ok(());
        }
        write_all(to, &buffer[..n], copied)?;
    }
}

fn write_all(to: &impl CopyEnd, mut bytes: &[u8], copied: &mut u64) -> Result<(), Failure> {
    while !bytes.is_empty() {
        let written = to.carry_out(Direction::Write, |fd| Ok(rustix::io::write(fd, bytes)?));
        let n = written.map_err(Failure::Writing)?;
        if n == 0 {
            return Err(Failure::Writing(io::ErrorKind::WriteZero.into()));
        }
        bytes = &bytes[n..];
        *copied += n as u64;
    }
    Ok(())
}
