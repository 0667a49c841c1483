//! The waits, with a sleep that does not sleep: rows 273 and 275 of `docs/conformance.md`.

use std::cell::Cell;

use super::*;

/// Waits for `n` at `at`; returns the result and how long it would have slept.
fn wait(limiter: &Limiter, ctx: &Context, at: Instant, n: usize) -> (Result<(), WaitError>, Duration) {
    let slept = Cell::new(Duration::ZERO);
    let result = limiter.wait_n_with(ctx, at, n, |delay| {
        slept.set(delay);
        Ok(())
    });
    (result, slept.get())
}

#[test]
fn r273_wait() {
    let limiter = Limiter::per_second(10.0, 3);
    let start = goby_runtime::now();
    let (canceled, cancel) = Context::background().with_cancel();
    cancel.cancel();
    let background = Context::background();

    assert_eq!(wait(&limiter, &canceled, start, 1), (Err(WaitError::Context(ContextError::Canceled)), Duration::ZERO));
    assert_eq!(
        wait(&limiter, &background, start, 4),
        (Err(WaitError::ExceedsBurst { n: 4, burst: 3 }), Duration::ZERO)
    );
    assert_eq!(limiter.tokens_at(start), 3.0, "errors take no tokens");
    assert_eq!(wait(&limiter, &background, start, 2), (Ok(()), Duration::ZERO));
    assert_eq!(wait(&limiter, &background, start, 3), (Ok(()), Duration::from_millis(200)));
}

#[test]
fn r275_wait_beyond_the_deadline_fails_at_once() {
    let limiter = Limiter::per_second(10.0, 3);
    let start = goby_runtime::now();
    let (ctx, _cancel) = Context::background().with_deadline(start + Duration::from_millis(100));
    // In case the machine stalls here for 100 ms, and the context is done by its own timer.
    let expired = |result: &Result<(), WaitError>| *result == Err(WaitError::Context(ContextError::DeadlineExceeded));

    let (first, slept) = wait(&limiter, &ctx, start, 2);
    assert!(first == Ok(()) || expired(&first), "{first:?}");
    assert_eq!(slept, Duration::ZERO);
    let before = limiter.tokens_at(start);
    let (second, slept) = wait(&limiter, &ctx, start, 3);
    assert!(second == Err(WaitError::ExceedsDeadline { n: 3 }) || expired(&second), "{second:?}");
    assert_eq!(slept, Duration::ZERO);
    assert_eq!(limiter.tokens_at(start), before, "errors take no tokens");
    assert_eq!(WaitError::ExceedsDeadline { n: 3 }.to_string(), "rate: wait(n=3) would exceed context deadline");
}

#[test]
fn wait_that_is_canceled_gives_its_tokens_back() {
    let limiter = Limiter::per_second(1e-3, 2);
    let start = goby_runtime::now();
    let background = Context::background();
    assert_eq!(wait(&limiter, &background, start, 2), (Ok(()), Duration::ZERO));
    let result = limiter.wait_n_with(&background, start, 2, |delay| {
        assert_eq!(delay, Duration::from_secs(2000));
        Err(ContextError::Canceled)
    });
    assert_eq!(result, Err(WaitError::Context(ContextError::Canceled)));
    assert!(limiter.tokens_at(start) >= 0.0, "{}", limiter.tokens_at(start));
}
