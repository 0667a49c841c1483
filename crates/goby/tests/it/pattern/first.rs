//! `first` and `first_ok`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use goby::chan;
use goby::context::ContextError;
use goby::pattern::{FirstError, first, first_ok};
use goby::sync::Barrier;
use goby::{Context, go};

use super::panic_text;
use crate::support::{wait_until, with_workers};

type Task<R> = Box<dyn FnOnce(&Context) -> R + Send>;

/// A task that ends only with its context.
fn patient<R: Send + 'static>(result: R) -> Task<R> {
    Box::new(move |ctx| {
        assert!(ctx.done().recv().is_err());
        result
    })
}

#[test]
fn first_result_wins_and_the_others_are_canceled() {
    with_workers(|| {
        let canceled = Arc::new(AtomicUsize::new(0));
        let tasks = (0..10).map(|i| {
            let canceled = canceled.clone();
            move |ctx: &Context| {
                if i != 3 {
                    assert!(ctx.done().recv().is_err());
                    canceled.fetch_add(1, Ordering::Relaxed);
                }
                i
            }
        });
        assert_eq!(first(&Context::background(), tasks), Ok(3));
        wait_until("the others to end", || canceled.load(Ordering::Relaxed) == 9);
    });
}

/// All end at the same time: one result comes out, and no goroutine is left.
#[test]
fn first_of_many_that_end_together() {
    with_workers(|| {
        for _ in 0..100 {
            let barrier = Arc::new(Barrier::new(5));
            let tasks = (0..5).map(|i| {
                let barrier = barrier.clone();
                move |_: &Context| {
                    barrier.wait();
                    i
                }
            });
            assert!((0..5).contains(&first(&Context::background(), tasks).unwrap()));
        }
    });
}

#[test]
fn first_ends_with_its_context() {
    with_workers(|| {
        let (ctx, cancel) = Context::background().with_cancel();
        let (started, starts) = chan::bounded(0);
        let (end, ends) = chan::bounded::<()>(0);
        let caller = go(move || {
            first(
                &ctx,
                [move |_: &Context| {
                    started.send(()).unwrap();
                    assert!(ends.recv().is_err()); // It does not look at its context.
                }],
            )
        });
        starts.recv().unwrap();
        cancel.cancel();
        assert_eq!(caller.join().unwrap(), Err(ContextError::Canceled), "it does not wait for its task");
        drop(end);

        let (ctx, cancel) = Context::background().with_cancel();
        cancel.cancel();
        assert_eq!(first(&ctx, [|_: &Context| panic!("begun")]), Err(ContextError::Canceled) as Result<(), _>);
    });
}

#[test]
fn first_hands_on_a_panic() {
    with_workers(|| {
        let tasks: [Task<()>; 3] = [patient(()), Box::new(|_| panic!("no luck")), patient(())];
        assert_eq!(panic_text(|| _ = first(&Context::background(), tasks)), "no luck");
        assert!(panic_text(|| _ = first::<(), Task<()>>(&Context::background(), [])).contains("no tasks"));
        // No caller is left to receive a later panic: it is reported, and everything ends.
        let tasks: [Task<u8>; 2] = [
            Box::new(|ctx| {
                assert!(ctx.done().recv().is_err());
                panic!("the expected panic")
            }),
            Box::new(|_| 1),
        ];
        assert_eq!(first(&Context::background(), tasks), Ok(1));
    });
}

#[test]
fn first_success_wins() {
    with_workers(|| {
        let background = Context::background();
        let (open, gate) = chan::bounded::<()>(0);
        let tasks: [Task<Result<u8, &str>>; 3] = [
            Box::new(move |_| {
                drop(open);
                Err("first")
            }),
            Box::new(move |_| {
                assert!(gate.recv().is_err());
                Ok(2)
            }),
            patient(Ok(3)),
        ];
        assert_eq!(first_ok(&background, tasks), Ok(2));

        let failures = ["a", "b", "c"].map(|text| move |_: &Context| Err::<(), _>(text));
        let error = first_ok(&background, failures).unwrap_err();
        assert!(error.to_string().starts_with("all 3 tasks failed: "), "{error}");
        let FirstError::Failed(mut errors) = error else { panic!("{error}") };
        errors.sort_unstable();
        assert_eq!(errors, ["a", "b", "c"]);
        assert_eq!(first_ok::<(), (), Task<_>>(&background, []), Err(FirstError::Failed(vec![])));

        let (ctx, cancel) = background.with_cancel();
        cancel.cancel();
        let begun = first_ok(&ctx, [|_: &Context| -> Result<(), ()> { panic!("begun") }]);
        assert_eq!(begun, Err(FirstError::Context(ContextError::Canceled)));
    });
}
