//! The goroutines that have started on one worker and have not ended, for inspection.
//!
//! A table that only its worker touches: entering and leaving cost a store each, nothing is shared and nobody else's
//! record is touched, which rules out a list through the records. Places are used again, the last one first.

use std::cell::UnsafeCell;
use std::ptr::NonNull;

use crate::goroutine::Goroutine;

/// `!Sync`: only its worker uses it.
pub(crate) struct Registry {
    inner: UnsafeCell<Inner>,
}

struct Inner {
    places: Vec<Option<NonNull<Goroutine>>>,
    free: Vec<u32>,
}

impl Registry {
    pub(crate) fn new() -> Registry {
        Registry { inner: UnsafeCell::new(Inner { places: Vec::with_capacity(256), free: Vec::new() }) }
    }

    /// Enters a goroutine; gives its place. Four billion started goroutines do not fit an address space of stacks.
    #[inline]
    pub(crate) fn enter(&self, g: NonNull<Goroutine>) -> u32 {
        // SAFETY: the table belongs to one thread, and no reference into it leaves these methods.
        let inner = unsafe { &mut *self.inner.get() };
        if let Some(place) = inner.free.pop() {
            inner.places[place as usize] = Some(g);
            return place;
        }
        inner.places.push(Some(g));
        (inner.places.len() - 1) as u32
    }

    /// Takes the goroutine at a place out.
    #[inline]
    pub(crate) fn leave(&self, place: u32) {
        // SAFETY: as above.
        let inner = unsafe { &mut *self.inner.get() };
        inner.places[place as usize] = None;
        inner.free.push(place);
    }

    /// The goroutines that are in it now.
    pub(crate) fn all(&self) -> Vec<NonNull<Goroutine>> {
        // SAFETY: as above.
        unsafe { &*self.inner.get() }.places.iter().copied().flatten().collect()
    }
}
