//! Select: rows 47 to 81 of the conformance list. Rows 63, 65 and 71 are the stress programs S20,
//! S17 and S21 at Go's own sizes; `crate::stress::select` has them with more kinds of ends.

use std::cell::{Cell, UnsafeCell};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use goby::chan::Select;
use goby::chan::{Receiver, Sender, bounded, never};
use goby::{go, select, time};

use crate::alloc::live_bytes;
use crate::stress;
use crate::support::{Actor, KINDS, MOMENT, actor, pause, rerun_alone, size, with_workers, with_workers_leaving};

#[test]
fn s047_a_select_without_cases_blocks_for_ever() {
    with_workers_leaving(2, || {
        let passed = Arc::new(AtomicBool::new(false));
        let (by_macro, by_object) = (passed.clone(), passed.clone());
        go(move || {
            let _not_seen = Passed(by_macro);
            select! {}
        });
        go(move || {
            let _not_seen = Passed(by_object);
            let _ = Select::new().select();
        });
        pause(Duration::from_millis(100));
        assert!(!passed.load(Ordering::SeqCst));
    });

    /// Sets its flag when it is dropped: a goroutine passed its endless wait, or was unwound out of
    /// it.
    struct Passed(Arc<AtomicBool>);

    impl Drop for Passed {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
}

#[test]
fn s049_a_select_with_one_receive_blocks_like_a_receive() {
    with_workers(|| {
        let (tx, rx) = bounded::<i32>(0);
        let done = Arc::new(AtomicUsize::new(0));
        let (in_macro, in_object) = ((rx.clone(), done.clone()), (rx, done.clone()));
        let by_macro = go(move || {
            let value = select! { recv(in_macro.0) -> value => value };
            in_macro.1.fetch_add(1, Ordering::SeqCst);
            value
        });
        let by_object = actor(KINDS[3], move |kind| async move {
            let (rx, done) = in_object;
            let mut select = Select::new();
            select.recv(&rx);
            let value = stress::select::wait(kind, &mut select).await.recv(&rx);
            done.fetch_add(1, Ordering::SeqCst);
            value
        });
        pause(Duration::from_millis(100));
        assert_eq!(done.load(Ordering::SeqCst), 0);
        tx.send(1).unwrap();
        tx.send(2).unwrap();
        assert_eq!(by_macro.join().unwrap().unwrap() + by_object.join().unwrap(), 3);
    });
}

#[test]
fn s051_a_select_with_only_default_takes_it() {
    with_workers(|| {
        let mut taken = 0;
        select! { default => taken += 1 }
        assert_eq!(taken, 1);
        assert!(Select::new().try_select().is_none());
        let value = select! { default(MOMENT) => "timeout" };
        assert_eq!(value, "timeout");
        assert!(Select::new().select_timeout(MOMENT).is_none());
    });
}

#[test]
fn s053_a_ready_send_is_taken_before_default() {
    with_workers(|| {
        for round in 0..1000 {
            let (tx, rx) = bounded(1);
            select! {
                send(tx, round) -> sent => sent.unwrap(),
                default => panic!("default although there is space"),
            }
            assert_eq!(rx.recv().unwrap(), round);
            select! {
                default => panic!("default although there is space"),
                send(tx, round) -> sent => sent.unwrap(),
            }
            select! {
                send(tx, round) -> _ => panic!("sent into a full channel"),
                default => {}
            }
            assert_eq!((rx.len(), rx.recv().unwrap()), (1, round));
        }
    });
}

#[test]
fn s055_a_receive_from_a_closed_channel_is_ready() {
    with_workers(|| {
        let (tx, rx) = bounded::<i32>(0);
        drop(tx);
        for _ in 0..100 {
            select! {
                recv(rx) -> value => assert!(value.is_err()),
                recv(never::<i32>()) -> _ => panic!("a value from the never channel"),
            }
            let value = select! {
                recv(rx) -> value => value.ok(),
                default => panic!("default although the channel is closed"),
            };
            assert_eq!(value, None);
            let mut select = Select::new();
            let index = select.recv(&rx);
            let mut selected = select.try_select().expect("a closed channel is ready");
            assert_eq!(selected.index(), index);
            selected.recv(&rx).unwrap_err();
        }
    });
}

/// Sends 1 into one of the channels, 2 into the next, and so on, disabling each channel once used.
/// Counts the sends.
fn send_until_default(mut a: Sender<i32>, mut b: Sender<i32>) -> i32 {
    let mut shift = 0;
    loop {
        select! {
            send(a, 1 << shift) -> sent => {
                sent.unwrap();
                a = Sender::never();
            }
            send(b, 1 << shift) -> sent => {
                sent.unwrap();
                b = Sender::never();
            }
            default => return shift,
        }
        shift += 1;
    }
}

#[test]
fn s057_cases_are_disabled_by_the_never_channel() {
    with_workers(|| {
        for _ in 0..20 {
            let ((a, from_a), (b, from_b)) = (bounded(1), bounded(1));
            assert_eq!(send_until_default(a, b), 2);
            assert_eq!(from_a.recv().unwrap() | from_b.recv().unwrap(), 3);
            let (a, from_a) = bounded(1);
            assert_eq!(send_until_default(a, Sender::never()), 1);
            assert_eq!(from_a.recv().unwrap(), 1);
        }
    });
}

/// Demands that tags come in increasing order, each once.
#[derive(Default)]
struct Tags(Cell<u32>);

impl Tags {
    fn tag(&self, tag: u32) {
        assert_eq!(self.0.replace(tag) + 1, tag, "operands evaluated out of order");
    }

    fn tx<'a>(&self, tag: u32, tx: &'a Sender<i32>) -> &'a Sender<i32> {
        self.tag(tag);
        tx
    }

    fn rx<'a>(&self, tag: u32, rx: &'a Receiver<i32>) -> &'a Receiver<i32> {
        self.tag(tag);
        rx
    }

    fn value(&self, tag: u32, value: i32) -> i32 {
        self.tag(tag);
        value
    }

    fn check(&self, count: u32) {
        assert_eq!(self.0.take(), count, "operands evaluated");
    }
}

#[test]
fn s059_operands_are_evaluated_once_in_source_order() {
    with_workers(|| {
        let tags = Tags::default();
        let (ready_tx, ready_rx) = bounded(1);
        let (idle_tx, idle_rx) = (Sender::<i32>::never(), never::<i32>());
        for _ in 0..50 {
            // Six receives and sends. Only one can happen: first, in the middle or last.
            select! {
                send(tags.tx(1, &ready_tx), tags.value(2, 7)) -> sent => sent.unwrap(),
                recv(tags.rx(3, &idle_rx)) -> _ => unreachable!(),
                send(tags.tx(4, &idle_tx), tags.value(5, 7)) -> _ => unreachable!(),
                recv(tags.rx(6, &idle_rx)) -> _ => unreachable!(),
                send(tags.tx(7, &idle_tx), tags.value(8, 7)) -> _ => unreachable!(),
            }
            tags.check(8);
            select! {
                recv(tags.rx(1, &idle_rx)) -> _ => unreachable!(),
                recv(tags.rx(2, &ready_rx)) -> value => assert_eq!(value, Ok(7)),
                send(tags.tx(3, &idle_tx), tags.value(4, 7)) -> _ => unreachable!(),
                send(tags.tx(5, &idle_tx), tags.value(6, 7)) -> _ => unreachable!(),
            }
            tags.check(6);
            select! {
                send(tags.tx(1, &idle_tx), tags.value(2, 7)) -> _ => unreachable!(),
                recv(tags.rx(3, &idle_rx)) -> _ => unreachable!(),
                default => {}
                send(tags.tx(4, &idle_tx), tags.value(5, 7)) -> _ => unreachable!(),
            }
            tags.check(5);
            select! {
                recv(tags.rx(1, &idle_rx)) -> _ => unreachable!(),
                recv(tags.rx(2, &idle_rx)) -> _ => unreachable!(),
                send(tags.tx(3, &ready_tx), tags.value(4, 8)) -> sent => sent.unwrap(),
            }
            tags.check(4);
            select! {
                default => unreachable!(),
                recv(tags.rx(1, &ready_rx)) -> value => assert_eq!(value, Ok(8)),
            }
            tags.check(1);
        }
    });
}

/// One select over a ready case and any of four idle ones, with `default` first, last, or missing.
macro_rules! with_every_default {
    ($mask:ident, $idle:ident, $($ready:tt)*) => {
        with_every_default!(@select [default => panic!("default, mask {:#b}", $mask),] [] $mask, $idle, $($ready)*);
        with_every_default!(@select [] [default => panic!("default, mask {:#b}", $mask),] $mask, $idle, $($ready)*);
        with_every_default!(@select [] [] $mask, $idle, $($ready)*);
    };
    (@select [$($first:tt)*] [$($last:tt)*] $mask:ident, $idle:ident, $($ready:tt)*) => {
        select! {
            $($first)*
            send($idle.tx, 1) -> _ if $mask & 1 != 0 => panic!("a send without a receiver"),
            recv($idle.rx) -> _ if $mask & 2 != 0 => panic!("a receive without a sender"),
            $($ready)*,
            send(Sender::never(), 1) -> _ if $mask & 4 != 0 => panic!("sent to the never channel"),
            recv(never::<i32>()) -> _ if $mask & 8 != 0 => panic!("received from the never channel"),
            $($last)*
        }
    };
}

/// Channels of capacity 0. Their other ends exist but do nothing.
struct Idle {
    tx: Sender<i32>,
    rx: Receiver<i32>,
    _other_ends: (Receiver<i32>, Sender<i32>),
}

impl Idle {
    fn new() -> Self {
        let ((tx, other_rx), (other_tx, rx)) = (bounded(0), bounded(0));
        Idle { tx, rx, _other_ends: (other_rx, other_tx) }
    }

    /// Adds the cases of `mask` to a dynamic select.
    fn add<'a>(&'a self, select: &mut Select<'a>, mask: u32, nobody: &'a (Sender<i32>, Receiver<i32>)) {
        if mask & 1 != 0 {
            select.send(&self.tx, 1);
        }
        if mask & 2 != 0 {
            select.recv(&self.rx);
        }
        if mask & 4 != 0 {
            select.send(&nobody.0, 1);
        }
        if mask & 8 != 0 {
            select.recv(&nobody.1);
        }
    }
}

#[test]
fn s061_the_one_ready_case_is_taken_from_every_shape() {
    with_workers(|| {
        let idle = Idle::new();
        let nobody = (Sender::never(), never());
        for mask in 0..16u32 {
            // A ready send, to a buffer.
            let (tx, rx) = bounded(3);
            with_every_default!(mask, idle, send(tx, 5) -> sent => sent.unwrap());
            assert_eq!(rx.try_iter().collect::<Vec<_>>(), [5; 3]);
            // A ready receive: from a buffer, of a closed channel.
            (0..3).for_each(|i| tx.send(i).unwrap());
            let mut sum = 0;
            with_every_default!(mask, idle, recv(rx) -> value => sum += value.unwrap());
            assert_eq!(sum, 3);
            tx.close();
            let mut ends = 0;
            with_every_default!(mask, idle, recv(rx) -> value => ends += i32::from(value.is_err()));
            assert_eq!(ends, 3);
            // A send on a closed channel is ready, too.
            let mut refused = Vec::new();
            with_every_default!(mask, idle, send(tx, 6) -> sent => refused.push(sent.unwrap_err().into_inner()));
            assert_eq!(refused, [6; 3]);
            // The same with cases that are known only at run time, the ready one before and behind
            // the others.
            for ready_first in [true, false] {
                for blocking in [true, false] {
                    let (tx, rx) = bounded(1);
                    let mut sending = Select::new();
                    let mut expected = 0;
                    if ready_first {
                        expected = sending.send(&tx, 4);
                    }
                    idle.add(&mut sending, mask, &nobody);
                    if !ready_first {
                        expected = sending.send(&tx, 4);
                    }
                    let mut selected = if blocking { sending.select() } else { sending.try_select().unwrap() };
                    assert_eq!(selected.index(), expected);
                    selected.send(&tx).unwrap();
                    let mut receiving = Select::new();
                    if ready_first {
                        expected = receiving.recv(&rx);
                    }
                    idle.add(&mut receiving, mask, &nobody);
                    if !ready_first {
                        expected = receiving.recv(&rx);
                    }
                    let mut selected = if blocking { receiving.select() } else { receiving.try_select().unwrap() };
                    assert_eq!(selected.index(), expected);
                    assert_eq!(selected.recv(&rx).unwrap(), 4);
                }
            }
        }
    });
}

#[test]
fn s063_a_try_select_sees_all_channels_at_one_instant() {
    with_workers(|| stress::select::one_instant(size(2000, 100_000), false));
}

#[test]
fn s065_two_goroutines_select_on_the_same_channel_both_ways() {
    with_workers(|| {
        stress::select::self_select(0);
        stress::select::self_select(10);
    });
}

#[test]
fn s067_leaving_the_end_of_a_wait_queue_keeps_the_queue() {
    with_workers(|| {
        for kind in KINDS {
            // Receivers: a plain one, and behind it a select that another channel ends.
            let ((tx, rx), (end, ended)) = (bounded::<i32>(0), bounded::<()>(0));
            let plain = go({
                let rx = rx.clone();
                move || rx.recv().unwrap()
            });
            pause(MOMENT); // The receiver is now (very likely) the first in the queue.
            let selecting = actor(kind, move |kind| async move {
                let mut select = Select::new();
                select.recv(&rx);
                let end_index = select.recv(&ended);
                let mut selected = stress::select::wait(kind, &mut select).await;
                assert_eq!(selected.index(), end_index);
                selected.recv(&ended).unwrap();
                kind.recv(&rx).await.unwrap()
            });
            pause(MOMENT);
            end.send(()).unwrap();
            tx.send(1).unwrap();
            tx.send(2).unwrap();
            assert_eq!(plain.join().unwrap() + selecting.join(), 3);

            // The same with senders.
            let ((tx, rx), (end, ended)) = (bounded::<i32>(0), bounded::<()>(0));
            let plain = go({
                let tx = tx.clone();
                move || tx.send(1).unwrap()
            });
            pause(MOMENT);
            let selecting = actor(kind, move |kind| async move {
                let mut select = Select::new();
                select.send(&tx, 100);
                let end_index = select.recv(&ended);
                let mut selected = stress::select::wait(kind, &mut select).await;
                assert_eq!(selected.index(), end_index);
                selected.recv(&ended).unwrap();
                kind.send(&tx, 2).await.unwrap();
            });
            pause(MOMENT);
            end.send(()).unwrap();
            assert_eq!(rx.recv().unwrap() + rx.recv().unwrap(), 3);
            plain.join().unwrap();
            selecting.join();
        }
    });
}

#[test]
#[allow(clippy::never_loop)] // That they are left at once is what is tested.
fn s069_break_in_an_arm_leaves_the_surrounding_loop_or_block() {
    with_workers(|| {
        let (tx, rx) = bounded(10);
        let mut passed = 0;
        (0..4).for_each(|i| tx.send(i).unwrap());
        // One case.
        loop {
            select! { recv(rx) -> _ => break }
        }
        passed += 1;
        // Only default.
        'only_default: {
            select! { default => break 'only_default }
            #[allow(unreachable_code)]
            {
                passed += 100;
            }
        }
        passed += 1;
        // One case and default.
        loop {
            select! {
                recv(rx) -> _ => break,
                default => panic!("default although a value is there"),
            }
        }
        passed += 1;
        // Two cases and default, out of two loops.
        'outer: loop {
            loop {
                select! {
                    recv(rx) -> _ => break 'outer,
                    send(Sender::never(), 1) -> _ => unreachable!(),
                    default => panic!("default although a value is there"),
                }
            }
        }
        passed += 1;
        assert_eq!((passed, rx.len()), (4, 1));
    });
}

#[test]
fn s071_both_ready_cases_are_taken_equally_often() {
    with_workers(|| stress::select::fair_between_two(10_000));
}

#[test]
fn s073_a_timer_gets_its_turn_beside_a_channel_that_is_always_ready() {
    with_workers(|| {
        let (tx, rx) = bounded(0);
        let (stop, stopped) = bounded::<()>(0);
        let senders = [0, 1].map(|_| {
            let (tx, stopped) = (tx.clone(), stopped.clone());
            go(move || {
                loop {
                    select! {
                        send(tx, ()) -> sent => sent.unwrap(),
                        recv(stopped) -> _ => return,
                    }
                }
            })
        });
        let start = goby_runtime::now();
        let timer = time::after(Duration::from_millis(20));
        loop {
            select! {
                recv(rx) -> value => value.unwrap(),
                recv(timer) -> _ => break,
            }
        }
        let elapsed = goby_runtime::now() - start;
        assert!(elapsed >= Duration::from_millis(20) && elapsed < Duration::from_secs(10), "{elapsed:?}");
        drop(stop);
        senders.into_iter().for_each(|sender| sender.join().unwrap());
    });
}

#[test]
fn s075_merging_two_channels_ends_when_both_are_closed() {
    with_workers(|| {
        for (first, second) in KINDS.into_iter().flat_map(|a| KINDS.map(|b| (a, b))) {
            let feed = |kind, values: [i32; 3]| {
                let (tx, rx) = bounded(0);
                let sender = actor(kind, move |kind| async move {
                    for value in values {
                        kind.send(&tx, value).await.unwrap();
                    }
                });
                (sender, rx)
            };
            let (first, mut odd) = feed(first, [1, 3, 5]);
            let (second, mut even) = feed(second, [2, 4, 6]);
            let (mut merged, mut open) = (BTreeSet::new(), 2);
            while open > 0 {
                let value = select! {
                    recv(odd) -> value => value.inspect_err(|_| odd = never()),
                    recv(even) -> value => value.inspect_err(|_| even = never()),
                };
                match value {
                    Ok(value) => assert!(merged.insert(value), "{value} came twice"),
                    Err(_) => open -= 1,
                }
            }
            assert_eq!(merged, BTreeSet::from([1, 2, 3, 4, 5, 6]));
            first.join();
            second.join();
        }
    });
}

#[test]
fn s077_a_dynamic_select_takes_65536_cases() {
    with_workers(|| {
        let (tx, rx) = bounded::<i32>(0);
        drop(tx);
        let mut select = Select::new();
        for index in 0..1 << 16 {
            assert_eq!(select.recv(&rx), index);
        }
        let mut selected = select.select();
        assert!(selected.index() < 1 << 16);
        selected.recv(&rx).unwrap_err();
    });
    // One more is refused, not mistaken for another case.
    with_workers(|| {
        let refused = catch_unwind(AssertUnwindSafe(|| {
            let rx = never::<i32>();
            let mut select = Select::new();
            for _ in 0..=1 << 16 {
                select.recv(&rx);
            }
            select.try_select().is_none()
        }));
        refused.expect_err("65537 cases");
    });
}

#[test]
fn s079_selects_beside_an_idle_channel_leak_no_memory() {
    if !rerun_alone("conformance::select::s079_selects_beside_an_idle_channel_leak_no_memory") {
        return;
    }
    with_workers(|| {
        let (idle, never_sent) = bounded::<i32>(0);
        let (tx, rx) = bounded(0);
        let selects = |count: usize| {
            let tx = tx.clone();
            let sender = go(move || (0..count).for_each(|i| tx.send(i).unwrap()));
            for i in 0..count {
                select! {
                    recv(rx) -> value => assert_eq!(value, Ok(i)),
                    recv(never_sent) -> _ => unreachable!(),
                }
            }
            sender.join().unwrap();
            live_bytes()
        };
        let count = size(10_000, 100_000);
        let first = selects(count);
        let second = selects(count);
        // One leaked waiter per select would be far more.
        assert!(second - first <= 110_000, "{} bytes more than before", second - first);
        drop(idle);
    });
}

/// A counter without a lock of its own; a data race on it is seen by ThreadSanitizer, and a lost
/// update by the sum.
#[derive(Default)]
struct Counter(UnsafeCell<u64>);

// SAFETY: the test uses the counter only between a send and a receive on a channel of capacity one.
unsafe impl Sync for Counter {}

#[test]
fn s081_a_channel_as_a_mutex_through_selects() {
    with_workers(|| {
        let (tx, rx) = bounded(1);
        let counter = Arc::new(Counter::default());
        let actors = KINDS.map(|kind| {
            let (tx, rx, counter) = (tx.clone(), rx.clone(), counter.clone());
            actor(kind, move |kind| async move {
                let (nobody, other) = (never::<i32>(), Sender::<i32>::never());
                for _ in 0..500 {
                    let mut lock = Select::new();
                    lock.recv(&nobody);
                    lock.send(&tx, ());
                    stress::select::wait(kind, &mut lock).await.send(&tx).unwrap();
                    // SAFETY: only the actor with its value in the channel gets here; that is what
                    // is tested.
                    unsafe { *counter.0.get() += 1 };
                    let mut unlock = Select::new();
                    unlock.recv(&rx);
                    unlock.send(&other, 0);
                    stress::select::wait(kind, &mut unlock).await.recv(&rx).unwrap();
                }
            })
        });
        actors.into_iter().for_each(Actor::join);
        tx.send(()).unwrap();
        // SAFETY: all others have ended.
        assert_eq!(unsafe { *counter.0.get() }, 4 * 500);
    });
}
