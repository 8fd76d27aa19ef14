//! The textbook queue of many senders and many receivers: Vyukov's bounded ring of numbered slots.
//!
//! It knows slots, their sequence words and the two positions that everybody moves. It refuses to
//! know participants: a slot does not say who took it, so nobody can tell a slow one from a dead
//! one, and a process that is killed between its claim and its commit stops the ring for good.
//! Nothing is validated and nobody is woken either. So it is the price of handing slots out, with
//! nothing else, and the yardstick for `quoit::mpmc`, which has slots of the same shape.
//!
//! The algorithm. Slot `i` begins with its sequence word at `i`. A sender takes position `p` when
//! the word of slot `p % slots` is `p`, by moving `tail` from `p` to `p + 1` with one compare and
//! exchange; it then stores payload and length, and commits by storing `p + 1` into the word. A
//! receiver takes position `p` when the word is `p + 1`, by moving `head` in the same way, reads,
//! and frees the slot for the next lap by storing `p + slots`.
//!
//! A [`Design`] is one choice for each open question. Its defaults are the textbook.

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::copy::{self, CopyBy};
use super::proc::Arena;
use super::work::Job;
use super::{Candidate, Rx, Tx, Way};

/// One choice for each question.
pub(crate) trait Design: 'static {
    /// Slots for payloads of this length and more begin them on a line of their own.
    const OWN_LINE: usize = 192;
    /// Whether the receiver stores into each line of a message after the first. (It stores the
    /// sequence word into the first anyway.)
    const TOUCH: bool = false;
}

const LINE: usize = 64;
/// The sequence word and the length.
const HEADER: usize = 16;

// The positions lie on pages of their own.
const TAIL: usize = 0;
const HEAD: usize = 0x1000;
const DATA: usize = 0x2000;

/// Where the payload of a slot begins, and how long the slot is.
fn shape<D: Design>(max_len: usize) -> (usize, usize) {
    let offset = if max_len >= D::OWN_LINE { LINE } else { HEADER };
    (offset, (offset + max_len).next_multiple_of(LINE))
}

/// Both ways.
#[derive(Debug)]
pub(crate) struct Textbook<D> {
    there: Wire,
    back: Wire,
    design: PhantomData<D>,
}

impl<D: Design> Candidate for Textbook<D> {
    type Tx = TextbookEnd<D>;
    type Rx = TextbookEnd<D>;

    fn room(job: &Job) -> usize {
        DATA + job.slots * shape::<D>(job.size).1
    }

    fn lay(arena: &Rc<Arena>, job: &Job) -> Self {
        let wire = || Wire::new(arena, job.slots, job.size, shape::<D>(job.size));
        Textbook { there: wire(), back: wire(), design: PhantomData }
    }

    fn tx(&self, way: Way) -> TextbookEnd<D> {
        let wire = if way == Way::There { &self.there } else { &self.back };
        TextbookEnd { wire: wire.clone(), design: PhantomData }
    }

    fn rx(&self, way: Way) -> TextbookEnd<D> {
        self.tx(way)
    }
}

/// One ring in the arena: positions and slots.
#[derive(Clone, Debug)]
struct Wire {
    _arena: Rc<Arena>,
    base: NonNull<u8>,
    slots: u64,
    max_len: usize,
    /// Where a payload begins in its slot.
    payload_at: usize,
    /// From one slot to the next.
    stride: usize,
}

impl Wire {
    fn new(
        arena: &Rc<Arena>,
        slots: usize,
        max_len: usize,
        (payload_at, stride): (usize, usize),
    ) -> Wire {
        assert!(slots.is_power_of_two(), "a ring has a power of two of slots");
        let base = arena.take(DATA + slots * stride);
        let arena = Rc::clone(arena);
        let wire = Wire { _arena: arena, base, slots: slots as u64, max_len, payload_at, stride };
        for position in 0..wire.slots {
            wire.word(position, 0).store(position, Relaxed);
        }
        wire
    }

    /// The position at one of the offsets above.
    #[inline(always)]
    fn index(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: the offsets are below DATA, and DATA and the slots were taken.
        let word = unsafe { self.base.add(offset) };
        // SAFETY: aligned to a line, mapped as long as the arena in the field beside it, and the
        // index pages are only ever used through this function.
        unsafe { AtomicU64::from_ptr(word.cast().as_ptr()) }
    }

    /// The byte at an offset into the slot of a position.
    #[inline(always)]
    fn at(&self, position: u64, offset: usize) -> *mut u8 {
        debug_assert!(offset < self.stride);
        let slot = (position & (self.slots - 1)) as usize;
        // SAFETY: `slot < slots` and `offset < stride`, and DATA + slots * stride bytes were taken.
        unsafe { self.base.add(DATA + slot * self.stride + offset) }.as_ptr()
    }

    /// The word at an offset, a multiple of 8, into the slot of a position.
    #[inline(always)]
    fn word(&self, position: u64, offset: usize) -> &AtomicU64 {
        debug_assert!(offset.is_multiple_of(8));
        // SAFETY: aligned, because the base, DATA, the stride and the offset are; mapped like the
        // index. Whoever took the position is alone with the payload until the sequence word
        // changes hands, so nobody uses the same bytes as anything but words at the same time.
        unsafe { AtomicU64::from_ptr(self.at(position, offset).cast()) }
    }

    /// Takes the position that the index at `index` is at, once its slot is `ahead` of it.
    #[inline(always)]
    fn take(&self, index: usize, ahead: u64) -> u64 {
        let index = self.index(index);
        loop {
            let position = index.load(Relaxed);
            let sequence = self.word(position, 0).load(Acquire);
            if sequence == position + ahead {
                let next = position + 1;
                if index.compare_exchange_weak(position, next, Relaxed, Relaxed).is_ok() {
                    return position;
                }
            } else if sequence < position + ahead {
                // Full, or empty. (More than that: somebody was faster.)
                std::hint::spin_loop();
            }
        }
    }
}

/// Either end: they share everything.
#[derive(Debug)]
pub(crate) struct TextbookEnd<D> {
    wire: Wire,
    design: PhantomData<D>,
}

impl<D: Design> Tx for TextbookEnd<D> {
    #[inline(always)]
    fn send(&mut self, payload: &[u8]) {
        let wire = &self.wire;
        assert!(payload.len() <= wire.max_len, "the slots have no room for this payload");
        let position = wire.take(TAIL, 0);
        // SAFETY: the slot is ours until the commit below, has room for `max_len` bytes from
        // `payload_at`, and that is a multiple of 8.
        unsafe { copy::put(CopyBy::Blocks, wire.at(position, wire.payload_at), payload) };
        wire.word(position, 8).store(payload.len() as u64, Relaxed);
        wire.word(position, 0).store(position + 1, Release);
    }
}

impl<D: Design> Rx for TextbookEnd<D> {
    #[inline(always)]
    fn recv<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> R {
        let wire = &self.wire;
        let position = wire.take(HEAD, 1);
        let len = wire.word(position, 8).load(Relaxed) as usize;
        let body = wire.at(position, wire.payload_at);
        // SAFETY: the sender, our own code, stored `len` bytes here before the commit that was
        // acquired above, and nobody stores there again before the slot is freed below.
        let seen = look(unsafe { std::slice::from_raw_parts(body, len) });
        if D::TOUCH {
            let mut line = LINE;
            while line < wire.payload_at + len {
                wire.word(position, line).store(0, Relaxed);
                line += LINE;
            }
        }
        wire.word(position, 0).store(position + wire.slots, Release);
        seen
    }
}
