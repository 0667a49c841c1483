//! The FIFO of waiters that belongs to one primitive: an intrusive list whose entries lie on the
//! waiters' stacks.
//!
//! Everything here happens under the primitive's lock. An entry is in at most one queue; a waiter
//! with several cases has an entry for each. The claimer of a waiter takes its entry out of the
//! queue. A select takes the entries of its losing cases out itself, under each queue's lock,
//! before it returns. If a notifier meets such an entry before that, it finds the wait claimed, and
//! drops the entry from the queue.
//!
//! ThreadSanitizer ignores the links. An entry's neighbors are written to under the lock, but then
//! the scheduler may take a neighbor out, and the scheduler's locks are no edges. So
//! ThreadSanitizer would report the neighbor's stack once it is used for something else.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomPinned;
use std::ptr::{self, NonNull};

use crate::base::prefetch::prefetch;
use crate::base::tsan;
use crate::engine::park::Wait;
use crate::engine::task_wait::TaskWait;
use crate::engine::unparker::Unparker;

/// A wait of either kind, as queues know it: a pointer to a [`Wait`], or, with the low bit set, to
/// a [`TaskWait`].
#[derive(Clone, Copy, Debug)]
pub struct AnyWait(*const ());

/// The low bit of a pointer to a [`TaskWait`].
const TASK: usize = 1;
const _: () = assert!(align_of::<Wait>() > TASK && align_of::<TaskWait>() > TASK, "the low bit is free");

impl From<&Wait> for AnyWait {
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn from(wait: &Wait) -> AnyWait {
        AnyWait(ptr::from_ref(wait).cast())
    }
}

impl From<&TaskWait> for AnyWait {
    #[inline]
    fn from(wait: &TaskWait) -> AnyWait {
        AnyWait(ptr::from_ref(wait).cast::<()>().map_addr(|address| address | TASK))
    }
}

impl AnyWait {
    const NONE: AnyWait = AnyWait(ptr::null());

    /// Returns the future's wait, if it is one.
    ///
    /// # Safety
    ///
    /// For this function and those below: the wait is alive, as long as the result is used.
    #[cfg_attr(not(debug_assertions), inline(always))]
    unsafe fn as_task<'a>(self) -> Option<&'a TaskWait> {
        // SAFETY: the bit is set only for a `TaskWait`, which is alive by contract.
        (self.0.addr() & TASK != 0).then(|| unsafe { &*self.0.map_addr(|address| address & !TASK).cast() })
    }

    #[cfg_attr(not(debug_assertions), inline(always))]
    unsafe fn claim(self, token: usize) -> Option<Unparker> {
        // SAFETY: alive by contract.
        match unsafe { self.as_task() } {
            Some(task) => claim_task(task, token),
            // SAFETY: as above; without the bit it is a `Wait`.
            None => unsafe { &*self.0.cast::<Wait>() }.claim(token),
        }
    }

    #[cfg_attr(not(debug_assertions), inline(always))]
    unsafe fn is_claimed(self) -> bool {
        // SAFETY: as in `claim`.
        match unsafe { self.as_task() } {
            Some(task) => task.is_claimed(),
            // SAFETY: as in `claim`.
            None => unsafe { &*self.0.cast::<Wait>() }.is_claimed(),
        }
    }
}

#[cold]
fn claim_task(task: &TaskWait, token: usize) -> Option<Unparker> {
    task.claim(token)
}

/// One waiter's entry in one queue. It must not move while it is queued.
pub struct Waiter {
    prev: Cell<*const Waiter>,
    next: Cell<*const Waiter>,
    queued: Cell<bool>,
    /// Set by the notifier: the operation was carried out (a value was handed over), not merely
    /// ended.
    done: Cell<bool>,
    wait: Cell<AnyWait>,
    token: Cell<usize>,
    slot: Cell<*mut ()>,
    _pinned: PhantomPinned,
}

impl Waiter {
    /// Makes an entry that is in no queue. A value is handed over in `slot`; a claim through this
    /// entry gives the waiter `token`.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub const fn new(token: usize, slot: *mut ()) -> Waiter {
        Waiter {
            prev: Cell::new(ptr::null()),
            next: Cell::new(ptr::null()),
            queued: Cell::new(false),
            done: Cell::new(false),
            wait: Cell::new(AnyWait::NONE),
            token: Cell::new(token),
            slot: Cell::new(slot),
            _pinned: PhantomPinned,
        }
    }

    /// Returns the token that a claim through this entry gives the waiter.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub fn token(&self) -> usize {
        self.token.get()
    }

    /// Changes the arguments of [`new`](Waiter::new), before the entry is queued.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub fn set(&self, token: usize, slot: *mut ()) {
        self.token.set(token);
        self.slot.set(slot);
    }

    /// Returns where a value is handed over.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub fn slot(&self) -> *mut () {
        self.slot.get()
    }

    /// Sets whether the operation was carried out.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub fn set_done(&self, done: bool) {
        self.done.set(done);
    }

    /// Returns whether the operation was carried out.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub fn is_done(&self) -> bool {
        self.done.get()
    }

    /// Returns whether the entry is in a queue.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub fn is_queued(&self) -> bool {
        self.queued.get()
    }
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiter").field("token", &self.token.get()).field("queued", &self.queued.get()).finish()
    }
}

/// A FIFO of [`Waiter`]s.
pub struct WaitQueue {
    head: *const Waiter,
    tail: *const Waiter,
}

// SAFETY: the queue is used under its primitive's lock only; the entries' cells with it.
unsafe impl Send for WaitQueue {}

impl Default for WaitQueue {
    fn default() -> WaitQueue {
        WaitQueue::new()
    }
}

impl WaitQueue {
    /// Makes an empty queue.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub const fn new() -> WaitQueue {
        WaitQueue { head: ptr::null(), tail: ptr::null() }
    }

    /// Returns whether no entry is queued. A queued entry's wait may have been claimed elsewhere.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub fn is_empty(&self) -> bool {
        self.head.is_null()
    }

    /// Adds an entry of `wait` at the back.
    ///
    /// # Safety
    ///
    /// The entry is in no queue. The entry and `wait` neither move nor die while the entry is
    /// queued, nor, if the wait is claimed, before the claimer unparks.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub unsafe fn push_back(&mut self, waiter: *const Waiter, wait: impl Into<AnyWait>) {
        let _ignore = tsan::ignore();
        // SAFETY: alive by contract; its cells are used under the queue's lock.
        let entry = unsafe { &*waiter };
        debug_assert!(!entry.queued.get());
        entry.wait.set(wait.into());
        entry.done.set(false);
        entry.queued.set(true);
        entry.prev.set(self.tail);
        entry.next.set(ptr::null());
        if self.tail.is_null() {
            self.head = waiter;
        } else {
            // SAFETY: a queued entry is alive.
            unsafe { (*self.tail).next.set(waiter) };
        }
        self.tail = waiter;
    }

    /// Takes an entry out; returns false if it was not queued.
    ///
    /// # Safety
    ///
    /// The entry is in this queue or in none.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub unsafe fn remove(&mut self, waiter: *const Waiter) -> bool {
        let _ignore = tsan::ignore();
        // SAFETY: alive by contract.
        let entry = unsafe { &*waiter };
        if !entry.queued.replace(false) {
            return false;
        }
        let (prev, next) = (entry.prev.get(), entry.next.get());
        if prev.is_null() {
            self.head = next;
        } else {
            // SAFETY: a queued entry is alive.
            unsafe { (*prev).next.set(next) };
        }
        if next.is_null() {
            self.tail = prev;
        } else {
            // SAFETY: as above.
            unsafe { (*next).prev.set(prev) };
        }
        true
    }

    /// Takes out and claims the first waiter that can still be claimed.
    ///
    /// The entry stays valid until the unparker is used.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub fn pop(&mut self) -> Option<(NonNull<Waiter>, Unparker)> {
        loop {
            let waiter = NonNull::new(self.head.cast_mut())?;
            // SAFETY: a queued entry, and its wait, are alive.
            let claimed = unsafe {
                self.remove(waiter.as_ptr());
                prefetch(self.head);
                let entry = waiter.as_ref();
                entry.wait.get().claim(entry.token.get())
            };
            if let Some(unparker) = claimed {
                return Some((waiter, unparker));
            }
        }
    }

    /// Returns whether there is a waiter that can still be claimed. Drops entries that cannot be
    /// claimed from the front.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub fn has_waiter(&mut self) -> bool {
        loop {
            if self.head.is_null() {
                return false;
            }
            // SAFETY: a queued entry, and its wait, are alive.
            unsafe {
                if !(*self.head).wait.get().is_claimed() {
                    return true;
                }
                self.remove(self.head);
            }
        }
    }

    /// Returns whether there is a waiter that can still be claimed and for which `f` is true.
    pub fn has_waiter_who(&self, f: impl Fn(&Waiter) -> bool) -> bool {
        let mut next = self.head;
        // SAFETY: a queued entry, and its wait, are alive.
        while let Some(entry) = unsafe { next.as_ref() } {
            // SAFETY: as above.
            if f(entry) && !unsafe { entry.wait.get().is_claimed() } {
                return true;
            }
            next = entry.next.get();
        }
        false
    }

    /// Returns the token of the first entry.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub fn front_token(&self) -> Option<usize> {
        // SAFETY: a queued entry is alive.
        (!self.head.is_null()).then(|| unsafe { (*self.head).token.get() })
    }
}

impl fmt::Debug for WaitQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitQueue").field("is_empty", &self.is_empty()).finish()
    }
}
