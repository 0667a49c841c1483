//! The goroutine switch: corosensei's, behind functions that are neither generic nor inlined into
//! other crates' code.
//!
//! This is a crate of its own because its *rules* differ: under ThreadSanitizer it alone must be
//! built without instrumentation (`-Cllvm-args=-tsan-instrument-func-entry-exit=0 …`, see `goby
//! race`). Instrumented code enters and leaves functions in pairs. A switch does not, so TSan's
//! shadow call stack would drift with every switch.
//!
//! A [`Fiber`] is one suspended or finished run of a function on a stack of its own. It is `!Send`:
//! values on its stack may point into the thread that started it
//! (`docs/decisions/01-pinned-goroutines.md`).

use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use corosensei::stack::{Stack, StackPointer};
use corosensei::{Coroutine, CoroutineResult, Yielder};

mod tsan;

pub use tsan::FiberTag;

/// The bounds of a stack. The memory belongs to the code that made it.
#[derive(Clone, Copy, Debug)]
pub struct RawStack {
    base: StackPointer,
    limit: StackPointer,
}

impl RawStack {
    /// Describes the stack from `limit` (lowest address, guard page included) to `base` (just past
    /// the highest).
    ///
    /// # Safety
    ///
    /// Both addresses are page aligned, and at least two pages lie between them. The lowest page
    /// faults on every access; the others can be read and written. The memory stays so for as long
    /// as a [`Fiber`] uses it.
    ///
    /// # Panics
    ///
    /// When an address is zero.
    #[inline]
    pub unsafe fn new(base: usize, limit: usize) -> RawStack {
        RawStack {
            base: StackPointer::new(base).expect("a stack does not end at zero"),
            limit: StackPointer::new(limit).expect("a stack does not begin at zero"),
        }
    }

    /// Returns the address just past the highest byte.
    #[inline]
    pub fn base(&self) -> usize {
        self.base.get()
    }
}

// SAFETY: the caller of `RawStack::new` promised a guard page at `limit` and at least a page above
// it.
unsafe impl Stack for RawStack {
    #[inline]
    fn base(&self) -> StackPointer {
        self.base
    }

    #[inline]
    fn limit(&self) -> StackPointer {
        self.limit
    }
}

/// The function that a fiber runs: it gets the argument given to [`Fiber::new`] and its own
/// [`Suspender`]. It must not unwind.
pub type Entry = unsafe fn(*mut (), Suspender);

/// One run of an [`Entry`] on a stack of its own.
///
/// Dropping a fiber that has not finished leaks what is on its stack: nothing is unwound, and the
/// memory must never be used again (`docs/decisions/06-unfinished-stacks.md`).
pub struct Fiber {
    coroutine: ManuallyDrop<Coroutine<(), (), (), RawStack>>,
    tag: FiberTag,
}

impl fmt::Debug for Fiber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fiber").field("done", &self.coroutine.done()).finish_non_exhaustive()
    }
}

impl Fiber {
    /// Prepares `entry(arg, …)` to run on `stack` at the first [`resume`](Fiber::resume).
    ///
    /// # Safety
    ///
    /// Nothing else uses the stack until the fiber has finished. `entry` does not unwind, and may
    /// be called with `arg` on the thread that resumes the fiber.
    #[cfg_attr(goby_tsan, inline(never))]
    #[cfg_attr(not(goby_tsan), inline)]
    pub unsafe fn new(stack: RawStack, entry: Entry, arg: *mut (), tag: FiberTag) -> Fiber {
        let body = move |yielder: &Yielder<(), ()>, ()| {
            // SAFETY: the caller of `new` promised that `entry` may be called with `arg`.
            unsafe { entry(arg, Suspender(NonNull::from(yielder))) };
            tsan::leave();
        };
        // SAFETY: `body` owns raw pointers only, so there is no borrow to outlive. The stack is
        // ours by contract.
        let coroutine = unsafe { Coroutine::with_stack_unchecked(stack, body) };
        Fiber { coroutine: ManuallyDrop::new(coroutine), tag }
    }

    /// Runs the fiber until it suspends or finishes. Returns false when it has finished.
    ///
    /// # Panics
    ///
    /// When the fiber has finished before.
    #[cfg_attr(goby_tsan, inline(never))]
    #[cfg_attr(not(goby_tsan), inline)]
    pub fn resume(&mut self) -> bool {
        tsan::enter(self.tag);
        matches!(self.coroutine.resume(()), CoroutineResult::Yield(()))
    }
}

/// Leads from inside a fiber back to the code that resumed it.
#[derive(Clone, Copy, Debug)]
pub struct Suspender(NonNull<Yielder<(), ()>>);

impl Suspender {
    /// Returns an address at the bottom of the fiber's stack.
    #[inline]
    pub fn address(self) -> *const () {
        self.0.as_ptr().cast()
    }

    /// Suspends the fiber until it is resumed again.
    ///
    /// # Safety
    ///
    /// It is called on the fiber that was given this suspender, and only there.
    #[cfg_attr(goby_tsan, inline(never))]
    #[cfg_attr(not(goby_tsan), inline)]
    pub unsafe fn suspend(self) {
        tsan::leave();
        // SAFETY: the yielder lives at the base of this fiber's stack for as long as the fiber
        // runs.
        unsafe { self.0.as_ref() }.suspend(());
    }
}
