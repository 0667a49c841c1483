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
use std::time::Instant;

use goby_runtime::{BiasedGuard, BiasedLock, TIMED_OUT, Unparker, Wait, WaitReason, Waiter, WakeList};

use super::keeper::{Kept, Reach};
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
    kept: Kept,
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
    pub(crate) fn new(capacity: usize, kept: Kept) -> Chan<T> {
        Chan {
            state: BiasedLock::new(State::new(capacity)),
            capacity,
            senders: AtomicUsize::new(1),
            receivers: AtomicUsize::new(1),
            kept,
        }
    }

    /// Makes a channel with room for one value, which its users do not see.
    pub(super) fn looking_unbuffered(kept: Kept) -> Chan<T> {
        Chan { capacity: 0, ..Chan::new(1, kept) }
    }

    // Waiting operations. Those without a deadline are inlined whole into the user's code; see
    // `Wait::park`.

    /// Does what can be done of a send at once.
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn send_now(&self, value: T) -> SendNow<'_, T> {
        goby_runtime::checkpoint_on(self.address());
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
        goby_runtime::checkpoint_on(self.address());
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
    pub(crate) fn recv(&self) -> Result<T, Nothing> {
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
        let reach = self.reach();
        if reach.is_nothing() {
            wait.park(WaitReason::ChanReceive);
        } else {
            self.park_reached(&wait, reach);
        }
        if waiter.is_done() {
            // SAFETY: done, so a sender has filled the slot and let go of it.
            return Ok(unsafe { slot.take() });
        }
        self.report_drained();
        Err(Nothing::Closed)
    }

    /// Parks a receiver without a deadline whose wait a context or a timer can end.
    #[inline(never)]
    fn park_reached(&self, wait: &Wait, reach: Reach) {
        let reason = if reach.context { WaitReason::ContextDone } else { WaitReason::ChanReceive };
        reach.during(&|| self.is_armed(), || wait.park(reason));
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
        let Some(deadline) = deadline else { return self.recv() };
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
        let reach = Reach { timer: false, ..self.reach() };
        let token = reach.during(&|| false, || wait.park_until(reason, Some(deadline)));
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
        goby_runtime::checkpoint_on(self.address());
        // The guard is gone at the end of the statement: wakes happen after.
        let sent = self.state.lock().try_send(value);
        if sent.is_err() {
            goby_runtime::refused();
        }
        sent.map(unpark)
    }

    #[inline]
    pub(crate) fn try_recv(&self) -> Result<T, Nothing> {
        goby_runtime::checkpoint_on(self.address());
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

    /// Returns what can end a receive besides a sender, for reports.
    #[inline]
    pub(crate) fn reach(&self) -> Reach {
        self.kept.keeper().map_or(Reach::default(), |keeper| keeper.reach())
    }

    /// Whether the timer that [`reach`](Chan::reach) tells of is armed.
    pub(crate) fn is_armed(&self) -> bool {
        self.kept.keeper().is_some_and(|keeper| keeper.is_armed())
    }

    /// Whether a receiver is parked, or a receive future waits.
    pub(crate) fn has_waiting_receiver(&self) -> bool {
        self.state.lock().has_waiting_receiver()
    }

    /// Tells the keeper that a receive found the channel closed and drained.
    #[inline]
    pub(crate) fn report_drained(&self) {
        if let Some(keeper) = self.kept.keeper() {
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
        self.state.lock().n_buffered().min(self.capacity)
    }

    pub(crate) fn capacity(&self) -> Option<usize> {
        (self.capacity != usize::MAX).then_some(self.capacity)
    }

    // For what feeds a channel.

    /// Sends a value, if there is room and `accepts` says so, under the lock.
    pub(super) fn offer(&self, value: T, accepts: impl FnOnce() -> bool) {
        let mut state = self.state.lock();
        if !accepts() {
            return;
        }
        // A full channel holds an unread value, and an abandoned one has no reader.
        let sent = state.try_send(value);
        drop(state);
        if let Ok(wake) = sent {
            unpark(wake);
        }
    }

    /// Runs `change` under the lock, and takes the oldest value back.
    pub(super) fn withdraw(&self, change: impl FnOnce()) -> Option<T> {
        let mut state = self.state.lock();
        change();
        state.withdraw()
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

    /// Returns what checks know it by.
    #[inline]
    pub(super) fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    pub(crate) fn drop_sender(&self) {
        // AcqRel: see the field.
        if self.senders.fetch_sub(1, Ordering::AcqRel) == 1 {
            goby_runtime::gives_back(self.address());
            self.close();
        }
    }

    pub(crate) fn drop_receiver(&self) {
        // AcqRel: see the field.
        if self.receivers.fetch_sub(1, Ordering::AcqRel) == 1 {
            goby_runtime::gives_back(self.address());
            let mut wake = WakeList::new();
            let unread = self.state.lock().abandon(&mut wake);
            wake.unpark_all();
            if let Some(keeper) = self.kept.keeper() {
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
