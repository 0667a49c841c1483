//! Spans of `tracing` that belong to goroutines (`docs/decisions/60-spans.md`).
//!
//! A subscriber keeps what is entered per thread, and the goroutines of a worker share one. So a
//! goroutine notes what it has entered, and carries it (`engine/carried.rs`): before it gives its
//! worker away, the subscriber is told that it has left its spans, the innermost first, and when it
//! is back that it has entered them again.
//!
//! A subscriber is user code. It may wait, log, or panic while it is told.
//!
//! - A goroutine that is inside of its subscriber takes nothing off (`notes.rs`). So goby never
//!   calls a subscriber while the same goroutine is in a call of it, and the subscriber may hold a
//!   lock of goby across a wait.
//! - No reference into the notes is held during a call: the subscriber may enter and leave spans.
//! - A panic is caught, and reported.

use std::any::TypeId;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::dispatcher::{self, Dispatch};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_core::span::Current;

use crate::base::report::report;
use crate::current_id;

mod asked;
mod notes;

use notes::{NOTES, Notes, Scoped, What};

/// A subscriber of `tracing` for which each goroutine has spans of its own.
///
/// A subscriber keeps the spans that are entered per OS thread, and the goroutines of a worker
/// share one. So the spans of a goroutine that waits would be those of its neighbors, too. This
/// subscriber wraps another one, with all its layers, and passes everything on to it. Besides, when
/// a goroutine waits or yields, it tells the other one that the goroutine has left the spans it has
/// entered, the innermost first, and that it has entered them again when it goes on.
///
/// ```
/// use goby::{Runtime, go, tracing::PerGoroutine, yield_now};
/// use std::io;
/// use std::sync::{Arc, Mutex};
/// use tracing::{info, info_span};
/// use tracing_subscriber::util::SubscriberInitExt as _;
///
/// # #[derive(Clone, Default)]
/// # struct Log(Arc<Mutex<Vec<u8>>>);
/// # impl io::Write for Log {
/// #     fn write(&mut self, bytes: &[u8]) -> io::Result<usize> { self.0.lock().unwrap().write(bytes) }
/// #     fn flush(&mut self) -> io::Result<()> { Ok(()) }
/// # }
/// # let log = Log::default();
/// # let writer = log.clone();
/// let subscriber = tracing_subscriber::fmt().without_time() /* … */;
/// # let subscriber = subscriber.with_ansi(false).with_writer(move || writer.clone());
/// PerGoroutine::new(subscriber.finish()).init();
///
/// Runtime::builder().workers(1).build()?.run(|| {
///     let job = |n: u32| {
///         let _entered = info_span!("job", n).entered();
///         yield_now(); // the other one enters its span meanwhile
///         info!("done");
///     };
///     let jobs = [go(move || job(1)), go(move || job(2))];
///     for job in jobs {
///         job.join().unwrap();
///     }
/// });
/// # let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
/// # // On a slow machine goby's own reports may be among them.
/// # let mut lines: Vec<&str> = log.lines().filter_map(|line| Some(line.split_once("job{")?.1)).collect();
/// # lines.sort_unstable();
/// # assert_eq!(lines.len(), 2);
/// # assert!(lines[0].starts_with("n=1}: ") && lines[1].starts_with("n=2}: "), "{log}");
/// // INFO job{n=2}: shop: done
/// // INFO job{n=1}: shop: done
/// # Ok::<(), io::Error>(())
/// ```
///
/// # What holds
///
/// - It is the outermost: wrap a subscriber that has all its layers.
/// - Where nothing is entered a switch costs no more than without it. Where something is, the
///   subscriber gets two calls more per span and switch.
/// - What a layer measures between `on_enter` and `on_exit` is the time in which the goroutine had
///   its worker, as for futures. `time.idle` of `FmtSpan::CLOSE` includes its waits.
/// - A goroutine that ends within spans, since a guard was forgotten, leaves them after its last
///   local is dropped.
/// - The arguments of a macro may wait, also beside layers with filters of their own. If a neighbor
///   has logged meanwhile, the filters are asked again.
/// - A goroutine that is started, and a closure of [`blocking`](crate::blocking), begins without
///   spans, as a thread and a task of tokio do. Give it one: `go(move || span.in_scope(f))`.
/// - A plain thread, and a spawned future in `poll`, have their thread to themselves: for them it
///   changes nothing.
///
/// # A subscriber that waits
///
/// A subscriber may wait, for a channel or a lock of goby, even when it is told of a switch. A
/// goroutine that is inside one of its calls does not call it again: it could wait for itself. So
/// while a goroutine waits *inside the subscriber*, its spans stay on the thread, where neighbors
/// meet them:
///
/// - A new span has its own goroutine's span as its parent in any case. So has an event, unless
///   layers wait where spans are entered or left. But an event of a goroutine that is in no span
///   seems to be in its neighbor's. The first one is reported on the standard error.
/// - The goroutine keeps its worker, as in a panic hook, while the subscriber waits where a span is
///   closed (the registry of `tracing-subscriber` counts per thread what is being closed), and
///   while it waits for an event or a new span, if any thread has a default of its own (`tracing`
///   keeps a thread-local borrowed meanwhile). If that lasts for a second, it may wait for a
///   goroutine of its own worker. This is reported, and no goroutine keeps its worker for this from
///   then on: spans can stay open, neighbors' events be lost, and their `with_default` panic.
/// - Beside layers with filters of their own, neither a filter nor a layer may wait where it is
///   told of an event or a new span: what the filters have answered is kept per thread until the
///   last layer has been told.
/// - It must not wait in `register_callsite`, `max_level_hint` and `on_register_dispatch`:
///   `tracing` holds locks of std meanwhile.
///
/// So let a writer only hand over: `try_send`, or a channel without a bound.
pub struct PerGoroutine<S>(Arc<S>);

impl<S: Subscriber + Send + Sync + 'static> PerGoroutine<S> {
    /// Wraps a subscriber.
    pub fn new(subscriber: S) -> PerGoroutine<S> {
        PerGoroutine(Arc::new(subscriber))
    }

    /// Calls the subscriber; what the goroutine has entered stays on the thread meanwhile.
    fn call<R>(&self, f: impl FnOnce(&S) -> R) -> R {
        self.call_noting(|_| f(&self.0))
    }

    /// The same; `f` is given the notes of the calling goroutine, if it is one.
    fn call_noting<R>(&self, f: impl FnOnce(Option<&Notes>) -> R) -> R {
        if current_id().is_none() {
            return f(None);
        }
        NOTES.with(|notes| {
            let _inside = notes.step_in();
            f(Some(notes))
        })
    }

    /// Names the subscriber in notes.
    fn key(&self) -> *const () {
        Arc::as_ptr(&self.0).cast()
    }

    /// Asks the subscriber again whether it is enabled, if filters of layers keep the answer to a
    /// neighbor. Returns false if it is not enabled.
    fn still_enables(&self, notes: Option<&Notes>, metadata: &Metadata<'_>) -> bool {
        !asked::must_ask_again(notes) || self.0.enabled(metadata)
    }

    /// Returns whether the subscriber takes a neighbor's span for the current one, since that
    /// neighbor waits inside of the subscriber.
    fn is_in_foreign_span(&self, notes: &Notes) -> bool {
        notes::anybody_waits_inside()
            && self.0.current_span().id().is_some_and(|current| !notes.is_in(self.key(), current))
    }

    /// Does the same, after it has moved the goroutine's innermost span above those of neighbors.
    fn stays_in_foreign_span(&self, notes: &Notes) -> bool {
        if !self.is_in_foreign_span(notes) {
            return false;
        }
        // A layer that logs, inside of a call, must not be called again.
        if notes.is_in_one_call()
            && let Some(own) = notes.innermost(self.key())
        {
            self.0.exit(&own);
            self.0.enter(&own);
        }
        self.is_in_foreign_span(notes)
    }
}

/// Reports, once per process, what cannot be mended.
#[cold]
fn report_foreign_event() {
    static IS_REPORTED: AtomicBool = AtomicBool::new(false);
    // Relaxed: it is only about the number of reports.
    if !IS_REPORTED.swap(true, Ordering::Relaxed) {
        report(format_args!(
            "an event of tracing seems to be in the spans of another goroutine, which waits inside \
             of the subscriber: let it only hand over (goby::tracing::PerGoroutine)"
        ));
    }
}

impl<S> fmt::Debug for PerGoroutine<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PerGoroutine(..)")
    }
}

/// Passes on all methods of the trait. What it has to say itself is in `enter` and `exit`.
impl<S: Subscriber + Send + Sync + 'static> Subscriber for PerGoroutine<S> {
    fn enter(&self, span: &Id) {
        self.call_noting(|notes| {
            // First: if a layer panics here, the span may be entered, and is left at the end.
            if let Some(notes) = notes {
                notes.push(What::Span(self.0.clone(), span.clone()));
            }
            self.0.enter(span);
        });
    }

    fn exit(&self, span: &Id) {
        self.call_noting(|notes| {
            if let Some(notes) = notes {
                notes.remove_span(self.key(), span);
            }
            self.0.exit(span);
        });
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        self.call_noting(|notes| {
            // A span cannot be refused here. If it is not enabled any more, no layer is told of it.
            self.still_enables(notes, attributes.metadata());
            let foreign = notes.filter(|notes| attributes.is_contextual() && self.is_in_foreign_span(notes));
            let own = foreign.map(|notes| match notes.innermost(self.key()) {
                Some(parent) => Attributes::child_of(parent, attributes.metadata(), attributes.values()),
                None => Attributes::new_root(attributes.metadata(), attributes.values()),
            });
            let id = self.0.new_span(own.as_ref().unwrap_or(attributes));
            asked::forget(notes);
            id
        })
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        self.call(|subscriber| subscriber.record(span, values));
    }

    fn record_follows_from(&self, span: &Id, follows: &Id) {
        self.call(|subscriber| subscriber.record_follows_from(span, follows));
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.call_noting(|notes| {
            let is_enabled = self.0.enabled(metadata);
            asked::note(notes, is_enabled);
            is_enabled
        })
    }

    fn event_enabled(&self, event: &Event<'_>) -> bool {
        self.call_noting(|notes| {
            let is_enabled = self.still_enables(notes, event.metadata()) && self.0.event_enabled(event);
            asked::note(notes, is_enabled);
            is_enabled
        })
    }

    fn event(&self, event: &Event<'_>) {
        self.call_noting(|notes| {
            if event.is_contextual() && notes.is_some_and(|notes| self.stays_in_foreign_span(notes)) {
                report_foreign_event();
            }
            // The first of its filters may wait, and a neighbor ask meanwhile.
            asked::forget(notes);
            self.0.event(event);
        });
    }

    fn clone_span(&self, span: &Id) -> Id {
        self.call(|subscriber| subscriber.clone_span(span))
    }

    fn try_close(&self, span: Id) -> bool {
        self.call_noting(|notes| {
            let _closing = notes.map(Notes::step_in_to_close);
            let is_closed = self.0.try_close(span.clone());
            if let Some(notes) = notes.filter(|_| is_closed) {
                notes.close(self.key(), &span);
            }
            is_closed
        })
    }

    #[allow(deprecated)]
    fn drop_span(&self, span: Id) {
        self.try_close(span);
    }

    fn current_span(&self) -> Current {
        self.call_noting(|notes| match notes {
            Some(notes) if self.stays_in_foreign_span(notes) => Current::none(),
            _ => self.0.current_span(),
        })
    }

    fn on_register_dispatch(&self, dispatch: &Dispatch) {
        self.call(|subscriber| subscriber.on_register_dispatch(dispatch));
    }

    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        self.call(|subscriber| subscriber.register_callsite(metadata))
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        self.call(|subscriber| subscriber.max_level_hint())
    }

    unsafe fn downcast_raw(&self, id: TypeId) -> Option<*const ()> {
        if id == TypeId::of::<Self>() {
            return Some(std::ptr::from_ref(self).cast());
        }
        // SAFETY: by the caller's contract, which is the same. What it points to lives as long as
        // `self`, which holds the subscriber.
        unsafe { self.0.downcast_raw(id) }
    }
}

/// Makes `dispatch` the calling goroutine's default for the length of `f`, as
/// `tracing::dispatcher::with_default` makes it the thread's.
///
/// That function sets a thread-local, so it must not be used around anything that waits: the
/// goroutines of a worker would put back each other's. Under this one the goroutine may wait. On a
/// plain thread both do the same. Goroutines that `f` starts have the default that they would have
/// without it.
///
/// ```
/// use goby::{tracing::{PerGoroutine, with_default}, go, yield_now};
/// use tracing::{Dispatch, dispatcher::get_default};
/// use tracing_subscriber::Registry;
///
/// let own = Dispatch::new(PerGoroutine::new(Registry::default()));
/// let has_own = || get_default(|dispatch| dispatch.is::<Registry>());
/// go(move || {
///     with_default(&own, || {
///         let other = go(move || (has_own(), yield_now(), has_own()));
///         yield_now();
///         assert!(has_own());
///         assert_eq!(other.join().unwrap(), (false, (), false));
///     });
///     assert!(!has_own());
/// }).join().unwrap();
/// ```
///
/// # Blocking
///
/// As `f` does. While the program has such defaults, a subscriber should not wait: see
/// [`PerGoroutine`](PerGoroutine#a-subscriber-that-waits).
pub fn with_default<R>(dispatch: &Dispatch, f: impl FnOnce() -> R) -> R {
    if current_id().is_none() {
        return dispatcher::with_default(dispatch, f);
    }
    let scoped = Rc::new(Scoped::new(dispatch));
    NOTES.with(|notes| {
        let _inside = notes.step_in();
        scoped.turn(true);
        notes.push(What::Scoped(scoped.clone()));
    });
    let _restored = Restored(scoped);
    f()
}

/// Puts the former default back when it is dropped.
struct Restored(Rc<Scoped>);

impl Drop for Restored {
    fn drop(&mut self) {
        NOTES.with(|notes| {
            let _inside = notes.step_in();
            notes.remove_scoped(&self.0);
            self.0.turn(false);
        });
    }
}
