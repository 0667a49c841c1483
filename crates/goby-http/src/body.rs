//! Bodies of requests and responses, both those to send and those received.
//!
//! A body is bytes at hand, or a source that is asked for one chunk after the other. A source may
//! park its goroutine: it is a user's reader, a channel, or another connection. hyper, which polls,
//! never asks a source. Instead the body that hyper sees ([`Outgoing`]) takes chunks from a slot.
//! When it finds the slot empty it notes that there, and the goroutine that drives the connection
//! fills it between two polls ([`Feeder::supply`]). So no user code runs inside hyper, and a source
//! may even be the body received on the same connection.

use std::fmt;
use std::io::{self, BufRead, Read};
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderValue;
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;

use crate::error::{Error, Phase};
#[cfg(feature = "http2")]
use crate::rejection::in_words;

/// How much is read from a reader at a time: a few system calls' worth, small beside the buffers of
/// a socket.
const CHUNK: usize = 16 * 1024;

/// The media type of text.
static TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
static BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// The body of a request or a response: bytes at hand, or a stream of them.
///
/// It reads as any [`Read`] and [`BufRead`] does, in pieces as they come; [`bytes`](Body::bytes)
/// takes all of it.
///
/// ```
/// use goby_http::Body;
/// use std::io::{BufRead, Read};
///
/// let mut text = String::new();
/// Body::from("all at once").read_to_string(&mut text)?;
/// assert_eq!(text, "all at once");
///
/// let body = Body::from_chunks(["line 1\nli", "ne 2\n"]);
/// assert_eq!(body.lines().collect::<Result<Vec<_>, _>>()?, ["line 1", "line 2"]);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Blocking
///
/// Reading a received body parks the goroutine until more has come. So does a caller's own source
/// that waits.
#[derive(Default)]
pub struct Body {
    /// Read before anything else.
    at_hand: Bytes,
    source: Option<Box<dyn Source>>,
    /// The media type of what it was made of: text or bytes.
    kind: Option<&'static HeaderValue>,
}

/// Where a streamed body comes from.
pub(crate) trait Source: Send {
    /// Gives the next bytes, at least one; `None` at the end. After an error it is not asked again.
    fn chunk(&mut self) -> Result<Option<Bytes>, Error>;

    /// How many bytes are still to come, if that is known.
    fn remaining(&self) -> Option<u64>;
}

impl Body {
    /// Makes an empty body.
    ///
    /// ```
    /// assert_eq!(goby_http::Body::empty().len(), Some(0));
    /// ```
    pub fn empty() -> Body {
        Body::default()
    }

    /// Makes a body of all that `reader` gives, of unknown length.
    ///
    /// The reader may park: each piece is sent before the next one is asked for.
    ///
    /// ```
    /// use goby_http::Body;
    /// let body = Body::from_reader(&b"some bytes"[..]);
    /// assert_eq!(body.len(), None);
    /// assert_eq!(body.bytes()?, "some bytes");
    /// # Ok::<(), goby_http::Error>(())
    /// ```
    pub fn from_reader(reader: impl Read + Send + 'static) -> Body {
        Body::from_source(FromReader { reader, left: None })
    }

    /// Makes a body of `len` bytes that `reader` gives.
    ///
    /// The length is announced to the other side. If the reader has fewer bytes, the message breaks
    /// off.
    ///
    /// ```
    /// use goby_http::Body;
    /// let body = Body::from_sized_reader(&b"some bytes"[..], 4);
    /// assert_eq!(body.len(), Some(4));
    /// assert_eq!(body.bytes()?, "some");
    /// # Ok::<(), goby_http::Error>(())
    /// ```
    pub fn from_sized_reader(reader: impl Read + Send + 'static, len: u64) -> Body {
        if len == 0 { Body::empty() } else { Body::from_source(FromReader { reader, left: Some(len) }) }
    }

    /// Makes a body of the chunks of an iterator, which may be the receiver of a channel. Each is
    /// sent as it comes.
    ///
    /// ```
    /// use goby_http::Body;
    /// let (tx, rx) = goby::chan::bounded(0);
    /// goby::go(move || {
    ///     for i in 1..=3 {
    ///         tx.send(format!("{i} ")).unwrap();
    ///     }
    /// });
    /// assert_eq!(Body::from_chunks(rx).bytes()?, "1 2 3 ");
    /// # Ok::<(), goby_http::Error>(())
    /// ```
    pub fn from_chunks<I>(chunks: I) -> Body
    where
        I: IntoIterator<Item: Into<Bytes>>,
        I::IntoIter: Send + 'static,
    {
        Body::from_source(FromChunks { chunks: chunks.into_iter() })
    }

    pub(crate) fn from_source(source: impl Source + 'static) -> Body {
        Body { at_hand: Bytes::new(), source: Some(Box::new(source)), kind: None }
    }

    /// Tells how many bytes are still to be read, if that is known.
    ///
    /// ```
    /// assert_eq!(goby_http::Body::from("four").len(), Some(4));
    /// ```
    pub fn len(&self) -> Option<u64> {
        let at_hand = self.at_hand.len() as u64;
        match &self.source {
            None => Some(at_hand),
            Some(source) => source.remaining().map(|left| left + at_hand),
        }
    }

    /// Tells whether there is certainly nothing to read.
    ///
    /// ```
    /// assert!(goby_http::Body::empty().is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }

    /// Takes the next bytes, as they came; `None` at the end.
    ///
    /// ```
    /// let mut body = goby_http::Body::from("all");
    /// assert_eq!(body.chunk()?.unwrap(), "all");
    /// assert!(body.chunk()?.is_none());
    /// # Ok::<(), goby_http::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine until bytes have come.
    ///
    /// # Errors
    ///
    /// Those of the connection, or of the reader. Afterwards the body is at its end.
    pub fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        if !self.at_hand.is_empty() {
            return Ok(Some(mem::take(&mut self.at_hand)));
        }
        let Some(source) = &mut self.source else { return Ok(None) };
        let chunk = source.chunk();
        if !matches!(chunk, Ok(Some(_))) {
            self.source = None;
        }
        chunk
    }

    /// Takes all bytes.
    ///
    /// ```
    /// assert_eq!(goby_http::Body::from("all").bytes()?, "all");
    /// # Ok::<(), goby_http::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine until the body is complete.
    ///
    /// # Errors
    ///
    /// The connection's, or the reader's.
    pub fn bytes(mut self) -> Result<Bytes, Error> {
        let Some(first) = self.chunk()? else { return Ok(Bytes::new()) };
        let Some(second) = self.chunk()? else { return Ok(first) };
        // Do not allocate all that a peer announces at once.
        let announced = self.len().and_then(|len| usize::try_from(len).ok()).unwrap_or(0).min(1 << 20);
        let mut all = BytesMut::with_capacity(first.len() + second.len() + announced);
        all.extend_from_slice(&first);
        all.extend_from_slice(&second);
        drop((first, second));
        while let Some(chunk) = self.chunk()? {
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }

    /// Takes all bytes, as UTF-8 text.
    ///
    /// ```
    /// assert_eq!(goby_http::Body::from("all").text()?, "all");
    /// # Ok::<(), goby_http::Error>(())
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine until the body is complete.
    ///
    /// # Errors
    ///
    /// Those of [`bytes`](Body::bytes), and when it is not UTF-8.
    pub fn text(self) -> Result<String, Error> {
        self.text_or(Phase::NotText)
    }

    /// Takes all bytes, as UTF-8 text; `phase` says what it is that is not.
    pub(crate) fn text_or(self, phase: Phase) -> Result<String, Error> {
        String::from_utf8(self.bytes()?.into()).map_err(|error| Error::new(phase, error))
    }

    /// The media type that says what it was made of, if that was text or bytes.
    pub(crate) fn kind(&self) -> Option<&'static HeaderValue> {
        self.kind
    }

    /// Gives the first `len` bytes of it. To end before them is an error.
    pub(crate) fn cut(self, len: u64) -> Body {
        if len == 0 { Body::empty() } else { Body::from_source(Cut { body: self, left: len }) }
    }

    /// Sets the media type of what it was made of.
    #[cfg(any(feature = "brotli", feature = "gzip", feature = "tracing", feature = "zstd"))]
    pub(crate) fn of_kind(mut self, kind: Option<&'static HeaderValue>) -> Body {
        self.kind = kind;
        self
    }

    /// Gives its bytes, if all are at hand.
    pub(crate) fn whole(&self) -> Option<&Bytes> {
        if self.source.is_none() { Some(&self.at_hand) } else { None }
    }

    /// Gives the body as hyper sends it, and its feeder if it is streamed.
    pub(crate) fn into_outgoing(self) -> (Outgoing, Option<Feeder>) {
        if self.source.is_none() {
            return (Outgoing::Whole(self.at_hand), None);
        }
        let (outgoing, feeder) = self.into_fed();
        (outgoing, Some(feeder))
    }

    /// Gives the body as hyper sends it, and its feeder.
    pub(crate) fn into_fed(self) -> (Outgoing, Feeder) {
        let left = self.len();
        let slot = Arc::new(Mutex::new(Slot::Empty));
        (Outgoing::Fed { slot: slot.clone(), left }, Feeder { body: self, slot })
    }
}

impl BufRead for Body {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at_hand.is_empty() {
            self.at_hand = self.chunk()?.unwrap_or_default();
        }
        Ok(&self.at_hand)
    }

    fn consume(&mut self, n: usize) {
        self.at_hand.advance(n);
    }
}

impl Read for Body {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let n = self.fill_buf()?.read(buf)?;
        self.consume(n);
        Ok(n)
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Body {
        Body { at_hand: bytes, source: None, kind: Some(&BYTES) }
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Body {
        Body::from(Bytes::from(bytes))
    }
}

impl From<String> for Body {
    fn from(text: String) -> Body {
        Body { kind: Some(&TEXT), ..Body::from(Bytes::from(text)) }
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Body {
        Body { kind: Some(&TEXT), ..Body::from(Bytes::from_static(text.as_bytes())) }
    }
}

impl From<&'static [u8]> for Body {
    fn from(bytes: &'static [u8]) -> Body {
        Body::from(Bytes::from_static(bytes))
    }
}

impl From<()> for Body {
    fn from((): ()) -> Body {
        Body::empty()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut body = f.debug_struct("Body");
        body.field("at_hand", &self.at_hand.len());
        body.field("streamed", &self.source.is_some()).field("len", &self.len()).finish()
    }
}

struct FromReader<R> {
    reader: R,
    left: Option<u64>,
}

impl<R: Read + Send> Source for FromReader<R> {
    fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let most = self.left.map_or(CHUNK, |left| usize::try_from(left).unwrap_or(CHUNK).min(CHUNK));
        if most == 0 {
            return Ok(None);
        }
        let mut chunk = vec![0; most];
        let n = loop {
            match self.reader.read(&mut chunk) {
                Ok(n) => break n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::from_io(Phase::Produce, error)),
            }
        };
        if let Some(left) = &mut self.left {
            *left -= n as u64;
            if n == 0 {
                let error =
                    io::Error::new(io::ErrorKind::UnexpectedEof, format!("the reader ended {left} bytes early"));
                return Err(Error::new(Phase::Produce, error));
            }
        }
        chunk.truncate(n);
        Ok(if n == 0 { None } else { Some(chunk.into()) })
    }

    fn remaining(&self) -> Option<u64> {
        self.left
    }
}

/// A body up to a length that was promised.
struct Cut {
    body: Body,
    left: u64,
}

impl Source for Cut {
    fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        let Some(mut chunk) = self.body.chunk()? else {
            let message = format!("the body ended {} bytes early", self.left);
            return Err(Error::new(Phase::Produce, io::Error::new(io::ErrorKind::UnexpectedEof, message)));
        };
        chunk.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= chunk.len() as u64;
        Ok(Some(chunk))
    }

    fn remaining(&self) -> Option<u64> {
        Some(self.left)
    }
}

struct FromChunks<I> {
    chunks: I,
}

impl<I: Iterator<Item: Into<Bytes>> + Send> Source for FromChunks<I> {
    fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        // An empty chunk would look like the end.
        Ok(self.chunks.by_ref().map(Into::into).find(|chunk: &Bytes| !chunk.is_empty()))
    }

    fn remaining(&self) -> Option<u64> {
        None
    }
}

/// A body as hyper sees it.
pub(crate) enum Outgoing {
    Whole(Bytes),
    Fed { slot: Arc<Mutex<Slot>>, left: Option<u64> },
}

/// What passes from a [`Feeder`] to an [`Outgoing`].
pub(crate) enum Slot {
    /// The chunk was taken, and no more asked for.
    Empty,
    /// Found empty: hyper waits for a chunk.
    Wanted,
    Chunk(Bytes),
    /// It ends here.
    End,
    Failed(Error),
}

/// The source of a body that is being sent.
pub(crate) struct Feeder {
    body: Body,
    slot: Arc<Mutex<Slot>>,
}

impl Feeder {
    /// Whether hyper waits for the next chunk.
    pub(crate) fn is_wanted(&self) -> bool {
        matches!(*self.slot.lock(), Slot::Wanted)
    }

    /// Gets the next chunk from the source, which may park, and puts it into the slot. The caller
    /// then polls the connection. Returns whether there may be more.
    pub(crate) fn supply(&mut self) -> bool {
        let slot = match self.body.chunk() {
            Ok(Some(chunk)) => Slot::Chunk(chunk),
            Ok(None) => Slot::End,
            Err(error) => Slot::Failed(error),
        };
        // A body of known length ends with its last byte: hyper does not ask again.
        let more = matches!(slot, Slot::Chunk(_)) && !self.body.is_empty();
        *self.slot.lock() = slot;
        more
    }
}

#[cfg(feature = "http2")]
impl Feeder {
    /// Lets the body end with `error`.
    pub(crate) fn fail(&self, error: Error) {
        *self.slot.lock() = Slot::Failed(error);
    }

    /// Says why the body breaks off, if it does, and not because its context was canceled.
    pub(crate) fn failure(&self) -> Option<String> {
        let slot = self.slot.lock();
        let Slot::Failed(error) = &*slot else { return None };
        if error.is_canceled() {
            return None;
        }
        Some(in_words(error))
    }
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self.get_mut() {
            Outgoing::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Outgoing::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(mem::take(bytes))))),
            Outgoing::Fed { slot, left } => {
                let mut slot = slot.lock();
                match mem::replace(&mut *slot, Slot::Empty) {
                    // The goroutine that drives the connection looks into the slot after every
                    // poll: no waker is needed.
                    Slot::Empty | Slot::Wanted => {
                        *slot = Slot::Wanted;
                        Poll::Pending
                    }
                    Slot::Chunk(chunk) => {
                        if let Some(left) = left {
                            *left = left.saturating_sub(chunk.len() as u64);
                        }
                        Poll::Ready(Some(Ok(Frame::data(chunk))))
                    }
                    Slot::End => {
                        *slot = Slot::End;
                        Poll::Ready(None)
                    }
                    Slot::Failed(error) => Poll::Ready(Some(Err(error))),
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Outgoing::Whole(bytes) => bytes.is_empty(),
            Outgoing::Fed { left, .. } => *left == Some(0),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Outgoing::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Outgoing::Fed { left: Some(left), .. } => SizeHint::with_exact(*left),
            Outgoing::Fed { left: None, .. } => SizeHint::default(),
        }
    }
}
