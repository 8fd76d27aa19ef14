//! What a ring is asked to be. Knows what the caller said and what holds when it
//! said nothing; knows no ring.
#![forbid(unsafe_code)]

use crate::error::OpenError;
use crate::layout::geometry::{MAX_CAPACITY, MIN_CAPACITY};

/// What holds when nothing is said.
const DEFAULT_CAPACITY: u64 = 64 * 1024;
const DEFAULT_MODE: u32 = 0o600;

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

    /// The size of the ring in bytes, a power of two from 4096 up. 64 KiB unless
    /// said otherwise. A message may take up to about half of it.
    #[must_use]
    pub fn capacity(mut self, bytes: usize) -> Options {
        self.capacity = Some(bytes as u64);
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

    /// The position at which the ring begins: a multiple of 64. For tests that
    /// want to see the positions wrap.
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
    pub(crate) fn check(&self) -> Result<(), OpenError> {
        let bad = |what, why| Err(OpenError::BadOption { what, why });
        let capacity = self.get_capacity();
        if !capacity.is_power_of_two() || !(MIN_CAPACITY..=MAX_CAPACITY).contains(&capacity) {
            return bad(
                "capacity",
                format!(
                    "{capacity} is not a power of two from {MIN_CAPACITY} to {MAX_CAPACITY}; \
                     the nearest that is so is {}",
                    nearest(capacity)
                ),
            );
        }
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
        let start = self.get_start();
        if start % 64 != 0 {
            return bad("start_position", format!("{start} is not a multiple of 64"));
        }
        Ok(())
    }
}

fn nearest(capacity: u64) -> u64 {
    capacity.clamp(MIN_CAPACITY, MAX_CAPACITY).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_a_private_ring_of_64_kib() {
        let options = Options::new();
        options.check().unwrap();
        assert_eq!(options.get_capacity(), 65536);
        assert_eq!(options.get_mode(), 0o600);
        assert!(!options.get_keep_open());
        assert_eq!(options.get_delivery(), Delivery::AtLeastOnce);
        assert_eq!(options.get_start(), 0);
        assert_eq!(options.given_capacity(), None);
        assert_eq!(options.given_keep_open(), None);
        assert_eq!(options.given_delivery(), None);
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
        options.check().unwrap();
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
            let error = Options::new().capacity(capacity).check().unwrap_err();
            assert!(error.is_bad_option(), "{error}");
        }
        for power in 12..=30 {
            Options::new().capacity(1 << power).check().unwrap();
        }
        let error = Options::new().capacity(5000).check().unwrap_err().to_string();
        assert!(error.contains("8192"), "{error}");
    }

    #[test]
    fn a_mode_that_locks_the_owner_out_or_lets_everybody_in_is_refused() {
        for mode in [0o666, 0o602, 0o000, 0o400, 0o200, 0o1600, 0o4600, u32::MAX] {
            let error = Options::new().mode(mode).check().unwrap_err();
            assert!(error.is_bad_option(), "{error}");
        }
        for mode in [0o600, 0o640, 0o644, 0o660, 0o664, 0o700] {
            Options::new().mode(mode).check().unwrap();
        }
    }

    #[test]
    fn a_start_between_two_lines_is_refused() {
        assert!(Options::new().start_position(1).check().unwrap_err().is_bad_option());
        Options::new().start_position(u64::MAX - 63).check().unwrap();
    }
}
