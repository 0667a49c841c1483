//! Stacks of a size of their own, for goroutines that ask for one (`GoBuilder::stack_size`) and for
//! the goroutine of a `run`. Each is a mapping, made when its goroutine is started and unmapped
//! after its end.
//!
//! The pool keeps a few for the next goroutine that asks for the same size, since a program may
//! call `run` in a loop. It keeps them until a trim finds that no goroutine has asked.

use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::ptr;

use goby_switch::RawStack;

use super::guard::{self, GUARD};
use super::{PAGE, Slot};

/// How many such stacks a pool keeps.
pub(super) const KEPT: usize = 4;

/// A stack outside the mappings of a pool. Copies name the same stack, as those of a [`Slot`] do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OwnStack {
    slot: Slot,
    size: NonZeroUsize,
}

impl OwnStack {
    /// Names the stack at `slot` of which a goroutine may use `size` bytes.
    #[inline]
    pub(crate) fn new(slot: Slot, size: NonZeroUsize) -> OwnStack {
        OwnStack { slot, size }
    }

    /// Maps a stack of which a goroutine may use `size` bytes, and up to a page more.
    pub(super) fn map(size: usize) -> io::Result<OwnStack> {
        let size = size.next_multiple_of(PAGE);
        let len = size + GUARD;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no other
        // memory.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let top = NonZeroUsize::new(start as usize + len).expect("a mapping does not end at zero");
        let size = NonZeroUsize::new(size).expect("the builders refuse such stacks");
        let stack = OwnStack { slot: Slot { top }, size };
        // A huge page would be resident as a whole. Failing to say so is no reason to stop.
        // SAFETY: the range is the mapping just made, which no code uses yet.
        let guarded = unsafe {
            libc::madvise(start, len, libc::MADV_NOHUGEPAGE);
            guard::install(start as usize, GUARD)
        };
        if let Err(error) = guarded {
            // SAFETY: as above.
            unsafe { stack.unmap() };
            return Err(error);
        }
        Ok(stack)
    }

    /// Gives it back to the system.
    ///
    /// # Safety
    ///
    /// No code uses it, nor will.
    pub(super) unsafe fn unmap(self) {
        let low = self.guard().start;
        // SAFETY: the whole mapping, which is the caller's.
        unsafe { libc::munmap(low as *mut libc::c_void, self.slot.top() - low) };
    }

    #[inline]
    pub(crate) fn slot(&self) -> Slot {
        self.slot
    }

    /// Returns how many bytes its goroutine may use.
    #[inline]
    pub(crate) fn size(&self) -> NonZeroUsize {
        self.size
    }

    /// Returns the part that its goroutine may use.
    pub(crate) fn usable(&self) -> Range<usize> {
        self.slot.top() - self.size.get()..self.slot.top()
    }

    pub(crate) fn guard(&self) -> Range<usize> {
        let end = self.usable().start;
        end - GUARD..end
    }

    /// Returns the stack as the switch knows it.
    ///
    /// # Safety
    ///
    /// It is given to one goroutine only, which ends before it is unmapped.
    #[cold]
    pub(crate) unsafe fn raw(&self) -> RawStack {
        // SAFETY: page aligned, readable and writable above its guard, and mapped for as long as it
        // is used.
        unsafe { RawStack::new(self.slot.top(), self.guard().start) }
    }
}
