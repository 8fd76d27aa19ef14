//! The mpmc ring: many senders, many competing receivers, slots of one length.
//!
//! Knows the memory of one ring through a [`View`], and its caller by a number. Knows nothing of who that number is, of
//! files, clocks or sleeping: who is dead is told to [`repair`].
//!
//! # State
//!
//! Positions count messages. Position `p` lies in slot `p mod slots`, on lap `p / slots`; a slot's word names its lap, what
//! is in it and whose claim that is (`layout::slot`).
//!
//! ```text
//!   EMPTY(L) --claim--> WRITING(L, me) --commit--> READY(L) --take--> READING(L, me) --release--> EMPTY(L + 1)
//!                           |                                           |       ^
//!                  abort, or|repair                        give back, or|repair |take again
//!                           v                                           v       |
//!                        SKIP(L) --step over--> EMPTY(L + 1)         REDELIVER(L)
//! ```
//!
//! On a ring that delivers at most once a repair makes EMPTY(L + 1) of a dead receiver's READING(L), and counts.
//!
//! `T` is the first position that no sender has claimed, `H` the first that no receiver has taken. Neither is stored
//! anywhere: each handle has a cursor of its own, which it moves over what it has seen claimed (a sender) or taken (a
//! receiver). The words `tail` and `head` are hints for those who are far behind.
//!
//! # Invariants
//!
//! - M-I1. A sender's cursor is at most `T`, a receiver's at most `H`.
//! - M-I2. Claims are in order: WRITING(L) is reached only from EMPTY(L) at somebody's cursor, so all before `T` are claimed.
//!   So are takes, but for those of REDELIVER, which move no cursor.
//! - M-I3. Every slot's next position to be claimed lies in `[T, T + slots)`, and its next to be taken in `[H, H + slots)`.
//! - M-I4. Payload and meta word of a slot are touched only by the owner in its word.
//! - M-I5. Only an owner leaves WRITING and READING, or [`repair`] when the owner is dead and cannot come back.
//!
//! From M-I2 and M-I3: a slot in which position `q` is claimed proves that everything before `q` is claimed. That is how far
//! a cursor may jump, and what a hint must show before it is believed.
//!
//! # Trust
//!
//! Each shared word is loaded once into a local and its every value has an answer; a word that no participant can have
//! written is `Corrupt`. Every loop is bounded.
//!
//! Orderings cite rows of docs/memory-ordering.md; deaths are the rows of docs/crash-safety.md.
//!
//! The few functions that every message goes through are always inlined, up to the user's call: a claim and a take wait for
//! everything before them, so a copy through memory on the way is paid in full (docs/benchmarks.md).
//!
//! The slot words come from D. Vyukov's bounded queue
//! (<https://www.1024cores.net/home/lock-free-algorithms/queues/bounded-mpmc-queue>); that they name their owner, so that a
//! claim can be attributed after a death, does not.

use core::cell::Cell;
use core::mem::MaybeUninit;

use super::{Damage, Refused};
use crate::layout::control::{self, EPOCH, HEAD, SCANNED, TAIL};
use crate::layout::geometry::Slots;
use crate::layout::slot::{Meta, State, Word};
use crate::layout::view::{Slot, View};
use crate::sync::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::sync::{self, AtomicU64};

/// How many positions a cursor moves before its hint is stored again.
const PUBLISH_EVERY: u64 = 16;

/// After so many misses in one call, and then after every so many more, the hint is asked.
const ASK_EVERY: u64 = 32;

/// Steps of one call beyond two for each slot: then it answers as if it had found nothing, and the caller looks again.
const SPARE_STEPS: u64 = 64;

/// What both kinds of handle have: a cursor and what moves it.
#[derive(Debug)]
struct Cursor {
    view: View<Slots>,
    ring: Slots,
    /// The next position to look at: at most `T`, or `H` (M-I1).
    position: Cell<u64>,
    /// The position of which the hint was last told.
    published: Cell<u64>,
    /// The word of the hint.
    hint: control::Word,
    /// Which words prove that their position is done with: claimed, or taken.
    proves: fn(State) -> bool,
}

/// Where a cursor stood.
#[derive(Clone, Copy, Debug)]
struct Here<'v> {
    slot: Slot<'v>,
    lap: u64,
    position: u64,
}

/// A state of a slot that a claim has reached.
fn claimed(state: State) -> bool {
    state != State::Empty
}

/// A state of a slot that a take has reached and whose lap is not over.
fn taken(state: State) -> bool {
    matches!(state, State::Reading | State::Redeliver)
}

impl Cursor {
    /// A cursor behind everything that is done with, and not far behind.
    fn attach(
        view: View<Slots>,
        hint: control::Word,
        proves: fn(State) -> bool,
    ) -> Result<Cursor, Refused> {
        let ring = view.ring();
        // M1 Acquire: whatever this word proves is seen from here on.
        let word = Word(view.slot(0).word().load(Acquire));
        let state = word.state().ok_or(Refused::Corrupt(Damage::Slot))?;
        // The last position of slot 0 that is done with proves all before it (M-I2); there is one lap more to look at.
        let next = word.lap().wrapping_add(u64::from(proves(state)));
        let position = ring.position(next, 0).wrapping_sub(ring.slots() - 1);
        let cursor = Cursor {
            view,
            ring,
            position: Cell::new(position),
            published: Cell::new(position),
            hint,
            proves,
        };
        cursor.ask_hint();
        cursor.published.set(cursor.position.get());
        Ok(cursor)
    }

    /// The slot at the cursor.
    #[inline(always)]
    fn here(&self) -> Here<'_> {
        let position = self.position.get();
        Here { slot: self.view.slot(position), lap: self.ring.lap(position), position }
    }

    /// Moves on, and tells the others now and then.
    #[inline]
    fn advance(&self, by: u64) {
        let position = self.position.get().wrapping_add(by);
        self.position.set(position);
        if position.wrapping_sub(self.published.get()) >= PUBLISH_EVERY {
            self.publish(position);
        }
    }

    /// Stores the hint. It may go back when somebody is slow: whoever reads it asks for evidence.
    #[inline]
    fn publish(&self, position: u64) {
        self.published.set(position);
        // H1 Relaxed: a hint; what it says is believed only on the evidence of a slot (H2).
        self.view.word(self.hint).store(self.ring.canonical(position), Relaxed);
    }

    /// Reads a slot's word: what is in it, and how many laps it is ahead of `lap`.
    #[inline]
    fn parse(&self, word: Word, lap: u64) -> Result<(State, i64), Refused> {
        match word.state() {
            Some(state) if word.lap() <= self.ring.lap_mask() => {
                Ok((state, self.ring.laps_ahead(word.lap(), lap)))
            }
            _ => Err(Refused::Corrupt(Damage::Slot)),
        }
    }

    /// Moves over a slot that was seen done with: `laps` ahead of the cursor, in `state`. Answers an error when the slot
    /// before tells another story.
    #[cold]
    fn pass(&self, laps: i64, state: State, misses: u64) -> Result<(), Refused> {
        // The newest position of this slot that is done with, counted from the cursor's: it and all before it are passed.
        let newest = laps - 1 + i64::from((self.proves)(state));
        let slots = self.ring.slots();
        let by = match u64::try_from(newest) {
            Ok(newest) => newest.saturating_mul(slots).saturating_add(1),
            Err(_) => 1,
        };
        if by > slots {
            // A lap that somebody garbled would throw the cursor far ahead. The slot before must have come as far.
            let before = self.position.get().wrapping_add(by).wrapping_sub(2);
            if !self.done_with(before)? {
                return Err(Refused::Corrupt(Damage::Lap));
            }
        }
        self.advance(by);
        if misses % ASK_EVERY == ASK_EVERY - 1 {
            self.ask_hint();
        }
        Ok(())
    }

    /// Whether the slot of `position` proves that it is done with.
    fn done_with(&self, position: u64) -> Result<bool, Refused> {
        // H2 Acquire: pairs with the Release half of the claims and takes; what the slot has seen is seen from here on.
        let word = Word(self.view.slot(position).word().load(Acquire));
        let (state, laps) = self.parse(word, self.ring.lap(position))?;
        Ok(laps + i64::from((self.proves)(state)) >= 1)
    }

    /// Moves to the hint, if it is ahead and the slot before it proves it.
    #[cold]
    fn ask_hint(&self) {
        // H1 Relaxed: see `publish`.
        let hint = self.view.word(self.hint).load(Relaxed);
        let by = self.ring.ahead(hint, self.position.get());
        let last = self.position.get().wrapping_add(by as u64).wrapping_sub(1);
        // A slot that makes no sense is found where it matters.
        if by > 0 && self.done_with(last) == Ok(true) {
            self.position.set(last.wrapping_add(1));
            self.published.set(last.wrapping_add(1));
        }
    }

    /// The most steps of one call.
    fn patience(&self) -> u64 {
        self.ring.slots().saturating_mul(2).saturating_add(SPARE_STEPS)
    }
}

impl Clone for Cursor {
    fn clone(&self) -> Cursor {
        Cursor {
            view: self.view.clone(),
            ring: self.ring,
            position: self.position.clone(),
            published: self.published.clone(),
            hint: self.hint,
            proves: self.proves,
        }
    }
}

/// A sender's hand on the ring. Claims of its clones are told apart by their slots.
#[derive(Clone, Debug)]
pub struct Producer {
    cursor: Cursor,
    me: u32,
    /// Whether the last slot was not free at the first look: others send too, or the ring was full.
    doubt: Cell<bool>,
    /// Whether the last `Full` only means that others were faster for too long.
    hurried: Cell<bool>,
    blocker: Cell<Option<u32>>,
}

/// The position that this sender has claimed. Whoever forgets one leaves it open: nobody gets past it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim(u64);

impl Producer {
    /// A sender that signs its claims with `me`, a number that nobody alive signs with.
    ///
    /// # Errors
    ///
    /// `Corrupt`.
    pub fn attach(view: View<Slots>, me: u32) -> Result<Self, Refused> {
        let cursor = Cursor::attach(view, TAIL, claimed)?;
        let (doubt, hurried) = (Cell::new(false), Cell::new(false));
        Ok(Self { cursor, me, doubt, hurried, blocker: Cell::new(None) })
    }

    /// Sends one message.
    ///
    /// # Errors
    ///
    /// As [`try_claim`](Self::try_claim).
    #[inline(always)]
    pub fn try_send(&self, message: &[u8]) -> Result<(), Refused> {
        let claimed = self.claim(message.len())?;
        self.cursor.view.write_data(claimed.slot.payload(), message);
        publish(claimed.slot, claimed.lap, message.len());
        Ok(())
    }

    /// Claims the next slot for a message of at most `len` bytes.
    ///
    /// # Errors
    ///
    /// `TooLong`; `Full`: the message of a lap ago is still there, exactly ([`blocker`](Self::blocker) says in whose
    /// hands); `Corrupt`.
    #[inline]
    pub fn try_claim(&self, len: usize) -> Result<Claim, Refused> {
        Ok(Claim(self.claim(len)?.position))
    }

    #[inline(always)]
    fn claim(&self, len: usize) -> Result<Here<'_>, Refused> {
        if len as u64 > self.cursor.ring.max_len() {
            return Err(Refused::TooLong);
        }
        // Without a look first, which would fetch the line twice, once to read it and once to write; unless it is in doubt,
        // because a vain attempt would take the line away from somebody who works in it.
        if !self.doubt.get() {
            let here = self.cursor.here();
            if self.take(here) {
                return Ok(here);
            }
        }
        self.claim_slow()?;
        let position = self.cursor.position.get().wrapping_sub(1);
        let (slot, lap) = (self.cursor.view.slot(position), self.cursor.ring.lap(position));
        Ok(Here { slot, lap, position })
    }

    /// Makes the slot at the cursor ours, if it is still free.
    #[inline(always)]
    fn take(&self, Here { slot, lap, .. }: Here<'_>) -> bool {
        let (free, ours) = (Word::empty(lap).0, Word::writing(lap, self.me).0);
        // M2 AcqRel: Acquire: pairs with M7 (the last reader is done) and with its own Release half, so that whoever sees
        // this claim sees every claim before it. D1 after it.
        if slot.word().compare_exchange(free, ours, AcqRel, Relaxed).is_err() {
            return false;
        }
        self.cursor.advance(1);
        true
    }

    /// Walks to the first slot that nobody has claimed, and claims it: the one behind the cursor then.
    #[cold]
    fn claim_slow(&self) -> Result<(), Refused> {
        self.doubt.set(true);
        self.hurried.set(false);
        for misses in 0..self.cursor.patience() {
            if !self.look(misses)? {
                continue;
            }
            // Lost to another sender, or to a stale look: look again, the walk decides.
            if self.take(self.cursor.here()) {
                self.doubt.set(misses != 0);
                return Ok(());
            }
        }
        self.blocker.set(None);
        self.hurried.set(true);
        Err(Refused::Full)
    }

    /// One look at the slot at the cursor: `true` when it is free, `false` when the cursor moved on.
    fn look(&self, misses: u64) -> Result<bool, Refused> {
        let Here { slot, lap, .. } = self.cursor.here();
        // M1 Acquire: as M2.
        let word = Word(slot.word().load(Acquire));
        match self.cursor.parse(word, lap)? {
            (State::Empty, 0) => return Ok(true),
            (state, laps) if laps >= 0 => self.cursor.pass(laps, state, misses)?,
            // Everything before the cursor is claimed (M-I1), this slot's last position too.
            (State::Empty, -1) => return Err(Refused::Corrupt(Damage::Lap)),
            (state, -1) => {
                let held = matches!(state, State::Writing | State::Reading);
                self.blocker.set(held.then_some(word.owner()));
                return Err(Refused::Full);
            }
            _ => return Err(Refused::Corrupt(Damage::Lap)),
        }
        Ok(false)
    }

    /// Whether there is no free slot.
    ///
    /// # Errors
    ///
    /// `Corrupt`.
    pub fn is_full(&self) -> Result<bool, Refused> {
        for misses in 0..self.cursor.patience() {
            match self.look(misses) {
                Ok(true) => return Ok(false),
                Ok(false) => {}
                Err(Refused::Full) => return Ok(true),
                Err(refused) => return Err(refused),
            }
        }
        Ok(false)
    }

    /// Looks, for at most `pauses` pauses, whether a stretch of the ring has come free; for a caller that
    /// found it full. Whoever takes each slot as it comes free, or looks for it all the time, fetches the lines of the
    /// receivers for every message, and that sets the pace of both.
    #[cold]
    pub fn wait_for_stretch(&self, pauses: u32) {
        let ring = self.cursor.ring;
        let last = self.cursor.position.get().wrapping_add(ring.slots() / STRETCH);
        let (slot, free) = (self.cursor.view.slot(last), Word::empty(ring.lap(last)).0);
        let (mut waited, mut pause) = (0, 1);
        // Relaxed: nothing follows from it; `try_claim` looks properly.
        while waited <= pauses && slot.word().load(Relaxed) != free {
            (0..pause).for_each(|_| sync::spin_loop());
            waited += pause;
            // Not longer, or the receivers run dry meanwhile.
            pause = (2 * pause).min(LONGEST_PAUSE);
        }
    }

    /// Whether the last `Full` was none: others took every slot before this one came to it. Look again soon.
    pub fn hurried(&self) -> bool {
        self.hurried.get()
    }

    /// Who holds the slot that the last `Full` waits for; `None` when nobody does, and it waits for a receiver to come by.
    pub fn blocker(&self) -> Option<u32> {
        self.blocker.get()
    }

    /// Where the payload of a claim lies in the data.
    #[inline]
    pub fn payload(&self, claim: Claim) -> u64 {
        self.cursor.view.slot(claim.0).payload()
    }

    /// Makes a claimed message of `len` bytes visible; `len` is at most what was claimed.
    #[inline]
    pub fn commit(&self, claim: Claim, len: usize) {
        publish(self.cursor.view.slot(claim.0), self.cursor.ring.lap(claim.0), len);
    }

    /// Gives a claim up: a receiver steps over it.
    pub fn abort(&self, claim: Claim) {
        let skip = Word::skip(self.cursor.ring.lap(claim.0));
        // M4 Release: pairs with M5; what was written into the slot comes before the next lap's claim. D4 after it.
        self.cursor.view.slot(claim.0).word().store(skip.0, Release);
    }

    /// The memory.
    #[inline]
    pub fn view(&self) -> &View<Slots> {
        &self.cursor.view
    }
}

/// The commit of a message of `len` bytes in a slot that the caller has claimed on `lap`.
#[inline(always)]
fn publish(slot: Slot<'_>, lap: u64, len: usize) {
    slot.set_meta(Meta { len: len as u32, again: 0 }.bits());
    // M3 Release: pairs with M5; orders payload and meta before it. D2 before it, D3 after it.
    slot.word().store(Word::ready(lap).0, Release);
}

/// A sender that found the ring full waits a moment for this part of it.
const STRETCH: u64 = 8;

/// The most pauses between two looks for it.
const LONGEST_PAUSE: u32 = 32;

/// Where a slot's word has its owner.
const OWNERS: u64 = Word::writing(0, u32::MAX).0 ^ Word::writing(0, 0).0;

/// A receiver's hand on the ring. Takes of its clones are told apart by their slots.
#[derive(Clone, Debug)]
pub struct Consumer {
    cursor: Cursor,
    me: u32,
    /// The `EPOCH` up to which nothing is aside to be delivered again, as far as this handle knows.
    clean: Cell<u64>,
    /// Where the next search for something aside begins.
    aside: Cell<u64>,
    /// Whether the last vain look only means that others were faster for too long.
    hurried: Cell<bool>,
    blocker: Cell<Option<u32>>,
    /// Claims stepped over, of which nobody has been told yet.
    skipped: Cell<u64>,
    /// The message that was taken with care ([`Consumer::taken`]).
    taken: Cell<Held>,
}

/// A message in hand: two words, so that it travels in registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    position: u64,
    /// Its length, and how often it was handed out, this time included, above that.
    what: u64,
}

impl Held {
    /// Bytes of payload.
    #[inline]
    pub fn len(&self) -> usize {
        self.what as u32 as usize
    }

    /// How often it has been handed out, this time included.
    #[inline]
    pub fn attempts(&self) -> u32 {
        (self.what >> 32) as u32
    }
}

/// What a receiver finds at its cursor.
enum Found {
    Message,
    Nothing,
    MovedOn,
}

impl Consumer {
    /// A receiver that signs with `me`, a number that nobody alive signs with.
    ///
    /// # Errors
    ///
    /// `Corrupt`.
    pub fn attach(view: View<Slots>, me: u32) -> Result<Self, Refused> {
        let cursor = Cursor::attach(view, HEAD, taken)?;
        let aside = Cell::new(cursor.position.get());
        let (hurried, blocker, skipped) = (Cell::new(false), Cell::new(None), Cell::new(0));
        let taken = Cell::new(Held::default());
        Ok(Self { cursor, me, clean: Cell::new(0), aside, hurried, blocker, skipped, taken })
    }

    /// Takes the next message, if one is committed: one that is to be delivered again before any other.
    ///
    /// # Errors
    ///
    /// `Corrupt`.
    #[cfg_attr(not(any(test, loom, shuttle)), allow(dead_code))] // For tests and models.
    pub fn try_take(&self) -> Result<Option<Held>, Refused> {
        if let Some(held) = self.take_now(0)? {
            return Ok(Some(held));
        }
        Ok(self.take_with_care()?.then(|| self.taken()))
    }

    /// The message that was taken with care.
    pub fn taken(&self) -> Held {
        self.taken.get()
    }

    /// Takes the message at the cursor, if it is there and nothing is aside: what nearly every call comes to. Looks up to
    /// `looks` times, for a caller that is going to wait. Answers nothing where [`take_with_care`](Self::take_with_care) has
    /// to see.
    ///
    /// # Errors
    ///
    /// `Corrupt`.
    #[inline(always)]
    pub fn take_now(&self, looks: u32) -> Result<Option<Held>, Refused> {
        // E2 Relaxed: only compared; `take_aside` looks properly.
        if self.cursor.view.word(EPOCH).load(Relaxed) != self.clean.get() {
            return Ok(None);
        }
        let here = self.cursor.here();
        let ready = Word::ready(here.lap).0;
        // M5 Acquire: pairs with M3 (the message is whole) and with the Release half of M6 (takes are in order).
        let mut now = here.slot.word().load(Acquire);
        if looks != 0 && now != ready {
            now = self.poll(here.slot.word(), here.lap, looks);
        }
        if now != ready {
            return Ok(None);
        }
        self.take(here)
    }

    /// Takes the next message, if there is one: one that is aside, or the first that nobody has taken, walking to it.
    /// Answers whether there is one ([`taken`](Self::taken)).
    ///
    /// # Errors
    ///
    /// `Corrupt`.
    #[cold]
    pub fn take_with_care(&self) -> Result<bool, Refused> {
        // E2 Relaxed: as in `take_now`.
        if self.cursor.view.word(EPOCH).load(Relaxed) != self.clean.get() && self.take_aside()? {
            return Ok(true);
        }
        self.take_slow()
    }

    /// Looks, with a pause in between, until the word says something new; a claim is nothing new. Answers what it says.
    #[cold]
    fn poll(&self, word: &AtomicU64, lap: u64, looks: u32) -> u64 {
        // Relaxed: only compared.
        let seen = word.load(Relaxed);
        for _ in 0..looks {
            // M5 Acquire: as in `take_now`.
            let now = word.load(Acquire);
            if now != seen && now & !OWNERS != Word::writing(lap, 0).0 {
                return now;
            }
            sync::spin_loop();
        }
        seen
    }

    /// Makes the message at the cursor ours, if it is still there.
    #[inline(always)]
    fn take(&self, Here { slot, lap, position }: Here<'_>) -> Result<Option<Held>, Refused> {
        let (ready, ours) = (Word::ready(lap).0, Word::reading(lap, self.me).0);
        // M6 AcqRel: Acquire as M5; Release, so that whoever sees this take sees every take before it. D5 after it.
        if slot.word().compare_exchange(ready, ours, AcqRel, Relaxed).is_err() {
            return Ok(None);
        }
        self.cursor.advance(1);
        let len = Meta::parse(slot.meta()).len;
        self.hand_out(position, len, 1).map(Some)
    }

    /// What was taken, if it can be a message.
    #[inline(always)]
    fn hand_out(&self, position: u64, len: u32, attempts: u32) -> Result<Held, Refused> {
        if u64::from(len) > self.cursor.ring.max_len() {
            return Err(Refused::Corrupt(Damage::Length));
        }
        Ok(Held { position, what: u64::from(attempts) << 32 | u64::from(len) })
    }

    /// Walks to the first slot that nobody has taken.
    #[cold]
    fn take_slow(&self) -> Result<bool, Refused> {
        self.hurried.set(false);
        for misses in 0..self.cursor.patience() {
            match self.look(misses)? {
                Found::Message => {
                    // Lost to another receiver: look again, the walk decides.
                    if let Some(held) = self.take(self.cursor.here())? {
                        self.taken.set(held);
                        return Ok(true);
                    }
                }
                Found::Nothing => return Ok(false),
                Found::MovedOn => {}
            }
        }
        self.blocker.set(None);
        self.hurried.set(true);
        Ok(false)
    }

    /// One look at the slot at the cursor.
    fn look(&self, misses: u64) -> Result<Found, Refused> {
        let Here { slot, lap, position } = self.cursor.here();
        // M5 Acquire: as in `take_now`.
        let word = Word(slot.word().load(Acquire));
        let (state, laps) = self.cursor.parse(word, lap)?;
        match (laps, state) {
            (0, State::Ready) => return Ok(Found::Message),
            (0, State::Skip) => self.step_over(slot, position, word),
            (0, State::Writing) => {
                self.blocker.set(Some(word.owner()));
                return Ok(Found::Nothing);
            }
            // Nobody has claimed it, or nobody can: its message of the lap before is in somebody's hands.
            (0, State::Empty) | (-1, State::Reading | State::Redeliver) => {
                self.blocker.set(None);
                return Ok(Found::Nothing);
            }
            (0.., _) => self.cursor.pass(laps, state, misses)?,
            _ => return Err(Refused::Corrupt(Damage::Lap)),
        }
        Ok(Found::MovedOn)
    }

    /// Clears a claim that was given up. The walk then passes it.
    #[cold]
    fn step_over(&self, slot: Slot<'_>, position: u64, skip: Word) {
        let next = Word::empty(self.cursor.ring.next_lap(position));
        // M9 AcqRel: Acquire: what the dead wrote comes before the next lap; Release, as M6.
        if slot.word().compare_exchange(skip.0, next.0, AcqRel, Relaxed).is_ok() {
            self.skipped.set(self.skipped.get() + 1);
        }
    }

    /// How many claims were stepped over since the last call. Each made room, and a sender may be asleep for it: whoever
    /// called must wake one for each.
    #[inline]
    pub fn skipped(&self) -> u64 {
        match self.skipped.get() {
            0 => 0,
            some => {
                self.skipped.set(0);
                some
            }
        }
    }

    /// Looks for a message that is to be delivered again.
    #[cold]
    fn take_aside(&self) -> Result<bool, Refused> {
        // E2 Acquire: pairs with E1; whatever was put aside before is seen below.
        let epoch = self.cursor.view.word(EPOCH).load(Acquire);
        // E3 Relaxed: that a search of this epoch found nothing stays true, and nothing else is read on its account.
        if self.cursor.view.word(SCANNED).load(Relaxed) != epoch {
            for step in 0..self.cursor.ring.slots() {
                let index = self.cursor.ring.index(self.aside.get().wrapping_add(step));
                if self.take_again(index)? {
                    self.aside.set(index);
                    return Ok(true);
                }
            }
            // E3 Relaxed: as above. May go back when somebody is slow: then another looks in vain.
            self.cursor.view.word(SCANNED).store(epoch, Relaxed);
        }
        self.clean.set(epoch);
        Ok(false)
    }

    /// Takes the message of slot `index` if it is to be delivered again. The cursor stays.
    fn take_again(&self, index: u64) -> Result<bool, Refused> {
        let slot = self.cursor.view.slot(index);
        // M5 Acquire: pairs with M8 and G2.
        let word = Word(slot.word().load(Acquire));
        if word.state() != Some(State::Redeliver) || word.lap() > self.cursor.ring.lap_mask() {
            return Ok(false);
        }
        let ours = Word::reading(word.lap(), self.me);
        // M6 AcqRel: as in `take`. D8 after it.
        if slot.word().compare_exchange(word.0, ours.0, AcqRel, Relaxed).is_err() {
            return Ok(false);
        }
        let meta = Meta::parse(slot.meta());
        let again = meta.again.saturating_add(1);
        slot.set_meta(Meta { again, ..meta }.bits());
        let position = self.cursor.ring.position(word.lap(), index);
        self.taken.set(self.hand_out(position, meta.len, u32::from(again) + 1)?);
        Ok(true)
    }

    /// Whether a message is there to be taken; takes none.
    ///
    /// # Errors
    ///
    /// `Corrupt`.
    pub fn has_message(&self) -> Result<bool, Refused> {
        // E2 Relaxed: as in `take_now`.
        if self.cursor.view.word(EPOCH).load(Relaxed) != self.clean.get() && self.has_aside() {
            return Ok(true);
        }
        for misses in 0..self.cursor.patience() {
            match self.look(misses)? {
                Found::Message => return Ok(true),
                Found::Nothing => return Ok(false),
                Found::MovedOn => {}
            }
        }
        Ok(false)
    }

    #[cold]
    fn has_aside(&self) -> bool {
        (0..self.cursor.ring.slots()).any(|index| {
            // Relaxed: news.
            let word = Word(self.cursor.view.slot(index).word().load(Relaxed));
            word.state() == Some(State::Redeliver)
        })
    }

    /// Whether the last vain look was none: others took every message before this one came to it. Look again soon.
    pub fn hurried(&self) -> bool {
        self.hurried.get()
    }

    /// Who holds the slot that the last vain look waits for; `None` when nobody does, and it waits for a sender to come by.
    pub fn blocker(&self) -> Option<u32> {
        self.blocker.get()
    }

    /// Where a message stands: the same each time it is delivered.
    pub fn position(&self, held: &Held) -> u64 {
        self.cursor.ring.canonical(held.position)
    }

    /// The slot of a message in hand.
    #[inline]
    fn slot(&self, held: &Held) -> Slot<'_> {
        self.cursor.view.slot(held.position)
    }

    /// Where the payload of a message in hand lies in the data.
    #[inline]
    pub fn payload(&self, held: &Held) -> u64 {
        self.slot(held).payload()
    }

    /// Loads the payload of a message in hand; answers the bytes, at most `to.len()` of them.
    #[inline]
    pub fn read<'a>(&self, held: &Held, to: &'a mut [MaybeUninit<u8>]) -> &'a mut [u8] {
        let len = to.len().min(held.len());
        self.cursor.view.read_data(self.payload(held), &mut to[..len])
    }

    /// Releases a message in hand: it is not delivered again, and its slot is free.
    #[inline]
    pub fn release(&self, held: &Held) {
        let slot = self.slot(held);
        slot.touch(held.len() as u64);
        let next = self.cursor.ring.next_lap(held.position);
        // M7 Release: pairs with M1; our reads come before the next sender's stores. D6 before it, D7 after it.
        slot.word().store(Word::empty(next).0, Release);
    }

    /// Gives a message in hand back: it is delivered again, marked.
    pub fn give_back(&self, held: &Held) {
        // M8 Release: pairs with M5 in `take_again`; our reads come before its holder's stores. D9 after it.
        let lap = self.cursor.ring.lap(held.position);
        self.slot(held).word().store(Word::redeliver(lap).0, Release);
        put_aside(&self.cursor.view);
    }

    /// The memory.
    #[inline]
    pub fn view(&self) -> &View<Slots> {
        &self.cursor.view
    }
}

/// Says that something was put aside to be delivered again.
fn put_aside(view: &View<Slots>) {
    // E1 Release: pairs with E2; whoever sees the new epoch finds what was put aside before it, and before each that it
    // counts on from.
    view.word(EPOCH).fetch_add(1, Release);
}

/// What a repair did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Claims of dead senders that were given up.
    pub skipped: u64,
    /// Messages in dead receivers' hands that were put aside to be delivered again.
    pub redelivered: u64,
    /// Messages in dead receivers' hands that were lost.
    pub lost: u64,
}

/// Whoever counts the messages that are lost with their receivers, exactly, whenever the counter dies.
pub trait Losses {
    /// The message at `position` is about to be taken out of the hands of `owner`.
    fn about_to_lose(&self, owner: u32, position: u64);
    /// It was.
    fn lost(&self, owner: u32);
}

/// Gives up what the dead had claimed and puts aside what they had in hand, or loses it where `losses` counts that.
///
/// `is_dead` says of an owner that it is dead and that nobody sits down in its place before this is over. May die anywhere
/// and be done again from the start (X1 to X3 of docs/crash-safety.md). A pass over all slots.
pub fn repair(
    view: &View<Slots>,
    is_dead: impl Fn(u32) -> bool,
    losses: Option<&impl Losses>,
) -> Repaired {
    let ring = view.ring();
    let mut done = Repaired::default();
    for index in 0..ring.slots() {
        let slot = view.slot(index).word();
        // G1 Acquire: pairs with the claims of the living; those of the dead are ordered by their locks.
        let word = Word(slot.load(Acquire));
        // G2 AcqRel, all three: as M4, M7 and M8, on the dead owner's behalf.
        match word.state() {
            Some(State::Writing) if is_dead(word.owner()) => {
                let skip = Word::skip(word.lap());
                let won = slot.compare_exchange(word.0, skip.0, AcqRel, Relaxed).is_ok();
                done.skipped += u64::from(won);
            }
            Some(State::Reading) if is_dead(word.owner()) => {
                let position = ring.position(word.lap(), index);
                if let Some(losses) = losses {
                    losses.about_to_lose(word.owner(), position);
                    let next = Word::empty(ring.next_lap(position));
                    if slot.compare_exchange(word.0, next.0, AcqRel, Relaxed).is_ok() {
                        losses.lost(word.owner());
                        done.lost += 1;
                    }
                } else {
                    let aside = Word::redeliver(word.lap());
                    let won = slot.compare_exchange(word.0, aside.0, AcqRel, Relaxed).is_ok();
                    done.redelivered += u64::from(won);
                }
            }
            _ => {}
        }
    }
    // Always, and after the slots: a predecessor may have died between putting aside and saying so.
    put_aside(view);
    done
}

/// Whether the message at `position` is still in the hands of `owner`.
pub fn is_in_hand(view: &View<Slots>, owner: u32, position: u64) -> bool {
    let ring = view.ring();
    // G1 Acquire: as in `repair`.
    let word = view.slot(position).word().load(Acquire);
    word == Word::reading(ring.lap(position), owner).0
}

/// What is left in a ring that nobody sends to any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Nothing.
    Nothing,
    /// A message that can be taken, or a claim that this one may hold.
    Messages,
    /// Only what is in somebody's hands: this one's.
    InHand(u32),
}

/// What is left.
pub fn left(view: &View<Slots>) -> Left {
    let mut left = Left::Nothing;
    for index in 0..view.ring().slots() {
        // M5 Acquire: what was done before a release, or before a message was put aside, is seen with it.
        let word = Word(view.slot(index).word().load(Acquire));
        match word.state() {
            Some(State::Ready | State::Redeliver) => return Left::Messages,
            Some(State::Reading | State::Writing) => left = Left::InHand(word.owner()),
            _ => {}
        }
    }
    left
}

/// Messages that are committed and not taken, or aside. Looks at every slot; news only.
pub fn waiting(view: &View<Slots>) -> u64 {
    let waits = |index: &u64| {
        // Relaxed: news.
        let state = Word(view.slot(*index).word().load(Relaxed)).state();
        matches!(state, Some(State::Ready | State::Redeliver))
    };
    (0..view.ring().slots()).filter(waits).count() as u64
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::layout::geometry;
    use crate::region::slots;

    /// Under Miri, which takes a thousand times as long, a small table and fewer rounds.
    const SEATS: u32 = if cfg!(miri) { 8 } else { geometry::SEATS };
    const ROUNDS: u8 = if cfg!(miri) { 9 } else { 100 };

    struct Nobody;
    impl Losses for Nobody {
        fn about_to_lose(&self, _: u32, _: u64) {}
        fn lost(&self, _: u32) {}
    }

    fn ring(count: u64, start: u64) -> View<Slots> {
        slots(Slots::new(count, 40, SEATS).expect("legal"), start)
    }

    fn everywhere(claim: impl Fn(&dyn Fn() -> View<Slots>)) {
        for count in [2, 4] {
            let shape = Slots::new(count, 40, SEATS).expect("legal");
            let end = shape.position(shape.lap_mask(), count - 1);
            for start in [0, 1, count, end.wrapping_sub(2 * count), end] {
                claim(&|| ring(count, start));
            }
        }
    }

    fn text(rx: &Consumer, held: &Held) -> Vec<u8> {
        let mut bytes = [MaybeUninit::uninit(); 64];
        rx.read(held, &mut bytes).to_vec()
    }

    fn next(rx: &Consumer) -> Option<(Vec<u8>, u32)> {
        let held = rx.try_take().expect("sound")?;
        let got = (text(rx, &held), held.attempts());
        rx.release(&held);
        Some(got)
    }

    #[test]
    fn messages_go_round_in_order_over_many_laps() {
        everywhere(|view| {
            let view = view();
            let (a, b) = (
                Producer::attach(view.clone(), 1).expect("sound"),
                Producer::attach(view.clone(), 2).expect("sound"),
            );
            let (c, d) = (
                Consumer::attach(view.clone(), 3).expect("sound"),
                Consumer::attach(view.clone(), 4).expect("sound"),
            );
            for round in 0..2 * ROUNDS {
                let (tx, rx) =
                    (if round % 3 == 0 { &a } else { &b }, if round % 5 == 0 { &c } else { &d });
                assert_eq!(next(rx), None);
                tx.try_send(&[round]).expect("room");
                assert_eq!(next(rx), Some((vec![round], 1)));
            }
        });
    }

    #[test]
    fn a_full_ring_takes_one_more_for_each_that_is_released() {
        everywhere(|view| {
            let view = view();
            let tx = Producer::attach(view.clone(), 1).expect("sound");
            let rx = Consumer::attach(view.clone(), 3).expect("sound");
            let mut sent = 0..=255u8;
            while tx.is_full() == Ok(false) {
                tx.try_send(&[sent.next().expect("few")]).expect("room");
            }
            assert_eq!(waiting(&view), view.ring().slots());
            for received in 0..ROUNDS {
                assert_eq!(tx.try_send(&[0]), Err(Refused::Full));
                assert_eq!(tx.blocker(), None);
                let held = rx.try_take().expect("sound").expect("there");
                assert_eq!(text(&rx, &held), [received]);
                assert_eq!(tx.try_send(&[0]), Err(Refused::Full));
                assert_eq!(tx.blocker(), Some(3), "it is in that receiver's hand");
                rx.release(&held);
                tx.try_send(&[sent.next().expect("few")]).expect("room");
            }
        });
    }

    #[test]
    fn whoever_comes_late_or_was_idle_finds_its_place() {
        everywhere(|view| {
            let view = view();
            let idle = (
                Producer::attach(view.clone(), 5).expect("sound"),
                Consumer::attach(view.clone(), 6).expect("sound"),
            );
            for laps in [0, 1, 7, ROUNDS.into()] {
                let tx = Producer::attach(view.clone(), 1).expect("sound");
                let rx = Consumer::attach(view.clone(), 3).expect("sound");
                for _ in 0..laps * view.ring().slots() + 1 {
                    tx.try_send(b"x").expect("room");
                    assert!(next(&rx).is_some());
                }
            }
            idle.0.try_send(b"late").expect("room");
            assert_eq!(next(&idle.1), Some((b"late".to_vec(), 1)));
        });
    }

    #[test]
    fn a_dead_senders_claim_is_stepped_over_and_a_dead_receivers_message_comes_again() {
        everywhere(|view| {
            let view = view();
            let dead = Producer::attach(view.clone(), 1).expect("sound");
            dead.try_claim(3).expect("room");
            let tx = Producer::attach(view.clone(), 2).expect("sound");
            tx.try_send(b"behind").expect("room");
            let rx = Consumer::attach(view.clone(), 3).expect("sound");
            assert_eq!((next(&rx), rx.blocker()), (None, Some(1)));
            let done = repair(&view, |owner| owner == 1, None::<&Nobody>);
            assert_eq!(done, Repaired { skipped: 1, ..Repaired::default() });
            let held = rx.try_take().expect("sound").expect("there");
            assert_eq!((rx.skipped(), rx.skipped()), (1, 0));
            let done = repair(&view, |owner| owner == 3, None::<&Nobody>);
            assert_eq!(done, Repaired { redelivered: 1, ..Repaired::default() });
            let heir = Consumer::attach(view.clone(), 4).expect("sound");
            let again = heir.try_take().expect("sound").expect("aside");
            assert_eq!((text(&heir, &again), again.attempts()), (b"behind".to_vec(), 2));
            assert_eq!(heir.position(&again), rx.position(&held));
            heir.give_back(&again);
            assert_eq!(next(&heir), Some((b"behind".to_vec(), 3)));
            assert_eq!(next(&heir), None);
            assert_eq!(waiting(&view), 0);
        });
    }

    #[test]
    fn a_receiver_that_dies_while_it_releases_leaves_the_message_whole() {
        for len in [40, 60, 200, 1000] {
            let view = slots(Slots::new(2, len, SEATS).expect("legal"), 0);
            let message: Vec<u8> = (0..len).map(|at| at as u8 | 1).collect();
            Producer::attach(view.clone(), 1).expect("sound").try_send(&message).expect("room");
            let rx = Consumer::attach(view.clone(), 2).expect("sound");
            let held = rx.try_take().expect("sound").expect("there");
            // As far as `release` comes without letting go.
            rx.slot(&held).touch(len);
            repair(&view, |owner| owner == 2, None::<&Nobody>);
            let heir = Consumer::attach(view.clone(), 3).expect("sound");
            let again = heir.try_take().expect("sound").expect("aside");
            let mut bytes = vec![MaybeUninit::uninit(); len as usize];
            assert_eq!(*heir.read(&again, &mut bytes), *message, "{len}");
        }
    }

    #[test]
    fn a_hint_that_lies_moves_nobody() {
        for lie in [1, 2, 3, 5, 1 << 20, u64::MAX, u64::MAX / 2, 1 << 49, (1 << 49) - 2] {
            let view = ring(2, 0);
            view.word(TAIL).store(lie, Relaxed);
            view.word(HEAD).store(lie, Relaxed);
            let tx = Producer::attach(view.clone(), 1).expect("sound");
            let rx = Consumer::attach(view.clone(), 3).expect("sound");
            for round in 0..ROUNDS {
                view.word(TAIL).store(lie.wrapping_add(round.into()), Relaxed);
                view.word(HEAD).store(lie, Relaxed);
                tx.try_send(&[round]).expect("room");
                assert_eq!(next(&rx), Some((vec![round], 1)));
            }
        }
    }

    #[test]
    fn a_slot_that_nobody_can_have_written_is_corrupt() {
        for garbage in [
            Word::empty(7).0 | 6,
            Word::empty(7).0,
            Word::ready(u64::MAX >> 17).0,
            Word::skip(1 << 47).0,
            u64::MAX,
            Word::reading(5, 3).0,
        ] {
            let view = ring(4, 0);
            let tx = Producer::attach(view.clone(), 1).expect("sound");
            let rx = Consumer::attach(view.clone(), 3).expect("sound");
            view.slot(0).word().store(garbage, Relaxed);
            let sent = (0..3).find_map(|_| tx.try_send(b"x").err());
            let took = (0..3).find_map(|_| rx.try_take().err());
            assert!(matches!(sent, Some(Refused::Corrupt(_))), "{:?} {sent:?}", Word(garbage));
            assert!(matches!(took, Some(Refused::Corrupt(_))), "{:?} {took:?}", Word(garbage));
        }
    }
}
