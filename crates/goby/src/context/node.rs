//! A node of the cancel tree: a layer that can be done.
//!
//! A child holds its parent. A parent knows its children weakly, in its entries, and each child
//! knows its slot there. A child leaves them, in O(1), when it is canceled by itself or dropped by
//! everybody.
//!
//! # How a node gets done
//!
//! ```text
//!   OPEN ── decide ──▶ CANCELED or EXPIRED ── close_done ──▶ … | CLOSED
//! ```
//!
//! 1. *Decide*, under the node's lock: the first canceler comes through, and settles error and
//!    cause forever. It takes the entries. A decided node gets no more of them: a child that wants
//!    to be added is born done instead.
//! 2. *Close* the done channel, with no lock of the tree held. This wakes the goroutines that wait
//!    for it.
//! 3. *Publish*: set CLOSED. `err` shows nothing before that, so an error implies a closed channel.
//!    The other way round: a caller that finds a node decided but not CLOSED (it was woken by the
//!    channel in or after step 2) closes the channel itself. Closing is idempotent: this caller
//!    wakes the waiters that the first canceler has not come to yet, and need not wait for that
//!    one. A second canceler does the same before it returns.
//! 4. The canceler goes through the children, one level after the other. There is no recursion, so
//!    depth costs no stack.
//!
//! The lock is never held while a waiter is woken, a callback runs, or a value of the user's is
//! dropped. Locks of two nodes are never held together.
//!
//! The done channel is made when somebody first asks for it. This happens under the lock, so either
//! the decider sees the channel or it is never made. A node that nobody waits for costs one
//! allocation. All nodes that were done before anybody asked share one closed channel.

use std::convert::Infallible;
use std::fmt;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use goby_runtime::{Foreign, Lock, Timer, TimerAction, let_go, let_go_shared};
use once_cell::sync::Lazy;

use super::entries::{Entries, Entry, NO_SLOT};
use super::{Cause, ContextError};
use crate::chan::{self, Keeper, Reach, Receiver, Sender};

/// Not done. The decider stores one of the two values below under the node's lock, once.
const OPEN: u8 = 0;
/// Decided: canceled.
const CANCELED: u8 = 1;
/// Decided: its deadline passed.
const EXPIRED: u8 = 2;
/// The done channel, if there is one, is closed. Anybody may set this after closing it; implies one
/// of the two above.
const CLOSED: u8 = 4;

/// How a cancellation ends a node and all below it.
#[derive(Clone)]
pub(super) struct Outcome {
    pub(super) error: ContextError,
    pub(super) cause: Option<Cause>,
}

/// When a node is done by itself, and the cause that it then has.
pub(super) struct Deadline {
    pub(super) due: Instant,
    pub(super) cause: Option<Cause>,
}

pub(super) struct Node {
    status: AtomicU8,
    /// Whether `deadline` is the node's own, not inherited.
    own_deadline: bool,
    layer: u32,
    /// The node's place in the parent's entries; guarded by the parent's lock.
    slot: AtomicU32,
    parent: Option<Arc<Node>>,
    /// The earliest deadline from here to the root.
    deadline: Option<Instant>,
    /// Runs until `deadline` if that is the node's own. Its callback holds the node weakly.
    timer: Option<Timer>,
    /// Set under the lock while OPEN.
    done: OnceLock<Done>,
    /// Whether `done` is set. ThreadSanitizer cannot see that inside std.
    has_done: AtomicBool,
    state: Lock<State>,
    /// Causes, and the functions that are registered.
    _foreign: Foreign,
}

struct Done {
    sender: Sender<Infallible>,
    receiver: Receiver<Infallible>,
}

/// The keeper of a done channel: it says so in reports, and whether a deadline closes the channel.
struct Doneness {
    has_deadline: bool,
}

impl Doneness {
    /// Returns one for all contexts with, or without, a deadline.
    fn of(has_deadline: bool) -> &'static Doneness {
        static WITHOUT: Doneness = Doneness { has_deadline: false };
        static WITH: Doneness = Doneness { has_deadline: true };
        if has_deadline { &WITH } else { &WITHOUT }
    }
}

impl Keeper for Doneness {
    fn reach(&self) -> Reach {
        Reach { context: true, timer: self.has_deadline }
    }

    /// The deadline's timer runs until the context is done.
    fn is_armed(&self) -> bool {
        self.has_deadline
    }
}

/// What a deadline's timer does.
struct Expiry {
    node: Weak<Node>,
}

impl TimerAction for Expiry {
    fn fire(&self, _: Instant) {
        if let Some(node) = self.node.upgrade() {
            node.expire();
            let_go_shared(node);
        }
    }

    fn is_awaited(&self) -> bool {
        let mut next: Vec<Weak<Node>> = vec![self.node.clone()];
        while let Some(node) = next.pop() {
            let Some(node) = node.upgrade() else { continue };
            let is_awaited = node.is_awaited(&mut next);
            // This may be the last reference by now. Causes and functions are the user's to drop,
            // which no thread of goby's does.
            if let Some(node) = Arc::into_inner(node) {
                goby_runtime::go(move || drop(node));
            }
            if is_awaited {
                return true;
            }
        }
        false
    }
}

struct State {
    entries: Entries,
    /// Set by the decider. Before that, the cause that the node has if its own deadline passes.
    cause: Option<Cause>,
}

impl Node {
    /// Makes a node below `parent`. It is done already if `parent` is, or if the deadline has
    /// passed.
    pub(super) fn child_of(parent: Option<&Arc<Node>>, layer: u32, deadline: Option<Deadline>) -> Arc<Node> {
        let inherited = parent.and_then(|parent| parent.deadline);
        let own = deadline.filter(|own| inherited.is_none_or(|inherited| own.due <= inherited));
        let (own, expiry) = own.map(|own| (own.due, own.cause)).unzip();
        let node = Node {
            status: AtomicU8::new(OPEN),
            own_deadline: own.is_some(),
            layer,
            slot: AtomicU32::new(NO_SLOT),
            parent: parent.cloned(),
            deadline: own.or(inherited),
            timer: None,
            done: OnceLock::new(),
            has_done: AtomicBool::new(false),
            state: Lock::new(State { entries: Entries::new(), cause: expiry.flatten() }),
            _foreign: Foreign,
        };
        match own {
            None => {
                let node = Arc::new(node);
                node.join_parent();
                node
            }
            Some(due) => node.with_own_deadline(due),
        }
    }

    fn with_own_deadline(mut self, due: Instant) -> Arc<Node> {
        if due <= goby_runtime::now() {
            let node = Arc::new(self);
            node.join_parent();
            node.expire();
            return node;
        }
        let node = Arc::new_cyclic(|weak: &Weak<Node>| {
            self.timer = Some(Timer::of(Expiry { node: weak.clone() }));
            self
        });
        node.join_parent();
        if let Some(timer) = &node.timer
            && !node.is_decided()
        {
            timer.start(due);
            // The decider stops the timer after it has had the lock. So either it stops the timer
            // after our start, or we see here that it has decided.
            let state = node.state.lock();
            let decided = node.is_decided();
            drop(state);
            if decided {
                timer.stop();
            }
        }
        node
    }

    /// Registers the node with its parent, or ends it as the parent has ended.
    fn join_parent(self: &Arc<Node>) {
        let Some(parent) = &self.parent else { return };
        let mut state = parent.state.lock();
        if let Some(error) = parent.decided() {
            let outcome = Outcome { error, cause: state.cause.clone() };
            drop(state);
            self.finish(&outcome);
        } else {
            let slot = state.entries.insert(Entry::Child(Arc::downgrade(self)));
            // Relaxed: read under the same lock.
            self.slot.store(slot, Ordering::Relaxed);
        }
    }

    /// Adds an entry that is told when this node is done; gives it back if the node is done
    /// already.
    pub(super) fn register(&self, entry: Entry) -> Result<u32, Entry> {
        let mut state = self.state.lock();
        if self.is_decided() { Err(entry) } else { Ok(state.entries.insert(entry)) }
    }

    /// Takes an entry back; returns false if the node was decided first.
    pub(super) fn unregister(&self, slot: u32) -> bool {
        // In a local, so that it is dropped after the lock is released.
        let removed = self.state.lock().entries.remove(slot);
        removed.was_there()
    }

    /// Ends this node, because its own deadline has passed, and all nodes below it; does nothing if
    /// it has ended.
    fn expire(&self) {
        // If the node has been decided meanwhile, this is another cause, and `cancel` does nothing
        // with it.
        let cause = self.state.lock().cause.clone();
        let outcome = Outcome { error: ContextError::DeadlineExceeded, cause };
        self.cancel(&outcome);
        let kept = self.state.lock().cause.clone();
        let_go_unless_kept(outcome.cause, kept.as_ref());
    }

    /// Ends this node and all nodes below it; does nothing if it has ended.
    pub(super) fn cancel(&self, outcome: &Outcome) {
        // Acquire: as in `err`.
        if self.status.load(Ordering::Acquire) & CLOSED != 0 {
            return;
        }
        let Some(mut level) = self.finish(outcome) else { return };
        self.leave_parent();
        while !level.is_empty() {
            let mut below = Vec::new();
            for entry in level {
                match entry {
                    Entry::Child(child) => {
                        let Some(child) = child.upgrade() else { continue };
                        append(&mut below, child.finish(outcome).unwrap_or_default());
                        let_go_shared(child);
                    }
                    callback => callback.run(),
                }
            }
            level = below;
        }
    }

    /// Does steps 1 to 3 for this node alone; returns the entries that step 4 has to tell, or
    /// nothing if the node was decided before.
    fn finish(&self, outcome: &Outcome) -> Option<Vec<Entry>> {
        let decided = match outcome.error {
            ContextError::Canceled => CANCELED,
            ContextError::DeadlineExceeded => EXPIRED,
        };
        let mut cause = outcome.cause.clone();
        // Decide.
        let entries = {
            let mut state = self.state.lock();
            if self.is_decided() {
                None
            } else {
                mem::swap(&mut state.cause, &mut cause);
                // Release pairs with the Acquire loads of `err` and `done`: they see `done` as set
                // by now, or never.
                self.status.store(decided, Ordering::Release);
                Some(state.entries.take())
            }
        };
        // The cause that the own deadline would have had: it is the user's to drop.
        let_go_unless_kept(cause, outcome.cause.as_ref());
        if entries.is_some()
            && let Some(timer) = &self.timer
        {
            timer.stop();
        }
        // Close and publish, also if another canceler has decided.
        self.close_done();
        entries
    }

    /// Closes the done channel of a decided node, and publishes that. Anybody may call this, any
    /// number of times.
    fn close_done(&self) {
        if let Some(done) = self.done.get() {
            done.sender.end();
        }
        // Release pairs with the Acquire load of `err`: a caller that sees CLOSED sees a closed
        // channel.
        self.status.fetch_or(CLOSED, Ordering::Release);
    }

    /// How the node has ended, with the channel closed if it has.
    #[inline]
    pub(super) fn err(&self) -> Option<ContextError> {
        // Acquire pairs with the Release stores of `finish` and `close_done`.
        let status = self.status.load(Ordering::Acquire);
        if status == OPEN {
            return self.err_by_clock();
        }
        if status & CLOSED == 0 {
            self.close_done();
        }
        error(status)
    }

    /// How an open node has ended: its deadline may have passed although the timer has not yet
    /// fired.
    #[inline]
    fn err_by_clock(&self) -> Option<ContextError> {
        let deadline = self.deadline?;
        goby_runtime::has_passed(deadline).then(|| self.expire_by_clock())
    }

    #[cold]
    fn expire_by_clock(&self) -> ContextError {
        // The nearest node with a deadline of its own has the earliest deadline from there to the
        // root.
        let mut node = self;
        while let Some(parent) = node.parent().filter(|_| !node.own_deadline) {
            node = parent;
        }
        node.expire();
        // Another canceler may be about to end that node, without having come down to this one.
        // This node ends by the same error and cause.
        let cause = node.state.lock().cause.clone();
        let outcome = Outcome { error: node.decided().expect("it has expired, or was canceled before"), cause };
        self.cancel(&outcome);
        self.decided().expect("it has been canceled")
    }

    /// How the node has ended, although the channel may not be closed yet. Under the lock the
    /// answer is exact; without the lock it may be about to change.
    #[inline]
    pub(super) fn decided(&self) -> Option<ContextError> {
        // Acquire pairs with the Release store of `finish`.
        error(self.status.load(Ordering::Acquire))
    }

    pub(super) fn cause(&self) -> Option<Cause> {
        let error = self.err()?;
        let given = self.state.lock().cause.clone();
        Some(given.unwrap_or_else(|| Arc::new(error)))
    }

    #[inline]
    pub(super) fn done(&self) -> &Receiver<Infallible> {
        // Acquire pairs with the Release in `done_slow`.
        match self.has_done.load(Ordering::Acquire).then(|| self.done.get()).flatten() {
            Some(done) => &done.receiver,
            None => self.done_slow(),
        }
    }

    fn done_slow(&self) -> &Receiver<Infallible> {
        if !self.is_decided() {
            let (sender, receiver) = chan::bounded_kept(0, Doneness::of(self.deadline.is_some()));
            let fresh = Done { sender, receiver };
            let state = self.state.lock();
            // A second caller finds it set, and drops its own channel after the lock is released.
            let unused = if self.is_decided() { Err(fresh) } else { self.done.set(fresh) };
            // Release pairs with the Acquire in `done`.
            self.has_done.store(self.done.get().is_some(), Ordering::Release);
            drop(state);
            drop(unused);
        }
        static CLOSED_CHANNEL: Lazy<Receiver<Infallible>> = Lazy::new(|| chan::bounded(0).1);
        match self.done.get() {
            Some(done) => &done.receiver,
            // Decided before anybody asked.
            None => &CLOSED_CHANNEL,
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    pub(super) fn layer(&self) -> u32 {
        self.layer
    }

    pub(super) fn parent(&self) -> Option<&Node> {
        self.parent.as_deref()
    }

    /// Whether somebody waits until this node is done, or a function is registered for that; adds
    /// the node's children to `children`.
    fn is_awaited(&self, children: &mut Vec<Weak<Node>>) -> bool {
        self.done.get().is_some_and(|done| done.receiver.has_waiting_receiver())
            || self.state.lock().entries.add_children(children)
    }

    fn is_decided(&self) -> bool {
        self.decided().is_some()
    }

    /// Takes the node out of the parent's entries. Called once: by the canceler of this node, or
    /// when it is dropped open.
    fn leave_parent(&self) {
        if let Some(parent) = &self.parent {
            parent.unregister(self.slot.load(Ordering::Relaxed));
        }
    }

    #[cfg(test)]
    pub(super) fn entries(&self) -> usize {
        self.state.lock().entries.used()
    }

    #[cfg(test)]
    pub(super) fn slot(&self) -> u32 {
        self.slot.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(super) fn has_channel(&self) -> bool {
        self.done.get().is_some()
    }
}

/// Drops a cause, which is the user's. On a scheduler's stack it drops the cause only if that is
/// not the last reference, because `kept` is one.
fn let_go_unless_kept(cause: Option<Cause>, kept: Option<&Cause>) {
    match (cause, kept) {
        (Some(cause), Some(kept)) if Arc::ptr_eq(&cause, kept) => drop(cause),
        (Some(cause), _) => let_go(cause),
        (None, _) => {}
    }
}

/// What a status says.
#[inline]
fn error(status: u8) -> Option<ContextError> {
    match status & !CLOSED {
        CANCELED => Some(ContextError::Canceled),
        EXPIRED => Some(ContextError::DeadlineExceeded),
        _ => None,
    }
}

/// Appends as `Vec::append` does, but takes over `more` as it is when `list` is empty, the usual
/// case of a chain.
fn append(list: &mut Vec<Entry>, mut more: Vec<Entry>) {
    if list.is_empty() {
        *list = more;
    } else {
        list.append(&mut more);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // The timer, if any, is stopped by its own drop.
        if *self.status.get_mut() == OPEN {
            self.leave_parent();
        }
        // Ancestors that only this node kept alive are dropped here one by one, not by recursion.
        let mut next = self.parent.take();
        while let Some(parent) = next {
            next = Arc::into_inner(parent).and_then(|mut parent| {
                if *parent.status.get_mut() == OPEN {
                    parent.leave_parent();
                }
                parent.parent.take()
            });
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(deadline) = self.deadline.filter(|_| self.own_deadline) else { return f.write_str("WithCancel") };
        let now = goby_runtime::now();
        match deadline.checked_duration_since(now) {
            Some(left) => write!(f, "WithDeadline({left:.1?})"),
            None => write!(f, "WithDeadline(-{:.1?})", now.saturating_duration_since(deadline)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node between steps 1 and 2, and its channel.
    fn decided_but_not_closed() -> (Arc<Node>, Receiver<Infallible>) {
        let node = Node::child_of(None, 1, None);
        let done = node.done().clone();
        node.status.store(CANCELED, Ordering::Release);
        assert!(!done.is_closed());
        (node, done)
    }

    #[test]
    fn who_finds_a_node_decided_closes_it() {
        let (node, done) = decided_but_not_closed();
        assert_eq!(node.err(), Some(ContextError::Canceled));
        assert!(done.is_closed());

        let (node, done) = decided_but_not_closed();
        node.cancel(&Outcome { error: ContextError::DeadlineExceeded, cause: None });
        assert!(done.is_closed());
        assert_eq!(node.err(), Some(ContextError::Canceled));
    }

    #[test]
    fn a_look_under_a_lock_closes_nothing() {
        let (node, done) = decided_but_not_closed();
        assert_eq!(node.decided(), Some(ContextError::Canceled));
        assert!(!done.is_closed());
    }
}
