//! The algorithms.
//!
//! Knows words, lines and positions. Knows nothing of files, paths, clocks or sleeping; "is it dead?" has been decided by
//! the time anything here is called.

pub mod mpmc;
pub mod spsc;

/// What makes an operation refuse; the faces turn it into sentences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No room for the message now.
    Full,
    /// The message is longer than any that is sure to fit.
    TooLong,
    /// The ring holds what no honest peer can have written.
    Corrupt(Damage),
}

/// What no honest peer can have written. A byte, so that a refusal travels in a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// A cursor that is not a multiple of the line.
    Unaligned,
    /// `acked` further from `head` than the ring is long.
    Acked,
    /// `tail` further from the receiver's cursors than the ring is long.
    Tail,
    /// `head` ran backwards, or past what was sent.
    Head,
    /// A record's header.
    Header,
    /// A record that reaches beyond the free space.
    Overrun,
    /// An index that leads the records.
    Index,
    /// A slot's word with bits that nobody writes.
    Slot,
    /// A slot on a lap where it cannot be.
    Lap,
    /// A message longer than a slot.
    Length,
}

impl Damage {
    /// The part that is wrong, for a sentence.
    pub fn what(self) -> &'static str {
        match self {
            Damage::Unaligned => "cursor, which is not on a line,",
            Damage::Acked => "acked cursor",
            Damage::Tail => "tail cursor",
            Damage::Head => "head cursor",
            Damage::Header => "record header",
            Damage::Overrun => "last record, which reaches beyond the free space,",
            Damage::Index => "tail cursor, which leads the records,",
            Damage::Slot => "slot's word",
            Damage::Lap => "slot, which is on a lap where it cannot be,",
            Damage::Length => "message length",
        }
    }
}
