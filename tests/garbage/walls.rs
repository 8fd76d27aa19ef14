//! Nothing lies beside a ring's memory in this program: whoever leaves it, forwards or backwards, dies of it at once.
//!
//! Knows how to put pages that nobody may touch before and behind a piece of memory: behind what is allocated in the
//! alignment that only the memory of a channel has, and around whatever file is mapped to be written. Knows nothing of
//! rings.
//!
//! Mappings begin and end on pages, and so do most of the files that the tests here map. An allocation ends where the wall begins;
//! before it lie a few bytes that must stay as they are, and then the other wall.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

fn page() -> usize {
    // SAFETY: sysconf takes a number.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}

/// What lies between the first wall and an allocation.
const MORTAR: u8 = 0xa5;

/// Reserves `len` bytes, whole pages, with a page of wall on both sides. Null when there is no memory.
fn reserve(len: usize) -> *mut u8 {
    let whole = len + 2 * page();
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping, wherever the kernel has room.
    let at = unsafe {
        libc::syscall(libc::SYS_mmap, 0usize, whole, libc::PROT_NONE, flags, -1isize, 0usize)
    };
    if at == -1 { std::ptr::null_mut() } else { (at as usize + page()) as *mut u8 }
}

/// Gives back what [`reserve`] gave, walls included.
fn give_up(at: *mut u8, len: usize) -> c_int {
    // SAFETY: this range was mapped by `reserve`, and its owner has done with it.
    unsafe { libc::syscall(libc::SYS_munmap, at as usize - page(), len + 2 * page()) as c_int }
}

/// The allocator of this program.
struct Walls;

#[global_allocator]
static WALLS: Walls = Walls;

/// Pieces that were given back, to be used again: address and length in pages.
static SPARE: Mutex<[(usize, usize); 8]> = Mutex::new([(0, 0); 8]);

/// Whether this is the memory of a channel: nothing else is aligned so and so long.
fn is_a_ring(layout: Layout) -> bool {
    layout.align() == 128 && layout.size() >= 4096
}

fn pages(layout: Layout) -> usize {
    layout.size().next_multiple_of(page())
}

// SAFETY: a piece between walls is as long as was asked for, rounded up to pages, and is handed out from its end, down by a
// size that is a multiple of the alignment; it is no other allocation's until it is given back. All else is the system's.
unsafe impl GlobalAlloc for Walls {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !is_a_ring(layout) {
            // SAFETY: by contract.
            return unsafe { System.alloc(layout) };
        }
        let len = pages(layout);
        let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
        let found = spare.iter_mut().find(|piece| piece.1 == len).map(std::mem::take);
        drop(spare);
        let piece = found.map_or_else(|| reserve(len), |(at, _)| at as *mut u8);
        if piece.is_null() {
            return piece;
        }
        // SAFETY: the piece is `len` bytes long and nobody's yet.
        if unsafe { libc::mprotect(piece.cast(), len, libc::PROT_READ | libc::PROT_WRITE) } != 0 {
            return std::ptr::null_mut();
        }
        let front = len - layout.size();
        // SAFETY: the first `front` of the `len` bytes.
        unsafe { piece.write_bytes(MORTAR, front) };
        // SAFETY: as above.
        unsafe { piece.add(front) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        if !is_a_ring(layout) {
            // SAFETY: by contract.
            return unsafe { System.dealloc(at, layout) };
        }
        let len = pages(layout);
        let front = len - layout.size();
        // SAFETY: `alloc` handed out the piece from there on.
        let piece = unsafe { at.sub(front) };
        // SAFETY: the bytes before the allocation, which `alloc` wrote.
        let mortar = unsafe { std::slice::from_raw_parts(piece, front) };
        if mortar.iter().any(|&byte| byte != MORTAR) {
            crate::harness::say("something wrote before the memory of a channel");
            std::process::abort();
        }
        let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
        match spare.iter_mut().find(|piece| piece.1 == 0) {
            Some(place) => *place = (piece as usize, len),
            None => drop(give_up(piece, len)),
        }
    }
}

/// Files that are mapped between walls: their addresses, and 0 where there is room for another.
static MAPPED: [AtomicUsize; 256] = [const { AtomicUsize::new(0) }; 256];

fn exchange(from: usize, to: usize) -> bool {
    let swap = |place: &AtomicUsize| {
        place.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    };
    MAPPED.iter().any(swap)
}

/// Stands before the C library's `mmap64`, through which files are mapped.
///
/// # Safety
///
/// As `mmap`.
#[unsafe(no_mangle)]
unsafe extern "C" fn mmap64(
    at: *mut c_void,
    len: usize,
    protection: c_int,
    flags: c_int,
    file: c_int,
    offset: libc::off64_t,
) -> *mut c_void {
    let walled = at.is_null() && protection & libc::PROT_WRITE != 0 && file >= 0;
    let place = if walled { reserve(len.next_multiple_of(page())) } else { at.cast() };
    let fixed = if walled && !place.is_null() { libc::MAP_FIXED } else { 0 };
    // SAFETY: by contract; where it is fixed, the range has just been reserved for it.
    let mapped = unsafe {
        libc::syscall(libc::SYS_mmap, place, len, protection, flags | fixed, file, offset)
    };
    if fixed != 0 && mapped != -1 && !exchange(0, mapped as usize) {
        crate::harness::say("too many files are mapped at once");
        std::process::abort();
    }
    mapped as *mut c_void
}

/// Stands before the C library's `munmap`.
///
/// # Safety
///
/// As `munmap`.
#[unsafe(no_mangle)]
unsafe extern "C" fn munmap(at: *mut c_void, len: usize) -> c_int {
    if exchange(at as usize, 0) {
        return give_up(at.cast(), len.next_multiple_of(page()));
    }
    // SAFETY: by contract.
    unsafe { libc::syscall(libc::SYS_munmap, at, len) as c_int }
}
