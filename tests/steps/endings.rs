//! The end of a stream, when whoever is the last of its kind dies at any instruction: the others get all that there is, and
//! then the end. Knows two such ends: the last sender's, and that of the last message in another receiver's hands.

use std::ops::Range;
use std::time::Duration;

use quoit::Delivery::{self, AtLeastOnce, AtMostOnce};
use quoit::Presence;
use quoit::mpmc::Receiver;

use crate::boundaries::{Account, Case, Verdict, kill_at_each, track};
use crate::calls::{Call, Death, Role};
use crate::harness::{Lab, alone};
use crate::sleepers::{Sleeper, say};
use crate::stage::Before::{self, Empty, One};
use crate::stage::{Found, Shape, Survivors, got};
use crate::tracer::forever;

/// Longer than anybody needs to learn of an end.
const PATIENCE: Duration = Duration::from_secs(20);

fn shape(delivery: Delivery) -> Shape {
    Shape { slots: 4, len: 12, delivery, survivors: Survivors::AreThere }
}

/// A death of the only sender, in a call.
struct LastSender {
    death: Death,
    turn: u32,
}

impl Case for LastSender {
    fn name(&self) -> String {
        format!("{}, no other sender", self.death)
    }

    fn prepare(&mut self) {
        self.death.prepare();
        self.death.stage.dismiss_sender();
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

    fn judge(&mut self, returned: bool) -> Verdict {
        self.turn += 1;
        let stage = &mut self.death.stage;
        if self.turn % 16 != 0 {
            // It would learn of the death by itself, a little later.
            stage.rx().recover().unwrap();
        }
        let mut found = Found::default();
        let end = loop {
            match stage.rx().recv_timeout(PATIENCE) {
                Ok(message) => found.got.push(got(&message, stage.shape.len)),
                Err(error) => break error,
            }
        };
        assert!(end.is_disconnected(), "{end}: {:#?}", quoit::inspect(&stage.path));
        let how = stage.rx().stats().end;
        let verdict = if self.death.call == Call::Leave(Role::Sender) {
            let left = how == Some(Presence::Left);
            assert!(left || how == Some(Presence::Died) && !returned, "{how:?}");
            Verdict { stage: left.into(), word: if left { "left" } else { "died" } }
        } else {
            assert_eq!(how, Some(Presence::Died));
            self.death.judge_sent(&found)
        };
        let standing = self.death.stage.standing.iter().map(|standing| standing.number);
        assert!(found.got.iter().map(|got| got.number).take(standing.len()).eq(standing));
        // The same receiver goes on with the next sender.
        let found = self.death.stage.go_on(&[]);
        assert_eq!((&found.got[..], found.lost), (&[][..], 0));
        verdict
    }
}

/// A death of a receiver that releases the last message there is, while another receiver is asleep until the end.
struct LastRelease {
    death: Death,
    sleeper: Option<Sleeper>,
}

/// What the sleeper says of the end.
const END: u64 = 0;

impl Case for LastRelease {
    fn name(&self) -> String {
        format!("{}, a receiver asleep until the end", self.death)
    }

    fn prepare(&mut self) {
        self.death.prepare();
    }

    fn call(&mut self) {
        self.death.call();
    }

    /// The child has the last message in hand.
    fn begun(&mut self) {
        self.death.stage.dismiss_sender();
        let (path, longest) = (&self.death.stage.path, self.death.stage.shape.len);
        self.sleeper = Some(Sleeper::start(|mut to| {
            let rx = Receiver::open(path).unwrap();
            loop {
                match rx.recv() {
                    Ok(message) => {
                        let got = got(&message, longest);
                        assert_eq!(got.attempts, 2);
                        say(&mut to, got.number);
                    }
                    Err(error) => {
                        assert!(error.is_disconnected(), "{error}");
                        say(&mut to, END);
                        forever();
                    }
                }
            }
        }));
    }

    fn shared(&mut self) -> Vec<Range<*const u8>> {
        self.death.shared()
    }

    fn judge(&mut self, _: bool) -> Verdict {
        let mut sleeper = self.sleeper.take().unwrap();
        let stage = &mut self.death.stage;
        let number = stage.standing[0].number;
        let mut said = sleeper.next(&stage.path);
        let again = said == number;
        if again {
            said = sleeper.next(&stage.path);
        }
        assert_eq!(said, END);
        drop(sleeper);
        let lost = stage.go_on(&[]).lost == 1;
        assert!(!(lost && again));
        let released = !(lost || again);
        assert!(released || !self.death.let_go());
        match (released, self.death.stage.shape.delivery) {
            (true, _) => Verdict { stage: 1, word: "received" },
            (false, AtLeastOnce) => {
                assert!(again);
                Verdict { stage: 0, word: "again, marked" }
            }
            _ => {
                assert!(lost);
                Verdict { stage: 0, word: "lost, counted" }
            }
        }
    }
}

fn last_sender(lab: &mut Lab, call: Call, before: Before) -> Account {
    let death = Death::new(lab, call, before, shape(AtLeastOnce));
    let mut case = LastSender { death, turn: 0 };
    let track = track(lab, &mut case);
    let account = kill_at_each(lab, &mut case, &track);
    account.say(lab, &case.name());
    account
}

#[test]
fn all_that_the_last_sender_committed_comes_before_the_end() {
    alone("endings::all_that_the_last_sender_committed_comes_before_the_end", |lab| {
        let account = last_sender(lab, Call::TrySend, One);
        assert!(account.count("not delivered") > 0 && account.count("delivered") > 0);
        let account = last_sender(lab, Call::SendBatch, Empty);
        assert!(account.count("not delivered") > 0 && account.count("all delivered") > 0);
    });
}

#[test]
fn whoever_dies_while_it_is_the_last_to_leave_has_died_or_left() {
    alone("endings::whoever_dies_while_it_is_the_last_to_leave_has_died_or_left", |lab| {
        let account = last_sender(lab, Call::Leave(Role::Sender), One);
        assert!(account.count("died") > 0 && account.count("left") > 0);
    });
}

#[test]
fn the_end_comes_when_a_receiver_dies_with_the_last_message_and_not_before() {
    alone(
        "endings::the_end_comes_when_a_receiver_dies_with_the_last_message_and_not_before",
        |lab| {
            for delivery in [AtLeastOnce, AtMostOnce] {
                let death = Death::new(lab, Call::Release, One, shape(delivery));
                let mut case = LastRelease { death, sleeper: None };
                let track = track(lab, &mut case);
                let account = kill_at_each(lab, &mut case, &track);
                account.say(lab, &case.name());
                let hands = if delivery == AtMostOnce { "lost, counted" } else { "again, marked" };
                assert!(account.count(hands) > 0 && account.count("received") > 0);
            }
        },
    );
}
