//! Whoever is stopped at any instruction of a call at a ring of bytes, while the other end goes on as far as it can, and then
//! goes on itself: it is alive, so its end is not given away and nothing is taken from it. Knows that nobody dies before all
//! is done.

use std::ops::Range;
use std::time::Duration;

use quoit::Delivery::{self, AtLeastOnce, AtMostOnce};
use quoit::Presence;
use quoit::spsc::{Receiver, Sender};

use crate::boundaries::{Case, Everyday, Verdict, kill_at_each, track};
use crate::bytes::Before::{self, Empty, Full, One, Own};
use crate::bytes::{SHORT, Shape, got};
use crate::bytes_calls::Death;
use crate::calls::{Call, Role};
use crate::harness::{Lab, alone};
use crate::stage::{Survivors, body};
use crate::stops::assert_each_once;

/// As long as a survivor waits for whoever is stopped.
const A_MOMENT: Duration = Duration::from_millis(1);

/// A call that is stopped, and resumed when the other end has gone on.
struct Stop {
    death: Death,
    /// What the other end received, in order.
    got: Vec<u64>,
}

impl Stop {
    /// Receives what there is; whoever comes or goes may have left already.
    fn receive(&mut self) {
        let (comes_or_goes, ring) = (self.comes_or_goes(), &mut self.death.ring);
        let longest = ring.shape.len;
        loop {
            match ring.rx().recv_timeout(A_MOMENT) {
                Ok(message) => {
                    let got = got(&message, longest);
                    assert_eq!(got.attempts, 1);
                    self.got.push(got.number);
                }
                Err(error) => {
                    let ended = comes_or_goes && error.is_disconnected();
                    return assert!(error.is_timeout() || ended, "{error}");
                }
            }
        }
    }

    /// Sends as much as there is room for.
    fn send(&mut self) {
        let (comes_or_goes, ring) = (self.comes_or_goes(), &mut self.death.ring);
        while !(comes_or_goes && ring.tx().is_disconnected()) {
            if ring.try_send().is_none() {
                let one_more = body(0, ring.shape.len);
                let error = ring.tx().send_timeout(&one_more, A_MOMENT).unwrap_err();
                return assert!(error.is_timeout(), "{error}");
            }
        }
    }

    fn comes_or_goes(&self) -> bool {
        !self.death.call.sends() && !self.death.call.receives()
    }
}

impl Case for Stop {
    fn name(&self) -> String {
        format!("stopped: {}", self.death)
    }

    fn prepare(&mut self) {
        self.death.prepare();
        self.got.clear();
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

    fn stopped(&mut self) -> bool {
        let sends = self.death.ring.dying == Role::Sender;
        if sends {
            self.receive()
        } else {
            self.send()
        }
        if !self.comes_or_goes() {
            let ring = &mut self.death.ring;
            let (taken, peer, gone) = if sends {
                let taken = Sender::open(&ring.path).unwrap_err();
                (taken, ring.rx().stats().peer, ring.rx().is_disconnected())
            } else {
                let taken = Receiver::open(&ring.path).unwrap_err();
                (taken, ring.tx().stats().peer, ring.tx().is_disconnected())
            };
            assert!(taken.is_seat_taken(), "{taken}");
            assert_eq!((peer, gone), (Presence::Present, false), "it is alive");
        }
        true
    }

    fn judge(&mut self, _: bool) -> Verdict {
        let found = self.death.ring.go_on(&[]);
        assert_eq!(found.lost, 0);
        assert!(found.got.iter().all(|got| got.attempts == 1), "{found:?}");
        self.got.extend(found.got.iter().map(|got| got.number));
        assert!(self.got.is_sorted(), "{:?}", self.got);

        let (accepted, in_hand) =
            (self.death.notes.accepted(&self.death.numbers), self.death.notes.received());
        let standing: Vec<u64> = self.death.ring.standing.iter().map(|it| it.number).collect();
        assert_each_once(standing.iter().chain(&accepted), self.got.iter().chain(&in_hand));
        let word = match (accepted.len(), in_hand.len()) {
            (1.., _) => "sent",
            (_, 1) => "received",
            _ => "refused, or nothing to do",
        };
        Verdict { stage: 0, word }
    }
}

fn stops(
    lab: &mut Lab,
    call: Call,
    before: Before,
    (len, back, delivery): (usize, usize, Delivery),
) {
    let shape = Shape { len, back, delivery, survivors: Survivors::AreThere };
    let mut case = Stop { death: Death::new(lab, call, before, shape), got: Vec::new() };
    let track = track(lab, &mut case);
    let account = kill_at_each(lab, &mut case, &track);
    account.say(lab, &case.name());
}

#[test]
fn a_sender_of_bytes_that_is_stopped_at_any_instruction_is_not_robbed() {
    alone(
        "bytes_stops::a_sender_of_bytes_that_is_stopped_at_any_instruction_is_not_robbed",
        |lab| {
            stops(lab, Call::TrySend, Own, (SHORT, 64, AtLeastOnce));
            stops(lab, Call::TrySend, Full, (1984, 0, AtLeastOnce));
            stops(lab, Call::ReserveCommit, Empty, (120, 64, AtLeastOnce));
            stops(lab, Call::SendBatch, One, (SHORT, 128, AtLeastOnce));
        },
    );
}

#[test]
fn a_receiver_of_bytes_that_is_stopped_at_any_instruction_is_not_robbed() {
    alone(
        "bytes_stops::a_receiver_of_bytes_that_is_stopped_at_any_instruction_is_not_robbed",
        |lab| {
            stops(lab, Call::TryRecv, Empty, (SHORT, 0, AtLeastOnce));
            stops(lab, Call::TryRecv, Own, (120, 256, AtLeastOnce));
            stops(lab, Call::TryRecv, Full, (1000, 128, AtMostOnce));
            stops(lab, Call::Release, Full, (1000, 0, AtMostOnce));
        },
    );
}

#[test]
fn whoever_is_stopped_while_it_comes_to_a_ring_of_bytes_or_goes_is_in_nobodys_way() {
    alone(
        "bytes_stops::whoever_is_stopped_while_it_comes_to_a_ring_of_bytes_or_goes_is_in_nobodys_way",
        |lab| {
            for role in [Role::Sender, Role::Receiver] {
                stops(lab, Call::Leave(role), One, (120, 64, AtLeastOnce));
            }
            for &role in lab.first(0, &[Role::Sender, Role::Receiver]) {
                stops(lab, Call::Open(role), One, (120, 64, AtLeastOnce));
            }
        },
    );
}
