//! Access to a ring's memory, true to its bounds.
//!
//! Knows where the memory is and how large the ring is. Knows nothing of whether it is a map or the heap, and nothing of
//! what the algorithms store. The one place where an address becomes a reference, and only ever a reference to an
//! atomic: no `&[u8]` and no `&T` is formed over memory that a peer may write.
//!
//! # Invariants
//!
//! - V1. `base` is aligned to a line and heads `CONTROL_LEN + ring.bytes()` mapped, writable bytes, for as long as the
//!   keeper lives. The memory is accessed only through atomics and the copies of `sync`, by this process.
//! - V2. An offset into the data is below `ring.bytes()`: a position or an index masked by the shape, or cut to it; a
//!   range is cut to the end of the ring's memory before it is touched.
//! - V3. A [`Slot`] lies at `table + index * stride` with `index < slots`: a multiple of a line, with `stride` bytes of data
//!   behind it, at least one line (asserted in `geometry`).

use core::mem::MaybeUninit;
use core::ptr::NonNull;
use std::sync::Arc;

use super::control::{CONTROL_LEN, SeatWord, Word, Word32};
use super::geometry::{Geometry, LINE, SEAT_LEN, Shape, Slots};
use crate::sync::{self, AtomicU32, AtomicU64, Ordering::Relaxed};

/// Whatever keeps the memory where it is.
pub trait Keeper: Send + Sync {}

/// A ring's memory. Cheap to clone.
#[derive(Clone)]
pub struct View<G: Shape = Geometry> {
    base: NonNull<u8>,
    ring: G,
    _keeper: Arc<dyn Keeper>,
}

// SAFETY: by V1 the memory lives as long as `keeper`, which is `Send`, and is accessed by atomics and race-proof copies.
unsafe impl<G: Shape> Send for View<G> {}
// SAFETY: as above; every method that takes `&self` is an atomic access or a copy that is defined under a race.
unsafe impl<G: Shape> Sync for View<G> {}

impl<G: Shape> core::fmt::Debug for View<G> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("View").field("ring", &self.ring).finish_non_exhaustive()
    }
}

impl<G: Shape> View<G> {
    /// A view of the ring at `base`.
    ///
    /// # Safety
    ///
    /// V1 holds for `base`, `ring` and `keeper`.
    pub unsafe fn over(base: NonNull<u8>, ring: G, keeper: Arc<dyn Keeper>) -> Self {
        Self { base, ring, _keeper: keeper }
    }

    /// The ring's shape, as it was at open: never read from the memory again.
    #[inline]
    pub fn ring(&self) -> G {
        self.ring
    }

    /// The address `offset` bytes into the file; `offset` is below `CONTROL_LEN + ring.bytes()`.
    #[inline]
    fn at(&self, offset: usize) -> *mut u8 {
        debug_assert!(offset < CONTROL_LEN + self.ring.bytes() as usize);
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

    /// Stores a counter that only this process writes and nobody decides by.
    #[inline]
    pub fn count(&self, word: Word, value: u64) {
        // Relaxed: news only.
        self.word(word).store(value, Relaxed);
    }

    /// Adds to such a counter. One store: it waits in the same queue as those that matter.
    #[inline]
    pub fn tally(&self, word: Word, n: u64) {
        let word = self.word(word);
        // Relaxed, both: news only.
        word.store(word.load(Relaxed).wrapping_add(n), Relaxed);
    }

    #[inline]
    fn data(&self, offset: u64) -> *mut u8 {
        self.at(CONTROL_LEN + offset as usize)
    }

    /// The word `offset` bytes into the data, a multiple of 8 (V2).
    #[inline]
    fn data_word(&self, offset: u64) -> &AtomicU64 {
        // SAFETY: V1 and V2; multiples of 8 behind a base that is aligned to a line.
        unsafe { AtomicU64::from_ptr(self.data(offset).cast()) }
    }

    /// How many of `len` bytes at `offset`, which is inside the data, lie before the end of the memory (V2).
    #[inline]
    fn cut(&self, offset: u64, len: usize) -> usize {
        let room = (self.ring.bytes() - offset) as usize;
        len.min(room)
    }

    /// Brings an offset into the data, down to a multiple of 8 (V2).
    #[inline]
    fn inside(&self, offset: u64) -> u64 {
        offset.min(self.ring.bytes() - 8) & !7
    }

    /// Stores `bytes` at `offset` into the data, a multiple of 8; the bytes up to the next multiple of 8 become zero.
    #[inline]
    pub fn write_data(&self, offset: u64, bytes: &[u8]) {
        let offset = self.inside(offset);
        let len = self.cut(offset, bytes.len());
        // SAFETY: V1 and V2: `len` bytes at `offset`, and the rest of the last word, lie in the data; offset is a
        // multiple of 8; everybody accesses the data by atomics or these copies.
        unsafe { sync::copy_to_shared(self.data(offset), &bytes[..len]) };
    }

    /// Stores `bytes` at any `offset` into the data, keeping the bytes around them. Only for memory that this side owns.
    pub fn patch_data(&self, offset: u64, bytes: &[u8]) {
        let (mut at, mut rest) = (offset, bytes);
        if at % 8 != 0 {
            let skip = (at % 8) as usize;
            let now = rest.len().min(8 - skip);
            self.patch_word(at - skip as u64, skip, &rest[..now]);
            (at, rest) = (at + now as u64, &rest[now..]);
        }
        let whole = rest.len() - rest.len() % 8;
        self.write_data(at, &rest[..whole]);
        if whole < rest.len() {
            self.patch_word(at + whole as u64, 0, &rest[whole..]);
        }
    }

    fn patch_word(&self, offset: u64, skip: usize, bytes: &[u8]) {
        let word = self.data_word(self.inside(offset));
        // Relaxed: the memory is this side's own until a commit's Release publishes it.
        let mut whole = word.load(Relaxed).to_ne_bytes();
        whole[skip..skip + bytes.len()].copy_from_slice(bytes);
        word.store(u64::from_ne_bytes(whole), Relaxed);
    }

    /// Stores zeros over `len` bytes at `offset` into the data, rounded up to words; `offset` is a multiple of 8.
    pub fn zero_data(&self, offset: u64, len: usize) {
        let offset = self.inside(offset);
        let len = self.cut(offset, len);
        for at in (0..len as u64).step_by(8) {
            // Relaxed: as in `patch_word`.
            self.data_word(offset + at).store(0, Relaxed);
        }
    }

    /// Loads what lies at `offset` into the data, a multiple of 8, into `to`; answers how many bytes (fewer only at the
    /// end of the ring's memory).
    #[inline]
    pub fn read_data<'a>(&self, offset: u64, to: &'a mut [MaybeUninit<u8>]) -> &'a mut [u8] {
        let offset = self.inside(offset);
        let len = self.cut(offset, to.len());
        let to = &mut to[..len];
        // SAFETY: V1 and V2 as in `write_data`; `to` is `len` bytes of private memory.
        unsafe { sync::copy_from_shared(to.as_mut_ptr().cast(), self.data(offset), len) };
        // SAFETY: all `len` bytes were just written.
        unsafe { core::slice::from_raw_parts_mut(to.as_mut_ptr().cast(), len) }
    }

    /// The address `offset` bytes into the data; `ring.bytes() - offset` bytes follow it.
    pub fn address_data(&self, offset: u64) -> *mut u8 {
        self.data(self.inside(offset))
    }
}

impl View<Geometry> {
    /// Word 0 of the line at `position`.
    #[inline]
    pub fn line(&self, position: u64) -> &AtomicU64 {
        self.data_word(self.ring.line(position))
    }

    /// The address of `position`; it lies in the ring (V2).
    #[inline]
    pub fn address(&self, position: u64) -> *mut u8 {
        self.data(self.ring.offset(position))
    }

    /// Stores `bytes` at `position`, a multiple of 8; the bytes up to the next multiple of 8 become zero.
    #[inline]
    pub fn write(&self, position: u64, bytes: &[u8]) {
        self.write_data(self.ring.offset(position), bytes);
    }

    /// Says that `len` bytes from `position` on will be stored to soon. A hint, as far as the end of the memory.
    #[inline]
    pub fn will_write(&self, position: u64, len: u64) {
        self.each_line(position, len, sync::will_write);
    }

    /// Says that `len` bytes from `position` on will be loaded soon. A hint, as far as the end of the memory.
    #[inline]
    pub fn will_read(&self, position: u64, len: u64) {
        self.each_line(position, len, sync::will_read);
    }

    #[inline(always)]
    fn each_line(&self, position: u64, len: u64, hint: impl Fn(*const u8)) {
        let offset = self.ring.offset(position);
        for line in (0..self.cut(offset, len as usize)).step_by(LINE as usize) {
            hint(self.data(offset + line as u64));
        }
    }

    /// Loads what lies at `position`, a multiple of 8, into `to`; answers how many bytes (fewer only at the end of the
    /// ring's memory).
    #[inline]
    pub fn read<'a>(&self, position: u64, to: &'a mut [MaybeUninit<u8>]) -> &'a mut [u8] {
        self.read_data(self.ring.offset(position), to)
    }
}

/// A slot of the view that it borrows.
#[derive(Clone, Copy, Debug)]
pub struct Slot<'v> {
    view: &'v View<Slots>,
    /// Where it lies in the data (V3).
    at: u64,
}

impl<'v> Slot<'v> {
    /// Its word.
    #[inline]
    pub fn word(self) -> &'v AtomicU64 {
        self.view.data_word(self.at)
    }

    /// The bits of its meta word, of whoever has the claim.
    #[inline]
    pub fn meta(self) -> u64 {
        // Relaxed: only the holder of the claim writes it, and the slot's word orders the holders.
        self.view.data_word(self.at + 8).load(Relaxed)
    }

    /// Stores its meta word. Only whoever has the claim.
    #[inline]
    pub fn set_meta(self, bits: u64) {
        // Relaxed: as in `meta`.
        self.view.data_word(self.at + 8).store(bits, Relaxed);
    }

    /// Where its payload lies in the data.
    #[inline]
    pub fn payload(self) -> u64 {
        self.at + self.view.ring.payload()
    }

    /// Stores into each line behind the first that a payload of `len` bytes covers: the next sender's stores to them are
    /// cheap then. Stores what is there: whoever dies in the middle leaves the message whole. Only whoever has the claim.
    #[inline]
    pub fn touch(self, len: u64) {
        // At most `stride` (V3).
        let end = self.view.ring.payload() + len.min(self.view.ring.max_len());
        let mut line = LINE;
        while line < end {
            let word = self.view.data_word(self.at + line);
            // Relaxed, both: the release of the slot orders them.
            word.store(word.load(Relaxed), Relaxed);
            line += LINE;
        }
    }
}

impl View<Slots> {
    /// Slot `index`, of as many as there are.
    #[inline]
    pub fn slot(&self, index: u64) -> Slot<'_> {
        Slot { view: self, at: self.ring.table() + self.ring.index(index) * self.ring.stride() }
    }

    /// A word of a seat; one that the table does not have is taken for the first.
    #[inline]
    pub fn seat(&self, seat: u32, word: SeatWord) -> &AtomicU64 {
        let seat = u64::from(if seat < self.ring.seats() { seat } else { 0 });
        self.data_word(seat * SEAT_LEN + word.offset() as u64)
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use std::cell::RefCell;

    /// A line of memory that nobody touches.
    #[repr(align(64))]
    #[derive(Clone)]
    struct Block(#[allow(dead_code)] [u8; LINE as usize]);

    impl Keeper for Vec<Block> {}

    fn view(ring: Geometry) -> View {
        let lines = (CONTROL_LEN as u64 + ring.bytes()) / LINE;
        let mut memory = vec![Block([0; LINE as usize]); lines as usize];
        let base = NonNull::new(memory.as_mut_ptr()).expect("not empty").cast();
        // SAFETY: V1: the keeper holds as many bytes, aligned to a line, and they stay where they are.
        unsafe { View::over(base, ring, Arc::new(memory)) }
    }

    #[test]
    fn a_hint_names_each_line_and_none_behind_the_memory() {
        let ring = Geometry::new(4096).expect("legal");
        let view = view(ring);
        for (position, len, named) in [
            (0, 3 * LINE, 3),
            (64, 1, 1),
            (128, 0, 0),
            (4096 - 128, 1 << 20, 2),
            (4096 - 64, u64::MAX, 1),
            (0u64.wrapping_sub(64), 4096, 1),
        ] {
            let lines = RefCell::new(Vec::new());
            view.each_line(position, len, |line| lines.borrow_mut().push(line));
            let first = ring.offset(position);
            let want = (0..named).map(|line| view.data(first + line * LINE).cast_const());
            assert_eq!(lines.into_inner(), want.collect::<Vec<_>>(), "{len} bytes at {position}");
        }
    }
}
