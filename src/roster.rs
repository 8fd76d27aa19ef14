//! Who sits at a ring.
//!
//! Knows the seats, the words that describe them and the lock bytes that guard them. Knows neither a file nor a clock;
//! "does somebody hold that lock?" is asked elsewhere and handed down.
//!
//! # The seat word
//!
//! ```text
//!  63                                      2 1     0
//! +-----------------------------------------+-------+
//! |                arrivals                 | state |
//! +-----------------------------------------+-------+
//! ```
//!
//! | state   | lock held           | lock free                                         |
//! |---------|---------------------|---------------------------------------------------|
//! | NEVER   | arriving            | nobody came yet                                   |
//! | PRESENT | here                | died: only the kernel's lock tells it from "here" |
//! | LEFT    | arriving or leaving | left cleanly                                      |
//!
//! # Invariants
//!
//! - Q1. Only the holder of a role's lock writes its seat, so a seat has one writer at a time.
//! - Q2. PRESENT is stored after the lock is taken and LEFT before it is released.

use crate::layout::control::{
    NOT_EMPTY, NOT_FULL, RECEIVER_DEATHS, RECEIVER_LIGHT, RECEIVER_PID, RECEIVER_SEAT,
    RECEIVER_WAITS, RECEIVER_WAKES, SENDER_DEATHS, SENDER_LIGHT, SENDER_PID, SENDER_SEAT,
    SENDER_WAITS, SENDER_WAKES, Word, Word32,
};
use crate::layout::view::View;
use crate::sync::Ordering::{Acquire, Relaxed, Release, SeqCst};
use crate::sync::{self, LightFence};

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

/// A role that is known when the program is built, so that a word of it is an address in the code.
pub(crate) trait End: core::fmt::Debug {
    const ROLE: Role;
    const PEER: Role = Self::ROLE.peer();
}

/// The sender's end.
#[derive(Debug)]
pub(crate) struct Sending;

/// The receiver's.
#[derive(Debug)]
pub(crate) struct Receiving;

impl End for Sending {
    const ROLE: Role = Role::Sender;
}

impl End for Receiving {
    const ROLE: Role = Role::Receiver;
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

    /// This end's seat word.
    pub(crate) const fn seat(self) -> Word {
        match self {
            Role::Sender => SENDER_SEAT,
            Role::Receiver => RECEIVER_SEAT,
        }
    }

    /// Counter of the holders of this end that died.
    pub(crate) const fn deaths(self) -> Word {
        match self {
            Role::Sender => SENDER_DEATHS,
            Role::Receiver => RECEIVER_DEATHS,
        }
    }

    const fn pid(self) -> Word {
        match self {
            Role::Sender => SENDER_PID,
            Role::Receiver => RECEIVER_PID,
        }
    }

    /// The word that says whether this end's fence is the compiler's only.
    pub(crate) const fn light(self) -> Word32 {
        match self {
            Role::Sender => SENDER_LIGHT,
            Role::Receiver => RECEIVER_LIGHT,
        }
    }

    /// Where this end sleeps.
    pub(crate) const fn bed(self) -> Word32 {
        match self {
            Role::Sender => NOT_FULL,
            Role::Receiver => NOT_EMPTY,
        }
    }

    /// Counter of the times this end waited.
    pub(crate) const fn waits(self) -> Word {
        match self {
            Role::Sender => SENDER_WAITS,
            Role::Receiver => RECEIVER_WAITS,
        }
    }

    /// Counter of the times this end woke the other.
    pub(crate) const fn wakes(self) -> Word {
        match self {
            Role::Sender => SENDER_WAKES,
            Role::Receiver => RECEIVER_WAKES,
        }
    }
}

/// What is known of one end of a ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Presence {
    /// Nobody has taken this end yet.
    #[default]
    Never,
    /// Somebody holds this end; perhaps stopped, but alive.
    Present,
    /// The last holder let go of it.
    Left,
    /// The last holder died without letting go.
    Died,
}

impl core::fmt::Display for Presence {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(match self {
            Presence::Never => "never",
            Presence::Present => "present",
            Presence::Left => "left",
            Presence::Died => "died",
        })
    }
}

/// A seat word, loaded once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seat(pub(crate) u64);

const PRESENT: u64 = 1;
const LEFT: u64 = 2;

impl Seat {
    /// Loads the seat of `role`.
    pub(crate) fn load(view: &View, role: Role) -> Seat {
        // Q3 Acquire: pairs with the Release of `join` and `leave`; what a leaver committed is seen with its leaving.
        Seat(view.word(role.seat()).load(Acquire))
    }

    /// How many have taken this end.
    pub(crate) const fn arrivals(self) -> u64 {
        self.0 >> 2
    }

    /// Whether the last holder let go of it.
    pub(crate) const fn left(self) -> bool {
        self.0 & 3 == LEFT
    }

    /// Whether somebody took it and did not let go: here or dead, as the lock says.
    pub(crate) const fn taken(self) -> bool {
        self.0 & 3 == PRESENT
    }

    /// What the word and the lock say together. The lock decides who is alive; garbage counts as a death.
    pub(crate) const fn presence(self, lock_held: bool) -> Presence {
        match self.0 & 3 {
            _ if lock_held => Presence::Present,
            0 => Presence::Never,
            LEFT => Presence::Left,
            _ => Presence::Died,
        }
    }
}

/// Takes the seat of `role`. The caller holds its lock, so whoever the word still calls present is dead.
pub(crate) fn join(view: &View, role: Role, light: LightFence, pid: u32) {
    let before = Seat::load(view, role);
    if before.taken() {
        // Relaxed: our role's own word, ordered by the lock.
        let deaths = view.word(role.deaths()).load(Relaxed);
        view.count(role.deaths(), deaths.wrapping_add(1));
    }
    view.count(role.pid(), u64::from(pid));
    // W3 Relaxed: the fence orders it before our first light fence, so that a sleeper either sees it or has its bit seen.
    view.word32(role.light()).store(u32::from(light == LightFence::Compiler), Relaxed);
    sync::fence(SeqCst);
    let arrivals = before.arrivals().wrapping_add(1);
    // Q3 Release: pairs with `Seat::load`.
    view.word(role.seat()).store(arrivals << 2 | PRESENT, Release);
}

/// Lets go of the seat of `role`; the caller wakes the peer and then gives up the lock.
pub(crate) fn leave(view: &View, role: Role) {
    // Relaxed: our own word.
    let seat = Seat(view.word(role.seat()).load(Relaxed));
    // Q3 Release: pairs with `Seat::load`, and carries everything that was committed or released before.
    view.word(role.seat()).store(seat.arrivals() << 2 | LEFT, Release);
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::layout::geometry::Geometry;

    #[test]
    fn a_seat_that_was_not_let_go_counts_as_a_death_when_the_next_one_sits_down() {
        let view = crate::region::heap(Geometry::new(4096).expect("legal"), 0);
        assert_eq!(Seat::load(&view, Role::Sender).presence(false), Presence::Never);
        join(&view, Role::Sender, LightFence::Full, 7);
        assert_eq!(Seat::load(&view, Role::Sender).presence(true), Presence::Present);
        assert_eq!(Seat::load(&view, Role::Sender).presence(false), Presence::Died);
        join(&view, Role::Sender, LightFence::Full, 8);
        assert_eq!(view.word(SENDER_DEATHS).load(Relaxed), 1);
        leave(&view, Role::Sender);
        let seat = Seat::load(&view, Role::Sender);
        assert_eq!((seat.presence(false), seat.arrivals()), (Presence::Left, 2));
        join(&view, Role::Sender, LightFence::Full, 9);
        assert_eq!(view.word(SENDER_DEATHS).load(Relaxed), 1, "whoever left did not die");
    }
}
