//! What can end a wait besides its peer: what reports say of it.

use std::ptr;

use crate::engine::goroutine::{Goroutine, Reported, Saved};
use crate::engine::worker;

/// Runs `f`, which parks, and lets reports say what can end the wait besides its peer: a context
/// that is done (`context`), or a timer (`timer`), as long as `timer` says that it is armed. On a
/// thread it only runs `f`.
///
/// `timer` is called while the goroutine is parked, by its worker between two goroutines. It may
/// take short locks, and do nothing that takes longer.
#[inline]
pub fn with_reach<R>(context: bool, timer: Option<IsArmed<'_>>, f: impl FnOnce() -> R) -> R {
    if !context && timer.is_none() {
        return f();
    }
    let Some(g) = worker::current_goroutine() else { return f() };
    // SAFETY: the goroutine runs here, now and until `_reset` is dropped, so its record is alive.
    let header = unsafe { g.as_ref() };
    let flags = header.notes.flags.set_context(context);
    let _reset = Reset { header, flags, timer: header.notes.timer.get() };
    header.notes.timer.set(timer.as_ref().map_or(ptr::null(), |timer| ptr::from_ref(timer).cast()));
    f()
}

/// Says whether the timer that may end a wait is armed: neither fired nor stopped.
pub type IsArmed<'a> = &'a dyn Fn() -> bool;

/// Undoes what [`with_reach`] has set, however its `f` ends.
struct Reset<'a> {
    header: &'a Goroutine,
    flags: Saved,
    timer: *const (),
}

impl Drop for Reset<'_> {
    fn drop(&mut self) {
        self.header.notes.flags.restore(self.flags);
        self.header.notes.timer.set(self.timer);
    }
}

/// Returns what reports show of a parked goroutine's wait, with a deadline if the timer that may
/// end the wait is armed now.
///
/// # Safety
///
/// The goroutine is alive, and suspended on the calling worker.
pub(crate) unsafe fn reported_flags(header: &Goroutine) -> Reported {
    let flags = header.notes.flags.reported();
    let timer = header.notes.timer.get().cast::<IsArmed<'_>>();
    // SAFETY: null, or the argument of a `with_reach` that has not returned: the goroutine is
    // suspended inside that call, on this thread.
    let is_armed = unsafe { timer.as_ref() }.is_some_and(|is_armed| is_armed());
    if is_armed { flags.with_deadline() } else { flags }
}
