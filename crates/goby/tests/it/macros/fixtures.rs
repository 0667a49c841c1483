//! Tests that do what their names say only if `super::run` has started them.

use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use goby::{chan, go, time};

use super::FIXTURES;

fn is_asked_for() -> bool {
    std::env::var_os(FIXTURES).is_some()
}

/// Waits for an event that never comes.
fn wait_for_nothing() {
    let (tx, rx) = chan::bounded::<u32>(0);
    let _ = rx.recv();
    drop(tx);
}

#[goby::test(workers = 2)]
fn deadlock() {
    if is_asked_for() {
        wait_for_nothing();
    }
}

mod side_by_side {
    use super::*;

    #[goby::test]
    fn one() {
        deadlock();
    }

    #[goby::test]
    fn two() {
        deadlock();
    }

    #[goby::test]
    fn three() {
        deadlock();
    }

    #[goby::test]
    fn four() {
        deadlock();
    }

    #[goby::test]
    fn sleeps() {
        if is_asked_for() {
            time::sleep(Duration::from_secs(1));
        }
    }

    fn deadlock() {
        if is_asked_for() {
            wait_for_nothing();
        }
    }
}

#[goby::test(workers = 1, timeout = "30s")]
fn a_thread_sends_late() {
    if !is_asked_for() {
        return;
    }
    let (tx, rx) = chan::bounded(0);
    // The test is about this time.
    thread::spawn(move || {
        thread::sleep(Duration::from_secs(2));
        tx.send(7)
    });
    assert_eq!(rx.recv(), Ok(7));
}

#[goby::test(workers = 1, timeout = "30s")]
fn a_thread_waits_too() {
    if !is_asked_for() {
        return;
    }
    let (tx, rx) = chan::bounded::<u32>(0);
    let theirs = rx.clone();
    let thread = thread::spawn(move || theirs.recv());
    let _ = rx.recv();
    drop(tx);
    let _ = thread.join();
}

#[goby::test(workers = 1, timeout = "30s")]
fn a_thread_ends() {
    if !is_asked_for() {
        return;
    }
    static GO_ON: OnceLock<()> = OnceLock::new();
    thread::spawn(|| GO_ON.wait());
    go(|| {
        time::sleep(Duration::from_millis(300));
        GO_ON.set(())
    });
    wait_for_nothing();
}

#[goby::test]
fn leak() {
    if is_asked_for() {
        go(wait_for_nothing);
    }
}

#[goby::test]
fn unjoined_panic() {
    if is_asked_for() {
        go(|| panic!("nobody joins me"));
    }
}

#[goby::test]
fn joined_panic() {
    assert!(go(|| panic!("joined")).join().is_err());
}

#[goby::test(timeout = "300ms")]
fn too_long() {
    if is_asked_for() {
        time::sleep(Duration::from_secs(3600));
    }
}

#[goby::test(timeout = "300ms")]
fn endless_loop() {
    while is_asked_for() {
        std::hint::spin_loop();
    }
}

#[goby::test]
fn error() -> Result<(), Box<dyn std::error::Error>> {
    if is_asked_for() { Err("what went wrong".into()) } else { Ok(()) }
}

#[goby::test]
#[should_panic(expected = "on purpose")]
fn should_panic() {
    panic!("on purpose");
}

#[goby::test]
#[ignore = "to see that it is"]
fn ignored() {
    panic!("was run");
}

#[goby::test(timeout = "20s")]
fn an_idle_ticker() {
    if !is_asked_for() {
        return;
    }
    let _ticker = time::Ticker::new(Duration::from_millis(100));
    wait_for_nothing();
}

/// Tests that share a static: one may unpark the other.
mod share_a_static {
    use super::*;

    static LOCK: goby::sync::Mutex<()> = goby::sync::Mutex::new(());
    static IS_HELD: OnceLock<()> = OnceLock::new();

    #[goby::test(timeout = "30s")]
    fn one_holds_a_lock_for_a_while() {
        if is_asked_for() {
            let _held = LOCK.lock();
            let _ = IS_HELD.set(());
            // Long enough for many looks for a deadlock.
            time::sleep(Duration::from_millis(700));
        }
    }

    #[goby::test(timeout = "30s")]
    fn the_other_waits_for_it() {
        if is_asked_for() {
            goby::blocking(|| IS_HELD.wait());
            drop(LOCK.lock());
        }
    }
}

/// A thread that an earlier test has started works for a later test.
mod use_a_pool {
    use std::sync::{LazyLock, Mutex, mpsc};

    use super::*;

    type Job = Box<dyn FnOnce() + Send>;
    static POOL: LazyLock<Mutex<mpsc::Sender<Job>>> = LazyLock::new(|| {
        let (jobs_in, jobs) = mpsc::channel::<Job>();
        thread::spawn(move || jobs.into_iter().for_each(|job| job()));
        Mutex::new(jobs_in)
    });

    fn run_for(time: Duration) {
        let (tx, rx) = chan::bounded(0);
        let job = move || {
            thread::sleep(time);
            tx.send(7).unwrap();
        };
        POOL.lock().unwrap().send(Box::new(job)).unwrap();
        assert_eq!(rx.recv(), Ok(7));
    }

    #[goby::test(timeout = "30s")]
    fn a_first() {
        if is_asked_for() {
            run_for(Duration::ZERO);
        }
    }

    #[goby::test(timeout = "30s")]
    fn then_a_second() {
        if is_asked_for() {
            run_for(Duration::from_millis(700));
        }
    }
}
