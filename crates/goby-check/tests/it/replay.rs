//! A failure comes back by its schedule, in another process too.

use std::process::Command;
use std::sync::{Arc, Mutex as StdMutex};

use goby::{chan, go};
use goby_check::{Config, Failure, FailureKind, Schedule, replay};

/// Tells a test that it is the other process, and what to replay.
const SCHEDULE: &str = "GOBY_CHECK_TEST_SCHEDULE";

/// Goroutines that race to a channel: fails if the last comes first. Writes down who came when.
fn program(seen: &StdMutex<Vec<u64>>) {
    let (sender, receiver) = chan::bounded(4);
    for n in 0..5 {
        let sender = sender.clone();
        go(move || sender.send(n + 10 * (goby::random() % 7)).unwrap());
    }
    drop(sender);
    let order: Vec<u64> = receiver.iter().collect();
    *seen.lock().unwrap() = order.clone();
    assert_ne!((order[0] % 10, order[4] % 10), (4, 0), "{order:?}");
}

fn failure(seen: &Arc<StdMutex<Vec<u64>>>) -> Box<Failure> {
    let theirs = seen.clone();
    Config::random(10_000).seed(5).run(move || program(&theirs)).unwrap_err()
}

fn message_of_replay(schedule: &str, seen: &Arc<StdMutex<Vec<u64>>>) -> String {
    let theirs = seen.clone();
    let schedule: Schedule = schedule.parse().unwrap();
    let failure = Config::replay(schedule).run(move || program(&theirs)).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Panic);
    failure.message().to_owned()
}

#[test]
fn a_failure_comes_back() {
    let seen = Arc::default();
    let failure = failure(&seen);
    assert!(failure.comes_back());
    let first = seen.lock().unwrap().clone();
    for _ in 0..3 {
        seen.lock().unwrap().clear();
        assert_eq!(message_of_replay(&failure.schedule().to_string(), &seen), failure.message());
        assert_eq!(*seen.lock().unwrap(), first);
    }
}

#[test]
fn in_another_process_too() {
    let seen = Arc::default();
    if let Ok(schedule) = std::env::var(SCHEDULE) {
        println!("message: {}", message_of_replay(&schedule, &seen));
        return;
    }
    let failure = failure(&seen);
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["replay::in_another_process_too", "--exact", "--nocapture"])
        .env(SCHEDULE, failure.schedule().to_string())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.contains(&format!("message: {}\n", failure.message())), "{text}");
}

#[test]
fn equal_seeds_find_equal_failures() {
    let (one, other) = (failure(&Arc::default()), failure(&Arc::default()));
    assert_eq!(one.schedule(), other.schedule());
    assert_eq!(one.execution(), other.execution());
}

#[test]
fn a_schedule_of_another_program_does_not_fit() {
    let schedule: Schedule = "g1-1-05".parse().unwrap();
    let failure = Config::replay(schedule).run(|| program(&StdMutex::default())).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Diverged);
}

#[test]
fn a_program_that_does_not_do_the_same_each_time_is_named() {
    let n = StdMutex::new(0);
    let failure = Config::random(100).seed(1).run(move || {
        let mut n = n.lock().unwrap();
        *n += 1;
        assert_ne!(*n, 3);
    });
    let failure = failure.unwrap_err();
    assert!(!failure.comes_back());
    assert!(failure.to_string().contains("did not lead to it a second time"), "{failure}");
}

#[test]
fn the_report_says_what_there_is_to_know() {
    let failure = Config::random(1000).seed(1).run(|| {
        let (sender, receiver) = chan::bounded::<u32>(0);
        let waits = goby::goroutine::Builder::new().name("waits").go(move || receiver.recv());
        let _sender = sender;
        waits.join().unwrap().unwrap();
    });
    let text = failure.unwrap_err().to_string();
    for part in [
        "deadlock: no goroutine can ever go on",
        "found by a random walk, in execution 1 of 1000, GOBY_CHECK_SEED=0x1",
        "goroutine 1 [join], started at ",
        "goroutine 2 \"waits\" [chan receive], started at ",
        "tests/it/replay.rs:",
        "goroutine 2: begins",
        "goby_check::replay(\"g1-",
    ] {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
}

#[test]
#[should_panic(expected = "a panic that is told")]
fn replay_panics_as_the_check_did() {
    replay("g1-1-", || panic!("a panic that is told"));
}
