//! What a goroutine *carries*: what it has set on its thread, takes off before it gives the worker
//! away, and puts on when it is back (`docs/decisions/60-spans.md`).
//!
//! [`carry`] sets a bit in the goroutine's flags. Each wait and each yield asks for it once. Where
//! it is set they go through [`away`], which calls the [`Carried`] on the goroutine's own stack.
//! That is user code, and may park:
//!
//! - While it runs the bit is clear. So its waits are ordinary ones, and `away` does not nest.
//! - The goroutine has shown its wait already, and may be unparked at any time, also by a neighbor
//!   that runs while the goroutine waits for something else. So a carrier's wait begins as one that
//!   looks for its answer (`answer.rs`): until all is taken off, an unpark only gives the answer,
//!   and queues nothing. Then the goroutine ends the look. If it has its answer, it does not park.
//!   Otherwise it parks like any other.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::base::report::report;
use crate::engine::frames::{self, Function};
use crate::engine::goroutine::Goroutine;
use crate::engine::worker;

/// Takes off and puts on what the calling goroutine carries. Both may park, and must not panic.
pub trait Carried: Sync {
    /// Takes everything off: the goroutine is about to give its worker away.
    fn take_off(&self);

    /// Puts everything on again: the goroutine is back. Calls [`carry`] if it carries on.
    fn put_on(&self);
}

/// Says that the calling goroutine carries something from here on, or, by `None`, that it carries
/// nothing. On an OS thread, or in a future, it does nothing.
///
/// ```
/// use goby_runtime::{Carried, carry, go, yield_now};
/// use std::cell::Cell;
///
/// thread_local!(static IS_ON: Cell<bool> = const { Cell::new(false) });
///
/// struct Mark;
/// impl Carried for Mark {
///     fn take_off(&self) {
///         IS_ON.set(false);
///     }
///     fn put_on(&self) {
///         IS_ON.set(true);
///         carry(Some(&Mark));
///     }
/// }
///
/// go(|| {
///     Mark.put_on();
///     let other = go(|| IS_ON.get());
///     yield_now();
///     assert!(IS_ON.get());
///     assert!(!other.join().unwrap());
///     Mark.take_off();
///     carry(None);
/// }).join().unwrap();
/// ```
pub fn carry(what: Option<&'static dyn Carried>) {
    let Some(g) = worker::current_goroutine() else { return };
    // SAFETY: it is running, here, so its record is alive, and this is its thread.
    let g = unsafe { g.as_ref() };
    if let Some(what) = what {
        g.attributes.set_carried(what);
    }
    g.notes.flags.set_carries(what.is_some());
}

/// Calls `wait`, which gives the worker away, with nothing on the thread that the running goroutine
/// carries.
#[cold]
#[inline(never)]
pub(crate) fn away(g: &Goroutine, wait: impl FnOnce()) {
    g.notes.flags.set_carries(false);
    // Inside a panic hook the goroutine keeps its worker (`hold.rs`), so nobody else would see it;
    // and a subscriber that panicked there would abort the process.
    let keeps_worker = std::thread::panicking() && frames::is_inside(g, Function::PanicHook);
    if keeps_worker {
        wait();
        g.notes.flags.set_carries(true);
        return;
    }
    let carried = g.attributes.carried();
    if let Some(carried) = carried {
        call(|| carried.take_off());
    }
    wait();
    if let Some(carried) = carried {
        call(|| carried.put_on());
    }
}

/// Calls one of the two. Waiters lie on the stack, so it must not be unwound.
fn call(f: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(f)).is_err() {
        report(format_args!("what a goroutine carries panicked; this is a bug in goby, or in what is built on it"));
        std::process::abort()
    }
}
