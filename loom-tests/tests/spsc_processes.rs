//! Rings of bytes as processes meet them: the faces, the seats and the locks behind them, and the death of one process at
//! each of its steps, from the open to the close.
//!
//! A death frees the locks of the process and ends one slice of each wait; no other slice ends, so that what the living lose
//! among themselves is a deadlock.
#![cfg(loom)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use loom::thread;
use quoit::model::geometry::Geometry;
use quoit::model::{Process, Ring};
use quoit::spsc::{Receiver, Sender};
use quoit::{Delivery, OpenError, Presence, Wait};
use quoit_loom_tests::{Outcomes, explore, sweep_wide};

/// Four lines; the positions wrap behind the first.
fn ring() -> Ring {
    ring_of(Delivery::AtLeastOnce)
}

fn ring_of(delivery: Delivery) -> Ring {
    Ring::bytes(Geometry::new(256).expect("legal"), 0u64.wrapping_sub(64), false, delivery)
}

/// What a successor sends to say that nothing follows.
const LAST: u8 = 9;

fn sender(process: &Process) -> Sender {
    let mut tx = Sender::of(process).expect("a free end of a sound ring");
    tx.set_wait(Wait::Block);
    tx
}

fn receiver(process: &Process) -> Receiver {
    let mut rx = Receiver::of(process).expect("a free end of a sound ring");
    rx.set_wait(Wait::Block);
    rx
}

/// Opens an end in a process of its own that lives.
fn open<T>(ring: &Ring, end: impl FnOnce(&Process) -> T) -> T {
    ring.process().run(None, end).expect("it lives")
}

/// What is received: a message, or the end of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Got {
    Message { n: u8, again: bool },
    End(Option<Presence>),
}

/// Waits for whatever comes next.
fn next(rx: &mut Receiver) -> Got {
    let error = match rx.recv() {
        Ok(message) => {
            let bytes = message.to_vec();
            assert_eq!(bytes, [bytes[0]; 8], "whole");
            return Got::Message { n: bytes[0], again: message.redelivered() };
        }
        Err(error) => error,
    };
    assert!(error.is_disconnected(), "{error}");
    Got::End(rx.stats().end)
}

/// C1 to C3 of docs/crash-safety.md with the locks and the waiting; A1 to A6, Q3, W1, W2 of docs/memory-ordering.md.
#[test]
fn a_receiver_that_waits_for_a_dying_sender_gets_what_was_sent_and_is_told_how_it_ended() {
    let outcomes = Outcomes::default();
    let noted = outcomes.clone();
    sweep_wide("processes: the sender dies, the receiver waits", 20, move |step| {
        let ring = ring();
        let accepted = Arc::new(AtomicUsize::new(0));
        let mut rx = open(&ring, receiver);
        let sends = thread::spawn({
            let accepted = Arc::clone(&accepted);
            move || {
                let ended = ring.process().run(Some(step), |process| {
                    let mut tx = sender(process);
                    for n in 0..2 {
                        tx.send(&[n; 8]).expect("the receiver stays");
                        accepted.fetch_add(1, Relaxed);
                    }
                });
                let died = ended.is_none();
                open(&ring, |process| sender(process).send(&[LAST; 8]))
                    .expect("the receiver stays");
                died
            }
        });
        let receives = thread::spawn(move || {
            let (mut delivered, mut end) = (0, None);
            loop {
                match next(&mut rx) {
                    Got::Message { n: LAST, again: false } => return (delivered, end),
                    got @ Got::Message { .. } => {
                        assert_eq!(got, Got::Message { n: delivered, again: false });
                        delivered += 1;
                    }
                    Got::End(how) => {
                        // Told once, unless it ended twice: of the first sender and of its successor.
                        end = how;
                        thread::yield_now();
                    }
                }
            }
        });
        let died = sends.join().expect("ends");
        let (delivered, end) = receives.join().expect("ends");
        let (accepted, delivered) = (accepted.load(Relaxed), usize::from(delivered));
        assert!(delivered == accepted || delivered == accepted + 1, "{accepted}, {delivered}");
        let end = match end {
            None => "no end",
            Some(Presence::Died) => "died",
            Some(Presence::Left) => "left",
            Some(other) => panic!("{other}"),
        };
        noted.note(format!("{accepted}+{} {end}", delivered - accepted));
        died
    });
    outcomes.are(&[
        "0+0 died",
        "0+0 no end",
        "0+1 died",
        "0+1 no end",
        "1+0 died",
        "1+0 no end",
        "1+1 died",
        "1+1 no end",
        "2+0 died",
        "2+0 left",
        "2+0 no end",
    ]);
}

/// C4, C5, C7: the receiver dies at each step; the sender waits on a full ring; a successor gets the rest.
#[test]
fn a_sender_that_waits_for_a_dying_receiver_goes_on_with_its_successor_and_nothing_is_lost() {
    let outcomes = Outcomes::default();
    let noted = outcomes.clone();
    sweep_wide("processes: the receiver dies, the sender waits", 20, move |step| {
        let ring = ring();
        let mut tx = open(&ring, sender);
        for n in 0..4 {
            tx.try_send(&[n; 8]).expect("four lines");
        }
        let sends = thread::spawn(move || {
            let mut ends = 0;
            for n in [4, LAST] {
                while let Err(error) = tx.send(&[n; 8]) {
                    assert!(error.is_disconnected(), "{error}");
                    ends += 1;
                    thread::yield_now();
                }
            }
            (ends, tx)
        });
        let receives = thread::spawn(move || {
            let released = AtomicUsize::new(0);
            let ended = ring.process().run(Some(step), |process| {
                let mut rx = receiver(process);
                for n in 0..2 {
                    assert_eq!(next(&mut rx), Got::Message { n, again: false });
                    released.fetch_add(1, Relaxed);
                }
            });
            let died = ended.is_none();
            let released = released.into_inner() as u8;
            let mut rx = open(&ring, receiver);
            let Got::Message { n: first, again } = next(&mut rx) else {
                panic!("the sender stays")
            };
            assert!(first == released || first == released + 1, "{released}, then {first}");
            for n in first + 1..5 {
                assert_eq!(next(&mut rx), Got::Message { n, again: false });
            }
            assert_eq!(next(&mut rx), Got::Message { n: LAST, again: false });
            (died, released, first, again)
        });
        let (ends, _tx) = sends.join().expect("ends");
        let (died, released, first, again) = receives.join().expect("ends");
        noted.note(format!(
            "{released}+{}{}{}",
            first - released,
            if again { " again" } else { "" },
            if ends > 0 { ", told" } else { "" }
        ));
        died
    });
    outcomes.are(&[
        "0+0",
        "0+0 again",
        "0+0 again, told",
        "0+0, told",
        "0+1",
        "0+1, told",
        "1+0",
        "1+0 again",
        "1+0 again, told",
        "1+0, told",
        "1+1",
        "1+1, told",
        "2+0",
        "2+0, told",
    ]);
}

/// C4, C6 where a message is delivered at most once.
#[test]
fn a_message_in_a_dead_receivers_hand_is_lost_where_that_is_asked_for() {
    let outcomes = Outcomes::default();
    let noted = outcomes.clone();
    sweep_wide("processes: the receiver dies, at most once", 10, move |step| {
        let ring = ring_of(Delivery::AtMostOnce);
        let mut tx = open(&ring, sender);
        tx.try_send(&[0; 8]).expect("room");
        let sends = thread::spawn(move || {
            let mut sent = tx.send(&[LAST; 8]);
            while sent.is_err() {
                thread::yield_now();
                sent = tx.send(&[LAST; 8]);
            }
            tx
        });
        let receives = thread::spawn(move || {
            let seen = AtomicUsize::new(0);
            let ended = ring.process().run(Some(step), |process| {
                let mut rx = receiver(process);
                let message = rx.recv().expect("sent");
                seen.fetch_add(1, Relaxed);
                drop(message);
            });
            let mut rx = open(&ring, receiver);
            let mut again = 0;
            while next(&mut rx) != (Got::Message { n: LAST, again: false }) {
                again += 1;
            }
            (ended.is_none(), seen.into_inner(), again, rx.stats().lost)
        });
        drop(sends.join().expect("ends"));
        let (died, seen, again, lost) = receives.join().expect("ends");
        assert!(seen + again <= 1, "never twice");
        noted.note(format!("{seen} seen, {again} again, {lost} lost"));
        died
    });
    outcomes.are(&[
        "0 seen, 1 again, 0 lost",
        "1 seen, 0 again, 0 lost",
        "1 seen, 0 again, 1 lost",
    ]);
}

/// Q3, W1: both ends come and go at once, and whoever sleeps is woken by the other's leaving. Nobody dies, so no slice ends.
#[test]
fn two_processes_that_come_and_go_lose_no_message_and_no_end() {
    let outcomes = Outcomes::default();
    let noted = outcomes.clone();
    explore("processes: both ends come and go", 100, move || {
        let ring = ring();
        let sends = thread::spawn({
            let ring = ring.clone();
            move || open(&ring, |process| sender(process).send(&[1; 8])).expect("nobody left")
        });
        let receives = thread::spawn(move || {
            open(&ring, |process| {
                let mut rx = receiver(process);
                let got = [next(&mut rx), next(&mut rx)];
                assert_eq!(got[0], Got::Message { n: 1, again: false });
                got[1]
            })
        });
        sends.join().expect("ends");
        noted.note(format!("{:?}", receives.join().expect("ends")));
    });
    outcomes.are(&["End(Some(Left))"]);
}

/// Q1: of two that take an end at once, one has it, and the other is told so; or one after the other.
#[test]
fn an_end_has_one_holder() {
    let outcomes = Outcomes::default();
    let noted = outcomes.clone();
    explore("processes: two senders open at once", 20, move || {
        let ring = ring();
        let opens = [1, 2].map(|n| {
            let ring = ring.clone();
            thread::spawn(move || {
                open(&ring, |process| match Sender::of(process) {
                    Ok(mut tx) => {
                        tx.try_send(&[n; 8]).expect("room");
                        true
                    }
                    Err(OpenError::SeatTaken { .. }) => false,
                    Err(other) => panic!("{other}"),
                })
            })
        });
        let sent = opens.map(|opens| opens.join().expect("ends"));
        let mut rx = open(&ring, receiver);
        let got: Vec<u8> = (0..sent.iter().filter(|sent| **sent).count())
            .map(|_| rx.try_recv().expect("sent").to_vec()[0])
            .collect();
        assert!(rx.try_recv().is_err());
        noted.note(format!("{got:?}"));
    });
    outcomes.are(&["[1, 2]", "[1]", "[2, 1]", "[2]"]);
}
