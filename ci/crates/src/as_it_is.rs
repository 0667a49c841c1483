//! What works in a goroutine as it does in a thread, or when `block_on` awaits it.

mod services;

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, RwLock, mpsc};
use std::thread;
use std::time::Duration;

use goby::{Runtime, block_on, chan, go, net, spawn, yield_now};

use crate::{Log, three_jobs};

/// Starts ten goroutines that do this a hundred times each, and waits for them.
fn ten_goroutines(f: impl Fn() + Send + Sync) {
    goby::scope(|scope| {
        for _ in 0..10 {
            scope.go(|| {
                for _ in 0..100 {
                    f();
                    yield_now();
                }
            });
        }
    });
}

/// The holder of the lock may wait: a goroutine that wants the lock is parked.
#[goby::test(workers = 1)]
fn goby_mutex_across_a_wait() {
    let lock = goby::sync::Mutex::new(0);
    let (begun, has_begun) = chan::bounded(0);
    let (word, words) = chan::bounded(0);
    goby::scope(|scope| {
        scope.go(|| {
            let mut n = lock.lock();
            begun.send(()).unwrap();
            words.recv().unwrap();
            *n += 1;
        });
        has_begun.recv().unwrap();
        scope.go(|| *lock.lock() += 1);
        word.send(()).unwrap();
    });
    assert_eq!(lock.into_inner(), 2);
}

#[goby::test(workers = 1)]
fn std_mutex() {
    let (count, map) = (Mutex::new(0), RwLock::new(HashMap::from([(1, 0)])));
    ten_goroutines(|| {
        *count.lock().unwrap() += 1;
        *map.write().unwrap().get_mut(&1).unwrap() += 1;
    });
    assert_eq!(*count.lock().unwrap(), 1000);
    assert_eq!(map.read().unwrap()[&1], 1000);
}

#[goby::test(workers = 1)]
fn std_lazy_lock() {
    static LIMIT: LazyLock<u32> = LazyLock::new(|| "42".parse().unwrap());
    let cell = OnceLock::new();
    ten_goroutines(|| assert_eq!(*cell.get_or_init(|| *LIMIT), 42));
}

#[goby::test(workers = 1)]
fn std_mpsc_send() {
    let (tx, rx) = mpsc::channel();
    // The receiver is a plain thread.
    let sum = thread::spawn(move || rx.iter().sum::<i32>());
    ten_goroutines(|| tx.send(1).unwrap());
    drop(tx);
    assert_eq!(goby::blocking(|| sum.join().unwrap()), 1000);
}

#[goby::test(workers = 1)]
fn parking_lot_mutex() {
    let (count, map) = (parking_lot::Mutex::new(0), parking_lot::RwLock::new(HashMap::from([(1, 0)])));
    ten_goroutines(|| {
        *count.lock() += 1;
        *map.write().get_mut(&1).unwrap() += 1;
    });
    assert_eq!((count.into_inner(), map.into_inner()[&1]), (1000, 1000));
}

/// Operations that never wait: sends to a channel with room or without a bound, and tries.
#[goby::test(workers = 1)]
fn crossbeam_try_recv() {
    let (tx, rx) = crossbeam_channel::unbounded();
    let receiver = go(move || {
        let mut sum = 0;
        loop {
            match rx.try_recv() {
                Ok(n) => sum += n,
                Err(crossbeam_channel::TryRecvError::Empty) => yield_now(),
                Err(crossbeam_channel::TryRecvError::Disconnected) => return sum,
            }
        }
    });
    ten_goroutines(|| tx.send(1).unwrap());
    drop(tx);
    assert_eq!(receiver.join().unwrap(), 1000);
}

#[goby::test(workers = 1)]
fn flume_recv_async() {
    let (tx, rx) = flume::bounded(0);
    let receiver = go(move || {
        let mut sum = 0;
        while let Ok(n) = block_on(rx.recv_async()) {
            sum += n;
        }
        sum
    });
    ten_goroutines(|| block_on(tx.send_async(1)).unwrap());
    drop(tx);
    assert_eq!(receiver.join().unwrap(), 1000);
}

#[goby::test(workers = 1)]
fn tokio_sync() {
    let (tx, mut rx) = tokio::sync::mpsc::channel(1);
    let (total, totals) = tokio::sync::oneshot::channel();
    // The same futures run on the workers by themselves.
    let adder = spawn(async move {
        let mut sum = 0;
        while let Some(n) = rx.recv().await {
            sum += n;
        }
        total.send(sum).unwrap();
    });
    ten_goroutines(|| block_on(tx.send(1)).unwrap());
    drop(tx);
    assert_eq!(block_on(totals), Ok(1000));
    adder.join().unwrap();

    // tokio's mutex may be held across a wait: the other goroutines are parked.
    let count = tokio::sync::Mutex::new(0);
    let (allowed, news) = (tokio::sync::Semaphore::new(2), tokio::sync::Notify::new());
    ten_goroutines(|| {
        let _permit = block_on(allowed.acquire()).unwrap();
        let mut n = block_on(count.lock());
        let before = *n;
        yield_now();
        *n = before + 1;
        news.notify_one();
    });
    block_on(news.notified());
    assert_eq!(count.into_inner(), 1000);

    let (tx, mut rx) = tokio::sync::broadcast::channel(1);
    let (others, mut other) = tokio::sync::mpsc::channel::<u32>(1);
    let first = go(move || {
        block_on(async {
            tokio::select! {
                n = rx.recv() => n.unwrap(),
                n = other.recv() => n.unwrap(),
            }
        })
    });
    tx.send(7).unwrap();
    assert_eq!(first.join().unwrap(), 7);
    drop(others);
    assert_eq!(block_on(async { tokio::join!(async { 1 }, async { 2 }) }), (1, 2));

    let (tx, mut rx) = tokio::sync::watch::channel("old");
    let watcher = go(move || {
        block_on(rx.changed()).unwrap();
        *rx.borrow()
    });
    tx.send("new").unwrap();
    assert_eq!(watcher.join().unwrap(), "new");
}

/// A future that needs tokio's reactor runs on a tokio runtime with its own threads, and the
/// goroutine waits for it.
#[goby::test(workers = 1)]
fn tokio_handle_spawn() {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    let late = tokio.spawn(async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        42
    });
    assert_eq!(block_on(late).unwrap(), 42);
    tokio.shutdown_background();
}

/// Tokio is entered only while the future is polled: a poll does not wait.
#[goby::test(workers = 1)]
fn tokio_enter_for_each_poll() {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    let mut future = pin!(async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        42
    });
    let n = block_on(poll_fn(|cx| {
        let _entered = tokio.enter();
        future.as_mut().poll(cx)
    }));
    assert_eq!(n, 42);
    tokio.shutdown_background();
}

#[goby::test(workers = 1)]
fn dashmap_without_a_wait() {
    let map = dashmap::DashMap::new();
    ten_goroutines(|| *map.entry("hits").or_insert(0) += 1);
    assert_eq!(map.get("hits").map(|hits| *hits), Some(1000));
}

#[goby::test(workers = 1)]
fn tungstenite_over_goby_net() -> Result<(), Box<dyn std::error::Error>> {
    let listener = net::TcpListener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    let server = go(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut socket = tungstenite::accept(stream).unwrap();
        // Until the client closes.
        while let Ok(message) = socket.read() {
            if message.is_text() {
                socket.send(message).unwrap();
            }
        }
    });
    let (mut socket, _) = tungstenite::client("ws://localhost/", net::TcpStream::connect(addr)?)?;
    for word in ["one", "two"] {
        socket.send(word.into())?;
        assert_eq!(socket.read()?.into_text()?.as_str(), word);
    }
    socket.close(None)?;
    // The answer to it, and the end.
    while socket.read().is_ok() {}
    server.join()?;
    Ok(())
}

/// A subscriber that looks for one message.
struct Subscriber {
    has_seen: Arc<AtomicBool>,
}

/// An event's message, without its other fields.
struct Message(String);

impl tracing::field::Visit for Message {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            write!(self.0, "{value:?}").unwrap();
        }
    }
}

impl tracing::Subscriber for Subscriber {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("goby") && *metadata.level() <= tracing::Level::WARN
    }

    fn event(&self, event: &tracing::Event<'_>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        // Other tests may have stalls, too; this test ignores them.
        if message.0.contains(file!()) && message.0.contains("has kept worker 0 for") {
            self.has_seen.store(true, Ordering::Release);
        }
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

/// A goroutine that keeps its worker becomes an event, and is then not printed.
#[test]
fn tracing_subscriber() {
    let has_seen = Arc::new(AtomicBool::new(false));
    tracing::subscriber::set_global_default(Subscriber { has_seen: has_seen.clone() }).unwrap();
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let computes = runtime.go(move || {
        while !has_seen.load(Ordering::Acquire) {
            std::hint::spin_loop();
        }
    });
    computes.join().unwrap();
}

/// Each goroutine is in its own span only.
#[goby::test(workers = 1)]
fn tracing_spans() {
    let log = Log::default();
    three_jobs(tracing::Dispatch::new(goby::tracing::PerGoroutine::new(log.subscriber())));
    assert_eq!(log.lines(), ["INFO job{n=0}: done", "INFO job{n=1}: done", "INFO job{n=2}: done"]);
}
