//! Sending and receiving from async code: futures with their waiters inside. Dropping one loses
//! nothing.
//!
//! A receiver may take the value of a waiting send at any time. A receive that waits is only told
//! that there is a value, because it may never be polled again. But on a rendezvous it is handed
//! the value (see `state`).

use std::fmt;
use std::future::Future;
use std::marker::PhantomPinned;
use std::pin::Pin;
use std::task::{Context, Poll};

use goby_runtime::{TaskWait, Unparker, Waiter, WakeList};

use super::core::{Chan, unpark};
use super::state::{Nothing, Refused, Slot, TOLD};
use super::{RecvError, SendError};

/// The stage that a future is in. A queued future must take its channel's lock before its waiter
/// may be dropped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Unpolled,
    Queued,
    Ended,
}

/// The future of [`Sender::send_async`](super::Sender::send_async). If it is dropped before it is
/// ready, it has not sent, unless a receiver has taken the value since the last poll.
#[must_use = "a future does nothing unless it is awaited"]
pub struct SendFuture<'a, T> {
    chan: Option<&'a Chan<T>>,
    slot: Slot<T>,
    waiter: Waiter,
    wait: TaskWait,
    stage: Stage,
    _pinned: PhantomPinned,
}

// SAFETY: it owns a value, which is Send, and shares a channel; its waiter is touched under the
// channel's lock.
unsafe impl<T: Send> Send for SendFuture<'_, T> {}

impl<'a, T> SendFuture<'a, T> {
    pub(super) fn new(chan: Option<&'a Chan<T>>, value: T) -> SendFuture<'a, T> {
        SendFuture {
            chan,
            slot: Slot::full(value),
            waiter: Waiter::new(0, std::ptr::null_mut()),
            wait: TaskWait::new(),
            stage: Stage::Unpolled,
            _pinned: PhantomPinned,
        }
    }

    /// Sends, if that can be done now. Otherwise queues, if `may_queue` allows it and it is not
    /// queued yet.
    fn step(&mut self, chan: &Chan<T>, may_queue: bool) -> Poll<Result<Option<Unparker>, SendError<T>>> {
        chan.lock();
        // SAFETY: locked; this is the only view.
        let state = unsafe { chan.locked() };
        let result = match self.stage {
            // SAFETY: the slot has been full since `new`.
            Stage::Unpolled => match state.try_send(unsafe { self.slot.take() }) {
                Ok(wake) => Poll::Ready(Ok(wake)),
                Err(Refused::Closed(value)) => Poll::Ready(Err(SendError(value))),
                Err(Refused::Full(value)) => {
                    self.slot.put(value);
                    if may_queue {
                        self.waiter.set(0, self.slot.as_ptr());
                        // SAFETY: the future is pinned, and its drop takes the waiter out under
                        // this lock.
                        unsafe { state.enqueue_send(&self.waiter, &self.wait) };
                        self.stage = Stage::Queued;
                    }
                    Poll::Pending
                }
            },
            _ if self.wait.token().is_none() => Poll::Pending,
            _ if self.waiter.is_done() => Poll::Ready(Ok(None)),
            // SAFETY: ended without being done, so the value is still there.
            _ => Poll::Ready(Err(SendError(unsafe { self.slot.take() }))),
        };
        // SAFETY: locked above.
        unsafe { chan.unlock() };
        result
    }
}

impl<T> Future for SendFuture<'_, T> {
    type Output = Result<(), SendError<T>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: only the value is moved out of the pinned future, and it is not structurally
        // pinned.
        let this = unsafe { self.get_unchecked_mut() };
        let Some(chan) = this.chan else { return Poll::Pending };
        assert!(this.stage != Stage::Ended, "polled after it was ready");
        // The waker is the executor's code, so it is set outside the lock, and only if the future
        // has to wait.
        let may_be_ready = this.stage == Stage::Unpolled || this.wait.token().is_some();
        let mut result = if may_be_ready { this.step(chan, false) } else { Poll::Pending };
        if result.is_pending() {
            this.wait.set_waker(cx.waker());
            result = this.step(chan, true);
        }
        if result.is_ready() {
            this.stage = Stage::Ended;
        }
        result.map_ok(unpark)
    }
}

impl<T> Drop for SendFuture<'_, T> {
    fn drop(&mut self) {
        let holds_value = match (self.stage, self.chan) {
            (Stage::Unpolled, _) | (_, None) => true,
            (Stage::Ended, _) => false,
            (Stage::Queued, Some(chan)) => {
                chan.lock();
                // SAFETY: locked; queued here. After this nobody knows the waiter.
                unsafe {
                    chan.locked().dequeue_send(&self.waiter);
                    chan.unlock();
                }
                self.wait.token().is_none() || !self.waiter.is_done()
            }
        };
        if holds_value {
            // SAFETY: see the cases above.
            drop(unsafe { self.slot.take() });
        }
    }
}

impl<T> fmt::Debug for SendFuture<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SendFuture { .. }")
    }
}

/// The future of [`Receiver::recv_async`](super::Receiver::recv_async). If it is dropped before it
/// is ready, it has received nothing.
#[must_use = "a future does nothing unless it is awaited"]
pub struct RecvFuture<'a, T> {
    chan: Option<&'a Chan<T>>,
    slot: Slot<T>,
    waiter: Waiter,
    wait: TaskWait,
    stage: Stage,
    _pinned: PhantomPinned,
}

// SAFETY: as for `SendFuture`.
unsafe impl<T: Send> Send for RecvFuture<'_, T> {}

impl<'a, T> RecvFuture<'a, T> {
    pub(super) fn new(chan: Option<&'a Chan<T>>) -> RecvFuture<'a, T> {
        RecvFuture {
            chan,
            slot: Slot::empty(),
            waiter: Waiter::new(0, TOLD),
            wait: TaskWait::new(),
            stage: Stage::Unpolled,
            _pinned: PhantomPinned,
        }
    }

    /// Receives, if that can be done now. Otherwise queues, if `may_queue` allows it. The caller
    /// makes sure that it is in no queue.
    fn step(&mut self, chan: &Chan<T>, may_queue: bool) -> Poll<Result<(T, Option<Unparker>), RecvError>> {
        chan.lock();
        // SAFETY: locked; this is the only view.
        let state = unsafe { chan.locked() };
        let result = if self.stage == Stage::Queued && self.waiter.is_done() {
            // SAFETY: done, so a sender has filled the slot.
            Poll::Ready(Ok((unsafe { self.slot.take() }, None)))
        } else {
            match state.try_recv() {
                Ok(received) => Poll::Ready(Ok(received)),
                Err(Nothing::Closed) => Poll::Ready(Err(RecvError)),
                Err(Nothing::Empty) => {
                    if may_queue {
                        self.waiter.set(0, state.async_slot(&self.slot));
                        state.expect_rare();
                        // SAFETY: the future is pinned, and its drop takes the waiter out under
                        // this lock.
                        unsafe { state.enqueue_recv(&self.waiter, &self.wait) };
                        self.stage = Stage::Queued;
                    }
                    Poll::Pending
                }
            }
        };
        // SAFETY: locked above.
        unsafe { chan.unlock() };
        result
    }
}

impl<T> Future for RecvFuture<'_, T> {
    type Output = Result<T, RecvError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: as for `SendFuture`.
        let this = unsafe { self.get_unchecked_mut() };
        let Some(chan) = this.chan else { return Poll::Pending };
        assert!(this.stage != Stage::Ended, "polled after it was ready");
        if this.stage == Stage::Queued && this.wait.token().is_none() {
            this.wait.set_waker(cx.waker());
            // A claimer that comes meanwhile takes the new waker, or is seen here: both enter the
            // waker's lock.
            if this.wait.token().is_none() {
                return Poll::Pending;
            }
        }
        let was_told = this.stage == Stage::Queued;
        let mut result = this.step(chan, false);
        if result.is_pending() {
            if was_told {
                // Another receiver was quicker. The sender that told this future has left the lock,
                // and so the wait.
                this.stage = Stage::Unpolled;
                this.wait = TaskWait::new();
            }
            // The waker is the executor's code, so it is set outside the lock, and only if the
            // future has to wait.
            this.wait.set_waker(cx.waker());
            result = this.step(chan, true);
        }
        if result.is_ready() {
            this.stage = Stage::Ended;
        }
        if let Poll::Ready(Err(RecvError)) = result {
            chan.report_drained();
        }
        result.map_ok(|(value, wake)| {
            unpark(wake);
            value
        })
    }
}

impl<T> Drop for RecvFuture<'_, T> {
    fn drop(&mut self) {
        let (Stage::Queued, Some(chan)) = (self.stage, self.chan) else { return };
        let mut wake = WakeList::new();
        chan.lock();
        // SAFETY: locked; this is the only view; queued here, and if it is done, a sender has
        // filled the slot. After this nobody knows the waiter.
        let left = unsafe {
            let state = chan.locked();
            state.dequeue_recv(&self.waiter);
            let left = if self.wait.token().is_none() {
                None
            } else if self.waiter.is_done() {
                state.give_back(self.slot.take(), &mut wake)
            } else {
                state.pass_on(&mut wake);
                None
            };
            chan.unlock();
            left
        };
        wake.unpark_all();
        // The user's destructor: last, outside the lock.
        drop(left);
    }
}

impl<T> fmt::Debug for RecvFuture<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecvFuture { .. }")
    }
}
