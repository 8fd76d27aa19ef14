//! Sleeping and waking with several sleepers on one word: `mpmc::channel`, whose handles are cloned.
//!
//! A sleep of the model has no slices, so a lost wake-up is a deadlock, which loom reports. A handle that is kept until the
//! end wakes nobody by leaving.
#![cfg(loom)]

use loom::thread;
use quoit::mpmc::{self, Receiver, Sender};
use quoit::{Options, Wait};
use quoit_loom_tests::{Outcomes, explore, explore_wide};

fn ring() -> (Sender, Receiver) {
    let (tx, rx) = mpmc::channel(&Options::new().capacity(2).max_len(8)).expect("legal in a model");
    tx.set_wait(Wait::Block);
    rx.set_wait(Wait::Block);
    (tx, rx)
}

/// Receives one message in a thread of its own, and keeps the handle.
fn receives(rx: &Receiver) -> thread::JoinHandle<(Vec<u8>, Receiver)> {
    let rx = rx.clone();
    thread::spawn(move || {
        let got = rx.recv().expect("somebody sends").to_vec();
        (got, rx)
    })
}

/// W1, W2, W4: two messages wake two sleepers.
#[test]
fn each_of_two_sleeping_receivers_gets_a_message() {
    explore_wide("crowd: two receivers asleep", 100, || {
        let (tx, rx) = ring();
        let receivers = [receives(&rx), receives(&rx)];
        let sender = thread::spawn(move || {
            tx.try_send(&[1]).expect("room");
            tx.try_send(&[2]).expect("room");
            tx
        });
        let mut got = receivers.map(|receiver| receiver.join().expect("ends"));
        got.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!((got[0].0[0], got[1].0[0]), (1, 2));
        sender.join().expect("ends");
    });
}

/// W1, W2, W4: of two wakers at once each has its message received, by one who sleeps for both.
#[test]
fn two_senders_at_once_wake_one_receiver_for_both_messages() {
    let outcomes = Outcomes::default();
    let noted = outcomes.clone();
    explore("crowd: two wakers, one sleeper", 100, move || {
        let (tx, rx) = ring();
        let senders = [1, 2].map(|n| {
            let tx = tx.clone();
            thread::spawn(move || {
                tx.try_send(&[n]).expect("room");
                tx
            })
        });
        let receiver =
            thread::spawn(move || [0; 2].map(|_| rx.recv().expect("somebody sends").to_vec()[0]));
        noted.note(format!("{:?}", receiver.join().expect("ends")));
        senders.into_iter().for_each(|sender| drop(sender.join().expect("ends")));
    });
    outcomes.are(&["[1, 2]", "[2, 1]"]);
}

/// W1, W2, W4: two wakers and two sleepers; no wake-up goes to nobody's use.
#[test]
fn two_senders_at_once_wake_two_receivers() {
    let outcomes = Outcomes::default();
    let noted = outcomes.clone();
    explore_wide("crowd: two wakers, two sleepers", 100, move || {
        let (tx, rx) = ring();
        let senders = [1, 2].map(|n| {
            let tx = tx.clone();
            thread::spawn(move || {
                tx.try_send(&[n]).expect("room");
                tx
            })
        });
        let receivers = [receives(&rx), receives(&rx)];
        let got = receivers.map(|receiver| receiver.join().expect("ends"));
        noted.note(format!("{} {}", got[0].0[0], got[1].0[0]));
        senders.into_iter().for_each(|sender| drop(sender.join().expect("ends")));
    });
    outcomes.are(&["1 2", "2 1"]);
}

/// The wake-up of a message that nobody can take yet is not lost for the one behind it: whoever takes the first passes
/// it on.
#[test]
fn a_commit_that_frees_two_messages_wakes_two_receivers() {
    explore_wide("crowd: a message behind an open claim", 100, || {
        let (mut tx, rx) = ring();
        let receivers = [receives(&rx), receives(&rx)];
        let sender = thread::spawn(move || {
            let other = tx.clone();
            let room = tx.reserve(1).expect("room");
            other.try_send(&[2]).expect("room");
            room.commit().expect("usable");
            (tx, other)
        });
        let mut got = receivers.map(|receiver| receiver.join().expect("ends"));
        got.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!((got[0].0[0], got[1].0[0]), (0, 2));
        drop(sender.join().expect("ends"));
    });
}

/// The same on a full ring: slots that are released out of order wake a sender each.
#[test]
fn slots_released_out_of_order_wake_two_senders() {
    explore_wide("crowd: room out of order", 100, || {
        let (tx, rx) = ring();
        tx.try_send(&[1]).expect("room");
        tx.try_send(&[2]).expect("room");
        let sends = |n: u8| {
            let tx = tx.clone();
            thread::spawn(move || {
                tx.send(&[n]).expect("the receiver stays");
                tx
            })
        };
        let senders = [sends(3), sends(4)];
        let receiver = thread::spawn(move || {
            let first = rx.try_recv().expect("there");
            let second = rx.try_recv().expect("there");
            drop(second);
            drop(first);
            rx
        });
        let kept = senders.map(|sender| sender.join().expect("ends"));
        let rx = receiver.join().expect("ends");
        let mut got =
            [rx.try_recv().expect("sent").to_vec(), rx.try_recv().expect("sent").to_vec()];
        got.sort();
        assert_eq!(got, [[3], [4]]);
        drop(kept);
    });
}

/// A message that is given back wakes another receiver.
#[test]
fn a_message_given_back_wakes_a_sleeping_receiver() {
    explore("crowd: given back", 30, || {
        let (tx, rx) = ring();
        tx.try_send(&[1]).expect("room");
        let held = rx.clone();
        let other = receives(&rx);
        let giver = thread::spawn(move || {
            if let Ok(message) = held.try_recv() {
                message.give_back();
            }
            held
        });
        assert_eq!(other.join().expect("ends").0, [1]);
        drop(giver.join().expect("ends"));
        drop(tx);
    });
}

/// Q: the last sender's leaving wakes all receivers.
#[test]
fn the_end_wakes_every_sleeping_receiver() {
    explore_wide("crowd: the end", 50, || {
        let (tx, rx) = ring();
        let waits = || {
            let rx = rx.clone();
            thread::spawn(move || rx.recv().map(|message| message.to_vec()))
        };
        let receivers = [waits(), waits()];
        let sender = thread::spawn(move || {
            tx.try_send(&[1]).expect("room");
        });
        let got = receivers.map(|receiver| receiver.join().expect("ends"));
        assert_eq!(
            got.iter().filter(|got| got.as_ref().is_ok_and(|bytes| bytes == &[1])).count(),
            1
        );
        assert_eq!(
            got.iter().filter(|got| got.as_ref().is_err_and(|e| e.is_disconnected())).count(),
            1
        );
        sender.join().expect("ends");
    });
}

/// A claim that is given up frees the message behind it, and wakes whoever waits for it.
#[test]
fn a_reservation_that_is_dropped_wakes_whoever_waits_behind_it() {
    explore("crowd: a claim given up", 50, || {
        let (tx, rx) = ring();
        let receiver = receives(&rx);
        let aborter = thread::spawn({
            let mut tx = tx.clone();
            move || {
                drop(tx.try_reserve(1).expect("room"));
                tx
            }
        });
        let sender = thread::spawn(move || {
            tx.try_send(&[2]).expect("room");
            tx
        });
        assert_eq!(receiver.join().expect("ends").0, [2]);
        drop((aborter.join().expect("ends"), sender.join().expect("ends")));
    });
}

/// The wake-ups of messages behind two claims went to nobody's use; one claim is given up, the other committed. Whoever is
/// woken for that one passes on what lies behind the one that was given up.
#[test]
fn a_claim_given_up_in_between_does_not_end_the_passing_on() {
    explore_wide("crowd: a claim given up in between", 50, || {
        let (tx, rx) = mpmc::channel(&Options::new().capacity(4).max_len(8)).expect("legal");
        rx.set_wait(Wait::Block);
        let receivers = [receives(&rx), receives(&rx)];
        let sender = thread::spawn(move || {
            let (mut first, mut second) = (tx.clone(), tx.clone());
            let one = first.reserve(1).expect("room");
            let two = second.reserve(1).expect("room");
            tx.try_send(&[3]).expect("room");
            drop(two);
            one.commit().expect("usable");
            (tx, first, second)
        });
        let mut got = receivers.map(|receiver| receiver.join().expect("ends"));
        got.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!((got[0].0[0], got[1].0[0]), (0, 3));
        drop(sender.join().expect("ends"));
    });
}

/// W5: no sender is left, and a receiver waits for the last message in another's hands: its release ends the stream.
#[test]
fn the_last_release_wakes_whoever_waits_for_the_end() {
    let outcomes = Outcomes::default();
    let noted = outcomes.clone();
    explore("crowd: the last release", 50, move || {
        let (tx, rx) = ring();
        tx.try_send(&[1]).expect("room");
        let holder = rx.clone();
        let waiter = thread::spawn(move || rx.recv().map(|message| message.to_vec()));
        let holder = thread::spawn(move || {
            drop(tx);
            let held = holder.try_recv();
            drop(held);
            holder
        });
        // Either of the two may have had the only message. That the waiter ends at all is the claim.
        noted.note(match waiter.join().expect("ends") {
            Ok(bytes) => format!("{bytes:?}"),
            Err(error) => format!("end {}", error.is_disconnected()),
        });
        drop(holder.join().expect("ends"));
    });
    outcomes.are(&["[1]", "end true"]);
}
