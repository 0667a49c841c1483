//! A `main` that is a plain thread, not `goby::run`'s, waits for an event that never comes. It is
//! reported as a goroutine would be, with its place. Each test runs in a child process.

use std::process::Output;

use goby::sync::{Mutex, Semaphore, WaitGroup};
use goby::{Context, chan, go, select};

use goby_test_support::{in_child, stderr};

const FIRST_LINE: &str = "fatal error: all goroutines are asleep - deadlock!\n\n";

/// Checks that a child was ended by the report of a `main` that waits for `reason` at `line` of
/// this file.
fn check_report(output: &Output, reason: &str, line: u32) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(
        text.starts_with(&format!("{FIRST_LINE}1 thread is parked forever\n\nthread main [{reason}]:\n")),
        "{text}"
    );
    assert!(text.contains(&format!("diag/plain_main.rs:{line}\n")), "{text}");
}

#[test]
fn a_sender_that_was_not_dropped_is_reported() {
    let line = line!() + 7;
    let output = in_child("diag::plain_main::a_sender_that_was_not_dropped_is_reported", || {
        let (tx, rx) = chan::bounded(1);
        let worker = tx.clone();
        go(move || worker.send(1).unwrap()).join().unwrap();
        assert_eq!(rx.recv(), Ok(1));
        // Ends when all senders are gone.
        rx.iter().for_each(|_: u32| ());
        drop(tx);
    });
    check_report(&output, "chan receive", line);
}

#[test]
fn a_sender_that_was_not_dropped_is_reported_without_any_goroutine() {
    let line = line!() + 4;
    let output = in_child("diag::plain_main::a_sender_that_was_not_dropped_is_reported_without_any_goroutine", || {
        let (tx, rx) = chan::unbounded::<u32>();
        tx.send(1).unwrap();
        while rx.recv().is_ok() {}
        drop(tx);
    });
    check_report(&output, "chan receive", line);
}

#[test]
fn a_send_without_a_receiver_is_reported() {
    let line = line!() + 3;
    let output = in_child("diag::plain_main::a_send_without_a_receiver_is_reported", || {
        let (tx, rx) = chan::bounded(0);
        tx.send(1).unwrap();
        drop(rx);
    });
    check_report(&output, "chan send", line);
}

#[test]
fn a_double_lock_is_reported() {
    let line = line!() + 4;
    let output = in_child("diag::plain_main::a_double_lock_is_reported", || {
        let mutex = Mutex::new(1);
        let first = mutex.lock();
        let second = mutex.lock();
        drop((first, second));
    });
    check_report(&output, "sync.Mutex.Lock", line);
}

#[test]
fn an_unfinished_wait_group_is_reported() {
    let line = line!() + 4;
    let output = in_child("diag::plain_main::an_unfinished_wait_group_is_reported", || {
        let wg = WaitGroup::new();
        wg.add(1);
        wg.wait();
    });
    check_report(&output, "sync.WaitGroup.Wait", line);
}

#[test]
fn a_select_of_which_no_case_can_happen_is_reported() {
    let line = line!() + 4;
    let output = in_child("diag::plain_main::a_select_of_which_no_case_can_happen_is_reported", || {
        let (_tx, first) = chan::bounded::<u32>(0);
        let (ctx, _cancel) = Context::background().with_cancel();
        select! {
            recv(first) -> _ => (),
            recv(ctx.done()) -> _ => (),
        }
    });
    check_report(&output, "select", line);
}

#[test]
fn an_acquire_that_nothing_releases_is_reported() {
    let line = line!() + 4;
    let output = in_child("diag::plain_main::an_acquire_that_nothing_releases_is_reported", || {
        let semaphore = Semaphore::new(1);
        let _first = semaphore.try_acquire(1).unwrap();
        drop(semaphore.acquire(&Context::background(), 1));
    });
    check_report(&output, "semacquire", line);
}

#[test]
fn a_channel_of_nobody_is_reported() {
    let line = line!() + 2;
    let output = in_child("diag::plain_main::a_channel_of_nobody_is_reported", || {
        let _ = chan::never::<u32>().recv();
    });
    check_report(&output, "chan receive (nil chan)", line);
}
