//! Puts one OS thread to sleep until it is unparked.
//!
//! A thread that parks without a deadline is known to the deadlock detector ([`ThreadWait`]): from
//! before it sleeps until it is unparked, not until it runs again, which may be much later. While
//! it sleeps it does two things for the detector, on its own stack and without its token's lock: it
//! takes its stack when a report asks for that, and, where no runtime and so no monitor is there,
//! it looks for a deadlock itself, ever more rarely.
//!
//! For ThreadSanitizer the edge from unpark to park is told, and the locks are ignored: in its
//! queues parking_lot leads from one sleeping thread to another, workers included.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::above;
use crate::base::stack_trace::StackTrace;
use crate::base::{policy, tsan};
use crate::engine::park::WaitReason;
use crate::engine::runtimes;
use crate::engine::threads;
use crate::engine::threads::ThreadWait;

/// How long a thread waits before it looks for a deadlock, where that is left to it; then twice as
/// long, and so on: a further thread that ends does not tell.
const FIRST_LOOK: Duration = Duration::from_millis(50);
/// How long a report waits for the stack of a thread that may be starved of its processor.
const PATIENCE: Duration = Duration::from_secs(5);

/// A token, because the unpark may come first.
#[derive(Debug, Default)]
pub(crate) struct Parker {
    token: Mutex<Token>,
    changed: Condvar,
    /// Notified when `stack` is there.
    answered: Condvar,
    wait: ThreadWait,
}

#[derive(Debug, Default)]
struct Token {
    /// The thread may go on.
    given: bool,
    /// The deadlock detector counts the thread.
    counted: bool,
    /// Somebody wants its stack, from here on outwards: what is further in is how it waits, and
    /// looks for a deadlock.
    asked: bool,
    wait_begins: usize,
    stack: Option<StackTrace>,
}

thread_local! {
    static PARKER: Arc<Parker> = Parker::known();
}

impl Parker {
    /// The calling thread's.
    pub(crate) fn current() -> Arc<Parker> {
        // While a thread ends, its own may be gone; a new one serves as well.
        PARKER.try_with(Arc::clone).unwrap_or_else(|_| Parker::known())
    }

    fn known() -> Arc<Parker> {
        let parker = Arc::default();
        threads::add_parker(&parker);
        parker
    }

    /// What the deadlock detector knows of its thread.
    pub(crate) fn wait(&self) -> &ThreadWait {
        &self.wait
    }

    pub(crate) fn park(&self, reason: WaitReason) {
        let ignore = tsan::ignore();
        let mut token = self.token.lock();
        if !token.given {
            token.counted = threads::thread_parks(&self.wait, reason);
            token = self.sleep(token);
        }
        token.given = false;
        drop(token);
        drop(ignore);
        tsan::acquire(self);
    }

    /// Sleeps until the token is given.
    fn sleep<'a>(&'a self, mut token: MutexGuard<'a, Token>) -> MutexGuard<'a, Token> {
        let (mut pause, mut next_look) = (FIRST_LOOK, None);
        let wait_begins = (&raw const pause).addr();
        token.wait_begins = wait_begins;
        while !token.given {
            if token.asked {
                drop(token);
                let stack = StackTrace::of_thread(wait_begins);
                token = self.token.lock();
                token.asked = false;
                token.stack = Some(stack);
                self.answered.notify_all();
                continue;
            }
            if !token.counted || runtimes::has_monitors() {
                tsan::sleep(&self.changed, &mut token, None);
                continue;
            }
            let now = policy::now();
            let at: Instant = *next_look.get_or_insert(now + pause);
            if now < at {
                tsan::sleep(&self.changed, &mut token, Some(at - now));
                continue;
            }
            drop(token);
            above::look_without_monitors();
            token = self.token.lock();
            pause = pause.saturating_mul(2);
            next_look = now.checked_add(pause);
        }
        token
    }

    /// False if the deadline came first; the token, if any, is left.
    pub(crate) fn park_until(&self, deadline: Instant) -> bool {
        let _ignore = tsan::ignore();
        let mut token = self.token.lock();
        while !token.given {
            if self.changed.wait_until(&mut token, deadline).timed_out() && policy::now() >= deadline {
                return token.given;
            }
        }
        true
    }

    pub(crate) fn take_token(&self) -> bool {
        let is_given = {
            let _ignore = tsan::ignore();
            std::mem::take(&mut self.token.lock().given)
        };
        tsan::acquire(self);
        is_given
    }

    pub(crate) fn unpark(&self) {
        tsan::release(self);
        let _ignore = tsan::ignore();
        let mut token = self.token.lock();
        token.given = true;
        if std::mem::take(&mut token.counted) {
            self.wait.end();
        }
        drop(token);
        self.changed.notify_one();
    }

    /// Has the thread look whether it is left to it to look for deadlocks.
    pub(crate) fn look_again(&self) {
        // The lock: between the thread's own look and its sleep there is no gap to notify it in.
        drop(self.token.lock());
        self.changed.notify_one();
    }

    /// The stack of the thread, which waits; none if it does not any more, or does not answer.
    pub(crate) fn stack(&self) -> Option<StackTrace> {
        let until = policy::now() + PATIENCE;
        let mut token = self.token.lock();
        if PARKER.try_with(|own| std::ptr::eq(&raw const **own, self)).unwrap_or(false) {
            return Some(StackTrace::of_thread(token.wait_begins));
        }
        token.asked = true;
        self.changed.notify_one();
        while token.counted && token.stack.is_none() {
            if self.answered.wait_until(&mut token, until).timed_out() {
                break;
            }
        }
        token.asked = false;
        token.stack.take()
    }
}
