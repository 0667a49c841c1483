//! What goby says of a future that needs tokio's reactor, and was made or polled where there is
//! none.
//!
//! The future panics with tokio's words, which name no cure under goby. The panic hook has printed
//! them already, and whoever catches the panic may keep it quiet. So the cure is printed where the
//! panic leaves the poll, once for each panic, joined or not. The payload stays as it is. A text
//! that only quotes tokio's words, as that of `join().unwrap()` does, is not such a panic's.
//!
//! Some of these futures ask for the reactor where they are made: `tokio::time::sleep` as the
//! argument of `goby_tokio::block_on`, for example, before tokio is entered. That panic leaves no
//! poll, so its cure is printed where the panic ends the goroutine.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::ptr;

use crate::base::report::{payload_text, report};

/// Texts of these panics: tokio's, and sqlx's.
const WORDS: [&str; 2] = [
    "there is no reactor running, must be called from the context of a Tokio",
    "this functionality requires a Tokio context",
];

thread_local! {
    /// The payload whose cure was printed last, to be compared only. It may go on, through polls
    /// around this one, and end the goroutine, on this thread, since a goroutine keeps its worker.
    /// If it does not, a later panic may have its address: then the cure is not said again.
    static TOLD: Cell<*const ()> = const { Cell::new(ptr::null()) };
}

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
    if is_for_want_of_reactor(payload) && TOLD.replace(address(payload)) != address(payload) {
        report(format_args!(
            "goby's workers have no reactor of tokio's. Run this future by goby_tokio::block_on or goby_tokio::spawn, of \
             the crate goby-tokio, instead of goby's"
        ));
    }
}

/// Does as [`tell_cure`], for a task whose handle gets the payload.
#[cold]
pub(crate) fn tell_cure_of_task(payload: &(dyn Any + Send)) {
    tell_cure(payload);
    TOLD.set(ptr::null());
}

/// Goes on with the panic of a task, which has told its cure where it was polled.
pub(crate) fn resume_from_task(payload: Box<dyn Any + Send>) -> ! {
    TOLD.set(address(&*payload));
    panic::resume_unwind(payload)
}

/// Prints the cure if a goroutine has ended by a panic for want of a reactor, unless a poll has
/// done so.
#[cold]
pub(crate) fn tell_cure_at_end(payload: &(dyn Any + Send)) {
    if is_for_want_of_reactor(payload) && TOLD.replace(ptr::null()) != address(payload) {
        report(format_args!(
            "what needs tokio's reactor must also be made, and dropped, where it is entered: inside the `async {{ }}` \
             that is given to goby_tokio::block_on or goby_tokio::spawn, or in goby_tokio::enter, of the crate \
             goby-tokio; goby_tokio::Entered drops a value so"
        ));
    }
}

fn is_for_want_of_reactor(payload: &(dyn Any + Send)) -> bool {
    let text = payload_text(payload);
    WORDS.iter().any(|words| text.starts_with(words))
}

fn address(payload: &(dyn Any + Send)) -> *const () {
    ptr::from_ref(payload).cast()
}
