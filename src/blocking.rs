//! Waiting: try, spin, announce, sleep, look again. Once, for every blocking call.
//!
//! Knows an attempt, a deadline and the tie to those who may end the wait. Knows nothing of what is attempted.

use core::time::Duration;

use crate::error::Fault;
use crate::options::Wait;
use crate::sync::{self, Deadline, Slept};
use crate::wake::Ticket;

/// Pauses before a spinning caller begins to give way to others.
const PAUSES: u32 = 64;

impl Wait {
    /// How often a call looks, with a pause in between, before it takes the slow path.
    #[inline]
    pub(crate) fn looks(self) -> u32 {
        if self == Wait::Block || sync::MODELLED { 0 } else { PAUSES }
    }
}

/// How long `Wait::Adaptive` spins: about twice what a wake-up by the kernel costs.
const SPIN: Duration = Duration::from_micros(50);

/// The longest sleep on a word that a dead peer might never wake: also how soon a death is noticed.
pub(crate) const SLICE: Duration = Duration::from_millis(100);

/// The longest sleep when the waker may not have seen the announcement.
const SHORT_SLICE: Duration = Duration::from_millis(1);

/// Why a wait ended without what it waited for.
#[derive(Debug)]
pub(crate) enum Stop<R> {
    /// The deadline passed.
    TimedOut,
    /// The peer is gone, and a last look found nothing.
    Gone,
    /// The attempt itself refused.
    Refused(R),
    /// The handle is of no more use.
    Fault(Fault),
}

/// What a waiting handle is tied to: its bed, and whoever may end the wait.
pub(crate) trait Tie {
    /// How the handle waits.
    fn wait(&self) -> Wait;
    /// One more wait on the slow path.
    fn count_wait(&mut self);
    /// Announces a sleep in the handle's bed.
    fn announce(&self) -> Ticket;
    /// Takes the announcement back, where nobody else may have made it too.
    fn retract(&self);
    /// Sleeps in the bed.
    fn sleep(&self, ticket: Ticket, until: Deadline) -> Slept;
    /// The longest sleep; `None` where nobody can die without waking the handle.
    fn slice(&mut self) -> Option<Duration>;
    /// Whether the file still has all of its bytes.
    fn check_file(&mut self) -> Result<(), Fault>;
    /// Whether nobody is left to wait for; asks the kernel's locks when `probe`, and does what follows from a death.
    fn gone(&mut self, probe: bool) -> Result<bool, Fault>;
    /// Whether the locks have not been asked for a while.
    fn probe_due(&self) -> bool;
}

/// A side that can wait: a handle with its tie.
pub(crate) trait Side {
    /// Of what kind the tie is.
    type Tie: Tie;
    /// Its tie.
    fn tie(&mut self) -> &mut Self::Tie;
}

/// Waits until `attempt` answers something, the peer is gone, or the deadline has passed, having tried at least once.
///
/// A peer that has let go is noticed at once; one that died, when its lock is next asked: every 10 ms while spinning,
/// after each slice of 100 ms while asleep.
#[cold]
pub(crate) fn until<S: Side, T, R>(
    side: &mut S,
    deadline: Deadline,
    mut attempt: impl FnMut(&mut S) -> Result<Option<T>, R>,
) -> Result<T, Stop<R>> {
    let mut look = |side: &mut S| attempt(side).map_err(Stop::Refused);
    side.tie().count_wait();
    sync::wait_begins();
    let wait = side.tie().wait();
    let forever = wait == Wait::Spin;
    // A model has no clock to end a short spin by.
    if forever || wait == Wait::Adaptive && !sync::MODELLED {
        if let Some(found) = spin(side, deadline, forever, &mut look)? {
            return Ok(found);
        }
    }
    loop {
        let ticket = side.tie().announce();
        if let Some(found) = look(side).transpose() {
            side.tie().retract();
            return found;
        }
        if let Some(ended) = over(side, deadline, false, &mut look) {
            side.tie().retract();
            return ended;
        }
        let tie = side.tie();
        let slice = match tie.slice() {
            // The waker may have missed the bit.
            _ if !ticket.seen => deadline.min(Deadline::after(SHORT_SLICE)),
            // A dead peer wakes nobody; a garbling one may have cleared our bit.
            Some(slice) => deadline.min(Deadline::after(slice)),
            // Threads of one process cannot die alone, and a handle that is dropped wakes the other.
            None => deadline,
        };
        let slept = tie.sleep(ticket, slice);
        if slept == Slept::TimedOut {
            // Nobody took the bit down. Before the ring is touched: it may have been cut short in the meantime.
            tie.check_file().map_err(Stop::Fault)?;
            tie.retract();
        }
        if let Some(found) = look(side)? {
            return Ok(found);
        }
        let probe = slept == Slept::TimedOut || side.tie().probe_due();
        if let Some(ended) = over(side, deadline, probe, &mut look) {
            return ended;
        }
    }
}

/// Whether the wait is over without success: the peer is gone or time is up. The last look comes after the news, because
/// the peer may have committed something between the look before and its end.
fn over<S: Side, T, R>(
    side: &mut S,
    deadline: Deadline,
    probe: bool,
    look: &mut impl FnMut(&mut S) -> Result<Option<T>, Stop<R>>,
) -> Option<Result<T, Stop<R>>> {
    match side.tie().gone(probe) {
        Err(fault) => Some(Err(Stop::Fault(fault))),
        Ok(true) => Some(look(side).and_then(|found| found.ok_or(Stop::Gone))),
        // Asking may have repaired what stood in the way.
        Ok(false) if deadline.passed() => {
            Some(look(side).and_then(|found| found.ok_or(Stop::TimedOut)))
        }
        Ok(false) => None,
    }
}

/// Spins for a while, or for ever, giving way between the looks: the caller has looked without giving way before it came
/// here ([`Wait::looks`]). `None` when it is time to sleep.
fn spin<S: Side, T, R>(
    side: &mut S,
    deadline: Deadline,
    forever: bool,
    look: &mut impl FnMut(&mut S) -> Result<Option<T>, Stop<R>>,
) -> Result<Option<T>, Stop<R>> {
    let budget = Deadline::after(SPIN);
    loop {
        if let Some(found) = look(side)? {
            return Ok(Some(found));
        }
        let probe = side.tie().probe_due();
        if let Some(ended) = over(side, deadline, probe, look) {
            return ended.map(Some);
        }
        if !forever && budget.passed() {
            return Ok(None);
        }
        sync::yield_now();
    }
}
