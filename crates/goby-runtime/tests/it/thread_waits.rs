//! Threads that wait in goby: they count in a deadlock's verdict as goroutines do. Each test runs
//! in a child process.

use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use goby_runtime::{DeadlockPolicy, Runtime, Timer, block_on, go, now, scope};

use crate::support::{Door, in_child, leaky_runtime, pause, runtime, stderr};

/// Long enough for many looks at deadlocks.
const LONG: Duration = Duration::from_millis(400);

/// Checks that a child has ended with a deadlock's report, and returns the report.
fn check_verdict(output: &Output) -> String {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.starts_with("fatal error: all goroutines are asleep - deadlock!\n"), "{text}");
    text
}

fn check_no_verdict(output: &Output) {
    assert!(output.status.success(), "{}: {}", output.status, stderr(output));
}

#[test]
fn main_alone_without_a_runtime_is_reported_with_its_place() {
    let output = in_child("thread_waits::main_alone_without_a_runtime_is_reported_with_its_place", || {
        Door::new().pass();
    });
    let text = check_verdict(&output);
    assert!(text.contains("\n1 thread is parked forever\n\nthread main [sync.Cond.Wait]:\n"), "{text}");
    // How the type is written, and whether it is, depends on the compiler and on the debug
    // information.
    assert!(text.contains("pass\n\ttests/it/support.rs:"), "{text}");
    // The thread's own calls, without the frames that run a thread.
    assert!(text.contains("\ttests/it/thread_waits.rs:") || text.contains("/tests/it/thread_waits.rs:"), "{text}");
    assert!(!text.contains("lang_start"), "{text}");
}

#[test]
fn all_threads_that_wait_are_listed_by_name() {
    let output = in_child("thread_waits::all_threads_that_wait_are_listed_by_name", || {
        static DOOR: Door = Door::new();
        thread::Builder::new().name("helper".into()).spawn(|| DOOR.pass()).unwrap();
        thread::spawn(|| DOOR.pass());
        DOOR.pass();
    });
    let text = check_verdict(&output);
    assert!(text.contains("\n3 threads are parked forever\n"), "{text}");
    assert!(text.contains("\nthread helper [sync.Cond.Wait]:\n"), "{text}");
    assert_eq!(text.matches("pass\n\ttests/it/support.rs:").count(), 3, "{text}");
    let rest = text.replacen("thread main [", "", 1).replacen("thread helper [", "", 1);
    let number = rest.split("\nthread ").nth(1).unwrap().split(' ').next().unwrap();
    assert!(number.parse::<u32>().is_ok(), "a thread without a name has a number: {text}");
}

#[test]
fn goroutines_and_threads_are_listed_together() {
    let output = in_child("thread_waits::goroutines_and_threads_are_listed_together", || {
        let door = Arc::new(Door::new());
        let waits = door.clone();
        let _handle = go(move || waits.pass());
        door.pass();
    });
    let text = check_verdict(&output);
    assert!(text.contains("\n1 goroutine and 1 thread are parked forever\n"), "{text}");
    let (goroutine, thread) = (text.find("\ngoroutine 1 ["), text.find("\n\nthread main ["));
    assert!(goroutine.is_some() && goroutine < thread, "{text}");
}

/// A thread in `run` is not listed besides the goroutine that does its work.
#[test]
fn who_waits_in_run_is_not_listed() {
    let output = in_child("thread_waits::who_waits_in_run_is_not_listed", || runtime(1).run(|| Door::new().pass()));
    let text = check_verdict(&output);
    assert!(text.contains("\n1 goroutine is parked forever\n"), "{text}");
    assert!(!text.contains("\nthread "), "{text}");
}

#[test]
fn main_that_waits_beside_an_idle_runtime_is_reported() {
    let output = in_child("thread_waits::main_that_waits_beside_an_idle_runtime_is_reported", || {
        let runtime = runtime(2);
        runtime.run(|| ());
        Door::new().pass();
    });
    assert!(check_verdict(&output).contains("\n1 thread is parked forever\n"));
}

/// The last monitor ends while a thread waits. From then on the thread has to look itself.
#[test]
fn a_thread_that_waits_while_the_last_runtime_goes_is_reported() {
    let output = in_child("thread_waits::a_thread_that_waits_while_the_last_runtime_goes_is_reported", || {
        static DOOR: Door = Door::new();
        let runtime = runtime(1);
        thread::spawn(move || {
            while !DOOR.has_waiters() {
                thread::yield_now();
            }
            // Now it sleeps, for longer than the time between its first looks.
            thread::sleep(LONG);
            drop(runtime);
        });
        DOOR.pass();
    });
    assert!(check_verdict(&output).contains("\n1 thread is parked forever\n"));
}

#[test]
fn threads_in_a_ring_of_joins_and_scopes_are_reported() {
    let output = in_child("thread_waits::threads_in_a_ring_of_joins_and_scopes_are_reported", || {
        scope(|s| {
            s.go(|| Door::new().pass());
        });
    });
    let text = check_verdict(&output);
    assert!(text.contains("thread main [scope wait]:"), "{text}");
}

#[test]
fn a_future_that_nobody_wakes_is_reported() {
    let output = in_child("thread_waits::a_future_that_nobody_wakes_is_reported", || {
        block_on(std::future::pending::<()>());
    });
    assert!(check_verdict(&output).contains("thread main [block_on]:"));
}

/// All that may still let a thread go on: another thread that does not wait in goby, one that waits
/// with a deadline, a timer, a goroutine, a foreign executor.
#[test]
fn what_may_let_a_thread_go_on_is_no_deadlock() {
    check_no_verdict(&in_child("thread_waits::what_may_let_a_thread_go_on_is_no_deadlock", || {
        // A thread that sleeps in std.
        let door = Arc::new(Door::new());
        let opens = door.clone();
        thread::spawn(move || {
            thread::sleep(LONG);
            opens.open();
        });
        door.pass();
        // One that blocks in std on another, which computes.
        let door = Arc::new(Door::new());
        let opens = door.clone();
        thread::spawn(move || {
            let computes = thread::spawn(|| {
                let start = now();
                while now() - start < LONG {
                    std::hint::spin_loop();
                }
            });
            computes.join().unwrap();
            opens.open();
        });
        door.pass();
        // One that waits in goby, with a deadline.
        let door = Arc::new(Door::new());
        let opens = door.clone();
        thread::spawn(move || {
            pause(LONG);
            opens.open();
        });
        door.pass();
        // A future of a foreign executor, which polls on a thread of its own; its waker is goby's.
        struct Later(Arc<AtomicU32>);
        impl Future for Later {
            type Output = ();
            fn poll(self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
                if self.0.load(Ordering::SeqCst) == 1 {
                    return Poll::Ready(());
                }
                let (state, waker) = (self.0.clone(), cx.waker().clone());
                thread::spawn(move || {
                    thread::sleep(LONG);
                    state.store(1, Ordering::SeqCst);
                    waker.wake();
                });
                Poll::Pending
            }
        }
        block_on(Later(Arc::default()));
        // A waiter for a future that another thread polls, which is blocked in std.
        let door = Arc::new(Door::new());
        let opens = door.clone();
        struct Unpark(thread::Thread);
        impl Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        thread::spawn(move || {
            let waker = Waker::from(Arc::new(Unpark(thread::current())));
            let mut cx = Context::from_waker(&waker);
            let mut later = std::pin::pin!(Later(Arc::default()));
            while later.as_mut().poll(&mut cx).is_pending() {
                thread::park();
            }
            opens.open();
        });
        door.pass();
        // A timer, and a goroutine; by now there is a runtime.
        let door = Arc::new(Door::new());
        let opens = door.clone();
        let timer = Timer::new(move |_| opens.open());
        timer.start(now() + LONG);
        door.pass();
        go(|| pause(LONG)).join().unwrap();
    }));
}

/// The verdict comes when the last thread that could have helped has ended, though no thread tells
/// goby.
#[test]
fn a_deadlock_begins_when_the_last_other_thread_ends() {
    let output = in_child("thread_waits::a_deadlock_begins_when_the_last_other_thread_ends", || {
        thread::spawn(|| {
            thread::sleep(LONG);
            println!("slept");
        });
        Door::new().pass();
    });
    check_verdict(&output);
    assert!(String::from_utf8_lossy(&output.stdout).contains("slept"));
}

/// A signal's handler may do anything, for example end the process as it should end.
#[test]
fn a_signal_handler_is_no_deadlock() {
    let output = in_child("thread_waits::a_signal_handler_is_no_deadlock", || {
        extern "C" fn ends_well(_: libc::c_int) {
            // SAFETY: async-signal-safe.
            unsafe { libc::_exit(0) }
        }
        let handler: extern "C" fn(libc::c_int) = ends_well;
        // SAFETY: the handler is async-signal-safe, and `alarm` only sets the process's timer.
        unsafe {
            libc::signal(libc::SIGALRM, handler as libc::sighandler_t);
            libc::alarm(1);
        }
        Door::new().pass();
    });
    check_no_verdict(&output);
}

/// A thread may wait for a runtime that ignores deadlocks.
#[test]
fn who_waits_beside_a_runtime_that_ignores_deadlocks_goes_on_waiting() {
    use std::os::unix::process::ExitStatusExt;
    let output = in_child("thread_waits::who_waits_beside_a_runtime_that_ignores_deadlocks_goes_on_waiting", || {
        let ignores = Runtime::builder().workers(1).on_deadlock(DeadlockPolicy::Ignore).build().unwrap();
        let other = leaky_runtime(1);
        other.run(|| ());
        // SAFETY: `alarm` only sets the process's timer.
        unsafe { libc::alarm(1) };
        ignores.go(|| Door::new().pass()).join().unwrap();
    });
    assert_eq!(output.status.signal(), Some(libc::SIGALRM), "{}", stderr(&output));
}
