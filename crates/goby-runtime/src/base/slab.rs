//! Memory for goroutines' records: a worker keeps the memory that its goroutines leave, for those
//! that it starts next.
//!
//! A wave of goroutines is too many for the allocator's own cache, whose slow path took more
//! instructions than all the rest of starting and ending a goroutine. Blocks come from the global
//! allocator and go back to it, wherever they are freed; a slab only lies in between. See
//! `docs/decisions/22-record-slabs.md`.

use std::alloc::{self, Layout};
use std::cell::Cell;
use std::hint;
use std::mem;
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU64;

use crate::base::primitive::bump;
use crate::base::tsan;

/// Blocks are multiples of this: a cache line.
const STEP: usize = 64;
/// What blocks are aligned to: the alignment that the allocator gives without being asked.
const ALIGN: usize = 16;
/// The blocks of each class are one line larger than those of the class before. Larger records are
/// not kept.
const CLASSES: usize = 8;
/// How much is kept of one class, in bytes: a wave of a thousand goroutines with small closures.
const KEPT: usize = 256 << 10;

/// glibc grows the arena of a thread by as many pages as one allocation needs, mostly one, with a
/// system call that also keeps the page faults of all threads waiting. A million futures took
/// 55,000 such calls. So now and then a worker takes a larger block and gives it back: the arena
/// keeps that memory, and has room for what comes.
///
/// Below 64 KiB, since otherwise the arena would be tidied up whenever the block comes back.
const HEADROOM: usize = 60 << 10;
/// Allocations between two such blocks: about as many as there is room for.
const PER_HEADROOM: u32 = 128;

/// `!Sync`: only its worker uses it.
pub(crate) struct Slab {
    classes: [Class; CLASSES],
    /// Allocations since room was last made for more.
    allocated: Cell<u32>,
    /// How often room was made.
    grown: &'static AtomicU64,
}

struct Class {
    /// The first free block; each begins with the address of the next.
    first: Cell<*mut u8>,
    len: Cell<usize>,
}

/// The class of a record's type, and the layout of its blocks.
struct Shape {
    class: usize,
    layout: Layout,
}

impl Shape {
    /// None if such records are not kept.
    const fn of<R>() -> Option<Shape> {
        let class = mem::size_of::<R>().div_ceil(STEP) - 1;
        if class >= CLASSES || mem::align_of::<R>() > ALIGN || !tsan::POOL_MEMORY {
            return None;
        }
        match Layout::from_size_align((class + 1) * STEP, ALIGN) {
            Ok(layout) => Some(Shape { class, layout }),
            Err(_) => None,
        }
    }
}

impl Slab {
    /// Makes an empty one. `grown` counts how often as many more blocks have been allocated as
    /// there is headroom for; no other code writes it.
    pub(crate) fn new(grown: &'static AtomicU64) -> Slab {
        Slab {
            classes: [const { Class { first: Cell::new(ptr::null_mut()), len: Cell::new(0) } }; CLASSES],
            allocated: Cell::new(0),
            grown,
        }
    }

    /// Returns memory for an `R`, from the caller's slab if the caller is a worker and has some.
    #[inline]
    pub(crate) fn allocate<R>(slab: Option<&Slab>) -> NonNull<R> {
        let shape = const { Shape::of::<R>() };
        if let (Some(shape), Some(slab)) = (&shape, slab) {
            let class = &slab.classes[shape.class];
            if let Some(block) = NonNull::new(class.first.get()) {
                class.len.set(class.len.get() - 1);
                // SAFETY: a kept block is ours alone, and begins with a link that `free` has
                // written.
                class.first.set(unsafe { block.cast::<*mut u8>().read() });
                return block.cast();
            }
            slab.note_allocation();
        }
        let layout = shape.map_or(Layout::new::<R>(), |shape| shape.layout);
        // SAFETY: a record has a header, so the size is not zero.
        let block = unsafe { alloc::alloc(layout) };
        NonNull::new(block).unwrap_or_else(|| alloc::handle_alloc_error(layout)).cast()
    }

    /// Counts an allocation. Called for everything that the worker allocates for a goroutine or a
    /// future: see [`HEADROOM`].
    #[inline]
    pub(crate) fn note_allocation(&self) {
        let allocated = self.allocated.get() + 1;
        self.allocated.set(allocated);
        if allocated == PER_HEADROOM {
            self.allocated.set(0);
            bump(self.grown);
            drop(hint::black_box(Vec::<u8>::with_capacity(HEADROOM)));
        }
    }

    /// Takes memory back.
    ///
    /// # Safety
    ///
    /// It was given by [`allocate`](Slab::allocate) for the same `R`, by whatever slab, and no code
    /// uses it any more.
    #[inline]
    pub(crate) unsafe fn free<R>(slab: Option<&Slab>, memory: NonNull<R>) {
        let shape = const { Shape::of::<R>() };
        let block = memory.cast::<u8>();
        if let (Some(shape), Some(slab)) = (&shape, slab) {
            let class = &slab.classes[shape.class];
            if class.len.get() < KEPT / shape.layout.size() {
                class.len.set(class.len.get() + 1);
                // SAFETY: by contract the block is ours, and it is larger than a pointer, and
                // aligned.
                unsafe { block.cast::<*mut u8>().write(class.first.get()) };
                return class.first.set(block.as_ptr());
            }
        }
        let layout = shape.map_or(Layout::new::<R>(), |shape| shape.layout);
        // SAFETY: allocated with this layout, since it depends on `R` alone.
        unsafe { alloc::dealloc(block.as_ptr(), layout) };
    }

    /// Gives everything back to the allocator.
    pub(crate) fn clear(&self) {
        for (i, class) in self.classes.iter().enumerate() {
            let layout =
                Layout::from_size_align((i + 1) * STEP, ALIGN).expect("a layout that `Shape::of` has made before");
            let mut next = class.first.replace(ptr::null_mut());
            class.len.set(0);
            while let Some(block) = NonNull::new(next) {
                // SAFETY: a kept block is ours alone, begins with its link, and has its class's
                // layout.
                unsafe {
                    next = block.cast::<*mut u8>().read();
                    alloc::dealloc(block.as_ptr(), layout);
                }
            }
        }
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn slab() -> Slab {
        Slab::new(Box::leak(Box::default()))
    }

    #[test]
    #[cfg_attr(goby_tsan, ignore = "ThreadSanitizer remembers what was in a block: none is kept")]
    fn blocks_are_used_again_by_records_of_their_class() {
        let slab = slab();
        let a: NonNull<[u64; 9]> = Slab::allocate(Some(&slab));
        let b: NonNull<[u8; 128]> = Slab::allocate(Some(&slab));
        let c: NonNull<[u8; 64]> = Slab::allocate(Some(&slab));
        // SAFETY: given above, and not used.
        unsafe {
            Slab::free(Some(&slab), a);
            Slab::free(Some(&slab), b);
            Slab::free(Some(&slab), c);
        }
        let d: NonNull<[u8; 100]> = Slab::allocate(Some(&slab));
        let e: NonNull<[u8; 70]> = Slab::allocate(Some(&slab));
        let f: NonNull<u8> = Slab::allocate(Some(&slab));
        assert_eq!([d.addr(), e.addr(), f.addr()], [b.addr(), a.addr(), c.addr()]);
        // SAFETY: given above, and not used. Without a slab, it goes to the allocator.
        unsafe {
            Slab::free(None, d);
            Slab::free(None, e);
            Slab::free(Some(&slab), f);
        }
    }

    #[test]
    #[cfg_attr(goby_tsan, ignore = "ThreadSanitizer remembers what was in a block: none is kept")]
    fn it_keeps_no_more_than_its_bound() {
        let slab = slab();
        let all: Vec<NonNull<[u64; 8]>> = (0..2 * KEPT / 64).map(|_| Slab::allocate(Some(&slab))).collect();
        // SAFETY: given above, and not used.
        all.into_iter().for_each(|block| unsafe { Slab::free(Some(&slab), block) });
        assert_eq!(slab.classes[0].len.get(), KEPT / 64);
        slab.clear();
        assert_eq!(slab.classes[0].len.get(), 0);
    }

    #[test]
    fn large_records_are_the_allocators() {
        let slab = slab();
        let large: NonNull<[u64; 1000]> = Slab::allocate(Some(&slab));
        // SAFETY: given above, and not used.
        unsafe { Slab::free(Some(&slab), large) };
        assert!(slab.classes.iter().all(|class| class.first.get().is_null()));
    }
}
