//! The tasks that wait for the stream beneath, per direction.
//!
//! A stream that is polled keeps one waker for each direction, the last one given. But the two
//! halves of TLS both need both directions: in the handshake each of them reads and writes, and a
//! reader sends the answers that the protocol asks for. So each direction has a list here. If one
//! waits, its own waker goes down to the stream. If several wait, the list itself is the waker, and
//! wakes all of them.
//!
//! Nobody is lost: the list is looked at, the stream polled and the list extended under the lock of
//! the session, so nobody replaces a waker in the stream without knowing whose it is. Without that
//! lock, wakers are only taken out: by the list when it wakes them, and by their owner at its end.
//!
//! One more list has the futures that wait for that lock itself. A goroutine parks for it. A future
//! must not: it would hold up its worker, on which the goroutine may be that gets the lock next.

use std::sync::Arc;
use std::task::{Poll, Wake, Waker};
use std::{mem, task};

use parking_lot::Mutex;

/// One that waits. The futures that read have one identity, since the last waker given counts, and
/// so have those that write. Each call that parks has its own.
pub(super) type Who = u64;

pub(super) const READING_FUTURE: Who = 0;
pub(super) const WRITING_FUTURE: Who = 1;
pub(super) const FIRST_CALL: Who = 2;

/// The wakers of those that wait for one direction.
#[derive(Default)]
pub(super) struct Waits {
    wakers: Mutex<Vec<(Who, Waker)>>,
}

impl Waits {
    /// Polls the stream for `who`. The caller holds the session's lock.
    pub(super) fn poll<R>(
        self: &Arc<Waits>,
        who: Who,
        cx: &mut task::Context<'_>,
        poll: impl FnOnce(&mut task::Context<'_>) -> Poll<R>,
    ) -> Poll<R> {
        let polled = if self.has_others(who) {
            // Before the poll, because the list may be woken at once.
            self.enter(who, cx.waker());
            poll(&mut task::Context::from_waker(&Waker::from(self.clone())))
        } else {
            let polled = poll(cx);
            if polled.is_pending() {
                self.enter(who, cx.waker());
            }
            polled
        };
        if polled.is_ready() {
            self.leave(who);
        }
        polled
    }

    /// Calls `attempt` for `who`; if it fails, registers the waker and tries once more.
    ///
    /// Whoever lets attempts succeed again drops a [`WakeAll`] after that. Either this finds the
    /// waker, or it has looked at the list before; then the second attempt sees what was done
    /// before that look, by the list's lock.
    pub(super) fn attempt<R>(&self, who: Who, cx: &mut task::Context<'_>, attempt: impl Fn() -> Option<R>) -> Poll<R> {
        if let Some(result) = attempt() {
            return Poll::Ready(result);
        }
        self.enter(who, cx.waker());
        match attempt() {
            Some(result) => {
                self.leave(who);
                Poll::Ready(result)
            }
            None => Poll::Pending,
        }
    }

    fn wake_all(&self) {
        let wakers = mem::take(&mut *self.wakers.lock());
        for (_, waker) in wakers {
            waker.wake();
        }
    }

    fn has_others(&self, who: Who) -> bool {
        self.wakers.lock().iter().any(|(other, _)| *other != who)
    }

    fn enter(&self, who: Who, waker: &Waker) {
        let mut waker = waker.clone();
        let mut wakers = self.wakers.lock();
        match wakers.iter_mut().find(|(other, _)| *other == who) {
            Some((_, old)) => mem::swap(old, &mut waker),
            None => {
                wakers.push((who, waker));
                return;
            }
        }
        // The old waker is foreign code: dropped without the lock.
        drop(wakers);
        drop(waker);
    }

    fn leave(&self, who: Who) {
        let mut wakers = self.wakers.lock();
        let index = wakers.iter().position(|(other, _)| *other == who);
        let waker = index.map(|index| wakers.swap_remove(index));
        drop(wakers);
        drop(waker);
    }
}

impl Wake for Waits {
    fn wake(self: Arc<Waits>) {
        self.wake_all();
    }
}

/// Wakes all at its end.
pub(super) struct WakeAll<'a>(pub(super) &'a Waits);

impl Drop for WakeAll<'_> {
    fn drop(&mut self) {
        self.0.wake_all();
    }
}

/// Takes a call out of both lists at its end.
pub(super) struct Leave<'a> {
    pub(super) who: Who,
    pub(super) waits: &'a [Arc<Waits>; 2],
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.waits.iter().for_each(|waits| waits.leave(self.who));
    }
}
