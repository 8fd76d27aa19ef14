//! Waiting: try, spin, announce, sleep, look again. Once, for every blocking call.
//!
//! Knows an attempt, a deadline and the tie to the peer. Knows nothing of what is attempted.

use core::time::Duration;

use crate::error::Fault;
use crate::link::Link;
use crate::options::Wait;
use crate::sync::{self, Deadline, Scope, Slept};
use crate::wake;

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
const SLICE: Duration = Duration::from_millis(100);

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

/// A side that can wait: an end of a ring with its tie.
pub(crate) trait Side {
    /// Its tie to the peer.
    fn link(&mut self) -> &mut Link;
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
    side.link().count_wait();
    let forever = side.link().wait == Wait::Spin;
    // A model has no clock to end a short spin by.
    if forever || side.link().wait == Wait::Adaptive && !sync::MODELLED {
        if let Some(found) = spin(side, deadline, forever, &mut look)? {
            return Ok(found);
        }
    }
    loop {
        let ticket = side.link().announce();
        if let Some(found) = look(side).transpose() {
            wake::retract(side.link().bed());
            return found;
        }
        if let Some(ended) = over(side, deadline, false, &mut look) {
            wake::retract(side.link().bed());
            return ended;
        }
        let link = side.link();
        let slice = match link.scope() {
            // The waker may have missed the bit.
            _ if !ticket.seen => deadline.min(Deadline::after(SHORT_SLICE)),
            // A dead peer wakes nobody; a garbling one may have cleared our bit.
            Scope::Shared => deadline.min(Deadline::after(SLICE)),
            // Threads of one process cannot die alone, and a handle that is dropped wakes the other.
            Scope::Private => deadline,
        };
        let slept = wake::sleep(link.bed(), ticket, slice, link.scope());
        if slept == Slept::TimedOut {
            // Nobody took the bit down. Before the ring is touched: it may have been cut short in the meantime.
            link.check_file().map_err(Stop::Fault)?;
            wake::retract(link.bed());
        }
        if let Some(found) = look(side)? {
            return Ok(found);
        }
        let probe = slept == Slept::TimedOut || side.link().probe_due();
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
    match side.link().gone(probe) {
        Err(fault) => Some(Err(Stop::Fault(fault))),
        Ok(true) => Some(look(side).and_then(|found| found.ok_or(Stop::Gone))),
        Ok(false) if deadline.passed() => Some(Err(Stop::TimedOut)),
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
        let probe = side.link().probe_due();
        if let Some(ended) = over(side, deadline, probe, look) {
            return ended.map(Some);
        }
        if !forever && budget.passed() {
            return Ok(None);
        }
        sync::yield_now();
    }
}
