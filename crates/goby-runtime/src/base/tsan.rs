//! What ThreadSanitizer is told when goby is built under it (`build.rs` emits `cfg(goby_tsan)`);
//! nothing otherwise.
//!
//! TSan follows threads. A goroutine is made known to it as a *fiber* of its own, so that two
//! goroutines of one worker count as concurrent. Only goby's own edges order them: spawn, unpark to
//! park, exit to join, and the locks of channels. Futures count as part of the worker that polls
//! them: a race of two futures on one worker is not reported. The scheduler's own accesses, and its
//! locks, are ignored: they would order everything with everything.

pub(crate) use imp::*;

#[cfg(not(goby_tsan))]
mod imp {
    //! Production: every call is empty, every type has no size.

    use std::time::Duration;

    use goby_switch::FiberTag;
    use parking_lot::{Condvar, MutexGuard};

    #[inline]
    pub(crate) fn retire(_: FiberTag) {}

    /// Puts the thread to sleep until it is notified, for at most `nap`.
    #[inline]
    pub(crate) fn sleep<T>(changed: &Condvar, guard: &mut MutexGuard<'_, T>, nap: Option<Duration>) {
        match nap {
            None => changed.wait(guard),
            Some(nap) => drop(changed.wait_for(guard, nap)),
        }
    }

    #[inline]
    pub(crate) fn release<T: ?Sized>(_: *const T) {}

    #[inline]
    pub(crate) fn acquire<T: ?Sized>(_: *const T) {}

    /// Something with an address.
    #[derive(Debug, Default)]
    pub(crate) struct Address;

    impl Address {
        pub(crate) const fn new() -> Address {
            Address
        }
    }

    /// Before a goroutine's switch away from its thread, after its switch back, and at its end.
    #[inline]
    pub(crate) fn leave_thread(_: impl FnOnce() -> &'static usize) {}

    #[inline]
    pub(crate) fn enter_thread(_: impl FnOnce() -> &'static usize) {}

    #[inline]
    pub(crate) fn end_on_thread(_: &usize) {}

    /// Accesses are ignored while this lives.
    #[must_use]
    pub(crate) struct Ignore;

    #[inline]
    pub(crate) fn ignore() -> Ignore {
        Ignore
    }

    impl Drop for Ignore {
        #[inline]
        fn drop(&mut self) {}
    }

    /// Accesses count again while this lives: for user code that the scheduler calls.
    #[must_use]
    pub(crate) struct Heed;

    #[inline]
    pub(crate) fn heed() -> Heed {
        Heed
    }

    impl Drop for Heed {
        #[inline]
        fn drop(&mut self) {}
    }

    /// Whether memory, above all stacks, may be used again without telling a checker.
    pub(crate) const POOL_MEMORY: bool = true;

    /// Whether two threads may be ordered by the kernel's `membarrier`.
    #[cfg_attr(loom, expect(dead_code, reason = "the model has fences of its own"))]
    pub(crate) const KNOWS_MEMBARRIER: bool = true;

    /// Whether a signal interrupts a thread that makes no system call.
    pub(crate) const SIGNALS_INTERRUPT: bool = true;
}

#[cfg(goby_tsan)]
mod imp {
    use std::collections::VecDeque;
    use std::ffi::{c_char, c_int, c_void};
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU8, Ordering};
    use std::time::Duration;

    use goby_switch::FiberTag;
    use parking_lot::{Condvar, MutexGuard};

    unsafe extern "C" {
        fn __tsan_acquire(address: *mut c_void);
        fn __tsan_release(address: *mut c_void);
        fn AnnotateIgnoreReadsBegin(file: *const c_char, line: c_int);
        fn AnnotateIgnoreReadsEnd(file: *const c_char, line: c_int);
        fn AnnotateIgnoreWritesBegin(file: *const c_char, line: c_int);
        fn AnnotateIgnoreWritesEnd(file: *const c_char, line: c_int);
        fn AnnotateIgnoreSyncBegin(file: *const c_char, line: c_int);
        fn AnnotateIgnoreSyncEnd(file: *const c_char, line: c_int);
    }

    /// Fibers kept after their goroutine's end: a race whose first access is older than that many
    /// ended goroutines is missed.
    const KEPT: usize = 2000;

    /// Ends a fiber, some time after its goroutine.
    pub(crate) fn retire(fiber: FiberTag) {
        static ENDED: Mutex<VecDeque<FiberTag>> = Mutex::new(VecDeque::new());
        let oldest = {
            let mut ended = ENDED.lock().unwrap_or_else(|e| e.into_inner());
            ended.push_back(fiber);
            if ended.len() > KEPT { ended.pop_front() } else { None }
        };
        if let Some(oldest) = oldest {
            oldest.destroy();
        }
    }

    /// How late a signal may be handled.
    const SIGNAL_DELAY: Duration = Duration::from_millis(50);

    /// May return without having been notified. TSan puts a signal off until its thread next comes
    /// by. A thread that sleeps in a system call does not come by, so a program whose main thread
    /// waits for its goroutines would not hear Ctrl-C.
    pub(crate) fn sleep<T>(changed: &Condvar, guard: &mut MutexGuard<'_, T>, nap: Option<Duration>) {
        changed.wait_for(guard, nap.map_or(SIGNAL_DELAY, |nap| nap.min(SIGNAL_DELAY)));
    }

    pub(crate) fn release<T: ?Sized>(address: *const T) {
        // SAFETY: the address is a tag only.
        unsafe { __tsan_release(address as *mut c_void) }
    }

    pub(crate) fn acquire<T: ?Sized>(address: *const T) {
        // SAFETY: the address is a tag only.
        unsafe { __tsan_acquire(address as *mut c_void) }
    }

    #[derive(Debug, Default)]
    pub(crate) struct Address {
        _byte: u8,
    }

    impl Address {
        pub(crate) const fn new() -> Address {
            Address { _byte: 0 }
        }
    }

    /// Returns whether goroutines of one thread count as ordered (`GOBY_TSAN=threads`). That is for
    /// tests of thread-locals, which such goroutines share in turn. Then races between threads are
    /// found, and those between goroutines of one thread are not.
    fn threads_only() -> bool {
        const UNKNOWN: u8 = 2;
        // No `OnceLock`: std's is not instrumented, so TSan would report its initialization.
        static THREADS: AtomicU8 = AtomicU8::new(UNKNOWN);
        // Relaxed: all threads that set it set the same.
        match THREADS.load(Ordering::Relaxed) {
            UNKNOWN => {
                let threads = std::env::var_os("GOBY_TSAN").is_some_and(|value| value == "threads");
                THREADS.store(threads.into(), Ordering::Relaxed);
                threads
            }
            known => known == 1,
        }
    }

    /// Before a goroutine's switch away from its thread, inside one `ignore`.
    pub(crate) fn leave_thread(thread: impl FnOnce() -> &'static usize) {
        let thread = thread();
        if threads_only() {
            let _heed = heed();
            release(thread);
        }
    }

    /// After its switch back, inside one `ignore`.
    pub(crate) fn enter_thread(thread: impl FnOnce() -> &'static usize) {
        let thread = thread();
        if threads_only() {
            let _heed = heed();
            acquire(thread);
        }
    }

    /// At its end.
    pub(crate) fn end_on_thread(thread: &usize) {
        if threads_only() {
            release(thread);
        }
    }

    #[must_use]
    pub(crate) struct Ignore;

    pub(crate) fn ignore() -> Ignore {
        begin_ignoring();
        Ignore
    }

    impl Drop for Ignore {
        fn drop(&mut self) {
            end_ignoring();
        }
    }

    #[must_use]
    pub(crate) struct Heed;

    /// Accesses count again while this lives: for user code that the scheduler calls, inside one
    /// `ignore`.
    pub(crate) fn heed() -> Heed {
        end_ignoring();
        Heed
    }

    impl Drop for Heed {
        fn drop(&mut self) {
            begin_ignoring();
        }
    }

    fn begin_ignoring() {
        let file = c"goby".as_ptr();
        // SAFETY: begins and ends are paired by the guards, on the same fiber.
        unsafe {
            AnnotateIgnoreReadsBegin(file, 0);
            AnnotateIgnoreWritesBegin(file, 0);
            AnnotateIgnoreSyncBegin(file, 0);
        }
    }

    fn end_ignoring() {
        let file = c"goby".as_ptr();
        // SAFETY: as above.
        unsafe {
            AnnotateIgnoreSyncEnd(file, 0);
            AnnotateIgnoreWritesEnd(file, 0);
            AnnotateIgnoreReadsEnd(file, 0);
        }
    }

    /// TSan remembers what was on a stack: a used one must be mapped afresh.
    pub(crate) const POOL_MEMORY: bool = false;

    /// TSan cannot see an order that the kernel makes.
    pub(crate) const KNOWS_MEMBARRIER: bool = false;

    /// TSan keeps signals back until the thread makes a system call.
    pub(crate) const SIGNALS_INTERRUPT: bool = false;
}
