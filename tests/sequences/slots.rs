//! The model of a ring of slots: positions in order, and of each that is not free again what is in it.
//!
//! Knows what the rustdoc of `quoit::mpmc` promises. Knows nothing of words and laps.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use proptest::prelude::*;
use quoit::mpmc::{self, Message, Receiver, Reservation, Sender};
use quoit::{Delivery, Options};

use crate::{Seen, assert_reads, body, drop_by_a_panic};

/// A ring, and where it is.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    slots: u64,
    max_len: usize,
    /// Positions before the end of all positions at which the ring begins; 0 is the first of all.
    before_the_end: u64,
    named: bool,
    keep_open: bool,
    at_most_once: bool,
}

/// A call. `who` picks one of the handles that there are, `which` one of the messages in hand; lengths go a little beyond what
/// is allowed.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Send { who: usize, len: usize, wait: bool },
    Batch { who: usize, lens: Vec<usize>, wait: bool },
    Reserve { who: usize, len: usize, wait: bool },
    WriteAt { who: usize, at: usize, len: usize },
    Write { who: usize, len: usize },
    Commit { who: usize },
    CommitLen { who: usize, len: usize },
    DropClaim { who: usize },
    ForgetClaim { who: usize },
    Receive { who: usize, wait: bool },
    ReceiveInto { who: usize },
    ReceiveBatch { who: usize, most: usize },
    Release { who: usize, which: usize },
    GiveBack { who: usize, which: usize },
    Panic { who: usize, which: usize },
    Forget { who: usize, which: usize },
    AskSender { who: usize },
    AskReceiver { who: usize },
    AskForTheEnd { who: usize },
    CloneSender { who: usize },
    CloneReceiver { who: usize },
    OpenSender,
    OpenReceiver,
    DropSender { who: usize },
    DropReceiver { who: usize },
}

/// What must have been seen in all sequences together.
pub(crate) const WANTED: &[&str] = &[
    "aside",
    "claim given up",
    "commit of too much",
    "counted lost",
    "disconnected: receiver",
    "disconnected: sender",
    "empty",
    "empty at the end",
    "forgotten claim given up",
    "full",
    "half a batch",
    "opened again",
    "received",
    "sent",
    "told while it holds one",
    "too long",
    "write beyond",
    "wrapped",
];

fn call() -> impl Strategy<Value = Call> {
    let who = || 0..4usize;
    let which = || 0..4usize;
    let len = || 0..210usize;
    prop_oneof![
        8 => (who(), len(), any::<bool>()).prop_map(|(who, len, wait)| Call::Send { who, len, wait }),
        4 => (who(), prop::collection::vec(len(), 0..6), any::<bool>())
            .prop_map(|(who, lens, wait)| Call::Batch { who, lens, wait }),
        5 => (who(), len(), any::<bool>())
            .prop_map(|(who, len, wait)| Call::Reserve { who, len, wait }),
        3 => (who(), 0..40usize, 0..40usize)
            .prop_map(|(who, at, len)| Call::WriteAt { who, at, len }),
        3 => (who(), 0..40usize).prop_map(|(who, len)| Call::Write { who, len }),
        3 => who().prop_map(|who| Call::Commit { who }),
        2 => (who(), len()).prop_map(|(who, len)| Call::CommitLen { who, len }),
        2 => who().prop_map(|who| Call::DropClaim { who }),
        1 => who().prop_map(|who| Call::ForgetClaim { who }),
        9 => (who(), any::<bool>()).prop_map(|(who, wait)| Call::Receive { who, wait }),
        3 => who().prop_map(|who| Call::ReceiveInto { who }),
        3 => (who(), 0..6usize).prop_map(|(who, most)| Call::ReceiveBatch { who, most }),
        7 => (who(), which()).prop_map(|(who, which)| Call::Release { who, which }),
        3 => (who(), which()).prop_map(|(who, which)| Call::GiveBack { who, which }),
        1 => (who(), which()).prop_map(|(who, which)| Call::Panic { who, which }),
        1 => (who(), which()).prop_map(|(who, which)| Call::Forget { who, which }),
        3 => who().prop_map(|who| Call::AskSender { who }),
        3 => who().prop_map(|who| Call::AskReceiver { who }),
        2 => who().prop_map(|who| Call::AskForTheEnd { who }),
        2 => who().prop_map(|who| Call::CloneSender { who }),
        2 => who().prop_map(|who| Call::CloneReceiver { who }),
        2 => Just(Call::OpenSender),
        2 => Just(Call::OpenReceiver),
        1 => who().prop_map(|who| Call::DropSender { who }),
        1 => who().prop_map(|who| Call::DropReceiver { who }),
    ]
}

/// Rings, and what is called there.
pub(crate) fn sequences() -> impl Strategy<Value = (Plan, Vec<Call>)> {
    let plan = (
        prop::sample::select(vec![2, 4, 8]),
        prop::sample::select(vec![0usize, 7, 48, 49, 200]),
        0..24u64,
        any::<bool>(),
        prop::bool::weighted(0.15),
        prop::bool::weighted(0.3),
    )
        .prop_map(|(slots, max_len, before_the_end, named, keep_open, at_most_once)| Plan {
            slots,
            max_len,
            before_the_end,
            named,
            keep_open,
            at_most_once,
        });
    (plan, prop::collection::vec(call(), 1..160))
}

/// What is in a slot that is not free.
#[derive(Clone, Debug)]
enum Slot {
    /// A claim.
    Open,
    Ready(Vec<u8>),
    /// A claim that came to nothing. `perhaps`: somebody may have stepped over it, or not.
    GivenUp {
        perhaps: bool,
    },
    /// In the hands of a seat, for so manieth a time.
    InHand(Vec<u8>, u32, usize),
    Aside(Vec<u8>, u32),
}

/// A process's place at the ring: the clones of one handle.
#[derive(Clone, Debug, Default)]
struct Seat {
    handles: usize,
    forgotten: bool,
    sent: u64,
    received: u64,
    redelivered: u64,
}

struct Tx {
    sender: *mut Sender,
    seat: usize,
    baseline: u64,
    /// An open reservation: where, and what is in it.
    claim: Option<(Reservation<'static>, u64, Vec<u8>, usize)>,
    /// Where a forgotten one is.
    forgotten: Option<u64>,
}

struct Rx {
    receiver: *mut Receiver,
    seat: usize,
    baseline: u64,
    told: Option<u64>,
    /// In hand, and where.
    held: Vec<(Message<'static>, u64)>,
    forgotten: usize,
}

/// What a receiver must be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Next {
    /// One of these, or the one.
    One(Vec<u64>),
    Empty,
    End,
}

struct World<'a> {
    plan: &'a Plan,
    path: &'a str,
    seen: &'a Seen,
    first: u64,
    /// The next position to be claimed, counted from the first, and the next to be taken.
    tail: u64,
    head: u64,
    slots: BTreeMap<u64, Slot>,
    seats: Vec<Seat>,
    txs: Vec<Tx>,
    rxs: Vec<Rx>,
    /// Handles opened so far; clones are none.
    arrivals: [u64; 2],
    /// The seats of each side.
    sides: [Vec<usize>; 2],
    /// Arrivals of senders whose end some receiver was told of.
    ended: u64,
    lost: u64,
    numbers: u64,
}

const SENDERS: usize = 0;
const RECEIVERS: usize = 1;

/// The most handles of a side.
const MOST: usize = 4;

impl World<'_> {
    fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn is_there(&self, side: usize) -> bool {
        self.sides[side].iter().any(|&seat| self.seats[seat].handles > 0)
    }

    fn there(&self, side: usize) -> u32 {
        self.sides[side].iter().filter(|&&seat| self.seats[seat].handles > 0).count() as u32
    }

    fn new_seat(&mut self, side: usize) -> usize {
        self.arrivals[side] += 1;
        self.seats.push(Seat { handles: 1, ..Seat::default() });
        self.sides[side].push(self.seats.len() - 1);
        self.seats.len() - 1
    }

    fn add_sender(&mut self, sender: Sender) {
        // Receivers that are gone already are not this one's.
        let gone = self.arrivals[RECEIVERS];
        let baseline = gone.saturating_sub(u64::from(self.is_there(RECEIVERS)));
        let seat = self.new_seat(SENDERS);
        self.add_tx(sender, seat, baseline);
    }

    fn add_tx(&mut self, sender: Sender, seat: usize, baseline: u64) {
        assert_eq!(sender.capacity() as u64, self.plan.slots);
        assert_eq!(sender.max_len(), self.plan.max_len);
        let sender = Box::into_raw(Box::new(sender));
        self.txs.push(Tx { sender, seat, baseline, claim: None, forgotten: None });
    }

    fn add_receiver(&mut self, receiver: Receiver) {
        let seat = self.new_seat(RECEIVERS);
        let receiver = Box::into_raw(Box::new(receiver));
        let baseline = self.ended;
        self.rxs.push(Rx { receiver, seat, baseline, told: None, held: vec![], forgotten: 0 });
    }

    /// Whether the slot of the next claim is free; `None` when it may be.
    fn has_room(&self) -> Option<bool> {
        let Some(lap_ago) = self.tail.checked_sub(self.plan.slots) else { return Some(true) };
        match self.slots.get(&lap_ago) {
            None => Some(true),
            Some(Slot::GivenUp { perhaps: true }) => None,
            Some(_) => Some(false),
        }
    }

    /// Claims the next position; whatever was there a lap ago is gone.
    fn claim(&mut self, slot: Slot) -> u64 {
        if let Some(lap_ago) = self.tail.checked_sub(self.plan.slots) {
            self.slots.remove(&lap_ago);
        }
        let order = self.tail;
        self.slots.insert(order, slot);
        self.tail += 1;
        order
    }

    /// The first position that nobody has taken.
    fn settle_head(&mut self) {
        let passed =
            |slot: Option<&Slot>| matches!(slot, None | Some(Slot::InHand(..) | Slot::Aside(..)));
        while self.head < self.tail && passed(self.slots.get(&self.head)) {
            self.head += 1;
        }
    }

    fn aside(&self) -> Vec<u64> {
        let is_aside = |slot: &Slot| matches!(slot, Slot::Aside(..));
        self.slots.iter().filter(|(_, slot)| is_aside(slot)).map(|(&order, _)| order).collect()
    }

    /// A receiver looks for the next message; steps over what came to nothing.
    fn look(&mut self) -> Option<Vec<u64>> {
        let aside = self.aside();
        self.settle_head();
        let mut at = self.head;
        if !aside.is_empty() {
            // Whether it looks any further nobody says.
            while let Some(Slot::GivenUp { perhaps }) = self.slots.get_mut(&at) {
                *perhaps = true;
                at += 1;
            }
            return Some(aside);
        }
        while let Some(Slot::GivenUp { .. }) = self.slots.get(&at) {
            self.slots.remove(&at);
            at += 1;
        }
        self.settle_head();
        matches!(self.slots.get(&self.head), Some(Slot::Ready(_))).then(|| vec![self.head])
    }

    /// Whether a receiver finds no sender left, and nothing in hands that it must wait for.
    fn is_over(&self, who: usize) -> bool {
        let rx = &self.rxs[who];
        let arrived = self.arrivals[SENDERS];
        if self.plan.keep_open || arrived <= rx.baseline || self.is_there(SENDERS) {
            return false;
        }
        let held = rx.held.len() + rx.forgotten;
        let others = self.slots.values().any(|slot| !matches!(slot, Slot::GivenUp { .. }));
        rx.told == Some(arrived) || !others || held > 0
    }

    /// What a receiver must be answered.
    fn next(&mut self, who: usize) -> Next {
        match self.look() {
            Some(orders) => Next::One(orders),
            None if self.is_over(who) => {
                if self.rxs[who].held.len() + self.rxs[who].forgotten > 0 {
                    self.seen.note("told while it holds one");
                }
                Next::End
            }
            None => {
                if !self.is_there(SENDERS) {
                    self.seen.note("empty at the end");
                }
                Next::Empty
            }
        }
    }

    /// A receiver was told that it is over.
    fn told(&mut self, who: usize) {
        self.seen.note("disconnected: receiver");
        self.rxs[who].told = Some(self.arrivals[SENDERS]);
        self.ended = self.ended.max(self.arrivals[SENDERS]);
    }

    fn send_fails(&self, who: usize) -> bool {
        let tx = &self.txs[who];
        let arrived = self.arrivals[RECEIVERS];
        !self.plan.keep_open && arrived > tx.baseline && !self.is_there(RECEIVERS)
    }

    /// A forgotten claim is given up by the next call.
    fn give_up_forgotten(&mut self, who: usize) {
        if let Some(order) = self.txs[who].forgotten.take() {
            self.slots.insert(order, Slot::GivenUp { perhaps: false });
            self.seen.note("forgotten claim given up");
        }
    }

    /// What a message that was taken must be.
    fn take(&mut self, who: usize, wanted: &[u64], position: u64, attempts: u32) -> (u64, Vec<u8>) {
        let order = position.wrapping_sub(self.first) & ((self.plan.slots << 48) - 1);
        assert!(wanted.contains(&order), "{order} is none of {wanted:?}");
        let seat = self.rxs[who].seat;
        let (bytes, before) = match self.slots.remove(&order) {
            Some(Slot::Ready(bytes)) => (bytes, 0),
            Some(Slot::Aside(bytes, before)) => {
                self.seen.note("aside");
                (bytes, before)
            }
            slot => panic!("{slot:?} cannot be taken"),
        };
        assert_eq!(attempts, before + 1);
        self.seats[seat].redelivered += u64::from(before > 0);
        self.slots.insert(order, Slot::InHand(bytes.clone(), before + 1, seat));
        self.seen.note("received");
        if position < self.first {
            self.seen.note("wrapped");
        }
        (order, bytes)
    }

    /// Takes a message in hand, which must be as it was sent.
    fn hold(&mut self, who: usize, wanted: &[u64], message: Message<'_>) {
        let (order, bytes) = self.take(who, wanted, message.position(), message.attempts());
        assert_eq!(message.redelivered(), message.attempts() > 1);
        assert_eq!((message.len(), message.is_empty()), (bytes.len(), bytes.is_empty()));
        assert_reads(&bytes, message.to_vec(), |to| message.copy_to(to));
        // SAFETY: the receiver is dropped after what it has handed out.
        let message = unsafe { std::mem::transmute::<Message<'_>, Message<'static>>(message) };
        self.rxs[who].held.push((message, order));
    }

    fn release(&mut self, who: usize, order: u64) {
        self.slots.remove(&order);
        self.seats[self.rxs[who].seat].received += 1;
    }

    fn put_aside(&mut self, order: u64) {
        match self.slots.remove(&order) {
            Some(Slot::InHand(bytes, attempts, _)) => {
                self.slots.insert(order, Slot::Aside(bytes, attempts));
            }
            slot => panic!("{slot:?} was in hand"),
        }
    }

    /// A handle is gone; with the last of a seat, what it forgot.
    fn leave(&mut self, seat: usize) {
        self.seats[seat].handles -= 1;
        if self.seats[seat].handles > 0 || !self.seats[seat].forgotten {
            return;
        }
        let its = |slot: &Slot| matches!(slot, Slot::InHand(_, _, of) if *of == seat);
        let orders: Vec<u64> =
            self.slots.iter().filter(|(_, slot)| its(slot)).map(|(&order, _)| order).collect();
        for order in orders {
            if self.plan.at_most_once {
                self.slots.remove(&order);
                self.lost += 1;
                self.seen.note("counted lost");
            } else {
                self.put_aside(order);
            }
        }
    }

    fn check_sender(&mut self, who: usize) {
        let tx = &self.txs[who];
        // SAFETY: it lives until it is dropped with its entry.
        let sender = unsafe { &*tx.sender };
        let waiting = self
            .slots
            .values()
            .filter(|slot| matches!(slot, Slot::Ready(_) | Slot::Aside(..)))
            .count();
        assert_eq!((sender.len(), sender.is_empty()), (waiting, waiting == 0));
        if let Some(room) = self.has_room() {
            assert_eq!(sender.is_full(), !room);
        }
        let stats = sender.stats();
        assert_eq!(stats.sent, self.seats[tx.seat].sent);
        assert_eq!((stats.peers, stats.unlinked), (self.there(RECEIVERS), false));
    }

    fn check_receiver(&mut self, who: usize) {
        // SAFETY: it lives until it is dropped with its entry.
        let receiver = unsafe { &*self.rxs[who].receiver };
        let waiting = self
            .slots
            .values()
            .filter(|slot| matches!(slot, Slot::Ready(_) | Slot::Aside(..)))
            .count();
        assert_eq!(receiver.len(), waiting);
        assert_eq!(receiver.is_empty(), self.look().is_none());
        let stats = receiver.stats();
        let seat = &self.seats[self.rxs[who].seat];
        assert_eq!((stats.received, stats.redelivered), (seat.received, seat.redelivered));
        assert_eq!((stats.peers, stats.lost), (self.there(SENDERS), 0));
    }

    fn ready(&mut self, order: u64, bytes: Vec<u8>, who: usize) {
        self.slots.insert(order, Slot::Ready(bytes));
        self.seats[self.txs[who].seat].sent += 1;
        self.seen.note("sent");
    }

    /// Makes a call, if there is a handle that can make it.
    fn call(&mut self, call: &Call) {
        match *call {
            Call::Send { who, len, wait } => self.send(who, len, wait),
            Call::Batch { who, ref lens, wait } => self.batch(who, lens, wait),
            Call::Reserve { who, len, wait } => self.reserve(who, len, wait),
            Call::WriteAt { who, at, len } => self.write_at(who, at, len),
            Call::Write { who, len } => self.write(who, len),
            Call::Commit { who } => self.commit(who, None),
            Call::CommitLen { who, len } => self.commit(who, Some(len)),
            Call::DropClaim { who } => {
                if let Some((claim, order, ..)) =
                    self.claimant(who).and_then(|who| self.txs[who].claim.take())
                {
                    drop(claim);
                    self.slots.insert(order, Slot::GivenUp { perhaps: false });
                    self.seen.note("claim given up");
                }
            }
            Call::ForgetClaim { who } => {
                if let Some(who) = self.claimant(who) {
                    let (claim, order, ..) = self.txs[who].claim.take().unwrap();
                    std::mem::forget(claim);
                    self.txs[who].forgotten = Some(order);
                }
            }
            Call::Receive { who, wait } => self.receive(who, wait),
            Call::ReceiveInto { who } => self.receive_into(who),
            Call::ReceiveBatch { who, most } => self.receive_batch(who, most),
            Call::Release { who, which } => {
                if let Some((who, message, order)) = self.held(who, which) {
                    drop(message);
                    self.release(who, order);
                }
            }
            Call::GiveBack { who, which } => {
                if let Some((_, message, order)) = self.held(who, which) {
                    message.give_back();
                    self.put_aside(order);
                }
            }
            Call::Panic { who, which } => {
                if let Some((_, message, order)) = self.held(who, which) {
                    drop_by_a_panic(message);
                    self.put_aside(order);
                }
            }
            Call::Forget { who, which } => {
                if let Some((who, message, _)) = self.held(who, which) {
                    std::mem::forget(message);
                    self.rxs[who].forgotten += 1;
                }
            }
            Call::AskSender { who } => {
                // While one of them writes in place, the others may be asked.
                if let Some(who) = self.sender(who) {
                    self.check_sender(who);
                }
            }
            Call::AskReceiver { who } => {
                if let Some(who) = pick(self.rxs.len(), who) {
                    self.check_receiver(who);
                }
            }
            Call::AskForTheEnd { who } => {
                if let Some(who) = self.sender(who) {
                    // SAFETY: it lives until it is dropped with its entry.
                    let sender = unsafe { &*self.txs[who].sender };
                    assert_eq!(sender.is_disconnected(), self.send_fails(who));
                    assert_eq!(sender.recover().unwrap(), quoit::Recovered::default());
                }
                if let Some(who) = pick(self.rxs.len(), who) {
                    // SAFETY: as above.
                    let receiver = unsafe { &*self.rxs[who].receiver };
                    let over = self.is_over(who);
                    assert_eq!(receiver.is_disconnected(), over && self.look().is_none());
                }
            }
            Call::CloneSender { who } => {
                if let Some(who) = self.sender(who).filter(|_| self.txs.len() < MOST) {
                    // SAFETY: it lives until it is dropped with its entry.
                    let clone = unsafe { &*self.txs[who].sender }.clone();
                    let (seat, baseline) = (self.txs[who].seat, self.txs[who].baseline);
                    self.seats[seat].handles += 1;
                    self.add_tx(clone, seat, baseline);
                }
            }
            Call::CloneReceiver { who } => {
                if let Some(who) = pick(self.rxs.len(), who).filter(|_| self.rxs.len() < MOST) {
                    // SAFETY: it lives until it is dropped with its entry.
                    let clone = unsafe { &*self.rxs[who].receiver }.clone();
                    let Rx { seat, baseline, told, .. } = self.rxs[who];
                    self.seats[seat].handles += 1;
                    let receiver = Box::into_raw(Box::new(clone));
                    self.rxs.push(Rx {
                        receiver,
                        seat,
                        baseline,
                        told,
                        held: vec![],
                        forgotten: 0,
                    });
                }
            }
            Call::OpenSender => {
                if self.plan.named && self.txs.len() < MOST {
                    if !self.is_there(SENDERS) {
                        self.seen.note("opened again");
                    }
                    self.add_sender(Sender::open(self.path).unwrap());
                }
            }
            Call::OpenReceiver => {
                if self.plan.named && self.rxs.len() < MOST {
                    self.add_receiver(Receiver::open(self.path).unwrap());
                }
            }
            Call::DropSender { who } => {
                if let Some(who) = self.sender(who) {
                    self.drop_sender(who);
                }
            }
            Call::DropReceiver { who } => {
                if let Some(who) = pick(self.rxs.len(), who) {
                    self.drop_receiver(who);
                }
            }
        }
    }

    fn drop_sender(&mut self, who: usize) {
        self.give_up_forgotten(who);
        let tx = self.txs.remove(who);
        if let Some((claim, order, ..)) = tx.claim {
            drop(claim);
            self.slots.insert(order, Slot::GivenUp { perhaps: false });
        }
        // SAFETY: it came from a box, and nothing borrows it any more.
        drop(unsafe { Box::from_raw(tx.sender) });
        self.leave(tx.seat);
    }

    fn drop_receiver(&mut self, who: usize) {
        while let Some((message, order)) = self.rxs[who].held.pop() {
            drop(message);
            self.release(who, order);
        }
        let rx = self.rxs.remove(who);
        self.seats[rx.seat].forgotten |= rx.forgotten > 0;
        // SAFETY: it came from a box, and nothing borrows it any more.
        drop(unsafe { Box::from_raw(rx.receiver) });
        self.leave(rx.seat);
    }

    /// A sender that nothing borrows.
    fn sender(&self, who: usize) -> Option<usize> {
        pick(self.txs.len(), who).filter(|&who| self.txs[who].claim.is_none())
    }

    /// A sender with an open reservation.
    fn claimant(&self, who: usize) -> Option<usize> {
        let all: Vec<usize> =
            (0..self.txs.len()).filter(|&who| self.txs[who].claim.is_some()).collect();
        pick(all.len(), who).map(|index| all[index])
    }

    /// A message in hand.
    fn held(&mut self, who: usize, which: usize) -> Option<(usize, Message<'static>, u64)> {
        let all: Vec<usize> =
            (0..self.rxs.len()).filter(|&who| !self.rxs[who].held.is_empty()).collect();
        let who = pick(all.len(), who).map(|index| all[index])?;
        let which = pick(self.rxs[who].held.len(), which)?;
        let (message, order) = self.rxs[who].held.remove(which);
        Some((who, message, order))
    }

    fn send(&mut self, who: usize, len: usize, wait: bool) {
        let Some(who) = self.sender(who) else { return };
        let len = len % (self.plan.max_len + 3);
        let bytes = body(self.next_number(), len);
        // SAFETY: it lives until it is dropped with its entry, and nothing else borrows it.
        let sender = unsafe { &*self.txs[who].sender };
        let (sent, full) = if wait {
            let sent = sender.send_timeout(&bytes, Duration::ZERO).map_err(|error| {
                (error.is_disconnected(), error.is_too_long(), error.is_timeout())
            });
            (sent, "timeout")
        } else {
            let sent = sender
                .try_send(&bytes)
                .map_err(|error| (error.is_disconnected(), error.is_too_long(), error.is_full()));
            (sent, "full")
        };
        let (wanted, room) = self.judge_send(who, len > self.plan.max_len);
        match (wanted, room) {
            (Some(refusal), _) => assert_eq!(sent, Err(refusal)),
            (None, Some(true)) => assert_eq!(sent, Ok(()), "there is room"),
            (None, Some(false)) => assert_eq!(sent, Err((false, false, true)), "{full}"),
            (None, None) => assert!(matches!(sent, Ok(()) | Err((false, false, true)))),
        }
        if sent.is_ok() {
            let order = self.claim(Slot::Open);
            self.ready(order, bytes, who);
        } else if wanted.is_none() {
            self.seen.note("full");
        }
    }

    /// Why a call that sends is refused, whatever the room; and whether there is room.
    fn judge_send(
        &mut self,
        who: usize,
        too_long: bool,
    ) -> (Option<(bool, bool, bool)>, Option<bool>) {
        if self.send_fails(who) {
            self.seen.note("disconnected: sender");
            return (Some((true, false, false)), None);
        }
        self.give_up_forgotten(who);
        if too_long {
            self.seen.note("too long");
            return (Some((false, true, false)), None);
        }
        (None, self.has_room())
    }

    fn batch(&mut self, who: usize, lens: &[usize], wait: bool) {
        let Some(who) = self.sender(who) else { return };
        // Seldom longer than allowed: that refuses the whole call.
        let lens: Vec<usize> = lens.iter().map(|len| len % (self.plan.max_len + 2)).collect();
        let batch: Vec<Vec<u8>> = lens.iter().map(|&len| body(self.next_number(), len)).collect();
        // SAFETY: it lives until it is dropped with its entry, and nothing else borrows it.
        let sender = unsafe { &*self.txs[who].sender };
        let too_long = lens.iter().any(|&len| len > self.plan.max_len);
        let sent = if wait {
            sender
                .send_batch_timeout(&batch, Duration::ZERO)
                .map_err(|error| (error.is_disconnected(), error.is_too_long(), error.is_timeout()))
        } else {
            sender
                .try_send_batch(&batch)
                .map_err(|error| (error.is_disconnected(), error.is_too_long(), error.is_full()))
        };
        if wait && (batch.is_empty() || too_long) {
            // Lengths first; and nothing to send is nothing to be refused.
            let wanted = if too_long { Err((false, true, false)) } else { Ok(0) };
            assert_eq!(sent, wanted);
            return;
        }
        let (wanted, _) = self.judge_send(who, too_long);
        if let Some(refusal) = wanted {
            assert_eq!(sent, Err(refusal));
            return;
        }
        let count = match sent {
            Ok(count) => count,
            Err(refusal) => {
                assert_eq!(refusal, (false, false, true));
                assert_ne!((self.has_room(), batch.is_empty()), (Some(true), false));
                assert!(!batch.is_empty(), "nothing is never refused");
                self.seen.note("full");
                return;
            }
        };
        assert!(count > 0 || batch.is_empty());
        for bytes in &batch[..count] {
            assert_ne!(self.has_room(), Some(false), "{count} sent");
            let order = self.claim(Slot::Open);
            self.ready(order, bytes.clone(), who);
        }
        if count < batch.len() {
            assert_ne!(self.has_room(), Some(true), "only {count} sent");
            self.seen.note("half a batch");
        }
    }

    fn reserve(&mut self, who: usize, len: usize, wait: bool) {
        let Some(who) = self.sender(who) else { return };
        let len = len % (self.plan.max_len + 3);
        // SAFETY: it lives until it is dropped with its entry, and nothing else borrows it.
        let sender = unsafe { &mut *self.txs[who].sender };
        let claim = if wait {
            sender
                .reserve_timeout(len, Duration::ZERO)
                .map_err(|error| (error.is_disconnected(), error.is_too_long(), error.is_timeout()))
        } else {
            sender
                .try_reserve(len)
                .map_err(|error| (error.is_disconnected(), error.is_too_long(), error.is_full()))
        };
        let refused = claim.as_ref().err().copied();
        let (wanted, room) = self.judge_send(who, len > self.plan.max_len);
        match (wanted, room) {
            (Some(refusal), _) => assert_eq!(refused, Some(refusal)),
            (None, Some(true)) => assert_eq!(refused, None, "there is room"),
            (None, Some(false)) => assert_eq!(refused, Some((false, false, true))),
            (None, None) => assert!(matches!(refused, None | Some((false, false, true)))),
        }
        if let Ok(claim) = claim {
            assert_eq!((claim.len(), claim.is_empty()), (len, len == 0));
            let order = self.claim(Slot::Open);
            self.txs[who].claim = Some((claim, order, vec![0; len], 0));
        }
    }

    fn write_at(&mut self, who: usize, at: usize, len: usize) {
        let number = self.next_number();
        let Some(who) = self.claimant(who) else { return };
        let (claim, _, bytes, _) = self.txs[who].claim.as_mut().unwrap();
        let what = body(number, len);
        match claim.write_at(at, &what) {
            Ok(()) => bytes[at..at + len].copy_from_slice(&what),
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::WriteZero);
                assert!(at + len > bytes.len());
                self.seen.note("write beyond");
            }
        }
    }

    fn write(&mut self, who: usize, len: usize) {
        let number = self.next_number();
        let Some(who) = self.claimant(who) else { return };
        let (claim, _, bytes, cursor) = self.txs[who].claim.as_mut().unwrap();
        let what = body(number, len);
        let written = claim.write(&what).unwrap();
        assert_eq!(written, len.min(bytes.len() - *cursor));
        bytes[*cursor..*cursor + written].copy_from_slice(&what[..written]);
        *cursor += written;
    }

    fn commit(&mut self, who: usize, len: Option<usize>) {
        let Some(who) = self.claimant(who) else { return };
        let (claim, order, mut bytes, _) = self.txs[who].claim.take().unwrap();
        let Some(len) = len.map(|len| len % (bytes.len() + 2)) else {
            claim.commit().unwrap();
            return self.ready(order, bytes, who);
        };
        let committed = claim.commit_len(len);
        if len > bytes.len() {
            assert!(committed.unwrap_err().is_too_long());
            self.slots.insert(order, Slot::GivenUp { perhaps: false });
            self.seen.note("commit of too much");
        } else {
            committed.unwrap();
            bytes.truncate(len);
            self.ready(order, bytes, who);
        }
    }

    /// Compares an answer that is no message with what it must be.
    fn refused(&mut self, who: usize, next: &Next, empty: bool, end: bool) {
        match next {
            Next::Empty => assert!(empty, "it is not over"),
            Next::End => {
                assert!(end, "it is over");
                self.told(who);
            }
            Next::One(orders) => panic!("{orders:?} can be taken: empty {empty}, end {end}"),
        }
        if empty {
            self.seen.note("empty");
        }
    }

    fn receive(&mut self, who: usize, wait: bool) {
        let Some(who) = pick(self.rxs.len(), who) else { return };
        let next = self.next(who);
        // SAFETY: it lives until it is dropped with its entry.
        let receiver = unsafe { &*self.rxs[who].receiver };
        let got = if wait {
            receiver
                .recv_timeout(Duration::ZERO)
                .map_err(|error| (error.is_timeout(), error.is_disconnected()))
        } else {
            receiver.try_recv().map_err(|error| (error.is_empty(), error.is_disconnected()))
        };
        match (got, &next) {
            (Ok(message), Next::One(orders)) => self.hold(who, orders, message),
            (Ok(message), _) => panic!("{message:?}, where there is {next:?}"),
            (Err((empty, end)), _) => self.refused(who, &next, empty, end),
        }
    }

    fn receive_into(&mut self, who: usize) {
        let Some(who) = pick(self.rxs.len(), who) else { return };
        let aside = self.aside();
        if aside.len() > 1 {
            // Which of them it was nobody would say.
            return;
        }
        let next = self.next(who);
        // SAFETY: it lives until it is dropped with its entry.
        let receiver = unsafe { &*self.rxs[who].receiver };
        let mut to = vec![7; 3];
        match (receiver.try_recv_into(&mut to), &next) {
            (Ok(len), Next::One(orders)) => {
                assert_eq!(len, to.len());
                let [order] = orders[..] else { unreachable!("looked at above") };
                match &self.slots[&order] {
                    Slot::Ready(bytes) | Slot::Aside(bytes, _) => assert_eq!(to, *bytes),
                    slot => panic!("{slot:?} cannot be taken"),
                }
                let again = aside.contains(&order);
                let seat = self.rxs[who].seat;
                self.seats[seat].redelivered += u64::from(again);
                self.release(who, order);
                self.seen.note("received");
            }
            (Ok(len), _) => panic!("{len} bytes, where there is {next:?}"),
            (Err(error), _) => {
                assert_eq!(to, [7; 3], "as it was");
                self.refused(who, &next, error.is_empty(), error.is_disconnected());
            }
        }
    }

    fn receive_batch(&mut self, who: usize, most: usize) {
        let Some(who) = pick(self.rxs.len(), who) else { return };
        let mut held = Vec::new();
        // SAFETY: it lives until it is dropped with its entry.
        let receiver = unsafe { &*self.rxs[who].receiver };
        let got = receiver.try_recv_batch(&mut held, most);
        if most == 0 {
            assert_eq!((got.unwrap(), held.len()), (0, 0));
            return;
        }
        let first = self.next(who);
        if let Err(error) = got {
            return self.refused(who, &first, error.is_empty(), error.is_disconnected());
        }
        let count = held.len();
        assert_eq!(got.unwrap(), count);
        assert!((1..=most).contains(&count));
        let Next::One(orders) = first else { panic!("{held:?}, where there is {first:?}") };
        let mut orders = Some(orders);
        for message in held {
            let orders = orders.take().or_else(|| self.look());
            self.hold(who, &orders.expect("there is one more"), message);
        }
        if count < most {
            assert_eq!(self.look(), None, "only {count} of {most}");
        }
    }
}

fn pick(count: usize, which: usize) -> Option<usize> {
    (count > 0).then(|| which % count)
}

/// Makes the calls, and then drains the ring.
pub(crate) fn run(plan: &Plan, calls: &[Call], path: &str, seen: &Seen) {
    let positions = plan.slots << 48;
    let first = if plan.before_the_end == 0 { 0 } else { positions - plan.before_the_end };
    let delivery = if plan.at_most_once { Delivery::AtMostOnce } else { Delivery::AtLeastOnce };
    let options = Options::new()
        .capacity(plan.slots as usize)
        .max_len(plan.max_len)
        .start_position(first)
        .keep_open(plan.keep_open)
        .delivery(delivery);
    let mut world = World {
        plan,
        path,
        seen,
        first,
        tail: 0,
        head: 0,
        slots: BTreeMap::new(),
        seats: Vec::new(),
        txs: Vec::new(),
        rxs: Vec::new(),
        arrivals: [0; 2],
        sides: [Vec::new(), Vec::new()],
        ended: 0,
        lost: 0,
        numbers: 0,
    };
    if plan.named {
        mpmc::create(path, &options).unwrap();
        world.add_sender(Sender::open(path).unwrap());
        world.add_receiver(Receiver::open(path).unwrap());
    } else {
        let (tx, rx) = mpmc::channel(&options).unwrap();
        world.add_sender(tx);
        world.add_receiver(rx);
    }
    calls.iter().for_each(|call| world.call(call));
    // Whoever is left lets go; in a file the rest is there.
    while !world.txs.is_empty() {
        world.drop_sender(0);
    }
    while !world.rxs.is_empty() {
        world.drop_receiver(0);
    }
    if plan.named {
        world.add_sender(Sender::open(path).unwrap());
        world.add_receiver(Receiver::open(path).unwrap());
        while world.look().is_some() {
            world.receive(0, false);
        }
        world.receive(0, false);
        let info = quoit::inspect(path).unwrap();
        assert_eq!(info.lost, world.lost);
        world.drop_sender(0);
        world.drop_receiver(0);
        quoit::unlink(path).unwrap();
    }
}
