//! kill -9 again and again, of either end of a ring of bytes, at any moment, while they stream flat out; and exact books.
//!
//! Both ends write what they do into words that outlive them. The sender notes the number that it is about to send, then
//! that it was accepted. The receiver notes each message while it has it in hand. A number may be missing only if its
//! sender died between its two notes; it may come twice only marked, and from the same position.

use std::collections::BTreeSet;
use std::io::Write;
use std::time::Duration;

use quoit::Options;
use quoit::spsc::{self, Message, Receiver, Sender};

use crate::harness::{Random, Ring, Shape, full, say, sized};
use crate::journal::Journal;
use crate::notes::Doing;
use crate::toll::{Death, Toll};
use crate::worker::{self, Refusal, Worker, body, id_in};

/// What every second call that waits gets.
const DEADLINE: Duration = Duration::from_secs(1);

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

/// The notes of whoever sends and whoever receives.
fn books(path: &str) -> String {
    format!("{path}.books")
}

/// Sends the numbers from the books' on until it is enough.
pub(crate) fn sender(worker: &mut Worker, wait: &str) {
    let books = Journal::open(&books(&worker.path));
    let path = worker.path.clone();
    let mut tx = worker.call(Doing::Opening, None, || Sender::open(&path)).unwrap();
    tx.set_wait(worker::wait(wait));
    worker.ready(1);
    let mut next = books.get(TRYING) + 1;
    while books.get(ENOUGH) == 0 {
        books.set(TRYING, next);
        match send_somehow(worker, &mut tx, next) {
            Ok(()) => {
                books.set(ACCEPTED, next);
                next += 1;
            }
            // It is full; maybe the receiver was killed, and its successor comes.
            Err(_) => std::thread::yield_now(),
        }
    }
    worker.leave(tx);
}

/// Each way of sending has its own place to die in.
fn send_somehow(worker: &mut Worker, tx: &mut Sender, number: u64) -> Result<(), Refusal> {
    let message = body(number);
    let limit = Some(DEADLINE);
    let sent = match number % 6 {
        0 => {
            let room = message.len() + 100;
            let mut claim = worker
                .call(Doing::Reserving, limit, || tx.reserve_timeout(room, DEADLINE))
                .map_err(|error| worker.refused(Refusal::from(error)))?;
            worker.doing(Doing::Writing);
            claim.write_all(&message).unwrap();
            if number % 4 == 0 {
                worker.linger();
            }
            worker.call(Doing::Committing, None, || claim.commit_len(message.len())).unwrap();
            Ok(())
        }
        1 => worker
            .call(Doing::SendingBatch, limit, || tx.send_batch_timeout(&[&message], DEADLINE))
            .map(drop)
            .map_err(Refusal::from),
        2 => worker
            .call(Doing::Sending, limit, || tx.send_timeout(&message, DEADLINE))
            .map_err(Refusal::from),
        3 => worker
            .call(Doing::SendingBatch, None, || tx.send_batch(&[&message]))
            .map(drop)
            .map_err(Refusal::from),
        4 => worker.call(Doing::Sending, None, || tx.try_send(&message)).map_err(Refusal::from),
        _ => worker.call(Doing::Sending, None, || tx.send(&message)).map_err(Refusal::from),
    };
    sent.map_err(|why| worker.refused(why))
}

/// Receives until it is enough and the stream has ended.
pub(crate) fn receiver(worker: &mut Worker, wait: &str) {
    let books = Journal::open(&books(&worker.path));
    let path = worker.path.clone();
    let mut rx = worker.call(Doing::Opening, None, || Receiver::open(&path)).unwrap();
    rx.set_wait(worker::wait(wait));
    worker.ready(1);
    loop {
        let why = match receive(worker, &mut rx) {
            Ok(message) => {
                worker.doing(Doing::InHand);
                note(&books, &message);
                if worker.random.once_in(4) {
                    worker.linger();
                }
                worker.call(Doing::Releasing, None, || drop(message));
                continue;
            }
            Err(why) => worker.refused(why),
        };
        // The sender leaves before this word is written, so there is nothing behind what is here now.
        if why == Refusal::Ended && books.get(ENOUGH) == 2 && rx.is_empty() {
            break;
        }
        std::thread::yield_now();
    }
    worker.leave(rx);
}

fn receive<'rx>(worker: &mut Worker, rx: &'rx mut Receiver) -> Result<Message<'rx>, Refusal> {
    match worker.random.below(4) {
        0 => worker.call(Doing::Receiving, None, || rx.try_recv()).map_err(Refusal::from),
        1 => worker.call(Doing::Receiving, None, || rx.recv()).map_err(Refusal::from),
        _ => worker
            .call(Doing::Receiving, Some(DEADLINE), || rx.recv_timeout(DEADLINE))
            .map_err(Refusal::from),
    }
}

/// Writes down a message in hand.
fn note(journal: &Journal, message: &Message<'_>) {
    assert_eq!(message.redelivered(), message.attempts() > 1);
    let number = id_in(&message.to_vec());
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

/// Answers how many messages came again, and what is to be said.
fn storm(ring: &Ring, kills: u64, random: &mut Random, waits: [&str; 2]) -> (u64, String) {
    let journal = Journal::create(&books(&ring.path), WORDS);
    let [wait_tx, wait_rx] = waits;
    let sender = || ring.process(&format!("bytes sender {wait_tx}"), 0);
    let receiver = || ring.process(&format!("bytes receiver {wait_rx}"), 0);
    let (mut tx, mut rx) = (sender(), receiver());
    let mut in_doubt = BTreeSet::new();
    let (mut senders, mut receivers) = (0, 0);
    let mut toll = Toll::new();
    while toll.kills() < kills {
        let (sender_dies, receiver_dies) = match random.below(5) {
            0 | 1 => (true, false),
            2 | 3 => (false, true),
            _ => (true, true),
        };
        if random.once_in(8) {
            // At any moment of its start.
            std::thread::sleep(Duration::from_micros(random.below(1000)));
        } else {
            // After so many messages.
            let goal = journal.get(COUNT) + random.below(200);
            ring.wait(&mut [&mut tx, &mut rx], || journal.get(COUNT) >= goal);
        }
        let deaths = [(sender_dies, &tx), (receiver_dies, &rx)]
            .map(|(dies, process)| dies.then(|| Death::begin(process)));
        if let Some(death) = &deaths[0] {
            toll.end(&mut tx, death);
            toll.gone(&tx.journal);
            senders += 1;
            let trying = journal.get(TRYING);
            if trying != journal.get(ACCEPTED) {
                in_doubt.insert(trying);
            }
            tx = sender();
        }
        if let Some(death) = &deaths[1] {
            toll.end(&mut rx, death);
            toll.gone(&rx.journal);
            receivers += 1;
            rx = receiver();
        }
    }
    journal.set(ENOUGH, 1);
    tx.finish();
    toll.gone(&tx.journal);
    journal.set(ENOUGH, 2);
    rx.finish();
    toll.gone(&rx.journal);

    let (count, accepted) = (journal.get(COUNT), journal.get(ACCEPTED));
    let last = journal.get(LAST + 2 * (count % 2) as usize);
    let again = check(&journal, &in_doubt);
    assert!(again <= receivers, "{again} messages came again, and {receivers} receivers died");
    assert!(last >= accepted, "{accepted} was accepted, and the last delivered is {last}");
    // The last sender may have come too late to send anything after one that died between its notes.
    let unasked: Vec<u64> = (accepted + 1..=last).filter(|sent| !in_doubt.contains(sent)).collect();
    assert_eq!(unasked, [], "delivered, and never sent");
    assert!(accepted > kills, "they streamed");
    let info = ring.info();
    assert!(info.sender.deaths <= senders && info.receiver.deaths <= receivers);
    assert_eq!((info.used, info.lost), (0, 0), "the ring is empty");
    // Each death lets one message be handed out again, and nothing else does.
    assert!(
        (again..=receivers).contains(&info.redelivered),
        "{} handed out again",
        info.redelivered
    );
    assert!(
        toll.kept_to(DEADLINE) || !full(),
        "FAIL: a call took longer than its deadline and 1 s"
    );
    let summary = format!(
        "{accepted} messages accepted, {} calls in doubt, {again} messages seen again\n{}",
        in_doubt.len(),
        toll.show()
    );
    (again, summary)
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
    let mut random = Random::seeded("the storm over bytes");
    let last_lines = 0u64.wrapping_sub(1000 * 64);
    let mut again = 0;
    for (start, capacity, waits, kills) in [
        (0, 4096, ["Adaptive", "Adaptive"], sized(200, 50_000)),
        (last_lines, 4096, ["Block", "Block"], sized(200, 2_000)),
        (last_lines, 65536, ["Adaptive", "Block"], sized(200, 2_000)),
        (0, 65536, ["Spin", "Adaptive"], sized(200, 2_000)),
    ] {
        let options = Options::new().capacity(capacity).start_position(start);
        let ring = Ring::made(Shape { start, ..Shape::default() }, |path| {
            spsc::create(path, &options).unwrap();
        });
        let (came, summary) = storm(&ring.with_nursery(), kills, &mut random, waits);
        say(&format!("a storm over {capacity} bytes, {waits:?}: {summary}"));
        again += came;
    }
    assert!(again > 0, "nobody died with a message in hand that it had written down");
}
