//! Finding the dead of a ring of slots and giving back what they had claimed.
//!
//! Knows the order: lock, slots, epoch, seat, wake, unlock. Knows nothing of what waits for it, and asks nothing but the
//! kernel's locks who is dead: no pid, no clock.
//!
//! # Who repairs
//!
//! Whoever arrives, whoever has made no progress for a slice, and whoever asks ([`recover`](fn@crate::recover)). One at a
//! time looks through the whole table, elected by a lock byte; that only spares the others the work, and whoever is refused
//! too often does it all the same, because the elected one may be stopped. What makes a repair safe is the lock of each dead
//! seat, which the repairer holds from before it looks until the seat is free.
//!
//! A repair that dies is done again from the start by the next one (rows X1 to X5 of docs/crash-safety.md).

use std::io;

use crate::layout::geometry::{SEATS, Slots};
use crate::layout::view::View;
use crate::link::Behind;
use crate::ring::mpmc::{self, Repaired};
use crate::roster::Role;
use crate::seats::{self, Entry, Ledger};
use crate::sync::Scope;

/// What a recovery found and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovered {
    /// Seats whose holders had died.
    pub seats: u64,
    /// Claims of dead senders that were given up.
    pub skipped: u64,
    /// Messages in dead receivers' hands that are delivered again.
    pub redelivered: u64,
    /// Messages in dead receivers' hands that were lost ([`Delivery::AtMostOnce`](crate::Delivery::AtMostOnce)).
    pub lost: u64,
}

/// Which seats to ask about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Suspects {
    /// All of them.
    All,
    /// The one that is in the way.
    One(u32),
}

/// A set of seats.
struct Dead {
    bits: [u64; SEATS as usize / 64],
    count: u64,
}

impl Dead {
    fn contains(&self, seat: u32) -> bool {
        self.bits.get(seat as usize / 64).is_some_and(|bits| bits >> (seat % 64) & 1 == 1)
    }

    fn insert(&mut self, seat: u32) {
        if let Some(bits) = self.bits.get_mut(seat as usize / 64) {
            *bits |= 1 << (seat % 64);
            self.count += 1;
        }
    }

    fn seats(&self) -> impl Iterator<Item = u32> + '_ {
        // One step for each bit that is set: most sets are empty, and this is run by whoever waits.
        let ones = |bits: u64| {
            let rest = core::iter::successors(Some(bits), |bits| Some(bits & bits.wrapping_sub(1)));
            rest.take_while(|bits| *bits != 0).map(u64::trailing_zeros)
        };
        let words = self.bits.iter().zip((0..).step_by(64));
        words.flat_map(move |(&bits, first)| ones(bits).map(move |bit| first + bit))
    }
}

/// Repairs what the dead among `suspects` left. `mine` is the caller's own seat, on the opening through which it asks: its
/// own locks look free to it.
///
/// The caller lets no other thread do this through the same opening meanwhile, for the same reason.
pub(crate) fn sweep(
    view: &View<Slots>,
    behind: &Behind,
    mine: Option<u32>,
    suspects: Suspects,
    at_most_once: bool,
) -> io::Result<Recovered> {
    let mut dead = Dead { bits: [0; SEATS as usize / 64], count: 0 };
    let locked = lock_the_dead(view, behind, mine, suspects, &mut dead);
    let mut done = Recovered::default();
    if locked.is_ok() && dead.count != 0 {
        done = repair(view, &dead, at_most_once);
    }
    // The seats are free, or as they were: either way the next one may have them. All of them, whatever goes wrong: a lock
    // that is kept makes a dead seat look alive.
    let mut unlocked = Ok(());
    for seat in dead.seats() {
        unlocked = unlocked.and(behind.unlock(seats::lock_byte(seat)));
    }
    locked.and(unlocked).map(|()| done)
}

fn lock_the_dead(
    view: &View<Slots>,
    behind: &Behind,
    mine: Option<u32>,
    suspects: Suspects,
    dead: &mut Dead,
) -> io::Result<()> {
    let (from, to) = match suspects {
        Suspects::All => (0, seats::used(view)),
        Suspects::One(seat) if seat < seats::used(view) => (seat, seat + 1),
        // A number that no seat has stands in some slot: nobody will ever be proved dead.
        Suspects::One(_) => (0, 0),
    };
    for seat in from..to {
        let taken = || Entry::load(view, seat).here().is_some();
        if mine == Some(seat) || !taken() || !behind.try_lock(seats::lock_byte(seat))? {
            continue;
        }
        // Again under the lock: its holder may have left before it, or another repair may have been first.
        if taken() {
            dead.insert(seat);
        } else {
            behind.unlock(seats::lock_byte(seat))?;
        }
    }
    Ok(())
}

/// Repairs under the locks of the dead.
#[cold]
fn repair(view: &View<Slots>, dead: &Dead, at_most_once: bool) -> Recovered {
    let ledger = Ledger(view);
    for seat in dead.seats() {
        ledger.finish(seat, |position| mpmc::is_in_hand(view, seat, position));
    }
    let losses = at_most_once.then_some(&ledger);
    let Repaired { skipped, redelivered, lost } =
        mpmc::repair(view, |owner| dead.contains(owner), losses);
    for seat in dead.seats() {
        let role = Entry::load(view, seat).here().unwrap_or(Role::Receiver);
        seats::bury(view, seat, role);
    }
    seats::wake_everybody(view, Scope::Shared);
    Recovered { seats: dead.count, skipped, redelivered, lost }
}

/// Gives back what a living process leaves in its own seat: what it forgot.
#[cold]
pub(crate) fn give_up_own(view: &View<Slots>, mine: u32, at_most_once: bool) {
    let ledger = Ledger(view);
    let losses = at_most_once.then_some(&ledger);
    mpmc::repair(view, |owner| owner == mine, losses);
}

/// Looks for seats of the ring of slots `name` whose holders died, gives back what they had claimed, and says what it found.
/// Takes no seat. Nobody needs to call this: whoever arrives does the same, and whoever waits.
///
/// # Errors
///
/// As opening the ring; [`OpenError::WrongKind`](crate::OpenError::WrongKind) for a ring of bytes, whose next sender or
/// receiver repairs it on arrival.
#[cfg(all(
    target_os = "linux",
    not(any(all(loom, feature = "model"), all(shuttle, feature = "model")))
))]
pub fn recover(name: &str) -> Result<Recovered, crate::error::OpenError> {
    use crate::endpoint::{Endpoint, Kind};
    at(&Endpoint::open(name, Kind::Mpmc, None, &crate::options::Options::new())?)
}

/// The same at a ring that is open.
#[cfg(any(target_os = "linux", all(loom, feature = "model"), all(shuttle, feature = "model")))]
pub(crate) fn at(endpoint: &Behind) -> Result<Recovered, crate::error::OpenError> {
    let at_most_once = endpoint.delivery() == crate::options::Delivery::AtMostOnce;
    let view = endpoint.slots()?;
    sweep(&view, endpoint, None, Suspects::All, at_most_once).map_err(|source| {
        let ring = endpoint.name().clone();
        crate::error::OpenError::Os { ring, doing: "looking for the dead", source }
    })
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_the_dead_names_each_once_and_nobody_else() {
        let mut dead = Dead { bits: [0; SEATS as usize / 64], count: 0 };
        assert_eq!(dead.seats().count(), 0);
        let some = [0, 1, 62, 63, 64, 127, 128, 500, 1022, 1023];
        some.iter().for_each(|&seat| dead.insert(seat));
        assert!(dead.seats().eq(some));
        assert!((0..SEATS).all(|seat| dead.contains(seat) == some.contains(&seat)));
        assert!(!dead.contains(SEATS));
    }
}
