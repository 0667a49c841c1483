//! The rows 83 to 139 of the conformance list. Not here: 115 (a parent is never null), 135 (users
//! cannot make their own contexts); `src/context/tests.rs` checks the child counts of 131, since it
//! can see them. Trees are in `stress/contexts.rs`.

use std::error::Error;
use std::fmt;
use std::io::{ErrorKind, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use goby::chan::{self, TryRecvError};
use goby::context::{Cause, ContextError};
use goby::net::{TcpListener, TcpStream};
use goby::sync::{Cond, Mutex};
use goby::{Context, go, num_goroutines, yield_now};

use crate::support::{MOMENT, pause, size, with_workers};

const HOUR: Duration = Duration::from_secs(3600);

/// A cause that can be told from others.
#[derive(Debug, PartialEq)]
struct Why(&'static str);

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Why {}

fn why(text: &'static str) -> Cause {
    Arc::new(Why(text))
}

#[track_caller]
fn assert_open(ctx: &Context) {
    assert_eq!(ctx.err(), None, "{ctx}");
    assert_eq!(ctx.done().try_recv(), Err(TryRecvError::Empty), "{ctx}");
    assert!(ctx.cause().is_none(), "{ctx}");
}

#[track_caller]
fn assert_ended(ctx: &Context, error: ContextError) {
    assert_eq!(ctx.done().try_recv(), Err(TryRecvError::Closed), "{ctx}");
    assert_eq!(ctx.err(), Some(error), "{ctx}");
}

#[track_caller]
fn assert_cause(ctx: &Context, cause: &Cause) {
    assert!(Arc::ptr_eq(&ctx.cause().expect("a cause"), cause), "{ctx}: {:?}", ctx.cause());
}

#[track_caller]
fn assert_plain_cause(ctx: &Context, error: ContextError) {
    assert_eq!(ctx.cause().expect("a cause").downcast_ref(), Some(&error), "{ctx}");
}

#[test]
fn c083_background_is_never_done() {
    with_workers(|| {
        let ctx = Context::background();
        assert_open(&ctx);
        assert_eq!(ctx.deadline(), None);
        assert_eq!(ctx.to_string(), "context.Background");
        assert_eq!(format!("{ctx:?}"), "context.Background");
    });
}

#[test]
fn c085_before_cancel_all_layers_are_open() {
    with_workers(|| {
        let (parent, cancel) = Context::background().with_cancel();
        let wrapped = parent.with_value("wrapper");
        let (child, _cancel_child) = wrapped.with_cancel();
        for ctx in [&parent, &wrapped, &child] {
            assert_open(ctx);
        }
        cancel.cancel();
        for ctx in [&parent, &wrapped, &child] {
            assert_ended(ctx, ContextError::Canceled);
        }
    });
}

#[test]
fn c087_deadline_ends_a_context() {
    with_workers(|| {
        let start = Instant::now();
        let (ctx, _cancel) = Context::background().with_deadline(start + MOMENT);
        assert!(ctx.to_string().starts_with("context.Background.WithDeadline("), "{ctx}");
        assert!(ctx.done().recv().is_err());
        assert!(start.elapsed() >= MOMENT);
        assert_ended(&ctx, ContextError::DeadlineExceeded);
        assert_plain_cause(&ctx, ContextError::DeadlineExceeded);
    });
}

#[test]
fn c089_the_earliest_deadline_counts() {
    with_workers(|| {
        let (parent, _cancel) = Context::background().with_timeout(MOMENT);
        let (child, _cancel_child) = parent.with_value(1).with_timeout(1000 * HOUR);
        assert_eq!(child.deadline(), parent.deadline());
        assert!(child.done().recv().is_err());
        assert_ended(&child, ContextError::DeadlineExceeded);

        let (parent, _cancel) = Context::background().with_timeout(1000 * HOUR);
        let (child, _cancel_child) = parent.with_timeout(MOMENT);
        assert!(child.done().recv().is_err());
        assert_ended(&child, ContextError::DeadlineExceeded);
        assert_open(&parent);
    });
}

#[test]
fn c091_cancel_comes_before_the_deadline() {
    with_workers(|| {
        let (parent, _cancel) = Context::background().with_timeout(HOUR);
        let (child, cancel_child) = parent.with_timeout(1000 * HOUR);
        cancel_child.cancel();
        assert_ended(&child, ContextError::Canceled);
        assert_open(&parent);
    });
}

#[test]
fn c093_cause_of_a_canceled_timeout() {
    with_workers(|| {
        let (ctx, cancel) = Context::background().with_timeout(Duration::from_secs(1_000_000));
        cancel.cancel();
        assert_ended(&ctx, ContextError::Canceled);
        assert_plain_cause(&ctx, ContextError::Canceled);
    });
}

#[test]
fn c095_timeout_cause() {
    with_workers(|| {
        let too_slow = why("too slow");
        let (ctx, _cancel) = Context::background().with_timeout_cause(Duration::ZERO, too_slow.clone());
        assert_ended(&ctx, ContextError::DeadlineExceeded);
        assert_cause(&ctx, &too_slow);

        let (ctx, _cancel) = Context::background().with_timeout_cause(MOMENT, too_slow.clone());
        assert!(ctx.done().recv().is_err());
        assert_ended(&ctx, ContextError::DeadlineExceeded);
        assert_cause(&ctx, &too_slow);

        let (ctx, cancel) = Context::background().with_deadline_cause(Instant::now() + HOUR, too_slow);
        cancel.cancel();
        assert_plain_cause(&ctx, ContextError::Canceled);
    });
}

#[test]
fn c097_cancel_cause() {
    with_workers(|| {
        let parent_cause = why("parent");
        let (ctx, cancel) = Context::background().with_cancel_cause();
        cancel.cancel(parent_cause.clone());
        assert_ended(&ctx, ContextError::Canceled);
        assert_cause(&ctx, &parent_cause);
    });
}

#[test]
fn c099_the_first_cancellation_settles_the_cause() {
    with_workers(|| {
        let parent_cause = why("parent");
        let (parent, cancel) = Context::background().with_cancel_cause();
        let (child, cancel_child) = parent.with_cancel_cause();
        cancel.cancel(parent_cause.clone());
        cancel_child.cancel(why("child"));
        assert_cause(&parent, &parent_cause);
        assert_cause(&child, &parent_cause);

        let child_cause = why("child");
        let (parent, cancel) = Context::background().with_cancel_cause();
        let (child, cancel_child) = parent.with_cancel_cause();
        cancel_child.cancel(child_cause.clone());
        cancel.cancel(parent_cause.clone());
        assert_cause(&parent, &parent_cause);
        assert_cause(&child, &child_cause);
    });
}

#[test]
fn c101_cause_travels_to_plain_children() {
    with_workers(|| {
        let parent_cause = why("parent");
        let (parent, cancel) = Context::background().with_cancel_cause();
        let (child, cancel_child) = parent.with_cancel();
        cancel.cancel(parent_cause.clone());
        cancel_child.cancel();
        assert_cause(&child, &parent_cause);
        let (late, _cancel) = child.with_cancel();
        assert_ended(&late, ContextError::Canceled);
        assert_cause(&late, &parent_cause);
    });
}

#[test]
fn c103_a_plain_parent_has_a_plain_cause() {
    with_workers(|| {
        let (parent, cancel) = Context::background().with_cancel();
        let (child, cancel_child) = parent.with_cancel_cause();
        cancel.cancel();
        cancel_child.cancel(why("child"));
        assert_plain_cause(&parent, ContextError::Canceled);
        assert_plain_cause(&child, ContextError::Canceled);
    });
}

#[test]
fn c105_the_timer_fired_first() {
    with_workers(|| {
        let (too_slow, finished_early) = (why("too slow"), why("finished early"));
        let (parent, cancel) = Context::background().with_cancel_cause();
        let (child, _cancel_child) = parent.with_timeout_cause(Duration::ZERO, too_slow.clone());
        cancel.cancel(finished_early.clone());
        assert_ended(&child, ContextError::DeadlineExceeded);
        assert_cause(&child, &too_slow);
        assert_ended(&parent, ContextError::Canceled);
        assert_cause(&parent, &finished_early);
    });
}

#[test]
fn c107_without_cancel_cuts_error_and_cause() {
    with_workers(|| {
        let (parent, cancel) = Context::background().with_cancel_cause();
        let detached = parent.without_cancel();
        cancel.cancel(why("parent"));
        assert_open(&detached);
        assert_open(&parent.without_cancel());
        let (child, cancel_child) = detached.with_cancel();
        assert_open(&child);
        cancel_child.cancel();
        assert_ended(&child, ContextError::Canceled);
        assert_open(&detached);
    });
}

#[test]
fn c109_without_cancel_keeps_values() {
    struct Key(&'static str);
    with_workers(|| {
        let (parent, cancel) = Context::background().with_value(Key("value")).with_timeout(HOUR);
        let detached = parent.without_cancel();
        drop(cancel);
        assert_eq!(detached.value::<Key>().unwrap().0, "value");
        assert_eq!(detached.deadline(), None);
        assert!(detached.done().recv_timeout(MOMENT).is_err_and(|error| error == chan::RecvTimeoutError::Timeout));
        assert_open(&detached);
        assert_eq!(
            detached.with_cancel().0.to_string(),
            format!("context.Background.WithValue({}).WithoutCancel.WithCancel", std::any::type_name::<Key>())
        );
    });
}

#[test]
fn c111_types_are_keys() {
    #[derive(Debug, PartialEq)]
    struct Key1(&'static str);
    #[derive(Debug, PartialEq)]
    struct Key2(&'static str);
    with_workers(|| {
        let c0 = Context::background();
        assert_eq!(c0.value::<Key1>(), None);
        let c1 = c0.with_value(Key1("c1k1"));
        let c2 = c1.with_value(Key2("c2k2"));
        assert_eq!((c1.value::<Key1>(), c1.value::<Key2>()), (Some(&Key1("c1k1")), None));
        assert_eq!((c2.value::<Key1>(), c2.value::<Key2>()), (Some(&Key1("c1k1")), Some(&Key2("c2k2"))));
        assert_eq!(c2.value::<&str>(), None);
        let (c3, _cancel) = c2.with_cancel();
        let c4 = c3.with_value(Key1("c4k1"));
        assert_eq!((c4.value::<Key1>(), c4.value::<Key2>()), (Some(&Key1("c4k1")), Some(&Key2("c2k2"))));
        assert_eq!(c3.value::<Key1>(), Some(&Key1("c1k1")), "the parent is unchanged");
    });
}

#[test]
fn c113_layers_print_in_order_of_nesting() {
    with_workers(|| {
        let c1 = Context::background().with_value(1u8);
        assert_eq!(c1.to_string(), "context.Background.WithValue(u8)");
        let (c2, cancel) = c1.with_cancel();
        let c3 = c2.with_value(2u16);
        let (c4, _cancel) = c3.with_cancel_cause();
        assert_eq!(c4.to_string(), "context.Background.WithValue(u8).WithCancel.WithValue(u16).WithCancel");
        let (c5, _cancel) = c4.with_timeout(HOUR);
        let text = c5.to_string();
        assert!(text.starts_with(&format!("{c4}.WithDeadline(3")), "{text}");
        cancel.cancel();
        assert_eq!(format!("{c3:?}"), "context.Background.WithValue(u8).WithCancel.WithValue(u16)");
    });
}

#[test]
fn c117_interlocked_cancels() {
    with_workers(|| {
        let (parent, cancel) = Context::background().with_cancel();
        let (child, cancel_child) = parent.with_cancel();
        let canceler = go({
            let parent = parent.clone();
            move || {
                assert!(parent.done().recv().is_err());
                cancel_child.cancel();
            }
        });
        cancel.cancel();
        assert!(child.done().recv().is_err());
        canceler.join().unwrap();
    });
}

#[test]
fn c119_layers_time_out() {
    struct Value(usize);
    with_workers(|| {
        let mut ctx = Context::background();
        let mut guards = Vec::new();
        for layer in 0..30 {
            ctx = ctx.with_value(Value(layer));
            let (derived, guard) = match layer % 3 {
                0 => ctx.with_cancel(),
                1 => ctx.with_timeout(HOUR),
                _ => ctx.with_deadline(Instant::now() + 2 * HOUR),
            };
            ctx = derived;
            guards.push(guard);
        }
        let (leaf, _cancel) = ctx.with_timeout(MOMENT);
        assert!(leaf.done().recv().is_err());
        assert_ended(&leaf, ContextError::DeadlineExceeded);
        assert_eq!(leaf.value::<Value>().unwrap().0, 29);
        assert_open(&ctx);
        guards.remove(7).cancel();
        assert_ended(&ctx, ContextError::Canceled);
        assert_ended(&leaf, ContextError::DeadlineExceeded);
        assert_eq!(ctx.value::<Value>().unwrap().0, 29);
    });
}

#[test]
fn c121_parent_canceled_while_the_child_is_created() {
    with_workers(|| {
        for _ in 0..size(100, 1000) {
            let cause = why("parent");
            let (parent, cancel) = Context::background().with_cancel_cause();
            let canceler = go({
                let cause = cause.clone();
                move || cancel.cancel(cause)
            });
            let (child, _cancel_child) = parent.with_cancel();
            assert!(child.done().recv().is_err());
            assert_ended(&child, ContextError::Canceled);
            assert_cause(&child, &cause);
            canceler.join().unwrap();
        }
    });
}

#[test]
fn c123_error_texts() {
    assert_eq!(ContextError::Canceled.to_string(), "context canceled");
    assert_eq!(ContextError::DeadlineExceeded.to_string(), "context deadline exceeded");
    assert!(ContextError::DeadlineExceeded.is_timeout());
    assert!(!ContextError::Canceled.is_timeout());
}

#[test]
fn a_context_error_becomes_an_io_error_that_says_which() {
    fn gives_io(error: ContextError) -> std::io::Result<()> {
        Err(error)?
    }
    for (error, kind, text) in [
        (ContextError::Canceled, std::io::ErrorKind::ConnectionAborted, "context canceled"),
        (ContextError::DeadlineExceeded, std::io::ErrorKind::TimedOut, "context deadline exceeded"),
    ] {
        let io = gives_io(error).unwrap_err();
        assert_eq!((io.kind(), io.to_string().as_str()), (kind, text));
        assert_eq!(std::error::Error::source(&io).unwrap().downcast_ref(), Some(&error));
    }
}

#[test]
fn a_cause_may_be_a_text_or_an_error() {
    let text_of = |cause: &dyn Fn(&goby::context::CancelCauseGuard)| {
        let (ctx, cancel) = Context::background().with_cancel_cause();
        cause(&cancel);
        ctx.cause().unwrap().to_string()
    };
    let (number, boxed) = (7, || Box::<dyn Error + Send + Sync>::from("boxed"));
    assert_eq!(text_of(&|cancel| cancel.cancel("too late")), "too late");
    assert_eq!(text_of(&|cancel| cancel.cancel(format!("number {number}"))), "number 7");
    assert_eq!(text_of(&|cancel| cancel.cancel(std::borrow::Cow::from("cow"))), "cow");
    assert_eq!(text_of(&|cancel| cancel.cancel(boxed())), "boxed");
    assert_eq!(text_of(&|cancel| cancel.cancel(Arc::new(Why("own")))), Why("own").to_string());
    let (ctx, _cancel) = Context::background().with_timeout_cause(Duration::ZERO, "no time at all");
    assert_eq!(ctx.cause().unwrap().to_string(), "no time at all");

    // A shared cause stays the same, also if it was boxed on the way.
    let shared: Cause = Arc::new(Why("shared"));
    let (ctx, cancel) = Context::background().with_cancel_cause();
    cancel.cancel(Box::<dyn Error + Send + Sync>::from(shared.clone()));
    assert!(Arc::ptr_eq(&ctx.cause().unwrap(), &shared));
}

#[test]
fn c125_an_error_means_a_closed_channel() {
    with_workers(|| {
        for round in 0..size(100, 10_000) {
            let (ctx, cancel) = Context::background().with_cancel();
            if round % 2 == 0 {
                // Makes the channel before the cancellation; otherwise it is made after.
                assert_eq!(ctx.done().try_recv(), Err(TryRecvError::Empty));
            }
            let canceler = go(move || cancel.cancel());
            while ctx.err().is_none() {
                yield_now();
            }
            assert_eq!(ctx.done().try_recv(), Err(TryRecvError::Closed));
            canceler.join().unwrap();
        }
    });
}

#[test]
fn c127_after_func_of_a_context_that_is_done_or_times_out() {
    with_workers(|| {
        let (ran, runs) = chan::bounded(0);
        let (ctx, cancel) = Context::background().with_cancel();
        cancel.cancel();
        let after = ctx.after_func({
            let ran = ran.clone();
            move || ran.send("canceled").unwrap()
        });
        assert_eq!(runs.recv(), Ok("canceled"));
        assert!(!after.stop());

        let (ctx, _cancel) = Context::background().with_timeout(MOMENT);
        let after = ctx.after_func(move || ran.send("timed out").unwrap());
        assert_eq!(runs.recv(), Ok("timed out"));
        assert!(!after.stop());
    });
}

#[test]
fn c129_cancel_does_not_wait_for_after_func() {
    with_workers(|| {
        let (ran, runs) = chan::bounded(0);
        let (ctx, cancel) = Context::background().with_cancel();
        ctx.after_func(move || ran.send("ran").unwrap());
        cancel.cancel();
        assert_eq!(runs.recv(), Ok("ran"));
    });
}

#[test]
fn c129b_a_stopped_after_func_does_not_run() {
    with_workers(|| {
        let (dropped, drops) = chan::bounded::<()>(0);
        let (ctx, cancel) = Context::background().with_cancel();
        let (first, second) = (ctx.after_func(|| ()), ctx.after_func(move || drop(dropped)));
        assert!(second.stop());
        assert!(!second.stop());
        assert!(drops.recv().is_err(), "stopping drops the function");
        // Another hook may have its slot now, which a further stop must not touch.
        let (ran, runs) = chan::bounded(1);
        let third = ctx.after_func(move || ran.send(()).unwrap());
        assert!(!second.stop());
        cancel.cancel();
        assert_eq!(runs.recv(), Ok(()));
        assert!(!first.stop() && !third.stop());

        let forever = Context::background().after_func(|| unreachable!());
        assert!(forever.stop());
        assert!(!forever.stop());
    });
}

#[test]
fn c131_a_finished_child_leaves_its_parent_open() {
    with_workers(|| {
        let (parent, _cancel) = Context::background().with_cancel();
        let (child, cancel_child) = parent.with_cancel();
        cancel_child.cancel();
        assert_ended(&child, ContextError::Canceled);
        assert_open(&parent);
    });
}

#[test]
fn c133_contexts_start_no_goroutine() {
    with_workers(|| {
        let before = num_goroutines();
        let (parent, cancel) = Context::background().with_cancel();
        let wrapped = parent.with_value("wrapper");
        let (child, _cancel_child) = wrapped.with_timeout(HOUR);
        let _after = child.after_func(|| ());
        assert_eq!(num_goroutines(), before);
        assert_open(&child);
        cancel.cancel();
    });
}

#[test]
fn c137_after_func_ends_waits_on_a_condition() {
    with_workers(|| {
        let shared = Arc::new((Mutex::new(()), Cond::new()));
        let waiters: Vec<_> = (0..4)
            .map(|_| {
                let shared = shared.clone();
                go(move || {
                    let (ctx, _cancel) = Context::background().with_timeout(MOMENT);
                    let _stop = ctx.after_func({
                        let shared = shared.clone();
                        move || {
                            // Under the lock, so that it does not come between the check below and
                            // the wait.
                            let _guard = shared.0.lock();
                            shared.1.broadcast();
                        }
                    });
                    let mut guard = shared.0.lock();
                    loop {
                        if let Some(error) = ctx.err() {
                            return error.to_string();
                        }
                        guard = shared.1.wait(guard);
                    }
                })
            })
            .collect();
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), "context deadline exceeded");
        }
    });
}

#[test]
fn c139_after_func_ends_a_socket_read() {
    with_workers(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = Arc::new(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        let (_silent, _) = listener.accept().unwrap();
        let (ctx, _cancel) = Context::background().with_timeout(MOMENT);
        let stop = ctx.after_func({
            let stream = stream.clone();
            move || stream.set_read_deadline(Some(goby_runtime::now()))
        });
        let error = (&*stream).read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(!stop.stop(), "it ran");
        assert_eq!(ctx.err().unwrap().to_string(), "context deadline exceeded");
    });
}

#[test]
fn contexts_are_canceled_and_waited_for_from_os_threads() {
    with_workers(|| {
        let (ctx, cancel) = Context::background().with_cancel();
        let waiter = std::thread::spawn({
            let ctx = ctx.clone();
            move || {
                assert!(ctx.done().recv().is_err());
                ctx.err()
            }
        });
        let parked = go({
            let ctx = ctx.clone();
            move || ctx.done().recv().is_err()
        });
        pause(MOMENT);
        std::thread::spawn(move || cancel.cancel());
        assert!(parked.join().unwrap());
        assert_eq!(goby::blocking(|| waiter.join()).unwrap(), Some(ContextError::Canceled));
    });
}
