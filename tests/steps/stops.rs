//! Whoever is stopped at any instruction of a call, while the others go on as far as they can, and then goes on itself: it
//! is alive, so nothing is taken from it, and every message comes once, unmarked. Knows that nobody dies before all is done.

use std::collections::BTreeMap;
use std::ops::Range;

use quoit::Delivery::{AtLeastOnce, AtMostOnce};
use quoit::Recovered;

use crate::boundaries::{Case, Everyday, Verdict, kill_at_each, track};
use crate::calls::{Call, Death, Role};
use crate::harness::{Lab, alone, each_alone};
use crate::stage::Before::{self, Empty, Full, One};
use crate::stage::{Shape, Survivors};

/// A call that is stopped, and resumed when the others have gone on.
struct Stop {
    death: Death,
    /// What the others sent, and what they received, in order.
    sent: Vec<u64>,
    got: Vec<u64>,
}

impl Case for Stop {
    fn name(&self) -> String {
        format!("stopped: {}", self.death)
    }

    fn prepare(&mut self) {
        self.death.prepare();
        self.got.clear();
        self.sent = self.death.stage.standing.drain(..).map(|standing| standing.number).collect();
    }

    fn call(&mut self) {
        self.death.call();
    }

    fn steady(&self) -> bool {
        false
    }

    fn shared(&mut self) -> Vec<Range<*const u8>> {
        self.death.shared()
    }

    /// What the child has seen is as old as can be then.
    fn everyday(&self) -> Everyday {
        Everyday::Brinks
    }

    /// As much as goes without a wait: some laps, if the one who is stopped is in nobody's way.
    fn stopped(&mut self) -> bool {
        let stage = &mut self.death.stage;
        assert_eq!(stage.rx().recover().unwrap(), Recovered::default(), "nobody is dead");
        assert_eq!(stage.tx().recover().unwrap(), Recovered::default(), "nobody is dead");
        assert_eq!(quoit::recover(&stage.path).unwrap(), Recovered::default(), "nobody is dead");
        for _ in 0..3 * stage.shape.slots {
            self.sent.extend(stage.try_send());
            self.got.extend(stage.try_recv());
        }
        // One that the call may find.
        self.sent.extend(stage.try_send());
        true
    }

    fn judge(&mut self, _: bool) -> Verdict {
        // Of what is in the ring when the call has returned, nothing was in a dead one's hands.
        let found = self.death.stage.go_on(&[]);
        let Recovered { skipped, redelivered, lost, .. } = found.recovered;
        assert_eq!((skipped, redelivered, lost, found.lost), (0, 0, 0, 0));
        assert!(found.got.iter().all(|got| got.attempts == 1), "{found:?}");
        self.got.extend(found.got.iter().map(|got| got.number));

        let (childs, in_hand) = (self.death.accepted(), self.death.received());
        assert_each_once(self.sent.iter().chain(&childs), self.got.iter().chain(&in_hand));
        let others: Vec<_> = self.got.iter().filter(|number| !childs.contains(number)).collect();
        assert!(others.is_sorted(), "{others:?}");
        let word = match (childs.len(), in_hand.len()) {
            (1, _) => "sent",
            (_, 1) => "received",
            _ => "refused, or nothing to do",
        };
        Verdict { stage: 0, word }
    }
}

/// Every message that was sent was received, and only once.
pub(crate) fn assert_each_once<'a>(
    sent: impl Iterator<Item = &'a u64>,
    got: impl Iterator<Item = &'a u64>,
) {
    let mut times: BTreeMap<u64, i64> = BTreeMap::new();
    for number in sent {
        *times.entry(*number).or_default() += 1;
    }
    for number in got {
        *times.entry(*number).or_default() -= 1;
    }
    let wrong: Vec<_> = times.iter().filter(|(_, times)| **times != 0).collect();
    assert!(wrong.is_empty(), "lost (1) or twice (-1): {wrong:?}");
}

fn stops(lab: &mut Lab, call: Call, before: Before, delivery: quoit::Delivery) {
    let shape = Shape { slots: 2, len: 12, delivery, survivors: Survivors::AreThere };
    let death = Death::new(lab, call, before, shape);
    let mut case = Stop { death, sent: Vec::new(), got: Vec::new() };
    let track = track(lab, &mut case);
    let account = kill_at_each(lab, &mut case, &track);
    account.say(lab, &case.name());
}

#[test]
fn a_sender_that_is_stopped_at_any_instruction_is_not_robbed() {
    alone("stops::a_sender_that_is_stopped_at_any_instruction_is_not_robbed", |lab| {
        for before in [Empty, One, Full] {
            stops(lab, Call::TrySend, before, AtLeastOnce);
        }
    });
}

#[test]
fn a_receiver_that_is_stopped_at_any_instruction_is_not_robbed() {
    alone("stops::a_receiver_that_is_stopped_at_any_instruction_is_not_robbed", |lab| {
        stops(lab, Call::TryRecv, Empty, AtLeastOnce);
        stops(lab, Call::TryRecv, One, AtLeastOnce);
        stops(lab, Call::TryRecv, Full, AtMostOnce);
        stops(lab, Call::Release, Full, AtMostOnce);
    });
}

#[test]
fn whoever_is_stopped_while_it_comes_or_goes_is_in_nobodys_way() {
    let test = "stops::whoever_is_stopped_while_it_comes_or_goes_is_in_nobodys_way";
    let calls = [Call::Leave, Call::Open].map(|call| [Role::Sender, Role::Receiver].map(call));
    each_alone(test, 2, calls.as_flattened(), |lab, call| stops(lab, call, One, AtLeastOnce));
}
