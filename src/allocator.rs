//! mimalloc as this program's allocator.
//!
//! Small, short-lived allocations on many threads: mimalloc is measurably ahead of glibc here. The
//! `mimalloc` crate asks for every block by `mi_malloc_aligned`, whose short path of version 3 knows
//! only sizes that are powers of two: any other takes a long way, and often a larger block.
//! So blocks whose alignment every block has anyway are asked for without naming it.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout};

use libmimalloc_sys as mi;

unsafe extern "C" {
    /// libmimalloc-sys declares it only with its feature `extended`, which needs another crate.
    fn mi_collect(force: bool);
}

/// Blocks of mimalloc are multiples of a word, and begin at one.
const WORD: usize = size_of::<usize>();

pub struct Mimalloc;

/// Gives back what this thread has freed: mimalloc keeps pages that became empty, each thread its own, and would purge
/// those that it let go of only a second later, when somebody allocates. Forced, it purges at once (mi_option_purge_delay
/// need not be touched: with 0 it would skip those that wait for their delay). What was freed while another thread
/// was purging stays for the next call.
pub fn give_back() {
    // SAFETY: no preconditions; it looks at pages of the calling thread alone.
    unsafe { mi_collect(true) }
}

// SAFETY: mimalloc's functions keep the contract of `GlobalAlloc`: they give null or a block of
// at least that size, aligned to at least a word or to what was asked for; each function takes
// any block that another has given, whatever its alignment.
unsafe impl GlobalAlloc for Mimalloc {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: no preconditions; the alignment of a layout is a power of two.
        unsafe {
            match layout.align() {
                ..=WORD => mi::mi_malloc(layout.size()),
                align => mi::mi_malloc_aligned(layout.size(), align),
            }
            .cast()
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as for `alloc`.
        unsafe {
            match layout.align() {
                ..=WORD => mi::mi_zalloc(layout.size()),
                align => mi::mi_zalloc_aligned(layout.size(), align),
            }
            .cast()
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        // SAFETY: the caller has it from one of the other functions.
        unsafe { mi::mi_free(block.cast()) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as for `dealloc` and `alloc`.
        unsafe {
            match layout.align() {
                ..=WORD => mi::mi_realloc(block.cast(), size),
                align => mi::mi_realloc_aligned(block.cast(), size, align),
            }
            .cast()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_as_asked_and_keep_their_bytes() {
        for size in 1..3000 {
            for align in [1, 2, 4, 8, 16, 64, 128, 4096] {
                let layout = Layout::from_size_align(size, align).expect("a layout");
                // SAFETY: the layouts are those the blocks were made with, and no size is zero.
                unsafe {
                    let block = Mimalloc.alloc_zeroed(layout);
                    assert_eq!(block.addr() % align, 0, "{layout:?}");
                    assert!(std::slice::from_raw_parts(block, size).iter().all(|byte| *byte == 0));
                    block.write_bytes(7, size);
                    let larger = Mimalloc.realloc(block, layout, size * 2);
                    assert_eq!(larger.addr() % align, 0, "{layout:?}");
                    assert!(std::slice::from_raw_parts(larger, size).iter().all(|byte| *byte == 7));
                    let layout = Layout::from_size_align(size * 2, align).expect("a layout");
                    Mimalloc.dealloc(larger, layout);
                }
            }
        }
    }
}
