//! Idle connections. One that rests has no goroutine and nothing of hyper's: what is left is its
//! socket, its registration with the poller, and a task of a few hundred bytes that waits for the
//! socket.
//!
//! ```text
//!             idle for PATIENCE, nothing buffered                     readable
//!   goroutine ───────────────────────────────────> task, resting ──────────────> goroutine
//!                                                        │
//!                                                        └─ closed by the client, idle for too
//!                                                           long, or the server stops: it ends
//! ```
//!
//! The task peeks at the socket. So bytes stay there for the goroutine, and a connection that its
//! client closes ends without one. The socket's deadline for reading is the end of the idle time.
//! Stopping wakes the task as it wakes the goroutine: the task registers its waker before it looks
//! whether to stop.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use goby::{spawn, time, try_go};

use super::{FIRST_PAUSE, Job, LONGEST_PAUSE, Stopping, accept, connection};
use crate::handler::Handler;
use crate::stream::{Link, Stream};
use crate::tls::Tls;

/// What lasts of a connection, whether it is served or rests.
pub(super) struct Kept {
    pub(super) link: Arc<Link>,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) addr: SocketAddr,
    pub(super) stopping: Stopping,
    /// How many requests it has carried.
    pub(super) requests: u64,
    pub(super) has_rested: bool,
}

impl Kept {
    /// Waits until there is something to read. Ready with false if the connection is over.
    fn poll_wait(&self, cx: &mut TaskContext<'_>) -> Poll<bool> {
        if self.stopping.is_stopping() {
            return Poll::Ready(false);
        }
        // A failed peek is the end: the client has closed or broken the connection, or the idle
        // time is over.
        self.link.socket.poll_peek(cx, &mut [0]).map(|peeked| peeked.is_ok_and(|n| n > 0))
    }

    /// Rests until there is something to read. Returns false if the connection is over.
    async fn rest(&self) -> bool {
        poll_fn(|cx| {
            self.stopping.register(cx.waker().clone());
            Poll::Ready(())
        })
        .await;
        poll_fn(|cx| self.poll_wait(cx)).await
    }

    /// Tells the other side of a TLS session that it ends, if the socket takes that at once.
    async fn take_leave(&self) {
        if let Some(tls) = &self.tls {
            // Whatever comes of it, the connection is over.
            poll_fn(|cx| Poll::Ready(tls.poll_close(cx).is_ready())).await;
        }
    }
}

impl<H: Handler> Job<H> {
    /// Starts the goroutine of a connection.
    pub(super) fn go_on(self: Arc<Self>, kept: Kept) -> Result<(), String> {
        try_go(move || self.serve(kept)).map(drop).map_err(|error| error.to_string())
    }

    /// Serves a connection until it ends, or rests.
    fn serve(self: Arc<Self>, kept: Kept) {
        let served = if kept.has_rested {
            let stream = Stream::new(kept.link.clone(), kept.tls.clone());
            connection::serve(stream, kept, &self.handler, self.requests.clone(), &self.settings)
        } else {
            accept::serve(kept, &self)
        };
        if let Some(kept) = served {
            // In a box: a future would have room for it in each of its states.
            spawn(self.rest(Box::new(kept))).detach();
        }
    }

    async fn rest(self: Arc<Self>, kept: Box<Kept>) {
        if !kept.rest().await {
            return kept.take_leave().await;
        }
        let mut serve = move || self.serve(*kept);
        let mut pause = FIRST_PAUSE;
        // The runtime may have as many goroutines as it may have. The request waits in the socket.
        while let Err(refused) = try_go(serve) {
            serve = refused.into_inner();
            let over = time::after(pause);
            // An error means the same.
            let _ = Box::pin(async move { over.recv_async().await }).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}
