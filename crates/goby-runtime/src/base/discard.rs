//! Drops unwanted values: results and panic payloads of users, whose destructors may panic
//! themselves.
//!
//! Such a panic must not reach the caller, which has nothing to do with it. Nor must it reach a
//! stack that unwinds already, where a second panic aborts the process. The payload of such a panic
//! is forgotten where it is not reported: its own destructor could panic as well.

use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::thread;

/// Drops a value, and returns the payload of its destructor's panic.
///
/// ```
/// assert!(goby_runtime::discard(String::from("unwanted")).is_ok());
/// ```
///
/// # Errors
///
/// The payload of a panic of the destructor. Pass it on to code that reports panics, or forget it.
pub fn discard<T>(value: T) -> thread::Result<()> {
    // Unwind safe: no code can reach the value any more.
    panic::catch_unwind(AssertUnwindSafe(|| drop(value)))
}

/// Drops a value that is not worth a report, whatever its destructor does: for example, the payload
/// of a second panic.
///
/// ```
/// let payload = std::panic::catch_unwind(|| panic!("the second")).unwrap_err();
/// goby_runtime::discard_quietly(payload);
/// ```
pub fn discard_quietly<T>(value: T) {
    if let Err(payload) = discard(value) {
        mem::forget(payload);
    }
}
