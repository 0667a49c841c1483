//! A runtime timer and the channel it fires into. A stop leaves nothing behind.
//!
//! A timer that is stopped may be firing at that moment on another thread, and its instant would
//! appear in the channel after the stop. Therefore the alarm knows, under the channel's lock, from
//! which due time on it accepts an instant, or that it accepts none ([`arm`](Bell::arm)). A firing
//! that comes late is ignored. For a one-shot timer that also says, exactly, whether a stop came
//! before the firing was seen.
//!
//! Arming and starting the timer are two steps. The lock `change` makes them one for other callers
//! of `start` and `stop`. Otherwise the timer of one caller might run with the channel armed by the
//! other, and nothing would ever be accepted. `change` is never held while a receiver is woken: the
//! firing does not take it.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use goby_runtime::{Lock, Timer, TimerAction};

use crate::chan::{self, Feed, Keeper, Reach, Receiver};

/// How often an alarm fires once started.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Rings {
    Once,
    Every,
}

pub(super) struct Alarm {
    receiver: Receiver<Instant>,
    bell: Arc<Bell>,
    /// Held while the channel and the timer change together.
    change: Lock<()>,
}

impl Alarm {
    /// Makes an alarm that is not started.
    pub(super) fn new(rings: Rings) -> Alarm {
        let (receiver, bell) = Bell::new(|bell| Timer::of(Ring { bell, rings }));
        Alarm { receiver, bell, change: Lock::new(()) }
    }

    /// Starts the alarm anew; returns true if it was running, or its instant was not received yet.
    ///
    /// An alarm that is due already at `now` fires here, so nobody finds it due and its channel
    /// empty.
    pub(super) fn start(&self, now: Instant, due: Instant) -> bool {
        let was_pending = {
            let _change = self.change.lock();
            let was_pending = self.bell.arm(Some(due));
            if due > now {
                self.bell.timer.start(due);
            } else {
                self.bell.timer.stop();
            }
            was_pending
        };
        if due <= now {
            // Without the lock, because it may wake a receiver. The channel ignores it if the alarm
            // was moved or stopped since.
            self.bell.ring(due, Rings::Once);
        }
        was_pending
    }

    /// Starts the alarm anew, to fire every `period` from `due` on; returns true if it was running.
    pub(super) fn start_periodic(&self, due: Instant, period: Duration) -> bool {
        let _change = self.change.lock();
        let was_pending = self.bell.arm(Some(due));
        self.bell.timer.start_periodic(due, period);
        was_pending
    }

    /// Stops the alarm and withdraws its instant; returns true if it was running, or its instant
    /// was not received yet.
    pub(super) fn stop(&self) -> bool {
        let _change = self.change.lock();
        self.bell.timer.stop();
        self.bell.arm(None)
    }

    pub(super) fn receiver(&self) -> &Receiver<Instant> {
        &self.receiver
    }

    /// Keeps only the receiver: the timer runs as long as that lives.
    pub(super) fn into_receiver(self) -> Receiver<Instant> {
        self.receiver
    }
}

/// The keeper of an alarm's channel: the timer, and what the channel accepts from it.
struct Bell {
    timer: Timer,
    feed: Feed<Instant>,
    /// The due time from which on an instant is accepted, if one is. Changed inside the channel's
    /// lock.
    from: Lock<Option<Instant>>,
}

impl Bell {
    /// Makes a channel with its bell, around which `make` builds the timer.
    fn new(make: impl FnOnce(Weak<Bell>) -> Timer) -> (Receiver<Instant>, Arc<Bell>) {
        chan::fed(|feed| Arc::new_cyclic(|bell| Bell { timer: make(bell.clone()), feed, from: Lock::new(None) }))
    }

    /// Takes an unread instant back, and from now on accepts one that is due at `from` or later, or
    /// none. Returns true if one was accepted before, or one was unread.
    fn arm(&self, from: Option<Instant>) -> bool {
        let mut was_armed = false;
        let unread = self.feed.withdraw(|| was_armed = std::mem::replace(&mut *self.from.lock(), from).is_some());
        unread.is_some() || was_armed
    }

    /// Leaves an instant, if one is accepted and none is unread. If it rings once, no further one
    /// is accepted.
    fn ring(&self, due: Instant, rings: Rings) {
        self.feed.offer(due, || {
            let mut from = self.from.lock();
            let accepts = from.is_some_and(|from| due >= from);
            if accepts && rings == Rings::Once {
                *from = None;
            }
            accepts
        });
    }
}

impl Keeper for Bell {
    fn reach(&self) -> Reach {
        Reach { context: false, timer: true }
    }

    fn is_armed(&self) -> bool {
        self.from.lock().is_some()
    }
}

/// What an alarm's timer does. Weak: the bell owns the timer.
struct Ring {
    bell: Weak<Bell>,
    rings: Rings,
}

impl TimerAction for Ring {
    fn fire(&self, due: Instant) {
        if let Some(bell) = self.bell.upgrade() {
            bell.ring(due, self.rings);
        }
    }

    fn is_awaited(&self) -> bool {
        self.bell.upgrade().is_some_and(|bell| bell.feed.is_awaited())
    }
}

impl fmt::Debug for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alarm").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chan::RecvTimeoutError;

    #[test]
    fn channel_and_timer_change_as_one() {
        let alarm = &Alarm::new(Rings::Once);
        std::thread::scope(|s| {
            let changing = alarm.change.lock();
            let now = goby_runtime::now();
            let starter = s.spawn(move || alarm.start(now, now + Duration::from_nanos(1)));
            let early = alarm.receiver().recv_timeout(Duration::from_millis(5));
            assert_eq!(early, Err(RecvTimeoutError::Timeout), "started in the middle of another change");
            drop(changing);
            alarm.receiver().recv().unwrap();
            // ThreadSanitizer sees a join, and not the end of a scope of std's.
            starter.join().unwrap();
        });
    }

    #[test]
    fn a_firing_under_way_is_ignored_once_the_alarm_is_moved_or_stopped() {
        let (receiver, bell) = Bell::new(|_| Timer::new(|_| unreachable!("never started")));
        let due = goby_runtime::now();
        assert!(!bell.arm(Some(due)));
        assert!(bell.arm(Some(due + Duration::from_secs(1))), "moved");
        bell.ring(due, Rings::Once);
        assert!(receiver.try_recv().is_err());
        assert!(bell.arm(None));
        bell.ring(due + Duration::from_secs(1), Rings::Once);
        assert!(receiver.try_recv().is_err());
        assert!(!bell.arm(None));

        bell.arm(Some(due));
        bell.ring(due, Rings::Once);
        bell.ring(due, Rings::Once);
        assert_eq!(receiver.recv(), Ok(due));
        assert!(receiver.try_recv().is_err(), "fires once");
        assert!(!bell.arm(None));
    }
}
