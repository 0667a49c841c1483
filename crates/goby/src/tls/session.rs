//! The session: rustls, which does no input and output itself, between plain bytes and a stream
//! that is polled.
//!
//! Whoever reads or writes locks the session, moves what can be moved without waiting, and unlocks
//! it before it waits. So readers and writers never wait for each other's peer, and what is
//! received is decrypted in the order in which it came.
//!
//! What is kept in memory is bounded: plain bytes that nobody has read, by one record (16 KiB) and
//! the 4 KiB that rustls takes at once; received bytes that are not decrypted yet, by [`AT_ONCE`]
//! and one record; encrypted bytes that the stream has not taken, by rustls' 64 KiB and one record.
//! Then the session stops to read, and the peer notices.

use std::cell::Cell;
use std::io::{self, BufRead, Write};
use std::sync::Arc;
use std::task::{self, Poll, ready};

use rustls::Connection;

use super::error::Error;
use super::transport::Transport;
use super::waits::{Waits, Who};

/// The most that is received at once: two full records.
const AT_ONCE: usize = 32 * 1024;

/// How many bytes tell HTTP from TLS.
const BEGINNING: usize = 8;

pub(super) struct Session {
    pub(super) tls: Connection,
    /// Received, but not given to rustls: someone has to read first what is decrypted. Empty most
    /// of the time, and then without memory.
    pending: Vec<u8>,
    /// How much of `pending` has been given to rustls.
    given: usize,
    /// What came first, to explain garbage.
    beginning: Vec<u8>,
    /// The handshake is complete, and all of it is sent.
    pub(super) is_ready: bool,
    /// The other side was told that nothing more comes.
    is_shut: bool,
    /// Why the session cannot go on.
    failure: Option<Error>,
}

/// The stream beneath, as one that waits sees it for the length of a poll.
pub(super) struct Wire<'a, 'cx, S> {
    pub(super) stream: &'a S,
    pub(super) waits: &'a [Arc<Waits>; 2],
    pub(super) who: Who,
    pub(super) cx: &'a mut task::Context<'cx>,
}

const READ: usize = 0;
const WRITE: usize = 1;

impl<S: Transport> Wire<'_, '_, S> {
    fn poll_receive(&mut self, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.waits[READ].poll(self.who, self.cx, |cx| self.stream.poll_receive(cx, buf))
    }

    fn poll_send(&mut self, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.waits[WRITE].poll(self.who, self.cx, |cx| self.stream.poll_send(cx, buf))
    }
}

/// Writes as rustls wants it: an operation that would wait is an error.
impl<S: Transport> Write for Wire<'_, '_, S> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self.poll_send(buf) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Session {
    pub(super) fn new(mut tls: Connection) -> Session {
        // Said once more, since the bound is promised.
        tls.set_buffer_limit(Some(64 * 1024));
        Session {
            tls,
            pending: Vec::new(),
            given: 0,
            beginning: Vec::new(),
            is_ready: false,
            is_shut: false,
            failure: None,
        }
    }

    /// Drives the handshake to its end.
    pub(super) fn poll_handshake<S: Transport>(&mut self, wire: &mut Wire<'_, '_, S>) -> Poll<io::Result<()>> {
        while !self.is_ready {
            self.check()?;
            ready!(self.poll_send_all(wire))?;
            if self.tls.is_handshaking() {
                if ready!(self.poll_receive(wire))? == 0 {
                    let text = "the connection was closed during the TLS handshake";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, text)));
                }
            } else {
                self.is_ready = true;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Offers plain bytes to `take`, which returns how many it took; offers none at the end.
    pub(super) fn poll_read<S: Transport>(
        &mut self,
        wire: &mut Wire<'_, '_, S>,
        take: impl FnOnce(&[u8]) -> usize,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_handshake(wire))?;
        loop {
            let mut reader = self.tls.reader();
            match reader.fill_buf() {
                Ok(plain) => {
                    let n = take(plain).min(plain.len());
                    reader.consume(n);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Poll::Ready(Err(cut_off())),
                Err(error) => return Poll::Ready(Err(error)),
            }
            self.check()?;
            ready!(self.poll_receive(wire))?;
        }
    }

    /// Takes plain bytes into the session, and returns how many. The session keeps them, encrypted,
    /// until the stream takes them.
    pub(super) fn poll_write<S: Transport>(
        &mut self,
        wire: &mut Wire<'_, '_, S>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_handshake(wire))?;
        loop {
            self.check()?;
            if self.is_shut {
                let text = "the TLS session was shut down for writing";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::BrokenPipe, text)));
            }
            let n = self.tls.writer().write(buf)?;
            if n > 0 || buf.is_empty() {
                return Poll::Ready(Ok(n));
            }
            ready!(self.poll_send_all(wire))?;
        }
    }

    /// Sends all that is encrypted.
    pub(super) fn poll_flush<S: Transport>(&mut self, wire: &mut Wire<'_, '_, S>) -> Poll<io::Result<()>> {
        ready!(self.poll_send_all(wire))?;
        wire.waits[WRITE].poll(wire.who, wire.cx, |cx| wire.stream.poll_send_all(cx))
    }

    /// Tells the other side that nothing more comes, and then the stream. A session that has failed
    /// has sent its alert, which says more.
    pub(super) fn poll_shutdown<S: Transport>(&mut self, wire: &mut Wire<'_, '_, S>) -> Poll<io::Result<()>> {
        if self.failure.is_none() {
            ready!(self.poll_handshake(wire))?;
        }
        if !self.is_shut {
            self.is_shut = true;
            self.tls.send_close_notify();
        }
        ready!(self.poll_flush(wire))?;
        // The other side may have closed already.
        Poll::Ready(match ready!(wire.waits[WRITE].poll(wire.who, wire.cx, |cx| wire.stream.poll_finish(cx))) {
            Err(error) if error.kind() != io::ErrorKind::NotConnected => Err(error),
            _ => Ok(()),
        })
    }

    /// Whether the stream has yet to take bytes.
    pub(super) fn has_unsent(&self) -> bool {
        self.tls.wants_write()
    }

    fn poll_send_all<S: Transport>(&mut self, wire: &mut Wire<'_, '_, S>) -> Poll<io::Result<()>> {
        while self.tls.wants_write() {
            match self.tls.write_tls(wire) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Receives what has come, and returns how many bytes that was; 0 when the stream has ended.
    fn poll_receive<S: Transport>(&mut self, wire: &mut Wire<'_, '_, S>) -> Poll<io::Result<usize>> {
        let received = if self.given < self.pending.len() {
            let pending = std::mem::take(&mut self.pending);
            let before = self.given;
            let result = self.give(&pending[before..]);
            match &result {
                Ok(n) if before + n < pending.len() => (self.pending, self.given) = (pending, before + n),
                _ => self.given = 0,
            }
            result
        } else {
            ready!(self.poll_receive_new(wire))?
        };
        // An alert that says why, or an answer to a key update, may be due. What the stream does
        // not take now goes with the next write, or when the stream takes more. An error here is
        // the writers' to see.
        let _ = self.poll_send_all(wire);
        match received {
            Ok(n) => Poll::Ready(Ok(n)),
            Err(error) => {
                let error = Error::new(error, &self.beginning);
                self.failure = Some(error.clone());
                Poll::Ready(Err(error.into()))
            }
        }
    }

    /// Receives from the stream. The outer error is the stream's, the inner one TLS's.
    fn poll_receive_new<S: Transport>(
        &mut self,
        wire: &mut Wire<'_, '_, S>,
    ) -> Poll<io::Result<Result<usize, rustls::Error>>> {
        thread_local! {
            static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
        }
        // Taken, not borrowed: should the stream's poll park, the next goroutine gets another.
        let mut buffer = BUFFER.take();
        buffer.resize(AT_ONCE, 0);
        let received = wire.poll_receive(&mut buffer).map(|received| match received? {
            // This is how rustls learns of the end.
            0 => self.tls.read_tls(&mut io::empty()).map(|_| Ok(0)),
            n => Ok(self.take_in(&buffer[..n]).map(|()| n)),
        });
        BUFFER.set(buffer);
        received
    }

    /// Takes what the stream has given; what rustls has no room for is kept.
    fn take_in(&mut self, bytes: &[u8]) -> Result<(), rustls::Error> {
        if self.beginning.len() < BEGINNING {
            let rest = BEGINNING - self.beginning.len();
            self.beginning.extend_from_slice(&bytes[..bytes.len().min(rest)]);
        }
        let given = self.give(bytes)?;
        self.pending.extend_from_slice(&bytes[given..]);
        Ok(())
    }

    /// Gives received bytes to rustls until there is something to read, and returns how many were
    /// given.
    fn give(&mut self, mut bytes: &[u8]) -> Result<usize, rustls::Error> {
        let all = bytes.len();
        while !bytes.is_empty() {
            match self.tls.read_tls(&mut bytes) {
                // What comes after the end of the session means nothing.
                Ok(0) => return Ok(all),
                Ok(_) => {}
                Err(error) => return Err(rustls::Error::General(error.to_string())),
            }
            if self.tls.process_new_packets()?.plaintext_bytes_to_read() > 0 {
                break;
            }
        }
        Ok(all - bytes.len())
    }

    fn check(&self) -> io::Result<()> {
        match &self.failure {
            Some(error) => Err(error.clone().into()),
            None => Ok(()),
        }
    }
}

#[cold]
fn cut_off() -> io::Error {
    let text = "the connection was cut off: it ended without TLS's close_notify, so data may be missing (an attacker \
                who cuts it looks the same)";
    io::Error::new(io::ErrorKind::UnexpectedEof, text)
}
