//! Channel features that Go does not have: ends that are dropped, timeouts, errors that carry
//! values, values with destructors.

use std::cell::Cell;
use std::error::Error;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::thread;
use std::time::Duration;

use goby::chan::{
    Receiver, RecvError, RecvTimeoutError, SendError, SendTimeoutError, Sender, TryRecvError, TrySendError, bounded,
    never, unbounded,
};
use goby::{go, scope, select};

use crate::support::{Actor, KINDS, Kind, MOMENT, actor, on_workers, pause, size, wait_until, with_workers};

#[test]
fn the_last_sender_closes_by_being_dropped() {
    with_workers(|| {
        let (tx, rx) = bounded::<i32>(1);
        let others: Vec<_> = (0..3).map(|_| tx.clone()).collect();
        drop(tx);
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
        for other in others {
            assert!(!rx.is_closed());
            drop(other);
        }
        assert!(rx.is_closed());
        assert_eq!(rx.recv(), Err(RecvError));
    });
}

#[test]
fn when_the_last_receiver_is_gone_sends_fail_at_once() {
    with_workers(|| {
        for (tx, rx) in [bounded(0), bounded(1), unbounded()] {
            let other = rx.clone();
            drop(rx);
            assert!(!tx.is_closed());
            drop(other);
            assert!(tx.is_closed());
            assert_eq!(tx.send(7), Err(SendError(7)));
            assert_eq!(tx.try_send(8), Err(TrySendError::Closed(8)));
            assert_eq!(tx.send_timeout(9, Duration::MAX), Err(SendTimeoutError::Closed(9)));
        }
    });
}

/// Starts senders of all kinds, of 10, 11, 12 and 13, into a channel that is full. The result of
/// each actor is what its sender got back.
fn blocked_senders(tx: &Sender<i32>) -> [Actor<Result<(), SendError<i32>>>; 4] {
    let started = Arc::new(AtomicUsize::new(0));
    let senders = [0, 1, 2, 3].map(|i| {
        let (tx, started) = (tx.clone(), started.clone());
        actor(KINDS[i], move |kind| async move {
            started.fetch_add(1, Ordering::SeqCst);
            kind.send(&tx, 10 + i as i32).await
        })
    });
    wait_until("all to start", || started.load(Ordering::SeqCst) == 4);
    pause(MOMENT);
    senders
}

#[test]
fn senders_that_wait_get_their_values_back_when_the_receivers_are_gone() {
    with_workers(|| {
        for capacity in [0, 1, 2] {
            let (tx, rx) = bounded(capacity);
            (0..capacity).for_each(|_| tx.send(1).unwrap());
            let senders = blocked_senders(&tx);
            drop(rx);
            let back = senders.map(|sender| sender.join().unwrap_err().into_inner());
            assert_eq!(back, [10, 11, 12, 13]);
        }
    });
}

#[test]
fn senders_that_wait_get_their_values_back_when_the_channel_is_closed() {
    with_workers(|| {
        for capacity in [0, 1, 2] {
            let (tx, rx) = bounded(capacity);
            (0..capacity).for_each(|_| tx.send(1).unwrap());
            let senders = blocked_senders(&tx);
            assert!(tx.close());
            let back = senders.map(|sender| sender.join().unwrap_err().into_inner());
            assert_eq!(back, [10, 11, 12, 13]);
            // What was accepted before is still received, and no more.
            assert_eq!(rx.iter().collect::<Vec<_>>(), vec![1; capacity]);
        }
    });
}

/// More waiters than `close` takes out of the queue before it wakes them. Some leave the queue by
/// themselves meanwhile, and two goroutines close at once.
#[test]
fn closing_ends_the_waits_of_crowds_of_all_kinds() {
    with_workers(|| {
        let (tx, rx) = bounded::<i32>(0);
        let (live_tx, live) = bounded::<i32>(1);
        let started = Arc::new(AtomicUsize::new(0));
        let waiters: Vec<_> = (0..1500)
            .map(|i| {
                let kind =
                    if i % 500 == 100 { Kind::Thread } else { [Kind::Goroutine, Kind::Task, Kind::BlockOn][i % 3] };
                let (rx, live, started) = (rx.clone(), live.clone(), started.clone());
                actor(kind, move |kind| async move {
                    started.fetch_add(1, Ordering::SeqCst);
                    match (kind, i % 4) {
                        (Kind::Goroutine, 1) => {
                            select! { recv(rx) -> value => value.is_err(), recv(live) -> value => value == Ok(1) }
                        }
                        (Kind::Goroutine, 2) => {
                            rx.recv_timeout(Duration::from_secs(3600)) == Err(RecvTimeoutError::Closed)
                        }
                        (Kind::Goroutine, 3) => rx.recv_timeout(Duration::from_millis(1)).is_err(),
                        _ => kind.recv(&rx).await.is_err(),
                    }
                })
            })
            .collect();
        wait_until("all to start", || started.load(Ordering::SeqCst) == waiters.len());
        let closers = [tx.clone(), tx].map(|tx| actor(Kind::Goroutine, move |_| async move { tx.close() }));
        live_tx.send(1).unwrap();
        assert_eq!(closers.map(Actor::join).into_iter().filter(|is_first| *is_first).count(), 1);
        assert!(waiters.into_iter().all(Actor::join));
        assert_eq!(rx.recv(), Err(RecvError));
    });
}

/// The value goes to a waiter that the close has not unparked yet, or into the buffer.
#[test]
fn a_value_given_back_during_a_close_is_not_lost() {
    with_workers(|| {
        for round in 0..size(30, 3000) {
            let (tx, rx) = bounded::<usize>(0);
            let mut handed = Box::pin(rx.recv_async());
            assert!(handed.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            let started = Arc::new(AtomicUsize::new(0));
            let crowd: Vec<_> = (0..600)
                .map(|_| {
                    let (rx, started) = (rx.clone(), started.clone());
                    go(move || {
                        started.fetch_add(1, Ordering::SeqCst);
                        rx.recv().ok()
                    })
                })
                .collect();
            wait_until("all to start", || started.load(Ordering::SeqCst) == 600);
            tx.send(round).unwrap();
            let closing = go(move || tx.close());
            if round % 2 == 0 {
                goby::yield_now();
            }
            drop(handed);
            let received: Vec<_> = crowd.into_iter().filter_map(|handle| handle.join().unwrap()).collect();
            assert!(closing.join().unwrap());
            assert_eq!([received, rx.iter().collect()].concat(), [round]);
        }
    });
}

#[test]
fn timeouts_wait_their_time_and_give_the_value_back() {
    let check = || {
        let (tx, rx) = bounded(1);
        for time in [0, 1, 20].map(Duration::from_millis) {
            let start = goby_runtime::now();
            assert_eq!(rx.recv_timeout(time), Err(RecvTimeoutError::Timeout));
            assert!(goby_runtime::now() - start >= time);
            let start = goby_runtime::now();
            assert_eq!(rx.recv_deadline(start + time), Err(RecvTimeoutError::Timeout));
            assert!(goby_runtime::now() - start >= time);
        }
        tx.send(1).unwrap();
        for time in [0, 1, 20].map(Duration::from_millis) {
            let start = goby_runtime::now();
            assert_eq!(tx.send_timeout(2, time), Err(SendTimeoutError::Timeout(2)));
            assert!(goby_runtime::now() - start >= time);
            let start = goby_runtime::now();
            assert_eq!(tx.send_deadline(3, start + time), Err(SendTimeoutError::Timeout(3)));
            assert!(goby_runtime::now() - start >= time);
        }
        // A ready operation happens, however late it is.
        let past = goby_runtime::now() - Duration::from_secs(1);
        assert_eq!(rx.recv_deadline(past), Ok(1));
        assert_eq!(tx.send_deadline(4, past), Ok(()));
        assert_eq!(rx.recv_timeout(Duration::MAX), Ok(4));
        drop(tx);
        assert_eq!(rx.recv_timeout(Duration::MAX), Err(RecvTimeoutError::Closed));
        assert_eq!(never::<i32>().recv_timeout(MOMENT), Err(RecvTimeoutError::Timeout));
        assert_eq!(Sender::never().send_timeout(5, MOMENT), Err(SendTimeoutError::Timeout(5)));
    };
    with_workers(check);
    check(); // On a plain thread.
}

/// A waiter that timed out waits no longer: a rendezvous finds nobody, and the waiters behind it in
/// the queue are served.
#[test]
fn a_timed_out_wait_leaves_the_queue() {
    with_workers(|| {
        let (tx, rx) = bounded(0);
        assert!(rx.recv_timeout(MOMENT).is_err());
        assert_eq!(tx.try_send(1), Err(TrySendError::Full(1)));
        assert!(tx.send_timeout(1, MOMENT).is_err());
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
        // The first in the queue times out, the one behind it does not.
        let (impatient, patient) = (rx.clone(), rx.clone());
        let first = go(move || impatient.recv_timeout(Duration::from_millis(10)));
        pause(MOMENT);
        let second = go(move || patient.recv());
        assert_eq!(first.join().unwrap(), Err(RecvTimeoutError::Timeout));
        tx.send(7).unwrap();
        assert_eq!(second.join().unwrap(), Ok(7));
    });
}

/// Deadlines race with a partner: each value is received once or comes back, none is lost or
/// doubled.
#[test]
fn racing_timeouts_lose_nothing() {
    with_workers(|| {
        for capacity in [0, 1] {
            let (tx, rx) = bounded(capacity);
            let senders = [Kind::Goroutine, Kind::Thread].map(|kind| {
                let tx = tx.clone();
                actor(kind, move |_| async move {
                    (0..1000u64).filter(|i| tx.send_timeout(*i, Duration::from_micros(i % 50)).is_ok()).sum::<u64>()
                })
            });
            drop(tx);
            let receivers = [Kind::Goroutine, Kind::Thread].map(|kind| {
                let rx = rx.clone();
                actor(kind, move |_| async move {
                    let mut sum = 0;
                    for i in 0.. {
                        match rx.recv_timeout(Duration::from_micros(i % 40)) {
                            Ok(value) => sum += value,
                            Err(RecvTimeoutError::Timeout) => {}
                            Err(RecvTimeoutError::Closed) => break,
                        }
                    }
                    sum
                })
            });
            let sent: u64 = senders.map(Actor::join).iter().sum();
            let received: u64 = receivers.map(Actor::join).iter().sum();
            assert_eq!(sent, received);
        }
    });
}

#[test]
fn an_unbounded_channel_never_waits() {
    with_workers(|| {
        let (tx, rx) = unbounded();
        (0..100_000).for_each(|i| tx.send(i).unwrap());
        assert_eq!(tx.len(), 100_000);
        drop(tx);
        assert!(rx.iter().eq(0..100_000));
    });
}

#[test]
fn iterators() {
    with_workers(|| {
        let (tx, rx) = bounded(10);
        (0..4).for_each(|i| tx.send(i).unwrap());
        assert_eq!(rx.try_iter().collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(rx.try_iter().next(), None);
        (0..4).for_each(|i| tx.send(i).unwrap());
        assert_eq!(rx.iter().take(2).collect::<Vec<_>>(), [0, 1]);
        drop(tx);
        assert_eq!(rx.into_iter().collect::<Vec<_>>(), [2, 3]);
    });
}

#[test]
fn ends_know_their_channel() {
    let ((tx, rx), (other_tx, other_rx)) = (bounded::<i32>(1), bounded::<i32>(1));
    assert!(tx.same_channel(&tx.clone()) && rx.same_channel(&rx.clone()));
    assert!(!tx.same_channel(&other_tx) && !rx.same_channel(&other_rx));
    assert_eq!(format!("{tx:?}"), "Sender { len: 0, capacity: Some(1), closed: false }");
    assert_eq!(format!("{rx:?}"), "Receiver { len: 0, capacity: Some(1), closed: false }");
}

#[test]
fn errors_have_texts_and_need_nothing_of_the_value() {
    /// Neither Debug nor Display.
    struct Opaque;
    const CLOSED: &str = "sending on a channel that is closed or has no receivers";
    let texts: [(Box<dyn Error>, &str, &str); 9] = [
        (Box::new(SendError(Opaque)), "SendError(\"channel closed\")", CLOSED),
        (Box::new(TrySendError::Full(Opaque)), "Full(\"channel full\")", "sending on a full channel"),
        (Box::new(TrySendError::Closed(Opaque)), "Closed(\"channel closed\")", CLOSED),
        (Box::new(SendTimeoutError::Timeout(Opaque)), "Timeout(\"timed out sending\")", "timed out sending"),
        (Box::new(SendTimeoutError::Closed(Opaque)), "Closed(\"channel closed\")", CLOSED),
        (Box::new(RecvError), "RecvError", "receiving on an empty, closed channel"),
        (Box::new(TryRecvError::Empty), "Empty", "receiving on an empty channel"),
        (Box::new(TryRecvError::Closed), "Closed", "receiving on an empty, closed channel"),
        (Box::new(RecvTimeoutError::Timeout), "Timeout", "timed out receiving"),
    ];
    for (error, debug, display) in texts {
        assert_eq!((format!("{error:?}").as_str(), error.to_string().as_str()), (debug, display));
        assert!(error.source().is_none());
    }
    assert_eq!(TrySendError::Full(7).into_inner() + SendTimeoutError::Timeout(8).into_inner(), 15);
}

/// The error can be boxed also if the value is neither `Send` nor `Sync` nor `'static`.
#[test]
fn errors_without_the_value_can_be_boxed() {
    fn send<T>(value: T) -> Result<(), Box<dyn Error + Send + Sync>> {
        let (tx, _) = bounded(1);
        tx.send(value).map_err(SendError::without_value)?;
        Ok(())
    }
    let local = Cell::new(1);
    assert!(send(Cell::new(1)).unwrap_err().is::<SendError<()>>());
    assert!(send(std::rc::Rc::new(&local)).unwrap_err().is::<SendError<()>>());
    assert_eq!(TrySendError::Full(&local).without_value(), TrySendError::Full(()));
    assert_eq!(TrySendError::Closed(&local).without_value(), TrySendError::Closed(()));
    assert_eq!(SendTimeoutError::Timeout(&local).without_value(), SendTimeoutError::Timeout(()));
    assert_eq!(SendTimeoutError::Closed(&local).without_value(), SendTimeoutError::Closed(()));
}

#[test]
fn ends_are_send_and_sync_for_values_that_are_send() {
    fn check<T: Send + Sync>() {}
    // A Cell is Send but not Sync: the ends move values, they do not share them.
    check::<Sender<Cell<i32>>>();
    check::<Receiver<Cell<i32>>>();
}

#[test]
fn channels_carry_what_is_neither_static_nor_send() {
    let text = String::from("borrowed");
    on_workers(2, 0, || {
        let (tx, rx) = bounded(1);
        scope(|s| {
            s.go(|| text.split('r').for_each(|part| tx.send(part).unwrap()));
            let parts: Vec<&str> = (0..3).map(|_| rx.recv().unwrap()).collect();
            assert_eq!(parts, ["bo", "", "owed"]);
        });
    });
    let (tx, rx) = bounded(1);
    let shared = Rc::new(7);
    tx.send(shared.clone()).unwrap();
    assert!(Rc::ptr_eq(&rx.recv().unwrap(), &shared));
}

/// Each value is dropped once: received, left in the buffer when an end is dropped, or offered in
/// vain.
#[test]
fn values_are_dropped_exactly_once() {
    struct Counts(Arc<AtomicUsize>);
    impl Drop for Counts {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    with_workers(|| {
        for receiver_first in [true, false] {
            let drops = Arc::new(AtomicUsize::new(0));
            let (tx, rx) = bounded(5);
            (0..5).for_each(|_| tx.send(Counts(drops.clone())).ok().unwrap());
            drop(rx.recv().unwrap());
            assert_eq!(drops.load(Ordering::SeqCst), 1);
            if receiver_first {
                drop(rx);
                // Nobody can receive them any more, so they are dropped before the senders are.
                assert_eq!(drops.load(Ordering::SeqCst), 5);
                drop(tx);
            } else {
                drop(tx);
                assert_eq!(drops.load(Ordering::SeqCst), 1);
                drop(rx);
            }
            assert_eq!(drops.load(Ordering::SeqCst), 5);
        }
    });
}

/// No lock of the channel is held while a destructor of a value runs: it may use the channel. If
/// that fails, the test hangs.
#[test]
fn destructors_of_values_may_use_the_channel() {
    struct Uses(Option<Sender<Uses>>, Arc<AtomicUsize>);
    impl Drop for Uses {
        fn drop(&mut self) {
            if let Some(tx) = self.0.take() {
                assert!(tx.len() <= 3 && tx.capacity() == Some(3));
                tx.close();
                assert!(tx.try_send(Uses(None, self.1.clone())).is_err());
            }
            self.1.fetch_add(1, Ordering::SeqCst);
        }
    }
    with_workers(|| {
        let drops = Arc::new(AtomicUsize::new(0));
        let make = |tx: &Sender<Uses>| Uses(Some(tx.clone()), drops.clone());
        // Buffered values die with the last receiver.
        let (tx, rx) = bounded(3);
        (0..3).for_each(|_| tx.send(make(&tx)).ok().unwrap());
        drop(rx);
        assert_eq!(drops.load(Ordering::SeqCst), 6);
        // A value that comes back.
        drop(tx.send(make(&tx)).unwrap_err());
        assert_eq!(drops.load(Ordering::SeqCst), 8);
        // A value with a future that is dropped, unpolled and waiting.
        let (tx, rx) = bounded(3);
        drop(tx.send_async(make(&tx)));
        assert_eq!(drops.load(Ordering::SeqCst), 10);
        assert!(tx.is_closed());
        drop(rx);
    });
}

/// A destructor's panic belongs to the caller that drops the value; for others the channel works as
/// before.
#[test]
fn a_value_whose_destructor_panics_does_not_break_the_channel() {
    struct Panics(bool);
    impl Drop for Panics {
        fn drop(&mut self) {
            assert!(!self.0, "in the destructor");
        }
    }
    with_workers(|| {
        let (tx, rx) = bounded(2);
        tx.send(Panics(true)).ok().unwrap();
        tx.send(Panics(false)).ok().unwrap();
        let other = rx.clone();
        assert!(go(move || drop(other.recv())).join().is_err());
        assert!(!rx.recv().unwrap().0);
        tx.send(Panics(true)).ok().unwrap();
        assert!(go(move || drop(rx)).join().is_err());
        assert!(tx.send(Panics(false)).is_err());
    });
}

/// A loop of operations that never have to wait lets others run on the only worker: goroutines,
/// sleepers, and goroutines that plain threads unpark.
#[test]
fn a_busy_channel_starves_nobody() {
    let busy_until = |event: &dyn Fn(Arc<AtomicBool>)| {
        let happened = Arc::new(AtomicBool::new(false));
        event(happened.clone());
        let (tx, rx) = bounded(1);
        while !happened.load(Ordering::SeqCst) {
            tx.send(1).unwrap();
            rx.recv().unwrap();
            rx.try_recv().unwrap_err();
        }
    };
    on_workers(1, 0, || {
        busy_until(&|happened| drop(go(move || happened.store(true, Ordering::SeqCst))));
        busy_until(&|happened| {
            drop(go(move || {
                pause(Duration::from_millis(3));
                happened.store(true, Ordering::SeqCst);
            }));
        });
        busy_until(&|happened| {
            let (tx, rx) = bounded(0);
            go(move || {
                rx.recv().unwrap();
                happened.store(true, Ordering::SeqCst);
            });
            thread::spawn(move || tx.send(()).unwrap());
        });
        busy_until(&|happened| {
            let timer = goby::time::after(Duration::from_millis(3));
            go(move || {
                timer.recv().unwrap();
                happened.store(true, Ordering::SeqCst);
            });
        });
    });
}

/// A pair hands the time slice back and forth, and starts goroutines on the way. It still has only
/// one slice: others get theirs.
#[test]
fn a_pair_that_starts_goroutines_does_not_starve_others() {
    on_workers(1, 0, || {
        let enough = Arc::new(AtomicBool::new(false));
        let ((there, pings), (pongs, back)) = (bounded(0), bounded(0));
        go(move || pings.iter().try_for_each(|ping: usize| pongs.send(ping)));
        let pair = go({
            let enough = enough.clone();
            move || {
                let mut rounds = 0;
                while !enough.load(Ordering::Relaxed) {
                    there.send(rounds).unwrap();
                    assert_eq!(back.recv(), Ok(rounds));
                    if rounds % 5 == 0 {
                        go(|| ());
                    }
                    rounds += 1;
                }
            }
        });
        // Between two turns the pair has one slice.
        (0..20).for_each(|_| goby::yield_now());
        enough.store(true, Ordering::Relaxed);
        pair.join().unwrap();
    });
}

#[test]
fn a_never_is_the_same_channel_as_another() {
    let (tx, rx) = bounded::<i32>(1);
    assert!(never::<i32>().same_channel(&never()) && !never().same_channel(&rx));
    assert!(Sender::<i32>::never().same_channel(&Sender::never()) && !tx.same_channel(&Sender::never()));
}
