//! One handle's tie to a ring of slots: the seat that its process holds, its bed, and the others who take part.
//!
//! Knows seats, the locks behind them, the wait words and what has gone wrong on this handle. Knows nothing of slots but
//! the number of the seat that stands in the way.
//!
//! A [`Seat`] is the process's: clones of a handle share it, and it is let go of with the last of them. A [`Party`] is the
//! handle's.

use core::cell::Cell;
use core::time::Duration;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use crate::blocking::{SLICE, Tie};
use crate::error::{Fault, Holder, OpenError, RingName};
use crate::layout::control::{DRAINING, ENDED, ENDED_DEATHS, LIGHT, SWEEPS, SeatWord};
use crate::layout::geometry::Slots;
use crate::layout::view::View;
use crate::link::{Behind, NO_LIFE};
use crate::options::Wait;
use crate::recovery::{self, Recovered, Suspects};
use crate::ring::Damage;
use crate::ring::mpmc::{self, Left};
use crate::roster::{Presence, Role};
use crate::seats::{self, Entry};
use crate::sync::Ordering::{Acquire, Relaxed, SeqCst};
use crate::sync::{self, AtomicU32, Deadline, LightFence, Scope, Slept};
use crate::wake;

/// How long the answer of a lock is good for, in milliseconds, while somebody spins or calls `try_` in a loop.
const PROBE_EVERY_MS: u64 = 10;

/// How long the whole table needs no look, in milliseconds: about a slice.
const SWEEP_EVERY_MS: u64 = 90;

/// Refusals by an elected sweeper, in a row, after which a handle looks for itself.
const DENIALS: u32 = 3;

/// The longest nap while somebody holds the slot that is waited for is 2 to this power of milliseconds. The first is one.
const LONGEST_NAP: u32 = 4;

/// So many naps, about a quarter of a second, before they grow to whole slices.
const SHORT_NAPS: u32 = 20;

/// In the seats below this one they do not grow: at few processes everybody looks soon, and at many only some do, so that they cost no
/// more.
const WATCHMEN: u32 = 8;

/// How often to look for a free seat before the table is called full: another may be looking at one at the same moment.
const TRIES: u32 = 8;

/// What the counters of a seat stood at when its holder came.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) redelivered: u64,
    pub(crate) skipped: u64,
    pub(crate) lost: u64,
    pub(crate) full_waits: u64,
    pub(crate) empty_waits: u64,
    pub(crate) wakes: u64,
}

/// The seat of this process, on one opening of the ring.
#[derive(Debug)]
pub(crate) struct Seat {
    view: View<Slots>,
    role: Role,
    name: RingName,
    behind: Option<Behind>,
    number: u32,
    light: LightFence,
    scope: Scope,
    generation: u64,
    at_most_once: bool,
    /// Whether handles were cloned: then several threads may count.
    shared: AtomicU32,
    /// Claims that handles forgot and that are still open.
    forgotten: AtomicU32,
    /// Held while this process repairs: its own locks do not keep its own threads apart.
    repairing: Mutex<()>,
    before: Tally,
}

/// A handle's own part.
#[derive(Debug)]
pub(crate) struct Party {
    seat: Arc<Seat>,
    /// How this handle waits.
    pub(crate) wait: Cell<Wait>,
    keep_open: Cell<bool>,
    /// Arrivals of peers up to here are not this handle's business: their end was reported, or they were gone before it came.
    baseline: u64,
    /// Peers that had let go when the table was last looked at and nothing was wrong.
    seen: Cell<u64>,
    /// Where a peer was seen last.
    witness: Cell<u32>,
    /// Arrivals of peers when none was found any more.
    gone: Cell<u64>,
    /// The end that the caller was told of last: the arrivals then, and how it went.
    told: Cell<Option<(u64, Presence)>>,
    /// Deaths of peers that are not news.
    deaths: Cell<u64>,
    /// Who holds the slot that is waited for.
    blocker: Cell<Option<u32>>,
    /// Who has one of the last messages in hand, of which the end is waited for.
    last: Cell<Option<u32>>,
    /// Whether what is waited for may be there all the same.
    hurried: Cell<bool>,
    naps: Cell<u32>,
    /// For whom the last sleep was: naps are counted for one holder after the other.
    napped_for: Cell<Option<u32>>,
    probed_ms: Cell<u64>,
    swept_ms: Cell<u64>,
    sweeps: Cell<u64>,
    denials: Cell<u32>,
    /// Claims of this handle that are open.
    open: Cell<u32>,
    fault: Cell<Option<Sticky>>,
    /// The life of the process in which the handle is of use: the seat's, or none after a fault.
    usable_in: Cell<u64>,
}

/// What went wrong for good on this handle.
#[derive(Clone, Copy, Debug)]
enum Sticky {
    Corrupt(Damage),
    Truncated { found: u64, wanted: u64 },
}

impl Seat {
    fn cut_short(&self) -> Option<(u64, u64)> {
        self.behind.as_ref().and_then(|behind| behind.truncated())
    }

    #[inline]
    fn tally(&self, word: SeatWord, n: u64) {
        // Relaxed: set before another thread could have a clone.
        let shared = self.shared.load(Relaxed) != 0;
        seats::tally(&self.view, self.number, word, n, shared);
    }

    fn counters(&self) -> Tally {
        // Relaxed: news.
        let word = |word| self.view.seat(self.number, word).load(Relaxed);
        Tally {
            sent: word(SeatWord::SENT),
            received: word(SeatWord::RECEIVED),
            redelivered: word(SeatWord::REDELIVERED),
            skipped: word(SeatWord::SKIPPED),
            lost: word(SeatWord::LOST),
            full_waits: word(SeatWord::FULL_WAITS),
            empty_waits: word(SeatWord::EMPTY_WAITS),
            wakes: word(SeatWord::WAKES),
        }
    }
}

/// Lets go of the seat and wakes everybody to see it. A forked child has no seat to let go of, and a file that was cut short
/// may have none.
impl Drop for Seat {
    fn drop(&mut self) {
        if sync::dead() || sync::generation() != self.generation || self.cut_short().is_some() {
            return;
        }
        // Relaxed: every other handle is gone, and its going orders what it did.
        if self.forgotten.load(Relaxed) != 0 {
            recovery::give_up_own(&self.view, self.number, self.at_most_once);
        }
        seats::leave(&self.view, self.number, self.role, self.scope);
    }
}

/// What a seat is taken at, and by whom.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) view: View<Slots>,
    pub(crate) role: Role,
    pub(crate) name: RingName,
    pub(crate) behind: Option<Behind>,
    pub(crate) keep_open: bool,
    pub(crate) at_most_once: bool,
}

impl Party {
    /// Takes a seat: a free one of a named ring, the role's own of a channel. Then repairs what the dead left.
    pub(crate) fn join(place: Place) -> Result<Party, OpenError> {
        let Place { view, role, name, behind, keep_open, at_most_once } = place;
        let os = |source| OpenError::Os { ring: name.clone(), doing: "taking a seat", source };
        let generation = sync::arm_generation().map_err(os)?;
        let light = LightFence::best();
        // K6 Acquire: pairs with `report_end`, before `ended` below. Whoever died since an end was last told is this receiver's
        // to tell of, whoever found it.
        let told = view.word(ENDED_DEATHS).load(Acquire);
        let number = match &behind {
            None => u32::from(role == Role::Receiver),
            Some(behind) => match find_seat(&view, behind, at_most_once).map_err(os)? {
                Some(seat) => seat,
                None => return Err(OpenError::Crowded { ring: name, seats: view.ring().seats() }),
            },
        };
        if let Some(behind) = &behind {
            // Before the look at who is here: those who are dead are not.
            recovery::sweep(&view, behind, Some(number), Suspects::All, at_most_once)
                .map_err(os)?;
        }
        let witness = Cell::new(0);
        // Relaxed: only compared. Before the look at the seats.
        let leaves = view.word(role.peer().leaves()).load(Relaxed);
        let baseline = match role {
            // Ends of streams that some receiver has already been told of.
            // Relaxed: ordered by K6 above; an older one only means that the end is told to this one too.
            Role::Receiver => view.word(ENDED).load(Relaxed),
            Role::Sender => {
                // K4 Acquire: before the look at the seats, so that whoever comes in between is above the baseline.
                let arrived = view.word(role.peer().arrivals()).load(Acquire);
                // Receivers that are gone already are not this sender's: it may wait for its own.
                let here = seats::anyone(&view, role.peer(), &witness);
                arrived.saturating_sub(u64::from(here))
            }
        };
        let pid = if behind.is_some() { std::process::id() } else { 0 };
        let scope = if behind.is_some() { Scope::Shared } else { Scope::Private };
        // Relaxed: news. Receivers that died before it came are not this sender's.
        let deaths = match role {
            Role::Receiver => told,
            Role::Sender => view.word(role.peer().deaths()).load(Relaxed),
        };
        seats::sit(&view, number, role, light, pid);
        let mut seat = Seat {
            view,
            role,
            name,
            behind,
            number,
            light,
            scope,
            generation,
            at_most_once,
            shared: AtomicU32::new(0),
            forgotten: AtomicU32::new(0),
            repairing: Mutex::new(()),
            before: Tally::default(),
        };
        if !sync::MODELLED {
            seat.before = seat.counters();
        }
        Ok(Party {
            seat: Arc::new(seat),
            wait: Cell::new(Wait::default()),
            keep_open: Cell::new(keep_open),
            baseline,
            seen: Cell::new(leaves),
            witness,
            gone: Cell::new(0),
            told: Cell::new(None),
            deaths: Cell::new(deaths),
            blocker: Cell::new(None),
            last: Cell::new(None),
            hurried: Cell::new(false),
            naps: Cell::new(0),
            napped_for: Cell::new(None),
            probed_ms: Cell::new(0),
            swept_ms: Cell::new(0),
            sweeps: Cell::new(0),
            denials: Cell::new(0),
            open: Cell::new(0),
            fault: Cell::new(None),
            usable_in: Cell::new(generation),
        })
    }

    /// A tie for a clone of the handle, on the same seat.
    pub(crate) fn another(&self) -> Party {
        // Relaxed: whoever gives the clone to another thread orders this before that thread.
        self.seat.shared.store(1, Relaxed);
        Party {
            seat: Arc::clone(&self.seat),
            wait: self.wait.clone(),
            keep_open: self.keep_open.clone(),
            baseline: self.baseline,
            seen: self.seen.clone(),
            witness: self.witness.clone(),
            gone: self.gone.clone(),
            told: self.told.clone(),
            deaths: self.deaths.clone(),
            blocker: Cell::new(None),
            last: Cell::new(None),
            hurried: Cell::new(false),
            naps: Cell::new(0),
            napped_for: Cell::new(None),
            probed_ms: self.probed_ms.clone(),
            swept_ms: self.swept_ms.clone(),
            sweeps: self.sweeps.clone(),
            denials: Cell::new(0),
            open: Cell::new(0),
            fault: self.fault.clone(),
            usable_in: self.usable_in.clone(),
        }
    }

    /// The number that signs this handle's claims.
    pub(crate) fn number(&self) -> u32 {
        self.seat.number
    }

    /// The ring's name.
    pub(crate) fn name(&self) -> &RingName {
        &self.seat.name
    }

    fn view(&self) -> &View<Slots> {
        &self.seat.view
    }

    fn peer(&self) -> Role {
        self.seat.role.peer()
    }

    /// Whether the next call must be looked at before it touches the ring: this is a forked child, something went wrong
    /// before, or a peer has let go.
    #[inline]
    pub(crate) fn unusual(&self) -> bool {
        // The order matters: a forked child has no map to look into.
        !self.is_usable()
            // Relaxed: only compared; `examine` looks properly.
            || self.view().word(self.peer().leaves()).load(Relaxed) != self.seen.get()
    }

    /// Whether this is the process that joined and nothing went wrong for good.
    #[inline(always)]
    pub(crate) fn is_usable(&self) -> bool {
        sync::generation() == self.usable_in.get()
    }

    /// Why it is not usable, if it is not.
    #[inline]
    pub(crate) fn usable(&self) -> Result<(), Fault> {
        if self.is_usable() { Ok(()) } else { Err(self.why()) }
    }

    /// Whether what this handle has in hand can still be read: garbage that a later call met is no reason against it.
    #[inline]
    pub(crate) fn readable(&self) -> bool {
        self.is_usable() || self.met_garbage()
    }

    #[cold]
    fn met_garbage(&self) -> bool {
        sync::generation() == self.seat.generation
            && matches!(self.fault.get(), Some(Sticky::Corrupt(_)))
    }

    #[cold]
    fn why(&self) -> Fault {
        let ring = self.name().clone();
        match self.fault.get() {
            _ if sync::generation() != self.seat.generation => Fault::Forked { ring },
            Some(Sticky::Truncated { found, wanted }) => Fault::Truncated { ring, found, wanted },
            Some(Sticky::Corrupt(damage)) => Fault::Corrupt { ring, what: damage.what() },
            None => Fault::Forked { ring },
        }
    }

    /// Looks at what [`unusual`](Self::unusual) noticed, for a sender: `true` when the last receiver has let go.
    #[cold]
    pub(crate) fn examine(&self) -> Result<bool, Fault> {
        self.usable()?;
        // K4 Acquire: before the look at the seats.
        let leaves = self.view().word(self.peer().leaves()).load(Acquire);
        if leaves == 0 && self.seen.get() != u64::MAX {
            // Whoever has left does not come to have never been there.
            self.check()?;
        }
        if self.nobody_left() {
            return Ok(true);
        }
        self.seen.set(leaves);
        Ok(false)
    }

    /// Whether no peer of this stream is left in the table, dead ones that nobody has found yet excepted.
    fn nobody_left(&self) -> bool {
        if self.keep_open.get() {
            return false;
        }
        // Somebody may come and another go behind our look at the table; then the arrivals tell.
        for _ in 0..4 {
            // K4 Acquire: before the look at the seats; pairs with `sit`.
            let arrived = self.view().word(self.peer().arrivals()).load(Acquire);
            if arrived <= self.baseline || seats::anyone(self.view(), self.peer(), &self.witness) {
                return false;
            }
            // K4 Acquire: after it.
            if self.view().word(self.peer().arrivals()).load(Acquire) == arrived {
                self.gone.set(arrived);
                return true;
            }
        }
        false
    }

    /// The caller is told that nobody is left, as was just found. A receiver writes it down, so that a later one is not
    /// told again; those who came since are not meant.
    pub(crate) fn report_end(&self) {
        let arrived = self.gone.get();
        if self.told.get().is_some_and(|(told, _)| told == arrived) {
            return;
        }
        // Relaxed: news; a repair counts a death before it frees the seat.
        let deaths = self.view().word(self.peer().deaths()).load(Relaxed);
        let died = deaths > self.deaths.replace(deaths);
        self.told.set(Some((arrived, if died { Presence::Died } else { Presence::Left })));
        if self.seat.role == Role::Receiver {
            seats::raise(self.view(), ENDED, arrived);
            // After the end, and loaded before it: whoever comes in between, or after a death in between, may take deaths for
            // news that were told already, and never the other way round.
            seats::raise(self.view(), ENDED_DEATHS, deaths);
        }
    }

    /// How the end went that the caller was told of last.
    pub(crate) fn end(&self) -> Option<Presence> {
        self.told.get().map(|(_, how)| how)
    }

    /// Notes who holds the slot that is waited for, and whether it may be there all the same.
    #[inline]
    pub(crate) fn blocked_by(&self, seat: Option<u32>, hurried: bool) {
        self.blocker.set(seat);
        self.hurried.set(hurried);
    }

    /// Whether what is waited for may be there all the same.
    pub(crate) fn hurried(&self) -> bool {
        self.hurried.get()
    }

    /// Who holds the slot that is waited for, for the sentence of a timeout.
    pub(crate) fn holder(&self) -> Option<Holder> {
        let seat = self.blocker.get().or(self.last.get())?;
        let role = Entry::load(self.view(), seat).here()?;
        // Relaxed: news.
        let pid = self.view().seat(seat, SeatWord::PID).load(Relaxed);
        Some(Holder { seat, role: role.name(), pid: u32::try_from(pid).unwrap_or(0) })
    }

    /// Wakes peers that sleep, to see `n` things that this side has just written.
    #[inline]
    pub(crate) fn notify(&self, n: u32) {
        self.notify_role(self.peer(), n);
    }

    /// Wakes another of this side, to see what it has put back, or left lying.
    #[cold]
    pub(crate) fn pass_on(&self) {
        self.notify_role(self.seat.role, 1);
    }

    #[inline(always)]
    fn notify_role(&self, role: Role, n: u32) {
        if wake::is_due(seats::bed(self.view(), role), self.seat.light) {
            self.wake(role, n);
        }
    }

    #[cold]
    #[inline(never)]
    fn wake(&self, role: Role, n: u32) {
        wake::wake_some(seats::bed(self.view(), role), n, self.seat.scope);
        self.tally(SeatWord::WAKES, 1);
    }

    /// Adds to a counter of the seat.
    #[inline]
    pub(crate) fn tally(&self, word: SeatWord, n: u64) {
        self.seat.tally(word, n);
    }

    /// The seat's counters since it was taken.
    pub(crate) fn counters(&self) -> Tally {
        if sync::MODELLED || !self.is_usable() || self.seat.cut_short().is_some() {
            return Tally::default();
        }
        let (now, before) = (self.seat.counters(), &self.seat.before);
        Tally {
            sent: now.sent.wrapping_sub(before.sent),
            received: now.received.wrapping_sub(before.received),
            redelivered: now.redelivered.wrapping_sub(before.redelivered),
            skipped: now.skipped.wrapping_sub(before.skipped),
            lost: now.lost.wrapping_sub(before.lost),
            full_waits: now.full_waits.wrapping_sub(before.full_waits),
            empty_waits: now.empty_waits.wrapping_sub(before.empty_waits),
            wakes: now.wakes.wrapping_sub(before.wakes),
        }
    }

    /// How many peers have a seat; those who died and were not found yet are among them.
    pub(crate) fn peers(&self) -> u32 {
        if !self.is_usable() || self.seat.cut_short().is_some() {
            return 0;
        }
        seats::count(self.view(), self.peer())
    }

    /// One more claim of this handle is open.
    #[inline]
    pub(crate) fn opened(&self) {
        self.open.set(self.open.get().wrapping_add(1));
    }

    /// One fewer.
    #[inline]
    pub(crate) fn closed(&self) {
        self.open.set(self.open.get().wrapping_sub(1));
    }

    fn stick(&self, fault: Sticky) {
        self.fault.set(Some(fault));
        self.usable_in.set(NO_LIFE);
    }

    /// Makes `Corrupt` stick to this handle; or what explains it, a file that was cut short.
    #[cold]
    pub(crate) fn corrupt(&self, damage: Damage) -> Fault {
        // Relaxed: as in `drop`. It may have taken what it then refused, and gives nothing up any more itself.
        self.seat.forgotten.store(1, Relaxed);
        if let Err(fault) = self.check() {
            return fault;
        }
        self.stick(Sticky::Corrupt(damage));
        Fault::Corrupt { ring: self.name().clone(), what: damage.what() }
    }

    /// Whether the end of the peers is ever reported on this handle.
    pub(crate) fn set_keep_open(&self, on: bool) {
        self.keep_open.set(on);
        self.seen.set(u64::MAX);
    }

    /// Whether the file has lost its name.
    pub(crate) fn unlinked(&self) -> bool {
        self.seat.behind.as_ref().is_some_and(|behind| behind.is_unlinked())
    }

    /// Whether the name leads to another file by now, or to none.
    #[cfg(all(
        target_os = "linux",
        not(any(all(loom, feature = "model"), all(shuttle, feature = "model")))
    ))]
    pub(crate) fn renamed(&self) -> Result<bool, OpenError> {
        self.seat.behind.as_ref().map_or(Ok(false), |behind| behind.has_its_name().map(|has| !has))
    }

    /// Whether all of the memory was there so far. Asked after a copy: then the copy has no zeros that nobody sent.
    #[inline]
    pub(crate) fn is_whole(&self) -> bool {
        !sync::memory_lost() || self.seat.cut_short().is_none()
    }

    /// The same, for good: what is not whole is not used again.
    #[inline]
    pub(crate) fn whole(&self) -> Result<(), Fault> {
        if sync::memory_lost() { self.check() } else { Ok(()) }
    }

    /// Asks the kernel whether the file is whole.
    fn check(&self) -> Result<(), Fault> {
        if let Some((found, wanted)) = self.seat.cut_short() {
            self.stick(Sticky::Truncated { found, wanted });
        }
        self.usable()
    }

    /// Whether nobody is left to wait for. When `probe`, asks the locks first, and repairs.
    pub(crate) fn is_gone(&self, probe: bool) -> Result<bool, Fault> {
        if probe {
            self.probed_ms.set(sync::coarse_ms());
            self.check()?;
            if let Some(behind) = &self.seat.behind {
                self.look_after(behind).map_err(|source| self.not_asked(source))?;
            }
        }
        self.last.set(None);
        match self.seat.role {
            Role::Sender => Ok(self.nobody_left()),
            Role::Receiver => Ok(self.nobody_left() && self.is_drained()?),
        }
    }

    /// No sender is left: is there nothing either that another receiver may leave behind? It may die with a message in hand,
    /// or give it back. Whoever has a message in hand itself waits for no other's.
    #[cold]
    fn is_drained(&self) -> Result<bool, Fault> {
        if self.told.get().is_some_and(|(told, _)| told == self.gone.get()) {
            return Ok(true);
        }
        if let Some(behind) = &self.seat.behind {
            // Whoever is dead has nothing in hand: what it had is put aside, and the caller's last look finds it.
            let swept = self.sweep(behind, Suspects::All);
            if swept.map_err(|source| self.not_asked(source))?.is_none() {
                return Ok(false);
            }
        }
        // W5 Relaxed: the fences order it before the look at the slots: whoever releases one after that sees it.
        self.view().word32(DRAINING).store(1, Relaxed);
        sync::fence(SeqCst);
        // W3 Relaxed: as in `wake::announce`.
        let heard = self.view().word32(LIGHT).load(Relaxed) == 0 || sync::remote_fence();
        match mpmc::left(self.view()) {
            Left::Nothing => return Ok(true),
            // Two who hold something would wait for each other.
            Left::InHand(_) if self.open.get() != 0 => return Ok(true),
            Left::Messages => self.blocked_by(None, true),
            Left::InHand(holder) => {
                self.blocked_by(Some(holder), !heard);
                self.last.set(Some(holder));
            }
        }
        Ok(false)
    }

    /// A message was released. Wakes receivers that wait for the last of them, once the senders have been woken for its room.
    #[inline]
    pub(crate) fn released(&self) {
        self.notify(1);
        // W5 Relaxed: behind the fence of `notify`.
        if self.view().word32(DRAINING).load(Relaxed) != 0 {
            self.drained();
        }
    }

    #[cold]
    fn drained(&self) {
        if self.nobody_left() {
            wake::wake_all(seats::bed(self.view(), Role::Receiver), self.seat.scope);
        } else {
            // Relaxed: they are back; whoever waits for the end next says so again.
            self.view().word32(DRAINING).store(0, Relaxed);
        }
    }

    fn not_asked(&self, source: std::io::Error) -> Fault {
        Fault::Os { ring: self.name().clone(), doing: "asking who is alive", source }
    }

    /// Asks after whoever is in the way, and now and then after everybody.
    fn look_after(&self, behind: &Behind) -> std::io::Result<()> {
        if let Some(blocker) = self.blocker.get() {
            self.sweep(behind, Suspects::One(blocker))?;
        }
        self.sweep_if_due(behind)
    }

    /// Looks through the whole table, unless it was looked through lately, by whomever.
    fn sweep_if_due(&self, behind: &Behind) -> std::io::Result<()> {
        let now = sync::coarse_ms();
        if now.wrapping_sub(self.swept_ms.get()) < SWEEP_EVERY_MS {
            return Ok(());
        }
        // Relaxed: a hint. Two more than when this handle began to wait: the second of them began after that.
        let sweeps = self.view().word(SWEEPS).load(Relaxed);
        if sweeps.wrapping_sub(self.sweeps.get()) >= 2 && self.swept_ms.get() != 0 {
            self.sweeps.set(sweeps);
            self.swept_ms.set(now);
            return Ok(());
        }
        // First of all: the threads of this process share its locks, so the election does not keep them apart.
        let Some(_alone) = self.alone() else { return Ok(()) };
        let elected = behind.try_lock(seats::SWEEPER)?;
        if !elected && self.denials.get() < DENIALS {
            // The elected one may be stopped, or slow: a few slices are its own.
            self.denials.set(self.denials.get() + 1);
            return Ok(());
        }
        let swept = self.sweep_alone(behind, Suspects::All);
        if elected {
            if swept.is_ok() {
                // Relaxed: a hint.
                self.view().word(SWEEPS).fetch_add(1, Relaxed);
            }
            behind.unlock(seats::SWEEPER)?;
        }
        self.denials.set(0);
        self.swept_ms.set(now);
        // Relaxed: a hint.
        self.sweeps.set(self.view().word(SWEEPS).load(Relaxed));
        swept.map(drop)
    }

    /// Keeps the other threads of this process from repairing; `None` while one of them does.
    fn alone(&self) -> Option<MutexGuard<'_, ()>> {
        match self.seat.repairing.try_lock() {
            Ok(alone) => Some(alone),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn sweep_alone(&self, behind: &Behind, suspects: Suspects) -> std::io::Result<Recovered> {
        recovery::sweep(self.view(), behind, Some(self.number()), suspects, self.seat.at_most_once)
    }

    /// Repairs what the dead among `suspects` left; `None` when another thread of this process is at it.
    fn sweep(&self, behind: &Behind, suspects: Suspects) -> std::io::Result<Option<Recovered>> {
        let Some(_alone) = self.alone() else { return Ok(None) };
        self.sweep_alone(behind, suspects).map(Some)
    }

    /// Looks through the whole table at once.
    pub(crate) fn recover(&self) -> Result<Recovered, Fault> {
        self.check()?;
        let Some(behind) = &self.seat.behind else { return Ok(Recovered::default()) };
        let _alone = self.seat.repairing.lock().unwrap_or_else(PoisonError::into_inner);
        self.sweep_alone(behind, Suspects::All).map_err(|source| self.not_asked(source))
    }

    /// Whether the locks have not been asked for a while.
    pub(crate) fn is_probe_due(&self) -> bool {
        self.seat.behind.is_some()
            && sync::coarse_ms().wrapping_sub(self.probed_ms.get()) >= PROBE_EVERY_MS
    }
}

/// What this handle forgot is cleaned up with the seat.
impl Drop for Party {
    fn drop(&mut self) {
        if self.open.get() != 0 && !sync::dead() {
            // Relaxed: whoever drops the seat comes after all other handles.
            self.seat.forgotten.store(1, Relaxed);
        }
    }
}

/// A seat that is free, with its lock; those of the dead are freed first when there is no other.
fn find_seat(
    view: &View<Slots>,
    behind: &Behind,
    at_most_once: bool,
) -> std::io::Result<Option<u32>> {
    for _ in 0..TRIES {
        for seat in 0..view.ring().seats() {
            let free = || Entry::load(view, seat).here().is_none();
            if free() && behind.try_lock(seats::lock_byte(seat))? {
                // Again under the lock: somebody may have sat down and died in between.
                if free() {
                    return Ok(Some(seat));
                }
                behind.unlock(seats::lock_byte(seat))?;
            }
        }
        recovery::sweep(view, behind, None, Suspects::All, at_most_once)?;
    }
    Ok(None)
}

impl Tie for &Party {
    fn wait(&self) -> Wait {
        self.wait.get()
    }

    fn count_wait(&mut self) {
        self.naps.set(0);
        self.tally(
            match self.seat.role {
                Role::Sender => SeatWord::FULL_WAITS,
                Role::Receiver => SeatWord::EMPTY_WAITS,
            },
            1,
        );
    }

    fn announce(&self) -> wake::Ticket {
        wake::announce(seats::bed(self.view(), self.seat.role), self.view().word32(LIGHT))
    }

    fn retract(&self) {
        // Others may sleep in the same bed.
    }

    fn sleep(&self, ticket: wake::Ticket, until: Deadline) -> Slept {
        wake::sleep(seats::bed(self.view(), self.seat.role), ticket, until, self.seat.scope)
    }

    fn slice(&mut self) -> Option<Duration> {
        if self.hurried.get() {
            return Some(Duration::from_millis(1));
        }
        if self.seat.scope == Scope::Private {
            return None;
        }
        let blocker = self.blocker.get();
        if self.napped_for.replace(blocker) != blocker {
            self.naps.set(0);
        }
        if blocker.is_none() {
            return Some(SLICE);
        }
        // Somebody holds what is waited for: it will be done in a moment, or it is dead. Whoever lives and is not done for
        // long is asked after less and less often, but in the first seats.
        let naps = self.naps.get();
        self.naps.set(naps.saturating_add(1));
        let power = match naps {
            0..SHORT_NAPS => naps.min(LONGEST_NAP),
            _ if self.seat.number < WATCHMEN => LONGEST_NAP,
            _ => LONGEST_NAP + (naps - SHORT_NAPS).min(4),
        };
        Some(Duration::from_millis(1 << power).min(SLICE))
    }

    fn check_file(&mut self) -> Result<(), Fault> {
        self.check()
    }

    fn gone(&mut self, probe: bool) -> Result<bool, Fault> {
        self.is_gone(probe)
    }

    fn probe_due(&self) -> bool {
        self.is_probe_due()
    }
}

#[cfg(all(test, target_os = "linux", not(any(loom, shuttle, miri))))]
mod tests {
    use super::*;
    use crate::endpoint::{Endpoint, Kind};
    use crate::options::Options;
    use crate::os::testing;
    use std::iter;

    /// A receiver at a ring of its own.
    fn receiver(name: &str) -> Party {
        at(Endpoint::create(name, Kind::Mpmc, None, &Options::new()).unwrap())
    }

    fn at(ring: Endpoint) -> Party {
        Party::join(Place {
            view: ring.slots().unwrap(),
            role: Role::Receiver,
            name: ring.name().clone(),
            keep_open: true,
            at_most_once: false,
            behind: Some(ring),
        })
        .unwrap()
    }

    /// How long so many sleeps in a row may be, for a slot that somebody holds, or nobody.
    fn sleeps(mut party: &Party, holder: Option<u32>, count: usize) -> Vec<u128> {
        let mut sleep = || {
            party.blocked_by(holder, false);
            party.slice().unwrap().as_millis()
        };
        (0..count).map(|_| sleep()).collect()
    }

    /// What the first twenty are, for everybody.
    fn short() -> Vec<u128> {
        [&[1, 2, 4, 8][..], &[16; 16]].concat()
    }

    #[test]
    fn whoever_has_one_of_the_first_seats_keeps_its_naps_short() {
        let dir = testing::dir();
        let mut party = &receiver(&dir.name("jobs"));
        party.count_wait();
        assert_eq!(sleeps(party, Some(70), 25), [&short()[..], &[16; 5]].concat());
        assert_eq!(sleeps(party, None, 2), [100, 100], "nobody holds anything");
    }

    #[test]
    fn naps_grow_while_it_is_one_holder_and_begin_anew_with_the_next() {
        let dir = testing::dir();
        let name = dir.name("jobs");
        let _watchmen: Vec<_> = iter::once(receiver(&name))
            .chain(
                (1..WATCHMEN)
                    .map(|_| at(Endpoint::open(&name, Kind::Mpmc, None, &Options::new()).unwrap())),
            )
            .collect();
        let mut party = &at(Endpoint::open(&name, Kind::Mpmc, None, &Options::new()).unwrap());
        assert_eq!(party.seat.number, WATCHMEN);
        party.count_wait();
        let all = [&short()[..], &[16, 32, 64, 100, 100]].concat();
        assert_eq!(sleeps(party, Some(7), 25), all);
        assert_eq!(sleeps(party, Some(8), 3), [1, 2, 4], "another holder");
        assert_eq!(sleeps(party, Some(7), 25), all);
        assert_eq!(sleeps(party, None, 2), [100, 100], "nobody");
        assert_eq!(sleeps(party, Some(7), 25), all, "the first one again");
        party.count_wait();
        assert_eq!(sleeps(party, Some(7), 25), all, "another wait");
    }
}
