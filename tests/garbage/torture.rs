//! Writes a word, makes a call, and does it again: as often as the machine can.
//!
//! Knows how the words of any ring are garbled, how a run is counted and made again, and which answers there are. Knows
//! nothing of what a ring looks like: that is told by [`bytes`](crate::bytes), [`slots`](crate::slots) and
//! [`sketch`](crate::sketch).
//!
//! Each word that was garbled is mended after the call three times of four, if it still says the same; so the ring goes on,
//! and garbage gathers until a handle has had enough of it. Then the ring is made anew.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use quoit::{Delivery, Fault, RecvTimeoutError, SendTimeoutError, TryRecvError, TrySendError};

use crate::bytes::Bytes;
use crate::harness::{Random, Watchdog, map, now, say};
use crate::rounds;
use crate::slots::Slots;

/// What a call answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Sent,
    Full,
    Abandoned,
    Received,
    Again,
    GivenBack,
    Forgotten,
    Empty,
    TimedOut,
    Ended,
    Corrupt,
    Told,
    Came,
    Refused,
    Repaired,
}

impl Answer {
    /// What a send comes to; `too_long` when the message was longer than any that the ring takes.
    pub(crate) fn to_send(sent: Result<(), TrySendError>, too_long: bool) -> Answer {
        match sent {
            Ok(()) => Sent,
            Err(TrySendError::Full) => Full,
            Err(TrySendError::Disconnected { .. }) => Ended,
            Err(TrySendError::TooLong { .. }) if too_long => Full,
            Err(TrySendError::Fault(Fault::Corrupt { .. })) => Corrupt,
            Err(other) => panic!("{other}"),
        }
    }

    /// The same of one that waited.
    pub(crate) fn to_timed_send(sent: Result<(), SendTimeoutError>, too_long: bool) -> Answer {
        match sent {
            Ok(()) => Sent,
            Err(SendTimeoutError::Timeout { .. }) => TimedOut,
            Err(SendTimeoutError::Disconnected { .. }) => Ended,
            Err(SendTimeoutError::TooLong { .. }) if too_long => Full,
            Err(SendTimeoutError::Fault(Fault::Corrupt { .. })) => Corrupt,
            Err(other) => panic!("{other}"),
        }
    }

    /// Why nothing was received.
    pub(crate) fn to_receive(error: TryRecvError) -> Answer {
        match error {
            TryRecvError::Empty => Empty,
            TryRecvError::Disconnected { .. } => Ended,
            TryRecvError::Fault(Fault::Corrupt { .. }) => Corrupt,
            other => panic!("{other}"),
        }
    }

    /// The same of one that waited.
    pub(crate) fn to_timed_receive(error: RecvTimeoutError) -> Answer {
        match error {
            RecvTimeoutError::Timeout { .. } => TimedOut,
            RecvTimeoutError::Disconnected { .. } => Ended,
            RecvTimeoutError::Fault(Fault::Corrupt { .. }) => Corrupt,
            other => panic!("{other}"),
        }
    }
}

use Answer::{
    Abandoned, Again, Came, Corrupt, Empty, Ended, Forgotten, Full, GivenBack, Received, Refused,
    Repaired, Sent, TimedOut, Told,
};

impl Answer {
    pub(crate) const ALL: [Answer; 15] = [
        Sent, Full, Abandoned, Received, Again, GivenBack, Forgotten, Empty, TimedOut, Ended,
        Corrupt, Told, Came, Refused, Repaired,
    ];
}

/// How often each was given.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Answers([u64; Answer::ALL.len()]);

impl Answers {
    pub(crate) fn note(&mut self, answer: Answer) {
        self.0[answer as usize] += 1;
    }

    pub(crate) fn of(&self, answer: Answer) -> u64 {
        self.0[answer as usize]
    }

    pub(crate) fn set(&mut self, answer: Answer, times: u64) {
        self.0[answer as usize] = times;
    }

    fn add(&mut self, more: Answers) {
        self.0.iter_mut().zip(more.0).for_each(|(sum, more)| *sum += more);
    }
}

impl std::fmt::Display for Answers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let some = Answer::ALL.into_iter().filter(|&answer| self.of(answer) != 0);
        let said: Vec<_> = some.map(|answer| format!("{answer:?} {}", self.of(answer))).collect();
        f.write_str(&said.join(", "))
    }
}

/// The memory of a ring, as somebody sees it who keeps no rule.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    base: *mut u8,
    len: usize,
}

impl Memory {
    /// # Safety
    ///
    /// `len` bytes at `base`, which is aligned to 8, are there to be read and written for as long as this or a copy of it is
    /// used, and everybody uses them as atomics only.
    pub(crate) unsafe fn new(base: *mut u8, len: usize) -> Memory {
        Memory { base, len }
    }

    /// That of a ring in a file, for as long as the map lives.
    pub(crate) fn of_file(path: &str, len: usize) -> (memmap2::MmapRaw, Memory) {
        let file = map(path, len);
        let base = file.as_mut_ptr();
        // SAFETY: the caller keeps the map, and everybody uses a ring's memory as atomics.
        (file, unsafe { Memory::new(base, len) })
    }

    pub(crate) fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at % 8 == 0 && at + 8 <= self.len);
        // SAFETY: inside the memory, as was just asserted.
        let at = unsafe { self.base.add(at) };
        // SAFETY: aligned, and an atomic to everybody, by the contract of `new`.
        unsafe { AtomicU64::from_ptr(at.cast()) }
    }

    pub(crate) fn get(&self, at: usize) -> u64 {
        self.word(at).load(Relaxed)
    }

    pub(crate) fn set(&self, at: usize, value: u64) {
        self.word(at).store(value, Relaxed);
    }

    /// What stands there now.
    pub(crate) fn image(&self) -> Vec<u64> {
        (0..self.len).step_by(8).map(|at| self.get(at)).collect()
    }

    /// Puts back what stood there.
    pub(crate) fn restore(&self, image: &[u64]) {
        image.iter().zip((0..self.len).step_by(8)).for_each(|(&word, at)| self.set(at, word));
    }
}

/// Control words that somebody owns: of rings of bytes, of rings of slots, of both.
pub(crate) const CONTROL: [usize; 36] = [
    0x1000, 0x1080, 0x1088, 0x1090, 0x1098, 0x1100, 0x1108, 0x1110, 0x1118, 0x2000, 0x2080, 0x2088,
    0x2090, 0x2098, 0x20a0, 0x20a8, 0x20b0, 0x2100, 0x2108, 0x2110, 0x2118, 0x2120, 0x2128, 0x2180,
    0x2188, 0x3000, 0x3080, 0x4000, 0x4080, 0x4100, 0x4108, 0x4180, 0x4188, 0x4200, 0x4208, 0x4280,
];

/// Where the control words end.
pub(crate) const CONTROL_LEN: usize = 0x5000;

/// What stands in front of the data and is nobody's has stayed as it was.
pub(crate) fn nobody_touched_what_is_nobodys(memory: Memory, image: &[u64]) {
    let mut owned = CONTROL.iter().peekable();
    for (at, &was) in (0..CONTROL_LEN).step_by(8).zip(image) {
        if owned.next_if(|&&next| next == at).is_none() {
            assert_eq!(memory.get(at), was, "a word that nobody owns was written, at {at:#x}");
        }
    }
}

/// Numbers that are wrong nearly everywhere, or right by accident.
const EDGES: [u64; 14] =
    [0, 1, 2, 63, 64, 65, 4095, 4096, 4097, 1 << 31, 1 << 32, 1 << 48, 1 << 63, u64::MAX];

/// Near what stands there, or anything.
pub(crate) fn garble(random: &mut Random, memory: Memory, was: u64) -> u64 {
    match random.below(8) {
        0 => was.wrapping_add(1).wrapping_sub(random.below(2) * 2),
        1 => was.wrapping_add(64).wrapping_sub(random.below(2) * 128),
        2 | 3 => was ^ 1 << random.below(64),
        4 => memory.get(random.below(memory.len as u64 / 8) as usize * 8),
        5 => memory.get(CONTROL[random.below(CONTROL.len() as u64) as usize].min(memory.len - 8)),
        6 => EDGES[random.below(EDGES.len() as u64) as usize],
        _ => random.next(),
    }
}

/// A word that was garbled.
#[derive(Clone, Copy)]
pub(crate) struct Hit {
    at: usize,
    was: u64,
    now: u64,
}

impl Memory {
    /// Garbles a word.
    pub(crate) fn hit(&self, at: usize, garbled: impl FnOnce(u64) -> u64) -> Hit {
        let was = self.get(at);
        let now = garbled(was);
        self.set(at, now);
        Hit { at, was, now }
    }

    /// Puts back what stood there, unless somebody has written there since.
    pub(crate) fn mend(&self, hit: Hit) {
        let _ = self.word(hit.at).compare_exchange(hit.now, hit.was, Relaxed, Relaxed);
    }
}

/// A ring, and all who use it.
pub(crate) trait Subject {
    /// Its memory.
    fn memory(&self) -> Memory;
    /// Garbles a word.
    fn hit(&self, random: &mut Random) -> Hit;
    /// Makes a call, and says whether everybody is still able to make another.
    fn operate(&mut self, random: &mut Random, answers: &mut Answers) -> bool;
    /// A ring as it was at first, with everybody there.
    fn renew(&mut self);
}

/// A run of so many words garbled and calls made.
pub(crate) struct Run<'a> {
    pub(crate) name: &'static str,
    pub(crate) random: Random,
    pub(crate) pairs: u64,
    pub(crate) watchdog: &'a Watchdog,
}

/// Says where a run was when it failed.
struct Witness(&'static str, u64);

impl Drop for Witness {
    fn drop(&mut self) {
        if std::thread::panicking() {
            say(&format!("torture of {}: failed at pair {}", self.0, self.1));
        }
    }
}

impl Run<'_> {
    pub(crate) fn over(mut self, subject: &mut impl Subject) -> Answers {
        let mut answers = Answers::default();
        let mut witness = Witness(self.name, 0);
        for pair in 0..self.pairs {
            witness.1 = pair;
            if pair % 1024 == 0 {
                self.watchdog.alive();
            }
            let hit = subject.hit(&mut self.random);
            let sound = subject.operate(&mut self.random, &mut answers);
            if !sound {
                subject.renew();
            } else if self.random.below(4) != 0 {
                subject.memory().mend(hit);
            }
        }
        answers
    }
}

/// Of a million pairs, so many go to each kind of ring: rings in files are slow to make anew.
const SHARES: [(&str, u64); 6] = [
    ("a channel of bytes", 460_000),
    ("a channel of short slots", 300_000),
    ("a channel of long slots", 200_000),
    ("a file of bytes", 20_000),
    ("a file of short slots", 10_000),
    ("a file of long slots", 10_000),
];

/// Tortures every kind of ring, `pairs` in all, in this thread.
fn every_kind(random: &mut Random, pairs: u64, watchdog: &Watchdog) -> Vec<(usize, u64, Answers)> {
    let folder = tempfile::Builder::new().prefix("quoit-test-").tempdir_in("/dev/shm").unwrap();
    let path = |kind: usize| folder.path().join(kind.to_string()).into_os_string();
    let path = |kind| path(kind).into_string().unwrap();
    let mut all = Vec::new();
    for (kind, (name, share)) in SHARES.into_iter().enumerate() {
        let pairs = pairs * share / 1_000_000;
        let delivery = [Delivery::AtLeastOnce, Delivery::AtMostOnce][random.below(2) as usize];
        let run = Run { name, random: Random(random.next()), pairs, watchdog };
        let answers = match kind {
            0 => run.over(&mut Bytes::channel(delivery)),
            1 | 2 => run.over(&mut Slots::channel(kind - 1)),
            3 => run.over(&mut Bytes::named(&path(kind), delivery)),
            _ => run.over(&mut Slots::named(&path(kind), kind - 4, delivery)),
        };
        all.push((kind, pairs, answers));
    }
    all
}

#[test]
fn whatever_word_was_garbled_the_next_call_answers() {
    let mut random = Random::seeded("torture");
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let pairs = rounds(50_000, 100_000_000) / workers as u64;
    let began = now();
    let watchdog = Watchdog::new(None, || String::from("torture"));
    let mut sums = [(0, Answers::default()); SHARES.len()];
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..workers)
            .map(|_| (Random(random.next()), &watchdog))
            .map(|(mut random, watchdog)| {
                scope.spawn(move || every_kind(&mut random, pairs, watchdog))
            })
            .collect();
        for (kind, pairs, answers) in workers.into_iter().flat_map(|done| done.join().unwrap()) {
            sums[kind].0 += pairs;
            sums[kind].1.add(answers);
        }
    });
    let (all, seconds) = (sums.iter().map(|sum| sum.0).sum::<u64>(), (now() - began) as f64 / 1e9);
    say(&format!("torture: {all} pairs in {seconds:.1} s on {workers} processors"));
    for ((name, _), (pairs, answers)) in SHARES.iter().zip(sums) {
        say(&format!("torture of {name}: {pairs} pairs: {answers}"));
        // It has to hurt, and the ring has to work in between.
        for answer in [Answer::Sent, Answer::Received, Answer::Full, Answer::Corrupt] {
            assert!(answers.of(answer) * 2000 >= pairs, "{name}: too few were answered {answer:?}");
        }
    }
}
