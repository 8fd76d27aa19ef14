//! The first 256 bytes of a ring's file. Knows every field and every rule that a
//! sound header keeps; knows nothing of files, and trusts no byte.
//!
//! ```text
//! 0x00 magic    8 bytes   "QUOITRNG"       0x38 total     u64  bytes in all
//! 0x08 version  u32       1                0x40 uuid      16 bytes
//! 0x0c kind     u32       1 spsc, 2 mpmc   0x50 start     u64  first position
//! 0x10 flags    u64       see below        0x58 created   u64  unix, nanoseconds
//! 0x18 capacity u64                        0x60 zero      to 0xf8
//! 0x20 max_len  u64                        0xf8 check     u64  FNV-1a of 0..0xf8
//! 0x28 line     u64       64
//! 0x30 data_off u64       0x5000 spsc, 0x25000 mpmc
//! ```
//!
//! All numbers are little-endian, whatever the target. The header is complete
//! before the file has a name and never changes after: it is read once into a local
//! buffer, and only the decoded copy is used.
#![forbid(unsafe_code)]

use super::control::CONTROL_LEN;
use super::geometry::{LINE, MIN_SLOTS, SEAT_LEN, SEATS, Shape, Slots, spsc_max_len};

/// The header's length in bytes.
pub(crate) const HEADER_LEN: usize = 256;
/// What a ring's file begins with.
pub(crate) const MAGIC: [u8; 8] = *b"QUOITRNG";
/// The layout that this build reads and writes.
pub(crate) const VERSION: u32 = 1;
/// Where the data of a ring of bytes begins.
pub(crate) const DATA_OFF: u64 = CONTROL_LEN as u64;
/// Where the slots of a ring of slots begin: behind the table of seats.
pub(crate) const SLOTS_OFF: u64 = DATA_OFF + SEATS as u64 * SEAT_LEN;
/// The smallest ring of bytes, and the most bytes that records or slots take, on any target.
pub(crate) const SPSC_MIN: u64 = 1 << 12;
pub(crate) const DATA_MAX: u64 = 1 << 40;

/// The bits of `flags`: the ring waits for the next peer for ever; a message whose
/// receiver dies is lost.
pub(crate) const KEEP_OPEN: u64 = 1 << 0;
pub(crate) const AT_MOST_ONCE: u64 = 1 << 1;

const AT_VERSION: usize = 0x08;
const AT_KIND: usize = 0x0c;
const AT_FLAGS: usize = 0x10;
const AT_CAPACITY: usize = 0x18;
const AT_MAX_LEN: usize = 0x20;
const AT_LINE: usize = 0x28;
const AT_DATA_OFF: usize = 0x30;
const AT_TOTAL: usize = 0x38;
const AT_UUID: usize = 0x40;
const AT_START: usize = 0x50;
const AT_CREATED: usize = 0x58;
const AT_ZERO: usize = 0x60;
const AT_CHECK: usize = 0xf8;

/// Which ring algorithm a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// One sender, one receiver, messages of any length.
    Spsc,
    /// Many senders and receivers, slots of one length.
    Mpmc,
}

impl Kind {
    /// The name of the module that opens it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Spsc => "spsc",
            Kind::Mpmc => "mpmc",
        }
    }

    const fn number(self) -> u32 {
        match self {
            Kind::Spsc => 1,
            Kind::Mpmc => 2,
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a ring is, once and for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) flags: u64,
    pub(crate) capacity: u64,
    pub(crate) max_len: u64,
    pub(crate) uuid: [u8; 16],
    pub(crate) start: u64,
    pub(crate) created: u64,
}

/// What is wrong with a file's first bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// Nothing but zeros.
    Zeros,
    /// Something else altogether.
    NotARing,
    /// Another layout.
    Version { found: u32 },
    /// An algorithm that this build does not know.
    Kind { found: u32 },
    /// The file ends before the ring does.
    Truncated { found: u64, wanted: u64 },
    /// A ring's header that contradicts itself.
    Corrupt { what: &'static str },
}

impl Header {
    /// Whether the ring waits for the next peer for ever.
    pub(crate) fn keep_open(&self) -> bool {
        self.flags & KEEP_OPEN != 0
    }

    /// Whether a message is lost with the receiver that had it in hand.
    pub(crate) fn at_most_once(&self) -> bool {
        self.flags & AT_MOST_ONCE != 0
    }

    /// The shape of a ring of slots; `None` for a ring of bytes.
    pub(crate) fn slots(&self) -> Option<Slots> {
        match self.kind {
            Kind::Spsc => None,
            Kind::Mpmc => Slots::within(DATA_MAX, self.capacity, self.max_len, SEATS),
        }
    }

    /// Where the data begins, the table of seats not counted.
    pub(crate) fn data_off(&self) -> u64 {
        match self.kind {
            Kind::Spsc => DATA_OFF,
            Kind::Mpmc => SLOTS_OFF,
        }
    }

    /// The bytes of the whole file.
    pub(crate) fn total(&self) -> u64 {
        // All of it is bounded by `decode` or the options' checks: no overflow.
        match self.slots() {
            None => DATA_OFF + self.capacity,
            Some(ring) => DATA_OFF + ring.bytes(),
        }
    }

    /// The header as it stands in a file.
    pub(crate) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0u8; HEADER_LEN];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, &MAGIC);
        put(AT_VERSION, &VERSION.to_le_bytes());
        put(AT_KIND, &self.kind.number().to_le_bytes());
        put(AT_FLAGS, &self.flags.to_le_bytes());
        put(AT_CAPACITY, &self.capacity.to_le_bytes());
        put(AT_MAX_LEN, &self.max_len.to_le_bytes());
        put(AT_LINE, &LINE.to_le_bytes());
        put(AT_DATA_OFF, &self.data_off().to_le_bytes());
        put(AT_TOTAL, &self.total().to_le_bytes());
        put(AT_UUID, &self.uuid);
        put(AT_START, &self.start.to_le_bytes());
        put(AT_CREATED, &self.created.to_le_bytes());
        let check = fnv1a(&bytes[..AT_CHECK]);
        bytes[AT_CHECK..].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// Reads the first bytes of a file of `file_len` bytes. `bytes` is a private
    /// copy of as much of the header as the file has.
    pub(crate) fn decode(bytes: &[u8], file_len: u64) -> Result<Header, Malformed> {
        let bytes = &bytes[..bytes.len().min(HEADER_LEN)];
        let prefix = bytes.len().min(MAGIC.len());
        if bytes[..prefix] != MAGIC[..prefix] {
            let zeros = bytes.iter().all(|&byte| byte == 0);
            return Err(if zeros { Malformed::Zeros } else { Malformed::NotARing });
        }
        let Ok(bytes) = <&[u8; HEADER_LEN]>::try_from(bytes) else {
            let found = file_len.min(bytes.len() as u64);
            return Err(Malformed::Truncated { found, wanted: HEADER_LEN as u64 });
        };
        // Before the checksum: another layout may have another one.
        let version = u32_at(bytes, AT_VERSION);
        if version != VERSION {
            return Err(Malformed::Version { found: version });
        }
        let corrupt = |what| Err(Malformed::Corrupt { what });
        if u64_at(bytes, AT_CHECK) != fnv1a(&bytes[..AT_CHECK]) {
            return corrupt("header checksum");
        }
        // From here on only a writer who also made the checksum fit is refused.
        let kind = match u32_at(bytes, AT_KIND) {
            1 => Kind::Spsc,
            2 => Kind::Mpmc,
            found => return Err(Malformed::Kind { found }),
        };
        let flags = u64_at(bytes, AT_FLAGS);
        if flags & !(KEEP_OPEN | AT_MOST_ONCE) != 0 {
            return corrupt("flags field");
        }
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&bytes[AT_UUID..AT_UUID + 16]);
        let header = Header {
            kind,
            flags,
            capacity: u64_at(bytes, AT_CAPACITY),
            max_len: u64_at(bytes, AT_MAX_LEN),
            uuid,
            start: u64_at(bytes, AT_START),
            created: u64_at(bytes, AT_CREATED),
        };
        let (least, most, unit) = match kind {
            Kind::Spsc => (SPSC_MIN, DATA_MAX, LINE),
            Kind::Mpmc => (MIN_SLOTS, DATA_MAX / LINE, 1),
        };
        if !header.capacity.is_power_of_two() || !(least..=most).contains(&header.capacity) {
            return corrupt("capacity field");
        }
        if u64_at(bytes, AT_LINE) != LINE {
            return corrupt("line field");
        }
        if u64_at(bytes, AT_DATA_OFF) != header.data_off() {
            return corrupt("data offset field");
        }
        let fits = match kind {
            Kind::Spsc => header.max_len == spsc_max_len(header.capacity),
            Kind::Mpmc => header.slots().is_some(),
        };
        if !fits {
            return corrupt("message length field");
        }
        let total = header.total();
        if u64_at(bytes, AT_TOTAL) != total {
            return corrupt("total length field");
        }
        if header.start % unit != 0 {
            return corrupt("start position field");
        }
        if bytes[AT_ZERO..AT_CHECK].iter().any(|&byte| byte != 0) {
            return corrupt("reserved field");
        }
        if file_len < total {
            return Err(Malformed::Truncated { found: file_len, wanted: total });
        }
        Ok(header)
    }
}

fn u32_at(bytes: &[u8; HEADER_LEN], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

fn u64_at(bytes: &[u8; HEADER_LEN], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// FNV-1a, 64 bits: enough against accidents, and against nothing else. Each step is
/// a bijection of the state, so one changed byte always changes the sum.
const fn fnv1a(bytes: &[u8]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut at = 0;
    while at < bytes.len() {
        hash ^= bytes[at] as u64;
        hash = hash.wrapping_mul(0x0000_0100_0000_01b3);
        at += 1;
    }
    hash
}

// Safe code over bytes of its own, a hundred thousand times: nothing for Miri, and too much.
#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            kind: Kind::Spsc,
            flags: KEEP_OPEN | AT_MOST_ONCE,
            capacity: 65536,
            max_len: spsc_max_len(65536),
            uuid: *b"0123456789abcdef",
            start: 64,
            created: 1_700_000_000_000_000_000,
        }
    }

    /// Slots of the longest message that leaves the payload in the first line, from a position in the middle of a lap.
    fn slots() -> Header {
        Header { kind: Kind::Mpmc, capacity: 1024, max_len: 191, start: 1025, ..header() }
    }

    const SLOTS_TOTAL: u64 = 0x25000 + 1024 * 256;

    /// A header with one field replaced and a checksum that fits.
    fn forged(at: usize, value: &[u8]) -> [u8; HEADER_LEN] {
        forged_of(&header(), at, value)
    }

    fn forged_of(header: &Header, at: usize, value: &[u8]) -> [u8; HEADER_LEN] {
        let mut bytes = header.encode();
        bytes[at..at + value.len()].copy_from_slice(value);
        let check = fnv1a(&bytes[..AT_CHECK]);
        bytes[AT_CHECK..].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Header, Malformed> {
        Header::decode(bytes, DATA_OFF + 65536)
    }

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let header = header();
        assert_eq!(decode(&header.encode()), Ok(header.clone()));
        let plain = Header { flags: 0, start: 0, ..header };
        assert_eq!(decode(&plain.encode()), Ok(plain));
        let slots = slots();
        assert_eq!(slots.total(), SLOTS_TOTAL);
        assert_eq!(Header::decode(&slots.encode(), SLOTS_TOTAL), Ok(slots));
    }

    #[test]
    fn every_shape_of_slots_is_read_as_it_was_written() {
        for power in 1..=34 {
            for max_len in [0, 1, 48, 49, 191, 192, 193, 4096, 1 << 30] {
                let header = Header { capacity: 1 << power, max_len, ..slots() };
                let Some(ring) = header.slots() else { continue };
                assert_eq!(header.total(), 0x25000 + (ring.stride() << power));
                assert_eq!(Header::decode(&header.encode(), u64::MAX), Ok(header));
            }
        }
    }

    #[test]
    fn the_layout_of_slots_is_what_it_always_was() {
        let bytes = slots().encode();
        assert_eq!(bytes[0x08..0x10], [1, 0, 0, 0, 2, 0, 0, 0]);
        assert_eq!(bytes[0x18..0x20], 1024u64.to_le_bytes());
        assert_eq!(bytes[0x20..0x28], 191u64.to_le_bytes());
        assert_eq!(bytes[0x28..0x30], 64u64.to_le_bytes());
        assert_eq!(bytes[0x30..0x38], 0x25000u64.to_le_bytes());
        assert_eq!(bytes[0x38..0x40], 0x65000u64.to_le_bytes());
        assert_eq!(bytes[0x50..0x58], 1025u64.to_le_bytes());
    }

    #[test]
    fn the_layout_is_what_it_always_was() {
        let bytes = header().encode();
        assert_eq!(bytes[..8], *b"QUOITRNG");
        assert_eq!(bytes[0x08..0x10], [1, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(bytes[0x10..0x18], [3, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[0x18..0x20], [0, 0, 1, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[0x20..0x28], (32768u64 - 64).to_le_bytes());
        assert_eq!(bytes[0x28..0x30], [64, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[0x30..0x38], [0, 0x50, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[0x38..0x40], [0, 0x50, 1, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[0x40..0x50], *b"0123456789abcdef");
        assert_eq!(bytes[0x50..0x58], [64, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[0x58..0x60], 1_700_000_000_000_000_000u64.to_le_bytes());
        assert!(bytes[0x60..0xf8].iter().all(|&byte| byte == 0));
        // The published test vectors of FNV-1a.
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
        assert_eq!(bytes[0xf8..], fnv1a(&bytes[..0xf8]).to_le_bytes());
    }

    #[test]
    fn any_changed_byte_is_refused_whatever_its_value() {
        for sound in [header().encode(), slots().encode()] {
            for at in 0..HEADER_LEN {
                for value in 0..=255 {
                    let mut bytes = sound;
                    bytes[at] = value;
                    let read = Header::decode(&bytes, u64::MAX);
                    assert_eq!(read.is_ok(), value == sound[at], "byte {at} = {value}");
                }
            }
        }
    }

    #[test]
    fn a_forged_byte_is_refused_or_lies_where_all_values_are_legal() {
        for (at, &sound) in header().encode()[..AT_CHECK].iter().enumerate() {
            for value in 0..=255u8 {
                let legal = match at {
                    _ if value == sound => true,
                    AT_FLAGS => value < 4,
                    AT_START => value % 64 == 0,
                    _ => (AT_UUID..AT_ZERO).contains(&at),
                };
                assert_eq!(decode(&forged(at, &[value])).is_ok(), legal, "byte {at} = {value}");
            }
        }
    }

    #[test]
    fn a_forged_byte_of_slots_is_refused_or_lies_where_all_values_are_legal() {
        for (at, &sound) in slots().encode()[..AT_CHECK].iter().enumerate() {
            for value in 0..=255u8 {
                let legal = match at {
                    _ if value == sound => true,
                    AT_FLAGS => value < 4,
                    // The strides of these are the same.
                    AT_MAX_LEN => (177..=192).contains(&value),
                    _ => (AT_UUID..AT_ZERO).contains(&at),
                };
                let read = Header::decode(&forged_of(&slots(), at, &[value]), u64::MAX);
                assert_eq!(read.is_ok(), legal, "byte {at} = {value}");
            }
        }
    }

    #[test]
    fn each_lie_about_slots_is_named() {
        let what = |at: usize, value: u64| match Header::decode(
            &forged_of(&slots(), at, &value.to_le_bytes()),
            u64::MAX,
        ) {
            Err(Malformed::Corrupt { what }) => what,
            other => panic!("{at:#x} = {value}: {other:?}"),
        };
        for capacity in [0, 1, 3, 1025, 1 << 35, 1 << 63, u64::MAX] {
            assert_eq!(what(AT_CAPACITY, capacity), "capacity field");
        }
        // A legal number, but not of slots that long.
        assert_eq!(what(AT_CAPACITY, 1 << 33), "message length field");
        for max_len in [(1 << 30) - 63, (1 << 30) + 1, u64::MAX - 63, u64::MAX] {
            assert_eq!(what(AT_MAX_LEN, max_len), "message length field");
        }
        assert_eq!(what(AT_MAX_LEN, 193), "total length field");
        assert_eq!(what(AT_CAPACITY, 2048), "total length field");
        assert_eq!(what(AT_DATA_OFF, DATA_OFF), "data offset field");
        for total in [0, DATA_OFF, SLOTS_OFF, SLOTS_TOTAL - 1, SLOTS_TOTAL + 1, u64::MAX] {
            assert_eq!(what(AT_TOTAL, total), "total length field");
        }
    }

    #[test]
    fn slots_begin_anywhere() {
        for start in [0, 1, 63, 64, 1 << 63, u64::MAX] {
            let read =
                Header::decode(&forged_of(&slots(), AT_START, &start.to_le_bytes()), SLOTS_TOTAL);
            assert_eq!(read.map(|header| header.start), Ok(start));
        }
    }

    #[test]
    fn every_length_of_a_cut_header_is_refused() {
        let sound = header().encode();
        assert_eq!(
            Header::decode(&[], 0),
            Err(Malformed::Truncated { found: 0, wanted: HEADER_LEN as u64 })
        );
        for len in 0..HEADER_LEN {
            assert_eq!(
                Header::decode(&sound[..len], len as u64),
                Err(Malformed::Truncated { found: len as u64, wanted: HEADER_LEN as u64 })
            );
        }
        let total = DATA_OFF + 65536;
        for len in [256, 257, 4096, DATA_OFF, total - 1] {
            assert_eq!(
                Header::decode(&sound, len),
                Err(Malformed::Truncated { found: len, wanted: total })
            );
        }
        assert!(Header::decode(&sound, total + 1).is_ok());
        let sound = slots().encode();
        for len in [256, DATA_OFF, SLOTS_OFF, SLOTS_TOTAL - 1] {
            assert_eq!(
                Header::decode(&sound, len),
                Err(Malformed::Truncated { found: len, wanted: SLOTS_TOTAL })
            );
        }
        assert!(Header::decode(&sound, SLOTS_TOTAL + 1).is_ok());
    }

    #[test]
    fn other_files_are_told_apart() {
        assert_eq!(decode(&[0; HEADER_LEN]), Err(Malformed::Zeros));
        assert_eq!(decode(&[0; 3]), Err(Malformed::Zeros));
        assert_eq!(decode(b"#!/bin/sh\n"), Err(Malformed::NotARing));
        assert_eq!(decode(&[0xff; HEADER_LEN]), Err(Malformed::NotARing));
        assert_eq!(decode(&forged(AT_VERSION, &[2])), Err(Malformed::Version { found: 2 }));
        let other_end = 1u32.to_be_bytes();
        assert_eq!(
            decode(&forged(AT_VERSION, &other_end)),
            Err(Malformed::Version { found: 1 << 24 })
        );
        assert_eq!(decode(&forged(AT_KIND, &[3])), Err(Malformed::Kind { found: 3 }));
        // Each kind has a place of its own for its data.
        for (header, kind) in [(header(), 2), (slots(), 1)] {
            let what = Header::decode(&forged_of(&header, AT_KIND, &[kind]), u64::MAX);
            assert!(matches!(what, Err(Malformed::Corrupt { .. })), "{what:?}");
        }
    }

    #[test]
    fn a_forged_geometry_is_refused() {
        let edges = [
            0,
            1,
            63,
            64,
            65,
            4095,
            4096,
            1 << 31,
            1 << 32,
            1 << 40,
            1 << 41,
            1 << 62,
            1 << 63,
            u64::MAX - 64,
            u64::MAX,
        ];
        for at in [AT_CAPACITY, AT_MAX_LEN, AT_LINE, AT_DATA_OFF, AT_TOTAL] {
            for value in edges {
                for header in [header(), slots()] {
                    let bytes = forged_of(&header, at, &value.to_le_bytes());
                    let same = bytes == header.encode();
                    assert_eq!(Header::decode(&bytes, u64::MAX).is_ok(), same, "{at:#x} = {value}");
                }
            }
        }
        for start in edges {
            let read = decode(&forged(AT_START, &start.to_le_bytes()));
            assert_eq!(read.is_ok(), start % 64 == 0, "start {start}");
        }
    }
}
