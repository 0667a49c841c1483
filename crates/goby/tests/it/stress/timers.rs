//! S33: the order of timers, races of firing against stop and reset, a walk through all states, and
//! very many at once.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use goby::chan::{self, Receiver, Sender, TryRecvError};
use goby::sync::Mutex;
use goby::time::{self, Ticker, Timer};
use goby::{go, yield_now};
use goby_runtime::now;

use crate::conformance::time::race_timers;
use crate::support::{PATIENCE, debug_or_release, size, wait_until, with_workers};

const HOUR: Duration = Duration::from_secs(3600);

/// Receives a value that must come soon. If the whole process was stopped meanwhile, both the value
/// and the end of the wait are due, and either may be seen first. Then the value comes at once.
#[track_caller]
fn recv_soon<T>(channel: &Receiver<T>) -> T {
    channel.recv_timeout(PATIENCE).or_else(|_| channel.recv_timeout(PATIENCE)).expect("a firing was lost")
}

/// Sends its slot when `delay` is over: by a sleep, a timer with a channel, or one with a function.
fn wait_by(kind: u32, delay: Duration, slot: u32, results: Sender<u32>) {
    match kind % 3 {
        0 => _ = time::after_func(delay, move || results.send(slot).unwrap()),
        1 => {
            _ = go(move || {
                time::sleep(delay);
                results.send(slot).unwrap();
            })
        }
        _ => {
            _ = go(move || {
                Timer::new(delay).receiver().recv().unwrap();
                results.send(slot).unwrap();
            })
        }
    }
}

#[test]
fn s33_thirteen_slots() {
    const SLOTS: [u32; 13] = [5, 3, 6, 6, 6, 1, 1, 2, 7, 9, 4, 8, 0];
    with_workers(|| {
        let order = |unit: Duration, first_kind: u32| {
            let start = now();
            let (results, finished) = chan::bounded(SLOTS.len());
            for (kind, slot) in (first_kind..).zip(SLOTS) {
                wait_by(kind, slot * unit, slot, results.clone());
            }
            drop(results);
            let mut order = Vec::new();
            for slot in finished.iter() {
                assert!(now() - start >= slot * unit, "slot {slot} came early");
                order.push(slot);
            }
            order
        };
        for first_kind in 0..3 {
            // A busy machine, and even more one that stops the process for a while, mixes up events
            // that are close together. Then the test tries again for a while, with more time
            // between them.
            let mut units = [5, 10, 20, 40, 80].into_iter().cycle().take(20).map(Duration::from_millis);
            let in_order = units.any(|unit| order(unit, first_kind) == [0, 1, 1, 2, 3, 4, 5, 6, 6, 6, 7, 8, 9]);
            assert!(in_order, "timers fire out of order");
        }
    });
}

#[test]
fn s33_two_timers_race() {
    with_workers(|| {
        race_timers(size(100, 1000), |number, loser| {
            // Go: a false stop means that a value can be received. Here: nobody has received one,
            // so the stop is true and has withdrawn the value. The next firing is the only one that
            // can be seen.
            assert!(loser.stop());
            assert!(!loser.reset(HOUR));
            assert_eq!(loser.receiver().try_recv(), Err(TryRecvError::Empty));
            if number % 8 == 0 {
                let moved = now();
                assert!(loser.reset(Duration::from_micros(50)));
                assert!(loser.receiver().recv().unwrap() > moved);
            }
            assert_eq!(loser.receiver().try_recv(), Err(TryRecvError::Empty));
        });
    });
}

#[test]
fn s33_timers_for_no_time() {
    with_workers(|| {
        let kept = Timer::new(HOUR);
        let (called, calls) = chan::bounded(1);
        let function = time::after_func(HOUR, move || called.send(()).unwrap());
        for _ in 0..size(debug_or_release(5_000, 50_000), 1_000_000) {
            recv_soon(&time::after(Duration::ZERO));
            recv_soon(Timer::new(Duration::from_nanos(1)).receiver());
            kept.reset(Duration::ZERO);
            recv_soon(kept.receiver());
            function.reset(Duration::ZERO);
            recv_soon(&calls);
        }
        assert!(!function.stop());
    });
}

#[test]
fn s33_timers_moved_into_the_past() {
    with_workers(|| {
        let timers: Vec<_> = (0..1000).map(|_| Timer::new(HOUR)).collect();
        for round in 0..10 {
            for (i, timer) in timers.iter().enumerate() {
                // Some have a channel in the first round already.
                if (i + round) % 3 == 0 {
                    assert_eq!(timer.receiver().try_recv(), Err(TryRecvError::Empty));
                }
                assert!(timer.stop());
                assert!(!timer.reset(Duration::from_nanos((i % 2) as u64)));
            }
            for timer in &timers {
                recv_soon(timer.receiver());
                assert!(!timer.reset(HOUR), "fired, and received");
            }
        }
    });
}

/// What is known of a timer: whether anybody has asked for its channel, and its state. Seven of
/// these for a `Timer` (one that nobody listens to cannot have been received from), four for a
/// `Ticker`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    Timer { heard: bool, stands: Stands },
    Ticker(Stands),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stands {
    /// Will fire, but not during this test.
    Far,
    /// Has fired, or is about to.
    Due,
    /// Has fired and was received from since; a ticker is due again.
    Received,
    Stopped,
}
use Stands::{Due, Far, Received, Stopped};

const INSTANTLY: Duration = Duration::from_nanos(1);

/// Does random operations, and checks their results.
fn walk(n_steps: usize, visited: &Mutex<HashSet<State>>) {
    let (timer, ticker) = (Timer::new(HOUR), Ticker::new(HOUR));
    let (mut heard, mut timer_stands, mut ticker_stands) = (false, Far, Far);
    let is_empty = |channel: &Receiver<_>| channel.try_recv() == Err(TryRecvError::Empty);
    for _ in 0..n_steps {
        visited.lock().extend([State::Timer { heard, stands: timer_stands }, State::Ticker(ticker_stands)]);
        let was_pending = matches!(timer_stands, Far | Due);
        match goby_runtime::random() % 8 {
            0 => {
                assert_eq!(timer.stop(), was_pending, "{timer_stands:?}");
                timer_stands = Stopped;
            }
            1 => {
                assert_eq!(timer.reset(HOUR), was_pending, "{timer_stands:?}");
                timer_stands = Far;
            }
            2 | 3 => {
                let delay = [Duration::ZERO, INSTANTLY][goby_runtime::random() as usize % 2];
                assert_eq!(timer.reset(delay), was_pending, "{timer_stands:?}");
                timer_stands = Due;
            }
            4 => yield_now(),
            _ => {
                heard = true;
                if timer_stands == Due {
                    recv_soon(timer.receiver());
                    timer_stands = Received;
                }
                assert!(is_empty(timer.receiver()), "{timer_stands:?}");
                assert_eq!((timer.receiver().len(), timer.receiver().capacity()), (0, Some(0)));
            }
        }
        let was_running = ticker_stands != Stopped;
        match goby_runtime::random() % 6 {
            0 => {
                assert_eq!(ticker.stop(), was_running);
                ticker_stands = Stopped;
            }
            1 => {
                assert_eq!(ticker.reset(HOUR), was_running);
                ticker_stands = Far;
            }
            2 => {
                assert_eq!(ticker.reset(Duration::from_micros(10)), was_running);
                ticker_stands = Due;
            }
            _ if matches!(ticker_stands, Due | Received) => {
                recv_soon(ticker.receiver());
                ticker_stands = Received;
            }
            _ => assert!(is_empty(ticker.receiver()), "{ticker_stands:?}"),
        }
    }
}

#[test]
fn s33_random_walk() {
    with_workers(|| {
        let visited = Arc::new(Mutex::new(HashSet::new()));
        let walkers: Vec<_> = (0..100)
            .map(|_| {
                let visited = visited.clone();
                go(move || walk(size(200, 5000), &visited))
            })
            .collect();
        walkers.into_iter().for_each(|walker| walker.join().unwrap());
        assert_eq!(visited.lock().len(), 11, "{:?}", visited.lock());
    });
}

/// A million timers run at once; half of them fire, the others are stopped.
#[test]
fn s33_a_million_timers() {
    with_workers(|| {
        let n = debug_or_release(100_000, 1_000_000);
        let calls = Arc::new(AtomicUsize::new(0));
        let timers: Vec<_> = (0..n)
            .map(|i| {
                let calls = calls.clone();
                // Random due times, so that each goes anywhere in the heap.
                let spread = Duration::from_nanos(goby_runtime::random() % 1_000_000_000);
                let delay = if i % 2 == 0 { spread / 4 } else { HOUR + spread };
                time::after_func(delay, move || _ = calls.fetch_add(1, Ordering::Relaxed))
            })
            .collect();
        wait_until("half of them to fire", || calls.load(Ordering::Relaxed) == n / 2);
        for (i, timer) in timers.iter().enumerate() {
            assert_eq!(timer.stop(), i % 2 == 1);
        }
        drop(timers);
        // The functions are dropped with their timers, and no call comes after that.
        wait_until("the functions to be dropped", || Arc::strong_count(&calls) == 1);
        assert_eq!(calls.load(Ordering::Relaxed), n / 2);
    });
}

/// The same with channels: each that fires is received from once, each that is stopped never.
#[test]
fn s33_many_timers_with_channels() {
    with_workers(|| {
        let timers: Vec<_> = (0..debug_or_release(10_000, 100_000))
            .map(|i| {
                let spread = Duration::from_nanos(goby_runtime::random() % 100_000_000);
                let timer = Timer::new(if i % 2 == 0 { spread } else { HOUR + spread });
                assert!(timer.receiver().capacity() == Some(0));
                timer
            })
            .collect();
        for timer in timers.iter().step_by(2) {
            recv_soon(timer.receiver());
        }
        for (i, timer) in timers.iter().enumerate() {
            assert_eq!(timer.stop(), i % 2 == 1);
            assert_eq!(timer.receiver().try_recv(), Err(TryRecvError::Empty));
        }
    });
}
