//! kill -9 again and again, of either end, at any moment, while they stream flat out; and exact books.
//!
//! Both ends write what they do into words that outlive them. The sender notes the number that it is about to send, then
//! that it was accepted. The receiver notes each message while it has it in hand. A number may be missing only if its
//! sender died between its two notes; it may come twice only marked, and from the same position.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use quoit::spsc::Message;

use crate::actor::{Actor, body, number};
use crate::harness::{Process, Ring, say};
use crate::journal::Journal;

// The sender's notes.
const TRYING: usize = 0;
const ACCEPTED: usize = 1;
// The test's word: no more messages.
const ENOUGH: usize = 2;
// The receiver's notes: the messages so far, of which the last one and the one before are written down.
const COUNT: usize = 3;
const LAST: usize = 4;
// What was not simply the next message: from, to, and what it was.
const ODDITIES: usize = 9;
const ODDITY: usize = 10;
const WORDS: usize = 1 << 20;

const NEXT: u64 = 0;
const GAP: u64 = 1;
const AGAIN: u64 = 2;
const WRONG: u64 = 3;

fn journal(actor: &Actor) -> Journal {
    Journal::open(&format!("{}.journal", actor.path))
}

/// Sends the numbers from the journal's on until it is enough.
pub(crate) fn stream(actor: &mut Actor) -> String {
    let journal = journal(actor);
    let tx = actor.tx();
    let mut next = journal.get(TRYING) + 1;
    while journal.get(ENOUGH) == 0 {
        let message = body(next);
        journal.set(TRYING, next);
        loop {
            // Each way of sending has its own place to die in.
            let sent = match next % 3 {
                0 => tx.reserve(message.len() + 100).and_then(|mut room| {
                    room.write_at(0, &message).unwrap();
                    room.commit_len(message.len())
                }),
                1 => tx.send_batch(&[&message]).map(drop),
                _ => tx.send(&message),
            };
            match sent {
                Ok(()) => break,
                // The receiver was killed and the ring is full: its successor comes.
                Err(error) if error.is_disconnected() => std::thread::yield_now(),
                Err(error) => return format!("{error}"),
            }
        }
        journal.set(ACCEPTED, next);
        next += 1;
    }
    String::from("ok")
}

/// Receives until it is enough and the stream has ended.
pub(crate) fn consume(actor: &mut Actor) -> String {
    let journal = journal(actor);
    let rx = actor.rx();
    loop {
        let error = match rx.recv() {
            Ok(message) => {
                note(&journal, &message);
                if journal.get(COUNT) % 64 == 0 {
                    linger();
                }
                continue;
            }
            Err(error) => error,
        };
        if !error.is_disconnected() {
            return format!("{error}");
        }
        // The sender leaves before this word is written, so there is nothing behind what is here now.
        if journal.get(ENOUGH) == 2 && rx.is_empty() {
            return String::from("ok");
        }
        std::thread::yield_now();
    }
}

/// About as long as the messages since the last time took: so that many die with one in hand that they have written down.
fn linger() {
    let began = Instant::now();
    while began.elapsed() < Duration::from_micros(100) {
        std::hint::spin_loop();
    }
}

/// Writes down a message in hand.
fn note(journal: &Journal, message: &Message<'_>) {
    let number = number(&message.to_vec());
    let count = journal.get(COUNT);
    let slot = |count: u64| LAST + 2 * (count % 2) as usize;
    let (last, at) = (journal.get(slot(count)), journal.get(slot(count) + 1));
    // A message may be marked and new here: its first receiver died before it could write it down.
    let what = match message.redelivered() {
        _ if number == last + 1 => NEXT,
        _ if number > last => GAP,
        true if number == last && message.position() == at => AGAIN,
        _ => WRONG,
    };
    if what != NEXT {
        let odd = journal.get(ODDITIES);
        let entry = ODDITY + 3 * odd as usize;
        journal.set(entry, last);
        journal.set(entry + 1, number);
        journal.set(entry + 2, what);
        journal.set(ODDITIES, odd + 1);
    }
    journal.set(slot(count + 1), number);
    journal.set(slot(count + 1) + 1, message.position());
    journal.set(COUNT, count + 1);
}

/// A small generator of numbers that look random: SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

fn seed() -> u64 {
    match std::env::var("QUOIT_TEST_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => std::process::id().into(),
    }
}

/// Kills of one storm.
const KILLS: u64 = 80;

/// Answers how many messages came again.
fn storm(ring: &Ring, random: &mut Random, waits: [&str; 2]) -> u64 {
    let journal = Journal::create(&ring.beside("ring.journal"), WORDS);
    let seat = |role: &str, order: &str| -> Process {
        let mut process = ring.process();
        process.tell(format!("wait {}", waits[usize::from(role == "receiver")]));
        process.tell(format!("{role} open_or_create"));
        process.tell(order);
        process
    };
    let mut tx = seat("sender", "stream");
    let mut rx = seat("receiver", "consume");
    let mut in_doubt = BTreeSet::new();
    let (mut senders, mut receivers) = (0, 0);
    for _ in 0..KILLS {
        let (sender_dies, receiver_dies) = match random.below(5) {
            0 | 1 => (true, false),
            2 | 3 => (false, true),
            _ => (true, true),
        };
        if random.below(8) == 0 {
            // At any moment of its start.
            std::thread::sleep(Duration::from_micros(random.below(4000)));
        } else {
            // After so many messages.
            let goal = journal.get(COUNT) + random.below(1000);
            while journal.get(COUNT) < goal {
                for process in [&mut tx, &mut rx] {
                    while let Some(answer) = process.answer_so_far() {
                        assert_eq!(answer, "ok", "{:#?}", ring.inspect());
                    }
                }
                std::thread::yield_now();
            }
        }
        if sender_dies {
            tx.kill();
            senders += 1;
            let trying = journal.get(TRYING);
            if trying != journal.get(ACCEPTED) {
                in_doubt.insert(trying);
            }
            tx = seat("sender", "stream");
        }
        if receiver_dies {
            rx.kill();
            receivers += 1;
            rx = seat("receiver", "consume");
        }
    }
    journal.set(ENOUGH, 1);
    // "wait", "sender", "stream" are three answers; some were read above.
    tx.ask_last("leave");
    journal.set(ENOUGH, 2);
    rx.ask_last("peer");

    let (count, accepted) = (journal.get(COUNT), journal.get(ACCEPTED));
    let last = journal.get(LAST + 2 * (count % 2) as usize);
    let again = check(&journal, &in_doubt);
    assert!(again <= receivers, "{again} messages came again, and {receivers} receivers died");
    assert!(last >= accepted, "{accepted} was accepted, and the last delivered is {last}");
    // The last sender may have come too late to send anything after one that died between its notes.
    let unasked: Vec<u64> = (accepted + 1..=last).filter(|sent| !in_doubt.contains(sent)).collect();
    assert_eq!(unasked, [], "delivered, and never sent");
    assert!(accepted > KILLS, "they streamed");
    let info = ring.inspect();
    assert!(info.sender.deaths <= senders && info.receiver.deaths <= receivers);
    assert_eq!((info.used, info.lost), (0, 0), "the ring is empty");
    assert!(info.redelivered >= again);
    again
}

/// Every oddity in the books has its reason. Answers how many messages came again.
fn check(journal: &Journal, in_doubt: &BTreeSet<u64>) -> u64 {
    let mut again = 0;
    for entry in (0..journal.get(ODDITIES)).map(|odd| ODDITY + 3 * odd as usize) {
        let (last, number) = (journal.get(entry), journal.get(entry + 1));
        match journal.get(entry + 2) {
            GAP => {
                let missing: Vec<u64> =
                    (last + 1..number).filter(|gone| !in_doubt.contains(gone)).collect();
                assert_eq!(missing, [], "accepted, and never delivered, before {number}");
            }
            AGAIN => again += 1,
            _ => panic!("{number} came after {last}, out of order or twice without a mark"),
        }
    }
    again
}

#[test]
fn whoever_is_killed_whenever_no_message_is_lost_doubled_or_reordered() {
    let seed = seed();
    say(&format!("seed {seed}: QUOIT_TEST_SEED={seed} tries the same moments again"));
    let mut random = Random(seed);
    let last_lines = 0u64.wrapping_sub(1000 * 64);
    let mut again = 0;
    for (start, capacity, waits) in [
        (0, 4096, ["Adaptive", "Adaptive"]),
        (last_lines, 4096, ["Block", "Block"]),
        (last_lines, 65536, ["Adaptive", "Block"]),
        (0, 65536, ["Spin", "Adaptive"]),
    ] {
        again += storm(&Ring::new(start).capacity(capacity), &mut random, waits);
    }
    say(&format!("{again} messages came again"));
    assert!(again > 0, "nobody died with a message in hand that it had written down");
}
