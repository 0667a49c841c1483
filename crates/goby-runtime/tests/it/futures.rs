//! Futures: awaited by goroutines, and run beside them.

use std::future::{Future, poll_fn, ready};
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::thread;

use goby_runtime::{block_on, go, spawn, yield_now};

use crate::support::{in_child, on_workers, stderr, wait_until, with_workers};

/// Pending once, after waking itself.
fn yield_once() -> impl Future<Output = ()> + Send {
    let mut yielded = false;
    poll_fn(move |cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

/// A flag that wakes its waiter, from any thread that sets it.
#[derive(Default)]
struct Event {
    set: AtomicBool,
    waker: parking_lot::Mutex<Option<Waker>>,
}

impl Event {
    fn set(&self) {
        self.set.store(true, Ordering::SeqCst);
        if let Some(waker) = self.waker.lock().take() {
            waker.wake();
        }
    }

    fn has_waiter(&self) -> bool {
        self.waker.lock().is_some()
    }

    async fn wait(&self) {
        poll_fn(|cx| {
            *self.waker.lock() = Some(cx.waker().clone());
            if self.set.load(Ordering::SeqCst) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

#[test]
fn block_on_gives_the_output() {
    assert_eq!(block_on(ready(1)), 1);
    with_workers(|| {
        assert_eq!(block_on(ready(1)), 1);
        assert_eq!(
            block_on(async {
                yield_once().await;
                2
            }),
            2
        );
        let borrowed = String::from("not 'static");
        assert_eq!(
            block_on(async {
                yield_once().await;
                borrowed.len()
            }),
            11
        );
    });
}

#[test]
fn block_on_parks_the_goroutine_and_not_its_thread() {
    on_workers(1, || {
        let event = Arc::new(Event::default());
        let waker = go({
            let event = event.clone();
            move || {
                wait_until("block_on to wait", || event.has_waiter());
                event.set();
            }
        });
        block_on(event.wait());
        waker.join().unwrap();
    });
}

#[test]
fn a_plain_thread_wakes_block_on() {
    with_workers(|| {
        let (events, to_set) = mpsc::channel::<Arc<Event>>();
        let thread = thread::spawn(move || to_set.iter().for_each(|event| event.set()));
        for _ in 0..200 {
            let event = Arc::new(Event::default());
            events.send(event.clone()).unwrap();
            block_on(event.wait());
        }
        drop(events);
        goby_runtime::blocking(|| thread.join().unwrap());
    });
    // And a thread that waits is woken by a goroutine.
    let event = Arc::new(Event::default());
    go({
        let event = event.clone();
        move || event.set()
    });
    block_on(event.wait());
}

/// A wake-up without cause makes it poll again, at most once, and ends nothing.
#[test]
fn spurious_wakes_do_no_harm() {
    with_workers(|| {
        let event = Arc::new(Event::default());
        let polls = Arc::new(AtomicUsize::new(0));
        let waiter = go({
            let (event, polls) = (event.clone(), polls.clone());
            move || {
                let mut wait = Box::pin(event.wait());
                block_on(poll_fn(move |cx| {
                    polls.fetch_add(1, Ordering::SeqCst);
                    wait.as_mut().poll(cx)
                }));
            }
        });
        for round in 1..100 {
            wait_until("the next poll", || event.has_waiter() && polls.load(Ordering::SeqCst) >= round);
            let waker = event.waker.lock().take().unwrap();
            waker.wake_by_ref();
            waker.wake();
        }
        assert!(!waiter.is_finished());
        event.set();
        waiter.join().unwrap();
        assert!(polls.load(Ordering::SeqCst) <= 201, "{} polls", polls.load(Ordering::SeqCst));
    });
}

/// A waker may outlive its block_on and be used afterwards, while the goroutine waits for something
/// else or is gone.
#[test]
fn a_waker_used_too_late_wakes_nobody_else() {
    with_workers(|| {
        for _ in 0..50 {
            let waker = block_on(poll_fn(|cx| Poll::Ready(cx.waker().clone())));
            let event = Arc::new(Event::default());
            let late = go({
                let event = event.clone();
                move || {
                    wait_until("the second wait", || event.has_waiter());
                    waker.wake_by_ref();
                    yield_now();
                    assert!(event.has_waiter(), "a stale waker ended another wait");
                    waker.wake();
                    event.set();
                }
            });
            block_on(event.wait());
            late.join().unwrap();
        }
        let kept = go(|| block_on(poll_fn(|cx| Poll::Ready(cx.waker().clone())))).join().unwrap();
        kept.wake();
    });
}

#[test]
fn block_on_nests() {
    with_workers(|| {
        let value = block_on(async {
            yield_once().await;
            1 + block_on(async {
                yield_once().await;
                1 + block_on(async {
                    spawn(async {
                        yield_once().await;
                        1
                    })
                    .await
                })
            })
        });
        assert_eq!(value, 3);
    });
}

/// The outer future is woken while the inner block_on waits: it is polled again afterwards, so the
/// wake-up is not lost, and the inner one does not end early.
#[test]
fn a_wake_of_the_outer_future_during_an_inner_block_on_is_kept() {
    with_workers(|| {
        let outer = Arc::new(Event::default());
        let inner = Arc::new(Event::default());
        let waker = go({
            let (outer, inner) = (outer.clone(), inner.clone());
            move || {
                wait_until("both to wait", || outer.has_waiter() && inner.has_waiter());
                outer.set();
                yield_now();
                assert!(!inner.set.load(Ordering::SeqCst) && inner.has_waiter());
                inner.set();
            }
        });
        let mut wait_outer = Box::pin(outer.wait());
        let mut polls = 0;
        block_on(poll_fn(|cx| {
            polls += 1;
            let poll = wait_outer.as_mut().poll(cx);
            if poll.is_pending() {
                block_on(inner.wait());
                assert!(inner.set.load(Ordering::SeqCst));
            }
            poll
        }));
        assert_eq!(polls, 2);
        waker.join().unwrap();
    });
}

#[test]
fn a_task_is_joined_or_awaited() {
    with_workers(|| {
        assert_eq!(spawn(ready(1)).join().unwrap(), 1);
        assert_eq!(
            block_on(spawn(async {
                yield_once().await;
                2
            })),
            2
        );
        assert_eq!(spawn(async { spawn(ready(3)).await + 1 }).join().unwrap(), 4);
        let task = spawn(ready(5));
        wait_until("the task to end", || task.is_finished());
        assert_eq!(task.join().unwrap(), 5);
    });
}

#[test]
fn a_panic_of_a_task_reaches_join_and_await() {
    with_workers(|| {
        let failing = || async {
            yield_once().await;
            panic!("in a task")
        };
        let payload = spawn::<Pin<Box<dyn Future<Output = ()> + Send>>>(Box::pin(failing())).join().unwrap_err();
        assert_eq!(*payload.downcast::<&str>().unwrap(), "in a task");
        let awaited = go(move || block_on(spawn::<Pin<Box<dyn Future<Output = ()> + Send>>>(Box::pin(failing()))));
        assert_eq!(*awaited.join().unwrap_err().downcast::<&str>().unwrap(), "in a task");
    });
}

#[test]
fn a_dropped_task_goes_on() {
    with_workers(|| {
        let (started, event, ended) =
            (Arc::new(AtomicUsize::new(0)), Arc::new(Event::default()), Arc::new(AtomicBool::new(false)));
        let task = spawn({
            let (started, event, ended) = (started.clone(), event.clone(), ended.clone());
            async move {
                started.fetch_add(1, Ordering::SeqCst);
                event.wait().await;
                ended.store(true, Ordering::SeqCst);
            }
        });
        drop(task);
        wait_until("the task to wait", || event.has_waiter());
        assert!(!ended.load(Ordering::SeqCst));
        event.set();
        wait_until("the task to end", || ended.load(Ordering::SeqCst));
        assert_eq!(started.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn ten_thousand_tasks() {
    with_workers(|| {
        let sum = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..10_000)
            .map(|i| {
                let sum = sum.clone();
                spawn(async move {
                    for _ in 0..i % 4 {
                        yield_once().await;
                    }
                    sum.fetch_add(i, Ordering::Relaxed);
                    i
                })
            })
            .collect();
        let joined: usize = block_on(async {
            let mut total = 0;
            for task in tasks {
                total += task.await;
            }
            total
        });
        assert_eq!((joined, sum.load(Ordering::Relaxed)), (49_995_000, 49_995_000));
    });
}

/// A task that is always ready to go on leaves room for goroutines and other tasks on the only
/// worker.
#[test]
fn a_task_that_yields_starves_nobody() {
    on_workers(1, || {
        let stop = Arc::new(AtomicBool::new(false));
        let busy = spawn({
            let stop = stop.clone();
            async move {
                while !stop.load(Ordering::SeqCst) {
                    yield_once().await;
                }
            }
        });
        assert_eq!(
            spawn(async {
                yield_once().await;
                1
            })
            .join()
            .unwrap()
                + go(|| 2).join().unwrap(),
            3
        );
        crate::support::pause(std::time::Duration::from_millis(5));
        stop.store(true, Ordering::SeqCst);
        busy.join().unwrap();
    });
}

/// Many threads poll, wake and drop one future: each wake-up leads to a poll.
#[test]
fn wakes_from_many_threads_are_not_lost() {
    with_workers(|| {
        let tickets = Arc::new(AtomicUsize::new(0));
        let slot = Arc::new(parking_lot::Mutex::new(None::<Waker>));
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let (tickets, slot) = (tickets.clone(), slot.clone());
                thread::spawn(move || {
                    for _ in 0..500 {
                        tickets.fetch_add(1, Ordering::SeqCst);
                        if let Some(waker) = slot.lock().clone() {
                            waker.wake();
                        }
                    }
                })
            })
            .collect();
        let collect = || {
            let (tickets, slot) = (tickets.clone(), slot.clone());
            poll_fn(move |cx: &mut Context<'_>| {
                *slot.lock() = Some(cx.waker().clone());
                if tickets.load(Ordering::SeqCst) == 1500 { Poll::Ready(()) } else { Poll::Pending }
            })
        };
        spawn(collect()).join().unwrap_or_else(|failed| resume_unwind(failed.into_payload()));
        block_on(collect());
        goby_runtime::blocking(|| threads.into_iter().for_each(|thread| thread.join().unwrap()));
    });
}

/// Its destructor runs when it has ended, not inside the executor, where a panic would end the
/// process.
#[test]
fn a_destructor_that_panics_takes_no_output_away() {
    struct Breaks;
    impl Future for Breaks {
        type Output = u32;
        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<u32> {
            Poll::Ready(7)
        }
    }
    impl Drop for Breaks {
        fn drop(&mut self) {
            panic!("a destructor that breaks");
        }
    }
    with_workers(|| {
        assert_eq!(spawn(Breaks).join().unwrap(), 7);
        let done = Arc::new(AtomicBool::new(false));
        spawn(Breaks).detach();
        spawn({
            let done = done.clone();
            async move { done.store(true, Ordering::SeqCst) }
        })
        .detach();
        wait_until("the next one", || done.load(Ordering::SeqCst));
    });
}

/// A handle is dropped with an output, or a panic, which itself panics when dropped: also on a
/// stack that unwinds.
#[test]
fn an_output_that_nobody_takes_may_panic_when_dropped() {
    struct Breaks;
    impl Drop for Breaks {
        fn drop(&mut self) {
            panic!("an output that breaks");
        }
    }
    let output = in_child("futures::an_output_that_nobody_takes_may_panic_when_dropped", || {
        on_workers(1, || {
            for task in [spawn(async { Breaks }), spawn(async { std::panic::panic_any(Breaks) })] {
                wait_until("it to end", || task.is_finished());
                let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    let _task = task;
                    panic!("the caller's own");
                }));
                assert_eq!(*unwound.unwrap_err().downcast::<&str>().unwrap(), "the caller's own");
            }
        });
    });
    assert!(output.status.success(), "{}: {}", output.status, stderr(&output));
}

/// An output, or a panic, of a future without a handle may panic, too.
#[test]
fn the_output_of_a_detached_future_may_panic_when_dropped() {
    static N_DROPPED: AtomicUsize = AtomicUsize::new(0);
    struct Breaks;
    impl Drop for Breaks {
        fn drop(&mut self) {
            N_DROPPED.fetch_add(1, Ordering::SeqCst);
            panic!("an output that breaks");
        }
    }
    let output = in_child("futures::the_output_of_a_detached_future_may_panic_when_dropped", || {
        on_workers(1, || {
            spawn(async { Breaks }).detach();
            spawn(async { std::panic::panic_any(Breaks) }).detach();
            wait_until("both to be dropped", || N_DROPPED.load(Ordering::SeqCst) == 2);
            spawn(ready(())).join().unwrap();
        });
    });
    assert!(output.status.success(), "{}: {}", output.status, stderr(&output));
    let report = "a spawned future, or its output, panicked when it was dropped: an output that breaks";
    assert_eq!(stderr(&output).matches(report).count(), 2, "{}", stderr(&output));
}

/// What tokio's timers and sockets say without a reactor. The test with the real ones is in
/// `ci/crates`.
const NO_REACTOR: &str = "there is no reactor running, must be called from the context of a Tokio 1.x runtime";
const CURE: &str = "goby: goby's workers have no reactor of tokio's. Run this future by goby_tokio::block_on or \
                    goby_tokio::spawn, of the crate goby-tokio, instead of goby's\n";

#[test]
fn a_future_without_tokios_reactor_is_told_the_cure() {
    // Once for each panic, joined or not, and in a thread too; the payload is tokio's.
    let output = in_child("futures::a_future_without_tokios_reactor_is_told_the_cure", || {
        let failed = go(|| block_on(async { panic!("{NO_REACTOR}") }));
        assert_eq!(failed.join().unwrap_err().message(), Some(NO_REACTOR));
        assert_eq!(spawn(async { panic!("{NO_REACTOR}") }).join().unwrap_err().message(), Some(NO_REACTOR));
        block_on(async { panic!("{NO_REACTOR}") })
    });
    let text = stderr(&output);
    assert_eq!((output.status.code(), text.matches(CURE).count()), (Some(101), 3), "{text}");
    // It stands below the panic hook's words, which are printed once.
    assert_eq!(text.matches(NO_REACTOR).count(), 3, "{text}");
}

#[test]
fn other_panics_of_futures_are_left_alone() {
    let output = in_child("futures::other_panics_of_futures_are_left_alone", || {
        assert!(go(|| block_on(async { panic!("no luck") })).join().is_err());
    });
    assert!(output.status.success());
    assert!(!stderr(&output).contains("goby: "), "{}", stderr(&output));
}
