//! Two threads use the same channel at the same moment (S20's third part, S24, and similar races
//! for futures, timeouts and handles): what each of them sees must fit what the other saw.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use goby::chan::Select;
use goby::chan::{
    Receiver, RecvError, RecvTimeoutError, SendTimeoutError, Sender, TryRecvError, TrySendError, bounded, unbounded,
};
use goby::select;

use crate::support::{dither, race, size, with_workers};

type Channel<T> = (Sender<T>, Receiver<T>);

fn rounds() -> usize {
    size(1000, 100_000)
}

/// A channel that holds 1.
fn filled(_round: usize) -> Channel<i32> {
    let channel = bounded(1);
    channel.0.send(1).unwrap();
    channel
}

#[test]
fn a_value_or_the_close_is_always_there() {
    with_workers(|| {
        race(
            rounds(),
            filled,
            |(tx, rx)| {
                tx.close();
                rx.recv()
            },
            |(_, rx)| rx.try_recv(),
            |_, ours, theirs| {
                assert!(
                    matches!((ours, theirs), (Ok(1), Err(TryRecvError::Closed)) | (Err(RecvError), Ok(1))),
                    "{ours:?} and {theirs:?}"
                );
            },
        );
    });
}

#[test]
fn one_of_two_closes_wins() {
    with_workers(|| {
        race(
            rounds(),
            |_| bounded::<i32>(0),
            |(tx, _)| tx.close(),
            |(tx, _)| tx.close(),
            |(_, rx), ours, theirs| {
                assert!(ours != theirs);
                assert_eq!(rx.recv(), Err(RecvError));
            },
        );
    });
}

/// A send races with a close: an accepted value is received, a refused value comes back.
#[test]
fn a_send_against_a_close() {
    with_workers(|| {
        for capacity in [0, 1, usize::MAX] {
            race(
                rounds(),
                |_| if capacity == usize::MAX { unbounded() } else { bounded(capacity) },
                // Only the close ends a send on a rendezvous.
                |(tx, _)| tx.send(7),
                |(tx, _)| tx.close(),
                |(_, rx), sent, closed| {
                    assert!(closed);
                    match sent {
                        Ok(()) => assert_eq!((rx.recv(), rx.recv()), (Ok(7), Err(RecvError))),
                        Err(refused) => assert_eq!((refused.into_inner(), rx.recv()), (7, Err(RecvError))),
                    }
                },
            );
        }
    });
}

/// A value that counts its drops.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// The last sender and the last receiver are dropped together, with values in the buffer: each
/// value is dropped once.
#[test]
fn both_ends_go_at_once() {
    with_workers(|| {
        race(
            rounds(),
            |_| {
                let drops = Arc::new(AtomicUsize::new(0));
                let (tx, rx) = bounded(3);
                (0..2).for_each(|_| tx.send(Counted(drops.clone())).ok().unwrap());
                let (tx, rx) = (parking_lot::Mutex::new(Some(tx)), parking_lot::Mutex::new(Some(rx)));
                (tx, rx, drops)
            },
            |(tx, _, drops)| {
                let tx = tx.lock().take().unwrap();
                // Refused or not, it is dropped.
                drop(tx.send(Counted(drops.clone())));
                drop(tx);
            },
            |(_, rx, _)| drop(rx.lock().take()),
            |(_, _, drops), (), ()| assert_eq!(drops.load(Ordering::SeqCst), 3),
        );
    });
}

/// The last two senders are dropped together: exactly then the channel is closed, and a waiting
/// receiver is told.
#[test]
fn the_last_two_senders_go_at_once() {
    with_workers(|| {
        race(
            rounds(),
            |_| {
                let (tx, rx) = bounded::<i32>(1);
                let senders = [tx.clone(), tx].map(|tx| parking_lot::Mutex::new(Some(tx)));
                (senders, rx)
            },
            |([tx, _], rx)| {
                drop(tx.lock().take());
                rx.recv()
            },
            |([_, tx], _)| drop(tx.lock().take()),
            |_, received, ()| assert_eq!(received, Err(RecvError)),
        );
    });
}

/// The last receiver is dropped while a sender waits, or is about to: the value comes back.
#[test]
fn the_last_receiver_goes_under_a_sender() {
    with_workers(|| {
        race(
            rounds(),
            |_| {
                let (tx, rx) = bounded(0);
                (tx, parking_lot::Mutex::new(Some(rx)))
            },
            |(tx, _)| tx.send(7).unwrap_err().into_inner(),
            |(_, rx)| drop(rx.lock().take()),
            |_, back, ()| assert_eq!(back, 7),
        );
    });
}

/// Both waits end at about the same time. Both sides agree whether they have met.
#[test]
fn timeouts_of_a_rendezvous_agree() {
    with_workers(|| {
        let brief = || Duration::from_nanos(goby_runtime::random() % 20_000);
        race(
            rounds(),
            |_| bounded(0),
            |(_, rx)| rx.recv_timeout(brief()),
            |(tx, _)| tx.send_timeout(7, brief()),
            |_, received, sent| {
                assert!(
                    matches!(
                        (received, sent),
                        (Ok(7), Ok(())) | (Err(RecvTimeoutError::Timeout), Err(SendTimeoutError::Timeout(7)))
                    ),
                    "{received:?} and {sent:?}"
                );
            },
        );
    });
}

/// A receive future is dropped while a value is handed to it: the value is received afterwards, or
/// was not taken.
#[test]
fn a_dropped_receive_against_a_send() {
    with_workers(|| {
        for capacity in [0, 1] {
            race(
                rounds(),
                |_| bounded(capacity),
                |(_, rx)| {
                    let mut future = pin!(rx.recv_async());
                    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                        Poll::Ready(received) => received.ok(),
                        Poll::Pending => {
                            dither();
                            None // And dropped here.
                        }
                    }
                },
                |(tx, _)| tx.try_send(7),
                |(_, rx), received, sent| match sent {
                    Ok(()) => assert_eq!(received.or_else(|| rx.try_recv().ok()), Some(7)),
                    Err(TrySendError::Full(7)) => {
                        assert_eq!((received, rx.try_recv()), (None, Err(TryRecvError::Empty)))
                    }
                    Err(other) => panic!("{other:?}"),
                },
            );
        }
    });
}

/// The same for a select future over two channels.
#[test]
fn a_dropped_select_against_a_send() {
    with_workers(|| {
        race(
            rounds(),
            |_| (bounded(0), bounded::<i32>(0)),
            |((_, rx), (idle_tx, idle_rx))| {
                let mut select = Select::new();
                select.recv(idle_rx);
                select.recv(rx);
                select.send(idle_tx, 1);
                let mut future = pin!(select.select_async());
                match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(mut selected) => selected.recv(rx).ok(),
                    Poll::Pending => {
                        dither();
                        None
                    }
                }
            },
            |((tx, _), _)| tx.try_send(7),
            |((_, rx), (idle_tx, idle_rx)), received, sent| {
                match sent {
                    Ok(()) => assert_eq!(received.or_else(|| rx.try_recv().ok()), Some(7)),
                    Err(_) => assert_eq!((received, rx.try_recv()), (None, Err(TryRecvError::Empty))),
                }
                assert_eq!(idle_rx.try_recv(), Err(TryRecvError::Empty));
                assert_eq!(idle_tx.try_send(1), Err(TrySendError::Full(1)));
            },
        );
    });
}

/// A select of two receives meets two sends: it takes one value, the other one stays.
#[test]
fn a_select_against_two_sends() {
    with_workers(|| {
        race(
            rounds(),
            |_| [bounded(1), bounded(1)],
            |[(_, first), (_, second)]| {
                select! {
                    recv(first) -> value => value.unwrap(),
                    recv(second) -> value => value.unwrap(),
                }
            },
            |[(first, _), (second, _)]| {
                first.send(1).unwrap();
                second.send(2).unwrap();
            },
            |[(_, first), (_, second)], taken, ()| {
                assert_eq!((first.len(), second.len()), if taken == 1 { (0, 1) } else { (1, 0) });
            },
        );
    });
}

/// Two selects that could meet on either of two channels, offered in opposite orders: they meet
/// once.
#[test]
fn two_selects_meet_once() {
    with_workers(|| {
        race(
            rounds(),
            |_| [bounded(0), bounded(0)],
            |[(first, _), (_, second)]| {
                select! {
                    send(first, 1) -> sent => { sent.unwrap(); None }
                    recv(second) -> value => Some(value.unwrap()),
                }
            },
            |[(_, first), (second, _)]| {
                select! {
                    send(second, 2) -> sent => { sent.unwrap(); None }
                    recv(first) -> value => Some(value.unwrap()),
                }
            },
            |_, ours, theirs| {
                assert!(matches!((ours, theirs), (None, Some(1)) | (Some(2), None)), "{ours:?} and {theirs:?}");
            },
        );
    });
}
