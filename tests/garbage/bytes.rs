//! A ring of bytes to be tortured: a channel, whose memory is found by asking for a place in it, or a ring in a file.
//!
//! Knows where the words of such a ring lie (docs/memory-layout.md) and what its calls may answer.

use std::mem;
use std::time::Duration;

use quoit::spsc::{self, Message, Receiver, Sender};
use quoit::{Delivery, Options, TrySendError};

use crate::harness::Random;
use crate::torture::{
    Answer, Answers, CONTROL, CONTROL_LEN, Hit, Memory, Subject, garble,
    nobody_touched_what_is_nobodys,
};

const CAPACITY: usize = 4096;
pub(crate) const MAX_LEN: usize = CAPACITY / 2 - 64;
/// The length of such a ring.
pub(crate) const LEN: usize = CONTROL_LEN + CAPACITY;
const TAIL: usize = 0x1000;
const HEAD: usize = 0x2000;

/// Positions wrap ten lines after the beginning.
const START: u64 = 0u64.wrapping_sub(640);

/// How long a call waits that does.
const MOMENT: Duration = Duration::from_micros(20);

/// The ring, its ends, and what a message is read into.
pub(crate) struct Bytes {
    tx: Option<Sender>,
    rx: Option<Receiver>,
    memory: Memory,
    image: Vec<u64>,
    options: Options,
    file: Option<(String, memmap2::MmapRaw)>,
    buffer: Vec<u8>,
}

impl Bytes {
    /// A channel.
    pub(crate) fn channel(delivery: Delivery) -> Bytes {
        let options = options(delivery);
        let (tx, rx, memory) = channel(&options);
        let image = memory.image();
        let (tx, rx) = (Some(tx), Some(rx));
        Bytes { tx, rx, memory, image, options, file: None, buffer: vec![0; CAPACITY] }
    }

    /// A ring in a file.
    pub(crate) fn named(path: &str, delivery: Delivery) -> Bytes {
        let options = options(delivery);
        make(path, delivery);
        let (file, memory) = Memory::of_file(path, LEN);
        let (image, file) = (memory.image(), Some((path.to_owned(), file)));
        let buffer = vec![0; CAPACITY];
        let mut ring = Bytes { tx: None, rx: None, memory, image, options, file, buffer };
        ring.renew();
        ring
    }

    fn send(&mut self, random: &mut Random) -> Answer {
        let Some(tx) = &mut self.tx else { return Answer::Told };
        let longest = if random.once_in(4) { MAX_LEN as u64 + 2 } else { 300 };
        let len = random.below(longest) as usize;
        let sent = match random.below(16) {
            0..10 => tx.try_send(&self.buffer[..len]),
            10 | 11 => {
                let (a, b) = self.buffer[..len].split_at(len / 2);
                tx.try_send_batch(&[a, b, &[]]).map(|sent| assert!((1..=3).contains(&sent)))
            }
            12..15 => match tx.try_reserve(len) {
                Ok(mut room) => {
                    assert_eq!(room.len(), len);
                    let hit = random.once_in(4).then(|| strike(self.memory, random));
                    room.write_at(len / 3, &self.buffer[..len / 2]).unwrap();
                    hit.into_iter().for_each(|hit| self.memory.mend(hit));
                    match random.below(8) {
                        0 => return Answer::Abandoned,
                        1 => room.commit().map_err(TrySendError::from),
                        _ => room.commit_len(len / 2).map_err(TrySendError::from),
                    }
                }
                Err(refused) => Err(refused),
            },
            _ if random.once_in(64) => {
                let sent = tx.send_timeout(&self.buffer[..len], MOMENT);
                return Answer::to_timed_send(sent, len > MAX_LEN);
            }
            _ => tx.try_send(&self.buffer[..len]),
        };
        Answer::to_send(sent, len > MAX_LEN)
    }

    fn receive(&mut self, random: &mut Random) -> Answer {
        let Some(rx) = &mut self.rx else { return Answer::Told };
        let got = if random.once_in(1024) {
            rx.recv_timeout(MOMENT).map_err(Answer::to_timed_receive)
        } else {
            rx.try_recv().map_err(Answer::to_receive)
        };
        match got {
            Ok(message) => {
                let hit = random.once_in(4).then(|| strike(self.memory, random));
                let answer = read(message, &mut self.buffer, random);
                hit.into_iter().for_each(|hit| self.memory.mend(hit));
                answer
            }
            Err(answer) => answer,
        }
    }

    fn ask(&mut self, random: &mut Random) -> Answer {
        if let Some(tx) = &mut self.tx {
            assert!(tx.len() <= CAPACITY);
            let _ = (tx.is_full(), tx.is_empty(), tx.stats());
            if random.once_in(16) {
                let _ = tx.is_disconnected();
            }
        }
        if let Some(rx) = &mut self.rx {
            assert!(rx.len() <= CAPACITY);
            let _ = (rx.is_empty(), rx.stats());
            if random.once_in(16) {
                let _ = rx.is_disconnected();
            }
        }
        Answer::Told
    }

    /// Somebody leaves and comes again, or looks at the ring from outside; a channel has neither.
    fn come(&mut self, random: &mut Random) -> Answer {
        let Some((path, _)) = &self.file else { return Answer::Told };
        let came = match random.below(3) {
            0 => {
                self.tx = None;
                Sender::open(path).map(|tx| self.tx = Some(tx))
            }
            1 => {
                self.rx = None;
                Receiver::open(path).map(|rx| self.rx = Some(rx))
            }
            _ => quoit::inspect(path).map(|info| assert!(info.used <= info.capacity)),
        };
        match came {
            Ok(()) => Answer::Came,
            Err(error) if error.is_corrupt() => Answer::Refused,
            Err(other) => panic!("{other}"),
        }
    }
}

/// Makes such a ring in a file.
pub(crate) fn make(path: &str, delivery: Delivery) {
    spsc::create(path, &options(delivery)).unwrap();
}

fn options(delivery: Delivery) -> Options {
    Options::new().capacity(CAPACITY).start_position(START).delivery(delivery)
}

/// Makes a channel and finds its memory.
fn channel(options: &Options) -> (Sender, Receiver, Memory) {
    let (mut tx, rx) = spsc::channel(options).unwrap();
    let mut room = tx.try_reserve(8).unwrap();
    let at = START as usize % CAPACITY;
    // SAFETY: nothing is written through it now, and later only as atomics.
    let payload = unsafe { room.as_mut_ptr() };
    let base = payload.wrapping_sub(CONTROL_LEN + at + 16);
    drop(room);
    // SAFETY: the ring's memory begins so far before the payload of its first message; it lives as long as the handles, and
    // everybody uses it as atomics.
    let memory = unsafe { Memory::new(base, LEN) };
    (tx, rx, memory)
}

/// Takes a message: reads it all, and lets go of it in some way.
fn read(message: Message<'_>, buffer: &mut [u8], random: &mut Random) -> Answer {
    assert!(message.len() <= MAX_LEN, "{} bytes", message.len());
    assert_eq!(message.copy_to(buffer), message.len());
    assert_eq!(message.redelivered(), message.attempts() > 1);
    assert_eq!(message.position() % 64, 0);
    let again = message.redelivered();
    match random.below(16) {
        0 => {
            message.give_back();
            return Answer::GivenBack;
        }
        1 => {
            mem::forget(message);
            return Answer::Forgotten;
        }
        2 => assert!(message.to_vec().len() <= MAX_LEN),
        _ => drop(message),
    }
    if again { Answer::Again } else { Answer::Received }
}

/// Garbles a word: most often one that the next call looks at.
pub(crate) fn strike(memory: Memory, random: &mut Random) -> Hit {
    let lines = CAPACITY as u64 / 64;
    let line = |cursor: u64| CONTROL_LEN + cursor as usize % CAPACITY / 64 * 64;
    let at = match random.below(16) {
        0..4 => line(memory.get(HEAD)),
        4..6 => line(memory.get(TAIL)),
        6..9 => line(random.below(lines) * 64),
        9 => CONTROL_LEN + random.below(lines * 8) as usize * 8,
        _ => CONTROL[random.below(CONTROL.len() as u64) as usize],
    };
    memory.hit(at, |was| match random.below(5) {
        // A lap, or a part of it.
        0 => {
            let part = (CAPACITY >> random.below(3)) as u64;
            if random.once_in(2) { was.wrapping_add(part) } else { was.wrapping_sub(part) }
        }
        // A header of this line: another kind, another length.
        1 => {
            let position = (at - CONTROL_LEN.min(at)) as u64 / 64;
            let lengths =
                [0, 1, MAX_LEN as u64, MAX_LEN as u64 + 1, CAPACITY as u64, random.below(5000)];
            let len = lengths[random.below(6) as usize];
            (was >> 48).max(position) << 48 | (1 + random.below(4)) << 40 | (len + 1)
        }
        _ => garble(random, memory, was),
    })
}

impl Subject for Bytes {
    fn memory(&self) -> Memory {
        self.memory
    }

    fn hit(&self, random: &mut Random) -> Hit {
        strike(self.memory, random)
    }

    fn operate(&mut self, random: &mut Random, answers: &mut Answers) -> bool {
        let answer = match random.below(64) {
            0..28 => self.send(random),
            28..60 => self.receive(random),
            60 | 61 => self.ask(random),
            _ => self.come(random),
        };
        answers.note(answer);
        !matches!(answer, Answer::Corrupt | Answer::Refused | Answer::Ended)
    }

    fn renew(&mut self) {
        nobody_touched_what_is_nobodys(self.memory, &self.image);
        (self.tx, self.rx) = (None, None);
        if let Some((path, _)) = &self.file {
            self.memory.restore(&self.image);
            self.tx = Some(Sender::open(path).unwrap());
            self.rx = Some(Receiver::open(path).unwrap());
        } else {
            let (tx, rx, memory) = channel(&self.options);
            (self.tx, self.rx, self.memory) = (Some(tx), Some(rx), memory);
        }
        let (tx, rx) = (self.tx.as_mut().unwrap(), self.rx.as_mut().unwrap());
        tx.try_send(b"as if nothing had been").unwrap();
        assert_eq!(rx.try_recv().unwrap().to_vec(), b"as if nothing had been");
    }
}
