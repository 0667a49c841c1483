//! `goby::diag`: dumps, the leak guard, and each of the common mistakes of this model's users.

mod child;
mod fatal;
mod golden;
mod idle_timers;
mod mistakes;
mod plain_main;
mod waits;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use goby::diag::{self, GoroutineInfo, LeakGuard, Status};
use goby::sync::Mutex;
use goby::{Context, Runtime, chan, go, goroutine, select};
use goby_runtime::WaitReason;

use crate::support::{on_workers, size, wait_until, with_workers, with_workers_leaving};

/// For each waiting goroutine, its name and whether a context reaches it.
fn reached(infos: &[GoroutineInfo]) -> Vec<(&str, bool)> {
    infos.iter().filter_map(|info| Some((info.name()?, info.is_reached_by_context()))).collect()
}

#[test]
fn whether_a_context_reaches_it() {
    with_workers(|| {
        let (ctx, cancel) = Context::background().with_cancel();
        let (tx, rx) = chan::bounded::<()>(0);
        let mutex = std::sync::Arc::new(Mutex::new(()));
        let held = mutex.lock();
        let named = |name: &str| goroutine::Builder::new().name(name);
        let mut handles = vec![
            named("1 select with done").go({
                let (ctx, rx) = (ctx.clone(), rx.clone());
                move || {
                    select! { recv(rx) -> _ => {}, recv(ctx.done()) -> _ => {} }
                }
            }),
            named("2 select without").go({
                let (rx, other) = (rx.clone(), rx.clone());
                move || {
                    select! { recv(rx) -> _ => {}, recv(other) -> _ => {} }
                }
            }),
            named("3 done alone").go({
                let ctx = ctx.clone();
                move || _ = ctx.done().recv()
            }),
            named("4 receive").go({
                let rx = rx.clone();
                move || _ = rx.recv()
            }),
            named("5 lock with").go({
                let (ctx, mutex) = (ctx.clone(), mutex.clone());
                move || drop(mutex.lock_ctx(&ctx))
            }),
            named("6 lock without").go({
                let mutex = mutex.clone();
                move || drop(mutex.lock())
            }),
            named("7 sleep with").go({
                let ctx = ctx.clone();
                move || _ = goby::time::sleep_ctx(&ctx, Duration::from_secs(3600))
            }),
        ];
        wait_until("all to wait", || diag::goroutines().iter().filter(|info| info.waited().is_some()).count() == 7);
        let infos = diag::goroutines();
        assert_eq!(
            reached(&infos),
            [
                ("1 select with done", true),
                ("2 select without", false),
                ("3 done alone", true),
                ("4 receive", false),
                ("5 lock with", true),
                ("6 lock without", false),
                ("7 sleep with", true),
            ]
        );
        let reasons: Vec<String> =
            infos.iter().filter(|i| i.waited().is_some()).map(|i| i.status().to_string()).collect();
        assert_eq!(
            reasons,
            ["select", "select", "context done", "chan receive", "sync.Mutex.Lock", "sync.Mutex.Lock", "sleep"]
        );
        assert!(infos.iter().all(|info| info.has_deadline() == (info.name() == Some("7 sleep with"))));
        drop((cancel, tx, held));
        handles.drain(..).for_each(|handle| handle.join().unwrap());
    });
}

/// Tests run in parallel in one process, even on one runtime: each guard sees its own goroutines.
#[test]
fn guards_do_not_see_each_others_goroutines() {
    on_workers(4, 40, || {
        let tests: Vec<_> = (0..40)
            .map(|i| {
                go(move || {
                    let guard = LeakGuard::new();
                    let leaks = i % 2 == 0;
                    let (tx, rx) = chan::bounded::<u32>(0);
                    // The grandchild belongs to the test, too.
                    go(move || go(move || rx.recv()).join());
                    if leaks {
                        std::mem::forget(tx);
                    } else {
                        drop(tx);
                    }
                    let found = guard.check().err().map_or(0, |leaks| leaks.goroutines().len());
                    (leaks, found)
                })
            })
            .collect();
        let mut parked = 0;
        for test in tests {
            let (leaks, found) = test.join().unwrap();
            assert_eq!(found, if leaks { 2 } else { 0 });
            parked += found;
        }
        assert_eq!(parked, 40);
        assert_eq!(diag::leaks().len(), 40);
    });
}

/// From a thread, with a runtime of its own: the main goroutine, and those that it starts, belong
/// to the thread.
#[test]
fn a_guard_of_a_thread() {
    let guard = LeakGuard::new();
    let runtime = Runtime::builder().workers(2).report_leaks(false).build().unwrap();
    runtime.run(|| {
        go(|| chan::never::<u32>().recv());
    });
    let leaks = guard.check().unwrap_err();
    assert_eq!(leaks.goroutines().len(), 1);
    let text = leaks.to_string();
    let lines = ["1 goroutine leaked\n\ngoroutine ", "[chan receive (nil chan)]:\n", "\nblocked for "];
    assert!(lines.iter().all(|line| text.contains(line)), "{text}");
    assert!(text.contains("tests/it/diag.rs") && text.ends_with("and no context reaches it\n"), "{text}");
    // A second guard does not see it.
    assert!(LeakGuard::new().live_too().check().is_ok());
}

/// A dropped guard panics, unless the test fails anyway.
#[test]
fn a_dropped_guard_fails_the_test() {
    with_workers_leaving(2, || {
        let leak = || {
            let _guard = LeakGuard::new();
            go(|| chan::never::<u32>().recv());
        };
        let text = *catch_unwind(AssertUnwindSafe(leak)).unwrap_err().downcast::<String>().unwrap();
        assert!(text.starts_with("1 goroutine leaked\n"), "{text}");
        let fails = || {
            let _guard = LeakGuard::new();
            go(|| chan::never::<u32>().recv());
            panic!("the test's own");
        };
        let text = *catch_unwind(AssertUnwindSafe(fails)).unwrap_err().downcast::<&str>().unwrap();
        assert_eq!(text, "the test's own");
    });
}

/// A sleeper may free the others, so nothing is leaked. A guard that asks for live goroutines gets
/// all.
#[test]
fn live_goroutines_count_if_asked_for() {
    with_workers_leaving(4, || {
        let start = || {
            let (tx, rx) = chan::bounded::<u32>(0);
            go(move || rx.recv());
            go(move || {
                goby::time::sleep(Duration::from_secs(3600));
                tx.send(1)
            });
        };
        let (guard, ()) = (LeakGuard::new(), start());
        assert!(guard.check().is_ok());
        let (guard, ()) = (LeakGuard::new().live_too(), start());
        let leaks = guard.check().unwrap_err();
        assert_eq!(leaks.goroutines().len(), 2);
        assert!(leaks.goroutines().iter().any(|info| info.status() == Status::Waiting(WaitReason::Sleep)));
    });
}

/// A million goroutines (fewer in a plain run) that wait in the same way are one paragraph.
#[test]
fn alike_waits_are_one_paragraph() {
    let n = size(20_000, 1_000_000);
    on_workers(2, 0, || {
        let (tx, rx) = chan::bounded::<u32>(0);
        let wg = goby::sync::WaitGroup::new();
        for _ in 0..n {
            let rx = rx.clone();
            wg.go(move || _ = rx.recv());
        }
        wait_until("all to wait", || diag::goroutines().iter().filter(|info| info.waited().is_some()).count() == n);
        let text = diag::dump().to_string();
        // Goroutines with a captured stack, and those without; the dump has the goroutines of other
        // tests, too.
        let ours = format!("created by goroutine {} at ", goroutine::id().unwrap());
        assert!((1..=2).contains(&text.matches(&ours).count()), "{text}");
        drop(tx);
        wg.wait();
    });
}

/// A goroutine that waits for nothing, and its joiner, are proved stuck though others go on. A
/// goroutine that waits for a channel is not.
#[test]
fn partial_deadlocks_that_are_proved() {
    with_workers_leaving(7, || {
        let guard = LeakGuard::new();
        let (tx, rx) = chan::bounded::<u32>(0);
        let unproved = go(move || rx.recv());
        go(move || {
            goby::time::sleep(Duration::from_secs(3600));
            tx.send(1)
        });
        let stuck = go(|| chan::never::<u32>().recv());
        let stuck_too = go(|| goby::select! {});
        let waits_for_ever = go(|| select! { default(Duration::MAX) => () });
        let mut expected = vec![stuck.id(), stuck_too.id(), waits_for_ever.id()];
        let joins = go(move || stuck.join());
        expected.push(joins.id());
        let joins_too = go(move || joins.join());
        expected.push(joins_too.id());
        expected.sort_unstable();
        let ids = || diag::deadlocked().iter().map(GoroutineInfo::id).collect::<Vec<_>>();
        wait_until("all to park", || ids() == expected);
        assert!(!ids().contains(&unproved.id()));
        // Those are leaked, whichever goroutine sleeps.
        let leaked: Vec<_> = guard.check().unwrap_err().goroutines().iter().map(GoroutineInfo::id).collect();
        assert_eq!(leaked, expected);
        drop((unproved, stuck_too, waits_for_ever, joins_too));
    });
}
