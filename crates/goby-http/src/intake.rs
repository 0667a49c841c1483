//! The way of bytes to hyper. The intake follows each head, because a head may have fields that
//! hyper has no room for ([`Head`]).
//!
//! For that it has to know where a head begins. A client knows: behind a request comes the head of
//! its response. A server follows its connection. First hyper is given a head and nothing behind
//! it. Then the driver sees the request and says how long the body is, and hyper is given that body
//! and nothing behind it. Only hyper decodes a body of unknown length. Behind such a body, the
//! place is known again if its reader came to its end and the bytes end as such a body does.
//! Otherwise, as behind a body that nobody read, the rest of the connection is hyper's, with its
//! limit of 100 fields.
//!
//! ```text
//!     Head ── empty line ──> Behind ── expect_body ──┬─ 0 ────────────────────────────> Head
//!                                                    ├─ len ──> Body ── all of it ────> Head
//!                                                    └─ none ─> Chunked ── complete ──> Head, or Anywhere
//! ```

use std::mem;
use std::sync::atomic::Ordering;

use hyper::rt::ReadBufCursor;

use crate::head::{Head, Taken};
use crate::stream::{CHUNKED, COMPLETE, Link, UNSEEN};

/// Where in the messages the next byte is.
enum Place {
    /// In a head, or before one.
    Head,
    /// Behind a head that hyper has yet to parse: what follows is not known.
    Behind,
    /// In a body of which so many bytes are still to come.
    Body(u64),
    /// In a body of unknown length; the last bytes that came of it.
    Chunked([u8; 4]),
    /// Not known, or not needed, as where a client reads a body: hyper is given whatever comes.
    Anywhere,
}

/// Passes bytes on to hyper, and follows heads for the fields that hyper has no room for.
pub(crate) struct Intake {
    place: Place,
    head: Head,
    /// Bytes for hyper, for which its buffer had no room.
    ready: Vec<u8>,
    /// Bytes that came behind a head.
    behind: Vec<u8>,
}

impl Intake {
    pub(crate) fn new(link: &Link) -> Intake {
        let place = if link.is_client { Place::Anywhere } else { Place::Head };
        Intake { place, head: Head::default(), ready: Vec::new(), behind: Vec::new() }
    }

    /// Takes `first`, which has been read already.
    pub(crate) fn put(&mut self, first: Vec<u8>) {
        self.behind = first;
    }

    /// Gives hyper whatever comes.
    pub(crate) fn give_all(&mut self) {
        self.place = Place::Anywhere;
    }

    /// Whether hyper has all of a head that its driver has not seen yet.
    pub(crate) fn is_behind_head(&self) -> bool {
        matches!(self.place, Place::Behind)
    }

    /// Gives hyper bytes again that it has read and not used. Returns whether there are any bytes
    /// for hyper.
    pub(crate) fn give_back(&mut self, bytes: &[u8]) -> bool {
        self.ready.splice(..0, bytes.iter().copied());
        let is_in_head = !matches!(self.place, Place::Head | Place::Anywhere) || !self.head.is_empty();
        is_in_head || !self.ready.is_empty() || !self.behind.is_empty()
    }

    /// Takes the bytes that hyper has not been given; `unread` are those that it gives back.
    pub(crate) fn leave(mut self, unread: &[u8]) -> Vec<u8> {
        [unread, &self.ready, &self.head.unfinished(), &self.behind].concat()
    }

    /// Readies for hyper what was held back of a head that breaks off; false if there is nothing.
    pub(crate) fn give_up_head(&mut self) -> bool {
        self.ready = self.head.unfinished();
        !self.ready.is_empty()
    }

    /// Learns from the link how the messages go on.
    pub(crate) fn look(&mut self, link: &Link) {
        if link.is_client {
            if link.awaits_head.load(Ordering::Relaxed) {
                link.awaits_head.store(false, Ordering::Relaxed);
                (self.place, self.head) = (Place::Head, Head::default());
            }
            return;
        }
        let body = link.body.load(Ordering::Relaxed);
        self.place = match (&self.place, body) {
            (Place::Behind, CHUNKED) => Place::Chunked([0; 4]),
            (Place::Chunked(last), CHUNKED) => Place::Chunked(*last),
            // hyper may have been given the beginning of the next head behind the body. It was not
            // if all that came ends as a body does.
            (Place::Chunked([b'\r', b'\n', b'\r', b'\n']), COMPLETE) => Place::Head,
            (Place::Behind, 0) => Place::Head,
            (Place::Behind, len) if len < COMPLETE => Place::Body(len),
            (Place::Head | Place::Behind | Place::Body(_), UNSEEN) => return,
            // hyper has seen a head that was not followed here.
            _ => {
                link.note_unfollowed();
                Place::Anywhere
            }
        };
        if body != CHUNKED {
            link.body.store(UNSEEN, Ordering::Relaxed);
        }
    }

    /// Takes bytes that have come. `cursor` has room for all of them.
    pub(crate) fn take(&mut self, link: &Link, mut bytes: &[u8], cursor: &mut ReadBufCursor<'_>) {
        while !bytes.is_empty() {
            match &mut self.place {
                Place::Head => {
                    let Taken { plain, consumed, ended } = self.head.take(bytes, link.max_head);
                    self.give(&bytes[..plain], cursor);
                    if !self.head.released.is_empty() {
                        let released = mem::take(&mut self.head.released);
                        self.give(&released, cursor);
                    }
                    bytes = &bytes[consumed..];
                    if ended {
                        let head = mem::take(&mut self.head);
                        if link.is_client && head.is_interim() {
                            continue;
                        }
                        link.note_length(head.has_length);
                        if !head.surplus.is_empty() || head.too_long {
                            link.note_unusual(head);
                        }
                        self.place = if link.is_client { Place::Anywhere } else { Place::Behind };
                    }
                }
                Place::Behind => {
                    self.behind.extend_from_slice(bytes);
                    return;
                }
                Place::Body(left) => {
                    let n = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= n as u64;
                    if *left == 0 {
                        self.place = Place::Head;
                    }
                    self.give(&bytes[..n], cursor);
                    bytes = &bytes[n..];
                }
                Place::Chunked(last) => {
                    // Keep the last four bytes that came.
                    let new = &bytes[bytes.len().saturating_sub(4)..];
                    last.rotate_left(new.len());
                    last[4 - new.len()..].copy_from_slice(new);
                    return self.give(bytes, cursor);
                }
                Place::Anywhere => return self.give(bytes, cursor),
            }
        }
    }

    /// Gives bytes to hyper, now or with the next read.
    fn give(&mut self, bytes: &[u8], cursor: &mut ReadBufCursor<'_>) {
        let n = if self.ready.is_empty() { bytes.len().min(cursor.remaining()) } else { 0 };
        cursor.put_slice(&bytes[..n]);
        self.ready.extend_from_slice(&bytes[n..]);
    }

    /// Gives hyper what is stored here, before anything else is read; false if there is nothing.
    pub(crate) fn take_stored(&mut self, link: &Link, cursor: &mut ReadBufCursor<'_>) -> bool {
        let most = cursor.remaining();
        if !self.ready.is_empty() {
            let mut ready = mem::take(&mut self.ready);
            self.ready = ready.split_off(ready.len().min(most));
            cursor.put_slice(&ready);
        } else if !self.behind.is_empty() {
            let mut behind = mem::take(&mut self.behind);
            let rest = behind.split_off(behind.len().min(most));
            self.take(link, &behind, cursor);
            self.behind.extend(rest);
        } else {
            return false;
        }
        true
    }
}
