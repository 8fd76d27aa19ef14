//! The two workloads and a burst: both floors with a run between them, in one pair of processes.
//!
//! It knows messages, windows and the end of a run. It refuses to know the candidate that it is
//! generic over, and it judges nothing: a burst is an [`Outcome`], good or bad.

use std::io;
use std::rc::Rc;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::Duration;

use hdrhistogram::Histogram;
use quoit_transports::{Board, Clock, Seen, pin};

use super::lengths::{Checks, Sources};
use super::proc::{Arena, Child, Watchdog};
use super::{Candidate, Rx, Tx, Way, floor};

/// What is asked of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Workload {
    /// The client sends, the server answers with a message of the same size.
    Roundtrip,
    /// The client sends as fast as it can, the server receives.
    Stream,
}

impl Workload {
    /// The word for tables and files.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Workload::Roundtrip => "roundtrip",
            Workload::Stream => "stream",
        }
    }
}

/// A burst to be run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job {
    pub(crate) workload: Workload,
    /// Bytes a message.
    pub(crate) size: usize,
    /// Bytes a ring.
    pub(crate) capacity: usize,
    /// Slots a ring, where a ring is counted in slots.
    pub(crate) slots: usize,
    pub(crate) clock: Clock,
    /// How long the workload runs, warm-up included.
    pub(crate) run: Duration,
    /// How long each of the two floor checks runs.
    pub(crate) check: Duration,
    /// The client's core and the server's.
    pub(crate) cores: (usize, usize),
}

/// What came of a burst; times in nanoseconds, of a round trip or of a message.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    /// The flag ping-pong just before, and just after.
    pub(crate) before: f64,
    pub(crate) after: f64,
    /// What stolen time cannot move: of round trips the mean of the middle four fifths, of a stream
    /// the median of the means of 1 ms windows.
    pub(crate) typical: f64,
    /// The mean over the whole run: what stolen time does move.
    pub(crate) mean: f64,
    /// Percentiles of round trips; 0 in a stream. In steps of the counter, often 10 ns.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) messages: u64,
    /// Messages that did not arrive as they were sent.
    pub(crate) errors: u64,
}

/// The first fifth of a run is warm-up.
const WARM_UP: u32 = 5;
const WINDOW: Duration = Duration::from_millis(1);
/// Longer than any burst takes on a busy machine.
const PATIENCE: u32 = 30;

/// Round trips, each timed.
#[derive(Debug)]
pub(crate) struct Trips {
    clock: Clock,
    ticks: Histogram<u64>,
}

impl Trips {
    /// None yet.
    pub(crate) fn new(clock: Clock) -> Trips {
        let longest = clock.ticks(Duration::from_secs(10)).max(2);
        let ticks = Histogram::new_with_bounds(1, longest, 3).expect("bounds that make sense");
        Trips { clock, ticks }
    }

    /// Counts one.
    #[inline(always)]
    pub(crate) fn add(&mut self, ticks: u64) {
        self.ticks.saturating_record(ticks);
    }

    /// The mean of the middle four fifths, in nanoseconds; not a number of nothing.
    ///
    /// Unlike a percentile it is not bound to the steps of the counter, and unlike the mean it does
    /// not see the trips that were interrupted.
    pub(crate) fn typical(&self) -> f64 {
        let (low, high) = (self.ticks.len() / 10, self.ticks.len() - self.ticks.len() / 10);
        let (mut below, mut sum) = (0, 0.0);
        for step in self.ticks.iter_recorded() {
            let (from, to) = (below, below + step.count_since_last_iteration());
            let inside = to.min(high).saturating_sub(from.max(low));
            sum += step.value_iterated_to() as f64 * inside as f64;
            below = to;
        }
        self.clock.ns(1) * sum / (high - low) as f64
    }

    fn quantile(&self, quantile: f64) -> f64 {
        self.clock.ns(self.ticks.value_at_quantile(quantile))
    }
}

/// The means of short windows of a stream.
#[derive(Debug)]
struct Windows {
    clock: Clock,
    window: u64,
    /// Of the window under way: when it began, what it counts.
    begun: u64,
    count: u64,
    means: Vec<f64>,
    /// Of all windows.
    ticks: u64,
    messages: u64,
}

impl Windows {
    fn new(clock: Clock) -> Windows {
        let means = Vec::with_capacity(4096);
        let window = clock.ticks(WINDOW);
        Windows { clock, window, begun: clock.now(), count: 0, means, ticks: 0, messages: 0 }
    }

    #[inline(always)]
    fn add(&mut self, count: u64, now: u64) {
        self.count += count;
        let ticks = now.saturating_sub(self.begun);
        if ticks >= self.window {
            self.means.push(self.clock.ns(ticks) / self.count as f64);
            self.ticks += ticks;
            self.messages += self.count;
            (self.begun, self.count) = (now, 0);
        }
    }

    fn mean(&self) -> f64 {
        self.clock.ns(self.ticks) / self.messages as f64
    }

    /// The median window; not a number if the run was too short for one.
    fn typical(&mut self) -> f64 {
        super::report::median(&mut self.means)
    }
}

/// Words of the board; 0 and 1 are the floor's.
const READY: usize = 2;
const ERRORS: usize = 3;
const MESSAGES: usize = 4;
const TYPICAL: usize = 5;
const MEAN: usize = 6;

/// Runs one burst: a fresh mapping, a fresh child, floor, workload, floor.
///
/// `REPLY_FIRST` makes the server answer while it still holds the request, instead of releasing
/// the request first. `MIXED` messages have any length up to that of the job.
pub(crate) fn burst<T: Candidate, const REPLY_FIRST: bool, const MIXED: bool>(
    job: &Job,
) -> io::Result<Outcome> {
    let _watchdog = Watchdog::start(PATIENCE);
    // For each way what it takes, from a page on.
    let arena = Rc::new(Arena::new(2 * T::room(job).next_multiple_of(4096))?);
    let board = &Board::open(Board::create()?)?;
    let candidate = T::lay(&arena, job);
    pin(job.cores.0)?;
    let child = Child::fork(|| {
        pin(job.cores.1)?;
        arena.populate();
        serve::<T, REPLY_FIRST, MIXED>(board, &candidate, job);
        Ok(())
    })?;
    let mut outcome = drive::<T, MIXED>(board, &candidate, job);
    child.join()?;
    outcome.errors += board.word(ERRORS).load(Acquire);
    if job.workload == Workload::Stream {
        outcome.messages = board.word(MESSAGES).load(Acquire);
        outcome.typical = f64::from_bits(board.word(TYPICAL).load(Acquire));
        outcome.mean = f64::from_bits(board.word(MEAN).load(Acquire));
    }
    Ok(outcome)
}

/// Checks messages, and goes on when one is wrong: the harness counts them, and fails at the end.
struct Checked<const MIXED: bool> {
    check: Checks<MIXED>,
    errors: u64,
}

impl<const MIXED: bool> Checked<MIXED> {
    fn new(size: usize) -> Self {
        Checked { check: Checks::new(size), errors: 0 }
    }

    /// Reads every byte of a message; false if it was the last.
    #[inline(always)]
    fn look(&mut self, message: &[u8]) -> bool {
        match self.check.look(message) {
            Ok(Seen::Next(_)) => true,
            Ok(Seen::End) => false,
            Err(_) => {
                self.errors += 1;
                true
            }
        }
    }
}

/// The client.
fn drive<T: Candidate, const MIXED: bool>(board: &Board, candidate: &T, job: &Job) -> Outcome {
    let (mut tx, mut rx) = (candidate.tx(Way::There), candidate.rx(Way::Back));
    while board.word(READY).load(Acquire) == 0 {
        std::thread::yield_now();
    }
    let before = floor::ping(board, job.clock, job.check);
    let mut outcome = match job.workload {
        Workload::Roundtrip => ask::<MIXED>(&mut tx, &mut rx, job),
        Workload::Stream => {
            pour::<MIXED>(&mut tx, job);
            Outcome::default()
        }
    };
    outcome.before = before;
    outcome.after = floor::ping(board, job.clock, job.check);
    outcome
}

/// The server.
fn serve<T: Candidate, const REPLY_FIRST: bool, const MIXED: bool>(
    board: &Board,
    candidate: &T,
    job: &Job,
) {
    let (mut tx, mut rx) = (candidate.tx(Way::Back), candidate.rx(Way::There));
    board.word(READY).store(1, Release);
    floor::pong(board);
    let errors = match job.workload {
        Workload::Roundtrip if REPLY_FIRST => answer_holding::<MIXED>(&mut tx, &mut rx, job.size),
        Workload::Roundtrip => answer::<MIXED>(&mut tx, &mut rx, job.size),
        Workload::Stream => drain::<MIXED>(board, &mut rx, job),
    };
    board.word(ERRORS).store(errors, Release);
    floor::pong(board);
}

/// Round trips, each timed; the reply is checked like the request.
#[inline(never)]
fn ask<const MIXED: bool>(tx: &mut impl Tx, rx: &mut impl Rx, job: &Job) -> Outcome {
    let (mut source, mut check) =
        (Sources::<MIXED>::new(job.size), Checked::<MIXED>::new(job.size));
    let mut trips = Trips::new(job.clock);
    let first = job.clock.now();
    let (warm, end) =
        (first + job.clock.ticks(job.run / WARM_UP), first + job.clock.ticks(job.run));
    loop {
        let start = job.clock.now();
        source.emit(|message| tx.send(message));
        rx.recv(|message| check.look(message));
        let now = job.clock.now();
        if start >= warm {
            trips.add(now.saturating_sub(start));
        }
        if now >= end {
            break;
        }
    }
    source.end(|message| tx.send(message));
    Outcome {
        typical: trips.typical(),
        mean: job.clock.ns(1) * trips.ticks.mean(),
        p50: trips.quantile(0.5),
        p99: trips.quantile(0.99),
        messages: trips.ticks.len(),
        errors: check.errors,
        ..Outcome::default()
    }
}

/// Checks and releases each request, then answers it.
#[inline(never)]
fn answer<const MIXED: bool>(tx: &mut impl Tx, rx: &mut impl Rx, size: usize) -> u64 {
    let (mut source, mut check) = (Sources::<MIXED>::new(size), Checked::<MIXED>::new(size));
    while rx.recv(|message| check.look(message)) {
        source.emit(|message| tx.send(message));
    }
    check.errors
}

/// Checks and answers each request, then releases it.
#[inline(never)]
fn answer_holding<const MIXED: bool>(tx: &mut impl Tx, rx: &mut impl Rx, size: usize) -> u64 {
    let (mut source, mut check) = (Sources::<MIXED>::new(size), Checked::<MIXED>::new(size));
    while rx.recv(|message| {
        let goes_on = check.look(message);
        if goes_on {
            source.emit(|message| tx.send(message));
        }
        goes_on
    }) {}
    check.errors
}

/// How many messages pass between two looks at the counter: 16 KiB of them, at most 256, so that
/// the look does not show.
fn stride(size: usize) -> u64 {
    (16 * 1024 / size as u64).clamp(1, 256)
}

/// Sends until the time is over.
#[inline(never)]
fn pour<const MIXED: bool>(tx: &mut impl Tx, job: &Job) {
    let mut source = Sources::<MIXED>::new(job.size);
    let end = job.clock.now() + job.clock.ticks(job.run);
    while job.clock.now() < end {
        for _ in 0..stride(job.size) {
            source.emit(|message| tx.send(message));
        }
    }
    source.end(|message| tx.send(message));
}

/// Receives and checks until the end, by windows.
#[inline(never)]
fn drain<const MIXED: bool>(board: &Board, rx: &mut impl Rx, job: &Job) -> u64 {
    let mut check = Checked::<MIXED>::new(job.size);
    let mut windows = Windows::new(job.clock);
    let warm = job.clock.now() + job.clock.ticks(job.run / WARM_UP);
    let (stride, mut warming) = (stride(job.size), true);
    'run: loop {
        for _ in 0..stride {
            if !rx.recv(|message| check.look(message)) {
                break 'run;
            }
        }
        let now = job.clock.now();
        if !warming {
            windows.add(stride, now);
        } else if now >= warm {
            warming = false;
            windows.begun = now;
        }
    }
    board.word(MESSAGES).store(windows.messages, Release);
    board.word(MEAN).store(windows.mean().to_bits(), Release);
    board.word(TYPICAL).store(windows.typical().to_bits(), Release);
    check.errors
}
