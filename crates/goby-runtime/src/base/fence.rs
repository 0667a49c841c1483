//! Asymmetric fences, for two threads that each write and then look at what the other writes. One
//! thread comes often and passes a fence that costs nothing. The other comes rarely and pays for
//! both (`membarrier`, 0.4 to 11 µs).

#[cfg(not(loom))]
mod system {
    use std::sync::atomic::{Ordering, compiler_fence};

    use crate::base::tsan;
    use crate::base::unseen::UnseenOnce;

    /// Keeps a write before it ahead of a read after it, as seen by a thread that passes a
    /// [`heavy_fence`] between its own write and read.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub fn light_fence() {
        // The compiler keeps the order, and the heavy fence makes the processor keep it.
        compiler_fence(Ordering::SeqCst);
    }

    fn membarrier(command: libc::c_int) -> bool {
        // SAFETY: the call touches no memory of ours.
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
    }

    /// Makes [`heavy_fence`] work, and returns whether it does. It does not where the kernel has no
    /// `membarrier`, nor under ThreadSanitizer, which does not know it. Call this before relying on
    /// either fence.
    pub fn fences_work() -> bool {
        static REGISTERED: UnseenOnce<bool> = UnseenOnce::new();
        *REGISTERED.get_or_init(|| {
            tsan::KNOWS_MEMBARRIER
                && membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED)
                && membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED)
        })
    }

    /// Passes a full fence on every running thread of the process; a thread that does not run had
    /// one when it stopped. So the heavy fence falls before or after each [`light_fence`], and all
    /// threads agree on which.
    ///
    /// # Panics
    ///
    /// Aborts the process if the fence fails, which it does if [`fences_work`] was not called
    /// before.
    pub fn heavy_fence() {
        if !membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED) {
            // It has worked before, so the process cannot go on from here.
            crate::base::report::report(format_args!("membarrier failed: {}", std::io::Error::last_os_error()));
            std::process::abort();
        }
    }
}

#[cfg(not(loom))]
pub use system::{fences_work, heavy_fence, light_fence};

/// In the models both are sequentially consistent fences.
#[cfg(loom)]
pub use model::{fences_work, heavy_fence, light_fence};

#[cfg(loom)]
mod model {
    use loom::sync::atomic::fence;

    use crate::base::primitive::Ordering;

    /// See above.
    pub fn light_fence() {
        fence(Ordering::SeqCst);
    }

    /// See above.
    pub fn heavy_fence() {
        fence(Ordering::SeqCst);
    }

    /// See above.
    pub fn fences_work() -> bool {
        true
    }
}
