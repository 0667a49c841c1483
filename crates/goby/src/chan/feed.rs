//! The channel of a timer, as far as it is a channel: what a timer puts into it, and takes back.
//! When it does so is said where timers are (`time/alarm.rs`).
//!
//! Such a channel has room for one value, which its users do not see: to them it looks unbuffered,
//! as in Go. Its keeper owns the timer, so the timer ends with the last receiver.

use std::sync::{Arc, Weak};

use super::Receiver;
use super::core::Chan;
use super::keeper::Keeper;

/// The sending end of a fed channel. It never closes the channel, nor keeps it: the timer that
/// holds this end belongs to the channel.
pub(crate) struct Feed<T> {
    chan: Weak<Chan<T>>,
}

// SAFETY: as for a `Sender`: it moves values between threads, and nothing else of `T`.
unsafe impl<T: Send> Send for Feed<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Feed<T> {}

/// Makes a channel that is fed, with its keeper, which `make` builds around the feed.
pub(crate) fn fed<T, K: Keeper + 'static>(make: impl FnOnce(Feed<T>) -> Arc<K>) -> (Receiver<T>, Arc<K>) {
    let mut made = None;
    let chan = Arc::new_cyclic(|chan| {
        let keeper = made.insert(make(Feed { chan: chan.clone() }));
        // The one sender that a channel starts with is the feed.
        Chan::looking_unbuffered(keeper.clone().into())
    });
    (Receiver { chan: Some(chan) }, made.expect("made with the channel"))
}

impl<T> Feed<T> {
    /// Leaves a value, if none is unread and `accepts` says so. It is asked under the channel's
    /// lock.
    pub(crate) fn offer(&self, value: T, accepts: impl FnOnce() -> bool) {
        if let Some(chan) = self.chan.upgrade() {
            chan.offer(value, accepts);
        }
    }

    /// Runs `change` under the channel's lock and takes the unread value back, if there is one.
    pub(crate) fn withdraw(&self, change: impl FnOnce()) -> Option<T> {
        self.chan.upgrade()?.withdraw(change)
    }

    /// Whether somebody waits for a value.
    pub(crate) fn is_awaited(&self) -> bool {
        self.chan.upgrade().is_some_and(|chan| chan.has_waiting_receiver())
    }
}
