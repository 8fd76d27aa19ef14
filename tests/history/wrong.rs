//! A ring as textbooks have it, between processes, with a fault that shows now and then: what the check must find.
//!
//! Knows nothing of quoit. A sequence number in each cell and two shared cursors; without a fault it is a right queue as long
//! as nobody dies. Its calls do not wait: who must wait calls again.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::time::Duration;

use crate::harness::Random;
use crate::journal::Journal;
use crate::log::{Said, Then, id_of};
use crate::worker::Worker;

/// Cells.
pub(crate) const CELLS: u64 = 16;

const TAIL: usize = 0;
const HEAD: usize = 8;
const FAULT: usize = 16;
/// Cells from here on: two words each.
const CELL: usize = 24;

/// What is wrong, once in so many calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Nothing,
    /// What is taken is still there.
    Twice,
    /// What is taken is thrown away.
    Lost,
    /// What is behind the next message is taken first.
    Swapped,
    /// What was sent is there only when the next is.
    Late,
    /// Empty, though something is there.
    Empty,
    /// Full, though there is room.
    Full,
    /// A cell is free before its message is released.
    Early,
}

impl Fault {
    pub(crate) const ALL: [Fault; 8] = [
        Fault::Nothing,
        Fault::Twice,
        Fault::Lost,
        Fault::Swapped,
        Fault::Late,
        Fault::Empty,
        Fault::Full,
        Fault::Early,
    ];
}

const ONCE_IN: u64 = 500;

/// The ring, in a file.
pub(crate) struct Ring {
    words: Journal,
    fault: Fault,
    /// A cell whose message was sent late.
    late: Option<u64>,
}

fn cell(at: u64) -> usize {
    CELL + 2 * (at % CELLS) as usize
}

impl Ring {
    pub(crate) fn create(path: &str, fault: Fault) {
        let words = Journal::create(path, CELL + 2 * CELLS as usize);
        (0..CELLS).for_each(|at| words.set(cell(at), at));
        words.set(FAULT, fault as u64);
    }

    fn open(path: &str) -> Ring {
        let words = Journal::open(path);
        let fault = Fault::ALL[words.get(FAULT) as usize];
        Ring { words, fault, late: None }
    }

    fn fails(&self, fault: Fault, random: &mut Random) -> bool {
        self.fault == fault && random.once_in(ONCE_IN)
    }

    /// Moves a cursor over the cell that it stands at, once the cell's number is what it must be.
    fn claim(&self, cursor: usize, ahead: u64) -> Option<u64> {
        let cursor = self.words.word(cursor);
        let mut at = cursor.load(Relaxed);
        loop {
            let number = self.words.word(cell(at)).load(Acquire);
            match number.cmp(&(at + ahead)) {
                std::cmp::Ordering::Equal => {
                    match cursor.compare_exchange(at, at + 1, AcqRel, Relaxed) {
                        Ok(_) => return Some(at),
                        Err(now) => at = now,
                    }
                }
                std::cmp::Ordering::Less => return None,
                std::cmp::Ordering::Greater => at = cursor.load(Relaxed),
            }
        }
    }

    fn publish(&self, at: u64) {
        self.words.word(cell(at)).store(at + 1, Release);
    }

    fn push(&mut self, id: u64, random: &mut Random) -> bool {
        if self.fails(Fault::Full, random) {
            return false;
        }
        let Some(at) = self.claim(TAIL, 0) else {
            self.flush();
            return false;
        };
        self.words.word(cell(at) + 1).store(id, Relaxed);
        self.flush();
        if self.fails(Fault::Late, random) {
            self.late = Some(at);
        } else {
            self.publish(at);
        }
        true
    }

    fn flush(&mut self) {
        if let Some(at) = self.late.take() {
            self.publish(at);
        }
    }

    /// A message: its id and its place, and whether its cell is to be released.
    fn pop(&mut self, random: &mut Random) -> Option<(u64, u64, bool)> {
        if self.fails(Fault::Empty, random) {
            return None;
        }
        let value = |at: u64| self.words.word(cell(at) + 1);
        if self.fails(Fault::Twice, random) {
            let at = self.words.get(HEAD);
            if self.words.get(cell(at)) == at + 1 {
                return Some((value(at).load(Relaxed), at, false));
            }
        }
        let at = self.claim(HEAD, 1)?;
        if self.fails(Fault::Lost, random) {
            self.release(at);
            return self.pop(random);
        }
        let next = at + 1;
        if self.fails(Fault::Swapped, random) && self.words.get(cell(next)) == next + 1 {
            let (first, second) = (value(at).load(Relaxed), value(next).load(Relaxed));
            value(next).store(first, Relaxed);
            value(at).store(second, Relaxed);
        }
        let id = value(at).load(Relaxed);
        let early = self.fails(Fault::Early, random);
        if early {
            self.release(at);
        }
        Some((id, at, !early))
    }

    fn release(&self, at: u64) {
        self.words.word(cell(at)).store(at + CELLS, Release);
    }
}

pub(crate) fn sends(worker: &mut Worker, messages: u64) {
    let mut ring = Ring::open(&format!("{}.wrong", worker.path));
    worker.begin();
    let (mut next, mut refusals) = (0, 0);
    while next < messages {
        let id = id_of(worker.number, next);
        let random = &mut worker.random;
        let sent = worker
            .log
            .send(id, 1, || if ring.push(id, random) { Ok(1) } else { Err(Said::NotNow) });
        match sent {
            Ok(_) => {
                (next, refusals) = (next + 1, 0);
                if ring.late.is_some() {
                    // Long enough for others to see that it is not there.
                    std::thread::sleep(Duration::from_micros(300));
                }
            }
            Err(_) => {
                refusals += 1;
                worker.refused(refusals);
            }
        }
        worker.tell_progress(next);
    }
    ring.flush();
}

pub(crate) fn receives(worker: &mut Worker) {
    let mut ring = Ring::open(&format!("{}.wrong", worker.path));
    worker.begin();
    let (mut refusals, mut calls) = (0, 0);
    loop {
        // Before the look: what was sent before the end is seen with it.
        let over = worker.is_over();
        let random = &mut worker.random;
        let call = || ring.pop(random).map(|message| vec![message]).ok_or(Said::NotNow);
        match worker.log.receive(call, |&(id, at, _)| (id, at, 1)) {
            Ok(held) => {
                refusals = 0;
                for ((_, at, held), entry) in held {
                    worker.linger();
                    if !held {
                        // Long enough for others to see to it.
                        std::thread::sleep(Duration::from_micros(300));
                    }
                    worker.log.then(entry, Then::Release, || {
                        if held {
                            ring.release(at);
                        }
                    });
                }
            }
            // The fault is not at work every time.
            Err(_) if over && refusals > 8 => break,
            Err(_) => {
                refusals += 1;
                worker.refused(refusals);
            }
        }
        calls += 1;
        worker.tell_progress(calls);
    }
}
