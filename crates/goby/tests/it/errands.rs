//! User code that a scheduler comes upon runs in a goroutine, never on the scheduler's own stack.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{self, Wake, Waker};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use futures_io::AsyncRead;
use goby::net::{TcpListener, TcpStream};
use goby::{Context, time};

use crate::support::PATIENCE;
use goby_test_support::{in_child, stderr};

/// Whether the caller is a goroutine, or this thread.
fn is_allowed(thread: ThreadId) -> bool {
    goby_runtime::current_id().is_some() || thread::current().id() == thread
}

/// A value of the user, which checks where it is dropped.
#[derive(Debug)]
struct Value {
    maker: ThreadId,
    strayed: Arc<AtomicBool>,
}

impl Value {
    fn new(strayed: &Arc<AtomicBool>) -> Value {
        Value { maker: thread::current().id(), strayed: strayed.clone() }
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        if !is_allowed(self.maker) {
            self.strayed.store(true, Ordering::SeqCst);
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("value")
    }
}

impl Error for Value {}

/// Lets `make` make an object that a timer ends some 50 µs later, and drops it about then, many
/// times: the firing may have the last reference.
fn check<T>(make: impl Fn(Duration, Value) -> T) {
    let strayed = Arc::new(AtomicBool::new(false));
    for n in 0..3000 {
        let made = make(Duration::from_micros(n % 50), Value::new(&strayed));
        let start = Instant::now();
        while start.elapsed() < Duration::from_micros(n * 7 % 150) {
            std::hint::spin_loop();
        }
        drop(made);
        assert!(!strayed.load(Ordering::SeqCst), "dropped on a scheduler's stack, in round {n}");
    }
}

#[test]
fn a_function_that_is_called_later() {
    check(|wait, value| {
        struct Stops(time::AfterFunc);
        impl Drop for Stops {
            fn drop(&mut self) {
                self.0.stop();
            }
        }
        Stops(time::after_func(wait, move || _ = &value))
    });
}

#[test]
fn the_cause_of_a_context_whose_deadline_passes() {
    check(|wait, value| Context::background().with_timeout_cause(wait, Arc::new(value)));
}

#[test]
fn the_cause_of_a_context_below() {
    check(|wait, value| {
        let (parent, cancel) = Context::background().with_timeout(wait);
        let below = parent.with_timeout_cause(PATIENCE, Arc::new(value));
        (below, parent, cancel)
    });
}

#[test]
fn the_function_of_a_context() {
    check(|wait, value| {
        let (ctx, cancel) = Context::background().with_timeout(wait);
        ctx.after_func(move || drop(value));
        (ctx, cancel)
    });
}

#[test]
fn what_a_socket_with_a_deadline_owns() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    check(|wait, value| {
        let stream = TcpStream::from_std(stream.try_clone().unwrap()).unwrap();
        stream.set_context(Some(&Context::background().with_value(value)));
        stream.set_read_deadline(Some(goby::now() + wait));
        stream
    });
}

/// A waker of an executor that goby does not know; it may wait, too.
struct Foreign(ThreadId, mpsc::Sender<bool>);

impl Wake for Foreign {
    fn wake(self: Arc<Self>) {
        self.1.send(is_allowed(self.0)).unwrap();
    }
}

#[test]
fn the_waker_of_a_timers_receiver() {
    let (woken, was_woken) = mpsc::channel();
    let waker = Waker::from(Arc::new(Foreign(thread::current().id(), woken)));
    let (timer, (ctx, _cancel)) =
        (time::after(Duration::from_millis(2)), Context::background().with_timeout(Duration::from_millis(4)));
    let mut fires = pin!(timer.recv_async());
    assert!(fires.as_mut().poll(&mut task::Context::from_waker(&waker)).is_pending());
    let mut done = pin!(ctx.done().recv_async());
    assert!(done.as_mut().poll(&mut task::Context::from_waker(&waker)).is_pending());
    assert!(was_woken.recv_timeout(PATIENCE).unwrap());
    assert!(was_woken.recv_timeout(PATIENCE).unwrap());
}

/// The previous waker is dropped when another is registered, without a lock that its destructor may
/// need.
#[test]
fn a_waker_may_use_its_socket_when_it_is_dropped() {
    struct UsesIt(Arc<TcpStream>);
    impl Wake for UsesIt {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for UsesIt {
        fn drop(&mut self) {
            self.0.set_read_deadline(None);
        }
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = Arc::new(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
    let (end, ended) = mpsc::channel();
    thread::spawn(move || {
        for waker in [Waker::from(Arc::new(UsesIt(stream.clone()))), Waker::noop().clone()] {
            let poll = Pin::new(&mut &*stream).poll_read(&mut task::Context::from_waker(&waker), &mut [0]);
            assert!(poll.is_pending());
        }
        end.send(()).unwrap();
    });
    ended.recv_timeout(PATIENCE).unwrap();
}

/// The worker comes upon a waker while a panic hook waits on that worker.
#[test]
fn a_foreign_waker_is_no_part_of_a_panic_hook_that_waits() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("in a waker");
        }
    }
    let output = in_child("errands::a_foreign_waker_is_no_part_of_a_panic_hook_that_waits", || {
        std::panic::set_hook(Box::new(|_| {
            if goby_runtime::current_id().is_some() {
                time::sleep(Duration::from_millis(200));
            }
        }));
        let runtime = goby::Runtime::builder().workers(1).build().unwrap();
        // Long enough for the hook to wait by then, and short enough for it to be still waiting.
        let due = runtime.run(|| time::after(Duration::from_millis(100)));
        let waker = Waker::from(Arc::new(Panics));
        let mut receive = pin!(due.recv_async());
        assert!(receive.as_mut().poll(&mut task::Context::from_waker(&waker)).is_pending());
        assert!(runtime.go(|| panic!("ordinary")).join().is_err());
        println!("goes on");
    });
    assert!(output.status.success(), "{}: {}", output.status, stderr(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("goes on"));
}
