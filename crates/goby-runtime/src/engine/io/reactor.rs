//! What goby says of a future that needs tokio's reactor, and was polled where there is none.
//!
//! The future panics with tokio's words, which name no cure under goby. The panic hook has printed
//! them already, and whoever catches the panic may keep it quiet. So the cure is printed where the
//! panic leaves the poll, once for each panic, joined or not. The payload stays as it is.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};

use crate::base::report::{payload_text, report};

/// Texts of these panics: tokio's, and sqlx's.
const WORDS: [&str; 2] = [
    "there is no reactor running, must be called from the context of a Tokio",
    "this functionality requires a Tokio context",
];

/// Calls `poll`, and adds the cure if it panics for want of a reactor.
#[inline]
pub(crate) fn with_cure<R>(poll: impl FnOnce() -> R) -> R {
    panic::catch_unwind(AssertUnwindSafe(poll)).unwrap_or_else(|payload| {
        tell_cure(&*payload);
        // It goes on as it came: the hook is not called again.
        panic::resume_unwind(payload)
    })
}

/// Prints the cure if a poll has panicked for want of a reactor.
#[cold]
pub(crate) fn tell_cure(payload: &(dyn Any + Send)) {
    let text = payload_text(payload);
    if WORDS.iter().any(|words| text.contains(words)) {
        report(format_args!(
            "goby's workers have no reactor of tokio's. Run this future by goby_tokio::block_on or goby_tokio::spawn, of \
             the crate goby-tokio, instead of goby's"
        ));
    }
}
