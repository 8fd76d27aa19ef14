//! What is left by whoever dies at any instruction of a call at a ring of bytes: a sender, a receiver, one who comes or goes, or
//! makes the ring. Knows which calls on which rings are tried; what may come of them is in `bytes_calls`.

use std::time::Duration;

use quoit::Delivery::{self, AtLeastOnce, AtMostOnce};

use crate::boundaries::{kill_at_each, track};
use crate::bytes::Before::{self, Again, DeadClaim, DeadHands, Empty, Full, One, Own};
use crate::bytes::{SHORT, Shape};
use crate::bytes_calls::{Death, deaths};
use crate::calls::{Call, Role};
use crate::harness::{Lab, alone};
use crate::stage::Survivors;

/// Both ends of the call are among its boundaries: nothing delivered yet, and all delivered.
fn from_nothing_to_all(lab: &mut Lab, call: Call, before: Before, len: usize, back: usize) {
    let account = deaths(lab, call, before, (len, back, AtLeastOnce));
    let all = if call == Call::SendBatch { "all delivered" } else { "delivered" };
    assert!(account.count("not delivered") > 0 && account.count(all) > 0, "{account:?}");
    assert_eq!(account.count("some delivered"), 0, "of a batch, all or nothing: {account:?}");
}

/// The boundaries of the call begin before the message is taken and end behind it, and lie between too.
fn from_there_to(
    lab: &mut Lab,
    end: &str,
    call: Call,
    before: Before,
    (len, back, delivery): (usize, usize, Delivery),
) {
    let account = deaths(lab, call, before, (len, back, delivery));
    let hands = if delivery == AtMostOnce { "lost, counted" } else { "again, marked" };
    for word in ["still there", hands, end] {
        assert!(account.count(word) > 0, "{word}: {account:?}");
    }
}

#[test]
fn a_sender_of_bytes_that_dies_in_send_has_sent_its_message_or_not() {
    alone("bytes_deaths::a_sender_of_bytes_that_dies_in_send_has_sent_its_message_or_not", |lab| {
        from_nothing_to_all(lab, Call::TrySend, Own, SHORT, 64);
        from_nothing_to_all(lab, Call::TrySend, Empty, SHORT, 64);
        from_nothing_to_all(lab, Call::Send, One, 1000, 0);
        from_nothing_to_all(lab, Call::Send, DeadClaim, 250, 0);
    });
}

#[test]
fn a_message_behind_a_pad_is_sent_whole_or_not() {
    alone("bytes_deaths::a_message_behind_a_pad_is_sent_whole_or_not", |lab| {
        from_nothing_to_all(lab, Call::Send, Own, 250, 320 + 128);
        from_nothing_to_all(lab, Call::Send, Empty, 250, 128);
        from_nothing_to_all(lab, Call::ReserveCommit, DeadClaim, 1000, 256);
    });
}

#[test]
fn a_sender_of_bytes_that_dies_with_a_reservation_has_sent_nothing() {
    alone("bytes_deaths::a_sender_of_bytes_that_dies_with_a_reservation_has_sent_nothing", |lab| {
        from_nothing_to_all(lab, Call::ReserveCommit, Own, 250, 0);
        for (before, back) in [(Own, 0), (One, 320 + 128)] {
            let account = deaths(lab, Call::ReserveDrop, before, (250, back, AtLeastOnce));
            assert_eq!(account.count("not delivered"), account.tried);
        }
    });
}

#[test]
fn a_sender_of_bytes_that_dies_in_a_batch_has_sent_all_of_it_or_nothing() {
    alone(
        "bytes_deaths::a_sender_of_bytes_that_dies_in_a_batch_has_sent_all_of_it_or_nothing",
        |lab| {
            from_nothing_to_all(lab, Call::SendBatch, Own, SHORT, 64);
            // The pad is the first record of the batch, or lies within it.
            from_nothing_to_all(lab, Call::SendBatch, Empty, 250, 128);
            from_nothing_to_all(lab, Call::SendBatch, Own, 250, 2 * 320 + 128);
        },
    );
}

#[test]
fn a_sender_that_dies_at_a_ring_full_of_bytes_has_sent_nothing() {
    alone("bytes_deaths::a_sender_that_dies_at_a_ring_full_of_bytes_has_sent_nothing", |lab| {
        let calls = [Call::TrySend, Call::SendTimeout(Duration::from_millis(2))];
        for (call, len) in calls.into_iter().zip([1984, 1000]) {
            let account = deaths(lab, call, Full, (len, 0, AtLeastOnce));
            assert_eq!(account.count("not delivered"), account.tried);
        }
    });
}

#[test]
fn bytes_that_a_receiver_had_in_hand_when_it_died_come_again_marked() {
    alone(
        "bytes_deaths::bytes_that_a_receiver_had_in_hand_when_it_died_come_again_marked",
        |lab| {
            from_there_to(lab, "received", Call::TryRecv, Own, (SHORT, 64, AtLeastOnce));
            from_there_to(lab, "received", Call::TryRecv, Full, (1984, 0, AtLeastOnce));
            // Behind a pad.
            from_there_to(lab, "received", Call::Recv, One, (250, 128, AtLeastOnce));
            from_there_to(lab, "received", Call::RecvInto, One, (1000, 0, AtLeastOnce));
            from_there_to(lab, "received", Call::TryRecv, Again, (250, 128, AtLeastOnce));
            from_there_to(lab, "received", Call::TryRecv, DeadHands, (1000, 0, AtLeastOnce));
        },
    );
}

#[test]
fn bytes_that_a_receiver_had_in_hand_when_it_died_are_counted_lost_if_once_at_most() {
    alone(
        "bytes_deaths::bytes_that_a_receiver_had_in_hand_when_it_died_are_counted_lost_if_once_at_most",
        |lab| {
            from_there_to(lab, "received", Call::TryRecv, Own, (SHORT, 64, AtMostOnce));
            from_there_to(lab, "received", Call::Recv, Full, (1000, 128, AtMostOnce));
            from_there_to(lab, "received", Call::RecvInto, One, (250, 128, AtMostOnce));
            from_there_to(lab, "received", Call::TryRecv, Again, (250, 0, AtMostOnce));
            from_there_to(lab, "received", Call::TryRecv, DeadHands, (1000, 0, AtMostOnce));
        },
    );
}

#[test]
fn a_receiver_of_bytes_that_dies_while_it_lets_go_has_let_go_or_not() {
    alone(
        "bytes_deaths::a_receiver_of_bytes_that_dies_while_it_lets_go_has_let_go_or_not",
        |lab| {
            for (before, len, back, delivery) in [
                (Own, SHORT, 64, AtLeastOnce),
                (Full, 1000, 0, AtMostOnce),
                (Again, 250, 128, AtLeastOnce),
            ] {
                let account = deaths(lab, Call::Release, before, (len, back, delivery));
                let hands = if delivery == AtMostOnce { "lost, counted" } else { "again, marked" };
                assert!(account.count(hands) > 0 && account.count("received") > 0, "{account:?}");
            }
            from_there_to(lab, "given back", Call::GiveBack, One, (250, 128, AtLeastOnce));
            from_there_to(lab, "given back", Call::GiveBack, Full, (1000, 0, AtMostOnce));
        },
    );
}

#[test]
fn a_receiver_that_dies_at_an_empty_ring_of_bytes_takes_nothing_with_it() {
    alone(
        "bytes_deaths::a_receiver_that_dies_at_an_empty_ring_of_bytes_takes_nothing_with_it",
        |lab| {
            for call in [Call::TryRecv, Call::RecvTimeout(Duration::from_millis(2))] {
                deaths(lab, call, Empty, (SHORT, 0, AtLeastOnce));
            }
        },
    );
}

#[test]
fn whoever_dies_while_it_opens_a_ring_of_bytes_leaves_it_as_it_was() {
    alone("bytes_deaths::whoever_dies_while_it_opens_a_ring_of_bytes_leaves_it_as_it_was", |lab| {
        for &role in lab.first(1, &[Role::Sender, Role::Receiver]) {
            let account = deaths(lab, Call::Open(role), One, (250, 128, AtLeastOnce));
            assert!(account.count("never there") > 0 && account.count("died") > 0, "{account:?}");
        }
    });
}

#[test]
fn whoever_dies_while_it_opens_a_ring_of_bytes_of_the_dead_loses_nothing_of_theirs() {
    alone(
        "bytes_deaths::whoever_dies_while_it_opens_a_ring_of_bytes_of_the_dead_loses_nothing_of_theirs",
        |lab| {
            let all = [
                (Role::Receiver, DeadHands, AtMostOnce),
                (Role::Sender, DeadClaim, AtLeastOnce),
                (Role::Receiver, DeadHands, AtLeastOnce),
            ];
            for &(role, before, delivery) in lab.first(1, &all) {
                deaths(lab, Call::Open(role), before, (1000, 128, delivery));
            }
        },
    );
}

#[test]
fn whoever_dies_while_it_leaves_a_ring_of_bytes_has_left_or_died() {
    alone("bytes_deaths::whoever_dies_while_it_leaves_a_ring_of_bytes_has_left_or_died", |lab| {
        for role in [Role::Sender, Role::Receiver] {
            let account = deaths(lab, Call::Leave(role), One, (250, 128, AtLeastOnce));
            assert!(account.count("died") > 0 && account.count("left") > 0, "{account:?}");
        }
    });
}

#[test]
fn whoever_dies_while_it_makes_a_ring_of_bytes_leaves_a_whole_one_or_none() {
    alone(
        "bytes_deaths::whoever_dies_while_it_makes_a_ring_of_bytes_leaves_a_whole_one_or_none",
        |lab| {
            let survivors = Survivors::ComeLater;
            let shape = Shape { len: SHORT, back: 0, delivery: AtLeastOnce, survivors };
            let mut death = Death::new(lab, Call::Create, Empty, shape);
            let track = track(lab, &mut death);
            let account = kill_at_each(lab, &mut death, &track);
            account.say(lab, &death.to_string());
            assert!(account.count("no ring") > 0 && account.count("a whole ring") > 0);
        },
    );
}
