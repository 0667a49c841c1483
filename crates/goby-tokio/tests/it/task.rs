//! Futures beside the goroutines.

use std::future::pending;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use goby::{chan, diag, go};
use goby_test_support::{in_child_with, stderr, wait_until};
use goby_tokio::{block_on, spawn};

use crate::{NeedsTokio, is_entered};

#[goby::test(workers = 2)]
fn a_thousand_tasks() {
    let tasks: Vec<_> = (0..1000)
        .map(|n| {
            spawn(async move {
                tokio::time::sleep(Duration::from_millis(1)).await;
                n
            })
        })
        .collect();
    let sum: u32 = tasks.into_iter().map(|task| task.join().unwrap()).sum();
    assert_eq!(sum, 499_500);
}

/// They run on goby's workers, not on the reactor's thread, with tokio entered.
#[goby::test(workers = 1)]
fn a_task_runs_on_a_worker() {
    let name = spawn(async { (is_entered(), thread::current().name().map(String::from)) });
    let (was_entered, name) = name.join().unwrap();
    assert!(was_entered);
    assert_ne!(name.as_deref(), Some("goby-tokio"));
    assert!(!is_entered());
}

#[goby::test(workers = 1)]
fn a_task_may_be_awaited() {
    let task = spawn(async { spawn(async { 42 }).await.unwrap() });
    assert_eq!(block_on(task).unwrap(), 42);
}

#[goby::test(workers = 1)]
fn an_aborted_task_is_dropped_with_tokio_entered() {
    let (needs, was_entered) = NeedsTokio::new();
    let (begun, has_begun) = chan::bounded(0);
    let task = spawn(async move {
        let _needs = needs;
        begun.send_async(()).await.unwrap();
        pending::<()>().await;
    });
    has_begun.recv().unwrap();
    assert!(!task.is_finished());
    task.abort();
    let error = task.join().unwrap_err();
    assert!(error.is_aborted() && !error.is_panic() && error.message().is_none());
    assert_eq!((error.to_string().as_str(), format!("{error:?}").as_str()), ("aborted", "JoinError(aborted)"));
    assert!(was_entered.load(Ordering::Acquire));
    assert!(error.into_panic().is_none());
}

/// An abort before the first poll, and one after the end.
#[goby::test(workers = 1)]
fn an_abort_early_and_late() {
    let early = spawn(async { 42 });
    early.abort();
    assert!(early.join().unwrap_err().is_aborted());

    let (ended, has_ended) = chan::bounded::<()>(0);
    let late = spawn(async move {
        drop(ended);
        42
    });
    assert!(has_ended.recv().is_err());
    while !late.is_finished() {
        goby::yield_now();
    }
    late.abort();
    assert_eq!(late.join().unwrap(), 42);
}

#[goby::test(workers = 1)]
fn a_panic_comes_out_of_join() {
    let error = spawn(async { panic!("no luck") }).join().unwrap_err();
    assert!(error.is_panic() && !error.is_aborted());
    assert_eq!(error.message(), Some("no luck"));
    assert_eq!(format!("{error}, {error:?}"), "panicked: no luck, JoinError(panicked: no luck)");
    assert_eq!(error.into_panic().unwrap().downcast_ref(), Some(&"no luck"));
}

#[goby::test(workers = 1)]
fn a_detached_task_goes_on() {
    let (tx, rx) = chan::bounded(0);
    spawn(async move { tx.send_async(42).await }).detach();
    assert_eq!(rx.recv(), Ok(42));
}

/// The future may wait for tokio, which may wake it at any time: as for `block_on`.
#[test]
fn a_goroutine_that_joins_is_no_leak() {
    let test = "task::a_goroutine_that_joins_is_no_leak";
    let output = in_child_with(test, &[("GOBY_LEAKS", "fatal")], || {
        goby::run(|| {
            let joins = go(|| spawn(async { tokio::time::sleep(Duration::from_secs(600)).await }).join());
            let waits = || diag::goroutines().iter().any(|info| info.id() == joins.id() && info.waited().is_some());
            wait_until("the goroutine to wait", waits);
        });
    });
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

/// There is no goroutine to park, and the task would keep the thread that the future needs.
#[goby::test(workers = 1)]
fn a_task_of_tokio_must_await_the_handle() {
    let failed = block_on(goby_tokio::handle().spawn(async { spawn(async { 42 }).join() })).unwrap_err();
    let payload = failed.into_panic();
    let text = payload.downcast_ref::<&str>().map(ToString::to_string);
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap();
    assert!(text.contains("Cannot start a runtime from within a runtime"), "{text}");
    let awaited = block_on(goby_tokio::handle().spawn(async { spawn(async { 42 }).await.unwrap() }));
    assert_eq!(awaited.unwrap(), 42);
}

/// A future whose destructor panics.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("while it is dropped");
    }
}

#[goby::test(workers = 1)]
fn a_panic_of_an_aborted_futures_destructor_is_an_error() {
    let (begun, has_begun) = chan::bounded(0);
    let task = spawn(async move {
        let _bomb = Bomb;
        begun.send_async(()).await.unwrap();
        pending::<()>().await;
    });
    has_begun.recv().unwrap();
    task.abort();
    let error = task.join().unwrap_err();
    assert!(error.is_panic() && !error.is_aborted());
    assert_eq!(error.message(), Some("while it is dropped"));
}
