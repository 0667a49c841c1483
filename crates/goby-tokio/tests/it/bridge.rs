//! Futures of tokio's in goroutines and threads.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use goby::context::ContextError;
use goby::{Context, chan, diag, go};
use goby_test_support::{in_child, stderr, wait_until};
use goby_tokio::{Bridge, block_on, block_on_ctx};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const TICK: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(600);

async fn sleep(time: Duration) {
    tokio::time::sleep(time).await;
}

#[goby::test(workers = 1)]
fn a_timer_parks_the_goroutine() {
    let start = Instant::now();
    let (word, words) = chan::bounded(0);
    let waits = go(move || {
        block_on(async {
            // The neighbor runs only if this parks.
            assert_eq!(words.recv_async().await, Ok("from a neighbor"));
            sleep(TICK).await;
        })
    });
    go(move || word.send("from a neighbor"));
    waits.join().unwrap();
    assert!(start.elapsed() >= TICK);
}

#[goby::test(workers = 1)]
fn a_thousand_goroutines_wait_at_once() {
    let start = Instant::now();
    let (begin, begun) = chan::bounded::<()>(0);
    goby::scope(|scope| {
        for _ in 0..1000 {
            let begun = begun.clone();
            scope.go(move || {
                assert!(begun.recv().is_err());
                block_on(sleep(TICK));
            });
        }
        drop(begin);
    });
    assert!(start.elapsed() >= TICK);
}

async fn echo(listener: TcpListener) -> io::Result<()> {
    loop {
        let (mut stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            let (mut from, mut to) = stream.split();
            tokio::io::copy(&mut from, &mut to).await
        });
    }
}

/// A server that is a task of tokio's, and 200 clients that are goroutines of two workers.
#[goby::test(workers = 2)]
fn sockets_of_tokio() {
    let listener = block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let addr = listener.local_addr().unwrap();
    let server = goby_tokio::handle().spawn(echo(listener));
    goby::scope(|scope| {
        for n in 0..200_u32 {
            scope.go(move || {
                // The stream goes from one call to the next, and may be dropped outside them.
                let mut stream = block_on(TcpStream::connect(addr)).unwrap();
                for round in 0..10 {
                    block_on(stream.write_u32(n + round)).unwrap();
                    assert_eq!(block_on(stream.read_u32()).unwrap(), n + round);
                }
            });
        }
    });
    server.abort();
    assert!(block_on(server).unwrap_err().is_cancelled());
}

/// The future is polled on the goroutine's stack.
#[goby::test(workers = 1)]
fn a_future_may_borrow_and_need_not_be_send() {
    let count = Rc::new(Cell::new(0));
    let text = String::from("borrowed");
    let output = block_on(async {
        sleep(Duration::from_millis(1)).await;
        count.set(count.get() + 1);
        text.as_str()
    });
    assert_eq!((output, count.get()), ("borrowed", 1));
}

#[goby::test(workers = 1)]
fn it_may_be_nested() {
    let n = block_on(async {
        sleep(Duration::from_millis(1)).await;
        block_on(async {
            sleep(Duration::from_millis(1)).await;
            go(|| block_on(async { 42 })).join().unwrap()
        })
    });
    assert_eq!(n, 42);
}

#[test]
fn a_plain_thread() {
    let threads: Vec<_> = (0..4).map(|_| thread::spawn(|| block_on(sleep(TICK)))).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(block_on(async { tokio::task::spawn_blocking(|| block_on(async { 42 })).await.unwrap() }), 42);
}

#[goby::test(workers = 1)]
fn spawn_blocking_in_a_future() {
    assert_eq!(block_on(async { tokio::task::spawn_blocking(|| 42).await.unwrap() }), 42);
    assert_eq!(block_on(async { tokio::task::block_in_place(|| 42) }), 42);
}

#[goby::test(workers = 1)]
fn a_context_ends_it() {
    let (ctx, cancel) = Context::background().with_cancel();
    let canceled = go({
        let ctx = ctx.clone();
        move || block_on_ctx(&ctx, sleep(LONG))
    });
    cancel.cancel();
    assert_eq!(canceled.join().unwrap(), Err(ContextError::Canceled));
    assert_eq!(block_on_ctx(&ctx, async {}), Err(ContextError::Canceled));

    let start = Instant::now();
    let (ctx, _cancel) = Context::background().with_timeout(TICK);
    assert_eq!(block_on_ctx(&ctx, sleep(LONG)), Err(ContextError::DeadlineExceeded));
    assert!(start.elapsed() >= TICK);
    assert_eq!(block_on_ctx(&Context::background(), async { 42 }), Ok(42));
}

#[goby::test(workers = 1)]
fn a_panic_comes_out() {
    let failed = go(|| {
        block_on(async {
            sleep(Duration::from_millis(1)).await;
            panic!("no luck")
        })
    });
    assert_eq!(failed.join().unwrap_err().message(), Some("no luck"));
    block_on(sleep(Duration::from_millis(1)));
}

/// A task of tokio's has no goroutine to park, and would wait for its own thread.
#[goby::test(workers = 1)]
fn a_task_of_tokio_must_await() {
    let calls: [fn(); 3] = [
        || block_on(async {}),
        || _ = block_on_ctx(&Context::background(), async {}),
        || Bridge::new(goby_tokio::handle().clone()).block_on(async {}),
    ];
    for call in calls {
        let error = block_on(goby_tokio::handle().spawn(async move { call() })).unwrap_err();
        let payload = error.into_panic();
        let text = payload.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap();
        assert!(text.contains("Cannot start a runtime from within a runtime"), "{text}");
    }
}

/// It blocks the worker, but not for good: the reactor has a thread of its own.
#[goby::test(workers = 1)]
fn tokios_block_on_in_a_future() {
    assert_eq!(
        block_on(async {
            goby_tokio::handle().block_on(async {
                sleep(Duration::from_millis(1)).await;
                42
            })
        }),
        42
    );
}

#[goby::test(workers = 1)]
fn dumps_say_tokio() {
    let (ctx, cancel) = Context::background().with_cancel();
    let waiting = go(move || block_on_ctx(&ctx, sleep(LONG)));
    let status = || {
        let all = diag::goroutines();
        all.iter().find(|info| info.id() == waiting.id()).map(|info| info.status().to_string())
    };
    wait_until("the goroutine to wait", || status().as_deref() == Some("tokio"));
    cancel.cancel();
    assert_eq!(waiting.join().unwrap(), Err(ContextError::Canceled));
}

#[goby::test(workers = 1)]
fn a_runtime_of_the_programs_own() {
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .thread_name("the program's own")
        .build()
        .unwrap();
    let bridge = Bridge::new(tokio.handle().clone());
    let name = || thread::current().name().map(String::from);
    let own = bridge.block_on(async { tokio::spawn(async move { name() }).await.unwrap() });
    assert_eq!(own.as_deref(), Some("the program's own"));
    let default = block_on(async { tokio::spawn(async move { name() }).await.unwrap() });
    assert_eq!(default.as_deref(), Some("goby-tokio"));
    // One inside the other.
    let ids = bridge.block_on(async {
        let outer = bridge.handle().id();
        sleep(Duration::from_millis(1)).await;
        let inner = block_on(async { tokio::runtime::Handle::current().id() });
        assert_eq!(tokio::runtime::Handle::current().id(), outer);
        (outer, inner)
    });
    assert_ne!(ids.0, ids.1);
    assert_eq!(format!("{bridge:?}"), format!("Bridge {{ runtime: {:?} }}", ids.0));
    tokio.shutdown_background();
}

#[test]
fn the_default_is_set_once() {
    goby_tokio::enter(|| ());
    let refused = goby_tokio::set_default(Bridge::new(goby_tokio::handle().clone())).unwrap_err();
    assert_eq!(refused.to_string(), "goby-tokio's default bridge is in use already: set it at the beginning of main");
    assert_eq!(refused.0.handle().id(), goby_tokio::handle().id());
}

/// `sleep` asks for the reactor where it is made, and no poll sees its panic. If one does, that is
/// the only one to say something.
#[test]
fn what_is_made_outside_a_future_is_told_the_cure() {
    const WORDS: &str = "there is no reactor running";
    let output = in_child("bridge::what_is_made_outside_a_future_is_told_the_cure", || {
        let failed = go(|| block_on(tokio::time::sleep(TICK))).join().unwrap_err();
        assert!(failed.message().unwrap().contains(WORDS));
        let failed = goby::scope(|scope| scope.go(|| block_on(tokio::time::sleep(TICK))).join().unwrap_err());
        assert!(failed.message().unwrap().contains(WORDS));
        let failed = go(|| goby::block_on(sleep(TICK))).join().unwrap_err();
        assert!(failed.message().unwrap().contains(WORDS));
        // The panic of a task comes out of another poll, and is quoted in a third one.
        let task = || goby::spawn(sleep(TICK));
        let failed = go(move || goby::block_on(task())).join().unwrap_err();
        assert!(failed.message().unwrap().contains(WORDS));
        let failed = go(move || goby::block_on(async { task().join().unwrap() })).join().unwrap_err();
        assert!(failed.message().unwrap().contains(WORDS));
    });
    let text = stderr(&output);
    assert!(output.status.success(), "{text}");
    let count = |cure| text.matches(cure).count();
    assert_eq!(
        count("goby: what needs tokio's reactor must also be made, and dropped, where it is entered"),
        2,
        "{text}"
    );
    assert_eq!(count("goby: goby's workers have no reactor of tokio's"), 3, "{text}");
}
