//! Spans of `tracing` that belong to goroutines (`docs/decisions/60-spans.md`).
//!
//! A subscriber keeps what is entered per thread, and the goroutines of a worker share one. So a
//! goroutine notes what it has entered, and carries it (`engine/carried.rs`): before it gives its
//! worker away, the subscriber is told that it has left its spans, the innermost first, and when it
//! is back that it has entered them again.
//!
//! A subscriber is user code. It may wait, log, or panic while it is told.
//!
//! - The goroutine that is inside of its subscriber carries nothing. So goby never calls a
//!   subscriber while the same goroutine is in a call of it, and the subscriber may hold a lock of
//!   goby across a wait.
//! - No reference into the notes is held during a call: the subscriber may enter and leave spans.
//! - A panic is caught, and reported.

use std::any::TypeId;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use tracing::dispatcher::{self, DefaultGuard, Dispatch};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_core::span::Current;

use crate::base::report::{payload_text, report};
use crate::{Carried, Local, carry, current_id};

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
/// - A goroutine that ends within spans, since a guard was forgotten, leaves them.
/// - A goroutine that is started, and a closure of [`blocking`](crate::blocking), begins without
///   spans, as a thread and a task of tokio do. Give it one: `go(move || span.in_scope(f))`.
/// - A plain thread, and a spawned future in `poll`, have their thread to themselves: for them it
///   changes nothing.
///
/// # A subscriber that waits
///
/// A subscriber may wait, for a channel or a lock of goby, even when it is told of a switch. It is
/// not called by a goroutine that is inside one of its calls. So while a goroutine waits *inside
/// the subscriber*, its spans stay on the thread, and events of its neighbors seem to be in them.
/// Let a writer only hand over: `try_send`, or a channel without a bound.
pub struct PerGoroutine<S>(Arc<S>);

impl<S: Subscriber + Send + Sync + 'static> PerGoroutine<S> {
    /// Wraps a subscriber.
    pub fn new(subscriber: S) -> PerGoroutine<S> {
        PerGoroutine(Arc::new(subscriber))
    }

    /// Calls the subscriber, for a goroutine that carries nothing meanwhile.
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
            self.0.enter(span);
            if let Some(notes) = notes {
                notes.push(What::Span(self.0.clone(), span.clone()));
            }
        });
    }

    fn exit(&self, span: &Id) {
        self.call_noting(|notes| {
            if let Some(notes) = notes {
                notes.remove(|what| what.is_span(Arc::as_ptr(&self.0).cast(), span));
            }
            self.0.exit(span);
        });
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        self.call(|subscriber| subscriber.new_span(attributes))
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        self.call(|subscriber| subscriber.record(span, values));
    }

    fn record_follows_from(&self, span: &Id, follows: &Id) {
        self.call(|subscriber| subscriber.record_follows_from(span, follows));
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.call(|subscriber| subscriber.enabled(metadata))
    }

    fn event_enabled(&self, event: &Event<'_>) -> bool {
        self.call(|subscriber| subscriber.event_enabled(event))
    }

    fn event(&self, event: &Event<'_>) {
        self.call(|subscriber| subscriber.event(event));
    }

    fn clone_span(&self, span: &Id) -> Id {
        self.call(|subscriber| subscriber.clone_span(span))
    }

    fn try_close(&self, span: Id) -> bool {
        self.call(|subscriber| subscriber.try_close(span))
    }

    #[allow(deprecated)]
    fn drop_span(&self, span: Id) {
        self.call(|subscriber| subscriber.drop_span(span));
    }

    fn current_span(&self) -> Current {
        self.0.current_span()
    }

    fn on_register_dispatch(&self, dispatch: &Dispatch) {
        self.0.on_register_dispatch(dispatch);
    }

    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        self.0.register_callsite(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        self.0.max_level_hint()
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
/// As `f` does. While a subscriber is called as a default of this kind, it must not wait: `tracing`
/// keeps its thread-local borrowed, and a neighbor's access to it panics.
pub fn with_default<R>(dispatch: &Dispatch, f: impl FnOnce() -> R) -> R {
    if current_id().is_none() {
        return dispatcher::with_default(dispatch, f);
    }
    let scoped = Rc::new(Scoped { dispatch: dispatch.clone(), guard: RefCell::new(None) });
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
            notes.remove(|what| matches!(what, What::Scoped(scoped) if Rc::ptr_eq(scoped, &self.0)));
            self.0.turn(false);
        });
    }
}

/// A default of `with_default`.
struct Scoped {
    dispatch: Dispatch,
    /// There while it is the thread's default.
    guard: RefCell<Option<DefaultGuard>>,
}

impl Scoped {
    /// Makes it the thread's default, or puts back what was before: since goroutines leave the
    /// thread's default as they find it, that is what the thread has without goroutines.
    fn turn(&self, on: bool) {
        let new = on.then(|| dispatcher::set_default(&self.dispatch));
        let old = self.guard.replace(new);
        drop(old);
    }
}

/// What a goroutine has entered, for as long as it has.
static NOTES: Local<Notes> = Local::new(Notes::new);

struct Notes {
    /// In the order of entering.
    entered: RefCell<Vec<Note>>,
    /// How many calls of subscribers the goroutine is in.
    calls: Cell<u32>,
}

struct Note {
    what: What,
    /// It is on the thread.
    is_on: bool,
}

#[derive(Clone)]
enum What {
    Span(Arc<dyn Subscriber + Send + Sync>, Id),
    Scoped(Rc<Scoped>),
}

impl What {
    fn is_span(&self, subscriber: *const (), span: &Id) -> bool {
        matches!(self, What::Span(own, id) if Arc::as_ptr(own).cast::<()>() == subscriber && id == span)
    }

    /// Puts it on the thread, or takes it off.
    fn turn(&self, on: bool) {
        let told = catch_unwind(AssertUnwindSafe(|| match self {
            What::Span(subscriber, id) if on => subscriber.enter(id),
            What::Span(subscriber, id) => subscriber.exit(id),
            What::Scoped(scoped) => scoped.turn(on),
        }));
        if let Err(payload) = told {
            report(format_args!(
                "a subscriber of tracing panicked when a goroutine {} its spans: {}",
                if on { "entered" } else { "left" },
                payload_text(&*payload)
            ));
            std::mem::forget(payload);
        }
    }
}

impl Notes {
    fn new() -> Notes {
        Notes { entered: RefCell::new(Vec::new()), calls: Cell::new(0) }
    }

    /// Says that the goroutine is in a call of a subscriber, and so carries nothing.
    fn step_in(&self) -> Inside<'_> {
        self.calls.set(self.calls.get() + 1);
        carry(None);
        Inside(self)
    }

    fn push(&self, what: What) {
        self.entered.borrow_mut().push(Note { what, is_on: true });
    }

    /// Removes the latest that is meant. One that was never noted was entered by another goroutine,
    /// or by a thread.
    fn remove(&self, is_meant: impl Fn(&What) -> bool) {
        let mut entered = self.entered.borrow_mut();
        let removed = entered.iter().rposition(|note| is_meant(&note.what)).map(|at| entered.remove(at));
        drop(entered);
        drop(removed);
    }

    /// Puts a note on the thread, or takes it off, unless it is there already, or is gone.
    fn turn(&self, at: usize, on: bool) {
        let what = match self.entered.borrow_mut().get_mut(at) {
            Some(note) if note.is_on != on => {
                note.is_on = on;
                note.what.clone()
            }
            _ => return,
        };
        what.turn(on);
    }

    fn len(&self) -> usize {
        self.entered.borrow().len()
    }

    fn take_off(&self) {
        (0..self.len()).rev().for_each(|at| self.turn(at, false));
    }

    fn put_on(&self) {
        // Asked anew each time: a subscriber that is told may enter and leave spans.
        let mut at = 0;
        while at < self.len() {
            self.turn(at, true);
            at += 1;
        }
    }
}

/// A goroutine that ends within spans leaves them, on its own stack.
impl Drop for Notes {
    fn drop(&mut self) {
        carry(None);
        self.take_off();
    }
}

/// Ends a [`Notes::step_in`].
struct Inside<'a>(&'a Notes);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        let Inside(notes) = self;
        notes.calls.set(notes.calls.get() - 1);
        if notes.calls.get() == 0 && notes.len() > 0 {
            carry(Some(&Spans));
        }
    }
}

/// The spans of the calling goroutine.
struct Spans;

impl Carried for Spans {
    fn take_off(&self) {
        NOTES.with(|notes| {
            // Until it is back: what a subscriber does meanwhile is done inside of it.
            notes.calls.set(notes.calls.get() + 1);
            notes.take_off();
        });
    }

    fn put_on(&self) {
        NOTES.with(|notes| {
            let _inside = Inside(notes);
            notes.put_on();
        });
    }
}
