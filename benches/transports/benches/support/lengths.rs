//! How long the messages of a burst are: all alike, or one after another as a sequence says that both processes know.
//!
//! It knows how lengths follow each other. It refuses to know what a message is: each length has a source and a check of
//! its own, and the sequence says which of them has its turn. So a message that is lost, repeated or cut has the length, or
//! the number, of another.

use quoit_transports::{Check, Seen, Source, Wrong};

use crate::Dice;

/// So many different lengths: what their sources rotate through stays in a core's own cache.
const KINDS: usize = 16;
/// The sequence begins anew after so many messages: more than a processor learns by heart.
const PERIOD: usize = 4096;
const SEED: u64 = 0x006c_656e_6774_6873;

/// Whole words, from one up to `most` bytes, as evenly as they go.
fn kinds(most: usize) -> Vec<usize> {
    let words = most / 8;
    let kinds = words.min(KINDS);
    (0..kinds).map(|kind| 8 * (1 + kind * (words - 1) / (kinds - 1).max(1))).collect()
}

/// Whose turn it is.
struct Turn {
    order: Box<[u8]>,
    at: usize,
}

impl Turn {
    fn of(kinds: usize) -> Turn {
        let mut dice = Dice(SEED);
        Turn { order: (0..PERIOD).map(|_| dice.roll(kinds) as u8).collect(), at: 0 }
    }

    #[inline(always)]
    fn next(&mut self) -> usize {
        let kind = self.order[self.at % PERIOD];
        self.at += 1;
        kind.into()
    }
}

/// What one process sends: messages of a length, or mixed up to it.
pub(crate) struct Sources<const MIXED: bool> {
    alike: Source,
    mixed: Vec<Source>,
    turn: Turn,
}

impl<const MIXED: bool> Sources<MIXED> {
    pub(crate) fn new(size: usize) -> Self {
        let kinds = if MIXED { kinds(size) } else { Vec::new() };
        Sources {
            alike: Source::new(size),
            turn: Turn::of(kinds.len().max(1)),
            mixed: kinds.into_iter().map(Source::new).collect(),
        }
    }

    #[inline(always)]
    fn next(&mut self) -> &mut Source {
        if MIXED { &mut self.mixed[self.turn.next()] } else { &mut self.alike }
    }

    /// The next message.
    #[inline(always)]
    pub(crate) fn emit<T>(&mut self, send: impl FnOnce(&[u8]) -> T) -> T {
        self.next().emit(send)
    }

    /// The message that ends the run.
    pub(crate) fn end<T>(&mut self, send: impl FnOnce(&[u8]) -> T) -> T {
        self.next().end(send)
    }
}

/// A check for what [`Sources`] of the same length send.
pub(crate) struct Checks<const MIXED: bool> {
    alike: Check,
    mixed: Vec<Check>,
    turn: Turn,
}

impl<const MIXED: bool> Checks<MIXED> {
    pub(crate) fn new(size: usize) -> Self {
        let kinds = if MIXED { kinds(size) } else { Vec::new() };
        Checks {
            alike: Check::new(size),
            turn: Turn::of(kinds.len().max(1)),
            mixed: kinds.into_iter().map(Check::new).collect(),
        }
    }

    /// Reads every byte of a message.
    #[inline(always)]
    pub(crate) fn look(&mut self, message: &[u8]) -> Result<Seen, Wrong> {
        let check = if MIXED { &mut self.mixed[self.turn.next()] } else { &mut self.alike };
        check.look(message)
    }
}
