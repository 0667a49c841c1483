//! Who may use a file's position on a worker.
//!
//! The system has a lock for the position of an open file description. A read, write or seek holds
//! it from start to end: for seconds, if much is written. So a worker uses the position only while
//! no helper thread does, and for a short time.

use std::io::IoSliceMut;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::io::ReadWriteFlags;

/// The most that is copied on the worker: some 30 µs.
const CACHED_MAX: usize = 256 * 1024;

/// The position of a file. Clones of the file share it.
#[derive(Clone, Default)]
pub(super) struct Position {
    /// How many helper threads use it. Locked while a worker does.
    helpers: Arc<Mutex<usize>>,
}

impl Position {
    /// Runs a short call on the worker, unless somebody else uses the position.
    pub(super) fn try_use<R>(&self, call: impl FnOnce() -> R) -> Option<R> {
        let helpers = self.helpers.try_lock()?;
        (*helpers == 0).then(call)
    }

    /// Runs a call of any length: on a helper thread.
    pub(super) fn use_long<R>(&self, call: impl FnOnce() -> R) -> R {
        // At most a worker's short call has it.
        *self.helpers.lock() += 1;
        let _end = End(self);
        call()
    }
}

/// Counts a long call out, also when it panics.
struct End<'a>(&'a Position);

impl Drop for End<'_> {
    fn drop(&mut self) {
        *self.0.helpers.lock() -= 1;
    }
}

/// Reads what the system has in memory, at `offset` or at the file's position. Returns `None` if it
/// has nothing there, or cannot tell: then the read is for a helper thread.
///
/// Nothing there may also be the end of the file. Linux 5.9 and 5.10 report an end where there is
/// none, so an end is for the helper thread, too.
pub(super) fn cached_read(fd: BorrowedFd<'_>, buf: &mut [u8], offset: Option<u64>) -> Option<usize> {
    let len = buf.len().min(CACHED_MAX);
    let mut pieces = [IoSliceMut::new(&mut buf[..len])];
    // The largest number stands for the position.
    let read = rustix::io::preadv2(fd, &mut pieces, offset.unwrap_or(u64::MAX), ReadWriteFlags::NOWAIT);
    read.ok().filter(|&n| n != 0)
}
