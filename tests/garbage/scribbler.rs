//! A process that writes garbage into a ring while others exchange messages through it, each a process of its own.
//!
//! Knows when the garbage begins and ends, and that every call of the others comes back: all of them have deadlines, and
//! the one that never comes back is found by the watchdog, which has nothing to do with how long a call took. Where the
//! words of a ring lie is told by [`bytes`](crate::bytes) and [`slots`](crate::slots).
//!
//! Now and then the scribbler puts the ring back as it was at first and keeps still for a moment, so that the others work
//! in between. A handle that has met garbage is dropped, and another opened: on whatever stands there.

use std::time::Duration;

use quoit::mpmc;
use quoit::spsc;
use quoit::{Delivery, Fault, OpenError, RecvTimeoutError, SendTimeoutError};
use quoit::{TryRecvError, TrySendError};

use crate::harness::{Process, Random, Ring, Shape, WORKER, say};
use crate::journal::Journal;
use crate::slots::Layout;
use crate::torture::{Answer, Answers, Memory};
use crate::{bytes, rounds, slots};

/// Word 0 of a journal: calls that came back. Behind it: how often each answer was given.
const CALLS: usize = 0;
const ANSWERS: usize = 1;

/// What the control word says: all work; it is over; the senders keep still, or the receivers do, and so does the scribbler,
/// whatever it has just written. Then nobody is there to end a call but its deadline.
const ALL: u64 = 1;
const OVER: u64 = 2;
const NO_SENDER: u64 = 3;
const NO_RECEIVER: u64 = 4;

/// The kinds of rings, by the word for them in an order.
const KINDS: [&str; 3] = ["bytes", "short", "long"];

/// Not a claim: what the other processes run. It does nothing when nobody made it one of them.
pub(crate) fn run() {
    let Ok(work) = std::env::var(WORKER) else { return };
    // SAFETY: prctl and alarm take numbers only. Whatever happens to the test, its children end.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    // SAFETY: as above.
    unsafe { libc::alarm(900) };
    let words: Vec<&str> = work.split(' ').collect();
    let [number, path, what, kind, seed] = words[..] else { panic!("no such work: {work}") };
    let kind = KINDS.iter().position(|&known| known == kind).unwrap();
    let seed: u64 = seed.parse().unwrap();
    let worker = Worker {
        path: path.to_owned(),
        kind,
        journal: Journal::open(&format!("{path}.{number}")),
        control: Journal::open(&format!("{path}.control")),
        random: Random(seed.wrapping_add(number.parse().unwrap())),
        answers: Answers::default(),
    };
    match (what, kind) {
        ("scribble", _) => worker.scribble(),
        ("send", 0) => worker.work(Work::BytesOut),
        ("receive", 0) => worker.work(Work::BytesIn),
        ("send", _) => worker.work(Work::SlotsOut),
        _ => worker.work(Work::SlotsIn),
    }
}

#[derive(Clone, Copy)]
enum Work {
    BytesOut,
    BytesIn,
    SlotsOut,
    SlotsIn,
}

struct Worker {
    path: String,
    kind: usize,
    journal: Journal,
    control: Journal,
    random: Random,
    answers: Answers,
}

/// Whether another call makes sense on the same handle.
fn sound(answer: Answer) -> bool {
    !matches!(answer, Answer::Corrupt | Answer::Refused)
}

impl Worker {
    /// Whether all is over; waits as long as it is to keep still.
    fn over(&self, still: u64) -> bool {
        loop {
            match self.control.get(0) {
                OVER => return true,
                now if now == still => std::thread::sleep(Duration::from_micros(50)),
                _ => return false,
            }
        }
    }

    /// A call came back, with this answer.
    fn back(&mut self, answer: Answer) -> Answer {
        self.answers.note(answer);
        self.journal.set(ANSWERS + answer as usize, self.answers.of(answer));
        self.journal.set(CALLS, self.journal.get(CALLS) + 1);
        answer
    }

    /// Until which moment a call may wait.
    fn moment(&mut self) -> Duration {
        Duration::from_micros(self.random.below(3000))
    }

    fn work(mut self, work: Work) {
        let still = match work {
            Work::BytesOut | Work::SlotsOut => NO_SENDER,
            Work::BytesIn | Work::SlotsIn => NO_RECEIVER,
        };
        while !self.over(still) {
            let came = match work {
                Work::BytesOut => spsc::Sender::open(&self.path).map(|tx| self.bytes_out(tx)),
                Work::BytesIn => spsc::Receiver::open(&self.path).map(|rx| self.bytes_in(rx)),
                Work::SlotsOut => mpmc::Sender::open(&self.path).map(|tx| self.slots_out(tx)),
                Work::SlotsIn => mpmc::Receiver::open(&self.path).map(|rx| self.slots_in(&rx)),
            };
            self.back(came.map_or_else(refused, |()| Answer::Came));
            let info = quoit::inspect(&self.path).unwrap();
            assert!(info.used <= info.capacity);
        }
    }

    fn bytes_out(&mut self, mut tx: spsc::Sender) {
        let message = [7; bytes::MAX_LEN];
        let (mut answer, mut left) = (Answer::Came, self.random.below(2000));
        while sound(answer) && left > 0 && !self.over(NO_SENDER) {
            let (moment, len) = (self.moment(), self.random.below(600) as usize);
            let text = &message[..len];
            answer = match self.random.below(8) {
                0..3 => sent_in_time(tx.send_timeout(text, moment)),
                3 => sent_in_time(tx.send_batch_timeout(&[text, b"", text], moment).map(drop)),
                4 => match tx.reserve_timeout(len, moment) {
                    Ok(mut room) => {
                        room.write_at(len / 2, &text[len / 2..]).unwrap();
                        sent(room.commit_len(len / 2).map_err(TrySendError::from))
                    }
                    Err(why) => sent_in_time(Err(why)),
                },
                5 => {
                    let _ = (tx.len(), tx.is_full(), tx.is_disconnected(), tx.stats());
                    Answer::Told
                }
                _ => sent(tx.try_send(text)),
            };
            self.back(answer);
            left -= 1;
        }
    }

    fn slots_out(&mut self, mut tx: mpmc::Sender) {
        let max = Layout::of_file(self.kind - 1).max_len;
        let message = [7; 1024];
        let (mut answer, mut left) = (Answer::Came, self.random.below(2000));
        while sound(answer) && left > 0 && !self.over(NO_SENDER) {
            let (moment, len) = (self.moment(), self.random.below(max as u64 + 1) as usize);
            let text = &message[..len];
            answer = match self.random.below(8) {
                0..3 => sent_in_time(tx.send_timeout(text, moment)),
                3 => sent_in_time(tx.send_batch_timeout(&[text, b"", text], moment).map(drop)),
                4 => match tx.reserve_timeout(len, moment) {
                    Ok(mut room) => {
                        room.write_at(len / 2, &text[len / 2..]).unwrap();
                        sent(room.commit_len(len / 2).map_err(TrySendError::from))
                    }
                    Err(why) => sent_in_time(Err(why)),
                },
                5 => {
                    let _ = (tx.len(), tx.is_full(), tx.is_disconnected(), tx.stats());
                    tx.recover().map_or_else(faulty, |_| Answer::Repaired)
                }
                _ => sent(tx.try_send(text)),
            };
            self.back(answer);
            left -= 1;
        }
    }

    fn bytes_in(&mut self, mut rx: spsc::Receiver) {
        let mut to = Vec::new();
        let (mut answer, mut left) = (Answer::Came, self.random.below(2000));
        while sound(answer) && left > 0 && !self.over(NO_RECEIVER) {
            let moment = self.moment();
            answer = match self.random.below(8) {
                0..3 => received_in_time(
                    rx.recv_timeout(moment).map(|got| got.to_vec().len()),
                    bytes::MAX_LEN,
                ),
                3 => received_in_time(rx.recv_into_timeout(&mut to, moment), bytes::MAX_LEN),
                4 => received(
                    rx.try_recv().map(|got| {
                        let len = got.len();
                        got.give_back();
                        len
                    }),
                    bytes::MAX_LEN,
                ),
                5 => {
                    let _ = (rx.len(), rx.is_empty(), rx.is_disconnected(), rx.stats());
                    Answer::Told
                }
                _ => received(rx.try_recv_into(&mut to), bytes::MAX_LEN),
            };
            self.back(answer);
            left -= 1;
        }
    }

    fn slots_in(&mut self, rx: &mpmc::Receiver) {
        let max = Layout::of_file(self.kind - 1).max_len;
        let mut to = Vec::new();
        let (mut answer, mut left) = (Answer::Came, self.random.below(2000));
        while sound(answer) && left > 0 && !self.over(NO_RECEIVER) {
            let moment = self.moment();
            answer = match self.random.below(8) {
                0..3 => {
                    received_in_time(rx.recv_timeout(moment).map(|got| got.to_vec().len()), max)
                }
                3 => {
                    let mut some = Vec::new();
                    let got = rx.recv_batch_timeout(&mut some, 3, moment);
                    assert!(some.iter().all(|message| message.to_vec().len() <= max));
                    received_in_time(got, 3)
                }
                4 => received(
                    rx.try_recv().map(|got| {
                        let len = got.len();
                        got.give_back();
                        len
                    }),
                    max,
                ),
                5 => {
                    let _ = (rx.len(), rx.is_empty(), rx.is_disconnected(), rx.stats());
                    rx.recover().map_or_else(faulty, |_| Answer::Repaired)
                }
                6 => received_in_time(rx.recv_into_timeout(&mut to, moment), max),
                _ => received(rx.try_recv_into(&mut to), max),
            };
            self.back(answer);
            left -= 1;
        }
    }

    fn scribble(mut self) {
        let layout = Layout::of_file(self.kind.saturating_sub(1));
        let len = if self.kind == 0 { bytes::LEN } else { layout.len() };
        let (_map, memory) = Memory::of_file(&self.path, len);
        let image = memory.image();
        self.back(Answer::Came);
        while self.control.get(0) == 0 {
            std::thread::yield_now();
        }
        while self.control.get(0) != OVER {
            if self.control.get(0) != ALL {
                std::thread::sleep(Duration::from_micros(50));
                continue;
            }
            for _ in 0..self.random.below(400) {
                let hit = match self.kind {
                    0 => bytes::strike(memory, &mut self.random),
                    _ => layout.strike(memory, &mut self.random),
                };
                if self.random.once_in(2) {
                    memory.mend(hit);
                }
                self.back(Answer::Told);
            }
            if self.control.get(0) != ALL && self.random.once_in(2) {
                continue;
            }
            memory.restore(&image);
            std::thread::sleep(Duration::from_micros(self.random.below(2000)));
        }
        memory.restore(&image);
    }
}

fn refused(why: OpenError) -> Answer {
    // All seats are somebody's, as far as the table says.
    assert!(why.is_corrupt() || why.is_crowded(), "{why}");
    Answer::Refused
}

fn faulty(fault: Fault) -> Answer {
    assert!(fault.is_corrupt(), "{fault}");
    Answer::Corrupt
}

fn sent(done: Result<(), TrySendError>) -> Answer {
    match done {
        Ok(()) => Answer::Sent,
        Err(TrySendError::Full) => Answer::Full,
        Err(TrySendError::Disconnected { .. }) => Answer::Ended,
        Err(TrySendError::Fault(fault)) => faulty(fault),
        Err(other) => panic!("{other}"),
    }
}

fn sent_in_time(done: Result<(), SendTimeoutError>) -> Answer {
    match done {
        Ok(()) => Answer::Sent,
        Err(SendTimeoutError::Timeout { .. }) => Answer::TimedOut,
        Err(SendTimeoutError::Disconnected { .. }) => Answer::Ended,
        Err(SendTimeoutError::Fault(fault)) => faulty(fault),
        Err(other) => panic!("{other}"),
    }
}

fn received(done: Result<usize, TryRecvError>, max: usize) -> Answer {
    match done {
        Ok(len) => {
            assert!(len <= max, "{len}");
            Answer::Received
        }
        Err(TryRecvError::Empty) => Answer::Empty,
        Err(TryRecvError::Disconnected { .. }) => Answer::Ended,
        Err(TryRecvError::Fault(fault)) => faulty(fault),
        Err(other) => panic!("{other}"),
    }
}

fn received_in_time(done: Result<usize, RecvTimeoutError>, max: usize) -> Answer {
    match done {
        Err(RecvTimeoutError::Timeout { .. }) => Answer::TimedOut,
        Err(RecvTimeoutError::Disconnected { .. }) => Answer::Ended,
        Err(RecvTimeoutError::Fault(fault)) => faulty(fault),
        Err(other) => panic!("{other}"),
        Ok(len) => received(Ok(len), max),
    }
}

/// Calls that each of the others makes, and words that the scribbler writes at least.
fn enough() -> u64 {
    rounds(10_000, 1_000_000)
}

/// The scribbler comes first, and then a sender and a receiver in turn.
fn is_sender(index: usize) -> bool {
    index % 2 == 1
}

fn is_receiver(index: usize) -> bool {
    index % 2 == 0 && index > 0
}

fn claim(kind: usize, delivery: Delivery, pairs: usize) {
    let name = KINDS[kind];
    let seed = Random::seeded("scribbler").next() >> 1;
    let ring = Ring::made(Shape::default(), |path| match kind {
        0 => bytes::make(path, delivery),
        _ => slots::make(path, kind - 1, delivery),
    });
    let start = |what: &str| ring.process(&format!("{what} {name} {seed}"), 0);
    let mut all = vec![start("scribble")];
    // Before anybody else, who would be in its picture of the ring.
    ring.wait(&mut [], || all[0].journal.get(CALLS) != 0);
    for _ in 0..pairs {
        all.extend([start("send"), start("receive")]);
    }
    ring.signal(ALL);
    let calls = |all: &[Process]| -> Vec<u64> {
        all.iter().map(|process| process.journal.get(CALLS)).collect()
    };
    // Waits until those who work have come back from so many calls. Each comes back from one now and then, or the watchdog
    // wants to know.
    let make = |all: &mut [Process], works: fn(usize) -> bool, enough: u64| {
        let (began, mut before) = (calls(all), calls(all));
        loop {
            all.iter_mut().for_each(Process::still_there);
            let now = calls(all);
            let so = |than: &[u64], by: u64| {
                let mut working = (0..all.len()).filter(|&index| works(index));
                working.all(|index| now[index] >= than[index] + by)
            };
            if so(&began, enough) {
                return;
            }
            if so(&before, 1) {
                before = now;
                ring.alive();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    make(&mut all, |_| true, enough());
    for (still, works) in [(NO_SENDER, is_receiver as fn(usize) -> bool), (NO_RECEIVER, is_sender)]
    {
        ring.signal(still);
        make(&mut all, works, 200);
    }
    ring.signal(OVER);
    all.iter_mut().for_each(Process::finish);
    let sum = |answer: Answer| {
        all[1..].iter().map(|process| process.journal.get(ANSWERS + answer as usize)).sum::<u64>()
    };
    let mut answers = Answers::default();
    Answer::ALL.into_iter().for_each(|answer| answers.set(answer, sum(answer)));
    let words = all[0].journal.get(CALLS);
    say(&format!("scribbler at {name}, {delivery}: {words} words written: {answers}"));
    for answer in [Answer::Sent, Answer::Received, Answer::Corrupt] {
        assert!(answers.of(answer) > 0, "nobody was answered {answer:?}: {answers}");
    }
    drop(all);
    still_works(kind, &ring.path);
}

/// The scribbler has put back what was there at first; a locked seat or a spoiled handle is nobody's any more.
fn still_works(kind: usize, path: &str) {
    if kind == 0 {
        spsc::Sender::open(path).unwrap().try_send(b"as if nothing had been").unwrap();
        let mut rx = spsc::Receiver::open(path).unwrap();
        assert_eq!(rx.recv().unwrap().to_vec(), b"as if nothing had been");
    } else {
        mpmc::Sender::open(path).unwrap().try_send(b"as if nothing had been").unwrap();
        let rx = mpmc::Receiver::open(path).unwrap();
        assert_eq!(rx.recv().unwrap().to_vec(), b"as if nothing had been");
    }
}

#[test]
fn every_call_comes_back_while_somebody_scribbles_into_a_ring_of_bytes() {
    claim(0, Delivery::AtLeastOnce, 1);
    claim(0, Delivery::AtMostOnce, 1);
}

#[test]
fn every_call_comes_back_while_somebody_scribbles_into_a_ring_of_slots() {
    claim(1, Delivery::AtLeastOnce, 2);
    claim(2, Delivery::AtMostOnce, 2);
}
