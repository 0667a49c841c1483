//! Layers with filters of their own, and arguments of macros that wait: the filters' answer lies in
//! a thread-local until the arguments are there.

use std::sync::Arc;

use parking_lot::Mutex;
use tracing::dispatcher::Dispatch;
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Subscriber, debug, debug_span, error, info, info_span};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use crate::support::with_workers;
use goby::tracing::{PerGoroutine, with_default};
use goby::{chan, go, scope, yield_now};

/// Counts what its layer is told, by level: events and spans.
#[derive(Clone, Default)]
struct Counts(Arc<Mutex<Vec<(Level, &'static str)>>>);

impl<S: Subscriber> Layer<S> for Counts {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.0.lock().push((*event.metadata().level(), "event"));
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        self.0.lock().push((*attributes.metadata().level(), "span"));
    }
}

impl Counts {
    fn of(&self, level: Level, what: &str) -> usize {
        self.0.lock().iter().filter(|told| **told == (level, what)).count()
    }
}

/// Two layers, one of them for INFO and above.
struct Two {
    terse: Counts,
    full: Counts,
    dispatch: Dispatch,
}

impl Two {
    fn new() -> Two {
        let (terse, full) = (Counts::default(), Counts::default());
        let layers = tracing_subscriber::registry()
            .with(filtered(&terse, LevelFilter::INFO))
            .with(filtered(&full, LevelFilter::TRACE));
        Two { dispatch: Dispatch::new(PerGoroutine::new(layers)), terse, full }
    }
}

fn filtered<S: Subscriber + for<'a> LookupSpan<'a>>(counts: &Counts, level: LevelFilter) -> impl Layer<S> + use<S> {
    counts.clone().with_filter(level)
}

#[test]
fn an_argument_that_waits_for_a_neighbor_that_logs() {
    with_workers(|| {
        let two = Two::new();
        let (tx, rx) = chan::bounded::<u32>(0);
        let (begun, has_begun) = chan::bounded(0);
        let own = two.dispatch.clone();
        let reply = move || {
            begun.send(()).unwrap();
            rx.recv().unwrap()
        };
        let asks = go(move || with_default(&own, || debug!(reply = reply(), "got a reply")));
        has_begun.recv().unwrap();
        let own = two.dispatch.clone();
        let answers = go(move || {
            with_default(&own, || {
                info!("important");
                tx.send(7).unwrap();
            });
        });
        asks.join().unwrap();
        answers.join().unwrap();
        for (counts, debugs) in [(&two.terse, 0), (&two.full, 1)] {
            assert_eq!(counts.of(Level::INFO, "event"), 1);
            assert_eq!(counts.of(Level::DEBUG, "event"), debugs);
        }
    });
}

#[test]
fn each_layer_is_told_what_its_filter_lets_through() {
    const GOROUTINES: usize = 50;
    const ROUNDS: usize = 10;
    let wait = || {
        yield_now();
        7
    };
    with_workers(|| {
        let two = Two::new();
        scope(|scope| {
            for _ in 0..GOROUTINES {
                scope.go(|| {
                    with_default(&two.dispatch, || {
                        for _ in 0..ROUNDS {
                            debug!(x = wait(), "debug");
                            info!(x = wait(), "info");
                            // All filters let these through, so they are not asked.
                            error!(x = wait(), "error");
                            let _outer = info_span!("info", x = wait()).entered();
                            let _inner = debug_span!("debug", x = wait()).entered();
                            yield_now();
                        }
                    });
                });
            }
        });
        let all = GOROUTINES * ROUNDS;
        for (counts, debugs) in [(&two.terse, 0), (&two.full, all)] {
            for what in ["event", "span"] {
                assert_eq!(counts.of(Level::INFO, what), all, "{what}");
                assert_eq!(counts.of(Level::DEBUG, what), debugs, "{what}");
            }
            assert_eq!(counts.of(Level::ERROR, "event"), all);
        }
    });
}
