//! Many senders, many receivers, and every message at one of them, in the order of its sender.
//!
//! Nobody dies here. A receiver keeps one bit for each message that there can be, so nothing has to be held.

use std::io::Write;
use std::time::Instant;

use quoit::mpmc::{Message, Sender};

use crate::harness::{Process, Ring, Shape, full, say, sized};
use crate::journal::Journal;
use crate::notes::{ACCEPTED, COUNT, DISORDER, LOG, TWICE};
use crate::worker::{Refusal, Worker};

/// The most messages of one call.
const BATCH: u64 = 8;

/// A message: which of how many from a sender, and the same again in other bits.
pub(crate) fn numbered(index: u64, each: u64, seq: u64) -> [u8; 16] {
    let number = index * each + seq;
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes[8..].copy_from_slice(&(!number).to_le_bytes());
    bytes
}

/// Sends messages `0..each`, by several verbs.
pub(crate) fn sender(worker: &mut Worker, index: u64, each: u64) {
    let wait = worker.some_wait();
    let mut tx = worker.open_sender(wait);
    worker.ready(1);
    worker.until_all_begin();
    let mut next = 0;
    while next < each {
        next += send(worker, &mut tx, index, each, next);
        worker.journal.set(ACCEPTED, next);
    }
    worker.leave(tx);
}

fn send(worker: &mut Worker, tx: &mut Sender, index: u64, each: u64, next: u64) -> u64 {
    let message = numbered(index, each, next);
    match worker.random.below(8) {
        0 => {
            let batch: Vec<_> =
                (next..each.min(next + BATCH)).map(|seq| numbered(index, each, seq)).collect();
            tx.send_batch(&batch).unwrap() as u64
        }
        1 => {
            let mut claim = tx.reserve(message.len()).unwrap();
            claim.write_all(&message).unwrap();
            claim.commit().unwrap();
            1
        }
        2 => {
            if worker.random.once_in(16) {
                drop(tx.reserve(message.len()).unwrap());
            }
            u64::from(tx.try_send(&message).is_ok())
        }
        _ => {
            tx.send(&message).unwrap();
            1
        }
    }
}

/// Where a receiver keeps the bits.
const BITS: usize = LOG;

/// What a receiver keeps besides its bits.
pub(crate) struct Tally {
    each: u64,
    /// The next number of each sender.
    next: Vec<u64>,
    count: u64,
}

impl Tally {
    pub(crate) fn new(each: u64) -> Tally {
        Tally { each, next: Vec::new(), count: 0 }
    }

    /// Writes down a message in hand.
    pub(crate) fn note(&mut self, journal: &Journal, message: &Message<'_>) {
        let mut bytes = [0; 16];
        assert_eq!((message.len(), message.copy_to(&mut bytes)), (16, 16));
        assert!(!message.redelivered());
        let half = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let number = half(0);
        assert_eq!(half(8), !number, "message {number} is not what was sent");
        let (word, bit) = (BITS + (number / 64) as usize, 1 << (number % 64));
        let before = journal.get(word);
        if before & bit != 0 {
            journal.set(TWICE, journal.get(TWICE) + 1);
        }
        journal.set(word, before | bit);
        let (sender, seq) = ((number / self.each) as usize, number % self.each);
        if self.next.len() <= sender {
            self.next.resize(sender + 1, 0);
        }
        if seq < self.next[sender] {
            journal.set(DISORDER, journal.get(DISORDER) + 1);
        }
        self.next[sender] = seq + 1;
        self.count += 1;
        journal.set(COUNT, self.count);
    }
}

/// Receives until the last sender has left.
pub(crate) fn receiver(worker: &mut Worker, each: u64) {
    let wait = worker.some_wait();
    let rx = worker.open_receiver(wait);
    worker.ready(1);
    worker.until_all_begin();
    let mut tally = Tally::new(each);
    let mut held = Vec::new();
    loop {
        let took = match worker.random.below(4) {
            0 => rx.recv_batch(&mut held, BATCH as usize).map(drop),
            1 => match rx.try_recv().map_err(Refusal::from) {
                Ok(message) => {
                    held.push(message);
                    Ok(())
                }
                Err(_) => Ok(()),
            },
            _ => rx.recv().map(|message| held.push(message)),
        };
        for message in held.drain(..) {
            tally.note(&worker.journal, &message);
        }
        match took {
            Ok(()) => {}
            Err(error) if error.is_disconnected() => break,
            Err(error) => panic!("{error}"),
        }
    }
    drop(held);
    worker.leave(rx);
}

/// Words that a receiver needs for the bits of so many messages.
pub(crate) fn bits(messages: u64) -> usize {
    messages.div_ceil(64) as usize
}

/// Every message below `sent[i]` of each sender came once to one receiver, no other came, and each came in order.
pub(crate) fn compare(receivers: &[&mut Process], sent: &[u64], each: u64) {
    let words = bits(sent.len() as u64 * each);
    let (mut received, mut all) = (0, vec![0; words]);
    for receiver in receivers {
        let journal = &receiver.journal;
        assert_eq!(journal.get(TWICE), 0, "came twice to receiver {}", receiver.number);
        assert_eq!(journal.get(DISORDER), 0, "out of order at receiver {}", receiver.number);
        received += journal.get(COUNT);
        for (word, all) in all.iter_mut().enumerate() {
            let here = journal.get(BITS + word);
            assert_eq!(*all & here, 0, "came to several, near {}", word * 64);
            *all |= here;
        }
    }
    for (sender, &sent) in sent.iter().enumerate() {
        for seq in 0..each {
            let number = sender as u64 * each + seq;
            let came = all[(number / 64) as usize] >> (number % 64) & 1 == 1;
            assert_eq!(came, seq < sent, "message {seq} of sender {sender}, who sent {sent}");
        }
    }
    assert_eq!(received, sent.iter().sum::<u64>());
}

#[test]
fn what_eight_send_is_what_eight_receive_and_each_gets_it_in_the_order_of_its_sender() {
    const SIDE: u64 = 8;
    let each = sized(200_000, 4_000_000) / SIDE;
    let near_the_end = 0u64.wrapping_sub(each);
    for (slots, start) in [(1024, 0), (16, near_the_end)] {
        let ring = Ring::new(Shape { slots, start, ..Shape::default() });
        let mut senders: Vec<_> = (0..SIDE)
            .map(|index| ring.process(&format!("flow sender {index} {each}"), 0))
            .collect();
        let mut receivers: Vec<_> = (0..SIDE)
            .map(|_| ring.process(&format!("flow receiver {each}"), bits(SIDE * each)))
            .collect();
        for process in senders.iter_mut().chain(&mut receivers) {
            process.ready(&ring, 1);
        }
        let began = Instant::now();
        ring.signal(1);
        for process in senders.iter_mut().chain(&mut receivers) {
            process.finish();
            ring.alive();
        }
        let took = began.elapsed();
        let sent: Vec<_> = senders.iter().map(|sender| sender.journal.get(ACCEPTED)).collect();
        assert_eq!(sent, [each; SIDE as usize]);
        let receivers: Vec<_> = receivers.iter_mut().collect();
        compare(&receivers, &sent, each);
        if full() {
            let million = (SIDE * each) as f64 / 1e6;
            say(&format!(
                "{SIDE} senders, {SIDE} receivers, {million} million messages over {slots} slots: \
                 {:.1} s, {:.2} million/s, each once and in order",
                took.as_secs_f64(),
                million / took.as_secs_f64()
            ));
        }
    }
}
