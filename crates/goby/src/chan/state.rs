//! What a channel's lock guards: the buffer, the parked senders and receivers, and how a value gets
//! from one side to the other.
//!
//! Invariants, between operations:
//! - a receiver is parked only if the buffer is empty and no sender is parked;
//! - a sender is parked only if the buffer is full (which a rendezvous always is) and no receiver
//!   is parked.
//!
//! Both hold except for waiters that a select has claimed elsewhere and not yet taken out: those
//! are skipped.
//!
//! An operation therefore looks at the other side's queue first and *hands over*. A sender moves
//! its value straight into the parked receiver's slot. A receiver takes the value straight out of
//! the parked sender's slot. The parked side finds everything done when it runs again. Values move
//! exactly once, under the lock. The caller wakes that side after it has released the lock. Only a
//! waiter that [watches](WATCHES) is woken under it.
//!
//! Two kinds of waiters are handed nothing:
//!
//! - A *receive future* is taken out and [told](TOLD) that a value is there. The value lies in the
//!   buffer, beyond the capacity if need be, until the future is polled or another receiver takes
//!   it first. A future that is dropped unpolled [passes that on](State::pass_on) to the next
//!   receiver. Meanwhile receivers behind it may be parked although the buffer is not empty: the
//!   next operation that reaches them hands over the oldest value.
//! - A waiter that only [watches](WATCHES) waits until its operation would not wait. It is no peer:
//!   the first operation that would otherwise hand over to it takes it out and wakes it, and it
//!   looks again.
//!
//! On a rendezvous a receive future is handed its value like others, because a send that is done
//! has met a receiver: a value in between could come back to its sender. A future that is dropped
//! unpolled [gives the value back](State::give_back) to the next receiver, or to the buffer, which
//! then holds more than its capacity.
//!
//! # Safety of the slots
//!
//! A waiter's slot points to a `MaybeUninit<T>` beside it. The slot of a queued receiver is empty,
//! that of a queued sender is full. The operation that takes a waiter out of its queue changes that
//! and sets `done`. After the unpark it may touch neither the waiter nor the slot. A waiter taken
//! out because the channel closed is left as it was, with `done` false.

use std::cell::UnsafeCell;
use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};

use goby_runtime::{AnyWait, Unparker, WaitQueue, Waiter, WakeList};

/// How many slots a new buffer has room for; a larger capacity is allocated as it is used.
const FIRST_ALLOCATION: usize = 64;
/// How many receivers `close` takes out before it wakes them. They run on other workers while
/// `close` takes out the next ones.
const WOKEN_AT_ONCE: usize = 512;

/// Stands in the place of a slot in the waiter of a receive future, except on a rendezvous. The
/// future is told that there is a value, and takes one when it is polled.
pub(crate) const TOLD: *mut () = std::ptr::null_mut();
/// Stands in the place of a slot in a waiter that only wants to know when its operation would not
/// wait. The waiter is no future's, because it is woken under the lock.
pub(crate) const WATCHES: *mut () = std::ptr::without_provenance_mut(1);

/// Whether a waiter has a slot.
#[inline]
fn has_slot(waiter: &Waiter) -> bool {
    waiter.slot().addr() > WATCHES.addr()
}

/// What the channel's lock guards.
pub(crate) struct State<T> {
    buffer: VecDeque<T>,
    /// How many values the buffer holds before a send waits; `usize::MAX` if it never does.
    capacity: usize,
    send_queue: WaitQueue,
    recv_queue: WaitQueue,
    /// No further sends: closed, or the last sender is gone.
    closed: bool,
    /// The last receiver is gone.
    abandoned: bool,
    /// Some waiters may have no slot, or receivers may be parked although the buffer is not empty.
    /// Set by the waiter that has no slot; false again when both queues and the buffer are empty.
    is_rare: bool,
}

/// Why a value was not sent. It comes back.
pub(crate) enum Refused<T> {
    Full(T),
    Closed(T),
}

/// The same as [`Refused`], for a value that stayed where it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Full,
    Closed,
}

/// Why there was nothing to receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nothing {
    Empty,
    Closed,
}

/// A place for a value that another thread may fill or empty while its owner is parked.
pub(crate) struct Slot<T>(UnsafeCell<MaybeUninit<T>>);

impl<T> Slot<T> {
    pub(crate) fn empty() -> Slot<T> {
        Slot(UnsafeCell::new(MaybeUninit::uninit()))
    }

    pub(crate) fn full(value: T) -> Slot<T> {
        Slot(UnsafeCell::new(MaybeUninit::new(value)))
    }

    pub(crate) fn as_ptr(&self) -> *mut () {
        self.0.get().cast()
    }

    pub(crate) fn put(&self, value: T) {
        // SAFETY: the owner fills its slot while nobody else knows it. Writing drops nothing.
        unsafe { (*self.0.get()).write(value) };
    }

    /// # Safety
    ///
    /// The slot is full, the caller may touch it, and treats it as empty from here on.
    pub(crate) unsafe fn take(&self) -> T {
        // SAFETY: by contract.
        unsafe { (*self.0.get()).assume_init_read() }
    }
}

/// Moves a value into a receiver's slot, or out of a sender's.
///
/// # Safety
///
/// `waiter` has just been taken out of the queue of a channel of `T`, and has a slot; the channel's
/// lock is held.
unsafe fn hand_to<T>(waiter: &Waiter, value: T) {
    // SAFETY: a queued receiver's slot is an empty `MaybeUninit<T>`.
    unsafe { waiter.slot().cast::<T>().write(value) };
    waiter.set_done(true);
}

/// See [`hand_to`].
///
/// # Safety
///
/// As for `hand_to`.
unsafe fn take_from<T>(waiter: &Waiter) -> T {
    waiter.set_done(true);
    // SAFETY: a queued sender's slot is full, and is treated as empty now that `done` is set.
    unsafe { waiter.slot().cast::<T>().read() }
}

/// Moves the first value to `to`, if there is one.
///
/// # Safety
///
/// There is room for one.
unsafe fn pop_into<T>(buffer: &mut VecDeque<T>, to: *mut T) -> bool {
    let Some(value) = buffer.pop_front() else { return false };
    // SAFETY: there is room, by contract.
    unsafe { to.write(value) };
    true
}

/// Moves the value out of a sender's slot into the buffer.
///
/// # Safety
///
/// As for [`take_from`].
unsafe fn push_from<T>(buffer: &mut VecDeque<T>, waiter: &Waiter) {
    // SAFETY: by contract.
    buffer.push_back(unsafe { take_from(waiter) });
}

impl<T> State<T> {
    pub(super) fn new(capacity: usize) -> State<T> {
        let room = if capacity == usize::MAX { 0 } else { capacity.min(FIRST_ALLOCATION) };
        State {
            buffer: VecDeque::with_capacity(room),
            capacity,
            send_queue: WaitQueue::new(),
            recv_queue: WaitQueue::new(),
            closed: false,
            abandoned: false,
            is_rare: false,
        }
    }

    // Operations that do not wait.

    /// Sends if that needs no waiting; returns the receiver to wake.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(crate) fn try_send(&mut self, value: T) -> Result<Option<Unparker>, Refused<T>> {
        if self.refuses() {
            return Err(Refused::Closed(value));
        }
        if let Some((waiter, unparker)) = self.pop_receiver() {
            if self.is_rare {
                self.hand_rare(waiter, value);
            } else {
                // SAFETY: just taken out, under the lock.
                unsafe { hand_to(waiter.as_ref(), value) };
            }
            return Ok(Some(unparker));
        }
        if self.buffer.len() < self.capacity {
            self.buffer.push_back(value);
            return Ok(None);
        }
        Err(Refused::Full(value))
    }

    /// Sends the value at `from`, as [`try_send`](State::try_send) does. The caller forgets the
    /// value if that succeeds.
    ///
    /// # Safety
    ///
    /// There is a value.
    pub(crate) unsafe fn send_from(&mut self, from: *const T) -> Result<Option<Unparker>, Refusal> {
        if self.refuses() {
            return Err(Refusal::Closed);
        }
        if let Some((waiter, unparker)) = self.pop_receiver() {
            if self.is_rare {
                // SAFETY: there is a value, and the caller forgets it.
                self.hand_rare(waiter, unsafe { from.read() });
            } else {
                // SAFETY: as in `hand_to`: just taken out, under the lock, and its slot is an empty
                // `MaybeUninit<T>`. There is a value.
                unsafe {
                    ptr::copy_nonoverlapping(from, waiter.as_ref().slot().cast(), 1);
                    waiter.as_ref().set_done(true);
                }
            }
            return Ok(Some(unparker));
        }
        if self.buffer.len() < self.capacity {
            // SAFETY: there is a value, and the caller forgets it.
            self.buffer.push_back(unsafe { from.read() });
            return Ok(None);
        }
        Err(Refusal::Full)
    }

    /// Receives into `to`, as [`try_recv`](State::try_recv) does.
    ///
    /// # Safety
    ///
    /// There is room for a value.
    pub(crate) unsafe fn recv_into(&mut self, to: *mut T) -> Result<Option<Unparker>, Nothing> {
        // The value never lies in a local here, nor in one of a pattern: a value in a frame is one
        // more copy.
        // SAFETY: there is room, by contract.
        if unsafe { pop_into(&mut self.buffer, to) } {
            let mut wake = None;
            // A place is free: the first parked sender's value takes it.
            if self.buffer.len() < self.capacity
                && let Some((waiter, unparker)) = self.pop_sender()
            {
                // SAFETY: just taken out, under the lock.
                unsafe { push_from(&mut self.buffer, waiter.as_ref()) };
                wake = Some(unparker);
            }
            return Ok(wake);
        }
        // The buffer is empty: on a rendezvous the value comes straight from a parked sender.
        if let Some((waiter, unparker)) = self.pop_sender() {
            // SAFETY: as in `take_from`: just taken out, under the lock, and its slot is full.
            unsafe {
                waiter.as_ref().set_done(true);
                ptr::copy_nonoverlapping(waiter.as_ref().slot().cast(), to, 1);
            }
            return Ok(Some(unparker));
        }
        Err(if self.closed { Nothing::Closed } else { Nothing::Empty })
    }

    /// Receives if that needs no waiting; returns the sender to wake.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(crate) fn try_recv(&mut self) -> Result<(T, Option<Unparker>), Nothing> {
        if let Some(value) = self.buffer.pop_front() {
            let mut wake = None;
            // A place is free: the first parked sender's value takes it.
            if self.buffer.len() < self.capacity
                && let Some((waiter, unparker)) = self.pop_sender()
            {
                // SAFETY: just taken out, under the lock.
                self.buffer.push_back(unsafe { take_from(waiter.as_ref()) });
                wake = Some(unparker);
            }
            return Ok((value, wake));
        }
        // The buffer is empty: on a rendezvous the value comes straight from a parked sender.
        if let Some((waiter, unparker)) = self.pop_sender() {
            // SAFETY: just taken out, under the lock.
            return Ok((unsafe { take_from(waiter.as_ref()) }, Some(unparker)));
        }
        Err(if self.closed { Nothing::Closed } else { Nothing::Empty })
    }

    /// Gives a receiver that was just taken out what it waits for. The receiver may be a future, or
    /// parked although values are buffered.
    #[cold]
    fn hand_rare(&mut self, receiver: NonNull<Waiter>, value: T) {
        // By way of the buffer, so that a parked receiver gets the oldest value. A waiter without a
        // slot is only told: the value stays in the buffer.
        self.buffer.push_back(value);
        // SAFETY: just taken out, so it is alive until the unpark.
        let receiver = unsafe { receiver.as_ref() };
        if has_slot(receiver)
            && let Some(oldest) = self.buffer.pop_front()
        {
            // SAFETY: just taken out, under the lock.
            unsafe { hand_to(receiver, oldest) };
        }
        self.see_if_rare();
    }

    /// Takes out the first receiver that takes a value, and those before it that only watch.
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn pop_receiver(&mut self) -> Option<(NonNull<Waiter>, Unparker)> {
        loop {
            let (waiter, unparker) = self.recv_queue.pop()?;
            if !(self.is_rare && self.only_watches(waiter)) {
                return Some((waiter, unparker));
            }
            self.show(unparker);
        }
    }

    /// Takes out the first sender that has a value, and those before it that only watch.
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn pop_sender(&mut self) -> Option<(NonNull<Waiter>, Unparker)> {
        loop {
            let (waiter, unparker) = self.send_queue.pop()?;
            if !(self.is_rare && self.only_watches(waiter)) {
                return Some((waiter, unparker));
            }
            self.show(unparker);
        }
    }

    /// Whether a waiter that was just taken out only watches.
    #[cold]
    fn only_watches(&self, waiter: NonNull<Waiter>) -> bool {
        // SAFETY: just taken out, so it is alive until the unpark.
        unsafe { waiter.as_ref() }.slot() == WATCHES
    }

    /// Wakes a waiter that only watches: it looks again once the lock is free.
    #[cold]
    fn show(&mut self, watcher: Unparker) {
        watcher.unpark();
        self.see_if_rare();
    }

    /// A waiter has gone. If the channel is empty now, it is a usual one again.
    fn see_if_rare(&mut self) {
        self.is_rare &= !(self.recv_queue.is_empty() && self.send_queue.is_empty() && self.buffer.is_empty());
    }

    // Questions.

    /// How many values are buffered. Values that futures were told of, or have given back, may lie
    /// beyond the capacity.
    pub(super) fn n_buffered(&self) -> usize {
        self.buffer.len()
    }

    /// Whether a receiver is parked, or a receive future waits.
    pub(super) fn has_waiting_receiver(&mut self) -> bool {
        self.recv_queue.has_waiter()
    }

    /// Whether a receive would not wait. It may be wrong about a sender that is claimed meanwhile,
    /// or that only watches.
    #[inline]
    pub(crate) fn can_recv(&mut self) -> bool {
        !self.buffer.is_empty() || self.closed || self.send_queue.has_waiter()
    }

    /// Whether a receive would not wait, asked by a waiter that only watches.
    pub(crate) fn would_recv(&mut self) -> bool {
        !self.buffer.is_empty() || self.closed || self.send_queue.has_waiter_who(has_slot)
    }

    /// Whether a send would not wait, asked by a waiter that only watches.
    pub(crate) fn would_send(&mut self) -> bool {
        self.refuses()
            || self.buffer.len() < self.capacity
            || self.recv_queue.has_waiter_who(|waiter| waiter.slot() != WATCHES)
    }

    /// Whether a send would not wait. It may be wrong about a receiver that is claimed meanwhile,
    /// or that only watches.
    #[inline]
    pub(crate) fn can_send(&mut self) -> bool {
        self.refuses() || self.buffer.len() < self.capacity || self.recv_queue.has_waiter()
    }

    // Waiters.

    /// Returns the slot of a future that receives, or what stands in its place.
    pub(crate) fn async_slot(&self, slot: &Slot<T>) -> *mut () {
        if self.capacity == 0 { slot.as_ptr() } else { TOLD }
    }

    /// Says that a waiter without a slot is about to be queued.
    pub(crate) fn expect_rare(&mut self) {
        self.is_rare = true;
    }

    /// # Safety
    ///
    /// As for [`WaitQueue::push_back`]; the slot is a full `Slot<T>`, or [`WATCHES`] after
    /// [`expect_rare`](State::expect_rare).
    #[inline]
    pub(crate) unsafe fn enqueue_send(&mut self, waiter: &Waiter, wait: impl Into<AnyWait>) {
        // SAFETY: by contract.
        unsafe { self.send_queue.push_back(waiter, wait) }
    }

    /// # Safety
    ///
    /// As for [`WaitQueue::push_back`]; the slot is an empty `Slot<T>`, or [`TOLD`] or [`WATCHES`]
    /// after [`expect_rare`](State::expect_rare). The waiter that watches is no future's.
    #[inline]
    pub(crate) unsafe fn enqueue_recv(&mut self, waiter: &Waiter, wait: impl Into<AnyWait>) {
        // SAFETY: by contract.
        unsafe { self.recv_queue.push_back(waiter, wait) }
    }

    /// # Safety
    ///
    /// The waiter was queued by `enqueue_send`, here.
    pub(crate) unsafe fn dequeue_send(&mut self, waiter: &Waiter) {
        // SAFETY: by contract.
        unsafe { self.send_queue.remove(waiter) };
        self.see_if_rare();
    }

    /// # Safety
    ///
    /// The waiter was queued by `enqueue_recv`, here.
    pub(crate) unsafe fn dequeue_recv(&mut self, waiter: &Waiter) {
        // SAFETY: by contract.
        unsafe { self.recv_queue.remove(waiter) };
        self.see_if_rare();
    }

    /// Gives a value that was handed to a future, and that the future will not take, to the next
    /// receiver, or puts it at the front of the buffer. If no receiver is left, returns it to the
    /// caller to drop.
    pub(crate) fn give_back(&mut self, value: T, wake: &mut WakeList) -> Option<T> {
        if self.abandoned {
            return Some(value);
        }
        self.buffer.push_front(value);
        self.pass_on(wake);
        None
    }

    /// Tells the next receiver of a value that a future was told of and will not take. The caller
    /// does the wakes after the unlock.
    pub(crate) fn pass_on(&mut self, wake: &mut WakeList) {
        while !self.buffer.is_empty() {
            let Some((waiter, unparker)) = self.recv_queue.pop() else { return };
            wake.push(unparker);
            // SAFETY: just taken out, so it is alive until the unpark.
            let receiver = unsafe { waiter.as_ref() };
            if has_slot(receiver)
                && let Ok((value, sender)) = self.try_recv()
            {
                // SAFETY: just taken out, under the lock.
                unsafe { hand_to(receiver, value) };
                if let Some(sender) = sender {
                    wake.push(sender);
                }
            }
            // A receiver got the value, or a future was told: done. A watcher takes none: go on.
            if receiver.slot() != WATCHES {
                return;
            }
        }
    }

    /// Takes the oldest value back, for its sender. A future that was told of it finds nothing.
    pub(super) fn withdraw(&mut self) -> Option<T> {
        self.buffer.pop_front()
    }

    // Ends.

    /// Whether nothing further is sent: closed, or the last sender is gone.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether every send would fail.
    #[inline]
    pub(super) fn refuses(&self) -> bool {
        self.closed || self.abandoned
    }

    /// Ends sends, and the first waits. Returns whether this call closed the channel, and whether
    /// no wait is left: otherwise the caller comes again, after it has done the wakes.
    pub(super) fn close(&mut self, wake: &mut WakeList) -> (bool, bool) {
        let is_first = !std::mem::replace(&mut self.closed, true);
        (is_first, self.end_waits(wake))
    }

    /// Ends all waits, since the last receiver has gone. Returns what nobody will receive, for the
    /// caller to drop after the unlock.
    pub(super) fn abandon(&mut self, wake: &mut WakeList) -> VecDeque<T> {
        self.abandoned = true;
        // No receiver waits any more (except leaked futures): each one that waits holds a handle.
        self.end_waits(wake);
        std::mem::take(&mut self.buffer)
    }

    /// Ends the waits of the parked senders, and of the first [`WOKEN_AT_ONCE`] receivers, without
    /// their operations done. But a receiver that is parked behind a future gets a buffered value.
    /// Returns whether no receiver is left to end.
    fn end_waits(&mut self, wake: &mut WakeList) -> bool {
        for _ in 0..WOKEN_AT_ONCE {
            let Some((waiter, unparker)) = self.recv_queue.pop() else { break };
            // SAFETY: just taken out, so it is alive until the unpark.
            let receiver = unsafe { waiter.as_ref() };
            if has_slot(receiver)
                && let Some(value) = self.buffer.pop_front()
            {
                // SAFETY: just taken out, under the lock.
                unsafe { hand_to(receiver, value) };
            }
            wake.push(unparker);
        }
        while let Some((_, unparker)) = self.send_queue.pop() {
            wake.push(unparker);
        }
        self.recv_queue.is_empty()
    }
}
