//! Memory that glibc's malloc keeps after much has been freed: a million futures that have ended
//! leave a tenth of theirs in the process. Other allocators are left to themselves.

/// Gives whole free pages of malloc's heaps back to the system.
#[cfg(target_env = "gnu")]
pub(crate) fn trim() {
    // SAFETY: it may be called at any time. With another allocator in use it finds little.
    unsafe { libc::malloc_trim(0) };
}

/// Does nothing, where libc has no such call.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn trim() {}
