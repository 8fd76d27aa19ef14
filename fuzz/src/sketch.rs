//! Parsers to be wrong with, so that the oracle is seen to find what it is for. Knows two mistakes that no test of a memory
//! that keeps still can find.

use quoit::oracle::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// A message of at most 32 bytes, behind a word that says how many.
#[derive(Debug, Default)]
pub struct Sketch {
    word: std::sync::atomic::AtomicU64,
    bytes: [u8; 32],
}

impl Sketch {
    fn word(&self) -> &AtomicU64 {
        // SAFETY: a word of our own, which lives as long as `self` and is an atomic to everybody.
        unsafe { AtomicU64::from_ptr(self.word.as_ptr()) }
    }

    /// Reads the length once.
    pub fn once(&self) -> Option<&[u8]> {
        let len = self.word().load(Relaxed) as usize;
        (len <= self.bytes.len()).then(|| &self.bytes[..len])
    }

    /// Reads it twice: what is checked is not what is used.
    pub fn twice(&self) -> Option<&[u8]> {
        let fits = self.word().load(Relaxed) as usize <= self.bytes.len();
        fits.then(|| &self.bytes[..self.word().load(Relaxed) as usize])
    }

    /// Waits until the word says that it is over.
    pub fn endless(&self) {
        while self.word().load(Relaxed) != u64::MAX / 3 {}
    }
}
