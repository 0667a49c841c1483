//! The two kinds of cases: one that receives, and one that sends.

use std::fmt;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr;

use goby_runtime::{AnyWait, Unparker, Waiter, WakeList};

use super::case::{How, Operation};
use crate::chan::core::Chan;
use crate::chan::large::is_large;
use crate::chan::state::{Nothing, Refusal, Refused, Slot, State, TOLD, WATCHES};
use crate::chan::{Receiver, RecvError, SendError, Sender, never};

/// A case that receives.
#[doc(hidden)]
pub struct RecvCase<'a, T> {
    /// None: disabled.
    chan: Option<&'a Chan<T>>,
    slot: Slot<T>,
    /// Made when the case is queued.
    waiter: MaybeUninit<Waiter>,
    result: Option<Result<T, RecvError>>,
}

// SAFETY: it owns a value or a result, which are Send, and shares a channel; its waiter is touched
// under the channel's lock.
unsafe impl<T: Send> Send for RecvCase<'_, T> {}

impl<'a, T> RecvCase<'a, T> {
    /// Receives from `receiver`.
    #[inline]
    pub fn new(receiver: &'a Receiver<T>) -> RecvCase<'a, T> {
        RecvCase { chan: receiver.chan(), slot: Slot::empty(), waiter: MaybeUninit::uninit(), result: None }
    }

    /// The result, if this is the case that happened.
    #[inline]
    pub fn take(&mut self) -> Option<Result<T, RecvError>> {
        if let Some(Err(RecvError)) = self.result
            && let Some(chan) = self.chan
        {
            chan.report_drained();
        }
        self.result.take()
    }

    /// As [`attempt_in`](Operation::attempt_in), of large values.
    ///
    /// # Safety
    ///
    /// The case is not queued.
    #[inline(never)]
    unsafe fn attempt_by_address(&mut self, state: &mut State<T>, wake: &mut Option<Unparker>) -> bool {
        // SAFETY: the slot of a case that is not queued, by contract, is empty.
        match unsafe { state.recv_into(self.slot.as_ptr().cast()) } {
            Ok(unparker) => {
                *wake = unparker;
                // SAFETY: received just now.
                self.result = Some(Ok(unsafe { self.slot.take() }));
            }
            Err(Nothing::Closed) => self.result = Some(Err(RecvError)),
            Err(Nothing::Empty) => return false,
        }
        true
    }

    /// Whether it was queued to be told of a value.
    ///
    /// # Safety
    ///
    /// It was queued.
    unsafe fn was_told(&self) -> bool {
        // SAFETY: queued, so the waiter was made.
        unsafe { self.waiter.assume_init_ref() }.slot() == TOLD
    }
}

impl<T> Operation for RecvCase<'_, T> {
    type Value = T;

    const RECEIVES: bool = true;

    #[inline]
    fn channel(&self) -> Option<&Chan<T>> {
        self.chan
    }

    #[inline]
    fn is_ready_in(&self, state: &mut State<T>) -> bool {
        state.can_recv()
    }

    fn would_happen_in(&self, state: &mut State<T>) -> bool {
        state.would_recv()
    }

    unsafe fn attempt_in(&mut self, state: &mut State<T>, wake: &mut Option<Unparker>) -> bool {
        if const { is_large::<T>() } {
            // SAFETY: by contract.
            return unsafe { self.attempt_by_address(state, wake) };
        }
        self.result = match state.try_recv() {
            Ok((value, unparker)) => {
                *wake = unparker;
                Some(Ok(value))
            }
            Err(Nothing::Closed) => Some(Err(RecvError)),
            Err(Nothing::Empty) => None,
        };
        self.result.is_some()
    }

    unsafe fn enqueue_in(&mut self, state: &mut State<T>, wait: AnyWait, token: usize, how: How) {
        let slot = match how {
            How::HandOver => self.slot.as_ptr(),
            How::Tell => state.async_slot(&self.slot),
            How::Watch => WATCHES,
        };
        if how != How::HandOver {
            state.expect_rare();
        }
        let waiter = self.waiter.write(Waiter::new(token, slot));
        // SAFETY: case and wait stay where they are, by contract. The slot is empty, or rare
        // waiters are expected.
        unsafe { state.enqueue_recv(waiter, wait) };
    }

    unsafe fn dequeue_in(&mut self, state: &mut State<T>, won: bool) {
        // SAFETY: by contract the case is queued, so the waiter is there. If it is done, a sender
        // has filled the slot.
        unsafe {
            let waiter = self.waiter.assume_init_ref();
            state.dequeue_recv(waiter);
            if won {
                self.result = Some(if waiter.is_done() { Ok(self.slot.take()) } else { Err(RecvError) });
            }
        }
    }

    unsafe fn dequeue_told_in(&mut self, state: &mut State<T>, won: bool, wake: &mut Option<Unparker>) -> bool {
        // SAFETY: queued until `dequeue_in`; the rest by contract.
        unsafe {
            let was_told = self.was_told();
            self.dequeue_in(state, won && !was_told);
            won && (!was_told || self.attempt_in(state, wake))
        }
    }

    unsafe fn abandon_in(&mut self, state: &mut State<T>, won: bool, wake: &mut WakeList) {
        // SAFETY: queued; the rest by contract.
        let was_told = unsafe {
            let was_told = self.was_told();
            self.dequeue_in(state, won && !was_told);
            was_told
        };
        if won && was_told {
            state.pass_on(wake);
        } else if let Some(Ok(value)) = self.result.take() {
            self.result = state.give_back(value, wake).map(Ok);
        }
    }

    fn forget_result(&mut self) {
        self.result = None;
    }
}

/// A case that sends.
#[doc(hidden)]
pub struct SendCase<'a, T> {
    /// None: disabled.
    chan: Option<&'a Chan<T>>,
    slot: Slot<T>,
    /// Whether the value is in the slot, and ours.
    full: bool,
    /// Where a value goes that was not sent.
    home: Option<&'a mut Option<T>>,
    waiter: Waiter,
    result: Option<Result<(), SendError<T>>>,
}

// SAFETY: as for `RecvCase`.
unsafe impl<T: Send> Send for SendCase<'_, T> {}

impl<'a, T> SendCase<'a, T> {
    /// Sends `value`, if there is one.
    #[inline]
    pub fn new(sender: &'a Sender<T>, value: Option<T>) -> SendCase<'a, T> {
        let full = value.is_some();
        SendCase {
            chan: if full { sender.chan() } else { None },
            slot: value.map_or_else(Slot::empty, Slot::full),
            full,
            home: None,
            waiter: Waiter::new(0, ptr::null_mut()),
            result: None,
        }
    }

    /// Sends `value`, and later the values that are [`put`](SendCase::put).
    pub(super) fn reusable(sender: &'a Sender<T>, value: Option<T>) -> SendCase<'a, T> {
        let mut case = SendCase::new(sender, value);
        case.chan = sender.chan();
        case
    }

    /// Changes the value; returns the one that was there. The case is not queued.
    pub(super) fn put(&mut self, value: T) -> Option<T> {
        let old = self.take_back();
        self.slot.put(value);
        self.full = true;
        old
    }

    /// Takes the value out, if it is not sent. The case is not queued.
    pub(super) fn take_back(&mut self) -> Option<T> {
        // SAFETY: `full` says that it is there, and ours.
        std::mem::take(&mut self.full).then(|| unsafe { self.slot.take() })
    }

    /// Sends the value in `home`, if there is one. A value that is not sent is put back there.
    pub fn from_slot(sender: &'a Sender<T>, home: &'a mut Option<T>) -> SendCase<'a, T> {
        let mut case = SendCase::new(sender, home.take());
        case.home = Some(home);
        case
    }

    /// The result, if this is the case that happened.
    #[inline]
    pub fn take(&mut self) -> Option<Result<(), SendError<T>>> {
        self.result.take()
    }

    /// As [`attempt_in`](Operation::attempt_in), of large values.
    ///
    /// # Safety
    ///
    /// The slot is full.
    #[inline(never)]
    unsafe fn attempt_by_address(&mut self, state: &mut State<T>, wake: &mut Option<Unparker>) -> bool {
        // SAFETY: the slot is full.
        self.result = match unsafe { state.send_from(self.slot.as_ptr().cast()) } {
            Ok(unparker) => {
                *wake = unparker;
                Some(Ok(()))
            }
            // SAFETY: refused, so it is still there.
            Err(Refusal::Closed) => Some(Err(SendError(unsafe { self.slot.take() }))),
            Err(Refusal::Full) => return false,
        };
        self.full = false;
        true
    }
}

impl<T> Drop for SendCase<'_, T> {
    fn drop(&mut self) {
        if self.full {
            // SAFETY: `full` says so.
            let value = unsafe { self.slot.take() };
            match &mut self.home {
                Some(home) => **home = Some(value),
                None => drop(value),
            }
        }
    }
}

impl<T> Operation for SendCase<'_, T> {
    type Value = T;

    const RECEIVES: bool = false;

    #[inline]
    fn channel(&self) -> Option<&Chan<T>> {
        self.chan
    }

    #[inline]
    fn is_ready_in(&self, state: &mut State<T>) -> bool {
        self.full && state.can_send()
    }

    fn would_happen_in(&self, state: &mut State<T>) -> bool {
        state.would_send()
    }

    unsafe fn attempt_in(&mut self, state: &mut State<T>, wake: &mut Option<Unparker>) -> bool {
        if !self.full {
            return false;
        }
        if const { is_large::<T>() } {
            // SAFETY: as below.
            return unsafe { self.attempt_by_address(state, wake) };
        }
        // SAFETY: `full` says that the value is there, and ours, since the case is not queued.
        match state.try_send(unsafe { self.slot.take() }) {
            Ok(unparker) => {
                *wake = unparker;
                self.full = false;
                self.result = Some(Ok(()));
                true
            }
            Err(Refused::Closed(value)) => {
                self.full = false;
                self.result = Some(Err(SendError(value)));
                true
            }
            Err(Refused::Full(value)) => {
                self.slot.put(value);
                false
            }
        }
    }

    unsafe fn enqueue_in(&mut self, state: &mut State<T>, wait: AnyWait, token: usize, how: How) {
        // A case without a value has nothing to wait for, unless it only looks.
        let watches = how == How::Watch;
        if self.full || watches {
            if watches {
                state.expect_rare();
            }
            self.waiter.set(token, if watches { WATCHES } else { self.slot.as_ptr() });
            // SAFETY: case and wait stay where they are, by contract. The slot is full, or rare
            // waiters are expected.
            unsafe { state.enqueue_send(&self.waiter, wait) };
        }
    }

    unsafe fn dequeue_in(&mut self, state: &mut State<T>, won: bool) {
        // SAFETY: by contract. If it is not done, the value is still there.
        unsafe {
            state.dequeue_send(&self.waiter);
            if won {
                self.full = false;
                self.result = Some(if self.waiter.is_done() { Ok(()) } else { Err(SendError(self.slot.take())) });
            }
        }
    }

    unsafe fn dequeue_told_in(&mut self, state: &mut State<T>, won: bool, _: &mut Option<Unparker>) -> bool {
        // SAFETY: by contract.
        unsafe { self.dequeue_in(state, won) };
        won
    }

    unsafe fn abandon_in(&mut self, state: &mut State<T>, won: bool, _: &mut WakeList) {
        // SAFETY: by contract.
        unsafe { self.dequeue_in(state, won) };
    }

    fn forget_result(&mut self) {
        self.result = None;
    }
}

/// A receiver for a case that is disabled.
#[doc(hidden)]
#[inline]
pub fn no_receiver<'a, T>() -> &'a Receiver<T> {
    Disabled::<'a, T>::RECEIVER
}

/// A sender for a case that is disabled.
#[doc(hidden)]
#[inline]
pub fn no_sender<'a, T>() -> &'a Sender<T> {
    Disabled::<'a, T>::SENDER
}

/// Names the constants.
struct Disabled<'a, T>(PhantomData<&'a T>);

impl<'a, T: 'a> Disabled<'a, T> {
    const RECEIVER: &'a Receiver<T> = &never();
    const SENDER: &'a Sender<T> = &Sender::never();
}

impl<T> fmt::Debug for RecvCase<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvCase").field("chan", &self.chan).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for SendCase<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendCase").field("chan", &self.chan).finish_non_exhaustive()
    }
}
