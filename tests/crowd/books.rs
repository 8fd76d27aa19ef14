//! What was sent and what was received, compared message by message.
//!
//! Knows numbers, positions and fates. Knows nothing of processes or of time: journals are entered in any order, and what
//! came of a message first and what later follows from how often it had been handed out.
//!
//! # When a message may come twice
//!
//! A receiver notes a message while it has it in hand, then what it is about to do with it, then that it did. So of all
//! sightings of one message each but the last is of somebody who did not release it: who gave it back or was about to, who
//! forgot it, or who died before it noted the release. And each sighting says that it was handed out more often than the
//! one before.

use std::collections::HashMap;

use quoit::Delivery;

use crate::harness::Shape;
use crate::journal::Journal;
use crate::notes::{COUNT, LOG};

/// What a receiver did with a message, as far as it could say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    InHand = 1,
    Releasing,
    Released,
    GivingBack,
    GivenBack,
    Forgotten,
}

impl Fate {
    fn of(number: u64) -> Fate {
        use Fate::{Forgotten, GivenBack, GivingBack, InHand, Released, Releasing};
        [InHand, Releasing, Released, GivingBack, GivenBack, Forgotten]
            .into_iter()
            .find(|fate| *fate as u64 == number)
            .expect("a fate")
    }

    /// Whether the message may come again after this.
    fn may_come_again(self, delivery: Delivery) -> bool {
        match self {
            Fate::Released => false,
            Fate::GivingBack | Fate::GivenBack => true,
            Fate::InHand | Fate::Releasing | Fate::Forgotten => delivery == Delivery::AtLeastOnce,
        }
    }
}

/// The last word of an entry in a receiver's log; the id and the position stand before it.
pub(crate) fn entry(attempts: u32, fate: Fate) -> u64 {
    u64::from(attempts) << 8 | fate as u64
}

/// The id of a sender's message.
pub(crate) fn id_of(sender: u64, seq: u64) -> u64 {
    assert!(seq < 1 << 40 && sender < 1 << 20);
    sender << 40 | seq
}

/// A message in somebody's hands: the place in the order of all, how often it had been handed out, what came of it.
#[derive(Clone, Copy, Debug)]
struct Sighting {
    order: u64,
    attempts: u64,
    fate: Fate,
}

impl Sighting {
    /// Never 0.
    fn pack(self) -> u64 {
        assert!(self.order < 1 << 44 && self.attempts < 1 << 12);
        self.order << 20 | self.attempts << 8 | self.fate as u64
    }

    fn unpack(word: u64) -> Sighting {
        let (order, attempts) = (word >> 20, word >> 8 & 0xfff);
        Sighting { order, attempts, fate: Fate::of(word & 0xff) }
    }
}

/// What a sender had said when it ended.
struct Sent {
    /// Below: the call that sent it had returned `Ok`.
    accepted: u64,
    /// From `accepted` on and below: the call had not returned.
    offered: u64,
}

/// All journals.
pub(crate) struct Books {
    shape: Shape,
    senders: HashMap<u64, Sent>,
    /// By sender and number: the only sighting, packed; 0 when there is none, `SEVERAL` when there are more.
    sightings: HashMap<u64, Vec<u64>>,
    several: HashMap<u64, Vec<Sighting>>,
    killed: [u64; 2],
}

const SEVERAL: u64 = u64::MAX;

impl Books {
    pub(crate) fn new(shape: Shape) -> Books {
        Books {
            shape,
            senders: HashMap::new(),
            sightings: HashMap::new(),
            several: HashMap::new(),
            killed: [0; 2],
        }
    }

    pub(crate) fn sender(&mut self, number: u64, accepted: u64, offered: u64, killed: bool) {
        assert!(killed || accepted == offered, "a call of {number} did not end");
        self.killed[0] += u64::from(killed);
        // Offered may have been left behind by a call that failed.
        let offered = offered.max(accepted);
        assert!(self.senders.insert(number, Sent { accepted, offered }).is_none());
    }

    /// Enters the log of a receiver, who took what it had not been handed before in the order of all, and so, of each
    /// sender, in the order in which it was sent.
    pub(crate) fn receiver(&mut self, journal: &Journal, killed: bool) {
        self.killed[1] += u64::from(killed);
        let mut last = None;
        let mut last_of = HashMap::new();
        for at in (0..journal.get(COUNT) as usize).map(|count| LOG + 3 * count) {
            let (id, position, entry) = (journal.get(at), journal.get(at + 1), journal.get(at + 2));
            let (attempts, fate) = ((entry >> 8) as u32, Fate::of(entry & 0xff));
            let order = self.sighting(id, position, attempts, fate);
            if attempts == 1 {
                assert!(last < Some(order), "{id:#x} at {order} after {last:?}");
                last = Some(order);
                let before = last_of.insert(id >> 40, id);
                assert!(before < Some(id), "{id:#x} after {before:x?}");
            }
        }
    }

    /// Enters one message in somebody's hands; answers its place in the order of all.
    pub(crate) fn sighting(&mut self, id: u64, position: u64, attempts: u32, fate: Fate) -> u64 {
        // Positions wrap with the laps, of which there are 2^48.
        let order = position.wrapping_sub(self.shape.start) & ((self.shape.slots << 48) - 1);
        let sighting = Sighting { order, attempts: u64::from(attempts), fate };
        let (sender, seq) = (id >> 40, (id & ((1 << 40) - 1)) as usize);
        let of = self.sightings.entry(sender).or_default();
        if of.len() <= seq {
            of.resize(seq + 1, 0);
        }
        match of[seq] {
            0 => of[seq] = sighting.pack(),
            SEVERAL => self.several.get_mut(&id).unwrap().push(sighting),
            one => {
                self.several.insert(id, vec![Sighting::unpack(one), sighting]);
                of[seq] = SEVERAL;
            }
        }
        order
    }

    pub(crate) fn accepted(&self) -> u64 {
        self.senders.values().map(|sent| sent.accepted).sum()
    }

    pub(crate) fn offered(&self) -> u64 {
        self.senders.values().map(|sent| sent.offered).sum()
    }

    /// Of a message, how it went from hand to hand, each time with a reason; answers the last sighting, and how often it
    /// was handed out unseen.
    fn follow(&self, id: u64, packed: u64) -> (Option<Sighting>, u64) {
        let mut all = match packed {
            0 => return (None, 0),
            SEVERAL => self.several[&id].clone(),
            one => vec![Sighting::unpack(one)],
        };
        all.sort_by_key(|sighting| sighting.attempts);
        for pair in all.windows(2) {
            let (before, after) = (pair[0], pair[1]);
            assert_eq!(before.order, after.order, "{id:#x} moved: {all:?}");
            assert!(before.attempts < after.attempts, "{id:#x} came twice without a mark: {all:?}");
            let delivery = self.shape.delivery;
            assert!(before.fate.may_come_again(delivery), "{id:#x} came again: {all:?}");
        }
        let last = all[all.len() - 1];
        (Some(last), last.attempts - all.len() as u64)
    }

    /// Compares all of it: `lost` is what the ring says was lost; a call hands out or takes `batch` messages at most.
    pub(crate) fn compare(&self, lost: u64, batch: u64) -> String {
        let once = self.shape.delivery == Delivery::AtMostOnce;
        // Surely lost; released or lost; sent or not, and seen by nobody; handed out unseen.
        let (mut missing, mut unsure, mut in_doubt, mut unseen) = (0, 0, 0, 0);
        let mut places = Bits::default();
        let mut calls_in_doubt = 0;
        for (&number, sent) in &self.senders {
            let of = self.sightings.get(&number).map_or(&[][..], |of| &of[..]);
            assert!(of.len() as u64 <= sent.offered, "sender {number} never sent {}", of.len() - 1);
            calls_in_doubt += u64::from(sent.offered > sent.accepted);
            let mut gap = false;
            for seq in 0..sent.offered {
                let id = id_of(number, seq);
                let packed = of.get(seq as usize).copied().unwrap_or(0);
                let (last, handed_out) = self.follow(id, packed);
                unseen += handed_out;
                if let Some(last) = last {
                    assert!(places.insert(last.order), "{id:#x} stands where another does");
                }
                match last.map(|last| last.fate) {
                    Some(Fate::Released) => {}
                    Some(Fate::Releasing) => unsure += 1,
                    None if seq >= sent.accepted => in_doubt += 1,
                    fate => {
                        assert!(once, "{id:#x} was lost: {fate:?}, {last:?}");
                        missing += 1;
                    }
                }
                if seq >= sent.accepted {
                    // A batch is sent from its front.
                    assert!(once || !gap || last.is_none(), "{id:#x} was sent, and one before not");
                    gap |= last.is_none();
                }
            }
        }
        for number in self.sightings.keys() {
            assert!(self.senders.contains_key(number), "there is no sender {number}");
        }
        let [senders, receivers] = self.killed;
        assert!(calls_in_doubt <= senders, "{calls_in_doubt} calls, {senders} killed");
        assert!(unsure <= receivers, "{unsure} releases in doubt, {receivers} killed");
        if once {
            let most = missing + unsure + in_doubt;
            assert!((missing..=most).contains(&lost), "{lost} counted lost: {missing} to {most}");
            assert_eq!(unseen, 0, "what a dead receiver had in hand is not delivered again");
        } else {
            assert_eq!(lost, 0);
            assert!(unseen <= batch * receivers, "{unseen} times marked without a reason");
        }
        format!(
            "{} messages accepted, {calls_in_doubt} calls in doubt with {in_doubt} messages that \
             nobody saw, {} messages seen again, {lost} counted lost ({missing} to {})",
            self.accepted(),
            self.several.len(),
            missing + unsure + if once { in_doubt } else { 0 }
        )
    }
}

/// A set of numbers that are not far from 0.
#[derive(Default)]
struct Bits(Vec<u64>);

impl Bits {
    /// `false` when it was there.
    fn insert(&mut self, number: u64) -> bool {
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        new
    }
}
