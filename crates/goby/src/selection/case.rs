//! The two kinds of cases, and what a select asks of them.
//!
//! A case lies on the stack of the goroutine that selects, or in a box of a
//! [`Select`](super::Select). Its waiter and slot are inside it, so it must not move while it is
//! queued.

use std::fmt;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};

use goby_runtime::{Unparker, Wait, Waiter, WakeList};

use crate::chan::core::Chan;
use crate::chan::large::is_large;
use crate::chan::state::{Nothing, Refusal, Refused, Slot, TOLD, WATCHES};
use crate::chan::{Reach, Receiver, RecvError, SendError, Sender, never};

/// A channel without its type of values.
pub(super) type AnyChan = NonNull<()>;

/// One alternative of a select. Sealed: the two kinds are below.
///
/// # Safety
///
/// The methods do what they say under the lock that `lock` takes, which is the lock of the channel;
/// equal channels mean the same type of value.
#[doc(hidden)]
pub unsafe trait Case {
    /// The channel; none for a case that is disabled.
    fn chan(&self) -> Option<AnyChan>;

    /// Whether it receives.
    fn is_recv(&self) -> bool;

    /// Returns what can make it happen besides a peer, for reports.
    fn reach(&self) -> Reach {
        Reach::default()
    }

    /// Whether the timer in its [`reach`](Case::reach) is armed.
    fn is_armed(&self) -> bool {
        false
    }

    // The methods below are passed what `chan` returned, so that a caller of several of them asks
    // once.

    /// Enters the channel's lock.
    ///
    /// # Safety
    ///
    /// `chan` is this case's.
    unsafe fn lock(&self, chan: AnyChan);

    /// Enters the channel's lock if that is possible at once.
    ///
    /// # Safety
    ///
    /// `chan` is this case's.
    unsafe fn try_lock(&self, chan: AnyChan) -> bool;

    /// # Safety
    ///
    /// `chan` is this case's, and this thread has entered its lock by `lock` or `try_lock`.
    unsafe fn unlock(&self, chan: AnyChan);

    /// # Safety
    ///
    /// `chan` is this case's, and locked.
    unsafe fn is_ready(&mut self, chan: AnyChan) -> bool;

    /// Carries the operation out and keeps its result; returns false if it was not ready after all.
    ///
    /// # Safety
    ///
    /// `chan` is this case's, and locked.
    unsafe fn attempt(&mut self, chan: AnyChan, wake: &mut Option<Unparker>) -> bool;

    /// Whether the operation would not wait, asked by a select that only looks. Another that only
    /// looks is no peer.
    ///
    /// # Safety
    ///
    /// `chan` is this case's, and locked.
    unsafe fn would_happen(&mut self, chan: AnyChan) -> bool;

    /// # Safety
    ///
    /// `chan` is this case's, and locked; neither the case nor the wait moves or dies before
    /// `dequeue`.
    unsafe fn enqueue(&mut self, chan: AnyChan, wait: *const Wait, token: usize, how: How);

    /// Takes the waiter out; if `won`, keeps the result that the claimer has left.
    ///
    /// # Safety
    ///
    /// `chan` is this case's, and locked; the case was queued; and the wait is claimed or given up:
    /// nobody claims this case afterwards.
    unsafe fn dequeue(&mut self, chan: AnyChan, won: bool);

    /// [`dequeue`](Case::dequeue) for a future. Returns true if the case has `won` and its
    /// operation is done; false if it was only told of a value, and the value is gone.
    ///
    /// # Safety
    ///
    /// As for `dequeue`.
    unsafe fn dequeue_told(&mut self, chan: AnyChan, won: bool, wake: &mut Option<Unparker>) -> bool;

    /// `dequeue` for a future that has gone: the value that it received, or was told of, goes to
    /// the next receiver. The wakes come after the unlock, and [`forget`](Case::forget) comes after
    /// the unlock of the last case.
    ///
    /// # Safety
    ///
    /// As for `dequeue`.
    unsafe fn abandon(&mut self, chan: AnyChan, won: bool, wake: &mut WakeList);

    /// Drops the result, with the user's value. Called only while no case of the select is queued.
    fn forget(&mut self);

    /// Whether it has been removed from its select.
    fn is_removed(&self) -> bool {
        false
    }
}

/// How a case waits in its channel's queue.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// The peer that comes carries its operation out.
    HandOver,
    /// As a future's. If it receives, and not from a rendezvous, it is told of a value, and takes
    /// one when it is polled.
    Tell,
    /// It only looks, and is told when its operation would not wait.
    Watch,
}

/// Something through which a case can be reached.
pub(super) trait AsCase {
    fn get(&self) -> &(dyn Case + '_);
    fn get_mut(&mut self) -> &mut (dyn Case + '_);
}

impl AsCase for &mut (dyn Case + '_) {
    fn get(&self) -> &(dyn Case + '_) {
        &**self
    }

    fn get_mut(&mut self) -> &mut (dyn Case + '_) {
        &mut **self
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

/// The channel of a case, its type forgotten.
#[inline]
pub(super) fn any<T>(chan: &Chan<T>) -> AnyChan {
    NonNull::from(chan).cast()
}

/// The same channel, with its type again.
///
/// # Safety
///
/// It was forgotten by [`any`] for the same `T`, and the channel outlives the use of the reference.
#[inline]
unsafe fn of<'a, T>(chan: AnyChan) -> &'a Chan<T> {
    // SAFETY: by contract.
    unsafe { chan.cast().as_ref() }
}

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
}

// SAFETY: it owns a value or a result, which are Send, and shares a channel; its waiter is touched
// under the channel's lock.
unsafe impl<T: Send> Send for RecvCase<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for SendCase<'_, T> {}

// SAFETY: see the methods.
unsafe impl<T> Case for RecvCase<'_, T> {
    #[inline]
    fn chan(&self) -> Option<AnyChan> {
        self.chan.map(any)
    }

    fn is_recv(&self) -> bool {
        true
    }

    fn reach(&self) -> Reach {
        self.chan.map_or(Reach::default(), Chan::reach)
    }

    fn is_armed(&self) -> bool {
        self.chan.is_some_and(|chan| chan.is_armed())
    }

    unsafe fn lock(&self, chan: AnyChan) {
        // SAFETY: by contract.
        unsafe { of::<T>(chan) }.lock();
    }

    #[inline]
    unsafe fn try_lock(&self, chan: AnyChan) -> bool {
        // SAFETY: by contract.
        unsafe { of::<T>(chan) }.try_lock()
    }

    #[inline]
    unsafe fn unlock(&self, chan: AnyChan) {
        // SAFETY: by contract.
        unsafe { of::<T>(chan).unlock() };
    }

    #[inline]
    unsafe fn is_ready(&mut self, chan: AnyChan) -> bool {
        // SAFETY: locked by contract; the view ends here.
        unsafe { of::<T>(chan).locked() }.can_recv()
    }

    unsafe fn would_happen(&mut self, chan: AnyChan) -> bool {
        // SAFETY: as above.
        unsafe { of::<T>(chan).locked() }.would_recv()
    }

    unsafe fn attempt(&mut self, chan: AnyChan, wake: &mut Option<Unparker>) -> bool {
        if const { is_large::<T>() } {
            // SAFETY: by contract.
            return unsafe { self.attempt_by_address(chan, wake) };
        }
        // SAFETY: locked by contract; the view ends here.
        self.result = match unsafe { of::<T>(chan).locked() }.try_recv() {
            Ok((value, unparker)) => {
                *wake = unparker;
                Some(Ok(value))
            }
            Err(Nothing::Closed) => Some(Err(RecvError)),
            Err(Nothing::Empty) => None,
        };
        self.result.is_some()
    }

    unsafe fn enqueue(&mut self, chan: AnyChan, wait: *const Wait, token: usize, how: How) {
        let slot = match how {
            How::HandOver => self.slot.as_ptr(),
            // SAFETY: locked by contract; the view ends here.
            How::Tell => unsafe { of::<T>(chan).locked() }.async_slot(&self.slot),
            How::Watch => WATCHES,
        };
        let waiter = self.waiter.write(Waiter::new(token, slot));
        // SAFETY: locked by contract; the view ends here. The slot is empty, or rare waiters are
        // expected.
        unsafe {
            let locked = of::<T>(chan).locked();
            if how != How::HandOver {
                locked.expect_rare();
            }
            locked.enqueue_recv(waiter, wait);
        }
    }

    unsafe fn dequeue(&mut self, chan: AnyChan, won: bool) {
        // SAFETY: by contract the case is queued, so the waiter is there, and the channel is
        // locked. If the waiter is done, a sender has filled the slot.
        unsafe {
            let waiter = self.waiter.assume_init_ref();
            of::<T>(chan).locked().dequeue_recv(waiter);
            if won {
                self.result = Some(if waiter.is_done() { Ok(self.slot.take()) } else { Err(RecvError) });
            }
        }
    }

    unsafe fn dequeue_told(&mut self, chan: AnyChan, won: bool, wake: &mut Option<Unparker>) -> bool {
        // SAFETY: queued, so the waiter is there; the rest by contract.
        unsafe {
            let was_told = self.waiter.assume_init_ref().slot() == TOLD;
            self.dequeue(chan, won && !was_told);
            won && (!was_told || self.attempt(chan, wake))
        }
    }

    unsafe fn abandon(&mut self, chan: AnyChan, won: bool, wake: &mut WakeList) {
        // SAFETY: as above.
        unsafe {
            let was_told = self.waiter.assume_init_ref().slot() == TOLD;
            self.dequeue(chan, won && !was_told);
            if won && was_told {
                of::<T>(chan).locked().pass_on(wake);
            } else if let Some(Ok(value)) = self.result.take() {
                self.result = of::<T>(chan).locked().give_back(value, wake).map(Ok);
            }
        }
    }

    fn forget(&mut self) {
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
}

impl<T> RecvCase<'_, T> {
    /// As [`attempt`](Case::attempt), of large values.
    ///
    /// # Safety
    ///
    /// As for that.
    #[inline(never)]
    unsafe fn attempt_by_address(&mut self, chan: AnyChan, wake: &mut Option<Unparker>) -> bool {
        // SAFETY: locked by contract; the view ends here; the slot is empty.
        match unsafe { of::<T>(chan).locked().recv_into(self.slot.as_ptr().cast()) } {
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
}

impl<T> SendCase<'_, T> {
    /// As [`attempt`](Case::attempt), of large values.
    ///
    /// # Safety
    ///
    /// As for that; and the slot is full.
    #[inline(never)]
    unsafe fn attempt_by_address(&mut self, chan: AnyChan, wake: &mut Option<Unparker>) -> bool {
        // SAFETY: locked by contract; the view ends here; the slot is full.
        self.result = match unsafe { of::<T>(chan).locked().send_from(self.slot.as_ptr().cast()) } {
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

// SAFETY: see the methods.
unsafe impl<T> Case for SendCase<'_, T> {
    #[inline]
    fn chan(&self) -> Option<AnyChan> {
        self.chan.map(any)
    }

    fn is_recv(&self) -> bool {
        false
    }

    unsafe fn lock(&self, chan: AnyChan) {
        // SAFETY: by contract.
        unsafe { of::<T>(chan) }.lock();
    }

    #[inline]
    unsafe fn try_lock(&self, chan: AnyChan) -> bool {
        // SAFETY: by contract.
        unsafe { of::<T>(chan) }.try_lock()
    }

    #[inline]
    unsafe fn unlock(&self, chan: AnyChan) {
        // SAFETY: by contract.
        unsafe { of::<T>(chan).unlock() };
    }

    #[inline]
    unsafe fn is_ready(&mut self, chan: AnyChan) -> bool {
        // SAFETY: locked by contract; the view ends here.
        self.full && unsafe { of::<T>(chan).locked() }.can_send()
    }

    unsafe fn would_happen(&mut self, chan: AnyChan) -> bool {
        // SAFETY: as above.
        unsafe { of::<T>(chan).locked() }.would_send()
    }

    unsafe fn attempt(&mut self, chan: AnyChan, wake: &mut Option<Unparker>) -> bool {
        if !self.full {
            return false;
        }
        if const { is_large::<T>() } {
            // SAFETY: by contract, and `full` says that the value is there.
            return unsafe { self.attempt_by_address(chan, wake) };
        }
        // SAFETY: `full` says that the value is there. Locked by contract; the view ends here.
        match unsafe { of::<T>(chan).locked().try_send(self.slot.take()) } {
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

    unsafe fn enqueue(&mut self, chan: AnyChan, wait: *const Wait, token: usize, how: How) {
        // A case without a value has nothing to wait for, unless it only looks.
        let watches = how == How::Watch;
        if self.full || watches {
            self.waiter.set(token, if watches { WATCHES } else { self.slot.as_ptr() });
            // SAFETY: locked by contract; the view ends here. The slot is full, or rare waiters are
            // expected.
            unsafe {
                let locked = of::<T>(chan).locked();
                if watches {
                    locked.expect_rare();
                }
                locked.enqueue_send(&self.waiter, wait);
            }
        }
    }

    unsafe fn dequeue(&mut self, chan: AnyChan, won: bool) {
        // SAFETY: locked by contract; if not done, the value is still there.
        unsafe {
            of::<T>(chan).locked().dequeue_send(&self.waiter);
            if won {
                self.full = false;
                self.result = Some(if self.waiter.is_done() { Ok(()) } else { Err(SendError(self.slot.take())) });
            }
        }
    }

    unsafe fn dequeue_told(&mut self, chan: AnyChan, won: bool, _: &mut Option<Unparker>) -> bool {
        // SAFETY: by contract.
        unsafe { self.dequeue(chan, won) };
        won
    }

    unsafe fn abandon(&mut self, chan: AnyChan, won: bool, _: &mut WakeList) {
        // SAFETY: by contract.
        unsafe { self.dequeue(chan, won) };
    }

    fn forget(&mut self) {
        self.result = None;
    }
}

/// Stands in the place of a case that was removed; it never happens.
pub(super) struct Removed;

// SAFETY: it has no channel.
unsafe impl Case for Removed {
    fn chan(&self) -> Option<AnyChan> {
        None
    }

    fn is_recv(&self) -> bool {
        false
    }

    unsafe fn lock(&self, _: AnyChan) {}

    unsafe fn try_lock(&self, _: AnyChan) -> bool {
        false
    }

    unsafe fn unlock(&self, _: AnyChan) {}

    unsafe fn is_ready(&mut self, _: AnyChan) -> bool {
        false
    }

    unsafe fn would_happen(&mut self, _: AnyChan) -> bool {
        false
    }

    unsafe fn attempt(&mut self, _: AnyChan, _: &mut Option<Unparker>) -> bool {
        false
    }

    unsafe fn enqueue(&mut self, _: AnyChan, _: *const Wait, _: usize, _: How) {}

    unsafe fn dequeue(&mut self, _: AnyChan, _: bool) {}

    unsafe fn dequeue_told(&mut self, _: AnyChan, _: bool, _: &mut Option<Unparker>) -> bool {
        false
    }

    unsafe fn abandon(&mut self, _: AnyChan, _: bool, _: &mut WakeList) {}

    fn forget(&mut self) {}

    fn is_removed(&self) -> bool {
        true
    }
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
