//! What the tests look at: events with the spans that they are in, and formatted lines.

use std::fmt::{self, Write as _};
use std::io;
use std::sync::Arc;

use goby::tracing::PerGoroutine;
use parking_lot::Mutex;
use tracing::dispatcher::Dispatch;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// The text of some fields: `n=1 message=done`.
#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            write!(self.0, "{value:?}").unwrap();
        } else {
            write!(self.0, "{}={value:?}", field.name()).unwrap();
        }
    }
}

/// Records for each event its spans, as `outer{n=1}:inner{}`, and its message.
#[derive(Clone, Default)]
pub(super) struct Checks(Arc<Mutex<Vec<(String, String)>>>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Checks {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, ctx: Context<'_, S>) {
        let mut text = Text::default();
        attributes.record(&mut text);
        let span = ctx.span(id).unwrap();
        let text = Text(format!("{}{{{}}}", span.name(), text.0));
        span.extensions_mut().insert(text);
    }

    fn on_event(&self, event: &Event<'_>, ctx: Context<'_, S>) {
        let mut message = Text::default();
        event.record(&mut message);
        let spans = ctx.event_scope(event).into_iter().flat_map(|scope| scope.from_root());
        let path: Vec<String> = spans.map(|span| span.extensions().get::<Text>().unwrap().0.clone()).collect();
        self.0.lock().push((path.join(":"), message.0));
    }
}

impl Checks {
    /// A subscriber of these checks, and nothing else.
    pub(super) fn dispatch(&self) -> Dispatch {
        Dispatch::new(PerGoroutine::new(tracing_subscriber::registry().with(self.clone())))
    }

    /// Each event so far was in the spans that it names.
    #[track_caller]
    pub(super) fn hold(&self, n: usize) {
        let events = std::mem::take(&mut *self.0.lock());
        for (path, message) in &events {
            assert_eq!(path, message);
        }
        assert_eq!(events.len(), n);
    }
}

/// A writer into a string.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(super) fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `tracing_subscriber::fmt` into that log.
pub(super) fn fmt_to(log: &Log) -> impl Subscriber + Send + Sync + for<'a> LookupSpan<'a> + use<> {
    let log = log.clone();
    let fmt = tracing_subscriber::fmt().with_ansi(false).without_time().with_target(false);
    fmt.with_writer(move || log.clone()).finish()
}
