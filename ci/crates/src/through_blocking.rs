//! Calls that block their thread. They run on a helper thread by `blocking`, while the goroutine is
//! parked.

mod databases;

use std::sync::{Condvar, Mutex, mpsc};
use std::time::Duration;

use goby::{blocking, chan, diag, go, yield_now};
use rayon::prelude::*;

/// Lets others run until one of them waits in `blocking`.
fn until_one_waits_in_blocking() {
    while !diag::goroutines().iter().any(|goroutine| goroutine.status().to_string() == "blocking call") {
        yield_now();
    }
}

/// The guard of a std mutex cannot leave the closure, and should not.
#[goby::test(workers = 1)]
fn std_mutex_that_is_held_for_long() {
    let lock = Mutex::new(0);
    goby::scope(|scope| {
        let mut held = lock.lock().unwrap();
        scope.go(|| blocking(|| *lock.lock().unwrap() += 1));
        until_one_waits_in_blocking();
        assert_eq!(*held, 0);
        *held = 41;
    });
    assert_eq!(lock.into_inner().unwrap(), 42);
}

#[goby::test(workers = 1)]
fn std_condvar() {
    let (is_ready, changed) = (Mutex::new(false), Condvar::new());
    goby::scope(|scope| {
        let waiter =
            scope.go(|| blocking(|| *changed.wait_while(is_ready.lock().unwrap(), |is_ready| !*is_ready).unwrap()));
        until_one_waits_in_blocking();
        *is_ready.lock().unwrap() = true;
        changed.notify_all();
        assert!(waiter.join().unwrap());
    });
}

#[goby::test(workers = 1)]
fn std_mpsc_recv() {
    let (tx, mut rx) = mpsc::sync_channel(0);
    let receiver = go(move || {
        // `&Receiver` is not `Send`, but `&mut Receiver` is.
        let rx = &mut rx;
        blocking(move || rx.recv())
    });
    until_one_waits_in_blocking();
    blocking(|| tx.send(7)).unwrap();
    assert_eq!(receiver.join().unwrap(), Ok(7));
}

#[goby::test(workers = 1)]
fn crossbeam_recv() {
    let (tx, rx) = crossbeam_channel::bounded(0);
    let (_other_tx, other) = crossbeam_channel::bounded::<u32>(0);
    let receiver = go(move || {
        blocking(|| {
            crossbeam_channel::select! {
                recv(rx) -> n => n,
                recv(other) -> n => n,
            }
        })
    });
    until_one_waits_in_blocking();
    blocking(|| tx.send(7)).unwrap();
    assert_eq!(receiver.join().unwrap(), Ok(7));
}

/// The closures run on rayon's threads, and may use goby's channels: they wait as threads do.
#[goby::test(workers = 1)]
fn rayon_par_iter() {
    assert_eq!(blocking(|| (1..=100).into_par_iter().sum::<i32>()), 5050);

    let (tx, rx) = chan::bounded(0);
    let sum = go(move || rx.iter().sum::<i32>());
    blocking(move || (1..=100).into_par_iter().for_each(|n| tx.send(n).unwrap()));
    assert_eq!(sum.join().unwrap(), 5050);
}

#[goby::test(workers = 1)]
fn tokio_runtime_block_on() {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let n = blocking(|| {
        tokio.block_on(async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            42
        })
    });
    assert_eq!(n, 42);
}
