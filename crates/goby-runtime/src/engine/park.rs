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
//! A goroutine or an OS thread parks on its [`Wait`]. A future does not park: it has a
//! [`TaskWait`], whose claim wakes a `std::task::Waker`, and it asks for the claim in `poll`, under
//! the lock that the claimer held.
//!
//! [`TaskWait`]: crate::TaskWait

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Instant;

use crate::base::answer::Answer;
use crate::base::claim::ClaimWord;
use crate::base::policy;
use crate::base::report::report;
use crate::engine::checkpoint::yield_now;
use crate::engine::goroutine::Goroutine;
use crate::engine::io::timer::SleepTimer;
use crate::engine::parker::Parker;
use crate::engine::unparker::Unparker;
use crate::engine::wait_reason::WaitReason;
use crate::engine::{carried, switch, worker};

/// The token of a wait that its deadline ended.
pub const TIMED_OUT: usize = usize::MAX - 1;

/// One wait of a goroutine or an OS thread, which parks on it.
pub struct Wait {
    word: ClaimWord,
    /// The wait is shown to one queue only, whose lock orders the claims, or to one claimer.
    in_one_queue: bool,
    answer: Answer,
    who: Who,
}

/// The one that parks.
enum Who {
    Goroutine(NonNull<Goroutine>),
    /// A goroutine that carries something, see `carried.rs`.
    Carrier(NonNull<Goroutine>),
    Thread(Arc<Parker>),
}

// SAFETY: a shared `Wait` is claimed, which changes only the word and the answer, both atomic;
// `who` never changes, and any thread may unpark by it. Or it is parked on: only by its maker, by
// the contract of `current`. It is not `Send`, since its maker's thread parks on it.
unsafe impl Sync for Wait {}

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
        worker::current_goroutine().map(|g| Wait::of_running(g, false))
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

    #[cfg_attr(not(debug_assertions), inline(always))]
    fn of_current(in_one_queue: bool) -> Wait {
        // The wait is made in each branch. If `Who` were made first and moved then, it would be
        // copied.
        match worker::current_goroutine() {
            Some(g) => Wait::of_running(g, in_one_queue),
            None => Wait::of(Who::this_thread(), in_one_queue),
        }
    }

    #[cfg_attr(not(debug_assertions), inline(always))]
    fn of_running(g: NonNull<Goroutine>, in_one_queue: bool) -> Wait {
        // SAFETY: it is running, so its record is alive.
        if unsafe { g.as_ref() }.notes.flags.carries() {
            return Wait::of_carrier(g, in_one_queue);
        }
        Wait::of(Who::Goroutine(g), in_one_queue)
    }

    #[cold]
    fn of_carrier(g: NonNull<Goroutine>, in_one_queue: bool) -> Wait {
        Wait { answer: Answer::looking(), ..Wait::of(Who::Carrier(g), in_one_queue) }
    }

    #[cfg_attr(not(debug_assertions), inline(always))]
    fn of(who: Who, in_one_queue: bool) -> Wait {
        Wait { word: ClaimWord::new(), in_one_queue, answer: Answer::new(), who }
    }

    /// Ends the wait with `token`, unless another claim has ended it. The caller must unpark, after
    /// it has released its locks.
    #[cfg_attr(not(debug_assertions), inline(always))]
    #[must_use = "a claimed waiter must be unparked"]
    pub fn claim(&self, token: usize) -> Option<Unparker> {
        if self.in_one_queue {
            self.word.claim_alone(token);
        } else if !self.word.claim(token) {
            return None;
        }
        Some(match &self.who {
            Who::Goroutine(g) => Unparker::of_goroutine(*g, NonNull::from(&self.answer)),
            _ => self.rare_unparker(),
        })
    }

    #[cold]
    fn rare_unparker(&self) -> Unparker {
        match &self.who {
            Who::Goroutine(g) => Unparker::of_goroutine(*g, NonNull::from(&self.answer)),
            Who::Carrier(g) => Unparker::of_carrier(*g, NonNull::from(&self.answer)),
            Who::Thread(parker) => Unparker::of_thread(parker.clone()),
        }
    }

    /// Returns whether somebody has claimed it already.
    #[inline]
    pub fn is_claimed(&self) -> bool {
        self.word.is_claimed()
    }

    /// Returns the token of the claim, if there was one.
    #[inline]
    pub fn token(&self) -> Option<usize> {
        self.word.token()
    }

    /// Parks until claimed and unparked; returns the claim's token.
    ///
    /// Inlined into its caller, and so are the callers that matter. The switch makes the processor
    /// forget its predicted return addresses; each function between the switch and the user's code
    /// costs 5 ns by that (inlining took a yield from 22 ns to 5). Debug builds do not inline: the
    /// user's function would get a frame of several KiB.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub fn park(&self, reason: WaitReason) -> usize {
        match &self.who {
            // SAFETY: this goroutine is running, by the contract of `current`, so its record is
            // alive.
            Who::Goroutine(g) => unsafe {
                switch::park(*g, reason, &self.answer);
                g.as_ref().follow();
            },
            _ => self.park_rare(reason),
        }
        self.claimed_token()
    }

    #[cold]
    fn park_rare(&self, reason: WaitReason) {
        match &self.who {
            Who::Goroutine(g) | Who::Carrier(g) => self.park_carrier(*g, reason),
            Who::Thread(parker) => parker.park(reason),
        }
    }

    /// Parks a goroutine that carries something. Until it has taken that off it looks for its
    /// answer: so whatever it waits for meanwhile, the unpark of this wait does not resume it.
    fn park_carrier(&self, g: NonNull<Goroutine>, reason: WaitReason) {
        // SAFETY: this goroutine is running, by the contract of `current`, so its record is alive.
        let header = unsafe { g.as_ref() };
        carried::away(header, |keeper| {
            let is_unparked = self.answer.give_up() || keeper.is_some_and(|keeper| carried::stay(g, keeper));
            if !is_unparked {
                // SAFETY: as above.
                unsafe { switch::park(g, reason, &self.answer) };
            }
            header.follow();
        });
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
            Who::Goroutine(g) | Who::Carrier(g) => {
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
                if !parker.park_until(reason, deadline) && self.word.claim(TIMED_OUT) {
                    return TIMED_OUT;
                }
                // Either unparked in time, or claimed by another whose unpark is under way: wait
                // for it.
                if !parker.take_token() {
                    parker.park(reason);
                }
                self.claimed_token()
            }
        }
    }
}

impl Who {
    #[cold]
    fn this_thread() -> Who {
        worker::assert_may_sleep();
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
