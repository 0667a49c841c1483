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
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::task::{RawWakerVTable, Waker};
use std::time::Instant;

use crate::base::answer::Answer;
use crate::base::lock::Lock;
use crate::base::prefetch::prefetch;
use crate::base::primitive::{AtomicUsize, Ordering};
use crate::base::report::report;
use crate::base::{policy, tsan};
use crate::engine::errand::Notice;
use crate::engine::goroutine::Goroutine;
use crate::engine::io::timer::SleepTimer;
use crate::engine::parker::Parker;
use crate::engine::worker;
use crate::engine::worker::Worker;

/// Why a goroutine is parked. Dumps show the text. Do not use one reason for two things: add one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
#[allow(missing_docs)] // The texts below say it.
pub enum WaitReason {
    None,
    ChanReceive,
    ChanSend,
    ChanReceiveNil,
    ChanSendNil,
    Select,
    SelectNoCases,
    Sleep,
    IoWait,
    MutexLock,
    RwLockRead,
    RwLockWrite,
    CondWait,
    WaitGroupWait,
    SemaphoreAcquire,
    BarrierWait,
    LatchWait,
    OnceWait,
    Join,
    ScopeWait,
    BlockOn,
    Blocking,
    ContextDone,
    Inspect,
    Yield,
}

/// All reasons, each at the index that is its number.
const REASONS: [WaitReason; 25] = [
    WaitReason::None,
    WaitReason::ChanReceive,
    WaitReason::ChanSend,
    WaitReason::ChanReceiveNil,
    WaitReason::ChanSendNil,
    WaitReason::Select,
    WaitReason::SelectNoCases,
    WaitReason::Sleep,
    WaitReason::IoWait,
    WaitReason::MutexLock,
    WaitReason::RwLockRead,
    WaitReason::RwLockWrite,
    WaitReason::CondWait,
    WaitReason::WaitGroupWait,
    WaitReason::SemaphoreAcquire,
    WaitReason::BarrierWait,
    WaitReason::LatchWait,
    WaitReason::OnceWait,
    WaitReason::Join,
    WaitReason::ScopeWait,
    WaitReason::BlockOn,
    WaitReason::Blocking,
    WaitReason::ContextDone,
    WaitReason::Inspect,
    WaitReason::Yield,
];

// No reason is missing, and none is out of place.
const _: () = {
    let mut i = 0;
    while i < REASONS.len() {
        assert!(REASONS[i] as usize == i);
        i += 1;
    }
    assert!(REASONS.len() == WaitReason::Yield as usize + 1);
};

impl WaitReason {
    pub(crate) fn from_number(number: u8) -> WaitReason {
        REASONS.get(usize::from(number)).copied().unwrap_or(WaitReason::None)
    }

    /// Returns the words that dumps use: Go's, if Go has them.
    pub fn as_str(self) -> &'static str {
        match self {
            WaitReason::None => "running",
            WaitReason::ChanReceive => "chan receive",
            WaitReason::ChanSend => "chan send",
            WaitReason::ChanReceiveNil => "chan receive (nil chan)",
            WaitReason::ChanSendNil => "chan send (nil chan)",
            WaitReason::Select => "select",
            WaitReason::SelectNoCases => "select (no cases)",
            WaitReason::Sleep => "sleep",
            WaitReason::IoWait => "IO wait",
            WaitReason::MutexLock => "sync.Mutex.Lock",
            WaitReason::RwLockRead => "sync.RWMutex.RLock",
            WaitReason::RwLockWrite => "sync.RWMutex.Lock",
            WaitReason::CondWait => "sync.Cond.Wait",
            WaitReason::WaitGroupWait => "sync.WaitGroup.Wait",
            WaitReason::SemaphoreAcquire => "semacquire",
            WaitReason::BarrierWait => "barrier wait",
            WaitReason::LatchWait => "latch wait",
            WaitReason::OnceWait => "sync.Once.Do",
            WaitReason::Join => "join",
            WaitReason::ScopeWait => "scope wait",
            WaitReason::BlockOn => "block_on",
            WaitReason::Blocking => "blocking call",
            WaitReason::ContextDone => "context done",
            WaitReason::Inspect => "running",
            WaitReason::Yield => "runnable",
        }
    }
}

impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `flags` of a goroutine: a timer ends its wait. Set and cleared by `park_until`. A timer that
/// [`with_reach`] names is not in this flag: it has to be asked.
pub(crate) const HAS_DEADLINE: u8 = 1;
/// `flags` of a goroutine: a context ends its wait. Set and cleared by [`with_reach`].
pub(crate) const HAS_CONTEXT: u8 = 2;

/// `flags` of a goroutine: it ends by `goexit`. Set by `goexit`, never cleared.
pub(crate) const EXITING: u8 = 4;

/// The flags that reports show.
pub(crate) const REPORTED: u8 = HAS_DEADLINE | HAS_CONTEXT | EXITING;
/// `flags` of a goroutine: the next goroutine that it starts is to be spread. Set by
/// [`spread_next`](worker::spread_next), cleared by that start, if it is a start in the same
/// runtime.
pub(crate) const SPREADS: u8 = 8;
/// `flags` of a goroutine: it was started to be spread. Never cleared.
pub(crate) const SPREAD: u8 = 16;
/// `flags` of a goroutine: it has a stack of its own size, from its start on. Never cleared.
pub(crate) const OWN_STACK: u8 = 32;
/// `flags` of a goroutine: its runtime was shut down before it ran. Set by the thread or goroutine
/// that ends it, before its result is stored.
pub(crate) const NEVER_RAN: u8 = 64;

/// Runs `f`, which parks, and lets reports say what can end the wait besides its peer: a context
/// that is done (`context`), or a timer (`timer`), as long as `timer` says that it is armed. On a
/// thread it only runs `f`.
///
/// `timer` is called while the goroutine is parked, by its worker between two goroutines. It may
/// take short locks, and do nothing that takes longer.
#[inline]
pub fn with_reach<R>(context: bool, timer: Option<IsArmed<'_>>, f: impl FnOnce() -> R) -> R {
    if !context && timer.is_none() {
        return f();
    }
    let Some(g) = worker::current_goroutine() else { return f() };
    // SAFETY: the goroutine runs here, now and until `_reset` is dropped, so its record is alive.
    let header = unsafe { g.as_ref() };
    let _reset = Reset { header, flags: header.flags.get(), timer: header.timer.get() };
    header.flags.set(header.flags.get() | if context { HAS_CONTEXT } else { 0 });
    header.timer.set(timer.as_ref().map_or(ptr::null(), |timer| ptr::from_ref(timer).cast()));
    f()
}

/// Says whether the timer that may end a wait is armed: neither fired nor stopped.
pub type IsArmed<'a> = &'a dyn Fn() -> bool;

/// Undoes what [`with_reach`] has set, however its `f` ends.
struct Reset<'a> {
    header: &'a Goroutine,
    flags: u8,
    timer: *const (),
}

impl Drop for Reset<'_> {
    fn drop(&mut self) {
        self.header.flags.set(self.flags);
        self.header.timer.set(self.timer);
    }
}

/// Returns what reports show of a parked goroutine's wait: the [`REPORTED`] flags, with
/// [`HAS_DEADLINE`] if the timer that may end the wait is armed now.
///
/// # Safety
///
/// The goroutine is alive, and suspended on the calling worker.
pub(crate) unsafe fn reported_flags(header: &Goroutine) -> u8 {
    let flags = header.flags.get() & REPORTED;
    let timer = header.timer.get().cast::<IsArmed<'_>>();
    // SAFETY: null, or the argument of a `with_reach` that has not returned: the goroutine is
    // suspended inside that call, on this thread.
    let is_armed = unsafe { timer.as_ref() }.is_some_and(|is_armed| is_armed());
    if is_armed { flags | HAS_DEADLINE } else { flags }
}

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
                worker::park(*g, reason, &self.answer);
                tsan::acquire(g.as_ref().edge());
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
                let flags = unsafe { &g.as_ref().flags };
                let before = flags.replace(flags.get() | HAS_DEADLINE);
                let token = self.park(reason);
                flags.set(before);
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

/// The duty to unpark a waiter whose wait has been claimed.
///
/// Two words that stay in registers. An enum with two words in each of its kinds went through the
/// stack, where it was stored by words and loaded whole: the processor forwards no such load
/// (pingpong 36 ns, 63 then).
#[must_use = "a claimed waiter must be unparked"]
pub struct Unparker {
    /// The goroutine, the thread's parker or the vtable of a future's waker; which of them it is
    /// stands in the low bits.
    first: NonNull<()>,
    /// The answer of the goroutine's wait, or the data of the waker.
    second: *const (),
}

/// The low bits of `first`. The goroutine's are zero.
const KIND: usize = 7;
const THREAD: usize = 1;
const OWN_TASK: usize = 2;
const FOREIGN_TASK: usize = 3;
/// A future that has not been polled yet, or that has been woken already.
const NOBODY: usize = 4;
const _: () = assert!(
    align_of::<Goroutine>() > KIND && align_of::<Parker>() > KIND && align_of::<RawWakerVTable>() > KIND,
    "the low bits are free"
);

/// What an unparker holds that is not of a goroutine.
enum Rare {
    Thread(Arc<Parker>),
    Task(Notice),
    Nobody,
}

// SAFETY: a parked goroutine's record stays alive until it is unparked, and any thread may unpark
// it. The others are `Send`.
unsafe impl Send for Unparker {}
// SAFETY: shared access allows nothing.
unsafe impl Sync for Unparker {}

impl Unparker {
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn of_goroutine(g: NonNull<Goroutine>, answer: NonNull<Answer>) -> Unparker {
        Unparker { first: g.cast(), second: answer.as_ptr().cast_const().cast() }
    }

    #[cold]
    fn of_thread(parker: Arc<Parker>) -> Unparker {
        Unparker::tagged(Arc::into_raw(parker).cast(), THREAD, ptr::null())
    }

    #[cold]
    fn of_task(slot: &Lock<Option<Notice>>) -> Unparker {
        let Some((waker, is_own)) = slot.lock().take().map(Notice::into_waker) else {
            return Unparker::tagged(ptr::null(), NOBODY, ptr::null());
        };
        let waker = ManuallyDrop::new(waker);
        let kind = if is_own { OWN_TASK } else { FOREIGN_TASK };
        Unparker::tagged(ptr::from_ref(waker.vtable()).cast(), kind, waker.data())
    }

    fn tagged(first: *const (), kind: usize, second: *const ()) -> Unparker {
        let first = NonNull::new(first.map_addr(|address| address | kind).cast_mut()).expect("a kind is not zero");
        Unparker { first, second }
    }

    #[cfg_attr(not(debug_assertions), inline(always))]
    fn kind(&self) -> usize {
        self.first.addr().get() & KIND
    }

    /// Makes the waiter runnable. The caller holds no lock that the waiter may take.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub fn unpark(self) {
        if self.kind() != 0 {
            return self.unpark_rare();
        }
        let this = ManuallyDrop::new(self);
        let g = this.first.cast::<Goroutine>();
        // SAFETY: claimed and not yet unparked, so the record is alive.
        tsan::release(unsafe { g.as_ref() }.edge());
        // SAFETY: of a goroutine, so the second word is its answer. Claimed by `self`, and not
        // unparked before.
        unsafe { worker::unpark(g, NonNull::new_unchecked(this.second.cast_mut().cast())) };
    }

    /// Prefetches the memory that an unpark will use.
    #[inline]
    fn prefetch(&self) {
        match self.kind() {
            0 => Goroutine::prefetch(self.first.cast()),
            OWN_TASK | FOREIGN_TASK => prefetch(self.second),
            _ => {}
        }
    }

    #[cold]
    fn unpark_rare(self) {
        match self.into_rare() {
            Rare::Thread(parker) => parker.unpark(),
            Rare::Task(notice) => notice.wake(),
            Rare::Nobody => {}
        }
    }

    /// Takes apart one that is not of a goroutine.
    fn into_rare(self) -> Rare {
        let this = ManuallyDrop::new(self);
        let first = this.first.as_ptr().map_addr(|address| address & !KIND).cast_const();
        match this.kind() {
            // SAFETY: from `Arc::into_raw`, in `of_thread`; `this` is not used again.
            THREAD => Rare::Thread(unsafe { Arc::from_raw(first.cast()) }),
            kind @ (OWN_TASK | FOREIGN_TASK) => {
                // SAFETY: the parts of a waker that `of_task` did not drop; `this` is not used again.
                let waker = unsafe { Waker::new(this.second, &*first.cast::<RawWakerVTable>()) };
                Rare::Task(Notice::from_waker(waker, kind == OWN_TASK))
            }
            _ => Rare::Nobody,
        }
    }
}

/// One that is dropped unparks nobody, and lets go of what it holds.
impl Drop for Unparker {
    #[inline]
    fn drop(&mut self) {
        if self.kind() != 0 {
            let rest = Unparker { first: self.first, second: self.second };
            drop(rest.into_rare());
        }
    }
}

impl fmt::Debug for Unparker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unparker(..)")
    }
}

/// Waiters to unpark once the lock is released: none, one or many. The first costs no allocation.
#[derive(Default)]
#[must_use = "claimed waiters must be unparked"]
pub struct WakeList {
    first: Option<Unparker>,
    rest: Vec<Unparker>,
}

impl WakeList {
    /// Makes an empty list.
    #[inline]
    pub const fn new() -> WakeList {
        WakeList { first: None, rest: Vec::new() }
    }

    /// Adds a waiter.
    #[inline]
    pub fn push(&mut self, unparker: Unparker) {
        if self.first.is_none() {
            self.first = Some(unparker);
        } else {
            self.rest.push(unparker);
        }
    }

    /// Unparks all, in the order in which they were added. Afterwards the list is empty, and keeps
    /// its memory.
    #[inline]
    pub fn unpark_all(&mut self) {
        if let Some(first) = self.first.take() {
            first.unpark();
            let mut rest = self.rest.drain(..);
            while let Some(unparker) = rest.next() {
                if let Some(later) = rest.as_slice().get(4) {
                    later.prefetch();
                }
                unparker.unpark();
            }
        }
    }
}

/// A claimer that panics must still unpark the waiters that it has claimed.
impl Drop for WakeList {
    #[inline]
    fn drop(&mut self) {
        self.unpark_all();
    }
}

impl fmt::Debug for WakeList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WakeList").field("len", &(usize::from(self.first.is_some()) + self.rest.len())).finish()
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

/// Goes to the back of the run queue, so that the worker's other goroutines run first.
///
/// Goroutines that have started come before unstarted ones: while two do nothing but yield to each
/// other, a third may begin only after some sixty rounds. In Go it would begin at once. On an OS
/// thread that is no worker it gives up the processor. Source: Go's `runtime.Gosched`.
///
/// ```
/// let handle = goby::go(|| 1);
/// goby::yield_now();
/// assert_eq!(handle.join().unwrap(), 1);
/// ```
#[cfg_attr(not(debug_assertions), inline(always))]
pub fn yield_now() {
    match Worker::current() {
        Some(worker) if worker.in_goroutine() => worker.yield_current(),
        _ => std::thread::yield_now(),
    }
}

/// Yields if this goroutine's time slice is over.
///
/// Every operation that can be repeated without parking calls it, whether it succeeds, fails or
/// only looks. So a loop of such operations does not starve the worker's other goroutines, timers
/// and sockets.
///
/// ```
/// // A computation that calls nothing else of goby.
/// let sum = (0..1000).fold(0, |sum, n| {
///     goby::checkpoint();
///     sum + n
/// });
/// assert_eq!(sum, 499_500);
/// ```
#[cfg_attr(not(debug_assertions), inline(always))]
pub fn checkpoint() {
    if let Some(worker) = Worker::current()
        && worker.slice_is_over()
    {
        worker.end_slice_of_current();
    }
}

/// Counts an operation that was refused because it would have to wait. After several in a row the
/// goroutine yields, if others are runnable on its worker. One of them may be the one that it waits
/// for, and its time slice may last a long time yet.
///
/// A refused operation calls it besides [`checkpoint`].
#[cfg_attr(not(debug_assertions), inline(always))]
pub fn refused() {
    if let Some(worker) = Worker::current() {
        worker.note_refusal();
    }
}

/// A [`checkpoint`] of an operation that only looks whether something has happened, and counts as
/// [`refused`].
#[cfg_attr(not(debug_assertions), inline(always))]
pub fn polled() {
    checkpoint();
    refused();
}
