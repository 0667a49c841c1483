//! What streams and listeners share: a socket whose waits end at a deadline, or when a context is done.
//!
//! An operation is tried; when it would block, its goroutine (or its waker) waits for the socket, and the operation is
//! tried again. Deadlines and context may change at any time, from any goroutine, and hold for operations in progress too:
//! whoever changes one *interrupts* those that wait, and they look again at what holds now.
//!
//! All of that is under the `state` lock, taken only where an operation waits or where a limit is set at all
//! (`limits` tells, so that a socket without limits pays one load):
//!
//! * to wait: lock, look at the limits, count oneself in `waiting`, unlock, wait;
//! * to tighten a limit: lock, change it, unlock, and interrupt if somebody is waiting or has polled. To loosen one needs no
//!   interrupt: who then times out by the old deadline looks at the new one;
//! * after an interrupt: lock, look at the limits, clear the interrupt if alone, count oneself out, unlock.
//!
//! A waiter that missed the change was counted before it, so the interrupt comes, and nobody clears it before that waiter
//! has seen it: clearing takes being the only one counted. One that is not alone gives way to the others first.
//! Interrupts are sent without the lock, because a waker is foreign code that may use this very socket.

use std::error::Error;
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{self, Poll, Waker, ready};
use std::time::Instant;

use goby_runtime::{Direction, Source, Timer, checkpoint, now};
use parking_lot::Mutex;

use crate::Context;
use crate::context::{ContextError, OnDone};

/// Bits of `limits`: a deadline for reading is set; one for writing; the context may be done.
const READ_DEADLINE: u8 = 1;
const WRITE_DEADLINE: u8 = 2;
const STOPPED: u8 = 4;

/// A non-blocking socket with limits to its waits.
pub(super) struct Socket<T: AsFd> {
    shared: Arc<Shared<T>>,
    /// What makes the context call `Shared::stop`. Not in `Shared`, so that the call never drops its own registration.
    watch: Mutex<Option<OnDone>>,
}

struct Shared<T: AsFd> {
    source: Source<T>,
    /// Written under the lock of `state`, read without: whoever set a limit before an operation began, in the order that
    /// the program can observe, is seen by it, and an operation that waits looks under the lock again.
    limits: AtomicU8,
    state: Mutex<State>,
}

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
    /// Wakes who polled at the deadline; made when first needed.
    alarm: Option<Alarm>,
}

/// A timer for polled operations. It is not moved when the deadline moves to later, as deadlines usually do: it then goes
/// off early, the operation is polled, and sets it anew.
struct Alarm {
    timer: Timer,
    due: Instant,
    bell: Arc<Bell>,
}

#[derive(Default)]
struct Bell {
    /// The timer runs. Cleared by the timer before it takes the waker, read by the poller after it has put it there: the
    /// lock of `waker` orders the two.
    armed: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl<T: AsFd + Send + Sync + 'static> Socket<T> {
    /// Takes a socket that is in non-blocking mode.
    pub(super) fn new(io: T) -> Socket<T> {
        let shared = Shared { source: Source::new(io), limits: AtomicU8::new(0), state: Mutex::new(State::default()) };
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
        loop {
            self.shared.look(direction)?;
            match operation(self.get_ref()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.shared.wait(direction)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => {
                    checkpoint();
                    return result;
                }
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
            // The edge that woke us stays until somebody consumes it, and would have us try once more for nothing. Not for
            // goroutines, of which several may accept from one listener.
            self.shared.source.forget_edge(direction);
            match operation(self.get_ref()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.shared.poll_wait(direction, cx))?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return Poll::Ready(result),
            }
        }
    }

    /// Parks until the socket may be ready.
    pub(super) fn wait(&self, direction: Direction) -> io::Result<()> {
        self.shared.wait(direction)
    }

    pub(super) fn set_deadline(&self, direction: Direction, deadline: Option<Instant>) {
        self.shared.change(|state, limits| {
            let (half, bit) = match direction {
                Direction::Read => (&mut state.read, READ_DEADLINE),
                Direction::Write => (&mut state.write, WRITE_DEADLINE),
            };
            let tighter = match (half.deadline, deadline) {
                (Some(old), Some(new)) => new < old,
                (None, Some(_)) => true,
                (_, None) => false,
            };
            half.deadline = deadline;
            (if deadline.is_some() { limits | bit } else { limits & !bit }, tighter)
        });
    }

    pub(super) fn set_context(&self, context: Option<&Context>) {
        let old = self.watch.lock().take();
        drop(old);
        self.shared.change(|state, limits| {
            state.context = context.cloned();
            let done = context.is_some_and(Context::is_done);
            (if done { limits | STOPPED } else { limits & !STOPPED }, done)
        });
        if let Some(context) = context {
            let shared = Arc::downgrade(&self.shared);
            let watch = context.on_done(move || {
                if let Some(shared) = shared.upgrade() {
                    shared.change(|_, limits| (limits | STOPPED, true));
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
        let verdict = self.examine(&mut self.state.lock(), direction);
        verdict.into_result()
    }

    fn examine(&self, state: &mut State, direction: Direction) -> Verdict {
        if let Some(error) = state.context.as_ref().and_then(Context::error) {
            return Verdict::Done(error);
        }
        // Set by a context that has been replaced meanwhile, if it is set.
        self.limits.fetch_and(!STOPPED, Ordering::Relaxed);
        match state.half(direction).deadline {
            Some(deadline) if deadline <= now() => Verdict::Late,
            _ => Verdict::Clear,
        }
    }

    fn wait(&self, direction: Direction) -> io::Result<()> {
        let deadline = {
            let mut state = self.state.lock();
            self.examine(&mut state, direction).into_result()?;
            state.waiting += 1;
            state.half(direction).deadline
        };
        let result = self.source.wait(direction, deadline);
        let mut state = self.state.lock();
        let interrupted = result.as_ref().is_err_and(was_interrupted);
        let alone = state.waiting == 1;
        if interrupted && alone {
            self.source.clear_interrupt();
        }
        state.waiting -= 1;
        let verdict = match &result {
            // A time-out counts unless the deadline is a later one by now.
            Err(error) if interrupted || error.kind() == io::ErrorKind::TimedOut => self.examine(&mut state, direction),
            _ => {
                drop(state);
                return result;
            }
        };
        drop(state);
        verdict.into_result()?;
        if interrupted && !alone {
            // The others clear the interrupt when they have seen it.
            goby_runtime::yield_now();
        }
        Ok(())
    }

    fn poll_wait(&self, direction: Direction, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state.lock();
        self.examine(&mut state, direction).into_result()?;
        state.polled = true;
        match self.source.poll_ready(direction, cx) {
            Poll::Pending => {
                state.half(direction).set_alarm(cx.waker());
                Poll::Pending
            }
            Poll::Ready(Err(error)) if was_interrupted(&error) => {
                if state.waiting == 0 {
                    self.source.clear_interrupt();
                    return Poll::Ready(Ok(()));
                }
                // The others clear it when they have seen it.
                drop(state);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            ready => ready,
        }
    }

    /// Changes a limit, and has those that wait look at it if it became tighter. `change` gets the bits of `limits`, and
    /// gives them and whether it did.
    fn change(&self, change: impl FnOnce(&mut State, u8) -> (u8, bool)) {
        let (interrupt, old);
        {
            let mut state = self.state.lock();
            // A context that is replaced may be dropped for good: outside the lock.
            old = state.context.clone();
            let (limits, tighter) = change(&mut state, self.limits.load(Ordering::Relaxed));
            self.limits.store(limits, Ordering::Relaxed);
            interrupt = tighter && (state.waiting > 0 || state.polled);
        }
        drop(old);
        if interrupt {
            self.source.interrupt();
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
            Verdict::Done(error) => Err(stopped_by(error)),
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

impl Half {
    /// Has `waker` woken at the deadline, if there is one.
    fn set_alarm(&mut self, waker: &Waker) {
        let Some(deadline) = self.deadline else { return };
        let alarm = self.alarm.get_or_insert_with(|| {
            let bell = Arc::new(Bell::default());
            let timer = Timer::new({
                let bell = bell.clone();
                move |_| bell.ring()
            });
            Alarm { timer, due: deadline, bell }
        });
        {
            let mut registered = alarm.bell.waker.lock();
            match &mut *registered {
                Some(registered) => registered.clone_from(waker),
                none => *none = Some(waker.clone()),
            }
        }
        if !alarm.bell.armed.load(Ordering::Acquire) || deadline < alarm.due {
            alarm.bell.armed.store(true, Ordering::Relaxed);
            alarm.due = deadline;
            alarm.timer.start(deadline);
        }
    }
}

impl Bell {
    fn ring(&self) {
        self.armed.store(false, Ordering::Release);
        let waker = self.waker.lock().take();
        if let Some(waker) = waker {
            waker.wake();
        }
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

/// The error of a wait whose context is done.
pub(super) fn stopped_by(error: ContextError) -> io::Error {
    let kind = match error {
        ContextError::DeadlineExceeded => io::ErrorKind::TimedOut,
        ContextError::Canceled => io::ErrorKind::ConnectionAborted,
    };
    io::Error::new(kind, Stopped(error))
}

/// Makes the context's error the source of an `io::Error`, which skips what it holds itself.
#[derive(Debug)]
struct Stopped(ContextError);

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stopped by its context")
    }
}

impl Error for Stopped {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}
