//! What the leak detector says of a wait: whether a timer or a context ends it, and which family
//! the goroutine belongs to.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use goby::diag::{GoroutineInfo, LeakGuard, Status};
use goby::net::TcpListener;
use goby::sync::{Barrier, Mutex, Semaphore, WaitGroup};
use goby::time::{self, Ticker, Timer};
use goby::{Context, block_on_ctx, chan, diag, go, goroutine, select, spawn};
use goby_runtime::WaitReason;

use crate::support::{wait_until, with_workers_leaving};

const HOUR: Duration = Duration::from_secs(3600);

/// Checks that `n` goroutines are reported, and returns them.
fn check_leaked(guard: LeakGuard, n: usize) -> Vec<GoroutineInfo> {
    let leaks = guard.check().expect_err("they are leaked");
    assert_eq!(leaks.goroutines().len(), n, "{leaks}");
    leaks.goroutines().to_vec()
}

/// The goroutines of the runtime that wait. The caller runs.
fn waiting() -> Vec<GoroutineInfo> {
    diag::goroutines().into_iter().filter(|info| info.waited().is_some()).collect()
}

/// A timer that has fired and was read.
fn fired() -> Timer {
    let timer = Timer::new(Duration::from_nanos(1));
    timer.receiver().recv().unwrap();
    timer
}

#[test]
fn a_receive_from_a_timer_that_has_fired_is_a_leak() {
    with_workers_leaving(2, || {
        let guard = LeakGuard::new();
        go(|| fired().receiver().recv());
        go(|| {
            let timer = fired();
            select! {
                recv(timer.receiver()) -> _ => {},
                recv(chan::never::<u32>()) -> _ => {},
            }
        });
        let infos = check_leaked(guard, 2);
        assert!(infos.iter().all(|info| !info.has_deadline()), "{infos:?}");
    });
}

/// A timer is stopped while a goroutine waits for it. The wait is judged by the state now, not by
/// the state when it began.
#[test]
fn a_receive_from_a_timer_that_was_stopped_is_a_leak() {
    with_workers_leaving(3, || {
        let guard = LeakGuard::new();
        let (timer, ticker) = (Arc::new(Timer::new(HOUR)), Arc::new(Ticker::new(HOUR)));
        let (receives, ticks, selects) = (timer.clone(), ticker.clone(), timer.clone());
        go(move || receives.receiver().recv());
        go(move || ticks.receiver().recv());
        go(move || {
            select! {
                recv(selects.receiver()) -> _ => {},
                recv(chan::never::<u32>()) -> _ => {},
            }
        });
        wait_until("all to wait", || waiting().len() == 3);
        assert!(waiting().iter().all(GoroutineInfo::has_deadline));
        timer.stop();
        ticker.stop();
        check_leaked(guard, 3);
    });
}

#[test]
fn a_receive_from_a_timer_that_was_set_anew_is_no_leak() {
    with_workers_leaving(1, || {
        let guard = LeakGuard::new();
        let timer = Arc::new(fired());
        let waits = timer.clone();
        go(move || waits.receiver().recv());
        timer.reset(HOUR);
        guard.check().unwrap();
    });
}

/// A deadline of a socket ends a wait as long as it is set.
#[test]
fn a_wait_for_a_socket_is_judged_by_its_deadline() {
    with_workers_leaving(2, || {
        let guard = LeakGuard::new();
        let listeners = [(); 2].map(|()| Arc::new(TcpListener::bind("127.0.0.1:0").unwrap()));
        let (ctx, _cancel) = Context::background().with_timeout(HOUR);
        listeners[0].set_deadline(Some(goby::now() + HOUR));
        listeners[1].set_context(Some(&ctx));
        for listener in listeners.clone() {
            go(move || listener.accept().is_ok());
        }
        wait_until("both to wait", || waiting().len() == 2);
        assert!(waiting().iter().all(GoroutineInfo::has_deadline));
        assert_eq!(waiting().iter().filter(|info| info.is_reached_by_context()).count(), 1);
        listeners[0].set_deadline(None);
        listeners[1].set_context(None);
        wait_until("both to wait", || waiting().len() == 2);
        check_leaked(guard, 2);
    });
}

#[test]
fn a_future_is_awaited_until_its_context_is_done() {
    with_workers_leaving(2, || {
        let guard = LeakGuard::new();
        let (ctx, cancel) = Context::background().with_timeout(HOUR);
        go(move || {
            let _cancel = cancel;
            block_on_ctx(&ctx, std::future::pending::<()>())
        });
        guard.check().unwrap();
        let guard = LeakGuard::new();
        go(|| block_on_ctx(&Context::background(), std::future::pending::<()>()));
        let infos = check_leaked(guard, 1);
        assert!(!infos[0].is_reached_by_context());
    });
}

/// A spawned future may wait for a timer, or for something outside goby, and then free those that
/// wait for it: by `join`, or by a channel. Once it has ended the rest is judged as ever.
#[test]
fn beside_a_future_that_has_not_ended_only_proofs_count() {
    with_workers_leaving(2, || {
        let (stop, stopped) = chan::bounded::<()>(0);
        let (tx, rx) = chan::bounded::<()>(0);
        let task = spawn(async move {
            let _tx = tx;
            stopped.recv_async().await.unwrap_err();
        });
        let guard = LeakGuard::new();
        go(move || task.join().is_ok());
        go(move || rx.recv().is_err());
        let (held, waits) = chan::bounded::<()>(0);
        std::mem::forget(held);
        go(move || waits.recv().is_ok());
        wait_until("all to wait", || waiting().len() == 3);
        guard.check().unwrap();
        go(|| chan::never::<u32>().recv());
        wait_until("the proof", || diag::leaks().len() == 1);
        drop(stop);
        wait_until("the verdict", || waiting().len() == 2 && diag::leaks().len() == 2);
    });
}

/// A context that can never be done ends no wait; a context that can be done does.
#[test]
fn the_background_ends_no_wait() {
    with_workers_leaving(14, || {
        for (ctx, reaches) in [
            (Context::background(), false),
            (Context::background().with_value(1), false),
            (Context::background().with_cancel().0.without_cancel(), false),
        ]
        .into_iter()
        .chain({
            let (ctx, cancel) = Context::background().with_cancel();
            std::mem::forget(cancel);
            [(ctx, true)]
        }) {
            let guard = LeakGuard::new();
            let waits = |f: Box<dyn FnOnce(&Context) + Send>| {
                let ctx = ctx.clone();
                go(move || f(&ctx));
            };
            waits(Box::new(|ctx| {
                let semaphore = Semaphore::new(1);
                let _held = semaphore.try_acquire(1);
                drop(semaphore.acquire(ctx, 1));
            }));
            waits(Box::new(|ctx| drop(Semaphore::new(1).acquire(ctx, 2))));
            waits(Box::new(|ctx| {
                let mutex = Mutex::new(());
                let _held = mutex.lock();
                drop(mutex.lock_ctx(ctx));
            }));
            let infos = check_leaked(guard, 3);
            assert!(infos.iter().all(|info| info.is_reached_by_context() == reaches), "{reaches}: {infos:?}");
        }
        let guard = LeakGuard::new();
        go(|| Barrier::new(2).wait_ctx(&Context::background()).is_ok());
        go(|| {
            let wg = WaitGroup::new();
            wg.add(1);
            let _ = wg.wait_ctx(&Context::background());
        });
        let report = guard.check().unwrap_err().to_string();
        assert_eq!(report.matches("and no context reaches it").count(), 2, "{report}");
    });
}

/// A done channel carries nothing, but what carries nothing need not be a done channel.
#[test]
fn a_channel_of_nothing_is_no_context() {
    with_workers_leaving(3, || {
        let (tx, rx) = chan::bounded::<Infallible>(0);
        let [receives, times_out, selects] = [(); 3].map(|()| rx.clone());
        go(move || receives.recv().is_err());
        go(move || times_out.recv_timeout(HOUR).is_err());
        go(move || {
            select! {
                recv(selects) -> _ => {},
                recv(chan::never::<u32>()) -> _ => {},
            }
        });
        wait_until("all to wait", || waiting().len() == 3);
        let infos = waiting();
        let receiving = Status::Waiting(WaitReason::ChanReceive);
        assert_eq!(infos.iter().filter(|info| info.status() == receiving).count(), 2, "{infos:?}");
        assert!(infos.iter().all(|info| !info.is_reached_by_context()), "{infos:?}");
        std::mem::forget(tx);
    });
}

/// A wait in `after_func`'s goroutine belongs to the caller of `after_func`, not to the one that
/// fired the timer or canceled the context.
#[test]
fn a_goroutine_of_after_func_belongs_to_its_caller() {
    with_workers_leaving(2, || {
        let (tx, rx) = chan::bounded::<()>(0);
        // Never closed: if it were dropped here, the two would go on while they are counted.
        std::mem::forget(tx);
        let (ctx, cancel) = Context::background().with_cancel();
        let (now, when) = chan::bounded(0);
        // This goroutine is not of the family.
        let cancels = go(move || {
            when.recv().unwrap();
            cancel.cancel();
        });
        let guard = LeakGuard::new();
        let waits = rx.clone();
        time::after_func(Duration::ZERO, move || _ = waits.recv());
        let waits = rx.clone();
        ctx.after_func(move || _ = waits.recv());
        now.send(()).unwrap();
        cancels.join().unwrap();
        wait_until("both to be there", || waiting().len() == 2);
        check_leaked(guard, 2);
    });
}

#[test]
fn a_goroutine_of_after_func_inherits_labels() {
    with_workers_leaving(0, || {
        let (tx, rx) = chan::bounded(2);
        goroutine::with_labels([("request", "7")], || {
            let tell = tx.clone();
            time::after_func(Duration::ZERO, move || tell.send(goroutine::labels()).unwrap());
            let (ctx, cancel) = Context::background().with_cancel();
            ctx.after_func(move || tx.send(goroutine::labels()).unwrap());
            goroutine::Builder::new().label("request", "8").go(move || cancel.cancel()).join().unwrap();
        });
        let expected = [("request".to_string(), "7".to_string())];
        assert_eq!((rx.recv().unwrap(), rx.recv().unwrap()), (expected.to_vec(), expected.to_vec()));
    });
}

/// The texts come from the source: the type has no list of its values.
#[test]
fn the_guide_lists_every_wait_reason() {
    let read = |path: &str| std::fs::read_to_string(format!("{}/../../{path}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let page = read("crates/goby/src/docs/guide/production.md");
    let source = read("crates/goby-runtime/src/engine/wait_reason.rs");
    let text =
        |line: &'static str| line.trim().strip_prefix("WaitReason::")?.split_once(" => \"")?.1.strip_suffix("\",");
    let texts: Vec<&str> = source.leak().lines().filter_map(text).collect();
    assert!(texts.len() > 20, "{texts:?}");
    for text in texts {
        assert!(page.contains(&format!("`{text}`")), "{text} is not in the table");
    }
}
