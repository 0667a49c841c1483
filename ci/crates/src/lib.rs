//! Other crates under goby: the rows of the table in the guide's page `other_crates`, one test
//! each, named after it.
//!
//! The module that a test is in is the row's verdict: [`as_it_is`], [`through_blocking`],
//! [`through_tokio`], [`does_not`]. The tests of the first three have one worker, so a call that
//! blocks the thread blocks all goroutines: what works there parks the goroutine. [`page`] compares
//! the table with the tests. [`servers`] starts what the clients talk to.

#![cfg(test)]

mod as_it_is;
mod does_not;
mod page;
mod servers;
mod through_blocking;
mod through_tokio;

use std::env;
use std::io;
use std::process::{self, Command};
use std::sync::{Arc, Mutex};
use std::thread;

use goby::sync::Barrier;
use goby::{Runtime, chan, go};

/// Tells a child process that it is one.
const CHILD: &str = "GOBY_CRATES_CHILD";
/// The exit status of a child process in which two goroutines stand still.
const STAND_STILL: i32 = 86;

/// Makes a value live as long as the process: goroutines that are stuck forever may go on using it.
fn forever<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

/// Shows that two goroutines of one worker stand still forever, in a process of their own. `test`
/// is the name of the calling test in [`does_not`].
///
/// The neighbor begins. In the middle of `neighbor`, where that calls its argument, it waits for a
/// word. Then `blocks` begins on the same worker, and must block the thread until the neighbor has
/// gone on. When goby has reported that `blocks` keeps the worker, the neighbor gets its word: now
/// it needs only the worker.
fn stands_still(test: &str, neighbor: impl FnOnce(&dyn Fn()) + Send + 'static, blocks: impl FnOnce() + Send + 'static) {
    if env::var_os(CHILD).is_none() {
        let mut child = Command::new(env::current_exe().unwrap());
        let output = child.args(["--exact", &format!("does_not::{test}")]).env(CHILD, "1").output().unwrap();
        assert_eq!(output.status.code(), Some(STAND_STILL), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    let runtime = Runtime::builder().workers(1).report_leaks(false).build().unwrap();
    let (word, words) = chan::bounded::<()>(0);
    let blocked = runtime.go(move || {
        let (begun, has_begun) = chan::bounded(0);
        go(move || {
            neighbor(&|| {
                begun.send(()).unwrap();
                words.recv().unwrap();
            })
        });
        has_begun.recv().unwrap();
        blocks();
    });
    let keeps_the_worker = || {
        let stalls = runtime.stalls();
        stalls.iter().any(|stall| stall.goroutine().is_some_and(|goroutine| goroutine.id() == blocked.id()))
    };
    while !keeps_the_worker() {
        thread::yield_now();
    }
    // The word is received at once, since the neighbor waits for it.
    word.send(()).unwrap();
    assert!(!blocked.is_finished());
    assert_eq!(runtime.num_goroutines(), 2);
    process::exit(STAND_STILL);
}

/// Lines that `tracing_subscriber` has formatted.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// A subscriber that writes here.
    fn subscriber(&self) -> impl tracing::Subscriber + Send + Sync + use<> {
        let log = self.clone();
        let fmt = tracing_subscriber::fmt().with_ansi(false).without_time().with_target(false);
        fmt.with_writer(move || log.clone()).finish()
    }

    /// The lines, sorted.
    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let mut lines: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
        lines.sort_unstable();
        lines
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Enters a span, and waits in it until the others have entered theirs.
#[tracing::instrument(skip(entered))]
fn job(n: u32, entered: &Barrier) {
    entered.wait();
    tracing::info!("done");
}

/// Lets three goroutines of one worker do a job each, under this subscriber.
fn three_jobs(subscriber: tracing::Dispatch) {
    let entered = Arc::new(Barrier::new(3));
    let jobs = [0, 1, 2].map(|n| {
        let (subscriber, entered) = (subscriber.clone(), entered.clone());
        go(move || goby::tracing::with_default(&subscriber, || job(n, &entered)))
    });
    for job in jobs {
        job.join().unwrap();
    }
}
