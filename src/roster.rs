//! Who sits at a ring. Knows the seats and the lock bytes that guard them; knows
//! neither a file nor a clock.

/// Where the lock bytes begin: far behind any byte of a file, so that a lock
/// never covers data.
pub(crate) const LOCK_BASE: u64 = 1 << 62;

/// One of the two ends of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The end that writes.
    Sender,
    /// The end that reads.
    Receiver,
}

impl Role {
    /// The byte whose lock says that this end is alive.
    pub(crate) const fn lock_byte(self) -> u64 {
        match self {
            Role::Sender => LOCK_BASE + 1,
            Role::Receiver => LOCK_BASE + 2,
        }
    }

    /// The other end.
    pub(crate) const fn peer(self) -> Role {
        match self {
            Role::Sender => Role::Receiver,
            Role::Receiver => Role::Sender,
        }
    }

    /// The word for this end in a sentence.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Role::Sender => "sender",
            Role::Receiver => "receiver",
        }
    }
}
