//! A runtime that is shut down: which parts of it still run, and what happens to the waiters for
//! it. Verdicts are in child processes.

use std::any::Any;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use goby_runtime::{
    NeverRan, PanicPolicy, Runtime, Timer, block_on, blocking, go, go_owing, now, scope, sleep_until, spawn,
};

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

/// Drops a runtime while a call on its helper thread is under way: the call lasts for a while, and
/// opens the door.
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

/// The goroutine goes on until it parks, and may do anything until then.
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

/// The thread that shuts down drops the values of a goroutine that never ran. A destructor may do
/// anything, too.
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

/// The timer fires, and may unpark any goroutine.
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

/// Calls `f` on a thread that belongs to a runtime that has been dropped.
fn on_a_helper_of_a_dropped_runtime<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    let runtime = leaky_runtime(1);
    let ((begin, begun), (tell, told), (give, take)) = (mpsc::channel(), mpsc::channel(), mpsc::channel());
    runtime.go(move || {
        blocking(move || {
            begin.send(()).unwrap();
            told.recv().unwrap();
            give.send(f()).unwrap();
        });
    });
    begun.recv().unwrap();
    drop(runtime);
    tell.send(()).unwrap();
    take.recv().unwrap()
}

fn panic_text(payload: &(dyn Any + Send)) -> &str {
    payload.downcast_ref::<String>().map(String::as_str).or(payload.downcast_ref::<&str>().copied()).unwrap()
}

/// Nothing borrowed is touched, and nobody takes the missing run for success.
#[test]
fn a_scope_whose_goroutine_never_ran_panics() {
    on_a_helper_of_a_dropped_runtime(|| {
        let mut numbers = vec![1];
        let panic = catch_unwind(AssertUnwindSafe(|| scope(|s| _ = s.go(|| numbers.push(2))))).unwrap_err();
        assert_eq!(panic_text(&*panic), NeverRan::MESSAGE);
        assert_eq!(numbers, [1]);
        // A joiner learns of it by the join.
        let joined = scope(|s| s.go(|| numbers.push(2)).join());
        assert_eq!(joined.unwrap_err().message(), Some(NeverRan::MESSAGE));
    });
}

#[test]
fn a_future_that_is_canceled_is_joined() {
    on_a_helper_of_a_dropped_runtime(|| {
        let error = spawn(async { 7 }).join().unwrap_err();
        assert_eq!(error.message(), Some("the runtime was shut down before the future ended"));
        let awaited = catch_unwind(|| block_on(spawn(async { 7 })));
        assert_eq!(panic_text(&*awaited.unwrap_err()), "the runtime was shut down before the future ended");
    });
}

/// A future's destructor may panic, also if the future never ran. That is reported, and the other
/// futures are still canceled.
#[test]
fn the_destructors_of_canceled_futures_may_panic() {
    struct Breaks;
    impl Future for Breaks {
        type Output = ();
        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
            unreachable!()
        }
    }
    impl Drop for Breaks {
        fn drop(&mut self) {
            panic!("a destructor that breaks");
        }
    }
    let output = in_child("shut_down::the_destructors_of_canceled_futures_may_panic", || {
        let (give, take) = mpsc::channel();
        let own = leaky_runtime(1);
        let first = own.go(move || {
            let queued = [spawn(Breaks), spawn(Breaks)];
            spawn(Breaks).detach();
            drop(take.recv().unwrap());
            queued
        });
        give.send(own).unwrap();
        for task in first.join().unwrap() {
            assert_eq!(task.join().unwrap_err().message(), Some("the runtime was shut down before the future ended"));
        }
        // A future that is spawned after that.
        on_a_helper_of_a_dropped_runtime(|| assert!(spawn(Breaks).join().is_err()));
        // And one that is spawned on a stack that unwinds.
        let unwound = on_a_helper_of_a_dropped_runtime(|| {
            struct Spawns;
            impl Drop for Spawns {
                fn drop(&mut self) {
                    spawn(Breaks).detach();
                }
            }
            catch_unwind(|| {
                let _spawns = Spawns;
                panic!("the caller's own");
            })
        });
        assert_eq!(panic_text(&*unwound.unwrap_err()), "the caller's own");
    });
    check_no_verdict(&output);
    let text = stderr(&output);
    let report = "a spawned future, or its output, panicked when it was dropped: a destructor that breaks";
    assert_eq!(text.matches(report).count(), 5, "{text}");
}

/// The debt of a goroutine that never ran is paid after the destructors of its closure, whatever
/// they do.
#[test]
fn a_debt_is_paid_without_the_goroutine() {
    struct Panics(Arc<AtomicBool>);
    impl Drop for Panics {
        fn drop(&mut self) {
            assert!(!self.0.load(Ordering::SeqCst), "paid before");
            panic!("in a destructor");
        }
    }
    on_a_helper_of_a_dropped_runtime(|| {
        let paid = Arc::new(AtomicBool::new(false));
        let captured = Panics(paid.clone());
        let run = move |_: Arc<AtomicBool>| drop(captured);
        go_owing(Location::caller(), paid.clone(), run, |paid| paid.store(true, Ordering::SeqCst));
        assert!(paid.load(Ordering::SeqCst));
    });
}

/// Nothing has panicked.
#[test]
fn a_goroutine_that_never_ran_is_no_panic() {
    let output = in_child("shut_down::a_goroutine_that_never_ran_is_no_panic", || {
        let (give, take) = mpsc::channel();
        let own = Runtime::builder().workers(1).on_panic(PanicPolicy::Abort).build().unwrap();
        let first = own.go(move || {
            let second = go(|| unreachable!());
            drop(take.recv().unwrap());
            second
        });
        give.send(own).unwrap();
        let second = first.join().unwrap();
        while !second.is_finished() {
            thread::yield_now();
        }
        drop(second);
    });
    check_no_verdict(&output);
    assert_eq!(stderr(&output), "");
}
