//! Timers in a deadlock's verdict: only those count that a goroutine waits for, or that run the
//! program's code. Each test runs in a child process.

use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use goby::sync::{Mutex, Semaphore};
use goby::time::{self, Ticker, Timer};
use goby::{Context, block_on, block_on_ctx, chan, go, select};

use goby_test_support::{in_child, stderr};

const HOUR: Duration = Duration::from_secs(3600);
/// Long enough for several looks at deadlocks.
const LONG: Duration = Duration::from_millis(300);

fn check_verdict(output: &Output) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.starts_with("fatal error: all goroutines are asleep - deadlock!\n"), "{text}");
}

fn check_no_verdict(output: &Output) {
    assert!(output.status.success(), "{}: {}", output.status, stderr(output));
}

fn wait_for_ever() {
    let _ = chan::never::<()>().recv();
}

#[test]
fn an_idle_ticker_does_not_hold_up_a_verdict() {
    check_verdict(&in_child("diag::idle_timers::an_idle_ticker_does_not_hold_up_a_verdict", || {
        goby::run(|| {
            let _ticker = Ticker::new(Duration::from_millis(20));
            let _ticks = time::tick(Duration::from_millis(30));
            wait_for_ever();
        });
    }));
}

#[test]
fn an_unread_timer_does_not_hold_up_a_verdict() {
    check_verdict(&in_child("diag::idle_timers::an_unread_timer_does_not_hold_up_a_verdict", || {
        goby::run(|| {
            let _unread = time::after(HOUR);
            let timer = Timer::new(HOUR);
            // A select has looked at it, and left.
            select! {
                recv(timer.receiver()) -> _ => unreachable!(),
                default(Duration::from_millis(1)) => {}
            }
            wait_for_ever();
        });
    }));
}

#[test]
fn a_plain_main_beside_an_unread_timer_is_reported() {
    check_verdict(&in_child("diag::idle_timers::a_plain_main_beside_an_unread_timer_is_reported", || {
        let _unread = time::after(HOUR);
        wait_for_ever();
    }));
}

#[test]
fn a_deadline_of_a_context_that_nobody_waits_for_does_not_hold_up_a_verdict() {
    let name = "diag::idle_timers::a_deadline_of_a_context_that_nobody_waits_for_does_not_hold_up_a_verdict";
    check_verdict(&in_child(name, || {
        goby::run(|| {
            let (ctx, _cancel) = Context::background().with_timeout(HOUR);
            let (child, _cancel_child) = ctx.with_value(1).with_cancel();
            let (grandchild, _cancel_grandchild) = child.with_timeout(HOUR / 2);
            // A goroutine has waited, and no longer waits.
            let (tx, rx) = chan::bounded(1);
            tx.send(1).unwrap();
            assert_eq!(rx.recv_ctx(&grandchild), Ok(1));
            assert!(child.after_func(|| unreachable!()).stop());
            wait_for_ever();
        });
    }));
}

#[test]
fn a_timer_that_somebody_waits_for_is_no_deadlock() {
    check_no_verdict(&in_child("diag::idle_timers::a_timer_that_somebody_waits_for_is_no_deadlock", || {
        let waits = || {
            time::after(LONG).recv().unwrap();
            Timer::new(LONG).receiver().recv().unwrap();
            Ticker::new(LONG).receiver().recv().unwrap();
            select! {
                recv(time::after(LONG)) -> _ => {},
                recv(chan::never::<()>()) -> _ => unreachable!(),
            }
            let ticker = Ticker::new(LONG);
            let (_tx, nothing) = chan::bounded::<()>(0);
            select! {
                recv(nothing) -> _ => unreachable!(),
                recv(ticker.receiver()) -> _ => {},
            }
            block_on(time::after(LONG).recv_async()).unwrap();
            // A deadline of a lock, and a sleep.
            let mutex = Mutex::new(());
            let _held = mutex.lock();
            assert!(mutex.lock_timeout(LONG).is_none());
            time::sleep(LONG);
        };
        goby::run(waits);
        // By a thread.
        waits();
        // By another goroutine than main.
        goby::run(|| go(|| time::after(LONG).recv()).join().unwrap().unwrap());
    }));
}

#[test]
fn a_timer_that_runs_code_is_no_deadlock() {
    check_no_verdict(&in_child("diag::idle_timers::a_timer_that_runs_code_is_no_deadlock", || {
        let waits = || {
            let (tx, rx) = chan::bounded(0);
            let sender = tx.clone();
            time::after_func(LONG, move || sender.send(1).unwrap());
            assert_eq!(rx.recv(), Ok(1));
            // Of a context, at its deadline and at that of its parent.
            let (ctx, _cancel) = Context::background().with_timeout(LONG);
            let sender = tx.clone();
            ctx.after_func(move || sender.send(2).unwrap());
            assert_eq!(rx.recv(), Ok(2));
            let (ctx, _cancel) = Context::background().with_timeout(LONG);
            let (child, _cancel_child) = ctx.with_value("request").with_cancel();
            child.after_func(move || tx.send(3).unwrap());
            assert_eq!(rx.recv(), Ok(3));
        };
        goby::run(waits);
        waits();
    }));
}

#[test]
fn a_deadline_of_a_context_that_somebody_waits_for_is_no_deadlock() {
    let name = "diag::idle_timers::a_deadline_of_a_context_that_somebody_waits_for_is_no_deadlock";
    check_no_verdict(&in_child(name, || {
        let waits = || {
            let late = || Context::background().with_timeout(LONG);
            let (ctx, _cancel) = late();
            assert!(ctx.done().recv().is_err());
            // Below it.
            let (ctx, _cancel) = late();
            let (child, _cancel_child) = ctx.with_cancel();
            let (child, _cancel_grandchild) = child.with_value(7).with_timeout(HOUR);
            assert!(child.done().recv().is_err());
            // By operations that take it.
            let (_tx, rx) = chan::bounded::<()>(0);
            let (ctx, _cancel) = late();
            assert!(rx.recv_ctx(&ctx.with_value(1)).is_err());
            let (ctx, _cancel) = late();
            assert!(rx.recv_ctx(&ctx).is_err());
            let (ctx, _cancel) = late();
            let semaphore = Semaphore::new(1);
            let _held = semaphore.try_acquire(1).unwrap();
            assert!(semaphore.acquire(&ctx, 1).is_err());
            let (ctx, _cancel) = late();
            let mutex = Mutex::new(());
            let _locked = mutex.lock();
            assert!(mutex.lock_ctx(&ctx).is_err());
            let (ctx, _cancel) = late();
            assert!(block_on_ctx(&ctx, std::future::pending::<()>()).is_err());
            let (ctx, _cancel) = late();
            assert!(time::sleep_ctx(&ctx, HOUR).is_err());
        };
        goby::run(waits);
        waits();
        // Canceled by a thread that goby does not know.
        let (ctx, cancel) = Context::background().with_cancel();
        let cancel = Arc::new(cancel);
        std::thread::spawn(move || {
            std::thread::sleep(LONG);
            cancel.cancel();
        });
        goby::run(|| assert!(ctx.done().recv().is_err()));
    }));
}
