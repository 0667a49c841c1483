//! What malloc keeps after much has been freed: glibc gives only the end of its heaps back by itself, and a million futures that have
//! ended left 226 MB in the process.

#[cfg(target_env = "gnu")]
pub(crate) use gnu::{trim, trim_top};

#[cfg(target_env = "gnu")]
mod gnu {
    use std::mem::MaybeUninit;

    use crate::stack::PAGE;

    /// Below what malloc maps for one block alone.
    const PIECE: usize = 120 << 10;
    /// Malloc gives what lies free between blocks first. It keeps an end of 128 KiB, more if large blocks have been freed.
    const PIECES: usize = 32;

    /// Gives whole free pages back to the system.
    pub(crate) fn trim() {
        // SAFETY: it may be called at any time; with another allocator in use it finds little.
        unsafe { libc::malloc_trim(0) };
    }

    /// Gives the end of the calling thread's heap back, which [`trim`] leaves alone in all heaps but the first.
    pub(crate) fn trim_top() {
        let mut pieces: [Vec<MaybeUninit<u8>>; PIECES] = std::array::from_fn(|_| Vec::with_capacity(PIECE));
        for piece in &mut pieces {
            let range = piece.spare_capacity_mut().as_mut_ptr_range();
            let (start, end) = (range.start.addr().next_multiple_of(PAGE), range.end.addr() & !(PAGE - 1));
            // SAFETY: the pages are in memory that is ours and holds nothing; whether they lose what is in them makes no difference.
            unsafe { libc::madvise(start as *mut libc::c_void, end.saturating_sub(start), libc::MADV_DONTNEED) };
        }
    }
}

#[cfg(all(test, target_env = "gnu", not(loom)))]
mod tests {
    use std::thread;

    use crate::stack::PAGE;

    /// Pages from `start` that are in memory; none where nothing is mapped any more.
    fn resident(start: *const u8, pages: usize) -> usize {
        let is_resident = |i: &usize| {
            let mut state = 0u8;
            let page = start.wrapping_add(i * PAGE).cast_mut().cast();
            // SAFETY: it only looks, one byte a page, and gives an error for what is not mapped.
            unsafe { libc::mincore(page, PAGE, &raw mut state) == 0 && state & 1 == 1 }
        };
        (0..pages).filter(is_resident).count()
    }

    #[test]
    #[cfg_attr(goby_tsan, ignore = "ThreadSanitizer has an allocator of its own")]
    fn the_end_of_a_threads_heap_goes_back() {
        const BLOCK: usize = 100 << 10;
        // Not the main thread's heap, whose end malloc_trim knows.
        thread::spawn(|| {
            let blocks: Vec<Vec<u8>> = (0..8).map(|i| vec![i; BLOCK]).collect();
            let starts = blocks.iter().map(|block| block.as_ptr().map_addr(|addr| addr.next_multiple_of(PAGE)));
            let starts: Vec<*const u8> = starts.collect();
            let in_memory = || starts.iter().map(|start| resident(*start, BLOCK / PAGE - 1)).sum::<usize>();
            assert_eq!(in_memory(), 8 * (BLOCK / PAGE - 1));
            drop(blocks);
            super::trim();
            let before = in_memory();
            super::trim_top();
            let after = in_memory();
            assert!(before > 24 && after < 8, "{before} pages, then {after}");
        })
        .join()
        .unwrap();
    }
}

/// Does nothing, where libc has no such call.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn trim() {}

/// Does nothing, where libc's heaps are others.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn trim_top() {}
