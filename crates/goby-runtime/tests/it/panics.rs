//! Panics: they stay in their goroutine, reach the joiner, and do not disturb others, not even
//! while unwinding parks.

use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind, set_hook};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use goby_runtime::{JoinError, PanicPolicy, Runtime, blocking, go, goexit, scope, spawn, yield_now};

use crate::support::{Door, in_child, in_child_with, on_workers, pause, runtime, stderr, wait_until, with_workers};
use goby_test_support::this_program;

#[test]
fn the_payload_reaches_join() {
    #[derive(Debug, PartialEq)]
    struct Payload(u32);
    with_workers(|| {
        let payload = go(|| panic!("a text")).join().unwrap_err();
        assert_eq!(*payload.downcast::<&str>().unwrap(), "a text");
        let number = 7;
        let payload = go(move || panic!("number {number}")).join().unwrap_err();
        assert_eq!(*payload.downcast::<String>().unwrap(), "number 7");
        let payload = go(|| panic_any(Payload(3))).join().unwrap_err();
        assert_eq!(*payload.downcast::<Payload>().unwrap(), Payload(3));
    });
}

/// What `unwrap` and `?` show of a join without a result.
#[test]
fn a_join_error_says_what_happened() {
    #[derive(Debug, PartialEq)]
    struct Payload(u32);
    with_workers(|| {
        let texts = |error: JoinError| (format!("{error:?}"), error.to_string());
        let text = |debug: &str, display: &str| (debug.to_owned(), display.to_owned());
        let quoted = text(r#"JoinError("a \"text\"")"#, r#"panicked: a "text""#);
        assert_eq!(texts(go(|| panic!("a \"text\"")).join().unwrap_err()), quoted);
        let number = 7;
        let formatted = text(r#"JoinError("number 7")"#, "panicked: number 7");
        assert_eq!(texts(go(move || panic!("number {number}")).join().unwrap_err()), formatted);
        assert_eq!(texts(spawn(async move { panic!("number {number}") }).join().unwrap_err()), formatted);
        let scoped = scope(|s| s.go(move || panic!("number {number}")).join().unwrap_err());
        assert_eq!(texts(scoped), formatted);
        let other = text("JoinError(..)", "panicked: (a panic payload that is no text)");
        assert_eq!(texts(go(|| panic_any(Payload(3))).join().unwrap_err()), other);
        let ended = text("JoinError(Goexit)", "the goroutine ended by goexit");
        assert_eq!(texts(go(|| goexit()).join().unwrap_err()), ended);

        let mut error = go(|| panic_any(Payload(3))).join().unwrap_err();
        assert_eq!((error.is::<Payload>(), error.message()), (true, None));
        error.downcast_mut::<Payload>().unwrap().0 = 4;
        let error = error.downcast::<u8>().unwrap_err();
        assert_eq!(*error.downcast::<Payload>().unwrap(), Payload(4));
        let boxed: Box<dyn std::error::Error> = go(|| panic!("boxed")).join().unwrap_err().into();
        assert_eq!(boxed.to_string(), "panicked: boxed");
    });
}

/// A payload that is raised again is the same box, however often.
#[test]
fn c295_a_payload_survives_resume_unwind_unchanged() {
    with_workers(|| {
        let sent = Arc::new(());
        let mut payload: Box<dyn std::any::Any + Send> = Box::new(sent.clone());
        for _ in 0..5 {
            payload = go(move || -> () { resume_unwind(payload) }).join().unwrap_err().into_payload();
        }
        assert!(Arc::ptr_eq(&sent, &payload.downcast::<Arc<()>>().unwrap()));
    });
}

#[test]
fn a_panic_of_main_comes_out_of_run() {
    let payload = catch_unwind(|| runtime(2).run(|| panic!("main"))).unwrap_err();
    assert_eq!(*payload.downcast::<&str>().unwrap(), "main");
}

#[test]
fn workers_survive_many_panics() {
    with_workers(|| {
        let caught = Arc::new(AtomicUsize::new(0));
        let handles: Vec<_> = (0..300)
            .map(|i| {
                let caught = caught.clone();
                go(move || {
                    yield_now();
                    if i % 2 == 0 {
                        panic_any(i);
                    }
                    // A panic caught inside leaves no trace.
                    assert!(catch_unwind(|| panic_any(())).is_err());
                    yield_now();
                    assert!(!thread::panicking());
                    caught.fetch_add(1, Ordering::Relaxed);
                })
            })
            .collect();
        let failed = handles.into_iter().filter_map(|handle| handle.join().err());
        let payloads: Vec<i32> = failed.map(|payload| *payload.downcast().unwrap()).collect();
        assert_eq!(payloads, (0..300).step_by(2).collect::<Vec<_>>());
        assert_eq!(caught.load(Ordering::Relaxed), 150);
    });
}

/// Parks when dropped, at the given door.
struct PassesWhenDropped(Arc<Door>);

impl Drop for PassesWhenDropped {
    fn drop(&mut self) {
        assert!(thread::panicking());
        self.0.pass();
        // Back on the stack that unwinds, as before the wait.
        assert!(thread::panicking());
        yield_now();
        assert!(thread::panicking());
    }
}

/// Asks for the panic of its goroutine when dropped, around a park.
struct KnowsItPanics;

impl Drop for KnowsItPanics {
    fn drop(&mut self) {
        assert!(goby_runtime::panicking());
        yield_now();
        assert!(goby_runtime::panicking());
    }
}

/// A goroutine parks in a destructor while it unwinds. Others on the same thread panic, catch
/// panics, and do not poison locks; the first then goes on unwinding and its payload arrives.
///
/// `thread::panicking()` belongs to the thread, so it is true for the others meanwhile;
/// `goby_runtime::panicking()` is not.
#[test]
fn a_destructor_may_park_while_unwinding() {
    with_workers(|| {
        for _ in 0..20 {
            let door = Arc::new(Door::new());
            let unwinding = go({
                let door = door.clone();
                move || {
                    let _parks = PassesWhenDropped(door);
                    let _knows = KnowsItPanics;
                    panic!("first");
                }
            });
            wait_until("the destructor to park", || door.has_waiters());
            assert!(!goby_runtime::panicking());
            let others: Vec<_> = (0..8)
                .map(|i| {
                    go(move || {
                        assert!(!goby_runtime::panicking(), "a new goroutine is panicking");
                        let lock = Mutex::new(0);
                        *lock.lock().unwrap() += 1;
                        assert!(!lock.is_poisoned());
                        let caught = catch_unwind(|| panic_any(i)).unwrap_err();
                        assert_eq!(*caught.downcast::<i32>().unwrap(), i);
                        yield_now();
                        assert!(!goby_runtime::panicking());
                        panic_any(i);
                    })
                })
                .collect();
            for (i, other) in others.into_iter().enumerate() {
                assert_eq!(*other.join().unwrap_err().downcast::<i32>().unwrap(), i as i32);
            }
            assert!(!unwinding.is_finished());
            door.open();
            assert_eq!(*unwinding.join().unwrap_err().downcast::<&str>().unwrap(), "first");
            assert!(!goby_runtime::panicking());
            assert!(!thread::panicking());
        }
    });
}

/// Many unwindings overlap on one thread and end in another order than they began.
#[test]
fn unwindings_overlap_in_any_order() {
    on_workers(1, || {
        const COUNT: usize = 50;
        let doors: Vec<_> = (0..COUNT).map(|_| Arc::new(Door::new())).collect();
        let mut handles: Vec<_> = (0..COUNT)
            .map(|i| {
                let door = doors[i].clone();
                go(move || {
                    let _parks = PassesWhenDropped(door);
                    panic_any(i);
                })
            })
            .map(Some)
            .collect();
        wait_until("all destructors to park", || doors.iter().all(|door| door.has_waiters()));
        // 7 and 50 have no common factor, so this visits all.
        for i in (0..COUNT).map(|step| step * 7 % COUNT) {
            doors[i].open();
            let payload = handles[i].take().unwrap().join().unwrap_err();
            assert_eq!(*payload.downcast::<usize>().unwrap(), i);
        }
        assert!(!thread::panicking(), "all panics have been caught");
    });
}

/// One destructor sleeps; another starts and joins a goroutine that itself panics.
#[test]
fn a_destructor_may_sleep_and_join_while_unwinding() {
    struct Busy;
    impl Drop for Busy {
        fn drop(&mut self) {
            pause(Duration::from_millis(1));
            let failed = go(|| panic_any(2)).join().unwrap_err();
            assert_eq!(*failed.downcast::<i32>().unwrap(), 2);
            assert!(thread::panicking());
            // A panic caught while unwinding, with a wait inside.
            let caught = catch_unwind(AssertUnwindSafe(|| {
                yield_now();
                panic_any(3)
            }));
            assert_eq!(*caught.unwrap_err().downcast::<i32>().unwrap(), 3);
        }
    }
    with_workers(|| {
        let handles = [(); 20].map(|()| {
            go(|| {
                let _busy = Busy;
                panic_any(1)
            })
        });
        for handle in handles {
            assert_eq!(*handle.join().unwrap_err().downcast::<i32>().unwrap(), 1);
        }
    });
}

#[test]
fn an_unjoined_panic_is_printed_with_id_and_start_place() {
    let output = in_child("panics::an_unjoined_panic_is_printed_with_id_and_start_place", || {
        runtime(1).run(|| {
            let handle = go(|| panic!("nobody joins me"));
            println!("goroutine {} starts in line {}", handle.id(), line!() - 1);
            drop(handle);
            wait_until("it to end", || goby_runtime::num_goroutines() == 1);
        });
    });
    let (text, stdout) = (stderr(&output), String::from_utf8_lossy(&output.stdout).into_owned());
    assert!(output.status.success(), "{text}");
    let (id, line) = stdout.split_once("goroutine ").and_then(|(_, rest)| rest.split_once(" starts in line ")).unwrap();
    let line = line.lines().next().unwrap();
    let report = text.lines().find(|report| report.contains("nobody joined it")).expect(&text);
    assert!(report.contains(&format!("goroutine {id},")), "{report}");
    assert!(report.contains(&format!("panics.rs:{line}:")), "{report}");
    assert!(report.ends_with("nobody joins me"), "{report}");
}

#[test]
fn a_joined_panic_is_not_reported() {
    let output = in_child("panics::a_joined_panic_is_not_reported", || {
        runtime(1).run(|| go(|| panic!("joined")).join().unwrap_err());
    });
    assert!(output.status.success());
    assert!(!stderr(&output).contains("nobody joined it"), "{}", stderr(&output));
}

#[test]
fn the_abort_policy_ends_the_process() {
    use std::os::unix::process::ExitStatusExt;
    let output = in_child("panics::the_abort_policy_ends_the_process", || {
        let runtime = Runtime::builder().workers(2).on_panic(PanicPolicy::Abort).build().unwrap();
        runtime.run(|| {
            go(|| panic!("fatal"));
            Door::new().pass();
        });
    });
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{}", stderr(&output));
    assert!(stderr(&output).contains("nobody joined it: fatal"), "{}", stderr(&output));
}

/// Results and payloads that panic when nobody wants them neither hang the runtime nor end the
/// process.
#[test]
fn destructors_of_unwanted_results_may_panic() {
    struct PanicsWhenDropped;
    impl Drop for PanicsWhenDropped {
        fn drop(&mut self) {
            panic!("in a destructor");
        }
    }
    let output = in_child("panics::destructors_of_unwanted_results_may_panic", || {
        runtime(2).run(|| {
            for _ in 0..10 {
                drop(go(|| PanicsWhenDropped));
                drop(go(|| panic_any(PanicsWhenDropped)));
                let handle = go(|| PanicsWhenDropped);
                wait_until("it to end", || handle.is_finished());
                drop(handle);
            }
            wait_until("all to end", || goby_runtime::num_goroutines() == 1);
            assert_eq!(go(|| 7).join().unwrap(), 7);
            println!("still alive");
        });
    });
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("still alive"));
}

/// With a full disk, or a pipe that nobody reads, a goroutine's panic must not end the process.
#[test]
fn a_report_that_cannot_be_written_is_lost() {
    const CHILD: &str = "GOBY_TEST_FULL";
    if std::env::var_os(CHILD).is_some() {
        let runtime = goby_runtime::Runtime::builder().workers(1).build().unwrap();
        drop(runtime.go(|| panic!("nobody joins it")));
        assert_eq!(runtime.run(|| 7), 7);
        return;
    }
    let status = this_program()
        .args(["--exact", "panics::a_report_that_cannot_be_written_is_lost", "--nocapture"])
        .env(CHILD, "")
        .stderr(std::fs::File::create("/dev/full").unwrap())
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

/// Starts two goroutines on one worker, which both begin, and then panic one after the other.
fn two_panic_under_this_hook(workers: usize, hook: impl Fn() + Send + Sync + 'static) {
    set_hook(Box::new(move |_| hook()));
    let runtime = Runtime::builder().workers(workers).build().unwrap();
    runtime.run(|| {
        let begun = Arc::new(AtomicUsize::new(0));
        let both = [(); 2].map(|()| {
            let begun = begun.clone();
            go(move || {
                begun.fetch_add(1, Ordering::SeqCst);
                while begun.load(Ordering::SeqCst) < 2 {
                    yield_now();
                }
                panic_any(7);
            })
        });
        for panics in both {
            assert!(*panics.join().unwrap_err().downcast::<i32>().unwrap() == 7);
        }
    });
    let _ = std::panic::take_hook();
    println!("goes on");
}

fn check_goes_on(output: &std::process::Output) {
    assert!(output.status.success(), "{}: {}", output.status, stderr(output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("goes on"));
}

/// std takes a neighbor's panic for one of the hook, and aborts the process. So the neighbor does
/// not run meanwhile.
#[test]
fn a_panic_hook_that_waits_keeps_its_thread() {
    check_goes_on(&in_child("panics::a_panic_hook_that_waits_keeps_its_thread", || {
        let door = Arc::new(Door::new());
        let opens = door.clone();
        thread::spawn(move || {
            wait_until("a hook to wait", || opens.has_waiters());
            // The neighbor could run now.
            pause(Duration::from_millis(20));
            opens.open();
        });
        two_panic_under_this_hook(1, move || door.pass());
    }));
}

/// Timers, slices that end, helper threads, and goroutines that the hook starts itself, also with a
/// single worker.
#[test]
fn a_panic_hook_may_wait_for_all_kinds_of_things() {
    check_goes_on(&in_child("panics::a_panic_hook_may_wait_for_all_kinds_of_things", || {
        for workers in [1, 2] {
            two_panic_under_this_hook(workers, || {
                pause(Duration::from_millis(5));
                yield_now();
                assert_eq!(blocking(|| 3), 3);
                for _ in 0..3 {
                    assert_eq!(go(|| 4).join().unwrap(), 4);
                }
            });
        }
    }));
}

/// The hook waits for a goroutine that is pinned to the worker that the hook keeps. goby says so,
/// and after a moment the goroutine runs.
#[test]
fn a_panic_hook_does_not_wait_forever_for_what_it_holds_up() {
    let output = in_child("panics::a_panic_hook_does_not_wait_forever_for_what_it_holds_up", || {
        let asked = Arc::new(Door::new());
        let answered = Arc::new(Door::new());
        let (asks, waits) = (asked.clone(), answered.clone());
        set_hook(Box::new(move |_| {
            asks.open();
            waits.pass();
        }));
        runtime(1).run(|| {
            let panics = go(|| panic_any(7));
            asked.pass();
            answered.open();
            assert!(panics.join().is_err());
        });
        println!("goes on");
    });
    check_goes_on(&output);
}

#[test]
fn a_panic_hook_that_waits_for_nothing_is_a_deadlock() {
    let output = in_child("panics::a_panic_hook_that_waits_for_nothing_is_a_deadlock", || {
        let door = Door::new();
        set_hook(Box::new(move |_| door.pass()));
        runtime(1).run(|| _ = go(|| panic_any(7)).join());
    });
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("all goroutines are asleep - deadlock!"), "{}", stderr(&output));
}

/// A hook waits while another goroutine of its worker is parked in a destructor that its own panic
/// runs.
#[test]
fn a_panic_hook_may_wait_beside_an_unwinding() {
    check_goes_on(&in_child("panics::a_panic_hook_may_wait_beside_an_unwinding", || {
        set_hook(Box::new(|_| pause(Duration::from_millis(5))));
        runtime(1).run(|| {
            let door = Arc::new(Door::new());
            let unwinds = go({
                let door = door.clone();
                move || {
                    let _parks = PassesWhenDropped(door);
                    panic_any(1);
                }
            });
            wait_until("the destructor to park", || door.has_waiters());
            for panics in [(); 3].map(|()| go(|| panic_any(7))) {
                assert!(panics.join().is_err());
            }
            door.open();
            assert!(unwinds.join().is_err());
            assert!(!thread::panicking());
        });
        println!("goes on");
    }));
}

/// As in Go, if the environment asks for it and the builder says nothing else.
#[test]
fn a_fatal_panic_that_nobody_joins_ends_the_process() {
    let test = "panics::a_fatal_panic_that_nobody_joins_ends_the_process";
    let body = || {
        let runtime = Runtime::builder().workers(1).build().unwrap();
        assert!(runtime.go(|| panic!("joined")).join().is_err());
        drop(runtime.go(|| panic!("nobody joins me")));
        wait_until("the panic was reported", || runtime.unjoined_panics().len() == 1);
        assert!(runtime.unjoined_panics()[0].contains("panicked and nobody joined it: nobody joins me"));
    };
    let output = in_child_with(test, &[("GOBY_PANICS", "fatal")], body);
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{}", stderr(&output));
    assert!(stderr(&output).contains("panicked and nobody joined it: nobody joins me"), "{}", stderr(&output));
    assert!(in_child_with(test, &[("GOBY_PANICS", "")], body).status.success());
    let output = in_child_with(test, &[("GOBY_PANICS", "yes")], body);
    assert!(stderr(&output).contains("change or unset it"), "{}", stderr(&output));
}

/// The environment does not change what the builder says.
#[test]
fn a_builder_that_wants_panics_printed_gets_that() {
    let test = "panics::a_builder_that_wants_panics_printed_gets_that";
    let output = in_child_with(test, &[("GOBY_PANICS", "fatal")], || {
        let runtime = Runtime::builder().workers(1).on_panic(PanicPolicy::Print).build().unwrap();
        drop(runtime.go(|| panic!("nobody joins me")));
        wait_until("the panic was reported", || runtime.unjoined_panics().len() == 1);
    });
    assert!(output.status.success(), "{}", stderr(&output));
}
