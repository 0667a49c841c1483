//! A goroutine's record: one allocation that holds its state, its closure until it runs, and its
//! result until it is taken (`goroutine/record.rs`).
//!
//! # Who may touch what
//!
//! | field | may be touched by |
//! |---|---|
//! | `id`, `runtime`, `vtable`, `origin` | written by the starter; read by all that know it |
//! | `home` | written by the home worker before the first run; read by unparkers after a park |
//! | `link` | the one that holds the goroutine, for the queue that it is in |
//! | `notes`, `attributes` | the starter; from the first run on the home worker's thread |
//! | `stack.fiber` | the home worker, on its scheduler's stack; not initialized before that |
//! | `stack.slot` | the home worker's thread; for a stack of its own, the starter before that |
//! | `ending` | by its own protocol, see `ending` |
//! | `stage` (of the record) | the goroutine while it runs; then the holder that `ending` names |

mod flags;
mod record;

use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::mem::{self, MaybeUninit};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::panic::Location;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::thread;

use goby_switch::{Fiber, FiberTag, Suspender};

pub(crate) use self::flags::{Flags, Reported, Saved};
use self::record::VTable;
pub(crate) use self::record::create;
use crate::base::ending::{Duty, Ending};
use crate::base::inbox::Linked;
use crate::base::prefetch::prefetch;
use crate::base::primitive::AtomicPtr;
use crate::base::stack::{OwnStack, Slot};
use crate::base::unseen::Unseen;
use crate::base::{order, tsan};
use crate::engine::attributes::{Attributes, Inherited};
use crate::engine::errand;
use crate::engine::park::Wait;
use crate::engine::shared::Shared;
use crate::engine::unjoined::report_panic;
use crate::engine::wait_reason::WaitReason;
use crate::engine::worker::{self, Remote};

/// Names a goroutine; no two in the life of a process have the same.
///
/// ```
/// let handle = goby::go(|| ());
/// assert!(handle.id().as_u64() > 0);
/// # handle.join().unwrap();
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoroutineId(u64);

impl GoroutineId {
    /// Returns the number that reports and dumps show.
    pub fn as_u64(self) -> u64 {
        self.0
    }

    pub(crate) fn from_u64(id: u64) -> GoroutineId {
        GoroutineId(id)
    }

    /// Takes the next `n` numbers; returns the first.
    pub(crate) fn reserve(n: u64) -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        // Relaxed: only distinctness matters.
        NEXT.fetch_add(n, Ordering::Relaxed)
    }
}

impl fmt::Display for GoroutineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for GoroutineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GoroutineId({})", self.0)
    }
}

/// The part of the record whose type does not depend on the closure. Always the beginning of a
/// [`Record`](record). The table above says who may touch what.
pub(crate) struct Goroutine {
    pub(crate) id: GoroutineId,
    pub(crate) runtime: &'static Shared,
    vtable: &'static VTable,
    pub(crate) origin: Origin,
    /// The worker that runs it, null before the first run.
    home: AtomicPtr<Remote>,
    /// The next in the one queue that it is in: an inbox, or a chain of goroutines about to be
    /// unparked.
    link: AtomicPtr<Goroutine>,
    pub(crate) notes: Notes,
    pub(crate) attributes: Attributes,
    ending: Unseen<Ending<Wait>>,
    pub(crate) stack: StackState,
}

/// Where it comes from. Written at birth, read by reports.
pub(crate) struct Origin {
    pub(crate) spawned_at: &'static Location<'static>,
    /// The goroutine that started it; 0 for a thread.
    pub(crate) parent: u64,
    /// Its name for ThreadSanitizer.
    pub(crate) tag: FiberTag,
}

/// What is known of it besides. Written by the goroutine itself, or by the home worker's thread for
/// it; read by the same thread, which answers for reports. Only `reason` is read by others.
pub(crate) struct Notes {
    /// Why it is parked, as a [`WaitReason`]; for dumps. It is `None` exactly while the goroutine
    /// runs its own code, outside the switch.
    pub(crate) reason: AtomicU8,
    pub(crate) flags: Flags,
    /// Its place in its worker's registry.
    pub(crate) place: Cell<u32>,
    /// When it last parked, by the monitor's clock.
    pub(crate) since: Cell<u64>,
    /// The goroutine that it joins, while it waits for the end of that one.
    pub(crate) joins: Cell<u64>,
    /// An [`IsArmed`](crate::engine::reach::IsArmed) of its wait, on its stack, or null: see
    /// `reach::with_reach`.
    pub(crate) timer: Cell<*const ()>,
}

/// Its stack, and the way onto it. Written and read by the home worker's thread.
pub(crate) struct StackState {
    pub(crate) fiber: UnsafeCell<MaybeUninit<Fiber>>,
    pub(crate) suspender: Cell<MaybeUninit<Suspender>>,
    pub(crate) slot: Cell<Option<Slot>>,
    /// How much of its own stack it may use; none if its stack is one of the pool's.
    own_size: Option<NonZeroUsize>,
}

impl Goroutine {
    /// Prefetches the part of a record that a resume uses.
    #[inline]
    pub(crate) fn prefetch(g: NonNull<Goroutine>) {
        // SAFETY: no reference is made, and nothing is read.
        prefetch(unsafe { &raw const (*g.as_ptr()).stack.fiber });
    }

    /// Prefetches the bottom of the stack: most goroutines that wait are suspended near it.
    #[inline]
    pub(crate) fn prefetch_stack(&self) {
        // SAFETY: only started ones are queued.
        let at = unsafe { self.stack.suspender.get().assume_init() }.address();
        prefetch(at);
        prefetch(at.wrapping_byte_sub(256));
        prefetch(at.wrapping_byte_sub(512));
    }
}

impl Linked for Goroutine {
    fn link(&self) -> &AtomicPtr<Goroutine> {
        &self.link
    }
}

/// What a record is made of, beside the closure.
pub(crate) struct Start {
    pub(crate) id: u64,
    pub(crate) runtime: &'static Shared,
    pub(crate) spawned_at: &'static Location<'static>,
    pub(crate) tag: FiberTag,
    /// Whether there will be a handle.
    pub(crate) is_joined: bool,
    pub(crate) parent: u64,
    pub(crate) inherited: Option<Arc<Inherited>>,
    pub(crate) name: Option<Arc<str>>,
    /// A stack that no other goroutine is given.
    pub(crate) own_stack: Option<OwnStack>,
}

impl Goroutine {
    /// Makes the header of an unstarted goroutine.
    #[inline(always)]
    fn new(start: Start, vtable: &'static VTable) -> Goroutine {
        Goroutine {
            id: GoroutineId(start.id),
            runtime: start.runtime,
            vtable,
            origin: Origin { spawned_at: start.spawned_at, parent: start.parent, tag: start.tag },
            home: AtomicPtr::new(ptr::null_mut()),
            link: AtomicPtr::new(ptr::null_mut()),
            notes: Notes {
                reason: AtomicU8::new(WaitReason::Yield as u8),
                flags: Flags::new(start.own_stack.is_some()),
                place: Cell::new(0),
                since: Cell::new(0),
                joins: Cell::new(0),
                timer: Cell::new(ptr::null()),
            },
            attributes: Attributes::new(start.inherited, start.name),
            ending: Unseen::new(if start.is_joined { Ending::joined() } else { Ending::detached() }),
            stack: StackState {
                fiber: UnsafeCell::new(MaybeUninit::uninit()),
                suspender: Cell::new(MaybeUninit::uninit()),
                slot: Cell::new(start.own_stack.map(|own| own.slot())),
                own_size: start.own_stack.map(|own| own.size()),
            },
        }
    }

    /// Returns the worker it is pinned to.
    #[inline]
    pub(crate) fn home(&self) -> &'static Remote {
        // Relaxed: the park, and so the first run, happens before the unpark, by the lock of the
        // primitive that the goroutine waited for.
        // SAFETY: remotes live forever, and a goroutine that parks has a home.
        unsafe { &*self.home.load(Ordering::Relaxed) }
    }

    /// Returns a number that stands for that worker; 0 before the first run.
    pub(crate) fn home_address(&self) -> usize {
        self.home.load(Ordering::Relaxed).addr()
    }

    /// Returns whether it has begun to run. Called only by the thread that holds the goroutine.
    #[inline]
    pub(crate) fn is_pinned(&self) -> bool {
        // Relaxed: only this thread writes it; it was null when the goroutine was left in this
        // thread's inbox.
        !self.home.load(Ordering::Relaxed).is_null()
    }

    /// Says that the caller's actions come before those after `follow`: the goroutine's start
    /// before its cancellation, an unpark before the park's return, its end before the join.
    #[inline]
    pub(crate) fn precede(&self) {
        order::precede(&raw const self.id);
    }

    /// The other end of [`precede`](Goroutine::precede).
    #[inline]
    pub(crate) fn follow(&self) {
        order::follow(&raw const self.id);
    }

    /// Returns its stack, if it is of a size of its own.
    pub(crate) fn own_stack(&self) -> Option<OwnStack> {
        if !self.notes.flags.has_own_stack() {
            return None;
        }
        Some(OwnStack::new(self.stack.slot.get()?, self.stack.own_size?))
    }

    /// Returns the part of its stack that it may use, once it has one.
    pub(crate) fn usable_stack(&self) -> Option<Range<usize>> {
        let of_pool = || self.stack.slot.get().map(|slot| self.runtime.stacks.pool.usable(slot));
        self.own_stack().map(|own| own.usable()).or_else(of_pool)
    }

    /// Returns the part of its stack that faults, once it has one.
    pub(crate) fn guard(&self) -> Option<Range<usize>> {
        let of_pool = || self.stack.slot.get().map(|slot| self.runtime.stacks.pool.guard(slot));
        self.own_stack().map(|own| own.guard()).or_else(of_pool)
    }

    /// Pins it, before the first run.
    pub(crate) fn pin(&self, home: &'static Remote) {
        self.home.store(ptr::from_ref(home).cast_mut(), Ordering::Relaxed);
    }
}

impl fmt::Debug for Goroutine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Goroutine")
            .field("id", &self.id)
            .field("spawned_at", &self.origin.spawned_at)
            .finish_non_exhaustive()
    }
}

/// Runs the goroutine at `arg`, on its own stack: here a fiber begins.
///
/// # Safety
///
/// `arg` is an unstarted goroutine that the calling fiber was made for.
pub(crate) unsafe fn entry(arg: *mut (), suspender: Suspender) {
    // SAFETY: `arg` came from `NonNull::as_ptr` of a live record.
    let g = unsafe { NonNull::new_unchecked(arg.cast::<Goroutine>()) };
    // SAFETY: the record outlives the fiber.
    let header = unsafe { g.as_ref() };
    header.stack.suspender.set(MaybeUninit::new(suspender));
    let home = header.home();
    let thread = &home.index;
    order::follow(thread);
    header.notes.reason.store(WaitReason::None as u8, Ordering::Relaxed);
    // SAFETY: unstarted, by contract.
    unsafe { (header.vtable.run)(g) };
    if !header.attributes.is_empty() {
        clear_attributes(header);
    }
    // From here on it is on its way to the switch.
    header.notes.reason.store(WaitReason::Yield as u8, Ordering::Relaxed);
    tsan::end_on_thread(thread);
    // Pairs with the end of the worker, which destroys the thread's locals.
    order::precede(&raw const home.shared);
    // Last: the holder that acquires this frees the record.
    header.precede();
}

/// Drops a goroutine's locals at its end, on its own stack: their destructors are user code, and
/// may park.
#[cold]
fn clear_attributes(g: &Goroutine) {
    errand::assert_allowed();
    g.attributes.clear(|payload| {
        report_panic(g, &*payload);
        mem::forget(payload);
    });
    g.attributes.leak();
}

/// Ends a goroutine. Its home worker calls it once the goroutine's stack is free.
///
/// # Safety
///
/// The goroutine's fiber has finished, or it was canceled before it had one; the scheduler forgets
/// `g`.
pub(crate) unsafe fn end(g: NonNull<Goroutine>) {
    // SAFETY: the scheduler still holds it.
    let header = unsafe { g.as_ref() };
    // Read before `ending.end`: after it the handle may free the record.
    let vtable = header.vtable;
    tsan::retire(header.origin.tag);
    match header.ending.with(Ending::end) {
        Duty::None => {}
        // SAFETY: the handle is gone, so the scheduler is the last.
        Duty::Free => unsafe { (vtable.free)(g) },
        Duty::Unpark(waiter) => {
            // SAFETY: a joiner's `Wait` lives until it is unparked, and only this code unparks it.
            if let Some(unparker) = unsafe { &*waiter }.claim(0) {
                unparker.unpark();
            }
        }
    }
}

/// Ends a goroutine that will never run.
///
/// # Safety
///
/// It is unstarted, in no queue, and the scheduler forgets it.
pub(crate) unsafe fn never_run(g: NonNull<Goroutine>) {
    // SAFETY: by contract.
    unsafe {
        g.as_ref().follow();
        (g.as_ref().vtable.cancel)(g);
        if let Some(own) = g.as_ref().own_stack() {
            g.as_ref().runtime.stacks.pool.give_own(own);
        }
        // As in `entry`: the holder that acquires this frees the record. From here on edges are
        // ignored, as on a scheduler.
        g.as_ref().precede();
        let _ignore = tsan::ignore();
        end(g);
    }
}

/// Parks until `g` has ended, and takes its result. Inlined into its caller as [`Wait::park`] is:
/// otherwise spawning and joining took a fifth longer.
///
/// # Safety
///
/// `g` is a goroutine with result type `T`, and the caller its handle, which is used up.
#[cfg_attr(not(debug_assertions), inline(always))]
pub(crate) unsafe fn join<T>(g: NonNull<Goroutine>) -> thread::Result<T> {
    // SAFETY: the handle holds the record.
    let header = unsafe { g.as_ref() };
    if !has_ended(header) {
        if let Some(joiner) = worker::current_goroutine() {
            // SAFETY: it is the running goroutine, so its record is alive.
            unsafe { joiner.as_ref() }.notes.joins.set(header.id.0);
        }
        // SAFETY: if the wait is shown, this goroutine parks on it. It is shown to `end`, the only
        // claimer, which also unparks.
        let wait = unsafe { Wait::in_one_queue() };
        let is_shown = header.ending.with(|ending| ending.show(&wait));
        if is_shown {
            wait.park(WaitReason::Join);
        }
    }
    header.follow();
    let mut result = MaybeUninit::<thread::Result<T>>::uninit();
    // SAFETY: `g` has ended. So its result is stored and belongs to the handle, and the scheduler
    // has let go of the record.
    unsafe {
        (header.vtable.take)(g, result.as_mut_ptr().cast());
        result.assume_init()
    }
}

pub(crate) fn has_ended(g: &Goroutine) -> bool {
    g.ending.with(Ending::has_ended)
}

/// Drops a handle without joining.
///
/// # Safety
///
/// The caller is the handle, which is used up.
pub(crate) unsafe fn detach(g: NonNull<Goroutine>) {
    // SAFETY: the handle holds the record.
    let header = unsafe { g.as_ref() };
    let vtable = header.vtable;
    // Dropping a handle is no edge, unless it drops the result. Otherwise a goroutine that happens
    // to end before its handle is dropped would come before all that its starter does later, other
    // goroutines included.
    if header.ending.with(Ending::detach) {
        return;
    }
    // SAFETY: the goroutine went first, so the result is the handle's.
    unsafe { (vtable.drop_result)(g) };
    // The scheduler's last accesses to the record are not seen, so nothing orders them before the
    // free.
    let _ignore = tsan::ignore();
    if header.ending.with(Ending::release) {
        // SAFETY: the scheduler went first, so the handle is the last.
        unsafe { (vtable.free)(g) };
    }
}
