//! kill -9 again and again, of anybody at any moment; and exact books.

use std::io::Write;
use std::time::Duration;

use quoit::Delivery;
use quoit::mpmc::{Message, Receiver, Sender};

use crate::books::{Books, Fate, entry, id_of};
use crate::harness::{Process, Random, Ring, Shape, full, say, sized};
use crate::notes::{ACCEPTED, COUNT, Doing, LOG, OFFERED, READY, SEAT};
use crate::toll::{Death, Toll};
use crate::worker::{Refusal, Worker, body, id};

/// What every call that waits gets.
const DEADLINE: Duration = Duration::from_secs(1);

/// The most messages of one call.
const BATCH: u64 = 4;

/// Entries of one receiver's log.
const ENTRIES: usize = 1 << 20;

/// A message with this bit was never committed: nobody may see it.
const NEVER: u64 = 1 << 63;

/// Sends, by every verb there is, until it is enough.
pub(crate) fn sender(worker: &mut Worker) {
    while !worker.is_over() {
        let wait = worker.some_wait();
        let mut tx = worker.open_sender(wait);
        worker.ready(1);
        for _ in 0..some_calls(worker) {
            if worker.is_over() {
                break;
            }
            if send_somehow(worker, &mut tx) == Err(Refusal::Ended) {
                std::thread::yield_now();
            }
        }
        worker.leave(tx);
    }
}

/// How long somebody stays: mostly a while, often hardly at all.
fn some_calls(worker: &mut Worker) -> u64 {
    let most = if worker.random.once_in(3) { 300 } else { 8 };
    worker.random.below(most)
}

fn send_somehow(worker: &mut Worker, tx: &mut Sender) -> Result<(), Refusal> {
    let limit = Some(DEADLINE);
    let count = match worker.random.below(16) {
        3..=5 => 1 + worker.random.below(BATCH),
        _ => 1,
    };
    let next = worker.journal.get(ACCEPTED);
    let number = worker.number;
    let batch: Vec<_> = (next..next + count).map(|seq| body(id_of(number, seq))).collect();
    let room = batch[0].len();
    // From here on they may be on their way.
    let offer = |worker: &Worker| worker.journal.set(OFFERED, next + count);
    let way = if count > 1 { 3 } else { worker.random.below(16) };
    let sent = match way {
        0..=2 => {
            offer(worker);
            worker
                .call(Doing::Sending, limit, || tx.send_timeout(&batch[0], DEADLINE))
                .map(|()| 1)
                .map_err(Refusal::from)
        }
        3 | 4 => {
            offer(worker);
            let send = || tx.send_batch_timeout(&batch, DEADLINE);
            worker.call(Doing::SendingBatch, limit, send).map_err(Refusal::from)
        }
        5 => {
            offer(worker);
            let send = || tx.try_send_batch(&batch);
            worker.call(Doing::SendingBatch, None, send).map_err(Refusal::from)
        }
        6 | 7 => {
            offer(worker);
            let send = || tx.try_send(&batch[0]);
            worker.call(Doing::Sending, None, send).map(|()| 1).map_err(Refusal::from)
        }
        8..=10 => {
            let reserved = worker
                .call(Doing::Reserving, limit, || tx.reserve_timeout(room + slack(next), DEADLINE));
            match reserved {
                Err(error) => Err(Refusal::from(error)),
                Ok(mut claim) => {
                    worker.doing(Doing::Writing);
                    worker.linger();
                    claim.write_all(&batch[0]).unwrap();
                    worker.linger();
                    offer(worker);
                    worker.call(Doing::Committing, None, || claim.commit_len(room)).unwrap();
                    Ok(1)
                }
            }
        }
        11..=13 => {
            // A claim that comes to nothing: dropped, or forgotten.
            let never = body(NEVER | next);
            let reserved = worker.call(Doing::Reserving, None, || tx.try_reserve(never.len()));
            match reserved {
                Err(error) => Err(Refusal::from(error)),
                Ok(mut claim) => {
                    worker.doing(Doing::Writing);
                    claim.write_all(&never).unwrap();
                    worker.linger();
                    if way == 13 {
                        std::mem::forget(claim);
                    } else {
                        drop(claim);
                    }
                    worker.doing(Doing::BetweenCalls);
                    Ok(0)
                }
            }
        }
        _ => {
            worker.call(Doing::Asking, None, || {
                let _ = (tx.is_empty(), tx.is_full(), tx.stats());
                tx.recover().unwrap();
            });
            Ok(0)
        }
    };
    let accepted = next + sent.map_or(0, |sent| sent as u64);
    worker.journal.set(ACCEPTED, accepted);
    worker.journal.set(OFFERED, accepted);
    sent.map(drop).map_err(|why| worker.refused(why))
}

/// Some reservations are longer than what becomes of them.
fn slack(next: u64) -> usize {
    (next % 2) as usize
}

/// Receives, by every verb that hands messages out, until it is enough.
pub(crate) fn receiver(worker: &mut Worker) {
    while !worker.is_over() {
        let wait = worker.some_wait();
        let rx = worker.open_receiver(wait);
        worker.ready(1);
        for _ in 0..some_calls(worker) {
            if worker.is_over() {
                break;
            }
            match receive_somehow(worker, &rx) {
                Ok(true) => {}
                // One was forgotten: it comes back when the seat is left.
                Ok(false) => break,
                Err(Refusal::Ended) => std::thread::yield_now(),
                Err(_) => {}
            }
        }
        worker.leave(rx);
    }
}

fn receive_somehow(worker: &mut Worker, rx: &Receiver) -> Result<bool, Refusal> {
    let limit = Some(DEADLINE);
    let most = 1 + worker.random.below(BATCH) as usize;
    let mut held = Vec::new();
    let took = match worker.random.below(16) {
        0..=6 => worker
            .call(Doing::Receiving, limit, || rx.recv_timeout(DEADLINE))
            .map(|message| held.push(message))
            .map_err(Refusal::from),
        7..=9 => worker
            .call(Doing::Receiving, None, || rx.try_recv())
            .map(|message| held.push(message))
            .map_err(Refusal::from),
        10..=12 => worker
            .call(Doing::ReceivingBatch, limit, || {
                rx.recv_batch_timeout(&mut held, most, DEADLINE).map(drop)
            })
            .map_err(Refusal::from),
        13 | 14 => worker
            .call(Doing::ReceivingBatch, None, || rx.try_recv_batch(&mut held, most).map(drop))
            .map_err(Refusal::from),
        _ => {
            worker.call(Doing::Asking, None, || {
                let _ = (rx.is_empty(), rx.len(), rx.stats(), rx.is_disconnected());
            });
            Ok(())
        }
    };
    took.map_err(|why| worker.refused(why))?;
    worker.doing(Doing::InHand);
    let noted: Vec<_> = held.iter().map(|message| note(worker, message)).collect();
    let mut held: Vec<_> = held.into_iter().zip(noted).collect();
    let mut all_ended = true;
    while !held.is_empty() {
        worker.linger();
        let (message, entry) = held.swap_remove(worker.random.below(held.len() as u64) as usize);
        all_ended &= end(worker, message, entry);
        worker.doing(Doing::InHand);
    }
    worker.doing(Doing::BetweenCalls);
    Ok(all_ended)
}

/// Writes down a message in hand; answers where.
fn note(worker: &Worker, message: &Message<'_>) -> usize {
    let id = id(message);
    assert_eq!(id & NEVER, 0, "{id:#x} was never committed");
    let count = worker.journal.get(COUNT) as usize;
    assert!(count < ENTRIES);
    let at = LOG + 3 * count;
    worker.journal.set(at, id);
    worker.journal.set(at + 1, message.position());
    worker.journal.set(at + 2, entry(message.attempts(), Fate::InHand));
    worker.journal.set(COUNT, count as u64 + 1);
    at + 2
}

/// Ends a message in one way or another; `false` if it was forgotten.
fn end(worker: &mut Worker, message: Message<'_>, note: usize) -> bool {
    let attempts = message.attempts();
    let fate = |fate| worker.journal.set(note, entry(attempts, fate));
    match worker.random.below(400) {
        0 => {
            fate(Fate::Forgotten);
            std::mem::forget(message);
            return false;
        }
        1..=25 => {
            fate(Fate::GivingBack);
            worker.call(Doing::GivingBack, None, || message.give_back());
            fate(Fate::GivenBack);
        }
        _ => {
            fate(Fate::Releasing);
            worker.call(Doing::Releasing, None, || drop(message));
            fate(Fate::Released);
        }
    }
    true
}

/// A ring, those who work at it, and the books.
pub(crate) struct Storm {
    pub(crate) ring: Ring,
    pub(crate) workers: Vec<Process>,
    senders: usize,
    books: Books,
    pub(crate) toll: Toll,
}

impl Storm {
    pub(crate) fn new(shape: Shape, senders: usize, receivers: usize) -> Storm {
        let mut storm = Storm {
            ring: Ring::new(shape).with_nursery(),
            workers: Vec::new(),
            senders,
            books: Books::new(shape),
            toll: Toll::new(),
        };
        for index in 0..senders + receivers {
            let process = storm.start(index);
            storm.workers.push(process);
        }
        storm
    }

    fn start(&self, index: usize) -> Process {
        let (role, entries) =
            if index < self.senders { ("sender", 0) } else { ("receiver", ENTRIES) };
        self.ring.process(&format!("storm {role}"), 3 * entries)
    }

    /// Messages that receivers who are here now have noted.
    pub(crate) fn received(&self) -> u64 {
        self.workers[self.senders..].iter().map(|rx| rx.journal.get(COUNT)).sum()
    }

    /// One of them is gone for good: enters its journal into the books.
    fn enter(&mut self, index: usize, killed: bool) {
        let worker = &self.workers[index];
        self.toll.gone(&worker.journal);
        if index < self.senders {
            let (accepted, offered) = (worker.journal.get(ACCEPTED), worker.journal.get(OFFERED));
            self.books.sender(worker.number, accepted, offered, killed);
        } else {
            self.books.receiver(&worker.journal, killed);
        }
    }

    /// Kills some of them at the same time, and enters what they leave.
    pub(crate) fn kill(&mut self, indexes: &[usize]) {
        let begun: Vec<_> =
            indexes.iter().map(|&index| Death::begin(&self.workers[index])).collect();
        for (&index, death) in indexes.iter().zip(begun) {
            self.toll.end(&mut self.workers[index], &death);
            let worker = &self.workers[index];
            // Whoever is quick has repaired it already.
            let seat = worker.journal.get(SEAT).checked_sub(1);
            let info = self.ring.info();
            let claimed = info
                .seats
                .iter()
                .filter(|seated| seat == Some(seated.seat.into()))
                .any(|seated| seated.writing + seated.reading > 0);
            self.toll.claimed(claimed);
            self.enter(index, true);
        }
        self.ring.alive();
    }

    pub(crate) fn replace(&mut self, index: usize) {
        self.workers[index] = self.start(index);
    }

    /// Whether the worker has a seat and works.
    fn is_at_work(&self, index: usize) -> bool {
        self.workers[index].journal.get(READY) > 0
    }

    /// Lets all of them end in order, and enters what they leave.
    pub(crate) fn end(&mut self) {
        self.ring.signal(2);
        for index in 0..self.workers.len() {
            self.workers[index].finish();
            self.enter(index, false);
        }
    }

    /// Takes what is left in the ring, which is then empty and whole, and compares the books.
    pub(crate) fn compare(mut self, name: &str) {
        let rx = Receiver::open(&self.ring.path).unwrap();
        rx.recover().unwrap();
        while let Ok(message) = rx.try_recv() {
            let (id, position) = (id(&message), message.position());
            self.books.sighting(id, position, message.attempts(), Fate::Released);
        }
        let info = self.ring.info();
        assert_eq!(info.used, 0, "{info:#?}");
        let summary = self.books.compare(info.lost, BATCH);
        let sent = info.sender.messages;
        let least = self.books.accepted().saturating_sub(BATCH * self.toll.kills());
        let most = self.books.offered();
        assert!((least..=most).contains(&sent), "{sent} counted as sent of {least} to {most}");
        // Every slot can be used again, and no more than every slot.
        let tx = Sender::open(&self.ring.path).unwrap();
        for round in 0..3u8 {
            for _ in 0..self.ring.shape.slots {
                tx.try_send(&[round]).unwrap();
            }
            assert!(tx.try_send(&[round]).unwrap_err().is_full());
            (0..self.ring.shape.slots)
                .for_each(|_| assert_eq!(rx.recv().unwrap().to_vec(), [round]));
        }
        assert!(rx.try_recv().unwrap_err().is_empty());
        say(&format!("{name}: {summary}\n{}", self.toll.show()));
    }
}

/// Kills one after the other.
fn run(shape: Shape, kills: u64, in_order: bool, random: &mut Random) {
    let mut storm = Storm::new(shape, 3, 3);
    let all: Vec<usize> = (0..storm.workers.len()).collect();
    while storm.toll.kills() < kills {
        let moment = Duration::from_micros(random.below(2000));
        if random.once_in(8) {
            // Somebody else is slow meanwhile, wherever it is; nothing is taken from it.
            let slow = random.below(6) as usize;
            storm.workers[slow].stop();
            std::thread::sleep(moment);
            storm.workers[slow].go_on();
        } else {
            std::thread::sleep(moment);
        }
        let victim = random.below(6) as usize;
        if !storm.is_at_work(victim) && !random.once_in(16) {
            continue;
        }
        storm.kill(&[victim]);
        storm.replace(victim);
    }
    if in_order {
        storm.end();
    } else {
        storm.kill(&all);
    }
    let kept = storm.toll.kept_to(DEADLINE);
    storm.compare(&format!("a storm over {} slots, {}", shape.slots, shape.delivery));
    assert!(kept || !full(), "FAIL: a call took longer than its deadline and 1 s");
}

#[test]
fn whoever_is_killed_whenever_every_message_is_received_once_or_marked_or_counted_lost() {
    let mut random = Random::seeded("the storm");
    let (once, again) = (Delivery::AtMostOnce, Delivery::AtLeastOnce);
    let near_the_end = 0u64.wrapping_sub(20_000);
    for (slots, start, delivery, keep_open, in_order, kills) in [
        (8, 0, again, false, true, sized(300, 50_000)),
        (8, near_the_end, once, false, false, sized(300, 3_000)),
        (64, near_the_end, again, true, false, sized(150, 1_000)),
        (16, 0, once, false, true, sized(150, 1_000)),
    ] {
        let shape = Shape { slots, start, delivery, keep_open, ..Shape::default() };
        run(shape, kills, in_order, &mut random);
    }
}
