//! A line on the standard error, and the text of a panic.

use std::any::Any;
use std::fmt;
use std::io::{self, Write as _};

/// Prints a line. `eprintln` would panic where it cannot print, here in the middle of the runtime.
pub(crate) fn report(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "goby: {line}");
}

/// Returns the message of a panic, where it has one.
pub(crate) fn payload_text(payload: &(dyn Any + Send)) -> &str {
    if let Some(text) = payload.downcast_ref::<&str>() {
        text
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text
    } else {
        "(a panic payload that is no text)"
    }
}
