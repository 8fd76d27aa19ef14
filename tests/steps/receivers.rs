//! What a receiver leaves that dies at any instruction of a call: its message, which comes again or is counted lost, or an
//! empty slot. Knows which calls on which rings are tried; what may come of them is in `calls`.

use std::time::Duration;

use quoit::Delivery::{self, AtLeastOnce, AtMostOnce};

use crate::calls::Call;
use crate::harness::{Lab, alone};
use crate::senders::deaths;
use crate::stage::Before::{self, Again, DeadClaim, Empty, Full, One, Skip};

/// The boundaries of the call begin before the message is taken and end behind it, and lie between too.
fn from_there_to(lab: &mut Lab, end: &str, call: Call, before: Before, delivery: Delivery) {
    let account = deaths(lab, call, before, (if before == Skip { 4 } else { 2 }, 12, delivery));
    let hands = if delivery == AtMostOnce { "lost, counted" } else { "again, marked" };
    for word in ["still there", hands, end] {
        assert!(account.count(word) > 0, "{word}: {account:?}");
    }
}

#[test]
fn what_a_receiver_had_in_hand_when_it_died_comes_again_marked() {
    alone("receivers::what_a_receiver_had_in_hand_when_it_died_comes_again_marked", |lab| {
        from_there_to(lab, "received", Call::TryRecv, One, AtLeastOnce);
        from_there_to(lab, "received", Call::TryRecv, Full, AtLeastOnce);
        from_there_to(lab, "received", Call::Recv, One, AtLeastOnce);
        from_there_to(lab, "received", Call::Recv, Skip, AtLeastOnce);
        from_there_to(lab, "received", Call::RecvInto, One, AtLeastOnce);
    });
}

#[test]
fn what_a_receiver_had_in_hand_when_it_died_is_counted_lost_if_once_at_most() {
    alone(
        "receivers::what_a_receiver_had_in_hand_when_it_died_is_counted_lost_if_once_at_most",
        |lab| {
            from_there_to(lab, "received", Call::TryRecv, One, AtMostOnce);
            from_there_to(lab, "received", Call::Recv, Full, AtMostOnce);
            from_there_to(lab, "received", Call::Recv, Skip, AtMostOnce);
            from_there_to(lab, "received", Call::RecvInto, One, AtMostOnce);
            from_there_to(lab, "received", Call::TryRecv, Again, AtMostOnce);
        },
    );
}

#[test]
fn a_message_that_comes_again_survives_the_next_death_too() {
    alone("receivers::a_message_that_comes_again_survives_the_next_death_too", |lab| {
        from_there_to(lab, "received", Call::TryRecv, Again, AtLeastOnce);
        from_there_to(lab, "received", Call::RecvInto, Again, AtLeastOnce);
    });
}

#[test]
fn a_receiver_that_dies_while_it_gives_back_has_given_back_or_not() {
    alone("receivers::a_receiver_that_dies_while_it_gives_back_has_given_back_or_not", |lab| {
        from_there_to(lab, "given back", Call::GiveBack, One, AtLeastOnce);
        from_there_to(lab, "given back", Call::GiveBack, Full, AtLeastOnce);
        from_there_to(lab, "given back", Call::GiveBack, One, AtMostOnce);
    });
}

#[test]
fn a_receiver_that_dies_with_several_in_hand_loses_none() {
    alone("receivers::a_receiver_that_dies_with_several_in_hand_loses_none", |lab| {
        for delivery in [AtLeastOnce, AtMostOnce] {
            let account = deaths(lab, Call::RecvBatch, Full, (4, 12, delivery));
            assert!(account.verdicts.len() == 7, "{account:?}");
        }
    });
}

#[test]
fn a_receiver_that_dies_at_an_empty_ring_takes_nothing_with_it() {
    alone("receivers::a_receiver_that_dies_at_an_empty_ring_takes_nothing_with_it", |lab| {
        for call in [Call::TryRecv, Call::RecvTimeout(Duration::from_millis(2))] {
            deaths(lab, call, Empty, (2, 12, AtLeastOnce));
        }
    });
}

#[test]
fn a_receiver_that_dies_while_it_clears_a_dead_senders_claim_is_no_worse() {
    alone(
        "receivers::a_receiver_that_dies_while_it_clears_a_dead_senders_claim_is_no_worse",
        |lab| {
            for &delivery in lab.first(1, &[AtLeastOnce, AtMostOnce]) {
                let call = Call::RecvTimeout(Duration::from_secs(1));
                let account = deaths(lab, call, DeadClaim, (4, 12, delivery));
                assert!(account.count("received") > 0, "{account:?}");
            }
        },
    );
}
