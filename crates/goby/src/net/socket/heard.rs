//! What else ends the wait of a socket that is polled, told to the code that polls it.
//!
//! A call of TLS parks its goroutine for a stream that it only polls, maybe through streams of the
//! user's. Reports are to show that a deadline or a context of the socket ends that wait, and the
//! leak detector is to know it. So the call listens while it polls, by a thread-local, and a socket
//! that is not ready tells it. Where nobody listens that costs a load.
//!
//! A stream of the user's may park inside its poll, and then its neighbors' calls listen as well:
//! in the worst case a report, or the leak detector, misses a limit. Nothing here keeps a socket
//! alive.

use std::cell::RefCell;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Weak};
use std::task::{self, Poll};

use goby_runtime::{Direction, let_go_shared};

use super::{Shared, Socket};
use crate::Context;

/// More than a stream has directions.
const MOST: usize = 4;

thread_local! {
    /// What the sockets have told the call that listens; none if none does.
    static HEARD: RefCell<Option<Vec<Box<dyn Limits>>>> = const { RefCell::new(None) };
}

/// The limits of a wait, as they are when asked.
trait Limits {
    fn have_context(&self) -> bool;
    fn have_deadline(&self) -> bool;
}

struct Wait<T: AsFd> {
    socket: Weak<Shared<T>>,
    direction: Direction,
}

impl<T: AsFd + Send + Sync + 'static> Wait<T> {
    fn ask(&self, ask: impl FnOnce(&Shared<T>) -> bool) -> bool {
        let Some(socket) = self.socket.upgrade() else { return false };
        let answer = ask(&socket);
        // A scheduler may ask.
        let_go_shared(socket);
        answer
    }
}

impl<T: AsFd + Send + Sync + 'static> Limits for Wait<T> {
    fn have_context(&self) -> bool {
        self.ask(|socket| socket.state.lock().context.as_ref().is_some_and(Context::can_end))
    }

    fn have_deadline(&self) -> bool {
        self.ask(|socket| socket.has_deadline(self.direction))
    }
}

impl<T: AsFd + Send + Sync + 'static> Socket<T> {
    /// Registers the waker of `cx` for an edge after the first `edges`, and tells the call that
    /// listens of the limits of that wait.
    pub(super) fn poll_wait(
        &self,
        direction: Direction,
        edges: usize,
        cx: &mut task::Context<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = self.shared.poll_wait(direction, edges, cx);
        if polled.is_pending() {
            // While a thread ends, nobody listens.
            let _ = HEARD.try_with(|heard| {
                if let Some(heard) = heard.borrow_mut().as_mut().filter(|heard| heard.len() < MOST) {
                    heard.push(Box::new(Wait { socket: Arc::downgrade(&self.shared), direction }));
                }
            });
        }
        polled
    }
}

/// What a call that polls sockets has heard of their limits, in its last poll.
#[cfg(feature = "tls")]
#[derive(Default)]
pub(crate) struct Heard(RefCell<Vec<Box<dyn Limits>>>);

#[cfg(feature = "tls")]
impl Heard {
    /// Listens during a poll.
    pub(crate) fn hear<R>(&self, poll: impl FnOnce() -> R) -> R {
        let mut empty = self.0.take();
        empty.clear();
        let _listens = Listens { heard: self, outer: HEARD.replace(Some(empty)) };
        poll()
    }

    pub(crate) fn have_context(&self) -> bool {
        self.0.borrow().iter().any(|limits| limits.have_context())
    }

    /// May be called while the goroutine is parked, by its scheduler.
    pub(crate) fn have_deadline(&self) -> bool {
        self.0.borrow().iter().any(|limits| limits.have_deadline())
    }
}

/// Puts back at its end, after a panic too, who listened before.
#[cfg(feature = "tls")]
struct Listens<'a> {
    heard: &'a Heard,
    outer: Option<Vec<Box<dyn Limits>>>,
}

#[cfg(feature = "tls")]
impl Drop for Listens<'_> {
    fn drop(&mut self) {
        self.heard.0.replace(HEARD.replace(self.outer.take()).unwrap_or_default());
    }
}
