//! An allocator that counts, so that a run can say how much memory an input took.
#![expect(unsafe_code, reason = "an allocator is unsafe by its signature")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The system's allocator, with the bytes in use and the most of them since the last [`restart`].
pub(crate) struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

/// Begins anew to look for the most; the bytes in use now.
pub(crate) fn restart() -> usize {
    let in_use = IN_USE.load(Relaxed);
    MOST.store(in_use, Relaxed);
    in_use
}

/// The most bytes in use at once since [`restart`].
pub(crate) fn most() -> usize {
    MOST.load(Relaxed)
}

fn add(bytes: usize) {
    let in_use = IN_USE.fetch_add(bytes, Relaxed) + bytes;
    MOST.fetch_max(in_use, Relaxed);
}

// SAFETY: every call goes to the system's allocator as it is; counting touches only atomics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`, and `alloc` gave the pointer.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // While the content moves, both may be in use.
        add(size);
        IN_USE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller keeps the contract of `realloc`, and `alloc` gave the pointer.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
