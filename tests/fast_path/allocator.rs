//! Every request for memory, counted for each thread. Knows nothing of who asks.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static REQUESTS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count() {
    // A thread that ends may ask when its counter is gone already.
    let _ = REQUESTS.try_with(|requests| requests.set(requests.get() + 1));
}

// SAFETY: all is done by the system's allocator, with what the caller gave; the counter asks for no memory itself.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count();
        // SAFETY: the caller's contract.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's contract.
        unsafe { System.realloc(at, layout, len) }
    }
}

/// How often this thread asks for memory, or gives some back, while `work` runs.
pub(crate) fn requests(work: impl FnOnce()) -> u64 {
    let before = REQUESTS.get();
    work();
    REQUESTS.get() - before
}

#[test]
fn what_a_thread_takes_and_gives_back_is_counted() {
    let mut kept = Vec::new();
    assert_eq!(requests(|| kept = vec![0u8; 100]), 1);
    assert_eq!(requests(|| kept.reserve(1000)), 1);
    assert_eq!(requests(|| drop(std::mem::take(&mut kept))), 1);
    assert_eq!(requests(|| drop(Box::new(7))), 2);
    assert_eq!(requests(|| ()), 0);
}
