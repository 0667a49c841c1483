//! The runtime as a value: its configuration, its limits, several at once, and its end.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use goby_runtime::{Builder, Decision, Gate, Runtime, WaitReason, checkpoint, go, num_goroutines, try_go, yield_now};

use crate::support::{Door, PATIENCE, in_child_with, leaky_runtime, runtime, stderr, wait_until, with_workers};

#[test]
fn values_out_of_range_are_errors_that_name_them() {
    let check = |builder: Builder, message: &str| {
        let error = builder.build().unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::InvalidInput, message));
    };
    let builder = Runtime::builder;
    check(builder().workers(0), "workers: 0 is not between 1 and 1024");
    check(builder().workers(1025), "workers: 1025 is not between 1 and 1024");
    check(builder().stack_size(4096), "stack_size: 4096 is not between 16384 and 1073741824 bytes");
    check(
        builder().stack_size(usize::MAX),
        "stack_size: 18446744073709551615 is not between 16384 and 1073741824 bytes",
    );
    check(builder().max_stacks(0), "max_stacks: without a stack no goroutine can run");
    check(builder().thread_name("a\0b"), "thread_name: \"a\\0b\" contains a zero byte");
}

#[test]
fn odd_stack_sizes_are_rounded_up() {
    let runtime = Runtime::builder().workers(1).stack_size(100_001).build().unwrap();
    assert_eq!(runtime.run(|| go(|| 1).join().unwrap()), 1);
}

#[test]
fn run_gives_mains_value_and_main_may_borrow() {
    for workers in [1, 2, 4] {
        let runtime = runtime(workers);
        let mut text = String::from("borrowed");
        let length = runtime.run(|| {
            text.push_str(" by main");
            yield_now();
            text.len()
        });
        assert_eq!((length, text.as_str(), runtime.num_workers()), (16, "borrowed by main", workers));
        assert_eq!(runtime.run(|| "again"), "again");
    }
    assert_eq!(goby_runtime::run(|| go(|| 7).join().unwrap()), 7);
}

#[test]
fn run_within_a_goroutine_parks_it() {
    with_workers(|| {
        let inner = Arc::new(runtime(1));
        let opened_outside = Arc::new(Door::new());
        let opener = go({
            let door = opened_outside.clone();
            move || {
                wait_until("the inner main to wait", || door.has_waiters());
                door.open();
            }
        });
        inner.run(|| opened_outside.pass());
        opener.join().unwrap();
    });
}

/// The names of this process's threads, as the system shows them.
fn thread_names() -> HashSet<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.map(|name| name.trim().to_owned()).collect()
}

#[test]
fn workers_carry_the_given_name() {
    let runtime = Runtime::builder().workers(3).thread_name("trout").build().unwrap();
    let seen: HashSet<String> = runtime.run(|| {
        let handles: Vec<_> = (0..100).map(|_| go(|| thread::current().name().unwrap().to_owned())).collect();
        handles.into_iter().map(|handle| handle.join().unwrap()).collect()
    });
    let expected: HashSet<String> = (0..3).map(|i| format!("trout-{i}")).collect();
    // A spare worker is one more.
    assert!(!seen.is_empty() && seen.iter().all(|name| name.starts_with("trout-")), "{seen:?}");
    // All names, as the system shows them once the threads have begun to run.
    wait_until("every worker to have its name", || expected.is_subset(&thread_names()));
}

#[test]
fn try_go_gives_the_closure_back_at_the_limit() {
    let runtime = Runtime::builder().workers(2).max_goroutines(3).build().unwrap();
    runtime.run(|| {
        let door = Arc::new(Door::new());
        let waiting = || {
            let door = door.clone();
            move || door.pass()
        };
        let first = try_go(waiting()).unwrap();
        let second = try_go(waiting()).unwrap();
        let captured = Arc::new(7);
        let theirs = captured.clone();
        let refused = try_go(move || *theirs).unwrap_err();
        assert_eq!(refused.to_string(), "the runtime's limit of 3 goroutines is reached");
        assert_eq!(format!("{refused:?}"), "TryGoError { limit: 3, .. }");
        assert_eq!(Arc::strong_count(&captured), 2, "the closure is neither run nor dropped");
        assert_eq!(refused.into_inner()(), 7);
        assert_eq!(Arc::strong_count(&captured), 1);
        // `go` is not limited.
        assert_eq!(go(|| 1).join().unwrap(), 1);
        // There is room again once other goroutines have ended.
        door.open();
        first.join().unwrap();
        second.join().unwrap();
        wait_until("room", || try_go(|| ()).is_ok());
    });
}

/// Several race for the last places: never more than the limit run, and all that were accepted do.
#[test]
fn try_go_keeps_the_limit_under_contention() {
    const LIMIT: usize = 20;
    let runtime = Runtime::builder().workers(4).max_goroutines(LIMIT).build().unwrap();
    runtime.run(|| {
        let (alive, most, ran) =
            (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let starters = [(); 4].map(|()| {
            let (alive, most, ran) = (alive.clone(), most.clone(), ran.clone());
            go(move || {
                let mut accepted = 0;
                for _ in 0..2000 {
                    let (alive, most, ran) = (alive.clone(), most.clone(), ran.clone());
                    let started = try_go(move || {
                        let now = alive.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(now, Ordering::SeqCst);
                        yield_now();
                        ran.fetch_add(1, Ordering::SeqCst);
                        alive.fetch_sub(1, Ordering::SeqCst);
                    });
                    match started {
                        Ok(handle) => {
                            accepted += 1;
                            drop(handle);
                        }
                        Err(refused) => {
                            drop(refused);
                            yield_now();
                        }
                    }
                }
                accepted
            })
        });
        let accepted: usize = starters.map(|starter| starter.join().unwrap()).iter().sum();
        wait_until("all to end", || num_goroutines() == 1);
        assert_eq!(ran.load(Ordering::SeqCst), accepted);
        // Main and the four starters are goroutines, too.
        let most = most.load(Ordering::SeqCst);
        assert!(most < LIMIT, "{most} at once");
    });
}

#[test]
fn several_runtimes_at_once() {
    let names = ["carp", "perch", "pike"];
    let runtimes = names.map(|name| Runtime::builder().workers(2).thread_name(name).build().unwrap());
    thread::scope(|threads| {
        for (runtime, name) in runtimes.iter().zip(names) {
            threads.spawn(move || {
                runtime.run(|| {
                    // The goroutines that a goroutine starts belong to its own runtime, at any
                    // depth.
                    let handles: Vec<_> = (0..200)
                        .map(|_| go(|| go(|| thread::current().name().unwrap().to_owned()).join().unwrap()))
                        .collect();
                    for handle in handles {
                        assert!(handle.join().unwrap().starts_with(name));
                    }
                    wait_until("all to end", || num_goroutines() == 1);
                });
            });
        }
    });
    // Goroutines of two runtimes talk to each other.
    let [first, second, third] = &runtimes;
    let (there, back) = (Arc::new(Door::new()), Arc::new(Door::new()));
    let answering = second.go({
        let (there, back) = (there.clone(), back.clone());
        move || {
            there.pass();
            back.open();
        }
    });
    first.run(|| {
        there.open();
        back.pass();
        answering.join().unwrap();
    });
    assert_eq!(third.num_goroutines(), 0);
}

/// The runtime ends, the goroutines parked in it do not: their destructors do not run, and nothing
/// hangs.
#[test]
fn dropping_a_runtime_leaves_parked_goroutines_alone() {
    for workers in [1, 2, 4] {
        let dropped = Arc::new(AtomicBool::new(false));
        struct Notices(Arc<AtomicBool>);
        impl Drop for Notices {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let runtime = leaky_runtime(workers);
        let door = Arc::new(Door::new());
        let parked = runtime.go({
            let (notices, door) = (Notices(dropped.clone()), door.clone());
            move || {
                door.pass();
                drop(notices);
            }
        });
        runtime.run(|| wait_until("it to park", || door.has_waiters()));
        drop(runtime);
        assert!(!parked.is_finished());
        // It is too late for a goroutine without workers, but does no harm.
        door.open();
        assert!(!dropped.load(Ordering::SeqCst) && !parked.is_finished());
    }
}

/// The last owner of a runtime may be one of its own goroutines.
#[test]
fn a_goroutine_may_drop_its_own_runtime() {
    for workers in [1, 2] {
        let runtime = Arc::new(runtime(workers));
        let dropped = Arc::new(AtomicBool::new(false));
        let (own, done) = (runtime.clone(), dropped.clone());
        let door = Arc::new(Door::new());
        let entered = door.clone();
        drop(runtime.go(move || {
            entered.pass();
            drop(own);
            done.store(true, Ordering::SeqCst);
        }));
        drop(runtime);
        door.open();
        wait_until("the runtime to be dropped", || dropped.load(Ordering::SeqCst));
    }
}

/// A goroutine may drop it in the middle of its work, and goes on until it parks or yields.
#[test]
fn a_goroutine_that_drops_its_own_runtime_goes_on() {
    for workers in [1, 2] {
        let runtime = Arc::new(leaky_runtime(workers));
        let own = runtime.clone();
        let door = Arc::new(Door::new());
        let entered = door.clone();
        let (tell, told) = mpsc::channel();
        drop(runtime.go(move || {
            entered.pass();
            drop(own);
            // Operations that need not park do this.
            (0..1000).for_each(|_| checkpoint());
            tell.send("went on").unwrap();
            yield_now();
            tell.send("went on after a yield").unwrap();
        }));
        drop(runtime);
        door.open();
        assert_eq!(told.recv_timeout(PATIENCE), Ok("went on"));
        // Its stack is never used again, so the values on it are never dropped.
        assert_eq!(told.recv_timeout(Duration::from_millis(20)), Err(mpsc::RecvTimeoutError::Timeout));
    }
}

/// Goroutines that leave the scheduler no moment without work do not keep their runtime from
/// ending: not those that yield, nor those that only pass checkpoints, nor those that hand each
/// other the time slice.
#[test]
fn a_runtime_ends_though_its_goroutines_are_always_runnable() {
    let hand_to_and_fro = || {
        let turn = Arc::new(Gate::new(0));
        for me in 0..2 {
            let turn = turn.clone();
            go(move || {
                loop {
                    turn.wait(WaitReason::CondWait, None, |turn, _| Decision::ready_if(*turn == me));
                    turn.with(|turn, waiters| {
                        *turn = 1 - me;
                        waiters.unpark_all(0);
                    });
                }
            });
        }
    };
    let repeat = |busy: fn()| {
        go(move || {
            loop {
                busy();
            }
        });
    };
    for workers in [1, 2, 4] {
        for time in [0, 1, 15] {
            let starters: [&(dyn Fn() + Sync); 4] =
                [&hand_to_and_fro, &|| repeat(yield_now), &|| repeat(checkpoint), &|| {
                    (0..8).for_each(|i| if i % 2 == 0 { repeat(checkpoint) } else { hand_to_and_fro() })
                }];
            for start in starters {
                let runtime = leaky_runtime(workers);
                runtime.run(start);
                thread::sleep(Duration::from_millis(time));
                let (ended, end) = mpsc::channel();
                thread::spawn(move || {
                    drop(runtime);
                    ended.send(()).unwrap();
                });
                end.recv_timeout(PATIENCE).expect("the runtime to end");
            }
        }
    }
}

#[test]
fn goby_maxprocs_sets_the_default_runtimes_workers() {
    let test = "builder::goby_maxprocs_sets_the_default_runtimes_workers";
    let count_workers = || {
        go(|| ()).join().unwrap();
        let count = || thread_names().iter().filter(|name| name.starts_with("goby-worker")).count();
        // Each thread sets its name when it begins to run. At most as many threads as were asked
        // for do.
        let asked_for = std::env::var("GOBY_MAXPROCS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
        wait_until("the workers to have their names", || count() >= asked_for);
        crate::support::pause(Duration::from_millis(5));
        let workers = count();
        println!("{workers} workers");
    };
    let output = in_child_with(test, &[("GOBY_MAXPROCS", "3")], count_workers);
    assert!(String::from_utf8_lossy(&output.stdout).contains("3 workers"), "{output:?}");
    // As if the variable were not set.
    assert!(in_child_with(test, &[("GOBY_MAXPROCS", "")], count_workers).status.success());
    let output = in_child_with(test, &[("GOBY_MAXPROCS", "many")], count_workers);
    assert!(!output.status.success());
    assert!(stderr(&output).contains("GOBY_MAXPROCS=\"many\" is no number between 1 and 1024"), "{}", stderr(&output));
}

/// A runtime with nothing to do uses no processor: its workers sleep, and so does the monitor.
#[test]
fn an_idle_runtime_uses_no_processor() {
    let test = "builder::an_idle_runtime_uses_no_processor";
    let output = in_child_with(test, &[], || {
        let runtime = runtime(4);
        runtime.run(|| (0..100).for_each(|_| go(yield_now).join().unwrap()));
        let processor_time = || {
            let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
            time.tv_sec * 1_000_000 + time.tv_nsec / 1000
        };
        // A worker may look around for a while first.
        wait_until("an idle tenth of a second", || {
            let before = processor_time();
            thread::sleep(Duration::from_millis(100));
            processor_time() - before < 500
        });
    });
    assert!(output.status.success(), "{}", stderr(&output));
}
