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

use goby_runtime::{Direction, blocking, scope};
use parking_lot::Mutex;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

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
pub trait CopyEnd: Descriptor {}

/// A descriptor, and how to wait for it.
pub trait Descriptor: AsFd + Sync {
    /// Whether it is a file: its operations block their thread instead of asking to wait.
    const IS_FILE: bool = false;

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
/// too.
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
/// Those of a read and of a write. Bytes that were read and could not be written are lost.
///
/// # Cancellation
///
/// Ended by the deadlines and the contexts of both ends.
///
/// Source: Go's `io.Copy`, with `splice` and `sendfile` as its `net` has them.
#[doc(alias("io.Copy", "splice", "sendfile"))]
pub fn copy<R: CopyEnd, W: CopyEnd>(from: &R, to: &W) -> io::Result<u64> {
    let mut copied = 0;
    let is_done = if R::IS_FILE { send_file(from, to, &mut copied)? } else { splice_through(from, to, &mut copied)? };
    if !is_done {
        copy_by_buffer(from, to, &mut copied)?;
    }
    Ok(copied)
}

/// Copies in both directions at the same time, until both have ended; returns how many bytes went
/// from `a` to `b` and how many from `b` to `a`.
///
/// When one side has sent its last byte, the other side is told (its writing half is shut down),
/// and may go on sending. If one direction fails, both connections are shut down.
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
/// The error of the direction that failed first.
///
/// # Cancellation
///
/// Ended by the deadlines and the contexts of both ends.
#[doc(alias("splice", "proxy"))]
pub fn copy_bidirectional<A: CopyEnd, B: CopyEnd>(a: &A, b: &B) -> io::Result<(u64, u64)> {
    let failed = OnceLock::new();
    let counts = scope(|s| {
        let back = s.go(|| copy_half(b, a, &failed));
        let there = copy_half(a, b, &failed);
        (there, back.join().unwrap_or_else(|error| std::panic::resume_unwind(error.into_payload())))
    });
    match failed.into_inner() {
        Some(error) => Err(error),
        None => Ok(counts),
    }
}

/// Copies one direction of two, and tells the reader of its end, or the other direction of a
/// failure.
fn copy_half(from: &impl CopyEnd, to: &impl CopyEnd, failed: &OnceLock<io::Error>) -> u64 {
    match copy(from, to) {
        Ok(copied) => {
            // The reader may be gone already.
            let _ = shut_down(to, Shutdown::Write);
            copied
        }
        Err(error) => {
            // Only the first error counts: the other one may come of what this does.
            let _ = failed.set(error);
            let _ = shut_down(from, Shutdown::Both);
            let _ = shut_down(to, Shutdown::Both);
            0
        }
    }
}

fn shut_down(end: &impl AsFd, how: Shutdown) -> io::Result<()> {
    let how = match how {
        Shutdown::Read => rustix::net::Shutdown::Read,
        Shutdown::Write => rustix::net::Shutdown::Write,
        Shutdown::Both => rustix::net::Shutdown::Both,
    };
    Ok(rustix::net::shutdown(end, how)?)
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
fn splice_through(from: &impl CopyEnd, to: &impl CopyEnd, copied: &mut u64) -> io::Result<bool> {
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
            filled => filled?,
        };
        let Some(pipe) = held.take() else { return Ok(false) };
        if left == 0 {
            pipe.give_back();
            return Ok(true);
        }
        while left > 0 {
            match to.carry_out(Direction::Write, |fd| Ok(splice(&pipe.reader, None, fd, None, left, flags)?)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    left -= n;
                    *copied += n as u64;
                }
                Err(error) if is_refused(&error) => {
                    // What lies in the pipe comes first.
                    let mut rest = vec![0; left];
                    let n = rustix::io::read(&pipe.reader, &mut *rest)?;
                    write_all(to, &rest[..n], copied)?;
                    left -= n;
                    if left == 0 {
                        return Ok(false);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        held = Some(pipe);
    }
}

/// Copies from a file. Returns whether that came to its end: false if the system refuses it.
fn send_file(from: &impl CopyEnd, to: &impl CopyEnd, copied: &mut u64) -> io::Result<bool> {
    loop {
        let sent = to.carry_out(Direction::Write, |to| {
            from.carry_out(Direction::Read, |from| Ok(rustix::fs::sendfile(to, from, None, MOST)?))
        });
        match sent {
            Ok(0) => return Ok(true),
            Ok(n) => *copied += n as u64,
            Err(error) if is_refused(&error) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

/// Returns whether the system moves nothing between these two, or there is no pipe to be had.
fn is_refused(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::INVAL | Errno::NOSYS | Errno::MFILE | Errno::NFILE))
}

const BUFFER: usize = 64 * 1024;

fn copy_by_buffer(from: &impl CopyEnd, to: &impl CopyEnd, copied: &mut u64) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let n = from.carry_out(Direction::Read, |fd| Ok(rustix::io::read(fd, &mut *buffer)?))?;
        if n == 0 {
            return Ok(());
        }
        write_all(to, &buffer[..n], copied)?;
    }
}

fn write_all(to: &impl CopyEnd, mut bytes: &[u8], copied: &mut u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let n = to.carry_out(Direction::Write, |fd| Ok(rustix::io::write(fd, bytes)?))?;
        if n == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[n..];
        *copied += n as u64;
    }
    Ok(())
}
