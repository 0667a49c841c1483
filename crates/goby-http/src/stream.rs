//! The connection as hyper sees it: a socket, with TLS over it or not.
//!
//! hyper reads and writes for as long as the socket lets it. A peer that always has bytes ready, or
//! always takes some, would keep a poll going without end. So the socket now and then pretends that
//! it would block ([`TURN`]), and makes the goroutine poll again. Between the two polls, the
//! goroutine that drives the connection comes to a checkpoint, where other goroutines and timers
//! get their turn.

use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::io::{self, IoSlice};
use std::mem;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use http::HeaderMap;
use hyper::rt::ReadBufCursor;
use parking_lot::Mutex;

use crate::head::{Head, MAX_HEAD, Surplus};
use crate::intake::Intake;
use crate::socket::Socket;
use crate::stall::Stall;
use crate::tls::Tls;

/// The most that one system call reads. hyper's own buffer is filled from a buffer of this size,
/// one per worker, because safe code can hand the system only memory that has been written before.
/// Copying the bytes that came is cheaper than clearing room for bytes that might come.
const READ_AT_ONCE: usize = 64 * 1024;

/// How many bytes are moved before the driver gets its turn: what the system moves in some 50 µs,
/// and what hyper parses in 10 ms in a debug build.
pub(crate) const TURN: u64 = 256 * 1024;
/// An operation counts as at least this many bytes: its system call takes as long as moving them.
pub(crate) const OPERATION: u64 = 8 * 1024;

/// Calls `read` with a buffer of at most `most` bytes, one per worker.
pub(crate) fn with_buffer<R>(most: usize, read: impl FnOnce(&mut [u8]) -> R) -> R {
    thread_local! {
        static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    }
    // Taken, not borrowed: should the read yield, the next goroutine gets another.
    let mut buffer = BUFFER.take();
    buffer.resize(READ_AT_ONCE, 0);
    let result = read(&mut buffer[..most.min(READ_AT_ONCE)]);
    BUFFER.set(buffer);
    result
}

/// A socket. It is shared by hyper's connection, which owns its [`Stream`], and by the code that
/// sets its limits.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) socket: Socket,
    /// Bytes received so far, which tell whether a message has begun to come. Relaxed, as are the
    /// others: they are for the goroutine that drives the connection.
    received: AtomicU64,
    /// The limit of `received` while a head is awaited.
    head_end: AtomicU64,
    /// Bytes moved since the driver had its turn.
    moved: AtomicU64,
    /// This is a client's end: a server that takes no more may still have said why.
    pub(crate) is_client: bool,
    /// The server takes no more.
    write_broken: AtomicBool,
    /// A write had to wait since this was last asked.
    write_blocked: AtomicBool,
    /// The last write has not been done: bytes lie in hyper's buffer.
    write_pending: AtomicBool,
    /// A client awaits the head of a response, which has not begun to come.
    pub(crate) awaits_head: AtomicBool,
    /// What the server's goroutine says of the body behind the last head: its length, or one of the
    /// values below.
    pub(crate) body: AtomicU64,
    /// What is unusual about the last head: it has a `surplus`, or is longer than `max_head`.
    unusual: AtomicBool,
    too_long: AtomicBool,
    /// The last head has a `Content-Length`.
    has_length: AtomicBool,
    /// Heads are no longer followed.
    unfollowed: AtomicBool,
    /// The fields of the last head that hyper has not seen.
    surplus: Mutex<Surplus>,
    /// How many bytes of a head are followed; hyper refuses longer ones.
    pub(crate) max_head: usize,
    pub(crate) stall: Stall,
}

/// Values of `body`: the driver has not seen the request yet; the body is of unknown length; a body
/// of unknown length has come to its end.
pub(crate) const UNSEEN: u64 = u64::MAX;
pub(crate) const CHUNKED: u64 = u64::MAX - 1;
pub(crate) const COMPLETE: u64 = u64::MAX - 2;

/// What hyper reads from and writes to.
pub(crate) struct Stream {
    link: Arc<Link>,
    tls: Option<Arc<Tls>>,
    intake: Intake,
}

impl Link {
    /// Makes a server's end.
    pub(crate) fn of_server(socket: Socket, max_head: usize, stall: Stall) -> Arc<Link> {
        Arc::new(Link { max_head, stall, ..Link::new(socket) })
    }

    fn new(socket: Socket) -> Link {
        Link {
            socket,
            received: 0.into(),
            head_end: u64::MAX.into(),
            moved: 0.into(),
            is_client: false,
            write_broken: false.into(),
            write_blocked: false.into(),
            write_pending: false.into(),
            awaits_head: false.into(),
            body: UNSEEN.into(),
            unusual: false.into(),
            too_long: false.into(),
            has_length: false.into(),
            unfollowed: false.into(),
            surplus: Mutex::default(),
            max_head: MAX_HEAD,
            stall: Stall::default(),
        }
    }

    /// Makes a client's end. A server that takes no more has often answered before. So what is
    /// written then goes nowhere, without an error, and reading gives the answer, or shows that
    /// there is none.
    pub(crate) fn of_client(socket: Socket) -> Arc<Link> {
        Arc::new(Link { is_client: true, ..Link::new(socket) })
    }

    /// Whether something that was written went nowhere.
    pub(crate) fn is_write_broken(&self) -> bool {
        self.write_broken.load(Ordering::Relaxed)
    }

    /// Whether a write had to wait since the last call. hyper tries again each time that it is
    /// polled, for as long as it has something to write.
    pub(crate) fn take_write_blocked(&self) -> bool {
        self.write_blocked.load(Ordering::Relaxed) && self.write_blocked.swap(false, Ordering::Relaxed)
    }

    /// Whether bytes wait for the other side to take some, or for the driver's next turn.
    pub(crate) fn is_write_pending(&self) -> bool {
        self.write_pending.load(Ordering::Relaxed)
    }

    /// Changes whenever bytes move.
    pub(crate) fn progress(&self) -> (u64, u64) {
        (self.received(), self.moved.load(Ordering::Relaxed))
    }

    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Lets at most `most` bytes come, and lifts the limit with `None`: reading more is an error.
    /// What is read while hyper waits for a head belongs to the head, all but the last piece.
    pub(crate) fn limit_head(&self, most: Option<u64>) {
        let end = most.map_or(u64::MAX, |most| self.received().saturating_add(most));
        self.head_end.store(end, Ordering::Relaxed);
        self.awaits_head.store(most.is_some(), Ordering::Relaxed);
    }

    /// Says how the request goes on after the head that hyper has just given: with a body of this
    /// length, or of an unknown one.
    pub(crate) fn expect_body(&self, len: Option<u64>) {
        self.body.store(len.unwrap_or(CHUNKED).min(CHUNKED), Ordering::Relaxed);
    }

    /// Says that the body of unknown length has come to its end.
    pub(crate) fn note_body_complete(&self) {
        // Only of this request, not of one that has come meanwhile.
        let _ = self.body.compare_exchange(CHUNKED, COMPLETE, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Notes whether the last head has a `Content-Length`, which hyper drops beside a
    /// `Transfer-Encoding`.
    pub(crate) fn note_length(&self, has_length: bool) {
        self.has_length.store(has_length, Ordering::Relaxed);
    }

    pub(crate) fn has_length(&self) -> bool {
        self.has_length.load(Ordering::Relaxed)
    }

    /// Notes that heads are no longer followed: from now on `has_length` says nothing.
    #[cold]
    pub(crate) fn note_unfollowed(&self) {
        self.note_length(false);
        self.unfollowed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_unfollowed(&self) -> bool {
        self.unfollowed.load(Ordering::Relaxed)
    }

    /// Notes the surplus of a head that is over, and whether it was too long.
    #[cold]
    pub(crate) fn note_unusual(&self, head: Head) {
        self.unusual.store(true, Ordering::Relaxed);
        self.too_long.store(head.too_long, Ordering::Relaxed);
        *self.surplus.lock() = head.surplus;
    }

    /// Adds the fields that hyper has not seen to what it made of the last head. Returns whether
    /// that is too long.
    pub(crate) fn add_surplus(&self, headers: &mut HeaderMap) -> bool {
        if !self.unusual.load(Ordering::Relaxed) {
            return false;
        }
        self.unusual.store(false, Ordering::Relaxed);
        let surplus = mem::take(&mut *self.surplus.lock());
        for (name, value) in surplus {
            headers.append(name, value);
        }
        self.too_long.load(Ordering::Relaxed)
    }

    pub(crate) fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_turn(cx));
        if self.received() >= self.head_end.load(Ordering::Relaxed) {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, HeadTooLong)));
        }
        let n = match ready!(self.socket.poll_read(cx, buf)) {
            Ok(n) => n,
            Err(error) => return self.fail_read(error),
        };
        // No read-modify-write: only one goroutine reads at a time, the one that drives the
        // connection.
        self.received.store(self.received() + n as u64, Ordering::Relaxed);
        self.note_moved(n);
        Poll::Ready(Ok(n))
    }

    pub(crate) fn poll_write(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.note_blocked(self.poll_turn(cx)));
        let written = self.note_blocked(self.socket.poll_write(cx, buf));
        self.written(written, || buf.len())
    }

    fn poll_write_vectored(&self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        ready!(self.note_blocked(self.poll_turn(cx)));
        let written = self.note_blocked(self.socket.poll_write_vectored(cx, bufs));
        self.written(written, || bufs.iter().map(|buf| buf.len()).sum())
    }

    /// Notes the result of a write, and returns it.
    fn written(&self, written: Poll<io::Result<usize>>, all: impl FnOnce() -> usize) -> Poll<io::Result<usize>> {
        let Poll::Ready(written) = written else {
            self.note_full();
            return Poll::Pending;
        };
        let n = self.unless_broken(written, all)?;
        if self.stall.is_full() {
            self.note_room();
        }
        self.note_moved(n);
        Poll::Ready(Ok(n))
    }

    fn note_blocked<T>(&self, polled: Poll<T>) -> Poll<T> {
        self.write_pending.store(polled.is_pending(), Ordering::Relaxed);
        if polled.is_pending() {
            self.write_blocked.store(true, Ordering::Relaxed);
        }
        polled
    }

    /// Returns how much was written. For a client, if the server takes no more, that is all of it.
    fn unless_broken(&self, written: io::Result<usize>, all: impl FnOnce() -> usize) -> io::Result<usize> {
        use io::ErrorKind::{BrokenPipe, ConnectionReset};
        match written {
            Err(error)
                if self.is_client && !self.stall.is_left() && matches!(error.kind(), BrokenPipe | ConnectionReset) =>
            {
                self.write_broken.store(true, Ordering::Relaxed);
                Ok(all())
            }
            written => written,
        }
    }

    /// Returns `Pending` after each [`TURN`] bytes, with the waker woken already.
    fn poll_turn(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.moved.load(Ordering::Relaxed) < TURN {
            return Poll::Ready(());
        }
        self.moved.store(0, Ordering::Relaxed);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Gives hyper a whole turn: it takes a write that would block for a reason to send the head of
    /// an upgrade later, and then never does.
    pub(crate) fn begin_turn(&self) {
        self.moved.store(0, Ordering::Relaxed);
    }

    fn note_moved(&self, n: usize) {
        let moved = self.moved.load(Ordering::Relaxed) + (n as u64).max(OPERATION);
        self.moved.store(moved, Ordering::Relaxed);
    }
}

/// The error of a response with a head that has no end.
#[derive(Debug)]
struct HeadTooLong;

impl fmt::Display for HeadTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the head is too long, interim responses included")
    }
}

impl Error for HeadTooLong {}

impl Stream {
    pub(crate) fn new(link: Arc<Link>, tls: Option<Arc<Tls>>) -> Stream {
        let intake = Intake::new(&link);
        Stream { link, tls, intake }
    }

    /// Gives hyper `first`, which has been read already, before anything else.
    pub(crate) fn behind(mut self, first: Vec<u8>) -> Stream {
        self.intake.put(first);
        self
    }

    /// Gives hyper `first`, and then all that comes, without looking for heads.
    pub(crate) fn unfollowed(mut self, first: Vec<u8>) -> Stream {
        self.intake.give_all();
        self.behind(first)
    }

    pub(crate) fn tls(&self) -> Option<&Arc<Tls>> {
        self.tls.as_ref()
    }

    /// Gives hyper bytes again that it has read and not used. Returns whether there are any bytes
    /// for hyper.
    pub(crate) fn give_back(&mut self, bytes: &[u8]) -> bool {
        self.intake.look(&self.link);
        self.intake.give_back(bytes)
    }

    /// Takes the stream apart when it leaves HTTP. hyper gives `unread` back; the result has all
    /// that came behind the last head.
    pub(crate) fn leave(self, unread: &[u8]) -> (Arc<Link>, Option<Arc<Tls>>, Vec<u8>) {
        let Stream { link, tls, intake } = self;
        (link, tls, intake.leave(unread))
    }

    /// Reads into `cursor`, and returns how many bytes came; 0 at the end.
    fn poll_receive(&mut self, cx: &mut Context<'_>, cursor: &mut ReadBufCursor<'_>) -> Poll<io::Result<usize>> {
        let Stream { link, tls, intake } = self;
        let most = cursor.remaining();
        if let Some(tls) = tls {
            let mut received = 0;
            ready!(tls.poll_read(cx, |plain| {
                received = plain.len().min(most);
                intake.take(link, &plain[..received], cursor);
                received
            }))?;
            return Poll::Ready(Ok(received));
        }
        with_buffer(most, |buffer| {
            let polled = link.poll_read(cx, buffer);
            if let Poll::Ready(Ok(n)) = polled {
                intake.take(link, &buffer[..n], cursor);
            }
            polled
        })
    }
}

impl hyper::rt::Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let room = cursor.remaining();
        if room == 0 {
            return Poll::Ready(Ok(()));
        }
        this.intake.look(&this.link);
        if this.intake.is_behind_head() {
            // hyper has parsed the head by itself. Its driver sees the request next, and polls
            // again.
            return Poll::Pending;
        }
        loop {
            if !this.intake.take_stored(&this.link, &mut cursor) && ready!(this.poll_receive(cx, &mut cursor))? == 0 {
                // Let hyper judge what was held back of a head that breaks off.
                if !this.intake.give_up_head() {
                    return Poll::Ready(Ok(()));
                }
            }
            // hyper takes an empty read for the end. So read again if all that came was a head's
            // surplus.
            if cursor.remaining() < room {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl hyper::rt::Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Stream { link, tls, .. } = &mut *self;
        match tls {
            None => link.poll_write(cx, buf),
            Some(tls) => tls.poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.tls {
            None => Poll::Ready(Ok(())),
            Some(tls) => tls.poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Stream { link, tls, .. } = &mut *self;
        if let Some(tls) = tls {
            return tls.poll_close(cx);
        }
        // The other side may have closed already.
        Poll::Ready(match link.socket.shutdown(Shutdown::Write) {
            Err(error) if error.kind() != io::ErrorKind::NotConnected => Err(error),
            _ => Ok(()),
        })
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_none()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Stream { link, tls, .. } = &mut *self;
        match tls {
            None => link.poll_write_vectored(cx, bufs),
            Some(tls) => {
                let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| buf);
                tls.poll_write(cx, first)
            }
        }
    }
}
