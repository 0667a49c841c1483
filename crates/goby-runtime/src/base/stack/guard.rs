//! Guards: the lowest pages of every stack, which fault on each access, so that an overflow is a
//! message and an abort.
//!
//! Code that Rust or clang compiles touches every page of a large frame, so one page would be
//! enough for it. A C compiler does so only where it is told to (`-fstack-clash-protection`), and
//! glibc here is not built so: its largest frames have 33 KiB. A frame without probes that is
//! larger than the guard can still step over it.
//!
//! | way | since | a stack costs | width |
//! |---|---|---|---|
//! | `MADV_GUARD_INSTALL` | Linux 6.13 | page-table entries that its slot has anyway | 64 KiB and more |
//! | `mprotect` | ever | two mappings, of which `vm.max_map_count` (65,530) allows some 32,700 stacks | the same |
//!
//! The first way is used if the kernel knows it *and* the first guard is there: qemu's user mode
//! answers 0 and installs nothing. Where the first way is refused later, by a sandbox that the
//! program enters, `mprotect` takes over.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU8, Ordering};

use super::PAGE;

/// Bytes of a guard, at least: twice the largest frame of glibc.
pub(crate) const GUARD: usize = 64 * 1024;
/// `MADV_GUARD_INSTALL`; not in libc's bindings yet.
const MADV_GUARD_INSTALL: i32 = 102;

/// Which way guards are installed. It changes from unknown to one of the others, and from `MADVISE`
/// to `MPROTECT`.
static WAY: AtomicU8 = AtomicU8::new(UNKNOWN);
const UNKNOWN: u8 = 0;
const MADVISE: u8 = 1;
const MPROTECT: u8 = 2;

/// Makes goby use `mprotect` as on an older kernel, so that the fallback is tested everywhere.
#[doc(hidden)]
pub fn force_mprotect_guards() {
    WAY.store(MPROTECT, Ordering::Relaxed);
}

/// Returns whether each stack costs the process two mappings, of which `vm.max_map_count` allows
/// only so many.
pub(crate) fn cost_mappings() -> bool {
    WAY.load(Ordering::Relaxed) == MPROTECT
}

/// Makes `len` bytes from `start` on fault.
///
/// # Safety
///
/// The range is page aligned, mapped by goby, at least two pages long, and no code uses it.
pub(super) unsafe fn install(start: usize, len: usize) -> io::Result<()> {
    // Relaxed, here and below: each value is right at any time, except for its cost.
    if WAY.load(Ordering::Relaxed) != MPROTECT {
        // SAFETY: no code uses the range, by contract.
        let result = check(unsafe { libc::madvise(start as *mut libc::c_void, len, MADV_GUARD_INSTALL) });
        match result {
            Ok(()) if WAY.load(Ordering::Relaxed) == MADVISE => return Ok(()),
            Ok(()) => match is_guarded(start).and_then(|low| Ok(low && is_guarded(start + len - PAGE)?)) {
                Ok(true) => {
                    WAY.store(MADVISE, Ordering::Relaxed);
                    return Ok(());
                }
                Ok(false) => WAY.store(MPROTECT, Ordering::Relaxed),
                // Without a descriptor for the probe nothing is known: `mprotect` makes this guard,
                // and the next one is probed.
                Err(_) => {}
            },
            Err(error) if is_refusal(&error) => WAY.store(MPROTECT, Ordering::Relaxed),
            Err(error) => return Err(error),
        }
    }
    // SAFETY: as above.
    check(unsafe { libc::mprotect(start as *mut libc::c_void, len, libc::PROT_NONE) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Returns whether an error says that the call is not to be had (an older kernel, a sandbox), and
/// not that memory is short.
fn is_refusal(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS | libc::EPERM | libc::EACCES))
}

/// Returns whether the kernel gets a fault where it reads the byte at `address`.
fn is_guarded(address: usize) -> io::Result<bool> {
    let (_reader, writer) = io::pipe()?;
    // SAFETY: an address that cannot be read is an error of the call.
    let written = unsafe { libc::write(writer.as_raw_fd(), address as *const libc::c_void, 1) };
    Ok(written == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT))
}
