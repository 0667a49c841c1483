//! The passes of a select, over cases of any kind.
//!
//! 1. Lock the channels of all cases, in the order of their addresses. At that one instant, see
//!    which cases are ready. Of several, choose one at random, or the first if the select is
//!    biased. Carry it out. Done.
//! 2. None is ready: queue a waiter in every channel, unlock them, park. The peer that carries out
//!    one of the cases claims the wait, and with it the select.
//! 3. Lock each channel once more, one at a time, and take the waiters out.
//!
//! `select!` knows its cases' types, and goes through the passes by static calls ([`look`],
//! [`wait`]). Those try each lock once: nobody waits for a lock, so no order is needed. If a lock
//! is taken, or two cases are of one channel, [`run`] does the select instead.
//!
//! Source: Go's `selectgo`.

use std::cell::OnceCell;
use std::time::Instant;

use goby_runtime::{IsArmed, TIMED_OUT, Unparker, Wait, WaitReason, WakeList};

use super::case::{AsCase, Case, How};
use crate::chan::Reach;
use crate::chan::core::unpark;

/// Cases up to this many are ordered without allocation.
const INLINE: usize = 8;

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

/// Selects among `cases`; returns the index of the one that happened, none if none did in time.
#[doc(hidden)]
pub fn run<const BIASED: bool>(_: Choice<BIASED>, cases: &mut [&mut (dyn Case + '_)], until: Until) -> Option<usize> {
    let order = Order::new(cases);
    select(cases, &order, until, BIASED)
}

/// Does the same as [`run`], with the order of the cases' locks at hand.
pub(super) fn select(cases: &mut [impl AsCase], order: &Order, until: Until, biased: bool) -> Option<usize> {
    goby_runtime::checkpoint();
    // SAFETY: parked on below, if it is queued; shown to the cases' channels, whose operations
    // unpark.
    let (wait, deadline) = unsafe { wait_until(until) };
    // SAFETY: the cases and the wait stay where they are until `take_out` below, or until this
    // goroutine is leaked.
    let won = unsafe { look_or_queue(cases, order, wait.as_ref(), How::HandOver, biased) };
    if won.is_some() {
        return won;
    }
    // By reference, since the wait is queued and must not move.
    let Some(wait) = &wait else {
        goby_runtime::refused();
        return None;
    };
    let token = park(wait, cases.is_empty(), reach(cases), &|| is_armed(cases), deadline);
    // SAFETY: queued above; claimed by a peer, or by the deadline's timer.
    unsafe { take_out(cases, token) }
}

/// Waits until one of the operations would not wait, and carries out none.
///
/// A select that only looks is told of a change by the operation that makes it, and looks again:
/// its peer may meanwhile be claimed elsewhere, or somebody else may be quicker.
pub(super) fn ready(cases: &mut [impl AsCase], order: &Order, until: Until, biased: bool) -> Option<usize> {
    goby_runtime::checkpoint();
    loop {
        // SAFETY: parked on below, if it is queued; shown to the cases' channels, whose operations
        // unpark.
        let (wait, deadline) = unsafe { wait_until(until) };
        order.lock_all(cases);
        // SAFETY: all are locked; the cases and the wait stay where they are until `take_out`
        // below, or until this goroutine is leaked.
        let found = unsafe {
            let would_happen = |case: &mut dyn Case| case.chan().is_some_and(|chan| case.would_happen(chan));
            let found = choose_who(cases, biased, would_happen);
            if let (None, Some(wait)) = (found, &wait) {
                for (token, case) in cases.iter_mut().enumerate() {
                    let case = case.get_mut();
                    if let Some(chan) = case.chan() {
                        case.enqueue(chan, wait, token, How::Watch);
                    }
                }
            }
            order.unlock_all(cases);
            found
        };
        if found.is_some() {
            return found;
        }
        // By reference, since the wait is queued and must not move.
        let Some(wait) = &wait else {
            goby_runtime::refused();
            return None;
        };
        let token = park(wait, cases.is_empty(), reach(cases), &|| is_armed(cases), deadline);
        // SAFETY: queued above, and claimed. None of them has happened.
        unsafe { take_out(cases, TIMED_OUT) };
        if token == TIMED_OUT {
            return None;
        }
    }
}

/// Makes a wait, unless `until` is `Now`, and returns it with its deadline.
///
/// # Safety
///
/// As for [`Wait::current`].
unsafe fn wait_until(until: Until) -> (Option<Wait>, Option<Instant>) {
    match until {
        Until::Now => (None, None),
        // SAFETY: by contract.
        Until::Deadline(deadline) => (Some(unsafe { Wait::current() }), Some(deadline)),
        // SAFETY: as above.
        Until::Forever => (Some(unsafe { Wait::current() }), None),
    }
}

/// [`Case::reach`] of any.
fn reach(cases: &[impl AsCase]) -> Reach {
    cases.iter().fold(Reach::default(), |reach, case| reach.or(case.get().reach()))
}

/// [`Case::is_armed`] of any.
fn is_armed(cases: &[impl AsCase]) -> bool {
    cases.iter().any(|case| case.get().is_armed())
}

/// Parks on a wait that is queued; returns the token of the case or the timer that ended it.
#[cfg_attr(not(debug_assertions), inline(always))]
fn park(wait: &Wait, no_cases: bool, reach: Reach, is_armed: IsArmed<'_>, deadline: Option<Instant>) -> usize {
    let reason = if no_cases { WaitReason::SelectNoCases } else { WaitReason::Select };
    reach.during(is_armed, || wait.park_until(reason, deadline))
}

/// The outcome of the first look at a select's cases.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// One of them happened.
    Happened,
    /// None is ready.
    NoneReady,
    /// It cannot be said without waiting for a lock, or a peer is claimed elsewhere. [`run`] finds
    /// out.
    Unclear,
}

/// Pass 1 for `select!` with a default. The types of its cases are known where it stands. It makes
/// no dynamic call and sorts nothing. If the answer is clear, as it nearly always is, this was all.
#[doc(hidden)]
#[cfg_attr(not(debug_assertions), inline(always))]
pub fn look<const BIASED: bool>(mut choice: Choice<BIASED>, cases: &mut impl Cases) -> Look {
    goby_runtime::checkpoint();
    let mut wake = None;
    // SAFETY: it does not queue.
    let look = unsafe { cases.look::<false, BIASED>(0, &mut choice, &mut wake, &OnceCell::new()) };
    unpark(wake);
    if look == Look::NoneReady {
        goby_runtime::refused();
    }
    look
}

/// All three passes for a `select!` that waits, the second in the same walk as the first. Returns
/// false if the answer is not clear: then [`run`] has to find out.
#[doc(hidden)]
#[cfg_attr(not(debug_assertions), inline(always))]
pub fn wait<const BIASED: bool>(
    mut choice: Choice<BIASED>,
    cases: &mut impl Cases,
    until: impl FnOnce() -> Until,
) -> bool {
    goby_runtime::checkpoint();
    let (mut wake, wait) = (None, OnceCell::new());
    // SAFETY: if they are queued, the cases and the wait stay where they are until `take_out`, or
    // until this goroutine is leaked.
    let look = unsafe { cases.look::<true, BIASED>(0, &mut choice, &mut wake, &wait) };
    unpark(wake);
    // By reference, since the wait is queued and must not move.
    if let Some(wait) = wait.get() {
        let deadline = if let Until::Deadline(deadline) = until() { Some(deadline) } else { None };
        let token = park(wait, cases.is_empty(), cases.reach(), &|| cases.is_armed(), deadline);
        // SAFETY: queued above; claimed by a peer, or by the deadline's timer.
        unsafe { cases.take_out(0, token) };
    }
    look != Look::Unclear
}

/// A nested tuple of cases, the first of which has the number `index`.
#[doc(hidden)]
pub trait Cases {
    /// Locks the channels of these cases, in addition to those that are locked already. When all
    /// are locked, it carries out the choice. If there is none, and `QUEUE` is true, it makes a
    /// wait and queues it in every channel. Then it unlocks them.
    ///
    /// # Safety
    ///
    /// If a wait was made, neither it nor the cases move or die before
    /// [`take_out`](Cases::take_out), and the caller parks on it.
    unsafe fn look<const QUEUE: bool, const BIASED: bool>(
        &mut self,
        index: usize,
        choice: &mut Choice<BIASED>,
        wake: &mut Option<Unparker>,
        wait: &OnceCell<Wait>,
    ) -> Look;

    /// Whether there are no cases.
    fn is_empty(&self) -> bool;

    /// [`Case::reach`] of any.
    fn reach(&self) -> Reach;

    /// [`Case::is_armed`] of any.
    fn is_armed(&self) -> bool;

    /// Pass 3.
    ///
    /// # Safety
    ///
    /// The cases were queued by `look`, and the wait was claimed with this token.
    unsafe fn take_out(&mut self, index: usize, token: usize);
}

/// The choice of one of the ready cases: each with the same probability, or the first if it is
/// `BIASED`.
#[doc(hidden)]
#[derive(Debug)]
pub struct Choice<const BIASED: bool> {
    n_ready: u64,
    index: usize,
}

impl Choice<false> {
    /// Makes one that is fair to the cases.
    #[inline]
    pub fn fair() -> Choice<false> {
        Choice { n_ready: 0, index: usize::MAX }
    }
}

impl Choice<true> {
    /// Makes one that prefers the first.
    #[inline]
    pub fn biased() -> Choice<true> {
        Choice { n_ready: 0, index: usize::MAX }
    }
}

impl<const BIASED: bool> Choice<BIASED> {
    #[inline]
    fn add(&mut self, index: usize) {
        self.n_ready += 1;
        // The n-th ready one replaces the choice with probability 1/n: uniform in the end.
        if self.n_ready == 1 || (!BIASED && goby_runtime::random().is_multiple_of(self.n_ready)) {
            self.index = index;
        }
    }
}

impl Cases for () {
    #[cfg_attr(not(debug_assertions), inline(always))]
    unsafe fn look<const QUEUE: bool, const BIASED: bool>(
        &mut self,
        _: usize,
        choice: &mut Choice<BIASED>,
        _: &mut Option<Unparker>,
        wait: &OnceCell<Wait>,
    ) -> Look {
        // All are locked: this is the one instant.
        if choice.n_ready > 0 {
            return Look::Happened;
        }
        if QUEUE {
            // A thread's wait allocates, which must not happen here: `run` makes it.
            // SAFETY: parked on by the caller; shown to the cases' channels, whose operations
            // unpark.
            let Some(made) = (unsafe { Wait::of_goroutine() }) else { return Look::Unclear };
            wait.get_or_init(|| made);
        }
        Look::NoneReady
    }

    fn is_empty(&self) -> bool {
        true
    }

    fn reach(&self) -> Reach {
        Reach::default()
    }

    fn is_armed(&self) -> bool {
        false
    }

    unsafe fn take_out(&mut self, _: usize, _: usize) {}
}

impl<C: Case, R: Cases> Cases for (&mut C, R) {
    #[cfg_attr(not(debug_assertions), inline(always))]
    unsafe fn look<const QUEUE: bool, const BIASED: bool>(
        &mut self,
        index: usize,
        choice: &mut Choice<BIASED>,
        wake: &mut Option<Unparker>,
        wait: &OnceCell<Wait>,
    ) -> Look {
        let (case, rest) = self;
        let Some(chan) = case.chan() else {
            // SAFETY: by contract.
            return unsafe { rest.look::<QUEUE, BIASED>(index + 1, choice, wake, wait) };
        };
        // SAFETY: its own channel, locked here; the rest by contract.
        unsafe {
            // Nobody waits for a lock here, so the order of locks does not matter. Two cases of one
            // channel are unclear, too.
            if !case.try_lock(chan) {
                return Look::Unclear;
            }
            if case.is_ready(chan) {
                choice.add(index);
            }
            let mut look = rest.look::<QUEUE, BIASED>(index + 1, choice, wake, wait);
            // On the way back each case unlocks its channel. Before that the chosen one carries out
            // its operation, or each one queues.
            if look == Look::Happened && choice.index == index && !case.attempt(chan, wake) {
                look = Look::Unclear;
            }
            if QUEUE && let Some(wait) = wait.get() {
                case.enqueue(chan, wait, index, How::HandOver);
            }
            case.unlock(chan);
            look
        }
    }

    fn is_empty(&self) -> bool {
        false
    }

    #[inline]
    fn reach(&self) -> Reach {
        self.0.reach().or(self.1.reach())
    }

    fn is_armed(&self) -> bool {
        self.0.is_armed() || self.1.is_armed()
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
/// If a wait is given, and nothing was ready, neither it nor the cases move or die before
/// [`take_out`].
pub(super) unsafe fn look_or_queue(
    cases: &mut [impl AsCase],
    order: &Order,
    wait: Option<&Wait>,
    how: How,
    biased: bool,
) -> Option<usize> {
    let mut wake = None;
    order.lock_all(cases);
    // SAFETY: all are locked; the rest by contract.
    let won = unsafe {
        let won = choose(cases, biased, &mut wake);
        if let (None, Some(wait)) = (won, wait) {
            // A peer takes the first waiter in a channel's queue. If two cases are of one channel,
            // chance decides which of them that is.
            let n = cases.len();
            let is_fair = !biased && order.indices().len() < n;
            let first = if is_fair { goby_runtime::random() as usize % n } else { 0 };
            for i in 0..n {
                let token = (first + i) % n;
                let case = cases[token].get_mut();
                if let Some(chan) = case.chan() {
                    case.enqueue(chan, wait, token, how);
                }
            }
        }
        order.unlock_all(cases);
        won
    };
    unpark(wake);
    won
}

/// Carries out one of the ready cases, each with the same probability, or the first if `biased`.
///
/// # Safety
///
/// The channels of all cases are locked.
unsafe fn choose(cases: &mut [impl AsCase], biased: bool, wake: &mut Option<Unparker>) -> Option<usize> {
    loop {
        // SAFETY: its own channel, locked by contract.
        let is_ready = |case: &mut dyn Case| case.chan().is_some_and(|chan| unsafe { case.is_ready(chan) });
        let chosen = choose_who(cases, biased, is_ready)?;
        let case = cases[chosen].get_mut();
        // The case is not ready after all if its peer only looks, or if its peer is a select that
        // was claimed through a channel that we have not locked.
        // SAFETY: its own channel, locked by contract.
        if case.chan().is_some_and(|chan| unsafe { case.attempt(chan, wake) }) {
            return Some(chosen);
        }
    }
}

/// One of the cases of which `f` is true.
fn choose_who(cases: &mut [impl AsCase], biased: bool, f: impl Fn(&mut dyn Case) -> bool) -> Option<usize> {
    if biased {
        return cases.iter_mut().position(|case| f(case.get_mut()));
    }
    let mut choice = Choice::fair();
    for (index, case) in cases.iter_mut().enumerate() {
        if f(case.get_mut()) {
            choice.add(index);
        }
    }
    (choice.n_ready > 0).then_some(choice.index)
}

/// Pass 3; returns the index of the case that happened, none if the token is no case's.
///
/// # Safety
///
/// The cases were queued by [`look_or_queue`], and the wait was claimed with this token.
pub(super) unsafe fn take_out(cases: &mut [impl AsCase], token: usize) -> Option<usize> {
    for (index, case) in cases.iter_mut().enumerate() {
        // SAFETY: by contract.
        unsafe { take_out_one(case.get_mut(), index == token) };
    }
    (token < cases.len()).then_some(token)
}

/// Pass 3 of a future's select: a case that was told of a value takes it now, if it is still there.
/// Returns the index of the case that happened.
///
/// # Safety
///
/// The cases were queued by [`look_or_queue`], to be told, and the wait was claimed with this
/// token.
pub(super) unsafe fn take_out_told(cases: &mut [impl AsCase], token: usize) -> Option<usize> {
    let (mut won, mut wake) = (None, None);
    for (index, case) in cases.iter_mut().enumerate() {
        let case = case.get_mut();
        let Some(chan) = case.chan() else { continue };
        // SAFETY: its own channel, locked here; the rest by contract.
        unsafe {
            case.lock(chan);
            if case.dequeue_told(chan, index == token, &mut wake) {
                won = Some(index);
            }
            case.unlock(chan);
        }
    }
    unpark(wake);
    won
}

/// Pass 3 of a future's select that ends without a case: a send that has happened is not undone, a
/// receive is. Afterwards the caller [forgets](Case::forget) the value that is left in the case
/// with this token.
///
/// # Safety
///
/// As for [`take_out_told`].
pub(super) unsafe fn give_up(cases: &mut [impl AsCase], token: usize) {
    let mut wake = WakeList::new();
    for (index, case) in cases.iter_mut().enumerate() {
        let case = case.get_mut();
        let Some(chan) = case.chan() else { continue };
        // SAFETY: its own channel, locked here; the rest by contract.
        unsafe {
            case.lock(chan);
            case.abandon(chan, index == token, &mut wake);
            case.unlock(chan);
        }
    }
    wake.unpark_all();
}

/// # Safety
///
/// The case is queued for a wait that was claimed: through this case if it has `won`.
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
    pub(super) fn new(cases: &[impl AsCase]) -> Order {
        let mut order = Order { inline: [0; INLINE], len: 0, heap: Vec::new() };
        let enabled = cases.iter().enumerate().filter(|(_, case)| case.get().chan().is_some());
        if cases.len() > INLINE {
            order.heap = enabled.map(|(index, _)| index as u32).collect();
            order.heap.sort_unstable_by_key(|&index| cases[index as usize].get().chan());
            order.heap.dedup_by_key(|index| cases[*index as usize].get().chan());
            return order;
        }
        // Insertion sort: most selects have two or three cases.
        for (index, case) in enabled {
            let mut place = order.len;
            while place > 0 && cases[order.inline[place - 1] as usize].get().chan() > case.get().chan() {
                order.inline[place] = order.inline[place - 1];
                place -= 1;
            }
            order.inline[place] = index as u32;
            order.len += 1;
        }
        let mut kept = 0;
        for i in 0..order.len {
            let index = order.inline[i];
            if i == 0 || cases[order.inline[kept - 1] as usize].get().chan() != cases[index as usize].get().chan() {
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

    fn lock_all(&self, cases: &[impl AsCase]) {
        for &index in self.indices() {
            let case = cases[index as usize].get();
            if let Some(chan) = case.chan() {
                // SAFETY: its own channel.
                unsafe { case.lock(chan) };
            }
        }
    }

    /// # Safety
    ///
    /// Locked by `lock_all`, with the same cases.
    unsafe fn unlock_all(&self, cases: &[impl AsCase]) {
        for &index in self.indices() {
            let case = cases[index as usize].get();
            if let Some(chan) = case.chan() {
                // SAFETY: its own channel, locked by contract.
                unsafe { case.unlock(chan) };
            }
        }
    }
}
