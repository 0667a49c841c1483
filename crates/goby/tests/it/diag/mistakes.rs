//! The common mistakes of this model's users. Each does not compile (those are in
//! `tests/compile_fail`, with `compile_fail.rs` as their runner), or is an error, or is reported
//! with the right place. Sleeping to synchronize is for a checker with virtual time, not for a
//! report.

use goby::diag::LeakGuard;
use goby::{Context, chan, go, select};

use crate::support::with_workers_leaving;
use goby_test_support::{in_child, stderr};

/// The line of this file that a report must name.
fn place(line: u32) -> String {
    format!("{}:{line}:", file!())
}

#[test]
fn a_goroutine_without_an_end() {
    with_workers_leaving(1, || {
        let guard = LeakGuard::new();
        let (jobs, input) = chan::bounded::<u32>(0);
        let here = line!() + 1;
        go(move || {
            for job in input.iter() {
                std::hint::black_box(job);
            }
        });
        jobs.send(1).unwrap();
        // Never dropped, so never closed.
        std::mem::forget(jobs);
        let report = guard.check().unwrap_err().to_string();
        assert!(report.contains(&place(here)) && report.contains("[chan receive]"), "{report}");
    });
}

#[test]
fn closing_from_the_receiving_side_does_not_compile() {
    let case = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compile_fail/receiver_has_no_close");
    let wrong = std::fs::read_to_string(case.with_extension("rs")).unwrap();
    let error = std::fs::read_to_string(case.with_extension("stderr")).unwrap();
    assert!(wrong.contains("rx.close()") && error.contains("no method named `close`"), "{error}");
}

#[test]
fn sending_on_a_closed_channel_gives_the_value_back() {
    let (tx, _rx) = chan::bounded(1);
    assert!(tx.close());
    let refused = tx.send(String::from("the value")).unwrap_err();
    assert_eq!(refused.into_inner(), "the value");
}

/// The goroutine waits without the context that its starter has: the report says so. With the
/// context, the goroutine ends.
#[test]
fn a_context_that_is_not_passed_on() {
    with_workers_leaving(1, || {
        let guard = LeakGuard::new();
        let (ctx, cancel) = Context::background().with_cancel();
        let (tx, results) = chan::bounded::<u32>(0);
        let ignores = results.clone();
        let here = line!() + 1;
        go(move || ignores.recv());
        go(move || {
            select! {
                recv(results) -> _ => {},
                recv(ctx.done()) -> _ => {},
            }
        });
        drop(cancel);
        std::mem::forget(tx);
        let leaks = guard.check().unwrap_err();
        assert_eq!(leaks.goroutines().len(), 1);
        let report = leaks.to_string();
        assert!(report.contains(&place(here)), "{report}");
        assert!(report.ends_with(", and no context reaches it\n"), "{report}");
    });
}

/// A context that nobody cancels: reached, but not done.
#[test]
fn a_context_that_is_never_canceled() {
    with_workers_leaving(1, || {
        let guard = LeakGuard::new();
        let (ctx, cancel) = Context::background().with_cancel();
        go(move || _ = ctx.done().recv());
        std::mem::forget(cancel);
        let report = guard.check().unwrap_err().to_string();
        assert!(report.contains("[context done]") && report.ends_with(", until a context is done\n"), "{report}");
    });
}

#[test]
fn a_deadlock() {
    let here = line!() + 5;
    let output = in_child("diag::mistakes::a_deadlock", || {
        goby::run(|| {
            let (tx, rx) = chan::bounded::<u32>(0);
            let (tx2, rx2) = chan::bounded::<u32>(0);
            let other = go(move || tx.send(rx2.recv().unwrap()));
            tx2.send(rx.recv().unwrap()).unwrap();
            other.join().unwrap().unwrap();
        });
    });
    let report = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{report}");
    assert!(report.contains(&place(here)), "{report}");
    assert_eq!(report.matches(" [chan receive]:\n").count(), 2, "{report}");
}
