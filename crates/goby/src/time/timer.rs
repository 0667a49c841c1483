//! A timer with a handle: it fires once, and can be stopped and moved.
//!
//! The channel, and the runtime's timer with it, is made when it is first asked for. Before that
//! nobody can see whether the timer has fired, because that shows only in the channel. A timer that
//! is stopped before anybody listens costs no allocation and touches no heap of timers. (Go also
//! keeps a timer out of the heap until somebody waits for it.)

use std::time::{Duration, Instant};

use goby_runtime::Lock;
use once_cell::sync::OnceCell;

use super::alarm::{Alarm, Rings};
use super::{deadline_after, deadline_in};
use crate::chan::Receiver;

/// Fires once, into its channel.
///
/// The timer stops when it and all its receivers are dropped.
///
/// ```
/// use goby::time::Timer;
/// use std::time::{Duration, Instant};
/// let start = Instant::now();
/// let timer = Timer::new(Duration::from_millis(2));
/// let fired = timer.receiver().recv().unwrap();
/// assert!(fired >= start + Duration::from_millis(2));
/// assert!(!timer.stop(), "it has fired");
/// ```
///
/// Source: Go's `time.Timer`.
#[doc(alias = "time.Timer")]
#[derive(Debug)]
pub struct Timer {
    /// When the timer is due, if it is running. Once there is an alarm, the alarm knows that
    /// instead.
    due: Lock<Option<Instant>>,
    /// Set under the lock.
    alarm: OnceCell<Alarm>,
}

impl Timer {
    /// Starts a timer that fires `duration` from now.
    ///
    /// ```
    /// use goby::time::Timer;
    /// use std::time::Duration;
    /// let timer = Timer::new(Duration::from_secs(3600));
    /// assert!(timer.receiver().try_recv().is_err());
    /// ```
    ///
    /// Source: Go's `time.NewTimer`.
    #[doc(alias("time.NewTimer", "NewTimer"))]
    pub fn new(duration: Duration) -> Timer {
        Timer { due: Lock::new(Some(deadline_in(duration))), alarm: OnceCell::new() }
    }

    /// Returns the channel into which the timer fires. A clone of the channel keeps the timer
    /// running.
    ///
    /// The channel is never closed: a receive waits as long as the timer is stopped.
    ///
    /// ```
    /// use goby::time::Timer;
    /// use std::time::Duration;
    /// let timer = Timer::new(Duration::ZERO);
    /// assert!(timer.receiver().recv().is_ok());
    /// assert_eq!(timer.receiver().capacity(), Some(0));
    /// ```
    pub fn receiver(&self) -> &Receiver<Instant> {
        self.alarm.get().unwrap_or_else(|| self.make_alarm()).receiver()
    }

    /// Stops the timer; returns true unless its instant was received before, or it was stopped
    /// before.
    ///
    /// After `stop` has returned, nothing is received until the timer is reset: an instant that
    /// nobody received is withdrawn.
    ///
    /// ```
    /// use goby::time::{self, Timer};
    /// use std::time::Duration;
    /// let timer = Timer::new(Duration::from_millis(1));
    /// time::sleep(Duration::from_millis(2));
    /// assert!(timer.stop(), "nobody has received it");
    /// assert!(timer.receiver().try_recv().is_err());
    /// assert!(!timer.stop());
    /// ```
    ///
    /// Source: Go's `Timer.Stop`.
    pub fn stop(&self) -> bool {
        self.change(None)
    }

    /// Makes the timer fire `duration` from now instead; returns what [`stop`](Timer::stop) would
    /// have returned.
    ///
    /// ```
    /// use goby::time::Timer;
    /// use std::time::Duration;
    /// let timer = Timer::new(Duration::from_secs(3600));
    /// assert!(timer.reset(Duration::ZERO), "it was running");
    /// assert!(timer.receiver().recv().is_ok());
    /// assert!(!timer.reset(Duration::ZERO), "it had fired");
    /// ```
    ///
    /// Source: Go's `Timer.Reset`.
    pub fn reset(&self, duration: Duration) -> bool {
        let now = goby_runtime::now();
        self.change(Some((now, deadline_after(now, duration))))
    }

    /// Stops the timer, or changes when it is due (`due` is the time now and the new due time);
    /// returns true if it was running, or its instant was not received yet.
    fn change(&self, due: Option<(Instant, Instant)>) -> bool {
        goby_runtime::checkpoint();
        if self.alarm.get().is_none() {
            let mut unheard = self.due.lock();
            if self.alarm.get().is_none() {
                return std::mem::replace(&mut *unheard, due.map(|(_, due)| due)).is_some();
            }
        }
        let alarm = self.alarm.get().expect("seen above");
        match due {
            None => alarm.stop(),
            Some((now, due)) => alarm.start(now, due),
        }
    }

    /// Makes the channel, and, if the timer is running, starts the runtime's timer that fires into
    /// it.
    #[cold]
    fn make_alarm(&self) -> &Alarm {
        let mut unheard = self.due.lock();
        self.alarm.get_or_init(|| {
            let alarm = Alarm::new(Rings::Once);
            if let Some(due) = unheard.take() {
                alarm.start(goby_runtime::now(), due);
            }
            alarm
        })
    }
}
