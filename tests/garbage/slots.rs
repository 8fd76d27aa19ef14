//! A ring of slots to be tortured: a channel, whose memory is found by asking for a place in it, or a ring in a file.
//!
//! Knows where the words of such a ring lie (docs/memory-layout.md) and what its calls may answer.

use std::mem;
use std::time::Duration;

use quoit::mpmc::{self, Message, Receiver, Sender};
use quoit::{Delivery, Fault, Options, TrySendError};

use crate::harness::Random;
use crate::torture::{
    Answer, Answers, CONTROL, CONTROL_LEN, Hit, Memory, Subject, garble,
    nobody_touched_what_is_nobodys,
};

const SLOTS: u64 = 8;
/// Slots of one line, or of several.
const LENGTHS: [usize; 2] = [48, 960];
const SEAT: usize = 128;
const TAIL: usize = 0x1000;
const HEAD: usize = 0x2000;

/// Positions wrap five slots after the beginning.
const START: u64 = 0u64.wrapping_sub(5);

/// How long a call waits that does.
const MOMENT: Duration = Duration::from_micros(20);

/// How a ring of slots lies in its memory.
#[derive(Clone, Copy)]
pub(crate) struct Layout {
    pub(crate) max_len: usize,
    seats: usize,
}

impl Layout {
    /// That of a file.
    pub(crate) fn of_file(which: usize) -> Layout {
        Layout { max_len: LENGTHS[which], seats: 1024 }
    }

    fn table(self) -> usize {
        CONTROL_LEN + self.seats * SEAT
    }

    fn payload(self) -> usize {
        if self.max_len >= 192 { 64 } else { 16 }
    }

    fn stride(self) -> usize {
        (self.payload() + self.max_len).next_multiple_of(64)
    }

    fn slot(self, index: u64) -> usize {
        self.table() + (index % SLOTS) as usize * self.stride()
    }

    pub(crate) fn len(self) -> usize {
        self.slot(SLOTS - 1) + self.stride()
    }

    /// Garbles a word: most often one that the next call looks at.
    pub(crate) fn strike(self, memory: Memory, random: &mut Random) -> Hit {
        let at = match random.below(16) {
            0..3 => self.slot(memory.get(HEAD)),
            3..5 => self.slot(memory.get(TAIL)),
            5..8 => self.slot(random.below(SLOTS)),
            8 => self.slot(random.below(SLOTS)) + 8,
            9 => self.table() + random.below((self.len() - self.table()) as u64 / 8) as usize * 8,
            10 | 11 => {
                let seat = [0, 1, 2, 3, self.seats as u64 - 1][random.below(5) as usize];
                let seat = seat as usize % self.seats;
                CONTROL_LEN + seat * SEAT + random.below(16) as usize * 8
            }
            _ => CONTROL[random.below(CONTROL.len() as u64) as usize],
        };
        memory.hit(at, |was| match random.below(8) {
            // A lap more or less, another state, another owner, another length.
            0 => was.wrapping_add(1 << 16).wrapping_sub(random.below(2) << 17),
            1 => was & !0xf | random.below(8),
            2 => was & !0xffff | random.below(self.seats as u64 + 2) << 4 | random.below(6),
            3 => was & !0xffff_ffff | (self.max_len as u64 + 2).wrapping_sub(random.below(4)),
            _ => garble(random, memory, was),
        })
    }
}

/// Makes such a ring in a file.
pub(crate) fn make(path: &str, which: usize, delivery: Delivery) {
    let options = Options::new().capacity(SLOTS as usize).start_position(START);
    mpmc::create(path, &options.max_len(LENGTHS[which]).delivery(delivery)).unwrap();
}

/// The ring, and who uses it.
pub(crate) struct Slots {
    tx: Option<Sender>,
    rx: Option<Receiver>,
    /// Of a channel: those whose clones use it.
    first: Option<(Sender, Receiver)>,
    file: Option<(String, memmap2::MmapRaw)>,
    layout: Layout,
    memory: Memory,
    image: Vec<u64>,
    buffer: Vec<u8>,
}

impl Slots {
    /// A channel.
    pub(crate) fn channel(which: usize) -> Slots {
        let layout = Layout { max_len: LENGTHS[which], seats: 2 };
        let options = Options::new().capacity(SLOTS as usize).start_position(START);
        let (mut tx, rx) = mpmc::channel(&options.max_len(layout.max_len)).unwrap();
        let mut room = tx.try_reserve(8).unwrap();
        // SAFETY: nothing is written through it now, and later only as atomics.
        let payload = unsafe { room.as_mut_ptr() };
        let base = payload.wrapping_sub(layout.slot(START) + layout.payload());
        room.commit().unwrap();
        drop(rx.try_recv().unwrap());
        // SAFETY: the ring's memory begins so far before the payload of its first message; it lives as long as the handles,
        // and everybody uses it as atomics.
        let memory = unsafe { Memory::new(base, layout.len()) };
        Slots::of(layout, memory, Some((tx, rx)), None)
    }

    /// A ring in a file.
    pub(crate) fn named(path: &str, which: usize, delivery: Delivery) -> Slots {
        let layout = Layout::of_file(which);
        make(path, which, delivery);
        let (file, memory) = Memory::of_file(path, layout.len());
        Slots::of(layout, memory, None, Some((path.to_owned(), file)))
    }

    fn of(
        layout: Layout,
        memory: Memory,
        first: Option<(Sender, Receiver)>,
        file: Option<(String, memmap2::MmapRaw)>,
    ) -> Slots {
        let (image, buffer) = (memory.image(), vec![0; 1024]);
        let mut ring = Slots { tx: None, rx: None, first, file, layout, memory, image, buffer };
        ring.renew();
        ring
    }

    fn send(&mut self, random: &mut Random) -> Answer {
        let Some(tx) = &mut self.tx else { return Answer::Told };
        let max = self.layout.max_len;
        let len = random.below(max as u64 + 2) as usize;
        let sent = match random.below(16) {
            0..10 => tx.try_send(&self.buffer[..len]),
            10 | 11 => {
                let (a, b) = self.buffer[..len].split_at(len / 2);
                tx.try_send_batch(&[a, b, &[]]).map(|sent| assert!((1..=3).contains(&sent)))
            }
            12..15 => match tx.try_reserve(len) {
                Ok(mut room) => {
                    assert_eq!(room.len(), len);
                    let hit = random.once_in(4).then(|| self.layout.strike(self.memory, random));
                    room.write_at(len / 3, &self.buffer[..len / 2]).unwrap();
                    hit.into_iter().for_each(|hit| self.memory.mend(hit));
                    match random.below(8) {
                        0 => return Answer::Abandoned,
                        1 if random.once_in(16) => {
                            mem::forget(room);
                            return Answer::Forgotten;
                        }
                        2 => room.commit().map_err(TrySendError::from),
                        _ => room.commit_len(len / 2).map_err(TrySendError::from),
                    }
                }
                Err(refused) => Err(refused),
            },
            _ if random.once_in(64) => {
                let sent = tx.send_timeout(&self.buffer[..len], MOMENT);
                return Answer::to_timed_send(sent, len > max);
            }
            _ => tx.try_send(&self.buffer[..len]),
        };
        Answer::to_send(sent, len > max)
    }

    fn receive(&mut self, random: &mut Random) -> Answer {
        let Some(rx) = &self.rx else { return Answer::Told };
        let mut some = Vec::new();
        let got = match random.below(16) {
            0 | 1 => rx
                .try_recv_batch(&mut some, 3)
                .map(|got| assert!((1..=3).contains(&got)))
                .map_err(Answer::to_receive),
            2 if random.once_in(64) => rx
                .recv_timeout(MOMENT)
                .map(|message| some.push(message))
                .map_err(Answer::to_timed_receive),
            _ => rx.try_recv().map(|message| some.push(message)).map_err(Answer::to_receive),
        };
        let hit = random.once_in(4).then(|| self.layout.strike(self.memory, random));
        let mut answer = got.err().unwrap_or(Answer::Received);
        for message in some {
            answer = read(message, self.layout.max_len, &mut self.buffer, random);
        }
        hit.into_iter().for_each(|hit| self.memory.mend(hit));
        answer
    }

    fn ask(&mut self, random: &mut Random) -> Answer {
        if let Some(tx) = &self.tx {
            assert!(tx.len() <= SLOTS as usize);
            let _ = (tx.is_full(), tx.is_empty(), tx.stats());
            if random.once_in(16) {
                let _ = tx.is_disconnected();
            }
        }
        if let Some(rx) = &self.rx {
            assert!(rx.len() <= SLOTS as usize);
            let _ = (rx.is_empty(), rx.stats());
            if random.once_in(16) {
                let _ = rx.is_disconnected();
            }
        }
        Answer::Told
    }

    /// Somebody leaves and comes again, repairs, or looks at the ring from outside.
    fn come(&mut self, random: &mut Random) -> Answer {
        let Some((path, _)) = &self.file else {
            // A clone of one that has seen all of it.
            self.tx = self.tx.clone();
            self.rx = self.rx.clone();
            return Answer::Came;
        };
        let came = match random.below(6) {
            0 => {
                self.tx = None;
                Sender::open(path).map(|tx| self.tx = Some(tx))
            }
            1 => {
                self.rx = None;
                Receiver::open(path).map(|rx| self.rx = Some(rx))
            }
            2 => quoit::recover(path).map(drop),
            3 => return self.rx.as_ref().map_or(Answer::Told, |rx| recovered(rx.recover())),
            4 => return self.tx.as_ref().map_or(Answer::Told, |tx| recovered(tx.recover())),
            _ => quoit::inspect(path).map(|info| assert!(info.used <= info.capacity)),
        };
        match came {
            Ok(()) => Answer::Came,
            Err(error) if error.is_corrupt() => Answer::Refused,
            // All seats are somebody's, as far as the table says.
            Err(error) if error.is_crowded() => Answer::Refused,
            Err(other) => panic!("{other}"),
        }
    }
}

fn recovered(done: Result<quoit::Recovered, Fault>) -> Answer {
    match done {
        Ok(done) => {
            assert!(done.skipped + done.redelivered + done.lost <= SLOTS, "{done:?}");
            Answer::Repaired
        }
        // What the handle had met before.
        Err(Fault::Corrupt { .. }) => Answer::Corrupt,
        Err(other) => panic!("{other}"),
    }
}

/// Takes a message: reads it all, and lets go of it in some way.
fn read(message: Message<'_>, max: usize, buffer: &mut [u8], random: &mut Random) -> Answer {
    assert!(message.len() <= max, "{} bytes", message.len());
    assert_eq!(message.copy_to(buffer), message.len());
    assert_eq!(message.redelivered(), message.attempts() > 1);
    let again = message.redelivered();
    match random.below(64) {
        0..4 => {
            message.give_back();
            return Answer::GivenBack;
        }
        4 => {
            mem::forget(message);
            return Answer::Forgotten;
        }
        5..10 => assert!(message.to_vec().len() <= max),
        _ => drop(message),
    }
    if again { Answer::Again } else { Answer::Received }
}

impl Subject for Slots {
    fn memory(&self) -> Memory {
        self.memory
    }

    fn hit(&self, random: &mut Random) -> Hit {
        self.layout.strike(self.memory, random)
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
        self.memory.restore(&self.image);
        if let Some((path, _)) = &self.file {
            self.tx = Some(Sender::open(path).unwrap());
            self.rx = Some(Receiver::open(path).unwrap());
        } else {
            let (tx, rx) = self.first.as_ref().unwrap();
            (self.tx, self.rx) = (Some(tx.clone()), Some(rx.clone()));
        }
        let (tx, rx) = (self.tx.as_ref().unwrap(), self.rx.as_ref().unwrap());
        tx.try_send(b"as if nothing had been").unwrap();
        assert_eq!(rx.try_recv().unwrap().to_vec(), b"as if nothing had been");
    }
}
