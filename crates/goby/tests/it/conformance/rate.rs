//! The rows 251 to 279 of the conformance list. No test here sleeps: each call says when it
//! happens. The waits of 273 and 275 are tested in `src/rate/limiter/tests.rs`, where the sleep can
//! be replaced.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use goby::rate::{Limit, Limiter, Sometimes, WaitError};
use goby::{Context, scope};

use crate::support::with_workers;

/// Instants 100 ms apart: `clock()(3)` is 300 ms after the start.
fn clock() -> impl Fn(u32) -> Instant {
    let start = Instant::now();
    move |tick| start + tick * Duration::from_millis(100)
}

/// Compares the tick at which a reservation may act with the expected one: rounding may take off a
/// nanosecond.
#[track_caller]
fn assert_acts_at(limiter: &Limiter, at: Instant, n: usize, expected: Instant) -> goby::rate::Reservation<'_> {
    let reservation = limiter.reserve_n(at, n);
    assert!(reservation.ok());
    let acts_at = at + reservation.delay_from(at);
    let off = if acts_at > expected { acts_at - expected } else { expected - acts_at };
    // If the acting time lies before `at`, the delay is zero.
    assert!(off < Duration::from_micros(1) || (expected < at && acts_at == at), "{:?} too early or late", off);
    reservation
}

#[test]
fn r251_every() {
    let limits = [
        (Duration::from_nanos(1), 1e9),
        (Duration::from_micros(1), 1e6),
        (Duration::from_millis(1), 1000.0),
        (Duration::from_millis(10), 100.0),
        (Duration::from_millis(100), 10.0),
        (Duration::from_secs(1), 1.0),
        (Duration::from_secs(2), 0.5),
        (Duration::from_millis(2500), 0.4),
        (Duration::from_secs(4), 0.25),
        (Duration::from_secs(10), 0.1),
        (Duration::from_nanos(i64::MAX as u64), 1.08e-10),
    ];
    assert_eq!(Limit::every(Duration::ZERO), Limit::INF);
    for (interval, expected) in limits {
        let per_second = Limit::every(interval).events_per_second();
        assert!((per_second / expected - 1.0).abs() < 0.01, "{interval:?}: {per_second}");
    }
}

/// Tokens before the call, how many are asked for, whether they are allowed.
#[track_caller]
fn run_allow(limiter: &Limiter, steps: &[(Instant, f64, usize, bool)]) {
    for (i, (at, tokens, n, allowed)) in steps.iter().enumerate() {
        let before = limiter.tokens_at(*at);
        assert!((before - tokens).abs() < 1e-6, "step {i}: {before} tokens, not {tokens}");
        assert_eq!(limiter.allow_n(*at, *n), *allowed, "step {i}");
    }
}

#[test]
fn r253_burst_of_one() {
    let t = clock();
    run_allow(
        &Limiter::per_second(10.0, 1),
        &[
            (t(0), 1.0, 1, true),
            (t(0), 0.0, 1, false),
            (t(0), 0.0, 1, false),
            (t(1), 1.0, 1, true),
            (t(1), 0.0, 1, false),
            (t(1), 0.0, 1, false),
            (t(2), 1.0, 2, false),
            (t(2), 1.0, 1, true),
            (t(2), 0.0, 1, false),
        ],
    );
}

#[test]
fn r255_clock_goes_back() {
    let t = clock();
    run_allow(
        &Limiter::per_second(10.0, 3),
        &[
            (t(1), 3.0, 1, true),
            (t(0), 2.0, 1, true),
            (t(0), 1.0, 1, true),
            (t(0), 0.0, 1, false),
            (t(0), 0.0, 1, false),
            (t(1), 1.0, 1, true),
            (t(1), 0.0, 1, false),
            (t(1), 0.0, 1, false),
            (t(2), 1.0, 1, true),
            (t(2), 0.0, 1, false),
            (t(2), 0.0, 1, false),
        ],
    );
}

#[test]
fn r257_simultaneous_requests() {
    with_workers(|| {
        let (limiter, allowed) = (Limiter::per_second(1.0, 5), AtomicUsize::new(0));
        let at = Instant::now();
        scope(|s| {
            for _ in 0..15 {
                s.go(|| {
                    if limiter.allow_n(at, 1) {
                        allowed.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(allowed.into_inner(), 5);
    });
}

#[test]
fn r259_reserve() {
    let (t, limiter) = (clock(), Limiter::per_second(10.0, 2));
    let _ = assert_acts_at(&limiter, t(0), 2, t(0));
    let _ = assert_acts_at(&limiter, t(0), 2, t(2));
    let _ = assert_acts_at(&limiter, t(3), 2, t(4));
}

#[test]
fn r261_cancel_of_a_refused_reservation() {
    let (t, limiter) = (clock(), Limiter::per_second(10.0, 2));
    let _ = assert_acts_at(&limiter, t(0), 2, t(0));
    let refused = limiter.reserve_n(t(0), 3);
    assert!(!refused.ok());
    assert_eq!(refused.delay_from(t(0)), Duration::MAX);
    refused.cancel_at(t(0));
    let _ = assert_acts_at(&limiter, t(0), 2, t(2));
}

#[test]
fn r263_cancel_too_late() {
    let (t, limiter) = (clock(), Limiter::per_second(10.0, 2));
    let _ = assert_acts_at(&limiter, t(0), 2, t(0));
    assert_acts_at(&limiter, t(0), 2, t(2)).cancel_at(t(3));
    let _ = assert_acts_at(&limiter, t(3), 2, t(4));
}

#[test]
fn r265_cancel_with_one_token_to_give_back() {
    let (t, limiter) = (clock(), Limiter::per_second(10.0, 2));
    let _ = assert_acts_at(&limiter, t(0), 2, t(0));
    let reservation = assert_acts_at(&limiter, t(0), 2, t(2));
    let _ = assert_acts_at(&limiter, t(0), 1, t(3));
    reservation.cancel_at(t(2));
    let _ = assert_acts_at(&limiter, t(2), 2, t(4));
}

#[test]
fn cancel_gives_back_all_or_nothing() {
    // Nothing: all the tokens have been promised to later events. Go: TestCancel0Tokens,
    // TestCancelLast.
    let (t, limiter) = (clock(), Limiter::per_second(10.0, 2));
    let _ = assert_acts_at(&limiter, t(0), 2, t(0));
    let first = assert_acts_at(&limiter, t(0), 1, t(1));
    let _ = assert_acts_at(&limiter, t(0), 1, t(2));
    first.cancel_at(t(1));
    let _ = assert_acts_at(&limiter, t(1), 1, t(3));

    let limiter = Limiter::per_second(10.0, 2);
    let _ = assert_acts_at(&limiter, t(0), 2, t(0));
    assert_acts_at(&limiter, t(0), 2, t(2)).cancel_at(t(1));
    let _ = assert_acts_at(&limiter, t(1), 2, t(2));
}

#[test]
fn r267_reserve_with_time_going_back() {
    let (t, limiter) = (clock(), Limiter::per_second(10.0, 2));
    let _ = assert_acts_at(&limiter, t(1), 2, t(1));
    let _ = assert_acts_at(&limiter, t(0), 1, t(1));
    let _ = assert_acts_at(&limiter, t(2), 2, t(3));
    assert!(!limiter.reserve_n(t(0), 3).ok());
    let _ = assert_acts_at(&limiter, t(2), 1, t(4));
    assert!(!limiter.reserve_within(t(0), 2, Duration::from_millis(100)).ok());
    let _ = assert_acts_at(&limiter, t(2), 1, t(5));
}

#[test]
fn r269_limit_is_changed() {
    let (t, limiter) = (clock(), Limiter::per_second(5.0, 2));
    let _ = assert_acts_at(&limiter, t(0), 2, t(0));
    let _ = assert_acts_at(&limiter, t(0), 2, t(4));
    limiter.set_limit_at(t(2), Limit::per_second(10.0));
    let _ = assert_acts_at(&limiter, t(2), 1, t(4));
}

#[test]
fn burst_is_changed() {
    // Go: TestReserveSetBurst.
    let (t, limiter) = (clock(), Limiter::per_second(5.0, 2));
    let _ = assert_acts_at(&limiter, t(0), 2, t(0));
    let _ = assert_acts_at(&limiter, t(0), 2, t(4));
    limiter.set_burst_at(t(3), 4);
    let _ = assert_acts_at(&limiter, t(0), 4, t(9));
}

#[test]
fn r271_limit_is_changed_before_a_cancel() {
    let (t, limiter) = (clock(), Limiter::per_second(5.0, 2));
    let _ = assert_acts_at(&limiter, t(0), 2, t(0));
    let reservation = assert_acts_at(&limiter, t(0), 2, t(4));
    limiter.set_limit_at(t(2), Limit::per_second(10.0));
    reservation.cancel_at(t(2));
    let _ = assert_acts_at(&limiter, t(2), 2, t(3));
}

/// 273 with the real clock and real goroutines: 20 events at 1000/s and a burst of 1 take at least
/// 19 ms.
#[test]
fn r273_waits_take_their_time() {
    with_workers(|| {
        let limiter = Limiter::per_second(1000.0, 1);
        let start = Instant::now();
        scope(|s| {
            for _ in 0..4 {
                s.go(|| (0..5).for_each(|_| limiter.wait(&Context::background()).unwrap()));
            }
        });
        assert!(start.elapsed() >= Duration::from_millis(18), "{:?}", start.elapsed());
    });
}

#[test]
fn r273_errors_take_no_tokens() {
    with_workers(|| {
        let limiter = Limiter::per_second(1e-3, 3);
        let (ctx, cancel) = Context::background().with_cancel();
        cancel.cancel();
        let error = limiter.wait(&ctx).unwrap_err();
        assert_eq!(error.to_string(), "context canceled");
        let error = limiter.wait_n(&Context::background(), 4).unwrap_err();
        assert_eq!(error, WaitError::ExceedsBurst { n: 4, burst: 3 });
        assert_eq!(error.to_string(), "rate: wait(n=4) exceeds limiter's burst 3");
        limiter.wait_n(&Context::background(), 3).unwrap();
        assert!(!limiter.allow());
    });
}

/// A wait in progress ends with its context and gives back what it reserved.
#[test]
fn r275_cancel_ends_a_wait() {
    with_workers(|| {
        let limiter = Limiter::per_second(1e-3, 1);
        assert!(limiter.allow());
        let (ctx, cancel) = Context::background().with_cancel();
        scope(|s| {
            let waiter = s.go(|| limiter.wait(&ctx));
            crate::support::wait_until("it to reserve", || limiter.tokens() < -0.5);
            cancel.cancel();
            assert!(matches!(waiter.join().unwrap(), Err(WaitError::Context(_))));
        });
        assert!(limiter.tokens() >= 0.0);
        let (ctx, _cancel) = Context::background().with_timeout(Duration::from_secs(100));
        assert_eq!(limiter.wait(&ctx), Err(WaitError::ExceedsDeadline { n: 1 }));
    });
}

#[test]
fn r277_tiny_limit() {
    let (t, limiter) = (clock(), Limiter::per_second(1e-10, 1));
    assert!(limiter.allow_n(t(0), 1));
    assert!(!limiter.allow_n(t(0), 1));
    assert!(limiter.reserve_n(t(0), 1).delay_from(t(0)) > Duration::from_secs(9_000_000_000));
    assert!(!Limiter::per_second(0.0, 0).allow());
    let none = Limiter::per_second(0.0, 1);
    assert!(none.allow() && !none.allow());
}

#[test]
fn infinite_limit() {
    let (t, limiter) = (clock(), Limiter::new(Limit::INF, 0));
    for n in [1, 1000] {
        assert!(limiter.allow_n(t(0), n));
        assert_eq!(limiter.reserve_n(t(0), n).delay_from(t(0)), Duration::ZERO);
    }
    // Go: TestInfiniteSetLimit: back to a finite limit, as if the time before had counted.
    limiter.set_limit_at(t(1), Limit::per_second(10.0));
    limiter.set_burst_at(t(1), 1);
    assert!(!limiter.allow_n(t(1), 1));
    assert!(limiter.allow_n(t(2), 1));
}

#[test]
fn r279_sometimes() {
    let runs = |sometimes: Sometimes| {
        let mut runs = vec![];
        (1..=3).for_each(|call| sometimes.run(|| runs.push(call)));
        runs
    };
    assert_eq!(runs(Sometimes::new()), [1]);
    assert_eq!(runs(Sometimes::new().first(2)), [1, 2]);
    assert_eq!(runs(Sometimes::new().every(2)), [1, 3]);
    assert_eq!(runs(Sometimes::new().interval(Duration::from_secs(3600))), [1]);
    assert_eq!(runs(Sometimes::new().interval(Duration::from_nanos(1)).first(1)).first(), Some(&1));
}
