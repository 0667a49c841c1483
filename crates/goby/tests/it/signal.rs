//! Signals. They are for the whole process, so each test runs alone in a child process.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::Duration;

use goby::chan::TryRecvError;
use goby::context::ContextError;
use goby::signal::{self, Interrupted, Signal};
use goby::{Context, go, select};

use crate::support::{pause, rerun_alone, run_child, wait_until, with_workers};

/// Sends a signal to the calling thread. Otherwise the system would choose libtest's main thread,
/// which waits in a lock of std, and so never handles it under ThreadSanitizer.
fn send(signal: Signal) {
    // SAFETY: the signal is handled, or ends the process.
    assert_eq!(unsafe { libc::raise(signal.as_raw()) }, 0);
}

/// The threads that wait for signals.
fn n_waiting_threads() -> usize {
    let names = std::fs::read_dir("/proc/self/task").unwrap().filter_map(|task| {
        // It may have ended in between.
        std::fs::read_to_string(task.unwrap().path().join("comm")).ok()
    });
    names.filter(|name| name.trim() == "goby-signals").count()
}

#[test]
fn signals_come_to_who_asked() {
    if !rerun_alone("signal::signals_come_to_who_asked") {
        return;
    }
    with_workers(|| {
        let one = signal::notify(&[Signal::USER1]).unwrap();
        let both = signal::notify(&[Signal::USER1, Signal::USER2]).unwrap();
        let waiter = go({
            let one = one.clone();
            move || one.recv()
        });
        send(Signal::USER1);
        assert_eq!(waiter.join().unwrap(), Ok(Signal::USER1));
        assert_eq!(both.recv(), Ok(Signal::USER1));
        send(Signal::USER2);
        select! {
            recv(one) -> signal => panic!("{signal:?}"),
            recv(both) -> signal => assert_eq!(signal, Ok(Signal::USER2)),
        }
        drop(one);
        send(Signal::USER1);
        assert_eq!(both.recv(), Ok(Signal::USER1), "one of the two goes on");
        drop(both);
        wait_until("the thread to end", || n_waiting_threads() == 0);
    });
}

#[test]
fn a_full_channel_drops_the_signal() {
    if !rerun_alone("signal::a_full_channel_drops_the_signal") {
        return;
    }
    with_workers(|| {
        let slow = signal::notify(&[Signal::USER1]).unwrap();
        let quick = signal::notify(&[Signal::USER1]).unwrap();
        for _ in 0..3 {
            send(Signal::USER1);
            // They are told in the order in which they asked.
            assert_eq!(quick.recv(), Ok(Signal::USER1));
        }
        assert_eq!(slow.recv(), Ok(Signal::USER1));
        assert_eq!(slow.try_recv(), Err(TryRecvError::Empty));
    });
}

#[test]
fn a_signal_ends_a_context() {
    if !rerun_alone("signal::a_signal_ends_a_context") {
        return;
    }
    with_workers(|| {
        let background = Context::background();
        let (ctx, stop) = signal::notify_context(&background, &[Signal::INTERRUPT, Signal::TERMINATED]).unwrap();
        assert_eq!(ctx.err(), None);
        send(Signal::TERMINATED);
        assert!(ctx.done().recv().is_err());
        assert_eq!(ctx.cause().unwrap().downcast_ref(), Some(&Interrupted(Signal::TERMINATED)));
        let seen = signal::notify(&[Signal::INTERRUPT]).unwrap();
        send(Signal::INTERRUPT);
        assert_eq!(seen.recv(), Ok(Signal::INTERRUPT));
        assert_eq!(ctx.cause().unwrap().downcast_ref(), Some(&Interrupted(Signal::TERMINATED)), "the first stays");
        stop.stop();

        let (ctx, stop) = signal::notify_context(&background, &[Signal::INTERRUPT]).unwrap();
        drop(stop);
        assert_eq!(ctx.cause().unwrap().downcast_ref(), Some(&ContextError::Canceled));

        let (parent, cancel) = background.with_cancel();
        let (ctx, _stop) = signal::notify_context(&parent, &[Signal::INTERRUPT]).unwrap();
        cancel.cancel();
        assert!(ctx.err().is_some());
        wait_until("one thread", || n_waiting_threads() == 1);
    });
    wait_until("the thread to end", || n_waiting_threads() == 0);
}

/// Go's idiom: the first Ctrl-C stops in order, the second ends the process.
#[test]
fn after_the_stop_a_signal_does_its_default() {
    let Some(output) = run_child("signal::after_the_stop_a_signal_does_its_default") else {
        // A shell that runs the tests in the background may ignore the signal, and children inherit
        // that.
        // SAFETY: the default action is no handler.
        unsafe { libc::signal(Signal::INTERRUPT.as_raw(), libc::SIG_DFL) };
        for _ in 0..2 {
            let (ctx, stop) = signal::notify_context(&Context::background(), &[Signal::INTERRUPT]).unwrap();
            send(Signal::INTERRUPT);
            let _ = ctx.done().recv();
            stop.stop();
        }
        println!("stopped in good order");
        send(Signal::INTERRUPT);
        pause(Duration::from_secs(60));
        unreachable!("the process has ended");
    };
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.contains("stopped in good order"), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.signal(), Some(Signal::INTERRUPT.as_raw()));
}

/// A signal may still come, so a goroutine that waits for one is not stuck. After it has stopped
/// the signals, it is stuck.
#[test]
fn waiting_for_a_signal_is_no_deadlock() {
    let Some(output) = run_child("signal::waiting_for_a_signal_is_no_deadlock") else {
        alone(|| {
            let waiter = go(|| {
                let signals = signal::notify(&[Signal::USER1]).unwrap();
                // Long enough for the deadlock detector to have looked. No thread of this process
                // sends it.
                let later = format!("sleep 0.7; kill -USR1 {}", std::process::id());
                let mut sender = Command::new("sh").args(["-c", &later]).spawn().unwrap();
                assert_eq!(signals.recv(), Ok(Signal::USER1));
                eprintln!("the signal came");
                sender.wait().unwrap();
                drop(signals);
                goby::chan::never::<()>().recv()
            });
            let _ = waiter.join();
        })
    };
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("the signal came"), "{stderr}");
    assert!(stderr.contains("all goroutines are asleep"), "{stderr}");
    assert_eq!(output.status.code(), Some(2), "{stderr}");
}

/// Runs `body` in a process with no thread but the calling one: libtest's own thread would hide
/// deadlocks. The process ends with the exit code that `body` gives.
fn alone(body: impl FnOnce()) -> ! {
    // SAFETY: the other thread of this process is libtest's, which waits for this one and holds no
    // lock meanwhile.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: this only sets the process's timer, which ends a hang.
        unsafe { libc::alarm(120) };
        body();
        std::process::exit(0);
    }
    let mut status = 0;
    // SAFETY: `status` is a place to write to, and `child` our child.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    std::process::exit(if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 101 });
}
