//! One handle's tie to the other end: is it there, wake it, wait for it.
//!
//! Knows the seats, the lock behind them, the wait words and what has gone wrong on this handle. Knows nothing of records.

use core::marker::PhantomData;
use core::time::Duration;

use crate::blocking::{SLICE, Tie};
use crate::error::{Fault, RingName};
use crate::layout::control::ENDED;
use crate::layout::view::View;
use crate::ring::Damage;
use crate::roster::{self, End, Presence, Role, Seat};
use crate::sync::Ordering::Relaxed;
use crate::sync::{self, AtomicU32, Deadline, LightFence, Scope, Slept};
use crate::{options::Wait, wake};

/// How long the answer of the lock is good for, in milliseconds, while somebody spins or calls `try_` in a loop.
const PROBE_EVERY_MS: u64 = 10;

/// What stands behind a named ring; a channel has nothing of the kind.
#[cfg(any(target_os = "linux", all(loom, feature = "model"), all(shuttle, feature = "model")))]
pub(crate) type Behind = crate::endpoint::Endpoint;

/// What stands behind a named ring: nothing can, here.
#[cfg(not(any(
    target_os = "linux",
    all(loom, feature = "model"),
    all(shuttle, feature = "model")
)))]
pub(crate) use nothing::Behind;

#[cfg(not(any(
    target_os = "linux",
    all(loom, feature = "model"),
    all(shuttle, feature = "model")
)))]
mod nothing {
    /// There are no named rings on this system.
    #[derive(Debug)]
    pub(crate) enum Behind {}

    impl Behind {
        pub(crate) fn peer_holds_lock(&self) -> std::io::Result<bool> {
            match *self {}
        }
        pub(crate) fn try_lock(&self, _byte: u64) -> std::io::Result<bool> {
            match *self {}
        }
        pub(crate) fn unlock(&self, _byte: u64) -> std::io::Result<()> {
            match *self {}
        }
        pub(crate) fn is_unlinked(&self) -> bool {
            match *self {}
        }
        pub(crate) fn truncated(&self) -> Option<(u64, u64)> {
            match *self {}
        }
    }
}

/// The tie.
#[derive(Debug)]
pub(crate) struct Link<E: End> {
    view: View,
    name: RingName,
    behind: Option<Behind>,
    light: LightFence,
    scope: Scope,
    /// The life of the process that joined.
    generation: u64,
    /// The life of the process in which the handle is of use: that one, or none after a fault.
    usable_in: u64,
    /// How this handle waits.
    pub(crate) wait: Wait,
    keep_open: bool,
    /// Arrivals of the peer up to here are not this handle's business: their end was reported, or they were gone before
    /// this handle came.
    baseline: u64,
    /// The peer's seat when it was last looked at and nothing was wrong.
    seen: Seat,
    /// The peer's seat when its lock was last found free.
    dead: Option<Seat>,
    /// The peer's seat when it was last found gone, and how it went.
    gone: Option<(Seat, Presence)>,
    /// The same, of the end that the caller was told of last.
    told: Option<(Seat, Presence)>,
    /// Deaths of peers that are not news: those before this handle came, and those it was told of.
    deaths: u64,
    probed_ms: u64,
    waits: u64,
    wakes: u64,
    fault: Option<Sticky>,
    end: PhantomData<E>,
}

/// What went wrong for good on this handle.
#[derive(Clone, Copy, Debug)]
enum Sticky {
    Corrupt(Damage),
    Truncated { found: u64, wanted: u64 },
}

/// No life of any process: they are counted from 1, and 0 is one that nobody counted.
pub(crate) const NO_LIFE: u64 = u64::MAX;

impl<E: End> Link<E> {
    /// Sits down. For a named ring the role's lock is held by `behind`.
    pub(crate) fn join(
        view: View,
        name: RingName,
        behind: Option<Behind>,
        keep_open: bool,
    ) -> std::io::Result<Self> {
        let role = E::ROLE;
        let generation = sync::arm_generation()?;
        let light = LightFence::best();
        let pid = if behind.is_some() { std::process::id() } else { 0 };
        // The word before the lock: a peer that arrives in between is not in the word yet, so it is above the baseline.
        let peer = Seat::load(&view, role.peer());
        let peer_here = match &behind {
            Some(behind) => behind.peer_holds_lock()?,
            None => true,
        };
        let baseline = match role {
            // Ends of streams that a receiver has already been told of.
            // Relaxed: our role's own word, ordered by the lock.
            Role::Receiver => view.word(ENDED).load(Relaxed),
            // A receiver that is gone already is not this sender's: it may wait for its own.
            Role::Sender if peer.taken() && peer_here => peer.arrivals().saturating_sub(1),
            Role::Sender => peer.arrivals(),
        };
        // Relaxed: as in `report_end`.
        let deaths = view.word(role.peer().deaths()).load(Relaxed);
        roster::join(&view, role, light, pid);
        let scope = if behind.is_some() { Scope::Shared } else { Scope::Private };
        // Relaxed: our role's own counters.
        let waits = view.word(role.waits()).load(Relaxed);
        // Relaxed: as above.
        let wakes = view.word(role.wakes()).load(Relaxed);
        let link = Self {
            view,
            name,
            behind,
            light,
            scope,
            generation,
            usable_in: generation,
            wait: Wait::default(),
            keep_open,
            baseline,
            seen: Seat(u64::MAX),
            dead: None,
            gone: None,
            told: None,
            deaths,
            probed_ms: 0,
            waits,
            wakes,
            fault: None,
            end: PhantomData,
        };
        Ok(link)
    }

    fn cut_short(&self) -> Option<(u64, u64)> {
        self.behind.as_ref().and_then(|behind| behind.truncated())
    }

    /// Whether there is memory to look at: a forked child has none, and a file that was cut short may have none.
    pub(crate) fn has_memory(&self) -> bool {
        sync::generation() == self.generation && self.cut_short().is_none()
    }

    /// Whether all of the memory was there so far. Asked after a copy: then the copy has no zeros that nobody sent.
    #[inline]
    pub(crate) fn is_whole(&self) -> bool {
        !sync::memory_lost() || self.cut_short().is_none()
    }

    /// The same, for good: what is not whole is not used again.
    #[inline]
    pub(crate) fn whole(&mut self) -> Result<(), Fault> {
        if sync::memory_lost() { self.check_file() } else { Ok(()) }
    }

    /// Lets go of the seat and wakes the peer to see it.
    pub(crate) fn leave(&mut self) {
        if self.has_memory() {
            roster::leave(&self.view, E::ROLE);
            self.notify();
        }
    }

    /// Whether the next call must be looked at before it touches the ring: this is a forked child, something went wrong
    /// before, or the peer's seat changed.
    #[inline]
    pub(crate) fn unusual(&self) -> bool {
        // The order matters: a forked child has no map to look into.
        !self.is_usable()
            // Relaxed: only compared; `Seat::load` looks properly.
            || self.view.word(E::PEER.seat()).load(Relaxed) != self.seen.0
    }

    /// Whether this is the process that joined and nothing went wrong for good.
    #[inline(always)]
    pub(crate) fn is_usable(&self) -> bool {
        sync::generation() == self.usable_in
    }

    /// Why it is not usable, if it is not.
    #[inline]
    pub(crate) fn usable(&self) -> Result<(), Fault> {
        if self.is_usable() { Ok(()) } else { Err(self.why()) }
    }

    #[cold]
    fn why(&self) -> Fault {
        let ring = self.name.clone();
        match self.fault {
            Some(Sticky::Corrupt(damage)) if sync::generation() == self.generation => {
                Fault::Corrupt { ring, what: damage.what() }
            }
            Some(Sticky::Truncated { found, wanted }) if sync::generation() == self.generation => {
                Fault::Truncated { ring, found, wanted }
            }
            _ => Fault::Forked { ring },
        }
    }

    /// Looks at what [`unusual`](Self::unusual) noticed, for a sender: `true` when its receiver has let go.
    #[cold]
    pub(crate) fn examine(&mut self) -> Result<bool, Fault> {
        self.usable()?;
        let peer = Seat::load(&self.view, E::PEER);
        if peer.0 == 0 && self.seen.0 != u64::MAX {
            // Nobody goes back to never having been there.
            self.check_file()?;
        }
        if peer.left() && self.concerns(peer) && !self.keep_open {
            self.gone = Some((peer, Presence::Left));
            return Ok(true);
        }
        self.seen = peer;
        Ok(false)
    }

    fn concerns(&self, peer: Seat) -> bool {
        peer.arrivals() > self.baseline
    }

    fn peer_holds_lock(&self) -> Result<bool, Fault> {
        match &self.behind {
            None => Ok(true),
            Some(behind) => behind.peer_holds_lock().map_err(|source| Fault::Os {
                ring: self.name.clone(),
                doing: "asking whether the other end is alive",
                source,
            }),
        }
    }

    /// The caller is told that the stream has ended, as [`gone`](Self::gone) judged just now. A receiver writes it down, so that
    /// a later one is not told again; a sender that came since is not meant.
    pub(crate) fn report_end(&mut self) {
        let Some((peer, how)) = self.gone else { return };
        if self.told.is_some_and(|(told, _)| told == peer) {
            return;
        }
        // Relaxed: news; whoever comes counts its predecessor's death before it stores its seat.
        let deaths = self.view.word(E::PEER.deaths()).load(Relaxed);
        let died = how == Presence::Died || deaths > self.deaths;
        // The death that nobody has counted yet is told now.
        let uncounted = how == Presence::Died && Seat::load(&self.view, E::PEER) == peer;
        self.deaths = deaths.saturating_add(u64::from(uncounted));
        self.told = Some((peer, if died { Presence::Died } else { how }));
        if E::ROLE == Role::Receiver {
            // Relaxed: read by our role's successor, ordered by the lock.
            self.view.word(ENDED).store(peer.arrivals(), Relaxed);
        }
    }

    /// How the end went that the caller was told of last.
    pub(crate) fn end(&self) -> Option<Presence> {
        self.told.map(|(_, how)| how)
    }

    /// Wakes the peer, if it sleeps, to see what this side has just written.
    #[inline(always)]
    pub(crate) fn notify(&mut self) {
        if wake::is_due(self.view.word32(E::PEER.bed()), self.light) {
            self.wake();
        }
    }

    #[cold]
    #[inline(never)]
    fn wake(&mut self) {
        if wake::wake(self.view.word32(E::PEER.bed()), self.scope) {
            self.wakes = self.wakes.wrapping_add(1);
            self.view.count(E::ROLE.wakes(), self.wakes);
        }
    }

    /// Where this handle sleeps.
    fn bed(&self) -> &AtomicU32 {
        self.view.word32(E::ROLE.bed())
    }

    fn stick(&mut self, fault: Sticky) {
        self.fault = Some(fault);
        self.usable_in = NO_LIFE;
    }

    /// Makes `Corrupt` stick to this handle; or what explains it, a file that was cut short.
    #[cold]
    pub(crate) fn corrupt(&mut self, damage: Damage) -> Fault {
        if let Err(fault) = self.check_file() {
            return fault;
        }
        self.stick(Sticky::Corrupt(damage));
        Fault::Corrupt { ring: self.name.clone(), what: damage.what() }
    }

    /// Whether the end of the peer is ever reported on this handle.
    pub(crate) fn set_keep_open(&mut self, on: bool) {
        self.keep_open = on;
        self.seen = Seat(u64::MAX);
    }

    /// The ring's name.
    pub(crate) fn name(&self) -> &RingName {
        &self.name
    }

    /// What is known of the peer now; asks the lock.
    pub(crate) fn peer(&self) -> Presence {
        if !self.has_memory() {
            return Presence::Never;
        }
        // The word around the lock: somebody who arrives in between has no lock yet in the answer, but is in the second word.
        for _ in 0..4 {
            let seat = Seat::load(&self.view, E::PEER);
            let held = match &self.behind {
                None => seat.taken(),
                Some(behind) => behind.peer_holds_lock().unwrap_or(true),
            };
            if held || Seat::load(&self.view, E::PEER) == seat {
                return seat.presence(held);
            }
        }
        Presence::Present
    }

    /// Whether the file has lost its name.
    pub(crate) fn unlinked(&self) -> bool {
        self.behind.as_ref().is_some_and(|behind| behind.is_unlinked())
    }

    /// Waits and wakes since the ring was made.
    pub(crate) fn counters(&self) -> (u64, u64) {
        (self.waits, self.wakes)
    }
}

impl<E: End> Tie for Link<E> {
    fn wait(&self) -> Wait {
        self.wait
    }

    fn count_wait(&mut self) {
        self.waits = self.waits.wrapping_add(1);
        self.view.count(E::ROLE.waits(), self.waits);
    }

    fn announce(&self) -> wake::Ticket {
        wake::announce(self.bed(), self.view.word32(E::PEER.light()))
    }

    fn retract(&self) {
        wake::retract(self.bed());
    }

    fn sleep(&self, ticket: wake::Ticket, until: Deadline) -> Slept {
        wake::sleep(self.bed(), ticket, until, self.scope)
    }

    fn slice(&mut self) -> Option<Duration> {
        (self.scope == Scope::Shared).then_some(SLICE)
    }

    fn check_file(&mut self) -> Result<(), Fault> {
        if let Some((found, wanted)) = self.cut_short() {
            self.stick(Sticky::Truncated { found, wanted });
        }
        self.usable()
    }

    /// Whether the peer of this stream is gone: it let go, or (asked of the lock when `probe`) it died. The caller takes
    /// one more look at the ring before it believes that the stream has ended.
    fn gone(&mut self, probe: bool) -> Result<bool, Fault> {
        if probe {
            self.probed_ms = sync::coarse_ms();
            self.check_file()?;
        }
        if self.keep_open {
            return Ok(false);
        }
        let mut peer = Seat::load(&self.view, E::PEER);
        if peer.taken() && self.dead != Some(peer) && probe && !self.peer_holds_lock()? {
            // The word again: one that let go, or was followed, before the lock was asked is not dead.
            let again = Seat::load(&self.view, E::PEER);
            if again == peer {
                self.dead = Some(peer);
            }
            peer = again;
        }
        if !self.concerns(peer) {
            return Ok(false);
        }
        let how = if peer.left() { Presence::Left } else { Presence::Died };
        let gone = peer.left() || self.dead == Some(peer);
        if gone {
            self.gone = Some((peer, how));
        }
        Ok(gone)
    }

    fn probe_due(&self) -> bool {
        self.behind.is_some() && sync::coarse_ms().wrapping_sub(self.probed_ms) >= PROBE_EVERY_MS
    }
}
