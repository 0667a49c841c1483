//! Dropping what nobody wants: results and panic payloads of users, whose destructors may panic
//! themselves.
//!
//! Such a panic must reach neither the caller, who has nothing to do with it, nor a stack that
//! unwinds already, where a second panic aborts the process. What a destructor panics with is
//! forgotten where nobody is told of it: its own destructor could panic as well.

use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::thread;

/// Drops a value; gives the payload of its destructor's panic.
///
/// ```
/// assert!(goby_runtime::discard(String::from("unwanted")).is_ok());
/// ```
///
/// # Errors
///
/// The payload of a panic of the destructor. Give it to whoever hears of panics, or forget it.
pub fn discard<T>(value: T) -> thread::Result<()> {
    // Unwind safe: nobody can get to the value any more.
    panic::catch_unwind(AssertUnwindSafe(|| drop(value)))
}

/// Drops what is not worth a report, the payload of a second panic say, whatever its destructor
/// does.
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
