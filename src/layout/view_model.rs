//! The view's twin in the model worlds: the same words, each an object of the model checker.
//!
//! Knows the same as `view`. A model's atomics cannot lie in a map, so the memory is a table of them; payload bytes that no
//! protocol word shares are plain cells, so that a torn or racing read is found and not inferred.

use core::mem::MaybeUninit;
use std::sync::Arc;

use super::control::{ALL_WORDS, ALL_WORDS32, SeatWord, Word, Word32};
use super::geometry::{Geometry, LINE, SEAT_LEN, Shape, Slots};
use crate::sync::{AtomicU32, AtomicU64, Cell, Ordering::Relaxed};

/// Words of a line behind word 0.
const REST: usize = LINE as usize / 8 - 1;

/// One line: word 0, which the protocol uses, and a cell for each of the rest.
struct Line {
    word: AtomicU64,
    rest: [Cell; REST],
}

struct Memory {
    words: Vec<AtomicU64>,
    words32: Vec<AtomicU32>,
    /// The table of seats, word by word.
    seats: Vec<AtomicU64>,
    lines: Vec<Line>,
}

/// A ring's memory. Cheap to clone.
#[derive(Clone)]
pub struct View<G: Shape = Geometry> {
    ring: G,
    /// Bytes of the data before the lines: the table of seats.
    table: u64,
    memory: Arc<Memory>,
}

impl<G: Shape> core::fmt::Debug for View<G> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("View").field("ring", &self.ring).finish_non_exhaustive()
    }
}

impl<G: Shape> View<G> {
    /// A ring of zeros, with a table of so many bytes.
    pub fn model(ring: G, table: u64) -> Self {
        let line =
            || Line { word: AtomicU64::new(0), rest: core::array::from_fn(|_| Cell::new(0)) };
        let memory = Memory {
            words: ALL_WORDS.iter().map(|_| AtomicU64::new(0)).collect(),
            words32: ALL_WORDS32.iter().map(|_| AtomicU32::new(0)).collect(),
            seats: (0..table / 8).map(|_| AtomicU64::new(0)).collect(),
            lines: (0..(ring.bytes() - table) / LINE).map(|_| line()).collect(),
        };
        Self { ring, table, memory: Arc::new(memory) }
    }

    /// The ring's shape.
    pub fn ring(&self) -> G {
        self.ring
    }

    /// A control word.
    pub fn word(&self, word: Word) -> &AtomicU64 {
        &self.memory.words[word.index()]
    }

    /// A control word of 32 bits.
    pub fn word32(&self, word: Word32) -> &AtomicU32 {
        &self.memory.words32[word.index()]
    }

    /// Counters are news: they are no part of the models.
    pub fn count(&self, _word: Word, _value: u64) {}

    /// As [`count`](Self::count).
    pub fn tally(&self, _word: Word, _n: u64) {}

    fn line_at(&self, offset: u64) -> &Line {
        &self.memory.lines[((offset - self.table) / LINE) as usize]
    }

    fn cut(&self, offset: u64, len: usize) -> usize {
        len.min((self.ring.bytes() - offset) as usize)
    }

    fn put(&self, offset: u64, value: u64) {
        let line = self.line_at(offset);
        match (offset % LINE / 8) as usize {
            // Relaxed: as the copies of the native world.
            0 => line.word.store(value, Relaxed),
            at => line.rest[at - 1].set(value),
        }
    }

    fn get(&self, offset: u64) -> u64 {
        let line = self.line_at(offset);
        match (offset % LINE / 8) as usize {
            // Relaxed: as the copies of the native world.
            0 => line.word.load(Relaxed),
            at => line.rest[at - 1].get(),
        }
    }

    /// Stores `bytes` at `offset`, a multiple of 8; the bytes up to the next multiple of 8 become zero.
    pub fn write_data(&self, offset: u64, bytes: &[u8]) {
        let len = self.cut(offset, bytes.len());
        for (at, chunk) in bytes[..len].chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.put(offset + at as u64 * 8, u64::from_ne_bytes(word));
        }
    }

    /// Stores `bytes` at any `offset`, keeping the bytes around them.
    pub fn patch_data(&self, offset: u64, bytes: &[u8]) {
        for (at, &byte) in bytes.iter().enumerate() {
            let offset = offset + at as u64;
            let mut word = self.get(offset & !7).to_ne_bytes();
            word[(offset % 8) as usize] = byte;
            self.put(offset & !7, u64::from_ne_bytes(word));
        }
    }

    /// Stores zeros over `len` bytes at `offset`, rounded up to words; `offset` is a multiple of 8.
    pub fn zero_data(&self, offset: u64, len: usize) {
        let len = self.cut(offset, len);
        for at in (0..len as u64).step_by(8) {
            self.put(offset + at, 0);
        }
    }

    /// Loads what lies at `offset`, a multiple of 8, into `to`.
    pub fn read_data<'a>(&self, offset: u64, to: &'a mut [MaybeUninit<u8>]) -> &'a mut [u8] {
        let len = self.cut(offset, to.len());
        for (at, chunk) in to[..len].chunks_mut(8).enumerate() {
            let word = self.get(offset + at as u64 * 8).to_ne_bytes();
            for (to, from) in chunk.iter_mut().zip(word) {
                to.write(from);
            }
        }
        // SAFETY: all `len` bytes were just written.
        unsafe { core::slice::from_raw_parts_mut(to.as_mut_ptr().cast(), len) }
    }
}

impl View<Geometry> {
    /// Word 0 of the line at `position`.
    pub fn line(&self, position: u64) -> &AtomicU64 {
        &self.line_at(self.ring.offset(position)).word
    }

    /// Stores `bytes` at `position`, a multiple of 8; the bytes up to the next multiple of 8 become zero.
    pub fn write(&self, position: u64, bytes: &[u8]) {
        self.write_data(self.ring.offset(position), bytes);
    }

    /// A hint to a processor; a model has none.
    pub fn will_write(&self, _position: u64, _len: u64) {}

    /// A hint to a processor; a model has none.
    pub fn will_read(&self, _position: u64, _len: u64) {}

    /// Loads what lies at `position`, a multiple of 8, into `to`.
    pub fn read<'a>(&self, position: u64, to: &'a mut [MaybeUninit<u8>]) -> &'a mut [u8] {
        self.read_data(self.ring.offset(position), to)
    }
}

/// A slot of the view that it borrows.
#[derive(Clone, Copy, Debug)]
pub struct Slot<'v> {
    view: &'v View<Slots>,
    at: u64,
}

impl<'v> Slot<'v> {
    /// Its word.
    pub fn word(self) -> &'v AtomicU64 {
        &self.view.line_at(self.at).word
    }

    /// The bits of its meta word: a cell, because only the holder of the claim may touch it.
    pub fn meta(self) -> u64 {
        self.view.get(self.at + 8)
    }

    /// Stores its meta word.
    pub fn set_meta(self, bits: u64) {
        self.view.put(self.at + 8, bits);
    }

    /// Where its payload lies.
    pub fn payload(self) -> u64 {
        self.at + self.view.ring.payload()
    }

    /// Stores into each line behind the first that a payload of `len` bytes covers what is there.
    pub fn touch(self, len: u64) {
        let end = self.view.ring.payload() + len.min(self.view.ring.max_len());
        for line in (LINE..end).step_by(LINE as usize) {
            self.view.put(self.at + line, self.view.get(self.at + line));
        }
    }
}

impl View<Slots> {
    /// Slot `index`, of as many as there are.
    pub fn slot(&self, index: u64) -> Slot<'_> {
        Slot { view: self, at: self.ring.table() + self.ring.index(index) * self.ring.stride() }
    }

    /// A word of a seat.
    pub fn seat(&self, seat: u32, word: SeatWord) -> &AtomicU64 {
        let seat = u64::from(if seat < self.ring.seats() { seat } else { 0 });
        &self.memory.seats[(seat * SEAT_LEN + word.offset() as u64) as usize / 8]
    }
}
