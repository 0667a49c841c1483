//! What malloc keeps after much has been freed: glibc gives only the end of its heaps back by itself, and a million futures that have
//! ended left 226 MB in the process.

#[cfg(target_env = "gnu")]
pub(crate) use gnu::{trim, trim_top};

#[cfg(target_env = "gnu")]
mod gnu {
    use std::mem::MaybeUninit;

    /// Below the 128 KiB from which on malloc mostly maps a block of its own.
    const PIECE: usize = 120 << 10;
    /// 3.75 MiB in all: malloc first gives what lies free between blocks. The end is 128 KiB, more if large blocks have been freed.
    const PIECES: usize = 32;

    /// Gives whole free pages back to the system.
    pub(crate) fn trim() {
        // SAFETY: it may be called at any time; with another allocator in use it finds little.
        unsafe { libc::malloc_trim(0) };
    }

    /// Gives the end of the calling thread's heap back, which [`trim`] leaves alone in all heaps but the first.
    pub(crate) fn trim_top() {
        let page = rustix::param::page_size();
        let mut pieces: [Vec<MaybeUninit<u8>>; PIECES] = [const { Vec::new() }; PIECES];
        for piece in &mut pieces {
            // There is less memory than that: it is not needed.
            if piece.try_reserve_exact(PIECE).is_err() {
                break;
            }
            let range = piece.spare_capacity_mut().as_mut_ptr_range();
            let start = range.start.map_addr(|addr| addr.next_multiple_of(page));
            let len = range.end.addr().saturating_sub(start.addr()) / page * page;
            // SAFETY: the pages lie within a block that is ours and holds nothing; whether they keep what is in them makes no
            // difference, nor whether the call fails.
            unsafe { libc::madvise(start.cast(), len, libc::MADV_DONTNEED) };
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
            // Nothing is allocated after them: it might lie behind them. And they are written to: malloc knows zeros from others.
            let blocks: [Vec<u8>; 8] = std::array::from_fn(|i| vec![i as u8 + 1; BLOCK]);
            let starts =
                std::array::from_fn::<_, 8, _>(|i| blocks[i].as_ptr().map_addr(|addr| addr.next_multiple_of(PAGE)));
            let in_memory = || starts.iter().map(|start| resident(*start, BLOCK / PAGE - 1)).sum::<usize>();
            assert_eq!(in_memory(), 8 * (BLOCK / PAGE - 1));
            drop(blocks);
            super::trim();
            let before = in_memory();
            super::trim_top();
            let after = in_memory();
            assert!(before > 16 && after < 8, "{before} pages, then {after}");
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
