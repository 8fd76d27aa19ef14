//! The bare ring: the ring's algorithm with nothing around it, and its alternatives.
//!
//! It knows records, the two ways of making a commit visible, and the order of every store. It
//! refuses to know peers that lie or die: nothing is validated, nobody is woken, nothing is
//! repaired, and a sender never abandons what it began. So it is the price of the algorithm alone,
//! and the yardstick for the ring that does all of the above.
//!
//! The algorithm. Records lie on lines of 64 bytes. Word 0 of a record is its commit: 0 says
//! nothing is here, otherwise it is the length plus one. The sender stores payload, word 0, then
//! the index `tail`; the receiver reads on while `tail` says that there is more, and when it has
//! caught up it waits a moment, looks at `tail` again, and then polls word 0 of the next line.
//! Releasing a record is three steps: `acked`, a 0 into word 0 of each of its lines (the *touch*:
//! it restores the rule that word 0 of every free line is 0, and it leaves the line in a state that
//! is cheap for the sender to take back), `head`. A record that would straddle the end of the ring
//! is preceded by a PAD, committed together with it.
//!
//! A [`Design`] is one choice for each open question. Its defaults are the ring as described.

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{compiler_fence, fence};

use super::copy::{self, CopyBy};
use super::proc::Arena;
use super::work::Job;
use super::{Candidate, Rx, Tx, Way};

/// How a commit becomes visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Commit {
    /// By word 0 of the record, for a receiver that waits, and by the index, for one that is behind.
    Both,
    /// By word 0 alone; `tail` is never stored.
    InBand,
    /// By `tail` alone; word 0 is only a length.
    Index,
}

/// What follows the commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fence {
    /// Nothing that the processor sees: what is left when the sleeper pays (`membarrier`).
    Light,
    /// A locked instruction on the stack, after each commit.
    LockOr,
    /// A locked instruction after each commit and after each release: what both sides pay where
    /// `membarrier` is missing.
    LockOrBoth,
    /// `fence(SeqCst)` after each commit, in whatever the compiler makes of it: on x86-64 `mfence` with
    /// Rust 1.85, `lock or` with Rust 1.95.
    SeqCst,
}

/// What the receiver does first when it has caught up with `tail`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drained {
    /// Pauses, then looks at `tail`, then polls word 0.
    PauseFirst,
    /// Looks at `tail`; only if nothing is new, pauses and polls word 0.
    LookFirst,
}

/// How the receiver sees a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// Where it lies.
    InPlace,
    /// In a private buffer that it was copied to.
    CopyOut,
}

/// One choice for each question.
pub(crate) trait Design: 'static {
    /// Records begin on multiples of this: 64, or 8.
    ///
    /// With 8, word 0 of a line may be anything, so free space is not zero: the sender itself
    /// clears the word behind a record before it commits the record (unless the index alone
    /// counts), and touching is a plain store to each line that serves no other purpose.
    const ALIGN: u64 = 64;
    /// Bytes before a payload that shares its header's line: 8, or 16.
    const HEADER: u64 = 16;
    /// Payloads from this length on begin on a line of their own.
    const OWN_LINE: u64 = 192;
    /// How a commit becomes visible.
    const COMMIT: Commit = Commit::Both;
    /// Whether the receiver stores into each line that it has consumed.
    const TOUCH: bool = true;
    /// What follows the commit.
    const FENCE: Fence = Fence::Light;
    /// How many `pause` instructions a receiver waits before it looks again.
    const PAUSES: u32 = 4;
    /// What the receiver does first when it has caught up.
    const DRAINED: Drained = Drained::PauseFirst;
    /// How the payload is copied in, and out.
    const COPY: CopyBy = CopyBy::Blocks;
    /// How the receiver sees it.
    const READ: Read = Read::InPlace;
}

/// Never on a line of its own.
pub(crate) const NEVER: u64 = u64::MAX;

const LINE: u64 = 64;
/// In word 0: the record is a PAD of so many bytes.
const PAD: u64 = 1 << 63;

// The indices lie on pages of their own, like those of the ring.
const TAIL: usize = 0;
const HEAD: usize = 0x1000;
const ACKED: usize = 0x1080;
const DATA: usize = 0x2000;

/// The sender, once out of room, waits for this part of the ring ...
const ENOUGH: u64 = 8;
/// ... for so many looks, and then takes what there is.
const LOOKS: u32 = 64;

#[inline(always)]
fn pause(times: u32) {
    for _ in 0..times {
        std::hint::spin_loop();
    }
}

#[inline(always)]
fn full_fence() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: ORs 0 into a word of the stack's red zone, which changes no value, only the order.
    // (Not the top of the stack: the next return would wait for it.)
    unsafe {
        std::arch::asm!("lock or dword ptr [rsp - 64], 0");
    }
    #[cfg(not(target_arch = "x86_64"))]
    fence(SeqCst);
}

/// Where the payload of a record begins and where the record ends, from its first byte.
#[inline(always)]
fn shape<D: Design>(len: u64) -> (u64, u64) {
    let offset = if len >= D::OWN_LINE { LINE } else { D::HEADER };
    (offset, (offset + len).next_multiple_of(D::ALIGN))
}

/// Both ways.
#[derive(Debug)]
pub(crate) struct Bare<D> {
    there: Wire,
    back: Wire,
    design: PhantomData<D>,
}

impl<D: Design> Candidate for Bare<D> {
    type Tx = BareTx<D>;
    type Rx = BareRx<D>;

    fn lay(arena: &Rc<Arena>, job: &Job) -> Self {
        const {
            assert!(D::ALIGN == 64 || D::ALIGN == 8);
            assert!(D::HEADER == 8 || (D::HEADER == 16 && D::ALIGN == 64));
            assert!(D::ALIGN == 64 || D::OWN_LINE == NEVER);
            // Polling word 0 needs it to be 0 in free space: by the touch, or by the sender.
            assert!(D::TOUCH || D::ALIGN == 8 || matches!(D::COMMIT, Commit::Index));
            // Cleared words are not to be touched by two.
            assert!(!D::TOUCH || D::ALIGN == 64 || matches!(D::COMMIT, Commit::Index));
        }
        Bare {
            there: Wire::new(arena, job.capacity),
            back: Wire::new(arena, job.capacity),
            design: PhantomData,
        }
    }

    fn tx(&self, way: Way) -> BareTx<D> {
        let wire = if way == Way::There { &self.there } else { &self.back };
        BareTx { wire: wire.clone(), tail: 0, head: 0, design: PhantomData }
    }

    fn rx(&self, way: Way) -> BareRx<D> {
        let wire = if way == Way::There { &self.there } else { &self.back };
        let out = vec![0; wire.capacity as usize / 2];
        BareRx { wire: wire.clone(), at: 0, tail: 0, out, design: PhantomData }
    }
}

/// One ring in the arena: indices and data.
#[derive(Clone, Debug)]
struct Wire {
    _arena: Rc<Arena>,
    base: NonNull<u8>,
    capacity: u64,
}

impl Wire {
    fn new(arena: &Rc<Arena>, capacity: usize) -> Wire {
        assert!(
            capacity.is_power_of_two() && capacity >= 4096,
            "a ring is a power of two of bytes"
        );
        let base = arena.take(DATA + capacity);
        Wire { _arena: Rc::clone(arena), base, capacity: capacity as u64 }
    }

    /// The index at one of the offsets above.
    #[inline(always)]
    fn index(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: the offsets are below DATA, and DATA + capacity bytes were taken.
        let word = unsafe { self.base.add(offset) };
        // SAFETY: aligned to a line, mapped as long as the arena in the field beside it, and the
        // index pages are only ever used through this function.
        unsafe { AtomicU64::from_ptr(word.cast().as_ptr()) }
    }

    /// The byte of the ring at a position.
    #[inline(always)]
    fn at(&self, position: u64) -> *mut u8 {
        let offset = (position & (self.capacity - 1)) as usize;
        // SAFETY: `offset < capacity`, and DATA + capacity bytes were taken.
        unsafe { self.base.add(DATA + offset) }.as_ptr()
    }

    /// The word of the ring at a position, which is a multiple of 8.
    #[inline(always)]
    fn word(&self, position: u64) -> &AtomicU64 {
        debug_assert!(position.is_multiple_of(8));
        // SAFETY: aligned, because the base, DATA and the position are; mapped like the index. The
        // protocol lets nobody use the same bytes as anything but words at the same time: payload
        // is stored before the commit and read between the commit and `acked`.
        unsafe { AtomicU64::from_ptr(self.at(position).cast()) }
    }
}

/// The sending end.
#[derive(Debug)]
pub(crate) struct BareTx<D> {
    wire: Wire,
    tail: u64,
    /// `head` as it was last seen.
    head: u64,
    design: PhantomData<D>,
}

impl<D: Design> BareTx<D> {
    /// Whether the sender clears the word behind a record, because no touch has.
    const CLEARS_AHEAD: bool = D::ALIGN == 8 && !matches!(D::COMMIT, Commit::Index);

    /// Waits until everything up to `end` may be written.
    #[cold]
    fn wait(&mut self, end: u64) {
        let capacity = self.wire.capacity;
        let mut looks = 0;
        loop {
            self.head = self.wire.index(HEAD).load(Acquire);
            let used = end - self.head;
            if used <= capacity - capacity / ENOUGH || (used <= capacity && looks >= LOOKS) {
                return;
            }
            looks += 1;
            pause(1);
        }
    }
}

impl<D: Design> Tx for BareTx<D> {
    #[inline(always)]
    fn send(&mut self, payload: &[u8]) {
        let len = payload.len() as u64;
        let (offset, record) = shape::<D>(len);
        let wire = &self.wire;
        let left = wire.capacity - (self.tail & (wire.capacity - 1));
        let pad = if record > left { left } else { 0 };
        let start = self.tail + pad;
        let end = start + record;
        let needs = if Self::CLEARS_AHEAD { end + 8 } else { end };
        if needs - self.head > wire.capacity {
            assert!(record <= wire.capacity / 2, "the record is longer than half of the ring");
            self.wait(needs);
        }
        let wire = &self.wire;

        // SAFETY: [start, end) does not wrap, is free (it ends below `head + capacity`), and is published
        // only below; `start + offset` is a multiple of 8.
        unsafe { copy::put(D::COPY, wire.at(start + offset), payload) };
        if D::HEADER == 16 {
            wire.word(start + 8).store(start, Relaxed);
        }
        if Self::CLEARS_AHEAD {
            wire.word(end).store(0, Relaxed);
        }
        if pad == 0 {
            wire.word(start).store(len + 1, Release);
        } else {
            wire.word(start).store(len + 1, Relaxed);
            wire.word(self.tail).store(PAD | pad, Release);
        }
        if D::COMMIT != Commit::InBand {
            wire.index(TAIL).store(end, Release);
        }
        match D::FENCE {
            Fence::Light => compiler_fence(SeqCst),
            Fence::LockOr | Fence::LockOrBoth => full_fence(),
            Fence::SeqCst => fence(SeqCst),
        }
        self.tail = end;
    }
}

/// The receiving end.
#[derive(Debug)]
pub(crate) struct BareRx<D> {
    wire: Wire,
    at: u64,
    /// `tail` as it was last seen.
    tail: u64,
    out: Vec<u8>,
    design: PhantomData<D>,
}

impl<D: Design> BareRx<D> {
    /// Word 0 of the next record, once there is one.
    #[inline(always)]
    fn next(&mut self) -> u64 {
        let wire = &self.wire;
        let word = wire.word(self.at);
        if D::COMMIT == Commit::InBand {
            let header = word.load(Acquire);
            if header != 0 {
                return header;
            }
            pause(D::PAUSES);
        } else {
            if self.at < self.tail {
                return word.load(Relaxed);
            }
            if D::DRAINED == Drained::LookFirst {
                self.tail = wire.index(TAIL).load(Acquire);
                if self.at < self.tail {
                    return word.load(Relaxed);
                }
            }
            pause(D::PAUSES);
            if D::DRAINED == Drained::PauseFirst {
                self.tail = wire.index(TAIL).load(Acquire);
                if self.at < self.tail {
                    return word.load(Relaxed);
                }
            }
        }
        loop {
            if D::COMMIT == Commit::Index {
                self.tail = wire.index(TAIL).load(Acquire);
                if self.at < self.tail {
                    return word.load(Relaxed);
                }
            } else {
                // Everything before `at` has been released, so this line is free or committed.
                let header = word.load(Acquire);
                if header != 0 {
                    return header;
                }
            }
            pause(1);
        }
    }

    /// Gives [from, end) back: a PAD from `from` to `start`, if any, and the record behind it.
    #[inline(always)]
    fn release(&mut self, from: u64, start: u64, end: u64) {
        let wire = &self.wire;
        wire.index(ACKED).store(end, Relaxed);
        if D::TOUCH {
            if from != start {
                // The lines inside a PAD were never written, so they are still 0.
                wire.word(from).store(0, Release);
            }
            wire.word(start).store(0, Release);
            let mut line = (start / LINE + 1) * LINE;
            while line < end {
                wire.word(line).store(0, Release);
                line += LINE;
            }
        }
        wire.index(HEAD).store(end, Release);
        match D::FENCE {
            Fence::LockOrBoth => full_fence(),
            _ => compiler_fence(SeqCst),
        }
        self.at = end;
    }
}

impl<D: Design> Rx for BareRx<D> {
    #[inline(always)]
    fn recv<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> R {
        let from = self.at;
        let mut header = self.next();
        let mut start = from;
        if header & PAD != 0 {
            // The record behind a PAD was committed with it, so its word 0 is there already.
            start += header & !PAD;
            header = self.wire.word(start).load(Relaxed);
        }
        let len = header - 1;
        let (offset, record) = shape::<D>(len);
        let body = self.wire.at(start + offset);
        let seen = match D::READ {
            Read::InPlace => {
                // SAFETY: the sender, our own code, stored `len` bytes here before the commit that
                // was acquired above, and stores there again only after `head` below.
                look(unsafe { std::slice::from_raw_parts(body, len as usize) })
            }
            Read::CopyOut => {
                let out = &mut self.out[..len as usize];
                // SAFETY: as above; the body begins on a word.
                unsafe { copy::get(D::COPY, out, body) };
                look(out)
            }
        };
        self.release(from, start, start + record);
        seen
    }
}
