//! The body of a request of HTTP/1.1, as it comes.
//!
//! While a handler runs, nobody polls its connection: the goroutine that would poll it is running
//! the handler. So a body that is still on its way takes the connection along ([`Loan`]): reading
//! the body drives the connection, from any goroutine that reads. When the handler has returned,
//! the connection goes back, and a goroutine that still reads is served by the connection's own
//! goroutine.
//!
//! A read of the body that has to wait sets the socket's deadline, and lifts it afterwards, both
//! only while the connection is on loan. A body that is late is an error for its reader, not the
//! end of the connection (`stall.rs`): the handler can still answer.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as TaskContext, Poll};

use bytes::Bytes;
use goby::block_on;
use http_body::{Body as _, Frame};
use parking_lot::Mutex;

use super::connection::Driver;
use super::request::Peer;
use crate::body::Source;
use crate::error::{Error, Phase};
use crate::stream::Link;

/// A connection on loan to the body of a request.
pub(super) struct Loan {
    /// A short lock: it is held for one poll, which does not park.
    lent: Mutex<Option<Box<Driver>>>,
    /// Nothing more is read of the body. Relaxed: the goroutine that reads it asks, or hyper has
    /// told everybody.
    over: AtomicBool,
    /// How many bytes the body may have.
    max_body: u64,
}

impl Loan {
    pub(super) fn new(max_body: u64) -> Loan {
        Loan { lent: Mutex::default(), over: AtomicBool::new(false), max_body }
    }

    /// Whether nothing more is read of the body.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    pub(super) fn lend(&self, driver: Box<Driver>) {
        *self.lent.lock() = Some(driver);
    }

    /// Gives the connection back, unless it has ended.
    pub(super) fn take_back(&self) -> Option<Box<Driver>> {
        self.lent.lock().take()
    }

    /// Drives the connection, if it is on loan.
    fn drive(&self, cx: &mut TaskContext<'_>) {
        let mut lent = self.lent.lock();
        if lent.as_mut().is_some_and(|driver| Pin::new(&mut **driver).poll(cx).is_ready()) {
            // Dropping it tells the body.
            let ended = lent.take();
            drop(lent);
            drop(ended);
        }
    }

    /// Limits the wait for the next piece of the body, the first time it is called for that piece.
    /// Later it returns whether the time is over. Does nothing if the connection is not on loan:
    /// then its own goroutine sees to that.
    fn wait(&self, link: &Link, is_limited: &mut bool) -> bool {
        let lent = self.lent.lock();
        if lent.is_none() || *is_limited {
            return lent.is_some() && link.take_late();
        }
        *is_limited = true;
        link.socket.set_read_deadline(link.next_piece_due());
        false
    }

    /// Lifts the limit again.
    fn lift(&self, link: &Link) {
        let lent = self.lent.lock();
        if lent.is_some() {
            link.socket.set_read_deadline(None);
        }
    }
}

/// The body of a request, as it comes.
pub(super) struct Incoming {
    complete: bool,
    incoming: hyper::body::Incoming,
    /// How many bytes there may still be.
    left: u64,
    loan: Arc<Loan>,
    peer: Arc<Peer>,
}

impl Incoming {
    pub(super) fn new(incoming: hyper::body::Incoming, loan: Arc<Loan>, peer: Arc<Peer>) -> Incoming {
        Incoming { complete: false, incoming, left: loan.max_body, loan, peer }
    }

    /// Waits for the next frame of the body, within the limits of time.
    fn frame(&mut self) -> Result<Option<Frame<Bytes>>, Error> {
        let Incoming { incoming, loan, peer, .. } = self;
        if incoming.is_end_stream() {
            // hyper does not say so when the response has been sent before.
            return Ok(None);
        }
        if peer.link.is_request_over() {
            return Err(late());
        }
        let mut is_limited = false;
        let frame = block_on(poll_fn(|cx| {
            // Poll the body with this goroutine's waker: another goroutine may drive the
            // connection, too.
            let mut polled = Pin::new(&mut *incoming).poll_frame(cx);
            if polled.is_pending() {
                loan.drive(cx);
                polled = Pin::new(&mut *incoming).poll_frame(cx);
            }
            match polled {
                Poll::Ready(frame) => {
                    Poll::Ready(frame.transpose().map_err(|error| Error::of_io(Phase::RequestBody, error)))
                }
                Poll::Pending if loan.wait(&peer.link, &mut is_limited) => Poll::Ready(Err(late())),
                Poll::Pending => Poll::Pending,
            }
        }));
        if is_limited {
            loan.lift(&peer.link);
        }
        frame
    }
}

/// The error of a body that has not come in time.
pub(super) fn late() -> Error {
    Error::timeout(Phase::RequestBody, io::Error::new(io::ErrorKind::TimedOut, "i/o timeout"))
}

/// Returns the bytes of a frame, and counts them against how many of `max` are `left`. Trailers are
/// not kept, nor is a piece without a byte.
pub(super) fn count(frame: Frame<Bytes>, left: &mut u64, max: u64) -> Result<Option<Bytes>, Error> {
    let Some(data) = frame.into_data().ok().filter(|data| !data.is_empty()) else { return Ok(None) };
    *left = left.checked_sub(data.len() as u64).ok_or_else(|| Error::bare(Phase::RequestTooLarge(max)))?;
    Ok(Some(data))
}

impl Source for Incoming {
    fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let frame = self.frame()?;
            // Without this, a client that is faster than the handler would never let other
            // goroutines run.
            goby::checkpoint();
            let Some(frame) = frame else {
                self.complete = true;
                self.loan.over.store(true, Ordering::Relaxed);
                self.peer.link.note_body_complete();
                self.peer.watch_again();
                return Ok(None);
            };
            if frame.is_trailers() {
                self.peer.note_trailers();
            }
            if let Some(data) = count(frame, &mut self.left, self.loan.max_body)? {
                return Ok(Some(data));
            }
        }
    }

    fn remaining(&self) -> Option<u64> {
        self.incoming.size_hint().exact()
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.complete && !self.incoming.is_end_stream() {
            self.peer.note_unread();
        }
        self.loan.over.store(true, Ordering::Relaxed);
    }
}
