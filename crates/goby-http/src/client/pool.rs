//! Connections that wait for their next request, and the limit to how many there are.
//!
//! Per place (scheme, host, port): the idle connections, the one used last on top; how many connections there are, if that
//! is limited; and who waits for one, in order. `state` is a short lock: no channel is used, no connection dropped and nothing
//! parked under it, so what is to be sent or dropped is taken out first.
//!
//! Who waits is handed a connection that becomes idle, or the right to make one. Leaving the queue takes being found in it;
//! who is no longer there is about to be handed something, and passes that on.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::mem;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use goby::chan::{self, Sender};
use goby::time::{AfterFunc, after_func};
use goby::{Context, select};
use parking_lot::Mutex;

use super::exchange::Conn;
use crate::error::{Error, Phase};

/// Where connections go to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(super) https: bool,
    /// As a URL writes it.
    pub(super) host: String,
    pub(super) port: u16,
}

/// The limits of a pool.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    pub(super) max_idle_per_host: usize,
    pub(super) max_per_host: Option<usize>,
    pub(super) idle_timeout: Duration,
}

pub(super) struct Pool {
    limits: Limits,
    /// For those that must not keep the pool alive: permits, which idle connections hold, and the sweeper.
    this: Weak<Pool>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    hosts: HashMap<Arc<Place>, Host>,
    /// Drops connections that have been idle for too long; there while there are idle ones.
    sweeper: Option<AfterFunc>,
    last_waiter: u64,
}

#[derive(Default)]
struct Host {
    idle: Vec<(Box<Conn>, Instant)>,
    /// Connections and rights to make one; counted only if there is a limit.
    live: usize,
    waiting: VecDeque<(u64, Sender<Handover>)>,
}

/// What one who waits is handed.
enum Handover {
    Conn(Box<Conn>),
    Permit(Permit),
}

/// The right to have one of a limited number of connections; passed on when dropped.
pub(super) struct Permit {
    pool: Weak<Pool>,
    place: Arc<Place>,
}

/// What to make a request with.
pub(super) enum Acquired {
    Conn(Box<Conn>),
    /// A connection is to be made.
    Place(Arc<Place>, Option<Permit>),
}

impl Pool {
    pub(super) fn new(limits: Limits) -> Arc<Pool> {
        Arc::new_cyclic(|this| Pool { limits, this: this.clone(), state: Mutex::new(State::default()) })
    }

    /// Gives an idle connection to the place that is wanted, if `reuse` and there is one, or else the right to make one, after waiting for it if
    /// they are limited.
    pub(super) fn acquire(&self, wanted: Place, reuse: bool, ctx: &Context) -> Result<Acquired, Error> {
        let now = goby::now();
        let mut dead = Vec::new();
        let (place, id, handover);
        {
            let mut state = self.state.lock();
            place = match state.hosts.get_key_value(&wanted) {
                Some((place, _)) => place.clone(),
                None if self.limits.max_per_host.is_none() => return Ok(Acquired::Place(Arc::new(wanted), None)),
                None => Arc::new(wanted),
            };
            let host = state.hosts.entry(place.clone()).or_default();
            if !reuse {
                // Those that are idle are not trusted: make room for a new one.
                dead.extend(host.idle.drain(..).map(|(conn, _)| conn));
            }
            while let Some((conn, since)) = host.idle.pop() {
                if now.duration_since(since) < self.limits.idle_timeout && conn.is_quiet() {
                    drop(state);
                    drop(dead);
                    return Ok(Acquired::Conn(conn));
                }
                dead.push(conn);
            }
            match self.limits.max_per_host {
                None => {
                    drop(state);
                    return Ok(Acquired::Place(place, None));
                }
                Some(max) if host.live < max => {
                    host.live += 1;
                    drop(state);
                    let permit = Permit { pool: self.this.clone(), place: place.clone() };
                    return Ok(Acquired::Place(place, Some(permit)));
                }
                Some(_) => {
                    let sender;
                    (sender, handover) = chan::bounded(1);
                    state.last_waiter += 1;
                    id = state.last_waiter;
                    let host = state.hosts.get_mut(&place).expect("just used");
                    host.waiting.push_back((id, sender));
                }
            }
        }
        // Their permits go to those who wait, perhaps to this one.
        drop(dead);
        let handed = select! {
            recv(handover) -> handed => handed.ok(),
            recv(ctx.done()) -> _ => None,
        };
        match handed {
            Some(Handover::Conn(conn)) => Ok(Acquired::Conn(conn)),
            Some(Handover::Permit(permit)) => Ok(Acquired::Place(permit.place.clone(), Some(permit))),
            None => {
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
        drop(state);
        waiter.is_some()
    }

    /// Takes a connection back whose request is over. Closes it if it cannot be used again, or if there are enough.
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
                surplus = Some(conn);
                sweep = false;
            } else if host.idle.len() < self.limits.max_idle_per_host {
                host.idle.push((conn, goby::now()));
                surplus = None;
                sweep = state.sweeper.is_none();
            } else {
                surplus = Some(conn);
                sweep = false;
            }
        }
        match (waiter, surplus) {
            // One who left meanwhile receives it, too, and puts it back.
            (Some((_, waiter)), Some(conn)) => drop(waiter.send(Handover::Conn(conn))),
            (_, surplus) => drop(surplus),
        }
        if sweep {
            self.start_sweeper();
        }
    }

    /// Closes the connections that wait for a request.
    pub(super) fn close_idle(&self) {
        let mut dead = Vec::new();
        let sweeper;
        {
            let mut state = self.state.lock();
            for host in state.hosts.values_mut() {
                dead.append(&mut host.idle);
            }
            sweeper = state.sweeper.take();
        }
        drop((dead, sweeper));
    }

    /// Has the connections that are idle now looked at when their time is over.
    fn start_sweeper(&self) {
        let this = self.this.clone();
        let sweeper = after_func(self.limits.idle_timeout, move || {
            if let Some(pool) = this.upgrade() {
                pool.sweep();
            }
        });
        let surplus = {
            let mut state = self.state.lock();
            // Two may have started one.
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
            for host in state.hosts.values_mut() {
                // The first have been idle for longest.
                let fresh =
                    host.idle.partition_point(|(_, since)| now.duration_since(*since) >= self.limits.idle_timeout);
                dead.extend(host.idle.drain(..fresh));
            }
            state.hosts.retain(|_, host| !host.idle.is_empty() || host.live > 0 || !host.waiting.is_empty());
            again = state.hosts.values().any(|host| !host.idle.is_empty());
        }
        drop((dead, old));
        if again {
            self.start_sweeper();
        }
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
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        let idle: usize = state.hosts.values().map(|host| host.idle.len()).sum();
        f.debug_struct("Pool").field("limits", &self.limits).field("idle", &idle).finish_non_exhaustive()
    }
}
