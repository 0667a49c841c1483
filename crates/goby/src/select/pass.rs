//! The passes of a select, over cases of any kind.
//!
//! 1. Lock the channels of all cases, in the order of their addresses. At that one instant, see which cases are ready;
//!    of several, choose one at random; carry it out. Done.
//! 2. None is ready: queue a waiter in every channel, unlock them, park. Whoever carries out one of the cases claims the
//!    wait, and with it the select.
//! 3. Lock each channel once more, one at a time, and take the waiters out.
//!
//! `select!` knows its cases' types, and goes through the passes by static calls ([`look`], [`wait`]), which try each lock once:
//! nobody waits for a lock, so no order is needed. Where a lock is taken, or two cases are of one channel, [`run`] does it.
//!
//! Source: Go's `selectgo`.

use std::cell::OnceCell;
use std::fmt;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};
use std::time::Instant;

use goby_runtime::{Unparker, Wait, WaitReason, Waiter};

use crate::chan::core::{Chan, Nothing, Refused, Slot, unpark};
use crate::chan::{Receiver, RecvError, SendError, Sender, is_done_channel};

/// Cases up to this many are ordered without allocation.
const INLINE: usize = 8;

/// A channel whose type of values is forgotten.
pub(super) type AnyChan = NonNull<()>;

/// One alternative of a select. Sealed: the two kinds are below.
///
/// # Safety
///
/// The methods do what they say under the lock that `lock` takes, which is the lock of the channel; equal channels mean the same
/// type of value.
#[doc(hidden)]
pub unsafe trait Case {
    /// The channel; none for a case that is disabled.
    fn chan(&self) -> Option<AnyChan>;

    /// Whether it receives.
    fn is_recv(&self) -> bool;

    /// Whether it receives from a context's done channel, and whether a timer makes it happen: for reports.
    fn reach(&self) -> (bool, bool);

    // What follows is given what `chan` gave, so that who calls several of them asks once.

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

    /// Carries the operation out and keeps its result; false if it was not ready after all.
    ///
    /// # Safety
    ///
    /// `chan` is this case's, and locked.
    unsafe fn attempt(&mut self, chan: AnyChan, wake: &mut Option<Unparker>) -> bool;

    /// # Safety
    ///
    /// `chan` is this case's, and locked; neither the case nor the wait moves or dies before `dequeue`.
    unsafe fn enqueue(&mut self, chan: AnyChan, wait: *const Wait, token: usize);

    /// Takes the waiter out; if `won`, keeps the result that the claimer has left.
    ///
    /// # Safety
    ///
    /// `chan` is this case's, and locked; it was queued; and the wait is claimed or given up: nobody claims this case afterwards.
    unsafe fn dequeue(&mut self, chan: AnyChan, won: bool);

    /// After [`dequeue`](Case::dequeue) of a select that nobody will look at: undoes a receive.
    fn undo(&mut self);
}

/// Until when a select waits.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// Not at all.
    Now,
    /// Until this instant.
    Deadline(Instant),
    /// For as long as it takes.
    Forever,
}

/// Selects among `cases`: the index of the one that happened, none if none did in time.
#[doc(hidden)]
pub fn run(cases: &mut [&mut (dyn Case + '_)], until: Until) -> Option<usize> {
    goby_runtime::checkpoint();
    let order = Order::new(cases);
    let (wait, deadline) = match until {
        Until::Now => (None, None),
        // SAFETY: parked on below, if it is queued; shown to the cases' channels, whose operations unpark.
        Until::Deadline(deadline) => (Some(unsafe { Wait::current() }), Some(deadline)),
        // SAFETY: as above.
        Until::Forever => (Some(unsafe { Wait::current() }), None),
    };
    // SAFETY: the cases and the wait stay where they are until `take_out` below, or until this goroutine is leaked.
    let won = unsafe { look_or_queue(cases, &order, wait.as_ref()) };
    if won.is_some() {
        return won;
    }
    // By reference: it is queued.
    let wait = wait.as_ref()?;
    let reach = cases.iter().map(|case| case.reach());
    let reach = reach.fold((false, false), |(context, timer), (c, t)| (context | c, timer | t));
    let token = park(wait, cases.is_empty(), reach, deadline);
    // SAFETY: queued above; claimed by a peer, or by the deadline's timer.
    unsafe { take_out(cases, token) }
}

/// Parks on a wait that is queued; gives the token of what ended it.
#[cfg_attr(not(debug_assertions), inline(always))]
fn park(wait: &Wait, no_cases: bool, (context, timer): (bool, bool), deadline: Option<Instant>) -> usize {
    let reason = if no_cases { WaitReason::SelectNoCases } else { WaitReason::Select };
    goby_runtime::with_reach(context, timer, || wait.park_until(reason, deadline))
}

/// What the first look at a select's cases came to.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// One of them happened.
    Happened,
    /// None is ready.
    NoneReady,
    /// Not to be said without waiting for a lock, or a peer is claimed elsewhere: [`run`] finds out.
    Unclear,
}

/// Pass 1 for `select!` with a default, whose cases' types are known where it stands: no dynamic call, no sorting, and no
/// more if the answer is clear, as it nearly always is.
#[doc(hidden)]
#[cfg_attr(not(debug_assertions), inline(always))]
pub fn look(cases: &mut impl Cases) -> Look {
    goby_runtime::checkpoint();
    let (mut choice, mut wake) = (Choice::new(), None);
    // SAFETY: it does not queue.
    let look = unsafe { cases.look::<false>(0, &mut choice, &mut wake, &OnceCell::new()) };
    unpark(wake);
    look
}

/// All three passes for a `select!` that waits, the second in the same go as the first; false if the answer is not clear:
/// then it is for [`run`] to find out.
#[doc(hidden)]
#[cfg_attr(not(debug_assertions), inline(always))]
pub fn wait(cases: &mut impl Cases, until: impl FnOnce() -> Until) -> bool {
    goby_runtime::checkpoint();
    let (mut choice, mut wake, wait) = (Choice::new(), None, OnceCell::new());
    // SAFETY: if they are queued, the cases and the wait stay where they are until `take_out`, or until this goroutine is leaked.
    let look = unsafe { cases.look::<true>(0, &mut choice, &mut wake, &wait) };
    unpark(wake);
    // By reference: it is queued.
    if let Some(wait) = wait.get() {
        let deadline = if let Until::Deadline(deadline) = until() { Some(deadline) } else { None };
        let token = park(wait, cases.is_empty(), cases.reach(), deadline);
        // SAFETY: queued above; claimed by a peer, or by the deadline's timer.
        unsafe { cases.take_out(0, token) };
    }
    look != Look::Unclear
}

/// A nested tuple of cases, the first of which has the number `index`.
#[doc(hidden)]
pub trait Cases {
    /// Locks the channels of these cases, on top of those that are locked already; when all are, carries out the choice, or, if
    /// there is none and it is to `QUEUE`, makes a wait and queues it in every channel; and unlocks them.
    ///
    /// # Safety
    ///
    /// If a wait was made, neither it nor the cases move or die before [`take_out`](Cases::take_out), and the caller parks on it.
    unsafe fn look<const QUEUE: bool>(
        &mut self,
        index: usize,
        choice: &mut Choice,
        wake: &mut Option<Unparker>,
        wait: &OnceCell<Wait>,
    ) -> Look;

    /// Whether they are none.
    fn is_empty(&self) -> bool;

    /// [`Case::reach`] of any.
    fn reach(&self) -> (bool, bool);

    /// Pass 3.
    ///
    /// # Safety
    ///
    /// The cases were queued by `look`, and the wait was claimed with this token.
    unsafe fn take_out(&mut self, index: usize, token: usize);
}

/// One of the cases that are ready, each with the same probability.
#[doc(hidden)]
#[derive(Debug)]
pub struct Choice {
    n_ready: u64,
    index: usize,
}

impl Choice {
    #[inline]
    fn new() -> Choice {
        Choice { n_ready: 0, index: usize::MAX }
    }

    #[inline]
    fn add(&mut self, index: usize) {
        self.n_ready += 1;
        // The n-th ready one replaces the choice with probability 1/n: uniform in the end.
        if self.n_ready == 1 || goby_runtime::random().is_multiple_of(self.n_ready) {
            self.index = index;
        }
    }
}

impl Cases for () {
    #[cfg_attr(not(debug_assertions), inline(always))]
    unsafe fn look<const QUEUE: bool>(
        &mut self,
        _: usize,
        choice: &mut Choice,
        _: &mut Option<Unparker>,
        wait: &OnceCell<Wait>,
    ) -> Look {
        // All are locked: this is the one instant.
        if choice.n_ready > 0 {
            return Look::Happened;
        }
        if QUEUE {
            // A thread's wait allocates, which is not for here: it is `run` that makes it.
            // SAFETY: parked on by the caller; shown to the cases' channels, whose operations unpark.
            let Some(made) = (unsafe { Wait::of_goroutine() }) else { return Look::Unclear };
            wait.get_or_init(|| made);
        }
        Look::NoneReady
    }

    fn is_empty(&self) -> bool {
        true
    }

    fn reach(&self) -> (bool, bool) {
        (false, false)
    }

    unsafe fn take_out(&mut self, _: usize, _: usize) {}
}

impl<C: Case, R: Cases> Cases for (&mut C, R) {
    #[cfg_attr(not(debug_assertions), inline(always))]
    unsafe fn look<const QUEUE: bool>(
        &mut self,
        index: usize,
        choice: &mut Choice,
        wake: &mut Option<Unparker>,
        wait: &OnceCell<Wait>,
    ) -> Look {
        let (case, rest) = self;
        let Some(chan) = case.chan() else {
            // SAFETY: by contract.
            return unsafe { rest.look::<QUEUE>(index + 1, choice, wake, wait) };
        };
        // SAFETY: its own channel, locked here; the rest by contract.
        unsafe {
            // Nobody waits for a lock here, so the order of locks does not matter. Two cases of one channel are unclear, too.
            if !case.try_lock(chan) {
                return Look::Unclear;
            }
            if case.is_ready(chan) {
                choice.add(index);
            }
            let mut look = rest.look::<QUEUE>(index + 1, choice, wake, wait);
            if look == Look::Happened && choice.index == index && !case.attempt(chan, wake) {
                look = Look::Unclear;
            }
            if QUEUE && let Some(wait) = wait.get() {
                case.enqueue(chan, wait, index);
            }
            case.unlock(chan);
            look
        }
    }

    fn is_empty(&self) -> bool {
        false
    }

    #[inline]
    fn reach(&self) -> (bool, bool) {
        let ((context, timer), (c, t)) = (self.0.reach(), self.1.reach());
        (context | c, timer | t)
    }

    #[inline]
    unsafe fn take_out(&mut self, index: usize, token: usize) {
        let (case, rest) = self;
        // SAFETY: by contract.
        unsafe {
            take_out_one(*case, index == token);
            rest.take_out(index + 1, token);
        }
    }
}

/// Pass 1, and if that finds nothing ready, pass 2 for `wait`.
///
/// # Safety
///
/// If a wait is given, and nothing was ready, neither it nor the cases move or die before [`take_out`].
pub(super) unsafe fn look_or_queue(
    cases: &mut [&mut (dyn Case + '_)],
    order: &Order,
    wait: Option<&Wait>,
) -> Option<usize> {
    let mut wake = None;
    order.lock_all(cases);
    // SAFETY: all are locked; the rest by contract.
    let won = unsafe {
        let won = choose(cases, &mut wake);
        if let (None, Some(wait)) = (won, wait) {
            // A peer takes the first waiter in a channel's queue: where two cases are of one channel, chance says which
            // that is.
            let n = cases.len();
            let first = if order.indices().len() < n { goby_runtime::random() as usize % n } else { 0 };
            for i in 0..n {
                let token = (first + i) % n;
                if let Some(chan) = cases[token].chan() {
                    cases[token].enqueue(chan, wait, token);
                }
            }
        }
        order.unlock_all(cases);
        won
    };
    unpark(wake);
    won
}

/// Carries out one of the ready cases, each with the same probability.
///
/// # Safety
///
/// The channels of all cases are locked.
unsafe fn choose(cases: &mut [&mut (dyn Case + '_)], wake: &mut Option<Unparker>) -> Option<usize> {
    loop {
        let mut choice = Choice::new();
        for (index, case) in cases.iter_mut().enumerate() {
            // SAFETY: its own channel, locked by contract.
            if case.chan().is_some_and(|chan| unsafe { case.is_ready(chan) }) {
                choice.add(index);
            }
        }
        if choice.n_ready == 0 {
            return None;
        }
        let case = &mut cases[choice.index];
        // It is not ready after all if its peer, a select, was claimed through a channel that we have not locked.
        // SAFETY: its own channel, locked by contract.
        if case.chan().is_some_and(|chan| unsafe { case.attempt(chan, wake) }) {
            return Some(choice.index);
        }
    }
}

/// Pass 3: gives the index of the case that happened, none if the token is no case's.
///
/// # Safety
///
/// The cases were queued by [`look_or_queue`], and the wait was claimed with this token.
pub(super) unsafe fn take_out(cases: &mut [&mut (dyn Case + '_)], token: usize) -> Option<usize> {
    for (index, case) in cases.iter_mut().enumerate() {
        // SAFETY: by contract.
        unsafe { take_out_one(*case, index == token) };
    }
    (token < cases.len()).then_some(token)
}

/// # Safety
///
/// It is queued for a wait that was claimed, by this case if it has `won`.
#[inline]
unsafe fn take_out_one(case: &mut (impl Case + ?Sized), won: bool) {
    if let Some(chan) = case.chan() {
        // SAFETY: its own channel, locked here; queued; claimed, so nobody claims it again.
        unsafe {
            case.lock(chan);
            case.dequeue(chan, won);
            case.unlock(chan);
        }
    }
}

/// The order in which channels are locked: by address, each once.
pub(super) struct Order {
    inline: [u32; INLINE],
    len: usize,
    heap: Vec<u32>,
}

impl Order {
    pub(super) fn new(cases: &[&mut (dyn Case + '_)]) -> Order {
        let mut order = Order { inline: [0; INLINE], len: 0, heap: Vec::new() };
        let enabled = cases.iter().enumerate().filter(|(_, case)| case.chan().is_some());
        if cases.len() > INLINE {
            order.heap = enabled.map(|(index, _)| index as u32).collect();
            order.heap.sort_unstable_by_key(|&index| cases[index as usize].chan());
            order.heap.dedup_by_key(|index| cases[*index as usize].chan());
            return order;
        }
        // Insertion sort: most selects have two or three cases.
        for (index, case) in enabled {
            let mut place = order.len;
            while place > 0 && cases[order.inline[place - 1] as usize].chan() > case.chan() {
                order.inline[place] = order.inline[place - 1];
                place -= 1;
            }
            order.inline[place] = index as u32;
            order.len += 1;
        }
        let mut kept = 0;
        for i in 0..order.len {
            let index = order.inline[i];
            if i == 0 || cases[order.inline[kept - 1] as usize].chan() != cases[index as usize].chan() {
                order.inline[kept] = index;
                kept += 1;
            }
        }
        order.len = kept;
        order
    }

    fn indices(&self) -> &[u32] {
        if self.heap.is_empty() { &self.inline[..self.len] } else { &self.heap }
    }

    fn lock_all(&self, cases: &[&mut (dyn Case + '_)]) {
        for &index in self.indices() {
            let case = &cases[index as usize];
            if let Some(chan) = case.chan() {
                // SAFETY: its own channel.
                unsafe { case.lock(chan) };
            }
        }
    }

    /// # Safety
    ///
    /// Locked by `lock_all`, with the same cases.
    unsafe fn unlock_all(&self, cases: &[&mut (dyn Case + '_)]) {
        for &index in self.indices() {
            let case = &cases[index as usize];
            if let Some(chan) = case.chan() {
                // SAFETY: its own channel, locked by contract.
                unsafe { case.unlock(chan) };
            }
        }
    }
}

/// The channel of a case, its type forgotten.
#[inline]
pub(super) fn any<T>(chan: &Chan<T>) -> AnyChan {
    NonNull::from(chan).cast()
}

/// And remembered.
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
    /// Receives from `receiver`, if `enabled`.
    #[inline]
    pub fn new(receiver: &'a Receiver<T>, enabled: bool) -> RecvCase<'a, T> {
        RecvCase {
            chan: if enabled { receiver.chan() } else { None },
            slot: Slot::empty(),
            waiter: MaybeUninit::uninit(),
            result: None,
        }
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

// SAFETY: it owns a value or a result, which are Send, and shares a channel; its waiter is touched under the channel's
// lock.
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

    fn reach(&self) -> (bool, bool) {
        self.chan.map_or((false, false), |chan| (is_done_channel::<T>(), chan.is_timed()))
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

    unsafe fn attempt(&mut self, chan: AnyChan, wake: &mut Option<Unparker>) -> bool {
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

    unsafe fn enqueue(&mut self, chan: AnyChan, wait: *const Wait, token: usize) {
        let waiter = self.waiter.write(Waiter::new(token, self.slot.as_ptr()));
        // SAFETY: by contract; the slot is empty.
        unsafe { of::<T>(chan).locked().enqueue_recv(waiter, wait) };
    }

    unsafe fn dequeue(&mut self, chan: AnyChan, won: bool) {
        // SAFETY: queued, so the waiter is there; locked, both by contract; if done, a sender has filled the slot.
        unsafe {
            let waiter = self.waiter.assume_init_ref();
            of::<T>(chan).locked().dequeue_recv(waiter);
            if won {
                self.result = Some(if waiter.is_done() { Ok(self.slot.take()) } else { Err(RecvError) });
            }
        }
    }

    fn undo(&mut self) {
        let (Some(chan), Some(Ok(value))) = (self.chan, self.result.take()) else { return };
        chan.lock();
        // SAFETY: locked here; the view ends with the statement.
        let left = unsafe {
            let left = chan.locked().give_back(value);
            chan.unlock();
            left
        };
        if let Ok(wake) = left {
            unpark(wake);
        }
    }
}

/// A case that sends.
#[doc(hidden)]
pub struct SendCase<'a, T> {
    /// None: disabled.
    chan: Option<&'a Chan<T>>,
    slot: Slot<T>,
    /// The value is in the slot, and ours.
    full: bool,
    /// Where a value that was not sent goes.
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

    /// Sends what is in `home`, if there is anything and `enabled`; what is not sent is put back there.
    pub fn from_slot(sender: &'a Sender<T>, home: &'a mut Option<T>, enabled: bool) -> SendCase<'a, T> {
        let value = if enabled { home.take() } else { None };
        let mut case = SendCase::new(sender, value);
        case.home = Some(home);
        case
    }

    /// The result, if this is the case that happened.
    #[inline]
    pub fn take(&mut self) -> Option<Result<(), SendError<T>>> {
        self.result.take()
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

    fn reach(&self) -> (bool, bool) {
        (false, false)
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

    unsafe fn attempt(&mut self, chan: AnyChan, wake: &mut Option<Unparker>) -> bool {
        if !self.full {
            return false;
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

    unsafe fn enqueue(&mut self, chan: AnyChan, wait: *const Wait, token: usize) {
        // A case that has sent its value has nothing more to wait for.
        if self.full {
            self.waiter.set(token, self.slot.as_ptr());
            // SAFETY: by contract; the slot is full.
            unsafe { of::<T>(chan).locked().enqueue_send(&self.waiter, wait) };
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

    fn undo(&mut self) {}
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
