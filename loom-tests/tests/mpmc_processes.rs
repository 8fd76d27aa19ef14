//! Rings of slots as processes meet them: the faces, the table of seats, the locks behind it and the repair, with the death
//! of one process at each of its steps.
//!
//! A death frees the locks of the process and ends one slice of each wait; no other slice ends, so that what the living lose
//! among themselves is a deadlock.
#![cfg(loom)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use loom::thread;
use quoit::model::control::{ENDED, SeatWord};
use quoit::model::geometry::Slots;
use quoit::model::{Process, Ring, die};
use quoit::mpmc::{Receiver, Sender};
use quoit::{Delivery, OpenError, Wait};
use quoit_loom_tests::{Outcomes, explore_wide, sweep_every, sweep_wide};

/// Two slots and as many seats as asked for; the laps wrap behind the first position.
fn ring(seats: u32, delivery: Delivery) -> Ring {
    let shape = Slots::new(2, 8, seats).expect("legal");
    Ring::slots(shape, shape.position(shape.lap_mask(), 1), false, delivery)
}

fn sender(process: &Process) -> Sender {
    let tx = Sender::of(process).expect("a seat");
    tx.set_wait(Wait::Block);
    tx
}

fn receiver(process: &Process) -> Receiver {
    let rx = Receiver::of(process).expect("a seat");
    rx.set_wait(Wait::Block);
    rx
}

/// Runs a process that lives.
fn live<T>(ring: &Ring, body: impl FnOnce(&Process) -> T) -> T {
    ring.process().run(None, body).expect("it lives")
}

/// Sends one message, and again for as long as receivers come and go.
fn send(tx: &Sender, n: u8) {
    while let Err(error) = tx.send(&[n; 8]) {
        assert!(error.is_disconnected(), "{error}");
        thread::yield_now();
    }
}

/// Takes the next message and keeps it for a moment: which one, and whether somebody had it before. `None` is the end.
fn next(rx: &Receiver) -> Option<(u8, bool)> {
    match rx.recv() {
        Ok(message) => {
            let bytes = message.to_vec();
            assert_eq!(bytes, [bytes[0]; 8], "whole");
            Some((bytes[0], message.redelivered()))
        }
        Err(error) => {
            assert!(error.is_disconnected(), "{error}");
            None
        }
    }
}

/// Everything up to the end.
fn all(rx: &Receiver) -> Vec<(u8, bool)> {
    std::iter::from_fn(|| next(rx)).collect()
}

/// As outcomes are noted: the numbers, marked where somebody had them before.
fn line(got: &[(u8, bool)]) -> String {
    let one = |(n, again): &(u8, bool)| format!("{n}{}", if *again { "!" } else { "" });
    got.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// A process that dies with a claim open, in the first seat that is free.
fn dead_claim(ring: &Ring) {
    let dead = ring.process().run(None, |process| {
        let mut tx = sender(process);
        let _claim = tx.reserve(8).expect("room");
        die()
    });
    assert!(dead.is_none_or(|never: std::convert::Infallible| match never {}));
}

/// A receiver in a process of its own.
fn mortal_receiver(ring: &Ring) -> (Process, Receiver) {
    let process = ring.process();
    let rx = process.run(None, receiver).expect("it lives");
    (process, rx)
}

/// Has such a receiver wait for one message and release it, in a thread, and die at its `step`-th step: whether it got one,
/// or `None` when it died.
fn waits((process, rx): (Process, Receiver), step: u32) -> thread::JoinHandle<Option<bool>> {
    thread::spawn(move || process.run(Some(step), move |_| next(&rx).is_some()))
}

/// One message was sent: whoever lived released it, or it came to the other, who got all this.
fn assert_once(got: &[(u8, bool)], ended: Option<bool>) {
    assert!(got.iter().all(|got| got.0 == 1) && got.len() <= 1, "{got:?}");
    assert!(got.is_empty() == (ended == Some(true)) || ended.is_none(), "once, {got:?}");
}

/// D1 to D4, D10, D11 of docs/crash-safety.md: a sender dies at each step from its open to its close. A receiver waits, and
/// another sender's message is in front of the dead one's claim or behind it.
#[test]
fn a_sender_that_dies_holds_up_nobody_and_is_noticed() {
    let outcomes = Outcomes::default();
    let noted = outcomes.clone();
    sweep_wide("processes: a sender dies, a receiver waits", 20, move |step| {
        let ring = ring(3, Delivery::AtLeastOnce);
        let (rx, other) = (live(&ring, receiver), live(&ring, sender));
        let sent = Arc::new(AtomicU32::new(0));
        let mortal = thread::spawn({
            let (ring, sent) = (ring.clone(), Arc::clone(&sent));
            move || {
                let ended = ring.process().run(Some(step), |process| {
                    let tx = sender(process);
                    tx.send(&[1; 8]).expect("the receiver stays");
                    sent.store(1, Relaxed);
                });
                ended.is_none()
            }
        });
        // Stays until the other is dead, so that there is no end before.
        let living = thread::spawn(move || {
            send(&other, 2);
            mortal.join().expect("ends")
        });
        let receives = thread::spawn(move || all(&rx));
        let died = living.join().expect("ends");
        let got = receives.join().expect("ends");
        let count = |n| got.iter().filter(|got| **got == (n, false)).count() as u32;
        assert_eq!(count(2), 1, "{got:?}");
        assert!(count(1) == 1 || count(1) == sent.load(Relaxed), "{got:?}");
        assert_eq!(count(1) + count(2), got.len() as u32);
        noted.note(format!("{} of {}", line(&got), sent.load(Relaxed)));
        died
    });
    outcomes.are(&["1 2 of 0", "1 2 of 1", "2 1 of 0", "2 1 of 1", "2 of 0"]);
}

/// D10, D11: a receiver dies at each step from its open to its close, with or without a message in hand. Another one waits; the
/// sender left.
#[test]
fn a_receiver_that_dies_on_arrival_is_in_nobodys_way() {
    let outcomes = Outcomes::default();
    let noted = outcomes.clone();
    sweep_wide("processes: a receiver dies on arrival, another waits", 20, move |step| {
        let ring = ring(3, Delivery::AtLeastOnce);
        let (rx, tx) = (live(&ring, receiver), live(&ring, sender));
        send(&tx, 1);
        let mortal = thread::spawn(move || {
            let ended = ring.process().run(Some(step), |process| {
                let rx = receiver(process);
                let got = rx.try_recv().map(|message| message.to_vec()).ok();
                got.is_some()
            });
            drop(tx);
            ended
        });
        let receives = thread::spawn(move || all(&rx));
        let ended = mortal.join().expect("ends");
        let got = receives.join().expect("ends");
        assert!(got.iter().all(|got| got.0 == 1) && got.len() <= 1, "{got:?}");
        assert!(got.is_empty() || ended != Some(true), "once");
        noted.note(format!("{} {ended:?}", line(&got)));
        ended.is_none()
    });
    outcomes.are(&[" None", " Some(true)", "1 None", "1 Some(false)", "1! None"]);
}

/// D5 to D8, D12, W4, W5: a receiver dies at each step of a wait for a message and of its release. Another one waits; the
/// sender leaves, and what the dead one had in hand comes before the end.
#[test]
fn a_receiver_that_dies_leaves_its_message_to_whoever_waits_before_the_end() {
    let outcomes = Outcomes::default();
    let noted = outcomes.clone();
    sweep_every(5, "processes: a receiver dies, another waits", 10, move |step| {
        let ring = ring(3, Delivery::AtLeastOnce);
        let (rx, tx) = (live(&ring, receiver), live(&ring, sender));
        let mortal = mortal_receiver(&ring);
        let mortal = waits(mortal, step);
        let sends = thread::spawn(move || send(&tx, 1));
        let receives = thread::spawn(move || all(&rx));
        let ended = mortal.join().expect("ends");
        sends.join().expect("ends");
        let got = receives.join().expect("ends");
        assert_once(&got, ended);
        noted.note(format!("{} {ended:?}", line(&got)));
        ended.is_none()
    });
    outcomes.are(&[" None", " Some(true)", "1 None", "1 Some(false)", "1! None"]);
}

/// X1 to X4, D5: two receivers wait behind the claim of a dead sender, and the one that repairs dies at each step.
#[test]
fn whoever_dies_repairing_is_repaired_by_the_other_who_waits() {
    let outcomes = Outcomes::default();
    let noted = outcomes.clone();
    sweep_wide("processes: a repairer dies, another waits", 20, move |step| {
        let ring = ring(4, Delivery::AtLeastOnce);
        let (rx, tx) = (live(&ring, receiver), live(&ring, sender));
        let mortal = mortal_receiver(&ring);
        dead_claim(&ring);
        send(&tx, 1);
        drop(tx);
        let mortal = waits(mortal, step);
        let receives = thread::spawn(move || all(&rx));
        let ended = mortal.join().expect("ends");
        let got = receives.join().expect("ends");
        assert_once(&got, ended);
        noted.note(format!("{} {ended:?}", line(&got)));
        ended.is_none()
    });
    outcomes.are(&[" None", " Some(true)", "1 None", "1 Some(false)", "1! None"]);
}

/// X1 to X5 by a bystander, where a message is delivered at most once: it is counted once, whoever dies counting. Another
/// process repairs at the same time.
#[test]
fn a_message_that_is_lost_is_counted_once_by_however_many_repair() {
    let outcomes = Outcomes::default();
    let noted = outcomes.clone();
    sweep_wide("processes: two repair at once, one dies", 20, move |step| {
        let ring = ring(2, Delivery::AtMostOnce);
        let tx = live(&ring, sender);
        tx.try_send(&[1; 8]).expect("room");
        let dead: Option<()> = ring.process().run(None, |process| {
            let rx = receiver(process);
            let _held = rx.try_recv().expect("sent");
            die()
        });
        assert!(dead.is_none());
        let repairs = [Some(step), None].map(|step| {
            let ring = ring.clone();
            thread::spawn(move || {
                let done =
                    ring.process().run(step, |process| process.recover().expect("a ring of slots"));
                done.map(|done| done.lost)
            })
        });
        let [mortal, living] = repairs.map(|repairs| repairs.join().expect("ends"));
        let rest = live(&ring, |process| process.recover().expect("a ring of slots")).lost;
        let counted = ring.slots_view().expect("of slots").seat(1, SeatWord::LOST).load(Relaxed);
        assert_eq!(counted, 1);
        noted.note(format!("{mortal:?} {living:?} {rest}"));
        drop(tx);
        mortal.is_none()
    });
    outcomes.are(&[
        "None Some(0) 0",
        "None Some(0) 1",
        "None Some(1) 0",
        "Some(0) Some(1) 0",
        "Some(1) Some(0) 0",
    ]);
}

/// K1 to K3 of `seats`: a process takes the seat of a dead one while others repair it. Its claims are its own.
#[test]
fn a_seat_that_is_taken_again_is_not_repaired_for_its_old_holder() {
    let outcomes = Outcomes::default();
    let noted = outcomes.clone();
    explore_wide("processes: a seat is taken again", 100, move || {
        let ring = ring(2, Delivery::AtLeastOnce);
        dead_claim(&ring);
        let rx = live(&ring, |process| {
            let rx = Receiver::of(process).expect("the other seat");
            rx.set_wait(Wait::Block);
            rx
        });
        // The arrival has repaired that death already: another one, which nobody has found yet.
        dead_claim(&ring);
        let bystander = thread::spawn({
            let ring = ring.clone();
            move || live(&ring, |process| process.recover().expect("a ring of slots")).skipped
        });
        let comes = thread::spawn(move || {
            let mut bystander = Some(bystander);
            live(&ring, |process| {
                let (mut crowded, mut skipped) = (false, None);
                loop {
                    match Sender::of(process) {
                        Ok(tx) => {
                            send(&tx, 1);
                            break;
                        }
                        // The only other seat is being repaired.
                        Err(OpenError::Crowded { .. }) => crowded = true,
                        Err(other) => panic!("{other}"),
                    }
                    // Waits for the bystander rather than yield to it: the checker may let two who yield go on for ever.
                    match bystander.take() {
                        Some(bystander) => skipped = Some(bystander.join().expect("ends")),
                        None => thread::yield_now(),
                    }
                }
                let bystander = bystander.map(|bystander| bystander.join().expect("ends"));
                (skipped.or(bystander).expect("joined once"), crowded)
            })
        });
        let receives = thread::spawn(move || {
            let mut got = None;
            while got.is_none() {
                // The end of the dead ones' stream may be told first.
                got = next(&rx);
                thread::yield_now();
            }
            (got, rx)
        });
        let (got, rx) = receives.join().expect("ends");
        assert_eq!(got, Some((1, false)));
        let (skipped, crowded) = comes.join().expect("ends");
        noted.note(format!("{skipped} {crowded}"));
        assert_eq!(next(&rx), None);
    });
    outcomes.are(&["0 false", "1 false", "1 true"]);
}

/// M-I5: whoever has a claim and lives keeps it, whoever else has died and whoever repairs.
#[test]
fn a_living_claim_is_nobodys_to_give_up() {
    let outcomes = Outcomes::default();
    let noted = outcomes.clone();
    explore_wide("processes: repairs beside a living claim", 100, move || {
        let ring = ring(3, Delivery::AtLeastOnce);
        let (rx, mut tx) = (live(&ring, receiver), live(&ring, sender));
        dead_claim(&ring);
        let holds = thread::spawn(move || {
            let mut claim = tx.reserve(8).expect("room");
            claim.write_at(0, &[1; 8]).expect("inside");
            claim.commit().expect("it lives");
            tx
        });
        let bystander = thread::spawn({
            let ring = ring.clone();
            move || live(&ring, |process| process.recover().expect("a ring of slots")).skipped
        });
        let receives = thread::spawn(move || (next(&rx), rx));
        let (got, rx) = receives.join().expect("ends");
        assert_eq!(got, Some((1, false)));
        drop(holds.join().expect("ends"));
        noted.note(bystander.join().expect("ends"));
        assert_eq!(next(&rx), None);
    });
    outcomes.are(&["0", "1"]);
}

/// K4: one sender leaves while another comes and stays. The receiver gets what each sent; it may be told the end of the one, and
/// is not told that of the other.
#[test]
fn a_sender_that_comes_while_another_leaves_is_not_missed() {
    let outcomes = Outcomes::default();
    let noted = outcomes.clone();
    explore_wide("processes: a sender comes, another leaves", 100, move || {
        let ring = ring(3, Delivery::AtLeastOnce);
        let (rx, tx) = (live(&ring, receiver), live(&ring, sender));
        let leaves = thread::spawn(move || send(&tx, 1));
        let comes = thread::spawn({
            let ring = ring.clone();
            move || {
                let tx = live(&ring, sender);
                send(&tx, 2);
                tx
            }
        });
        let receives = thread::spawn(move || {
            let (mut got, mut ends) = (Vec::new(), 0);
            while got.len() < 2 {
                match next(&rx) {
                    Some(one) => got.push(one),
                    None => {
                        ends += 1;
                        thread::yield_now();
                    }
                }
            }
            let error = rx.try_recv().expect_err("there were two");
            assert!(error.is_empty(), "one has not left: {error}");
            let told = ring.slots_view().expect("of slots").word(ENDED).load(Relaxed);
            assert!(told <= 1, "the end of the one that stays was told");
            (got, ends, rx)
        });
        leaves.join().expect("ends");
        let tx = comes.join().expect("ends");
        let (got, ends, rx) = receives.join().expect("ends");
        drop(tx);
        assert_eq!(next(&rx), None);
        noted.note(format!("{}{}", line(&got), if ends > 0 { ", an end between" } else { "" }));
    });
    outcomes.are(&["1 2", "1 2, an end between", "2 1"]);
}

/// K4 for senders: the last receiver leaves while another comes and the ring is full. Each message is received.
#[test]
fn a_sender_that_waits_meets_the_receiver_that_comes_while_another_leaves() {
    let outcomes = Outcomes::default();
    let noted = outcomes.clone();
    explore_wide("processes: a receiver leaves, another comes, the ring is full", 100, move || {
        let ring = ring(3, Delivery::AtLeastOnce);
        let (rx, tx) = (live(&ring, receiver), live(&ring, sender));
        tx.try_send(&[1; 8]).expect("room");
        tx.try_send(&[2; 8]).expect("room");
        let leaves = thread::spawn(move || drop(rx));
        let sends = thread::spawn(move || {
            let mut told = 0;
            while tx.send(&[3; 8]).is_err() {
                told += 1;
                thread::yield_now();
            }
            told
        });
        let comes = thread::spawn({
            let ring = ring.clone();
            move || live(&ring, |process| all(&receiver(process)))
        });
        leaves.join().expect("ends");
        let told = sends.join().expect("ends");
        assert_eq!(line(&comes.join().expect("ends")), "1 2 3");
        noted.note(if told > 0 { "told" } else { "not told" });
    });
    outcomes.are(&["not told", "told"]);
}
