//! Bodies that a function writes, in a goroutine of its own.
//!
//! ```text
//!  the function ──> buffer ──flush──> rendezvous ──> the body's source ──> the connection
//! ```
//!
//! The goroutine starts when the first piece is asked for: a body that is not sent, for a `HEAD`
//! for example, starts none. It is told to end in two ways when the body is dropped: its context is
//! done, and what it flushes is an error. A body is dropped when it is complete, when its
//! connection has ended, and, since the source fails then, when its context is done.

use std::fmt;
use std::io::{self, Write};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use goby::chan::{Receiver, Sender, bounded};
use goby::context::CancelGuard;
use goby::{Context, go, select};

use crate::body::{Body, Source};
use crate::error::{Error, Phase};

/// How much is buffered: what one frame of HTTP/2 takes.
const ROOM: usize = 16 << 10;

/// What the function of a [`Body::from_writer`] writes to.
///
/// It buffers what is written, 16 KiB at most; [`flush`](Write::flush) sends it. At the end of the
/// function, the rest is sent. Source: Go's `http.ResponseWriter` with `http.Flusher`.
///
/// # Blocking
///
/// A flush parks the goroutine until the connection takes the piece, after it has sent the pieces
/// before. So a client that does not read holds the function back.
///
/// # Errors
///
/// A write fails with [`io::ErrorKind::BrokenPipe`] when nobody reads the body any more: the client
/// has gone away, or the connection was closed.
pub struct BodyWriter {
    buffer: Vec<u8>,
    pieces: Sender<Piece>,
    ctx: Context,
}

/// What passes from the function to the source.
enum Piece {
    Bytes(Bytes),
    /// The function has returned, or panicked.
    End(thread::Result<io::Result<()>>),
}

impl BodyWriter {
    /// Sends `piece` at once, after what was written before.
    ///
    /// ```
    /// use goby::Context;
    /// use goby_http::Body;
    /// let body = Body::from_writer(&Context::background(), |out| out.send("no copy is made"));
    /// assert_eq!(body.text()?, "no copy is made");
    /// # Ok::<(), goby_http::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine until the connection has taken the piece.
    ///
    /// # Errors
    ///
    /// When nobody reads the body any more.
    pub fn send(&mut self, piece: impl Into<Bytes>) -> io::Result<()> {
        self.flush()?;
        self.pass(piece.into())
    }

    /// Gives a context that is done when nobody reads the body any more. It descends from the one
    /// that the body was made with.
    ///
    /// ```
    /// use goby::{Context, chan, select};
    /// use goby_http::Body;
    /// use std::io;
    ///
    /// let (tx, rx) = chan::bounded::<String>(0);
    /// let mut body = Body::from_writer(&Context::background(), move |out| {
    ///     loop {
    ///         select! {
    ///             recv(rx) -> news => match news {
    ///                 Ok(news) => out.send(news)?,
    ///                 Err(_) => return Ok(()),
    ///             },
    ///             recv(out.context().done()) -> _ => return Err(io::ErrorKind::BrokenPipe.into()),
    ///         }
    ///     }
    /// });
    /// let sender = goby::go(move || {
    ///     tx.send("it rains".to_owned()).unwrap();
    ///     // Fails when the function has ended.
    ///     while tx.send("it rains still".to_owned()).is_ok() {}
    /// });
    /// assert_eq!(body.chunk()?.unwrap(), "it rains");
    /// drop(body);
    /// sender.join().unwrap();
    /// # Ok::<(), goby_http::Error>(())
    /// ```
    pub fn context(&self) -> &Context {
        &self.ctx
    }

    fn pass(&mut self, piece: Bytes) -> io::Result<()> {
        // An empty piece would look like the end.
        if piece.is_empty() {
            return Ok(());
        }
        self.pieces.send(Piece::Bytes(piece)).map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, Unread))
    }
}

impl Write for BodyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + bytes.len() > ROOM {
            self.flush()?;
        }
        if bytes.len() >= ROOM {
            self.pass(Bytes::copy_from_slice(bytes))?;
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = mem::take(&mut self.buffer);
        self.pass(piece.into())
    }
}

impl fmt::Debug for BodyWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyWriter").field("buffered", &self.buffer.len()).finish_non_exhaustive()
    }
}

/// The error of a write that nobody reads.
#[derive(Debug)]
struct Unread;

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nobody reads this body any more")
    }
}

impl std::error::Error for Unread {}

impl Body {
    /// Makes a body of what a function writes, in a goroutine of its own.
    ///
    /// The goroutine starts when the first piece is asked for. Each flush sends a piece at once. If
    /// the function returns an error or panics, the message breaks off.
    ///
    /// `ctx` is [`Request::context`](crate::Request::context) as a rule: then the function ends
    /// when the client goes away. Inside of [`with_timeout`](crate::with_timeout) a request's
    /// context ends with the handler, before the body is sent. Source: Go's `http.Flusher`.
    ///
    /// ```
    /// use goby::{Context, time};
    /// use goby_http::{Body, Request, Server, get};
    /// use std::io::{BufRead, Write};
    /// use std::time::Duration;
    ///
    /// let server = Server::bind("127.0.0.1:0")?;
    /// let url = format!("http://{}/", server.local_addr());
    /// let (serving, _stop) = Context::background().with_cancel();
    /// goby::go(move || {
    ///     server.serve_ctx(&serving, |request: Request| {
    ///         Body::from_writer(request.context(), |out| {
    ///             for i in (1..=3).rev() {
    ///                 writeln!(out, "{i} …")?;
    ///                 out.flush()?;
    ///                 time::sleep(Duration::from_millis(1));
    ///             }
    ///             writeln!(out, "go!")
    ///         })
    ///     })
    /// });
    /// let response = get(&Context::background(), url)?;
    /// assert_eq!(response.into_body().lines().collect::<Result<Vec<_>, _>>()?, ["3 …", "2 …", "1 …", "go!"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Cancellation
    ///
    /// When `ctx` is done, the message breaks off.
    pub fn from_writer<F>(ctx: &Context, write: F) -> Body
    where
        F: FnOnce(&mut BodyWriter) -> io::Result<()> + Send + 'static,
    {
        Body::written(ctx, None, write)
    }

    /// [`from_writer`](Body::from_writer), with a piece that is sent whenever the function has
    /// flushed nothing for some time.
    pub(crate) fn written<F>(ctx: &Context, filler: Option<(Duration, Bytes)>, write: F) -> Body
    where
        F: FnOnce(&mut BodyWriter) -> io::Result<()> + Send + 'static,
    {
        Body::from_source(Written { ctx: ctx.clone(), filler, state: State::Unstarted(write) })
    }
}

/// The source of a body that a function writes.
struct Written<F> {
    ctx: Context,
    filler: Option<(Duration, Bytes)>,
    state: State<F>,
}

enum State<F> {
    Unstarted(F),
    /// Dropping it ends the function.
    Started(Receiver<Piece>, #[expect(dead_code, reason = "its drop cancels")] CancelGuard),
    Ended,
}

impl<F: FnOnce(&mut BodyWriter) -> io::Result<()> + Send + 'static> Written<F> {
    fn start(&self, write: F) -> State<F> {
        let (ctx, guard) = self.ctx.with_cancel();
        let (tx, rx) = bounded(0);
        go(move || {
            let mut out = BodyWriter { buffer: Vec::new(), pieces: tx, ctx };
            let result = catch_unwind(AssertUnwindSafe(|| write(&mut out).and_then(|()| out.flush())));
            // An error means that nobody reads the body any more.
            let _ = out.pieces.send(Piece::End(result));
        });
        State::Started(rx, guard)
    }

    /// Waits for the next piece.
    fn receive(&self, pieces: &Receiver<Piece>) -> Result<Piece, Error> {
        let canceled = || Error::of_context(&Phase::Produce, &self.ctx).expect("it is done");
        let Some((pause, filler)) = &self.filler else {
            return select! {
                recv(pieces) -> piece => Ok(piece.expect("the end comes before")),
                recv(self.ctx.done()) -> _ => Err(canceled()),
            };
        };
        select! {
            recv(pieces) -> piece => Ok(piece.expect("the end comes before")),
            recv(self.ctx.done()) -> _ => Err(canceled()),
            default(*pause) => Ok(Piece::Bytes(filler.clone())),
        }
    }
}

impl<F: FnOnce(&mut BodyWriter) -> io::Result<()> + Send + 'static> Source for Written<F> {
    fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        self.state = match mem::replace(&mut self.state, State::Ended) {
            State::Unstarted(write) => self.start(write),
            state => state,
        };
        let State::Started(pieces, _) = &self.state else { return Ok(None) };
        match self.receive(pieces)? {
            Piece::Bytes(bytes) => Ok(Some(bytes)),
            Piece::End(Ok(Ok(()))) => Ok(None),
            Piece::End(Ok(Err(error))) => Err(Error::from_io(Phase::Produce, error)),
            Piece::End(Err(panic)) => resume_unwind(panic),
        }
    }

    fn remaining(&self) -> Option<u64> {
        None
    }
}
