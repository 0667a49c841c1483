//! A job ends its goroutine by `goexit`: it has no result, all other jobs have one, and no other
//! goroutine is unwound or gets a wrong answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use goby::chan::{self, Receiver, RecvError, TryRecvError};
use goby::context::Cause;
use goby::group::Group;
use goby::pattern::{
    FirstError, Pipeline, Stream, elastic_pool, fan_in, fan_out, first, first_ok, par_map, source, try_par_map,
    worker_pool,
};
use goby::singleflight;
use goby::sync::{Mutex, Once};
use goby::{Context, Goexit, go, goexit};

use super::{panic_text, sorted};
use crate::support::{wait_until, with_workers};

const N: usize = 1000;

/// The result of a job; but one job in ten ends its goroutine.
fn job(n: usize) -> usize {
    if n.is_multiple_of(10) { goexit() } else { n }
}

fn others() -> Vec<usize> {
    (1..=N).filter(|n| !n.is_multiple_of(10)).collect()
}

fn input() -> Receiver<usize> {
    source(&Context::background(), 1..=N)
}

#[test]
fn pools_do_all_other_jobs() {
    with_workers(|| {
        let ctx = Context::background();
        for n_workers in [1, 3, 8] {
            assert_eq!(sorted(&worker_pool(&ctx, input(), n_workers, job)), others());
            let results = elastic_pool(&ctx, input(), n_workers, Duration::from_secs(60), || job);
            assert_eq!(sorted(&results), others());
            let results = elastic_pool(&ctx, input(), n_workers, Duration::ZERO, || job);
            assert_eq!(sorted(&results), others());
            // Also for long jobs, after which a worker goes on in a new goroutine.
            let results = worker_pool(&ctx, source(&ctx, 1..=20), n_workers, |n| {
                std::thread::sleep(Duration::from_micros(20));
                job(n)
            });
            assert_eq!(sorted(&results), others()[..18]);
        }
    });
}

/// No worker is left for the jobs if workers that a job has ended are not replaced.
#[test]
fn pools_outlive_more_exits_than_they_have_workers() {
    with_workers(|| {
        let ctx = Context::background();
        let last_stays = |n| if n < N { goexit() } else { n };
        assert_eq!(sorted(&worker_pool(&ctx, input(), 4, last_stays)), [N]);
        assert_eq!(sorted(&elastic_pool(&ctx, input(), 4, Duration::from_secs(60), move || last_stays)), [N]);
        assert_eq!(sorted(&fan_in(&ctx, fan_out(&ctx, input(), 4, last_stays))), [N]);
    });
}

/// The values of a worker of an elastic pool are dropped with its goroutine, and the next job gets
/// a new worker.
#[test]
fn an_elastic_pools_worker_is_dropped_with_its_goroutine() {
    struct Kept(Arc<AtomicUsize>);
    impl Drop for Kept {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    with_workers(|| {
        let (made, dropped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let results = elastic_pool(&Context::background(), input(), 1, Duration::from_secs(60), {
            let (made, dropped) = (made.clone(), dropped.clone());
            move || {
                let kept = Kept(dropped.clone());
                if made.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
                    goexit(); // This also ends the job that the worker was made for.
                }
                move |n| {
                    let _kept = &kept;
                    job(n)
                }
            }
        });
        // 1 gets no worker; 2 to 9 get one, which 10 ends; and so on.
        let expected: Vec<_> = others().into_iter().filter(|n| n % 10 != 1).collect();
        assert_eq!(sorted(&results), expected);
        assert_eq!(made.load(Ordering::Relaxed), N / 5);
        wait_until("the last to end", || dropped.load(Ordering::Relaxed) == N / 5);
    });
}

#[test]
fn a_fan_out_and_a_pipeline_do_all_other_values() {
    with_workers(|| {
        let ctx = Context::background();
        assert_eq!(sorted(&fan_in(&ctx, fan_out(&ctx, input(), 3, job))), others());
        let pipeline = Pipeline::new(&ctx, 1..=N).stage(3, job).flat_map(2, |n| [n, 0].map(move |v| v));
        let mut results: Vec<_> = pipeline.into_iter().filter(|n| *n > 0).collect();
        results.sort_unstable();
        assert_eq!(results, others());
        let ordered = Pipeline::new(&ctx, 1..=N).ordered_stage(5, job).into_iter();
        assert_eq!(ordered.collect::<Vec<_>>(), others());
        // The iterator that a stage gave ends the goroutine: the values that it had given by then
        // have come.
        let cut = Pipeline::new(&ctx, 1..=N).flat_map(3, |n| (0..3).map(move |i| if i < 2 { n } else { job(n) }));
        assert_eq!(cut.into_iter().count(), 2 * N + N * 9 / 10);
    });
}

#[test]
fn a_map_leaves_out_the_value_and_keeps_the_order() {
    with_workers(|| {
        for n in [1, 4, 16] {
            let results = par_map(&Context::background(), input(), n, job);
            assert_eq!(results.iter().collect::<Vec<_>>(), others());
            assert_eq!(results.try_recv(), Err(TryRecvError::Closed));
        }
    });
}

#[test]
fn a_fallible_map_gives_no_ok_with_a_value_missing() {
    with_workers(|| {
        let ctx = Context::background();
        for n in [1, 4, 16] {
            let results = try_par_map(&ctx, input(), n, |_, value| Ok::<_, &str>(job(value)));
            let mut got = vec![];
            let text = panic_text(|| got.extend(results.iter()));
            assert_eq!(text, "pattern: a result is missing: its function ended the goroutine by goexit");
            assert_eq!(got.into_iter().collect::<Result<Vec<_>, _>>(), Ok(others()), "all others have come before");

            // An error is reported alone, whether it comes before a missing value or behind one.
            for fails in [5, 15] {
                let results = try_par_map(&ctx, input(), n, move |_, value| match value == fails {
                    true => Err("no luck"),
                    false => Ok(job(value)),
                });
                assert_eq!(results.iter().last(), Some(Err("no luck")));
            }
        }
    });
}

type Task<R> = Box<dyn FnOnce(&Context) -> R + Send>;

#[test]
fn first_goes_by_the_other_tasks() {
    with_workers(|| {
        let ctx = Context::background();
        let (open, gate) = chan::bounded::<()>(0);
        let tasks: [Task<u8>; 2] = [
            Box::new(move |_| {
                let _open = open;
                goexit()
            }),
            Box::new(move |_| {
                assert!(gate.recv().is_err());
                2
            }),
        ];
        assert_eq!(first(&ctx, tasks), Ok(2));
        let text = panic_text(|| _ = first::<(), _>(&ctx, [|_: &Context| goexit(), |_: &Context| goexit()]));
        assert_eq!(
            text,
            "pattern: no task returned, so none was the first with a result: all ended by goexit, or their runtime was dropped"
        );

        let tasks: [Task<Result<u8, &str>>; 3] = [Box::new(|_| goexit()), Box::new(|_| Err("a")), Box::new(|_| Ok(3))];
        assert_eq!(first_ok(&ctx, tasks), Ok(3));
        let tasks: [Task<Result<u8, &str>>; 2] = [Box::new(|_| goexit()), Box::new(|_| Err("a"))];
        let error = first_ok(&ctx, tasks).unwrap_err();
        assert_eq!(error.to_string(), "1 tasks failed, the others did not return: a");
        assert_eq!(error, FirstError::Exited(vec!["a"]));
    });
}

#[test]
fn a_stream_leaves_out_the_callback() {
    with_workers(|| {
        let lines = Arc::new(Mutex::new(vec![]));
        let stream = Stream::new(&Context::background(), 3);
        for n in 1..=N {
            let lines = lines.clone();
            stream
                .go(move || {
                    let n = job(n);
                    move || lines.lock().push(if n % 10 == 5 { goexit() } else { n })
                })
                .unwrap();
        }
        stream.wait();
        let expected: Vec<_> = others().into_iter().filter(|n| n % 10 != 5).collect();
        assert_eq!(*lines.lock(), expected);
    });
}

#[test]
fn a_group_gives_goexit_as_the_error_in_its_place() {
    with_workers(|| {
        let (group, ctx) = Group::<usize, &str>::with_context(&Context::background());
        let start = || (1..=N).for_each(|n| group.go(move || Ok(job(n))));
        start();
        let all = group.wait_all();
        assert_eq!(all.len(), N);
        for (i, result) in all.into_iter().enumerate() {
            match result {
                Ok(n) => assert_eq!((n, n % 10 > 0), (i + 1, true)),
                Err(error) => assert!(error.is::<Goexit>() && (i + 1) % 10 == 0),
            }
        }
        start();
        let error = group.wait().unwrap_err();
        assert_eq!(error.to_string(), "the goroutine ended by goexit");
        start();
        assert_eq!(group.results().filter(Result::is_ok).count(), N * 9 / 10);
        drop(ctx);

        // It stops no other goroutine: the test ends the other one, not the context.
        let (group, ctx) = Group::<u8, &str>::with_context(&Context::background());
        group.go(|| goexit());
        assert!(group.results().next().unwrap().unwrap_err().is::<Goexit>());
        assert_eq!(ctx.err(), None);
        group.go(|| Err("no luck"));
        let error = group.wait().unwrap_err();
        assert_eq!(error.to_string(), "no luck");
        assert!(Arc::ptr_eq(&error, &ctx.cause().unwrap()));

        let inner: Result<Vec<usize>, Cause> = goby::scope(|s| {
            let group = Group::<_, &str>::new();
            group.go_in(s, || Ok(job(10)));
            group.wait()
        });
        assert!(inner.unwrap_err().is::<Goexit>());
    });
}

#[test]
fn callers_of_a_single_flight_that_ended_call_their_own() {
    with_workers(|| {
        let (group, n_called) = (singleflight::Group::new(), Arc::new(AtomicUsize::new(0)));
        let (open, gate) = chan::bounded::<()>(0);
        let leader = go({
            let group = group.clone();
            move || {
                group.run("key", || -> u32 {
                    assert!(gate.recv().is_err());
                    goexit()
                })
            }
        });
        wait_until("the first call", || format!("{group:?}") == "Group { calls: 1, callers: 1 }");
        let own = {
            let n_called = n_called.clone();
            move || {
                n_called.fetch_add(1, Ordering::Relaxed);
                7
            }
        };
        let channel = group.run_chan("key", || unreachable!());
        let waiting: Vec<_> = (0..6)
            .map(|n| {
                let (group, own) = (group.clone(), own.clone());
                go(move || match n % 2 {
                    0 => group.run("key", own).value,
                    _ => group.run_ctx(&Context::background(), "key", own).unwrap().value,
                })
            })
            .collect();
        wait_until("all to join", || format!("{group:?}") == "Group { calls: 1, callers: 8 }");
        drop(open);
        assert!(leader.join().unwrap_err().is::<Goexit>(), "its own");
        assert_eq!(channel.recv(), Err(RecvError), "it has none to call");
        waiting.into_iter().for_each(|caller| assert_eq!(caller.join().unwrap(), 7));
        assert!((1..=6).contains(&n_called.load(Ordering::Relaxed)));
        assert_eq!(format!("{group:?}"), "Group { calls: 0, callers: 0 }");

        // The call's own function ends: in its caller's goroutine, or in a goroutine of its own.
        let text = panic_text(|| _ = group.run_ctx(&Context::background(), "key", || goexit()));
        assert_eq!(
            text,
            "singleflight: the function did not return: it ended its goroutine by goexit, or its runtime was dropped"
        );
        assert_eq!(group.run_chan("key", || goexit()).recv(), Err(RecvError));
        assert_eq!(group.run("key", || 1).value, 1, "the key is free");
    });
}

/// The other ways to wait for goroutines treat it as an ordinary end.
#[test]
fn waits_for_goroutines_go_on() {
    with_workers(|| {
        let wg = goby::sync::WaitGroup::new();
        wg.go(|| goexit());
        wg.wait();
        goby::scope(|s| _ = s.go(|| goexit()));
        assert!(go(|| goexit()).join().unwrap_err().is::<Goexit>());
        let once = Arc::new(Once::new());
        let exits = once.clone();
        assert!(go(move || exits.call_once(|| goexit())).join().is_err());
        assert_eq!(
            panic_text(|| once.call_once(|| ())),
            "sync: the function of this Once ended its goroutine by goexit"
        );
    });
}
