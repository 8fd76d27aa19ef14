//! What is left when whoever repairs what a death has left dies as well, at any instruction. Knows two deaths in a row; what
//! may come of the first one is in `calls`.

use std::ops::Range;

use quoit::Delivery::{self, AtLeastOnce, AtMostOnce};

use crate::boundaries::{self, Account, Case, Everyday, Track, Verdict, go_to, kill_at_each};
use crate::calls::{Call, Death, Role};
use crate::harness::{Lab, each_alone};
use crate::senders::deaths;
use crate::stage::Before::{self, Again, DeadBoth, Full, One};
use crate::stage::{Shape, Survivors};
use crate::tracer::Traced;

/// A call after whose death somebody repairs.
pub(crate) trait Repaired: Case {
    /// In the child: `gate`, the call that repairs, `gate`.
    fn repair(&self, by: Call);

    /// Whether the repair dies at every boundary when all are asked for, or at some hundreds that leave all there can be left.
    fn at_every(&self) -> bool {
        true
    }
}

/// A death in a call at one of its boundaries, and then another in a repair.
struct Second<'a, First> {
    first: &'a mut First,
    track: &'a Track,
    at: usize,
    /// What came of the first death when nobody died after it.
    alone: Verdict,
    repair: Call,
    /// Boundaries besides those that leave something else each.
    more: usize,
}

/// A call that dies at this boundary.
fn first_death(first: &mut impl Repaired, track: &Track, at: usize) {
    let traced = Traced::start(|| first.call());
    go_to(&traced, track, at);
    traced.kill();
}

impl<First: Repaired> Case for Second<'_, First> {
    fn name(&self) -> String {
        format!("{:?} after the death at {} in {}", self.repair, self.at, self.first.name())
    }

    fn prepare(&mut self) {
        self.first.prepare();
    }

    fn call(&mut self) {
        self.first.repair(self.repair);
    }

    fn begun(&mut self) {
        first_death(self.first, self.track, self.at);
    }

    fn shared(&mut self) -> Vec<Range<*const u8>> {
        self.first.shared()
    }

    /// There are many first deaths.
    fn everyday(&self) -> Everyday {
        Everyday::States { more: self.more }
    }

    fn every(&self) -> bool {
        self.first.at_every()
    }

    /// The second death changes nothing in what comes of the first.
    fn judge(&mut self, _: bool) -> Verdict {
        let verdict = self.first.judge(false);
        assert_eq!(verdict, self.alone, "what comes of the first death is settled by then");
        verdict
    }
}

/// For every state that a call leaves when it dies there: every death of a repair.
pub(crate) fn second_deaths(lab: &mut Lab, repair: Call, first: &mut impl Repaired) {
    let mut all = Account::default();
    let (track, more) = (boundaries::track(lab, first), if lab.all { 200 } else { 2 });
    let mut followed: Option<Track> = None;
    for &at in &track.states {
        first.prepare();
        first_death(first, &track, at);
        let alone = first.judge(false);
        let mut second = Second { first: &mut *first, track: &track, at, alone, repair, more };
        // What is repaired differs a little from death to death; where it is not as followed, the account says so.
        let repair = match followed.take() {
            Some(repair) if !lab.all => repair,
            _ => boundaries::track(lab, &mut second),
        };
        all.add(&kill_at_each(lab, &mut second, &repair));
        followed = Some(repair);
    }
    let name = first.name();
    all.say(lab, &format!("{repair:?} after {} deaths in {name}", track.states.len()));
}

/// A call on a ring of slots that nobody has open when it dies.
fn alone_at_slots(
    lab: &mut Lab,
    call: Call,
    before: Before,
    slots: usize,
    delivery: Delivery,
) -> Death {
    let shape = Shape { slots, len: 12, delivery, survivors: Survivors::ComeLater };
    Death::new(lab, call, before, shape)
}

#[test]
fn whoever_dies_while_it_recovers_a_ring_changes_nothing_in_what_is_recovered() {
    let test =
        "repairs::whoever_dies_while_it_recovers_a_ring_changes_nothing_in_what_is_recovered";
    let all = [
        (Call::Recover(Role::Sender), AtMostOnce),
        (Call::Recover(Role::Receiver), AtLeastOnce),
        (Call::RecoverByName, AtMostOnce),
        (Call::Recover(Role::Sender), AtLeastOnce),
        (Call::Recover(Role::Receiver), AtMostOnce),
        (Call::RecoverByName, AtLeastOnce),
    ];
    each_alone(test, 3, &all, |lab, (call, delivery)| {
        deaths(lab, call, DeadBoth, (4, 12, delivery));
    });
}

#[test]
fn a_second_death_in_the_repair_of_a_senders_changes_nothing() {
    let test = "repairs::a_second_death_in_the_repair_of_a_senders_changes_nothing";
    let all = [
        (Call::Recover(Role::Receiver), Call::SendBatch, 4),
        (Call::RecoverByName, Call::TrySend, 2),
        (Call::Open(Role::Sender), Call::ReserveDrop, 2),
    ];
    each_alone(test, 1, &all, |lab, (repair, call, slots)| {
        let mut first = alone_at_slots(lab, call, One, slots, AtLeastOnce);
        second_deaths(lab, repair, &mut first);
    });
}

#[test]
fn a_second_death_in_the_repair_of_a_receivers_changes_nothing() {
    let test = "repairs::a_second_death_in_the_repair_of_a_receivers_changes_nothing";
    let all = [
        (Call::Recover(Role::Sender), Call::TryRecv, Full, AtMostOnce),
        (Call::Recover(Role::Receiver), Call::TryRecv, Again, AtLeastOnce),
        (Call::Open(Role::Receiver), Call::GiveBack, One, AtLeastOnce),
        (Call::Recover(Role::Sender), Call::TryRecv, Full, AtLeastOnce),
        (Call::RecoverByName, Call::TryRecv, Again, AtMostOnce),
        (Call::Open(Role::Sender), Call::GiveBack, One, AtMostOnce),
    ];
    each_alone(test, 3, &all, |lab, (repair, call, before, delivery)| {
        let mut first = alone_at_slots(lab, call, before, 2, delivery);
        second_deaths(lab, repair, &mut first);
    });
}
