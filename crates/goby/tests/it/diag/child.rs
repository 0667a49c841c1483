//! Events that end a process, or belong to it as a whole: deadlock verdicts (S39), panics, signals.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::Output;
use std::time::Duration;

use goby::sync::WaitGroup;
use goby::{PanicPolicy, Runtime, chan, diag, go, time};

use goby_test_support::{in_child, in_child_with, stderr};

const FIRST_LINE: &str = "fatal error: all goroutines are asleep - deadlock!\n\n";

fn check_verdict(output: &Output) -> String {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.starts_with(FIRST_LINE), "{text}");
    text
}

fn check_no_verdict(output: &Output) {
    assert!(output.status.success(), "{}: {}", output.status, stderr(output));
}

#[test]
fn s39a_main_parks_for_ever() {
    let text = check_verdict(&in_child("diag::child::s39a_main_parks_for_ever", || goby::run(|| goby::select! {})));
    assert!(text.contains("goroutine 1 [select (no cases)]:"), "{text}");
}

/// The same before anything else has run: the runtime starts for it.
#[test]
fn s39b_start_up_code_parks_for_ever() {
    check_verdict(&in_child("diag::child::s39b_start_up_code_parks_for_ever", || {
        static TABLE: std::sync::LazyLock<u32> =
            std::sync::LazyLock::new(|| go(|| chan::never::<u32>().recv().unwrap()).join().unwrap());
        println!("{}", *TABLE);
    }));
}

/// A pinned child parks, main parks a moment later; also if main is a plain thread.
#[test]
fn s39cd_a_child_and_then_main() {
    check_verdict(&in_child("diag::child::s39cd_a_child_and_then_main", || {
        let (tx, rx) = chan::bounded::<u32>(0);
        go(move || tx.clone().send(chan::never().recv().unwrap()));
        time::sleep(Duration::from_millis(1));
        println!("{:?}", rx.recv());
    }));
}

#[test]
fn s39e_main_calls_goexit() {
    let output = in_child("diag::child::s39e_main_calls_goexit", || {
        goby::run(|| {
            go(goby::yield_now);
            go(goby::yield_now);
            goby::goexit()
        })
    });
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(stderr(&output), "fatal error: no goroutines (main called runtime.Goexit) - deadlock!\n");
}

#[test]
fn s39fg_timers_and_networks_are_no_deadlock() {
    check_no_verdict(&in_child("diag::child::s39fg_timers_and_networks_are_no_deadlock", || {
        goby::run(|| time::after(Duration::from_secs(1)).recv().unwrap());
        goby::run(|| {
            let listener = goby::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (mut stream, _) = listener.accept().unwrap();
            // The answer comes from outside goby, after a while.
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(300));
                std::io::Write::write_all(&mut client, b"answer").unwrap();
            });
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert_eq!(answer, "answer");
        });
    }));
}

/// A ring of a thousand goroutines, each waiting for the next. One of them sleeps first, and until
/// its sleep ends there is no verdict.
#[test]
fn s39hi_a_ring() {
    let text = check_verdict(&in_child("diag::child::s39hi_a_ring", || {
        goby::run(|| {
            let ends: Vec<_> = (0..1000).map(|_| chan::bounded::<()>(0)).collect();
            for i in 0..1000 {
                let (tx, rx) = (ends[i].0.clone(), ends[(i + 1) % 1000].1.clone());
                go(move || {
                    if i == 500 {
                        time::sleep(Duration::from_millis(100));
                        println!("slept");
                    }
                    rx.recv().unwrap();
                    tx.send(())
                });
            }
            ends[0].1.recv().unwrap();
        });
    }));
    assert!(text.starts_with(&format!("{FIRST_LINE}1001 goroutines are parked forever\n")), "{text}");
    assert!(text.contains("more alike: "), "{text}");
}

/// `done` comes from a deferred call of a goroutine that panics. If a panic ends the process, it
/// must do so before main returns as if nothing were wrong.
#[test]
fn c291_a_panic_wins_over_a_normal_exit() {
    for attempt in 0..10 {
        let output = in_child("diag::child::c291_a_panic_wins_over_a_normal_exit", || {
            let runtime = Runtime::builder().workers(2).on_panic(PanicPolicy::Abort).build().unwrap();
            runtime.run(|| {
                let wg = WaitGroup::new();
                wg.add(1);
                let done = wg.clone();
                go(move || {
                    struct Done(WaitGroup);
                    impl Drop for Done {
                        fn drop(&mut self) {
                            self.0.done();
                        }
                    }
                    let _done = Done(done);
                    panic!("crash");
                });
                wg.wait();
                // In Go main may return here, and the panic has as much time as that takes.
                time::sleep(Duration::from_secs(5));
            });
        });
        let text = stderr(&output);
        assert_eq!(output.status.signal(), Some(libc::SIGABRT), "attempt {attempt}: {text}");
        assert!(text.contains("crash") && text.contains("tests/it/diag/child.rs:"), "{text}");
    }
}

/// A dump on request, and the program goes on.
#[test]
fn sigquit_prints_a_dump() {
    check_no_verdict(&in_child("diag::child::sigquit_prints_a_dump", || {
        let (mut reader, writer) = std::io::pipe().unwrap();
        // SAFETY: both descriptors belong to this process; nobody uses them meanwhile.
        unsafe { libc::dup2(std::os::fd::AsRawFd::as_raw_fd(&writer), libc::STDERR_FILENO) };
        diag::dump_on_sigquit().unwrap();
        goby::run(|| {
            let (tx, rx) = chan::bounded::<u32>(0);
            let waits = go(move || rx.recv());
            crate::support::wait_until("it to wait", || diag::goroutines().iter().any(|g| g.waited().is_some()));
            for _ in 0..2 {
                // SAFETY: the signal is handled.
                unsafe { libc::raise(libc::SIGQUIT) };
                let mut text = Vec::new();
                goby::blocking(|| {
                    while !String::from_utf8_lossy(&text).contains("created by goroutine 1 at ") {
                        let mut part = [0; 4096];
                        let n = reader.read(&mut part).unwrap();
                        text.extend_from_slice(&part[..n]);
                    }
                });
                let text = String::from_utf8(text).unwrap();
                assert!(text.starts_with("SIGQUIT: quit\n\ngoroutine 1 ["), "{text}");
                assert!(text.contains(" [chan receive]:\n"), "{text}");
            }
            tx.send(7).unwrap();
            assert_eq!(waits.join().unwrap(), Ok(7));
        });
    }));
}

/// The thread that waits for the signal does not count as one that can end the deadlock.
#[test]
fn sigquit_does_not_hide_deadlocks() {
    check_verdict(&in_child("diag::child::sigquit_does_not_hide_deadlocks", || {
        diag::dump_on_sigquit().unwrap();
        goby::run(|| goby::select! {});
    }));
}

#[test]
fn run_reports_what_it_leaves_behind() {
    let only_reported = [("GOBY_LEAKS", "")];
    let output = in_child_with("diag::child::run_reports_what_it_leaves_behind", &only_reported, || {
        let runtime = Runtime::builder().workers(2).report_leaks(true).build().unwrap();
        runtime.run(|| drop(go(|| ())));
        runtime.run(|| {
            for _ in 0..3 {
                go(|| chan::never::<u32>().recv());
            }
        });
    });
    check_no_verdict(&output);
    let text = stderr(&output);
    assert!(text.starts_with("goby: 3 goroutines leaked\n\ngoroutine "), "{text}");
    assert!(text.contains("and 2 more alike: "), "{text}");
}
