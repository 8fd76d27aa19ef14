//! Memory that two processes share.
//!
//! It knows a page of words and slots behind it, a flag and a body each; and how two processes get a slot for each way. It
//! refuses to know what words and flags say; who may write a body, and when, is agreed by whoever uses it.
//!
//! # State
//!
//! ```text
//! byte 0     a page of words, each on two lines of its own      atomics, always
//! byte 4096  slot 0:  flag 4, and 4 unused | body up to 56 | longer bodies from byte 64 of the slot
//!            slot 1:  the same, a whole number of lines further
//! ```
//!
//! - S1. Words and flags are only ever touched as atomics, bodies only ever as bytes, and they do not overlap.
//! - S2. A body is written by one process while the other does not look: its user's flag, or the kernel, says when.

use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicU64};

use memmap2::{Advice, MmapRaw};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::{Kit, Laid, Shape, Side, unpack};

const PAGE: usize = 4096;
const LINE: usize = 64;
/// From one word of the page to the next.
const APART: usize = 128;
/// Bodies so short share the line of the flag.
const SHORT: usize = LINE - 8;

/// A mapping of such memory.
#[derive(Debug)]
pub(crate) struct Shared {
    map: MmapRaw,
    /// From one slot to the next, in bytes.
    stride: usize,
    slots: usize,
    /// One thread at a time: bodies are plain bytes.
    _alone: PhantomData<*const ()>,
}

impl Shared {
    fn stride(len: usize) -> usize {
        if len <= SHORT { LINE } else { LINE + len.next_multiple_of(LINE) }
    }

    /// Zeroed memory with so many slots for bodies up to `len`. It has no name, and goes with its last descriptor.
    pub(crate) fn create(slots: usize, len: usize) -> io::Result<OwnedFd> {
        let file = File::from(memfd_create("quoit-bench", MFdFlags::MFD_CLOEXEC)?);
        file.set_len((PAGE + slots * Self::stride(len)) as u64)?;
        Ok(file.into())
    }

    /// Maps what [`Shared::create`] made with the same numbers, and faults it in.
    pub(crate) fn open(fd: OwnedFd, slots: usize, len: usize) -> io::Result<Shared> {
        let map = MmapRaw::map_raw(&File::from(fd))?;
        if map.len() < PAGE + slots * Self::stride(len) {
            return Err(io::Error::other("shared memory that is too short"));
        }
        // Without it (a kernel before 5.14) the faults fall into the warm-up.
        let _ = map.advise(Advice::PopulateWrite);
        Ok(Shared { map, stride: Self::stride(len), slots, _alone: PhantomData })
    }

    /// Word number `n` of the page.
    #[inline(always)]
    pub(crate) fn word(&self, n: usize) -> &AtomicU64 {
        assert!(n < PAGE / APART, "the page has no such word");
        // SAFETY: inside the page, which is inside the mapping.
        let word = unsafe { self.map.as_mut_ptr().add(n * APART) };
        // SAFETY: aligned to a line, mapped as long as `self` lives, and by S1 never touched but as an atomic.
        unsafe { AtomicU64::from_ptr(word.cast()) }
    }

    /// The flag of a slot.
    #[inline(always)]
    fn flag(&self, slot: usize) -> &AtomicU32 {
        assert!(slot < self.slots, "there is no such slot");
        // SAFETY: the slot is inside the mapping.
        let flag = unsafe { self.map.as_mut_ptr().add(PAGE + slot * self.stride) };
        // SAFETY: aligned to a line, mapped as long as `self` lives, and by S1 never touched but as an atomic.
        unsafe { AtomicU32::from_ptr(flag.cast()) }
    }

    #[inline(always)]
    fn body(&self, slot: usize, len: usize) -> *mut u8 {
        assert!(slot < self.slots, "there is no such slot");
        let offset = if len <= SHORT { LINE - SHORT } else { LINE };
        assert!(offset + len <= self.stride, "the slot has no room for this body");
        // SAFETY: the slot is inside the mapping, and the body inside the slot.
        unsafe { self.map.as_mut_ptr().add(PAGE + slot * self.stride + offset) }
    }

    /// Writes the body of a slot.
    #[inline(always)]
    pub(crate) fn put(&self, slot: usize, bytes: &[u8]) {
        let body = self.body(slot, bytes.len());
        // SAFETY: `body` has room for these bytes, no atomic is among them (S1), and the other side does not look (S2).
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), body, bytes.len()) };
    }

    /// Reads the body of a slot.
    #[inline(always)]
    pub(crate) fn get(&self, slot: usize, bytes: &mut [u8]) {
        let body = self.body(slot, bytes.len());
        // SAFETY: so many bytes are in the slot, no atomic is among them (S1), and the other side does not write (S2).
        unsafe { ptr::copy_nonoverlapping(body, bytes.as_mut_ptr(), bytes.len()) };
    }
}

/// The one slot of a way, as one end has it.
#[derive(Debug)]
pub(crate) struct Slot {
    memory: Shared,
    at: usize,
}

impl Slot {
    /// A slot each way.
    pub(crate) fn lay(shape: &Shape) -> io::Result<Laid> {
        let memory = Shared::create(2, shape.size)?;
        Ok(Laid::of(vec![memory.try_clone()?], vec![memory]))
    }

    /// The slot to send by and the slot to receive from.
    pub(crate) fn ends(kit: Kit, side: Side, shape: &Shape) -> io::Result<(Slot, Slot)> {
        let [memory] = unpack(kit)?;
        let (to, from) = match side {
            Side::Client => (0, 1),
            Side::Server => (1, 0),
        };
        let tx = Shared::open(memory.try_clone()?, 2, shape.size)?;
        let rx = Shared::open(memory, 2, shape.size)?;
        Ok((Slot { memory: tx, at: to }, Slot { memory: rx, at: from }))
    }

    /// Its flag.
    #[inline(always)]
    pub(crate) fn flag(&self) -> &AtomicU32 {
        self.memory.flag(self.at)
    }

    /// Writes its body.
    #[inline(always)]
    pub(crate) fn put(&self, message: &[u8]) {
        self.memory.put(self.at, message);
    }

    /// Reads its body.
    #[inline(always)]
    pub(crate) fn get(&self, message: &mut [u8]) {
        self.memory.get(self.at, message);
    }
}

/// Words that two processes share, each on lines of its own, for what has to be said past every transport.
#[derive(Debug)]
pub struct Board(Shared);

impl Board {
    /// A board of zeros.
    pub fn create() -> io::Result<OwnedFd> {
        Shared::create(0, 0)
    }

    /// Takes a place at it.
    pub fn open(fd: OwnedFd) -> io::Result<Board> {
        Ok(Board(Shared::open(fd, 0, 0)?))
    }

    /// Word number `n`, below 32.
    #[inline(always)]
    pub fn word(&self, n: usize) -> &AtomicU64 {
        self.0.word(n)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    #[test]
    fn bodies_of_every_length_keep_clear_of_flags_and_of_each_other() {
        for len in [1, 8, 56, 57, 64, 65, 1000] {
            let fd = Shared::create(3, len).unwrap();
            let (one, other) = (fd.try_clone().unwrap(), fd);
            let one = Shared::open(one, 3, len).unwrap();
            let other = Shared::open(other, 3, len).unwrap();
            one.word(31).store(7, Relaxed);
            for slot in 0..3 {
                one.put(slot, &vec![slot as u8 + 1; len]);
                one.flag(slot).store(slot as u32 + 100, Relaxed);
            }
            for slot in 0..3 {
                let mut found = vec![0; len];
                other.get(slot, &mut found);
                assert_eq!(found, vec![slot as u8 + 1; len]);
                assert_eq!(other.flag(slot).load(Relaxed), slot as u32 + 100);
            }
            assert_eq!(other.word(31).load(Relaxed), 7);
        }
    }
}
