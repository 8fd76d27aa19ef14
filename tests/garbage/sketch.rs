//! A ring in a hundred lines, to be wrong with: so that the torture is seen to hurt.
//!
//! Knows one mistake for each way to die of garbage. Lines of 64 bytes; the first word of a line is the length of its
//! message plus one, or 0. Each mistake runs in a process of its own, which must not outlive it; the ring without a mistake
//! must.

use std::mem::MaybeUninit;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::harness::{Random, Watchdog};
use crate::torture::{Answer, Answers, Hit, Memory, Run, Subject, garble};

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    Nothing,
    /// The length is not compared with what a line holds.
    Length,
    /// Where the next message lies is what the memory says, not what was counted.
    Cursor,
    /// Lines are skipped until the memory says that it is enough.
    Endless,
    /// A length that is too long is asserted away.
    Panic,
}

const LINES: u64 = 64;
const MAX_LEN: usize = 56;
/// The first line is the control line: how many were sent, how many were received.
const SENT: usize = 0;
const RECEIVED: usize = 8;

/// What only the memory of a ring is aligned to here: it lies between walls.
#[repr(C, align(128))]
struct Two([AtomicU64; 16]);

struct Sketch {
    mistake: Mistake,
    lines: Box<[Two]>,
    sent: u64,
    received: u64,
}

impl Sketch {
    fn new(mistake: Mistake) -> Sketch {
        let two = || Two([const { AtomicU64::new(0) }; 16]);
        let lines = (0..LINES / 2).map(|_| two()).collect();
        Sketch { mistake, lines, sent: 0, received: 0 }
    }

    fn base(&self) -> *mut u8 {
        self.lines.as_ptr().cast_mut().cast()
    }

    /// Where a message lies; the first line is none.
    fn line(number: u64) -> usize {
        (1 + number % (LINES - 1)) as usize * 64
    }

    fn send(&mut self) -> Answer {
        let line = Sketch::line(self.sent);
        if self.memory().get(line) != 0 {
            return Answer::Full;
        }
        self.memory().set(line + 8, self.sent);
        self.memory().set(line, 9);
        self.sent = self.sent.wrapping_add(1);
        self.memory().set(SENT, self.sent);
        Answer::Sent
    }

    fn receive(&mut self) -> Answer {
        if self.mistake == Mistake::Endless {
            let mut skipped = 0u64;
            while skipped < self.memory().get(RECEIVED).wrapping_sub(self.received) {
                skipped = std::hint::black_box(skipped + 1);
            }
        }
        let line = match self.mistake {
            Mistake::Cursor => 64 + self.memory().get(RECEIVED) as usize % (1 << 30) * 64,
            _ => Sketch::line(self.received),
        };
        // SAFETY: none, where the mistake is `Cursor`: then it may lie behind the wall, which is the point.
        let first = unsafe { &*self.base().wrapping_add(line).cast::<AtomicU64>() };
        let Some(len) = first.load(Relaxed).checked_sub(1) else { return Answer::Empty };
        if len as usize > MAX_LEN {
            match self.mistake {
                Mistake::Length => {}
                Mistake::Panic => panic!("a length of {len}"),
                _ => return Answer::Corrupt,
            }
        }
        let mut sum = 0u8;
        for at in 0..len as usize {
            // SAFETY: none, where the mistake is `Length`: it may lie behind the wall.
            let byte = unsafe {
                self.base().wrapping_add(line + 8 + at).cast::<MaybeUninit<u8>>().read_volatile()
            };
            // SAFETY: memory that was written as atomics holds values.
            sum = sum.wrapping_add(unsafe { byte.assume_init() });
        }
        std::hint::black_box(sum);
        first.store(0, Relaxed);
        self.received = self.received.wrapping_add(1);
        self.memory().set(RECEIVED, (self.received) % (LINES - 1));
        Answer::Received
    }
}

impl Subject for Sketch {
    fn memory(&self) -> Memory {
        // SAFETY: so long are the lines, which do not move when their owner does.
        unsafe { Memory::new(self.base(), LINES as usize * 64) }
    }

    fn hit(&self, random: &mut Random) -> Hit {
        let at = random.below(LINES * 8) as usize * 8;
        self.memory().hit(at, |was| garble(random, self.memory(), was))
    }

    fn operate(&mut self, random: &mut Random, answers: &mut Answers) -> bool {
        let answer = if random.once_in(2) { self.send() } else { self.receive() };
        answers.note(answer);
        answer != Answer::Corrupt
    }

    fn renew(&mut self) {
        *self = Sketch::new(self.mistake);
    }
}

/// Which mistake this process makes.
const MISTAKE: &str = "QUOIT_GARBAGE_MISTAKE";

const MISTAKES: [(Mistake, Option<i32>); 5] = [
    (Mistake::Nothing, None),
    (Mistake::Length, Some(libc::SIGSEGV)),
    (Mistake::Cursor, Some(libc::SIGSEGV)),
    (Mistake::Endless, Some(libc::SIGALRM)),
    (Mistake::Panic, None),
];

/// Not a claim: what the other processes run. It does nothing when nobody made it one of them.
#[test]
fn other_ring() {
    let Ok(which) = std::env::var(MISTAKE) else { return };
    let (mistake, signal) = MISTAKES[which.parse::<usize>().unwrap()];
    let nothing = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: reads a structure of this frame. Nobody wants a picture of what dies here.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const nothing) };
    if signal == Some(libc::SIGALRM) {
        // SAFETY: alarm takes a number. What is endless has to be ended by somebody.
        unsafe { libc::alarm(2) };
    }
    let watchdog = Watchdog::new(None, || String::from("a sketch of a ring"));
    let run = Run { name: "a sketch", random: Random(7), pairs: 200_000, watchdog: &watchdog };
    let answers = run.over(&mut Sketch::new(mistake));
    assert!(
        answers.of(Answer::Received) > 10_000 && answers.of(Answer::Corrupt) > 1000,
        "{answers}"
    );
}

#[test]
fn no_ring_that_believes_what_it_reads_outlives_the_torture() {
    for (which, (mistake, signal)) in MISTAKES.into_iter().enumerate() {
        let done = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sketch::other_ring", "--nocapture", "--test-threads=1"])
            .env(MISTAKE, which.to_string())
            .output()
            .unwrap();
        assert_eq!(done.status.signal(), signal, "{mistake:?}: {done:?}");
        let survives = mistake == Mistake::Nothing;
        assert_eq!(done.status.success(), survives, "{mistake:?}: {done:?}");
    }
}
