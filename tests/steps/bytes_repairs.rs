//! What is left when the successor of a dead end of a ring of bytes dies while it repairs, at any instruction. Knows which
//! deaths come first; what may come of them is in `bytes_calls`.

use quoit::Delivery::{AtLeastOnce, AtMostOnce};

use crate::bytes::Before::{Again, DeadHands, Full, One, Own};
use crate::bytes::{SHORT, Shape};
use crate::bytes_calls::Death;
use crate::calls::{Call, Role};
use crate::harness::alone;
use crate::repairs::second_deaths;
use crate::stage::Survivors;

#[test]
fn a_second_death_in_the_repair_of_a_senders_of_bytes_changes_nothing() {
    alone(
        "bytes_repairs::a_second_death_in_the_repair_of_a_senders_of_bytes_changes_nothing",
        |lab| {
            let all = [(Call::TrySend, Own, SHORT, 64), (Call::SendBatch, Own, SHORT, 128)];
            for &(call, before, len, back) in lab.first(1, &all) {
                let survivors = Survivors::AreThere;
                let shape = Shape { len, back, delivery: AtLeastOnce, survivors };
                let mut first = Death::new(lab, call, before, shape);
                second_deaths(lab, Call::Open(Role::Sender), &mut first);
            }
        },
    );
}

#[test]
fn a_second_death_in_the_repair_of_a_receivers_of_bytes_changes_nothing() {
    alone(
        "bytes_repairs::a_second_death_in_the_repair_of_a_receivers_of_bytes_changes_nothing",
        |lab| {
            let all = [
                (Call::TryRecv, One, 120, 128, AtMostOnce),
                (Call::Release, Again, 120, 64, AtLeastOnce),
                (Call::GiveBack, DeadHands, 1984, 0, AtLeastOnce),
                (Call::RecvInto, Full, 1000, 128, AtMostOnce),
            ];
            for &(call, before, len, back, delivery) in lab.first(1, &all) {
                let shape = Shape { len, back, delivery, survivors: Survivors::AreThere };
                let mut first = Death::new(lab, call, before, shape);
                second_deaths(lab, Call::Open(Role::Receiver), &mut first);
            }
        },
    );
}
