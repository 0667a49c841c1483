//! The goroutines that have started on one worker and have not ended, for inspection.
//!
//! A table that only its worker touches: entering and leaving cost one store each, and nothing is
//! shared. No other goroutine's record is touched, which rules out a list through the records.
//! Places are used again, the last one first.

use std::cell::{Cell, UnsafeCell};
use std::ptr::{self, NonNull};

use crate::engine::goroutine::Goroutine;

/// `!Sync`: only its worker uses it.
pub(crate) struct Registry {
    /// A place holds a goroutine, or, tagged by the lowest bit, the number of the next free place.
    places: UnsafeCell<Vec<*mut Goroutine>>,
    /// The first free place; the length of `places` if there is none.
    free: Cell<usize>,
}

impl Registry {
    pub(crate) fn new() -> Registry {
        Registry { places: UnsafeCell::new(Vec::new()), free: Cell::new(0) }
    }

    /// Enters a goroutine, and returns its place. Four billion started goroutines do not fit an
    /// address space of stacks.
    #[inline(always)]
    pub(crate) fn enter(&self, g: NonNull<Goroutine>) -> u32 {
        // SAFETY: the table belongs to one thread, and no reference into it leaves these methods.
        let places = unsafe { &mut *self.places.get() };
        let place = self.free.get();
        if let Some(slot) = places.get_mut(place) {
            self.free.set(slot.addr() >> 1);
            *slot = g.as_ptr();
        } else {
            places.push(g.as_ptr());
            self.free.set(places.len());
        }
        place as u32
    }

    /// Takes the goroutine at a place out.
    #[inline]
    pub(crate) fn leave(&self, place: u32) {
        // SAFETY: as above.
        let places = unsafe { &mut *self.places.get() };
        let next = self.free.replace(place as usize);
        places[place as usize] = ptr::without_provenance_mut(next << 1 | 1);
    }

    /// Gives memory back that a crowd has needed.
    pub(crate) fn shrink(&self) {
        // SAFETY: as above.
        let places = unsafe { &mut *self.places.get() };
        let is_free = |place: &*mut Goroutine| place.addr() & 1 == 1;
        let len = places.iter().rposition(|place| !is_free(place)).map_or(0, |last| last + 1);
        places.truncate(len);
        places.shrink_to_fit();
        // The list of free places has lost some, so it is made anew, the first one first.
        let mut next = len;
        for place in (0..len).rev().filter(|&place| is_free(&places[place])).collect::<Vec<_>>() {
            places[place] = ptr::without_provenance_mut(next << 1 | 1);
            next = place;
        }
        self.free.set(next);
    }

    /// Returns the goroutines that are in it now.
    pub(crate) fn all(&self) -> Vec<NonNull<Goroutine>> {
        // SAFETY: as above.
        let places = unsafe { &*self.places.get() };
        places.iter().filter(|place| place.addr() & 1 == 0).copied().filter_map(NonNull::new).collect()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn places_are_used_again() {
        let registry = Registry::new();
        let g = |n: usize| NonNull::new(ptr::without_provenance_mut(n * 64)).unwrap();
        let places: Vec<u32> = (1..=5).map(|n| registry.enter(g(n))).collect();
        assert_eq!(places, [0, 1, 2, 3, 4]);
        registry.leave(3);
        registry.leave(1);
        assert_eq!(registry.all(), [g(1), g(3), g(5)]);
        assert_eq!([registry.enter(g(6)), registry.enter(g(7)), registry.enter(g(8))], [1, 3, 5]);
        assert_eq!(registry.all(), [g(1), g(6), g(3), g(7), g(5), g(8)]);
        registry.leave(1);
        registry.leave(3);
        registry.leave(5);
        registry.shrink();
        assert_eq!(registry.all(), [g(1), g(3), g(5)]);
        assert_eq!([registry.enter(g(6)), registry.enter(g(7)), registry.enter(g(8))], [1, 3, 5]);
        (0..6).for_each(|place| registry.leave(place));
        assert!(registry.all().is_empty());
        assert_eq!(registry.enter(g(9)), 5);
    }
}
