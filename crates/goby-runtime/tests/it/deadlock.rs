//! When the runtime says that no goroutine can ever run again, and when it must not say so. Each
//! test runs in a child process.

use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::Output;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use goby_runtime::{DeadlockPolicy, Direction, Runtime, Source, Timer, block_on, blocking, go, now, spawn, yield_now};

use crate::support::{Door, in_child, leaky_runtime, pause, runtime, stderr, wait_until};

/// Long enough for the runtime to fall idle and to look for deadlocks, many times over.
const LONG: Duration = Duration::from_millis(300);

fn check_verdict(output: &Output) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("fatal error: all goroutines are asleep - deadlock!"), "{text}");
}

fn check_no_verdict(output: &Output) {
    assert!(output.status.success(), "{}: {}", output.status, stderr(output));
}

#[test]
fn c281_a_main_that_parks_for_ever() {
    check_verdict(&in_child("deadlock::c281_a_main_that_parks_for_ever", || runtime(2).run(|| Door::new().pass())));
}

/// A thousand goroutines in a ring, each waiting for the next.
#[test]
fn s39_a_ring_of_goroutines() {
    let output = in_child("deadlock::s39_a_ring_of_goroutines", || {
        runtime(2).run(|| {
            let doors: Vec<_> = (0..1000).map(|_| Arc::new(Door::new())).collect();
            for i in 0..1000 {
                let (own, next) = (doors[i].clone(), doors[(i + 1) % 1000].clone());
                go(move || {
                    next.pass();
                    own.open();
                });
            }
            doors[0].pass();
        });
    });
    check_verdict(&output);
    assert!(stderr(&output).contains("1001 goroutines"), "{}", stderr(&output));
}

/// The verdict comes after the last goroutine that could go on has ended, here after a sleep.
#[test]
fn s39_no_verdict_while_one_sleeps() {
    let output = in_child("deadlock::s39_no_verdict_while_one_sleeps", || {
        runtime(1).run(|| {
            go(|| {
                pause(LONG);
                println!("slept");
            });
            Door::new().pass();
        });
    });
    check_verdict(&output);
    assert!(String::from_utf8_lossy(&output.stdout).contains("slept"));
}

#[test]
fn plain_threads_that_wait_for_goroutines_cannot_help() {
    check_verdict(&in_child("deadlock::plain_threads_that_wait_for_goroutines_cannot_help", || {
        static DOOR: Door = Door::new();
        thread::spawn(|| DOOR.pass());
        runtime(1).run(|| DOOR.pass());
    }));
}

/// The verdict also comes when the last thread that could have helped ends, or parks, long after
/// all others.
#[test]
fn a_deadlock_that_begins_with_the_end_of_a_thread() {
    check_verdict(&in_child("deadlock::a_deadlock_that_begins_with_the_end_of_a_thread", || {
        thread::spawn(|| thread::sleep(LONG));
        runtime(1).run(|| Door::new().pass());
    }));
}

#[test]
fn a_deadlock_that_begins_with_the_parking_of_a_thread() {
    check_verdict(&in_child("deadlock::a_deadlock_that_begins_with_the_parking_of_a_thread", || {
        static DOOR: Door = Door::new();
        thread::spawn(|| {
            thread::sleep(LONG);
            DOOR.pass();
        });
        runtime(1).run(|| DOOR.pass());
    }));
}

/// While there is a socket the monitors do not look again by themselves, and no worker wakes when a
/// thread closes it.
#[test]
fn a_deadlock_that_begins_when_a_thread_closes_a_socket() {
    check_verdict(&in_child("deadlock::a_deadlock_that_begins_when_a_thread_closes_a_socket", || {
        thread::spawn(|| {
            let (ours, _theirs) = UnixStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            let source = Source::new(ours);
            assert!(source.wait(Direction::Read, 0, Some(now())).is_err());
            thread::sleep(LONG);
            drop(source);
        });
        runtime(1).run(|| Door::new().pass());
    }));
}

#[test]
fn the_policy_may_be_to_go_on_waiting() {
    let output = in_child("deadlock::the_policy_may_be_to_go_on_waiting", || {
        let runtime = Runtime::builder().workers(1).on_deadlock(DeadlockPolicy::Ignore).build().unwrap();
        // SAFETY: `alarm` only sets the process's timer.
        unsafe { libc::alarm(1) };
        runtime.run(|| Door::new().pass());
    });
    assert_eq!(output.status.signal(), Some(libc::SIGALRM), "{}", stderr(&output));
}

/// A timer, a socket, a helper thread, a plain thread and a future's waker can each still unpark a
/// goroutine.
#[test]
fn c285_what_can_still_happen_is_no_deadlock() {
    check_no_verdict(&in_child("deadlock::c285_what_can_still_happen_is_no_deadlock", || {
        let runtime = runtime(2);
        // A timer.
        runtime.run(|| {
            let door = Arc::new(Door::new());
            let opens = door.clone();
            let timer = Timer::new(move |_| opens.open());
            timer.start(now() + LONG);
            door.pass();
        });
        // A call on a helper thread.
        runtime.run(|| blocking(|| thread::sleep(LONG)));
        // A plain thread.
        let door = Arc::new(Door::new());
        let opens = door.clone();
        thread::spawn(move || {
            thread::sleep(LONG);
            opens.open();
        });
        runtime.run(|| door.pass());
        // A socket; the other end is in another process.
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut child =
            std::process::Command::new("sleep").arg("0.3").stdin(std::os::fd::OwnedFd::from(theirs)).spawn().unwrap();
        ours.set_nonblocking(true).unwrap();
        runtime.run(|| Source::new(ours).wait(Direction::Read, 0, None).unwrap());
        child.wait().unwrap();
        // A task.
        runtime.run(|| {
            block_on(spawn(async { block_on(async { pause(Duration::from_millis(1)) }) }));
        });
    }));
}

/// A future waits inside its poll for what a goroutine of its worker would do, which is runnable.
/// The verdict comes although no worker is idle, and shows all that wait: goroutines of other
/// workers, the future as its worker's thread, and how many of that worker's goroutines there are.
#[test]
fn a_future_that_keeps_the_worker_of_the_goroutine_that_it_waits_for() {
    let output = in_child("deadlock::a_future_that_keeps_the_worker_of_the_goroutine_that_it_waits_for", || {
        let door = Arc::new(Door::new());
        runtime(1).run(|| {
            let waits = door.clone();
            spawn(async move { waits.pass() }).detach();
            // It is runnable while the future waits, and never runs again.
            while !door.has_waiters() {
                yield_now();
            }
            door.open();
        });
    });
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    let verdict = "fatal error: all goroutines are asleep, or cannot run because a future that waits inside its poll \
                   keeps their worker - deadlock!\n\n1 goroutine and 1 thread are parked forever\n";
    assert!(text.contains(verdict), "{text}");
    assert!(text.contains("thread goby-worker-0 [sync.Cond.Wait]:\n"), "{text}");
    assert!(text.contains("pass\n\ttests/it/support.rs:"), "{text}");
    assert!(
        text.contains("worker 0 is kept by a future: up to 1 goroutines that are pinned to it are not shown"),
        "{text}"
    );
}

/// As long as something else may end its wait, that is no verdict: a thread, a goroutine of another
/// runtime that sleeps, a call on a helper thread.
#[test]
fn a_future_that_waits_inside_its_poll_for_others_is_no_deadlock() {
    check_no_verdict(&in_child("deadlock::a_future_that_waits_inside_its_poll_for_others_is_no_deadlock", || {
        let (first, second) = (runtime(1), runtime(1));
        let begin = || {
            let door = Arc::new(Door::new());
            let waits = door.clone();
            let task = first.run(|| spawn(async move { waits.pass() }));
            wait_until("the future to wait", || door.has_waiters());
            (door, task)
        };
        let (door, task) = begin();
        let thread = thread::spawn(move || {
            thread::sleep(LONG);
            door.open();
        });
        task.join().unwrap();
        thread.join().unwrap();
        let (door, task) = begin();
        second.go(move || {
            pause(LONG);
            door.open();
        });
        task.join().unwrap();
        let (door, task) = begin();
        second.go(move || {
            blocking(|| thread::sleep(LONG));
            door.open();
        });
        task.join().unwrap();
    }));
}

/// A goroutine that waits for another runtime waits for something that may still happen.
#[test]
fn another_runtime_at_work_is_no_deadlock() {
    check_no_verdict(&in_child("deadlock::another_runtime_at_work_is_no_deadlock", || {
        let (first, second) = (runtime(1), runtime(1));
        // A computation there.
        let busy = second.go(|| {
            let start = now();
            while now() - start < LONG {
                std::hint::spin_loop();
            }
        });
        first.run(|| busy.join().unwrap());
        // A sleeping goroutine there.
        let sleeping = second.go(|| pause(LONG));
        first.run(|| sleeping.join().unwrap());
        // A call on one of its helper threads.
        let calling = second.go(|| blocking(|| thread::sleep(LONG)));
        first.run(|| calling.join().unwrap());
        // A timer of the default runtime.
        let door = Arc::new(Door::new());
        let opens = door.clone();
        let timer = Timer::new(move |_| opens.open());
        timer.start(now() + LONG);
        first.run(|| door.pass());
    }));
}

/// Goroutines that are left behind are not a deadlock once main has returned: the program goes on,
/// and ends by itself.
#[test]
fn goroutines_left_behind_are_no_deadlock() {
    check_no_verdict(&in_child("deadlock::goroutines_left_behind_are_no_deadlock", || {
        let runtime = leaky_runtime(2);
        for _ in 0..100 {
            runtime.run(|| {
                go(|| Door::new().pass());
            });
        }
        thread::sleep(LONG);
    }));
}

/// Between runs a runtime has no goroutine, and that is not a deadlock.
#[test]
fn an_idle_runtime_is_no_deadlock() {
    check_no_verdict(&in_child("deadlock::an_idle_runtime_is_no_deadlock", || {
        let runtime = runtime(2);
        runtime.run(|| ());
        thread::sleep(LONG);
        runtime.run(|| ());
    }));
}

/// The first line of a report is Go's.
#[test]
fn s39_the_report_begins_with_its_first_line() {
    let output = in_child("deadlock::s39_the_report_begins_with_its_first_line", || {
        let runtime = runtime(2);
        let child = runtime.go(|| Door::new().pass());
        runtime.run(|| {
            // The child has parked before.
            pause(Duration::from_millis(1));
            child.join().unwrap();
        });
    });
    check_verdict(&output);
    assert!(stderr(&output).starts_with("fatal error: all goroutines are asleep - deadlock!\n"), "{}", stderr(&output));
}

/// After the verdict comes the dump: for each goroutine, why it waits, where it is, and where it
/// was started.
#[test]
fn the_report_shows_all_goroutines() {
    let output = in_child("deadlock::the_report_shows_all_goroutines", || {
        runtime(2).run(|| {
            let door = Arc::new(Door::new());
            for _ in 0..30 {
                let door = door.clone();
                go(move || door.pass());
            }
            go(|| Door::new().pass()).join().unwrap();
        });
    });
    check_verdict(&output);
    let text = stderr(&output);
    assert!(text.contains("\n32 goroutines are parked forever\n\ngoroutine 1 [join]:\n"), "{text}");
    assert!(text.contains("and 29 more alike: "), "{text}");
    assert!(text.contains("created by goroutine 1 at crates/goby-runtime/tests/it/deadlock.rs:"), "{text}");
    assert!(text.contains("pass\n\ttests/it/support.rs:"), "{text}");
    assert_eq!(text.matches("[sync.Cond.Wait]:").count(), 2, "{text}");
}

/// No goroutine is left, and main will not go on. That has another text.
#[test]
fn c283_main_ends_by_goexit_and_all_others_have_ended() {
    let output = in_child("deadlock::c283_main_ends_by_goexit_and_all_others_have_ended", || {
        runtime(2).run(|| {
            for _ in 0..2 {
                go(|| (0..100).for_each(|_| goby_runtime::yield_now()));
            }
            goby_runtime::goexit();
        });
    });
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert_eq!(text, "fatal error: no goroutines (main called runtime.Goexit) - deadlock!\n");
}

/// If main has ended by `goexit`, that is not a deadlock as long as another goroutine can go on. If
/// all others are stuck, it is one.
#[test]
fn s39_main_ends_by_goexit_and_another_is_stuck() {
    let output = in_child("deadlock::s39_main_ends_by_goexit_and_another_is_stuck", || {
        runtime(2).run(|| {
            go(|| {
                pause(LONG);
                println!("slept");
                Door::new().pass();
            });
            goby_runtime::goexit();
        });
    });
    check_verdict(&output);
    assert!(String::from_utf8_lossy(&output.stdout).contains("slept"));
}

/// The verdict as an error. After it the caller goes on, and so does the goroutine if it is
/// unparked later.
#[test]
fn a_deadlock_can_come_back_as_an_error() {
    check_no_verdict(&in_child("deadlock::a_deadlock_can_come_back_as_an_error", || {
        let runtime = leaky_runtime(2);
        assert_eq!(runtime.try_run(|| 7).unwrap(), 7);
        let (door, ended) = (Arc::new(Door::new()), Arc::new(Door::new()));
        for _ in 0..3 {
            let (waits, ends) = (door.clone(), ended.clone());
            let deadlock = runtime
                .try_run(move || {
                    waits.pass();
                    ends.open();
                })
                .unwrap_err();
            assert_eq!(deadlock.to_string(), "all goroutines are asleep - deadlock!");
            assert!(deadlock.dump().to_string().contains("[sync.Cond.Wait]:"));
        }
        assert_eq!(runtime.num_goroutines(), 3);
        door.open();
        ended.pass();
        // A panic and a value still come out.
        let panics = std::panic::AssertUnwindSafe(|| runtime.try_run(|| panic!("out")));
        assert!(std::panic::catch_unwind(panics).is_err());
        assert_eq!(runtime.try_run(|| go(|| 8).join().unwrap()).unwrap(), 8);
        // From inside a goroutine of another runtime.
        let inner = leaky_runtime(1);
        let seen = runtime.run(|| inner.try_run(|| Door::new().pass()).is_err());
        assert!(seen);
    }));
}

/// The monitors of two runtimes find the deadlock at once. The one that comes second has looked at
/// what was before the first has told.
#[test]
fn a_deadlock_that_has_come_back_is_reported_by_no_other_runtime() {
    check_no_verdict(&in_child("deadlock::a_deadlock_that_has_come_back_is_reported_by_no_other_runtime", || {
        let (outer, inner) = (leaky_runtime(1), Arc::new(leaky_runtime(1)));
        for _ in 0..100 {
            let inner = inner.clone();
            assert!(outer.run(move || inner.try_run(|| Door::new().pass()).is_err()));
        }
    }));
}
