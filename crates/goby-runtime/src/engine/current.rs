//! Which runtime the calling code belongs to.

use std::cell::Cell;

use crate::above;
use crate::base::unseen::UnseenOnce;
use crate::engine::shared::Shared;
use crate::engine::worker::Worker;

thread_local! {
    /// The runtime of a helper thread's caller.
    static ENTERED: Cell<Option<&'static Shared>> = const { Cell::new(None) };
}

/// Runs `f` on this thread as part of a runtime.
pub(crate) fn with_shared<R>(shared: &'static Shared, f: impl FnOnce() -> R) -> R {
    let before = ENTERED.replace(Some(shared));
    let result = f();
    ENTERED.set(before);
    result
}

/// Returns the runtime that the calling code belongs to; the default one if it belongs to none.
#[inline]
pub(crate) fn current_shared() -> &'static Shared {
    match Worker::current() {
        Some(worker) => worker.shared,
        None => ENTERED.try_with(Cell::get).ok().flatten().unwrap_or_else(default_shared),
    }
}

/// Returns the default runtime; the first call starts it.
pub(crate) fn default_shared() -> &'static Shared {
    static DEFAULT: UnseenOnce<&'static Shared> = UnseenOnce::new();
    DEFAULT.get_or_init(above::start_default)
}
