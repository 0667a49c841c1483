//! The channel itself: its [state](State) under one short lock, the counts of its handles, and the
//! operations that park.
//!
//! Each operation enters the lock, asks the state, and leaves. An operation that has to wait puts
//! its waiter into a queue of the state before it leaves the lock, and parks after that. Wakes
//! happen after the unlock too, except that of a waiter that only [watches](super::state::WATCHES).
//!
//! Futures and selects do the same in steps of their own: [`lock`](Chan::lock),
//! [`locked`](Chan::locked), [`unlock`](Chan::unlock).

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use goby_runtime::{
    BiasedGuard, BiasedLock, IsArmed, Lock, TIMED_OUT, Timer, Unparker, Wait, WaitReason, Waiter, WakeList,
};

use super::is_done_channel;
use super::state::{Nothing, Refused, Slot, State};

/// What both ends share.
pub(crate) struct Chan<T> {
    state: BiasedLock<State<T>>,
    /// The capacity that users are told of: that of the state, except of a timer's channel.
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

type StateGuard<'a, T> = BiasedGuard<'a, State<T>>;

/// What became of a send at once.
enum SendNow<'a, T> {
    Sent,
    Closed(T),
    /// The caller queues the value, and leaves the lock.
    Wait(T, StateGuard<'a, T>),
}

/// What became of a receive at once.
enum RecvNow<'a, T> {
    Received(T),
    /// The channel is closed and drained.
    Drained,
    /// The caller queues, and leaves the lock.
    Wait(StateGuard<'a, T>),
}

impl<T> Chan<T> {
    pub(crate) fn new(capacity: usize, keeper: Option<Arc<dyn Keeper>>) -> Chan<T> {
        Chan {
            state: BiasedLock::new(State::new(capacity)),
            capacity,
            senders: AtomicUsize::new(1),
            receivers: AtomicUsize::new(1),
            timer: OnceLock::new(),
            keeper,
        }
    }

    // Waiting operations. Those without a deadline are inlined whole into the user's code; see
    // `Wait::park`.

    /// Does what can be done of a send at once.
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn send_now(&self, value: T) -> SendNow<'_, T> {
        goby_runtime::checkpoint();
        let mut state = self.state.lock();
        match state.try_send(value) {
            Ok(wake) => {
                drop(state);
                unpark(wake);
                SendNow::Sent
            }
            Err(Refused::Closed(value)) => SendNow::Closed(value),
            Err(Refused::Full(value)) => SendNow::Wait(value, state),
        }
    }

    /// Does what can be done of a receive at once.
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn recv_now(&self) -> RecvNow<'_, T> {
        goby_runtime::checkpoint();
        let mut state = self.state.lock();
        match state.try_recv() {
            Ok((value, wake)) => {
                drop(state);
                unpark(wake);
                RecvNow::Received(value)
            }
            Err(Nothing::Closed) => RecvNow::Drained,
            Err(Nothing::Empty) => RecvNow::Wait(state),
        }
    }

    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(crate) fn send(&self, value: T) -> Result<(), T> {
        let (value, mut state) = match self.send_now(value) {
            SendNow::Sent => return Ok(()),
            SendNow::Closed(value) => return Err(value),
            SendNow::Wait(value, state) => (value, state),
        };
        // SAFETY: parked on below, without a deadline; shown to this channel, whose operations
        // claim it under its lock and unpark.
        let (wait, slot) = (unsafe { Wait::in_one_queue() }, Slot::full(value));
        let waiter = Waiter::new(0, slot.as_ptr());
        // SAFETY: waiter, slot and wait stay here until this function returns, which is after the
        // unpark.
        unsafe { state.enqueue_send(&waiter, &wait) };
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
            RecvNow::Received(value) => return Ok(value),
            RecvNow::Drained => return self.drained(),
            RecvNow::Wait(state) => state,
        };
        // SAFETY: as in `send`.
        let (wait, slot) = (unsafe { Wait::in_one_queue() }, Slot::empty());
        let waiter = Waiter::new(0, slot.as_ptr());
        // SAFETY: as in `send`.
        unsafe { state.enqueue_recv(&waiter, &wait) };
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
    fn drained(&self) -> Result<T, Nothing> {
        self.report_drained();
        Err(Nothing::Closed)
    }

    pub(crate) fn send_until(&self, value: T, deadline: Option<Instant>) -> Result<(), Refused<T>> {
        let Some(deadline) = deadline else { return self.send(value).map_err(Refused::Closed) };
        let (value, mut state) = match self.send_now(value) {
            SendNow::Sent => return Ok(()),
            SendNow::Closed(value) => return Err(Refused::Closed(value)),
            SendNow::Wait(value, state) => (value, state),
        };
        // SAFETY: parked on below; shown to this channel, whose operations unpark.
        let (wait, slot) = (unsafe { Wait::current() }, Slot::full(value));
        let waiter = Waiter::new(0, slot.as_ptr());
        // SAFETY: as in `send`; when timed out, they stay until after the waiter was taken out.
        unsafe { state.enqueue_send(&waiter, &wait) };
        drop(state);
        let timed_out = wait.park_until(WaitReason::ChanSend, Some(deadline)) == TIMED_OUT;
        if timed_out {
            // SAFETY: in this queue, or dropped from it by an operation that found it claimed.
            unsafe { self.state.lock().dequeue_send(&waiter) };
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
            RecvNow::Received(value) => return Ok(value),
            RecvNow::Drained => return self.drained(),
            RecvNow::Wait(state) => state,
        };
        // SAFETY: as in `send_until`.
        let (wait, slot) = (unsafe { Wait::current() }, Slot::empty());
        let waiter = Waiter::new(0, slot.as_ptr());
        // SAFETY: as in `send_until`.
        unsafe { state.enqueue_recv(&waiter, &wait) };
        drop(state);
        // The deadline ends this wait, whatever the channel's timer does.
        let token = goby_runtime::with_reach(is_done_channel::<T>(), None, || wait.park_until(reason, Some(deadline)));
        if token == TIMED_OUT {
            // SAFETY: as in `send_until`.
            unsafe { self.state.lock().dequeue_recv(&waiter) };
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
        let sent = self.state.lock().try_send(value);
        if sent.is_err() {
            goby_runtime::refused();
        }
        sent.map(unpark)
    }

    #[inline]
    pub(crate) fn try_recv(&self) -> Result<T, Nothing> {
        goby_runtime::checkpoint();
        let received = self.state.lock().try_recv();
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
        self.state.lock().has_waiting_receiver()
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
        let mut did_it = false;
        loop {
            let (is_first, is_all) = self.state.lock().close(&mut wake);
            did_it |= is_first;
            wake.unpark_all();
            if is_all {
                return did_it;
            }
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().is_closed()
    }

    /// Whether every send would fail.
    pub(crate) fn refuses(&self) -> bool {
        self.state.lock().refuses()
    }

    pub(crate) fn len(&self) -> usize {
        if self.timer.get().is_some() { 0 } else { self.state.lock().n_buffered().min(self.capacity) }
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
            let mut wake = WakeList::new();
            let unread = self.state.lock().abandon(&mut wake);
            wake.unpark_all();
            if let Some(keeper) = &self.keeper {
                keeper.receivers_gone();
            }
            // The user's destructors: last, outside the lock.
            drop(unread);
        }
    }

    // For futures and select. Under the lock where it says so.

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

    /// Returns the state, for the holder of the lock.
    ///
    /// # Safety
    ///
    /// The caller has entered by [`lock`](Chan::lock) or [`try_lock`](Chan::try_lock), and keeps no
    /// other reference to the state.
    #[inline]
    #[expect(clippy::mut_from_ref, reason = "the lock makes it unique")]
    pub(crate) unsafe fn locked(&self) -> &mut State<T> {
        // SAFETY: by contract this thread is inside and there is no other reference.
        unsafe { &mut *self.state.get() }
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
        state.withdraw().is_some() || was_armed
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
        let wake = state.try_send(due).unwrap_or(None);
        drop(state);
        unpark(wake);
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
