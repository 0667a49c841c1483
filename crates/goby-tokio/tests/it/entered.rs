//! Where tokio is entered: in polls and drops, and nowhere else.

use std::future::pending;
use std::sync::atomic::Ordering;
use std::time::Duration;

use goby::context::ContextError;
use goby::{Context, chan, go};
use goby_tokio::{Bridge, block_on, block_on_ctx};

use crate::{NeedsTokio, is_entered};

#[goby::test(workers = 1)]
fn only_in_polls() {
    let (begun, has_begun) = chan::bounded(0);
    let (word, words) = chan::bounded(0);
    let waits = go(move || {
        block_on(async {
            begun.send_async(()).await.unwrap();
            words.recv_async().await.unwrap();
            is_entered()
        })
    });
    has_begun.recv().unwrap();
    assert!(!is_entered());
    word.send(()).unwrap();
    assert!(waits.join().unwrap());
    assert!(!is_entered());
    assert!(goby_tokio::enter(is_entered));
    assert!(!is_entered());
}

/// The second goroutine enters while the first one is parked inside a poll, and leaves after it.
#[goby::test(workers = 1)]
fn polls_that_park_need_not_nest() {
    let waits = |bridge: Option<Bridge>| {
        let (begun, has_begun) = chan::bounded(0);
        let (word, words) = chan::bounded::<()>(0);
        let poll = async move {
            begun.send(()).unwrap();
            // Parks in the middle of the poll.
            words.recv().unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        let goroutine = go(move || match bridge {
            Some(bridge) => bridge.block_on(poll),
            None => block_on(poll),
        });
        has_begun.recv().unwrap();
        (goroutine, word)
    };
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let other = Bridge::new(tokio.handle().clone());
    for (first, second) in [(None, None), (None, Some(other)), (Some(other), None), (Some(other), Some(other))] {
        let (first, second) = (waits(first), waits(second));
        for (goroutine, word) in [first, second] {
            word.send(()).unwrap();
            goroutine.join().unwrap();
        }
        assert!(!is_entered());
    }
    tokio.shutdown_background();
}

#[goby::test(workers = 1)]
fn a_future_is_dropped_with_tokio_entered() {
    // It has ended.
    let (needs, was_entered) = NeedsTokio::new();
    block_on(async move {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let _needs = &needs;
    });
    assert!(was_entered.load(Ordering::Acquire), "ended");

    // Its context is done.
    let (needs, was_entered) = NeedsTokio::new();
    let (ctx, _cancel) = Context::background().with_timeout(Duration::from_millis(1));
    let late = block_on_ctx(&ctx, async move {
        let _needs = needs;
        pending::<()>().await;
    });
    assert_eq!(late, Err(ContextError::DeadlineExceeded));
    assert!(was_entered.load(Ordering::Acquire), "canceled");

    // It was never polled.
    let (needs, was_entered) = NeedsTokio::new();
    let never = async move {
        let _needs = needs;
    };
    assert_eq!(block_on_ctx(&ctx, never), Err(ContextError::DeadlineExceeded));
    assert!(was_entered.load(Ordering::Acquire), "never polled");

    // It panicked; what it captured is dropped by the unwinding.
    let (needs, was_entered) = NeedsTokio::new();
    let failed = go(move || {
        block_on(async move {
            let _needs = needs;
            panic!("no luck");
        })
    });
    assert!(failed.join().is_err());
    assert!(was_entered.load(Ordering::Acquire), "panicked");
    assert!(!is_entered());
}

#[goby::test(workers = 1)]
fn a_panic_leaves() {
    let failed = go(|| goby_tokio::enter(|| panic!("no luck")));
    assert!(failed.join().is_err());
    assert!(!is_entered());
}
