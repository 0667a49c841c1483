//! Stacks of goroutines: mappings of address space, carved into slots of one size, each with a
//! guard at its low end.
//!
//! ```text
//! mapped | slot 0            | slot 1            | …            one mmap, MAP_NORESERVE, touched on demand
//! slot   | guard | … unused … | … in use, top page first |      grows down; `top` names the slot
//! ```
//!
//! A slot is an odd number of pages. With a power of two the top pages of all stacks would share a
//! few sets of the processor's TLB: `sieve_1000`, a chain of a thousand goroutines, took 63 ms, and
//! takes 51. A goroutine may use as much as the builder says, to the page. The guard comes beside
//! it: 64 KiB, or a page more if that makes the slot odd. The default, 192 KiB, is chosen so that
//! the slot has 260 KiB: page tables grow with the slot (a million idle goroutines have 509 MB of
//! them, and would have 634 MB if the guard came on top of 256 KiB).
//!
//! A slot goes from fresh (never used) to a worker's cache, to the shared pool, and round again,
//! last in first out so that the warm ones are used first. The pool gives back to the system the
//! memory of slots that have been unwanted for a while ([`Pool::trim`]), which also undoes what a
//! deep call once touched. A runtime that ends unmaps all its stacks ([`Pool::unmap_free`]), except
//! those of goroutines that have not ended (`docs/decisions/06-unfinished-stacks.md`).

mod guard;
mod own;

use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use goby_switch::RawStack;

use crate::base::lock::Lock;
use crate::base::tsan;

use self::guard::GUARD;
pub(crate) use self::guard::cost_mappings as guards_cost_mappings;
pub use self::guard::force_mprotect_guards;
pub(crate) use self::own::OwnStack;

pub(crate) const PAGE: usize = 4096;
/// Slots of the largest mapping: 1 GiB of address space at the default size, so a million
/// goroutines make 244 mappings.
const MAPPED_SLOTS: usize = 4096;
/// Slots given out at a time: installing guards costs 480 ns each in batches of this size, 1160 ns
/// one by one.
const BATCH: usize = 32;
/// Fresh slots at a time while there are few. A worker that is kept for longer than a thief's
/// patience loses the goroutines that it was about to begin.
const SMALL_BATCH: usize = 8;
/// How much address space gives its memory back with one system call, in bytes: some sixty stacks
/// of the default size. A thread that maps memory waits meanwhile. With one call per stack, 90 % of
/// a million were back after 3.3 s; now after 0.9.
const TRIMMED_AT_ONCE: usize = 16 << 20;

/// Why there was no stack.
#[derive(Debug)]
pub(crate) enum Exhausted {
    /// The limit set by the builder.
    Limit(usize),
    /// The system refused.
    System(io::Error),
}

/// A place for a stack: the address just past its highest byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    top: NonZeroUsize,
}

impl Slot {
    fn at(top: usize) -> Slot {
        Slot { top: NonZeroUsize::new(top).expect("a stack does not end at zero") }
    }

    #[inline]
    fn top(self) -> usize {
        self.top.get()
    }
}

/// The stacks of one runtime.
pub(crate) struct Pool {
    /// Bytes of a slot, guard included; an odd number of pages.
    size: usize,
    /// Bytes of its guard.
    guard: usize,
    /// How many slots may exist.
    limit: usize,
    inner: Lock<Inner>,
    /// Length of `inner.warm` and `inner.own`, readable without the lock.
    warm_hint: AtomicUsize,
}

struct Inner {
    /// Free slots whose memory may be resident; the last one is the warmest.
    warm: Vec<Slot>,
    /// The least length that `warm` has had since the last trim: so many at its bottom were
    /// unwanted.
    unwanted: usize,
    /// Free stacks of sizes of their own.
    own: Vec<OwnStack>,
    /// As `unwanted`, of `own`.
    own_unwanted: usize,
    /// Free slots whose memory is about to be given back, as runs of neighbors.
    cooling: Vec<Range<usize>>,
    /// Free slots whose memory has been given back, as runs: a crowd leaves only a few.
    cold: Vec<Range<usize>>,
    /// Some slots are in `cooling`, or on their way there or from there.
    is_trimming: bool,
    /// The part of the newest mapping that has not been carved yet.
    fresh: Range<usize>,
    /// Slots carved so far.
    carved: usize,
}

impl Pool {
    /// Whether memory, above all stacks, may be used again without telling a checker.
    pub(crate) const REUSES: bool = tsan::POOL_MEMORY;

    /// Makes a pool for at most `limit` stacks of at least `stack_size` bytes.
    pub(crate) fn new(stack_size: usize, limit: usize) -> Pool {
        let usable = stack_size.next_multiple_of(PAGE);
        let least = usable + GUARD;
        let size = if (least / PAGE).is_multiple_of(2) { least + PAGE } else { least };
        Pool {
            size,
            guard: size - usable,
            limit,
            inner: Lock::new(Inner {
                warm: Vec::new(),
                unwanted: 0,
                own: Vec::new(),
                own_unwanted: 0,
                cooling: Vec::new(),
                cold: Vec::new(),
                is_trimming: false,
                fresh: 0..0,
                carved: 0,
            }),
            warm_hint: AtomicUsize::new(0),
        }
    }

    /// Returns how many bytes a goroutine may use.
    pub(crate) fn stack_size(&self) -> usize {
        self.size - self.guard
    }

    /// Returns the stack in a slot.
    ///
    /// # Safety
    ///
    /// The slot came from this pool and is given to one goroutine only.
    #[inline]
    pub(crate) unsafe fn stack(&self, slot: Slot) -> RawStack {
        // SAFETY: a slot is page aligned, readable and writable except for its guard, and mapped
        // while it is used.
        unsafe { RawStack::new(slot.top(), slot.top() - self.size) }
    }

    /// Returns the part of a slot that a goroutine may use: all but the guard.
    pub(crate) fn usable(&self, slot: Slot) -> Range<usize> {
        slot.top() - self.size + self.guard..slot.top()
    }

    /// Returns the part of a slot that faults.
    pub(crate) fn guard(&self, slot: Slot) -> Range<usize> {
        let low = slot.top() - self.size;
        low..low + self.guard
    }

    /// Moves free slots into a worker's empty cache: at least one, or returns the reason why not.
    #[cold]
    pub(crate) fn take(&self, cache: &mut Vec<Slot>) -> Result<(), Exhausted> {
        let inner = &mut *self.inner.lock();
        if !inner.warm.is_empty() {
            let keep = inner.warm.len().saturating_sub(BATCH);
            cache.extend(inner.warm.drain(keep..));
            inner.unwanted = inner.unwanted.min(keep);
            self.note_warm(inner);
            return Ok(());
        }
        for runs in [&mut inner.cooling, &mut inner.cold] {
            while cache.len() < BATCH
                && let Some(run) = runs.last_mut()
            {
                cache.push(Slot::at(run.end));
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
        self.note_warm(&inner);
    }

    /// Returns a stack of which a goroutine may use `size` bytes, and up to a page more.
    pub(crate) fn take_own(&self, size: usize) -> io::Result<OwnStack> {
        let kept = {
            let inner = &mut *self.inner.lock();
            let place = inner.own.iter().rposition(|own| own.size().get() == size.next_multiple_of(PAGE));
            let kept = place.map(|place| inner.own.remove(place));
            inner.own_unwanted = inner.own_unwanted.min(inner.own.len());
            self.note_warm(inner);
            kept
        };
        kept.map_or_else(|| OwnStack::map(size), Ok)
    }

    /// Takes back what [`take_own`](Pool::take_own) gave.
    ///
    /// # Safety
    ///
    /// No code uses it, nor will.
    pub(crate) unsafe fn give_own(&self, own: OwnStack) {
        let surplus = {
            let inner = &mut *self.inner.lock();
            inner.own.push(own);
            let surplus = (inner.own.len() > own::KEPT || !Pool::REUSES).then(|| inner.own.remove(0));
            inner.own_unwanted = inner.own_unwanted.min(inner.own.len());
            self.note_warm(inner);
            surplus
        };
        if let Some(surplus) = surplus {
            // SAFETY: by the contract of the `give_own` that gave it, and it is no longer in the
            // list.
            unsafe { surplus.unmap() };
        }
    }

    fn note_warm(&self, inner: &Inner) {
        self.warm_hint.store(inner.warm.len() + inner.own.len(), Ordering::Relaxed);
    }

    /// Takes a slot back under ThreadSanitizer, which remembers what was on a stack: so the slot's
    /// memory is mapped afresh.
    pub(crate) fn give_afresh(&self, slot: Slot) {
        let low = slot.top() - self.size;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the slot is free and ours alone.
        let mapped = unsafe { libc::mmap(low as *mut libc::c_void, self.size, prot, flags, -1, 0) };
        // SAFETY: as above.
        let is_guarded = mapped != libc::MAP_FAILED && unsafe { guard::install(low, self.guard) }.is_ok();
        assert!(is_guarded, "mapping a stack afresh failed");
        self.give(std::iter::once(slot));
    }

    /// Returns whether a free slot is there without asking the system, or will be in a moment: a
    /// goroutine that has been refused one may ask again.
    pub(crate) fn has_free(&self) -> bool {
        let inner = self.inner.lock();
        !inner.warm.is_empty() || !inner.cold.is_empty() || inner.is_trimming
    }

    /// Gives back to the system the memory of slots that have been unwanted since the last call.
    /// Two threads must not call it at once. Returns true when there is nothing left to trim.
    pub(crate) fn trim(&self) -> bool {
        if self.warm_hint.load(Ordering::Relaxed) == 0 {
            return true;
        }
        let (mut slots, own): (Vec<Slot>, Vec<OwnStack>) = {
            let inner = &mut *self.inner.lock();
            let slots = inner.warm.drain(..inner.unwanted).collect();
            inner.unwanted = inner.warm.len();
            inner.is_trimming = true;
            let own = inner.own.drain(..inner.own_unwanted).collect();
            inner.own_unwanted = inner.own.len();
            self.note_warm(inner);
            (slots, own)
        };
        // SAFETY: they are free, and no longer in the list.
        own.into_iter().for_each(|own| unsafe { own.unmap() });
        slots.sort_unstable_by_key(|slot| slot.top());
        let most = (TRIMMED_AT_ONCE / self.size).max(1);
        let runs = slots.chunk_by(|low, high| high.top() - low.top() == self.size).flat_map(|run| run.chunks(most));
        let runs = runs.map(|run| run[0].top() - self.size..run[run.len() - 1].top()).collect();

        let mut inner = self.inner.lock();
        inner.cooling = runs;
        while let Some(run) = inner.cooling.pop() {
            drop(inner);
            // SAFETY: the slots are free and ours alone, so no code reads the memory that is
            // dropped. Guards of either kind stay: madvise(2).
            unsafe { libc::madvise(run.start as *mut libc::c_void, run.len(), libc::MADV_DONTNEED) };
            inner = self.inner.lock();
            match inner.cold.last_mut() {
                Some(last) if last.start == run.end => last.start = run.start,
                _ => inner.cold.push(run),
            }
        }
        inner.cooling = Vec::new();
        inner.is_trimming = false;
        inner.warm.is_empty() && inner.own.is_empty()
    }

    /// Unmaps all stacks except those of goroutines that have not ended, which are in use. For the
    /// time when no worker takes one any more.
    pub(crate) fn unmap_free(&self) {
        let (mut runs, own): (Vec<Range<usize>>, Vec<OwnStack>) = {
            let inner = &mut *self.inner.lock();
            let warm = inner.warm.drain(..).map(|slot| slot.top() - self.size..slot.top());
            let mut runs: Vec<_> = warm.chain(inner.cooling.drain(..)).chain(inner.cold.drain(..)).collect();
            inner.carved -= runs.iter().map(Range::len).sum::<usize>() / self.size;
            runs.push(std::mem::replace(&mut inner.fresh, 0..0));
            let own = inner.own.drain(..).collect();
            (inner.unwanted, inner.own_unwanted) = (0, 0);
            self.note_warm(inner);
            (runs, own)
        };
        runs.retain(|run| !run.is_empty());
        runs.sort_unstable_by_key(|run| run.start);
        // Neighbors go in one call: a whole mapping, where no stack is left behind.
        for neighbors in runs.chunk_by(|low, high| low.end == high.start) {
            let (start, end) = (neighbors[0].start, neighbors[neighbors.len() - 1].end);
            // SAFETY: free slots, and address space that never was one: no code knows of them any
            // more. Where the kernel cannot cut them out of their mapping, because it has too many
            // mappings, they stay, without their memory.
            unsafe {
                if libc::munmap(start as *mut libc::c_void, end - start) != 0 {
                    libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED);
                }
            }
        }
        // SAFETY: they are free, and no longer in the list.
        own.into_iter().for_each(|own| unsafe { own.unmap() });
    }

    /// Gives memory back that a crowd has needed, besides its stacks.
    pub(crate) fn shrink(&self) {
        let mut inner = self.inner.lock();
        inner.warm.shrink_to_fit();
        inner.cold.sort_unstable_by_key(|run| run.start);
        inner.cold.dedup_by(|next, run| {
            let is_neighbor = run.end == next.start;
            if is_neighbor {
                run.end = next.end;
            }
            is_neighbor
        });
        inner.cold.shrink_to_fit();
    }

    /// Carves up to a batch of fresh slots out of a mapping, and makes a new one where needed.
    fn carve(&self, inner: &mut Inner, cache: &mut Vec<Slot>) -> Result<(), Exhausted> {
        let allowed = self.limit - inner.carved;
        if allowed == 0 {
            return Err(Exhausted::Limit(self.limit));
        }
        if inner.fresh.is_empty() {
            inner.fresh = self.map_more(allowed).map_err(Exhausted::System)?;
        }
        let available = inner.fresh.len() / self.size;
        let batch = (inner.carved / SMALL_BATCH).clamp(SMALL_BATCH, BATCH);
        let wanted = available.min(batch).min(allowed);
        let guarded = self.install_guards(inner.fresh.start, wanted).map_err(Exhausted::System)?;
        for i in 0..guarded {
            cache.push(Slot::at(inner.fresh.start + (i + 1) * self.size));
        }
        // The lowest address is used first, whatever the order of the batch.
        cache.reverse();
        inner.fresh.start += guarded * self.size;
        inner.carved += guarded;
        Ok(())
    }

    /// Installs the guards of `n` fresh slots from `start` on. Returns how many it managed, at
    /// least one.
    fn install_guards(&self, start: usize, n: usize) -> io::Result<usize> {
        for i in 0..n {
            // SAFETY: the pages belong to a slot that no code uses yet.
            if let Err(error) = unsafe { guard::install(start + i * self.size, self.guard) } {
                return if i == 0 { Err(error) } else { Ok(i) };
            }
        }
        Ok(n)
    }

    /// Maps address space for `slots` slots, or for fewer where it is short.
    fn map_more(&self, slots: usize) -> io::Result<Range<usize>> {
        let mut slots = slots.min(MAPPED_SLOTS);
        loop {
            let len = slots * self.size;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
            // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no other
            // memory.
            let start = unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
            if start != libc::MAP_FAILED {
                // A huge page under a stack would cost 2 MiB per goroutine. Failing to say so is no
                // reason to stop.
                // SAFETY: the range is the mapping just made.
                unsafe { libc::madvise(start, len, libc::MADV_NOHUGEPAGE) };
                return Ok(start as usize..start as usize + len);
            }
            if slots == 1 {
                return Err(io::Error::last_os_error());
            }
            slots = slots.div_ceil(8);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
