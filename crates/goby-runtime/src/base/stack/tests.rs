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
    let mut tops: Vec<_> = slots.iter().map(|s| s.top()).collect();
    tops.sort_unstable();
    tops.dedup();
    assert_eq!(tops.len(), 40);
    assert!(matches!(pool.take(&mut cache), Err(Exhausted::Limit(40))));
    let usable = pool.usable(slots[0]);
    assert_eq!((usable.len(), usable.end), (64 * 1024, slots[0].top()));
    let guard = pool.guard(slots[0]);
    assert_eq!(guard.end, usable.start);
    assert!(guard.clone().step_by(PAGE).all(|page| !is_readable(page)) && !is_readable(guard.end - 1));
    assert!(is_readable(usable.start) && is_readable(usable.end - 1));
}

#[test]
fn slots_lie_an_odd_number_of_pages_apart() {
    // What may be used is exact; the guard is as wide as it must be, or a page wider.
    for (stack_size, usable, pages) in
        [(192 * 1024, 48, 65), (64 * 1024, 16, 33), (64 * 1024 + 1, 17, 33), (17 * PAGE, 17, 33), (16 * 1024, 4, 21)]
    {
        let pool = Pool::new(stack_size, 2);
        assert_eq!(pool.stack_size(), usable * PAGE);
        let mut cache = Vec::new();
        pool.take(&mut cache).unwrap();
        assert_eq!(cache[0].top() - cache[1].top(), pages * PAGE, "{stack_size}");
    }
}

#[test]
fn trim_gives_memory_back_once_unwanted_for_a_round() {
    let pool = Pool::new(64 * 1024, 4);
    let mut cache = Vec::new();
    pool.take(&mut cache).unwrap();
    let top = cache[0].top();
    // SAFETY: the slot is free and ours; the byte is above the guard page.
    unsafe { *((top - 8192) as *mut u8) = 7 };
    pool.give(cache.drain(..));
    assert!(!pool.trim(), "it was given back only now");
    assert!(pool.trim());
    // SAFETY: as above; a page that was given back reads as zero.
    assert_eq!(unsafe { *((top - 8192) as *const u8) }, 0);
}

/// Returns whether the system can read there.
fn is_readable(address: usize) -> bool {
    let (_reader, writer) = io::pipe().unwrap();
    // SAFETY: an address that cannot be read is an error of the call.
    unsafe { libc::write(writer.as_raw_fd(), address as *const libc::c_void, 1) == 1 }
}

/// Returns whether anything is mapped there.
fn is_mapped(address: usize) -> bool {
    // SAFETY: it only asks, and returns an error for an address that is not mapped.
    unsafe { libc::msync(address as *mut libc::c_void, PAGE, libc::MS_ASYNC) == 0 }
}

/// Runs `check` in a process where no other thread maps anything.
fn alone(check: impl FnOnce()) {
    // SAFETY: the child has the calling thread only, uses the allocator, which allows for that, and
    // ends here.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            let is_well = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)).is_ok();
            libc::_exit(i32::from(!is_well));
        }
        let mut status = 0;
        assert_eq!((libc::waitpid(child, &raw mut status, 0), status), (child, 0));
    }
}

#[test]
fn all_but_the_stacks_in_use_are_unmapped_at_the_end() {
    alone(|| {
        for used in [&[][..], &[0], &[3, 4, 77], &[MAPPED_SLOTS + 5]] {
            let pool = Pool::new(16 * 1024, MAPPED_SLOTS + 20);
            let slots = take_all(&pool);
            let (mut free, mut in_use) = (Vec::new(), Vec::new());
            for (i, slot) in slots.iter().enumerate() {
                // SAFETY: the slot is ours; the byte is above the guard.
                unsafe { *top_byte(*slot) = 7 };
                if used.contains(&i) { in_use.push(*slot) } else { free.push(*slot) }
            }
            let (cold, warm) = free.split_at(free.len() / 2);
            pool.give(cold.iter().copied());
            pool.trim();
            pool.trim();
            pool.give(warm.iter().copied());
            // SAFETY: it is ours, and not used.
            unsafe { pool.give_own(pool.take_own(1 << 20).unwrap()) };
            pool.unmap_free();
            let is_there = |slot: &Slot| [pool.guard(*slot).start, slot.top() - PAGE].map(is_mapped);
            assert!(free.iter().all(|slot| is_there(slot) == [false; 2]));
            assert!(in_use.iter().all(|slot| is_there(slot) == [true; 2]));
            // SAFETY: as above.
            assert!(in_use.iter().all(|slot| unsafe { *top_byte(*slot) } == 7));
            // It could go on.
            assert_eq!(take_all(&pool).len(), slots.len() - in_use.len());
        }
    });
}

#[test]
fn a_stack_of_its_own_size_is_kept_for_a_while_and_has_a_guard() {
    let pool = Pool::new(64 * 1024, 1);
    for size in [16 * 1024, 1 << 20, (1 << 20) + 1] {
        let own = pool.take_own(size).unwrap();
        let (usable, guard) = (own.usable(), own.guard());
        assert_eq!((usable.len(), guard.len()), (size.next_multiple_of(PAGE), GUARD));
        assert!(is_readable(usable.start) && is_readable(usable.end - 1));
        assert!(guard.step_by(PAGE).all(|page| !is_readable(page)) && !is_readable(usable.start - 1));
        // SAFETY: it is ours, and not used.
        unsafe { pool.give_own(own) };
        if Pool::REUSES {
            assert_eq!(pool.take_own(size).unwrap(), own);
            // SAFETY: as above.
            unsafe { pool.give_own(own) };
            assert!(!pool.trim() && pool.trim());
        }
        assert!(!is_readable(usable.start));
    }
}

#[test]
fn few_stacks_of_their_own_sizes_are_kept() {
    let pool = Pool::new(64 * 1024, 1);
    let all: Vec<_> = (0..3 * own::KEPT).map(|_| pool.take_own(16 * 1024).unwrap()).collect();
    // SAFETY: they are ours, and not used.
    all.iter().for_each(|own| unsafe { pool.give_own(*own) });
    assert_eq!(pool.inner.lock().own, if Pool::REUSES { &all[2 * own::KEPT..] } else { &[] });
}

/// Takes every free slot of a pool, and returns them, the lowest first.
fn take_all(pool: &Pool) -> Vec<Slot> {
    let (mut slots, mut cache) = (Vec::new(), Vec::new());
    while pool.take(&mut cache).is_ok() {
        slots.append(&mut cache);
    }
    slots.sort_unstable_by_key(|slot| slot.top());
    slots
}

fn top_byte(slot: Slot) -> *mut u8 {
    (slot.top() - 1) as *mut u8
}

fn tops(slots: &[Slot]) -> Vec<usize> {
    slots.iter().map(|slot| slot.top()).collect()
}

#[test]
fn a_crowd_that_was_trimmed_is_given_out_again_with_its_guards() {
    const SIZE: usize = 33 * PAGE;
    const N: usize = 3 * (TRIMMED_AT_ONCE / SIZE) + 7;
    let pool = Pool::new(64 * 1024, N);
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

    // Every third, then the pairs in between, which have the others for neighbors.
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
    let pool = Pool::new(16 * 1024, MAPPED_SLOTS);
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
    let pool = Pool::new(16 * 1024, 4 * MAPPED_SLOTS);
    let slots = take_all(&pool);
    // SAFETY: the slots are free and ours; the byte is above the guard page. So it takes a while to
    // trim them.
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
