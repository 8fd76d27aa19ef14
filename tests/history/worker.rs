//! What the other processes do: call, by every verb, and write it down.
//!
//! Knows the ring's calls and the log. Knows nothing of what may follow from what.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quoit::Wait;
use quoit::mpmc::{Message, Receiver, Sender};

use crate::harness::{Random, WORKER};
use crate::journal::Journal;
use crate::log::{BATCH, Call, Log, Said, Then, id_of};
use crate::notes::{COUNT, GO, READY};
use crate::wrong;

/// How far a worker has come: it has a handle, and it has let go of it.
pub(crate) const BEGUN: u64 = 1;
pub(crate) const DONE: u64 = 2;

/// After so many refusals in a row somebody who only tries lets others work for a moment.
const IMPATIENCE: u64 = 64;

/// How a worker calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// By every verb.
    Mixed,
    /// By those that wait.
    Blocking,
    /// By those that do not.
    Trying,
    /// As mixed, and much of it comes to nothing: claims given up, messages given back.
    Fickle,
}

impl Manner {
    pub(crate) const ALL: [Manner; 4] =
        [Manner::Mixed, Manner::Blocking, Manner::Trying, Manner::Fickle];

    fn named(name: &str) -> Manner {
        Manner::ALL.into_iter().find(|manner| format!("{manner:?}") == name).unwrap()
    }
}

/// This process, when it is one of the workers.
pub(crate) struct Worker {
    pub(crate) number: u64,
    pub(crate) path: String,
    pub(crate) random: Random,
    pub(crate) log: Log,
    journal: Journal,
    control: Journal,
}

/// Where the log of a worker is.
pub(crate) fn log_of(logs: &Path, number: u64) -> PathBuf {
    logs.join(number.to_string())
}

/// Works until it is done or killed.
pub(crate) fn run() {
    let Ok(work) = std::env::var(WORKER) else { return };
    // SAFETY: prctl and alarm take numbers only. Whatever happens to the test, its children end.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    // SAFETY: as above.
    unsafe { libc::alarm(900) };
    let words: Vec<&str> = work.split(' ').collect();
    let [number, path, logs, room, role, messages, manner] = words[..] else {
        panic!("no such work: {work}")
    };
    let journal = Journal::open(&format!("{path}.{number}"));
    let control = Journal::open(&format!("{path}.control"));
    let number: u64 = number.parse().unwrap();
    let mut worker = Worker {
        number,
        path: path.to_owned(),
        random: Random(number * 0x1_0001),
        log: Log::create(&log_of(Path::new(logs), number), room.parse().unwrap()),
        journal,
        control,
    };
    let messages: u64 = messages.parse().unwrap();
    match role {
        "sender" => worker.sends(messages, Manner::named(manner)),
        "receiver" => worker.receives(Manner::named(manner)),
        "wrong-sender" => wrong::sends(&mut worker, messages),
        "wrong-receiver" => wrong::receives(&mut worker),
        _ => panic!("no such role: {role}"),
    }
    worker.journal.set(COUNT, worker.log.len() as u64);
    worker.journal.set(READY, DONE);
    // Until somebody has seen that.
    worker.until(|worker| worker.journal.get(GO) != 0);
}

fn try_send_error(error: quoit::TrySendError) -> Said {
    match error {
        _ if error.is_full() => Said::NotNow,
        _ if error.is_disconnected() => Said::Ended,
        _ => panic!("{error}"),
    }
}

fn send_error(error: quoit::SendTimeoutError) -> Said {
    match error {
        _ if error.is_timeout() => Said::TimedOut,
        _ if error.is_disconnected() => Said::Ended,
        _ => panic!("{error}"),
    }
}

fn waited(error: quoit::SendError) -> Said {
    assert!(error.is_disconnected(), "{error}");
    Said::Ended
}

fn try_recv_error(error: quoit::TryRecvError) -> Said {
    match error {
        _ if error.is_empty() => Said::NotNow,
        _ if error.is_disconnected() => Said::Ended,
        _ => panic!("{error}"),
    }
}

fn recv_error(error: quoit::RecvTimeoutError) -> Said {
    match error {
        _ if error.is_timeout() => Said::TimedOut,
        _ if error.is_disconnected() => Said::Ended,
        _ => panic!("{error}"),
    }
}

/// A message: its id, and that again in other bits.
pub(crate) fn body(id: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&id.to_le_bytes());
    bytes[8..].copy_from_slice(&(!id).to_le_bytes());
    bytes
}

/// What a message says of itself.
pub(crate) fn tell(message: &Message<'_>) -> (u64, u64, u32) {
    let mut bytes = [0; 16];
    assert_eq!((message.len(), message.copy_to(&mut bytes)), (16, 16));
    let id = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    assert_eq!(bytes, body(id), "not what was sent");
    assert_eq!(message.redelivered(), message.attempts() > 1);
    (id, message.position(), message.attempts())
}

impl Worker {
    fn until(&self, so: impl Fn(&Worker) -> bool) {
        while !so(self) {
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    /// Has a handle, and waits for the beginning of everybody's work.
    pub(crate) fn begin(&self) {
        self.journal.set(READY, BEGUN);
        self.until(|worker| worker.control.get(0) != 0);
    }

    /// Whether everybody is to end.
    pub(crate) fn is_over(&self) -> bool {
        self.control.get(0) >= 2
    }

    /// How far it has come, now and then.
    pub(crate) fn tell_progress(&self, count: u64) {
        if count % 256 == 0 {
            self.journal.set(COUNT, count);
        }
    }

    /// A short deadline.
    fn moment(&mut self) -> Duration {
        Duration::from_micros(self.random.below(200))
    }

    fn some_wait(&mut self) -> Wait {
        match self.random.below(8) {
            0 => Wait::Spin,
            1..=3 => Wait::Adaptive,
            _ => Wait::Block,
        }
    }

    /// Holds on for a moment, seldom long.
    pub(crate) fn linger(&mut self) {
        match self.random.below(64) {
            0 => std::thread::sleep(Duration::from_micros(self.random.below(100))),
            1 => std::thread::yield_now(),
            2..=5 => (0..self.random.below(200)).for_each(|_| std::hint::spin_loop()),
            _ => {}
        }
    }

    /// Lets others work, the more the longer nothing came of it.
    pub(crate) fn refused(&self, in_a_row: u64) {
        if in_a_row % IMPATIENCE == 0 {
            std::thread::sleep(Duration::from_micros(20));
        } else if in_a_row % 8 == 0 {
            std::thread::yield_now();
        }
    }

    fn sends(&mut self, messages: u64, manner: Manner) {
        let path = self.path.clone();
        let mut tx = self.log.around(Call::OpenSender, || Sender::open(&path).unwrap());
        tx.set_wait(self.some_wait());
        self.begin();
        let (mut next, mut refusals, mut calls) = (0, 0, 0);
        while next < messages && !self.is_over() {
            let most = BATCH.min((messages - next) as usize);
            match self.send(&mut tx, id_of(self.number, next), most, manner) {
                Ok(sent) => {
                    next += sent as u64;
                    refusals = 0;
                }
                Err(Said::Ended) => std::thread::yield_now(),
                Err(_) => {
                    refusals += 1;
                    self.refused(refusals);
                }
            }
            calls += 1;
            self.tell_progress(calls);
        }
        self.log.around(Call::Leave, || drop(tx));
    }

    /// Sends message `id`, or it and up to `most` from it on; answers how many were sent.
    fn send(
        &mut self,
        tx: &mut Sender,
        id: u64,
        most: usize,
        manner: Manner,
    ) -> Result<usize, Said> {
        let message = body(id);
        let batch: [_; BATCH] = std::array::from_fn(|at| body(id + at as u64));
        let some = 1 + self.random.below(most as u64) as usize;
        let batch = &batch[..some];
        let moment = self.moment();
        // 0: waits. 1: tries. 2: waits for a moment. 3, 4: a batch, waiting and trying. 5, 6: in place, waiting and trying.
        // 7: in place, and comes to nothing.
        let way = match manner {
            Manner::Mixed => [0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 3, 4, 5, 6, 7, 0],
            Manner::Blocking => [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 3, 5, 5, 5],
            Manner::Trying => [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 4, 4, 6, 6, 7],
            Manner::Fickle => [0, 0, 1, 1, 2, 3, 4, 5, 5, 6, 6, 7, 7, 7, 7, 7],
        }[self.random.below(16) as usize];
        match way {
            0 => self.log.send(id, 1, || tx.send(&message).map(|()| 1).map_err(waited)),
            1 => self.log.send(id, 1, || tx.try_send(&message).map(|()| 1).map_err(try_send_error)),
            2 => self
                .log
                .send(id, 1, || tx.send_timeout(&message, moment).map(|()| 1).map_err(send_error)),
            3 => self.log.send(id, some, || tx.send_batch(batch).map_err(waited)),
            4 => self.log.send(id, some, || tx.try_send_batch(batch).map_err(try_send_error)),
            _ => {
                let reserved = self.log.reserve(id, || match way {
                    5 => tx.reserve(16).map_err(waited),
                    _ => tx.try_reserve(16).map_err(try_send_error),
                });
                let (mut claim, entry) = reserved?;
                if way == 7 {
                    claim.write_all(&[0xee; 16]).unwrap();
                    self.linger();
                    self.log.then(entry, Then::Drop, || drop(claim));
                    return Ok(0);
                }
                claim.write_all(&message).unwrap();
                self.linger();
                self.log.then(entry, Then::Commit, || claim.commit()).unwrap();
                Ok(1)
            }
        }
    }

    fn receives(&mut self, manner: Manner) {
        let path = self.path.clone();
        let rx = self.log.around(Call::OpenReceiver, || Receiver::open(&path).unwrap());
        rx.set_wait(self.some_wait());
        self.begin();
        let (mut refusals, mut calls) = (0, 0);
        loop {
            match self.receive(&rx, manner) {
                Ok(held) => {
                    refusals = 0;
                    for (message, entry) in held {
                        self.linger();
                        if self.random.once_in(if manner == Manner::Fickle { 8 } else { 64 }) {
                            self.log.then(entry, Then::GiveBack, || message.give_back());
                        } else {
                            self.log.then(entry, Then::Release, || drop(message));
                        }
                    }
                }
                // Where senders are killed others come; until it is over.
                Err(Said::Ended) if self.is_over() => break,
                Err(Said::Ended) => self.refused(IMPATIENCE),
                Err(_) => {
                    refusals += 1;
                    self.refused(refusals);
                }
            }
            calls += 1;
            self.tell_progress(calls);
        }
        self.log.around(Call::Leave, || drop(rx));
    }

    fn receive<'a>(
        &mut self,
        rx: &'a Receiver,
        manner: Manner,
    ) -> Result<Vec<(Message<'a>, usize)>, Said> {
        let some = 1 + self.random.below(BATCH as u64) as usize;
        let moment = self.moment();
        // 0: waits. 1: tries. 2: waits for a moment. 3, 4: several, waiting and trying.
        let way = match manner {
            Manner::Mixed | Manner::Fickle => [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 3, 3, 4, 4],
            Manner::Blocking => [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 3, 3, 3],
            Manner::Trying => [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 4, 4, 4],
        }[self.random.below(16) as usize];
        let call = || {
            let mut held = Vec::new();
            match way {
                0 => held.push(rx.recv().map_err(|error| {
                    assert!(error.is_disconnected(), "{error}");
                    Said::Ended
                })?),
                1 => held.push(rx.try_recv().map_err(try_recv_error)?),
                2 => held.push(rx.recv_timeout(moment).map_err(recv_error)?),
                3 => drop(rx.recv_batch(&mut held, some).map_err(|error| {
                    assert!(error.is_disconnected(), "{error}");
                    Said::Ended
                })?),
                _ => drop(rx.try_recv_batch(&mut held, some).map_err(try_recv_error)?),
            }
            Ok(held)
        };
        self.log.receive(call, tell)
    }
}
