//! What ThreadSanitizer is told of a switch. It must be told here: an instrumented function pushes
//! onto the shadow stack of the fiber that enters it, and would pop from that of the fiber that
//! leaves it.

pub use imp::FiberTag;
pub(crate) use imp::{enter, leave};

#[cfg(not(goby_tsan))]
mod imp {
    /// ThreadSanitizer's name for a fiber; nothing without ThreadSanitizer.
    #[derive(Clone, Copy, Debug)]
    pub struct FiberTag;

    impl FiberTag {
        /// Makes a fiber that begins after what the caller has done.
        #[inline]
        pub fn create() -> FiberTag {
            FiberTag
        }

        /// Ends a fiber that no thread is on.
        #[inline]
        pub fn destroy(self) {}
    }

    #[inline]
    pub(crate) fn enter(_: FiberTag) {}

    #[inline]
    pub(crate) fn leave() {}
}

#[cfg(goby_tsan)]
mod imp {
    use std::cell::Cell;
    use std::ffi::{c_uint, c_void};
    use std::ptr;

    unsafe extern "C" {
        fn __tsan_get_current_fiber() -> *mut c_void;
        fn __tsan_create_fiber(flags: c_uint) -> *mut c_void;
        fn __tsan_destroy_fiber(fiber: *mut c_void);
        fn __tsan_switch_to_fiber(fiber: *mut c_void, flags: c_uint);
    }

    /// A switch orders nothing: with 0, every race of two fibers on one thread would be hidden.
    const NO_SYNC: c_uint = 1;

    thread_local! {
        /// The fiber of the thread itself, which resumes the others.
        static RESUMER: Cell<*mut c_void> = const { Cell::new(ptr::null_mut()) };
    }

    /// ThreadSanitizer's name for a fiber.
    #[derive(Clone, Copy, Debug)]
    pub struct FiberTag(*mut c_void);

    // SAFETY: a handle. The owner of the fiber decides which thread may use it.
    unsafe impl Send for FiberTag {}

    impl FiberTag {
        /// Makes a fiber that begins after what the caller has done.
        #[inline(never)]
        pub fn create() -> FiberTag {
            // SAFETY: no precondition.
            FiberTag(unsafe { __tsan_create_fiber(0) })
        }

        /// Ends a fiber that no thread is on.
        #[inline(never)]
        pub fn destroy(self) {
            // SAFETY: made by `create`; the caller is done with it.
            unsafe { __tsan_destroy_fiber(self.0) }
        }
    }

    /// Tells ThreadSanitizer that the fiber goes on after this call.
    #[inline(never)]
    pub(crate) fn enter(fiber: FiberTag) {
        // SAFETY: the fiber is alive, and the switch of stacks follows at once.
        unsafe {
            RESUMER.set(__tsan_get_current_fiber());
            __tsan_switch_to_fiber(fiber.0, NO_SYNC);
        }
    }

    /// Tells ThreadSanitizer that the code that resumed the fiber goes on after this call.
    #[inline(never)]
    pub(crate) fn leave() {
        // SAFETY: set by `enter`, on the same thread: fibers do not change threads.
        unsafe { __tsan_switch_to_fiber(RESUMER.get(), NO_SYNC) }
    }
}
