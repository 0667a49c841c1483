//! The duty to unpark a waiter.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::task::{RawWakerVTable, Waker};

use crate::base::answer::Answer;
use crate::base::prefetch::prefetch;
use crate::engine::errand::Notice;
use crate::engine::goroutine::Goroutine;
use crate::engine::parker::Parker;
use crate::engine::switch;

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
/// A goroutine that carries something, see `carried.rs`.
const CARRIER: usize = 5;
const _: () = assert!(
    align_of::<Goroutine>() > KIND && align_of::<Parker>() > KIND && align_of::<RawWakerVTable>() > KIND,
    "the low bits are free"
);

/// What an unparker holds that is not of an ordinary goroutine.
enum Rare {
    Carrier(NonNull<Goroutine>, NonNull<Answer>),
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
    pub(super) fn of_goroutine(g: NonNull<Goroutine>, answer: NonNull<Answer>) -> Unparker {
        Unparker { first: g.cast(), second: answer.as_ptr().cast_const().cast() }
    }

    #[cold]
    pub(super) fn of_carrier(g: NonNull<Goroutine>, answer: NonNull<Answer>) -> Unparker {
        Unparker::tagged(g.as_ptr().cast_const().cast(), CARRIER, answer.as_ptr().cast_const().cast())
    }

    #[cold]
    pub(super) fn of_thread(parker: Arc<Parker>) -> Unparker {
        Unparker::tagged(Arc::into_raw(parker).cast(), THREAD, ptr::null())
    }

    #[cold]
    pub(super) fn of_task(notice: Option<Notice>) -> Unparker {
        let Some((waker, is_own)) = notice.map(Notice::into_waker) else {
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
        unsafe { g.as_ref() }.precede();
        // SAFETY: of a goroutine, so the second word is its answer. Claimed by `self`, and not
        // unparked before.
        unsafe { switch::unpark(g, NonNull::new_unchecked(this.second.cast_mut().cast())) };
    }

    /// Prefetches the memory that an unpark will use.
    #[inline]
    pub(super) fn prefetch(&self) {
        match self.kind() {
            0 => Goroutine::prefetch(self.first.cast()),
            OWN_TASK | FOREIGN_TASK => prefetch(self.second),
            _ => {}
        }
    }

    #[cold]
    fn unpark_rare(self) {
        match self.into_rare() {
            Rare::Carrier(g, answer) => {
                // SAFETY: claimed and not yet unparked, so the record is alive.
                unsafe { g.as_ref() }.precede();
                // SAFETY: claimed by `self`, and not unparked before.
                unsafe { switch::unpark_carrier(g, answer) };
            }
            Rare::Thread(parker) => parker.unpark(),
            Rare::Task(notice) => notice.wake(),
            Rare::Nobody => {}
        }
    }

    /// Takes apart one that is not of an ordinary goroutine.
    fn into_rare(self) -> Rare {
        let this = ManuallyDrop::new(self);
        let first = this.first.as_ptr().map_addr(|address| address & !KIND).cast_const();
        match this.kind() {
            CARRIER => {
                // SAFETY: `of_carrier` has put two pointers together, neither of which is null.
                unsafe {
                    let answer = NonNull::new_unchecked(this.second.cast_mut().cast());
                    Rare::Carrier(NonNull::new_unchecked(first.cast_mut().cast()), answer)
                }
            }
            // SAFETY: from `Arc::into_raw`, in `of_thread`; `this` is not used again.
            THREAD => Rare::Thread(unsafe { Arc::from_raw(first.cast()) }),
            kind @ (OWN_TASK | FOREIGN_TASK) => {
                // SAFETY: the parts of a waker that `of_task` did not drop; `this` is not used
                // again.
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
