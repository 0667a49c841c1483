//! User code that a scheduler comes upon runs in a goroutine, where it may park, and panic.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use goby_runtime::{
    Direction, Foreign, InheritedLocal, Source, Timer, Watcher, current_id, let_go, let_go_shared, now, yield_now,
};

use crate::support::{Door, in_child, runtime, stderr};

/// A value with a destructor that parks until the door is open, and says whether a goroutine ran
/// it.
struct Parks {
    door: Arc<Door>,
    dropped: mpsc::Sender<bool>,
}

impl Drop for Parks {
    fn drop(&mut self) {
        self.door.pass();
        self.dropped.send(current_id().is_some()).unwrap();
    }
}

/// On one worker: a destructor that put its thread to sleep would keep the goroutine that opens the
/// door from running.
#[test]
fn what_a_timer_lets_go_of() {
    for shared in [false, true] {
        let (door, (dropped, was_dropped)) = (Arc::new(Door::new()), mpsc::channel());
        let value = Mutex::new(Some(Parks { door: door.clone(), dropped }));
        let runtime = runtime(1);
        let timer = runtime.run(move || {
            let timer = Timer::new(move |_| {
                let value = value.lock().unwrap().take().unwrap();
                if shared { let_go_shared(Arc::new(value)) } else { let_go(value) }
            });
            timer.start(now());
            timer
        });
        runtime.run(move || {
            while !door.has_waiters() {
                yield_now();
            }
            door.open();
        });
        assert!(was_dropped.recv().unwrap());
        drop(timer);
    }
}

/// Lets go of its reference at an edge, on the poller's stack.
struct Owner(Mutex<Option<Arc<Tells>>>);

impl Watcher for Owner {
    fn edge(&self) {
        let_go_shared(self.0.lock().unwrap().take().unwrap());
    }
}

/// A value whose destructor reads it, and says what it read.
struct Tells(Box<u64>, mpsc::Sender<u64>);

impl Drop for Tells {
    fn drop(&mut self) {
        self.1.send(*self.0).unwrap();
    }
}

/// ThreadSanitizer sees that the destructor runs after what the other owners have done.
#[test]
fn what_a_scheduler_was_the_last_to_own() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let (dropped, was_dropped) = mpsc::channel();
    let runtime = runtime(1);
    let source = runtime.run(move || {
        let source = Source::new(ours);
        let value = Arc::new(Tells(Box::new(7), dropped));
        let owner = Arc::new(Owner(Mutex::new(Some(value.clone()))));
        assert!(source.watch(Direction::Read, source.edges(Direction::Read), owner).unwrap());
        drop(value);
        source
    });
    theirs.write_all(b"an edge").unwrap();
    assert_eq!(was_dropped.recv().unwrap(), 7);
    drop((source, runtime));
}

/// Where no scheduler runs, a destructor runs at once, without another goroutine.
#[test]
fn what_others_let_go_of_goes_at_once() {
    let value = Arc::new(());
    let_go(value.clone());
    assert_eq!(Arc::strong_count(&value), 1);
    let theirs = value.clone();
    runtime(1).run(move || {
        let_go_shared(Arc::new(theirs));
        assert_eq!(Arc::strong_count(&value), 1);
    });
}

#[test]
fn what_is_the_users_and_dropped_by_a_scheduler_ends_a_debug_build() {
    let output = in_child("errands::what_is_the_users_and_dropped_by_a_scheduler_ends_a_debug_build", || {
        let timer = Timer::new(|_| drop(Foreign));
        timer.start(now());
        // Only a debug build ends the process here.
        while cfg!(debug_assertions) {
            thread::yield_now();
        }
    });
    let text = stderr(&output);
    assert_eq!(text.contains("user code on a scheduler's stack"), cfg!(debug_assertions), "{text}");
    assert_eq!(output.status.success(), !cfg!(debug_assertions), "{text}");
}

/// A waker of an executor that goby does not know.
struct ParksWhenWoken(Arc<Door>, mpsc::Sender<bool>);

impl Wake for ParksWhenWoken {
    fn wake(self: Arc<Self>) {
        self.0.pass();
        self.1.send(current_id().is_some()).unwrap();
    }
}

#[test]
fn a_foreign_waker_of_a_socket() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let source = Arc::new(Source::new(ours));
    let (door, (woken, was_woken)) = (Arc::new(Door::new()), mpsc::channel());
    let waker = Waker::from(Arc::new(ParksWhenWoken(door.clone(), woken)));
    let runtime = runtime(1);
    let polled = source.clone();
    runtime.run(move || {
        let poll = polled.poll_ready(Direction::Read, 0, &mut Context::from_waker(&waker));
        assert!(matches!(poll, Poll::Pending));
    });
    drop(theirs);
    runtime.run(move || {
        while !door.has_waiters() {
            yield_now();
        }
        door.open();
    });
    assert!(was_woken.recv().unwrap());
}

/// A worker may be late to answer a thread that asks for its goroutines. Then it may hold the last
/// reference to their values.
#[test]
fn a_goroutine_local_in_an_answer_that_came_late() {
    static LOCAL: InheritedLocal<Arc<Says>> = InheritedLocal::new();
    struct Says(mpsc::Sender<bool>);
    impl Drop for Says {
        fn drop(&mut self) {
            self.0.send(current_id().is_some()).unwrap();
        }
    }
    /// Keeps a worker until told otherwise.
    fn keep(begun: &AtomicBool, end: &AtomicBool) {
        begun.store(true, Ordering::SeqCst);
        while !end.load(Ordering::SeqCst) {
            std::hint::spin_loop();
        }
        yield_now();
    }
    static BEGUN: [AtomicBool; 2] = [AtomicBool::new(false), AtomicBool::new(false)];
    static ENDS: [AtomicBool; 2] = [AtomicBool::new(false), AtomicBool::new(false)];
    let (dropped, was_dropped) = mpsc::channel();
    let runtime = Arc::new(runtime(2));
    let first = runtime.go(move || {
        LOCAL.set(Arc::new(Says(dropped)));
        keep(&BEGUN[0], &ENDS[0]);
    });
    let second = runtime.go(|| keep(&BEGUN[1], &ENDS[1]));
    while !BEGUN.iter().all(|begun| begun.load(Ordering::SeqCst)) {
        thread::yield_now();
    }
    // It gives up, since neither of them comes back.
    assert_eq!(runtime.goroutines().len(), 2);
    ENDS[0].store(true, Ordering::SeqCst);
    first.join().unwrap();
    ENDS[1].store(true, Ordering::SeqCst);
    second.join().unwrap();
    assert!(was_dropped.recv().unwrap());
}
