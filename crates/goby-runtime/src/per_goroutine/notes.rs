//! What a goroutine has entered, and what holds while it waits.
//!
//! | the goroutine waits | it carries | its spans meanwhile | its defaults |
//! |---|---|---|---|
//! | in its own code | [`Spans`] | are off the thread | are off the thread |
//! | in a call of a subscriber | [`Calls`] | stay on the thread | are off, if not borrowed |
//!
//! A goroutine that waits in a call is counted, per thread. While there is one, its neighbors look
//! whether the span that their subscriber takes for the current one is their own.
//!
//! Two calls leave something on the thread that would do harm, and so keep the worker for as long
//! as a panic hook may:
//!
//! - The registry of `tracing-subscriber` counts per thread the spans that are being closed. It
//!   never closes those whose count meets with another one.
//! - `tracing-core` keeps its thread-local borrowed while it calls the default, if any thread has a
//!   default of its own. A neighbor's events are lost then, and its `with_default` panics.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::Subscriber;
use tracing::dispatcher::{self, DefaultGuard, Dispatch};
use tracing::span::Id;

use crate::base::report::{payload_text, report};
use crate::base::tsan;
use crate::{Carried, Local, carry};

/// What a goroutine has entered, for as long as it has. Dropped last: guards of spans may lie in
/// its other locals.
pub(super) static NOTES: Local<Notes> = Local::dropped_last(Notes::new);

thread_local! {
    /// How many goroutines of the thread wait in a call of a subscriber, with something entered.
    static WAITING: Cell<usize> = const { Cell::new(0) };
}

/// Returns whether a goroutine of this thread waits in a call of a subscriber.
pub(super) fn anybody_waits_inside() -> bool {
    let _ignore = tsan::ignore();
    WAITING.get() > 0
}

pub(super) struct Notes {
    /// In the order of entering.
    entered: RefCell<Vec<Note>>,
    /// How many calls of subscribers the goroutine is in.
    calls: Cell<u32>,
    /// How many of these close a span.
    closes: Cell<u32>,
    /// It has asked whether something is enabled, and has not said anything since.
    pub(super) has_asked: Cell<bool>,
}

struct Note {
    what: What,
    /// It is on the thread.
    is_on: bool,
    /// It would be, but the goroutine waits inside of a subscriber.
    is_aside: bool,
    /// A span that is closed though it is entered: its handle is gone, and its guard forgotten.
    is_closed: bool,
}

#[derive(Clone)]
pub(super) enum What {
    Span(Arc<dyn Subscriber + Send + Sync>, Id),
    Scoped(Rc<Scoped>),
}

impl What {
    /// Returns the span, if it is one of that subscriber.
    fn span_of(&self, subscriber: *const ()) -> Option<&Id> {
        match self {
            What::Span(own, id) if Arc::as_ptr(own).cast::<()>() == subscriber => Some(id),
            _ => None,
        }
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

/// A default of `with_default`.
pub(super) struct Scoped {
    dispatch: Dispatch,
    /// There while it is the thread's default.
    guard: RefCell<Option<DefaultGuard>>,
}

impl Scoped {
    pub(super) fn new(dispatch: &Dispatch) -> Scoped {
        Scoped { dispatch: dispatch.clone(), guard: RefCell::new(None) }
    }

    /// Makes it the thread's default, or puts back what was before: since goroutines leave the
    /// thread's default as they find it, that is what the thread has without goroutines.
    pub(super) fn turn(&self, on: bool) {
        let new = on.then(|| dispatcher::set_default(&self.dispatch));
        let old = self.guard.replace(new);
        drop(old);
    }
}

impl Notes {
    fn new() -> Notes {
        Notes {
            entered: RefCell::new(Vec::new()),
            calls: Cell::new(0),
            closes: Cell::new(0),
            has_asked: Cell::new(false),
        }
    }

    /// Says that the goroutine is in a call of a subscriber, and so takes nothing off.
    pub(super) fn step_in(&self) -> Inside<'_> {
        self.calls.set(self.calls.get() + 1);
        carry(Some(&Calls));
        Inside(self)
    }

    /// Says the same of a call that closes a span.
    pub(super) fn step_in_to_close(&self) -> Closing<'_> {
        self.closes.set(self.closes.get() + 1);
        Closing { notes: self, _inside: self.step_in() }
    }

    pub(super) fn push(&self, what: What) {
        self.entered.borrow_mut().push(Note { what, is_on: true, is_aside: false, is_closed: false });
    }

    /// Removes the latest that is meant. One that was never noted was entered by another goroutine,
    /// or by a thread.
    fn remove(&self, is_meant: impl Fn(&What) -> bool) {
        let mut entered = self.entered.borrow_mut();
        let removed = entered.iter().rposition(|note| is_meant(&note.what)).map(|at| entered.remove(at));
        drop(entered);
        drop(removed);
    }

    pub(super) fn remove_span(&self, subscriber: *const (), span: &Id) {
        self.remove(|what| what.span_of(subscriber) == Some(span));
    }

    pub(super) fn remove_scoped(&self, scoped: &Rc<Scoped>) {
        self.remove(|what| matches!(what, What::Scoped(own) if Rc::ptr_eq(own, scoped)));
    }

    /// Returns whether the goroutine is in no more than one call of a subscriber.
    pub(super) fn is_in_one_call(&self) -> bool {
        self.calls.get() == 1
    }

    /// Says that a span is closed.
    pub(super) fn close(&self, subscriber: *const (), span: &Id) {
        for note in &mut *self.entered.borrow_mut() {
            note.is_closed |= note.what.span_of(subscriber) == Some(span);
        }
    }

    /// Returns whether the goroutine is in that span.
    pub(super) fn is_in(&self, subscriber: *const (), span: &Id) -> bool {
        self.entered.borrow().iter().any(|note| note.what.span_of(subscriber) == Some(span))
    }

    /// Returns the innermost span that the goroutine is in.
    pub(super) fn innermost(&self, subscriber: *const ()) -> Option<Id> {
        let entered = self.entered.borrow();
        let mut open = entered.iter().rev().filter(|note| !note.is_closed);
        open.find_map(|note| note.what.span_of(subscriber).cloned())
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

    /// Takes the defaults off the thread that are on it, or puts these on again. Runs no user code.
    fn set_defaults_aside(&self, aside: bool) {
        let mut entered = self.entered.borrow_mut();
        let mut change = |note: &mut Note| {
            if matches!(note.what, What::Scoped(_)) && note.is_on && note.is_aside != aside {
                note.is_aside = aside;
                note.what.turn(!aside);
            }
        };
        if aside {
            entered.iter_mut().rev().for_each(&mut change);
        } else {
            entered.iter_mut().for_each(&mut change);
        }
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
pub(super) struct Inside<'a>(&'a Notes);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        let Inside(notes) = self;
        notes.calls.set(notes.calls.get() - 1);
        if notes.calls.get() == 0 {
            carry(if notes.len() > 0 { Some(&Spans) } else { None });
        }
    }
}

/// Ends a [`Notes::step_in_to_close`].
pub(super) struct Closing<'a> {
    notes: &'a Notes,
    _inside: Inside<'a>,
}

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.notes.closes.set(self.notes.closes.get() - 1);
    }
}

/// The spans of the calling goroutine.
struct Spans;

impl Carried for Spans {
    fn take_off(&self) {
        NOTES.with(|notes| {
            // Until it is back: what a subscriber does meanwhile is done inside of it.
            notes.calls.set(notes.calls.get() + 1);
            carry(Some(&Calls));
            notes.take_off();
            carry(None);
        });
    }

    fn put_on(&self) {
        NOTES.with(|notes| {
            let _inside = Inside(notes);
            carry(Some(&Calls));
            notes.put_on();
        });
    }
}

/// The calls of a subscriber that a goroutine is in. The spans cannot be taken off: the subscriber
/// would have to be called.
struct Calls;

impl Calls {
    fn count(waits: bool) {
        NOTES.with(|notes| {
            let _ignore = tsan::ignore();
            if notes.len() > 0 {
                WAITING.set(if waits { WAITING.get() + 1 } else { WAITING.get() - 1 });
            }
        });
    }
}

/// A goroutine has kept its worker in vain. From then on none does: a program whose log is written
/// by a goroutine of the same worker would stop for a second with each line.
static IN_VAIN: AtomicBool = AtomicBool::new(false);

impl Carried for Calls {
    fn take_off(&self) {
        Calls::count(true);
        if !is_borrowed() {
            NOTES.with(|notes| notes.set_defaults_aside(true));
        }
    }

    fn put_on(&self) {
        Calls::count(false);
        NOTES.with(|notes| notes.set_defaults_aside(false));
        carry(Some(&Calls));
    }

    fn keeps_worker(&self) -> bool {
        // Relaxed: it is only about time.
        !IN_VAIN.load(Ordering::Relaxed) && (NOTES.with(|notes| notes.closes.get() > 0) || is_borrowed())
    }

    fn gives_up(&self) {
        if !IN_VAIN.swap(true, Ordering::Relaxed) {
            report(format_args!(
                "a subscriber of tracing has kept its worker for a second, since it waits where no \
                 neighbor must run; from now on it does not, so events can be lost and spans stay \
                 open: let it only hand over"
            ));
        }
    }
}

/// Returns whether `tracing` is inside a call of the thread's default, and has its thread-local
/// borrowed.
fn is_borrowed() -> bool {
    tracing_core::dispatcher::get_current(|_| ()).is_none()
}
