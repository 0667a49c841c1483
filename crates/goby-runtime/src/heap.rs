//! What malloc keeps after much has been freed: glibc gives only the end of its heaps back by itself, and a million futures that have
//! ended left 226 MB in the process.

/// Gives whole free pages back to the system.
#[cfg(target_env = "gnu")]
pub(crate) fn trim() {
    // SAFETY: it may be called at any time; with another allocator in use it finds little.
    unsafe { libc::malloc_trim(0) };
}

/// Does nothing, where libc has no such call.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn trim() {}
