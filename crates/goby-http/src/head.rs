//! Heads with more fields than hyper takes.
//!
//! hyper has room for 100 fields on its stack, and more room costs time per message (1,024: 1.8 µs,
//! 8,192: 400 µs, measured). So hyper is given only what it needs of a longer head: the first
//! lines, and those further lines that say how the message is framed. The *surplus* bypasses hyper,
//! and is added to the headers that hyper made of the rest. The limit of a head is its length in
//! bytes.
//!
//! The reader has to know where a head begins. The head has to end here where it ends for hyper:
//!
//! ```text
//!            first line ── lines, up to PLAIN ──┬── empty line ──> over: what follows is the body, or the next head
//!                                               └── further lines, held back until the empty line
//! ```
//!
//! Lines end as they do for httparse: with a line feed, with or without a carriage return. If a
//! surplus line is not a valid field, hyper is given the whole head as it is, and refuses it.

use std::io::BufRead as _;
use std::mem;

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderName, HeaderValue, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};

/// Lines that hyper is given as they come, the first one included. hyper takes 100 fields; the rest
/// are left for the lines that it needs.
const PLAIN: usize = 81;
/// How many bytes of the first line tell of an interim response.
const FIRST: usize = 12;
/// How many bytes a head may have of which some are held back: about what hyper has room for.
pub(crate) const MAX_HEAD: usize = 400 << 10;
/// How many fields may bypass hyper: together with its own they are not more than a `HeaderMap`
/// takes.
const MAX_SURPLUS: usize = 20_000;

/// The fields that hyper needs itself. (`HOST` is here because the server counts the hosts.)
const FRAMING: [HeaderName; 8] = [CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];

/// Follows the lines of one head.
#[derive(Default)]
pub(crate) struct Head {
    /// Complete lines, the first one included.
    lines: usize,
    /// Bytes of the line that has begun, and whether they are a carriage return alone.
    line: usize,
    is_return: bool,
    /// Bytes that hyper was given as they came.
    plain: usize,
    /// How the first line begins.
    first: [u8; FIRST],
    /// How the line begins, if it comes in pieces.
    start: [u8; LENGTH.len()],
    /// A line begins as a `Content-Length` does.
    pub(crate) has_length: bool,
    /// It is longer than the limit, so hyper is given all that comes.
    pub(crate) too_long: bool,
    /// Bytes that came behind the plain lines.
    held: Vec<u8>,
    /// The part of them that hyper is to be given.
    pub(crate) released: Vec<u8>,
    /// The fields that bypass hyper.
    pub(crate) surplus: Surplus,
}

/// Fields that hyper has not seen.
pub(crate) type Surplus = Vec<(HeaderName, HeaderValue)>;

/// What [`Head::take`] did with a piece of a head.
pub(crate) struct Taken {
    /// The number of first bytes that hyper is given as they are.
    pub(crate) plain: usize,
    /// The number of bytes that belong to the head: plain, or held back.
    pub(crate) consumed: usize,
    /// The head is over.
    pub(crate) ended: bool,
}

impl Head {
    /// Follows `bytes`. The caller gives hyper the plain ones, then what is `released`. A head of
    /// more than `most` bytes is hyper's, which refuses it.
    pub(crate) fn take(&mut self, bytes: &[u8], most: usize) -> Taken {
        let mut taken = Taken { plain: 0, consumed: 0, ended: false };
        while taken.consumed < bytes.len() && !taken.ended {
            let rest = &bytes[taken.consumed..];
            let end = line_end(rest);
            let piece = &rest[..end.map_or(rest.len(), |n| n + 1)];
            let content = &piece[..end.unwrap_or(piece.len())];
            if self.lines == 0 {
                let room = &mut self.first[self.line.min(FIRST)..];
                let n = room.len().min(content.len());
                room[..n].copy_from_slice(&content[..n]);
            }
            match end {
                Some(_) if self.line == 0 => self.has_length |= names_length(content),
                _ => self.look_at_piece(content),
            }
            // A line is empty if it has no bytes, or only a carriage return. It may come in pieces.
            self.is_return = if self.line == 0 { content == b"\r" } else { self.is_return && content.is_empty() };
            self.line += content.len();
            taken.consumed += piece.len();
            if self.lines < PLAIN || self.too_long {
                taken.plain = taken.consumed;
            } else {
                self.held.extend_from_slice(piece);
            }
            if end.is_some() {
                let is_empty = self.line == 0 || self.is_return;
                (self.line, self.is_return) = (0, false);
                // Empty lines before the first one are skipped.
                taken.ended = is_empty && self.lines > 0;
                self.lines += usize::from(!is_empty);
            }
        }
        self.plain += taken.plain;
        if self.held.len() + self.plain > most {
            self.too_long = true;
            self.released.append(&mut self.held);
        } else if taken.ended && !self.held.is_empty() {
            self.divide();
        }
        taken
    }

    /// Looks at a piece of a line for what the line begins with.
    #[cold]
    fn look_at_piece(&mut self, piece: &[u8]) {
        let most = self.start.len();
        for (byte, next) in self.start[self.line.min(most)..].iter_mut().zip(piece) {
            *byte = *next;
        }
        self.has_length |= names_length(&self.start[..most.min(self.line + piece.len())]);
    }

    /// Whether nothing of it has come.
    pub(crate) fn is_empty(&self) -> bool {
        self.lines == 0 && self.line == 0
    }

    /// Whether this is the head of an interim response, which another head follows.
    pub(crate) fn is_interim(&self) -> bool {
        let [b'H', b'T', b'T', b'P', b'/', b'1', b'.', _, b' ', b'1', tens, ones] = self.first else { return false };
        // 101 is final: the other side switches protocols.
        [tens, ones] != *b"01"
    }

    /// Gives up what was held back of a head that is not finished.
    pub(crate) fn unfinished(&mut self) -> Vec<u8> {
        mem::take(&mut self.held)
    }

    /// Divides what was held back.
    fn divide(&mut self) {
        let held = mem::take(&mut self.held);
        match divide(&held) {
            Some((kept, surplus)) => (self.released, self.surplus) = (kept, surplus),
            None => self.released = held,
        }
    }
}

/// Where the first line feed is. std looks at many bytes at once, which a loop over them does not.
fn line_end(mut bytes: &[u8]) -> Option<usize> {
    let all = bytes;
    let n = bytes.skip_until(b'\n').expect("memory can be read");
    all[..n].ends_with(b"\n").then(|| n - 1)
}

const LENGTH: &[u8; 14] = b"content-length";

/// Whether a line begins as a `Content-Length` does.
#[inline]
fn names_length(line: &[u8]) -> bool {
    matches!(line.first(), Some(b'C' | b'c'))
        && line.get(..LENGTH.len()).is_some_and(|name| name.eq_ignore_ascii_case(LENGTH))
}

/// Divides lines into those that hyper needs and the fields of the others; `None` if one of them is
/// not a valid field. A field over several lines is not valid here; no server is known that sends
/// one among so many others.
fn divide(held: &[u8]) -> Option<(Vec<u8>, Surplus)> {
    let (mut kept, mut surplus) = (Vec::new(), Surplus::new());
    for line in held.split_inclusive(|byte| *byte == b'\n') {
        let text = line.strip_suffix(b"\n")?;
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if text.is_empty() {
            kept.extend_from_slice(line);
            continue;
        }
        let colon = text.iter().position(|byte| *byte == b':')?;
        // A name with a space before or after it is not valid.
        let name = HeaderName::from_bytes(&text[..colon]).ok()?;
        if FRAMING.contains(&name) {
            kept.extend_from_slice(line);
        } else {
            surplus.push((name, HeaderValue::from_bytes(trim(&text[colon + 1..])).ok()?));
        }
    }
    if surplus.len() <= MAX_SURPLUS { Some((kept, surplus)) } else { None }
}

/// Takes the spaces and tabs around a value away. `trim_ascii` would take carriage returns, too.
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives `text` to a head in pieces of this size. Returns what hyper gets, the surplus, and
    /// what is left behind the head.
    fn follow(text: &str, size: usize) -> (String, Vec<String>, Option<usize>) {
        let (mut head, mut out) = (Head::default(), Vec::new());
        for (n, piece) in text.as_bytes().chunks(size).enumerate() {
            let taken = head.take(piece, MAX_HEAD);
            out.extend_from_slice(&piece[..taken.plain]);
            out.append(&mut head.released);
            if taken.ended {
                let fields = head.surplus.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
                let left = text.len() - n * size - taken.consumed;
                return (String::from_utf8(out).unwrap(), fields.collect(), Some(left));
            }
            assert_eq!(taken.consumed, piece.len());
        }
        out.append(&mut head.unfinished());
        (String::from_utf8(out).unwrap(), Vec::new(), None)
    }

    #[test]
    fn a_short_head_is_given_unfollowed() {
        for text in ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "\r\n\nGET / HTTP/1.1\nHost: a\n\n"] {
            for size in 1..=text.len() {
                assert_eq!(follow(text, size), (text.to_owned(), Vec::new(), Some(0)));
            }
            let more = format!("{text}rest");
            assert_eq!(follow(&more, more.len()), (text.to_owned(), Vec::new(), Some(4)));
        }
        let unfinished = "GET / HTTP/1.1\r\nHost: a\r\n\r";
        assert_eq!(follow(unfinished, 7), (unfinished.to_owned(), Vec::new(), None));
    }

    #[test]
    fn the_surplus_of_a_long_head_goes_round_hyper() {
        let plain = format!("GET / HTTP/1.1\r\n{}", "a: b\r\n".repeat(PLAIN - 1));
        let text = format!("{plain}c:  d \r\nContent-Length: 4\r\ne:f\nHost: a\r\n\r\n");
        let fields = vec!["c: d".to_owned(), "e: f".to_owned()];
        for size in 1..=text.len() {
            let given = format!("{plain}Content-Length: 4\r\nHost: a\r\n\r\n");
            assert_eq!(follow(&text, size), (given, fields.clone(), Some(0)), "in pieces of {size}");
        }
    }

    #[test]
    fn a_long_head_that_is_not_proper_is_left_to_hyper() {
        let plain = format!("GET / HTTP/1.1\r\n{}", "a: b\r\n".repeat(PLAIN - 1));
        for line in ["no colon", "c : d", " c: d", "c: \u{1}", ": d", "c: d\re", "c: d\r", "c: \u{c}d"] {
            let text = format!("{plain}{line}\r\n\r\n");
            assert_eq!(follow(&text, text.len()), (text.clone(), Vec::new(), Some(0)), "{line:?}");
        }
    }

    #[test]
    fn a_length_is_seen_wherever_it_stands() {
        let many = "a: b\r\n".repeat(PLAIN);
        for (fields, has_length) in [
            ("Content-Length: 4\r\nb: c", true),
            ("b: c\r\ncontent-length:4", true),
            (&format!("{many}CONTENT-LENGTH: 4"), true),
            ("Content-Type: text", false),
            ("b: Content-Length: 4", false),
            ("", false),
        ] {
            let text = format!("GET /content-length HTTP/1.1\r\n{fields}\r\n\r\n");
            for size in 1..=text.len() {
                let mut head = Head::default();
                text.as_bytes().chunks(size).for_each(|piece| _ = head.take(piece, MAX_HEAD));
                assert_eq!(head.has_length, has_length, "{fields:?} in pieces of {size}");
            }
        }
    }

    #[test]
    fn interim_heads_are_told_from_others() {
        let check = |line: &str, is_interim| {
            for size in [1, 5, 100] {
                let mut head = Head::default();
                for piece in format!("\r\n{line}\r\n\r\n").as_bytes().chunks(size) {
                    head.take(piece, MAX_HEAD);
                }
                assert_eq!(head.is_interim(), is_interim, "{line}");
            }
        };
        check("HTTP/1.1 103 Early Hints", true);
        check("HTTP/1.1 100", true);
        check("HTTP/1.0 199 x", true);
        check("HTTP/1.1 101 Switching Protocols", false);
        check("HTTP/1.1 200 OK", false);
        check("HTTP/1.1", false);
    }
}
