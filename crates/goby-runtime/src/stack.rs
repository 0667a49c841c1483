//! Stacks of goroutines: slabs of address space, carved into slots of one size, each with a guard page at its low end.
//!
//! ```text
//! slab   | slot 0            | slot 1            | …            one mmap, MAP_NORESERVE, touched on demand
//! slot   | guard | … unused … | … in use, top page first |      grows down; `top` names the slot
//! ```
//!
//! A slot is an odd number of pages. With a power of two the top pages of all stacks would share a few sets of the
//! processor's TLB: sieve_1000, a chain of a thousand goroutines, took 63 ms, and takes 51.
//!
//! A slot goes from fresh (never used) to a worker's cache, to the shared pool, and round again, last in first out so
//! that the warm ones are used first. The pool gives the memory of slots that nobody has wanted for a while back to the
//! system ([`Pool::trim`]), which also undoes what a deep call once touched. Address space is never returned:
//! the slab of a goroutine that never finished must stay (DESIGN invariant 6).
//!
//! Guards are installed with `MADV_GUARD_INSTALL` (Linux 6.13), which costs page-table entries only, and where
//! the kernel does not know it with `mprotect`, which splits the mapping: `vm.max_map_count` then caps the slots.

use std::io;
use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicUsize, Ordering};

use goby_switch::RawStack;

use crate::lock::Lock;

pub(crate) const PAGE: usize = 4096;
/// Slots of the largest slab: 1 GiB of address space at the default size, so a million goroutines make 244 mappings.
const SLAB_SLOTS: usize = 4096;
/// Slots given out at a time: installing guards costs 480 ns each in batches of this size, 1160 ns one by one.
const BATCH: usize = 32;
/// Fresh slots at a time while there are few: a worker that is kept for longer than a thief's patience loses what it was about to begin.
const SMALL_BATCH: usize = 8;
/// What gives its memory back with one system call, in bytes of address space: some sixty stacks of the default size. Whoever maps
/// memory waits meanwhile. With a call for each stack, 90 % of a million were back after 3.3 s, now after 0.9.
const TRIMMED_AT_ONCE: usize = 16 << 20;
/// `MADV_GUARD_INSTALL`, Linux 6.13; not in libc's bindings yet.
const MADV_GUARD_INSTALL: i32 = 102;

/// Why no stack could be had.
#[derive(Debug)]
pub(crate) enum Exhausted {
    /// The limit set by the builder.
    Limit(usize),
    /// The system refused.
    System(io::Error),
}

/// A free slot: the address just past its highest byte.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    top: usize,
}

/// The stacks of one runtime.
pub(crate) struct Pool {
    /// Bytes of a slot, guard included; an odd number of pages.
    size: usize,
    /// Slots that may be in existence.
    limit: usize,
    inner: Lock<Inner>,
    /// Length of `inner.warm`, readable without the lock.
    warm_hint: AtomicUsize,
}

struct Inner {
    /// Free slots whose memory may be resident; the last one is the warmest.
    warm: Vec<Slot>,
    /// The least length `warm` has had since the last trim: so many at its bottom were wanted by nobody.
    unwanted: usize,
    /// Free slots whose memory is about to be given back, as runs of neighbours.
    cooling: Vec<Range<usize>>,
    /// Free slots whose memory has been given back: as runs, of which a crowd leaves a few.
    cold: Vec<Range<usize>>,
    /// Some are in `cooling`, or on their way there or from there.
    is_trimming: bool,
    /// The part of the newest slab that has not been carved yet.
    fresh: Range<usize>,
    /// Slots carved so far.
    carved: usize,
}

impl Pool {
    /// Makes one for at most `limit` stacks of at least `stack_size` bytes.
    pub(crate) fn new(stack_size: usize, limit: usize) -> Pool {
        Pool {
            size: stack_size.next_multiple_of(2 * PAGE) + PAGE,
            limit,
            inner: Lock::new(Inner {
                warm: Vec::new(),
                unwanted: 0,
                cooling: Vec::new(),
                cold: Vec::new(),
                is_trimming: false,
                fresh: 0..0,
                carved: 0,
            }),
            warm_hint: AtomicUsize::new(0),
        }
    }

    /// Bytes that a goroutine may use.
    pub(crate) fn stack_size(&self) -> usize {
        self.size - PAGE
    }

    /// The stack in a slot.
    ///
    /// # Safety
    ///
    /// The slot came from this pool and is given to one goroutine only.
    #[inline]
    pub(crate) unsafe fn stack(&self, slot: Slot) -> RawStack {
        // SAFETY: a slot is page aligned, readable and writable but for its guard page, and never unmapped.
        unsafe { RawStack::new(slot.top, slot.top - self.size) }
    }

    /// The part of a slot that a goroutine may use: all but the guard page.
    pub(crate) fn usable(&self, slot: Slot) -> Range<usize> {
        slot.top - self.size + PAGE..slot.top
    }

    /// Moves free slots into a worker's empty cache; at least one, or the reason why not.
    #[cold]
    pub(crate) fn take(&self, cache: &mut Vec<Slot>) -> Result<(), Exhausted> {
        let inner = &mut *self.inner.lock();
        if !inner.warm.is_empty() {
            let keep = inner.warm.len().saturating_sub(BATCH);
            cache.extend(inner.warm.drain(keep..));
            inner.unwanted = inner.unwanted.min(keep);
            self.warm_hint.store(keep, Ordering::Relaxed);
            return Ok(());
        }
        for runs in [&mut inner.cooling, &mut inner.cold] {
            while cache.len() < BATCH
                && let Some(run) = runs.last_mut()
            {
                cache.push(Slot { top: run.end });
                run.end -= self.size;
                if run.start == run.end {
                    runs.pop();
                }
            }
        }
        if cache.is_empty() { self.carve(inner, cache) } else { Ok(()) }
    }

    /// Takes a worker's free slots back, the warmest last.
    pub(crate) fn give(&self, slots: impl Iterator<Item = Slot>) {
        let mut inner = self.inner.lock();
        inner.warm.extend(slots);
        self.warm_hint.store(inner.warm.len(), Ordering::Relaxed);
    }

    /// Takes a slot back under ThreadSanitizer, which remembers what was on a stack: its memory is mapped afresh.
    pub(crate) fn give_afresh(&self, slot: Slot) {
        let low = slot.top - self.size;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the slot is free and ours alone.
        let mapped = unsafe { libc::mmap(low as *mut libc::c_void, self.size, prot, flags, -1, 0) };
        assert!(mapped != libc::MAP_FAILED && install_guard(low).is_ok(), "mapping a stack afresh failed");
        self.give(std::iter::once(slot));
    }

    /// Whether a free slot is there without asking the system, or will be in a moment: who has been refused one may ask again.
    pub(crate) fn has_free(&self) -> bool {
        let inner = self.inner.lock();
        !inner.warm.is_empty() || !inner.cold.is_empty() || inner.is_trimming
    }

    /// Gives the memory of slots that were wanted by nobody since the last call back to the system. Not to be called by two at once.
    /// True when there is nothing left to trim.
    pub(crate) fn trim(&self) -> bool {
        if self.warm_hint.load(Ordering::Relaxed) == 0 {
            return true;
        }
        let mut slots: Vec<Slot> = {
            let inner = &mut *self.inner.lock();
            let slots = inner.warm.drain(..inner.unwanted).collect();
            inner.unwanted = inner.warm.len();
            inner.is_trimming = true;
            self.warm_hint.store(inner.warm.len(), Ordering::Relaxed);
            slots
        };
        slots.sort_unstable_by_key(|slot| slot.top);
        let most = (TRIMMED_AT_ONCE / self.size).max(1);
        let runs = slots.chunk_by(|low, high| high.top - low.top == self.size).flat_map(|run| run.chunks(most));
        let runs = runs.map(|run| run[0].top - self.size..run[run.len() - 1].top).collect();

        let mut inner = self.inner.lock();
        inner.cooling = runs;
        while let Some(run) = inner.cooling.pop() {
            drop(inner);
            // SAFETY: the slots are free and ours alone, so nobody reads what is dropped. Guards of either kind stay: madvise(2).
            unsafe { libc::madvise(run.start as *mut libc::c_void, run.len(), libc::MADV_DONTNEED) };
            inner = self.inner.lock();
            match inner.cold.last_mut() {
                Some(last) if last.start == run.end => last.start = run.start,
                _ => inner.cold.push(run),
            }
        }
        inner.cooling = Vec::new();
        inner.is_trimming = false;
        inner.warm.is_empty()
    }

    /// Gives memory back that a crowd has needed, besides its stacks.
    pub(crate) fn shrink(&self) {
        let mut inner = self.inner.lock();
        inner.warm.shrink_to_fit();
        inner.cold.sort_unstable_by_key(|run| run.start);
        inner.cold.dedup_by(|next, run| {
            let is_neighbour = run.end == next.start;
            if is_neighbour {
                run.end = next.end;
            }
            is_neighbour
        });
        inner.cold.shrink_to_fit();
    }

    /// Carves up to a batch of fresh slots out of a slab, mapping a new one where needed.
    fn carve(&self, inner: &mut Inner, cache: &mut Vec<Slot>) -> Result<(), Exhausted> {
        let allowed = self.limit - inner.carved;
        if allowed == 0 {
            return Err(Exhausted::Limit(self.limit));
        }
        if inner.fresh.is_empty() {
            inner.fresh = self.map_slab(allowed).map_err(Exhausted::System)?;
        }
        let available = inner.fresh.len() / self.size;
        let batch = (inner.carved / SMALL_BATCH).clamp(SMALL_BATCH, BATCH);
        let wanted = available.min(batch).min(allowed);
        let guarded = install_guards(inner.fresh.start, self.size, wanted).map_err(Exhausted::System)?;
        for i in 0..guarded {
            cache.push(Slot { top: inner.fresh.start + (i + 1) * self.size });
        }
        // The lowest address is used first, whatever the order of the batch.
        cache.reverse();
        inner.fresh.start += guarded * self.size;
        inner.carved += guarded;
        Ok(())
    }

    /// Maps a slab, a smaller one where address space is short, and makes it known to the overflow handler.
    fn map_slab(&self, slots: usize) -> io::Result<Range<usize>> {
        let mut slots = slots.min(SLAB_SLOTS);
        loop {
            let len = slots * self.size;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
            // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nobody's memory.
            let start = unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
            if start != libc::MAP_FAILED {
                // A huge page under a stack would cost 2 MiB a goroutine. Failing to say so is no reason to stop.
                // SAFETY: the range is the mapping just made.
                unsafe { libc::madvise(start, len, libc::MADV_NOHUGEPAGE) };
                register(start as usize, len, self.size);
                return Ok(start as usize..start as usize + len);
            }
            if slots == 1 {
                return Err(io::Error::last_os_error());
            }
            slots = slots.div_ceil(8);
        }
    }
}

/// Which way guards are installed: not tried yet, `MADV_GUARD_INSTALL`, `mprotect`.
static GUARDS: AtomicU8 = AtomicU8::new(GUARDS_UNKNOWN);
const GUARDS_UNKNOWN: u8 = 0;
const GUARDS_MADVISE: u8 = 1;
const GUARDS_MPROTECT: u8 = 2;

/// Makes goby use `mprotect` as on an older kernel, so that the fallback is tested everywhere.
#[doc(hidden)]
pub fn force_mprotect_guards() {
    GUARDS.store(GUARDS_MPROTECT, Ordering::Relaxed);
}

/// Whether each stack costs the process two mappings, of which `vm.max_map_count` allows only so many.
pub(crate) fn guards_cost_mappings() -> bool {
    GUARDS.load(Ordering::Relaxed) == GUARDS_MPROTECT
}

/// Installs the guard pages of `n` slots from `start` on; says how many it managed, at least one.
fn install_guards(start: usize, size: usize, n: usize) -> io::Result<usize> {
    for i in 0..n {
        if let Err(error) = install_guard(start + i * size) {
            return if i == 0 { Err(error) } else { Ok(i) };
        }
    }
    Ok(n)
}

fn install_guard(page: usize) -> io::Result<()> {
    let page = page as *mut libc::c_void;
    if GUARDS.load(Ordering::Relaxed) != GUARDS_MPROTECT {
        // SAFETY: the page belongs to a slot that nobody uses yet, or any more.
        if unsafe { libc::madvise(page, PAGE, MADV_GUARD_INSTALL) } == 0 {
            GUARDS.store(GUARDS_MADVISE, Ordering::Relaxed);
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if GUARDS.load(Ordering::Relaxed) == GUARDS_MADVISE || error.raw_os_error() != Some(libc::EINVAL) {
            return Err(error);
        }
        // A kernel before 6.13 does not know the advice.
        GUARDS.store(GUARDS_MPROTECT, Ordering::Relaxed);
    }
    // SAFETY: as above.
    if unsafe { libc::mprotect(page, PAGE, libc::PROT_NONE) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A slab, in the list that the overflow handler walks. Never freed, as slabs are not.
struct Slab {
    start: usize,
    len: usize,
    slot: usize,
    next: *mut Slab,
}

static SLABS: AtomicPtr<Slab> = AtomicPtr::new(ptr::null_mut());

fn register(start: usize, len: usize, slot: usize) {
    let slab = Box::into_raw(Box::new(Slab { start, len, slot, next: SLABS.load(Ordering::Relaxed) }));
    loop {
        // SAFETY: the slab is ours until the exchange below publishes it.
        let next = unsafe { (*slab).next };
        // Release pairs with the Acquire load in `guard_hit`.
        match SLABS.compare_exchange_weak(next, slab, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => return,
            // SAFETY: as above.
            Err(found) => unsafe { (*slab).next = found },
        }
    }
}

/// Whether `address` lies in the guard page of a goroutine's stack. Safe to call in a signal handler.
pub(crate) fn guard_hit(address: usize) -> bool {
    // Acquire pairs with the Release in `register`: the fields are there when the pointer is.
    let mut slab = SLABS.load(Ordering::Acquire);
    while !slab.is_null() {
        // SAFETY: slabs in the list are never freed nor changed.
        let s = unsafe { &*slab };
        if (s.start..s.start + s.len).contains(&address) {
            return (address - s.start) % s.slot < PAGE;
        }
        slab = s.next;
    }
    false
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::os::fd::AsRawFd;
    use std::thread;

    use super::*;

    #[test]
    fn slots_are_distinct_and_limited() {
        let pool = Pool::new(64 * 1024, 40);
        let mut slots = Vec::new();
        let mut cache = Vec::new();
        while pool.take(&mut cache).is_ok() {
            slots.append(&mut cache);
        }
        let mut tops: Vec<_> = slots.iter().map(|s| s.top).collect();
        tops.sort_unstable();
        tops.dedup();
        assert_eq!(tops.len(), 40);
        assert!(matches!(pool.take(&mut cache), Err(Exhausted::Limit(40))));
        let usable = pool.usable(slots[0]);
        assert_eq!((usable.len(), usable.end), (64 * 1024, slots[0].top));
        assert!(guard_hit(usable.start - 1) && !guard_hit(usable.start) && !guard_hit(usable.end - 1));
    }

    #[test]
    fn slots_lie_an_odd_number_of_pages_apart() {
        for (stack_size, pages) in [(64 * 1024, 17), (64 * 1024 + 1, 19), (17 * PAGE, 19)] {
            let pool = Pool::new(stack_size, 2);
            let mut cache = Vec::new();
            pool.take(&mut cache).unwrap();
            assert_eq!(cache[0].top - cache[1].top, pages * PAGE, "{stack_size}");
        }
    }

    #[test]
    fn trim_gives_memory_back_once_unwanted_for_a_round() {
        let pool = Pool::new(64 * 1024, 4);
        let mut cache = Vec::new();
        pool.take(&mut cache).unwrap();
        let top = cache[0].top;
        // SAFETY: the slot is free and ours; the byte is above the guard page.
        unsafe { *((top - 8192) as *mut u8) = 7 };
        pool.give(cache.drain(..));
        assert!(!pool.trim(), "it was given back only now");
        assert!(pool.trim());
        // SAFETY: as above; a page that was given back reads as zero.
        assert_eq!(unsafe { *((top - 8192) as *const u8) }, 0);
    }

    /// Whether the system can read there.
    fn is_readable(address: usize) -> bool {
        let (_reader, writer) = io::pipe().unwrap();
        // SAFETY: whatever cannot be read is an error of the call.
        unsafe { libc::write(writer.as_raw_fd(), address as *const libc::c_void, 1) == 1 }
    }

    /// Everything that a pool has free, the lowest first.
    fn take_all(pool: &Pool) -> Vec<Slot> {
        let (mut slots, mut cache) = (Vec::new(), Vec::new());
        while pool.take(&mut cache).is_ok() {
            slots.append(&mut cache);
        }
        slots.sort_unstable_by_key(|slot| slot.top);
        slots
    }

    fn top_byte(slot: Slot) -> *mut u8 {
        (slot.top - 1) as *mut u8
    }

    fn tops(slots: &[Slot]) -> Vec<usize> {
        slots.iter().map(|slot| slot.top).collect()
    }

    #[test]
    fn a_crowd_that_was_trimmed_is_given_out_again_with_its_guards() {
        const SIZE: usize = 64 * 1024 + PAGE;
        const N: usize = 3 * (TRIMMED_AT_ONCE / SIZE) + 7;
        let pool = Pool::new(SIZE - PAGE, N);
        // SAFETY: the slots are free and ours; the byte is above the guard page.
        let write = |slot: Slot| unsafe { *top_byte(slot) = 7 };
        // SAFETY: as above.
        let read = |slot: Slot| unsafe { *top_byte(slot) };
        let has_guard = |slot: Slot| {
            let usable = pool.usable(slot);
            is_readable(usable.start) && !is_readable(usable.start - 1)
        };
        let slots = take_all(&pool);
        assert_eq!(slots.len(), N);

        // In no order, but one long run: all but the lowest and the highest.
        slots.iter().for_each(|slot| write(*slot));
        pool.give((0..N - 2).map(|i| slots[1 + i * 7919 % (N - 2)]));
        assert!(!pool.trim() && pool.trim());
        assert_eq!(pool.inner.lock().cold.len(), 1);
        assert_eq!((read(slots[0]), read(slots[N - 1])), (7, 7));
        assert_eq!(tops(&take_all(&pool)), tops(&slots[1..N - 1]));
        assert!(slots[1..N - 1].iter().all(|slot| read(*slot) == 0));
        assert!(slots.iter().all(|slot| has_guard(*slot)));

        // Every third, then the pairs in between, which have the others for neighbours.
        slots.iter().for_each(|slot| write(*slot));
        let (thirds, others): (Vec<_>, Vec<_>) = (0..N).partition(|i| i % 3 == 0);
        for (part, rest) in [(&thirds, 7), (&others, 0)] {
            pool.give(part.iter().map(|i| slots[*i]));
            assert!(!pool.trim() && pool.trim());
            assert!(others.iter().all(|i| read(slots[*i]) == rest));
        }
        assert_eq!(pool.inner.lock().cold.len(), N.div_ceil(3) + N / 3);
        pool.shrink();
        assert_eq!(pool.inner.lock().cold.len(), 1);
        assert_eq!(tops(&take_all(&pool)), tops(&slots));
        assert!(slots.iter().all(|slot| read(*slot) == 0 && has_guard(*slot)));
    }

    #[test]
    fn what_is_being_trimmed_counts_as_free() {
        let pool = Pool::new(16 * 1024, SLAB_SLOTS);
        // Odd while all slots are free.
        let phase = AtomicUsize::new(0);
        thread::scope(|scope| {
            let trimming = scope.spawn(|| {
                for _ in 0..20 {
                    pool.give(take_all(&pool).into_iter());
                    phase.fetch_add(1, Ordering::SeqCst);
                    assert!(!pool.trim() && pool.trim());
                    phase.fetch_add(1, Ordering::SeqCst);
                }
            });
            while !trimming.is_finished() {
                let before = phase.load(Ordering::SeqCst);
                let has_free = pool.has_free();
                let was_free = before % 2 == 1 && phase.load(Ordering::SeqCst) == before;
                assert!(has_free || !was_free);
            }
        });
    }

    #[test]
    fn a_trim_leaves_what_is_taken_meanwhile_alone() {
        let pool = Pool::new(16 * 1024, 4 * SLAB_SLOTS);
        let slots = take_all(&pool);
        // SAFETY: the slots are free and ours; the byte is above the guard page. So it takes a while to trim them.
        slots.iter().for_each(|slot| unsafe { *top_byte(*slot) = 1 });
        pool.give(slots.iter().copied());
        pool.trim();
        let taken = thread::scope(|scope| {
            let trimming = scope.spawn(|| pool.trim());
            let (mut taken, mut cache) = (Vec::new(), Vec::new());
            while !pool.inner.lock().is_trimming && !trimming.is_finished() {
                thread::yield_now();
            }
            while !trimming.is_finished() {
                if pool.take(&mut cache).is_ok() {
                    // SAFETY: the slot is ours; the byte is above the guard page.
                    cache.iter().for_each(|slot| unsafe { *top_byte(*slot) = 7 });
                    taken.append(&mut cache);
                }
            }
            trimming.join().unwrap();
            taken
        });
        // SAFETY: as above.
        assert!(taken.iter().all(|slot| unsafe { *top_byte(*slot) } == 7));
        let mut all = tops(&taken);
        all.extend(tops(&take_all(&pool)));
        all.sort_unstable();
        assert_eq!(all, tops(&slots));
    }
}
