//! Channels: rows 1 to 45 of the conformance list. Row 35, about code that must not compile, is
//! `compile_fail/c035_perm.rs`.

use std::cell::UnsafeCell;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use goby::chan::{Receiver, RecvError, SendError, Sender, TryRecvError, TrySendError, bounded, never, unbounded};
use goby::{go, yield_now};

use crate::support::{
    Actor, KINDS, Kind, MOMENT, actor, capacities, on_workers, pause, size, wait_until, with_workers,
    with_workers_leaving,
};

/// Receives one value, then counts itself in `done`.
fn receive_one(kind: Kind, rx: &Receiver<i32>, done: &Arc<AtomicUsize>) -> Actor<Result<i32, RecvError>> {
    let (rx, done) = (rx.clone(), done.clone());
    actor(kind, move |kind| async move {
        let value = kind.recv(&rx).await;
        done.fetch_add(1, Ordering::SeqCst);
        value
    })
}

pub(crate) fn two_receivers_park_until_two_sends(capacity: usize, kinds: [Kind; 2]) {
    let (tx, rx) = bounded(capacity);
    let done = Arc::new(AtomicUsize::new(0));
    let receivers = kinds.map(|kind| receive_one(kind, &rx, &done));
    pause(MOMENT);
    assert_eq!(done.load(Ordering::SeqCst), 0, "received from an empty channel of {capacity}");
    tx.send(1).unwrap();
    tx.send(2).unwrap();
    let mut values = receivers.map(|receiver| receiver.join().unwrap());
    values.sort();
    assert_eq!(values, [1, 2]);
}

#[test]
fn c001_receivers_of_an_empty_channel_park_until_a_value_comes() {
    with_workers(|| {
        for capacity in capacities() {
            two_receivers_park_until_two_sends(capacity, [Kind::Goroutine; 2]);
        }
        for capacity in [0, 1, 3] {
            for first in KINDS {
                for second in KINDS {
                    two_receivers_park_until_two_sends(capacity, [first, second]);
                }
            }
        }
    });
}

#[test]
fn c003_try_recv_on_an_empty_open_channel_says_empty() {
    with_workers(|| {
        for capacity in capacities() {
            let (tx, rx) = bounded::<i32>(capacity);
            assert_eq!(rx.try_recv().unwrap_err(), TryRecvError::Empty);
            assert_eq!(rx.try_iter().next(), None);
            // The same after a value has come and gone.
            if capacity > 0 {
                tx.send(1).unwrap();
                assert_eq!(rx.try_recv().unwrap(), 1);
                assert_eq!(rx.try_recv().unwrap_err(), TryRecvError::Empty);
            }
            drop(tx);
            assert_eq!(rx.try_recv().unwrap_err(), TryRecvError::Closed);
        }
    });
}

#[test]
fn c005_what_is_buffered_is_received_before_the_end_is_seen() {
    with_workers(|| {
        for capacity in capacities() {
            for close_by_drop in [false, true] {
                let (tx, rx) = bounded(capacity);
                for i in 0..capacity {
                    tx.send(i).unwrap();
                }
                if close_by_drop {
                    drop(tx);
                } else {
                    assert!(tx.close());
                }
                assert!(rx.is_closed());
                for i in 0..capacity {
                    assert_eq!(rx.recv().unwrap(), i);
                }
                rx.recv().unwrap_err();
                assert_eq!(rx.try_recv().unwrap_err(), TryRecvError::Closed);
            }
        }
    });
}

#[test]
fn c007_a_parked_receiver_is_woken_by_close() {
    with_workers(|| {
        for capacity in capacities() {
            let kind = KINDS[capacity % 4];
            for close_by_drop in [false, true] {
                let (tx, rx) = bounded::<i32>(capacity);
                let done = Arc::new(AtomicUsize::new(0));
                let receivers = [Kind::Goroutine, kind].map(|kind| receive_one(kind, &rx, &done));
                pause(MOMENT);
                assert_eq!(done.load(Ordering::SeqCst), 0);
                if close_by_drop {
                    drop(tx);
                } else {
                    assert!(tx.close());
                }
                for receiver in receivers {
                    receiver.join().unwrap_err();
                }
            }
        }
    });
}

pub(crate) fn hundred_in_order(capacity: usize, sender: Kind, receiver: Kind) {
    let (tx, rx) = bounded(capacity);
    let sender = actor(sender, move |kind| async move {
        for i in 0..100 {
            kind.send(&tx, i).await.unwrap();
        }
    });
    let receiver = actor(receiver, move |kind| async move {
        for i in 0..100 {
            assert_eq!(kind.recv(&rx).await.unwrap(), i, "capacity {capacity}");
        }
        kind.recv(&rx).await.unwrap_err();
    });
    sender.join();
    receiver.join();
}

#[test]
fn c009_one_sender_and_one_receiver_keep_the_order() {
    with_workers(|| {
        for capacity in capacities() {
            hundred_in_order(capacity, Kind::Goroutine, Kind::Goroutine);
        }
        for capacity in [0, 1, 7] {
            for sender in KINDS {
                for receiver in KINDS {
                    hundred_in_order(capacity, sender, receiver);
                }
            }
        }
    });
}

/// Four senders of 0..1000 and four receivers of 1000 values each.
pub(crate) fn four_to_four(capacity: usize, senders: [Kind; 4], receivers: [Kind; 4]) {
    const VALUES: usize = 1000;
    let (tx, rx) = bounded(capacity);
    let senders = senders.map(|kind| {
        let tx = tx.clone();
        actor(kind, move |kind| async move {
            for i in 0..VALUES {
                kind.send(&tx, i).await.unwrap();
            }
        })
    });
    let receivers = receivers.map(|kind| {
        let rx = rx.clone();
        actor(kind, move |kind| async move {
            let mut received = Vec::with_capacity(VALUES);
            for _ in 0..VALUES {
                received.push(kind.recv(&rx).await.unwrap());
            }
            received
        })
    });
    let mut times_received = vec![0; VALUES];
    for value in receivers.into_iter().flat_map(Actor::join) {
        times_received[value] += 1;
    }
    senders.into_iter().for_each(Actor::join);
    assert_eq!(times_received, vec![4; VALUES], "capacity {capacity}");
    assert_eq!(rx.try_recv().unwrap_err(), TryRecvError::Empty);
}

#[test]
fn c011_many_to_many_loses_and_doubles_nothing() {
    with_workers(|| {
        for capacity in capacities() {
            four_to_four(capacity, [Kind::Goroutine; 4], [Kind::Goroutine; 4]);
        }
        for capacity in [0, 1, 10] {
            four_to_four(capacity, KINDS, KINDS);
        }
    });
}

#[test]
fn c013_len_and_capacity() {
    with_workers(|| {
        for capacity in 0..200 {
            let (tx, rx) = bounded(capacity);
            assert_eq!((tx.len(), tx.capacity()), (0, Some(capacity)));
            assert_eq!((rx.len(), rx.capacity()), (0, Some(capacity)));
            assert!(tx.is_empty() && rx.is_empty());
            for i in 0..capacity {
                assert!(!tx.is_full() && !rx.is_full());
                tx.send(i).unwrap();
                assert_eq!((tx.len(), rx.len()), (i + 1, i + 1));
            }
            assert_eq!((tx.len(), tx.capacity()), (capacity, Some(capacity)));
            assert!(tx.is_full() && rx.is_full(), "a channel of {capacity} with {capacity} values");
        }
        let (tx, rx) = unbounded();
        (0..1000).for_each(|i| tx.send(i).unwrap());
        assert_eq!((tx.len(), tx.capacity(), rx.len(), rx.capacity()), (1000, None, 1000, None));
        assert!(!tx.is_full() && !rx.is_full());
    });
}

/// Counts how often it is dropped.
struct CountsDrop(Arc<AtomicUsize>);

impl Drop for CountsDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn c015_sending_on_a_closed_channel_gives_the_value_back() {
    with_workers(|| {
        for capacity in [Some(0), Some(1), Some(5), None] {
            for kind in KINDS {
                let (tx, rx) = capacity.map_or_else(unbounded, bounded);
                tx.close();
                let sent = Box::new(17);
                let address: *const i32 = &*sent;
                let back = actor(kind, {
                    let tx = tx.clone();
                    move |kind| async move { kind.send(&tx, sent).await.unwrap_err().into_inner() }
                });
                // It is the same box, so nothing was copied, dropped or kept.
                assert!(std::ptr::eq(&*back.join(), address));
                assert!(matches!(tx.try_send(Box::new(1)), Err(TrySendError::Closed(b)) if *b == 1));
                drop(rx);
            }
        }
    });
}

#[test]
fn c017_a_refused_value_is_not_in_the_channel_and_is_dropped_once() {
    with_workers(|| {
        for capacity in [0, 1, 5] {
            let (tx, rx) = bounded(capacity);
            tx.close();
            let drops = Arc::new(AtomicUsize::new(0));
            for sent in 1..=2 {
                let refused = tx.send(CountsDrop(drops.clone())).unwrap_err();
                assert_eq!(drops.load(Ordering::SeqCst), sent - 1);
                assert_eq!(rx.len(), 0);
                assert!(rx.recv().is_err());
                assert!(matches!(rx.try_recv(), Err(TryRecvError::Closed)));
                drop(refused);
                assert_eq!(drops.load(Ordering::SeqCst), sent);
            }
        }
    });
}

#[test]
fn c019_closing_twice_does_nothing() {
    with_workers(|| {
        let (tx, rx) = bounded(2);
        let other = tx.clone();
        tx.send(1).unwrap();
        assert!(tx.close());
        assert!(!tx.close());
        assert!(!other.close(), "closed by another handle");
        assert!(tx.is_closed() && other.is_closed() && rx.is_closed());
        assert_eq!(rx.recv().unwrap(), 1);
        rx.recv().unwrap_err();
        drop((tx, other));
        rx.recv().unwrap_err();
        // Closed already because nobody can receive. A close may still be the first one, or not,
        // but it never panics.
        let (tx, rx) = bounded::<i32>(0);
        drop(rx);
        tx.close();
        assert!(!tx.close());
    });
}

#[test]
fn c021_exactly_one_of_two_racing_closes_wins() {
    with_workers(|| {
        for round in 0..size(1000, 10_000) {
            let (tx, rx) = bounded::<i32>(round % 2);
            // A plain thread takes part only now and then: a new one in every round would take most
            // of the time.
            let second = if round % 32 == 0 { Kind::Thread } else { Kind::Goroutine };
            let closers = [Kind::Goroutine, second].map(|kind| {
                let tx = tx.clone();
                actor(kind, move |_| async move { tx.close() })
            });
            assert_eq!(closers.map(Actor::join).iter().filter(|won| **won).count(), 1);
            rx.recv().unwrap_err();
        }
    });
}

#[test]
fn c023_a_send_on_the_never_channel_blocks_for_ever() {
    with_workers_leaving(2, || {
        let passed = Arc::new(AtomicBool::new(false));
        let (in_send, in_recv) = (passed.clone(), passed.clone());
        go(move || {
            let _ = Sender::never().send(7);
            in_send.store(true, Ordering::SeqCst);
        });
        go(move || {
            let _ = never::<i32>().recv();
            in_recv.store(true, Ordering::SeqCst);
        });
        pause(Duration::from_millis(100));
        assert!(!passed.load(Ordering::SeqCst));
        assert!(matches!(Sender::never().try_send(7), Err(TrySendError::Full(7))));
        assert_eq!(never::<i32>().try_recv().unwrap_err(), TryRecvError::Empty);
    });
}

#[test]
fn c025_a_send_with_free_space_does_not_switch() {
    with_workers(|| {
        let (tx, rx) = bounded(1);
        tx.send(1).unwrap();
        assert_eq!(rx.len(), 1);
    });
    // On one worker another goroutine can only run if this one yields. The end of a time slice may
    // make it yield, hence several tries; a send that always switches fails them all.
    on_workers(1, 0, || {
        let without_switch = (0..100).any(|_| {
            let other_ran = Arc::new(AtomicBool::new(false));
            let other = go({
                let other_ran = other_ran.clone();
                move || other_ran.store(true, Ordering::SeqCst)
            });
            let (tx, _rx) = bounded(1);
            tx.send(1).unwrap();
            let switched = other_ran.load(Ordering::SeqCst);
            other.join().unwrap();
            !switched
        });
        assert!(without_switch, "each of 100 sends into a free buffer gave way to another goroutine");
    });
}

#[test]
fn c027_a_value_or_the_close_is_always_there_for_try_recv() {
    with_workers(|| {
        for _ in 0..size(2000, 10_000) {
            let (tx, rx) = bounded(1);
            tx.send(1).unwrap();
            let other = rx.clone();
            let tried = go(move || other.try_recv());
            tx.close();
            let received = rx.recv();
            let tried = tried.join().unwrap();
            assert!(
                matches!((tried, received), (Ok(1), Err(_)) | (Err(TryRecvError::Closed), Ok(1))),
                "{tried:?} and {received:?}"
            );
        }
    });
}

fn zero_size<T: Debug + Default + PartialEq + Send + 'static>() {
    for capacity in [0, 1] {
        let (tx, rx) = bounded::<T>(capacity);
        let sender = go(move || (0..10).for_each(|_| tx.send(T::default()).unwrap()));
        assert_eq!(rx.iter().collect::<Vec<_>>(), (0..10).map(|_| T::default()).collect::<Vec<_>>());
        sender.join().unwrap();
    }
    let (tx, rx) = unbounded::<T>();
    (0..100).for_each(|_| tx.send(T::default()).unwrap());
    assert_eq!(rx.len(), 100);
    assert_eq!(rx.try_iter().count(), 100);
}

#[test]
fn c029_channels_of_zero_size_values() {
    with_workers(|| {
        zero_size::<()>();
        zero_size::<[u8; 0]>();
        zero_size::<[u64; 0]>();
    });
}

#[test]
fn c031_iterating_ends_when_the_channel_is_closed() {
    with_workers(|| {
        for kind in KINDS {
            let letters = || {
                let (tx, rx) = bounded(0);
                let sender = actor(kind, move |kind| async move {
                    for letter in 'a'..='z' {
                        kind.send(&tx, letter).await.unwrap();
                    }
                });
                (sender, rx)
            };
            let alphabet = "abcdefghijklmnopqrstuvwxyz";
            let (sender, rx) = letters();
            assert_eq!(rx.iter().collect::<String>(), alphabet);
            sender.join();
            let (sender, rx) = letters();
            let mut collected = String::new();
            for letter in &rx {
                collected.push(letter);
            }
            assert_eq!(collected, alphabet);
            sender.join();
            let (sender, rx) = letters();
            assert_eq!(rx.into_iter().collect::<String>(), alphabet);
            sender.join();
        }
    });
}

#[test]
fn c033_channels_carry_channels() {
    with_workers(|| {
        let (outer_tx, outer_rx) = bounded::<Sender<i32>>(1);
        let (tx, rx) = bounded(1);
        outer_tx.send(tx).unwrap();
        outer_rx.recv().unwrap().try_send(2).unwrap();
        assert_eq!(rx.recv().unwrap(), 2);
        rx.recv().unwrap_err(); // The only sender went through the channel and is gone.

        // A sender still inside a channel that nobody can receive from is dropped with it.
        let (tx, rx) = bounded::<i32>(1);
        outer_tx.send(tx).unwrap();
        drop((outer_tx, outer_rx));
        rx.recv().unwrap_err();
    });
}

/// A cell that goroutines share without a lock; a missing ordering is a data race, which
/// ThreadSanitizer reports.
#[derive(Default)]
struct Unlocked(UnsafeCell<u64>);

// SAFETY: each test orders all uses of the cell by channel operations; that is what it tests.
unsafe impl Sync for Unlocked {}

impl Unlocked {
    fn set(&self, value: u64) {
        // SAFETY: ordered by the channel under test, so no other use is concurrent.
        unsafe { *self.0.get() = value }
    }

    fn get(&self) -> u64 {
        // SAFETY: as in `set`.
        unsafe { *self.0.get() }
    }
}

#[test]
fn c037_a_rendezvous_orders_memory_both_ways() {
    with_workers(|| {
        for receiver in KINDS {
            let (tx, rx) = bounded::<u64>(0);
            let sent = Arc::new(Unlocked::default());
            let answered = Arc::new(Unlocked::default());
            let receiver = actor(receiver, {
                let (sent, answered) = (sent.clone(), answered.clone());
                move |kind| async move {
                    for round in 1..=500 {
                        // Written before the receive, so seen after the send returns.
                        answered.set(round);
                        assert_eq!(kind.recv(&rx).await.unwrap(), round);
                        assert_eq!(sent.get(), round);
                        // A second meeting before the next round writes again.
                        kind.recv(&rx).await.unwrap();
                    }
                }
            });
            for round in 1..=500 {
                sent.set(round);
                tx.send(round).unwrap();
                assert_eq!(answered.get(), round);
                tx.send(0).unwrap();
            }
            receiver.join();
        }
    });
}

#[test]
fn c039_a_channel_of_capacity_one_is_a_mutex() {
    with_workers(|| {
        let (tx, rx) = bounded(1);
        let shared = Arc::new(Unlocked::default());
        let actors = KINDS.map(|kind| {
            let (tx, rx, shared) = (tx.clone(), rx.clone(), shared.clone());
            actor(kind, move |kind| async move {
                for _ in 0..500 {
                    kind.send(&tx, ()).await.unwrap();
                    shared.set(shared.get() + 1);
                    kind.recv(&rx).await.unwrap();
                }
            })
        });
        actors.into_iter().for_each(Actor::join);
        tx.send(()).unwrap();
        assert_eq!(shared.get(), 4 * 500);
    });
}

#[test]
fn c041_a_sender_that_blocked_hands_its_value_over() {
    with_workers(|| {
        for kind in KINDS {
            let (tx, rx) = bounded(1);
            tx.send(Box::new(1)).unwrap();
            let sent = Arc::new(AtomicBool::new(false));
            let sender = actor(kind, {
                let sent = sent.clone();
                move |kind| async move {
                    kind.send(&tx, Box::new(42)).await.unwrap();
                    sent.store(true, Ordering::SeqCst);
                }
            });
            pause(Duration::from_millis(10));
            assert!(!sent.load(Ordering::SeqCst), "sent into a full channel");
            assert_eq!(*rx.recv().unwrap(), 1);
            assert_eq!(*rx.recv().unwrap(), 42);
            sender.join();
        }
    });
}

fn polling_meets_waiting<T: Clone + Debug + PartialEq + Send + 'static>(first: T, second: T) {
    for capacity in [0, 1] {
        for kind in KINDS {
            // A polling send reaches a waiting receiver.
            let (tx, rx) = bounded::<T>(capacity);
            let receiver = actor(kind, move |kind| async move { kind.recv(&rx).await.unwrap() });
            wait_until("try_send to find a receiver", || tx.try_send(first.clone()).is_ok());
            assert_eq!(receiver.join(), first);
            // A polling receive gets the value of a waiting sender.
            let (tx, rx) = bounded::<T>(capacity);
            let value = second.clone();
            let sender = actor(kind, move |kind| async move { kind.send(&tx, value).await.is_ok() });
            let mut received = None;
            wait_until("try_recv to find a sender", || {
                received = rx.try_recv().ok();
                received.is_some()
            });
            assert_eq!(received.unwrap(), second);
            assert!(sender.join());
        }
    }
}

#[test]
fn c043_polling_ends_meet_waiting_ones() {
    with_workers(|| {
        polling_meets_waiting(123i32, 234);
        polling_meets_waiting(123_456i64, 234_567);
        polling_meets_waiting(true, false);
        polling_meets_waiting("hello".to_owned(), "hello again".to_owned());
    });
}

fn read_all<T>(rx: Receiver<T>) -> Vec<T> {
    rx.into_iter().collect()
}

fn filter<T: Send + 'static>(rx: Receiver<T>, keep: impl Fn(&T) -> bool + Send + 'static) -> Receiver<T> {
    let (tx, filtered) = bounded(0);
    go(move || -> Result<(), SendError<T>> {
        for value in rx {
            if keep(&value) {
                tx.send(value)?;
            }
        }
        Ok(())
    });
    filtered
}

#[test]
fn c045_generic_pipeline_helpers() {
    with_workers(|| {
        let feed = |values: &'static [i32]| {
            let (tx, rx) = bounded(0);
            go(move || values.iter().try_for_each(|value| tx.send(*value)));
            rx
        };
        assert_eq!(read_all(feed(&[4, 2, 5])), [4, 2, 5]);
        assert_eq!(read_all(filter(feed(&[1, 2, 3]), |value| value % 2 == 0)), [2]);
        // A filter ends, too, when nobody wants its output any more: the check for leaked
        // goroutines sees that.
        drop(filter(feed(&[1, 2, 3]), |_| true));
        yield_now();
    });
}
