//! Spans that belong to goroutines, with `tracing-subscriber`.
//!
//! Most events say in their message which spans they should be in, and [`Checks`] compares.

mod checks;
mod ends;
mod filters;
mod inside;

use std::cell::Cell;
use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use goby_test_support::{in_child, stderr};
use parking_lot::Mutex;
use tracing::dispatcher::{self, Dispatch};
use tracing::span::Id;
use tracing::{Event, Span, Subscriber, info, info_span, instrument};
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use self::checks::{Checks, Log, fmt_to};
use crate::support::{MOMENT, on_workers, size, with_workers};
use goby::goroutine::Local;
use goby::net::{TcpListener, TcpStream};
use goby::sync::WaitGroup;
use goby::tracing::{PerGoroutine, with_default};
use goby::{Runtime, block_on, blocking, chan, go, goexit, scope, select, sync, time, yield_now};

/// Starts a goroutine for each number, with this default.
fn each(dispatch: &Dispatch, n: usize, f: impl Fn(usize) + Send + Sync) {
    scope(|scope| {
        for i in 0..n {
            let f = &f;
            scope.go(move || with_default(dispatch, || f(i)));
        }
    });
}

/// Three goroutines that each enter a span and sleep.
fn three_that_sleep() {
    scope(|scope| {
        for n in 0..3 {
            scope.go(move || {
                let _entered = info_span!("job", n).entered();
                time::sleep(MOMENT);
                info!("done");
            });
        }
    });
}

#[test]
fn three_that_sleep_log_their_own_span() {
    with_workers(|| {
        let log = Log::default();
        let dispatch = Dispatch::new(PerGoroutine::new(fmt_to(&log)));
        each(&dispatch, 3, |n| {
            let _entered = info_span!("job", n).entered();
            time::sleep(MOMENT);
            info!("done");
        });
        let text = log.text();
        let mut lines: Vec<&str> = text.lines().map(str::trim).collect();
        lines.sort_unstable();
        assert_eq!(lines, ["INFO job{n=0}: done", "INFO job{n=1}: done", "INFO job{n=2}: done"]);
    });
}

/// The program's global default, in a process of its own.
#[test]
fn a_global_default() {
    let output = in_child("tracing::a_global_default", || {
        let log = Log::default();
        tracing::subscriber::set_global_default(PerGoroutine::new(fmt_to(&log))).unwrap();
        Runtime::builder().workers(1).build().unwrap().run(three_that_sleep);
        let text = log.text();
        assert!(text.lines().all(|line| line.matches("job{").count() == 1), "{text}");
    });
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

/// Without `PerGoroutine` spans nest, as the guide says.
#[test]
fn a_global_default_that_is_bare() {
    let output = in_child("tracing::a_global_default_that_is_bare", || {
        let log = Log::default();
        tracing::subscriber::set_global_default(fmt_to(&log)).unwrap();
        Runtime::builder().workers(1).build().unwrap().run(three_that_sleep);
        let text = log.text();
        assert!(text.lines().any(|line| line.matches("job{").count() == 3), "{text}");
    });
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[instrument(skip_all, fields(n = n))]
fn part(n: usize, f: impl FnOnce()) {
    f();
    info!("job{{n={n}}}:part{{n={n}}}");
}

/// Everything that waits, with a neighbor that does the same in spans of its own.
#[test]
fn whatever_waits_keeps_its_spans() {
    const PARTS: usize = 14;
    with_workers(|| {
        let checks = Checks::default();
        let (tx, rx) = chan::bounded::<usize>(0);
        let (quiet_tx, quiet) = chan::bounded::<usize>(0);
        let lock = sync::Mutex::new(0);
        let rw = sync::RwLock::new(0);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        each(&checks.dispatch(), 2, |n| {
            let _entered = info_span!("job", n).entered();
            let yields = |_: &mut usize| yield_now();
            // The two take opposite sides.
            let send = || tx.send(n).unwrap();
            let recv = || assert_eq!(rx.recv(), Ok(1 - n));
            part(n, || if n == 0 { send() } else { recv() });
            part(n, || if n == 1 { send() } else { recv() });
            part(n, || {
                select! {
                    recv(quiet) -> _ => unreachable!(),
                    default(MOMENT) => {},
                }
            });
            part(n, || {
                if n == 0 {
                    select! { recv(rx) -> v => assert_eq!(v, Ok(1)), recv(quiet) -> _ => unreachable!() }
                } else {
                    select! { send(tx, 1) -> sent => sent.unwrap(), recv(quiet) -> _ => unreachable!() }
                }
            });
            part(n, || yields(&mut lock.lock()));
            part(n, || yields(&mut rw.write()));
            part(n, || time::sleep(MOMENT));
            part(n, || assert_eq!(blocking(|| 7), 7));
            part(n, || assert_eq!(go(move || n).join().unwrap(), n));
            part(n, || {
                let wg = WaitGroup::new();
                wg.go(yield_now);
                wg.wait();
            });
            part(n, || _ = scope(|scope| scope.go(yield_now).join()));
            part(n, || {
                if n == 0 {
                    let (mut stream, _) = listener.accept().unwrap();
                    io::Write::write_all(&mut stream, b"x").unwrap();
                } else {
                    let mut stream = TcpStream::connect(address).unwrap();
                    io::Read::read_exact(&mut stream, &mut [0]).unwrap();
                }
            });
            part(n, || {
                block_on(async {
                    if n == 0 { tx.send_async(9).await.unwrap() } else { rx.recv_async().await.map(drop).unwrap() }
                })
            });
            part(n, yield_now);
        });
        drop(quiet_tx);
        checks.hold(2 * PARTS);
    });
}

#[test]
fn spans_nest_repeat_and_end_in_any_order() {
    with_workers(|| {
        let checks = Checks::default();
        each(&checks.dispatch(), 10, |n| {
            let (a, b) = (info_span!("a", n), info_span!(parent: None, "b", n));
            let in_a = a.enter();
            yield_now();
            let in_b = b.enter();
            yield_now();
            info!("b{{n={n}}}");
            // The outer one first.
            drop(in_a);
            yield_now();
            info!("b{{n={n}}}");
            drop(in_b);
            yield_now();
            info!("");
            // The same span twice.
            let (first, second) = (a.enter(), a.enter());
            yield_now();
            info!("a{{n={n}}}");
            drop(first);
            yield_now();
            info!("a{{n={n}}}");
            drop(second);
            yield_now();
            info!("");
        });
        checks.hold(60);
    });
}

#[test]
fn ten_thousand_goroutines_have_ten_thousand_spans() {
    let n = size(10_000, 100_000);
    for workers in [1, 2, 4] {
        on_workers(workers, 0, || {
            let checks = Checks::default();
            // Two have a channel: they take opposite sides, and change them.
            let channels: Vec<_> = (0..n / 2).map(|_| chan::bounded(0)).collect();
            each(&checks.dispatch(), n, |n| {
                let (tx, rx) = &channels[n / 2];
                let _outer = info_span!("outer", n).entered();
                yield_now();
                for k in 0..3 {
                    let inner = info_span!("inner", k).entered();
                    if (n + k) % 2 == 0 {
                        tx.send(n).unwrap()
                    } else {
                        _ = rx.recv().unwrap()
                    }
                    info!("outer{{n={n}}}:inner{{k={k}}}");
                    drop(inner);
                    yield_now();
                    info!("outer{{n={n}}}");
                }
                time::sleep(MOMENT);
                info!("outer{{n={n}}}");
            });
            checks.hold(7 * n);
        });
    }
}

/// What a layer is told: each span is entered as often as left, and `time.idle` is the wait.
#[test]
fn a_wait_is_idle_time() {
    const WAIT: Duration = Duration::from_millis(30);
    with_workers(|| {
        let log = Log::default();
        let writer = log.clone();
        let fmt = tracing_subscriber::fmt().with_ansi(false).with_span_events(FmtSpan::CLOSE);
        let dispatch = Dispatch::new(PerGoroutine::new(fmt.with_writer(move || writer.clone()).finish()));
        each(&dispatch, 1, |_| info_span!("job").in_scope(|| time::sleep(WAIT)));
        let text = log.text();
        let (_, idle) = text.trim().split_once("time.idle=").unwrap_or_else(|| panic!("{text}"));
        let (number, scale) = match idle.strip_suffix("ms") {
            Some(number) => (number, 1.0),
            None => (idle.strip_suffix('s').unwrap(), 1000.0),
        };
        assert!(number.parse::<f64>().unwrap() * scale >= WAIT.as_secs_f64() * 1000.0, "{text}");
    });
}

/// Counts calls, and how deep a goroutine is in them; `waits` is done in each.
struct Waits<F> {
    counts: Arc<Mutex<HashMap<&'static str, usize>>>,
    deepest: Arc<AtomicUsize>,
    waits: F,
}

impl<F: Fn()> Waits<F> {
    fn call(&self, name: &'static str) {
        static DEPTH: Local<Cell<usize>> = Local::new(|| Cell::new(0));
        let depth = DEPTH.with(|depth| depth.replace(depth.get() + 1) + 1);
        self.deepest.fetch_max(depth, Ordering::Relaxed);
        (self.waits)();
        DEPTH.with(|depth| depth.set(depth.get() - 1));
        *self.counts.lock().entry(name).or_default() += 1;
    }
}

impl<S: Subscriber, F: Fn() + 'static> Layer<S> for Waits<F> {
    fn on_enter(&self, _: &Id, _: Context<'_, S>) {
        self.call("enter");
    }

    fn on_exit(&self, _: &Id, _: Context<'_, S>) {
        self.call("exit");
    }

    fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
        self.call("event");
    }
}

/// A layer that waits whenever it is told something, once for a lock that it holds across a wait,
/// once for a channel.
#[test]
fn a_subscriber_may_wait() {
    let output = in_child("tracing::a_subscriber_may_wait", || {
        let counts = Arc::new(Mutex::new(HashMap::new()));
        let deepest = Arc::new(AtomicUsize::new(0));
        let (tx, rx) = chan::bounded(1);
        let lock = sync::Mutex::new(());
        let waits = move || {
            let _held = lock.lock();
            yield_now();
            time::sleep(Duration::from_micros(10));
            tx.send(()).unwrap();
        };
        let layer = Waits { counts: counts.clone(), deepest: deepest.clone(), waits };
        let subscriber = PerGoroutine::new(tracing_subscriber::registry().with(layer));
        tracing::subscriber::set_global_default(subscriber).unwrap();
        for workers in [1, 2] {
            counts.lock().clear();
            let rx = rx.clone();
            Runtime::builder().workers(workers).build().unwrap().run(move || {
                let (stop, stopped) = chan::bounded::<()>(0);
                let drain = go(move || {
                    loop {
                        select! {
                            recv(rx) -> _ => {},
                            recv(stopped) -> _ => break,
                        }
                    }
                });
                let (to, from) = chan::bounded(0);
                scope(|scope| {
                    for n in 0..20 {
                        let (to, from) = (&to, &from);
                        scope.go(move || {
                            let _outer = info_span!("outer", n).entered();
                            let _inner = info_span!("inner", n).entered();
                            for _ in 0..5 {
                                // These waits end while the subscriber is told of them.
                                if n % 2 == 0 {
                                    to.send(n).unwrap()
                                } else {
                                    _ = from.recv().unwrap()
                                }
                                info!("received");
                                yield_now();
                            }
                        });
                    }
                });
                drop(stop);
                drain.join().unwrap();
            });
            let counts = counts.lock();
            assert_eq!(counts["enter"], counts["exit"]);
            assert!(counts["enter"] > 20 * 2 * 5, "told of the waits: {counts:?}");
            assert_eq!(counts["event"], 100);
        }
        assert_eq!(deepest.load(Ordering::Relaxed), 1, "called while it was called");
    });
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

/// The goroutine waits for a number; before it parks, its subscriber waits until that was sent, by
/// a neighbor or by a plain thread.
#[test]
fn an_unpark_may_come_while_the_subscriber_is_told() {
    /// Receives when a span is left.
    struct Receives(chan::Receiver<()>);
    impl<S: Subscriber> Layer<S> for Receives {
        fn on_exit(&self, _: &Id, _: Context<'_, S>) {
            _ = self.0.recv();
        }
    }
    with_workers(|| {
        for by_thread in [false, true] {
            let (told, is_told) = chan::bounded(0);
            let (tx, rx) = chan::bounded(0);
            let layer = Receives(is_told);
            let dispatch = Dispatch::new(PerGoroutine::new(tracing_subscriber::registry().with(layer)));
            let waits = go(move || {
                with_default(&dispatch, || {
                    let _entered = info_span!("job").entered();
                    let number = rx.recv();
                    yield_now();
                    number
                })
            });
            let sends = move || {
                // Refused until the wait is shown. The receiver has not parked then.
                while tx.try_send(7).is_err() {
                    yield_now();
                }
                // Told of that wait, of the yield, and of the end.
                (0..3).for_each(|_| told.send(()).unwrap());
            };
            if by_thread {
                let thread = std::thread::spawn(sends);
                assert_eq!(waits.join().unwrap(), Ok(7));
                blocking(|| thread.join().unwrap());
            } else {
                go(sends).join().unwrap();
                assert_eq!(waits.join().unwrap(), Ok(7));
            }
        }
    });
}

/// Sends its lines over a channel of goby.
#[derive(Clone)]
struct Lines(chan::Sender<String>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(String::from_utf8_lossy(bytes).into_owned()).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_writer_may_send_over_a_channel() {
    let output = in_child("tracing::a_writer_may_send_over_a_channel", || {
        let (tx, rx) = chan::bounded(1);
        let lines = Lines(tx);
        // Where a span is entered or left it says nothing: there neighbors may come in between.
        let fmt = tracing_subscriber::fmt().with_ansi(false).with_span_events(FmtSpan::NEW | FmtSpan::CLOSE);
        let subscriber = PerGoroutine::new(fmt.with_writer(move || lines.clone()).finish());
        tracing::subscriber::set_global_default(subscriber).unwrap();
        // The subscriber, and with it the channel, lives to the end of the process.
        Runtime::builder().workers(1).report_leaks(false).build().unwrap().run(move || {
            let reader = go(move || {
                let mut done = 0;
                while done < 100 {
                    let line = rx.recv().unwrap();
                    if let Some((spans, n)) = line.trim().split_once(": it: done ") {
                        assert!(spans.ends_with(&format!("job{{n={n}}}: it::tracing")), "{line}");
                        done += 1;
                    }
                }
                // The rest, so that nobody waits for ever.
                go(move || rx.iter().for_each(drop));
            });
            scope(|scope| {
                for n in 0..100 {
                    scope.go(move || {
                        let _entered = info_span!("job", n).entered();
                        time::sleep(MOMENT);
                        info!("it: done {n}");
                    });
                }
            });
            reader.join().unwrap();
            std::process::exit(0);
        });
    });
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn panics_and_goexit_end_spans() {
    with_workers(|| {
        let checks = Checks::default();
        each(&checks.dispatch(), 10, |n| {
            let _outer = info_span!("outer", n).entered();
            let failed = catch_unwind(AssertUnwindSafe(|| {
                let _inner = info_span!("inner", n).entered();
                // Waits in a destructor, while it unwinds.
                struct Waits;
                impl Drop for Waits {
                    fn drop(&mut self) {
                        time::sleep(MOMENT);
                    }
                }
                let _waits = Waits;
                yield_now();
                std::panic::resume_unwind(Box::new("inner"));
            }));
            assert!(failed.is_err());
            yield_now();
            info!("outer{{n={n}}}");
        });
        checks.hold(10);
        // Ended by `goexit` and by a panic, within spans; and one whose guard is forgotten.
        let dispatch = checks.dispatch();
        for end in [
            || goexit(),
            || std::panic::resume_unwind(Box::new("end")),
            || std::mem::forget(info_span!("left").entered()),
        ] as [fn(); 3]
        {
            let dispatch = dispatch.clone();
            let ended = go(move || {
                with_default(&dispatch, || {
                    let _entered = info_span!("ended").entered();
                    yield_now();
                    end();
                });
            });
            _ = ended.join();
        }
        each(&dispatch, 4, |_| {
            info!("");
            yield_now();
            info!("");
        });
        checks.hold(8);
    });
}

/// A goroutine that waits forever in a span leaves it to nobody, nor does one of a dropped runtime.
#[test]
fn a_dropped_runtime_leaves_no_span() {
    let checks = Checks::default();
    let dispatch = checks.dispatch();
    let runtime = Runtime::builder().workers(1).report_leaks(false).build().unwrap();
    let (tx, rx) = chan::bounded::<()>(0);
    let own = dispatch.clone();
    let (begun, has_begun) = chan::bounded(0);
    drop(runtime.go(move || {
        with_default(&own, || {
            let _entered = info_span!("forever").entered();
            begun.send(()).unwrap();
            rx.recv()
        })
    }));
    has_begun.recv().unwrap();
    let own = dispatch.clone();
    runtime.go(move || with_default(&own, || info!(""))).join().unwrap();
    drop(runtime);
    with_default(&dispatch, || info!(""));
    checks.hold(2);
    drop(tx);
}

/// A subscriber that panics when it is told of a switch: that is reported, and nothing is lost.
#[test]
fn a_subscriber_may_panic() {
    struct Panics;
    impl<S: Subscriber> Layer<S> for Panics {
        fn on_exit(&self, _: &Id, _: Context<'_, S>) {
            std::panic::resume_unwind(Box::new("on_exit"));
        }
    }
    let output = in_child("tracing::a_subscriber_may_panic", || {
        let dispatch = Dispatch::new(PerGoroutine::new(tracing_subscriber::registry().with(Panics)));
        Runtime::builder().workers(1).build().unwrap().run(move || {
            let (tx, rx) = chan::bounded(0);
            let receiver = go(move || {
                with_default(&dispatch, || {
                    std::mem::forget(info_span!("job").entered());
                    rx.recv()
                })
            });
            yield_now();
            tx.send(7).unwrap();
            assert_eq!(receiver.join().unwrap(), Ok(7));
        });
    });
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let report = "goby: a subscriber of tracing panicked when a goroutine left its spans: on_exit";
    assert!(stderr(&output).contains(report), "{}", stderr(&output));
}

#[test]
fn what_is_started_in_a_span_begins_without() {
    with_workers(|| {
        let checks = Checks::default();
        let dispatch = checks.dispatch();
        let own = &dispatch;
        each(own, 2, |n| {
            let _entered = info_span!("job", n).entered();
            let span = Span::current();
            scope(|scope| {
                scope.go(|| with_default(own, || info!("")));
                scope.go(|| with_default(own, || span.in_scope(|| info!("job{{n={n}}}"))));
            });
            blocking(|| with_default(own, || info!("")));
            blocking(|| with_default(own, || span.in_scope(|| info!("job{{n={n}}}"))));
            info!("job{{n={n}}}");
        });
        checks.hold(10);
    });
}

#[test]
fn each_goroutine_has_its_own_default() {
    with_workers(|| {
        let all: Vec<Checks> = (0..5).map(|_| Checks::default()).collect();
        scope(|scope| {
            for (n, checks) in all.iter().enumerate() {
                scope.go(move || {
                    with_default(&checks.dispatch(), || {
                        yield_now();
                        let _entered = info_span!("job", n).entered();
                        yield_now();
                        info!("job{{n={n}}}");
                        with_default(&Dispatch::none(), || {
                            yield_now();
                            info!("nobody hears this");
                        });
                        time::sleep(MOMENT);
                        info!("job{{n={n}}}");
                    });
                    yield_now();
                    dispatcher::get_default(|default| assert!(!default.is::<tracing_subscriber::Registry>()));
                });
            }
        });
        all.iter().for_each(|checks| checks.hold(2));
    });
}
