//! The part of a goroutine's record whose type depends on the closure: where the closure lies until
//! it runs, and the result until it is taken. The rest of the runtime reaches it through
//! [`VTable`].

use std::any::Any;
use std::cell::UnsafeCell;
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::ptr::{self, NonNull};
use std::thread;

use super::{Goroutine, Start, clear_attributes};
use crate::base::discard::{discard, discard_quietly};
use crate::base::ending::Ending;
use crate::base::slab::Slab;
use crate::base::tsan;
use crate::engine::errand;
use crate::engine::goexit::{Goexit, is_goexit};
use crate::engine::io::reactor::tell_cure_at_end;
use crate::engine::owed::NeverRan;
use crate::engine::unjoined::report_panic;
use crate::engine::watch;
use crate::engine::worker::Worker;

/// What is done with a record by code that does not know the closure's type.
pub(super) struct VTable {
    pub(super) run: unsafe fn(NonNull<Goroutine>),
    pub(super) cancel: unsafe fn(NonNull<Goroutine>),
    pub(super) take: unsafe fn(NonNull<Goroutine>, *mut ()),
    pub(super) drop_result: unsafe fn(NonNull<Goroutine>),
    pub(super) free: unsafe fn(NonNull<Goroutine>),
}

enum Stage<F, T> {
    Unstarted(F),
    Running,
    Ended(thread::Result<T>),
    Taken,
}

#[repr(C)]
struct Record<F, T> {
    header: Goroutine,
    stage: UnsafeCell<Stage<F, T>>,
}

/// Allocates the record of a goroutine that runs `f`, from `slab` if there is one: the spawning
/// worker's.
///
/// # Safety
///
/// As for [`Birth::start`](crate::engine::birth::Birth::start), and `F` and `T` are `Send`.
#[inline]
pub(crate) unsafe fn create<F, T>(f: F, start: Start, slab: Option<&Slab>) -> NonNull<Goroutine>
where
    F: FnOnce() -> T,
{
    let record = Slab::allocate::<Record<F, T>>(slab);
    let place = record.as_ptr();
    // The record is written in place, part by part: if it were built first and moved then, it would
    // be copied.
    // SAFETY: the memory is the record's, and both of its parts are written here.
    unsafe {
        (&raw mut (*place).stage).write(UnsafeCell::new(Stage::Unstarted(f)));
        let vtable = &const {
            VTable {
                run: run::<F, T>,
                cancel: cancel::<F, T>,
                take: take::<F, T>,
                drop_result: drop_result::<F, T>,
                free: free::<F, T>,
            }
        };
        (&raw mut (*place).header).write(Goroutine::new(start, vtable));
    }
    record.cast()
}

/// Runs the closure and stores its result, or drops the result if the handle is gone.
///
/// # Safety
///
/// `g` is the start of an unstarted `Record<F, T>`, and the caller is its fiber.
unsafe fn run<F, T>(g: NonNull<Goroutine>)
where
    F: FnOnce() -> T,
{
    // SAFETY: by contract.
    let record = unsafe { g.cast::<Record<F, T>>().as_ref() };
    let stage = record.stage.get();
    // SAFETY: before the result is stored, only the goroutine touches its stage. The closure is
    // moved out of it; the bytes left behind are overwritten, not dropped.
    let f = unsafe {
        let Stage::Unstarted(f) = &*stage else { unreachable!("a goroutine runs once") };
        let f = ptr::read(f);
        stage.write(Stage::Running);
        f
    };
    let mut result = panic::catch_unwind(AssertUnwindSafe(f)).inspect_err(|payload| tell_cure_at_end(&**payload));
    if record.header.notes.flags.exits() {
        result = never_success(result);
    }
    if watch::SEES_PARKS
        && let Err(payload) = &result
    {
        record.header.runtime.watch.panicked(&record.header, &**payload);
    }
    // SAFETY: as above; `Running` need not be dropped.
    unsafe { stage.write(Stage::Ended(result)) };
    record.header.precede();
    if record.header.ending.with(Ending::store) {
        // SAFETY: the handle went first, so the result is the goroutine's.
        unsafe { drop_result::<F, T>(g) };
    }
}

/// Returns the result of a goroutine that has called `goexit`. Its value does not count, even if
/// its code stopped the unwinding. A panic counts.
#[cold]
fn never_success<T>(result: thread::Result<T>) -> thread::Result<T> {
    let value = result?;
    discard(value)?;
    Err(Box::new(Goexit))
}

/// Gives an unstarted goroutine the result "never ran" and ends it.
///
/// # Safety
///
/// As for `run`, but on any stack that may run user code, and the goroutine is in no queue.
unsafe fn cancel<F, T>(g: NonNull<Goroutine>) {
    errand::assert_allowed();
    // SAFETY: by contract.
    let record = unsafe { g.cast::<Record<F, T>>().as_ref() };
    let error: Box<dyn Any + Send> = Box::new(NeverRan::MESSAGE.to_owned());
    record.header.notes.flags.set_never_ran();
    // SAFETY: as in `run`. The closure is what is replaced, and it is dropped here.
    let closure = mem::replace(unsafe { &mut *record.stage.get() }, Stage::Ended(Err(error)));
    clear_attributes(&record.header);
    // The closure's destructor is the user's code. Whatever it does, the goroutine ends.
    if let Err(payload) = discard(closure) {
        report_panic(&record.header, &*payload);
        mem::forget(payload);
    }
    record.header.precede();
    if record.header.ending.with(Ending::store) {
        // SAFETY: as in `run`. Not reported as a panic: nothing went wrong in the goroutine.
        unsafe { *record.stage.get() = Stage::Taken };
    }
}

/// Drops a result that nobody will take, and reports it if it is a panic.
///
/// # Safety
///
/// The result is stored, and belongs to the caller by the rule of `ending`.
unsafe fn drop_result<F, T>(g: NonNull<Goroutine>) {
    errand::assert_allowed();
    // SAFETY: by contract.
    let record = unsafe { g.cast::<Record<F, T>>().as_ref() };
    let stage = {
        let _ignore = tsan::ignore();
        // SAFETY: by contract nobody else touches the stage.
        mem::replace(unsafe { &mut *record.stage.get() }, Stage::Taken)
    };
    let Stage::Ended(result) = stage else {
        unreachable!("a result is dropped once");
    };
    if mem::needs_drop::<T>() || result.is_err() {
        record.header.follow();
    }
    match result {
        // A destructor that panics is reported like the goroutine's own panic.
        Ok(value) => {
            if let Err(payload) = discard(value) {
                report_panic(&record.header, &*payload);
                mem::forget(payload);
            }
        }
        Err(payload) => {
            // A goroutine that never ran has not failed.
            if !is_goexit(&*payload) && !record.header.notes.flags.never_ran() {
                report_panic(&record.header, &*payload);
            }
            discard_quietly(payload);
        }
    }
}

/// Moves the result to `to`, and frees the record.
///
/// # Safety
///
/// The goroutine has ended, the scheduler has let go of the record, and the caller is its
/// `JoinHandle<T>`, with room for a `thread::Result<T>` at `to`.
unsafe fn take<F, T>(g: NonNull<Goroutine>, to: *mut ()) {
    let record = g.cast::<Record<F, T>>().as_ptr();
    // SAFETY: by contract nobody else touches the record. Its result is moved out here.
    unsafe {
        let Stage::Ended(result) = (*record).stage.get().read() else {
            unreachable!("a result is taken once");
        };
        to.cast::<thread::Result<T>>().write(result);
        free::<F, T>(g);
    }
}

/// Frees a record whose result is gone. The record holds nothing else: its attributes were dropped
/// at the end of the goroutine.
///
/// # Safety
///
/// The caller is the last of the two holders.
#[inline]
unsafe fn free<F, T>(g: NonNull<Goroutine>) {
    // SAFETY: by contract nobody else touches the record; `create` has allocated it as this type.
    unsafe {
        debug_assert!(g.as_ref().attributes.is_empty());
        Slab::free(Worker::current().map(Worker::slab), g.cast::<Record<F, T>>());
    }
}
