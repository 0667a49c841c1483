//! A runtime timer and the channel it fires into. A stop leaves nothing behind.
//!
//! A timer that is stopped may be firing at that moment on another thread, and its instant would
//! appear in the channel after the stop. Therefore the channel knows, under its own lock, from
//! which due time on it accepts an instant (`arm`), or that it accepts none (`withdraw`). A firing
//! that comes late is ignored. For a one-shot timer that also says, exactly, whether a stop came
//! before the firing was seen.
//!
//! Arming the channel and starting the timer are two steps. The lock `change` makes them one for
//! other callers of `start` and `stop`. Otherwise the timer of one caller might run with the
//! channel armed by the other, and nothing would ever be accepted. `change` is never held while a
//! receiver is woken: the firing does not take it.

use std::fmt;
use std::time::{Duration, Instant};

use goby_runtime::{Lock, TimerAction};

use crate::chan::{self, Receiver, TimerHandle, TimerSlot};

/// How often an alarm fires once started.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Rings {
    Once,
    Every,
}

pub(super) struct Alarm {
    receiver: Receiver<Instant>,
    handle: TimerHandle,
    /// Held while the channel and the timer change together.
    change: Lock<()>,
}

impl Alarm {
    /// Makes an alarm that is not started.
    pub(super) fn new(rings: Rings) -> Alarm {
        let (receiver, handle) = chan::timer_channel(|slot| goby_runtime::Timer::of(Ring { slot, rings }));
        Alarm { receiver, handle, change: Lock::new(()) }
    }

    /// Starts the alarm anew; returns true if it was running, or its instant was not received yet.
    ///
    /// An alarm that is due already at `now` fires here, so nobody finds it due and its channel
    /// empty.
    pub(super) fn start(&self, now: Instant, due: Instant) -> bool {
        let was_pending = {
            let _change = self.change.lock();
            let was_pending = self.handle.arm(due);
            if due > now {
                self.handle.timer().start(due);
            } else {
                self.handle.timer().stop();
            }
            was_pending
        };
        if due <= now {
            // Without the lock, because it may wake a receiver. The channel ignores it if the alarm
            // was moved or stopped since.
            self.handle.offer(due, false);
        }
        was_pending
    }

    /// Starts the alarm anew, to fire every `period` from `due` on; returns true if it was running.
    pub(super) fn start_periodic(&self, due: Instant, period: Duration) -> bool {
        let _change = self.change.lock();
        let was_pending = self.handle.arm(due);
        self.handle.timer().start_periodic(due, period);
        was_pending
    }

    /// Stops the alarm and withdraws its instant; returns true if it was running, or its instant
    /// was not received yet.
    pub(super) fn stop(&self) -> bool {
        let _change = self.change.lock();
        self.handle.timer().stop();
        self.handle.withdraw()
    }

    pub(super) fn receiver(&self) -> &Receiver<Instant> {
        &self.receiver
    }

    /// Keeps only the receiver: the timer runs as long as that lives.
    pub(super) fn into_receiver(self) -> Receiver<Instant> {
        self.receiver
    }
}

/// What an alarm's timer does.
struct Ring {
    slot: TimerSlot,
    rings: Rings,
}

impl TimerAction for Ring {
    fn fire(&self, due: Instant) {
        self.slot.offer(due, self.rings == Rings::Every);
    }

    fn is_awaited(&self) -> bool {
        self.slot.is_awaited()
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
            s.spawn(move || alarm.start(now, now + Duration::from_nanos(1)));
            let early = alarm.receiver().recv_timeout(Duration::from_millis(5));
            assert_eq!(early, Err(RecvTimeoutError::Timeout), "started in the middle of another change");
            drop(changing);
            alarm.receiver().recv().unwrap();
        });
    }

    #[test]
    fn a_firing_under_way_is_ignored_once_the_alarm_is_moved_or_stopped() {
        let (give_slot, slot) = std::sync::mpsc::channel();
        let (receiver, handle) = chan::timer_channel(|slot| {
            give_slot.send(slot).unwrap();
            goby_runtime::Timer::new(|_| unreachable!("never started"))
        });
        let slot = slot.recv().unwrap();
        let due = goby_runtime::now();
        assert!(!handle.arm(due));
        assert!(handle.arm(due + Duration::from_secs(1)), "moved");
        slot.offer(due, false);
        assert!(receiver.try_recv().is_err());
        assert!(handle.withdraw());
        slot.offer(due + Duration::from_secs(1), false);
        assert!(receiver.try_recv().is_err());
        assert!(!handle.withdraw());

        handle.arm(due);
        slot.offer(due, false);
        slot.offer(due, false);
        assert_eq!(receiver.recv(), Ok(due));
        assert!(receiver.try_recv().is_err(), "fires once");
        assert!(!handle.withdraw());
    }
}
