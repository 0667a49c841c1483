//! Lines 293 to 323: the goroutine's life cycle, and leaks. Tests that end a process are in
//! `diag/child.rs`, and in the runtime's own tests (`deadlock`, `goexit`, `panics`, `scope`).
//!
//! The tests keep the other ends of channels alive on purpose: in goby, dropping them would end the
//! wait. Lines 325 and 327 are in the runtime's `goroutines`.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use goby::chan::{self, Receiver, Sender};
use goby::diag::{self, GoroutineInfo, LeakFinder, LeakGuard, Leaks};
use goby::sync::{Mutex, WaitGroup};
use goby::{Context, Runtime, go, num_goroutines, scope, select};

use crate::support::{on_workers, with_workers, with_workers_leaving};

/// Returns what a finder found, as sorted wait reasons.
pub(crate) fn reasons(found: Result<(), Leaks>) -> Vec<String> {
    let leaks = found.err().map(|leaks| leaks.goroutines().to_vec()).unwrap_or_default();
    let mut reasons: Vec<String> = leaks.iter().map(|info| info.status().to_string()).collect();
    reasons.sort_unstable();
    reasons
}

/// Runs `body` under its own guard, and returns the wait reasons of the goroutines that it leaks.
pub(crate) fn leaks_of(body: impl FnOnce()) -> Vec<String> {
    let guard = LeakGuard::new();
    body();
    reasons(guard.check())
}

/// Waits forever in a goroutine that keeps `kept` alive.
pub(crate) fn stuck<T: Send + 'static>(kept: T, wait: impl FnOnce(&T) + Send + 'static) {
    go(move || wait(&kept));
}

/// Leaves a goroutine that locks its mutex twice.
pub(crate) fn lock_twice() {
    stuck(Mutex::new(()), |mutex| {
        let _first = mutex.lock();
        drop(mutex.lock());
    });
}

/// Leaves `n` goroutines that each wait for the next one, and one behind them that sleeps for an
/// hour.
pub(crate) fn chain_to_a_sleeper(n: usize) {
    let (mut next, rx) = chan::bounded::<()>(0);
    stuck(rx, |rx| _ = rx.recv());
    for _ in 1..n {
        let (tx, rx) = chan::bounded::<()>(0);
        let to = std::mem::replace(&mut next, tx);
        go(move || {
            rx.recv().unwrap();
            to.send(())
        });
    }
    go(move || {
        goby::time::sleep(Duration::from_secs(3600));
        next.send(())
    });
}

#[test]
fn c293_a_dump_shows_users_goroutines_only() {
    let runtime = Runtime::builder().workers(2).build().unwrap();
    runtime.run(|| {
        let _timer = goby::time::after_func(Duration::from_secs(3600), || ());
        assert_eq!(num_goroutines(), 1);
        let infos = diag::goroutines();
        assert_eq!(infos.len(), 1);
        assert_eq!(infos[0].status(), diag::Status::Running);
    });
}

#[test]
fn c297_nil_channels() {
    with_workers_leaving(2, || {
        let found = leaks_of(|| {
            go(|| chan::never::<u32>().recv());
            go(|| Sender::<u32>::never().send(1));
        });
        assert_eq!(found, ["chan receive (nil chan)", "chan send (nil chan)"]);
    });
}

#[test]
fn c299_channels_that_nobody_else_holds() {
    with_workers_leaving(2, || {
        let found = leaks_of(|| {
            stuck(chan::bounded::<u32>(0), |(_tx, rx)| _ = rx.recv());
            stuck(chan::bounded::<u32>(0), |(tx, _rx)| _ = tx.send(1));
        });
        assert_eq!(found, ["chan receive", "chan send"]);
    });
}

/// Without the other end there is no leak: the wait ends.
#[test]
fn c299_dropped_ends_leak_nothing() {
    with_workers(|| {
        let found = leaks_of(|| {
            let (tx, rx) = chan::bounded::<u32>(0);
            go(move || rx.recv());
            drop(tx);
            let (tx, rx) = chan::bounded::<u32>(0);
            go(move || tx.send(1));
            drop(rx);
        });
        assert!(found.is_empty(), "{found:?}");
    });
}

#[test]
fn c301_self_deadlocked_mutexes() {
    let n = 1000;
    with_workers_leaving(n, || {
        let found = leaks_of(|| (0..n).for_each(|_| lock_twice()));
        assert_eq!(found, vec!["sync.Mutex.Lock"; n]);
    });
}

#[test]
fn c303_a_parent_waits_for_a_child_that_is_stuck() {
    with_workers_leaving(2, || {
        let found = leaks_of(|| {
            go(|| {
                let wg = WaitGroup::new();
                let (tx, rx) = chan::bounded(0);
                let child = wg.clone();
                wg.add(1);
                go(move || {
                    tx.send(1).unwrap();
                    child.done();
                });
                wg.wait();
                drop(rx);
            });
        });
        assert_eq!(found, ["chan send", "sync.WaitGroup.Wait"]);
    });
}

/// A chain with a tail that sleeps is freed in the end; nothing is reported.
#[test]
fn c305_a_chain_that_a_timer_frees() {
    with_workers_leaving(1001, || {
        let found = leaks_of(|| chain_to_a_sleeper(1000));
        assert!(found.is_empty(), "{found:?}");
    });
}

/// The same, but the timer is behind a channel or a context.
#[test]
fn c305_timers_behind_channels_and_contexts() {
    with_workers_leaving(4, || {
        let hour = Duration::from_secs(3600);
        let found = leaks_of(|| {
            let later = goby::time::after(hour);
            go(move || later.recv());
            let (ctx, cancel) = Context::background().with_timeout(hour);
            let ours = ctx.clone();
            go(move || {
                let _cancel = cancel;
                let _ = ours.done().recv();
            });
            let mutex = Arc::new(Mutex::new(()));
            let ours = mutex.clone();
            std::mem::forget(mutex.lock());
            let waits = ctx.clone();
            go(move || drop(ours.lock_ctx(&waits)));
            go(move || {
                select! {
                    recv(chan::never::<u32>()) -> _ => {},
                    recv(ctx.done()) -> _ => {},
                }
            });
        });
        assert!(found.is_empty(), "{found:?}");
    });
}

#[test]
fn c307_a_worker_that_is_never_stopped() {
    with_workers_leaving(1, || {
        let found = leaks_of(|| {
            let (jobs, input) = chan::bounded::<u32>(0);
            let (stop, stopped) = chan::bounded::<()>(0);
            go(move || {
                // Nobody calls stop.
                let _stop = stop;
                let _jobs = jobs.clone();
                let worker = go(move || {
                    let mut n = 0;
                    loop {
                        select! {
                            recv(input) -> _ => n += 1,
                            recv(stopped) -> _ => return n,
                        }
                    }
                });
                (0..10).for_each(|job| jobs.send(job).unwrap());
                // Kept, so that the ends stay open.
                std::mem::forget((_stop, _jobs, jobs, worker));
            });
        });
        assert_eq!(found, ["select"]);
    });
}

#[test]
fn c307_a_double_send() {
    let double_send = |capacity| {
        leaks_of(move || {
            let (tx, rx) = chan::bounded(capacity);
            go(move || {
                let _keeps_open = rx.clone();
                let sender = go(move || {
                    tx.send(1).unwrap();
                    tx.send(2).unwrap();
                });
                assert_eq!(rx.recv(), Ok(1));
                std::mem::forget((rx, _keeps_open, sender));
            });
        })
    };
    with_workers_leaving(1, || assert_eq!(double_send(0), ["chan send"]));
    with_workers(|| assert!(double_send(1).is_empty()));
}

#[test]
fn c309_a_result_that_nobody_takes_any_more() {
    let rounds = |capacity: usize| {
        leaks_of(move || {
            let (ctx, cancel) = Context::background().with_cancel();
            cancel.cancel();
            for _ in 0..100 {
                let (tx, rx): (Sender<u32>, Receiver<u32>) = chan::bounded(capacity);
                let keeps_open = rx.clone();
                go(move || {
                    let _keeps_open = keeps_open;
                    tx.send(1)
                });
                select! {
                    recv(rx) -> _ => {},
                    recv(ctx.done()) -> _ => {},
                }
            }
        })
    };
    // The number is random: a select chooses between a sender that is there and a context that is
    // done.
    on_workers_leaving_some(|| {
        let found = rounds(0);
        assert!(!found.is_empty() && found.iter().all(|reason| reason == "chan send"), "{found:?}");
    });
    with_workers(|| assert!(rounds(1).is_empty()));
}

fn on_workers_leaving_some(test: impl Fn() + Send + Sync) {
    for workers in [1, 2, 4] {
        Runtime::builder().workers(workers).report_leaks(false).build().unwrap().run(&test);
    }
}

/// The guard waits for a goroutine that is about to end.
#[test]
fn c311_the_finder_looks_again() {
    with_workers(|| {
        let guard = LeakGuard::new();
        let (tx, rx) = chan::bounded::<()>(0);
        go(move || rx.recv());
        // The opener is not of the guard's family, so that all goroutines of the family are stuck.
        let opener = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(1));
            drop(tx);
        });
        assert!(guard.check().is_ok());
        goby::blocking(|| opener.join()).unwrap();
    });
}

#[test]
fn c313_ignore_current() {
    with_workers_leaving(1, || {
        let (tx, rx) = chan::bounded::<()>(0);
        let early: Vec<_> = (0..5)
            .map(|_| {
                go({
                    let rx = rx.clone();
                    move || rx.recv()
                })
            })
            .collect();
        let finder = LeakFinder::new().ignore_current();
        assert!(finder.find().is_ok());
        drop(tx);
        early.into_iter().for_each(|handle| drop(handle.join()));
        // Their ids are not used again: five later ones are not taken for them.
        let (tx, rx) = chan::bounded::<()>(0);
        let late: Vec<_> = (0..5)
            .map(|_| {
                go({
                    let rx = rx.clone();
                    move || rx.recv()
                })
            })
            .collect();
        assert_eq!(reasons(finder.find()), ["chan receive"; 5]);
        drop(tx);
        late.into_iter().for_each(|handle| drop(handle.join()));
        assert!(finder.find().is_ok());
        go(|| chan::never::<()>().recv());
        assert_eq!(reasons(finder.find()), ["chan receive (nil chan)"]);
    });
}

/// A listing shows the blocked ones and its maker; 101 goroutines 101 calls deep are all there,
/// with their frames.
#[test]
fn c317_a_listing_is_complete() {
    with_workers(|| {
        let (tx, rx) = chan::bounded::<()>(0);
        let blocked: Vec<_> = (0..5)
            .map(|_| {
                go({
                    let rx = rx.clone();
                    move || rx.recv()
                })
            })
            .collect();
        crate::support::wait_until("all to block", || waiting().len() == 5);
        let mut ids: Vec<_> = blocked.iter().map(|handle| handle.id()).collect();
        let listing = diag::goroutines();
        ids.push(goby::goroutine::id().unwrap());
        ids.sort();
        assert_eq!(listing.iter().map(GoroutineInfo::id).collect::<Vec<_>>(), ids);
        drop(tx);
        blocked.into_iter().for_each(|handle| drop(handle.join()));
    });
    #[inline(never)]
    fn deep(n: u32, rx: &Receiver<()>) -> u32 {
        let below = if n > 1 { deep(n - 1, rx) } else { rx.recv().is_err().into() };
        std::hint::black_box(below + 1)
    }
    on_workers(2, 0, || {
        let (tx, rx) = chan::bounded::<()>(0);
        let deep_ones: Vec<_> = (0..101)
            .map(|_| {
                go({
                    let rx = rx.clone();
                    move || deep(101, &rx)
                })
            })
            .collect();
        crate::support::wait_until("all to block", || waiting().len() == 101);
        let text = diag::dump().to_string();
        for info in waiting() {
            let frames = info.stack().unwrap().frames();
            let depth = frames.iter().filter(|frame| frame.function.ends_with("deep")).count();
            assert_eq!(depth, 101, "{text}");
        }
        drop(tx);
        deep_ones.into_iter().for_each(|handle| assert_eq!(handle.join().unwrap(), 102));
    });
}

fn waiting() -> Vec<GoroutineInfo> {
    diag::goroutines().into_iter().filter(|info| info.waited().is_some()).collect()
}

#[test]
fn c319_a_scope_raises_one_panic_and_lets_the_others_run() {
    with_workers(|| {
        let done = AtomicUsize::new(0);
        let raised = catch_unwind(AssertUnwindSafe(|| {
            scope(|s| {
                s.go(|| done.fetch_add(1, Ordering::Relaxed));
                s.go(|| panic!("super bad thing"));
                s.go(|| panic!("another bad thing"));
                s.go(|| done.fetch_add(1, Ordering::Relaxed));
            });
        }));
        let text = *raised.unwrap_err().downcast::<&str>().unwrap();
        assert!(text.ends_with("bad thing"), "{text}");
        assert_eq!(done.into_inner(), 2);
    });
}

/// The payload of a panic stays the same when it is caught, kept and raised again.
#[test]
fn c321_a_caught_panic_stays_what_it_was() {
    with_workers(|| {
        let caught: Vec<_> = (0..100)
            .filter_map(|i| {
                catch_unwind(|| {
                    if i == 50 {
                        panic!("{i}")
                    }
                })
                .err()
            })
            .collect();
        assert_eq!(caught.len(), 1);
        assert_eq!(caught[0].downcast_ref::<String>().unwrap(), "50");
        let error = std::io::Error::other("inspectable");
        let joined = go(move || -> () { std::panic::panic_any(error) }).join().unwrap_err();
        let raised = catch_unwind(AssertUnwindSafe(|| resume_unwind(joined.into_payload()))).unwrap_err();
        assert_eq!(raised.downcast::<std::io::Error>().unwrap().to_string(), "inspectable");
    });
}

/// Results keep their places, and every error is kept.
#[test]
fn c323_a_parallel_map_with_errors() {
    fn parallel_map(numbers: &[i32], bad: &[i32]) -> (Vec<i32>, Vec<String>) {
        let errors = Mutex::new(Vec::new());
        let mut results = vec![0; numbers.len()];
        scope(|s| {
            for (result, n) in results.iter_mut().zip(numbers) {
                let errors = &errors;
                s.go(move || {
                    if bad.contains(n) {
                        errors.lock().push(format!("{n} is bad"));
                    } else {
                        *result = n + 1;
                    }
                });
            }
        });
        let mut errors = errors.into_inner();
        errors.sort();
        (results, errors)
    }
    with_workers(|| {
        assert_eq!(parallel_map(&[1, 2, 3, 4, 5], &[3]), (vec![2, 3, 0, 5, 6], vec!["3 is bad".to_string()]));
        let (results, errors) = parallel_map(&[1, 2, 3, 4, 5], &[3, 4]);
        assert_eq!((results, errors), (vec![2, 3, 0, 0, 6], vec!["3 is bad".to_string(), "4 is bad".to_string()]));
    });
}
