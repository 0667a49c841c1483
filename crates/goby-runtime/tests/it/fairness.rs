//! Loops must not starve the other goroutines, timers, sockets and threads that share their worker.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use goby_runtime::{Backoff, Decision, Direction, Source, Timer, checkpoint, go, now, spawn, spread_next, yield_now};

use crate::support::{Door, PATIENCE, on_workers, pause, wait_until};

/// On one worker: starts `event`, then loops until that has set the flag. One loop yields; the
/// other only passes checkpoints, as operations do that need not park.
fn check(event: impl Fn(Arc<AtomicBool>) + Send + Sync) {
    for busy in [yield_now as fn(), checkpoint] {
        on_workers(1, || {
            let happened = Arc::new(AtomicBool::new(false));
            event(happened.clone());
            while !happened.load(Ordering::SeqCst) {
                busy();
            }
        });
    }
}

#[test]
fn a_loop_does_not_starve_timers() {
    check(|happened| {
        let timer = Timer::new(move |_| happened.store(true, Ordering::SeqCst));
        timer.start(now() + Duration::from_millis(5));
        // Dropping the timer would stop it.
        go(move || {
            pause(Duration::from_millis(50));
            drop(timer);
        });
    });
}

#[test]
fn a_loop_does_not_starve_sleepers() {
    check(|happened| {
        go(move || {
            pause(Duration::from_millis(2));
            pause(Duration::from_millis(2));
            happened.store(true, Ordering::SeqCst);
        });
    });
}

#[test]
fn a_loop_does_not_starve_new_goroutines() {
    check(|happened| {
        go(move || {
            go(move || go(move || happened.store(true, Ordering::SeqCst)));
        });
    });
}

#[test]
fn a_loop_does_not_starve_those_that_other_threads_unpark() {
    check(|happened| {
        let door = Arc::new(Door::new());
        let opens = door.clone();
        go(move || {
            door.pass();
            happened.store(true, Ordering::SeqCst);
        });
        thread::spawn(move || {
            while !opens.has_waiters() {
                thread::yield_now();
            }
            opens.open();
        });
    });
}

#[test]
fn a_loop_does_not_starve_sockets() {
    check(|happened| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        go(move || {
            let ours = Source::new(ours);
            ours.wait(Direction::Read, 0, None).unwrap();
            happened.store(true, Ordering::SeqCst);
        });
        go(move || {
            pause(Duration::from_millis(2));
            (&theirs).write_all(b"x").unwrap();
            pause(Duration::from_millis(20));
        });
    });
}

/// A computation without any call to goby keeps its worker, but not the worker's unstarted
/// goroutines.
#[test]
fn a_computation_does_not_keep_unstarted_goroutines() {
    on_workers(2, || {
        let happened = Arc::new(AtomicBool::new(false));
        let sets = happened.clone();
        go(move || sets.store(true, Ordering::SeqCst));
        while !happened.load(Ordering::SeqCst) {
            thread::yield_now(); // The processor, not the worker.
        }
    });
}

/// The same, but the other worker has more to run than this one, and always has an unstarted
/// goroutine of its own.
#[test]
fn busy_workers_begin_what_a_computation_keeps() {
    fn starts_the_next(stop: Arc<AtomicBool>) {
        go(move || {
            if !stop.load(Ordering::Relaxed) {
                starts_the_next(stop);
            }
        });
    }

    on_workers(2, || {
        let (stop, n_begun) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut busy = Vec::new();
        // This worker computes throughout. From the second round on, the other worker has other
        // goroutines to run, too.
        for n in 1..=4 {
            let (stop, begins) = (stop.clone(), n_begun.clone());
            busy.push(go(move || {
                begins.fetch_add(1, Ordering::SeqCst);
                starts_the_next(stop.clone());
                while !stop.load(Ordering::Relaxed) {
                    checkpoint();
                }
            }));
            let start = std::time::Instant::now();
            while n_begun.load(Ordering::SeqCst) < n && start.elapsed() < PATIENCE {
                std::hint::spin_loop();
            }
        }
        let n_begun = n_begun.load(Ordering::SeqCst);
        stop.store(true, Ordering::Relaxed);
        busy.into_iter().for_each(|goroutine| goroutine.join().unwrap());
        assert_eq!(n_begun, 4, "nobody has begun the others");
    });
}

/// A goroutine that calls std blocks the only worker in the kernel; the goroutine that would help
/// is unstarted. A spare worker runs it.
#[test]
fn a_worker_stuck_in_the_kernel_is_replaced() {
    on_workers(1, || {
        let (tx, rx) = mpsc::channel();
        let stuck = go(move || rx.recv().unwrap());
        let helper = go(move || {
            // Whichever goroutine ran first, the other is now stuck or done.
            tx.send(7).unwrap();
        });
        assert_eq!(stuck.join().unwrap(), 7);
        helper.join().unwrap();
    });
    on_workers(1, || {
        let (tx, rx) = mpsc::channel();
        let helper = go(move || tx.send(7).unwrap());
        // This blocks the worker that `helper` waits on.
        assert_eq!(rx.recv().unwrap(), 7);
        helper.join().unwrap();
    });
}

/// A goroutine woken again and again by its partner does not keep out a third one.
#[test]
fn a_pair_that_wakes_each_other_starves_nobody() {
    on_workers(1, || {
        let stop = Arc::new(AtomicBool::new(false));
        let turn = Arc::new(goby_runtime::Gate::new(0usize));
        let pair = [0, 1].map(|own| {
            let (turn, stop) = (turn.clone(), stop.clone());
            go(move || {
                while !stop.load(Ordering::Relaxed) {
                    turn.wait(goby_runtime::WaitReason::CondWait, None, |turn, _| Decision::ready_if(*turn % 2 == own));
                    turn.with(|turn, waiters| {
                        *turn += 1;
                        waiters.unpark_all(0);
                    });
                }
                turn.with(|turn, waiters| {
                    *turn = own + 1;
                    waiters.unpark_all(0);
                });
            })
        });
        let third = go(move || {
            (0..100).for_each(|_| yield_now());
            pause(Duration::from_millis(1));
            stop.store(true, Ordering::Relaxed);
        });
        third.join().unwrap();
        pair.into_iter().for_each(|goroutine| goroutine.join().unwrap());
    });
}

/// Two goroutines keep the worker busy by turns of 5 ms, and each turn ends before its slice does.
/// The worker still looks at timers: each sleep waits for a few turns, not for as many as a worker
/// can run between two looks.
#[test]
fn short_slices_do_not_put_off_timers() {
    on_workers(1, || {
        let (stop, turns) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let busy = [0, 1].map(|_| {
            let (stop, turns) = (stop.clone(), turns.clone());
            go(move || {
                while !stop.load(Ordering::Relaxed) {
                    let start = now();
                    while now() - start < Duration::from_millis(5) {}
                    turns.fetch_add(1, Ordering::Relaxed);
                    yield_now();
                }
            })
        });
        let before = turns.load(Ordering::Relaxed);
        (0..5).for_each(|_| pause(Duration::from_millis(1)));
        let turns = turns.load(Ordering::Relaxed) - before;
        stop.store(true, Ordering::Relaxed);
        busy.into_iter().for_each(|goroutine| goroutine.join().unwrap());
        // Some 15 turns. With a look only at every 244th turn, up to 1200.
        assert!(turns < 130, "{turns} turns in five sleeps of 1 ms");
    });
}

/// A thief that always finds goroutines at one worker still sees those of the others.
#[test]
fn a_worker_with_a_backlog_does_not_hide_another_from_thieves() {
    use std::sync::atomic::AtomicUsize;
    const STUCK: Duration = Duration::from_secs(20);
    fn spin(time: Duration) {
        let start = std::time::Instant::now();
        while start.elapsed() < time {
            std::hint::spin_loop();
        }
    }
    let runtime = crate::support::runtime(3);
    let waited = runtime.run(|| {
        let stop = Arc::new(AtomicBool::new(false));
        let n = Arc::new(AtomicUsize::new(0));
        let (stopped, counted) = (stop.clone(), n.clone());
        let producer = go(move || {
            while !stopped.load(Ordering::Relaxed) {
                while counted.load(Ordering::Relaxed) < 20_000 && !stopped.load(Ordering::Relaxed) {
                    counted.fetch_add(1, Ordering::Relaxed);
                    let counted = counted.clone();
                    go(move || {
                        spin(Duration::from_micros(20));
                        counted.fetch_sub(1, Ordering::Relaxed);
                    });
                }
                yield_now();
            }
        });
        pause(Duration::from_millis(100));
        let stuck = go(move || {
            let start = std::time::Instant::now();
            let (tx, rx) = mpsc::channel();
            go(move || tx.send(start.elapsed()));
            // Computes without a call to goby.
            while start.elapsed() < STUCK {
                if let Ok(waited) = rx.try_recv() {
                    return waited;
                }
                std::hint::spin_loop();
            }
            STUCK
        });
        let waited = stuck.join().unwrap();
        stop.store(true, Ordering::Relaxed);
        producer.join().unwrap();
        waited
    });
    assert!(waited < STUCK, "no thief came");
}

/// Both workers have goroutines that compute and yield, and one of those starts six more. The six
/// stay where they begin, so not all of them may begin where they were started. Another load on the
/// machine may keep the second worker away: one success in ten tries is enough.
#[test]
fn busy_workers_share_new_goroutines() {
    fn compute_until(done: impl Fn() -> bool) -> thread::ThreadId {
        while !done() {
            let from = now();
            while now() - from < Duration::from_micros(20) {}
            yield_now();
        }
        thread::current().id()
    }

    on_workers(2, || {
        let is_shared = (0..10).any(|_| {
            let begun = Arc::new(AtomicUsize::new(0));
            let start = || {
                let begun = begun.clone();
                go(move || {
                    begun.fetch_add(1, Ordering::SeqCst);
                    compute_until(|| begun.load(Ordering::SeqCst) == 7)
                })
            };
            let neighbor = start();
            while begun.load(Ordering::SeqCst) == 0 {
                thread::yield_now(); // The processor, not the worker: the other one takes it.
            }
            let others: Vec<_> = (0..6).map(|_| start()).collect();
            let here = compute_until(|| begun.load(Ordering::SeqCst) == 7);
            assert_ne!(neighbor.join().unwrap(), here);
            others.into_iter().map(|g| g.join().unwrap()).filter(|&id| id != here).count() >= 2
        });
        assert!(is_shared, "all of them began on one worker");
    });
}

/// No worker spins while it could begin a goroutine or a future, since the spin may wait for that
/// one. The other worker is kept from taking it.
#[test]
fn nobody_spins_where_others_could_run() {
    on_workers(2, || {
        let (begun, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let hog = go({
            let (begun, stop) = (begun.clone(), stop.clone());
            move || {
                begun.store(true, Ordering::SeqCst);
                while !stop.load(Ordering::SeqCst) {
                    std::hint::spin_loop();
                }
            }
        });
        while !begun.load(Ordering::SeqCst) {
            std::hint::spin_loop();
        }
        let goroutine = go(|| ());
        let beside_a_goroutine = Backoff::new().spin();
        goroutine.join().unwrap();
        let future = spawn(async {});
        let beside_a_future = Backoff::new().spin();
        future.join().unwrap();
        stop.store(true, Ordering::SeqCst);
        hog.join().unwrap();
        assert!(!beside_a_goroutine && !beside_a_future, "{beside_a_goroutine} {beside_a_future}");
    });
}

/// Forty goroutines come one after the other, and stay, though the goroutine that starts them is
/// idle each time. Without the word nearly all begin, and so live, where they are started. Another
/// load on the machine may keep the second worker away: one success in ten tries is enough.
#[test]
fn those_that_are_to_be_spread_live_on_all_workers() {
    fn n_here() -> usize {
        let (door, begun) = (Arc::new(Door::new()), Arc::new(AtomicUsize::new(0)));
        let goroutines: Vec<_> = (1..=40)
            .map(|i| {
                spread_next();
                let goroutine = go({
                    let (door, begun) = (door.clone(), begun.clone());
                    move || {
                        begun.fetch_add(1, Ordering::SeqCst);
                        door.pass();
                        thread::current().id()
                    }
                });
                wait_until("it to begin", || begun.load(Ordering::SeqCst) == i);
                // There is a pause before each, so that the other worker sleeps in between.
                pause(Duration::from_micros(200));
                goroutine
            })
            .collect();
        door.open();
        let threads = goroutines.into_iter().map(|goroutine| goroutine.join().unwrap());
        threads.filter(|&thread| thread == thread::current().id()).count()
    }

    on_workers(2, || {
        let n = (0..10).map(|_| n_here()).find(|&n| n <= 25);
        assert!(n.is_some(), "more than 25 of 40 live here, ten times");
    });
}
