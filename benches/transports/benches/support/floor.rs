//! The floor: what the machine itself takes, with no ring in between.
//!
//! It knows two words on two lines that answer each other, and one slot that is used over and over.
//! It refuses to know streams: nothing here can have two messages on the way.
//!
//! [`quoit_transports::Floor`] is the slot as a safe program has it: it copies out, and gives way when it
//! waits long. Here a payload is read where it lies, as in the rings that are set against it, and
//! nobody gives way: both have a core.

use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::Duration;

use quoit_transports::{Board, Clock};

use super::copy::{self, CopyBy};
use super::proc::Arena;
use super::work::{Job, Trips};
use super::{Candidate, Rx, Tx, Way};

const THERE: usize = 0;
const BACK: usize = 1;
/// This bit in the flag ends a ping-pong.
const STOP: u64 = 1 << 63;

/// The client's side of a ping-pong of bare flags: nanoseconds of a typical round trip.
pub(crate) fn ping(board: &Board, clock: Clock, run: Duration) -> f64 {
    let (there, back) = (board.word(THERE), board.word(BACK));
    let mut flag = there.load(Acquire) & !STOP;
    let mut trips = Trips::new(clock);
    let end = clock.now() + clock.ticks(run);
    loop {
        let start = clock.now();
        flag += 1;
        there.store(flag, Release);
        while back.load(Acquire) != flag {}
        let now = clock.now();
        trips.add(now.saturating_sub(start));
        if now >= end {
            break;
        }
    }
    there.store(STOP | (flag + 1), Release);
    while back.load(Acquire) != STOP | (flag + 1) {}
    trips.typical()
}

/// The server's side of [`ping`].
pub(crate) fn pong(board: &Board) {
    let (there, back) = (board.word(THERE), board.word(BACK));
    let mut last = back.load(Acquire);
    loop {
        let flag = there.load(Acquire);
        if flag != last {
            last = flag;
            back.store(flag, Release);
            if flag & STOP != 0 {
                return;
            }
        }
    }
}

/// Payloads that fit behind the flag share its line.
const SHORT: usize = 56;
const LONGEST: usize = 64 * 1024;

/// One reused slot each way: the payload is stored, then the flag; the answer is the permission to
/// use the slot again. So it carries round trips and nothing else.
#[derive(Debug)]
pub(crate) struct Slots {
    arena: Rc<Arena>,
    there: NonNull<u8>,
    back: NonNull<u8>,
}

impl Candidate for Slots {
    type Tx = Slot;
    type Rx = Slot;

    fn lay(arena: &Rc<Arena>, _: &Job) -> Slots {
        let (there, back) = (arena.take(64 + LONGEST), arena.take(64 + LONGEST));
        Slots { arena: Rc::clone(arena), there, back }
    }

    fn tx(&self, way: Way) -> Slot {
        let base = if way == Way::There { self.there } else { self.back };
        Slot { _arena: Rc::clone(&self.arena), base, turn: 0 }
    }

    fn rx(&self, way: Way) -> Slot {
        self.tx(way)
    }
}

/// One end of a slot.
#[derive(Debug)]
pub(crate) struct Slot {
    _arena: Rc<Arena>,
    base: NonNull<u8>,
    turn: u64,
}

impl Slot {
    /// The flag carries the turn and the length.
    #[inline(always)]
    fn flag(&self) -> &AtomicU64 {
        // SAFETY: a page boundary inside the arena, which the field beside it keeps mapped; the
        // first word of a slot is only ever used through this function.
        unsafe { AtomicU64::from_ptr(self.base.cast().as_ptr()) }
    }

    #[inline(always)]
    fn body(&self, len: usize) -> *mut u8 {
        let offset = if len <= SHORT { 8 } else { 64 };
        // SAFETY: 64 + LONGEST bytes were taken for the slot.
        unsafe { self.base.add(offset) }.as_ptr()
    }
}

impl Tx for Slot {
    #[inline(always)]
    fn send(&mut self, payload: &[u8]) {
        assert!(payload.len() <= LONGEST, "the slot has no room for this payload");
        self.turn += 1;
        // SAFETY: the body has room for LONGEST bytes, begins on a word, and the peer does not
        // look at it between its answer, which the caller has, and the flag below.
        unsafe { copy::put(CopyBy::Plain, self.body(payload.len()), payload) };
        self.flag().store(self.turn << 32 | payload.len() as u64, Release);
    }
}

impl Rx for Slot {
    #[inline(always)]
    fn recv<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> R {
        self.turn += 1;
        let flag = loop {
            let flag = self.flag().load(Acquire);
            if flag >> 32 == self.turn {
                break flag;
            }
        };
        let len = (flag as u32) as usize;
        // SAFETY: the sender, our own code, stored `len` bytes here before the flag (Release) and
        // stores the next only after our answer; the mapping outlives the call.
        look(unsafe { std::slice::from_raw_parts(self.body(len), len) })
    }
}
