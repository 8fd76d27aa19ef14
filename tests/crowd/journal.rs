//! Words in a file that outlive the process that writes them: what it had done when it was killed.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::harness::map;

/// An array of words in a file.
pub(crate) struct Journal {
    map: memmap2::MmapRaw,
}

impl Journal {
    pub(crate) fn create(path: &str, words: usize) -> Journal {
        let file = std::fs::File::create_new(path).unwrap();
        file.set_len(words as u64 * 8).unwrap();
        Journal::open(path)
    }

    pub(crate) fn open(path: &str) -> Journal {
        let len = std::fs::metadata(path).unwrap().len();
        Journal { map: map(path, len as usize) }
    }

    pub(crate) fn word(&self, index: usize) -> &AtomicU64 {
        assert!((index + 1) * 8 <= self.map.len());
        // SAFETY: the word lies inside the mapping, as was just asserted.
        let at = unsafe { self.map.as_mut_ptr().add(index * 8) };
        // SAFETY: a mapping begins on a page, so the word is aligned; the mapping lives as long as `self`, and every
        // process uses its words through atomics only.
        unsafe { AtomicU64::from_ptr(at.cast()) }
    }

    pub(crate) fn get(&self, index: usize) -> u64 {
        self.word(index).load(Ordering::SeqCst)
    }

    pub(crate) fn set(&self, index: usize, value: u64) {
        self.word(index).store(value, Ordering::SeqCst);
    }
}
