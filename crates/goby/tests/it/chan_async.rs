//! `send_async` and `recv_async`: what happens to values when their futures are dropped, moved
//! between wakers, or race.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use goby::chan::{RecvError, SendError, Sender, TryRecvError, TrySendError, bounded, never, unbounded};
use goby::chan::{Select, SelectFuture};
use goby::{block_on, go, select, spawn};

use crate::support::{Kind, actor, size, with_workers};

/// Polls once, with a waker that does nothing.
fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// A waker that counts.
#[derive(Default)]
struct Counting(AtomicUsize);

impl Wake for Counting {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Counting {
    fn woken(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

#[test]
fn futures_are_ready_when_nothing_has_to_wait() {
    let (tx, rx) = bounded(1);
    assert_eq!(poll(pin!(tx.send_async(1))), Poll::Ready(Ok(())));
    assert_eq!(poll(pin!(rx.recv_async())), Poll::Ready(Ok(1)));
    assert!(poll(pin!(rx.recv_async())).is_pending());
    drop(tx);
    assert_eq!(poll(pin!(rx.recv_async())), Poll::Ready(Err(RecvError)));
    let (tx, rx) = bounded(1);
    drop(rx);
    assert_eq!(poll(pin!(tx.send_async(2))), Poll::Ready(Err(SendError(2))));
    assert!(poll(pin!(never::<i32>().recv_async())).is_pending());
    assert!(poll(pin!(Sender::never().send_async(1))).is_pending());
}

#[test]
fn the_last_waker_given_is_the_one_that_is_woken() {
    let (tx, rx) = bounded(0);
    let (first, second) = (Arc::new(Counting::default()), Arc::new(Counting::default()));
    let mut future = pin!(rx.recv_async());
    assert!(future.as_mut().poll(&mut Context::from_waker(&first.clone().into())).is_pending());
    assert!(future.as_mut().poll(&mut Context::from_waker(&second.clone().into())).is_pending());
    tx.try_send(7).unwrap();
    assert_eq!((first.woken(), second.woken()), (0, 1));
    assert_eq!(poll(future), Poll::Ready(Ok(7)));
    // The same for a sender, and for a select.
    let mut future = pin!(tx.send_async(8));
    assert!(future.as_mut().poll(&mut Context::from_waker(&first.clone().into())).is_pending());
    assert!(future.as_mut().poll(&mut Context::from_waker(&second.clone().into())).is_pending());
    assert_eq!(rx.try_recv(), Ok(8));
    assert_eq!((first.woken(), second.woken()), (0, 2));
    assert_eq!(poll(future), Poll::Ready(Ok(())));
    let mut select = Select::new();
    select.recv(&rx);
    let mut future = pin!(select.select_async());
    assert!(future.as_mut().poll(&mut Context::from_waker(&first.clone().into())).is_pending());
    assert!(future.as_mut().poll(&mut Context::from_waker(&second.clone().into())).is_pending());
    tx.try_send(9).unwrap();
    assert_eq!((first.woken(), second.woken()), (0, 3));
    assert!(poll(future).is_ready());
}

#[test]
fn a_dropped_receive_waits_no_longer() {
    let (tx, rx) = bounded(0);
    {
        let mut future = pin!(rx.recv_async());
        assert!(poll(future.as_mut()).is_pending());
    }
    assert_eq!(tx.try_send(1), Err(TrySendError::Full(1)));
}

#[test]
fn a_dropped_send_has_not_sent() {
    let (tx, rx) = bounded(0);
    let value = Arc::new(());
    {
        let mut future = pin!(tx.send_async(value.clone()));
        assert!(poll(future.as_mut()).is_pending());
    }
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(Arc::strong_count(&value), 1, "the value is dropped with its future");
}

/// The sender has been told "sent", and the receive future is dropped before it looks: the value
/// goes to the next receiver.
#[test]
fn a_value_handed_to_a_dropped_receive_is_not_lost() {
    with_workers(|| {
        for (tx, rx) in [bounded(0), bounded(1), unbounded()] {
            // Nobody else waits: the value is there for the next receiver that comes.
            let hand_over = |value: i32| {
                let mut future = pin!(rx.recv_async());
                assert!(poll(future.as_mut()).is_pending());
                tx.try_send(value).unwrap();
            };
            hand_over(1);
            assert_eq!(rx.try_recv(), Ok(1));
            // It comes before values that were sent later.
            hand_over(2);
            let later = go({
                let tx = tx.clone();
                move || tx.send(3).unwrap()
            });
            assert_eq!((rx.recv(), rx.recv()), (Ok(2), Ok(3)));
            later.join().unwrap();
            // A receiver waits already: it is woken.
            let mut future = Box::pin(rx.recv_async());
            assert!(poll(future.as_mut()).is_pending());
            let waiting = actor(Kind::Goroutine, {
                let rx = rx.clone();
                move |kind| async move { kind.recv(&rx).await }
            });
            crate::support::pause(crate::support::MOMENT);
            tx.try_send(4).unwrap();
            drop(future);
            assert_eq!(waiting.join(), Ok(4));
            // The channel is closed in between: the value is still received, then comes the end.
            hand_over(5);
            tx.close();
            assert_eq!((rx.recv(), rx.recv()), (Ok(5), Err(RecvError)));
        }
    });
}

/// The same for a select as a future: a receive is undone, whichever case it was.
#[test]
fn a_value_handed_to_a_dropped_select_is_not_lost() {
    let ((tx, rx), (other_tx, other_rx)) = (bounded(0), bounded::<i32>(0));
    for _ in 0..10 {
        {
            let mut select = Select::new();
            select.recv(&other_rx);
            select.recv(&rx);
            select.send(&other_tx, 5);
            let mut future = pin!(select.select_async());
            assert!(poll(future.as_mut()).is_pending());
            tx.try_send(1).unwrap();
        }
        assert_eq!(rx.try_recv(), Ok(1));
        // The other cases no longer wait.
        assert_eq!(other_rx.try_recv(), Err(TryRecvError::Empty));
        assert_eq!(other_tx.try_send(1), Err(TrySendError::Full(1)));
        // Dropped while nothing has happened.
        {
            let mut select = Select::new();
            select.recv(&rx);
            let mut future = pin!(select.select_async());
            assert!(poll(future.as_mut()).is_pending());
        }
        assert_eq!(tx.try_send(1), Err(TrySendError::Full(1)));
    }
}

/// A select future may be dropped at any moment: before it was polled, while its cases wait, when
/// one of them was told of the end, when its result is there, and when its executor's wakers panic.
/// Its channels are as if it had never existed, and work.
#[test]
fn a_select_future_may_be_dropped_at_every_stage() {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::task::{RawWaker, RawWakerVTable};

    /// Panics whenever it is cloned.
    static UNFIT: RawWakerVTable =
        RawWakerVTable::new(|_| panic!("a waker that cannot be cloned"), |_| (), |_| (), |_| ());
    // SAFETY: the waker has no data, and panics where it could be used wrongly.
    let unfit = unsafe { Waker::from_raw(RawWaker::new(std::ptr::null(), &UNFIT)) };
    let poll_unfit = |future: Pin<&mut SelectFuture<'_, '_>>| {
        let polled = catch_unwind(AssertUnwindSafe(|| future.poll(&mut Context::from_waker(&unfit)).is_ready()));
        assert!(polled.is_err());
    };
    let nothing = never::<String>();
    for stage in 0..8 {
        let ((tx, rx), (other_tx, other_rx)) = (bounded::<i32>(0), bounded::<String>(0));
        {
            let mut select = Select::new();
            select.recv(&other_rx);
            select.recv(&nothing);
            select.recv(&rx);
            select.recv(&rx);
            select.send(&other_tx, "offered".to_string());
            let mut future = Box::pin(select.select_async());
            match stage {
                0 => {}
                1 => poll_unfit(future.as_mut()),
                2 => assert!(poll(future.as_mut()).is_pending()),
                3 => {
                    assert!(poll(future.as_mut()).is_pending());
                    poll_unfit(future.as_mut());
                    assert!(poll(future.as_mut()).is_pending());
                }
                4 => {
                    assert!(poll(future.as_mut()).is_pending());
                    tx.try_send(1).unwrap();
                }
                5 => {
                    assert!(poll(future.as_mut()).is_pending());
                    tx.close();
                }
                6 => {
                    assert!(poll(future.as_mut()).is_pending());
                    tx.try_send(1).unwrap();
                    let Poll::Ready(selected) = poll(future.as_mut()) else { panic!("a case has happened") };
                    drop(future);
                    assert!([2, 3].contains(&selected.index()));
                }
                _ => {
                    assert!(poll(future.as_mut()).is_pending());
                    assert_eq!(other_rx.try_recv(), Ok("offered".to_string()));
                }
            }
        }
        // A value that was handed to the future, and that it has not given, goes to the next
        // receiver.
        match stage {
            4 => assert_eq!(rx.try_recv(), Ok(1)),
            5 => assert_eq!(rx.try_recv(), Err(TryRecvError::Closed)),
            _ => assert_eq!(rx.try_recv(), Err(TryRecvError::Empty)),
        }
        if stage != 5 {
            assert_eq!(tx.try_send(2), Err(TrySendError::Full(2)), "stage {stage}");
        }
        assert_eq!(other_rx.try_recv(), Err(TryRecvError::Empty));
        assert!(matches!(other_tx.try_send(String::new()), Err(TrySendError::Full(_))));
    }
}

/// Receive futures are dropped at random while senders of all kinds send: every value that was sent
/// is received once.
#[test]
fn dropping_futures_at_random_loses_nothing() {
    with_workers(|| {
        for capacity in [0, 1, 5] {
            let count = size(400, 10_000) as u64;
            let (tx, rx) = bounded(capacity);
            let senders = [Kind::Goroutine, Kind::Thread, Kind::Task].map(|kind| {
                let tx: Sender<u64> = tx.clone();
                actor(kind, move |kind| async move {
                    for i in 1..=count {
                        kind.send(&tx, i).await.unwrap();
                    }
                })
            });
            drop(tx);
            let impatient = [0, 1].map(|_| {
                let rx = rx.clone();
                spawn(async move {
                    let mut sum = 0;
                    loop {
                        // Polled a few times at most, then dropped.
                        let mut patience = goby_runtime::random() % 3;
                        let mut future = pin!(rx.recv_async());
                        let received = std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
                            Poll::Ready(received) => Poll::Ready(Some(received)),
                            Poll::Pending if patience == 0 => Poll::Ready(None),
                            Poll::Pending => {
                                patience -= 1;
                                cx.waker().wake_by_ref();
                                Poll::Pending
                            }
                        });
                        match received.await {
                            Some(Ok(value)) => sum += value,
                            Some(Err(RecvError)) => return sum,
                            None => yield_once().await,
                        }
                    }
                })
            });
            let patient = go(move || rx.iter().sum::<u64>());
            senders.into_iter().for_each(|sender| sender.join());
            let total: u64 = impatient.map(|task| task.join().unwrap()).iter().sum::<u64>() + patient.join().unwrap();
            assert_eq!(total, 3 * count * (count + 1) / 2);
        }
    });
}

/// Send futures are dropped at random: a value that was not sent is not received, a value that was
/// sent is.
#[test]
fn dropping_send_futures_at_random_keeps_the_books() {
    with_workers(|| {
        let (tx, rx) = bounded(0);
        let dropped = Arc::new(AtomicUsize::new(0));
        struct Counts(usize, Arc<AtomicUsize>);
        impl Drop for Counts {
            fn drop(&mut self) {
                self.1.fetch_add(self.0, Ordering::SeqCst);
            }
        }
        let made = size(1000, 20_000);
        let sender = spawn({
            let dropped = dropped.clone();
            async move {
                let mut sent = 0;
                for _ in 0..made {
                    let mut future = pin!(tx.send_async(Counts(1, dropped.clone())));
                    let mut polls = goby_runtime::random() % 3;
                    let done = std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
                        Poll::Ready(result) => Poll::Ready(Some(result)),
                        Poll::Pending if polls == 0 => Poll::Ready(None),
                        Poll::Pending => {
                            polls -= 1;
                            cx.waker().wake_by_ref();
                            Poll::Pending
                        }
                    });
                    if let Some(result) = done.await {
                        result.ok().unwrap();
                        sent += 1;
                    }
                }
                sent
            }
        });
        // A value that was taken while its future was being dropped counts as received, though
        // nobody saw "sent".
        let received = rx.iter().count();
        let sent = sender.join().unwrap();
        assert!(received >= sent && received <= made, "{received} received, {sent} sent");
        assert_eq!(dropped.load(Ordering::SeqCst), made, "each value is dropped once");
    });
}

/// A future that yields once.
fn yield_once() -> impl Future<Output = ()> + Send {
    let mut yielded = false;
    std::future::poll_fn(move |cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

/// Async code inside a goroutine, next to a select on the same channels.
#[test]
fn async_and_select_meet() {
    with_workers(|| {
        let ((tx, rx), (back, answers)) = (bounded(0), bounded(0));
        let echo = go(move || {
            block_on(async {
                while let Ok(value) = rx.recv_async().await {
                    back.send_async(value).await.unwrap();
                }
            });
        });
        for i in 0..200 {
            select! {
                send(tx, i) -> sent => sent.unwrap(),
                recv(answers) -> _ => panic!("an answer before the question"),
            }
            select! {
                recv(answers) -> answer => assert_eq!(answer, Ok(i)),
                default(std::time::Duration::from_secs(60)) => panic!("no answer"),
            }
        }
        drop(tx);
        echo.join().unwrap();
    });
}

/// No value is handed to a future before it is polled, except on a rendezvous: a receiver that
/// comes meanwhile gets the oldest value.
#[test]
fn a_receive_that_is_not_polled_keeps_no_value() {
    for (tx, rx) in [bounded(2), unbounded()] {
        let mut first = pin!(rx.recv_async());
        let mut select = Select::new();
        select.recv(&rx);
        let mut second = pin!(select.select_async());
        assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
        tx.try_send(1).unwrap();
        tx.try_send(2).unwrap();
        assert_eq!(rx.try_recv(), Ok(1));
        let Poll::Ready(mut selected) = poll(second) else { panic!("there is a value") };
        assert_eq!(selected.recv(&rx), Ok(2));
        // The other future has been told in vain, and waits again, for one value.
        let woken = Arc::new(Counting::default());
        assert!(first.as_mut().poll(&mut Context::from_waker(&woken.clone().into())).is_pending());
        tx.try_send(3).unwrap();
        assert_eq!(woken.woken(), 1);
        assert_eq!(poll(first), Poll::Ready(Ok(3)));
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    }
}

#[test]
fn the_length_never_exceeds_the_capacity() {
    for capacity in [0, 1, 3] {
        let (tx, rx) = bounded(capacity);
        {
            let mut futures: Vec<_> = (0..5).map(|_| Box::pin(rx.recv_async())).collect();
            futures.iter_mut().for_each(|future| assert!(poll(future.as_mut()).is_pending()));
            for i in 0..5 {
                tx.try_send(i).unwrap();
                assert!(rx.len() <= capacity, "{} of {capacity}", rx.len());
            }
        }
        assert_eq!((rx.len(), tx.is_full()), (capacity, true));
        assert_eq!(tx.try_send(9), Err(TrySendError::Full(9)));
        let mut values: Vec<_> = rx.try_iter().collect();
        // On a rendezvous each future was handed a value, and the last to give it back comes first.
        if capacity == 0 {
            values.reverse();
        }
        assert_eq!(values, [0, 1, 2, 3, 4]);
        assert!(rx.is_empty());
    }
}

/// A receiver that is parked behind a future that was told of a value gets the oldest value with
/// the next one, and the rest at the end.
#[test]
fn a_receiver_behind_a_future_gets_the_oldest_value() {
    with_workers(|| {
        for capacity in [1, 4] {
            let (tx, rx) = bounded(capacity);
            let mut future = Box::pin(rx.recv_async());
            assert!(poll(future.as_mut()).is_pending());
            let receiving = go({
                let rx = rx.clone();
                move || (rx.recv(), rx.recv())
            });
            crate::support::pause(crate::support::MOMENT);
            tx.send(1).unwrap();
            // The goroutine may be late. Then it finds the first value itself.
            tx.send(2).unwrap();
            tx.close();
            assert_eq!(receiving.join().unwrap(), (Ok(1), Ok(2)));
            assert_eq!(poll(future.as_mut()), Poll::Ready(Err(RecvError)));
        }
    });
}

/// A future is told, and dropped: the next receiver is told, of every kind.
#[test]
fn a_future_that_is_dropped_tells_the_next() {
    with_workers(|| {
        for capacity in [0, 1] {
            let (tx, rx) = bounded(capacity);
            let (first, second) = (Arc::new(Counting::default()), Arc::new(Counting::default()));
            let mut told = Box::pin(rx.recv_async());
            let mut next = Box::pin(rx.recv_async());
            let mut select = Select::new();
            select.recv(&rx);
            let mut last = Box::pin(select.select_async());
            assert!(told.as_mut().poll(&mut Context::from_waker(&first.clone().into())).is_pending());
            assert!(next.as_mut().poll(&mut Context::from_waker(&second.clone().into())).is_pending());
            assert!(last.as_mut().poll(&mut Context::from_waker(&second.clone().into())).is_pending());
            tx.try_send(1).unwrap();
            assert_eq!((first.woken(), second.woken()), (1, 0));
            drop(told);
            assert_eq!((first.woken(), second.woken()), (1, 1));
            drop(next);
            assert_eq!(second.woken(), 2);
            // And from a select to a goroutine.
            let receiving = go({
                let rx = rx.clone();
                move || {
                    let mut select = Select::new();
                    select.recv(&rx);
                    select.ready();
                    rx.recv()
                }
            });
            drop(last);
            assert_eq!(receiving.join().unwrap(), Ok(1));
        }
    });
}

/// A waker that cannot be cloned panics, also in a poll that finds its value gone. The future still
/// works.
#[test]
fn a_receive_told_in_vain_survives_its_executor() {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::task::{RawWaker, RawWakerVTable};

    static UNFIT: RawWakerVTable =
        RawWakerVTable::new(|_| panic!("a waker that cannot be cloned"), |_| (), |_| (), |_| ());
    // SAFETY: the waker has no data, and panics where it could be used wrongly.
    let unfit = unsafe { Waker::from_raw(RawWaker::new(std::ptr::null(), &UNFIT)) };
    let (tx, rx) = bounded(2);
    let mut future = pin!(rx.recv_async());
    let mut select = Select::new();
    select.recv(&rx);
    let mut selecting = pin!(select.select_async());
    for round in 0..3 {
        assert!(poll(future.as_mut()).is_pending() && poll(selecting.as_mut()).is_pending());
        tx.try_send(round).unwrap();
        tx.try_send(round).unwrap();
        assert_eq!((rx.try_recv(), rx.try_recv()), (Ok(round), Ok(round)));
        let polled = |f: &mut dyn FnMut()| catch_unwind(AssertUnwindSafe(f)).is_err();
        assert!(polled(&mut || _ = future.as_mut().poll(&mut Context::from_waker(&unfit))));
        assert!(polled(&mut || _ = selecting.as_mut().poll(&mut Context::from_waker(&unfit)).is_ready()));
    }
    // Nobody waits, so the value stays.
    tx.try_send(8).unwrap();
    assert_eq!(rx.try_recv(), Ok(8));
    assert!(poll(future.as_mut()).is_pending());
    tx.try_send(9).unwrap();
    assert_eq!(poll(future), Poll::Ready(Ok(9)));
}

/// Futures are polled late or never, besides receivers of all kinds that come and go: no value is
/// lost, and no receiver waits in vain.
#[test]
fn late_futures_and_quick_receivers_lose_nothing() {
    with_workers(|| {
        for capacity in [0, 2] {
            let count = size(300, 10_000) as u64;
            let (tx, rx) = bounded(capacity);
            let receivers = [Kind::Goroutine, Kind::Thread, Kind::Task].map(|kind| {
                let rx = rx.clone();
                actor(kind, move |kind| async move {
                    let mut sum = 0;
                    while let Ok(value) = kind.recv(&rx).await {
                        sum += value;
                    }
                    sum
                })
            });
            let late = spawn(async move {
                let mut sum = 0;
                loop {
                    // The future is queued, and not polled for a while.
                    let mut future = pin!(rx.recv_async());
                    let mut select = Select::new();
                    select.recv(&rx);
                    let mut selecting = pin!(select.select_async());
                    if let Poll::Ready(received) = poll(future.as_mut()) {
                        match received {
                            Ok(value) => sum += value,
                            Err(RecvError) => return sum,
                        }
                    }
                    let selected = poll(selecting.as_mut());
                    let pause = std::time::Duration::from_micros(goby_runtime::random() % 50);
                    goby::time::after(pause).recv_async().await.unwrap();
                    if let Poll::Ready(mut selected) = selected {
                        sum += selected.recv(&rx).unwrap_or(0);
                    } else if goby_runtime::random().is_multiple_of(2)
                        && let Poll::Ready(mut selected) = poll(selecting)
                    {
                        sum += selected.recv(&rx).unwrap_or(0);
                    }
                }
            });
            let senders = [Kind::Goroutine, Kind::Thread, Kind::Task].map(|kind| {
                let tx: Sender<u64> = tx.clone();
                actor(kind, move |kind| async move {
                    for i in 1..=count {
                        kind.send(&tx, i).await.unwrap();
                    }
                })
            });
            drop(tx);
            senders.into_iter().for_each(|sender| sender.join());
            let total = late.join().unwrap() + receivers.into_iter().map(|receiver| receiver.join()).sum::<u64>();
            assert_eq!(total, 3 * count * (count + 1) / 2);
        }
    });
}

/// Values that are moved by address go past a future that is not polled, and past a waiter that
/// only looks, as other values do.
#[test]
fn large_values_pass_futures_and_who_only_looks() {
    fn large(i: u8) -> [u8; 4096] {
        [i; 4096]
    }
    with_workers(|| {
        let (tx, rx) = bounded::<[u8; 4096]>(1);
        let mut future = Box::pin(rx.recv_async());
        assert!(poll(future.as_mut()).is_pending());
        let looking = go({
            let rx = rx.clone();
            move || {
                let mut select = Select::new();
                select.recv(&rx);
                select.ready()
            }
        });
        let receiving = go({
            let rx = rx.clone();
            move || (rx.recv().unwrap()[0], rx.recv().unwrap()[0])
        });
        crate::support::pause(crate::support::MOMENT);
        tx.send(large(1)).unwrap();
        tx.send(large(2)).unwrap();
        select! { send(tx, large(3)) -> sent => sent.unwrap() }
        assert_eq!(receiving.join().unwrap(), (1, 2));
        assert_eq!(looking.join().unwrap(), 0);
        assert_eq!(poll(future.as_mut()), Poll::Ready(Ok(large(3))));
        // A waiter that looks for room, and a sender that is parked.
        tx.send(large(4)).unwrap();
        let looking = go({
            let tx = tx.clone();
            move || {
                let mut select = Select::new();
                select.send_later(&tx);
                select.ready()
            }
        });
        let sending = go({
            let tx = tx.clone();
            move || tx.send(large(5)).unwrap()
        });
        crate::support::pause(crate::support::MOMENT);
        assert_eq!((rx.recv().unwrap()[0], rx.recv().unwrap()[0]), (4, 5));
        assert_eq!(looking.join().unwrap(), 0);
        sending.join().unwrap();
        assert_eq!(rx.len(), 0);
    });
}
