//! Groups: 213 to 221, 243 to 249, and 319 to 323.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use goby::context::{Cause, ContextError};
use goby::group::Group;
use goby::sync::{Barrier, Mutex, WaitGroup};
use goby::{Context, chan, go, scope, select, yield_now};

use crate::support::{MOMENT, on_workers, pause, run_child, size, text_of, wait_until, with_workers};

/// Returns the text of the panic of `f`.
#[track_caller]
fn panic_text<T>(f: impl FnOnce() -> T) -> String {
    let payload = catch_unwind(AssertUnwindSafe(|| drop(f()))).expect_err("a panic");
    text_of(&*payload).to_owned()
}

fn texts<T>(results: Vec<Result<T, Cause>>) -> Vec<Result<T, String>> {
    results.into_iter().map(|result| result.map_err(|error| error.to_string())).collect()
}

#[test]
fn c213_the_first_error_stays() {
    with_workers(|| {
        for (results, first) in [
            (&[][..], None),
            (&[Ok(())][..], None),
            (&[Err("e1")], Some("e1")),
            (&[Err("e1"), Ok(()), Err("e2")], Some("e1")),
            (&[Ok(()), Err("e2")], Some("e2")),
        ] {
            let group: Group = Group::new();
            let mut expected = None;
            for &result in results {
                group.go(move || Ok(result?));
                expected = expected.or(result.err());
                assert_eq!(group.wait().err().map(|error| error.to_string()).as_deref(), expected);
            }
            assert_eq!(group.wait().err().map(|error| error.to_string()).as_deref(), first);
        }
    });
}

#[test]
fn c215_the_cause_is_the_first_error() {
    with_workers(|| {
        let (group, ctx) = Group::with_context(&Context::background());
        group.go(|| Err(io::Error::other("e1")));
        for _ in 0..3 {
            let ctx = ctx.clone();
            group.go(move || {
                let _ = ctx.done().recv();
                Err(io::Error::other("a later one"))
            });
        }
        let error: Result<Vec<()>, _> = group.wait();
        let error = error.unwrap_err();
        assert_eq!(error.downcast_ref::<io::Error>().unwrap().to_string(), "e1");
        assert!(Arc::ptr_eq(&ctx.cause().unwrap(), &error));
        assert_eq!(ctx.err(), Some(ContextError::Canceled));

        let (group, ctx) = Group::<(), io::Error>::with_context(&Context::background());
        (0..3).for_each(|_| group.go(|| Ok(())));
        assert_eq!(ctx.err(), None);
        group.wait().unwrap();
        assert_eq!(ctx.cause().unwrap().downcast_ref(), Some(&ContextError::Canceled));
    });
}

/// A group within a group: the error comes out unchanged.
#[test]
fn an_error_that_is_shared_already_stays_the_same() {
    with_workers(|| {
        let (outer, ctx) = Group::with_context(&Context::background());
        outer.go(|| {
            let inner = Group::<(), io::Error>::new();
            inner.go(|| Err(io::Error::other("inner")));
            inner.wait()
        });
        let error = outer.wait().unwrap_err();
        assert!(error.is::<io::Error>());
        assert!(Arc::ptr_eq(&ctx.cause().unwrap(), &error));
    });
}

#[test]
fn c217_try_go() {
    with_workers(|| {
        let group: Group = Group::new();
        group.set_limit(1);
        let (tx, rx) = chan::bounded::<()>(0);
        assert!(group.try_go(move || Ok(_ = rx.recv())).is_ok());
        let refused = group.try_go(|| Err("the closure".into())).unwrap_err();
        assert_eq!(refused.into_inner()().unwrap_err().to_string(), "the closure");
        drop(tx);
        group.wait().unwrap();
        assert!(group.try_go(|| Ok(())).is_ok());
        group.wait().unwrap();

        let group: Group = Group::new();
        group.set_limit(0);
        (0..1024).for_each(|_| assert!(group.try_go(|| unreachable!()).is_err()));
        assert!(group.wait().unwrap().is_empty());
    });
}

#[test]
fn c219_changing_the_limit() {
    with_workers(|| {
        let group: Group = Group::new();
        group.set_limit(3);
        let (tx, rx) = chan::bounded::<()>(0);
        for _ in 0..2 {
            let rx = rx.clone();
            group.go(move || Ok(_ = rx.recv()));
        }
        assert_eq!(
            panic_text(|| group.set_limit(4)),
            "group: limit changed while 2 goroutines of the group are running"
        );
        drop(tx);
        group.wait().unwrap();

        group.set_limit(1);
        group.set_limit(None);
        let barrier = Arc::new(Barrier::new(5));
        for _ in 0..5 {
            let barrier = barrier.clone();
            group.go(move || {
                barrier.wait();
                Ok(())
            });
        }
        assert_eq!(group.wait().unwrap().len(), 5);
    });
}

#[test]
fn c221_results_by_place() {
    with_workers(|| {
        let (group, ctx) = Group::with_context(&Context::background());
        // They end in the reverse order: each waits for the next one's end.
        let (video_runs, video_ended) = chan::bounded::<()>(0);
        let (image_runs, image_ended) = chan::bounded::<()>(0);
        let parts = [("web", None, Some(image_ended)), ("image", Some(image_runs), Some(video_ended))];
        for (kind, runs, after) in parts.into_iter().chain([("video", Some(video_runs), None)]) {
            let ctx = ctx.clone();
            group.go(move || {
                let _runs = runs;
                if let Some(after) = after {
                    select! { recv(after) -> _ => {}, recv(ctx.done()) -> _ => {} }
                }
                Ok::<_, io::Error>(format!("{kind} result for golang"))
            });
        }
        let lines = ["web result for golang", "image result for golang", "video result for golang"];
        assert_eq!(group.wait().unwrap(), lines);
    });
}

#[test]
fn c243_all_end_and_never_more_than_the_limit() {
    with_workers(|| {
        let (group, done) = (Group::<(), io::Error>::new(), Arc::new(AtomicUsize::new(0)));
        for _ in 0..100 {
            let done = done.clone();
            group.go(move || {
                pause(MOMENT);
                done.fetch_add(1, Ordering::Relaxed);
                Ok(())
            });
        }
        group.wait().unwrap();
        assert_eq!(done.load(Ordering::Relaxed), 100);

        for limit in [1, 10, 100] {
            let (group, active) = (Group::<_, io::Error>::new(), Arc::new(AtomicUsize::new(0)));
            group.set_limit(limit);
            for _ in 0..10 * limit {
                let active = active.clone();
                group.go(move || {
                    let n_active = active.fetch_add(1, Ordering::Relaxed) + 1;
                    yield_now();
                    active.fetch_sub(1, Ordering::Relaxed);
                    Ok(n_active)
                });
            }
            let n_active = group.wait().unwrap();
            assert_eq!(n_active.len(), 10 * limit);
            assert!(n_active.iter().all(|n| (1..=limit).contains(n)), "{n_active:?}");
            assert_eq!(active.load(Ordering::Relaxed), 0);
        }
    });
}

#[test]
fn c245_a_group_can_be_used_again() {
    with_workers(|| {
        let (group, n) = (Group::<(), io::Error>::new(), Arc::new(AtomicUsize::new(0)));
        for round in 1..=2 {
            for _ in 0..10 {
                let n = n.clone();
                group.go(move || {
                    n.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                });
            }
            assert_eq!(group.wait().unwrap().len(), 10, "results are given once");
            assert_eq!(n.load(Ordering::Relaxed), 10 * round);
        }
    });
}

#[test]
fn c247_all_errors_or_the_first() {
    with_workers(|| {
        let group = Group::new();
        for result in [Err("e1"), Ok(()), Err("e2")] {
            group.go(move || result);
        }
        assert_eq!(texts(group.wait_all()), [Err("e1".into()), Ok(()), Err("e2".into())]);
        group.go(|| Err("e3"));
        assert_eq!(texts(group.wait_all()), [Err("e3".into())], "only the new one");

        let group = Group::<(), &str>::new();
        group.set_limit(1); // So that the first one fails first.
        for error in ["e1", "e2", "e3"] {
            group.go(move || Err(error));
        }
        assert_eq!(group.wait().unwrap_err().to_string(), "e1");
    });
}

#[test]
fn c249_results_in_the_order_of_submission() {
    with_workers(|| {
        let group = Group::new();
        let longest = size(5, 100) as u64;
        for n in 0..100 {
            group.go(move || {
                pause(Duration::from_millis(goby_runtime::random() % longest));
                if n % 10 == 9 { Err(format!("no {n}")) } else { Ok(n) }
            });
        }
        let all = texts(group.wait_all());
        let expected: Vec<_> = (0..100).map(|n| if n % 10 == 9 { Err(format!("no {n}")) } else { Ok(n) }).collect();
        assert_eq!(all, expected);
        let good: Vec<i32> = all.into_iter().flatten().collect();
        assert_eq!(good.len(), 90, "one that failed contributes nothing");
        assert!(good.is_sorted());
    });
}

#[test]
fn results_as_they_come() {
    with_workers(|| {
        let group = Group::new();
        assert!(group.results().next().is_none(), "none was started");
        let gates: Vec<_> = (0..4).map(|_| chan::bounded::<()>(0)).collect();
        for (n, (_, gate)) in gates.iter().enumerate() {
            let gate = gate.clone();
            group.go(move || {
                let _ = gate.recv();
                if n == 2 { Err("two") } else { Ok(n) }
            });
        }
        let mut results = group.results();
        for n in [3, 2, 0] {
            gates[n].0.close();
            let result = results.next().unwrap().map_err(|error| error.to_string());
            assert_eq!(result, if n == 2 { Err("two".into()) } else { Ok(n) });
        }
        gates[1].0.close();
        wait_until("the last to end", || format!("{group:?}").contains("running: 0"));
        assert_eq!(texts(group.wait_all()), [Ok(1)], "what was not given yet");
        assert!(results.next().is_none());
        assert_eq!(group.wait().unwrap_err().to_string(), "two", "the error stays all the same");
    });
}

/// Many consumers, and more goroutines than may run at a time: every outcome comes out once, and
/// all see the end.
#[test]
fn results_are_shared_among_consumers() {
    with_workers(|| {
        let n = size(200, 20_000);
        let group = Group::<usize, io::Error>::new();
        group.set_limit(3);
        let (taken, first) = (Mutex::new(vec![]), Barrier::new(5));
        scope(|s| {
            for _ in 0..4 {
                s.go(|| {
                    first.wait();
                    let mine: Vec<_> = group.results().map(Result::unwrap).collect();
                    taken.lock().extend(mine);
                });
            }
            (0..n).for_each(|i| {
                group.go(move || Ok(i));
                if i == 0 {
                    first.wait();
                }
            });
            // They may all have seen an end in between.
            let rest = group.wait().unwrap();
            taken.lock().extend(rest);
        });
        let mut taken = taken.into_inner();
        taken.sort_unstable();
        assert_eq!(taken, (0..n).collect::<Vec<_>>());
    });
}

#[test]
fn goroutines_of_a_group_may_borrow() {
    with_workers(|| {
        let (words, mut out) = (vec!["go", "by", "e"], vec![0; 3]);
        let total = scope(|s| {
            let group = Group::new();
            for (word, out) in words.iter().zip(&mut out) {
                group.go_in(s, || {
                    *out = word.len();
                    Ok::<_, io::Error>(*word)
                });
            }
            group.wait()
        });
        assert_eq!(total.unwrap(), words);
        assert_eq!(out, [2, 2, 1]);
    });
}

#[test]
fn a_goroutine_of_a_group_may_start_more() {
    with_workers(|| {
        fn tree(group: &Group<u32, io::Error>, depth: u32) {
            let handle = group.clone();
            group.go(move || {
                if depth > 0 {
                    (0..2).for_each(|_| tree(&handle, depth - 1));
                }
                Ok(1)
            });
        }
        let group = Group::new();
        tree(&group, 6);
        assert_eq!(group.wait().unwrap().len(), 127);
    });
}

/// A panic stops the others, and every kind of wait shows it.
#[test]
fn c319_a_panic_is_raised_again_by_every_wait() {
    with_workers(|| {
        let (group, ctx) = Group::<(), io::Error>::with_context(&Context::background());
        let done = Arc::new(AtomicUsize::new(0));
        for _ in 0..2 {
            let (ctx, done) = (ctx.clone(), done.clone());
            group.go(move || {
                let _ = ctx.done().recv();
                done.fetch_add(1, Ordering::Relaxed);
                Ok(())
            });
        }
        group.go(|| panic!("child {}", 7));
        assert_eq!(panic_text(|| group.wait()), "child 7");
        assert_eq!(done.load(Ordering::Relaxed), 2, "the others have ended in good order");
        assert_eq!(panic_text(|| group.wait_all()), "child 7");
        group.go(|| Ok(()));
        assert_eq!(panic_text(|| group.results().count()), "child 7");

        let group: Group = Group::new();
        group.go(|| panic_any(42));
        let payload = catch_unwind(|| group.wait()).unwrap_err();
        assert_eq!(payload.downcast_ref(), Some(&42), "the payload itself");
    });
}

#[test]
fn c319_a_scope_raises_the_panic_of_a_child() {
    with_workers(|| {
        let done = AtomicUsize::new(0);
        let text = panic_text(|| {
            scope(|s| {
                s.go(|| panic!("super bad thing"));
                for _ in 0..2 {
                    s.go(|| done.fetch_add(1, Ordering::Relaxed));
                }
            });
        });
        assert_eq!((text.as_str(), done.load(Ordering::Relaxed)), ("super bad thing", 2));
        let text = panic_text(|| {
            scope(|s| {
                s.go(|| panic!("one"));
                s.go(|| panic!("two"));
            });
        });
        assert!(text == "one" || text == "two", "{text}");
    });
}

/// Only the first panic is kept. The payload of a later one is dropped, and may panic then: its
/// goroutine still counts as ended.
#[test]
fn a_payload_that_panics_when_dropped_keeps_nobody_waiting() {
    struct Breaks;
    impl Drop for Breaks {
        fn drop(&mut self) {
            panic!("a payload that breaks");
        }
    }
    with_workers(|| {
        let group: Group = Group::new();
        let waits = WaitGroup::new();
        for _ in 0..2 {
            group.go(|| panic_any(Breaks));
            waits.go(|| panic_any(Breaks));
        }
        let of_group = catch_unwind(AssertUnwindSafe(|| drop(group.wait())));
        let of_waits = catch_unwind(AssertUnwindSafe(|| waits.wait()));
        for raised in [of_group, of_waits] {
            let payload = raised.unwrap_err();
            assert!(payload.is::<Breaks>());
            std::mem::forget(payload);
        }
    });
}

/// conc's catcher is `catch_unwind` and `resume_unwind`: the payload of a goroutine's panic stays
/// the same.
#[test]
fn c321_a_panic_can_be_caught_and_raised_again() {
    with_workers(|| {
        let caught: Vec<_> = (0..100)
            .filter_map(|n| {
                let run = move || {
                    if n == 50 {
                        panic_any("50");
                    }
                };
                go(move || catch_unwind(run)).join().unwrap().err()
            })
            .collect();
        let [payload] = &caught[..] else { panic!("{} panics", caught.len()) };
        assert_eq!(text_of(&**payload), "50");

        let payload = go(|| panic_any(io::Error::other("a value"))).join().unwrap_err();
        let again = go(move || resume_unwind(payload.into_payload())).join().unwrap_err();
        assert_eq!(again.downcast::<io::Error>().unwrap().to_string(), "a value");
    });
}

#[test]
fn c323_parallel_map_with_errors() {
    with_workers(|| {
        let map = |failing: &'static [i32]| {
            let group = Group::new();
            for n in 1..=5 {
                group.go(move || if failing.contains(&n) { Err(format!("no {n}")) } else { Ok(n + 1) });
            }
            let results = texts(group.wait_all());
            let errors: Vec<_> = results.iter().filter_map(|result| result.clone().err()).collect();
            let values: Vec<_> = results.into_iter().map(Result::unwrap_or_default).collect();
            (values, errors)
        };
        assert_eq!(map(&[3]), (vec![2, 3, 0, 5, 6], vec!["no 3".to_owned()]));
        assert_eq!(map(&[3, 4]), (vec![2, 3, 0, 0, 6], vec!["no 3".to_owned(), "no 4".to_owned()]));
    });
}

/// A panic is not lost when nobody waits for the group.
#[test]
fn a_panic_that_nobody_waits_for_is_printed() {
    let Some(output) = run_child("conformance::group::a_panic_that_nobody_waits_for_is_printed") else {
        return on_workers(2, 0, || {
            let group: Group = Group::new();
            group.go(|| panic!("child 9"));
            drop(group);
        });
    };
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("nobody joined it: child 9\n"), "{stderr}");
}
