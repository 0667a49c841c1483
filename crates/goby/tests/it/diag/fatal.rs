//! `GOBY_LEAKS=fatal`: which goroutines it takes for leaks, what it does then, and which are
//! excepted.

use std::process::Output;
use std::time::Duration;

use goby::{Runtime, chan, go, time};

use goby_test_support::{in_child_with, stderr};

/// The exit status of a process that has leaked.
const LEAKED: i32 = 23;
/// The exit status of a test, or a `main`, that has panicked.
const PANICKED: i32 = 101;

fn run(test: &str, body: impl FnOnce()) -> Output {
    in_child_with(&format!("diag::fatal::{test}"), &[("GOBY_LEAKS", "fatal")], body)
}

/// Waits forever, on a channel of its own.
fn stuck() {
    let (tx, rx) = chan::bounded::<u32>(0);
    let _ = rx.recv();
    drop(tx);
}

fn check(output: &Output, status: i32, texts: &[&str]) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(status), "{text}");
    assert!(texts.iter().all(|part| text.contains(part)), "{text}");
}

#[test]
fn a_runtime_that_is_dropped_with_a_leak_panics() {
    let output = run("a_runtime_that_is_dropped_with_a_leak_panics", || {
        let runtime = Runtime::builder().workers(2).build().unwrap();
        runtime.run(|| drop(go(stuck)));
        drop(runtime);
        println!("not reached");
    });
    check(&output, PANICKED, &["1 goroutine leaked\n\n", " [chan receive]:\n", "stuck\n\t"]);
    assert!(!String::from_utf8_lossy(&output.stdout).contains("not reached"));
}

#[test]
fn a_process_that_ends_with_a_leak_fails() {
    let output = run("a_process_that_ends_with_a_leak_fails", || goby::run(|| drop(go(stuck))));
    check(&output, LEAKED, &["goby: when the process ended, 1 goroutine leaked\n\n", "stuck\n\t"]);
}

/// It says which goroutines it could not judge.
#[test]
fn a_goroutine_that_still_runs_is_named() {
    let output = run("a_goroutine_that_still_runs_is_named", || {
        goby::run(|| {
            drop(go(stuck));
            drop(go(|| {
                loop {
                    goby::yield_now();
                }
            }));
        });
    });
    check(
        &output,
        0,
        &[
            "started at crates/goby/tests/it/diag/fatal.rs:",
            ", still runs, so whether the 2 that are left are leaked was not",
        ],
    );
}

/// Also a goroutine that no `run` has started, and one of a runtime that is never dropped.
#[test]
fn whoever_started_it() {
    let output = run("whoever_started_it", || {
        let runtime = Box::leak(Box::new(Runtime::builder().workers(1).build().unwrap()));
        runtime.go(stuck);
        go(stuck);
    });
    check(&output, LEAKED, &["when the process ended, 2 goroutines leaked\n\n"]);
}

#[test]
fn what_is_no_leak() {
    let output = run("what_is_no_leak", || {
        // It is about to end.
        let runtime = Runtime::builder().workers(2).build().unwrap();
        runtime.run(|| drop(go(|| time::sleep(Duration::from_millis(5)))));
        drop(runtime);
        // The builder said that leaks are not reported.
        let runtime = Runtime::builder().workers(1).report_leaks(false).build().unwrap();
        runtime.run(|| drop(go(stuck)));
        drop(runtime);
        // A timer frees it, so it could free others.
        let (tx, rx) = chan::bounded::<()>(0);
        go(move || {
            time::sleep(Duration::from_secs(3600));
            drop(tx);
        });
        go(move || rx.recv());
    });
    check(&output, 0, &[]);
}

/// The test fails with the panic. The goroutines that it has left behind are a consequence.
#[test]
fn a_panic_is_not_hidden() {
    let output = run("a_panic_is_not_hidden", || {
        let runtime = Runtime::builder().workers(1).build().unwrap();
        runtime.run(|| {
            go(stuck);
            panic!("the first one");
        });
    });
    check(&output, PANICKED, &["the first one"]);
    assert!(!stderr(&output).contains("leaked"), "{}", stderr(&output));
}

#[test]
fn another_value_is_refused() {
    let output = in_child_with("diag::fatal::another_value_is_refused", &[("GOBY_LEAKS", "yes")], || {
        let error = Runtime::builder().workers(1).build().unwrap_err();
        assert_eq!(error.to_string(), r#"GOBY_LEAKS="yes" is not "fatal": change or unset it"#);
    });
    check(&output, 0, &[]);
}
