//! What a select asks of its cases.
//!
//! A select asks [`Case`]s, which do not show the type of their values: two cases of one select may
//! have different ones. A kind of cases (`kinds.rs`) says what its [`Operation`] does to the state
//! of a channel of its type. What stands between the two, the way from a channel without a type to
//! the state behind its lock, is the same for both kinds.
//!
//! A case lies on the stack of the goroutine that selects, or in a box of a
//! [`Select`](super::Select). Its waiter and slot are inside it, so it must not move while it is
//! queued.

use std::ptr::NonNull;

use goby_runtime::{AnyWait, Unparker, WakeList};

use crate::chan::Reach;
use crate::chan::core::Chan;
use crate::chan::state::State;

/// A channel without its type of values.
pub(super) type AnyChan = NonNull<()>;

/// One alternative of a select. Sealed: there are two kinds.
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
    fn reach(&self) -> Reach;

    /// Whether the timer in its [`reach`](Case::reach) is armed.
    fn is_armed(&self) -> bool;

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
    /// `chan` is this case's, and locked; the case is not queued.
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
    unsafe fn enqueue(&mut self, chan: AnyChan, wait: AnyWait, token: usize, how: How);

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

/// What a kind of cases does, under the lock of its channel.
pub(super) trait Operation {
    type Value;

    /// Whether it receives.
    const RECEIVES: bool;

    /// The channel; none for a case that is disabled.
    fn channel(&self) -> Option<&Chan<Self::Value>>;

    /// [`Case::is_ready`].
    fn is_ready_in(&self, state: &mut State<Self::Value>) -> bool;

    /// [`Case::would_happen`].
    fn would_happen_in(&self, state: &mut State<Self::Value>) -> bool;

    /// [`Case::attempt`].
    ///
    /// # Safety
    ///
    /// The case is not queued.
    unsafe fn attempt_in(&mut self, state: &mut State<Self::Value>, wake: &mut Option<Unparker>) -> bool;

    /// [`Case::enqueue`].
    ///
    /// # Safety
    ///
    /// The state is that of this case's channel. Neither the case nor the wait moves or dies before
    /// `dequeue_in`.
    unsafe fn enqueue_in(&mut self, state: &mut State<Self::Value>, wait: AnyWait, token: usize, how: How);

    /// [`Case::dequeue`].
    ///
    /// # Safety
    ///
    /// The state is that of this case's channel. The case was queued there, and the wait is claimed
    /// or given up: nobody claims this case afterwards.
    unsafe fn dequeue_in(&mut self, state: &mut State<Self::Value>, won: bool);

    /// [`Case::dequeue_told`].
    ///
    /// # Safety
    ///
    /// As for `dequeue_in`.
    unsafe fn dequeue_told_in(
        &mut self,
        state: &mut State<Self::Value>,
        won: bool,
        wake: &mut Option<Unparker>,
    ) -> bool;

    /// [`Case::abandon`].
    ///
    /// # Safety
    ///
    /// As for `dequeue_in`.
    unsafe fn abandon_in(&mut self, state: &mut State<Self::Value>, won: bool, wake: &mut WakeList);

    /// [`Case::forget`].
    fn forget_result(&mut self);
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

/// What the lock of a channel guards.
///
/// # Safety
///
/// As for [`of`]; and the caller is inside the lock, with no other reference to the state.
#[inline]
unsafe fn state_of<'a, T>(chan: AnyChan) -> &'a mut State<T> {
    // SAFETY: by contract.
    unsafe { of::<T>(chan).locked() }
}

// SAFETY: `chan` forgets the type that all other methods remember, and the channel lives as long as
// the case, which borrows it. A reference to the state ends with the method that made it.
unsafe impl<O: Operation> Case for O {
    #[inline]
    fn chan(&self) -> Option<AnyChan> {
        self.channel().map(any)
    }

    fn is_recv(&self) -> bool {
        O::RECEIVES
    }

    fn reach(&self) -> Reach {
        // A timer or a context never takes a value, so it ends no send.
        self.channel().filter(|_| O::RECEIVES).map_or(Reach::default(), Chan::reach)
    }

    fn is_armed(&self) -> bool {
        O::RECEIVES && self.channel().is_some_and(Chan::is_armed)
    }

    #[inline]
    unsafe fn lock(&self, chan: AnyChan) {
        // SAFETY: by contract.
        unsafe { of::<O::Value>(chan) }.lock();
    }

    #[inline]
    unsafe fn try_lock(&self, chan: AnyChan) -> bool {
        // SAFETY: by contract.
        unsafe { of::<O::Value>(chan) }.try_lock()
    }

    #[inline]
    unsafe fn unlock(&self, chan: AnyChan) {
        // SAFETY: by contract.
        unsafe { of::<O::Value>(chan).unlock() };
    }

    #[inline]
    unsafe fn is_ready(&mut self, chan: AnyChan) -> bool {
        // SAFETY: locked by contract.
        self.is_ready_in(unsafe { state_of(chan) })
    }

    unsafe fn would_happen(&mut self, chan: AnyChan) -> bool {
        // SAFETY: locked by contract.
        self.would_happen_in(unsafe { state_of(chan) })
    }

    #[inline]
    unsafe fn attempt(&mut self, chan: AnyChan, wake: &mut Option<Unparker>) -> bool {
        // SAFETY: locked, and not queued, by contract.
        unsafe { self.attempt_in(state_of(chan), wake) }
    }

    #[inline]
    unsafe fn enqueue(&mut self, chan: AnyChan, wait: AnyWait, token: usize, how: How) {
        // SAFETY: locked; the rest by contract.
        unsafe { self.enqueue_in(state_of(chan), wait, token, how) };
    }

    #[inline]
    unsafe fn dequeue(&mut self, chan: AnyChan, won: bool) {
        // SAFETY: locked; the rest by contract.
        unsafe { self.dequeue_in(state_of(chan), won) };
    }

    unsafe fn dequeue_told(&mut self, chan: AnyChan, won: bool, wake: &mut Option<Unparker>) -> bool {
        // SAFETY: locked; the rest by contract.
        unsafe { self.dequeue_told_in(state_of(chan), won, wake) }
    }

    unsafe fn abandon(&mut self, chan: AnyChan, won: bool, wake: &mut WakeList) {
        // SAFETY: locked; the rest by contract.
        unsafe { self.abandon_in(state_of(chan), won, wake) };
    }

    fn forget(&mut self) {
        self.forget_result();
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

    fn reach(&self) -> Reach {
        Reach::default()
    }

    fn is_armed(&self) -> bool {
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

    unsafe fn enqueue(&mut self, _: AnyChan, _: AnyWait, _: usize, _: How) {}

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
