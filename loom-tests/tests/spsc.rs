//! The spsc ring: one sender, one receiver, 4 lines, and the death of either at every step.
//!
//! A dead actor's successor runs on the same model thread: it took over through the kernel's lock, which orders it behind
//! everything its predecessor did, as program order does.
#![cfg(loom)]

use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use loom::thread;
use quoit::model::geometry::Geometry;
use quoit::model::record;
use quoit::model::spsc::{Consumer, Producer};
use quoit::model::view::View;
use quoit::model::{Refused, actor, heap};
use quoit_loom_tests::{Outcomes, explore, face, sweep};

/// A ring of 4 lines whose positions wrap around 2^64 in the middle of the model.
fn ring() -> View {
    heap(Geometry::new(256).expect("legal"), 0u64.wrapping_sub(64))
}

/// The messages: the first has two lines, which do not fit before the end of the memory, so a pad comes first, and three
/// of the four lines are taken; the others have one line.
fn message(n: usize) -> Vec<u8> {
    let len = if n == 0 { 60 } else { 8 };
    (0..len).map(|at| (n * 64 + at) as u8).collect()
}

fn send(tx: &mut Producer, message: &[u8]) {
    loop {
        match tx.try_send(message) {
            Ok(()) => return,
            Err(Refused::Full) => loom::thread::yield_now(),
            Err(refused) => panic!("{refused:?}"),
        }
    }
}

/// Receives one message and releases it: its bytes, its position and its attempts.
fn receive(rx: &mut Consumer) -> (Vec<u8>, u64, u32) {
    loop {
        match face::take(rx, 0) {
            Ok(true) => {
                let mut bytes = vec![MaybeUninit::uninit(); rx.len()];
                let bytes = rx.read(&mut bytes).to_vec();
                let (position, attempts) = (rx.position(), rx.attempts());
                face::release(rx);
                return (bytes, position, attempts);
            }
            Ok(false) => loom::thread::yield_now(),
            Err(refused) => panic!("{refused:?}"),
        }
    }
}

/// R0, R0', S3, S4, S5, R2, R4 of docs/memory-ordering.md.
#[test]
fn what_is_sent_over_a_wrap_is_received_whole_and_in_order() {
    explore("spsc send and receive over a wrap", 100, || {
        let view = ring();
        let mut tx = Producer::attach(view.clone()).expect("sound");
        let mut rx = Consumer::attach(view, false).expect("sound");
        let sender = thread::spawn(move || (0..3).for_each(|n| send(&mut tx, &message(n))));
        let receiver = thread::spawn(move || {
            for n in 0..3 {
                let (bytes, _, attempts) = receive(&mut rx);
                assert_eq!((bytes, attempts), (message(n), 1));
            }
            assert_eq!(rx.has_message(), Ok(false));
        });
        sender.join().expect("ends");
        receiver.join().expect("ends");
    });
}

/// A1 to A6: the sender dies at each step of two sends; its successor sends one more.
#[test]
fn a_dead_senders_committed_messages_are_delivered_and_nothing_else_of_it() {
    let outcomes = Outcomes::default();
    let noted = outcomes.clone();
    sweep("the sender's death and successor", 10, move |step| {
        let view = ring();
        let accepted = Arc::new(AtomicUsize::new(0));
        let mut rx = Consumer::attach(view.clone(), false).expect("sound");
        let sender = thread::spawn({
            let accepted = Arc::clone(&accepted);
            move || {
                let ended = actor(Some(step), || {
                    let mut tx = Producer::attach(view.clone()).expect("sound");
                    for n in 0..2 {
                        send(&mut tx, &message(n));
                        accepted.fetch_add(1, Relaxed);
                    }
                });
                let mut tx = Producer::attach(view).expect("what the dead left is sound");
                send(&mut tx, &message(2));
                ended.is_none()
            }
        });
        let receiver = thread::spawn(move || {
            let mut delivered = 0;
            loop {
                let (bytes, _, attempts) = receive(&mut rx);
                assert_eq!(attempts, 1);
                if bytes == message(2) {
                    return (delivered, rx);
                }
                assert_eq!(bytes, message(delivered), "whole and in order");
                delivered += 1;
            }
        });
        let died = sender.join().expect("ends");
        let (delivered, mut rx) = receiver.join().expect("ends");
        assert_eq!(rx.has_message(), Ok(false), "nothing behind what the successor sent");
        let accepted = accepted.load(Relaxed);
        assert!(
            delivered == accepted || delivered == accepted + 1,
            "{accepted} accepted, {delivered} delivered"
        );
        noted.note(format!("{accepted}+{}", delivered - accepted));
        died
    });
    outcomes.are(&["0+0", "0+1", "1+0", "1+1", "2+0"]);
}

/// R1, R2, B1 to B4: the receiver dies at each step of two receives; its successor receives on.
#[test]
fn a_dead_receivers_unreleased_message_is_delivered_again_and_nothing_is_lost() {
    let outcomes = Outcomes::default();
    let noted = outcomes.clone();
    sweep("the receiver's death and successor", 10, move |step| {
        let view = ring();
        let mut tx = Producer::attach(view.clone()).expect("sound");
        let sender = thread::spawn(move || (0..3).for_each(|n| send(&mut tx, &message(n))));
        let receiver = thread::spawn(move || {
            let released = AtomicUsize::new(0);
            let last = std::sync::Mutex::new(None);
            let ended = actor(Some(step), || {
                let mut rx = Consumer::attach(view.clone(), false).expect("sound");
                for n in 0..2 {
                    let (bytes, position, attempts) = receive(&mut rx);
                    assert_eq!((bytes, attempts), (message(n), 1));
                    *last.lock().expect("no panic") = Some(position);
                    released.fetch_add(1, Relaxed);
                }
            });
            let released = released.into_inner();
            let mut rx = Consumer::attach(view, false).expect("what the dead left is sound");
            let (bytes, position, attempts) = receive(&mut rx);
            // Dead after the acknowledgement, before the call returned: one further than it could say.
            let first = (0..3).find(|&n| bytes == message(n)).expect("one of them");
            assert!(
                first == released || first == released + 1,
                "{released} released, then {first}"
            );
            assert!(
                last.into_inner().expect("no panic").is_none_or(|last| position != last),
                "no released one again"
            );
            for n in first + 1..3 {
                let (bytes, _, attempts) = receive(&mut rx);
                assert_eq!((bytes, attempts), (message(n), 1));
            }
            (ended.is_none(), released, first, attempts)
        });
        sender.join().expect("ends");
        let (died, released, first, attempts) = receiver.join().expect("ends");
        noted.note(format!(
            "{released}+{} {}",
            first - released,
            if attempts > 1 { "again" } else { "fresh" }
        ));
        died
    });
    outcomes.are(&[
        "0+0 again",
        "0+0 fresh",
        "0+1 fresh",
        "1+0 again",
        "1+0 fresh",
        "1+1 fresh",
        "2+0 fresh",
    ]);
}

/// S1, S3: nobody sees a batch before its first record, and whoever sees that sees all of it, over a wrap with a pad.
#[test]
fn a_batch_is_visible_at_one_point() {
    explore("spsc batch over a wrap", 50, || {
        let view = ring();
        let mut tx = Producer::attach(view.clone()).expect("sound");
        let mut rx = Consumer::attach(view, false).expect("sound");
        let sender = thread::spawn(move || {
            assert_eq!(
                tx.try_send_batch(&[message(0), message(1), message(2)]),
                Ok(2),
                "room for two"
            );
            send(&mut tx, &message(2));
        });
        let receiver = thread::spawn(move || {
            assert_eq!(receive(&mut rx).0, message(0));
            assert_eq!(rx.has_message(), Ok(true), "the second came with the first");
            assert_eq!(receive(&mut rx).0, message(1));
            assert_eq!(receive(&mut rx).0, message(2));
            assert_eq!(rx.has_message(), Ok(false));
        });
        sender.join().expect("ends");
        receiver.join().expect("ends");
    });
}

/// Payload that looks like records of the lines it lies on: word 0 of every line of a claim but the first is payload.
fn forge(view: &View, position: u64, lines: u64) {
    for line in 0..lines {
        let at = position.wrapping_add(line * 64);
        view.write(at, &record::message(at, 8, 16).to_ne_bytes());
    }
}

/// S2: what an abandoned claim wrote is not taken for a record, behind a shorter one or under a pad.
#[test]
fn a_forgotten_claim_leaves_nothing_behind_the_next_record_or_under_a_pad() {
    explore("spsc forgotten claims", 50, || {
        let start = 0u64.wrapping_sub(3 * 64);
        let view = heap(Geometry::new(512).expect("legal"), start);
        let mut tx = Producer::attach(view.clone()).expect("sound");
        let mut rx = Consumer::attach(view.clone(), false).expect("sound");
        // The scrub after an arrival, so that the claims below stand alone.
        tx.try_send(&message(1)).expect("room");
        assert_eq!(receive(&mut rx).0, message(1));
        let sender = thread::spawn(move || {
            // Two lines before the end of the memory, filled and forgotten; then a pad over them and four lines.
            let claim = tx.try_claim(60).expect("room");
            forge(&view, (claim.payload() & !63).wrapping_add(64), 1);
            send(&mut tx, &[7; 180]);
            // Three lines, filled and forgotten; then one.
            let claim = loop {
                match tx.try_claim(150) {
                    Ok(claim) => break claim,
                    Err(refused) => assert_eq!(refused, Refused::Full),
                }
                loom::thread::yield_now();
            };
            forge(&view, (claim.payload() & !63).wrapping_add(64), 2);
            send(&mut tx, &message(1));
            (tx, view)
        });
        let receiver = thread::spawn(move || {
            assert_eq!(receive(&mut rx).0, [7; 180]);
            assert_eq!(receive(&mut rx).0, message(1));
            rx
        });
        let ((mut tx, _view), mut rx) =
            (sender.join().expect("ends"), receiver.join().expect("ends"));
        // Over the lines of the old pad, one at a time.
        for _ in 0..5 {
            assert_eq!(rx.has_message(), Ok(false), "nothing that nobody sent");
            tx.try_send(&message(1)).expect("room");
            assert_eq!(receive(&mut rx).0, message(1));
        }
    });
}
