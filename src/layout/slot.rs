//! The word of a slot: on which lap it is, what is in it, and whose claim that is.
//!
//! Knows its bits. Knows nothing of memory or of who writes it.
//!
//! ```text
//!  63                       16 15            4 3     0
//! +---------------------------+---------------+-------+
//! |            lap            |     owner     | state |
//! +---------------------------+---------------+-------+
//! ```
//!
//! | state       | owner | meaning                                                          |
//! |-------------|-------|------------------------------------------------------------------|
//! | 0 EMPTY     | 0     | free for the sender of this lap                                  |
//! | 1 WRITING   | seat  | claimed by a sender, which writes                                |
//! | 2 READY     | 0     | a message that nobody has taken                                  |
//! | 3 READING   | seat  | taken by a receiver, which has it in hand                        |
//! | 4 REDELIVER | 0     | taken once, and to be handed out again                           |
//! | 5 SKIP      | 0     | claimed, and given up: a receiver steps over it                  |
//!
//! The claim and the claimant are one word, so one compare-and-swap makes both visible: whoever dies with a claim has left
//! its name in it.

/// The word of one slot, loaded once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Word(pub u64);

/// What is in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Free.
    Empty,
    /// A sender writes.
    Writing,
    /// A message that nobody has taken.
    Ready,
    /// A receiver has it in hand.
    Reading,
    /// To be handed out again.
    Redeliver,
    /// Given up by its sender.
    Skip,
}

const EMPTY: u64 = 0;
const WRITING: u64 = 1;
const READY: u64 = 2;
const READING: u64 = 3;
const REDELIVER: u64 = 4;
const SKIP: u64 = 5;

const STATE_BITS: u64 = 0xf;
const OWNER_SHIFT: u32 = 4;
const OWNER_BITS: u64 = 0xfff;
const LAP_SHIFT: u32 = 16;

impl core::fmt::Debug for Word {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?}(lap {}, owner {})", self.state(), self.lap(), self.owner())
    }
}

impl Word {
    /// Free for the sender of `lap`.
    #[inline]
    pub const fn empty(lap: u64) -> Word {
        Word(lap << LAP_SHIFT | EMPTY)
    }

    /// Claimed by the sender in seat `owner`.
    #[inline]
    pub const fn writing(lap: u64, owner: u32) -> Word {
        Word(lap << LAP_SHIFT | ((owner as u64) & OWNER_BITS) << OWNER_SHIFT | WRITING)
    }

    /// A message.
    #[inline]
    pub const fn ready(lap: u64) -> Word {
        Word(lap << LAP_SHIFT | READY)
    }

    /// In the hand of the receiver in seat `owner`.
    #[inline]
    pub const fn reading(lap: u64, owner: u32) -> Word {
        Word(lap << LAP_SHIFT | ((owner as u64) & OWNER_BITS) << OWNER_SHIFT | READING)
    }

    /// To be handed out again.
    #[inline]
    pub const fn redeliver(lap: u64) -> Word {
        Word(lap << LAP_SHIFT | REDELIVER)
    }

    /// Given up.
    #[inline]
    pub const fn skip(lap: u64) -> Word {
        Word(lap << LAP_SHIFT | SKIP)
    }

    /// The lap.
    #[inline]
    pub const fn lap(self) -> u64 {
        self.0 >> LAP_SHIFT
    }

    /// The seat whose claim it is; without meaning in a state that has none.
    #[inline]
    pub const fn owner(self) -> u32 {
        ((self.0 >> OWNER_SHIFT) & OWNER_BITS) as u32
    }

    /// What is in the slot; `None` for bits that nobody writes.
    #[inline]
    pub const fn state(self) -> Option<State> {
        let owned = self.owner() != 0;
        match self.0 & STATE_BITS {
            WRITING => Some(State::Writing),
            READING => Some(State::Reading),
            _ if owned => None,
            EMPTY => Some(State::Empty),
            READY => Some(State::Ready),
            REDELIVER => Some(State::Redeliver),
            SKIP => Some(State::Skip),
            _ => None,
        }
    }
}

/// The word behind it: how long the message is, and how often it was handed out again.
///
/// ```text
///  63            40 39            32 31                    0
/// +----------------+----------------+-----------------------+
/// |       0        | handed out     | bytes of payload      |
/// |                | again, to 255  |                       |
/// +----------------+----------------+-----------------------+
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Bytes of payload.
    pub len: u32,
    /// How often the message was taken to be handed out again. A death may cost one; stops at 255.
    pub again: u8,
}

impl Meta {
    /// The bits.
    #[inline]
    pub const fn bits(self) -> u64 {
        (self.again as u64) << 32 | self.len as u64
    }

    /// Reads the bits. `len` is what stands there: callers compare it with what a slot holds.
    #[inline]
    pub const fn parse(bits: u64) -> Meta {
        Meta { len: bits as u32, again: (bits >> 32) as u8 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let lap = (1 << 48) - 2;
        for (word, state, owner) in [
            (Word::empty(lap), State::Empty, 0),
            (Word::writing(lap, 1023), State::Writing, 1023),
            (Word::writing(lap, 0), State::Writing, 0),
            (Word::ready(lap), State::Ready, 0),
            (Word::reading(lap, 4095), State::Reading, 4095),
            (Word::redeliver(lap), State::Redeliver, 0),
            (Word::skip(lap), State::Skip, 0),
        ] {
            assert_eq!((word.state(), word.owner(), word.lap()), (Some(state), owner, lap));
        }
        assert_eq!(Word::empty(0).0, 0, "a new file is a ring of empty slots");
        let meta = Meta { len: 1 << 30, again: 255 };
        assert_eq!(Meta::parse(meta.bits()), meta);
    }

    #[test]
    fn what_nobody_writes_has_no_state() {
        for bits in 6..16 {
            assert_eq!(Word(bits).state(), None);
        }
        for state in [EMPTY, READY, REDELIVER, SKIP] {
            assert_eq!(Word(7 << OWNER_SHIFT | state).state(), None, "an owner where none can be");
        }
    }
}
