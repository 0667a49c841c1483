//! Stacks: overflow, running out of them, and giving memory back. Tests that end a process run in a
//! child process.

use std::future::poll_fn;
use std::hint::black_box;
use std::os::unix::process::ExitStatusExt;
use std::panic::{catch_unwind, resume_unwind};
use std::process::Output;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use goby_runtime::{GoBuilder, Runtime, force_mprotect_guards, go, now, num_goroutines, spawn, yield_now};

use crate::support::{Door, PATIENCE, in_child, in_child_with, pause, runtime, stderr, wait_until};

/// Uses at least `depth` times `FRAME` bytes of stack.
#[inline(never)]
fn recurse<const FRAME: usize>(depth: usize) -> usize {
    let frame = black_box([depth as u8; FRAME]);
    if depth == 0 {
        return usize::from(frame[0]);
    }
    recurse::<FRAME>(depth - 1) + usize::from(black_box(&frame)[FRAME / 2] != 0)
}

/// Checks the message of an overflow: the goroutine printed as "overflows: ID at LINE", and its
/// stack's size.
pub(crate) fn check_overflow(output: &Output, kib: usize) {
    let (text, stdout) = (stderr(output), String::from_utf8_lossy(&output.stdout).into_owned());
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{}: {text}", output.status);
    let (_, overflows) = stdout.split_once("overflows: ").expect(&stdout);
    let (id, line) = overflows.lines().next().unwrap().split_once(" at ").unwrap();
    let message = text.lines().find(|message| message.starts_with("fatal error: stack overflow")).expect(&text);
    assert!(message.contains(&format!("goroutine {id}, started at ")), "{message}");
    assert!(message.contains(&format!("stacks.rs:{line}:")), "{message}");
    assert!(message.contains(&format!("its stack of {kib} KiB")), "{message}");
}

/// Starts a goroutine that recurses without end, and prints its id.
pub(crate) fn overflow<const FRAME: usize>() {
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
    check_overflow(&output, 192);
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

/// Does what a C function does that was compiled without stack probes: its first access is deep in
/// its frame, here of 33 KiB, the largest in glibc. Even just before the end of the stack, that
/// hits the guard, and not another goroutine's stack.
#[test]
fn a_large_frame_without_probes_cannot_step_over_the_guard() {
    check_large_frame("stacks::a_large_frame_without_probes_cannot_step_over_the_guard", || ());
}

#[test]
fn a_large_frame_without_probes_cannot_step_over_a_guard_by_mprotect() {
    check_large_frame(
        "stacks::a_large_frame_without_probes_cannot_step_over_a_guard_by_mprotect",
        force_mprotect_guards,
    );
}

fn check_large_frame(test: &str, set_up: fn()) {
    let output = in_child(test, || {
        set_up();
        runtime(1).run(|| {
            // Other goroutines own the stacks below.
            let door = Arc::new(Door::new());
            for _ in 0..100 {
                let door = door.clone();
                go(move || door.pass());
            }
            (0..100).for_each(|_| yield_now());
            let handle = go(|| {
                let near_the_top = 0u8;
                // As many bytes as the stack has, and some more.
                let near_the_top = std::hint::black_box(&raw const near_the_top).expose_provenance();
                let deep = std::ptr::with_exposed_provenance_mut::<u8>(near_the_top - (192 + 33) * 1024);
                // SAFETY: none: it must fault; otherwise it would hit another goroutine's stack.
                unsafe { deep.write_volatile(7) };
            });
            println!("overflows: {} at {}", handle.id(), line!() - 8);
            let _ = handle.join();
        });
    });
    check_overflow(&output, 192);
}

/// Other goroutines have parked, and stacks are in use below and above.
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
    check_overflow(&output, 192);
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
    check_overflow(&output, 192);
}

/// std reports a plain thread's overflow, as without goby.
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

/// Any other bad access is a plain SIGSEGV: it is not reported as an overflow, and the handler does
/// not loop forever.
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

/// Needs some three quarters of `mib` MiB of stack, in every build.
fn use_most_of(mib: usize) {
    #[inline(never)]
    fn descend(start: usize, end: usize) -> usize {
        let frame = black_box([1u8; 4000]);
        let here = frame.as_ptr().addr();
        let below = if start - here < end { descend(start, end) } else { 0 };
        below + usize::from(black_box(&frame)[2000])
    }
    let start = 0u8;
    assert!(descend((&raw const start).addr(), (mib << 20) / 4 * 3) > 0);
}

#[test]
fn one_goroutine_may_have_a_stack_of_its_own_size() {
    let output = in_child("stacks::one_goroutine_may_have_a_stack_of_its_own_size", || {
        for workers in [1, 2, 4] {
            runtime(workers).run(|| {
                let before = mapped();
                for (size, used) in [(1, 1), (1024, 64)] {
                    let handles = [(); 20].map(|()| {
                        GoBuilder::new().stack_size(size << 20).go(move || {
                            use_most_of(used);
                            yield_now();
                            use_most_of(used);
                        })
                    });
                    handles.into_iter().for_each(|handle| handle.join().unwrap());
                }
                // All are given back: the pool keeps some only for a while.
                wait_until("the stacks to be unmapped", || mapped() < before + (1 << 30));
            });
        }
    });
    assert!(output.status.success(), "{}: {}", output.status, stderr(&output));
}

#[test]
fn an_overflow_of_a_stack_of_its_own_size() {
    let output = in_child("stacks::an_overflow_of_a_stack_of_its_own_size", || {
        runtime(1).run(|| {
            let handle = GoBuilder::new().stack_size(1 << 20).go(|| black_box(recurse::<100>(usize::MAX)));
            println!("overflows: {} at {}", handle.id(), line!() - 1);
            let _ = handle.join();
        });
    });
    check_overflow(&output, 1024);
    assert!(stderr(&output).contains("raise stack_size of its goroutine::Builder"), "{}", stderr(&output));
}

#[test]
fn a_stack_size_out_of_range_is_refused_where_the_goroutine_is_started() {
    for (size, shown) in [(4096, "4096"), ((1 << 30) + 1, "1073741825")] {
        let refused = catch_unwind(|| GoBuilder::new().stack_size(size).go(|| ()));
        let message = refused.unwrap_err().downcast::<String>().unwrap();
        assert_eq!(*message, format!("stack_size: {shown} is not between 16384 and 1073741824 bytes"));
    }
}

/// A goroutine that never ran needs its stack as little as one that has ended.
#[test]
fn the_stack_of_a_goroutine_that_never_ran_is_given_back() {
    let output = in_child("stacks::the_stack_of_a_goroutine_that_never_ran_is_given_back", || {
        let before = mapped();
        for _ in 0..20 {
            let runtime = runtime(1);
            runtime.run(|| {
                // The only worker is busy with this goroutine until the end, and is then told to
                // stop.
                (0..100).for_each(|_| drop(GoBuilder::new().stack_size(1 << 30).go(|| ())));
            });
        }
        let grown = mapped() - before;
        assert!(grown < 300 << 30, "{grown} bytes more are mapped, of 2000 GiB that were");
    });
    assert!(output.status.success(), "{}: {}", output.status, stderr(&output));
}

#[test]
fn the_goroutine_of_a_run_has_a_large_stack() {
    let runtime = Runtime::builder().workers(1).stack_size(16 * 1024).build().unwrap();
    for _ in 0..3 {
        runtime.run(|| use_most_of(8));
        runtime.try_run(|| use_most_of(8)).unwrap();
        goby_runtime::run(|| use_most_of(8));
    }
    let runtime = Runtime::builder().workers(1).stack_size(64 << 20).build().unwrap();
    runtime.run(|| use_most_of(64));
}

struct YieldsWhenDropped;

impl YieldsWhenDropped {
    fn unwind(self) {
        resume_unwind(Box::new(()));
    }
}

impl Drop for YieldsWhenDropped {
    fn drop(&mut self) {
        yield_now();
    }
}

/// If there is no address space for such a stack, it has the usual size.
#[test]
fn a_run_needs_no_large_stack() {
    let output = in_child("stacks::a_run_needs_no_large_stack", || {
        let runtime = runtime(1);
        // The pool has some address space, and the heap of malloc, too.
        runtime.go(|| drop(vec![1u8; 100_000])).join().unwrap();
        // No thread of goby begins any more. The symbols are read, since a goroutine that yields
        // while it unwinds waits for them. And the monitor has begun: it gives a worker that is
        // stuck in the kernel a spare one.
        runtime.go(|| drop(catch_unwind(|| YieldsWhenDropped.unwind()))).join().unwrap();
        let stuck = runtime.go(|| {
            let (tx, rx) = mpsc::channel();
            let helper = go(move || tx.send(7).unwrap());
            assert_eq!(rx.recv(), Ok(7));
            helper.join().unwrap();
        });
        stuck.join().unwrap();
        leave_address_space(4 << 20);
        assert_eq!(runtime.run(|| go(|| 6 * 7).join().unwrap()), 42);
    });
    assert!(output.status.success(), "{}: {}", output.status, stderr(&output));
}

#[test]
fn goby_stack_sets_the_size_of_stacks() {
    let test = "stacks::goby_stack_sets_the_size_of_stacks";
    let recurse_in = || {
        let size: usize = std::env::var("STACK_IN_MIB").unwrap().parse().unwrap();
        goby_runtime::run(|| go(move || use_most_of(size)).join().unwrap());
        // The builder's setting has priority.
        let small = Runtime::builder().workers(1).stack_size(16 * 1024).build().unwrap();
        small.run(overflow::<100>);
    };
    for (text, size) in [("4194304", "4"), ("2048K", "2"), ("16M", "16"), ("1G", "16")] {
        let output = in_child_with(test, &[("GOBY_STACK", text), ("STACK_IN_MIB", size)], recurse_in);
        check_overflow(&output, 16);
    }
    for text in ["large", "4096", "2G", "1025M", "-1", "M", "1 M", "99999999999999999999M"] {
        let output = in_child_with(test, &[("GOBY_STACK", text), ("STACK_IN_MIB", "1")], recurse_in);
        assert_eq!(output.status.code(), Some(101), "{text}: {output:?}");
        let message = format!("GOBY_STACK={text:?} is no number of bytes between 16384 and 1073741824");
        assert!(stderr(&output).contains(&message), "{}", stderr(&output));
    }
    // As if the variable were not set.
    let output = in_child_with(test, &[("GOBY_STACK", ""), ("STACK_IN_MIB", "0")], recurse_in);
    check_overflow(&output, 16);
}

#[test]
fn deep_recursion_within_the_stack_is_fine() {
    let runtime = Runtime::builder().workers(2).stack_size(8 << 20).build().unwrap();
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
            let most = most.load(Ordering::SeqCst);
            assert!(most <= workers + 4, "{most} at once");
            wait_until("all to end", || num_goroutines() == 1);
        });
    }
}

/// The same with parked goroutines: they hold all stacks but one, which all others use in turn.
#[test]
fn one_free_stack_is_enough_to_go_on() {
    for workers in [1, 4] {
        let runtime = Runtime::builder().workers(workers).max_stacks(11).build().unwrap();
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

/// A busy worker keeps the stacks of goroutines that have ended on it. A goroutine that is refused
/// a stack on another worker still gets one of them.
#[test]
fn the_spare_stacks_of_a_busy_worker_are_for_who_has_none() {
    let runtime = Runtime::builder().workers(2).max_stacks(2).build().unwrap();
    runtime.run(|| {
        for _ in 0..100 {
            let both = [(); 2].map(|()| go(yield_now));
            both.into_iter().for_each(|handle| handle.join().unwrap());
            let has_run = Arc::new(AtomicBool::new(false));
            let runs = has_run.clone();
            drop(go(move || runs.store(true, Ordering::Relaxed)));
            // Until the other worker has, most likely, taken it.
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

/// All goroutines that have started wait for goroutines that cannot start. That is a fatal error,
/// which names the limit and how to raise it.
#[test]
fn waiting_for_who_gets_no_stack_is_fatal() {
    let output = in_child("stacks::waiting_for_who_gets_no_stack_is_fatal", || {
        let builder = Runtime::builder().workers(2).max_stacks(1);
        // Also if deadlocks are not reported: otherwise nobody could find out.
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
    assert!(text.contains("the limit of 1 stacks is reached: raise max_stacks of the builder"), "{text}");
}

/// More goroutines than fit the address space of [`with_little_address_space`].
const TOO_MANY: usize = 6000;

/// Runs `main` with stacks so large that the address space that is left holds four of them, besides
/// the first 4096, and some memory.
fn with_little_address_space(main: impl FnOnce() + Send) {
    let runtime = Runtime::builder().workers(2).stack_size(32 << 20).build().unwrap();
    runtime.run(|| ());
    leave_address_space(144 << 20);
    runtime.run(main);
}

/// The system's limit instead of goby's: little address space. Goroutines wait for a stack, and all
/// run.
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
            // Until no more can start: then their number no longer changes.
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

/// Address space of the process in bytes.
fn mapped() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').next().unwrap().parse::<usize>().unwrap() * 4096
}

/// Limits the address space to `bytes` more than is used now.
fn leave_address_space(bytes: u64) {
    let limit = rustix::process::Rlimit { current: Some(mapped() as u64 + bytes), maximum: None };
    rustix::process::setrlimit(rustix::process::Resource::As, limit).unwrap();
}

/// Resident memory of the process in bytes, without files: pages of the program itself come as they
/// are needed.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<usize>().unwrap() * 1024
}

/// Memory that deep calls have touched goes back to the system when no goroutine has needed the
/// stacks for a while.
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
        // A debug build needs several times what the frames hold.
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

/// Many futures, which use malloc's memory, leave nothing behind in a program that is idle
/// afterwards.
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

/// A runtime that ends gives its stacks' memory back; another one of the same size then needs no
/// more than the first.
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
