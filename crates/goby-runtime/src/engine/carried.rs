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
//!
//! What cannot be taken off may *keep the worker* instead, as a panic hook does (`hold.rs`): no
//! neighbor runs on the thread until the wait is over, or has lasted too long.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use crate::base::report::report;
use crate::engine::goroutine::Goroutine;
use crate::engine::worker::{self, Worker};

/// Takes off and puts on what the calling goroutine carries. Both may park, and must not panic.
pub trait Carried: Sync {
    /// Takes everything off: the goroutine is about to give its worker away.
    fn take_off(&self);

    /// Puts everything on again: the goroutine is back. Calls [`carry`] if it carries on.
    fn put_on(&self);

    /// Returns whether the goroutine keeps its worker while it waits, since something stays on the
    /// thread that no neighbor may find. Asked after `take_off`. Must not park.
    fn keeps_worker(&self) -> bool {
        false
    }

    /// Told when it gives the worker away all the same: it has waited for a second. What it waits
    /// for may need a goroutine of the same worker. Must not park.
    fn gives_up(&self) {}
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
/// carries. It is given what keeps the worker, if that is so.
#[cold]
#[inline(never)]
pub(crate) fn away(g: &Goroutine, wait: impl FnOnce(Option<&'static dyn Carried>)) {
    g.notes.flags.set_carries(false);
    // Inside a panic hook, too: there the goroutine keeps its worker, but not forever (`hold.rs`).
    let carried = g.attributes.carried();
    if let Some(carried) = carried {
        call(|| carried.take_off());
    }
    wait(carried.filter(|carried| call(|| carried.keeps_worker())));
    if let Some(carried) = carried {
        call(|| carried.put_on());
    }
}

/// Waits on the worker of `g`, which runs, for its unpark. Returns false if that has not come.
pub(crate) fn stay(g: NonNull<Goroutine>, keeper: &'static dyn Carried) -> bool {
    let worker = Worker::current().expect("only a goroutine waits on its worker");
    let is_unparked = worker.hold(g);
    if !is_unparked && !worker.shared.is_shut_down() {
        call(|| keeper.gives_up());
    }
    is_unparked
}

/// Calls one of them. Waiters lie on the stack, so it must not be unwound.
fn call<R>(f: impl FnOnce() -> R) -> R {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|_| {
        report(format_args!("what a goroutine carries panicked; this is a bug in goby, or in what is built on it"));
        std::process::abort()
    })
}
