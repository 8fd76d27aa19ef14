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
    /// Times the receiver found the ring empty and waited. News only.
    RECEIVER_WAITS = 0x2180;
    /// Times the receiver woke the sender. News only.
    RECEIVER_WAKES = 0x2188;
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

/// Bytes before the data: the header's page, the sender's, the receiver's, the wait words' and a reserved one.
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
