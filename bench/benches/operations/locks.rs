//! `goby::sync`, uncontended, and contended by eight goroutines.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::Criterion;
use goby::sync::{Cond, Mutex, Once, OnceCell, RwLock, Semaphore, WaitGroup};
use goby::{Context, go, scope, yield_now};

/// `n` operations of eight goroutines at once.
fn by_eight(n: u64, operation: impl Fn() + Sync) -> Duration {
    let start = Instant::now();
    scope(|s| {
        for i in 0..8 {
            let operation = &operation;
            s.go(move || {
                for _ in 0..n / 8 + u64::from(i < n % 8) {
                    operation();
                }
            });
        }
    });
    start.elapsed()
}

pub fn all(c: &mut Criterion) {
    let mut group = c.benchmark_group("sync");
    let mutex = Mutex::new(0);
    group.bench_function("mutex", |b| b.iter(|| *mutex.lock() += 1));
    group.bench_function("mutex_try_lock", |b| b.iter(|| *mutex.try_lock().expect("nobody holds it") += 1));
    group.bench_function("mutex_held_across_a_yield_8", |b| {
        b.iter_custom(|n| {
            by_eight(n, || {
                let mut held = mutex.lock();
                yield_now();
                *held += 1;
            })
        });
    });
    let rwlock = RwLock::new(0);
    group.bench_function("rwlock_read", |b| b.iter(|| *rwlock.read()));
    group.bench_function("rwlock_write", |b| b.iter(|| *rwlock.write() += 1));
    group.bench_function("rwlock_read_8", |b| b.iter_custom(|n| by_eight(n, || _ = black_box(*rwlock.read()))));
    group.bench_function("rwlock_write_8", |b| b.iter_custom(|n| by_eight(n, || *rwlock.write() += 1)));

    let once = Once::new();
    group.bench_function("once_done", |b| b.iter(|| once.call_once(|| ())));
    let cell = OnceCell::new();
    group.bench_function("once_cell_get_or_init", |b| b.iter(|| *cell.get_or_init(|| 7)));

    let wg = WaitGroup::new();
    group.bench_function("wait_group_add_done_wait", |b| {
        b.iter(|| {
            wg.add(1);
            wg.done();
            wg.wait();
        });
    });
    group.bench_function("wait_group_go_wait", |b| {
        b.iter(|| {
            wg.go(|| ());
            wg.wait();
        });
    });

    let (semaphore, ctx) = (Semaphore::new(4), Context::background());
    group.bench_function("semaphore", |b| b.iter(|| semaphore.acquire(&ctx, 1).expect("the background never ends")));
    group.bench_function("semaphore_8", |b| {
        b.iter_custom(|n| by_eight(n, || drop(semaphore.acquire(&ctx, 1).expect("the background never ends"))));
    });

    group.bench_function("cond_round_trip", |b| {
        b.iter_custom(|n| {
            static STATE: (Mutex<u64>, Cond) = (Mutex::new(0), Cond::new());
            let (turn, changed) = &STATE;
            *turn.lock() = 0;
            let take_turns = move |mine| {
                for i in 0..n {
                    let mut turn = changed.wait_while(turn.lock(), |turn| *turn != 2 * i + mine);
                    *turn += 1;
                    changed.signal();
                }
            };
            let start = Instant::now();
            let other = go(move || take_turns(1));
            take_turns(0);
            other.join().expect("it only takes turns");
            start.elapsed()
        });
    });
}
