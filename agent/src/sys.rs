//! What needs the C library directly. The only unsafe code of this crate.
#![expect(unsafe_code, reason = "settings of the C library's allocator have no safe wrapper")]

/// Arenas in which threads allocate. Each new thread would otherwise get one of its own, and keep what it once held.
const ARENAS: libc::c_int = 2;

/// Lets all threads share few arenas. To be called before the first thread is made.
pub(crate) fn share_arenas() {
    #[cfg(target_env = "gnu")]
    // SAFETY: only a number is set, before any other thread runs.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, ARENAS);
    }
}

/// Gives memory back that is no longer used: after a start of many containers, for example.
pub(crate) fn release_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
