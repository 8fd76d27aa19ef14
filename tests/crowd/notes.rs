//! What a worker writes down while it lives: where each word of its journal lies, and how spans of time are counted.
//!
//! Knows words. Knows nothing of rings.

use crate::journal::Journal;

/// How far the worker has come.
pub(crate) const READY: usize = 0;
/// How far it may go on. The test's word.
pub(crate) const GO: usize = 1;
/// What it is doing: a [`Doing`].
pub(crate) const DOING: usize = 2;
/// Since when, in nanoseconds.
pub(crate) const SINCE: usize = 3;
/// Its seat at the ring, plus one; 0 when it has none.
pub(crate) const SEAT: usize = 4;
/// The thread that works.
pub(crate) const THREAD: usize = 5;
/// Calls that ran into their deadline.
pub(crate) const TIMEOUTS: usize = 6;
/// Calls that were told that nobody is left on the other side.
pub(crate) const ENDS: usize = 7;

/// Numbers below this one were accepted by a call that has returned.
pub(crate) const ACCEPTED: usize = 16;
/// Numbers below this one were offered to a call.
pub(crate) const OFFERED: usize = 17;
/// Entries of the log, or messages received.
pub(crate) const COUNT: usize = 18;
/// Messages that came twice to this receiver.
pub(crate) const TWICE: usize = 19;
/// Messages that came in another order than they were sent in.
pub(crate) const DISORDER: usize = 20;

/// The longest span of each [`Doing`], in nanoseconds.
pub(crate) const LONGEST: usize = 32;
/// How often calls took how long.
pub(crate) const SPANS: Spans = Spans(64);
/// How often calls ended how long after their deadline.
pub(crate) const OVERRUNS: Spans = Spans(64 + BUCKETS);

/// Where what is peculiar to a kind of worker begins.
pub(crate) const LOG: usize = 64 + 2 * BUCKETS;

/// What a worker is doing when it is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doing {
    Starting,
    Opening,
    Leaving,
    Sending,
    SendingBatch,
    Reserving,
    Writing,
    Committing,
    Receiving,
    ReceivingBatch,
    InHand,
    Releasing,
    GivingBack,
    Asking,
    BetweenCalls,
}

use Doing::{
    Asking, BetweenCalls, Committing, GivingBack, InHand, Leaving, Opening, Receiving,
    ReceivingBatch, Releasing, Reserving, Sending, SendingBatch, Starting, Writing,
};

impl Doing {
    pub(crate) const ALL: [Doing; 15] = [
        Starting,
        Opening,
        Leaving,
        Sending,
        SendingBatch,
        Reserving,
        Writing,
        Committing,
        Receiving,
        ReceivingBatch,
        InHand,
        Releasing,
        GivingBack,
        Asking,
        BetweenCalls,
    ];

    /// Whether it is inside a call of the library.
    pub(crate) fn is_a_call(self) -> bool {
        !matches!(self, Starting | Writing | InHand | BetweenCalls)
    }

    /// Whether it has a claim open, outside of any call.
    pub(crate) fn is_a_claim(self) -> bool {
        matches!(self, Writing | InHand)
    }
}

/// Four buckets for each power of two.
pub(crate) const BUCKETS: usize = 256;

/// A histogram in a journal.
#[derive(Clone, Copy)]
pub(crate) struct Spans(usize);

impl Spans {
    /// Counts a span of so many nanoseconds.
    pub(crate) fn note(self, journal: &Journal, nanos: u64) {
        let word = self.0 + bucket(nanos);
        journal.set(word, journal.get(word) + 1);
    }

    /// Adds what a journal has counted to a sum.
    pub(crate) fn add(self, journal: &Journal, sum: &mut Histogram) {
        for (bucket, count) in sum.0.iter_mut().enumerate() {
            *count += journal.get(self.0 + bucket);
        }
    }
}

fn bucket(nanos: u64) -> usize {
    let power = (nanos | 4).ilog2();
    ((power as usize) << 2 | (nanos >> (power - 2)) as usize & 3).min(BUCKETS - 1)
}

/// Spans of many workers.
pub(crate) struct Histogram([u64; BUCKETS]);

impl Histogram {
    pub(crate) fn new() -> Histogram {
        Histogram([0; BUCKETS])
    }

    /// Counts a span of so many nanoseconds.
    pub(crate) fn note(&mut self, nanos: u64) {
        self.0[bucket(nanos)] += 1;
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// No more than this share of the spans is longer than the answer, in milliseconds.
    pub(crate) fn at(&self, share: f64) -> f64 {
        let wanted = (self.count() as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in self.0.iter().enumerate() {
            seen += count;
            if seen >= wanted.max(1) {
                let (power, quarter) = (bucket >> 2, bucket & 3);
                return ((5 + quarter) as f64 / 4.0) * (power as f64).exp2() / 1e6;
            }
        }
        0.0
    }

    /// Percentiles, for people.
    pub(crate) fn show(&self) -> String {
        let [p50, p99, max] = [0.5, 0.99, 1.0].map(|share| self.at(share));
        format!("p50 {p50:.4} ms, p99 {p99:.3} ms, max {max:.1} ms, of {}", self.count())
    }
}
