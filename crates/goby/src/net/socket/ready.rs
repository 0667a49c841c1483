//! Channels that are closed when a socket is ready in one direction: the cases of a `select!` that
//! waits for a socket.
//!
//! Readiness is a *level*: an operation would not wait now. The poller tells of *edges*. So a
//! caller asks the system first, by `poll`, and gets a channel that is closed already if the socket
//! is ready. Otherwise it gets the direction's channel, which the next edge closes. Until then that
//! channel says by itself that the socket is not ready, and further callers get it without asking
//! the system. A socket that is never asked for a channel pays nothing.
//!
//! The edge may be one of data that somebody has read since. So the system is asked again at the
//! edge, and if the socket is not ready, the channel waits for the next one. No edge is lost
//! between the question and the wait: the wait is for an edge after the count that was read before
//! the question.
//!
//! A limit that is reached (a deadline, a context, closing) closes the channel too, since an
//! operation would fail at once. The channel is made, and taken out, under the lock of `state`, as
//! the limits are noted: a caller either sees the limit or leaves its channel for it. Whoever takes
//! a channel out drops it outside the lock.

use std::convert::Infallible;
use std::sync::Weak;

use goby_runtime::Watcher;
use once_cell::sync::Lazy;
use rustix::event::{PollFd, PollFlags, Timespec};

use super::{Arc, AsFd, Direction, READ_LATE, Shared, Socket, State, Verdict, WRITE_LATE, checkpoint, let_go_shared};
use crate::chan::{self, Receiver, Sender};

/// The channel of a direction that is not ready. Dropping it closes the channel.
pub(super) struct Ready {
    _sender: Sender<Infallible>,
    receiver: Receiver<Infallible>,
}

impl Ready {
    fn new() -> Ready {
        let (sender, receiver) = chan::bounded(0);
        Ready { _sender: sender, receiver }
    }
}

/// What the poller calls at an edge. Weak: the socket owns it.
struct Edge<T: AsFd> {
    shared: Weak<Shared<T>>,
    direction: Direction,
}

impl<T: AsFd + Send + Sync + 'static> Watcher for Edge<T> {
    fn edge(&self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.tell_if_ready(self.direction);
            let_go_shared(shared);
        }
    }
}

/// Returns a channel that is closed.
fn closed() -> Receiver<Infallible> {
    static CLOSED: Lazy<Receiver<Infallible>> = Lazy::new(|| chan::bounded(0).1);
    CLOSED.clone()
}

impl State {
    /// Takes out the channels of the directions that a limit ends.
    pub(super) fn ready_at(&mut self, bit: u8) -> [Option<Ready>; 2] {
        match bit {
            READ_LATE => [self.read.ready.take(), None],
            WRITE_LATE => [None, self.write.ready.take()],
            _ => [self.read.ready.take(), self.write.ready.take()],
        }
    }
}

impl<T: AsFd + Send + Sync + 'static> Socket<T> {
    /// Returns a channel that is closed when an operation in this direction would not wait, or
    /// would fail.
    pub(crate) fn ready(&self, direction: Direction) -> Receiver<Infallible> {
        checkpoint();
        let shared = &self.shared;
        if let Some(ready) = &shared.state.lock().half(direction).ready {
            return ready.receiver.clone();
        }
        let edges = self.edges(direction);
        if shared.look(direction).is_err() || shared.is_ready(direction, edges) {
            return closed();
        }
        let receiver = {
            let mut state = shared.state.lock();
            if !matches!(shared.examine(&state, direction), Verdict::Clear) {
                return closed();
            }
            state.half(direction).ready.get_or_insert_with(Ready::new).receiver.clone()
        };
        if !shared.watch(direction, edges) {
            shared.tell_if_ready(direction);
        }
        receiver
    }
}

impl<T: AsFd + Send + Sync + 'static> Shared<T> {
    /// Closes the channel if the direction is ready, otherwise at an edge to come.
    fn tell_if_ready(self: &Arc<Self>, direction: Direction) {
        loop {
            let edges = self.source.edges(direction);
            if self.is_ready(direction, edges) {
                let ready = self.state.lock().half(direction).ready.take();
                drop(ready);
                return;
            }
            if self.watch(direction, edges) {
                return;
            }
        }
    }

    /// Returns false if there has been an edge after the first `edges`.
    fn watch(self: &Arc<Self>, direction: Direction, edges: usize) -> bool {
        let edge = Arc::new(Edge { shared: Arc::downgrade(self), direction });
        self.source.watch(direction, edges, edge).unwrap_or_else(|_| {
            // It cannot be registered: the operation will say why.
            let ready = self.state.lock().half(direction).ready.take();
            drop(ready);
            true
        })
    }

    /// Asks the system whether an operation would not wait; `edges` was read before.
    fn is_ready(&self, direction: Direction, edges: usize) -> bool {
        let flags = match direction {
            Direction::Read if self.drained() == Some(edges) => return false,
            Direction::Read => PollFlags::IN,
            Direction::Write => PollFlags::OUT,
        };
        let mut fds = [PollFd::new(self.source.get_ref(), flags)];
        // An error, which the operation will have too, counts as ready.
        rustix::event::poll(&mut fds, Some(&Timespec::default())) != Ok(0)
    }
}
