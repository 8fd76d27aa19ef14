//! What no other model comes to: each is here because something could be made wrong and no model failed
//! (loom-tests/mutants).
//!
//! Successors follow their predecessors on the same thread, as in `spsc.rs`; a [`Lock`] is that of `mpmc.rs`.
#![cfg(loom)]

use std::mem::MaybeUninit;
use std::sync::Arc;

use loom::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use loom::sync::atomic::{AtomicBool, AtomicU64};
use loom::thread;
use quoit::model::control::TAIL;
use quoit::model::geometry::{Geometry, Slots};
use quoit::model::mpmc::{self as slots, Losses, repair};
use quoit::model::record;
use quoit::model::spsc as bytes;
use quoit::model::view::View;
use quoit::model::{Refused, actor, heap, set_light};
use quoit::{Options, mpmc, spsc};
use quoit_loom_tests::{Outcomes, explore, explore_wide, face, sweep};

const LINE: u64 = 64;

/// A ring of bytes of 4 lines.
fn lines() -> View {
    heap(Geometry::new(4 * LINE).expect("legal"), 0)
}

fn send(tx: &mut bytes::Producer, n: u8) {
    loop {
        match tx.try_send(&[n; 8]) {
            Ok(()) => return,
            Err(refused) => assert_eq!(refused, Refused::Full),
        }
        thread::yield_now();
    }
}

/// The next message: its number, and how often it was handed out. It stays in hand.
fn take(rx: &mut bytes::Consumer) -> (u8, u32) {
    while !face::take(rx, 0).expect("sound") {
        thread::yield_now();
    }
    let mut room = [MaybeUninit::uninit(); 8];
    let got = rx.read(&mut room);
    assert_eq!(got, [got[0]; 8], "torn");
    (got[0], rx.attempts())
}

fn receive(rx: &mut bytes::Consumer) -> (u8, u32) {
    let got = take(rx);
    face::release(rx);
    got
}

/// B3, B4, A4, A5: a sender and a receiver died, and their successors come at the same time. What the dead receiver had
/// acknowledged and not reset yet is reset while the new sender walks over it.
#[test]
fn successors_of_both_ends_may_come_at_the_same_time() {
    let outcomes = Outcomes::default();
    let noted = outcomes.clone();
    sweep("successors of both ends", 6, move |step| {
        let view = lines();
        send(&mut bytes::Producer::attach(view.clone()).expect("sound"), 1);
        // As whoever dies between the commit and the index leaves it (C2).
        view.word(TAIL).store(0, Relaxed);
        let receiver = thread::spawn({
            let view = view.clone();
            move || {
                let ended = actor(Some(step), || {
                    let mut rx = bytes::Consumer::attach(view.clone(), false).expect("sound");
                    assert_eq!(receive(&mut rx), (1, 1));
                });
                let mut rx = bytes::Consumer::attach(view, false).expect("sound");
                let mut got = Vec::new();
                while got.last() != Some(&2) {
                    got.push(receive(&mut rx).0);
                }
                assert_eq!(rx.has_message(), Ok(false));
                (ended.is_none(), got)
            }
        });
        let sender = thread::spawn(move || {
            send(&mut bytes::Producer::attach(view).expect("sound"), 2);
        });
        sender.join().expect("ends");
        let (died, got) = receiver.join().expect("ends");
        assert!(got == [1, 2] || got == [2], "{got:?}");
        noted.note(format!("{got:?}"));
        died
    });
    assert_eq!(outcomes.seen(), ["[1, 2]", "[2]"]);
}

/// T2: a message that kills its receivers says how many it had, and the one behind it does not.
#[test]
fn a_message_that_outlives_two_receivers_says_so_and_the_next_does_not() {
    sweep("two deaths with one message", 10, |step| {
        let view = lines();
        let mut tx = bytes::Producer::attach(view.clone()).expect("sound");
        let sender = thread::spawn(move || (1..=2).for_each(|n| send(&mut tx, n)));
        let receiver = thread::spawn(move || {
            let attach = || bytes::Consumer::attach(view.clone(), false).expect("sound");
            // The first one dies with the message in hand, always.
            assert_eq!(take(&mut attach()), (1, 1));
            let released = std::cell::Cell::new(false);
            let taken = std::cell::Cell::new(false);
            let ended = actor(Some(step), || {
                let mut rx = attach();
                assert_eq!(take(&mut rx), (1, 2));
                taken.set(true);
                face::release(&mut rx);
                released.set(true);
                assert_eq!(take(&mut rx), (2, 1));
            });
            let mut rx = attach();
            let (mut n, mut attempts) = take(&mut rx);
            assert!(n == 2 || !released.get());
            if n == 1 {
                // Dead before it was noted, while it was in hand, or in the middle of releasing it: marked in any case.
                let most = 2 + u32::from(taken.get());
                assert!((2..=3).contains(&attempts), "{attempts}");
                assert!(attempts <= most || !taken.get(), "{attempts}");
                face::release(&mut rx);
                (n, attempts) = take(&mut rx);
                assert_eq!(attempts, 1, "the next one was never handed out");
            }
            assert!(n == 2 && attempts <= 2, "{n} {attempts}");
            face::release(&mut rx);
            ended.is_none()
        });
        sender.join().expect("ends");
        receiver.join().expect("ends")
    });
}

/// T2, without a third death in between: the count goes on from holder to holder.
#[test]
fn each_holder_of_a_message_is_counted() {
    explore("three holders of one message", 2, || {
        let view = lines();
        let mut tx = bytes::Producer::attach(view.clone()).expect("sound");
        let sender = thread::spawn(move || (1..=2).for_each(|n| send(&mut tx, n)));
        let receiver = thread::spawn(move || {
            let attach = || bytes::Consumer::attach(view.clone(), false).expect("sound");
            for attempts in 1..=3 {
                assert_eq!(take(&mut attach()), (1, attempts));
            }
            assert_eq!(receive(&mut attach()), (1, 4));
            // Its count went with it.
            assert_eq!(take(&mut attach()), (2, 1));
            assert_eq!(receive(&mut attach()), (2, 2));
        });
        sender.join().expect("ends");
        receiver.join().expect("ends");
    });
}

/// C4, at most once: what a dead receiver had in hand is counted lost, is not handed out again, and makes room; what a living
/// one gives back is.
#[test]
fn at_most_once_a_dead_receivers_message_is_lost_and_one_given_back_is_not() {
    let outcomes = Outcomes::default();
    let noted = outcomes.clone();
    sweep("spsc at most once", 8, move |step| {
        let view = lines();
        let mut tx = bytes::Producer::attach(view.clone()).expect("sound");
        (1..=4).for_each(|n| send(&mut tx, n));
        // The line of what is lost is used again.
        let sender = thread::spawn(move || send(&mut tx, 5));
        let receiver = thread::spawn(move || {
            let had = std::cell::Cell::new(0);
            let ended = actor(Some(step), || {
                let mut rx = bytes::Consumer::attach(view.clone(), true).expect("sound");
                assert_eq!(take(&mut rx), (1, 1));
                had.set(1);
                rx.give_back();
                assert_eq!(take(&mut rx), (1, 2));
                face::release(&mut rx);
            });
            let mut rx = bytes::Consumer::attach(view, true).expect("sound");
            let (first, attempts) = receive(&mut rx);
            // Given back is not lost. Whatever else it had is.
            assert!(first == 2 || attempts == 1 + had.get(), "{first} {attempts}");
            assert_eq!(attempts > 1, first == 1 && had.get() == 1);
            for n in first + 1..=5 {
                assert_eq!(receive(&mut rx), (n, 1));
            }
            assert_eq!(rx.has_message(), Ok(false));
            let lost = rx.troubles().0;
            assert!(lost <= 1 && (lost == 0 || ended.is_none()));
            (ended.is_none(), had.get(), first, lost)
        });
        sender.join().expect("ends");
        let (died, had, first, lost) = receiver.join().expect("ends");
        noted.note(format!("{had} {first} {lost}"));
        died
    });
    outcomes.are(&["0 1 0", "1 1 0", "1 2 0", "1 2 1"]);
}

/// C4, R0': what was lost leaves the receiver as if it had never been: the next message is waited for, and counted for itself.
#[test]
fn at_most_once_what_comes_behind_a_loss_is_like_any_other() {
    explore("spsc behind a loss", 10, || {
        let view = lines();
        let mut tx = bytes::Producer::attach(view.clone()).expect("sound");
        send(&mut tx, 1);
        assert_eq!(take(&mut bytes::Consumer::attach(view.clone(), true).expect("sound")), (1, 1));
        let mut rx = bytes::Consumer::attach(view, true).expect("sound");
        assert_eq!(face::take(&mut rx, 0), Ok(false), "its predecessor had it");
        let sender = thread::spawn(move || {
            tx.try_send(&[]).expect("room");
            (2..=3).for_each(|n| send(&mut tx, n));
        });
        let receiver = thread::spawn(move || {
            // As long as what a new receiver compares with.
            while !face::take(&mut rx, 0).expect("sound") {
                thread::yield_now();
            }
            assert_eq!((rx.len(), rx.attempts()), (0, 1));
            face::release(&mut rx);
            rx.has_message().expect("sound");
            assert_eq!(take(&mut rx), (2, 1));
            rx.give_back();
            assert_eq!(take(&mut rx), (2, 2));
            // Forgotten.
            assert_eq!(take(&mut rx), (3, 1));
            assert_eq!(rx.troubles().0, 2);
        });
        sender.join().expect("ends");
        receiver.join().expect("ends");
    });
}

/// Payload that looks like records of the lines it lies on.
fn forge(view: &View, position: u64, lines: u64) {
    for line in 0..lines {
        let at = position + line * LINE;
        view.write(at, &record::message(at, 8, 16).to_ne_bytes());
    }
}

/// S2: what a forgotten claim wrote is clean before the shorter record in its place can be seen.
#[test]
fn what_a_forgotten_claim_wrote_is_scrubbed_before_the_next_commit() {
    explore("a forgotten claim and an eager receiver", 10, || {
        let view = lines();
        let mut tx = bytes::Producer::attach(view.clone()).expect("sound");
        let mut rx = bytes::Consumer::attach(view.clone(), false).expect("sound");
        send(&mut tx, 0);
        assert_eq!(receive(&mut rx), (0, 1));
        tx.try_claim(60).expect("room");
        forge(&view, 2 * LINE, 1);
        // A shorter one in its place, forgotten as well.
        tx.try_claim(8).expect("room");
        let sender = thread::spawn(move || send(&mut tx, 1));
        let receiver = thread::spawn(move || {
            assert_eq!(receive(&mut rx), (1, 1));
            assert_eq!(rx.has_message(), Ok(false), "nothing that nobody sent");
        });
        sender.join().expect("ends");
        receiver.join().expect("ends");
    });
}

/// S2: the same of a batch that was begun and refused.
#[test]
fn what_a_refused_batch_wrote_is_scrubbed_before_the_next_commit() {
    explore("a refused batch and an eager receiver", 10, || {
        let view = lines();
        let mut tx = bytes::Producer::attach(view.clone()).expect("sound");
        let mut rx = bytes::Consumer::attach(view, false).expect("sound");
        send(&mut tx, 0);
        assert_eq!(receive(&mut rx), (0, 1));
        let mut looks_like_a_record = vec![0; 60];
        looks_like_a_record[48..56]
            .copy_from_slice(&record::message(2 * LINE, 8, 16).to_ne_bytes());
        let batch = [looks_like_a_record, vec![0; 1000]];
        assert_eq!(tx.try_send_batch(&batch), Err(Refused::TooLong));
        let sender = thread::spawn(move || send(&mut tx, 1));
        let receiver = thread::spawn(move || {
            assert_eq!(receive(&mut rx), (1, 1));
            assert_eq!(rx.has_message(), Ok(false), "nothing that nobody sent");
        });
        sender.join().expect("ends");
        receiver.join().expect("ends");
    });
}

/// S2, under the pad of a batch.
#[test]
fn what_a_forgotten_claim_wrote_is_scrubbed_under_the_pad_of_a_batch() {
    explore("a forgotten claim under a pad", 2, || {
        let view = heap(Geometry::new(8 * LINE).expect("legal"), 5 * LINE);
        let mut tx = bytes::Producer::attach(view.clone()).expect("sound");
        let mut rx = bytes::Consumer::attach(view.clone(), false).expect("sound");
        send(&mut tx, 0);
        assert_eq!(receive(&mut rx), (0, 1));
        // Two lines to the end of the memory, filled and forgotten; then a batch that needs four.
        tx.try_claim(60).expect("room");
        forge(&view, 7 * LINE, 1);
        let sender = thread::spawn(move || {
            assert_eq!(tx.try_send_batch(&[[1; 180]]), Ok(1));
            tx
        });
        let receiver = thread::spawn(move || {
            while !face::take(&mut rx, 0).expect("sound") {
                thread::yield_now();
            }
            assert_eq!(rx.len(), 180);
            face::release(&mut rx);
            rx
        });
        let mut tx = sender.join().expect("ends");
        let mut rx = receiver.join().expect("ends");
        // Over the lines of the pad, one at a time.
        for n in 0..5 {
            assert_eq!(rx.has_message(), Ok(false), "nothing that nobody sent");
            send(&mut tx, n);
            assert_eq!(receive(&mut rx), (n, 1));
        }
    });
}

/// B4: what a dead receiver had acknowledged is published by the next one, who may have nothing to receive.
#[test]
fn a_new_receiver_publishes_what_the_dead_one_had_acknowledged() {
    sweep("a receiver's death and the room it leaves", 8, |step| {
        let view = lines();
        let mut tx = bytes::Producer::attach(view.clone()).expect("sound");
        let sender = thread::spawn(move || {
            (1..=2).for_each(|n| send(&mut tx, n));
            tx
        });
        let receiver = thread::spawn(move || {
            let ended = actor(Some(step), || {
                let mut rx = bytes::Consumer::attach(view.clone(), false).expect("sound");
                assert_eq!((receive(&mut rx).0, receive(&mut rx).0), (1, 2));
            });
            (ended.is_none(), bytes::Consumer::attach(view, false).expect("sound"))
        });
        let mut tx = sender.join().expect("ends");
        let (died, mut rx) = receiver.join().expect("ends");
        let left = rx.unread().expect("sound");
        assert_eq!(tx.unreleased(), Ok(left), "what is not there to be received is room");
        died
    });
}

/// R0, in a look that only asks whether there is something: the take behind it looks for itself.
#[test]
fn a_receiver_that_looks_before_it_takes_gets_it_whole() {
    explore("looking before taking", 10, || {
        let view = lines();
        let mut tx = bytes::Producer::attach(view.clone()).expect("sound");
        let mut rx = bytes::Consumer::attach(view, false).expect("sound");
        let sender = thread::spawn(move || (1..=2).for_each(|n| send(&mut tx, n)));
        let receiver = thread::spawn(move || {
            for n in 1..=2 {
                while !face::take(&mut rx, 1).expect("sound") {
                    thread::yield_now();
                }
                let mut room = [MaybeUninit::uninit(); 8];
                assert_eq!((rx.read(&mut room), rx.attempts()), (&mut [n; 8][..], 1));
                face::release(&mut rx);
            }
        });
        sender.join().expect("ends");
        receiver.join().expect("ends");
    });
}

// The ends of streams, with light fences that hold the compiler only: nobody sleeps.

/// Q3: who lets go of a ring of bytes has sent what it sent.
#[test]
fn the_end_of_a_stream_of_bytes_is_behind_its_last_message() {
    explore("spsc: the end, no fences", 20, || {
        set_light(true);
        let (mut tx, mut rx) =
            spsc::channel(&Options::new().capacity(256)).expect("legal in a model");
        let sender = thread::spawn(move || tx.try_send(&[1; 8]).expect("room"));
        rx.set_wait(quoit::Wait::Spin);
        let receiver = thread::spawn(move || {
            let got = rx.recv().expect("told the end before the last message").to_vec();
            assert_eq!(got, [1; 8]);
            assert!(rx.recv().expect_err("nothing else was sent").is_disconnected());
        });
        sender.join().expect("ends");
        receiver.join().expect("ends");
    });
}

fn ring_of_slots() -> (mpmc::Sender, mpmc::Receiver) {
    mpmc::channel(&Options::new().capacity(2).max_len(8)).expect("legal in a model")
}

/// K1, K4: the last sender of a ring of slots has sent what it sent.
#[test]
fn the_end_of_a_stream_of_slots_is_behind_its_last_message() {
    explore("mpmc: the end, no fences", 20, || {
        set_light(true);
        let (tx, rx) = ring_of_slots();
        let sender = thread::spawn(move || tx.try_send(&[1]).expect("room"));
        rx.set_wait(quoit::Wait::Spin);
        let receiver = thread::spawn(move || {
            let got = rx.recv().expect("told the end before the last message").to_vec();
            assert_eq!(got, [1]);
            assert!(rx.recv().expect_err("nothing else was sent").is_disconnected());
        });
        sender.join().expect("ends");
        receiver.join().expect("ends");
    });
}

/// K4: a sender that never sleeps learns that the last receiver has left, at the latest when it is sure to have.
#[test]
fn a_sender_that_is_awake_learns_that_the_last_receiver_has_left() {
    let outcomes = Outcomes::default();
    let noted = outcomes.clone();
    explore("mpmc: the last receiver leaves", 10, move || {
        set_light(true);
        let (tx, rx) = ring_of_slots();
        let receiver = thread::spawn(move || drop(rx));
        let sender = thread::spawn(move || {
            let early = tx.try_send(&[1]).is_err();
            (tx, early)
        });
        receiver.join().expect("ends");
        let (tx, early) = sender.join().expect("ends");
        assert!(tx.try_send(&[2]).expect_err("it has left").is_disconnected());
        noted.note(early);
    });
    outcomes.are(&["false", "true"]);
}

/// M5, M7, W5: whoever is told that the stream has ended sees what the last holder did before its release.
#[test]
fn the_end_of_a_stream_is_behind_the_last_release() {
    explore("mpmc: the end and the last holder, no fences", 10, || {
        set_light(true);
        let (tx, rx) = ring_of_slots();
        tx.try_send(&[1]).expect("room");
        let other = rx.clone();
        let done = Arc::new(AtomicU64::new(0));
        drop(tx);
        let holder = thread::spawn({
            let done = Arc::clone(&done);
            move || {
                if let Ok(held) = other.try_recv() {
                    done.store(1, Relaxed);
                    drop(held);
                }
                other
            }
        });
        let waiter = thread::spawn(move || {
            for _ in 0..3 {
                match rx.try_recv() {
                    Ok(_) => break,
                    Err(error) if error.is_disconnected() => {
                        assert_eq!(done.load(Relaxed), 1, "told the end before the last release");
                        break;
                    }
                    Err(_) => thread::yield_now(),
                }
            }
            rx
        });
        drop((holder.join().expect("ends"), waiter.join().expect("ends")));
    });
}

/// W5: the last message of a stream, in another's hand, is waited for: it may come back.
#[test]
fn a_last_message_that_is_given_back_is_received_by_whoever_waits_for_the_end() {
    let outcomes = Outcomes::default();
    let noted = outcomes.clone();
    explore("mpmc: the last message comes back", 10, move || {
        let (tx, rx) = ring_of_slots();
        rx.set_wait(quoit::Wait::Block);
        tx.try_send(&[1]).expect("room");
        let other = rx.clone();
        drop(tx);
        let giver = thread::spawn(move || {
            let given = other.try_recv().map(|held| held.give_back()).is_ok();
            (given, other)
        });
        let waiter = thread::spawn(move || {
            let got = rx.recv().map(|message| message.attempts());
            assert!(rx.recv().expect_err("nothing more").is_disconnected());
            (got.expect("nobody released it"), rx)
        });
        let (attempts, rx) = waiter.join().expect("ends");
        let (given, other) = giver.join().expect("ends");
        noted.note(format!("{given} {attempts}"));
        drop((rx, other));
    });
    outcomes.are(&["false 1", "true 2"]);
}

/// W5: the release of the last message wakes all who wait for the end; where there were several, the last of them does.
#[test]
fn the_last_release_wakes_all_who_wait_for_the_end() {
    for messages in 1..=2u8 {
        explore(&format!("mpmc: two wait for {messages} releases"), 10, move || {
            let (tx, rx) = ring_of_slots();
            rx.set_wait(quoit::Wait::Block);
            (0..messages).for_each(|n| tx.try_send(&[n]).expect("room"));
            drop(tx);
            let waits = |rx: mpmc::Receiver| {
                thread::spawn(move || {
                    assert!(rx.recv().expect_err("all are in hand").is_disconnected());
                    rx
                })
            };
            let holder = thread::spawn(move || {
                let held: Vec<_> = (0..messages).map(|_| rx.try_recv().expect("there")).collect();
                let waiters = [waits(rx.clone()), waits(rx.clone())];
                held.into_iter().for_each(drop);
                drop(waiters.map(|waiter| waiter.join().expect("ends")));
            });
            holder.join().expect("ends");
        });
    }
}

/// W5: who holds a message waits for no other's.
#[test]
fn two_who_hold_the_last_messages_do_not_wait_for_each_other() {
    let outcomes = Outcomes::default();
    let noted = outcomes.clone();
    explore("mpmc: two hold the last messages", 10, move || {
        let (tx, rx) = ring_of_slots();
        rx.set_wait(quoit::Wait::Block);
        tx.try_send(&[1]).expect("room");
        tx.try_send(&[2]).expect("room");
        drop(tx);
        let holds = |rx: mpmc::Receiver| {
            thread::spawn(move || {
                // The other one may have taken both.
                let Ok(held) = rx.try_recv() else { return (rx, false) };
                let told = rx.recv().is_err_and(|error| error.is_disconnected());
                drop(held);
                (rx, told)
            })
        };
        let holders = [holds(rx.clone()), holds(rx)].map(|holder| holder.join().expect("ends"));
        noted.note(holders.iter().filter(|holder| holder.1).count());
    });
    outcomes.are(&["0", "2"]);
}

/// W1: room of a claim that was given up wakes a sender that sleeps for just that slot.
#[test]
fn a_claim_stepped_over_makes_room_for_a_sleeping_sender() {
    explore("mpmc: room of a claim given up", 10, || {
        let (mut tx, rx) = ring_of_slots();
        tx.set_wait(quoit::Wait::Block);
        let other = tx.clone();
        drop(tx.reserve(1).expect("room"));
        tx.try_send(&[1]).expect("room");
        let sender = thread::spawn(move || {
            other.send(&[2]).expect("the receiver stays");
            other
        });
        let receiver = thread::spawn(move || {
            // Steps over the claim; what lies behind it stays in hand, so there is no other room.
            let held = rx.try_recv().expect("there");
            let other = sender.join().expect("ends");
            drop(held);
            (rx, other)
        });
        drop((receiver.join().expect("ends"), tx));
    });
}

/// K4: the last sender's leaving wakes all who sleep, where no message does.
#[test]
fn the_end_alone_wakes_every_sleeping_receiver() {
    explore_wide("mpmc: two asleep and the end", 10, || {
        let (tx, rx) = ring_of_slots();
        rx.set_wait(quoit::Wait::Block);
        let waits = |rx: mpmc::Receiver| {
            thread::spawn(move || {
                assert!(rx.recv().expect_err("nothing is sent").is_disconnected());
                rx
            })
        };
        let waiters = [waits(rx.clone()), waits(rx)];
        let sender = thread::spawn(move || drop(tx));
        let kept = waiters.map(|waiter| waiter.join().expect("ends"));
        sender.join().expect("ends");
        drop(kept);
    });
}

/// K4: the last receiver's leaving wakes a sender that sleeps on a full ring.
#[test]
fn the_last_receivers_leaving_wakes_a_sender_that_sleeps() {
    explore("mpmc: full waits and the last receiver leaves", 10, || {
        let (tx, rx) = ring_of_slots();
        tx.set_wait(quoit::Wait::Block);
        tx.try_send(&[1]).expect("room");
        tx.try_send(&[2]).expect("room");
        let sender = thread::spawn(move || {
            assert!(tx.send(&[3]).expect_err("nobody makes room").is_disconnected());
        });
        let receiver = thread::spawn(move || drop(rx));
        sender.join().expect("ends");
        receiver.join().expect("ends");
    });
}

/// W1, of a send that waited for room: the receiver may be asleep by the time it is made.
#[test]
fn a_send_that_waited_wakes_the_receiver() {
    explore("spsc: full waits, then empty waits", 10, || {
        let (mut tx, mut rx) =
            spsc::channel(&Options::new().capacity(256)).expect("legal in a model");
        tx.set_wait(quoit::Wait::Block);
        rx.set_wait(quoit::Wait::Block);
        (1..=4u8).for_each(|n| tx.try_send(&[n; 8]).expect("room"));
        let sender = thread::spawn(move || {
            tx.send(&[5; 8]).expect("the receiver stays");
            tx
        });
        let receiver = thread::spawn(move || {
            for n in 1..=5u8 {
                assert_eq!(rx.recv().expect("sent").to_vec(), [n; 8]);
            }
            rx
        });
        drop((sender.join().expect("ends"), receiver.join().expect("ends")));
    });
}

/// W1, of a message that was given back: its release is another path.
#[test]
fn the_release_of_a_message_that_came_again_wakes_the_sender() {
    explore("spsc: full waits for what was given back", 10, || {
        let (mut tx, mut rx) =
            spsc::channel(&Options::new().capacity(256)).expect("legal in a model");
        tx.set_wait(quoit::Wait::Block);
        (1..=4u8).for_each(|n| tx.try_send(&[n; 8]).expect("room"));
        let sender = thread::spawn(move || {
            tx.send(&[5; 8]).expect("the receiver stays");
            tx
        });
        let receiver = thread::spawn(move || {
            rx.try_recv().expect("there").give_back();
            assert_eq!(rx.try_recv().expect("there").attempts(), 2);
            rx
        });
        drop((sender.join().expect("ends"), receiver.join().expect("ends")));
    });
}

// The ring of slots itself.

const A: u32 = 1;
const B: u32 = 2;
const C: u32 = 11;
const D: u32 = 12;

fn two_slots() -> View<Slots> {
    quoit::model::slots(Slots::new(2, 8, 1).expect("legal"), 0)
}

fn producer(ring: &View<Slots>, me: u32) -> slots::Producer {
    slots::Producer::attach(ring.clone(), me).expect("sound")
}

fn consumer(ring: &View<Slots>, me: u32) -> slots::Consumer {
    slots::Consumer::attach(ring.clone(), me).expect("sound")
}

fn try_take(rx: &slots::Consumer) -> Option<(slots::Held, u8)> {
    let held = rx.try_take().expect("sound")?;
    let mut room = [MaybeUninit::uninit(); 8];
    let got = rx.read(&held, &mut room);
    assert_eq!(got, [got[0]; 8], "torn");
    Some((held, got[0]))
}

fn try_receive(rx: &slots::Consumer) -> Option<u8> {
    let (held, got) = try_take(rx)?;
    rx.release(&held);
    Some(got)
}

/// Sends messages of these numbers as long as there is room.
fn sends(tx: &slots::Producer, numbers: std::ops::RangeInclusive<u8>) -> usize {
    numbers.take_while(|&n| tx.try_send(&[n; 8]).is_ok()).count()
}

/// M5, M6: a receiver that looks before it takes.
#[test]
fn a_receiver_that_looks_before_it_takes_a_slot_gets_it_whole() {
    explore("mpmc: looking before taking", 10, || {
        let ring = two_slots();
        let (tx, rx) = (producer(&ring, A), consumer(&ring, C));
        let sender = thread::spawn(move || sends(&tx, 1..=2));
        let receiver = thread::spawn(move || {
            let mut got = Vec::new();
            for _ in 0..2 {
                let now = rx.take_now(1).expect("sound");
                let held = now.or_else(|| rx.take_with_care().expect("sound").then(|| rx.taken()));
                if let Some(held) = held {
                    let mut room = [MaybeUninit::uninit(); 8];
                    got.push(rx.read(&held, &mut room)[0]);
                    rx.release(&held);
                }
            }
            (got, rx)
        });
        assert_eq!(sender.join().expect("ends"), 2);
        let (mut got, rx) = receiver.join().expect("ends");
        got.extend(std::iter::from_fn(|| try_receive(&rx)));
        assert_eq!(got, [1, 2]);
    });
}

/// M8: a search that one gift began finds another before its giver has said so.
#[test]
fn a_gift_found_by_the_search_for_another_is_whole() {
    explore("mpmc: two gifts", 10, || {
        let ring = two_slots();
        let (tx, giver) = (producer(&ring, A), consumer(&ring, C));
        assert_eq!(sends(&tx, 1..=2), 2);
        let first = try_take(&giver).expect("there").0;
        giver.give_back(&first);
        // As long as the first one is aside it is the next.
        let rx = consumer(&ring, D);
        let (first, _) = try_take(&rx).expect("aside");
        let late = consumer(&ring, C + 2);
        let giver = thread::spawn(move || {
            if let Some((second, n)) = try_take(&giver) {
                assert_eq!(n, 2);
                giver.give_back(&second);
            }
        });
        let receiver = thread::spawn(move || {
            // Its first search: the first gift's epoch is news to it.
            let got = try_take(&late).map(|(held, n)| {
                let attempts = held.attempts();
                late.release(&held);
                (n, attempts)
            });
            assert!(got.is_none_or(|(n, attempts)| n == 2 && attempts <= 2), "{got:?}");
            (usize::from(got.is_some()), late)
        });
        giver.join().expect("ends");
        let (got, late) = receiver.join().expect("ends");
        rx.release(&first);
        // What it missed in its search it searches for again.
        assert_eq!(got + std::iter::from_fn(|| try_receive(&late)).count(), 1);
    });
}

/// E3: two messages that are aside are both found, by one receiver or by two. The next message in a slot is a new one.
#[test]
fn all_that_is_aside_is_found_and_the_next_lap_is_new() {
    explore("mpmc: two aside", 10, || {
        let ring = two_slots();
        let (tx, giver) = (producer(&ring, A), consumer(&ring, C));
        assert_eq!(sends(&tx, 1..=2), 2);
        let both = [try_take(&giver).expect("there").0, try_take(&giver).expect("there").0];
        both.iter().for_each(|held| giver.give_back(held));
        let again = |rx: &slots::Consumer| {
            let (held, n) = try_take(rx)?;
            assert_eq!((held.attempts(), n <= 2), (2, true));
            rx.release(&held);
            Some(n)
        };
        let receivers = [D, D + 1].map(|me| {
            let rx = consumer(&ring, me);
            thread::spawn(move || (again(&rx), again(&rx), rx))
        });
        let [(a, b, rx), (c, d, _)] = receivers.map(|receiver| receiver.join().expect("ends"));
        let mut got: Vec<u8> = [a, b, c, d].into_iter().flatten().collect();
        got.extend(again(&rx));
        got.extend(again(&rx));
        got.sort_unstable();
        assert_eq!(got, [1, 2]);
        // The slots of two that were handed out twice.
        assert_eq!(sends(&tx, 3..=4), 2);
        for n in 3..=4 {
            let (held, got) = try_take(&rx).expect("there");
            assert_eq!((held.attempts(), got), (1, n));
            rx.give_back(&held);
            let (held, got) = try_take(&rx).expect("aside");
            assert_eq!((held.attempts(), got), (2, n));
            rx.release(&held);
        }
    });
}

/// M9, its Release: a receiver that was idle jumps over what others took, on the word of a slot whose claim was stepped over.
#[test]
fn an_idle_receiver_catches_up_over_a_claim_that_was_stepped_over() {
    explore("mpmc: an idle receiver and a claim given up", 10, || {
        let ring = two_slots();
        let idle = consumer(&ring, D);
        let (tx, rx) = (producer(&ring, A), consumer(&ring, C));
        let active = thread::spawn(move || {
            let mut got = Vec::new();
            assert_eq!(sends(&tx, 1..=1), 1);
            got.extend(try_receive(&rx));
            assert_eq!(sends(&tx, 2..=2), 1);
            // Position 2, in the slot of 0.
            if let Ok(claim) = tx.try_claim(8) {
                tx.abort(claim);
            }
            // The message between, and then over the claim.
            got.extend(try_receive(&rx));
            got.extend(try_receive(&rx));
            (got, rx)
        });
        let idle = thread::spawn(move || try_receive(&idle));
        let (mut got, rx) = active.join().expect("ends");
        got.extend(idle.join().expect("ends"));
        got.extend(std::iter::from_fn(|| try_receive(&rx)));
        got.sort_unstable();
        assert_eq!(got, [1, 2]);
    });
}

/// A seat's lock: held from the start, free when its holder is gone.
struct Lock(AtomicBool);

impl Lock {
    fn held() -> Arc<Lock> {
        Arc::new(Lock(AtomicBool::new(false)))
    }

    fn let_go(&self) {
        self.0.store(true, Release);
    }

    fn is_free(&self) -> bool {
        self.0.load(Acquire)
    }
}

struct Nobody;

impl Losses for Nobody {
    fn about_to_lose(&self, _: u32, _: u64) {}
    fn lost(&self, _: u32) {}
}

/// G2, its Release: what a dead sender wrote into its slot is behind the next lap's message there.
#[test]
fn what_a_dead_sender_wrote_does_not_reach_into_the_next_lap() {
    let outcomes = Outcomes::default();
    let noted = outcomes.clone();
    explore("mpmc: half a message and the next lap", 20, move || {
        let ring = two_slots();
        let (dead, tx, rx) = (producer(&ring, A), producer(&ring, B), consumer(&ring, C));
        let claim = dead.try_claim(8).expect("room");
        assert_eq!(sends(&tx, 1..=1), 1);
        let lock = Lock::held();
        let mortal = thread::spawn({
            let (ring, lock) = (ring.clone(), Arc::clone(&lock));
            move || {
                ring.write_data(dead.payload(claim), &[7; 8]);
                lock.let_go();
            }
        });
        let reaper = thread::spawn({
            let (ring, lock) = (ring.clone(), Arc::clone(&lock));
            move || {
                if lock.is_free() {
                    repair(&ring, |owner| owner == A, None::<&Nobody>);
                }
            }
        });
        // The one that steps over it is not the one that repaired it, and the sender saw neither die.
        let receiver = thread::spawn(move || try_receive(&rx));
        let sender = thread::spawn(move || sends(&tx, 2..=2));
        mortal.join().expect("ends");
        reaper.join().expect("ends");
        let (got, sent) = (receiver.join().expect("ends"), sender.join().expect("ends"));
        noted.note(format!("{sent} {got:?}"));
    });
    outcomes.are(&["0 None", "0 Some(1)", "1 Some(1)"]);
}
