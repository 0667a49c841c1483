//! What is special about a channel is known by its keeper. Most channels have none.
//!
//! The channel tells its keeper of two moments of its life, and asks it what reports say of a
//! parked receiver. It does both outside its lock.

use std::sync::Arc;

use goby_runtime::IsArmed;

/// Keeps a channel.
pub(crate) trait Keeper: Send + Sync {
    /// The last receiver has gone.
    fn receivers_gone(&self) {}

    /// A receive is about to tell that the channel is closed and drained. May panic.
    fn drained(&self) {}

    /// Returns what can end a receive besides a sender, for reports.
    fn reach(&self) -> Reach {
        Reach::default()
    }

    /// Whether there is a timer that can end a receive, and it is armed. This is asked by the
    /// worker of a parked receiver, between two goroutines: see
    /// [`with_reach`](goby_runtime::with_reach).
    fn is_armed(&self) -> bool {
        false
    }
}

/// What can end a receive besides a sender, for reports.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// A context: the channel is its done channel.
    pub(crate) context: bool,
    /// A timer, as long as the keeper says that it is armed.
    pub(crate) timer: bool,
}

impl Reach {
    #[inline]
    pub(crate) fn is_nothing(self) -> bool {
        !self.context && !self.timer
    }

    /// Returns what can end one of two receives.
    #[inline]
    pub(crate) fn or(self, other: Reach) -> Reach {
        Reach { context: self.context | other.context, timer: self.timer | other.timer }
    }

    /// Runs `f`, which parks, and lets reports say what can end the wait.
    #[inline]
    pub(crate) fn during<R>(self, is_armed: IsArmed<'_>, f: impl FnOnce() -> R) -> R {
        goby_runtime::with_reach(self.context, self.timer.then_some(is_armed), f)
    }
}

/// The keeper of a channel, if it has one.
pub(crate) enum Kept {
    ByNobody,
    /// By one that keeps many channels: it is shared without counting.
    ByStatic(&'static dyn Keeper),
    By(Arc<dyn Keeper>),
}

impl Kept {
    #[inline]
    pub(super) fn keeper(&self) -> Option<&dyn Keeper> {
        match self {
            Kept::ByNobody => None,
            Kept::ByStatic(keeper) => Some(*keeper),
            Kept::By(keeper) => Some(&**keeper),
        }
    }
}

impl<K: Keeper + 'static> From<&'static K> for Kept {
    fn from(keeper: &'static K) -> Kept {
        Kept::ByStatic(keeper)
    }
}

impl<K: Keeper + 'static> From<Arc<K>> for Kept {
    fn from(keeper: Arc<K>) -> Kept {
        Kept::By(keeper)
    }
}
