//! The way of a running goroutine to its scheduler and back: park, the switch, unpark.
//!
//! A goroutine leaves its stack only in [`switch`], and comes back there. Whoever calls it has said
//! before where the goroutine is found again: in a shown wait, or in a queue.

use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering;

use crate::base::answer::Answer;
use crate::base::tsan;
use crate::engine::goroutine::Goroutine;
use crate::engine::wait_reason::WaitReason;
use crate::engine::watch;
use crate::engine::worker::{Worker, capture};

/// Parks the running goroutine until it is unparked. It does not switch if the unpark comes within
/// the moment that a worker with nothing else to run can wait for it.
///
/// # Safety
///
/// `g` is the running goroutine, and waits on the wait with this answer.
#[cfg_attr(not(debug_assertions), inline(always))]
pub(crate) unsafe fn park(g: NonNull<Goroutine>, reason: WaitReason, answer: &Answer) {
    let _ignore = tsan::ignore();
    let worker = Worker::current().expect("only a goroutine parks");
    debug_assert_eq!(worker.running.current.get(), Some(g), "the goroutine that makes a wait parks on it");
    // Mostly the goroutine has woken another here, which is to run next, or has started one. Only a
    // worker with nothing to run waits for the answer.
    if !worker.has_runnable() && worker.remote.stealable.unstarted.len() == 0 && worker.await_answer(answer) {
        return;
    }
    // SAFETY: it is running, by contract, so its record is alive.
    unsafe {
        let header = g.as_ref();
        if watch::SEES_PARKS {
            worker.shared.watch.parks(worker, header, reason);
        }
        header.notes.since.set(worker.shared.monitor.clock());
        header.notes.reason.store(reason as u8, Ordering::Relaxed);
        suspend(g);
    }
}

/// Switches from the running goroutine to the scheduler.
///
/// # Safety
///
/// `g` is the running goroutine.
#[cfg_attr(not(debug_assertions), inline(always))]
pub(super) unsafe fn suspend(g: NonNull<Goroutine>) {
    // SAFETY: it is running, so its record is alive and its suspender set.
    unsafe {
        if std::thread::panicking() {
            return suspend_panicking(g);
        }
        switch(g.as_ref());
    }
}

/// Switches from a goroutine that parks in a destructor during its unwinding, or whose neighbor
/// does. std counts panics per thread, so until the goroutine is back, all goroutines of the thread
/// seem to panic: see [`panicking`]. From within a panic hook it does not switch: see `hold`.
///
/// # Safety
///
/// As for [`suspend`].
#[cold]
unsafe fn suspend_panicking(g: NonNull<Goroutine>) {
    let worker = Worker::current().expect("only a goroutine parks");
    if worker.hold_hook(g) {
        return;
    }
    let is_first = !worker.running.neighbor_unwinds.replace(true);
    // SAFETY: by contract; it is running, so its record is alive.
    unsafe { switch(g.as_ref()) };
    if is_first {
        worker.running.neighbor_unwinds.set(false);
    }
}

/// # Safety
///
/// As for [`suspend`], with the goroutine's record.
#[cfg_attr(not(debug_assertions), inline(always))]
unsafe fn switch(header: &Goroutine) {
    tsan::leave_thread(|| &header.home().index);
    loop {
        // SAFETY: by contract.
        unsafe { header.stack.suspender.get().assume_init().suspend() };
        if header.notes.reason.load(Ordering::Relaxed) != capture::CAPTURE {
            break;
        }
        capture::capture_self(header);
    }
    header.notes.reason.store(WaitReason::None as u8, Ordering::Relaxed);
    tsan::enter_thread(|| &header.home().index);
}

/// Returns whether this goroutine unwinds because of a panic. On an OS thread it is
/// `std::thread::panicking`.
///
/// std counts panics per thread. So while a goroutine is parked inside a destructor that runs
/// during its panic, `std::thread::panicking()` is true for its neighbors on that worker too. This
/// function returns false for them, unless several goroutines do so at once.
///
/// ```
/// assert!(!goby_runtime::panicking());
/// ```
pub fn panicking() -> bool {
    std::thread::panicking() && Worker::current().is_none_or(|worker| !worker.running.neighbor_unwinds.get())
}

/// Makes a parked goroutine runnable, from any thread.
///
/// # Safety
///
/// It parks, or has parked, on the wait with this answer. The caller has claimed that wait, and has
/// not unparked it before.
#[cfg_attr(not(debug_assertions), inline(always))]
pub(crate) unsafe fn unpark(g: NonNull<Goroutine>, answer: NonNull<Answer>) {
    let _ignore = tsan::ignore();
    // SAFETY: parked and claimed by the caller, so its record is alive.
    let home = unsafe { g.as_ref() }.home();
    match Worker::current() {
        Some(worker) if ptr::eq(worker.remote, home) => worker.ready(g),
        // SAFETY: the wait is alive until the unpark, which is this.
        _ if unsafe { answer.as_ref() }.give() => {}
        _ => {
            // SAFETY: a parked goroutine is in no queue, and from here on it belongs to its home.
            if unsafe { home.mail.inbox.push(g.as_ptr()) } {
                home.poller.wake();
            }
        }
    }
}

/// Does as [`unpark`], for a goroutine that carries something. While it takes that off it looks for
/// its answer, also for one from its own worker's thread, and must not be queued.
///
/// # Safety
///
/// As for [`unpark`].
#[cold]
pub(crate) unsafe fn unpark_carrier(g: NonNull<Goroutine>, answer: NonNull<Answer>) {
    let is_given = {
        let _ignore = tsan::ignore();
        // SAFETY: the wait is alive until the unpark, which is this, or the one below.
        unsafe { answer.as_ref() }.give()
    };
    if !is_given {
        // SAFETY: by contract.
        unsafe { unpark(g, answer) };
    }
}
