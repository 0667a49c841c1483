//! Single flight: 233 to 241.
//!
//! 241 is goby's choice: a panic in a call of the channel form goes on in the receive, or is
//! printed if nobody receives.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use goby::context::ContextError;
use goby::singleflight::{Group, Outcome};
use goby::{Context, chan, go, scope};

use crate::support::{on_workers, run_child, text_of, wait_until, with_workers};

#[test]
fn c233_run_and_run_chan() {
    with_workers(|| {
        let group = Group::new();
        let alone = Outcome { value: "bar", shared: false };
        assert_eq!(group.run("key", || "bar"), alone);
        assert_eq!(group.run_ctx(&Context::background(), "key", || "bar"), Ok(alone));
        let outcome = group.run_chan("key", || "bar");
        assert_eq!(outcome.recv(), Ok(alone));
        assert!(outcome.recv().is_err(), "one message");
        let fails = Group::<_, Result<(), Arc<io::Error>>>::new();
        let error = fails.run("key", || Err(Arc::new(io::Error::other("some error")))).value.unwrap_err();
        assert_eq!(error.to_string(), "some error");
    });
}

/// The function waits until all callers have joined: then it runs exactly once. The callers use all
/// three forms.
#[test]
fn c235_duplicates_are_suppressed() {
    with_workers(|| {
        let (group, runs) = (Group::new(), Arc::new(AtomicUsize::new(0)));
        let (open, gate) = chan::bounded::<()>(0);
        let first = group.run_chan("key", {
            let runs = runs.clone();
            move || {
                runs.fetch_add(1, Ordering::Relaxed);
                let _ = gate.recv();
                "bar"
            }
        });
        let background = Context::background();
        let again = || unreachable!("the first call still runs");
        scope(|s| {
            for n in 0..9 {
                let (group, background) = (&group, &background);
                s.go(move || {
                    let outcome = match n % 3 {
                        0 => group.run("key", again),
                        1 => group.run_ctx(background, "key", again).unwrap(),
                        _ => group.run_chan("key", again).recv().unwrap(),
                    };
                    assert_eq!(outcome, Outcome { value: "bar", shared: true });
                });
            }
            wait_until("all to join", || format!("{group:?}") == "Group { calls: 1, callers: 10 }");
            drop(open);
        });
        assert_eq!(first.recv(), Ok(Outcome { value: "bar", shared: true }));
        assert_eq!(runs.load(Ordering::Relaxed), 1);
    });
}

/// Without the gate: in any order, every caller gets a value, and no call is started while another
/// runs.
#[test]
fn c235_racing_callers() {
    with_workers(|| {
        let (group, running, runs) = (Group::new(), AtomicUsize::new(0), AtomicUsize::new(0));
        scope(|s| {
            for _ in 0..100 {
                s.go(|| {
                    let outcome = group.run(0, || {
                        assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0);
                        goby::yield_now();
                        running.fetch_sub(1, Ordering::SeqCst);
                        runs.fetch_add(1, Ordering::Relaxed)
                    });
                    assert!(outcome.value < 100);
                });
            }
        });
        assert!((1..=100).contains(&runs.into_inner()));
    });
}

#[test]
fn c237_forget() {
    with_workers(|| {
        let group = Group::new();
        let (tx1, rx1) = chan::bounded(0);
        let (tx2, rx2) = chan::bounded(0);
        let first = group.run_chan("key", move || rx1.recv().unwrap());
        group.forget(&"key");
        let second = group.run_chan("key", move || rx2.recv().unwrap());
        tx1.send(1).unwrap();
        assert_eq!(first.recv(), Ok(Outcome { value: 1, shared: false }));
        let third = group.run_chan("key", || 3);
        tx2.send(2).unwrap();
        assert_eq!(second.recv(), Ok(Outcome { value: 2, shared: true }));
        assert_eq!(third.recv(), Ok(Outcome { value: 2, shared: true }));
        group.forget(&"never called");
    });
}

/// The function panics when its callers are there, and each of them panics with the message.
#[test]
fn c239_a_panic_reaches_all_callers() {
    with_workers(|| {
        let group = Group::<_, ()>::new();
        let handles: Vec<_> = (0..5)
            .map(|_| {
                let group = group.clone();
                go(move || {
                    group.run("key", || {
                        wait_until("the callers", || format!("{group:?}").contains("callers: 5"));
                        panic!("invalid memory address: {}", 0)
                    })
                })
            })
            .collect();
        for handle in handles {
            let payload = handle.join().unwrap_err();
            assert_eq!(text_of(&*payload), "invalid memory address: 0");
        }
        group.run("key", || ()); // And the key is free again.
    });
}

#[test]
fn c241_a_panic_goes_on_in_the_receive() {
    with_workers(|| {
        let group = Group::<_, u32>::new();
        let (open, gate) = chan::bounded::<()>(0);
        let outcomes = [
            group.run_chan("key", move || {
                let _ = gate.recv();
                panic!("Panicking in DoChan")
            }),
            group.run_chan("key", || unreachable!()),
        ];
        drop(open);
        for outcome in &outcomes {
            for _ in 0..2 {
                let payload = catch_unwind(AssertUnwindSafe(|| outcome.recv())).expect_err("a panic");
                assert_eq!(text_of(&*payload), "Panicking in DoChan");
            }
        }
    });
}

#[test]
fn a_caller_may_stop_waiting() {
    with_workers(|| {
        let group = Group::new();
        let (tx, rx) = chan::bounded(0);
        let (ctx, cancel) = Context::background().with_cancel();
        let impatient = go({
            let (group, ctx) = (group.clone(), ctx.clone());
            move || group.run_ctx(&ctx, "key", move || rx.recv().unwrap())
        });
        wait_until("the first call", || format!("{group:?}").contains("calls: 1"));
        cancel.cancel();
        assert_eq!(impatient.join().unwrap(), Err(ContextError::Canceled));
        let joined = group.run_chan("key", || unreachable!("the first call still runs"));
        assert_eq!(group.run_ctx(&ctx, "other", || unreachable!()), Err(ContextError::Canceled));
        tx.send(7).unwrap();
        assert_eq!(joined.recv(), Ok(Outcome { value: 7, shared: true }));
    });
}

#[test]
fn c241_a_panic_that_nobody_receives_is_printed() {
    let Some(output) = run_child("conformance::singleflight::c241_a_panic_that_nobody_receives_is_printed") else {
        return on_workers(2, 0, || drop(Group::<_, ()>::new().run_chan("key", || panic!("Panicking in DoChan"))));
    };
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("nobody joined it: Panicking in DoChan\n"), "{stderr}");
}
