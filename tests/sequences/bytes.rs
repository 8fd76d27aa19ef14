//! The model of a ring of bytes: where each record stands, and how far the receiver has come.
//!
//! Knows what the rustdoc of `quoit::spsc` promises, and of docs/memory-layout.md how many lines a record takes, where its
//! payload begins, and when a pad comes first: so it knows exactly for what there is room.

use std::collections::VecDeque;
use std::io::Write;
use std::time::Duration;

use proptest::prelude::*;
use quoit::spsc::{self, Message, Receiver, Reservation, Sender};
use quoit::{Delivery, OpenError, Options};

use crate::{Seen, assert_reads, body, drop_by_a_panic};

/// Bytes of a line.
const LINE: u64 = 64;

/// A ring, and where it is.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    capacity: u64,
    /// Lines before the end of all positions at which the ring begins; 0 is the first of all.
    before_the_end: u64,
    named: bool,
    keep_open: bool,
    at_most_once: bool,
}

/// A call. Lengths go a little beyond what is allowed.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Send { len: usize, wait: bool },
    Batch { lens: Vec<usize>, wait: bool },
    Reserve { len: usize, wait: bool },
    WriteAt { at: usize, len: usize },
    Write { len: usize },
    Commit,
    CommitLen { cut: usize },
    DropClaim,
    ForgetClaim,
    Receive { wait: bool },
    ReceiveInto,
    Release,
    GiveBack,
    Panic,
    Forget,
    Ask,
    AskForTheEnd,
    OpenSender,
    OpenReceiver,
    DropSender,
    DropReceiver,
}

/// What must have been seen in all sequences together.
pub(crate) const WANTED: &[&str] = &[
    "again",
    "commit of too much",
    "counted lost",
    "disconnected: receiver",
    "disconnected: sender",
    "empty",
    "full",
    "half a batch",
    "opened again",
    "pad",
    "received",
    "seat taken",
    "sent",
    "too long",
    "whole lap",
    "wrapped",
    "write beyond",
];

/// Short ones, whole ones, and around each length at which something changes.
fn len() -> impl Strategy<Value = usize> {
    prop_oneof![
        6 => 0..100usize,
        3 => 180..210usize,
        3 => 0..1990usize,
        2 => 1975..1990usize,
        1 => 3900..4050usize,
    ]
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        9 => (len(), any::<bool>()).prop_map(|(len, wait)| Call::Send { len, wait }),
        4 => (prop::collection::vec(len(), 0..7), any::<bool>())
            .prop_map(|(lens, wait)| Call::Batch { lens, wait }),
        5 => (len(), any::<bool>()).prop_map(|(len, wait)| Call::Reserve { len, wait }),
        3 => (0..2000usize, 0..300usize).prop_map(|(at, len)| Call::WriteAt { at, len }),
        3 => (0..300usize).prop_map(|len| Call::Write { len }),
        3 => Just(Call::Commit),
        3 => (0..2000usize).prop_map(|cut| Call::CommitLen { cut }),
        1 => Just(Call::DropClaim),
        1 => Just(Call::ForgetClaim),
        10 => any::<bool>().prop_map(|wait| Call::Receive { wait }),
        4 => Just(Call::ReceiveInto),
        9 => Just(Call::Release),
        2 => Just(Call::GiveBack),
        1 => Just(Call::Panic),
        1 => Just(Call::Forget),
        4 => Just(Call::Ask),
        1 => Just(Call::AskForTheEnd),
        2 => Just(Call::OpenSender),
        2 => Just(Call::OpenReceiver),
        1 => Just(Call::DropSender),
        1 => Just(Call::DropReceiver),
    ]
}

/// Rings, and what is called there.
pub(crate) fn sequences() -> impl Strategy<Value = (Plan, Vec<Call>)> {
    let plan = (
        prop::sample::select(vec![4096, 8192]),
        0..100u64,
        any::<bool>(),
        prop::bool::weighted(0.15),
        prop::bool::weighted(0.4),
    )
        .prop_map(|(capacity, before_the_end, named, keep_open, at_most_once)| Plan {
            capacity,
            before_the_end,
            named,
            keep_open,
            at_most_once,
        });
    (plan, prop::collection::vec(call(), 1..160))
}

/// A message that was committed and is not released.
#[derive(Clone, Debug)]
struct Record {
    /// Where its pad begins, or it itself; where it begins; the first line behind it.
    pad: u64,
    start: u64,
    end: u64,
    bytes: Vec<u8>,
    /// How often it was handed out.
    attempts: u32,
    /// Whether whoever had it last said that it is to come again.
    given_back: bool,
}

/// An open reservation.
struct Claim {
    claim: Reservation<'static>,
    pad: u64,
    start: u64,
    /// From the start to the payload: settled by the length that was claimed.
    payload: u64,
    bytes: Vec<u8>,
    cursor: usize,
}

struct Tx {
    sender: *mut Sender,
    baseline: u64,
    claim: Option<Claim>,
}

struct Rx {
    receiver: *mut Receiver,
    baseline: u64,
    held: Option<Message<'static>>,
}

#[derive(Default)]
struct Counted {
    messages: u64,
    bytes: u64,
    redelivered: u64,
    lost: u64,
}

struct World<'a> {
    plan: &'a Plan,
    path: &'a str,
    seen: &'a Seen,
    first: u64,
    /// The end of the stream, and the first byte that is not free.
    tail: u64,
    head: u64,
    records: VecDeque<Record>,
    tx: Option<Tx>,
    rx: Option<Rx>,
    /// Handles opened so far: senders, receivers.
    arrivals: [u64; 2],
    /// Arrivals of senders whose end a receiver was told of last.
    ended: u64,
    sent: Counted,
    received: Counted,
    numbers: u64,
}

impl World<'_> {
    fn max_len(&self) -> usize {
        // A little less than half: behind a header in a line of its own.
        (self.plan.capacity / 2 - LINE) as usize
    }

    fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Where a record of so many bytes would go: its pad, itself, the line behind it, and from there to the payload.
    fn place(&self, tail: u64, len: usize) -> (u64, u64, u64, u64) {
        // From 192 bytes up a payload has lines of its own.
        let payload = if len >= 192 { LINE } else { 16 };
        let span = (payload + len as u64).next_multiple_of(LINE);
        let room = self.plan.capacity - tail % self.plan.capacity;
        let start = if span > room { tail.wrapping_add(room) } else { tail };
        (tail, start, start.wrapping_add(span), payload)
    }

    fn fits(&self, end: u64) -> bool {
        end.wrapping_sub(self.head) <= self.plan.capacity
    }

    fn has_room(&self, len: usize) -> bool {
        self.fits(self.place(self.tail, len).2)
    }

    fn add_sender(&mut self, mut sender: Sender) {
        assert_eq!(
            (sender.capacity() as u64, sender.max_len()),
            (self.plan.capacity, self.max_len())
        );
        // A receiver that is gone already is not this one's.
        let here = u64::from(self.rx.is_some());
        let baseline = self.arrivals[1].saturating_sub(here);
        self.arrivals[0] += 1;
        assert_eq!(sender.stats().messages, self.sent.messages);
        assert_eq!(sender.len() as u64, self.tail.wrapping_sub(self.head));
        self.tx = Some(Tx { sender: Box::into_raw(Box::new(sender)), baseline, claim: None });
    }

    fn add_receiver(&mut self, receiver: Receiver) {
        self.arrivals[1] += 1;
        assert_eq!(receiver.stats().messages, self.received.messages);
        let receiver = Box::into_raw(Box::new(receiver));
        self.rx = Some(Rx { receiver, baseline: self.ended, held: None });
    }

    /// The sender, when nothing borrows it.
    fn sender(&self) -> Option<&'static mut Sender> {
        let tx = self.tx.as_ref().filter(|tx| tx.claim.is_none())?;
        // SAFETY: it lives until its entry goes, and nothing else borrows it.
        Some(unsafe { &mut *tx.sender })
    }

    /// The receiver, when nothing borrows it.
    fn receiver(&self) -> Option<&'static mut Receiver> {
        let rx = self.rx.as_ref().filter(|rx| rx.held.is_none())?;
        // SAFETY: it lives until its entry goes, and nothing else borrows it.
        Some(unsafe { &mut *rx.receiver })
    }

    fn send_fails(&self) -> bool {
        let baseline = self.tx.as_ref().map_or(0, |tx| tx.baseline);
        !self.plan.keep_open && self.rx.is_none() && self.arrivals[1] > baseline
    }

    fn is_over(&self) -> bool {
        let baseline = self.rx.as_ref().map_or(0, |rx| rx.baseline);
        !self.plan.keep_open && self.tx.is_none() && self.arrivals[0] > baseline
    }

    /// Why a call that sends is refused, whatever the room: disconnected, too long.
    fn refuses(&self, too_long: bool) -> Option<(bool, bool, bool)> {
        if self.send_fails() {
            self.seen.note("disconnected: sender");
            return Some((true, false, false));
        }
        if too_long {
            self.seen.note("too long");
            return Some((false, true, false));
        }
        None
    }

    fn commit_record(&mut self, pad: u64, start: u64, end: u64, bytes: Vec<u8>) {
        if pad != start {
            self.seen.note("pad");
        }
        if self.first.wrapping_add(self.plan.capacity) == end {
            self.seen.note("whole lap");
        }
        self.tail = end;
        self.sent.messages += 1;
        self.sent.bytes += bytes.len() as u64;
        let record = Record { pad, start, end, bytes, attempts: 0, given_back: false };
        self.records.push_back(record);
        self.seen.note("sent");
    }

    /// At most once, what was handed out and not given back is lost as soon as a receiver looks.
    fn lose(&mut self) {
        let is_lost = |record: &Record| record.attempts > 0 && !record.given_back;
        while self.plan.at_most_once && self.records.front().is_some_and(is_lost) {
            self.release_front();
            self.received.lost += 1;
            self.seen.note("counted lost");
        }
    }

    fn release_front(&mut self) {
        self.head = self.records.pop_front().unwrap().end;
    }

    /// A receiver takes the next message; what is before it is free.
    fn next(&mut self) -> Option<Record> {
        self.lose();
        let record = self.records.front_mut()?;
        self.head = record.start;
        record.pad = record.start;
        record.attempts += 1;
        record.given_back = false;
        self.received.redelivered += u64::from(record.attempts > 1);
        if record.attempts > 1 {
            self.seen.note("again");
        }
        if record.start < self.first {
            self.seen.note("wrapped");
        }
        self.seen.note("received");
        Some(record.clone())
    }

    fn release(&mut self) {
        self.received.messages += 1;
        self.received.bytes += self.records[0].bytes.len() as u64;
        self.release_front();
    }

    fn told(&mut self) {
        self.seen.note("disconnected: receiver");
        self.ended = self.arrivals[0];
    }

    /// Makes a call, if there is a handle that can make it.
    fn call(&mut self, call: &Call) {
        match *call {
            Call::Send { len, wait } => self.send(len, wait),
            Call::Batch { ref lens, wait } => self.batch(lens, wait),
            Call::Reserve { len, wait } => self.reserve(len, wait),
            Call::WriteAt { at, len } => self.write_at(at, len),
            Call::Write { len } => self.write(len),
            Call::Commit => self.commit(None),
            Call::CommitLen { cut } => self.commit(Some(cut)),
            // It has no destructor today; a user cannot know.
            #[allow(clippy::drop_non_drop)]
            Call::DropClaim => drop(self.tx.as_mut().and_then(|tx| tx.claim.take())),
            #[allow(clippy::forget_non_drop)]
            Call::ForgetClaim => {
                if let Some(claim) = self.tx.as_mut().and_then(|tx| tx.claim.take()) {
                    std::mem::forget(claim.claim);
                }
            }
            Call::Receive { wait } => self.receive(wait),
            Call::ReceiveInto => self.receive_into(),
            Call::Release => {
                if let Some(message) = self.held() {
                    drop(message);
                    self.release();
                }
            }
            Call::GiveBack => {
                if let Some(message) = self.held() {
                    message.give_back();
                    self.records[0].given_back = true;
                }
            }
            Call::Panic => {
                if let Some(message) = self.held() {
                    drop_by_a_panic(message);
                    self.records[0].given_back = true;
                }
            }
            Call::Forget => {
                if let Some(message) = self.held() {
                    std::mem::forget(message);
                }
            }
            Call::Ask => self.ask(),
            Call::AskForTheEnd => {
                if let Some(sender) = self.sender() {
                    assert_eq!(sender.is_disconnected(), self.send_fails());
                }
                if let Some(receiver) = self.receiver() {
                    let over = self.is_over();
                    assert_eq!(receiver.is_disconnected(), over && self.is_empty());
                }
            }
            Call::OpenSender => self.open_sender(),
            Call::OpenReceiver => self.open_receiver(),
            Call::DropSender => self.drop_sender(),
            Call::DropReceiver => self.drop_receiver(),
        }
    }

    fn held(&mut self) -> Option<Message<'static>> {
        self.rx.as_mut().and_then(|rx| rx.held.take())
    }

    /// What a receiver that asks sees: whether anything is committed.
    fn is_empty(&mut self) -> bool {
        self.lose();
        self.records.is_empty()
    }

    fn ask(&mut self) {
        if let Some(sender) = self.sender() {
            assert_eq!(sender.len() as u64, self.tail.wrapping_sub(self.head));
            assert_eq!(sender.is_empty(), self.tail == self.head);
            assert_eq!(sender.is_full(), !self.has_room(0));
            let stats = sender.stats();
            assert_eq!((stats.messages, stats.bytes), (self.sent.messages, self.sent.bytes));
        }
        if let Some(receiver) = self.receiver() {
            assert_eq!(receiver.len() as u64, self.tail.wrapping_sub(self.head));
            assert_eq!(receiver.is_empty(), self.is_empty());
            let (stats, wanted) = (receiver.stats(), &self.received);
            assert_eq!((stats.messages, stats.bytes), (wanted.messages, wanted.bytes));
            assert_eq!((stats.redelivered, stats.lost), (wanted.redelivered, wanted.lost));
        }
    }

    fn open_sender(&mut self) {
        if !self.plan.named {
            return;
        }
        match (Sender::open(self.path), self.tx.is_some()) {
            (Ok(sender), false) => {
                self.seen.note("opened again");
                self.add_sender(sender);
            }
            (Err(OpenError::SeatTaken { .. }), true) => self.seen.note("seat taken"),
            (opened, there) => panic!("{opened:?}, where there is one: {there}"),
        }
    }

    fn open_receiver(&mut self) {
        if !self.plan.named {
            return;
        }
        match (Receiver::open(self.path), self.rx.is_some()) {
            (Ok(receiver), false) => self.add_receiver(receiver),
            (Err(OpenError::SeatTaken { .. }), true) => self.seen.note("seat taken"),
            (opened, there) => panic!("{opened:?}, where there is one: {there}"),
        }
    }

    fn drop_sender(&mut self) {
        if let Some(Tx { sender, claim, .. }) = self.tx.take() {
            drop(claim);
            // SAFETY: it came from a box, and nothing borrows it any more.
            drop(unsafe { Box::from_raw(sender) });
        }
    }

    fn drop_receiver(&mut self) {
        if let Some(message) = self.held() {
            drop(message);
            self.release();
        }
        if let Some(Rx { receiver, .. }) = self.rx.take() {
            // SAFETY: it came from a box, and nothing borrows it any more.
            drop(unsafe { Box::from_raw(receiver) });
        }
    }

    fn send(&mut self, len: usize, wait: bool) {
        let Some(sender) = self.sender() else { return };
        let bytes = body(self.next_number(), len);
        let sent = if wait {
            sender
                .send_timeout(&bytes, Duration::ZERO)
                .map_err(|error| (error.is_disconnected(), error.is_too_long(), error.is_timeout()))
        } else {
            sender
                .try_send(&bytes)
                .map_err(|error| (error.is_disconnected(), error.is_too_long(), error.is_full()))
        };
        if let Some(refusal) = self.refuses(len > self.max_len()) {
            assert_eq!(sent, Err(refusal));
        } else if self.has_room(len) {
            assert_eq!(sent, Ok(()), "{len} bytes, and there is room");
            let (pad, start, end, _) = self.place(self.tail, len);
            self.commit_record(pad, start, end, bytes);
        } else {
            assert_eq!(sent, Err((false, false, true)), "{len} bytes, and there is no room");
            self.seen.note("full");
        }
    }

    fn batch(&mut self, lens: &[usize], wait: bool) {
        let Some(sender) = self.sender() else { return };
        let batch: Vec<Vec<u8>> = lens.iter().map(|&len| body(self.next_number(), len)).collect();
        let too_long = lens.iter().any(|&len| len > self.max_len());
        let sent = if wait {
            sender
                .send_batch_timeout(&batch, Duration::ZERO)
                .map_err(|error| (error.is_disconnected(), error.is_too_long(), error.is_timeout()))
        } else {
            sender
                .try_send_batch(&batch)
                .map_err(|error| (error.is_disconnected(), error.is_too_long(), error.is_full()))
        };
        if wait && batch.is_empty() {
            assert_eq!(sent, Ok(0), "nothing to send is nothing to be refused");
            return;
        }
        if let Some(refusal) = self.refuses(too_long) {
            assert_eq!(sent, Err(refusal));
            return;
        }
        let mut count = 0;
        for bytes in batch {
            let (pad, start, end, _) = self.place(self.tail, bytes.len());
            if !self.fits(end) {
                break;
            }
            self.commit_record(pad, start, end, bytes);
            count += 1;
        }
        if count == 0 && !lens.is_empty() {
            assert_eq!(sent, Err((false, false, true)));
            self.seen.note("full");
        } else {
            assert_eq!(sent, Ok(count), "of {lens:?}");
        }
        if count > 0 && count < lens.len() {
            self.seen.note("half a batch");
        }
    }

    fn reserve(&mut self, len: usize, wait: bool) {
        let Some(sender) = self.sender() else { return };
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
        if let Some(refusal) = self.refuses(len > self.max_len()) {
            assert_eq!(refused, Some(refusal));
        } else if self.has_room(len) {
            let claim = claim.expect("there is room");
            assert_eq!((claim.len(), claim.is_empty()), (len, len == 0));
            let (pad, start, _, payload) = self.place(self.tail, len);
            let claim = Claim { claim, pad, start, payload, bytes: vec![0; len], cursor: 0 };
            self.tx.as_mut().unwrap().claim = Some(claim);
        } else {
            assert_eq!(refused, Some((false, false, true)));
            self.seen.note("full");
        }
    }

    fn write_at(&mut self, at: usize, len: usize) {
        let number = self.next_number();
        let Some(claim) = self.tx.as_mut().and_then(|tx| tx.claim.as_mut()) else { return };
        let what = body(number, len);
        match claim.claim.write_at(at, &what) {
            Ok(()) => claim.bytes[at..at + len].copy_from_slice(&what),
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::WriteZero);
                assert!(at + len > claim.bytes.len());
                self.seen.note("write beyond");
            }
        }
    }

    fn write(&mut self, len: usize) {
        let number = self.next_number();
        let Some(claim) = self.tx.as_mut().and_then(|tx| tx.claim.as_mut()) else { return };
        let what = body(number, len);
        let written = claim.claim.write(&what).unwrap();
        assert_eq!(written, len.min(claim.bytes.len() - claim.cursor));
        claim.bytes[claim.cursor..claim.cursor + written].copy_from_slice(&what[..written]);
        claim.cursor += written;
    }

    fn commit(&mut self, cut: Option<usize>) {
        let Some(claim) = self.tx.as_mut().and_then(|tx| tx.claim.take()) else { return };
        let Claim { claim, pad, start, payload, mut bytes, .. } = claim;
        let len = cut.map_or(bytes.len(), |cut| cut % (bytes.len() + 2));
        let committed = if cut.is_some() { claim.commit_len(len) } else { claim.commit() };
        if len > bytes.len() {
            assert!(committed.unwrap_err().is_too_long());
            self.seen.note("commit of too much");
            return;
        }
        committed.unwrap();
        bytes.truncate(len);
        let end = start.wrapping_add((payload + len as u64).next_multiple_of(LINE));
        self.commit_record(pad, start, end, bytes);
    }

    fn receive(&mut self, wait: bool) {
        let Some(receiver) = self.receiver() else { return };
        let got = if wait {
            receiver
                .recv_timeout(Duration::ZERO)
                .map_err(|error| (error.is_timeout(), error.is_disconnected()))
        } else {
            receiver.try_recv().map_err(|error| (error.is_empty(), error.is_disconnected()))
        };
        match (got, self.next()) {
            (Ok(message), Some(record)) => {
                assert_eq!(
                    (message.position(), message.attempts()),
                    (record.start, record.attempts)
                );
                assert_eq!(message.redelivered(), record.attempts > 1);
                assert_eq!(message.len(), record.bytes.len());
                assert_eq!(message.is_empty(), record.bytes.is_empty());
                assert_reads(&record.bytes, message.to_vec(), |to| message.copy_to(to));
                self.rx.as_mut().unwrap().held = Some(message);
            }
            (Err(refusal), None) => {
                let over = self.is_over();
                assert_eq!(refusal, (!over, over), "timed out or empty; over");
                if over {
                    self.told();
                } else {
                    self.seen.note("empty");
                }
            }
            (got, next) => panic!("{got:?}, where there is {next:?}"),
        }
    }

    fn receive_into(&mut self) {
        let Some(receiver) = self.receiver() else { return };
        let mut to = vec![7; 3];
        match (receiver.try_recv_into(&mut to), self.next()) {
            (Ok(len), Some(record)) => {
                assert_eq!((len, to), (record.bytes.len(), record.bytes));
                self.release();
            }
            (Err(error), None) => {
                assert_eq!(to, [7; 3], "as it was");
                let over = self.is_over();
                assert_eq!((error.is_empty(), error.is_disconnected()), (!over, over));
                if over {
                    self.told();
                }
            }
            (got, next) => panic!("{got:?}, where there is {next:?}"),
        }
    }
}

/// Makes the calls, and then drains the ring.
pub(crate) fn run(plan: &Plan, calls: &[Call], path: &str, seen: &Seen) {
    let first = 0u64.wrapping_sub(plan.before_the_end * LINE);
    let delivery = if plan.at_most_once { Delivery::AtMostOnce } else { Delivery::AtLeastOnce };
    let options = Options::new()
        .capacity(plan.capacity as usize)
        .start_position(first)
        .keep_open(plan.keep_open)
        .delivery(delivery);
    let mut world = World {
        plan,
        path,
        seen,
        first,
        tail: first,
        head: first,
        records: VecDeque::new(),
        tx: None,
        rx: None,
        arrivals: [0; 2],
        ended: 0,
        sent: Counted::default(),
        received: Counted::default(),
        numbers: 0,
    };
    if plan.named {
        spsc::create(path, &options).unwrap();
        // Either end may come first.
        if plan.before_the_end % 2 == 0 {
            world.add_sender(Sender::open(path).unwrap());
            world.add_receiver(Receiver::open(path).unwrap());
        } else {
            world.add_receiver(Receiver::open(path).unwrap());
            world.add_sender(Sender::open(path).unwrap());
        }
    } else {
        let (tx, rx) = spsc::channel(&options).unwrap();
        let baseline = 0;
        world.arrivals = [1, 1];
        world.tx = Some(Tx { sender: Box::into_raw(Box::new(tx)), baseline, claim: None });
        world.rx = Some(Rx { receiver: Box::into_raw(Box::new(rx)), baseline, held: None });
    }
    calls.iter().for_each(|call| world.call(call));
    // Whoever is left lets go; in a file the rest is there.
    world.drop_sender();
    if plan.named {
        world.drop_receiver();
        world.open_receiver();
    }
    if let Some(message) = world.held() {
        drop(message);
        world.release();
    }
    while !world.is_empty() && world.rx.is_some() {
        world.receive(false);
        if let Some(message) = world.held() {
            drop(message);
            world.release();
        }
    }
    world.receive(false);
    world.ask();
    world.drop_receiver();
    if plan.named {
        quoit::unlink(path).unwrap();
    }
}
