//! Goroutines and futures that keep their worker are reported, with the right place. Others are
//! not.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use goby_runtime::{
    Builder, GoBuilder, Runtime, Stall, WaitReason, block_on, blocking, go, now, sleep_until, spawn, stalls, yield_now,
};

use crate::support::{Door, in_child, in_child_with, pause, printed_until, stderr, wait_until};

const LIMIT: Duration = Duration::from_millis(30);

fn runtime() -> Runtime {
    Runtime::builder().workers(1).stall_limit(LIMIT).build().unwrap()
}

#[inline(never)]
fn hogs(until: impl Fn() -> bool) {
    while !until() {
        std::hint::spin_loop();
    }
}

/// One goroutine computes, and one blocks its thread in a lock of std. Each is reported once.
#[test]
fn computing_and_blocking_are_stalls() {
    let runtime = runtime();
    let stall_of = |id| runtime.stalls().into_iter().find(|stall| stall.goroutine().is_some_and(|g| g.id() == id));
    let enough = Arc::new(AtomicBool::new(false));
    let here = line!() + 1;
    let computes = runtime.go({
        let enough = enough.clone();
        move || hogs(|| enough.load(Ordering::Relaxed))
    });
    let id = computes.id();
    wait_until("the stall", || stall_of(id).is_some());
    // It waits already when the first one ends, and so begins without a further look around. Still
    // it has a slice of its own.
    let lock = Arc::new(Mutex::new(()));
    let held = lock.lock().unwrap();
    let blocks = runtime.go({
        let lock = lock.clone();
        move || drop(lock.lock().unwrap())
    });
    enough.store(true, Ordering::Relaxed);
    computes.join().unwrap();
    let stall = stall_of(id).unwrap();
    assert!(stall.lasted() >= LIMIT && stall.worker() == 0);
    let g = stall.goroutine().unwrap();
    assert_eq!(g.started_at().line(), here);
    let names: Vec<String> = g.stack().unwrap().frames().into_iter().map(|frame| frame.function).collect();
    assert!(names.iter().any(|name| name.contains("hogs")), "{names:?}");
    assert!(stall.to_string().contains("tests/it/stalls.rs"), "{stall}");

    let id = blocks.id();
    wait_until("the second stall", || stall_of(id).is_some());
    drop(held);
    blocks.join().unwrap();
}

/// A goroutine that gives its worker back, or blocks where it may, is not a stall. There is no
/// bound for each one: this machine may be busy.
#[test]
fn yielding_and_blocking_calls_are_no_stalls() {
    let runtime = runtime();
    let rounds = Arc::new(AtomicUsize::new(0));
    let counts = rounds.clone();
    runtime.run(move || {
        let start = now();
        while start.elapsed() < 5 * LIMIT {
            yield_now();
            counts.fetch_add(1, Ordering::Relaxed);
        }
        blocking(|| std::thread::sleep(5 * LIMIT));
    });
    for stall in runtime.stalls() {
        let frames = stall.goroutine().and_then(|g| g.stack()).map(|stack| stack.to_string()).unwrap_or_default();
        assert!(!frames.contains("sleep"), "{stall}");
    }
    assert!(rounds.load(Ordering::Relaxed) > 1);
}

/// A goroutine keeps a worker that another one waits on, until goby has noticed.
fn keep_the_worker(builder: Builder) {
    builder.workers(1).stall_limit(LIMIT).build().unwrap().run(|| {
        go(|| hogs(|| !stalls().is_empty())).join().unwrap();
    });
}

/// The line comes without a request. It says which goroutine, where, how long and what to do; the
/// stack comes when it has names.
#[test]
fn a_stall_is_printed_and_then_its_stack() {
    let output = in_child("stalls::a_stall_is_printed_and_then_its_stack", || {
        printed_until("hogs", || keep_the_worker(Runtime::builder()));
    });
    let text = stderr(&output);
    assert!(output.status.success(), "{text}");
    let mut lines = text.lines();
    let line = lines.next().unwrap();
    assert!(line.starts_with("goby: goroutine ") && line.contains(", started at "), "{text}");
    assert!(line.contains("tests/it/stalls.rs:") && line.contains(", has kept worker 0 for "), "{text}");
    assert!(
        line.ends_with(" ms: run what blocks or computes in `blocking`, use goby's locks and channels, or call `yield_now` now and then"),
        "{text}"
    );
    assert!(lines.next().unwrap().ends_with(" was here:"), "{text}");
    assert!(lines.any(|line| line.contains("hogs")), "{text}");
}

/// The builder or the environment says that it is not to be printed, each in a process of its own.
#[test]
fn a_stall_is_not_printed_where_that_is_turned_off() {
    const TEST: &str = "stalls::a_stall_is_not_printed_where_that_is_turned_off";
    for (variable, by_builder) in [("off", false), ("", true)] {
        let output = in_child_with(TEST, &[("GOBY_STALLS", variable)], || {
            let builder = Runtime::builder();
            let is_set = std::env::var("GOBY_STALLS").is_ok_and(|value| value == "off");
            keep_the_worker(if is_set { builder } else { builder.report_stalls(false) });
            // It would be printed by now.
            pause(10 * LIMIT);
        });
        assert!(output.status.success(), "{by_builder}: {}", stderr(&output));
        assert!(!stderr(&output).contains("has kept"), "{by_builder}: {}", stderr(&output));
    }
}

#[test]
fn another_value_of_the_variable_is_refused() {
    let output = in_child_with("stalls::another_value_of_the_variable_is_refused", &[("GOBY_STALLS", "no")], || {
        let error = Runtime::builder().workers(1).build().unwrap_err();
        assert_eq!(error.to_string(), r#"GOBY_STALLS="no" is not "off": change or unset it"#);
    });
    assert!(output.status.success(), "{}", stderr(&output));
}

/// A goroutine that is alone keeps nobody waiting.
#[test]
fn a_stall_that_nobody_can_feel_is_not_printed() {
    let output = in_child("stalls::a_stall_that_nobody_can_feel_is_not_printed", || {
        let runtime = runtime();
        runtime.run(|| hogs(|| !stalls().is_empty()));
        pause(10 * LIMIT);
    });
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!stderr(&output).contains("has kept"), "{}", stderr(&output));
}

/// A subscriber gets the warnings, and shows them in its own way.
#[cfg(feature = "tracing")]
#[test]
fn a_subscriber_replaces_the_print() {
    use std::sync::mpsc;
    use tracing::{Event, Level, Metadata, Subscriber, field, span};

    struct Tells(mpsc::Sender<String>);
    impl Subscriber for Tells {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            *metadata.level() <= Level::WARN
        }
        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }
        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
        fn event(&self, event: &Event<'_>) {
            event.record(&mut |_: &field::Field, value: &dyn std::fmt::Debug| _ = self.0.send(format!("{value:?}")));
        }
        fn enter(&self, _: &span::Id) {}
        fn exit(&self, _: &span::Id) {}
    }
    let output = in_child("stalls::a_subscriber_replaces_the_print", || {
        let (tell, told) = mpsc::channel();
        tracing::subscriber::set_global_default(Tells(tell)).unwrap();
        keep_the_worker(Runtime::builder());
        let text = told.recv().unwrap();
        assert!(text.contains("has kept worker 0") && text.contains("hogs"), "{text}");
    });
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!stderr(&output).contains("has kept"), "{}", stderr(&output));
}

/// The thread of one worker gets almost no processor time, because another computes at a far higher
/// priority. So the goroutine has not even had a time slice.
#[test]
fn a_worker_that_gets_no_processor_does_not_stall() {
    let output = in_child("stalls::a_worker_that_gets_no_processor_does_not_stall", || {
        let runtime = runtime();
        let (stop, begun) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (stops, begins) = (stop.clone(), begun.clone());
        let hog = std::thread::spawn(move || {
            share_a_processor(libc::SCHED_OTHER);
            begins.store(true, Ordering::Relaxed);
            hogs(|| stops.load(Ordering::Relaxed));
        });
        wait_until("the hog to run", || begun.load(Ordering::Relaxed));
        let stops = stop.clone();
        let computes = runtime.go(move || {
            share_a_processor(libc::SCHED_IDLE);
            hogs(|| stops.load(Ordering::Relaxed));
        });
        pause(10 * LIMIT);
        let stalls = runtime.stalls();
        stop.store(true, Ordering::Relaxed);
        hog.join().unwrap();
        computes.join().unwrap();
        assert!(stalls.is_empty(), "{stalls:?}");
    });
    assert!(output.status.success(), "{}", stderr(&output));
}

/// Keeps the calling thread on the first processor that it may use, under this policy.
fn share_a_processor(policy: i32) {
    // SAFETY: the structures are valid when zeroed, and filled by the calls.
    unsafe {
        let size = size_of::<libc::cpu_set_t>();
        let mut allowed: libc::cpu_set_t = std::mem::zeroed();
        assert_eq!(libc::sched_getaffinity(0, size, &mut allowed), 0);
        let first = (0..libc::CPU_SETSIZE as usize).find(|&cpu| libc::CPU_ISSET(cpu, &allowed)).unwrap();
        let mut one: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(first, &mut one);
        assert_eq!(libc::sched_setaffinity(0, size, &one), 0);
        let parameter: libc::sched_param = std::mem::zeroed();
        assert_eq!(libc::sched_setscheduler(0, policy, &parameter), 0);
    }
}

#[test]
fn no_limit_no_reports() {
    let runtime = Runtime::builder().workers(1).stall_limit(None).build().unwrap();
    let start = now();
    runtime.run(|| hogs(|| start.elapsed() > 10 * LIMIT));
    assert!(runtime.stalls().is_empty());
}

/// The latest stall that was `of`.
fn stall(runtime: &Runtime, of: impl Fn(&Stall) -> bool) -> Stall {
    wait_until("the stall", || runtime.stalls().iter().any(&of));
    runtime.stalls().into_iter().rfind(of).unwrap()
}

fn names(stall: &Stall) -> Vec<String> {
    stall.stack().expect("it was taken").frames().into_iter().map(|frame| frame.function).collect()
}

/// A future computes, and one waits inside its poll: the stall says so, and where it stands.
#[test]
fn futures_that_keep_their_worker_are_stalls() {
    let output = in_child("stalls::futures_that_keep_their_worker_are_stalls", || {
        static DOOR: Door = Door::new();
        static ENOUGH: AtomicBool = AtomicBool::new(false);
        let runtime = runtime();
        let computes = runtime.run(|| spawn(async { hogs(|| ENOUGH.load(Ordering::Relaxed)) }));
        let computed = stall(&runtime, |stall| stall.is_of_future() && stall.future_waits().is_none());
        assert!(names(&computed).iter().any(|name| name.contains("hogs")), "{computed}");
        assert!(computed.goroutine().is_none() && computed.lasted() >= LIMIT);
        let line = computed.to_string();
        assert!(line.starts_with("a future has kept worker 0 for ") && line.contains("by `go` and there `blocking`"));
        ENOUGH.store(true, Ordering::Relaxed);
        computes.join().unwrap();

        let waits = runtime.run(|| spawn(async { passes_in_a_poll(&DOOR) }));
        let waited = stall(&runtime, |stall| stall.future_waits().is_some());
        assert_eq!(waited.future_waits(), Some(WaitReason::CondWait));
        assert!(names(&waited).iter().any(|name| name.contains("passes_in_a_poll")), "{waited}");
        let line = waited.to_string();
        assert!(line.contains("it waits [sync.Cond.Wait] inside its poll") && line.contains("`recv_async`"), "{line}");
        DOOR.open();
        waits.join().unwrap();
    });
    assert!(output.status.success(), "{}", stderr(&output));
}

#[inline(never)]
fn passes_in_a_poll(door: &Door) {
    door.pass();
    std::hint::black_box(door);
}

/// It is said at once, whatever the limit is: what would end the wait may be a goroutine of that
/// worker. It is said once for futures of one kind, with what to do and the stack.
#[test]
fn a_future_that_waits_inside_its_poll_is_reported_at_once() {
    let output = in_child("stalls::a_future_that_waits_inside_its_poll_is_reported_at_once", || {
        let runtime = Runtime::builder().workers(1).stall_limit(None).build().unwrap();
        printed_until("passes_in_a_poll", || {
            for _ in 0..3 {
                let door = Arc::new(Door::new());
                let waits = door.clone();
                let task = runtime.run(|| spawn(async move { passes_in_a_poll(&waits) }));
                wait_until("the future to wait", || door.has_waiters());
                door.open();
                task.join().unwrap();
            }
        });
    });
    let text = stderr(&output);
    assert!(output.status.success(), "{text}");
    let line = "goby: a future of worker 0 waits [sync.Cond.Wait] inside its poll, so that no goroutine of the worker \
                can run, not even one that would end the wait: await instead (`recv_async`), only try (`try_lock`), or \
                run the future by `block_on` in a goroutine\n";
    assert_eq!(text.matches(line).count(), 1, "{text}");
    assert_eq!(text.matches("goby: the future was here:\n").count(), 1, "{text}");
}

/// A wait with a deadline keeps the worker, too. A goroutine whose future waits inside its poll
/// does not, and nor does a future that awaits.
#[test]
fn a_wait_inside_a_poll_counts_on_a_worker_only() {
    let output = in_child("stalls::a_wait_inside_a_poll_counts_on_a_worker_only", || {
        let runtime = Runtime::builder().workers(1).stall_limit(None).build().unwrap();
        runtime.run(|| {
            block_on(async { pause(LIMIT) });
            spawn(spawn(async {})).join().unwrap();
        });
        block_on(async { pause(LIMIT) });
        printed_until("[sleep]", || runtime.run(|| spawn(async { sleep_until(now() + LIMIT) }).join().unwrap()));
    });
    let text = stderr(&output);
    assert!(output.status.success(), "{text}");
    assert_eq!(text.matches("inside its poll").count(), 1, "{text}");
}

#[test]
fn a_wait_inside_a_poll_is_not_printed_where_stalls_are_not() {
    let output = in_child("stalls::a_wait_inside_a_poll_is_not_printed_where_stalls_are_not", || {
        let runtime = Runtime::builder().workers(1).report_stalls(false).build().unwrap();
        runtime.run(|| spawn(async { sleep_until(now() + LIMIT) }).join().unwrap());
        // It would be printed by now.
        pause(10 * LIMIT);
    });
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!stderr(&output).contains("goby: "), "{}", stderr(&output));
}

/// Very many signals interrupt threads that switch all the time: whatever code they hit, nothing
/// breaks.
#[test]
fn interrupting_is_safe() {
    let output = in_child("stalls::interrupting_is_safe", || {
        // Hundreds of signals, to threads that are in the switch, the scheduler, an allocation, or
        // another handler.
        let runtime = Runtime::builder().workers(2).build().unwrap();
        let handles: Vec<_> = (0..8)
            .map(|i| {
                runtime.go(move || {
                    let start = now();
                    let mut kept = Vec::new();
                    while start.elapsed() < Duration::from_secs(2) {
                        kept.push(vec![i; 100]);
                        kept.truncate(50);
                        let child = GoBuilder::new().name("child").go(yield_now);
                        yield_now();
                        child.join().unwrap();
                    }
                    kept.len()
                })
            })
            .collect();
        while !handles.iter().all(|handle| handle.is_finished()) {
            goby_runtime::sample_all(&runtime);
        }
        assert!(handles.into_iter().all(|handle| handle.join().unwrap() > 0));
    });
    assert!(output.status.success(), "{}: {}", output.status, stderr(&output));
}
