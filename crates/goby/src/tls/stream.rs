//! The stream: what users read and write.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{self, Poll, ready};

use futures_io::{AsyncRead, AsyncWrite};
use goby_runtime::{IsArmed, WaitReason};
use once_cell::sync::OnceCell;
use rustls::Connection;

use super::agreed::Agreed;
use super::halves::{ReadHalf, WriteHalf};
use super::session::{Session, Wire};
use super::transport::Transport;
use super::waits::{FIRST_CALL, Leave, READING_FUTURE, WRITING_FUTURE, Waits, WakeAll, Who};
use crate::Context;
use crate::context::{block_on_ctx_for, is_limit};
use crate::net::TcpStream;
use crate::net::socket::Heard;
use crate::sync::Mutex;

/// A TLS stream over another stream, made by a [`TlsConnector`](super::TlsConnector) or a
/// [`TlsAcceptor`](super::TlsAcceptor).
///
/// Reading and writing work through a shared reference, too, from any number of goroutines: one may
/// read while another writes. What is written by one call of `write` stays together up to 16 KiB.
/// The same stream implements [`futures_io`]'s traits, for libraries that poll; of the futures that
/// read the last one that was polled is woken, and so of those that write.
///
/// A write sends what it takes before it returns, unless it is polled: then
/// [`flush`](AsyncWrite::poll_flush) does the rest. If a deadline or a context ends a write after
/// the session has taken some bytes, it returns their number; they are sent by the next write or
/// flush, which fails at once if that limit still holds.
///
/// ```
/// # use goby::net::{TcpListener, TcpStream};
/// # use goby::tls::{Identity, TlsAcceptor, TlsConnector};
/// # let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
/// # let acceptor = TlsAcceptor::new(Identity::new(made.cert.pem(), made.signing_key.serialize_pem())?)?;
/// # let connector = TlsConnector::builder().add_root_certificate(made.cert.pem()).build()?;
/// # let listener = TcpListener::bind("127.0.0.1:0")?;
/// # let addr = listener.local_addr()?;
/// use std::io::{Read, Write};
/// use std::sync::Arc;
///
/// let echo = goby::go(move || -> std::io::Result<u64> {
///     let stream = acceptor.accept(listener.accept()?.0)?;
///     let copied = std::io::copy(&mut &stream, &mut &stream)?;
///     stream.shutdown()?;
///     Ok(copied)
/// });
/// let stream = Arc::new(connector.connect("localhost", TcpStream::connect(addr)?)?);
/// let writer = goby::go({
///     let stream = stream.clone();
///     move || {
///         (&*stream).write_all(&[1; 100_000])?;
///         stream.shutdown()
///     }
/// });
/// let mut back = Vec::new();
/// (&*stream).read_to_end(&mut back)?;
/// assert_eq!(back, [1; 100_000]);
/// writer.join().unwrap()?;
/// assert_eq!(echo.join().unwrap()?, 100_000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Blocking
///
/// Reads, writes and the handshake park the goroutine. On a plain OS thread they block the thread.
///
/// # Cancellation
///
/// The deadlines and the context of the stream beneath end a wait; see
/// [`get_ref`](TlsStream::get_ref).
#[doc(alias = "tls.Conn")]
pub struct TlsStream<S = TcpStream> {
    stream: S,
    /// Locked for as long as something can be done without waiting. Fair, so that a busy writer
    /// does not keep a reader out; and a goroutine that waits for it does not hold up its worker,
    /// while another one verifies certificates.
    session: Mutex<Session>,
    /// The futures that wait for the lock.
    turns: Waits,
    waits: [Arc<Waits>; 2],
    next_call: AtomicU64,
    /// Set when the handshake is complete.
    pub(super) agreed: OnceCell<Agreed>,
}

impl<S: Transport> TlsStream<S> {
    pub(super) fn new(stream: S, tls: Connection) -> TlsStream<S> {
        TlsStream {
            stream,
            session: Mutex::new(Session::new(tls)),
            turns: Waits::default(),
            waits: [Arc::default(), Arc::default()],
            next_call: FIRST_CALL.into(),
            agreed: OnceCell::new(),
        }
    }

    /// Carries out the handshake, unless it is complete. The first read or write does it as well.
    ///
    /// ```
    /// # use goby::net::{TcpListener, TcpStream};
    /// # use goby::tls::TlsConnector;
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let stream = TlsConnector::new()?.connect("localhost", TcpStream::connect(listener.local_addr()?)?)?;
    /// drop(listener.accept()?);
    /// assert!(stream.handshake().is_err());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine until the other side has done its part.
    ///
    /// # Errors
    ///
    /// Those of the [module](super#errors), and `UnexpectedEof` if the other side has closed the
    /// connection.
    ///
    /// # Cancellation
    ///
    /// The limits of the stream beneath end it. After that it can be called again.
    #[doc(alias = "Handshake")]
    pub fn handshake(&self) -> io::Result<()> {
        self.call(|session, wire| session.poll_handshake(wire))
    }

    /// Carries out the handshake as [`handshake`](TlsStream::handshake) does, until `ctx` is done.
    ///
    /// ```
    /// # use goby::net::{TcpListener, TcpStream};
    /// # use goby::{Context, tls::TlsConnector};
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// let stream = TlsConnector::new()?.connect("localhost", TcpStream::connect(listener.local_addr()?)?)?;
    /// cancel.cancel();
    /// assert_eq!(stream.handshake_ctx(&ctx).unwrap_err().kind(), std::io::ErrorKind::ConnectionAborted);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// As for [`handshake`](TlsStream::handshake).
    ///
    /// # Errors
    ///
    /// Those of `handshake`, and [those](crate::net#errors) of a context that is done.
    ///
    /// # Cancellation
    ///
    /// Returns at once when `ctx` is done. The stream is as it was: the handshake is not complete.
    #[doc(alias = "HandshakeContext")]
    pub fn handshake_ctx(&self, ctx: &Context) -> io::Result<()> {
        let leave = self.enter();
        let limits = Heard::default();
        let poll = |cx: &mut task::Context<'_>| self.poll(leave.who, cx, |session, wire| session.poll_handshake(wire));
        let future = poll_fn(|cx| limits.hear(|| poll(cx)));
        block_on_ctx_for(WaitReason::IoWait, ctx, Some(&|| limits.have_deadline()), future)?
    }

    /// Tells the other side that nothing more comes: sends what is left and TLS's close_notify, and
    /// then shuts the stream beneath down for writing. Reading goes on.
    ///
    /// ```
    /// # use goby::net::{TcpListener, TcpStream};
    /// # use goby::tls::{Identity, TlsAcceptor, TlsConnector};
    /// # use std::io::Read;
    /// # let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    /// # let acceptor = TlsAcceptor::new(Identity::new(made.cert.pem(), made.signing_key.serialize_pem())?)?;
    /// # let connector = TlsConnector::builder().add_root_certificate(made.cert.pem()).build()?;
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// # let addr = listener.local_addr()?;
    /// let server = goby::go(move || {
    ///     // This one says that it has ended, the next one does not.
    ///     acceptor.accept(listener.accept()?.0)?.shutdown()?;
    ///     acceptor.accept(listener.accept()?.0)?.handshake()
    /// });
    /// let mut connect = || connector.connect("localhost", TcpStream::connect(addr)?);
    /// assert_eq!(connect()?.read(&mut [0])?, 0);
    /// assert_eq!(connect()?.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
    /// server.join().unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// As a write does. It carries out the handshake first, if that is due.
    ///
    /// # Errors
    ///
    /// As for a write. Nothing may be written after it: that is `BrokenPipe`.
    #[doc(alias("close", "CloseWrite", "close_notify"))]
    pub fn shutdown(&self) -> io::Result<()> {
        self.call(|session, wire| session.poll_shutdown(wire))
    }

    /// Reads by offering the plain bytes to `take`, which returns how many of them it has taken; or
    /// registers the waker for the time when there are some. At the end it offers none.
    ///
    /// It saves the copy of [`AsyncRead`]. `take` runs under the stream's lock, so it must not
    /// wait. If it returns more than it was offered, it has taken all.
    ///
    /// ```
    /// # use goby::net::{TcpListener, TcpStream};
    /// # use goby::tls::TlsConnector;
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// use std::task::{Context, Waker};
    /// let stream = TlsConnector::new()?.connect("localhost", TcpStream::connect(listener.local_addr()?)?)?;
    /// let mut cx = Context::from_waker(Waker::noop());
    /// let mut read = Vec::new();
    /// let take = |plain: &[u8]| {
    ///     read.extend_from_slice(plain);
    ///     plain.len()
    /// };
    /// assert!(stream.poll_read_with(&mut cx, take).is_pending(), "the server says nothing");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for a read.
    pub fn poll_read_with(
        &self,
        cx: &mut task::Context<'_>,
        take: impl FnOnce(&[u8]) -> usize,
    ) -> Poll<io::Result<()>> {
        self.poll(READING_FUTURE, cx, |session, wire| session.poll_read(wire, take))
    }

    /// Carries out the handshake for a future, or registers its waker.
    ///
    /// ```
    /// # use goby::net::{TcpListener, TcpStream};
    /// # use goby::tls::TlsConnector;
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// use std::task::{Context, Waker};
    /// let stream = TlsConnector::new()?.connect("localhost", TcpStream::connect(listener.local_addr()?)?)?;
    /// assert!(stream.poll_handshake(&mut Context::from_waker(Waker::noop())).is_pending());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`handshake`](TlsStream::handshake).
    pub fn poll_handshake(&self, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        self.poll(READING_FUTURE, cx, |session, wire| session.poll_handshake(wire))
    }

    /// Divides the stream into a half that reads and one that writes, each of which may go to a
    /// goroutine of its own.
    ///
    /// ```
    /// # use goby::net::{TcpListener, TcpStream};
    /// # use goby::tls::{Identity, TlsAcceptor, TlsConnector};
    /// # use std::io::{Read, Write};
    /// # let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    /// # let acceptor = TlsAcceptor::new(Identity::new(made.cert.pem(), made.signing_key.serialize_pem())?)?;
    /// # let connector = TlsConnector::builder().add_root_certificate(made.cert.pem()).build()?;
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// # let addr = listener.local_addr()?;
    /// # let server = goby::go(move || -> std::io::Result<()> {
    /// #     let stream = acceptor.accept(listener.accept()?.0)?;
    /// #     std::io::copy(&mut &stream, &mut &stream)?;
    /// #     stream.shutdown()
    /// # });
    /// let (mut reader, mut writer) = connector.connect("localhost", TcpStream::connect(addr)?)?.into_split();
    /// let written = goby::go(move || {
    ///     writer.write_all(b"ping")?;
    ///     writer.shutdown()
    /// });
    /// let mut back = String::new();
    /// reader.read_to_string(&mut back)?;
    /// assert_eq!(back, "ping");
    /// written.join().unwrap()?;
    /// # server.join().unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_split(self) -> (ReadHalf<S>, WriteHalf<S>) {
        let stream = Arc::new(self);
        (ReadHalf { stream: stream.clone() }, WriteHalf { stream })
    }

    /// Sends all that has been written.
    pub(super) fn flush_all(&self) -> io::Result<()> {
        self.call(|session, wire| session.poll_flush(wire))
    }

    pub(super) fn read_some(&self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        self.call(|session, wire| {
            let mut read = 0;
            ready!(session.poll_read(wire, |plain| {
                read = copy(plain, buf);
                read
            }))?;
            Poll::Ready(Ok(read))
        })
    }

    pub(super) fn write_some(&self, buf: &[u8]) -> io::Result<usize> {
        let mut taken = None;
        let result = self.call(|session, wire| {
            if taken.is_none() {
                // What an earlier write left behind has to go first, so that an error of that is
                // not taken for one after these bytes.
                if session.is_ready && session.has_unsent() {
                    ready!(session.poll_flush(wire))?;
                }
                taken = Some(ready!(session.poll_write(wire, buf))?);
            }
            session.poll_flush(wire)
        });
        match (taken, result) {
            (Some(n), Ok(())) => Ok(n),
            // They will be sent, if there is a next call: see the type's documentation.
            (Some(n), Err(error)) if is_limit(&error) => Ok(n),
            (_, Err(error)) => Err(error),
            (None, Ok(())) => unreachable!("a write ends with bytes or an error"),
        }
    }

    /// Parks until `operation` is ready.
    fn call<R>(
        &self,
        mut operation: impl FnMut(&mut Session, &mut Wire<'_, '_, S>) -> Poll<io::Result<R>>,
    ) -> io::Result<R> {
        let leave = self.enter();
        let limits = Heard::default();
        // Not while it waits for the lock: others of its thread listen then.
        let future = poll_fn(|cx| self.poll(leave.who, cx, |session, wire| limits.hear(|| operation(session, wire))));
        let has_deadline: IsArmed<'_> = &|| limits.have_deadline();
        goby_runtime::block_on_for(WaitReason::IoWait, || limits.have_context(), Some(has_deadline), future)
    }

    fn enter(&self) -> Leave<'_> {
        // Relaxed: a number that is used once.
        Leave { who: self.next_call.fetch_add(1, Ordering::Relaxed), waits: &self.waits }
    }

    fn poll<R>(
        &self,
        who: Who,
        cx: &mut task::Context<'_>,
        operation: impl FnOnce(&mut Session, &mut Wire<'_, '_, S>) -> Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        let session = match who {
            READING_FUTURE | WRITING_FUTURE => ready!(self.turns.attempt(who, cx, || self.session.try_lock())),
            _ => self.session.lock(),
        };
        // The last one is dropped first: those that are woken find the lock free.
        let (_next, mut session) = (WakeAll(&self.turns), session);
        let mut wire = Wire { stream: &self.stream, waits: &self.waits, who, cx };
        let polled = operation(&mut session, &mut wire);
        if session.is_ready && self.agreed.get().is_none() {
            let _ = self.agreed.set(Agreed::new(&session.tls));
        }
        polled
    }
}

impl<S> TlsStream<S> {
    /// Returns the stream beneath: for its deadlines, its context and its addresses. To read from
    /// it or write to it breaks the session.
    ///
    /// Its [`readable`](TcpStream::readable) does not tell whether a read of the session would
    /// wait: the session may have bytes while the socket is empty, or none while a record is not
    /// whole. For a `select!`, let a goroutine read from the session and send into a channel.
    ///
    /// ```
    /// # use goby::net::{TcpListener, TcpStream};
    /// # use goby::tls::TlsConnector;
    /// # use std::{io::Read, time::Instant};
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let tcp = TcpStream::connect(listener.local_addr()?)?;
    /// let mut stream = TlsConnector::new()?.connect("localhost", tcp)?;
    /// stream.get_ref().set_read_deadline(Some(Instant::now()));
    /// assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[doc(alias = "NetConn")]
    pub fn get_ref(&self) -> &S {
        &self.stream
    }
}

fn copy(from: &[u8], to: &mut [u8]) -> usize {
    let n = from.len().min(to.len());
    to[..n].copy_from_slice(&from[..n]);
    n
}

impl<S: Transport> Read for &TlsStream<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.read_some(buf)
    }
}

impl<S: Transport> Write for &TlsStream<S> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_some(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flush_all()
    }
}

impl<S: Transport> Read for TlsStream<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.read_some(buf)
    }
}

impl<S: Transport> Write for TlsStream<S> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_some(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flush_all()
    }
}

impl<S: Transport> AsyncRead for &TlsStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut task::Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let mut read = 0;
        ready!(self.poll_read_with(cx, |plain| {
            read = copy(plain, buf);
            read
        }))?;
        Poll::Ready(Ok(read))
    }
}

impl<S: Transport> AsyncWrite for &TlsStream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut task::Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll(WRITING_FUTURE, cx, |session, wire| {
            let n = ready!(session.poll_write(wire, buf))?;
            // Sent now as far as the stream takes it, for those that never flush.
            let _ = session.poll_flush(wire);
            Poll::Ready(Ok(n))
        })
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        self.poll(WRITING_FUTURE, cx, |session, wire| session.poll_flush(wire))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        self.poll(WRITING_FUTURE, cx, |session, wire| session.poll_shutdown(wire))
    }
}

impl<S: Transport> AsyncRead for TlsStream<S>
where
    S: Unpin,
{
    fn poll_read(self: Pin<&mut Self>, cx: &mut task::Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self).poll_read(cx, buf)
    }
}

impl<S: Transport> AsyncWrite for TlsStream<S>
where
    S: Unpin,
{
    fn poll_write(self: Pin<&mut Self>, cx: &mut task::Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self).poll_close(cx)
    }
}

impl<S: fmt::Debug> fmt::Debug for TlsStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = self.agreed.get().map(|agreed| agreed.version);
        f.debug_struct("TlsStream").field("stream", &self.stream).field("version", &version.flatten()).finish()
    }
}
