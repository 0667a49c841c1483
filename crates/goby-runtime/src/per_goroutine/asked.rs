//! Who has asked a subscriber last whether something is enabled.
//!
//! A macro of `tracing` asks, evaluates its arguments, and then says what there is to say.
//! Per-layer filters of `tracing-subscriber` keep their answer in a thread-local until then. If an
//! argument waits, a neighbor may ask meanwhile, and the filters' answer is the neighbor's, or is
//! used up. So the goroutine asks again before it says something, if what the filters keep is not
//! its own answer.

use std::cell::Cell;

use super::notes::Notes;
use crate::base::tsan;
use crate::{GoroutineId, current_id};

thread_local! {
    /// The one that has asked last, if it has said nothing since: a goroutine, or the thread
    /// itself.
    static LAST: Cell<Option<Option<GoroutineId>>> = const { Cell::new(None) };
}

/// Notes that the caller has asked, and the answer.
pub(super) fn note(notes: Option<&Notes>, is_enabled: bool) {
    let _ignore = tsan::ignore();
    // What is not enabled is not said, and leaves nothing in the filters.
    LAST.set(is_enabled.then(current_id));
    if let Some(notes) = notes {
        notes.has_asked.set(is_enabled);
    }
}

/// Returns whether the filters keep something else than the answer to the caller, which is about to
/// say something.
pub(super) fn must_ask_again(notes: Option<&Notes>) -> bool {
    let _ignore = tsan::ignore();
    match LAST.get() {
        Some(last) => last != current_id(),
        // Used up, since a neighbor has said something; or the caller did not have to ask.
        None => notes.is_some_and(|notes| notes.has_asked.get()),
    }
}

/// Notes that the caller has said something: the filters keep nothing any more.
pub(super) fn forget(notes: Option<&Notes>) {
    let _ignore = tsan::ignore();
    LAST.set(None);
    if let Some(notes) = notes {
        notes.has_asked.set(false);
    }
}
