//! The view's twin in the model worlds: the same words, each an object of the model checker.
//!
//! Knows the same as `view`. A model's atomics cannot lie in a map, so the memory is a table of them; payload bytes that no
//! protocol word shares are plain cells, so that a torn or racing read is found and not inferred.

use core::mem::MaybeUninit;
use std::sync::Arc;

use super::control::{ALL_WORDS, ALL_WORDS32, Word, Word32};
use super::geometry::{Geometry, LINE};
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
    lines: Vec<Line>,
}

/// A ring's memory. Cheap to clone.
#[derive(Clone)]
pub struct View {
    ring: Geometry,
    memory: Arc<Memory>,
}

impl core::fmt::Debug for View {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("View").field("ring", &self.ring).finish_non_exhaustive()
    }
}

impl View {
    /// A ring of zeros.
    pub fn model(ring: Geometry) -> Self {
        let line =
            || Line { word: AtomicU64::new(0), rest: core::array::from_fn(|_| Cell::new(0)) };
        let memory = Memory {
            words: ALL_WORDS.iter().map(|_| AtomicU64::new(0)).collect(),
            words32: ALL_WORDS32.iter().map(|_| AtomicU32::new(0)).collect(),
            lines: (0..ring.capacity() / LINE).map(|_| line()).collect(),
        };
        Self { ring, memory: Arc::new(memory) }
    }

    /// The ring's shape.
    pub fn ring(&self) -> Geometry {
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

    /// Word 0 of the line at `position`.
    pub fn line(&self, position: u64) -> &AtomicU64 {
        &self.line_at(self.ring.offset(position)).word
    }

    fn line_at(&self, offset: u64) -> &Line {
        &self.memory.lines[(offset / LINE) as usize]
    }

    /// Counters are news: they are no part of the models.
    pub fn count(&self, _word: Word, _value: u64) {}

    fn cut(&self, position: u64, len: usize) -> (u64, usize) {
        let offset = self.ring.offset(position);
        (offset, len.min((self.ring.capacity() - offset) as usize))
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

    /// Stores `bytes` at `position`, a multiple of 8; the bytes up to the next multiple of 8 become zero.
    pub fn write(&self, position: u64, bytes: &[u8]) {
        let (offset, len) = self.cut(position & !7, bytes.len());
        for (at, chunk) in bytes[..len].chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.put(offset + at as u64 * 8, u64::from_ne_bytes(word));
        }
    }

    /// Stores `bytes` at any `position`, keeping the bytes around them.
    pub fn patch(&self, position: u64, bytes: &[u8]) {
        for (at, &byte) in bytes.iter().enumerate() {
            let offset = self.ring.offset(position.wrapping_add(at as u64));
            let mut word = self.get(offset & !7).to_ne_bytes();
            word[(offset % 8) as usize] = byte;
            self.put(offset & !7, u64::from_ne_bytes(word));
        }
    }

    /// Stores zeros over `[position, position + len)`, rounded up to words; `position` is a multiple of 8.
    pub fn zero(&self, position: u64, len: usize) {
        let (offset, len) = self.cut(position & !7, len);
        for at in (0..len as u64).step_by(8) {
            self.put(offset + at, 0);
        }
    }

    /// Loads what lies at `position`, a multiple of 8, into `to`.
    pub fn read<'a>(&self, position: u64, to: &'a mut [MaybeUninit<u8>]) -> &'a mut [u8] {
        let (offset, len) = self.cut(position & !7, to.len());
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
