//! Data races, and what orders accesses.

use std::sync::Arc;

use goby::sync::{Mutex, RwLock, WaitGroup};
use goby::{chan, go};
use goby_check::sync::atomic::{AtomicBool, Ordering, fence};
use goby_check::{Config, FailureKind, RaceCell};

#[track_caller]
fn races(program: impl Fn() + Send + Sync + 'static) {
    let failure = Config::random(1000).seed(1).run(program).expect_err("no race found");
    assert_eq!(failure.kind(), FailureKind::Race, "{failure}");
    assert!(failure.comes_back(), "{failure}");
    assert!(failure.message().starts_with("data race: "), "{failure}");
}

#[track_caller]
fn is_ordered(program: impl Fn() + Send + Sync + Clone + 'static) {
    for config in [Config::random(1000).seed(1), Config::pct(3, 1000).seed(1), Config::pos(1000).seed(1)] {
        if let Err(failure) = config.run(program.clone()) {
            panic!("{failure}");
        }
    }
}

/// One goroutine writes and then publishes, the other waits for that and reads.
fn published(publish: impl Fn(&Shared) + Send + 'static, look: impl Fn(&Shared) -> bool) {
    let shared = Arc::new(Shared { cell: RaceCell::new(0), flag: AtomicBool::new(false) });
    let theirs = shared.clone();
    let other = go(move || {
        theirs.cell.set(1);
        publish(&theirs);
    });
    while !look(&shared) {
        goby::yield_now();
    }
    assert_eq!(shared.cell.get(), 1);
    other.join().unwrap();
}

struct Shared {
    cell: RaceCell<u32>,
    flag: AtomicBool,
}

#[test]
fn a_flag_publishes_what_its_orderings_say() {
    let load = |order| move |shared: &Shared| shared.flag.load(order);
    let store = |order| move |shared: &Shared| shared.flag.store(true, order);
    is_ordered(move || published(store(Ordering::Release), load(Ordering::Acquire)));
    is_ordered(move || published(store(Ordering::SeqCst), load(Ordering::SeqCst)));
    races(move || published(store(Ordering::Relaxed), load(Ordering::Acquire)));
    races(move || published(store(Ordering::Release), load(Ordering::Relaxed)));
    is_ordered(move || {
        let release = |shared: &Shared| {
            fence(Ordering::Release);
            shared.flag.store(true, Ordering::Relaxed);
        };
        let acquire = |shared: &Shared| {
            let is_set = shared.flag.load(Ordering::Relaxed);
            fence(Ordering::Acquire);
            is_set
        };
        published(release, acquire);
    });
}

#[test]
fn a_lock_orders() {
    is_ordered(|| {
        let shared = Arc::new((Mutex::new(()), RaceCell::new(0)));
        let add = |shared: &(Mutex<()>, RaceCell<u32>)| {
            let _held = shared.0.lock();
            shared.1.with_mut(|n| *n += 1);
        };
        let others: Vec<_> = (0..3)
            .map(|_| {
                let theirs = shared.clone();
                go(move || add(&theirs))
            })
            .collect();
        add(&shared);
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(shared.1.get(), 4);
    });
}

#[test]
fn two_locks_do_not() {
    races(|| {
        let shared = Arc::new((Mutex::new(()), Mutex::new(()), RaceCell::new(0)));
        let theirs = shared.clone();
        let other = go(move || {
            let _held = theirs.0.lock();
            theirs.2.set(1);
        });
        {
            let _held = shared.1.lock();
            shared.2.set(2);
        }
        other.join().unwrap();
    });
}

#[test]
fn readers_of_a_lock_do_not_race_with_each_other_but_with_a_writer() {
    is_ordered(|| {
        let shared = Arc::new((RwLock::new(()), RaceCell::new(0)));
        let theirs = shared.clone();
        let reader = go(move || {
            let _held = theirs.0.read();
            theirs.1.get()
        });
        let theirs = shared.clone();
        let writer = go(move || {
            let _held = theirs.0.write();
            theirs.1.set(1);
        });
        {
            let _held = shared.0.read();
            shared.1.get();
        }
        reader.join().unwrap();
        writer.join().unwrap();
    });
    races(|| {
        let shared = Arc::new((RwLock::new(()), RaceCell::new(0)));
        let theirs = shared.clone();
        let reader = go(move || {
            let _held = theirs.0.read();
            theirs.1.set(1);
        });
        {
            let _held = shared.0.read();
            shared.1.set(2);
        }
        reader.join().unwrap();
    });
}

#[test]
fn channels_joins_and_groups_order() {
    for capacity in [0, 1, 4] {
        is_ordered(move || {
            let cell = Arc::new(RaceCell::new(0));
            let theirs = cell.clone();
            let (sender, receiver) = chan::bounded(capacity);
            let other = go(move || {
                theirs.set(1);
                sender.send(()).unwrap();
            });
            receiver.recv().unwrap();
            cell.set(2);
            other.join().unwrap();
        });
    }
    is_ordered(|| {
        let cell = Arc::new(RaceCell::new(0));
        cell.set(1);
        let theirs = cell.clone();
        go(move || theirs.set(2)).join().unwrap();
        cell.set(3);
    });
    is_ordered(|| {
        let (group, cell) = (WaitGroup::new(), Arc::new(RaceCell::new(0)));
        let theirs = cell.clone();
        group.go(move || theirs.set(1));
        group.wait();
        cell.set(2);
    });
    races(|| {
        let cell = Arc::new(RaceCell::new(0));
        let theirs = cell.clone();
        let other = go(move || theirs.set(1));
        cell.set(2);
        other.join().unwrap();
    });
}

#[test]
fn reads_alone_do_not_race() {
    is_ordered(|| {
        let cell = Arc::new(RaceCell::new(7));
        let theirs = cell.clone();
        let other = go(move || theirs.get());
        assert_eq!(cell.get(), 7);
        assert_eq!(other.join().unwrap(), 7);
    });
}

#[test]
fn without_a_check_it_is_a_cell() {
    let mut flag = AtomicBool::new(false);
    flag.store(true, Ordering::SeqCst);
    assert!(*flag.get_mut());
    let cell = RaceCell::new(1);
    cell.set(2);
    assert_eq!((cell.get(), cell.into_inner()), (2, 2));
}
