//! What a ring is asked to be. Knows what the caller said and what holds when it
//! said nothing; knows no ring.
#![forbid(unsafe_code)]

use crate::error::OpenError;
use crate::layout::geometry::{self, LINE, MAX_CAPACITY, MAX_SLOT_LEN, MIN_CAPACITY, MIN_SLOTS};

/// What holds when nothing is said.
const DEFAULT_CAPACITY: u64 = 64 * 1024;
const DEFAULT_SLOTS: u64 = 1024;
const DEFAULT_MAX_LEN: u64 = 256;
const DEFAULT_MODE: u32 = 0o600;

/// The most slots that fit below the largest capacity.
const MAX_SLOTS: u64 = MAX_CAPACITY / LINE;

/// What becomes of a message whose receiver dies with it in hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Delivery {
    /// The next receiver gets it again, marked as redelivered.
    #[default]
    AtLeastOnce,
    /// It is counted as lost.
    AtMostOnce,
}

impl std::fmt::Display for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Delivery::AtLeastOnce => "at-least-once",
            Delivery::AtMostOnce => "at-most-once",
        })
    }
}

/// How a blocking call waits while there is nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wait {
    /// Never sleeps: the fastest answer, and a core that is always busy. Gives way to others after a short while.
    Spin,
    /// Spins for some tens of microseconds, then sleeps: as fast as `Spin` while the other end keeps up, idle otherwise.
    #[default]
    Adaptive,
    /// Sleeps at once: least work, and the latency of a wake-up by the kernel for every message that had to be waited for.
    Block,
}

/// How to create a ring, and whose ring to accept when opening one.
///
/// What is not said has a default. `open_or_create` compares what *is* said with
/// the ring that it finds, and what is not said fits every ring.
///
/// ```
/// use quoit::{Delivery, Options};
///
/// let options = Options::new().capacity(1 << 20).delivery(Delivery::AtMostOnce);
/// # let _ = options;
/// ```
#[derive(Clone, Debug, Default)]
pub struct Options {
    capacity: Option<u64>,
    max_len: Option<u64>,
    mode: Option<u32>,
    keep_open: Option<bool>,
    delivery: Option<Delivery>,
    accept_uid: Option<u32>,
    accept_gid: Option<u32>,
    start: Option<u64>,
}

impl Options {
    /// The defaults.
    pub fn new() -> Options {
        Options::default()
    }

    /// How much the ring holds.
    ///
    /// - `spsc`: bytes, a power of two from 4096 up. 64 KiB unless said otherwise. A
    ///   message may take up to about half of it.
    /// - `mpmc`: messages, a power of two from 2 up. 1024 unless said otherwise.
    #[must_use]
    pub fn capacity(mut self, capacity: usize) -> Options {
        self.capacity = Some(capacity as u64);
        self
    }

    /// The longest message of an `mpmc` ring, in bytes: each of its slots has room
    /// for one. 256 unless said otherwise, 1 GiB at most. Not for `spsc`, where the
    /// capacity alone decides.
    #[must_use]
    pub fn max_len(mut self, bytes: usize) -> Options {
        self.max_len = Some(bytes as u64);
        self
    }

    /// The permissions of the ring's file, whatever the umask. 0600 (only the
    /// caller) unless said otherwise. Writable for everybody is refused.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Options {
        self.mode = Some(mode);
        self
    }

    /// Whether a ring whose other end has left waits for the next one and never
    /// says `Disconnected`. Not so unless said otherwise.
    #[must_use]
    pub fn keep_open(mut self, keep_open: bool) -> Options {
        self.keep_open = Some(keep_open);
        self
    }

    /// What becomes of a message whose receiver dies with it in hand.
    #[must_use]
    pub fn delivery(mut self, delivery: Delivery) -> Options {
        self.delivery = Some(delivery);
        self
    }

    /// Trusts a ring that belongs to this user, besides the caller's own and
    /// root's.
    #[must_use]
    pub fn accept_uid(mut self, uid: u32) -> Options {
        self.accept_uid = Some(uid);
        self
    }

    /// Trusts a ring whose file belongs to this group, whoever its owner is.
    #[must_use]
    pub fn accept_gid(mut self, gid: u32) -> Options {
        self.accept_gid = Some(gid);
        self
    }

    /// The position at which the ring begins: for `spsc` a multiple of 64, for `mpmc`
    /// any. For tests that want to see the positions wrap.
    #[doc(hidden)]
    #[must_use]
    pub fn start_position(mut self, position: u64) -> Options {
        self.start = Some(position);
        self
    }
}

/// What was said, and what holds.
#[allow(dead_code)]
impl Options {
    pub(crate) fn given_capacity(&self) -> Option<u64> {
        self.capacity
    }

    pub(crate) fn given_max_len(&self) -> Option<u64> {
        self.max_len
    }

    pub(crate) fn given_keep_open(&self) -> Option<bool> {
        self.keep_open
    }

    pub(crate) fn given_delivery(&self) -> Option<Delivery> {
        self.delivery
    }

    pub(crate) fn accepted_uid(&self) -> Option<u32> {
        self.accept_uid
    }

    pub(crate) fn accepted_gid(&self) -> Option<u32> {
        self.accept_gid
    }

    pub(crate) fn get_capacity(&self) -> u64 {
        self.capacity.unwrap_or(DEFAULT_CAPACITY)
    }

    pub(crate) fn get_slots(&self) -> u64 {
        self.capacity.unwrap_or(DEFAULT_SLOTS)
    }

    pub(crate) fn get_max_len(&self) -> u64 {
        self.max_len.unwrap_or(DEFAULT_MAX_LEN)
    }

    pub(crate) fn get_mode(&self) -> u32 {
        self.mode.unwrap_or(DEFAULT_MODE)
    }

    pub(crate) fn get_keep_open(&self) -> bool {
        self.keep_open.unwrap_or(false)
    }

    pub(crate) fn get_delivery(&self) -> Delivery {
        self.delivery.unwrap_or_default()
    }

    pub(crate) fn get_start(&self) -> u64 {
        self.start.unwrap_or(0)
    }

    /// Refuses what no ring of bytes can be.
    pub(crate) fn check_bytes(&self) -> Result<(), OpenError> {
        self.check_no_max_len()?;
        check_power("capacity", self.get_capacity(), MIN_CAPACITY, MAX_CAPACITY)?;
        self.check_mode()?;
        let start = self.get_start();
        if start % LINE != 0 {
            return bad("start_position", format!("{start} is not a multiple of {LINE}"));
        }
        Ok(())
    }

    /// Refuses what no ring of slots can be.
    pub(crate) fn check_slots(&self) -> Result<(), OpenError> {
        let (slots, max_len) = (self.get_slots(), self.get_max_len());
        check_power("capacity", slots, MIN_SLOTS, MAX_SLOTS)?;
        let longest = geometry::longest_slot(slots).min(MAX_SLOT_LEN);
        if max_len > longest {
            return bad(
                "max_len",
                format!(
                    "{max_len} bytes are too many for each of {slots} slots; use {longest} or less"
                ),
            );
        }
        self.check_mode()
    }

    /// Refuses a length of messages for a ring of bytes, which has none to be set.
    pub(crate) fn check_no_max_len(&self) -> Result<(), OpenError> {
        match self.max_len {
            None => Ok(()),
            Some(_) => bad(
                "max_len",
                "a ring of bytes takes messages up to about half of its capacity; leave max_len \
                 out and set the capacity, or use quoit::mpmc"
                    .to_owned(),
            ),
        }
    }

    fn check_mode(&self) -> Result<(), OpenError> {
        let mode = self.get_mode();
        if mode & !0o777 != 0 {
            return bad(
                "mode",
                format!("{mode:#o} has bits that are no permissions; use 0o600 or 0o660"),
            );
        }
        if mode & 0o600 != 0o600 {
            return bad(
                "mode",
                format!("{mode:#o} keeps the owner out of the ring; use 0o600 or 0o660"),
            );
        }
        if mode & 0o002 != 0 {
            return bad(
                "mode",
                format!(
                    "{mode:#o} lets every user of this machine write to the ring; use 0o660 and \
                     a group"
                ),
            );
        }
        Ok(())
    }
}

fn bad(what: &'static str, why: String) -> Result<(), OpenError> {
    Err(OpenError::BadOption { what, why })
}

/// Refuses what is not a power of two from `least` to `most`, which are.
fn check_power(what: &'static str, value: u64, least: u64, most: u64) -> Result<(), OpenError> {
    if value.is_power_of_two() && (least..=most).contains(&value) {
        return Ok(());
    }
    let nearest = value.clamp(least, most).next_power_of_two();
    bad(
        what,
        format!(
            "{value} is not a power of two from {least} to {most}; the nearest that is so is \
             {nearest}"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::geometry::Slots;

    #[test]
    fn the_defaults_are_a_private_ring_of_64_kib() {
        let options = Options::new();
        options.check_bytes().unwrap();
        assert_eq!(options.get_capacity(), 65536);
        assert_eq!(options.get_mode(), 0o600);
        assert!(!options.get_keep_open());
        assert_eq!(options.get_delivery(), Delivery::AtLeastOnce);
        assert_eq!(options.get_start(), 0);
        assert_eq!(options.given_capacity(), None);
        assert_eq!(options.given_max_len(), None);
        assert_eq!(options.given_keep_open(), None);
        assert_eq!(options.given_delivery(), None);
    }

    #[test]
    fn the_defaults_of_slots_are_1024_of_256_bytes() {
        let options = Options::new();
        options.check_slots().unwrap();
        assert_eq!(options.get_slots(), 1024);
        assert_eq!(options.get_max_len(), 256);
    }

    #[test]
    fn what_is_said_of_slots_holds() {
        let options = Options::new().capacity(2).max_len(0).start_position(7);
        options.check_slots().unwrap();
        assert_eq!(options.get_slots(), 2);
        assert_eq!((options.get_max_len(), options.given_max_len()), (0, Some(0)));
        assert_eq!(options.get_start(), 7);
    }

    #[test]
    fn a_number_of_slots_that_no_ring_has_is_refused() {
        for slots in [0, 1, 3, 1000, usize::MAX, usize::MAX / 2 + 1, 2 * MAX_SLOTS as usize] {
            let error = Options::new().capacity(slots).max_len(8).check_slots().unwrap_err();
            assert!(error.is_bad_option(), "{error}");
            assert!(error.to_string().contains("option capacity"), "{error}");
        }
        for (slots, nearest) in [(0, "is 2"), (1000, "is 1024"), (1025, "is 2048")] {
            let error = Options::new().capacity(slots).check_slots().unwrap_err().to_string();
            assert!(error.ends_with(nearest), "{error}");
        }
        Options::new().capacity(MAX_SLOTS as usize).max_len(48).check_slots().unwrap();
    }

    #[test]
    fn a_message_too_long_for_the_slots_is_refused_and_the_longest_is_named() {
        for slots in (1..=MAX_SLOTS.trailing_zeros()).map(|power| 1usize << power) {
            let longest = geometry::longest_slot(slots as u64).min(MAX_SLOT_LEN) as usize;
            Options::new().capacity(slots).max_len(longest).check_slots().unwrap();
            let fits = |len| Slots::new(slots as u64, len, 1).is_some();
            assert!(fits(longest as u64) && !fits(longest as u64 + 1), "{longest} in {slots}");
            for len in [longest + 1, usize::MAX] {
                let error = Options::new().capacity(slots).max_len(len).check_slots().unwrap_err();
                assert!(error.is_bad_option(), "{error}");
                let text = error.to_string();
                assert!(text.contains("option max_len"), "{text}");
                assert!(text.ends_with(&format!("use {longest} or less")), "{text}");
            }
        }
    }

    #[test]
    fn what_passes_is_a_shape_and_what_does_not_is_none() {
        for power in 0..=MAX_CAPACITY.trailing_zeros() {
            for len in [0, 47, 48, 49, 191, 192, 256, 1 << 20, MAX_SLOT_LEN, MAX_SLOT_LEN + 1] {
                let options = Options::new().capacity(1 << power).max_len(len as usize);
                let shape = Slots::new(options.get_slots(), options.get_max_len(), 1);
                assert_eq!(options.check_slots().is_ok(), shape.is_some(), "2^{power} of {len}");
            }
        }
    }

    #[test]
    fn a_ring_of_bytes_has_no_length_of_messages_to_set() {
        let error = Options::new().max_len(256).check_bytes().unwrap_err();
        assert!(error.is_bad_option(), "{error}");
        assert!(error.to_string().contains("leave max_len out and set the capacity"), "{error}");
    }

    #[test]
    fn what_is_said_holds() {
        let options = Options::new()
            .capacity(4096)
            .mode(0o660)
            .keep_open(true)
            .delivery(Delivery::AtMostOnce)
            .accept_uid(7)
            .accept_gid(8)
            .start_position(128);
        options.check_bytes().unwrap();
        assert_eq!(options.given_capacity(), Some(4096));
        assert_eq!(options.get_mode(), 0o660);
        assert_eq!(options.given_keep_open(), Some(true));
        assert_eq!(options.given_delivery(), Some(Delivery::AtMostOnce));
        assert_eq!(options.accepted_uid(), Some(7));
        assert_eq!(options.accepted_gid(), Some(8));
        assert_eq!(options.get_start(), 128);
    }

    #[test]
    fn a_capacity_that_no_ring_has_is_refused() {
        for capacity in [0, 1, 2048, 4095, 4097, 65535, usize::MAX, usize::MAX / 2 + 1] {
            let error = Options::new().capacity(capacity).check_bytes().unwrap_err();
            assert!(error.is_bad_option(), "{error}");
        }
        for power in 12..=30 {
            Options::new().capacity(1 << power).check_bytes().unwrap();
        }
        let error = Options::new().capacity(5000).check_bytes().unwrap_err().to_string();
        assert!(error.contains("8192"), "{error}");
    }

    #[test]
    fn a_mode_that_locks_the_owner_out_or_lets_everybody_in_is_refused() {
        for mode in [0o666, 0o602, 0o000, 0o400, 0o200, 0o1600, 0o4600, u32::MAX] {
            for check in [Options::check_bytes, Options::check_slots] {
                let error = check(&Options::new().mode(mode)).unwrap_err();
                assert!(error.is_bad_option(), "{error}");
            }
        }
        for mode in [0o600, 0o640, 0o644, 0o660, 0o664, 0o700] {
            Options::new().mode(mode).check_bytes().unwrap();
        }
    }

    #[test]
    fn a_start_between_two_lines_is_refused() {
        assert!(Options::new().start_position(1).check_bytes().unwrap_err().is_bad_option());
        Options::new().start_position(u64::MAX - 63).check_bytes().unwrap();
        Options::new().start_position(u64::MAX).check_slots().unwrap();
    }
}
