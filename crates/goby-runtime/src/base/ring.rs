//! A queue in a ring whose size is a power of two. It takes a third fewer instructions than a
//! `VecDeque`, which counts in a round of the scheduler that has less than a hundred.

use std::cell::{Cell, UnsafeCell};
use std::mem::MaybeUninit;

/// A FIFO of values that are copied out. `!Sync`: one thread uses it.
pub(crate) struct Ring<T> {
    /// The places with the numbers `head..tail`, modulo the length, hold a value.
    places: UnsafeCell<Box<[Place<T>]>>,
    /// Both only ever grow, and wrap around.
    head: Cell<usize>,
    tail: Cell<usize>,
}

type Place<T> = Cell<MaybeUninit<T>>;

impl<T: Copy> Ring<T> {
    /// Makes an empty one with room for `capacity`, a power of two.
    pub(crate) fn with_capacity(capacity: usize) -> Ring<T> {
        Ring { places: UnsafeCell::new(Self::empty(capacity)), head: Cell::new(0), tail: Cell::new(0) }
    }

    fn empty(capacity: usize) -> Box<[Place<T>]> {
        assert!(capacity.is_power_of_two());
        (0..capacity).map(|_| Cell::new(MaybeUninit::uninit())).collect()
    }

    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(crate) fn push_back(&self, value: T) {
        if self.len() == self.places().len() {
            self.resize(2 * self.len());
        }
        let tail = self.tail.get();
        self.place(tail).set(MaybeUninit::new(value));
        self.tail.set(tail.wrapping_add(1));
    }

    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(crate) fn pop_front(&self) -> Option<T> {
        let first = self.get(0)?;
        self.head.set(self.head.get().wrapping_add(1));
        Some(first)
    }

    /// Returns the value that has `i` others in front of it.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(crate) fn get(&self, i: usize) -> Option<T> {
        // SAFETY: between head and tail.
        (i < self.len()).then(|| unsafe { self.place(self.head.get().wrapping_add(i)).get().assume_init() })
    }

    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(crate) fn len(&self) -> usize {
        self.tail.get().wrapping_sub(self.head.get())
    }

    pub(crate) fn to_vec(&self) -> Vec<T> {
        (0..self.len()).map_while(|i| self.get(i)).collect()
    }

    /// Gives memory back, down to room for `capacity`, a power of two, and for what is queued.
    pub(crate) fn shrink_to(&self, capacity: usize) {
        let capacity = self.len().next_power_of_two().max(capacity);
        if capacity < self.places().len() {
            self.resize(capacity);
        }
    }

    /// Moves the queued values to a new array of `capacity` places.
    #[cold]
    fn resize(&self, capacity: usize) {
        let (all, places) = (self.to_vec(), Self::empty(capacity));
        for (place, value) in places[..all.len()].iter().zip(&all) {
            place.set(MaybeUninit::new(*value));
        }
        // SAFETY: as in `places`.
        unsafe { *self.places.get() = places };
        self.head.set(0);
        self.tail.set(all.len());
    }

    #[cfg_attr(not(debug_assertions), inline(always))]
    fn places(&self) -> &[Place<T>] {
        // SAFETY: the ring is one thread's, no reference into it leaves these methods, and none is
        // kept over `resize`.
        unsafe { &*self.places.get() }
    }

    #[cfg_attr(not(debug_assertions), inline(always))]
    fn place(&self, number: usize) -> &Place<T> {
        let places = self.places();
        // SAFETY: the length is a power of two, as `empty` sees to, so this is a remainder.
        unsafe { places.get_unchecked(number & (places.len() - 1)) }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// Compares it with the standard's queue: random pushes and pops, in waves that make it grow,
    /// wrap and shrink.
    #[test]
    fn it_is_a_queue() {
        let (ring, mut queue) = (Ring::with_capacity(4), VecDeque::new());
        let mut random = 1_u64;
        for step in 0..100_000_u64 {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let is_rising = step / 1000 % 2 == 0;
            if (random >> 60 < 10) == is_rising {
                ring.push_back(step);
                queue.push_back(step);
            } else {
                assert_eq!(ring.pop_front(), queue.pop_front());
            }
            if step % 500 == 0 {
                ring.shrink_to(4);
                assert_eq!(ring.places().len(), queue.len().next_power_of_two().max(4));
                assert_eq!(ring.to_vec(), Vec::from(queue.clone()));
            }
            assert_eq!((ring.len(), ring.get(2)), (queue.len(), queue.get(2).copied()));
        }
        assert!(ring.head.get() > 0);
    }

    #[test]
    fn its_counters_wrap_around() {
        let ring = Ring::with_capacity(2);
        ring.head.set(usize::MAX);
        ring.tail.set(usize::MAX);
        (0..5).for_each(|i| ring.push_back(i));
        assert_eq!(ring.to_vec(), [0, 1, 2, 3, 4]);
        assert_eq!(std::iter::from_fn(|| ring.pop_front()).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    }
}
