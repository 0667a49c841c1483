//! The wait queue of everything in `sync`: state behind a short lock, and a first-in first-out line
//! of waiters. A waiter may give up when a deadline passes or a context is done.
//!
//! Most waiters are the runtime's own ([`Gate`]): they allocate nothing, and the runtime itself
//! takes them out of the line at their deadline. A waiter with a context has an [`Entry`] on the
//! heap instead, because the canceler must be able to wake it from anywhere, at any time, even
//! after it has gone. Its place is in `line` (`places`). Both kinds take a ticket when they join. A
//! notifier compares the two front tickets, so together they are one line.
//!
//! Protocol of an entry, with the gate's lock as the only arbiter:
//! - join: under the lock, after looking at the state, the entry goes to the back of `line`;
//! - grant: under the lock, a notifier takes the entry out of `line` and writes its token; after
//!   unlocking, the notifier fires the latch;
//! - cancel: the context's hook fires the latch and does nothing else;
//! - verdict: once its latch was fired, the waiter takes the lock. If its entry is gone, it was
//!   granted, whatever the context says by now. If its entry is there, the waiter takes it out and
//!   has given up.
//!
//! So a grant is never given to a waiter that has given up, and never lost.
//!
//! The lock is never held while user code runs, and no other lock is taken under it except as
//! `Cond` documents.

use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use goby_runtime::{Decision, Gate, IsArmed, WaitReason, Waited, Waiters, with_reach};

use super::places::{Places, is_before};
use crate::context::{Context, ContextError};

/// How long a waiter is willing to wait.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until<'a> {
    /// Until it is unparked.
    Forever,
    /// Until this instant.
    Deadline(Instant),
    /// Until the context is done.
    Done(&'a Context),
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome<R> {
    /// There was no need to wait.
    Ready(R),
    /// A notifier took the waiter out of the line and left this token.
    Unparked(usize),
    /// The deadline passed or the context was done. The waiter is no longer in the line, and no
    /// notifier counted it.
    GaveUp,
}

/// Why `ctx` is done, for a wait that was given up because of it.
pub(crate) fn done_error(ctx: &Context) -> ContextError {
    ctx.err().expect("only a context that is done makes a waiter give up")
}

/// State of type `S`, and a line of waiters. `I` is the information that the notifier wants of a
/// waiter that has a context.
#[derive(Debug)]
pub(crate) struct Queue<S, I = ()> {
    gate: Gate<Inner<S, I>>,
}

/// What the gate's lock guards.
#[derive(Debug)]
struct Inner<S, I> {
    state: S,
    /// The ticket of the next waiter. It wraps after 2^63 waits; comparisons allow for that.
    next_ticket: usize,
    /// Waiters with a context, in the order of their tickets.
    line: Places<I, Arc<Entry>>,
}

/// A waiter with a context.
#[derive(Debug)]
struct Entry {
    /// Whether the latch was fired, and the waiter that waits for that.
    latch: Gate<bool>,
    /// The token that the notifier left. Written and read only under the queue's lock, which orders
    /// it: hence Relaxed.
    token: AtomicUsize,
}

impl Entry {
    fn new() -> Arc<Entry> {
        Arc::new(Entry { latch: Gate::new(false), token: AtomicUsize::new(0) })
    }

    /// Lets the waiter look at the verdict, now or when it comes to wait.
    fn fire(&self) {
        self.latch.with(|fired, waiters| {
            *fired = true;
            waiters.unpark_one(0);
        });
    }

    /// Parks until the latch is fired, which happens at the latest when `ctx` is done.
    fn wait(&self, reason: WaitReason, ctx: &Context) {
        let is_armed: IsArmed<'_> = &|| true;
        with_reach(ctx.can_end(), ctx.deadline().is_some().then_some(is_armed), || {
            self.latch.wait(reason, None, |fired, _| Decision::ready_if(*fired))
        });
    }
}

/// The line, as a notifier sees it with the lock held.
#[derive(Debug)]
pub(crate) struct Line<'a, 'w, I = ()> {
    waiters: &'a mut Waiters<'w>,
    places: &'a mut Places<I, Arc<Entry>>,
    fired: Fired,
}

/// Entries that were unparked. Their latches are fired once the lock is released. An empty vector
/// does not allocate.
type Fired = Vec<Arc<Entry>>;

impl<I> Line<'_, '_, I> {
    /// Whether nobody waits.
    pub(crate) fn is_empty(&mut self) -> bool {
        self.places.is_empty() && self.waiters.is_empty()
    }

    /// The information that the first waiter with a context gave about itself.
    pub(crate) fn front_info(&self) -> Option<&I> {
        self.places.front_info()
    }

    /// Unparks the waiter that has waited longest; `false` if nobody waits.
    pub(crate) fn unpark_one(&mut self, token: usize) -> bool {
        let has_context = match (self.places.front_ticket(), self.waiters.front_tag()) {
            (Some(place), Some(ticket)) => is_before(place, ticket),
            (Some(_), None) => true,
            (None, _) => false,
        };
        if has_context { self.unpark_front_place(token) } else { self.waiters.unpark_one(token) }
    }

    /// Unparks every waiter and returns how many there were.
    pub(crate) fn unpark_all(&mut self, token: usize) -> usize {
        let mut n_unparked = self.waiters.unpark_all(token);
        while self.unpark_front_place(token) {
            n_unparked += 1;
        }
        n_unparked
    }

    fn unpark_front_place(&mut self, token: usize) -> bool {
        let Some(entry) = self.places.pop_front() else { return false };
        entry.token.store(token, Ordering::Relaxed);
        self.fired.push(entry);
        true
    }
}

impl<S, I> Inner<S, I> {
    /// Runs `f` on the state and the line.
    fn open<R>(&mut self, waiters: &mut Waiters<'_>, f: impl FnOnce(&mut S, &mut Line<'_, '_, I>) -> R) -> (R, Fired) {
        let mut line = Line { waiters, places: &mut self.line, fired: Fired::new() };
        let result = f(&mut self.state, &mut line);
        (result, line.fired)
    }

    fn draw_ticket(&mut self) -> usize {
        let ticket = self.next_ticket;
        self.next_ticket = ticket.wrapping_add(1);
        ticket
    }
}

impl<S, I> Queue<S, I> {
    pub(crate) const fn new(state: S) -> Queue<S, I> {
        Queue { gate: Gate::new(Inner { state, next_ticket: 0, line: Places::new() }) }
    }

    /// Runs `f` with the lock held: `f` is a few instructions and no user code. The waiters that
    /// `f` unparks run after unlocking.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut S, &mut Line<'_, '_, I>) -> R) -> R {
        let (result, fired) = self.gate.with(|inner, waiters| inner.open(waiters, f));
        fired.iter().for_each(|entry| entry.fire());
        result
    }

    /// Runs `join` with the lock held, and parks in the line if `join` says so. `join` may unpark
    /// others only if it returns `Ready`.
    pub(crate) fn wait<R>(
        &self,
        reason: WaitReason,
        deadline: Option<Instant>,
        join: impl FnOnce(&mut S, &mut Line<'_, '_, I>) -> Decision<R, ()>,
    ) -> Outcome<R> {
        let waited = self.gate.wait(reason, deadline, |inner, waiters| {
            let (joined, fired) = inner.open(waiters, join);
            match joined {
                Decision::Wait(()) => Decision::Wait(inner.draw_ticket()),
                Decision::Ready(ready) => Decision::Ready((ready, fired)),
            }
        });
        match waited {
            Waited::Ready((ready, fired)) => {
                fired.iter().for_each(|entry| entry.fire());
                Outcome::Ready(ready)
            }
            Waited::Unparked(token) => Outcome::Unparked(token),
            Waited::TimedOut => Outcome::GaveUp,
        }
    }

    /// Waits as [`wait`](Queue::wait) does, until `ctx` is done. `info` is for
    /// [`Line::front_info`]. A waiter that gives up runs `leave` under the lock, at the moment it
    /// leaves the line.
    pub(crate) fn wait_ctx<R>(
        &self,
        reason: WaitReason,
        ctx: &Context,
        info: I,
        join: impl FnOnce(&mut S, &mut Line<'_, '_, I>) -> Decision<R, ()>,
        leave: impl FnOnce(&mut S, &mut Line<'_, '_, I>),
    ) -> Outcome<R> {
        let entry = Entry::new();
        let (joined, fired) = self.gate.with(|inner, waiters| {
            let (joined, fired) = inner.open(waiters, join);
            let joined = match joined {
                Decision::Wait(()) => {
                    let ticket = inner.draw_ticket();
                    inner.line.push_back(ticket, info, entry.clone());
                    Decision::Wait(ticket)
                }
                Decision::Ready(ready) => Decision::Ready(ready),
            };
            (joined, fired)
        });
        fired.iter().for_each(|entry| entry.fire());
        let ticket = match joined {
            Decision::Wait(ticket) => ticket,
            Decision::Ready(ready) => return Outcome::Ready(ready),
        };

        let hook = ctx.on_done({
            let entry = entry.clone();
            move || entry.fire()
        });
        entry.wait(reason, ctx);
        drop(hook);

        let (outcome, fired) = self.gate.with(|inner, waiters| {
            // The verdict: without its entry in the line, the waiter was granted.
            if inner.line.leave(ticket).is_none() {
                return (Outcome::Unparked(entry.token.load(Ordering::Relaxed)), Fired::new());
            }
            let ((), fired) = inner.open(waiters, leave);
            (Outcome::GaveUp, fired)
        });
        fired.iter().for_each(|entry| entry.fire());
        outcome
    }
}

// No user code runs under the lock, so no panic leaves it half changed.
impl<S, I> UnwindSafe for Queue<S, I> {}
impl<S, I> RefUnwindSafe for Queue<S, I> {}

impl<S> Queue<S> {
    /// Calls [`wait`](Queue::wait) or [`wait_ctx`](Queue::wait_ctx), as `until` says.
    pub(crate) fn wait_until<R>(
        &self,
        reason: WaitReason,
        until: Until<'_>,
        join: impl FnOnce(&mut S, &mut Line<'_, '_>) -> Decision<R, ()>,
    ) -> Outcome<R> {
        match until {
            Until::Forever => self.wait(reason, None, join),
            Until::Deadline(deadline) => self.wait(reason, Some(deadline), join),
            Until::Done(ctx) if ctx.can_end() => self.wait_ctx(reason, ctx, (), join, |_, _| ()),
            Until::Done(_) => self.wait(reason, None, join),
        }
    }
}
