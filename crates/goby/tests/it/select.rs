//! Features of `select!` and `Select` that Go does not have: guards, timeouts, values that stay,
//! control flow out of arms.

mod ready;
mod reuse;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use goby::chan::Select;
use goby::chan::{Receiver, RecvError, SendError, Sender, TryRecvError, TrySendError, bounded, never, unbounded};
use goby::{go, select};

use crate::stress::select::wait;
use crate::support::{Actor, KINDS, MOMENT, actor, on_workers, size, with_workers};

fn not_evaluated() -> i32 {
    panic!("evaluated although disabled")
}

#[test]
fn a_false_guard_disables_a_case() {
    with_workers(|| {
        let ((tx, rx), (other_tx, other_rx)) = (bounded(2), bounded(2));
        tx.send(1).unwrap();
        for _ in 0..20 {
            select! {
                recv(rx) -> _ if tx.is_closed() => panic!("taken although disabled"),
                send(other_tx, 2) -> _ if 1 > 2 => panic!("taken although disabled"),
                default => {}
            }
            let value = select! {
                send(other_tx, not_evaluated()) -> _ if false => unreachable!(),
                recv(rx) -> value if rx.len() == 1 => value.unwrap(),
            };
            tx.send(value).unwrap();
        }
        assert_eq!((rx.len(), other_rx.len()), (1, 0));
    });
}

#[test]
fn a_timeout_is_taken_not_before_its_time_and_only_if_nothing_happens() {
    let check = || {
        let (tx, rx) = bounded(1);
        for time in [0, 1, 20].map(Duration::from_millis) {
            let start = goby_runtime::now();
            select! {
                recv(rx) -> _ => panic!("a value out of nothing"),
                default(time) => {}
            }
            assert!(goby_runtime::now() - start >= time);
            let mut select = Select::new();
            select.recv(&rx);
            assert!(select.select_timeout(time).is_none());
            assert!(goby_runtime::now() - start >= 2 * time);
        }
        tx.send(1).unwrap();
        select! {
            recv(rx) -> value => assert_eq!(value, Ok(1)),
            default(Duration::ZERO) => panic!("what is ready happens first"),
        }
        let sender = go(move || tx.send(2).unwrap());
        let value = select! {
            recv(rx) -> value => value.unwrap(),
            default(Duration::MAX) => panic!("forever is over"),
        };
        assert_eq!(value, 2);
        sender.join().unwrap();
    };
    with_workers(check);
    check(); // On a plain thread.
}

#[test]
fn a_slot_keeps_its_value_unless_it_is_sent() {
    with_workers(|| {
        let (tx, rx) = bounded(1);
        let mut slot = Some(Box::new(7));
        let address: *const i32 = &**slot.as_ref().unwrap();
        tx.send(Box::new(1)).unwrap();
        select! {
            send(tx, ref slot) -> _ => panic!("sent into a full channel"),
            default => {}
        }
        assert!(std::ptr::eq(&**slot.as_ref().unwrap(), address), "the same box, in its place");
        select! {
            send(tx, ref slot) -> _ => panic!("sent into a full channel"),
            default(MOMENT) => {}
        }
        select! {
            send(tx, ref slot) -> _ => panic!("sent into a full channel"),
            recv(rx) -> value => assert_eq!(*value.unwrap(), 1),
        }
        assert!(slot.is_some());
        select! {
            send(tx, ref slot) -> sent => sent.unwrap(),
            default => panic!("default although there is space"),
        }
        assert!(slot.is_none());
        assert!(std::ptr::eq(&*rx.recv().unwrap(), address));
        // An empty slot disables the case.
        select! {
            send(tx, ref slot) -> _ => panic!("sent nothing"),
            default => {}
        }
        // The value that a closed channel refuses is in the error.
        slot = Some(Box::new(8));
        tx.close();
        select! {
            send(tx, ref slot) -> sent => assert_eq!(*sent.unwrap_err().into_inner(), 8),
            default => panic!("a closed channel is ready"),
        }
        assert!(slot.is_none());
    });
}

/// The value of a `send` that does not happen is dropped, once.
#[test]
fn the_value_of_a_case_not_taken_is_dropped() {
    with_workers(|| {
        let (tx, _rx) = bounded(0);
        let value = Arc::new(());
        select! {
            send(tx, value.clone()) -> _ => panic!("nobody receives"),
            default(MOMENT) => assert_eq!(Arc::strong_count(&value), 1),
        }
        let mut select = Select::new();
        select.send(&tx, value.clone());
        assert!(select.try_select().is_none());
        assert_eq!(Arc::strong_count(&value), 2, "it stays for the next time");
        drop(select);
        assert_eq!(Arc::strong_count(&value), 1);
    });
}

#[test]
fn arms_use_the_control_flow_of_their_surroundings() {
    fn first_even(rx: &Receiver<i32>) -> Result<i32, RecvError> {
        loop {
            let value = select! {
                recv(rx) -> value => value?,
            };
            select! {
                recv(never::<()>()) -> _ => unreachable!(),
                default => if value % 2 == 1 { continue } else { return Ok(value) },
            }
        }
    }
    with_workers(|| {
        let (tx, rx) = bounded(10);
        [1, 3, 4, 5].into_iter().for_each(|i| tx.send(i).unwrap());
        assert_eq!(first_even(&rx), Ok(4));
        drop(tx);
        assert_eq!(first_even(&rx), Err(RecvError));
    });
}

#[test]
fn arms_assign_to_what_they_waited_on() {
    with_workers(|| {
        let (first, mut rx) = bounded(1);
        let (second, other) = bounded(1);
        let mut tx = first.clone();
        first.send(1).unwrap();
        second.send(2).unwrap();
        let mut other = Some(other);
        for expected in [1, 2] {
            select! {
                recv(rx) -> value => {
                    assert_eq!(value, Ok(expected));
                    if let Some(other) = other.take() {
                        rx = other;
                    }
                }
                default => panic!("a value is there"),
            }
        }
        // A sender, and an operand that is an expression.
        let senders = [second];
        select! {
            send(senders[0], 3) -> sent => {
                sent.unwrap();
                tx = senders[0].clone();
            }
            send(tx, 3) -> _ if false => unreachable!(),
        }
        assert_eq!((rx.recv(), tx.same_channel(&senders[0])), (Ok(3), true));
    });
}

#[test]
fn operands_may_be_any_expression() {
    struct Ends {
        tx: Sender<i32>,
        rx: Receiver<i32>,
    }
    fn same<T>(value: T) -> T {
        value
    }
    with_workers(|| {
        let (tx, rx) = bounded(1);
        let ends = Ends { tx, rx };
        let boxed = Box::new(&ends);
        let shared = Arc::new(ends.rx.clone());
        let calls = Cell::new(0);
        for round in 0..8 {
            select! {
                send(boxed.tx, { calls.set(calls.get() + 1); round }) -> sent => sent.unwrap(),
                recv(never::<String>()) -> _ => unreachable!(),
            }
            // A field, a reference to one, the result of a generic function, a temporary, a smart
            // pointer.
            let value = match round % 5 {
                0 => select! { recv(ends.rx) -> value => value },
                1 => select! { recv(&ends.rx) -> value => value },
                2 => select! { recv(same(&ends.rx)) -> value => value },
                3 => select! { recv(ends.rx.clone()) -> value => value },
                _ => select! { recv(*shared) -> value => value },
            };
            assert_eq!(value, Ok(round));
        }
        assert_eq!(calls.get(), 8, "a value is evaluated once");
    });
}

/// One channel in several cases: exactly one of them gets each value.
#[test]
fn a_channel_may_be_in_several_cases() {
    with_workers(|| {
        let (tx, rx) = bounded(0);
        let sender = go(move || (0..200).for_each(|i| tx.send(i).unwrap()));
        let mut taken = [0; 3];
        for i in 0..200 {
            select! {
                recv(rx) -> value => { assert_eq!(value, Ok(i)); taken[0] += 1; }
                recv(rx) -> value => { assert_eq!(value, Ok(i)); taken[1] += 1; }
                recv(&rx) -> value => { assert_eq!(value, Ok(i)); taken[2] += 1; }
            }
        }
        assert_eq!(taken.iter().sum::<i32>(), 200);
        assert_eq!(rx.recv(), Err(RecvError));
        sender.join().unwrap();
        // Sending and receiving on one channel in one select: it does not meet itself.
        let (tx, rx) = bounded(0);
        select! {
            send(tx, 1) -> _ => panic!("received by oneself"),
            recv(rx) -> _ => panic!("sent by oneself"),
            default(MOMENT) => {}
        }
    });
}

#[test]
fn select_works_on_plain_threads() {
    let (tx, rx) = bounded(0);
    let (done_tx, done) = bounded::<()>(0);
    let sender = go(move || {
        (0..100).for_each(|i| tx.send(i).unwrap());
        drop(done_tx);
    });
    let mut sum = 0;
    loop {
        select! {
            recv(rx) -> value => match value { Ok(value) => sum += value, Err(_) => break },
            recv(done) -> _ => break,
        }
    }
    assert_eq!(sum, 4950);
    sender.join().unwrap();
}

#[test]
fn the_dynamic_select_tells_which_case_happened() {
    with_workers(|| {
        let channels: Vec<_> = (0..20).map(|_| bounded(1)).collect();
        for (expected, (tx, _)) in channels.iter().enumerate() {
            tx.send(expected).unwrap();
            let mut select = Select::new();
            for (i, (_, rx)) in channels.iter().enumerate() {
                assert_eq!(select.recv(rx), i);
            }
            let mut selected = select.select();
            assert_eq!(selected.index(), expected);
            assert_eq!(selected.recv(&channels[expected].1), Ok(expected));
        }
        // Of different types, sends and receives.
        let ((text_tx, text_rx), (number_tx, number_rx)) = (bounded::<&str>(1), bounded::<f64>(1));
        let mut select = Select::new();
        let (text, number) = (select.send(&text_tx, "hello"), select.recv(&number_rx));
        let mut selected = select.try_select().expect("there is space");
        assert_ne!(text, number);
        assert_eq!(selected.index(), text);
        assert_eq!(selected.send(&text_tx), Ok(()));
        assert_eq!(text_rx.recv(), Ok("hello"));
        number_tx.send(1.5).unwrap();
        text_tx.send("full").unwrap();
        let mut slot = Some("kept");
        let mut select = Select::new();
        select.send_from(&text_tx, &mut slot);
        let number = select.recv(&number_rx);
        let mut selected = select.select_deadline(goby_runtime::now()).expect("a number is there");
        assert_eq!((selected.index(), selected.recv(&number_rx)), (number, Ok(1.5)));
        drop(select);
        assert_eq!(slot, Some("kept"));
    });
}

/// Asking a `Selected` for a case that did not happen is a mistake with a message, also if the
/// types agree.
#[test]
fn asking_for_another_case_panics() {
    let ((tx, rx), (other_tx, other_rx)) = (bounded(1), bounded::<i32>(1));
    tx.send(1).unwrap();
    let mut select = Select::new();
    select.recv(&other_rx);
    select.recv(&rx);
    let message = |f: &mut dyn FnMut()| {
        let payload = catch_unwind(AssertUnwindSafe(f)).expect_err("a panic");
        payload
            .downcast_ref::<String>()
            .cloned()
            .unwrap_or_else(|| (*payload.downcast_ref::<&str>().unwrap()).to_owned())
    };
    let mut selected = select.select();
    assert_eq!(
        message(&mut || {
            let _ = selected.recv(&other_rx);
        }),
        "case 1 is no receive from this channel"
    );
    assert_eq!(
        message(&mut || {
            let _ = selected.send(&tx);
        }),
        "case 1 is no send to this channel"
    );
    assert_eq!(
        message(&mut || {
            let _ = selected.send(&other_tx);
        }),
        "case 1 is no send to this channel"
    );
    assert_eq!(
        message(&mut || {
            let _ = selected.recv(&never::<i32>());
        }),
        "case 1 is no receive from this channel"
    );
    assert_eq!(selected.recv(&rx), Ok(1));
    assert_eq!(
        message(&mut || {
            let _ = selected.recv(&rx);
        }),
        "a result is given once"
    );
    // A value that nobody asks for was received, and is dropped with the `Selected`.
    tx.send(2).unwrap();
    let _ = select.select();
    assert_eq!(rx.len(), 0);
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
}

/// The state of the other cases is as before: no waiter is left in the channel of a case that did
/// not happen.
#[test]
fn cases_that_did_not_happen_leave_no_trace() {
    with_workers(|| {
        let ((tx, rx), (idle_tx, idle_rx)) = (bounded(0), bounded(0));
        for kind in KINDS {
            let (rx, idle_tx2, idle_rx2) = (rx.clone(), idle_tx.clone(), idle_rx.clone());
            let selecting = actor(kind, move |kind| async move {
                for _ in 0..100 {
                    let mut select = Select::new();
                    select.recv(&idle_rx2);
                    select.send(&idle_tx2, 5);
                    select.recv(&rx);
                    assert_eq!(wait(kind, &mut select).await.recv(&rx), Ok(1));
                }
            });
            (0..100).for_each(|_| tx.send(1).unwrap());
            selecting.join();
            assert_eq!(idle_tx.try_send(6), Err(TrySendError::Full(6)));
            assert_eq!(idle_rx.try_recv(), Err(TryRecvError::Empty));
        }
    });
}

/// Selects meet selects over the same channels in different orders, with timeouts: every value is
/// received once.
#[test]
fn many_selects_over_the_same_channels_lose_nothing() {
    with_workers(|| {
        for capacity in [0, 1] {
            let channels: Vec<_> = (0..3).map(|_| bounded(capacity)).collect();
            let count = size(300, 10_000);
            let received = Arc::new([const { AtomicUsize::new(0) }; 2]);
            let senders = KINDS.map(|kind| {
                let ends: Vec<Sender<usize>> = channels.iter().map(|(tx, _)| tx.clone()).collect();
                actor(kind, move |kind| async move {
                    for value in 1..=count {
                        let mut select = Select::new();
                        // Each sender offers the value on all channels, in an order of its own.
                        for i in 0..3 {
                            select.send(&ends[(i + value) % 3], value);
                        }
                        let mut selected = wait(kind, &mut select).await;
                        let channel = (selected.index() + value) % 3;
                        selected.send(&ends[channel]).unwrap();
                    }
                })
            });
            let receivers = KINDS.map(|kind| {
                let ends: Vec<Receiver<usize>> = channels.iter().map(|(_, rx)| rx.clone()).collect();
                let received = received.clone();
                actor(kind, move |kind| async move {
                    for round in 0.. {
                        let mut select = Select::new();
                        for i in 0..3 {
                            select.recv(&ends[(i * 2 + round) % 3]);
                        }
                        let mut selected = wait(kind, &mut select).await;
                        let channel = (selected.index() * 2 + round) % 3;
                        match selected.recv(&ends[channel]) {
                            Ok(value) => {
                                received[0].fetch_add(1, Ordering::SeqCst);
                                received[1].fetch_add(value, Ordering::SeqCst);
                            }
                            // One is closed, so all are: the senders were dropped together. Take
                            // the rest.
                            Err(RecvError) => {
                                for value in ends.iter().flat_map(Receiver::try_iter) {
                                    received[0].fetch_add(1, Ordering::SeqCst);
                                    received[1].fetch_add(value, Ordering::SeqCst);
                                }
                                return;
                            }
                        }
                    }
                })
            });
            senders.into_iter().for_each(Actor::join);
            channels.iter().for_each(|(tx, _)| assert!(tx.close()));
            receivers.into_iter().for_each(Actor::join);
            let totals = [0, 1].map(|i| received[i].load(Ordering::SeqCst));
            assert_eq!(totals, [4 * count, 4 * count * (count + 1) / 2], "capacity {capacity}");
        }
    });
}

/// Timers, values and closes at the same time: a select with a short timeout never misses a value
/// that it was given.
#[test]
fn racing_timeouts_of_selects_lose_nothing() {
    with_workers(|| {
        let (tx, rx) = bounded(0);
        let sender = go(move || {
            let mut sent = 0u64;
            for i in 0..1000u64 {
                let mut slot = Some(i);
                select! {
                    send(tx, ref slot) -> result => { result.unwrap(); sent += i; }
                    default(Duration::from_micros(i % 50)) => assert_eq!(slot, Some(i)),
                }
            }
            sent
        });
        let mut received = 0;
        for round in 0.. {
            select! {
                recv(rx) -> value => match value { Ok(value) => received += value, Err(RecvError) => break },
                default(Duration::from_micros(round % 40)) => {}
            }
        }
        assert_eq!(sender.join().unwrap(), received);
    });
}

/// More cases than fit on the stack, with several on one channel.
#[test]
fn a_select_of_many_cases() {
    with_workers(|| {
        let channels: Vec<_> = (0..100).map(|_| unbounded()).collect();
        let sender = go({
            let ends: Vec<Sender<usize>> = channels.iter().map(|(tx, _)| tx.clone()).collect();
            move || (0..1000).for_each(|i| ends[i * 37 % 100].send(i).unwrap())
        });
        let mut sum = 0;
        for _ in 0..1000 {
            let mut select = Select::new();
            for i in 0..300 {
                select.recv(&channels[i % 100].1);
            }
            let mut selected = select.select();
            let index = selected.index();
            sum += selected.recv(&channels[index % 100].1).unwrap();
        }
        assert_eq!(sum, 499_500);
        sender.join().unwrap();
    });
}

#[test]
fn a_select_in_a_goroutine_gives_refused_values_back() {
    on_workers(2, 0, || {
        let (tx, rx) = bounded(0);
        drop(rx);
        let back = select! {
            send(tx, String::from("mine")) -> sent => sent,
        };
        assert_eq!(back, Err(SendError("mine".to_owned())));
    });
}

/// An operand that would panic, or that was only made for the case, is not evaluated.
#[test]
fn the_operands_of_a_disabled_case_are_not_evaluated() {
    with_workers(|| {
        let (tx, rx) = bounded(8);
        tx.send(1).unwrap();
        let (mut maybe_rx, mut maybe_tx): (Option<Receiver<i32>>, Option<Sender<i32>>) = (None, None);
        let (mut slots, mut one) = ([Some(5)], [Some(6), None]);
        let beyond = slots.len();
        for round in [0, 1] {
            let taken = select! {
                recv(maybe_rx.as_ref().unwrap()) -> value if maybe_rx.is_some() => { value.unwrap() }
                recv(maybe_rx.as_ref().unwrap(),) -> value if maybe_rx.is_some() => value.unwrap(),
                send(maybe_tx.as_ref().unwrap(), 7) -> sent if maybe_tx.is_some() => { sent.unwrap(); 7 }
                send(maybe_tx.as_ref().unwrap(), not_evaluated()) -> sent if maybe_tx.is_some() && round == 0 => {
                    sent.unwrap();
                    7
                }
                send(maybe_tx.as_ref().unwrap(), ref one[round % 2]) -> _ if maybe_tx.is_some() && round == 0 => 0,
                send(tx, ref slots[beyond]) -> _ if beyond < slots.len() => 0,
                send(tx, not_evaluated(),) -> _ if beyond < slots.len() => 0,
                default => 0
            };
            if round == 0 {
                assert_eq!(taken, 0, "all are disabled");
                (maybe_rx, maybe_tx) = (Some(rx.clone()), Some(tx.clone()));
            } else {
                assert!([1, 7].contains(&taken));
            }
        }
        assert_eq!((slots, one), ([Some(5)], [Some(6), None]));
        // With a time-out, and without a default.
        maybe_rx = None;
        tx.send(2).unwrap();
        select! {
            recv(maybe_rx.as_ref().unwrap()) -> _ if maybe_rx.is_some() => panic!("disabled"),
            send(bounded(0).0, not_evaluated()) -> _ if maybe_rx.is_some() => panic!("disabled"),
            default(MOMENT) => {}
        }
        select! {
            recv(maybe_rx.as_ref().unwrap()) -> _ if maybe_rx.is_some() => panic!("disabled"),
            recv(rx) -> value => { value.unwrap(); }
        }
    });
}

/// The macro's name leaves the name free for a module.
mod names {
    mod select {
        pub(super) const MINE: i32 = 1;
    }

    use goby::select;

    #[test]
    fn the_macro_does_not_take_the_name_of_a_module() {
        let (tx, rx) = goby::chan::bounded(1);
        tx.send(select::MINE).unwrap();
        select! {
            recv(rx) -> value => assert_eq!(value, Ok(select::MINE)),
        }
    }
}

/// Every place where a comma is optional, with and without it, and each shape of an arm.
#[test]
fn arms_of_every_shape() {
    let (tx, rx) = bounded(1);
    let (mut slot, mut other) = (Some(1), Some(1));
    let on = Cell::new(true);
    for round in 0..8 {
        let event = select! {
            recv(rx) -> value if on.get() && round % 2 == 1 => value.unwrap(),
            recv(rx,) -> value if !on.get() => { value.unwrap() },
            send(tx, ref slot) -> sent if on.get() => { sent.unwrap(); 20 }
            send(tx, ref other,) -> _ if !on.get() => unreachable!(),
            send(tx, 2) -> sent if round > 0 && round % 2 == 0 => { sent.unwrap(); 21 },
            send(tx, 3,) -> sent if !on.get() => { sent.unwrap(); 22 }
            default() => 30
        };
        let expected = [20, 1, 21, 2][if round < 2 { round } else { 2 + round % 2 }];
        assert_eq!(event, expected);
    }
    select! { recv(rx,) -> _ => unreachable!(), default(MOMENT,) => {} }
    select! { biased; recv(rx) -> _ => unreachable!(), default(MOMENT) => {}, }
    select! { biased; default => {} };
}

/// The first ready case in source order happens; the others wait for their turn, and a later event
/// ends the wait.
#[test]
fn a_biased_select_takes_the_first_that_is_ready() {
    let check = || {
        let (urgent_tx, urgent) = bounded(100);
        let (work_tx, work) = bounded(100);
        (0..100).for_each(|i| work_tx.send(i).and(urgent_tx.send(i)).unwrap());
        let mut order = Vec::new();
        for _ in 0..200 {
            select! {
                biased;
                recv(never::<i32>()) -> _ => unreachable!(),
                recv(urgent) -> value => order.push((0, value.unwrap())),
                recv(work) -> value => order.push((1, value.unwrap())),
                default => panic!("both are ready"),
            }
        }
        assert_eq!(order, (0..2).flat_map(|from| (0..100).map(move |i| (from, i))).collect::<Vec<_>>());
        // One channel in two cases; and nothing ready at first.
        let sender = go(move || (0..100).for_each(|i| work_tx.send(i).unwrap()));
        for i in 0..100 {
            select! {
                biased;
                recv(urgent) -> _ => unreachable!(),
                recv(work) -> value => assert_eq!(value, Ok(i)),
                recv(work) -> _ => panic!("the second of the same channel"),
            }
        }
        sender.join().unwrap();
        drop(urgent_tx);
    };
    with_workers(check);
    check(); // On a plain thread.
}

#[test]
fn a_deadline_as_a_channel() {
    with_workers(|| {
        let deadline = goby_runtime::now() + MOMENT;
        let late = goby::time::at(deadline);
        assert_eq!((late.len(), late.capacity()), (0, Some(0)));
        assert_eq!(late.recv(), Ok(deadline));
        assert!(goby_runtime::now() >= deadline);
        assert_eq!(late.try_recv(), Err(TryRecvError::Empty));
        assert_eq!(goby::time::at(deadline).try_recv(), Ok(deadline), "what is due is there at once");
    });
}
