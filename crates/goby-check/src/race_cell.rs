//! A cell that reports accesses which nothing orders.

use std::fmt;
use std::panic::Location;
use std::ptr;
use std::sync::{Mutex, PoisonError, RwLock};

use goby_runtime::checked;

use crate::clocks::{self, Moment, ORDERS_NOTHING};
use crate::explore;

/// A value that goroutines of a check share without a lock. An access that no lock, channel or join
/// orders with another one is a data race if one of the two writes, and fails the check, even if
/// the two were far apart in this schedule.
///
/// It stands in a test for what the program would do by `unsafe`, or for a protocol that is to keep
/// others away from a value. Each access is a point. Outside of a check accesses that overlap
/// panic.
///
/// ```
/// use goby::{go, sync::Mutex};
/// use goby_check::{Config, FailureKind, RaceCell, check_random};
/// use std::sync::Arc;
///
/// let failure = Config::random(100).run(|| {
///     let cell = Arc::new(RaceCell::new(0));
///     let theirs = cell.clone();
///     let other = go(move || theirs.set(1));
///     cell.set(2);
///     other.join().unwrap();
/// });
/// assert_eq!(failure.unwrap_err().kind(), FailureKind::Race);
///
/// check_random(100, || {
///     let cell = Arc::new((Mutex::new(()), RaceCell::new(0)));
///     let theirs = cell.clone();
///     let other = go(move || {
///         let _held = theirs.0.lock();
///         theirs.1.set(1);
///     });
///     {
///         let _held = cell.0.lock();
///         cell.1.set(2);
///     }
///     other.join().unwrap();
/// });
/// ```
pub struct RaceCell<T> {
    accesses: Mutex<Accesses>,
    value: RwLock<T>,
}

/// What was done to a cell last.
#[derive(Debug, Default)]
struct Accesses {
    write: Option<Access>,
    /// Reads since then, one of each goroutine.
    reads: Vec<Access>,
}

#[derive(Clone, Copy, Debug)]
struct Access {
    number: u64,
    moment: Moment,
    at: &'static Location<'static>,
}

impl<T> RaceCell<T> {
    /// Makes a cell.
    pub fn new(value: T) -> RaceCell<T> {
        if checked::is_checked() {
            clocks::keep();
        }
        RaceCell { accesses: Mutex::default(), value: RwLock::new(value) }
    }

    /// Calls `f` with the value: a read.
    #[track_caller]
    pub fn with<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        self.note(false, Location::caller());
        match self.value.try_read() {
            Ok(value) => f(&value),
            Err(_) => overlap(),
        }
    }

    /// Calls `f` with the value, which it may change: a write.
    #[track_caller]
    pub fn with_mut<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        self.note(true, Location::caller());
        match self.value.try_write() {
            Ok(mut value) => f(&mut value),
            Err(_) => overlap(),
        }
    }

    /// Returns a copy of the value: a read.
    #[track_caller]
    pub fn get(&self) -> T
    where
        T: Copy,
    {
        self.with(|value| *value)
    }

    /// Replaces the value: a write.
    #[track_caller]
    pub fn set(&self, value: T) {
        self.with_mut(|place| *place = value);
    }

    /// Returns the value, when nobody else can use the cell.
    pub fn into_inner(self) -> T {
        self.value.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an access of the calling goroutine, and fails the check if it races.
    fn note(&self, writes: bool, at: &'static Location<'static>) {
        checked::point(ptr::from_ref(self).addr() << 1 | ORDERS_NOTHING);
        let Some(number) = checked::current_number() else { return };
        // A cell that was made in another execution, or outside.
        clocks::keep();
        if let Some(other) = self.enter(number, writes, at) {
            let what = |writes| if writes { "writes" } else { "reads" };
            let (other, others) = other;
            explore::report_race(&format!(
                "data race: goroutine {number} {} a RaceCell at {at}, and nothing orders this with goroutine {}, which \
                 {} it at {}",
                what(writes),
                other.number,
                what(others),
                other.at
            ));
        }
    }

    /// Enters an access; returns one that races with it, and whether that one writes.
    fn enter(&self, number: u64, writes: bool, at: &'static Location<'static>) -> Option<(Access, bool)> {
        let mut accesses = self.accesses.lock().unwrap_or_else(PoisonError::into_inner);
        clocks::with(|clocks| {
            let moment = clocks.now(number)?;
            let mut races = |other: &Access| other.number != number && !clocks.is_before(other.moment, number);
            let write = accesses.write.filter(|other| races(other)).map(|other| (other, true));
            let read =
                || accesses.reads.iter().copied().find(|other| writes && races(other)).map(|other| (other, false));
            let found = write.or_else(read);
            let access = Access { number, moment, at };
            if writes {
                accesses.write = Some(access);
                accesses.reads.clear();
            } else {
                accesses.reads.retain(|other| other.number != number);
                accesses.reads.push(access);
            }
            found
        })
    }
}

/// Two accesses overlap: one is inside of its closure.
#[cold]
#[track_caller]
fn overlap() -> ! {
    explore::report_race("data race: a RaceCell is used while another goroutine is inside `with` or `with_mut`");
    panic!("a RaceCell is used by two at once");
}

impl<T: Default> Default for RaceCell<T> {
    fn default() -> RaceCell<T> {
        RaceCell::new(T::default())
    }
}

impl<T> fmt::Debug for RaceCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RaceCell").finish_non_exhaustive()
    }
}
