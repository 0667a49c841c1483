//! Bodies with their codings taken off.

use std::fmt;
use std::io::{self, Read};
use std::mem;

use bytes::Bytes;
use http::StatusCode;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap};

use super::Coding;
use crate::body::{Body, Source};
use crate::error::{Error, Phase};
use crate::extract::too_long;
use crate::handler::Handler;
use crate::rejection::Rejection;
use crate::response::Response;
use crate::server::Request;

/// How much is decoded at a time.
const PIECE: usize = 16 << 10;

/// The largest window of zstd, as a power of two: what the coding may ask of a receiver (RFC 9659).
#[cfg(feature = "zstd")]
const WINDOW: u32 = 23;

/// The most codings that are taken off one body. Each costs memory, and nobody needs two.
const MOST: usize = 4;

/// A body whose content coding is taken off as it is read.
///
/// Of what has come, all is decoded at once: a stream that its sender flushes arrives piece by
/// piece.
///
/// ```
/// # #[cfg(feature = "gzip")] {
/// use goby_http::Body;
/// use goby_http::encoding::{Coding, Decoder};
///
/// let gzip = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xcb\xcc\x53\x28\x48\x2c\
///     \x2a\x29\x06\x00\x94\x06\xc1\xd9\x08\x00\x00\x00";
/// let body = Body::from(Decoder::new(Coding::Gzip, Body::from(&gzip[..])));
/// assert_eq!(body.text()?, "in parts");
/// # }
/// # Ok::<(), goby_http::Error>(())
/// ```
///
/// # Blocking
///
/// Reading parks the goroutine as reading the body does.
///
/// # Errors
///
/// Those of the body, and when it is not coded like that or ends too early. Of zstd, a window of
/// more than 8 MB is an error, too.
pub struct Decoder {
    reader: Reader,
    coding: Coding,
    /// How many bytes may still come out.
    left: u64,
    /// What more than those are: the error for the handler.
    too_much: Option<Rejection>,
    /// What it is that fails.
    phase: Phase,
}

enum Reader {
    #[cfg(feature = "gzip")]
    Gzip(Box<flate2::bufread::MultiGzDecoder<Body>>),
    #[cfg(feature = "brotli")]
    Brotli(Box<brotli::Decompressor<Body>>),
    #[cfg(feature = "zstd")]
    Zstd(Box<zstd::stream::read::Decoder<'static, Body>>),
    /// The error of making one.
    #[cfg(feature = "zstd")]
    Failed(Option<io::Error>),
}

impl Decoder {
    /// Makes a decoder of `body`.
    ///
    /// ```
    /// # #[cfg(feature = "gzip")] {
    /// use goby_http::Body;
    /// use goby_http::encoding::{Coding, Decoder};
    /// use std::io::Read;
    ///
    /// let mut decoder = Decoder::new(Coding::Gzip, Body::from("not compressed at all"));
    /// assert!(decoder.read(&mut [0; 10]).is_err());
    /// # }
    /// ```
    pub fn new(coding: Coding, body: Body) -> Decoder {
        Decoder { reader: Reader::new(coding, body), coding, left: u64::MAX, too_much: None, phase: Phase::Body }
    }

    /// Turns an error into that of the body: what came is wrong, unless it did not come.
    fn error(&self, error: io::Error) -> Error {
        if error.get_ref().is_some_and(|inner| inner.is::<Error>()) {
            return Error::from_io(self.phase.clone(), error);
        }
        let invalid = Invalid { coding: self.coding.name(), source: error };
        Error::of_io(self.phase.clone(), io::Error::new(io::ErrorKind::InvalidData, invalid))
    }
}

impl Reader {
    fn new(coding: Coding, body: Body) -> Reader {
        match coding {
            #[cfg(feature = "gzip")]
            Coding::Gzip => Reader::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(body))),
            #[cfg(feature = "brotli")]
            Coding::Brotli => Reader::Brotli(Box::new(brotli::Decompressor::new(body, 4096))),
            #[cfg(feature = "zstd")]
            Coding::Zstd => {
                let made = zstd::stream::read::Decoder::with_buffer(body).and_then(|mut decoder| {
                    decoder.window_log_max(WINDOW)?;
                    Ok(Reader::Zstd(Box::new(decoder)))
                });
                made.unwrap_or_else(|error| Reader::Failed(Some(error)))
            }
        }
    }

    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            #[cfg(feature = "gzip")]
            Reader::Gzip(reader) => reader.read(buf),
            #[cfg(feature = "brotli")]
            Reader::Brotli(reader) => match reader.read(buf)? {
                // It stops where the data ends. A further read fails if its buffer has more, and
                // the body is still to be read to its end.
                0 => match (reader.read(buf)?, reader.get_mut().chunk()?) {
                    (0, None) => Ok(0),
                    _ => Err(io::Error::other("there is more behind its end")),
                },
                n => Ok(n),
            },
            #[cfg(feature = "zstd")]
            Reader::Zstd(reader) => reader.read(buf),
            #[cfg(feature = "zstd")]
            Reader::Failed(error) => error.take().map_or(Ok(0), Err),
        }
    }
}

impl Source for Decoder {
    fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let mut chunk = vec![0; PIECE];
        let n = loop {
            match self.reader.read(&mut chunk) {
                Ok(n) => break n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.error(error)),
            }
        };
        // A small piece may have become a thousand large ones.
        goby::checkpoint();
        if n as u64 > self.left {
            let too_much = self.too_much.take().expect("only a limit is less than all");
            return Err(Error::new(self.phase.clone(), too_much));
        }
        self.left -= n as u64;
        chunk.truncate(n);
        Ok(if n == 0 { None } else { Some(chunk.into()) })
    }

    fn remaining(&self) -> Option<u64> {
        None
    }
}

impl Read for Decoder {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buf).map_err(|error| self.error(error).into())
    }
}

impl From<Decoder> for Body {
    fn from(decoder: Decoder) -> Body {
        Body::from_source(decoder)
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").field("coding", &self.coding).finish_non_exhaustive()
    }
}

/// The error of a body that is not coded as its head says.
#[derive(Debug)]
struct Invalid {
    coding: &'static str,
    source: io::Error,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid {}", self.coding)
    }
}

impl std::error::Error for Invalid {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Gives the codings that the headers say the body has, in the order in which they come off; `None`
/// if one is unknown, or there are too many.
fn codings(headers: &HeaderMap) -> Option<Vec<Coding>> {
    let mut codings = Vec::new();
    for value in headers.get_all(CONTENT_ENCODING) {
        for name in value.to_str().ok()?.split(',').map(str::trim) {
            if !name.is_empty() && !name.eq_ignore_ascii_case("identity") {
                codings.push(Coding::by_name(name)?);
            }
        }
    }
    codings.reverse();
    (codings.len() <= MOST).then_some(codings)
}

/// Takes the codings off the body of a received response, and out of its headers. One with a coding
/// that is unknown stays as it is.
pub(crate) fn decode_response(headers: &mut HeaderMap, body: Body) -> Body {
    match codings(headers) {
        Some(codings) if !codings.is_empty() => decode(headers, body, &codings, Decoder::new),
        _ => body,
    }
}

/// Takes `codings` off, each by a decoder that `make` makes.
fn decode(headers: &mut HeaderMap, body: Body, codings: &[Coding], make: impl Fn(Coding, Body) -> Decoder) -> Body {
    headers.remove(CONTENT_ENCODING);
    // The response to a HEAD has a coding and no body.
    if body.is_empty() {
        return body;
    }
    headers.remove(CONTENT_LENGTH);
    codings.iter().fold(body, |body, &coding| make(coding, body).into())
}

/// Makes a middleware that takes the content coding off the bodies of requests. At most `limit`
/// bytes come out of one: a request of some kilobytes can have gigabytes in it.
///
/// Handlers see neither the coding nor, of such a body, a length. A request with an unknown coding
/// is answered with 415, and with the codings that would do. A body that has more than `limit`
/// bytes, or is not coded as its head says, is an error where it is read; a handler that returns
/// this error answers with 413 or 400.
///
/// ```
/// # #[cfg(feature = "gzip")] {
/// use goby::Context;
/// use goby_http::{Body, Client, Request, Router, Server, encoding};
///
/// let router = Router::new()
///     .post("/", |request: Request| request.text().map(|text| format!("{} bytes", text.len())))
///     .with(encoding::decompress(1 << 20));
/// let server = Server::bind("127.0.0.1:0")?;
/// let url = format!("http://{}/", server.local_addr());
/// let (serving, _stop) = Context::background().with_cancel();
/// goby::go(move || server.serve_ctx(&serving, router));
///
/// let gzip = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xcb\xcc\x53\x28\x48\x2c\
///     \x2a\x29\x06\x00\x94\x06\xc1\xd9\x08\x00\x00\x00";
/// let request = http::Request::post(&*url).header("content-encoding", "gzip").body(Body::from(&gzip[..]))?;
/// let response = Client::new().request(&Context::background(), request)?;
/// assert_eq!(response.text()?, "8 bytes");
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn decompress(limit: u64) -> impl Fn(Request, &dyn Handler) -> Response + Send + Sync + 'static {
    move |mut request, next| {
        match codings(request.headers()) {
            None => {
                let refusal = Response::from(StatusCode::UNSUPPORTED_MEDIA_TYPE);
                return refusal.with_header(ACCEPT_ENCODING, Coding::ACCEPT);
            }
            Some(codings) if codings.is_empty() => {}
            Some(codings) => {
                let body = mem::take(request.reader());
                let body = decode(request.headers_mut(), body, &codings, |coding, body| Decoder {
                    left: limit,
                    too_much: Some(too_long(limit)),
                    phase: Phase::RequestBody,
                    ..Decoder::new(coding, body)
                });
                *request.reader() = body;
            }
        }
        next.handle(request)
    }
}
