//! Copying payload between private memory and memory that a peer may write at the same time.
//!
//! Knows addresses and lengths in whole 8-byte words. Knows nothing of records, rings or who owns what.
//!
//! # Why not `ptr::copy_nonoverlapping`
//!
//! A peer that breaks the protocol may store to these bytes while they are copied. For Rust that is a data race,
//! undefined whatever the values. Relaxed atomic words are defined, but the compiler does not combine them, and
//! from 1 KiB up they cost 2 to 3 times a `memcpy`. An `asm!` block is opaque: what it does to memory is defined
//! by the processor, and a race on a load or a store there yields some bytes, never undefined behaviour. So whole
//! lines go through `asm!` on x86-64 and aarch64, the rest (and everything elsewhere, and under Miri) through
//! Relaxed words.
//!
//! # Invariants
//!
//! - C1. The shared address is 8-byte aligned, and every word of `[shared, shared + 8 * ceil(len / 8))` is mapped and
//!   accessed only through atomics or `asm!`, by everybody.
//! - C2. The private range is the caller's own and does not overlap the shared one.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Bytes that one turn of the block loop moves.
#[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
const BLOCK: usize = 64;

/// Copies `len` bytes from private to shared memory. The bytes up to the next multiple of 8 become zero.
///
/// # Safety
///
/// C1 and C2 hold, and `private` is readable for `len` bytes.
#[inline]
pub(super) unsafe fn store(shared: *mut u8, private: *const u8, len: usize) {
    #[cfg(not(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri))))]
    let mut at = 0;
    #[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
    let mut at = len - len % BLOCK;
    #[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
    if at != 0 {
        // SAFETY: `at <= len`, so C1 and C2 cover both ranges; `at / BLOCK` is not 0.
        unsafe { copy_blocks(shared, private, at / BLOCK) };
    }
    while at + 8 <= len {
        // SAFETY: `at + 8 <= len`, readable by contract; unaligned reads of bytes are always values.
        let word = unsafe { private.wrapping_add(at).cast::<u64>().read_unaligned() };
        // SAFETY: by C1 the word at `at` is mapped, aligned and atomic to everybody.
        unsafe { word_at(shared, at) }.store(word, Relaxed);
        at += 8;
    }
    if at < len {
        let mut last = [0u8; 8];
        // SAFETY: fewer than 8 bytes remain, all readable by contract; `last` is ours.
        unsafe {
            core::ptr::copy_nonoverlapping(private.wrapping_add(at), last.as_mut_ptr(), len - at)
        };
        // SAFETY: by C1, which covers the word that holds the last byte.
        unsafe { word_at(shared, at) }.store(u64::from_ne_bytes(last), Relaxed);
    }
}

/// Copies `len` bytes from shared to private memory.
///
/// # Safety
///
/// C1 and C2 hold, and `private` is writable for `len` bytes.
#[inline]
pub(super) unsafe fn load(private: *mut u8, shared: *const u8, len: usize) {
    #[cfg(not(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri))))]
    let mut at = 0;
    #[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
    let mut at = len - len % BLOCK;
    #[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
    if at != 0 {
        // SAFETY: `at <= len`, so C1 and C2 cover both ranges; `at / BLOCK` is not 0.
        unsafe { copy_blocks(private, shared, at / BLOCK) };
    }
    while at + 8 <= len {
        // SAFETY: by C1 the word at `at` is mapped, aligned and atomic to everybody.
        let word = unsafe { word_at(shared.cast_mut(), at) }.load(Relaxed);
        // SAFETY: `at + 8 <= len`, writable by contract.
        unsafe { private.wrapping_add(at).cast::<u64>().write_unaligned(word) };
        at += 8;
    }
    if at < len {
        // SAFETY: by C1, which covers the word that holds the last byte.
        let last = unsafe { word_at(shared.cast_mut(), at) }.load(Relaxed).to_ne_bytes();
        // SAFETY: fewer than 8 bytes remain, all writable by contract.
        unsafe {
            core::ptr::copy_nonoverlapping(last.as_ptr(), private.wrapping_add(at), len - at)
        };
    }
}

/// The atomic word `at` bytes behind `shared`.
///
/// # Safety
///
/// `at` is a multiple of 8 and the word there is covered by C1.
#[inline]
unsafe fn word_at<'a>(shared: *mut u8, at: usize) -> &'a AtomicU64 {
    // SAFETY: within the range of C1 by contract.
    let word = unsafe { shared.add(at) };
    // SAFETY: aligned, mapped and atomic to everybody, by C1.
    unsafe { AtomicU64::from_ptr(word.cast()) }
}

/// 64 bytes a turn through four SSE registers, which every x86-64 has.
///
/// # Safety
///
/// Both ranges span `blocks * 64` bytes and do not overlap; `blocks` is not 0.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
unsafe fn copy_blocks(to: *mut u8, from: *const u8, blocks: usize) {
    // SAFETY: the loop runs `blocks` times and moves 64 bytes each; registers and flags are declared.
    unsafe {
        core::arch::asm!(
            "2:",
            "movups {a}, [{from}]",
            "movups {b}, [{from} + 16]",
            "movups {c}, [{from} + 32]",
            "movups {d}, [{from} + 48]",
            "movups [{to}], {a}",
            "movups [{to} + 16], {b}",
            "movups [{to} + 32], {c}",
            "movups [{to} + 48], {d}",
            "add {from}, 64",
            "add {to}, 64",
            "dec {n}",
            "jnz 2b",
            from = inout(reg) from => _,
            to = inout(reg) to => _,
            n = inout(reg) blocks => _,
            a = out(xmm_reg) _,
            b = out(xmm_reg) _,
            c = out(xmm_reg) _,
            d = out(xmm_reg) _,
            options(nostack),
        );
    }
}

/// 64 bytes a turn through four vector registers in pairs.
///
/// # Safety
///
/// Both ranges span `blocks * 64` bytes and do not overlap; `blocks` is not 0.
#[cfg(all(target_arch = "aarch64", not(miri)))]
#[inline]
unsafe fn copy_blocks(to: *mut u8, from: *const u8, blocks: usize) {
    // SAFETY: the loop runs `blocks` times and moves 64 bytes each; registers and flags are declared.
    unsafe {
        core::arch::asm!(
            "2:",
            "ldp {a:q}, {b:q}, [{from}]",
            "ldp {c:q}, {d:q}, [{from}, #32]",
            "stp {a:q}, {b:q}, [{to}]",
            "stp {c:q}, {d:q}, [{to}, #32]",
            "add {from}, {from}, #64",
            "add {to}, {to}, #64",
            "subs {n}, {n}, #1",
            "b.ne 2b",
            from = inout(reg) from => _,
            to = inout(reg) to => _,
            n = inout(reg) blocks => _,
            a = out(vreg) _,
            b = out(vreg) _,
            c = out(vreg) _,
            d = out(vreg) _,
            options(nostack),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEYOND: usize = 9;

    #[test]
    fn every_length_and_source_alignment_survives_the_round_trip() {
        let source: Vec<u8> = (0..1024u32).map(|i| (i * 7 + 3) as u8).collect();
        // Miri takes a thousand times as long.
        let every = if cfg!(miri) { 3 } else { 1 };
        for len in
            (0..200usize).step_by(every * every * every).chain([255, 256, 257, 511, 512, 777])
        {
            for skew in (0..8).step_by(every) {
                // The words that are to be touched, and as many behind them as a turn of the block loop could reach.
                let mut shared = vec![u64::MAX; len.div_ceil(8) + BEYOND];
                let base = shared.as_mut_ptr().cast::<u8>();
                // SAFETY: the words are aligned and hold `len` bytes, rounded up; the source has 1024.
                unsafe { store(base, source[skew..].as_ptr(), len) };
                let mut back = vec![0u8; len];
                // SAFETY: as above; `back` has `len` bytes.
                unsafe { load(back.as_mut_ptr(), base, len) };
                assert_eq!(back, source[skew..skew + len], "length {len}, skew {skew}");
                let rounded = len.div_ceil(8) * 8;
                let bytes: Vec<u8> = shared.iter().flat_map(|w| w.to_ne_bytes()).collect();
                assert!(
                    bytes[len..rounded].iter().all(|&b| b == 0),
                    "the last word is filled with zeros"
                );
                assert!(
                    bytes[rounded..].iter().all(|&b| b == 0xff),
                    "nothing beyond the last word is touched"
                );
            }
        }
    }
}
