//! What the other processes share: who they are, their journals, and the clock on every call.
//!
//! Knows the journal's words and the ring's calls. What a worker works at is told where its claim is.

use std::time::Duration;

use quoit::Wait;
use quoit::mpmc::{Message, Receiver, Sender};

use crate::harness::{Random, WORKER, now};
use crate::journal::Journal;
use crate::notes::{
    DOING, Doing, ENDS, GO, LONGEST, OVERRUNS, READY, SEAT, SINCE, SPANS, THREAD, TIMEOUTS,
};
use crate::{busy, bytes, flow, names, nursery, restarts, seats, stalled, storm, wakes};

/// This process, when it is one of the workers.
pub(crate) struct Worker {
    pub(crate) number: u64,
    pub(crate) path: String,
    pub(crate) journal: Journal,
    pub(crate) random: Random,
    control: Journal,
}

/// So many seconds after it was last asked, a process whose test is gone is no more.
pub(crate) const FORSAKEN: u32 = 900;

/// Does what the environment says, if it does.
pub(crate) fn run() {
    if let Ok(work) = std::env::var(WORKER) {
        work_at(&work);
    }
}

/// Works until it is done or killed.
pub(crate) fn work_at(work: &str) {
    // SAFETY: prctl and alarm take numbers only. Whatever happens to the test, its children end.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    // SAFETY: as above.
    unsafe { libc::alarm(FORSAKEN) };
    let words: Vec<&str> = work.split(' ').collect();
    if words[2..] == ["nursery"] {
        return nursery::run();
    }
    let (number, path) = (words[0], words[1].to_owned());
    let journal = Journal::open(&format!("{path}.{number}"));
    let control = Journal::open(&format!("{path}.control"));
    let number = number.parse().unwrap();
    let random = Random(number * 0x1_0001);
    let mut worker = Worker { number, path, journal, random, control };
    // SAFETY: gettid takes nothing.
    worker.journal.set(THREAD, unsafe { libc::gettid() } as u64);
    match words[2..] {
        ["storm", "sender"] => storm::sender(&mut worker),
        ["storm", "receiver"] => storm::receiver(&mut worker),
        ["bytes", "sender", wait] => bytes::sender(&mut worker, wait),
        ["bytes", "receiver", wait] => bytes::receiver(&mut worker, wait),
        ["restart", kind, role, way] => restarts::take_part(&mut worker, kind, role, way),
        ["flow", "sender", index, each] => {
            flow::sender(&mut worker, index.parse().unwrap(), each.parse().unwrap());
        }
        ["flow", "receiver", each] => flow::receiver(&mut worker, each.parse().unwrap()),
        ["busy", "sender", index, most] => {
            busy::sender(&mut worker, index.parse().unwrap(), most.parse().unwrap());
        }
        ["busy", "receiver", most] => busy::receiver(&mut worker, most.parse().unwrap()),
        ["claim", number, wait] => stalled::claim(&worker, number.parse().unwrap(), wait),
        ["hold", count] => stalled::hold(&worker, count.parse().unwrap()),
        ["idle", role] => stalled::idle(&worker, role),
        ["names", "create", rounds] => names::create(&worker, rounds.parse().unwrap()),
        ["names", "meet", rounds] => names::meet(&worker, rounds.parse().unwrap()),
        ["names", "scramble", times] => names::scramble(&mut worker, times.parse().unwrap()),
        ["sit", count] => seats::sit(&worker, count.parse().unwrap()),
        ["sleep", "receiver", wait] => wakes::receiver(&worker, wait),
        ["sleep", "sender", wait, id] => wakes::sender(&worker, wait, id.parse().unwrap()),
        _ => panic!("no such work: {work}"),
    }
}

/// A way to wait, by its name.
pub(crate) fn wait(name: &str) -> Wait {
    match name {
        "Block" => Wait::Block,
        "Adaptive" => Wait::Adaptive,
        "Spin" => Wait::Spin,
        _ => panic!("no such wait: {name}"),
    }
}

impl Worker {
    /// Says how far it has come.
    pub(crate) fn ready(&self, step: u64) {
        self.journal.set(READY, step);
    }

    /// Waits until it may go on so far.
    pub(crate) fn until(&self, step: u64) {
        while self.journal.get(GO) < step {
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    /// Waits for the beginning of everybody's work.
    pub(crate) fn until_all_begin(&self) {
        while self.control.get(0) == 0 {
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    /// Whether everybody is to end.
    pub(crate) fn is_over(&self) -> bool {
        self.control.get(0) >= 2
    }

    /// Notes what it does from now on.
    pub(crate) fn doing(&self, what: Doing) {
        self.journal.set(DOING, what as u64);
    }

    /// A call with a deadline, or without one: what, how long it may take, how long it took.
    pub(crate) fn call<T>(
        &self,
        what: Doing,
        limit: Option<Duration>,
        call: impl FnOnce() -> T,
    ) -> T {
        let began = now();
        self.journal.set(SINCE, began);
        self.doing(what);
        let done = call();
        self.doing(Doing::BetweenCalls);
        let took = now() - began;
        SPANS.note(&self.journal, took);
        let longest = LONGEST + what as usize;
        if took > self.journal.get(longest) {
            self.journal.set(longest, took);
        }
        if let Some(limit) = limit {
            let over = took.saturating_sub(limit.as_nanos() as u64);
            if over > 0 {
                OVERRUNS.note(&self.journal, over);
            }
        }
        done
    }

    /// Counts an answer that is no message, and says whether there may be one next time.
    pub(crate) fn refused(&self, why: Refusal) -> Refusal {
        let word = match why {
            Refusal::TimedOut => TIMEOUTS,
            Refusal::Ended => ENDS,
            Refusal::NotNow => return why,
        };
        self.journal.set(word, self.journal.get(word) + 1);
        why
    }

    /// A way to wait, at random. Few spin: that is the processor of another.
    pub(crate) fn some_wait(&mut self) -> Wait {
        match self.random.below(8) {
            0 => Wait::Spin,
            1..=3 => Wait::Adaptive,
            _ => Wait::Block,
        }
    }

    pub(crate) fn open_sender(&self, wait: Wait) -> Sender {
        let tx = self.call(Doing::Opening, None, || Sender::open(&self.path)).unwrap();
        tx.set_wait(wait);
        self.journal.set(SEAT, u64::from(tx.seat()) + 1);
        tx
    }

    pub(crate) fn open_receiver(&self, wait: Wait) -> Receiver {
        let rx = self.call(Doing::Opening, None, || Receiver::open(&self.path)).unwrap();
        rx.set_wait(wait);
        self.journal.set(SEAT, u64::from(rx.seat()) + 1);
        rx
    }

    pub(crate) fn leave<T>(&self, handle: T) {
        self.call(Doing::Leaving, None, || drop(handle));
        self.journal.set(SEAT, 0);
    }

    /// Holds on for a moment: not at all, a few looks, or as long as others need to notice.
    pub(crate) fn linger(&mut self) {
        match self.random.below(16) {
            0 => std::thread::sleep(Duration::from_micros(self.random.below(300))),
            1 => std::thread::yield_now(),
            2 | 3 => (0..self.random.below(200)).for_each(|_| std::hint::spin_loop()),
            _ => {}
        }
    }
}

/// Why there was no message, or no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    NotNow,
    TimedOut,
    Ended,
}

/// An error that is none of the answers that a claim expects ends the worker.
macro_rules! refusals {
    ($($error:ident: $($is:ident => $refusal:ident),+;)+) => {$(
        impl From<quoit::$error> for Refusal {
            fn from(error: quoit::$error) -> Refusal {
                match error {
                    $(_ if error.$is() => Refusal::$refusal,)+
                    _ => panic!("{error}"),
                }
            }
        }
    )+};
}

refusals! {
    TrySendError: is_full => NotNow, is_disconnected => Ended;
    SendTimeoutError: is_timeout => TimedOut, is_disconnected => Ended;
    SendError: is_disconnected => Ended;
    TryRecvError: is_empty => NotNow, is_disconnected => Ended;
    RecvTimeoutError: is_timeout => TimedOut, is_disconnected => Ended;
    RecvError: is_disconnected => Ended;
}

/// A message that carries an id: 8 bytes to several lines, all of which follow from it.
pub(crate) fn body(id: u64) -> Vec<u8> {
    let random = (id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize;
    let len = 8 + if random % 8 == 0 { random / 8 % 500 } else { random / 8 % 50 };
    let mut bytes = id.to_le_bytes().to_vec();
    bytes.extend((8..len).map(|at| (id as usize ^ id as usize >> 32 ^ at) as u8 | 1));
    bytes
}

/// The id of a message, whose every byte is as it was sent.
pub(crate) fn id(message: &Message<'_>) -> u64 {
    assert_eq!(message.redelivered(), message.attempts() > 1);
    id_in(&message.to_vec())
}

/// The same, of the bytes of a message.
pub(crate) fn id_in(bytes: &[u8]) -> u64 {
    let id = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    assert!(bytes == body(id), "message {id:#x} is not what was sent");
    id
}
