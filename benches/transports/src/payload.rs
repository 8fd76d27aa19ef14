//! Messages that tell whether they arrived: numbered and summed up by the sender, every byte checked on arrival.
//!
//! It knows the pattern. It refuses to know who carries it.
//!
//! # State
//!
//! ```text
//! bytes 0-3   the number of the message: 0, 1, 2, ...; all ones in the one that ends a run
//! bytes 4-7   the sum: of the number, the length and all words that follow
//! the rest    words that depend on their place alone, except one: the stamp, which depends on the number and moves on
//!             by one place with every message. What is left over at the end is filled up with zeros for the sum.
//! ```
//!
//! So a message says by itself whether it is whole, and a line left over from an earlier message cannot pass for long.

use std::fmt;

/// The shortest message: its number and its sum.
pub const LEAST: usize = 8;

/// The number of the message that ends a run.
const END: u32 = u32::MAX;

/// How many bytes of source buffers to rotate through, so that a stamp is written well before the copy reads it (a wide
/// load right behind a narrow store stalls, which no transport is to blame for).
const ROTATE: usize = 8 * 1024;
const ROTATE_MOST: usize = 8;

/// What belongs at a place that carries no stamp.
fn filler(place: usize) -> u64 {
    (place as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// What belongs at the stamped place of a message.
#[inline(always)]
fn stamp(number: u32) -> u64 {
    (u64::from(number) ^ 0x5851_f42d_4c95_7f2d).wrapping_mul(0xd6e8_feb8_6659_fd93)
}

/// The sum that a message carries.
#[inline(always)]
fn seal(number: u32, size: usize, words: u64) -> u32 {
    let all = words ^ u64::from(number).rotate_left(20) ^ (size as u64).rotate_left(52);
    (all.wrapping_mul(0x9fb2_1c65_1e98_df25) >> 32) as u32
}

/// All words but the first, added up.
#[inline(always)]
fn sum(message: &[u8]) -> u64 {
    let (words, rest) = message.get(8..).unwrap_or_default().as_chunks::<8>();
    let sum = words.iter().fold(0, |sum: u64, word| sum.wrapping_add(u64::from_ne_bytes(*word)));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    sum.wrapping_add(u64::from_ne_bytes(last))
}

#[inline(always)]
fn word(message: &[u8], place: usize) -> u64 {
    match message.get(place * 8..place * 8 + 8) {
        Some(bytes) => u64::from_ne_bytes(bytes.try_into().expect("a slice of 8")),
        None => 0,
    }
}

/// The stamped place: 1, 2, ... `words - 1`, 1, ...; 0 where there is no room for one.
#[derive(Debug)]
struct Place {
    at: usize,
    words: usize,
}

impl Place {
    fn new(size: usize) -> Place {
        let words = size / 8;
        Place { at: usize::from(words > 1), words }
    }

    /// Of the message that comes after so many others of its source.
    #[inline(always)]
    fn of(size: usize, before: u32) -> usize {
        match (size / 8) as u32 {
            0 | 1 => 0,
            words => (1 + before % (words - 1)) as usize,
        }
    }

    #[inline(always)]
    fn step(&mut self) -> usize {
        let at = self.at;
        if at != 0 {
            self.at = if at + 1 == self.words { 1 } else { at + 1 };
        }
        at
    }
}

/// Makes messages.
#[derive(Debug)]
pub struct Source {
    bytes: Vec<u8>,
    /// Where the first buffer begins, so that each lies on a line.
    offset: usize,
    size: usize,
    /// From one buffer to the next.
    stride: usize,
    /// The place stamped last in each buffer; 0 for none.
    stamped: Vec<usize>,
    turn: usize,
    next: u32,
    /// From one number to the next: how many sources share the numbers.
    step: u32,
    place: Place,
    /// The sum of a message without a stamp.
    plain: u64,
    /// This message goes out with one bit turned.
    spoilt: Option<u64>,
}

impl Source {
    /// A source of messages of `size` bytes.
    pub fn new(size: usize) -> Source {
        Source::among(size, 0, 1)
    }

    /// One of so many sources that share the numbers: it has every so manieth, from its own on.
    pub fn among(size: usize, first: u32, sources: u32) -> Source {
        assert!(size >= LEAST, "a message has its number and its sum");
        let buffers = (ROTATE / size).clamp(1, ROTATE_MOST);
        let stride = size.next_multiple_of(64);
        let mut bytes = vec![0; buffers * stride + 64];
        let offset = bytes.as_ptr().align_offset(64);
        for buffer in bytes[offset..].chunks_exact_mut(stride) {
            for (place, word) in buffer[..size].chunks_mut(8).enumerate() {
                word.copy_from_slice(&filler(place).to_ne_bytes()[..word.len()]);
            }
        }
        let plain = sum(&bytes[offset..offset + size]);
        let (place, stamped) = (Place::new(size), vec![0; buffers]);
        let mut source = Source {
            bytes,
            offset,
            size,
            stride,
            stamped,
            turn: 0,
            next: first,
            step: sources,
            place,
            plain,
            spoilt: None,
        };
        for buffer in 0..buffers {
            source.prepare(buffer);
        }
        source
    }

    /// Turns one bit of message `number` when it goes out: does anybody notice?
    pub fn spoil(&mut self, number: u64) {
        self.spoilt = Some(number);
    }

    fn start(&self, buffer: usize) -> usize {
        self.offset + buffer * self.stride
    }

    #[inline(always)]
    fn set(&mut self, buffer: usize, place: usize, word: u64) {
        let at = self.start(buffer) + place * 8;
        self.bytes[at..at + 8].copy_from_slice(&word.to_ne_bytes());
    }

    #[inline(always)]
    fn head(&mut self, buffer: usize, number: u32, words: u64) {
        let seal = seal(number, self.size, words);
        self.set(buffer, 0, u64::from(number) | u64::from(seal) << 32);
    }

    /// Turns a buffer into the next message.
    #[inline(always)]
    fn prepare(&mut self, buffer: usize) {
        let number = self.next;
        assert!(number < END - self.step, "so many messages are not numbered in one run");
        self.next += self.step;
        let place = self.place.step();
        let mut words = self.plain;
        if place != 0 {
            let old = self.stamped[buffer];
            if old != 0 {
                self.set(buffer, old, filler(old));
            }
            self.set(buffer, place, stamp(number));
            self.stamped[buffer] = place;
            words = words.wrapping_sub(filler(place)).wrapping_add(stamp(number));
        }
        self.head(buffer, number, words);
    }

    /// The next message.
    #[inline(always)]
    pub fn emit<T>(&mut self, send: impl FnOnce(&[u8]) -> T) -> T {
        let buffer = self.turn;
        self.turn = if buffer + 1 == self.stamped.len() { 0 } else { buffer + 1 };
        let start = self.start(buffer);
        let spoils = self.spoilt.is_some() && self.spoils();
        if spoils {
            self.turn_a_bit(start);
        }
        let done = send(&self.bytes[start..start + self.size]);
        if spoils {
            // Back: only this message is spoilt, and not what goes out in its place later.
            self.turn_a_bit(start);
        }
        self.prepare(buffer);
        done
    }

    /// Whether the message that goes out now is the one.
    #[cold]
    fn spoils(&self) -> bool {
        let ahead = self.stamped.len() as u64 * u64::from(self.step);
        self.spoilt == Some(u64::from(self.next) - ahead)
    }

    #[cold]
    fn turn_a_bit(&mut self, start: usize) {
        self.bytes[start + self.size - 1] ^= 0x10;
    }

    /// The message that ends the run.
    pub fn end<T>(&mut self, send: impl FnOnce(&[u8]) -> T) -> T {
        let start = self.start(self.turn);
        let words = sum(&self.bytes[start..start + self.size]);
        self.head(self.turn, END, words);
        send(&self.bytes[start..start + self.size])
    }
}

/// What a message was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The next one, with this number.
    Next(u64),
    /// The one that ends the run.
    End,
}

/// A message that was not what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The number that was due.
    number: u32,
    what: &'static str,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "message {} did not arrive as it was sent: {}", self.number, self.what)
    }
}

impl std::error::Error for Wrong {}

/// The number of a message that is whole.
#[inline(always)]
fn opened(message: &[u8], size: usize) -> Result<u32, &'static str> {
    let head = word(message, 0);
    let (found, sealed) = (head as u32, (head >> 32) as u32);
    if message.len() != size {
        return Err("its length is another");
    }
    if sealed != seal(found, size, sum(message)) {
        return Err("its checksum is another");
    }
    Ok(found)
}

/// Checks messages.
#[derive(Debug)]
pub struct Check {
    size: usize,
    next: u32,
    place: Place,
}

impl Check {
    /// A check for what a [`Source`] of this size makes.
    pub fn new(size: usize) -> Check {
        Check { size, next: 0, place: Place::new(size) }
    }

    /// Reads every byte of a message. Whatever it was, the next is due then: so whoever goes on counts one that was spoilt
    /// as one.
    #[inline(always)]
    pub fn look(&mut self, message: &[u8]) -> Result<Seen, Wrong> {
        let (number, place) = (self.next, self.place.step());
        // One more than there are numbers would be noticed by the source.
        self.next = number.wrapping_add(1);
        let found = opened(message, self.size).map_err(|what| Wrong { number, what })?;
        if found == END {
            return Ok(Seen::End);
        }
        if found != number {
            return Err(Wrong { number, what: "another came in its place" });
        }
        if place != 0 && word(message, place) != stamp(number) {
            return Err(Wrong { number, what: "a part of it is another's" });
        }
        Ok(Seen::Next(u64::from(number)))
    }
}

/// Checks the messages that one of several receivers gets of several sources: each is whole, and those of one source come
/// in its order. That none is missing is for all receivers together to say.
#[derive(Debug)]
pub struct Mixed {
    size: usize,
    /// The least that each source may send next.
    next: Vec<u32>,
}

impl Mixed {
    /// A check for what so many sources of this size make, each [among](Source::among) them.
    pub fn new(size: usize, sources: u32) -> Mixed {
        Mixed { size, next: (0..sources).collect() }
    }

    /// Reads every byte of a message.
    #[inline(always)]
    pub fn look(&mut self, message: &[u8]) -> Result<Seen, Wrong> {
        let sources = self.next.len() as u32;
        let found = opened(message, self.size)
            .map_err(|what| Wrong { number: word(message, 0) as u32, what })?;
        if found == END {
            return Ok(Seen::End);
        }
        let next = &mut self.next[(found % sources) as usize];
        if found < *next {
            return Err(Wrong { number: *next, what: "one before it came after it" });
        }
        *next = found + sources;
        let place = Place::of(self.size, found / sources);
        if place != 0 && word(message, place) != stamp(found) {
            return Err(Wrong { number: found, what: "a part of it is another's" });
        }
        Ok(Seen::Next(u64::from(found)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: [usize; 9] = [8, 9, 15, 16, 24, 64, 100, 1000, 65_536];

    fn messages(size: usize, count: usize) -> Vec<Vec<u8>> {
        let mut source = Source::new(size);
        (0..count).map(|_| source.emit(<[u8]>::to_vec)).collect()
    }

    #[test]
    fn what_arrives_as_it_was_sent_passes_to_the_end() {
        for size in SIZES {
            let (mut source, mut check) = (Source::new(size), Check::new(size));
            for number in 0..300 {
                assert_eq!(source.emit(|m| check.look(m)), Ok(Seen::Next(number)), "size {size}");
            }
            assert_eq!(source.end(|m| check.look(m)), Ok(Seen::End), "size {size}");
        }
    }

    #[test]
    fn of_several_sources_each_keeps_its_order_and_any_may_have_gaps() {
        for size in SIZES {
            let all = |first| -> Vec<Vec<u8>> {
                let mut source = Source::among(size, first, 2);
                (0..300).map(|_| source.emit(<[u8]>::to_vec)).collect()
            };
            let [even, odd] = [all(0), all(1)];
            let mut check = Mixed::new(size, 2);
            for number in (0..300).step_by(7) {
                assert_eq!(check.look(&odd[number]), Ok(Seen::Next(number as u64 * 2 + 1)));
            }
            assert_eq!(check.look(&even[0]), Ok(Seen::Next(0)), "size {size}");
            assert!(check.look(&even[0]).is_err(), "repeated, size {size}");
            assert_eq!(check.look(&even[5]), Ok(Seen::Next(10)), "size {size}");
            assert!(check.look(&even[4]).is_err(), "out of order, size {size}");
            let mut spoilt = even[6].clone();
            spoilt[size - 1] ^= 0x10;
            assert!(check.look(&spoilt).is_err(), "spoilt, size {size}");
            let end = Source::among(size, 1, 2).end(<[u8]>::to_vec);
            assert_eq!(check.look(&end), Ok(Seen::End), "size {size}");
        }
    }

    #[test]
    fn every_single_bit_that_is_turned_is_noticed() {
        for size in [8, 9, 15, 16, 24, 64, 100] {
            for (number, message) in messages(size, 20).iter().enumerate() {
                for bit in 0..size * 8 {
                    let mut check = Check::new(size);
                    for before in messages(size, number) {
                        check.look(&before).unwrap();
                    }
                    let mut spoilt = message.clone();
                    spoilt[bit / 8] ^= 1 << (bit % 8);
                    assert!(check.look(&spoilt).is_err(), "size {size}, bit {bit}");
                }
            }
        }
    }

    #[test]
    fn what_is_lost_repeated_cut_or_longer_is_noticed() {
        for size in SIZES {
            let sent = messages(size, 3);
            let first = || {
                let mut check = Check::new(size);
                check.look(&sent[0]).unwrap();
                check
            };
            assert!(first().look(&sent[0]).is_err(), "repeated, size {size}");
            assert!(first().look(&sent[2]).is_err(), "lost, size {size}");
            assert!(first().look(&sent[1][..size - 1]).is_err(), "cut, size {size}");
            assert!(first().look(&[&sent[1][..], &[0]].concat()).is_err(), "longer, size {size}");
            assert!(first().look(&[]).is_err(), "nothing, size {size}");
        }
    }

    #[test]
    fn a_line_of_an_earlier_message_is_noticed() {
        let sent = messages(256, 20);
        for number in 8..20 {
            for line in 0..4 {
                let mut check = Check::new(256);
                for before in &sent[..number] {
                    check.look(before).unwrap();
                }
                let mut mixed = sent[number].clone();
                let line = line * 64..line * 64 + 64;
                mixed[line.clone()].copy_from_slice(&sent[number - 8][line.clone()]);
                assert!(mixed == sent[number] || check.look(&mixed).is_err(), "{number}, {line:?}");
            }
        }
    }

    #[test]
    fn a_stamp_in_another_place_is_noticed() {
        // The sum is the same.
        let mut exchanged = messages(64, 1).remove(0);
        let (one, other) = exchanged[8..].split_at_mut(8);
        one.swap_with_slice(&mut other[..8]);
        assert!(Check::new(64).look(&exchanged).is_err());
    }

    #[test]
    fn whoever_goes_on_after_a_spoilt_message_finds_the_others_whole() {
        for size in SIZES {
            let (mut source, mut check) = (Source::new(size), Check::new(size));
            source.spoil(5);
            let wrong = (0..100).filter(|_| source.emit(|m| check.look(m)).is_err()).count();
            assert_eq!(wrong, 1, "size {size}");
            assert_eq!(source.end(|m| check.look(m)), Ok(Seen::End), "size {size}");
        }
    }

    #[test]
    fn a_spoilt_message_is_the_one_that_was_asked_for() {
        for size in SIZES {
            let (mut source, mut check) = (Source::new(size), Check::new(size));
            source.spoil(5);
            for number in 0..5 {
                assert_eq!(source.emit(|m| check.look(m)), Ok(Seen::Next(number)), "size {size}");
            }
            let seen = source.emit(|m| check.look(m));
            assert_eq!(seen.unwrap_err().number, 5, "size {size}");
        }
    }
}
