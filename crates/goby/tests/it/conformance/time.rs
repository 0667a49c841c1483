//! The rows 177 to 211 of the conformance list, scaled down: where Go's test takes 100 ms, the test
//! here takes 10 ms. If the line gives an upper bound on time, the test is tried again with longer
//! times before it fails: the machine may be busy.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use goby::chan::{self, Receiver, TryRecvError};
use goby::context::ContextError;
use goby::sync::Barrier;
use goby::time::{self, Ticker, Timer};
use goby::{Context, block_on, blocking, go, scope, select, yield_now};
use goby_runtime::now;

use crate::alloc::live_bytes;
use crate::support::{MOMENT, rerun_alone, size, slow, wait_until, with_workers};

const HOUR: Duration = Duration::from_secs(3600);

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Tries `test` with `unit`, then with up to 64 times as much, until the timing is right.
fn with_growing_unit(mut unit: Duration, test: impl Fn(Duration) -> Result<(), String>) {
    for _ in 0..6 {
        if test(unit).is_ok() {
            return;
        }
        unit *= 2;
    }
    test(unit).unwrap();
}

fn check(holds: bool, fault: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(fault()) }
}

#[test]
fn t177_sleep_lasts_although_interrupted() {
    // If a process is stopped and continued, its system calls are interrupted, though no handler
    // runs.
    if !rerun_alone("conformance::time::t177_sleep_lasts_although_interrupted") {
        return;
    }
    with_workers(|| {
        let start = now();
        let sleeper = go(|| time::sleep(ms(100)));
        let stop_and_continue = format!("sleep 0.05; kill -STOP {0}; sleep 0.01; kill -CONT {0}", std::process::id());
        let status = blocking(|| Command::new("sh").args(["-c", &stop_and_continue]).status());
        assert!(status.unwrap().success());
        sleeper.join().unwrap();
        assert!(now() - start >= ms(100), "{:?}", now() - start);
    });
}

#[test]
fn t179_function_timers_run_in_goroutines_of_their_own() {
    struct Chain {
        left: AtomicUsize,
        ended: chan::Sender<()>,
        release: Receiver<()>,
    }
    fn step(chain: &Arc<Chain>) {
        if chain.left.fetch_sub(1, Ordering::Relaxed) > 0 {
            time::after_func(Duration::ZERO, {
                let chain = chain.clone();
                move || step(&chain)
            });
            // The chain goes on although this callback does not return.
            assert!(chain.release.recv().is_err());
        } else {
            chain.ended.send(()).unwrap();
        }
    }
    with_workers(|| {
        let (ended, ends) = chan::bounded(0);
        let (hold, release) = chan::bounded(0);
        let chain = Arc::new(Chain { left: AtomicUsize::new(10), ended, release });
        time::after_func(Duration::ZERO, move || step(&chain));
        assert_eq!(ends.recv_timeout(Duration::from_secs(30)), Ok(()));
        drop(hold);
    });
}

#[test]
fn t181_a_fast_ticker_ticks_while_the_heap_is_churned() {
    with_workers(|| {
        let stop = Arc::new(AtomicBool::new(false));
        let churn = go({
            let stop = stop.clone();
            move || {
                while !stop.load(Ordering::Relaxed) {
                    drop(vec![0u8; 10_000]);
                    yield_now();
                }
            }
        });
        let ticker = Ticker::new(Duration::from_nanos(1));
        for _ in 0..100 {
            ticker.receiver().recv().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        churn.join().unwrap();
    });
}

#[test]
fn t183_ten_times_after_in_a_row() {
    with_workers(|| {
        let start = now();
        for _ in 0..10 {
            time::after(ms(10)).recv().unwrap();
        }
        let took = now() - start;
        assert!(took >= ms(90), "{took:?}");
        assert!(took < Duration::from_secs(10), "{took:?}");
    });
}

#[test]
fn t185_waiters_wake_in_the_order_of_their_times() {
    const SLOTS: [u32; 13] = [5, 3, 6, 6, 6, 1, 1, 2, 7, 9, 4, 8, 0];
    with_workers(|| {
        with_growing_unit(ms(5), |unit| {
            let start = now();
            let (results, finished) = chan::bounded(SLOTS.len());
            for slot in SLOTS {
                let results = results.clone();
                go(move || results.send((slot, time::after(slot * unit).recv().unwrap())).unwrap());
            }
            let mut order = Vec::new();
            for _ in SLOTS {
                let (slot, fired) = finished.recv().unwrap();
                assert!(fired >= start + slot * unit, "slot {slot} after {:?}", fired - start);
                let late = now() - start;
                check(late < (slot + 10) * unit, || format!("slot {slot} after {late:?}"))?;
                order.push(slot);
            }
            check(order.is_sorted(), || format!("{order:?}"))
        });
    });
}

#[test]
fn t187_sleeping_for_no_time_does_not_hang() {
    fn work() {
        for _ in 0..100 {
            time::sleep(Duration::ZERO);
            let (tx, rx) = chan::bounded(1);
            tx.send(true).unwrap();
            assert_eq!(rx.recv(), Ok(true));
        }
    }
    with_workers(|| {
        let (ended, ends) = chan::bounded(0);
        go(move || {
            work();
            ended.send(()).unwrap();
        });
        work();
        ends.recv().unwrap();
    });
}

#[test]
fn t187b_sleeping_for_no_time_lets_others_run() {
    with_workers(|| {
        let done = Arc::new(AtomicBool::new(false));
        go({
            let done = done.clone();
            move || done.store(true, Ordering::Relaxed)
        });
        while !done.load(Ordering::Relaxed) {
            time::sleep(Duration::ZERO);
        }
    });
}

#[test]
fn t189_reset_postpones() {
    with_workers(|| {
        with_growing_unit(ms(2), |unit| {
            let timer = Timer::new(2 * unit);
            time::sleep(unit);
            check(timer.reset(3 * unit), || "not running any more".into())?;
            time::sleep(2 * unit);
            check(timer.receiver().try_recv() == Err(TryRecvError::Empty), || "fired early".into())?;
            time::sleep(2 * unit);
            check(timer.receiver().try_recv().is_ok(), || "not fired".into())?;
            assert!(!timer.reset(ms(50)), "expired and received");
            Ok(())
        });
    });
}

#[test]
fn t191_times_in_the_past() {
    with_workers(|| {
        let past = now() - HOUR;
        let start = now();
        time::sleep_until(past);
        let fired = time::after(Duration::ZERO).recv().unwrap();
        assert!(fired >= start);
        let (ctx, _cancel) = Context::background().with_deadline(past);
        assert_eq!(ctx.err(), Some(ContextError::DeadlineExceeded));
        assert!(now() - start < Duration::from_secs(10));
    });
}

#[test]
fn t191b_times_beyond_all_clocks() {
    with_workers(|| {
        let timer = Timer::new(Duration::MAX);
        assert_eq!(timer.receiver().try_recv(), Err(TryRecvError::Empty));
        assert!(timer.stop());
        assert!(time::after_func(Duration::MAX, || unreachable!()).stop());
        let ticker = Ticker::new(Duration::MAX);
        assert_eq!(ticker.receiver().try_recv(), Err(TryRecvError::Empty));
        let (ctx, _cancel) = Context::background().with_timeout(Duration::MAX);
        assert_eq!(ctx.err(), None);
    });
}

/// A function that can be called once is called. Its captured values are dropped with it, or with
/// the last handle if it was stopped.
#[test]
fn after_func_once_takes_a_function_that_is_used_up() {
    with_workers(|| {
        let (tx, rx) = chan::bounded(1);
        let text = String::from("moved");
        let later = time::after_func_once(Duration::ZERO, move || tx.send(text).unwrap());
        assert_eq!(rx.recv().unwrap(), "moved");
        assert!(rx.recv().is_err(), "the sender has gone with the function");
        assert!(!later.stop());
        later.reset(Duration::ZERO);

        let (tx, rx) = chan::bounded(1);
        let later = time::after_func_once(HOUR, move || tx.send("moved here").unwrap());
        assert!(later.reset(Duration::ZERO));
        assert_eq!(rx.recv(), Ok("moved here"));

        let (tx, rx) = chan::bounded::<()>(1);
        let later = time::after_func_once(HOUR, move || drop(tx));
        assert!(later.stop());
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
        drop(later);
        assert!(rx.recv().is_err());
    });
}

#[test]
fn t193_a_timer_moved_earlier_fires() {
    with_workers(|| {
        let (fired, firings) = chan::unbounded();
        let timers: Vec<_> = (0..1000)
            .map(|_| {
                let fired = fired.clone();
                time::after_func(HOUR, move || fired.send(()).unwrap())
            })
            .collect();
        for _ in 0..size(3, 10) {
            for timer in &timers {
                timer.stop();
                assert!(!timer.reset(Duration::ZERO), "stopped");
            }
            for _ in &timers {
                assert_eq!(firings.recv_timeout(Duration::from_secs(30)), Ok(()));
            }
            for timer in &timers {
                assert!(!timer.reset(HOUR), "fired");
            }
        }
        assert_eq!(firings.try_recv(), Err(TryRecvError::Empty), "each fired once");
        for timer in &timers {
            assert!(timer.stop());
        }
    });
}

/// Lets two timers race, many times in each of many goroutines, and calls `check` with a varying
/// number and the loser.
pub(crate) fn race_timers(racers: usize, check: fn(usize, &Timer)) {
    let racers: Vec<_> = (0..racers)
        .map(|racer| {
            go(move || {
                for round in 0..size(20, 100) {
                    let (first, second) = (Timer::new(MOMENT), Timer::new(MOMENT));
                    let loser = select! {
                        recv(first.receiver()) -> _ => &second,
                        recv(second.receiver()) -> _ => &first,
                    };
                    check(racer + round, loser);
                }
            })
        })
        .collect();
    racers.into_iter().for_each(|racer| racer.join().unwrap());
}

#[test]
fn t195_stop_withdraws_what_the_loser_of_a_race_has_fired() {
    with_workers(|| {
        race_timers(size(50, 1000), |number, loser| {
            // It may have fired, be firing now, or be still to fire: in each case nobody has
            // received from it.
            let pending = if number % 2 == 0 { loser.stop() } else { loser.reset(HOUR) };
            assert!(pending);
            assert_eq!(loser.receiver().try_recv(), Err(TryRecvError::Empty));
        });
    });
}

#[test]
fn t195b_stop_tells_whether_the_instant_was_received() {
    with_workers(|| {
        for _ in 0..size(300, 10_000) {
            let timer = Timer::new(Duration::from_micros(goby_runtime::random() % 30));
            let (stopping, stopped) = chan::bounded::<()>(0);
            let receiver = go({
                let instants = timer.receiver().clone();
                move || {
                    select! {
                        recv(instants) -> instant => instant.is_ok(),
                        recv(stopped) -> _ => false,
                    }
                }
            });
            yield_now();
            let withdrawn = timer.stop();
            drop(stopping);
            assert_ne!(receiver.join().unwrap(), withdrawn);
        }
    });
}

#[test]
fn t197_a_ticker_keeps_its_period() {
    with_workers(|| {
        with_growing_unit(ms(5), |period| {
            let start = now();
            let ticker = Ticker::new(period);
            for _ in 0..5 {
                ticker.receiver().recv().unwrap();
            }
            ticker.reset(2 * period);
            for _ in 0..5 {
                ticker.receiver().recv().unwrap();
            }
            ticker.stop();
            let took = now() - start;
            let due = 15 * period;
            check(took >= due * 7 / 10 && took <= due * 13 / 10, || format!("{took:?} instead of {due:?}"))?;
            time::sleep(4 * period);
            assert_eq!(ticker.receiver().try_recv(), Err(TryRecvError::Empty), "a tick after stop");
            Ok(())
        });
    });
}

#[test]
fn t199_a_period_of_zero() {
    with_workers(|| {
        assert_eq!(time::tick(Duration::ZERO).recv_timeout(MOMENT), Err(chan::RecvTimeoutError::Timeout));
        assert!(catch_unwind(|| Ticker::new(Duration::ZERO)).is_err());
        let ticker = Ticker::new(HOUR);
        assert!(catch_unwind(AssertUnwindSafe(|| ticker.reset(Duration::ZERO))).is_err());
        assert!(ticker.stop(), "it goes on as before");
    });
}

#[test]
fn t201_a_timer_channel_looks_empty() {
    with_workers(|| {
        let (timer, ticker) = (Timer::new(MOMENT), Ticker::new(MOMENT));
        let (after, tick) = (time::after(MOMENT), time::tick(MOMENT));
        let channels = [timer.receiver(), ticker.receiver(), &after, &tick];
        let look = |channel: &Receiver<_>| assert_eq!((channel.len(), channel.capacity()), (0, Some(0)));
        channels.iter().for_each(|channel| look(channel));
        time::sleep(ms(5));
        channels.iter().for_each(|channel| look(channel));
        for channel in channels {
            channel.recv().unwrap();
        }
        channels.iter().for_each(|channel| look(channel));
    });
}

#[test]
fn t203_no_stale_value_after_reset() {
    const INSTANTLY: Duration = Duration::from_nanos(1);
    fn receive(channel: &Receiver<std::time::Instant>) {
        assert!(channel.recv_timeout(Duration::from_secs(30)).is_ok());
    }
    fn assert_empty(channel: &Receiver<std::time::Instant>) {
        assert_eq!(channel.try_recv(), Err(TryRecvError::Empty));
    }
    with_workers(|| {
        for _ in 0..size(20, 100) {
            let ticker = Ticker::new(INSTANTLY);
            time::sleep(MOMENT);
            assert!(ticker.reset(HOUR));
            assert_empty(ticker.receiver());
            ticker.reset(INSTANTLY);
            receive(ticker.receiver());
            receive(ticker.receiver());
            time::sleep(MOMENT);
            assert!(ticker.stop());
            assert_empty(ticker.receiver());

            let timer = Timer::new(INSTANTLY);
            time::sleep(MOMENT);
            assert!(timer.reset(HOUR), "nobody has received it");
            assert_empty(timer.receiver());
            timer.reset(INSTANTLY);
            receive(timer.receiver());
            time::sleep(MOMENT);
            assert_empty(timer.receiver());
            timer.reset(INSTANTLY);
            time::sleep(MOMENT);
            assert!(timer.stop());
            assert_empty(timer.receiver());
        }
    });
}

#[test]
fn t205_reset_tells_whether_it_was_running() {
    with_workers(|| {
        let timer = Timer::new(Duration::ZERO);
        timer.receiver().recv().unwrap();
        assert!(!timer.reset(Duration::ZERO));
        timer.receiver().recv().unwrap();
        assert!(!timer.stop());
        assert!(!timer.reset(HOUR));
        assert!(timer.reset(HOUR));

        let ticker = Ticker::new(Duration::from_nanos(1));
        ticker.receiver().recv().unwrap();
        assert!(ticker.reset(HOUR));
        assert!(ticker.stop());
        assert!(!ticker.reset(HOUR));
    });
}

#[test]
fn t205b_a_timer_that_is_due_is_not_found_empty() {
    with_workers(|| {
        for _ in 0..size(20, 1000) {
            let start = now();
            assert!(time::after(Duration::ZERO).try_recv().unwrap() >= start);
            let timer = Timer::new(Duration::from_nanos(1));
            time::sleep(Duration::from_micros(1));
            assert!(timer.receiver().try_recv().unwrap() > start, "due before anybody listened");
            assert!(!timer.reset(Duration::ZERO));
            assert!(timer.receiver().try_recv().is_ok(), "reset to now");
            assert!(!timer.stop());

            assert!(!timer.reset(Duration::ZERO));
            assert!(timer.reset(HOUR), "not received");
            assert_eq!(timer.receiver().try_recv(), Err(TryRecvError::Empty));
            let parked = go({
                let instants = timer.receiver().clone();
                move || instants.recv()
            });
            yield_now();
            assert!(timer.reset(Duration::ZERO));
            assert!(parked.join().unwrap().is_ok(), "reset wakes who waits");
        }
    });
}

#[test]
fn t205c_a_timer_that_nobody_has_listened_to() {
    with_workers(|| {
        let timer = Timer::new(HOUR);
        assert!(timer.reset(Duration::ZERO));
        assert!(timer.stop(), "not received");
        assert!(!timer.stop());
        assert!(!timer.reset(MOMENT));
        let due = now() + MOMENT;
        let fired = timer.receiver().recv().unwrap();
        assert!(fired <= due && now() >= fired);
        let stopped = Timer::new(Duration::ZERO);
        assert!(stopped.stop());
        assert_eq!(stopped.receiver().try_recv(), Err(TryRecvError::Empty));
        assert!(!stopped.reset(Duration::ZERO));
        assert!(stopped.receiver().try_recv().is_ok());
    });
}

#[test]
fn t207_the_value_is_the_time_of_firing() {
    with_workers(|| {
        with_growing_unit(ms(1), |unit| {
            let start = now();
            let after = time::after(unit);
            time::sleep(20 * unit);
            let fired = after.recv().unwrap() - start;
            assert!(fired >= unit);
            check(fired < 15 * unit, || format!("{fired:?}"))
        });
    });
}

#[test]
fn t209_timers_that_nobody_refers_to_keep_no_memory() {
    if !rerun_alone("conformance::time::t209_timers_that_nobody_refers_to_keep_no_memory") {
        return;
    }
    const N: isize = 10_000;
    let makers: [fn(); 7] = [
        || drop(time::after(HOUR)),
        || drop(time::tick(HOUR)),
        || drop(Timer::new(HOUR)),
        || drop(Ticker::new(HOUR)),
        || _ = Timer::new(HOUR).stop(),
        || _ = Ticker::new(HOUR).stop(),
        || _ = time::after_func(HOUR, || ()).stop(),
    ];
    with_workers(|| {
        for make in makers {
            let grown_by = || {
                let before = live_bytes();
                (0..N).for_each(|_| make());
                live_bytes() - before
            };
            // Less than one smallest allocation per timer. An allocation that a worker makes once,
            // when it starts or when its heap of timers grows, may fall into one round; memory that
            // is kept per timer is seen in every round.
            let grown: Vec<_> = (0..5).map(|_| grown_by()).take_while(|bytes| *bytes >= N).collect();
            assert!(grown.len() < 5, "{grown:?} bytes for {N} each");
        }
    });
}

#[test]
fn t211_many_goroutines_share_a_ticker() {
    with_workers(|| {
        let ticks = Arc::new(Ticker::new(Duration::from_micros(1)));
        let rounds = size(500, 100_000);
        let selectors: Vec<_> = (0..4)
            .map(|_| {
                let ticks = ticks.clone();
                go(move || {
                    for _ in 0..rounds {
                        select! {
                            recv(ticks.receiver()) -> tick => _ = tick.unwrap(),
                            recv(time::after(MOMENT)) -> instant => _ = instant.unwrap(),
                        }
                    }
                })
            })
            .collect();
        for selector in selectors {
            selector.join().unwrap();
        }
    });
}

#[test]
fn t211b_many_goroutines_receive_from_and_reset_one_timer() {
    const USERS: usize = 4;
    with_workers(|| {
        let timer = Timer::new(HOUR);
        let all = Barrier::new(USERS);
        scope(|s| {
            for _ in 0..USERS {
                s.go(|| {
                    for _ in 0..size(200, 2000) {
                        for _ in 0..5 {
                            _ = timer.receiver().try_recv();
                            timer.reset(Duration::from_nanos(1));
                        }
                        // The last reset counts, whichever goroutine made it.
                        if all.wait().is_leader() {
                            assert!(timer.receiver().recv_timeout(Duration::from_secs(30)).is_ok());
                            assert!(!timer.stop());
                        }
                        all.wait();
                    }
                });
            }
        });
    });
}

#[test]
fn function_timers_are_reset_while_they_fire() {
    with_workers(|| {
        for round in 0..size(600, 10_000) {
            let calls = Arc::new(AtomicUsize::new(0));
            let timer = time::after_func(Duration::from_micros(goby_runtime::random() % 30), {
                let calls = calls.clone();
                move || _ = calls.fetch_add(1, Ordering::Relaxed)
            });
            yield_now();
            let earlier = round % 2 == 0;
            let withdrawn = timer.reset(if earlier { Duration::ZERO } else { HOUR });
            // One call by a firing that was not withdrawn, and one by the new firing, if that has
            // come.
            let expected = usize::from(!withdrawn) + usize::from(earlier);
            wait_until("the calls", || calls.load(Ordering::Relaxed) == expected);
            assert_eq!(timer.stop(), !earlier);
            // The timer and the calls under way are the only others to hold it.
            drop(timer);
            wait_until("the function to be dropped", || Arc::strong_count(&calls) == 1);
            assert_eq!(calls.load(Ordering::Relaxed), expected);
        }
    });
}

#[test]
fn sleep_ctx_ends_with_the_context() {
    with_workers(|| {
        let (ctx, cancel) = Context::background().with_cancel();
        assert_eq!(time::sleep_ctx(&ctx, MOMENT), Ok(()));
        let sleeper = go({
            let ctx = ctx.clone();
            move || time::sleep_ctx(&ctx, HOUR)
        });
        time::sleep(MOMENT);
        assert!(!sleeper.is_finished());
        cancel.cancel();
        assert_eq!(sleeper.join().unwrap(), Err(ContextError::Canceled));
        assert_eq!(time::sleep_ctx(&ctx, Duration::ZERO), Err(ContextError::Canceled));
        assert_eq!(time::sleep_ctx(&Context::background(), MOMENT), Ok(()));
    });
}

#[test]
fn timers_work_from_os_threads_and_futures() {
    with_workers(|| {
        let thread = std::thread::spawn(|| {
            let start = now();
            time::sleep(MOMENT);
            time::after(MOMENT).recv().unwrap();
            assert!(now() - start >= 2 * MOMENT);
            time::after_func(HOUR, || ()).stop()
        });
        assert!(blocking(|| thread.join()).unwrap());
        block_on(async {
            let start = now();
            assert!(time::after(MOMENT).recv_async().await.unwrap() >= start + MOMENT);
        });
    });
}

#[test]
fn a_million_timers_that_are_due_at_once() {
    with_workers(|| {
        let n = if slow() { 1_000_000 } else { 10_000 };
        let start = now();
        for _ in 0..n {
            drop(time::after(Duration::ZERO));
            Timer::new(Duration::ZERO).stop();
        }
        let (fired, firings) = chan::bounded(0);
        for _ in 0..n / 100 {
            let fired = fired.clone();
            time::after_func(Duration::ZERO, move || fired.send(()).unwrap());
            firings.recv().unwrap();
        }
        assert!(now() - start < Duration::from_secs(60));
    });
}
