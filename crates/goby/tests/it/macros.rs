//! `#[goby::main]` and `#[goby::test]`, under the real harness. Tests that must fail are run by
//! name in a child process.

mod fixtures;

use std::process::Output;

use goby_test_support::this_program;

/// Set in the child process, where the fixtures do what their names say.
const FIXTURES: &str = "GOBY_TEST_FIXTURES";

/// Runs the fixtures that a filter names, by libtest, and returns the output.
fn run(filter: &str, options: &[&str]) -> Output {
    this_program()
        .arg(format!("macros::fixtures::{filter}"))
        .args(options)
        .env(FIXTURES, "1")
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Checks that one fixture fails, and that its output has each of these.
#[track_caller]
fn check_fails(name: &str, says: &[&str]) {
    let output = run(name, &["--exact"]);
    let text = text(&output);
    assert_eq!(output.status.code(), Some(101), "{text}");
    assert!(text.contains("0 passed; 1 failed"), "{text}");
    for part in says {
        assert!(text.contains(part), "{part:?} is missing in: {text}");
    }
}

#[track_caller]
fn check_passes(name: &str) {
    let output = run(name, &["--exact"]);
    assert!(output.status.success() && text(&output).contains("1 passed"), "{}", text(&output));
}

#[test]
fn a_deadlocked_test_fails_at_once_and_shows_where() {
    check_fails("deadlock", &["all goroutines are asleep - deadlock!", "[chan receive]:", "fixtures.rs"]);
}

#[test]
fn each_of_the_tests_that_run_side_by_side_gets_its_own_verdict() {
    let output = run("side_by_side", &["--test-threads=8"]);
    let text = text(&output);
    assert!(text.contains("1 passed; 4 failed"), "{text}");
    assert_eq!(text.matches("all goroutines are asleep - deadlock!").count(), 4, "{text}");
}

#[test]
fn tests_that_share_statics_or_threads_are_no_deadlock() {
    for (filter, threads) in [("share_a_static", "--test-threads=2"), ("use_a_pool", "--test-threads=1")] {
        let output = run(filter, &[threads]);
        assert!(text(&output).contains("2 passed; 0 failed"), "{}", text(&output));
    }
}

#[test]
fn a_thread_that_sleeps_in_std_and_then_sends_is_waited_for() {
    check_passes("a_thread_sends_late");
}

#[test]
fn a_thread_that_waits_in_goby_for_the_test_is_no_hope() {
    check_fails("a_thread_waits_too", &["all goroutines are asleep - deadlock!"]);
}

#[test]
fn a_verdict_comes_once_a_thread_that_could_have_helped_has_ended() {
    check_fails("a_thread_ends", &["all goroutines are asleep - deadlock!"]);
}

#[test]
fn a_goroutine_left_behind_fails_the_test() {
    check_fails("leak", &["1 goroutine leaked", "[chan receive"]);
}

#[test]
fn a_panic_that_nobody_joins_fails_the_test() {
    check_fails("unjoined_panic", &["panicked and nobody joined it: nobody joins me"]);
}

#[test]
fn a_panic_that_is_joined_does_not() {
    check_passes("joined_panic");
}

#[test]
fn a_test_that_takes_too_long_fails_and_shows_its_goroutines() {
    check_fails("too_long", &["the test has not ended after 300ms: raise `timeout`", "[sleep"]);
}

#[test]
fn a_test_that_never_gives_its_worker_back_ends_by_its_time_limit() {
    check_fails("endless_loop", &["the test has not ended after 300ms"]);
}

#[test]
fn a_result_that_is_an_error_fails_the_test() {
    check_fails("error", &["Error: \"what went wrong\""]);
}

#[test]
fn should_panic_and_ignore_work_as_usual() {
    check_passes("should_panic");
    let output = run("ignored", &["--exact"]);
    assert!(text(&output).contains("1 ignored"), "{}", text(&output));
}

#[test]
fn timers_that_nobody_waits_for_do_not_hold_up_the_verdict() {
    check_fails("an_idle_ticker", &["all goroutines are asleep - deadlock!"]);
}

#[goby::test(workers = 3)]
fn the_number_of_workers_is_set() {
    let workers: std::collections::HashSet<_> = goby::diag::goroutines().iter().map(|info| info.id()).collect();
    assert_eq!(workers.len(), 1, "the test is the only goroutine of its runtime");
}

#[test]
fn a_main_gives_its_result_to_the_process() {
    assert_eq!(goby::__macros::main(|| ()), std::process::ExitCode::SUCCESS);
    assert_eq!(goby::__macros::main(|| Err::<(), _>("what went wrong")), std::process::ExitCode::FAILURE);
}
