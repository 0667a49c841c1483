//! The body of a request under way, which may wait for the server's go-ahead.
//!
//! A request with `expect: 100-continue` sends its head alone. Its body follows when the server
//! says so (`100 Continue`), or when it has said nothing for a while: not all servers know this. If
//! the server refuses the request (400 and above), the body is not sent. With any other answer it
//! follows, since the server may read it while it answers; curl does so, too. Source: RFC 9110,
//! section 10.1.1, and Go's `ExpectContinueTimeout`.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Context;
use std::time::Duration;

use http::header::EXPECT;
use http::{HeaderMap, StatusCode};
use hyper::rt::{Sleep, Timer as _};

use crate::body::{Feeder, Outgoing};
use crate::rt::Timer;

/// The body that is being sent.
pub(super) struct Upload {
    feeder: Feeder,
    gate: Option<Gate>,
}

/// What a body waits for.
struct Gate {
    /// The server has said that it wants the body. Relaxed: hyper says so in the goroutine that
    /// asks.
    open: Arc<AtomicBool>,
    limit: Duration,
    /// Started by the first wait, when the head has been written.
    sleep: Option<Pin<Box<dyn Sleep>>>,
}

impl Upload {
    pub(super) fn new(feeder: Feeder) -> Upload {
        Upload { feeder, gate: None }
    }

    /// Lets the body wait for the answer to `request`, for at most so long.
    pub(super) fn await_go_ahead(&mut self, request: &mut http::Request<Outgoing>, limit: Duration) {
        let open = Arc::new(AtomicBool::new(false));
        let answered = open.clone();
        hyper::ext::on_informational(request, move |response| {
            if response.status() == StatusCode::CONTINUE {
                answered.store(true, Ordering::Relaxed);
            }
        });
        self.gate = Some(Gate { open, limit, sleep: None });
    }

    /// Whether the next piece is to be got. If not, `cx` is woken when the wait for the server is
    /// over.
    pub(super) fn poll_wanted(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.feeder.is_wanted() {
            return false;
        }
        if let Some(gate) = &mut self.gate {
            let sleep = gate.sleep.get_or_insert_with(|| Timer.sleep(gate.limit));
            if !gate.open.load(Ordering::Relaxed) && sleep.as_mut().poll(cx).is_pending() {
                return false;
            }
            self.gate = None;
        }
        true
    }

    /// Whether the body still waits for the server.
    pub(super) fn is_held_back(&self) -> bool {
        self.gate.is_some()
    }

    /// Lets the body follow.
    pub(super) fn go_ahead(&mut self) {
        self.gate = None;
    }

    /// See [`Feeder::supply`].
    pub(super) fn supply(&mut self) -> bool {
        self.feeder.supply()
    }
}

/// Whether a request with these headers waits for the server before it sends its body.
pub(super) fn expects_go_ahead(headers: &HeaderMap) -> bool {
    headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}
