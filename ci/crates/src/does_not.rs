//! What must be written in another way.
//!
//! Most of these block the worker until another goroutine goes on, which only this worker may run.
//! Memory stays sound, and goby reports it.

use std::env;
use std::io::{self, Write as _};
use std::process::Command;
use std::sync::{Condvar, Mutex, OnceLock, mpsc};
use std::time::Duration;

use goby::{block_on, chan, go};
use rayon::prelude::*;

use crate::{CHILD, Log, forever, stands_still, three_jobs};

#[test]
fn std_mutex_across_a_wait() {
    let lock = forever(Mutex::new(0));
    stands_still(
        "std_mutex_across_a_wait",
        |wait| {
            let mut n = lock.lock().unwrap();
            wait();
            *n += 1;
        },
        || *lock.lock().unwrap() += 1,
    );
}

#[test]
fn std_condvar_for_a_neighbor() {
    let (is_ready, changed) = forever((Mutex::new(false), Condvar::new()));
    stands_still(
        "std_condvar_for_a_neighbor",
        |wait| {
            wait();
            *is_ready.lock().unwrap() = true;
            changed.notify_all();
        },
        || drop(changed.wait_while(is_ready.lock().unwrap(), |is_ready| !*is_ready)),
    );
}

#[test]
fn std_once_lock_whose_initializer_waits() {
    let cell = forever(OnceLock::new());
    stands_still(
        "std_once_lock_whose_initializer_waits",
        |wait| {
            cell.get_or_init(|| {
                wait();
                42
            });
        },
        || assert_eq!(*cell.get_or_init(|| 42), 42),
    );
}

#[test]
fn std_mpsc_recv_from_a_neighbor() {
    let (tx, rx) = mpsc::channel();
    stands_still(
        "std_mpsc_recv_from_a_neighbor",
        move |wait| {
            wait();
            tx.send(7).unwrap();
        },
        move || assert_eq!(rx.recv(), Ok(7)),
    );
}

/// std's lock of the standard output belongs to the thread, so a neighbor has it, too.
#[goby::test(workers = 1)]
fn std_stdout_lock() {
    let (begun, has_begun) = chan::bounded(0);
    let (word, words) = chan::bounded(0);
    let holder = go(move || {
        let mut out = io::stdout().lock();
        begun.send(()).unwrap();
        words.recv().unwrap();
        out.flush().unwrap();
    });
    has_begun.recv().unwrap();
    io::stdout().lock().flush().unwrap();
    word.send(()).unwrap();
    holder.join().unwrap();
}

#[test]
fn parking_lot_mutex_across_a_wait() {
    let lock = forever(parking_lot::Mutex::new(0));
    stands_still(
        "parking_lot_mutex_across_a_wait",
        |wait| {
            let mut n = lock.lock();
            wait();
            *n += 1;
        },
        || *lock.lock() += 1,
    );
}

/// The lock belongs to the thread, so a neighbor of its holder has it, too. Another thread does
/// not.
#[goby::test(workers = 1)]
fn parking_lot_reentrant_mutex_across_a_wait() {
    let lock = forever(parking_lot::ReentrantMutex::new(()));
    let (begun, has_begun) = chan::bounded(0);
    let (word, words) = chan::bounded(0);
    let holder = go(move || {
        let _held = lock.lock();
        begun.send(()).unwrap();
        words.recv().unwrap();
    });
    has_begun.recv().unwrap();
    assert!(lock.try_lock().is_some());
    assert!(goby::blocking(|| lock.try_lock().is_none()));
    word.send(()).unwrap();
    holder.join().unwrap();
}

#[test]
fn crossbeam_recv_from_a_neighbor() {
    let (tx, rx) = crossbeam_channel::bounded(0);
    stands_still(
        "crossbeam_recv_from_a_neighbor",
        move |wait| {
            wait();
            tx.send(7).unwrap();
        },
        move || assert_eq!(rx.recv(), Ok(7)),
    );
}

#[test]
fn flume_recv_from_a_neighbor() {
    let (tx, rx) = flume::bounded(0);
    stands_still(
        "flume_recv_from_a_neighbor",
        move |wait| {
            wait();
            tx.send(7).unwrap();
        },
        move || assert_eq!(rx.recv(), Ok(7)),
    );
}

#[test]
fn dashmap_ref_across_a_wait() {
    let map = forever(dashmap::DashMap::<&str, u32>::from_iter([("hits", 1)]));
    stands_still(
        "dashmap_ref_across_a_wait",
        |wait| {
            let hits = map.get("hits").unwrap();
            wait();
            assert_eq!(*hits, 1);
        },
        || *map.get_mut("hits").unwrap() += 1,
    );
}

/// A parallel iterator blocks the thread that starts it, here until a neighbor receives.
#[test]
fn rayon_par_iter_that_waits_for_a_neighbor() {
    let (tx, rx) = chan::bounded(0);
    // Its thread stays behind, too.
    let pool = forever(rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap());
    stands_still(
        "rayon_par_iter_that_waits_for_a_neighbor",
        move |wait| {
            wait();
            assert_eq!(rx.iter().sum::<i32>(), 55);
        },
        move || pool.install(move || (1..=10).into_par_iter().for_each(|n| tx.send(n).unwrap())),
    );
}

/// In a process of its own, for what it prints: goby's cure under each panic.
#[goby::test(workers = 1)]
fn tokio_reactor_under_block_on() {
    if env::var_os(CHILD).is_none() {
        let mut child = Command::new(env::current_exe().unwrap());
        child.args(["--exact", "does_not::tokio_reactor_under_block_on", "--nocapture"]).env(CHILD, "1");
        let output = goby::blocking(|| child.output()).unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        assert_eq!(stderr.matches("Run this future by goby_tokio::block_on").count(), 5, "{stderr}");
        return;
    }
    let attempts: [(&str, fn()); 5] = [
        ("time", || block_on(async { tokio::time::sleep(Duration::from_millis(1)).await })),
        ("net", || drop(block_on(tokio::net::TcpListener::bind("127.0.0.1:0")))),
        ("fs", || drop(block_on(tokio::fs::read("/proc/self/status")))),
        ("spawn", || drop(block_on(async { tokio::spawn(async {}).await }))),
        ("spawn_blocking", || drop(block_on(async { tokio::task::spawn_blocking(|| ()).await }))),
    ];
    for (name, attempt) in attempts {
        let error = go(attempt).join().unwrap_err().to_string();
        assert!(error.contains("there is no reactor running"), "{name}: {error}");
    }
}

/// The runtime that was entered is kept in a thread-local, which the neighbors share.
#[goby::test(workers = 1)]
fn tokio_enter_across_a_wait() {
    let tokio = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (begun, has_begun) = chan::bounded(0);
    let (word, words) = chan::bounded(0);
    goby::scope(|scope| {
        scope.go(|| {
            let _entered = tokio.enter();
            begun.send(()).unwrap();
            words.recv().unwrap();
        });
        has_begun.recv().unwrap();
        // This goroutine has entered none.
        assert!(tokio::runtime::Handle::try_current().is_ok());
        word.send(()).unwrap();
    });
    assert!(tokio::runtime::Handle::try_current().is_err());
}

/// Parts of axum that call tokio by name.
#[goby::test(workers = 1)]
fn axum_without_tokio() {
    use axum::response::IntoResponse;
    use axum::response::sse::{Event, KeepAlive, Sse};

    let keep_alive = || {
        let events = futures_util::stream::pending::<Result<Event, std::convert::Infallible>>();
        drop(Sse::new(events).keep_alive(KeepAlive::new()).into_response());
    };
    let serve = || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        drop(axum::serve(listener, axum::Router::<()>::new()));
    };
    let attempts: [(&str, fn()); 2] = [("KeepAlive", keep_alive), ("serve", serve)];
    for (name, attempt) in attempts {
        let error = go(attempt).join().unwrap_err().to_string();
        assert!(error.contains("there is no reactor running"), "{name}: {error}");
    }
}

/// Sound, but the spans of the goroutines of a worker are in each other.
#[goby::test(workers = 1)]
fn tracing_spans_without_per_goroutine() {
    let log = Log::default();
    three_jobs(tracing::Dispatch::new(log.subscriber()));
    assert!(log.lines().iter().any(|line| line.matches("job{").count() == 3), "{:?}", log.lines());
}
