//! Warnings, sent to the program's subscriber of `tracing`.
//!
//! The crate's feature `tracing`, on by default, chooses between two forms of the same macros:
//!
//! - `warning!(…)` formats as `format!` does and tells the subscriber. Without the feature it does
//!   nothing, as `tracing` does without a subscriber.
//! - `warnings_are_heard!()` returns whether a subscriber wants warnings. Without the feature it is
//!   `false`.
//!
//! They are macros because `tracing` names the place of a warning by the file that expands it.

#[cfg(feature = "tracing")]
macro_rules! warning {
    ($($argument:tt)*) => { tracing::warn!($($argument)*) };
}

#[cfg(feature = "tracing")]
macro_rules! warnings_are_heard {
    () => {
        tracing::enabled!(tracing::Level::WARN)
    };
}

// The arguments are type-checked, and so used; the branch is never taken, and nothing is evaluated.
#[cfg(not(feature = "tracing"))]
macro_rules! warning {
    ($($argument:tt)*) => {
        if false {
            let _ = format_args!($($argument)*);
        }
    };
}

#[cfg(not(feature = "tracing"))]
macro_rules! warnings_are_heard {
    () => {
        false
    };
}
