//! Pipelines: their stages are put together in the right way. What each stage does is tested with
//! its function.

use std::collections::HashMap;
use std::time::Duration;

use goby::pattern::Pipeline;
use goby::{Context, chan};

use super::panic_text;
use crate::support::{wait_until, with_workers};

const LONG: Duration = Duration::from_secs(1000);

#[test]
fn pipeline_of_all_stages() {
    with_workers(|| {
        let batches = Pipeline::new(&Context::background(), 1..=100)
            .ordered_stage(8, |v| 2 * v)
            .flat_map(1, |v| [v, v + 1]) // 2 to 201
            .flat_map(1, |v| (v % 3 == 0).then_some(v)) // 3, 6, … 201
            .batch(10, LONG)
            .ordered_stage(3, |batch: Vec<i32>| batch)
            .into_iter()
            .collect::<Vec<_>>();
        assert_eq!(batches.len(), 7);
        assert_eq!(batches.concat(), (1..=67).map(|i| 3 * i).collect::<Vec<_>>());
    });
}

/// S10 in another way: the word counts are the same, however many goroutines count.
#[test]
fn pipeline_counts_words() {
    with_workers(|| {
        let lines = ["the quick brown fox", "jumps over the lazy dog", "", "the end"];
        let words = Pipeline::new(&Context::background(), (0..100).flat_map(move |_| lines))
            .flat_map(4, |line| line.split_whitespace())
            .stage(8, str::to_uppercase);
        let mut counts = HashMap::new();
        words.into_iter().for_each(|word| *counts.entry(word).or_insert(0) += 1);
        assert_eq!((counts.len(), counts["THE"], counts["FOX"]), (9, 300, 100));
    });
}

#[test]
fn pipeline_ends_from_either_end() {
    with_workers(|| {
        let build = |ctx: &Context| {
            let (tx, input) = chan::bounded(0);
            let out = Pipeline::from_receiver(ctx, input)
                .stage(3, |v: u32| v)
                .ordered_stage(3, |v| v)
                .flat_map(3, |v| vec![v; 100])
                .batch(2, LONG)
                .into_receiver();
            (tx, out)
        };
        for values in [0, 1, 5] {
            // The consumer is dropped.
            let (tx, out) = build(&Context::background());
            (0..values).for_each(|v| tx.send(v).unwrap());
            drop(out);
            wait_until("the first stage to leave the input", || tx.is_closed());
            // The context is done.
            let (ctx, cancel) = Context::background().with_cancel();
            let (tx, out) = build(&ctx);
            (0..values).for_each(|v| tx.send(v).unwrap());
            cancel.cancel();
            wait_until("the first stage to leave the input", || tx.is_closed());
            assert!(out.iter().count() <= 1);
            // The input closes.
            let (tx, out) = build(&Context::background());
            (0..values).for_each(|v| tx.send(v).unwrap());
            drop(tx);
            assert_eq!(out.iter().count(), 50 * values as usize);
        }
    });
}

/// A stage with results that never end stops, too.
#[test]
fn pipeline_with_an_endless_stage() {
    with_workers(|| {
        let (ctx, cancel) = Context::background().with_cancel();
        let zeros = Pipeline::new(&ctx, [0]).flat_map(2, std::iter::repeat).into_receiver();
        assert_eq!(zeros.iter().take(1000).count(), 1000);
        cancel.cancel();
        assert!(zeros.iter().count() < 1000);
        let zeros = Pipeline::new(&Context::background(), [0]).flat_map(2, std::iter::repeat).into_receiver();
        assert_eq!(zeros.recv(), Ok(0));
    });
}

#[test]
fn pipeline_hands_a_panic_of_any_stage_to_its_end() {
    with_workers(|| {
        for bad_stage in 0..4 {
            let check = move |stage: usize, v: usize| {
                assert!(stage != bad_stage || v != 20, "stage {stage}");
                v
            };
            let out = Pipeline::new(&Context::background(), (0..100_000).map(move |v| check(0, v)))
                .stage(3, move |v| check(1, v))
                .ordered_stage(3, move |v| check(2, v))
                .flat_map(3, move |v| Some(check(3, v)))
                .batch(3, LONG)
                .into_receiver();
            let text = panic_text(|| assert!(out.iter().count() < 100_000 / 3));
            assert_eq!(text, format!("stage {bad_stage}"));
        }
    });
}
