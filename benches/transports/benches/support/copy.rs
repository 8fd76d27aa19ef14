//! Three ways to move a payload between private and shared memory.
//!
//! It knows pointers, lengths and the instructions. It refuses to know records, rings and who may
//! write when: its callers own both ranges for the time of the call. Lengths are multiples of 8, as
//! all payloads of the harness are; what is beyond the last whole word is not copied.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A copying primitive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CopyBy {
    /// One relaxed atomic store (load) for each 8 bytes: defined under a race.
    Words,
    /// Blocks of 64 bytes through four SSE registers in one piece of assembly, the rest by words:
    /// defined under a race, because the compiler sees no access at all. By words alone where there
    /// is no SSE.
    Blocks,
    /// `ptr::copy_nonoverlapping`, that is `memcpy`: undefined under a race.
    Plain,
}

const BLOCK: usize = 64;

/// Copies private bytes to a shared place.
///
/// # Safety
///
/// `to` is aligned to 8, and `from.len()` bytes from it are mapped, outlive the call and are read by
/// nobody until the caller publishes them.
#[inline(always)]
pub(crate) unsafe fn put(how: CopyBy, to: *mut u8, from: &[u8]) {
    let mut done = 0;
    match how {
        // SAFETY: `to` has room for `from.len()` bytes; private memory does not overlap shared.
        CopyBy::Plain => return unsafe { to.copy_from_nonoverlapping(from.as_ptr(), from.len()) },
        CopyBy::Blocks => {
            while cfg!(target_arch = "x86_64") && from.len() - done >= BLOCK {
                let source = from[done..].as_ptr();
                // SAFETY: `done + BLOCK <= from.len()`, which `to` has room for.
                let target = unsafe { to.add(done) };
                // SAFETY: 64 bytes at `source` are initialised and 64 at `target` are ours.
                unsafe { block(source, target) };
                done += BLOCK;
            }
        }
        CopyBy::Words => {}
    }
    for chunk in from[done..].chunks_exact(8) {
        let word = u64::from_ne_bytes(chunk.try_into().expect("a chunk of 8"));
        // SAFETY: `done + 8 <= from.len()`, and `to` is aligned to 8 like every step so far.
        unsafe { word_at(to, done) }.store(word, Relaxed);
        done += 8;
    }
}

/// Copies shared bytes to a private place.
///
/// # Safety
///
/// `from` is aligned to 8, and `to.len()` bytes from it are mapped, outlive the call and are written
/// by nobody meanwhile.
#[inline(always)]
pub(crate) unsafe fn get(how: CopyBy, to: &mut [u8], from: *mut u8) {
    let mut done = 0;
    match how {
        CopyBy::Plain => {
            let len = to.len();
            // SAFETY: `from` holds `len` bytes; private memory does not overlap shared.
            return unsafe { from.copy_to_nonoverlapping(to.as_mut_ptr(), len) };
        }
        CopyBy::Blocks => {
            while cfg!(target_arch = "x86_64") && to.len() - done >= BLOCK {
                // SAFETY: `done + BLOCK <= to.len()`, which `from` holds.
                let source = unsafe { from.add(done) };
                let target = to[done..].as_mut_ptr();
                // SAFETY: 64 bytes at `source` are the record's and 64 at `target` are ours.
                unsafe { block(source, target) };
                done += BLOCK;
            }
        }
        CopyBy::Words => {}
    }
    for chunk in to[done..].chunks_exact_mut(8) {
        // SAFETY: `done + 8 <= to.len()`, and `from` is aligned to 8 like every step so far.
        let word = unsafe { word_at(from, done) }.load(Relaxed);
        chunk.copy_from_slice(&word.to_ne_bytes());
        done += 8;
    }
}

/// The word `offset` bytes behind `base`.
///
/// # Safety
///
/// `base + offset` is aligned to 8, mapped for 8 bytes for as long as the reference lives, and
/// shared by atomic accesses only.
#[inline(always)]
unsafe fn word_at<'a>(base: *mut u8, offset: usize) -> &'a AtomicU64 {
    // SAFETY: the caller keeps `base + offset` inside one mapping.
    let word = unsafe { base.add(offset) };
    // SAFETY: aligned, mapped and atomic, as the caller promises.
    unsafe { AtomicU64::from_ptr(word.cast()) }
}

/// Copies 64 bytes.
///
/// # Safety
///
/// 64 bytes can be read at `from` and written at `to`; the ranges do not overlap.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn block(from: *const u8, to: *mut u8) {
    // SAFETY: touches 64 bytes on either side, as the caller allows, and the four registers it
    // declares; neither flags nor stack.
    unsafe {
        std::arch::asm!(
            "movups {a}, [{from}]",
            "movups {b}, [{from} + 16]",
            "movups {c}, [{from} + 32]",
            "movups {d}, [{from} + 48]",
            "movups [{to}], {a}",
            "movups [{to} + 16], {b}",
            "movups [{to} + 32], {c}",
            "movups [{to} + 48], {d}",
            from = in(reg) from,
            to = in(reg) to,
            a = out(xmm_reg) _,
            b = out(xmm_reg) _,
            c = out(xmm_reg) _,
            d = out(xmm_reg) _,
            options(nostack, preserves_flags),
        );
    }
}

/// Never called: without SSE the loops above make no block.
///
/// # Safety
///
/// None needed.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn block(_: *const u8, _: *mut u8) {}
