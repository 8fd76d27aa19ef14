//! The shape of a ring of bytes: capacity, lines, and where a record lies.
//!
//! Knows arithmetic on positions. Knows nothing of memory. All position arithmetic of the crate is here, and all of it
//! wraps: a position counts bytes since the ring was made, from any start, modulo 2^64.

/// Bytes in a line: the unit in which records are placed, and one cache line of the processors that we know.
pub const LINE: u64 = 64;

/// Bytes from a record's first byte to its payload, when the payload shares the header's line.
pub const HEADER: u64 = 16;

/// From this length up a payload starts on a line of its own: then the line that the receiver polls is not one that is
/// being filled, and no vector store straddles two lines (docs/benchmarks.md).
pub const OWN_LINE: u64 = 192;

/// The smallest capacity of a named ring, in bytes.
pub const MIN_CAPACITY: u64 = 4096;

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
            Some(Self { capacity })
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
    pub const fn max_len(self) -> u64 {
        spsc_max_len(self.capacity)
    }

    /// A position's offset into the data.
    #[inline]
    pub const fn offset(self, position: u64) -> u64 {
        position & (self.capacity - 1)
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

#[cfg(test)]
mod tests {
    use super::*;

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
