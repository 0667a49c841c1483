//! `par_map` and `try_par_map`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use goby::chan::{self, TryRecvError};
use goby::pattern::{par_map, source, try_par_map};
use goby::sync::Barrier;
use goby::{Context, random};

use super::{counts_active, numbers, panic_text, silence};
use crate::support::{MOMENT, pause, size, wait_until, with_workers};

#[test]
fn map_keeps_the_order() {
    with_workers(|| {
        for n in [1, 2, 8, 1000] {
            let count = size(300, 20_000);
            let results = par_map(&Context::background(), numbers(count), n, |v| {
                (0..random() % 4).for_each(|_| goby::yield_now());
                2 * v
            });
            assert!(results.iter().eq((1..=count).map(|v| 2 * v)), "{n} at a time");
            assert_eq!(results.try_recv(), Err(TryRecvError::Closed));
        }
    });
}

#[test]
fn map_of_an_iterator() {
    with_workers(|| {
        let ctx = Context::background();
        let squares = par_map(&ctx, source(&ctx, 1_u64..), 4, |v| v * v);
        assert_eq!(squares.iter().take(5).collect::<Vec<_>>(), [1, 4, 9, 16, 25]);
    });
}

/// As many calls as allowed work at the same time, and never more.
#[test]
fn map_works_on_n_values_at_a_time() {
    with_workers(|| {
        for n in [1, 10] {
            let results = par_map(&Context::background(), numbers(10 * n), n, counts_active(n));
            assert!(results.iter().all(|n_active| n_active <= n));
        }
    });
}

/// A slow call holds up the work only when as many results as calls may run wait for their turn.
#[test]
fn map_goes_on_behind_a_slow_value() {
    with_workers(|| {
        let begun = Arc::new(AtomicUsize::new(0));
        let (open, gate) = chan::bounded::<()>(0);
        let results = par_map(&Context::background(), numbers(100), 4, {
            let begun = begun.clone();
            move |v| {
                begun.fetch_add(1, Ordering::Relaxed);
                if v == 1 {
                    assert!(gate.recv().is_err(), "nothing is sent");
                }
                v
            }
        });
        wait_until("the others to work", || begun.load(Ordering::Relaxed) == 8);
        pause(MOMENT);
        assert_eq!(begun.load(Ordering::Relaxed), 8, "the slow one, 3 at a time, 4 that wait for their turn");
        assert_eq!(results.try_recv(), Err(TryRecvError::Empty));
        drop(open);
        assert!(results.iter().eq(1..=100));
    });
}

#[test]
fn map_ends_with_its_context_or_its_consumer() {
    with_workers(|| {
        // Idle.
        let (tx, input) = silence();
        let (ctx, cancel) = Context::background().with_cancel();
        let results = par_map(&ctx, input, 4, |v| v);
        cancel.cancel();
        assert!(results.recv().is_err());
        wait_until("the map to leave its input", || tx.is_closed());

        let (tx, input) = silence();
        drop(par_map(&Context::background(), input, 4, |v| v));
        wait_until("the map to leave its input", || tx.is_closed());

        // With results that nobody takes. The results that come out have no gap.
        let (ctx, cancel) = Context::background().with_cancel();
        let results = par_map(&ctx, numbers(1000), 4, |v| v);
        wait_until("the channel to be full", || results.is_full());
        cancel.cancel();
        let received = results.iter().collect::<Vec<_>>();
        assert!(received.len() < 1000 && received.iter().copied().eq(1..=received.len()), "{received:?}");

        let results = par_map(&Context::background(), numbers(1000), 4, |v| v);
        assert_eq!(results.recv(), Ok(1));
    });
}

/// All results before the panic come out, and none behind it.
#[test]
fn map_panics_where_its_function_did() {
    with_workers(|| {
        let begun = Arc::new(AtomicUsize::new(0));
        let results = par_map(&Context::background(), numbers(100_000), 4, {
            let begun = begun.clone();
            move |v| {
                begun.fetch_add(1, Ordering::Relaxed);
                if v < 50 {
                    pause(Duration::from_micros(100));
                }
                assert_ne!(v, 50, "value {v} is a bad one");
                v
            }
        });
        let mut received = vec![];
        let text = panic_text(|| results.iter().for_each(|v| received.push(v)));
        assert!(text.contains("value 50 is a bad one"), "{text}");
        assert!(received.iter().copied().eq(1..50), "{received:?}");
        assert!(begun.load(Ordering::Relaxed) < 100, "nothing is begun any more");
        assert!(panic_text(|| _ = results.try_recv()).contains("bad one"));
    });
}

#[test]
fn map_ends_with_the_first_error_in_order() {
    with_workers(|| {
        let begun = Arc::new(AtomicUsize::new(0));
        let results = try_par_map(&Context::background(), numbers(100_000), 4, {
            let begun = begun.clone();
            move |_, v| {
                begun.fetch_add(1, Ordering::Relaxed);
                if v == 50 {
                    pause(MOMENT); // So that the others have failed before.
                }
                if v < 50 { Ok(v) } else { Err(v) }
            }
        });
        let received = results.iter().collect::<Vec<_>>();
        assert!(received.iter().copied().eq((1..50).map(Ok).chain([Err(50)])), "{received:?}");
        assert!(begun.load(Ordering::Relaxed) < 100, "nothing is begun any more");

        let all = try_par_map(&Context::background(), numbers(100), 4, |_, v| Ok::<_, ()>(v));
        assert_eq!(all.iter().collect::<Result<Vec<_>, _>>().unwrap().len(), 100);
    });
}

/// No call is begun behind a failure, also before the failure's turn has come.
#[test]
fn map_begins_nothing_behind_a_failure() {
    with_workers(|| {
        for panics in [true, false] {
            let begun = Arc::new(AtomicUsize::new(0));
            let (open, gate) = chan::bounded::<()>(0);
            let (tx, input) = silence();
            let results = try_par_map(&Context::background(), input, 2, {
                let begun = begun.clone();
                move |_, v| {
                    begun.fetch_add(1, Ordering::Relaxed);
                    if v == 1 {
                        assert!(gate.recv().is_err(), "nothing is sent");
                        return Ok(v);
                    }
                    assert!(!panics, "value 2");
                    Err(v)
                }
            });
            // The third is taken when the second has failed, and the map then leaves its input.
            (1..=3).for_each(|v| tx.send(v).unwrap());
            wait_until("the map to leave its input", || tx.is_closed());
            wait_until("both to begin", || begun.load(Ordering::Relaxed) == 2);
            pause(MOMENT);
            assert_eq!((begun.load(Ordering::Relaxed), results.try_recv()), (2, Err(TryRecvError::Empty)));
            drop(open);
            assert_eq!(results.recv(), Ok(Ok(1)));
            if panics {
                assert_eq!(panic_text(|| _ = results.recv()), "value 2");
            } else {
                assert_eq!(results.iter().collect::<Vec<_>>(), [Err(2)]);
            }
        }
    });
}

/// Calls behind the error learn that they work in vain; calls before it do not.
#[test]
fn map_cancels_what_is_behind_an_error() {
    with_workers(|| {
        let canceled = Arc::new(AtomicUsize::new(0));
        let barrier = Arc::new(Barrier::new(4));
        let results = try_par_map(&Context::background(), numbers(4), 4, {
            let canceled = canceled.clone();
            move |ctx, v| {
                barrier.wait();
                match v {
                    1 => Ok(ctx.err().is_none()),
                    2 => Err("no luck"),
                    _ => {
                        assert!(ctx.done().recv().is_err());
                        canceled.fetch_add(1, Ordering::Relaxed);
                        Ok(false)
                    }
                }
            }
        });
        assert_eq!(results.iter().collect::<Vec<_>>(), [Ok(true), Err("no luck")]);
        assert_eq!(canceled.load(Ordering::Relaxed), 2, "the output closes when all have ended");
    });
}

#[test]
fn source_stops_when_it_is_not_wanted() {
    with_workers(|| {
        let endless = source(&Context::background(), 0..);
        assert_eq!(endless.iter().take(100).sum::<u64>(), 4950);
        drop(endless);

        let (ctx, cancel) = Context::background().with_cancel();
        let endless = source(&ctx, 0_u64..);
        wait_until("the channel to be full", || endless.is_full());
        cancel.cancel();
        assert!(endless.iter().count() < 1000);

        let failing = source(&Context::background(), (0..10).inspect(|v| assert_ne!(*v, 5, "value {v}")));
        let mut received = 0;
        assert!(panic_text(|| failing.iter().for_each(|_| received += 1)).contains("value 5"));
        assert_eq!(received, 5);
    });
}

/// The destructor of a result that nobody has read may panic: the output is still canceled.
#[test]
fn map_stops_when_an_unread_result_panics_when_dropped() {
    struct Breaks;
    impl Drop for Breaks {
        fn drop(&mut self) {
            panic!("a result that breaks");
        }
    }
    with_workers(|| {
        let stopped = Arc::new(AtomicUsize::new(0));
        let results = try_par_map(&Context::background(), numbers(2), 2, {
            let stopped = stopped.clone();
            move |ctx, v| {
                if v == 2 {
                    _ = ctx.done().recv();
                    stopped.fetch_add(1, Ordering::SeqCst);
                    return Err(());
                }
                Ok(Breaks)
            }
        });
        wait_until("the first result", || !results.is_empty());
        assert_eq!(panic_text(|| drop(results)), "a result that breaks");
        wait_until("the second to be stopped", || stopped.load(Ordering::SeqCst) == 1);
    });
}
