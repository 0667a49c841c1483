//! The rules of virtual time: the group `synctest` of the conformance list.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use goby::sync::{Cond, Mutex, WaitGroup};
use goby::{Context, chan, go, now, time};
use goby_check::{bubble, try_bubble, wait};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// 159.
#[test]
fn many_empty_goroutines_of_a_wait_group() {
    bubble(|| {
        let group = WaitGroup::new();
        for _ in 0..100 {
            group.go(|| ());
        }
        group.wait();
    });
}

/// 359.
#[test]
fn the_clock_starts_in_2000_and_is_shared() {
    bubble(|| {
        let (start, unix) = (now(), goby_check::unix_time());
        assert_eq!(unix, SystemTime::UNIX_EPOCH + Duration::from_secs(946_684_800));
        assert_eq!(go(now).join().unwrap(), start);
        time::sleep(SECOND);
        assert_eq!(now() - start, SECOND);
        assert_eq!(goby_check::unix_time(), unix + SECOND);
    });
}

/// 361.
#[test]
fn an_instant_of_outside_can_be_waited_for() {
    let outside = now() + Duration::from_secs(3600);
    bubble(move || {
        time::sleep_until(outside);
        time::sleep(SECOND);
        assert_eq!(now() - outside, SECOND);
    });
}

/// 363.
#[test]
fn wait_sees_a_relay_through() {
    bubble(|| {
        let done = Arc::new(AtomicBool::new(false));
        let (sender, receiver) = chan::bounded::<u32>(0);
        for _ in 0..100 {
            let (sender, receiver, done) = (sender.clone(), receiver.clone(), done.clone());
            go(move || match receiver.recv().unwrap() {
                0 => done.store(true, Ordering::SeqCst),
                n => sender.send(n - 1).unwrap(),
            });
        }
        sender.send(99).unwrap();
        wait();
        assert!(done.load(Ordering::SeqCst));
    });
}

/// 365.
#[test]
fn a_timer_that_is_read_moves_the_clock() {
    bubble(|| {
        let start = now();
        time::after(5 * SECOND).recv().unwrap();
        assert_eq!(now() - start, 5 * SECOND);
    });
}

/// 367.
#[test]
fn a_chain_of_resets_is_exact() {
    bubble(|| {
        let start = now();
        let timer = time::Timer::new(SECOND);
        timer.receiver().recv().unwrap();
        assert_eq!(now() - start, SECOND);
        timer.reset(2 * SECOND);
        timer.receiver().recv().unwrap();
        assert_eq!(now() - start, 3 * SECOND);
        timer.reset(3 * SECOND);
        time::sleep(SECOND);
        timer.reset(3 * SECOND);
        timer.receiver().recv().unwrap();
        assert_eq!(now() - start, 7 * SECOND);
    });
}

/// 369.
#[test]
fn timers_that_are_pending_at_the_end_never_fire() {
    let fired = Arc::new(AtomicBool::new(false));
    let sees = fired.clone();
    bubble(move || _ = time::after_func(SECOND, move || sees.store(true, Ordering::SeqCst)));
    assert!(!fired.load(Ordering::SeqCst));
}

/// 371.
#[test]
fn timers_of_one_instant_fire_in_either_order() {
    let mut seen = [false; 2];
    for _ in 0..1000 {
        let first = bubble(|| {
            let (sender, receiver) = chan::bounded(2);
            for n in 0..2 {
                let sender = sender.clone();
                drop(time::after_func(SECOND, move || sender.send(n).unwrap()));
            }
            time::sleep(2 * SECOND);
            receiver.recv().unwrap()
        });
        seen[first] = true;
        if seen == [true; 2] {
            return;
        }
    }
    panic!("only one order: {seen:?}");
}

/// 373.
#[test]
fn a_timer_of_no_delay_fires_at_once() {
    bubble(|| {
        let start = now();
        let stop = Arc::new(AtomicBool::new(false));
        let theirs = stop.clone();
        // As long as it goes on, time does not move.
        let busy = go(move || {
            while !theirs.load(Ordering::SeqCst) {
                goby::yield_now();
            }
        });
        assert_eq!(time::after(Duration::ZERO).recv(), Ok(start));
        assert_eq!(now(), start);
        stop.store(true, Ordering::SeqCst);
        busy.join().unwrap();
    });
}

/// 379.
#[test]
fn a_first_goroutine_that_waits_forever_is_a_deadlock() {
    let blocked = try_bubble(forever::<()>).unwrap_err().to_string();
    assert!(blocked.starts_with("deadlock: all goroutines in bubble are blocked\n"), "{blocked}");
    assert!(blocked.contains("[chan receive]"), "{blocked}");
    let panicked = catch_unwind(|| bubble(forever::<()>)).unwrap_err();
    assert!(panicked.downcast_ref::<String>().unwrap().starts_with("deadlock: all goroutines in bubble are blocked"));
}

fn forever<T: Default>() -> T {
    let (_sender, receiver) = chan::bounded::<T>(0);
    receiver.recv().unwrap_or_default()
}

#[test]
fn goroutines_that_are_left_are_a_deadlock() {
    let blocked = try_bubble(|| drop(go(forever::<()>))).unwrap_err().to_string();
    assert!(
        blocked.starts_with("deadlock: main bubble goroutine has exited but blocked goroutines remain"),
        "{blocked}"
    );
}

/// 381.
#[test]
fn a_cond_wakes_at_exact_times() {
    bubble(|| {
        let start = now();
        let pair = Arc::new((Mutex::new(()), Cond::new()));
        let waiter = |pair: &Arc<(Mutex<()>, Cond)>| {
            let pair = pair.clone();
            go(move || {
                drop(pair.1.wait(pair.0.lock()));
                now()
            })
        };
        let first = waiter(&pair);
        time::sleep(MS);
        pair.1.signal();
        assert_eq!(first.join().unwrap() - start, MS);
        let both = [waiter(&pair), waiter(&pair)];
        time::sleep(MS);
        pair.1.broadcast();
        for waiter in both {
            assert_eq!(waiter.join().unwrap() - start, 2 * MS);
        }
    });
}

/// 383.
#[test]
fn a_wait_group_waits_for_an_exact_time() {
    bubble(|| {
        let start = now();
        let group = WaitGroup::new();
        group.go(|| time::sleep(SECOND));
        group.wait();
        assert_eq!(now() - start, SECOND);
    });
}

/// 387.
#[test]
fn what_others_did_before_wait_has_happened() {
    bubble(|| {
        let (ended, called) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        for n in 1..=10 {
            let theirs = ended.clone();
            go(move || theirs.store(n, Ordering::Relaxed));
            let theirs = called.clone();
            drop(time::after_func(Duration::ZERO, move || theirs.store(n, Ordering::Relaxed)));
            wait();
            assert_eq!((ended.load(Ordering::Relaxed), called.load(Ordering::Relaxed)), (n, n));
        }
    });
}

/// 389.
#[test]
fn a_function_after_a_context() {
    bubble(|| {
        let (ctx, cancel) = Context::background().with_cancel();
        let called = Arc::new(AtomicBool::new(false));
        let theirs = called.clone();
        let _stop = ctx.after_func(move || theirs.store(true, Ordering::SeqCst));
        wait();
        assert!(!called.load(Ordering::SeqCst));
        cancel.cancel();
        wait();
        assert!(called.load(Ordering::SeqCst));
    });
}

#[test]
fn deadlines_of_contexts_are_exact() {
    bubble(|| {
        let start = now();
        let (ctx, _cancel) = Context::background().with_timeout(5 * SECOND);
        time::sleep(5 * SECOND - MS);
        wait();
        assert_eq!(ctx.err(), None);
        time::sleep(MS);
        wait();
        assert_eq!(ctx.err(), Some(goby::context::ContextError::DeadlineExceeded));
        assert_eq!(now() - start, 5 * SECOND);
    });
}

/// 393.
#[test]
fn many_bubbles_at_once_with_timers_from_timers() {
    let bubbles: Vec<_> = (0..20)
        .map(|_| {
            std::thread::spawn(|| {
                bubble(|| {
                    let n = Arc::new(AtomicU32::new(0));
                    for _ in 0..100 {
                        let n = n.clone();
                        drop(time::after_func(SECOND, move || {
                            let n = n.clone();
                            drop(time::after_func(Duration::ZERO, move || _ = n.fetch_add(1, Ordering::SeqCst)));
                        }));
                    }
                    time::sleep(2 * SECOND);
                    assert_eq!(n.load(Ordering::SeqCst), 100);
                });
            })
        })
        .collect();
    bubbles.into_iter().for_each(|bubble| bubble.join().unwrap());
}

#[test]
fn an_hour_of_ticks_takes_no_time() {
    let start = std::time::Instant::now();
    let n = bubble(|| {
        let ticker = time::Ticker::new(SECOND);
        let end = time::after(Duration::from_secs(3600) + MS);
        let mut n = 0;
        loop {
            goby::select! {
                recv(ticker.receiver()) -> _tick => n += 1,
                recv(end) -> _end => break n,
            }
        }
    });
    assert_eq!(n, 3600);
    assert!(start.elapsed() < 5 * SECOND, "{:?}", start.elapsed());
}

#[test]
fn a_panic_comes_out_with_its_payload() {
    let payload = catch_unwind(AssertUnwindSafe(|| bubble(|| panic::<()>(7)))).unwrap_err();
    assert_eq!(payload.downcast_ref::<u32>(), Some(&7));
    let payload = catch_unwind(|| {
        bubble(|| {
            drop(go(|| panic::<()>(7)));
            wait();
        })
    });
    assert!(payload.unwrap_err().downcast_ref::<String>().unwrap().contains("nobody joined it"));
}

fn panic<T>(payload: u32) -> T {
    std::panic::panic_any(payload)
}

#[test]
#[should_panic(expected = "outside of a bubble")]
fn wait_is_for_bubbles() {
    wait();
}
