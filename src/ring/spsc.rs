//! The spsc byte ring: one sender, one receiver, records of any length on cache lines.
//!
//! Knows the memory of one ring through a [`View`]. Knows nothing of who holds a role: whoever makes a [`Producer`] or a
//! [`Consumer`] is the only one, by the kernel's word (docs/crash-safety.md).
//!
//! # State
//!
//! Positions count bytes since the ring was made and wrap at 2^64; `w(p)` is word 0 of the line at `p`.
//!
//! ```text
//!            head        acked          tail ............ T              head + capacity
//!             |            |              |               |                    |
//!   ----------+------------+--------------+---------------+--------------------+
//!             | being reset| unread       | in flight     | free: w(p) == 0    |
//!             |            | committed    | committed     | (in the first      |
//!             |            | by index     | in-band only  | `dirty` bytes:     |
//!             |            |              |               |  anything)         |
//! ```
//!
//! | word    | written by | says                                                                  |
//! |---------|------------|-----------------------------------------------------------------------|
//! | `w(T)`  | sender     | 0: nothing yet; else a record is committed here                       |
//! | `tail`  | sender     | everything before it is committed                                     |
//! | `acked` | receiver   | a successor need not read before it                                   |
//! | `head`  | receiver   | the sender may overwrite up to `head + capacity`                      |
//! | `taken` | receiver   | a record before it was handed out (so a successor marks it delivered) |
//! | `w(p)`  | receiver   | reset to 0 when released: the line may be committed to again          |
//!
//! # Invariants
//!
//! - I1. `head <= acked <= T <= head + capacity` and `tail <= T`; `tail` lags `T` by the operation in flight at most.
//! - I2. `w(T)` is 0 until a commit's Release store, and so is every line that a later record can begin on before the
//!   record before it is committed.
//! - I3. Only the sender writes lines of `[T, head + capacity)`; only the receiver writes lines of `[head, T)`.
//! - I4. A pad is committed only together with the record behind it.
//! - I5. From the receiver's position up to its `straight` all is known to be committed, and the end of the memory does not
//!   lie in between; `straight` is never behind the position. So a record that fits in between needs neither an Acquire nor
//!   another look at where it ends.
//!
//! # Trust
//!
//! Each side keeps its own position privately and loads each shared word once into a local; what the other side may have
//! garbled bounds nothing here. Every loop is bounded by the capacity.
//!
//! Orderings cite rows of docs/memory-ordering.md; deaths are the rows of docs/crash-safety.md.

use core::mem::MaybeUninit;

use super::{Damage, Refused};
use crate::layout::control::{
    ACKED, ATTEMPTS, HEAD, LOST, RECEIVED, RECEIVED_BYTES, REDELIVERED, SENT, SENT_BYTES, TAIL,
    TAKEN,
};
use crate::layout::geometry::{Geometry, LINE, ahead};
use crate::layout::record::{self, EMPTY, Record};
use crate::layout::view::View;
use crate::sync;
use crate::sync::Ordering::{Acquire, Relaxed, Release};

/// Pauses that a receiver looks away for when it has caught up: about 50 ns. From 4 on a round trip suffers, and a stream gains
/// nothing more that could be told from noise (docs/benchmarks.md).
const LOOK_AWAY: u32 = if sync::MODELLED { 0 } else { 2 };

/// The most of them, for one that has caught up again and again and each time found more at once: it is faster than the sender
/// and would take each line away from it while it is being filled.
const LOOK_FAR_AWAY: u32 = 24;

/// So many bytes ahead of the receiver, the sender is out of its way.
const OUT_OF_THE_WAY: u64 = 64 * LINE;

/// From so many bytes a record on, each side asks for lines before it comes to them, where it does what it did before. For shorter
/// ones a round trip would suffer: its next look at a line waits behind what was asked for.
const LONG: u64 = 8 * LINE;

/// How far ahead of its position the sender asks for lines that it will fill, and the receiver for lines that it will read: far
/// enough for them to come from the other processor meanwhile (docs/benchmarks.md).
const SENDER_ASKS: u64 = 16 * LINE;
const RECEIVER_ASKS: u64 = 32 * LINE;

/// The most that is asked for at once: lines beyond would push the first ones out again.
const ASKS_MOST: u64 = 1024 * LINE;

/// A sender that found the ring full waits a moment for this part of it.
const STRETCH: u64 = 8;

/// The sending half.
#[derive(Debug)]
pub struct Producer {
    view: View,
    ring: Geometry,
    /// `T`: where the next record goes. The truth; `tail` in the memory is its shadow.
    tail: u64,
    /// The last `head` that was read, so at most the true one.
    head: u64,
    /// In so many bytes from `tail` on, word 0 of a line may be anything: they were handed out and not committed, by this
    /// sender or a dead one. Nearly always none.
    dirty: u64,
}

/// Memory for one record, not yet committed. Forgetting it is harmless: `dirty` remembers what it covered.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// Position of the record, behind the pad if there is one.
    start: u64,
    /// Position of the first line behind the record.
    end: u64,
    len: u64,
    /// Bytes from `start` to the payload: settled by the length that was claimed.
    payload: u64,
    /// `dirty` before this claim: lines of the pad in it may hold anything.
    stale: u64,
}

impl Claim {
    /// Position of the first byte of the payload.
    #[inline]
    pub fn payload(&self) -> u64 {
        self.start.wrapping_add(self.payload)
    }

    /// Bytes of payload that were asked for.
    #[inline]
    pub fn len(&self) -> u64 {
        self.len
    }
}

impl Producer {
    /// Takes over as the sender. The caller holds the role; its predecessor, if any, is dead or has left.
    ///
    /// The true end of the stream may be behind the index: the predecessor may have died between committing in-band
    /// and storing `tail` (C2), and the receiver, alive, may be releasing those very records. So this walks from the
    /// index over committed records, and at the first empty line asks `acked` whether the line is empty because nobody
    /// wrote it or because it was just released.
    ///
    /// # Errors
    ///
    /// `Corrupt` when the cursors or a record contradict I1.
    pub fn attach(view: View) -> Result<Self, Refused> {
        let ring = view.ring();
        let capacity = ring.capacity();
        // A1 Acquire: pairs with the receiver's Release of `head`, so that its resets before it are seen.
        let head = view.word(HEAD).load(Acquire);
        // A2 Relaxed: our role's own word, ordered by the lock.
        let tail = view.word(TAIL).load(Relaxed);
        // A3 Acquire: pairs with the receiver's Release of `acked`.
        let acked = view.word(ACKED).load(Acquire);
        if (head | tail | acked) % LINE != 0 {
            return Err(Refused::Corrupt(Damage::Unaligned));
        }
        let acked = ahead(acked, head, capacity).ok_or(Refused::Corrupt(Damage::Acked))?;
        // `tail` may lag behind `head` by the operation that its writer died in, and by no more.
        let indexed = match ahead(tail, head, capacity) {
            Some(distance) => distance,
            None if ahead(head, tail, capacity).is_some() => 0,
            None => return Err(Refused::Corrupt(Damage::Tail)),
        };
        let mut walked = acked.max(indexed);
        while walked < capacity {
            let at = head.wrapping_add(walked);
            // A4 Acquire: pairs with the commit and with the receiver's reset of the line. Before A5.
            let word = view.line(at).load(Acquire);
            if word == EMPTY {
                // A5 Acquire, after the word: a reset is stored behind its `acked`, so an empty line of a released
                // record shows the record's end here.
                let acked = view.word(ACKED).load(Acquire);
                match ahead(acked, head, capacity) {
                    Some(acked) if acked > walked && acked % LINE == 0 => walked = acked,
                    Some(_) => break,
                    None => return Err(Refused::Corrupt(Damage::Acked)),
                }
            } else {
                let found =
                    Record::parse(word, at, ring).ok_or(Refused::Corrupt(Damage::Header))?;
                walked += found.span();
            }
        }
        if walked > capacity {
            return Err(Refused::Corrupt(Damage::Overrun));
        }
        let tail = head.wrapping_add(walked);
        // Whatever the predecessor left in the free lines is scrubbed before the first commit that could expose it (C1).
        let dirty = capacity - walked;
        // A6 Release: pairs with R0'. Saves an index reader some polling; but if it is stored, then behind all of the
        // predecessor's records, which our lock has shown to us and nothing else to the receiver.
        view.word(TAIL).store(tail, Release);
        Ok(Self { view, ring, tail, head, dirty })
    }

    /// Sends one message.
    ///
    /// # Errors
    ///
    /// `TooLong`, `Full` (now), or `Corrupt`.
    #[inline(always)]
    pub fn try_send(&mut self, message: &[u8]) -> Result<(), Refused> {
        // Written and committed before anybody can change its mind: nothing becomes dirty.
        let claim = self.room_at(self.tail, message.len())?;
        self.view.write(claim.payload(), message);
        self.commit(claim, claim.len);
        Ok(())
    }

    /// Finds room for a message of `len` bytes.
    ///
    /// # Errors
    ///
    /// `TooLong`, `Full` (now), or `Corrupt`.
    #[inline]
    pub fn try_claim(&mut self, len: usize) -> Result<Claim, Refused> {
        let claim = self.room_at(self.tail, len)?;
        self.handed_out(claim);
        Ok(claim)
    }

    /// From here on the memory of `claim` may hold anything.
    #[inline]
    fn handed_out(&mut self, claim: Claim) {
        self.dirty = self.dirty.max(claim.end.wrapping_sub(self.tail));
    }

    /// Finds room for a message at `tail`, which is this side's end of the stream, committed or in the making.
    #[inline(always)]
    fn room_at(&mut self, tail: u64, len: usize) -> Result<Claim, Refused> {
        let len = len as u64;
        if len > self.ring.max_len() {
            return Err(Refused::TooLong);
        }
        let place = self.ring.place(tail, len);
        if place.end.wrapping_sub(self.head) > self.ring.capacity() {
            self.refresh_head(place.end)?;
        }
        let (start, end, payload) = (place.start, place.end, place.payload);
        Ok(Claim { start, end, len, payload, stale: self.dirty })
    }

    /// Reads how far the receiver has come; about once a lap while there is room.
    #[cold]
    fn refresh_head(&mut self, end: u64) -> Result<(), Refused> {
        // S5 Acquire: pairs with R4; the receiver's reads and resets of these lines come before our stores.
        let head = self.view.word(HEAD).load(Acquire);
        let unread = self.tail.wrapping_sub(self.head);
        match ahead(head, self.head, unread) {
            Some(_) if head % LINE == 0 => self.head = head,
            _ => return Err(Refused::Corrupt(Damage::Head)),
        }
        if end.wrapping_sub(head) > self.ring.capacity() { Err(Refused::Full) } else { Ok(()) }
    }

    /// Waits a moment, at most twice `pauses` pauses, for an eighth of the ring to come free; for a caller whose claim found
    /// it full.
    ///
    /// A sender that takes each line as it comes free, or looks for it all the time, takes the receiver's cursor line away
    /// from it for every message, and that line then sets the pace of both. So it looks less and less often, and goes on
    /// with a whole stretch. It takes what there is in the end: nobody waits for space that will not come.
    ///
    /// # Errors
    ///
    /// `Corrupt`.
    #[cold]
    pub fn wait_for_stretch(&mut self, pauses: u32) -> Result<(), Refused> {
        let enough = self.ring.capacity() - self.ring.capacity() / STRETCH;
        let mut pause = 1;
        while pause <= pauses && self.unreleased()? > enough {
            (0..pause).for_each(|_| sync::spin_loop());
            pause *= 2;
        }
        Ok(())
    }

    /// Makes a claimed record visible, with a payload of `len` bytes, at most what was claimed.
    #[inline(always)]
    pub fn commit(&mut self, claim: Claim, len: u64) {
        debug_assert!(len <= claim.len);
        let end = claim.start.wrapping_add(Geometry::span(len, claim.payload));
        let header = record::message(claim.start, len, claim.payload);
        if claim.start == self.tail {
            self.publish(end, header);
        } else {
            self.commit_behind_pad(claim, end, header);
        }
        self.view.tally(SENT, 1);
        self.view.tally(SENT_BYTES, len);
        let span = end.wrapping_sub(claim.start);
        if span >= LONG {
            self.ask_for(span);
        }
    }

    /// Asks for lines that messages of `span` bytes will be written to. Only for lines that are known to be free: others are the
    /// receiver's.
    #[inline]
    fn ask_for(&self, span: u64) {
        let from = self.tail.wrapping_add(SENDER_ASKS);
        if from.wrapping_add(span).wrapping_sub(self.head) <= self.ring.capacity() {
            self.view.will_write(from, span.min(ASKS_MOST));
        }
    }

    #[cold]
    fn commit_behind_pad(&mut self, Claim { start, stale, .. }: Claim, end: u64, header: u64) {
        self.scrub_pad(stale, self.tail, start);
        self.later_header(start, header);
        self.publish(end, record::pad(self.tail, start.wrapping_sub(self.tail)));
    }

    /// The commit: everything up to `end` becomes visible with the one store of `first` at the tail.
    #[inline(always)]
    fn publish(&mut self, end: u64, first: u64) {
        if self.dirty != 0 {
            self.scrub(end);
        }
        // S3 Release: pairs with R0 (in-band). Orders the payload, the later headers and the scrub before it.
        self.view.line(self.tail).store(first, Release);
        // S4 Release: pairs with R0' (index). Never leads S3. C2 lies between them.
        self.view.word(TAIL).store(end, Release);
        self.tail = end;
    }

    /// Zeroes what an abandoned claim or a dead predecessor may have left where a header can be looked for behind the record:
    /// from `end` up to where it is dirty. All is clean then.
    #[cold]
    fn scrub(&mut self, end: u64) {
        // Never beyond what is ours (I3): `dirty` was set within `head + capacity`, and `head` only grows.
        let from = end.wrapping_sub(self.tail);
        for line in (from..self.dirty).step_by(LINE as usize) {
            // Relaxed: S3 orders it.
            self.view.line(self.tail.wrapping_add(line)).store(EMPTY, Relaxed);
        }
        self.dirty = 0;
    }

    /// The same inside a pad from `from` to `to`, where `stale` bytes from `tail` on were dirty before the claim: a released pad
    /// is reset in its first line only.
    #[cold]
    fn scrub_pad(&self, stale: u64, from: u64, to: u64) {
        let (from, to) = (from.wrapping_sub(self.tail), to.wrapping_sub(self.tail));
        for line in (from + LINE..to.min(stale)).step_by(LINE as usize) {
            // Relaxed: S3 orders it.
            self.view.line(self.tail.wrapping_add(line)).store(EMPTY, Relaxed);
        }
    }

    /// Sends as many of `messages` as there is room for now, all of them visible at one point; answers how many.
    ///
    /// # Errors
    ///
    /// `TooLong` when the first that does not fit is too long for any ring of this size (nothing is sent then; callers
    /// check the whole call beforehand), `Full` when there is room for none, or `Corrupt`.
    pub fn try_send_batch<B: AsRef<[u8]>>(&mut self, messages: &[B]) -> Result<usize, Refused> {
        let (mut tail, mut first, mut sent, mut bytes) = (self.tail, EMPTY, 0, 0u64);
        let stale = self.dirty;
        for message in messages {
            let message = message.as_ref();
            let claim = match self.room_at(tail, message.len()) {
                Ok(claim) => claim,
                Err(Refused::Full) if sent > 0 => break,
                Err(refused) => return Err(refused),
            };
            self.handed_out(claim);
            self.view.write(claim.payload(), message);
            let header = record::message(claim.start, claim.len, claim.payload);
            if claim.start != tail {
                let pad = record::pad(tail, claim.start.wrapping_sub(tail));
                self.scrub_pad(stale, tail, claim.start);
                self.later_header(claim.start, header);
                if tail == self.tail { first = pad } else { self.later_header(tail, pad) }
            } else if tail == self.tail {
                first = header;
            } else {
                self.later_header(tail, header);
            }
            tail = claim.end;
            sent += 1;
            bytes += claim.len;
        }
        if sent > 0 {
            self.publish(tail, first);
            self.view.tally(SENT, sent as u64);
            self.view.tally(SENT_BYTES, bytes);
        }
        Ok(sent)
    }

    /// A header behind the first of an operation: nobody reaches it before S3 publishes the first.
    #[inline]
    fn later_header(&self, position: u64, word: u64) {
        // S1 Relaxed: S3 orders it.
        self.view.line(position).store(word, Relaxed);
    }

    /// Bytes that are not released yet, pads included; exact for the moment of the look.
    ///
    /// # Errors
    ///
    /// `Corrupt`.
    pub fn unreleased(&mut self) -> Result<u64, Refused> {
        match self.refresh_head(self.tail) {
            Ok(()) => Ok(self.tail.wrapping_sub(self.head)),
            Err(refused) => Err(refused),
        }
    }

    /// Whether a message of `len` bytes would find room now, looking at the receiver's cursor if need be.
    ///
    /// # Errors
    ///
    /// `Corrupt`.
    pub fn has_room(&mut self, len: u64) -> Result<bool, Refused> {
        let end = self.ring.place(self.tail, len.min(self.ring.max_len())).end;
        if end.wrapping_sub(self.head) <= self.ring.capacity() {
            return Ok(true);
        }
        match self.refresh_head(end) {
            Ok(()) => Ok(true),
            Err(Refused::Full) => Ok(false),
            Err(refused) => Err(refused),
        }
    }

    /// The memory.
    #[inline]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Messages and bytes committed since the ring was made, as far as the counters tell.
    pub fn sent(&self) -> (u64, u64) {
        // Relaxed, both: news.
        (self.view.word(SENT).load(Relaxed), self.view.word(SENT_BYTES).load(Relaxed))
    }
}

/// The receiving half.
#[derive(Debug)]
pub struct Consumer {
    view: View,
    ring: Geometry,
    /// The next record to read. Nothing before it is unreleased: one record is in hand at a time, and this moves on only
    /// when it is released.
    pos: u64,
    /// The last `tail` that was read, if it is ahead of `pos`.
    tail: u64,
    /// Up to here all is known to be committed, by the index or in-band, and the end of the memory is not before it: set whenever
    /// something is taken or passed over that `take_now` leaves to others (I5).
    straight: u64,
    /// Shadow of `taken`.
    taken: u64,
    /// Shadow of `attempts`.
    attempts: u64,
    /// The message in hand: handed out and not released. There is one at a time, at `pos`.
    held: record::Message,
    /// How often it was handed out before.
    again: u32,
    /// What it covers, in bytes.
    span: u64,
    /// Pauses to look away for when this one has caught up.
    away: u32,
    at_most_once: bool,
    /// Space was published besides by a release: nobody has been told yet.
    freed: bool,
    lost: u64,
    redelivered: u64,
}

impl Consumer {
    /// Takes over as the receiver. The caller holds the role; its predecessor, if any, is dead or has left.
    ///
    /// What the predecessor had acknowledged but not published is finished before anything is read: it may have died
    /// between `acked` and `head` (C5), with some of the lines reset and some not. The caller wakes the sender afterwards.
    ///
    /// # Errors
    ///
    /// `Corrupt` when the cursors contradict I1.
    pub fn attach(view: View, at_most_once: bool) -> Result<Self, Refused> {
        let ring = view.ring();
        // B1 Relaxed: our role's own word, ordered by the lock.
        let pos = view.word(ACKED).load(Relaxed);
        // B2 Relaxed: our role's own word, ordered by the lock.
        let reset = view.word(HEAD).load(Relaxed);
        // Relaxed: our role's own words, ordered by the lock.
        let taken = view.word(TAKEN).load(Relaxed);
        let attempts = view.word(ATTEMPTS).load(Relaxed);
        if (pos | reset) % LINE != 0 {
            return Err(Refused::Corrupt(Damage::Unaligned));
        }
        let unfinished =
            ahead(pos, reset, ring.capacity()).ok_or(Refused::Corrupt(Damage::Acked))?;
        for line in (0..unfinished).step_by(LINE as usize) {
            // B3 Release: after B1's `acked`, as R2.
            view.line(reset.wrapping_add(line)).store(EMPTY, Release);
        }
        if unfinished != 0 {
            // B4 Release: pairs with S5, as R4.
            view.word(HEAD).store(pos, Release);
        }
        // A predecessor that died between handing out and acknowledging leaves `taken` ahead by that one record. A
        // garbled word would only mark a message as delivered before.
        let near = ahead(taken, pos, ring.capacity() / 2).is_some() && taken % LINE == 0;
        let taken = if near { taken } else { pos };
        // Relaxed: our role's own counters.
        let (lost, redelivered) =
            (view.word(LOST).load(Relaxed), view.word(REDELIVERED).load(Relaxed));
        Ok(Self {
            view,
            ring,
            pos,
            tail: pos,
            straight: pos,
            taken,
            attempts,
            held: record::Message::NOTHING,
            again: 0,
            span: record::Message::NOTHING.span(),
            away: LOOK_AWAY,
            at_most_once,
            freed: false,
            lost,
            redelivered,
        })
    }

    /// Takes the next message in hand, if the index says that there is one, it is as long as the one before, and nothing is
    /// special about it: what a receiver that is behind comes to nearly always. Answers whether; if not,
    /// [`take_with_care`](Self::take_with_care) has to see.
    ///
    /// That it is as long as the one before is compared, not computed: then where the next one lies does not wait for a header
    /// that comes from the other processor, because the processor takes the comparison for granted.
    #[inline(always)]
    pub fn take_now(&mut self) -> bool {
        if self.span > self.straight.wrapping_sub(self.pos) || self.taken != self.pos {
            return false;
        }
        // Relaxed: it lies before an index that was loaded with Acquire (R0', I5).
        let word = self.view.line(self.pos).load(Relaxed);
        if !self.held.is_at(self.pos, word) {
            return self.take_another(word);
        }
        self.mark_taken();
        if self.span >= LONG {
            self.ask_for(self.span);
        }
        true
    }

    /// Asks for lines that messages of `span` bytes will be read from. Only for lines that are known to be committed: others are
    /// the sender's.
    #[inline]
    fn ask_for(&self, span: u64) {
        if RECEIVER_ASKS + span <= self.straight.wrapping_sub(self.pos) {
            self.view.will_read(self.pos.wrapping_add(RECEIVER_ASKS), span.min(ASKS_MOST));
        }
    }

    /// The same for a message that differs from the one before in its length.
    #[cold]
    #[inline(never)]
    fn take_another(&mut self, word: u64) -> bool {
        match record::Message::parse(word, self.pos, self.ring) {
            Some(message) if message.span() <= self.tail.wrapping_sub(self.pos) => {
                self.hold(message);
                true
            }
            _ => false,
        }
    }

    /// A message is in hand.
    #[inline]
    fn hold(&mut self, message: record::Message) {
        (self.held, self.span) = (message, message.span());
        self.mark_taken();
        self.reaches(self.taken);
        let ahead = self.tail.wrapping_sub(self.pos).min(self.ring.room_to_wrap(self.pos));
        self.straight = self.pos.wrapping_add(ahead);
    }

    /// A record up to `end` was seen, maybe in-band, where the index is not known to be that far.
    #[inline]
    fn reaches(&mut self, end: u64) {
        if self.tail.wrapping_sub(self.pos) < end.wrapping_sub(self.pos) {
            self.tail = end;
        }
    }

    /// Whoever succeeds this receiver shall know that it was handed out.
    #[inline(always)]
    fn mark_taken(&mut self) {
        self.taken = self.pos.wrapping_add(self.span);
        // T1 Relaxed: only a successor of our role reads it, and the lock orders that. C4.
        self.view.word(TAKEN).store(self.taken, Relaxed);
    }

    /// Takes the next message in hand, if one is committed; answers whether. It stays the next one until it is released.
    ///
    /// # Errors
    ///
    /// `Corrupt` when the sender wrote what no sender writes.
    #[inline]
    pub fn try_take(&mut self) -> Result<bool, Refused> {
        loop {
            let word = self.poll()?;
            if word == EMPTY {
                return Ok(false);
            }
            match Record::parse(word, self.pos, self.ring) {
                Some(Record::Message(message)) if self.taken == self.pos => {
                    self.hold(message);
                    return Ok(true);
                }
                Some(Record::Message(message)) => {
                    if self.take_again(message) {
                        return Ok(true);
                    }
                }
                // At most once a call: a pad ends at the end of the memory, and a pad at offset 0 is not valid.
                Some(Record::Pad { span }) => self.skip_pad(span),
                None => return Err(Refused::Corrupt(Damage::Header)),
            }
        }
    }

    /// As [`try_take`](Self::try_take), for a caller that is going to wait: looks up to `looks` times.
    ///
    /// A receiver that has caught up looks away for a moment first. It lets the sender run ahead, and then whole stretches
    /// are read by the index; otherwise both chase each other over the line being filled, which costs a stream 2 to 3
    /// times (docs/benchmarks.md). After that it polls one line only, the one that the next record will change.
    ///
    /// # Errors
    ///
    /// As [`try_take`](Self::try_take).
    #[inline]
    pub fn take_with_care(&mut self, looks: u32) -> Result<bool, Refused> {
        if self.pos == self.tail && looks != 0 {
            (0..self.away).for_each(|_| sync::spin_loop());
            self.refresh_tail()?;
            if self.pos == self.tail {
                self.away = LOOK_AWAY;
                return self.take_in_band(looks);
            }
            if self.tail.wrapping_sub(self.pos) < OUT_OF_THE_WAY {
                self.away = (2 * self.away).min(LOOK_FAR_AWAY);
            }
        }
        self.try_take()
    }

    /// Polls the line that the next record will change.
    #[inline]
    fn take_in_band(&mut self, looks: u32) -> Result<bool, Refused> {
        for _ in 0..looks {
            // R0 Acquire: pairs with S3. Nothing of ours is unreleased here, so this line is not one of our own.
            let word = self.view.line(self.pos).load(Acquire);
            if word != EMPTY {
                return match record::Message::parse(word, self.pos, self.ring) {
                    Some(message) if self.taken == self.pos => {
                        self.hold(message);
                        Ok(true)
                    }
                    _ => self.try_take(),
                };
            }
            sync::spin_loop();
        }
        self.try_take()
    }

    /// Whether space was published, since the last call, by something else than a release: a pad that was skipped, a message
    /// counted lost. A sender may be asleep for just that space while this side holds the message behind it, so whoever
    /// called must wake it.
    #[inline]
    pub fn freed(&mut self) -> bool {
        std::mem::take(&mut self.freed)
    }

    /// Whether a message is committed; hands nothing out. At most once, a message that was handed out before and not given
    /// back is counted lost first: it will not be handed out.
    ///
    /// # Errors
    ///
    /// `Corrupt`.
    pub fn has_message(&mut self) -> Result<bool, Refused> {
        if self.at_most_once && self.taken != self.pos && self.attempts == 0 {
            let word = self.poll()?;
            if let Some(message) = record::Message::parse(word, self.pos, self.ring) {
                self.take_again(message);
            }
        }
        Ok(self.poll()? != EMPTY)
    }

    /// The header at the position, or [`EMPTY`] when there is none yet.
    #[inline]
    fn poll(&mut self) -> Result<u64, Refused> {
        if self.pos == self.tail {
            // R0 Acquire: pairs with S3. Nothing of ours is unreleased here, so this line is not one of our own.
            let word = self.view.line(self.pos).load(Acquire);
            if word != EMPTY {
                return Ok(word);
            }
            self.refresh_tail()?;
            if self.pos == self.tail {
                return Ok(EMPTY);
            }
        }
        // Relaxed: it lies before an index that was loaded with Acquire (R0').
        match self.view.line(self.pos).load(Relaxed) {
            EMPTY => Err(Refused::Corrupt(Damage::Index)),
            word => Ok(word),
        }
    }

    #[inline]
    fn refresh_tail(&mut self) -> Result<(), Refused> {
        // R0' Acquire: pairs with S4.
        let tail = self.view.word(TAIL).load(Acquire);
        if ahead(tail, self.pos, self.ring.capacity()).is_some() && tail % LINE == 0 {
            self.tail = tail;
            return Ok(());
        }
        // It lags behind a record that was taken in-band, by one operation at most.
        match ahead(self.pos, tail, self.ring.capacity()) {
            Some(_) => Ok(()),
            None => Err(Refused::Corrupt(Damage::Tail)),
        }
    }

    /// The message in hand was handed out before and not released: to a predecessor that died, or given back. Answers
    /// whether it is to be handed out again.
    #[cold]
    fn take_again(&mut self, message: record::Message) -> bool {
        let end = self.pos.wrapping_add(message.span());
        if self.at_most_once && self.attempts == 0 {
            // Counted before it is released: a death in between counts it twice rather than never (C6).
            self.lost = self.lost.wrapping_add(1);
            self.view.count(LOST, self.lost);
            self.again = 0;
            self.pass_over(end, end);
            return false;
        }
        let before = if self.at_most_once {
            // It was given back, and is again one that a death, or forgetting it, loses.
            std::mem::take(&mut self.attempts)
        } else {
            self.attempts = self.attempts.saturating_add(1);
            self.attempts
        };
        // T2 Relaxed: as T1.
        self.view.word(ATTEMPTS).store(self.attempts, Relaxed);
        self.hold(message);
        self.redelivered = self.redelivered.wrapping_add(1);
        self.view.count(REDELIVERED, self.redelivered);
        self.again = u32::try_from(before).unwrap_or(u32::MAX);
        true
    }

    /// A pad goes as soon as it is seen: the record behind it was committed with it (I4).
    #[cold]
    fn skip_pad(&mut self, span: u64) {
        let end = self.pos.wrapping_add(span);
        // Its inner lines were scrubbed before it was committed, so its first line suffices.
        self.pass_over(end, self.pos.wrapping_add(LINE));
    }

    /// Releases what is handed to nobody, up to `end`, where everything begins anew.
    fn pass_over(&mut self, end: u64, reset: u64) {
        // A message in hand of a dead predecessor lies behind a pad that it had already released, so `taken` is here.
        self.taken = end;
        self.freed = true;
        self.reaches(end);
        // I5.
        self.straight = end;
        self.release_to(end, reset);
    }

    /// Bytes of payload of the message in hand.
    #[inline]
    pub fn len(&self) -> usize {
        self.held.len() as usize
    }

    /// Where its payload lies.
    #[inline]
    pub fn payload(&self) -> u64 {
        self.pos.wrapping_add(self.held.payload())
    }

    /// How often it has been handed out, this time included.
    #[inline]
    pub fn attempts(&self) -> u32 {
        self.again.saturating_add(1)
    }

    /// Where the message in hand stands in the stream: the same whenever it is delivered.
    #[inline]
    pub fn position(&self) -> u64 {
        self.pos
    }

    /// Loads the payload of the message in hand; answers the bytes, at most `to.len()` of them.
    #[inline]
    pub fn read<'a>(&self, to: &'a mut [MaybeUninit<u8>]) -> &'a mut [u8] {
        let len = to.len().min(self.len());
        self.view.read(self.payload(), &mut to[..len])
    }

    /// Releases the message in hand: it is not delivered again, and its lines may be overwritten.
    #[inline(always)]
    pub fn release(&mut self) {
        let end = self.pos.wrapping_add(self.span);
        self.release_to(end, end);
        self.view.tally(RECEIVED, 1);
        self.view.tally(RECEIVED_BYTES, self.held.len());
    }

    /// Whether the message in hand, or its ring, is marked as handed out before: then [`unmark`](Self::unmark) comes before the
    /// release.
    #[inline(always)]
    pub fn is_marked(&self) -> bool {
        u64::from(self.again) | self.attempts != 0
    }

    /// Takes the marks off.
    pub fn unmark(&mut self) {
        (self.again, self.attempts) = (0, 0);
        // Relaxed: as T2. Before R1: a death in between hands the message out once more, marked by `taken`.
        self.view.word(ATTEMPTS).store(0, Relaxed);
    }

    /// Acknowledges up to `end`, resets the lines up to `reset`, publishes the space. The order is the crash table's.
    #[inline(always)]
    fn release_to(&mut self, end: u64, reset: u64) {
        // R1 Release: after the reads of the payload; pairs with A5, whose walker sees a reset only behind this. C4 ends.
        self.view.word(ACKED).store(end, Release);
        let lines = reset.wrapping_sub(self.pos);
        let mut line = 0;
        loop {
            // R2 Release: behind R1, for the walker; also what makes the sender's next store to the line cheap. C5.
            self.view.line(self.pos.wrapping_add(line)).store(EMPTY, Release);
            line += LINE;
            if line >= lines {
                break;
            }
        }
        self.pos = end;
        // R4 Release: pairs with S5; the reads and resets come before the sender's next stores to these lines.
        self.view.word(HEAD).store(end, Release);
    }

    /// Gives the message in hand back: it is the next one again, marked as handed out before.
    pub fn give_back(&mut self) {
        if self.at_most_once {
            // The owner is alive and says so: this is not a loss. `attempts` marks it.
            self.attempts = u64::from(self.attempts());
            // T2 Relaxed: as T1.
            self.view.word(ATTEMPTS).store(self.attempts, Relaxed);
        }
    }

    /// Bytes committed by index and not released, pads included; the operation in flight may be missing.
    ///
    /// # Errors
    ///
    /// `Corrupt`.
    pub fn unread(&mut self) -> Result<u64, Refused> {
        // Both, or a sender that takes its index back would leave `tail` behind what is taken without a look at it (I5).
        (self.tail, self.straight) = (self.pos, self.pos);
        self.refresh_tail()?;
        Ok(self.tail.wrapping_sub(self.pos))
    }

    /// The memory.
    #[inline]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Messages and bytes released since the ring was made, as far as the counters tell.
    pub fn received(&self) -> (u64, u64) {
        // Relaxed, both: news.
        (self.view.word(RECEIVED).load(Relaxed), self.view.word(RECEIVED_BYTES).load(Relaxed))
    }

    /// Messages counted lost, and messages delivered again.
    pub fn troubles(&self) -> (u64, u64) {
        (self.lost, self.redelivered)
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::region::heap;

    const CAPACITY: u64 = 4096;

    fn ring(start: u64) -> View {
        heap(Geometry::new(CAPACITY).expect("legal"), start)
    }

    /// What the receiver does by default: by the index if it can.
    fn take(rx: &mut Consumer) -> Result<bool, Refused> {
        if rx.take_now() { Ok(true) } else { rx.take_with_care(0) }
    }

    #[test]
    fn a_sender_that_takes_its_index_back_does_not_lead_the_receiver_astray() {
        for start in [0, CAPACITY - 128, 0u64.wrapping_sub(128)] {
            let view = ring(start);
            let mut tx = Producer::attach(view.clone()).expect("sound");
            let mut rx = Consumer::attach(view.clone(), false).expect("sound");
            for _ in 0..4 {
                tx.try_send(b"here").expect("room");
            }
            assert_eq!(rx.unread(), Ok(4 * LINE), "now it goes by the index");
            assert_eq!(take(&mut rx), Ok(true));
            rx.release();
            let honest = view.word(TAIL).load(Relaxed);
            view.word(TAIL).store(rx.position(), Relaxed);
            assert_eq!(rx.unread(), Ok(0));
            view.word(TAIL).store(honest, Relaxed);
            for _ in 0..3 {
                assert_eq!(take(&mut rx), Ok(true));
                rx.release();
            }
            assert_eq!(take(&mut rx), Ok(false), "{start:#x}: all was received");
        }
    }

    #[test]
    fn a_pad_with_nothing_behind_it_lets_nobody_run_on() {
        let start = CAPACITY - 128;
        let view = ring(start);
        let mut rx = Consumer::attach(view.clone(), false).expect("sound");
        view.line(start).store(record::pad(start, 128), Relaxed);
        view.word(TAIL).store(CAPACITY, Relaxed);
        assert_eq!(take(&mut rx), Ok(false));
        assert_eq!((rx.position(), rx.straight), (CAPACITY, CAPACITY));
        // No message: it would begin where the receiver stands and not be committed.
        assert!(!rx.take_now());
    }
}
