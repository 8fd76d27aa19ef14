//! A word that says whose turn it is at a slot, and who sleeps until that changes.
//!
//! It knows two ends, the one that fills the slot and the one that empties it, and how an end waits. It refuses to know
//! where the word and the slot lie, and how one end reaches the other in its sleep: that is the [`Bed`].
//!
//! # State
//!
//! The word says whether the slot is full, whether somebody sleeps until that changes, and whether an end is gone. A
//! sender writes the slot while it is empty, a receiver reads it while it is full, so one of them waits at most. Whoever
//! turns the word takes the sleeper's mark out in the same step, and wakes. So a message costs one sleep and one wake-up
//! where its receiver sleeps, and no call where it does not.

use std::io;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Instant;

use crate::Wait;
use crate::patience::{IN_VAIN, SPINS};

pub(crate) const FULL: u32 = 1;
const ASLEEP: u32 = 2;
const GONE: u32 = 4;

/// Where the two ends sleep.
pub(crate) trait Bed {
    /// Sleeps while the word is what was seen. May return at any time.
    fn sleep(word: &AtomicU32, seen: u32);
    /// Wakes whoever sleeps: one end at most.
    fn wake(word: &AtomicU32);
}

/// Waits until the slot is full, or empty; an error if that will never be, because the other end is gone.
#[inline(always)]
pub(crate) fn until<B: Bed>(word: &AtomicU32, full: u32, wait: Wait) -> io::Result<()> {
    let (mut in_vain, mut since) = (0_u64, None);
    loop {
        // Acquire: pairs with the Release in `turn`, so the slot is ours to read, or to write again.
        let seen = word.load(Acquire);
        if seen & FULL == full {
            return Ok(());
        }
        if seen & GONE != 0 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        match wait {
            Wait::Block => sleep::<B>(word, seen),
            Wait::Adaptive if since.get_or_insert_with(Instant::now).elapsed() >= SPINS => {
                sleep::<B>(word, seen);
                since = None;
            }
            Wait::Adaptive | Wait::Spin => {
                in_vain += 1;
                if in_vain % IN_VAIN == 0 {
                    std::thread::yield_now();
                }
                std::hint::spin_loop();
            }
        }
    }
}

/// Sleeps as long as the word is what was seen.
#[cold]
fn sleep<B: Bed>(word: &AtomicU32, seen: u32) {
    let asleep = seen | ASLEEP;
    // Relaxed: what is done about the word is decided by the next look.
    if seen == asleep || word.compare_exchange(seen, asleep, Relaxed, Relaxed).is_ok() {
        B::sleep(word, asleep);
    }
}

/// The slot has been filled or emptied: says so, and wakes whoever slept until it was.
#[inline(always)]
pub(crate) fn turn<B: Bed>(word: &AtomicU32) {
    let turned = |seen: u32| Some((seen ^ FULL) & !ASLEEP);
    // Release: publishes the body, or that it was read; pairs with the Acquire in `until`.
    if let Ok(seen) = word.fetch_update(Release, Relaxed, turned)
        && seen & ASLEEP != 0
    {
        B::wake(word);
    }
}

/// One end will not come back.
pub(crate) fn leave<B: Bed>(word: &AtomicU32) {
    // Release: what it has sent is there; pairs with the Acquire in `until`.
    word.fetch_or(GONE, Release);
    B::wake(word);
}
