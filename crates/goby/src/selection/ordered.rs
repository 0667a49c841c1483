//! The passes of a select over a slice of cases, whose types are not known here. The channels are
//! locked in the order of their addresses, so that two selects never wait for each other's locks.
//!
//! This runs for a [`Select`](super::Select), whose cases are added at run time, and for its
//! futures. A `select!` comes here only where its own way (`unrolled.rs`) would have to wait for a
//! lock.

use std::time::Instant;

use goby_runtime::{AnyWait, TIMED_OUT, Unparker, Wait, WakeList};

use super::case::{AsCase, Case, How};
use super::steps::{Choice, Until, park, take_out_one};
use crate::chan::Reach;
use crate::chan::core::unpark;

/// Cases up to this many are ordered without allocation.
const INLINE: usize = 8;

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
    let won = unsafe { look_or_queue(cases, order, wait.as_ref().map(AnyWait::from), How::HandOver, biased) };
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
                        case.enqueue(chan, wait.into(), token, How::Watch);
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

/// Pass 1, and if that finds nothing ready, pass 2 for `wait`.
///
/// # Safety
///
/// If a wait is given, and nothing was ready, neither it nor the cases move or die before
/// [`take_out`].
pub(super) unsafe fn look_or_queue(
    cases: &mut [impl AsCase],
    order: &Order,
    wait: Option<AnyWait>,
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
        // SAFETY: its own channel, locked by contract; no case is queued in this pass.
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
    choice.chosen()
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
