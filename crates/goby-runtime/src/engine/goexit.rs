//! Ending a goroutine from inside.

use std::any::Any;
use std::fmt;
use std::panic;

use crate::engine::gate::{Decision, Gate};
use crate::engine::wait_reason::WaitReason;
use crate::engine::{threads, worker};

/// The payload that [`join`](crate::JoinHandle::join) returns for a goroutine that ended by
/// [`goexit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Goexit;

impl fmt::Display for Goexit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the goroutine ended by goexit")
    }
}

impl std::error::Error for Goexit {}

/// Ends the calling goroutine: its stack is unwound, and every destructor on it runs.
///
/// It is no panic: nothing is printed, and neither [`scope`](crate::scope) nor a group that waits
/// for the goroutine re-raises it. `join` returns `Err` with [`Goexit`]. A `catch_unwind` on the
/// way stops the unwinding but not the end: the goroutine then goes on until its closure returns,
/// and `join` still returns [`Goexit`]. If the goroutine panics after that, `join` returns the
/// panic. A destructor that panics during the unwinding aborts the process, as in every unwinding.
///
/// When the main goroutine of [`run`](crate::run) calls it, `run` never returns: the other
/// goroutines go on, and when all have ended the deadlock report says so. Source: Go's
/// `runtime.Goexit`.
///
/// ```
/// use goby::{Goexit, go, goexit};
///
/// let handle = go(|| -> u32 { goexit() });
/// assert!(handle.join().unwrap_err().is::<Goexit>());
/// ```
///
/// # Panics
///
/// When the caller is no goroutine.
pub fn goexit() -> ! {
    let Some(g) = worker::current_goroutine() else { panic!("only a goroutine can end by goexit") };
    // SAFETY: the goroutine runs here, so its record is alive.
    unsafe { g.as_ref() }.notes.flags.set_exits();
    // Not `panic_any`: the panic hook must not run, since nothing is to be printed.
    panic::resume_unwind(Box::new(Goexit))
}

/// Returns whether a payload of `catch_unwind` is that of a goroutine that ends by [`goexit`]: that
/// is no panic.
pub fn is_goexit(payload: &(dyn Any + Send)) -> bool {
    payload.is::<Goexit>()
}

/// Waits forever: `run` calls it when its main goroutine has ended by [`goexit`].
pub(crate) fn wait_for_ever() -> ! {
    threads::as_host(|| Gate::new(()).wait::<()>(WaitReason::Join, None, |(), _| Decision::Wait(0)));
    unreachable!("nobody knows of the wait")
}
