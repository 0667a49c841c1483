//! `batch` and `debounce`. Behavior that depends on time is tested with waits that are endless, or
//! over at once.

use std::time::{Duration, Instant};

use goby::chan::{self, TryRecvError};
use goby::pattern::{batch, debounce, source};
use goby::{Context, go};

use super::{numbers, panic_text, silence};
use crate::support::{MOMENT, pause, wait_until, with_workers};

/// Longer than any test.
const LONG: Duration = Duration::from_secs(1000);

#[test]
fn batch_by_size() {
    with_workers(|| {
        for (n, size) in [(0, 3), (1, 3), (3, 3), (7, 3), (100, 1), (5, 1000)] {
            let batches = batch(&Context::background(), numbers(n), size, LONG);
            let batches = batches.iter().collect::<Vec<_>>();
            assert_eq!(batches.concat(), (1..=n).collect::<Vec<_>>());
            assert_eq!(batches.len(), n.div_ceil(size));
            assert!(batches.iter().rev().skip(1).all(|batch| batch.len() == size), "{batches:?}");
        }
    });
}

#[test]
fn batch_by_time() {
    with_workers(|| {
        let (tx, input) = silence();
        let wait = Duration::from_millis(2);
        let batches = batch(&Context::background(), input, 1000, wait);
        for round in 0..3 {
            let start = Instant::now();
            tx.send(round).unwrap();
            // Two values are one batch or, if this goroutine is slow, two batches.
            let sent_second = tx.send(round + 10).is_ok();
            let mut received = batches.recv().unwrap();
            assert!(start.elapsed() >= wait);
            if received.len() == 1 {
                received.extend(batches.recv().unwrap());
            }
            assert!(sent_second);
            assert_eq!(received, [round, round + 10]);
        }
        // An empty batch never comes.
        pause(2 * wait);
        assert_eq!(batches.try_recv(), Err(TryRecvError::Empty));
    });
}

#[test]
fn batch_ends_with_its_context_or_its_consumer() {
    with_workers(|| {
        for values in [0, 1] {
            let (tx, input) = silence();
            let (ctx, cancel) = Context::background().with_cancel();
            let batches = batch(&ctx, input, 10, LONG);
            (0..values).for_each(|v| tx.send(v).unwrap());
            cancel.cancel();
            assert!(batches.recv().is_err(), "an unfinished batch is dropped");
            wait_until("it to leave its input", || tx.is_closed());

            let (tx, input) = silence();
            let batches = batch(&Context::background(), input, 10, LONG);
            (0..values).for_each(|v| tx.send(v).unwrap());
            drop(batches);
            wait_until("it to leave its input", || tx.is_closed());
        }
        // While a batch waits for its receiver.
        let (ctx, cancel) = Context::background().with_cancel();
        let batches = batch(&ctx, numbers(100), 2, LONG);
        wait_until("the channel to be full", || batches.is_full());
        cancel.cancel();
        assert!(batches.iter().count() < 50);
    });
}

#[test]
fn batch_and_debounce_hand_a_panic_down() {
    with_workers(|| {
        let failing = || source(&Context::background(), (0..10).inspect(|v| assert_ne!(*v, 5, "value {v}")));
        let batches = batch(&Context::background(), failing(), 2, LONG);
        assert!(panic_text(|| _ = batches.iter().count()).contains("value 5"));
        let settled = debounce(&Context::background(), failing(), LONG);
        assert!(panic_text(|| _ = settled.iter().count()).contains("value 5"));
        assert!(panic_text(|| drop(batch(&Context::background(), silence().1, 0, LONG))).contains("batch of nothing"));
    });
}

#[test]
fn debounce_passes_the_last_of_a_burst() {
    with_workers(|| {
        let (tx, input) = silence();
        let settled = debounce(&Context::background(), input, LONG);
        (1..=10).for_each(|v| tx.send(v).unwrap());
        assert_eq!(settled.try_recv(), Err(TryRecvError::Empty), "it is not quiet yet");
        drop(tx);
        assert_eq!(settled.iter().collect::<Vec<_>>(), [10], "what closes is quiet forever");

        // Three bursts, each received before the next.
        let (tx, input) = silence();
        let quiet = Duration::from_millis(2);
        let settled = debounce(&Context::background(), input, quiet);
        for last in [5, 10, 15] {
            (last - 4..=last).for_each(|v| tx.send(v).unwrap());
            let sent = Instant::now();
            // If this goroutine was held up for the quiet time within a burst, more than one value
            // is received.
            let received = settled.iter().find(|v| *v == last);
            assert_eq!(received, Some(last));
            assert!(sent.elapsed() >= quiet / 2, "{:?}", sent.elapsed());
        }
    });
}

/// A newer value replaces one that waits for its receiver.
#[test]
fn debounce_replaces_what_was_not_received() {
    with_workers(|| {
        let (tx, input) = silence();
        let settled = debounce(&Context::background(), input, Duration::ZERO);
        (1..=10).for_each(|v| {
            tx.send(v).unwrap();
            pause(MOMENT / 10); // So that most values have settled.
        });
        drop(tx);
        assert_eq!(settled.iter().collect::<Vec<_>>(), [10]);
    });
}

#[test]
fn debounce_ends_with_its_context_or_its_consumer() {
    with_workers(|| {
        // With nothing, with a value that is not quiet yet, and with one that waits to be received.
        for (values, quiet) in [(0, LONG), (1, LONG), (1, Duration::ZERO)] {
            let (tx, input) = silence();
            let (ctx, cancel) = Context::background().with_cancel();
            let settled = debounce(&ctx, input, quiet);
            (0..values).for_each(|v| tx.send(v).unwrap());
            pause(MOMENT);
            cancel.cancel();
            assert!(settled.iter().count() <= 1);
            wait_until("it to leave its input", || tx.is_closed());

            let (tx, input) = silence();
            let settled = debounce(&Context::background(), input, quiet);
            (0..values).for_each(|v| tx.send(v).unwrap());
            pause(MOMENT);
            drop(settled);
            wait_until("it to leave its input", || tx.is_closed());
        }
    });
}

/// The senders of a debounced input never wait for its consumer.
#[test]
fn debounce_takes_everything() {
    with_workers(|| {
        let (tx, input) = chan::bounded(0);
        let settled = debounce(&Context::background(), input, Duration::ZERO);
        go(move || (0..1000).for_each(|v| tx.send(v).unwrap())).join().unwrap();
        assert_eq!(settled.iter().last(), Some(999));
    });
}
