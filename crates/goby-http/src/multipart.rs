//! Forms with files: `multipart/form-data`, by the crate `multer`.
//!
//! `multer` takes a stream and is polled. Here it is polled only between two pieces of the body: it
//! is pending when it needs a further one, and the goroutine that reads gets that from the
//! connection and puts it into a slot, where the stream finds it. So nothing waits inside a poll.

use std::convert::Infallible;
use std::fmt;
use std::io::{self, Read};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};

use bytes::{Buf, Bytes, BytesMut};
use futures_core::Stream;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;

use crate::body::Body;
use crate::extract::too_long;
use crate::rejection::Rejection;
use crate::server::Request;

/// How many bytes may come before a field begins: its head, and what stands before the first one.
/// A head is some hundred bytes long, and one piece of the body may have much more.
const HEAD_LIMIT: u64 = 512 << 10;

impl Request {
    /// Reads the body as a form with files, field by field.
    ///
    /// A field may be of any size if it is read in pieces. [`Field::bytes`] and [`Field::text`]
    /// hold at most as much in memory as [`with_body_limit`](Request::with_body_limit) says, in all
    /// fields together. Source: Go's `Request.MultipartReader`, axum's `Multipart`.
    ///
    /// ```
    /// use goby_http::{Rejection, Request, Router};
    /// use std::io;
    ///
    /// fn upload(request: Request) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    ///     let (mut title, mut size) = (String::new(), 0);
    ///     let mut form = request.multipart()?;
    ///     while let Some(mut field) = form.next_field()? {
    ///         match field.name() {
    ///             Some("title") => title = field.text()?,
    ///             Some("file") => size = io::copy(&mut field, &mut io::sink())?,
    ///             _ => {}
    ///         }
    ///     }
    ///     Ok(format!("{title}: {size} bytes"))
    /// }
    /// let router = Router::new().post("/upload", upload);
    /// ```
    ///
    /// # Errors
    ///
    /// 400 when the content type is not `multipart/form-data`, or has no boundary.
    pub fn multipart(self) -> Result<Multipart, Rejection> {
        let kind = self.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let boundary = multer::parse_boundary(kind).map_err(invalid)?;
        let slot = Arc::new(Mutex::new(Slot::Empty));
        let parser = multer::Multipart::new(Pieces { slot: slot.clone() }, boundary);
        let limit = self.buffer_limit();
        let supply = Supply { body: self.into_body(), slot, ended: false };
        Ok(Multipart { parser, field: None, supply, limit, left: limit })
    }
}

/// The fields of a form with files; see [`Request::multipart`].
pub struct Multipart {
    parser: multer::Multipart<'static>,
    /// The field that was given last.
    field: Option<multer::Field<'static>>,
    supply: Supply,
    /// How many bytes may be held in memory: in all, and from now on.
    limit: u64,
    left: u64,
}

/// A field of a form with files; see [`Request::multipart`].
///
/// It reads as any [`Read`] does, in pieces as they come.
pub struct Field<'a> {
    form: &'a mut Multipart,
    at_hand: Bytes,
}

impl Multipart {
    /// Goes on to the next field; `None` at the end. What was not read of the field before is
    /// skipped.
    ///
    /// See [`Request::multipart`] for an example.
    ///
    /// # Blocking
    ///
    /// Parks the goroutine until the head of the field has come.
    ///
    /// # Errors
    ///
    /// 400 when the body is no such form, breaks off or cannot be read, and 413 when the head of a
    /// field is too long.
    pub fn next_field(&mut self) -> Result<Option<Field<'_>>, Rejection> {
        while self.field.is_some() {
            if self.chunk()?.is_none() {
                self.field = None;
            }
        }
        let Multipart { parser, supply, .. } = self;
        self.field = supply.drive(HEAD_LIMIT, |cx| parser.poll_next_field(cx))?;
        Ok(if self.field.is_some() { Some(Field { form: self, at_hand: Bytes::new() }) } else { None })
    }

    fn chunk(&mut self) -> Result<Option<Bytes>, Rejection> {
        let Multipart { field, supply, .. } = self;
        let Some(field) = field else { return Ok(None) };
        supply.drive(u64::MAX, |cx| Pin::new(&mut *field).poll_next(cx).map(Option::transpose))
    }
}

impl Field<'_> {
    /// Tells the name of the field.
    pub fn name(&self) -> Option<&str> {
        self.parsed().name()
    }

    /// Tells the name of the file, if it is one. The client chooses it: it may be a path, or that
    /// of another file.
    pub fn file_name(&self) -> Option<&str> {
        self.parsed().file_name()
    }

    /// Tells the content type, if the client says one.
    pub fn content_type(&self) -> Option<&str> {
        self.parsed().content_type().map(AsRef::as_ref)
    }

    /// Gives the headers of the field.
    pub fn headers(&self) -> &HeaderMap {
        self.parsed().headers()
    }

    fn parsed(&self) -> &multer::Field<'static> {
        self.form.field.as_ref().expect("it is there as long as it is lent")
    }

    /// Takes the next bytes, as they came; `None` at the end.
    ///
    /// # Blocking
    ///
    /// Parks the goroutine until bytes have come.
    ///
    /// # Errors
    ///
    /// 400 when the form breaks off or cannot be read.
    pub fn chunk(&mut self) -> Result<Option<Bytes>, Rejection> {
        if !self.at_hand.is_empty() {
            return Ok(Some(std::mem::take(&mut self.at_hand)));
        }
        self.form.chunk()
    }

    /// Takes all bytes, up to [the limit](Request::with_body_limit).
    ///
    /// # Blocking
    ///
    /// Parks the goroutine until the field is complete.
    ///
    /// # Errors
    ///
    /// 413 when the fields that were taken so are too long, and 400 when the form breaks off or
    /// cannot be read.
    pub fn bytes(mut self) -> Result<Bytes, Rejection> {
        let mut all = BytesMut::new();
        while let Some(chunk) = self.chunk()? {
            let left = self.form.left.checked_sub(chunk.len() as u64);
            self.form.left = left.ok_or_else(|| too_long(self.form.limit))?;
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }

    /// Takes all bytes, as UTF-8 text, up to [the limit](Request::with_body_limit).
    ///
    /// # Blocking
    ///
    /// Parks the goroutine until the field is complete.
    ///
    /// # Errors
    ///
    /// Those of [`bytes`](Field::bytes), and 400 when it is not UTF-8.
    pub fn text(self) -> Result<String, Rejection> {
        let bytes = self.bytes()?;
        String::from_utf8(bytes.into())
            .map_err(|_| Rejection::new(StatusCode::BAD_REQUEST, "a field of the form is not UTF-8 text"))
    }
}

impl Read for Field<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        if self.at_hand.is_empty() {
            self.at_hand = self.form.chunk().map_err(io::Error::other)?.unwrap_or_default();
        }
        let n = self.at_hand.len().min(buf.len());
        self.at_hand.copy_to_slice(&mut buf[..n]);
        Ok(n)
    }
}

/// The body, and where the parser finds its pieces.
struct Supply {
    body: Body,
    slot: Arc<Mutex<Slot>>,
    ended: bool,
}

enum Slot {
    Empty,
    Chunk(Bytes),
    End,
}

/// The body as the parser sees it.
struct Pieces {
    /// A short lock.
    slot: Arc<Mutex<Slot>>,
}

impl Stream for Pieces {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        let mut slot = self.slot.lock();
        match std::mem::replace(&mut *slot, Slot::Empty) {
            Slot::Empty => Poll::Pending,
            Slot::Chunk(chunk) => Poll::Ready(Some(Ok(chunk))),
            Slot::End => Poll::Ready(None),
        }
    }
}

impl Supply {
    /// Polls the parser until it is done, with a further piece of the body each time, up to about
    /// `limit` bytes.
    fn drive<T>(
        &mut self,
        limit: u64,
        mut poll: impl FnMut(&mut TaskContext<'_>) -> Poll<Result<T, multer::Error>>,
    ) -> Result<T, Rejection> {
        // Whoever puts a piece into the slot polls.
        let mut cx = TaskContext::from_waker(Waker::noop());
        let mut supplied = 0;
        loop {
            if let Poll::Ready(result) = poll(&mut cx) {
                return result.map_err(invalid);
            }
            if supplied > limit {
                return Err(Rejection::new(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "the head of a field of the form is too long",
                ));
            }
            supplied += self.supply()?;
        }
    }

    /// Puts the next piece into the slot, and returns its length.
    fn supply(&mut self) -> Result<u64, Rejection> {
        let slot = match self.body.chunk().map_err(|error| Rejection::of(&error))? {
            Some(chunk) => Slot::Chunk(chunk),
            None if self.ended => return Err(invalid("it breaks off")),
            None => {
                self.ended = true;
                Slot::End
            }
        };
        let len = if let Slot::Chunk(chunk) = &slot { chunk.len() } else { 0 };
        *self.slot.lock() = slot;
        Ok(len as u64)
    }
}

fn invalid(error: impl fmt::Display) -> Rejection {
    Rejection::new(StatusCode::BAD_REQUEST, format!("invalid form: {error}"))
}

impl fmt::Debug for Multipart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Multipart").field("left", &self.left).finish_non_exhaustive()
    }
}

impl fmt::Debug for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Field").field("name", &self.name()).field("file_name", &self.file_name()).finish()
    }
}
