//! S14 and S24: all capacities with ends of all kinds, and closes that race with all operations.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use goby::chan::{TryRecvError, TrySendError, bounded, unbounded};
use goby::{go, scope, select};

use crate::conformance::chan::{four_to_four, hundred_in_order, two_receivers_park_until_two_sends};
use crate::support::{Actor, KINDS, Kind, MOMENT, actor, capacities, pause, size, with_workers};

#[test]
fn s14_all_capacities() {
    with_workers(|| {
        for capacity in capacities() {
            let [first, second, third, fourth] = [0, 1, 2, 3].map(|i| KINDS[(capacity + i) % 4]);
            two_receivers_park_until_two_sends(capacity, [first, third]);
            hundred_in_order(capacity, first, second);
            hundred_in_order(capacity, third, fourth);
            four_to_four(capacity, KINDS, KINDS);
            a_sender_parks_when_it_is_full(capacity, second);
            fill_and_drain(capacity);
        }
    });
}

fn a_sender_parks_when_it_is_full(capacity: usize, kind: Kind) {
    let (tx, rx) = bounded(capacity);
    (0..capacity).for_each(|i| tx.try_send(i).unwrap());
    assert!(matches!(tx.try_send(0), Err(TrySendError::Full(0))));
    let sent = Arc::new(AtomicBool::new(false));
    let sender = actor(kind, {
        let sent = sent.clone();
        move |kind| async move {
            kind.send(&tx, capacity).await.unwrap();
            sent.store(true, Ordering::SeqCst);
        }
    });
    pause(MOMENT);
    assert!(!sent.load(Ordering::SeqCst), "sent more than {capacity} values");
    assert_eq!(rx.iter().collect::<Vec<_>>(), (0..=capacity).collect::<Vec<_>>());
    sender.join();
}

fn fill_and_drain(capacity: usize) {
    let (tx, rx) = bounded(capacity);
    (0..capacity).for_each(|i| tx.send(i).unwrap());
    assert_eq!((tx.len(), tx.capacity()), (capacity, Some(capacity)));
    tx.close();
    assert_eq!(rx.try_iter().collect::<Vec<_>>(), (0..capacity).collect::<Vec<_>>());
    assert_eq!(rx.try_recv(), Err(TryRecvError::Closed));
}

/// A value that counts how often it is made and dropped.
struct Counted(Arc<[AtomicUsize; 2]>);

impl Counted {
    fn new(counts: &Arc<[AtomicUsize; 2]>) -> Self {
        counts[0].fetch_add(1, Ordering::Relaxed);
        Counted(counts.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0[1].fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn s24a_racing_closers() {
    with_workers(|| {
        for _ in 0..size(300, 10_000) {
            let (tx, rx) = bounded::<i32>(0);
            let closers = [0; 4].map(|_| {
                let tx = tx.clone();
                go(move || tx.close())
            });
            let winners = closers.map(|closer| usize::from(closer.join().unwrap()));
            assert_eq!(winners.iter().sum::<usize>(), 1);
            assert!(rx.recv().is_err());
        }
    });
}

/// A sender fills a channel of 10 until it is refused, against a closer; `drop_receiver` closes by
/// dropping the receiver.
fn fill_against_a_closer(kind: Kind, drop_receiver: bool) {
    let counts = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let (tx, rx) = bounded(10);
    let closing = tx.clone();
    let sender = actor(kind, {
        let counts = counts.clone();
        move |kind| async move {
            let mut accepted = 0;
            loop {
                match kind.send(&tx, Counted::new(&counts)).await {
                    Ok(()) => accepted += 1,
                    Err(refused) => {
                        let _back: Counted = refused.into_inner();
                        return accepted;
                    }
                }
            }
        }
    });
    let accepted = if drop_receiver {
        drop(rx);
        let accepted = sender.join();
        assert!(accepted <= 10);
        drop(closing);
        accepted
    } else {
        assert!(closing.close());
        let accepted = sender.join();
        assert!(accepted <= 10, "{accepted} values in a channel of 10 nobody received from");
        assert_eq!(rx.iter().count(), accepted);
        accepted
    };
    // Accepted ones were received or dropped with the channel, and one came back.
    let made = counts[0].load(Ordering::Relaxed);
    assert_eq!((made, counts[1].load(Ordering::Relaxed)), (accepted + 1, made));
}

#[test]
fn s24b_a_sender_against_a_closer() {
    with_workers(|| {
        for _ in 0..size(500, 10_000) {
            fill_against_a_closer(Kind::Goroutine, false);
            fill_against_a_closer(Kind::Task, true);
        }
        for kind in KINDS {
            for drop_receiver in [false, true] {
                (0..size(30, 1000)).for_each(|_| fill_against_a_closer(kind, drop_receiver));
            }
        }
    });
}

#[test]
fn s24c_a_sender_parked_in_a_select_when_the_channel_is_closed() {
    with_workers(|| {
        for round in 0..size(500, 10_000) {
            let (tx, rx) = bounded(0);
            let (_other_tx, other_rx) = bounded::<i32>(0);
            let closing = tx.clone();
            let sender = go(move || {
                select! {
                    send(tx, round) -> sent => sent.unwrap_err().into_inner(),
                    recv(other_rx) -> _ => panic!("received from a channel without a value"),
                }
            });
            match round % 3 {
                0 => assert!(closing.close()),
                1 => {
                    // Most often it is parked by now; all other rounds close at once.
                    goby::yield_now();
                    assert!(closing.close());
                }
                _ => drop(rx),
            }
            assert_eq!(sender.join().unwrap(), round);
        }
    });
}

#[test]
fn s24d_one_close_ends_100_parked_receivers() {
    with_workers(|| {
        for round in 0..size(30, 10_000) {
            let (tx, rx) = bounded::<i32>(round % 3);
            let receivers: Vec<Actor<bool>> = (0..100)
                .map(|i| {
                    // Threads are expensive; each of the other kinds makes up a third.
                    let kind = if i == 50 { Kind::Thread } else { [Kind::Goroutine, Kind::BlockOn, Kind::Task][i % 3] };
                    let rx = rx.clone();
                    actor(kind, move |kind| async move { kind.recv(&rx).await.is_err() })
                })
                .collect();
            if round % 2 == 0 {
                goby::yield_now();
            }
            tx.close();
            assert_eq!(receivers.into_iter().map(Actor::join).filter(|end| *end).count(), 100);
        }
    });
}

#[test]
fn s24e_len_and_capacity_are_readable_during_a_close() {
    with_workers(|| {
        for round in 0..size(500, 10_000) {
            let (tx, rx) = if round % 2 == 0 { bounded(10) } else { unbounded() };
            let capacity = tx.capacity();
            (0..5).for_each(|i| tx.send(i).unwrap());
            scope(|s| {
                s.go(|| tx.close());
                for _ in 0..2 {
                    s.go(|| {
                        assert_eq!((tx.len(), tx.capacity()), (5, capacity));
                        assert_eq!((rx.len(), rx.capacity()), (5, capacity));
                    });
                }
            });
            assert!(tx.is_closed() && rx.is_closed());
        }
    });
}
