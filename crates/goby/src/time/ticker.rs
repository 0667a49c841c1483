//! A ticker with a handle: an instant every period, until it is stopped.

use std::time::{Duration, Instant};

use super::alarm::{Alarm, Rings};
use super::deadline_in;
use crate::chan::Receiver;

/// Fires every period, into its channel.
///
/// A receiver that is late misses ticks: the channel holds one. The ticker stops when it and all
/// its receivers are dropped.
///
/// ```
/// use goby::time::Ticker;
/// use std::time::Duration;
/// let ticker = Ticker::new(Duration::from_millis(1));
/// let ticks: Vec<_> = ticker.receiver().iter().take(3).collect();
/// assert!(ticks.is_sorted());
/// ```
///
/// Source: Go's `time.Ticker`.
#[doc(alias("time.Ticker", "Interval"))]
#[derive(Debug)]
pub struct Ticker {
    alarm: Alarm,
}

impl Ticker {
    /// Starts a ticker; the first tick comes after one period.
    ///
    /// ```
    /// use goby::time::Ticker;
    /// use std::time::Duration;
    /// let ticker = Ticker::new(Duration::from_millis(1));
    /// assert!(ticker.receiver().recv().is_ok());
    /// ```
    ///
    /// # Panics
    ///
    /// When `period` is zero.
    ///
    /// Source: Go's `time.NewTicker`.
    #[doc(alias("time.NewTicker", "NewTicker"))]
    #[track_caller]
    pub fn new(period: Duration) -> Ticker {
        check(period);
        goby_runtime::checkpoint();
        let alarm = Alarm::new(Rings::Every);
        alarm.start_periodic(deadline_in(period), period);
        Ticker { alarm }
    }

    /// Returns the channel into which the ticker fires. A clone of the channel keeps the ticker
    /// running.
    ///
    /// The channel is never closed: a receive waits as long as the ticker is stopped.
    ///
    /// ```
    /// use goby::time::Ticker;
    /// use std::time::Duration;
    /// let ticker = Ticker::new(Duration::from_millis(1));
    /// assert_eq!(ticker.receiver().capacity(), Some(0));
    /// ```
    pub fn receiver(&self) -> &Receiver<Instant> {
        self.alarm.receiver()
    }

    /// Stops the ticker and withdraws a tick that nobody received; returns true if it was running.
    ///
    /// ```
    /// use goby::time::Ticker;
    /// use std::time::Duration;
    /// let ticker = Ticker::new(Duration::from_millis(1));
    /// assert!(ticker.stop());
    /// assert!(ticker.receiver().try_recv().is_err());
    /// assert!(!ticker.stop());
    /// ```
    ///
    /// Source: Go's `Ticker.Stop`.
    pub fn stop(&self) -> bool {
        goby_runtime::checkpoint();
        self.alarm.stop()
    }

    /// Starts the ticker anew with another period, and withdraws a tick that nobody received;
    /// returns true if it was running.
    ///
    /// ```
    /// use goby::time::Ticker;
    /// use std::time::Duration;
    /// let ticker = Ticker::new(Duration::from_secs(3600));
    /// assert!(ticker.reset(Duration::from_millis(1)));
    /// assert!(ticker.receiver().recv().is_ok());
    /// ```
    ///
    /// # Panics
    ///
    /// When `period` is zero.
    ///
    /// Source: Go's `Ticker.Reset`.
    #[track_caller]
    pub fn reset(&self, period: Duration) -> bool {
        check(period);
        goby_runtime::checkpoint();
        self.alarm.start_periodic(deadline_in(period), period)
    }
}

#[track_caller]
fn check(period: Duration) {
    assert!(!period.is_zero(), "a ticker needs a period above zero");
}
