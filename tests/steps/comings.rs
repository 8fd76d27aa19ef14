//! What is left by those who die while they come or go, or make a ring. Knows which calls on which rings are tried.

use quoit::Delivery::{AtLeastOnce, AtMostOnce};

use crate::boundaries::{kill_at_each, track};
use crate::calls::{Call, Death, Role};
use crate::harness::{alone, each_alone};
use crate::senders::deaths;
use crate::stage::Before::{DeadClaim, DeadHands, Empty, One};
use crate::stage::{Shape, Survivors};

#[test]
fn whoever_dies_while_it_opens_a_ring_leaves_it_as_it_was() {
    let test = "comings::whoever_dies_while_it_opens_a_ring_leaves_it_as_it_was";
    each_alone(test, 1, &[Role::Sender, Role::Receiver], |lab, role| {
        deaths(lab, Call::Open(role), One, (2, 12, AtLeastOnce));
    });
}

#[test]
fn whoever_dies_while_it_opens_a_ring_of_the_dead_loses_nothing_of_theirs() {
    let test = "comings::whoever_dies_while_it_opens_a_ring_of_the_dead_loses_nothing_of_theirs";
    let all = [
        (Role::Sender, DeadClaim, AtLeastOnce),
        (Role::Receiver, DeadHands, AtMostOnce),
        (Role::Receiver, DeadClaim, AtLeastOnce),
        (Role::Receiver, DeadHands, AtLeastOnce),
        (Role::Sender, DeadHands, AtLeastOnce),
        (Role::Sender, DeadHands, AtMostOnce),
    ];
    each_alone(test, 2, &all, |lab, (role, before, delivery)| {
        deaths(lab, Call::Open(role), before, (2, 12, delivery));
    });
}

#[test]
fn whoever_dies_while_it_leaves_takes_nothing_with_it() {
    alone("comings::whoever_dies_while_it_leaves_takes_nothing_with_it", |lab| {
        for role in [Role::Sender, Role::Receiver] {
            deaths(lab, Call::Leave(role), One, (2, 12, AtLeastOnce));
        }
    });
}

#[test]
fn whoever_dies_while_it_makes_a_ring_leaves_a_whole_one_or_none() {
    alone("comings::whoever_dies_while_it_makes_a_ring_leaves_a_whole_one_or_none", |lab| {
        let survivors = Survivors::ComeLater;
        let shape = Shape { slots: 2, len: 12, delivery: AtLeastOnce, survivors };
        let mut death = Death::new(lab, Call::Create, Empty, shape);
        let track = track(lab, &mut death);
        let account = kill_at_each(lab, &mut death, &track);
        account.say(lab, &death.to_string());
        assert!(account.count("no ring") > 0 && account.count("a whole ring") > 0);
    });
}
