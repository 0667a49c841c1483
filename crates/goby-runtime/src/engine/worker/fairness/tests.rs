//! The bounds at the head of `fairness.rs`, under mixes of goroutines that try to break them. Waits
//! are counted in turns and pauses, so that no machine is too slow for them.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use super::*;
use crate::engine::checkpoint::yield_now;
use crate::engine::gate::{Decision, Gate};
use crate::engine::wait_reason::WaitReason;
use crate::runtime::Runtime;
use crate::{checkpoint, go, scope, spawn};

/// How often each victim waits.
const TIMES: usize = 6;
/// Longer than a slice and the ticks that the monitor takes to see its end.
const LONG: Duration = Duration::from_millis(25);

/// When hostile goroutines stop by themselves: their victims then run, and tell how long they have
/// waited.
const PATIENCE: Duration = Duration::from_secs(60);

/// Tells the hostile goroutines that the victims are done.
#[derive(Clone)]
struct Stop {
    told: Arc<AtomicBool>,
    start: Instant,
}

fn goes_on(stop: &Stop) -> bool {
    !stop.told.load(Ordering::Relaxed) && stop.start.elapsed() < PATIENCE
}

fn compute(time: Duration) {
    let start = policy::now();
    while policy::now() - start < time {}
}

// The hostile goroutines.

/// Keeps its worker to the end of each slice.
fn spins(stop: &Stop) {
    let stop = stop.clone();
    go(move || {
        while goes_on(&stop) {
            checkpoint()
        }
    });
}

/// Two goroutines that hand each other the time slice.
fn pass_to_and_fro(stop: &Stop) {
    let turn = Arc::new(Gate::new(0));
    for own in [0, 1] {
        let (turn, stop) = (turn.clone(), stop.clone());
        go(move || {
            while goes_on(&stop) {
                turn.wait(WaitReason::CondWait, None, |turn, _| Decision::ready_if(*turn % 2 == own));
                turn.with(|turn, waiters| {
                    *turn += 1;
                    waiters.unpark_all(0);
                });
            }
        });
    }
}

/// Starts two that wait for each other, and two more when they have ended: one is nearly always
/// unstarted.
fn starts_pairs(stop: &Stop) {
    let stop = stop.clone();
    go(move || {
        while goes_on(&stop) {
            let door = Gate::new(false);
            scope(|s| {
                s.go(|| door.wait(WaitReason::CondWait, None, |open, _| Decision::ready_if(*open)));
                s.go(|| {
                    door.with(|open, waiters| {
                        *open = true;
                        waiters.unpark_all(0);
                    });
                });
            });
        }
    });
}

/// Each one that begins keeps its worker for longer than a slice, and has started the next one.
fn succeed_each_other(stop: &Stop) {
    let stop = stop.clone();
    go(move || {
        if goes_on(&stop) {
            succeed_each_other(&stop);
            compute(LONG);
        }
    });
}

/// Wakes itself whenever it is polled.
fn wakes_itself(stop: &Stop) {
    let stop = stop.clone();
    spawn(poll_fn(move |cx| {
        cx.waker().wake_by_ref();
        if goes_on(&stop) { Poll::Pending } else { Poll::Ready(()) }
    }))
    .detach();
}

// The victims. Each checks one bound, and ends.

/// Waits in the local queue.
fn check_local() {
    let worker = Worker::current().expect("a goroutine");
    let turn = || worker.remote.tally.slices.load(Ordering::Relaxed);
    for _ in 0..TIMES {
        let (before, k) = (turn(), worker.local.len() as u64);
        yield_now();
        let turns = turn() - before;
        assert!(turns <= 2 * k + 2, "{turns} turns with {k} before it in the local queue");
    }
}

/// Starts one, and waits for it: its place is in the worker's own queue.
fn check_unstarted() {
    let worker = Worker::current().expect("a goroutine");
    let home = worker.remote;
    let pause = || home.stealable.turns.load(Ordering::Relaxed);
    for _ in 0..TIMES {
        let (before, k) = (pause(), home.stealable.unstarted.len() as u64);
        let begun = go(pause);
        let pauses = begun.join().unwrap() - before;
        let most = most_pauses(k, home.shared.n_workers());
        assert!(pauses <= most, "{pauses} pauses, with {k} before it among the unstarted ones");
    }
}

/// A thread starts one, and waits for it: its place is in the runtime's queue, from where a worker
/// may move it to the front of its own.
fn check_injected(runtime: &Runtime) {
    let shared = runtime.shared();
    let pauses =
        move || shared.remotes().map(|remote| remote.stealable.turns.load(Ordering::Relaxed)).collect::<Vec<_>>();
    for _ in 0..TIMES {
        let k = shared.inject.len() as u64;
        let begun = runtime.go(pauses);
        // Read too late, if at all: then fewer are counted.
        let before = pauses();
        let begun = begun.join().unwrap();
        let least = begun.iter().zip(&before).map(|(begun, before)| begun.saturating_sub(*before)).min().unwrap();
        let most = 2 * most_pauses(k, shared.n_workers());
        assert!(least <= most, "{least} pauses of every worker, with {k} before it among the injected ones");
    }
}

fn most_pauses(k: u64, n_workers: usize) -> u64 {
    // While a worker leaves unstarted goroutines to others it looks at most once per `LONG_ROUNDS`.
    let leaves = if n_workers > 1 { (SLICE.as_nanos() / LONG_ROUNDS.as_nanos()) as u64 + 2 } else { 0 };
    (k + 1) * (4 + leaves)
}

/// Runs the victims on 1, 2 and 4 workers, each of these with several of the hostile goroutines.
fn check(hostile: &[fn(&Stop)]) {
    for n in [1, 2, 4] {
        let runtime = Runtime::builder().workers(n).report_leaks(false).stall_limit(None).build().unwrap();
        let stop = Stop { told: Arc::default(), start: Instant::now() };
        let hostile = hostile.to_vec();
        let theirs = stop.clone();
        runtime.go(move || (0..n).for_each(|_| hostile.iter().for_each(|start| start(&theirs)))).join().unwrap();
        let victims = [runtime.go(check_local), runtime.go(check_local), runtime.go(check_unstarted)];
        check_injected(&runtime);
        victims.into_iter().for_each(|victim| victim.join().unwrap());
        assert!(goes_on(&stop), "the victims came only when the others had stopped");
        stop.told.store(true, Ordering::Relaxed);
    }
}

#[test]
fn spinners_starve_nobody() {
    check(&[spins, spins]);
}

#[test]
fn those_that_hand_on_the_time_slice_starve_nobody() {
    check(&[pass_to_and_fro, spins]);
}

#[test]
fn those_that_always_have_unstarted_ones_starve_nobody() {
    check(&[spins, starts_pairs]);
}

#[test]
fn unstarted_ones_that_run_for_longer_than_a_slice_starve_nobody() {
    check(&[succeed_each_other, spins]);
}

#[test]
fn futures_that_wake_themselves_starve_nobody() {
    check(&[wakes_itself, spins]);
}

#[test]
fn all_of_them_together_starve_nobody() {
    check(&[spins, pass_to_and_fro, starts_pairs, succeed_each_other, wakes_itself]);
}
