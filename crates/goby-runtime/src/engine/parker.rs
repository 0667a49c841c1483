//! Puts one OS thread to sleep until it is unparked.
//!
//! A worker's thread sleeps here only for a future that waits inside its poll (`worker/kept.rs`).
//!
//! The deadlock detector knows a thread that parks without a deadline ([`ThreadWait`]): from before
//! the thread sleeps until it is unparked. It may run again much later. While the thread sleeps it
//! does two things for the detector, on its own stack and without its token's lock:
//!
//! - It takes its stack when a report asks for that.
//! - If there is no runtime, and so no monitor, it looks for a deadlock itself, ever more rarely.
//!
//! ThreadSanitizer is told the edge from unpark to park, and ignores the locks: parking_lot's
//! queues lead from one sleeping thread to another, workers included.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Condvar;

use crate::above;
use crate::base::order::Order;
use crate::base::policy;
use crate::base::stack_trace::StackTrace;
use crate::base::unseen::{UnseenGuard, UnseenMutex};
use crate::engine::runtimes;
use crate::engine::threads;
use crate::engine::threads::ThreadWait;
use crate::engine::wait_reason::WaitReason;
use crate::engine::worker::{Kept, Worker};

/// How long a thread waits before it looks for a deadlock, if there is no monitor; then twice as
/// long, and so on. It must repeat the look, since other threads that end do not tell it.
const FIRST_LOOK: Duration = Duration::from_millis(50);
/// How long a report waits for the stack of a thread that may be starved of its processor.
const PATIENCE: Duration = Duration::from_secs(5);

/// Parks one thread. It holds a token, because the unpark may come first.
#[derive(Debug, Default)]
pub(crate) struct Parker {
    token: UnseenMutex<Token>,
    changed: Condvar,
    /// Notified when `stack` is there.
    answered: Condvar,
    wait: ThreadWait,
    /// From the unpark to the park.
    order: Order,
}

#[derive(Debug, Default)]
struct Token {
    /// The thread may go on.
    given: bool,
    /// The deadlock detector counts the thread.
    counted: bool,
    /// A report wants the thread's stack, from the frame at `wait_begins` outwards: the frames
    /// further in are the wait itself, and the look for a deadlock.
    asked: bool,
    wait_begins: usize,
    stack: Option<StackTrace>,
}

thread_local! {
    static PARKER: Arc<Parker> = Parker::known();
}

impl Parker {
    /// Returns the calling thread's parker.
    pub(crate) fn current() -> Arc<Parker> {
        // While a thread ends, its parker may be gone; a new one does as well.
        PARKER.try_with(Arc::clone).unwrap_or_else(|_| Parker::known())
    }

    fn known() -> Arc<Parker> {
        let parker = Arc::default();
        threads::add_parker(&parker);
        parker
    }

    /// Returns what the deadlock detector knows of this parker's thread.
    pub(crate) fn wait(&self) -> &ThreadWait {
        &self.wait
    }

    pub(crate) fn park(&self, reason: WaitReason) {
        let kept = self.keep_worker(reason);
        let mut token = self.token.lock();
        if !token.given {
            token.counted = threads::thread_parks(&self.wait, reason, kept.is_some());
            self.sleep(&mut token);
        }
        token.given = false;
        drop(token);
        self.order.follow();
    }

    /// Says that a future keeps its worker, if one calls and is about to sleep.
    fn keep_worker(&self, reason: WaitReason) -> Option<Kept> {
        let worker = Worker::current().filter(|worker| worker.polls().is_some())?;
        let is_given = self.token.lock().given;
        // No closure: it would be a frame of the report's stack.
        if is_given { None } else { Some(Kept::begin(worker, reason)) }
    }

    /// Sleeps until the token is given.
    fn sleep(&self, token: &mut UnseenGuard<'_, Token>) {
        let (mut pause, mut next_look) = (FIRST_LOOK, None);
        let wait_begins = (&raw const pause).addr();
        token.wait_begins = wait_begins;
        while !token.given {
            if token.asked {
                let stack = token.unlocked(|| StackTrace::of_thread(wait_begins));
                token.asked = false;
                token.stack = Some(stack);
                self.answered.notify_all();
                continue;
            }
            if !token.counted || runtimes::has_monitors() {
                token.sleep(&self.changed, None);
                continue;
            }
            let now = policy::now();
            let at: Instant = *next_look.get_or_insert(now + pause);
            if now < at {
                token.sleep(&self.changed, Some(at - now));
                continue;
            }
            token.unlocked(above::look_without_monitors);
            pause = pause.saturating_mul(2);
            next_look = now.checked_add(pause);
        }
    }

    /// Parks until the token is given or `deadline`; returns false if the deadline came first. Does
    /// not take the token.
    pub(crate) fn park_until(&self, reason: WaitReason, deadline: Instant) -> bool {
        let _kept = self.keep_worker(reason);
        let mut token = self.token.lock();
        while !token.given {
            if token.sleep_until(&self.changed, deadline) && policy::now() >= deadline {
                return token.given;
            }
        }
        true
    }

    pub(crate) fn take_token(&self) -> bool {
        let is_given = std::mem::take(&mut self.token.lock().given);
        self.order.follow();
        is_given
    }

    pub(crate) fn unpark(&self) {
        self.order.precede();
        let mut token = self.token.lock();
        token.given = true;
        // The wait ends for the detector here, not when the thread runs again.
        if std::mem::take(&mut token.counted) {
            self.wait.end();
        }
        token.unlock_and_notify(&self.changed);
    }

    /// Makes the thread check whether it now has to look for deadlocks itself.
    pub(crate) fn look_again(&self) {
        // Take the lock: the thread holds it from its check until it sleeps, so the notification
        // cannot fall in between.
        self.token.lock().unlock_and_notify(&self.changed);
    }

    /// Returns the stack of the waiting thread; none if it no longer waits, or does not answer.
    pub(crate) fn stack(&self) -> Option<StackTrace> {
        let until = policy::now() + PATIENCE;
        let mut token = self.token.lock();
        if PARKER.try_with(|own| std::ptr::eq(&raw const **own, self)).unwrap_or(false) {
            return Some(StackTrace::of_thread(token.wait_begins));
        }
        token.asked = true;
        self.changed.notify_one();
        while token.counted && token.stack.is_none() {
            if token.sleep_until(&self.answered, until) {
                break;
            }
        }
        token.asked = false;
        token.stack.take()
    }
}
