//! FIFOs and terminals, and opening a FIFO, which waits for its other end.
//!
//! A call of the system that waits would hold a helper thread, and nothing could end it. So a FIFO
//! is opened in non-blocking mode, and the goroutine asks again and again for the other end. The
//! system tells of data, but not of a writer that has none yet.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

use goby_runtime::WaitReason;
use once_cell::unsync::OnceCell;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::makedev;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, tee};
use rustix::termios::isatty;

use super::File;
use crate::io::pipe::Channel;
use crate::{Context, select, time};

/// How long it pauses between two looks, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_micros(200);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// Makes the channel through which a FIFO or a terminal is read and written. Its description must
/// be this file's alone.
pub(super) fn channel_of(file: &fs::File) -> io::Result<Option<Channel>> {
    let metadata = file.metadata()?;
    let kind = metadata.file_type();
    // Of a terminal's controlling side no other description can be opened, for a clone.
    let is_terminal = || kind.is_char_device() && metadata.rdev() != makedev(5, 2) && isatty(file);
    if !kind.is_fifo() && !is_terminal() {
        return Ok(None);
    }
    let own = OwnedFd::from(file.try_clone()?);
    rustix::io::ioctl_fionbio(&own, true)?;
    Ok(Some(Channel::with_reasons(own, false, [WaitReason::FileRead, WaitReason::FileWrite])))
}

/// What one attempt to open a file came to.
pub(super) enum Opened {
    File(File),
    /// A FIFO, open to be read; whether it has a writer is still to be seen. It is no [`File`] yet:
    /// closing it takes one call of the system, in which no writer is to come.
    Reader(fs::File),
    /// A FIFO that nobody reads: it cannot be opened to be written to.
    NoReader,
}

/// Opens a file by attempts, until the other end is there.
pub(super) fn open_within(ctx: &Context, attempt: impl Fn() -> io::Result<Opened>) -> io::Result<File> {
    let mut pause = Pause { next: FIRST_PAUSE };
    loop {
        match attempt()? {
            Opened::File(file) => return Ok(file),
            Opened::Reader(file) => return File::of_opened(wait_for_writer(ctx, file, pause)?),
            Opened::NoReader => pause.take(ctx)?,
        }
    }
}

fn wait_for_writer(ctx: &Context, file: fs::File, mut pause: Pause) -> io::Result<fs::File> {
    let scratch = OnceCell::new();
    let has_writer = || -> io::Result<bool> {
        // Data, or the end: a writer has come and gone.
        let seen = poll(&mut [PollFd::new(&file, PollFlags::IN)], Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
        if seen != 0 {
            return Ok(true);
        }
        let (_, into) = scratch.get_or_try_init(|| pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK))?;
        // Takes nothing out. Without a writer it finds the end.
        match tee(&file, into, 1, SpliceFlags::NONBLOCK) {
            Ok(0) | Err(Errno::INTR) => Ok(false),
            Ok(_) | Err(Errno::AGAIN) => Ok(true),
            Err(error) => Err(error.into()),
        }
    };
    while !has_writer()? {
        if let Err(done) = pause.take(ctx) {
            // A writer that has come meanwhile may have written already.
            return if has_writer()? { Ok(file) } else { Err(done) };
        }
    }
    Ok(file)
}

/// Returns whether opening the file, or what is done with it then, may wait for others than a disk:
/// it is a FIFO, or a device.
pub(super) fn may_wait(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo() || metadata.file_type().is_char_device())
}

struct Pause {
    next: Duration,
}

impl Pause {
    fn take(&mut self, ctx: &Context) -> io::Result<()> {
        let over = time::after(self.next);
        self.next = (self.next * 2).min(LONGEST_PAUSE);
        select! {
            recv(over) -> _ => Ok(()),
            recv(ctx.done()) -> _ => Err(ctx.err().expect("it is done").into()),
        }
    }
}
