//! Files that are open.
//!
//! A closure for a helper thread may borrow from the goroutine that waits for it. So a file has no
//! buffer of its own: a read or write goes between the caller's buffer and the system, and returns
//! the system's answer.

mod streams;

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

use goby_runtime::{Direction, WaitReason, blocking_as, checkpoint};
use parking_lot::Mutex;
use rustix::fs::{Mode, OFlags, fcntl_getfl, open};

use super::fifo::channel_of;
use super::position::{Position, cached_read};
use super::{Metadata, OpenOptions, Permissions};
use crate::Context;
use crate::io::pipe::Channel;

/// An open file, with the methods of std's [`File`](std::fs::File).
///
/// `&File` also implements [`Read`](io::Read), [`Write`](io::Write) and [`Seek`](io::Seek). Several
/// goroutines may use a file at once, by [`read_at`](File::read_at) and
/// [`write_at`](File::write_at), which do not touch its position. Dropping it closes it. It keeps
/// nothing back: see the [module](super#small-pieces).
///
/// ```
/// use goby::fs::File;
/// use std::io::{Read, Seek, SeekFrom, Write};
/// # let path = std::env::temp_dir().join(format!("goby-file-{}", std::process::id()));
/// let mut file = File::options().read(true).write(true).create_new(true).open(&path)?;
/// file.write_all(b"hello")?;
/// file.seek(SeekFrom::Start(1))?;
/// let mut text = String::new();
/// file.read_to_string(&mut text)?;
/// assert_eq!(text, "ello");
/// # goby::fs::remove_file(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Blocking
///
/// All its methods park the goroutine, unless what is read is in the system's memory. On a plain OS
/// thread they block the thread.
///
/// # Cancellation
///
/// A [context](File::set_context) is looked at before each call; it ends one in progress if the
/// file is a FIFO or a terminal.
///
/// Source: `std::fs::File`, Go's `os.File`.
#[doc(alias = "os.File")]
pub struct File {
    std: fs::File,
    /// For a FIFO or a terminal, another descriptor of it, in non-blocking mode.
    channel: Option<Channel>,
    position: Position,
    /// Whether there is a context. Relaxed: a call sees the context that was set before it, in the
    /// order that the program can observe; the context itself is under the lock.
    has_context: AtomicBool,
    context: Mutex<Option<Context>>,
}

impl File {
    /// Opens a file to read it.
    ///
    /// ```
    /// assert!(goby::fs::File::open("/etc/passwd").is_ok());
    /// let error = goby::fs::File::open("/no/such").unwrap_err();
    /// assert_eq!(error.to_string(), "cannot open \"/no/such\": No such file or directory (os error 2)");
    /// ```
    ///
    /// # Errors
    ///
    /// The system's, with the path.
    #[doc(alias = "os.Open")]
    pub fn open(path: impl AsRef<Path>) -> io::Result<File> {
        File::options().read(true).open(path)
    }

    /// Opens a file to read it, unless `ctx` is done first. For a FIFO without a writer, say: to
    /// open it waits for one.
    ///
    /// ```
    /// use goby::{Context, fs::File};
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// assert!(File::open_ctx(&ctx, "/etc/passwd").is_ok());
    /// cancel.cancel();
    /// assert!(File::open_ctx(&ctx, "/etc/passwd").is_err());
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`open`](File::open), and the context's.
    ///
    /// # Cancellation
    ///
    /// Returns at once when `ctx` is done. A call of the system that takes long goes on on its
    /// helper thread, and the file is closed when it is open; one that waits for the other end of
    /// a FIFO ends. If the other end comes at that moment, the FIFO is open: nothing that a writer
    /// sent is lost.
    ///
    /// A call that no helper thread has begun yet is taken back. What is left of it, some hundred
    /// bytes, goes when one of the 512 helper threads is free.
    pub fn open_ctx(ctx: &Context, path: impl AsRef<Path>) -> io::Result<File> {
        File::options().read(true).open_ctx(ctx, path)
    }

    /// Opens a file to write it from the start; makes it, or drops what it had.
    ///
    /// ```
    /// # let path = std::env::temp_dir().join(format!("goby-create-{}", std::process::id()));
    /// let file = goby::fs::File::create(&path)?;
    /// assert_eq!(file.metadata()?.len(), 0);
    /// # goby::fs::remove_file(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's, with the path.
    #[doc(alias = "os.Create")]
    pub fn create(path: impl AsRef<Path>) -> io::Result<File> {
        File::options().write(true).create(true).truncate(true).open(path)
    }

    /// Makes a file that must not exist, and opens it to read and write.
    ///
    /// ```
    /// let error = goby::fs::File::create_new("/etc/passwd").unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
    /// ```
    ///
    /// # Errors
    ///
    /// The system's, with the path.
    pub fn create_new(path: impl AsRef<Path>) -> io::Result<File> {
        File::options().read(true).write(true).create_new(true).open(path)
    }

    /// Returns options, to open a file in another way.
    ///
    /// ```
    /// let file = goby::fs::File::options().read(true).open("/etc/passwd")?;
    /// assert!(file.metadata()?.len() > 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn options() -> OpenOptions {
        OpenOptions::new()
    }

    /// Takes a file of std's. If it is a FIFO or a terminal it is read on helper threads: its
    /// description may be shared, so it stays in blocking mode. No context ends its reads and
    /// writes then; those of a [`PipeReader`](crate::io::PipeReader::from_fd) it does.
    ///
    /// Clones share a position, which the system locks during each read, write and seek. What a
    /// clone of std's does is not known here: while it writes for long, a seek or a short read of
    /// this file blocks the worker. Give it away whole, and clone it by
    /// [`try_clone`](File::try_clone).
    ///
    /// ```
    /// use std::io::Read;
    /// let mut file = goby::fs::File::from_std(std::fs::File::open("/etc/passwd")?);
    /// assert_eq!(file.read(&mut [0])?, 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn from_std(std: fs::File) -> File {
        let position = Position::default();
        File { std, channel: None, position, has_context: AtomicBool::new(false), context: Mutex::new(None) }
    }

    /// Takes a file that was just opened, so that its description is this one's alone.
    pub(super) fn of_opened(std: fs::File) -> io::Result<File> {
        let mut file = File::from_std(std);
        file.channel = channel_of(&file.std)?;
        Ok(file)
    }

    /// Gives std's file, in blocking mode.
    ///
    /// ```
    /// let file: std::fs::File = goby::fs::File::open("/etc/passwd")?.into_std();
    /// # drop(file);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn into_std(self) -> fs::File {
        if self.channel.is_some() {
            let _ = rustix::io::ioctl_fionbio(&self.std, false);
        }
        self.std
    }

    /// Makes calls fail when `ctx` is done: those to come, and for a FIFO or a terminal those in
    /// progress; `None` lifts that.
    ///
    /// ```
    /// use goby::{Context, fs::File};
    /// use std::io::Read;
    /// let mut file = File::open("/etc/passwd")?;
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// file.set_context(Some(&ctx));
    /// assert_eq!(file.read(&mut [0])?, 1);
    /// cancel.cancel();
    /// assert_eq!(file.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::ConnectionAborted);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_context(&self, ctx: Option<&Context>) {
        if let Some(channel) = &self.channel {
            // It has the context alone: of two that are set at once, one holds for all calls.
            channel.set_context(ctx);
            self.has_context.store(true, Ordering::Relaxed);
            return;
        }
        let mut context = self.context.lock();
        let old = std::mem::replace(&mut *context, ctx.cloned());
        // Under the lock: of two that are set at once, both say the same of one.
        self.has_context.store(ctx.is_some(), Ordering::Relaxed);
        drop(context);
        // Outside: it may be dropped for the last time here.
        drop(old);
    }

    /// Writes all that the system still holds of it to the disk, with its metadata.
    ///
    /// ```
    /// # let path = std::env::temp_dir().join(format!("goby-sync-{}", std::process::id()));
    /// use std::io::Write;
    /// let mut file = goby::fs::File::create(&path)?;
    /// file.write_all(b"to be kept")?;
    /// file.sync_all()?;
    /// # goby::fs::remove_file(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's: earlier writes may be lost then.
    #[doc(alias("File.Sync", "fsync"))]
    pub fn sync_all(&self) -> io::Result<()> {
        self.call(WaitReason::FileWrite, fs::File::sync_all)
    }

    /// Writes the bytes that the system still holds of it to the disk.
    ///
    /// ```
    /// # let path = std::env::temp_dir().join(format!("goby-data-{}", std::process::id()));
    /// goby::fs::File::create(&path)?.sync_data()?;
    /// # goby::fs::remove_file(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's.
    #[doc(alias = "fdatasync")]
    pub fn sync_data(&self) -> io::Result<()> {
        self.call(WaitReason::FileWrite, fs::File::sync_data)
    }

    /// Cuts it, or fills it with zeros, to `len` bytes.
    ///
    /// ```
    /// # let path = std::env::temp_dir().join(format!("goby-len-{}", std::process::id()));
    /// let file = goby::fs::File::create(&path)?;
    /// file.set_len(10)?;
    /// assert_eq!(file.metadata()?.len(), 10);
    /// # goby::fs::remove_file(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's.
    #[doc(alias = "File.Truncate")]
    pub fn set_len(&self, len: u64) -> io::Result<()> {
        self.call(WaitReason::FileSystem, move |file| file.set_len(len))
    }

    /// Returns its metadata.
    ///
    /// ```
    /// assert!(goby::fs::File::open("/")?.metadata()?.is_dir());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's.
    #[doc(alias = "File.Stat")]
    pub fn metadata(&self) -> io::Result<Metadata> {
        self.call(WaitReason::FileSystem, fs::File::metadata)
    }

    /// Sets its permissions.
    ///
    /// ```
    /// # let path = std::env::temp_dir().join(format!("goby-mode-{}", std::process::id()));
    /// use std::os::unix::fs::PermissionsExt;
    /// let file = goby::fs::File::create(&path)?;
    /// file.set_permissions(goby::fs::Permissions::from_mode(0o600))?;
    /// assert_eq!(file.metadata()?.permissions().mode() & 0o777, 0o600);
    /// # goby::fs::remove_file(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn set_permissions(&self, permissions: Permissions) -> io::Result<()> {
        self.call(WaitReason::FileSystem, move |file| file.set_permissions(permissions))
    }

    /// Reads at `offset`, and leaves the file's position alone. Several goroutines may do it at
    /// once.
    ///
    /// ```
    /// # let path = std::env::temp_dir().join(format!("goby-at-{}", std::process::id()));
    /// # goby::fs::write(&path, "hello")?;
    /// let mut bytes = [0; 2];
    /// assert_eq!(goby::fs::File::open(&path)?.read_at(&mut bytes, 3)?, 2);
    /// assert_eq!(&bytes, b"lo");
    /// # goby::fs::remove_file(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's: of a FIFO, say.
    #[doc(alias("File.ReadAt", "pread"))]
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        checkpoint();
        self.look()?;
        // A larger number is for the system to refuse: its largest stands for the position.
        if i64::try_from(offset).is_ok()
            && let Some(n) = cached_read(self.std.as_fd(), buf, Some(offset))
        {
            return Ok(n);
        }
        blocking_as(WaitReason::FileRead, || self.std.read_at(buf, offset))
    }

    /// Fills `buf` from `offset` on, as [`read_at`](File::read_at) does.
    ///
    /// ```
    /// let error = goby::fs::File::open("/etc/passwd")?.read_exact_at(&mut [0; 2], 1 << 40).unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's, and `UnexpectedEof`.
    pub fn read_exact_at(&self, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            match self.read_at(buf, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    buf = &mut buf[n..];
                    offset += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes at `offset`, and leaves the file's position alone. Several goroutines may do it at
    /// once.
    ///
    /// ```
    /// # let path = std::env::temp_dir().join(format!("goby-write-at-{}", std::process::id()));
    /// let file = goby::fs::File::create(&path)?;
    /// file.write_all_at(b"world", 6)?;
    /// assert_eq!(file.write_at(b"hello ", 0)?, 6);
    /// assert_eq!(goby::fs::read(&path)?, b"hello world");
    /// # goby::fs::remove_file(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's.
    #[doc(alias("File.WriteAt", "pwrite"))]
    pub fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.call(WaitReason::FileWrite, |file| file.write_at(buf, offset))
    }

    /// Writes all of `buf`, from `offset` on.
    ///
    /// ```
    /// # let path = std::env::temp_dir().join(format!("goby-write-all-at-{}", std::process::id()));
    /// goby::fs::File::create(&path)?.write_all_at(b"x", 2)?;
    /// assert_eq!(goby::fs::read(&path)?, b"\0\0x");
    /// # goby::fs::remove_file(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's. A part may have been written.
    pub fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.call(WaitReason::FileWrite, |file| file.write_all_at(buf, offset))
    }

    /// Returns another handle of the same file. They share its position. Of a FIFO that is open to
    /// be written to there is none while nobody reads it.
    ///
    /// ```
    /// use std::io::{Seek, SeekFrom};
    /// let mut file = goby::fs::File::open("/etc/passwd")?;
    /// let mut other = file.try_clone()?;
    /// file.seek(SeekFrom::Start(3))?;
    /// assert_eq!(other.stream_position()?, 3);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The system's: too many open files.
    pub fn try_clone(&self) -> io::Result<File> {
        checkpoint();
        if self.channel.is_some() {
            // The mode is the description's, so that a clone has one of its own: there is no
            // position to share.
            let mode = fcntl_getfl(&self.std)? & OFlags::RWMODE;
            let path = format!("/proc/self/fd/{}", self.std.as_raw_fd());
            let flags = mode | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            return File::of_opened(open(path, flags, Mode::empty())?.into());
        }
        Ok(File { position: self.position.clone(), ..File::from_std(self.std.try_clone()?) })
    }

    /// Runs a call on a helper thread.
    fn call<R: Send>(&self, reason: WaitReason, call: impl FnOnce(&fs::File) -> io::Result<R> + Send) -> io::Result<R> {
        checkpoint();
        self.look()?;
        blocking_as(reason, || call(&self.std))
    }

    /// Runs a call that uses the position.
    fn call_at_position<R: Send>(
        &self,
        reason: WaitReason,
        call: impl FnOnce(&fs::File) -> io::Result<R> + Send,
    ) -> io::Result<R> {
        self.call(reason, |file| self.position.use_long(|| call(file)))
    }

    /// Carries out an operation for [`copy`](crate::io::copy()).
    pub(crate) fn perform<R: Send>(
        &self,
        direction: Direction,
        mut operation: impl FnMut(BorrowedFd<'_>) -> io::Result<R> + Send,
    ) -> io::Result<R> {
        if let Some(channel) = &self.channel {
            return channel.socket().perform(direction, |fd| operation(fd.as_fd()));
        }
        let reason = if direction == Direction::Read { WaitReason::FileRead } else { WaitReason::FileWrite };
        loop {
            match self.call_at_position(reason, |file| operation(file.as_fd())) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Fails if the context is done.
    #[inline]
    fn look(&self) -> io::Result<()> {
        if self.has_context.load(Ordering::Relaxed) { self.look_slow() } else { Ok(()) }
    }

    #[cold]
    fn look_slow(&self) -> io::Result<()> {
        if let Some(channel) = &self.channel {
            return channel.look(Direction::Read);
        }
        let error = self.context.lock().as_ref().and_then(Context::error);
        error.map_or(Ok(()), |error| Err(error.into()))
    }
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.std.as_fd()
    }
}

impl From<File> for Stdio {
    fn from(file: File) -> Stdio {
        Stdio::from(file.into_std())
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.std.fmt(f)
    }
}
