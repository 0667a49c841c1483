//! Classical mistakes, each found within so many random schedules, and their mended forms, which
//! are left alone.

use std::sync::Arc;
use std::time::Duration;

use goby::sync::{Cond, Mutex, RwLock, Semaphore, WaitGroup};
use goby::{Context, chan, go, select};
use goby_check::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use goby_check::{Config, FailureKind};

const WITHIN: u64 = 1000;

/// Finds a mistake by each way to choose, with one seed that is not a lucky one.
#[track_caller]
fn found<T>(kind: FailureKind, program: impl Fn() -> T + Send + Sync + Clone + 'static) {
    for config in ways() {
        let failure = config.clone().run(program.clone()).expect_err(&format!("nothing found by {config:?}"));
        assert_eq!(failure.kind(), kind, "{failure}");
        assert!(failure.comes_back(), "{failure}");
    }
}

#[track_caller]
fn silent<T>(program: impl Fn() -> T + Send + Sync + Clone + 'static) {
    for config in ways() {
        if let Err(failure) = config.run(program.clone()) {
            panic!("{failure}");
        }
    }
}

fn ways() -> [Config; 4] {
    [
        Config::random(WITHIN).seed(1),
        Config::pct(3, WITHIN).seed(2),
        Config::uniform(WITHIN).seed(3),
        Config::pos(WITHIN).seed(4),
    ]
}

#[test]
fn check_then_act() {
    let withdraw = |balance: &Mutex<i32>| {
        let before = *balance.lock();
        *balance.lock() = before - 10;
    };
    found(FailureKind::Panic, move || {
        let balance = Arc::new(Mutex::new(100));
        let theirs = balance.clone();
        let other = go(move || withdraw(&theirs));
        withdraw(&balance);
        other.join().unwrap();
        assert_eq!(*balance.lock(), 80);
    });
    silent(|| {
        let balance = Arc::new(Mutex::new(100));
        let theirs = balance.clone();
        let other = go(move || *theirs.lock() -= 10);
        *balance.lock() -= 10;
        other.join().unwrap();
        assert_eq!(*balance.lock(), 80);
    });
}

fn two_locks(same_order: bool) {
    let locks = Arc::new((Mutex::new(()), Mutex::new(())));
    let theirs = locks.clone();
    let other = go(move || {
        let (first, second) = if same_order { (&theirs.0, &theirs.1) } else { (&theirs.1, &theirs.0) };
        let _first = first.lock();
        let _second = second.lock();
    });
    {
        let _first = locks.0.lock();
        let _second = locks.1.lock();
    }
    other.join().unwrap();
}

#[test]
fn locks_in_opposite_orders() {
    found(FailureKind::Deadlock, || two_locks(false));
    silent(|| two_locks(true));
}

#[test]
fn a_lost_wakeup() {
    fn program(is_set_under_lock: bool) {
        let pair = Arc::new((Mutex::new(()), Cond::new(), AtomicBool::new(false)));
        let theirs = pair.clone();
        let other = go(move || {
            let (lock, cond, is_ready) = &*theirs;
            let guard = is_set_under_lock.then(|| lock.lock());
            is_ready.store(true, Ordering::SeqCst);
            cond.signal();
            drop(guard);
        });
        let (lock, cond, is_ready) = &*pair;
        let mut guard = lock.lock();
        while !is_ready.load(Ordering::SeqCst) {
            guard = cond.wait(guard);
        }
        drop(guard);
        other.join().unwrap();
    }
    found(FailureKind::Deadlock, || program(false));
    silent(|| program(true));
}

#[test]
fn a_channel_closed_twice() {
    fn program(with_flag: bool) {
        let closed = Arc::new(AtomicUsize::new(0));
        let end = |closed: &AtomicUsize, with_flag| {
            if with_flag {
                _ = closed.compare_exchange(0, 1, Ordering::SeqCst, Ordering::SeqCst);
            } else if closed.load(Ordering::SeqCst) == 0 {
                closed.fetch_add(1, Ordering::SeqCst);
            }
        };
        let theirs = closed.clone();
        let other = go(move || end(&theirs, with_flag));
        end(&closed, with_flag);
        other.join().unwrap();
        assert_eq!(closed.load(Ordering::SeqCst), 1, "closed twice");
    }
    found(FailureKind::Panic, || program(false));
    silent(|| program(true));
}

/// The sender of a result that nobody waits for any longer.
#[test]
fn a_send_after_an_early_return() {
    fn program(capacity: usize) {
        let (sender, receiver) = chan::bounded(capacity);
        // Kept: the receiver is alive, and nobody receives.
        let kept = receiver.clone();
        go(move || {
            sender.send(1).unwrap();
            drop(kept);
        });
        select! {
            recv(receiver) -> value => assert_eq!(value, Ok(1)),
            default => {}
        }
    }
    found(FailureKind::Leak, || program(0));
    silent(|| program(1));
}

#[test]
fn a_group_that_counts_inside_its_goroutine() {
    fn program(counts_before: bool) {
        let group = WaitGroup::new();
        let done = Arc::new(AtomicBool::new(false));
        let (theirs, their_done) = (group.clone(), done.clone());
        if counts_before {
            group.add(1);
        }
        let other = go(move || {
            if !counts_before {
                theirs.add(1);
            }
            their_done.store(true, Ordering::SeqCst);
            theirs.done();
        });
        group.wait();
        assert!(done.load(Ordering::SeqCst), "did not wait");
        other.join().unwrap();
    }
    found(FailureKind::Panic, || program(false));
    silent(|| program(true));
}

#[test]
fn a_read_lock_taken_again_while_a_writer_waits() {
    fn program(twice: bool) {
        let lock = Arc::new(RwLock::new(0));
        let theirs = lock.clone();
        let other = go(move || *theirs.write() = 1);
        {
            let first = lock.read();
            let second = twice.then(|| lock.read());
            assert_eq!(*first, second.map_or(*first, |second| *second));
        }
        other.join().unwrap();
    }
    found(FailureKind::Deadlock, || program(true));
    silent(|| program(false));
}

#[test]
fn a_permit_lost_on_an_early_return() {
    fn program(returns_it: bool) {
        let semaphore = Semaphore::new(1);
        let work = move |semaphore: &Semaphore, fails: bool| {
            let permit = semaphore.take(1);
            if fails && !returns_it {
                permit.forget();
            }
        };
        let theirs = semaphore.clone();
        let other = go(move || work(&theirs, true));
        work(&semaphore, false);
        other.join().unwrap();
    }
    found(FailureKind::Deadlock, || program(false));
    silent(|| program(true));
}

#[test]
fn a_goroutine_that_nobody_cancels() {
    fn program(cancels: bool) {
        let (ctx, cancel) = Context::background().with_cancel();
        go(move || _ = ctx.done().recv());
        if cancels {
            drop(cancel);
        } else {
            cancel.disarm();
        }
    }
    found(FailureKind::Leak, || program(false));
    silent(|| program(true));
}

#[test]
fn a_panic_that_nobody_joins() {
    found(FailureKind::Panic, || {
        let flag = Arc::new(AtomicBool::new(false));
        let theirs = flag.clone();
        drop(go(move || assert!(!theirs.load(Ordering::SeqCst), "too late")));
        flag.store(true, Ordering::SeqCst);
    });
    silent(|| {
        let other = go(|| panic!("seen"));
        assert!(other.join().is_err());
    });
}

#[test]
fn a_loop_without_an_end() {
    for config in ways() {
        let failure = config.max_steps(1000).run(|| {
            let flag = AtomicBool::new(false);
            while !flag.load(Ordering::SeqCst) {
                goby::yield_now();
            }
        });
        assert_eq!(failure.unwrap_err().kind(), FailureKind::Steps);
    }
}

/// A goroutine that looks again and again lets the one that it looks for run.
#[test]
fn looking_in_vain() {
    silent(|| {
        let (sender, receiver) = chan::bounded(1);
        go(move || sender.send(1).unwrap());
        let mut n = 0;
        while receiver.try_recv().is_err() {
            n += 1;
            assert!(n < 1000, "the sender starves");
        }
    });
}

#[test]
fn try_lock_is_refused_inside_a_critical_section() {
    found(FailureKind::Panic, || {
        let lock = Arc::new(Mutex::new(()));
        let theirs = lock.clone();
        let other = go(move || drop(theirs.lock()));
        assert!(lock.try_lock().is_some(), "held");
        other.join().unwrap();
    });
}

#[test]
fn time_moves_when_nothing_else_can() {
    silent(|| {
        let start = goby::now();
        let (ctx, _cancel) = Context::background().with_timeout(Duration::from_secs(60));
        let sleeper = go(|| goby::time::sleep(Duration::from_secs(3600)));
        assert!(ctx.done().recv().is_err());
        assert_eq!(goby::now() - start, Duration::from_secs(60));
        sleeper.join().unwrap();
        assert_eq!(goby::now() - start, Duration::from_secs(3600));
    });
}

#[test]
fn futures_are_run_too() {
    found(FailureKind::Panic, || {
        let flag = Arc::new(AtomicBool::new(false));
        let theirs = flag.clone();
        let task = goby::spawn(async move { theirs.load(Ordering::SeqCst) });
        flag.store(true, Ordering::SeqCst);
        assert!(!task.join().unwrap());
    });
    silent(|| {
        let (sender, receiver) = chan::bounded(0);
        let task = goby::spawn(async move { receiver.recv_async().await });
        sender.send(7).unwrap();
        assert_eq!(task.join().unwrap(), Ok(7));
    });
}
