//! The shape of a ring: of bytes, with its lines and where a record lies; of slots, with its laps and where a slot lies.
//!
//! Knows arithmetic on positions. Knows nothing of memory. All position arithmetic of the crate is here, and all of it
//! wraps: a position counts bytes (or messages) since the ring was made, from any start, modulo 2^64 (or what the lap
//! leaves of it).

/// Bytes in a line: the unit in which records are placed, and one cache line of the processors that we know.
pub const LINE: u64 = 64;

/// Bytes from a record's first byte to its payload, when the payload shares the header's line.
pub const HEADER: u64 = 16;

/// From this length up a payload starts on a line of its own: then the line that the receiver polls is not one that is
/// being filled, and no vector store straddles two lines (docs/benchmarks.md).
pub const OWN_LINE: u64 = 192;

/// The smallest capacity of a ring of bytes. A model's may be smaller than any other.
pub const MIN_CAPACITY: u64 = if crate::sync::MODELLED { 4 * LINE } else { 4096 };

/// The largest capacity, in bytes.
pub const MAX_CAPACITY: u64 = if usize::BITS == 64 { 1 << 40 } else { 1 << 30 };

/// The longest payload that is sure to fit in a ring of `capacity` bytes, wherever the stream stands.
///
/// A record that would straddle the end of the ring is preceded by a pad that is shorter than itself, so half of the
/// capacity always suffices for both to fit into an empty ring.
pub const fn spsc_max_len(capacity: u64) -> u64 {
    let line = capacity / 2 - LINE;
    // Below `OWN_LINE` the payload shares the header's line; the smallest model rings are that small.
    if line >= OWN_LINE { line } else { capacity / 2 - HEADER }
}

/// How far `later` lies behind `earlier`, if it does and is at most `window` away; positions wrap.
#[inline]
pub const fn ahead(later: u64, earlier: u64, window: u64) -> Option<u64> {
    let distance = later.wrapping_sub(earlier);
    if distance <= window { Some(distance) } else { None }
}

/// The capacity of a ring, checked once: a power of two, at least 4 lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    capacity: u64,
    // What follows from it, worked out once: every message needs it.
    max_len: u64,
    lines: u64,
}

/// Where a record goes: a pad (possibly of no length), then the record, both in whole lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Position of the record itself, behind the pad.
    pub start: u64,
    /// Position of the first line behind it.
    pub end: u64,
    /// Bytes from `start` to the payload.
    pub payload: u64,
}

impl Geometry {
    /// Checks a capacity in bytes.
    pub const fn new(capacity: u64) -> Option<Self> {
        if capacity.is_power_of_two() && capacity >= 4 * LINE && capacity <= MAX_CAPACITY {
            let (max_len, lines) = (spsc_max_len(capacity), (capacity - 1) & !(LINE - 1));
            Some(Self { capacity, max_len, lines })
        } else {
            None
        }
    }

    /// Bytes in the ring.
    #[inline]
    pub const fn capacity(self) -> u64 {
        self.capacity
    }

    /// The longest payload that is sure to fit.
    #[inline]
    pub const fn max_len(self) -> u64 {
        self.max_len
    }

    /// A position's offset into the data.
    #[inline]
    pub const fn offset(self, position: u64) -> u64 {
        position & (self.capacity - 1)
    }

    /// The offset of a position's line.
    #[inline]
    pub const fn line(self, position: u64) -> u64 {
        position & self.lines
    }

    /// Bytes from `position` to the end of the ring's memory.
    #[inline]
    pub const fn room_to_wrap(self, position: u64) -> u64 {
        self.capacity - self.offset(position)
    }

    /// Bytes from a record's start to a payload of `len` bytes, as a sender lays it out.
    #[inline]
    pub const fn payload_at(len: u64) -> u64 {
        if len >= OWN_LINE { LINE } else { HEADER }
    }

    /// Bytes that a record covers, in whole lines, whose payload of `len` bytes starts `payload` bytes behind its start.
    /// `len` is at most [`MAX_CAPACITY`].
    #[inline]
    pub const fn span(len: u64, payload: u64) -> u64 {
        (payload + len + LINE - 1) & !(LINE - 1)
    }

    /// Where a record with a payload of `len` bytes goes when the stream stands at `tail`. `len` is at most
    /// `max_len`.
    #[inline]
    pub const fn place(self, tail: u64, len: u64) -> Place {
        let payload = Self::payload_at(len);
        let span = Self::span(len, payload);
        let room = self.room_to_wrap(tail);
        let start = if span > room { tail.wrapping_add(room) } else { tail };
        Place { start, end: start.wrapping_add(span), payload }
    }
}

/// What a ring's memory needs to know of its shape.
pub trait Shape: Copy + core::fmt::Debug + Send + Sync + 'static {
    /// Bytes behind the control words.
    fn bytes(self) -> u64;
}

impl Shape for Geometry {
    #[inline]
    fn bytes(self) -> u64 {
        self.capacity
    }
}

/// The fewest slots: with one, "taken by the next lap" and "free again" could not be told apart.
pub const MIN_SLOTS: u64 = 2;

/// The longest message that a slot may be made for, in bytes.
pub const MAX_SLOT_LEN: u64 = 1 << 30;

/// Seats in the table of a ring in a file.
pub const SEATS: u32 = 1024;

/// Bytes of a seat in the table: two cache lines.
pub const SEAT_LEN: u64 = 128;

/// Bits of a lap, as a slot's word has room for them.
const LAP_BITS: u32 = 48;

/// The longest message that each of `slots`, a power of two up to the largest capacity in lines, can hold within that
/// capacity.
pub const fn longest_slot(slots: u64) -> u64 {
    let stride = MAX_CAPACITY / slots;
    if stride >= OWN_LINE + LINE { stride - LINE } else { stride - HEADER }
}

/// The shape of a ring of slots, checked once: how many, for how long a message, and how many may take part.
///
/// Positions count messages. Position `p` lies in slot `p mod slots`, on lap `p / slots`. A lap has 48 bits or what a
/// position of 64 bits leaves of them, and wraps: two positions are compared by their distance, and nobody lags behind by
/// half of all laps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    slots: u64,
    stride: u64,
    payload: u64,
    max_len: u64,
    seats: u32,
    // What follows from them, worked out once: every message needs it.
    shift: u32,
    lap_mask: u64,
    table: u64,
    bytes: u64,
}

impl Slots {
    /// Checks a number of slots (a power of two from 2), the length of the longest message and the size of the table.
    pub const fn new(slots: u64, max_len: u64, seats: u32) -> Option<Self> {
        Self::within(MAX_CAPACITY, slots, max_len, seats)
    }

    /// The same where the slots may take up to `most` bytes, at most 2^40: a file may have more than this target can map.
    pub const fn within(most: u64, slots: u64, max_len: u64, seats: u32) -> Option<Self> {
        if !slots.is_power_of_two() || slots < MIN_SLOTS || slots > most / LINE {
            return None;
        }
        if max_len > MAX_SLOT_LEN || seats == 0 || seats > SEATS {
            return None;
        }
        // As a record does: a long payload starts on a line of its own.
        let payload = if max_len >= OWN_LINE { LINE } else { HEADER };
        let stride = (payload + max_len).next_multiple_of(LINE);
        // Neither factor exceeds 2^40 and 2^31, so the product of two that pass cannot overflow.
        if stride > most / slots {
            return None;
        }
        let shift = slots.trailing_zeros();
        let left = u64::BITS - shift;
        let lap_bits = if left < LAP_BITS { left } else { LAP_BITS };
        let lap_mask = u64::MAX >> (u64::BITS - lap_bits);
        let table = seats as u64 * SEAT_LEN;
        let bytes = table + slots * stride;
        Some(Self { slots, stride, payload, max_len, seats, shift, lap_mask, table, bytes })
    }

    /// How many slots there are.
    #[inline]
    pub const fn slots(self) -> u64 {
        self.slots
    }

    /// The longest message, in bytes.
    #[inline]
    pub const fn max_len(self) -> u64 {
        self.max_len
    }

    /// Bytes from one slot to the next.
    #[inline]
    pub const fn stride(self) -> u64 {
        self.stride
    }

    /// Bytes from a slot's start to its payload.
    #[inline]
    pub const fn payload(self) -> u64 {
        self.payload
    }

    /// How many may take part at once.
    #[inline]
    pub const fn seats(self) -> u32 {
        self.seats
    }

    /// Bytes of the table of seats, which lies before the slots.
    #[inline]
    pub const fn table(self) -> u64 {
        self.table
    }

    /// The slot of a position.
    #[inline]
    pub const fn index(self, position: u64) -> u64 {
        position & (self.slots - 1)
    }

    /// The lap of a position.
    #[inline]
    pub const fn lap(self, position: u64) -> u64 {
        (position >> self.shift) & self.lap_mask
    }

    /// The lap behind that of a position.
    #[inline]
    pub const fn next_lap(self, position: u64) -> u64 {
        self.lap(position.wrapping_add(self.slots))
    }

    /// The position of slot `index` on `lap`.
    #[inline]
    pub const fn position(self, lap: u64, index: u64) -> u64 {
        (lap << self.shift) | index
    }

    /// All laps are at most this.
    #[inline]
    pub const fn lap_mask(self) -> u64 {
        self.lap_mask
    }

    /// How many laps `later` is ahead of `earlier`: negative when it is behind.
    #[inline]
    pub const fn laps_ahead(self, later: u64, earlier: u64) -> i64 {
        let unused = self.lap_mask.leading_zeros();
        ((later.wrapping_sub(earlier) << unused) as i64) >> unused
    }

    /// How many messages position `later` is ahead of `earlier`: negative when it is behind.
    #[inline]
    pub const fn ahead(self, later: u64, earlier: u64) -> i64 {
        let unused = self.lap_mask.leading_zeros() - self.shift;
        ((later.wrapping_sub(earlier) << unused) as i64) >> unused
    }

    /// `position` without the bits that no lap has: the same for everybody who counts it.
    #[inline]
    pub const fn canonical(self, position: u64) -> u64 {
        self.position(self.lap(position), self.index(position))
    }

    /// The lap before the first message of slot `index` has been sent, in a ring that begins at position `start`.
    pub const fn first_lap(self, index: u64, start: u64) -> u64 {
        self.lap(start.wrapping_add(self.index(index.wrapping_sub(start))))
    }
}

impl Shape for Slots {
    #[inline]
    fn bytes(self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_holds_its_longest_message_and_lies_on_lines() {
        for max_len in [0, 1, 47, 48, 49, 191, 192, 193, 4096, MAX_SLOT_LEN] {
            let ring = Slots::new(4, max_len, SEATS).expect("legal");
            assert!(ring.payload() + max_len <= ring.stride(), "{max_len}");
            assert!(ring.stride() - ring.payload() - max_len < LINE, "{max_len}");
            assert_eq!(ring.stride() % LINE, 0);
        }
        assert_eq!(Slots::new(4, 48, 1).expect("legal").stride(), LINE);
    }

    #[test]
    fn only_powers_of_two_from_two_up_are_numbers_of_slots() {
        for bad in [0, 1, 3, 1000, MAX_CAPACITY, u64::MAX] {
            assert_eq!(Slots::new(bad, 8, SEATS), None, "{bad}");
        }
        assert_eq!(Slots::new(2, MAX_SLOT_LEN + 1, SEATS), None);
        assert_eq!(Slots::new(2, u64::MAX, SEATS), None);
        assert_eq!(Slots::new(2, 8, 0), None);
        assert_eq!(Slots::new(2, 8, SEATS + 1), None);
        assert!(Slots::new(2, 8, SEATS).is_some());
    }

    #[test]
    fn positions_and_laps_are_compared_across_their_wrap() {
        for slots in [2, 1024, 1 << 20] {
            let ring = Slots::new(slots, 8, SEATS).expect("legal");
            let last = ring.position(ring.lap_mask(), slots - 1);
            assert_eq!(ring.lap(last.wrapping_add(1)), 0);
            assert_eq!(ring.ahead(last.wrapping_add(5), last), 5);
            assert_eq!(ring.ahead(0, last), 1);
            assert_eq!(ring.ahead(last, 0), -1);
            assert_eq!(ring.laps_ahead(0, ring.lap_mask()), 1);
            assert_eq!(ring.laps_ahead(ring.lap_mask(), 0), -1);
            assert_eq!(ring.laps_ahead(7, 7), 0);
            assert_eq!(ring.canonical(last.wrapping_add(3)), 2);
        }
    }

    #[test]
    fn every_slot_begins_on_the_lap_of_its_first_position() {
        let ring = Slots::new(4, 8, SEATS).expect("legal");
        let laps = |start| [0, 1, 2, 3].map(|index| ring.first_lap(index, start));
        assert_eq!(laps(0), [0; 4]);
        assert_eq!(laps(6), [2, 2, 1, 1]);
        let end = 0u64.wrapping_sub(3);
        assert_eq!(laps(end), [0, ring.lap_mask(), ring.lap_mask(), ring.lap_mask()]);
    }

    #[test]
    fn the_longest_message_fits_into_an_empty_ring_wherever_the_stream_stands() {
        for capacity in [256, 512, 4096, 65536] {
            let ring = Geometry::new(capacity).expect("legal");
            for len in [0, 1, ring.max_len() - 1, ring.max_len()] {
                for line in 0..capacity / LINE {
                    let tail = 0u64.wrapping_sub(LINE * 3).wrapping_add(line * LINE);
                    let place = ring.place(tail, len);
                    assert!(place.end.wrapping_sub(tail) <= capacity, "{capacity} {len} {line}");
                    assert!(
                        place.end.wrapping_sub(place.start) <= ring.room_to_wrap(place.start),
                        "no record straddles the end"
                    );
                }
            }
        }
    }

    #[test]
    fn only_powers_of_two_from_four_lines_up_are_capacities() {
        for bad in [0, 1, 64, 128, 255, 4097, MAX_CAPACITY * 2] {
            assert_eq!(Geometry::new(bad), None, "{bad}");
        }
        assert!(Geometry::new(256).is_some());
    }

    #[test]
    fn distance_wraps() {
        assert_eq!(ahead(5, u64::MAX - 4, 64), Some(10));
        assert_eq!(ahead(u64::MAX, 0, 64), None);
        assert_eq!(ahead(7, 7, 0), Some(0));
    }
}
