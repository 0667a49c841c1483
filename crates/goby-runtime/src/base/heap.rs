//! Memory that malloc keeps after much has been freed. By itself glibc gives only the end of its
//! heaps back, and a million futures that have ended left 226 MB in the process.

#[cfg(target_env = "gnu")]
pub(crate) use gnu::{trim, trim_top};

#[cfg(target_env = "gnu")]
mod gnu {
    use std::mem::MaybeUninit;

    /// Below 128 KiB: from there on malloc mostly maps a block of its own.
    const PIECE: usize = 120 << 10;
    /// After so many pieces in a row that give nothing back, the next ones lie behind all memory
    /// that was ever used, or where little was used.
    const IN_VAIN: usize = 8;
    /// As many pieces as fit one of malloc's heaps, 64 MiB.
    const MOST: usize = 512;
    /// The smallest pages there are.
    const SMALLEST_PAGE: usize = 4096;

    /// Gives whole free pages back to the system.
    pub(crate) fn trim() {
        // SAFETY: it may be called at any time. With another allocator in use it finds little.
        unsafe { libc::malloc_trim(0) };
    }

    /// Gives back the free memory in the calling thread's heap, in large pieces. Above all it gives
    /// back the heap's end. [`trim`] leaves that alone in all heaps but the first, and malloc
    /// itself leaves it alone while it is less than twice the largest block that has been freed.
    pub(crate) fn trim_top() {
        let page = rustix::param::page_size();
        let mut pieces = Vec::with_capacity(MOST);
        let mut in_vain = 0;
        while in_vain < IN_VAIN && pieces.len() < MOST {
            let mut piece: Vec<MaybeUninit<u8>> = Vec::new();
            // There is less memory than that, so the rest is not needed.
            if piece.try_reserve_exact(PIECE).is_err() {
                break;
            }
            let range = piece.spare_capacity_mut().as_mut_ptr_range();
            let start = range.start.map_addr(|addr| addr.next_multiple_of(page));
            let len = range.end.addr().saturating_sub(start.addr()) / page * page;
            let mut states = [0u8; PIECE / SMALLEST_PAGE];
            // SAFETY: there is room for one byte per page. The pages lie within a block that is
            // ours and holds nothing. Whether they keep their contents makes no difference, nor
            // does it whether a call fails.
            let is_known = unsafe { libc::mincore(start.cast(), len, states.as_mut_ptr()) == 0 };
            if is_known && states.iter().all(|state| state & 1 == 0) {
                in_vain += 1;
            } else {
                in_vain = 0;
                // SAFETY: as above.
                unsafe { libc::madvise(start.cast(), len, libc::MADV_DONTNEED) };
            }
            pieces.push(piece);
        }
    }
}

#[cfg(all(test, target_env = "gnu", not(loom)))]
mod tests {
    use std::thread;

    use crate::base::stack::PAGE;

    /// Returns how many pages from `start` are in memory; none where nothing is mapped any more.
    fn resident(start: *const u8, pages: usize) -> usize {
        let is_resident = |i: &usize| {
            let mut state = 0u8;
            let page = start.wrapping_add(i * PAGE).cast_mut().cast();
            // SAFETY: it only looks, one byte per page, and returns an error for a page that is not
            // mapped.
            unsafe { libc::mincore(page, PAGE, &raw mut state) == 0 && state & 1 == 1 }
        };
        (0..pages).filter(is_resident).count()
    }

    /// Returns how many pages stay in memory of the blocks that a thread has freed around one that
    /// it keeps.
    fn left_of(blocks: usize) -> usize {
        const BLOCK: usize = 100 << 10;
        // Not the main thread's heap, whose end malloc_trim knows.
        let left = thread::spawn(move || {
            // From now on malloc keeps an end of up to 32 MiB.
            drop(std::hint::black_box(vec![1u8; 16 << 20]));
            // Nothing is allocated after the blocks: it might lie behind them. The blocks are
            // filled with nonzero bytes, and so written to: malloc may give zeros untouched.
            let mut starts: Vec<*const u8> = Vec::with_capacity(blocks);
            let mut all: Vec<Vec<u8>> = (0..blocks).map(|i| vec![i as u8 | 1; BLOCK]).collect();
            starts.extend(all.iter().map(|block| block.as_ptr().map_addr(|addr| addr.next_multiple_of(PAGE))));
            let in_memory = || starts.iter().map(|start| resident(*start, BLOCK / PAGE - 1)).sum::<usize>();
            let kept = all.swap_remove(blocks / 2);
            assert_eq!(in_memory(), blocks * (BLOCK / PAGE - 1));
            drop(all);
            super::trim_top();
            super::trim();
            let left = in_memory() - (BLOCK / PAGE - 1);
            drop(kept);
            left
        });
        left.join().unwrap()
    }

    #[test]
    #[cfg_attr(goby_tsan, ignore = "ThreadSanitizer has an allocator of its own")]
    fn what_is_free_in_a_threads_heap_goes_back() {
        for blocks in [8, 300] {
            let left = left_of(blocks);
            // A page of each piece is malloc's own.
            assert!(left < 24 + blocks / 2, "{left} pages of {blocks} blocks");
        }
    }
}

/// Does nothing, where libc has no such call.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn trim() {}

/// Does nothing, where libc's heaps are others.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn trim_top() {}
