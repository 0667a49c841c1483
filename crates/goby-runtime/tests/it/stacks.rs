//! Stacks: overflow, running out of them, and giving memory back. What ends a process happens in a child process.

use std::future::poll_fn;
use std::hint::black_box;
use std::os::unix::process::ExitStatusExt;
use std::process::Output;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use goby_runtime::{Runtime, force_mprotect_guards, go, now, num_goroutines, spawn, yield_now};

use crate::support::{Door, PATIENCE, in_child, pause, runtime, stderr, wait_until};

/// Uses at least `depth` times `FRAME` bytes of stack.
#[inline(never)]
fn recurse<const FRAME: usize>(depth: usize) -> usize {
    let frame = black_box([depth as u8; FRAME]);
    if depth == 0 {
        return usize::from(frame[0]);
    }
    recurse::<FRAME>(depth - 1) + usize::from(black_box(&frame)[FRAME / 2] != 0)
}

/// Checks the message of an overflow: the goroutine printed as "overflows: ID at LINE", and its stack's size.
fn check_overflow(output: &Output, kib: usize) {
    let (text, stdout) = (stderr(output), String::from_utf8_lossy(&output.stdout).into_owned());
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{}: {text}", output.status);
    let (_, overflows) = stdout.split_once("overflows: ").expect(&stdout);
    let (id, line) = overflows.lines().next().unwrap().split_once(" at ").unwrap();
    let message = text.lines().find(|message| message.starts_with("fatal error: stack overflow")).expect(&text);
    assert!(message.contains(&format!("goroutine {id}, started at ")), "{message}");
    assert!(message.contains(&format!("stacks.rs:{line}:")), "{message}");
    assert!(message.contains(&format!("its stack of {kib} KiB")), "{message}");
}

/// Starts a goroutine that recurses without end, and says which it is.
fn overflow<const FRAME: usize>() {
    let door = Arc::new(Door::new());
    let told = door.clone();
    let handle = go(move || {
        told.pass();
        black_box(recurse::<FRAME>(usize::MAX));
    });
    println!("overflows: {} at {}", handle.id(), line!() - 4);
    door.open();
    let _ = handle.join();
}

#[test]
fn an_overflow_is_a_message_and_an_abort() {
    let output = in_child("stacks::an_overflow_is_a_message_and_an_abort", || runtime(1).run(overflow::<100>));
    check_overflow(&output, 256);
}

/// A frame far larger than the guard page cannot jump over it.
#[test]
fn an_overflow_by_a_large_frame() {
    let output = in_child("stacks::an_overflow_by_a_large_frame", || {
        let runtime = Runtime::builder().workers(2).stack_size(64 * 1024).build().unwrap();
        runtime.run(overflow::<50_000>);
    });
    check_overflow(&output, 64);
}

/// Others have parked, and stacks are in use below and above.
#[test]
fn an_overflow_among_others() {
    let output = in_child("stacks::an_overflow_among_others", || {
        runtime(4).run(|| {
            let door = Arc::new(Door::new());
            for _ in 0..100 {
                let door = door.clone();
                go(move || door.pass());
            }
            (0..100).for_each(|_| yield_now());
            overflow::<1000>();
        });
    });
    check_overflow(&output, 256);
}

#[test]
fn an_overflow_with_guards_by_mprotect() {
    let output = in_child("stacks::an_overflow_with_guards_by_mprotect", || {
        force_mprotect_guards();
        runtime(2).run(|| {
            let handles: Vec<_> = (0..1000).map(|i| go(move || i)).collect();
            assert_eq!(handles.into_iter().map(|handle| handle.join().unwrap()).sum::<i32>(), 499_500);
            overflow::<100>();
        });
    });
    check_overflow(&output, 256);
}

/// A plain thread's overflow is std's business, as without goby.
#[test]
fn an_overflow_of_a_plain_thread_is_told_by_std() {
    let output = in_child("stacks::an_overflow_of_a_plain_thread_is_told_by_std", || {
        runtime(1).run(|| ());
        let thread = thread::Builder::new().name("plain".into());
        let thread = thread.spawn(|| black_box(recurse::<100>(usize::MAX))).unwrap();
        let _ = thread.join();
    });
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{}", stderr(&output));
    assert!(stderr(&output).contains("thread 'plain'"), "{}", stderr(&output));
    assert!(stderr(&output).contains("has overflowed its stack"), "{}", stderr(&output));
}

/// A future runs on its worker's own stack, which std guards.
#[test]
fn an_overflow_of_a_future_is_told_by_std() {
    let output = in_child("stacks::an_overflow_of_a_future_is_told_by_std", || {
        runtime(1).run(|| {
            let task = goby_runtime::spawn(async { black_box(recurse::<100>(usize::MAX)) });
            let _ = task.join();
        });
    });
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{}", stderr(&output));
    assert!(stderr(&output).contains("thread 'goby-worker-0'"), "{}", stderr(&output));
    assert!(stderr(&output).contains("has overflowed its stack"), "{}", stderr(&output));
}

/// Any other bad access is a plain SIGSEGV: not reported as an overflow, and no endless loop of the handler.
#[test]
fn another_bad_access_is_no_overflow() {
    let output = in_child("stacks::another_bad_access_is_no_overflow", || {
        runtime(1).run(|| {
            // SAFETY: none; this is to crash.
            unsafe { black_box(std::ptr::without_provenance::<u8>(8)).read_volatile() }
        });
    });
    assert_eq!(output.status.signal(), Some(libc::SIGSEGV), "{}", stderr(&output));
    assert!(!stderr(&output).contains("stack overflow"), "{}", stderr(&output));
}

#[test]
fn deep_recursion_within_the_stack_is_fine() {
    let runtime = Runtime::builder().workers(2).stack_size(4 << 20).build().unwrap();
    runtime.run(|| {
        let handles = [(); 20].map(|()| {
            go(|| {
                let before = recurse::<1000>(2000);
                yield_now();
                before + recurse::<1000>(1000)
            })
        });
        handles.into_iter().for_each(|handle| assert!(handle.join().unwrap() > 0));
    });
}

/// More goroutines than stacks: those that wait for a stack start as others end.
#[test]
fn goroutines_wait_for_a_free_stack() {
    for workers in [1, 2, 4] {
        let runtime = Runtime::builder().workers(workers).max_stacks(workers + 4).build().unwrap();
        runtime.run(|| {
            let (alive, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let handles: Vec<_> = (0..2000)
                .map(|i| {
                    let (alive, most) = (alive.clone(), most.clone());
                    go(move || {
                        most.fetch_max(alive.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        (0..i % 3).for_each(|_| yield_now());
                        alive.fetch_sub(1, Ordering::SeqCst);
                        i
                    })
                })
                .collect();
            let sum: usize = handles.into_iter().map(|handle| handle.join().unwrap()).sum();
            assert_eq!(sum, 1_999_000);
            // One stack is main's.
            let most = most.load(Ordering::SeqCst);
            assert!(most <= workers + 3, "{most} at once");
            wait_until("all to end", || num_goroutines() == 1);
        });
    }
}

/// The same with parked ones: they hold all stacks but one, through which all others go.
#[test]
fn one_free_stack_is_enough_to_go_on() {
    for workers in [1, 4] {
        let runtime = Runtime::builder().workers(workers).max_stacks(12).build().unwrap();
        runtime.run(|| {
            let door = Arc::new(Door::new());
            let parked: Vec<_> = (0..10)
                .map(|_| {
                    let door = door.clone();
                    go(move || door.pass())
                })
                .collect();
            let passing: Vec<_> = (0..500).map(|i| go(move || i)).collect();
            assert_eq!(passing.into_iter().map(|handle| handle.join().unwrap()).sum::<i32>(), 124_750);
            door.open();
            parked.into_iter().for_each(|handle| handle.join().unwrap());
        });
    }
}

/// A busy worker keeps the stacks of those that have ended on it. Who is refused one on another worker gets one of them all the same.
#[test]
fn the_spare_stacks_of_a_busy_worker_are_for_who_has_none() {
    let runtime = Runtime::builder().workers(2).max_stacks(3).build().unwrap();
    runtime.run(|| {
        for _ in 0..100 {
            let both = [(); 2].map(|()| go(yield_now));
            both.into_iter().for_each(|handle| handle.join().unwrap());
            let has_run = Arc::new(AtomicBool::new(false));
            let runs = has_run.clone();
            drop(go(move || runs.store(true, Ordering::Relaxed)));
            // Until the other worker has taken it, most likely.
            let start = now();
            while start.elapsed() < Duration::from_millis(1) {
                std::hint::spin_loop();
            }
            while !has_run.load(Ordering::Relaxed) {
                assert!(start.elapsed() < PATIENCE, "it never ran");
                yield_now();
            }
        }
    });
}

/// All that have started wait for those that cannot: a fatal error that names the limit and how to raise it.
#[test]
fn waiting_for_who_gets_no_stack_is_fatal() {
    let output = in_child("stacks::waiting_for_who_gets_no_stack_is_fatal", || {
        let builder = Runtime::builder().workers(2).max_stacks(2);
        // Also where deadlocks are not reported: nobody could find out.
        let runtime = builder.on_deadlock(goby_runtime::DeadlockPolicy::Ignore).build().unwrap();
        runtime.run(|| {
            let opened = Arc::new(Door::new());
            let opens = opened.clone();
            let first = go(move || {
                let helper = go(move || opens.open());
                helper.join().unwrap();
            });
            first.join().unwrap();
            opened.pass();
        });
    });
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("fatal error: 1 goroutines cannot start, and the 2 that have started all wait"), "{text}");
    assert!(text.contains("the limit of 2 stacks is reached: raise max_stacks of the builder"), "{text}");
}

/// More goroutines than fit the address space of [`with_little_address_space`].
const TOO_MANY: usize = 6000;

/// Runs `main` with stacks so large that what is left holds four of them, beside the first 4096, and some memory.
fn with_little_address_space(main: impl FnOnce() + Send) {
    let runtime = Runtime::builder().workers(2).stack_size(32 << 20).build().unwrap();
    runtime.run(|| ());
    leave_address_space(144 << 20);
    runtime.run(main);
}

/// The system's limit instead of ours: little address space. Goroutines wait for a stack, and all are run.
#[test]
fn little_address_space_is_not_the_end() {
    let output = in_child("stacks::little_address_space_is_not_the_end", || {
        with_little_address_space(|| {
            let (door, started) = (Arc::new(Door::new()), Arc::new(AtomicUsize::new(0)));
            let handles: Vec<_> = (0..TOO_MANY)
                .map(|_| {
                    let (door, started) = (door.clone(), started.clone());
                    go(move || {
                        started.fetch_add(1, Ordering::SeqCst);
                        door.pass();
                    })
                })
                .collect();
            // Until no more can start, which shows in that their number stands still.
            let mut before = 0;
            wait_until("the stacks to run out", || {
                pause(Duration::from_millis(20));
                let now = started.load(Ordering::SeqCst);
                now > 0 && now == std::mem::replace(&mut before, now)
            });
            let first = started.load(Ordering::SeqCst);
            assert!(first < TOO_MANY, "the address space was enough for all: the test shows nothing");
            door.open();
            handles.into_iter().for_each(|handle| handle.join().unwrap());
            assert_eq!(started.load(Ordering::SeqCst), TOO_MANY);
        });
    });
    assert!(output.status.success(), "{}: {}", output.status, stderr(&output));
}

#[test]
fn too_little_address_space_is_a_fatal_error_that_says_so() {
    let output = in_child("stacks::too_little_address_space_is_a_fatal_error_that_says_so", || {
        with_little_address_space(|| {
            let door = Arc::new(Door::new());
            for _ in 0..TOO_MANY {
                let door = door.clone();
                go(move || door.pass());
            }
            door.pass();
        });
    });
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("goroutines cannot start") && text.contains("ulimit -v"), "{text}");
}

/// Limits the address space to what is used now and `bytes` more.
fn leave_address_space(bytes: u64) {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let used = statm.split(' ').next().unwrap().parse::<u64>().unwrap() * 4096;
    let limit = rustix::process::Rlimit { current: Some(used + bytes), maximum: None };
    rustix::process::setrlimit(rustix::process::Resource::As, limit).unwrap();
}

/// Memory of the process in bytes that is resident and no file's: pages of the program itself come as they are needed.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<usize>().unwrap() * 1024
}

/// What deep calls have touched goes back to the system when nobody has wanted the stacks for a while.
#[test]
fn stacks_are_trimmed_after_deep_calls() {
    check_trimming("stacks::stacks_are_trimmed_after_deep_calls", || ());
}

#[test]
fn stacks_with_guards_by_mprotect_are_trimmed() {
    check_trimming("stacks::stacks_with_guards_by_mprotect_are_trimmed", force_mprotect_guards);
}

fn check_trimming(test: &str, set_up: fn()) {
    let output = in_child(test, || {
        set_up();
        // A debug build needs a multiple of what the frames hold.
        let runtime = Runtime::builder().workers(2).stack_size(1 << 20).build().unwrap();
        runtime.run(|| {
            let start = resident();
            let door = Arc::new(Door::new());
            let handles: Vec<_> = (0..300)
                .map(|_| {
                    let door = door.clone();
                    go(move || {
                        black_box(recurse::<10_000>(15));
                        door.pass();
                    })
                })
                .collect();
            wait_until("all to wait", || resident() > start + 300 * 150_000);
            door.open();
            handles.into_iter().for_each(|handle| handle.join().unwrap());
            wait_until("the memory to be given back", || resident() < start + 10 * 150_000);
            // And the stacks are still good.
            let handles: Vec<_> = (0..300).map(|_| go(|| recurse::<10_000>(15))).collect();
            handles.into_iter().for_each(|handle| assert!(handle.join().unwrap() > 0));
            // And their guards.
            overflow::<100>();
        });
    });
    check_overflow(&output, 1024);
}

/// A crowd of futures, whose memory is malloc's, leaves nothing behind in a program that is idle afterwards.
#[test]
#[cfg(target_env = "gnu")]
fn an_idle_program_gives_the_memory_of_ended_futures_back() {
    let output = in_child("stacks::an_idle_program_gives_the_memory_of_ended_futures_back", || {
        runtime(2).run(|| {
            const N: usize = 100_000;
            let start = resident();
            let (wakers, n_waiting) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
            for _ in 0..N {
                let (wakers, n_waiting) = (wakers.clone(), n_waiting.clone());
                let mut is_woken = false;
                spawn(poll_fn(move |cx| {
                    if std::mem::replace(&mut is_woken, true) {
                        n_waiting.fetch_sub(1, Ordering::SeqCst);
                        return Poll::Ready([0u8; 200]);
                    }
                    wakers.lock().unwrap().push(cx.waker().clone());
                    n_waiting.fetch_add(1, Ordering::SeqCst);
                    Poll::Pending
                }))
                .detach();
            }
            wait_until("all to wait", || n_waiting.load(Ordering::SeqCst) == N);
            let peak = resident();
            assert!(peak > start + N * 200);
            std::mem::take(&mut *wakers.lock().unwrap()).into_iter().for_each(Waker::wake);
            wait_until("all to end", || n_waiting.load(Ordering::SeqCst) == 0);
            wait_until("the memory to be given back", || {
                // Only while all sleep.
                pause(Duration::from_millis(200));
                resident() < start + (peak - start) / 10
            });
        });
    });
    assert!(output.status.success(), "{}: {}", output.status, stderr(&output));
}

/// A runtime that ends gives its stacks' memory back; another one of the same size then needs no more than the first.
#[test]
fn a_dropped_runtime_gives_its_memory_back() {
    let output = in_child("stacks::a_dropped_runtime_gives_its_memory_back", || {
        let start = resident();
        for workers in [1, 2, 4] {
            let runtime = runtime(workers);
            runtime.run(|| {
                let door = Arc::new(Door::new());
                let handles: Vec<_> = (0..5000)
                    .map(|_| {
                        let door = door.clone();
                        go(move || door.pass())
                    })
                    .collect();
                (0..100).for_each(|_| yield_now());
                door.open();
                handles.into_iter().for_each(|handle| handle.join().unwrap());
            });
            drop(runtime);
            // 5000 stacks have at least 20 MB.
            let used = resident().saturating_sub(start);
            assert!(used < 12 << 20, "{used} bytes after a runtime of {workers} workers");
        }
    });
    assert!(output.status.success(), "{}: {}", output.status, stderr(&output));
}
