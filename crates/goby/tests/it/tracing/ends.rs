//! How spans end where a goroutine does, and where it panics.

use std::cell::RefCell;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use goby_test_support::{in_child, stderr};
use parking_lot::Mutex;
use tracing::dispatcher::Dispatch;
use tracing::span::{EnteredSpan, Id};
use tracing::{Subscriber, info, info_span};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use super::checks::{Checks, Log, fmt_to};
use crate::support::{MOMENT, with_workers};
use goby::goroutine::Local;
use goby::tracing::{PerGoroutine, with_default};
use goby::{Runtime, chan, go, time, yield_now};

/// Counts how often spans are entered and left.
#[derive(Clone, Default)]
struct Turns {
    enters: Arc<AtomicUsize>,
    exits: Arc<AtomicUsize>,
}

impl<S: Subscriber> Layer<S> for Turns {
    fn on_enter(&self, _: &Id, _: Context<'_, S>) {
        self.enters.fetch_add(1, Ordering::Relaxed);
    }

    fn on_exit(&self, _: &Id, _: Context<'_, S>) {
        self.exits.fetch_add(1, Ordering::Relaxed);
    }
}

/// A guard that is dropped with the goroutine's locals.
static GUARD: Local<RefCell<Option<EnteredSpan>>> = Local::new(|| RefCell::new(None));

#[test]
fn a_guard_in_a_local_is_left_once() {
    with_workers(|| {
        let turns = Turns::default();
        let dispatch = Dispatch::new(PerGoroutine::new(tracing_subscriber::registry().with(turns.clone())));
        go(move || {
            with_default(&dispatch, || {
                GUARD.with(|guard| *guard.borrow_mut() = Some(info_span!("local").entered()));
                yield_now();
            });
        })
        .join()
        .unwrap();
        let [enters, exits] = [&turns.enters, &turns.exits].map(|turns| turns.load(Ordering::Relaxed));
        assert_eq!(enters, exits);
        assert_eq!(enters, 2, "entered, and entered again after the yield");
    });
}

/// Waits when it is dropped.
struct Waits;

impl Drop for Waits {
    fn drop(&mut self) {
        yield_now();
        yield_now();
    }
}

static WAITS: Local<Waits> = Local::new(|| Waits);

#[test]
fn a_local_may_wait_in_its_destructor() {
    with_workers(|| {
        let checks = Checks::default();
        let dispatch = checks.dispatch();
        let own = dispatch.clone();
        let (begun, has_begun) = chan::bounded(0);
        let ends = go(move || {
            // The first of its locals.
            WAITS.with(|_| ());
            begun.send(()).unwrap();
            with_default(&own, || std::mem::forget(info_span!("forgotten").entered()));
        });
        let neighbor = go(move || {
            has_begun.recv().unwrap();
            for _ in 0..4 {
                with_default(&dispatch, || info!(""));
                yield_now();
            }
        });
        ends.join().unwrap();
        neighbor.join().unwrap();
        checks.hold(4);
    });
}

#[test]
fn a_layer_that_panics_in_on_enter_leaves_no_span_to_a_neighbor() {
    struct Panics;
    impl<S: Subscriber> Layer<S> for Panics {
        fn on_enter(&self, _: &Id, _: Context<'_, S>) {
            resume_unwind(Box::new("on_enter"));
        }
    }
    with_workers(|| {
        let checks = Checks::default();
        let layers = tracing_subscriber::registry().with(checks.clone()).with(Panics);
        let dispatch = Dispatch::new(PerGoroutine::new(layers));
        let own = dispatch.clone();
        // Where the span stays open.
        let kept = Arc::new(Mutex::new(None));
        let keeps = kept.clone();
        let enters = go(move || {
            with_default(&own, || {
                let span = info_span!("broken");
                *keeps.lock() = Some(span.clone());
                span.in_scope(|| unreachable!());
            });
        });
        assert!(enters.join().is_err());
        // Wherever it ran.
        let others: Vec<_> = (0..8)
            .map(|_| {
                let dispatch = dispatch.clone();
                go(move || with_default(&dispatch, || info!("")))
            })
            .collect();
        others.into_iter().for_each(|other| other.join().unwrap());
        assert!(kept.lock().is_some());
        checks.hold(8);
    });
}

/// A hook keeps its worker for a second. Then neighbors run, and are not in the spans of the
/// goroutine that panics.
#[test]
fn a_panic_hook_that_waits_for_long_leaves_its_spans() {
    let output = in_child("tracing::ends::a_panic_hook_that_waits_for_long_leaves_its_spans", || {
        let log = Log::default();
        tracing::subscriber::set_global_default(PerGoroutine::new(fmt_to(&log))).unwrap();
        let (tx, rx) = chan::bounded::<()>(0);
        std::panic::set_hook(Box::new(move |info| {
            eprintln!("{info}");
            _ = rx.recv();
        }));
        Runtime::builder().workers(1).build().unwrap().run(|| {
            let (sends, is_seen) = chan::bounded::<()>(0);
            let neighbor = go(move || {
                is_seen.recv().unwrap();
                // The hook waits for this goroutine, which is pinned to the same worker.
                time::sleep(MOMENT);
                info!("neighbor");
                tx.send(()).unwrap();
            });
            sends.send(()).unwrap();
            let panics = go(|| {
                let _entered = info_span!("panics").entered();
                panic!("told to the hook");
            });
            assert!(panics.join().is_err());
            neighbor.join().unwrap();
            time::sleep(Duration::ZERO);
            info!("afterwards");
        });
        let text = log.text();
        // Besides, there is a report that the hook waits.
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| line.contains("INFO")).collect();
        assert_eq!(lines, ["INFO neighbor", "INFO afterwards"]);
    });
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}
