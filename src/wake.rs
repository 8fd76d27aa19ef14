//! Sleeping and waking on one word.
//!
//! Knows one 32-bit word that sleepers and wakers share: one sleeper ([`wake`], [`retract`]), or several ([`wake_some`],
//! [`wake_all`], and nobody retracts). Knows nothing of rings, slots, files or peers.
//!
//! # State
//!
//! | epoch (bits 1 to 31) | `SLEEPING` (bit 0) | meaning                                             |
//! |----------------------|--------------------|-----------------------------------------------------|
//! | e                    | 0                  | nobody has announced a sleep since epoch e began    |
//! | e                    | 1                  | somebody sleeps, or is about to, on epoch e         |
//!
//! # Invariants
//!
//! - W1. Only a waker starts a new epoch, and of one sleeper doing so clears `SLEEPING`. Of several it stays, because the
//!   others sleep on; who finds that fewer sleep than it would have woken clears it.
//! - W2. Whoever sleeps has announced, and then looked at the ring again and found nothing.
//! - W3. A bit, not a count: a sleeper that was killed leaves a bit, which the next wake retires; it would leave a count
//!   above 0 for ever.
//!
//! # Why no wake-up is lost
//!
//! Sleeper: announce, fence, look at the ring. Waker: write the ring, fence, look for the bit. One of the fences is
//! first, and whoever is second sees the other's write (rows W1 and W2 of docs/memory-ordering.md). Between the look and
//! the kernel a new epoch makes the word differ, and the kernel refuses to sleep.
//!
//! # If somebody dies
//!
//! A dead sleeper leaves the bit: one needless system call, then clean (C8). A waker that dies between its write and its
//! look wakes nobody (C3, C7): so a sleep on a shared word is a slice, and callers look again after each.

use crate::sync::Ordering::{AcqRel, Acquire, Relaxed, SeqCst};
use crate::sync::{self, AtomicU32, Deadline, LightFence, Scope, Slept};

const SLEEPING: u32 = 1;
const EPOCH: u32 = 2;

/// What an announced sleeper read; the kernel lets it sleep only while the word still says so.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    word: u32,
    /// False: the fence on the waker's behalf failed, so the waker may have missed the bit. Sleep only briefly.
    pub seen: bool,
}

/// Announces a sleep. Look at the ring once more, then [`sleep`] or [`retract`]. `light` is the waker's word that says
/// whether its fence is the compiler's only.
pub fn announce(cell: &AtomicU32, light: &AtomicU32) -> Ticket {
    // W2 AcqRel: the new epoch of a waker is seen with what it wrote; the fence orders this before the look.
    let word = cell.fetch_or(SLEEPING, AcqRel) | SLEEPING;
    sync::fence(SeqCst);
    // W3 Relaxed, after the fence: a waker that says so later runs a full fence of its own behind it, before its first
    // look for the bit.
    let seen = light.load(Relaxed) == 0 || sync::remote_fence();
    Ticket { word, seen }
}

/// Takes the announcement back: there was something after all.
pub fn retract(cell: &AtomicU32) {
    // Relaxed: one sleeper a word, so this only saves the next waker a system call.
    cell.fetch_and(!SLEEPING, Relaxed);
}

/// Sleeps until woken or until `deadline`. May return early for no reason: callers look again.
pub fn sleep(cell: &AtomicU32, ticket: Ticket, deadline: Deadline, scope: Scope) -> Slept {
    sync::futex_wait(cell, ticket.word, deadline, scope)
}

/// Whether somebody may sleep who has missed what the caller just wrote: [`wake`] it, or [`wake_some`].
#[inline(always)]
pub fn is_due(cell: &AtomicU32, light: LightFence) -> bool {
    // W1 fence: between what the caller has just written and the look for the bit.
    light.run();
    // W1 Relaxed: if the sleeper's fence came first its bit is visible here; if ours did, it sees the ring.
    cell.load(Relaxed) & SLEEPING != 0
}

/// Wakes the sleeper, where there can be one; answers whether it made the system call.
#[cold]
pub fn wake(cell: &AtomicU32, scope: Scope) -> bool {
    // Twice, because the sleeper may retract and announce anew in between. Not more often: a peer that garbles the word must
    // not keep us here, and whoever announces after our write looks at the ring for itself.
    for _ in 0..2 {
        // W1 Acquire: pairs with W2.
        let word = cell.load(Acquire);
        if word & SLEEPING == 0 {
            return false;
        }
        // Why not a plain add? The sleeper may retract meanwhile, and the bit would carry into the epoch (W1).
        let next = (word & !SLEEPING).wrapping_add(EPOCH);
        // W1 AcqRel: pairs with W2; a new epoch is seen with what was written before it.
        if cell.compare_exchange(word, next, AcqRel, Relaxed).is_ok() {
            break;
        }
    }
    sync::futex_wake(cell, 1, scope);
    true
}

/// As [`wake`], where several may sleep: wakes up to `n` of them, so that nobody is woken for nothing.
#[cold]
pub fn wake_some(cell: &AtomicU32, n: u32, scope: Scope) {
    // W4 AcqRel: as in `wake`. The bit stays up for those who sleep on; whoever is about to sleep is refused.
    cell.fetch_add(EPOCH, AcqRel);
    if sync::futex_wake(cell, n, scope) >= n {
        return;
    }
    // Nobody sleeps any more, unless somebody fell asleep since: retire the bit, and wake whom that concerns.
    // W4 Acquire, and AcqRel below: as in `wake`.
    let word = cell.load(Acquire);
    let next = (word & !SLEEPING).wrapping_add(EPOCH);
    if word & SLEEPING != 0 && cell.compare_exchange(word, next, AcqRel, Relaxed).is_ok() {
        sync::futex_wake(cell, u32::MAX, scope);
    }
}

/// Wakes all who sleep, for news that concern all of them: somebody left, or died. Runs a full fence.
#[cold]
pub fn wake_all(cell: &AtomicU32, scope: Scope) {
    // W1 fence: as in `is_due`.
    sync::fence(SeqCst);
    // W1 Relaxed: as in `is_due`.
    if cell.load(Relaxed) & SLEEPING != 0 {
        // W4 AcqRel: as in `wake_some`.
        cell.fetch_add(EPOCH, AcqRel);
        sync::futex_wake(cell, u32::MAX, scope);
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn an_announced_sleeper_is_woken_and_the_bit_is_retired() {
        let cell = Arc::new(AtomicU32::new(0));
        let ticket = announce(&cell, &AtomicU32::new(0));
        let sleeper = std::thread::spawn({
            let cell = Arc::clone(&cell);
            move || sleep(&cell, ticket, Deadline::NEVER, Scope::Private)
        });
        assert!(is_due(&cell, LightFence::Full), "the bit is up");
        assert!(wake(&cell, Scope::Private));
        assert_eq!(sleeper.join().expect("woken"), Slept::Look);
        assert!(!is_due(&cell, LightFence::Full), "the bit is down");
    }

    #[test]
    fn a_retracted_announcement_costs_no_system_call() {
        let cell = AtomicU32::new(u32::MAX - 1);
        announce(&cell, &AtomicU32::new(0));
        retract(&cell);
        assert!(!is_due(&cell, LightFence::Full));
    }
}
