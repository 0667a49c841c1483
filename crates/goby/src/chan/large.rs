//! Large values: the operations of `core`, by address.
//!
//! A value that is passed on by value is copied into the frame of each function that has it. A
//! debug build copies it several times per frame, and an optimized build that inlines all of it
//! into the caller has some copies too. A stack does not grow, so here a value lies in one place
//! until it is where it belongs: in the buffer, or in the other side's place. These functions are
//! not inlined: a call costs little beside the copies that remain.

use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr;
use std::time::Instant;

use goby_runtime::{TIMED_OUT, Wait, WaitReason, Waiter};

use super::core::{Chan, unpark};
use super::err::{SendError, SendTimeoutError, TrySendError};
use super::state::{Nothing, Refusal};

/// The number of bytes from which on a value is large: some frames of the usual size.
const LARGE: usize = 1024;

/// Whether values of this type are moved by address.
pub(crate) const fn is_large<T>() -> bool {
    size_of::<T>() >= LARGE
}

#[cfg_attr(not(debug_assertions), inline(always))]
pub(super) fn send<T>(chan: &Chan<T>, value: T) -> Result<(), SendError<T>> {
    let value = ManuallyDrop::new(value);
    match send_from(chan, address(&value), Until::Done) {
        Ok(()) => Ok(()),
        // SAFETY: refused, so the value is still there, and it is moved out of here once.
        Err(_) => unsafe { give_back(address(&value), SendError) },
    }
}

#[cfg_attr(not(debug_assertions), inline(always))]
pub(super) fn try_send<T>(chan: &Chan<T>, value: T) -> Result<(), TrySendError<T>> {
    let value = ManuallyDrop::new(value);
    match send_from(chan, address(&value), Until::Now) {
        Ok(()) => Ok(()),
        // SAFETY: as in `send`.
        Err(Refusal::Full) => unsafe { give_back(address(&value), TrySendError::Full) },
        // SAFETY: as in `send`.
        Err(Refusal::Closed) => unsafe { give_back(address(&value), TrySendError::Closed) },
    }
}

#[cfg_attr(not(debug_assertions), inline(always))]
pub(super) fn send_until<T>(chan: &Chan<T>, value: T, deadline: Option<Instant>) -> Result<(), SendTimeoutError<T>> {
    let value = ManuallyDrop::new(value);
    match send_from(chan, address(&value), deadline.map_or(Until::Done, Until::Deadline)) {
        Ok(()) => Ok(()),
        // SAFETY: as in `send`.
        Err(Refusal::Full) => unsafe { give_back(address(&value), SendTimeoutError::Timeout) },
        // SAFETY: as in `send`.
        Err(Refusal::Closed) => unsafe { give_back(address(&value), SendTimeoutError::Closed) },
    }
}

/// Makes the error that gives a value back. It is a function of its own, so that the value is in
/// its frame and not in that of a send.
///
/// # Safety
///
/// There is a value at `from`, which the caller forgets.
#[cold]
#[inline(never)]
unsafe fn give_back<T, E>(from: *const T, error: fn(T) -> E) -> Result<(), E> {
    // SAFETY: by contract.
    Err(error(unsafe { from.read() }))
}

#[cfg_attr(not(debug_assertions), inline(always))]
pub(super) fn recv<T>(chan: &Chan<T>) -> Result<T, Nothing> {
    let mut place = MaybeUninit::uninit();
    recv_into(chan, place.as_mut_ptr(), Until::Done)?;
    // SAFETY: received, so the value is there, and it is moved out of here once.
    Ok(unsafe { place.as_ptr().read() })
}

#[cfg_attr(not(debug_assertions), inline(always))]
pub(super) fn try_recv<T>(chan: &Chan<T>) -> Result<T, Nothing> {
    let mut place = MaybeUninit::uninit();
    recv_into(chan, place.as_mut_ptr(), Until::Now)?;
    // SAFETY: as in `recv`.
    Ok(unsafe { place.as_ptr().read() })
}

#[cfg_attr(not(debug_assertions), inline(always))]
pub(super) fn recv_until<T>(chan: &Chan<T>, deadline: Option<Instant>) -> Result<T, Nothing> {
    let mut place = MaybeUninit::uninit();
    recv_into(chan, place.as_mut_ptr(), deadline.map_or(Until::Done, Until::Deadline))?;
    // SAFETY: as in `recv`.
    Ok(unsafe { place.as_ptr().read() })
}

fn address<T>(value: &ManuallyDrop<T>) -> *const T {
    ptr::from_ref(value).cast()
}

/// How long an operation may wait.
#[derive(Clone, Copy)]
enum Until {
    Now,
    Deadline(Instant),
    /// Forever.
    Done,
}

/// Moves the value at `from` into the channel. The caller forgets the value if that succeeds.
#[inline(never)]
fn send_from<T>(chan: &Chan<T>, from: *const T, until: Until) -> Result<(), Refusal> {
    goby_runtime::checkpoint_on(chan.address());
    chan.lock();
    // SAFETY: locked above, and this is the only view until the unlock. The value is there.
    let sent = unsafe { chan.locked().send_from(from) };
    let deadline = match (sent, until) {
        (Ok(wake), _) => {
            // SAFETY: locked above.
            unsafe { chan.unlock() };
            unpark(wake);
            return Ok(());
        }
        (Err(Refusal::Full), Until::Deadline(deadline)) => Some(deadline),
        (Err(Refusal::Full), Until::Done) => None,
        (Err(refusal), until) => {
            // SAFETY: as above.
            unsafe { chan.unlock() };
            if let Until::Now = until {
                goby_runtime::refused();
            }
            return Err(refusal);
        }
    };
    // SAFETY: parked on below; shown to this channel, whose operations claim it under its lock and
    // unpark.
    let wait = unsafe { Wait::current() };
    let waiter = Waiter::new(0, from.cast_mut().cast());
    // SAFETY: as above. Waiter, value and wait stay where they are until the unpark, or until the
    // waiter was taken out.
    unsafe {
        chan.locked().enqueue_send(&waiter, &wait);
        chan.unlock();
    }
    if wait.park_until(WaitReason::ChanSend, deadline) == TIMED_OUT {
        chan.lock();
        // SAFETY: locked; queued here, or dropped from the queue by an operation that found it
        // claimed.
        unsafe {
            chan.locked().dequeue_send(&waiter);
            chan.unlock();
        }
        return Err(Refusal::Full);
    }
    if waiter.is_done() { Ok(()) } else { Err(Refusal::Closed) }
}

/// Moves the next value to `to`.
#[inline(never)]
fn recv_into<T>(chan: &Chan<T>, to: *mut T, until: Until) -> Result<(), Nothing> {
    goby_runtime::checkpoint_on(chan.address());
    chan.lock();
    // SAFETY: as in `send_from`; there is room for a value.
    let received = unsafe { chan.locked().recv_into(to) };
    let deadline = match (received, until) {
        (Ok(wake), _) => {
            // SAFETY: locked above.
            unsafe { chan.unlock() };
            unpark(wake);
            return Ok(());
        }
        (Err(Nothing::Empty), Until::Deadline(deadline)) => Some(deadline),
        (Err(Nothing::Empty), Until::Done) => None,
        (Err(nothing), until) => {
            // SAFETY: as above.
            unsafe { chan.unlock() };
            if let Until::Now = until {
                goby_runtime::refused();
            }
            if nothing == Nothing::Closed {
                chan.report_drained();
            }
            return Err(nothing);
        }
    };
    // SAFETY: as in `send_from`.
    let wait = unsafe { Wait::current() };
    let waiter = Waiter::new(0, to.cast());
    // SAFETY: as in `send_from`.
    unsafe {
        chan.locked().enqueue_recv(&waiter, &wait);
        chan.unlock();
    }
    // No context and no timer ends this wait: their channels carry no large values.
    let token = wait.park_until(WaitReason::ChanReceive, deadline);
    if token == TIMED_OUT {
        chan.lock();
        // SAFETY: as in `send_from`.
        unsafe {
            chan.locked().dequeue_recv(&waiter);
            chan.unlock();
        }
        return Err(Nothing::Empty);
    }
    if waiter.is_done() {
        return Ok(());
    }
    chan.report_drained();
    Err(Nothing::Closed)
}
