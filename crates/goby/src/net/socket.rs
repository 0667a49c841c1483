//! What streams and listeners share: a socket whose waits end at a deadline, or when a context is
//! done.
//!
//! An operation is tried; when it would block, its goroutine (or its waker) waits for the socket,
//! and the operation is tried again. Deadlines and context may change at any time, from any
//! goroutine, and hold for operations in progress too: whoever changes one *interrupts* those that
//! wait, and they look again at what holds now.
//!
//! All of that is under the `state` lock, taken only where an operation waits. An operation that
//! need not wait pays one load of `limits`, whose bits say that a limit is reached:
//!
//! * to wait: lock, look at the limits, count oneself in `waiting`, unlock, wait;
//! * when a limit is reached (or set, being reached already): lock, set its bit, unlock, and
//!   interrupt if somebody is waiting or has polled. For a context it is the context that calls;
//!   for a deadline a timer;
//! * after an interrupt: lock, look at the limits, clear the interrupt if alone, count oneself out,
//!   unlock.
//!
//! A waiter that missed the change was counted before it, so the interrupt comes, and nobody clears
//! it before that waiter has seen it: clearing takes being the only one counted. One that is not
//! alone gives way to the others first. Interrupts are sent without the lock, because a waker is
//! foreign code that may use this very socket.
//!
//! A deadline's timer is not moved when the deadline moves to later, as deadlines usually do, nor
//! stopped when it is lifted: it goes off early, and is set anew if there still is a deadline. So a
//! deadline a request costs no timer a request.

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::task::{self, Poll, ready};
use std::time::Instant;

use goby_runtime::{Direction, Foreign, Source, Timer, checkpoint, let_go_shared, now, with_reach};
use parking_lot::{Mutex, MutexGuard};

use crate::Context;
use crate::context::{ContextError, OnDone};

/// Bits of `limits`: the deadline for reading has passed; the one for writing; the context may be
/// done.
const READ_LATE: u8 = 1;
const WRITE_LATE: u8 = 2;
const STOPPED: u8 = 4;

/// A non-blocking socket with limits to its waits.
pub(super) struct Socket<T: AsFd> {
    shared: Arc<Shared<T>>,
    /// What makes the context call `Shared::stop`. Not in `Shared`, so that the call never drops
    /// its own registration.
    watch: Mutex<Option<OnDone>>,
}

struct Shared<T: AsFd> {
    source: Source<T>,
    /// Written under the lock of `state`, read without: a limit that was reached before an
    /// operation began, in the order that the program can observe, is seen by it, and an operation
    /// that waits looks under the lock again.
    limits: AtomicU8,
    /// The edges (see [`Source::read_edges`]) before a read that emptied the socket. Relaxed: what
    /// is true once stays true for as long as that is the count.
    drained: AtomicUsize,
    state: Mutex<State>,
    /// The context, with its values.
    _foreign: Foreign,
}

/// `drained`: never, so far.
const NOT_YET: usize = usize::MAX;

#[derive(Default)]
struct State {
    read: Half,
    write: Half,
    context: Option<Context>,
    /// Goroutines between looking at the limits and having left their wait.
    waiting: usize,
    /// Somebody has polled, so a waker may be registered.
    polled: bool,
}

#[derive(Default)]
struct Half {
    deadline: Option<Instant>,
    /// Made for the first deadline.
    alarm: Option<Alarm>,
}

/// The timer that tells of a deadline.
struct Alarm {
    timer: Timer,
    /// When it goes off, if it runs.
    due: Option<Instant>,
}

impl<T: AsFd + Send + Sync + 'static> Socket<T> {
    /// Takes a socket that is in non-blocking mode.
    pub(super) fn new(io: T) -> Socket<T> {
        let shared = Shared {
            source: Source::new(io),
            limits: AtomicU8::new(0),
            drained: AtomicUsize::new(NOT_YET),
            state: Mutex::new(State::default()),
            _foreign: Foreign,
        };
        Socket { shared: Arc::new(shared), watch: Mutex::new(None) }
    }

    pub(super) fn get_ref(&self) -> &T {
        self.shared.source.get_ref()
    }

    /// Carries out `operation`, parking as long as it would block.
    pub(super) fn perform<R>(
        &self,
        direction: Direction,
        mut operation: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        // Whether it succeeds at once, fails or is past its deadline.
        checkpoint();
        loop {
            self.shared.look(direction)?;
            let edges = self.edges(direction);
            match operation(self.get_ref()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.shared.wait(direction, edges)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Carries out `operation`, or registers the waker of `cx` for when it may no longer block.
    pub(super) fn poll_perform<R>(
        &self,
        direction: Direction,
        cx: &mut task::Context<'_>,
        mut operation: impl FnMut(&T) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        loop {
            self.shared.look(direction)?;
            let edges = self.edges(direction);
            match operation(self.get_ref()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.shared.poll_wait(direction, edges, cx))?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return Poll::Ready(result),
            }
        }
    }

    /// Reads from a stream into a buffer with this much room. A read that follows one that has
    /// emptied the socket waits first, and saves the system call that would say so.
    pub(super) fn read(&self, room: usize, mut read: impl FnMut(&T) -> io::Result<usize>) -> io::Result<usize> {
        // Here too: its deadline may be past.
        checkpoint();
        while let Some(edges) = self.shared.drained() {
            self.shared.wait(Direction::Read, edges)?;
        }
        self.perform(Direction::Read, |socket| self.shared.note_drained(room, || read(socket)))
    }

    /// [`read`](Socket::read) for futures.
    pub(super) fn poll_read(
        &self,
        room: usize,
        cx: &mut task::Context<'_>,
        mut read: impl FnMut(&T) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        while let Some(edges) = self.shared.drained() {
            ready!(self.shared.poll_wait(Direction::Read, edges, cx))?;
        }
        self.poll_perform(Direction::Read, cx, |socket| self.shared.note_drained(room, || read(socket)))
    }

    /// See [`Source::edges`].
    pub(super) fn edges(&self, direction: Direction) -> usize {
        self.shared.source.edges(direction)
    }

    /// Parks until there was an edge since there had been `edges`.
    pub(super) fn wait(&self, direction: Direction, edges: usize) -> io::Result<()> {
        self.shared.wait(direction, edges)
    }

    pub(super) fn set_deadline(&self, direction: Direction, deadline: Option<Instant>) {
        let late = deadline.is_some_and(|deadline| deadline <= now());
        let mut state = self.shared.state.lock();
        let half = state.half(direction);
        half.deadline = deadline;
        if let Some(deadline) = deadline.filter(|_| !late) {
            let alarm = half.alarm.get_or_insert_with(|| {
                let shared = Arc::downgrade(&self.shared);
                let timer = Timer::new(move |_| {
                    if let Some(shared) = shared.upgrade() {
                        shared.ring(direction);
                        let_go_shared(shared);
                    }
                });
                Alarm { timer, due: None }
            });
            alarm.set(deadline);
        }
        self.shared.note(state, late_bit(direction), late);
    }

    pub(super) fn set_context(&self, context: Option<&Context>) {
        let old = self.watch.lock().take();
        drop(old);
        // A context that is replaced may be dropped for good: outside the lock.
        let mut state = self.shared.state.lock();
        let old = std::mem::replace(&mut state.context, context.cloned());
        self.shared.note(state, STOPPED, context.is_some_and(Context::is_done));
        drop(old);
        if let Some(context) = context {
            let shared = Arc::downgrade(&self.shared);
            let watch = context.on_done(move || {
                if let Some(shared) = shared.upgrade() {
                    shared.note(shared.state.lock(), STOPPED, true);
                    let_go_shared(shared);
                }
            });
            let old = self.watch.lock().replace(watch);
            drop(old);
        }
    }
}

impl<T: AsFd> Shared<T> {
    /// Fails if the deadline has passed or the context is done.
    #[inline]
    fn look(&self, direction: Direction) -> io::Result<()> {
        if self.limits.load(Ordering::Relaxed) == 0 { Ok(()) } else { self.look_slow(direction) }
    }

    #[cold]
    fn look_slow(&self, direction: Direction) -> io::Result<()> {
        let verdict = self.examine(&self.state.lock(), direction);
        verdict.into_result()
    }

    fn examine(&self, state: &State, direction: Direction) -> Verdict {
        if let Some(error) = state.context.as_ref().and_then(Context::error) {
            return Verdict::Done(error);
        }
        let limits = self.limits.load(Ordering::Relaxed);
        if limits & STOPPED != 0 {
            // By a context that has been replaced meanwhile.
            self.limits.store(limits & !STOPPED, Ordering::Relaxed);
        }
        if limits & late_bit(direction) != 0 { Verdict::Late } else { Verdict::Clear }
    }

    /// The count of edges, if there was none since a read emptied the socket.
    fn drained(&self) -> Option<usize> {
        self.source.read_edges().filter(|&edges| edges == self.drained.load(Ordering::Relaxed))
    }

    fn note_drained(&self, room: usize, read: impl FnOnce() -> io::Result<usize>) -> io::Result<usize> {
        let edges = self.source.read_edges();
        let n = read()?;
        if let Some(edges) = edges.filter(|_| 0 < n && n < room) {
            self.drained.store(edges, Ordering::Relaxed);
        }
        Ok(n)
    }

    fn wait(&self, direction: Direction, edges: usize) -> io::Result<()> {
        let has_context = {
            let mut state = self.state.lock();
            self.examine(&state, direction).into_result()?;
            state.waiting += 1;
            state.context.as_ref().is_some_and(Context::can_end)
        };
        // Both may be set and taken back meanwhile.
        let has_deadline = || {
            let mut state = self.state.lock();
            let of_context = state.context.as_ref().and_then(Context::deadline);
            of_context.is_some() || state.half(direction).deadline.is_some()
        };
        let result = with_reach(has_context, Some(&has_deadline), || self.source.wait(direction, edges, None));
        let mut state = self.state.lock();
        let alone = state.waiting == 1;
        state.waiting -= 1;
        if !result.as_ref().is_err_and(was_interrupted) {
            return result;
        }
        if alone {
            self.source.clear_interrupt();
        }
        let verdict = self.examine(&state, direction);
        drop(state);
        verdict.into_result()?;
        if !alone {
            // The others clear the interrupt when they have seen it.
            goby_runtime::yield_now();
        }
        Ok(())
    }

    fn poll_wait(&self, direction: Direction, edges: usize, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        {
            let mut state = self.state.lock();
            self.examine(&state, direction).into_result()?;
            state.polled = true;
        }
        // Without the lock: wakers are cloned, and the one before is dropped, which is foreign
        // code.
        match self.source.poll_ready(direction, edges, cx) {
            Poll::Ready(Err(error)) if was_interrupted(&error) => {
                let state = self.state.lock();
                if state.waiting == 0 {
                    self.source.clear_interrupt();
                    return Poll::Ready(Ok(()));
                }
                // The others clear it when they have seen it.
                drop(state);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            // A limit that was reached in between has interrupted this, unless the future of the
            // other direction has cleared that: then it is seen here, by the lock of the half that
            // both had.
            Poll::Pending => self.look(direction).map_or_else(|error| Poll::Ready(Err(error)), |()| Poll::Pending),
            ready => ready,
        }
    }

    /// Notes whether a limit is reached; if so, those that wait look at it.
    fn note(&self, state: MutexGuard<'_, State>, bit: u8, reached: bool) {
        let limits = self.limits.load(Ordering::Relaxed);
        self.limits.store(if reached { limits | bit } else { limits & !bit }, Ordering::Relaxed);
        let interrupt = reached && (state.waiting > 0 || state.polled);
        drop(state);
        if interrupt {
            self.source.interrupt();
        }
    }

    /// What the timer of a deadline does.
    fn ring(&self, direction: Direction) {
        let mut state = self.state.lock();
        let Half { deadline, alarm } = state.half(direction);
        let alarm = alarm.as_mut().expect("it rings");
        alarm.due = None;
        let Some(deadline) = *deadline else { return };
        if deadline <= now() {
            self.note(state, late_bit(direction), true);
        } else {
            alarm.set(deadline);
        }
    }
}

/// Whether an operation may wait.
enum Verdict {
    Clear,
    /// The context is done.
    Done(ContextError),
    /// The deadline has passed.
    Late,
}

impl Verdict {
    fn into_result(self) -> io::Result<()> {
        match self {
            Verdict::Clear => Ok(()),
            Verdict::Done(error) => Err(error.into()),
            Verdict::Late => Err(timed_out()),
        }
    }
}

impl State {
    fn half(&mut self, direction: Direction) -> &mut Half {
        match direction {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.write,
        }
    }
}

impl Alarm {
    /// Has it go off at `due` or earlier.
    fn set(&mut self, due: Instant) {
        if self.due.is_none_or(|running| due < running) {
            self.due = Some(due);
            self.timer.start(due);
        }
    }
}

fn late_bit(direction: Direction) -> u8 {
    match direction {
        Direction::Read => READ_LATE,
        Direction::Write => WRITE_LATE,
    }
}

impl<T: AsFd + fmt::Debug> fmt::Debug for Socket<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.source.fmt(f)
    }
}

fn was_interrupted(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionAborted
}

/// The error of a wait that reached its deadline.
pub(super) fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "i/o timeout")
}
