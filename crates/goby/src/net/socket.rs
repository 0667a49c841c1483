//! What streams and listeners share: a socket with waits that end at a deadline, or when a context
//! is done.
//!
//! An operation is tried. If it would block, its goroutine (or its waker) waits for the socket, and
//! the operation is tried again. Deadlines and the context may change at any time, from any
//! goroutine, and they hold for operations in progress too: whoever finds that one is reached makes
//! those that wait look again.
//!
//! All of that is under the `state` lock, which an operation takes only if it waits. An operation
//! that need not wait pays one load of `limits`. Its bits say that a limit is reached:
//!
//! * to wait: lock, look at the limits, unlock, wait for an edge after the count that was read
//!   before the operation;
//! * when a limit is reached (or is set when it is reached already): lock, set its bit, unlock, and
//!   count an edge ([`Source::tell`]). The context makes this call for a context, a timer for a
//!   deadline.
//!
//! A waiter that missed the change had read its count before it. So the edge ends its wait, and it
//! looks at the limits that hold then. It is counted without the lock, because a waker is foreign
//! code that may use this same socket.
//!
//! Closing is a limit that is never lifted. The descriptor is closed after that limit is noted, and
//! its number stays taken ([`Source::close`]). An operation that has looked at the limits before
//! then finds that the number names nothing, and blames the closing for its error.
//!
//! `ready.rs` tells channels when a direction is ready; `calls.rs` ends calls that the socket makes
//! elsewhere; `heard.rs` tells calls that poll of the limits.
//!
//! A deadline's timer is not moved when the deadline moves to later, as deadlines usually do, nor
//! stopped when the deadline is lifted. The timer goes off early, and is set anew if there still is
//! a deadline. So a deadline per request does not cost a timer per request.

mod calls;
mod ready;
// Only TLS listens.
#[cfg_attr(not(feature = "tls"), allow(dead_code))]
mod heard;

use std::fmt;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::task::{self, Poll, ready};
use std::time::{Duration, Instant};

use goby_runtime::{Direction, Foreign, OwnsFd, Source, Timer, WaitReason, checkpoint, let_go_shared, now, with_reach};
use parking_lot::{Mutex, MutexGuard};

use self::calls::Calls;
#[cfg(feature = "tls")]
pub(crate) use self::heard::Heard;
use self::ready::Ready;
use super::ClosedError;
use crate::Context;
pub(crate) use crate::context::timed_out;
use crate::context::{ContextError, OnDone};

/// Bits of `limits`: the deadline for reading has passed; the deadline for writing has passed; the
/// context may be done; the socket is closed; a copy is to end.
const READ_LATE: u8 = 1;
const WRITE_LATE: u8 = 2;
const STOPPED: u8 = 4;
const CLOSED: u8 = 8;
const HALTED: u8 = 16;

/// How long an operation waits before it is [tried again](Socket::perform_again), at first and at
/// most: short beside a switch of processes, and rare enough to cost nothing.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// A non-blocking socket with limits to its waits.
pub(crate) struct Socket<T: AsFd> {
    shared: Arc<Shared<T>>,
    /// Makes the context call `Shared::note` when it is done. It is not in `Shared`, so that the
    /// call never drops its own registration.
    watch: Mutex<Watch>,
}

/// A registration with a context.
#[derive(Default)]
struct Watch {
    /// Which change of the context made it (`State::changes`). Only a later one replaces it.
    change: u64,
    on_done: Option<OnDone>,
}

impl Watch {
    /// Returns what is not needed any more, to be dropped outside the lock.
    fn replace(&mut self, change: u64, on_done: Option<OnDone>) -> Option<OnDone> {
        if change <= self.change {
            return on_done;
        }
        self.change = change;
        std::mem::replace(&mut self.on_done, on_done)
    }
}

struct Shared<T: AsFd> {
    source: Source<T>,
    /// Written under the lock of `state`, read without it. An operation sees a limit that was
    /// reached before it began, in the order that the program can observe. An operation that waits
    /// looks again under the lock.
    limits: AtomicU8,
    /// The edges (see [`Source::read_edges`]) before a read that emptied the socket. Relaxed: the
    /// socket stays empty as long as this is the count.
    drained: AtomicUsize,
    state: Mutex<State>,
    /// The context, with its values.
    _foreign: Foreign,
}

/// The value of `drained` while no read has emptied the socket.
const NOT_YET: usize = usize::MAX;

#[derive(Default)]
struct State {
    read: Half,
    write: Half,
    context: Option<Context>,
    calls: Calls,
    /// How often the context was changed.
    changes: u64,
}

#[derive(Default)]
struct Half {
    deadline: Option<Instant>,
    /// Made for the first deadline.
    alarm: Option<Alarm>,
    /// Told at the next edge, or when a limit is reached.
    ready: Option<Ready>,
}

/// The timer that tells of a deadline.
struct Alarm {
    timer: Timer,
    /// When the timer goes off, if it runs.
    due: Option<Instant>,
}

impl<T: AsFd + Send + Sync + 'static> Socket<T> {
    /// Takes a socket that is in non-blocking mode.
    pub(crate) fn new(io: T) -> Socket<T> {
        Socket::with_reasons(io, [WaitReason::IoWait; 2])
    }

    /// Takes a descriptor that is no socket: dumps show these reasons of its waits to read and to
    /// write.
    pub(crate) fn with_reasons(io: T, reasons: [WaitReason; 2]) -> Socket<T> {
        let shared = Shared {
            source: Source::with_reasons(io, reasons),
            limits: AtomicU8::new(0),
            drained: AtomicUsize::new(NOT_YET),
            state: Mutex::new(State::default()),
            _foreign: Foreign,
        };
        Socket { shared: Arc::new(shared), watch: Mutex::default() }
    }

    pub(crate) fn get_ref(&self) -> &T {
        self.shared.source.get_ref()
    }

    /// Carries out `operation`; parks as long as it would block.
    pub(crate) fn perform<R>(
        &self,
        direction: Direction,
        mut operation: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        // In each case: it succeeds at once, fails or is past its deadline.
        checkpoint();
        loop {
            self.shared.look(direction)?;
            let edges = self.edges(direction);
            match operation(self.get_ref()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.shared.wait(direction, edges, None)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.shared.blame(error)),
                result => return result,
            }
        }
    }

    /// Carries out `operation` as [`perform`](Socket::perform) does, where the system may not tell
    /// when it no longer would block: it is also tried again after some time.
    pub(super) fn perform_again<R>(
        &self,
        direction: Direction,
        mut operation: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        checkpoint();
        let mut pause = FIRST_PAUSE;
        loop {
            self.shared.look(direction)?;
            let edges = self.edges(direction);
            match operation(self.get_ref()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.shared.wait(direction, edges, Some(now() + pause))?;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.shared.blame(error)),
                result => return result,
            }
        }
    }

    /// Carries out `operation`, or registers the waker of `cx` for the time when it may no longer
    /// block.
    pub(crate) fn poll_perform<R>(
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
                    ready!(self.poll_wait(direction, edges, cx))?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(self.shared.blame(error))),
                result => return Poll::Ready(result),
            }
        }
    }

    /// Fails if a limit of the direction is reached.
    pub(crate) fn look(&self, direction: Direction) -> io::Result<()> {
        self.shared.look(direction)
    }

    /// Reads into a buffer without room: never waits.
    #[cold]
    pub(crate) fn read_nothing(&self) -> io::Result<usize> {
        checkpoint();
        self.look(Direction::Read).map(|()| 0)
    }

    /// Reads from a stream into a buffer with this much room. A read after one that has emptied the
    /// socket waits first, and saves the system call that would only say that it is empty.
    pub(crate) fn read(&self, room: usize, mut read: impl FnMut(&T) -> io::Result<usize>) -> io::Result<usize> {
        // A checkpoint here too: if the deadline is past, `perform` is not reached.
        checkpoint();
        while let Some(edges) = self.shared.drained() {
            self.shared.wait(Direction::Read, edges, None)?;
        }
        self.perform(Direction::Read, |socket| self.shared.note_drained(room, || read(socket)))
    }

    /// Does what [`read`](Socket::read) does, for futures.
    pub(crate) fn poll_read(
        &self,
        room: usize,
        cx: &mut task::Context<'_>,
        mut read: impl FnMut(&T) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        while let Some(edges) = self.shared.drained() {
            ready!(self.poll_wait(Direction::Read, edges, cx))?;
        }
        self.poll_perform(Direction::Read, cx, |socket| self.shared.note_drained(room, || read(socket)))
    }

    /// See [`Source::edges`].
    pub(crate) fn edges(&self, direction: Direction) -> usize {
        self.shared.source.edges(direction)
    }

    /// Parks until there are more edges than `edges`.
    pub(crate) fn wait(&self, direction: Direction, edges: usize) -> io::Result<()> {
        self.shared.wait(direction, edges, None)
    }

    /// Makes all who wait try their operation again, since it may be possible without the system.
    pub(crate) fn tell(&self, direction: Direction) {
        self.shared.source.tell(direction);
    }

    /// Asks or sets something that never waits.
    pub(crate) fn ask<R>(&self, ask: impl FnOnce(&T) -> io::Result<R>) -> io::Result<R> {
        ask(self.get_ref()).map_err(|error| self.shared.blame(error))
    }

    /// Makes another descriptor of the same socket.
    pub(crate) fn duplicate(&self) -> io::Result<T>
    where
        T: From<OwnedFd>,
    {
        let copy = rustix::io::fcntl_dupfd_cloexec(self.get_ref(), 0)?;
        // What names nothing can be copied, too.
        if self.shared.is_closed() { Err(ClosedError.into()) } else { Ok(copy.into()) }
    }

    /// Returns another descriptor of the same socket, in blocking mode; so are then all the others.
    pub(crate) fn to_blocking(&self) -> io::Result<T>
    where
        T: From<OwnedFd>,
    {
        let copy = self.duplicate()?;
        rustix::io::ioctl_fionbio(&copy, false)?;
        Ok(copy)
    }

    /// Ends all operations, those in progress and those to come, and closes the descriptor.
    pub(crate) fn close(&self)
    where
        T: OwnsFd,
    {
        checkpoint();
        // None comes after this one.
        let watch = self.watch.lock().replace(u64::MAX, None);
        drop(watch);
        let mut state = self.shared.state.lock();
        let old = [state.read.alarm.take(), state.write.alarm.take()];
        let context = state.context.take();
        self.shared.note(state, CLOSED, true);
        drop((old, context));
        if self.shared.source.close().is_err() {
            // There are too many descriptors to keep the number: it stays open, and at least the
            // peer is told.
            let _ = rustix::net::shutdown(self.get_ref(), shutdown_of(Shutdown::Both));
        }
    }

    pub(crate) fn set_deadline(&self, direction: Direction, deadline: Option<Instant>) {
        let late = deadline.is_some_and(|deadline| deadline <= now());
        let mut state = self.shared.state.lock();
        if self.shared.is_closed() {
            return;
        }
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

    /// Ends all operations, those in progress and those to come, or lifts that.
    pub(crate) fn halt(&self, halted: bool) {
        self.shared.note(self.shared.state.lock(), HALTED, halted);
    }

    pub(crate) fn set_context(&self, context: Option<&Context>) {
        let mut state = self.shared.state.lock();
        if self.shared.is_closed() {
            return;
        }
        // The old context may be dropped for the last time here, so that is outside the lock.
        let old = std::mem::replace(&mut state.context, context.cloned());
        state.changes += 1;
        let change = state.changes;
        self.shared.note(state, STOPPED, context.is_some_and(Context::is_done));
        drop(old);
        let on_done = context.map(|context| {
            let shared = Arc::downgrade(&self.shared);
            context.on_done(move || {
                if let Some(shared) = shared.upgrade() {
                    shared.note(shared.state.lock(), STOPPED, true);
                    let_go_shared(shared);
                }
            })
        });
        // Another goroutine may have set a later context meanwhile: its registration stays.
        let old = self.watch.lock().replace(change, on_done);
        drop(old);
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
        if self.is_closed() {
            return Verdict::Closed;
        }
        if let Some(error) = state.context.as_ref().and_then(Context::error) {
            return Verdict::Done(error);
        }
        let limits = self.limits.load(Ordering::Relaxed);
        if limits & STOPPED != 0 {
            // A context that has been replaced meanwhile has set it.
            self.limits.store(limits & !STOPPED, Ordering::Relaxed);
        }
        if limits & HALTED != 0 {
            Verdict::Halted
        } else if limits & late_bit(direction) != 0 {
            Verdict::Late
        } else {
            Verdict::Clear
        }
    }

    fn is_closed(&self) -> bool {
        self.limits.load(Ordering::Relaxed) & CLOSED != 0
    }

    /// Returns the error of an operation: the closing, if that is what it met.
    #[cold]
    fn blame(&self, error: io::Error) -> io::Error {
        if self.is_closed() { ClosedError.into() } else { error }
    }

    /// Returns the count of edges, if no edge came since a read emptied the socket.
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

    /// Parks until there are more edges than `edges`, at most until `retry`.
    fn wait(&self, direction: Direction, edges: usize, retry: Option<Instant>) -> io::Result<()> {
        let has_context = {
            let state = self.state.lock();
            self.examine(&state, direction).into_result()?;
            state.context.as_ref().is_some_and(Context::can_end)
        };
        // Both limits may be set and lifted meanwhile.
        let has_deadline = || self.has_deadline(direction);
        match with_reach(has_context, Some(&has_deadline), || self.source.wait(direction, edges, retry)) {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(()),
            result => result.map_err(|error| self.blame(error)),
        }
    }

    fn has_deadline(&self, direction: Direction) -> bool {
        let mut state = self.state.lock();
        let of_context = state.context.as_ref().and_then(Context::deadline);
        of_context.is_some() || state.half(direction).deadline.is_some()
    }

    fn poll_wait(&self, direction: Direction, edges: usize, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        let verdict = self.examine(&self.state.lock(), direction);
        verdict.into_result()?;
        // Without the lock: a waker is cloned and the waker before it is dropped, which is foreign
        // code.
        self.source.poll_ready(direction, edges, cx).map_err(|error| self.blame(error))
    }

    /// Notes whether a limit is reached; if it is, makes those that wait look at it.
    fn note(&self, mut state: MutexGuard<'_, State>, bit: u8, reached: bool) {
        let limits = self.limits.load(Ordering::Relaxed);
        self.limits.store(if reached { limits | bit } else { limits & !bit }, Ordering::Relaxed);
        let told = reached.then(|| (state.ready_at(bit), state.calls_at(bit)));
        drop(state);
        // This tells the channels and the calls, outside the lock.
        drop(told);
        if reached && bit != WRITE_LATE {
            self.source.tell(Direction::Read);
        }
        if reached && bit != READ_LATE {
            self.source.tell(Direction::Write);
        }
    }

    /// The action of a deadline's timer.
    fn ring(&self, direction: Direction) {
        let mut state = self.state.lock();
        let Half { deadline, alarm, .. } = state.half(direction);
        // Closing takes it away.
        let Some(alarm) = alarm.as_mut() else { return };
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
    Closed,
    /// By `halt`.
    Halted,
    /// The context is done.
    Done(ContextError),
    /// The deadline has passed.
    Late,
}

impl Verdict {
    fn into_result(self) -> io::Result<()> {
        match self {
            Verdict::Clear => Ok(()),
            Verdict::Closed => Err(ClosedError.into()),
            Verdict::Halted => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the copy has ended")),
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
    /// Makes it go off at `due` or earlier.
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

pub(crate) fn shutdown_of(how: Shutdown) -> rustix::net::Shutdown {
    match how {
        Shutdown::Read => rustix::net::Shutdown::Read,
        Shutdown::Write => rustix::net::Shutdown::Write,
        Shutdown::Both => rustix::net::Shutdown::Both,
    }
}
