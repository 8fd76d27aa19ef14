//! Sleeping and waking: no wake-up is lost between one sleeper and one waker, and none at the end of a stream.
//!
//! A sleep of the model has no slices, so a lost wake-up is a deadlock, which loom reports.
#![cfg(loom)]

use loom::thread;
use quoit::{Options, Wait, mpmc, spsc};
use quoit_loom_tests::{Outcomes, explore};

/// W1, W2: a sleeping receiver gets each message. The sender keeps its handle, so that its leaving wakes nobody.
#[test]
fn a_receiver_that_sleeps_is_woken_by_each_message() {
    explore("channel: empty waits", 100, || {
        let (mut tx, mut rx) =
            spsc::channel(&Options::new().capacity(256)).expect("legal in a model");
        rx.set_wait(Wait::Block);
        let sender = thread::spawn(move || {
            for n in 0..2u8 {
                tx.try_send(&[n; 8]).expect("room");
            }
            tx
        });
        let receiver = thread::spawn(move || {
            for n in 0..2u8 {
                assert_eq!(rx.recv().expect("sent").to_vec(), [n; 8]);
            }
        });
        receiver.join().expect("ends");
        drop(sender.join().expect("ends"));
    });
}

/// W1, W2 the other way: a sender that sleeps on a full ring is woken by each release. The receiver keeps its handle.
#[test]
fn a_sender_that_sleeps_on_a_full_ring_is_woken_by_each_release() {
    explore("channel: full waits", 50, || {
        let (mut tx, mut rx) =
            spsc::channel(&Options::new().capacity(256)).expect("legal in a model");
        tx.set_wait(Wait::Block);
        for n in 0..4u8 {
            tx.try_send(&[n; 8]).expect("room for four lines");
        }
        let sender = thread::spawn(move || {
            for n in 4..6u8 {
                tx.send(&[n; 8]).expect("the receiver stays");
            }
        });
        let receiver = thread::spawn(move || {
            for n in 0..2u8 {
                assert_eq!(rx.try_recv().expect("there").to_vec(), [n; 8]);
            }
            rx
        });
        sender.join().expect("ends");
        drop(receiver.join().expect("ends"));
    });
}

/// W1: space that a skipped pad frees wakes the sender that sleeps for just that, while the receiver holds the message
/// behind the pad and waits for the sender.
#[test]
fn a_sender_that_sleeps_is_woken_by_a_skipped_pad() {
    explore("channel: a pad frees what a sleeping sender needs", 10, || {
        let (mut tx, mut rx) =
            spsc::channel(&Options::new().capacity(256)).expect("legal in a model");
        tx.set_wait(Wait::Block);
        // Two lines, released; one line; then two lines behind a pad of one.
        tx.try_send(&[0; 60]).expect("room");
        drop(rx.try_recv().expect("there"));
        tx.try_send(&[1; 8]).expect("room");
        tx.try_send(&[2; 60]).expect("room");
        let sender = thread::spawn(move || {
            // Two lines: the one that was released is not enough, the pad makes it so.
            tx.send(&[3; 60]).expect("the receiver stays");
            tx
        });
        let receiver = thread::spawn(move || {
            assert_eq!(rx.try_recv().expect("there").to_vec(), [1; 8]);
            let held = rx.try_recv().expect("there");
            assert_eq!(held.to_vec(), [2; 60]);
            drop(sender.join().expect("sent while its message is held"));
            drop(held);
            assert_eq!(rx.try_recv().expect("there").to_vec(), [3; 60]);
        });
        receiver.join().expect("ends");
    });
}

/// W1, W2: a sleeping receiver gets what is sent, and then the end (Q3).
#[test]
fn a_receiver_that_sleeps_is_woken_by_each_message_and_by_the_end() {
    explore("channel: empty waits and the end of the stream", 100, || {
        let (mut tx, mut rx) =
            spsc::channel(&Options::new().capacity(256)).expect("legal in a model");
        tx.set_wait(Wait::Block);
        rx.set_wait(Wait::Block);
        let sender = thread::spawn(move || {
            for n in 0..2u8 {
                tx.send(&[n; 8]).expect("the receiver stays");
            }
        });
        let receiver = thread::spawn(move || {
            for n in 0..2u8 {
                assert_eq!(rx.recv().expect("sent").to_vec(), [n; 8]);
            }
            assert!(rx.recv().expect_err("nothing else was sent").is_disconnected());
        });
        sender.join().expect("ends");
        receiver.join().expect("ends");
    });
}

/// W1, W2 the other way: a sender that sleeps on a full ring is woken by each release, or by the receiver letting go.
#[test]
fn a_sender_that_sleeps_on_a_full_ring_is_woken_by_room_and_by_the_end() {
    let outcomes = Outcomes::default();
    let noted = outcomes.clone();
    explore("channel: full waits and a receiver that lets go", 100, move || {
        let (mut tx, mut rx) =
            spsc::channel(&Options::new().capacity(256)).expect("legal in a model");
        tx.set_wait(Wait::Block);
        rx.set_wait(Wait::Block);
        for n in 0..4u8 {
            tx.try_send(&[n; 8]).expect("room for four lines");
        }
        let sender = thread::spawn(move || {
            let sent = (4..6u8).take_while(|&n| tx.send(&[n; 8]).is_ok()).count();
            assert!(sent == 2 || tx.send(&[9]).expect_err("it let go").is_disconnected());
            sent
        });
        let receiver = thread::spawn(move || {
            assert_eq!(rx.recv().expect("there").to_vec(), [0; 8]);
        });
        receiver.join().expect("ends");
        noted.note(sender.join().expect("ends"));
    });
    outcomes.are(&["0", "1"]);
}

/// What a lost wake-up would look like, so that it is one failed model and not the end of the test program: the handles of
/// the threads that wait for ever are dropped while loom's report unwinds.
#[test]
#[should_panic = "deadlock"]
fn a_wait_that_nobody_ends_is_a_deadlock_and_is_told_as_one() {
    explore("channel: nobody sends", 1, || {
        let (tx, mut rx) = spsc::channel(&Options::new().capacity(256)).expect("legal in a model");
        let (jobs, queue) = mpmc::channel(&Options::new().capacity(2)).expect("legal in a model");
        let waits = thread::spawn(move || {
            let kept = tx;
            drop(queue.recv());
            kept
        });
        drop(rx.recv());
        drop((waits.join(), jobs));
    });
}
