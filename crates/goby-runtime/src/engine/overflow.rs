//! Stack overflow in a goroutine: a fatal message that names the goroutine, never a bare SIGSEGV.
//!
//! A handler for SIGSEGV and SIGBUS runs on an alternate stack, which every worker has. If the
//! fault lies in the guard of the running goroutine's stack, the handler writes the message and
//! aborts. Any other fault goes to the handler that was there before (in a Rust program, std's
//! handler for the guard pages of its threads).

use std::fmt::{self, Write};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::engine::worker::Worker;

/// The alternate stack: the message is formatted on it.
const SIGNAL_STACK: usize = 64 * 1024;

/// The handlers that were there before: SIGSEGV's and SIGBUS's.
static PREVIOUS: [AtomicPtr<libc::sigaction>; 2] = [AtomicPtr::new(ptr::null_mut()), AtomicPtr::new(ptr::null_mut())];

/// Installs the handler, once per process.
pub(crate) fn install_handler() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        for (signal, previous) in [libc::SIGSEGV, libc::SIGBUS].into_iter().zip(&PREVIOUS) {
            // SAFETY: the structures are initialized as sigaction(2) asks; the handler is
            // async-signal-safe, see below.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = handler as *const () as usize;
                action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
                libc::sigemptyset(&mut action.sa_mask);
                let mut old = MaybeUninit::<libc::sigaction>::zeroed();
                if libc::sigaction(signal, ptr::null(), old.as_mut_ptr()) == 0 {
                    // Release pairs with the Acquire in `handler`.
                    previous.store(Box::into_raw(Box::new(old.assume_init())), Ordering::Release);
                    libc::sigaction(signal, &action, ptr::null_mut());
                }
            }
        }
    });
}

/// An alternate stack for the signals of the calling thread, until it is dropped.
pub(crate) struct SignalStack {
    memory: *mut libc::c_void,
    previous: libc::stack_t,
}

impl SignalStack {
    /// Gives the calling thread an alternate stack. Returns none if there is no memory for it: then
    /// std's own, smaller one has to do.
    pub(crate) fn enter() -> Option<SignalStack> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping, at an address that the kernel chooses and nobody else knows,
        // becomes the alternate stack. It is unmapped after it has ceased to be that.
        unsafe {
            let memory = libc::mmap(ptr::null_mut(), SIGNAL_STACK, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
            if memory == libc::MAP_FAILED {
                return None;
            }
            let stack = libc::stack_t { ss_sp: memory, ss_flags: 0, ss_size: SIGNAL_STACK };
            let mut previous = libc::stack_t { ss_sp: ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
            libc::sigaltstack(&raw const stack, &raw mut previous);
            Some(SignalStack { memory, previous })
        }
    }
}

impl Drop for SignalStack {
    fn drop(&mut self) {
        // SAFETY: no handler runs on this stack, since the thread runs this code; and none will
        // once the previous stack is back. This thread made it in `enter`, since the type is not
        // `Send`.
        unsafe {
            libc::sigaltstack(&raw const self.previous, ptr::null_mut());
            libc::munmap(self.memory, SIGNAL_STACK);
        }
    }
}

/// Handles SIGSEGV and SIGBUS. Async-signal-safe: it reads a thread-local without destructor,
/// atomics and what they point to, formats into an array, and writes.
extern "C" fn handler(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo.
    let address = unsafe { (*info).si_addr() } as usize;
    if let Some(g) = Worker::current().and_then(Worker::running_or_held)
        && g.guard().is_some_and(|guard| guard.contains(&address))
    {
        let mut message = Message { text: [0; 1024], len: 0 };
        let _ = writeln!(
            message,
            "\nfatal error: stack overflow: goroutine {}, started at {}, has used up its stack of {} KiB by deep \
             recursion or large local values: put those into a `Box`, or raise stack_size of its goroutine::Builder, of the \
             runtime's Builder, or GOBY_STACK",
            g.id,
            g.origin.spawned_at,
            g.usable_stack().map_or(0, |usable| usable.len()) / 1024
        );
        message.write_to_stderr();
        // SAFETY: no precondition.
        unsafe { libc::abort() };
    }
    let previous = &PREVIOUS[usize::from(signal == libc::SIGBUS)];
    // Acquire pairs with the Release in `install_handler`.
    let previous = previous.load(Ordering::Acquire);
    // SAFETY: the kernel gave us the former action. It is called as the kernel would call it, or
    // put back.
    unsafe {
        let Some(previous) = previous.as_ref() else { libc::abort() };
        match previous.sa_sigaction {
            libc::SIG_DFL | libc::SIG_IGN => {
                // Put the former action back: returning repeats the fault, this time without our
                // handler.
                libc::sigaction(signal, previous, ptr::null_mut());
            }
            _ => call(previous, signal, info, context),
        }
    }
}

/// Calls a signal handler as the kernel would.
///
/// # Safety
///
/// `action` is a signal's action as the kernel gave it, and neither "default" nor "ignore". The
/// other arguments are those that a handler of the same signal was called with.
pub(crate) unsafe fn call(
    action: &libc::sigaction,
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: by contract the address is a handler's; the flag tells its signature.
    unsafe {
        if action.sa_flags & libc::SA_SIGINFO != 0 {
            let f: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                std::mem::transmute(action.sa_sigaction);
            f(signal, info, context);
        } else {
            let f: extern "C" fn(libc::c_int) = std::mem::transmute(action.sa_sigaction);
            f(signal);
        }
    }
}

/// A message formatted without allocation; it is cut to what fits.
struct Message {
    text: [u8; 1024],
    len: usize,
}

impl Write for Message {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let n = s.len().min(self.text.len() - self.len);
        self.text[self.len..self.len + n].copy_from_slice(&s.as_bytes()[..n]);
        self.len += n;
        Ok(())
    }
}

impl Message {
    fn write_to_stderr(&self) {
        // SAFETY: the range is initialized.
        unsafe { libc::write(libc::STDERR_FILENO, self.text.as_ptr().cast(), self.len) };
    }
}
