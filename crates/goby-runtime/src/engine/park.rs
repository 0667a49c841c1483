//! One way to wait (`docs/decisions/02-one-way-to-wait.md`).
//!
//! The waiter makes a [`Wait`] on its own stack. It shows the wait to everything that may end it (a
//! queue of a channel, a timer, a joined goroutine) under *their* locks, releases those locks, and
//! parks. The claimer, which ends the wait, *claims* it first, under such a lock. The claim returns
//! an [`Unparker`], which the claimer uses after it has released the lock.
//!
//! - Exactly one claim succeeds. So if several things could end a wait (the cases of a select, a
//!   time-out), exactly one does.
//! - Exactly one unpark follows each successful claim, and a park returns only after that unpark.
//!   Therefore everything on the waiter's stack is alive until the unpark, and nobody else may
//!   touch it afterwards. No token is ever left over, and no wake-up is spurious.
//! - Only the home worker resumes a goroutine. So an unpark that comes before the goroutine is off
//!   its stack waits in a queue. Therefore a primitive releases its lock before the switch, and
//!   needs no callback.
//!
//! A waiter is a goroutine, an OS thread, or a `std::task::Waker`. A `Waker` does not park: its
//! future asks for the claim in `poll`, under the lock that the claimer held.

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use crate::base::answer::Answer;
use crate::base::lock::Lock;
use crate::base::policy;
use crate::base::primitive::{AtomicUsize, Ordering};
use crate::base::report::report;
use crate::engine::checkpoint::yield_now;
use crate::engine::errand::Notice;
use crate::engine::goroutine::Goroutine;
use crate::engine::io::timer::SleepTimer;
use crate::engine::parker::Parker;
use crate::engine::unparker::Unparker;
use crate::engine::wait_reason::WaitReason;
use crate::engine::{switch, worker};

/// `state`: nobody has claimed the wait. A claim with token `t` makes it `t + 1`.
const WAITING: usize = 0;
/// The token of a wait that its deadline ended.
pub const TIMED_OUT: usize = usize::MAX - 1;

/// One wait of one waiter.
pub struct Wait {
    state: AtomicUsize,
    /// The wait is shown to one queue only, whose lock orders the claims, or to one claimer.
    in_one_queue: bool,
    answer: Answer,
    who: Who,
}

enum Who {
    Goroutine(NonNull<Goroutine>),
    Thread(Arc<Parker>),
    Task(Lock<Option<Notice>>),
}

// SAFETY: any thread may unpark a goroutine by its record; the rest is Sync by itself.
unsafe impl Sync for Wait {}
// SAFETY: a task's wait is reached only through atomics and its own lock. Other waits may move only
// before they are shown, and by the contract of `current` only their maker parks on them.
unsafe impl Send for Wait {}

impl Wait {
    /// Starts a wait of the calling goroutine, or OS thread.
    ///
    /// # Safety
    ///
    /// Only the caller parks on the wait, at most once, and before it does anything else that
    /// parks. Only those to which the caller shows the wait claim it. The claimer unparks it
    /// exactly once; if there is a claim, the caller does park.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub unsafe fn current() -> Wait {
        Wait::of_current(false)
    }

    /// Starts a wait of the calling goroutine; returns none if the caller is not a goroutine.
    ///
    /// # Safety
    ///
    /// As for [`current`](Wait::current).
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub unsafe fn of_goroutine() -> Option<Wait> {
        worker::current_goroutine().map(|g| Wait::of(Who::Goroutine(g), false))
    }

    /// Starts a wait as [`current`](Wait::current) does, but one that is shown to one queue only: a
    /// claim then costs no atomic update.
    ///
    /// # Safety
    ///
    /// As for `current`. Besides, all claimers claim it under the same lock, or there is only one
    /// claimer. The caller does not park on it with a deadline.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub unsafe fn in_one_queue() -> Wait {
        Wait::of_current(true)
    }

    /// Starts a wait of a future; [`set_waker`](Wait::set_waker) says what to wake.
    pub fn task() -> Wait {
        Wait::of(Who::Task(Lock::new(None)), false)
    }

    #[cfg_attr(not(debug_assertions), inline(always))]
    fn of_current(in_one_queue: bool) -> Wait {
        // The wait is made in each branch. If `Who` were made first and moved then, it would be
        // copied, with its unused part.
        match worker::current_goroutine() {
            Some(g) => Wait::of(Who::Goroutine(g), in_one_queue),
            None => Wait::of(Who::this_thread(), in_one_queue),
        }
    }

    /// Returns the goroutine that waits, if it is one.
    #[inline]
    pub(crate) fn goroutine(&self) -> Option<NonNull<Goroutine>> {
        if let Who::Goroutine(g) = &self.who { Some(*g) } else { None }
    }

    #[cfg_attr(not(debug_assertions), inline(always))]
    fn of(who: Who, in_one_queue: bool) -> Wait {
        Wait { state: AtomicUsize::new(WAITING), in_one_queue, answer: Answer::new(), who }
    }

    /// Sets the waker that the claimer wakes. The claim may have happened already: ask
    /// [`token`](Wait::token) afterwards.
    ///
    /// # Panics
    ///
    /// When this is not a future's wait.
    pub fn set_waker(&self, waker: &Waker) {
        let Who::Task(slot) = &self.who else { panic!("only a future's wait has a waker") };
        // Cloned and dropped outside the lock, since both run the executor's code.
        let new = Notice::new(waker);
        let old = slot.lock().replace(new);
        drop(old);
    }

    /// Ends the wait with `token`, unless another claim has ended it. The caller must unpark, after
    /// it has released its locks.
    #[cfg_attr(not(debug_assertions), inline(always))]
    #[must_use = "a claimed waiter must be unparked"]
    pub fn claim(&self, token: usize) -> Option<Unparker> {
        if !self.try_claim(token) {
            return None;
        }
        Some(match &self.who {
            Who::Goroutine(g) => Unparker::of_goroutine(*g, NonNull::from(&self.answer)),
            Who::Thread(parker) => Unparker::of_thread(parker.clone()),
            Who::Task(slot) => Unparker::of_task(slot),
        })
    }

    #[cfg_attr(not(debug_assertions), inline(always))]
    fn try_claim(&self, token: usize) -> bool {
        if self.in_one_queue {
            debug_assert!(!self.is_claimed(), "claimed out of a queue that it was not in");
            // Release: as below. No read-modify-write is needed: any other claimer would have to
            // hold the lock that we hold.
            self.state.store(token + 1, Ordering::Release);
            return true;
        }
        // AcqRel: the release publishes what the claimer did before. The acquire pairs with the
        // waiter's set-up, which happens before the claim anyway, by the lock of the queue.
        self.state.compare_exchange(WAITING, token + 1, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Returns whether somebody has claimed it already.
    #[inline]
    pub fn is_claimed(&self) -> bool {
        // Relaxed: a hint, for a caller that holds the lock of one queue of several.
        self.state.load(Ordering::Relaxed) != WAITING
    }

    /// Returns the token of the claim, if there was one.
    #[inline]
    pub fn token(&self) -> Option<usize> {
        // Acquire pairs with the release half of the claim.
        self.state.load(Ordering::Acquire).checked_sub(1)
    }

    /// Parks until claimed and unparked; returns the claim's token.
    ///
    /// Inlined into its caller, and so are the callers that matter. The switch makes the processor
    /// forget its predicted return addresses; each function between the switch and the user's code
    /// costs 5 ns by that (inlining took a yield from 22 ns to 5). Debug builds do not inline: the
    /// user's function would get a frame of several KiB.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub fn park(&self, reason: WaitReason) -> usize {
        if let Who::Goroutine(g) = &self.who {
            // SAFETY: this goroutine is running, by the contract of `current`, so its record is
            // alive.
            unsafe {
                switch::park(*g, reason, &self.answer);
                g.as_ref().follow();
            }
        } else {
            self.park_thread(reason);
        }
        self.claimed_token()
    }

    #[cold]
    fn park_thread(&self, reason: WaitReason) {
        let Who::Thread(parker) = &self.who else { unreachable!("a future does not park") };
        parker.park(reason);
    }

    /// Returns the token of a wait that has been unparked.
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn claimed_token(&self) -> usize {
        self.token().unwrap_or_else(unparked_without_claim)
    }

    /// Parks until claimed, at most until `deadline`: the token is then [`TIMED_OUT`].
    pub fn park_until(&self, reason: WaitReason, deadline: Option<Instant>) -> usize {
        let Some(deadline) = deadline else { return self.park(reason) };
        debug_assert!(!self.in_one_queue, "the deadline's timer claims it under another lock");
        match &self.who {
            Who::Goroutine(g) => {
                let timer = SleepTimer::new(self);
                // SAFETY: `timer` and `self` stay where they are until the timer has fired or
                // `stop` has returned; both are dropped later.
                unsafe { timer.start(deadline) };
                // SAFETY: this goroutine is running, now and after the park, so its record is
                // alive.
                let flags = unsafe { &g.as_ref().notes.flags };
                let before = flags.set_deadline();
                let token = self.park(reason);
                flags.restore(before);
                if token != TIMED_OUT {
                    timer.stop();
                }
                token
            }
            Who::Thread(parker) => {
                if !parker.park_until(deadline) && self.try_claim(TIMED_OUT) {
                    return TIMED_OUT;
                }
                // Either unparked in time, or claimed by another whose unpark is under way: wait
                // for it.
                if !parker.take_token() {
                    parker.park(reason);
                }
                self.claimed_token()
            }
            Who::Task(_) => unreachable!("a future does not park"),
        }
    }
}

impl Who {
    #[cold]
    fn this_thread() -> Who {
        Who::Thread(Parker::current())
    }
}

#[cold]
fn unparked_without_claim() -> usize {
    // Waiters lie on this stack: a panic here would leave them queued.
    report(format_args!("unparked without a claim; this is a bug in goby, or in a primitive built on it"));
    std::process::abort()
}

impl fmt::Debug for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wait").field("token", &self.token()).finish_non_exhaustive()
    }
}

/// Parks until `deadline`.
///
/// # Blocking
///
/// The goroutine, or the OS thread. Source: Go's `time.Sleep`.
///
/// ```
/// use std::time::{Duration, Instant};
/// let start = Instant::now();
/// goby_runtime::sleep_until(start + Duration::from_millis(5));
/// assert!(start.elapsed() >= Duration::from_millis(5));
/// ```
pub fn sleep_until(deadline: Instant) {
    if deadline <= policy::now() {
        return yield_now();
    }
    // SAFETY: the wait is shown only to the deadline's timer.
    let token = unsafe { Wait::current() }.park_until(WaitReason::Sleep, Some(deadline));
    debug_assert_eq!(token, TIMED_OUT);
}
