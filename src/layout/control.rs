//! The control words: where each one lies and who writes it.
//!
//! Knows offsets, widths and owners. Knows nothing of what the algorithms do with the words.
//!
//! Offsets are constants of the file format (docs/memory-layout.md), the same on every target. Words that different
//! processes write lie on different pairs of cache lines (128 bytes apart), because some processors fetch lines in
//! pairs. The words that are polled (`TAIL`, `HEAD`, the wait words) share their line with nothing that is stored for
//! every message: such a store would have to fetch the line back from the poller.

/// A 64-bit control word, by its offset in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    offset: usize,
    index: usize,
}

/// A 32-bit control word, by its offset in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word32 {
    offset: usize,
    index: usize,
}

macro_rules! words {
    ($type:ident, $count:ident, $all:ident; $($(#[$doc:meta])* $name:ident = $offset:literal;)*) => {
        words!(@each $type, 0usize; $($(#[$doc])* $name = $offset;)*);
        /// Every word of this width, in the order of the file.
        pub const $all: &[(&str, $type)] = &[$((stringify!($name), $name)),*];
        /// How many words of this width there are.
        pub const $count: usize = $all.len();
    };
    (@each $type:ident, $index:expr; $(#[$doc:meta])* $name:ident = $offset:literal; $($rest:tt)*) => {
        $(#[$doc])*
        pub const $name: $type = $type { offset: $offset, index: $index };
        words!(@each $type, $index + 1usize; $($rest)*);
    };
    (@each $type:ident, $index:expr;) => {};
}

words! { Word, WORDS, ALL_WORDS;
    /// Index of the stream: every record before it is committed. Written by the sender; may lag behind the in-band
    /// commit by the operation in flight, never leads it.
    TAIL = 0x1000;
    /// The sender's seat: arrivals and state (`roster`). Written by whoever holds the sender's role.
    SENDER_SEAT = 0x1080;
    /// Senders that died without leaving. Holder of the sender's role.
    SENDER_DEATHS = 0x1088;
    /// The last sender's process id. For people; no decision reads it.
    SENDER_PID = 0x1090;
    /// Times the sender found the ring full and waited. News only.
    SENDER_WAITS = 0x1100;
    /// Times the sender woke the receiver. News only.
    SENDER_WAKES = 0x1108;
    /// Messages committed since the ring was made. Sender; news only.
    SENT = 0x1110;
    /// Bytes of payload committed since the ring was made. Sender; news only.
    SENT_BYTES = 0x1118;
    /// What the sender may overwrite ends here plus the capacity. Written by the receiver at every release, last.
    HEAD = 0x2000;
    /// What a successor need not read again. Written by the receiver at every release, first.
    ACKED = 0x2080;
    /// The end of the last record that was handed out. Receiver; read by its successor.
    TAKEN = 0x2088;
    /// How often the record at `ACKED` was handed out again. Receiver; read by its successor.
    ATTEMPTS = 0x2090;
    /// Messages counted lost with a receiver that died (`Delivery::AtMostOnce`). Receiver.
    LOST = 0x2098;
    /// Messages delivered again. Receiver; news only.
    REDELIVERED = 0x20a0;
    /// Messages released since the ring was made. Receiver; news only.
    RECEIVED = 0x20a8;
    /// Bytes of payload released since the ring was made. Receiver; news only.
    RECEIVED_BYTES = 0x20b0;
    /// The receiver's seat: arrivals and state (`roster`). Written by whoever holds the receiver's role.
    RECEIVER_SEAT = 0x2100;
    /// Receivers that died without leaving. Holder of the receiver's role.
    RECEIVER_DEATHS = 0x2108;
    /// The last receiver's process id. For people; no decision reads it.
    RECEIVER_PID = 0x2110;
    /// Arrivals of senders whose end has been reported. Written by the receiver.
    ENDED = 0x2120;
    /// Ring of slots: deaths of senders that were told with the last end. Receivers, by the largest.
    ENDED_DEATHS = 0x2128;
    /// Times the receiver found the ring empty and waited. News only.
    RECEIVER_WAITS = 0x2180;
    /// Times the receiver woke the sender. News only.
    RECEIVER_WAKES = 0x2188;
    /// Ring of slots: how often messages were put aside to be delivered again. Whoever puts one aside adds.
    EPOCH = 0x4000;
    /// Ring of slots: the `EPOCH` of which no message is aside any more. Receivers, by the largest.
    SCANNED = 0x4080;
    /// Ring of slots: no seat from this one on has ever been taken. Whoever arrives, by the largest.
    SEATS_USED = 0x4100;
    /// Ring of slots: how often somebody looked through the seats for the dead. A hint.
    SWEEPS = 0x4108;
    /// Ring of slots: senders that have come.
    SENDER_ARRIVALS = 0x4180;
    /// Ring of slots: senders that have let go of their seats.
    SENDER_LEAVES = 0x4188;
    /// Ring of slots: receivers that have come.
    RECEIVER_ARRIVALS = 0x4200;
    /// Ring of slots: receivers that have let go of their seats.
    RECEIVER_LEAVES = 0x4208;
}

words! { Word32, WORDS32, ALL_WORDS32;
    /// Not 0: the sender's fence before it looks for a sleeper is the compiler's only.
    SENDER_LIGHT = 0x1098;
    /// Not 0: the receiver's fence before it looks for a sleeper is the compiler's only.
    RECEIVER_LIGHT = 0x2118;
    /// Where the receiver sleeps while the ring is empty (`wake`).
    NOT_EMPTY = 0x3000;
    /// Where the sender sleeps while the ring is full (`wake`).
    NOT_FULL = 0x3080;
    /// Ring of slots. Not 0: the fence of some participant, before it looks for a sleeper, is the compiler's only.
    LIGHT = 0x4280;
    /// Ring of slots. Not 0: some receiver waits for the last messages in other hands, so whoever releases one wakes it.
    DRAINING = 0x4284;
}

/// A word of a seat in the table, by its offset in the seat. The first line changes when somebody comes or goes, the
/// second with every message: nobody else polls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeatWord(usize);

impl SeatWord {
    /// Who sits there (`seats`).
    pub const STATE: SeatWord = SeatWord(0);
    /// The process that sits there. For people; no decision reads it.
    pub const PID: SeatWord = SeatWord(8);
    /// The position of the message that is being counted lost (`LOST_NEXT` is not 0).
    pub const LOST_AT: SeatWord = SeatWord(16);
    /// What `LOST` will be when the message at `LOST_AT` has been counted; 0 when none is being counted.
    pub const LOST_NEXT: SeatWord = SeatWord(24);
    /// Messages committed from this seat.
    pub const SENT: SeatWord = SeatWord(64);
    /// Messages received and released.
    pub const RECEIVED: SeatWord = SeatWord(72);
    /// Messages received that had been handed out before.
    pub const REDELIVERED: SeatWord = SeatWord(80);
    /// Claims without a message that this seat has stepped over.
    pub const SKIPPED: SeatWord = SeatWord(88);
    /// Messages lost with this seat's holders.
    pub const LOST: SeatWord = SeatWord(96);
    /// Times it found the ring full and waited.
    pub const FULL_WAITS: SeatWord = SeatWord(104);
    /// Times it found the ring empty and waited.
    pub const EMPTY_WAITS: SeatWord = SeatWord(112);
    /// Times it woke somebody.
    pub const WAKES: SeatWord = SeatWord(120);

    /// Bytes from the seat's start.
    pub const fn offset(self) -> usize {
        self.0
    }
}

impl Word {
    /// Bytes from the start of the file.
    pub const fn offset(self) -> usize {
        self.offset
    }

    /// Its place in [`ALL_WORDS`]: a model's memory is a table.
    #[cfg_attr(not(any(loom, shuttle)), allow(dead_code))]
    pub const fn index(self) -> usize {
        self.index
    }
}

impl Word32 {
    /// Bytes from the start of the file.
    pub const fn offset(self) -> usize {
        self.offset
    }

    /// Its place in [`ALL_WORDS32`]: a model's memory is a table.
    #[cfg_attr(not(any(loom, shuttle)), allow(dead_code))]
    pub const fn index(self) -> usize {
        self.index
    }
}

/// Bytes before the data: the header's page, the senders', the receivers', the wait words' and that of the ring of slots.
pub const CONTROL_LEN: usize = 0x5000;

const _: () = {
    let mut at = 0;
    while at < WORDS {
        assert!(ALL_WORDS[at].1.offset % 8 == 0 && ALL_WORDS[at].1.offset + 8 <= CONTROL_LEN);
        assert!(ALL_WORDS[at].1.index == at);
        at += 1;
    }
    let mut at = 0;
    while at < WORDS32 {
        assert!(ALL_WORDS32[at].1.offset % 4 == 0 && ALL_WORDS32[at].1.offset + 4 <= CONTROL_LEN);
        assert!(ALL_WORDS32[at].1.index == at);
        at += 1;
    }
};
