//! What needs the C library directly. The only unsafe code of this crate.
#![expect(unsafe_code, reason = "allocator settings and watched descriptors have no safe wrapper")]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use tokio::io::unix::AsyncFd;

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

/// Watches a descriptor that never waits; its owner must keep it as it is.
pub(crate) fn watch<T: AsFd + AsRawFd>(fd: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: an owner that lends its descriptor keeps that open, and hands it out at no other time.
    unsafe { AsyncFd::register(fd) }.map_err(io::Error::from)
}
