//! What all tests share: runtimes of several sizes with a leak check, bounded polling, a watchdog,
//! and *actors*, which run the same body as a goroutine, on a plain OS thread, inside `block_on`,
//! or as a spawned future.

use std::any::Any;
use std::fs::File;
use std::future::Future;
use std::os::unix::fs::FileExt;
use std::panic::resume_unwind;
use std::pin::pin;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use goby_test_support::this_program;
pub(crate) use goby_test_support::{PATIENCE, pause, wait_until};

use goby::chan::{Receiver, RecvError, SendError, Sender};
use goby::{JoinError, JoinHandle, Runtime, Task, block_on, blocking, go, num_goroutines, spawn};
use parking_lot::RwLock;

/// Runs `test` as the main goroutine of runtimes with 1, 2 and 4 workers, and checks that it leaves
/// no goroutine behind.
pub(crate) fn with_workers(test: impl Fn() + Send + Sync) {
    with_workers_leaving(0, test);
}

/// Like [`with_workers`], for tests of waits without an end: exactly `parked` goroutines are left
/// afterwards.
pub(crate) fn with_workers_leaving(parked: usize, test: impl Fn() + Send + Sync) {
    for workers in [1, 2, 4] {
        on_workers(workers, parked, &test);
    }
}

/// Runs `test` on one runtime with `workers` workers.
pub(crate) fn on_workers(workers: usize, parked: usize, test: impl Fn() + Send + Sync) {
    let _watchdog = Watchdog::start(workers);
    let mut builder = Runtime::builder().workers(workers);
    if parked > 0 {
        builder = builder.report_leaks(false);
    }
    let runtime = builder.build().expect("a runtime");
    runtime.run(|| {
        let start = num_goroutines();
        test();
        // Not looked at again: a scheduler may still start one that drops something.
        wait_until("the goroutines of the test to end", || num_goroutines() == start + parked);
    });
}

/// Whether the tests run at full size.
pub(crate) fn slow() -> bool {
    std::env::var_os("RUN_SLOW_TESTS").is_some_and(|value| value == "1")
}

/// `full` with `RUN_SLOW_TESTS=1`, `quick` otherwise.
pub(crate) fn size(quick: usize, full: usize) -> usize {
    if slow() { full } else { quick }
}

/// The size of a quick run, if a debug build takes many times as long.
pub(crate) fn debug_or_release(debug: usize, release: usize) -> usize {
    if cfg!(debug_assertions) { debug } else { release }
}

/// The channel capacities that "for every capacity" means: 0 to 19, or 0 to 199 at full size, as in
/// Go's own tests.
pub(crate) fn capacities() -> std::ops::Range<usize> {
    0..size(20, 200)
}

/// One millisecond: the minimum that Go's tests use for "still blocked".
pub(crate) const MOMENT: Duration = Duration::from_millis(1);

/// What runs an actor's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A goroutine that calls `send` and `recv`.
    Goroutine,
    /// A plain OS thread that calls `send` and `recv`.
    Thread,
    /// A goroutine that awaits `send_async` and `recv_async` in `block_on`.
    BlockOn,
    /// A spawned future that awaits `send_async` and `recv_async`.
    Task,
}

pub(crate) const KINDS: [Kind; 4] = [Kind::Goroutine, Kind::Thread, Kind::BlockOn, Kind::Task];

impl Kind {
    pub(crate) async fn send<T>(self, tx: &Sender<T>, value: T) -> Result<(), SendError<T>> {
        match self {
            Kind::Goroutine | Kind::Thread => tx.send(value),
            Kind::BlockOn | Kind::Task => tx.send_async(value).await,
        }
    }

    pub(crate) async fn recv<T>(self, rx: &Receiver<T>) -> Result<T, RecvError> {
        match self {
            Kind::Goroutine | Kind::Thread => rx.recv(),
            Kind::BlockOn | Kind::Task => rx.recv_async().await,
        }
    }
}

/// A running actor: body and kind are given to [`actor`].
pub(crate) enum Actor<T> {
    Goroutine(JoinHandle<T>),
    Thread(thread::JoinHandle<T>),
    Task(Task<T>),
}

/// Starts `body` as an actor of `kind`. The body is written once, as a future whose only waits are
/// those of [`Kind`].
pub(crate) fn actor<T, F>(kind: Kind, body: impl FnOnce(Kind) -> F + Send + 'static) -> Actor<T>
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    match kind {
        Kind::Goroutine => Actor::Goroutine(go(move || run_blocking(body(kind)))),
        Kind::Thread => Actor::Thread(thread::spawn(move || run_blocking(body(kind)))),
        Kind::BlockOn => Actor::Goroutine(go(move || block_on(body(kind)))),
        Kind::Task => Actor::Task(spawn(body(kind))),
    }
}

impl<T: Send> Actor<T> {
    /// Waits for the actor's value without blocking a worker; re-raises its panic.
    pub(crate) fn join(self) -> T {
        match self {
            Actor::Goroutine(handle) => handle.join().map_err(JoinError::into_payload),
            Actor::Thread(handle) => blocking(|| handle.join()),
            Actor::Task(task) => task.join().map_err(JoinError::into_payload),
        }
        .unwrap_or_else(|payload| resume_unwind(payload))
    }
}

/// Runs a future that blocks where others would return `Pending`.
fn run_blocking<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("a blocking body has no pending wait"),
    }
}

/// Aborts the test process and names the test if a test does not end: a hang must be a failure with
/// a name. The time can be set in seconds by `GOBY_TEST_LIMIT`, for a debugger.
struct Watchdog {
    /// Dropped when the test ends, which ends the watching thread.
    _alive: mpsc::Sender<()>,
}

impl Watchdog {
    fn start(workers: usize) -> Self {
        let (alive, ended) = mpsc::channel::<()>();
        let test = thread::current().name().unwrap_or("unnamed").to_owned();
        let limit = std::env::var("GOBY_TEST_LIMIT").ok().and_then(|seconds| seconds.parse().ok());
        let limit = Duration::from_secs(limit.unwrap_or(if slow() { 1200 } else { 150 }));
        thread::spawn(move || {
            if ended.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
                eprintln!("watchdog: {test} with {workers} workers has not ended after {limit:?}");
                std::process::abort();
            }
        });
        Watchdog { _alive: alive }
    }
}

/// Lets two threads act on the same object at the same moment, `rounds` times: `ours` in the
/// calling goroutine and `theirs` on a plain thread. They wait for each other in a spin, not in the
/// scheduler. `setup` makes the object of a round, and `check` gets it back with both results.
pub(crate) fn race<S, A, B>(
    rounds: usize,
    setup: impl Fn(usize) -> S,
    ours: impl Fn(&S) -> A,
    theirs: impl Fn(&S) -> B + Send + Sync,
    check: impl Fn(S, A, B),
) where
    S: Send + Sync,
    B: Send,
{
    let (thing, result) = (RwLock::new(None::<S>), parking_lot::Mutex::new(None));
    let (there, go, ended) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let spin_until = |count: &AtomicUsize, goal: usize| {
        for spins in 1u32.. {
            if count.load(Ordering::Acquire) >= goal {
                return;
            }
            // The other thread may need this processor.
            if spins.is_multiple_of(1000) { thread::yield_now() } else { std::hint::spin_loop() }
        }
    };
    /// When this thread panics, lets the other go on, into a panic of its own.
    struct Stop<'a>(&'a [&'a AtomicUsize]);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.iter().for_each(|count| count.store(usize::MAX, Ordering::Release));
        }
    }
    let counts = [&there, &go, &ended];
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            let _stop = Stop(&counts);
            for round in 1..=rounds {
                spin_until(&ended, 2 * round - 1);
                {
                    let thing = thing.read();
                    let thing = thing.as_ref().unwrap();
                    there.store(round, Ordering::Release);
                    spin_until(&go, round);
                    dither();
                    *result.lock() = Some(theirs(thing));
                }
                ended.store(2 * round, Ordering::Release);
            }
        });
        let stop = Stop(&counts);
        for round in 1..=rounds {
            *thing.write() = Some(setup(round));
            ended.store(2 * round - 1, Ordering::Release);
            let ours = {
                let thing = thing.read();
                spin_until(&there, round);
                go.store(round, Ordering::Release);
                dither();
                ours(thing.as_ref().unwrap())
            };
            spin_until(&ended, 2 * round);
            let theirs = result.lock().take().unwrap();
            check(thing.write().take().unwrap(), ours, theirs);
        }
        std::mem::forget(stop);
        // ThreadSanitizer follows a join, not the end of a scope.
        other.join().unwrap_or_else(|payload| resume_unwind(payload));
    });
}

/// Passes a random time, most often some ten nanoseconds, sometimes a few microseconds.
pub(crate) fn dither() {
    let most = [8, 64, 512][goby_runtime::random() as usize % 3];
    (0..goby_runtime::random() % most).for_each(|_| std::hint::spin_loop());
}

/// The text of a caught panic.
#[track_caller]
pub(crate) fn text_of(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).expect("a panic with a text")
}

/// Runs the test named `test` again in a child process, and returns its exit status and output,
/// which the caller checks. In that child it returns `None`.
pub(crate) fn run_child(test: &str) -> Option<Output> {
    const CHILD: &str = "GOBY_TEST_BODY";
    if std::env::var(CHILD).is_ok_and(|child| child == test) {
        return None;
    }
    let mut command = this_program();
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env("RUST_BACKTRACE", "0");
    Some(command.env(CHILD, test).output().unwrap())
}

/// Runs the test named `test` again, alone in a child process, and checks that it passes there.
/// Returns whether this process is that child, which then does the work.
pub(crate) fn rerun_alone(test: &str) -> bool {
    rerun_as(test, this_program())
}

/// Does as [`rerun_alone`]; the child has a network and mounts of its own, which `setup`, a shell
/// script, furnishes. Where that is not permitted, it says so, and nothing is tested.
pub(crate) fn rerun_in_namespace(test: &str, setup: &str) -> bool {
    const UNSHARE: [&str; 3] = ["--mount", "--net", "--"];
    if std::env::var(CHILD).is_err() {
        let tried = Command::new("unshare").args(UNSHARE).arg("true").output();
        if !tried.as_ref().is_ok_and(|output| output.status.success()) {
            println!("{test} is skipped: no namespace of its own: {tried:?}");
            return false;
        }
    }
    let program = this_program();
    let mut command = Command::new("unshare");
    command.args(UNSHARE).args(["sh", "-euc", &format!("{setup}\nexec \"$@\""), "sh"]);
    command.arg(program.get_program()).args(program.get_args());
    rerun_as(test, command)
}

const CHILD: &str = "GOBY_TEST_CHILD";

fn rerun_as(test: &str, mut program: Command) -> bool {
    if std::env::var(CHILD).is_ok_and(|child| child == test) {
        return true;
    }
    let output = program.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(CHILD, test).output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{stdout}{stderr}", output.status);
    assert!(stdout.contains("1 passed"), "the child did not run {test}");
    false
}

/// A goroutine that runs whenever its worker is free.
pub(crate) struct Others {
    turns: Arc<AtomicUsize>,
    stopped: Arc<AtomicBool>,
}

impl Others {
    pub(crate) fn start() -> Others {
        let others = Others { turns: Arc::default(), stopped: Arc::default() };
        let (turns, stopped) = (others.turns.clone(), others.stopped.clone());
        go(move || {
            while !stopped.load(Ordering::Relaxed) {
                turns.fetch_add(1, Ordering::Relaxed);
                goby::yield_now();
            }
        });
        others
    }

    /// Returns whether it ran on while `call` waited: a call that does not wait may still yield.
    pub(crate) fn run_during<R>(&self, call: impl FnOnce() -> R) -> bool {
        let before = self.turns.load(Ordering::Relaxed);
        call();
        self.turns.load(Ordering::Relaxed) - before > 3
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

/// Returns the first byte of a file, whose position is left alone.
pub(crate) fn first_byte(file: &File) -> u8 {
    let mut byte = [0];
    file.read_exact_at(&mut byte, 0).unwrap();
    byte[0]
}
