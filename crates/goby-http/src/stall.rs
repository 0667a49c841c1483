//! A server's limits in time, below hyper.
//!
//! hyper ends a connection when a read fails. But a read that has come to its deadline does not
//! always mean the end: between two requests it means that the connection is idle, and in a body it
//! is an error of that body, which the handler may still answer. So hyper is not told. Its read is
//! pending, and the code that drives the connection asks ([`Link::take_late`]) and decides.
//!
//! A write that has come to its deadline does mean the end. [`Link::stall`] is counted from the
//! write that finds the socket full to the next one that does not.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use goby::now;
use parking_lot::Mutex;

use crate::stream::Link;

/// What a link knows of limits in time. A client's has none.
#[derive(Debug, Default)]
pub(crate) struct Stall {
    /// How long no byte of a body may come, and no byte of a response be taken.
    limit: Option<Duration>,
    /// When the request has to be complete, and the response sent. A short lock.
    ends: Mutex<Ends>,
    /// A read has come to its deadline. Relaxed, as are the others: they are for the goroutine that
    /// drives the connection.
    late: AtomicBool,
    /// Reads that come to their deadline are not to end the connection.
    keeps: AtomicBool,
    /// The last write found the socket full.
    full: AtomicBool,
    /// The connection has left HTTP, and has the limits that its user sets.
    left: AtomicBool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    request: Option<Instant>,
    response: Option<Instant>,
}

impl Stall {
    pub(crate) fn new(limit: Option<Duration>) -> Stall {
        Stall { limit, ..Stall::default() }
    }

    /// Whether the connection has left HTTP.
    pub(crate) fn is_left(&self) -> bool {
        self.left.load(Ordering::Relaxed)
    }

    /// Whether the last write found the socket full.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }
}

impl Link {
    /// Keeps deadlines of reads from hyper: from now on, [`take_late`](Link::take_late) tells of
    /// them.
    pub(crate) fn keep_deadlines(&self) {
        self.stall.keeps.store(true, Ordering::Relaxed);
    }

    /// Gives up all limits: the connection leaves HTTP.
    pub(crate) fn hand_over(&self) {
        self.stall.keeps.store(false, Ordering::Relaxed);
        self.stall.left.store(true, Ordering::Relaxed);
    }

    /// Gives the result of a read that failed: one that has come to its deadline may be pending.
    #[cold]
    pub(crate) fn fail_read(&self, error: io::Error) -> Poll<io::Result<usize>> {
        // The system has a time-out of its own, for a peer that is gone.
        let is_deadline = error.kind() == io::ErrorKind::TimedOut && error.raw_os_error().is_none();
        if !is_deadline || !self.stall.keeps.load(Ordering::Relaxed) {
            return Poll::Ready(Err(error));
        }
        self.stall.late.store(true, Ordering::Relaxed);
        Poll::Pending
    }

    /// Tells whether a read has come to its deadline since the last call.
    #[inline]
    pub(crate) fn take_late(&self) -> bool {
        let late = self.stall.late.load(Ordering::Relaxed);
        if late {
            self.stall.late.store(false, Ordering::Relaxed);
        }
        late
    }

    /// Notes that the socket is full.
    #[cold]
    pub(crate) fn note_full(&self) {
        // Other polls come meanwhile, such as for bytes that the client sends.
        let was_full = self.stall.full.swap(true, Ordering::Relaxed);
        if !was_full && self.stall.limit.is_some() && !self.stall.is_left() {
            self.socket.set_write_deadline(earlier(after(self.stall.limit), self.stall.ends.lock().response));
        }
    }

    /// Notes that a socket that was full takes bytes again.
    #[cold]
    pub(crate) fn note_room(&self) {
        self.stall.full.store(false, Ordering::Relaxed);
        if self.stall.limit.is_some() && !self.stall.is_left() {
            self.socket.set_write_deadline(self.stall.ends.lock().response);
        }
    }

    /// Sets when the request has to be complete.
    pub(crate) fn end_request_at(&self, end: Option<Instant>) {
        self.stall.ends.lock().request = end;
    }

    /// Sets when the response has to be sent.
    pub(crate) fn end_response_at(&self, end: Option<Instant>) {
        self.stall.ends.lock().response = end;
        self.socket.set_write_deadline(end);
    }

    /// Gives when the next bytes of the body have to be here.
    pub(crate) fn next_piece_due(&self) -> Option<Instant> {
        earlier(after(self.stall.limit), self.stall.ends.lock().request)
    }

    /// Tells whether the time for the whole request is over.
    pub(crate) fn is_request_over(&self) -> bool {
        self.stall.ends.lock().request.is_some_and(|end| end <= now())
    }
}

/// The time after this much time, if that is limited.
pub(crate) fn after(timeout: Option<Duration>) -> Option<Instant> {
    timeout.and_then(|timeout| now().checked_add(timeout))
}

/// The earlier one of two limits.
pub(crate) fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
