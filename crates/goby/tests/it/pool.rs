//! Pools of connections: who gets what when, and that nothing is ever lost.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use goby::context::ContextError;
use goby::pool::{GetError, Pool, Pooled};
use goby::sync::Mutex;
use goby::{Context, chan, go, goexit, yield_now};

use crate::support::{MOMENT, on_workers, pause, size, wait_until, with_workers};

/// A connection that knows its number, and counts how many there are.
#[derive(Debug)]
struct Conn {
    number: usize,
    live: Arc<Live>,
}

#[derive(Debug, Default)]
struct Live {
    made: AtomicUsize,
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Live {
    fn connect(self: &Arc<Live>) -> Conn {
        self.most.fetch_max(1 + self.now.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
        Conn { number: self.made.fetch_add(1, Ordering::SeqCst), live: self.clone() }
    }

    fn now(&self) -> usize {
        self.now.load(Ordering::SeqCst)
    }

    fn made(&self) -> usize {
        self.made.load(Ordering::SeqCst)
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.live.now.fetch_sub(1, Ordering::SeqCst);
    }
}

fn pool(max_size: usize) -> (Pool<Conn, io::Error>, Arc<Live>) {
    let live = Arc::<Live>::default();
    let maker = live.clone();
    (Pool::builder(move || Ok(maker.connect())).max_size(max_size).build(), live)
}

fn until_waiting<T: Send + 'static, E>(pool: &Pool<T, E>, n: usize) {
    wait_until("requests to wait", || pool.stats().waiting == n);
}

#[test]
fn requests_are_served_in_turn_with_and_without_contexts() {
    with_workers(|| {
        let (pool, live) = pool(1);
        let (ctx, _cancel) = Context::background().with_timeout(Duration::from_secs(3600));
        let held = pool.get().unwrap();
        let served = Mutex::new(vec![]);
        goby::scope(|scope| {
            for n in 0..10 {
                let ctx = if n % 3 == 0 { Context::background() } else { ctx.clone() };
                let (pool, served) = (&pool, &served);
                scope.go(move || {
                    let _one = pool.get_ctx(&ctx).unwrap();
                    served.lock().push(n);
                });
                until_waiting(pool, n + 1);
            }
            pause(MOMENT);
            assert!(served.lock().is_empty());
            drop(held);
        });
        assert_eq!(served.into_inner(), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        let stats = pool.stats();
        assert_eq!((live.made(), stats.waits, stats.waiting, stats.in_use, stats.idle), (1, 10, 0, 0, 1));
        assert!(stats.wait_time >= 10 * MOMENT, "{stats:?}");
    });
}

/// What is given back while a request waits is for that request, though it has not come yet.
#[test]
fn a_newcomer_does_not_overtake() {
    on_workers(1, 0, || {
        let (pool, _) = pool(2);
        let (first, second) = (pool.get().unwrap(), pool.get().unwrap());
        let number = first.number;
        goby::scope(|scope| {
            let waiter = scope.go(|| pool.get().unwrap().number);
            until_waiting(&pool, 1);
            // The waiter is on this worker, so it runs only when this goroutine parks.
            drop(first);
            assert!(pool.try_get().unwrap().is_none());
            assert_eq!((pool.stats().size, pool.stats().in_use, pool.stats().idle), (2, 1, 1));
            Pooled::discard(second);
            let newcomer = pool.try_get().unwrap().unwrap();
            assert_eq!(newcomer.number, 2, "a new one");
            assert_eq!(waiter.join().unwrap(), number);
        });
        assert_eq!(pool.stats().idle, 2);
    });
}

#[test]
fn the_one_that_was_used_last_comes_first() {
    with_workers(|| {
        let (pool, live) = pool(3);
        let [a, b, c] = [pool.get(), pool.get(), pool.get()].map(Result::unwrap);
        let last = b.number;
        drop((a, c));
        drop(b);
        for _ in 0..10 {
            assert_eq!(pool.get().unwrap().number, last);
        }
        assert_eq!((live.made(), pool.stats().idle), (3, 3));
    });
}

/// A request that makes one holds no lock, however long that takes.
#[test]
fn while_one_is_made_the_pool_goes_on() {
    with_workers(|| {
        let (made, makes) = chan::bounded(0);
        let pool = Pool::builder(move || makes.recv()).max_size(2).build();
        goby::scope(|scope| {
            let slow = scope.go(|| *pool.get().unwrap());
            wait_until("it to be made", || pool.stats().in_use == 1);
            let other = scope.go(|| *pool.get().unwrap());
            wait_until("the other to be made", || pool.stats().in_use == 2);
            assert!(pool.try_get().unwrap().is_none());
            let waiter = scope.go(|| *pool.get().unwrap());
            until_waiting(&pool, 1);
            made.send(7).unwrap();
            // One of the two gives it back, and the waiter has it.
            assert_eq!(waiter.join().unwrap(), 7);
            assert_eq!((pool.stats().in_use, pool.stats().idle), (1, 1));
            assert_eq!(*pool.try_get().unwrap().unwrap(), 7);
            made.send(8).unwrap();
            assert_eq!(slow.join().unwrap() + other.join().unwrap(), 15);
        });
    });
}

#[test]
fn an_error_or_a_panic_of_making_frees_the_place() {
    with_workers(|| {
        let calls = AtomicUsize::new(0);
        let (go_on, goes_on) = chan::bounded::<()>(0);
        let make = move || {
            goes_on.recv().unwrap();
            match calls.fetch_add(1, Ordering::SeqCst) {
                0 => panic!("while making"),
                1 => Err("refused"),
                n => Ok(n),
            }
        };
        let pool = Pool::builder(make).max_size(1).build();
        let request = |n| {
            let begun = go({
                let pool = pool.clone();
                move || pool.get().map(|n| *n)
            });
            wait_until("a request to begin", || pool.stats().in_use + pool.stats().waiting == n);
            begun
        };
        let (first, second, third) = (request(1), request(2), request(3));
        go_on.send(()).unwrap();
        assert!(first.join().unwrap_err().to_string().contains("while making"));
        go_on.send(()).unwrap();
        assert_eq!(second.join().unwrap(), Err(GetError::Make("refused")));
        go_on.send(()).unwrap();
        assert_eq!(third.join().unwrap(), Ok(2));
        assert_eq!((pool.stats().size, pool.stats().idle, pool.stats().waiting), (1, 1, 0));
    });
}

/// What a panic or a goexit leaves is not lent again; the same for a check that panics or says no.
#[test]
fn broken_ones_are_replaced() {
    with_workers(|| {
        let live = Arc::<Live>::default();
        let (maker, verdict) = (live.clone(), Arc::new(AtomicUsize::new(0)));
        let says = verdict.clone();
        let pool = Pool::builder(move || Ok::<_, io::Error>(maker.connect())).max_size(1);
        let pool = pool.check(move |conn| match says.load(Ordering::SeqCst) {
            0 => true,
            1 => false,
            _ => panic!("while {} is checked", conn.number),
        });
        let pool = pool.build();
        let use_it = |use_it: fn()| {
            let pool = pool.clone();
            go(move || {
                let conn = pool.get().unwrap();
                use_it();
                conn.number
            })
            .join()
        };
        assert_eq!(use_it(|| ()).unwrap(), 0);
        assert!(use_it(|| panic!("in the middle of something")).is_err());
        assert_eq!(use_it(|| ()).unwrap(), 1);
        assert!(use_it(|| goexit()).is_err());
        assert_eq!(use_it(|| ()).unwrap(), 2);
        verdict.store(1, Ordering::SeqCst);
        assert_eq!(use_it(|| ()).unwrap(), 3);
        verdict.store(2, Ordering::SeqCst);
        assert!(use_it(|| ()).unwrap_err().to_string().contains("while 3 is checked"));
        assert_eq!(use_it(|| ()).unwrap(), 4, "a new one is not checked");
        let stats = pool.stats();
        assert_eq!((live.now(), stats.size, stats.idle, stats.broken_closed), (1, 1, 1, 4));
        // A panic that began before the request does not count.
        struct Uses(Pool<Conn, io::Error>, Arc<AtomicUsize>);
        impl Drop for Uses {
            fn drop(&mut self) {
                self.1.store(0, Ordering::SeqCst);
                drop(self.0.get());
            }
        }
        let uses = Uses(pool.clone(), verdict.clone());
        go(move || {
            let _uses = uses;
            panic!("elsewhere");
        })
        .join()
        .unwrap_err();
        assert_eq!((live.made(), pool.stats().idle), (5, 1));
    });
}

/// A neighbor that waits in a destructor during its own panic hides no later panic.
#[test]
fn a_panic_beside_one_that_unwinds_breaks_it() {
    struct Waits(chan::Receiver<()>);
    impl Drop for Waits {
        fn drop(&mut self) {
            // Until the sender is dropped.
            assert!(self.0.recv().is_err());
        }
    }
    on_workers(1, 0, || {
        let (pool, live) = pool(1);
        let (go_on, goes_on) = chan::bounded::<()>(0);
        let unwinds = go(move || {
            let _waits = Waits(goes_on);
            panic!("elsewhere");
        });
        wait_until("the neighbor to unwind", thread::panicking);
        let user = go({
            let pool = pool.clone();
            move || {
                let _conn = pool.get().unwrap();
                panic!("in the middle of something");
            }
        });
        assert!(user.join().is_err());
        let stats = pool.stats();
        drop(go_on);
        assert!(unwinds.join().is_err());
        assert_eq!((live.now(), stats.size, stats.broken_closed), (0, 0, 1));
    });
}

#[test]
fn a_request_that_gives_up_costs_nobody_anything() {
    with_workers(|| {
        let (pool, live) = pool(1);
        let held = pool.get().unwrap();
        let (ctx, cancel) = Context::background().with_cancel();
        goby::scope(|scope| {
            let gives_up = scope.go(|| pool.get_ctx(&ctx).map(drop).unwrap_err());
            until_waiting(&pool, 1);
            let stays = scope.go(|| pool.get().unwrap().number);
            until_waiting(&pool, 2);
            cancel.cancel();
            assert!(matches!(gives_up.join().unwrap(), GetError::Done(ContextError::Canceled)));
            assert_eq!(pool.stats().waiting, 1);
            drop(held);
            assert_eq!(stays.join().unwrap(), 0);
        });
        assert!(matches!(pool.get_ctx(&ctx), Err(GetError::Done(_))), "though one is free");
        assert_eq!((live.made(), pool.stats().idle, pool.stats().waits), (1, 1, 2));
    });
}

/// The holder gives back because of the end. The request gets nothing then, whoever hears first.
#[test]
fn a_grant_after_the_end_goes_back() {
    with_workers(|| {
        let (pool, _) = pool(1);
        let held = pool.get().unwrap();
        let (ctx, cancel) = Context::background().with_cancel();
        ctx.after_func(move || drop(held));
        goby::scope(|scope| {
            let waiter = scope.go(|| pool.get_ctx(&ctx).map(drop));
            until_waiting(&pool, 1);
            cancel.cancel();
            assert!(matches!(waiter.join().unwrap(), Err(GetError::Done(ContextError::Canceled))));
        });
        wait_until("it to be given back", || pool.stats().idle == 1);
    });
}

#[test]
fn closing_fails_requests_and_closes_what_is_given_back() {
    with_workers(|| {
        let (pool, live) = pool(2);
        let [used, idle] = [pool.get(), pool.get()].map(Result::unwrap);
        drop(idle);
        let other = pool.get().unwrap();
        let (ctx, _cancel) = Context::background().with_timeout(Duration::from_secs(3600));
        goby::scope(|scope| {
            let waiters = [Context::background(), ctx].map(|ctx| {
                let pool = &pool;
                scope.go(move || pool.get_ctx(&ctx).map(drop).unwrap_err())
            });
            until_waiting(&pool, 2);
            drop(other);
            pool.close();
            for waiter in waiters {
                // The first may have been served before.
                let _ = waiter.join().map(|error| assert!(matches!(error, GetError::Closed)));
            }
        });
        assert!(pool.is_closed());
        assert!(matches!(pool.get(), Err(GetError::Closed)) && matches!(pool.try_get(), Err(GetError::Closed)));
        assert_eq!((live.now(), pool.stats().size), (1, 1));
        drop(used);
        assert_eq!((live.now(), pool.stats().size, pool.stats().waiting), (0, 0, 0));
        pool.close();
    });
}

/// Each is closed, though closing one panics, and the first panic comes out.
#[test]
fn a_panic_while_one_is_closed_does_not_spare_the_others() {
    with_workers(|| {
        let closed = Arc::new(Mutex::new(vec![]));
        let notes = closed.clone();
        let made = AtomicUsize::new(0);
        let pool = Pool::builder(move || Ok::<_, ()>(made.fetch_add(1, Ordering::SeqCst))).max_size(5);
        let pool = pool.on_close(move |n| {
            notes.lock().push(n);
            assert!(n != 1 && n != 3, "while {n} is closed");
        });
        let pool = pool.build();
        let all: Vec<_> = (0..5).map(|_| pool.get().unwrap()).collect();
        drop(all);
        let closes = go({
            let pool = pool.clone();
            move || pool.close()
        });
        assert!(closes.join().unwrap_err().to_string().contains("while 1 is closed"));
        assert_eq!(*closed.lock(), [0, 1, 2, 3, 4]);
        assert_eq!(pool.stats().size, 0);
    });
}

/// The statistics count those that `close` is about to close.
#[test]
fn what_is_being_closed_with_the_pool_counts() {
    with_workers(|| {
        let (go_on, goes_on) = chan::bounded::<()>(0);
        let pool = Pool::builder(|| Ok::<_, ()>(())).max_size(2);
        let pool = pool.on_close(move |()| goes_on.recv().unwrap()).build();
        drop([pool.get(), pool.get()]);
        let closes = go({
            let pool = pool.clone();
            move || pool.close()
        });
        wait_until("the pool to be closed", || pool.is_closed());
        assert_eq!((pool.stats().size, pool.stats().in_use, pool.stats().idle), (2, 2, 0));
        go_on.send(()).unwrap();
        wait_until("one to be closed", || pool.stats().size == 1);
        go_on.send(()).unwrap();
        closes.join().unwrap();
        assert_eq!(pool.stats().size, 0);
    });
}

/// A request that finds that its one is broken, in a pool that was closed meanwhile.
#[test]
fn nothing_is_made_in_a_closed_pool() {
    with_workers(|| {
        let live = Arc::<Live>::default();
        let maker = live.clone();
        let (asks, asked) = chan::bounded::<()>(0);
        let (verdict, verdicts) = chan::bounded::<bool>(0);
        let pool = Pool::builder(move || Ok::<_, io::Error>(maker.connect())).max_size(1);
        let pool = pool.check(move |_| {
            asks.send(()).unwrap();
            verdicts.recv().unwrap()
        });
        let pool = pool.build();
        drop(pool.get());
        let request = go({
            let pool = pool.clone();
            move || pool.get().map(drop)
        });
        asked.recv().unwrap();
        pool.close();
        verdict.send(false).unwrap();
        assert!(matches!(request.join().unwrap(), Err(GetError::Closed)));
        assert_eq!((live.made(), live.now(), pool.stats().size), (1, 0, 0));
    });
}

#[test]
fn dropping_the_pool_closes_what_is_idle_at_once_and_the_others_later() {
    with_workers(|| {
        let closed = Arc::new(AtomicUsize::new(0));
        let counts = closed.clone();
        let pool = Pool::builder(|| Ok::<_, ()>(())).on_close(move |()| {
            counts.fetch_add(1, Ordering::SeqCst);
        });
        let pool = pool.idle_timeout(Duration::from_secs(3600)).build();
        let used = pool.get().unwrap();
        drop(pool.get());
        drop(pool);
        assert_eq!(closed.load(Ordering::SeqCst), 0, "the pool lives as long as one is used");
        drop(used);
        assert_eq!(closed.load(Ordering::SeqCst), 2);
    });
}

#[test]
fn those_whose_time_is_over_are_closed() {
    const SHORT: Duration = Duration::from_millis(10);
    with_workers(|| {
        // Idle for too long, while no goroutine asks.
        let pool = Pool::builder(|| Ok::<_, ()>(Instant::now())).idle_timeout(SHORT).build();
        let taken = [pool.get(), pool.get(), pool.get()].map(Result::unwrap);
        let start = Instant::now();
        drop(taken);
        wait_until("all to be closed", || pool.stats().idle == 0);
        assert!(start.elapsed() >= SHORT);
        assert_eq!(pool.stats().idle_timeout_closed, 3);
        // In use for long is not idle for long, and begins anew when it is idle.
        let used = pool.get().unwrap();
        pause(2 * SHORT);
        let start = Instant::now();
        drop(used);
        wait_until("it to be closed", || pool.stats().idle == 0);
        assert!(start.elapsed() >= SHORT);

        // Old, though it is used again and again.
        let pool = Pool::builder(|| Ok::<_, ()>(Instant::now())).max_lifetime(SHORT).max_size(1).build();
        let first = *pool.get().unwrap();
        let second = loop {
            let born = *pool.get().unwrap();
            if born != first {
                break born;
            }
            yield_now();
        };
        assert!(second >= first + SHORT);
        assert_eq!(pool.stats().max_lifetime_closed, 1);
        wait_until("the second to be closed", || pool.stats().size == 0);
    });
}

#[test]
fn no_more_than_max_idle_are_kept() {
    with_workers(|| {
        let live = Arc::<Live>::default();
        let maker = live.clone();
        let pool = Pool::builder(move || Ok::<_, io::Error>(maker.connect())).max_size(2).max_idle(0).build();
        let held = [pool.get(), pool.get()].map(Result::unwrap);
        goby::scope(|scope| {
            let waiter = scope.go(|| pool.get().unwrap().number);
            until_waiting(&pool, 1);
            drop(held);
            // One has gone to the request, though none may lie idle.
            assert!(waiter.join().unwrap() < 2);
        });
        assert_eq!((live.now(), live.made(), pool.stats().max_idle_closed), (0, 2, 2));
    });
}

/// Goroutines and OS threads of all sorts: never too many at once, and nothing is lost.
#[test]
fn under_stress_nothing_is_lost() {
    const SIZE: usize = 3;
    with_workers(|| {
        let live = Arc::<Live>::default();
        let (maker, calls) = (live.clone(), AtomicUsize::new(0));
        let pool = Pool::builder(move || match calls.fetch_add(1, Ordering::SeqCst) % 7 {
            3 => Err(io::Error::other("refused")),
            5 => panic!("while making"),
            _ => {
                yield_now();
                Ok(maker.connect())
            }
        });
        let pool = pool.max_size(SIZE).max_idle(2).idle_timeout(MOMENT).check(|conn| conn.number % 5 != 4).build();
        let use_it = |pool: &Pool<Conn, io::Error>, n: usize| {
            let (ctx, _cancel) = Context::background().with_timeout(Duration::from_micros((n % 50) as u64 * 20));
            let got = match n % 3 {
                0 => pool.get(),
                1 => pool.get_ctx(&ctx),
                _ => pool.try_get().map(|got| got.ok_or(GetError::Closed)).and_then(|got| got),
            };
            let Ok(conn) = got else { return };
            match n % 11 {
                0 => panic!("in the middle of something"),
                1 => Pooled::discard(conn),
                3 => pause(Duration::from_micros(100)),
                _ => yield_now(),
            }
        };
        let n = size(400, 20_000);
        let thread = thread::spawn({
            let pool = pool.clone();
            move || {
                (0..n / 4).filter(|n| n % 11 != 0).for_each(|n| {
                    // It may make one, and that may panic.
                    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| use_it(&pool, n)));
                })
            }
        });
        let goroutines: Vec<_> = (0..n)
            .map(|n| {
                let pool = pool.clone();
                go(move || use_it(&pool, n))
            })
            .collect();
        goroutines.into_iter().for_each(|goroutine| _ = goroutine.join());
        goby::blocking(|| thread.join().unwrap());
        let stats = pool.stats();
        assert_eq!((stats.in_use, stats.waiting), (0, 0), "{stats:?}");
        assert!(live.most.load(Ordering::SeqCst) <= SIZE, "{live:?}");
        // All places are free.
        let mut all = vec![];
        while all.len() < SIZE {
            let pool = pool.clone();
            all.extend(go(move || pool.get().ok()).join().ok().flatten());
        }
        assert!(pool.try_get().is_ok_and(|got| got.is_none()));
        drop(all);
        pool.close();
        assert_eq!(live.now(), 0);
    });
}
