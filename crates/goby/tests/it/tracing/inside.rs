//! Subscribers that wait inside of a call.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use goby_test_support::{in_child, stderr};
use tracing::dispatcher::{self, Dispatch};
use tracing::span::{Id, Record};
use tracing::subscriber::{Interest, NoSubscriber};
use tracing::{Event, Metadata, Span, Subscriber, field, info, info_span};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use super::checks::{Checks, Log, fmt_to};
use super::{Lines, each};
use crate::support::{MOMENT, with_workers};
use goby::goroutine::Local;
use goby::tracing::{PerGoroutine, with_default};
use goby::{Runtime, chan, go, scope, time, yield_now};

/// Yields whenever a span is entered or left, and notes in how many spans an event was.
struct Yields {
    deepest: Arc<AtomicUsize>,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Yields {
    fn on_enter(&self, _: &Id, _: Context<'_, S>) {
        yield_now();
    }

    fn on_exit(&self, _: &Id, _: Context<'_, S>) {
        yield_now();
    }

    fn on_event(&self, event: &Event<'_>, ctx: Context<'_, S>) {
        let spans = ctx.event_scope(event).map_or(0, |scope| scope.count());
        self.deepest.fetch_max(spans, Ordering::Relaxed);
    }
}

#[test]
fn parents_are_ones_own() {
    with_workers(|| {
        let deepest = Arc::new(AtomicUsize::new(0));
        let layer = Yields { deepest: deepest.clone() };
        let dispatch = Dispatch::new(PerGoroutine::new(tracing_subscriber::registry().with(layer)));
        each(&dispatch, 4, |n| {
            for _ in 0..50 {
                let _job = info_span!("job", n).entered();
                let _part = info_span!("part", n).entered();
                yield_now();
                info!("done");
            }
        });
        assert_eq!(deepest.load(Ordering::Relaxed), 2);
    });
}

/// Receives when something is recorded in a span.
struct Receives(chan::Receiver<()>);

impl<S: Subscriber> Layer<S> for Receives {
    fn on_record(&self, _: &Id, _: &Record<'_>, _: Context<'_, S>) {
        self.0.recv().unwrap();
    }
}

/// Starts a goroutine that waits inside of its subscriber, in a span of that name, until `f`.
fn waits_in_record(dispatch: &Dispatch, n: usize, f: impl FnOnce() + Send + 'static) -> goby::JoinHandle<()> {
    let own = dispatch.clone();
    let (begun, has_begun) = chan::bounded(0);
    let waits = go(move || {
        with_default(&own, || {
            let entered = info_span!("waits", n, late = field::Empty).entered();
            begun.send(()).unwrap();
            entered.record("late", 1);
            f();
        });
    });
    has_begun.recv().unwrap();
    waits
}

#[test]
fn events_and_the_current_span_are_ones_own() {
    with_workers(|| {
        let checks = Checks::default();
        let (tx, rx) = chan::bounded(0);
        let layers = tracing_subscriber::registry().with(checks.clone()).with(Receives(rx));
        let dispatch = Dispatch::new(PerGoroutine::new(layers));
        let all: Vec<_> = (0..3)
            .map(|n| {
                waits_in_record(&dispatch, n, move || {
                    // The others wait inside still, and their spans were entered later.
                    info!("waits{{n={n}}}");
                    info_span!("inner", k = n).in_scope(|| info!("waits{{n={n}}}:inner{{k={n}}}"));
                    info_span!(parent: None, "root", k = n).in_scope(|| info!("root{{k={n}}}"));
                    info!("waits{{n={n}}}");
                })
            })
            .collect();
        with_default(&dispatch, || {
            assert!(Span::current().is_none());
            info_span!("own").in_scope(|| info!("own{{}}"));
        });
        // They may have come in any order.
        all.iter().for_each(|_| tx.send(()).unwrap());
        all.into_iter().for_each(|waits| waits.join().unwrap());
        checks.hold(13);
    });
}

/// Without a span of its own, a goroutine's event seems to be in its neighbor's. That is said once.
#[test]
fn an_event_in_the_spans_of_a_neighbor_is_reported() {
    let output = in_child("tracing::inside::an_event_in_the_spans_of_a_neighbor_is_reported", || {
        let log = Log::default();
        let (tx, rx) = chan::bounded(0);
        let dispatch = Dispatch::new(PerGoroutine::new(fmt_to(&log).with(Receives(rx))));
        Runtime::builder().workers(1).build().unwrap().run(move || {
            let waits = waits_in_record(&dispatch, 0, || ());
            with_default(&dispatch, || {
                info!("first");
                info!("second");
            });
            tx.send(()).unwrap();
            waits.join().unwrap();
        });
        assert_eq!(log.text().matches("waits{n=0").count(), 2, "{}", log.text());
    });
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let report = "goby: an event of tracing seems to be in the spans of another goroutine";
    assert_eq!(stderr(&output).matches(report).count(), 1, "{}", stderr(&output));
}

/// Waits when a span is closed, and counts those that are.
struct Closes {
    closed: Arc<AtomicUsize>,
}

impl<S: Subscriber> Layer<S> for Closes {
    fn on_close(&self, _: Id, _: Context<'_, S>) {
        self.closed.fetch_add(1, Ordering::Relaxed);
        time::sleep(Duration::from_micros(100));
    }
}

#[test]
fn a_layer_may_wait_where_a_span_is_closed() {
    let output = in_child("tracing::inside::a_layer_may_wait_where_a_span_is_closed", || {
        let closed = Arc::new(AtomicUsize::new(0));
        let layer = Closes { closed: closed.clone() };
        let dispatch = Dispatch::new(PerGoroutine::new(tracing_subscriber::registry().with(layer)));
        Runtime::builder().workers(1).build().unwrap().run(move || {
            each(&dispatch, 100, |_| {
                let outer = info_span!("outer");
                let inner = info_span!(parent: &outer, "inner");
                drop(outer);
                yield_now();
                drop(inner);
            });
        });
        assert_eq!(closed.load(Ordering::Relaxed), 200);
    });
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

/// Sets a global default that sends its lines, and starts a thread with a default of its own.
fn a_default_that_waits() -> chan::Receiver<String> {
    let (tx, rx) = chan::bounded(0);
    let lines = Lines(tx);
    let fmt = tracing_subscriber::fmt().with_ansi(false).with_writer(move || lines.clone());
    tracing::subscriber::set_global_default(PerGoroutine::new(fmt.finish())).unwrap();
    let (is_set, begins) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        dispatcher::with_default(&Dispatch::new(NoSubscriber::default()), || {
            is_set.send(()).unwrap();
            loop {
                std::thread::park();
            }
        });
    });
    begins.recv().unwrap();
    rx
}

/// Twenty goroutines that log. Every second one has had a default of its own before.
fn log_twenty() {
    scope(|scope| {
        for n in 0..20 {
            scope.go(move || {
                if n % 2 == 1 {
                    with_default(&Dispatch::new(PerGoroutine::new(tracing_subscriber::registry())), yield_now);
                }
                info!("event {n}");
            });
        }
    });
}

/// `tracing` keeps its thread-local borrowed, if there is any default of a thread.
#[test]
fn no_event_is_lost_while_another_thread_has_a_default() {
    let output = in_child("tracing::inside::no_event_is_lost_while_another_thread_has_a_default", || {
        let rx = a_default_that_waits();
        let reader = std::thread::spawn(move || rx.iter().take(20).count());
        Runtime::builder().workers(1).report_leaks(false).build().unwrap().run(log_twenty);
        assert_eq!(reader.join().unwrap(), 20);
        std::process::exit(0);
    });
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

/// The reader is pinned to the worker that is kept for it. So that ends after a second, for good.
#[test]
fn a_worker_that_is_kept_in_vain_is_reported() {
    let output = in_child("tracing::inside::a_worker_that_is_kept_in_vain_is_reported", || {
        let rx = a_default_that_waits();
        let begin = Instant::now();
        Runtime::builder().workers(1).report_leaks(false).build().unwrap().run(move || {
            let (begun, has_begun) = chan::bounded(0);
            go(move || {
                begun.send(()).unwrap();
                rx.iter().for_each(drop);
            });
            has_begun.recv().unwrap();
            for n in 0..20 {
                info!("event {n}");
            }
            let waited = begin.elapsed();
            assert!(waited >= Duration::from_secs(1), "{waited:?}");
            std::process::exit(0);
        });
    });
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let report = "goby: a subscriber of tracing has kept its worker for a second";
    assert_eq!(stderr(&output).matches(report).count(), 1, "{}", stderr(&output));
}

/// The goroutine is in a span, and its subscriber waits where it is asked about a callsite: it is
/// not told of that wait.
#[test]
fn a_subscriber_is_not_called_while_it_is_asked_about_a_callsite() {
    static DEPTH: Local<AtomicUsize> = Local::new(Default::default);
    struct Asked(Arc<AtomicUsize>);
    impl<S: Subscriber> Layer<S> for Asked {
        fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
            DEPTH.with(|depth| {
                depth.fetch_add(1, Ordering::Relaxed);
                time::sleep(MOMENT);
                depth.fetch_sub(1, Ordering::Relaxed);
            });
            Interest::always()
        }
        fn on_exit(&self, _: &Id, _: Context<'_, S>) {
            self.0.fetch_max(DEPTH.with(|depth| depth.load(Ordering::Relaxed)), Ordering::Relaxed);
        }
    }
    let output = in_child("tracing::inside::a_subscriber_is_not_called_while_it_is_asked_about_a_callsite", || {
        let deepest = Arc::new(AtomicUsize::new(0));
        let layers = tracing_subscriber::registry().with(Asked(deepest.clone()));
        tracing::subscriber::set_global_default(PerGoroutine::new(layers)).unwrap();
        Runtime::builder().workers(1).build().unwrap().run(|| {
            go(|| info_span!("asked").in_scope(|| info!("the first use of this callsite"))).join().unwrap();
        });
        assert_eq!(deepest.load(Ordering::Relaxed), 0);
    });
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}
