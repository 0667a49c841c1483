//! One data race per program. `Turn` fixes which side is first, and that both sides have been
//! started before. Joining, dropping a handle and entering a scope's counter may order more than
//! they promise, and would sometimes hide the race.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use goby::sync::{Mutex, WaitGroup};
use goby::{Context, blocking, chan, go, scope, select, spawn, time, yield_now};

use crate::Program;
use crate::shared::{Turn, Unprotected};

pub const PROGRAMS: &[Program] = &[
    ("two_goroutines", two_goroutines),
    ("yields_between", yields_between),
    ("write_after_go", write_after_go),
    ("first_has_ended", first_has_ended),
    ("handle_dropped_late", handle_dropped_late),
    ("handle_in_scope_dropped_late", handle_in_scope_dropped_late),
    ("write_after_send", write_after_send),
    ("write_after_select", write_after_select),
    ("buffered_is_no_rendezvous", buffered_is_no_rendezvous),
    ("write_after_cancel", write_after_cancel),
    ("two_mutexes", two_mutexes),
    ("sleep_to_synchronize", sleep_to_synchronize),
    ("done_too_early", done_too_early),
    ("destructor", destructor),
    ("blocking_closure", blocking_closure),
    ("future", future),
    ("timer_callback", timer_callback),
    ("os_thread", os_thread),
];

fn two_goroutines() {
    let (n, turn) = (Unprotected::new(), Turn::new());
    scope(|s| {
        s.go(|| {
            turn.wait();
            n.add();
        });
        s.go(|| {
            n.add();
            turn.give();
        });
    });
}

fn yields_between() {
    let (n, turn) = (Unprotected::new(), Turn::new());
    scope(|s| {
        s.go(|| {
            turn.wait();
            for _ in 0..10 {
                n.add();
                yield_now();
            }
        });
        s.go(|| {
            n.add();
            turn.give();
            for _ in 0..10 {
                yield_now();
                n.add();
            }
        });
    });
}

fn write_after_go() {
    let shared = Arc::new((Unprotected::new(), Turn::new()));
    let theirs = shared.clone();
    let reader = go(move || {
        theirs.1.wait();
        theirs.0.read();
    });
    shared.0.add();
    shared.1.give();
    reader.join().unwrap();
}

/// The goroutine that writes first has ended, its stack is free again, and nobody has joined it.
fn first_has_ended() {
    let shared = Arc::new((Unprotected::new(), Turn::new(), Turn::new()));
    let theirs = shared.clone();
    go(move || {
        theirs.1.wait();
        theirs.0.add();
        theirs.2.give();
    });
    shared.1.give();
    shared.2.wait();
    for _ in 0..100 {
        go(|| {}).join().unwrap();
    }
    shared.0.add();
}

/// A handle is dropped long after its goroutine has ended. That is not a join.
fn handle_dropped_late() {
    let shared = Arc::new((Unprotected::new(), Turn::new()));
    let theirs = shared.clone();
    let handle = go(move || {
        theirs.0.add();
        theirs.1.give();
    });
    shared.1.wait();
    (0..100).for_each(|_| yield_now());
    drop(handle);
    shared.0.add();
}

fn handle_in_scope_dropped_late() {
    let (n, turn) = (Unprotected::new(), Turn::new());
    scope(|s| {
        let handle = s.go(|| {
            n.add();
            turn.give();
        });
        turn.wait();
        (0..100).for_each(|_| yield_now());
        drop(handle);
        n.add();
    });
}

fn write_after_send() {
    let (n, turn) = (Unprotected::new(), Turn::new());
    let (tx, rx) = chan::bounded(1);
    scope(|s| {
        s.go(|| {
            tx.send(()).unwrap();
            turn.wait();
            n.add();
        });
        rx.recv().unwrap();
        n.read();
        turn.give();
    });
}

fn write_after_select() {
    let (n, turn) = (Unprotected::new(), Turn::new());
    let (tx, rx) = chan::bounded(1);
    let never = chan::never::<()>();
    scope(|s| {
        s.go(|| {
            select! {
                send(tx, ()) -> sent => sent.unwrap(),
                recv(never) -> _ => unreachable!(),
            }
            turn.wait();
            n.add();
        });
        select! {
            recv(rx) -> received => received.unwrap(),
            recv(never) -> _ => unreachable!(),
        }
        n.read();
        turn.give();
    });
}

/// A receive is ordered before the end of its send only where the channel has no buffer.
fn buffered_is_no_rendezvous() {
    let (n, turn) = (Unprotected::new(), Turn::new());
    let (tx, rx) = chan::bounded(1);
    scope(|s| {
        s.go(|| {
            turn.wait();
            n.add();
            rx.recv().unwrap();
        });
        tx.send(()).unwrap();
        n.read();
        turn.give();
    });
}

fn write_after_cancel() {
    let (n, turn) = (Unprotected::new(), Turn::new());
    let (ctx, cancel) = Context::background().with_cancel();
    scope(|s| {
        s.go(|| {
            let _ = ctx.done().recv();
            turn.wait();
            n.read();
        });
        cancel.cancel();
        n.add();
        turn.give();
    });
}

fn two_mutexes() {
    let (n, turn) = (Unprotected::new(), Turn::new());
    let (one, other) = (Mutex::new(()), Mutex::new(()));
    scope(|s| {
        s.go(|| {
            turn.wait();
            let _guard = one.lock();
            n.add();
        });
        s.go(|| {
            {
                let _guard = other.lock();
                n.add();
            }
            turn.give();
        });
    });
}

/// A long wait is not an order.
fn sleep_to_synchronize() {
    let n = Arc::new(Unprotected::new());
    let other = go({
        let n = n.clone();
        move || n.add()
    });
    time::sleep(Duration::from_millis(50));
    n.add();
    other.join().unwrap();
}

/// `done` comes before the last write: the wait orders only what came before `done`.
fn done_too_early() {
    let shared = Arc::new((Unprotected::new(), Turn::new(), Turn::new()));
    let wg = WaitGroup::new();
    wg.add(1);
    let (theirs, done) = (shared.clone(), wg.clone());
    go(move || {
        done.done();
        theirs.1.wait();
        theirs.0.add();
        theirs.2.give();
    });
    wg.wait();
    shared.0.read();
    shared.1.give();
    shared.2.wait();
}

/// A destructor reads what another owner wrote after it had given up its share.
fn destructor() {
    struct Owner(Arc<Unprotected>);
    impl Drop for Owner {
        fn drop(&mut self) {
            self.0.read();
        }
    }
    let (n, turn) = (Arc::new(Unprotected::new()), Turn::new());
    let share = Arc::new(Owner(n.clone()));
    let last = share.clone();
    scope(|s| {
        s.go(|| {
            turn.wait();
            drop(last);
        });
        s.go(|| {
            drop(share);
            n.add();
            turn.give();
        });
    });
}

fn blocking_closure() {
    let (n, turn) = (Unprotected::new(), Turn::new());
    scope(|s| {
        s.go(|| {
            turn.wait();
            n.add();
        });
        s.go(|| {
            blocking(|| n.add());
            turn.give();
        });
    });
}

/// A future is spawned and joined, each with an edge; accesses in between have none.
fn future() {
    let shared = Arc::new((Unprotected::new(), Turn::new(), Turn::new()));
    let theirs = shared.clone();
    let task = spawn(async move {
        poll_fn(|cx| {
            if theirs.1.is_given() {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        theirs.0.add();
        theirs.2.give();
    });
    shared.0.add();
    shared.1.give();
    shared.2.wait();
    task.join().unwrap();
}

fn timer_callback() {
    let shared = Arc::new((Unprotected::new(), Turn::new()));
    let theirs = shared.clone();
    let _timer = time::after_func(Duration::from_millis(1), move || {
        theirs.0.add();
        theirs.1.give();
    });
    shared.1.wait();
    shared.0.add();
}

fn os_thread() {
    let shared = Arc::new((Unprotected::new(), Turn::new()));
    let theirs = shared.clone();
    let thread = std::thread::spawn(move || {
        theirs.0.add();
        theirs.1.give();
    });
    shared.1.wait();
    shared.0.add();
    blocking(|| thread.join()).unwrap();
}
