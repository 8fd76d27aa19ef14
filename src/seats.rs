//! Who sits at a ring of slots: a table of seats, one for each process that takes part.
//!
//! Knows the words of a seat, the words that count arrivals, and which lock byte guards which seat. Knows neither a file nor
//! a clock; "does somebody hold that lock?" is asked elsewhere and handed down.
//!
//! # The seat's word
//!
//! ```text
//!  63                                      3 2     0
//! +-----------------------------------------+-------+
//! |                arrivals                 | state |
//! +-----------------------------------------+-------+
//! ```
//!
//! | state      | lock held           | lock free                                          |
//! |------------|---------------------|----------------------------------------------------|
//! | 0 NEVER    | arriving            | nobody came yet                                    |
//! | 1 SENDER   | a sender is here    | it died, and what it left is not repaired yet      |
//! | 2 RECEIVER | a receiver is here  | it died, and what it left is not repaired yet      |
//! | 3 LEFT     | arriving or leaving | let go of, with nothing left behind                |
//! | 4 DIED     | arriving            | its last holder died, and what it left is repaired |
//!
//! # Invariants
//!
//! - K1. Only the holder of a seat's lock writes the seat, so it has one writer at a time: who sits there, or who repairs.
//! - K2. SENDER or RECEIVER is stored after the lock is taken and before the first claim; LEFT and DIED after the last claim
//!   was released or repaired, and before the lock is.
//! - K3. So a number in a slot's word is that of a seat which says SENDER or RECEIVER, and one number never means two
//!   holders.

use core::cell::Cell;

use crate::layout::control::{
    LIGHT, NOT_EMPTY, NOT_FULL, RECEIVER_ARRIVALS, RECEIVER_LEAVES, SEATS_USED, SENDER_ARRIVALS,
    SENDER_LEAVES, SeatWord, Word,
};
use crate::layout::geometry::Slots;
use crate::layout::view::View;
use crate::ring::mpmc::Losses;
use crate::roster::{LOCK_BASE, Presence, Role};
use crate::sync::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use crate::sync::{self, AtomicU32, LightFence, Scope};
use crate::wake;

/// The byte whose holder looks through the table for the dead; it only spares others the work.
pub(crate) const SWEEPER: u64 = LOCK_BASE + 3;

/// The byte whose lock says that a seat's holder is alive.
pub(crate) const fn lock_byte(seat: u32) -> u64 {
    LOCK_BASE + 64 + seat as u64
}

impl Role {
    /// Counter of those who took a seat in this role.
    pub(crate) const fn arrivals(self) -> Word {
        match self {
            Role::Sender => SENDER_ARRIVALS,
            Role::Receiver => RECEIVER_ARRIVALS,
        }
    }

    /// Counter of those who let go of one.
    pub(crate) const fn leaves(self) -> Word {
        match self {
            Role::Sender => SENDER_LEAVES,
            Role::Receiver => RECEIVER_LEAVES,
        }
    }

    const fn here(self) -> u64 {
        match self {
            Role::Sender => 1,
            Role::Receiver => 2,
        }
    }
}

const LEFT: u64 = 3;
const DIED: u64 = 4;

/// A seat's word, loaded once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry(u64);

impl Entry {
    /// Loads the word of a seat.
    pub(crate) fn load(view: &View<Slots>, seat: u32) -> Entry {
        // K1 Acquire: pairs with the Release of `sit`, `leave` and `bury`; what was done before is seen with it.
        Entry::of(view.seat(seat, SeatWord::STATE).load(Acquire))
    }

    /// Reads a word.
    pub(crate) const fn of(word: u64) -> Entry {
        Entry(word)
    }

    /// In which role somebody took the seat and did not let go: here or dead, as the lock says.
    pub(crate) const fn here(self) -> Option<Role> {
        match self.0 & 7 {
            1 => Some(Role::Sender),
            2 => Some(Role::Receiver),
            _ => None,
        }
    }

    /// How many have taken the seat.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    pub(crate) const fn arrivals(self) -> u64 {
        self.0 >> 3
    }

    /// What the word and the lock say together.
    #[cfg_attr(any(not(target_os = "linux"), loom, shuttle), allow(dead_code))] // For `inspect`.
    pub(crate) const fn presence(self, lock_held: bool) -> Presence {
        match self.0 & 7 {
            1 | 2 if lock_held => Presence::Present,
            0 => Presence::Never,
            LEFT => Presence::Left,
            _ => Presence::Died,
        }
    }
}

/// How many seats need to be looked at: none from here on was ever taken.
pub(crate) fn used(view: &View<Slots>) -> u32 {
    // K5 Acquire: pairs with `raise`; a seat below is looked at properly.
    let used = view.word(SEATS_USED).load(Acquire);
    u32::try_from(used).unwrap_or(u32::MAX).min(view.ring().seats())
}

/// Makes a counter that only grows at least `least`. Gives up on one that somebody else keeps changing.
pub(crate) fn raise(view: &View<Slots>, word: Word, least: u64) {
    let word = view.word(word);
    for _ in 0..2 * u64::from(view.ring().seats()) {
        // Relaxed: the exchange decides.
        let now = word.load(Relaxed);
        // K5, K6 AcqRel: pairs with the Acquire of whoever looks or arrives.
        if now >= least || word.compare_exchange(now, least, AcqRel, Relaxed).is_ok() {
            return;
        }
    }
}

/// Takes a free seat, whose lock the caller holds.
pub(crate) fn sit(view: &View<Slots>, seat: u32, role: Role, light: LightFence, pid: u32) {
    raise(view, SEATS_USED, u64::from(seat) + 1);
    // Relaxed: news.
    view.seat(seat, SeatWord::PID).store(u64::from(pid), Relaxed);
    if light == LightFence::Compiler {
        // W3 Relaxed: the fence orders it before our first light fence, so that a sleeper either sees it or has its bit
        // seen. Never taken back: others may still rely on it.
        view.word32(LIGHT).store(1, Relaxed);
    }
    sync::fence(SeqCst);
    let arrivals = Entry::load(view, seat).arrivals().wrapping_add(1);
    // K1 Release: pairs with `Entry::load`. K2.
    view.seat(seat, SeatWord::STATE).store(arrivals << 3 | role.here(), Release);
    // K4 Release: after the seat, so that whoever counts us can see us. D10 before it.
    view.word(role.arrivals()).fetch_add(1, Release);
}

/// Lets go of a seat that has nothing claimed; the caller then gives up the lock.
pub(crate) fn leave(view: &View<Slots>, seat: u32, role: Role, scope: Scope) {
    let arrivals = Entry::load(view, seat).arrivals();
    // K1 Release: pairs with `Entry::load`, and carries everything that was committed or released before.
    view.seat(seat, SeatWord::STATE).store(arrivals << 3 | LEFT, Release);
    // K4 Release: after the seat, so that whoever notices finds it empty. D11 before it.
    view.word(role.leaves()).fetch_add(1, Release);
    wake_everybody(view, scope);
}

/// Frees the seat of a dead holder, whose lock the caller holds and whose claims are repaired.
pub(crate) fn bury(view: &View<Slots>, seat: u32, role: Role) {
    // Relaxed: news. Before the seat: a death in between counts twice rather than never.
    view.word(role.deaths()).fetch_add(1, Relaxed);
    let arrivals = Entry::load(view, seat).arrivals();
    // K1 Release: after the repair. K2.
    view.seat(seat, SeatWord::STATE).store(arrivals << 3 | DIED, Release);
}

/// Wakes all who sleep.
pub(crate) fn wake_everybody(view: &View<Slots>, scope: Scope) {
    wake::wake_all(view.word32(NOT_EMPTY), scope);
    wake::wake_all(view.word32(NOT_FULL), scope);
}

/// Whether a seat is taken in this role. `witness` is where one was found last: usually still there.
pub(crate) fn anyone(view: &View<Slots>, role: Role, witness: &Cell<u32>) -> bool {
    let sits = |seat: &u32| Entry::load(view, *seat).here() == Some(role);
    if sits(&witness.get()) {
        return true;
    }
    let found = (0..used(view)).find(sits);
    if let Some(seat) = found {
        witness.set(seat);
    }
    found.is_some()
}

/// How many seats are taken in this role.
pub(crate) fn count(view: &View<Slots>, role: Role) -> u32 {
    (0..used(view)).filter(|&seat| Entry::load(view, seat).here() == Some(role)).count() as u32
}

/// Adds to a counter of a seat. `shared` when other threads of the process may count there too.
#[inline]
pub(crate) fn tally(view: &View<Slots>, seat: u32, word: SeatWord, n: u64, shared: bool) {
    if sync::MODELLED {
        // Counters are news: they are no part of the models.
        return;
    }
    let word = view.seat(seat, word);
    if shared {
        // Relaxed: news.
        word.fetch_add(n, Relaxed);
    } else {
        // Relaxed, both: news, and nobody else adds.
        word.store(word.load(Relaxed).wrapping_add(n), Relaxed);
    }
}

/// Counts what is lost with dead receivers, once each, whenever the counter dies: the seat says which message is being
/// counted and what the sum will be, so that a successor can tell whether it was.
///
/// | dies                       | left                         | the next repair                                          |
/// |----------------------------|------------------------------|----------------------------------------------------------|
/// | before LOST_NEXT is stored | nothing                      | begins anew                                              |
/// | before the slot changes    | LOST_NEXT; still in hand     | sees that it is in hand: forgets the note, begins anew   |
/// | before LOST is stored      | LOST_NEXT; not in hand       | sees that it is not: stores LOST_NEXT as LOST            |
/// | before LOST_NEXT is 0      | LOST_NEXT; LOST is the same  | stores the same again                                    |
#[derive(Debug)]
pub(crate) struct Ledger<'a>(pub(crate) &'a View<Slots>);

impl Ledger<'_> {
    /// Finishes what a dead counter had begun in this seat, whose lock the caller holds. `in_hand` says of a position
    /// whether it still is in the seat's hands.
    pub(crate) fn finish(&self, seat: u32, in_hand: impl Fn(u64) -> bool) {
        // L1 Acquire: pairs with the Release below; the position is the one that belongs to the sum.
        let next = self.0.seat(seat, SeatWord::LOST_NEXT).load(Acquire);
        if next == 0 {
            return;
        }
        // Relaxed: ordered by the load above.
        let position = self.0.seat(seat, SeatWord::LOST_AT).load(Relaxed);
        if in_hand(position) {
            // Relaxed: only the next holder of the lock reads it.
            self.0.seat(seat, SeatWord::LOST_NEXT).store(0, Relaxed);
        } else {
            self.settle(seat, next);
        }
    }

    fn settle(&self, seat: u32, next: u64) {
        // Relaxed: news, but for the order of the two, which Release keeps.
        self.0.seat(seat, SeatWord::LOST).store(next, Relaxed);
        // L1 Release: after the sum.
        self.0.seat(seat, SeatWord::LOST_NEXT).store(0, Release);
    }
}

impl Losses for Ledger<'_> {
    fn about_to_lose(&self, owner: u32, position: u64) {
        // L1 Release: after the sum of the message before.
        self.0.seat(owner, SeatWord::LOST_AT).store(position, Release);
        // Relaxed: only the holder of the lock writes it.
        let lost = self.0.seat(owner, SeatWord::LOST).load(Relaxed);
        // L1 Release: after the position; the change of the slot that follows is a Release itself.
        self.0.seat(owner, SeatWord::LOST_NEXT).store(lost.wrapping_add(1), Release);
    }

    fn lost(&self, owner: u32) {
        // Relaxed: our own store.
        let next = self.0.seat(owner, SeatWord::LOST_NEXT).load(Relaxed);
        self.settle(owner, next);
    }
}

/// Where the role sleeps.
pub(crate) fn bed(view: &View<Slots>, role: Role) -> &AtomicU32 {
    view.word32(role.bed())
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::ring::mpmc::{Consumer, Producer, is_in_hand, repair};

    fn ring() -> View<Slots> {
        crate::region::slots(Slots::new(4, 40, 8).expect("legal"), 0)
    }

    #[test]
    fn a_seat_says_who_is_there_and_how_the_last_one_went() {
        let view = ring();
        let witness = Cell::new(0);
        assert_eq!(Entry::load(&view, 3).presence(false), Presence::Never);
        assert!(!anyone(&view, Role::Sender, &witness));
        sit(&view, 3, Role::Sender, LightFence::Full, 7);
        assert_eq!((used(&view), Entry::load(&view, 3).here()), (4, Some(Role::Sender)));
        assert_eq!(Entry::load(&view, 3).presence(true), Presence::Present);
        assert_eq!(Entry::load(&view, 3).presence(false), Presence::Died);
        assert!(anyone(&view, Role::Sender, &witness) && !anyone(&view, Role::Receiver, &witness));
        bury(&view, 3, Role::Sender);
        assert_eq!(Entry::load(&view, 3).presence(false), Presence::Died);
        assert!(!anyone(&view, Role::Sender, &witness));
        sit(&view, 3, Role::Receiver, LightFence::Full, 8);
        assert_eq!(count(&view, Role::Receiver), 1);
        leave(&view, 3, Role::Receiver, Scope::Private);
        assert_eq!(Entry::load(&view, 3).presence(false), Presence::Left);
        assert_eq!(Entry::load(&view, 3).arrivals(), 2);
        assert_eq!(view.word(Role::Sender.deaths()).load(Relaxed), 1);
    }

    #[test]
    fn a_garbled_number_of_seats_is_no_more_than_there_are() {
        let view = ring();
        view.word(SEATS_USED).store(u64::MAX, Relaxed);
        assert_eq!(used(&view), 8);
        raise(&view, SEATS_USED, 3);
        assert_eq!(used(&view), 8);
    }

    /// A ledger whose holder dies at some step of the note.
    struct Dying<'a>(Ledger<'a>, u32);
    impl Losses for Dying<'_> {
        fn about_to_lose(&self, owner: u32, position: u64) {
            if self.1 > 0 {
                self.0.about_to_lose(owner, position);
            }
        }
        fn lost(&self, owner: u32) {
            if self.1 > 1 {
                self.0.0.seat(owner, SeatWord::LOST).store(1, Relaxed);
            }
        }
    }

    #[test]
    fn a_lost_message_is_counted_once_whenever_the_counter_dies() {
        for step in 0..3 {
            let view = ring();
            Producer::attach(view.clone(), 1).expect("sound").try_send(b"x").expect("room");
            let rx = Consumer::attach(view.clone(), 2).expect("sound");
            let held = rx.try_take().expect("sound").expect("there");
            let position = rx.position(&held);
            if step == 0 {
                // Dies before the slot changes.
                Ledger(&view).about_to_lose(2, position);
            } else {
                repair(&view, |owner| owner == 2, Some(&Dying(Ledger(&view), step)));
            }
            Ledger(&view).finish(2, |position| is_in_hand(&view, 2, position));
            let _ = repair(&view, |owner| owner == 2, Some(&Ledger(&view)));
            assert_eq!(view.seat(2, SeatWord::LOST).load(Relaxed), 1, "step {step}");
            assert_eq!(view.seat(2, SeatWord::LOST_NEXT).load(Relaxed), 0);
        }
    }
}
