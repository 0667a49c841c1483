//! A runtime that is shut down: what of it still runs, and what becomes of those who wait for it. Verdicts in child processes.

use std::process::Output;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use goby_runtime::{Timer, blocking, go, now, sleep_until};

use crate::support::{Door, in_child, leaky_runtime, runtime, stderr};

/// Long enough for a runtime to fall idle and to look for deadlocks, many times over.
const LONG: Duration = Duration::from_millis(300);

fn check_no_verdict(output: &Output) {
    assert!(output.status.success(), "{}: {}", output.status, stderr(output));
}

fn check_verdict(output: &Output) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("fatal error: all goroutines are asleep - deadlock!"), "{text}");
}

/// Drops a runtime of which a call on a helper thread is under way: it lasts for a while, and opens the door.
fn leave_a_call_behind(door: &'static Door) {
    let (begin, begun) = mpsc::channel();
    let runtime = leaky_runtime(1);
    runtime.go(move || {
        blocking(move || {
            begin.send(()).unwrap();
            thread::sleep(LONG);
            door.open();
        });
    });
    begun.recv().unwrap();
}

#[test]
fn a_blocking_call_that_outlives_its_runtime_is_no_deadlock() {
    check_no_verdict(&in_child("shut_down::a_blocking_call_that_outlives_its_runtime_is_no_deadlock", || {
        static DOOR: Door = Door::new();
        leave_a_call_behind(&DOOR);
        runtime(1).run(|| DOOR.pass());
    }));
}

/// The verdict comes once the call has ended, though nothing else tells that.
#[test]
fn a_deadlock_that_begins_with_the_end_of_such_a_call() {
    check_verdict(&in_child("shut_down::a_deadlock_that_begins_with_the_end_of_such_a_call", || {
        static OTHER: Door = Door::new();
        leave_a_call_behind(&OTHER);
        runtime(1).run(|| Door::new().pass());
    }));
}

/// It goes on until it parks, and may do anything until then.
#[test]
fn a_goroutine_that_drops_its_own_runtime_is_no_deadlock() {
    check_no_verdict(&in_child("shut_down::a_goroutine_that_drops_its_own_runtime_is_no_deadlock", || {
        static DOOR: Door = Door::new();
        let (give, take) = mpsc::channel();
        let own = leaky_runtime(1);
        own.go(move || {
            drop(take.recv().unwrap());
            thread::sleep(LONG);
            DOOR.open();
        });
        give.send(own).unwrap();
        runtime(1).run(|| DOOR.pass());
    }));
}

/// What a goroutine that never ran owned is dropped by the thread that shuts down: a destructor may do anything, too.
#[test]
fn a_destructor_of_what_never_ran_is_no_deadlock() {
    struct OpensLate(&'static Door);
    impl Drop for OpensLate {
        fn drop(&mut self) {
            thread::sleep(LONG);
            self.0.open();
        }
    }
    check_no_verdict(&in_child("shut_down::a_destructor_of_what_never_ran_is_no_deadlock", || {
        static DOOR: Door = Door::new();
        let (give, take) = mpsc::channel();
        let own = leaky_runtime(1);
        own.go(move || {
            let opens = OpensLate(&DOOR);
            go(move || drop(opens));
            drop(take.recv().unwrap());
        });
        give.send(own).unwrap();
        runtime(1).run(|| DOOR.pass());
    }));
}

/// It fires, and may wake anybody.
#[test]
fn a_timer_that_outlives_its_runtime_is_no_deadlock() {
    check_no_verdict(&in_child("shut_down::a_timer_that_outlives_its_runtime_is_no_deadlock", || {
        static DOOR: Door = Door::new();
        let first = runtime(1);
        let timer = first.run(|| {
            let timer = Timer::new(|_| DOOR.open());
            timer.start(now() + LONG);
            timer
        });
        drop(first);
        runtime(1).run(|| DOOR.pass());
        drop(timer);
    }));
}

#[test]
fn a_deadlock_that_begins_with_the_firing_of_such_a_timer() {
    check_verdict(&in_child("shut_down::a_deadlock_that_begins_with_the_firing_of_such_a_timer", || {
        let first = leaky_runtime(1);
        let timer = first.run(|| {
            let timer = Timer::new(|_| ());
            timer.start(now() + LONG);
            timer
        });
        // A sleeper of the runtime that has ended wakes nobody.
        first.go(|| sleep_until(now() + 1000 * LONG));
        drop(first);
        runtime(1).run(|| Door::new().pass());
        drop(timer);
    }));
}
