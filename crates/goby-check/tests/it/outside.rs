//! What leaves a check fails it, with a text that says what to do.

use goby::{Runtime, chan, go};
use goby_check::{Config, FailureKind};

#[track_caller]
fn leaves<T>(part: &str, program: impl Fn() -> T + Send + Sync + 'static) {
    let failure = Config::random(10).run(program).expect_err("nothing was said");
    assert_eq!(failure.kind(), FailureKind::Outside, "{failure}");
    assert!(failure.message().contains(part), "{failure}");
}

#[test]
fn a_blocking_call() {
    leaves("put a goroutine in its place", || goby::blocking(|| 7));
    leaves("put a goroutine in its place", || goby::fs::read("/proc/self/stat"));
}

#[test]
fn a_socket() {
    leaves("talk through channels there", || {
        let listener = goby::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.accept()
    });
}

#[test]
fn a_thread_that_wakes() {
    leaves("start goroutines with goby::go in place of threads", || {
        let (sender, receiver) = chan::bounded(0);
        let (told, tells) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            tells.recv().unwrap();
            sender.send(1).unwrap();
        });
        let waits = go(move || receiver.recv());
        while goby::diag::goroutines().iter().all(|info| info.waited().is_none()) {
            goby::yield_now();
        }
        told.send(()).unwrap();
        thread.join().unwrap();
        waits.join()
    });
}

#[test]
fn another_runtime() {
    leaves("use the one that runs already", || drop(Runtime::builder().workers(1).build()));
}

#[test]
fn a_future_that_waits_inside_its_poll() {
    leaves("await there", || {
        let (_sender, receiver) = chan::bounded::<()>(0);
        goby::spawn(async move { receiver.recv() }).join()
    });
}

#[test]
#[should_panic(expected = "a check inside a check")]
fn a_check_inside_a_check() {
    goby_check::check_random(1, || goby_check::check_random(1, || ()));
}

#[test]
fn checks_run_beside_each_other_and_in_goroutines() {
    let runtime = Runtime::builder().workers(2).build().unwrap();
    runtime.run(|| {
        let checks: Vec<_> =
            (0..4).map(|_| go(|| Config::random(100).run(|| go(|| 7).join().unwrap()).unwrap().executions)).collect();
        for check in checks {
            assert_eq!(check.join().unwrap(), 100);
        }
    });
}
