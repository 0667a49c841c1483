//! Starting, joining and detaching goroutines; yielding; counting.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use goby_runtime::{Decision, blocking, go, num_goroutines, yield_now};

use crate::support::{Door, in_child, on_workers, runtime, stderr, wait_until, with_workers};

#[test]
fn join_gives_the_value() {
    with_workers(|| {
        let text = String::from("moved in and out");
        assert_eq!(go(move || text).join().unwrap(), "moved in and out");
        let handles: Vec<_> = (0..1000u64).map(|i| go(move || i * i)).collect();
        let squares: Vec<_> = handles.into_iter().map(|handle| handle.join().unwrap()).collect();
        assert_eq!(squares, (0..1000).map(|i| i * i).collect::<Vec<_>>());
    });
}

#[test]
fn join_waits_for_a_parked_goroutine() {
    with_workers(|| {
        let door = Arc::new(Door::new());
        let parked = go({
            let door = door.clone();
            move || {
                door.pass();
                7
            }
        });
        let joiner = go(move || parked.join().unwrap());
        wait_until("the goroutine to park", || door.has_waiters());
        assert!(!joiner.is_finished());
        door.open();
        assert_eq!(joiner.join().unwrap(), 7);
    });
}

#[test]
fn go_and_join_work_on_plain_threads_and_across_runtimes() {
    with_workers(|| {
        // From a plain thread, a goroutine of the default runtime.
        let from_thread = blocking(|| thread::spawn(|| go(|| 1).join().unwrap()).join().unwrap());
        // A goroutine of another runtime, joined from here.
        let other = runtime(1);
        assert_eq!(from_thread + other.go(|| 2).join().unwrap(), 3);
        blocking(|| drop(other)); // Waits for the other workers' threads.
    });
}

#[test]
fn is_finished_tells_whether_join_would_wait() {
    with_workers(|| {
        let door = Arc::new(Door::new());
        let handle = go({
            let door = door.clone();
            move || door.pass()
        });
        wait_until("the goroutine to park", || door.has_waiters());
        assert!(!handle.is_finished());
        door.open();
        wait_until("the goroutine to end", || handle.is_finished());
        handle.join().unwrap();
    });
}

#[test]
fn ids_are_never_used_twice() {
    with_workers(|| {
        let mut ids = HashSet::new();
        for _ in 0..2000 {
            let handle = go(|| ());
            let id = handle.id();
            assert_eq!(id.to_string(), id.as_u64().to_string());
            assert!(ids.insert(id), "{id} came twice");
            handle.join().unwrap();
        }
    });
}

/// Counts how often it is dropped.
struct CountsDrop(Arc<AtomicUsize>);

impl Drop for CountsDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_detached_goroutine_runs_and_drops_its_result_once() {
    with_workers(|| {
        let drops = Arc::new(AtomicUsize::new(0));
        for _ in 0..100 {
            // The handle is dropped first, most often; the goroutine drops the result.
            drop(go({
                let result = CountsDrop(drops.clone());
                move || result
            }));
            // The goroutine ends first; its result is dropped with the handle.
            let handle = go({
                let result = CountsDrop(drops.clone());
                move || result
            });
            wait_until("the goroutine to end", || handle.is_finished());
            drop(handle);
            // Either may be first.
            let handle = go({
                let result = CountsDrop(drops.clone());
                move || result
            });
            yield_now();
            drop(handle);
        }
        wait_until("all results to be dropped", || drops.load(Ordering::SeqCst) == 300);
        wait_until("all goroutines to end", || num_goroutines() == 1);
        assert_eq!(drops.load(Ordering::SeqCst), 300);
    });
}

#[test]
fn a_joined_result_is_dropped_by_its_owner_only() {
    with_workers(|| {
        let drops = Arc::new(AtomicUsize::new(0));
        for joined in 1..=100 {
            let result = CountsDrop(drops.clone());
            let result = go(move || result).join().unwrap();
            assert_eq!(drops.load(Ordering::SeqCst), joined - 1);
            drop(result);
            assert_eq!(drops.load(Ordering::SeqCst), joined);
        }
    });
}

#[test]
fn a_goroutine_that_never_ran_gives_its_closure_up() {
    // Whether the goroutine still runs when the runtime ends is a race; the counts are right in
    // both cases.
    let drops = Arc::new(AtomicUsize::new(0));
    let mut ran = 0;
    for round in 1..=50 {
        let runtime = runtime(1 + round % 2);
        let handle = runtime.run(|| {
            let captured = CountsDrop(drops.clone());
            go(move || drop(captured))
        });
        drop(runtime);
        match handle.join() {
            Ok(()) => ran += 1,
            Err(payload) => {
                let message = payload.downcast_ref::<String>().expect("a text");
                assert_eq!(message, "the runtime was shut down before the goroutine ran");
            }
        }
        assert_eq!(drops.load(Ordering::SeqCst), round, "{ran} ran");
    }
}

#[test]
fn num_goroutines_counts_those_that_have_not_ended() {
    with_workers(|| {
        let door = Arc::new(Door::new());
        let handles: Vec<_> = (0..100)
            .map(|_| {
                let door = door.clone();
                go(move || door.pass())
            })
            .collect();
        assert_eq!(num_goroutines(), 101);
        door.open();
        handles.into_iter().for_each(|handle| handle.join().unwrap());
        wait_until("the count to fall", || num_goroutines() == 1);
    });
}

/// Helpers of the runtime are not goroutines: at the start there is one goroutine, and a timer, a
/// helper thread and a future make no other.
#[test]
fn c293_num_goroutines_leaves_the_runtimes_own_helpers_out() {
    with_workers(|| {
        let timer = goby_runtime::Timer::new(|_| ());
        timer.start(goby_runtime::now() + std::time::Duration::from_secs(3600));
        blocking(|| assert_eq!(num_goroutines(), 1));
        assert_eq!(num_goroutines(), 1);
    });
}

#[test]
fn a_tree_of_goroutines_joins_its_children() {
    fn tree(depth: u32) -> u64 {
        if depth == 0 {
            return 1;
        }
        let children: Vec<_> = (0..4).map(|_| go(move || tree(depth - 1))).collect();
        children.into_iter().map(|child| child.join().unwrap()).sum()
    }
    with_workers(|| assert_eq!(tree(6), 4096));
}

#[test]
fn yielding_goroutines_take_turns() {
    on_workers(1, || {
        const ROUNDS: usize = 1000;
        let turns = Arc::new([const { AtomicUsize::new(0) }; 4]);
        let door = Arc::new(Door::new());
        let arrived = Arc::new(AtomicUsize::new(0));
        let handles: Vec<_> = (0..4)
            .map(|own| {
                let (turns, door, arrived) = (turns.clone(), door.clone(), arrived.clone());
                go(move || {
                    arrived.fetch_add(1, Ordering::SeqCst);
                    door.pass();
                    for round in 0..ROUNDS {
                        turns[own].store(round, Ordering::Relaxed);
                        for other in turns.iter() {
                            // All are in one queue: none gets two turns ahead, whichever came
                            // first.
                            let other = other.load(Ordering::Relaxed);
                            assert!(other.abs_diff(round) <= 2, "{other} and {round} rounds");
                        }
                        yield_now();
                    }
                    turns[own].store(ROUNDS, Ordering::Relaxed);
                })
            })
            .collect();
        wait_until("all to stand at the door", || arrived.load(Ordering::SeqCst) == 4);
        door.open();
        handles.into_iter().for_each(|handle| handle.join().unwrap());
    });
}

/// With as many workers, all runnable goroutines run at the same time: each spins until the one
/// before it has had its turn. The test fails if an idle worker is not woken for a new goroutine:
/// then two are on one worker and spin forever.
#[test]
fn c325_runnable_goroutines_run_in_parallel() {
    fn pass_a_token() {
        let token = Arc::new(AtomicUsize::new(0));
        let handles: Vec<_> = (0..4)
            .map(|own| {
                let token = token.clone();
                go(move || {
                    for round in 0..3 {
                        while token.load(Ordering::SeqCst) != round * 4 + own {
                            thread::yield_now(); // The processor, not the worker.
                        }
                        token.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        handles.into_iter().for_each(|handle| handle.join().unwrap());
        assert_eq!(token.load(Ordering::SeqCst), 12);
    }
    on_workers(4, || {
        for _ in 0..10 {
            pass_a_token();
            go(|| go(pass_a_token).join().unwrap()).join().unwrap();
            crate::support::pause(std::time::Duration::from_millis(1)); // The workers fall idle.
        }
    });
}

/// Two pairs hand a turn back and forth, one pair with long turns: the work done differs by less
/// than a factor of 20.
#[test]
fn c327_long_turns_do_not_starve_short_ones() {
    fn pair(turn: u64, stop: &Arc<AtomicBool>) -> [goby_runtime::JoinHandle<u64>; 2] {
        let door = Arc::new(goby_runtime::Gate::new(0usize));
        [0, 1].map(|own| {
            let (door, stop) = (door.clone(), stop.clone());
            go(move || {
                let mut steps = 0;
                loop {
                    door.wait(goby_runtime::WaitReason::CondWait, None, |turn, _| Decision::ready_if(*turn % 2 == own));
                    if stop.load(Ordering::Relaxed) {
                        door.with(|turn, waiters| {
                            *turn = own + 1;
                            waiters.unpark_all(0);
                        });
                        return steps;
                    }
                    (0..turn).for_each(|step| {
                        std::hint::black_box(step);
                    });
                    steps += turn;
                    door.with(|turn, waiters| {
                        *turn += 1;
                        waiters.unpark_all(0);
                    });
                }
            })
        })
    }
    on_workers(1, || {
        let stop = Arc::new(AtomicBool::new(false));
        // A step of a debug build takes ten times as long; a long turn should take about half a
        // millisecond.
        let long = if cfg!(debug_assertions) { 50_000 } else { 1_000_000 };
        let (long, short) = (pair(long, &stop), pair(1000, &stop));
        crate::support::pause(std::time::Duration::from_millis(300));
        stop.store(true, Ordering::Relaxed);
        let sum = |pair: [goby_runtime::JoinHandle<u64>; 2]| pair.into_iter().map(|g| g.join().unwrap()).sum::<u64>();
        let (long, short) = (sum(long), sum(short));
        assert!(long < 20 * short && short < 20 * long, "{long} steps in long turns, {short} in short ones");
    });
}

/// A local that a destructor makes before it panics is not left for the thread that frees the
/// record.
#[test]
fn no_local_is_dropped_on_another_thread() {
    use goby_runtime::Local;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread::{self, ThreadId};

    static WENT_ABROAD: AtomicBool = AtomicBool::new(false);
    static HOMEBOUND: Local<Homebound> = Local::new(|| Homebound(thread::current().id(), std::marker::PhantomData));
    static BREAKS: Local<Breaks> = Local::new(|| Breaks);
    struct Homebound(ThreadId, std::marker::PhantomData<*const ()>);
    impl Drop for Homebound {
        fn drop(&mut self) {
            WENT_ABROAD.fetch_or(thread::current().id() != self.0, Ordering::SeqCst);
        }
    }
    struct Breaks;
    impl Drop for Breaks {
        fn drop(&mut self) {
            HOMEBOUND.with(|_| ());
            panic!("a destructor that breaks");
        }
    }
    let runtime = goby_runtime::Runtime::builder().workers(1).build().unwrap();
    runtime.go(|| BREAKS.with(|_| ())).join().unwrap();
    assert!(!WENT_ABROAD.load(Ordering::SeqCst), "a value that is not Send was dropped on another thread");
}

/// What a goroutine of the tests below carries: a name, a label, an inherited local, and a local
/// with a destructor that makes another one. Each holds the token.
mod carried {
    use std::cell::RefCell;
    use std::sync::Arc;

    use goby_runtime::{GoBuilder, InheritedLocal, JoinHandle, Local, yield_now};

    static INHERITED: InheritedLocal<Arc<()>> = InheritedLocal::new();
    static OWN: Local<RefCell<Option<Own>>> = Local::new(Default::default);
    static LATE: Local<RefCell<Option<Arc<()>>>> = Local::new(Default::default);

    struct Own(Arc<()>);

    impl Drop for Own {
        fn drop(&mut self) {
            LATE.with(|late| *late.borrow_mut() = Some(self.0.clone()));
            yield_now();
        }
    }

    /// Starts a goroutine that carries it all, and then runs `f`. Called by a goroutine.
    pub(super) fn go<T: Send + 'static>(
        token: &Arc<()>,
        f: impl FnOnce(Arc<()>) -> T + Send + 'static,
    ) -> JoinHandle<T> {
        INHERITED.set(token.clone());
        let own = token.clone();
        let handle = GoBuilder::new().name("carrier").label("carries", "much").go(move || {
            assert!(INHERITED.get().is_some());
            OWN.with(|place| *place.borrow_mut() = Some(Own(own.clone())));
            f(own)
        });
        INHERITED.clear();
        handle
    }
}

/// However a goroutine ends, and whichever owner holds its record last, all that it carried is
/// dropped, and its result belongs to the handle.
#[test]
fn what_a_goroutine_carries_goes_with_it() {
    use goby_runtime::{JoinHandle, goexit};
    use std::panic::resume_unwind;

    type Token = Arc<()>;
    let ends: [fn(Token) -> Token; 3] = [|token| token, |token| resume_unwind(Box::new(token)), |_| goexit()];
    let joins: [fn(JoinHandle<Token>) -> Option<Token>; 2] =
        [|handle| handle.join().ok(), |handle| blocking(|| handle.join().ok())];
    with_workers(|| {
        for (i, end) in ends.into_iter().enumerate() {
            let token = Arc::new(());
            // It may take a moment: another test that looks at all goroutines of the process
            // briefly holds what they inherit.
            let check_all_gone = || wait_until("all to be dropped", || Arc::strong_count(&token) == 1);
            for round in 0..20 {
                let start = || {
                    let (door, opens) = (Arc::new(Door::new()), Arc::new(Door::new()));
                    let (passes, opened) = (opens.clone(), door.clone());
                    let handle = carried::go(&token, move |token| {
                        opened.open();
                        passes.pass();
                        end(token)
                    });
                    // It has begun.
                    door.pass();
                    (handle, opens)
                };
                // Joined by a goroutine, and by a thread, that most often wait already.
                for join in joins {
                    let (handle, opens) = start();
                    let joiner = go(move || join(handle));
                    if round % 2 == 0 {
                        yield_now()
                    } else {
                        crate::support::pause(std::time::Duration::from_millis(1))
                    }
                    opens.open();
                    let value = joiner.join().unwrap();
                    assert_eq!(value.is_some(), i == 0);
                    drop(value);
                    check_all_gone();
                }
                // Joined once it has ended.
                let (handle, opens) = start();
                opens.open();
                wait_until("it to end", || handle.is_finished());
                drop(handle.join());
                check_all_gone();
                // The handle is dropped first.
                let (handle, opens) = start();
                drop(handle);
                opens.open();
                check_all_gone();
                // The handle is dropped last.
                let (handle, opens) = start();
                opens.open();
                wait_until("it to end", || handle.is_finished());
                drop(handle);
                check_all_gone();
            }
        }
    });
}

/// The same for goroutines that never run: some were never begun, some had no stack. Some handles
/// are dropped before, some are joined, some are dropped afterwards.
#[test]
fn what_a_goroutine_that_never_ran_carries_goes_with_it() {
    use goby_runtime::Runtime;
    use std::sync::mpsc;

    // On a busy machine the time slice of who starts them may end, and one of them begin. That one
    // is left behind with its runtime, so such a round says nothing.
    for has_stacks in [true, false] {
        while !round(has_stacks) {}
    }

    /// Returns whether none has begun.
    fn round(has_stacks: bool) -> bool {
        let token = Arc::new(());
        let begun = Arc::new(AtomicBool::new(false));
        let runtime = Runtime::builder().workers(1).max_stacks(if has_stacks { 100 } else { 1 }).build().unwrap();
        let runtime = Arc::new(runtime);
        let (own, theirs, door) = (runtime.clone(), token.clone(), Arc::new(Door::new()));
        let (give, handles) = mpsc::channel();
        let (entered, begins) = (door.clone(), begun.clone());
        drop(runtime.go(move || {
            entered.pass();
            let start = |_| {
                let begins = begins.clone();
                carried::go(&theirs, move |token| {
                    begins.store(true, Ordering::SeqCst);
                    token
                })
            };
            let all: Vec<_> = (0..30).map(start).collect();
            if !has_stacks {
                // Give them turns; they do not get far.
                (0..100).for_each(|_| yield_now());
            }
            drop((own, theirs));
            give.send(all).unwrap();
        }));
        drop(runtime);
        door.open();
        let handles = handles.recv().unwrap();
        if begun.load(Ordering::SeqCst) {
            return false;
        }
        for (i, handle) in handles.into_iter().enumerate() {
            match i % 3 {
                0 => drop(handle),
                1 => drop(handle.join().expect_err("the runtime was gone before it could run")),
                _ => {
                    wait_until("it to be ended", || handle.is_finished());
                    drop(handle);
                }
            }
        }
        wait_until("all to be dropped", || Arc::strong_count(&token) == 1);
        true
    }
}

/// Two locals of one goroutine panic when dropped. Each is dropped by itself: if both were dropped
/// as a list, the second would abort the process.
#[test]
fn several_locals_may_panic_when_dropped() {
    use goby_runtime::{InheritedLocal, Local};
    use std::sync::Arc;

    struct Breaks;
    impl Drop for Breaks {
        fn drop(&mut self) {
            panic!("a local breaks");
        }
    }
    static ONE: Local<Breaks> = Local::new(|| Breaks);
    static OTHER: Local<Breaks> = Local::new(|| Breaks);
    static INHERITED: InheritedLocal<Arc<Breaks>> = InheritedLocal::new();
    static ALSO_INHERITED: InheritedLocal<Arc<Breaks>> = InheritedLocal::new();
    let output = in_child("goroutines::several_locals_may_panic_when_dropped", || {
        let runtime = goby_runtime::Runtime::builder().workers(1).build().unwrap();
        let handle = runtime.go(|| {
            ONE.with(|_| OTHER.with(|_| ()));
            INHERITED.set(Arc::new(Breaks));
            ALSO_INHERITED.set(Arc::new(Breaks));
            7
        });
        assert_eq!(handle.join().unwrap(), 7);
    });
    assert!(output.status.success(), "{}: {}", output.status, stderr(&output));
    assert_eq!(
        stderr(&output).matches("panicked and nobody joined it: a local breaks").count(),
        4,
        "{}",
        stderr(&output)
    );
}
