//! Goroutines that never run, because their runtime is dropped: their waiters are told.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use goby::chan::{Receiver, RecvError};
use goby::group::Group;
use goby::singleflight;
use goby::sync::WaitGroup;
use goby::{Context, NeverRan, Runtime, blocking, chan, pattern, scope};

use crate::support::PATIENCE;

/// Calls `start` in a goroutine that then drops its own runtime: the goroutines that it has started
/// there never run.
fn in_a_dropped_runtime<T: Send + 'static>(start: impl FnOnce() -> T + Send + 'static) -> T {
    let runtime = Runtime::builder().workers(1).report_leaks(false).build().unwrap();
    let (give, take) = mpsc::channel::<Runtime>();
    let starter = runtime.go(move || {
        let started = start();
        drop(take.recv().unwrap());
        started
    });
    give.send(runtime).unwrap();
    starter.join().unwrap()
}

/// Calls `f` on a thread that belongs to a runtime that has been dropped.
fn on_a_helper_of_a_dropped_runtime<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    let runtime = Runtime::builder().workers(1).report_leaks(false).build().unwrap();
    let ((tell, told), (give, take)) = (mpsc::channel(), mpsc::channel());
    let (begin, begun) = mpsc::channel();
    runtime.go(move || {
        blocking(move || {
            begin.send(()).unwrap();
            told.recv().unwrap();
            give.send(f()).unwrap();
        });
    });
    begun.recv().unwrap();
    drop(runtime);
    tell.send(()).unwrap();
    take.recv_timeout(PATIENCE).unwrap()
}

fn check_panic<T>(waits: impl FnOnce() -> T) {
    let payload = catch_unwind(AssertUnwindSafe(|| drop(waits()))).expect_err("it was never done");
    assert_eq!(text(&*payload), NeverRan.to_string());
}

fn text(payload: &(dyn Any + Send)) -> &str {
    payload.downcast_ref::<String>().map(String::as_str).or(payload.downcast_ref::<&str>().copied()).unwrap()
}

#[test]
fn a_wait_group_panics() {
    let wg = in_a_dropped_runtime(|| {
        let wg = WaitGroup::new();
        (0..3).for_each(|_| wg.go(|| unreachable!()));
        wg
    });
    check_panic(|| wg.wait());
    check_panic(|| wg.wait_ctx(&Context::background()));
}

#[test]
fn a_group_fails() {
    let start = || {
        let group: Group<u32> = Group::new();
        group.set_limit(3);
        group.go(|| unreachable!());
        assert!(group.try_go(|| unreachable!()).is_ok());
        group
    };
    let group = in_a_dropped_runtime(start);
    assert!(group.wait().unwrap_err().is::<NeverRan>());
    let group = in_a_dropped_runtime(start);
    group.go(|| Ok(7));
    let results = group.wait_all();
    assert!(results[..2].iter().all(|result| result.as_ref().unwrap_err().is::<NeverRan>()));
    assert_eq!(*results[2].as_ref().unwrap(), 7);
    let group = in_a_dropped_runtime(start);
    assert_eq!(group.results().filter(Result::is_err).count(), 2);
    // It has also given its places back.
    (0..3).for_each(|n| group.go(move || Ok(n)));
    assert_eq!(group.wait().unwrap(), [0, 1, 2]);
}

#[test]
fn a_scope_panics() {
    on_a_helper_of_a_dropped_runtime(|| {
        let mut numbers = vec![1];
        check_panic(|| scope(|s| _ = s.go(|| numbers.push(2))));
        assert_eq!(numbers, [1]);
        // The joiner has been told.
        let joined = scope(|s| s.go(|| numbers.push(2)).join());
        assert_eq!(joined.unwrap_err().message(), Some(NeverRan::MESSAGE));
        let group: Group<()> = Group::new();
        check_panic(|| scope(|s| group.go_in(s, || unreachable!())));
        assert!(group.wait().unwrap_err().is::<NeverRan>());
    });
}

#[test]
fn a_key_of_singleflight_is_free() {
    let group: Arc<singleflight::Group<u32, u32>> = Arc::default();
    let theirs = group.clone();
    let receiver = in_a_dropped_runtime(move || theirs.run_chan(1, || unreachable!()));
    assert_eq!(receiver.recv().unwrap_err(), RecvError);
    assert_eq!(group.run(1, || 6).value, 6);
    assert_eq!(group.run_chan(1, || 7).recv().unwrap().value, 7);
}

/// An output does not simply end, as if it were complete.
#[test]
fn the_output_of_a_pattern_ends_with_a_panic() {
    fn check<R: Send + 'static>(start: impl FnOnce(&Context, Receiver<u32>) -> Receiver<R> + Send + 'static) {
        let output = in_a_dropped_runtime(|| {
            let (tx, rx) = chan::bounded(1);
            tx.send(1).unwrap();
            start(&Context::background(), rx)
        });
        check_panic(|| output.iter().count());
    }
    const WAIT: Duration = Duration::from_millis(1);
    check(|ctx, input| pattern::worker_pool(ctx, input, 2, |n| n));
    check(|ctx, input| pattern::elastic_pool(ctx, input, 2, WAIT, || |n| n));
    check(|ctx, input| pattern::par_map(ctx, input, 2, |n| n));
    check(|ctx, input| pattern::try_par_map(ctx, input, 2, |_, n| Ok::<_, ()>(n)));
    check(|ctx, input| pattern::fan_out(ctx, input, 1, |n| n).remove(0));
    check(|ctx, input| pattern::fan_in(ctx, vec![input]));
    check(|ctx, _| pattern::source(ctx, 0..10));
    check(|ctx, input| pattern::batch(ctx, input, 2, WAIT));
    check(|ctx, input| pattern::debounce(ctx, input, WAIT));
    let stream = in_a_dropped_runtime(|| {
        let stream = pattern::Stream::new(&Context::background(), 2);
        stream.go(|| || unreachable!()).unwrap();
        stream
    });
    check_panic(|| stream.wait());
}

#[test]
fn none_is_the_first() {
    on_a_helper_of_a_dropped_runtime(|| {
        let tasks = || [|_: &Context| Err::<(), _>("ran")];
        let failed = pattern::first_ok(&Context::background(), tasks()).unwrap_err();
        assert!(matches!(failed, pattern::FirstError::Exited(errors) if errors.is_empty()));
        assert!(catch_unwind(|| pattern::first(&Context::background(), tasks())).is_err());
    });
}
