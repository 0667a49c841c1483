//! Timers and sleeping.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use goby_runtime::{Lock, Timer, go, now, sleep_until};

use crate::support::{Door, in_child, on_workers, pause, runtime, stderr, wait_until, with_workers};

const HOUR: Duration = Duration::from_secs(3600);

/// A timer that counts its firings.
fn counting() -> (Timer, Arc<AtomicUsize>) {
    let fired = Arc::new(AtomicUsize::new(0));
    let counts = fired.clone();
    let timer = Timer::new(move |_| {
        counts.fetch_add(1, Ordering::SeqCst);
    });
    (timer, fired)
}

fn check_once() {
    let start = now();
    let due = start + Duration::from_millis(5);
    let door = Arc::new(Door::new());
    let told = Arc::new(Lock::new(None::<Instant>));
    let timer = Timer::new({
        let (door, told) = (door.clone(), told.clone());
        move |due| {
            assert!(told.lock().replace(due).is_none(), "fired twice");
            door.open();
        }
    });
    assert!(!timer.start(due), "it was not running");
    door.pass();
    assert!(now() >= due);
    assert_eq!(*told.lock(), Some(due));
    assert!(!timer.stop(), "it has fired");
}

#[test]
fn a_timer_fires_once_and_not_early() {
    with_workers(check_once);
    check_once(); // From a plain thread.
}

#[test]
fn a_stopped_timer_does_not_fire() {
    with_workers(|| {
        let (timer, fired) = counting();
        timer.start(now() + Duration::from_millis(5));
        assert!(timer.stop());
        assert!(!timer.stop());
        let (dropped, dropped_fired) = counting();
        dropped.start(now() + Duration::from_millis(5));
        drop(dropped);
        pause(Duration::from_millis(15));
        assert_eq!((fired.load(Ordering::SeqCst), dropped_fired.load(Ordering::SeqCst)), (0, 0));
        // It can be started again.
        assert!(!timer.start(now()));
        wait_until("it to fire", || fired.load(Ordering::SeqCst) == 1);
    });
}

#[test]
fn starting_again_replaces_the_due_time() {
    with_workers(|| {
        let (timer, fired) = counting();
        timer.start(now() + Duration::from_millis(5));
        assert!(timer.start(now() + HOUR));
        pause(Duration::from_millis(15));
        assert_eq!(fired.load(Ordering::SeqCst), 0);
        // And back again, into the past.
        assert!(timer.start(now() - Duration::from_millis(1)));
        wait_until("it to fire", || fired.load(Ordering::SeqCst) == 1);
        assert!(!timer.stop());
    });
}

#[test]
fn a_periodic_timer_goes_on_until_it_is_stopped() {
    with_workers(|| {
        let (timer, fired) = counting();
        let start = now();
        timer.start_periodic(start + Duration::from_millis(1), Duration::from_millis(1));
        wait_until("five firings", || fired.load(Ordering::SeqCst) >= 5);
        assert!(now() - start >= Duration::from_millis(5));
        assert!(timer.stop());
        pause(Duration::from_millis(1)); // So that a callback that was under way ends.
        let stopped_at = fired.load(Ordering::SeqCst);
        pause(Duration::from_millis(10));
        assert_eq!(fired.load(Ordering::SeqCst), stopped_at);
    });
}

#[test]
#[should_panic(expected = "a periodic timer needs a period above zero")]
fn a_period_of_zero_panics() {
    counting().0.start_periodic(now(), Duration::ZERO);
}

/// A callback must not panic. A panic ends the process, with a line that says so.
#[test]
fn a_callback_that_panics_is_fatal() {
    use std::os::unix::process::ExitStatusExt;
    let output = in_child("timer::a_callback_that_panics_is_fatal", || {
        runtime(1).run(|| {
            let timer = Timer::new(|_| panic!("in a callback"));
            timer.start(now());
            pause(HOUR);
        });
    });
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{}", stderr(&output));
    assert!(stderr(&output).contains("in a callback"), "{}", stderr(&output));
}

/// Callbacks may start goroutines and other timers.
#[test]
fn a_callback_may_start_goroutines_and_timers() {
    with_workers(|| {
        let door = Arc::new(Door::new());
        let opens = door.clone();
        let second = Arc::new(Timer::new(move |_| {
            let opens = opens.clone();
            go(move || {
                pause(Duration::from_millis(1));
                opens.open();
            });
        }));
        let starts = second.clone();
        let first = Timer::new(move |due| {
            starts.start(due + Duration::from_millis(1));
        });
        first.start(now());
        door.pass();
    });
}

/// S33's slots, as sleeping goroutines: they wake in the order of their times.
#[test]
fn sleepers_wake_in_the_order_of_their_times() {
    // On one worker: on two, they may be late by different times.
    on_workers(1, || {
        let order = Arc::new(Lock::new(Vec::new()));
        let start = now() + Duration::from_millis(20);
        let slots = [5, 3, 6, 6, 6, 1, 1, 2, 7, 9, 4, 8, 0u32];
        let sleepers = slots.map(|slot| {
            let order = order.clone();
            go(move || {
                let due = start + slot * Duration::from_millis(10);
                sleep_until(due);
                assert!(now() >= due);
                order.lock().push(slot);
            })
        });
        sleepers.into_iter().for_each(|sleeper| sleeper.join().unwrap());
        assert_eq!(*order.lock(), [0, 1, 1, 2, 3, 4, 5, 6, 6, 6, 7, 8, 9]);
    });
}

#[test]
fn sleeping_until_the_past_does_not_park_for_long() {
    with_workers(|| {
        sleep_until(now() - Duration::from_millis(1));
        sleep_until(now());
    });
    sleep_until(now() - Duration::from_millis(1));
}

/// Several goroutines start, move and stop many timers at once: each timer left running fires once,
/// no other does.
#[test]
fn many_timers_at_once() {
    with_workers(|| {
        let goroutines = [0u64, 1, 2, 3].map(|own| {
            go(move || {
                let timers: Vec<_> = (0..250).map(|_| counting()).collect();
                for (i, (timer, _)) in timers.iter().enumerate() {
                    timer.start(now() + HOUR);
                    // Every third is moved near, every third stopped, the rest dropped while
                    // running.
                    match i % 3 {
                        0 => assert!(timer.start(now() + Duration::from_micros(own * 100 + i as u64))),
                        1 => assert!(timer.stop()),
                        _ => {}
                    }
                }
                let total = || timers.iter().map(|(_, fired)| fired.load(Ordering::SeqCst)).sum::<usize>();
                wait_until("the near ones to fire", || total() == 84);
                pause(Duration::from_millis(2));
                for (i, (_, fired)) in timers.iter().enumerate() {
                    assert_eq!(fired.load(Ordering::SeqCst), usize::from(i % 3 == 0));
                }
            })
        });
        goroutines.into_iter().for_each(|goroutine| goroutine.join().unwrap());
    });
}
