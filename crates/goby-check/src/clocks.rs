//! Vector clocks of a check's goroutines: what comes before what, for [`RaceCell`].
//!
//! They are kept once an execution has made a cell; what came before that is before all. A point
//! about an object is ordered with the earlier ones about it, in both directions. That is more than
//! a channel promises, and hides a race in some schedules; in others it shows. A point about
//! nothing known is ordered with all.
//!
//! [`RaceCell`]: crate::RaceCell

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use goby_runtime::checked::{Event, NO_OBJECT};

/// Marks the address of an object whose points order nothing by themselves: those of a
/// [`RaceCell`](crate::RaceCell), and of an atomic, which says by its ordering what it does.
pub(crate) const ORDERS_NOTHING: usize = 1;

thread_local! {
    static ARE_KEPT: Cell<bool> = const { Cell::new(false) };
    static CLOCKS: RefCell<Clocks> = RefCell::new(Clocks::default());
}

/// Returns whether clocks are kept in this execution.
#[inline]
pub(crate) fn are_kept() -> bool {
    ARE_KEPT.get()
}

/// Keeps clocks from here on, in this execution.
pub(crate) fn keep() {
    if !ARE_KEPT.replace(true) {
        with(|clocks| *clocks = Clocks::default());
    }
}

/// Begins another execution.
pub(crate) fn forget() {
    ARE_KEPT.set(false);
}

pub(crate) fn with<R>(f: impl FnOnce(&mut Clocks) -> R) -> R {
    CLOCKS.with_borrow_mut(f)
}

/// What a goroutine has done, or knows that others have done: for each goroutine, how many of its
/// releases.
#[derive(Clone, Debug, Default)]
struct Clock(Vec<u32>);

impl Clock {
    fn get(&self, place: usize) -> u32 {
        self.0.get(place).copied().unwrap_or(0)
    }

    fn join(&mut self, other: &Clock) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine = (*mine).max(*theirs);
        }
    }
}

/// One moment of one goroutine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    place: usize,
    time: u32,
}

#[derive(Debug, Default)]
struct Member {
    clock: Clock,
    /// What its last point was about.
    object: usize,
    /// It has used a fence: its relaxed operations may be ordered.
    is_fenced: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Clocks {
    members: Vec<Member>,
    objects: HashMap<usize, Clock>,
    /// What was released by points about nothing known.
    global: Clock,
    /// All that was released.
    all: Clock,
}

/// The place of a goroutine by its number; none for a timer or a future.
fn place(number: u64) -> Option<usize> {
    usize::try_from(number).ok()?.checked_sub(1).filter(|&place| place < 1 << 20)
}

impl Clocks {
    fn member(&mut self, place: usize) -> &mut Member {
        while self.members.len() <= place {
            let mut member = Member::default();
            let own = self.members.len();
            member.clock.0.resize(own + 1, 0);
            member.clock.0[own] = 1;
            self.members.push(member);
        }
        &mut self.members[place]
    }

    fn tick(&mut self, place: usize) {
        self.members[place].clock.0[place] += 1;
    }

    pub(crate) fn happens(&mut self, event: Event) {
        match event {
            Event::Arrives(number, object) => {
                if let Some(place) = place(number) {
                    self.member(place).object = object;
                }
            }
            // After a wait it comes once more behind those that have used what it waited for.
            Event::Passes(number) => {
                if let Some(place) = place(number) {
                    let object = self.member(place).object;
                    self.operate(place, object);
                }
            }
            Event::Wakes(by, number) => self.wake(place(by), place(number)),
            Event::Ends(number) => {
                if let Some(place) = place(number) {
                    let clock = self.member(place).clock.clone();
                    self.all.join(&clock);
                }
            }
        }
    }

    /// An operation on an object, which may acquire and release.
    fn operate(&mut self, place: usize, object: usize) {
        if object & ORDERS_NOTHING != 0 {
            return;
        }
        let Clocks { members, objects, global, all } = self;
        let clock = &mut members[place].clock;
        if object == NO_OBJECT {
            clock.join(all);
            global.join(clock);
        } else {
            let of_object = objects.entry(object).or_default();
            clock.join(of_object);
            clock.join(global);
            of_object.join(clock);
        }
        all.join(clock);
        self.tick(place);
    }

    fn wake(&mut self, by: Option<usize>, woken: Option<usize>) {
        let from = match by {
            Some(by) => {
                let clock = self.member(by).clock.clone();
                self.tick(by);
                clock
            }
            None => self.all.clone(),
        };
        match woken {
            Some(woken) => self.member(woken).clock.join(&from),
            None => self.all.join(&from),
        }
    }

    // What atomics do.

    pub(crate) fn acquire(&mut self, number: u64, object: usize, is_acquire: bool) {
        let Some(place) = place(number) else { return };
        let member = self.member(place);
        if !is_acquire && !member.is_fenced {
            return;
        }
        let Clocks { members, objects, global, .. } = self;
        members[place].clock.join(global);
        if let Some(of_object) = objects.get(&object) {
            members[place].clock.join(of_object);
        }
    }

    /// A store, or the store of a read-modify-write, which goes on with what earlier ones have
    /// released.
    pub(crate) fn release(&mut self, number: u64, object: usize, is_release: bool, goes_on: bool) {
        let Some(place) = place(number) else { return };
        let is_release = is_release || self.member(place).is_fenced;
        let Clocks { members, objects, all, .. } = self;
        let of_object = objects.entry(object).or_default();
        if !goes_on {
            of_object.0.clear();
        }
        if is_release {
            of_object.join(&members[place].clock);
            all.join(&members[place].clock);
            self.tick(place);
        }
    }

    pub(crate) fn fence(&mut self, number: u64) {
        let Some(place) = place(number) else { return };
        self.member(place).is_fenced = true;
        // An earlier load may have seen what any other has released.
        let Clocks { members, all, .. } = self;
        members[place].clock.join(all);
    }

    // What cells ask.

    /// Returns the present moment of a goroutine.
    pub(crate) fn now(&mut self, number: u64) -> Option<Moment> {
        let place = place(number)?;
        Some(Moment { place, time: self.member(place).clock.get(place) })
    }

    /// Returns whether a moment comes before what the goroutine does now.
    pub(crate) fn is_before(&mut self, moment: Moment, number: u64) -> bool {
        let Some(place) = place(number) else { return true };
        self.member(place).clock.get(moment.place) >= moment.time
    }
}
