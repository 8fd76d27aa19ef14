//! The word that commits a record.
//!
//! Knows its bits. Knows nothing of memory or of who writes it.
//!
//! ```text
//!  63            48 47     40 39                                        0
//! +----------------+---------+-------------------------------------------+
//! |  line number   |  kind   |                length + 1                 |
//! +----------------+---------+-------------------------------------------+
//! ```
//!
//! - 0 is "nothing here yet"; no committed word is 0, because of the `+ 1`.
//! - `kind` 1 is a message whose payload follows 16 bytes behind the record's start, 3 one whose payload starts on the
//!   next line; the length is that of the payload. `kind` 2 is a pad; its length is that of all its lines, up to the end
//!   of the ring's memory.
//! - The line number is the low 16 bits of the record's position divided by the line: a tripwire. A payload or an old
//!   record that is mistaken for a header is refused unless it also names its place.

use super::geometry::{Geometry, HEADER, LINE};

/// "Nothing here yet."
pub const EMPTY: u64 = 0;

const MESSAGE: u64 = 1 << 40;
const PAD: u64 = 2 << 40;
const APART: u64 = 3 << 40;
const LENGTH_BITS: u64 = (1 << 40) - 1;

/// The validated header of a message: kind and length, as they stand in the word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message(u64);

impl Message {
    /// A message of no bytes.
    pub const NOTHING: Self = Self(MESSAGE | 1);

    /// Reads a word that was loaded from the line of `position`. `None` when no sender of this format can have committed a
    /// message there with it.
    #[inline]
    pub const fn parse(word: u64, position: u64, ring: Geometry) -> Option<Self> {
        let message = Self(word ^ line_number(position));
        if !matches!(message.0 & !LENGTH_BITS, MESSAGE | APART) {
            return None;
        }
        // The length first: only then can the sum not overflow.
        if message.len() <= ring.max_len() && message.span() <= ring.room_to_wrap(position) {
            Some(message)
        } else {
            None
        }
    }

    /// Whether `word` is the header that says just this at `position`.
    #[inline]
    pub const fn is_at(self, position: u64, word: u64) -> bool {
        word ^ line_number(position) == self.0
    }

    /// Bytes of payload.
    #[inline]
    pub const fn len(self) -> u64 {
        (self.0 & LENGTH_BITS).wrapping_sub(1)
    }

    /// Bytes from the record's start to its payload.
    #[inline]
    pub const fn payload(self) -> u64 {
        if self.0 & !LENGTH_BITS == APART { LINE } else { HEADER }
    }

    /// Bytes that it covers with its header, in whole lines.
    #[inline]
    pub const fn span(self) -> u64 {
        Geometry::span(self.len(), self.payload())
    }
}

/// A validated header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// A message.
    Message(Message),
    /// Nothing up to the end of the ring's memory.
    Pad {
        /// Bytes of the pad, in whole lines.
        span: u64,
    },
}

#[inline]
const fn line_number(position: u64) -> u64 {
    debug_assert!(position % LINE == 0);
    // The number of its line, in the top 16 bits.
    position << (48 - LINE.trailing_zeros())
}

/// The word that commits a message of `len` bytes at `position`, whose payload starts `payload` bytes behind it.
#[inline]
pub const fn message(position: u64, len: u64, payload: u64) -> u64 {
    let kind = if payload == LINE { APART } else { MESSAGE };
    line_number(position) | kind | (len + 1)
}

/// The word that commits a pad of `span` bytes at `position`.
#[inline]
pub const fn pad(position: u64, span: u64) -> u64 {
    line_number(position) | PAD | (span + 1)
}

impl Record {
    /// Reads a word that is not [`EMPTY`] and was loaded from the line of `position`. `None` when no sender of this
    /// format can have written it there.
    #[inline]
    pub const fn parse(word: u64, position: u64, ring: Geometry) -> Option<Self> {
        if let Some(message) = Message::parse(word, position, ring) {
            return Some(Self::Message(message));
        }
        let tagged = word ^ line_number(position);
        let span = (tagged & LENGTH_BITS).wrapping_sub(1);
        let is_pad = tagged & !LENGTH_BITS == PAD
            && span == ring.room_to_wrap(position)
            && span < ring.capacity() / 2;
        if is_pad { Some(Self::Pad { span }) } else { None }
    }

    /// Bytes that the record covers, in whole lines.
    #[inline]
    pub const fn span(self) -> u64 {
        match self {
            Self::Message(message) => message.span(),
            Self::Pad { span } => span,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_nothing_else_is() {
        let ring = Geometry::new(4096).expect("legal");
        let at = 4096 * 5 + 64 * 3;
        let read = |word, at| Record::parse(word, at, ring);
        assert_eq!(read(message(at, 0, HEADER), at), Some(Record::Message(Message::NOTHING)));
        let longest = Message::parse(message(at, ring.max_len(), LINE), at, ring).expect("legal");
        assert_eq!((longest.len(), longest.payload()), (ring.max_len(), LINE));
        assert_eq!(read(message(at, ring.max_len() + 1, LINE), at), None, "too long");
        assert_eq!(read(message(at, 1, HEADER), at + 64), None, "names another line");
        let one = Message::parse(message(at, 1, HEADER), at, ring).expect("legal");
        assert!(one.is_at(at + 64, message(at + 64, 1, HEADER)), "the same on its own line");
        assert!(!one.is_at(at + 64, message(at, 1, HEADER)), "names another line");
        assert!(!one.is_at(at + 64, message(at + 64, 2, HEADER)), "as long as another");
        assert!(!one.is_at(at + 64, message(at + 64, 1, LINE)), "its payload lies apart");
        let late = 4096 * 6 - 128;
        assert_eq!(read(message(late, 200, LINE), late), None, "straddles the end");
        assert_eq!(read(pad(late, 128), late), Some(Record::Pad { span: 128 }));
        assert_eq!(read(pad(late, 64), late), None, "a pad reaches the end");
        assert_eq!(read(pad(4096, 4096), 4096), None, "a pad is shorter than half the ring");
        let honest = message(at, 5, HEADER);
        for word in
            [1, u64::MAX, MESSAGE, PAD, APART, 4 << 40 | 1, honest ^ 1 << 39, honest ^ 1 << 44]
        {
            assert_eq!(read(word, at), None, "{word:#x}");
        }
    }
}
