//! Histories made by hand: right ones, which the check must not blame, and wrong ones, which it must, each for one rule.
//!
//! Time is told in small numbers. A sender's messages are `A`, `A + 1`, and so on.

use crate::check::{Answer, Fate, GivenUp, Handle, History, NEVER, Rule, Sent, Span, Taken, check};
use crate::log::id_of;

const A: u64 = 1 << 40;
const B: u64 = 2 << 40;

fn span((from, to): (u64, u64)) -> Span {
    Span { from, to }
}

impl History {
    /// A send of one call.
    fn send(mut self, id: u64, call: (u64, u64)) -> History {
        let call = span(call);
        self.sent.push(Sent { id, claim: call, commit: call, accepted: true, died: NEVER });
        self
    }

    /// A claim, and its commit later.
    fn write(mut self, id: u64, claim: (u64, u64), commit: (u64, u64)) -> History {
        let (claim, commit) = (span(claim), span(commit));
        self.sent.push(Sent { id, claim, commit, accepted: true, died: NEVER });
        self
    }

    /// A send whose caller was killed.
    fn doubt(mut self, id: u64, from: u64, died: u64) -> History {
        let call = span((from, NEVER));
        self.sent.push(Sent { id, claim: call, commit: call, accepted: false, died });
        self
    }

    /// A message that is taken, and released by receiver `receiver`.
    fn take(
        self,
        receiver: u64,
        id: u64,
        order: u64,
        take: (u64, u64),
        end: (u64, u64),
    ) -> History {
        self.hand(receiver, id, order, 1, take, Fate::Released, end)
    }

    #[allow(clippy::too_many_arguments)]
    fn hand(
        mut self,
        receiver: u64,
        id: u64,
        order: u64,
        attempts: u64,
        take: (u64, u64),
        fate: Fate,
        end: (u64, u64),
    ) -> History {
        let (take, end) = (span(take), span(end));
        self.taken.push(Taken { id, order, attempts, receiver, take, fate, end });
        self
    }

    fn refuse(mut self, answer: Answer, call: (u64, u64)) -> History {
        self.refused.push((answer, span(call)));
        self
    }

    fn give_up(mut self, claim: u64, end: u64, died: u64) -> History {
        self.given_up.push(GivenUp { claim, end, died });
        self
    }

    fn sits(mut self, sends: bool, opened: u64, leaving: u64) -> History {
        self.handles.push(Handle { sends, opened, leaving });
        self
    }

    fn right(self) {
        let verdict = check(&self);
        assert!(verdict.broken.is_empty(), "{self:#?}: {:#?}", verdict.broken);
    }

    /// Nothing but these rules is broken.
    fn breaks(self, rules: &[Rule]) {
        let verdict = check(&self);
        let mut broken: Vec<Rule> = verdict.broken.iter().map(|broken| broken.rule).collect();
        broken.sort_unstable();
        broken.dedup();
        assert_eq!(broken, rules, "{self:#?}: {:#?}", verdict.broken);
    }
}

/// Of a ring of two slots.
fn ring() -> History {
    History { slots: 2, ..History::default() }
}

/// Three messages of two senders, to two receivers.
fn three() -> History {
    ring()
        .send(A, (10, 20))
        .send(B, (30, 40))
        .send(A + 1, (110, 120))
        .take(1, A, 0, (50, 60), (70, 80))
        .take(2, B, 1, (55, 65), (90, 100))
        .take(1, A + 1, 2, (130, 140), (150, 160))
}

#[test]
fn what_can_have_happened_is_not_blamed() {
    three().right();
    // Whichever of two was claimed first.
    ring()
        .send(A, (10, 30))
        .send(B, (20, 40))
        .take(1, B, 0, (50, 60), (60, 61))
        .take(1, A, 1, (70, 80), (80, 81))
        .right();
    // Taken while it is being sent.
    ring().send(A, (10, 50)).take(1, A, 0, (5, 45), (46, 47)).right();
    // Two takes at once, and the later message's ends first.
    ring()
        .send(A, (10, 20))
        .send(A + 1, (30, 40))
        .take(1, A, 0, (50, 90), (91, 92))
        .take(2, A + 1, 1, (55, 60), (61, 62))
        .right();
    // Given back, and taken again by another before the call that gave it back has returned.
    ring()
        .send(A, (10, 20))
        .hand(1, A, 0, 1, (30, 40), Fate::GivenBack, (50, 60))
        .hand(2, A, 0, 2, (45, 55), Fate::Released, (60, 70))
        .right();
}

#[test]
fn of_the_dead_either_may_have_happened() {
    let seen = ring().doubt(A, 10, 50).take(1, A, 0, (20, 30), (31, 32));
    seen.right();
    ring().doubt(A, 10, 50).right();
    // Of a batch the front.
    ring().doubt(A, 10, 50).doubt(A + 1, 10, 50).take(1, A, 0, (20, 30), (31, 32)).right();
    // In hand at a death, then again; once more, because a release in doubt had not happened.
    ring()
        .send(A, (10, 20))
        .hand(1, A, 0, 1, (30, 40), Fate::InHand, (0, NEVER))
        .hand(2, A, 0, 2, (60, 70), Fate::Released, (71, NEVER))
        .hand(3, A, 0, 3, (80, 90), Fate::Released, (91, 92))
        .right();
    // A release in doubt that had happened.
    ring().send(A, (10, 20)).hand(1, A, 0, 1, (30, 40), Fate::Released, (41, NEVER)).right();
    // Taken by somebody who died before it said so.
    let mut unseen = ring().send(A, (10, 20)).hand(1, A, 0, 2, (60, 70), Fate::Released, (71, 72));
    unseen.unseen = 1;
    unseen.clone().right();
    unseen.unseen = 0;
    unseen.breaks(&[Rule::Twice]);
}

#[test]
fn what_was_accepted_and_not_released_is_lost() {
    three().send(B + 1, (200, 210)).breaks(&[Rule::Lost]);
    let held =
        |fate| three().send(B + 1, (200, 210)).hand(1, B + 1, 3, 1, (220, 230), fate, (240, 250));
    held(Fate::Released).right();
    held(Fate::GivenBack).breaks(&[Rule::Lost]);
    held(Fate::InHand).breaks(&[Rule::Lost]);
    // Also what was in doubt, once it was seen.
    let seen = ring().doubt(A, 10, 50);
    seen.hand(1, A, 0, 1, (20, 30), Fate::GivenBack, (31, 32)).breaks(&[Rule::Lost]);
}

#[test]
fn what_nobody_sent_or_not_yet_is_invented() {
    three().take(1, B + 7, 3, (220, 230), (240, 250)).breaks(&[Rule::Invented]);
    three().take(1, 9, 3, (220, 230), (240, 250)).breaks(&[Rule::Invented]);
    ring().send(A, (10, 20)).take(1, A, 0, (5, 9), (30, 31)).breaks(&[Rule::Invented]);
    let claimed = ring().write(A, (10, 20), (50, 60));
    claimed.take(1, A, 0, (30, 40), (41, 42)).breaks(&[Rule::Invented]);
}

#[test]
fn what_comes_twice_needs_a_mark_and_a_reason() {
    let again = |attempts, take, fate, end| {
        let first = ring().send(A, (10, 20)).hand(1, A, 0, 1, (30, 40), fate, end);
        first.hand(2, A, 0, attempts, take, Fate::Released, (95, 99))
    };
    let given_back = (Fate::GivenBack, (50, 60));
    again(2, (70, 80), given_back.0, given_back.1).right();
    // Without a mark; a receiver sees nothing twice by itself either.
    again(1, (70, 80), given_back.0, given_back.1).breaks(&[Rule::Twice]);
    // Released.
    again(2, (70, 80), Fate::Released, (50, 60)).breaks(&[Rule::Twice]);
    // Still in other hands.
    again(2, (42, 48), given_back.0, given_back.1).breaks(&[Rule::Twice]);
    // Marked, and nobody had it.
    again(3, (70, 80), given_back.0, given_back.1).breaks(&[Rule::Twice]);
}

#[test]
fn a_message_stands_at_one_place_alone() {
    ring()
        .send(A, (10, 20))
        .hand(1, A, 0, 1, (30, 40), Fate::GivenBack, (50, 60))
        .hand(2, A, 1, 2, (70, 80), Fate::Released, (81, 82))
        .breaks(&[Rule::Moved]);
    ring()
        .send(A, (10, 20))
        .send(B, (15, 25))
        .take(1, A, 0, (30, 40), (41, 42))
        .take(2, B, 0, (30, 40), (41, 42))
        .breaks(&[Rule::Moved]);
}

#[test]
fn a_batch_goes_from_the_front() {
    let batch = ring().doubt(A, 10, 50).doubt(A + 1, 10, 50);
    batch.take(1, A + 1, 0, (20, 30), (31, 32)).breaks(&[Rule::Prefix]);
}

#[test]
fn what_one_sends_is_taken_in_that_order() {
    // The calls say nothing: they are those of one batch.
    ring()
        .send(A, (10, 20))
        .send(A + 1, (10, 20))
        .take(1, A, 1, (50, 60), (61, 62))
        .take(2, A + 1, 0, (50, 60), (61, 62))
        .breaks(&[Rule::SenderOrder]);
    // The places are as they should be, and the takes are not.
    ring()
        .send(A, (10, 20))
        .send(A + 1, (10, 20))
        .take(1, A, 0, (70, 80), (81, 82))
        .take(2, A + 1, 1, (50, 60), (61, 62))
        .breaks(&[Rule::SenderOrder, Rule::TakeOrder]);
}

#[test]
fn a_receiver_goes_on_from_place_to_place() {
    // The two takes of one call, told in the wrong order.
    ring()
        .send(A, (10, 20))
        .send(B, (10, 20))
        .take(1, B, 1, (50, 60), (61, 62))
        .take(1, A, 0, (50, 60), (61, 62))
        .breaks(&[Rule::ReceiverOrder]);
    // What was given back comes when it comes.
    ring()
        .send(A, (10, 20))
        .send(B, (10, 20))
        .hand(1, A, 0, 1, (50, 60), Fate::GivenBack, (61, 62))
        .take(1, B, 1, (65, 70), (71, 72))
        .hand(1, A, 0, 2, (75, 80), Fate::Released, (81, 82))
        .right();
}

#[test]
fn places_are_claimed_and_taken_in_order() {
    // Claimed one after the other, the later one in front; taken at once.
    ring()
        .send(A, (10, 20))
        .send(B, (30, 40))
        .take(1, A, 1, (50, 60), (61, 62))
        .take(2, B, 0, (50, 60), (61, 62))
        .breaks(&[Rule::ClaimOrder]);
    // Claimed at once, taken one after the other, the later place first.
    ring()
        .send(A, (10, 20))
        .send(B, (10, 20))
        .take(1, A, 0, (70, 80), (81, 82))
        .take(2, B, 1, (50, 60), (61, 62))
        .breaks(&[Rule::TakeOrder]);
    // A reservation is claimed long before it is committed.
    ring()
        .write(A, (10, 20), (100, 110))
        .send(B, (30, 40))
        .take(1, A, 0, (120, 130), (131, 132))
        .take(1, B, 1, (140, 150), (151, 152))
        .right();
    ring()
        .write(A, (10, 20), (100, 110))
        .send(B, (30, 40))
        .take(1, B, 0, (120, 130), (131, 132))
        .take(1, A, 1, (140, 150), (151, 152))
        .breaks(&[Rule::ClaimOrder, Rule::RealTime]);
}

#[test]
fn what_was_sent_before_is_not_taken_after_whatever_the_places_say() {
    ring()
        .send(A, (10, 20))
        .send(B, (30, 40))
        .take(1, A, 1, (70, 80), (81, 82))
        .take(2, B, 0, (50, 60), (61, 62))
        .breaks(&[Rule::ClaimOrder, Rule::RealTime]);
    // Of what a dead receiver had first nobody knows when that was.
    let mut unseen = ring()
        .send(A, (10, 20))
        .send(B, (30, 40))
        .hand(1, A, 0, 2, (70, 80), Fate::Released, (81, 82))
        .take(2, B, 1, (50, 60), (61, 62));
    unseen.unseen = 1;
    unseen.right();
}

#[test]
fn a_slot_is_claimed_when_its_message_is_released() {
    let three = |release| {
        ring()
            .send(A, (10, 20))
            .send(B, (30, 40))
            .send(A + 1, (110, 120))
            .take(1, A, 0, (50, 60), release)
            .take(2, B, 1, (55, 65), (90, 100))
            .take(2, A + 1, 2, (130, 140), (150, 160))
    };
    three((119, 140)).right();
    three((121, 140)).breaks(&[Rule::Reused]);
}

#[test]
fn empty_is_wrong_when_a_message_was_there_and_no_claim_before_it_was_open() {
    let asked = |call| three().refuse(Answer::Empty, call);
    asked((42, 48)).breaks(&[Rule::Empty]);
    // Before the commit has surely ended; until the take may have begun; when nothing is there.
    asked((15, 19)).right();
    asked((20, 48)).right();
    asked((42, 56)).right();
    asked((101, 109)).right();

    let behind = |commit, call| {
        ring()
            .write(A, (10, 20), commit)
            .send(B, (30, 40))
            .take(1, A, 0, (120, 130), (131, 132))
            .take(1, B, 1, (140, 150), (151, 152))
            .refuse(Answer::Empty, call)
    };
    // Behind a claim that may be open.
    behind((100, 110), (50, 90)).right();
    behind((100, 110), (109, 118)).right();
    behind((100, 110), (111, 118)).breaks(&[Rule::Empty]);

    let abandoned = |claim, end, call| {
        ring()
            .give_up(claim, end, NEVER)
            .send(A, (30, 40))
            .take(1, A, 1, (120, 130), (131, 132))
            .refuse(Answer::Empty, call)
    };
    // Behind a claim that came to nothing; after its end; and one that was surely claimed later.
    abandoned(10, 100, (50, 90)).right();
    abandoned(10, 100, (101, 110)).breaks(&[Rule::Empty]);
    abandoned(41, 100, (50, 90)).breaks(&[Rule::Empty]);
}

#[test]
fn empty_is_right_behind_the_claim_of_a_dead_one_until_that_is_repaired() {
    // It may have claimed the place before B, and died at 50. A message that was claimed later is taken by 90.
    let asked = |call| {
        ring()
            .doubt(A, 10, 50)
            .send(B, (30, 40))
            .send(B + 1, (60, 65))
            .send(B + 2, (100, 110))
            .take(1, B, 1, (70, 75), (76, 77))
            .take(1, B + 1, 2, (80, 90), (91, 92))
            .take(1, B + 2, 3, (130, 140), (141, 142))
            .refuse(Answer::Empty, call)
    };
    asked((42, 68)).right();
    asked((111, 120)).breaks(&[Rule::Empty]);
}

#[test]
fn empty_is_wrong_when_a_message_was_aside_whatever_was_open() {
    let asked = |call| {
        ring()
            .write(B, (25, 28), (200, 210))
            .send(A, (10, 20))
            .hand(1, A, 0, 1, (30, 40), Fate::GivenBack, (50, 60))
            .hand(2, A, 0, 2, (90, 100), Fate::Released, (101, 102))
            .take(2, B, 1, (220, 230), (231, 232))
            .refuse(Answer::Empty, call)
    };
    asked((61, 89)).breaks(&[Rule::Aside]);
    asked((59, 89)).right();
    asked((61, 91)).right();
}

#[test]
fn full_is_wrong_when_the_places_of_a_lap_ago_were_all_free() {
    let asked = |call| three().refuse(Answer::Full, call);
    // One message in two slots.
    asked((22, 28)).breaks(&[Rule::Full]);
    // Two.
    asked((42, 79)).right();
    asked((42, 109)).right();
    // The first is released: there is room for one.
    asked((81, 85)).breaks(&[Rule::Full]);
    asked((101, 105)).breaks(&[Rule::Full]);
    // Another may be claimed meanwhile, whose message of a lap ago is there; or it was not.
    asked((85, 115)).right();
    asked((101, 115)).right();

    // A claim that came to nothing is in the way until somebody has stepped over it.
    let asked = |call| {
        ring()
            .give_up(10, 20, NEVER)
            .send(A, (30, 40))
            .send(B, (90, 100))
            .send(B + 1, (200, 210))
            .take(1, A, 1, (50, 60), (61, 62))
            .take(1, B, 2, (110, 120), (121, 122))
            .take(1, B + 1, 3, (220, 230), (231, 232))
            .refuse(Answer::Full, call)
    };
    asked((42, 48)).right();
    asked((55, 59)).right();
    asked((70, 80)).breaks(&[Rule::Full]);
}

#[test]
fn an_end_is_wrong_when_somebody_or_something_was_there() {
    let asked = |answer, call| three().sits(true, 5, 125).sits(false, 6, 170).refuse(answer, call);
    asked(Answer::NoSender, (101, 105)).breaks(&[Rule::Ended]);
    asked(Answer::NoSender, (170, 180)).right();
    asked(Answer::NoSender, (3, 180)).right();
    // A message in hand.
    asked(Answer::NoSender, (126, 149)).breaks(&[Rule::Ended]);
    asked(Answer::NoSender, (126, 151)).right();
    asked(Answer::NoReceiver, (10, 169)).breaks(&[Rule::Ended]);
    asked(Answer::NoReceiver, (165, 175)).right();
}

#[test]
fn an_id_says_whose_message_it_is() {
    assert_eq!((id_of(1, 3), id_of(2, 0)), (A + 3, B));
}
