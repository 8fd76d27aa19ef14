//! Payloads that tell whether they arrived: stamped by the sender, every byte checked on arrival.
//!
//! It knows the pattern. It refuses to know who carries it.
//!
//! A message of `n` words is its sequence number, then words that depend on their place alone,
//! except one: the stamp, which depends on the sequence number and moves on by one place with every
//! message. So a line left over from an earlier message of the same length cannot pass for long.

/// The sequence number of the message that ends a run.
const END: u64 = u64::MAX;

/// How many bytes of source buffers to rotate through, so that a stamp is written well before the
/// copy reads it (a wide load right behind a narrow store stalls, which no ring is to blame for).
const ROTATE: usize = 8 * 1024;
const ROTATE_MOST: usize = 8;

/// What belongs at a place that carries no stamp.
fn filler(place: usize) -> u64 {
    (place as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// What belongs at the stamped place of a message.
#[inline(always)]
fn stamp(sequence: u64) -> u64 {
    (sequence ^ 0x5851_f42d_4c95_7f2d).wrapping_mul(0xd6e8_feb8_6659_fd93)
}

/// The stamped place: 1, 2, ... `words - 1`, 1, ...
#[derive(Debug)]
struct Place {
    at: usize,
    words: usize,
}

impl Place {
    fn new(words: usize) -> Place {
        Place { at: 1, words }
    }

    #[inline(always)]
    fn step(&mut self) -> usize {
        let at = self.at;
        self.at = if at + 1 == self.words { 1 } else { at + 1 };
        at
    }
}

fn words(size: usize) -> usize {
    assert!(
        size >= 8 && size.is_multiple_of(8),
        "a payload is a whole number of words, at least one"
    );
    size / 8
}

/// Makes messages.
#[derive(Debug)]
pub(crate) struct Source {
    bytes: Vec<u8>,
    /// Where the first buffer begins, so that each lies on a line.
    offset: usize,
    size: usize,
    /// From one buffer to the next.
    stride: usize,
    /// The place stamped last in each buffer; 0 for none.
    stamped: Vec<usize>,
    turn: usize,
    next: u64,
    place: Place,
}

impl Source {
    /// A source of messages of `size` bytes, numbered from 0.
    pub(crate) fn new(size: usize) -> Source {
        let buffers = (ROTATE / size).clamp(1, ROTATE_MOST);
        let stride = size.next_multiple_of(64);
        let mut bytes = vec![0; buffers * stride + 64];
        let offset = bytes.as_ptr().align_offset(64);
        for buffer in bytes[offset..].chunks_exact_mut(stride) {
            for (place, word) in buffer[..size].chunks_exact_mut(8).enumerate() {
                word.copy_from_slice(&filler(place).to_ne_bytes());
            }
        }
        let place = Place::new(words(size));
        let stamped = vec![0; buffers];
        let mut source = Source { bytes, offset, size, stride, stamped, turn: 0, next: 0, place };
        for buffer in 0..buffers {
            source.prepare(buffer);
        }
        source
    }

    fn start(&self, buffer: usize) -> usize {
        self.offset + buffer * self.stride
    }

    #[inline(always)]
    fn set(&mut self, buffer: usize, place: usize, word: u64) {
        let at = self.start(buffer) + place * 8;
        self.bytes[at..at + 8].copy_from_slice(&word.to_ne_bytes());
    }

    /// Turns a buffer into the next message.
    #[inline(always)]
    fn prepare(&mut self, buffer: usize) {
        let sequence = self.next;
        self.next += 1;
        self.set(buffer, 0, sequence);
        if self.size > 8 {
            let (old, new) = (self.stamped[buffer], self.place.step());
            if old != 0 {
                self.set(buffer, old, filler(old));
            }
            self.set(buffer, new, stamp(sequence));
            self.stamped[buffer] = new;
        }
    }

    /// Sends the next message through `send`.
    #[inline(always)]
    pub(crate) fn emit(&mut self, send: impl FnOnce(&[u8])) {
        let buffer = self.turn;
        self.turn = if buffer + 1 == self.stamped.len() { 0 } else { buffer + 1 };
        let start = self.start(buffer);
        send(&self.bytes[start..start + self.size]);
        self.prepare(buffer);
    }

    /// Sends the message that ends the run.
    pub(crate) fn end(&mut self, send: impl FnOnce(&[u8])) {
        self.set(self.turn, 0, END);
        let start = self.start(self.turn);
        send(&self.bytes[start..start + self.size]);
    }
}

/// Checks messages.
#[derive(Debug)]
pub(crate) struct Check {
    size: usize,
    /// All filler words of a message, xored.
    filler: u64,
    next: u64,
    place: Place,
    /// Messages that were not what they should have been.
    pub(crate) errors: u64,
}

impl Check {
    /// A check for what a [`Source`] of this size makes.
    pub(crate) fn new(size: usize) -> Check {
        let filler = (1..words(size)).map(filler).fold(0, |all, word| all ^ word);
        Check { size, filler, next: 0, place: Place::new(words(size)), errors: 0 }
    }

    /// Reads every byte of a message; false if it was the last.
    #[inline(always)]
    pub(crate) fn look(&mut self, message: &[u8]) -> bool {
        let word = |place: usize| match message.get(place * 8..place * 8 + 8) {
            Some(bytes) => u64::from_ne_bytes(bytes.try_into().expect("a slice of 8")),
            None => 0,
        };
        let found = word(0);
        if found == END {
            return false;
        }
        let all = message
            .chunks_exact(8)
            .map(|bytes| u64::from_ne_bytes(bytes.try_into().expect("a chunk of 8")))
            .fold(0, |all, word| all ^ word);
        let sequence = self.next;
        self.next += 1;
        let mut wanted = sequence ^ self.filler;
        let mut sound = message.len() == self.size && found == sequence;
        if self.size > 8 {
            let place = self.place.step();
            wanted ^= filler(place) ^ stamp(sequence);
            sound &= word(place) == stamp(sequence);
        }
        self.errors += u64::from(!sound || all != wanted);
        true
    }
}
