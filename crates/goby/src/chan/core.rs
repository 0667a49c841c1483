//! The channel itself: a buffer, the parked senders and receivers, one short lock.
//!
//! Invariants, between operations:
//! - a receiver is parked only if the buffer is empty and no sender is parked;
//! - a sender is parked only if the buffer is full (which a rendezvous always is) and no receiver
//!   is parked;
//!
//! Both hold except for waiters that a select has claimed elsewhere and not yet taken out: those
//! are skipped.
//!
//! An operation therefore looks at the other side's queue first and *hands over*. A sender moves
//! its value straight into the parked receiver's slot. A receiver takes the value straight out of
//! the parked sender's slot. The parked side finds everything done when it runs again. Values move
//! exactly once, under the lock. Wakes happen after the lock is released, except that of a waiter
//! that only [watches](WATCHES).
//!
//! Two kinds of waiters are handed nothing:
//!
//! - A *receive future* is taken out and [told](TOLD) that a value is there. The value lies in the
//!   buffer, beyond the capacity if need be, until the future is polled or another receiver takes
//!   it first. A future that is dropped unpolled [passes that on](Locked::pass_on) to the next
//!   receiver. Meanwhile receivers behind it may be parked although the buffer is not empty: the
//!   next operation that reaches them hands over the oldest value.
//! - A waiter that only [watches](WATCHES) waits until its operation would not wait. It is no peer:
//!   the first operation that would otherwise hand over to it takes it out and wakes it, and it
//!   looks again.
//!
//! On a rendezvous a receive future is handed its value like others, because a send that is done
//! has met a receiver: a value in between could come back to its sender. A future that is dropped
//! unpolled [gives the value back](Locked::give_back) to the next receiver, or to the buffer, which
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
use std::fmt;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use goby_runtime::{
    BiasedGuard, BiasedLock, IsArmed, Lock, TIMED_OUT, Timer, Unparker, Wait, WaitQueue, WaitReason, Waiter, WakeList,
};

use super::is_done_channel;

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

/// What both ends share.
pub(crate) struct Chan<T> {
    state: BiasedLock<State<T>>,
    /// `usize::MAX` for an unbounded channel.
    capacity: usize,
    /// How many handles each end has. Changes pair up by AcqRel: the thread that drops the last
    /// handle sees what the others did.
    senders: AtomicUsize,
    receivers: AtomicUsize,
    /// The timer that this channel belongs to. It makes the channel look unbuffered.
    timer: OnceLock<Armed>,
    /// The pattern that is told of the ends of the channel's life, if there is one.
    keeper: Option<Arc<dyn Keeper>>,
}

/// Told of two moments in a channel's life, outside its lock.
pub(crate) trait Keeper: Send + Sync {
    /// The last receiver has gone.
    fn receivers_gone(&self);

    /// A receive is about to tell that the channel is closed and drained. May panic.
    fn drained(&self);

    /// Whether a timer will close it, for reports.
    fn is_timed(&self) -> bool {
        false
    }
}

/// The timer of a channel, and the due time from which on the channel accepts an instant, if it
/// does.
struct Armed {
    timer: Timer,
    /// Changed inside the channel's lock.
    from: Lock<Option<Instant>>,
}

struct State<T> {
    buffer: VecDeque<T>,
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

type StateGuard<'a, T> = BiasedGuard<'a, State<T>>;

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
    /// Sends if that needs no waiting; returns the receiver to wake.
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn try_send(&mut self, value: T, capacity: usize) -> Result<Option<Unparker>, Refused<T>> {
        if self.closed || self.abandoned {
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
        if self.buffer.len() < capacity {
            self.buffer.push_back(value);
            return Ok(None);
        }
        Err(Refused::Full(value))
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

    /// Sends the value at `from`, as [`try_send`](State::try_send) does. The caller forgets the
    /// value if that succeeds.
    ///
    /// # Safety
    ///
    /// There is a value.
    unsafe fn send_from(&mut self, from: *const T, capacity: usize) -> Result<Option<Unparker>, Refusal> {
        if self.closed || self.abandoned {
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
        if self.buffer.len() < capacity {
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
    unsafe fn recv_into(&mut self, to: *mut T, capacity: usize) -> Result<Option<Unparker>, Nothing> {
        // The value never lies in a local here, nor in one of a pattern: a value in a frame is one
        // more copy.
        // SAFETY: there is room, by contract.
        if unsafe { pop_into(&mut self.buffer, to) } {
            let mut wake = None;
            // A place is free: the first parked sender's value takes it.
            if self.buffer.len() < capacity
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
    fn try_recv(&mut self, capacity: usize) -> Result<(T, Option<Unparker>), Nothing> {
        if let Some(value) = self.buffer.pop_front() {
            let mut wake = None;
            // A place is free: the first parked sender's value takes it.
            if self.buffer.len() < capacity
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

    /// A waiter has gone. If the channel is empty now, it is a usual one again.
    fn see_if_rare(&mut self) {
        self.is_rare &= !(self.recv_queue.is_empty() && self.send_queue.is_empty() && self.buffer.is_empty());
    }

    /// Ends the waits of the parked senders, and of the first [`WOKEN_AT_ONCE`] receivers, without
    /// their operations done. But a receiver that is parked behind a future gets a buffered value.
    /// Nobody parks after this call, but more receivers may be left: `close` comes again. When the
    /// last receiver has gone, no receiver is left to end (except leaked futures), because each one
    /// that waits holds a handle.
    fn end_waits(&mut self, wake: &mut WakeList) {
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
    }
}

impl<T> Chan<T> {
    pub(crate) fn new(capacity: usize, keeper: Option<Arc<dyn Keeper>>) -> Chan<T> {
        Chan {
            state: BiasedLock::new(State {
                buffer: VecDeque::with_capacity(if capacity == usize::MAX {
                    0
                } else {
                    capacity.min(FIRST_ALLOCATION)
                }),
                send_queue: WaitQueue::new(),
                recv_queue: WaitQueue::new(),
                closed: false,
                abandoned: false,
                is_rare: false,
            }),
            capacity,
            senders: AtomicUsize::new(1),
            receivers: AtomicUsize::new(1),
            timer: OnceLock::new(),
            keeper,
        }
    }

    // Waiting operations. Those without a deadline are inlined whole into the user's code; see
    // `Wait::park`.

    /// Does the first half of a send: all that can be done at once. If the send has to wait, value
    /// and lock come back.
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn send_now(&self, value: T) -> Result<Result<(), T>, (T, StateGuard<'_, T>)> {
        goby_runtime::checkpoint();
        let mut state = self.state.lock();
        match state.try_send(value, self.capacity) {
            Ok(wake) => {
                drop(state);
                unpark(wake);
                Ok(Ok(()))
            }
            Err(Refused::Closed(value)) => Ok(Err(value)),
            Err(Refused::Full(value)) => Err((value, state)),
        }
    }

    /// Does the same for a receive.
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn recv_now(&self) -> Result<Result<T, Nothing>, StateGuard<'_, T>> {
        goby_runtime::checkpoint();
        let mut state = self.state.lock();
        match state.try_recv(self.capacity) {
            Ok((value, wake)) => {
                drop(state);
                unpark(wake);
                Ok(Ok(value))
            }
            Err(Nothing::Closed) => Ok(self.leave_drained(state)),
            Err(Nothing::Empty) => Err(state),
        }
    }

    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(crate) fn send(&self, value: T) -> Result<(), T> {
        let (value, mut state) = match self.send_now(value) {
            Ok(sent) => return sent,
            Err(wait) => wait,
        };
        // SAFETY: parked on below, without a deadline; shown to this channel, whose operations
        // claim it under its lock and unpark.
        let (wait, slot) = (unsafe { Wait::in_one_queue() }, Slot::full(value));
        let waiter = Waiter::new(0, slot.as_ptr());
        // SAFETY: waiter, slot and wait stay here until this function returns, which is after the
        // unpark.
        unsafe { state.send_queue.push_back(&waiter, &wait) };
        drop(state);
        wait.park(WaitReason::ChanSend);
        if waiter.is_done() {
            return Ok(());
        }
        // SAFETY: not done, so the value is still there, and nobody else will look for it.
        Err(unsafe { slot.take() })
    }

    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(crate) fn recv(&self, reason: WaitReason) -> Result<T, Nothing> {
        let mut state = match self.recv_now() {
            Ok(received) => return received,
            Err(wait) => wait,
        };
        // SAFETY: as in `send`.
        let (wait, slot) = (unsafe { Wait::in_one_queue() }, Slot::empty());
        let waiter = Waiter::new(0, slot.as_ptr());
        // SAFETY: as in `send`.
        unsafe { state.recv_queue.push_back(&waiter, &wait) };
        drop(state);
        if is_done_channel::<T>() || self.is_timed() {
            let is_armed = || self.is_armed();
            let timer: Option<IsArmed<'_>> = if self.is_timed() { Some(&is_armed) } else { None };
            goby_runtime::with_reach(is_done_channel::<T>(), timer, || wait.park(reason));
        } else {
            wait.park(reason);
        }
        if waiter.is_done() {
            // SAFETY: done, so a sender has filled the slot and let go of it.
            return Ok(unsafe { slot.take() });
        }
        self.report_drained();
        Err(Nothing::Closed)
    }

    #[cold]
    fn leave_drained(&self, state: StateGuard<'_, T>) -> Result<T, Nothing> {
        drop(state);
        self.report_drained();
        Err(Nothing::Closed)
    }

    pub(crate) fn send_until(&self, value: T, deadline: Option<Instant>) -> Result<(), Refused<T>> {
        let Some(deadline) = deadline else { return self.send(value).map_err(Refused::Closed) };
        let (value, mut state) = match self.send_now(value) {
            Ok(sent) => return sent.map_err(Refused::Closed),
            Err(wait) => wait,
        };
        // SAFETY: parked on below; shown to this channel, whose operations unpark.
        let (wait, slot) = (unsafe { Wait::current() }, Slot::full(value));
        let waiter = Waiter::new(0, slot.as_ptr());
        // SAFETY: as in `send`; when timed out, they stay until after the waiter was taken out.
        unsafe { state.send_queue.push_back(&waiter, &wait) };
        drop(state);
        let timed_out = wait.park_until(WaitReason::ChanSend, Some(deadline)) == TIMED_OUT;
        if timed_out {
            // SAFETY: in this queue, or dropped from it by an operation that found it claimed.
            unsafe { self.state.lock().send_queue.remove(&waiter) };
        } else if waiter.is_done() {
            return Ok(());
        }
        // SAFETY: not done, so the value is still there, and nobody else will look for it.
        let value = unsafe { slot.take() };
        Err(if timed_out { Refused::Full(value) } else { Refused::Closed(value) })
    }

    pub(crate) fn recv_until(&self, reason: WaitReason, deadline: Option<Instant>) -> Result<T, Nothing> {
        let Some(deadline) = deadline else { return self.recv(reason) };
        let mut state = match self.recv_now() {
            Ok(received) => return received,
            Err(wait) => wait,
        };
        // SAFETY: as in `send_until`.
        let (wait, slot) = (unsafe { Wait::current() }, Slot::empty());
        let waiter = Waiter::new(0, slot.as_ptr());
        // SAFETY: as in `send_until`.
        unsafe { state.recv_queue.push_back(&waiter, &wait) };
        drop(state);
        // The deadline ends this wait, whatever the channel's timer does.
        let token = goby_runtime::with_reach(is_done_channel::<T>(), None, || wait.park_until(reason, Some(deadline)));
        if token == TIMED_OUT {
            // SAFETY: as in `send_until`.
            unsafe { self.state.lock().recv_queue.remove(&waiter) };
            return Err(Nothing::Empty);
        }
        if waiter.is_done() {
            // SAFETY: done, so a sender has filled the slot and let go of it.
            Ok(unsafe { slot.take() })
        } else {
            self.report_drained();
            Err(Nothing::Closed)
        }
    }

    // Operations that do not wait.

    #[inline]
    pub(crate) fn try_send(&self, value: T) -> Result<(), Refused<T>> {
        goby_runtime::checkpoint();
        // The guard is gone at the end of the statement: wakes happen after.
        let sent = self.state.lock().try_send(value, self.capacity);
        if sent.is_err() {
            goby_runtime::refused();
        }
        sent.map(unpark)
    }

    #[inline]
    pub(crate) fn try_recv(&self) -> Result<T, Nothing> {
        goby_runtime::checkpoint();
        let received = self.state.lock().try_recv(self.capacity);
        match received {
            Ok(_) => {}
            Err(Nothing::Empty) => goby_runtime::refused(),
            Err(Nothing::Closed) => {
                goby_runtime::refused();
                self.report_drained();
            }
        }
        received.map(|(value, wake)| {
            unpark(wake);
            value
        })
    }

    /// Whether a timer sends or closes, for reports.
    #[inline]
    pub(crate) fn is_timed(&self) -> bool {
        self.timer.get().is_some() || self.keeper.as_ref().is_some_and(|keeper| keeper.is_timed())
    }

    /// Whether the timer that sends or closes is armed; for a channel that
    /// [`is_timed`](Chan::is_timed).
    fn is_armed(&self) -> bool {
        self.timer.get().is_none_or(|armed| armed.from.lock().is_some())
    }

    /// What [`with_reach`](goby_runtime::with_reach) asks about a receive.
    #[inline]
    pub(crate) fn is_timed_and_armed(&self) -> bool {
        self.is_timed() && self.is_armed()
    }

    /// Whether a receiver is parked, or a receive future waits.
    pub(crate) fn has_waiting_receiver(&self) -> bool {
        self.state.lock().recv_queue.has_waiter()
    }

    /// Tells the keeper that a receive found the channel closed and drained.
    #[inline]
    pub(crate) fn report_drained(&self) {
        if let Some(keeper) = &self.keeper {
            keeper.drained();
        }
    }

    /// Ends sends; false if that had happened already. When it returns no wait is left, even if
    /// another call has ended the last ones.
    pub(crate) fn close(&self) -> bool {
        let mut wake = WakeList::new();
        let mut state = self.state.lock();
        let is_first = !std::mem::replace(&mut state.closed, true);
        loop {
            state.end_waits(&mut wake);
            let is_all = state.recv_queue.is_empty();
            drop(state);
            wake.unpark_all();
            if is_all {
                return is_first;
            }
            state = self.state.lock();
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Whether every send would fail.
    pub(crate) fn refuses(&self) -> bool {
        let state = self.state.lock();
        state.closed || state.abandoned
    }

    pub(crate) fn len(&self) -> usize {
        // Values that futures were told of, or have given back, may lie beyond the capacity.
        if self.timer.get().is_some() { 0 } else { self.state.lock().buffer.len().min(self.capacity) }
    }

    pub(crate) fn capacity(&self) -> Option<usize> {
        match self.capacity {
            usize::MAX => None,
            _ if self.timer.get().is_some() => Some(0),
            n => Some(n),
        }
    }

    // Handles.

    pub(crate) fn add_sender(&self) {
        // Relaxed: made from a handle that is alive.
        self.senders.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add_receiver(&self) {
        // Relaxed: as above.
        self.receivers.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn drop_sender(&self) {
        // AcqRel: see the field.
        if self.senders.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.close();
        }
    }

    pub(crate) fn drop_receiver(&self) {
        // AcqRel: see the field.
        if self.receivers.fetch_sub(1, Ordering::AcqRel) == 1 {
            let unread = {
                let mut wake = WakeList::new();
                let mut state = self.state.lock();
                state.abandoned = true;
                state.end_waits(&mut wake);
                let unread = std::mem::take(&mut state.buffer);
                drop(state);
                wake.unpark_all();
                unread
            };
            if let Some(keeper) = &self.keeper {
                keeper.receivers_gone();
            }
            // The user's destructors: last, outside the lock.
            drop(unread);
        }
    }

    // For futures and select. Under the lock where it says so.

    /// Returns the slot of a future that receives, or what stands in its place.
    pub(crate) fn async_slot(&self, slot: &Slot<T>) -> *mut () {
        if self.capacity == 0 { slot.as_ptr() } else { TOLD }
    }

    /// Enters the lock; [`unlock`](Chan::unlock) leaves it.
    #[inline]
    pub(crate) fn lock(&self) {
        self.state.lock_raw();
    }

    /// Enters the lock if that is possible at once.
    #[inline]
    pub(crate) fn try_lock(&self) -> bool {
        self.state.try_lock_raw()
    }

    /// # Safety
    ///
    /// The caller has entered by [`lock`](Chan::lock) or [`try_lock`](Chan::try_lock).
    #[inline]
    pub(crate) unsafe fn unlock(&self) {
        // SAFETY: by contract.
        unsafe { self.state.unlock() }
    }

    /// The view that the holder of the lock has.
    ///
    /// # Safety
    ///
    /// The caller has entered by [`lock`](Chan::lock), and keeps no other view.
    #[inline]
    pub(crate) unsafe fn locked(&self) -> Locked<'_, T> {
        // SAFETY: by contract this thread is inside and there is no other reference.
        Locked { state: unsafe { &mut *self.state.get() }, capacity: self.capacity }
    }
}

/// A timer's channel.
impl Chan<Instant> {
    /// Gives a new channel its timer.
    pub(crate) fn set_timer(&self, timer: Timer) {
        let armed = Armed { timer, from: Lock::new(None) };
        assert!(self.timer.set(armed).is_ok(), "a fresh channel has no timer");
    }

    pub(crate) fn timer(&self) -> &Timer {
        &self.armed().timer
    }

    fn armed(&self) -> &Armed {
        self.timer.get().expect("set when the channel was made")
    }

    /// Takes an unread instant back, and from now on accepts one that is due at `from` or later, if
    /// that is given. Returns true if the channel accepted one before, or one was unread.
    pub(crate) fn arm(&self, from: Option<Instant>) -> bool {
        let mut state = self.state.lock();
        let was_armed = std::mem::replace(&mut *self.armed().from.lock(), from).is_some();
        state.buffer.pop_front().is_some() || was_armed
    }

    /// Leaves an instant, if one is accepted and none is unread; `again` says that more will come.
    pub(crate) fn offer(&self, due: Instant, again: bool) {
        let mut state = self.state.lock();
        // The timer may fire before the channel has been given it. Then nobody has armed it either.
        let Some(armed) = self.timer.get() else { return };
        {
            let mut from = armed.from.lock();
            if from.is_none_or(|from| due < from) {
                return;
            }
            if !again {
                *from = None;
            }
        }
        // A full channel holds an unread instant, and an abandoned one has no reader.
        let wake = state.try_send(due, self.capacity).unwrap_or(None);
        drop(state);
        unpark(wake);
    }
}

/// A channel whose lock is held.
pub(crate) struct Locked<'a, T> {
    state: &'a mut State<T>,
    capacity: usize,
}

impl<T> Locked<'_, T> {
    /// Whether a receive would not wait. It may be wrong about a sender that is claimed meanwhile,
    /// or that only watches.
    #[inline]
    pub(crate) fn can_recv(&mut self) -> bool {
        !self.state.buffer.is_empty() || self.state.closed || self.state.send_queue.has_waiter()
    }

    /// Whether a receive would not wait, asked by a waiter that only watches.
    pub(crate) fn would_recv(&mut self) -> bool {
        let state = &mut *self.state;
        !state.buffer.is_empty() || state.closed || state.send_queue.has_waiter_who(has_slot)
    }

    /// Whether a send would not wait, asked by a waiter that only watches.
    pub(crate) fn would_send(&mut self) -> bool {
        let state = &mut *self.state;
        state.closed
            || state.abandoned
            || state.buffer.len() < self.capacity
            || state.recv_queue.has_waiter_who(|waiter| waiter.slot() != WATCHES)
    }

    /// Whether a send would not wait. It may be wrong about a receiver that is claimed meanwhile,
    /// or that only watches.
    #[inline]
    pub(crate) fn can_send(&mut self) -> bool {
        let state = &mut *self.state;
        state.closed || state.abandoned || state.buffer.len() < self.capacity || state.recv_queue.has_waiter()
    }

    #[inline]
    pub(crate) fn try_send(&mut self, value: T) -> Result<Option<Unparker>, Refused<T>> {
        self.state.try_send(value, self.capacity)
    }

    #[inline]
    pub(crate) fn try_recv(&mut self) -> Result<(T, Option<Unparker>), Nothing> {
        self.state.try_recv(self.capacity)
    }

    /// # Safety
    ///
    /// There is a value at `from`, which the caller forgets if it is sent.
    pub(crate) unsafe fn send_from(&mut self, from: *const T) -> Result<Option<Unparker>, Refusal> {
        // SAFETY: by contract.
        unsafe { self.state.send_from(from, self.capacity) }
    }

    /// # Safety
    ///
    /// There is room for a value at `to`.
    pub(crate) unsafe fn recv_into(&mut self, to: *mut T) -> Result<Option<Unparker>, Nothing> {
        // SAFETY: by contract.
        unsafe { self.state.recv_into(to, self.capacity) }
    }

    /// Says that a waiter without a slot is about to be queued.
    pub(crate) fn expect_rare(&mut self) {
        self.state.is_rare = true;
    }

    /// # Safety
    ///
    /// As for [`WaitQueue::push_back`]; the slot is a full `Slot<T>`, or [`WATCHES`] after
    /// [`expect_rare`](Locked::expect_rare).
    pub(crate) unsafe fn enqueue_send(&mut self, waiter: &Waiter, wait: *const Wait) {
        // SAFETY: by contract.
        unsafe { self.state.send_queue.push_back(waiter, wait) }
    }

    /// # Safety
    ///
    /// As for [`WaitQueue::push_back`]; the slot is an empty `Slot<T>`, or [`TOLD`] or [`WATCHES`]
    /// after [`expect_rare`](Locked::expect_rare). The waiter that watches is no future's.
    pub(crate) unsafe fn enqueue_recv(&mut self, waiter: &Waiter, wait: *const Wait) {
        // SAFETY: by contract.
        unsafe { self.state.recv_queue.push_back(waiter, wait) }
    }

    /// # Safety
    ///
    /// The waiter was queued by `enqueue_send`, here.
    pub(crate) unsafe fn dequeue_send(&mut self, waiter: &Waiter) {
        // SAFETY: by contract.
        unsafe { self.state.send_queue.remove(waiter) };
        self.state.see_if_rare();
    }

    /// # Safety
    ///
    /// The waiter was queued by `enqueue_recv`, here.
    pub(crate) unsafe fn dequeue_recv(&mut self, waiter: &Waiter) {
        // SAFETY: by contract.
        unsafe { self.state.recv_queue.remove(waiter) };
        self.state.see_if_rare();
    }

    /// Gives a value that was handed to a future, and that the future will not take, to the next
    /// receiver, or puts it at the front of the buffer. If no receiver is left, returns it to the
    /// caller to drop.
    pub(crate) fn give_back(&mut self, value: T, wake: &mut WakeList) -> Option<T> {
        if self.state.abandoned {
            return Some(value);
        }
        self.state.buffer.push_front(value);
        self.pass_on(wake);
        None
    }

    /// Tells the next receiver of a value that a future was told of and will not take. The caller
    /// does the wakes after the unlock.
    pub(crate) fn pass_on(&mut self, wake: &mut WakeList) {
        while !self.state.buffer.is_empty() {
            let Some((waiter, unparker)) = self.state.recv_queue.pop() else { return };
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
}

#[cfg_attr(not(debug_assertions), inline(always))]
pub(crate) fn unpark(wake: Option<Unparker>) {
    if let Some(unparker) = wake {
        unparker.unpark();
    }
}

impl<T> fmt::Debug for Chan<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chan").field("len", &self.len()).field("capacity", &self.capacity()).finish_non_exhaustive()
    }
}
