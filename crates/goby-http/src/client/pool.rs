//! Connections that wait for their next request, and the limits of their number.
//!
//! Per place (scheme, host, port, proxy): the idle connections, the newest of which is used first;
//! how many connections there are, if that is limited; and the waiters for one, in order. A place
//! with none of these is forgotten, so a client that visits any number of hosts remembers only
//! those that it has connections to.
//!
//! Over all places: the order in which connections became idle. The oldest is closed when its time
//! is over, when there are more than the limit, and when the process has no descriptor left for a
//! new one.
//!
//! `state` is a short lock. No goroutine uses a channel, drops a connection or parks while it holds
//! the lock. So what is to be sent or dropped is taken out first.
//!
//! A waiter is handed a connection that becomes idle, or the right to make one. A waiter that gives
//! up removes itself from the queue. If it is no longer in the queue, it is about to be handed
//! something, and passes that on.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::mem;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use goby::chan::{self, Sender};
use goby::time::{AfterFunc, after_func};
use goby::{Context, select};
use parking_lot::Mutex;

use super::exchange::Conn;
use super::proxy::Upstream;
use crate::error::{Error, Phase};

/// Where connections go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(super) https: bool,
    /// As a URL writes it.
    pub(super) host: String,
    pub(super) port: u16,
    /// The proxy on the way. Requests that are sent to the proxy itself have no host and port here.
    pub(super) via: Option<Arc<Upstream>>,
}

impl Hash for Place {
    /// Host and port tell almost all places apart, and a request looks its place up several times.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.host.hash(state);
        self.port.hash(state);
    }
}

impl Place {
    /// Whether requests are sent to the proxy itself.
    pub(super) fn is_forwarded(&self) -> bool {
        !self.https && self.via.as_ref().is_some_and(|proxy| !proxy.socks)
    }
}

/// The limits of a pool.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    pub(super) max_idle: usize,
    pub(super) max_idle_per_host: usize,
    pub(super) max_per_host: Option<usize>,
    pub(super) idle_timeout: Duration,
}

pub(super) struct Pool {
    limits: Limits,
    /// For permits, which idle connections hold, and for the sweeper: they must not keep the pool
    /// alive.
    this: Weak<Pool>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The places with connections or waiters, and no others.
    hosts: HashMap<Arc<Place>, Host>,
    /// The place of each idle connection, and since when it is idle, by the number that it got
    /// then.
    idle: BTreeMap<u64, (Instant, Arc<Place>)>,
    last_idle: u64,
    /// Drops connections that have been idle for too long. It exists while there are idle ones.
    sweeper: Option<AfterFunc>,
    last_waiter: u64,
}

#[derive(Default)]
struct Host {
    /// Idle connections with their numbers; the oldest is in front.
    idle: VecDeque<(u64, Box<Conn>)>,
    /// The number of connections and of rights to make one; counted only if there is a limit.
    live: usize,
    waiting: VecDeque<(u64, Sender<Handover>)>,
}

/// What a waiter is handed.
enum Handover {
    Conn(Box<Conn>),
    Permit(Permit),
}

/// The right to have one of a limited number of connections; passed on when dropped.
pub(super) struct Permit {
    pool: Weak<Pool>,
    place: Arc<Place>,
}

/// The connection for a request, or the right to make it.
pub(super) enum Acquired {
    Conn(Box<Conn>),
    /// A connection is to be made.
    Place(Arc<Place>, Option<Permit>),
}

impl Pool {
    pub(super) fn new(limits: Limits) -> Arc<Pool> {
        Arc::new_cyclic(|this| Pool { limits, this: this.clone(), state: Mutex::new(State::default()) })
    }

    /// Gives an idle connection to the place that is wanted, if `reuse` is set and there is one.
    /// Otherwise gives the right to make one, and waits for it if connections are limited.
    pub(super) fn acquire(&self, wanted: Place, reuse: bool, ctx: &Context) -> Result<Acquired, Error> {
        let now = goby::now();
        let mut dead = Vec::new();
        let (id, handover);
        let place;
        {
            let mut state = self.state.lock();
            if !reuse {
                // The idle connections are not trusted: make room for a new one.
                dead.extend(std::iter::from_fn(|| state.pop_newest(&wanted)).map(|(conn, _)| conn));
            }
            while let Some((conn, since)) = state.pop_newest(&wanted) {
                if now.duration_since(since) < self.limits.idle_timeout && conn.is_quiet() {
                    drop(state);
                    drop(dead);
                    return Ok(Acquired::Conn(conn));
                }
                dead.push(conn);
            }
            place = state.hosts.get_key_value(&wanted).map_or_else(|| Arc::new(wanted), |(place, _)| place.clone());
            let Some(max) = self.limits.max_per_host else {
                drop(state);
                return Ok(Acquired::Place(place, None));
            };
            let host = state.hosts.entry(place.clone()).or_default();
            if host.live < max {
                host.live += 1;
                drop(state);
                let permit = Permit { pool: self.this.clone(), place: place.clone() };
                return Ok(Acquired::Place(place, Some(permit)));
            }
            let sender;
            (sender, handover) = chan::bounded(1);
            state.last_waiter += 1;
            id = state.last_waiter;
            let host = state.hosts.get_mut(&place).expect("just used");
            host.waiting.push_back((id, sender));
        }
        // Their permits go to waiters, perhaps to this one.
        drop(dead);
        let handed = select! {
            recv(handover) -> handed => handed.ok(),
            recv(ctx.done()) -> _ => None,
        };
        match handed {
            Some(Handover::Conn(conn)) => Ok(Acquired::Conn(conn)),
            Some(Handover::Permit(permit)) => Ok(Acquired::Place(permit.place.clone(), Some(permit))),
            None => {
                // No longer in the queue: a hand-over is on its way. Receive it, and pass it on.
                if !self.leave(&place, id) {
                    match handover.recv() {
                        Ok(Handover::Conn(conn)) => self.put_back(conn),
                        Ok(Handover::Permit(permit)) => drop(permit),
                        Err(_) => {}
                    }
                }
                let phase = Phase::Queue(place.to_string());
                Err(Error::of_context(&phase, ctx).unwrap_or_else(|| Error::bare(phase)))
            }
        }
    }

    /// Takes a waiter out of the queue; false if it is not there any more.
    fn leave(&self, place: &Place, id: u64) -> bool {
        let mut state = self.state.lock();
        let Some(host) = state.hosts.get_mut(place) else { return false };
        let index = host.waiting.iter().position(|(waiter, _)| *waiter == id);
        let waiter = index.and_then(|index| host.waiting.remove(index));
        state.forget_if_empty(place);
        drop(state);
        waiter.is_some()
    }

    /// Takes back a connection when its request is over. Closes it if it cannot be used again, or
    /// if there are enough.
    pub(super) fn put_back(&self, mut conn: Box<Conn>) {
        if !conn.is_idle() {
            return;
        }
        conn.reused = true;
        let (waiter, surplus, sweep);
        {
            let mut state = self.state.lock();
            let host = state.hosts.entry(conn.place.clone()).or_default();
            waiter = host.waiting.pop_front();
            if waiter.is_some() {
                (surplus, sweep) = (Some(conn), false);
            } else if host.idle.len() < self.limits.max_idle_per_host {
                state.push(conn);
                surplus = if state.idle.len() > self.limits.max_idle { state.pop_oldest() } else { None };
                sweep = state.sweeper.is_none() && !state.idle.is_empty();
            } else {
                state.forget_if_empty(&conn.place);
                (surplus, sweep) = (Some(conn), false);
            }
        }
        match (waiter, surplus) {
            // A waiter that gave up meanwhile receives it, too, and puts it back.
            (Some((_, waiter)), Some(conn)) => drop(waiter.send(Handover::Conn(conn))),
            (_, surplus) => drop(surplus),
        }
        if sweep {
            self.start_sweeper();
        }
    }

    /// Closes the connections that wait for a request.
    pub(super) fn close_idle(&self) {
        let (dead, sweeper): (Vec<_>, _);
        {
            let mut state = self.state.lock();
            dead = std::iter::from_fn(|| state.pop_oldest()).collect();
            sweeper = state.sweeper.take();
        }
        drop((dead, sweeper));
    }

    /// Closes the connection that has waited longest for a request, and returns whether there was
    /// one.
    pub(super) fn close_oldest(&self) -> bool {
        let oldest = self.state.lock().pop_oldest();
        oldest.is_some()
    }

    /// Starts a timer that looks at the connections that are idle now when their time is over.
    fn start_sweeper(&self) {
        let this = self.this.clone();
        let sweeper = after_func(self.limits.idle_timeout, move || {
            if let Some(pool) = this.upgrade() {
                pool.sweep();
            }
        });
        let surplus = {
            let mut state = self.state.lock();
            // Two goroutines may have started one.
            if state.sweeper.is_none() { state.sweeper.replace(sweeper) } else { Some(sweeper) }
        };
        drop(surplus);
    }

    fn sweep(&self) {
        let now = goby::now();
        let mut dead = Vec::new();
        let (old, again);
        {
            let mut state = self.state.lock();
            old = state.sweeper.take();
            while state
                .idle
                .first_key_value()
                .is_some_and(|(_, (since, _))| now.duration_since(*since) >= self.limits.idle_timeout)
            {
                dead.extend(state.pop_oldest());
            }
            again = !state.idle.is_empty();
        }
        drop((dead, old));
        if again {
            self.start_sweeper();
        }
    }
}

impl State {
    /// Adds a connection that has become idle.
    fn push(&mut self, conn: Box<Conn>) {
        self.last_idle += 1;
        self.idle.insert(self.last_idle, (goby::now(), conn.place.clone()));
        let host = self.hosts.entry(conn.place.clone()).or_default();
        host.idle.push_back((self.last_idle, conn));
    }

    /// Takes the connection to `place` that became idle last, with the time since when it is idle.
    fn pop_newest(&mut self, place: &Place) -> Option<(Box<Conn>, Instant)> {
        let (number, conn) = self.hosts.get_mut(place)?.idle.pop_back()?;
        let (since, _) = self.idle.remove(&number).expect("an idle connection has its number there");
        self.forget_if_empty(place);
        Some((conn, since))
    }

    /// Takes the connection that has been idle longest.
    fn pop_oldest(&mut self) -> Option<Box<Conn>> {
        let (_, (_, place)) = self.idle.pop_first()?;
        // Numbers grow with time: the oldest of all is the oldest of its place.
        let host = self.hosts.get_mut(&place).expect("a host with an idle connection is there");
        let (_, conn) = host.idle.pop_front().expect("its oldest is the oldest of all");
        self.forget_if_empty(&place);
        Some(conn)
    }

    fn forget_if_empty(&mut self, place: &Place) {
        if self.hosts.get(place).is_some_and(Host::is_empty) {
            self.hosts.remove(place);
        }
    }
}

impl Host {
    fn is_empty(&self) -> bool {
        self.idle.is_empty() && self.live == 0 && self.waiting.is_empty()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(pool) = self.pool.upgrade() else { return };
        let waiter = {
            let mut state = pool.state.lock();
            let Some(host) = state.hosts.get_mut(&self.place) else { return };
            let waiter = host.waiting.pop_front();
            if waiter.is_none() {
                host.live -= 1;
                state.forget_if_empty(&self.place);
            }
            waiter
        };
        if let Some((_, waiter)) = waiter {
            let permit = Permit { pool: mem::take(&mut self.pool), place: self.place.clone() };
            drop(waiter.send(Handover::Permit(permit)));
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.via {
            Some(proxy) if self.is_forwarded() => write!(f, "the proxy {proxy}"),
            _ => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        let mut pool = f.debug_struct("Pool");
        pool.field("limits", &self.limits).field("hosts", &state.hosts.len()).field("idle", &state.idle.len());
        pool.finish_non_exhaustive()
    }
}
