//! Turns: goroutines that work at the same time and then act one after the other, in the order in
//! which they entered.
//!
//! ```text
//! enter: in_flight ── running ── a ticket ──▶ its goroutine works ── running ends ── its turn ── acts ── drops the ticket
//!                                                                                      ▲                     │
//!                                                          the ticket before it was dropped                  ▼
//!                                                                                        the next one has its turn
//! ```
//!
//! A turn ends with its ticket, so it also ends by a panic. Besides the goroutines that run, the
//! same number may have run and wait for their turn. Only beyond that does a slow one hold up its
//! followers.

use std::convert::Infallible;
use std::mem;

use parking_lot::Mutex;

use crate::chan::{self, Receiver, Sender};
use crate::context::{Context, ContextError};
use crate::sync::{Permit, Semaphore};

/// Gives out tickets.
#[derive(Debug)]
pub(super) struct Order {
    running: Semaphore,
    in_flight: Semaphore,
    /// Closes when the last ticket is dropped. Locked for a few instructions, never across a
    /// switch.
    last: Mutex<Receiver<Infallible>>,
}

/// A place in the order.
#[derive(Debug)]
pub(super) struct Ticket {
    running: Option<Permit>,
    /// Closes when the ticket before is dropped.
    turn: Receiver<Infallible>,
    /// Dropped with the ticket, which gives the next ticket its turn.
    _done: Sender<Infallible>,
    _in_flight: Permit,
}

impl Order {
    /// Makes an order in which `limit` may run at a time.
    pub(super) fn new(limit: usize) -> Order {
        Order {
            running: Semaphore::new(limit),
            in_flight: Semaphore::new(limit.saturating_mul(2)),
            last: Mutex::new(chan::bounded(0).1),
        }
    }

    /// Waits until one more may run.
    pub(super) fn enter(&self, ctx: &Context) -> Result<Ticket, ContextError> {
        let in_flight = self.in_flight.acquire(ctx, 1)?;
        let running = self.running.acquire(ctx, 1)?;
        let (done, next_turn) = chan::bounded(0);
        let turn = mem::replace(&mut *self.last.lock(), next_turn);
        Ok(Ticket { running: Some(running), turn, _done: done, _in_flight: in_flight })
    }
}

impl Ticket {
    /// Lets another run, and waits until all that entered before are done. The turn lasts until the
    /// ticket is dropped.
    pub(super) fn wait(&mut self) {
        self.running = None;
        let _closed = self.turn.recv();
    }
}
