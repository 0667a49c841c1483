//! Pipes, and the pipes to and from a child.
//!
//! Each end of a pipe is an open file description of its own. So this process's end can be in
//! non-blocking mode while a child's is not. An end that is given to a child goes back into
//! blocking mode first. That is why an end cannot be cloned: a clone would share the mode.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Instant;

use futures_io::{AsyncRead, AsyncWrite};
use goby_runtime::{Direction, WaitReason};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::Context;
use crate::net::socket::Socket;

/// Makes a pipe: what is written to the one end is read from the other.
///
/// The system keeps some bytes in between, on Linux 64 KiB as a rule. A read of an empty pipe and a
/// write to a full one wait.
///
/// ```
/// use std::io::{Read, Write};
/// let (mut reader, mut writer) = goby::io::pipe()?;
/// writer.write_all(b"hello")?;
/// drop(writer);
/// let mut text = String::new();
/// reader.read_to_string(&mut text)?;
/// assert_eq!(text, "hello");
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// The system's: too many open files.
///
/// Source: `std::io::pipe`, Go's `os.Pipe`.
#[doc(alias("os.Pipe", "io.Pipe"))]
pub fn pipe() -> io::Result<(PipeReader, PipeWriter)> {
    goby_runtime::checkpoint();
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    Ok((PipeReader { channel: Channel::new(reader, true) }, PipeWriter { channel: Channel::new(writer, true) }))
}

/// A descriptor in non-blocking mode that is no socket.
pub(crate) struct Channel {
    socket: Arc<Socket<Arc<OwnedFd>>>,
    /// A read that took less than there was room for has emptied it: see `Socket::read`. False for
    /// a terminal, where a read ends with the line, and for what a user brings.
    is_stream: bool,
}

impl Channel {
    /// Takes a descriptor that is in non-blocking mode.
    pub(crate) fn new(fd: OwnedFd, is_stream: bool) -> Channel {
        Channel::with_reasons(fd, is_stream, [WaitReason::PipeRead, WaitReason::PipeWrite])
    }

    pub(crate) fn with_reasons(fd: OwnedFd, is_stream: bool, reasons: [WaitReason; 2]) -> Channel {
        Channel { socket: Arc::new(Socket::with_reasons(Arc::new(fd), reasons)), is_stream }
    }

    /// Takes a descriptor, whose description nobody else may use, and sets its mode.
    pub(crate) fn of(fd: OwnedFd, is_stream: bool) -> io::Result<Channel> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Channel::new(fd, is_stream))
    }

    /// Lets others end its waits, as long as it is there.
    pub(crate) fn socket(&self) -> &Arc<Socket<Arc<OwnedFd>>> {
        &self.socket
    }

    pub(crate) fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            self.socket.read_nothing()
        } else if self.is_stream {
            self.socket.read(buf.len(), |fd| Ok(rustix::io::read(fd, &mut *buf)?))
        } else {
            self.socket.perform(Direction::Read, |fd| Ok(rustix::io::read(fd, &mut *buf)?))
        }
    }

    fn read_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        if bufs.iter().all(|buf| buf.is_empty()) {
            return self.socket.read_nothing();
        }
        self.socket.perform(Direction::Read, |fd| Ok(rustix::io::readv(fd, bufs)?))
    }

    pub(crate) fn write(&self, buf: &[u8]) -> io::Result<usize> {
        self.socket.perform(Direction::Write, |fd| Ok(rustix::io::write(fd, buf)?))
    }

    pub(crate) fn write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.socket.perform(Direction::Write, |fd| Ok(rustix::io::writev(fd, bufs)?))
    }

    pub(crate) fn set_context(&self, ctx: Option<&Context>) {
        self.socket.set_context(ctx);
    }

    /// Fails if a limit of the direction is reached.
    pub(crate) fn look(&self, direction: Direction) -> io::Result<()> {
        self.socket.look(direction)
    }

    pub(crate) fn set_deadline(&self, direction: Direction, deadline: Option<Instant>) {
        self.socket.set_deadline(direction, deadline);
    }

    /// Gives the descriptor away, in blocking mode.
    fn into_blocking(self) -> io::Result<OwnedFd> {
        let fd = self.socket.get_ref().clone();
        // Out of the poller.
        drop(self);
        rustix::io::ioctl_fionbio(&fd, false)?;
        match Arc::try_unwrap(fd) {
            Ok(fd) => Ok(fd),
            // A deadline or a context that ends at this moment holds it.
            Err(fd) => fd.try_clone(),
        }
    }
}

/// Has std's ways to read to the end.
impl Read for &Channel {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        Channel::read(self, buf)
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.get_ref().as_fd()
    }
}

/// The end of a pipe from which to read: of [`pipe`], or of a child's standard output
/// ([`ChildStdout`](crate::process::ChildStdout)).
///
/// Reads park the goroutine until there is something, and return 0 when all that was written is
/// read and no writer is left. `&PipeReader` also implements [`Read`]. Dropping it closes it.
///
/// ```
/// use std::io::{BufRead, BufReader, Write};
/// let (reader, mut writer) = goby::io::pipe()?;
/// writer.write_all(b"one\ntwo\n")?;
/// drop(writer);
/// let lines: Vec<String> = BufReader::new(reader).lines().collect::<Result<_, _>>()?;
/// assert_eq!(lines, ["one", "two"]);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Blocking
///
/// Reads park the goroutine. On a plain OS thread they block the thread.
///
/// # Cancellation
///
/// A [deadline](PipeReader::set_read_deadline) ends a wait, and so does a
/// [context](PipeReader::set_context) when it is done.
pub struct PipeReader {
    channel: Channel,
}

impl PipeReader {
    pub(crate) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Takes a pipe of std's, and puts it into non-blocking mode.
    pub(crate) fn of_pipe(fd: OwnedFd) -> io::Result<PipeReader> {
        Channel::of(fd, true).map(|channel| PipeReader { channel })
    }

    /// Takes the reading end of a pipe, or another descriptor that can be polled, such as a
    /// terminal.
    ///
    /// It goes into non-blocking mode. All that share its open file description see that, so no
    /// other process may use it.
    ///
    /// ```
    /// use goby::io::PipeReader;
    /// use std::io::{Read, Write};
    /// let (theirs, mut writer) = std::io::pipe()?;
    /// let mut reader = PipeReader::from_fd(theirs)?;
    /// writer.write_all(b"x")?;
    /// assert_eq!(reader.read(&mut [0; 8])?, 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's error, if it cannot be put into non-blocking mode.
    pub fn from_fd(fd: impl Into<OwnedFd>) -> io::Result<PipeReader> {
        Channel::of(fd.into(), false).map(|channel| PipeReader { channel })
    }

    /// Gives the descriptor away, in blocking mode.
    ///
    /// ```
    /// let (reader, _writer) = goby::io::pipe()?;
    /// let reader = std::io::PipeReader::from(reader.into_fd()?);
    /// # drop(reader);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn into_fd(self) -> io::Result<OwnedFd> {
        self.channel.into_blocking()
    }

    /// Ends reads when `ctx` is done, those in progress and those to come; `None` lifts that.
    ///
    /// ```
    /// use goby::Context;
    /// use std::io::Read;
    /// let (mut reader, _writer) = goby::io::pipe()?;
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// reader.set_context(Some(&ctx));
    /// let read = goby::go(move || reader.read(&mut [0]));
    /// cancel.cancel();
    /// let error = read.join().unwrap().unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::ConnectionAborted);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_context(&self, ctx: Option<&Context>) {
        self.channel.set_context(ctx);
    }

    /// Lets reads wait until `deadline` and no longer, those in progress and those to come; `None`
    /// lifts the deadline.
    ///
    /// ```
    /// use std::{io::Read, time::Instant};
    /// let (mut reader, _writer) = goby::io::pipe()?;
    /// reader.set_read_deadline(Some(Instant::now()));
    /// assert_eq!(reader.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_read_deadline(&self, deadline: Option<Instant>) {
        self.channel.set_deadline(Direction::Read, deadline);
    }
}

/// The end of a pipe to which to write: of [`pipe`], or of a child's standard input
/// ([`ChildStdin`](crate::process::ChildStdin)).
///
/// Writes park the goroutine while the pipe is full. `&PipeWriter` also implements [`Write`].
/// Dropping it closes it, and the reader then sees the end.
///
/// ```
/// use std::io::{ErrorKind, Write};
/// let (reader, mut writer) = goby::io::pipe()?;
/// drop(reader);
/// assert_eq!(writer.write(b"for nobody").unwrap_err().kind(), ErrorKind::BrokenPipe);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Blocking
///
/// Writes park the goroutine. On a plain OS thread they block the thread.
///
/// # Cancellation
///
/// A [deadline](PipeWriter::set_write_deadline) ends a wait, and so does a
/// [context](PipeWriter::set_context) when it is done. `write_all` may have written a part by then.
pub struct PipeWriter {
    channel: Channel,
}

impl PipeWriter {
    pub(crate) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Takes a pipe of std's, and puts it into non-blocking mode.
    pub(crate) fn of_pipe(fd: OwnedFd) -> io::Result<PipeWriter> {
        Channel::of(fd, true).map(|channel| PipeWriter { channel })
    }

    /// Takes the writing end of a pipe, or another descriptor that can be polled, as
    /// [`PipeReader::from_fd`] does.
    ///
    /// ```
    /// use goby::io::PipeWriter;
    /// use std::io::{Read, Write};
    /// let (mut reader, theirs) = std::io::pipe()?;
    /// PipeWriter::from_fd(theirs)?.write_all(b"x")?;
    /// assert_eq!(reader.read(&mut [0; 8])?, 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's error, if it cannot be put into non-blocking mode.
    pub fn from_fd(fd: impl Into<OwnedFd>) -> io::Result<PipeWriter> {
        Channel::of(fd.into(), false).map(|channel| PipeWriter { channel })
    }

    /// Gives the descriptor away, in blocking mode.
    ///
    /// ```
    /// let (_reader, writer) = goby::io::pipe()?;
    /// let writer = std::io::PipeWriter::from(writer.into_fd()?);
    /// # drop(writer);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn into_fd(self) -> io::Result<OwnedFd> {
        self.channel.into_blocking()
    }

    /// Ends writes when `ctx` is done, those in progress and those to come; `None` lifts that.
    ///
    /// ```
    /// use goby::Context;
    /// use std::io::Write;
    /// let (_reader, mut writer) = goby::io::pipe()?;
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// writer.set_context(Some(&ctx));
    /// let write = goby::go(move || writer.write_all(&[0; 1 << 20]));
    /// cancel.cancel();
    /// let error = write.join().unwrap().unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::ConnectionAborted);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_context(&self, ctx: Option<&Context>) {
        self.channel.set_context(ctx);
    }

    /// Lets writes wait until `deadline` and no longer, those in progress and those to come; `None`
    /// lifts the deadline.
    ///
    /// ```
    /// use std::{io::Write, time::Instant};
    /// let (_reader, mut writer) = goby::io::pipe()?;
    /// writer.set_write_deadline(Some(Instant::now()));
    /// assert_eq!(writer.write(&[0]).unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_write_deadline(&self, deadline: Option<Instant>) {
        self.channel.set_deadline(Direction::Write, deadline);
    }
}

impl Read for &PipeReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.channel.read(buf)
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.channel.read_vectored(bufs)
    }
}

impl Read for PipeReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.channel.read(buf)
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.channel.read_vectored(bufs)
    }
}

impl Write for &PipeWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.channel.write(buf)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.channel.write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for PipeWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.channel.write(buf)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.channel.write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for PipeReader {
    fn poll_read(self: Pin<&mut Self>, cx: &mut task::Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.channel.socket.poll_perform(Direction::Read, cx, |fd| Ok(rustix::io::read(fd, &mut *buf)?))
    }
}

impl AsyncWrite for PipeWriter {
    fn poll_write(self: Pin<&mut Self>, cx: &mut task::Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.channel.socket.poll_perform(Direction::Write, cx, |fd| Ok(rustix::io::write(fd, buf)?))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Does nothing: dropping it closes it.
    fn poll_close(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// For a child, as its standard input, say.
///
/// # Panics
///
/// If the system refuses to put it into blocking mode, or, while its context or deadline ends at
/// the same moment, to copy it: use [`into_fd`](PipeReader::into_fd) to have the error.
impl From<PipeReader> for Stdio {
    fn from(pipe: PipeReader) -> Stdio {
        Stdio::from(pipe.into_fd().expect("a pipe can be given away"))
    }
}

/// For a child, as its standard output, say.
///
/// # Panics
///
/// As for a [`PipeReader`].
impl From<PipeWriter> for Stdio {
    fn from(pipe: PipeWriter) -> Stdio {
        Stdio::from(pipe.into_fd().expect("a pipe can be given away"))
    }
}

impl AsFd for PipeReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

impl AsFd for PipeWriter {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

impl fmt::Debug for PipeReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PipeReader").field(&self.as_fd()).finish()
    }
}

impl fmt::Debug for PipeWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PipeWriter").field(&self.as_fd()).finish()
    }
}
