//! What a dropped runtime leaves behind: only the stacks of goroutines that have not ended, with
//! their threads. And another runtime of the same configuration, which is made of its parts, is
//! like a new one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use goby_runtime::{Builder, GoBuilder, Runtime, Timer, blocking, go, now, num_goroutines, spawn, yield_now};

use crate::support::{Door, PATIENCE, in_child, leaky_runtime, pause, runtime, stderr, wait_until};

/// Figures of `/proc/self/status`, in bytes.
fn status(key: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).unwrap();
    line.split_whitespace().next().unwrap().parse::<usize>().unwrap() * 1024
}

fn mappings() -> usize {
    std::fs::read_to_string("/proc/self/maps").unwrap().lines().count()
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// Uses all that a runtime has.
fn use_all() {
    let timer = Timer::new(|_| ());
    timer.start(now() + Duration::from_secs(60));
    let handles: Vec<_> = (0..20)
        .map(|i| {
            go(move || {
                yield_now();
                i
            })
        })
        .collect();
    assert_eq!(handles.into_iter().map(|handle| handle.join().unwrap()).sum::<i32>(), 190);
    assert_eq!(spawn(async { 7 }).join().unwrap(), 7);
    pause(Duration::from_micros(100));
    assert_eq!(GoBuilder::new().stack_size(1 << 20).go(|| 8).join().unwrap(), 8);
    // These never run if there is no other worker.
    (0..3).for_each(|_| drop(go(|| ())));
}

#[test]
fn dropped_runtimes_leave_nothing_behind() {
    let output = in_child("dropped::dropped_runtimes_leave_nothing_behind", || {
        let measure = || (status("VmSize"), status("RssAnon"), mappings(), descriptors());
        let run = |rounds: usize| {
            for round in 0..rounds {
                let runtime = runtime(1 + round % 2);
                runtime.run(use_all);
                if round % 8 == 0 {
                    // A helper thread, which may end a little later.
                    assert_eq!(runtime.run(|| blocking(|| 7)), 7);
                }
            }
            wait_until("the threads to end", || threads() == 1);
        };
        run(300);
        let before = measure();
        run(1500);
        let after = measure();
        let shown = format!("{before:?} and then {after:?}");
        // Far less than a runtime's stacks and threads take; malloc may have asked for another
        // heap.
        assert!(after.0 < before.0 + (160 << 20), "address space: {shown}");
        // A leak of a few bytes per round would show.
        assert!(after.1 < before.1 + (1 << 20), "memory: {shown}");
        assert!(after.2 < before.2 + 30, "mappings: {shown}");
        assert!(after.3 <= before.3, "descriptors: {shown}");
    });
    assert!(output.status.success(), "{}: {}", output.status, stderr(&output));
}

/// Values on its stack may be lent to other threads.
#[test]
fn the_stack_of_a_goroutine_that_is_left_behind_stays_as_it_is() {
    let output = in_child("dropped::the_stack_of_a_goroutine_that_is_left_behind_stays_as_it_is", || {
        let before = status("VmSize");
        let runtime = leaky_runtime(2);
        let lent = runtime.run(|| {
            let crowd = [(); 1000].map(|()| go(yield_now));
            let (lend, lent) = mpsc::channel();
            let left = [(); 5].map(|()| {
                let lend = lend.clone();
                let door = Arc::new(Door::new());
                let waits = door.clone();
                go(move || {
                    let array: [usize; 500] = std::array::from_fn(|i| i * 7);
                    lend.send(array.as_ptr().expose_provenance()).unwrap();
                    waits.pass();
                    std::hint::black_box(&array);
                });
                door
            });
            let lent: Vec<_> = left.iter().map(|_| lent.recv().unwrap()).collect();
            wait_until("them to park", || left.iter().all(|door| door.has_waiters()));
            crowd.into_iter().for_each(|handle| handle.join().unwrap());
            lent
        });
        drop(runtime);
        // Only these are left of 1 GiB of stacks; the threads have stacks and heaps of their own.
        assert!(status("VmSize") < before + (600 << 20));
        for _ in 0..20 {
            let runtime = leaky_runtime(2);
            runtime.run(|| [(); 100].map(|()| go(use_all)).into_iter().for_each(|handle| handle.join().unwrap()));
        }
        for array in lent {
            for i in 0..500 {
                let place = std::ptr::with_exposed_provenance::<usize>(array).wrapping_add(i);
                // SAFETY: the array is on a stack that nobody uses again.
                assert_eq!(unsafe { place.read_volatile() }, i * 7);
            }
        }
    });
    assert!(output.status.success(), "{}: {}", output.status, stderr(&output));
}

/// Settings that no other test has, so that the second runtime has the first one's parts.
fn unlike_others(name: &str) -> Builder {
    Runtime::builder().workers(1).thread_name(name).max_goroutines(1000)
}

#[test]
fn a_runtime_like_one_that_was_dropped_is_as_new() {
    for round in 0..20 {
        let runtime = unlike_others("as-new").build().unwrap();
        assert_eq!((runtime.num_goroutines(), runtime.num_workers()), (0, 1));
        assert!(runtime.stalls().is_empty() && runtime.goroutines().is_empty());
        runtime.run(|| {
            assert_eq!(num_goroutines(), 1);
            assert_eq!(thread::current().name(), Some("as-new-0"));
            use_all();
            // The limit counts only the goroutines of this runtime.
            let all: Vec<_> = (0..900).map(|_| goby_runtime::try_go(|| ()).unwrap()).collect();
            all.into_iter().for_each(|handle| handle.join().unwrap());
        });
        if round % 3 == 0 {
            runtime.run(|| assert_eq!(blocking(|| 7), 7));
        }
    }
}

/// The next runtime may lack the spare workers of the first one, which have ended goroutines of
/// other workers.
#[test]
fn a_runtime_like_one_that_had_spare_workers_is_as_new() {
    for _ in 0..5 {
        let runtime = unlike_others("with-spares").build().unwrap();
        assert_eq!((runtime.num_goroutines(), runtime.num_workers()), (0, 1));
        runtime.run(|| {
            let others: Vec<_> = (0..50).map(|i| go(move || i)).collect();
            // A worker that is stuck in the kernel gets a spare one for its unstarted goroutines.
            while goby_runtime::num_goroutines() > 1 {
                thread::sleep(Duration::from_millis(5));
            }
            assert!(others.into_iter().all(|handle| handle.join().is_ok()));
        });
        assert!(runtime.num_workers() > 1);
    }
}

/// A timer that does not run, and the handles of goroutines that have ended or never ran, in the
/// next runtime's life.
#[test]
fn handles_and_timers_outlive_several_lives() {
    let (mut handles, mut timers) = (Vec::new(), Vec::new());
    let fired = Arc::new(AtomicUsize::new(0));
    for round in 0..10 {
        let runtime = unlike_others("outlived").build().unwrap();
        let counts = fired.clone();
        let (timer, ended, never) = runtime.run(move || {
            let timer = Timer::new(move |_| {
                counts.fetch_add(1, Ordering::SeqCst);
            });
            let ended = go(move || round);
            yield_now();
            wait_until("it to end", || ended.is_finished());
            (timer, ended, go(move || round))
        });
        timers.push(timer);
        handles.push((ended, never));
        drop(runtime);
    }
    for (round, (ended, never)) in handles.into_iter().enumerate() {
        assert_eq!(ended.join().unwrap(), round);
        if let Ok(value) = never.join() {
            assert_eq!(value, round);
        }
    }
    // Another test tells whether a timer fires without its runtime. Here it does no harm, and can
    // be stopped.
    let runtime = unlike_others("outlived").build().unwrap();
    for timer in &timers {
        timer.start(now() + Duration::from_secs(3600));
        assert!(timer.stop());
    }
    runtime.run(use_all);
}

/// A timer that was made on a spare worker, used in a later runtime that has none.
#[test]
fn a_timer_of_a_spare_worker_outlives_it() {
    let build = || unlike_others("timer-of-a-spare").build().unwrap();
    let runtime = build();
    let (give, made) = mpsc::channel();
    let (tell, fired) = mpsc::channel();
    let timer = runtime.run(move || {
        let maker = go(move || {
            assert_ne!(thread::current().name(), Some("timer-of-a-spare-0"));
            give.send(Timer::new(move |_| tell.send(()).unwrap())).unwrap();
        });
        // This worker is stuck in the kernel meanwhile, so a spare one begins the goroutine.
        let timer = made.recv().unwrap();
        maker.join().unwrap();
        timer
    });
    let check = || {
        timer.start(now() + Duration::from_millis(1));
        fired.recv_timeout(PATIENCE).unwrap();
    };
    check();
    drop(runtime);
    check();
    let runtime = build();
    assert_eq!(runtime.num_workers(), 1);
    check();
    // Started before this runtime ends, due after it.
    timer.start(now() + Duration::from_millis(20));
    drop(runtime);
    fired.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn a_panic_that_is_reported_after_its_runtime_is_none_of_the_next_one() {
    let build = || unlike_others("panics-late").build().unwrap();
    let panics = |runtime: &Runtime| {
        let handle = runtime.go(|| panic!("nobody joins me"));
        wait_until("it to panic", || handle.is_finished());
        handle
    };
    let runtime = build();
    let (soon, late) = (panics(&runtime), panics(&runtime));
    drop(soon);
    assert_eq!(runtime.unjoined_panics().len(), 1);
    drop(runtime);
    let runtime = build();
    drop(late);
    assert!(runtime.unjoined_panics().is_empty(), "{:?}", runtime.unjoined_panics());
    drop(panics(&runtime));
    assert_eq!(runtime.unjoined_panics().len(), 1);
}

/// Runtimes of few configurations come and go on several threads, which start goroutines in them
/// until the last moment.
#[test]
fn runtimes_come_and_go_on_several_threads() {
    thread::scope(|threads| {
        for i in 0..4 {
            threads.spawn(move || {
                for round in 0..60 {
                    let runtime = runtime(1 + (i + round) % 2);
                    let ran = Arc::new(AtomicUsize::new(0));
                    let handles: Vec<_> = (0..10)
                        .map(|_| {
                            let ran = ran.clone();
                            runtime.go(move || {
                                ran.fetch_add(1, Ordering::SeqCst);
                                spawn(async {}).detach();
                                drop(go(yield_now));
                            })
                        })
                        .collect();
                    if round % 3 != 0 {
                        runtime.run(use_all);
                    }
                    drop(runtime);
                    // Each goroutine has run or was canceled; none is in a later runtime.
                    let before = ran.load(Ordering::SeqCst);
                    let ended =
                        handles.into_iter().filter_map(|handle| handle.is_finished().then(|| handle.join().is_ok()));
                    assert!(ended.filter(|ran| *ran).count() <= before);
                    assert_eq!(ran.load(Ordering::SeqCst), before);
                }
            });
        }
    });
}
