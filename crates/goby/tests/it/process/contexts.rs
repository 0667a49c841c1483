//! Children that a context ends.

use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use goby::context::ContextError;
use goby::process::{Command, CutShort, PipesHeld, Stdio};
use goby::signal::Signal;
use goby::{Context, go, now};

use super::{is_running, is_there, read_pid, shell};
use crate::support::{MOMENT, on_workers, pause, rerun_alone, wait_until, with_workers};

#[test]
fn a_context_kills_its_child() {
    with_workers(|| {
        let (ctx, cancel) = Context::background().with_cancel();
        let mut child = Command::new("sleep").arg("1000").spawn_ctx(&ctx).unwrap();
        let id = child.id();
        let waiter = go(move || (child.wait().unwrap_err(), child.wait().unwrap_err(), child.try_wait().unwrap()));
        pause(MOMENT);
        assert!(is_running(id));
        cancel.cancel();
        let (error, again, status) = waiter.join().unwrap();
        assert_eq!((error.kind(), again.kind()), (ErrorKind::ConnectionAborted, ErrorKind::ConnectionAborted));
        assert_eq!(status.unwrap().signal(), Some(9));
        assert!(!is_there(id));
        let error = Command::new("true").spawn_ctx(&ctx).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionAborted, "done already");
    });
}

#[test]
fn a_child_that_ends_before_its_context_has_its_own_status() {
    with_workers(|| {
        let (ctx, cancel) = Context::background().with_cancel();
        let mut child = shell("exit 3").spawn_ctx(&ctx).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(3));
        cancel.cancel();
        assert_eq!(child.wait().unwrap().code(), Some(3));
    });
}

/// A shell and its `sleep`: both are gone.
#[test]
fn a_context_kills_the_group_where_asked() {
    with_workers(|| {
        let (ctx, cancel) = Context::background().with_cancel();
        let mut shell = shell("sleep 1000 & echo $!; wait");
        let mut child = shell.stdout(Stdio::piped()).kill_group(true).spawn_ctx(&ctx).unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let sleep = read_pid(&mut stdout);
        assert!(is_running(sleep) && is_running(child.id()));
        cancel.cancel();
        assert!(child.wait().is_err());
        wait_until("the sleep to be gone", || !is_running(sleep));
        assert_eq!(stdout.read(&mut [0]).unwrap(), 0);
    });
}

/// A grandchild that ignores the signal does not outlive the child.
#[test]
fn what_is_left_of_a_group_is_killed() {
    with_workers(|| {
        let (ctx, cancel) = Context::background().with_cancel();
        let mut command = shell("(trap '' TERM; echo deaf; while :; do sleep 0.01; done) & echo $!; exec sleep 1000");
        command.stdout(Stdio::piped()).kill_group(true).cancel(|process| process.signal(Signal::TERMINATED));
        let mut child = command.spawn_ctx(&ctx).unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut lines = [String::new(), String::new()];
        lines.iter_mut().for_each(|line| _ = stdout.read_line(line).unwrap());
        let deaf: u32 = lines.iter().find_map(|line| line.trim().parse().ok()).unwrap();
        cancel.cancel();
        assert!(child.wait().is_err());
        wait_until("it to be gone", || !is_running(deaf));
    });
}

/// Its leader has exited, but the group is still the context's while its output is collected.
#[test]
fn a_context_kills_what_is_left_of_a_group() {
    with_workers(|| {
        let (ctx, _cancel) = Context::background().with_timeout(Duration::from_millis(100));
        let started = now();
        let error = shell("sleep 1000 & echo $!").kill_group(true).output_ctx(&ctx).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(error.to_string(), "context deadline exceeded");
        assert!(started.elapsed() >= Duration::from_millis(100));
    });
}

/// What a child has written before its context ended it is in the error, with its status.
#[test]
fn what_a_killed_child_has_written_is_kept() {
    with_workers(|| {
        let (mut ready, tell_ready) = goby::io::pipe().unwrap();
        let (ctx, cancel) = Context::background().with_cancel();
        let mut command = shell("echo before; echo ready >&2; exec sleep 1000");
        command.stderr(tell_ready);
        let collector = go(move || command.output_ctx(&ctx).unwrap_err());
        ready.read_exact(&mut [0; 6]).unwrap();
        cancel.cancel();
        let error = collector.join().unwrap();
        assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::ConnectionAborted, "context canceled"));
        let source = std::error::Error::source(&error).unwrap();
        assert_eq!(source.downcast_ref(), Some(&ContextError::Canceled));
        let cut = error.downcast::<CutShort>().unwrap();
        assert_eq!(cut.output().stdout, b"before\n");
        assert_eq!(cut.output().status.signal(), Some(9));
    });
}

/// A grandchild that the context does not reach holds the pipe: the call ends all the same.
#[test]
fn collecting_ends_with_the_context_though_a_grandchild_holds_the_pipe() {
    with_workers(|| {
        for script in ["sleep 20 & echo $! >&2", "sleep 20 & echo $! >&2; wait"] {
            let (ctx, cancel) = Context::background().with_cancel();
            let mut command = shell(script);
            let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn_ctx(&ctx).unwrap();
            let mut stderr = BufReader::new(child.stderr.take().unwrap());
            let sleep = read_pid(&mut stderr);
            let collector = go(move || child.wait_with_output().unwrap_err());
            cancel.cancel();
            assert_eq!(collector.join().unwrap().to_string(), "context canceled");
            assert!(is_running(sleep), "{script}");
            assert!(Command::new("kill").arg(sleep.to_string()).status().unwrap().success());
        }
    });
}

/// The child ignores the signal, and is killed after the delay.
#[test]
fn wait_delay_kills_a_child_that_takes_no_notice() {
    const DELAY: Duration = Duration::from_millis(50);
    with_workers(|| {
        let (ctx, cancel) = Context::background().with_cancel();
        let mut deaf = shell("trap '' TERM; echo ready; while :; do sleep 0.01; done");
        deaf.stdout(Stdio::piped()).wait_delay(DELAY);
        deaf.cancel(|process| process.signal(Signal::TERMINATED));
        let mut child = deaf.spawn_ctx(&ctx).unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
        let started = now();
        cancel.cancel();
        assert!(child.wait().is_err());
        assert!(started.elapsed() >= DELAY);
        assert_eq!(child.try_wait().unwrap().unwrap().signal(), Some(9));
    });
}

/// The child handles the signal in time, and what it writes then is read.
#[test]
fn a_child_has_the_delay_to_finish() {
    with_workers(|| {
        let (ctx, cancel) = Context::background().with_cancel();
        let mut polite = shell("trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done");
        polite.stdout(Stdio::piped()).wait_delay(Duration::from_secs(60));
        polite.cancel(|process| process.signal(Signal::TERMINATED));
        let mut child = polite.spawn_ctx(&ctx).unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        cancel.cancel();
        assert!(child.wait().is_err());
        assert!(child.try_wait().unwrap().unwrap().success());
        line.clear();
        stdout.read_to_string(&mut line).unwrap();
        assert_eq!(line, "bye\n");
    });
}

/// Pipes that a grandchild holds do not keep their readers beyond the delay.
#[test]
fn wait_delay_ends_reads_of_pipes_that_are_held() {
    const DELAY: Duration = Duration::from_millis(50);
    with_workers(|| {
        let started = now();
        let error = shell("echo x; sleep 20 &").wait_delay(DELAY).output().unwrap_err();
        assert!(started.elapsed() >= DELAY);
        let held = error.get_ref().unwrap().downcast_ref::<PipesHeld>().unwrap();
        assert_eq!(held.output().stdout, b"x\n");
        assert!(held.output().status.success());

        let (ctx, cancel) = Context::background().with_cancel();
        let mut command = shell("sleep 20 2>/dev/null & echo $!; wait");
        let mut child = command.stdout(Stdio::piped()).wait_delay(DELAY).spawn_ctx(&ctx).unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        read_pid(&mut stdout);
        let reader = go(move || stdout.read(&mut [0]).unwrap_err().kind());
        cancel.cancel();
        assert!(child.wait().is_err());
        assert_eq!(reader.join().unwrap(), ErrorKind::TimedOut);
    });
}

/// What the pipes hold when the delay is over is read, and nobody is blamed who holds nothing. (A
/// child that another test is just starting holds them.)
#[test]
fn the_delay_cuts_no_output() {
    if !rerun_alone("process::contexts::the_delay_cuts_no_output") {
        return;
    }
    with_workers(|| {
        for _ in 0..20 {
            let mut command = Command::new("head");
            command.args(["-c", "60000", "/dev/zero"]).wait_delay(Duration::ZERO);
            assert_eq!(command.output().unwrap().stdout.len(), 60_000);
        }
    });
}

#[test]
fn a_group_is_given_up() {
    with_workers(|| {
        let mut command = shell("cut -d' ' -f5 /proc/$$/stat");
        let mut group = |kills| {
            let output = command.kill_group(kills).output().unwrap();
            String::from_utf8(output.stdout).unwrap().trim().parse::<i32>().unwrap()
        };
        let ours = rustix::process::getpgrp().as_raw_pid();
        assert_eq!(group(false), ours);
        assert_ne!(group(true), ours);
        assert_eq!(group(false), ours);
    });
}

/// All helper threads are taken.
#[test]
fn a_start_that_waits_for_a_helper_ends_with_its_context() {
    on_workers(1, 0, || {
        let (open, gate) = std::sync::mpsc::channel::<()>();
        let gate = parking_lot::Mutex::new(gate);
        let begun = AtomicUsize::new(0);
        goby::scope(|s| {
            for _ in 0..512 {
                s.go(|| {
                    goby::blocking(|| {
                        begun.fetch_add(1, Ordering::Relaxed);
                        let _ = gate.lock().recv();
                    });
                });
            }
            wait_until("the helpers to be taken", || begun.load(Ordering::Relaxed) == 512);
            let (ctx, _cancel) = Context::background().with_timeout(MOMENT);
            assert_eq!(Command::new("true").spawn_ctx(&ctx).unwrap_err().kind(), ErrorKind::TimedOut);
            drop(open);
        });
    });
}

/// A context also ends a child whose `Child` is gone.
#[test]
fn a_dropped_child_ends_with_its_context() {
    with_workers(|| {
        let (ctx, cancel) = Context::background().with_cancel();
        let id = Command::new("sleep").arg("1000").spawn_ctx(&ctx).unwrap().id();
        pause(MOMENT);
        assert!(is_running(id));
        cancel.cancel();
        wait_until("it to be gone", || !is_there(id));
    });
}

/// Ending by the user's function happens once, in a goroutine of its own.
#[test]
fn the_function_to_cancel_runs_once() {
    with_workers(|| {
        static CALLED: AtomicBool = AtomicBool::new(false);
        CALLED.store(false, Ordering::Relaxed);
        let (ctx, _cancel) = Context::background().with_deadline(Instant::now());
        let (later, cancel) = Context::background().with_cancel();
        let mut command = Command::new("sleep");
        command.arg("1000").cancel(|process| {
            assert!(!CALLED.swap(true, Ordering::Relaxed));
            process.kill()
        });
        assert!(command.spawn_ctx(&ctx).is_err());
        assert!(!CALLED.load(Ordering::Relaxed), "it was not started");
        let mut child = command.spawn_ctx(&later).unwrap();
        cancel.cancel();
        assert!(child.wait().is_err());
        assert!(CALLED.load(Ordering::Relaxed));
    });
}
