//! S17, S20 and S21: selects against each other, against sends and closes, and their fairness.

use goby::chan::{Receiver, Sender, bounded, never, unbounded};
use goby::chan::{Select, Selected};
use goby::{go, select, yield_now};

use crate::support::{Actor, KINDS, Kind, actor, race, size, with_workers};

/// Waits for a dynamic select the way `kind` waits: blocking, or as a future.
pub(crate) async fn wait<'s>(kind: Kind, select: &'s mut Select<'_>) -> Selected<'s> {
    match kind {
        Kind::Goroutine | Kind::Thread => select.select(),
        Kind::BlockOn | Kind::Task => select.select_async().await,
    }
}

/// Two goroutines do 1000 selects each between sending their id to a channel and receiving from it.
pub(crate) fn self_select(capacity: usize) {
    let (tx, rx) = bounded(capacity);
    let goroutines = [0, 1].map(|id| {
        let (tx, rx) = (tx.clone(), rx.clone());
        go(move || {
            for round in 0..1000 {
                let received = if id == 0 || round % 2 == 0 {
                    select! {
                        send(tx, id) -> sent => { sent.unwrap(); None }
                        recv(rx) -> value => Some(value.unwrap()),
                    }
                } else {
                    select! {
                        recv(rx) -> value => Some(value.unwrap()),
                        send(tx, id) -> sent => { sent.unwrap(); None }
                    }
                };
                assert!(capacity > 0 || received != Some(id), "{id} received from itself");
            }
        })
    });
    goroutines.into_iter().for_each(|goroutine| goroutine.join().unwrap());
}

/// The same by actors of two kinds, through the dynamic select.
fn self_select_of_kinds(capacity: usize, kinds: [Kind; 2]) {
    let (tx, rx) = bounded(capacity);
    let actors = [0, 1].map(|id| {
        let (tx, rx) = (tx.clone(), rx.clone());
        actor(kinds[id], move |kind| async move {
            for round in 0..500 {
                let mut select = Select::new();
                let mut send = 0;
                if id == 0 || round % 2 == 0 {
                    send = select.send(&tx, id);
                    select.recv(&rx);
                } else {
                    select.recv(&rx);
                    send = select.send(&tx, id).max(send);
                }
                let mut selected = wait(kind, &mut select).await;
                if selected.index() == send {
                    selected.send(&tx).unwrap();
                } else {
                    let received = selected.recv(&rx).unwrap();
                    assert!(capacity > 0 || received != id, "{id} received from itself");
                }
            }
        })
    });
    actors.into_iter().for_each(Actor::join);
}

#[test]
fn s17_self_select() {
    with_workers(|| {
        for capacity in [0, 10] {
            for _ in 0..size(3, 100) {
                self_select(capacity);
            }
            for first in KINDS {
                for second in KINDS {
                    self_select_of_kinds(capacity, [first, second]);
                }
            }
        }
    });
}

/// Whether a select that does not wait finds one of two channels ready.
fn one_is_ready(first: &Receiver<i32>, second: &Receiver<i32>) -> bool {
    select! {
        recv(first) -> _ => true,
        recv(second) -> _ => true,
        default => false,
    }
}

/// The first channel is ready; the second is made ready before the first is emptied, by a value or
/// by closing it. At every instant one of them is ready, so a goroutine's select that does not wait
/// must find one.
pub(crate) fn one_instant(rounds: usize, close: bool) {
    for _ in 0..rounds {
        let (first_tx, first) = bounded(1);
        let (second_tx, second) = bounded(if close { 0 } else { 1 });
        first_tx.send(1).unwrap();
        let helper = go({
            let (first, second) = (first.clone(), second.clone());
            move || one_is_ready(&first, &second)
        });
        make_ready_then_empty(&second_tx, close, &first);
        assert!(helper.join().unwrap(), "a select saw no channel ready (close: {close})");
    }
}

fn make_ready_then_empty(second: &Sender<i32>, close: bool, first: &Receiver<i32>) {
    if close {
        second.close();
    } else {
        second.send(1).unwrap();
    }
    select! {
        recv(first) -> _ => {}
        default => {}
    }
}

#[test]
fn s20_one_instant_select() {
    with_workers(|| {
        for close in [false, true] {
            one_instant(size(3000, 100_000), close);
            // The same at the very same moment, on two threads.
            race(
                size(3000, 100_000),
                |_| {
                    let (first, second) = (bounded(1), bounded(if close { 0 } else { 1 }));
                    first.0.send(1).unwrap();
                    (first, second)
                },
                |((_, first), (second_tx, _))| make_ready_then_empty(second_tx, close, first),
                |((_, first), (_, second))| one_is_ready(first, second),
                |_, (), ready| assert!(ready, "a select saw no channel ready (close: {close})"),
            );
        }
    });
}

/// Two always-ready channels of four, `trials` selects: how often the first was taken is within 10
/// sigma of one half.
pub(crate) fn fair_between_two(trials: usize) {
    let fill = || {
        let (tx, rx) = bounded(trials + 1);
        (0..=trials).for_each(|i| tx.send(i).unwrap());
        (tx, rx)
    };
    let ((_tx1, ready1), (_tx2, ready2)) = (fill(), fill());
    let ((_tx3, idle1), (_tx4, idle2)) = (bounded::<i32>(0), bounded::<i32>(0));
    let mut first = 0;
    for _ in 0..trials {
        select! {
            recv(idle1) -> _ => unreachable!(),
            recv(idle2) -> _ => unreachable!(),
            recv(ready1) -> _ => first += 1,
            recv(ready2) -> _ => {}
        }
    }
    assert!((trials * 45 / 100..=trials * 55 / 100).contains(&first), "{first} of {trials}");
}

/// 100 selects between sending 0 and sending 1 on one channel: more than 10 of each.
fn random_send(capacity: usize) {
    let (tx, rx) = bounded(capacity);
    let receiver = go(move || {
        let mut counts = [0; 2];
        for _ in 0..100 {
            yield_now();
            counts[rx.recv().unwrap()] += 1;
        }
        counts
    });
    for _ in 0..100 {
        select! {
            send(tx, 1) -> sent => sent.unwrap(),
            send(tx, 0) -> sent => sent.unwrap(),
        }
    }
    let counts: [i32; 2] = receiver.join().unwrap();
    assert!(counts.iter().all(|count| *count > 10), "{counts:?} with capacity {capacity}");
}

#[test]
fn s21_select_fairness() {
    with_workers(|| {
        fair_between_two(10_000);
        random_send(0);
        random_send(100);
        eight_ready_cases(80_000);
        eight_ready_cases_at_run_time(80_000);
    });
}

/// Eight ready cases of both sorts: each is taken between 9000 and 11 000 times in 80 000, 10 sigma
/// to both sides.
fn check_eight(counts: [usize; 8]) {
    assert!(counts.iter().all(|count| (9000..=11_000).contains(count)), "{counts:?}");
}

fn eight_ready_cases(trials: usize) {
    let closed = || bounded::<()>(0).1; // The sender is dropped.
    let (r1, r2, r3, r4) = (closed(), closed(), closed(), closed());
    let ((s1, _r1), (s2, _r2), (s3, _r3), (s4, _r4)) = (unbounded(), unbounded(), unbounded(), unbounded());
    let mut counts = [0; 8];
    for _ in 0..trials {
        let taken = select! {
            send(s1, 0u8) -> _ => 0,
            recv(r1) -> _ => 1,
            recv(r2) -> _ => 2,
            send(s2, 0u8) -> _ => 3,
            recv(never::<i32>()) -> _ => unreachable!(),
            send(s3, 0u8) -> _ => 4,
            send(s4, 0u8) -> _ => 5,
            recv(r3) -> _ => 6,
            recv(r4) -> _ => 7,
        };
        counts[taken] += 1;
    }
    check_eight(counts);
}

fn eight_ready_cases_at_run_time(trials: usize) {
    let receivers = [(); 8].map(|()| bounded::<()>(0).1);
    let mut counts = [0; 8];
    for _ in 0..trials {
        let mut select = Select::new();
        for receiver in &receivers {
            select.recv(receiver);
        }
        let mut selected = select.select();
        let index = selected.index();
        selected.recv(&receivers[index]).unwrap_err();
        counts[index] += 1;
    }
    check_eight(counts);
}
