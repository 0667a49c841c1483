//! One `Select` is used for many rounds: cases stay, values are put in and taken back, futures come
//! and go.

use std::future::Future;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use goby::chan::{
    Receiver, RecvError, Select, SendError, Sender, TryRecvError, TrySendError, bounded, never, unbounded,
};
use goby::go;

use crate::alloc::allocations;
use crate::stress::select::wait;
use crate::support::{Actor, KINDS, MOMENT, actor, rerun_alone, text_of, with_workers};

/// Receives all values of channels that close one after the other.
#[test]
fn one_select_receives_until_all_channels_are_closed() {
    with_workers(|| {
        for kind in KINDS {
            let (senders, receivers): (Vec<_>, Vec<_>) = (0..12).map(|i| bounded::<usize>(i % 3)).unzip();
            let receiving = actor(kind, move |kind| async move {
                let mut select = Select::new();
                receivers.iter().for_each(|rx| assert!(select.recv(rx) < 12));
                let (mut sums, mut open) = ([0; 12], 12);
                while open > 0 {
                    let mut selected = wait(kind, &mut select).await;
                    let index = selected.index();
                    match selected.recv(&receivers[index]) {
                        Ok(value) => sums[index] += value,
                        Err(RecvError) => {
                            select.remove(index);
                            open -= 1;
                        }
                    }
                }
                assert!(select.try_select().is_none() && select.try_ready().is_none());
                sums
            });
            let sending = senders
                .into_iter()
                .enumerate()
                .map(|(i, tx)| go(move || (0..20).for_each(|value| tx.send(i + value).unwrap())));
            sending.collect::<Vec<_>>().into_iter().for_each(|sending| sending.join().unwrap());
            assert_eq!(receiving.join(), std::array::from_fn(|i| 20 * i + 190));
        }
    });
}

/// Every value goes once and in order through a stage that receives and sends in one select.
#[test]
fn a_stage_puts_the_next_value_into_the_same_case() {
    with_workers(|| {
        for kind in KINDS {
            for capacity in [0, 1, 4] {
                let ((tx, numbers), (squares_tx, squares)) = (bounded(capacity), bounded(capacity));
                let stage = actor(kind, move |kind| async move {
                    let mut select = Select::new();
                    let (next, out) = (select.recv(&numbers), select.send_later(&squares_tx));
                    let mut waiting = std::collections::VecDeque::new();
                    let mut is_open = true;
                    while is_open || !waiting.is_empty() {
                        // The case has the oldest waiting value.
                        let mut selected = wait(kind, &mut select).await;
                        if selected.index() == out {
                            selected.send(&squares_tx).unwrap();
                            waiting.pop_front();
                            if let Some(value) = waiting.front() {
                                assert_eq!(select.put(out, &squares_tx, *value), None);
                            }
                            continue;
                        }
                        match selected.recv(&numbers) {
                            Ok(n) => {
                                waiting.push_back(n * n);
                                if waiting.len() == 1 {
                                    assert_eq!(select.put(out, &squares_tx, n * n), None);
                                }
                            }
                            Err(RecvError) => {
                                select.remove(next);
                                is_open = false;
                            }
                        }
                    }
                });
                let sender = go(move || (0..100u64).for_each(|n| tx.send(n).unwrap()));
                assert_eq!(squares.iter().collect::<Vec<_>>(), (0..100).map(|n| n * n).collect::<Vec<_>>());
                sender.join().unwrap();
                stage.join();
            }
        }
    });
}

#[test]
fn an_unsent_value_stays_in_its_case() {
    with_workers(|| {
        let ((tx, rx), (full_tx, _full)) = (bounded(1), bounded(1));
        full_tx.send(Arc::new(0)).unwrap();
        let value = Arc::new(1);
        let mut select = Select::new();
        let (out, other) = (select.send(&full_tx, value.clone()), select.send(&tx, value.clone()));
        let mut selected = select.select();
        assert_eq!((selected.index(), selected.send(&tx)), (other, Ok(())));
        // Sent: without another value the case never happens again, although there is room.
        drop(rx.recv());
        assert!(select.try_select().is_none() && select.select_timeout(MOMENT).is_none());
        assert_eq!(Arc::strong_count(&value), 2);
        // The other value is still there, and is given back for another, or by itself.
        let second = Arc::new(2);
        assert!(select.put(out, &full_tx, second.clone()).is_some_and(|unsent| Arc::ptr_eq(&unsent, &value)));
        assert!(select.take(out, &full_tx).is_some_and(|unsent| Arc::ptr_eq(&unsent, &second)));
        assert_eq!((select.take(out, &full_tx), select.take(other, &tx)), (None, None));
        assert_eq!(select.put(other, &tx, second.clone()), None);
        assert_eq!(select.select().send(&tx), Ok(()));
        // A value is dropped with its case, and with its select.
        assert_eq!((select.put(out, &full_tx, value.clone()), select.put(other, &tx, value.clone())), (None, None));
        select.remove(out);
        assert_eq!(Arc::strong_count(&value), 2);
        drop(select);
        assert_eq!(Arc::strong_count(&value), 1);
    });
}

/// The value that a closed channel refuses is in the result, and the case is as after a send.
#[test]
fn a_refused_value_is_in_the_result_each_time() {
    let (tx, rx) = bounded(0);
    drop(rx);
    let mut select = Select::new();
    let out = select.send_later(&tx);
    for i in 0..3 {
        assert!(select.try_select().is_none(), "without a value");
        assert_eq!(select.put(out, &tx, i), None);
        assert_eq!(select.select().send(&tx), Err(SendError(i)));
    }
    // A result that nobody asks for is dropped at the next use of the select.
    let value = Arc::new(());
    let (tx, rx) = bounded(2);
    let mut select = Select::new();
    let next = select.recv(&rx);
    (0..2).for_each(|_| tx.send(value.clone()).unwrap());
    let _ = select.select();
    assert_eq!(select.select().index(), next);
    assert_eq!(Arc::strong_count(&value), 2);
    drop(select);
    assert_eq!(Arc::strong_count(&value), 1);
}

#[test]
fn misused_cases_panic() {
    let panics = |f: &mut dyn FnMut()| {
        let payload = catch_unwind(AssertUnwindSafe(f)).expect_err("a panic");
        text_of(&*payload).to_owned()
    };
    let ((tx, rx), (other_tx, _other)) = (bounded::<i32>(1), bounded::<i32>(1));
    let mut select = Select::new();
    let (recv, send) = (select.recv(&rx), select.send_later(&tx));
    assert_eq!(panics(&mut || _ = select.put(recv, &tx, 1)), "case 0 is no send to this channel");
    assert_eq!(panics(&mut || _ = select.put(send, &other_tx, 1)), "case 1 is no send to this channel");
    assert_eq!(panics(&mut || _ = select.take(send, &Sender::<i32>::never())), "case 1 is no send to this channel");
    assert_eq!(panics(&mut || _ = select.put(2, &tx, 1)), "there is no case 2");
    select.remove(recv);
    assert_eq!(panics(&mut || select.remove(recv)), "case 0 has been removed");
    assert_eq!(panics(&mut || select.remove(7)), "there is no case 7");
    assert_eq!(panics(&mut || _ = select.take(recv, &tx)), "case 0 is no send to this channel");
    // The select still works.
    assert_eq!(select.put(send, &tx, 5), None);
    assert_eq!(select.select().send(&tx), Ok(()));
    assert_eq!(rx.try_recv(), Ok(5));
    // A value without a receiver comes back at once.
    let nobody = Sender::<String>::never();
    let mut select = Select::new();
    let index = select.send_later(&nobody);
    assert_eq!(select.put(index, &nobody, "back".to_owned()), Some("back".to_owned()));
    assert_eq!(select.put(index, &Sender::never(), 1), Some(1), "of any type");
}

/// A removed case is gone; the indices of the others stay, and added cases come after them.
#[test]
fn removed_cases_never_happen() {
    let channels: Vec<_> = (0..20).map(|_| unbounded()).collect();
    let (late_tx, late) = bounded(1);
    let mut select = Select::new();
    channels.iter().for_each(|(tx, rx)| {
        tx.send(()).unwrap();
        select.recv(rx);
    });
    (0..20).filter(|i| i % 3 != 1).for_each(|i| select.remove(i));
    let mut seen = [0; 20];
    while let Some(mut selected) = select.try_select() {
        let index = selected.index();
        selected.recv(&channels[index].1).unwrap();
        seen[index] += 1;
    }
    assert_eq!(seen, std::array::from_fn(|i| usize::from(i % 3 == 1)));
    assert_eq!(select.recv(&late), 20);
    late_tx.send(5).unwrap();
    assert_eq!((select.ready(), select.select().recv(&late)), (20, Ok(5)));
}

#[test]
fn a_biased_select_object_takes_the_first_that_is_ready() {
    with_workers(|| {
        let channels: Vec<_> = (0..10).map(|_| unbounded()).collect();
        (0..100).for_each(|i| channels[i % 10].0.send(i).unwrap());
        let mut select = Select::new_biased();
        channels.iter().for_each(|(_, rx)| assert!(select.recv(rx) < 10));
        for i in 0..100 {
            assert_eq!(select.ready(), i / 10);
            let mut selected = select.select();
            assert_eq!((selected.index(), selected.recv(&channels[i / 10].1)), (i / 10, Ok(i / 10 + i % 10 * 10)));
        }
        assert!(select.try_select().is_none());
    });
}

/// Each ready case is as likely as the others, round after round, and none is ready forever
/// without being taken.
#[test]
fn a_select_in_a_loop_is_fair() {
    with_workers(|| {
        let (tx, rx) = unbounded::<i32>();
        let receivers = [rx.clone(), rx.clone(), rx];
        let mut select = Select::new();
        receivers.iter().for_each(|rx| assert!(select.recv(rx) < 3));
        let mut counts = [0; 3];
        for round in 0..3000 {
            tx.send(round).unwrap();
            let mut selected = select.select();
            let index = selected.index();
            assert_eq!(selected.recv(&receivers[index]), Ok(round));
            counts[index] += 1;
        }
        // Five standard deviations are 129.
        counts.iter().for_each(|count| assert!((850..1150).contains(count), "{counts:?}"));
    });
}

#[test]
fn a_loop_over_one_select_allocates_nothing() {
    if !rerun_alone("select::reuse::a_loop_over_one_select_allocates_nothing") {
        return;
    }
    let runtime = goby::Runtime::builder().workers(1).build().unwrap();
    runtime.run(|| {
        let channels: Vec<_> = (0..20).map(|_| bounded::<usize>(1)).collect();
        let (out, taken) = bounded::<usize>(1);
        let mut select = Select::new();
        channels.iter().for_each(|(_, rx)| assert!(select.recv(rx) < 20));
        let sends = select.send_later(&out);
        // Nothing waits or is refused: a debug build notes which goroutines yield, and allocates
        // for that.
        let mut round = |i: usize| {
            channels[i % 20].0.send(i).unwrap();
            let mut selected = select.select();
            assert_eq!((selected.index(), selected.recv(&channels[i % 20].1)), (i % 20, Ok(i)));
            assert_eq!(select.put(sends, &out, i), None);
            assert_eq!(select.select().send(&out), Ok(()));
            assert_eq!(taken.try_recv(), Ok(i));
            assert_eq!(select.ready(), sends);
        };
        (0..100).for_each(&mut round);
        let before = allocations();
        (0..1000).for_each(&mut round);
        // Where a slice ends inside the loop, the goroutine yields and allocates after all; and the
        // program has other threads. One allocation per round would be a thousand.
        let made = allocations() - before;
        assert!(made < 500, "{made} allocations");
    });
}

/// A future that is forgotten has left its cases queued: the select takes them out before they are
/// used, moved or dropped.
#[test]
fn a_forgotten_future_leaves_its_select_usable() {
    let poll_and_forget = |select: &mut Select<'_>| {
        let mut future = Box::new(select.select_async());
        let polled = pin!(future.as_mut()).poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending());
        drop(polled);
        mem::forget(future);
    };
    let ((tx, rx), (out, taken)) = (&bounded::<i32>(0), &bounded::<String>(0));
    for stage in 0..4 {
        let mut select = Select::new();
        let (next, sends) = (select.recv(rx), select.send(out, format!("offered {stage}")));
        poll_and_forget(&mut select);
        match stage {
            // Dropped, and the channels work.
            0 => drop(select),
            // Moved to another thread, and used there.
            1 => std::thread::scope(|scope| {
                scope.spawn(move || {
                    assert!(select.try_select().is_none());
                    select.remove(next);
                    assert_eq!(select.take(sends, out).as_deref(), Some("offered 1"));
                });
            }),
            // A value that the future was told of is still there.
            2 => {
                tx.try_send(7).unwrap();
                let mut selected = select.select();
                assert_eq!((selected.index(), selected.recv(rx)), (next, Ok(7)));
            }
            // The value that the future offered was taken.
            _ => {
                assert_eq!(taken.try_recv().as_deref(), Ok("offered 3"));
                assert!(select.try_select().is_none());
                assert_eq!(select.take(sends, out), None);
            }
        }
        assert_eq!(tx.try_send(1), Err(TrySendError::Full(1)), "stage {stage}");
        assert_eq!(taken.try_recv(), Err(TryRecvError::Empty), "stage {stage}");
    }
}

/// Values that a select drops by itself may panic. Then none of its cases is queued any more, and
/// the next use works as any other.
#[test]
fn a_result_that_panics_when_dropped_leaves_nothing_queued() {
    struct Breaks;
    impl Drop for Breaks {
        fn drop(&mut self) {
            panic!("a value that breaks");
        }
    }
    let breaks = |f: &mut dyn FnMut()| {
        let payload = catch_unwind(AssertUnwindSafe(f)).expect_err("a panic");
        assert_eq!(text_of(&*payload), "a value that breaks");
    };
    let ((tx, rx), (late, refused)) = (&bounded::<[usize; 4]>(0), &bounded::<usize>(0));
    for stage in 0..5 {
        let closed: Vec<_> = (0..3).map(|_| bounded::<Breaks>(0)).collect();
        let mut select = Select::new();
        let sends: Vec<_> = closed.iter().map(|(out, _)| select.send(out, Breaks)).collect();
        let next = select.recv(rx);
        let last = select.send(late, 1);
        {
            let mut future = Some(Box::pin(select.select_async()));
            let polled = future.as_mut().unwrap().as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(polled.is_pending());
            drop(polled);
            // The first of them ends the wait.
            closed.iter().for_each(|(out, _)| assert!(out.close()));
            match stage {
                0 => breaks(&mut || drop(future.take())),
                _ => mem::forget(future.take()),
            }
        }
        match stage {
            1 => breaks(&mut || _ = select.try_select()),
            2 => breaks(&mut || select.remove(last)),
            3 => breaks(&mut || _ = select.put(last, late, 2)),
            4 => breaks(&mut || drop(select.select_async())),
            _ => {}
        }
        // The cases can be queued again, without a look by other goroutines, which would take out
        // entries that were left.
        sends[1..].iter().for_each(|&send| breaks(&mut || select.remove(send)));
        for round in 0..2 {
            let mut future = Box::pin(select.select_async());
            assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            tx.try_send([round; 4]).unwrap();
            let Poll::Ready(mut selected) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
                panic!("a value is there")
            };
            assert_eq!((selected.index(), selected.recv(rx)), (next, Ok([round; 4])), "stage {stage}");
        }
        drop(select);
        assert!(tx.try_send([stage; 4]).is_err() && refused.try_recv().is_err(), "stage {stage}");
    }
}

/// A select changes from blocking to async and back; a future dropped in between has received
/// nothing.
#[test]
fn futures_and_calls_take_turns() {
    with_workers(|| {
        let (tx, rx) = bounded(0);
        let sender = go(move || (0..300).for_each(|i| tx.send(i).unwrap()));
        let mut select = Select::new();
        select.recv(&rx);
        let mut expected = 0;
        while expected < 300 {
            match goby_runtime::random() % 4 {
                0 => drop(pin!(select.select_async()).poll(&mut Context::from_waker(Waker::noop())).map(
                    |mut selected| {
                        assert_eq!(selected.recv(&rx), Ok(expected));
                        expected += 1;
                    },
                )),
                1 => {
                    assert_eq!(goby::block_on(select.select_async()).recv(&rx), Ok(expected));
                    expected += 1;
                }
                2 => {
                    select.ready();
                    assert_eq!(rx.try_recv(), Ok(expected));
                    expected += 1;
                }
                _ => {
                    assert_eq!(select.select().recv(&rx), Ok(expected));
                    expected += 1;
                }
            }
        }
        sender.join().unwrap();
        let Poll::Ready(mut selected) = pin!(select.select_async()).poll(&mut Context::from_waker(Waker::noop()))
        else {
            panic!("a closed channel is ready")
        };
        assert_eq!(selected.recv(&rx), Err(RecvError));
    });
}

/// Selects in loops against each other, over the same channels in different orders.
#[test]
fn loops_over_the_same_channels_lose_nothing() {
    with_workers(|| {
        let channels: Vec<(Sender<u64>, Receiver<u64>)> = (0..3).map(bounded).collect();
        let nobody = never::<u64>();
        let senders = KINDS.map(|kind| {
            let ends: Vec<_> = channels.iter().map(|(tx, _)| tx.clone()).collect();
            actor(kind, move |kind| async move {
                let mut select = Select::new();
                ends.iter().for_each(|tx| assert!(select.send_later(tx) < 3));
                for value in 1..=300 {
                    // The value is offered on all channels, and one takes it. The other cases give
                    // it back.
                    ends.iter().enumerate().for_each(|(i, tx)| assert_eq!(select.put(i, tx, value), None));
                    let mut selected = wait(kind, &mut select).await;
                    let sent = selected.index();
                    selected.send(&ends[sent]).unwrap();
                    for i in (0..3).filter(|i| *i != sent) {
                        assert_eq!(select.take(i, &ends[i]), Some(value));
                    }
                }
            })
        });
        let receivers = KINDS.map(|kind| {
            let (ends, nobody): (Vec<_>, _) = (channels.iter().map(|(_, rx)| rx.clone()).collect(), nobody.clone());
            actor(kind, move |kind| async move {
                let mut select = Select::new();
                select.recv(&nobody);
                ends.iter().rev().for_each(|rx| assert!(select.recv(rx) < 4));
                let (mut sum, mut open) = (0, 3);
                while open > 0 {
                    let mut selected = wait(kind, &mut select).await;
                    let index = selected.index();
                    match selected.recv(&ends[3 - index]) {
                        Ok(value) => sum += value,
                        Err(RecvError) => {
                            select.remove(index);
                            open -= 1;
                        }
                    }
                }
                sum
            })
        });
        senders.into_iter().for_each(Actor::join);
        channels.iter().for_each(|(tx, _)| assert!(tx.close()));
        assert_eq!(receivers.into_iter().map(Actor::join).sum::<u64>(), 4 * 300 * 301 / 2);
    });
}
