//! Values that take a large part of a stack: they fit it, and none is lost or dropped twice. They
//! are moved by address; other values are moved by value.

use std::hint::black_box;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use goby::chan::{
    Receiver, RecvError, RecvTimeoutError, SendTimeoutError, Sender, TryRecvError, TrySendError, bounded, unbounded,
};
use goby::goroutine::Builder;
use goby::{go, select};

use crate::support::{MOMENT, wait_until, with_workers};
use goby_test_support::in_child;

/// The size of a value that a stack of 192 KiB must have room for, in an operation and in a select:
/// less in a build that inlines nothing.
const LARGE: usize = if cfg!(debug_assertions) { 16 << 10 } else { 40 << 10 };
const LARGE_IN_SELECT: usize = if cfg!(debug_assertions) { 6 << 10 } else { 16 << 10 };

#[inline(never)]
fn make<const N: usize>() -> [u8; N] {
    black_box([7; N])
}

/// Runs `f` with plenty of stack.
fn with_a_large_stack(f: impl FnOnce() + Send + 'static) {
    Builder::new().stack_size(4 << 20).go(f).join().unwrap();
}

type Ends<const N: usize> = (Sender<[u8; N]>, Receiver<[u8; N]>);

/// Runs `f` in a goroutine with a stack of the usual size, in a process that an overflow may end.
fn check_fits<const N: usize>(test: &str, f: fn(Ends<N>)) {
    let output: Output = in_child(test, || {
        goby::run(|| go(move || f(bounded(1))).join().unwrap());
    });
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_send_fits_the_usual_stack() {
    check_fits::<LARGE>("large_values::a_send_fits_the_usual_stack", |(tx, _rx)| assert!(tx.send(make()).is_ok()));
}

#[test]
fn a_send_that_waits_fits_the_usual_stack() {
    check_fits::<LARGE>("large_values::a_send_that_waits_fits_the_usual_stack", |_| {
        let (tx, rx) = bounded::<[u8; LARGE]>(0);
        let receiving = go(move || with_a_large_stack(move || assert_eq!(black_box(&rx.recv().unwrap())[5], 7)));
        assert!(tx.send(make()).is_ok());
        receiving.join().unwrap();
    });
}

#[test]
fn a_try_send_fits_the_usual_stack() {
    check_fits::<LARGE>("large_values::a_try_send_fits_the_usual_stack", |(tx, _rx)| {
        assert!(tx.try_send(make()).is_ok());
    });
}

#[test]
fn a_receive_fits_the_usual_stack() {
    check_fits::<LARGE>("large_values::a_receive_fits_the_usual_stack", |(tx, rx)| {
        with_a_large_stack(move || assert!(tx.send(make()).is_ok()));
        assert_eq!(black_box(&rx.recv().unwrap())[5], 7);
    });
}

#[test]
fn an_iteration_fits_the_usual_stack() {
    check_fits::<LARGE>("large_values::an_iteration_fits_the_usual_stack", |(tx, rx)| {
        with_a_large_stack(move || assert!(tx.send(make()).is_ok()));
        for value in &rx {
            assert_eq!(black_box(&value)[5], 7);
        }
    });
}

#[test]
fn a_select_that_sends_fits_the_usual_stack() {
    check_fits::<LARGE_IN_SELECT>("large_values::a_select_that_sends_fits_the_usual_stack", |(tx, _rx)| {
        select! {
            send(tx, make()) -> sent => assert!(sent.is_ok()),
        }
    });
}

#[test]
fn a_select_that_receives_fits_the_usual_stack() {
    check_fits::<LARGE_IN_SELECT>("large_values::a_select_that_receives_fits_the_usual_stack", |(tx, rx)| {
        with_a_large_stack(move || assert!(tx.send(make()).is_ok()));
        select! {
            recv(rx) -> received => assert_eq!(black_box(&received).as_ref().unwrap()[5], 7),
        }
    });
}

/// A large value that counts how many of its kind there are.
struct Counted {
    alive: Arc<AtomicUsize>,
    number: usize,
    _ballast: [u8; 2000],
}

impl Counted {
    fn new(number: usize, alive: &Arc<AtomicUsize>) -> Counted {
        alive.fetch_add(1, Ordering::SeqCst);
        Counted { alive: alive.clone(), number, _ballast: [0; 2000] }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Runs `test` with workers, and checks that it leaves no value behind.
fn check_none_is_left(test: impl Fn(&Arc<AtomicUsize>) + Send + Sync) {
    with_workers(|| {
        let alive = Arc::new(AtomicUsize::new(0));
        test(&alive);
        wait_until("all values to be dropped", || alive.load(Ordering::SeqCst) == 0);
    });
}

#[test]
fn they_arrive_in_order_and_once() {
    const N: usize = 300;
    check_none_is_left(|alive| {
        for (tx, rx) in [bounded(0), bounded(1), bounded(7), unbounded()] {
            let made = alive.clone();
            let sending = go(move || {
                for i in 0..N {
                    match i % 3 {
                        0 => assert!(tx.send(Counted::new(i, &made)).is_ok()),
                        1 => assert!(tx.send_timeout(Counted::new(i, &made), Duration::from_secs(60)).is_ok()),
                        _ => select! {
                            send(tx, Counted::new(i, &made)) -> sent => assert!(sent.is_ok()),
                        },
                    }
                }
            });
            for i in 0..N {
                let value = match i % 4 {
                    0 => rx.recv().unwrap(),
                    1 => rx.recv_timeout(Duration::from_secs(60)).unwrap(),
                    2 => rx.iter().next().unwrap(),
                    _ => select! {
                        recv(rx) -> value => value.unwrap(),
                    },
                };
                assert_eq!(value.number, i);
            }
            assert!(rx.recv().is_err_and(|error| error == RecvError));
            sending.join().unwrap();
        }
    });
}

#[test]
fn what_is_refused_comes_back() {
    check_none_is_left(|alive| {
        let (tx, rx) = bounded(1);
        tx.send(Counted::new(0, alive)).ok().unwrap();
        assert!(matches!(tx.try_send(Counted::new(1, alive)), Err(TrySendError::Full(value)) if value.number == 1));
        let timed_out = tx.send_timeout(Counted::new(2, alive), MOMENT);
        assert!(matches!(timed_out, Err(SendTimeoutError::Timeout(value)) if value.number == 2));
        // A sender that waits when the channel closes.
        let waiting = {
            let (tx, made) = (tx.clone(), alive.clone());
            go(move || tx.send(Counted::new(3, &made)).map_err(|error| error.into_inner().number))
        };
        wait_until("it to be made", || alive.load(Ordering::SeqCst) == 2);
        tx.close();
        assert_eq!(waiting.join().unwrap(), Err(3));
        assert_eq!(tx.send(Counted::new(4, alive)).unwrap_err().into_inner().number, 4);
        assert!(matches!(tx.try_send(Counted::new(5, alive)), Err(TrySendError::Closed(value)) if value.number == 5));
        let closed = tx.send_timeout(Counted::new(6, alive), MOMENT);
        assert!(matches!(closed, Err(SendTimeoutError::Closed(value)) if value.number == 6));
        select! {
            send(tx, Counted::new(7, alive)) -> sent => assert_eq!(sent.unwrap_err().into_inner().number, 7),
        }
        assert_eq!(rx.try_recv().ok().unwrap().number, 0);
        assert!(matches!(rx.try_recv(), Err(TryRecvError::Closed)));
        assert!(matches!(rx.recv_timeout(MOMENT), Err(RecvTimeoutError::Closed)));
    });
}

#[test]
fn what_is_not_there_is_waited_for() {
    check_none_is_left(|alive| {
        let (tx, rx) = bounded(0);
        assert!(matches!(rx.try_recv(), Err(TryRecvError::Empty)));
        assert!(matches!(rx.recv_timeout(MOMENT), Err(RecvTimeoutError::Timeout)));
        // A sender waits, and a try finds it; then a receiver waits.
        let made = alive.clone();
        let sending = go(move || (0..2).for_each(|i| assert!(tx.send(Counted::new(i, &made)).is_ok())));
        let mut first = Err(TryRecvError::Empty);
        wait_until("a sender", || {
            first = rx.try_recv();
            first.is_ok()
        });
        assert_eq!(first.ok().unwrap().number, 0);
        assert_eq!(rx.recv().unwrap().number, 1);
        sending.join().unwrap();
        assert!(matches!(rx.try_recv(), Err(TryRecvError::Closed)));
    });
}

#[test]
fn unread_ones_are_dropped_with_the_channel() {
    check_none_is_left(|alive| {
        let (tx, rx) = unbounded();
        (0..100).for_each(|i| assert!(tx.send(Counted::new(i, alive)).is_ok()));
        assert_eq!(alive.load(Ordering::SeqCst), 100);
        drop(rx);
        assert_eq!(alive.load(Ordering::SeqCst), 0);
        assert_eq!(tx.send(Counted::new(7, alive)).unwrap_err().into_inner().number, 7);
    });
}
