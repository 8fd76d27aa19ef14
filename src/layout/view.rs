//! Access to a ring's memory, true to its bounds.
//!
//! Knows where the memory is and how large the ring is. Knows nothing of whether it is a map or the heap, and nothing of
//! what the algorithms store. The one place where an address becomes a reference, and only ever a reference to an
//! atomic: no `&[u8]` and no `&T` is formed over memory that a peer may write.
//!
//! # Invariants
//!
//! - V1. `base` is aligned to a line and heads `CONTROL_LEN + capacity` mapped, writable bytes, for as long as the keeper
//!   lives. The memory is accessed only through atomics and the copies of `sync`, by this process.
//! - V2. An offset into the data is a position masked by the geometry, so it is below the capacity; a range is cut to the
//!   end of the ring's memory before it is touched.

use core::mem::MaybeUninit;
use core::ptr::NonNull;
use std::sync::Arc;

use super::control::{CONTROL_LEN, Word, Word32};
use super::geometry::{Geometry, LINE};
use crate::sync::{self, AtomicU32, AtomicU64, Ordering::Relaxed};

/// Whatever keeps the memory where it is.
pub trait Keeper: Send + Sync {}

/// A ring's memory. Cheap to clone.
#[derive(Clone)]
pub struct View {
    base: NonNull<u8>,
    ring: Geometry,
    _keeper: Arc<dyn Keeper>,
}

// SAFETY: by V1 the memory lives as long as `keeper`, which is `Send`, and is accessed by atomics and race-proof copies.
unsafe impl Send for View {}
// SAFETY: as above; every method that takes `&self` is an atomic access or a copy that is defined under a race.
unsafe impl Sync for View {}

impl core::fmt::Debug for View {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("View").field("ring", &self.ring).finish_non_exhaustive()
    }
}

impl View {
    /// A view of the ring at `base`.
    ///
    /// # Safety
    ///
    /// V1 holds for `base`, `ring` and `keeper`.
    pub unsafe fn over(base: NonNull<u8>, ring: Geometry, keeper: Arc<dyn Keeper>) -> Self {
        Self { base, ring, _keeper: keeper }
    }

    /// The ring's shape, as it was at open: never read from the memory again.
    #[inline]
    pub fn ring(&self) -> Geometry {
        self.ring
    }

    /// The address `offset` bytes into the file; `offset` is below `CONTROL_LEN + capacity`.
    #[inline]
    fn at(&self, offset: usize) -> *mut u8 {
        debug_assert!(offset < CONTROL_LEN + self.ring.capacity() as usize);
        // SAFETY: by V1 the memory reaches beyond `offset`; every caller's offset is a constant below CONTROL_LEN or
        // obeys V2.
        unsafe { self.base.as_ptr().add(offset) }
    }

    /// A control word.
    #[inline]
    pub fn word(&self, word: Word) -> &AtomicU64 {
        // SAFETY: V1; control offsets are aligned constants below CONTROL_LEN (asserted in `control`).
        unsafe { AtomicU64::from_ptr(self.at(word.offset()).cast()) }
    }

    /// A control word of 32 bits.
    #[inline]
    pub fn word32(&self, word: Word32) -> &AtomicU32 {
        // SAFETY: V1; control offsets are aligned constants below CONTROL_LEN (asserted in `control`).
        unsafe { AtomicU32::from_ptr(self.at(word.offset()).cast()) }
    }

    /// Word 0 of the line at `position`.
    #[inline]
    pub fn line(&self, position: u64) -> &AtomicU64 {
        let offset = self.ring.offset(position) & !(LINE - 1);
        // SAFETY: V1 and V2; lines are aligned to 64 bytes.
        unsafe { AtomicU64::from_ptr(self.data(offset).cast()) }
    }

    #[inline]
    fn data(&self, offset: u64) -> *mut u8 {
        self.at(CONTROL_LEN + offset as usize)
    }

    /// Stores a counter that only this process writes and nobody decides by.
    #[inline]
    pub fn count(&self, word: Word, value: u64) {
        // Relaxed: news only.
        self.word(word).store(value, Relaxed);
    }

    /// Cuts a range that starts at `position` to the end of the ring's memory (V2): offset and length.
    #[inline]
    fn cut(&self, position: u64, len: usize) -> (u64, usize) {
        let offset = self.ring.offset(position);
        let room = (self.ring.capacity() - offset) as usize;
        (offset, len.min(room))
    }

    /// Stores `bytes` at `position`, a multiple of 8; the bytes up to the next multiple of 8 become zero.
    #[inline]
    pub fn write(&self, position: u64, bytes: &[u8]) {
        let (offset, len) = self.cut(position & !7, bytes.len());
        // SAFETY: V1 and V2: `len` bytes at `offset`, and the rest of the last word, lie in the data; offset is a
        // multiple of 8; everybody accesses the data by atomics or these copies.
        unsafe { sync::copy_to_shared(self.data(offset), &bytes[..len]) };
    }

    /// Stores `bytes` at any `position`, keeping the bytes around them. Only for memory that this side owns.
    pub fn patch(&self, position: u64, bytes: &[u8]) {
        let (mut at, mut rest) = (position, bytes);
        if at % 8 != 0 {
            let skip = (at % 8) as usize;
            let now = rest.len().min(8 - skip);
            self.patch_word(at - skip as u64, skip, &rest[..now]);
            (at, rest) = (at.wrapping_add(now as u64), &rest[now..]);
        }
        let whole = rest.len() - rest.len() % 8;
        self.write(at, &rest[..whole]);
        if whole < rest.len() {
            self.patch_word(at.wrapping_add(whole as u64), 0, &rest[whole..]);
        }
    }

    fn patch_word(&self, position: u64, skip: usize, bytes: &[u8]) {
        // SAFETY: V1 and V2; `position` is a multiple of 8.
        let word = unsafe { AtomicU64::from_ptr(self.data(self.ring.offset(position)).cast()) };
        // Relaxed: the memory is this side's own until a commit's Release publishes it.
        let mut whole = word.load(Relaxed).to_ne_bytes();
        whole[skip..skip + bytes.len()].copy_from_slice(bytes);
        word.store(u64::from_ne_bytes(whole), Relaxed);
    }

    /// Stores zeros over `[position, position + len)`, rounded up to words; `position` is a multiple of 8.
    pub fn zero(&self, position: u64, len: usize) {
        let (offset, len) = self.cut(position & !7, len);
        for at in (0..len as u64).step_by(8) {
            // SAFETY: V1 and V2; multiples of 8 inside the data.
            let word = unsafe { AtomicU64::from_ptr(self.data(offset + at).cast()) };
            // Relaxed: as in `patch_word`.
            word.store(0, Relaxed);
        }
    }

    /// Loads what lies at `position`, a multiple of 8, into `to`; answers how many bytes (fewer only at the end of the
    /// ring's memory).
    #[inline]
    pub fn read<'a>(&self, position: u64, to: &'a mut [MaybeUninit<u8>]) -> &'a mut [u8] {
        let (offset, len) = self.cut(position & !7, to.len());
        let to = &mut to[..len];
        // SAFETY: V1 and V2 as in `write`; `to` is `len` bytes of private memory.
        unsafe { sync::copy_from_shared(to.as_mut_ptr().cast(), self.data(offset), len) };
        // SAFETY: all `len` bytes were just written.
        unsafe { core::slice::from_raw_parts_mut(to.as_mut_ptr().cast(), len) }
    }

    /// The address of `position`; `capacity - offset(position)` bytes follow it.
    pub fn address(&self, position: u64) -> *mut u8 {
        self.data(self.ring.offset(position))
    }
}
