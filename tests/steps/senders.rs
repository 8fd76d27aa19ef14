//! What a sender leaves that dies at any instruction of a call: its message, whole, or nothing. Knows which calls on which
//! rings are tried; what may come of them is in `calls`.

use std::time::Duration;

use quoit::Delivery::{AtLeastOnce, AtMostOnce};

use crate::boundaries::Account;
use crate::calls::{Call, Death, whoever_survives};
use crate::harness::{Lab, alone};
use crate::stage::Before::{self, DeadHands, Empty, Full, One, Skip};
use crate::stage::Shape;

/// Every death of a call, whoever the survivors are.
pub(crate) fn deaths(
    lab: &mut Lab,
    call: Call,
    before: Before,
    (slots, len, delivery): (usize, usize, quoit::Delivery),
) -> Account {
    whoever_survives(lab, |lab, survivors| {
        Death::new(lab, call, before, Shape { slots, len, delivery, survivors })
    })
}

/// Both ends of the call are among its boundaries: nothing delivered yet, and all delivered.
fn from_nothing_to_all(lab: &mut Lab, call: Call, before: Before, slots: usize, len: usize) {
    let account = deaths(lab, call, before, (slots, len, AtLeastOnce));
    let all = if call == Call::SendBatch { "all delivered" } else { "delivered" };
    assert!(account.count("not delivered") > 0 && account.count(all) > 0, "{account:?}");
}

#[test]
fn a_sender_that_dies_in_send_has_sent_its_message_or_not() {
    alone("senders::a_sender_that_dies_in_send_has_sent_its_message_or_not", |lab| {
        from_nothing_to_all(lab, Call::TrySend, Empty, 2, 12);
        from_nothing_to_all(lab, Call::TrySend, One, 2, 12);
        from_nothing_to_all(lab, Call::TrySend, Skip, 4, 12);
        from_nothing_to_all(lab, Call::Send, Empty, 2, 12);
        from_nothing_to_all(lab, Call::Send, One, 4, 48);
    });
}

#[test]
fn a_message_of_several_lines_is_sent_whole_or_not() {
    alone("senders::a_message_of_several_lines_is_sent_whole_or_not", |lab| {
        from_nothing_to_all(lab, Call::Send, One, 2, 250);
        from_nothing_to_all(lab, Call::ReserveCommit, Empty, 2, 250);
    });
}

#[test]
fn a_sender_that_dies_with_a_reservation_has_sent_nothing() {
    alone("senders::a_sender_that_dies_with_a_reservation_has_sent_nothing", |lab| {
        from_nothing_to_all(lab, Call::ReserveCommit, One, 2, 12);
        for before in [Empty, One] {
            let account = deaths(lab, Call::ReserveDrop, before, (2, 12, AtLeastOnce));
            assert_eq!(account.count("not delivered"), account.tried);
        }
    });
}

#[test]
fn a_sender_that_dies_in_a_batch_has_sent_the_first_of_it() {
    alone("senders::a_sender_that_dies_in_a_batch_has_sent_the_first_of_it", |lab| {
        from_nothing_to_all(lab, Call::SendBatch, Empty, 4, 12);
        from_nothing_to_all(lab, Call::SendBatch, One, 4, 48);
    });
}

#[test]
fn a_sender_that_dies_at_a_full_ring_has_sent_nothing() {
    alone("senders::a_sender_that_dies_at_a_full_ring_has_sent_nothing", |lab| {
        for call in [Call::TrySend, Call::SendTimeout(Duration::from_millis(2))] {
            let account = deaths(lab, call, Full, (2, 12, AtLeastOnce));
            assert_eq!(account.count("not delivered"), account.tried);
        }
    });
}

#[test]
fn a_sender_that_dies_while_it_makes_room_of_what_the_dead_held_loses_nothing_more() {
    alone(
        "senders::a_sender_that_dies_while_it_makes_room_of_what_the_dead_held_loses_nothing_more",
        |lab| {
            let call = Call::SendTimeout(Duration::from_secs(1));
            let account = deaths(lab, call, DeadHands, (2, 12, AtMostOnce));
            assert!(account.count("delivered") > 0, "{account:?}");
        },
    );
}
