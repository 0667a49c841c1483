//! Who gets what when: the pool's state behind the lock of a wait queue.
//!
//! A request needs a *place* first, of which there are `max_size`. Whoever has a place takes one
//! that is idle, or makes one. A place that is given back goes to the request that has waited
//! longest. What is given back with it goes to the idle ones first, so that the request finds it
//! there. What is being closed keeps its place until then.
//!
//! So there are never more than `max_size`. Those that exist are the ones in a place and the idle
//! ones, and one is made only by a request that has a place and found none idle: then all that
//! exist are in places. A request that was given a place and has not come yet has nothing in it, so
//! between the two there may be more places and idle ones together. `promised` counts these
//! requests: the last so many idle ones are for them, not for a request that comes later.

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use goby_runtime::{Decision, WaitReason, now};

use super::{Pooled, Stats};
use crate::context::Context;
use crate::sync::queue::{Line, Outcome, Queue};
use crate::time::{AfterFunc, after_func};

pub(super) struct Limits<T> {
    pub(super) max_size: usize,
    pub(super) max_idle: usize,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) max_lifetime: Option<Duration>,
    pub(super) close: Box<dyn Fn(T) + Send + Sync>,
}

/// One of the pool, with what its limits need to know.
pub(super) struct Connection<T> {
    pub(super) value: T,
    made: Instant,
    /// Since when it has been idle, if it is.
    idle_since: Instant,
}

/// Why one is closed while the pool goes on.
#[derive(Clone, Copy)]
pub(super) enum Reason {
    MaxIdle,
    IdleTimeout,
    MaxLifetime,
    Broken,
}

pub(super) struct Shared<T> {
    limits: Limits<T>,
    queue: Queue<State<T>>,
    /// Closes those whose time is over, if there is such a time.
    reaper: Option<AfterFunc>,
}

struct State<T> {
    /// In the order in which they were given back. They are taken from the back, so that those
    /// which are not needed grow old at the front.
    idle: VecDeque<Connection<T>>,
    /// Places that are taken.
    taken: usize,
    /// Of these, those of requests that were given one and have not come yet.
    promised: usize,
    waiting: usize,
    is_closed: bool,
    /// When the reaper was last told to come.
    reaps_at: Option<Instant>,
    waits: u64,
    wait_time: Duration,
    /// How many were closed, by reason.
    closed: [u64; 4],
}

/// The place of one that is being closed. It is free when that has been done, or has panicked.
struct Place<'a, T>(&'a Shared<T>);

impl<T> Drop for Place<'_, T> {
    fn drop(&mut self) {
        self.0.queue.with(|state, line| state.leave(line));
    }
}

/// The tokens of requests that were given a place, and of those whose pool was closed.
const GRANTED: usize = 0;
const CLOSED: usize = 1;

/// What a request gets.
pub(super) enum Admission<T> {
    /// A place, and perhaps one that was idle.
    Granted(Pooled<T>),
    Closed,
    /// Nothing, before its context was done.
    GaveUp,
}

/// What the state says to a request.
enum Entry<T> {
    Free(Option<Connection<T>>),
    Full,
    Closed,
}

impl<T> Connection<T> {
    pub(super) fn new(value: T) -> Connection<T> {
        let now = now();
        Connection { value, made: now, idle_since: now }
    }
}

impl<T> Limits<T> {
    /// Why a connection that lies idle is to be closed at `now`, if it is.
    fn expired(&self, connection: &Connection<T>, now: Instant) -> Option<Reason> {
        let is_over = |since, limit: Option<Duration>| limit.is_some_and(|limit| now.duration_since(since) >= limit);
        if is_over(connection.made, self.max_lifetime) {
            Some(Reason::MaxLifetime)
        } else if is_over(connection.idle_since, self.idle_timeout) {
            Some(Reason::IdleTimeout)
        } else {
            None
        }
    }

    /// When a connection that lies idle is to be closed.
    fn expiry(&self, connection: &Connection<T>) -> Option<Instant> {
        let ends = [(connection.made, self.max_lifetime), (connection.idle_since, self.idle_timeout)];
        ends.into_iter().filter_map(|(since, limit)| since.checked_add(limit?)).min()
    }
}

impl<T> State<T> {
    /// Gives a request a place, if one is free and nobody has waited longer.
    fn enter(&mut self, line: &mut Line<'_, '_>, max_size: usize) -> Entry<T> {
        if self.is_closed {
            Entry::Closed
        } else if self.taken < max_size && line.is_empty() {
            self.taken += 1;
            Entry::Free(self.pop_unpromised())
        } else {
            Entry::Full
        }
    }

    fn pop_unpromised(&mut self) -> Option<Connection<T>> {
        if self.idle.len() > self.promised { self.idle.pop_back() } else { None }
    }

    /// Makes a place free, or gives it to the request that has waited longest.
    fn leave(&mut self, line: &mut Line<'_, '_>) {
        if line.unpark_one(GRANTED) {
            self.promised += 1;
            self.waiting -= 1;
        } else {
            self.taken -= 1;
        }
    }

    /// Returns `due` if the reaper must be told of it.
    fn plan(&mut self, due: Option<Instant>) -> Option<Instant> {
        let due = due.filter(|due| self.reaps_at.is_none_or(|at| *due < at));
        self.reaps_at = due.or(self.reaps_at);
        due
    }

    fn count(&mut self, reason: Reason) {
        self.closed[reason as usize] += 1;
    }
}

impl<T: Send + 'static> Shared<T> {
    pub(super) fn new(limits: Limits<T>) -> Arc<Shared<T>> {
        let state = State {
            idle: VecDeque::new(),
            taken: 0,
            promised: 0,
            waiting: 0,
            is_closed: false,
            reaps_at: None,
            waits: 0,
            wait_time: Duration::ZERO,
            closed: [0; 4],
        };
        let reaps = limits.idle_timeout.is_some() || limits.max_lifetime.is_some();
        Arc::new_cyclic(|this: &Weak<Shared<T>>| {
            let this = this.clone();
            let reaper = reaps.then(|| {
                let reaper = after_func(Duration::MAX, move || {
                    if let Some(this) = this.upgrade() {
                        this.reap();
                    }
                });
                // Until one is idle.
                reaper.stop();
                reaper
            });
            Shared { limits, queue: Queue::new(state), reaper }
        })
    }
}

impl<T> Shared<T> {
    /// Admits a request if it need not wait.
    pub(super) fn try_admit(self: &Arc<Shared<T>>) -> Admission<T> {
        self.admission(self.queue.with(|state, line| state.enter(line, self.limits.max_size)))
    }

    /// Admits a request, which waits for its turn until `ctx` is done.
    pub(super) fn admit(self: &Arc<Shared<T>>, ctx: &Context) -> Admission<T> {
        match self.try_admit() {
            Admission::GaveUp => self.wait(ctx),
            admission => admission,
        }
    }

    fn wait(self: &Arc<Shared<T>>, ctx: &Context) -> Admission<T> {
        let join = |state: &mut State<T>, line: &mut Line<'_, '_>| match state.enter(line, self.limits.max_size) {
            Entry::Full => {
                state.waiting += 1;
                state.waits += 1;
                Decision::Wait(())
            }
            entry => Decision::Ready(entry),
        };
        let start = now();
        let outcome = if ctx.can_end() {
            self.queue.wait_ctx(WaitReason::PoolGet, ctx, (), join, |state, _| state.waiting -= 1)
        } else {
            self.queue.wait(WaitReason::PoolGet, None, join)
        };
        let waited = now().duration_since(start);
        let token = match outcome {
            Outcome::Ready(entry) => return self.admission(entry),
            Outcome::Unparked(token) => Some(token),
            Outcome::GaveUp => None,
        };
        let entry = self.queue.with(|state, line| {
            state.wait_time += waited;
            if token != Some(GRANTED) {
                return if token.is_some() { Entry::Closed } else { Entry::Full };
            }
            state.promised -= 1;
            if state.is_closed {
                state.leave(line);
                return Entry::Closed;
            }
            Entry::Free(state.idle.pop_back())
        });
        self.admission(entry)
    }

    fn admission(self: &Arc<Shared<T>>, entry: Entry<T>) -> Admission<T> {
        match entry {
            Entry::Free(connection) => Admission::Granted(Pooled::new(self.clone(), connection)),
            Entry::Full => Admission::GaveUp,
            Entry::Closed => Admission::Closed,
        }
    }

    /// Gives one that is idle to a request that has a place.
    pub(super) fn take_idle(&self) -> Option<Connection<T>> {
        self.queue.with(|state, _| state.pop_unpromised())
    }

    /// Takes a place back, with what was in it.
    pub(super) fn give_back(&self, connection: Option<Connection<T>>, is_broken: bool) {
        let now = now();
        let mut due = None;
        let rejected = self.queue.with(|state, line| {
            let rejected = connection.and_then(|mut connection| {
                connection.idle_since = now;
                let expired = self.limits.expired(&connection, now);
                let is_surplus = line.is_empty() && state.idle.len() >= self.limits.max_idle;
                let reason = is_broken.then_some(Reason::Broken).or(expired);
                let reason = reason.or(is_surplus.then_some(Reason::MaxIdle));
                if let Some(reason) = reason {
                    state.count(reason);
                } else if !state.is_closed {
                    due = state.plan(self.limits.expiry(&connection));
                    state.idle.push_back(connection);
                    return None;
                }
                Some(connection)
            });
            if rejected.is_none() {
                state.leave(line);
            }
            rejected
        });
        self.call_reaper(due, now);
        if let Some(connection) = rejected {
            let _place = Place(self);
            (self.limits.close)(connection.value);
        }
    }

    /// Closes one that has a place.
    pub(super) fn close_one(&self, connection: Connection<T>, reason: Reason) {
        self.queue.with(|state, _| state.count(reason));
        (self.limits.close)(connection.value);
    }

    /// See [`Limits::expired`].
    pub(super) fn expired(&self, connection: &Connection<T>, now: Instant) -> Option<Reason> {
        self.limits.expired(connection, now)
    }

    /// Closes those whose time is over, and says when to come again.
    fn reap(&self) {
        let now = now();
        let mut over = Vec::new();
        let due = self.queue.with(|state, _| {
            // Those that are promised are left: a request comes for them, and looks at them.
            let mut unpromised = state.idle.len().saturating_sub(state.promised);
            for connection in mem::take(&mut state.idle) {
                match self.limits.expired(&connection, now).filter(|_| unpromised > 0) {
                    Some(reason) => {
                        state.count(reason);
                        state.taken += 1;
                        over.push(connection);
                        unpromised -= 1;
                    }
                    None => state.idle.push_back(connection),
                }
            }
            state.reaps_at = None;
            let due = state.idle.iter().filter_map(|connection| self.limits.expiry(connection)).min();
            state.plan(due)
        });
        self.call_reaper(due, now);
        self.close_all(over);
    }

    /// Closes those that have a place each, also if closing one panics: the first panic goes on
    /// when all have been closed.
    fn close_all(&self, connections: impl IntoIterator<Item = Connection<T>>) {
        let mut panic = None;
        for connection in connections {
            let _place = Place(self);
            let close = AssertUnwindSafe(|| (self.limits.close)(connection.value));
            panic = panic.or(catch_unwind(close).err());
        }
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }

    /// Makes the reaper come at `due`. If two calls overlap, it may come at the later time of both.
    fn call_reaper(&self, due: Option<Instant>, now: Instant) {
        if let (Some(reaper), Some(due)) = (&self.reaper, due) {
            reaper.reset(due.saturating_duration_since(now));
        }
    }

    pub(super) fn close(&self) {
        let idle = self.queue.with(|state, line| {
            state.is_closed = true;
            state.waiting = 0;
            line.unpark_all(CLOSED);
            // Each keeps a place until it is closed. A request that was promised one of these gives
            // its own place back, since the pool is closed.
            state.taken += state.idle.len();
            mem::take(&mut state.idle)
        });
        self.close_all(idle);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.queue.with(|state, _| state.is_closed)
    }

    pub(super) fn stats(&self) -> Stats {
        self.queue.with(|state, _| {
            let in_use = state.taken - state.promised;
            let [max_idle_closed, idle_timeout_closed, max_lifetime_closed, broken_closed] = state.closed;
            Stats {
                max_size: self.limits.max_size,
                size: in_use + state.idle.len(),
                in_use,
                idle: state.idle.len(),
                waiting: state.waiting,
                waits: state.waits,
                wait_time: state.wait_time,
                max_idle_closed,
                idle_timeout_closed,
                max_lifetime_closed,
                broken_closed,
            }
        })
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        if let Some(reaper) = &self.reaper {
            reaper.stop();
        }
        self.close();
    }
}

impl<T> fmt::Debug for Limits<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("Limits");
        f.field("max_size", &self.max_size).field("max_idle", &self.max_idle);
        f.field("idle_timeout", &self.idle_timeout).field("max_lifetime", &self.max_lifetime).finish_non_exhaustive()
    }
}
