//! The answer to a request for a file that is open: its conditions, its ranges, and the body.
//!
//! ```text
//! if-match ──> if-unmodified-since ──> if-none-match ──> if-modified-since ──> range, if-range
//!   412              412                    304                 304              206, 416
//! ```

use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use goby::fs::{File, Metadata};
use http::header::{
    ACCEPT_RANGES, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, IF_MATCH, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE,
};
use http::{Method, StatusCode};
use httpdate::{fmt_http_date, parse_http_date};

use super::range::{Part, content_range, parse, part_head};
use crate::body::{Body, Source};
use crate::error::{Error, Phase};
use crate::response::Response;
use crate::server::Request;

/// How much is read at a time: one system call, on the worker if the bytes are in memory.
const PIECE: u64 = 64 << 10;

/// What tells one state of a file from another.
struct Version {
    tag: String,
    /// In whole seconds, as headers have it.
    changed: Option<SystemTime>,
}

impl Version {
    fn of(metadata: &Metadata) -> Version {
        let since = metadata.modified().ok().and_then(|changed| changed.duration_since(UNIX_EPOCH).ok());
        let tag = format!("\"{:x}-{:x}\"", since.unwrap_or_default().as_nanos(), metadata.len());
        // A date may not be later than the response.
        let changed = since.map(|since| (UNIX_EPOCH + Duration::from_secs(since.as_secs())).min(SystemTime::now()));
        Version { tag, changed }
    }

    /// Tells what the conditions of a request come to, if that is not the file.
    fn judge(&self, headers: &HeaderMap) -> Option<StatusCode> {
        if headers.contains_key(IF_MATCH) {
            if !self.is_among(headers, IF_MATCH, false) {
                return Some(StatusCode::PRECONDITION_FAILED);
            }
        } else if date(headers, IF_UNMODIFIED_SINCE).zip(self.changed).is_some_and(|(date, changed)| changed > date) {
            return Some(StatusCode::PRECONDITION_FAILED);
        }
        let is_known = if headers.contains_key(IF_NONE_MATCH) {
            self.is_among(headers, IF_NONE_MATCH, true)
        } else {
            date(headers, IF_MODIFIED_SINCE).zip(self.changed).is_some_and(|(date, changed)| changed <= date)
        };
        is_known.then_some(StatusCode::NOT_MODIFIED)
    }

    /// Returns whether a list of tags has this one. Weakly, `W/"x"` is `"x"`, too.
    fn is_among(&self, headers: &HeaderMap, name: HeaderName, weakly: bool) -> bool {
        let lists = headers.get_all(name);
        let mut tags =
            lists.iter().filter_map(|list| list.to_str().ok()).flat_map(|list| list.split(',')).map(str::trim);
        // Our tags have no comma.
        tags.any(|tag| tag == "*" || tag == self.tag || (weakly && tag.strip_prefix("W/") == Some(&self.tag)))
    }

    /// Returns whether a client may add a range to what it has.
    fn allows_range(&self, headers: &HeaderMap) -> bool {
        let Some(condition) = headers.get(IF_RANGE) else { return true };
        condition == self.tag.as_str() || date(headers, IF_RANGE).is_some_and(|date| self.changed == Some(date))
    }
}

fn date(headers: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    parse_http_date(headers.get(name)?.to_str().ok()?).ok()
}

/// Answers a `GET` or `HEAD` with a file.
pub(super) fn file(request: &Request, path: &Path, file: File, metadata: &Metadata) -> Response {
    let version = Version::of(metadata);
    let headers = request.headers();
    let response = match version.judge(headers) {
        Some(StatusCode::NOT_MODIFIED) => Response::new(()).with_status(StatusCode::NOT_MODIFIED),
        Some(status) => return status.into(),
        None => {
            // Only of a GET (RFC 9110, section 14.2).
            let range = headers.get(RANGE).filter(|_| request.method() == Method::GET && version.allows_range(headers));
            let part =
                range.and_then(|range| range.to_str().ok()).map_or(Part::Whole, |range| parse(range, metadata.len()));
            give(part, path, file, metadata.len())
        }
    };
    // The body of a 416 is not the file.
    if response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
        return response;
    }
    let response = response.with_header(ETAG, version.tag);
    match version.changed {
        Some(changed) => response.with_header(LAST_MODIFIED, fmt_http_date(changed)),
        None => response,
    }
}

/// Makes the response of a part of a file, or of all of it.
fn give(part: Part, path: &Path, file: File, len: u64) -> Response {
    let kind = media_type(path);
    let response = match part {
        Part::Missing => {
            let response = Response::from(StatusCode::RANGE_NOT_SATISFIABLE);
            return response.with_header(CONTENT_RANGE, format!("bytes */{len}"));
        }
        Part::Whole => Response::new(Pieces::body(file, [Piece::Range(0..len)])).with_header(CONTENT_TYPE, kind),
        Part::One(range) => {
            let content_range = content_range(&range, len);
            Response::new(Pieces::body(file, [Piece::Range(range)]))
                .with_status(StatusCode::PARTIAL_CONTENT)
                .with_header(CONTENT_RANGE, content_range)
                .with_header(CONTENT_TYPE, kind)
        }
        Part::Several(ranges) => {
            // Bytes that no file has but by chance.
            let boundary = format!("{:016x}{:016x}", RandomState::new().hash_one(0), RandomState::new().hash_one(1));
            let mut pieces = Vec::with_capacity(2 * ranges.len() + 1);
            for range in ranges {
                let line_end = if pieces.is_empty() { "" } else { "\r\n" };
                let head = part_head(&boundary, &kind, &range, len);
                pieces.extend([Piece::Text((line_end.to_owned() + &head).into()), Piece::Range(range)]);
            }
            pieces.push(Piece::Text(format!("\r\n--{boundary}--\r\n").into()));
            Response::new(Pieces::body(file, pieces))
                .with_status(StatusCode::PARTIAL_CONTENT)
                .with_header(CONTENT_TYPE, format!("multipart/byteranges; boundary={boundary}"))
        }
    };
    response.with_header(ACCEPT_RANGES, "bytes")
}

/// Tells the type of a file by its name.
fn media_type(path: &Path) -> String {
    let kind = mime_guess::from_path(path).first_raw().unwrap_or("application/octet-stream");
    let is_text = kind.starts_with("text/") || kind == "application/javascript";
    if is_text { format!("{kind}; charset=utf-8") } else { kind.to_owned() }
}

/// The source of a body that consists of parts of a file, and of text between them.
struct Pieces {
    file: File,
    pieces: VecDeque<Piece>,
    left: u64,
}

enum Piece {
    Text(Bytes),
    Range(Range<u64>),
}

impl Piece {
    fn len(&self) -> u64 {
        match self {
            Piece::Text(text) => text.len() as u64,
            Piece::Range(range) => range.end - range.start,
        }
    }
}

impl Pieces {
    fn body(file: File, pieces: impl IntoIterator<Item = Piece>) -> Body {
        let pieces: VecDeque<_> = pieces.into_iter().filter(|piece| piece.len() > 0).collect();
        let left = pieces.iter().map(Piece::len).sum();
        if left == 0 { Body::empty() } else { Body::from_source(Pieces { file, pieces, left }) }
    }
}

impl Source for Pieces {
    fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let chunk = match self.pieces.pop_front() {
            None => return Ok(None),
            Some(Piece::Text(text)) => text,
            Some(Piece::Range(range)) => {
                let failed = |error| Error::new(Phase::Produce, error);
                let mut chunk = vec![0; (range.end - range.start).min(PIECE) as usize];
                let n = self.file.read_at(&mut chunk, range.start).map_err(failed)?;
                if n == 0 {
                    return Err(failed(io::Error::new(io::ErrorKind::UnexpectedEof, "the file has become shorter")));
                }
                let rest = range.start + n as u64..range.end;
                if !rest.is_empty() {
                    self.pieces.push_front(Piece::Range(rest));
                }
                chunk.truncate(n);
                chunk.into()
            }
        };
        self.left -= chunk.len() as u64;
        Ok(Some(chunk))
    }

    fn remaining(&self) -> Option<u64> {
        Some(self.left)
    }
}
