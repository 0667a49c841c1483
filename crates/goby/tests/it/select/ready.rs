//! `ready` and its siblings: they say which operation would not wait, and do none.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use goby::chan::{
    Receiver, RecvError, Select, SendError, Sender, TryRecvError, TrySendError, bounded, never, unbounded,
};
use goby::{go, select};

use crate::support::{Actor, KINDS, Kind, MOMENT, PATIENCE, actor, size, wait_until, with_workers};

/// The two kinds that block: `ready` has no async form.
const BLOCKING: [Kind; 2] = [Kind::Goroutine, Kind::Thread];

#[test]
fn ready_receives_nothing() {
    let check = || {
        for (tx, rx) in [bounded(1), unbounded()] {
            let (_idle_tx, idle) = bounded::<String>(1);
            let mut select = Select::new();
            let (_, index) = (select.recv(&idle), select.recv(&rx));
            assert_eq!((select.try_ready(), select.ready_timeout(MOMENT)), (None, None));
            assert_eq!(select.ready_deadline(goby_runtime::now()), None);
            tx.send(1).unwrap();
            for _ in 0..3 {
                assert_eq!((select.ready(), select.try_ready(), rx.len()), (index, Some(index), 1));
                assert_eq!(select.ready_timeout(Duration::MAX), Some(index));
                assert_eq!(select.ready_deadline(goby_runtime::now()), Some(index));
            }
            assert_eq!(rx.try_recv(), Ok(1));
            assert_eq!(select.try_ready(), None);
        }
    };
    with_workers(check);
    check(); // On a plain thread.
}

#[test]
fn ready_is_not_over_before_its_time() {
    with_workers(|| {
        let (_tx, rx) = bounded::<i32>(0);
        for time in [0, 1, 20].map(Duration::from_millis) {
            let start = goby_runtime::now();
            let mut select = Select::new();
            select.recv(&rx);
            assert_eq!(select.ready_timeout(time), None);
            assert!(goby_runtime::now() - start >= time);
            assert_eq!(select.ready_deadline(start + 2 * time), None);
            assert!(goby_runtime::now() - start >= 2 * time);
        }
        assert_eq!((Select::new().try_ready(), Select::new().ready_timeout(MOMENT)), (None, None));
    });
}

/// Everything that makes a receive possible ends the wait: a value, a sender that waits, a future
/// that sends, a select that sends, the end.
#[test]
fn ready_waits_for_something_to_receive() {
    with_workers(|| {
        for kind in BLOCKING {
            for capacity in [0, 1] {
                for sending in 0..4 {
                    let ((tx, rx), nobody) = (bounded(capacity), never::<i32>());
                    let waiting = actor(kind, move |_| async move {
                        let mut select = Select::new();
                        select.recv(&nobody);
                        let index = select.recv(&rx);
                        assert_eq!(select.ready(), index);
                        rx.recv()
                    });
                    crate::support::pause(MOMENT);
                    let sent = match sending {
                        0 => tx.send(7).map(|()| true),
                        1 => goby::block_on(tx.send_async(7)).map(|()| true),
                        2 => select! { send(tx, 7) -> sent => sent.map(|()| true) },
                        _ => Ok(!tx.close()),
                    };
                    let received = waiting.join();
                    assert_eq!(received.is_ok(), sent.unwrap(), "{kind:?}, capacity {capacity}, {sending}");
                }
            }
        }
    });
}

/// The same for a send: room in the buffer, a receiver of any kind, the end.
#[test]
fn ready_waits_for_place_to_send() {
    with_workers(|| {
        for kind in BLOCKING {
            for capacity in [0, 1] {
                for receiving in 0..4 {
                    let (tx, rx) = bounded(capacity);
                    (0..capacity).for_each(|_| tx.send(6).unwrap());
                    let waiting = actor(kind, move |_| async move {
                        let mut select = Select::new();
                        let index = select.send_later(&tx);
                        assert_eq!(select.ready(), index);
                        tx.send(7)
                    });
                    crate::support::pause(MOMENT);
                    if receiving == 3 {
                        drop(rx);
                        assert_eq!(waiting.join(), Err(SendError(7)));
                        continue;
                    }
                    for i in 0..=capacity {
                        let received = match receiving {
                            0 => rx.recv(),
                            1 => goby::block_on(rx.recv_async()),
                            _ => select! { recv(rx) -> value => value },
                        };
                        assert_eq!(received, Ok(if i == capacity { 7 } else { 6 }));
                    }
                    waiting.join().unwrap();
                }
            }
        }
    });
}

/// A waiter that only looks is not a peer: for a rendezvous it is as if nobody were there.
#[test]
fn who_only_looks_is_no_peer() {
    with_workers(|| {
        for kind in BLOCKING {
            let (tx, rx) = bounded::<i32>(0);
            let looks = [rx.clone(), rx.clone()].map(|rx| {
                actor(kind, move |_| async move {
                    let mut select = Select::new();
                    select.recv(&rx);
                    select.ready()
                })
            });
            let sends = [tx.clone(), tx.clone()].map(|tx| {
                actor(kind, move |_| async move {
                    let mut select = Select::new();
                    select.send_later(&tx);
                    select.ready_timeout(PATIENCE)
                })
            });
            for _ in 0..20 {
                goby::yield_now();
                assert_eq!(tx.try_send(1), Err(TrySendError::Full(1)));
                assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
                select! {
                    send(tx, 1) -> _ => panic!("received by who only looks"),
                    recv(rx) -> _ => panic!("sent by who only looks"),
                    default(Duration::from_micros(50)) => {}
                }
                let mut select = Select::new();
                select.send(&tx, 1);
                select.recv(&rx);
                assert!(select.try_select().is_none() && select.try_ready().is_none());
                assert!(select.ready_timeout(Duration::from_micros(50)).is_none());
            }
            tx.close();
            looks.into_iter().for_each(|look| assert_eq!(look.join(), 0));
            sends.into_iter().for_each(|look| assert_eq!(look.join(), Some(0)));
        }
    });
}

/// One value unparks all waiters that look for one; a receiver among them takes it.
#[test]
fn all_who_look_are_told() {
    with_workers(|| {
        let (tx, rx) = bounded(1);
        let looking: Vec<_> = (0..20)
            .map(|i| {
                let rx = rx.clone();
                actor(BLOCKING[i % 2], move |_| async move {
                    let mut select = Select::new();
                    select.recv(&rx);
                    select.ready()
                })
            })
            .collect();
        tx.send(1).unwrap();
        looking.into_iter().for_each(|look| assert_eq!(look.join(), 0));
        assert_eq!(rx.try_recv(), Ok(1));
    });
}

/// A value goes past the waiters that only look, to the first that receives.
#[test]
fn who_looks_does_not_keep_a_value_from_who_receives() {
    with_workers(|| {
        let (tx, rx) = bounded(0);
        let looked = Arc::new(AtomicUsize::new(0));
        let look = |rx: Receiver<i32>| {
            let looked = looked.clone();
            go(move || {
                let mut select = Select::new();
                select.recv(&rx);
                select.ready();
                looked.fetch_add(1, Ordering::SeqCst);
            })
        };
        let first = look(rx.clone());
        let receiver = go({
            let rx = rx.clone();
            move || rx.recv()
        });
        let second = look(rx.clone());
        wait_until("a receiver to be there", || tx.try_send(1).is_ok());
        assert_eq!(receiver.join().unwrap(), Ok(1));
        crate::support::pause(MOMENT);
        assert_eq!((looked.load(Ordering::SeqCst), rx.try_recv()), (0, Err(TryRecvError::Empty)));
        let sender = go(move || tx.send(2));
        first.join().unwrap();
        second.join().unwrap();
        assert_eq!(rx.recv(), Ok(2));
        sender.join().unwrap().unwrap();
    });
}

/// The loop that `ready` is made for: many goroutines look at many channels, and take what they
/// can.
#[test]
fn looking_and_taking_loses_nothing() {
    with_workers(|| {
        let channels: Vec<(Sender<u64>, Receiver<u64>)> = (0..4).map(bounded).collect();
        let count = size(200, 5000) as u64;
        let senders = KINDS.map(|kind| {
            let ends: Vec<_> = channels.iter().map(|(tx, _)| tx.clone()).collect();
            actor(kind, move |kind| async move {
                for value in 1..=count {
                    kind.send(&ends[value as usize % 4], value).await.unwrap();
                }
            })
        });
        // And one goroutine that looks before it sends.
        let careful = go({
            let ends: Vec<_> = channels.iter().map(|(tx, _)| tx.clone()).collect();
            move || {
                let mut select = Select::new();
                ends.iter().for_each(|tx| assert!(select.send_later(tx) < 4));
                let mut value = 1;
                while value <= count {
                    let index = select.ready();
                    if ends[index].try_send(value).is_ok() {
                        value += 1;
                    }
                }
            }
        });
        let receivers = [0, 1, 2, 3].map(|i: usize| {
            let ends: Vec<_> = channels.iter().map(|(_, rx)| rx.clone()).collect();
            actor(BLOCKING[i % 2], move |_| async move {
                let mut select = Select::new();
                ends.iter().for_each(|rx| assert!(select.recv(rx) < 4));
                let (mut sum, mut open) = (0, 4);
                while open > 0 {
                    let index = select.ready();
                    match ends[index].try_recv() {
                        Ok(value) => sum += value,
                        Err(TryRecvError::Empty) => {}
                        Err(TryRecvError::Closed) => {
                            select.remove(index);
                            open -= 1;
                        }
                    }
                }
                sum
            })
        });
        // A rendezvous needs a plain receiver: otherwise the goroutines that look would wait for
        // each other.
        let plain = actor(Kind::Goroutine, {
            let rx = channels[0].1.clone();
            move |_| async move { rx.iter().sum::<u64>() }
        });
        senders.into_iter().for_each(Actor::join);
        careful.join().unwrap();
        channels.iter().for_each(|(tx, _)| assert!(tx.close()));
        let total = receivers.into_iter().map(Actor::join).sum::<u64>() + plain.join();
        assert_eq!(total, 5 * count * (count + 1) / 2);
    });
}

/// Each ready case is given as often as the others.
#[test]
fn ready_is_fair() {
    let channels: Vec<_> = (0..4).map(|_| bounded(1)).collect();
    channels.iter().for_each(|(tx, _)| tx.send(0).unwrap());
    let mut select = Select::new();
    channels.iter().for_each(|(_, rx)| assert!(select.recv(rx) < 4));
    let mut counts = [0; 4];
    (0..4000).for_each(|_| counts[select.ready()] += 1);
    // Five standard deviations are 137.
    counts.iter().for_each(|count| assert!((850..1150).contains(count), "{counts:?}"));
}

/// Timers and contexts are channels like others.
#[test]
fn ready_waits_for_timers_and_contexts() {
    with_workers(|| {
        let (ctx, cancel) = goby::Context::background().with_cancel();
        let late = goby::time::after(MOMENT);
        let mut select = Select::new();
        let (done, due) = (select.recv(ctx.done()), select.recv(&late));
        assert_eq!(select.ready(), due);
        late.recv().unwrap();
        let canceling = go(move || cancel.cancel());
        assert_eq!(select.ready(), done);
        assert_eq!(ctx.done().recv().unwrap_err(), RecvError);
        canceling.join().unwrap();
    });
}

/// On plain threads alone, without a runtime in between.
#[test]
fn threads_look_at_what_threads_do() {
    let (tx, rx) = bounded(0);
    let sender = thread::spawn(move || (0..200).for_each(|i| tx.send(i).unwrap()));
    let mut select = Select::new();
    select.recv(&rx);
    for i in 0..200 {
        assert_eq!(select.ready(), 0);
        assert_eq!(rx.try_recv(), Ok(i));
    }
    select.ready();
    assert_eq!(rx.try_recv(), Err(TryRecvError::Closed));
    sender.join().unwrap();
}
